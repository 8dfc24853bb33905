/* SPDX-License-Identifier: MIT */
// The dedup window of a queue's own topic: what a repeat is, how long, across a purge, dead letters
// and restarts, and how it is changed.
#include "lib/queues.h"

#include <pthread.h>
#include <stdlib.h>

enum { BIG = 64 * 1024, OVER_A_SEGMENT = 1100 };

static leat_queue *q;

// Sends a record with that id. Returns  whether it is a repeat of *md.
static int repeats(leat_queue *to, const char *id, leat_metadata *md) {
    leat_record r = { .value = leat_str(id), .dedup_id = leat_str(id) };
    leat_metadata own = { .duplicate = 9 };
    md = md ? md : &own;
    ok(leat_queue_send(to, &r, md));
    cr_assert(md->duplicate == 0 || md->duplicate == 1);
    return md->duplicate;
}

static void ack_next(leat_queue *of, const char *text) {
    take(of, &m, text, 1);
    ok(leat_queue_ack(of, &m));
}

static int64_t begin_of(leat_queue *of) {
    leat_range r;
    ok(leat_topic_range(leat_queue_topic(of), 0, &r));
    return r.begin;
}

static int alter(int64_t window_ms) {
    leat_queue *x;
    leat_queue_options o = { .flags = LEAT_ALTER, .dedup_window_ms = window_ms };
    int rc = leat_queue_open(mq, "q", &o, &x);
    if (rc == 0)
        ok(leat_queue_close(x));
    return rc;
}

static int64_t listed_window(void) {
    leat_topic_info info[4];
    int count = leat_topic_list(mq, info, 4, sizeof info[0]);
    for (int i = 0; i < count; i++)
        if (strcmp(info[i].name, "q") == 0)
            return info[i].dedup_window_ms;
    return -1;
}

Test(queue_dedup, a_repeat_stores_nothing_and_tells_of_the_first_one) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("q", &(leat_queue_options){ .dedup_window_ms = 60 * SECOND, .partitions = 3 });
    leat_metadata first, again;
    cr_assert_eq(repeats(q, "a", &first), 0);
    ok(leat_clock_advance(mq, SECOND));
    cr_assert_eq(repeats(q, "a", &again), 1);
    cr_assert(again.partition == first.partition && again.offset == first.offset &&
              again.timestamp_ms == first.timestamp_ms);
    cr_assert_eq(queues_stats(q).sent, 1);
    ack_next(q, "a");
    nothing(q);
    ok(leat_clock_advance(mq,
                          59 * SECOND - 1)); // done is remembered, too; a repeat prolongs nothing
    cr_assert_eq(repeats(q, "a", NULL), 1);
    counts(q, 0, 0, 0, 0);
    ok(leat_clock_advance(mq, 1));
    cr_assert_eq(repeats(q, "a", NULL), 0);
    ack_next(q, "a");
    // Many at once, and who sends to the topic.
    leat_producer *p;
    leat_record r[3] = { { .value = LEAT_STR("b"), .dedup_id = LEAT_STR("b") },
                         { .value = LEAT_STR("no id") },
                         { .value = LEAT_STR("b"), .dedup_id = LEAT_STR("b") } };
    leat_metadata md[3];
    ok(leat_producer_open(mq, NULL, &p));
    ok(leat_send_many(p, leat_queue_topic(q), r, 3, md));
    cr_assert(md[0].duplicate == 0 && md[1].duplicate == 0 && md[2].duplicate == 1);
    counts(q, 2, 0, 0, 0);
    cr_assert_eq(repeats(q, "b", NULL), 1);
    ok(leat_close_all(mq, 0));
}

