/* SPDX-License-Identifier: MIT */
// What leat_queue_explain says of a message that is over while one in front of it is not, of one
// that several things keep, and of one that a power cut took.
#include "lib/queues.h"

#include <string.h>

static leat_queue *q;

#define says(offset, words)                                                                        \
    cr_assert(strstr(queues_explain(q, 0, offset), words) != NULL, "'%s' does not say '%s'",       \
              queues_explain(q, 0, offset), words)

Test(queue_explain, says_how_it_ended_while_one_in_front_is_not_over) {
    for (int dead = 0; dead < 3; dead++) {
        queues_open(LEAT_CLOCK_MANUAL, 1);
        q = queues_make("a", &(leat_queue_options){ .retention_ms = HOUR,
                                                    .visibility_timeout_ms = 3 * HOUR,
                                                    .dead_letter = dead ? "dead" : NULL,
                                                    .dead_letter_expired = dead > 1 });
        queues_send_n(q, 4, 0);
        take(q, &m, "0", 1);
        take(q, &n, "1", 1);
        ok(leat_queue_ack(q, &n));
        take(q, &n, "2", 1);
        ok(leat_queue_reject(q, &n, NULL));
        says(0, "leased: for 10800000 ms more");
        says(1, "done");
        says(2, dead ? "dead: was moved to the dead-letter queue, which is dead"
                     : "dead: kept in place after 1 deliveries");
        says(3, "available: 0 stand before it");
        ok(leat_clock_advance(mq, HOUR));
        says(0, "leased: for 7200000 ms more"); // too old, and not while it is leased
        says(3, dead > 1 ? "dead: was moved" : "expired: it was older than retention_ms");
        ok(leat_queue_ack(q, &m));
        says(0, "done");
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_explain, says_all_that_keeps_it) {
    queues_open(LEAT_CLOCK_MANUAL, 1);
    q = queues_make("a", &(leat_queue_options){ .in_flight_max = 1 });
    queues_send_n(q, 2, 0);
    take(q, &m, "0", 1);
    ok(leat_queue_pause(q, 1));
    says(1, "available: 0 stand before it");
    says(1, "the queue is paused");
    says(1, "in_flight_max is 1, as many messages are leased");
    ok(leat_queue_pause(q, 0));
    cr_assert_null(strstr(queues_explain(q, 0, 1), "paused"));
    ok(leat_queue_ack(q, &m));
    cr_assert_null(strstr(queues_explain(q, 0, 1), "in_flight_max"));
    take(q, &m, "1", 1);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

// The log goes on behind what was handed out, so that no number names another record.
Test(queue_explain, says_that_a_power_cut_left_a_gap) {
    int gaps = 0;
    for (uint64_t seed = 1; seed <= 60 && gaps < 2; seed++) {
        queues_open(LEAT_CLOCK_MANUAL, seed);
        q = queues_make("a", NULL);
        queues_send(q, "kept");
        take(q, &m, "kept", 1);
        ok(leat_sync(mq));
        queues_send_n(q, 3, 3000);
        for (int i = 0; i < 3; i++)
            gives(1, leat_queue_receive(q, 0, &n, 1));
        queues_crash(LEAT_POWER_CUT);
        q = queues_make("a", NULL);
        queues_send(q, "new");
        gaps += strstr(queues_explain(q, 0, 3), "no message: the log has a gap there") != NULL;
        ok(leat_close_all(mq, 0));
    }
    cr_assert(gaps > 0, "no power cut took records and left their words: the test shows nothing");
}
