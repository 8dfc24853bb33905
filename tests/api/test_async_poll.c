/* SPDX-License-Identifier: MIT */
// Who asks: flush, poll, dispatch, a descriptor for event loops, what is due; on which thread
// reports come; wrong arguments; forks.
#include "leat_test.h"
#include "lib/async.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void all_told(int n) {
    const char *wrong = told_wrong(n);
    cr_assert_null(wrong, "%s", wrong);
}

// ---- flush

Test(async_poll, a_flush_cuts_linger_and_gives_the_reports) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 3, &(leat_producer_options){ .linger_ms = 60000 }));
        gives(0, leat_flush(p, LEAT_FOREVER)); // of nothing
        for (int i = 0; i < 9; i++)
            ok(async_number(i, i % 3));
        gives(0, leat_flush(p, LEAT_FOREVER));
        all_told(9); // on whatever thread, it waited for them
        cr_assert_eq(async_now(), 0);
        cr_assert_eq(async_stats().reports_waiting, 0);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_poll, a_flush_says_what_is_left_after_its_time) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .linger_ms = 60000 }));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
        for (int i = 0; i < 10; i++)
            ok(async_number(i, i % 5 == 0));
        int left = leat_flush(p, 0); // the thread may not have told the other two
        cr_assert(left == 8 || (mode == THREADED && left > 8 && left <= 10), "%d", left);
        if (mode == ALONE) {
            gives(8, leat_flush(p, 50));
            cr_assert_eq(async_now(), 50);
        }
        cr_assert_eq(async_end(1), 2);
        ok(leat_fault_clear(mq));
        ok(async_pass(1000));
        gives(0, leat_flush(p, 0));
        all_told(10);
        ok(leat_close_all(mq, 0));
    }
}

static void *flush_for(void *arg) {
    int64_t *result = arg;
    *result = leat_flush(p, *result);
    return NULL;
}

Test(async_poll, a_flush_covers_what_was_sent_before_it_and_nothing_else) {
    for (enum async_mode mode = POLLED; mode < MODES; mode++) {
        pthread_t thread[2];
        int64_t result[2] = { LEAT_FOREVER, 30 };
        ok(async_open(mode, NULL, 0, 2, &(leat_producer_options){ .linger_ms = 5000 }));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0));
        ok(async_number(0, 0));
        for (int i = 0; i < 2; i++)
            cr_assert_eq(pthread_create(&thread[i], NULL, flush_for, &result[i]), 0);
        ok(leat_clock_wait_blocked(mq, 2, 10000));
        ok(async_number(1, 0)); // later: behind it, and elsewhere
        ok(async_number(2, 1));
        ok(leat_clock_advance(mq, 30));
        cr_assert_eq(pthread_join(thread[1], NULL), 0);
        cr_assert_eq(result[1], 1, "after its 30 ms, of its own: %d", (int)result[1]);
        ok(leat_clock_wait_blocked(mq, 1, 10000));
        ok(leat_clock_advance(mq, 70));
        cr_assert_eq(pthread_join(thread[0], NULL), 0);
        cr_assert_eq(result[0], 0);
        cr_assert_eq(async_end(0), 1);
        cr_assert_eq(async_end(1), 0, "what came later still lingers");
        ok(async_pass(5000));
        all_told(3);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_poll, a_flush_ends_with_a_shutdown) {
    pthread_t thread;
    int64_t result = LEAT_FOREVER;
    ok(async_open(THREADED, NULL, 0, 1, NULL));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    ok(async_number(0, 0));
    cr_assert_eq(pthread_create(&thread, NULL, flush_for, &result), 0);
    ok(leat_clock_wait_blocked(mq, 1, 10000));
    ok(leat_shutdown(mq));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(result, LEAT_ECLOSED);
    gives(1, leat_close_all(mq, 0));
    cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_ECLOSED), 1);
}

static void *close_it(void *arg) {
    *(int *)arg = leat_producer_close(p, LEAT_FOREVER);
    return NULL;
}

Test(async_poll, a_close_ends_with_a_shutdown_and_says_so) {
    pthread_t thread;
    int lost = -1;
    ok(async_open(THREADED, NULL, 0, 1,
                  &(leat_producer_options){ .delivery_timeout_ms = LEAT_FOREVER }));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    ok(async_number(0, 0));
    cr_assert_eq(pthread_create(&thread, NULL, close_it, &lost), 0);
    ok(leat_clock_wait_blocked(mq, 1, 10000));
    ok(leat_shutdown(mq));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(lost, 1);
    cr_assert_eq(told_as(LEAT_NOT_STORED, LEAT_ECLOSED), 1);
    ok(leat_close(mq, 0));
}

