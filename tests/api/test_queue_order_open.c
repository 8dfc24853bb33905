/* SPDX-License-Identifier: MIT */
// What is left of the order in which a queue hands out after an open and after a crash, and where
// memory is out. Time is the test's own.
#include "lib/order.h"

#include <stdlib.h>

enum how { CLOSE, KILL, POWER, HOWS };

static void again(enum how how) {
    if (how == POWER)
        ok(leat_sync(mq));
    crash(how == POWER ? LEAT_POWER_CUT : LEAT_KILL);
}

// On disk, because a store in memory is gone when it is closed.
static void close_and_open(const leat_options *o) {
    ok(leat_close_all(mq, 0));
    ok(leat_open(dir, o, &mq));
    open_queue("jobs", NULL);
}

Test(queue_order, each_state_comes_back_in_its_order) {
    for (enum how how = CLOSE; how < HOWS; how++) {
        make_dir();
        leat_options o = manual();
        if (how == CLOSE)
            ok(leat_open(dir, &o, &mq));
        else
            open_memory();
        open_queue("jobs",
                   &(leat_queue_options){ .settle_acks = how == POWER ? LEAT_ACKS_DISK : 0 });
        send_at("available", 2, 0);
        send_at("delayed", 9, 100 * SECOND);
        send_at("leased", 8, 0);
        send_at("given back", 7, 0);
        send_at("done", 6, 0);
        send_at("plain", 0, 0);
        send_at("more delayed", 0, 200 * SECOND);
        send_at("at once", 5, LEAT_ZERO);
        get(&m, "leased");
        get(&m, "given back");
        ok(leat_queue_nack(q, &m, 50 * SECOND, 0));
        done("done");
        counts(3, 3, 1, 0);
        ok(leat_clock_advance(mq, 10 * SECOND));
        o.start_ms = START + 10 * SECOND;
        if (how == CLOSE)
            close_and_open(&o);
        else
            again(how);
        counts(4, 3, 0, 0);
        get(&m, "leased");
        cr_assert_eq(m.deliveries, 2);
        ok(leat_queue_ack(q, &m));
        done("at once");
        done("plain");
        done("available");
        wait_exactly(40 * SECOND);
        get(&m, "given back");
        cr_assert_eq(m.deliveries, 2);
        ok(leat_queue_ack(q, &m));
        wait_exactly(50 * SECOND);
        done("delayed");
        wait_exactly(100 * SECOND);
        done("more delayed");
        counts(0, 0, 0, 0);
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue_order, the_queues_delay_goes_on_after_an_open) {
    for (enum how how = KILL; how < HOWS; how++) {
        open_memory();
        open_queue("jobs",
                   &(leat_queue_options){ .delay_ms = 10 * SECOND,
                                          .settle_acks = how == POWER ? LEAT_ACKS_DISK : 0 });
        send_at("done", 0, LEAT_ZERO);
        send_at("a", 0, 0);
        done("done"); // so that the next ones count as touched
        ok(leat_clock_advance(mq, SECOND));
        send_at("b", 0, 0);
        again(how);
        counts(0, 2, 0, 0);
        wait_exactly(9 * SECOND);
        done("a");
        wait_exactly(SECOND);
        done("b");
        ok(leat_close_all(mq, 0));
    }
}

// No record says anything of its order, and the words of some count as touched.
Test(queue_order, a_plain_tail_is_delayed_after_an_open_too) {
    open_memory();
    open_queue("jobs", &(leat_queue_options){ .delay_ms = 10 * SECOND });
    send_at("a", 0, 0);
    ok(leat_clock_advance(mq, 9 * SECOND));
    send_at("b", 0, 0);
    ok(leat_clock_advance(mq, SECOND));
    get(&m, "a");
    again(KILL);
    counts(1, 1, 0, 0);
    done("a");
    wait_exactly(9 * SECOND);
    done("b");
    ok(leat_close_all(mq, 0));
}

// What a power cut leaves of words and records by chance: nothing comes twice without a count, or
// before its time, and the order holds.
Test(queue_order, a_power_cut_leaves_the_order_of_what_is_left) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        leat_options o = manual();
        o.flags = LEAT_CRASHABLE;
        o.seed = seed;
        ok(leat_open_memory(&o, &mq));
        open_queue("jobs", NULL);
        for (int i = 0; i < 30; i++) {
            send_at("x", i % 9 + 1, i % 2 ? 20 * SECOND : 0);
            if (i == 20)
                ok(leat_sync(mq));
            if (i % 4 == 3) {
                get(&m, "x");
                ok(i % 8 == 3 ? leat_queue_ack(q, &m) : leat_queue_nack(q, &m, 40 * SECOND, 0));
            }
        }
        crash(LEAT_POWER_CUT);
        for (int round = 0; round < 3; round++) {
            int before = 9;
            int64_t last = -1;
            while (leat_queue_receive(q, 0, &m, 1) == 1) {
                int priority = (int)m.offset % 9 + 1;
                cr_assert(m.offset % 2 == 0 || round > 0, "early");
                cr_assert(priority < before || (priority == before && m.offset > last));
                before = priority;
                last = m.offset;
                ok(leat_queue_ack(q, &m));
            }
            ok(leat_clock_advance(mq, 20 * SECOND));
        }
        counts(0, 0, 0, 0);
        ok(leat_close_all(mq, 0));
    }
}

