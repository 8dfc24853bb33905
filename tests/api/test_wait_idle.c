/* SPDX-License-Identifier: MIT */
// leat_wait_idle: a test sends, waits until the store is at rest, and looks. In each of the ways in
// which callbacks come, on clocks that only the test moves, and on the system's.
#include "leat_test.h"
#include "lib/async.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

enum { REAL_MS = 20000 };

#define idle() ok(leat_wait_idle(mq, REAL_MS))

static leat_message m;

// ---- nothing, and wrong arguments

Test(wait_idle, a_store_that_does_nothing_is_idle_at_once) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 1, NULL));
        ok(leat_wait_idle(mq, 0));
        ok(leat_wait_idle(mq, LEAT_FOREVER));
        ok(leat_close_all(mq, 0));
    }
    ok(leat_open_memory(NULL, &mq));
    ok(leat_wait_idle(mq, 0));
    ok(leat_close(mq, 0));
}

static void idle_inside(leat_subscription *s, const leat_message *got, void *ctx) {
    (void)s;
    (void)got;
    *(int *)ctx = leat_wait_idle(mq, 0);
}

Test(wait_idle, is_refused_with_wrong_arguments_in_a_callback_and_after_a_shutdown) {
    int rc = 1;
    leat_subscription *s;
    ok(leat_test_open(&mq));
    fails(LEAT_EINVAL, leat_wait_idle(NULL, 0));
    fails(LEAT_EINVAL, leat_wait_idle(mq, -2));
    ok(leat_channel_subscribe(mq, "c", idle_inside, &rc, NULL, &s));
    gives(1, leat_publish(mq, "c", "", 0));
    cr_assert_eq(rc, LEAT_EDEADLK);
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_wait_idle(mq, REAL_MS));
    ok(leat_close_all(mq, 0));
}

// ---- records

Test(wait_idle, every_record_that_was_accepted_has_its_report) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        leat_future *f;
        int64_t mono;
        ok(async_open(mode, NULL, 0, 3, &(leat_producer_options){ .linger_ms = 3600000 }));
        for (int i = 0; i < 100; i++)
            ok(async_number(i, i % 3));
        ok(leat_send_future(p, t, &(leat_record){ .value = LEAT_STR("f") }, &f));
        idle();
        cr_assert_eq(told.count, 100, "%s: %d", async_name[mode], told.count);
        cr_assert_null(told_wrong(100));
        ok(leat_future_wait(f, 0, NULL));
        ok(leat_future_release(f));
        ok(leat_clock_now(mq, &mono, NULL));
        cr_assert_eq(mono, 0);
        ok(leat_close_all(mq, 0));
    }
}

static void send_again(leat_producer *from, const leat_report *r, void *ctx) {
    int *left = ctx;
    told_take(from, r, &told);
    if (--*left > 0)
        (void)leat_send_async(from, t, &(leat_record){ .value = LEAT_STR("x") }, send_again, left);
}

Test(wait_idle, waits_for_what_callbacks_send) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        int left = 50;
        ok(async_open(mode, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 100 }));
        ok(leat_send_async(p, t, &(leat_record){ .value = LEAT_STR("x") }, send_again, &left));
        idle();
        cr_assert_eq(told.count, 50, "%s: %d", async_name[mode], told.count);
        ok(leat_close_all(mq, 0));
    }
}

Test(wait_idle, a_batch_that_waits_to_be_tried_again_is_no_rest_until_time_moves) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 1, NULL));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0));
        ok(async_send("x"));
        fails_saying(LEAT_ETIMEDOUT, "a record that was accepted has no report yet",
                     leat_wait_idle(mq, 20));
        ok(leat_clock_advance(mq, 100));
        idle();
        cr_assert_eq(told.count, 1);
        ok(leat_close_all(mq, 0));
    }
}