Test(queue_dedup, without_a_window_ids_are_nothing) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("q", NULL);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(repeats(q, "a", NULL), 0);
    counts(q, 3, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

Test(queue_dedup, a_purge_forgets_them_and_the_dead_carry_none) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("q", &(leat_queue_options){ .dedup_window_ms = HOUR, .dead_letter = "dead" });
    leat_queue *dead =
        queues_make("dead", &(leat_queue_options){ .flags = LEAT_ALTER, .dedup_window_ms = HOUR });
    cr_assert_eq(repeats(q, "a", NULL), 0);
    ok(leat_queue_purge(q, NULL));
    cr_assert_eq(repeats(q, "a", NULL), 0);
    cr_assert_eq(repeats(q, "a", NULL), 1);
    ack_next(q, "a");
    cr_assert_eq(repeats(q, "a", NULL), 1);
    counts(q, 0, 0, 0, 0);
    ok(leat_queue_purge(q, NULL)); // what is done counts, too
    cr_assert_eq(repeats(q, "a", NULL), 0);
    ack_next(q, "a");
    cr_assert_eq(repeats(q, "b", NULL), 0);
    cr_assert_eq(repeats(dead, "b", NULL), 0);
    ack_next(dead, "b");
    for (int round = 0; round < 2; round++) { // it comes here although "b" was here, and goes back
        take(q, &m, "b", 1);
        ok(leat_queue_reject(q, &m, NULL));
        counts(dead, 1, 0, 0, 0);
        ok(leat_queue_redrive(dead, NULL, 0, NULL));
        counts(q, 1, 0, 0, 0);
    }
    cr_assert_eq(repeats(q, "b", NULL), 1);
    ok(leat_close_all(mq, 0));
}

// Over a restart, a kill and a power cut: what is in front of the purge counts no more, what is
// behind it does, also when it was received since.
Test(queue_dedup, what_a_purge_forgot_stays_forgotten) {
    for (int how = 0; how < 4; how++) {
        queues_open(LEAT_CLOCK_MANUAL, 1);
        q = queues_make("q", &(leat_queue_options){ .dedup_window_ms = HOUR,
                                                    .partitions = 2,
                                                    .acks = LEAT_ACKS_DISK,
                                                    .settle_acks = LEAT_ACKS_DISK });
        static const char *const ids[] = { "a", "b", "c", "d" };
        for (int i = 0; i < 3; i++)
            cr_assert_eq(repeats(q, ids[i], NULL), 0);
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_ack(q, &m));
        uint64_t purged;
        ok(leat_queue_purge(q, &purged));
        cr_assert_eq(purged, 2);
        cr_assert_eq(repeats(q, "b", NULL), 0);
        cr_assert_eq(repeats(q, "d", NULL), 0);
        for (int i = 0; how >= 2 && i < 2; i++) { // stores the slots again
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(leat_queue_ack(q, &m));
        }
        queues_crash(how % 2 ? LEAT_POWER_CUT : LEAT_KILL);
        q = queues_make("q", NULL);
        for (int i = 0; i < 4; i++)
            cr_assert_eq(repeats(q, ids[i], NULL), i % 2, "%s, %d", ids[i], how);
        counts(q, how >= 2 ? 2 : 4, 0, 0, 0);
        ok(leat_close_all(mq, 0));
    }
}

// A close, and 1,024 deliveries, store the slot again.
Test(queue_dedup, a_close_keeps_in_mind_what_a_purge_forgot, .init = make_dir, .fini = drop_dir) {
    queues_open_disk(LEAT_WRITE_MAPPED);
    q = queues_make("q", &(leat_queue_options){ .dedup_window_ms = HOUR });
    cr_assert_eq(repeats(q, "a", NULL), 0);
    cr_assert_eq(repeats(q, "b", NULL), 0);
    ok(leat_queue_purge(q, NULL));
    cr_assert_eq(repeats(q, "b", NULL), 0);
    queues_send_n(q, 2000, 0);
    for (int i = 0; i < 2001; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_ack(q, &m));
    }
    ok(leat_close_all(mq, 0));
    queues_open_disk(LEAT_WRITE_MAPPED);
    q = queues_make("q", NULL);
    cr_assert_eq(repeats(q, "a", NULL), 0);
    cr_assert_eq(repeats(q, "b", NULL), 1);
    ok(leat_close_all(mq, 0));
}

