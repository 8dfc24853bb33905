/* SPDX-License-Identifier: MIT */
// What is in a queue, looked at without handing it out: leat_queue_peek and leat_queue_explain.
#include "lib/queues.h"

#include <stdio.h>
#include <stdlib.h>

enum { MANY = 64 };

static leat_queue *q;
static leat_message seen[MANY];

static void release_seen(int count) {
    for (int i = 0; i < count; i++)
        ok(leat_message_release(mq, &seen[i]));
}

// sees: a peek in a state from a place on gives these values, in this order.
static void sees(int state, int64_t from, size_t max, const char *values) {
    char got[512] = "";
    int count = leat_queue_peek(q, state, from, seen, max);
    cr_assert(count >= 0, "peek: %s", leat_errmsg());
    for (int i = 0; i < count; i++) {
        cr_assert_eq(seen[i].receipt, 0);
        snprintf(got + strlen(got), sizeof got - strlen(got), "%.*s ", (int)seen[i].value.size,
                 (const char *)seen[i].value.data);
    }
    release_seen(count);
    cr_assert_str_eq(got, values, "state %d from %lld: '%s', not '%s'", state, (long long)from, got,
                     values);
}

// 0 kept, 1 delayed, 2 leased, 3 lapsed, 4 nacked, 5 done, 6 and 7 never handed out.
static void make_each(void) {
    q = queues_make("a",
                    &(leat_queue_options){ .deliveries_max = 2, .visibility_timeout_ms = SECOND });
    leat_message six[6];
    queues_send_n(q, 8, 0);
    take(q, &m, "0", 1);
    ok(leat_queue_nack(q, &m, 0, 0));
    take(q, &m, "0", 2);
    ok(leat_queue_nack(q, &m, 0, 0));
    gives(5, leat_queue_receive(q, 0, six, 5));
    ok(leat_queue_nack(q, &six[0], HOUR, 0));
    ok(leat_queue_extend(q, &six[1], HOUR));
    ok(leat_queue_nack(q, &six[3], 0, 0));
    ok(leat_queue_ack(q, &six[4]));
    ok(leat_clock_advance(mq, SECOND));
    ok(leat_message_release(mq, &six[1]));
    ok(leat_message_release(mq, &six[2]));
    counts(q, 4, 1, 1, 1);
}

Test(peek, sees_each_state_and_changes_nothing) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    make_each();
    for (int round = 0; round < 3; round++) {
        sees(LEAT_AVAILABLE, 0, MANY, "3 4 6 7 ");
        sees(LEAT_DELAYED, 0, MANY, "1 ");
        sees(LEAT_LEASED, 0, MANY, round < 2 ? "2 " : "");
        sees(LEAT_IS_DEAD, 0, MANY, "0 ");
        sees(LEAT_AVAILABLE, 4, 2, "4 6 ");
        sees(LEAT_AVAILABLE, 7, MANY, "7 ");
        sees(LEAT_AVAILABLE, 8, MANY, "");
        sees(LEAT_IS_DEAD, 1, MANY, "");
        sees(LEAT_DELAYED, 2, MANY, "");
        if (round < 2)
            counts(q, 4, 1, 1, 1);
        if (round == 1) { // what was leased comes back at the place where it was
            queues_crash(LEAT_KILL);
            q = queues_make("a", NULL);
            take(q, &m, "2", 2);
            ok(leat_queue_ack(q, &m));
        }
    }
    gives(2, leat_queue_peek(q, LEAT_AVAILABLE, 0, seen, 2));
    cr_assert(seen[0].deliveries == 1 && seen[0].offset == 3 && seen[0].partition == 0);
    release_seen(2);
    gives(2, leat_queue_peek(q, LEAT_AVAILABLE, 6, seen, 2));
    cr_assert_eq(seen[0].deliveries, 0);
    release_seen(2);
    take(q, &m, "3", 2);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

Test(peek, views_are_released_and_never_settle) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("a", NULL);
    queues_send(q, "x");
    gives(1, leat_queue_peek(q, LEAT_AVAILABLE, 0, &m, 1));
    leat_message copy = m;
    fails_saying(LEAT_EBUSY, "1 messages", leat_queue_close(q));
    take(q, &n, "x", 1);
    ok(leat_queue_ack(q, &n));
    is(m.value, "x");
    ok(leat_message_release(mq, &m));
    fails(LEAT_ESTALE, leat_message_release(mq, &copy));
    fails(LEAT_ESTALE, leat_queue_ack(q, &copy));
    queues_send(q, "y");
    gives(1, leat_queue_peek(q, LEAT_AVAILABLE, 0, &m, 1));
    fails(LEAT_ESTALE, leat_queue_ack(q, &m)); // ends the view all the same
    fails(LEAT_ESTALE, leat_message_release(mq, &m));
    counts(q, 1, 0, 0, 0);
    ok(leat_queue_close(q));
    ok(leat_close_all(mq, 0));
}