// ---- poll and dispatch

static leat_producer *second;

static void open_two(enum async_mode mode) {
    ok(async_open(mode, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 10 }));
    ok(leat_producer_open(mq, &(leat_producer_options){ .linger_ms = 10 }, &second));
}

static void send_second(const char *value) {
    ok(leat_send_async(second, t, &(leat_record){ .value = leat_str(value) }, told_take, &told));
}

Test(async_poll, a_poll_is_of_its_producer_and_a_dispatch_of_all) {
    for (enum async_mode mode = 0; mode < POLLED + 1; mode++) {
        open_two(mode);
        ok(async_send("0"));
        send_second("1");
        ok(leat_clock_advance(mq, 10));
        cr_assert_eq(told.count, 0, "nobody asked");
        gives(1, leat_producer_poll(p, 0));
        gives(0, leat_producer_poll(p, 0));
        ok(async_send("2"));
        ok(leat_clock_advance(mq, 10));
        gives(2, leat_dispatch(mq, 0));
        gives(0, leat_dispatch(mq, 0));
        cr_assert_eq(told.count, 3);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_poll, who_polls_waits_as_long_as_asked) {
    open_two(ALONE);
    gives(0, leat_producer_poll(p, 30));
    cr_assert_eq(async_now(), 30);
    gives(0, leat_dispatch(mq, 30));
    cr_assert_eq(async_now(), 60);
    fails(LEAT_EDEADLK, leat_producer_poll(p, LEAT_FOREVER)); // nothing can ever come
    fails(LEAT_EDEADLK, leat_dispatch(mq, LEAT_FOREVER));
    ok(async_send("0"));
    gives(0, leat_producer_poll(p, 9));
    gives(1, leat_producer_poll(p, LEAT_FOREVER));
    cr_assert_eq(async_now(), 70);
    send_second("1");
    gives(0, leat_producer_poll(p, 5));
    gives(1, leat_dispatch(mq, LEAT_FOREVER));
    cr_assert_eq(async_now(), 80);
    ok(leat_close_all(mq, 0));
}

static void *poll_for_ever(void *arg) {
    *(int *)arg = leat_producer_poll(p, LEAT_FOREVER);
    return NULL;
}

static void *dispatch_for_ever(void *arg) {
    *(int *)arg = leat_dispatch(mq, LEAT_FOREVER);
    return NULL;
}

Test(async_poll, who_polls_is_woken_by_a_report_and_by_a_shutdown) {
    for (int shut = 0; shut < 2; shut++) {
        pthread_t thread[2];
        int rc[2];
        open_two(POLLED);
        cr_assert_eq(pthread_create(&thread[0], NULL, poll_for_ever, &rc[0]), 0);
        cr_assert_eq(pthread_create(&thread[1], NULL, dispatch_for_ever, &rc[1]), 0);
        ok(leat_clock_wait_blocked(mq, 2, 10000));
        if (shut) {
            ok(leat_shutdown(mq));
        } else {
            send_second("0"); // for the dispatch only
            ok(leat_clock_advance(mq, 10));
            cr_assert_eq(pthread_join(thread[1], NULL), 0);
            cr_assert_eq(rc[1], 1);
            ok(async_send("1"));
            ok(leat_clock_advance(mq, 10));
        }
        cr_assert_eq(pthread_join(thread[0], NULL), 0);
        if (shut)
            cr_assert_eq(pthread_join(thread[1], NULL), 0);
        cr_assert_eq(rc[0], shut ? LEAT_ECLOSED : 1);
        cr_assert_eq(rc[1], shut ? LEAT_ECLOSED : 1);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_poll, reports_on_a_thread_are_not_polled_for) {
    open_two(THREADED);
    ok(async_send("0"));
    fails_saying(LEAT_EINVAL, "thread", leat_producer_poll(p, 0));
    ok(leat_clock_advance(mq, 10));
    cr_assert_eq(told.count, 1);
    gives(0, leat_dispatch(mq, 0));
    ok(leat_close_all(mq, 0));
}

// ---- on which thread

static pthread_t where;

static void note_thread(leat_producer *from, const leat_report *r, void *ctx) {
    (void)from, (void)r, (void)ctx;
    where = pthread_self();
}

Test(async_poll, a_producer_may_differ_from_its_store) {
    static const struct {
        int32_t store, producer;
        bool polled;
    } rows[] = {
        { 0, 0, false },
        { 0, LEAT_CALLBACKS_POLL, true },
        { LEAT_CALLBACKS_THREAD, LEAT_CALLBACKS_POLL, true },
        { LEAT_CALLBACKS_POLL, 0, true },
        { LEAT_CALLBACKS_POLL, LEAT_CALLBACKS_THREAD, false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        leat_options o = { .clock = LEAT_CLOCK_MANUAL, .callbacks = rows[i].store };
        ok(fixture_open(NULL, &o, NULL, &(leat_producer_options){ .callbacks = rows[i].producer }));
        ok(leat_send_async(p, t, &(leat_record){ .value = LEAT_STR("v") }, note_thread, NULL));
        where = pthread_self();
        ok(leat_clock_advance(mq, 0));
        cr_assert((pthread_equal(where, pthread_self()) != 0) == rows[i].polled, "row %zu", i);
        leat_stats s;
        ok(leat_get_stats(mq, &s, sizeof s));
        cr_assert_eq(s.threads, rows[i].polled ? 0 : 1);
        cr_assert_eq(leat_producer_poll(p, 0), rows[i].polled ? 1 : LEAT_EINVAL);
        ok(leat_close_all(mq, 0));
    }
    leat_options none = { .threads = LEAT_NO_THREADS, .callbacks = LEAT_CALLBACKS_THREAD };
    fails(LEAT_EINVAL, leat_open_memory(&none, &mq));
    fails(LEAT_EINVAL, leat_open_memory(&(leat_options){ .callbacks = 3 }, &mq));
}

Test(async_poll, who_only_sends_at_once_has_no_threads) {
    leat_stats s;
    ok(fixture_open(NULL, NULL, NULL, NULL));
    ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
    gives(0, leat_flush(p, LEAT_FOREVER));
    gives(0, leat_producer_purge(p));
    ok(leat_get_stats(mq, &s, sizeof s));
    cr_assert_eq(s.threads, 0);
    ok(leat_close_all(mq, 0));
}

// Threads of this size there are none.
static void no_threads(bool on) {
    static size_t usual;
    pthread_attr_t a;
    cr_assert_eq(pthread_attr_init(&a), 0);
    if (!usual)
        cr_assert_eq(pthread_attr_getstacksize(&a, &usual), 0);
    cr_assert_eq(pthread_attr_setstacksize(&a, on ? (size_t)1 << 46 : usual), 0);
    cr_assert_eq(pthread_setattr_default_np(&a), 0);
    cr_assert_eq(pthread_attr_destroy(&a), 0);
}

Test(async_poll, if_no_thread_can_be_started_a_flush_gives_the_reports) {
    leat_stats s;
    memset(&told, 0, sizeof told);
    ok(fixture_open(NULL, NULL, NULL, &(leat_producer_options){ .linger_ms = 1000 }));
    ok(async_plain("v")); // the service thread
    no_threads(true);
    ok(async_number(0, 0));
    gives(0, leat_flush(p, LEAT_FOREVER));
    all_told(1);
    ok(leat_get_stats(mq, &s, sizeof s));
    cr_assert_eq(s.threads, 1);
    const leat_record r = { .value = LEAT_STR("v") };
    ok(async_number(1, 0));
    ok(leat_send(p, t, &r, NULL)); // it is stored, and waits for a thread
    no_threads(false);
    ok(async_number(2, 0));
    ok(leat_send(p, t, &r, NULL)); // which is started now
    ok(leat_get_stats(mq, &s, sizeof s));
    cr_assert_eq(s.threads, 2);
    gives(0, leat_flush(p, LEAT_FOREVER));
    all_told(3);
    ok(leat_close_all(mq, 0));
}

static atomic_int running, at_once;

static void one_at_a_time(leat_producer *from, const leat_report *r, void *ctx) {
    (void)from, (void)r, (void)ctx;
    if (atomic_fetch_add(&running, 1) != 0)
        atomic_store(&at_once, 1);
    (void)leat_errmsg();
    atomic_fetch_sub(&running, 1);
}

static void *poll_and_flush(void *arg) {
    leat_producer *of = arg;
    for (int i = 0; i < 300; i++) {
        (void)leat_send_async(of, t, &(leat_record){ .value = LEAT_STR("v") }, one_at_a_time, NULL);
        if (i % 2)
            (void)leat_producer_poll(of, 0);
        else if (i % 10)
            (void)leat_dispatch(mq, 0);
        else
            (void)leat_flush(of, LEAT_FOREVER);
    }
    return NULL;
}

Test(async_poll, reports_of_a_producer_come_one_at_a_time_whoever_asks) {
    pthread_t thread[4];
    ok(fixture_open(NULL, &(leat_options){ .callbacks = LEAT_CALLBACKS_POLL }, NULL, NULL));
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, poll_and_flush, p), 0);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    gives(0, leat_flush(p, LEAT_FOREVER));
    cr_assert_eq(at_once, 0);
    cr_assert_eq(async_stats().reports_waiting, 0);
    cr_assert_eq(async_end(0), 1200);
    ok(leat_close_all(mq, 0));
}

// ---- event loops

static int readable(int fd) {
    struct pollfd one = { .fd = fd, .events = POLLIN };
    int n = poll(&one, 1, 0);
    return n == 1 && (one.revents & POLLIN) ? 1 : n;
}

Test(async_poll, a_descriptor_is_readable_as_long_as_there_is_something_to_dispatch) {
    for (enum async_mode mode = 0; mode < POLLED + 1; mode++) {
        open_two(mode);
        int fd = leat_fd(mq);
        cr_assert_gt(fd, -1, "%s", leat_errmsg());
        cr_assert_eq(leat_fd(mq), fd);
        cr_assert_eq(readable(fd), 0);
        ok(async_send("0"));
        ok(async_send("1"));
        send_second("2");
        cr_assert_eq(readable(fd), 0);
        ok(leat_clock_advance(mq, 10));
        for (int i = 0; i < 3; i++)
            cr_assert_eq(readable(fd), 1, "it is level-triggered");
        gives(2, leat_producer_poll(p, 0));
        cr_assert_eq(readable(fd), 1, "the other one's is still there");
        gives(1, leat_dispatch(mq, 0));
        cr_assert_eq(readable(fd), 0);
        ok(async_send("3"));
        ok(leat_flush(p, 0)); // gives it itself
        cr_assert_eq(readable(fd), 0);
        ok(async_send("4"));
        ok(leat_clock_advance(mq, 10));
        cr_assert_eq(readable(fd), 1);
        ok(leat_producer_close(p, 0));
        cr_assert_eq(readable(fd), 0);
        ok(leat_close_all(mq, 0));
    }
}

Test(async_poll, a_descriptor_that_is_asked_for_late_is_readable_at_once) {
    open_two(ALONE);
    ok(async_send("0"));
    ok(leat_clock_advance(mq, 10));
    cr_assert_eq(readable(leat_fd(mq)), 1);
    gives(1, leat_dispatch(mq, 0));
    cr_assert_eq(readable(leat_fd(mq)), 0);
    ok(leat_close_all(mq, 0));
}

Test(async_poll, a_descriptor_is_not_for_reports_on_a_thread) {
    open_two(THREADED);
    int fd = leat_fd(mq);
    ok(async_send("0"));
    ok(leat_clock_advance(mq, 10));
    cr_assert_eq(readable(fd), 0);
    ok(leat_close_all(mq, 0));
}

static int64_t next_due(void) {
    int64_t ms = -9;
    ok(leat_next_due(mq, &ms));
    return ms;
}

Test(async_poll, what_is_due_next_is_told_in_ms) {
    open_two(ALONE);
    cr_assert_eq(next_due(), LEAT_FOREVER);
    ok(async_send("0"));
    cr_assert_eq(next_due(), 10);
    ok(leat_clock_advance(mq, 4));
    cr_assert_eq(next_due(), 6);
    send_second("1");
    cr_assert_eq(next_due(), 6);
    gives(0, leat_run_due(mq));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0));
    ok(leat_clock_advance(mq, 6));
    cr_assert_eq(next_due(), 4); // the other's linger, then the first again
    ok(leat_clock_advance(mq, 4));
    cr_assert_eq(next_due(), 96);
    ok(leat_clock_advance(mq, 96));
    cr_assert_eq(next_due(), LEAT_FOREVER);
    gives(2, leat_dispatch(mq, 0));
    ok(leat_close_all(mq, 0));
}