// ---- no memory

static size_t calls, fail_at;

static void *meagre(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size > 0 && ++calls == fail_at)
        return NULL;
    if (size > 0)
        return realloc(old, size);
    free(old);
    return NULL;
}

Test(queue_order, no_memory_for_it_changes_nothing) {
    for (size_t k = 1; k < 60; k++) {
        leat_options o = manual();
        o.alloc = meagre;
        fail_at = 0;
        ok(leat_open_memory(&o, &mq));
        open_queue("jobs", NULL);
        send_at("low", 1, 0);
        send_at("later", 9, SECOND);
        ok(leat_queue_send(
            q, &(leat_record){ .value = LEAT_STR("g1"), .group = LEAT_STR("g"), .priority = 7 },
            NULL));
        ok(leat_queue_send(
            q, &(leat_record){ .value = LEAT_STR("g2"), .group = LEAT_STR("g"), .delay_ms = 999 },
            NULL));
        calls = 0;
        fail_at = k;
        int rc = leat_queue_receive(q, 0, &m, 1);
        bool failed = calls >= k;
        fail_at = 0;
        cr_assert(failed ? rc == LEAT_ENOMEM : rc == 1, "allocation %zu: %d", k, rc);
        if (failed)
            get(&m, "g1");
        is(m.value, "g1");
        cr_assert_eq(m.deliveries, 1);
        counts(2, 1, 1, 0);
        calls = 0;
        fail_at = 1; // settling allocates nothing
        ok(leat_queue_ack(q, &m));
        cr_assert_eq(calls, 0);
        fail_at = 0;
        counts(1, 2, 0, 0);
        done("low");
        wait_exactly(999);
        done("g2");
        wait_exactly(1);
        done("later");
        ok(leat_close_all(mq, 0));
        if (!failed)
            return;
    }
    cr_assert(false, "it never succeeds");
}

Test(queue_order, an_open_without_memory_can_be_tried_again) {
    make_dir();
    leat_options o = manual();
    ok(leat_open(dir, &o, &mq));
    open_queue("jobs", &(leat_queue_options){ .delay_ms = 1 });
    for (int i = 0; i < 40; i++) {
        leat_record r = { .value = LEAT_STR("v"), .priority = i % 10 };
        r.delay_ms = i % 3 == 0 ? SECOND : i % 3 == 1 ? LEAT_ZERO : 0;
        if (i % 2)
            r.group = (leat_bytes){ &"abcd"[i % 4], 1 };
        ok(leat_queue_send(q, &r, NULL));
    }
    leat_queue_stats before, after;
    get(&m, "v");
    ok(leat_queue_ack(q, &m));
    ok(leat_queue_get_stats(q, &before, sizeof before));
    ok(leat_close_all(mq, 0));
    o.alloc = meagre;
    int rc = LEAT_ENOMEM;
    size_t k = 0;
    while (rc != 0) {
        calls = 0;
        fail_at = ++k;
        rc = leat_open(dir, &o, &mq);
        cr_assert(rc == 0 || rc == LEAT_ENOMEM, "allocation %zu: %d", k, rc);
    }
    cr_assert_gt(k, 40);
    fail_at = 0;
    open_queue("jobs", NULL);
    ok(leat_queue_get_stats(q, &after, sizeof after));
    cr_assert(after.available == before.available && after.delayed == before.delayed);
    ok(leat_close_all(mq, 0));
    drop_dir();
}
