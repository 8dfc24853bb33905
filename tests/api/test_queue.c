/* SPDX-License-Identifier: MIT */
// Queues: who gets a message and when it comes back, what receipts and views are good for, how a
// message dies, and what is left of it all after an open. Time is the test's own.
#include "leat.h"
#include "leat_test.h"
#include "lib/place.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECOND = 1000, HOUR = 3600 * SECOND, REAL_MS = 20000 };

static leat *mq;
static leat_queue *q;
static leat_message m, n;

enum kind { MEMORY, MAPPED, PWRITE, KINDS };

static void open_store(enum kind kind, int32_t clock) {
    leat_options o = { .clock = clock,
                       .seed = 7,
                       .acks = LEAT_ACKS_LOG,
                       .threads = clock == LEAT_CLOCK_JUMP ? LEAT_NO_THREADS : 0,
                       .write = kind == MAPPED   ? LEAT_WRITE_MAPPED
                                : kind == PWRITE ? LEAT_WRITE_PWRITE
                                                 : 0 };
    if (kind == MEMORY)
        ok(leat_open_memory(&o, &mq));
    else
        ok(leat_open(dir, &o, &mq));
}

static void open_queue(const char *name, const leat_queue_options *o) {
    ok(leat_queue_open(mq, name, o, &q));
}

static void send(const char *text) {
    ok(leat_queue_send(q, &(leat_record){ .value = leat_str(text) }, NULL));
}

// take: the next message is this one, delivered so often.
#define take(queue, message, text, times)                                                          \
    do {                                                                                           \
        gives(1, leat_queue_receive((queue), 0, (message), 1));                                    \
        is((message)->value, text);                                                                \
        cr_assert_eq((message)->deliveries, (times));                                              \
    } while (0)
#define nothing(queue) gives(0, leat_queue_receive((queue), 0, &n, 1))

static void counts(uint64_t available, uint64_t delayed, uint64_t leased, uint64_t kept) {
    leat_queue_stats s;
    ok(leat_queue_get_stats(q, &s, sizeof s));
    cr_assert(s.available == available && s.delayed == delayed && s.leased == leased &&
                  s.kept == kept,
              "available %d delayed %d leased %d kept %d, not %d %d %d %d", (int)s.available,
              (int)s.delayed, (int)s.leased, (int)s.kept, (int)available, (int)delayed, (int)leased,
              (int)kept);
}

// ---- delivery

Test(queue, delivers_in_order_and_leases) {
    for (enum kind k = MEMORY; k < KINDS; k++) {
        make_dir();
        open_store(k, LEAT_CLOCK_MANUAL);
        open_queue("jobs", NULL);
        send("a");
        send("b");
        send("");
        counts(3, 0, 0, 0);
        leat_message three[5];
        gives(3, leat_queue_receive(q, 0, three, 5));
        is(three[0].value, "a");
        is(three[1].value, "b");
        is(three[2].value, "");
        cr_assert_str_eq(three[0].topic, "jobs");
        cr_assert_neq(three[0].receipt, three[1].receipt);
        nothing(q);
        counts(0, 0, 3, 0);
        for (int i = 0; i < 3; i++)
            ok(leat_queue_ack(q, &three[i]));
        counts(0, 0, 0, 0);
        ok(leat_clock_advance(mq, 31 * SECOND));
        nothing(q);
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue, comes_back_exactly_when_the_visibility_timeout_is_over) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND });
    send("a");
    send("b");
    take(q, &m, "a", 1);
    ok(leat_clock_advance(mq, 10 * SECOND - 1));
    counts(1, 0, 1, 0);
    ok(leat_clock_advance(mq, 1));
    counts(2, 0, 0, 0);
    take(q, &n, "a", 2); // at its old place, before b
    ok(leat_queue_ack(q, &n));
    ok(leat_message_release(mq, &m));
    take(q, &n, "b", 1);
    ok(leat_queue_ack(q, &n));
    ok(leat_close_all(mq, 0));
}

