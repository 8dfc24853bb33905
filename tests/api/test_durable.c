/* SPDX-License-Identifier: MIT */
// What is durable and who sees it: leat_sync, the durable end, consumers that read no further; and
// what topics tell of themselves: the list, offsets by time.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { REAL_MS = 20000, SECOND = 1000 };

static void open_store(bool disk) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL, .acks = LEAT_ACKS_LOG };
    ok(fixture_open(disk ? dir : NULL, &o, NULL, NULL));
}

static void send_at(int64_t timestamp_ms) {
    ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("x"), .timestamp_ms = timestamp_ms },
                 NULL));
}

static void durable_end_is(int64_t expected) {
    leat_range r;
    ok(leat_topic_range(t, 0, &r));
    cr_assert_eq(r.durable_end, expected, "durable end %d", (int)r.durable_end);
}

Test(durable, sync_moves_the_durable_end_to_what_was_sent) {
    for (int disk = 0; disk < 2; disk++) {
        scratch_make(dir);
        open_store(disk);
        send_at(1);
        send_at(2);
        durable_end_is(0);
        ok(leat_sync(mq));
        durable_end_is(2);
        send_at(3);
        durable_end_is(2);
        ok(leat_close_all(mq, 0));
        if (disk) {
            open_store(true);
            durable_end_is(3); // close syncs
            ok(leat_close_all(mq, 0));
        }
        scratch_remove(dir);
    }
    fails(LEAT_EINVAL, leat_sync(NULL));
}

Test(durable, a_durable_reader_sees_nothing_that_a_power_cut_can_take_back) {
    open_store(false);
    leat_consumer *c;
    const leat_message *m;
    leat_consumer_options o = { .isolation = LEAT_READ_DURABLE };
    ok(leat_consumer_open(mq, "g", &o, &c));
    ok(leat_consumer_subscribe(c, "t"));
    send_at(1);
    gives(0, leat_poll(c, 0, &m));
    ok(leat_sync(mq));
    gives(1, leat_poll(c, 0, &m));
    o.isolation = 3;
    leat_consumer *bad;
    fails_saying(LEAT_EINVAL, "isolation", leat_consumer_open(mq, "g", &o, &bad));
    ok(leat_close_all(mq, 0));
}

static int polled;

static void *poll_one(void *arg) {
    const leat_message *m;
    polled = leat_poll(arg, 60 * SECOND, &m);
    return NULL;
}

Test(durable, a_blocked_durable_reader_wakes_when_it_is_durable) {
    open_store(false);
    leat_consumer *c;
    pthread_t thread;
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .isolation = LEAT_READ_DURABLE }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    cr_assert_eq(pthread_create(&thread, NULL, poll_one, c), 0);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    send_at(1); // in the log, which is not enough
    ok(leat_clock_advance(mq, SECOND));
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(leat_sync(mq));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(polled, 1);
    ok(leat_close_all(mq, 0));
}

Test(topic, offset_at_finds_the_first_record_at_or_behind_a_time) {
    static const int64_t times[] = { 50, 10, 60, 60, 20, 90, 5 };
    static const struct {
        int64_t ts, offset;
        int found;
    } cases[] = { { 0, 0, 1 },  { 50, 0, 1 }, { 51, 2, 1 }, { 60, 2, 1 },
                  { 61, 5, 1 }, { 90, 5, 1 }, { 91, 7, 0 } };
    open_store(false);
    int64_t offset;
    gives(0, leat_topic_offset_at(t, 0, 0, &offset));
    cr_assert_eq(offset, 0);
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        send_at(times[i]);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gives(cases[i].found, leat_topic_offset_at(t, 0, cases[i].ts, &offset));
        cr_assert_eq(offset, cases[i].offset, "time %d: offset %d", (int)cases[i].ts, (int)offset);
    }
    fails(LEAT_ERANGE, leat_topic_offset_at(t, 1, 0, &offset));
    fails(LEAT_EINVAL, leat_topic_offset_at(t, 0, 0, NULL));
    fails(LEAT_EINVAL, leat_topic_offset_at(NULL, 0, 0, &offset));
    ok(leat_close_all(mq, 0));
}

