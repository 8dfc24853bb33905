/* SPDX-License-Identifier: MIT */
// queue_kill: a process that works on a queue until it is killed, and what it shares with its
// parent: what the queue is to be (lib/queue_model.h) before the call that is under way and after
// it. One thread, on the jumping clock: nothing but that call can have changed anything.
#ifndef LEAT_TESTS_LIB_QUEUE_KILL_H
#define LEAT_TESTS_LIB_QUEUE_KILL_H

#include "leat.h"
#include "lib/queue_model.h"
#include "lib/scratch.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    QKILL_OLD = 64,
    QKILL_FILL = 36,     // messages in the queue, at the most: all of them may die at once
    QKILL_DEAD_FILL = 12 // in its dead-letter queue, before that is emptied
};

enum qkill_op {
    QKILL_SEND,
    QKILL_RECEIVE,
    QKILL_SETTLE,
    QKILL_ADVANCE,
    QKILL_PURGE,
    QKILL_BURY, // a purge of the dead-letter queue
    QKILL_REDRIVE,
    QKILL_CLOSE,
    QKILL_OPS
};

struct qkill_set {
    int deliveries_max;
    bool dead_letter, backoff, groups, priorities, retention, expired;
    bool over; // the queue stands over a topic of small segments
    int32_t write;
    char dir[SCRATCH_PATH];
};

struct qkill_shared {
    struct model model[2];
    _Atomic int stage;   // 2 * which of them is true + whether a call is under way to the other one
    struct model middle; // after the call, before it is looked at what is too old
    int op;
    int64_t ids;             // one for each send that was tried
    uint64_t old[QKILL_OLD]; // receipts of any time
    _Atomic long calls[QKILL_OPS];
    _Atomic int complaints;
    char text[4096];
};

struct qkill_store {
    leat *mq;
    leat_queue *q, *dead; // dead NULL: none
};

extern struct qkill_shared *qkill;
extern uint64_t qkill_chance; // of qkill_draw

uint64_t qkill_draw(uint64_t n);
__attribute__((format(printf, 1, 2))) void qkill_complain(const char *format, ...);
// qkill_is complains unless rc is what it must be.
bool qkill_is(const char *what, int rc, int expected);

// qkill_start makes the model of a new queue.
void qkill_start(const struct qkill_set *set);
// qkill_open opens the store at that time; not ends: with a queue that has no retention, so that
// what was to be moved is seen even if it would be too old again.
bool qkill_open(struct qkill_store *s, const struct qkill_set *set, int64_t now_ms, bool ends);
// qkill_id is the number of a message, -1: it has other bytes. qkill_header: one of its headers, as
// a number; -1: none.
int64_t qkill_id(const leat_message *m);
int64_t qkill_header(const leat_message *m, const char *name);
// qkill_compare holds the counts of the queue, and its dead letters, to a model, whose counts since
// the open begin with those of *base.
bool qkill_compare(const struct qkill_store *s, struct model *is, const struct model *base);

// qkill_work works until it is killed; it calls `armed` when it has begun.
_Noreturn void qkill_work(const struct qkill_set *set, void (*armed)(void));
// qkill_drain receives all that is left, in order.
bool qkill_drain(const struct qkill_set *set);

#endif
