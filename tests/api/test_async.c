/* SPDX-License-Identifier: MIT */
// Asynchronous sends: each record that is accepted has one end, and it is told.
#include "leat_test.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { TOLD_MAX = 4096 };

struct told {
    int count;
    int64_t offset[TOLD_MAX];
    int status[TOLD_MAX], error[TOLD_MAX];
    char value[TOLD_MAX][16];
};

static leat *mq;
static leat_topic *t;
static leat_producer *p;
static struct told told;

static void tell(leat_producer *from, const leat_report *r, void *ctx) {
    struct told *to = ctx;
    cr_assert_eq(from, p);
    cr_assert_lt(to->count, TOLD_MAX);
    to->offset[to->count] = r->md.offset;
    to->status[to->count] = r->status;
    to->error[to->count] = r->error;
    (void)snprintf(to->value[to->count], 16, "%.*s", (int)r->record->value.size,
                   (const char *)r->record->value.data);
    to->count++;
}

// A store without threads, on a jumping clock.
static void open_alone(const leat_producer_options *o) {
    memset(&told, 0, sizeof told);
    ok(leat_test_open(&mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, o, &p));
}

static void send(const char *value) {
    ok(leat_send_async(p, t, &(leat_record){ .value = leat_str(value) }, tell, &told));
}

static int64_t end(void) {
    leat_range r;
    ok(leat_topic_range(t, 0, &r));
    return r.end;
}

Test(async, a_report_comes_in_a_poll_and_says_where_the_record_is) {
    open_alone(NULL);
    send("a");
    send("b");
    cr_assert_eq(told.count, 0, "not before a poll");
    cr_assert_eq(leat_producer_poll(p, 0), 2);
    cr_assert_eq(told.count, 2);
    cr_assert_eq(told.offset[0], 0);
    cr_assert_eq(told.offset[1], 1);
    cr_assert_eq(told.status[1], LEAT_STORED);
    cr_assert_eq(told.error[1], 0);
    cr_assert_str_eq(told.value[0], "a");
    cr_assert_str_eq(told.value[1], "b");
    cr_assert_eq(leat_producer_poll(p, 0), 0);
    ok(leat_close_all(mq, 0));
}

Test(async, linger_waits_for_more_and_a_flush_does_not) {
    open_alone(&(leat_producer_options){ .linger_ms = 1000 });
    send("a");
    cr_assert_eq(leat_producer_poll(p, 0), 0);
    cr_assert_eq(end(), 0);
    ok(leat_clock_advance(mq, 999));
    cr_assert_eq(end(), 0);
    ok(leat_clock_advance(mq, 1));
    cr_assert_eq(end(), 1);
    send("b");
    ok(leat_flush(p, 0));
    cr_assert_eq(end(), 2);
    cr_assert_eq(told.count, 2);
    ok(leat_close_all(mq, 0));
}

Test(async, a_full_batch_does_not_linger) {
    open_alone(&(leat_producer_options){ .linger_ms = 1000, .batch_bytes = 100 });
    send("0123456789"); // 48 bytes
    cr_assert_eq(end(), 0);
    send("0123456789"); // for 4 more there is no record
    cr_assert_eq(end(), 2);
    ok(leat_flush(p, 0));
    ok(leat_close_all(mq, 0));
}

Test(async, a_sync_send_goes_behind_what_was_sent_before) {
    leat_metadata md;
    open_alone(&(leat_producer_options){ .linger_ms = 1000 });
    send("a");
    send("b");
    ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("c") }, &md));
    cr_assert_eq(md.offset, 2);
    cr_assert_eq(leat_producer_poll(p, 0), 2);
    ok(leat_close_all(mq, 0));
}

Test(async, what_fails_for_a_while_is_tried_again_in_order) {
    open_alone(NULL);
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 3, 0));
    send("a");
    send("b");
    cr_assert_eq(leat_producer_poll(p, 0), 0);
    leat_producer_stats s;
    ok(leat_producer_get_stats(p, &s, sizeof s));
    cr_assert_eq(s.retries, 1);
    cr_assert_eq(s.in_flight, 2);
    cr_assert_eq(leat_flush(p, LEAT_FOREVER), 0);
    int64_t mono;
    ok(leat_clock_now(mq, &mono, NULL));
    cr_assert_eq(mono, 100 + 200 + 400);
    cr_assert_eq(told.count, 2);
    cr_assert_eq(told.offset[1], 1);
    ok(leat_close_all(mq, 0));
}

Test(async, what_fails_for_too_long_is_told_with_the_last_error) {
    open_alone(&(leat_producer_options){ .delivery_timeout_ms = 1000 });
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    send("a");
    cr_assert_eq(leat_flush(p, LEAT_FOREVER), 0);
    cr_assert_eq(told.count, 1);
    cr_assert_eq(told.status[0], LEAT_NOT_STORED);
    cr_assert_eq(told.error[0], LEAT_ENOSPC);
    cr_assert_eq(told.offset[0], -1);
    ok(leat_close_all(mq, 0));
}

