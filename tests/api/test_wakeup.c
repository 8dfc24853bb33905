/* SPDX-License-Identifier: MIT */
// How a consumer that waits is reached from elsewhere: wake-ups, and its descriptor in poll(2).
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static leat_consumer *c;
static const leat_message *m;

static void open_all(int32_t clock, int32_t partitions, const leat_consumer_options *o) {
    leat_options store = { .clock = clock,
                           .threads = clock == LEAT_CLOCK_JUMP ? LEAT_NO_THREADS : 0 };
    ok(fixture_open(NULL, &store, &(leat_topic_options){ .partitions = partitions }, NULL));
    ok(leat_consumer_open(mq, "g", o, &c));
    ok(leat_consumer_subscribe(c, "t"));
}

static void send_to(int32_t partition) {
    leat_record r = { .value = LEAT_STR("v"), .to_partition = LEAT_PARTITION(partition) };
    ok(leat_send(p, t, &r, NULL));
}

static int waits_readable(int fd, int ms) {
    struct pollfd one = { .fd = fd, .events = POLLIN };
    int n = poll(&one, 1, ms);
    return n == 1 && (one.revents & POLLIN) ? 1 : n;
}

static int readable(int fd) {
    return waits_readable(fd, 0);
}

struct polled {
    pthread_t thread;
    leat_consumer *c;
    int64_t timeout_ms;
    int result;
};

static void *poll_once(void *arg) {
    struct polled *one = arg;
    const leat_message *got;
    one->result = leat_poll(one->c, one->timeout_ms, &got);
    return NULL;
}

static void start_poll(struct polled *one, int64_t timeout_ms) {
    *one = (struct polled){ .c = c, .timeout_ms = timeout_ms };
    cr_assert_eq(pthread_create(&one->thread, NULL, poll_once, one), 0);
}

static int polled(struct polled *one) {
    cr_assert_eq(pthread_join(one->thread, NULL), 0);
    return one->result;
}

// ---- wake-ups

Test(wakeup, a_blocked_poll_returns_0_at_once) {
    struct polled one;
    open_all(LEAT_CLOCK_MANUAL, 2, NULL);
    start_poll(&one, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 1, 10000));
    ok(leat_consumer_wakeup(c));
    cr_assert_eq(polled(&one), 0);
    int64_t ms;
    ok(leat_clock_now(mq, &ms, NULL));
    cr_assert_eq(ms, 0, "no time has passed");
    send_to(1);
    gives(1, leat_poll(c, 0, &m)); // it was spent
    ok(leat_close_all(mq, 0));
}

Test(wakeup, the_next_poll_returns_0_if_none_is_blocked) {
    for (int32_t clock = LEAT_CLOCK_SYSTEM; clock <= LEAT_CLOCK_JUMP; clock++) {
        open_all(clock, 1, NULL);
        ok(leat_consumer_wakeup(c));
        gives(0, leat_poll(c, LEAT_FOREVER, &m));
        for (int i = 0; i < 5; i++)
            ok(leat_consumer_wakeup(c)); // one is remembered, not five
        send_to(0);
        gives(0, leat_poll(c, 0, &m)); // also if there is a message: it stays
        gives(1, leat_poll(c, 0, &m));
        cr_assert_eq(m[0].offset, 0);
        gives(0, leat_poll(c, 0, &m));
        ok(leat_close_all(mq, 0));
    }
}

Test(wakeup, a_woken_poll_ends_the_views_of_the_last_one) {
    open_all(LEAT_CLOCK_JUMP, 1, NULL);
    send_to(0);
    gives(1, leat_poll(c, 0, &m));
    leat_message old = m[0], kept;
    ok(leat_consumer_wakeup(c));
    gives(0, leat_poll(c, 0, &m));
    fails(LEAT_ESTALE, leat_message_hold(mq, &old, &kept));
    ok(leat_close_all(mq, 0));
}

static void wake_on_report(leat_producer *from, const leat_report *r, void *ctx) {
    (void)from, (void)r;
    *(int *)ctx = leat_consumer_wakeup(c);
}

Test(wakeup, it_may_be_made_in_a_callback) {
    int rc = -1;
    open_all(LEAT_CLOCK_MANUAL, 1, &(leat_consumer_options){ .isolation = LEAT_READ_DURABLE });
    struct polled one;
    start_poll(&one, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 1, 10000));
    leat_producer *log;
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &log));
    ok(leat_send_async(log, t, &(leat_record){ .value = LEAT_STR("v") }, wake_on_report, &rc));
    ok(leat_flush(log, LEAT_FOREVER));
    cr_assert_eq(rc, 0);
    cr_assert_eq(polled(&one), 0);
    ok(leat_close_all(mq, 0));
}

