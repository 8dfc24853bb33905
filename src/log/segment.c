/* SPDX-License-Identifier: MIT */
#include "log/segment.h"

#include "base/bytes.h"
#include "log/topic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SEGMENT_STEP_MIN = 64 * 1024,       // first allocation step, doubling to
    SEGMENT_STEP_MAX = 32 * 1024 * 1024 // this; steps of 4 MiB cost Linux two page faults a page
};

void lt_segment_file(char out[LT_PATH_MAX], const struct lt_segment *s, const char *suffix) {
    (void)snprintf(out, LT_PATH_MAX, "%u/%u/%020lld%s", s->topic_id, s->partition,
                   (long long)s->base, suffix);
}

bool lt_segment_name(const char *name, int64_t *base) {
    if (strlen(name) != 24 || strspn(name, "0123456789") != 20 || strcmp(name + 20, ".log") != 0)
        return false;
    errno = 0;
    *base = strtoll(name, NULL, 10);
    return errno == 0;
}

static void segment_count_map(struct lt_segment *s, int64_t sign) {
    if (!s->in_file)
        return;
    atomic_fetch_add_explicit(&s->mq->maps, sign, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->mq->map_bytes, sign * (int64_t)s->map_size, memory_order_relaxed);
}

static void segment_unmap(struct lt_segment *s) {
    if (s->map) {
        (void)s->mq->os->unmap(s->mq->os, s->map, s->map_size);
        segment_count_map(s, -1);
    }
    s->map = NULL;
    lt_index_unload(s);
}

void lt_segment_close_fd(struct lt_segment *s) {
    if (s->fd < 0)
        return;
    (void)s->mq->os->close(s->mq->os, s->fd);
    atomic_fetch_sub_explicit(&s->mq->files, 1, memory_order_relaxed);
    s->fd = -1;
}

static void segment_opened(struct lt_segment *s, int fd) {
    atomic_fetch_add_explicit(&s->mq->files, 1, memory_order_relaxed);
    s->fd = fd;
}

static void segment_keep(struct lt_pinned *obj) {
    lt_refs_more(&lt_segment_of(obj)->refs);
}

void lt_segment_clean(struct lt_segment *s, int64_t bytes) {
    atomic_fetch_sub_explicit(&s->mq->dirty_bytes, bytes, memory_order_relaxed);
    s->dirty -= bytes;
}

static void segment_free(struct lt_segment *s) {
    leat *mq = s->mq;
    lt_segment_clean(s, s->dirty);
    lt_stretch_fini(&s->index);
    lt_stretch_fini(&s->newest_to);
    if (!s->in_file)
        lt_spare_keep(s);
    segment_unmap(s);
    lt_segment_close_fd(s);
    if (!s->in_file)
        atomic_fetch_sub_explicit(&mq->memory_bytes, (int64_t)s->allocated, memory_order_relaxed);
    lt_free(&mq->mem, s);
}

static void segment_drop(struct lt_pinned *obj) {
    struct lt_segment *s = lt_segment_of(obj);
    if (lt_refs_less(&s->refs) == 0)
        segment_free(s);
}

static struct lt_segment *segment_new(leat *mq, uint64_t size, const struct lt_segment_head *head) {
    struct lt_segment *s = lt_zalloc(&mq->mem, sizeof *s);
    if (!s) {
        (void)lt_fail_nomem();
        return NULL;
    }
    s->pinned = (struct lt_pinned){ segment_keep, segment_drop };
    s->mq = mq;
    s->fd = -1;
    s->in_file = mq->dir != NULL;
    s->topic_id = head->topic_id;
    s->partition = head->partition;
    s->base = s->check_to = head->base;
    s->map_size = size;
    s->write_at = LT_SEGMENT_PAGE;
    atomic_init(&s->refs, 1);
    atomic_init(&s->limit, LT_NEVER);
    s->newest = s->appended_ms = INT64_MIN;
    lt_stretch_init(&s->index, &mq->mem, sizeof(uint32_t), 64);
    lt_stretch_init(&s->newest_to, &mq->mem, sizeof(int64_t), 16);
    return s;
}

