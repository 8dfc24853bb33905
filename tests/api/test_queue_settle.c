/* SPDX-License-Identifier: MIT */
// Settling: reject and its reason, the backoff list, deliveries that do not count, many at once,
// and what of it is there after an open, a kill and a power cut.
#include "lib/jobs.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

enum { N = 8 };

static leat_queue *dead;
static leat_message many[N];

static void open_both(enum jobs_kind kind, leat_queue_options o) {
    o.dead_letter = "dead";
    open_jobs(kind, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &o);
    ok(leat_queue_open(mq, "dead", NULL, &dead));
}

static void send_n(int count) {
    for (int i = 0; i < count; i++)
        send((const char *[]){ "a", "b", "c", "d", "e", "f", "g", "h" }[i]);
}

// ---- reject

Test(queue_settle, a_rejected_message_is_dead_at_once_and_says_why) {
    char reason[257];
    memset(reason, 'x', sizeof reason - 1);
    reason[256] = '\0';
    open_both(MEMORY, (leat_queue_options){ .deliveries_max = 5 });
    send_n(3);
    take(q, &m, "a", 1);
    ok(leat_queue_reject(q, &m, "no such user"));
    fails(LEAT_ESTALE, leat_message_release(mq, &m)); // the view has ended
    take(dead, &m, "a", 1);
    says(&m, "leat.reason", "no such user");
    says(&m, "leat.deliveries", "1");
    says(&m, "leat.queue", "jobs");
    ok(leat_queue_ack(dead, &m));
    take(q, &m, "b", 1);
    ok(leat_queue_reject(q, &m, NULL));
    take(dead, &m, "b", 1);
    says(&m, "leat.reason", "rejected");
    ok(leat_queue_ack(dead, &m));
    take(q, &m, "c", 1);
    leat_message copy = m;
    fails_saying(LEAT_EINVAL, "255", leat_queue_reject(q, &m, reason));
    counts(0, 0, 1, 0);
    reason[255] = '\0';
    ok(leat_queue_reject(q, &copy, reason));
    take(dead, &m, "c", 1);
    says(&m, "leat.reason", reason);
    ok(leat_queue_ack(dead, &m));
    nothing(q);
    cr_assert_eq(stats_of(q).dead, 3);
    ok(leat_close_all(mq, 0));
}

