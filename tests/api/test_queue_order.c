/* SPDX-License-Identifier: MIT */
// The order in which a queue hands out: priorities, delays of messages and of the queue, and what
// is left of both after an open and a crash. Groups: test_queue_groups.c. Time is the test's own.
#include "leat.h"
#include "leat_test.h"
#include "lib/place.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { SECOND = 1000, DAY = 86400 * SECOND, REAL_MS = 20000 };
static const int64_t START = INT64_C(1700000000000);

static leat *mq;
static leat_queue *q;
static leat_message m, n;

static leat_options manual(void) {
    return (leat_options){
        .clock = LEAT_CLOCK_MANUAL, .seed = 7, .start_ms = START, .acks = LEAT_ACKS_LOG
    };
}

static void open_memory(void) {
    leat_options o = manual();
    o.flags = LEAT_CRASHABLE;
    ok(leat_open_memory(&o, &mq));
}

static void open_queue(const leat_queue_options *o) {
    ok(leat_queue_open(mq, "jobs", o, &q));
}

static void send(const char *text, int32_t priority, int64_t delay_ms) {
    ok(leat_queue_send(
        q, &(leat_record){ .value = leat_str(text), .priority = priority, .delay_ms = delay_ms },
        NULL));
}

#define take(text)                                                                                 \
    do {                                                                                           \
        gives(1, leat_queue_receive(q, 0, &m, 1));                                                 \
        is(m.value, text);                                                                         \
    } while (0)
#define done(text)                                                                                 \
    do {                                                                                           \
        take(text);                                                                                \
        ok(leat_queue_ack(q, &m));                                                                 \
    } while (0)
#define nothing() gives(0, leat_queue_receive(q, 0, &n, 1))

static void counts(uint64_t available, uint64_t delayed, uint64_t leased) {
    leat_queue_stats s;
    ok(leat_queue_get_stats(q, &s, sizeof s));
    cr_assert(s.available == available && s.delayed == delayed && s.leased == leased,
              "available %d delayed %d leased %d, not %d %d %d", (int)s.available, (int)s.delayed,
              (int)s.leased, (int)available, (int)delayed, (int)leased);
}

static void wait_exactly(int64_t ms) {
    ok(leat_clock_advance(mq, ms - 1));
    nothing();
    ok(leat_clock_advance(mq, 1));
}

// ---- priority

Test(queue_order, nine_comes_first_and_within_a_priority_the_oldest) {
    open_memory();
    open_queue(NULL);
    send("plain", 0, 0);
    send("low", 1, 0);
    send("high", 9, 0);
    send("four", 4, 0);
    send("high too", 9, 0);
    send("five", 5, 0);
    send("behind", 0, 0); // behind all that say a priority
    counts(7, 0, 0);
    static const char *const order[] = { "high", "high too", "five", "plain",
                                         "four", "behind",   "low" };
    for (size_t i = 0; i < 7; i++)
        take(order[i]);
    nothing();
    counts(0, 0, 7);
    ok(leat_clock_advance(mq, 31 * SECOND)); // all of them come back, each to its place
    leat_message all[7];
    gives(7, leat_queue_receive(q, 0, all, 7));
    for (size_t i = 0; i < 7; i++)
        is(all[i].value, order[i]);
    ok(leat_queue_nack(q, &all[3], 0, 0));
    ok(leat_queue_nack(q, &all[1], 0, 0));
    ok(leat_queue_extend(q, &all[6], 0));
    send("urgent", 9, 0);
    done("high too");
    done("urgent");
    done("plain");
    done("low");
    counts(0, 0, 4);
    ok(leat_close_all(mq, 0));
}

