/* SPDX-License-Identifier: MIT */
// Batches of asynchronous sends: when they go, in which order, how often they are tried, and those
// that are made by hand.
#include "leat_test.h"
#include "lib/async.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 48 }; // of a record with ten bytes and nothing else, as it is stored
#define TEN "0123456789"

static void stored(enum async_mode mode, int n) {
    const char *wrong = told_wrong(n);
    cr_assert_null(wrong, "%s: %s", async_name[mode], wrong);
    cr_assert_eq(told_as(LEAT_STORED, 0), n);
}

static void at_once(const leat_producer_options *o) {
    ok(async_open(ALONE, NULL, 0, 2, o));
}

// ---- when they go

Test(async_batches, go_after_linger_ms_of_their_first_record) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .linger_ms = 10 }));
        ok(async_number(0, 0));
        ok(async_pass(6));
        ok(async_number(1, 0)); // does not begin it anew
        ok(async_number(2, 1)); // and this is another's first
        ok(async_pass(3));
        cr_assert_eq(async_end(0), 0);
        ok(async_pass(1));
        cr_assert_eq(async_end(0), 2);
        cr_assert_eq(async_end(1), 0);
        ok(async_pass(5));
        cr_assert_eq(async_end(1), 0);
        ok(async_pass(1));
        stored(mode, 3);
        cr_assert_eq(async_stats().batches, 2);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_batches, without_linger_go_when_somebody_looks) {
    at_once(NULL);
    ok(async_plain("a"));
    ok(async_plain("b"));
    cr_assert_eq(async_end(0) + async_end(1), 0);
    gives(1, leat_run_due(mq));
    cr_assert_eq(async_end(0) + async_end(1), 2);
    gives(0, leat_run_due(mq));
    ok(leat_close_all(mq, 0));
}

Test(async_batches, with_linger_for_ever_wait_for_a_flush) {
    at_once(&(leat_producer_options){ .linger_ms = LEAT_FOREVER });
    int64_t in_ms;
    ok(async_plain("a"));
    ok(leat_next_due(mq, &in_ms));
    cr_assert_eq(in_ms, LEAT_FOREVER);
    ok(leat_clock_advance(mq, 1000000));
    cr_assert_eq(async_end(0) + async_end(1), 0);
    gives(0, leat_flush(p, 0));
    cr_assert_eq(async_end(0) + async_end(1), 1);
    ok(leat_close_all(mq, 0));
}

Test(async_batches, go_at_once_when_they_are_full) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        const leat_producer_options o = { .linger_ms = 1000, .batch_bytes = 3 * SIZE };
        const leat_record r = { .value = LEAT_STR(TEN), .to_partition = LEAT_PARTITION(1) };
        ok(async_open(mode, NULL, 0, 2, &o));
        for (int i = 0; i < 7; i++)
            ok(leat_send_async(p, t, &r, NULL, NULL));
        cr_assert_eq(async_end(1), 6, "%s", async_name[mode]);
        cr_assert_eq(async_stats().batches, 2);
        cr_assert_eq(async_stats().in_flight_bytes, SIZE);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_batches, that_a_record_does_not_fit_in_goes_without_it) {
    at_once(&(leat_producer_options){ .linger_ms = 1000, .batch_bytes = 3 * SIZE + SIZE / 2 });
    const leat_record large = { .value = { "................................................", 48 },
                                .to_partition = LEAT_PARTITION(0) };
    for (int i = 0; i < 3; i++)
        ok(async_number(i, 0));
    cr_assert_eq(async_end(0), 0);
    ok(leat_send_async(p, t, &large, NULL, NULL));
    cr_assert_eq(async_end(0), 3);
    ok(leat_flush(p, 0));
    cr_assert_eq(async_end(0), 4);
    ok(leat_close_all(mq, 0));
}

