/* SPDX-License-Identifier: MIT */
// Redrive: the dead go back to work, in place or to the queue they came from or another one.
#include "lib/queues.h"

#include <stdio.h>
#include <stdlib.h>

enum { SEEDS = 32 };

static leat_queue *a, *b, *dead;

static leat_queue *open_dying(const char *name, const char *dead_letter) {
    return queues_make(name, &(leat_queue_options){ .deliveries_max = 1,
                                                    .dead_letter = dead_letter,
                                                    .acks = LEAT_ACKS_DISK,
                                                    .settle_acks = LEAT_ACKS_DISK });
}

static void die(leat_queue *q, const char *text) {
    leat_header h = { leat_str("color"), leat_str("red") };
    leat_record r = {
        .key = LEAT_STR("k"), .value = leat_str(text), .headers = &h, .header_count = 1
    };
    ok(leat_queue_send(q, &r, NULL));
    take(q, &m, text, 1);
    ok(leat_queue_nack(q, &m, 0, 0));
}

static void open_three(uint64_t seed) {
    queues_open(LEAT_CLOCK_MANUAL, seed);
    a = open_dying("a", "dead");
    b = open_dying("b", "dead");
    dead = queues_make("dead", NULL);
}

static void comes(leat_queue *q, const char *text) {
    take(q, &m, text, 1);
    leat_header h;
    is(m.key, "k");
    gives(1, leat_message_header(&m, 0, &h));
    is(h.name, "color");
    gives(0, leat_message_header(&m, 1, &h)); // no provenance
    ok(leat_queue_ack(q, &m));
}

Test(redrive, each_goes_to_the_queue_it_came_from) {
    open_three(1);
    die(a, "a0");
    die(b, "b0");
    die(a, "a1");
    queues_send(dead, "by hand"); // does not say where it came from
    counts(dead, 4, 0, 0, 0);
    uint64_t moved = 0;
    ok(leat_clock_advance(mq, HOUR));
    ok(leat_queue_redrive(dead, NULL, 2, &moved)); // the oldest
    cr_assert_eq(moved, 2);
    counts(dead, 2, 0, 0, 0);
    gives(1, leat_queue_peek(a, LEAT_AVAILABLE, 0, &n, 1));
    cr_assert_eq(n.offset, 2);
    int64_t wall;
    ok(leat_clock_now(mq, NULL, &wall));
    cr_assert_eq(n.timestamp_ms, wall, "sent now");
    ok(leat_message_release(mq, &n));
    comes(a, "a0");
    comes(b, "b0");
    nothing(a);
    ok(leat_queue_redrive(dead, NULL, 0, &moved));
    cr_assert_eq(moved, 1);
    comes(a, "a1");
    counts(dead, 1, 0, 0, 0);
    ok(leat_queue_redrive(dead, NULL, 0, NULL));
    take(dead, &m, "by hand", 1);
    ok(leat_queue_ack(dead, &m));
    cr_assert_eq(queues_stats(dead).moving, 0);
    ok(leat_close_all(mq, 0));
}

Test(redrive, all_go_to_another_queue) {
    open_three(1);
    leat_queue *other = queues_make("other", &(leat_queue_options){ .partitions = 3 });
    char text[16];
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "%d", i);
        die(i % 2 ? a : b, text);
    }
    queues_send(dead, "by hand");
    take(dead, &m, "0", 1);
    uint64_t moved;
    ok(leat_queue_redrive(dead, other, 0, &moved));
    cr_assert_eq(moved, 200, "but the one that is leased");
    counts(dead, 0, 0, 1, 0);
    counts(other, 200, 0, 0, 0);
    ok(leat_queue_nack(dead, &m, 0, 0));
    ok(leat_queue_redrive(dead, other, 5, &moved));
    cr_assert_eq(moved, 1);
    ok(leat_close_all(mq, 0));
}

Test(redrive, those_kept_in_place_are_available_again) {
    for (int to_itself = 0; to_itself < 2; to_itself++) {
        queues_open(LEAT_CLOCK_MANUAL, 1);
        a = queues_make("a", &(leat_queue_options){ .deliveries_max = 2 });
        queues_send_n(a, 4, 0);
        for (int i = 0; i < 3; i++) {
            for (int tries = 0; tries < 2; tries++) {
                gives(1, leat_queue_receive(a, 0, &m, 1));
                ok(leat_queue_nack(a, &m, 0, 0));
            }
        }
        counts(a, 1, 0, 0, 3);
        uint64_t moved;
        ok(leat_queue_redrive(a, to_itself ? a : NULL, 2, &moved));
        cr_assert_eq(moved, 2);
        counts(a, 3, 0, 0, 1);
        queues_crash(LEAT_KILL);
        a = queues_make("a", NULL);
        counts(a, 3, 0, 0, 1);
        take(a, &m, "0", 1);
        ok(leat_queue_ack(a, &m));
        take(a, &m, "1", 1);
        ok(leat_queue_ack(a, &m));
        leat_queue *other = queues_make("other", NULL);
        ok(leat_queue_redrive(a, other, 0, &moved)); // "3" is not dead
        cr_assert_eq(moved, 1);
        counts(a, 1, 0, 0, 0);
        take(other, &m, "2", 1);
        ok(leat_queue_ack(other, &m));
        ok(leat_close_all(mq, 0));
    }
}

