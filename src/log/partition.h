/* SPDX-License-Identifier: MIT */
// partition: one append-only sequence of records, in segments.
//
// The happy path of an append: under the partition's lock the record is written behind the last
// one of the active segment and `end` is moved past it; a reader that loads `end` (acquire) may
// read everything below it without the lock. Nothing is published before it is whole.
//
// Invariants
//  1. begin <= durable_end <= end; all three only grow.
//  2. Every offset in begin..end-1 is in exactly one segment, or in a gap that the header of the
//     segment behind it states; the segments are in order.
//  3. durable_end moves only after a sync that began after the records below it were written has
//     returned without error, and its slot is stored only then. A partition has one sync in flight.
//     In memory, where a sync does nothing, it moves at once.
//  4. After a failed sync the partition takes no record and is never synced again: poisoned.
//
// What a crash leaves: kill -9 a prefix that ends in the last append that returned, or the one
// that was under way; recovery cuts what is not whole.
#ifndef LT_LOG_PARTITION_H
#define LT_LOG_PARTITION_H

#include "base/turns.h"
#include "log/segment.h"
#include "log/slots.h"
#include "log/words.h"

// lt_keeper is how a queue says what retention is to leave, where the topic keeps what was not
// consumed.
struct lt_keeper {
    struct lt_node node;   // in the partition's keepers
    _Atomic int64_t floor; // its offsets from here on are not done; seq_cst, see `wanted`
};

// lt_keeps is what a topic was told to keep of each partition. It changes on a live topic, and the
// numbers belong together: with one of before and one of after, retention would take what neither
// lets go. So each partition has its own copy under its own lock.
struct lt_keeps {
    int64_t bytes, records; // LEAT_UNLIMITED: none
    int64_t ms;             // LEAT_FOREVER: none
    int64_t segment_ms;
    int32_t when_full;
    bool until_consumed;
};

struct lt_partition {
    leat *mq;
    leat_topic *topic;
    int32_t number;
    struct lt_mutex lock; // guards all below
    // Stored under the lock; `end` with release, after the record it covers; read anywhere.
    _Atomic int64_t end, durable_end;
    // What the next append will touch first: the active segment, the place behind its last record
    // and that behind the last of its index, as addresses: 0 if not known. Stored under the lock,
    // read anywhere (relaxed), to be prefetched only: they may be gone.
    _Atomic uintptr_t next_segment, next_place, next_index;
    struct lt_segment **segs; // in order; the last one is the active one. They may be `few`
    size_t count;
    bool armed;         // somebody waits for an append: ring the topic's bell at the next one
    bool armed_durable; // the same for durable_end
    bool poisoned;      // invariant 4
    bool dir_owed;      // directory entries are not synced
    bool stray;         // the next segment could not be begun, and its file may be there
    bool rolled;        // a segment was begun: see whether the oldest ones are to go
    bool rejects;       // keeps.when_full is LEAT_REJECT: here, where an append looks anyway
    bool has_due;       // `due` is an entry, and stays one; stored with the admin lock held, too
    uint64_t appended;  // records since the open
    int64_t bytes;      // of the records in its segments
    struct lt_segment *few[2];
    size_t room;           // in segs
    _Atomic int64_t begin; // as end
    uint64_t made_durable;
    struct lt_turns syncs; // invariant 3
    int64_t sync_to;       // the end that the one under way will make durable
    // Behind it no record has a priority, a delay or a group. Stored under the lock before the end
    // that covers such a record; read (relaxed) behind a load of that end.
    _Atomic int64_t fields_end;
    bool releasing;      // a thread is giving segments back, without the lock
    int64_t noted_begin; // log start in the slot: never stored lower again
    struct lt_slot *slot;
    bool fields; // segments from here on may have records with system fields
    struct lt_list keepers;
    struct lt_list dedup_ids; // guarded by the topic's dedup lock, as the next: see dedup.h
    int64_t dedup_from;       // ids of records below are not remembered
    int64_t slow_ms;          // by how much its time is behind the store's, see retain.c
    int64_t dated_ms;         // when what is in rolled segments
    int64_t dated_below;      // with a base below this counts as sent, see retain.c
    struct lt_keeps keeps;    // as the topic's
    // Where consumers must be before retention can have the segment that it wants; LT_NEVER: none.
    // Stored under the lock before they are asked, read by them when they have moved (seq_cst).
    _Atomic int64_t wanted;
    struct lt_due due;       // retention; an entry if has_due
    struct lt_cond released; // a release has ended; used with the lock
};

int lt_partition_init(struct lt_partition *p, leat_topic *t, int32_t number);
void lt_partition_fini(struct lt_partition *p);

// lt_partition_recover finds what is on disk and makes it whole: see recover.c.
// Returns  LEAT_ECORRUPT, LEAT_EIO, LEAT_ENOMEM, LEAT_EACCESS.
int lt_partition_recover(struct lt_partition *p);

