/* SPDX-License-Identifier: MIT */
// Settling by receipt: what it may be used for, from where, and what is refused without any change.
#include "lib/jobs.h"

#include <stdint.h>

static leat_queue *other;

// by_receipt makes the call of that number; expect is what each is to return.
enum { ACK, NACK, REJECT, EXTEND, CALLS };

static int by_receipt(leat_queue *queue, int call, uint64_t receipt) {
    switch (call) {
    case ACK:
        return leat_queue_ack_receipt(queue, receipt);
    case NACK:
        return leat_queue_nack_receipt(queue, receipt, 5 * SECOND, 0);
    case REJECT:
        return leat_queue_reject_receipt(queue, receipt, "why");
    default:
        return leat_queue_extend_receipt(queue, receipt, HOUR);
    }
}

Test(queue_receipt, settles_and_leaves_the_view_to_its_holder) {
    for (int call = ACK; call < CALLS; call++) {
        open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", NULL);
        send("a");
        take(q, &m, "a", 1);
        ok(by_receipt(q, call, m.receipt));
        counts(0, call == NACK, call == EXTEND, call == REJECT);
        is(m.value, "a");
        fails_saying(LEAT_EBUSY, "1", leat_queue_close(q)); // its view is out
        ok(leat_message_release(mq, &m));
        if (call == EXTEND) {
            ok(leat_clock_advance(mq, HOUR - 1));
            nothing(q);
            ok(leat_queue_ack_receipt(q, m.receipt));
        } else {
            fails_saying(LEAT_ESTALE, "jobs", by_receipt(q, call, m.receipt)); // good once
        }
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_receipt, other_numbers_are_stale_and_change_nothing) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    ok(leat_queue_open(mq, "other", NULL, &other));
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = SECOND });
    leat_message two[2];
    for (int i = 0; i < 4; i++)
        send("x");
    gives(2, leat_queue_receive(q, 0, two, 2));
    take(q, &m, "x", 1);
    const uint64_t settled = m.receipt;
    ok(leat_queue_ack(q, &m));
    take(q, &m, "x", 1); // in the slot of the one that was settled, or the next
    ok(leat_queue_nack(q, &m, HOUR, 0));
    const uint64_t delayed = m.receipt, good = two[0].receipt;
    uint64_t numbers[64 + 12] = { 0,
                                  1,
                                  UINT64_MAX,
                                  settled,
                                  delayed,
                                  good + 1,
                                  good + (1u << 24),
                                  UINT64_C(1) << 40,
                                  good << 1,
                                  UINT64_C(0xffffff) << 40,
                                  INT64_MAX,
                                  good - 1 };
    size_t n_numbers = 12;
    for (int bit = 0; bit < 64; bit++)
        numbers[n_numbers++] = good ^ UINT64_C(1) << bit;
    for (int call = ACK; call < CALLS; call++) {
        for (size_t i = 0; i < n_numbers; i++) {
            if (numbers[i] != two[1].receipt)
                fails(LEAT_ESTALE, by_receipt(q, call, numbers[i]));
        }
        fails(LEAT_ESTALE, by_receipt(other, call, good));
    }
    counts(0, 1, 2, 0);
    ok(leat_clock_advance(mq, SECOND)); // nothing was extended
    counts(2, 1, 0, 0);
    for (int i = 0; i < 2; i++)
        ok(leat_queue_ack(q, &two[i]));
    ok(leat_close_all(mq, 0));
}

Test(queue_receipt, a_lease_that_ran_out_settles_until_it_is_handed_out_again) {
    for (int call = ACK; call < CALLS; call++) {
        open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = SECOND });
        send("a");
        take(q, &m, "a", 1);
        ok(leat_message_release(mq, &m));
        ok(leat_clock_advance(mq, SECOND));
        counts(1, 0, 0, 0);
        take(q, &n, "a", 2);
        fails(LEAT_ESTALE, by_receipt(q, call, m.receipt)); // somebody else has it
        counts(0, 0, 1, 0);
        ok(leat_clock_advance(mq, SECOND));
        ok(by_receipt(q, call, n.receipt));
        counts(0, call == NACK, call == EXTEND, call == REJECT);
        ok(leat_message_release(mq, &n));
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_receipt, of_an_earlier_run_is_stale) {
    for (enum jobs_kind k = MEMORY; k < JOBS_KINDS; k++) {
        for (int how = 0; how <= LEAT_POWER_CUT; how++) {
            if (k == MEMORY && how == 0)
                continue;
            make_dir();
            open_jobs(k, LEAT_CLOCK_MANUAL, how ? LEAT_CRASHABLE : 0);
            open_queue("jobs", &(leat_queue_options){ .acks = LEAT_ACKS_DISK });
            send("a");
            ok(leat_sync(mq));
            take(q, &m, "a", 1);
            if (how) {
                crash(how);
            } else {
                ok(leat_close_all(mq, 0));
                open_jobs(k, LEAT_CLOCK_MANUAL, 0);
                open_queue("jobs", NULL);
            }
            for (int call = ACK; call < CALLS; call++)
                fails(LEAT_ESTALE, by_receipt(q, call, m.receipt));
            counts(1, 0, 0, 0);
            gives(1, leat_queue_receive(q, 0, &n, 1));
            for (int call = ACK; call < CALLS; call++)
                fails(LEAT_ESTALE, by_receipt(q, call, m.receipt));
            ok(leat_queue_ack(q, &n));
            ok(leat_close_all(mq, 0));
            drop_dir();
        }
    }
}

