/* SPDX-License-Identifier: MIT */
// Redrive: the dead go back to work, in place or to the queue they came from or another one.
#include "lib/queues.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

// ---- in place, and of a group

static void send_of(const char *group, const char *text) {
    leat_record r = { .value = leat_str(text), .group = leat_str(group) };
    ok(leat_queue_send(a, &r, NULL));
}

// A queue that keeps its dead, with "0" to "3" of one group, of which the first `kept` are dead.
static void open_group(int kept) {
    static const char *const texts[] = { "0", "1", "2", "3" };
    queues_open(LEAT_CLOCK_MANUAL, 1);
    a = queues_make("a", &(leat_queue_options){ .visibility_timeout_ms = SECOND });
    for (int i = 0; i < 4; i++)
        send_of("g", texts[i]);
    for (int i = 0; i < kept; i++) {
        take(a, &m, texts[i], 1);
        ok(leat_queue_reject(a, &m, NULL));
    }
}

// They come in that order, one at a time.
static void come_one_by_one(const char *texts) {
    for (; *texts; texts++) {
        char text[2] = { *texts, 0 };
        gives(1, leat_queue_receive(a, 0, &m, 1));
        is(m.value, text);
        nothing(a);
        ok(leat_queue_ack(a, &m));
    }
    nothing(a);
    counts(a, 0, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

Test(redrive, in_place_one_waits_for_the_one_of_its_group_in_flight) {
    for (int how = 0; how < 4; how++) { // how 2 is over
        open_group(2);
        take(a, &m, "2", 1);
        ok(leat_queue_redrive(a, NULL, 0, NULL));
        nothing(a);
        counts(a, 3, 0, 1, 0);
        cr_assert_eq(strncmp(queues_explain(a, 0, 0), "waits: ", 7), 0);
        gives(1, leat_queue_peek(a, LEAT_AVAILABLE, 0, &n, 1));
        is(n.value, "0");
        ok(leat_message_release(mq, &n));
        if (how == 0) {
            ok(leat_queue_ack(a, &m));
        } else if (how == 1) {
            ok(leat_queue_reject(a, &m, NULL));
            counts(a, 3, 0, 0, 1);
        } else if (how == 2) { // through nack and delay
            ok(leat_queue_nack(a, &m, SECOND, 0));
            nothing(a);
            counts(a, 3, 1, 0, 0);
            ok(leat_clock_advance(mq, SECOND));
            take(a, &m, "2", 2);
            ok(leat_queue_ack(a, &m));
        } else { // its lease ends, but its receipt is good
            ok(leat_clock_advance(mq, SECOND));
            ok(leat_queue_redrive(a, NULL, 0, NULL));
            counts(a, 4, 0, 0, 0);
            ok(leat_queue_ack(a, &m));
        }
        if (how == 1) {
            take(a, &m, "0", 1);
            ok(leat_queue_redrive(a, NULL, 0, NULL)); // 2 has its place behind 1
            ok(leat_queue_ack(a, &m));
            come_one_by_one("123");
        } else {
            come_one_by_one("013");
        }
    }
}

Test(redrive, in_place_one_passes_those_of_its_group_that_nobody_has) {
    open_group(2);
    send_of("h", "other");
    ok(leat_queue_redrive(a, NULL, 1, NULL));
    take(a, &m, "0", 1);
    take(a, &n, "other", 1);
    ok(leat_queue_ack(a, &n));
    ok(leat_queue_ack(a, &m));
    ok(leat_queue_redrive(a, NULL, 0, NULL));
    come_one_by_one("123");
    open_group(1);
    take(a, &m, "1", 1);
    ok(leat_clock_advance(mq, SECOND)); // somebody may be at work on it still
    ok(leat_queue_redrive(a, NULL, 0, NULL));
    take(a, &n, "1", 2);
    nothing(a);
    ok(leat_queue_ack(a, &n));
    fails(LEAT_ESTALE, leat_queue_ack(a, &m));
    come_one_by_one("023");
}

Test(redrive, in_place_a_group_is_in_order_over_an_open) {
    for (int when = 0; when < 4; when++) {
        open_group(2);
        if (when == 0)
            queues_crash(LEAT_KILL); // kept
        a = queues_make("a", NULL);
        take(a, &m, "2", 1);
        if (when == 3)
            ok(leat_queue_nack(a, &m, SECOND, 0));
        ok(leat_queue_redrive(a, NULL, 0, NULL));
        nothing(a);
        if (when == 0) {
            ok(leat_queue_ack(a, &m));
            come_one_by_one("013");
            continue;
        }
        queues_crash(LEAT_KILL); // 0 and 1 wait; 2 is in flight or delayed
        a = queues_make("a", NULL);
        if (when == 2) {
            counts(a, 4, 0, 0, 0);
            take(a, &m, "0", 1);
            ok(leat_queue_reject(a, &m, NULL));
            ok(leat_queue_redrive(a, NULL, 0, NULL));
        }
        if (when == 3) {
            for (int i = 0; i < 2; i++) {
                gives(1, leat_queue_receive(a, 0, &m, 1));
                ok(leat_queue_ack(a, &m));
            }
            counts(a, 1, 1, 0, 0);
            gives(1, leat_queue_peek(a, LEAT_DELAYED, 0, &n, 1));
            cr_assert_eq(n.deliveries, 1);
            ok(leat_message_release(mq, &n));
            ok(leat_clock_advance(mq, SECOND));
            come_one_by_one("23");
        } else {
            come_one_by_one("0123");
        }
    }
}

// At its last try when the store stopped, behind one that was redriven: it is dead, not to come.
Test(redrive, in_place_one_that_had_its_last_try_dies_at_an_open) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    a = queues_make("a", &(leat_queue_options){ .deliveries_max = 1 });
    for (int i = 0; i < 2; i++) {
        send_of("g", i ? "1" : "0");
        gives(1, leat_queue_receive(a, 0, &m, 1));
        if (i == 0)
            ok(leat_queue_reject(a, &m, NULL));
    }
    ok(leat_queue_redrive(a, NULL, 0, NULL));
    queues_crash(LEAT_KILL);
    a = queues_make("a", NULL);
    counts(a, 1, 0, 0, 1);
    take(a, &m, "0", 1);
    ok(leat_queue_ack(a, &m));
    nothing(a);
    ok(leat_close_all(mq, 0));
}

// What waited for its group when a move of it failed waits again.
Test(redrive, what_cannot_be_sent_has_its_place_in_its_group_still) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    open_dying("b", "a");
    a = queues_make("a", NULL);
    leat_queue *to = queues_make("to", NULL);
    for (int i = 0; i < 3; i++)
        send_of("g", i == 0 ? "0" : i == 1 ? "1" : "2");
    take(a, &m, "0", 1);
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "to", -1, LEAT_ENOSPC, 1, 0));
    fails(LEAT_ENOSPC, leat_queue_redrive(a, to, 0, NULL));
    nothing(a);
    counts(a, 2, 0, 1, 0);
    ok(leat_queue_ack(a, &m));
    come_one_by_one("12");
}