enum { LT_SEGMENT_LINES = 4, LT_RECORD_LINES = 3 }; // of 64 bytes, as most are
static inline void lt_prefetch(uintptr_t at, int lines) {
    for (uintptr_t end = at + 64 * (uintptr_t)lines; at < end; at += 64)
        __builtin_prefetch((const void *)at, 1);
}

// lt_partition_prefetch brings what the next append will touch nearer. Where topics take turns that
// is most of the cost of a send, and goes on while the record is summed up.
static inline void lt_partition_prefetch(const struct lt_partition *p) {
    lt_prefetch(atomic_load_explicit(&p->next_segment, memory_order_relaxed), LT_SEGMENT_LINES);
    lt_prefetch(atomic_load_explicit(&p->next_place, memory_order_relaxed), LT_RECORD_LINES);
    lt_prefetch(atomic_load_explicit(&p->next_index, memory_order_relaxed), 1);
}

// lt_partition_append appends a batch, which may be one record: readers see all of it or nothing.
// *md is of the first one, its timestamp the wall clock's: for those that have none of their own.
// Returns  LEAT_ECONFLICT (it does not end where expected; md->offset: where it does), LEAT_EGONE,
// LEAT_EPOISONED, LEAT_ENOSPC, LEAT_EFULL, LEAT_EIO, LEAT_ENOMEM: not stored.
int lt_partition_append(struct lt_partition *p, const struct lt_batch *batch, leat_metadata *md);

// lt_partition_skip_to makes the log go on at `offset`, if it ends below, with the gap and its
// reason stated in the next segment's header.
// Returns  LEAT_ECORRUPT (a jump over LT_GAP_MAX), LEAT_ENOSPC, LEAT_EIO, LEAT_ENOMEM.
int lt_partition_skip_to(struct lt_partition *p, int64_t offset, uint32_t reason);
#define LT_GAP_MAX (INT64_C(1) << 32)

// lt_partition_sync returns when the offsets below `upto` are on disk. The first caller becomes
// the leader for all that were appended before its sync began; later ones wait for the next.
// Returns  LEAT_EIO, LEAT_ENOSPC, LEAT_EPOISONED (the manifest), LEAT_EGONE: unknown what is on
//          disk.
int lt_partition_sync(struct lt_partition *p, int64_t upto);

// lt_partition_offset_at finds the first record with a timestamp at or behind ts.
// Returns  1, 0 if there is none (*offset is the end then), LEAT_EIO, LEAT_ENOMEM.
int lt_partition_offset_at(struct lt_partition *p, int64_t ts, int64_t *offset);

// lt_partition_find returns the place of the first segment that has a record at or behind offset;
// the number of segments: none has. Locks: the partition's.
size_t lt_partition_find(const struct lt_partition *p, int64_t offset);
// lt_partition_run finds the first of the offsets from..to-1, from < to, that stand in a segment
// one behind the other: *first to *past-1; those in front of them are in a gap. None: both are
// `to`. Locks: any below PARTITION.
void lt_partition_run(struct lt_partition *p, int64_t from, int64_t to, int64_t *first,
                      int64_t *past);
// lt_partition_bytes_between tells how many bytes the records from..to-1 take up in the log,
// framing included, without reading them: what is below begin or beyond the end counts nothing.
// Locks: any below PARTITION. Returns  LEAT_EIO, LEAT_ENOMEM: of an index that had to be loaded.
int lt_partition_bytes_between(struct lt_partition *p, int64_t from, int64_t to, int64_t *bytes);

// lt_partition_first_time tells the timestamp of the first record in from..end-1 that can be read;
// the end was loaded (acquire). Locks: any below PARTITION. Returns  1, 0 if there is none,
// LEAT_EIO, LEAT_ENOMEM.
int lt_partition_first_time(struct lt_partition *p, int64_t from, int64_t end, int64_t *ms);

// lt_partition_bytes is what its segments take up.
int64_t lt_partition_bytes(struct lt_partition *p);

// lt_partition_count adds what it counts to *s.
void lt_partition_count(struct lt_partition *p, leat_stats *s);

// lt_partition_arm asks for a ring of the topic's bell at the next append, unless there is a record
// at `offset` already. Returns  true if there is.
bool lt_partition_arm(struct lt_partition *p, int64_t offset);
// lt_partition_arm_durable is the same for a record that is durable, and a ring when more are.
bool lt_partition_arm_durable(struct lt_partition *p, int64_t offset);

// lt_partition_pin finds the segment of the first record at or behind `offset`, gets it ready and
// takes a reference of it; *s is NULL if there is none yet. *first: that record's offset.
// Returns  LEAT_EIO, LEAT_ENOMEM.
int lt_partition_pin(struct lt_partition *p, int64_t offset, int64_t *first, struct lt_segment **s);

// lt_partition_pin_before is that for the last record in front of `offset`. *last: its offset.
int lt_partition_pin_before(struct lt_partition *p, int64_t offset, int64_t *last,
                            struct lt_segment **s);

