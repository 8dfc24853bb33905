/* SPDX-License-Identifier: MIT */
// A consumer's workers in a group: a partition passes on when its handler has returned, events are
// told, commits do not run ahead, and who is stuck is expelled.
#include "lib/handled.h"

#include <stdatomic.h>

Test(push, a_partition_passes_on_only_when_its_handler_has_returned) {
    leat_consumer *other;
    const leat_message *m;
    for (int32_t threads = 1; threads < 3; threads++) {
        open_all(2);
        send_to(1, "g");
        send_to(1, "b");
        start(threads);
        wait_at_gate(1);
        ok(leat_consumer_open(mq, "g", NULL, &other));
        ok(leat_consumer_subscribe(other, "t")); // it is to have partition 1
        if (threads > 1)
            idle(1);
        gives(0, leat_poll(other, 0, &m));
        leat_position at[2];
        gives(0, leat_consumer_positions(other, 0, at, 2));
        set_gate(true);
        idle(threads);
        cr_assert_eq(committed(1), 1, "%d: %lld %d", threads, (long long)committed(1), seen.count);
        gives(1, leat_poll(other, 0, &m));
        is(m->value, "b"); // fetched by c and not begun
        handled(1, "g");
        send_to(0, "a");
        idle(threads);
        handled(0, "a");
        ok(leat_commit(other));
        ok(leat_consumer_close(other)); // all comes back
        send_to(1, "z");
        idle(threads);
        handled(1, "g z");
        stop_all();
    }
}

Test(push, a_partition_whose_message_waits_passes_on_at_once) {
    leat_consumer *other;
    const leat_message *m;
    open_all(2);
    send_to(1, "r9");
    start(1);
    idle(1);
    ok(leat_consumer_open(mq, "g", NULL, &other));
    ok(leat_consumer_subscribe(other, "t"));
    idle(1);
    gives(1, leat_poll(other, 0, &m));
    is(m->value, "r9");
    ok(leat_clock_advance(mq, 100000));
    idle(1);
    handled(1, "r9"); // not c's any more
    stop_all();
}

Test(push, a_partition_that_comes_back_goes_on_where_it_was) {
    leat_consumer *other;
    open_all(2);
    send_to(1, "r1");
    send_to(1, "a");
    start(1);
    idle(1);
    for (int i = 0; i < 3; i++) { // it is asked for and not taken
        ok(leat_consumer_open(mq, "g", NULL, &other));
        ok(leat_consumer_subscribe(other, "t"));
        if (i == 1)
            idle(1);
        ok(leat_consumer_close(other));
        idle(1);
    }
    ok(leat_clock_advance(mq, 100000));
    idle(1);
    cr_assert_eq(committed(1), 2);
    pthread_mutex_lock(&seen.lock);
    cr_assert_str_eq(seen.one[seen.count - 1].value, "a");
    pthread_mutex_unlock(&seen.lock);
    stop_all();
}

static atomic_int revoked_events, event_calls;

static void on_event(leat_consumer *from, const leat_event *e, void *ctx) {
    (void)ctx;
    if (e->kind != LEAT_EV_REVOKED)
        return;
    atomic_fetch_add(&revoked_events, 1);
    atomic_fetch_add(&event_calls, leat_commit(from) == LEAT_EBUSY); // results are committed
}

Test(push, events_are_told_by_the_workers_when_nothing_of_the_partition_is_left) {
    leat_consumer *other;
    const leat_message *m;
    atomic_store(&revoked_events, 0);
    atomic_store(&event_calls, 0);
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, 2,
              &(leat_consumer_options){ .on_event = on_event });
    send_to(1, "g");
    send_to(1, "b");
    start(2);
    wait_at_gate(1);
    ok(leat_consumer_open(mq, "g", NULL, &other));
    ok(leat_consumer_subscribe(other, "t"));
    idle(1);
    cr_assert_eq(atomic_load(&revoked_events), 0, "a handler still has a message of it");
    set_gate(true);
    idle(2);
    cr_assert_eq(atomic_load(&revoked_events), 1);
    cr_assert_eq(atomic_load(&event_calls), 1);
    gives(1, leat_poll(other, 0, &m));
    is(m->value, "b");
    stop_all();
}