// Priority orders what is in one partition; partitions take turns.
Test(queue_order, partitions_take_turns_whatever_is_in_them) {
    open_memory();
    open_queue(&(leat_queue_options){ .partitions = 3 });
    for (int i = 0; i < 30; i++)
        ok(leat_queue_send(q,
                           &(leat_record){ .value = LEAT_STR("v"),
                                           .to_partition = LEAT_PARTITION(i % 3),
                                           .priority = 9 - i % 3 * 4 },
                           NULL));
    for (int i = 0; i < 30; i++) {
        take("v");
        cr_assert_eq(m.partition, i % 3);
        cr_assert_eq(m.offset, i / 3);
    }
    nothing();
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
    open_queue(&(leat_queue_options){ .topic = "t" });
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
            open_queue(NULL);
            counts(999 - (uint64_t)i, 0, 0);
        }
    }
    nothing();
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
        open_queue(&(leat_queue_options){ .topic = "t" });
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
        open_queue(&(leat_queue_options){ .topic = "t" });
        leat_record r = {
            .value = LEAT_STR("slow"), .priority = 9, .delay_ms = 5 * SECOND, .group = LEAT_STR("g")
        };
        if (way >= 7 && way != 13)
            r.dedup_id = leat_str("first");
        send("plain", 0, 0);
        send_by(way % 7, p, &r, 1);
        r.value = leat_str("quick");
        r.delay_ms = LEAT_ZERO;
        r.group = leat_str("g");
        if (way >= 7 && way != 13)
            r.dedup_id = leat_str("second");
        send_by(way % 7, p, &r, 2);
        take("plain"); // the quick one waits behind the slow one of its group
        nothing();
        wait_exactly(5 * SECOND);
        done("slow");
        done("quick");
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_order, a_delay_counts_from_an_asynchronous_send_not_from_its_append) {
    for (int dedup = 0; dedup < 2; dedup++) {
        leat_options o = manual();
        leat_topic *t;
        leat_producer *p;
        o.threads = LEAT_NO_THREADS;
        ok(leat_open_memory(&o, &mq));
        ok(leat_topic_open(mq, "t", &(leat_topic_options){ .dedup_window_count = dedup }, &t));
        ok(leat_producer_open(mq, &(leat_producer_options){ .linger_ms = 2 * SECOND }, &p));
        open_queue(&(leat_queue_options){ .topic = "t" });
        leat_record r = { .value = LEAT_STR("v"), .delay_ms = 5 * SECOND };
        if (dedup)
            r.dedup_id = leat_str("id");
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0)); // and again, then
        ok(leat_send_async(p, t, &r, NULL, NULL));
        ok(leat_clock_advance(mq, 3 * SECOND));
        (void)leat_run_due(mq);
        ok(leat_flush(p, LEAT_FOREVER));
        counts(0, 1, 0);
        wait_exactly(2 * SECOND);
        done("v");
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
    open_queue(NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        leat_record r = wrong[i].r;
        r.value = leat_str("v");
        fails(wrong[i].code, leat_queue_send(q, &r, NULL));
    }
    counts(0, 0, 0);
    static const int64_t delays[] = { -1, -3, INT64_MIN, INT64_MAX, INT64_C(366) * DAY + 1 };
    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++)
        fails_saying(
            LEAT_EINVAL, "delay_ms",
            leat_queue_open(mq, "other", &(leat_queue_options){ .delay_ms = delays[i] }, &other));
    leat_message late;
    send("v", 9, INT64_C(366) * DAY);
    nothing();
    ok(leat_clock_advance(mq, INT64_C(366) * DAY - 1));
    nothing();
    ok(leat_clock_advance(mq, 1));
    gives(1, leat_queue_receive(q, 0, &late, 1));
    ok(leat_queue_ack(q, &late));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED,
          leat_queue_send(q, &(leat_record){ .value = LEAT_STR("v"), .priority = 1 }, NULL));
    ok(leat_close_all(mq, 0));
}

// ---- delay

Test(queue_order, a_delay_counts_from_the_send_and_is_never_early) {
    open_memory();
    open_queue(NULL);
    send("ten", 0, 10 * SECOND);
    ok(leat_clock_advance(mq, 4 * SECOND)); // nobody looks meanwhile
    counts(0, 1, 0);
    send("five", 0, 5 * SECOND);
    send("now", 0, LEAT_ZERO);
    send("plain", 0, 0);
    counts(2, 2, 0);
    done("now");
    done("plain");
    wait_exactly(5 * SECOND);
    counts(1, 1, 0);
    take("five");
    wait_exactly(1 * SECOND);
    done("ten");
    ok(leat_clock_advance(mq, 30 * SECOND)); // the lease of five ends: no delay a second time
    take("five");
    cr_assert_eq(m.deliveries, 2);
    ok(leat_queue_ack(q, &m));
    counts(0, 0, 0);
    ok(leat_close_all(mq, 0));
}

