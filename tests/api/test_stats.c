/* SPDX-License-Identifier: MIT */
// What a store counts, and what it takes: both are given back.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>

// disk: 0 memory, or how to write.
static void open_store(int disk) {
    leat_options o = { .write = disk, .clock = LEAT_CLOCK_MANUAL, .acks = LEAT_ACKS_LOG };
    ok(fixture_open(disk ? dir : NULL, &o, &(leat_topic_options){ .partitions = 2 }, NULL));
}

static leat_stats stats(void) {
    leat_stats s;
    memset(&s, 0xff, sizeof s);
    ok(leat_get_stats(mq, &s, sizeof s));
    return s;
}

static void hear(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    leat_stats inside;
    *(int *)ctx = leat_get_stats(mq, &inside, sizeof inside); // allowed in a callback
}

Test(stats, wrong_arguments_are_refused) {
    leat_stats s;
    open_store(0);
    fails(LEAT_EINVAL, leat_get_stats(NULL, &s, sizeof s));
    fails(LEAT_EINVAL, leat_get_stats(mq, NULL, sizeof s));
    fails(LEAT_EINVAL, leat_get_stats(mq, &s, sizeof s - 1));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_get_stats(mq, &s, sizeof s));
    ok(leat_close_all(mq, 0));
}

Test(stats, what_is_done_is_counted, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        leat_queue *q;
        leat_consumer *c;
        leat_subscription *sub;
        const leat_message *m;
        leat_message got[4];
        int inside = -1;
        open_store(disk);
        leat_stats s = stats();
        cr_assert(s.appended == 0 && s.read == 0 && s.synced == 0 && s.published == 0);
        cr_assert(s.received == 0 && s.acked == 0 && s.bytes == 0 && s.segments == 0);
        cr_assert(s.topics == 1 && s.threads == 0 && s.fs_class == (uint64_t)disk);
        leat_record r[5] = { { .value = LEAT_STR("x"), .to_partition = 1 },
                             { .value = LEAT_STR("x"), .to_partition = 2 },
                             { .value = LEAT_STR("x"), .to_partition = 1 },
                             { .value = LEAT_STR("x"), .to_partition = 1 },
                             { .value = { NULL, 0 } } };
        ok(leat_send_many(p, t, r, 4, NULL));
        ok(leat_send(p, t, &r[0], NULL));
        fails(LEAT_EINVAL, leat_send(p, t, &r[4], NULL));
        s = stats();
        cr_assert(s.appended == 5 && s.segments == 2 && s.bytes > 0);
        ok(leat_sync(mq));
        ok(leat_sync(mq));
        cr_assert_eq(stats().synced, 5);
        ok(leat_consumer_open(mq, "g", NULL, &c));
        ok(leat_consumer_subscribe(c, "t"));
        gives(5, leat_poll(c, 0, &m));
        ok(leat_consumer_seek(c, "t", 1, LEAT_BEGIN));
        gives(1, leat_poll(c, 0, &m));
        cr_assert_eq(stats().read, 6);
        ok(leat_consumer_close(c));
        cr_assert_eq(stats().read, 6); // it stays when the reader has gone
        ok(leat_queue_open(mq, "q", NULL, &q));
        for (int i = 0; i < 3; i++)
            ok(leat_queue_send(q, &r[0], NULL));
        gives(3, leat_queue_receive(q, 0, got, 4));
        ok(leat_queue_ack(q, &got[0]));
        ok(leat_queue_nack(q, &got[1], 0, 0));
        gives(1, leat_queue_receive(q, 0, got, 1));
        ok(leat_queue_ack(q, &got[0]));
        s = stats();
        cr_assert(s.received == 4 && s.acked == 2 && s.topics == 2 && s.appended == 8);
        ok(leat_channel_subscribe(mq, "c", hear, &inside, NULL, &sub));
        gives(1, leat_publish(mq, "c", "x", 1));
        gives(0, leat_publish(mq, "nobody", "x", 1));
        fails(LEAT_EINVAL, leat_publish(mq, "not a name", "x", 1));
        cr_assert_eq(inside, 0);
        cr_assert_eq(stats().published, 2);
        ok(leat_topic_delete(mq, "t"));
        s = stats();
        cr_assert(s.topics == 1 && s.segments == 1 && s.appended == 8 && s.synced >= 5);
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
    }
}

// Descriptors and mappings: as many as the system counts, and those of a deleted topic come back.
Test(stats, files_and_mappings_come_back, .init = make_dir, .fini = drop_dir) {
    for (int disk = 1; disk < 3; disk++) {
        leat_queue *q;
        leat_message m;
        open_store(disk);
        leat_stats before = stats();
        cr_assert(before.fds == 4 && before.maps == 1, "%d files, %d mappings", (int)before.fds,
                  (int)before.maps); // directory, LOCK, manifest, slots
        ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("x") }, NULL));
        cr_assert(stats().fds == before.fds + 1 && stats().maps == before.maps + 1);
        ok(leat_queue_open(mq, "q", NULL, &q));
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x") }, NULL));
        gives(1, leat_queue_receive(q, 0, &m, 1));
        cr_assert(stats().fds == before.fds + 3 && stats().maps == before.maps + 3);
        ok(leat_topic_delete(mq, "t"));
        cr_assert(stats().fds == before.fds + 2 && stats().maps == before.maps + 2);
        ok(leat_queue_ack(q, &m));
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
    }
}

// ---- threads

enum { THREADS = 4, ROUNDS = 5000 };

static void *publish_often(void *arg) {
    for (int i = 0; i < ROUNDS; i++)
        if (leat_publish(mq, "c", "x", 1) != 0 ||
            leat_send(p, t, &(leat_record){ .value = LEAT_STR("x") }, NULL) != 0)
            return arg;
    return NULL;
}

Test(stats, nothing_is_lost_between_threads) {
    pthread_t thread[THREADS];
    static int number[THREADS];
    open_store(0);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, publish_often, &number[i]), 0);
    leat_stats last = stats();
    for (int i = 0; i < 100; i++) {
        leat_stats now = stats();
        cr_assert(now.published >= last.published && now.appended >= last.appended);
        last = now;
    }
    for (int i = 0; i < THREADS; i++) {
        void *bad;
        cr_assert_eq(pthread_join(thread[i], &bad), 0);
        cr_assert_null(bad);
    }
    last = stats();
    cr_assert(last.published == THREADS * ROUNDS && last.appended == THREADS * ROUNDS);
    ok(leat_close_all(mq, 0));
}