Test(push, who_has_asked_for_events_before_is_not_waited_for) {
    leat_consumer *other;
    leat_event e;
    const leat_message *m;
    open_all(2);
    gives(1, leat_consumer_event(c, &e)); // both are assigned
    send_to(1, "r9");
    start(1);
    idle(1);
    ok(leat_consumer_open(mq, "g", NULL, &other));
    ok(leat_consumer_subscribe(other, "t"));
    idle(1);
    gives(1, leat_poll(other, 0, &m));
    send_to(0, "a");
    idle(1);
    handled(0, "a");
    stop_all();
}

Test(push, an_automatic_commit_does_not_run_ahead_of_the_handlers) {
    const leat_message *m;
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, 1,
              &(leat_consumer_options){ .auto_commit_ms = 10 });
    send_to(0, "a");
    send_to(0, "r9");
    send_to(0, "b");
    start(1);
    idle(1);
    ok(leat_clock_advance(mq, 900));
    ok(leat_consumer_wakeup(c));
    idle(1);
    cr_assert_eq(committed(0), 1);
    ok(leat_workers_stop(w, 0));
    ok(leat_clock_advance(mq, 100));
    gives(2, leat_poll(c, 0, &m));
    is(m->value, "r9");
    cr_assert_eq(committed(0), 1);
    ok(leat_close_all(mq, 0));
}

Test(push, a_stuck_handler_is_expelled_and_its_result_does_not_count) {
    leat_consumer *other;
    const leat_message *m;
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, 1,
              &(leat_consumer_options){ .max_poll_interval_ms = 5000 });
    send_to(0, "a");
    start(1);
    idle(1);
    ok(leat_clock_advance(mq, 60000)); // who waits in a poll is not stuck
    idle(1);
    send_to(0, "r2"); // nor who tries again
    idle(1);
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    ok(leat_clock_advance(mq, 2000));
    idle(1);
    cr_assert_eq(committed(0), 2);
    send_to(0, "g");
    send_to(0, "b");
    wait_at_gate(1);
    ok(leat_consumer_open(mq, "g", NULL, &other));
    ok(leat_consumer_subscribe(other, "t"));
    gives(0, leat_poll(other, 0, &m));
    ok(leat_clock_advance(mq, 5000));
    gives(2, leat_poll(other, 0, &m));
    is(m[0].value, "g");
    set_gate(true);
    idle(1);
    cr_assert_eq(committed(0), 2);
    handled(0, "a r2 r2 r2 g");
    ok(leat_commit(other));
    cr_assert_eq(committed(0), 4);
    ok(leat_consumer_close(other));
    send_to(0, "z"); // and it is a member again
    idle(1);
    handled(0, "a r2 r2 r2 g z");
    stop_all();
}

Test(push, who_works_without_a_poll_is_not_expelled) {
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, 1,
              &(leat_consumer_options){ .max_poll_interval_ms = 5000 });
    for (int i = 0; i < 4; i++) // one fetch
        send_to(0, "g");
    start(1);
    for (int i = 1; i < 4; i++) {
        wait_at_gate(1);
        ok(leat_clock_advance(mq, 3000));
        pthread_mutex_lock(&seen.lock);
        seen.passes = 1;
        pthread_cond_broadcast(&seen.changed);
        while (seen.count == i)
            pthread_cond_wait(&seen.changed, &seen.lock);
        pthread_mutex_unlock(&seen.lock);
    }
    set_gate(true);
    idle(1);
    handled(0, "g g g g");
    cr_assert_eq(committed(0), 4);
    stop_all();
}
