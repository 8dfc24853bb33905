/* SPDX-License-Identifier: MIT */
// Queues from outside: listed, deleted, paused, purged, and where a new one begins.
#include "lib/queues.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { REAL_MS = 20000, SEEDS = 24 };

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

static void ack_all(leat_queue *q) {
    while (leat_queue_receive(q, 0, &n, 1) == 1)
        ok(leat_queue_ack(q, &n));
}

// ---- list

Test(queue_list, names_what_exists, .init = make_dir, .fini = drop_dir) {
    const char *names[4] = { "as it was", "as it was", "as it was", "as it was" };
    queues_open_disk(LEAT_WRITE_MAPPED);
    gives(0, leat_queue_list(mq, names, 4));
    gives(0, leat_queue_list(mq, NULL, 0));
    queues_make("a", NULL);
    queues_make("b", &(leat_queue_options){ .dead_letter = "c" });
    gives(3, leat_queue_list(mq, names, 1));
    cr_assert_str_eq(names[1], "as it was");
    cr_assert(listed("a") && listed("b") && listed("c"));
    ok(leat_close_all(mq, 0));
    queues_open_disk(LEAT_WRITE_MAPPED);
    gives(3, leat_queue_list(mq, names, 4));
    cr_assert(listed("a") && listed("b") && listed("c"));
    ok(leat_queue_delete(mq, "b"));
    cr_assert(!listed("b") && strlen(names[0]) == 1 && strlen(names[2]) == 1, "names live on");
    fails(LEAT_EINVAL, leat_queue_list(NULL, names, 4));
    fails(LEAT_EINVAL, leat_queue_list(mq, NULL, 1));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_queue_list(mq, names, 4));
    ok(leat_close_all(mq, 0));
}

// ---- delete

Test(queue_delete, is_refused_while_somebody_has_it) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    leat_queue *q = queues_make("a", &(leat_queue_options){ .dead_letter = "dead" });
    leat_queue *over = queues_make("over", &(leat_queue_options){ .topic = "a" });
    fails_saying(LEAT_EBUSY, "open", leat_queue_delete(mq, "over"));
    ok(leat_queue_close(over));
    fails_saying(LEAT_EBUSY, "queue over stands over", leat_queue_delete(mq, "a"));
    ok(leat_queue_delete(mq, "over"));
    fails_saying(LEAT_EBUSY, "open", leat_queue_delete(mq, "a"));
    queues_send(q, "x");
    take(q, &m, "x", 1);
    fails_saying(LEAT_EBUSY, "1 messages", leat_queue_delete(mq, "a"));
    ok(leat_message_release(mq, &m));
    ok(leat_queue_close(q));
    fails_saying(LEAT_EBUSY, "dead-letter queue of a", leat_queue_delete(mq, "dead"));
    ok(leat_queue_delete(mq, "a"));
    ok(leat_queue_delete(mq, "dead"));
    fails(LEAT_ENOENT, leat_queue_delete(mq, "a"));
    gives(0, leat_queue_list(mq, NULL, 0));
    ok(leat_close_all(mq, 0));
}

static void *receive_one(void *arg) {
    leat_message got;
    int rc = leat_queue_receive(arg, HOUR, &got, 1);
    if (rc == 1)
        (void)leat_queue_ack(arg, &got);
    return (void *)(intptr_t)rc;
}

Test(queue_delete, is_refused_while_somebody_waits_in_it) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    leat_queue *q = queues_make("a", NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, receive_one, q);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    fails_saying(LEAT_EBUSY, "waits in receive", leat_queue_delete(mq, "a"));
    queues_send(q, "x");
    void *rc;
    pthread_join(thread, &rc);
    cr_assert_eq((intptr_t)rc, 1);
    ok(leat_queue_close(q));
    ok(leat_queue_delete(mq, "a"));
    ok(leat_close_all(mq, 0));
}

