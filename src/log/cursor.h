/* SPDX-License-Identifier: MIT */
// cursor: a place in a partition, and a reference of the segment it is in. One thread at a time.
#ifndef LT_LOG_CURSOR_H
#define LT_LOG_CURSOR_H

#include "log/partition.h"

struct lt_cursor {
    struct lt_partition *p;
    int64_t offset;         // next to read
    struct lt_segment *seg; // NULL, or the one that at belongs to
    uint32_t at;            // where record `offset` stands in seg
};

// lt_offset_resolve makes an offset in begin..end of what a caller has asked for: one, or a place
// as leat.h has them. now: where he is, -1: nowhere. Locks: any below PARTITION; see seek.c.
// Returns  LEAT_ERANGE; LEAT_EINVAL (no place, or a shift from nowhere); LEAT_EIO, LEAT_ENOMEM.
int lt_offset_resolve(struct lt_partition *p, int64_t now, int64_t asked, int64_t *offset);

void lt_cursor_init(struct lt_cursor *c, struct lt_partition *p, int64_t offset);
void lt_cursor_fini(struct lt_cursor *c);
void lt_cursor_seek(struct lt_cursor *c, int64_t offset);

// lt_cursor_find moves to the first record at or behind the cursor that is below `end`, which the
// caller loaded (acquire) from the partition. It takes the partition's lock only to step to
// another segment. A record that cannot be read is stepped over if the store skips rot.
// Returns  1, 0 if there is none, LEAT_ECORRUPT (the record is damaged: the cursor is at it),
//          LEAT_EIO, LEAT_ENOMEM.
int lt_cursor_find(struct lt_cursor *c, int64_t end);
// lt_cursor_find_back moves to the last record in front of the cursor at or behind `begin`. One
// that cannot be read is stepped over, and told unless the store skips rot. It takes the
// partition's lock to step to another segment, and at each record of the active one. Returns  1, 0
// if there is none, LEAT_ECORRUPT (the cursor is in front of the damaged one),
//          LEAT_EIO, LEAT_ENOMEM.
int lt_cursor_find_back(struct lt_cursor *c, int64_t begin);
// lt_cursor_stands tells that the cursor is at such a record already, so that lt_cursor_find would
// only say so.
static inline bool lt_cursor_stands(const struct lt_cursor *c, int64_t end) {
    return c->at != 0 && c->offset < end && c->offset >= c->seg->check_to &&
           c->offset < atomic_load_explicit(&c->seg->limit, memory_order_acquire);
}
// lt_cursor_read makes a message of the record that lt_cursor_find found; its view is the caller's
// to set. Owns  the bytes live as long as a reference of c->seg.
void lt_cursor_read(const struct lt_cursor *c, leat_message *m);
// lt_cursor_size tells how many bytes the record that was found takes up in the log.
static inline int64_t lt_cursor_size(const struct lt_cursor *c) {
    return lt_record_size(c->seg->map + c->at);
}
// lt_cursor_advance steps over the record that was found, whose size that is.
static inline void lt_cursor_advance(struct lt_cursor *c, int64_t size) {
    c->at += (uint32_t)size;
    c->offset++;
}

#endif
