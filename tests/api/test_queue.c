/* SPDX-License-Identifier: MIT */
// Queues: who gets a message and when it comes back, what receipts and views are good for, and what
// is refused. Time is the test's own.
#include "lib/jobs.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- delivery

Test(queue, delivers_in_order_and_leases) {
    for (enum jobs_kind k = MEMORY; k < JOBS_KINDS; k++) {
        make_dir();
        open_jobs(k, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", NULL);
        send("a");
        send("b");
        send("");
        counts(3, 0, 0, 0);
        leat_message three[5];
        gives(3, leat_queue_receive(q, 0, three, 5));
        is(three[0].value, "a");
        is(three[1].value, "b");
        is(three[2].value, "");
        cr_assert_str_eq(three[0].topic, "jobs");
        cr_assert_neq(three[0].receipt, three[1].receipt);
        nothing(q);
        counts(0, 0, 3, 0);
        for (int i = 0; i < 3; i++)
            ok(leat_queue_ack(q, &three[i]));
        counts(0, 0, 0, 0);
        ok(leat_clock_advance(mq, 31 * SECOND));
        nothing(q);
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue, comes_back_exactly_when_the_visibility_timeout_is_over) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND });
    send("a");
    send("b");
    take(q, &m, "a", 1);
    ok(leat_clock_advance(mq, 10 * SECOND - 1));
    counts(1, 0, 1, 0);
    ok(leat_clock_advance(mq, 1));
    counts(2, 0, 0, 0);
    take(q, &n, "a", 2); // at its old place, before b
    ok(leat_queue_ack(q, &n));
    ok(leat_message_release(mq, &m));
    take(q, &n, "b", 1);
    ok(leat_queue_ack(q, &n));
    ok(leat_close_all(mq, 0));
}

Test(queue, nack_gives_back_at_once_or_after_a_delay) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    send("a");
    take(q, &m, "a", 1);
    ok(leat_queue_nack(q, &m, 0, 0));
    take(q, &m, "a", 2);
    ok(leat_queue_nack(q, &m, 5 * SECOND, 0));
    counts(0, 1, 0, 0);
    nothing(q);
    ok(leat_clock_advance(mq, 5 * SECOND - 1));
    nothing(q);
    ok(leat_clock_advance(mq, 1));
    take(q, &m, "a", 3);
    fails(LEAT_EINVAL, leat_queue_nack(q, &m, -1, 0));
    fails(LEAT_EINVAL, leat_queue_nack(q, &m, 367LL * 24 * HOUR, 0));
    fails(LEAT_EINVAL, leat_queue_nack(q, &m, 0, 2));
    ok(leat_queue_ack(q, &m)); // the lease stood
    ok(leat_close_all(mq, 0));
}

Test(queue, extend_counts_from_now) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND });
    send("a");
    take(q, &m, "a", 1);
    ok(leat_clock_advance(mq, 9 * SECOND));
    ok(leat_queue_extend(q, &m, 20 * SECOND));
    ok(leat_clock_advance(mq, 20 * SECOND - 1));
    nothing(q);
    ok(leat_clock_advance(mq, 1));
    ok(leat_queue_extend(q, &m, 5 * SECOND)); // it ran out, but nobody else got it
    nothing(q);
    ok(leat_queue_extend(q, &m, 0));
    take(q, &n, "a", 2);
    fails(LEAT_ESTALE, leat_queue_extend(q, &m, 1));
    fails(LEAT_EINVAL, leat_queue_extend(q, &n, -1));
    ok(leat_queue_ack(q, &n));
    ok(leat_message_release(mq, &m));
    ok(leat_close_all(mq, 0));
}

// ---- receipts and views

