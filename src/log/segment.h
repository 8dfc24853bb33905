/* SPDX-License-Identifier: MIT */
// segment: one stretch of a partition's log: a mapped file, or anonymous memory. Reading is the
// same code everywhere; writing goes through two seams, lt_segment_append here and lt_words_store,
// which store into the mapping where the file system writes in place and use pwrite elsewhere.
//
// A segment is active (records are appended), then rolled (closed to appends), then sealed: its
// bytes are on disk and end with a seal that says so. A sealed one is not read at an open; its
// mapping and its index are made when somebody first reads it and may be taken away again while
// nobody does. index.c has the index and the seal, scan.c what recovery needs.
//
// Invariants
//  1. Bytes below a published record's end never change.
//  2. No byte of a mapping is stored to before the file system has given room for it.
//  3. A segment lives as long as somebody holds a reference: the partition, a cursor, a view. Its
//     file may be gone by then; the mapping keeps the bytes. While the partition's is the only
//     reference, and its lock is held, nobody looks at the mapping.
//  4. A seal is stored only after the sync of all that is below it has returned.
#ifndef LT_LOG_SEGMENT_H
#define LT_LOG_SEGMENT_H

#include "base/core.h"
#include "base/stretch.h"
#include "log/format.h"

// lt_prefix is what an index file says about the records that an earlier run wrote.
struct lt_prefix {
    int64_t count;
    uint64_t end;   // where they end
    uint8_t *image; // positions and times as in the file; NULL: not needed yet
    size_t size;
    bool mapped; // the image is the file, else memory
};