Test(queue, nack_gives_back_at_once_or_after_a_delay) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    open_queue("jobs", NULL);
    send("a");
    take(q, &m, "a", 1);
    ok(leat_queue_nack(q, &m, 0, 0));
    take(q, &m, "a", 2);
    ok(leat_queue_nack(q, &m, 5 * SECOND, 0));
    counts(0, 1, 0, 0);
    nothing(q);
    ok(leat_clock_advance(mq, 5 * SECOND - 1));
    nothing(q);
    ok(leat_clock_advance(mq, 1));
    take(q, &m, "a", 3);
    fails(LEAT_EINVAL, leat_queue_nack(q, &m, -1, 0));
    fails(LEAT_EINVAL, leat_queue_nack(q, &m, 367LL * 24 * HOUR, 0));
    fails(LEAT_EINVAL, leat_queue_nack(q, &m, 0, 2));
    ok(leat_queue_ack(q, &m)); // the lease stood
    ok(leat_close_all(mq, 0));
}

Test(queue, extend_counts_from_now) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND });
    send("a");
    take(q, &m, "a", 1);
    ok(leat_clock_advance(mq, 9 * SECOND));
    ok(leat_queue_extend(q, &m, 20 * SECOND));
    ok(leat_clock_advance(mq, 20 * SECOND - 1));
    nothing(q);
    ok(leat_clock_advance(mq, 1));
    ok(leat_queue_extend(q, &m, 5 * SECOND)); // it ran out, but nobody else got it
    nothing(q);
    ok(leat_queue_extend(q, &m, 0));
    take(q, &n, "a", 2);
    fails(LEAT_ESTALE, leat_queue_extend(q, &m, 1));
    fails(LEAT_EINVAL, leat_queue_extend(q, &n, -1));
    ok(leat_queue_ack(q, &n));
    ok(leat_message_release(mq, &m));
    ok(leat_close_all(mq, 0));
}

// ---- receipts and views

Test(queue, a_receipt_is_good_once_and_until_the_message_is_handed_out_again) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = SECOND });
    send("a");
    take(q, &m, "a", 1);
    leat_message copy = m;
    ok(leat_clock_advance(mq, SECOND));
    take(q, &n, "a", 2);
    fails(LEAT_ESTALE, leat_queue_ack(q, &m)); // somebody else has it now
    counts(0, 0, 1, 0);
    fails(LEAT_ESTALE, leat_message_release(mq, &copy)); // the ack has ended the view
    ok(leat_clock_advance(mq, SECOND));
    ok(leat_queue_ack(q, &n)); // ran out, not handed out again: accepted
    fails(LEAT_ESTALE, leat_queue_ack(q, &n));
    nothing(q);
    counts(0, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

Test(queue, forged_and_foreign_receipts_change_nothing) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_queue *other;
    ok(leat_queue_open(mq, "other", NULL, &other));
    open_queue("jobs", NULL);
    send("a");
    take(q, &m, "a", 1);
    leat_message forged = m;
    forged.view = 0;
    const uint64_t receipts[] = { 0, 1, UINT64_MAX, m.receipt ^ 1,
                                  m.receipt + ((uint64_t)1 << 40) };
    for (size_t i = 0; i < sizeof receipts / sizeof receipts[0]; i++) {
        forged.receipt = receipts[i];
        fails(LEAT_ESTALE, leat_queue_ack(q, &forged));
        fails(LEAT_ESTALE, leat_queue_nack(q, &forged, 0, 0));
        fails(LEAT_ESTALE, leat_queue_extend(q, &forged, 0));
    }
    forged.receipt = m.receipt;
    fails(LEAT_ESTALE, leat_queue_ack(other, &forged));
    counts(0, 0, 1, 0);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue, a_view_ends_once_and_its_lease_goes_on) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    open_queue("jobs", NULL);
    send("a");
    take(q, &m, "a", 1);
    leat_message copy = m, kept;
    ok(leat_message_hold(mq, &m, &kept));
    ok(leat_message_release(mq, &m));
    fails(LEAT_ESTALE, leat_message_release(mq, &copy));
    fails(LEAT_ESTALE, leat_message_hold(mq, &copy, &n));
    is(kept.value, "a");
    ok(leat_queue_close(q)); // a held message is the store's affair
    fails_saying(LEAT_EBUSY, "message", leat_close(mq, 0));
    open_queue("jobs", NULL);
    ok(leat_queue_ack(q, &copy)); // by receipt; the view it names has ended, no matter
    is(kept.value, "a");
    ok(leat_message_release(mq, &kept));
    ok(leat_close_all(mq, 0));
}

