/* SPDX-License-Identifier: MIT */
// Queues: how a message dies, and what becomes of it: a dead-letter queue, a chain of them, or
// none. Time is the test's own.
#include "lib/jobs.h"

#include <stdio.h>

Test(queue, after_deliveries_max_tries_it_is_in_the_dead_letter_queue_with_its_origin) {
    for (enum jobs_kind k = MEMORY; k < JOBS_KINDS; k++) {
        make_dir();
        open_jobs(k, LEAT_CLOCK_MANUAL, 0);
        leat_queue *dead;
        open_queue("jobs", &(leat_queue_options){ .deliveries_max = 3,
                                                  .visibility_timeout_ms = SECOND,
                                                  .dead_letter = "jobs.dead" });
        ok(leat_queue_open(mq, "jobs.dead", &(leat_queue_options){ .flags = LEAT_MUST_EXIST },
                           &dead));
        leat_header own = { LEAT_STR("colour"), LEAT_STR("red") };
        int64_t wall;
        char sent[24];
        ok(leat_clock_now(mq, NULL, &wall));
        snprintf(sent, sizeof sent, "%lld", (long long)wall);
        ok(leat_queue_send(
            q,
            &(leat_record){
                .key = LEAT_STR("k"), .value = LEAT_STR("a"), .headers = &own, .header_count = 1 },
            NULL));
        take(q, &m, "a", 1);
        ok(leat_queue_nack(q, &m, 0, 0));
        take(q, &m, "a", 2);
        ok(leat_message_release(mq, &m));
        ok(leat_clock_advance(mq, SECOND));
        take(q, &m, "a", 3);
        nothing(dead);
        ok(leat_message_release(mq, &m));
        ok(leat_clock_advance(mq, SECOND)); // the third and last lease ends: moved at once
        nothing(q);
        counts(0, 0, 0, 0);
        take(dead, &m, "a", 1);
        is(m.key, "k");
        ok(leat_clock_now(mq, NULL, &wall));
        cr_assert_eq(m.timestamp_ms, wall); // of the move
        const char *expected[][2] = { { "colour", "red" },        { "leat.queue", "jobs" },
                                      { "leat.topic", "jobs" },   { "leat.partition", "0" },
                                      { "leat.offset", "0" },     { "leat.timestamp", sent },
                                      { "leat.deliveries", "3" }, { "leat.reason", "deliveries" } };
        cr_assert_eq(m.header_count, 8);
        for (size_t i = 0; i < 8; i++) {
            leat_header h;
            gives(1, leat_message_header(&m, i, &h));
            is(h.name, expected[i][0]);
            is(h.value, expected[i][1]);
        }
        ok(leat_queue_ack(dead, &m));
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue, a_dead_letter_that_dies_again_tells_of_its_last_move) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    leat_queue *first, *second;
    ok(leat_queue_open(mq, "second", NULL, &second));
    ok(leat_queue_open(mq, "first",
                       &(leat_queue_options){ .deliveries_max = 1, .dead_letter = "second" },
                       &first));
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 1, .dead_letter = "first" });
    leat_header many[64];
    for (int i = 0; i < 64; i++)
        many[i] = (leat_header){ LEAT_STR("h"), LEAT_STR("v") };
    ok(leat_queue_send(
        q, &(leat_record){ .value = LEAT_STR("a"), .headers = many, .header_count = 64 }, NULL));
    take(q, &m, "a", 1);
    ok(leat_queue_nack(q, &m, 0, 0));
    take(first, &m, "a", 1);
    ok(leat_queue_nack(first, &m, 0, 0));
    take(second, &m, "a", 1);
    cr_assert_eq(m.header_count, 71);
    leat_header h;
    gives(1, leat_message_header(&m, 64, &h));
    is(h.value, "first");
    ok(leat_queue_ack(second, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue, without_a_dead_letter_queue_the_dead_stay_and_stay_dead) {
    for (enum jobs_kind k = MAPPED; k < JOBS_KINDS; k++) {
        make_dir();
        open_jobs(k, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", &(leat_queue_options){ .deliveries_max = 1 });
        send("a");
        send("b");
        take(q, &m, "a", 1);
        ok(leat_queue_nack(q, &m, 0, 0));
        counts(1, 0, 0, 1);
        take(q, &m, "b", 1);
        ok(leat_queue_ack(q, &m));
        ok(leat_close_all(mq, 0));
        open_jobs(k, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", NULL);
        counts(0, 0, 0, 1);
        nothing(q);
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue, cycles_of_dead_letter_queues_are_refused) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    leat_queue *x;
    fails(LEAT_EINVAL, leat_queue_open(mq, "a", &(leat_queue_options){ .dead_letter = "a" }, &x));
    ok(leat_queue_open(mq, "a", &(leat_queue_options){ .dead_letter = "b" }, &x));
    ok(leat_queue_open(mq, "b", &(leat_queue_options){ .dead_letter = "c", .flags = LEAT_ALTER },
                       &x));
    fails(LEAT_EINVAL,
          leat_queue_open(mq, "c", &(leat_queue_options){ .dead_letter = "a", .flags = LEAT_ALTER },
                          &x));
    ok(leat_close_all(mq, 0));
}

Test(queue, a_message_that_had_its_last_try_is_moved_at_the_next_open) {
    make_dir();
    open_jobs(MAPPED, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 1, .dead_letter = "dead" });
    send("a");
    take(q, &m, "a", 1);
    char copy[SCRATCH_PATH];
    scratch_join(copy, dir, "/../%s.copy", strrchr(dir, '/') + 1);
    scratch_copy(dir, copy); // what kill -9 would leave
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
    leat_options o = { .clock = LEAT_CLOCK_MANUAL };
    leat_queue *dead;
    ok(leat_open(copy, &o, &mq));
    open_queue("jobs", NULL);
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    nothing(q);
    take(dead, &m, "a", 1);
    ok(leat_queue_ack(dead, &m));
    ok(leat_close_all(mq, 0));
    scratch_remove(copy);
    drop_dir();
}