// lt_partition_cool gives back descriptors (files) and mappings (maps) that nobody uses now.
// Blocks  (files) for the sync of what is to be closed.
void lt_partition_cool(struct lt_partition *p, bool files, bool maps);

// lt_partition_settle prepares the active segment for the next open: at a clean close.
void lt_partition_settle(struct lt_partition *p);

// lt_partition_release gives back the segments that have only records below `floor`, never the
// active one, and none with ids of the dedup window. The log start is durable before a file goes.
// Returns  1: some stay for their ids. LEAT_EIO, LEAT_ENOSPC, LEAT_EFULL, LEAT_ENOMEM: all stay.
// Locks: none.
int lt_partition_release(struct lt_partition *p, int64_t floor);

// lt_partition_retain gives back the oldest segments as the topic's retention says: whole ones, as
// long as what is left is not less than it is to keep, never the active one; and plans when to look
// again. Locks: none.
void lt_partition_retain(struct lt_partition *p);
int lt_retain_init(struct lt_partition *p);
void lt_retain_fini(struct lt_partition *p);
// lt_retain_ready makes what another setting needs, which can fail; lt_retain_alter makes it hold,
// and redates what has the time of a wall clock that was set (stepped); or lt_retain_unready takes
// it back. lt_retain_altered does at once what the new one says: on return nothing goes any more
// that only the old one let go. Locks: admin held; for lt_retain_altered none.
// Returns  LEAT_ENOMEM: nothing to take back.
int lt_retain_ready(struct lt_partition *p, const struct lt_keeps *keeps);
void lt_retain_unready(struct lt_partition *p, const struct lt_keeps *keeps);
void lt_retain_alter(struct lt_partition *p, const struct lt_keeps *keeps, bool stepped);
void lt_retain_altered(struct lt_partition *p);
// lt_retain_set_time says, at an open, when the newest record was appended as far as is known.
void lt_retain_set_time(struct lt_partition *p, int64_t newest_ms);

// lt_retain_old_ms tells until when a segment that is made at born_ms takes records.
int64_t lt_retain_old_ms(const struct lt_partition *p, int64_t born_ms);

// lt_partition_keep enters a keeper, lt_partition_unkeep ends it. Locks: any below PARTITION.
void lt_partition_keep(struct lt_partition *p, struct lt_keeper *k, int64_t floor);
void lt_partition_unkeep(struct lt_partition *p, struct lt_keeper *k);
// lt_partition_consumed tells that a consumer has come from `before` to `now`, which is stored
// where retention finds it. Locks: any below DUE.
void lt_partition_consumed(struct lt_partition *p, int64_t before, int64_t now);

// lt_partition_note stores durable end and begin where recovery finds them. Locks: the partition's.
int lt_partition_note(struct lt_partition *p, int64_t durable_end, int64_t begin);

// lt_partition_trim moves the log start to `before`, which is at most the end: nobody reads what is
// below it any more. Segments that are below it as a whole are given back. Errors as above.
int lt_partition_trim(struct lt_partition *p, int64_t before);

// lt_partition_unlink removes the files of a segment that is gone, and queues' words beside it;
// lt_partition_unlink_rest all but its own, which is another's by now.
void lt_partition_unlink(struct lt_partition *p, int64_t base);
void lt_partition_unlink_rest(struct lt_partition *p, int64_t base);

// lt_partition_time is the wall clock's time; where things go by it, one that does not step while
// the store is open.
int64_t lt_partition_time(const struct lt_partition *p, int64_t wall_ms);

// lt_partition_sync_dirs makes the names of its segments durable. Returns  LEAT_EIO, LEAT_ENOSPC.
int lt_partition_sync_dirs(struct lt_partition *p);

// ---- roll.c

// lt_partition_table_room makes room for one more segment in the table. Locks: the partition's.
int lt_partition_table_room(struct lt_partition *p);
// lt_partition_roll closes the active segment to appends and begins the next at offset `end`, with
// room for a batch of n bytes. reason: of a gap. Where it fails all is as before; but for a file
// that may be left, `stray`: there must not be records in front of it beyond its base, or an open
// would find them missing. Locks: the partition's; held over a sync where an empty segment that
// states a gap makes room, once behind a power cut.
// Returns  LEAT_ENOSPC, LEAT_EFULL, LEAT_EIO, LEAT_ENOMEM.
int lt_partition_roll(struct lt_partition *p, int64_t end, uint64_t n, uint32_t reason);

// lt_partition_remove drops the segments and their files, of a deleted topic.
void lt_partition_remove(struct lt_partition *p);

// lt_partition_path writes "<topic id>/<partition>", lt_segment_path that and "/<base><suffix>".
void lt_partition_path(char out[LT_PATH_MAX], const struct lt_partition *p);
void lt_segment_path(char out[LT_PATH_MAX], const struct lt_partition *p, int64_t base,
                     const char *suffix);

#endif