Test(peek, goes_on_over_several_partitions) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("a", &(leat_queue_options){ .partitions = 3 });
    for (int i = 0; i < 30; i++)
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x"), .to_partition = 1 + i % 3 },
                           NULL));
    leat_message some[7];
    gives(7, leat_queue_receive(q, 0, some, 7));
    for (int state = LEAT_AVAILABLE; state <= LEAT_LEASED; state += 2) {
        int total = 0, rc;
        int64_t from = 0, last = -1;
        while ((rc = leat_queue_peek(q, state, from, seen, 4)) > 0) {
            for (int i = 0; i < rc; i++) {
                int64_t place = LEAT_PEEK(seen[i].partition, seen[i].offset);
                cr_assert(place > last, "in order");
                last = place;
            }
            from = last + 1;
            release_seen(rc);
            total += rc;
        }
        cr_assert_eq(rc, 0);
        cr_assert_eq(total, state == LEAT_LEASED ? 7 : 23);
    }
    gives(0, leat_queue_peek(q, LEAT_AVAILABLE, LEAT_PEEK(3, 0), seen, 4));
    gives(0, leat_queue_peek(q, LEAT_LEASED, LEAT_PEEK(1023, 5), seen, 4));
    for (int i = 0; i < 7; i++)
        ok(leat_queue_ack(q, &some[i]));
    ok(leat_close_all(mq, 0));
}

// The first ones of many leases are found, though they are in no order.
Test(peek, of_many_leases_the_first) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("a", NULL);
    queues_send_n(q, 500, 0);
    leat_message some[250]; // so that a lower place among leases is a higher offset
    gives(250, leat_queue_receive(q, 0, some, 250));
    for (int i = 250; i-- > 0;)
        ok(leat_queue_nack(q, &some[i], 0, 0));
    for (int i = 0; i < 500; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_nack(q, &m, HOUR + (i * 7919) % 500, 0));
    }
    sees(LEAT_DELAYED, 3, 4, "3 4 5 6 ");
    sees(LEAT_DELAYED, 498, 4, "498 499 ");
    ok(leat_close_all(mq, 0));
}

static int inner_rc[2];

static int ignore(const void *data, size_t size, void *ctx) {
    (void)data, (void)size;
    return ctx != NULL;
}

static void call_both(leat_subscription *s, const leat_message *heard, void *ctx) {
    (void)s, (void)heard, (void)ctx;
    inner_rc[0] = leat_queue_peek(q, LEAT_AVAILABLE, 0, &m, 1);
    inner_rc[1] = leat_queue_explain(q, 0, 0, ignore, NULL);
}

Test(peek, wrong_arguments) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("a", NULL);
    queues_send(q, "x");
    fails(LEAT_EINVAL, leat_queue_peek(NULL, LEAT_AVAILABLE, 0, seen, 1));
    fails(LEAT_EINVAL, leat_queue_peek(q, LEAT_AVAILABLE, 0, NULL, 1));
    fails(LEAT_EINVAL, leat_queue_peek(q, LEAT_AVAILABLE, 0, seen, 0));
    fails(LEAT_EINVAL, leat_queue_peek(q, LEAT_AVAILABLE, -1, seen, 1));
    fails(LEAT_EINVAL, leat_queue_peek(q, 0, 0, seen, 1));
    fails(LEAT_EINVAL, leat_queue_peek(q, 5, 0, seen, 1));
    gives(0, leat_queue_peek(q, LEAT_AVAILABLE, INT64_MAX, seen, SIZE_MAX));
    fails(LEAT_EINVAL, leat_queue_explain(NULL, 0, 0, ignore, NULL));
    fails(LEAT_EINVAL, leat_queue_explain(q, 0, 0, NULL, NULL));
    fails(LEAT_EINVAL, leat_queue_explain(q, 0, -1, ignore, NULL));
    fails(LEAT_ERANGE, leat_queue_explain(q, -1, 0, ignore, NULL));
    fails(LEAT_ERANGE, leat_queue_explain(q, 1, 0, ignore, NULL));
    fails(LEAT_EIO, leat_queue_explain(q, 0, 0, ignore, q));
    leat_subscription *s;
    ok(leat_channel_subscribe(mq, "c", call_both, NULL, NULL, &s));
    gives(1, leat_publish(mq, "c", "x", 1));
    cr_assert(inner_rc[0] == 1 && inner_rc[1] == 0, "%d %d", inner_rc[0], inner_rc[1]);
    ok(leat_message_release(mq, &m));
    ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, LEAT_FOREVER, 0));
    fails(LEAT_ENOMEM, leat_queue_explain(q, 0, 0, ignore, NULL));
    ok(leat_fault_clear(mq));
    take(q, &m, "x", 1);
    ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, LEAT_FOREVER, 0));
    fails(LEAT_ENOMEM, leat_queue_peek(q, LEAT_LEASED, 0, seen, 1));
    ok(leat_fault_clear(mq));
    ok(leat_queue_ack(q, &m));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_queue_peek(q, LEAT_AVAILABLE, 0, seen, 1));
    fails(LEAT_ECLOSED, leat_queue_explain(q, 0, 0, ignore, NULL));
    ok(leat_close_all(mq, 0));
}