Test(queue_delete, its_own_topic_goes_with_it_and_nothing_comes_back, .init = make_dir,
     .fini = drop_dir) {
    for (int32_t write = LEAT_WRITE_MAPPED; write <= LEAT_WRITE_PWRITE; write++) {
        queues_open_disk(write);
        leat_queue *q = queues_make("a", &(leat_queue_options){ .partitions = 2 });
        queues_send_n(q, 5, 0);
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_ack(q, &m));
        leat_topic *t = leat_queue_topic(q);
        ok(leat_queue_close(q));
        ok(leat_queue_delete(mq, "a"));
        cr_assert(!has_topic("a") && !listed("a"));
        leat_range r;
        fails(LEAT_EGONE, leat_topic_range(t, 0, &r));
        leat_stats s;
        ok(leat_get_stats(mq, &s, sizeof s));
        cr_assert(s.received == 1 && s.acked == 1, "what it counted is counted");
        q = queues_make("a", NULL); // another one, with nothing of the first
        counts(q, 0, 0, 0, 0);
        queues_send(q, "new");
        ok(leat_queue_close(q));
        ok(leat_close_all(mq, 0));
        queues_open_disk(write);
        q = queues_make("a", NULL);
        take(q, &m, "new", 1);
        ok(leat_queue_ack(q, &m));
        ok(leat_queue_close(q));
        ok(leat_queue_delete(mq, "a"));
        ok(leat_close_all(mq, 0));
        queues_open_disk(write);
        cr_assert(!has_topic("a") && !listed("a"));
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_delete, over_another_topic_lets_go_of_it, .init = make_dir, .fini = drop_dir) {
    queues_open_disk(LEAT_WRITE_MAPPED);
    leat_topic *t;
    leat_producer *p;
    ok(leat_topic_open(mq, "t",
                       &(leat_topic_options){ .segment_bytes = 16384,
                                              .retention_records = 1,
                                              .keep_until_consumed = 1 },
                       &t));
    ok(leat_producer_open(mq, NULL, &p));
    leat_queue *q = queues_make("a", &(leat_queue_options){ .topic = "t" });
    static char bytes[4000];
    for (int i = 0; i < 20; i++)
        ok(leat_send(p, t, &(leat_record){ .value = { bytes, sizeof bytes } }, NULL));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_ack(q, &m));
    char *before = scratch_listing(dir);
    cr_assert(strstr(before, ".q") != NULL);
    free(before);
    leat_range r;
    ok(leat_topic_range(t, 0, &r));
    cr_assert_eq(r.begin, 0, "held back");
    ok(leat_queue_close(q));
    ok(leat_queue_delete(mq, "a"));
    ok(leat_clock_advance(mq, 0));
    ok(leat_topic_range(t, 0, &r));
    cr_assert(r.begin > 0, "what it held back goes");
    char *after = scratch_listing(dir);
    cr_assert(strstr(after, ".q") == NULL, "%s", after);
    free(after);
    ok(leat_topic_open(mq, "a", NULL, &t)); // the name is free
    ok(leat_topic_delete(mq, "t"));
    ok(leat_close_all(mq, 0));
}