Test(async_batches, take_a_first_record_of_any_size) {
    static char bytes[16 * 1024 * 1024 + 1];
    static const int64_t batch_bytes[] = { 1, 100, 16 * 1024 };
    static const size_t large[] = { 101, 20000, 1 << 20, 16 * 1024 * 1024 - 64 };
    for (size_t i = 0; i < sizeof batch_bytes / sizeof *batch_bytes; i++)
        for (size_t j = 0; j < sizeof large / sizeof *large; j++) {
            leat_batch *b;
            const leat_record r = { .value = { bytes, large[j] } };
            const leat_producer_options o = { .batch_bytes = batch_bytes[i],
                                              .buffer_memory_bytes = 64, // over that, too
                                              .linger_ms = 1000 };
            ok(async_open(ALONE, NULL, 0, 1, &o));
            ok(async_plain("small"));
            ok(leat_send_async(p, t, &r, NULL, NULL));
            ok(async_plain("small"));
            ok(leat_batch_open(p, t, 0, &b));
            ok(leat_batch_append(b, &r));
            if ((int64_t)large[j] > batch_bytes[i])
                fails(LEAT_EFULL, leat_batch_append(b, &r));
            ok(leat_batch_send(b, NULL, NULL));
            ok(leat_flush(p, 0));
            cr_assert_eq(async_end(0), 4);
            const leat_record huge = { .value = { bytes, sizeof bytes } };
            fails(LEAT_ETOOBIG, leat_send_async(p, t, &huge, NULL, NULL));
            ok(leat_close_all(mq, 0));
        }
}

Test(async_batches, go_before_what_is_sent_at_once_to_the_same_partition) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        leat_metadata md[2];
        const leat_record r = { .value = LEAT_STR("s"), .to_partition = LEAT_PARTITION(0) };
        const leat_record two[2] = { r, r };
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .linger_ms = 1000 }));
        ok(async_number(0, 0));
        ok(async_number(1, 0));
        ok(leat_send(p, t, &r, md));
        cr_assert_eq(md[0].offset, 2);
        ok(async_number(2, 0));
        ok(leat_send_many(p, t, two, 2, md));
        cr_assert_eq(md[0].offset, 4);
        ok(async_number(3, 0));
        ok(leat_send_if(p, t, 0, 7, &r, md));
        cr_assert_eq(md[0].offset, 7);
        ok(async_pass(0));
        stored(mode, 4);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_batches, that_wait_to_be_tried_again_go_before_what_is_sent_at_once) {
    leat_metadata md;
    at_once(NULL);
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 3, 0));
    ok(async_number(0, 0));
    ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("s"), .to_partition = 1 }, &md));
    cr_assert_eq(md.offset, 1); // it waited
    cr_assert_eq(async_now(), 100 + 200 + 400);
    ok(leat_close_all(mq, 0));
}

Test(async_batches, of_another_producer_are_not_waited_for) {
    leat_producer *other;
    leat_metadata md;
    at_once(&(leat_producer_options){ .linger_ms = 1000 });
    ok(leat_producer_open(mq, NULL, &other));
    ok(async_number(0, 0));
    ok(leat_send(other, t, &(leat_record){ .value = LEAT_STR("s"), .to_partition = 1 }, &md));
    cr_assert_eq(md.offset, 0);
    ok(leat_close_all(mq, 0));
}

// ---- one at a time, in order

Test(async_batches, are_in_flight_one_at_a_time_for_each_partition) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        const leat_producer_options o = { .batch_bytes = 1 }; // a batch each
        ok(async_open(mode, NULL, 0, 2, &o));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, 0, 1, 50)); // slow once
        for (int i = 0; i < 6; i++)
            ok(async_number(i, i % 2));
        cr_assert_eq(async_end(1), 3, "who is not slow does not wait");
        ok(async_pass(49));
        cr_assert_eq(async_end(0), 0);
        ok(async_pass(1));
        cr_assert_eq(async_end(0), 3);
        stored(mode, 6);
        cr_assert_eq(async_stats().retries, 0);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_batches, keep_their_order_when_one_is_tried_again) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        const leat_producer_options o = { .batch_bytes = 1 };
        ok(async_open(mode, NULL, 0, 2, &o));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 2, 0));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_EIO, 1, 5));
        for (int i = 0; i < 8; i++)
            ok(async_number(i, i % 2));
        ok(async_pass(100 + 200 + 4));
        cr_assert_eq(async_end(0), 0);
        cr_assert_eq(async_end(1), 4);
        ok(async_pass(1 + 400));
        stored(mode, 8);
        for (int i = 0; i < 8; i++)
            cr_assert_eq(told.one[i].offset, atoi(told.one[i].value) / 2);
        cr_assert_eq(async_stats().retries, 3);
        ok(leat_close_all(mq, 0));
    }
}