// The loop of examples: sleeps in poll(2) until there is something to dispatch or to do. On the
// system clock, without threads.
Test(async_poll, an_event_loop_needs_no_thread) {
    enum { N = 300 };
    memset(&told, 0, sizeof told);
    ok(fixture_open(NULL, &(leat_options){ .threads = LEAT_NO_THREADS }, NULL,
                    &(leat_producer_options){ .linger_ms = 1, .retry_backoff_ms = 1 }));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 3, 0));
    struct pollfd one = { .fd = leat_fd(mq), .events = POLLIN };
    for (int sent = 0; told.count < N;) {
        for (int i = 0; i < 7 && sent < N; i++, sent++)
            ok(async_number(sent, 0));
        int64_t ms = next_due();
        cr_assert(ms != LEAT_FOREVER || readable(one.fd) == 1 || sent < N,
                  "it would sleep for ever");
        cr_assert(poll(&one, 1, sent < N ? 0 : (int)ms) >= 0);
        cr_assert(leat_run_due(mq) >= 0);
        cr_assert(leat_dispatch(mq, 0) >= 0);
    }
    all_told(N);
    leat_stats s;
    ok(leat_get_stats(mq, &s, sizeof s));
    cr_assert_eq(s.threads, 0);
    ok(leat_close_all(mq, 0));
}

