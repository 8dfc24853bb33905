/* SPDX-License-Identifier: MIT */
// sim: the crash simulator (tests/crash/test_simulator.c says what it is for).
//
//  sim_work    small workloads, and carrying them out over lib/crash_os.h: a trace and facts
//  sim_async   the part of that which is sent asynchronously (lib/sim_drive.h)
//  sim_oracle  what is owed at a moment, and holding the topics of a state to it
//  sim_queue   the same of its queue
//  sim_jobs    both for a queue with all that queues can do
//  sim_try     one state: open it, look, write, close, open, look again
//  sim_states  which states a point of the trace can leave, and going through them
//
// A fact is what one call did and when: between two places in the trace. What is sent
// asynchronously has returned when its report came. A moment is a place in the
// trace, and how the process died there; what had returned by then was promised.
#ifndef LEAT_TESTS_LIB_SIM_H
#define LEAT_TESTS_LIB_SIM_H

#include "base/core.h"
#include "leat_test.h"
#include "lib/crash_os.h"

enum { SIM_A, SIM_B, SIM_Q, SIM_D, SIM_TOPICS };
enum { SIM_PARTS = 2, SIM_TRIES = 2, SIM_FACTS = 200, SIM_OFFSETS = 256, SIM_ID = 16 };
extern const char *const sim_topic_name[SIM_TOPICS];
extern const int sim_topic_parts[SIM_TOPICS];

struct sim_workload {
    const char *name, *steps;
};
// sim_workload returns the workload of that number, or NULL behind the last.
const struct sim_workload *sim_workload(int number);

enum sim_what {
    SIM_MADE,
    SIM_GONE,
    SIM_SENT,
    SIM_REPEATED, // sent again by its id: what there is of it is at offset
    SIM_COMMITTED,
    SIM_QUEUE_MADE,
    SIM_RECEIVED,
    SIM_ACKED,
    SIM_DIED, // a nack after the last try
    SIM_TRIMMED,
    SIM_NACKED, // also: its lease ran out
    SIM_PURGED,
    SIM_EXPIRED,
    SIM_REVIVED, // a redrive in place
    SIM_MOVED,   // a redrive from the dead-letter queue: offset of the dead one, other: its new one
    SIM_SYNCED,
    SIM_CLOSED
};

struct sim_fact {
    enum sim_what what;
    uint32_t from, to; // of the trace, while the call was made
    int topic, life, part;
    int64_t offset; // committed: the position; received: of the message; -1: never in the log
    int64_t size;   // of the value
    bool disk;
    int batch;  // stored with others of that number and part; 0: alone
    bool whole; // a batch made by hand, with one report
    int id;     // its dedup id; 0: none
    // of a queue with all of it (sim_jobs):
    int tries, priority, group; // group: 0: none
    bool later, reject;         // later: not handed out at once
    int64_t other;
};

struct sim_run { // a workload that was carried out
    int number;
    const struct sim_workload *w;
    int32_t write;
    struct crash_trace trace;
    struct sim_fact fact[SIM_FACTS];
    int facts;
    int queue_topic;               // SIM_Q or SIM_A; -1: no queue
    bool dead;                     // with a dead-letter queue
    bool kept;                     // the dead stay in place
    bool jobs, aged;               // with all of it; with a retention
    int64_t retention[SIM_TOPICS]; // in bytes; 0: everything is kept
    int64_t window[SIM_TOPICS];    // of dedup ids; 0: none
    int many, batches;
};

struct sim_found { // in a state
    bool there[SIM_TOPICS];
    int life[SIM_TOPICS];
    int64_t begin[SIM_TOPICS][SIM_PARTS], records_end[SIM_TOPICS][SIM_PARTS];
    int64_t end[SIM_TOPICS][SIM_PARTS];
    int64_t committed[SIM_TOPICS][SIM_PARTS];
    // 0: no record, a gap; else the number of its fact, plus 1
    int16_t here[SIM_TOPICS][SIM_PARTS][SIM_OFFSETS];
    bool queue;
};

struct sim_moment {
    uint32_t at;  // of the run's trace
    uint32_t at2; // of the recovery's trace; UINT32_MAX: no second crash
    bool kill;
    const struct sim_found *base; // what was there before the second crash, or a clean close
    bool exact;                   // what is in base must be there again
    bool closed;                  // base was left by a clean close: all of it is safe
    int old;                      // facts of the run; those behind it are of after the crash
    int fresh;                    // facts behind it are of after what base was found in
};

struct sim_look { // at a state
    struct sim_run *r;
    const struct sim_moment *w;
    struct sim_found *found;
    struct crash_os *os;
    leat *mq;
    leat_topic *t[SIM_TOPICS];
};

struct sim_tour { // through the points of a run
    struct sim_run *r;
    uint64_t round;       // round 0: every shape; later ones: chance
    unsigned chances;     // states by chance at each point
    unsigned one_in;      // of the shapes that single out one variable
    unsigned second_each; // one state in so many is tried for a second crash
    unsigned point_in;    // one point in so many, others in each round; 1: all
};

struct sim_totals {
    long states;   // content of the disk, and what had been promised
    long contents; // content only
    long failures, second_points;
};
extern struct sim_totals sim_totals;
extern char sim_where[1024]; // the state that is being looked at

// sim_fail counts a failure and prints the first of its kind. Returns  false.
bool sim_fail(const struct sim_run *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sim_print_failures(void);
// sim_must ends the program if rc is an error: the workload itself is at fault.
void sim_must(const char *what, int rc);
_Noreturn void sim_broken(const char *what, int rc);

// Values: the number of the fact, and bytes that follow from it.
void sim_value_make(int number, size_t size, char *out);
int sim_value_number(const leat_message *m);
bool sim_value_right(const leat_message *m, int number);
// sim_id makes a dedup id of a number.
leat_bytes sim_id(int number, char out[SIM_ID]);

int sim_store_open(struct crash_os *os, int32_t write, leat **mq);
// sim_store_kill frees the store as if its process was killed: nothing more is written.
void sim_store_kill(leat *mq);
// sim_carry_out fills *r. Owns  its trace.
void sim_carry_out(const struct sim_workload *w, int32_t write, struct sim_run *r);

// Whether a call had begun by the moment, had returned, and whether what it did must be there.
bool sim_begun(const struct sim_moment *w, const struct sim_run *r, const struct sim_fact *f);
bool sim_done(const struct sim_moment *w, const struct sim_run *r, const struct sim_fact *f);
bool sim_safe(const struct sim_moment *w, const struct sim_run *r, const struct sim_fact *f);

// sim_sent_at returns the fact that sent the message; NULL if there is none that fits: a failure.
const struct sim_fact *sim_sent_at(const struct sim_look *l, int topic, int part, int64_t offset,
                                   const leat_message *m);
// Fill l->found with what is there. Return  whether that is right.
bool sim_check_store(struct sim_look *l);
bool sim_check_queue(struct sim_look *l);
bool sim_check_jobs(struct sim_look *l, leat_queue *q);

// sim_send_more sends n records to each topic, on disk, as facts of after the crash.
bool sim_send_more(struct sim_look *l, int n);
// sim_repeat sends the last records again by their ids, where the topic has a window for them.
bool sim_repeat(const struct sim_look *l);
bool sim_reopen(struct sim_look *l, const char *when);
// sim_try looks at the state that os holds. *found: what is in it.
bool sim_try(struct crash_os *os, struct sim_run *r, const struct sim_moment *w,
             struct sim_found *found, uint64_t hash);

void sim_states_init(void);
void sim_states_fini(void);
void sim_go_through(const struct sim_tour *t);

#endif
