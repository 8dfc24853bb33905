/* SPDX-License-Identifier: MIT */
// The checkers are tested with histories made by hand: one that all accept, and for each of them
// the same with one thing wrong. What they must allow besides stands below.
#include "lib/check.h"
#include "lib/history.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOG = LEAT_ACKS_LOG, DISK = LEAT_ACKS_DISK, GROUP = 1, A = 1, B = 2 };

static struct history h;

static void fresh(void) {
    history_init(&h, 256);
}

static void drop(void) {
    history_fini(&h);
}

static struct history_event *note(struct history_event e) {
    e.key = e.value % 3;
    e.hash = e.value * 7;
    return history_note(&h, &e);
}

static struct history_event *sends(int thread, int32_t partition, int64_t offset, uint64_t value,
                                   int acks) {
    return note((struct history_event){ .op = HISTORY_SEND,
                                        .thread = thread,
                                        .partition = partition,
                                        .offset = offset,
                                        .value = value,
                                        .acks = acks });
}

static struct history_event *of_member(enum history_op op, int member, int32_t partition,
                                       int64_t offset) {
    return note((struct history_event){
        .op = op, .group = GROUP, .member = member, .partition = partition, .offset = offset });
}

static struct history_event *reads(int member, int32_t partition, int64_t offset, uint64_t value) {
    return note((struct history_event){ .op = HISTORY_READ,
                                        .group = GROUP,
                                        .member = member,
                                        .partition = partition,
                                        .offset = offset,
                                        .value = value });
}

static struct history_event *range(int scan, int32_t partition, int64_t begin, int64_t end) {
    return note((struct history_event){ .op = HISTORY_RANGE,
                                        .scan = scan,
                                        .partition = partition,
                                        .begin = begin,
                                        .end = end,
                                        .durable_end = begin });
}

static struct history_event *scans(int scan, int32_t partition, int64_t offset, uint64_t value) {
    return note((struct history_event){ .op = HISTORY_SCAN,
                                        .scan = scan,
                                        .partition = partition,
                                        .offset = offset,
                                        .value = value,
                                        .timestamp_ms = 100 * (int64_t)value });
}

static struct history_event *lookup(int scan, int32_t partition, int64_t ts, int64_t offset) {
    return note((struct history_event){ .op = HISTORY_LOOKUP,
                                        .scan = scan,
                                        .partition = partition,
                                        .timestamp_ms = ts,
                                        .offset = offset });
}

static struct history_event *crash(int how) {
    return note((struct history_event){ .op = HISTORY_CRASH, .how = how });
}

static struct history_event *deletes(int32_t partition, int64_t before) {
    return note(
        (struct history_event){ .op = HISTORY_DELETE, .partition = partition, .offset = before });
}

// ---- a good one

static struct history_event *s[4], *r[4], *own_a, *own_b, *lost_a, *commit_a, *commit_b, *first,
    *looked, *found[4], *time_told, *end_told, *last;

static void good(void) {
    fresh();
    s[0] = sends(1, 0, 0, 1, LOG);
    s[1] = sends(1, 0, 1, 2, LOG);
    s[2] = sends(2, 0, 2, 3, DISK);
    s[3] = sends(2, 1, 0, 4, DISK);
    first = range(0, 0, 0, 3);
    own_a = of_member(HISTORY_OWN, A, 0, 0);
    r[0] = reads(A, 0, 0, 1);
    r[1] = reads(A, 0, 1, 2);
    commit_a = of_member(HISTORY_COMMIT, A, 0, 2);
    lost_a = of_member(HISTORY_LOST, A, 0, 0);
    own_b = of_member(HISTORY_OWN, B, 0, 0);
    r[2] = reads(B, 0, 2, 3);
    r[2]->durable = true;
    commit_b = of_member(HISTORY_COMMIT, B, 0, 3);
    of_member(HISTORY_COMMITTED, B, 0, 3);
    crash(LEAT_KILL);
    looked = range(1, 0, 0, 3);
    for (int i = 0; i < 3; i++)
        found[i] = scans(1, 0, i, (uint64_t)i + 1);
    range(1, 1, 0, 1);
    found[3] = scans(1, 1, 0, 4);
    time_told = lookup(1, 0, 150, 1);
    lookup(1, 0, 300, 2);
    end_told = lookup(1, 0, 301, 3);
    lookup(1, 1, 0, 0);
    deletes(0, 1);
    last = range(0, 0, 1, 3);
}

