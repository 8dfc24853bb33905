/* SPDX-License-Identifier: MIT */
// leases: one slot for each message of a queue that is in flight or waits for a time, over all of
// its partitions. A pure structure: time comes in as a number, nothing is locked, and what a lease
// means for the message is the caller's business (window, word).
//
//             lt_leases_add                    lt_leases_remove
//   FREE  ------------------> LEASED, DELAYED, MOVING  ------------------> FREE
//                               '-- lt_leases_set --'
//
// A receipt is the slot (24 bits) and the generation (40 bits) of one hand-out. The caller counts
// generations store-wide and never uses one twice, so an old receipt cannot fit the next lease in
// the same slot. Slots are reused oldest first, so that a slot stays empty for as long as it can.
//
// Due times come out by (due, order), where order counts each lt_leases_add and lt_leases_set: what
// falls due at the same time comes out in the order in which it was set. Nearly all leases of a
// queue last equally long, so they fall due in the order of their adding, and a list is a better
// queue for them than a heap. A lease goes to the end of a run (a list in due order) where it fits;
// of several, to the one that ends latest, so that a run with one far due time does not swallow
// the rest. What fits nowhere goes into the heap. Each kind of timeout in use finds a run; with
// more kinds than runs, or due times at random, this is a heap. With runs, settling the oldest
// lease and adding the next costs the same at 1,000 and at 1,000,000 in flight.
//
// Everything is O(log n) or O(1), and only lt_leases_reserve allocates: it makes the slot and its
// place in the heap together, so that settling can never fail for want of memory. 96 bytes a slot
// and 8 to 16 in the heap, never given back before lt_leases_fini.
//
// Invariants (lt_leases_check restates them):
//  1. made <= room <= cap; slot i is lease i, and its address never changes.
//  2. A lease is FREE and in the list of free slots, or is neither; its generation is 0 only then.
//  3. A lease is in one run, or in the heap, if and only if its due time is not LT_LEASE_NEVER;
//     never when FREE.
//  4. Each run is in order of (due, order).
//  5. The heap has a place for each slot below room.
//  6. count[s] leases below made are in state s.
//  7. A lease that lingers is DELAYED.
//
// Threads: none of this locks; the owner's lock guards it and all its leases.
#ifndef LT_QUEUE_LEASES_H
#define LT_QUEUE_LEASES_H

#include "base/heap.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/stretch.h"

#include <stdbool.h>
#include <stdint.h>

#define LT_LEASE_SLOTS_MAX      ((UINT32_C(1) << 24) - 1)
#define LT_LEASE_GENERATION_MAX ((UINT64_C(1) << 40) - 1)
#define LT_LEASE_NEVER          INT64_MAX // a due time that does not come

enum { LT_LEASE_RUNS = 4 }; // visibility, delay, backoff, and one to spare

enum {
    LT_LEASE_FREE,
    LT_LEASE_LEASED,  // handed out; due: the lease ends
    LT_LEASE_DELAYED, // waits; due: available again
    LT_LEASE_MOVING,  // on its way to the dead-letter queue; due: the next try
    LT_LEASE_STATES
};

// One message in flight or waiting. The caller may write view, deliveries, who and lingers, and
// use link for a list of its own while the lease is not FREE; everything else is set through the
// functions below.
struct lt_lease {
    uint64_t generation; // of this hand-out, 1 .. LT_LEASE_GENERATION_MAX; 0 when FREE
    int64_t offset;      // in the partition
    int64_t due_ns;      // on the caller's clock, or LT_LEASE_NEVER
    uint64_t order;      // of equal due times the lower comes first
    uint64_t note;       // the caller's, 0 when added
    uint32_t partition;
    uint32_t slot; // its own number, the upper 24 bits of the receipt
    uint16_t deliveries;
    uint8_t state; // LT_LEASE_...
    uint8_t who;   // the caller's, 0 when added
    bool lingers;  // the caller's, lt_leases_set unsets it: DELAYED, but the receipt is still good
    struct lt_heap_node node;
    struct lt_node run;
    struct lt_node link; // in the list of free slots, or the caller's
};

