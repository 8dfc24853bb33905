/* SPDX-License-Identifier: MIT */
// .sync_interval_ms bounds what acks LOG can lose; and the thread that sees to it, or its absence.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SOON_MS = 20000 }; // bound of what must happen soon, in real time

static void open_store(const char *path, const leat_options *o) {
    ok(fixture_open(path, o, &(leat_topic_options){ .partitions = 3 },
                    &(leat_producer_options){ .acks = LEAT_ACKS_LOG }));
}

static void done(void) {
    ok(leat_close_all(mq, 0));
}

static void send_to(int32_t partition) {
    ok(leat_send(
        p, t, &(leat_record){ .value = LEAT_STR("x"), .to_partition = LEAT_PARTITION(partition) },
        NULL));
}

static int64_t durable(int32_t partition) {
    leat_range r;
    ok(leat_topic_range(t, partition, &r));
    return r.durable_end;
}

static uint64_t threads(void) {
    leat_stats s;
    ok(leat_get_stats(mq, &s, sizeof s));
    return s.threads;
}

static void after(int64_t ms) {
    ok(leat_clock_advance(mq, ms));
}

Test(sync_interval, what_is_sent_is_durable_so_long_after_and_not_before) {
    for (int disk = 0; disk < 2; disk++) {
        make_root();
        leat_options o = { .clock = LEAT_CLOCK_MANUAL, .sync_interval_ms = 100 };
        open_store(disk ? dir : NULL, &o);
        after(100); // that of making the topic
        send_to(0);
        after(60);
        send_to(1);
        after(39);
        cr_assert(durable(0) == 0 && durable(1) == 0);
        after(1);
        cr_assert(durable(0) == 1 && durable(1) == 1, "one sync for all that there is");
        send_to(0);
        after(99);
        cr_assert_eq(durable(0), 1);
        after(1);
        cr_assert_eq(durable(0), 2);
        int64_t in_ms;
        ok(leat_next_due(mq, &in_ms));
        cr_assert_eq(in_ms, LEAT_FOREVER, "nothing is planned while nothing happens");
        after(1000000);
        send_to(2);
        ok(leat_next_due(mq, &in_ms));
        cr_assert_eq(in_ms, 100);
        cr_assert_eq(threads(), 0u);
        done();
        drop_root();
    }
}

Test(sync_interval, off_it_does_nothing) {
    static const int64_t off[] = { 0, LEAT_FOREVER, LEAT_ZERO };
    for (int i = 0; i < 3; i++) {
        leat_options o = { .clock = LEAT_CLOCK_MANUAL, .sync_interval_ms = off[i] };
        open_store(NULL, &o);
        send_to(0);
        after(INT64_C(1000000000));
        cr_assert_eq(durable(0), 0);
        done();
    }
    fails_saying(LEAT_EINVAL, "sync_interval_ms",
                 leat_open_memory(&(leat_options){ .sync_interval_ms = -3 }, &mq));
    open_store(NULL, &(leat_options){ .clock = LEAT_CLOCK_MANUAL, .sync_interval_ms = INT64_MAX });
    send_to(0);
    after(1000000000);
    cr_assert_eq(durable(0), 0);
    done();
}

// Commits, or makes a topic, and nothing else that would have to be synced; the power goes `ms`
// later. Returns  whether that is left.
static bool left_after_power_cut(bool commit, uint64_t seed, int64_t ms) {
    leat *again;
    leat_consumer *c;
    const leat_message *m;
    leat_lag lag;
    leat_options o = { .flags = LEAT_CRASHABLE,
                       .threads = LEAT_NO_THREADS,
                       .clock = LEAT_CLOCK_MANUAL,
                       .seed = seed,
                       .sync_interval_ms = 100 };
    open_store(NULL, &o);
    send_to(0);
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    gives(1, leat_poll(c, 0, &m));
    after(100);
    if (commit)
        ok(leat_commit(c));
    else
        ok(leat_topic_open(mq, "late", NULL, &t));
    after(ms);
    ok(leat_crash(mq, LEAT_POWER_CUT, &again));
    ok(leat_close_all(mq, 0));
    mq = again;
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .flags = LEAT_MUST_EXIST }, &t));
    cr_assert_eq(durable(0), 1);
    leat_topic_options exists = { .flags = LEAT_MUST_EXIST };
    bool left = commit ? leat_group_lag(mq, "g", &lag, 1, sizeof lag) >= 1 && lag.committed == 1
                       : leat_topic_open(mq, "late", &exists, &t) == 0;
    done();
    return left;
}

Test(sync_interval, after_it_a_power_cut_takes_no_record_no_topic_and_no_commit) {
    for (int commit = 0; commit < 2; commit++) {
        int lost = 0;
        for (uint64_t seed = 1; seed <= 20; seed++) {
            cr_assert(left_after_power_cut(commit, seed, 100), "seed %d", (int)seed);
            lost += !left_after_power_cut(commit, seed, 99);
        }
        cr_assert_gt(lost, 0, "before it is over it may go");
    }
}

Test(sync_interval, one_that_fails_poisons_and_is_not_tried_in_circles, .init = make_root,
     .fini = drop_root) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL, .sync_interval_ms = 1 };
    open_store(dir, &o);
    after(1);
    send_to(0);
    send_to(1);
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 0, LEAT_EIO, 1, 0));
    after(1);
    cr_assert(durable(0) == 0 && durable(1) == 1, "the others are synced");
    fails(LEAT_EPOISONED,
          leat_send(p, t,
                    &(leat_record){ .value = LEAT_STR("x"), .to_partition = LEAT_PARTITION(0) },
                    NULL));
    send_to(1);
    after(100000);
    cr_assert_eq(durable(1), 2);
    (void)leat_close_all(mq, 0);
}