static int segment_open_fd(struct lt_segment *s, int flags) {
    leat *mq = s->mq;
    char path[LT_PATH_MAX];
    lt_segment_file(path, s, ".log");
    int fd = mq->os->open(mq->os, mq->dir_fd, path, flags, 0600);
    if (fd < 0)
        return lt_fail_os(fd, "opening %s/%s", mq->dir, path);
    segment_opened(s, fd);
    return 0;
}

int lt_segment_ready_fd(struct lt_segment *s) {
    return s->fd >= 0 || !s->in_file ? 0 : segment_open_fd(s, O_RDWR);
}

int lt_segment_map(struct lt_segment *s) {
    leat *mq = s->mq;
    if (s->map)
        return 0;
    int rc = lt_segment_ready_fd(s);
    if (rc != 0)
        return rc;
    void *p;
    bool writable = !s->in_file || (mq->mapped_write && !s->sealed);
    rc = mq->os->map(mq->os, s->fd, s->map_size, writable, &p);
    if (rc < 0)
        return lt_fail_os(rc, "mapping segment %lld of topic id %u in %s", (long long)s->base,
                          s->topic_id, mq->dir ? mq->dir : "memory");
    s->map = p;
    segment_count_map(s, 1);
    if (s->sealed || lt_read_only(mq))
        lt_segment_close_fd(s);
    return 0;
}

int lt_segment_ready(struct lt_segment *s) {
    int rc = lt_segment_map(s);
    return rc == 0 && s->prefix.count > 0 && !s->prefix.image ? lt_index_load(s) : rc;
}

void lt_segment_unready(struct lt_segment *s) {
    if (!s->in_file)
        return;
    segment_unmap(s);
    s->populated = 0;
    if (s->sealed && s->prefix.count < s->count) {
        lt_stretch_fini(&s->index);
        lt_stretch_fini(&s->newest_to);
        s->index_room = 0;
        s->prefix.count = s->count;
        s->prefix.end = s->write_at;
        s->head_crcs = s->sealed_crcs;
        s->check_to = s->base + s->count;
    }
    if (s->synced_to >= s->write_at)
        lt_segment_close_fd(s);
}

// Returns  false: it would be more than the store may have.
static bool segment_count_memory(leat *mq, int64_t more) {
    int64_t sum = atomic_fetch_add_explicit(&mq->memory_bytes, more, memory_order_relaxed);
    if (sum + more <= mq->memory_max_bytes)
        return true;
    atomic_fetch_sub_explicit(&mq->memory_bytes, more, memory_order_relaxed);
    return false;
}

// Gets `more` bytes from the file system or from what a memory store may have.
static int segment_allocate(struct lt_segment *s, int64_t more) {
    leat *mq = s->mq;
    if (s->in_file) {
        int rc = lt_segment_ready_fd(s);
        if (rc != 0)
            return rc;
        rc = mq->os->allocate(mq->os, s->fd, (int64_t)s->allocated, more);
        if (rc < 0)
            return lt_fail_os(rc, "allocating %lld bytes of a segment in %s", (long long)more,
                              mq->dir);
    } else if (!segment_count_memory(mq, more)) {
        (void)lt_spares_drop(mq); // if there are none another thread may just have dropped them
        if (!segment_count_memory(mq, more))
            return lt_fail(LEAT_EFULL, "the memory store is at its memory_max_bytes of %lld",
                           (long long)mq->memory_max_bytes);
    }
    s->allocated += (uint64_t)more;
    return 0;
}

static uint64_t segment_step(const struct lt_segment *s, uint64_t need, uint64_t step) {
    uint64_t to = s->allocated + step;
    to = to < need ? need : to;
    return to > s->map_size ? s->map_size : to;
}