// ---- how often, how long

// The times at which it is tried, up to a second or so: how much time passes until it is stored.
static int64_t time_of_tries(int64_t backoff_ms, int failures) {
    at_once(&(leat_producer_options){ .retry_backoff_ms = backoff_ms });
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, failures, 0));
    ok(async_number(0, 0));
    gives(0, leat_flush(p, LEAT_FOREVER));
    cr_assert_eq(told_as(LEAT_STORED, 0), 1);
    cr_assert_eq(async_stats().retries, (uint64_t)failures);
    int64_t took = async_now();
    ok(leat_close_all(mq, 0));
    return took;
}

Test(async_batches, are_tried_again_after_100_ms_doubled_up_to_a_second) {
    static const int64_t by_default[] = { 100, 300, 700, 1500, 2500, 3500 };
    for (int i = 0; i < 6; i++)
        cr_assert_eq(time_of_tries(0, i + 1), by_default[i]);
    cr_assert_eq(time_of_tries(1, 3), 7);
    cr_assert_eq(time_of_tries(600, 2), 1600);
    cr_assert_eq(time_of_tries(3000, 3), 9000, "more than a second stays");
    cr_assert_eq(time_of_tries(1, 40), 1023 + 30 * 1000);
}

Test(async_batches, are_tried_until_the_delivery_timeout_and_tell_the_last_error) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        const leat_producer_options o = { .delivery_timeout_ms = 1000, .linger_ms = 400 };
        ok(async_open(mode, NULL, 0, 1, &o));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 2, 0));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_EIO, LEAT_FOREVER, 0));
        ok(async_number(0, 0)); // tried at 400, 500, 700, 1000: lingering counts
        ok(async_pass(999));
        cr_assert_eq(told.count, 0);
        ok(async_pass(1));
        cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_EIO), 1);
        cr_assert_eq(async_stats().retries, 3);
        ok(async_number(1, 0));
        ok(leat_fault_clear(mq));
        ok(async_pass(400));
        cr_assert_eq(told_as(LEAT_STORED, 0), 1);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_batches, behind_one_that_fails_have_their_own_time) {
    at_once(&(leat_producer_options){ .delivery_timeout_ms = 1000, .batch_bytes = 1 });
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    ok(async_number(0, 0));
    ok(leat_clock_advance(mq, 600));
    ok(async_number(1, 0));
    ok(async_pass(400));
    cr_assert_eq(told.count, 1);
    ok(async_pass(599));
    cr_assert_eq(told.count, 1);
    ok(async_pass(1));
    cr_assert_eq(told.count, 2);
    ok(leat_close_all(mq, 0));
}

Test(async_batches, with_no_time_are_tried_once_and_with_all_for_ever) {
    at_once(&(leat_producer_options){ .delivery_timeout_ms = LEAT_ZERO });
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0));
    ok(async_number(0, 0));
    ok(async_pass(0));
    cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_ENOSPC), 1);
    cr_assert_eq(async_stats().retries, 0);
    ok(leat_close_all(mq, 0));
    at_once(&(leat_producer_options){ .delivery_timeout_ms = LEAT_FOREVER });
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    ok(async_number(0, 0));
    ok(async_pass(10 * 60 * 1000));
    cr_assert_eq(told.count, 0);
    ok(leat_fault_clear(mq));
    ok(async_pass(1000));
    stored(ALONE, 1);
    ok(leat_close_all(mq, 0));
}