static void s1_lost(void) { // as if record 2 had never been; and something behind it
    found[1]->op = HISTORY_CRASH;
    found[1]->how = LEAT_KILL;
}
static void s1_replaced(void) {
    found[0]->value = 99;
}
static void s2_never_sent(void) {
    r[0]->value = 98;
}
static void s2_failed(void) {
    s[1]->outcome = HISTORY_FAILED;
}
static void s2_twice(void) {
    s[1]->outcome = HISTORY_UNKNOWN;
    r[1]->offset = 7;
}
static void s2_before(void) {
    s[1]->invoked = r[1]->returned + 1;
}
static void s3_changes(void) {
    found[1]->value = 97;
}
static void s4_doubled(void) {
    found[2]->value = 2;
    r[2]->value = 2;
}
static void s5_hole(void) {
    found[1]->offset = 0;
}
static void s5_short(void) {
    looked->end = 4;
}
static void s5_long(void) {
    looked->end = 2;
}
static void s6_order(void) {
    s[0]->offset = 1;
    s[1]->offset = 0;
}
static void s7_half(void) { // 1 and 2 are a batch; 2 is not there
    s[0]->batch = s[1]->batch = 5;
    found[1]->value = 96;
}
static void s7_front(void) { // the front of one is not there, the log begins before it
    s[0]->batch = s[1]->batch = 5;
    found[0]->value = 95;
}
static void s8_skips(void) {
    r[1]->offset = 2;
}
static void s8_back(void) {
    r[1]->offset = 0;
}
static void s9_overtakes(void) {
    s[2]->offset = 1;
}
static void s10_gone(void) {
    found[2]->op = HISTORY_CRASH;
    found[2]->how = LEAT_KILL;
}
static void s11_bytes(void) {
    found[2]->hash++;
}
static void s11_key(void) {
    r[0]->key++;
}
static void s12_back(void) {
    last->begin = 0;
    looked->begin = 1;
}
static void s12_too_far(void) {
    last->begin = 2;
}
static void s13_early(void) {
    time_told->offset = 0;
}
static void s13_late(void) {
    time_told->offset = 2;
}
static void s13_at_the_end(void) {
    end_told->offset = 2;
}
static void s14_back(void) {
    last->end = 2;
}
static void s14_before_ack(void) {
    first->end = 2;
}
static void g1_both(void) {
    lost_a->invoked = lost_a->returned = commit_b->returned;
}
static void g2_back(void) {
    commit_b->offset = 1;
}
static void g3_stale(void) {
    commit_b->member = A;
    commit_b->offset = 2;
}
static void g3_never(void) {
    commit_b->member = 9;
}
static void g4_skips(void) {
    commit_a->offset = 1;
}
static void g4_hole(void) {
    r[0]->partition = 1;
}
static void g5_ahead(void) {
    commit_a->offset = 3;
}

