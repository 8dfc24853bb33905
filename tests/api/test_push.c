/* SPDX-License-Identifier: MIT */
// A consumer's messages given to a handler on threads: order, results, retries, how many threads,
// and whose the consumer is meanwhile.
#include "lib/handled.h"

// ---- what a result means

Test(push, messages_come_in_order_and_are_committed_each) {
    for (int32_t threads = 0; threads < 4; threads++) {
        open_all(2);
        send_to(0, "a");
        start(threads);
        idle(threads ? threads : 1);
        cr_assert_eq(committed(0), 1);
        for (int i = 0; i < 3; i++) {
            send_to(0, "b");
            send_to(1, "c");
        }
        idle(threads ? threads : 1);
        handled(0, "a b b b");
        handled(1, "c c c");
        cr_assert_eq(committed(0), 4);
        cr_assert_eq(committed(1), 3);
        cr_assert_eq(seen.one[0].deliveries, 1);
        cr_assert_eq(seen.one[0].w, w);
        stop_all();
    }
}

Test(push, a_retry_waits_longer_each_time_and_holds_back_its_partition_alone) {
    open_all(2);
    send_to(0, "r4");
    send_to(0, "a");
    ok(leat_consumer_start(c, take, NULL, &(leat_worker_options){ .threads = 2, .retry_ms = 100 },
                           &w));
    idle(2);
    send_to(1, "b");
    idle(2);
    handled(0, "r4");
    handled(1, "b");
    cr_assert_eq(committed(0), -1);
    const int64_t waits[] = { 100, 200, 400, 800 };
    for (int i = 0; i < 4; i++) {
        ok(leat_clock_advance(mq, waits[i] - 1));
        idle(2);
        cr_assert_eq(seen.count, 2 + i);
        ok(leat_clock_advance(mq, 1));
        idle(2);
        cr_assert_eq(seen.count, 3 + i + (i == 3), "%d", seen.count);
    }
    handled(0, "r4 r4 r4 r4 r4 a");
    cr_assert_eq(seen.one[5].deliveries, 5);
    cr_assert_eq(committed(0), 2);
    stop_all();
}

Test(push, a_retry_doubles_up_to_a_minute_and_begins_anew_with_each_message) {
    open_all(1);
    send_to(0, "r9");
    send_to(0, "r1");
    start(1);
    idle(1);
    int64_t sum = 0, wait = 1000;
    for (int i = 0; i < 9; i++) {
        ok(leat_clock_advance(mq, wait));
        idle(1);
        sum += wait;
        cr_assert_eq(seen.one[i + 1].at_ms, sum, "%d", i);
        wait = wait < 30000 ? 2 * wait : 60000;
    }
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    cr_assert_eq(seen.count, 12);
    cr_assert_eq(seen.one[11].deliveries, 2);
    stop_all();
}

Test(push, a_handler_says_how_long_a_retry_waits) {
    open_all(1);
    send_to(0, "q");
    send_to(0, "l");
    send_to(0, "o1"); // a result that is none is a retry
    start(1);
    idle(1);
    handled(0, "q q l");
    ok(leat_clock_advance(mq, 89999));
    idle(1);
    handled(0, "q q l");
    ok(leat_clock_advance(mq, 1));
    idle(1);
    handled(0, "q q l l o1");
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    handled(0, "q q l l o1 o1");
    stop_all();
    open_all(1); // and with LEAT_ZERO there is no wait
    send_to(0, "r9");
    ok(leat_consumer_start(c, take, NULL, &(leat_worker_options){ .retry_ms = LEAT_ZERO }, &w));
    idle(1);
    cr_assert_eq(seen.count, 10);
    stop_all();
}

Test(push, commits_on_disk_wait_for_the_lane_to_be_empty) {
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, 2,
              &(leat_consumer_options){ .commit_acks = LEAT_ACKS_DISK });
    for (int i = 0; i < 3; i++)
        send_to(0, "a");
    send_to(0, "g");
    send_to(0, "r1");
    start(1);
    wait_at_gate(1);
    cr_assert_eq(committed(0), -1);
    set_gate(true);
    idle(1);
    cr_assert_eq(committed(0), 4, "a message waits: the thread has nothing else");
    set_gate(false);
    send_to(1, "a");
    idle(1);
    cr_assert_eq(committed(1), 1);
    send_to(1, "a");
    send_to(1, "g");
    wait_at_gate(1);
    fails(LEAT_ETIMEDOUT, leat_workers_stop(w, 0));
    set_gate(true);
    ok(leat_workers_stop(w, LEAT_FOREVER));
    cr_assert_eq(committed(1), 3);
    ok(leat_close_all(mq, 0));
}

