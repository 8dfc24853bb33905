/* SPDX-License-Identifier: MIT */
// channel: who listens to what. A hash table from name to channel, and one from prefix to the
// patterns that begin with it; for each channel and prefix the list of subscriptions in the order
// in which they came.
//
// Publishers read all of this without a lock while others change it:
//
//   names ----> slot[ ] -> lt_channel -> first -> subscription -> next -> subscription -> NULL
//   prefixes -> slot[ ] -> lt_channel -> first -> subscription -> next -> NULL
//
// The prefix of a pattern is what stands before its first special byte, so a publish looks at those
// patterns only whose prefix its channel has: one search for each length that a prefix has.
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
//  4. A channel, or a prefix, is in its table exactly as long as its list is not empty. The bit of
//  a
//     prefix's length is set as long as a list of one of that length is not empty.
//  5. A slot whose channel went holds a marker that no name equals, so that the search goes on
//     behind it, until the table is made anew. At least a quarter of the slots is NULL.
#ifndef LT_PUBSUB_CHANNEL_H
#define LT_PUBSUB_CHANNEL_H

#include "log/log.h"
#include "base/core.h"
#include "base/glob.h"
#include "base/grace.h"

struct lt_listeners {
    _Atomic(leat_subscription *) first; // an arrow, see invariant 1
    leat_subscription *last;            // guarded by lt_channels.lock
};

struct lt_channel { // or a prefix
    struct lt_retired retired;
    struct lt_mem *mem;
    struct lt_listeners listeners;
    uint64_t hash;
    size_t name_len;
    char name[]; // and a NUL
};

// lt_channel_gone marks a slot whose channel went. No name is that long. Never written.
extern struct lt_channel lt_channel_gone;

struct lt_channel_table {
    struct lt_retired retired;
    struct lt_mem *mem;
    size_t mask;                         // slots - 1
    _Atomic(struct lt_channel *) slot[]; // arrows; linear probing from hash & mask
};

struct lt_names {
    _Atomic(struct lt_channel_table *) table; // an arrow; NULL before the first one
    size_t live, used;                        // guarded by lock: names; slots that are not NULL
};

enum { LT_PREFIX_WORDS = LT_PATTERN_MAX / 64 + 1 };

// A publish in its own place shows in it which subscription it is at: a step on one word, where
// counting itself in and out of the subscription's own are two.
struct lt_place {
    _Atomic(leat_subscription *) at; // NULL: at none; seq_cst, see subscription.c
    char pad[LT_GRACE_LINE - sizeof(void *)];
};

struct lt_stand {           // of one publish
    struct lt_place *place; // NULL: it has none, and counts itself
    leat_subscription *at;  // as the place says
};

struct lt_channels {
    uint64_t seed; // of the tables' hash
    struct lt_names names, prefixes;
    // Bit n: there may be a prefix of n bytes. seq_cst; stored under lock.
    _Atomic uint64_t lengths[LT_PREFIX_WORDS];
    uint32_t length_count[LT_PATTERN_MAX + 1]; // prefixes of that length; guarded by lock
    _Atomic uint64_t serial;     // of the youngest subscription; seq_cst; stored under lock
    struct lt_mutex lock;        // guards every change of who listens
    struct lt_list recorders;    // struct lt_recorder; guarded by lock
    struct lt_mutex idle_lock;   // guards the way into `idle`: who waits looks at its word under it
    struct lt_cond idle;         // some subscription that is closed may have nobody at it
    _Atomic uint64_t no_publish; // sections of grace that were not one; relaxed
    struct lt_place
        place[LT_GRACE_PLACES]; // each belongs to the section of grace that has its number
    struct lt_grace grace;      // frees subscriptions, channels and tables
};

enum { LT_PUBLISH_DEPTH = 64 }; // so many publishes inside each other, of callbacks

struct lt_publish { // one publish, on its publisher's stack
    leat *mq;
    leat_message *m;
    uint64_t serial; // of before any list was looked at, see invariant 3
    struct lt_stand stand;
    int heard;
    int rc;                        // < 0: who listens and had no room, or the end of a wait
    const leat_subscription *full; // who it was
    bool dated;                    // m says when
    bool waited;                   // it is counted, see lt_begin_counted
    struct lt_copy *copy;          // for all who queue; NULL: none has heard it yet
    int copies;                    // of its references, given away
};

// word says how it ends, and how many publishes without a place are at it; seq_cst. See
// subscription.c.
struct leat_subscription {
    struct lt_retired retired;
    leat *mq;
    leat_message_fn fn;
    void *ctx;
    void (*on_end)(void *ctx);         // NULL: nobody asked, or it has run
    _Atomic(leat_subscription *) next; // an arrow
    uint64_t serial;
    _Atomic uint32_t word;
    uint32_t pattern_len;
    struct lt_queued *queued;     // NULL: inline
    struct lt_tap *tap;           // NULL: it hears channels
    struct lt_recorder *recorder; // NULL: it stores nothing
    uint64_t stop_after;          // inline: calls of fn until the end; 0: none
    _Atomic uint64_t begun, done; // of these; seq_cst
    bool exact;                   // the pattern is a channel's name
    bool tokens;                  // it is one of tokens, not a glob
    struct lt_names *names;       // where its channel, or prefix, stands
    struct lt_channel *channel;   // that; NULL: taken out. Guarded by lock, as the next
    leat_subscription *prev;
    struct lt_child child;
    char pattern[]; // or the channel's name; a NUL; the name for traces, if there is one; a NUL
};

// lt_channel_join_locked puts s, whose names and pattern, or channel's name, are set, behind the
// others.
// Returns  LEAT_ENOMEM: nothing changed.
int lt_channel_join_locked(leat *mq, leat_subscription *s);

// lt_channel_leave_locked takes s out, if it is not. A channel that nobody is left in goes too.
void lt_channel_leave_locked(struct lt_channels *cs, leat_subscription *s);

// lt_subscription_new makes one, and lt_subscription_drop frees one that nobody has found.
// Returns  NULL, and says that memory is out.
leat_subscription *lt_subscription_new(leat *mq, const char *pattern, const char *name);
void lt_subscription_drop(leat_subscription *s);

// lt_subscription_deliver calls fn unless s is closed; stand is then at s, until the next one or
// lt_stand_leave.
// Returns  whether it called it.
// Threads  any, in a section of grace that began before s was found. Locks: none held.
bool lt_subscription_deliver(struct lt_stand *stand, leat_subscription *s, const leat_message *m);

// lt_stand_leave ends the last delivery of a publish, in the same section.
void lt_stand_leave(struct lt_stand *stand);

// lt_subscription_call is one call of fn.
static inline void lt_subscription_call(leat_subscription *s, const leat_message *m) {
    lt_callback_begin();
    s->fn(s, m, s->ctx);
    lt_callback_end();
}
// lt_subscription_say_end runs on_end, once.
void lt_subscription_say_end(leat_subscription *s);
// lt_subscription_retire hands the memory to grace.
void lt_subscription_retire(leat_subscription *s);
// lt_subscription_leave takes s out of its list, if it is there. Locks: any below CHANNELS.
void lt_subscription_leave(leat_subscription *s);
void lt_subscription_trace(const leat_subscription *s, const char *event);

// lt_channel_publish publishes m, whose bytes are checked.
// Returns  how many heard it, or why not.
int lt_channel_publish(leat *mq, const char *channel, leat_message *m);

#endif