// Gets room for the bytes below `need`: in steps, so that a small topic stays small and ENOSPC is
// an error code here instead of SIGBUS at the store.
static int segment_room(struct lt_segment *s, uint64_t need) {
    if (need <= s->allocated || (s->in_file && !s->mq->mapped_write))
        return 0; // pwrite gets its room, or its ENOSPC, itself
    uint64_t step = s->allocated < SEGMENT_STEP_MIN   ? SEGMENT_STEP_MIN
                    : s->allocated > SEGMENT_STEP_MAX ? SEGMENT_STEP_MAX
                                                      : s->allocated;
    uint64_t to = segment_step(s, need, step), least = segment_step(s, need, SEGMENT_STEP_MIN);
    int rc = segment_allocate(s, (int64_t)(to - s->allocated));
    if ((rc == LEAT_ENOSPC || rc == LEAT_EFULL) && to > least)
        rc = segment_allocate(s, (int64_t)(least - s->allocated)); // what is left may do
    return rc;
}

// The first seam. Hands out where n bytes at `at` are to be made: the mapping, or a buffer.
static uint8_t *segment_write_begin(struct lt_segment *s, uint64_t at, size_t n) {
    if (!s->in_file || s->mq->mapped_write)
        return s->map + at;
    return lt_alloc(&s->mq->mem, n);
}

static int segment_write_end(struct lt_segment *s, uint64_t at, uint8_t *bytes, size_t n) {
    if (bytes == s->map + at)
        return 0;
    struct lt_os *os = s->mq->os;
    int rc = lt_segment_ready_fd(s);
    if (rc != 0) {
        lt_free(&s->mq->mem, bytes);
        return rc;
    }
    rc = lt_pwrite_full(os, s->fd, bytes, n, (int64_t)at);
    lt_free(&s->mq->mem, bytes);
    // What was written of it goes, or whole records of a batch would stand behind the next one.
    if (rc < 0 && os->truncate(os, s->fd, (int64_t)at) == 0 && s->allocated > at)
        s->allocated = at;
    return rc == 0 ? 0 : lt_fail_os(rc, "writing a segment in %s", s->mq->dir);
}

// In memory nobody would read it: its page is not touched there, and costs nothing.
static int segment_write_head(struct lt_segment *s, const struct lt_segment_head *head) {
    int rc = segment_room(s, LT_SEGMENT_PAGE);
    if (rc != 0 || !s->in_file)
        return rc;
    uint8_t *page = segment_write_begin(s, 0, LT_SEGMENT_PAGE);
    if (!page)
        return lt_fail_nomem();
    lt_segment_head_put(page, head);
    return segment_write_end(s, 0, page, LT_SEGMENT_PAGE);
}

// Makes the file. Recovery sets aside what stands in the way, so one that is there was left by a
// create or a drop that could not remove it: no record was ever in it.
static int segment_make_file(struct lt_segment *s, const char *suffix) {
    leat *mq = s->mq;
    char path[LT_PATH_MAX];
    lt_segment_file(path, s, suffix);
    int fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd == -EEXIST && mq->os->unlink(mq->os, mq->dir_fd, path, false) == 0)
        fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return lt_fail_os(fd, "creating %s/%s", mq->dir, path);
    segment_opened(s, fd);
    return 0;
}

// Gives the file its name, which another may have.
static int segment_name_file(struct lt_segment *s, const char *suffix, bool sure) {
    struct lt_os *os = s->mq->os;
    char from[LT_PATH_MAX], path[LT_PATH_MAX];
    lt_segment_file(from, s, suffix);
    lt_segment_file(path, s, ".log");
    int rc = sure ? os->sync(os, s->fd, false) : 0;
    if (rc == 0)
        rc = os->rename(os, s->mq->dir_fd, from, path);
    return rc == 0 ? 0 : lt_fail_os(rc, "creating %s/%s", s->mq->dir, path);
}

