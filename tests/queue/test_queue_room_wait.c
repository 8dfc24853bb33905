/* SPDX-License-Identifier: MIT */
// The queue room and time: clocks at their edges, and stores that close or fork under somebody who
// waits.
#include "lib/room.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- time at its edges

Test(room, a_delay_is_kept_wherever_the_wall_clock_stands, .init = make_dir, .fini = drop_dir) {
    const int64_t walls[] = { 1,
                              253402300799999,
                              INT64_MAX / 1000000 - 5000,
                              INT64_MAX / 1000000,
                              INT64_MAX - 366LL * 24 * HOUR,
                              INT64_MAX };
    for (size_t i = 0; i < sizeof walls / sizeof walls[0]; i++) {
        open_disk(dir, LEAT_WRITE_MAPPED, walls[i]);
        open_queue("jobs", NULL);
        send("a");
        ok(leat_clock_advance(mq, SECOND));
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_nack(q, &m, HOUR, 0));
        int64_t wall;
        ok(leat_clock_now(mq, NULL, &wall));
        ok(leat_close_all(mq, 0));
        if (wall > INT64_MAX - HOUR) // the time that is asked for does not exist
            wall = 1;
        open_disk(dir, LEAT_WRITE_MAPPED, wall);
        open_queue("jobs", NULL);
        cr_assert_eq(stats_of(q).delayed, 1, "wall %lld", (long long)walls[i]);
        if (wall != 1) {
            ok(leat_clock_advance(mq, HOUR - 1));
            gives(0, leat_queue_receive(q, 0, &m, 1));
            ok(leat_clock_advance(mq, 11));
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(leat_queue_ack(q, &m));
        }
        ok(leat_close_all(mq, 0));
        drop_dir();
        make_dir();
    }
}

Test(room, wall_time_that_jumps_moves_no_lease_and_no_delay) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND });
    send("a");
    send("b");
    gives(1, leat_queue_receive(q, 0, &m, 1));
    gives(1, leat_queue_receive(q, 0, &n, 1));
    ok(leat_queue_nack(q, &n, 20 * SECOND, 0));
    const int64_t walls[] = { 0, INT64_MAX, 1, 0 };
    for (size_t i = 0; i < sizeof walls / sizeof walls[0]; i++) {
        ok(leat_clock_set_wall(mq, walls[i]));
        cr_assert_eq(stats_of(q).leased, 1);
        cr_assert_eq(stats_of(q).delayed, 1);
    }
    ok(leat_clock_advance(mq, 10 * SECOND - 1));
    cr_assert_eq(stats_of(q).leased, 1);
    ok(leat_clock_advance(mq, 1));
    cr_assert_eq(stats_of(q).leased, 0);
    ok(leat_clock_advance(mq, 10 * SECOND - 1));
    cr_assert_eq(stats_of(q).delayed, 1);
    ok(leat_clock_advance(mq, 1));
    cr_assert_eq(stats_of(q).delayed, 0);
    ok(leat_message_release(mq, &m));
    ok(leat_close_all(mq, 0));
}

// ---- waiting

struct caller {
    pthread_t thread;
    int64_t timeout_ms;
    int rc;
    leat_message m;
};

static void *receive_one(void *arg) {
    struct caller *c = arg;
    c->rc = leat_queue_receive(q, c->timeout_ms, &c->m, 1);
    return NULL;
}

static void begin(struct caller *c, void *(*run)(void *)) {
    cr_assert_eq(pthread_create(&c->thread, NULL, run, c), 0);
}

static void end(struct caller *c) {
    cr_assert_eq(pthread_join(c->thread, NULL), 0);
}

// Who waits is counted by hand: a receive in line would take its message at once.
Test(room, a_receive_leaves_one_message_for_each_that_waits) {
    leat_message got[8];
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("q", NULL);
    send_n(q, 5, 10);
    atomic_fetch_add(&q->waiting, 3);
    gives(2, leat_queue_receive(q, SECOND, got, 8));
    gives(1, leat_queue_receive(q, SECOND, got + 2, 1)); // in line, where it is the first
    gives(1, leat_queue_receive(q, 0, got + 3, 1));      // this one cannot wait for its turn
    atomic_fetch_sub(&q->waiting, 3);
    gives(1, leat_queue_receive(q, SECOND, got + 4, 4));
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(got[i].offset, i);
        ok(leat_queue_ack(q, &got[i]));
    }
    ok(leat_close_all(mq, 0));
}

