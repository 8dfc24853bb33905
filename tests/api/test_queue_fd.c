/* SPDX-License-Identifier: MIT */
// How receivers of a queue are reached: wake-ups, the descriptor in poll(2), what is sent by other
// ways than leat_queue_send; receives with a visibility timeout of their own; and what stats say.
#include "lib/jobs.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>

static int fd;

static int waits_readable(int ms) {
    struct pollfd one = { .fd = fd, .events = POLLIN };
    int got = poll(&one, 1, ms);
    return got == 1 && (one.revents & POLLIN) ? 1 : got;
}

// bright: the descriptor is readable; dark: it is not, and a receive says why.
#define bright() cr_assert_eq(waits_readable(0), 1, "the descriptor is silent")
#define dark()                                                                                     \
    do {                                                                                           \
        nothing(q);                                                                                \
        cr_assert_eq(waits_readable(0), 0, "the descriptor is readable");                          \
    } while (0)

static void open_fd(int32_t clock, const leat_queue_options *o) {
    open_jobs(MEMORY, clock, 0);
    open_queue("jobs", o);
    fd = leat_queue_fd(q);
    cr_assert(fd >= 0, "%s", leat_errmsg());
    cr_assert_eq(leat_queue_fd(q), fd);
}

// ---- the descriptor

Test(queue_fd, is_readable_while_a_receive_may_return_something) {
    open_fd(LEAT_CLOCK_MANUAL,
            &(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND, .partitions = 2 });
    dark();
    for (int i = 0; i < 3; i++)
        ok(leat_queue_send(
            q, &(leat_record){ .value = LEAT_STR("x"), .to_partition = LEAT_PARTITION(i % 2) },
            NULL));
    bright();
    gives(2, leat_queue_receive(q, 0, (leat_message[]){ m, n }, 2));
    bright(); // there is one more
    gives(1, leat_queue_receive(q, 0, &m, 1));
    dark();
    ok(leat_queue_nack(q, &m, 0, 0));
    bright();
    gives(1, leat_queue_receive(q, 0, &m, 1));
    dark();
    ok(leat_queue_nack(q, &m, SECOND, 0));
    dark();
    ok(leat_clock_advance(mq, SECOND)); // the delay ends
    bright();
    gives(1, leat_queue_receive(q, 0, &m, 1));
    dark();
    ok(leat_queue_extend(q, &m, 0));
    bright();
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_ack(q, &m));
    dark();
    ok(leat_clock_advance(mq, 10 * SECOND)); // the leases of the first two end
    bright();
    gives(2, leat_queue_receive(q, 0, (leat_message[]){ m, n }, 2));
    dark();
    ok(leat_close_all(mq, 0));
}

Test(queue_fd, a_groups_turn_and_the_end_of_a_first_delay_are_heard) {
    const leat_record r = { .value = LEAT_STR("x"), .group = LEAT_STR("g") };
    open_fd(LEAT_CLOCK_MANUAL, NULL);
    dark();
    for (int i = 0; i < 2; i++)
        ok(leat_queue_send(q, &r, NULL));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    dark();
    ok(leat_queue_ack(q, &m));
    bright();
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_ack(q, &m));
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x"), .delay_ms = SECOND }, NULL));
    dark();
    ok(leat_clock_advance(mq, SECOND));
    bright();
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
    open_fd(LEAT_CLOCK_MANUAL, &(leat_queue_options){ .delay_ms = SECOND });
    send("x");
    dark();
    ok(leat_clock_advance(mq, SECOND));
    bright();
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue_fd, what_is_there_when_it_is_asked_for_is_seen) {
    open_jobs(MEMORY, LEAT_CLOCK_JUMP, 0);
    open_queue("jobs", NULL);
    send("a");
    fd = leat_queue_fd(q);
    bright();
    take(q, &m, "a", 1);
    ok(leat_queue_ack(q, &m));
    dark();
    send("b");
    bright();
    gives(1, leat_queue_receive(q, SECOND, &m, 1));
    ok(leat_queue_ack(q, &m));
    gives(0, leat_queue_receive(q, SECOND, &m, 1)); // one that waited makes it dark, too
    cr_assert_eq(waits_readable(0), 0);
    ok(leat_queue_close(q));
    cr_assert_eq(fcntl(fd, F_GETFD), FD_CLOEXEC); // it lives as long as the store
    ok(leat_close_all(mq, 0));
    cr_assert_eq(fcntl(fd, F_GETFD), -1);
}