static void fd_on_report(leat_producer *from, const leat_report *r, void *ctx) {
    (void)from, (void)r;
    *(int *)ctx = leat_consumer_fd(c);
}

Test(wakeup, wrong_arguments_are_refused) {
    open_all(LEAT_CLOCK_SYSTEM, 1, NULL);
    fails(LEAT_EINVAL, leat_consumer_wakeup(NULL));
    fails(LEAT_EINVAL, leat_consumer_fd(NULL));
    int rc = 0;
    ok(leat_send_async(p, t, &(leat_record){ .value = LEAT_STR("v") }, fd_on_report, &rc));
    ok(leat_flush(p, LEAT_FOREVER));
    cr_assert_eq(rc, LEAT_EDEADLK);
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_consumer_wakeup(c));
    fails(LEAT_ECLOSED, leat_consumer_fd(c));
    ok(leat_close_all(mq, 0));
}

Test(wakeup, a_close_beside_a_blocked_poll_is_refused) {
    struct polled one;
    open_all(LEAT_CLOCK_MANUAL, 1, NULL);
    cr_assert_gt(leat_consumer_fd(c), -1);
    start_poll(&one, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 1, 10000));
    fails(LEAT_EBUSY, leat_consumer_close(c));
    fails(LEAT_EBUSY, leat_close_all(mq, 0));
    fails(LEAT_EBUSY, leat_consumer_fd(c));
    ok(leat_consumer_wakeup(c));
    cr_assert_eq(polled(&one), 0);
    ok(leat_consumer_close(c));
    ok(leat_close_all(mq, 0));
}

// ---- the descriptor

Test(wakeup, a_descriptor_is_readable_as_long_as_poll_may_return_something) {
    for (int32_t clock = LEAT_CLOCK_SYSTEM; clock <= LEAT_CLOCK_JUMP; clock++) {
        open_all(clock, 3, &(leat_consumer_options){ .max_poll_records = 4 });
        int fd = leat_consumer_fd(c);
        cr_assert_gt(fd, -1, "%s", leat_errmsg());
        cr_assert_eq(leat_consumer_fd(c), fd);
        cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
        gives(0, leat_poll(c, 0, &m));
        for (int round = 0; round < 3; round++) {
            cr_assert_eq(readable(fd), 0);
            for (int i = 0; i < 6; i++)
                send_to(i % 3);
            for (int i = 0; i < 3; i++)
                cr_assert_eq(readable(fd), 1, "it is level-triggered");
            gives(4, leat_poll(c, 0, &m));
            cr_assert_eq(readable(fd), 1, "there is more");
            gives(2, leat_poll(c, 0, &m));
            cr_assert_eq(readable(fd), 0, "that was all");
            ok(leat_commit(c));
            cr_assert_eq(readable(fd), 0);
            ok(leat_consumer_wakeup(c));
            cr_assert_eq(readable(fd), 1);
            gives(0, leat_poll(c, 0, &m));
        }
        ok(leat_close_all(mq, 0));
    }
}

Test(wakeup, a_descriptor_that_is_asked_for_late_misses_nothing) {
    open_all(LEAT_CLOCK_SYSTEM, 1, NULL);
    gives(0, leat_poll(c, 0, &m));
    send_to(0);
    int fd = leat_consumer_fd(c);
    cr_assert_eq(readable(fd), 1);
    gives(1, leat_poll(c, 0, &m));
    cr_assert_eq(readable(fd), 0);
    ok(leat_close_all(mq, 0));
}

Test(wakeup, a_descriptor_tells_of_a_rebalance_a_deleted_topic_and_a_shutdown) {
    leat_consumer *other;
    open_all(LEAT_CLOCK_SYSTEM, 2, NULL);
    int fd = leat_consumer_fd(c);
    gives(0, leat_poll(c, 0, &m));
    cr_assert_eq(readable(fd), 0);
    ok(leat_consumer_open(mq, "g", NULL, &other));
    ok(leat_consumer_subscribe(other, "t"));
    cr_assert_eq(readable(fd), 1, "it is to give up a partition");
    int fd2 = leat_consumer_fd(other);
    gives(0, leat_poll(other, 0, &m));
    cr_assert_eq(readable(fd2), 0, "it has nothing yet");
    gives(0, leat_poll(c, 0, &m));
    cr_assert_eq(readable(fd), 0);
    cr_assert_eq(readable(fd2), 1, "it is to take one over");
    gives(0, leat_poll(other, 0, &m));
    send_to(1);
    cr_assert_eq(readable(fd2), 1, "who owns it hears of it");
    gives(1, leat_poll(other, 0, &m));
    ok(leat_topic_delete(mq, "t"));
    cr_assert_eq(readable(fd), 1);
    fails(LEAT_EGONE, leat_poll(c, 0, &m));
    cr_assert_eq(readable(fd), 1, "and again");
    ok(leat_consumer_subscribe(other, NULL));
    gives(0, leat_poll(other, 0, &m));
    cr_assert_eq(readable(fd2), 0);
    ok(leat_shutdown(mq));
    cr_assert_eq(readable(fd2), 1);
    ok(leat_close_all(mq, 0));
}

