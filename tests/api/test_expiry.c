/* SPDX-License-Identifier: MIT */
// max_poll_interval_ms: a member that does not poll is out of its group until it does.
#include "lib/stream.h"

static char seen[1024];
static int late_commit; // what the commit in the first LOST event returned; 1: there was none

static void on_event(leat_consumer *c, const leat_event *e, void *ctx) {
    (void)ctx;
    snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%c%d@%lld ", "?ARLEXG"[e->kind],
             e -> partition, (long long)e -> offset);
    if (e->kind == LEAT_EV_LOST && late_commit > 0)
        late_commit = leat_commit(c);
}

static leat_consumer *stuck_after(int64_t ms, const char *name) {
    leat_consumer *c;
    ok(leat_consumer_open(
        mq, "g",
        &(leat_consumer_options){ .name = name, .max_poll_interval_ms = ms, .on_event = on_event },
        &c));
    ok(leat_consumer_subscribe(c, "t"));
    return c;
}

static void forget(void) {
    seen[0] = '\0';
    late_commit = 1;
}

Test(expiry, a_member_that_does_not_poll_loses_all_at_once, .init = forget) {
    for (int32_t clock = LEAT_CLOCK_MANUAL; clock <= LEAT_CLOCK_JUMP; clock++) {
        forget();
        open_memory(clock, 2);
        send_many(0, 5);
        send_many(1, 5);
        const leat_message *m;
        leat_consumer *a = stuck_after(1000, "a");
        gives(10, leat_poll(a, 0, &m));
        leat_consumer *b = member("g", "b", "t");
        gives(0, leat_poll(b, 0, &m));
        ok(leat_clock_advance(mq, 999));
        cr_assert_str_eq(parts(b), "");
        ok(leat_clock_advance(mq, 1));
        gives(10, leat_poll(b, 0, &m)); // nothing was committed
        fails_saying(LEAT_EFENCED, "b", leat_commit(a));
        cr_assert_eq(position(b, 0, 1), -1, "a fenced commit changes nothing");
        ok(leat_commit(b));
        // Its next poll tells it, and it is in again.
        forget();
        gives(0, leat_poll(a, 0, &m));
        cr_assert_str_eq(seen, "L1@5 L0@5 ");
        cr_assert_eq(late_commit, LEAT_EFENCED);
        gives(0, leat_poll(b, 0, &m));
        gives(0, leat_poll(a, 0, &m));
        cr_assert_eq(strlen(parts(a)), 1);
        cr_assert_eq(strlen(parts(b)), 1);
        close_store();
    }
}

Test(expiry, what_it_gets_again_begins_at_what_others_have_committed, .init = forget) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 6);
    const leat_message *m;
    leat_consumer *a = stuck_after(1000, "a"), *b = NULL;
    gives(6, leat_poll(a, 0, &m));
    ok(leat_clock_advance(mq, 1000));
    b = member("g", "b", "t");
    gives(6, leat_poll(b, 0, &m));
    leat_position four = { .topic = "t", .partition = 0, .offset = 4 };
    ok(leat_commit_offsets(b, &four, 1));
    ok(leat_consumer_close(b));
    forget();
    fails(LEAT_EFENCED, leat_commit(a)); // it had the partition in an earlier life
    gives(2, leat_poll(a, 0, &m));
    cr_assert_str_eq(seen, "L0@6 A0@4 ");
    cr_assert_eq(m[0].offset, 4);
    ok(leat_commit(a));
    close_store();
}

Test(expiry, a_poll_that_waits_is_no_stuck_member, .init = forget) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    leat_consumer *a = stuck_after(1000, "a");
    struct waiting w;
    start(&w, a, 10000);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(leat_clock_advance(mq, 9999));
    cr_assert_str_eq(seen, "A0@0 ");
    send_many(0, 1);
    join(&w);
    cr_assert_eq(w.rc, 1);
    ok(leat_clock_advance(mq, 999));
    ok(leat_commit(a));
    close_store();
    open_memory(LEAT_CLOCK_JUMP, 1);
    a = stuck_after(1000, "a");
    const leat_message *m;
    fails(LEAT_EDEADLK, leat_poll(a, LEAT_FOREVER, &m)); // its own limit is not what would end it
    gives(0, leat_poll(a, 5000, &m));
    send_many(0, 1);
    gives(1, leat_poll(a, 0, &m));
    ok(leat_commit(a));
    close_store();
}

Test(expiry, begins_with_the_subscription_and_ends_with_it, .init = forget) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    const leat_message *m;
    leat_consumer *a = stuck_after(1000, "a");
    ok(leat_clock_advance(mq, 1000));
    leat_consumer *b = member("g", "b", "t");
    gives(0, leat_poll(b, 0, &m));
    cr_assert_str_eq(parts(b), "0", "who never polled at all is out, too");
    ok(leat_consumer_close(b));
    ok(leat_consumer_subscribe(a, NULL));
    ok(leat_clock_advance(mq, 5000));
    ok(leat_consumer_subscribe(a, "t"));
    gives(0, leat_poll(a, 0, &m));
    cr_assert_str_eq(parts(a), "0");
    ok(leat_clock_advance(mq, 5000));
    ok(leat_consumer_subscribe(a, NULL)); // out of it, and of a group it is not in
    ok(leat_consumer_subscribe(a, "t"));
    gives(0, leat_poll(a, 0, &m));
    cr_assert_str_eq(parts(a), "0");
    ok(leat_clock_advance(mq, 5000));
    forget();
    ok(leat_consumer_close(a));
    cr_assert_str_eq(seen, "L0@0 ", "a close tells what is lost as lost");
    ok(leat_clock_advance(mq, 5000));
    close_store();
}

Test(expiry, a_blocked_member_takes_over_at_once, .init = forget) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 1);
    const leat_message *m;
    leat_consumer *a = stuck_after(1000, "a"), *b = member("g", "b", "t");
    gives(1, leat_poll(a, 0, &m));
    struct waiting w;
    start(&w, b, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(leat_clock_advance(mq, 1000));
    join(&w);
    cr_assert_eq(w.rc, 1);
    close_store();
    // The system clock: whoever waits fires it.
    open_memory(LEAT_CLOCK_SYSTEM, 1);
    send_many(0, 1);
    a = stuck_after(20, "a");
    b = member("g", "b", "t");
    gives(1, leat_poll(a, 0, &m));
    gives(1, leat_poll(b, LEAT_FOREVER, &m));
    close_store();
}