Test(queue_settle, without_a_dead_letter_queue_the_rejected_stay_and_stay_dead) {
    for (enum jobs_kind k = MAPPED; k < JOBS_KINDS; k++) {
        make_dir();
        open_jobs(k, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", NULL);
        send("a");
        take(q, &m, "a", 1);
        ok(leat_queue_reject(q, &m, "bad"));
        fails(LEAT_ESTALE, leat_queue_reject(q, &m, "bad"));
        counts(0, 0, 0, 1);
        ok(leat_close_all(mq, 0));
        open_jobs(k, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", NULL);
        counts(0, 0, 0, 1);
        nothing(q);
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue_settle, a_lease_that_ran_out_can_be_rejected_until_it_is_handed_out_again) {
    open_both(MEMORY, (leat_queue_options){ .visibility_timeout_ms = SECOND });
    send("a");
    take(q, &m, "a", 1);
    ok(leat_clock_advance(mq, SECOND));
    take(q, &n, "a", 2);
    fails(LEAT_ESTALE, leat_queue_reject(q, &m, "late"));
    counts(0, 0, 1, 0);
    ok(leat_clock_advance(mq, SECOND));
    ok(leat_queue_reject(q, &n, "late"));
    nothing(q);
    take(dead, &m, "a", 1);
    says(&m, "leat.reason", "late");
    ok(leat_queue_ack(dead, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue_settle, the_reason_lives_until_the_move_is_done) {
    open_both(MEMORY, (leat_queue_options){ .deliveries_max = 5 });
    send_n(2);
    gives(2, leat_queue_receive(q, 0, many, 2));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "dead", -1, LEAT_EFULL, 4, 0));
    ok(leat_queue_reject(q, &many[0], "first"));
    ok(leat_queue_reject(q, &many[1], "second"));
    cr_assert_eq(stats_of(q).moving, 2);
    fails(LEAT_ESTALE, leat_queue_ack_receipt(q, many[0].receipt));
    ok(leat_clock_advance(mq, 5 * SECOND));
    cr_assert_eq(stats_of(q).moving, 0);
    gives(2, leat_queue_receive(dead, 0, many, 2));
    for (int i = 0; i < 2; i++) {
        says(&many[i], "leat.reason", i == 0 ? "first" : "second");
        ok(leat_queue_ack(dead, &many[i]));
    }
    ok(leat_close_all(mq, 0));
}

Test(queue_settle, a_move_that_ends_after_an_open_is_still_a_rejection) {
    for (enum jobs_kind k = MAPPED; k < JOBS_KINDS; k++) {
        make_dir();
        open_both(k, (leat_queue_options){ .deliveries_max = 2 });
        send_n(2);
        gives(2, leat_queue_receive(q, 0, many, 2));
        ok(leat_queue_nack(q, &many[1], 0, 0));
        take(q, &m, "b", 2);
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "dead", -1, LEAT_EFULL, 100, 0));
        ok(leat_queue_reject(q, &many[0], "lost at the next open"));
        ok(leat_queue_nack(q, &m, 0, 0)); // its last try
        ok(leat_close_all(mq, 0));
        open_both(k, (leat_queue_options){ 0 });
        nothing(q);
        gives(2, leat_queue_receive(dead, 0, many, 2));
        for (int i = 0; i < 2; i++) {
            says(&many[i], "leat.reason",
                 *(const char *)many[i].value.data == 'a' ? "rejected" : "deliveries");
            ok(leat_queue_ack(dead, &many[i]));
        }
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
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

Test(queue_settle, a_reject_without_memory_changes_nothing) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL, .alloc = failing_alloc };
    int failed = 0;
    ok(leat_open_memory(&o, &mq));
    open_queue("jobs", &(leat_queue_options){ .dead_letter = "dead" });
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    send("a");
    take(q, &m, "a", 1);
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "dead", -1, LEAT_EFULL, LEAT_FOREVER, 0));
    for (fail_in = 1;; fail_in = ++failed + 1) {
        int rc = leat_queue_reject_receipt(q, m.receipt, "x");
        if (rc == 0)
            break;
        cr_assert_eq(rc, LEAT_ENOMEM, "%d", rc);
        counts(0, 0, 1, 0);
    }
    cr_assert(failed >= 2, "%d allocations", failed);
    fail_in = 0;
    ok(leat_fault_clear(mq));
    ok(leat_clock_advance(mq, 5 * SECOND));
    take(dead, &n, "a", 1);
    says(&n, "leat.reason", "x");
    ok(leat_queue_ack(dead, &n));
    ok(leat_message_release(mq, &m));
    ok(leat_close_all(mq, 0));
}

// ---- the backoff list

static const int64_t list[] = { 10 * SECOND, 0, 60 * SECOND };

static leat_queue_options with_list(void) {
    return (leat_queue_options){ .backoff_ms = list,
                                 .backoff_count = 3,
                                 .visibility_timeout_ms = SECOND };
}