Test(history, each_checker_accepts_the_good_and_rejects_the_bad) {
    static const struct {
        const char *name;
        check_fn check;
        void (*spoil)(void);
    } cases[] = {
        { "S1 lost", check_s1_no_acked_record_is_lost, s1_lost },
        { "S1 replaced", check_s1_no_acked_record_is_lost, s1_replaced },
        { "S2 never sent", check_s2_no_phantom, s2_never_sent },
        { "S2 failed", check_s2_no_phantom, s2_failed },
        { "S2 unknown, twice", check_s2_no_phantom, s2_twice },
        { "S2 before it was sent", check_s2_no_phantom, s2_before },
        { "S3", check_s3_one_offset_one_value, s3_changes },
        { "S4", check_s4_no_duplicate, s4_doubled },
        { "S5 hole", check_s5_offsets_are_dense, s5_hole },
        { "S5 too few", check_s5_offsets_are_dense, s5_short },
        { "S5 too many", check_s5_offsets_are_dense, s5_long },
        { "S6", check_s6_order_of_a_producer, s6_order },
        { "S7 half", check_s7_batches_are_whole, s7_half },
        { "S7 front", check_s7_batches_are_whole, s7_front },
        { "S8 skips", check_s8_polls_are_contiguous, s8_skips },
        { "S8 back", check_s8_polls_are_contiguous, s8_back },
        { "S9", check_s9_real_time, s9_overtakes },
        { "S10", check_s10_durable_reads_stay, s10_gone },
        { "S11 bytes", check_s11_bytes_are_identical, s11_bytes },
        { "S11 key", check_s11_bytes_are_identical, s11_key },
        { "S12 back", check_s12_log_start, s12_back },
        { "S12 too far", check_s12_log_start, s12_too_far },
        { "S13 early", check_s13_time_lookup, s13_early },
        { "S13 late", check_s13_time_lookup, s13_late },
        { "S13 at the end", check_s13_time_lookup, s13_at_the_end },
        { "S14 back", check_s14_end, s14_back },
        { "S14 below an ack", check_s14_end, s14_before_ack },
        { "G1", check_g1_one_owner, g1_both },
        { "G2", check_g2_commits_grow, g2_back },
        { "G3 stale", check_g3_stale_commits_fail, g3_stale },
        { "G3 never", check_g3_stale_commits_fail, g3_never },
        { "G4 skips", check_g4_at_least_once, g4_skips },
        { "G4 hole", check_g4_at_least_once, g4_hole },
        { "G5", check_g5_committed_was_delivered, g5_ahead },
    };
    bool covered[32] = { false };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        good();
        const char *bad = check_history(&h);
        cr_assert_null(bad, "the good one: %s", bad);
        drop();
        good();
        cases[i].spoil();
        cr_assert_not_null(cases[i].check(&h), "%s is not seen", cases[i].name);
        cr_assert_not_null(check_history(&h), "%s is not seen by all of them", cases[i].name);
        drop();
        for (size_t k = 0; k < check_stream_count + check_group_count; k++)
            covered[k] |=
                cases[i].check == (k < check_stream_count ? check_stream[k].fn
                                                          : check_group[k - check_stream_count].fn);
    }
    for (size_t k = 0; k < check_stream_count + check_group_count; k++)
        cr_assert(covered[k], "checker %d has no bad history", (int)k);
}

// ---- what must be allowed

Test(history, an_empty_one_is_good) {
    fresh();
    cr_assert_null(check_history(&h));
    drop();
}

// Calls at the same time say nothing of the order of things.
Test(history, concurrent_calls_may_come_out_in_any_order) {
    fresh();
    struct history_event *one = sends(1, 0, 1, 1, LOG), *two = sends(2, 0, 0, 2, LOG);
    struct history_event *far = range(0, 0, 0, 2), *near = range(0, 0, 0, 1);
    two->invoked = one->invoked;
    near->invoked = far->invoked;
    one->returned = near->returned; // one, two and both ranges overlap
    const char *bad = check_history(&h);
    cr_assert_null(bad, "%s", bad);
    drop();
}

static void with_a_cut(int acks, bool durable) {
    fresh();
    sends(1, 0, 0, 1, DISK);
    sends(1, 0, 1, 2, acks);
    reads(A, 0, 0, 1);
    reads(A, 0, 1, 2)->durable = durable;
    range(0, 0, 0, 2)->durable_end = acks == DISK || durable ? 2 : 1;
    crash(LEAT_POWER_CUT);
    range(1, 0, 0, 1);
    scans(1, 0, 0, 1);
    sends(1, 0, 1, 3, DISK); // in the place of what was lost
    reads(B, 0, 0, 1);
    reads(B, 0, 1, 3);
    range(2, 0, 0, 2);
    scans(2, 0, 0, 1);
    scans(2, 0, 1, 3);
}

Test(history, a_power_cut_takes_what_was_in_the_log_only) {
    with_a_cut(LOG, false);
    const char *bad = check_history(&h);
    cr_assert_null(bad, "%s", bad);
    drop();
    static const struct {
        bool durable;
        const check_fn must[4];
    } cases[] = { { false,
                    { check_s1_no_acked_record_is_lost, check_s3_one_offset_one_value,
                      check_s9_real_time, check_s14_end } },
                  { true,
                    { check_s10_durable_reads_stay, check_s3_one_offset_one_value, check_s14_end,
                      NULL } } };
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 4 && cases[i].must[k]; k++) {
            with_a_cut(i == 0 ? DISK : LOG, cases[i].durable);
            cr_assert_not_null(cases[i].must[k](&h), "case %d, checker %d", i, k);
            drop();
        }
}