Test(queue_order, a_delayed_one_of_high_priority_hides_nothing) {
    open_memory();
    open_queue(NULL);
    send("later", 9, SECOND);
    send("low", 1, 0);
    take("low");
    ok(leat_clock_advance(mq, SECOND));
    ok(leat_queue_nack(q, &m, 0, 0));
    done("later");
    done("low");
    ok(leat_close_all(mq, 0));
}

Test(queue_order, a_queues_delay_counts_from_the_timestamp) {
    open_memory();
    open_queue(&(leat_queue_options){ .delay_ms = 10 * SECOND });
    for (int i = 0; i < 5; i++) {
        send("each second one", 0, 0);
        ok(leat_clock_advance(mq, SECOND));
    }
    counts(0, 5, 0);
    nothing();
    int64_t in_ms;
    ok(leat_next_due(mq, &in_ms));
    cr_assert_eq(in_ms, 5 * SECOND);
    send("at once", 0, LEAT_ZERO); // what is before it is looked at now, and delayed one by one
    counts(1, 5, 0);
    done("at once");
    send("behind", 0, 0);
    send("its own", 0, 2 * SECOND);
    send("urgent", 9, 0); // the queue's delay too
    ok(leat_clock_advance(mq, 2 * SECOND));
    done("its own");
    wait_exactly(3 * SECOND);
    counts(1, 6, 0);
    done("each second one");
    ok(leat_clock_advance(mq, 4 * SECOND));
    counts(4, 2, 0);
    for (int i = 0; i < 4; i++)
        done("each second one");
    wait_exactly(SECOND);
    done("urgent");
    done("behind");
    static const int64_t old = START - 3600 * SECOND, future = START + 3600 * SECOND;
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("old"), .timestamp_ms = old }, NULL));
    done("old");
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x"), .timestamp_ms = future }, NULL));
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("old"), .timestamp_ms = old }, NULL));
    done("old"); // one of the future is no stopper
    wait_exactly(10 * SECOND);
    done("x");
    counts(0, 0, 0);
    ok(leat_close_all(mq, 0));
}

Test(queue_order, a_long_tail_that_is_delayed_is_counted_exactly) {
    open_memory();
    open_queue(&(leat_queue_options){ .delay_ms = 100 * SECOND, .in_flight_max = 100 });
    for (int i = 0; i < 2000; i++) {
        send("v", 0, 0);
        ok(leat_clock_advance(mq, 10));
    }
    ok(leat_clock_advance(mq, 100 * SECOND - 20 * SECOND));
    for (uint64_t i = 1; i <= 2000; i += 111) {
        counts(i, 2000 - i, 0);
        ok(leat_clock_advance(mq, 1110));
    }
    ok(leat_close_all(mq, 0));
}

Test(queue_order, the_queues_delay_is_stored_compared_and_altered) {
    make_dir();
    leat_options o = manual();
    ok(leat_open(dir, &o, &mq));
    open_queue(&(leat_queue_options){ .delay_ms = 10 * SECOND });
    ok(leat_queue_close(q));
    ok(leat_close(mq, 0));
    ok(leat_open(dir, &o, &mq));
    open_queue(NULL); // as it is
    ok(leat_queue_close(q));
    open_queue(&(leat_queue_options){ .delay_ms = 10 * SECOND });
    static const int64_t others[] = { 1, LEAT_ZERO };
    for (size_t i = 0; i < 2; i++)
        fails_saying(
            LEAT_EEXIST, "delay_ms",
            leat_queue_open(mq, "jobs", &(leat_queue_options){ .delay_ms = others[i] }, &q));
    open_queue(NULL);
    send("a", 0, 0);
    send("b", 9, 0);
    counts(0, 2, 0); // both were looked at, and have their times
    send("c", 0, 0);
    ok(leat_queue_close(q));
    open_queue(&(leat_queue_options){ .flags = LEAT_ALTER, .delay_ms = 1 });
    ok(leat_clock_advance(mq, 1));
    done("c"); // was not: it goes by the new one
    ok(leat_queue_close(q));
    open_queue(&(leat_queue_options){ .flags = LEAT_ALTER, .delay_ms = LEAT_ZERO });
    send("d", 0, 0);
    done("d");
    nothing();
    ok(leat_close_all(mq, 0));
    ok(leat_open(dir, &o, &mq));
    open_queue(&(leat_queue_options){ .delay_ms = LEAT_ZERO });
    done("b"); // the queue has no delay now
    done("a");
    ok(leat_close_all(mq, 0));
    drop_dir();
}