// On the system clock time moves by itself, with a thread that sends and without one.
Test(wait_idle, on_the_system_clock_it_waits_for_the_next_try) {
    for (int threads = 0; threads < 2; threads++) {
        leat_options o = { .threads = threads ? 0 : LEAT_NO_THREADS };
        memset(&told, 0, sizeof told);
        ok(fixture_open(NULL, &o, NULL, &(leat_producer_options){ .retry_backoff_ms = 5 }));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 2, 0));
        ok(async_send("x"));
        idle();
        cr_assert_eq(told.count, 1);
        ok(leat_close_all(mq, 0));
    }
}

// ---- what is due

Test(wait_idle, does_what_is_due_now_and_leaves_what_is_due_later) {
    leat_queue *q;
    int64_t in_ms;
    leat_options o = { .clock = LEAT_CLOCK_MANUAL, .sync_interval_ms = 10 };
    ok(fixture_open(NULL, &o, NULL, NULL));
    ok(leat_queue_open(mq, "q", NULL, &q));
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("v"), .delay_ms = 100 }, NULL));
    gives(0, leat_queue_receive(q, 0, &m, 1));
    idle();
    ok(leat_next_due(mq, &in_ms));
    cr_assert_gt(in_ms, 0);
    ok(leat_clock_advance(mq, 100));
    idle();
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

// ---- callbacks

static void count_up(leat_subscription *s, const leat_message *got, void *ctx) {
    (void)s;
    (void)got;
    atomic_fetch_add((atomic_int *)ctx, 1);
}

Test(wait_idle, queued_subscriptions_and_taps_have_heard_all) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        atomic_int heard = 0, tapped = 0;
        leat_subscription *s[3];
        leat_subscription_options o = { .buffer = 1000 };
        ok(async_open(mode, NULL, 0, 2, NULL));
        ok(leat_channel_subscribe(mq, "c", count_up, &heard, &o, &s[0]));
        ok(leat_channel_subscribe(mq, "*", NULL, NULL, &o, &s[1])); // nobody pulls
        ok(leat_topic_tap(t, -1, LEAT_BEGIN, count_up, &tapped, NULL, &s[2]));
        for (int i = 0; i < 200; i++) {
            gives(2, leat_publish(mq, "c", "x", 1));
            ok(async_plain("x"));
        }
        idle();
        cr_assert_eq(atomic_load(&heard), 200, "%s: %d", async_name[mode], atomic_load(&heard));
        cr_assert_eq(atomic_load(&tapped), 200, "%s: %d", async_name[mode], atomic_load(&tapped));
        gives(200, leat_subscription_close(s[1], 0));
        ok(leat_close_all(mq, 0));
    }
}

static sem_t entered, leave;

static void stuck(leat_subscription *s, const leat_message *got, void *ctx) {
    (void)s;
    (void)got;
    (void)ctx;
    sem_post(&entered);
    while (sem_wait(&leave) != 0) // EINTR
        continue;
}

Test(wait_idle, a_callback_that_does_not_return_is_told_after_the_time) {
    leat_subscription *s;
    leat_subscription_options o = { .buffer = 10 };
    sem_init(&entered, 0, 0);
    sem_init(&leave, 0, 0);
    ok(async_open(THREADED, NULL, 0, 1, NULL));
    ok(leat_channel_subscribe(mq, "c", stuck, NULL, &o, &s));
    gives(1, leat_publish(mq, "c", "x", 1));
    fails(LEAT_ETIMEDOUT, leat_wait_idle(mq, 0));
    while (sem_wait(&entered) != 0)
        continue;
    fails_saying(LEAT_ETIMEDOUT, "a callback runs", leat_wait_idle(mq, 20));
    sem_post(&leave);
    idle();
    ok(leat_close_all(mq, 0));
}

static void publish_again(leat_subscription *s, const leat_message *got, void *ctx) {
    (void)s;
    (void)got;
    (void)ctx;
    (void)leat_publish(mq, "c", "x", 1);
}

