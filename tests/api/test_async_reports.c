/* SPDX-License-Identifier: MIT */
// Reports of asynchronous sends: each record that was accepted has exactly one, whatever happens to
// it, and those of a partition come in the order of their offsets.
#include "leat_test.h"
#include "lib/async.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Numbers 0 to n - 1, to two partitions in turn.
static void send_numbers(int n) {
    for (int i = 0; i < n; i++)
        ok(async_number(i, i % 2));
}

static void all_told(enum async_mode mode, int n) {
    const char *wrong = told_wrong(n);
    cr_assert_null(wrong, "%s: %s", async_name[mode], wrong);
}

static void told_all_as(enum async_mode mode, int n, int status, int error) {
    all_told(mode, n);
    cr_assert_eq(told_as(status, error), n, "%s: %d of %d are told as %d, %s: %d, %s",
                 async_name[mode], told_as(status, error), n, status, leat_errname(error),
                 told.one[0].status, leat_errname(told.one[0].error));
    if (status == LEAT_NOT_STORED)
        for (int i = 0; i < n; i++)
            cr_assert_eq(told.one[i].offset, -1);
}

Test(async_reports, a_close_sends_all_and_tells_all) {
    for (enum async_mode mode = 0; mode < MODES; mode++)
        for (int32_t acks = LEAT_ACKS_LOG; acks <= LEAT_ACKS_DISK; acks++) {
            const leat_producer_options o = { .linger_ms = 1000, .acks = acks };
            ok(async_open(mode, NULL, 0, 2, &o));
            send_numbers(6);
            cr_assert_eq(told.count, 0);
            gives(0, leat_producer_close(p, 0));
            told_all_as(mode, 6, LEAT_STORED, 0);
            cr_assert_eq(async_end(0) + async_end(1), 6);
            ok(leat_close(mq, 0));
        }
}

Test(async_reports, a_close_tells_what_it_gives_up_and_counts_it) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .linger_ms = 1000 }));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
        send_numbers(6);
        gives(3, leat_producer_close(p, 0));
        all_told(mode, 6);
        cr_assert_eq(told_as(LEAT_STORED, 0), 3, "%s", async_name[mode]);
        cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_ETIMEDOUT), 3, "%s", async_name[mode]);
        ok(leat_fault_clear(mq));
        cr_assert_eq(async_end(0), 0);
        ok(leat_close(mq, 0));
    }
}

Test(async_reports, closing_all_tells_and_counts_too) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .linger_ms = 1000 }));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 1, LEAT_ENOSPC, LEAT_FOREVER, 0));
        send_numbers(6);
        gives(3, leat_close_all(mq, 0));
        all_told(mode, 6);
    }
}

Test(async_reports, what_is_purged_is_told_and_never_sent) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .linger_ms = 1000 }));
        send_numbers(4);
        gives(4, leat_producer_purge(p)); // open ones
        gives(0, leat_producer_purge(p));
        ok(async_pass(5000));
        told_all_as(mode, 4, LEAT_NOT_STORED, LEAT_EPURGED);
        cr_assert_neq(told.one[0].message[0], '\0');
        memset(&told, 0, sizeof told);
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", -1, LEAT_ENOSPC, 2, 0));
        send_numbers(4);
        ok(async_pass(1000)); // each partition's batch fails and waits
        cr_assert_eq(async_stats().retries, 2);
        gives(4, leat_producer_purge(p));
        send_numbers(0);
        ok(async_pass(5000));
        told_all_as(mode, 4, LEAT_NOT_STORED, LEAT_EPURGED);
        cr_assert_eq(async_end(0) + async_end(1), 0);
        memset(&told, 0, sizeof told);
        send_numbers(4); // it goes on, at once
        ok(async_pass(1000));
        told_all_as(mode, 4, LEAT_STORED, 0);
        cr_assert_eq(async_stats().in_flight_bytes, 0);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_reports, a_failed_sync_is_unknown_and_then_all_is_refused) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        make_dir();
        ok(async_open(mode, dir, 0, 2, &(leat_producer_options){ .linger_ms = 10 }));
        ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 0, LEAT_EIO, 1, 0));
        send_numbers(6);
        ok(async_pass(10));
        all_told(mode, 6);
        for (int i = 0; i < 6; i++) {
            const struct told_one *one = &told.one[i];
            cr_assert_eq(one->status, one->partition == 0 ? LEAT_UNKNOWN : LEAT_STORED);
            cr_assert_eq(one->error, one->partition == 0 ? LEAT_EIO : 0);
            cr_assert_eq(one->offset, atoi(one->value) / 2, "where it may be");
            cr_assert((one->message[0] != '\0') == (one->partition == 0));
        }
        memset(&told, 0, sizeof told);
        send_numbers(6);
        ok(async_pass(10)); // and is not tried again
        all_told(mode, 6);
        cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_EPOISONED), 3);
        cr_assert_eq(told_as(LEAT_STORED, 0), 3);
        leat_producer_stats s = async_stats();
        cr_assert_eq(s.unknown, 3);
        cr_assert_eq(s.retries, 0);
        cr_assert_eq(s.accepted, s.stored + s.not_stored + s.unknown);
        fails(LEAT_EIO, leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(async_reports, a_close_tells_what_is_unknown_and_counts_it) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        make_dir();
        ok(async_open(mode, dir, 0, 2, &(leat_producer_options){ .linger_ms = 10 }));
        ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 0, LEAT_EIO, 1, 0));
        send_numbers(6);
        gives(3, leat_producer_close(p, 0));
        all_told(mode, 6);
        cr_assert_eq(told_as(LEAT_UNKNOWN, LEAT_EIO), 3);
        fails(LEAT_EIO, leat_close_all(mq, 0));
        drop_dir();
    }
}