Test(queue, a_receipt_is_good_once_and_until_the_message_is_handed_out_again) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = SECOND });
    send("a");
    take(q, &m, "a", 1);
    leat_message copy = m;
    ok(leat_clock_advance(mq, SECOND));
    take(q, &n, "a", 2);
    fails(LEAT_ESTALE, leat_queue_ack(q, &m)); // somebody else has it now
    counts(0, 0, 1, 0);
    fails(LEAT_ESTALE, leat_message_release(mq, &copy)); // the ack has ended the view
    ok(leat_clock_advance(mq, SECOND));
    ok(leat_queue_ack(q, &n)); // ran out, not handed out again: accepted
    fails(LEAT_ESTALE, leat_queue_ack(q, &n));
    nothing(q);
    counts(0, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

Test(queue, forged_and_foreign_receipts_change_nothing) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    leat_queue *other;
    ok(leat_queue_open(mq, "other", NULL, &other));
    open_queue("jobs", NULL);
    send("a");
    take(q, &m, "a", 1);
    leat_message forged = m;
    forged.view = 0;
    const uint64_t receipts[] = { 0, 1, UINT64_MAX, m.receipt ^ 1,
                                  m.receipt + ((uint64_t)1 << 40) };
    for (size_t i = 0; i < sizeof receipts / sizeof receipts[0]; i++) {
        forged.receipt = receipts[i];
        fails(LEAT_ESTALE, leat_queue_ack(q, &forged));
        fails(LEAT_ESTALE, leat_queue_nack(q, &forged, 0, 0));
        fails(LEAT_ESTALE, leat_queue_extend(q, &forged, 0));
    }
    forged.receipt = m.receipt;
    fails(LEAT_ESTALE, leat_queue_ack(other, &forged));
    counts(0, 0, 1, 0);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue, a_view_ends_once_and_its_lease_goes_on) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    send("a");
    take(q, &m, "a", 1);
    leat_message copy = m, kept;
    ok(leat_message_hold(mq, &m, &kept));
    ok(leat_message_release(mq, &m));
    fails(LEAT_ESTALE, leat_message_release(mq, &copy));
    fails(LEAT_ESTALE, leat_message_hold(mq, &copy, &n));
    is(kept.value, "a");
    ok(leat_queue_close(q)); // a held message is the store's affair
    fails_saying(LEAT_EBUSY, "message", leat_close(mq, 0));
    open_queue("jobs", NULL);
    ok(leat_queue_ack(q, &copy)); // by receipt; the view it names has ended, no matter
    is(kept.value, "a");
    ok(leat_message_release(mq, &kept));
    ok(leat_close_all(mq, 0));
}

Test(queue, with_views_out_it_does_not_close_but_close_all_does) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    leat_queue *again;
    ok(leat_queue_open(mq, "jobs", NULL, &again));
    cr_assert_eq(again, q);
    ok(leat_queue_close(again));
    send("a");
    send("b");
    leat_message two[2];
    gives(2, leat_queue_receive(q, 0, two, 2));
    fails_saying(LEAT_EBUSY, "2 messages", leat_queue_close(q));
    ok(leat_message_release(mq, &two[0]));
    ok(leat_message_release(mq, &two[1]));
    ok(leat_queue_close(q));
    open_queue("jobs", NULL);
    counts(0, 0, 2, 0); // the leases went on
    gives(0, leat_queue_receive(q, 0, &m, 1));
    ok(leat_clock_advance(mq, 30 * SECOND));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_close_all(mq, 0));
}

Test(queue, a_strict_store_names_what_is_leased) {
    ok(leat_test_open(&mq));
    open_queue("jobs", NULL);
    send("a");
    take(q, &m, "a", 1);
    fails_saying(LEAT_EBUSY, "held", leat_close_all(mq, 0));
    ok(leat_message_release(mq, &m));
    fails_saying(LEAT_EBUSY, "jobs", leat_close_all(mq, 0));
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

// ---- limits and wrong arguments

Test(queue, in_flight_is_bounded_and_says_so) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .in_flight_max = 2 });
    for (int i = 0; i < 3; i++)
        send("x");
    leat_message three[3];
    gives(2, leat_queue_receive(q, 0, three, 3));
    fails_saying(LEAT_EFULL, "in_flight_max", leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_ack(q, &three[0]));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_close_all(mq, 0));
}