Test(wait_idle, callbacks_without_an_end_do_not_hold_it) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        leat_subscription *s;
        leat_subscription_options o = { .buffer = 10 };
        ok(async_open(mode, NULL, 0, 1, NULL));
        ok(leat_channel_subscribe(mq, "c", publish_again, NULL, &o, &s));
        gives(1, leat_publish(mq, "c", "x", 1));
        fails(LEAT_ETIMEDOUT, leat_wait_idle(mq, 20));
        cr_assert_geq(leat_subscription_close(s, 0), 0);
        idle();
        ok(leat_close_all(mq, 0));
    }
}

// ---- workers

struct tally {
    atomic_int calls, nested;
};

static int handle(leat_workers *w, const leat_message *got, int64_t *retry_ms, void *ctx) {
    struct tally *tally = ctx;
    (void)w;
    (void)retry_ms;
    atomic_fetch_add(&tally->calls, 1);
    return got->deliveries == 1 && got->value.size == 1 ? LEAT_RETRY : LEAT_DONE;
}

Test(wait_idle, workers_of_queues_have_handled_what_is_there) {
    static const int32_t clocks[] = { LEAT_CLOCK_MANUAL, LEAT_CLOCK_SYSTEM };
    for (int i = 0; i < 2; i++) {
        struct tally tally = { 0 };
        leat_queue *q;
        leat_workers *w;
        leat_queue_stats s;
        ok(fixture_open(NULL, &(leat_options){ .clock = clocks[i] }, NULL, NULL));
        ok(leat_queue_open(mq, "q", NULL, &q));
        leat_worker_options o = { .threads = 3, .retry_ms = i ? 3600000 : 1000 };
        ok(leat_queue_start(q, handle, &tally, &o, &w));
        idle();
        for (int k = 1; k <= 5; k++) {
            for (int n = 0; n < 100; n++)
                ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("done") }, NULL));
            idle();
            cr_assert_eq(atomic_load(&tally.calls), 100 * k);
            ok(leat_queue_get_stats(q, &s, sizeof s));
            cr_assert_eq(s.done, 100u * (unsigned)k);
        }
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("r") }, NULL));
        idle(); // the next try is due later
        cr_assert_eq(atomic_load(&tally.calls), 501);
        if (i == 0) {
            ok(leat_clock_advance(mq, 1000));
            idle();
            cr_assert_eq(atomic_load(&tally.calls), 502);
        }
        ok(leat_workers_stop(w, 0));
        idle();
        ok(leat_close_all(mq, 0));
    }
}

Test(wait_idle, workers_of_consumers_have_committed_what_is_there) {
    struct tally tally = { 0 };
    leat_consumer *c;
    leat_workers *w;
    leat_lag lag[3];
    ok(fixture_open(NULL, &(leat_options){ .clock = LEAT_CLOCK_MANUAL },
                    &(leat_topic_options){ .partitions = 3 }, NULL));
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    ok(leat_consumer_start(c, handle, &tally, &(leat_worker_options){ .threads = 2 }, &w));
    for (int k = 1; k <= 5; k++) {
        for (int i = 0; i < 60; i++)
            ok(leat_send(
                p, t,
                &(leat_record){ .value = LEAT_STR("done"), .to_partition = LEAT_PARTITION(i % 3) },
                NULL));
        idle();
        cr_assert_eq(atomic_load(&tally.calls), 60 * k);
        gives(3, leat_group_lag(mq, "g", lag, 3, sizeof *lag));
        for (int i = 0; i < 3; i++)
            cr_assert_eq(lag[i].lag, 0);
    }
    ok(leat_workers_stop(w, 0));
    ok(leat_close_all(mq, 0));
}

static int stuck_handler(leat_workers *w, const leat_message *got, int64_t *retry_ms, void *ctx) {
    (void)w;
    (void)retry_ms;
    stuck(NULL, got, ctx);
    return LEAT_DONE;
}