// ---- wrong arguments

Test(async_poll, wrong_arguments_are_refused) {
    int64_t ms;
    leat_producer_stats s;
    const leat_record r = { .value = LEAT_STR("v") };
    open_two(ALONE);
    fails(LEAT_EINVAL, leat_flush(NULL, 0));
    fails(LEAT_EINVAL, leat_flush(p, -2));
    fails(LEAT_EINVAL, leat_producer_poll(NULL, 0));
    fails(LEAT_EINVAL, leat_producer_poll(p, -3));
    fails(LEAT_EINVAL, leat_producer_purge(NULL));
    fails(LEAT_EINVAL, leat_producer_get_stats(NULL, &s, sizeof s));
    fails(LEAT_EINVAL, leat_producer_get_stats(p, NULL, sizeof s));
    fails(LEAT_EINVAL, leat_producer_get_stats(p, &s, sizeof s - 1));
    fails(LEAT_EINVAL, leat_producer_close(NULL, 0));
    fails(LEAT_EINVAL, leat_producer_close(p, -2));
    fails(LEAT_EINVAL, leat_dispatch(NULL, 0));
    fails(LEAT_EINVAL, leat_dispatch(mq, INT64_MIN));
    fails(LEAT_EINVAL, leat_fd(NULL));
    fails(LEAT_EINVAL, leat_next_due(NULL, &ms));
    fails(LEAT_EINVAL, leat_next_due(mq, NULL));
    fails(LEAT_EINVAL, leat_run_due(NULL));
    fails(LEAT_EINVAL, leat_send_async(NULL, t, &r, NULL, NULL));
    fails(LEAT_EINVAL, leat_send_async(p, NULL, &r, NULL, NULL));
    fails(LEAT_EINVAL, leat_send_async(p, t, NULL, NULL, NULL));
    fails(LEAT_EINVAL, leat_send_async(p, t, &(leat_record){ 0 }, NULL, NULL));
    fails(LEAT_EINVAL,
          leat_send_async(p, t, &(leat_record){ .value = r.value, .delay_ms = -1 }, NULL, NULL));
    fails(LEAT_ERANGE,
          leat_send_async(p, t, &(leat_record){ .value = r.value, .to_partition = 2 }, NULL, NULL));
    static char key[65537];
    fails(LEAT_ETOOBIG,
          leat_send_async(p, t, &(leat_record){ .key = { key, sizeof key }, .value = r.value },
                          NULL, NULL));
    cr_assert_eq(async_stats().accepted, 0);
    leat *other;
    leat_topic *theirs;
    ok(leat_open_memory(NULL, &other));
    ok(leat_topic_open(other, "t", NULL, &theirs));
    fails(LEAT_EINVAL, leat_send_async(p, theirs, &r, NULL, NULL));
    ok(leat_close_all(other, 0));
    ok(leat_close_all(mq, 0));
}

