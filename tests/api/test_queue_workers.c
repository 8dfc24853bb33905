/* SPDX-License-Identifier: MIT */
// A queue's messages given to a handler on threads. On a clock that only the test moves: a thread
// that has nothing to do is blocked, and the test waits until all are.
#include "lib/jobs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { TAKEN_MAX = 256 };

static leat_workers *w;

// What handlers did. The first letter of a value says what to do: 'd' dead, 'r' retry until the
// second try, 'l' retry after a minute, 'x' something else, 'g' stand at the gate, 's' stop.
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count, at_gate, ends;
    bool open;
    char value[TAKEN_MAX][16];
    int deliveries[TAKEN_MAX];
} taken = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static int handle(leat_workers *from, const leat_message *msg, int64_t *delay_ms, void *ctx) {
    const char *v = msg->value.data;
    (void)ctx;
    pthread_mutex_lock(&taken.lock);
    if (taken.count < TAKEN_MAX) {
        snprintf(taken.value[taken.count], sizeof taken.value[0], "%s", v);
        taken.deliveries[taken.count++] = msg->deliveries;
    }
    taken.at_gate += v[0] == 'g';
    pthread_cond_broadcast(&taken.changed);
    while (v[0] == 'g' && !taken.open)
        pthread_cond_wait(&taken.changed, &taken.lock);
    taken.at_gate -= v[0] == 'g';
    pthread_mutex_unlock(&taken.lock);
    if (v[0] == 's')
        cr_assert_eq(leat_workers_stop(from, 0), 0);
    if (v[0] == 'l')
        *delay_ms = 60 * SECOND;
    if (v[0] == 'd')
        return LEAT_DEAD;
    if (v[0] == 'x')
        return msg->deliveries > 1 ? LEAT_DONE : 77;
    return (v[0] == 'r' || v[0] == 'l') && msg->deliveries < 2 ? LEAT_RETRY : LEAT_DONE;
}

static void at_end(void *ctx) {
    (void)ctx;
    pthread_mutex_lock(&taken.lock);
    taken.ends++;
    pthread_cond_broadcast(&taken.changed);
    pthread_mutex_unlock(&taken.lock);
}

static void set_gate(bool open) {
    pthread_mutex_lock(&taken.lock);
    taken.open = open;
    pthread_cond_broadcast(&taken.changed);
    pthread_mutex_unlock(&taken.lock);
}

static void wait_at_gate(int count) {
    pthread_mutex_lock(&taken.lock);
    while (taken.at_gate < count)
        pthread_cond_wait(&taken.changed, &taken.lock);
    pthread_mutex_unlock(&taken.lock);
}

static void open_work(const leat_queue_options *o) {
    taken.count = taken.at_gate = taken.ends = 0;
    taken.open = false;
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", o);
}

static void start(leat_worker_options o) {
    o.on_end = at_end;
    ok(leat_queue_start(q, handle, NULL, &o, &w));
}

static void idle(int threads) {
    ok(leat_clock_wait_blocked(mq, threads, REAL_MS));
}

static void done(void) {
    ok(leat_workers_stop(w, LEAT_FOREVER));
    cr_assert_eq(taken.ends, 1);
    ok(leat_close_all(mq, 0));
}

// was: the i-th message that a handler got.
#define was(i, text, times)                                                                        \
    do {                                                                                           \
        cr_assert_str_eq(taken.value[i], text);                                                    \
        cr_assert_eq(taken.deliveries[i], times, "%s: try %d", text, taken.deliveries[i]);         \
    } while (0)

Test(queue_workers, each_message_is_handled_once_and_acked) {
    open_work(NULL);
    start((leat_worker_options){ .threads = 4 });
    for (int i = 0; i < 100; i++)
        send("a");
    ok(leat_clock_advance(mq, 0));
    for (uint64_t all = 0; all < 100; all = stats_of(q).done)
        idle(0);
    idle(4);
    cr_assert_eq(taken.count, 100);
    counts(0, 0, 0, 0);
    done();
}

Test(queue_workers, a_retry_waits_as_the_options_the_list_or_the_handler_say) {
    static const int64_t list[] = { 7 * SECOND };
    for (int how = 0; how < 4; how++) {
        open_work(how == 2 ? &(leat_queue_options){ .backoff_count = 1, .backoff_ms = list }
                           : NULL);
        start((leat_worker_options){ .retry_ms = how == 1 ? 300 : 0 });
        send(how == 3 ? "later" : "retry");
        int64_t ms = how == 0 ? 1000 : how == 1 ? 300 : how == 2 ? 7000 : 60000;
        idle(1);
        while (stats_of(q).delayed == 0)
            idle(1);
        ok(leat_clock_advance(mq, ms - 1));
        counts(0, 1, 0, 0);
        cr_assert_eq(taken.count, 1);
        ok(leat_clock_advance(mq, 1));
        while (stats_of(q).done == 0)
            idle(0);
        idle(1);
        was(1, how == 3 ? "later" : "retry", 2);
        done();
    }
}

Test(queue_workers, what_is_dead_goes_to_the_dead_letter_queue) {
    leat_queue *dead;
    open_work(&(leat_queue_options){ .dead_letter = "dead", .deliveries_max = 1 });
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    start((leat_worker_options){ 0 });
    send("dies");
    while (stats_of(q).dead == 0)
        idle(0);
    send("retry"); // its only try
    while (stats_of(q).dead == 1)
        idle(0);
    take(dead, &m, "dies", 1);
    says(&m, "leat.reason", "handler");
    ok(leat_queue_ack(dead, &m));
    take(dead, &m, "retry", 1);
    says(&m, "leat.reason", "deliveries");
    ok(leat_queue_ack(dead, &m));
    done();
}

