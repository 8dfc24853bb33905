/* SPDX-License-Identifier: MIT */
// Queues: receives that block, what wakes them, and in which order. Time is the test's own.
#include "lib/jobs.h"

#include <pthread.h>

struct waiting {
    pthread_t thread;
    int rc;
    leat_message m;
};

static void *wait_for_one(void *arg) {
    struct waiting *w = arg;
    w->rc = leat_queue_receive(q, 60 * SECOND, &w->m, 1);
    return NULL;
}

static void begin_waiting(struct waiting *w, int blocked) {
    cr_assert_eq(pthread_create(&w->thread, NULL, wait_for_one, w), 0);
    ok(leat_clock_wait_blocked(mq, blocked, REAL_MS));
}

static void ends_with(struct waiting *w, int rc) {
    cr_assert_eq(pthread_join(w->thread, NULL), 0);
    cr_assert_eq(w->rc, rc, "receive is %d, not %d", w->rc, rc);
}

Test(queue, a_blocked_receive_wakes_on_send_nack_lease_end_delay_end_and_shutdown) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND });
    struct waiting w;
    begin_waiting(&w, 1);
    send("a");
    ends_with(&w, 1);
    m = w.m;
    begin_waiting(&w, 1);
    ok(leat_queue_nack(q, &m, 0, 0));
    ends_with(&w, 1);
    ok(leat_message_release(mq, &w.m));
    begin_waiting(&w, 1);
    ok(leat_clock_advance(mq, 10 * SECOND));
    ends_with(&w, 1);
    ok(leat_queue_nack(q, &w.m, 7 * SECOND, 0));
    begin_waiting(&w, 1);
    ok(leat_clock_advance(mq, 7 * SECOND));
    ends_with(&w, 1);
    ok(leat_queue_ack(q, &w.m));
    begin_waiting(&w, 1);
    fails(LEAT_EBUSY, leat_queue_close(q));
    ok(leat_clock_advance(mq, 60 * SECOND));
    ends_with(&w, 0);
    begin_waiting(&w, 1);
    ok(leat_shutdown(mq));
    ends_with(&w, LEAT_ECLOSED);
    fails(LEAT_ECLOSED, leat_queue_receive(q, 0, &m, 1));
    ok(leat_close_all(mq, 0));
}

Test(queue, blocked_receives_are_served_in_order_of_arrival) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    struct waiting w[4];
    for (int i = 0; i < 4; i++)
        begin_waiting(&w[i], i + 1);
    for (int i = 0; i < 4; i++) {
        char text[2] = { (char)('a' + i), 0 };
        send(text);
        ends_with(&w[i], 1);
        is(w[i].m.value, text);
        ok(leat_queue_ack(q, &w[i].m));
    }
    ok(leat_close_all(mq, 0));
}

Test(queue, several_sends_at_once_wake_several) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    struct waiting w[3];
    for (int i = 0; i < 3; i++)
        begin_waiting(&w[i], i + 1);
    for (int i = 0; i < 3; i++)
        send("x");
    for (int i = 0; i < 3; i++) {
        ends_with(&w[i], 1);
        ok(leat_queue_ack(q, &w[i].m));
    }
    ok(leat_close_all(mq, 0));
}

Test(queue, on_a_jumping_clock_waiting_moves_time) {
    ok(leat_test_open(&mq));
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = 12 * HOUR });
    gives(0, leat_queue_receive(q, HOUR, &m, 1));
    int64_t now;
    ok(leat_clock_now(mq, &now, NULL));
    cr_assert_eq(now, HOUR);
    fails(LEAT_EDEADLK, leat_queue_receive(q, LEAT_FOREVER, &m, 1));
    send("a");
    gives(1, leat_queue_receive(q, LEAT_FOREVER, &m, 1));
    ok(leat_message_release(mq, &m));
    gives(1, leat_queue_receive(q, LEAT_FOREVER, &m, 1));
    ok(leat_clock_now(mq, &now, NULL));
    cr_assert_eq(now, 13 * HOUR);
    cr_assert_eq(m.deliveries, 2);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}
