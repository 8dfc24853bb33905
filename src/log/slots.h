/* SPDX-License-Identifier: MIT */
// slots: small numbers that change often and must survive: committed offsets, heads of queues,
// durable ends. A slot is 64 bytes in the file `slots`, three times, in different 4 KiB blocks.
//
//  copy of a slot
//   0  CRC-32C u32 of bytes 4-63     16  partition u32
//   4  kind u32                      20  zero u32
//   8  id u32                        24  sequence u64: the highest counts
//  12  topic u32                     32  values 4 x i64
//
// A store goes neither to the newest copy nor to the newest that is known to be on disk, but to the
// third. So there is found again
//   after kill -9     what was stored last: a store that was under way is there, or not
//   after a power cut what was stored when the last sync began that returned, or anything newer,
//                     even if every store since then has left bytes that are no slot
// Two copies would not do: with one of them on disk only and the other in the page cache only, a
// store must overwrite either, and the kernel may write the page back in the middle of it.
//
// The file is synced by one thread at a time: the first who asks syncs for all who stored before it
// began, the others wait for the next. After a failed sync there is no second one: poisoned.
//
// Damage to one copy makes an older one count. A slot of which nothing can be read is damage if
// more than one copy holds something; else it is as if it had never been stored, as are zeros. The
// file is there before the first note of the manifest: where that has notes, a missing one is
// damage.
#ifndef LT_LOG_SLOTS_H
#define LT_LOG_SLOTS_H

#include "base/core.h"
#include "base/map.h"
#include "base/stretch.h"
#include "base/turns.h"

#include <stdatomic.h>

enum lt_slot_kind {
    LT_SLOT_FREE = 0,
    LT_SLOT_PARTITION = 1, // values: durable end, begin
    LT_SLOT_COMMIT = 2,    // id: group; values: committed offset
    LT_SLOT_QUEUE = 3,     // id: queue; values: head, touched end, purged end
    LT_SLOT_RECEIPTS = 4,  // values: generations below this one may be out
    LT_SLOT_MANIFEST = 5   // values: generation of the manifest, how many bytes of it are on disk
};

struct lt_slot_key {
    uint32_t kind, id, topic, partition;
};

enum { LT_SLOT_COPIES = 3 };

struct lt_slot {            // sequence and all behind it: guarded by whoever owns the slot
    struct lt_slot_key key; // kind LT_SLOT_FREE: not in use
    uint32_t number;
    uint64_t sequence;
    int64_t values[4]; // as stored last
    struct {
        uint64_t sequence; // 0: not valid
        uint64_t epoch;    // which sync is the first that finds it in the page cache
    } copy[LT_SLOT_COPIES];
};

struct lt_slots {
    leat *mq;
    struct lt_mutex lock; // guards all below, not the slots' values
    struct lt_map by_key;
    struct lt_stretch slots;
    uint32_t count; // slots ever used
    struct lt_slot **free;
    size_t free_count, free_room;
    int fd; // -1: memory
    uint8_t *map;
    uint64_t allocated;
    struct lt_turns syncs;
    // Syncs: how many began, the last that has ended well. Written under the lock. A store adds 0
    // to `begun` behind its bytes (acq_rel): it comes before the next sync, or counts for the one
    // after.
    _Atomic uint64_t begun, done;
    atomic_bool poisoned; // a sync failed; stored under the lock, read anywhere
};

// lt_slots_open reads or makes the file `slots` of the store.
// Returns  LEAT_ECORRUPT (not with LEAT_SKIP_ROT), LEAT_EIO, LEAT_ENOSPC, LEAT_ENOMEM,
// LEAT_EACCESS.
int lt_slots_open(struct lt_slots *s, leat *mq);
void lt_slots_close(struct lt_slots *s);

// lt_slot_find returns the slot of that key, or NULL.
struct lt_slot *lt_slot_find(struct lt_slots *s, const struct lt_slot_key *key);
// lt_slot_again reads the values of a slot again: of a read-only store, whose owner may have stored
// others since. Returns  LEAT_EIO.
int lt_slot_again(struct lt_slots *s, struct lt_slot *slot);
// lt_slot_take finds or makes the slot of that key; a new one has zeros.
// Returns  LEAT_EFULL, LEAT_ENOSPC, LEAT_EIO, LEAT_ENOMEM. Owns  *out lives until it is dropped.
int lt_slot_take(struct lt_slots *s, const struct lt_slot_key *key, struct lt_slot **out);
// lt_slot_store stores the values of a slot. Locks: whatever guards the slot.
// Returns  LEAT_EIO, LEAT_ENOSPC: only where slots are not mapped; nothing changed.
int lt_slot_store(struct lt_slots *s, struct lt_slot *slot, const int64_t values[4]);
// lt_slot_drop frees a slot, lt_slots_drop_topic every one of a deleted topic and
// lt_slots_drop_group of a deleted group, whose owners are gone.
void lt_slot_drop(struct lt_slots *s, struct lt_slot *slot);
void lt_slots_drop_topic(struct lt_slots *s, uint32_t topic);
void lt_slots_drop_group(struct lt_slots *s, uint32_t group);
// lt_slots_check looks at every copy of every slot, of a read-only store. used: slots with a sound
// copy; unsound: copies that are none; lost: slots of which there is only such.
struct lt_slots_check {
    uint64_t used, unsound, lost;
};
void lt_slots_check(struct lt_slots *s, struct lt_slots_check *out);
// lt_slots_next iterates: returns the first used slot numbered *at or higher and moves *at past it.
struct lt_slot *lt_slots_next(struct lt_slots *s, uint32_t *at);
// lt_slots_sync makes durable what was stored before the call, in one sync with others who wait.
// Returns  LEAT_EIO, LEAT_ENOSPC; LEAT_EPOISONED: an earlier one has failed. A failure poisons the
// store. Locks    none held.
int lt_slots_sync(struct lt_slots *s);
// lt_slots_poisoned tells whether a sync has failed.
bool lt_slots_poisoned(const struct lt_slots *s);

#endif