Test(queue, with_views_out_it_does_not_close_but_close_all_does) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    open_queue("jobs", NULL);
    leat_queue *again;
    ok(leat_queue_open(mq, "jobs", NULL, &again));
    cr_assert_eq(again, q);
    ok(leat_queue_close(again));
    send("a");
    send("b");
    leat_message two[2];
    gives(2, leat_queue_receive(q, 0, two, 2));
    fails_saying(LEAT_EBUSY, "2 messages", leat_queue_close(q));
    ok(leat_message_release(mq, &two[0]));
    ok(leat_message_release(mq, &two[1]));
    ok(leat_queue_close(q));
    open_queue("jobs", NULL);
    counts(0, 0, 2, 0); // the leases went on
    gives(0, leat_queue_receive(q, 0, &m, 1));
    ok(leat_clock_advance(mq, 30 * SECOND));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_close_all(mq, 0));
}

Test(queue, a_strict_store_names_what_is_leased) {
    ok(leat_test_open(&mq));
    open_queue("jobs", NULL);
    send("a");
    take(q, &m, "a", 1);
    fails_saying(LEAT_EBUSY, "held", leat_close_all(mq, 0));
    ok(leat_message_release(mq, &m));
    fails_saying(LEAT_EBUSY, "jobs", leat_close_all(mq, 0));
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

// ---- death

Test(queue, after_deliveries_max_tries_it_is_in_the_dead_letter_queue_with_its_origin) {
    for (enum kind k = MEMORY; k < KINDS; k++) {
        make_dir();
        open_store(k, LEAT_CLOCK_MANUAL);
        leat_queue *dead;
        open_queue("jobs", &(leat_queue_options){ .deliveries_max = 3,
                                                  .visibility_timeout_ms = SECOND,
                                                  .dead_letter = "jobs.dead" });
        ok(leat_queue_open(mq, "jobs.dead", &(leat_queue_options){ .flags = LEAT_MUST_EXIST },
                           &dead));
        leat_header own = { LEAT_STR("colour"), LEAT_STR("red") };
        int64_t wall;
        char sent[24];
        ok(leat_clock_now(mq, NULL, &wall));
        snprintf(sent, sizeof sent, "%lld", (long long)wall);
        ok(leat_queue_send(
            q,
            &(leat_record){
                .key = LEAT_STR("k"), .value = LEAT_STR("a"), .headers = &own, .header_count = 1 },
            NULL));
        take(q, &m, "a", 1);
        ok(leat_queue_nack(q, &m, 0, 0));
        take(q, &m, "a", 2);
        ok(leat_message_release(mq, &m));
        ok(leat_clock_advance(mq, SECOND));
        take(q, &m, "a", 3);
        nothing(dead);
        ok(leat_message_release(mq, &m));
        ok(leat_clock_advance(mq, SECOND)); // the third and last lease ends: moved at once
        nothing(q);
        counts(0, 0, 0, 0);
        take(dead, &m, "a", 1);
        is(m.key, "k");
        ok(leat_clock_now(mq, NULL, &wall));
        cr_assert_eq(m.timestamp_ms, wall); // of the move
        const char *expected[][2] = { { "colour", "red" },        { "leat.queue", "jobs" },
                                      { "leat.topic", "jobs" },   { "leat.partition", "0" },
                                      { "leat.offset", "0" },     { "leat.timestamp", sent },
                                      { "leat.deliveries", "3" }, { "leat.reason", "deliveries" } };
        cr_assert_eq(m.header_count, 8);
        for (size_t i = 0; i < 8; i++) {
            leat_header h;
            gives(1, leat_message_header(&m, i, &h));
            is(h.name, expected[i][0]);
            is(h.value, expected[i][1]);
        }
        ok(leat_queue_ack(dead, &m));
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue, a_dead_letter_that_dies_again_tells_of_its_last_move) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_queue *first, *second;
    ok(leat_queue_open(mq, "second", NULL, &second));
    ok(leat_queue_open(mq, "first",
                       &(leat_queue_options){ .deliveries_max = 1, .dead_letter = "second" },
                       &first));
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 1, .dead_letter = "first" });
    leat_header many[64];
    for (int i = 0; i < 64; i++)
        many[i] = (leat_header){ LEAT_STR("h"), LEAT_STR("v") };
    ok(leat_queue_send(
        q, &(leat_record){ .value = LEAT_STR("a"), .headers = many, .header_count = 64 }, NULL));
    take(q, &m, "a", 1);
    ok(leat_queue_nack(q, &m, 0, 0));
    take(first, &m, "a", 1);
    ok(leat_queue_nack(first, &m, 0, 0));
    take(second, &m, "a", 1);
    cr_assert_eq(m.header_count, 71);
    leat_header h;
    gives(1, leat_message_header(&m, 64, &h));
    is(h.value, "first");
    ok(leat_queue_ack(second, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue, without_a_dead_letter_queue_the_dead_stay_and_stay_dead) {
    for (enum kind k = MAPPED; k < KINDS; k++) {
        make_dir();
        open_store(k, LEAT_CLOCK_MANUAL);
        open_queue("jobs", &(leat_queue_options){ .deliveries_max = 1 });
        send("a");
        send("b");
        take(q, &m, "a", 1);
        ok(leat_queue_nack(q, &m, 0, 0));
        counts(1, 0, 0, 1);
        take(q, &m, "b", 1);
        ok(leat_queue_ack(q, &m));
        ok(leat_close_all(mq, 0));
        open_store(k, LEAT_CLOCK_MANUAL);
        open_queue("jobs", NULL);
        counts(0, 0, 0, 1);
        nothing(q);
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue, cycles_of_dead_letter_queues_are_refused) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_queue *x;
    fails(LEAT_EINVAL, leat_queue_open(mq, "a", &(leat_queue_options){ .dead_letter = "a" }, &x));
    ok(leat_queue_open(mq, "a", &(leat_queue_options){ .dead_letter = "b" }, &x));
    ok(leat_queue_open(mq, "b", &(leat_queue_options){ .dead_letter = "c", .flags = LEAT_ALTER },
                       &x));
    fails(LEAT_EINVAL,
          leat_queue_open(mq, "c", &(leat_queue_options){ .dead_letter = "a", .flags = LEAT_ALTER },
                          &x));
    ok(leat_close_all(mq, 0));
}

// ---- what an open finds

Test(queue, after_an_open_done_stays_done_and_the_rest_is_there_with_its_counts) {
    for (enum kind k = MAPPED; k < KINDS; k++) {
        make_dir();
        open_store(k, LEAT_CLOCK_MANUAL);
        open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = HOUR });
        for (int i = 0; i < 4; i++)
            send((const char *[]){ "done", "leased", "delayed", "untouched" }[i]);
        leat_message three[3];
        gives(3, leat_queue_receive(q, 0, three, 3));
        ok(leat_queue_ack(q, &three[0]));
        ok(leat_queue_nack(q, &three[2], 60 * SECOND, 0));
        leat_message old = three[1];
        ok(leat_close_all(mq, 0));
        open_store(k, LEAT_CLOCK_MANUAL);
        open_queue("jobs", NULL);
        counts(2, 1, 0, 0);
        old.view = 0;
        fails(LEAT_ESTALE, leat_queue_ack(q, &old)); // a receipt of an earlier run
        take(q, &m, "leased", 2);
        cr_assert_neq(m.receipt, old.receipt);
        ok(leat_queue_ack(q, &m));
        take(q, &m, "untouched", 1);
        ok(leat_queue_ack(q, &m));
        nothing(q);
        ok(leat_clock_advance(mq, 60 * SECOND + 10)); // delays are kept to 10 ms, never early
        take(q, &m, "delayed", 2);
        ok(leat_queue_ack(q, &m));
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue, a_message_that_had_its_last_try_is_moved_at_the_next_open) {
    make_dir();
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 1, .dead_letter = "dead" });
    send("a");
    take(q, &m, "a", 1);
    char copy[SCRATCH_PATH];
    scratch_join(copy, dir, "/../%s.copy", strrchr(dir, '/') + 1);
    scratch_copy(dir, copy); // what kill -9 would leave
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
    leat_options o = { .clock = LEAT_CLOCK_MANUAL };
    leat_queue *dead;
    ok(leat_open(copy, &o, &mq));
    open_queue("jobs", NULL);
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    nothing(q);
    take(dead, &m, "a", 1);
    ok(leat_queue_ack(dead, &m));
    ok(leat_close_all(mq, 0));
    scratch_remove(copy);
    drop_dir();
}