// A crash finds it whole or gone, never its topic without it.
Test(queue_delete, survives_what_a_note_survives) {
    for (uint64_t seed = 1; seed <= 2 * SEEDS; seed++) {
        queues_open(LEAT_CLOCK_MANUAL, seed);
        leat_queue *q = queues_make("a", &(leat_queue_options){ .acks = LEAT_ACKS_DISK });
        leat_topic *t;
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_queue_close(queues_make("over", &(leat_queue_options){ .topic = "t" })));
        queues_send(q, "x");
        ok(leat_queue_close(q));
        ok(leat_sync(mq));
        ok(leat_queue_delete(mq, "a"));
        ok(leat_queue_delete(mq, "over"));
        queues_crash(seed % 2 ? LEAT_KILL : LEAT_POWER_CUT);
        cr_assert(!listed("a") && !has_topic("a"), "seed %d", (int)seed);
        cr_assert(!listed("over") && has_topic("t"), "seed %d", (int)seed);
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_delete, wrong_arguments) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    fails(LEAT_EINVAL, leat_queue_delete(NULL, "a"));
    fails(LEAT_EINVAL, leat_queue_delete(mq, NULL));
    fails(LEAT_EINVAL, leat_queue_delete(mq, ""));
    fails(LEAT_EINVAL, leat_queue_delete(mq, "a/b"));
    fails_saying(LEAT_ENOENT, "nobody", leat_queue_delete(mq, "nobody"));
    ok(leat_queue_close(queues_make("a", NULL)));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_queue_delete(mq, "a"));
    ok(leat_close_all(mq, 0));
}

// ---- where a queue begins

Test(queue_start, at_the_end_sees_what_is_sent_from_then_on) {
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        queues_open(LEAT_CLOCK_MANUAL, seed);
        leat_topic *t;
        leat_producer *p;
        ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 2 }, &t));
        ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_DISK }, &p));
        for (int i = 0; i < 4; i++)
            ok(leat_send(
                p, t, &(leat_record){ .value = LEAT_STR("old"), .to_partition = 1 + i % 2 }, NULL));
        leat_queue_options o = { .topic = "t", .start = LEAT_LATEST };
        leat_queue *late = queues_make("late", &o);
        leat_queue *early = queues_make("early", &(leat_queue_options){ .topic = "t" });
        counts(late, 0, 0, 0, 0);
        counts(early, 4, 0, 0, 0);
        ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("new") }, NULL));
        if (seed > 1) {
            queues_crash(seed % 2 ? LEAT_KILL : LEAT_POWER_CUT);
            late = queues_make("late", &o); // of one that exists it says nothing
            early = queues_make("early", NULL);
        }
        counts(early, 5, 0, 0, 0);
        counts(late, 1, 0, 0, 0);
        take(late, &m, "new", 1);
        ok(leat_queue_ack(late, &m));
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_start, wrong_values_are_refused) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    leat_queue *q;
    static const leat_queue_options wrong[] = {
        { .start = -1 },
        { .start = LEAT_NONE },
        { .start = 99 },
        { .retention_ms = -2 },
        { .retention_ms = INT64_MIN },
        { .dead_letter_expired = 2 },
        { .dead_letter_expired = -1 },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        fails(LEAT_EINVAL, leat_queue_open(mq, "a", &wrong[i], &q));
    ok(leat_close_all(mq, 0));
}

// ---- pause

Test(queue_pause, gives_nothing_until_it_goes_on) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    leat_queue *q = queues_make("a", NULL);
    queues_send(q, "x");
    queues_send(q, "y");
    take(q, &m, "x", 1);
    ok(leat_queue_pause(q, 1));
    ok(leat_queue_pause(q, 7)); // is no other "on"
    nothing(q);
    queues_send(q, "z");
    ok(leat_queue_nack(q, &m, 0, 0));
    counts(q, 3, 0, 0, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, receive_one, q);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    queues_send(q, "more");
    ok(leat_clock_advance(mq, 10 * SECOND));
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    counts(q, 4, 0, 0, 0);
    ok(leat_queue_pause(q, 0)); // no send wakes it, this does
    void *rc;
    pthread_join(thread, &rc);
    cr_assert_eq((intptr_t)rc, 1);
    take(q, &m, "y", 1);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

static int readable(leat_queue *q) {
    struct pollfd fd = { .fd = leat_queue_fd(q), .events = POLLIN };
    return poll(&fd, 1, 0);
}