// ---- no memory

static long refuse_at; // the allocation that fails, counted down; < 0: none

static void *allocate(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0) {
        free(old);
        return NULL;
    }
    if (refuse_at >= 0 && refuse_at-- == 0)
        return NULL;
    return realloc(old, size);
}

// One record with a callback, one with a future, a batch; then they are flushed. Returns  how many
// reports are owed, and *later the number of futures.
static int send_each_way(leat_future **f) {
    leat_batch *b = NULL;
    *f = NULL;
    int owed = async_number(0, 0) == 0;
    const leat_header h = { LEAT_STR("k"), LEAT_STR("v") };
    const leat_record r = { .value = LEAT_STR("9"), .headers = &h, .header_count = 1 };
    (void)leat_send_future(p, t, &r, f);
    if (leat_batch_open(p, t, 1, &b) == 0) {
        bool filled = leat_batch_append(b, &r) == 0;
        owed += leat_batch_send(b, told_take, &told) == 0 && filled;
    }
    for (int i = 1; i < 70; i++) // over the entries that a batch begins with
        owed += async_number(i, 0) == 0;
    return owed;
}

Test(async_reports, whatever_allocation_fails_what_was_accepted_is_told_once) {
    bool failed = true;
    for (long at = 0; failed; at++) {
        leat_options o = {
            .seed = 1, .threads = LEAT_NO_THREADS, .clock = LEAT_CLOCK_JUMP, .alloc = allocate
        };
        leat_report r;
        leat_future *f;
        refuse_at = -1;
        memset(&told, 0, sizeof told);
        ok(fixture_open(NULL, &o, &(leat_topic_options){ .partitions = 2 },
                        &(leat_producer_options){ .linger_ms = 100 }));
        refuse_at = at;
        int owed = send_each_way(&f);
        ok(leat_clock_advance(mq, 100));
        failed = refuse_at < 0;
        refuse_at = -1;
        gives(0, leat_flush(p, LEAT_FOREVER));
        cr_assert_eq(told.count, owed, "at %ld: %d are told, not %d", at, told.count, owed);
        cr_assert_eq(told_as(LEAT_STORED, 0), owed);
        if (f) {
            ok(leat_future_wait(f, 0, &r));
            cr_assert_eq(r.status, LEAT_STORED);
            ok(leat_future_release(f));
        }
        leat_producer_stats s = async_stats();
        cr_assert_eq(s.accepted, (uint64_t)(owed + (f != NULL)));
        cr_assert_eq((uint64_t)(async_end(0) + async_end(1)), s.accepted);
        cr_assert_eq(s.in_flight_bytes, 0);
        ok(leat_close_all(mq, 0));
        cr_assert_lt(at, 1000);
    }
}

Test(async_reports, when_memory_is_out_for_long_all_waits_and_then_goes) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .linger_ms = 10 }));
        send_numbers(6);
        ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, LEAT_FOREVER, 0));
        (void)leat_producer_purge; // it would need none
        cr_assert_eq(leat_producer_open(mq, NULL, &(leat_producer *){ NULL }), LEAT_ENOMEM);
        ok(async_pass(500));
        ok(leat_fault_clear(mq));
        ok(async_pass(2000));
        told_all_as(mode, 6, LEAT_STORED, 0);
        ok(leat_close_all(mq, 0));
    }
}

