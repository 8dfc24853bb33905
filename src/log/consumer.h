/* SPDX-License-Identifier: MIT */
// consumer: positions in partitions, and the poll that moves them. What its files share:
//
//   consumer   open, close, one thread at a time; the partitions and ears it has
//   subscribe  which partitions are to be read: by name in a group, or assigned by hand
//   rebalance  what the group has shared out anew, from the member's side
//   event      what is told of that, and where user code runs
//   poll       the happy path: end the views of the last poll, take over and give up partitions,
//              read what is there. If nothing is: back off, register for news with each partition,
//              look once more, wait
//   commit     positions, stored; commit_async without waiting for it
//   seek       positions, moved and looked at; explain says why nothing comes
//   push       leat_consumer_start: threads that poll, call a handler and commit
//   wakeup     who waits for it elsewhere: wake-ups, and a descriptor for poll(2)
//
// What poll returned is pinned by one token per partition and segment; the tokens end at the next
// poll.
#ifndef LT_LOG_CONSUMER_H
#define LT_LOG_CONSUMER_H

#include "base/beacon.h"
#include "log/group.h"
#include "log/log.h"

enum { LT_CONSUMER_PATIENCE = 3 }; // see consumer_gather_more

struct lt_lane; // see push
struct lt_push;

struct lt_consumer_part {
    struct lt_lane *lane;      // of a push: its messages that are not handled; NULL: none yet
    struct lt_cursor cursor;   // offset -1: no place to start, see LEAT_NONE
    struct lt_segment *pinned; // the segment that token pins, borrowed from the token
    uint64_t token;            // 0: none
    uint32_t epoch;            // of the claim when it was taken over
    bool returned;             // the last poll returned messages under this token
    bool paused;               // poll leaves it out
    bool held;                 // by the push: not read on, its messages are not all handled
    bool uncommitted;          // some poll has returned messages since the last commit
    bool revoking;             // told to be revoked: the next look gives it up
    int64_t seen;              // its end when bytes were counted
    int64_t end_told;          // where LEAT_EV_END was told last
};

struct lt_consumer_ear { // one per topic that is read
    struct lt_ear ear;
    leat_consumer *c;
    leat_topic *topic;
    struct lt_node node;
};

struct lt_commits; // asynchronous ones, see commit_async.c

struct leat_consumer {
    leat *mq;
    struct lt_child child;
    const char *name;
    atomic_bool busy; // a call is in progress: acquire on entry, release on leaving
    int32_t start;
    bool durable; // reads below the durable end only
    bool commit_disk, report_end;
    _Atomic uint64_t read; // messages that poll returned; relaxed, written by its own calls alone
    size_t records_max;
    int64_t bytes_min, bytes_max, wait_ms; // of a poll
    struct lt_group *group;                // NULL: none
    struct lt_member member;
    bool assigned; // by hand
    struct lt_waiter waiter;
    struct lt_beacon beacon; // lit while poll may return something
    atomic_bool woken;       // the poll under way, or the next, is to return 0; seq_cst
    struct lt_list ears;
    struct lt_consumer_part *part;
    size_t part_count, part_room, turn; // turn: which one poll reads first
    struct lt_commit_at *at;            // of a commit: room for as many as there are parts
    size_t at_room;
    const leat_topic *lost; // a poll gave up a partition of it uncommitted: the next commit says so
    int32_t lost_partition;
    leat_message *messages;
    size_t message_room;
    uint64_t *old_tokens; // of segments left during the last poll
    size_t old_count, old_room;
    int few, patience; // see consumer_gather_more
    leat_event_fn on_event;
    void *event_ctx;
    leat_event *event; // a ring
    size_t event_first, event_count, event_room;
    bool asks;                // leat_consumer_event was called
    _Atomic uintptr_t teller; // which thread is in a callback of c, 0: none; relaxed: compared by
                              // a thread with itself only
    int64_t interval_ms;      // 0: never expelled, and expiry is no entry
    struct lt_due expiry;
    int64_t auto_ms, auto_ns;       // 0: not by itself; when the next automatic commit is due
    struct lt_commits *commits;     // NULL: there was none
    _Atomic(struct lt_push *) push; // whose it is now; NULL: its callers'; seq_cst
};

// lt_consumer_enter begins a call on c, lt_consumer_leave ends it; lt_consumer_enter_event begins
// one that may be made in a callback of c, too. Returns  LEAT_EBUSY.
int lt_consumer_enter(leat_consumer *c);
int lt_consumer_enter_event(leat_consumer *c);
int lt_consumer_leave(leat_consumer *c, int rc);

