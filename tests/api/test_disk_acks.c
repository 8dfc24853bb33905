/* SPDX-License-Identifier: MIT */
// Commits and settling that return when the disk has them: what they make durable first, and what
// a failed sync leaves.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>

static leat_queue *q;

static void open_store(bool disk) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL, .acks = LEAT_ACKS_LOG };
    ok(fixture_open(disk ? dir : NULL, &o, NULL, NULL));
}

static void send_some(int n) {
    for (int i = 0; i < n; i++)
        ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("x") }, NULL));
}

static leat_consumer *member(const char *group, int32_t commit_acks) {
    leat_consumer *c;
    leat_consumer_options o = { .commit_acks = commit_acks };
    ok(leat_consumer_open(mq, group, &o, &c));
    ok(leat_consumer_subscribe(c, "t"));
    return c;
}

static void read_some(leat_consumer *c, int n) {
    const leat_message *m;
    gives(n, leat_poll(c, 0, &m));
}

static void durable_end_is(int64_t expected) {
    leat_range r;
    ok(leat_topic_range(t, 0, &r));
    cr_assert_eq(r.durable_end, expected, "durable end %d", (int)r.durable_end);
}

static void committed_is(leat_consumer *c, int64_t expected) {
    leat_position at;
    gives(1, leat_consumer_positions(c, 1, &at, 1));
    cr_assert_eq(at.offset, expected, "committed %d", (int)at.offset);
}

Test(commit_acks, options_are_checked) {
    leat_consumer *c;
    open_store(false);
    for (int32_t acks = -1; acks < 5; acks++) {
        leat_consumer_options o = { .commit_acks = acks };
        int rc = leat_consumer_open(mq, "g", &o, &c);
        bool good = acks == 0 || acks == LEAT_ACKS_LOG || acks == LEAT_ACKS_DISK;
        cr_assert_eq(rc, good ? 0 : LEAT_EINVAL, "%d: %d", acks, rc);
    }
    ok(leat_close_all(mq, 0));
}

Test(commit_acks, what_was_read_is_durable_before_the_commit_is, .init = make_dir,
     .fini = drop_dir) {
    for (int disk = 0; disk < 2; disk++) {
        open_store(disk);
        leat_consumer *log = member("log", LEAT_ACKS_LOG), *safe = member("safe", LEAT_ACKS_DISK);
        send_some(5);
        read_some(log, 5);
        ok(leat_commit(log));
        durable_end_is(0);
        read_some(safe, 5);
        ok(leat_commit(safe));
        durable_end_is(5);
        send_some(2);
        ok(leat_commit(safe)); // nothing new was read: what came later is not synced for it
        durable_end_is(5);
        committed_is(safe, 5);
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
    }
}

Test(commit_acks, a_partition_that_cannot_be_synced_is_not_committed) {
    open_store(false);
    leat_consumer *safe = member("safe", LEAT_ACKS_DISK), *log = member("log", 0);
    send_some(3);
    read_some(safe, 3);
    read_some(log, 3);
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 0, LEAT_EIO, 1, 0));
    fails(LEAT_EIO, leat_commit(safe));
    committed_is(safe, -1);
    fails(LEAT_EIO, leat_commit(safe)); // no second sync
    committed_is(safe, -1);
    ok(leat_commit(log));
    committed_is(log, 3);
    ok(leat_close_all(mq, 0));
}

Test(commit_acks, a_failed_sync_of_the_slots_poisons_the_store_until_it_is_opened_again,
     .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 2; disk++) {
        const leat_message *m;
        open_store(disk);
        leat_consumer *safe = member("safe", LEAT_ACKS_DISK), *log = member("log", 0);
        send_some(3);
        ok(leat_sync(mq)); // so that the slots are what is left to sync
        read_some(safe, 3);
        gives(3, leat_poll(log, 0, &m));
        ok(leat_fault_push(mq, LEAT_OP_SYNC, NULL, -1, LEAT_EIO, 1, 0));
        fails(LEAT_EIO, leat_commit(safe));
        committed_is(safe, 3); // in the page cache; whether it is on the disk nobody knows
        fails(LEAT_EPOISONED, leat_commit(safe));
        fails(LEAT_EPOISONED, leat_sync(mq));
        fails(LEAT_EPOISONED, leat_send(p, t, &(leat_record){ .value = LEAT_STR("x") }, NULL));
        ok(leat_commit(log));
        ok(leat_consumer_seek(log, "t", 0, LEAT_BEGIN));
        gives(3, leat_poll(log, 0, &m)); // reads go on
        cr_assert_eq(leat_close_all(mq, 0), disk ? LEAT_EPOISONED : 0);
        if (!disk)
            continue;
        open_store(true);
        safe = member("safe", LEAT_ACKS_DISK);
        committed_is(safe, 3); // no power was cut
        send_some(1);
        read_some(safe, 1);
        ok(leat_commit(safe));
        ok(leat_close_all(mq, 0));
    }
}

