/* SPDX-License-Identifier: MIT */
// Back-pressure: how much a producer accepts before it makes its callers wait, who comes first, and
// that nothing of it waits for ever.
#include "leat_test.h"
#include "lib/async.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { SIZE = 48 }; // of a record with ten bytes and nothing else, as it is stored
#define TEN "0123456789"

// A store in which sends to partition 0 fail for a while.
static void open_stuck(enum async_mode mode, int64_t room, int64_t max_block_ms) {
    const leat_producer_options o = { .buffer_memory_bytes = room,
                                      .max_block_ms = max_block_ms,
                                      .linger_ms = 5000 };
    ok(async_open(mode, NULL, 0, 3, &o));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
}

static int send_ten(int32_t partition) {
    const leat_record r = { .value = LEAT_STR(TEN), .to_partition = LEAT_PARTITION(partition) };
    return leat_send_async(p, t, &r, NULL, NULL);
}

static void all_told(int n) {
    const char *wrong = told_wrong(n);
    cr_assert_null(wrong, "%s", wrong);
}

// ---- how much

Test(async_room, is_shared_by_all_partitions_and_free_when_a_batch_is_in_the_log) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        open_stuck(mode, 3 * SIZE, LEAT_ZERO);
        ok(send_ten(0));
        ok(send_ten(0));
        for (int i = 0; i < 20; i++)
            ok(send_ten(1 + i % 2)); // one fits, and goes when its place is wanted
        gives(2, leat_flush(p, 0));
        cr_assert_eq(async_end(1) + async_end(2), 20);
        cr_assert_eq(async_stats().in_flight_bytes, 2 * SIZE);
        ok(send_ten(0));
        for (int32_t i = 0; i < 3; i++)
            fails_saying(LEAT_EFULL, "its buffer is full", send_ten(i));
        cr_assert_eq(async_stats().accepted, 23);
        ok(leat_fault_clear(mq));
        ok(async_pass(1000));
        cr_assert_eq(async_stats().in_flight_bytes, 0);
        cr_assert_eq(async_end(0), 3, "what was refused was certainly not sent");
        ok(send_ten(0));
        ok(leat_close_all(mq, 0));
    }
}

Test(async_room, is_refused_in_each_way_of_sending_and_the_text_names_the_producer) {
    const leat_producer_options o = { .buffer_memory_bytes = SIZE,
                                      .max_block_ms = LEAT_ZERO,
                                      .name = "narrow" };
    leat_future *f;
    leat_batch *b;
    const leat_record r = { .value = LEAT_STR(TEN) };
    ok(async_open(ALONE, NULL, 0, 1, &o));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    ok(send_ten(0));
    fails_saying(LEAT_EFULL, "narrow", send_ten(0));
    cr_assert_eq(leat_is_retriable(LEAT_EFULL), 1);
    fails_saying(LEAT_EFULL, "narrow", leat_send_future(p, t, &r, &f));
    cr_assert_null(f);
    ok(leat_batch_open(p, t, 0, &b));
    ok(leat_batch_append(b, &r)); // a batch takes its room when it is sent
    fails_saying(LEAT_EFULL, "narrow", leat_batch_send(b, NULL, NULL));
    cr_assert_eq(async_stats().accepted, 1);
    cr_assert_eq(async_stats().in_flight_bytes, SIZE);
    gives(1, leat_producer_purge(p)); // frees it
    ok(send_ten(0));
    gives(1, leat_close_all(mq, 0));
}

