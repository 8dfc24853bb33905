/* SPDX-License-Identifier: MIT */
// Power cuts, one after the other: what the first leaves behind must not be taken for something
// else after the second. Each test is a short life of a store in memory, many times over, with
// another seed each time: the seed says what of the unsynced bytes a cut takes.
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SEEDS = 60 };
#else
enum { SEEDS = 400 };
#endif

static leat_queue *q;

static void open_seed(int seed) {
    ok(leat_open_memory(&(leat_options){ .flags = LEAT_CRASHABLE,
                                         .threads = LEAT_NO_THREADS,
                                         .clock = LEAT_CLOCK_JUMP,
                                         .seed = (uint64_t)seed,
                                         .acks = LEAT_ACKS_LOG },
                        &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, NULL, &p));
}

static void send_n(int n) {
    for (int i = 0; i < n; i++)
        ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("x") }, NULL));
}

static void die(int how, int seed) {
    leat *next = NULL;
    int rc = leat_crash(mq, how, &next);
    cr_assert_eq(rc, 0, "seed %d: %s", seed, leat_errmsg());
    (void)leat_close_all(mq, 0);
    mq = next;
}

static void cut(int seed) {
    die(LEAT_POWER_CUT, seed);
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, NULL, &p));
}

static leat_range range(void) {
    leat_range r = { 0 };
    ok(leat_topic_range(t, 0, &r));
    return r;
}

static void take_all(bool in_queue) {
    leat_message m;
    const leat_message *polled;
    leat_consumer *c;
    while (in_queue && leat_queue_receive(q, 0, &m, 1) == 1)
        ok(leat_queue_ack(q, &m));
    if (in_queue)
        return;
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    cr_assert_gt(leat_poll(c, 0, &polled), 0);
    ok(leat_commit(c));
}

// What was handed out, or committed, and lost is a gap. It is as durable as what is behind it.
Test(power_cuts, a_gap_that_was_synced_is_no_damage_after_the_next) {
    int gaps = 0;
    for (int seed = 1; seed <= SEEDS; seed++)
        for (int in_queue = 0; in_queue < 2; in_queue++) {
            open_seed(seed);
            if (in_queue)
                ok(leat_queue_open(mq, "q", &(leat_queue_options){ .topic = "t" }, &q));
            send_n(1);
            ok(leat_sync(mq));
            send_n(3);
            take_all(in_queue);
            cut(seed);
            leat_range before = range();
            gaps += before.end == 4 && before.durable_end < 4;
            ok(leat_sync(mq));
            cut(seed);
            cr_assert_geq(range().end, before.end, "seed %d", seed);
            ok(leat_close_all(mq, 0));
        }
    cr_assert_gt(gaps, 0);
}

// A log start is durable with the topic that it is of.
Test(power_cuts, a_log_start_that_was_moved_is_not_taken_back) {
    for (int seed = 1; seed <= SEEDS; seed++) {
        open_seed(seed);
        send_n(5);
        ok(leat_topic_delete_records(t, 0, 3));
        leat_range before = range();
        cut(seed);
        cr_assert_eq(range().begin, 3, "seed %d", seed);
        cr_assert_geq(range().end, before.durable_end, "seed %d", seed);
        ok(leat_close_all(mq, 0));
    }
}

static void send_and_settle(int n) {
    leat_message m;
    send_n(n);
    for (int i = 0; i < n; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_ack(q, &m));
    }
}

// The words of what was settled outlive the records, in the segment behind a gap and in the one in
// front of it: neither is what a new message has.
Test(power_cuts, words_without_records_in_two_segments_are_no_words_of_new_messages) {
    leat_queue_options o = { .topic = "t", .settle_acks = LEAT_ACKS_DISK };
    leat_producer *safe;
    leat_metadata md;
    leat_message m;
    for (int seed = 1; seed <= SEEDS; seed++) {
        open_seed(seed);
        ok(leat_queue_open(mq, "q", &o, &q));
        send_and_settle(4);
        ok(leat_sync(mq));
        send_and_settle(6);
        cut(seed);
        cr_assert_eq(range().end, 10, "seed %d", seed);
        ok(leat_queue_open(mq, "q", NULL, &q));
        send_and_settle(2);
        ok(leat_sync(mq));
        send_and_settle(6);
        cut(seed);
        cr_assert_eq(range().end, 18, "seed %d", seed);
        ok(leat_queue_open(mq, "q", NULL, &q));
        ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_DISK }, &safe));
        ok(leat_send(safe, t, &(leat_record){ .value = LEAT_STR("new") }, &md));
        cut(seed);
        ok(leat_queue_open(mq, "q", NULL, &q));
        gives(1, leat_queue_receive(q, 0, &m, 1));
        cr_assert_eq(m.offset, md.offset, "seed %d", seed);
        ok(leat_close_all(mq, 0));
    }
}

// The records that were lost may be those that the log begins with.
Test(power_cuts, a_log_start_that_stands_in_a_gap_is_no_damage) {
    leat_queue_options o = { .topic = "t", .settle_acks = LEAT_ACKS_DISK };
    int gaps = 0;
    for (int seed = 1; seed <= SEEDS; seed++) {
        open_seed(seed);
        ok(leat_queue_open(mq, "q", &o, &q));
        send_and_settle(6);
        cut(seed);
        int64_t end = range().end;
        gaps += end == 6;
        send_n(2);
        ok(leat_topic_delete_records(t, 0, end < 5 ? end : 5));
        ok(leat_sync(mq));
        leat_range before = range();
        cut(seed);
        cr_assert_eq(range().begin, before.begin, "seed %d", seed);
        cr_assert_eq(range().end, before.end, "seed %d", seed);
        ok(leat_close_all(mq, 0));
    }
    cr_assert_gt(gaps, 0);
}