Test(commit_acks, what_another_member_owns_is_left_out) {
    open_store(false);
    ok(leat_topic_open(mq, "u", &(leat_topic_options){ .partitions = 2 }, &t));
    leat_consumer *a, *b;
    const leat_message *m;
    leat_consumer_options o = { .commit_acks = LEAT_ACKS_DISK };
    ok(leat_consumer_open(mq, "g", &o, &a));
    ok(leat_consumer_subscribe(a, "u"));
    for (int32_t i = 0; i < 2; i++)
        ok(leat_send(p, t,
                     &(leat_record){ .value = LEAT_STR("x"), .to_partition = LEAT_PARTITION(i) },
                     NULL));
    gives(2, leat_poll(a, 0, &m));
    ok(leat_consumer_open(mq, "g", &o, &b));
    ok(leat_consumer_subscribe(b, "u"));
    gives(0, leat_poll(a, 0, &m)); // gives partition 1 up
    fails(LEAT_EFENCED, leat_commit(a));
    leat_position at;
    gives(1, leat_consumer_positions(b, 1, &at, 1));
    cr_assert_eq(at.offset, -1);
    gives(1, leat_poll(b, 0, &m));
    ok(leat_commit(b));
    ok(leat_close_all(mq, 0));
}

// ---- settling

static void open_queue(bool disk, leat_queue_options options) {
    open_store(disk);
    ok(leat_queue_open(mq, "q", &options, &q));
}

static void fill(int n) {
    for (int i = 0; i < n; i++)
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x") }, NULL));
}

Test(settle_acks, is_a_setting_of_the_queue, .init = make_dir, .fini = drop_dir) {
    leat_queue *same;
    leat_queue_options disk = { .settle_acks = LEAT_ACKS_DISK };
    open_queue(true, disk);
    for (int32_t acks = -1; acks < 5; acks++) {
        leat_queue_options o = { .settle_acks = acks };
        bool good = acks == 0 || acks == LEAT_ACKS_DISK;
        int rc = leat_queue_open(mq, "q", &o, &same);
        int expected = good ? 0 : acks == LEAT_ACKS_LOG ? LEAT_EEXIST : LEAT_EINVAL;
        cr_assert_eq(rc, expected, "%d: %d", acks, rc);
    }
    ok(leat_close_all(mq, 0));
    open_store(true); // it is kept
    leat_queue_options log = { .settle_acks = LEAT_ACKS_LOG };
    fails_saying(LEAT_EEXIST, "settle_acks", leat_queue_open(mq, "q", &log, &q));
    ok(leat_queue_open(mq, "q", &disk, &q));
    log.flags = LEAT_ALTER;
    ok(leat_queue_open(mq, "q", &log, &same));
    fails_saying(LEAT_EEXIST, "settle_acks", leat_queue_open(mq, "q", &disk, &same));
    ok(leat_close_all(mq, 0));
}