Test(queue_settle, the_list_says_how_long_a_nacked_message_waits) {
    leat_queue_options o = with_list();
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &o);
    send("a");
    const int64_t waits[] = { 10 * SECOND, 0, 60 * SECOND, 60 * SECOND, 60 * SECOND };
    for (int i = 0; i < 5; i++) {
        take(q, &m, "a", i + 1);
        ok(leat_queue_nack(q, &m, LEAT_BACKOFF, 0));
        counts(waits[i] == 0, waits[i] != 0, 0, 0);
        if (waits[i] == 0)
            continue;
        ok(leat_clock_advance(mq, waits[i] - 1));
        nothing(q);
        ok(leat_clock_advance(mq, 1));
    }
    take(q, &m, "a", 6);
    ok(leat_queue_nack(q, &m, 5, 0)); // a delay of its own
    ok(leat_clock_advance(mq, 5));
    take(q, &m, "a", 7);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue_settle, the_list_holds_for_leases_that_run_out_and_their_receipts_settle) {
    enum { ACK, NACK, NACK_LATER, REJECT, EXTEND, GIVE_BACK, NONE, WAYS };
    for (int way = ACK; way < WAYS; way++) {
        leat_queue_options o = with_list();
        open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", &o);
        send("a");
        take(q, &m, "a", 1);
        ok(leat_clock_advance(mq, SECOND));
        counts(0, 1, 0, 0);
        nothing(q);
        ok(leat_clock_advance(mq, 10 * SECOND - 1));
        nothing(q);
        if (way == ACK) {
            ok(leat_queue_ack(q, &m));
            counts(0, 0, 0, 0);
        } else if (way == NACK) {
            ok(leat_queue_nack(q, &m, 0, 0));
            counts(1, 0, 0, 0);
        } else if (way == NACK_LATER) {
            ok(leat_queue_nack(q, &m, HOUR, 0));
            counts(0, 1, 0, 0);
        } else if (way == REJECT) {
            ok(leat_queue_reject(q, &m, NULL));
            counts(0, 0, 0, 1);
        } else if (way == EXTEND) {
            ok(leat_queue_extend(q, &m, SECOND));
            counts(0, 0, 1, 0);
            ok(leat_queue_ack(q, &m));
        } else if (way == GIVE_BACK) {
            ok(leat_queue_extend(q, &m, 0));
            counts(1, 0, 0, 0);
        } else {
            ok(leat_clock_advance(mq, 1));
            counts(1, 0, 0, 0);
            leat_message old = m;
            ok(leat_queue_extend(q, &m, SECOND)); // not handed out again yet
            ok(leat_clock_advance(mq, SECOND + 10 * SECOND));
            take(q, &n, "a", 2);
            fails(LEAT_ESTALE, leat_queue_ack(q, &old));
            ok(leat_queue_ack(q, &n));
        }
        if (way != NONE)
            fails(LEAT_ESTALE, leat_queue_ack_receipt(q, m.receipt));
        ok(leat_close_all(mq, 0));
    }
}

Test(queue_settle, the_last_try_is_dead_whatever_the_list_says) {
    leat_queue_options o = with_list();
    o.deliveries_max = 1;
    open_both(MEMORY, o);
    send_n(2);
    gives(2, leat_queue_receive(q, 0, many, 2));
    ok(leat_queue_nack(q, &many[0], LEAT_BACKOFF, 0));
    ok(leat_clock_advance(mq, SECOND));
    counts(0, 0, 0, 0);
    gives(2, leat_queue_receive(dead, 0, many, 2));
    for (int i = 0; i < 2; i++) {
        says(&many[i], "leat.reason", "deliveries");
        ok(leat_queue_ack(dead, &many[i]));
    }
    ok(leat_close_all(mq, 0));
}