Test(async_poll, wrong_options_are_refused) {
    static const leat_producer_options wrong[] = {
        { .linger_ms = -3 },
        { .max_block_ms = -3 },
        { .delivery_timeout_ms = -3 },
        { .retry_backoff_ms = -1 },
        { .retry_backoff_ms = LEAT_ZERO },
        { .batch_bytes = -1 },
        { .batch_bytes = 64 * 1024 * 1024 + 1 },
        { .buffer_memory_bytes = -2 },
        { .buffer_memory_bytes = INT64_MAX },
        { .reports_max = -2 },
        { .callbacks = -1 },
        { .callbacks = 3 },
        { .callbacks = LEAT_CALLBACKS_THREAD }, // without threads
        { .pad_ = 1 },
        { .reserved = { 0, 0, 0, 0, 0, 0, 0, 1 } },
    };
    static const leat_producer_options right[] = {
        { .linger_ms = LEAT_ZERO,
          .max_block_ms = LEAT_FOREVER,
          .delivery_timeout_ms = LEAT_FOREVER },
        { .linger_ms = INT64_MAX, .max_block_ms = INT64_MAX, .delivery_timeout_ms = INT64_MAX },
        { .retry_backoff_ms = INT64_MAX, .buffer_memory_bytes = 1, .reports_max = 1 },
        { .batch_bytes = 64 * 1024 * 1024 },
        { .batch_bytes = 1, .callbacks = LEAT_CALLBACKS_POLL },
    };
    leat_producer *made;
    ok(leat_test_open(&mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        made = (leat_producer *)&told;
        cr_assert_eq(leat_producer_open(mq, &wrong[i], &made), LEAT_EINVAL, "row %zu", i);
        cr_assert_null(made);
    }
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        ok(leat_producer_open(mq, &right[i], &p));
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0));
        ok(async_plain("v"));
        gives(i == 2, leat_flush(p, 200)); // whose second try is in 292 million years
        gives(i == 2, leat_producer_close(p, 0));
        ok(leat_fault_clear(mq));
    }
    ok(leat_close_all(mq, 0));
}