// Many messages over several segments, done in an order that lets sheets go, and nacked, and dead.
Test(settle_acks, settling_on_disk_is_settling, .init = make_dir, .fini = drop_dir) {
    enum { N = 600 };
    leat_queue_options options = {
        .settle_acks = LEAT_ACKS_DISK, .deliveries_max = 2, .dead_letter = "dead", .topic = "small"
    };
    static char large[200];
    for (int mode = 0; mode < 3; mode++) {
        leat_queue *dead;
        leat_queue_stats s;
        leat_message m[10];
        leat_options o = { .clock = LEAT_CLOCK_MANUAL, .acks = LEAT_ACKS_LOG, .write = mode };
        ok(mode ? leat_open(dir, &o, &mq) : leat_open_memory(&o, &mq));
        ok(leat_topic_open(mq, "small", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
        ok(leat_queue_open(mq, "q", &options, &q));
        ok(leat_queue_open(mq, "dead", NULL, &dead));
        for (int i = 0; i < N; i++)
            ok(leat_queue_send(q, &(leat_record){ .value = { large, sizeof large } }, NULL));
        for (int i = 0; i < N / 10; i++) {
            gives(10, leat_queue_receive(q, 0, m, 10));
            for (int k = 9; k >= 0; k--)
                ok(k == 3 ? leat_queue_nack(q, &m[k], 1000, 0) : leat_queue_ack(q, &m[k]));
        }
        ok(leat_clock_advance(mq, 1000));
        for (int i = 0; i < N / 10; i++) {
            gives(1, leat_queue_receive(q, 0, m, 1));
            ok(leat_queue_nack(q, &m[0], 0, 0)); // its second try
        }
        ok(leat_queue_get_stats(q, &s, sizeof s));
        cr_assert(s.done == N * 9 / 10 && s.dead == N / 10 && s.available == 0 && s.leased == 0);
        ok(leat_close_all(mq, 0));
        if (!mode)
            continue;
        ok(leat_open(dir, &o, &mq));
        ok(leat_queue_open(mq, "q", NULL, &q));
        gives(0, leat_queue_receive(q, 0, m, 1));
        ok(leat_queue_open(mq, "dead", NULL, &dead));
        for (int i = 0; i < N / 100; i++)
            gives(10, leat_queue_receive(dead, 0, m, 10));
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
    }
}

Test(settle_acks, a_failed_sync_poisons_the_settling_of_this_queue, .init = make_dir,
     .fini = drop_dir) {
    for (int disk = 0; disk < 2; disk++) {
        leat_message m[4], other;
        leat_queue *log;
        leat_queue_stats s;
        open_queue(disk, (leat_queue_options){ .settle_acks = LEAT_ACKS_DISK });
        ok(leat_queue_open(mq, "log", NULL, &log));
        fill(4);
        ok(leat_queue_send(log, &(leat_record){ .value = LEAT_STR("x") }, NULL));
        gives(4, leat_queue_receive(q, 0, m, 4));
        gives(1, leat_queue_receive(log, 0, &other, 1));
        ok(leat_queue_ack(q, &m[0]));
        ok(leat_fault_push(mq, LEAT_OP_SYNC, "q", -1, LEAT_EIO, 1, 0));
        leat_message copy = m[2];
        fails(LEAT_EIO, leat_queue_ack(q, &m[1]));
        fails(LEAT_ESTALE, leat_queue_ack(q, &m[1])); // it is done, at least in the page cache
        fails(LEAT_EPOISONED, leat_queue_ack(q, &m[2]));
        fails(LEAT_EPOISONED, leat_queue_ack(q, &copy)); // the lease stands
        fails(LEAT_EPOISONED, leat_queue_nack(q, &m[3], 5, 0));
        ok(leat_queue_extend(q, &copy, 1000));
        ok(leat_queue_get_stats(q, &s, sizeof s));
        cr_assert(s.done == 2 && s.leased == 2, "%d done", (int)s.done);
        fill(1); // the log is well
        ok(leat_queue_ack(log, &other));
        int rc = leat_close_all(mq, 0);
        cr_assert_eq(rc, disk ? LEAT_EPOISONED : 0, "%d", rc);
        if (!disk)
            continue;
        open_store(true);
        ok(leat_queue_open(mq, "q", NULL, &q));
        gives(3, leat_queue_receive(q, 0, m, 4));
        for (int i = 0; i < 3; i++)
            ok(leat_queue_ack(q, &m[i]));
        ok(leat_close_all(mq, 0));
    }
}

Test(settle_acks, a_nack_is_held_to_it_too) {
    leat_message m[2];
    open_queue(false, (leat_queue_options){ .settle_acks = LEAT_ACKS_DISK });
    fill(2);
    gives(2, leat_queue_receive(q, 0, m, 2));
    ok(leat_queue_nack(q, &m[0], 0, 0));
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "q", 0, LEAT_ENOSPC, 1, 0));
    fails(LEAT_EIO, leat_queue_nack(q, &m[1], 1000, 0));
    ok(leat_clock_advance(mq, 1000));
    gives(2, leat_queue_receive(q, 0, m, 2)); // it goes on with what is in the page cache
    ok(leat_close_all(mq, 0));
}
