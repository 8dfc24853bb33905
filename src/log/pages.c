/* SPDX-License-Identifier: MIT */
// pages: those of a segment that the next records will be stored to, made ready ahead: many with
// one call, where there would be a page fault each, and an error code where there would be SIGBUS.
#include "log/segment.h"

#include "log/topic.h"

#include <errno.h>

enum {
    PAGES_FROM = 64 * 1024,   // not for the first ones: a small topic stays small
    PAGES_SMALL = 512 * 1024, // not in segments like these, in memory: of many topics in turn each
                              // page would be out of the cache again when it is stored to
    PAGES_AHEAD = 128 * 1024, // more dirties more than is written; and not more than
    PAGES_PART = 16,          // this part of a segment
    PAGES_PREFILL = 256 * 1024, // the same in a file, where so much as this is not synced:
    PAGES_UNSYNCED = 1024 * 1024,
    PAGES_LARGE = 2 * 1024 * 1024, // a large page. In memory those behind so much are large ones,
    PAGES_LARGE_NS = 600           // while they cost less than this for each small one in them
};

// Says how large the pages of a segment in memory are to be from there on.
static void pages_are(struct lt_segment *s, uint64_t from, bool large) {
    struct lt_os *os = s->mq->os;
    uint64_t off = ((uintptr_t)s->map + from) % PAGES_LARGE;
    if (large && off > 0) // it begins with a page of its own
        from += PAGES_LARGE - off;
    if (from < s->map_size)
        os->large_pages(os, s->map + from, s->map_size - from, large);
    s->large = large;
}

static bool pages_may_be_large(const struct lt_segment *s) {
    return !s->in_file && s->mq->os->large_pages && s->mq->os->spent_ns &&
           !atomic_load_explicit(&s->mq->log->small_pages, memory_order_relaxed);
}

void lt_pages_begin(struct lt_segment *s, uint64_t used) {
    if (!s->in_file && s->mq->os->large_pages)
        pages_are(s, 0, used >= PAGES_LARGE && pages_may_be_large(s));
}

// Up to where, behind `need`, large pages are made. Returns  need: small ones are to be.
static uint64_t pages_large_to(struct lt_segment *s, uint64_t from, uint64_t need) {
    bool large = pages_may_be_large(s) && (s->large || need > PAGES_LARGE);
    if (large != s->large)
        pages_are(s, large ? PAGES_LARGE : from, large);
    uint64_t over = large ? ((uintptr_t)s->map + need) % PAGES_LARGE : 0;
    return over > 0 ? need + PAGES_LARGE - over : need;
}

// Makes pages that may be large. Where those are dear, because the kernel has to make room for one,
// or has none, or gets its memory from elsewhere piece by piece, the store goes on with small ones.
static int pages_make(struct lt_segment *s, uint64_t from, uint64_t to) {
    struct lt_os *os = s->mq->os;
    int64_t before = s->large ? os->spent_ns(os) : 0;
    int rc = os->populate(os, s->map + from, to - from);
    if (s->large &&
        os->spent_ns(os) - before > (int64_t)((to - from) / LT_SEGMENT_PAGE + 1) * PAGES_LARGE_NS)
        atomic_store_explicit(&s->mq->log->small_pages, true, memory_order_relaxed);
    return rc;
}

int lt_pages_ready(struct lt_segment *s, uint64_t need) {
    struct lt_os *os = s->mq->os;
    const uint64_t page = LT_SEGMENT_PAGE;
    if (need <= s->populated || need <= PAGES_FROM || !os->populate ||
        (s->in_file ? !s->mq->mapped_write : s->map_size <= PAGES_SMALL))
        return 0;
    uint64_t from = s->populated > s->write_at ? s->populated : s->write_at & ~(page - 1);
    // Pages that come into memory together are half the price, but are written to disk together,
    // too, at each sync of a record in them: so not where there are many.
    bool many =
        s->in_file && s->fd >= 0 && os->prefill && s->write_at >= s->synced_to + PAGES_UNSYNCED;
    uint64_t to = pages_large_to(s, from, need);
    uint64_t part = s->map_size / PAGES_PART;
    if (to == need)
        to += many ? PAGES_PREFILL : part < PAGES_AHEAD ? part : PAGES_AHEAD;
    to = to < s->allocated ? to : s->allocated;
    uint64_t clear = from < s->write_at ? from + page : from; // behind all that is written
    if (many && clear < to)
        os->prefill(os, s->fd, (int64_t)clear, (int64_t)(to - clear));
    int rc = pages_make(s, from, to);
    if (rc < 0 && rc != -EINVAL)
        return lt_fail_os(rc, "making pages of a segment ready in %s",
                          s->mq->dir ? s->mq->dir : "memory");
    s->populated = to & ~(page - 1);
    return 0;
}