Test(history, a_kill_takes_nothing) {
    with_a_cut(LOG, false);
    for (size_t i = 0; i < atomic_load(&h.count); i++)
        if (h.event[i].op == HISTORY_CRASH)
            h.event[i].how = LEAT_KILL;
    cr_assert_not_null(check_s1_no_acked_record_is_lost(&h));
    cr_assert_not_null(check_s3_one_offset_one_value(&h));
    cr_assert_not_null(check_s9_real_time(&h));
    cr_assert_not_null(check_s14_end(&h));
    drop();
}

Test(history, deleting_seeking_and_a_policy_explain_what_is_missing) {
    fresh();
    for (int64_t i = 0; i < 6; i++)
        sends(1, 0, i, (uint64_t)i + 1, DISK);
    of_member(HISTORY_OWN, A, 0, 0);
    reads(A, 0, 0, 1);
    deletes(0, 3);
    reads(A, 0, 3, 4); // over what was deleted
    of_member(HISTORY_COMMIT, A, 0, 4);
    of_member(HISTORY_SEEK, A, 0, 3);
    reads(A, 0, 3, 4);
    of_member(HISTORY_COMMIT, A, 0, 4);
    of_member(HISTORY_SEEK, A, 0, 5);
    reads(A, 0, 5, 6);
    of_member(HISTORY_COMMIT, A, 0, 6);
    of_member(HISTORY_SEEK, A, 0, 3);
    of_member(HISTORY_COMMIT, A, 0, 3); // back, on purpose
    range(0, 0, 3, 6);
    const char *bad = check_history(&h);
    cr_assert_null(bad, "%s", bad);
    drop();
    fresh();
    h.retention = true;
    sends(1, 0, 0, 1, DISK);
    sends(1, 0, 1, 2, DISK);
    of_member(HISTORY_OWN, A, 0, 0);
    reads(A, 0, 1, 2);
    range(0, 0, 1, 2);
    bad = check_history(&h);
    cr_assert_null(bad, "%s", bad);
    drop();
}

Test(history, a_batch_is_there_or_not_and_its_front_may_be_deleted) {
    for (int there = 0; there < 3; there++) {
        fresh();
        for (int i = 0; i < 3; i++)
            sends(1, 0, i, (uint64_t)i + 1, LOG)->batch = 9;
        if (there == 1)
            deletes(0, 2);
        if (there == 0)
            crash(LEAT_POWER_CUT);
        range(1, 0, there == 1 ? 2 : 0, there == 0 ? 0 : 3);
        for (int i = there == 1 ? 2 : 0; i < 3 && there > 0; i++)
            scans(1, 0, i, (uint64_t)i + 1);
        const char *bad = check_history(&h);
        cr_assert_null(bad, "%d: %s", there, bad);
        drop();
    }
}

Test(history, what_never_returned_may_be_there_or_not) {
    for (int there = 0; there < 2; there++) {
        fresh();
        struct history_event e = {
            .op = HISTORY_SEND, .thread = 1, .offset = -1, .value = 1, .key = 1, .acks = DISK
        };
        (void)history_begin(&h, &e);
        range(1, 0, 0, there);
        if (there)
            scans(1, 0, 0, 1);
        const char *bad = check_history(&h);
        cr_assert_null(bad, "%s", bad);
        drop();
    }
}

Test(history, a_crash_ends_what_was_owned) {
    fresh();
    of_member(HISTORY_OWN, A, 0, 0);
    crash(LEAT_KILL);
    of_member(HISTORY_OWN, B, 0, 0);
    of_member(HISTORY_COMMIT, A, 0, 0);
    cr_assert_null(check_g1_one_owner(&h));
    cr_assert_not_null(check_g3_stale_commits_fail(&h));
    drop();
}

