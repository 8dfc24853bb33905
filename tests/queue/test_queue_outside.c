/* SPDX-License-Identifier: MIT */
// Queues changed from outside, where the system fails under it from some call on, and where threads
// do all of it at once.
#include <criterion/criterion.h>

#include "lib/faulty_os.h"
#include "queue/room.h"
#include "store/store.h"

#include "lib/queues.h" // behind those: its names are short

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 400, ROUNDS = 60 };

static struct faulty_os faulty; // large
static leat_queue *q, *dead;

static void open_faulty(int32_t write) {
    leat_options o = {
        .clock = LEAT_CLOCK_MANUAL, .seed = 3, .acks = LEAT_ACKS_LOG, .write = write
    };
    faulty_os_init(&faulty);
    ok(lt_store_open(dir, &o, &faulty.os, &mq));
}

// From the n-th call on everything fails. Returns  false if nothing did.
static bool close_failing(void) {
    bool failed = faulty.faults > 0;
    (void)leat_close_all(mq, 0);
    faulty_os_plan(&faulty, NULL);
    faulty_os_fini(&faulty);
    return failed;
}

static void fail_from(long at) {
    faulty_os_plan(&faulty, &(struct faulty_plan){ .at = at, .sticky = true });
}

static bool listed(const char *name) {
    const char *names[8];
    int count = leat_queue_list(mq, names, 8);
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static bool has_topic(const char *name) {
    leat_topic *t;
    return leat_topic_open(mq, name, &(leat_topic_options){ .flags = LEAT_MUST_EXIST }, &t) == 0;
}

Test(outside, a_delete_that_fails_anywhere_leaves_it_whole_or_gone) {
    int whole = 0, gone = 0;
    bool failed = true;
    for (long at = 1; failed && at < STEPS; at++) {
        make_dir();
        open_faulty(at % 2 ? LEAT_WRITE_MAPPED : LEAT_WRITE_PWRITE);
        q = queues_make("a", &(leat_queue_options){ .acks = LEAT_ACKS_DISK });
        queues_send_n(q, 3, 0);
        take(q, &m, "0", 1);
        ok(leat_queue_ack(q, &m));
        ok(leat_queue_close(q));
        ok(leat_sync(mq));
        fail_from(at);
        int rc = leat_queue_delete(mq, "a");
        failed = close_failing();
        cr_assert(rc == 0 || failed);
        queues_open_disk(LEAT_WRITE_MAPPED);
        bool is = listed("a");
        cr_assert_eq(is, has_topic("a"), "call %ld: queue %d, topic %d", at, is, has_topic("a"));
        cr_assert(!is || rc != 0, "call %ld: was deleted and is there", at);
        q = queues_make("a", NULL);
        counts(q, is ? 2 : 0, 0, 0, 0);
        whole += is;
        gone += !is;
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
    cr_assert(whole > 0 && gone > 0 && !failed, "whole %d gone %d", whole, gone);
}

// One that was cut short behind its note ends at the next open, and a new one of that name is new.
Test(outside, a_delete_whose_topic_cannot_go_is_ended_by_the_next_open) {
    for (int again = 0; again < 2; again++) {
        make_dir();
        queues_open_disk(LEAT_WRITE_MAPPED);
        q = queues_make("a", NULL);
        queues_send_n(q, 3, 0);
        struct lt_queue_settings set = q->set;
        set.going = true;
        ok(lt_settings_write(q, &set));
        ok(leat_close_all(mq, 0));
        queues_open_disk(LEAT_WRITE_MAPPED);
        cr_assert(!listed("a") && !has_topic("a"));
        q = queues_make("a", NULL);
        counts(q, 0, 0, 0, 0);
        queues_send(q, "new");
        ok(leat_close_all(mq, 0));
        queues_open_disk(LEAT_WRITE_MAPPED);
        q = queues_make("a", NULL);
        counts(q, 1, 0, 0, 0);
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(outside, a_purge_that_fails_anywhere_leaves_each_partition_purged_or_whole) {
    int purged = 0, whole = 0;
    bool failed = true;
    for (long at = 1; failed && at < STEPS; at++) {
        make_dir();
        open_faulty(LEAT_WRITE_PWRITE);
        q = queues_make("a",
                        &(leat_queue_options){ .partitions = 2, .settle_acks = LEAT_ACKS_DISK });
        for (int i = 0; i < 6; i++)
            ok(leat_queue_send(
                q, &(leat_record){ .value = LEAT_STR("x"), .to_partition = 1 + i % 2 }, NULL));
        ok(leat_sync(mq));
        fail_from(at);
        uint64_t count = 99;
        int rc = leat_queue_purge(q, &count);
        leat_queue_stats s = queues_stats(q);
        cr_assert_eq(s.available, 6 - count, "call %ld: %d purged, %d there", at, (int)count,
                     (int)s.available);
        failed = close_failing();
        cr_assert(rc == 0 || failed);
        queues_open_disk(LEAT_WRITE_MAPPED);
        q = queues_make("a", NULL);
        s = queues_stats(q);
        cr_assert(s.available % 3 == 0 && s.available <= 6 - count, "call %ld: %d are there", at,
                  (int)s.available);
        purged += s.available == 0;
        whole += s.available == 6;
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
    cr_assert(purged > 0 && whole > 0 && !failed, "purged %d whole %d", purged, whole);
}

Test(outside, a_redrive_that_fails_anywhere_loses_nothing) {
    int stayed = 0, moved = 0;
    bool failed = true;
    for (long at = 1; failed && at < STEPS; at++) {
        make_dir();
        open_faulty(LEAT_WRITE_PWRITE);
        q = queues_make("a", &(leat_queue_options){ .dead_letter = "dead", .deliveries_max = 1 });
        dead = queues_make("dead", NULL);
        queues_send_n(q, 3, 0);
        for (int i = 0; i < 3; i++) {
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(leat_queue_nack(q, &m, 0, 0));
        }
        ok(leat_sync(mq));
        fail_from(at);
        uint64_t count = 99;
        int rc = leat_queue_redrive(dead, NULL, 0, &count);
        leat_queue_stats s = queues_stats(dead);
        cr_assert(s.available == 3 - count && s.moving == 0, "call %ld: %d moved, %d there", at,
                  (int)count, (int)s.available);
        failed = close_failing();
        cr_assert(rc == 0 || failed);
        queues_open_disk(LEAT_WRITE_MAPPED);
        q = queues_make("a", NULL);
        dead = queues_make("dead", NULL);
        uint64_t here = queues_stats(q).available, there = queues_stats(dead).available;
        cr_assert(here + there >= 3 && here >= count && here <= 3 && there <= 3,
                  "call %ld: %d came back, %d are dead", at, (int)here, (int)there);
        stayed += here == 0;
        moved += here == 3;
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
    cr_assert(stayed > 0 && moved > 0 && !failed, "stayed %d moved %d", stayed, moved);
}

Test(outside, expiry_that_fails_for_want_of_room_is_tried_again) {
    for (long at = 1; at < 12; at++) {
        make_dir();
        open_faulty(LEAT_WRITE_PWRITE);
        q = queues_make("a", &(leat_queue_options){ .retention_ms = SECOND });
        queues_send_n(q, 3, 0);
        faulty_os_plan(&faulty, &(struct faulty_plan){ .at = at,
                                                       .ops = FAULTY_BIT(FAULTY_PWRITE) |
                                                              FAULTY_BIT(FAULTY_OPEN) |
                                                              FAULTY_BIT(FAULTY_ALLOCATE) });
        ok(leat_clock_advance(mq, SECOND));
        leat_queue_stats s = queues_stats(q);
        cr_assert_eq(s.available + s.expired, 3);
        faulty_os_plan(&faulty, NULL);
        ok(leat_clock_advance(mq, SECOND));
        s = queues_stats(q);
        cr_assert(s.available == 0 && s.expired == 3, "call %ld: %d expired", at, (int)s.expired);
        (void)close_failing();
        drop_dir();
    }
}

// ---- threads

static atomic_bool stop;

static void *work(void *arg) {
    (void)arg;
    leat_message got[4];
    for (unsigned i = 0; !atomic_load(&stop); i++) {
        leat_record r = { .value = LEAT_STR("x") };
        if (leat_queue_send(q, &r, NULL) != 0)
            abort();
        int count = leat_queue_receive(i % 7 ? q : dead, 0, got, 4);
        for (int k = 0; k < count; k++)
            (void)(i % 3 ? leat_queue_nack(i % 7 ? q : dead, &got[k], i % 5 == 0, 0)
                         : leat_queue_ack(i % 7 ? q : dead, &got[k]));
    }
    return NULL;
}

static int ignore(const void *data, size_t size, void *ctx) {
    (void)data, (void)size, (void)ctx;
    return 0;
}

static void change_all(int i) {
    leat_message seen[8];
    const char *names[4];
    int count = leat_queue_peek(i % 2 ? q : dead, 1 + i % 4, 0, seen, 8);
    for (int k = 0; k < count; k++)
        ok(leat_message_release(mq, &seen[k]));
    for (int64_t k = 0; k < 8; k++)
        ok(leat_queue_explain(q, 0, k + 20 * i, ignore, NULL));
    ok(leat_queue_pause(q, i % 3 == 0));
    ok(leat_queue_redrive(dead, i % 2 ? q : NULL, 0, NULL));
    if (i % 8 == 0)
        ok(leat_queue_purge(i % 16 ? q : dead, NULL));
    gives(3, leat_queue_list(mq, names, 4));
    leat_queue_options o = { .flags = LEAT_ALTER,
                             .retention_ms = i % 2 ? 20 : LEAT_FOREVER,
                             .dead_letter = i % 4 < 2 ? "dead" : "third" };
    leat_queue *same;
    ok(leat_queue_open(mq, "a", &o, &same));
    ok(leat_queue_close(same));
    int rc = leat_queue_delete(mq, "third");
    cr_assert(rc == 0 || rc == LEAT_EBUSY, "%s", leat_errmsg());
    ok(leat_queue_close(queues_make("third", NULL)));
}

Test(outside, all_of_it_beside_workers) {
    leat_options o = { .seed = 3, .acks = LEAT_ACKS_LOG, .memory_max_bytes = INT64_C(1) << 31 };
    ok(leat_open_memory(&o, &mq));
    q = queues_make("a", &(leat_queue_options){ .deliveries_max = 2,
                                                .dead_letter = "dead",
                                                .dead_letter_expired = 1 });
    dead = queues_make("dead", NULL);
    ok(leat_queue_close(queues_make("third", NULL)));
    pthread_t thread[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, work, NULL);
    for (int i = 0; i < ROUNDS; i++)
        change_all(i);
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    atomic_store(&stop, false);
    ok(leat_queue_purge(q, NULL));
    counts(q, 0, 0, 0, 0);
    lt_lock(q->lock);
    cr_assert(lt_leases_check(&q->leases) && lt_window_check(&lt_queue_part(q, 0)->window));
    lt_unlock(q->lock);
    ok(leat_close_all(mq, 0));
}

// Numbers that a power cut took are in no state, also before a receive has come to them.
Test(outside, what_is_lost_counts_nowhere) {
    queues_open(LEAT_CLOCK_MANUAL, 3);
    q = queues_make("a", NULL);
    queues_send_n(q, 2, 0);
    ok(lt_partition_skip_to(lt_queue_part(q, 0)->p, 5, LT_GAP_LOST));
    counts(q, 2, 0, 0, 0);
    queues_send(q, "behind");
    counts(q, 3, 0, 0, 0);
    take(q, &m, "0", 1);
    ok(leat_queue_ack(q, &m));
    take(q, &m, "1", 1);
    counts(q, 1, 0, 1, 0);
    ok(leat_queue_ack(q, &m));
    take(q, &m, "behind", 1);
    ok(leat_queue_ack(q, &m));
    counts(q, 0, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

// Nor does a queue with a retention look for them for ever.
Test(outside, what_is_lost_has_no_age) {
    queues_open(LEAT_CLOCK_MANUAL, 3);
    q = queues_make("a", &(leat_queue_options){ .retention_ms = SECOND });
    queues_send_n(q, 2, 0);
    ok(lt_partition_skip_to(lt_queue_part(q, 0)->p, 5, LT_GAP_LOST));
    counts(q, 2, 0, 0, 0);
    ok(leat_clock_advance(mq, 2 * SECOND));
    counts(q, 0, 0, 0, 0);
    queues_send(q, "behind");
    take(q, &m, "behind", 1);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}