// ---- the thread

// Waits until the record is durable, which nobody here makes it.
static void waits_until_durable(int32_t partition, int64_t offset) {
    leat_consumer *c;
    const leat_message *m;
    leat_position at = { .topic = "t", .partition = partition, .offset = offset };
    ok(leat_consumer_open(mq, NULL, &(leat_consumer_options){ .isolation = LEAT_READ_DURABLE },
                          &c));
    ok(leat_consumer_assign(c, &at, 1));
    gives(1, leat_poll(c, SOON_MS, &m));
    ok(leat_consumer_close(c));
}

Test(sync_interval, a_thread_syncs_on_the_system_clock_and_ends_at_the_close) {
    for (int disk = 0; disk < 2; disk++) {
        make_root();
        leat_options o = { .sync_interval_ms = 1 };
        open_store(disk ? dir : NULL, &o);
        cr_assert_eq(threads(), 1u);
        for (int i = 0; i < 30; i++) {
            send_to(i % 3);
            waits_until_durable(i % 3, i / 3);
        }
        done();
        drop_root();
    }
}

Test(sync_interval, without_threads_whoever_blocks_or_asks_does_it) {
    int64_t in_ms = -5;
    leat_options o = { .threads = LEAT_NO_THREADS, .sync_interval_ms = 1 };
    open_store(NULL, &o);
    cr_assert_eq(threads(), 0u);
    send_to(0);
    waits_until_durable(0, 0);
    send_to(0);
    while (leat_run_due(mq) == 0) { // at most a millisecond
        ok(leat_next_due(mq, &in_ms));
        cr_assert(in_ms == 0 || in_ms == 1);
    }
    cr_assert_eq(durable(0), 2);
    done();
}

Test(sync_interval, no_thread_starts_before_something_needs_it) {
    leat_topic *u;
    open_store(NULL, NULL);
    send_to(0);
    cr_assert_eq(threads(), 0u);
    ok(leat_topic_open(mq, "u", &(leat_topic_options){ .segment_ms = 1, .retention_ms = 1 }, &u));
    cr_assert_eq(threads(), 1u);
    leat_range r = { 0 };
    struct timespec now, limit;
    (void)clock_gettime(CLOCK_MONOTONIC, &limit);
    limit.tv_sec += SOON_MS / 1000;
    while (r.end < 2 || r.begin == 0) { // until it deletes what was sent; the first is rolled away
        if (r.begin == 0)
            ok(leat_send(p, u, &(leat_record){ .value = LEAT_STR("x") }, NULL));
        (void)sched_yield();
        ok(leat_topic_range(u, 0, &r));
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        cr_assert_lt(now.tv_sec, limit.tv_sec);
    }
    ok(leat_shutdown(mq));
    done();
}

static void *sends(void *arg) {
    leat_producer *mine;
    if (leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &mine) != 0)
        return NULL;
    for (int i = 0; i < 3000; i++)
        if (leat_send(mine, t, &(leat_record){ .value = LEAT_STR("x") }, NULL) != 0)
            break;
    (void)leat_producer_close(mine, 0);
    return arg;
}

Test(sync_interval, the_thread_works_while_others_send_make_delete_and_crash, .init = make_root,
     .fini = drop_root) {
    leat_options o = { .flags = LEAT_CRASHABLE, .sync_interval_ms = 1, .seed = 1 };
    leat *again;
    pthread_t thread[3];
    for (int round = 0; round < 3; round++) {
        ok(round == 2 ? leat_open(dir, &o, &mq) : leat_open_memory(&o, &mq));
        ok(leat_topic_open(mq, "t",
                           &(leat_topic_options){ .partitions = 2,
                                                  .segment_bytes = 16384,
                                                  .segment_ms = 2,
                                                  .retention_ms = 2,
                                                  .keep_until_consumed = round == 1 },
                           &t));
        for (int i = 0; i < 3; i++)
            cr_assert_eq(pthread_create(&thread[i], NULL, sends, mq), 0);
        for (int i = 0; i < 20; i++) {
            leat_topic *u;
            ok(leat_topic_open(mq, "brief", &(leat_topic_options){ .retention_ms = 1 }, &u));
            ok(leat_topic_delete(mq, "brief"));
        }
        if (round < 2)
            ok(leat_crash(mq, round ? LEAT_POWER_CUT : LEAT_KILL, &again));
        for (int i = 0; i < 3; i++)
            cr_assert_eq(pthread_join(thread[i], NULL), 0);
        done();
        if (round < 2)
            ok(leat_close_all(again, 0));
    }
}

Test(sync_interval, a_fork_has_no_thread_and_leaves_the_parents_alone, .init = make_root,
     .fini = drop_root) {
    leat_options o = { .sync_interval_ms = 1 };
    open_store(dir, &o);
    for (int i = 0; i < 5; i++) {
        send_to(0);
        pid_t child = fork();
        if (child == 0) {
            leat_stats s;
            bool good = leat_get_stats(mq, &s, sizeof s) == LEAT_EFORK &&
                        leat_run_due(mq) == LEAT_EFORK && leat_close_all(mq, 0) == 0;
            _exit(good ? 0 : 1);
        }
        int status = -1;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert_eq(status, 0);
        send_to(0);
        waits_until_durable(0, 2 * i + 1);
    }
    done();
}