Test(queue, wrong_arguments_are_named_and_harmless) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    leat_queue *x = (leat_queue *)&m;
    fails(LEAT_EINVAL, leat_queue_open(mq, NULL, NULL, &x));
    cr_assert_null(x);
    fails(LEAT_EINVAL, leat_queue_open(mq, "", NULL, &x));
    fails(LEAT_EINVAL, leat_queue_open(mq, "../x", NULL, &x));
    fails(LEAT_EINVAL, leat_queue_open(mq, "jobs", NULL, NULL));
    fails(LEAT_EINVAL, leat_queue_open(NULL, "jobs", NULL, &x));
    const leat_queue_options bad[] = {
        { .flags = 1u << 31 },
        { .acks = 4 },
        { .acks = 9 },
        { .deliveries_max = -2 },
        { .deliveries_max = 4096 },
        { .partitions = -1 },
        { .partitions = 1025 },
        { .visibility_timeout_ms = -1 },
        { .in_flight_max = -1 },
        { .in_flight_max = 1 << 24 },
        { .topic = "a b" },
        { .dead_letter = "?" },
        { .reserved = { 0, 1 } },
        { .visibility_timeout_ms = 367LL * 24 * HOUR },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        fails(LEAT_EINVAL, leat_queue_open(mq, "jobs", &bad[i], &x));
    fails(LEAT_ENOENT,
          leat_queue_open(mq, "jobs", &(leat_queue_options){ .flags = LEAT_MUST_EXIST }, &x));
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 4095,
                                              .in_flight_max = (1 << 24) - 1,
                                              .partitions = 1024 });
    fails(LEAT_EINVAL, leat_queue_receive(q, 0, NULL, 1));
    fails(LEAT_EINVAL, leat_queue_receive(q, 0, &m, 0));
    fails(LEAT_EINVAL, leat_queue_receive(q, -7, &m, 1));
    fails(LEAT_EINVAL, leat_queue_receive(NULL, 0, &m, 1));
    fails(LEAT_EINVAL, leat_queue_send(q, NULL, NULL));
    fails(LEAT_EINVAL, leat_queue_send(NULL, &(leat_record){ .value = LEAT_STR("a") }, NULL));
    fails(LEAT_EINVAL, leat_queue_ack(q, NULL));
    fails(LEAT_EINVAL, leat_queue_ack(NULL, &m));
    fails(LEAT_EINVAL, leat_queue_nack(q, NULL, 0, 0));
    fails(LEAT_EINVAL, leat_queue_extend(q, NULL, 0));
    fails(LEAT_EINVAL, leat_queue_close(NULL));
    leat_queue_stats s;
    fails(LEAT_EINVAL, leat_queue_get_stats(q, NULL, sizeof s));
    fails(LEAT_EINVAL, leat_queue_get_stats(q, &s, 1));
    cr_assert_null(leat_queue_topic(NULL));
    ok(leat_close_all(mq, 0));
}

Test(queue, a_topic_bears_64_queues) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    leat_topic *t;
    leat_queue *x;
    ok(leat_topic_open(mq, "t", NULL, &t));
    char name[16];
    for (int i = 0; i < 64; i++) {
        (void)snprintf(name, sizeof name, "q%d", i);
        ok(leat_queue_open(mq, name, &(leat_queue_options){ .topic = "t" }, &x));
    }
    fails(LEAT_EFULL, leat_queue_open(mq, "q64", &(leat_queue_options){ .topic = "t" }, &x));
    ok(leat_close_all(mq, 0));
}

Test(queue, a_forked_child_may_close_a_store_with_leases) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    send("a");
    take(q, &m, "a", 1);
    pid_t child = fork();
    if (child == 0) {
        bool well = leat_queue_receive(q, 0, &n, 1) == LEAT_EFORK && leat_close_all(mq, 0) == 0;
        _exit(well ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %d", status);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}
