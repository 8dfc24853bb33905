/* SPDX-License-Identifier: MIT */
// Retention of queues: what is older than retention_ms, by its timestamp, is expired, in every
// state but leased; away, or to the dead-letter queue.
#include "lib/queues.h"

#include <stdio.h>
#include <stdlib.h>

static leat_queue *q, *dead;
static int64_t start_ms;

static void open_old(int32_t clock, uint64_t seed, const leat_queue_options *o) {
    queues_open(clock, seed);
    ok(leat_clock_now(mq, NULL, &start_ms));
    q = queues_make("a", o);
}

// Sends one that is so old already.
static void send_aged(const char *text, int64_t age_ms) {
    int64_t now;
    ok(leat_clock_now(mq, NULL, &now));
    ok(leat_queue_send(q, &(leat_record){ .value = leat_str(text), .timestamp_ms = now - age_ms },
                       NULL));
}

#define expired_are(queue, number)                                                                 \
    cr_assert(queues_stats(queue).expired == (number), "line %d: %d are expired", __LINE__,        \
              (int)queues_stats(queue).expired)

Test(queue_retention, ends_a_message_exactly_when_it_is_too_old) {
    open_old(LEAT_CLOCK_MANUAL, 1, &(leat_queue_options){ .retention_ms = 10 * SECOND });
    queues_send(q, "a");
    ok(leat_clock_advance(mq, SECOND));
    queues_send(q, "b");
    ok(leat_clock_advance(mq, 9 * SECOND - 1));
    counts(q, 2, 0, 0, 0);
    expired_are(q, 0);
    ok(leat_clock_advance(mq, 1));
    counts(q, 1, 0, 0, 0);
    expired_are(q, 1);
    ok(leat_clock_advance(mq, SECOND - 1));
    take(q, &m, "b", 1);
    ok(leat_queue_nack(q, &m, 0, 0));
    counts(q, 1, 0, 0, 0);
    ok(leat_clock_advance(mq, 1));
    nothing(q);
    expired_are(q, 2);
    ok(leat_close_all(mq, 0));
}

Test(queue_retention, goes_by_timestamps_in_any_order) {
    open_old(LEAT_CLOCK_MANUAL, 1,
             &(leat_queue_options){ .retention_ms = 10 * SECOND, .partitions = 1 });
    static const int ages[] = { 3, 9, 0, 12, 5, 1 };
    char text[8];
    for (int i = 0; i < 6; i++) {
        snprintf(text, sizeof text, "%d", ages[i]);
        send_aged(text, ages[i] * SECOND);
    }
    for (int now = 0; now <= 10; now++) {
        uint64_t over = 0;
        for (int i = 0; i < 6; i++)
            over += ages[i] + now >= 10;
        expired_are(q, over);
        counts(q, 6 - over, 0, 0, 0);
        leat_message seen[6];
        gives(6 - over, leat_queue_peek(q, LEAT_AVAILABLE, 0, seen, 6));
        for (uint64_t i = 0; i < 6 - over; i++)
            ok(leat_message_release(mq, &seen[i]));
        ok(leat_clock_advance(mq, SECOND));
    }
    ok(leat_close_all(mq, 0));
}

// Also at the first look of all, and while nobody looks.
Test(queue_retention, never_while_leased_and_when_it_comes_back) {
    static const char *const ways[] = { "nack", "later", "lapse", "extend", "ack", "kept" };
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        open_old(LEAT_CLOCK_MANUAL, 1,
                 &(leat_queue_options){ .retention_ms = 10 * SECOND,
                                        .visibility_timeout_ms = HOUR,
                                        .deliveries_max = way == 5 ? 1 : 0 });
        queues_send(q, "a");
        queues_send(q, "b");
        take(q, &m, "a", 1);
        ok(leat_clock_advance(mq, 20 * SECOND));
        counts(q, 0, 0, 1, 0);
        expired_are(q, 1);
        if (way == 0 || way == 5)
            ok(leat_queue_nack(q, &m, 0, 0));
        else if (way == 1)
            ok(leat_queue_nack(q, &m, SECOND, 0));
        else if (way == 2)
            ok(leat_clock_advance(mq, HOUR));
        else if (way == 3)
            ok(leat_queue_extend(q, &m, 0));
        else
            ok(leat_queue_ack(q, &m));
        counts(q, 0, 0, 0, way == 5);
        expired_are(q, way < 4 ? 2 : 1);
        if (way == 5) { // what is dead already stays, until it is brought back
            ok(leat_queue_redrive(q, NULL, 0, NULL));
            counts(q, 0, 0, 0, 0);
            expired_are(q, 2);
        }
        if (way == 2 || way == 3)
            ok(leat_message_release(mq, &m));
        ok(leat_clock_advance(mq, HOUR));
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_retention, ends_what_is_delayed) {
    open_old(LEAT_CLOCK_MANUAL, 1, &(leat_queue_options){ .retention_ms = 10 * SECOND });
    queues_send(q, "a");
    send_aged("young", -5 * SECOND);
    for (int i = 0; i < 2; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_nack(q, &m, HOUR, 0));
    }
    counts(q, 0, 2, 0, 0);
    ok(leat_clock_advance(mq, 10 * SECOND));
    counts(q, 0, 1, 0, 0);
    ok(leat_clock_advance(mq, 5 * SECOND));
    counts(q, 0, 0, 0, 0);
    expired_are(q, 2);
    ok(leat_clock_advance(mq, HOUR));
    nothing(q);
    ok(leat_close_all(mq, 0));
}

