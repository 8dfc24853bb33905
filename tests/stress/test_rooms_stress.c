/* SPDX-License-Identifier: MIT */
// Threads over one store on the system clock: workers that die, give back and finish; members that
// come and go while others send. What is counted must come out whatever the order of things.
#include "leat.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { MESSAGES = 4000, THREADS = 4, PARTITIONS = 3 };

static leat *mq;
static leat_queue *q;
static leat_topic *t;
static atomic_int acked_count, polled_count;
static atomic_uchar acked[MESSAGES], leased[MESSAGES], polled[MESSAGES];

static uint32_t draw(uint32_t *state) { // xorshift
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static int number_of(const leat_message *m) {
    return atoi(m->value.data);
}

static void *send_half(void *arg) {
    int first = arg ? MESSAGES / 2 : 0;
    leat_producer *p;
    ok(leat_producer_open(mq, NULL, &p));
    for (int i = first; i < first + MESSAGES / 2; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        ok(leat_send(p, t, &(leat_record){ .key = leat_str(text), .value = leat_str(text) }, NULL));
    }
    ok(leat_producer_close(p, 0));
    return NULL;
}

// ---- queue

// Settles one message in a way drawn by chance. Between receive and settling nobody else may have
// it: that holds as long as the lease does, so messages of a worker that dies are left out.
static void settle(uint32_t *seed, leat_message *m) {
    int i = number_of(m);
    uint32_t fate = draw(seed) % 10;
    if (fate == 0) { // the worker dies: the lease ends some milliseconds later
        ok(leat_message_release(mq, m));
        return;
    }
    int rc = leat_queue_extend(q, m, 60000);
    if (rc == LEAT_ESTALE) { // this thread was slow, the lease is over and somebody else has it
        ok(leat_message_release(mq, m));
        return;
    }
    cr_assert_eq(rc, 0, "%s", leat_errmsg());
    cr_assert_eq(atomic_fetch_add(&leased[i], 1), 0, "message %d is with two workers", i);
    atomic_fetch_sub(&leased[i], 1);
    if (fate < 4) {
        ok(leat_queue_nack(q, m, fate == 1 ? 3 : 0, 0));
        return;
    }
    cr_assert_eq(atomic_fetch_add(&acked[i], 1), 0, "message %d is acked twice", i);
    atomic_fetch_add(&acked_count, 1);
    ok(leat_queue_ack(q, m));
}

static void *work(void *arg) {
    uint32_t seed = 77 + (uint32_t)(uintptr_t)arg;
    leat_message m[8];
    while (atomic_load(&acked_count) < MESSAGES) {
        int n = leat_queue_receive(q, 50, m, 1 + draw(&seed) % 8);
        cr_assert(n >= 0, "%s", leat_errmsg());
        for (int i = 0; i < n; i++)
            settle(&seed, &m[i]);
    }
    return NULL;
}

static void run(void *(*body)(void *), pthread_t thread[THREADS + 2]) {
    for (uintptr_t i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, send_half, (void *)i), 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&thread[2 + i], NULL, body, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS + 2; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
}

Test(stress, every_message_is_acked_once_and_is_with_one_worker_at_a_time) {
    pthread_t thread[THREADS + 2];
    ok(leat_open_memory(NULL, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = PARTITIONS }, &t));
    // Short, so that leases end while the others work.
    leat_queue_options o = { .topic = "t", .visibility_timeout_ms = 20 };
    ok(leat_queue_open(mq, "q", &o, &q));
    run(work, thread);
    leat_queue_stats s;
    ok(leat_queue_get_stats(q, &s, sizeof s));
    cr_assert(s.available == 0 && s.delayed == 0 && s.leased == 0 && s.moving == 0);
    cr_assert_eq(s.done, MESSAGES);
    ok(leat_close_all(mq, 0));
}

// ---- stream

// A member that reads for a while, commits what it read, leaves, and comes again.
static void *read_as_member(void *arg) {
    uint32_t seed = 99 + (uint32_t)(uintptr_t)arg;
    while (atomic_load(&polled_count) < MESSAGES) {
        leat_consumer *c;
        ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = 50 }, &c));
        ok(leat_consumer_subscribe(c, "t"));
        for (uint32_t k = draw(&seed) % 20; k > 0; k--) {
            const leat_message *m;
            int n = leat_poll(c, 5, &m);
            cr_assert(n >= 0, "%s", leat_errmsg());
            for (int i = 0; i < n; i++)
                if (atomic_exchange(&polled[number_of(&m[i])], 1) == 0)
                    atomic_fetch_add(&polled_count, 1);
            int rc = leat_commit(c);
            cr_assert(rc == 0 || rc == LEAT_EFENCED, "%s", leat_errmsg());
        }
        ok(leat_consumer_close(c));
    }
    return NULL;
}

Test(stress, members_come_and_go_and_every_record_is_read) {
    pthread_t thread[THREADS + 2];
    ok(leat_open_memory(NULL, &mq));
    ok(leat_topic_open(
        mq, "t", &(leat_topic_options){ .partitions = PARTITIONS, .segment_bytes = 65536 }, &t));
    run(read_as_member, thread);
    leat_lag lag[PARTITIONS];
    gives(PARTITIONS, leat_group_lag(mq, "g", lag, PARTITIONS, sizeof lag[0]));
    for (int i = 0; i < PARTITIONS; i++)
        cr_assert(lag[i].lag == 0 && lag[i].owner == NULL, "partition %d: lag %d", i,
                  (int)lag[i].lag);
    ok(leat_close_all(mq, 0));
}

// ---- one sync for all who wait

static void *send_durable(void *arg) {
    leat_producer *p;
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_DISK }, &p));
    for (int i = 0; i < 25; i++) {
        leat_metadata md;
        leat_range r;
        ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("x") }, &md));
        ok(leat_topic_range(t, 0, &r));
        cr_assert_gt(r.durable_end, md.offset, "acknowledged before it was durable");
    }
    ok(leat_producer_close(p, 0));
    (void)arg;
    return NULL;
}

Test(stress, durable_senders_share_syncs_and_none_is_early) {
    char dir[SCRATCH_PATH];
    pthread_t thread[THREADS];
    scratch_make(dir);
    ok(leat_open(dir, NULL, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, send_durable, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    ok(leat_close_all(mq, 0));
    scratch_remove(dir);
}
