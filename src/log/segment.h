/* SPDX-License-Identifier: MIT */
// segment: one stretch of a partition's log: a mapped file, or anonymous memory. Reading is the
// same code everywhere; writing goes through two seams, lt_segment_append here and lt_words_store,
// which store into the mapping where the file system writes in place and use pwrite elsewhere.
//
// Invariants
//  1. Bytes below a published record's end never change.
//  2. No byte of a mapping is stored to before the file system has given room for it.
//  3. A segment lives as long as somebody holds a reference: the partition, a cursor, a view. Its
//     file may be gone by then; the mapping keeps the bytes.
#ifndef LT_LOG_SEGMENT_H
#define LT_LOG_SEGMENT_H

#include "base/core.h"
#include "base/stretch.h"
#include "log/format.h"

struct lt_segment {
    struct lt_pinned pinned;
    leat *mq;
    _Atomic int refs;      // release on drop, acquire before freeing
    _Atomic int64_t limit; // first offset that is not in here; LT_NEVER while it is the active one;
                           // stored before any offset beyond it is published
    int64_t base, created_ms;
    uint64_t uid;
    uint8_t *map; // the whole reserved length
    size_t map_size;
    int fd; // -1: memory
    // -- guarded by the partition's lock --
    uint64_t allocated;          // bytes of the file, or counted as memory
    uint64_t populated;          // bytes whose pages are ready to be stored to
    uint64_t write_at;           // where the next record goes
    int64_t count;               // records
    uint64_t synced_to;          // bytes on disk
    int64_t newest;              // highest timestamp of its records
    struct lt_stretch newest_to; // i64, per 512 records: the highest timestamp up to and with them
    struct lt_stretch index;     // u32 position of each record; read without the lock below `end`
};

static inline struct lt_segment *lt_segment_of(struct lt_pinned *obj) {
    return LT_CONTAINER(obj, struct lt_segment, pinned);
}
static inline void lt_segment_keep(struct lt_segment *s) {
    s->pinned.keep(&s->pinned);
}
static inline void lt_segment_drop(struct lt_segment *s) {
    if (s)
        s->pinned.drop(&s->pinned);
}

// lt_segment_create makes a new segment with room for `size` bytes, one reference, its header
// page written. path NULL: in memory.
// Returns  LEAT_ENOSPC, LEAT_EFULL (memory_max_bytes), LEAT_EIO, LEAT_ENOMEM: no file is left.
int lt_segment_create(leat *mq, const char *path, uint64_t size, const struct lt_segment_head *head,
                      struct lt_segment **out);

// lt_segment_open maps an existing file; the records in it are found by lt_segment_scan.
// Returns  LEAT_ECORRUPT (no valid header page; naming the path), LEAT_EIO, LEAT_ENOMEM.
int lt_segment_open(leat *mq, const char *path, uint64_t size, struct lt_segment_head *head,
                    struct lt_segment **out);

// lt_segment_scan finds the valid records from the beginning and fills the index.
// Returns  LEAT_ENOMEM.
int lt_segment_scan(struct lt_segment *s);
// lt_segment_tail_is_clean tells whether only zeros follow the last record.
bool lt_segment_tail_is_clean(const struct lt_segment *s);
// lt_segment_cut takes everything behind the last record away, for good.
// Returns  LEAT_EIO.
int lt_segment_cut(struct lt_segment *s, const char *path);

// lt_segment_redirty makes the kernel write the bytes from `from` to the last record once more at
// the next sync: after a sync that failed in an earlier run it may hold, and call clean, what the
// disk does not have. Returns  LEAT_EIO, LEAT_ENOSPC: only where it does not write in place.
int lt_segment_redirty(struct lt_segment *s, uint64_t from);
// lt_segment_count_max is how many records s can hold at the most.
uint64_t lt_segment_count_max(const struct lt_segment *s);
// lt_segment_fits tells whether n more bytes fit, without allocating.
bool lt_segment_fits(const struct lt_segment *s, uint64_t n);
// lt_segment_append writes a planned record behind the last one. It is not published: that is the
// partition's doing. Locks: the partition's.
// Returns  LEAT_ENOSPC, LEAT_EFULL, LEAT_ENOMEM, LEAT_EIO: nothing changed.
int lt_segment_append(struct lt_segment *s, const struct lt_plan *plan,
                      const struct lt_stamp *stamp);

static inline const uint8_t *lt_segment_record(const struct lt_segment *s, int64_t offset) {
    const uint32_t *at = lt_stretch_at(&s->index, (uint64_t)(offset - s->base));
    return s->map + *at;
}

// lt_segment_offset_at finds the first record at or behind offset `from` with a timestamp at or
// behind ts. Locks: the partition's. Returns  its offset, or -1.
int64_t lt_segment_offset_at(const struct lt_segment *s, int64_t ts, int64_t from);

// ---- words: an array of 8-byte words beside a segment, one for each record

struct lt_words {
    leat *mq;
    uint8_t *map; // of a file: all of it reserved
    size_t map_size;
    uint64_t allocated; // bytes
    struct lt_stretch memory;
    int fd; // -1: memory
};

// lt_words_open opens or (create) makes the words file at path with room for `count` words; path
// NULL: in memory. Untouched words read as 0.
// Returns  LEAT_ENOENT (no file, and not create), LEAT_ENOSPC, LEAT_EIO, LEAT_ENOMEM.
int lt_words_open(leat *mq, const char *path, bool create, uint64_t count, struct lt_words *w);
void lt_words_close(struct lt_words *w);
// lt_words_reserve makes sure that word i can be stored without failing for want of room.
int lt_words_reserve(struct lt_words *w, uint64_t i);
uint64_t lt_words_load(const struct lt_words *w, uint64_t i);
// lt_words_store stores word i, reserved before.
// Returns  LEAT_EIO, LEAT_ENOSPC: only where words are not mapped.
int lt_words_store(struct lt_words *w, uint64_t i, uint64_t word);
// lt_words_sync makes them durable.
int lt_words_sync(struct lt_words *w);

#endif
