/* SPDX-License-Identifier: MIT */
// Futures: the report of one record, for whoever waits for it, as long as it is not released.
#include "leat_test.h"
#include "lib/async.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

enum { THREADS = 4 };

static leat_future *f;

static leat_future *send_future(const char *value) {
    leat_future *made = NULL;
    ok(leat_send_future(p, t, &(leat_record){ .value = leat_str(value) }, &made));
    return made;
}

static void told_as_one(leat_future *of, int status, int error) {
    leat_report r;
    ok(leat_future_wait(of, 0, &r));
    cr_assert_eq(r.status, status);
    cr_assert_eq(r.error, error);
    cr_assert((r.message[0] == '\0') == (error == 0));
    cr_assert((r.md.offset == -1) == (status == LEAT_NOT_STORED));
    ok(leat_future_wait(of, LEAT_FOREVER, NULL));
}

static void *wait_for_it(void *arg) {
    leat_report r;
    *(int *)arg = leat_future_wait(f, LEAT_FOREVER, &r);
    if (*(int *)arg == 0)
        *(int *)arg = r.status == LEAT_STORED && strcmp(r.record->value.data, "v") == 0;
    return NULL;
}

static void start_waiters(pthread_t thread[THREADS], int rc[THREADS]) {
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, wait_for_it, &rc[i]), 0);
    ok(leat_clock_wait_blocked(mq, THREADS, 10000));
}

static void end_waiters(pthread_t thread[THREADS], const int rc[THREADS], int want) {
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
        cr_assert_eq(rc[i], want, "%d", rc[i]);
    }
}

Test(async_futures, are_waited_for_by_several_threads) {
    for (enum async_mode mode = POLLED; mode < MODES; mode++) {
        pthread_t thread[THREADS];
        int rc[THREADS];
        ok(async_open(mode, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 10 }));
        f = send_future("v");
        start_waiters(thread, rc);
        ok(leat_clock_advance(mq, 10)); // nobody polls: a future needs no poll
        end_waiters(thread, rc, 1);
        ok(leat_future_release(f));
        ok(leat_close_all(mq, 0));
    }
}

Test(async_futures, waits_end_with_a_shutdown) {
    pthread_t thread[THREADS];
    int rc[THREADS];
    ok(async_open(THREADED, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 10 }));
    f = send_future("v");
    start_waiters(thread, rc);
    ok(leat_shutdown(mq));
    end_waiters(thread, rc, LEAT_ECLOSED);
    ok(leat_future_release(f)); // it can be ended all the same
    gives(0, leat_producer_close(p, 0));
    ok(leat_close(mq, 0));
}

Test(async_futures, waits_last_as_long_as_asked_and_hurry_nothing) {
    leat_report r;
    ok(async_open(ALONE, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 100 }));
    f = send_future("v");
    fails(LEAT_ETIMEDOUT, leat_future_wait(f, 0, &r));
    cr_assert_eq(async_now(), 0);
    fails(LEAT_ETIMEDOUT, leat_future_wait(f, 99, &r));
    cr_assert_eq(async_now(), 99);
    cr_assert_eq(async_end(0), 0);
    ok(leat_future_wait(f, 1, &r));
    cr_assert_eq(async_now(), 100);
    ok(leat_future_release(f));
    f = send_future("v");
    ok(leat_flush(p, 0)); // this does
    ok(leat_future_wait(f, 0, &r));
    ok(leat_future_release(f));
    ok(leat_close_all(mq, 0));
}

static void *advance(void *arg) {
    *(int *)arg = leat_clock_wait_blocked(mq, 1, 10000);
    if (*(int *)arg == 0)
        *(int *)arg = leat_clock_advance(mq, 50);
    return NULL;
}

Test(async_futures, waits_time_out_on_a_manual_clock_too) {
    pthread_t thread;
    int rc;
    ok(async_open(POLLED, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 51 }));
    f = send_future("v");
    cr_assert_eq(pthread_create(&thread, NULL, advance, &rc), 0);
    fails(LEAT_ETIMEDOUT, leat_future_wait(f, 50, NULL));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(rc, 0);
    ok(leat_clock_advance(mq, 1));
    told_as_one(f, LEAT_STORED, 0);
    ok(leat_future_release(f));
    ok(leat_close_all(mq, 0));
}

