/* SPDX-License-Identifier: MIT */
// A consumer's workers are stopped: at leisure, in time, from inside a handler, by a close, a
// shutdown, a crash; and a forked child has none.
#include "lib/handled.h"

#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

static void *stop_it(void *arg) {
    int64_t timeout_ms = *(int64_t *)arg;
    *(int64_t *)arg = leat_workers_stop(w, timeout_ms);
    return NULL;
}

Test(push, a_stop_drains_what_was_fetched) {
    pthread_t thread;
    int64_t result = LEAT_FOREVER;
    open_all(1);
    send_to(0, "g");
    send_to(0, "a");
    start(1);
    wait_at_gate(1);
    send_to(0, "late"); // not fetched
    cr_assert_eq(pthread_create(&thread, NULL, stop_it, &result), 0);
    idle(1); // in the stop
    set_gate(true);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(result, 0);
    handled(0, "g a");
    const leat_message *m;
    gives(1, leat_poll(c, 0, &m));
    is(m->value, "late");
    ok(leat_close_all(mq, 0));
}

Test(push, a_stop_waits_for_retries_until_its_time_and_drops_the_rest) {
    pthread_t thread;
    int64_t result = 1500;
    open_all(2);
    send_to(0, "r1");
    send_to(1, "r2"); // after 3 s
    send_to(1, "a");
    start(2);
    idle(2);
    cr_assert_eq(pthread_create(&thread, NULL, stop_it, &result), 0);
    idle(3);
    ok(leat_clock_advance(mq, 1000));
    idle(3);
    handled(0, "r1 r1");
    handled(1, "r2 r2");
    ok(leat_clock_advance(mq, 500));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(result, 0);
    cr_assert_eq(committed(0), 1);
    cr_assert_eq(committed(1), -1);
    const leat_message *m;
    gives(2, leat_poll(c, 0, &m)); // what was dropped is read again, also by c
    is(m[0].value, "r2");
    is(m[1].value, "a");
    ok(leat_close_all(mq, 0));
}

Test(push, a_stop_says_that_a_handler_still_runs) {
    open_all(1);
    send_to(0, "g");
    send_to(0, "a");
    start(2);
    wait_at_gate(1);
    fails_saying(LEAT_ETIMEDOUT, "1 thread", leat_workers_stop(w, 0));
    fails(LEAT_EBUSY, leat_close_all(mq, 0));
    fails(LEAT_EBUSY, leat_consumer_close(c));
    set_gate(true);
    ok(leat_workers_stop(w, LEAT_FOREVER));
    handled(0, "g");               // and nothing was begun since
    cr_assert_eq(committed(0), 1); // its result counts
    ok(leat_close_all(mq, 0));
}

Test(push, a_stop_times_out_on_the_stores_clock) {
    pthread_t thread;
    int64_t result = 700;
    open_all(1);
    send_to(0, "g");
    start(1);
    wait_at_gate(1);
    cr_assert_eq(pthread_create(&thread, NULL, stop_it, &result), 0);
    idle(1);
    ok(leat_clock_advance(mq, 700));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(result, LEAT_ETIMEDOUT);
    set_gate(true);
    ok(leat_workers_stop(w, LEAT_FOREVER));
    ok(leat_close_all(mq, 0));
}

static atomic_int ended;

static void on_end(void *ctx) {
    pthread_mutex_lock(&seen.lock);
    atomic_fetch_add(&ended, ctx == &ended ? 1 : 100);
    if (seen.inside > 0)
        atomic_fetch_add(&ended, 1000);
    pthread_cond_broadcast(&seen.changed);
    pthread_mutex_unlock(&seen.lock);
}

static void wait_ended(void) {
    pthread_mutex_lock(&seen.lock);
    while (atomic_load(&ended) == 0)
        pthread_cond_wait(&seen.changed, &seen.lock);
    pthread_mutex_unlock(&seen.lock);
    cr_assert_eq(atomic_load(&ended), 1);
}

static void start_ending(int32_t threads) {
    atomic_store(&ended, 0);
    ok(leat_consumer_start(c, take, &ended,
                           &(leat_worker_options){ .threads = threads, .on_end = on_end }, &w));
}

Test(push, on_end_runs_once_and_last) {
    open_all(1);
    send_to(0, "a");
    start_ending(3);
    idle(3);
    cr_assert_eq(atomic_load(&ended), 0);
    ok(leat_workers_stop(w, 0));
    cr_assert_eq(atomic_load(&ended), 1);
    start_ending(1);
    ok(leat_close_all(mq, 1000));
    cr_assert_eq(atomic_load(&ended), 1);
}