// ---- blocked receives

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

Test(queue_order, a_blocked_receive_wakes_when_a_delay_ends) {
    for (int by = 0; by < 3; by++) { // the record's, the queue's, the queue's after an alteration
        open_memory();
        open_queue(&(leat_queue_options){ .delay_ms = by == 0 ? 0 : by == 1 ? 5 * SECOND : DAY });
        struct caller c[2];
        for (int i = 0; i < 2; i++) {
            cr_assert_eq(pthread_create(&c[i].thread, NULL, receive_one, &c[i]), 0);
            ok(leat_clock_wait_blocked(mq, i + 1, REAL_MS));
        }
        send("a", 0, by == 0 ? 5 * SECOND : 0);
        send("b", 0, by == 0 ? 5 * SECOND : 0);
        ok(leat_clock_wait_blocked(mq, 2, REAL_MS));
        ok(leat_clock_advance(mq, 5 * SECOND - 1));
        ok(leat_clock_wait_blocked(mq, 2, REAL_MS));
        if (by == 2)
            open_queue(&(leat_queue_options){ .flags = LEAT_ALTER, .delay_ms = 5 * SECOND - 1 });
        else
            ok(leat_clock_advance(mq, 1));
        for (int i = 0; i < 2; i++) {
            cr_assert_eq(pthread_join(c[i].thread, NULL), 0);
            cr_assert_eq(c[i].rc, 1);
            is(c[i].m.value, i ? "b" : "a");
            ok(leat_queue_ack(q, &c[i].m));
        }
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_order, a_jumping_clock_jumps_to_the_end_of_a_delay) {
    leat_options o = { .clock = LEAT_CLOCK_JUMP, .threads = LEAT_NO_THREADS, .seed = 1 };
    int64_t now;
    ok(leat_open_memory(&o, &mq));
    open_queue(&(leat_queue_options){ .delay_ms = 7 * SECOND });
    send("own", 0, 3 * SECOND);
    gives(0, leat_queue_receive(q, 2 * SECOND, &m, 1));
    gives(1, leat_queue_receive(q, LEAT_FOREVER, &m, 1));
    ok(leat_clock_now(mq, &now, NULL));
    cr_assert_eq(now, 3 * SECOND);
    ok(leat_queue_ack(q, &m));
    send("the queue's", 0, 0);
    gives(1, leat_queue_receive(q, DAY, &m, 1));
    ok(leat_clock_now(mq, &now, NULL));
    cr_assert_eq(now, 10 * SECOND);
    ok(leat_queue_ack(q, &m));
    fails(LEAT_EDEADLK, leat_queue_receive(q, LEAT_FOREVER, &m, 1));
    ok(leat_close_all(mq, 0));
}

// ---- after an open

enum how { CLOSE, KILL, POWER, HOWS };

static void again(enum how how) {
    leat *next = NULL;
    if (how == POWER)
        ok(leat_sync(mq));
    ok(leat_crash(mq, how == POWER ? LEAT_POWER_CUT : LEAT_KILL, &next));
    ok(leat_close_all(mq, 0));
    mq = next;
    open_queue(NULL);
}

// On disk, because a store in memory is gone when it is closed.
static void close_and_open(const leat_options *o) {
    ok(leat_close_all(mq, 0));
    ok(leat_open(dir, o, &mq));
    open_queue(NULL);
}

Test(queue_order, each_state_comes_back_in_its_order) {
    for (enum how how = CLOSE; how < HOWS; how++) {
        make_dir();
        leat_options o = manual();
        if (how == CLOSE)
            ok(leat_open(dir, &o, &mq));
        else
            open_memory();
        open_queue(&(leat_queue_options){ .settle_acks = how == POWER ? LEAT_ACKS_DISK : 0 });
        send("available", 2, 0);
        send("delayed", 9, 100 * SECOND);
        send("leased", 8, 0);
        send("given back", 7, 0);
        send("done", 6, 0);
        send("plain", 0, 0);
        send("more delayed", 0, 200 * SECOND);
        send("at once", 5, LEAT_ZERO);
        take("leased");
        take("given back");
        ok(leat_queue_nack(q, &m, 50 * SECOND, 0));
        done("done");
        counts(3, 3, 1);
        ok(leat_clock_advance(mq, 10 * SECOND));
        o.start_ms = START + 10 * SECOND;
        if (how == CLOSE)
            close_and_open(&o);
        else
            again(how);
        counts(4, 3, 0);
        take("leased");
        cr_assert_eq(m.deliveries, 2);
        ok(leat_queue_ack(q, &m));
        done("at once");
        done("plain");
        done("available");
        wait_exactly(40 * SECOND);
        take("given back");
        cr_assert_eq(m.deliveries, 2);
        ok(leat_queue_ack(q, &m));
        wait_exactly(50 * SECOND);
        done("delayed");
        wait_exactly(100 * SECOND);
        done("more delayed");
        counts(0, 0, 0);
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue_order, the_queues_delay_goes_on_after_an_open) {
    for (enum how how = KILL; how < HOWS; how++) {
        open_memory();
        open_queue(&(leat_queue_options){ .delay_ms = 10 * SECOND,
                                          .settle_acks = how == POWER ? LEAT_ACKS_DISK : 0 });
        send("done", 0, LEAT_ZERO);
        send("a", 0, 0);
        done("done"); // so that the next ones count as touched
        ok(leat_clock_advance(mq, SECOND));
        send("b", 0, 0);
        again(how);
        counts(0, 2, 0);
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
    open_queue(&(leat_queue_options){ .delay_ms = 10 * SECOND });
    send("a", 0, 0);
    ok(leat_clock_advance(mq, 9 * SECOND));
    send("b", 0, 0);
    ok(leat_clock_advance(mq, SECOND));
    take("a");
    again(KILL);
    counts(1, 1, 0);
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
        open_queue(NULL);
        for (int i = 0; i < 30; i++) {
            send("x", i % 9 + 1, i % 2 ? 20 * SECOND : 0);
            if (i == 20)
                ok(leat_sync(mq));
            if (i % 4 == 3) {
                take("x");
                ok(i % 8 == 3 ? leat_queue_ack(q, &m) : leat_queue_nack(q, &m, 40 * SECOND, 0));
            }
        }
        leat *next;
        ok(leat_crash(mq, LEAT_POWER_CUT, &next));
        ok(leat_close_all(mq, 0));
        mq = next;
        open_queue(NULL);
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
        counts(0, 0, 0);
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
        open_queue(NULL);
        send("low", 1, 0);
        send("later", 9, SECOND);
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
            take("g1");
        is(m.value, "g1");
        cr_assert_eq(m.deliveries, 1);
        counts(2, 1, 1);
        calls = 0;
        fail_at = 1; // settling allocates nothing
        ok(leat_queue_ack(q, &m));
        cr_assert_eq(calls, 0);
        fail_at = 0;
        counts(1, 2, 0);
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
    open_queue(&(leat_queue_options){ .delay_ms = 1 });
    for (int i = 0; i < 40; i++) {
        leat_record r = { .value = LEAT_STR("v"), .priority = i % 10 };
        r.delay_ms = i % 3 == 0 ? SECOND : i % 3 == 1 ? LEAT_ZERO : 0;
        if (i % 2)
            r.group = (leat_bytes){ &"abcd"[i % 4], 1 };
        ok(leat_queue_send(q, &r, NULL));
    }
    leat_queue_stats before, after;
    take("v");
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
    open_queue(NULL);
    ok(leat_queue_get_stats(q, &after, sizeof after));
    cr_assert(after.available == before.available && after.delayed == before.delayed);
    ok(leat_close_all(mq, 0));
    drop_dir();
}