Test(queue_retention, of_a_queue_that_nobody_looks_at) {
    open_old(LEAT_CLOCK_MANUAL, 1,
             &(leat_queue_options){
                 .retention_ms = 10 * SECOND, .dead_letter = "dead", .dead_letter_expired = 1 });
    dead = queues_make("dead", NULL);
    queues_send(q, "a");
    ok(leat_clock_advance(mq, SECOND));
    ok(leat_clock_advance(mq, 9 * SECOND));
    counts(dead, 1, 0, 0, 0);
    queues_send(q, "b"); // nothing is planned; it is heard of
    ok(leat_clock_advance(mq, 10 * SECOND - 1));
    counts(dead, 1, 0, 0, 0);
    ok(leat_clock_advance(mq, 1));
    counts(dead, 2, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

static void says(const leat_message *letter, const char *name, const char *value) {
    leat_header h;
    for (size_t i = 0; leat_message_header(letter, i, &h) == 1; i++)
        if (h.name.size == strlen(name) && memcmp(h.name.data, name, h.name.size) == 0) {
            is(h.value, value);
            return;
        }
    cr_assert(false, "no header %s", name);
}

// A dead letter is as old as its move, however it came to die; brought back it is new once more.
Test(queue_retention, of_a_dead_letter_queue_counts_from_the_move) {
    open_old(LEAT_CLOCK_MANUAL, 1,
             &(leat_queue_options){
                 .retention_ms = 10 * SECOND, .dead_letter = "dead", .dead_letter_expired = 1 });
    dead = queues_make("dead",
                       &(leat_queue_options){ .flags = LEAT_ALTER, .retention_ms = 5 * SECOND });
    send_aged("a", 9 * SECOND);
    send_aged("b", 8 * SECOND);
    take(q, &m, "a", 1);
    ok(leat_queue_reject(q, &m, NULL));
    counts(dead, 1, 0, 0, 0);
    ok(leat_clock_advance(mq, 2 * SECOND)); // "b" expires
    counts(dead, 2, 0, 0, 0);
    cr_assert_eq(queues_stats(dead).oldest_ms, 2 * SECOND);
    char expected[24];
    snprintf(expected, sizeof expected, "%lld", (long long)(start_ms - 8 * SECOND));
    gives(1, leat_queue_peek(dead, LEAT_AVAILABLE, 1, &m, 1));
    cr_assert_eq(m.timestamp_ms, start_ms + 2 * SECOND);
    leat_header h;
    gives(1, leat_message_header(&m, 4, &h));
    is(h.name, "leat.timestamp");
    is(h.value, expected);
    ok(leat_message_release(mq, &m));
    ok(leat_clock_advance(mq, 3 * SECOND - 1));
    counts(dead, 2, 0, 0, 0);
    ok(leat_clock_advance(mq, 1));
    counts(dead, 1, 0, 0, 0);
    ok(leat_queue_redrive(dead, NULL, 0, NULL));
    take(q, &m, "b", 1);
    cr_assert_eq(m.timestamp_ms, start_ms + 5 * SECOND);
    gives(0, leat_message_header(&m, 0, &h));
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

// The dead-letter queue is looked at, the queue itself never.
Test(queue_retention, what_expires_may_go_to_the_dead_letter_queue) {
    open_old(LEAT_CLOCK_MANUAL, 1,
             &(leat_queue_options){ .retention_ms = 10 * SECOND,
                                    .dead_letter = "dead",
                                    .deliveries_max = 3,
                                    .dead_letter_expired = 1 });
    dead = queues_make("dead", NULL);
    queues_send(q, "a");
    queues_send(q, "b");
    queues_send(q, "c");
    take(q, &m, "a", 1);
    ok(leat_queue_nack(q, &m, HOUR, 0));
    take(q, &m, "b", 1);
    ok(leat_clock_advance(mq, 10 * SECOND));
    counts(dead, 2, 0, 0, 0);
    ok(leat_queue_nack(q, &m, 0, 0));
    counts(dead, 3, 0, 0, 0);
    for (int i = 0; i < 3; i++) {
        gives(1, leat_queue_receive(dead, 0, &m, 1));
        says(&m, "leat.reason", "expired");
        says(&m, "leat.queue", "a");
        ok(leat_queue_ack(dead, &m));
    }
    expired_are(q, 0); // these are dead
    cr_assert_eq(queues_stats(q).dead, 3);
    queues_send(q, "young");
    ok(leat_clock_advance(mq, 9 * SECOND));
    for (int i = 0; i < 3; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_nack(q, &m, 0, 0));
    }
    gives(1, leat_queue_receive(dead, 0, &m, 1));
    says(&m, "leat.reason", "deliveries");
    ok(leat_queue_ack(dead, &m));
    ok(leat_close_all(mq, 0));
}

// Its copy may be there when the process dies: then another one comes, but never the message, even
// if it would not be too old any more. With a group: also one that has not had its turn.
Test(queue_retention, what_was_to_be_moved_is_never_handed_out) {
    for (int group = 0; group < 2; group++) {
        open_old(LEAT_CLOCK_MANUAL, 1,
                 &(leat_queue_options){ .retention_ms = 10 * SECOND,
                                        .dead_letter = "dead",
                                        .visibility_timeout_ms = HOUR,
                                        .dead_letter_expired = 1 });
        for (int i = 0; i < 3; i++) {
            leat_record r = { .value = LEAT_STR("x") };
            if (group)
                r.group = leat_str("g");
            ok(leat_queue_send(q, &r, NULL));
        }
        gives(1, leat_queue_receive(q, 0, &m, 1)); // stays leased
        ok(leat_fault_push(mq, LEAT_OP_SYNC, "dead", -1, LEAT_EIO, LEAT_FOREVER, 0));
        ok(leat_clock_advance(mq, 10 * SECOND));
        cr_assert_eq(queues_stats(q).moving, 2);
        queues_crash(LEAT_KILL);
        leat_queue_options o = { .flags = LEAT_ALTER, .retention_ms = LEAT_FOREVER };
        q = queues_make("a", &o);
        dead = queues_make("dead", NULL);
        ok(leat_clock_advance(mq, SECOND));
        take(q, &m, "x", 2);
        cr_assert_eq(m.offset, 0);
        ok(leat_queue_ack(q, &m));
        nothing(q);
        counts(q, 0, 0, 0, 0);
        bool came[3] = { false };
        while (leat_queue_receive(dead, 0, &m, 1) == 1) {
            leat_header h;
            says(&m, "leat.reason", "expired");
            for (size_t i = 0; leat_message_header(&m, i, &h) == 1; i++)
                if (h.name.size == 11 && memcmp(h.name.data, "leat.offset", 11) == 0)
                    came[*(const char *)h.value.data - '0'] = true;
            ok(leat_queue_ack(dead, &m));
        }
        cr_assert(!came[0] && came[1] && came[2]);
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_retention, holds_over_a_crash_and_an_open) {
    for (uint64_t seed = 1; seed <= 16; seed++) {
        open_old(LEAT_CLOCK_MANUAL, seed,
                 &(leat_queue_options){ .retention_ms = 10 * SECOND, .acks = LEAT_ACKS_DISK });
        for (int i = 0; i < 6; i++)
            send_aged("x", i < 3 ? 9 * SECOND : 0);
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_clock_advance(mq, seed % 4 < 2 ? 0 : 2 * SECOND));
        (void)queues_stats(q);
        queues_crash(seed % 2 ? LEAT_KILL : LEAT_POWER_CUT);
        ok(leat_clock_advance(mq, 2 * SECOND));
        leat_queue_options other = { .retention_ms = SECOND };
        fails_saying(LEAT_EEXIST, "retention_ms", leat_queue_open(mq, "a", &other, &q));
        q = queues_make("a", NULL);
        counts(q, 3, 0, 0, 0); // they expire again, or are so
        int got = 0;
        while (leat_queue_receive(q, 0, &m, 1) == 1) {
            got++;
            ok(leat_queue_ack(q, &m));
        }
        cr_assert_eq(got, 3);
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_retention, is_altered_and_ended) {
    open_old(LEAT_CLOCK_MANUAL, 1, NULL);
    queues_send_n(q, 3, 0);
    ok(leat_clock_advance(mq, 10 * SECOND));
    counts(q, 3, 0, 0, 0);
    queues_send_n(q, 2, 0);
    leat_queue_options o = { .flags = LEAT_ALTER, .retention_ms = 5 * SECOND };
    ok(leat_queue_close(queues_make("a", &o)));
    counts(q, 2, 0, 0, 0);
    o.retention_ms = LEAT_FOREVER;
    ok(leat_queue_close(queues_make("a", &o)));
    ok(leat_clock_advance(mq, HOUR));
    counts(q, 2, 0, 0, 0);
    expired_are(q, 3);
    ok(leat_close_all(mq, 0));
}

Test(queue_retention, of_many_in_blocks_and_behind_a_wall_clock_that_jumps) {
    open_old(LEAT_CLOCK_MANUAL, 1, &(leat_queue_options){ .retention_ms = 10 * SECOND });
    for (int i = 0; i < 10000; i++)
        ok(leat_queue_send(
            q,
            &(leat_record){ .value = LEAT_STR("x"), .timestamp_ms = start_ms + (i * 7919) % 1000 },
            NULL));
    ok(leat_clock_advance(mq, 10 * SECOND + 499));
    counts(q, 5000, 0, 0, 0);
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_clock_set_wall(mq, start_ms + HOUR));
    counts(q, 0, 0, 1, 0);
    expired_are(q, 9999);
    ok(leat_queue_ack(q, &m));
    queues_send(q, "new");
    take(q, &m, "new", 1);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue_retention, nothing_hangs_on_a_jumping_clock) {
    open_old(LEAT_CLOCK_JUMP, 1,
             &(leat_queue_options){ .retention_ms = 10 * SECOND, .visibility_timeout_ms = HOUR });
    queues_send(q, "a");
    queues_send(q, "b");
    take(q, &m, "a", 1);
    ok(leat_queue_pause(q, 1));
    fails(LEAT_EDEADLK, leat_queue_receive(q, LEAT_FOREVER, &n, 1));
    counts(q, 0, 0, 0, 0);
    expired_are(q, 2);
    ok(leat_message_release(mq, &m));
    ok(leat_close_all(mq, 0));
}

// What cannot be ended for want of memory is ended later.
Test(queue_retention, a_fault_only_delays_it) {
    open_old(LEAT_CLOCK_MANUAL, 1, &(leat_queue_options){ .retention_ms = 10 * SECOND });
    queues_send_n(q, 5, 0);
    ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, LEAT_FOREVER, 0));
    ok(leat_clock_advance(mq, 10 * SECOND));
    ok(leat_fault_clear(mq));
    counts(q, 0, 0, 0, 0);
    expired_are(q, 5);
    ok(leat_close_all(mq, 0));
}