Test(push, a_stop_inside_the_handler_returns_at_once_and_on_end_tells) {
    for (int i = 0; i < 4; i++) {
        open_all(3);
        send_to(1, "g");
        start_ending(i == 0 ? 2 : 4);
        wait_at_gate(1); // on another thread
        send_to(0, "s");
        send_to(0, "a"); // not begun
        pthread_mutex_lock(&seen.lock);
        while (!seen.inside_stop)
            pthread_cond_wait(&seen.changed, &seen.lock);
        pthread_mutex_unlock(&seen.lock);
        cr_assert_eq(atomic_load(&ended), 0, "a handler still runs");
        set_gate(true);
        wait_ended();
        handled(0, "s");
        handled(1, "g");
        cr_assert_eq(committed(0), 1);
        cr_assert_eq(committed(1), 1);
        if (i == 1) { // the consumer is its caller's again
            const leat_message *m;
            gives(1, leat_poll(c, 0, &m));
            is(m->value, "a");
            start(1);
            ok(leat_workers_stop(w, 0));
        }
        if (i == 2) {
            ok(leat_consumer_close(c));
            ok(leat_producer_close(p, 0));
            ok(leat_close(mq, 0));
        } else {
            ok(leat_close_all(mq, 0));
        }
    }
}

static void stop_on_report(leat_producer *from, const leat_report *r, void *ctx) {
    (void)from, (void)r;
    *(int *)ctx = leat_workers_stop(w, LEAT_FOREVER);
}

Test(push, a_stop_inside_any_callback_does_not_wait) {
    int rc = -1;
    open_all(1);
    send_to(0, "g");
    start_ending(1);
    wait_at_gate(1);
    ok(leat_send_async(p, t, &(leat_record){ .value = LEAT_STR("a") }, stop_on_report, &rc));
    ok(leat_flush(p, LEAT_FOREVER));
    cr_assert_eq(rc, 0);
    cr_assert_eq(atomic_load(&ended), 0);
    set_gate(true);
    wait_ended();
    handled(0, "g");
    ok(leat_close_all(mq, 0));
}

Test(push, closing_all_stops_the_workers_first_and_is_bounded) {
    open_with(NULL, 1, NULL); // the system clock
    send_to(0, "g");
    start(2);
    wait_at_gate(1);
    fails_saying(LEAT_EBUSY, "handler", leat_close_all(mq, 20));
    set_gate(true);
    ok(leat_close_all(mq, LEAT_FOREVER));
    handled(0, "g");
}

Test(push, no_handler_begins_after_a_shutdown) {
    open_all(1);
    send_to(0, "g");
    send_to(0, "a");
    start_ending(2);
    wait_at_gate(1);
    ok(leat_shutdown(mq));
    set_gate(true);
    ok(leat_workers_stop(w, LEAT_FOREVER)); // in real time: the store's has ended
    handled(0, "g");
    cr_assert_eq(atomic_load(&ended), 1);
    ok(leat_close_all(mq, 0));
}

Test(push, a_crash_beside_a_handler_keeps_what_was_committed) {
    leat *old, *reopened;
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL, .flags = LEAT_CRASHABLE }, 1, NULL);
    send_to(0, "a");
    send_to(0, "g");
    send_to(0, "b");
    start_ending(2);
    wait_at_gate(1);
    ok(leat_crash(mq, LEAT_KILL, &reopened));
    old = mq;
    set_gate(true);
    ok(leat_workers_stop(w, LEAT_FOREVER)); // the result of "g" comes too late
    cr_assert_eq(atomic_load(&ended), 1);
    handled(0, "a g");
    ok(leat_close_all(old, 0));
    mq = reopened;
    cr_assert_eq(committed(0), 1);
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    start(1);
    idle(1);
    handled(0, "a g g b");
    stop_all();
}

static void stop_on_event(leat_consumer *from, const leat_event *e, void *ctx) {
    (void)from;
    if (e->kind == LEAT_EV_ASSIGNED && e->partition == 1)
        *(int *)ctx = leat_workers_stop(w, LEAT_FOREVER);
}

Test(push, a_stop_inside_an_event_does_not_wait) {
    int rc = -1;
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, 2,
              &(leat_consumer_options){ .on_event = stop_on_event, .ctx = &rc });
    send_to(1, "a");
    start_ending(3);
    wait_ended();
    cr_assert_eq(rc, 0);
    handled(1, "");
    ok(leat_close_all(mq, 0));
}

Test(push, a_fork_has_no_workers) {
    open_all(1);
    send_to(0, "a");
    start(2);
    idle(2);
    pid_t child = fork();
    if (child == 0)
        _exit(leat_workers_stop(w, 0) == LEAT_EFORK && leat_close_all(mq, 0) == 0 ? 0 : 1);
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    send_to(0, "b");
    idle(2);
    handled(0, "a b");
    stop_all();
}