// ---- explain

#define says(offset, words)                                                                        \
    cr_assert(strstr(queues_explain(q, 0, offset), words) != NULL, "'%s' does not say '%s'",       \
              queues_explain(q, 0, offset), words)

Test(queue_explain, says_what_a_message_is_and_why_it_is_not_delivered) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    make_each();
    says(0, "dead: kept in place after 2 deliveries");
    says(1, "delayed: for 3599000 ms more, was delivered 1 times");
    says(2, "leased: for 3599000 ms more, delivery 1");
    says(3, "available: 0 stand before it in partition 0, was delivered 1 times");
    says(4, "available: 1 stand");
    says(5, "done");
    says(6, "available: 2 stand");
    says(7, "available: 3 stand before it in partition 0, was delivered 0 times");
    says(8, "not sent yet: the end is at 8");
    says(INT64_MAX, "not sent yet");
    ok(leat_queue_pause(q, 1));
    says(7, "the queue is paused");
    ok(leat_queue_pause(q, 0));
    leat_queue_options o = { .flags = LEAT_ALTER, .in_flight_max = 1 };
    ok(leat_queue_close(queues_make("a", &o)));
    says(7, "in_flight_max is 1, as many");
    ok(leat_queue_purge(q, NULL));
    says(1, "over: done, dead, expired or purged; the head is at 8");
    queues_send(q, "x");
    ok(leat_topic_delete_records(leat_queue_topic(q), 0, 4));
    says(1, "given back: the topic begins at 4");
    ok(leat_close_all(mq, 0));
}

Test(queue_explain, says_why_a_move_does_not_succeed) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("a", &(leat_queue_options){ .deliveries_max = 1, .dead_letter = "dead" });
    queues_send(q, "x");
    queues_send(q, "y");
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "dead", -1, LEAT_ENOSPC, 2, 0));
    take(q, &m, "x", 1);
    ok(leat_queue_nack(q, &m, 0, 0));
    says(0, "moving: to queue dead, after 1 tries the next one in 100 ms: ");
    says(0, leat_strerror(LEAT_ENOSPC));
    ok(leat_clock_advance(mq, 100));
    says(0, "after 2 tries the next one in 200 ms");
    ok(leat_clock_advance(mq, 200));
    says(0, "dead: was moved to the dead-letter queue, which is dead");
    take(q, &m, "y", 1);
    gives(0, leat_queue_receive(q, 0, &n, 1));
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue_explain, names_who_has_it_and_who_waits_behind_his_group) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("a", NULL);
    for (int i = 0; i < 3; i++)
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x"), .group = LEAT_STR("g") },
                           NULL));
    leat_receive_options o = { .who = "worker 7" };
    gives(1, leat_queue_receive_with(q, 0, &o, &m, 1));
    says(0, "leased: for 30000 ms more, delivery 1, by worker 7");
    says(1, "waits: one of its group is in front of it");
    sees(LEAT_AVAILABLE, 0, MANY, "x x ");
    ok(leat_queue_ack(q, &m));
    says(1, "available: 0 stand before it");
    ok(leat_close_all(mq, 0));
}

// What the queue delays by default is delayed before anybody has touched it.
Test(peek, sees_what_is_delayed_from_the_start) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("a", &(leat_queue_options){ .delay_ms = 10 * SECOND, .partitions = 1 });
    queues_send_n(q, 2, 0);
    ok(leat_clock_advance(mq, 5 * SECOND));
    queues_send(q, "late");
    sees(LEAT_AVAILABLE, 0, MANY, "");
    sees(LEAT_DELAYED, 0, MANY, "0 1 late ");
    says(2, "delayed: for 10000 ms more");
    ok(leat_clock_advance(mq, 5 * SECOND));
    sees(LEAT_AVAILABLE, 0, MANY, "0 1 ");
    sees(LEAT_DELAYED, 0, MANY, "late ");
    counts(q, 2, 1, 0, 0);
    ok(leat_close_all(mq, 0));
}
