/* SPDX-License-Identifier: MIT */
// A topic that gets more partitions while it is in use: by senders, groups and queues.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { REAL_MS = 20000, SECOND = 1000 };

// disk: 0 memory, or how to write.
static void open_store(int disk, int32_t partitions) {
    leat_options o = { .write = disk, .clock = LEAT_CLOCK_MANUAL, .acks = LEAT_ACKS_LOG };
    ok(fixture_open(disk ? dir : NULL, &o, &(leat_topic_options){ .partitions = partitions },
                    NULL));
}

static int send_to(int32_t partition) {
    leat_record r = { .value = LEAT_STR("x"), .to_partition = LEAT_PARTITION(partition) };
    return leat_send(p, t, &r, NULL);
}

static int32_t partitions(void) {
    leat_topic_info info[4];
    int n = leat_topic_list(mq, info, 4, sizeof info[0]);
    for (int i = 0; i < n; i++)
        if (strcmp(info[i].name, "t") == 0)
            return info[i].partitions;
    return -1;
}

static leat_consumer *member(void) {
    leat_consumer *c;
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    return c;
}

Test(grow, wrong_arguments_are_refused) {
    leat_topic *same;
    open_store(0, 4);
    static const int32_t wrong[] = { 0, -1, 1, 3, 1025, INT32_MAX, INT32_MIN };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        fails(LEAT_EINVAL, leat_topic_grow(t, wrong[i]));
    fails(LEAT_EINVAL, leat_topic_grow(NULL, 8));
    cr_assert_eq(partitions(), 4);
    ok(leat_topic_grow(t, 4));
    ok(leat_topic_grow(t, 5));
    ok(leat_topic_grow(t, 1024));
    cr_assert_eq(partitions(), 1024);
    ok(send_to(1023));
    fails(LEAT_ERANGE, send_to(1024));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 1024 }, &same));
    cr_assert_eq(same, t);
    fails_saying(LEAT_EEXIST, "partitions",
                 leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 4 }, &same));
    ok(leat_topic_delete(mq, "t"));
    fails(LEAT_EGONE, leat_topic_grow(t, 1024));
    ok(leat_close_all(mq, 0));
}

Test(grow, new_partitions_take_records_and_stay, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        leat_range r;
        open_store(disk, 0);
        ok(send_to(0));
        fails(LEAT_ERANGE, send_to(1));
        ok(leat_topic_grow(t, 3));
        for (int32_t i = 0; i < 3; i++)
            ok(send_to(i));
        fails(LEAT_ERANGE, send_to(3));
        int used[3] = { 0 };
        for (int i = 0; i < 60; i++) { // keys go to all of them
            char key[8];
            leat_metadata md;
            int n = snprintf(key, sizeof key, "%d", i);
            leat_record rec = { .key = { key, (size_t)n }, .value = LEAT_STR("x") };
            ok(i % 2 ? leat_send(p, t, &rec, &md) : leat_send_many(p, t, &rec, 1, &md));
            used[md.partition]++;
        }
        cr_assert(used[0] > 5 && used[1] > 5 && used[2] > 5);
        ok(leat_sync(mq));
        ok(leat_close_all(mq, 0));
        if (!disk)
            continue;
        open_store(disk, 0);
        cr_assert_eq(partitions(), 3);
        for (int32_t i = 0; i < 3; i++) {
            ok(leat_topic_range(t, i, &r));
            cr_assert_eq(r.end, used[i] + 1 + (i == 0));
        }
        ok(leat_topic_grow(t, 9)); // and again
        ok(send_to(8));
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
    }
}

// What kill -9 right after the call leaves.
Test(grow, it_is_durable_on_return, .init = make_dir, .fini = drop_dir) {
    char copy[SCRATCH_PATH];
    open_store(LEAT_WRITE_MAPPED, 2);
    ok(leat_topic_grow(t, 7));
    scratch_make(copy);
    scratch_remove(copy);
    scratch_copy(dir, copy);
    ok(leat_close_all(mq, 0));
    ok(leat_open(copy, NULL, &mq));
    cr_assert_eq(partitions(), 7);
    ok(leat_close_all(mq, 0));
    scratch_remove(copy);
}