// Where the topic is another one's, its ids are not the queue's to forget.
Test(queue_dedup, a_purge_over_another_topic_forgets_none) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    leat_topic *t;
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .dedup_window_ms = HOUR }, &t));
    q = queues_make("q", &(leat_queue_options){ .topic = "t", .start = LEAT_EARLIEST });
    cr_assert_eq(repeats(q, "a", NULL), 0);
    ok(leat_queue_purge(q, NULL));
    cr_assert_eq(repeats(q, "a", NULL), 1);
    ok(leat_close_all(mq, 0));
}

Test(queue_dedup, a_restart_and_a_kill_forget_nothing, .init = make_dir, .fini = drop_dir) {
    for (int32_t write = LEAT_WRITE_MAPPED; write <= LEAT_WRITE_PWRITE; write++) {
        queues_open_disk(write);
        q = queues_make("q", &(leat_queue_options){ .dedup_window_ms = HOUR });
        leat_metadata first, again;
        cr_assert_eq(repeats(q, "a", &first), 0);
        ack_next(q, "a");
        ok(leat_close_all(mq, 0));
        queues_open_disk(write);
        q = queues_make("q", NULL);
        cr_assert_eq(repeats(q, "a", &again), 1);
        cr_assert_eq(again.offset, first.offset);
        counts(q, 0, 0, 0, 0);
        cr_assert_eq(listed_window(), HOUR);
        ok(leat_close_all(mq, 0));
        drop_dir();
        make_dir();
    }
}

static void ack_all(void) {
    while (leat_queue_receive(q, 0, &m, 1) == 1)
        ok(leat_queue_ack(q, &m));
}

// What is done would go with its segment, and its id with it at the next open.
Test(queue_dedup, a_segment_stays_as_long_as_its_ids_are_remembered) {
    for (int altered = 0; altered < 2; altered++) {
        queues_open(LEAT_CLOCK_MANUAL, 1);
        q = queues_make("q", &(leat_queue_options){ .dedup_window_ms = HOUR });
        cr_assert_eq(repeats(q, "a", NULL), 0);
        queues_send_n(q, OVER_A_SEGMENT, BIG);
        ack_all();
        cr_assert_eq(begin_of(q), 0);
        queues_crash(LEAT_KILL);
        q = queues_make("q", NULL);
        cr_assert_eq(repeats(q, "a", NULL), 1);
        if (altered)
            ok(alter(LEAT_ZERO));
        ok(leat_clock_advance(mq, altered ? 0 : HOUR - 1));
        if (!altered)
            cr_assert_eq(begin_of(q), 0);
        ok(leat_clock_advance(mq, 1)); // by itself
        cr_assert(begin_of(q) > 500, "begin %d", (int)begin_of(q));
        queues_crash(LEAT_KILL); // the slot says it, too
        q = queues_make("q", NULL);
        cr_assert_eq(repeats(q, "a", NULL), 0);
        ok(leat_queue_purge(q, NULL));
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_dedup, what_stayed_for_its_ids_goes_without_another_call) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("q", &(leat_queue_options){ .dedup_window_ms = HOUR });
    cr_assert_eq(repeats(q, "a", NULL), 0);
    queues_send_n(q, OVER_A_SEGMENT, BIG);
    ack_all();
    ok(leat_clock_advance(mq, HOUR - 1));
    cr_assert_eq(begin_of(q), 0);
    ok(leat_clock_advance(mq, 1));
    cr_assert(begin_of(q) > 500, "begin %d", (int)begin_of(q));
    cr_assert_eq(repeats(q, "b", NULL), 0);
    queues_send_n(q, OVER_A_SEGMENT, BIG);
    int64_t begin = begin_of(q);
    ok(leat_queue_purge(q, NULL)); // no id keeps what was purged
    cr_assert(begin_of(q) > begin, "begin %d", (int)begin_of(q));
    ok(leat_close_all(mq, 0));
}