Test(async_futures, released_early_the_record_is_sent_all_the_same) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 10 }));
        ok(leat_future_release(send_future("a")));
        f = send_future("b");
        ok(leat_future_release(send_future("c")));
        cr_assert_eq(async_end(0), 0);
        ok(async_pass(10));
        cr_assert_eq(async_end(0), 3);
        cr_assert_eq(async_stats().stored, 3);
        told_as_one(f, LEAT_STORED, 0);
        ok(leat_future_release(f));
        fails(LEAT_EINVAL, leat_future_release(NULL));
        fails(LEAT_EBUSY, leat_close(mq, 0));
        ok(leat_producer_close(p, 0));
        ok(leat_close(mq, 0));
    }
}

Test(async_futures, outlive_their_producer_and_keep_the_store_open) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        leat_report r;
        leat_header h = { LEAT_STR("h"), LEAT_STR("1") };
        const leat_record record = {
            .key = LEAT_STR("k"), .value = LEAT_STR("v"), .headers = &h, .header_count = 1
        };
        ok(async_open(mode, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 10 }));
        ok(leat_send_future(p, t, &record, &f));
        leat_future *unheard = send_future("x");
        gives(0, leat_producer_close(p, 0));
        fails_saying(LEAT_EBUSY, "2 futures", leat_close(mq, 0));
        told_as_one(f, LEAT_STORED, 0);
        ok(leat_future_wait(f, 0, &r));
        ok(leat_future_release(unheard)); // of the same batch
        is(r.record->key, "k");
        is(r.record->value, "v");
        is(r.record->headers[0].name, "h");
        cr_assert_str_eq(r.md.topic, "t");
        ok(leat_future_release(f));
        ok(leat_close(mq, 0));
    }
}

Test(async_futures, that_were_not_released_end_with_all_of_the_store) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 10 }));
        (void)send_future("a");
        ok(async_pass(10));
        (void)send_future("b");
        ok(leat_close_all(mq, 0)); // a leak check sees what it leaves
    }
}

Test(async_futures, tell_what_was_purged_failed_or_given_up) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 1,
                      &(leat_producer_options){ .linger_ms = 10, .delivery_timeout_ms = 300 }));
        f = send_future("a");
        gives(1, leat_producer_purge(p));
        told_as_one(f, LEAT_NOT_STORED, LEAT_EPURGED);
        ok(leat_future_release(f));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
        f = send_future("b");
        ok(async_pass(299));
        fails(LEAT_ETIMEDOUT, leat_future_wait(f, 0, NULL));
        ok(async_pass(1));
        told_as_one(f, LEAT_NOT_STORED, LEAT_ENOSPC);
        ok(leat_future_release(f));
        f = send_future("c");
        leat_future *gone = send_future("d");
        ok(leat_future_release(gone));
        ok(async_send("0")); // in the same batch, with a callback
        gives(3, leat_producer_close(p, 0));
        cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_ETIMEDOUT), 1);
        told_as_one(f, LEAT_NOT_STORED, LEAT_ETIMEDOUT);
        ok(leat_future_release(f));
        ok(leat_close(mq, 0));
    }
}

Test(async_futures, tell_what_is_unknown, .init = make_dir, .fini = drop_dir) {
    ok(async_open(THREADED, dir, 0, 1, &(leat_producer_options){ .linger_ms = 10 }));
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 0, LEAT_EIO, 1, 0));
    f = send_future("a");
    ok(async_pass(10));
    told_as_one(f, LEAT_UNKNOWN, LEAT_EIO);
    ok(leat_future_release(f));
    ok(leat_producer_close(p, 0));
    fails(LEAT_EIO, leat_close(mq, 0));
}

Test(async_futures, tell_what_a_crash_took) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        leat *after;
        ok(async_open(mode, NULL, LEAT_CRASHABLE, 1, &(leat_producer_options){ .linger_ms = 10 }));
        f = send_future("a");
        leat_future *g = send_future("b");
        ok(leat_crash(mq, LEAT_KILL, &after));
        fails(LEAT_ECLOSED, leat_future_wait(f, 0, NULL));
        ok(leat_future_release(g));
        gives(1 + 1, leat_producer_close(p, 0));
        fails(LEAT_EBUSY, leat_close(mq, 0));
        ok(leat_future_release(f));
        ok(leat_close(mq, 0));
        ok(leat_close_all(after, 0));
    }
}

