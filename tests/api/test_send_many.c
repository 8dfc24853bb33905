/* SPDX-License-Identifier: MIT */
// Sending many records at once: each where leat_send would put it, those of one partition whole or
// not at all, and told for each of them what became of it.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MIB = 1024 * 1024, PARTS = 4, MANY = 300 };

static leat_record recs[MANY];
static leat_metadata md[MANY];
static char keys[MANY][16], values[MANY][16];

// disk: 0 memory, or how to write.
static void open_store_with(int disk, leat_topic_options topic, int32_t acks) {
    leat_options o = { .write = disk, .clock = LEAT_CLOCK_MANUAL, .seed = 3 };
    ok(fixture_open(disk ? dir : NULL, &o, &topic, &(leat_producer_options){ .acks = acks }));
}

static void open_store(int disk, int32_t partitions) {
    open_store_with(disk, (leat_topic_options){ .partitions = partitions, .segment_bytes = 16384 },
                    LEAT_ACKS_LOG);
}

// Numbered values; every third record without a key, every seventh a tombstone.
static void number(size_t n) {
    for (size_t i = 0; i < n; i++) {
        int k = snprintf(keys[i], sizeof keys[i], "key-%zu", i % 50);
        int v = snprintf(values[i], sizeof values[i], "value-%zu", i);
        recs[i] = (leat_record){ .value = { values[i], (size_t)v } };
        if (i % 3 != 0)
            recs[i].key = (leat_bytes){ keys[i], (size_t)k };
        if (i % 3 != 0 && i % 7 == 0)
            recs[i].value = (leat_bytes){ NULL, 0 };
        if (i % 5 == 0)
            recs[i].timestamp_ms = (int64_t)i + 1;
        md[i] = (leat_metadata){ .offset = -7 };
    }
}

static void ends_are(int32_t partition, int64_t end) {
    leat_range r;
    ok(leat_topic_range(t, partition, &r));
    cr_assert_eq(r.end, end, "partition %d ends at %lld, not %lld", partition, (long long)r.end,
                 (long long)end);
}

static void all_end_at(int32_t partitions, int64_t end) {
    for (int32_t i = 0; i < partitions; i++)
        ends_are(i, end);
}

static bool same(leat_bytes a, leat_bytes b) {
    return a.size == b.size && (a.data == NULL) == (b.data == NULL) &&
           (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

// What is read is what the metadata says of each record, and nothing else.
static void read_back(int32_t partitions, size_t n, int64_t wall) {
    size_t seen = 0;
    for (int32_t part = 0; part < partitions; part++) {
        leat_consumer *c;
        const leat_message *m;
        int64_t next = 0;
        leat_position at = { .topic = "t", .partition = part, .offset = LEAT_BEGIN };
        ok(leat_consumer_open(mq, NULL, NULL, &c));
        ok(leat_consumer_assign(c, &at, 1));
        size_t i = 0; // in a partition they are in the order of the array
        for (int got; (got = leat_poll(c, 0, &m)) != 0;) {
            cr_assert(got > 0, "%s", leat_errmsg());
            for (int k = 0; k < got; k++, next++, i++, seen++) {
                while (i < n && md[i].partition != part)
                    i++;
                cr_assert_lt(i, n, "partition %d has more than was sent", part);
                cr_assert_eq(m[k].offset, next);
                cr_assert_eq(md[i].offset, next);
                cr_assert(same(m[k].key, recs[i].key) && same(m[k].value, recs[i].value),
                          "record %zu", i);
                cr_assert_eq(m[k].timestamp_ms, md[i].timestamp_ms);
                cr_assert_eq(md[i].timestamp_ms,
                             recs[i].timestamp_ms ? recs[i].timestamp_ms : wall);
            }
        }
        ok(leat_consumer_close(c));
    }
    cr_assert_eq(seen, n);
}

Test(send_many, what_is_sent_comes_back_from_memory_and_disk_and_after_a_reopen, .init = make_dir,
     .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        for (int32_t parts = 1; parts <= PARTS; parts += PARTS - 1) {
            int64_t wall;
            open_store(disk, parts);
            ok(leat_clock_now(mq, NULL, &wall));
            number(MANY);
            ok(leat_send_many(p, t, recs, MANY, md));
            cr_assert_str_eq(md[MANY - 1].topic, "t");
            read_back(parts, MANY, wall);
            ok(leat_close_all(mq, 0));
            if (disk) {
                open_store(disk, 0);
                read_back(parts, MANY, wall);
                ok(leat_close_all(mq, 0));
            }
            scratch_remove(dir);
        }
    }
}

// Many small batches, one after the other, and single records in between: over several segments.
Test(send_many, offsets_go_on_over_batches_and_segments, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        int64_t next = 0;
        open_store(disk, 1);
        for (size_t n = 0; n < 120; n++) {
            number(n);
            gives(0, leat_send_many(p, t, recs, n, md));
            for (size_t i = 0; i < n; i++)
                cr_assert_eq(md[i].offset, next++);
            ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("one") }, &md[0]));
            cr_assert_eq(md[0].offset, next++);
        }
        ends_are(0, next);
        leat_consumer *c;
        const leat_message *m;
        int64_t at = 0;
        ok(leat_consumer_open(mq, NULL, NULL, &c));
        ok(leat_consumer_assign(c, &(leat_position){ .topic = "t" }, 1));
        for (int n; (n = leat_poll(c, 0, &m)) > 0;)
            for (int i = 0; i < n; i++)
                cr_assert_eq(m[i].offset, at++);
        cr_assert_eq(at, next);
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
    }
}