struct lt_segment {
    // What each append and each reader looks at comes first, in few lines of the cache, see
    // leat_topic.
    leat *mq;
    _Atomic int refs; // release on drop, acquire before freeing
    bool in_file;
    bool fields; // its records may have system fields
    // -- guarded by the partition's lock; those with * are read without it by who holds a
    //    reference that lt_partition_pin gave: they do not change while there is one
    bool sealed;  // nothing changes any more
    bool rotten;  // behind its records are bytes that must not be touched
    uint64_t uid; // does not change, as base
    int64_t base;
    uint8_t *map;          // * the whole reserved length; NULL: nobody has read it yet
    size_t map_size;       // *
    int64_t check_to;      // * records below are checked each time they are read
    _Atomic int64_t limit; // first offset that is not in here; LT_NEVER while it is the active one;
                           // stored before any offset beyond it is published
    uint64_t allocated;    // bytes of the file, or counted as memory
    uint64_t populated;    // bytes whose pages are ready to be stored to
    uint64_t write_at;     // where the next record goes
    int64_t count;         // records
    uint64_t index_room;   // records behind the prefix that the index has room for
    int64_t newest;        // highest timestamp of its records
    int64_t appended_ms;   // wall time of the last append, whatever time the record has
    int64_t old_ms;        // by the partition's time: it is rolled by an append after this
    struct lt_prefix prefix;     // *
    struct lt_stretch index;     // * u32 position of each record behind the prefix; 0: unreadable
    struct lt_stretch newest_to; // i64, per 512 records behind the prefix, when there are so many:
                                 // highest timestamp so far; of the last ones it is `newest`
    int fd;                      // -1: memory, or closed because all is synced
    bool large;                  // pages that are made from here on may be large ones
    bool seal_failed;            // not tried again before the next open
    uint64_t synced_to;          // bytes on disk
    uint64_t pushed_to;          // bytes whose way to the disk has begun
    int64_t dirty;               // of these, counted in the store's sum and not synced
    uint32_t head_crcs;          // of the prefix
    uint32_t sealed_crcs;        // of all; stored by who seals
    // -- what does not change
    struct lt_pinned pinned;
    int64_t created_ms;
    uint32_t topic_id, partition;
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

enum { LT_PATH_MAX = 96 };
// lt_segment_file writes the path of its file, or of one beside it: ".log", ".idx".
void lt_segment_file(char out[LT_PATH_MAX], const struct lt_segment *s, const char *suffix);

// lt_segment_name reads a file's name, "<20 digits>.log"; every other one is somebody else's.
// Returns  false if it is none.
bool lt_segment_name(const char *name, int64_t *base);

enum lt_segment_how {
    LT_SEGMENT_PLAIN,   // a file that was there by its name was never of any use
    LT_SEGMENT_INSTEAD, // a file by its name stays until it is whole
    LT_SEGMENT_SURE     // and until it is on disk
};

// lt_segment_create makes a new segment with room for `size` bytes, one reference, its header
// page written; in memory if the store is. used: bytes in the one before it, see lt_spare_use.
// Returns  LEAT_ENOSPC, LEAT_EFULL (memory_max_bytes), LEAT_EIO, LEAT_ENOMEM: no file is left that
// could be removed.
int lt_segment_create(leat *mq, uint64_t size, uint64_t used, const struct lt_segment_head *head,
                      enum lt_segment_how how, struct lt_segment **out);

// lt_segment_open opens the file of a segment. *head: in topic_id, partition and base which one; on
// return its header page. A sealed one is complete; the records of another, behind those that its
// index knows, are found by lt_segment_scan.
// Returns  LEAT_ECORRUPT (no valid header page; naming the path), LEAT_EIO, LEAT_ENOMEM.
int lt_segment_open(leat *mq, uint64_t size, struct lt_segment_head *head, struct lt_segment **out);

// lt_segment_map gets the mapping alone. Locks: the partition's.
int lt_segment_map(struct lt_segment *s);
// lt_segment_ready gets mapping and index, so that its records can be read.
// Locks: the partition's. Returns  LEAT_EIO, LEAT_ENOMEM.
int lt_segment_ready(struct lt_segment *s);
// lt_segment_ready_fd gets its file open, to be synced. Locks: the partition's.
int lt_segment_ready_fd(struct lt_segment *s);
// lt_segment_unready gives back what lt_segment_ready got, the index of a sealed one, and a
// descriptor that is not needed. Nothing is lost by it.
// Locks: the partition's, whose reference is the only one.
void lt_segment_unready(struct lt_segment *s);
// lt_segment_close_fd closes its file, all of which is synced. Locks: the partition's.
void lt_segment_close_fd(struct lt_segment *s);

// lt_segment_count_max is how many records s can hold at the most.
uint64_t lt_segment_count_max(const struct lt_segment *s);
// lt_segment_fits tells whether n more bytes fit, without allocating.
bool lt_segment_fits(const struct lt_segment *s, uint64_t n);
// lt_segment_append writes a batch behind the last record, all of it or nothing. *stamp is of
// the first one and is used up; its timestamp is for those that have none. It is not published:
// that is the partition's doing. Locks: the partition's. Returns  LEAT_ENOSPC, LEAT_EFULL,
// LEAT_ENOMEM, LEAT_EIO: nothing changed.
int lt_segment_append(struct lt_segment *s, const struct lt_batch *batch, struct lt_stamp *stamp);

// lt_segment_push lets the kernel begin to write what was appended, so that a sync does not find
// all of it to do, and counts it. lt_segment_append does so now and then. Locks: as above.
void lt_segment_push(struct lt_segment *s);
// lt_segment_clean takes `bytes` out of the store's sum of what is not synced. Locks: as above.
void lt_segment_clean(struct lt_segment *s, int64_t bytes);

// ---- pages.c

// lt_pages_begin says how large the pages of a new segment are to be. used: bytes in the one before
// it. lt_pages_ready gets those below `need`, which are allocated, ready to be stored to, and some
// behind. Locks: as above. Returns  LEAT_ENOSPC, LEAT_ENOMEM, LEAT_EIO.
void lt_pages_begin(struct lt_segment *s, uint64_t used);
int lt_pages_ready(struct lt_segment *s, uint64_t need);

// ---- index.c

// lt_segment_checked finds and checks a record below check_to. Returns  NULL: it is damaged.
const uint8_t *lt_segment_checked(const struct lt_segment *s, int64_t offset);
// lt_segment_record finds the record of an offset that is in s, which is ready.
// Returns  NULL if it cannot be read: damaged.
static inline const uint8_t *lt_segment_record(const struct lt_segment *s, int64_t offset) {
    if (offset < s->check_to)
        return lt_segment_checked(s, offset);
    const uint32_t *at = lt_stretch_at(&s->index, (uint64_t)(offset - s->base - s->prefix.count));
    return s->map + *at;
}
// lt_segment_offset_at finds the first record at or behind offset `from` with a timestamp at or
// behind ts. Locks: the partition's; s is ready. Returns  its offset, or -1.
int64_t lt_segment_offset_at(const struct lt_segment *s, int64_t ts, int64_t from);

// lt_segment_bytes tells how many bytes the records from..to-1 that are in s take up, framing
// included. Locks: the partition's; s is ready, or all of its records are meant.
uint64_t lt_segment_bytes(const struct lt_segment *s, int64_t from, int64_t to);

// lt_index_room makes room for n more records in the index. Returns  LEAT_ENOMEM.
int lt_index_room(struct lt_segment *s, uint64_t n);
// lt_index_add takes the record at write_at into the index, n bytes long; readable or not.
void lt_index_add(struct lt_segment *s, int64_t timestamp_ms, uint64_t n, bool readable);
// lt_index_next is where the next one goes, 0: it has no room yet.
static inline uintptr_t lt_index_next(const struct lt_segment *s) {
    uint64_t i = (uint64_t)(s->count - s->prefix.count);
    return i < s->index_room ? (uintptr_t)lt_stretch_at(&s->index, i) : 0;
}
// lt_index_undo takes the records behind the first `count` out again, which end at write_at.
void lt_index_undo(struct lt_segment *s, int64_t count, uint64_t write_at, int64_t newest);
// lt_index_probe reads the head of the index file and takes what it says of the segment's records.
// Returns  1, 0 (there is none that is sound), LEAT_EIO, LEAT_ENOMEM.
int lt_index_probe(struct lt_segment *s);
// lt_index_take takes what a seal says of the segment's records.
void lt_index_take(struct lt_segment *s, const struct lt_seal *seal);
// lt_index_load gets the prefix's image: the file, or made again from the records.
int lt_index_load(struct lt_segment *s);
void lt_index_unload(struct lt_segment *s);

// lt_segment_sealable tells whether a rolled segment is to be sealed. Locks: the partition's, as
// for lt_segment_sealed.
bool lt_segment_sealable(const struct lt_segment *s);
// lt_segment_seal seals a rolled segment, all of which is on disk, and writes its index. A failure
// leaves it unsealed, to be scanned by the next open. Its mapping and descriptor are there.
// Locks: none; who calls keeps others from syncing s. lt_segment_sealed then makes it known.
int lt_segment_seal(struct lt_segment *s);
void lt_segment_sealed(struct lt_segment *s, int rc);
// lt_segment_settle writes the index of the active segment, all of which is on disk, for the next
// open, and gives back what is allocated ahead. At a clean close.
int lt_segment_settle(struct lt_segment *s);

// ---- scan.c

// lt_tail is what stands behind the last record of a scan.
struct lt_tail {
    bool clean;   // zeros
    int64_t next; // offset of the next valid record behind bytes that are none; -1: none
    uint64_t next_at;
    int64_t claim;           // what the valid records behind prove to have been on disk; 0: nothing
    uint64_t records, bytes; // valid records that stand there; up to the last byte that is not zero
};

// lt_segment_scan finds the records behind those that are known and fills the index. A batch that
// is not whole counts as none. Returns  LEAT_ENOMEM.
int lt_segment_scan(struct lt_segment *s);
// lt_segment_look looks at what is behind the last record.
void lt_segment_look(const struct lt_segment *s, struct lt_tail *tail);
// lt_segment_skip takes the offsets up to tail->next as unreadable. Returns  LEAT_ENOMEM.
int lt_segment_skip(struct lt_segment *s, const struct lt_tail *tail);
// lt_segment_cut takes everything behind the last record away, for good.
// Returns  LEAT_EIO.
int lt_segment_cut(struct lt_segment *s);
// lt_segment_redirty makes the kernel write the records from offset `from` on once more at the next
// sync: after a sync that failed in an earlier run it may hold, and call clean, what the disk does
// not have. Returns  LEAT_EIO, LEAT_ENOSPC: only where it does not write in place.
int lt_segment_redirty(struct lt_segment *s, int64_t from);

#endif