// ---- threads

Test(push, partitions_run_in_parallel_and_each_alone) {
    open_all(4);
    for (int i = 0; i < 4; i++) {
        send_to(i, "g");
        send_to(i, "a");
    }
    start(4);
    wait_at_gate(4); // all at once
    cr_assert_eq(seen.count, 4);
    set_gate(true);
    idle(4);
    for (int i = 0; i < 4; i++) {
        handled(i, "g a");
        cr_assert_eq(committed(i), 2);
    }
    stop_all();
}

Test(push, more_threads_than_partitions_are_no_harm) {
    open_all(2);
    start(6);
    idle(6);
    for (int i = 0; i < 20; i++)
        send_to(i % 2, "a");
    idle(6);
    cr_assert_eq(seen.count, 20);
    cr_assert(!seen.overlap && seen.inside_max <= 2);
    leat_stats s;
    ok(leat_get_stats(mq, &s, sizeof s));
    cr_assert_eq(s.read, 20);
    cr_assert_geq(s.threads, 6);
    stop_all();
}

Test(push, one_thread_serves_all_while_one_waits_for_its_retry) {
    open_all(3);
    send_to(0, "r1");
    start(1);
    idle(1);
    for (int i = 0; i < 5; i++) {
        send_to(1, "a");
        send_to(2, "b");
        idle(1);
    }
    handled(0, "r1");
    handled(1, "a a a a a");
    handled(2, "b b b b b");
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    handled(0, "r1 r1");
    stop_all();
}

static int keep_one(leat_workers *from, const leat_message *m, int64_t *delay_ms, void *ctx) {
    (void)from, (void)delay_ms;
    leat_message *kept = ctx;
    if (m->offset != 1)
        return LEAT_DONE;
    return leat_message_hold(mq, m, kept) == 0 ? LEAT_DONE : LEAT_DEAD;
}

Test(push, a_handler_holds_its_message_and_sends) {
    leat_message kept = { .offset = -1 };
    open_all(1);
    for (int i = 0; i < 4; i++)
        send_to(0, i == 1 ? "kept" : "a");
    ok(leat_consumer_start(c, keep_one, &kept, NULL, &w));
    idle(1);
    ok(leat_workers_stop(w, 0));
    is(kept.value, "kept");
    ok(leat_message_release(mq, &kept));
    ok(leat_close_all(mq, 0));
}

static int call_all(leat_workers *from, const leat_message *m, int64_t *delay_ms, void *ctx) {
    const leat_message *got;
    leat_message copy = *m;
    (void)delay_ms;
    int *wrong = ctx;
    *wrong += leat_poll(c, 0, &got) != LEAT_EDEADLK;
    *wrong += leat_consumer_close(c) != LEAT_EDEADLK;
    *wrong += leat_flush(p, 0) != LEAT_EDEADLK;
    *wrong += leat_close_all(mq, 0) != LEAT_EDEADLK;
    *wrong += leat_message_release(mq, &copy) != LEAT_EINVAL;
    *wrong += leat_consumer_wakeup(c) != 0;
    leat_workers *out;
    *wrong += leat_consumer_start(c, call_all, NULL, NULL, &out) != LEAT_EDEADLK;
    *wrong += from != w;
    if (m->offset == 0) // a send is allowed
        *wrong += leat_send(p, t, &(leat_record){ .value = LEAT_STR("b") }, NULL) != 0;
    return LEAT_DONE;
}

Test(push, a_handler_is_a_callback) {
    int wrong = 0;
    open_all(1);
    send_to(0, "a");
    ok(leat_consumer_start(c, call_all, &wrong, NULL, &w));
    idle(1);
    cr_assert_eq(wrong, 0);
    cr_assert_eq(committed(0), 2);
    stop_all();
}

// ---- whose the consumer is

