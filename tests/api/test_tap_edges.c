/* SPDX-License-Identifier: MIT */
// Taps at their edges: what fails once, drains beside senders, crashes, stores of others.
#include <leat.h>
#include <leat_test.h>

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lib/mail.h"
#include "lib/scratch.h"

static void edge_send(leat *mq, leat_topic *t, int32_t partition, const char *values) {
    leat_producer *p;
    ok(leat_producer_open(mq, NULL, &p));
    for (; *values; values++) {
        leat_record r = { .value = { values, 1 }, .to_partition = LEAT_PARTITION(partition) };
        ok(leat_send(p, t, &r, NULL));
    }
    ok(leat_producer_close(p, 0));
}

static leat_topic *edge_topic(leat *mq, const char *announce_on) {
    leat_topic *t;
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .announce_on = announce_on }, &t));
    return t;
}

static bool edge_readable(int fd) {
    struct pollfd one = { .fd = fd, .events = POLLIN };
    return poll(&one, 1, 0) == 1;
}

static leat_subscription *edge_tap(leat_topic *t, leat_message_fn fn, struct mail_ear *e,
                                   int64_t stop_after) {
    const leat_subscription_options o = { .stop_after = stop_after, .on_end = mail_ended };
    leat_subscription *s;
    ok(leat_topic_tap(t, -1, LEAT_BEGIN, fn, e, &o, &s));
    return s;
}

// ---- what fails once

Test(tap_edges, a_partition_that_could_not_be_taken_in_is_tried_again_at_the_next_append) {
    struct mail_memory mem = { .blocks = 0 };
    leat *mq = mail_store_of(MAIL_POLLED, &mem);
    leat_topic *t = edge_topic(mq, NULL);
    struct mail_ear e;
    mail_ear_init(&e, mq, false);
    (void)edge_tap(t, mail_hear, &e, 0);
    mail_settle(mq, MAIL_POLLED);
    ok(leat_topic_grow(t, 2));
    edge_send(mq, t, 1, "a");
    atomic_store(&mem.fail_from, 1);
    mail_settle(mq, MAIL_POLLED);
    atomic_store(&mem.fail_from, 0);
    cr_assert_str_eq(e.diary, "");
    edge_send(mq, t, 1, "b");
    mail_settle(mq, MAIL_POLLED);
    cr_assert_str_eq(e.diary, "a b ");
    ok(leat_close_all(mq, 0));
    cr_assert_eq(atomic_load(&mem.blocks), 0);
}

Test(tap_edges, a_message_without_room_for_its_view_is_tried_again_at_the_next_append) {
    struct mail_memory mem = { .blocks = 0 };
    leat *mq = mail_store_of(MAIL_POLLED, &mem);
    leat_topic *t = edge_topic(mq, NULL);
    struct mail_ear e;
    mail_ear_init(&e, mq, false);
    edge_send(mq, t, 0, "a");
    leat_subscription *s = edge_tap(t, mail_hear, &e, 0);
    atomic_store(&mem.fail_from, 1);
    mail_settle(mq, MAIL_POLLED);
    cr_assert_str_eq(e.diary, "", "the first view of a store allocates");
    atomic_store(&mem.fail_from, 0);
    edge_send(mq, t, 0, "b");
    mail_settle(mq, MAIL_POLLED);
    cr_assert_str_eq(e.diary, "a b ");
    ok(leat_subscription_close(s, 0));
    ok(leat_close_all(mq, 0));
    cr_assert_eq(atomic_load(&mem.blocks), 0);
}

Test(tap_edges, a_drain_does_not_wait_for_what_has_no_room) {
    struct mail_memory mem = { .blocks = 0 };
    leat *mq = mail_store_of(MAIL_POLLED, &mem);
    leat_topic *t = edge_topic(mq, NULL);
    struct mail_ear e;
    mail_ear_init(&e, mq, false);
    edge_send(mq, t, 0, "a");
    leat_subscription *s = edge_tap(t, mail_hear, &e, 0);
    atomic_store(&mem.fail_from, 1);
    cr_assert_eq(leat_subscription_close(s, LEAT_FOREVER), 0);
    atomic_store(&mem.fail_from, 0);
    cr_assert_str_eq(e.diary, "end ");
    ok(leat_close_all(mq, 0));
}

