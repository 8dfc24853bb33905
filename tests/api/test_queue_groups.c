/* SPDX-License-Identifier: MIT */
// Groups: of each one message at a time, in order, until it is done or dead, whatever becomes of it
// meanwhile; and none hides another. Time is the test's own.
#include "lib/order.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static leat_queue_options told; // of the queue: a power cut may take the queue itself

static void open_told(const leat_queue_options *o) {
    told = o ? *o : (leat_queue_options){ 0 };
    open_queue("jobs", o);
}

// The value is the group's name and a number.
static void send_in(const char *text, int32_t priority, int64_t delay_ms) {
    leat_record r = {
        .value = leat_str(text), .group = { text, 1 }, .priority = priority, .delay_ms = delay_ms
    };
    ok(leat_queue_send(q, &r, NULL));
}

static int how = LEAT_KILL; // it crashes

static void kill_and_open(void) {
    leat *old = mq;
    ok(leat_crash(old, how, &mq));
    ok(leat_close_all(old, 0));
    open_queue("jobs", &told);
}

Test(queue_groups, one_at_a_time_in_order_and_others_are_not_hidden) {
    leat_message a, b, none;
    open_memory();
    open_told(NULL);
    for (int i = 0; i < 3; i++)
        for (const char *g = "ab"; *g; g++)
            send_in((char[]){ *g, (char)('1' + i), 0 }, 0, 0);
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("none") }, NULL));
    counts(7, 0, 0, 0); // who waits behind his group counts as available
    get(&a, "a1");
    get(&b, "b1");
    get(&none, "none");
    nothing(q);
    counts(4, 0, 3, 0);
    ok(leat_queue_ack(q, &b));
    get(&b, "b2");
    nothing(q);
    ok(leat_queue_ack(q, &a));
    done("a2");
    done("a3");
    ok(leat_queue_ack(q, &b));
    done("b3");
    ok(leat_queue_ack(q, &none));
    send_in("a4", 0, 0); // a group that had ended
    done("a4");
    counts(0, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

Test(queue_groups, priority_orders_groups_and_not_within_one) {
    open_memory();
    open_told(NULL);
    send_in("a1", 1, 0);
    send_in("a2", 9, 0); // never before a1
    send_in("b1", 5, 0);
    send_in("c1", 9, 0);
    done("c1");
    done("b1");
    done("a1");
    send_in("d1", 8, 0);
    done("a2");
    done("d1");
    ok(leat_close_all(mq, 0));
}

Test(queue_groups, the_order_holds_through_nack_with_delay_and_expiry) {
    open_memory();
    open_told(&(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND });
    send_in("a1", 0, 0);
    send_in("a2", 9, 0);
    send_in("b1", 0, 0);
    get(&m, "a1");
    ok(leat_queue_nack(q, &m, 5 * SECOND, 0));
    done("b1");
    nothing(q);
    counts(1, 1, 0, 0);
    ok(leat_clock_advance(mq, 5 * SECOND - 1));
    nothing(q);
    ok(leat_clock_advance(mq, 1));
    get(&m, "a1");
    ok(leat_clock_advance(mq, 10 * SECOND)); // the lease ends
    get(&n, "a1");
    fails(LEAT_ESTALE, leat_queue_ack(q, &m));
    nothing(q);
    ok(leat_queue_extend(q, &n, 0));
    get(&m, "a1");
    ok(leat_clock_advance(mq, 10 * SECOND));
    ok(leat_queue_ack(q, &m)); // ran out, and was not handed out again
    done("a2");
    counts(0, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

Test(queue_groups, each_has_its_own_delay_when_its_turn_comes) {
    open_memory();
    open_told(NULL);
    send_in("a1", 0, 10 * SECOND);
    send_in("a2", 0, 0);
    send_in("a3", 0, 20 * SECOND);
    send_in("a4", 0, 15 * SECOND);
    counts(3, 1, 0, 0);
    nothing(q);
    ok(leat_clock_advance(mq, 10 * SECOND));
    done("a1");
    done("a2");
    counts(1, 1, 0, 0);
    ok(leat_clock_advance(mq, 10 * SECOND - 1));
    nothing(q);
    ok(leat_clock_advance(mq, 1));
    done("a3");
    done("a4"); // its time is over
    ok(leat_close_all(mq, 0));
}

Test(queue_groups, a_dead_one_lets_the_next_one_come) {
    leat_queue *dead = NULL;
    for (int letters = 0; letters < 2; letters++) {
        open_memory();
        open_told(&(leat_queue_options){ .deliveries_max = 2,
                                         .visibility_timeout_ms = 10 * SECOND,
                                         .dead_letter = letters ? "dead" : NULL });
        send_in("a1", 9, 0);
        send_in("a2", 9, 0);
        send_in("b1", 0, 0);
        get(&m, "a1");
        ok(leat_queue_nack(q, &m, 0, 0));
        get(&m, "a1");
        get(&n, "b1");
        counts(1, 0, 2, 0);
        ok(leat_clock_advance(mq, 10 * SECOND - 1));
        nothing(q);
        ok(leat_clock_advance(mq, 1)); // its last try is over, and so is the first one of b1
        counts(2, 0, 0, letters ? 0 : 1);
        get(&m, "a2");
        ok(leat_queue_nack(q, &m, 0, 0));
        get(&m, "a2");
        ok(leat_queue_nack(q, &m, 0, 0));
        counts(1, 0, 0, letters ? 0 : 2);
        ok(leat_message_release(mq, &n));
        done("b1");
        nothing(q);
        kill_and_open(); // what is kept is in nobody's way
        send_in("a3", 0, 0);
        done("a3");
        counts(0, 0, 0, letters ? 0 : 2);
        if (letters) { // the copies are of the group, and of no priority
            ok(leat_queue_open(mq, "dead", NULL, &dead));
            ok(leat_queue_send(dead, &(leat_record){ .value = LEAT_STR("plain"), .priority = 5 },
                               NULL));
            gives(1, leat_queue_receive(dead, 0, &m, 1));
            is(m.value, "plain");
            gives(1, leat_queue_receive(dead, 0, &n, 1));
            is(n.value, "a1");
            gives(0, leat_queue_receive(dead, 0, &m, 1));
            ok(leat_queue_ack(dead, &n));
            gives(1, leat_queue_receive(dead, 0, &m, 1));
            is(m.value, "a2");
        }
        ok(leat_close_all(mq, 0));
    }
}

// A move that cannot end holds its group, and no other.
Test(queue_groups, one_that_is_moving_still_holds_its_group) {
    open_memory();
    open_told(&(leat_queue_options){ .deliveries_max = 1, .dead_letter = "dead" });
    send_in("a1", 0, 0);
    send_in("a2", 0, 0);
    send_in("b1", 0, 0);
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "dead", -1, LEAT_ENOSPC, LEAT_FOREVER, 0));
    get(&m, "a1");
    ok(leat_queue_nack(q, &m, 0, 0));
    done("b1");
    nothing(q);
    kill_and_open(); // the faults are gone, and it is moved
    done("a2");
    counts(0, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

Test(queue_groups, the_order_holds_after_an_open_in_each_state) {
    open_memory();
    open_told(NULL);
    for (const char *g = "abcde"; *g; g++)
        for (int i = 0; i < 3; i++)
            send_in((char[]){ *g, (char)('1' + i), 0 }, 0, *g == 'e' && i == 0 ? 20 * SECOND : 0);
    leat_message of[5];
    gives(4, leat_queue_receive(q, 0, of, 5));
    ok(leat_queue_ack(q, &of[0]));
    ok(leat_queue_nack(q, &of[1], 10 * SECOND, 0));
    ok(leat_queue_nack(q, &of[2], 0, 0));
    counts(11, 2, 1, 0);
    kill_and_open();
    counts(12, 2, 0, 0);
    gives(3, leat_queue_receive(q, 0, of, 5));
    is(of[0].value, "a2");
    is(of[1].value, "c1");
    is(of[2].value, "d1");
    for (int i = 0; i < 3; i++)
        ok(leat_queue_ack(q, &of[i]));
    gives(3, leat_queue_receive(q, 0, of, 5));
    is(of[0].value, "a3");
    is(of[1].value, "c2");
    is(of[2].value, "d2");
    ok(leat_clock_advance(mq, 10 * SECOND));
    done("b1");
    done("b2");
    ok(leat_clock_advance(mq, 10 * SECOND));
    done("b3");
    done("e1");
    done("e2");
    done("e3");
    for (int i = 0; i < 3; i++)
        ok(leat_queue_ack(q, &of[i]));
    done("c3");
    done("d3");
    counts(0, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

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

Test(queue_groups, a_blocked_receive_wakes_when_a_turn_comes) {
    for (int by = 0; by < 3; by++) { // ack, death in place, ack and then the delay of the next one
        struct caller c;
        open_memory();
        open_told(&(leat_queue_options){ .deliveries_max = 1 });
        send_in("a1", 0, 0);
        send_in("a2", 0, by == 2 ? 5 * SECOND : 0);
        get(&m, "a1");
        cr_assert_eq(pthread_create(&c.thread, NULL, receive_one, &c), 0);
        ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
        if (by == 1)
            ok(leat_queue_nack(q, &m, 0, 0));
        else
            ok(leat_queue_ack(q, &m));
        if (by == 2) {
            ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
            ok(leat_clock_advance(mq, 5 * SECOND));
        }
        cr_assert_eq(pthread_join(c.thread, NULL), 0);
        cr_assert_eq(c.rc, 1);
        is(c.m.value, "a2");
        ok(leat_queue_ack(q, &c.m));
        ok(leat_close_all(mq, 0));
    }
}

// What another queue over the topic, or a user, lets go.
Test(queue_groups, a_head_that_is_deleted_lets_the_next_one_come) {
    leat_topic *t;
    open_memory();
    ok(leat_topic_open(mq, "t", NULL, &t));
    open_told(&(leat_queue_options){ .topic = "t" });
    send_in("a1", 0, 0);
    send_in("b1", 0, 5 * SECOND);
    send_in("a2", 0, 5 * SECOND);
    send_in("b2", 9, 0);
    send_in("a3", 0, 0);
    get(&m, "a1");
    counts(3, 1, 1, 0);
    ok(leat_topic_delete_records(t, 0, 2));
    counts(2, 1, 0, 0); // a2 has its turn, and a time
    fails(LEAT_ESTALE, leat_queue_ack(q, &m));
    done("b2");
    nothing(q);
    ok(leat_clock_advance(mq, 5 * SECOND));
    done("a2");
    ok(leat_topic_delete_records(t, 0, 5));
    nothing(q);
    counts(0, 0, 0, 0);
    send_in("a4", 0, 0);
    done("a4");
    ok(leat_close_all(mq, 0));
}

// There is no lease for the next one's delay: it counts as available until somebody looks at it,
// and is not handed out early.
Test(queue_groups, a_turn_without_a_lease_is_not_early_either) {
    leat_topic *t;
    open_memory();
    ok(leat_topic_open(mq, "t", NULL, &t));
    open_told(&(leat_queue_options){ .topic = "t" });
    send_in("a1", 0, 0);
    send_in("b1", 0, 0);
    send_in("b2", 9, 5 * SECOND);
    send_in("a2", 0, 7 * SECOND);
    counts(4, 0, 0, 0);
    ok(leat_topic_delete_records(t, 0, 2));
    nothing(q);
    counts(0, 2, 0, 0);
    ok(leat_clock_advance(mq, 5 * SECOND - 1));
    nothing(q);
    ok(leat_clock_advance(mq, 1));
    done("b2");
    ok(leat_clock_advance(mq, 2 * SECOND - 1));
    nothing(q);
    ok(leat_clock_advance(mq, 1));
    done("a2");
    ok(leat_close_all(mq, 0));
}

Test(queue_groups, stay_in_one_partition) {
    open_memory();
    open_told(&(leat_queue_options){ .partitions = 4 });
    for (int i = 0; i < 3; i++)
        for (const char *g = "abcdefgh"; *g; g++)
            send_in((char[]){ *g, (char)('1' + i), 0 }, 0, 0);
    for (int i = 0; i < 3; i++) {
        leat_message all[24];
        gives(8, leat_queue_receive(q, 0, all, 24));
        for (int k = 0; k < 8; k++) {
            cr_assert_eq(((const char *)all[k].value.data)[1], '1' + i);
            ok(leat_queue_ack(q, &all[k]));
        }
    }
    ok(leat_topic_grow(leat_queue_topic(q), 8));
    for (const char *g = "abcdefgh"; *g; g++) {
        send_in((char[]){ *g, '4', 0 }, 9, 0);
        send_in((char[]){ *g, '5', 0 }, 9, 0);
    }
    for (char number = '4'; number <= '5'; number++) {
        leat_message all[16];
        gives(8, leat_queue_receive(q, 0, all, 16));
        for (int k = 0; k < 8; k++) {
            cr_assert_eq(((const char *)all[k].value.data)[1], number);
            ok(leat_queue_ack(q, &all[k]));
        }
    }
    ok(leat_close_all(mq, 0));
}

// One group with a long backlog in front, then 10,000 others.
Test(queue_groups, ten_thousand_groups_each_in_its_order) {
    enum { GROUPS = 10000, EACH = 4, FIRST = 20000 };
    static uint8_t next[GROUPS];
    char key[16];
    open_memory();
    open_told(NULL);
    for (int i = 0; i < FIRST; i++)
        send_in("x", 9, 0);
    for (int i = 0; i < GROUPS * EACH; i++) {
        int len = snprintf(key, sizeof key, "%d", i % GROUPS);
        leat_record r = { .value = { key, (size_t)len },
                          .group = { key, (size_t)len },
                          .priority = i % 3 + 3 };
        ok(leat_queue_send(q, &r, NULL));
    }
    memset(next, 0, sizeof next);
    static leat_message got[512];
    int64_t handed = 0;
    get(&n, "x");
    for (int count; (count = leat_queue_receive(q, 0, got, 512)) > 0; handed += count) {
        for (int i = 0; i < count; i++) {
            int group = atoi(got[i].value.data);
            cr_assert_eq((got[i].offset - FIRST) / GROUPS, next[group]++, "group %d", group);
            ok(leat_queue_ack(q, &got[i]));
        }
    }
    cr_assert_eq(handed, GROUPS * EACH);
    counts(FIRST - 1, 0, 1, 0);
    ok(leat_queue_ack(q, &n));
    get(&m, "x");
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

// ---- anything in any order

enum { KEYS = 4, MESSAGES = 40 };
static struct {
    bool leased, over;
    leat_message m;
} sent[MESSAGES];

static uint64_t chance;
static uint32_t dice(uint32_t sides) {
    chance = chance * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(chance >> 33) % sides;
}

// Every one that is handed out is the first of its group that is not over.
static void check_turn(int64_t offset) {
    for (int64_t i = offset % KEYS; i < offset; i += KEYS)
        cr_assert(sent[i].over, "%d before %d", (int)offset, (int)i);
    cr_assert(!sent[offset].over && !sent[offset].leased);
}

static void settle_one(int64_t i) {
    leat_message *of = &sent[i].m;
    switch (dice(4)) {
    case 0:
        ok(leat_queue_ack(q, of));
        sent[i].over = true;
        break;
    case 1:
        ok(leat_queue_nack(q, of, (int64_t)dice(3) * SECOND, 0));
        break;
    case 2:
        ok(leat_queue_extend(q, of, 0));
        ok(leat_message_release(mq, of));
        break;
    default:
        ok(leat_queue_ack(q, of));
        sent[i].over = true;
    }
    sent[i].leased = false;
}

static void random_step(int64_t *end) {
    char key[2] = { (char)('a' + *end % KEYS), 0 };
    switch (dice(8)) {
    case 0:
    case 1:
    case 2:
        if (*end < MESSAGES) {
            send_in(key, (int32_t)dice(10), dice(4) ? 0 : (int64_t)dice(4) * SECOND);
            (*end)++;
        }
        break;
    case 3:
    case 4:
        if (leat_queue_receive(q, 0, &m, 1) == 1) {
            check_turn(m.offset);
            sent[m.offset].leased = true;
            sent[m.offset].m = m;
        }
        break;
    case 5:
    case 6: {
        int64_t i = *end > 0 ? dice((uint32_t)*end) : 0;
        if (sent[i].leased)
            settle_one(i);
        break;
    }
    default:
        if (dice(6) == 0) {
            kill_and_open();
            for (int64_t i = 0; i < *end; i++)
                sent[i].leased = false;
        } else {
            ok(leat_clock_advance(mq, 300));
        }
    }
}

Test(queue_groups, any_order_of_things_keeps_the_order_of_each_group) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        int64_t end = 0;
        chance = seed;
        memset(sent, 0, sizeof sent);
        how = seed % 2 ? LEAT_KILL : LEAT_POWER_CUT; // then all is durable, so the same holds
        int32_t acks = seed % 2 ? LEAT_ACKS_LOG : LEAT_ACKS_DISK;
        open_memory();
        open_told(&(leat_queue_options){
            .visibility_timeout_ms = 3600 * SECOND, .acks = acks, .settle_acks = acks });
        for (int i = 0; i < 400; i++)
            random_step(&end);
        for (int64_t i = 0; i < end; i++)
            if (sent[i].leased)
                settle_one(i);
        ok(leat_clock_advance(mq, 10 * SECOND));
        while (leat_queue_receive(q, 0, &m, 1) == 1) {
            check_turn(m.offset);
            sent[m.offset].over = true;
            ok(leat_queue_ack(q, &m));
        }
        for (int64_t i = 0; i < end; i++)
            cr_assert(sent[i].over, "seed %d: %d is lost", (int)seed, (int)i);
        counts(0, 0, 0, 0);
        ok(leat_close_all(mq, 0));
    }
}
