/* SPDX-License-Identifier: MIT */
// spare: memory of segments that are gone, kept for the next ones. In a memory store with retention
// one segment goes for each that comes; memory that is new to the process costs a send more than
// all the rest of it. What is kept counts as used (memory_max_bytes), and is given back before a
// send would be refused for want of memory.
#ifndef LT_LOG_SPARE_H
#define LT_LOG_SPARE_H

#include "base/core.h"

struct lt_segment;

enum { LT_SPARES = 4 };
#define LT_SPARE_BYTES (INT64_C(128) << 20) // more is never kept

struct lt_spare {
    uint8_t *map;
    uint64_t size, allocated, populated; // as of the segment that it was
    bool large;
};

struct lt_spares {
    struct lt_mutex lock;             // guards the rest
    struct lt_spare spare[LT_SPARES]; // oldest first
    size_t count;
};

int lt_spares_init(struct lt_spares *spares);
// lt_spares_fini gives all back. In a fork it leaves them: the parent may have been changing them.
void lt_spares_fini(leat *mq);

// lt_spare_keep takes the memory of s, which is in memory and about to be freed, if it has any.
void lt_spare_keep(struct lt_segment *s);
// lt_spare_use gives s, which is in memory, a spare of its size. Of that is as much counted as was
// of the segment that it was: not more than twice what is `used` of the segment before s, or topics
// that hold little would keep the memory of large ones. Returns  false if there is none.
bool lt_spare_use(struct lt_segment *s, uint64_t used);
// lt_spares_drop gives all back. Returns  false if there was none.
bool lt_spares_drop(leat *mq);

#endif