Test(grow, groups_are_shared_out_anew_at_once) {
    leat_position at[16];
    const leat_message *m;
    open_store(0, 2);
    leat_consumer *a = member(), *b = member();
    gives(0, leat_poll(a, 0, &m));
    gives(0, leat_poll(b, 0, &m));
    gives(1, leat_consumer_positions(a, 0, at, 16));
    ok(leat_topic_grow(t, 8));
    for (int32_t i = 0; i < 8; i++)
        ok(send_to(i));
    // Range: the first half is a's now. Partition 1 is b's until its next poll.
    int first = leat_poll(a, 0, &m);
    cr_assert_eq(first, 3);
    gives(4, leat_poll(b, 0, &m));
    gives(1, leat_poll(a, 0, &m));
    cr_assert_eq(m[0].partition, 1);
    gives(4, leat_consumer_positions(a, 0, at, 16));
    gives(4, leat_consumer_positions(b, 0, at, 16));
    ok(leat_commit(a));
    ok(leat_commit(b));
    leat_lag lag[16];
    gives(8, leat_group_lag(mq, "g", lag, 16, sizeof lag[0]));
    for (int i = 0; i < 8; i++)
        cr_assert(lag[i].committed == 1 && lag[i].lag == 0 && lag[i].owner);
    // A group that has only committed, without a member.
    leat_consumer *hand;
    leat_position by_hand = { .topic = "t", .partition = 1 };
    ok(leat_consumer_open(mq, "by-hand", NULL, &hand));
    ok(leat_consumer_assign(hand, &by_hand, 1));
    gives(1, leat_poll(hand, 0, &m));
    ok(leat_commit(hand));
    ok(leat_topic_grow(t, 20));
    ok(send_to(19));
    by_hand.partition = 19;
    ok(leat_consumer_assign(hand, &by_hand, 1));
    gives(1, leat_poll(hand, 0, &m));
    ok(leat_commit(hand));
    gives(2, leat_group_lag(mq, "by-hand", lag, 16, sizeof lag[0]));
    ok(leat_close_all(mq, 0));
}

static int polled;

static void *poll_one(void *arg) {
    const leat_message *m;
    polled = leat_poll(arg, 60 * SECOND, &m);
    return NULL;
}

Test(grow, a_blocked_poll_hears_of_new_partitions) {
    pthread_t thread;
    open_store(0, 1);
    leat_consumer *c = member();
    cr_assert_eq(pthread_create(&thread, NULL, poll_one, c), 0);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(leat_topic_grow(t, 4));
    ok(leat_clock_advance(mq, SECOND)); // it has looked, and waits again
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(send_to(3));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(polled, 1);
    ok(leat_close_all(mq, 0));
}

// ---- queues

Test(grow, queues_over_the_topic_serve_new_partitions, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        leat_queue *over, *own;
        leat_queue_stats s;
        leat_message m[8];
        open_store(disk, 1);
        ok(leat_queue_open(mq, "over", &(leat_queue_options){ .topic = "t" }, &over));
        ok(leat_queue_open(mq, "own", NULL, &own));
        ok(send_to(0));
        gives(1, leat_queue_receive(over, 0, m, 8));
        ok(leat_topic_grow(t, 4));
        ok(leat_topic_grow(leat_queue_topic(own), 2));
        for (int32_t i = 0; i < 4; i++)
            ok(send_to(i));
        ok(leat_queue_get_stats(over, &s, sizeof s));
        cr_assert(s.available == 4 && s.leased == 1);
        ok(leat_queue_ack(over, &m[0]));
        gives(4, leat_queue_receive(over, 0, m, 8));
        for (int i = 0; i < 3; i++)
            ok(leat_queue_ack(over, &m[i]));
        int32_t left = m[3].partition;
        leat_record r = { .value = LEAT_STR("x"), .to_partition = LEAT_PARTITION(1) };
        ok(leat_queue_send(own, &r, NULL));
        gives(1, leat_queue_receive(own, 0, m, 8));
        cr_assert_eq(m[0].partition, 1);
        ok(leat_queue_ack(own, &m[0]));
        ok(leat_close_all(mq, 0));
        if (!disk)
            continue;
        open_store(disk, 4);
        ok(leat_queue_open(mq, "over", NULL, &over));
        ok(leat_queue_open(mq, "own", &(leat_queue_options){ .partitions = 2 }, &own));
        gives(1, leat_queue_receive(over, 0, m, 8)); // what was acked stays so
        cr_assert(m[0].partition == left && m[0].deliveries == 2);
        gives(0, leat_queue_receive(own, 0, m + 1, 7));
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
    }
}

