/* SPDX-License-Identifier: MIT */
// Retention by time: whole segments go when their last record was sent so long ago, at a roll, at
// an open and when it is due; time is not what a clock says that is set meanwhile.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>

#define DAY   (INT64_C(24) * 3600 * 1000)
#define START INT64_C(1700000000000)

static void open_store(const char *path, int64_t start_ms, const leat_topic_options *o) {
    leat_options so = { .acks = LEAT_ACKS_LOG, .clock = LEAT_CLOCK_MANUAL, .start_ms = start_ms };
    ok(fixture_open(path, &so, o, NULL));
}

static void done(void) {
    ok(leat_close_all(mq, 0));
}

static void send_one(int64_t timestamp_ms) {
    ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("x"), .timestamp_ms = timestamp_ms },
                 NULL));
}

static void after(int64_t ms) {
    ok(leat_clock_advance(mq, ms));
}

static int64_t begin(void) {
    leat_range r;
    ok(leat_topic_range(t, 0, &r));
    return r.begin;
}

static uint64_t segments(void) {
    leat_stats s;
    ok(leat_get_stats(mq, &s, sizeof s));
    return s.segments;
}

Test(retention_ms, a_segment_that_is_older_than_segment_ms_takes_no_more_records) {
    static const int64_t ages[] = { 1, 1000, 365 * DAY, 0 };
    for (int i = 0; i < 4; i++) {
        int64_t age = ages[i] ? ages[i] : 365 * DAY;
        open_store(NULL, START, &(leat_topic_options){ .segment_ms = ages[i] });
        send_one(0);
        after(age);
        send_one(0);
        cr_assert_eq(segments(), 1u);
        after(1);
        cr_assert_eq(segments(), 1u, "the next record begins it");
        send_one(1);
        cr_assert_eq(segments(), 2u);
        send_one(0);
        cr_assert(segments() == 2 && begin() == 0);
        done();
    }
}

Test(retention_ms, a_segment_goes_when_its_last_record_was_sent_so_long_ago) {
    open_store(NULL, START, &(leat_topic_options){ .segment_ms = 1000, .retention_ms = 5000 });
    send_one(1);
    after(1000);
    send_one(START + 1000 * DAY); // at 1000; what records say is not when they were sent
    after(1);
    send_one(0); // at 1001, in the next segment
    after(1001);
    send_one(0); // at 2002, in a third one
    after(5999 - 2002);
    cr_assert(begin() == 0 && segments() == 3);
    after(1);
    cr_assert(begin() == 2 && segments() == 2);
    after(6000);
    cr_assert(begin() == 3 && segments() == 1);
    after(1000 * DAY);
    cr_assert_eq(begin(), 3, "the active one stays");
    send_one(0);
    cr_assert_eq(begin(), 4, "when it is rolled it is old");
    done();
}

Test(retention_ms, all_that_are_old_go_at_once_also_behind_the_first_open_of_a_long_step) {
    open_store(NULL, START, &(leat_topic_options){ .segment_ms = 10, .retention_ms = 1000000 });
    for (int i = 0; i < 50; i++) {
        send_one(0);
        after(11);
    }
    cr_assert(begin() == 0 && segments() == 50);
    int64_t in_ms;
    ok(leat_next_due(mq, &in_ms));
    cr_assert_eq(in_ms, 1000000 - 50 * 11);
    gives(0, leat_run_due(mq));
    after(in_ms + 9 * 11);
    cr_assert_eq(begin(), 10);
    after(DAY);
    cr_assert_eq(begin(), 49);
    ok(leat_next_due(mq, &in_ms));
    cr_assert_eq(in_ms, LEAT_FOREVER);
    done();
}

Test(retention_ms, a_step_of_the_wall_clock_deletes_nothing) {
    static const int64_t steps[] = { START + 10000 * DAY, 0, START + 5000, START - 5000 };
    for (int i = 0; i < 4; i++) {
        open_store(NULL, START, &(leat_topic_options){ .segment_ms = 100, .retention_ms = 5000 });
        send_one(0);
        after(101);
        send_one(0); // rolls
        ok(leat_clock_set_wall(mq, steps[i]));
        for (int k = 0; k < 3; k++)
            send_one(0);
        cr_assert_eq(segments(), 2u, "nor does it roll");
        after(101);
        send_one(0);
        cr_assert(begin() == 0 && segments() == 3);
        after(4999 - 202);
        cr_assert_eq(begin(), 0);
        after(1);
        cr_assert_eq(begin(), 1);
        done();
    }
}

// Sends a record at START, and one at START + 1000 in a second segment.
static void make_two(int64_t retention_ms) {
    open_store(dir, START,
               &(leat_topic_options){ .segment_ms = 100, .retention_ms = retention_ms });
    send_one(0);
    after(1000);
    send_one(0);
    done();
}

Test(retention_ms, what_got_old_while_the_store_was_closed_goes_at_the_open) {
    static const int64_t at[] = { 4999, 5000, 50000 };
    for (int i = 0; i < 3; i++) {
        make_root();
        make_two(5000);
        open_store(dir, START + at[i], NULL);
        cr_assert_eq(begin(), i == 0 ? 0 : 1);
        after(1);
        cr_assert_eq(begin(), 1);
        done();
        drop_root();
    }
}