static int fails_in; // so many allocations until the first one that fails; 0: none does

static void *scarce(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0) {
        free(old);
        return NULL;
    }
    if (fails_in > 0 && --fails_in == 0) {
        fails_in = 1;
        return NULL;
    }
    return realloc(old, size);
}

Test(redrive, in_place_without_memory_changes_nothing) {
    int failed = 0;
    for (int at = 1, rc = LEAT_ENOMEM; rc != 0; at++) {
        leat_options o = { .clock = LEAT_CLOCK_MANUAL, .acks = LEAT_ACKS_LOG, .alloc = scarce };
        ok(leat_open_memory(&o, &mq));
        a = queues_make("a", NULL);
        for (int i = 0; i < 6; i++)
            send_of(i < 4 ? "g" : "h", i % 2 ? "odd" : "even");
        for (int i = 0; i < 3; i++) { // of g, g, h
            gives(1, leat_queue_receive(a, 0, &m, 1));
            ok(leat_queue_reject(a, &m, NULL));
            if (i == 1)
                gives(1, leat_queue_receive(a, 0, &n, 1));
        }
        counts(a, 2, 0, 1, 3);
        fails_in = at;
        uint64_t moved;
        rc = leat_queue_redrive(a, NULL, 0, &moved);
        fails_in = 0;
        cr_assert(rc == 0 || rc == LEAT_ENOMEM);
        counts(a, 2 + moved, 0, 1, 3 - moved);
        failed += rc != 0;
        ok(leat_queue_redrive(a, NULL, 0, NULL));
        counts(a, 5, 0, 1, 0);
        ok(leat_queue_ack(a, &n));
        static const int order[] = { 0, 1, 3, 4, 5 };
        for (int i = 0; i < 5; i++) {
            gives(1, leat_queue_receive(a, 0, &m, 1));
            cr_assert_eq(m.offset, order[i], "allocation %d: %d", at, (int)m.offset);
            ok(leat_queue_ack(a, &m));
        }
        ok(leat_close_all(mq, 0));
    }
    cr_assert_geq(failed, 3);
}
