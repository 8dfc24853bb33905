/* SPDX-License-Identifier: MIT */
// Sending only where the sender expects the log to end: who is late is told the end, and stores
// nothing.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

enum { PARTS = 3 };

static const leat_record one = { .value = { "one", 3 } };

// disk: 0 memory, or how to write.
static void open_store_with(int disk, leat_topic_options topic, int32_t acks) {
    leat_options o = { .write = disk, .clock = LEAT_CLOCK_MANUAL, .seed = 3 };
    ok(fixture_open(disk ? dir : NULL, &o, &topic, &(leat_producer_options){ .acks = acks }));
}

static void open_store(int disk) {
    open_store_with(disk, (leat_topic_options){ .partitions = PARTS }, LEAT_ACKS_LOG);
}

static void close_store(void) {
    ok(leat_close_all(mq, 0));
}

static void end_is(int32_t partition, int64_t end, int64_t durable) {
    leat_range r;
    ok(leat_topic_range(t, partition, &r));
    cr_assert_eq(r.end, end, "partition %d ends at %lld, not %lld", partition, (long long)r.end,
                 (long long)end);
    cr_assert(durable < 0 || r.durable_end == durable, "durable to %lld, not %lld",
              (long long)r.durable_end, (long long)durable);
}

// The end is another one: md says which, and so does the message.
static void conflicts(int32_t partition, int64_t expected, int64_t end) {
    leat_metadata md = { .offset = -7, .partition = -7, .timestamp_ms = -7, .duplicate = -7 };
    char says[96];
    (void)snprintf(says, sizeof says, "topic t partition %d ends at %lld, not at %lld", partition,
                   (long long)end, (long long)expected);
    fails_saying(LEAT_ECONFLICT, says, leat_send_if(p, t, partition, expected, &one, &md));
    cr_assert_str_eq(md.topic, "t");
    cr_assert(md.offset == end && md.partition == partition);
    cr_assert(md.timestamp_ms == 0 && md.duplicate == 0);
    fails(LEAT_ECONFLICT, leat_send_if(p, t, partition, expected, &one, NULL));
    end_is(partition, end, -1);
}

Test(send_if, wrong_arguments_are_refused) {
    leat *other;
    leat_topic *u;
    leat_record r = one;
    leat_metadata md = { .offset = -7 };
    open_store(0);
    fails(LEAT_EINVAL, leat_send_if(NULL, t, 0, 0, &one, &md));
    fails(LEAT_EINVAL, leat_send_if(p, NULL, 0, 0, &one, &md));
    fails(LEAT_EINVAL, leat_send_if(p, t, 0, 0, NULL, &md));
    static const int64_t no_end[] = { -1, LEAT_BEGIN, LEAT_END, LEAT_UNLIMITED, INT64_MIN };
    for (size_t i = 0; i < sizeof no_end / sizeof no_end[0]; i++)
        fails_saying(LEAT_EINVAL, "expected end", leat_send_if(p, t, 0, no_end[i], &one, &md));
    static const int32_t no_part[] = { -1, PARTS, INT32_MIN, INT32_MAX };
    for (size_t i = 0; i < sizeof no_part / sizeof no_part[0]; i++)
        fails_saying(LEAT_ERANGE, "3 partitions", leat_send_if(p, t, no_part[i], 0, &one, &md));
    static const int32_t named[] = { LEAT_PARTITION(0), LEAT_PARTITION(2), -1, INT32_MIN,
                                     INT32_MAX };
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        r.to_partition = named[i];
        fails_saying(LEAT_EINVAL, "partition 1", leat_send_if(p, t, 1, 0, &r, &md));
    }
    r = (leat_record){ .value = { NULL, 0 } };
    fails(LEAT_EINVAL, leat_send_if(p, t, 0, 0, &r, &md));
    fails(LEAT_EINVAL, leat_send_if(p, t, 0, 7, &r, &md)); // a wrong record is wrong at any end
    cr_assert_eq(md.offset, -7);
    for (int32_t i = 0; i < PARTS; i++)
        end_is(i, 0, -1);
    ok(leat_open_memory(NULL, &other));
    ok(leat_topic_open(other, "u", NULL, &u));
    fails_saying(LEAT_EINVAL, "another store", leat_send_if(p, u, 0, 0, &one, NULL));
    ok(leat_close_all(other, 0));
    ok(leat_topic_delete(mq, "t"));
    fails(LEAT_EGONE, leat_send_if(p, t, 0, 0, &one, NULL));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_send_if(p, t, 0, 0, &one, NULL));
    close_store();
}