Test(retention_ms, a_clock_far_ahead_of_the_newest_record_is_not_believed_until_the_next_open) {
    for (int over = 0; over < 2; over++) {
        make_root();
        open_store(dir, START,
                   &(leat_topic_options){
                       .segment_bytes = 16384, .segment_ms = 100, .retention_ms = 5000 });
        send_one(0);
        after(1000);
        for (int i = 0; i < 300; i++) // enough for an index, which says when the last was sent
            send_one(0);
        done();
        int64_t open_ms = START + 1000 + 400 * DAY + over;
        open_store(dir, open_ms, NULL);
        cr_assert_eq(begin(), over ? 0 : 1);
        if (over) {
            after(3999);
            cr_assert_eq(begin(), 0);
            after(1);
            cr_assert_eq(begin(), 1, "it stood at START + 1000 and ran on");
            send_one(0); // of the time that the clock says; rolls
            after(50000);
            cr_assert_eq(begin(), 301, "the second segment had its time in this run");
            after(50000);
            send_one(0);
            done();
            open_store(dir, open_ms + 10 * DAY, NULL);
            after(5000);
            cr_assert_eq(begin(), 302, "the clock is believed again");
        }
        done();
        drop_root();
    }
}

Test(retention_ms, it_is_independent_of_what_happens_when_the_topic_is_full) {
    open_store(NULL, START,
               &(leat_topic_options){ .segment_ms = 100,
                                      .retention_ms = 5000,
                                      .retention_records = 2,
                                      .when_full = LEAT_REJECT });
    send_one(0);
    after(101);
    send_one(0);
    fails(LEAT_EFULL, leat_send(p, t, &(leat_record){ .value = LEAT_STR("x") }, NULL));
    after(5000 - 101);
    cr_assert_eq(begin(), 1);
    send_one(0);
    done();
}

Test(retention_ms, settings_are_kept_compared_told_and_have_limits, .init = make_root,
     .fini = drop_root) {
    leat_topic_options o = { .segment_ms = 365 * DAY, .retention_ms = 1, .keep_until_consumed = 1 };
    leat_topic_info info[2];
    leat_topic *u;
    open_store(dir, START, &o);
    ok(leat_topic_open(mq, "plain", NULL, &u));
    for (int again = 0; again < 2; again++) {
        gives(2, leat_topic_list(mq, info, 2, sizeof info[0]));
        int n = info[0].keep_until_consumed ? 0 : 1;
        cr_assert(info[n].retention_ms == 1 && info[n].segment_ms == 365 * DAY &&
                  info[n].keep_until_consumed == 1);
        cr_assert(info[!n].retention_ms == LEAT_FOREVER && info[!n].segment_ms == 365 * DAY &&
                  info[!n].keep_until_consumed == 0);
        ok(leat_topic_open(mq, "t", &o, &u));
        ok(leat_topic_open(
            mq, "plain",
            &(leat_topic_options){ .retention_ms = LEAT_FOREVER, .keep_until_consumed = LEAT_ZERO },
            &u));
        fails_saying(LEAT_EEXIST, "segment_ms",
                     leat_topic_open(mq, "t", &(leat_topic_options){ .segment_ms = 5 }, &u));
        fails_saying(LEAT_EEXIST, "retention_ms",
                     leat_topic_open(mq, "t", &(leat_topic_options){ .retention_ms = 2 }, &u));
        fails_saying(
            LEAT_EEXIST, "keep_until_consumed",
            leat_topic_open(mq, "t", &(leat_topic_options){ .keep_until_consumed = -2 }, &u));
        fails_saying(
            LEAT_EEXIST, "keep_until_consumed",
            leat_topic_open(mq, "plain", &(leat_topic_options){ .keep_until_consumed = 1 }, &u));
        ok(leat_topic_grow(t, 2 + again)); // writes the note once more
        done();
        open_store(dir, START, NULL);
    }
    const leat_topic_options bad[] = {
        { .segment_ms = 365 * DAY + 1 }, { .segment_ms = -1 },         { .retention_ms = -2 },
        { .retention_ms = INT64_MIN },   { .keep_until_consumed = 2 }, { .keep_until_consumed = -1 }
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        fails(LEAT_EINVAL, leat_topic_open(mq, "u", &bad[i], &u));
    ok(leat_topic_open(mq, "huge", &(leat_topic_options){ .retention_ms = INT64_MAX }, &t));
    send_one(0);
    after(365 * DAY + 1);
    send_one(0);
    cr_assert_eq(begin(), 0);
    done();
}

Test(retention_ms, a_failure_leaves_the_segments_for_later_and_does_not_turn_in_circles,
     .init = make_root, .fini = drop_root) {
    open_store(dir, START, &(leat_topic_options){ .segment_ms = 100, .retention_ms = 5000 });
    send_one(0);
    after(101);
    send_one(0);
    ok(leat_fault_push(mq, LEAT_OP_SYNC, NULL, -1, LEAT_EIO, LEAT_FOREVER, 0));
    after(5000);
    cr_assert_eq(begin(), 0);
    after(DAY);
    cr_assert_eq(begin(), 0);
    ok(leat_fault_clear(mq));
    (void)leat_close_all(mq, 0);
    open_store(dir, START + 2 * DAY, NULL);
    cr_assert_eq(begin(), 1);
    done();
}

Test(retention_ms, a_jumping_clock_does_not_jump_for_it) {
    leat_queue *q;
    leat_message m;
    ok(leat_test_open(&mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_ms = 100, .retention_ms = 5000 },
                       &t));
    ok(leat_producer_open(mq, NULL, &p));
    ok(leat_queue_open(mq, "q", NULL, &q));
    send_one(0);
    after(101);
    send_one(0);
    fails(LEAT_EDEADLK, leat_queue_receive(q, LEAT_FOREVER, &m, 1));
    cr_assert_eq(begin(), 0);
    gives(0, leat_queue_receive(q, 5000, &m, 1));
    gives(0, leat_queue_receive(q, 0, &m, 1));
    cr_assert_eq(begin(), 1, "but the clock has passed it");
    done();
}
