/* SPDX-License-Identifier: MIT */
// beacon: a descriptor that is readable while something is there, for poll(2). There is none until
// somebody asks for it; until then raising and lowering it are one load.
//
// Who raises it has said before what is there; who lowers it looks once more afterwards, and raises
// it if there is something: so it may shine for nothing, and is never dark while something is
// there. state is seq_cst for that.
#ifndef LT_BASE_BEACON_H
#define LT_BASE_BEACON_H

#include "base/sync.h"

#include <stdatomic.h>

enum lt_beacon_state { LT_BEACON_NONE, LT_BEACON_DARK, LT_BEACON_LIT };

struct lt_beacon {
    struct lt_mutex lock; // guards fd and, with state, what is in the pipe
    _Atomic int state;    // enum lt_beacon_state; stored under lock, read anywhere
    int fd[2];            // a pipe with a byte in it while lit; -1: nobody asked
};

int lt_beacon_init(struct lt_beacon *b);
void lt_beacon_fini(struct lt_beacon *b);
// lt_beacon_open returns the descriptor; one that is new is lit. what: "leat_fd".
// Returns  LEAT_ENOMEM, which names it.
int lt_beacon_open(struct lt_beacon *b, const char *what);
// lt_beacon_set lights or darkens it; as often as you like. Locks: any below LEAF.
void lt_beacon_set(struct lt_beacon *b, enum lt_beacon_state state);

static inline void lt_beacon_raise(struct lt_beacon *b) {
    if (atomic_load(&b->state) == LT_BEACON_DARK)
        lt_beacon_set(b, LT_BEACON_LIT);
}
static inline void lt_beacon_lower(struct lt_beacon *b) {
    if (atomic_load(&b->state) == LT_BEACON_LIT)
        lt_beacon_set(b, LT_BEACON_DARK);
}
// lt_beacon_asked tells whether there is a descriptor.
static inline bool lt_beacon_asked(struct lt_beacon *b) {
    return atomic_load(&b->state) != LT_BEACON_NONE;
}

#endif