Test(history, a_partition_may_go_and_come_back_in_one_poll) {
    for (int outside = 0; outside < 2; outside++) {
        fresh();
        of_member(HISTORY_OWN, A, 0, 0);
        struct history_event poll = { .op = HISTORY_POLL, .group = GROUP, .member = A };
        struct history_event *e = history_begin(&h, &poll);
        if (outside)
            history_end(&h, e, HISTORY_OK);
        of_member(HISTORY_OWN, B, 0, 0);
        of_member(HISTORY_LOST, B, 0, 0);
        if (!outside)
            history_end(&h, e, HISTORY_OK);
        of_member(HISTORY_LOST, A, 0, 0);
        cr_assert_eq(check_g1_one_owner(&h) != NULL, outside);
        drop();
    }
}

Test(history, outcomes) {
    cr_assert_eq(history_outcome_of(0), HISTORY_OK);
    cr_assert_eq(history_outcome_of(3), HISTORY_OK);
    cr_assert_eq(history_outcome_of(LEAT_EIO), HISTORY_UNKNOWN);
    cr_assert_eq(history_outcome_of(LEAT_EFENCED), HISTORY_UNKNOWN);
    cr_assert_eq(history_outcome_of(LEAT_EFULL), HISTORY_FAILED);
}

// ---- the recorder

enum { THREADS = 4, EACH = 2000 };

static void *note_many(void *arg) {
    for (int i = 0; i < EACH; i++) {
        struct history_event e = { .op = HISTORY_COMMITTED,
                                   .thread = (int)(intptr_t)arg,
                                   .partition = (int)(intptr_t)arg,
                                   .offset = i };
        struct history_event *mine = history_begin(&h, &e);
        history_end(&h, mine, HISTORY_OK);
        if (mine->returned <= mine->invoked)
            return arg;
    }
    return NULL;
}

static int by_invoked(const void *a, const void *b) {
    const struct history_event *x = *(const struct history_event *const *)a;
    const struct history_event *y = *(const struct history_event *const *)b;
    return x->invoked < y->invoked ? -1 : x->invoked > y->invoked;
}

Test(history, several_threads_write_and_every_ticket_is_one_calls) {
    pthread_t thread[THREADS];
    history_init(&h, THREADS * EACH);
    for (intptr_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, note_many, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++) {
        void *bad;
        cr_assert_eq(pthread_join(thread[i], &bad), 0);
        cr_assert_null(bad);
    }
    size_t n;
    const struct history_event **list = history_select(&h, HISTORY_COMMITTED, by_invoked, &n);
    cr_assert_eq(n, THREADS * EACH);
    for (size_t i = 1; i < n; i++)
        cr_assert_lt(list[i - 1]->invoked, list[i]->invoked);
    free(list);
    cr_assert_null(check_history(&h));
    drop();
}

Test(history, the_hash_is_of_all_that_was_sent) {
    leat *mq;
    leat_topic *t;
    leat_producer *p;
    leat_consumer *c;
    const leat_message *m;
    const leat_header headers[] = { { LEAT_STR("a"), LEAT_STR("b") } };
    const leat_record records[] = {
        { .value = LEAT_STR("v") },
        { .value = LEAT_STR("w") },
        { .key = LEAT_STR(""), .value = LEAT_STR("v") },
        { .key = LEAT_STR("v"), .value = LEAT_STR("") },
        { .key = LEAT_STR("v") },
        { .value = LEAT_STR("v"), .headers = headers, .header_count = 1 },
    };
    enum { N = sizeof records / sizeof *records };
    cr_assert_eq(leat_test_open(&mq), 0);
    cr_assert_eq(leat_topic_open(mq, "t", NULL, &t), 0);
    cr_assert_eq(leat_producer_open(mq, NULL, &p), 0);
    uint64_t hash[N];
    for (int i = 0; i < N; i++) {
        leat_metadata md;
        cr_assert_eq(leat_send(p, t, &records[i], &md), 0);
        hash[i] = history_hash_record(&records[i], md.timestamp_ms);
        cr_assert_neq(hash[i], history_hash_record(&records[i], md.timestamp_ms + 1));
        for (int k = 0; k < i; k++)
            cr_assert_neq(hash[i], hash[k], "%d and %d", i, k);
    }
    cr_assert_eq(leat_consumer_open(mq, "g", NULL, &c), 0);
    cr_assert_eq(leat_consumer_subscribe(c, "t"), 0);
    cr_assert_eq(leat_poll(c, 0, &m), N);
    for (int i = 0; i < N; i++)
        cr_assert_eq(history_hash(&m[i]), hash[i], "record %d", i);
    cr_assert_eq(leat_close_all(mq, 0), 0);
}

