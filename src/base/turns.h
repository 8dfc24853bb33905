/* SPDX-License-Identifier: MIT */
// turns: something long, a sync, that one thread at a time does for all who came before it began.
// Who comes meanwhile waits for the next turn, which one of those who wait begins. Only they are
// woken whom it concerns: those whose turn has ended, and one of those of the next.
//
//     lt_lock(mu);
//     while (what we want is not done)
//         if (t->under_way)
//             lt_turns_wait(t, mu, it covers us);
//         else {
//             lt_turns_begin(t);
//             ... without the lock ...
//             lt_turns_end(t);
//         }
//     lt_turns_unlock(t, mu);
#ifndef LT_BASE_TURNS_H
#define LT_BASE_TURNS_H

#include "base/sync.h"

// All of it is guarded by a lock of its owner's, the conditions are used with it.
//
// Invariant: where somebody waits, a turn is under way, or a thread is on its way that begins one
// or passes that on: who has begun a turn, or waited, unlocks by lt_turns_unlock, which wakes one
// that waits for the next unless it is under way.
struct lt_turns {
    uint64_t number; // of the turn that is under way, or was the last
    bool under_way;
    bool untold;             // it has ended, and those who wait for it do not know
    struct lt_cond ended[2]; // the turn of an even or an odd number has ended, or is to begin
};

int lt_turns_init(struct lt_turns *t);
void lt_turns_fini(struct lt_turns *t);

// lt_turns_begin begins a turn, if none is under way. Returns  its number. lt_turns_end ends it.
uint64_t lt_turns_begin(struct lt_turns *t);
void lt_turns_end(struct lt_turns *t);

// lt_turns_wait waits for the end of the turn that is under way, or, if that is not ours, for the
// begin or the end of the next. It may wake for no reason: look at the state, in a loop.
void lt_turns_wait(struct lt_turns *t, struct lt_mutex *mu, bool ours);

// lt_turns_unlock unlocks mu, then wakes who can go on.
void lt_turns_unlock(struct lt_turns *t, struct lt_mutex *mu);

#endif