Test(async_room, not_told_is_not_not_sent) {
    for (enum async_mode mode = 0; mode < POLLED + 1; mode++) {
        ok(async_open(
            mode, NULL, 0, 1,
            &(leat_producer_options){ .buffer_memory_bytes = SIZE, .max_block_ms = LEAT_ZERO }));
        for (int i = 0; i < 50; i++)
            ok(async_number(i, 0)); // none of these is polled for
        cr_assert_eq(async_stats().reports_waiting, 50);
        ok(async_pass(0));
        all_told(50);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_room, unlimited_is_so) {
    ok(async_open(ALONE, NULL, 0, 1,
                  &(leat_producer_options){ .buffer_memory_bytes = LEAT_UNLIMITED,
                                            .reports_max = LEAT_UNLIMITED,
                                            .max_block_ms = LEAT_ZERO }));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    static char large[1 << 20];
    const leat_record r = { .value = { large, sizeof large } };
    for (int i = 0; i < 40; i++)
        ok(leat_send_async(p, t, &r, told_take, &told));
    gives(40, leat_producer_close(p, 0));
    ok(leat_close_all(mq, 0));
}

// ---- waiting for it

struct sender {
    pthread_t thread;
    int32_t partition;
    int rc, number;
    bool small;
};

static void *send_one(void *arg) {
    struct sender *s = arg;
    char text[16];
    (void)snprintf(text, sizeof text, s->small ? "%d" : "%010d", s->number);
    const leat_record r = { .value = leat_str(text), .to_partition = LEAT_PARTITION(s->partition) };
    s->rc = leat_send_async(p, t, &r, told_take, &told);
    return NULL;
}

// Starts senders which all wait, in this order.
static void start_senders(struct sender *s, int n) {
    for (int i = 0; i < n; i++) {
        s[i].number = i;
        cr_assert_eq(pthread_create(&s[i].thread, NULL, send_one, &s[i]), 0);
        ok(leat_clock_wait_blocked(mq, i + 1, 10000));
    }
}

static void join_senders(struct sender *s, int n, int want) {
    for (int i = 0; i < n; i++) {
        cr_assert_eq(pthread_join(s[i].thread, NULL), 0);
        cr_assert_eq(s[i].rc, want, "%d: %s", i, leat_errname(s[i].rc));
    }
}

Test(async_room, is_given_first_come_first_served) {
    enum { N = 6 };
    for (enum async_mode mode = POLLED; mode < MODES; mode++) {
        struct sender s[N] = { { .partition = 0 } };
        open_stuck(mode, SIZE, LEAT_FOREVER);
        ok(send_ten(0));
        start_senders(s, N);
        ok(leat_fault_clear(mq));
        ok(leat_clock_advance(mq, 1000)); // one is tried again; the rest wait for no linger
        join_senders(s, N, 0);
        ok(async_pass(5000));
        const char *wrong = told_wrong(N); // in this order, and so are the offsets
        cr_assert_null(wrong, "%s: %s", async_name[mode], wrong);
        cr_assert_eq(async_end(0), N + 1);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_room, is_waited_for_max_block_ms_and_no_longer) {
    enum { N = 3 };
    for (enum async_mode mode = POLLED; mode < MODES; mode++) {
        struct sender s[N] = { { .partition = 1 }, { .partition = 0 }, { .partition = 2 } };
        open_stuck(mode, SIZE, 500);
        ok(send_ten(0));
        start_senders(s, N);
        ok(leat_clock_advance(mq, 499));
        cr_assert_eq(async_stats().accepted, 1);
        ok(leat_clock_wait_blocked(mq, N, 10000));
        ok(leat_clock_advance(mq, 1));
        join_senders(s, N, LEAT_EFULL);
        ok(leat_fault_clear(mq));
        ok(async_pass(2000));
        cr_assert_eq(async_end(0) + async_end(1) + async_end(2), 1);
        cr_assert_eq(told.count, 0);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_room, is_not_taken_by_who_comes_later_and_is_smaller) {
    struct sender s[2] = { { .partition = 1 }, { .partition = 2, .small = true } };
    open_stuck(POLLED, 2 * SIZE - 8, LEAT_FOREVER);
    ok(send_ten(0));
    start_senders(s, 2); // 48 bytes, and 40 for which there is room
    cr_assert_eq(async_stats().accepted, 1);
    gives(1, leat_producer_purge(p));
    join_senders(s, 2, 0);
    ok(async_pass(5000));
    cr_assert_str_eq(told.one[0].value, "0000000000");
    cr_assert_str_eq(told.one[1].value, "1");
    ok(leat_close_all(mq, 0));
}

Test(async_room, comes_with_a_purge_and_its_wait_ends_with_a_shutdown) {
    for (enum async_mode mode = POLLED; mode < MODES; mode++) {
        struct sender s[2] = { { .partition = 0 }, { .partition = 0 } };
        open_stuck(mode, SIZE, LEAT_FOREVER);
        ok(send_ten(0));
        start_senders(s, 2);
        gives(1, leat_producer_purge(p));
        cr_assert_eq(pthread_join(s[0].thread, NULL), 0);
        cr_assert_eq(s[0].rc, 0);
        ok(leat_clock_wait_blocked(mq, 1, 10000));
        ok(leat_shutdown(mq));
        cr_assert_eq(pthread_join(s[1].thread, NULL), 0);
        cr_assert_eq(s[1].rc, LEAT_ECLOSED);
        gives(1, leat_producer_close(p, 0));
        cr_assert_eq(told.count, 1); // of the one that was accepted
        cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_ECLOSED), 1);
        ok(leat_close_all(mq, 0));
    }
}

static void *crash_it(void *arg) {
    int *rc = arg;
    leat *after;
    *rc = leat_clock_wait_blocked(mq, 1, 10000);
    if (*rc == 0)
        *rc = leat_crash(mq, LEAT_KILL, &after);
    if (*rc == 0)
        *rc = leat_close_all(after, 0);
    return NULL;
}

Test(async_room, its_wait_ends_with_a_crash) {
    pthread_t thread;
    int rc;
    ok(async_open(
        THREADED, NULL, LEAT_CRASHABLE, 1,
        &(leat_producer_options){ .buffer_memory_bytes = SIZE, .max_block_ms = LEAT_FOREVER }));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    ok(send_ten(0));
    cr_assert_eq(pthread_create(&thread, NULL, crash_it, &rc), 0);
    fails(LEAT_ECLOSED, send_ten(0));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    ok(rc);
    gives(1, leat_close_all(mq, 0));
}

// ---- in callbacks

static int in_callback[4];

static void send_in_callback(leat_producer *from, const leat_report *r, void *ctx) {
    (void)r, (void)ctx;
    leat_future *f;
    leat_batch *b;
    const leat_record record = { .value = LEAT_STR(TEN), .to_partition = LEAT_PARTITION(0) };
    for (int i = 0; i < 3; i++)
        in_callback[0] += leat_send_async(from, t, &record, NULL, NULL) == LEAT_EFULL;
    in_callback[1] = leat_send_future(from, t, &record, &f);
    in_callback[2] = leat_batch_open(from, t, 0, &b);
    if (in_callback[2] == 0) {
        (void)leat_batch_append(b, &record);
        in_callback[2] = leat_batch_send(b, NULL, NULL);
    }
    in_callback[3] = leat_send(from, t, &record, NULL); // it would wait for those before it
}

Test(async_room, is_refused_at_once_in_a_callback) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        memset(in_callback, 0, sizeof in_callback);
        open_stuck(mode, 2 * SIZE, LEAT_FOREVER);
        ok(send_ten(0));
        const leat_record r = { .value = LEAT_STR(TEN), .to_partition = LEAT_PARTITION(1) };
        ok(leat_send_async(p, t, &r, send_in_callback, NULL));
        ok(async_pass(5000)); // when it runs there is room for one more
        cr_assert_eq(in_callback[0], 2, "%s: %d", async_name[mode], in_callback[0]);
        for (int i = 1; i < 4; i++)
            cr_assert_eq(in_callback[i], LEAT_EFULL, "%s: %d: %d", async_name[mode], i,
                         in_callback[i]);
        cr_assert_eq(async_now(), 5000);
        cr_assert_eq(async_stats().accepted, 3);
        gives(2, leat_close_all(mq, 0));
    }
}