Test(queue_dedup, the_window_is_a_setting_like_others, .init = make_dir, .fini = drop_dir) {
    leat_queue *x;
    queues_open_disk(LEAT_WRITE_MAPPED);
    q = queues_make("q", NULL);
    cr_assert_eq(repeats(q, "a", NULL), 0);
    fails_saying(LEAT_EEXIST, "dedup_window_ms",
                 leat_queue_open(mq, "q", &(leat_queue_options){ .dedup_window_ms = HOUR }, &x));
    cr_assert_eq(listed_window(), 0);
    ok(alter(HOUR));
    cr_assert_eq(listed_window(), HOUR);
    ok(leat_queue_open(mq, "q", &(leat_queue_options){ .dedup_window_ms = HOUR }, &x));
    ok(leat_queue_open(mq, "q", NULL, &x));
    fails_saying(
        LEAT_EEXIST, "dedup_window_ms",
        leat_queue_open(mq, "q", &(leat_queue_options){ .dedup_window_ms = LEAT_ZERO }, &x));
    cr_assert_eq(repeats(q, "a", NULL), 0); // for what is sent from then on
    cr_assert_eq(repeats(q, "a", NULL), 1);
    ok(leat_clock_advance(mq, 2 * SECOND));
    ok(alter(3 * SECOND));
    cr_assert_eq(repeats(q, "a", NULL), 1);
    ok(leat_clock_advance(mq, SECOND));
    cr_assert_eq(repeats(q, "a", NULL), 0);
    ok(alter(LEAT_ZERO));
    cr_assert_eq(listed_window(), 0);
    cr_assert_eq(repeats(q, "a", NULL), 0);
    leat_producer *p;
    leat_record r[2] = { { .value = LEAT_STR("x"), .dedup_id = LEAT_STR("x") },
                         { .value = LEAT_STR("x"), .dedup_id = LEAT_STR("x") } };
    leat_metadata md[2];
    ok(leat_producer_open(mq, NULL, &p));
    ok(leat_send_many(p, leat_queue_topic(q), r, 2, md));
    cr_assert(md[0].duplicate == 0 && md[1].duplicate == 0);
    ok(leat_producer_close(p, 0));
    ok(alter(HOUR));
    cr_assert_eq(repeats(q, "a", NULL), 0); // what was off is forgotten
    ok(alter(0));                           // as it is
    ok(leat_close_all(mq, 0));
    queues_open_disk(LEAT_WRITE_MAPPED);
    q = queues_make("q", &(leat_queue_options){ .dedup_window_ms = HOUR });
    cr_assert_eq(repeats(q, "a", NULL), 1);
    ok(alter(LEAT_ZERO));
    ok(leat_close_all(mq, 0));
    queues_open_disk(LEAT_WRITE_MAPPED);
    q = queues_make("q", NULL);
    cr_assert_eq(listed_window(), 0);
    cr_assert_eq(repeats(q, "a", NULL), 0);
    ok(leat_close_all(mq, 0));
}