Test(queue_pause, the_descriptor_is_dark_until_it_goes_on) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    leat_queue *q = queues_make("a", NULL);
    queues_send(q, "x");
    ok(leat_queue_pause(q, 1));
    (void)readable(q);
    nothing(q);
    cr_assert_eq(readable(q), 0);
    ok(leat_queue_pause(q, 0));
    cr_assert_eq(readable(q), 1);
    take(q, &m, "x", 1);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue_pause, is_kept_over_a_restart, .init = make_dir, .fini = drop_dir) {
    queues_open_disk(LEAT_WRITE_PWRITE);
    leat_queue *q = queues_make("a", NULL);
    queues_send(q, "x");
    ok(leat_queue_pause(q, 1));
    ok(leat_close_all(mq, 0));
    queues_open_disk(LEAT_WRITE_PWRITE);
    q = queues_make("a",
                    &(leat_queue_options){ .flags = LEAT_ALTER, .visibility_timeout_ms = SECOND });
    nothing(q);
    ok(leat_queue_pause(q, 0));
    ok(leat_close_all(mq, 0));
    queues_open_disk(LEAT_WRITE_PWRITE);
    q = queues_make("a", NULL);
    take(q, &m, "x", 1);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue_pause, nothing_can_come_of_one_on_a_jumping_clock) {
    queues_open(LEAT_CLOCK_JUMP, 1);
    leat_queue *q = queues_make("a", NULL);
    queues_send(q, "x");
    queues_send(q, "y");
    take(q, &m, "x", 1);
    ok(leat_queue_pause(q, 1));
    fails(LEAT_EDEADLK, leat_queue_receive(q, LEAT_FOREVER, &n, 1));
    gives(0, leat_queue_receive(q, HOUR, &n, 1));
    ok(leat_queue_ack(q, &m));
    ok(leat_queue_pause(q, 0));
    take(q, &m, "y", 1);
    ok(leat_queue_ack(q, &m));
    fails(LEAT_EINVAL, leat_queue_pause(NULL, 1));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_queue_pause(q, 1));
    ok(leat_close_all(mq, 0));
}

// ---- purge

// A queue with a message in each state there is: 0 available, 1 delayed, 1 leased and so on.
static leat_queue *one_of_each(int32_t settle_acks, leat_message *leased, leat_message *lapsed) {
    leat_queue *q = queues_make("a", &(leat_queue_options){ .deliveries_max = 2,
                                                            .visibility_timeout_ms = SECOND,
                                                            .settle_acks = settle_acks,
                                                            .acks = LEAT_ACKS_DISK });
    queues_send_n(q, 6, 0);
    take(q, &m, "0", 1);
    ok(leat_queue_nack(q, &m, 0, 0));
    take(q, &m, "0", 2);
    ok(leat_queue_nack(q, &m, 0, 0)); // kept
    take(q, &m, "1", 1);
    ok(leat_queue_nack(q, &m, HOUR, 0)); // delayed
    take(q, lapsed, "2", 1);
    ok(leat_clock_advance(mq, SECOND)); // lapsed
    take(q, &m, "2", 2);
    ok(leat_queue_ack(q, &m));
    take(q, lapsed, "3", 1);
    ok(leat_clock_advance(mq, SECOND));
    take(q, &m, "3", 2);
    ok(leat_queue_extend(q, &m, HOUR)); // leased, and its first receipt is stale
    *leased = m;
    take(q, lapsed, "4", 1);
    ok(leat_clock_advance(mq, SECOND)); // lapsed; 5 is available
    counts(q, 2, 1, 1, 1);
    return q;
}