// ---- reports

Test(async_room, reports_that_nobody_polls_for_are_bounded_and_the_text_says_what_to_call) {
    for (enum async_mode mode = 0; mode < POLLED + 1; mode++) {
        leat_future *f;
        leat_batch *b;
        const leat_record r = { .value = LEAT_STR(TEN) };
        ok(async_open(mode, NULL, 0, 1,
                      &(leat_producer_options){ .reports_max = 3, .max_block_ms = LEAT_ZERO }));
        for (int i = 0; i < 3; i++)
            ok(async_number(i, 0));
        fails_saying(LEAT_EFULL, "leat_producer_poll", async_number(3, 0));
        ok(leat_batch_open(p, t, 0, &b));
        ok(leat_batch_append(b, &r));
        fails_saying(LEAT_EFULL, "leat_dispatch", leat_batch_send(b, told_take, &told));
        ok(async_plain("p")); // these have no report that is told
        ok(leat_send_future(p, t, &r, &f));
        ok(leat_future_release(f));
        ok(leat_batch_open(p, t, 0, &b));
        ok(leat_batch_append(b, &r));
        ok(leat_batch_send(b, NULL, NULL));
        gives(1, leat_run_due(mq)); // being stored is not being told
        fails(LEAT_EFULL, async_number(3, 0));
        gives(3, leat_producer_poll(p, 0));
        ok(async_number(3, 0));
        ok(leat_batch_open(p, t, 0, &b));
        for (int i = 0; i < 5; i++)
            ok(leat_batch_append(b, &r));
        ok(leat_batch_send(b, NULL, NULL));
        ok(async_pass(0));
        all_told(4);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_room, a_batch_has_one_report_whatever_is_in_it) {
    leat_batch *b;
    const leat_record r = { .value = LEAT_STR(TEN) };
    ok(async_open(ALONE, NULL, 0, 1,
                  &(leat_producer_options){ .reports_max = 2, .max_block_ms = LEAT_ZERO }));
    for (int k = 0; k < 2; k++) {
        ok(leat_batch_open(p, t, 0, &b));
        for (int i = 0; i < 5; i++)
            ok(leat_batch_append(b, &r));
        ok(leat_batch_send(b, told_take, &told));
    }
    cr_assert_eq(async_stats().reports_waiting, 2);
    fails(LEAT_EFULL, async_number(3, 0));
    gives(2, leat_producer_poll(p, 0));
    ok(leat_close_all(mq, 0));
}

static void *poll_them(void *arg) {
    int *n = arg;
    *n = leat_clock_wait_blocked(mq, 1, 10000);
    if (*n == 0)
        *n = leat_producer_poll(p, 0);
    return NULL;
}

Test(async_room, a_wait_for_reports_ends_when_another_thread_polls) {
    pthread_t thread;
    int n;
    ok(async_open(POLLED, NULL, 0, 1,
                  &(leat_producer_options){ .reports_max = 2, .max_block_ms = LEAT_FOREVER }));
    ok(async_number(0, 0));
    ok(async_number(1, 0));
    ok(leat_clock_advance(mq, 0));
    cr_assert_eq(pthread_create(&thread, NULL, poll_them, &n), 0);
    ok(async_number(2, 0));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(n, 2);
    ok(async_pass(0));
    all_told(3);
    ok(leat_close_all(mq, 0));
}

// ---- nothing waits for ever: on the system clock, with what the machine gives

struct crowd {
    atomic_int told, again, refused;
    int resend; // one in so many is sent again by its callback
};

static void crowd_tell(leat_producer *from, const leat_report *r, void *ctx) {
    struct crowd *c = ctx;
    int n = atomic_fetch_add(&c->told, 1);
    if (c->resend == 0 || n % c->resend != 0 || !r->record)
        return;
    int rc = leat_send_async(from, t, r->record, crowd_tell, c);
    atomic_fetch_add(rc == 0 ? &c->again : &c->refused, 1);
}

static struct crowd crowd;

static void *crowd_send(void *arg) {
    int *accepted = arg;
    for (int i = 0; i < 600; i++) {
        const leat_record r = { .value = LEAT_STR(TEN), .to_partition = LEAT_PARTITION(i % 3) };
        int rc = leat_send_async(p, t, &r, crowd_tell, &crowd);
        if (rc == 0)
            ++*accepted;
    }
    return NULL;
}

static void crowd_run(const leat_options *o, const leat_producer_options *producer, int resend,
                      int threads) {
    pthread_t thread[4];
    int accepted[4] = { 0 }, sum = 0;
    memset(&crowd, 0, sizeof crowd);
    crowd.resend = resend;
    ok(fixture_open(NULL, o, &(leat_topic_options){ .partitions = 3 }, producer));
    for (int32_t i = 0; i < 3; i++) {
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", i, LEAT_ENOSPC, 3, 0));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", i, 0, 3, 1)); // slow
    }
    for (int i = 0; i < threads; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, crowd_send, &accepted[i]), 0);
    for (int i = 0; i < threads; i++) {
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
        cr_assert_eq(accepted[i], 600);
        sum += accepted[i];
    }
    gives(0, leat_producer_close(p, LEAT_FOREVER));
    cr_assert_eq(crowd.told, sum + crowd.again);
    cr_assert_eq(async_end(0) + async_end(1) + async_end(2), sum + crowd.again);
    ok(leat_close_all(mq, 0));
}