Test(queue_dedup, is_for_a_topic_of_its_own_and_within_bounds) {
    static const int64_t wrong[] = { -1, -3, INT64_MIN, INT64_C(365) * 24 * HOUR + 1, INT64_MAX };
    leat_topic *t;
    leat_queue *x = NULL;
    queues_open(LEAT_CLOCK_MANUAL, 1);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        fails_saying(
            LEAT_EINVAL, "dedup_window_ms",
            leat_queue_open(mq, "q", &(leat_queue_options){ .dedup_window_ms = wrong[i] }, &x));
    cr_assert_eq(leat_queue_list(mq, NULL, 0), 0);
    ok(leat_topic_open(mq, "t", NULL, &t));
    for (int kind = 0; kind < 2; kind++) {
        leat_queue_options o = { .topic = "t", .dedup_window_ms = kind ? HOUR : LEAT_ZERO };
        fails_saying(LEAT_EINVAL, "dedup_window_ms", leat_queue_open(mq, "over", &o, &x));
        cr_assert_null(x);
    }
    (void)queues_make("over", &(leat_queue_options){ .topic = "t" });
    for (int kind = 0; kind < 2; kind++) { // nor by another way
        leat_queue_options o = { .flags = kind ? LEAT_ALTER : 0, .dedup_window_ms = HOUR };
        fails_saying(LEAT_EINVAL, "dedup_window_ms", leat_queue_open(mq, "over", &o, &x));
    }
    q = queues_make("most", &(leat_queue_options){ .dedup_window_ms = INT64_C(365) * 24 * HOUR });
    cr_assert_eq(repeats(q, "a", NULL), 0);
    cr_assert_eq(repeats(q, "a", NULL), 1);
    // A queue over a topic that has a window has it.
    ok(leat_topic_open(mq, "once", &(leat_topic_options){ .dedup_window_ms = HOUR }, &t));
    q = queues_make("over.once", &(leat_queue_options){ .topic = "once" });
    cr_assert_eq(repeats(q, "a", NULL), 0);
    cr_assert_eq(repeats(q, "a", NULL), 1);
    counts(q, 1, 0, 0, 0);
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, alter(HOUR));
    ok(leat_close_all(mq, 0));
}

static int fail_in; // this allocation fails; 0: none

static void *failing_alloc(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0) {
        free(old);
        return NULL;
    }
    return fail_in > 0 && --fail_in == 0 ? NULL : realloc(old, size);
}

Test(queue_dedup, without_memory_the_window_stays_as_it_is) {
    int failed = 0, rc = LEAT_ENOMEM;
    ok(leat_open_memory(&(leat_options){ .clock = LEAT_CLOCK_MANUAL, .alloc = failing_alloc },
                        &mq));
    q = queues_make("q", NULL);
    for (int at = 1; rc != 0; at++, failed += rc != 0) {
        fail_in = at;
        rc = alter(HOUR);
        fail_in = 0;
        cr_assert(rc == 0 || rc == LEAT_ENOMEM, "allocation %d: %d", at, rc);
        cr_assert_eq(listed_window(), rc == 0 ? HOUR : 0);
        cr_assert_eq(repeats(q, "a", NULL), 0);
        cr_assert_eq(repeats(q, "a", NULL), rc == 0);
    }
    cr_assert(failed >= 2, "%d allocations", failed);
    ok(leat_close_all(mq, 0));
}

// ---- threads

enum { SENDERS = 3, SENT = 3000, IDS = 40 };

static _Atomic int stored;

static void *send_ids(void *seed) {
    uint64_t chance = (uint64_t)(uintptr_t)seed;
    for (int i = 0; i < SENT; i++) {
        char id[8];
        chance = chance * 6364136223846793005u + 1442695040888963407u;
        (void)snprintf(id, sizeof id, "%d", (int)((chance >> 33) % IDS));
        leat_metadata md;
        leat_record r = { .value = leat_str(id), .dedup_id = leat_str(id) };
        ok(leat_queue_send(q, &r, &md));
        stored += !md.duplicate;
    }
    return NULL;
}

Test(queue_dedup, is_altered_while_threads_send) {
    pthread_t thread[SENDERS];
    static const int64_t window[] = { HOUR, LEAT_ZERO, SECOND, 2 * HOUR };
    stored = 0;
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("q", NULL);
    for (uintptr_t i = 0; i < SENDERS; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, send_ids, (void *)(i + 1)), 0);
    for (int i = 0; i < 400; i++) {
        ok(alter(window[i % 4]));
        if (i % 10 == 0)
            ok(leat_clock_advance(mq, SECOND));
    }
    for (int i = 0; i < SENDERS; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    counts(q, (uint64_t)stored, 0, 0, 0);
    cr_assert_eq(repeats(q, "last", NULL), 0);
    cr_assert_eq(repeats(q, "last", NULL), 1);
    ok(leat_close_all(mq, 0));
}