Test(async_batches, are_tried_again_only_for_what_may_be_over) {
    static const int over[] = { LEAT_ENOSPC, LEAT_EFULL, LEAT_ENOMEM,
                                LEAT_EIO,    LEAT_EBUSY, LEAT_ETIMEDOUT };
    static const int for_good[] = { LEAT_EACCESS, LEAT_EGONE, LEAT_EPOISONED, LEAT_ECORRUPT,
                                    LEAT_ECLOSED };
    for (size_t i = 0; i < sizeof over / sizeof *over + sizeof for_good / sizeof *for_good; i++) {
        bool again = i < sizeof over / sizeof *over;
        int error = again ? over[i] : for_good[i - sizeof over / sizeof *over];
        at_once(NULL);
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, error, 1, 0));
        ok(async_number(0, 0));
        ok(async_pass(100));
        cr_assert_eq(told_as(again ? LEAT_STORED : LEAT_NOT_STORED, again ? 0 : error), 1, "%s",
                     leat_errname(error));
        cr_assert_eq(async_stats().retries, again);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_batches, that_a_topic_rejects_go_when_records_are_deleted) {
    const leat_topic_options full = { .retention_records = 2, .when_full = LEAT_REJECT };
    at_once(NULL);
    ok(leat_topic_open(mq, "full", &full, &t));
    for (int i = 0; i < 3; i++) {
        ok(async_number(i, 0));
        ok(async_pass(0));
    }
    cr_assert_eq(told.count, 2);
    ok(leat_topic_delete_records(t, 0, LEAT_END));
    ok(async_pass(1000));
    stored(ALONE, 3);
    ok(leat_close_all(mq, 0));
}

Test(async_batches, what_is_sent_at_once_is_never_tried_again) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        leat_metadata md;
        const leat_record r = { .value = LEAT_STR("s") };
        ok(async_open(mode, NULL, 0, 1, NULL));
        for (int i = 0; i < 3; i++) {
            ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0));
            int rc = i == 0   ? leat_send(p, t, &r, &md)
                     : i == 1 ? leat_send_many(p, t, &r, 1, &md)
                              : leat_send_if(p, t, 0, 0, &r, &md);
            cr_assert_eq(rc, LEAT_ENOSPC);
        }
        cr_assert_eq(async_now(), 0);
        cr_assert_eq(async_end(0), 0);
        cr_assert_eq(async_stats().retries, 0);
        cr_assert_eq(async_stats().accepted, 0);
        ok(leat_close_all(mq, 0));
    }
}

// ---- by hand

static leat_report whole; // of a batch, its pointers not

static void take_whole(leat_producer *from, const leat_report *r, void *ctx) {
    (void)from;
    whole = *r;
    ++*(int *)ctx;
}

