/* SPDX-License-Identifier: MIT */
#include "log/segment.h"

#include "base/bytes.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum {
    SEGMENT_STEP_MIN = 64 * 1024,       // first allocation step, doubling to
    SEGMENT_STEP_MAX = 4 * 1024 * 1024, // this
    SEGMENT_POPULATE = 128 * 1024,      // pages made ready ahead; more dirties more than is written
    SEGMENT_TIMES = 512,                // records per entry of newest_to
    SEGMENT_RECORD_MIN = 40             // bytes of the smallest record
};

static void segment_keep(struct lt_pinned *obj) {
    atomic_fetch_add_explicit(&lt_segment_of(obj)->refs, 1, memory_order_relaxed);
}

static void segment_free(struct lt_segment *s) {
    leat *mq = s->mq;
    lt_stretch_fini(&s->index);
    lt_stretch_fini(&s->newest_to);
    if (s->map)
        (void)mq->os->unmap(mq->os, s->map, s->map_size);
    if (s->fd >= 0)
        (void)mq->os->close(mq->os, s->fd);
    else
        atomic_fetch_sub_explicit(&mq->memory_bytes, (int64_t)s->allocated, memory_order_relaxed);
    lt_free(&mq->mem, s);
}

static void segment_drop(struct lt_pinned *obj) {
    struct lt_segment *s = lt_segment_of(obj);
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        segment_free(s);
}

static struct lt_segment *segment_new(leat *mq, uint64_t size) {
    struct lt_segment *s = lt_zalloc(&mq->mem, sizeof *s);
    if (!s) {
        (void)lt_fail_nomem();
        return NULL;
    }
    s->pinned = (struct lt_pinned){ segment_keep, segment_drop };
    s->mq = mq;
    s->fd = -1;
    s->map_size = size;
    s->write_at = LT_SEGMENT_PAGE;
    atomic_init(&s->refs, 1);
    atomic_init(&s->limit, LT_NEVER);
    s->newest = INT64_MIN;
    lt_stretch_init(&s->index, &mq->mem, sizeof(uint32_t), 64);
    lt_stretch_init(&s->newest_to, &mq->mem, sizeof(int64_t), 16);
    return s;
}

static int segment_map(struct lt_segment *s, const char *path) {
    leat *mq = s->mq;
    void *p;
    bool writable = s->fd < 0 || mq->mapped_write;
    int rc = mq->os->map(mq->os, s->fd, s->map_size, writable, &p);
    if (rc < 0)
        return lt_fail_os(rc, "mapping %s", path ? path : "memory");
    s->map = p;
    return 0;
}

// Gets room for the bytes below `need`: in steps, so that a small topic stays small and ENOSPC is
// an error code here instead of SIGBUS at the store.
static int segment_room(struct lt_segment *s, uint64_t need) {
    if (need <= s->allocated)
        return 0;
    leat *mq = s->mq;
    if (s->fd >= 0 && !mq->mapped_write)
        return 0; // pwrite gets its room, or its ENOSPC, itself
    uint64_t step = s->allocated < SEGMENT_STEP_MIN   ? SEGMENT_STEP_MIN
                    : s->allocated > SEGMENT_STEP_MAX ? SEGMENT_STEP_MAX
                                                      : s->allocated;
    uint64_t to = s->allocated + step;
    to = to < need ? need : to;
    to = to > s->map_size ? s->map_size : to;
    int64_t more = (int64_t)(to - s->allocated);
    if (s->fd >= 0) {
        int rc = mq->os->allocate(mq->os, s->fd, (int64_t)s->allocated, more);
        if (rc < 0)
            return lt_fail_os(rc, "allocating %lld bytes of a segment in %s", (long long)more,
                              mq->dir);
    } else {
        int64_t sum = atomic_fetch_add_explicit(&mq->memory_bytes, more, memory_order_relaxed);
        if (sum + more > mq->memory_max_bytes) {
            atomic_fetch_sub_explicit(&mq->memory_bytes, more, memory_order_relaxed);
            return lt_fail(LEAT_EFULL, "the memory store is at its memory_max_bytes of %lld",
                           (long long)mq->memory_max_bytes);
        }
    }
    s->allocated = to;
    return 0;
}