// ---- the ends of topics and stores

Test(async_reports, when_its_topic_is_deleted_a_record_is_told_as_gone) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .linger_ms = 10 }));
        send_numbers(4);
        ok(leat_topic_delete(mq, "t"));
        fails(LEAT_EGONE, async_send("4"));
        ok(async_pass(10));
        told_all_as(mode, 4, LEAT_NOT_STORED, LEAT_EGONE);
        ok(leat_topic_open(mq, "t", NULL, &t)); // another one
        ok(async_send("4"));
        ok(async_pass(10));
        cr_assert_eq(told.count, 5);
        cr_assert_eq(told.one[4].offset, 0);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_reports, after_a_shutdown_a_close_sends_what_it_can_at_once) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .linger_ms = 10 }));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
        send_numbers(4);
        ok(leat_shutdown(mq));
        fails(LEAT_ECLOSED, async_send("x"));
        fails(LEAT_ECLOSED, leat_flush(p, 0));
        fails(LEAT_ECLOSED, leat_producer_poll(p, 0));
        fails(LEAT_ECLOSED, leat_producer_purge(p));
        gives(2, leat_producer_close(p, LEAT_FOREVER));
        all_told(mode, 4);
        cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_ECLOSED), 2);
        cr_assert_eq(told_as(LEAT_STORED, 0), 2);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_reports, after_a_crash_what_was_told_as_stored_is_there_and_the_rest_is_told) {
    for (enum async_mode mode = 0; mode < MODES; mode++)
        for (int how = LEAT_KILL; how <= LEAT_POWER_CUT; how++) {
            leat *after;
            leat_range range;
            const leat_producer_options o = { .linger_ms = 10, .acks = LEAT_ACKS_DISK };
            ok(async_open(mode, NULL, LEAT_CRASHABLE, 2, &o));
            send_numbers(4);
            ok(async_pass(10));
            cr_assert_eq(told_as(LEAT_STORED, 0), 4);
            for (int i = 4; i < 10; i++)
                ok(async_number(i, i % 2));
            ok(leat_crash(mq, how, &after));
            fails(LEAT_ECLOSED, async_send("x"));
            gives(6, leat_producer_close(p, LEAT_FOREVER));
            all_told(mode, 10);
            cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_ECLOSED), 6);
            ok(leat_close_all(mq, 0));
            mq = after;
            ok(leat_topic_open(mq, "t", NULL, &t));
            ok(leat_topic_range(t, 0, &range));
            cr_assert_eq(range.end, 2);
            ok(leat_close_all(mq, 0));
        }
}

// ---- what a report says

static int content_seen;

static void look(leat_producer *from, const leat_report *r, void *ctx) {
    (void)from;
    const leat_record *sent = ctx, *record = r->record;
    content_seen = 1;
    content_seen += record && strcmp(r->md.topic, "t") == 0 && r->md.partition == 1 &&
                    r->md.offset == 0 && r->md.duplicate == 0;
    content_seen += r->error == 0 && r->status == LEAT_STORED && strcmp(r->message, "") == 0;
    content_seen += record && record->key.size == 3 && strcmp(record->key.data, "key") == 0;
    content_seen += record && record->value.size == 5 && strcmp(record->value.data, "value") == 0;
    content_seen += record && record->header_count == 2 &&
                    strcmp(record->headers[0].name.data, "h") == 0 &&
                    record->headers[1].value.data == NULL;
    content_seen += record && record->timestamp_ms == 42 && r->md.timestamp_ms == 42;
    content_seen += record && record->to_partition == LEAT_PARTITION(1) && sent != record;
}