Test(async_batches, by_hand_stand_in_order_with_the_rest_and_are_told_once) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        leat_batch *b;
        int count = 0;
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .linger_ms = 10 }));
        ok(leat_batch_open(p, t, 1, &b));
        for (int i = 0; i < 3; i++)
            ok(leat_batch_append(b, &(leat_record){ .value = LEAT_STR("b"), .timestamp_ms = 7 }));
        ok(async_number(0, 1)); // while it is filled
        cr_assert_eq(async_stats().accepted, 1);
        ok(leat_batch_send(b, take_whole, &count));
        ok(async_number(1, 1));
        ok(async_pass(10));
        stored(mode, 2);
        cr_assert_eq(told.one[0].offset, 0);
        cr_assert_eq(told.one[1].offset, 4);
        cr_assert_eq(count, 1);
        cr_assert_eq(whole.md.offset, 1);
        cr_assert_eq(whole.md.partition, 1);
        cr_assert_eq(whole.md.timestamp_ms, 7);
        cr_assert_eq(whole.status, LEAT_STORED);
        cr_assert_null(whole.record);
        cr_assert_eq(async_stats().stored, 5);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_batches, by_hand_fail_and_are_tried_again_as_a_whole) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        leat_batch *b;
        int count = 0;
        ok(async_open(mode, NULL, 0, 1, &(leat_producer_options){ .delivery_timeout_ms = 200 }));
        for (int round = 0; round < 2; round++) {
            ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, round ? 3 : 1, 0));
            ok(leat_batch_open(p, t, 0, &b));
            for (int i = 0; i < 3; i++)
                ok(leat_batch_append(b, &(leat_record){ .value = LEAT_STR("b") }));
            ok(leat_batch_send(b, take_whole, &count));
            ok(async_pass(200));
            cr_assert_eq(count, round + 1);
            cr_assert_eq(whole.status, round ? LEAT_NOT_STORED : LEAT_STORED);
            cr_assert_eq(whole.error, round ? LEAT_ENOSPC : 0);
            cr_assert_eq(whole.md.offset, round ? -1 : 0);
            cr_assert_eq(async_end(0), 3);
        }
        cr_assert_eq(async_stats().not_stored, 3);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_batches, by_hand_take_no_more_when_they_were_full_once) {
    leat_batch *b;
    const leat_record r = { .value = LEAT_STR(TEN) }, small = { .value = LEAT_STR("") };
    at_once(&(leat_producer_options){ .batch_bytes = 3 * SIZE - 1 });
    ok(leat_batch_open(p, t, 0, &b));
    ok(leat_batch_append(b, &r));
    fails(LEAT_EINVAL, leat_batch_append(b, NULL));
    fails(LEAT_EINVAL, leat_batch_append(b, &(leat_record){ .value = { NULL, 0 } }));
    fails(LEAT_EINVAL, leat_batch_append(b, &(leat_record){ .value = LEAT_STR("x"),
                                                            .to_partition = LEAT_PARTITION(1) }));
    ok(leat_batch_append(
        b, &(leat_record){ .value = LEAT_STR(TEN), .to_partition = LEAT_PARTITION(0) }));
    fails_saying(LEAT_EFULL, "2 records", leat_batch_append(b, &r));
    fails(LEAT_EFULL, leat_batch_append(b, &small)); // which would have fitted
    ok(leat_batch_send(b, NULL, NULL));
    ok(leat_flush(p, 0));
    cr_assert_eq(async_end(0), 2);
    ok(leat_close_all(mq, 0));
}

Test(async_batches, by_hand_that_are_empty_or_discarded_are_nothing) {
    leat_batch *b;
    int count = 0;
    at_once(NULL);
    ok(leat_batch_open(p, t, 0, &b));
    ok(leat_batch_send(b, take_whole, &count));
    ok(leat_batch_open(p, t, 0, &b));
    ok(leat_batch_append(b, &(leat_record){ .value = LEAT_STR("x") }));
    ok(leat_batch_discard(b));
    ok(async_pass(1000));
    cr_assert_eq(count, 0);
    cr_assert_eq(async_stats().accepted, 0);
    cr_assert_eq(async_end(0), 0);
    ok(leat_close_all(mq, 0));
}

Test(async_batches, by_hand_are_for_partitions_that_are_there) {
    leat_batch *b = (leat_batch *)&told;
    at_once(NULL);
    fails(LEAT_ERANGE, leat_batch_open(p, t, 2, &b));
    cr_assert_null(b);
    fails(LEAT_ERANGE, leat_batch_open(p, t, -1, &b));
    fails(LEAT_EINVAL, leat_batch_open(NULL, t, 0, &b));
    fails(LEAT_EINVAL, leat_batch_open(p, NULL, 0, &b));
    fails(LEAT_EINVAL, leat_batch_open(p, t, 0, NULL));
    fails(LEAT_EINVAL, leat_batch_append(NULL, &(leat_record){ 0 }));
    fails(LEAT_EINVAL, leat_batch_send(NULL, NULL, NULL));
    fails(LEAT_EINVAL, leat_batch_discard(NULL));
    ok(leat_batch_open(p, t, 0, &b));
    ok(leat_batch_append(b, &(leat_record){ .value = LEAT_STR("x") }));
    ok(leat_topic_delete(mq, "t"));
    fails(LEAT_EGONE, leat_batch_send(b, NULL, NULL));
    fails(LEAT_EGONE, leat_batch_open(p, t, 0, &b));
    cr_assert_eq(async_stats().accepted, 0);
    ok(leat_close_all(mq, 0));
}

