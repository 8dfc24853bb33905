/* SPDX-License-Identifier: MIT */
// Queues: what an open finds of messages and segments, the topic below a queue, the one space of
// names, and settings that are there already. Time is the test's own.
#include "lib/jobs.h"

#include <stdio.h>

// ---- what an open finds

Test(queue, after_an_open_done_stays_done_and_the_rest_is_there_with_its_counts) {
    for (enum jobs_kind k = MAPPED; k < JOBS_KINDS; k++) {
        make_dir();
        open_jobs(k, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = HOUR });
        for (int i = 0; i < 4; i++)
            send((const char *[]){ "done", "leased", "delayed", "untouched" }[i]);
        leat_message three[3];
        gives(3, leat_queue_receive(q, 0, three, 3));
        ok(leat_queue_ack(q, &three[0]));
        ok(leat_queue_nack(q, &three[2], 60 * SECOND, 0));
        leat_message old = three[1];
        ok(leat_close_all(mq, 0));
        open_jobs(k, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", NULL);
        counts(2, 1, 0, 0);
        old.view = 0;
        fails(LEAT_ESTALE, leat_queue_ack(q, &old)); // a receipt of an earlier run
        take(q, &m, "leased", 2);
        cr_assert_neq(m.receipt, old.receipt);
        ok(leat_queue_ack(q, &m));
        take(q, &m, "untouched", 1);
        ok(leat_queue_ack(q, &m));
        nothing(q);
        ok(leat_clock_advance(mq, 60 * SECOND + 10)); // delays are kept to 10 ms, never early
        take(q, &m, "delayed", 2);
        ok(leat_queue_ack(q, &m));
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue, many_segments_many_rounds_nothing_lost_and_done_segments_go) {
    for (enum jobs_kind k = MEMORY; k < JOBS_KINDS; k++) {
        make_dir();
        open_jobs(k, LEAT_CLOCK_MANUAL, 0);
        leat_topic *t;
        ok(leat_topic_open(mq, "lines", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
        open_queue("jobs", &(leat_queue_options){ .topic = "lines" });
        char text[64];
        for (int i = 0; i < 3000; i++) {
            (void)snprintf(text, sizeof text, "message number %d", i);
            send(text);
        }
        int done = 0;
        leat_message some[64];
        for (int round = 0; done < 3000; round++) {
            int got = leat_queue_receive(q, 0, some, 64);
            cr_assert_gt(got, 0);
            for (int i = 0; i < got; i++) {
                bool again = some[i].deliveries == 1 && some[i].offset % 7 == 0;
                ok(again ? leat_queue_nack(q, &some[i], 0, 0) : leat_queue_ack(q, &some[i]));
                done += !again;
            }
            if (round == 20 && k != MEMORY) {
                ok(leat_close_all(mq, 0));
                open_jobs(k, LEAT_CLOCK_MANUAL, 0);
                open_queue("jobs", NULL);
            }
        }
        nothing(q);
        leat_range r;
        ok(leat_topic_range(leat_queue_topic(q), 0, &r));
        cr_assert(r.begin == 0 && r.end == 3000, "a topic that the queue does not own keeps all");
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue, its_own_topic_gives_back_what_is_done) {
    static char big[1 << 20];
    for (enum jobs_kind k = MEMORY; k <= MAPPED; k++) {
        make_dir();
        leat_options o = { .clock = LEAT_CLOCK_MANUAL,
                           .acks = LEAT_ACKS_LOG,
                           .memory_max_bytes = 200 << 20 };
        ok(k == MEMORY ? leat_open_memory(&o, &mq) : leat_open(dir, &o, &mq));
        open_queue("jobs", NULL);
        int sends = k == MEMORY ? 400 : 150; // twice what the memory store may hold
        for (int i = 0; i < sends; i++) {
            ok(leat_queue_send(q, &(leat_record){ .value = { big, sizeof big } }, NULL));
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(leat_queue_ack(q, &m));
        }
        leat_range r;
        ok(leat_topic_range(leat_queue_topic(q), 0, &r));
        cr_assert(r.begin >= sends - 128 && r.begin > 0 && r.end == sends, "begin %d",
                  (int)r.begin);
        if (k == MAPPED) {
            ok(leat_close_all(mq, 0));
            ok(leat_open(dir, &o, &mq));
            open_queue("jobs", NULL);
            leat_range again;
            ok(leat_topic_range(leat_queue_topic(q), 0, &again));
            cr_assert(again.begin == r.begin && again.end == sends);
            send("after");
            take(q, &m, "after", 1);
            cr_assert_eq(m.offset, sends);
            ok(leat_queue_ack(q, &m));
        }
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

// ---- over a topic

Test(queue, stands_over_a_topic_beside_its_groups_and_other_queues) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    leat_topic *t;
    leat_producer *p;
    leat_consumer *c;
    leat_queue *audit;
    const leat_message *view;
    ok(leat_topic_open(mq, "orders", &(leat_topic_options){ .partitions = 3 }, &t));
    ok(leat_producer_open(mq, NULL, &p));
    char text[16];
    for (int i = 0; i < 30; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        ok(leat_send(
            p, t, &(leat_record){ .value = leat_str(text), .to_partition = LEAT_PARTITION(i % 3) },
            NULL));
    }
    open_queue("work", &(leat_queue_options){ .topic = "orders" }); // sees what was sent before
    ok(leat_queue_open(mq, "audit", &(leat_queue_options){ .topic = "orders" }, &audit));
    cr_assert_eq(leat_queue_topic(q), t);
    fails(LEAT_EBUSY, leat_topic_delete(mq, "orders"));
    counts(30, 0, 0, 0);
    int seen[3] = { 0 };
    for (int i = 0; i < 30; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        cr_assert_eq(m.offset, seen[m.partition]++); // in order within its partition
        ok(leat_queue_ack(q, &m));
    }
    nothing(q);
    leat_message all[40];
    gives(30, leat_queue_receive(audit, 0, all, 40));
    for (int i = 0; i < 30; i++)
        ok(leat_queue_ack(audit, &all[i]));
    ok(leat_consumer_open(mq, "group", NULL, &c));
    ok(leat_consumer_subscribe(c, "orders"));
    gives(30, leat_poll(c, 0, &view));
    ok(leat_close_all(mq, 0));
}

Test(queue, names_are_one_space) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    leat_topic *t;
    leat_queue *x;
    ok(leat_topic_open(mq, "plain", NULL, &t));
    fails(LEAT_EEXIST, leat_queue_open(mq, "plain", NULL, &x));
    fails(LEAT_EEXIST, leat_queue_open(mq, "plain", &(leat_queue_options){ .topic = "plain" }, &x));
    fails(LEAT_ENOENT, leat_queue_open(mq, "over", &(leat_queue_options){ .topic = "none" }, &x));
    ok(leat_queue_open(mq, "over", &(leat_queue_options){ .topic = "plain" }, &x));
    fails(LEAT_EEXIST, leat_topic_open(mq, "over", NULL, &t));
    open_queue("own", NULL);
    ok(leat_topic_open(mq, "own", NULL, &t)); // gives the queue's
    cr_assert_eq(t, leat_queue_topic(q));
    fails(LEAT_EBUSY, leat_topic_delete(mq, "own"));
    ok(leat_close_all(mq, 0));
}

Test(queue, a_default_that_is_asked_for_by_its_name_is_what_there_is) {
    static const leat_queue_options defaults = { .acks = LEAT_ACKS_LOG, // the store's
                                                 .deliveries_max = LEAT_UNLIMITED,
                                                 .partitions = 1,
                                                 .visibility_timeout_ms = 30 * SECOND,
                                                 .delay_ms = LEAT_ZERO,
                                                 .in_flight_max = 1000000,
                                                 .settle_acks = LEAT_ACKS_LOG,
                                                 .backoff_count = LEAT_ZERO,
                                                 .dedup_window_ms = LEAT_ZERO,
                                                 .retention_ms = LEAT_FOREVER };
    leat_queue *x;
    make_dir();
    for (int round = 0; round < 2; round++) {
        open_jobs(MAPPED, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", NULL);
        ok(leat_queue_open(mq, "jobs", &defaults, &x));
        fails_saying(
            LEAT_EEXIST, "acks",
            leat_queue_open(mq, "jobs", &(leat_queue_options){ .acks = LEAT_ACKS_DISK }, &x));
        fails_saying(LEAT_EEXIST, "settle_acks",
                     leat_queue_open(mq, "jobs",
                                     &(leat_queue_options){ .settle_acks = LEAT_ACKS_DISK }, &x));
        ok(leat_close_all(mq, 0));
    }
    drop_dir();
}

Test(queue, acks_that_were_the_stores_can_be_made_its_own) {
    leat_queue *x;
    make_dir();
    open_jobs(MAPPED, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    ok(leat_queue_open(mq, "jobs",
                       &(leat_queue_options){ .acks = LEAT_ACKS_LOG, .flags = LEAT_ALTER }, &x));
    ok(leat_close_all(mq, 0));
    ok(leat_open(dir, NULL, &mq));
    fails_saying(LEAT_EEXIST, "acks",
                 leat_queue_open(mq, "jobs", &(leat_queue_options){ .acks = LEAT_ACKS_DISK }, &x));
    ok(leat_queue_open(mq, "jobs", &(leat_queue_options){ .acks = LEAT_ACKS_LOG }, &x));
    ok(leat_close_all(mq, 0));
    drop_dir();
}

Test(queue, settings_of_what_exists_must_match_or_be_altered) {
    make_dir();
    open_jobs(MAPPED, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 3,
                                              .visibility_timeout_ms = SECOND,
                                              .dead_letter = "d" });
    leat_queue *x;
    fails_saying(LEAT_EEXIST, "deliveries_max",
                 leat_queue_open(mq, "jobs", &(leat_queue_options){ .deliveries_max = 4 }, &x));
    fails_saying(
        LEAT_EEXIST, "visibility_timeout_ms",
        leat_queue_open(mq, "jobs", &(leat_queue_options){ .visibility_timeout_ms = 5 }, &x));
    fails_saying(LEAT_EEXIST, "dead_letter",
                 leat_queue_open(mq, "jobs", &(leat_queue_options){ .dead_letter = "e" }, &x));
    fails_saying(LEAT_EEXIST, "partitions",
                 leat_queue_open(mq, "jobs", &(leat_queue_options){ .partitions = 2 }, &x));
    fails_saying(LEAT_EEXIST, "topic",
                 leat_queue_open(mq, "jobs", &(leat_queue_options){ .topic = "d" }, &x));
    ok(leat_queue_open(mq, "jobs", &(leat_queue_options){ .deliveries_max = 3 }, &x));
    ok(leat_queue_open(mq, "jobs",
                       &(leat_queue_options){ .deliveries_max = 4, .flags = LEAT_ALTER }, &x));
    ok(leat_close_all(mq, 0));
    open_jobs(MAPPED, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 4,
                                              .visibility_timeout_ms = SECOND,
                                              .dead_letter = "d" });
    fails(LEAT_ENOENT,
          leat_queue_open(mq, "none", &(leat_queue_options){ .flags = LEAT_MUST_EXIST }, &x));
    ok(leat_close_all(mq, 0));
    drop_dir();
}
