/* SPDX-License-Identifier: MIT */
// unit_test: what a test of code that uses leat looks like. Twelve hours pass in microseconds, and
// a test that forgets a message is told so by the last line.
#include <criterion/criterion.h>

#include "leat_test.h"

Test(emails, nobody_acks_and_it_dies_after_two_tries) {
    leat *mq;
    leat_queue *q, *dead;
    leat_message m;
    cr_assert_eq(leat_test_open(&mq), 0);
    cr_assert_eq(leat_queue_open(mq, "dead", NULL, &dead), 0);
    cr_assert_eq(leat_queue_open(mq, "emails",
                                 &(leat_queue_options){ .visibility_timeout_ms = 12 * 3600000LL,
                                                        .deliveries_max = 2,
                                                        .dead_letter = "dead" },
                                 &q),
                 0);
    cr_assert_eq(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("hi bob") }, NULL), 0);
    for (int i = 1; i <= 2; i++) {
        cr_assert_eq(leat_queue_receive(q, 0, &m, 1), 1);
        cr_assert_eq(leat_message_release(mq, &m), 0);           // the worker dies without a word
        cr_assert_eq(leat_clock_advance(mq, 12 * 3600000LL), 0); // microseconds
    }
    // Nothing can ever come: said, not hung.
    cr_assert_eq(leat_queue_receive(q, LEAT_FOREVER, &m, 1), LEAT_EDEADLK);
    cr_assert_eq(leat_queue_receive(dead, 0, &m, 1), 1);
    cr_assert_eq(leat_queue_ack(dead, &m), 0);
    cr_assert_eq(leat_close_all(mq, 0), 0, "%s", leat_errmsg()); // names what was left leased
}