// Gets the pages below `need` ready, some way ahead: one call where there would be a page fault
// each, and an error code where there would be SIGBUS. Not for the first ones: a small topic stays
// small.
static int segment_populate(struct lt_segment *s, uint64_t need) {
    struct lt_os *os = s->mq->os;
    if (need <= s->populated || need <= SEGMENT_STEP_MIN || !os->populate ||
        (s->fd >= 0 && !s->mq->mapped_write))
        return 0;
    uint64_t from = s->populated > s->write_at ? s->populated : s->write_at & ~UINT64_C(4095);
    uint64_t to = need + SEGMENT_POPULATE < s->allocated ? need + SEGMENT_POPULATE : s->allocated;
    int rc = os->populate(os, s->map + from, to - from);
    if (rc < 0 && rc != -EINVAL)
        return lt_fail_os(rc, "making pages of a segment ready in %s",
                          s->mq->dir ? s->mq->dir : "memory");
    s->populated = to & ~UINT64_C(4095);
    return 0;
}

// The first seam. Hands out where n bytes at `at` are to be made: the mapping, or a buffer.
static uint8_t *segment_write_begin(struct lt_segment *s, uint64_t at, size_t n) {
    if (s->fd < 0 || s->mq->mapped_write)
        return s->map + at;
    return lt_alloc(&s->mq->mem, n);
}

static int segment_write_end(struct lt_segment *s, uint64_t at, uint8_t *bytes, size_t n) {
    if (bytes == s->map + at)
        return 0;
    int rc = lt_pwrite_full(s->mq->os, s->fd, bytes, n, (int64_t)at);
    lt_free(&s->mq->mem, bytes);
    return rc == 0 ? 0 : lt_fail_os(rc, "writing a segment in %s", s->mq->dir);
}

static int segment_write_head(struct lt_segment *s, const struct lt_segment_head *head) {
    int rc = segment_room(s, LT_SEGMENT_PAGE);
    if (rc != 0)
        return rc;
    uint8_t *page = segment_write_begin(s, 0, LT_SEGMENT_PAGE);
    if (!page)
        return lt_fail_nomem();
    lt_segment_head_put(page, head);
    return segment_write_end(s, 0, page, LT_SEGMENT_PAGE);
}

int lt_segment_create(leat *mq, const char *path, uint64_t size, const struct lt_segment_head *head,
                      struct lt_segment **out) {
    struct lt_segment *s = segment_new(mq, size);
    if (!s)
        return LEAT_ENOMEM;
    s->base = head->base;
    s->uid = head->uid;
    s->created_ms = head->created_ms;
    int rc = 0;
    if (path) {
        int fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDWR | O_CREAT | O_EXCL, 0600);
        // Recovery sets aside what stands in the way, so this one was left by a create or a drop
        // that could not remove it: no record was ever in it.
        if (fd == -EEXIST && mq->os->unlink(mq->os, mq->dir_fd, path, false) == 0)
            fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd < 0) {
            rc = lt_fail_os(fd, "creating %s/%s", mq->dir, path);
            path = NULL; // not ours to remove
            goto fail;
        }
        s->fd = fd;
    }
    rc = segment_map(s, path);
    if (rc == 0)
        rc = segment_write_head(s, head);
    if (rc == 0) {
        *out = s;
        return 0;
    }
fail:
    segment_free(s);
    if (path)
        (void)mq->os->unlink(mq->os, mq->dir_fd, path, false);
    return rc;
}

static int segment_read_head(struct lt_segment *s, const char *path, struct lt_segment_head *head) {
    leat *mq = s->mq;
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
    s->allocated = (uint64_t)info.size;
    if (s->map_size < s->allocated)
        s->map_size = s->allocated;
    return 0;
}

int lt_segment_open(leat *mq, const char *path, uint64_t size, struct lt_segment_head *head,
                    struct lt_segment **out) {
    struct lt_segment *s = segment_new(mq, size);
    if (!s)
        return LEAT_ENOMEM;
    int rc;
    int fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDWR, 0);
    if (fd < 0) {
        rc = lt_fail_os(fd, "opening %s/%s", mq->dir, path);
        goto fail;
    }
    s->fd = fd;
    rc = segment_read_head(s, path, head);
    if (rc == 0)
        rc = segment_map(s, path);
    if (rc != 0)
        goto fail;
    s->base = head->base;
    s->uid = head->uid;
    s->created_ms = head->created_ms;
    *out = s;
    return 0;
fail:
    segment_free(s);
    return rc;
}

// ---- index