Test(async, a_future_is_done_when_its_record_is) {
    leat_future *f, *g;
    leat_report r;
    open_alone(&(leat_producer_options){ .linger_ms = 50 });
    leat_header h = { LEAT_STR("k"), LEAT_STR("v") };
    leat_record record = {
        .key = LEAT_STR("key"), .value = LEAT_STR("a"), .headers = &h, .header_count = 1
    };
    ok(leat_send_future(p, t, &record, &f));
    ok(leat_send_future(p, t, &record, &g));
    cr_assert_eq(leat_future_wait(f, 0, &r), LEAT_ETIMEDOUT);
    ok(leat_future_release(g));
    ok(leat_future_wait(f, LEAT_FOREVER, &r));
    cr_assert_eq(r.md.offset, 0);
    cr_assert_eq(r.status, LEAT_STORED);
    cr_assert_eq(end(), 2);
    cr_assert_eq(leat_producer_close(p, 0), 0);
    cr_assert_str_eq(r.record->value.data, "a");
    cr_assert_str_eq(r.record->headers[0].value.data, "v");
    cr_assert_eq(leat_close(mq, 0), LEAT_EBUSY);
    ok(leat_future_release(f));
    ok(leat_close(mq, 0));
}

Test(async, a_close_gives_every_report_and_says_what_was_lost) {
    open_alone(NULL);
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    send("a");
    send("b");
    cr_assert_eq(leat_producer_close(p, 250), 2);
    cr_assert_eq(told.count, 2);
    cr_assert_eq(told.status[0], LEAT_NOT_STORED);
    cr_assert_eq(told.error[0], LEAT_ETIMEDOUT);
    ok(leat_close(mq, 0));
}

Test(async, a_purge_gives_up_what_is_not_on_its_way) {
    open_alone(&(leat_producer_options){ .linger_ms = 1000 });
    send("a");
    cr_assert_eq(leat_producer_purge(p), 1);
    cr_assert_eq(leat_producer_poll(p, 0), 1);
    cr_assert_eq(told.error[0], LEAT_EPURGED);
    ok(leat_close_all(mq, 0));
}

Test(async, a_full_buffer_is_told_at_once_or_after_a_while) {
    open_alone(&(leat_producer_options){ .buffer_memory_bytes = 100, .max_block_ms = 1000 });
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    send("0123456789");
    send("0123456789");
    leat_record r = { .value = LEAT_STR("0123456789") };
    cr_assert_eq(leat_send_async(p, t, &r, tell, &told), LEAT_EFULL);
    int64_t mono;
    ok(leat_clock_now(mq, &mono, NULL));
    cr_assert_eq(mono, 1000);
    ok(leat_fault_clear(mq));
    ok(leat_send_async(p, t, &r, tell, &told));
    ok(leat_flush(p, LEAT_FOREVER));
    cr_assert_eq(told.count, 3);
    ok(leat_close_all(mq, 0));
}

Test(async, a_batch_by_hand_is_stored_as_a_whole) {
    leat_batch *b;
    open_alone(&(leat_producer_options){ .batch_bytes = 100, .linger_ms = 1000 });
    send("first");
    ok(leat_batch_open(p, t, 0, &b));
    leat_record r = { .value = LEAT_STR("0123456789") };
    ok(leat_batch_append(b, &r));
    ok(leat_batch_append(b, &r));
    cr_assert_eq(leat_batch_append(b, &r), LEAT_EFULL);
    cr_assert_eq(leat_batch_append(b, &(leat_record){ .value = LEAT_STR("") }), LEAT_EFULL);
    ok(leat_batch_send(b, NULL, NULL));
    ok(leat_flush(p, 0));
    cr_assert_eq(end(), 3);
    ok(leat_batch_open(p, t, 0, &b));
    ok(leat_batch_discard(b));
    ok(leat_close_all(mq, 0));
}

Test(async, strict_closing_names_what_was_not_polled_for) {
    open_alone(NULL);
    send("a");
    cr_assert_eq(leat_close_all(mq, 0), LEAT_EBUSY);
    cr_assert_eq(leat_producer_poll(p, 0), 1);
    ok(leat_close_all(mq, 0));
}

static void count_in_callback(leat_producer *from, const leat_report *r, void *ctx) {
    (void)r;
    ++*(_Atomic int *)ctx;
    cr_assert_eq(leat_flush(from, 0), LEAT_EDEADLK);
}

Test(async, with_threads_reports_come_by_themselves) {
    enum { N = 20000 };
    _Atomic int count = 0;
    ok(leat_open_memory(NULL, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, NULL, &p));
    for (int i = 0; i < N; i++)
        ok(leat_send_async(p, t, &(leat_record){ .value = LEAT_STR("x") }, count_in_callback,
                           &count));
    cr_assert_eq(leat_flush(p, LEAT_FOREVER), 0);
    cr_assert_eq(count, N);
    cr_assert_eq(end(), N);
    cr_assert_eq(leat_producer_poll(p, 0), LEAT_EINVAL);
    leat_stats s;
    ok(leat_get_stats(mq, &s, sizeof s));
    cr_assert_eq(s.threads, 2);
    ok(leat_close_all(mq, 0));
}

Test(async, a_slow_log_delays_a_batch_once_and_blocks_nobody) {
    memset(&told, 0, sizeof told);
    ok(leat_open_memory(
        &(leat_options){ .clock = LEAT_CLOCK_MANUAL, .callbacks = LEAT_CALLBACKS_POLL }, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, &(leat_producer_options){ .batch_bytes = 100 }, &p));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, 0, 2, 10));
    for (int i = 0; i < 4; i++)
        send("0123456789"); // two batches
    cr_assert_eq(end(), 0);
    ok(leat_clock_advance(mq, 9));
    cr_assert_eq(end(), 0);
    ok(leat_clock_advance(mq, 1));
    cr_assert_eq(end(), 2);
    ok(leat_clock_advance(mq, 10));
    cr_assert_eq(end(), 4);
    cr_assert_eq(leat_producer_poll(p, 0), 4);
    ok(leat_close_all(mq, 0));
}