// Against a linear scan, over several segments and past a reopen.
Test(topic, offset_at_agrees_with_a_scan) {
    enum { RECORDS = 3000 };
    static int64_t times[RECORDS];
    scratch_make(dir);
    ok(leat_open(dir, &(leat_options){ .acks = LEAT_ACKS_LOG }, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 65536 }, &t));
    ok(leat_producer_open(mq, NULL, &p));
    uint32_t x = 1;
    for (int i = 0; i < RECORDS; i++) {
        x = x * 1664525 + 1013904223;
        times[i] = 1000 + i + (int64_t)(x >> 25); // forwards on the whole, and back now and then
        send_at(times[i]);
    }
    for (int round = 0; round < 2; round++) {
        for (int64_t ts = 990; ts < 1000 + RECORDS + 140; ts += 7) {
            int64_t expected = 0, offset;
            while (expected < RECORDS && times[expected] < ts)
                expected++;
            gives(expected < RECORDS, leat_topic_offset_at(t, 0, ts, &offset));
            cr_assert_eq(offset, expected);
        }
        ok(leat_close_all(mq, 0));
        ok(leat_open(dir, NULL, &mq));
        ok(leat_topic_open(mq, "t", NULL, &t));
    }
    ok(leat_close_all(mq, 0));
    scratch_remove(dir);
}

Test(topic, list_names_what_exists) {
    open_store(false);
    leat_topic *other;
    leat_queue *q;
    leat_topic_info info[4];
    ok(leat_topic_open(mq, "other", &(leat_topic_options){ .partitions = 5 }, &other));
    ok(leat_queue_open(mq, "q", NULL, &q));
    send_at(1);
    gives(3, leat_topic_list(mq, NULL, 0, sizeof info[0]));
    gives(3, leat_topic_list(mq, info, 2, sizeof info[0]));
    gives(3, leat_topic_list(mq, info, 4, sizeof info[0]));
    cr_assert_str_eq(info[0].name, "t");
    cr_assert_gt(info[0].bytes, 0);
    cr_assert_str_eq(info[1].name, "other");
    cr_assert(info[1].partitions == 5 && info[1].bytes == 0);
    cr_assert_str_eq(info[2].name, "q");
    ok(leat_topic_delete(mq, "t"));
    gives(2, leat_topic_list(mq, info, 4, sizeof info[0]));
    cr_assert_str_eq(info[0].name, "other");
    fails(LEAT_EINVAL, leat_topic_list(mq, info, 4, 1));
    fails(LEAT_EINVAL, leat_topic_list(mq, NULL, 1, sizeof info[0]));
    ok(leat_close_all(mq, 0));
}

// A power cut can keep a commit and lose the records before it. Their offsets are not used again,
// or the group would skip what is sent later.
Test(durable, what_was_committed_and_lost_is_never_another_record) {
    for (int rounds = 0; rounds < 2; rounds++) {
        char path[SCRATCH_PATH];
        leat_consumer *c;
        const leat_message *m;
        scratch_make(dir);
        open_store(true);
        for (int i = 0; i < 10; i++)
            send_at(1 + i);
        size_t size;
        ok(leat_consumer_open(mq, "g", NULL, &c));
        ok(leat_consumer_subscribe(c, "t"));
        gives(10, leat_poll(c, 0, &m));
        ok(leat_commit(c));
        char copy[SCRATCH_PATH];
        scratch_make(copy);
        scratch_remove(copy);    // a name that is free
        scratch_copy(dir, copy); // before anything is synced
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
        scratch_join(path, copy, "1/0/%020d.log", 0);
        unsigned char *bytes = scratch_read(path, &size);
        memset(bytes + 4096 + 40 * 4, 0, size - 4096 - 40 * 4); // the disk has four records
        scratch_write(path, bytes, size);
        free(bytes);
        ok(leat_open(copy, &(leat_options){ .acks = LEAT_ACKS_LOG, .clock = LEAT_CLOCK_MANUAL },
                     &mq));
        if (rounds == 1) { // it holds over another open, too
            ok(leat_close_all(mq, 0));
            ok(leat_open(copy, &(leat_options){ .acks = LEAT_ACKS_LOG, .clock = LEAT_CLOCK_MANUAL },
                         &mq));
        }
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_producer_open(mq, NULL, &p));
        leat_metadata md;
        ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("new") }, &md));
        cr_assert_eq(md.offset, 10);
        ok(leat_consumer_open(mq, "g", NULL, &c));
        ok(leat_consumer_subscribe(c, "t"));
        gives(1, leat_poll(c, 0, &m));
        is(m[0].value, "new");
        ok(leat_consumer_seek(c, "t", 0, LEAT_BEGIN));
        gives(5, leat_poll(c, 0, &m)); // four, the gap, one
        cr_assert(m[3].offset == 3 && m[4].offset == 10);
        gives(0, leat_poll(c, 0, &m));
        int64_t offset;
        gives(1, leat_topic_offset_at(t, 0, 1000000, &offset));
        cr_assert_eq(offset, 10);
        ok(leat_close_all(mq, 0));
        scratch_remove(copy);
    }
}