// The caller may read count; it writes nothing.
struct lt_leases {
    uint32_t count[LT_LEASE_STATES]; // slots in each state
    // -- of leases.c only --
    uint32_t made;                     // slots that were used at least once
    uint32_t room;                     // slots that have memory and a place in the heap
    uint32_t cap;                      // slots that there may be
    uint64_t order;                    // the last one given out
    struct lt_list free;               // oldest first
    struct lt_list run[LT_LEASE_RUNS]; // each by (due_ns, order)
    struct lt_heap due;                // by (due_ns, order) too: what fits into no run
    struct lt_stretch slots;           // of struct lt_lease
};

// lt_leases_init makes l empty, for at most cap leases at a time; cap 0, or more than
// LT_LEASE_SLOTS_MAX, is LT_LEASE_SLOTS_MAX. It allocates nothing. mem must outlive l, and l stays
// where it is.
void lt_leases_init(struct lt_leases *l, struct lt_mem *mem, uint32_t cap);

// lt_leases_fini frees all slots. Twice is harmless.
void lt_leases_fini(struct lt_leases *l);

// lt_leases_reserve makes sure that the next lt_leases_add does not fail.
// Returns: 0, LEAT_ENOMEM (nothing changed), LEAT_EFULL (cap leases are in use).
int lt_leases_reserve(struct lt_leases *l);

// lt_leases_add takes a slot for a message. state is not FREE, generation is new and within
// 1 .. LT_LEASE_GENERATION_MAX. It allocates nothing.
// Returns: the lease, its view 0; NULL, with nothing changed, if there is no slot
// (lt_leases_reserve was left out), or state or generation is not valid.
// Owns: l; valid until lt_leases_remove.
struct lt_lease *lt_leases_add(struct lt_leases *l, uint32_t partition, int64_t offset, int state,
                               int64_t due_ns, uint32_t deliveries, uint64_t generation);

// lt_lease_receipt is what the user settles with. 0 is never one.
static inline uint64_t lt_lease_receipt(const struct lt_lease *lease) {
    return (uint64_t)lease->slot << 40 | lease->generation;
}

// lt_leases_find returns the lease of a receipt that is still good.
// Returns: NULL if it is stale, forged, or its message is not LEASED any more, and does not linger.
// A lease which has fallen due is found for as long as the caller leaves it LEASED.
struct lt_lease *lt_leases_find(const struct lt_leases *l, uint64_t receipt);

// lt_leases_set gives lease, which is not FREE, another state (not FREE) and due time, and a new
// order. It allocates nothing.
void lt_leases_set(struct lt_leases *l, struct lt_lease *lease, int state, int64_t due_ns);

// lt_leases_remove frees the slot; a lease that is FREE already stays so. link is taken out of the
// caller's list. It allocates nothing.
void lt_leases_remove(struct lt_leases *l, struct lt_lease *lease);

// lt_leases_next_due stores the due time of what lt_leases_pop_due returns next.
// Returns: false, and LT_LEASE_NEVER, if nothing waits.
bool lt_leases_next_due(const struct lt_leases *l, int64_t *due_ns);

// lt_leases_pop_due returns the first lease, by (due, order), that is due at now_ns or before. It
// is not FREE and keeps its state, but has no due time any more: the caller sets or removes it.
// Returns: NULL if there is none.
struct lt_lease *lt_leases_pop_due(struct lt_leases *l, int64_t now_ns);

// lt_leases_walk returns the leases that are not FREE one after the other, by slot. *cursor is 0 to
// begin with. The lease it returned last may be set or removed.
// Returns: NULL behind the last.
struct lt_lease *lt_leases_walk(const struct lt_leases *l, uint32_t *cursor);

// lt_leases_check says whether the invariants hold. For tests: it reads every slot.
bool lt_leases_check(const struct lt_leases *l);

#endif
