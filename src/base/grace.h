/* SPDX-License-Identifier: MIT */
// grace frees immutable snapshots when their last reader has left. A reader enters, loads the
// pointer to the snapshot, uses it, leaves: no lock, no allocation. A writer stores a pointer to a
// new snapshot, then retires the old one, which is freed once nobody can still see it.
//
// What the caller owes: the pointer is atomic, loaded and stored with memory_order_seq_cst (the
// default); it is loaded between enter and leave; it is stored before retire.
//
// Why it is safe. Readers count themselves in one of two phases, in one of several stripes: 16
// counters, each of which falls to 0 only when all who entered through it have left. An object is
// freed only after each of the 16 was seen at 0 once, at any moment after the object was retired.
// All of these accesses are seq_cst, so there is one order of them:
//
//     reader R                        writer W, or whoever polls
//     count[i] += 1        (1)
//     s = load pointer     (2)
//                                     store new pointer     (3)
//                                     retire(old)           (4)
//     ... uses s ...                  load count[i]         (5)  sees R's 1 or more: not yet
//     count[i] -= 1        (6)
//                                     load count[i]         (7)  sees 0: R is through
//
// If R got the old pointer, (2) came before (3), so (1) came before (5): until (6) nobody can see
// that counter at 0, and who sees the 0 also sees all that R did before. If (1) comes after (3), R
// gets the new pointer and does no harm, whichever phase it counted in: R may have read the phase
// long ago, since safety does not hang on the phase.
// The phases are there for progress only: with one, readers that overlap for ever would never let
// it reach 0. So a batch of retired objects waits (a) until the idle phase was seen at 0, which
// only stragglers could prevent; (b) flips, so that new readers use that phase; (c) waits until the
// other phase, where nobody new arrives, was seen at 0. Then it is freed and the next batch begins.
#ifndef LT_BASE_GRACE_H
#define LT_BASE_GRACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LT_GRACE_STRIPES = 8, // arbitrary: more than the threads that publish at once on small machines
    LT_GRACE_PLACES = 2 * LT_GRACE_STRIPES,
    LT_GRACE_LINE = 64,  // bytes; stripes this far apart share no cache line
    LT_GRACE_BITS = 20,  // of a counter of readers: more than stacks have room for
    LT_GRACE_ALONE = 256 // in a token
};

// struct lt_retired is put into what will be retired; only grace touches it.
struct lt_retired {
    struct lt_retired *next;
    void (*free_fn)(struct lt_retired *r);
};

// struct lt_grace_stripe counts the readers of each phase whose thread number falls on this stripe.
struct lt_grace_stripe {
    // Seq_cst, see the head: the low LT_GRACE_BITS bits are who is in, those above how many have
    // ever entered, which costs nothing beside.
    _Atomic uint64_t readers[2];
    char pad[LT_GRACE_LINE - 2 * sizeof(uint64_t)];
};

struct lt_grace {
    atomic_uint phase;  // 0 or 1: where readers count themselves now; seq_cst; the poller flips it
    atomic_size_t owed; // retired and not yet freed; seq_cst; leave looks at this alone
    atomic_uint polls;  // polls asked for; who raises it from 0 is the poller until it is 0 again
    _Atomic(struct lt_retired *)
        incoming; // pushed by any thread, taken whole by the poller; seq_cst
    // -- the poller's --
    struct lt_retired *batch; // waits for its readers
    bool flipped;             // the batch is in step (c)
    char pad[LT_GRACE_LINE];
    struct lt_grace_stripe stripe[LT_GRACE_STRIPES];
    char tail_pad[LT_GRACE_LINE];
};

// lt_grace_init sets g up; it allocates nothing.
void lt_grace_init(struct lt_grace *g);

// lt_grace_enter begins a read section. Sections nest, and each has its own token.
// Returns: the token for lt_grace_leave.
// Threads: any. Blocks: never.
uint32_t lt_grace_enter(struct lt_grace *g);

// lt_grace_place is a number below LT_GRACE_PLACES that no other section has until this one, whose
// token it is, ends; or -1: others were in where it entered.
static inline int lt_grace_place(uint32_t token) {
    return token & LT_GRACE_ALONE ? (int)(token & ~(uint32_t)LT_GRACE_ALONE) : -1;
}

// lt_grace_leave ends the section of that token: what was read in it may be gone now. It may run
// the free functions of what others retired. Threads: any, also another one than entered. Blocks:
// never.
void lt_grace_leave(struct lt_grace *g, uint32_t token);

// lt_grace_entered is how many sections were begun so far. Threads: any.
uint64_t lt_grace_entered(const struct lt_grace *g);

// lt_grace_retire hands over an object which readers can no longer find. free_fn(r) runs once, on
// whatever thread finds out that the last reader has left: here, in a later leave, retire, poll, or
// in drain. It runs with no lock of grace held and may itself enter, leave, retire and poll; it is
// never run inside another free_fn. It must not need a lock that a caller of leave or retire holds.
// Owns: g, until free_fn.
// Threads: any, also inside a read section (r then waits for its end). Blocks: never; no
// allocation.
void lt_grace_retire(struct lt_grace *g, struct lt_retired *r,
                     void (*free_fn)(struct lt_retired *r));

// lt_grace_poll frees what is past its grace. When another thread is at it, that thread is told to
// look again, and this one returns at once. Nobody needs to call it for safety or, as long as
// sections are entered and left, for progress.
// Threads: any, also inside a read section. Blocks: never.
void lt_grace_poll(struct lt_grace *g);

// lt_grace_drain frees everything that was retired, also what free functions retire meanwhile.
// Threads: no section is open, and no other call on g is running or will come.
void lt_grace_drain(struct lt_grace *g);

#endif