Test(queue_settle, an_open_knows_the_list_and_what_waits_by_it) {
    for (enum jobs_kind k = MAPPED; k < JOBS_KINDS; k++) {
        leat_queue_options o = with_list();
        o.visibility_timeout_ms = 100;
        make_dir();
        open_jobs(k, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", &o);
        send_n(4);
        gives(4, leat_queue_receive(q, 0, many, 4));
        ok(leat_queue_nack(q, &many[0], LEAT_BACKOFF, 0));
        ok(leat_clock_advance(mq, 100)); // b, c and d run out
        ok(leat_queue_nack(q, &many[1], 0, 0));
        ok(leat_queue_extend(q, &many[2], HOUR));
        ok(leat_message_release(mq, &many[3]));
        ok(leat_close_all(mq, 0));
        open_jobs(k, LEAT_CLOCK_MANUAL, 0); // 100 ms earlier
        open_queue("jobs", &o);
        counts(2, 2, 0, 0);
        take(q, &m, "b", 2);
        ok(leat_queue_ack(q, &m));
        take(q, &m, "c", 2); // was in flight
        ok(leat_queue_ack(q, &m));
        ok(leat_clock_advance(mq, 10 * SECOND - 1));
        nothing(q);
        ok(leat_clock_advance(mq, 11)); // delays are kept to 10 ms, never early
        take(q, &m, "a", 2);
        ok(leat_queue_ack(q, &m));
        ok(leat_clock_advance(mq, 100));
        take(q, &m, "d", 2);
        ok(leat_queue_ack(q, &m));
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

Test(queue_settle, the_list_is_a_setting_like_others) {
    leat_queue *same;
    leat_queue_options o = { .backoff_ms = list, .backoff_count = 3 }, other = o;
    leat_queue_options none = { .backoff_count = LEAT_ZERO };
    const int64_t bad[] = { 0, -1 }, far[] = { 367LL * 24 * HOUR }, two[] = { 10 * SECOND, 1 };
    int64_t long_list[17] = { 0 };
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    const leat_queue_options wrong[] = {
        { .backoff_count = 1 },
        { .backoff_ms = list },
        { .backoff_count = LEAT_ZERO, .backoff_ms = list },
        { .backoff_count = -1, .backoff_ms = list },
        { .backoff_count = 17, .backoff_ms = long_list },
        { .backoff_count = INT32_MAX, .backoff_ms = long_list },
        { .backoff_count = 2, .backoff_ms = bad },
        { .backoff_count = 1, .backoff_ms = far },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        fails_saying(LEAT_EINVAL, "backoff", leat_queue_open(mq, "jobs", &wrong[i], &q));
    ok(leat_queue_open(mq, "longest",
                       &(leat_queue_options){ .backoff_count = 16, .backoff_ms = long_list }, &q));
    open_queue("jobs", NULL);
    send("a");
    take(q, &m, "a", 1);
    leat_message copy = m;
    fails_saying(LEAT_EINVAL, "jobs", leat_queue_nack(q, &m, LEAT_BACKOFF, 0)); // it has none
    counts(0, 0, 1, 0);
    fails_saying(LEAT_EEXIST, "backoff_ms", leat_queue_open(mq, "jobs", &o, &same));
    o.flags = LEAT_ALTER;
    ok(leat_queue_open(mq, "jobs", &o, &same));
    ok(leat_queue_open(mq, "jobs", &other, &same));
    ok(leat_queue_open(mq, "jobs", NULL, &same)); // as it is
    other.backoff_count = 2;
    fails_saying(LEAT_EEXIST, "backoff_ms", leat_queue_open(mq, "jobs", &other, &same));
    other.backoff_ms = two;
    other.flags = LEAT_ALTER;
    ok(leat_queue_open(mq, "jobs", &other, &same));
    ok(leat_queue_nack(q, &copy, LEAT_BACKOFF, 0));
    ok(leat_clock_advance(mq, 10 * SECOND));
    take(q, &m, "a", 2);
    ok(leat_queue_nack(q, &m, LEAT_BACKOFF, 0));
    ok(leat_clock_advance(mq, 1));
    take(q, &m, "a", 3);
    fails(LEAT_EEXIST, leat_queue_open(mq, "jobs", &none, &same));
    none.flags = LEAT_ALTER;
    ok(leat_queue_open(mq, "jobs", &none, &same));
    none.flags = 0;
    ok(leat_queue_open(mq, "jobs", &none, &same));
    copy = m;
    fails(LEAT_EINVAL, leat_queue_nack(q, &m, LEAT_BACKOFF, 0));
    ok(leat_queue_ack(q, &copy));
    ok(leat_close_all(mq, 0));
}

// ---- deliveries that do not count

Test(queue_settle, an_uncounted_delivery_is_none) {
    for (enum jobs_kind k = MEMORY; k < JOBS_KINDS; k++) {
        leat_queue_options o = with_list();
        o.deliveries_max = 2;
        make_dir();
        open_both(k, o);
        send("a");
        for (int i = 0; i < 3; i++) {
            take(q, &m, "a", 1);
            ok(leat_queue_nack(q, &m, 0, LEAT_UNCOUNTED));
        }
        take(q, &m, "a", 1);
        ok(leat_queue_nack(q, &m, 0, 0));
        for (int i = 0; i < 3; i++) { // as the last try it is not dead either
            take(q, &m, "a", 2);
            ok(leat_queue_nack(q, &m, SECOND, LEAT_UNCOUNTED));
            ok(leat_clock_advance(mq, SECOND));
        }
        take(q, &m, "a", 2);
        ok(leat_queue_nack(q, &m, LEAT_BACKOFF, LEAT_UNCOUNTED)); // the second one: at once
        if (k != MEMORY) {
            ok(leat_close_all(mq, 0));
            open_both(k, (leat_queue_options){ 0 });
        }
        take(q, &m, "a", 2);
        ok(leat_queue_nack(q, &m, 0, 0));
        nothing(q);
        take(dead, &m, "a", 1);
        says(&m, "leat.deliveries", "2");
        ok(leat_queue_ack(dead, &m));
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

// ---- many

Test(queue_settle, each_of_many_is_settled_by_itself) {
    int rcs[N];
    open_both(MEMORY, (leat_queue_options){ 0 });
    send_n(N);
    gives(N, leat_queue_receive(q, 0, many, N));
    ok(leat_queue_ack_receipt(q, many[1].receipt));
    many[3].receipt ^= 1;
    many[5] = many[4]; // the same one twice
    gives(3, leat_queue_ack_many(q, many, N, rcs));
    for (int i = 0; i < N; i++)
        cr_assert_eq(rcs[i], i == 1 || i == 3 || i == 5 ? LEAT_ESTALE : 0, "%d: %d", i, rcs[i]);
    counts(0, 0, 2, 0);
    for (int i = 0; i < N; i++)
        if (i != 5)
            fails(LEAT_ESTALE, leat_message_release(mq, &many[i])); // refused or not
    ok(leat_clock_advance(mq, 30 * SECOND));
    gives(2, leat_queue_receive(q, 0, many, N));
    is(many[0].value, "d");
    is(many[1].value, "f");
    ok(leat_queue_nack_many(q, many, 2, 5 * SECOND, LEAT_UNCOUNTED, NULL));
    counts(0, 2, 0, 0);
    ok(leat_clock_advance(mq, 5 * SECOND));
    gives(2, leat_queue_receive(q, 0, many, N));
    cr_assert_eq(many[0].deliveries, 2);
    many[1].receipt = 0;
    gives(1, leat_queue_reject_many(q, many, 2, "both", rcs));
    cr_assert(rcs[0] == 0 && rcs[1] == LEAT_ESTALE);
    take(dead, &m, "d", 1);
    says(&m, "leat.reason", "both");
    ok(leat_queue_ack(dead, &m));
    gives(1, leat_queue_ack_many(q, many, 1, NULL)); // rcs may be NULL
    gives(0, leat_queue_ack_many(q, NULL, 0, NULL));
    ok(leat_close_all(mq, 0));
}

Test(queue_settle, a_call_for_many_that_is_wrong_as_a_whole_does_nothing) {
    int rcs[2] = { 7, 7 };
    char reason[257] = { 0 };
    memset(reason, 'x', 256);
    open_both(MEMORY, (leat_queue_options){ 0 });
    send_n(2);
    gives(2, leat_queue_receive(q, 0, many, 2));
    fails(LEAT_EINVAL, leat_queue_ack_many(NULL, many, 2, rcs));
    fails(LEAT_EINVAL, leat_queue_ack_many(q, NULL, 2, rcs));
    fails(LEAT_EINVAL, leat_queue_ack_many(q, many, SIZE_MAX, rcs));
    fails(LEAT_EINVAL, leat_queue_ack_many(q, many, (size_t)INT32_MAX + 1, rcs));
    fails(LEAT_EINVAL, leat_queue_nack_many(q, NULL, 2, 0, 0, rcs));
    fails(LEAT_EINVAL, leat_queue_nack_many(q, many, 2, -1, 0, rcs));
    fails(LEAT_EINVAL, leat_queue_nack_many(q, many, 2, 367LL * 24 * HOUR, 0, rcs));
    fails(LEAT_EINVAL, leat_queue_nack_many(q, many, 2, 0, 2, rcs));
    fails(LEAT_EINVAL, leat_queue_nack_many(q, many, 2, LEAT_BACKOFF, 0, rcs)); // no list
    fails(LEAT_EINVAL, leat_queue_reject_many(q, NULL, 2, NULL, rcs));
    fails(LEAT_EINVAL, leat_queue_reject_many(q, many, 2, reason, rcs));
    ok(leat_fault_push(mq, LEAT_OP_SETTLE, "jobs", -1, LEAT_EIO, 3, 0));
    fails(LEAT_EIO, leat_queue_ack_many(q, many, 2, rcs));
    fails(LEAT_EIO, leat_queue_nack_many(q, many, 2, 0, 0, rcs));
    fails(LEAT_EIO, leat_queue_reject_many(q, many, 2, NULL, rcs));
    cr_assert(rcs[0] == 7 && rcs[1] == 7);
    counts(0, 0, 2, 0);
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_queue_ack_many(q, many, 2, rcs));
    fails(LEAT_ECLOSED, leat_queue_nack_many(q, many, 2, 0, 0, rcs));
    fails(LEAT_ECLOSED, leat_queue_reject_many(q, many, 2, NULL, rcs));
    is(many[0].value, "a");
    for (int i = 0; i < 2; i++)
        ok(leat_message_release(mq, &many[i])); // the views stood
    ok(leat_close_all(mq, 0));
}

Test(queue_settle, a_failed_sync_makes_all_of_many_unknown) {
    int rcs[4];
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .settle_acks = LEAT_ACKS_DISK });
    send_n(4);
    gives(4, leat_queue_receive(q, 0, many, 4));
    many[2].receipt = 0;
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "jobs", -1, LEAT_EIO, 1, 0));
    gives(3, leat_queue_ack_many(q, many, 3, rcs));
    cr_assert(rcs[0] == LEAT_EIO && rcs[1] == LEAT_EIO && rcs[2] == LEAT_ESTALE);
    gives(1, leat_queue_ack_many(q, &many[3], 1, rcs));
    cr_assert_eq(rcs[0], LEAT_EPOISONED); // it stands
    counts(0, 0, 2, 0);
    ok(leat_close_all(mq, 0));
}

// ---- groups

static void send_to(const char *group, const char *text) {
    ok(leat_queue_send(q, &(leat_record){ .value = leat_str(text), .group = leat_str(group) },
                       NULL));
}

Test(queue_settle, a_group_waits_for_what_waits_and_goes_on_behind_the_dead) {
    leat_queue_options o = with_list();
    open_both(MEMORY, o);
    send_to("g", "a");
    send_to("g", "b");
    send_to("g", "c");
    take(q, &m, "a", 1);
    nothing(q);
    ok(leat_clock_advance(mq, SECOND)); // it ran out, and waits by the list
    nothing(q);
    ok(leat_queue_nack(q, &m, LEAT_BACKOFF, 0)); // once more, from now
    ok(leat_clock_advance(mq, 10 * SECOND - 1));
    nothing(q);
    ok(leat_clock_advance(mq, 1));
    take(q, &m, "a", 2);
    ok(leat_queue_nack(q, &m, 0, LEAT_UNCOUNTED));
    take(q, &m, "a", 2);
    nothing(q);
    ok(leat_queue_reject(q, &m, "no"));
    take(q, &m, "b", 1);
    nothing(q);
    ok(leat_queue_ack_many(q, &m, 1, NULL));
    take(q, &m, "c", 1);
    ok(leat_queue_ack_receipt(q, m.receipt));
    ok(leat_message_release(mq, &m));
    nothing(q);
    take(dead, &m, "a", 1);
    says(&m, "leat.reason", "no");
    ok(leat_queue_ack(dead, &m));
    ok(leat_close_all(mq, 0));
}

// ---- what survives

Test(queue_settle, many_at_acks_disk_take_one_sync) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .settle_acks = LEAT_ACKS_DISK });
    send_n(N);
    gives(N, leat_queue_receive(q, 0, many, N));
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "jobs", -1, 0, 1, 0)); // the first one is well
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "jobs", -1, LEAT_EIO, 1, 0));
    ok(leat_queue_ack_many(q, many, N - 1, NULL));
    fails(LEAT_EIO, leat_queue_ack(q, &many[N - 1]));
    ok(leat_close_all(mq, 0));
}

