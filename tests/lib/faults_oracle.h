/* SPDX-License-Identifier: MIT */
// faults_oracle: what a store owes, kept outside of it while calls of it are made to fail. Each
// thing sent has a number, its bytes follow from the number, and the oracle knows what the caller
// was told: stored, certainly not, or unknown. A run that has gone wrong says so through
// oracle_complain and goes on, so that one run tells all.
#ifndef LEAT_TESTS_LIB_FAULTS_ORACLE_H
#define LEAT_TESTS_LIB_FAULTS_ORACLE_H

#include "base/failing_mem.h"
#include "leat.h"
#include "lib/faulty_os.h"

enum {
    ORACLE_SENT = 320,
    ORACLE_PARTS = 2,
    ORACLE_VALUE_MAX = 32 * 1024,
    ORACLE_MANY = 8, // records that are sent at once, of this size
    ORACLE_MANY_SIZE = 1500
};

enum oracle_topic { ON_LOG, ON_GONE, ON_QUEUE, ON_DEAD, ORACLE_TOPICS };
enum oracle_state { SENT_NO, SENT_MAYBE, SENT_YES };

// Of ON_LOG and ON_GONE the records, of ON_QUEUE the messages of the queue over its own topic.
struct sent {
    enum oracle_topic topic;
    enum oracle_state state;
    int32_t partition;
    int64_t offset; // -1: not told
    size_t size;
    int times; // found in the last reading
    // As the queue's message, or (over_*) as the message of the queue over ON_LOG.
    int seen, blind; // deliveries seen; receives that failed when it was seen last
    bool acked, maybe_acked, over_acked, over_maybe;
    int in_queue, in_dead; // found: in the last draining, ever
    bool dead_acked, dead_maybe;
};

struct committed { // what a partition's committed offset may be
    int64_t can[8];
    int count;
};

struct oracle {
    // -- of the run --
    const char *family;
    char dir[256];
    bool memory; // a memory store
    int32_t write;
    bool sticky, lives; // lives: clear the fault and go on before the close
    bool mem_fault;     // allocations fail, not system calls
    struct faulty_os os;
    struct failing_mem mem;
    leat *mq;
    int64_t wall_ms; // where the next store's clock begins
    bool calm;       // no fault may come any more: an error is a complaint
    long at;         // the call that fails
    bool came;       // it was made, and failed
    // -- what is owed --
    struct sent sent[ORACLE_SENT];
    int count;
    bool poisoned[ORACLE_TOPICS][ORACLE_PARTS];
    struct committed committed[ORACLE_PARTS];
    enum oracle_state log_made, gone_made, queue_made; // what the manifest must say
    bool gone_deleted;
    int after_delete; // record sent to ON_GONE after its delete had failed; -1: none
    int blind;        // receives that failed: a delivery may be counted that nobody saw
    int heard;
    // -- complaints --
    long complaints;
};

__attribute__((format(printf, 2, 3))) void oracle_complain(struct oracle *o, const char *format,
                                                           ...);
// oracle_fits tells whether a call did not fail, and complains if what it failed with does not fit
// the fault that was made. also: a code that the caller expects, or 0.
bool oracle_fits(struct oracle *o, const char *what, int rc, int also);
// oracle_again tells whether a call that failed must succeed now, and so is to be tried again.
bool oracle_again(const struct oracle *o);
// oracle_must complains unless rc is what it must be, once no fault can be the reason.
bool oracle_must(struct oracle *o, const char *what, int rc, int expected);
// oracle_faults counts what was made to fail so far.
long oracle_faults(const struct oracle *o);

// ---- sending and reading

// oracle_send sends the next record by p to t, or (q) to a queue, and notes what it was told.
// Returns  leat_send's result.
struct oracle_sending {
    leat_producer *p;
    leat_topic *t;
    leat_queue *q;
    enum oracle_topic topic;
    int32_t partition;
    size_t size;
    bool disk;
};
int oracle_send(struct oracle *o, const struct oracle_sending *s);
// oracle_send_many sends the next n records by p to t in one call, to its partitions in turn, and
// notes what it was told of each. Returns  leat_send_many's result.
int oracle_send_many(struct oracle *o, const struct oracle_sending *s, int n);
// oracle_make makes record number n; value and key are good until the next one is made.
struct oracle_made {
    leat_record record;
    leat_header header;
    char key[16];
};
void oracle_make(int n, int32_t partition, size_t size, struct oracle_made *m);
// oracle_note_lost notes which partitions' syncs have failed since os.lost_count was `before`.
void oracle_note_lost(struct oracle *o, enum oracle_topic topic, int before);
// oracle_check compares a message with what was sent. Returns  its number, or NULL (complained).
struct sent *oracle_check(struct oracle *o, enum oracle_topic topic, const leat_message *m);
// oracle_read_all reads a topic from its beginning and holds it to what is owed.
void oracle_read_all(struct oracle *o, const char *name, enum oracle_topic topic, int partitions);

// ---- the group

// position < 0: nothing was read, so that the beginning may be committed, or nothing.
void oracle_commit_tried(struct oracle *o, const int64_t position[ORACLE_PARTS], bool done);
// oracle_check_committed also tells where c goes on.
void oracle_check_committed(struct oracle *o, leat_consumer *c, int64_t position[ORACLE_PARTS]);

// ---- the queues

// oracle_receive receives one message and checks it. Returns  leat_queue_receive's result.
int oracle_receive(struct oracle *o, leat_queue *q, enum oracle_topic topic, int64_t timeout_ms,
                   leat_message *m, struct sent **out);
// oracle_ack acknowledges m, again if it may fail once, and notes what it was told.
void oracle_ack(struct oracle *o, leat_queue *q, enum oracle_topic topic, leat_message *m,
                struct sent *s);
// oracle_drain takes and acknowledges all that the queues still have, and holds it to what is owed.
void oracle_drain(struct oracle *o, leat_queue *q, leat_queue *dead, leat_queue *over);

#endif