Test(queue, many_segments_many_rounds_nothing_lost_and_done_segments_go) {
    for (enum kind k = MEMORY; k < KINDS; k++) {
        make_dir();
        open_store(k, LEAT_CLOCK_MANUAL);
        leat_topic *t;
        ok(leat_topic_open(mq, "lines", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
        open_queue("jobs", &(leat_queue_options){ .topic = "lines" });
        char text[64];
        for (int i = 0; i < 3000; i++) {
            (void)snprintf(text, sizeof text, "message number %d", i);
            send(text);
        }
        int done = 0;
        leat_message some[64];
        for (int round = 0; done < 3000; round++) {
            int got = leat_queue_receive(q, 0, some, 64);
            cr_assert_gt(got, 0);
            for (int i = 0; i < got; i++) {
                bool again = some[i].deliveries == 1 && some[i].offset % 7 == 0;
                ok(again ? leat_queue_nack(q, &some[i], 0, 0) : leat_queue_ack(q, &some[i]));
                done += !again;
            }
            if (round == 20 && k != MEMORY) {
                ok(leat_close_all(mq, 0));
                open_store(k, LEAT_CLOCK_MANUAL);
                open_queue("jobs", NULL);
            }
        }
        nothing(q);
        leat_range r;
        ok(leat_topic_range(leat_queue_topic(q), 0, &r));
        cr_assert(r.begin == 0 && r.end == 3000, "a topic that the queue does not own keeps all");
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue, its_own_topic_gives_back_what_is_done) {
    static char big[1 << 20];
    for (enum kind k = MEMORY; k <= MAPPED; k++) {
        make_dir();
        leat_options o = { .clock = LEAT_CLOCK_MANUAL,
                           .acks = LEAT_ACKS_LOG,
                           .memory_max_bytes = 200 << 20 };
        ok(k == MEMORY ? leat_open_memory(&o, &mq) : leat_open(dir, &o, &mq));
        open_queue("jobs", NULL);
        int sends = k == MEMORY ? 400 : 150; // twice what the memory store may hold
        for (int i = 0; i < sends; i++) {
            ok(leat_queue_send(q, &(leat_record){ .value = { big, sizeof big } }, NULL));
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(leat_queue_ack(q, &m));
        }
        leat_range r;
        ok(leat_topic_range(leat_queue_topic(q), 0, &r));
        cr_assert(r.begin >= sends - 128 && r.begin > 0 && r.end == sends, "begin %d",
                  (int)r.begin);
        if (k == MAPPED) {
            ok(leat_close_all(mq, 0));
            ok(leat_open(dir, &o, &mq));
            open_queue("jobs", NULL);
            leat_range again;
            ok(leat_topic_range(leat_queue_topic(q), 0, &again));
            cr_assert(again.begin == r.begin && again.end == sends);
            send("after");
            take(q, &m, "after", 1);
            cr_assert_eq(m.offset, sends);
            ok(leat_queue_ack(q, &m));
        }
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

// ---- over a topic

Test(queue, stands_over_a_topic_beside_its_groups_and_other_queues) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_topic *t;
    leat_producer *p;
    leat_consumer *c;
    leat_queue *audit;
    const leat_message *view;
    ok(leat_topic_open(mq, "orders", &(leat_topic_options){ .partitions = 3 }, &t));
    ok(leat_producer_open(mq, NULL, &p));
    char text[16];
    for (int i = 0; i < 30; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        ok(leat_send(
            p, t, &(leat_record){ .value = leat_str(text), .to_partition = LEAT_PARTITION(i % 3) },
            NULL));
    }
    open_queue("work", &(leat_queue_options){ .topic = "orders" }); // sees what was sent before
    ok(leat_queue_open(mq, "audit", &(leat_queue_options){ .topic = "orders" }, &audit));
    cr_assert_eq(leat_queue_topic(q), t);
    fails(LEAT_EBUSY, leat_topic_delete(mq, "orders"));
    counts(30, 0, 0, 0);
    int seen[3] = { 0 };
    for (int i = 0; i < 30; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        cr_assert_eq(m.offset, seen[m.partition]++); // in order within its partition
        ok(leat_queue_ack(q, &m));
    }
    nothing(q);
    leat_message all[40];
    gives(30, leat_queue_receive(audit, 0, all, 40));
    for (int i = 0; i < 30; i++)
        ok(leat_queue_ack(audit, &all[i]));
    ok(leat_consumer_open(mq, "group", NULL, &c));
    ok(leat_consumer_subscribe(c, "orders"));
    gives(30, leat_poll(c, 0, &view));
    ok(leat_close_all(mq, 0));
}

Test(queue, names_are_one_space) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_topic *t;
    leat_queue *x;
    ok(leat_topic_open(mq, "plain", NULL, &t));
    fails(LEAT_EEXIST, leat_queue_open(mq, "plain", NULL, &x));
    fails(LEAT_EEXIST, leat_queue_open(mq, "plain", &(leat_queue_options){ .topic = "plain" }, &x));
    fails(LEAT_ENOENT, leat_queue_open(mq, "over", &(leat_queue_options){ .topic = "none" }, &x));
    ok(leat_queue_open(mq, "over", &(leat_queue_options){ .topic = "plain" }, &x));
    fails(LEAT_EEXIST, leat_topic_open(mq, "over", NULL, &t));
    open_queue("own", NULL);
    ok(leat_topic_open(mq, "own", NULL, &t)); // gives the queue's
    cr_assert_eq(t, leat_queue_topic(q));
    fails(LEAT_EBUSY, leat_topic_delete(mq, "own"));
    ok(leat_close_all(mq, 0));
}

Test(queue, settings_of_what_exists_must_match_or_be_altered) {
    make_dir();
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 3,
                                              .visibility_timeout_ms = SECOND,
                                              .dead_letter = "d" });
    leat_queue *x;
    fails_saying(LEAT_EEXIST, "deliveries_max",
                 leat_queue_open(mq, "jobs", &(leat_queue_options){ .deliveries_max = 4 }, &x));
    fails_saying(
        LEAT_EEXIST, "visibility_timeout_ms",
        leat_queue_open(mq, "jobs", &(leat_queue_options){ .visibility_timeout_ms = 5 }, &x));
    fails_saying(LEAT_EEXIST, "dead_letter",
                 leat_queue_open(mq, "jobs", &(leat_queue_options){ .dead_letter = "e" }, &x));
    fails_saying(LEAT_EEXIST, "partitions",
                 leat_queue_open(mq, "jobs", &(leat_queue_options){ .partitions = 2 }, &x));
    fails_saying(LEAT_EEXIST, "topic",
                 leat_queue_open(mq, "jobs", &(leat_queue_options){ .topic = "d" }, &x));
    ok(leat_queue_open(mq, "jobs", &(leat_queue_options){ .deliveries_max = 3 }, &x));
    ok(leat_queue_open(mq, "jobs",
                       &(leat_queue_options){ .deliveries_max = 4, .flags = LEAT_ALTER }, &x));
    ok(leat_close_all(mq, 0));
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 4,
                                              .visibility_timeout_ms = SECOND,
                                              .dead_letter = "d" });
    fails(LEAT_ENOENT,
          leat_queue_open(mq, "none", &(leat_queue_options){ .flags = LEAT_MUST_EXIST }, &x));
    ok(leat_close_all(mq, 0));
    drop_dir();
}