Test(send_many, each_record_goes_where_leat_send_would_put_it) {
    open_store(0, PARTS);
    number(MANY);
    for (size_t i = 0; i < MANY; i++)
        if (!recs[i].key.data)
            recs[i].to_partition = LEAT_PARTITION((int32_t)i % PARTS);
    ok(leat_send_many(p, t, recs, MANY, md));
    for (size_t i = 0; i < MANY; i++) {
        leat_metadata one;
        ok(leat_send(p, t, &recs[i], &one));
        cr_assert_eq(md[i].partition, one.partition, "record %zu", i);
    }
    // Without key and partition: sticky, so a few stay together; and many spread.
    for (size_t i = 0; i < MANY; i++)
        recs[i] = (leat_record){ .value = { values, 1000 } };
    int changes = 0, used[PARTS] = { 0 };
    ok(leat_send_many(p, t, recs, MANY, md));
    for (size_t i = 0; i < MANY; i++) {
        changes += i > 0 && md[i].partition != md[i - 1].partition;
        used[md[i].partition]++;
    }
    cr_assert(changes >= MANY / 17 - 1 && changes <= MANY / 15 + 1, "%d changes", changes);
    for (int i = 0; i < PARTS; i++)
        cr_assert(used[i] > 0 && used[i] < MANY / 2, "partition %d got %d", i, used[i]);
    ok(leat_close_all(mq, 0));
}

Test(send_many, wrong_arguments_are_refused) {
    leat *other;
    leat_topic *u;
    open_store(0, 2);
    number(3);
    fails(LEAT_EINVAL, leat_send_many(NULL, t, recs, 3, md));
    fails(LEAT_EINVAL, leat_send_many(p, NULL, recs, 3, md));
    fails(LEAT_EINVAL, leat_send_many(p, t, NULL, 3, md));
    gives(0, leat_send_many(p, t, NULL, 0, NULL));
    gives(0, leat_send_many(p, t, recs, 0, md));
    cr_assert_eq(md[0].offset, -7);
    fails(LEAT_ETOOBIG, leat_send_many(p, t, recs, SIZE_MAX, NULL));
    fails(LEAT_ETOOBIG, leat_send_many(p, t, recs, SIZE_MAX / sizeof recs[0], NULL));
    ok(leat_send_many(p, t, recs, 3, NULL));
    ok(leat_open_memory(NULL, &other));
    ok(leat_topic_open(other, "u", NULL, &u));
    fails_saying(LEAT_EINVAL, "another store", leat_send_many(p, u, recs, 3, md));
    ok(leat_close_all(other, 0));
    ok(leat_topic_delete(mq, "t"));
    fails(LEAT_EGONE, leat_send_many(p, t, recs, 3, md));
    fails(LEAT_EGONE, leat_send_many(p, t, recs, 0, md));
    ok(leat_close_all(mq, 0));
}

static char large[16 * MIB + 8];