Test(async_reports, a_report_shows_the_record_as_it_was_sent) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        char key[] = "key", value[] = "value", name[] = "h";
        leat_header h[2] = { { leat_str(name), LEAT_STR("1") }, { leat_str(name), { NULL, 0 } } };
        leat_record r = { .key = leat_str(key),
                          .value = leat_str(value),
                          .headers = h,
                          .header_count = 2,
                          .timestamp_ms = 42,
                          .to_partition = LEAT_PARTITION(1) };
        content_seen = 0;
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .linger_ms = 10 }));
        ok(leat_send_async(p, t, &r, look, &r));
        memset(key, 'x', 3); // it was copied
        memset(value, 'x', 5);
        memset(name, 'x', 1);
        ok(async_pass(10));
        cr_assert_eq(content_seen, 8, "%s: %d of 8 are right", async_name[mode], content_seen);
        ok(async_send("0")); // no time of its own: that at which it is sent
        ok(async_pass(10));
        cr_assert_eq(told.one[0].timestamp_ms, INT64_C(1000000000000) + 20);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_reports, a_report_says_why) {
    ok(async_open(ALONE, NULL, 0, 1, &(leat_producer_options){ .delivery_timeout_ms = LEAT_ZERO }));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0));
    ok(async_send("0"));
    ok(async_pass(0));
    cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_ENOSPC), 1);
    cr_assert_not_null(strstr(told.one[0].message, "t"), "it names the topic");
    cr_assert_not_null(strstr(told.one[0].message, "leat_fault_push"));
    ok(leat_close_all(mq, 0));
}

Test(async_reports, come_in_offset_order_through_faults_and_batches_of_any_size) {
    enum { N = 1500 };
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 3, &(leat_producer_options){ .batch_bytes = 300 }));
        for (int i = 0; i < N; i++) {
            if (i % 100 == 0)
                ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", i / 100 % 3, LEAT_ENOSPC, 2, 0));
            ok(async_number(i, i % 3));
            if (i % 250 == 0)
                ok(async_pass(i % 150));
        }
        ok(async_pass(100000));
        told_all_as(mode, N, LEAT_STORED, 0);
        for (int i = 0; i < N; i++)
            cr_assert_eq(told.one[i].offset, atoi(told.one[i].value) / 3);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_reports, of_what_failed_come_behind_those_that_wait_for_their_sync) {
    for (enum async_mode mode = 0; mode < MODES; mode++)
        for (int purge = 0; purge < 2; purge++) {
            ok(async_open(mode, NULL, 0, 1,
                          &(leat_producer_options){ .acks = LEAT_ACKS_DISK, .batch_bytes = 1 }));
            ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, 0, 1, 0));
            ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, purge ? LEAT_ENOSPC : LEAT_EACCESS, 1,
                               0));
            for (int i = 0; i < 3 - purge; i++)
                ok(async_number(i, 0)); // the sync is still to come
            gives(purge, purge ? leat_producer_purge(p) : 0);
            cr_assert_eq(told.count, 0);
            ok(async_pass(0));
            all_told(mode, 3 - purge);
            cr_assert_eq(told.one[0].status, LEAT_STORED);
            cr_assert_eq(told.one[1].error, purge ? LEAT_EPURGED : LEAT_EACCESS);
            cr_assert_neq(told.one[1].message[0], '\0');
            cr_assert_eq(async_end(0), 2 - purge);
            ok(leat_close_all(mq, 0));
        }
}

// ---- nobody to be told

Test(async_reports, without_acks_nothing_is_told_and_nothing_tried_again) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        leat_future *f = (leat_future *)&told;
        leat_batch *b;
        leat_record r = { .value = LEAT_STR("v") };
        ok(async_open(mode, NULL, 0, 1,
                      &(leat_producer_options){ .acks = LEAT_ACKS_NONE, .linger_ms = 10 }));
        fails_saying(LEAT_EINVAL, "LEAT_ACKS_NONE", async_send("v"));
        fails_saying(LEAT_EINVAL, "LEAT_ACKS_NONE", leat_send_future(p, t, &r, &f));
        cr_assert_null(f);
        ok(leat_batch_open(p, t, 0, &b));
        ok(leat_batch_append(b, &r));
        fails_saying(LEAT_EINVAL, "LEAT_ACKS_NONE", leat_batch_send(b, told_take, &told));
        cr_assert_eq(async_stats().accepted, 0);
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0));
        ok(async_plain("lost"));
        ok(async_pass(10));
        ok(async_plain("v"));
        ok(async_pass(10));
        leat_producer_stats s = async_stats();
        cr_assert_eq(s.not_stored, 1);
        cr_assert_eq(s.stored, 1);
        cr_assert_eq(s.retries, 0);
        cr_assert_eq(async_end(0), 1);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_reports, without_a_callback_a_record_is_sent_counted_and_tried_again) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 1, NULL));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0));
        ok(async_plain("v"));
        ok(async_pass(100));
        leat_producer_stats s = async_stats();
        cr_assert_eq(s.stored, 1);
        cr_assert_eq(s.retries, 1);
        cr_assert_eq(s.reports_waiting, 0);
        ok(leat_close_all(mq, 0));
    }
}