// ---- waiting

struct waiting {
    pthread_t thread;
    int rc;
    leat_message m;
};

static void *wait_for_one(void *arg) {
    struct waiting *w = arg;
    w->rc = leat_queue_receive(q, 60 * SECOND, &w->m, 1);
    return NULL;
}

static void begin_waiting(struct waiting *w, int blocked) {
    cr_assert_eq(pthread_create(&w->thread, NULL, wait_for_one, w), 0);
    ok(leat_clock_wait_blocked(mq, blocked, REAL_MS));
}

static void ends_with(struct waiting *w, int rc) {
    cr_assert_eq(pthread_join(w->thread, NULL), 0);
    cr_assert_eq(w->rc, rc, "receive is %d, not %d", w->rc, rc);
}

Test(queue, a_blocked_receive_wakes_on_send_nack_lease_end_delay_end_and_shutdown) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND });
    struct waiting w;
    begin_waiting(&w, 1);
    send("a");
    ends_with(&w, 1);
    m = w.m;
    begin_waiting(&w, 1);
    ok(leat_queue_nack(q, &m, 0, 0));
    ends_with(&w, 1);
    ok(leat_message_release(mq, &w.m));
    begin_waiting(&w, 1);
    ok(leat_clock_advance(mq, 10 * SECOND));
    ends_with(&w, 1);
    ok(leat_queue_nack(q, &w.m, 7 * SECOND, 0));
    begin_waiting(&w, 1);
    ok(leat_clock_advance(mq, 7 * SECOND));
    ends_with(&w, 1);
    ok(leat_queue_ack(q, &w.m));
    begin_waiting(&w, 1);
    fails(LEAT_EBUSY, leat_queue_close(q));
    ok(leat_clock_advance(mq, 60 * SECOND));
    ends_with(&w, 0);
    begin_waiting(&w, 1);
    ok(leat_shutdown(mq));
    ends_with(&w, LEAT_ECLOSED);
    fails(LEAT_ECLOSED, leat_queue_receive(q, 0, &m, 1));
    ok(leat_close_all(mq, 0));
}

