/* SPDX-License-Identifier: MIT */
// extent: how much lies between two offsets of a partition, told by its segments and their indexes,
// and since when; and the segment of what is in front of an offset.
#include "log/topic.h"

size_t lt_partition_find(const struct lt_partition *p, int64_t offset) {
    size_t lo = 0, hi = p->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->segs[mid]->base + p->segs[mid]->count <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int lt_partition_bytes_between(struct lt_partition *p, int64_t from, int64_t to, int64_t *bytes) {
    int64_t begin = atomic_load(&p->begin);
    int rc = 0;
    *bytes = 0;
    from = from > begin ? from : begin;
    lt_lock(&p->lock);
    for (size_t i = lt_partition_find(p, from); rc == 0 && i < p->count && p->segs[i]->base < to;
         i++) {
        struct lt_segment *s = p->segs[i];
        bool whole = from <= s->base && to >= s->base + s->count;
        rc = whole ? 0 : lt_segment_ready(s);
        if (rc == 0)
            *bytes += (int64_t)lt_segment_bytes(s, from, to);
    }
    lt_unlock(&p->lock);
    return rc;
}

// Returns  the first record in from..end-1 that can be read and is in s, which is ready, or NULL.
static const uint8_t *extent_first(const struct lt_segment *s, int64_t from, int64_t end) {
    int64_t limit = atomic_load_explicit(&s->limit, memory_order_acquire);
    const uint8_t *record = NULL;
    for (end = limit < end ? limit : end; from < end && !record; from++)
        record = lt_segment_record(s, from);
    return record;
}

int lt_partition_first_time(struct lt_partition *p, int64_t from, int64_t end, int64_t *ms) {
    const uint8_t *record = NULL;
    while (from < end && !record) {
        struct lt_segment *s;
        int rc = lt_partition_pin(p, from, &from, &s);
        if (rc != 0)
            return rc;
        if (!s)
            return 0;
        record = extent_first(s, from, end);
        if (record)
            *ms = lt_record_timestamp(record);
        from = atomic_load_explicit(&s->limit, memory_order_acquire);
        lt_segment_drop(s);
    }
    return record != NULL;
}

int lt_partition_pin_before(struct lt_partition *p, int64_t offset, int64_t *last,
                            struct lt_segment **out) {
    int rc = 0;
    *out = NULL;
    lt_lock(&p->lock);
    size_t i = lt_partition_find(p, offset);
    if (i < p->count && p->segs[i]->base < offset)
        i++;
    while (i > 0 && p->segs[i - 1]->count == 0)
        i--; // one of which nothing can be read, behind a gap
    struct lt_segment *s = i > 0 ? p->segs[i - 1] : NULL;
    if (s) {
        int64_t end = s->base + s->count;
        *last = (end < offset ? end : offset) - 1;
        rc = lt_segment_ready(s);
    }
    if (s && rc == 0) {
        lt_segment_keep(s);
        *out = s;
    }
    lt_unlock(&p->lock);
    return rc;
}