Test(queue_purge, ends_every_message_whatever_its_state) {
    for (uint64_t seed = 0; seed <= 2 * SEEDS; seed++) {
        leat_message leased, lapsed;
        queues_open(LEAT_CLOCK_MANUAL, seed);
        leat_queue *q = one_of_each(LEAT_ACKS_DISK, &leased, &lapsed);
        uint64_t purged = 99;
        ok(leat_queue_purge(q, &purged));
        cr_assert_eq(purged, 5);
        counts(q, 0, 0, 0, 0);
        nothing(q);
        is(leased.value, "3"); // the bytes stay
        leat_message copy = leased;
        fails(LEAT_ESTALE, leat_queue_ack(q, &copy));
        copy = lapsed;
        fails(LEAT_ESTALE, leat_queue_nack(q, &copy, 0, 0));
        fails(LEAT_ESTALE, leat_queue_extend(q, &leased, SECOND));
        ok(leat_clock_advance(mq, 2 * HOUR));
        nothing(q);
        queues_send(q, "after");
        if (seed > 0) {
            queues_crash(seed % 2 ? LEAT_KILL : LEAT_POWER_CUT);
            q = queues_make("a", NULL);
        }
        counts(q, 1, 0, 0, 0);
        take(q, &m, "after", 1);
        cr_assert_eq(m.offset, 6);
        ok(leat_queue_ack(q, &m));
        ok(leat_queue_purge(q, &purged));
        cr_assert_eq(purged, 0);
        ok(leat_close_all(mq, 0));
    }
}

// At acks LOG kill -9 leaves it purged; a power cut leaves each partition purged or as it was, and
// what is sent afterwards is never taken for what was purged.
Test(queue_purge, of_each_partition_all_or_nothing_is_left_by_a_crash) {
    int came_back = 0;
    for (uint64_t seed = 1; seed <= 4 * SEEDS; seed++) {
        bool kill = seed % 2;
        queues_open(LEAT_CLOCK_MANUAL, seed);
        leat_queue *q = queues_make("a", &(leat_queue_options){ .partitions = 3 });
        for (int i = 0; i < 12; i++)
            ok(leat_queue_send(
                q, &(leat_record){ .value = LEAT_STR("x"), .to_partition = 1 + i % 3 }, NULL));
        if (seed % 4 < 2)
            ok(leat_sync(mq));
        uint64_t purged;
        ok(leat_queue_purge(q, &purged));
        cr_assert_eq(purged, 12);
        queues_crash(kill ? LEAT_KILL : LEAT_POWER_CUT);
        leat_queue_options o = { .partitions = 3, .flags = LEAT_ALTER, .acks = LEAT_ACKS_DISK };
        int rc = leat_queue_open(mq, "a", &o, &q); // its note may be gone
        cr_assert(rc == 0 || rc == LEAT_EEXIST, "%s", leat_errmsg());
        uint64_t left = rc == 0 ? queues_stats(q).available : 0;
        cr_assert(!kill || (rc == 0 && left == 0), "seed %d: %d are back", (int)seed, (int)left);
        if (rc == 0 && seed % 4 < 2)
            cr_assert(left % 4 == 0, "seed %d: %d are back", (int)seed, (int)left);
        came_back += left > 0;
        if (rc == 0) {
            for (int i = 0; i < 3; i++)
                ok(leat_queue_send(
                    q, &(leat_record){ .value = LEAT_STR("new"), .to_partition = 1 + i }, NULL));
            queues_crash(LEAT_POWER_CUT);
            q = queues_make("a", NULL);
            int fresh = 0;
            while (leat_queue_receive(q, 0, &m, 1) == 1) {
                fresh += m.value.size == 3;
                ok(leat_queue_ack(q, &m));
            }
            cr_assert_eq(fresh, 3, "seed %d: %d of 3 new ones", (int)seed, fresh);
        }
        ok(leat_close_all(mq, 0));
    }
    cr_assert(came_back > 0, "no power cut took a purge back: the test shows nothing");
}