Test(redrive, wakes_who_waits) {
    queues_open(LEAT_CLOCK_JUMP, 1);
    a = open_dying("a", NULL);
    die(a, "x");
    fails(LEAT_EDEADLK, leat_queue_receive(a, LEAT_FOREVER, &m, 1));
    ok(leat_queue_redrive(a, NULL, 0, NULL));
    gives(1, leat_queue_receive(a, LEAT_FOREVER, &m, 1));
    ok(leat_queue_ack(a, &m));
    ok(leat_close_all(mq, 0));
}

Test(redrive, a_queue_that_is_gone_is_named_and_the_message_stays) {
    open_three(1);
    die(a, "a0");
    die(b, "b0");
    ok(leat_queue_close(a));
    ok(leat_queue_delete(mq, "a"));
    uint64_t moved;
    fails_saying(LEAT_ENOENT, "queue a,", leat_queue_redrive(dead, NULL, 0, &moved));
    cr_assert_eq(moved, 1);
    counts(dead, 1, 0, 0, 0);
    comes(b, "b0");
    ok(leat_queue_redrive(dead, b, 0, &moved));
    comes(b, "a0");
    ok(leat_close_all(mq, 0));
}

Test(redrive, what_cannot_be_sent_stays) {
    open_three(1);
    die(a, "a0");
    die(a, "a1");
    uint64_t moved = 9;
    ok(leat_fault_push(mq, LEAT_OP_SETTLE, "dead", -1, LEAT_EIO, 1, 0));
    fails(LEAT_EIO, leat_queue_redrive(dead, NULL, 0, &moved));
    cr_assert_eq(moved, 0);
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "a", -1, 0, 1, 0)); // the first one comes through
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "a", -1, LEAT_ENOSPC, 1, 0));
    fails(LEAT_ENOSPC, leat_queue_redrive(dead, NULL, 0, &moved));
    cr_assert_eq(moved, 1);
    counts(dead, 1, 0, 0, 0);
    counts(a, 1, 0, 0, 0);
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "a", -1, LEAT_EIO, 1, 0));
    fails(LEAT_EIO, leat_queue_redrive(dead, NULL, 0, &moved)); // unknown: a double
    cr_assert_eq(moved, 0);
    counts(dead, 1, 0, 0, 0);
    cr_assert_eq(queues_stats(dead).moving, 0);
    fails(LEAT_EIO, leat_close_all(mq, 0)); // says so once more
}

// Never neither, whatever a crash leaves; kill -9 after the call leaves one.
Test(redrive, survives_a_crash) {
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        bool kill = seed % 2;
        open_three(seed);
        char text[16];
        for (int i = 0; i < 6; i++) {
            snprintf(text, sizeof text, "%d", i);
            die(i % 2 ? a : b, text);
        }
        ok(leat_sync(mq));
        uint64_t moved;
        ok(leat_queue_redrive(dead, NULL, seed % 5, &moved));
        queues_crash(kill ? LEAT_KILL : LEAT_POWER_CUT);
        a = queues_make("a", NULL);
        b = queues_make("b", NULL);
        dead = queues_make("dead", NULL);
        uint64_t is_dead = queues_stats(dead).available;
        uint64_t back = queues_stats(a).available + queues_stats(b).available;
        uint64_t want = seed % 5 ? seed % 5 : 6;
        cr_assert_eq(moved, want);
        cr_assert_eq(back, want, "seed %d: %d are back, durably", (int)seed, (int)back);
        cr_assert(kill ? is_dead == 6 - want : is_dead >= 6 - want, "seed %d: %d", (int)seed,
                  (int)is_dead);
        ok(leat_close_all(mq, 0));
    }
}

static int inner_rc;

static void call_it(leat_subscription *s, const leat_message *heard, void *ctx) {
    (void)s, (void)heard, (void)ctx;
    inner_rc = leat_queue_redrive(dead, NULL, 0, NULL);
}