Test(send_if, a_record_is_stored_only_at_the_expected_end, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        open_store(disk);
        leat_record named = { .key = LEAT_STR("foobar"), // by key: partition 1
                              .value = LEAT_STR("v"),
                              .timestamp_ms = 5,
                              .to_partition = LEAT_PARTITION(2) };
        for (int64_t end = 0; end < 20; end++) {
            leat_metadata md = { .offset = -7 };
            conflicts(2, end + 1, end);
            conflicts(2, INT64_MAX, end);
            if (end > 0)
                conflicts(2, end - 1, end);
            if (end > 0)
                conflicts(2, 0, end);
            ok(leat_send_if(p, t, 2, end, end % 2 ? &named : &one, &md));
            cr_assert(md.offset == end && md.partition == 2 && md.duplicate == 0);
            cr_assert_str_eq(md.topic, "t");
            cr_assert(end % 2 == 0 || md.timestamp_ms == 5);
            end_is(2, end + 1, -1);
        }
        named.to_partition = 0; // a key does not count
        ok(leat_send_if(p, t, 0, 0, &named, NULL));
        end_is(0, 1, -1);
        end_is(1, 0, -1);
        ok(leat_send(p, t, &(leat_record){ .value = one.value, .to_partition = 3 }, NULL));
        conflicts(2, 20, 21); // what others send moves the end
        close_store();
        if (disk) { // and it is the same after a restart
            open_store(disk);
            conflicts(2, 0, 21);
            conflicts(2, 20, 21);
            ok(leat_send_if(p, t, 2, 21, &one, NULL));
            ok(leat_send_if(p, t, 1, 0, &one, NULL));
            close_store();
        }
        scratch_remove(dir);
    }
}

static int32_t never(const leat_record *r, int32_t partitions, void *ctx) {
    (void)r;
    ++*(int *)ctx;
    return partitions;
}

// Neither the producer's partitioner nor its turns have a say.
Test(send_if, no_partitioner_is_asked) {
    int calls = 0;
    leat_producer *round, *own;
    leat_metadata md;
    open_store(0);
    ok(leat_producer_open(mq, &(leat_producer_options){ .partitioner = LEAT_ROUND_ROBIN }, &round));
    ok(leat_producer_open(mq,
                          &(leat_producer_options){ .partitioner = LEAT_BY_FUNCTION,
                                                    .partition = never,
                                                    .partition_ctx = &calls },
                          &own));
    for (int64_t end = 0; end < 4; end += 2) {
        ok(leat_send_if(round, t, 1, end, &one, NULL));
        ok(leat_send_if(own, t, 1, end + 1, &one, NULL));
    }
    cr_assert_eq(calls, 0);
    ok(leat_send(round, t, &one, &md));
    cr_assert_eq(md.partition, 0);
    close_store();
}

// What the same producer sent before goes first, though it lingers; so it is before the end.
Test(send_if, what_lingers_is_before_the_end) {
    leat_metadata md;
    ok(leat_test_open(&mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = PARTS }, &t));
    ok(leat_producer_open(mq, &(leat_producer_options){ .linger_ms = 1000 }, &p));
    leat_record r = { .value = LEAT_STR("later"), .to_partition = LEAT_PARTITION(1) };
    ok(leat_send_async(p, t, &r, NULL, NULL));
    end_is(1, 0, -1);
    conflicts(1, 0, 1);
    ok(leat_send_async(p, t, &r, NULL, NULL));
    ok(leat_send_if(p, t, 1, 2, &one, &md));
    cr_assert_eq(md.offset, 2);
    close_store();
}