// Each record is sound but one in the middle, or the last: nothing is stored anywhere.
Test(send_many, one_wrong_record_and_none_is_stored) {
    static const struct {
        leat_record r;
        int rc;
    } wrong[] = {
        { { .value = { large, sizeof large } }, LEAT_ETOOBIG },
        { { .value = { NULL, 0 } }, LEAT_EINVAL },
        { { .value = { large, 1 }, .to_partition = LEAT_PARTITION(PARTS) }, LEAT_ERANGE },
        { { .value = { large, 1 }, .to_partition = -1 }, LEAT_ERANGE },
        { { .value = { large, 1 }, .to_partition = INT32_MIN }, LEAT_ERANGE },
        { { .value = { large, 1 }, .to_partition = INT32_MAX }, LEAT_ERANGE },
        { { .value = { large, 1 }, .priority = 10 }, LEAT_EINVAL },
        { { .value = { large, 1 }, .header_count = 1 }, LEAT_EINVAL },
    };
    open_store(0, PARTS);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        for (size_t at = 0; at < 100; at += 33) {
            number(100);
            recs[at] = wrong[i].r;
            fails(wrong[i].rc, leat_send_many(p, t, recs, 100, md));
            for (size_t k = 0; k < 100; k++)
                cr_assert_eq(md[k].offset, -1);
            all_end_at(PARTS, 0);
        }
    }
    ok(leat_close_all(mq, 0));
}

// A batch of exactly 64 MiB as it is stored, and 8 bytes more.
Test(send_many, a_batch_has_at_most_64_mib, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        open_store(disk, 2);
        number(5);
        for (size_t i = 0; i < 5; i++)
            recs[i] = (leat_record){ .value = { large, 16 * MIB - 33 },
                                     .to_partition = LEAT_PARTITION(0) };
        recs[3].value.size++;
        fails_saying(LEAT_ETOOBIG, "batch", leat_send_many(p, t, recs, 4, md));
        ends_are(0, 0);
        recs[3].value.size--;
        ok(leat_send_many(p, t, recs, 4, md));
        ends_are(0, 4);
        fails(LEAT_ETOOBIG, leat_send_many(p, t, recs, 5, md));
        recs[4].to_partition = LEAT_PARTITION(1); // of another partition: another batch
        ok(leat_send_many(p, t, recs, 5, md));
        ends_are(0, 8);
        ends_are(1, 1);
        cr_assert(md[3].offset == 7 && md[4].offset == 0);
        ok(leat_close_all(mq, 0));
        if (disk) {
            open_store(disk, 2); // a segment of its own size is opened again
            ends_are(0, 8);
            ends_are(1, 1);
            ok(leat_send_many(p, t, recs, 5, md));
            ok(leat_close_all(mq, 0));
        }
        scratch_remove(dir);
    }
}

// A segment of which the batch takes all or nearly all leaves its seal no room in the mapping of
// the next run.
Test(send_many, a_segment_that_is_filled_up_is_sealed_after_a_reopen, .init = make_dir,
     .fini = drop_dir) {
    for (int disk = 1; disk < 3; disk++) {
        for (size_t less = 0; less <= 128; less += 8) {
            open_store(disk, 1); // segments of 16 KiB
            recs[0] = (leat_record){ .value = { large, 4000 - 33 } };
            recs[1] = (leat_record){ .value = { large, 8288 - 33 - less } };
            ok(leat_send_many(p, t, recs, 2, md));
            ok(leat_close_all(mq, 0));
            open_store(disk, 1);
            ok(leat_send_many(p, t, recs, 2, md));
            cr_assert_eq(md[1].offset, 3);
            ok(leat_sync(mq));
            ok(leat_close_all(mq, 0));
            open_store(disk, 1);
            ends_are(0, 4);
            leat_consumer *c;
            const leat_message *m;
            ok(leat_consumer_open(mq, NULL, NULL, &c));
            ok(leat_consumer_assign(c, &(leat_position){ .topic = "t" }, 1));
            gives(4, leat_poll(c, 0, &m));
            cr_assert_eq(m[3].value.size, recs[1].value.size);
            ok(leat_close_all(mq, 0));
            scratch_remove(dir);
        }
    }
}

Test(send_many, a_full_memory_store_stores_none_of_it) {
    leat_options o = { .memory_max_bytes = 256 * 1024, .clock = LEAT_CLOCK_MANUAL };
    ok(leat_open_memory(&o, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p));
    int64_t stored = 0;
    int rc = 0;
    for (size_t i = 0; i < MANY; i++)
        recs[i] = (leat_record){ .value = { large, 100 } };
    while ((rc = leat_send_many(p, t, recs, MANY, md)) == 0)
        stored += MANY;
    cr_assert_eq(rc, LEAT_EFULL, "%s", leat_errmsg());
    cr_assert_gt(stored, 0);
    ends_are(0, stored);
    for (size_t i = 0; i < MANY; i++)
        cr_assert_eq(md[i].offset, -1);
    ok(leat_send_many(p, t, recs, 2, md)); // what fits, fits
    ends_are(0, stored + 2);
    ok(leat_close_all(mq, 0));
}

