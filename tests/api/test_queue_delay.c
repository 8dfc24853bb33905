/* SPDX-License-Identifier: MIT */
// Delays of messages and of a queue: from when they count, how they are altered, and who waits for
// them. Time is the test's own.
#include "lib/order.h"

#include <pthread.h>

Test(queue_order, a_delay_counts_from_the_send_and_is_never_early) {
    open_memory();
    open_queue("jobs", NULL);
    send_at("ten", 0, 10 * SECOND);
    ok(leat_clock_advance(mq, 4 * SECOND)); // nobody looks meanwhile
    counts(0, 1, 0, 0);
    send_at("five", 0, 5 * SECOND);
    send_at("now", 0, LEAT_ZERO);
    send_at("plain", 0, 0);
    counts(2, 2, 0, 0);
    done("now");
    done("plain");
    wait_exactly(5 * SECOND);
    counts(1, 1, 0, 0);
    get(&m, "five");
    wait_exactly(1 * SECOND);
    done("ten");
    ok(leat_clock_advance(mq, 30 * SECOND)); // the lease of five ends: no delay a second time
    get(&m, "five");
    cr_assert_eq(m.deliveries, 2);
    ok(leat_queue_ack(q, &m));
    counts(0, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

Test(queue_order, a_delayed_one_of_high_priority_hides_nothing) {
    open_memory();
    open_queue("jobs", NULL);
    send_at("later", 9, SECOND);
    send_at("low", 1, 0);
    get(&m, "low");
    ok(leat_clock_advance(mq, SECOND));
    ok(leat_queue_nack(q, &m, 0, 0));
    done("later");
    done("low");
    ok(leat_close_all(mq, 0));
}

Test(queue_order, a_delay_counts_from_an_asynchronous_send_not_from_its_append) {
    for (int dedup = 0; dedup < 2; dedup++) {
        leat_options o = manual();
        leat_topic *t;
        leat_producer *p;
        o.threads = LEAT_NO_THREADS;
        ok(leat_open_memory(&o, &mq));
        ok(leat_topic_open(mq, "t", &(leat_topic_options){ .dedup_window_count = dedup }, &t));
        ok(leat_producer_open(mq, &(leat_producer_options){ .linger_ms = 2 * SECOND }, &p));
        open_queue("jobs", &(leat_queue_options){ .topic = "t" });
        leat_record r = { .value = LEAT_STR("v"), .delay_ms = 5 * SECOND };
        if (dedup)
            r.dedup_id = leat_str("id");
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0)); // and again, then
        ok(leat_send_async(p, t, &r, NULL, NULL));
        ok(leat_clock_advance(mq, 3 * SECOND));
        (void)leat_run_due(mq);
        ok(leat_flush(p, LEAT_FOREVER));
        counts(0, 1, 0, 0);
        wait_exactly(2 * SECOND);
        done("v");
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_order, a_queues_delay_counts_from_the_timestamp) {
    open_memory();
    open_queue("jobs", &(leat_queue_options){ .delay_ms = 10 * SECOND });
    for (int i = 0; i < 5; i++) {
        send_at("each second one", 0, 0);
        ok(leat_clock_advance(mq, SECOND));
    }
    counts(0, 5, 0, 0);
    nothing(q);
    int64_t in_ms;
    ok(leat_next_due(mq, &in_ms));
    cr_assert_eq(in_ms, 5 * SECOND);
    send_at("at once", 0, LEAT_ZERO); // what is before it is looked at now, and delayed one by one
    counts(1, 5, 0, 0);
    done("at once");
    send_at("behind", 0, 0);
    send_at("its own", 0, 2 * SECOND);
    send_at("urgent", 9, 0); // the queue's delay too
    ok(leat_clock_advance(mq, 2 * SECOND));
    done("its own");
    wait_exactly(3 * SECOND);
    counts(1, 6, 0, 0);
    done("each second one");
    ok(leat_clock_advance(mq, 4 * SECOND));
    counts(4, 2, 0, 0);
    for (int i = 0; i < 4; i++)
        done("each second one");
    wait_exactly(SECOND);
    done("urgent");
    done("behind");
    static const int64_t old = START - 3600 * SECOND, future = START + 3600 * SECOND;
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("old"), .timestamp_ms = old }, NULL));
    done("old");
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x"), .timestamp_ms = future }, NULL));
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("old"), .timestamp_ms = old }, NULL));
    done("old"); // one of the future is no stopper
    wait_exactly(10 * SECOND);
    done("x");
    counts(0, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

Test(queue_order, a_long_tail_that_is_delayed_is_counted_exactly) {
    open_memory();
    open_queue("jobs", &(leat_queue_options){ .delay_ms = 100 * SECOND, .in_flight_max = 100 });
    for (int i = 0; i < 2000; i++) {
        send_at("v", 0, 0);
        ok(leat_clock_advance(mq, 10));
    }
    ok(leat_clock_advance(mq, 100 * SECOND - 20 * SECOND));
    for (uint64_t i = 1; i <= 2000; i += 111) {
        counts(i, 2000 - i, 0, 0);
        ok(leat_clock_advance(mq, 1110));
    }
    ok(leat_close_all(mq, 0));
}

Test(queue_order, the_queues_delay_is_stored_compared_and_altered) {
    make_dir();
    leat_options o = manual();
    ok(leat_open(dir, &o, &mq));
    open_queue("jobs", &(leat_queue_options){ .delay_ms = 10 * SECOND });
    ok(leat_queue_close(q));
    ok(leat_close(mq, 0));
    ok(leat_open(dir, &o, &mq));
    open_queue("jobs", NULL); // as it is
    ok(leat_queue_close(q));
    open_queue("jobs", &(leat_queue_options){ .delay_ms = 10 * SECOND });
    static const int64_t others[] = { 1, LEAT_ZERO };
    for (size_t i = 0; i < 2; i++)
        fails_saying(
            LEAT_EEXIST, "delay_ms",
            leat_queue_open(mq, "jobs", &(leat_queue_options){ .delay_ms = others[i] }, &q));
    open_queue("jobs", NULL);
    send_at("a", 0, 0);
    send_at("b", 9, 0);
    counts(0, 2, 0, 0); // both were looked at, and have their times
    send_at("c", 0, 0);
    ok(leat_queue_close(q));
    open_queue("jobs", &(leat_queue_options){ .flags = LEAT_ALTER, .delay_ms = 1 });
    ok(leat_clock_advance(mq, 1));
    done("c"); // was not: it goes by the new one
    ok(leat_queue_close(q));
    open_queue("jobs", &(leat_queue_options){ .flags = LEAT_ALTER, .delay_ms = LEAT_ZERO });
    send_at("d", 0, 0);
    done("d");
    nothing(q);
    ok(leat_close_all(mq, 0));
    ok(leat_open(dir, &o, &mq));
    open_queue("jobs", &(leat_queue_options){ .delay_ms = LEAT_ZERO });
    done("b"); // the queue has no delay now
    done("a");
    ok(leat_close_all(mq, 0));
    drop_dir();
}

// ---- blocked receives

struct caller {
    pthread_t thread;
    int rc;
    leat_message m;
};

static void *receive_one(void *ctx) {
    struct caller *c = ctx;
    c->rc = leat_queue_receive(q, LEAT_FOREVER, &c->m, 1);
    return NULL;
}

Test(queue_order, a_blocked_receive_wakes_when_a_delay_ends) {
    for (int by = 0; by < 3; by++) { // the record's, the queue's, the queue's after an alteration
        open_memory();
        open_queue("jobs", &(leat_queue_options){ .delay_ms = by == 0   ? 0
                                                              : by == 1 ? 5 * SECOND
                                                                        : DAY });
        struct caller c[2];
        for (int i = 0; i < 2; i++) {
            cr_assert_eq(pthread_create(&c[i].thread, NULL, receive_one, &c[i]), 0);
            ok(leat_clock_wait_blocked(mq, i + 1, REAL_MS));
        }
        send_at("a", 0, by == 0 ? 5 * SECOND : 0);
        send_at("b", 0, by == 0 ? 5 * SECOND : 0);
        ok(leat_clock_wait_blocked(mq, 2, REAL_MS));
        ok(leat_clock_advance(mq, 5 * SECOND - 1));
        ok(leat_clock_wait_blocked(mq, 2, REAL_MS));
        if (by == 2)
            open_queue("jobs",
                       &(leat_queue_options){ .flags = LEAT_ALTER, .delay_ms = 5 * SECOND - 1 });
        else
            ok(leat_clock_advance(mq, 1));
        for (int i = 0; i < 2; i++) {
            cr_assert_eq(pthread_join(c[i].thread, NULL), 0);
            cr_assert_eq(c[i].rc, 1);
            is(c[i].m.value, i ? "b" : "a");
            ok(leat_queue_ack(q, &c[i].m));
        }
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_order, a_jumping_clock_jumps_to_the_end_of_a_delay) {
    leat_options o = { .clock = LEAT_CLOCK_JUMP, .threads = LEAT_NO_THREADS, .seed = 1 };
    int64_t now;
    ok(leat_open_memory(&o, &mq));
    open_queue("jobs", &(leat_queue_options){ .delay_ms = 7 * SECOND });
    send_at("own", 0, 3 * SECOND);
    gives(0, leat_queue_receive(q, 2 * SECOND, &m, 1));
    gives(1, leat_queue_receive(q, LEAT_FOREVER, &m, 1));
    ok(leat_clock_now(mq, &now, NULL));
    cr_assert_eq(now, 3 * SECOND);
    ok(leat_queue_ack(q, &m));
    send_at("the queue's", 0, 0);
    gives(1, leat_queue_receive(q, DAY, &m, 1));
    ok(leat_clock_now(mq, &now, NULL));
    cr_assert_eq(now, 10 * SECOND);
    ok(leat_queue_ack(q, &m));
    fails(LEAT_EDEADLK, leat_queue_receive(q, LEAT_FOREVER, &m, 1));
    ok(leat_close_all(mq, 0));
}