Test(push, the_consumer_is_the_workers_until_they_are_stopped) {
    const leat_message *m;
    leat_position at;
    leat_workers *second;
    open_all(1);
    for (int i = 0; i < 3; i++)
        send_to(0, "a");
    gives(3, leat_poll(c, 0, &m));
    ok(leat_consumer_seek(c, "t", 0, 1)); // where it stands
    start(1);
    idle(1);
    handled(0, "a a");
    fails_saying(LEAT_EBUSY, "stop them", leat_poll(c, 0, &m));
    fails(LEAT_EBUSY, leat_commit(c));
    fails(LEAT_EBUSY, leat_consumer_subscribe(c, NULL));
    fails(LEAT_EBUSY, leat_consumer_assign(c, NULL, 0));
    fails(LEAT_EBUSY, leat_consumer_seek(c, "t", 0, 0));
    fails(LEAT_EBUSY, leat_consumer_positions(c, 0, &at, 1));
    fails(LEAT_EBUSY, leat_consumer_fd(c));
    fails(LEAT_EBUSY, leat_consumer_close(c));
    fails(LEAT_EBUSY, leat_consumer_start(c, take, NULL, NULL, &second));
    cr_assert_null(second);
    ok(leat_consumer_wakeup(c));
    idle(1);
    fails_saying(LEAT_EBUSY, "workers", leat_close(mq, 0));
    ok(leat_workers_stop(w, 0));
    send_to(0, "b");
    gives(1, leat_poll(c, 0, &m));
    is(m->value, "b");
    start(2); // and again
    send_to(0, "c");
    idle(2);
    handled(0, "a a c");
    stop_all();
}

Test(push, an_assigned_consumer_with_a_group_may_start) {
    forget_seen();
    ok(fixture_open(NULL, &(leat_options){ .clock = LEAT_CLOCK_MANUAL }, NULL, NULL));
    ok(leat_consumer_open(mq, "g", NULL, &c));
    for (int i = 0; i < 3; i++)
        send_to(0, "a");
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t", .offset = 1 }, 1));
    start(1);
    idle(1);
    handled(0, "a a");
    cr_assert_eq(committed(0), 3);
    stop_all();
}

Test(push, wrong_arguments_are_refused) {
    leat_consumer *alone;
    open_all(1);
    ok(leat_consumer_open(mq, NULL, NULL, &alone));
    fails(LEAT_EINVAL, leat_consumer_start(NULL, take, NULL, NULL, &w));
    fails(LEAT_EINVAL, leat_consumer_start(c, NULL, NULL, NULL, &w));
    fails(LEAT_EINVAL, leat_consumer_start(c, take, NULL, NULL, NULL));
    fails_saying(LEAT_EINVAL, "group", leat_consumer_start(alone, take, NULL, NULL, &w));
    const struct {
        leat_worker_options o;
        int rc;
    } wrong[] = {
        { { .threads = -1 }, LEAT_EINVAL },         { { .threads = 257 }, LEAT_EINVAL },
        { { .auto_extend = 1 }, LEAT_EINVAL },      { { .retry_ms = LEAT_FOREVER }, LEAT_EINVAL },
        { { .retry_ms = INT64_MIN }, LEAT_EINVAL }, { { .dead_letter = "nowhere" }, LEAT_ENOENT },
        { { .dead_letter = "a/b" }, LEAT_EINVAL },  { { .dead_letter = "t" }, LEAT_EINVAL },
        { { .reserved = { 1 } }, LEAT_EINVAL }
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        w = (leat_workers *)1;
        fails(wrong[i].rc, leat_consumer_start(c, take, NULL, &wrong[i].o, &w));
        cr_assert_null(w);
    }
    ok(leat_consumer_subscribe(c, "x*"));
    leat_topic *x;
    ok(leat_topic_open(mq, "xyz", NULL, &x));
    fails_saying(
        LEAT_EINVAL, "read here",
        leat_consumer_start(c, take, NULL, &(leat_worker_options){ .dead_letter = "xyz" }, &w));
    fails(LEAT_EINVAL, leat_workers_stop(NULL, 0));
    start(1);
    fails(LEAT_EINVAL, leat_workers_stop(w, -2));
    ok(leat_workers_stop(w, LEAT_FOREVER));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_consumer_start(c, take, NULL, NULL, &w));
    ok(leat_close_all(mq, 0));
    open_with(&(leat_options){ .threads = LEAT_NO_THREADS }, 1, NULL);
    fails_saying(LEAT_EINVAL, "poll", leat_consumer_start(c, take, NULL, NULL, &w));
    ok(leat_close_all(mq, 0));
}
