/* SPDX-License-Identifier: MIT */
// The order in which a queue hands out: priorities, and every way to send that says them. Delays:
// test_queue_delay.c; groups: test_queue_groups.c. Time is the test's own.
#include "lib/order.h"

#include <stdio.h>
#include <stdlib.h>

Test(queue_order, nine_comes_first_and_within_a_priority_the_oldest) {
    open_memory();
    open_queue("jobs", NULL);
    send_at("plain", 0, 0);
    send_at("low", 1, 0);
    send_at("high", 9, 0);
    send_at("four", 4, 0);
    send_at("high too", 9, 0);
    send_at("five", 5, 0);
    send_at("behind", 0, 0); // behind all that say a priority
    counts(7, 0, 0, 0);
    static const char *const order[] = { "high", "high too", "five", "plain",
                                         "four", "behind",   "low" };
    for (size_t i = 0; i < 7; i++)
        get(&m, order[i]);
    nothing(q);
    counts(0, 0, 7, 0);
    ok(leat_clock_advance(mq, 31 * SECOND)); // all of them come back, each to its place
    leat_message all[7];
    gives(7, leat_queue_receive(q, 0, all, 7));
    for (size_t i = 0; i < 7; i++)
        is(all[i].value, order[i]);
    ok(leat_queue_nack(q, &all[3], 0, 0));
    ok(leat_queue_nack(q, &all[1], 0, 0));
    ok(leat_queue_extend(q, &all[6], 0));
    send_at("urgent", 9, 0);
    done("high too");
    done("urgent");
    done("plain");
    done("low");
    counts(0, 0, 4, 0);
    ok(leat_close_all(mq, 0));
}

// Priority orders what is in one partition; partitions take turns.
Test(queue_order, partitions_take_turns_whatever_is_in_them) {
    open_memory();
    open_queue("jobs", &(leat_queue_options){ .partitions = 3 });
    for (int i = 0; i < 30; i++)
        ok(leat_queue_send(q,
                           &(leat_record){ .value = LEAT_STR("v"),
                                           .to_partition = LEAT_PARTITION(i % 3),
                                           .priority = 9 - i % 3 * 4 },
                           NULL));
    for (int i = 0; i < 30; i++) {
        get(&m, "v");
        cr_assert_eq(m.partition, i % 3);
        cr_assert_eq(m.offset, i / 3);
    }
    nothing(q);
    ok(leat_close_all(mq, 0));
}