int lt_segment_create(leat *mq, uint64_t size, uint64_t used, const struct lt_segment_head *head,
                      enum lt_segment_how how, struct lt_segment **out) {
    const char *suffix = how == LT_SEGMENT_PLAIN ? ".log" : ".log.new";
    struct lt_segment *s = segment_new(mq, size, head);
    if (!s)
        return LEAT_ENOMEM;
    s->uid = head->uid;
    s->created_ms = head->created_ms;
    s->fields = (head->incompatible & LT_INCOMPATIBLE_FIELDS) != 0;
    int rc = s->in_file ? segment_make_file(s, suffix) : 0;
    bool made = rc == 0 && s->in_file;
    bool spare = rc == 0 && !s->in_file && lt_spare_use(s, used);
    if (rc == 0)
        rc = lt_segment_ready(s);
    if (rc == 0 && !spare)
        lt_pages_begin(s, used);
    if (rc == 0)
        rc = segment_write_head(s, head);
    if (rc == 0 && made && how != LT_SEGMENT_PLAIN)
        rc = segment_name_file(s, suffix, how == LT_SEGMENT_SURE);
    if (rc == 0) {
        *out = s;
        return 0;
    }
    char path[LT_PATH_MAX];
    lt_segment_file(path, s, suffix);
    segment_free(s);
    if (made)
        (void)mq->os->unlink(mq->os, mq->dir_fd, path, false);
    return rc;
}

// Takes what the seal at the end of the file says. Returns  1, 0 (there is none), or an error.
static int segment_read_seal(struct lt_segment *s) {
    uint8_t bytes[LT_SEAL];
    struct lt_seal seal;
    if (s->allocated < LT_SEGMENT_PAGE + LT_SEAL)
        return 0;
    int64_t at = (int64_t)(s->allocated - LT_SEAL);
    int64_t got = lt_pread_full(s->mq->os, s->fd, bytes, sizeof bytes, at);
    if (got < 0)
        return lt_fail_os(got, "reading segment %lld in %s", (long long)s->base, s->mq->dir);
    if (got != LT_SEAL || !lt_seal_get(bytes, LT_SEAL_SEGMENT, s->uid, &seal) ||
        (int64_t)seal.end != at)
        return 0;
    lt_index_take(s, &seal);
    s->sealed = true;
    s->map_size = s->allocated;
    s->synced_to = s->write_at;
    lt_segment_close_fd(s);
    return 1;
}

// Reads the page in front, and what is said of the records: by the seal at the end of the file, or
// by the index beside it.
static int segment_read_head(struct lt_segment *s, struct lt_segment_head *head) {
    leat *mq = s->mq;
    char path[LT_PATH_MAX];
    lt_segment_file(path, s, ".log");
    struct lt_file_info info;
    int rc = mq->os->info(mq->os, s->fd, &info);
    if (rc < 0)
        return lt_fail_os(rc, "%s/%s", mq->dir, path);
    if (info.kind != LT_FILE_REGULAR || info.size < LT_SEGMENT_PAGE || info.size > UINT32_MAX)
        return lt_fail(LEAT_ECORRUPT, "%s/%s is no segment: %lld bytes", mq->dir, path,
                       (long long)info.size);
    uint8_t page[LT_SEGMENT_PAGE];
    int64_t got = lt_pread_full(mq->os, s->fd, page, sizeof page, 0);
    if (got < 0)
        return lt_fail_os(got, "reading %s/%s", mq->dir, path);
    rc = got == LT_SEGMENT_PAGE ? lt_segment_head_get(page, head) : LEAT_ECORRUPT;
    if (rc != 0)
        return lt_fail(rc, "%s/%s has %s header page", mq->dir, path,
                       rc == LEAT_EINVAL ? "a later version's" : "a damaged");
    s->uid = head->uid;
    s->created_ms = head->created_ms;
    s->fields = (head->incompatible & LT_INCOMPATIBLE_FIELDS) != 0;
    s->allocated = (uint64_t)info.size;
    if (lt_read_only(mq)) // nothing is appended
        s->map_size = s->allocated;
    else if (s->map_size < s->allocated) // one that is larger than the topic's are, perhaps settled
        s->map_size = s->allocated + LT_SEAL;
    if (head->base != s->base) // its offsets mean nothing here: the caller refuses it
        return 0;
    rc = segment_read_seal(s);
    return rc == 0 ? lt_index_probe(s) : rc;
}