Test(async_batches, by_hand_end_after_a_shutdown_too) {
    for (int32_t flags = 0; flags <= (int32_t)LEAT_CRASHABLE; flags += (int32_t)LEAT_CRASHABLE) {
        leat_batch *b, *c;
        ok(async_open(ALONE, NULL, (uint32_t)flags, 1, NULL));
        ok(leat_batch_open(p, t, 0, &b));
        ok(leat_batch_open(p, t, 0, &c));
        ok(leat_batch_append(b, &(leat_record){ .value = LEAT_STR("x") }));
        ok(leat_shutdown(mq));
        fails(LEAT_ECLOSED, leat_batch_append(b, &(leat_record){ .value = LEAT_STR("x") }));
        fails(LEAT_ECLOSED, leat_batch_send(b, NULL, NULL)); // a leak check sees what it leaves
        ok(leat_batch_discard(c));
        gives(0, leat_close_all(mq, 0));
    }
}

Test(async_batches, nothing_is_accepted_where_only_is_read, .init = make_dir, .fini = drop_dir) {
    leat_batch *b = NULL;
    leat_future *f;
    const leat_record r = { .value = LEAT_STR("x") };
    ok(async_open(ALONE, dir, 0, 1, NULL));
    ok(leat_send(p, t, &r, NULL));
    ok(leat_close_all(mq, 0));
    ok(async_open(ALONE, dir, LEAT_READ_ONLY, 1, NULL));
    fails(LEAT_EACCESS, leat_send_async(p, t, &r, NULL, NULL));
    fails(LEAT_EACCESS, leat_send_future(p, t, &r, &f));
    fails(LEAT_EACCESS, leat_batch_open(p, t, 0, &b));
    gives(0, leat_flush(p, LEAT_FOREVER));
    cr_assert_eq(async_end(0), 1);
    ok(leat_close_all(mq, 0));
}

static leat_batch *filled(int records) {
    leat_batch *b;
    ok(leat_batch_open(p, t, 0, &b));
    for (int i = 0; i < records; i++)
        ok(leat_batch_append(b, &(leat_record){ .value = LEAT_STR("x") }));
    return b;
}

Test(async_batches, by_hand_keep_their_producer_from_closing_while_they_are_open) {
    for (int shut = 0; shut < 2; shut++) {
        at_once(&(leat_producer_options){ .name = "p" });
        leat_batch *b = filled(1), *c = filled(2);
        if (shut)
            ok(leat_shutdown(mq));
        fails_saying(LEAT_EBUSY, "producer p: 2 batches", leat_producer_close(p, 0));
        gives(shut ? LEAT_ECLOSED : 0, leat_batch_send(b, NULL, NULL));
        fails_saying(LEAT_EBUSY, "1 batches", leat_producer_close(p, 0));
        ok(leat_batch_discard(c));
        gives(0, leat_producer_close(p, 0));
        cr_assert(shut || async_end(0) == 1);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_batches, by_hand_that_are_open_are_given_up_by_close_all_and_counted) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 1, NULL));
        (void)filled(2);
        (void)filled(0);
        (void)filled(3);
        gives(5, leat_close_all(mq, 0)); // a leak check sees what it leaves
    }
}

Test(async_batches, by_hand_that_are_open_are_named_by_close_all_of_a_strict_store) {
    ok(async_open(ALONE, NULL, LEAT_STRICT, 1, &(leat_producer_options){ .name = "p" }));
    leat_batch *b = filled(1);
    fails_saying(LEAT_EBUSY, "producer p: 1 batches", leat_close_all(mq, 0));
    ok(leat_batch_discard(b));
    gives(0, leat_close_all(mq, 0));
}

static void open_another(leat_producer *from, const leat_report *report, void *ctx) {
    (void)report;
    *(int *)ctx = leat_batch_open(from, t, 0, &(leat_batch *){ NULL });
}

Test(async_batches, by_hand_that_a_callback_leaves_open_end_with_the_producer) {
    int rc = 1;
    at_once(NULL);
    ok(leat_send_async(p, t, &(leat_record){ .value = LEAT_STR("x") }, open_another, &rc));
    gives(0, leat_producer_close(p, LEAT_FOREVER));
    cr_assert_eq(rc, 0);
    ok(leat_close_all(mq, 0));
}
