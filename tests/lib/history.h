/* SPDX-License-Identifier: MIT */
// history: a record of what a program asked of one topic and what it was told, written by several
// threads, for the checkers of check.h.
//
// Each operation takes a ticket when it is invoked and one when it has returned, from one counter:
// a.returned < b.invoked says that a was over when b began. The values sent are told apart by their
// number, which is sent once in a history.
//
// How the rooms of a store are written down
//   SEND       partition, offset (-1: not known), value, hash, acks. Returned an error that says
//              "certainly not stored": HISTORY_FAILED; anything else, also no answer: UNKNOWN
//   READ       a message that a poll returned: group, member (a number for each consumer that was
//              opened), partition, offset, value, hash; durable: it was read at LEAT_READ_DURABLE
//   SCAN       the same, of one look at all that is there, while nobody writes; `scan` numbers it
//   RANGE      begin, end, durable_end of a partition; with the scan that it frames, else scan 0
//   LOOKUP     leat_topic_offset_at: timestamp_ms asked, offset told, of a scan
//   DELETE     leat_topic_delete_records: offset is the new begin
//   OWN, LOST  a partition appeared among a member's, or is no longer: invoked before, returned
//              after the call in which it came or went
//   POLL       of a member: while it lasts a partition may go and come back unseen
//   SEEK       a member's position was set to offset
//   COMMIT     of a partition; COMMITTED: an offset that was asked for
//   CRASH      the store was closed (how 0), killed or lost its power, as in leat_crash. It ends
//   when
//              all that was told by the old store is written down: threads are joined before that
#ifndef LEAT_TESTS_LIB_HISTORY_H
#define LEAT_TESTS_LIB_HISTORY_H

#include "leat.h"
#include "leat_test.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum history_op {
    HISTORY_SEND = 1,
    HISTORY_READ = 2,
    HISTORY_SCAN = 4,
    HISTORY_RANGE = 8,
    HISTORY_LOOKUP = 16,
    HISTORY_DELETE = 32,
    HISTORY_OWN = 64,
    HISTORY_LOST = 128,
    HISTORY_SEEK = 256,
    HISTORY_COMMIT = 512,
    HISTORY_COMMITTED = 1024,
    HISTORY_CRASH = 2048,
    HISTORY_POLL = 4096
};

enum history_outcome { HISTORY_OK, HISTORY_FAILED, HISTORY_UNKNOWN };

struct history_event {
    enum history_op op;
    enum history_outcome outcome;
    int thread, group, member;
    int32_t partition, generation;
    int64_t offset, timestamp_ms;
    uint64_t invoked, returned; // tickets; returned UINT64_MAX: never
    uint64_t key, value, hash;  // hash: of all that is to come back as it was sent
    uint64_t receipt, batch; // batch: of a send, 0: by itself; those of one were sent in one call
    int acks, how, scan;
    bool durable;
    int64_t begin, end, durable_end;
};

struct history {
    struct history_event *event; // in the order in which they were invoked
    size_t room;
    atomic_size_t count;   // of events; relaxed: each thread writes its own events
    _Atomic uint64_t tick; // the last ticket; seq_cst: it orders the calls of all threads
    bool retention;        // the topic has a policy: begin may move by itself
    // What the checkers look up, made at the first check and once only.
    const struct history_event **cut; // power cuts, in order
    size_t cuts;
    bool sealed;
};

// history_init makes room for so many events; one more aborts. Ended by history_fini.
void history_init(struct history *h, size_t room);
void history_fini(struct history *h);

// history_begin writes down that an operation is invoked: `what` with the next ticket. What is not
// known yet is set in the event until history_end, which takes the second ticket. An event that
// never ends is one whose outcome is unknown.
// Threads  any; the event is the caller's until it has ended.
struct history_event *history_begin(struct history *h, const struct history_event *what);
void history_end(struct history *h, struct history_event *e, enum history_outcome outcome);
// history_ticket takes a ticket by itself, for an event that is written down later.
uint64_t history_ticket(struct history *h);
// history_note is both: of an operation that ended ok.
struct history_event *history_note(struct history *h, const struct history_event *what);

// history_outcome_of says what the result of a send, a commit or the like means.
enum history_outcome history_outcome_of(int rc);

// history_hash is of a record's key, value, headers and timestamp, sent or delivered.
uint64_t history_hash(const leat_message *m);
uint64_t history_hash_record(const leat_record *r, int64_t timestamp_ms);

// ---- for checkers

// history_cut_between tells whether the power may have been cut after ticket `from` and before
// `to`.
bool history_cut_between(struct history *h, uint64_t from, uint64_t to);

// history_select gives the events of these ops, sorted. Owns: free it.
typedef int (*history_order)(const void *a, const void *b); // of pointers to const event *
const struct history_event **history_select(struct history *h, unsigned ops, history_order order,
                                            size_t *count);

#endif