Test(async_room, a_full_buffer_never_blocks_for_ever) {
    for (int threads = 0; threads <= LEAT_NO_THREADS; threads++)
        for (int polled = 0; polled < 2; polled++) {
            const leat_options o = { .threads = threads, .seed = 1 };
            const leat_producer_options narrow = { .buffer_memory_bytes = 2 * SIZE,
                                                   .max_block_ms = LEAT_FOREVER,
                                                   .retry_backoff_ms = 1,
                                                   .linger_ms = polled ? 0 : 1000,
                                                   .callbacks = polled ? LEAT_CALLBACKS_POLL : 0 };
            crowd_run(&o, &narrow, 0, 4);
            crowd_run(&o, &narrow, 4, 4);
            crowd_run(&o, &narrow, 3, 1);
        }
}

Test(async_room, the_bound_of_reports_never_blocks_for_ever) {
    const leat_producer_options few = {
        .reports_max = 2, .max_block_ms = LEAT_FOREVER, .retry_backoff_ms = 1, .linger_ms = 1000
    };
    crowd_run(NULL, &few, 0, 4);
    crowd_run(NULL, &few, 3, 4);
}

// ---- logs that are slow, or lost

Test(async_room, a_slow_log_slows_its_own_partition) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .batch_bytes = 1 }));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, 0, LEAT_FOREVER, 1000));
        for (int i = 0; i < 10; i++)
            ok(async_number(i, i % 2));
        for (int n = 0; n < 5; n++) {
            cr_assert_eq(async_end(0), n);
            cr_assert_eq(async_end(1), 5);
            ok(async_pass(1000));
        }
        all_told(10);
        ok(leat_fault_clear(mq));
        ok(leat_close_all(mq, 0));
    }
}