Test(queue_fd, a_new_partition_is_heard) {
    open_fd(LEAT_CLOCK_MANUAL, NULL);
    dark();
    ok(leat_topic_grow(leat_queue_topic(q), 2));
    dark();
    ok(leat_queue_send(
        q, &(leat_record){ .value = LEAT_STR("x"), .to_partition = LEAT_PARTITION(1) }, NULL));
    bright();
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue_fd, wrong_arguments_shutdown_and_no_descriptors_are_said) {
    struct rlimit limit, none;
    fails(LEAT_EINVAL, leat_queue_fd(NULL));
    fails(LEAT_EINVAL, leat_queue_wakeup(NULL));
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    int rc = leat_queue_fd(q);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(rc, LEAT_ENOMEM, "%d", rc);
    fd = leat_queue_fd(q);
    dark();
    ok(leat_shutdown(mq));
    bright(); // or an event loop would not hear of it
    fails(LEAT_ECLOSED, leat_queue_receive(q, 0, &m, 1));
    bright();
    fails(LEAT_ECLOSED, leat_queue_fd(q));
    fails(LEAT_ECLOSED, leat_queue_wakeup(q));
    fails(LEAT_ECLOSED, leat_queue_receive_with(q, 0, NULL, &m, 1));
    ok(leat_close_all(mq, 0));
}

enum { STORM = 3000, THREADS = 2 };

static atomic_int churned;

// Takes messages and gives them back, until all have come.
static void *churn(void *arg) {
    leat_message got;
    (void)arg;
    while (!atomic_load(&churned))
        if (leat_queue_receive(q, 0, &got, 1) == 1)
            ok(leat_queue_nack(q, &got, 0, LEAT_UNCOUNTED));
    return NULL;
}

static void *storm(void *arg) {
    (void)arg;
    for (int i = 0; i < STORM; i++) {
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x") }, NULL));
        if (i % 16 == 0)
            ok(leat_queue_wakeup(q));
    }
    return NULL;
}

Test(queue_fd, no_message_is_missed_by_who_sleeps_in_poll) {
    pthread_t thread[THREADS], churner;
    open_fd(LEAT_CLOCK_SYSTEM, NULL);
    cr_assert_eq(pthread_create(&churner, NULL, churn, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, storm, NULL), 0);
    for (int got = 0; got < STORM * THREADS;) {
        cr_assert_eq(waits_readable(REAL_MS), 1, "%d messages", got);
        while (leat_queue_receive(q, 0, &m, 1) == 1) {
            got++;
            ok(leat_queue_ack(q, &m));
        }
    }
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    atomic_store(&churned, 1);
    cr_assert_eq(pthread_join(churner, NULL), 0);
    dark();
    ok(leat_close_all(mq, 0));
}

// ---- wake-ups

struct waiting {
    pthread_t thread;
    int rc;
    leat_message m;
};

static void *wait_for_one(void *arg) {
    struct waiting *w = arg;
    w->rc = leat_queue_receive(q, LEAT_FOREVER, &w->m, 1);
    return NULL;
}

static void begin_waiting(struct waiting *w, int blocked) {
    cr_assert_eq(pthread_create(&w->thread, NULL, wait_for_one, w), 0);
    ok(leat_clock_wait_blocked(mq, blocked, REAL_MS));
}

static void ends_with(struct waiting *w, int rc) {
    cr_assert_eq(pthread_join(w->thread, NULL), 0);
    cr_assert_eq(w->rc, rc, "receive is %d, not %d", w->rc, rc);
}

static void wake_it(leat_subscription *s, const leat_message *heard, void *ctx) {
    (void)s;
    (void)heard;
    *(int *)ctx = leat_queue_wakeup(q);
    cr_assert(leat_queue_fd(q) >= 0);
    fails(LEAT_EDEADLK, leat_queue_receive_with(q, 0, NULL, &m, 1));
}