// The end counts offsets: what retention or a deletion took from the front does not change it.
Test(send_if, the_end_is_an_offset_not_a_count) {
    open_store(0);
    for (int64_t end = 0; end < 10; end++)
        ok(leat_send_if(p, t, 0, end, &one, NULL));
    ok(leat_topic_delete_records(t, 0, LEAT_END));
    conflicts(0, 0, 10);
    ok(leat_send_if(p, t, 0, 10, &one, NULL));
    ok(leat_topic_grow(t, PARTS + 1));
    ok(leat_send_if(p, t, PARTS, 0, &one, NULL));
    conflicts(PARTS, 0, 1);
    close_store();
}

// A conflict is no reason to wait, and comes before what a refusing topic would say.
Test(send_if, a_full_topic_is_full_only_at_its_end) {
    open_store_with(0, (leat_topic_options){ .retention_records = 2, .when_full = LEAT_REJECT },
                    LEAT_ACKS_LOG);
    ok(leat_send_if(p, t, 0, 0, &one, NULL));
    ok(leat_send_if(p, t, 0, 1, &one, NULL));
    conflicts(0, 1, 2);
    leat_metadata md = { .offset = -7 };
    fails(LEAT_EFULL, leat_send_if(p, t, 0, 2, &one, &md));
    cr_assert_eq(md.offset, -7);
    cr_assert_eq(leat_is_retriable(LEAT_EFULL), 1);
    cr_assert_eq(leat_is_retriable(LEAT_ECONFLICT), 0);
    close_store();
}

Test(send_if, acks_are_the_producers, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        for (int32_t acks = LEAT_ACKS_NONE; acks <= LEAT_ACKS_DISK; acks++) {
            leat_metadata md = { .offset = -7 };
            open_store_with(disk, (leat_topic_options){ .partitions = PARTS }, acks);
            ok(leat_send_if(p, t, 1, 0, &one, &md));
            cr_assert_eq(md.offset, acks == LEAT_ACKS_NONE ? -1 : 0);
            if (acks == LEAT_ACKS_DISK)
                end_is(1, 1, 1);
            else if (disk)
                end_is(1, 1, 0);
            conflicts(1, 0, 1); // the end is told at any acks
            close_store();
            scratch_remove(dir);
        }
    }
}

// What the disk acknowledged is at the end after a power cut; who expects less is told so.
Test(send_if, with_acks_disk_the_end_survives_a_power_cut, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        leat_options o = { .write = disk, .flags = LEAT_CRASHABLE, .seed = 9 };
        leat *after;
        ok(disk ? leat_open(dir, &o, &mq) : leat_open_memory(&o, &mq));
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_DISK }, &p));
        for (int64_t end = 0; end < 5; end++) {
            ok(leat_send_if(p, t, 0, end, &one, NULL));
            conflicts(0, end, end + 1);
        }
        ok(leat_crash(mq, LEAT_POWER_CUT, &after));
        fails(LEAT_ECLOSED, leat_send_if(p, t, 0, 5, &one, NULL));
        close_store();
        mq = after;
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_producer_open(mq, NULL, &p));
        conflicts(0, 4, 5);
        ok(leat_send_if(p, t, 0, 5, &one, NULL));
        close_store();
        scratch_remove(dir);
    }
}