Test(redrive, wrong_arguments) {
    open_three(1);
    leat *first = mq;
    leat_queue *elsewhere;
    leat_options o = { .acks = LEAT_ACKS_LOG };
    ok(leat_open_memory(&o, &mq));
    elsewhere = queues_make("x", NULL);
    fails_saying(LEAT_EINVAL, "another store", leat_queue_redrive(dead, elsewhere, 0, NULL));
    ok(leat_close_all(mq, 0));
    mq = first;
    fails(LEAT_EINVAL, leat_queue_redrive(NULL, a, 0, NULL));
    fails_saying(LEAT_EINVAL, "where they are", leat_queue_redrive(dead, dead, 0, NULL));
    ok(leat_queue_redrive(dead, NULL, UINT64_MAX, NULL)); // nothing to do
    leat_subscription *s;
    ok(leat_channel_subscribe(mq, "c", call_it, NULL, NULL, &s));
    gives(1, leat_publish(mq, "c", "x", 1));
    cr_assert_eq(inner_rc, LEAT_EDEADLK);
    ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, LEAT_FOREVER, 0));
    fails(LEAT_ENOMEM, leat_queue_redrive(dead, NULL, 0, NULL));
    ok(leat_fault_clear(mq));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_queue_redrive(dead, NULL, 0, NULL));
    ok(leat_close_all(mq, 0));
}

// Who waits behind his group goes too, in order.
Test(redrive, a_group_goes_in_order) {
    open_three(1);
    char text[16];
    for (int i = 0; i < 5; i++) {
        snprintf(text, sizeof text, "%d", i);
        ok(leat_queue_send(a, &(leat_record){ .value = leat_str(text), .group = LEAT_STR("g") },
                           NULL));
        take(a, &m, text, 1);
        ok(leat_queue_nack(a, &m, 0, 0));
    }
    counts(dead, 5, 0, 0, 0);
    uint64_t moved;
    ok(leat_queue_redrive(dead, NULL, 3, &moved));
    cr_assert_eq(moved, 3);
    counts(dead, 2, 0, 0, 0);
    ok(leat_queue_redrive(dead, NULL, 0, &moved));
    cr_assert_eq(moved, 2);
    counts(dead, 0, 0, 0, 0);
    for (int i = 0; i < 5; i++) {
        snprintf(text, sizeof text, "%d", i);
        take(a, &m, text, 1);
        ok(leat_queue_ack(a, &m));
    }
    ok(leat_close_all(mq, 0));
}

// Moved to the dead-letter queue and back, of a group there is still one in flight.
Test(redrive, what_comes_back_is_of_its_group_still) {
    for (int elsewhere = 0; elsewhere < 2; elsewhere++) {
        open_three(1);
        leat_queue *to = elsewhere ? queues_make("elsewhere", NULL) : a;
        for (int i = 0; i < 2; i++) {
            leat_record r = { .value = LEAT_STR("dead"), .group = LEAT_STR("g") };
            ok(leat_queue_send(a, &r, NULL));
            take(a, &m, "dead", 1);
            ok(leat_queue_nack(a, &m, 0, 0));
        }
        queues_send(to, "no group");
        ok(leat_queue_redrive(dead, elsewhere ? to : NULL, 0, NULL));
        take(to, &m, "no group", 1);
        ok(leat_queue_ack(to, &m));
        take(to, &m, "dead", 1);
        nothing(to);
        ok(leat_queue_ack(to, &m));
        take(to, &m, "dead", 1);
        ok(leat_queue_ack(to, &m));
        ok(leat_close_all(mq, 0));
    }
}

Test(redrive, what_was_kept_over_an_open_has_its_priority_still) {
    for (int reopened = 0; reopened < 2; reopened++) {
        queues_open(LEAT_CLOCK_MANUAL, 1);
        a = queues_make("a", NULL);
        for (int i = 0; i < 3; i++) { // 1, 5, 9
            leat_record r = { .value = leat_str(i == 0   ? "low"
                                                : i == 1 ? "middle"
                                                         : "high"),
                              .priority = 1 + 4 * i };
            ok(leat_queue_send(a, &r, NULL));
            gives(1, leat_queue_receive(a, 0, &m, 1));
            ok(leat_queue_reject(a, &m, NULL));
        }
        if (reopened)
            queues_crash(LEAT_KILL);
        a = queues_make("a", NULL);
        queues_send(a, "plain");
        ok(leat_queue_redrive(a, NULL, 0, NULL));
        static const char *const order[] = { "high", "middle", "plain", "low" };
        for (int i = 0; i < 4; i++) {
            take(a, &m, order[i], 1);
            ok(leat_queue_ack(a, &m));
        }
        ok(leat_close_all(mq, 0));
    }
}