Test(async_room, a_flush_and_a_close_do_not_wait_for_a_slow_log_longer_than_asked) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 1, NULL));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, 0, LEAT_FOREVER, 1000));
        ok(async_number(0, 0));
        gives(1, leat_flush(p, 0));
        if (mode == ALONE)
            gives(1, leat_flush(p, 999));
        gives(1, leat_producer_close(p, 0));
        cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_ETIMEDOUT), 1);
        cr_assert_eq(async_end(0), 0);
        ok(leat_close(mq, 0));
    }
}

Test(async_room, a_poisoned_log_makes_nobody_wait, .init = make_dir, .fini = drop_dir) {
    ok(async_open(THREADED, dir, 0, 1,
                  &(leat_producer_options){ .buffer_memory_bytes = SIZE,
                                            .max_block_ms = LEAT_FOREVER,
                                            .delivery_timeout_ms = LEAT_FOREVER }));
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 0, LEAT_EIO, 1, 0));
    for (int i = 0; i < 100; i++)
        ok(async_number(i, 0));
    gives(0, leat_flush(p, LEAT_FOREVER));
    all_told(100);
    cr_assert_eq(told_as(LEAT_STORED, 0), 0);
    int unknown = told_as(LEAT_UNKNOWN, LEAT_EIO);
    cr_assert_gt(unknown, 0);
    cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_EPOISONED), 100 - unknown);
    cr_assert_eq(async_end(0), unknown);
    cr_assert_eq(async_now(), 0);
    leat_record r = { .value = LEAT_STR("v") };
    fails(LEAT_EPOISONED, leat_send(p, t, &r, NULL));
    fails(LEAT_EIO, leat_close_all(mq, 0));
}

// ---- defaults

Test(async_room, defaults_are_what_the_header_says) {
    static char large[(1 << 20) - 64];
    const leat_record r = { .value = { large, sizeof large } };
    int n = 0, rc;
    ok(async_open(ALONE, NULL, 0, 1, NULL));
    for (int i = 0; i < 16 * 1024 / SIZE; i++) { // in what is left there is no room for one more
        cr_assert_eq(async_end(0), 0);
        ok(send_ten(0));
    }
    cr_assert_eq(async_end(0), 16 * 1024 / SIZE);
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    ok(async_number(0, 0)); // and 32 MiB behind it
    while ((rc = leat_send_async(p, t, &r, NULL, NULL)) == 0)
        n++;
    cr_assert_eq(rc, LEAT_EFULL);
    cr_assert_eq(n, 32);
    cr_assert_lt(async_stats().in_flight_bytes, 32 * 1024 * 1024 + 1);
    cr_assert_eq(async_now(), 60000);
    ok(async_pass(59999));
    cr_assert_eq(told.count, 0);
    ok(async_pass(1));
    cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_ENOSPC), 1);
    gives(0, leat_flush(p, LEAT_FOREVER));
    ok(leat_close_all(mq, 0));
}

Test(async_room, reports_max_is_a_million) {
    enum { MILLION = 1000000 };
    ok(async_open(ALONE, NULL, 0, 1,
                  &(leat_producer_options){ .acks = LEAT_ACKS_LOG, .max_block_ms = LEAT_ZERO }));
    const leat_record r = { .value = LEAT_STR("") };
    crowd.resend = 0;
    atomic_store(&crowd.told, 0);
    for (int i = 0; i < MILLION; i++)
        ok(leat_send_async(p, t, &r, crowd_tell, &crowd));
    fails_saying(LEAT_EFULL, "1000000 reports", leat_send_async(p, t, &r, crowd_tell, &crowd));
    gives(0, leat_flush(p, LEAT_FOREVER));
    cr_assert_eq(crowd.told, MILLION);
    ok(leat_close_all(mq, 0));
}