Test(queue, blocked_receives_are_served_in_order_of_arrival) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    open_queue("jobs", NULL);
    struct waiting w[4];
    for (int i = 0; i < 4; i++)
        begin_waiting(&w[i], i + 1);
    for (int i = 0; i < 4; i++) {
        char text[2] = { (char)('a' + i), 0 };
        send(text);
        ends_with(&w[i], 1);
        is(w[i].m.value, text);
        ok(leat_queue_ack(q, &w[i].m));
    }
    ok(leat_close_all(mq, 0));
}

Test(queue, several_sends_at_once_wake_several) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    open_queue("jobs", NULL);
    struct waiting w[3];
    for (int i = 0; i < 3; i++)
        begin_waiting(&w[i], i + 1);
    for (int i = 0; i < 3; i++)
        send("x");
    for (int i = 0; i < 3; i++) {
        ends_with(&w[i], 1);
        ok(leat_queue_ack(q, &w[i].m));
    }
    ok(leat_close_all(mq, 0));
}

Test(queue, on_a_jumping_clock_waiting_moves_time) {
    ok(leat_test_open(&mq));
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = 12 * HOUR });
    gives(0, leat_queue_receive(q, HOUR, &m, 1));
    int64_t now;
    ok(leat_clock_now(mq, &now, NULL));
    cr_assert_eq(now, HOUR);
    fails(LEAT_EDEADLK, leat_queue_receive(q, LEAT_FOREVER, &m, 1));
    send("a");
    gives(1, leat_queue_receive(q, LEAT_FOREVER, &m, 1));
    ok(leat_message_release(mq, &m));
    gives(1, leat_queue_receive(q, LEAT_FOREVER, &m, 1));
    ok(leat_clock_now(mq, &now, NULL));
    cr_assert_eq(now, 13 * HOUR);
    cr_assert_eq(m.deliveries, 2);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