Test(room, close_all_under_a_blocked_receive_is_refused_and_ends_nothing) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    leat_queue *again;
    ok(leat_queue_open(mq, "first", NULL, &other));
    open_queue("jobs", NULL);
    ok(leat_queue_open(mq, "jobs", NULL, &again));
    ok(leat_queue_send(other, &(leat_record){ .value = LEAT_STR("a") }, NULL));
    gives(1, leat_queue_receive(other, 0, &m, 1));
    struct caller c = { .timeout_ms = LEAT_FOREVER };
    begin(&c, receive_one);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    fails_saying(LEAT_EBUSY, "jobs", leat_close_all(mq, 0));
    ok(leat_message_release(mq, &m)); // its view was not ended
    ok(leat_queue_close(again));      // nor were handles closed
    fails(LEAT_EBUSY, leat_queue_close(q));
    send("b");
    end(&c);
    cr_assert_eq(c.rc, 1);
    ok(leat_close_all(mq, 0));
}

Test(room, a_store_may_be_closed_as_soon_as_it_says_that_nobody_waits) {
    for (int round = 0; round < 200; round++) {
        open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", NULL);
        struct caller c[3] = { { .timeout_ms = LEAT_FOREVER },
                               { .timeout_ms = HOUR },
                               { .timeout_ms = LEAT_FOREVER } };
        for (int i = 0; i < 3; i++)
            begin(&c[i], receive_one);
        ok(leat_clock_wait_blocked(mq, 3, REAL_MS));
        ok(leat_shutdown(mq));
        int rc;
        while ((rc = leat_close_all(mq, 0)) == LEAT_EBUSY)
            ;
        cr_assert_eq(rc, 0);
        for (int i = 0; i < 3; i++) {
            end(&c[i]);
            cr_assert_eq(c[i].rc, LEAT_ECLOSED);
        }
    }
}

struct late { // a wait whose time is over before it begins to block
    pthread_t thread;
    struct lt_waiter waiter;
    atomic_bool begun, done;
    int rc;
};

static void *wait_late(void *arg) {
    struct late *l = arg;
    atomic_store(&l->begun, true);
    do
        l->rc = lt_wait(mq, &l->waiter, 1000000);
    while (l->rc == 0);
    atomic_store(&l->done, true);
    return NULL;
}

Test(room, a_timeout_set_while_time_moves_is_not_lost) {
    for (int round = 0; round < 50; round++) {
        open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
        struct late l = { .rc = 1 };
        ok(lt_waiter_init(mq, &l.waiter));
        lt_lock(&mq->clock.due_lock); // it gets past its look at the clock, no further
        cr_assert_eq(pthread_create(&l.thread, NULL, wait_late, &l), 0);
        while (!atomic_load(&l.begun))
            (void)sched_yield();
        for (int i = 0; i < 200; i++)
            (void)sched_yield();
        atomic_store(&mq->clock.mono_ns, 2000000); // as advance does, having found nothing planned
        lt_unlock(&mq->clock.due_lock);
        int blocked = 0;
        while (!atomic_load(&l.done) && blocked == 0) {
            lt_lock(&mq->clock.lock);
            blocked = mq->clock.blocked_count;
            lt_unlock(&mq->clock.lock);
        }
        ok(leat_shutdown(mq));
        cr_assert_eq(pthread_join(l.thread, NULL), 0);
        lt_waiter_fini(mq, &l.waiter);
        ok(leat_close_all(mq, 0));
        cr_assert_eq(blocked, 0, "it blocks although its time is over");
    }
}

// ---- a forked child

static void *wait_for_one_blocked(void *arg) {
    struct caller *c = arg;
    c->rc = leat_clock_wait_blocked(mq, 2, REAL_MS);
    (void)leat_clock_advance(mq, HOUR);
    return NULL;
}

static int child_closes(void) {
    alarm(20); // a close that hangs
    leat_message x = { .receipt = 1 };
    bool good = leat_queue_receive(q, 0, &x, 1) == LEAT_EFORK &&
                leat_queue_ack(q, &x) == LEAT_EFORK && leat_queue_close(q) == LEAT_EFORK &&
                leat_close(mq, 0) == 0;
    return good ? 0 : 1;
}

Test(room, a_forked_child_closes_a_store_in_which_its_parent_waits) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", NULL);
    struct caller blocked = { .timeout_ms = HOUR }, waiter = { .rc = 1 };
    begin(&blocked, receive_one);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    begin(&waiter, wait_for_one_blocked);
    int status = 0;
    for (int i = 0; i < 20 && status == 0; i++) { // by then it waits, or never will
        pid_t pid = fork();
        if (pid == 0)
            _exit(child_closes());
        cr_assert_gt(pid, 0);
        cr_assert_eq(waitpid(pid, &status, 0), pid);
    }
    gives(0, leat_queue_receive(q, HOUR, &m, 1)); // the second that is waited for
    end(&waiter);
    end(&blocked);
    cr_assert_eq(waiter.rc, 0);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child: %#x", status);
    ok(leat_close_all(mq, 0));
}