// Room in the index for one more record.
static int segment_index_room(struct lt_segment *s) {
    uint64_t n = (uint64_t)s->count + 1;
    if (lt_stretch_reserve(&s->index, n) != 0 ||
        lt_stretch_reserve(&s->newest_to, n / SEGMENT_TIMES + 1) != 0)
        return lt_fail_nomem();
    return 0;
}

// Takes the record of n bytes at write_at into the index.
static void segment_index_add(struct lt_segment *s, int64_t timestamp_ms, uint64_t n) {
    uint32_t *at = lt_stretch_at(&s->index, (uint64_t)s->count);
    *at = (uint32_t)s->write_at;
    if (timestamp_ms > s->newest)
        s->newest = timestamp_ms;
    *(int64_t *)lt_stretch_at(&s->newest_to, (uint64_t)s->count / SEGMENT_TIMES) = s->newest;
    s->write_at += n;
    s->count++;
}

int64_t lt_segment_offset_at(const struct lt_segment *s, int64_t ts, int64_t from) {
    uint64_t lo = 0, hi = s->count > 0 ? (uint64_t)(s->count - 1) / SEGMENT_TIMES : 0;
    if (s->count == 0 || s->newest < ts)
        return -1;
    while (lo < hi && from <= s->base) { // the first 512 with which the highest time reaches ts
        uint64_t mid = lo + (hi - lo) / 2;
        if (*(const int64_t *)lt_stretch_at(&s->newest_to, mid) < ts)
            lo = mid + 1;
        else
            hi = mid;
    }
    // Where the front is deleted, newest_to may speak of what is gone: one by one from there on.
    int64_t offset = s->base + (int64_t)(lo * SEGMENT_TIMES);
    for (offset = from > offset ? from : offset; offset < s->base + s->count; offset++) {
        leat_message m;
        lt_record_view(lt_segment_record(s, offset), s->base, &m);
        if (m.timestamp_ms >= ts)
            return offset;
    }
    return -1;
}

int lt_segment_scan(struct lt_segment *s) {
    for (;;) {
        uint32_t n = lt_record_check(s->map + s->write_at, s->allocated - s->write_at, s->uid,
                                     s->base + s->count, s->base);
        if (n == 0)
            return 0;
        int rc = segment_index_room(s);
        if (rc != 0)
            return rc;
        leat_message m;
        lt_record_view(s->map + s->write_at, s->base, &m);
        segment_index_add(s, m.timestamp_ms, n);
    }
}

bool lt_segment_tail_is_clean(const struct lt_segment *s) {
    const uint8_t *p = s->map + s->write_at;
    uint64_t n = s->allocated - s->write_at;
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

int lt_segment_cut(struct lt_segment *s, const char *path) {
    struct lt_os *os = s->mq->os;
    int rc = os->truncate(os, s->fd, (int64_t)s->write_at);
    if (rc == 0)
        rc = os->sync(os, s->fd, false);
    if (rc < 0)
        return lt_fail_os(rc, "cutting the unfinished tail of %s/%s", s->mq->dir, path);
    s->allocated = s->write_at;
    return 0;
}

int lt_segment_redirty(struct lt_segment *s, uint64_t from) {
    if (!s->mq->mapped_write) {
        int rc = lt_pwrite_full(s->mq->os, s->fd, s->map + from, s->write_at - from, (int64_t)from);
        return rc == 0 ? 0 : lt_fail_os(rc, "writing a segment again in %s", s->mq->dir);
    }
    for (uint64_t at = from & ~UINT64_C(4095); at < s->write_at; at += 4096) {
        volatile uint8_t *byte = s->map + at;
        *byte = *byte; // the page is dirty by it
    }
    return 0;
}

uint64_t lt_segment_count_max(const struct lt_segment *s) {
    return (s->map_size - LT_SEGMENT_PAGE) / SEGMENT_RECORD_MIN;
}

bool lt_segment_fits(const struct lt_segment *s, uint64_t n) {
    return n <= s->map_size - s->write_at;
}

int lt_segment_append(struct lt_segment *s, const struct lt_plan *plan,
                      const struct lt_stamp *stamp) {
    uint64_t n = lt_align8(plan->total);
    int rc = segment_room(s, s->write_at + n);
    if (rc == 0)
        rc = segment_populate(s, s->write_at + n);
    if (rc == 0)
        rc = segment_index_room(s);
    if (rc != 0)
        return rc;
    uint8_t *bytes = segment_write_begin(s, s->write_at, n);
    if (!bytes)
        return lt_fail_nomem();
    lt_record_put(bytes, plan, stamp);
    rc = segment_write_end(s, s->write_at, bytes, n);
    if (rc != 0)
        return rc;
    segment_index_add(s, stamp->timestamp_ms, n);
    return 0;
}

// ---- words

int lt_words_open(leat *mq, const char *path, bool create, uint64_t count, struct lt_words *w) {
    *w = (struct lt_words){ .mq = mq, .fd = -1, .map_size = count * 8 };
    lt_stretch_init(&w->memory, &mq->mem, 8, 64);
    if (!path)
        return 0;
    int fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDWR | (create ? O_CREAT : 0), 0600);
    if (fd < 0)
        return lt_fail_os(fd, "opening %s/%s", mq->dir, path);
    w->fd = fd;
    struct lt_file_info info;
    int rc = mq->os->info(mq->os, fd, &info);
    if (rc == 0 && info.size > (int64_t)w->map_size)
        info.size = (int64_t)w->map_size; // somebody made it longer; there are no more records
    void *p = NULL;
    if (rc == 0)
        rc = mq->os->map(mq->os, fd, w->map_size, mq->mapped_write, &p);
    if (rc < 0) {
        (void)mq->os->close(mq->os, fd);
        w->fd = -1;
        return lt_fail_os(rc, "mapping %s/%s", mq->dir, path);
    }
    w->map = p;
    w->allocated = (uint64_t)info.size & ~UINT64_C(7);
    return 0;
}