Test(queue_wakeup, ends_every_receive_that_waits_and_none_that_comes_later) {
    struct waiting w[3];
    leat_subscription *s;
    int rc = 1;
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    ok(leat_queue_wakeup(q)); // nobody waits: nothing is left of it
    for (int i = 0; i < 3; i++)
        begin_waiting(&w[i], i + 1);
    ok(leat_queue_wakeup(q));
    for (int i = 0; i < 3; i++)
        ends_with(&w[i], 0);
    begin_waiting(&w[0], 1);
    ok(leat_channel_subscribe(mq, "c", wake_it, &rc, NULL, &s));
    gives(1, leat_publish(mq, "c", "", 0)); // in a callback
    cr_assert_eq(rc, 0);
    ends_with(&w[0], 0);
    begin_waiting(&w[0], 1);
    send("a");
    ends_with(&w[0], 1);
    ok(leat_queue_ack(q, &w[0].m));
    ok(leat_close_all(mq, 0));
}

static atomic_int stop;

static void *wake_all_the_time(void *arg) {
    (void)arg;
    while (!atomic_load(&stop))
        ok(leat_queue_wakeup(q));
    return NULL;
}

static void *receive_some(void *arg) {
    leat_message got;
    for (int left = *(int *)arg; left > 0;) {
        int rc = leat_queue_receive(q, LEAT_FOREVER, &got, 1);
        cr_assert(rc == 0 || rc == 1, "%d: %s", rc, leat_errmsg());
        left -= rc;
        if (rc == 1)
            ok(leat_queue_ack(q, &got));
    }
    return NULL;
}

Test(queue_wakeup, a_storm_of_them_loses_nothing) {
    enum { EACH = 1000 };
    int each = EACH;
    pthread_t waker, receiver[2];
    open_jobs(MEMORY, LEAT_CLOCK_SYSTEM, 0);
    open_queue("jobs", NULL);
    cr_assert_eq(pthread_create(&waker, NULL, wake_all_the_time, NULL), 0);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&receiver[i], NULL, receive_some, &each), 0);
    for (int i = 0; i < 2 * EACH; i++)
        send("x");
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(receiver[i], NULL), 0);
    atomic_store(&stop, 1);
    cr_assert_eq(pthread_join(waker, NULL), 0);
    counts(0, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

// ---- receives with options

static int64_t lasts(const leat_receive_options *o) {
    int64_t ms = 0;
    gives(1, leat_queue_receive_with(q, 0, o, &m, 1));
    ok(leat_message_release(mq, &m));
    while (leat_queue_receive(q, 0, &n, 1) == 0) {
        ok(leat_clock_advance(mq, SECOND / 2));
        ms += SECOND / 2;
        cr_assert(ms <= HOUR);
    }
    ok(leat_queue_nack(q, &n, 0, LEAT_UNCOUNTED));
    return ms;
}

Test(queue_receive_with, a_visibility_timeout_of_its_own_holds_for_this_receive) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND });
    send("a");
    cr_assert_eq(lasts(&(leat_receive_options){ .visibility_timeout_ms = 2 * SECOND }), 2 * SECOND);
    cr_assert_eq(lasts(&(leat_receive_options){ .visibility_timeout_ms = 60 * SECOND }),
                 60 * SECOND);
    cr_assert_eq(lasts(&(leat_receive_options){ .who = "w" }), 10 * SECOND);
    cr_assert_eq(lasts(NULL), 10 * SECOND);
    leat_receive_options o = { .visibility_timeout_ms = SECOND };
    gives(1, leat_queue_receive_with(q, 0, &o, &m, 1));
    ok(leat_clock_advance(mq, SECOND)); // also where no other call looks
    counts(1, 0, 0, 0);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