Test(queue_settle, what_is_settled_at_acks_disk_survives_a_power_cut) {
    for (enum jobs_kind k = MEMORY; k < JOBS_KINDS; k++) {
        leat_queue_options o = { .settle_acks = LEAT_ACKS_DISK,
                                 .acks = LEAT_ACKS_DISK,
                                 .partitions = 2,
                                 .backoff_count = 1,
                                 .backoff_ms = list,
                                 .dead_letter = "dead" };
        make_dir();
        open_jobs(k, LEAT_CLOCK_MANUAL, LEAT_CRASHABLE);
        open_queue("jobs", &o);
        for (int i = 0; i < N; i++)
            ok(leat_queue_send(
                q, &(leat_record){ .value = LEAT_STR("x"), .to_partition = LEAT_PARTITION(i % 2) },
                NULL));
        gives(N, leat_queue_receive(q, 0, many, N));
        ok(leat_queue_reject_many(q, &many[6], 1, "why", NULL));
        ok(leat_queue_reject(q, &many[7], "why not"));
        ok(leat_queue_nack_many(q, &many[4], 2, LEAT_BACKOFF, 0, NULL));
        ok(leat_queue_ack_many(q, many, 4, NULL));
        crash(LEAT_POWER_CUT);
        counts(0, 2, 0, 0);
        ok(leat_queue_open(mq, "dead", NULL, &dead));
        gives(2, leat_queue_receive(dead, 0, many, N));
        for (int i = 0; i < 2; i++)
            says(&many[i], "leat.deliveries", "1");
        ok(leat_queue_ack_many(dead, many, 2, NULL));
        ok(leat_clock_advance(mq, 10 * SECOND + 10));
        gives(2, leat_queue_receive(q, 0, many, N));
        cr_assert(many[0].deliveries == 2 && many[1].deliveries == 2);
        ok(leat_queue_ack_many(q, many, 2, NULL));
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
}

// ---- threads

enum { THREADS = 4, MESSAGES = 4000, BATCH = 5 };

// Settles what it gets in all ways, each second batch for good, until nothing is left.
static void *settle_all(void *arg) {
    const int *number = arg;
    leat_message got[BATCH];
    int count, rcs[BATCH], turn = *number;
    while ((count = leat_queue_receive_with(q, 0, &(leat_receive_options){ .who = "t" }, got,
                                            BATCH)) > 0) {
        size_t some = (size_t)count;
        int refused = 0;
        switch (turn++ % 6) {
        case 0:
            refused = leat_queue_nack_many(q, got, some, 0, LEAT_UNCOUNTED, rcs);
            break;
        case 1:
            refused = leat_queue_ack_many(q, got, some, rcs);
            break;
        case 2:
            refused = leat_queue_nack_many(q, got, some, 0, 0, NULL);
            break;
        case 3:
            refused = leat_queue_reject_many(q, got, some, "thread", rcs);
            break;
        default:
            for (int i = 0; i < count; i++) {
                refused += turn % 2 ? leat_queue_ack_receipt(q, got[i].receipt)
                                    : leat_queue_reject_receipt(q, got[i].receipt, NULL);
                ok(leat_message_release(mq, &got[i]));
            }
        }
        cr_assert_eq(refused, 0, "%s", leat_errmsg());
    }
    cr_assert_eq(count, 0, "%s", leat_errmsg());
    return NULL;
}

Test(queue_settle, threads_settle_in_all_ways_and_nothing_is_lost) {
    for (int32_t acks = LEAT_ACKS_LOG; acks <= LEAT_ACKS_DISK; acks++) {
        pthread_t thread[THREADS];
        int number[THREADS];
        open_jobs(MEMORY, LEAT_CLOCK_SYSTEM, 0);
        open_queue("jobs", &(leat_queue_options){
                               .settle_acks = acks, .dead_letter = "dead", .partitions = 2 });
        ok(leat_queue_open(mq, "dead", NULL, &dead));
        for (int i = 0; i < MESSAGES; i++)
            send("x");
        for (int i = 0; i < THREADS; i++) {
            number[i] = i;
            cr_assert_eq(pthread_create(&thread[i], NULL, settle_all, &number[i]), 0);
        }
        for (int i = 0; i < THREADS; i++)
            cr_assert_eq(pthread_join(thread[i], NULL), 0);
        (void)settle_all(&number[0]); // what one gave back when the others had gone
        counts(0, 0, 0, 0);
        leat_queue_stats s = stats_of(q);
        cr_assert(s.done + s.dead == MESSAGES && s.sent == MESSAGES, "done %d dead %d", (int)s.done,
                  (int)s.dead);
        cr_assert_eq(stats_of(dead).available, s.dead);
        ok(leat_close_all(mq, 0));
    }
}