int lt_segment_open(leat *mq, uint64_t size, struct lt_segment_head *head,
                    struct lt_segment **out) {
    struct lt_segment *s = segment_new(mq, size, head);
    if (!s)
        return LEAT_ENOMEM;
    int rc = segment_open_fd(s, O_RDWR);
    if (rc == 0)
        rc = segment_read_head(s, head);
    if (rc < 0) {
        segment_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

uint64_t lt_segment_count_max(const struct lt_segment *s) {
    if (s->sealed)
        return s->count > 0 ? (uint64_t)s->count : 1;
    return (s->map_size - LT_SEGMENT_PAGE) / LT_RECORD_MIN;
}

bool lt_segment_fits(const struct lt_segment *s, uint64_t n) {
    return !s->sealed && !s->rotten && n + LT_SEAL <= s->map_size - s->write_at;
}

void lt_segment_push(struct lt_segment *s) {
    struct lt_os *os = s->mq->os;
    int64_t n = (int64_t)((s->write_at & ~UINT64_C(4095)) - s->pushed_to);
    if (!s->in_file || n <= 0)
        return;
    int64_t sum = atomic_fetch_add_explicit(&s->mq->dirty_bytes, n, memory_order_relaxed);
    // Not for what may be synced or deleted soon: it costs a send 40 ns.
    if (os->write_back && s->fd >= 0 && sum > s->mq->dirty_bytes_max / 4)
        os->write_back(os, s->fd, (int64_t)s->pushed_to, n);
    s->pushed_to += (uint64_t)n;
    s->dirty += n;
}

int lt_segment_append(struct lt_segment *s, const struct lt_batch *batch, struct lt_stamp *stamp) {
    const uint64_t at = s->write_at;
    int rc = s->map ? 0 : lt_segment_map(s);
    if (rc == 0)
        rc = segment_room(s, at + batch->bytes);
    if (rc == 0)
        rc = lt_pages_ready(s, at + batch->bytes);
    if (rc == 0)
        rc = lt_index_room(s, (uint64_t)batch->count);
    if (rc != 0)
        return rc;
    // Where it is stored by pwrite that is one buffer and one call for the batch.
    uint8_t *bytes = segment_write_begin(s, at, batch->bytes), *to = bytes;
    if (!bytes)
        return lt_fail_nomem();
    const int64_t wall_ms = stamp->timestamp_ms, count = s->count, newest = s->newest;
    const struct lt_plan *plan = batch->first;
    const uint8_t *encoded = batch->encoded;
    for (int64_t left = batch->count;;) {
        uint32_t n;
        stamp->more = --left > 0;
        if (plan) {
            n = (uint32_t)lt_align8(plan->total);
            stamp->timestamp_ms = lt_plan_timestamp(plan, wall_ms);
            lt_record_put(to, plan, stamp);
            plan = plan->next;
        } else {
            stamp->timestamp_ms = lt_encoded_timestamp(encoded, wall_ms);
            n = lt_record_copy(to, encoded, stamp);
            encoded += n;
        }
        lt_index_add(s, stamp->timestamp_ms, n, true);
        if (left == 0)
            break;
        to += n;
        stamp->offset++;
        stamp->behind = (uint16_t)(stamp->behind + (stamp->behind < 65535));
    }
    rc = segment_write_end(s, at, bytes, batch->bytes);
    if (rc != 0)
        lt_index_undo(s, count, at, newest);
    else if (s->in_file && (int64_t)(s->write_at - s->pushed_to) >= s->mq->dirty_step)
        lt_segment_push(s);
    return rc;
}