Test(queue_receive_with, it_holds_for_all_and_after_a_wait) {
    leat_message four[4];
    leat_receive_options o = { .visibility_timeout_ms = 2 * HOUR, .who = "me" };
    open_jobs(MEMORY, LEAT_CLOCK_JUMP, 0);
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = HOUR });
    for (int i = 0; i < 4; i++)
        send("x");
    gives(3, leat_queue_receive_with(q, 0, &o, four, 3));
    gives(1, leat_queue_receive(q, 0, &four[3], 1));
    gives(1, leat_queue_receive_with(q, LEAT_FOREVER, &o, &m, 1)); // after an hour, for two
    cr_assert_eq(m.offset, 3);
    ok(leat_clock_advance(mq, HOUR));
    counts(3, 0, 1, 0);
    ok(leat_clock_advance(mq, HOUR - 1));
    counts(3, 0, 1, 0);
    ok(leat_clock_advance(mq, 1));
    counts(4, 0, 0, 0);
    ok(leat_close_all(mq, 0));
}

Test(queue_receive_with, names_are_without_number_and_their_memory_is_not) {
    enum { MESSAGES = 300 };
    static leat_message got[MESSAGES];
    char name[128];
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < MESSAGES; i++) {
            (void)snprintf(name, sizeof name, "%d worker %d %080d", round, i, i);
            if (round == 0)
                send("x");
            gives(1, leat_queue_receive_with(q, 0, &(leat_receive_options){ .who = name }, &got[i],
                                             1));
        }
        for (int i = 0; i < MESSAGES; i++)
            ok(i % 2 ? leat_queue_nack(q, &got[i], SECOND, 0) : leat_queue_nack(q, &got[i], 0, 0));
        ok(leat_clock_advance(mq, SECOND));
    }
    ok(leat_close_all(mq, 0));
}

Test(queue_receive_with, wrong_arguments_are_refused) {
    leat_receive_options wrong[] = { { .visibility_timeout_ms = -1 },
                                     { .visibility_timeout_ms = LEAT_ZERO },
                                     { .visibility_timeout_ms = 367LL * 24 * HOUR },
                                     { .visibility_timeout_ms = INT64_MAX },
                                     { .reserved = { 1, 0 } },
                                     { .reserved = { 0, 1 } } };
    leat_receive_options longest = { .visibility_timeout_ms = 366LL * 24 * HOUR, .who = "" };
    leat_receive_options named = { .who = "w" };
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    send("a");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        fails(LEAT_EINVAL, leat_queue_receive_with(q, 0, &wrong[i], &m, 1));
    fails(LEAT_EINVAL, leat_queue_receive_with(NULL, 0, NULL, &m, 1));
    fails(LEAT_EINVAL, leat_queue_receive_with(q, 0, NULL, NULL, 1));
    fails(LEAT_EINVAL, leat_queue_receive_with(q, 0, NULL, &m, 0));
    fails(LEAT_EINVAL, leat_queue_receive_with(q, -2, NULL, &m, 1));
    ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, 1, 0));
    fails(LEAT_ENOMEM, leat_queue_receive_with(q, 0, &named, &m, 1)); // for the names
    ok(leat_fault_clear(mq));
    counts(1, 0, 0, 0);
    gives(1, leat_queue_receive_with(q, 0, &longest, &m, SIZE_MAX)); // there is one
    cr_assert_eq(m.deliveries, 1);
    ok(leat_clock_advance(mq, 366LL * 24 * HOUR - 1));
    counts(0, 0, 1, 0);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

// ---- what comes by other ways, and stats

static void count_report(leat_producer *p, const leat_report *r, void *ctx) {
    (void)p;
    cr_assert_eq(r->error, 0);
    atomic_fetch_add((atomic_int *)ctx, 1);
}

Test(queue_topic, what_is_sent_to_it_wakes_receivers_and_counts) {
    struct waiting w;
    leat_producer *p;
    atomic_int reports = 0;
    const leat_record r[3] = { { .value = LEAT_STR("a") },
                               { .value = LEAT_STR("b") },
                               { .value = LEAT_STR("c") } };
    leat_message three[3];
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    ok(leat_producer_open(mq, NULL, &p));
    begin_waiting(&w, 1);
    ok(leat_send_many(p, leat_queue_topic(q), r, 3, NULL));
    ends_with(&w, 1);
    is(w.m.value, "a");
    gives(2, leat_queue_receive(q, 0, three, 3));
    ok(leat_queue_ack(q, &w.m));
    ok(leat_queue_ack_many(q, three, 2, NULL));
    cr_assert_eq(stats_of(q).sent, 3);
    begin_waiting(&w, 1);
    ok(leat_send_async(p, leat_queue_topic(q), &r[1], count_report, &reports));
    ok(leat_flush(p, REAL_MS));
    ends_with(&w, 1);
    is(w.m.value, "b");
    cr_assert_eq(atomic_load(&reports), 1);
    ok(leat_queue_ack(q, &w.m));
    send("d");
    ok(leat_send(p, leat_queue_topic(q), &r[2], NULL));
    leat_queue_stats s = stats_of(q);
    cr_assert(s.sent == 6 && s.done == 4 && s.available == 2, "sent %d", (int)s.sent);
    ok(leat_close_all(mq, 0));
}