// ---- drains

Test(tap_edges, a_drain_of_one_that_is_over_is_over) {
    for (int kind = MAIL_POLLED; kind <= MAIL_THREADED; kind++) {
        leat *mq = mail_store((enum mail_kind)kind);
        leat_topic *t = edge_topic(mq, NULL);
        struct mail_ear e;
        mail_ear_init(&e, mq, false);
        edge_send(mq, t, 0, "abc");
        leat_subscription *s = edge_tap(t, mail_hear, &e, 2);
        cr_assert_eq(leat_subscription_close(s, LEAT_FOREVER), 0);
        cr_assert_str_eq(e.diary, "a b end ");
        ok(leat_close_all(mq, 0));
    }
}

enum { EDGE_ECHOES = 1000 };

struct edge_echo {
    leat_producer *p;
    leat_topic *t;
    int n;
};

static void edge_echo(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    struct edge_echo *e = ctx;
    if (++e->n < EDGE_ECHOES)
        (void)leat_send(e->p, e->t, &(leat_record){ .value = LEAT_STR("e") }, NULL);
}

Test(tap_edges, a_drain_ends_at_what_was_there_when_it_began) {
    for (int kind = MAIL_POLLED; kind <= MAIL_THREADED; kind++) {
        leat *mq = mail_store((enum mail_kind)kind);
        struct edge_echo e = { .t = edge_topic(mq, NULL) };
        leat_subscription *s;
        ok(leat_producer_open(mq, NULL, &e.p));
        if (kind == MAIL_THREADED) // it waits until it may
            ok(leat_topic_tap(e.t, 0, LEAT_END, edge_echo, &e, NULL, &s));
        else
            ok(leat_topic_tap(e.t, 0, LEAT_BEGIN, edge_echo, &e, NULL, &s));
        edge_send(mq, e.t, 0, "abc");
        cr_assert_eq(leat_subscription_close(s, LEAT_FOREVER), 0);
        cr_assert_geq(e.n, 3);
        if (kind == MAIL_POLLED)
            cr_assert_lt(e.n, EDGE_ECHOES / 2, "it goes on with what comes: %d", e.n);
        ok(leat_producer_close(e.p, 0));
        ok(leat_close_all(mq, 0));
    }
}

// ---- the beginning

static void edge_close_itself(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)m;
    (void)leat_subscription_close(s, 0);
    (void)sem_post(ctx);
}

enum { EDGE_EARS = 200, EDGE_TAPS = 2000 };

struct edge_noise { // keeps a topic's bell busy
    leat *mq;
    leat_topic *t;
    leat_producer *p;
    leat_subscription *ear[EDGE_EARS];
    atomic_bool over;
};

static void *edge_ring(void *arg) {
    struct edge_noise *a = arg;
    leat_message m;
    while (!atomic_load(&a->over)) {
        int rc;
        while ((rc = leat_subscription_next(a->ear[0], 0, &m)) == 1)
            (void)leat_message_release(a->mq, &m);
        if (rc != 0 || leat_send(a->p, a->t, &(leat_record){ .value = LEAT_STR("x") }, NULL) != 0)
            return arg;
    }
    return NULL;
}

Test(tap_edges, one_that_closes_itself_while_it_is_made_is_not_touched_again) {
    struct edge_noise a = { .mq = NULL };
    sem_t done;
    cr_assert_eq(sem_init(&done, 0, 0), 0);
    ok(leat_open_memory(NULL, &a.mq));
    a.t = edge_topic(a.mq, NULL);
    ok(leat_producer_open(a.mq, NULL, &a.p));
    edge_send(a.mq, a.t, 0, "a");
    for (int i = 0; i < EDGE_EARS; i++)
        ok(leat_topic_tap(a.t, 0, LEAT_END, NULL, NULL, NULL, &a.ear[i]));
    pthread_t thread = mail_start(edge_ring, &a);
    for (int i = 0; i < EDGE_TAPS; i++) {
        leat_subscription *s;
        ok(leat_topic_tap(a.t, 0, LEAT_BEGIN, edge_close_itself, &done, NULL, &s));
        mail_wait(&done);
    }
    atomic_store(&a.over, true);
    mail_join(thread);
    ok(leat_close_all(a.mq, 0));
    (void)sem_destroy(&done);
}