// ---- limits and wrong arguments

Test(queue, in_flight_is_bounded_and_says_so) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    open_queue("jobs", &(leat_queue_options){ .in_flight_max = 2 });
    for (int i = 0; i < 3; i++)
        send("x");
    leat_message three[3];
    gives(2, leat_queue_receive(q, 0, three, 3));
    fails_saying(LEAT_EFULL, "in_flight_max", leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_ack(q, &three[0]));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_close_all(mq, 0));
}

Test(queue, wrong_arguments_are_named_and_harmless) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_queue *x = (leat_queue *)&m;
    fails(LEAT_EINVAL, leat_queue_open(mq, NULL, NULL, &x));
    cr_assert_null(x);
    fails(LEAT_EINVAL, leat_queue_open(mq, "", NULL, &x));
    fails(LEAT_EINVAL, leat_queue_open(mq, "../x", NULL, &x));
    fails(LEAT_EINVAL, leat_queue_open(mq, "jobs", NULL, NULL));
    fails(LEAT_EINVAL, leat_queue_open(NULL, "jobs", NULL, &x));
    const leat_queue_options bad[] = {
        { .flags = 1u << 31 },
        { .acks = 4 },
        { .acks = 9 },
        { .deliveries_max = -2 },
        { .deliveries_max = 4096 },
        { .partitions = -1 },
        { .partitions = 1025 },
        { .visibility_timeout_ms = -1 },
        { .in_flight_max = -1 },
        { .in_flight_max = 1 << 24 },
        { .topic = "a b" },
        { .dead_letter = "?" },
        { .reserved = { 0, 1 } },
        { .visibility_timeout_ms = 367LL * 24 * HOUR },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        fails(LEAT_EINVAL, leat_queue_open(mq, "jobs", &bad[i], &x));
    fails(LEAT_ENOENT,
          leat_queue_open(mq, "jobs", &(leat_queue_options){ .flags = LEAT_MUST_EXIST }, &x));
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 4095,
                                              .in_flight_max = (1 << 24) - 1,
                                              .partitions = 1024 });
    fails(LEAT_EINVAL, leat_queue_receive(q, 0, NULL, 1));
    fails(LEAT_EINVAL, leat_queue_receive(q, 0, &m, 0));
    fails(LEAT_EINVAL, leat_queue_receive(q, -7, &m, 1));
    fails(LEAT_EINVAL, leat_queue_receive(NULL, 0, &m, 1));
    fails(LEAT_EINVAL, leat_queue_send(q, NULL, NULL));
    fails(LEAT_EINVAL, leat_queue_send(NULL, &(leat_record){ .value = LEAT_STR("a") }, NULL));
    fails(LEAT_EINVAL, leat_queue_ack(q, NULL));
    fails(LEAT_EINVAL, leat_queue_ack(NULL, &m));
    fails(LEAT_EINVAL, leat_queue_nack(q, NULL, 0, 0));
    fails(LEAT_EINVAL, leat_queue_extend(q, NULL, 0));
    fails(LEAT_EINVAL, leat_queue_close(NULL));
    leat_queue_stats s;
    fails(LEAT_EINVAL, leat_queue_get_stats(q, NULL, sizeof s));
    fails(LEAT_EINVAL, leat_queue_get_stats(q, &s, 1));
    cr_assert_null(leat_queue_topic(NULL));
    ok(leat_close_all(mq, 0));
}

Test(queue, a_topic_bears_64_queues) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_topic *t;
    leat_queue *x;
    ok(leat_topic_open(mq, "t", NULL, &t));
    char name[16];
    for (int i = 0; i < 64; i++) {
        (void)snprintf(name, sizeof name, "q%d", i);
        ok(leat_queue_open(mq, name, &(leat_queue_options){ .topic = "t" }, &x));
    }
    fails(LEAT_EFULL, leat_queue_open(mq, "q64", &(leat_queue_options){ .topic = "t" }, &x));
    ok(leat_close_all(mq, 0));
}

Test(queue, a_forked_child_may_close_a_store_with_leases) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    open_queue("jobs", NULL);
    send("a");
    take(q, &m, "a", 1);
    pid_t child = fork();
    if (child == 0) {
        bool well = leat_queue_receive(q, 0, &n, 1) == LEAT_EFORK && leat_close_all(mq, 0) == 0;
        _exit(well ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %d", status);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}