// lt_consumer_find returns a partition of c, or NULL.
struct lt_consumer_part *lt_consumer_find(leat_consumer *c, const leat_topic *t, int32_t partition);
// lt_consumer_add_part adds one, to be read from offset on. Returns  LEAT_ENOMEM.
int lt_consumer_add_part(leat_consumer *c, struct lt_partition *p, int64_t offset);
// lt_consumer_drop_part ends its views, and it is c's no more.
void lt_consumer_drop_part(leat_consumer *c, struct lt_consumer_part *part);
// lt_consumer_drop_all drops all partitions and ears.
void lt_consumer_drop_all(leat_consumer *c);
// lt_consumer_listen hears of what is appended to t. Returns  LEAT_ENOMEM.
int lt_consumer_listen(leat_consumer *c, leat_topic *t);
// lt_consumer_deafen takes back one of its ears.
void lt_consumer_deafen(leat_consumer *c, struct lt_consumer_ear *e);

// lt_consumer_notify says that poll may have something to return: whoever waits for it looks again.
// Threads  any. Locks: any below CLOCK.
void lt_consumer_notify(leat_consumer *c);
// lt_consumer_arm registers for news everywhere. lacks: only for more than the bytes that were
// counted. Returns  true if there is something to look at already.
bool lt_consumer_arm(leat_consumer *c, bool lacks);
// lt_consumer_woken takes a wake-up that poll is to end for.
bool lt_consumer_woken(leat_consumer *c);
// lt_consumer_rest ends a poll that found n messages: the descriptor is dark if there is nothing
// more.
void lt_consumer_rest(leat_consumer *c, size_t n);

// lt_consumer_poll is leat_poll from within: *n messages are in c->messages.
int lt_consumer_poll(leat_consumer *c, int64_t timeout_ms, size_t *n);
// lt_push_keeps tells whether a partition that another member is to have cannot go yet: a message
// of it is with a handler, or its result is not committed. It will, and c is told. Locks: the
// group's.
bool lt_push_keeps(leat_consumer *c, struct lt_consumer_part *part);

// lt_consumer_rebalance takes over what the group has given to c. give: this is a poll, and what
// another member is to have is marked and told as revoked at one look, and goes at the next.
// Returns  1 (something was marked), 0; LEAT_ENOMEM: the rest at the next look.
int lt_consumer_rebalance(leat_consumer *c, bool give);
// lt_consumer_revoke_all tells .on_event that all partitions go, which is c's own doing.
void lt_consumer_revoke_all(leat_consumer *c);
// lt_consumer_expire plans when c is out of its group if it does not poll; not: forgets it.
void lt_consumer_expire(leat_consumer *c, bool plan);
int lt_consumer_expiry_init(leat_consumer *c);

// lt_consumer_event adds an event to be told. Returns  LEAT_ENOMEM.
int lt_consumer_event(leat_consumer *c, int32_t kind, const struct lt_partition *p, int64_t offset);
static inline bool lt_consumer_has_to_tell(const leat_consumer *c) {
    return c->on_event && c->event_count > 0;
}
// lt_consumer_tell calls .on_event for what there is to tell. Locks: none. Parts may move.
void lt_consumer_tell(leat_consumer *c);
// Around each callback of c.
void lt_consumer_call_begin(leat_consumer *c);
void lt_consumer_call_end(leat_consumer *c);
// lt_consumer_tells tells whether this thread is in one.
bool lt_consumer_tells_here(const leat_consumer *c);
static inline bool lt_consumer_tells(const leat_consumer *c) {
    return atomic_load_explicit(&c->teller, memory_order_relaxed) != 0 && lt_consumer_tells_here(c);
}

// lt_commit_many commits n positions; c's own state is not touched, so any thread may.
// Returns  the first error; what is fenced is left out.
int lt_commit_many(leat_consumer *c, const struct lt_commit_at *at, size_t n);
// lt_commit_check is LEAT_EINVAL for a consumer without a group.
int lt_commit_check(const leat_consumer *c);
// lt_commit_gather fills c->at with what poll has returned. Returns  of how many partitions.
size_t lt_commit_gather(leat_consumer *c, bool revoking);
// lt_commit_positions commits what poll has returned. revoking: only of partitions that are to go.
int lt_commit_positions(leat_consumer *c, bool revoking);
// lt_commit_automatic does so, if it is time to or `now`, and says errors to .log.
void lt_commit_automatic(leat_consumer *c, bool now, bool revoking);

// lt_commits_finish does the asynchronous commits that are not done; lt_commits_tell calls their
// callbacks, lt_commits_wait tells whether there are some to call; lt_commits_free frees them.
void lt_commits_finish(leat_consumer *c);
void lt_commits_tell(leat_consumer *c);
bool lt_commits_wait(const leat_consumer *c);
void lt_commits_free(leat_consumer *c);

// lt_consumer_bytes counts the bytes that wait to be read, until there are .fetch_min_bytes.
// Returns  LEAT_EIO, LEAT_ENOMEM.
int lt_consumer_bytes(leat_consumer *c, int64_t *bytes);
// lt_consumer_end_views ends the views of the last poll.
void lt_consumer_end_views(leat_consumer *c);

// lt_consumer_without tells whether t was deleted and c got it by a pattern or has not got it: then
// c goes on without it. Of c's own calls alone.
bool lt_consumer_without(const leat_consumer *c, const leat_topic *t);

#endif