Test(queue_topic, sent_is_since_the_open_and_of_the_topic) {
    leat_queue *dead, *over;
    leat_producer *p;
    leat_topic *t;
    make_dir();
    for (int round = 0; round < 2; round++) {
        open_jobs(MAPPED, LEAT_CLOCK_MANUAL, 0);
        ok(leat_queue_open(mq, "dead", NULL, &dead));
        open_queue("jobs", &(leat_queue_options){ .dead_letter = "dead" });
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_producer_open(mq, NULL, &p));
        ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("x") }, NULL));
        ok(leat_queue_open(mq, "over", &(leat_queue_options){ .topic = "t" }, &over));
        cr_assert(stats_of(q).sent == 0 && stats_of(over).sent == 1);
        send("a");
        take(q, &m, "a", 1);
        ok(leat_queue_reject(q, &m, NULL));
        cr_assert(stats_of(q).sent == 1 && stats_of(dead).sent == 1);
        ok(leat_close_all(mq, 0));
    }
    drop_dir();
}

Test(queue_topic, the_age_of_the_oldest_is_that_of_what_is_not_final) {
    leat_queue *dead;
    leat_queue_stats s;
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    open_queue("jobs", &(leat_queue_options){ .dead_letter = "dead", .partitions = 2 });
    cr_assert_eq(stats_of(q).oldest_ms, 0);
    for (int i = 0; i < 4; i++) {
        ok(leat_queue_send(
            q, &(leat_record){ .value = LEAT_STR("x"), .to_partition = LEAT_PARTITION(i / 2) },
            NULL));
        ok(leat_clock_advance(mq, SECOND));
    }
    cr_assert_eq(stats_of(q).oldest_ms, 4 * SECOND); // never handed out
    leat_message four[4];
    gives(4, leat_queue_receive(q, 0, four, 4));
    cr_assert_eq(stats_of(q).oldest_ms, 4 * SECOND); // leased
    for (int i = 0; i < 4; i++)
        if (four[i].offset == 0 && four[i].partition == 0)
            ok(leat_queue_ack_receipt(q, four[i].receipt));
    cr_assert_eq(stats_of(q).oldest_ms, 3 * SECOND);
    for (int i = 0; i < 4; i++)
        if (four[i].partition == 0 && four[i].offset == 1)
            ok(leat_queue_nack_receipt(q, four[i].receipt, HOUR, 0));
    cr_assert_eq(stats_of(q).oldest_ms, 3 * SECOND); // delayed
    for (int i = 0; i < 4; i++)
        if (four[i].partition == 1)
            ok(leat_queue_reject_receipt(q, four[i].receipt, NULL)); // moved: final here
    cr_assert_eq(stats_of(q).oldest_ms, 3 * SECOND);
    cr_assert_eq(stats_of(dead).oldest_ms, 0); // since it was moved
    cr_assert_eq(stats_of(q).expired, 0);
    ok(leat_queue_send(q,
                       &(leat_record){ .value = LEAT_STR("x"),
                                       .timestamp_ms = INT64_MAX,
                                       .to_partition = LEAT_PARTITION(1) },
                       NULL));
    cr_assert_eq(stats_of(q).oldest_ms, 3 * SECOND); // of tomorrow
    fails(LEAT_EINVAL, leat_queue_get_stats(q, &s, sizeof s - 8));
    fails(LEAT_EINVAL, leat_queue_get_stats(q, NULL, sizeof s));
    ok(leat_close_all(mq, 0));
}