Test(async_futures, are_held_to_their_arguments) {
    leat_future *none = (leat_future *)&told;
    const leat_record r = { .value = LEAT_STR("v") };
    ok(async_open(ALONE, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 10 }));
    fails(LEAT_EINVAL, leat_send_future(p, t, &r, NULL));
    fails(LEAT_EINVAL, leat_send_future(NULL, t, &r, &none));
    cr_assert_null(none);
    fails(LEAT_EINVAL, leat_send_future(p, NULL, &r, &none));
    fails(LEAT_EINVAL, leat_send_future(p, t, NULL, &none));
    fails(LEAT_EINVAL, leat_send_future(p, t, &(leat_record){ .priority = 1 }, &none));
    fails(LEAT_ERANGE,
          leat_send_future(p, t, &(leat_record){ .value = r.value, .to_partition = 9 }, &none));
    cr_assert_null(none);
    leat_header wrong = { { NULL, 0 }, LEAT_STR("v") };
    fails(LEAT_EINVAL,
          leat_send_future(p, t,
                           &(leat_record){ .value = r.value, .headers = &wrong, .header_count = 1 },
                           &none));
    fails(LEAT_EINVAL,
          leat_send_future(p, t, &(leat_record){ .value = r.value, .header_count = 1 }, &none));
    fails(LEAT_ETOOBIG,
          leat_send_future(p, t, &(leat_record){ .value = r.value, .header_count = SIZE_MAX },
                           &none));
    fails(LEAT_EINVAL, leat_future_wait(NULL, 0, NULL));
    f = send_future("v");
    fails(LEAT_EINVAL, leat_future_wait(f, -2, NULL));
    fails(LEAT_EINVAL, leat_future_wait(f, INT64_MIN, NULL));
    ok(leat_future_wait(f, INT64_MAX, NULL));
    ok(leat_future_release(f));
    cr_assert_eq(async_stats().accepted, 1);
    ok(leat_close_all(mq, 0));
}

Test(async_futures, on_a_jumping_clock_a_wait_for_nothing_is_an_error) {
    ok(async_open(ALONE, NULL, 0, 1, &(leat_producer_options){ .linger_ms = LEAT_FOREVER }));
    f = send_future("v");
    fails(LEAT_EDEADLK, leat_future_wait(f, LEAT_FOREVER, NULL));
    fails(LEAT_ETIMEDOUT, leat_future_wait(f, 10, NULL));
    ok(leat_future_release(f));
    ok(leat_close_all(mq, 0));
}

// ---- threads that send, wait and release

static void *send_and_wait(void *arg) {
    int *stored = arg;
    for (int i = 0; i < 500; i++) {
        leat_future *mine = NULL;
        leat_report r;
        const leat_record record = { .value = LEAT_STR("v") };
        if (leat_send_future(p, t, &record, &mine) != 0)
            continue;
        if (i % 3 != 0 && leat_future_wait(mine, LEAT_FOREVER, &r) == 0)
            *stored += r.status == LEAT_STORED;
        if (leat_future_release(mine) != 0)
            *stored = -1000000;
        *stored += i % 3 == 0;
    }
    return NULL;
}

Test(async_futures, of_many_threads_are_each_their_own) {
    for (int threads = 0; threads <= LEAT_NO_THREADS; threads++) {
        pthread_t thread[THREADS];
        int stored[THREADS] = { 0 };
        leat_options o = { .threads = threads };
        ok(fixture_open(NULL, &o, NULL, &(leat_producer_options){ .batch_bytes = 200 }));
        for (int i = 0; i < THREADS; i++)
            cr_assert_eq(pthread_create(&thread[i], NULL, send_and_wait, &stored[i]), 0);
        for (int i = 0; i < THREADS; i++) {
            cr_assert_eq(pthread_join(thread[i], NULL), 0);
            cr_assert_eq(stored[i], 500);
        }
        gives(0, leat_producer_close(p, LEAT_FOREVER));
        cr_assert_eq(async_end(0), 500 * THREADS);
        ok(leat_close(mq, 0));
    }
}