// A gap that is durable is stated by an empty segment. When another takes its place, because the
// first record needs one of its own, the gap is stated all the time.
Test(power_cuts, a_gap_stays_when_another_segment_states_it) {
    static char large[40000];
    leat_queue_options o = { .topic = "small", .settle_acks = LEAT_ACKS_DISK };
    const leat_topic_options small = { .segment_bytes = 16384 };
    leat_range before, after;
    for (int seed = 1; seed <= SEEDS; seed++) {
        open_seed(seed);
        ok(leat_topic_open(mq, "small", &small, &t));
        ok(leat_queue_open(mq, "q", &o, &q));
        send_and_settle(1);
        ok(leat_sync(mq));
        send_and_settle(5);
        cut(seed);
        ok(leat_topic_open(mq, "small", NULL, &t));
        ok(leat_sync(mq));
        before = range();
        cr_assert_eq(before.durable_end, 6, "seed %d", seed);
        ok(leat_send(p, t, &(leat_record){ .value = { large, sizeof large } }, NULL));
        cut(seed);
        ok(leat_topic_open(mq, "small", NULL, &t));
        after = range();
        cr_assert_geq(after.end, before.end, "seed %d", seed);
        ok(leat_close_all(mq, 0));
    }
}

static uint64_t peeked(int state) {
    leat_message m[16];
    int n = leat_queue_peek(q, state, 0, m, 16);
    cr_assert_geq(n, 0);
    for (int i = 0; i < n; i++)
        ok(leat_message_release(mq, &m[i]));
    return (uint64_t)n;
}

static void counts_are_what_is_there(int seed, const char *when) {
    leat_queue_stats s;
    ok(leat_queue_get_stats(q, &s, sizeof s));
    cr_assert_eq(s.available, peeked(LEAT_AVAILABLE), "seed %d, %s", seed, when);
    cr_assert_eq(s.kept, peeked(LEAT_IS_DEAD), "seed %d, %s", seed, when);
}

// A cut may take what says how far a queue has come, and leave what it says of each message.
Test(power_cuts, words_that_outlive_their_slot_are_believed_at_once) {
    leat_message m[8];
    int kept = 0;
    for (int seed = 1; seed <= SEEDS; seed++) {
        open_seed(seed);
        ok(leat_queue_open(mq, "first", &(leat_queue_options){ .topic = "t" }, &q));
        send_and_settle(1); // the first receive of a run syncs the slots
        ok(leat_queue_open(mq, "q", &(leat_queue_options){ .topic = "t" }, &q));
        send_n(7);
        ok(leat_sync(mq));
        gives(8, leat_queue_receive(q, 0, m, 8));
        for (int i = 0; i < 8; i++)
            ok(i % 2 ? leat_queue_reject(q, &m[i], NULL) : leat_queue_ack(q, &m[i]));
        cut(seed);
        ok(leat_queue_open(mq, "q", NULL, &q));
        counts_are_what_is_there(seed, "after the cut");
        uint64_t left = peeked(LEAT_AVAILABLE);
        kept += peeked(LEAT_IS_DEAD) > 0;
        gives(left > 0, leat_queue_receive(q, 0, m, 1));
        die(LEAT_KILL, seed);
        ok(leat_queue_open(mq, "q", NULL, &q));
        counts_are_what_is_there(seed, "after the kill");
        cr_assert_eq(peeked(LEAT_AVAILABLE), left, "seed %d", seed);
        ok(leat_close_all(mq, 0));
    }
    cr_assert_gt(kept, 0);
}

// The file that says so may have been made by a process that was killed before it synced its name.
Test(power_cuts, what_was_settled_at_acks_disk_behind_a_kill_is_settled) {
    leat_queue_options o = { .acks = LEAT_ACKS_DISK, .settle_acks = LEAT_ACKS_DISK };
    leat_message m;
    for (int seed = 1; seed <= SEEDS; seed++) {
        open_seed(seed);
        ok(leat_queue_open(mq, "q", &o, &q));
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x") }, NULL));
        gives(1, leat_queue_receive(q, 0, &m, 1));
        die(LEAT_KILL, seed);
        ok(leat_queue_open(mq, "q", NULL, &q));
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_ack(q, &m));
        cut(seed);
        ok(leat_queue_open(mq, "q", NULL, &q));
        cr_assert_eq(leat_queue_receive(q, 0, &m, 1), 0, "seed %d", seed);
        ok(leat_close_all(mq, 0));
    }
}

Test(power_cuts, an_offset_that_was_settled_at_acks_disk_is_no_other_messages) {
    leat_queue_options o = { .settle_acks = LEAT_ACKS_DISK };
    leat_message m;
    leat_metadata md;
    for (int seed = 1; seed <= SEEDS; seed++) {
        open_seed(seed);
        ok(leat_queue_open(mq, "q", &o, &q));
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x") }, NULL));
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_ack(q, &m));
        if (seed % 2)
            ok(leat_topic_delete_records(leat_queue_topic(q), 0, 1));
        cut(seed);
        ok(leat_queue_open(mq, "q", NULL, &q));
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("y") }, &md));
        cr_assert_eq(md.offset, 1, "seed %d", seed);
        ok(leat_close_all(mq, 0));
    }
}