static int received;

static void *receive_one(void *arg) {
    leat_message m;
    received = leat_queue_receive(arg, 60 * SECOND, &m, 1);
    if (received == 1)
        received = leat_queue_ack(arg, &m) == 0 ? 1 : -100;
    return NULL;
}

Test(grow, a_blocked_receive_hears_of_new_partitions) {
    pthread_t thread;
    leat_queue *q;
    open_store(0, 1);
    ok(leat_queue_open(mq, "q", &(leat_queue_options){ .topic = "t" }, &q));
    cr_assert_eq(pthread_create(&thread, NULL, receive_one, q), 0);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(leat_topic_grow(t, 4));
    ok(leat_clock_advance(mq, SECOND));
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(send_to(3));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(received, 1);
    ok(leat_close_all(mq, 0));
}

// ---- failures

static int64_t refuse_at;

static void *refusing(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0) {
        free(old);
        return NULL;
    }
    return --refuse_at == 0 ? NULL : realloc(old, size);
}

Test(grow, without_memory_nothing_has_grown) {
    leat_options o = { .alloc = refusing, .clock = LEAT_CLOCK_MANUAL };
    int rc = LEAT_ENOMEM, tries = 0;
    for (int64_t k = 1; rc != 0; k++, tries++) {
        const leat_message *m;
        leat_message got[4];
        leat_queue *q;
        ok(leat_open_memory(&o, &mq));
        ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 2 }, &t));
        ok(leat_producer_open(mq, NULL, &p));
        ok(leat_queue_open(mq, "q", &(leat_queue_options){ .topic = "t" }, &q));
        leat_consumer *c = member();
        gives(0, leat_poll(c, 0, &m));
        refuse_at = k;
        rc = leat_topic_grow(t, 9);
        refuse_at = 0;
        cr_assert(rc == 0 || rc == LEAT_ENOMEM, "%s", leat_errmsg());
        cr_assert_eq(partitions(), rc == 0 ? 9 : 2);
        if (rc != 0) {
            fails(LEAT_ERANGE, send_to(2));
            ok(leat_topic_grow(t, 9));
        }
        ok(send_to(8));
        gives(1, leat_poll(c, 0, &m));
        gives(1, leat_queue_receive(q, 0, got, 4));
        ok(leat_close_all(mq, 0));
    }
    cr_assert_gt(tries, 4);
}

// ---- senders while it grows

enum { SENDERS = 3, RECORDS = 4000, STEPS = 60 };

static atomic_bool wrong_result;

static void *send_keys(void *arg) {
    for (int i = 0; i < RECORDS; i++) {
        char key[16];
        int n = snprintf(key, sizeof key, "%d", i);
        leat_record r = { .key = { key, (size_t)n }, .value = LEAT_STR("x") };
        leat_metadata md = { .offset = -1 };
        int rc = i % 2 ? leat_send(p, t, &r, &md) : leat_send_many(p, t, &r, 1, &md);
        if (rc != 0 || md.offset < 0)
            atomic_store(&wrong_result, true);
    }
    return arg;
}

Test(grow, senders_and_readers_go_on_meanwhile) {
    pthread_t thread[SENDERS];
    const leat_message *m;
    leat_message got[64];
    leat_queue *q;
    int read = 0, taken = 0, n;
    open_store(0, 1);
    ok(leat_queue_open(mq, "q", &(leat_queue_options){ .topic = "t" }, &q));
    leat_consumer *c = member();
    for (int i = 0; i < SENDERS; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, send_keys, NULL), 0);
    for (int32_t step = 2; read < SENDERS * RECORDS || taken < SENDERS * RECORDS; step++) {
        if (step <= STEPS)
            ok(leat_topic_grow(t, step));
        n = leat_poll(c, 0, &m);
        cr_assert_geq(n, 0);
        read += n;
        n = leat_queue_receive(q, 0, got, 64);
        cr_assert_geq(n, 0);
        for (int i = 0; i < n; i++)
            ok(leat_queue_ack(q, &got[i]));
        taken += n;
    }
    for (int i = 0; i < SENDERS; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    cr_assert(!atomic_load(&wrong_result));
    cr_assert(read == SENDERS * RECORDS && taken == SENDERS * RECORDS);
    ok(leat_close_all(mq, 0));
}
