/* SPDX-License-Identifier: MIT */
// channel: who listens to what. A hash table from name to channel; for each channel, and once for
// all patterns, the list of subscriptions in the order in which they came.
//
// Publishers read all of this without a lock while others change it:
//
//   table -> slot[ ] -> lt_channel -> first -> subscription -> next -> subscription -> next -> NULL
//   patterns ------------------------> first -> subscription -> next -> NULL
//
// What changes, changes by one store to one of these arrows, under `lock`; what is no longer
// pointed at is retired to `grace` and freed when every publisher who may see it has left.
// Joining costs one allocation (and one for a new channel), leaving costs none and cannot fail.
//
// Invariants
//  1. The arrows are stored under `lock` and loaded in a section of `grace` (or under `lock`), all
//     seq_cst, which is what grace.h asks for.
//  2. Who is taken out of a list keeps its own `next`: a publisher that stands on it gets on. That
//     is safe: it came here while this one was still linked; if the one that `next` names was taken
//     out too, then later, and so its grace also waits for that publisher.
//  3. Serials rise along each list. A publisher reads `serial` once, before it looks at a list, and
//     ends at the first that is newer: it calls who listened when it began, as if it had a copy of
//     the list. A callback that subscribes cannot make the publish that called it go on for ever.
//  4. A channel is in the table exactly as long as its list is not empty.
//  5. A slot whose channel went holds a marker that no name equals, so that the search goes on
//     behind it, until the table is made anew. At least a quarter of the slots is NULL.
#ifndef LT_PUBSUB_CHANNEL_H
#define LT_PUBSUB_CHANNEL_H

#include "base/core.h"
#include "base/grace.h"

struct lt_listeners {
    _Atomic(leat_subscription *) first; // an arrow, see invariant 1
    leat_subscription *last;            // guarded by lt_channels.lock
};

struct lt_channel {
    struct lt_retired retired;
    struct lt_mem *mem;
    struct lt_listeners listeners;
    uint64_t hash;
    size_t name_len;
    char name[]; // and a NUL
};

struct lt_channel_table {
    struct lt_retired retired;
    struct lt_mem *mem;
    size_t mask;                         // slots - 1
    _Atomic(struct lt_channel *) slot[]; // arrows; linear probing from hash & mask
};

struct lt_channels {
    uint64_t seed;                            // of the table's hash
    _Atomic(struct lt_channel_table *) table; // an arrow; NULL before the first channel
    struct lt_listeners patterns;
    _Atomic uint64_t serial;     // of the youngest subscription; seq_cst; stored under lock
    size_t live, used;           // guarded by lock: channels; slots that are not NULL
    struct lt_mutex lock;        // guards every change of who listens
    struct lt_mutex idle_lock;   // guards the way into `idle`: who waits looks at its word under it
    struct lt_cond idle;         // the calls of some subscription have come down to 0
    _Atomic uint64_t no_publish; // sections of grace that were not one; relaxed
    struct lt_grace grace;       // frees subscriptions, channels and tables
};

// word says how many calls of fn run, and how it ends; seq_cst. See subscription.c.
struct leat_subscription {
    struct lt_retired retired;
    leat *mq;
    leat_message_fn fn;
    void *ctx;
    void (*on_end)(void *ctx);         // may be NULL
    _Atomic(leat_subscription *) next; // an arrow
    uint64_t serial;
    _Atomic uint32_t word;
    uint32_t pattern_len;
    struct lt_channel *channel; // NULL: a pattern. Guarded by lock, as the next
    leat_subscription *prev;
    struct lt_child child;
    char pattern[]; // or the channel's name; a NUL; the name for traces, if there is one; a NUL
};

// lt_channel_make_locked finds the channel of that name, or makes it. A new one that nobody joins
// before the lock is released breaks invariant 4.
// Returns  LEAT_ENOMEM: nothing changed.
int lt_channel_make_locked(leat *mq, const char *name, size_t name_len, struct lt_channel **out);

// lt_channel_join_locked puts s, whose pattern, or channel, is set, behind the others.
void lt_channel_join_locked(struct lt_channels *cs, leat_subscription *s);

// lt_channel_leave_locked takes s out. A channel that nobody is left in goes too.
void lt_channel_leave_locked(struct lt_channels *cs, leat_subscription *s);

// lt_subscription_deliver calls fn unless s is closed.
// Returns  whether it called it.
// Threads  any, in a section of grace that began before s was found. Locks: none held.
bool lt_subscription_deliver(leat_subscription *s, const leat_message *m);

#endif