Test(wait_idle, a_handler_that_does_not_return_is_told_after_the_time) {
    leat_queue *q;
    leat_workers *w;
    sem_init(&entered, 0, 0);
    sem_init(&leave, 0, 0);
    ok(fixture_open(NULL, &(leat_options){ .clock = LEAT_CLOCK_MANUAL }, NULL, NULL));
    ok(leat_queue_open(mq, "q", NULL, &q));
    ok(leat_queue_start(q, stuck_handler, NULL, NULL, &w));
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("v") }, NULL));
    while (sem_wait(&entered) != 0)
        continue;
    fails_saying(LEAT_ETIMEDOUT, "a handler", leat_wait_idle(mq, 20));
    sem_post(&leave);
    idle();
    ok(leat_workers_stop(w, 0));
    ok(leat_close_all(mq, 0));
}

// ---- threads

static void *wait_long(void *rc) {
    *(int *)rc = leat_wait_idle(mq, LEAT_FOREVER);
    return NULL;
}

Test(wait_idle, ends_with_a_shutdown) {
    pthread_t thread;
    leat_subscription *s;
    leat_subscription_options o = { .buffer = 10 };
    int rc = 0;
    sem_init(&entered, 0, 0);
    sem_init(&leave, 0, 0);
    ok(async_open(THREADED, NULL, 0, 1, NULL));
    ok(leat_channel_subscribe(mq, "c", stuck, NULL, &o, &s));
    gives(1, leat_publish(mq, "c", "x", 1));
    while (sem_wait(&entered) != 0)
        continue;
    cr_assert_eq(pthread_create(&thread, NULL, wait_long, &rc), 0);
    ok(leat_shutdown(mq)); // before or while it waits
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(rc, LEAT_ECLOSED);
    sem_post(&leave);
    ok(leat_close_all(mq, 0));
}

static void *send_some(void *failures) {
    leat_producer *own;
    for (int i = 0; i < 20; i++) {
        int rc = leat_producer_open(mq, NULL, &own);
        for (int k = 0; k < 20 && rc == 0; k++)
            rc = leat_send_async(own, t, &(leat_record){ .value = LEAT_STR("v") }, NULL, NULL);
        rc = rc == 0 ? leat_wait_idle(mq, REAL_MS) : rc;
        rc = rc == 0 ? leat_producer_close(own, REAL_MS) : rc;
        atomic_fetch_add((atomic_int *)failures, rc != 0);
    }
    return NULL;
}

// Beside a service thread, too, which does the same work.
Test(wait_idle, several_wait_while_others_send_and_close) {
    enum { SENDERS = 3 };
    for (enum async_mode mode = POLLED; mode <= MODES; mode++) {
        pthread_t thread[SENDERS];
        atomic_int failures = 0;
        ok(mode < MODES ? async_open(mode, NULL, 0, 1, NULL)
                        : fixture_open(NULL, NULL, NULL, NULL));
        for (int i = 0; i < SENDERS; i++)
            cr_assert_eq(pthread_create(&thread[i], NULL, send_some, &failures), 0);
        for (int i = 0; i < SENDERS; i++)
            cr_assert_eq(pthread_join(thread[i], NULL), 0);
        cr_assert_eq(atomic_load(&failures), 0);
        idle();
        cr_assert_eq(async_end(0), 20 * 20 * SENDERS);
        ok(leat_close_all(mq, 0));
    }
}

static void *wait_again(void *other) {
    int rc;
    do {
        rc = leat_wait_idle(mq, 10);
        if (rc == 0 || rc == LEAT_ETIMEDOUT)
            rc = leat_send_async(p, t, &(leat_record){ .value = LEAT_STR("v") }, NULL, NULL);
    } while (rc == 0);
    atomic_fetch_add((atomic_int *)other, rc != LEAT_ECLOSED);
    return NULL;
}

Test(wait_idle, ends_with_a_crash) {
    pthread_t thread[2];
    atomic_int other = 0;
    leat *again;
    ok(async_open(THREADED, NULL, LEAT_CRASHABLE, 1, NULL));
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, wait_again, &other), 0);
    idle();
    ok(leat_crash(mq, LEAT_KILL, &again));
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    cr_assert_eq(atomic_load(&other), 0);
    cr_assert_geq(leat_close_all(mq, 0), 0);
    ok(leat_wait_idle(again, REAL_MS));
    ok(leat_close_all(again, 0));
}