// Nothing in front of one that expires is handed out before its time.
Test(queue_retention, beside_delays_and_groups) {
    open_old(LEAT_CLOCK_MANUAL, 1,
             &(leat_queue_options){ .retention_ms = 10 * SECOND, .delay_ms = 5 * SECOND });
    queues_send(q, "delayed");
    send_aged("old", 20 * SECOND);
    nothing(q);
    counts(q, 0, 1, 0, 0);
    expired_are(q, 1);
    for (int i = 0; i < 3; i++) {
        leat_record r = { .value = LEAT_STR("g"), .group = LEAT_STR("g"), .delay_ms = LEAT_ZERO };
        if (i == 1)
            r.timestamp_ms = start_ms - 20 * SECOND;
        ok(leat_queue_send(q, &r, NULL));
    }
    expired_are(q, 2); // the second one, which waits
    counts(q, 2, 1, 0, 0);
    take(q, &m, "g", 1);
    nothing(q);
    ok(leat_queue_ack(q, &m));
    take(q, &m, "g", 1);
    ok(leat_queue_ack(q, &m));
    ok(leat_clock_advance(mq, 5 * SECOND));
    take(q, &m, "delayed", 1);
    ok(leat_queue_ack(q, &m));
    counts(q, 0, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

// It asked to hear of the next message, and was told of one, when it was taken away.
Test(queue_retention, that_is_taken_away_while_there_is_news_looks_no_more) {
    leat_queue *same;
    open_old(LEAT_CLOCK_JUMP, 1, &(leat_queue_options){ .retention_ms = SECOND });
    queues_send(q, "a");
    gives(1, leat_queue_receive(q, 0, &m, 1));
    queues_send(q, "b");
    ok(leat_queue_open(mq, "a",
                       &(leat_queue_options){ .flags = LEAT_ALTER, .retention_ms = LEAT_FOREVER },
                       &same));
    cr_assert_geq(leat_run_due(mq), 0);
    counts(q, 1, 0, 1, 0);
    ok(leat_queue_extend(q, &m, 5));
    cr_assert_geq(leat_run_due(mq), 0); // and ends
    ok(leat_close_all(mq, 0));
}
