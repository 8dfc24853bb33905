/* SPDX-License-Identifier: MIT */
// leat_crash beside other threads: who is blocked is woken, and what the others were told is so.
#include "lib/crashed.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

struct caller {
    pthread_t thread;
    leat *mq;
    leat_consumer *c;
    leat_queue *q;
    int rc, acked;
};

static void *poll_in_thread(void *arg) {
    struct caller *w = arg;
    const leat_message *m;
    w->rc = leat_poll(w->c, 60 * SECOND, &m);
    return NULL;
}

static void *receive_in_thread(void *arg) {
    struct caller *w = arg;
    leat_message m;
    w->rc = leat_queue_receive(w->q, LEAT_FOREVER, &m, 1);
    return NULL;
}

Test(crash, blocked_calls_are_woken_and_gone_before_it_returns) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (int how = LEAT_KILL; how <= LEAT_POWER_CUT; how++) {
            struct caller poll = { .rc = 1 }, receive = { .rc = 1 };
            open_with(k, (leat_options){ .clock = LEAT_CLOCK_MANUAL, .seed = 1 });
            open_topic(LEAT_ACKS_DISK);
            open_queues();
            ok(leat_consumer_open(mq, "g", NULL, &poll.c));
            ok(leat_consumer_subscribe(poll.c, "t"));
            receive.q = q;
            cr_assert_eq(pthread_create(&poll.thread, NULL, poll_in_thread, &poll), 0);
            cr_assert_eq(pthread_create(&receive.thread, NULL, receive_in_thread, &receive), 0);
            ok(leat_clock_wait_blocked(mq, 2, REAL_MS));
            crash(how); // closes the old one at once: nobody is in it any more
            cr_assert_eq(pthread_join(poll.thread, NULL), 0);
            cr_assert_eq(pthread_join(receive.thread, NULL), 0);
            cr_assert(poll.rc == LEAT_ECLOSED && receive.rc == LEAT_ECLOSED, "%d %d", poll.rc,
                      receive.rc);
            close_kind(k);
        }
}

static atomic_int sent;

static void *send_until_closed(void *arg) {
    struct caller *w = arg;
    leat_producer *mine = NULL;
    w->rc = leat_producer_open(w->mq, NULL, &mine);
    while (w->rc == 0) {
        w->rc = leat_send(mine, t, &(leat_record){ .value = LEAT_STR("x") }, NULL);
        w->acked += w->rc == 0;
        atomic_fetch_add(&sent, 1);
    }
    return NULL;
}

Test(crash, what_other_threads_were_told_is_so) {
    enum { THREADS = 3 };
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (int how = LEAT_KILL; how <= LEAT_POWER_CUT; how++) {
            struct caller w[THREADS] = { { .rc = 0 } };
            int acked = 0;
            leat_range r;
            open_with(k, (leat_options){ .acks = how == LEAT_KILL ? LEAT_ACKS_LOG : LEAT_ACKS_DISK,
                                         .seed = 1 });
            ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
            atomic_store(&sent, 0);
            for (int i = 0; i < THREADS; i++) {
                w[i].mq = mq;
                cr_assert_eq(pthread_create(&w[i].thread, NULL, send_until_closed, &w[i]), 0);
            }
            while (atomic_load(&sent) < 300)
                (void)sched_yield();
            old = mq;
            ok(leat_crash(old, how, &mq));
            for (int i = 0; i < THREADS; i++) {
                cr_assert_eq(pthread_join(w[i].thread, NULL), 0);
                cr_assert_eq(w[i].rc, LEAT_ECLOSED);
                acked += w[i].acked;
            }
            ok(leat_close_all(old, 0));
            ok(leat_topic_open(mq, "t", NULL, &t));
            ok(leat_topic_range(t, 0, &r));
            cr_assert_eq(r.end, acked, "%s, how %d: %d acknowledged, %d there", k->name, how, acked,
                         (int)r.end);
            close_kind(k);
        }
}

// A producer that is closed while the store crashes: what it sends then must be told as it is.
struct closer {
    pthread_t thread;
    atomic_bool begun;
    leat_producer *p;
    int told[LEAT_UNKNOWN + 1]; // by status
};

static void count_told(leat_producer *from, const leat_report *r, void *ctx) {
    struct closer *c = ctx;
    (void)from;
    c->told[r->status]++;
}

static void *close_in_thread(void *arg) {
    struct closer *c = arg;
    atomic_store(&c->begun, true);
    (void)leat_producer_close(c->p, 60 * SECOND);
    return NULL;
}

Test(crash, what_a_close_at_the_same_time_tells_is_so) {
    enum { TIMES = 100, RECORDS = 24 };
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (int i = 0; i < (k->disk ? 2 : 2 * TIMES); i++) {
            int how = i % 2 == 0 ? LEAT_KILL : LEAT_POWER_CUT;
            struct closer c = { .p = NULL };
            leat_producer_options o = { .acks = how == LEAT_KILL ? LEAT_ACKS_LOG : LEAT_ACKS_DISK,
                                        .linger_ms = 60 * SECOND };
            leat_record r = { .value = LEAT_STR("x") };
            leat_topic_options many = { .partitions = RECORDS, .segment_bytes = 16384 };
            open_with(k, (leat_options){ .seed = (uint64_t)i + 1 });
            ok(leat_topic_open(mq, "t", &many, &t));
            ok(leat_producer_open(mq, &o, &c.p));
            for (int n = 0; n < RECORDS; n++) {
                r.to_partition = LEAT_PARTITION(n);
                ok(leat_send_async(c.p, t, &r, count_told, &c));
            }
            cr_assert_eq(pthread_create(&c.thread, NULL, close_in_thread, &c), 0);
            while (!atomic_load(&c.begun))
                (void)sched_yield();
            old = mq;
            ok(leat_crash(old, how, &mq));
            cr_assert_eq(pthread_join(c.thread, NULL), 0);
            ok(leat_close_all(old, 0));
            leat_topic_options there = { .flags = LEAT_MUST_EXIST };
            int stored = c.told[LEAT_STORED], unknown = c.told[LEAT_UNKNOWN];
            int rc = leat_topic_open(mq, "t", &there, &t);
            int64_t end = 0; // a power cut takes a topic in which nothing is on disk
            if (rc != LEAT_ENOENT || stored > 0 || how == LEAT_KILL)
                ok(rc);
            for (int n = 0; n < RECORDS && rc == 0; n++) {
                leat_range range;
                ok(leat_topic_range(t, n, &range));
                end += range.end;
            }
            cr_assert_eq(stored + unknown + c.told[LEAT_NOT_STORED], RECORDS);
            cr_assert(end >= stored && end <= stored + unknown,
                      "%s, how %d: %d stored, %d unknown, %d there", k->name, how, stored, unknown,
                      (int)end);
            close_kind(k);
        }
}
