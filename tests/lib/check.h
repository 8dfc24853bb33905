/* SPDX-License-Identifier: MIT */
// check: what must hold of every history (history.h), whatever the order of things and whatever
// crashed. Each check returns NULL, or a text that names the first violation; the text lives until
// the next check of this thread. Each takes O(n log n), times the looks at the whole log. No thread
// writes to the history any more.
//
// Left out, because there is nothing yet that could break it: the first half of S13
// (timestamps given by the log), S15 (a history has no time), of G5 the durable end (leat commits
// beyond it, and never gives those offsets to another record: S3).
#ifndef LEAT_TESTS_LIB_CHECK_H
#define LEAT_TESTS_LIB_CHECK_H

#include "lib/history.h"

typedef const char *(*check_fn)(struct history *h);

struct check {
    const char *name; // "S1"
    check_fn fn;
};

// ---- the stream, each partition by itself

// S1: what was acknowledged is there after what its level survives, unless deleted.
const char *check_s1_no_acked_record_is_lost(struct history *h);
// S2: what was refused is never read, what is unknown is there at most once, nothing is read before
// it was sent, or was never sent.
const char *check_s2_no_phantom(struct history *h);
// S3: an offset has one value for ever; only what no power cut spared may be replaced.
const char *check_s3_one_offset_one_value(struct history *h);
// S4: a send is stored once.
const char *check_s4_no_duplicate(struct history *h);
// S5: a look at the whole log finds every offset of its range; power cuts may leave gaps.
const char *check_s5_offsets_are_dense(struct history *h);
// S6: what one thread sent stands in the order in which it was sent.
const char *check_s6_order_of_a_producer(struct history *h);
// S7: of the records that one call sent to one partition all are there, or none, but for a front
// that was deleted.
const char *check_s7_batches_are_whole(struct history *h);
// S8: what a member reads of a partition is in order and without holes while it has it.
const char *check_s8_polls_are_contiguous(struct history *h);
// S9: what was acknowledged before another send began stands before it.
const char *check_s9_real_time(struct history *h);
// S10: what a durable reader got is there after any crash.
const char *check_s10_durable_reads_stay(struct history *h);
// S11: key, value, headers and timestamp come back as they were sent.
const char *check_s11_bytes_are_identical(struct history *h);
// S12: the log start only grows, and only as far as somebody deleted (or there is a policy).
const char *check_s12_log_start(struct history *h);
// S13: offset_at tells what a look at every record would.
const char *check_s13_time_lookup(struct history *h);
// S14: the end only grows; a power cut takes it back to what was durable at most.
const char *check_s14_end(struct history *h);

extern const struct check check_stream[];
extern const size_t check_stream_count;

// ---- groups

// G1: a partition has one owner at a time.
const char *check_g1_one_owner(struct history *h);
// G2: a committed offset only grows, but by a seek or a power cut.
const char *check_g2_commits_grow(struct history *h);
// G3: only the owner commits.
const char *check_g3_stale_commits_fail(struct history *h);
// G4: a member begins at what was committed or before it, and nothing below a committed offset was
// never delivered to the group.
const char *check_g4_at_least_once(struct history *h);
// G5: nothing is committed that the member was not given.
const char *check_g5_committed_was_delivered(struct history *h);

extern const struct check check_group[];
extern const size_t check_group_count;

// check_history runs all of the above. Returns NULL or "S3: ...".
const char *check_history(struct history *h);

// ---- recovery: of a directory, by the listings of scratch_listing ("path size hash", sorted)

struct check_recovery {
    const char *before; // listing of what the crash, or a clean close, left
    const char *after;  // what recovery made of it
    const char *again;  // what a second recovery made of that; may be NULL
    int rc;             // of the first open
    // Damage done before the open, to a record; damaged_offset -1: none.
    int64_t damaged_offset, durable_end;
    bool reported; // the open, or a reader of that record, returned LEAT_ECORRUPT
    bool intact;   // a reader got the record as it was sent: the damage hit what is not its
};

// R1: recovering twice gives the same bytes.
const char *check_r1_idempotent(const struct check_recovery *r);
// R2: of a store that was closed, only the last segment file of each partition is written to.
const char *check_r2_sealed_files_stay(const struct check_recovery *r);
// R3: an open works or is an error of those that say so, and then it has changed nothing.
const char *check_r3_errors_change_nothing(const struct check_recovery *r);
// R4: damage below the durable end is reported.
const char *check_r4_damage_is_reported(const struct check_recovery *r);

// ---- for the checkers themselves

// check_say makes the text of a violation.
const char *check_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

// struct check_bound says for one operation: its `must` is at least (strict: above) what those said
// that were over before it began. What they said holds for ever (`hard`) or until a power cut or a
// reset (`soft`); INT64_MIN: says nothing, must INT64_MAX: no claim on it.
struct check_bound {
    int group, partition;
    int64_t must, soft, hard;
    bool reset;
    const struct history_event *e;
};
const struct check_bound *check_bounds(struct history *h, struct check_bound *list, size_t count,
                                       bool strict, const struct check_bound **before);

// struct check_highs knows the highest offset that the operations of one kind (DELETE, COMMIT) of a
// group and partition named before a ticket, those that failed left out; 0: none. A delete has
// group 0.
struct check_highs {
    const struct history_event **list;
    int64_t *high;
    size_t count;
};
struct check_highs check_highs_of(struct history *h, enum history_op op);
int64_t check_highs_at(const struct check_highs *d, int group, int32_t partition, uint64_t before);
void check_highs_free(struct check_highs *d);

#endif