// ---- forks

static int child_of(leat_future *f, leat_batch *b) {
    const leat_record r = { .value = LEAT_STR("v") };
    leat_future *g;
    leat_batch *c;
    leat_producer_stats s;
    int64_t ms;
    int right = leat_send_async(p, t, &r, told_take, &told) == LEAT_EFORK;
    right += leat_send_future(p, t, &r, &g) == LEAT_EFORK;
    right += leat_future_wait(f, LEAT_FOREVER, NULL) == LEAT_EFORK;
    right += leat_future_release(f) == LEAT_EFORK;
    right += leat_flush(p, LEAT_FOREVER) == LEAT_EFORK;
    right += leat_producer_poll(p, LEAT_FOREVER) == LEAT_EFORK;
    right += leat_producer_purge(p) == LEAT_EFORK;
    right += leat_producer_get_stats(p, &s, sizeof s) == LEAT_EFORK;
    right += leat_dispatch(mq, LEAT_FOREVER) == LEAT_EFORK;
    right += leat_fd(mq) == LEAT_EFORK && leat_next_due(mq, &ms) == LEAT_EFORK;
    right += leat_batch_open(p, t, 0, &c) == LEAT_EFORK;
    right += leat_batch_append(b, &r) == LEAT_EFORK;
    right += leat_batch_send(b, NULL, NULL) == LEAT_EFORK;
    right += leat_batch_discard(b) == LEAT_EFORK;
    right += leat_producer_close(p, LEAT_FOREVER) == LEAT_EFORK;
    right += leat_close_all(mq, LEAT_FOREVER) == 0;
    return right == 16 && told.count == 0 ? 0 : 1;
}

Test(async_poll, a_forked_child_sends_nothing_and_may_close, .init = make_dir, .fini = drop_dir) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        leat_future *f;
        leat_batch *b;
        const leat_record r = { .value = LEAT_STR("v") };
        ok(async_open(mode, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 10 }));
        int fd = leat_fd(mq);
        ok(async_number(0, 0)); // so that threads run, and one report waits
        ok(leat_clock_advance(mq, 10));
        if (mode == THREADED)
            memset(&told, 0, sizeof told);
        ok(async_number(1, 0));
        ok(leat_send_future(p, t, &r, &f));
        ok(leat_batch_open(p, t, 0, &b));
        ok(leat_batch_append(b, &r));
        pid_t child = fork();
        cr_assert_gt(child, -1);
        if (child == 0)
            _exit(child_of(f, b));
        int status = -1;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: %x", async_name[mode],
                  status);
        cr_assert_eq(readable(fd), mode != THREADED, "the child has emptied nothing");
        ok(leat_batch_send(b, NULL, NULL));
        gives(0, leat_flush(p, LEAT_FOREVER));
        cr_assert_eq(told.count, mode == THREADED ? 1 : 2);
        cr_assert_eq(async_end(0), 4);
        ok(leat_future_wait(f, 0, NULL));
        ok(leat_future_release(f));
        ok(leat_close_all(mq, 0));
    }
}