// The record is in the log, whether on disk is unknown: the next who expects its offset is late.
Test(send_if, failures_are_those_of_a_send, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        leat_metadata md = { .offset = -7 };
        open_store_with(disk, (leat_topic_options){ 0 }, LEAT_ACKS_DISK);
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0));
        fails(LEAT_ENOSPC, leat_send_if(p, t, 0, 0, &one, &md));
        ok(leat_fault_push(mq, LEAT_OP_SPACE, "t", 0, LEAT_ENOSPC, 1, 0));
        fails(LEAT_ENOSPC, leat_send_if(p, t, 0, 0, &one, &md));
        cr_assert_eq(md.offset, -7);
        ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 0, LEAT_EIO, 1, 0));
        fails(LEAT_EIO, leat_send_if(p, t, 0, 0, &one, &md));
        cr_assert_eq(md.offset, 0);
        fails(LEAT_EPOISONED, leat_send_if(p, t, 0, 1, &one, NULL));
        (void)leat_close_all(mq, 0);
        scratch_remove(dir);
    }
}

enum { HANDS = 4, ROUNDS = 200 };

struct hand {
    leat_producer *p;
    int won[ROUNDS], bad;
    pthread_barrier_t *start;
    pthread_t thread;
};

// Each round all expect the same end.
static void *race(void *ctx) {
    struct hand *h = ctx;
    for (int64_t i = 0; i < ROUNDS; i++) {
        leat_metadata md = { .offset = -7 };
        (void)pthread_barrier_wait(h->start);
        int rc = leat_send_if(h->p, t, 0, i, &one, &md);
        h->won[i] = rc == 0;
        h->bad += rc == 0 ? md.offset != i : rc != LEAT_ECONFLICT || md.offset != i + 1;
    }
    return NULL;
}

Test(send_if, of_threads_that_expect_the_same_end_one_wins, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        static struct hand h[HANDS];
        pthread_barrier_t start;
        open_store_with(disk, (leat_topic_options){ .segment_bytes = 16384 },
                        disk ? LEAT_ACKS_DISK : LEAT_ACKS_LOG);
        cr_assert_eq(pthread_barrier_init(&start, NULL, HANDS), 0);
        for (int i = 0; i < HANDS; i++) {
            h[i] = (struct hand){ .p = p, .start = &start };
            cr_assert_eq(pthread_create(&h[i].thread, NULL, race, &h[i]), 0);
        }
        for (int i = 0; i < HANDS; i++)
            cr_assert_eq(pthread_join(h[i].thread, NULL), 0);
        for (int k = 0; k < ROUNDS; k++) {
            int winners = 0;
            for (int i = 0; i < HANDS; i++)
                winners += h[i].won[k];
            cr_assert_eq(winners, 1, "round %d has %d winners", k, winners);
        }
        for (int i = 0; i < HANDS; i++)
            cr_assert_eq(h[i].bad, 0);
        end_is(0, ROUNDS, -1);
        cr_assert_eq(pthread_barrier_destroy(&start), 0);
        close_store();
        scratch_remove(dir);
    }
}

// The usual loop: who is late looks at what is new and tries again where it ends. None is lost.
static void *persist(void *ctx) {
    struct hand *h = ctx;
    int64_t end = 0;
    for (int i = 0; i < ROUNDS; i++) {
        leat_metadata md;
        int rc;
        while ((rc = leat_send_if(h->p, t, 1, end, &one, &md)) == LEAT_ECONFLICT) {
            h->bad += md.offset <= end; // it only grows: somebody else got on
            end = md.offset;
        }
        h->bad += rc != 0 || md.offset != end;
        end++;
    }
    return NULL;
}

Test(send_if, who_tries_again_at_the_end_gets_all_stored) {
    static struct hand h[HANDS];
    open_store(0);
    for (int i = 0; i < HANDS; i++) {
        h[i] = (struct hand){ .p = p };
        cr_assert_eq(pthread_create(&h[i].thread, NULL, persist, &h[i]), 0);
    }
    for (int i = 0; i < HANDS; i++) {
        cr_assert_eq(pthread_join(h[i].thread, NULL), 0);
        cr_assert_eq(h[i].bad, 0);
    }
    end_is(1, HANDS * ROUNDS, -1);
    close_store();
}