void lt_words_close(struct lt_words *w) {
    if (w->map)
        (void)w->mq->os->unmap(w->mq->os, w->map, w->map_size);
    if (w->fd >= 0)
        (void)w->mq->os->close(w->mq->os, w->fd);
    lt_stretch_fini(&w->memory);
    w->map = NULL;
    w->fd = -1;
}

int lt_words_reserve(struct lt_words *w, uint64_t i) {
    leat *mq = w->mq;
    if (w->fd < 0)
        return lt_stretch_reserve(&w->memory, i + 1) == 0 ? 0 : lt_fail_nomem();
    uint64_t need = (i + 1) * 8;
    if (need <= w->allocated)
        return 0;
    uint64_t to = w->allocated + SEGMENT_STEP_MIN;
    to = to < need ? need : to;
    to = to > w->map_size ? w->map_size : to;
    // Where stores go by pwrite the file only has to be long enough to be read; a store can then
    // still fail for want of room, and says so.
    int rc = mq->mapped_write ? mq->os->allocate(mq->os, w->fd, (int64_t)w->allocated,
                                                 (int64_t)(to - w->allocated))
                              : mq->os->truncate(mq->os, w->fd, (int64_t)to);
    if (rc < 0)
        return lt_fail_os(rc, "allocating queue words in %s", mq->dir);
    w->allocated = to;
    return 0;
}

uint64_t lt_words_load(const struct lt_words *w, uint64_t i) {
    if (w->fd < 0)
        return i < lt_stretch_capacity(&w->memory) ? *(uint64_t *)lt_stretch_at(&w->memory, i) : 0;
    return (i + 1) * 8 <= w->allocated ? lt_get_u64(w->map + i * 8) : 0;
}

// The second seam.
int lt_words_store(struct lt_words *w, uint64_t i, uint64_t word) {
    if (w->fd < 0) {
        *(uint64_t *)lt_stretch_at(&w->memory, i) = word;
        return 0;
    }
    if (w->mq->mapped_write) {
        // One store of 8 bytes: kill -9 finds the old word or the new one.
        *(volatile uint64_t *)(void *)(w->map + i * 8) = htole64(word);
        return 0;
    }
    uint8_t bytes[8];
    lt_put_u64(bytes, word);
    int rc = lt_pwrite_full(w->mq->os, w->fd, bytes, sizeof bytes, (int64_t)(i * 8));
    return rc == 0 ? 0 : lt_fail_os(rc, "writing queue words in %s", w->mq->dir);
}

int lt_words_sync(struct lt_words *w) {
    if (w->fd < 0)
        return 0;
    int rc = w->mq->os->sync(w->mq->os, w->fd, false);
    return rc == 0 ? 0 : lt_fail_os(rc, "syncing queue words in %s", w->mq->dir);
}