// ---- inside of them

static leat_batch *begun;

static void forbidden(leat_producer *from, const leat_report *r, void *ctx) {
    (void)r;
    int *right = ctx, fd = leat_fd(mq);
    leat_future *f;
    leat_batch *b;
    int64_t ms;
    leat_record record = { .value = LEAT_STR("again") };
    *right = leat_flush(from, 0) == LEAT_EDEADLK;
    *right += leat_producer_poll(from, 0) == LEAT_EDEADLK;
    *right += leat_dispatch(mq, 0) == LEAT_EDEADLK && fd == LEAT_EDEADLK;
    *right += leat_producer_close(from, 0) == LEAT_EDEADLK;
    *right += leat_run_due(mq) == LEAT_EDEADLK && leat_next_due(mq, &ms) == LEAT_EDEADLK;
    *right += leat_close_all(mq, 0) == LEAT_EDEADLK;
    *right += leat_send_future(from, t, &record, &f) == 0 &&
              leat_future_wait(f, 0, NULL) == LEAT_EDEADLK && leat_future_release(f) == 0;
    *right += leat_send_async(from, t, &record, NULL, NULL) == 0;
    *right += leat_batch_open(from, t, 0, &b) == 0 && leat_batch_append(b, &record) == 0 &&
              leat_batch_send(b, NULL, NULL) == 0;
    *right += leat_batch_discard(begun) == 0;
    *right += leat_send(from, t, &record, NULL) == 0;
}

Test(async_reports, a_callback_may_send_and_not_wait) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        int right = 0;
        ok(async_open(mode, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 10 }));
        ok(leat_batch_open(p, t, 0, &begun));
        ok(leat_send_async(p, t, &(leat_record){ .value = LEAT_STR("v") }, forbidden, &right));
        ok(async_pass(10));
        cr_assert_eq(right, 11, "%s: %d", async_name[mode], right);
        ok(async_pass(10));
        cr_assert_eq(async_end(0), 5);
        ok(leat_close_all(mq, 0));
    }
}

static leat_topic *dead;
static int failed, refused, passed_on;

// Hands what failed to another topic, by the producer that it was sent with.
static void pass_on(leat_producer *from, const leat_report *r, void *ctx) {
    if (r->status == LEAT_STORED) {
        (void)ctx;
        return;
    }
    failed++;
    leat_record record = *r->record;
    record.to_partition = 0;
    if (leat_send_async(from, dead, &record, told_take, &told) == 0)
        passed_on++;
    else
        refused++;
}

static void send_to_be_passed_on(enum async_mode mode, int n) {
    failed = refused = passed_on = 0;
    ok(async_open(mode, NULL, 0, 1, &(leat_producer_options){ .delivery_timeout_ms = 50 }));
    ok(leat_topic_open(mq, "dead", NULL, &dead));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    for (int i = 0; i < n; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        ok(leat_send_async(p, t, &(leat_record){ .value = leat_str(text) }, pass_on, NULL));
    }
}

Test(async_reports, a_callback_hands_what_failed_to_another_topic) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        leat_range range;
        send_to_be_passed_on(mode, 5);
        ok(async_pass(50));
        ok(async_pass(50));
        ok(async_pass(50));
        cr_assert_eq(failed, 5);
        told_all_as(mode, 5, LEAT_STORED, 0);
        ok(leat_topic_range(dead, 0, &range));
        cr_assert_eq(range.end, 5);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_reports, what_a_callback_sends_during_a_close_is_told_or_refused) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        send_to_be_passed_on(mode, 5);
        gives(5, leat_producer_close(p, 0)); // given up, and their callbacks send more
        cr_assert_eq(failed, 5);
        cr_assert_eq(passed_on + refused, 5);
        all_told(mode, passed_on);
        ok(leat_topic_open(mq, "more", NULL, &t)); // nothing of it is left behind
        if (mode != ALONE)
            ok(leat_clock_advance(mq, 1000));
        ok(leat_close_all(mq, 0));
    }
}

Test(async_reports, a_close_with_time_sends_what_callbacks_send_during_it) {
    send_to_be_passed_on(ALONE, 5);
    gives(5, leat_producer_close(p, 1000));
    cr_assert_eq(passed_on, 5);
    told_all_as(ALONE, 5, LEAT_STORED, 0);
    ok(leat_close_all(mq, 0));
}
