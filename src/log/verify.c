/* SPDX-License-Identifier: MIT */
#include "log/verify.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERIFY_LINE = 512, VERIFY_TRIES = 16, VERIFY_AGAIN = 1 };

enum verify_index { VERIFY_NO_INDEX, VERIFY_SOUND, VERIFY_UNSOUND, VERIFY_WRONG };

struct verify_hole { // offsets that cannot be read, in front of a record or the end that a seal
                     // says
    int64_t from, to;
};

struct verify_file {
    int64_t base;
    bool page, foreign;      // there is a header page; it is another segment's
    bool sealed, seal_wrong; // wrong: it does not fit the records
    bool torn;               // behind the records are bytes that are none
    enum verify_index index;
    struct lt_segment_head head;
    int64_t end;      // where its readable, whole batches end
    uint64_t records; // that can be read
    uint64_t bytes;
    size_t hole, holes; // in the table of holes
};

struct verify_part {
    struct lt_verify *v;
    uint32_t topic_id, partition;
    struct verify_file *file;
    size_t files, file_room;
    struct verify_hole *hole;
    size_t holes, hole_room;
    int64_t begin, durable, proof;
    int rc; // while names are collected
};

// ---- the report

static void verify_line(struct lt_verify *v, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void verify_line(struct lt_verify *v, const char *fmt, va_list ap) {
    char text[VERIFY_LINE];
    int n = vsnprintf(text, sizeof text - 1, fmt, ap);
    if (n < 0 || !v->write || v->stopped)
        return;
    size_t size = (size_t)n < sizeof text - 2 ? (size_t)n : sizeof text - 2;
    text[size] = '\n';
    v->stopped = v->write(text, size + 1, v->ctx);
}

void lt_verify_say(struct lt_verify *v, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    verify_line(v, fmt, ap);
    va_end(ap);
}

void lt_verify_damage(struct lt_verify *v, const char *fmt, ...) {
    va_list ap;
    v->damage++;
    va_start(ap, fmt);
    verify_line(v, fmt, ap);
    va_end(ap);
}

// ---- names

struct verify_numbers {
    leat *mq;
    uint32_t *number;
    size_t count, room;
};

static int verify_take_number(const char *name, void *ctx) {
    struct verify_numbers *all = ctx;
    size_t n = strlen(name);
    if (n == 0 || n > 10 || strspn(name, "0123456789") != n || (name[0] == '0' && n > 1))
        return 0;
    unsigned long long value = strtoull(name, NULL, 10);
    if (value > UINT32_MAX)
        return 0;
    if (all->count == all->room) {
        size_t room = all->room ? 2 * all->room : 16;
        uint32_t *grown = lt_resize(&all->mq->mem, all->number, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        all->number = grown;
        all->room = room;
    }
    all->number[all->count++] = (uint32_t)value;
    return 0;
}

static int verify_order_numbers(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int verify_list(leat *mq, const char *path, lt_list_fn fn, void *ctx) {
    int fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd == -ENOENT || fd == -ENOTDIR)
        return 0;
    int rc = fd < 0 ? fd : mq->os->list(mq->os, fd, fn, ctx);
    if (fd >= 0)
        (void)mq->os->close(mq->os, fd);
    return rc < 0 ? lt_fail_os(rc, "listing %s/%s", mq->dir, path) : 0;
}

int lt_verify_numbers(leat *mq, const char *path, uint32_t **out, size_t *count) {
    struct verify_numbers all = { .mq = mq };
    int rc = verify_list(mq, path, verify_take_number, &all);
    if (rc != 0) {
        lt_free(&mq->mem, all.number);
        all.number = NULL;
        all.count = 0;
    }
    if (all.count > 0)
        qsort(all.number, all.count, sizeof *all.number, verify_order_numbers);
    *out = all.number;
    *count = all.count;
    return rc;
}

static int verify_take_file(const char *name, void *ctx) {
    struct verify_part *p = ctx;
    struct lt_mem *mem = &p->v->mq->mem;
    int64_t base;
    if (!lt_segment_name(name, &base))
        return 0;
    if (p->files == p->file_room) {
        size_t room = p->file_room ? 2 * p->file_room : 16;
        struct verify_file *grown = lt_resize(mem, p->file, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        p->file = grown;
        p->file_room = room;
    }
    p->file[p->files++] = (struct verify_file){ .base = base };
    return 0;
}

static int verify_order_files(const void *a, const void *b) {
    int64_t x = ((const struct verify_file *)a)->base, y = ((const struct verify_file *)b)->base;
    return (x > y) - (x < y);
}

static void verify_name(char out[LT_PATH_MAX], const struct verify_part *p, int64_t base,
                        const char *suffix) {
    (void)snprintf(out, LT_PATH_MAX, "%u/%u/%020lld%s", p->topic_id, p->partition, (long long)base,
                   suffix);
}

int lt_verify_page(leat *mq, const char *path, struct lt_segment_head *head) {
    uint8_t page[LT_SEGMENT_PAGE];
    int fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDONLY, 0);
    if (fd < 0)
        return lt_fail_os(fd, "opening %s/%s", mq->dir, path);
    int64_t got = lt_pread_full(mq->os, fd, page, sizeof page, 0);
    (void)mq->os->close(mq->os, fd);
    if (got < 0)
        return lt_fail_os(got, "reading %s/%s", mq->dir, path);
    int rc = got == LT_SEGMENT_PAGE ? lt_segment_head_get(page, head) : LEAT_ECORRUPT;
    return rc == 0 ? 0 : lt_fail(rc, "%s/%s has no valid header page", mq->dir, path);
}

// ---- an index file

struct verify_image { // a copy of it
    uint8_t *bytes;
    size_t size;
    struct lt_seal seal;
};

// Reads the index of s. Returns what can be said of it without the records, or an error.
static int verify_read_index(const struct verify_part *p, const struct lt_segment *s,
                             struct verify_image *image) {
    struct lt_os *os = p->v->mq->os;
    char path[LT_PATH_MAX];
    struct lt_file_info info;
    void *copy;
    verify_name(path, p, s->base, ".idx");
    int fd = os->open(os, p->v->mq->dir_fd, path, O_RDONLY, 0);
    if (fd == -ENOENT)
        return VERIFY_NO_INDEX;
    int rc = fd < 0 ? fd : os->info(os, fd, &info);
    bool fits =
        rc == 0 && info.kind == LT_FILE_REGULAR && info.size >= LT_SEAL && info.size <= UINT32_MAX;
    if (fits)
        rc = os->map(os, fd, (size_t)info.size, false, &copy);
    if (fd >= 0)
        (void)os->close(os, fd);
    if (rc < 0)
        return lt_fail_os(rc, "reading %s/%s", p->v->mq->dir, path);
    if (!fits)
        return VERIFY_UNSOUND;
    image->bytes = copy;
    image->size = (size_t)info.size;
    if (!lt_seal_get(image->bytes, LT_SEAL_INDEX, s->uid, &image->seal))
        return VERIFY_UNSOUND;
    uint64_t count = (uint64_t)image->seal.count;
    uint64_t times = (count + LT_SEAL_TIMES - 1) / LT_SEAL_TIMES;
    if (image->size != LT_SEAL + lt_align8(count * 4) + times * 8 ||
        lt_crc32c(0, image->bytes + LT_SEAL, image->size - LT_SEAL) != image->seal.body_crc)
        return VERIFY_UNSOUND;
    return VERIFY_SOUND;
}

// ---- the records of a file

struct verify_walk {
    struct verify_part *p;
    struct verify_file *f;
    const struct lt_segment *s;
    struct verify_image image;
    uint64_t at, limit;
    int64_t next, newest;
    int64_t whole; // where the last whole batch ends
    uint32_t crcs;
    bool holes; // since the last one the sums cannot be compared
};

static int verify_hole(struct verify_walk *w, int64_t to) {
    struct verify_part *p = w->p;
    if (p->holes == p->hole_room) {
        size_t room = p->hole_room ? 2 * p->hole_room : 16;
        struct verify_hole *grown = lt_resize(&p->v->mq->mem, p->hole, room * sizeof *grown);
        if (!grown)
            return lt_fail_nomem();
        p->hole = grown;
        p->hole_room = room;
    }
    p->hole[p->holes++] = (struct verify_hole){ w->next, to };
    w->f->holes++;
    w->holes = true;
    return 0;
}

// Holds the index to the record at w->at.
static void verify_compare(struct verify_walk *w) {
    const uint8_t *bytes = w->image.bytes;
    int64_t i = w->next - w->s->base, count = w->image.seal.count;
    if (w->f->index != VERIFY_SOUND || i >= count)
        return;
    uint32_t at = lt_get_u32(bytes + LT_SEAL + (uint64_t)i * 4);
    bool same = at == w->at;
    if (!w->holes && (i % LT_SEAL_TIMES == LT_SEAL_TIMES - 1 || i == count - 1)) {
        const uint8_t *times = bytes + LT_SEAL + lt_align8((uint64_t)count * 4);
        same &= (int64_t)lt_get_u64(times + (uint64_t)i / LT_SEAL_TIMES * 8) == w->newest;
    }
    if (!same)
        w->f->index = VERIFY_WRONG;
}

static void verify_record(struct verify_walk *w, uint32_t n) {
    const uint8_t *at = w->s->map + w->at;
    w->crcs = lt_crc32c(w->crcs, at + 4, 4);
    w->newest = lt_max(w->newest, lt_record_timestamp(at));
    w->p->proof = lt_max(w->p->proof, lt_record_claim(at, w->s->base));
    verify_compare(w);
    w->f->records++;
    w->at += n;
    w->next++;
    if (!lt_record_more(at))
        w->whole = w->next;
}

static bool verify_zeros(const uint8_t *p, uint64_t n) {
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static int verify_walk(struct verify_walk *w) {
    const struct lt_segment *s = w->s;
    struct lt_segment_head head = { .uid = s->uid, .base = s->base };
    int rc = 0;
    while (rc == 0) {
        const uint8_t *at = s->map + w->at;
        uint32_t n =
            w->at >= w->limit ? 0 : lt_record_check(at, w->limit - w->at, s->uid, w->next, s->base);
        if (n > 0) {
            verify_record(w, n);
            continue;
        }
        int64_t found = 0;
        w->f->torn = w->at < w->limit && !verify_zeros(at, w->limit - w->at);
        uint64_t to = !w->f->torn
                          ? w->limit
                          : lt_record_find(s->map, w->at + 8, w->limit, &head, w->next + 1, &found);
        if (to >= w->limit)
            break;
        rc = verify_hole(w, found);
        w->next = w->whole = found;
        w->at = to;
    }
    return rc;
}

// Holds the seal to the records.
static int verify_seal(struct verify_walk *w) {
    const struct lt_segment *s = w->s;
    int64_t count_end = s->base + s->count;
    w->p->proof = lt_max(w->p->proof, s->count > 0 ? count_end : 0);
    if (!s->sealed)
        return 0;
    int rc = 0;
    if (w->next < count_end) {
        rc = verify_hole(w, count_end);
        w->next = w->whole = count_end;
    } else if (w->next > count_end || w->at != w->limit) {
        w->f->seal_wrong = true;
    }
    w->f->torn = false;
    if (!w->holes && (w->crcs != s->head_crcs || (s->count > 0 && w->newest != s->newest)))
        w->f->seal_wrong = true;
    return rc;
}

static int verify_records(struct verify_part *p, struct verify_file *f, struct lt_segment *s) {
    struct verify_walk w = { .p = p, .f = f, .s = s, .at = LT_SEGMENT_PAGE };
    w.limit = s->sealed ? s->write_at : s->allocated;
    w.next = w.whole = s->base;
    w.newest = INT64_MIN;
    int rc = verify_read_index(p, s, &w.image);
    if (rc >= 0) {
        f->index = (enum verify_index)rc;
        rc = lt_segment_map(s);
    }
    if (rc == 0)
        rc = verify_walk(&w);
    if (rc == 0)
        rc = verify_seal(&w);
    // An index speaks of records that were on disk when it was written.
    if (f->index == VERIFY_SOUND && w.image.seal.count > 0)
        p->proof = lt_max(p->proof, s->base + w.image.seal.count);
    f->torn |= w.whole < w.next;
    f->end = w.whole;
    if (w.image.bytes)
        (void)p->v->mq->os->unmap(p->v->mq->os, w.image.bytes, w.image.size);
    return rc;
}

// Reads one file. Returns  0, VERIFY_AGAIN (it went away), or an error of the system.
static int verify_read(struct verify_part *p, struct verify_file *f) {
    leat *mq = p->v->mq;
    struct lt_segment *s;
    f->hole = p->holes;
    f->head = (struct lt_segment_head){ .topic_id = p->topic_id,
                                        .partition = p->partition,
                                        .base = f->base };
    int rc = lt_segment_open(mq, 0, &f->head, &s);
    if (rc == LEAT_ENOENT)
        return VERIFY_AGAIN;
    if (rc == LEAT_ECORRUPT)
        return 0; // it has no page
    if (rc != 0)
        return rc;
    f->page = true;
    f->bytes = s->allocated;
    f->sealed = s->sealed;
    f->foreign = f->head.topic_id != p->topic_id || f->head.partition != p->partition ||
                 f->head.base != f->base || f->head.previous_end > f->base;
    if (!f->foreign)
        rc = verify_records(p, f, s);
    lt_segment_drop(s);
    return rc;
}

// ---- reading all of a partition

// Asks the slot before and behind the listing: see recover_look.
static int verify_look(struct verify_part *p) {
    struct lt_slots *slots = &p->v->mq->log->slots;
    struct lt_slot_key key = { LT_SLOT_PARTITION, 0, p->topic_id, p->partition };
    struct lt_slot *slot = lt_slot_find(slots, &key);
    char path[LT_PATH_MAX];
    (void)snprintf(path, sizeof path, "%u/%u", p->topic_id, p->partition);
    int rc = slot ? lt_slot_again(slots, slot) : 0;
    p->durable = slot ? slot->values[0] : 0;
    p->files = p->holes = 0;
    if (rc == 0)
        rc = verify_list(p->v->mq, path, verify_take_file, p);
    if (rc == 0 && slot)
        rc = lt_slot_again(slots, slot);
    p->begin = slot ? slot->values[1] : 0;
    p->proof = p->durable > p->begin ? p->durable : 0;
    if (p->files > 0)
        qsort(p->file, p->files, sizeof *p->file, verify_order_files);
    return rc;
}

// How many files in front are below the log start: left behind by a deletion.
static size_t verify_left(const struct verify_part *p) {
    size_t n = 0;
    while (n + 1 < p->files && p->file[n + 1].base <= p->begin)
        n++;
    return n;
}

static int verify_collect(struct verify_part *p) {
    int rc = verify_look(p);
    for (size_t i = rc == 0 ? verify_left(p) : 0; rc == 0 && i < p->files; i++)
        rc = verify_read(p, &p->file[i]);
    return rc;
}

// ---- judging what was read

struct verify_judge {
    const struct verify_part *p;
    struct lt_verify *v;
    uint64_t before; // damage that was counted when it began
    int64_t end;     // where the records taken so far end
    bool unfinished; // nothing further on is part of the log
};

static void verify_range(struct verify_judge *j, int64_t from, int64_t to, const char *what) {
    lt_verify_damage(j->v, "%u/%u: DAMAGED: offsets %lld to %lld %s", j->p->topic_id,
                     j->p->partition, (long long)from, (long long)to - 1, what);
}

// Judges that the log does not go on at j->end, but at `to`.
static void verify_broken(struct verify_judge *j, int64_t to, const char *what) {
    if (j->unfinished)
        return;
    if (j->end < j->p->proof) {
        verify_range(j, j->end, to, what);
        j->end = to;
        return;
    }
    j->unfinished = true;
    lt_verify_say(j->v, "%u/%u: an unfinished tail behind offset %lld", j->p->topic_id,
                  j->p->partition, (long long)j->end - 1);
}

static const char *verify_index_text(const struct verify_file *f) {
    static const char *const text[] = { "no index", "index sound", "index unsound: not used",
                                        "index wrong" };
    return text[f->index];
}

static void verify_tell(struct verify_judge *j, const struct verify_file *f, const char *path) {
    if (!f->page)
        lt_verify_say(j->v, "%s: no valid header page", path);
    else
        lt_verify_say(j->v, "%s: offsets %lld to %lld, %llu records, %llu bytes, %s, %s%s", path,
                      (long long)f->base, (long long)f->end - 1, (unsigned long long)f->records,
                      (unsigned long long)f->bytes, f->sealed ? "sealed" : "not sealed",
                      verify_index_text(f), j->unfinished ? ", behind an unfinished tail" : "");
}

// Judges where the next file begins. Returns whether its records are looked at.
static bool verify_joins(struct verify_judge *j, const struct verify_file *f, const char *path,
                         int64_t next_base) {
    if (!f->page) {
        if (!j->unfinished && j->end < j->p->proof)
            verify_range(j, j->end, lt_max(lt_min(j->p->proof, next_base), j->end + 1),
                         "stand behind a damaged header page");
        else
            j->unfinished = true;
        j->end = lt_max(j->end, next_base == LT_NEVER ? j->p->proof : next_base);
        return false;
    }
    if (f->foreign || f->base < j->end) {
        lt_verify_damage(j->v, "%s: DAMAGED: it is not the segment that belongs here", path);
        return false;
    }
    bool stated = f->head.previous_end == j->end && f->base - j->end <= LT_GAP_MAX;
    if (f->base > j->end && stated)
        lt_verify_say(j->v, "%s: offsets %lld to %lld are not used: %s", path, (long long)j->end,
                      (long long)f->base - 1,
                      f->head.reason == LT_GAP_ROT ? "they were damaged"
                                                   : "lost after they were committed");
    else if (f->base > j->end)
        verify_broken(j, f->base, "are missing");
    return !j->unfinished;
}

static void verify_file(struct verify_judge *j, const struct verify_file *f, int64_t next_base) {
    const struct verify_part *p = j->p;
    char path[LT_PATH_MAX];
    verify_name(path, p, f->base, ".log");
    verify_tell(j, f, path);
    if (!verify_joins(j, f, path, next_base))
        return;
    for (size_t i = f->hole; i < f->hole + f->holes; i++) {
        j->end = p->hole[i].from;
        verify_broken(j, p->hole[i].to, "cannot be read");
    }
    if (j->unfinished)
        return;
    j->end = f->end;
    if (f->seal_wrong)
        lt_verify_damage(j->v, "%s: DAMAGED: the seal does not fit the records", path);
    if (f->index == VERIFY_WRONG)
        lt_verify_damage(j->v, "%s: DAMAGED: the index does not fit the records", path);
    if (f->torn && j->end >= p->proof)
        lt_verify_say(j->v, "%s: an unfinished tail behind offset %lld", path,
                      (long long)j->end - 1);
    else if (f->torn && j->end == next_base)
        lt_verify_say(j->v, "%s: no valid seal behind the records", path);
}

static void verify_judge(const struct verify_part *p, struct lt_verify *v) {
    struct verify_judge j = { .p = p, .v = v, .before = v->damage };
    size_t left = verify_left(p);
    for (size_t i = 0; i < left; i++)
        lt_verify_say(v, "%u/%u/%020lld.log: below the log start %lld", p->topic_id, p->partition,
                      (long long)p->file[i].base, (long long)p->begin);
    j.end = p->files > 0 && p->file[left].base < p->begin ? p->file[left].base : p->begin;
    for (size_t i = left; i < p->files; i++)
        verify_file(&j, &p->file[i], i + 1 < p->files ? p->file[i + 1].base : LT_NEVER);
    if (!j.unfinished && j.end < p->proof && p->proof > p->begin)
        verify_range(&j, j.end, p->proof, "cannot be read");
}

// ---- words of queues

struct verify_words {
    struct verify_part *p;
    int rc;
};

static int verify_words_file(struct verify_words *w, const char *name, const struct verify_file *f,
                             uint32_t id) {
    leat *mq = w->p->v->mq;
    struct lt_file_info info;
    char path[LT_PATH_MAX];
    void *copy = NULL;
    verify_name(path, w->p, f->base, name + 20);
    int fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDONLY, 0);
    int rc = fd < 0 ? fd : mq->os->info(mq->os, fd, &info);
    bool some = rc == 0 && info.kind == LT_FILE_REGULAR && info.size > 0 && info.size < UINT32_MAX;
    if (some)
        rc = mq->os->map(mq->os, fd, (size_t)info.size, false, &copy);
    if (fd >= 0)
        (void)mq->os->close(mq->os, fd);
    if (rc == -ENOENT)
        return 0; // gone meanwhile
    if (rc < 0)
        return lt_fail_os(rc, "reading %s/%s", mq->dir, path);
    if (!some)
        return 0;
    size_t n = (size_t)info.size / 8;
    uint64_t garbage = w->p->v->garbage(copy, &n, f->head.uid, id, f->base);
    lt_verify_say(w->p->v, "%s: %zu words%s, %llu of them garbage", path, n,
                  info.size % 8 != 0 ? ", and a part of one" : "", (unsigned long long)garbage);
    (void)mq->os->unmap(mq->os, copy, (size_t)info.size);
    return 0;
}

// Takes "<20 digits>.q<id>".
static int verify_take_words(const char *name, void *ctx) {
    struct verify_words *w = ctx;
    size_t n = strlen(name);
    if (n < 23 || n > 32 || strspn(name, "0123456789") != 20 || strncmp(name + 20, ".q", 2) != 0 ||
        strspn(name + 22, "0123456789") != n - 22)
        return 0;
    errno = 0;
    long long base = strtoll(name, NULL, 10);
    unsigned long long id = strtoull(name + 22, NULL, 10);
    for (size_t i = 0; errno == 0 && i < w->p->files; i++)
        if (w->p->file[i].base == base && w->p->file[i].page)
            w->rc = verify_words_file(w, name, &w->p->file[i], (uint32_t)id);
    return w->rc == 0 ? 0 : 1;
}

static int verify_words(struct verify_part *p) {
    struct verify_words w = { .p = p };
    char path[LT_PATH_MAX];
    (void)snprintf(path, sizeof path, "%u/%u", p->topic_id, p->partition);
    int rc = verify_list(p->v->mq, path, verify_take_words, &w);
    return rc != 0 ? rc : w.rc;
}

// ---- a partition

// Reads until what looks like damage is found twice, for an owner may be at work.
// Returns  0, VERIFY_AGAIN (the topic is gone), or an error of the system.
static int verify_settle(struct verify_part *p) {
    uint64_t last = 0;
    int64_t last_proof = -1;
    for (int i = 0;; i++) {
        int rc = verify_collect(p);
        struct lt_verify quiet = { .mq = p->v->mq };
        if (rc < 0)
            return rc;
        if (rc == 0)
            verify_judge(p, &quiet);
        if (rc == 0 && quiet.damage == 0)
            return 0;
        if (p->v->gone(p->v, p->topic_id))
            return VERIFY_AGAIN;
        if (rc == 0 && (i == VERIFY_TRIES || (quiet.damage == last && p->proof == last_proof)))
            return 0;
        if (i == 2 * VERIFY_TRIES)
            return lt_fail(LEAT_EBUSY, "%s/%u/%u changes too fast to be read", p->v->mq->dir,
                           p->topic_id, p->partition);
        last = quiet.damage;
        last_proof = p->proof;
    }
}

int lt_verify_partition(struct lt_verify *v, uint32_t topic_id, uint32_t partition,
                        uint64_t *records) {
    struct verify_part p = { .v = v, .topic_id = topic_id, .partition = partition };
    int rc = verify_settle(&p);
    if (rc == 0) {
        verify_judge(&p, v);
        for (size_t i = verify_left(&p); i < p.files; i++)
            *records += p.file[i].records;
        rc = verify_words(&p);
    }
    lt_free(&v->mq->mem, p.file);
    lt_free(&v->mq->mem, p.hole);
    return rc < 0 ? rc : 0;
}