Test(queue_purge, gives_segments_of_its_own_topic_back) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    leat_queue *q = queues_make("a", NULL);
    queues_send_n(q, 1100, 65536); // more than one segment of 64 MiB
    leat_range r;
    uint64_t purged;
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_purge(q, &purged));
    cr_assert_eq(purged, 1100);
    ok(leat_topic_range(leat_queue_topic(q), 0, &r));
    cr_assert(r.begin > 500, "begin %d", (int)r.begin);
    cr_assert_eq(((const char *)m.value.data)[0], '0', "a view outlives its segment");
    ok(leat_message_release(mq, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue_purge, beside_others_changes_nothing_for_them) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    leat_queue *q = queues_make("a", NULL);
    leat_queue *other = queues_make("b", &(leat_queue_options){ .topic = "a" });
    queues_send_n(q, 3, 0);
    take(other, &m, "0", 1);
    ok(leat_queue_purge(q, NULL));
    counts(q, 0, 0, 0, 0);
    counts(other, 2, 0, 1, 0);
    ok(leat_queue_ack(other, &m));
    ack_all(other);
    ok(leat_close_all(mq, 0));
}

Test(queue_purge, a_fault_leaves_all_or_is_unknown) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    leat_queue *q = queues_make("a", &(leat_queue_options){ .settle_acks = LEAT_ACKS_DISK });
    queues_send_n(q, 3, 0);
    uint64_t purged = 7;
    ok(leat_fault_push(mq, LEAT_OP_SETTLE, "a", -1, LEAT_EIO, 1, 0));
    fails(LEAT_EIO, leat_queue_purge(q, &purged));
    cr_assert_eq(purged, 0);
    counts(q, 3, 0, 0, 0);
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "a", -1, LEAT_EIO, 1, 0));
    fails(LEAT_EIO, leat_queue_purge(q, &purged));
    cr_assert_eq(purged, 3);
    counts(q, 0, 0, 0, 0);
    fails(LEAT_EINVAL, leat_queue_purge(NULL, &purged));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_queue_purge(q, &purged));
    ok(leat_close_all(mq, 0));
}

// ---- inside a callback

static leat_queue *inner;
static int inner_rc[4];

static void call_all(leat_subscription *s, const leat_message *heard, void *ctx) {
    (void)s, (void)heard, (void)ctx;
    const char *names[2];
    inner_rc[0] = leat_queue_list(mq, names, 2);
    inner_rc[1] = leat_queue_delete(mq, "b");
    inner_rc[2] = leat_queue_pause(inner, 1);
    inner_rc[3] = leat_queue_purge(inner, NULL);
}

Test(queue_admin, in_a_callback_only_looks) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    inner = queues_make("a", NULL);
    ok(leat_queue_close(queues_make("b", NULL)));
    leat_subscription *s;
    ok(leat_channel_subscribe(mq, "c", call_all, NULL, NULL, &s));
    gives(1, leat_publish(mq, "c", "x", 1));
    cr_assert_eq(inner_rc[0], 2);
    for (int i = 1; i < 4; i++)
        cr_assert_eq(inner_rc[i], LEAT_EDEADLK, "%d: %d", i, inner_rc[i]);
    ok(leat_close_all(mq, 0));
}

// 20 MB pass through a store that may have 8: what is done is used again.
Test(queue_admin, a_queue_in_memory_needs_no_more_than_is_in_it) {
    enum { MESSAGES = 20000, LIMIT = 8 << 20 };
    static char value[1000];
    leat *store;
    leat_queue *queue;
    leat_message one;
    leat_stats st;
    ok(leat_open_memory(&(leat_options){ .memory_max_bytes = LIMIT }, &store));
    ok(leat_queue_open(store, "q", NULL, &queue));
    for (int i = 0; i < MESSAGES; i++) {
        ok(leat_queue_send(queue, &(leat_record){ .value = { value, sizeof value } }, NULL));
        gives(1, leat_queue_receive(queue, 0, &one, 1));
        ok(leat_queue_ack(queue, &one));
    }
    ok(leat_get_stats(store, &st, sizeof st));
    cr_assert_eq(st.acked, (uint64_t)MESSAGES);
    cr_assert(st.bytes > 0 && st.bytes <= LIMIT, "%llu bytes", (unsigned long long)st.bytes);
    ok(leat_close_all(store, 0));
}