// ---- who pulls

struct edge_partner {
    leat *mq;
    leat_topic *t;
    atomic_int turn; // of the one who asks
};

enum { EDGE_TURNS = 3000 };

static void *edge_serve(void *arg) {
    struct edge_partner *a = arg;
    leat_producer *p;
    if (leat_producer_open(a->mq, NULL, &p) != 0)
        return arg;
    for (int i = 0; i < EDGE_TURNS; i++) {
        while (atomic_load(&a->turn) <= i)
            sched_yield();
        for (volatile int k = 0; k < i % 500 * 400;) // later and later
            k = k + 1;
        if (leat_send(p, a->t, &(leat_record){ .value = LEAT_STR("x"), .to_partition = 1 }, NULL) !=
            0)
            return arg;
    }
    return leat_producer_close(p, 0) == 0 ? NULL : arg;
}

Test(tap_edges, who_is_about_to_wait_hears_what_comes_just_then) {
    struct edge_partner a;
    ok(leat_open_memory(NULL, &a.mq));
    a.t = edge_topic(a.mq, NULL);
    ok(leat_topic_grow(a.t, 1024)); // to ask all of them takes a while
    atomic_init(&a.turn, 0);
    leat_subscription *s;
    leat_message m;
    ok(leat_topic_tap(a.t, 0, LEAT_END, NULL, NULL, NULL, &s));
    pthread_t thread = mail_start(edge_serve, &a);
    for (int i = 0; i < EDGE_TURNS; i++) {
        atomic_store(&a.turn, i + 1);
        cr_assert_eq(leat_subscription_next(s, LEAT_FOREVER, &m), 1);
        cr_assert_eq(m.offset, i);
        ok(leat_message_release(a.mq, &m));
    }
    mail_join(thread);
    ok(leat_close_all(a.mq, 0));
}

Test(tap_edges, a_jumping_clock_jumps_to_what_will_be_sent) {
    leat *mq = mail_store(MAIL_ALONE);
    leat_topic *t = edge_topic(mq, NULL);
    leat_subscription *s;
    leat_producer *p;
    leat_message m;
    int64_t now;
    ok(leat_topic_tap(t, 0, LEAT_BEGIN, NULL, NULL, NULL, &s));
    ok(leat_producer_open(mq, &(leat_producer_options){ .linger_ms = 500 }, &p));
    ok(leat_send_async(p, t, &(leat_record){ .value = LEAT_STR("x") }, NULL, NULL));
    cr_assert_eq(leat_subscription_next(s, 400, &m), 0);
    cr_assert_eq(leat_subscription_next(s, LEAT_FOREVER, &m), 1);
    ok(leat_clock_now(mq, &now, NULL));
    cr_assert_eq(now, 500);
    ok(leat_message_release(mq, &m));
    cr_assert_eq(leat_subscription_next(s, LEAT_FOREVER, &m), LEAT_EDEADLK);
    ok(leat_producer_close(p, 0));
    ok(leat_close_all(mq, 0));
}