// ---- recovery

#define SEGMENT(base) "1/0/0000000000000000000" base ".log"

static const char two_segments[] = SEGMENT("0") " 100 aa\n" SEGMENT("5") " 90 bb\nmanifest 9 cc\n";
static const char cut_tail[] = SEGMENT("0") " 100 aa\n" SEGMENT("5") " 80 dd\nmanifest 9 cc\n";
static const char changed_seal[] = SEGMENT("0") " 100 ab\n" SEGMENT("5") " 90 bb\nmanifest 9 cc\n";
static const char without[] = SEGMENT("0") " 100 aa\nmanifest 9 cc\n";

typedef const char *(*recovery_fn)(const struct check_recovery *r);
static const struct {
    const char *name;
    recovery_fn check;
    struct check_recovery r;
    const char *says; // NULL: good
} recovery_cases[] = {
    { "R1 same", check_r1_idempotent, { .after = cut_tail, .again = cut_tail }, NULL },
    { "R1 once", check_r1_idempotent, { .after = cut_tail }, NULL },
    { "R1 changed",
      check_r1_idempotent,
      { .after = two_segments, .again = cut_tail },
      "changed: " SEGMENT("5") },
    { "R1 removed",
      check_r1_idempotent,
      { .after = two_segments, .again = without },
      "removed: " SEGMENT("5") },
    { "R1 made",
      check_r1_idempotent,
      { .after = without, .again = two_segments },
      "made: " SEGMENT("5") },
    { "R1 all gone", check_r1_idempotent, { .after = without, .again = "" }, "removed" },
    { "R2 tail", check_r2_sealed_files_stay, { .before = two_segments, .after = cut_tail }, NULL },
    { "R2 set aside",
      check_r2_sealed_files_stay,
      { .before = two_segments, .after = without },
      NULL },
    { "R2 sealed",
      check_r2_sealed_files_stay,
      { .before = two_segments, .after = changed_seal },
      SEGMENT("0") },
    { "R3 ok",
      check_r3_errors_change_nothing,
      { .before = two_segments, .after = cut_tail },
      NULL },
    { "R3 error",
      check_r3_errors_change_nothing,
      { .before = two_segments, .after = two_segments, .rc = LEAT_ECORRUPT },
      NULL },
    { "R3 wrote",
      check_r3_errors_change_nothing,
      { .before = two_segments, .after = cut_tail, .rc = LEAT_ECORRUPT },
      "changed" },
    { "R3 what error",
      check_r3_errors_change_nothing,
      { .before = without, .after = without, .rc = LEAT_ESTALE },
      "LEAT_ESTALE" },
    { "R4 none", check_r4_damage_is_reported, { .damaged_offset = -1, .durable_end = 5 }, NULL },
    { "R4 behind", check_r4_damage_is_reported, { .damaged_offset = 5, .durable_end = 5 }, NULL },
    { "R4 refused",
      check_r4_damage_is_reported,
      { .damaged_offset = 4, .durable_end = 5, .rc = LEAT_ECORRUPT },
      NULL },
    { "R4 reported",
      check_r4_damage_is_reported,
      { .damaged_offset = 4, .durable_end = 5, .reported = true },
      NULL },
    { "R4 silent",
      check_r4_damage_is_reported,
      { .damaged_offset = 4, .durable_end = 5 },
      "offset 4" },
};

Test(recovery, each_checker_accepts_the_good_and_rejects_the_bad) {
    for (size_t i = 0; i < sizeof recovery_cases / sizeof *recovery_cases; i++) {
        const char *bad = recovery_cases[i].check(&recovery_cases[i].r);
        if (!recovery_cases[i].says)
            cr_assert_null(bad, "%s: %s", recovery_cases[i].name, bad);
        else
            cr_assert(bad && strstr(bad, recovery_cases[i].says), "%s: %s", recovery_cases[i].name,
                      bad ? bad : "not seen");
    }
}
