/* SPDX-License-Identifier: MIT */
// queued: a subscription with a mailbox. Publishers put in; the callback thread (or whoever
// dispatches), or leat_subscription_next, takes out.
//
// Invariants
//  1. A publisher that has found the subscription is in a section of grace, so that lock and memory
//     stay for it; all else ends with the subscription, and nobody touches it once `closed` is set.
//  2. What waits is in the mailbox, or in the hand of the errand: a batch that it took out, each of
//     which it claims, one by one, before it calls fn; who closes claims all that are left. So
//     each message is delivered, or counted by the one who closes; never both.
//  3. Publishers that wait for room stand in line, and none puts anything past them.
//  4. `told`: the errand is posted, or will look again. It is cleared under the lock with nothing
//  in
//     the mailbox. `sleeps`: next waits; cleared by who wakes it.
#ifndef LT_PUBSUB_QUEUED_H
#define LT_PUBSUB_QUEUED_H

#include "pubsub/channel.h"
#include "pubsub/mailbox.h"

struct lt_queued {
    struct lt_mutex lock; // guards what follows, but where it says otherwise
    struct lt_mailbox box;
    struct lt_copy *spare;      // copies that were heard, to be used again
    _Atomic size_t spare_bytes; // stored under lock, relaxed: a hint
    struct lt_list line;        // struct queued_place: publishers that wait for room
    _Atomic bool wants;         // one in the line is to be woken; stored under lock; seq_cst
    _Atomic uint32_t in_hand;   // see invariant 2; raised under lock; seq_cst
    uint64_t taken;             // out of the mailbox, ever
    uint64_t stop_after;        // does not change, as the next; 0: never
    int64_t block_ms;
    leat_subscription *owner; // does not change
    bool pulled;              // leat_subscription_next; does not change
    bool sealed;              // no more is put in
    bool closed;              // and no more taken out
    bool leaves;              // closed while the errand runs, which then ends it
    bool running;             // the errand
    bool told, sleeps;        // see invariant 4
    bool drains;              // a closer waits for the mailbox to be empty
    bool slow;                // something was dropped since it was last empty
    bool over;                // .stop_after messages were delivered
    atomic_bool busy;         // a call of next, or a close that drains, is under way; seq_cst
    pthread_t ender;          // where next runs it
    struct lt_errand errand;
    struct lt_waiter waiter; // of next; of a close that drains
    struct lt_beacon beacon; // lit while there is something for next
};

// lt_queued_begin makes it. Returns  LEAT_ENOMEM: also if there is no thread to be had.
int lt_queued_begin(leat_subscription *s, const leat_subscription_options *o);
// lt_queued_abandon ends what nobody has found; lt_queued_free frees what grace gives back;
// lt_queued_forget is both, in a fork, and takes no lock that somebody may hold. NULL is fine.
void lt_queued_abandon(leat_subscription *s);
void lt_queued_free(leat_subscription *s);
void lt_queued_forget(leat_subscription *s);

// lt_queued_hear puts what is published into the mailbox. May wait.
// Returns  whether it was taken. Threads  as lt_subscription_deliver.
bool lt_queued_hear(leat_subscription *s, struct lt_publish *call);
// lt_queued_done ends a publish that made a copy.
void lt_queued_done(struct lt_publish *call);

// lt_queued_ring says that there may be something in the topic of a tap. Locks: any below COURIER.
void lt_queued_ring(leat_subscription *s);
// lt_queued_waiting is how many wait. Locks: the queued's.
uint64_t lt_queued_waiting(struct lt_queued *q);
// lt_queued_taken_locked is what follows when messages were taken out: who waits for room is woken.
void lt_queued_taken_locked(leat *mq, struct lt_queued *q);
// lt_queued_end is the last thing that becomes of s.
void lt_queued_end(leat_subscription *s);
// lt_queued_close closes s. Returns  LEAT_EBUSY, or how many waited and were not delivered.
int lt_queued_close(leat_subscription *s, int64_t drain_ms);

#endif