// Words are kept for segments that nothing else was handed out of yet, and found again.
Test(queue_order, holds_over_many_segments_and_an_open) {
    static char value[100];
    make_dir();
    leat_options o = manual();
    leat_topic *t;
    leat_producer *p;
    ok(leat_open(dir, &o, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
    ok(leat_producer_open(mq, NULL, &p));
    open_queue("jobs", &(leat_queue_options){ .topic = "t" });
    for (int i = 0; i < 1000; i++)
        ok(leat_send(
            p, t, &(leat_record){ .value = { value, sizeof value }, .priority = 9 - i % 4 }, NULL));
    for (int64_t i = 0; i < 1000; i++) { // of 9 all, then of 8, 7 and 6
        gives(1, leat_queue_receive(q, 0, &m, 1));
        cr_assert(m.offset == i % 250 * 4 + i / 250 && m.deliveries == 1);
        ok(leat_queue_ack(q, &m));
        if (i % 99 == 0) {
            ok(leat_close_all(mq, 0));
            ok(leat_open(dir, &o, &mq));
            open_queue("jobs", NULL);
            counts(999 - (uint64_t)i, 0, 0, 0);
        }
    }
    nothing(q);
    ok(leat_close_all(mq, 0));
    drop_dir();
}

// A record that cannot be read counts as a plain one: the others come first, then who comes to it
// is told, or it is left out.
Test(queue_order, a_damaged_record_hides_none_of_a_higher_priority) {
    static char value[100];
    memset(value, 'v', sizeof value);
    make_dir();
    leat_options o = manual();
    leat_topic *t;
    ok(leat_open(dir, &o, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
    leat_producer *p;
    ok(leat_producer_open(mq, NULL, &p));
    for (int i = 0; i < 400; i++) {
        (void)snprintf(value, sizeof value, "%08d", i);
        ok(leat_send(
            p, t, &(leat_record){ .value = { value, sizeof value }, .priority = i % 2 + 4 }, NULL));
    }
    ok(leat_close_all(mq, 0));
    char path[SCRATCH_PATH];
    scratch_join(path, dir, "%d/0/%020d.log", 1, 0);
    size_t size, at = 0;
    unsigned char *bytes = scratch_read(path, &size);
    while (memcmp(bytes + at, "00000010", 8) != 0)
        at++;
    free(bytes);
    scratch_poke(path, at, "x", 1);
    for (int skip = 0; skip < 2; skip++) {
        o.flags = skip ? LEAT_SKIP_ROT : 0;
        ok(leat_open(dir, &o, &mq));
        open_queue("jobs", &(leat_queue_options){ .topic = "t" });
        int got = 0, rc;
        while ((rc = leat_queue_receive(q, 0, &m, 1)) == 1) {
            cr_assert_eq(m.offset, got < 200 ? 2 * got + 1 : 2 * (got - 200) + (got < 205 ? 0 : 2));
            ok(leat_message_release(mq, &m));
            got++;
        }
        cr_assert_eq(rc, skip ? 0 : LEAT_ECORRUPT);
        cr_assert_eq(got, skip ? 399 : 205);
        ok(leat_close_all(mq, 0)); // and what was touched is looked at by the next open
    }
    drop_dir();
}

static leat_report told;
static int32_t told_priority;
static int64_t told_delay;
static char told_group[16];

static void hear(leat_producer *of, const leat_report *r, void *ctx) {
    (void)of;
    (void)ctx;
    told = *r;
    if (!r->record)
        return;
    told_priority = r->record->priority;
    told_delay = r->record->delay_ms;
    (void)snprintf(told_group, sizeof told_group, LEAT_FMT, LEAT_ARG(r->record->group));
}

static void send_by(int way, leat_producer *p, const leat_record *r, int64_t end) {
    leat_topic *t = leat_queue_topic(q);
    leat_future *f;
    leat_batch *b;
    switch (way) {
    case 0:
        ok(leat_queue_send(q, r, NULL));
        return;
    case 1:
        ok(leat_send(p, t, r, NULL));
        return;
    case 2:
        ok(leat_send_many(p, t, r, 1, NULL));
        return;
    case 3:
        ok(leat_send_if(p, t, 0, end, r, NULL));
        return;
    case 4:
        ok(leat_send_async(p, t, r, hear, NULL));
        ok(leat_flush(p, LEAT_FOREVER));
        cr_assert(told.status == LEAT_STORED && told_priority == r->priority &&
                  told_delay == r->delay_ms);
        cr_assert_str_eq(told_group, "g");
        return;
    case 5:
        ok(leat_send_future(p, t, r, &f));
        ok(leat_future_wait(f, LEAT_FOREVER, &told));
        hear(p, &told, NULL);
        cr_assert(told.status == LEAT_STORED && told_priority == r->priority &&
                  told_delay == r->delay_ms);
        ok(leat_future_release(f));
        return;
    default:
        ok(leat_batch_open(p, t, 0, &b));
        ok(leat_batch_append(b, r));
        ok(leat_batch_send(b, NULL, NULL));
        ok(leat_flush(p, LEAT_FOREVER));
    }
}

// Also to a topic that remembers dedup ids, where an asynchronous record is looked up later.
Test(queue_order, every_way_to_send_says_them) {
    leat_options o = manual();
    o.threads = LEAT_NO_THREADS;
    o.callbacks = LEAT_CALLBACKS_POLL;
    for (int way = 0; way < 14; way++) {
        leat_topic *t;
        leat_producer *p;
        ok(leat_open_memory(&o, &mq));
        ok(leat_topic_open(mq, "t", &(leat_topic_options){ .dedup_window_count = way < 7 ? 0 : 9 },
                           &t));
        ok(leat_producer_open(mq, NULL, &p));
        open_queue("jobs", &(leat_queue_options){ .topic = "t" });
        leat_record r = {
            .value = LEAT_STR("slow"), .priority = 9, .delay_ms = 5 * SECOND, .group = LEAT_STR("g")
        };
        if (way >= 7 && way != 13)
            r.dedup_id = leat_str("first");
        send_at("plain", 0, 0);
        send_by(way % 7, p, &r, 1);
        r.value = leat_str("quick");
        r.delay_ms = LEAT_ZERO;
        r.group = leat_str("g");
        if (way >= 7 && way != 13)
            r.dedup_id = leat_str("second");
        send_by(way % 7, p, &r, 2);
        get(&m, "plain"); // the quick one waits behind the slow one of its group
        nothing(q);
        wait_exactly(5 * SECOND);
        done("slow");
        done("quick");
        ok(leat_close_all(mq, 0));
    }
}

static const struct {
    leat_record r;
    int code;
} wrong[] = {
    { { .priority = -1 }, LEAT_EINVAL },
    { { .priority = 10 }, LEAT_EINVAL },
    { { .priority = INT32_MAX }, LEAT_EINVAL },
    { { .priority = INT32_MIN }, LEAT_EINVAL },
    { { .delay_ms = -1 }, LEAT_EINVAL },
    { { .delay_ms = -3 }, LEAT_EINVAL },
    { { .delay_ms = INT64_MIN }, LEAT_EINVAL },
    { { .delay_ms = INT64_MAX }, LEAT_EINVAL },
    { { .delay_ms = INT64_C(366) * DAY + 1 }, LEAT_EINVAL },
    { { .group = { "", 0 } }, LEAT_EINVAL },
    { { .group = { NULL, 1 } }, LEAT_EINVAL },
    { { .group = { "g", 256 } }, LEAT_ETOOBIG },
    { { .group = { "g", SIZE_MAX } }, LEAT_ETOOBIG },
};

Test(queue_order, wrong_values_are_refused_and_nothing_is_sent) {
    leat_queue *other;
    open_memory();
    open_queue("jobs", NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        leat_record r = wrong[i].r;
        r.value = leat_str("v");
        fails(wrong[i].code, leat_queue_send(q, &r, NULL));
    }
    counts(0, 0, 0, 0);
    static const int64_t delays[] = { -1, -3, INT64_MIN, INT64_MAX, INT64_C(366) * DAY + 1 };
    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++)
        fails_saying(
            LEAT_EINVAL, "delay_ms",
            leat_queue_open(mq, "other", &(leat_queue_options){ .delay_ms = delays[i] }, &other));
    leat_message late;
    send_at("v", 9, INT64_C(366) * DAY);
    nothing(q);
    ok(leat_clock_advance(mq, INT64_C(366) * DAY - 1));
    nothing(q);
    ok(leat_clock_advance(mq, 1));
    gives(1, leat_queue_receive(q, 0, &late, 1));
    ok(leat_queue_ack(q, &late));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED,
          leat_queue_send(q, &(leat_record){ .value = LEAT_STR("v"), .priority = 1 }, NULL));
    ok(leat_close_all(mq, 0));
}