Test(queue_workers, what_a_handler_says_else_is_a_retry) {
    open_work(NULL);
    start((leat_worker_options){ .retry_ms = LEAT_ZERO });
    send("x");
    while (stats_of(q).done == 0)
        idle(0);
    was(0, "x", 1);
    was(1, "x", 2);
    done();
}

Test(queue_workers, a_lease_is_renewed_while_its_handler_runs_up_to_a_limit) {
    open_work(&(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND });
    start((leat_worker_options){ .threads = 1, .auto_extend = 5 });
    send("gate");
    wait_at_gate(1);
    for (int i = 0; i < 49; i++) { // nearly five times its lease
        ok(leat_clock_advance(mq, SECOND));
        counts(0, 0, 1, 0);
    }
    ok(leat_clock_advance(mq, 15 * SECOND)); // it is stuck
    counts(1, 0, 0, 0);
    take(q, &m, "gate", 2);
    nothing(q);
    set_gate(true);
    idle(1);
    counts(0, 0, 1, 0); // what the stuck one said is nothing
    ok(leat_queue_ack(q, &m));
    done();
}

Test(queue_workers, without_renewing_a_slow_handler_loses_its_message) {
    open_work(&(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND });
    start((leat_worker_options){ .threads = 1 });
    send("gate");
    wait_at_gate(1);
    ok(leat_clock_advance(mq, 10 * SECOND));
    counts(1, 0, 0, 0);
    take(q, &m, "gate", 2);
    set_gate(true);
    idle(1);
    ok(leat_queue_ack(q, &m));
    counts(0, 0, 0, 0);
    done();
}

Test(queue_workers, a_stop_waits_for_the_handler_and_leaves_the_rest) {
    open_work(NULL);
    start((leat_worker_options){ .threads = 1 });
    send("gate");
    send("rest");
    wait_at_gate(1);
    fails(LEAT_ETIMEDOUT, leat_workers_stop(w, 0)); // it lives, and begins nothing more
    counts(1, 0, 1, 0);
    cr_assert_eq(taken.ends, 0);
    set_gate(true);
    done();
    cr_assert_eq(taken.count, 1, "nothing was begun after it");
}

Test(queue_workers, a_stop_inside_the_handler_returns_at_once) {
    open_work(NULL);
    start((leat_worker_options){ .threads = 3 });
    send("stop");
    pthread_mutex_lock(&taken.lock);
    while (taken.ends == 0)
        pthread_cond_wait(&taken.changed, &taken.lock);
    pthread_mutex_unlock(&taken.lock);
    send("later");
    cr_assert_eq(taken.count, 1);
    take(q, &m, "later", 1);
    ok(leat_queue_ack(q, &m));
    cr_assert_eq(stats_of(q).done, 2, "its own was acked");
    ok(leat_close_all(mq, 0));
}

Test(queue_workers, the_queue_stays_open_as_long_as_they_run) {
    open_work(NULL);
    start((leat_worker_options){ .threads = 2 });
    idle(2);
    leat_queue *again;
    ok(leat_queue_close(q));
    ok(leat_queue_open(mq, "jobs", NULL, &again));
    cr_assert_eq(again, q);
    send("a");
    while (stats_of(q).done == 0)
        idle(0);
    ok(leat_queue_close(q));
    ok(leat_workers_stop(w, LEAT_FOREVER));
    ok(leat_close(mq, 0)); // nothing is open
}

Test(queue_workers, closing_all_and_a_shutdown_end_them) {
    open_work(NULL);
    start((leat_worker_options){ .threads = 2 });
    idle(2);
    ok(leat_close_all(mq, 1000));
    cr_assert_eq(taken.ends, 1);
    open_work(NULL);
    start((leat_worker_options){ .threads = 2 });
    idle(2);
    ok(leat_shutdown(mq));
    ok(leat_close_all(mq, 1000));
    cr_assert_eq(taken.ends, 1);
}

Test(queue_workers, a_receive_that_fails_is_said_and_tried_again) {
    open_work(NULL);
    ok(leat_fault_push(mq, LEAT_OP_RECEIVE, "jobs", -1, LEAT_EIO, 1, 0));
    start((leat_worker_options){ .threads = 1 });
    send("a");
    idle(1);
    cr_assert_eq(taken.count, 0);
    ok(leat_clock_advance(mq, SECOND));
    while (stats_of(q).done == 0)
        idle(0);
    done();
}

Test(queue_workers, wrong_arguments_are_refused) {
    open_work(NULL);
    const leat_worker_options wrong[] = { { .threads = -1 },          { .threads = 257 },
                                          { .auto_extend = -1 },      { .retry_ms = -1 },
                                          { .dead_letter = "dead" },  { .retry_ms = INT64_MAX },
                                          { .reserved = { [7] = 1 } } };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        w = (leat_workers *)&w;
        fails(LEAT_EINVAL, leat_queue_start(q, handle, NULL, &wrong[i], &w));
        cr_assert_null(w);
    }
    fails(LEAT_EINVAL, leat_queue_start(q, NULL, NULL, NULL, &w));
    fails(LEAT_EINVAL, leat_queue_start(q, handle, NULL, NULL, NULL));
    fails(LEAT_EINVAL, leat_queue_start(NULL, handle, NULL, NULL, &w));
    ok(leat_close_all(mq, 0));
    open_jobs(MEMORY, LEAT_CLOCK_JUMP, 0);
    open_queue("jobs", NULL);
    fails_saying(LEAT_EINVAL, "LEAT_NO_THREADS", leat_queue_start(q, handle, NULL, NULL, &w));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_queue_start(q, handle, NULL, NULL, &w));
    ok(leat_close_all(mq, 0));
}