Test(wakeup, a_descriptor_knows_of_what_is_read_only_when_durable) {
    open_all(LEAT_CLOCK_SYSTEM, 1, &(leat_consumer_options){ .isolation = LEAT_READ_DURABLE });
    int fd = leat_consumer_fd(c);
    leat_producer *log;
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &log));
    gives(0, leat_poll(c, 0, &m));
    ok(leat_send(log, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
    gives(0, leat_poll(c, 0, &m));
    cr_assert_eq(readable(fd), 0);
    ok(leat_sync(mq));
    cr_assert_eq(readable(fd), 1);
    gives(1, leat_poll(c, 0, &m));
    ok(leat_close_all(mq, 0));
}

Test(wakeup, a_descriptor_follows_an_assignment_a_seek_and_a_pause) {
    ok(fixture_open(NULL, NULL, NULL, NULL));
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    send_to(0);
    int fd = leat_consumer_fd(c);
    gives(0, leat_poll(c, 0, &m));
    cr_assert_eq(readable(fd), 0, "nothing is assigned");
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t" }, 1));
    cr_assert_eq(readable(fd), 1);
    gives(1, leat_poll(c, 0, &m));
    cr_assert_eq(readable(fd), 0);
    ok(leat_consumer_seek(c, "t", 0, LEAT_BEGIN));
    cr_assert_eq(readable(fd), 1);
    gives(1, leat_poll(c, 0, &m));
    ok(leat_consumer_pause(c, "t", 0, 1));
    send_to(0);
    gives(0, leat_poll(c, 0, &m));
    cr_assert_eq(readable(fd), 0, "it is paused");
    ok(leat_consumer_pause(c, "t", 0, 0));
    cr_assert_eq(readable(fd), 1);
    gives(1, leat_poll(c, 0, &m));
    ok(leat_close_all(mq, 0));
}

Test(wakeup, no_descriptor_to_be_had_is_said_and_nothing_changes) {
    struct rlimit limit, none;
    open_all(LEAT_CLOCK_SYSTEM, 1, NULL);
    ok(getrlimit(RLIMIT_NOFILE, &limit));
    none = (struct rlimit){ .rlim_cur = 0, .rlim_max = limit.rlim_max };
    ok(setrlimit(RLIMIT_NOFILE, &none));
    int rc = leat_consumer_fd(c), also = leat_fd(mq);
    ok(setrlimit(RLIMIT_NOFILE, &limit));
    cr_assert_eq(rc, LEAT_ENOMEM);
    cr_assert_eq(also, LEAT_ENOMEM);
    send_to(0);
    gives(1, leat_poll(c, 0, &m));
    cr_assert_gt(leat_consumer_fd(c), -1);
    ok(leat_close_all(mq, 0));
}

Test(wakeup, a_fork_has_no_part_in_it) {
    open_all(LEAT_CLOCK_SYSTEM, 1, NULL);
    int fd = leat_consumer_fd(c);
    gives(0, leat_poll(c, 0, &m));
    pid_t child = fork();
    if (child == 0) {
        int right = leat_consumer_wakeup(c) == LEAT_EFORK && leat_consumer_fd(c) == LEAT_EFORK;
        right += leat_close_all(mq, 0) == 0 && fcntl(fd, F_GETFD) == -1;
        _exit(right == 2 ? 0 : 1);
    }
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    cr_assert_eq(readable(fd), 0);
    send_to(0);
    cr_assert_eq(readable(fd), 1);
    gives(1, leat_poll(c, 0, &m));
    ok(leat_close_all(mq, 0));
}

// ---- several threads

enum { STORM_THREADS = 4, STORM_EACH = 2000 };
static atomic_int storm_left;

static void *storm(void *arg) {
    (void)arg;
    for (int i = 0; i < STORM_EACH; i++)
        if (leat_consumer_wakeup(c) != 0)
            return (void *)"a wake-up failed";
    atomic_fetch_sub(&storm_left, 1);
    return (void *)(leat_consumer_wakeup(c) == 0 ? NULL : "the last one failed");
}

// Each of them ends at most one poll; the last one is not lost: it comes after storm_left is 0.
Test(wakeup, a_storm_of_wake_ups_ends_polls_and_breaks_nothing) {
    for (int with_fd = 0; with_fd < 2; with_fd++) {
        pthread_t thread[STORM_THREADS];
        open_all(LEAT_CLOCK_SYSTEM, 2, NULL);
        int fd = with_fd ? leat_consumer_fd(c) : -1;
        atomic_store(&storm_left, STORM_THREADS);
        for (int i = 0; i < STORM_THREADS; i++)
            cr_assert_eq(pthread_create(&thread[i], NULL, storm, NULL), 0);
        int woken = 0;
        while (atomic_load(&storm_left) > 0) {
            if (with_fd)
                cr_assert_eq(waits_readable(fd, -1), 1);
            int n = leat_poll(c, with_fd ? 0 : LEAT_FOREVER, &m);
            cr_assert_eq(n, 0, "%s", leat_errmsg());
            woken++;
        }
        for (int i = 0; i < STORM_THREADS; i++) {
            void *wrong = NULL;
            cr_assert_eq(pthread_join(thread[i], &wrong), 0);
            cr_assert_null(wrong, "%s", (char *)wrong);
        }
        cr_assert(woken <= STORM_THREADS * (STORM_EACH + 1) + 1, "%d", woken);
        if (with_fd)
            gives(0, leat_poll(c, 0, &m)); // the last one, or nothing
        if (with_fd)
            cr_assert_eq(readable(fd), 0);
        ok(leat_close_all(mq, 0));
    }
}

enum { WOKEN = 30000 };

static void *wake_each(void *arg) {
    atomic_int *turn = arg;
    for (int i = 0; i < WOKEN; i++) {
        while (atomic_load(turn) == i)
            ;                                   // until the last one has ended its poll
        for (volatile int k = 0; k < i % 9000;) // at all points of the next one
            k = k + 1;
        if (leat_consumer_wakeup(c) != 0)
            return (void *)"a wake-up failed";
    }
    return NULL;
}

Test(wakeup, none_is_lost_wherever_the_poll_is) {
    pthread_t thread;
    atomic_int turn = 0;
    open_all(LEAT_CLOCK_SYSTEM, 1, NULL);
    gives(0, leat_poll(c, 0, &m));
    cr_assert_eq(pthread_create(&thread, NULL, wake_each, &turn), 0);
    for (int i = 0; i < WOKEN; i++) {
        atomic_store(&turn, i + 1);
        gives(0, leat_poll(c, LEAT_FOREVER, &m));
    }
    void *wrong = NULL;
    cr_assert_eq(pthread_join(thread, &wrong), 0);
    cr_assert_null(wrong, "%s", (char *)wrong);
    gives(0, leat_poll(c, 0, &m));
    ok(leat_close_all(mq, 0));
}

enum { HANDED = 3000 };

static void *send_each(void *arg) {
    struct pollfd one = { .fd = *(int *)arg, .events = POLLIN };
    for (int i = 0; i < HANDED; i++) {
        char byte;
        leat_record r = { .value = LEAT_STR("v"), .to_partition = LEAT_PARTITION(i % 3) };
        if (leat_send(p, t, &r, NULL) != 0 || poll(&one, 1, -1) != 1 ||
            read(one.fd, &byte, 1) != 1) // until it was got
            return (void *)"a send failed";
    }
    return NULL;
}

Test(wakeup, a_sleeper_in_poll_2_misses_no_message) {
    pthread_t thread;
    int back[2];
    ok(pipe(back));
    open_all(LEAT_CLOCK_SYSTEM, 3, NULL);
    int fd = leat_consumer_fd(c);
    cr_assert_eq(pthread_create(&thread, NULL, send_each, &back[0]), 0);
    for (int got = 0; got < HANDED;) {
        cr_assert_eq(waits_readable(fd, 60000), 1, "message %d is there and nobody says so", got);
        int n = leat_poll(c, 0, &m);
        cr_assert(n >= 0 && n <= 1, "%d: %s", n, leat_errmsg());
        got += n;
        if (n == 1)
            cr_assert_eq(write(back[1], "", 1), 1);
    }
    void *wrong = NULL;
    cr_assert_eq(pthread_join(thread, &wrong), 0);
    cr_assert_null(wrong, "%s", (char *)wrong);
    ok(leat_close_all(mq, 0));
    ok(close(back[0]) + close(back[1]));
}

static void *shut_it(void *arg) {
    (void)arg;
    return leat_shutdown(mq) == 0 ? NULL : (void *)"the shutdown failed";
}

Test(wakeup, a_sleeper_in_poll_2_ends_with_a_shutdown) {
    pthread_t thread;
    open_all(LEAT_CLOCK_SYSTEM, 1, NULL);
    int fd = leat_consumer_fd(c);
    gives(0, leat_poll(c, 0, &m));
    cr_assert_eq(pthread_create(&thread, NULL, shut_it, NULL), 0);
    cr_assert_eq(waits_readable(fd, 60000), 1);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    fails(LEAT_ECLOSED, leat_poll(c, 0, &m));
    ok(leat_close_all(mq, 0));
}
