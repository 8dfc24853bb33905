/* SPDX-License-Identifier: MIT */
// extent: how much lies between two offsets of a partition, told by its segments and their indexes;
// no record is read.
#include "log/topic.h"

// The first segment that has a record at or behind offset. Locks: the partition's.
static size_t extent_find(const struct lt_partition *p, int64_t offset) {
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
    for (size_t i = extent_find(p, from); rc == 0 && i < p->count && p->segs[i]->base < to; i++) {
        struct lt_segment *s = p->segs[i];
        bool whole = from <= s->base && to >= s->base + s->count;
        rc = whole ? 0 : lt_segment_ready(s);
        if (rc == 0)
            *bytes += (int64_t)lt_segment_bytes(s, from, to);
    }
    lt_unlock(&p->lock);
    return rc;
}