Test(send_many, a_topic_that_rejects_takes_a_batch_that_just_fits) {
    leat_topic_options by_count = { .retention_records = 10, .when_full = LEAT_REJECT };
    leat_topic_options by_bytes = { .retention_bytes = 400, .when_full = LEAT_REJECT };
    for (int bytes = 0; bytes < 2; bytes++) {
        open_store_with(0, bytes ? by_bytes : by_count, LEAT_ACKS_LOG);
        for (size_t i = 0; i < 11; i++)
            recs[i] = (leat_record){ .value = { large, 7 } }; // 40 bytes each
        fails(LEAT_EFULL, leat_send_many(p, t, recs, 11, md));
        ends_are(0, 0);
        ok(leat_send_many(p, t, recs, 4, md));
        fails(LEAT_EFULL, leat_send_many(p, t, recs, 7, md));
        ends_are(0, 4);
        ok(leat_send_many(p, t, recs, 6, md));
        ends_are(0, 10);
        fails(LEAT_EFULL, leat_send_many(p, t, recs, 1, md));
        ok(leat_close_all(mq, 0));
    }
}

// The batches go in the order of their partitions; where one fails, those before it are stored.
Test(send_many, a_planned_failure_leaves_the_batches_before_it) {
    static const int ops[] = { LEAT_OP_APPEND, LEAT_OP_SPACE };
    for (size_t k = 0; k < 2; k++) {
        open_store(0, PARTS);
        for (size_t i = 0; i < 40; i++)
            recs[i] = (leat_record){ .value = LEAT_STR("v"),
                                     .to_partition = LEAT_PARTITION((int32_t)i % PARTS) };
        ok(leat_fault_push(mq, ops[k], "t", 2, LEAT_ENOSPC, 1, 0));
        fails(LEAT_ENOSPC, leat_send_many(p, t, recs, 40, md));
        for (int64_t i = 0; i < 40; i++)
            cr_assert_eq(md[i].offset, i % PARTS < 2 ? i / PARTS : -1, "record %d", (int)i);
        ends_are(0, 10);
        ends_are(1, 10);
        ends_are(2, 0);
        ends_are(3, 0);
        ok(leat_send_many(p, t, recs, 40, md)); // once: counted for each batch, not each record
        ends_are(2, 10);
        ends_are(3, 10);
        ok(leat_close_all(mq, 0));
    }
}

// An allocator that refuses one allocation.
static int64_t refuse_at;

static void *refusing(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0) {
        free(old);
        return NULL;
    }
    return --refuse_at == 0 ? NULL : realloc(old, size);
}

Test(send_many, without_memory_nothing_is_stored_of_a_batch) {
    leat_options o = { .alloc = refusing, .clock = LEAT_CLOCK_MANUAL, .seed = 3 };
    int rc = LEAT_ENOMEM, tries = 0;
    for (int64_t k = 1; rc != 0; k++, tries++) {
        ok(leat_open_memory(&o, &mq));
        ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = PARTS }, &t));
        ok(leat_producer_open(mq, NULL, &p));
        number(100);
        refuse_at = k;
        rc = leat_send_many(p, t, recs, 100, md);
        cr_assert(rc == 0 || rc == LEAT_ENOMEM, "%s", leat_errmsg());
        refuse_at = 0;
        int64_t sum[PARTS] = { 0 };
        for (int i = 0; i < 100; i++)
            if (md[i].offset >= 0)
                sum[md[i].partition]++;
        for (int32_t i = 0; i < PARTS; i++)
            ends_are(i, sum[i]);
        if (rc != 0)
            ok(leat_send_many(p, t, recs, 100, md));
        ok(leat_close_all(mq, 0));
    }
    cr_assert_gt(tries, 2 + PARTS);
}

static void durable_ends_are(int32_t partition, int64_t end) {
    leat_range r;
    ok(leat_topic_range(t, partition, &r));
    cr_assert_eq(r.durable_end, end);
}

