/* SPDX-License-Identifier: MIT */
// kill: what the process that is killed and its parent share. The child notes in `shared`, memory
// that outlives it, what it tries before it tries it and what it was told after it was told.
#ifndef LEAT_TESTS_LIB_KILL_H
#define LEAT_TESTS_LIB_KILL_H

#include "leat.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    KILL_PARTS = 2,
    KILL_MESSAGES = 100000, // of a queue and partition, at the most
    KILL_BATCH = 8,         // records of a leat_send_many, at the most
    KILL_HELD = 64,         // leases that a child keeps at a time
    KILL_TRIES = 4,         // deliveries_max of the queue "work"
    KILL_ROUND_SENDS = 1500,
    KILL_ROUND_MESSAGES = 300,
    KILL_VALUE_MAX = 20000
};

// The logs: one under the queue "over", three that come and go, and the queue "work"'s own.
enum { LOG_BASE, LOG_FIRST, LOG_LAST = LOG_FIRST + 2, LOG_WORK, LOGS };
enum { QUEUE_OVER, QUEUE_WORK, QUEUES };
enum { ABSENT, CREATING, THERE, DELETING };

struct kill_part {
    _Atomic int64_t acked, tried;      // records: below `acked` stored for sure
    _Atomic int64_t on_disk;           // below it durable for sure
    _Atomic int64_t committed, trying; // of the group; -1: nothing
};

struct kill_log {
    _Atomic int state;
    _Atomic unsigned life; // how many logs had this place before
    struct kill_part part[KILL_PARTS];
};

struct kill_message {
    _Atomic uint8_t acking, acked;
    _Atomic uint8_t burying, buried; // as a dead one
    _Atomic uint16_t seen;           // deliveries
    _Atomic uint32_t blind;          // kills during a receive, when it was seen last
};

struct kill_ledger {
    _Atomic int receiving;
    _Atomic uint32_t blind; // kills during a receive: each may have counted a delivery
    struct kill_message m[KILL_PARTS][KILL_MESSAGES];
};

struct kill_shared {
    struct kill_log log[LOGS];
    struct kill_ledger queue[QUEUES];
    _Atomic int32_t copy[KILL_MESSAGES]; // of the dead-letter queue: of which offset + 1
    _Atomic long kills, sends, asyncs, batches, syncs, commits, acks, opens;
    _Atomic long cuts, halves; // unfinished tails that were cut; calls under way that had happened
    _Atomic int complaints;
    char text[4096];
};

struct kill_store {
    leat *mq;
    leat_topic *t[LOGS];
    leat_producer *fast, *safe;
    leat_consumer *c;
    leat_queue *q[QUEUES], *dead;
    struct { // what the child has in hand
        leat_message m;
        int queue;
    } held[KILL_HELD];
    int held_count;
    int sends, messages; // of this round
};

extern struct kill_shared *shared;
extern char kill_dir[256];
extern int32_t kill_write;  // LEAT_WRITE_
extern uint64_t kill_state; // of kill_random

__attribute__((format(printf, 1, 2))) void kill_complain(const char *format, ...);
// kill_is complains unless rc is what it must be.
bool kill_is(const char *what, int rc, int expected);
uint64_t kill_mix(uint64_t x);
unsigned kill_random(unsigned below);

// kill_check_bytes complains unless m has the bytes that belong where it stands.
void kill_check_bytes(int log, const leat_message *m);
const char *kill_name(int log, char buf[32]);
int kill_parts(int log);
void kill_forget_log(struct kill_log *l);

bool kill_open(struct kill_store *s, bool must_exist);
// kill_delivered holds a delivery to what was noted; kill_ack acknowledges it; kill_bury does both
// with what the dead-letter queue has next.
bool kill_delivered(int queue, const leat_message *m);
bool kill_ack(leat_queue *q, int queue, leat_message *m);
bool kill_bury(struct kill_store *s);

// kill_child opens the store, writes a byte to `ready` and works until it is killed.
_Noreturn void kill_child(int ready);

#endif