Test(queue_receipt, wrong_arguments_are_refused) {
    char reason[257] = { 0 };
    memset(reason, 'x', 256);
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    send("a");
    take(q, &m, "a", 1);
    for (int call = ACK; call < CALLS; call++)
        fails(LEAT_EINVAL, by_receipt(NULL, call, m.receipt));
    fails(LEAT_EINVAL, leat_queue_nack_receipt(q, m.receipt, -1, 0));
    fails(LEAT_EINVAL, leat_queue_nack_receipt(q, m.receipt, LEAT_BACKOFF, 0));
    fails(LEAT_EINVAL, leat_queue_nack_receipt(q, m.receipt, 0, 4));
    fails(LEAT_EINVAL, leat_queue_reject_receipt(q, m.receipt, reason));
    fails(LEAT_EINVAL, leat_queue_extend_receipt(q, m.receipt, -1));
    fails(LEAT_EINVAL, leat_queue_extend_receipt(q, m.receipt, LEAT_BACKOFF));
    fails(LEAT_EINVAL, leat_queue_extend_receipt(q, m.receipt, INT64_MAX));
    for (int call = ACK; call < CALLS; call++) {
        ok(leat_fault_push(mq, LEAT_OP_SETTLE, "jobs", -1, LEAT_EIO, 1, 0));
        fails(LEAT_EIO, by_receipt(q, call, m.receipt));
    }
    counts(0, 0, 1, 0);
    ok(leat_shutdown(mq));
    for (int call = ACK; call < CALLS; call++)
        fails(LEAT_ECLOSED, by_receipt(q, call, m.receipt));
    ok(leat_message_release(mq, &m));
    ok(leat_close_all(mq, 0));
}

// ---- inside a callback, and on the jumping clock

static int rcs[CALLS];

static void on_message(leat_subscription *s, const leat_message *heard, void *ctx) {
    leat_message *got = ctx;
    (void)s;
    (void)heard;
    for (int call = ACK; call < CALLS; call++)
        rcs[call] = by_receipt(q, call, got[call].receipt);
    rcs[ACK] += leat_queue_ack_many(q, &got[CALLS], 1, NULL);
    rcs[NACK] += leat_queue_nack_many(q, &got[CALLS + 1], 1, 0, LEAT_UNCOUNTED, NULL);
    rcs[REJECT] += leat_queue_reject_many(q, &got[CALLS + 2], 1, NULL, NULL);
    rcs[EXTEND] += leat_queue_reject(q, &got[CALLS + 3], "in a callback");
}

Test(queue_receipt, every_form_may_be_called_in_a_callback) {
    leat_subscription *s;
    leat_message got[2 * CALLS];
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    for (int i = 0; i < 2 * CALLS; i++)
        send("x");
    gives(2 * CALLS, leat_queue_receive(q, 0, got, 2 * CALLS));
    ok(leat_channel_subscribe(mq, "c", on_message, got, NULL, &s));
    gives(1, leat_publish(mq, "c", "", 0));
    for (int call = ACK; call < CALLS; call++)
        cr_assert_eq(rcs[call], 0, "%d: %d", call, rcs[call]);
    counts(1, 1, 1, 3);
    ok(leat_close_all(mq, 0));
}

Test(queue_receipt, a_jumping_clock_comes_to_the_end_of_what_was_put_off) {
    open_jobs(MEMORY, LEAT_CLOCK_JUMP, 0);
    open_queue("jobs",
               &(leat_queue_options){ .backoff_count = 1, .backoff_ms = (int64_t[]){ 12 * HOUR } });
    send("a");
    take(q, &m, "a", 1);
    ok(leat_message_release(mq, &m));
    gives(1, leat_queue_receive(q, LEAT_FOREVER, &n, 1)); // lease, then list
    cr_assert_eq(n.deliveries, 2);
    fails(LEAT_ESTALE, leat_queue_ack_receipt(q, m.receipt));
    int64_t now;
    ok(leat_clock_now(mq, &now, NULL));
    ok(leat_queue_nack_receipt(q, n.receipt, LEAT_BACKOFF, 0));
    ok(leat_message_release(mq, &n));
    gives(1, leat_queue_receive(q, LEAT_FOREVER, &n, 1));
    int64_t later;
    ok(leat_clock_now(mq, &later, NULL));
    cr_assert_eq(later - now, 12 * HOUR);
    ok(leat_queue_reject(q, &n, NULL));
    fails(LEAT_EDEADLK, leat_queue_receive(q, LEAT_FOREVER, &n, 1));
    ok(leat_close_all(mq, 0));
}