Test(send_many, with_acks_disk_each_partition_is_synced_once, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        open_store_with(disk, (leat_topic_options){ .partitions = PARTS }, LEAT_ACKS_DISK);
        for (size_t i = 0; i < 40; i++)
            recs[i] = (leat_record){ .value = LEAT_STR("v"),
                                     .to_partition = LEAT_PARTITION((int32_t)i % 3) };
        ok(leat_send_many(p, t, recs, 40, md));
        for (int32_t i = 0; i < PARTS; i++)
            durable_ends_are(i, i == 0 ? 14 : i < 3 ? 13 : 0);
        // One partition's sync fails: unknown, all told where they are, the others are durable.
        ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 1, LEAT_EIO, LEAT_FOREVER, 0));
        fails(LEAT_EIO, leat_send_many(p, t, recs, 40, md));
        for (int i = 0; i < 40; i++)
            cr_assert_geq(md[i].offset, 13);
        durable_ends_are(0, 28);
        durable_ends_are(1, 13);
        durable_ends_are(2, 26);
        // And it takes no more, but what comes before it does, durably.
        fails(LEAT_EPOISONED, leat_send_many(p, t, recs, 40, md));
        for (int i = 0; i < 40; i++)
            cr_assert_eq(md[i].offset >= 0, i % 3 == 0);
        durable_ends_are(0, 42);
        ok(leat_fault_clear(mq));
        int rc = leat_close_all(mq, 0);
        cr_assert(disk ? rc < 0 : rc == 0, "%d", rc);
        scratch_remove(dir);
    }
}

// What a process leaves that dies in a batch: the batch goes, what was before it stays.
Test(send_many, a_batch_whose_end_is_missing_is_cut, .init = make_dir, .fini = drop_dir) {
    char copy[SCRATCH_PATH], path[SCRATCH_PATH];
    for (int disk = 1; disk < 3; disk++) {
        for (int cut = 1; cut <= 5; cut++) { // records of the batch that are not there
            open_store(disk, 1);
            number(5);
            for (size_t i = 0; i < 5; i++)
                recs[i] = (leat_record){ .value = { large, 7 } }; // 40 bytes each
            ok(leat_send_many(p, t, recs, 3, md));
            ok(leat_send_many(p, t, recs, 5, md));
            scratch_make(copy);
            scratch_remove(copy);
            scratch_copy(dir, copy);
            ok(leat_close_all(mq, 0));
            scratch_remove(dir);
            scratch_join(path, copy, "1/0/%020d.log", 0);
            static const char zeros[5 * 40];
            scratch_poke(path, (size_t)(4096 + (8 - cut) * 40), zeros, (size_t)cut * 40);
            ok(leat_open(copy, &(leat_options){ .write = disk, .acks = LEAT_ACKS_LOG }, &mq));
            ok(leat_topic_open(mq, "t", NULL, &t));
            ok(leat_producer_open(mq, NULL, &p));
            ends_are(0, 3);
            ok(leat_send(p, t, &recs[0], &md[0])); // where the batch was
            cr_assert_eq(md[0].offset, 3);
            ok(leat_close_all(mq, 0));
            ok(leat_open(copy, NULL, &mq));
            ok(leat_topic_open(mq, "t", NULL, &t));
            ends_are(0, 4);
            ok(leat_close_all(mq, 0));
            scratch_remove(copy);
        }
    }
}

// ---- two threads

enum { ROUNDS = 200, BATCH = 20 };

static void *send_rounds(void *arg) {
    char first = *(char *)arg;
    char value[BATCH][8];
    leat_record r[BATCH];
    leat_metadata where[BATCH];
    int bad = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < BATCH; i++) {
            int n = snprintf(value[i], sizeof value[i], "%c%d", first, i);
            r[i] = (leat_record){ .value = { value[i], (size_t)n } };
        }
        bad += leat_send_many(p, t, r, BATCH, where) != 0;
        for (int i = 1; i < BATCH; i++)
            bad += where[i].offset != where[0].offset + i;
    }
    return bad ? arg : NULL;
}

// What a reader sees ends between batches, and no batch has anything inside that is not of it.
Test(send_many, batches_of_two_threads_do_not_mix_and_are_seen_whole) {
    static char names[2] = { 'a', 'b' };
    pthread_t thread[2];
    open_store(0, 1);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, send_rounds, &names[i]), 0);
    leat_consumer *c;
    const leat_message *m;
    ok(leat_consumer_open(mq, NULL, &(leat_consumer_options){ .max_poll_records = 10000 }, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t" }, 1));
    char of = '?';
    for (int seen = 0; seen < 2 * ROUNDS * BATCH;) {
        int n = leat_poll(c, 0, &m);
        cr_assert(n >= 0 && n % BATCH == 0, "%d", n);
        for (int i = 0; i < n; i++, seen++) {
            const char *v = m[i].value.data;
            if (seen % BATCH == 0)
                of = v[0];
            cr_assert(v[0] == of && atoi(v + 1) == seen % BATCH, "%s at %d of %c", v, seen, of);
        }
    }
    for (int i = 0; i < 2; i++) {
        void *bad;
        cr_assert_eq(pthread_join(thread[i], &bad), 0);
        cr_assert_null(bad);
    }
    ok(leat_close_all(mq, 0));
}