Test(tap_edges, a_descriptor_shines_for_new_partitions_and_for_the_end) {
    leat *mq = mail_store(MAIL_ALONE);
    leat_topic *t = edge_topic(mq, NULL);
    leat_subscription *s;
    leat_message m;
    ok(leat_topic_tap(t, -1, LEAT_BEGIN, NULL, NULL, NULL, &s));
    int fd = leat_subscription_fd(s);
    cr_assert_eq(leat_subscription_next(s, 0, &m), 0);
    cr_assert(!edge_readable(fd));
    ok(leat_topic_grow(t, 2));
    cr_assert(edge_readable(fd));
    cr_assert_eq(leat_subscription_next(s, 0, &m), 0);
    cr_assert(!edge_readable(fd));
    edge_send(mq, t, 1, "a");
    cr_assert(edge_readable(fd));
    cr_assert_eq(leat_subscription_next(s, 0, &m), 1);
    ok(leat_message_release(mq, &m));
    cr_assert_eq(leat_subscription_next(s, 0, &m), 0);
    ok(leat_topic_delete(mq, "t"));
    cr_assert(edge_readable(fd));
    cr_assert_eq(leat_subscription_next(s, 0, &m), LEAT_EGONE);
    cr_assert(edge_readable(fd));
    ok(leat_close_all(mq, 0));
}

// ---- crashes, and stores that are looked at

Test(tap_edges, after_a_crash_a_topic_goes_on_being_announced) {
    static const int how[] = { LEAT_KILL, LEAT_POWER_CUT };
    for (int i = 0; i < 2; i++) {
        const leat_options o = {
            .flags = LEAT_CRASHABLE, .threads = LEAT_NO_THREADS, .clock = LEAT_CLOCK_JUMP, .seed = 1
        };
        leat *mq, *again;
        ok(leat_open_memory(&o, &mq));
        leat_topic *t = edge_topic(mq, "live");
        struct mail_ear heard, tapped, old;
        mail_ear_init(&old, mq, false);
        leat_subscription *s = edge_tap(t, mail_hear, &old, 0), *pulled;
        ok(leat_topic_tap(t, 0, LEAT_BEGIN, NULL, NULL, NULL, &pulled));
        leat_message m;
        edge_send(mq, t, 0, "a");
        mail_settle(mq, MAIL_ALONE);
        edge_send(mq, t, 0, "b");
        ok(leat_crash(mq, how[i], &again));
        mail_ear_init(&heard, again, false);
        mail_ear_init(&tapped, again, false);
        t = edge_topic(again, NULL);
        mail_listen(&heard, "live", mail_hear, (leat_subscription_options){ 0 });
        (void)edge_tap(t, mail_hear, &tapped, 0);
        edge_send(again, t, 0, "c");
        mail_settle(again, MAIL_ALONE);
        cr_assert_str_eq(heard.diary, "c ");
        cr_assert_str_eq(tapped.diary, "a b c ");
        cr_assert_eq(leat_subscription_next(pulled, LEAT_FOREVER, &m), LEAT_ECLOSED);
        cr_assert_eq(leat_subscription_close(s, LEAT_FOREVER), 0);
        cr_assert_eq(leat_subscription_close(pulled, 0), 0);
        cr_assert_str_eq(old.diary, "a end ");
        ok(leat_close_all(mq, 0));
        ok(leat_close_all(again, 0));
    }
}

Test(tap_edges, a_store_that_is_looked_at_has_taps_and_records_nothing) {
    char dir[SCRATCH_PATH];
    scratch_make(dir);
    leat *mq, *view;
    ok(leat_open(dir, NULL, &mq));
    leat_topic *t = edge_topic(mq, "live");
    edge_send(mq, t, 0, "ab");
    const leat_options o = { .flags = LEAT_READ_ONLY, .threads = LEAT_NO_THREADS };
    ok(leat_open(dir, &o, &view));
    t = edge_topic(view, NULL);
    struct mail_ear e;
    mail_ear_init(&e, view, false);
    leat_subscription *s = edge_tap(t, mail_hear, &e, 0), *none;
    mail_settle(view, MAIL_ALONE);
    cr_assert_str_eq(e.diary, "a b ");
    fails(LEAT_EACCESS, leat_channel_record(view, "x", t, &none));
    cr_assert_null(none);
    ok(leat_subscription_close(s, LEAT_FOREVER));
    ok(leat_close(view, 0));
    ok(leat_close_all(mq, 0));
    scratch_remove(dir);
}
