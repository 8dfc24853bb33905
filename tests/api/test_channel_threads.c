/* SPDX-License-Identifier: MIT */
// Channels with several threads: what closing promises while others publish. Whoever could fail an
// assertion on another thread counts instead; the test looks at the count.
#include <leat.h>

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static leat *threads_store(void) {
    leat *mq;
    cr_assert_eq(leat_open_memory(NULL, &mq), 0, "%s", leat_errmsg());
    return mq;
}

static pthread_t threads_start(void *(*fn)(void *), void *ctx) {
    pthread_t t;
    cr_assert_eq(pthread_create(&t, NULL, fn, ctx), 0);
    return t;
}

static void threads_wait(sem_t *s) {
    while (sem_wait(s) != 0) // EINTR
        continue;
}

// ---- after close

struct threads_loop {
    leat *mq;
    atomic_bool stop;
    atomic_int failures;
};

static void *threads_publish_until_stop(void *ctx) {
    struct threads_loop *loop = ctx;
    while (!atomic_load(&loop->stop))
        if (leat_publish(loop->mq, "c", "x", 1) < 0)
            atomic_fetch_add(&loop->failures, 1);
    return NULL;
}

// Freed by who closed: with a sanitizer every late call is seen, without one it is likely.
struct threads_ear {
    int poisoned; // no atomic: after close nobody may look
    int ended;
    atomic_int late, calls;
    sem_t heard;
};

static void threads_hear(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    struct threads_ear *ear = ctx;
    int late = ear->poisoned;
    if (atomic_fetch_add(&ear->calls, 1) == 0)
        (void)sem_post(&ear->heard);
    for (int i = 0; i < 20; i++)
        (void)sched_yield(); // the closer comes meanwhile
    late += ear->poisoned + ear->ended;
    atomic_fetch_add(&ear->late, late);
}

static void threads_hear_the_end(void *ctx) {
    struct threads_ear *ear = ctx;
    ear->ended++;
}

Test(channel_threads, after_close_no_callback_runs_and_none_will) {
    struct threads_loop loop = { .mq = threads_store() };
    pthread_t publisher[2];
    for (int i = 0; i < 2; i++)
        publisher[i] = threads_start(threads_publish_until_stop, &loop);
    int late = 0, ends = 0;
    for (int i = 0; i < 200; i++) {
        struct threads_ear *ear = calloc(1, sizeof *ear);
        cr_assert_not_null(ear);
        cr_assert_eq(sem_init(&ear->heard, 0, 0), 0);
        leat_subscription_options o = { .on_end = threads_hear_the_end };
        leat_subscription *s;
        int rc = leat_channel_subscribe(loop.mq, i % 2 ? "c" : "*", threads_hear, ear, &o, &s);
        cr_assert_eq(rc, 0, "%s", leat_errmsg());
        threads_wait(&ear->heard);
        cr_assert_eq(leat_subscription_close(s, 0), 0);
        ear->poisoned = 1;
        int calls = atomic_load(&ear->calls);
        for (int k = 0; k < 5; k++)
            (void)sched_yield();
        late += atomic_load(&ear->late) + (atomic_load(&ear->calls) != calls);
        ends += ear->ended;
        (void)sem_destroy(&ear->heard);
        free(ear);
    }
    atomic_store(&loop.stop, true);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(publisher[i], NULL), 0);
    cr_assert_eq(late, 0, "%d callbacks ran after close", late);
    cr_assert_eq(ends, 200);
    cr_assert_eq(atomic_load(&loop.failures), 0);
    cr_assert_eq(leat_close(loop.mq, 0), 0, "%s", leat_errmsg());
}

// ---- callbacks that wait for the test

struct threads_gate {
    leat *mq;
    const char *then_publish; // in the callback, before it waits
    sem_t inside, open;
    atomic_int running, ended_while_running, ends;
    pthread_t ended_on;
};

static void threads_gate_init(struct threads_gate *g, leat *mq, const char *then_publish) {
    memset(g, 0, sizeof *g);
    g->mq = mq;
    g->then_publish = then_publish;
    cr_assert(sem_init(&g->inside, 0, 0) == 0 && sem_init(&g->open, 0, 0) == 0);
}

static void threads_gate_fini(struct threads_gate *g) {
    (void)sem_destroy(&g->inside);
    (void)sem_destroy(&g->open);
}

static void threads_pass_gate(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct threads_gate *g = ctx;
    if (m->value.size > 0)
        return;
    atomic_fetch_add(&g->running, 1);
    (void)sem_post(&g->inside);
    if (g->then_publish)
        (void)leat_publish(g->mq, g->then_publish, "", 0);
    else
        threads_wait(&g->open);
    atomic_fetch_sub(&g->running, 1);
}

static void threads_gate_ended(void *ctx) {
    struct threads_gate *g = ctx;
    g->ended_on = pthread_self();
    atomic_fetch_add(&g->ended_while_running, atomic_load(&g->running));
    atomic_fetch_add(&g->ends, 1);
}

static leat_subscription *threads_gate_at(const char *channel, struct threads_gate *g) {
    leat_subscription *s;
    leat_subscription_options o = { .on_end = threads_gate_ended };
    int rc = leat_channel_subscribe(g->mq, channel, threads_pass_gate, g, &o, &s);
    cr_assert_eq(rc, 0, "%s", leat_errmsg());
    return s;
}

struct threads_call {
    leat *mq;
    const char *channel;
    leat_subscription *s;
    int rc;
};

static void *threads_publish_once(void *ctx) {
    struct threads_call *call = ctx;
    call->rc = leat_publish(call->mq, call->channel, "", 0);
    return NULL;
}

static void *threads_close(void *ctx) {
    struct threads_call *call = ctx;
    call->rc = leat_subscription_close(call->s, 0);
    return NULL;
}

static void threads_close_ctx(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    (void)threads_close(ctx);
}

Test(channel_threads, closed_in_a_callback_while_another_thread_runs_it) {
    leat *mq = threads_store();
    struct threads_gate g;
    threads_gate_init(&g, mq, NULL);
    struct threads_call publish = { .mq = mq, .channel = "slow" };
    struct threads_call close = { .s = threads_gate_at("slow", &g), .rc = 1 };
    leat_subscription *closer;
    cr_assert_eq(leat_channel_subscribe(mq, "now", threads_close_ctx, &close, NULL, &closer), 0);
    pthread_t publisher = threads_start(threads_publish_once, &publish);
    threads_wait(&g.inside);
    cr_assert_eq(leat_publish(mq, "now", "", 0), 1, "it did not wait, or this would hang");
    cr_assert_eq(close.rc, 0);
    cr_assert_eq(atomic_load(&g.ends), 0, "fn still runs");
    cr_assert_eq(leat_publish(mq, "slow", "", 0), 0, "no new call begins");
    (void)sem_post(&g.open);
    cr_assert_eq(pthread_join(publisher, NULL), 0);
    cr_assert_eq(publish.rc, 1);
    cr_assert(atomic_load(&g.ends) == 1 && atomic_load(&g.ended_while_running) == 0);
    cr_assert(pthread_equal(g.ended_on, publisher), "the last to leave ends it");
    cr_assert_eq(leat_subscription_close(closer, 0), 0);
    cr_assert_eq(leat_close(mq, 0), 0, "%s", leat_errmsg());
    threads_gate_fini(&g);
}

// Three calls of one and one call of the other are under way when both are closed from outside.
Test(channel_threads, two_closers_wait_for_all_calls_of_theirs) {
    leat *mq = threads_store();
    struct threads_gate outer, inner;
    threads_gate_init(&outer, mq, "inner");
    threads_gate_init(&inner, mq, NULL);
    struct threads_call close[2] = { { .s = threads_gate_at("outer", &outer), .rc = 1 },
                                     { .s = threads_gate_at("inner", &inner), .rc = 1 } };
    struct threads_call publish[3];
    pthread_t publisher[3], closer[2];
    for (int i = 0; i < 3; i++) {
        publish[i] = (struct threads_call){ .mq = mq, .channel = i ? "inner" : "outer" };
        publisher[i] = threads_start(threads_publish_once, &publish[i]);
        threads_wait(&inner.inside);
    }
    for (int i = 0; i < 2; i++)
        closer[i] = threads_start(threads_close, &close[i]);
    while (leat_publish(mq, "inner", "pass", 4) != 0 || leat_publish(mq, "outer", "pass", 4) != 0)
        (void)sched_yield(); // until both are closed
    cr_assert(atomic_load(&outer.ends) == 0 && atomic_load(&inner.ends) == 0, "calls still run");
    for (int i = 0; i < 3; i++)
        (void)sem_post(&inner.open);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(pthread_join(publisher[i], NULL), 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(pthread_join(closer[i], NULL), 0);
        cr_assert_eq(close[i].rc, 0);
    }
    cr_assert(atomic_load(&outer.ends) == 1 && atomic_load(&inner.ends) == 1);
    cr_assert_eq(atomic_load(&outer.ended_while_running), 0);
    cr_assert_eq(atomic_load(&inner.ended_while_running), 0);
    cr_assert_eq(leat_close(mq, 0), 0, "%s", leat_errmsg());
    threads_gate_fini(&outer);
    threads_gate_fini(&inner);
}

// ---- order

enum { THREADS_MESSAGES = 20000 };

struct threads_sequence {
    leat *mq;
    int who;
    atomic_int failures;
};

struct threads_order {
    int last[3]; // by publisher; each is written on that publisher's thread alone
    atomic_int wrong;
};

static void threads_check_order(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct threads_order *order = ctx;
    int v[2] = { 0, 0 };
    if (m->value.size == sizeof v)
        memcpy(v, m->value.data, sizeof v);
    if (v[1] != order->last[v[0]] + 1)
        atomic_fetch_add(&order->wrong, 1);
    order->last[v[0]] = v[1];
}

static void *threads_publish_sequence(void *ctx) {
    struct threads_sequence *seq = ctx;
    for (int i = 1; i <= THREADS_MESSAGES; i++) {
        int v[2] = { seq->who, i };
        if (leat_publish(seq->mq, "c", v, sizeof v) != 2)
            atomic_fetch_add(&seq->failures, 1);
    }
    return NULL;
}

Test(channel_threads, each_publisher_is_heard_in_its_order) {
    leat *mq = threads_store();
    struct threads_order order[2] = { { .last = { 0 } }, { .last = { 0 } } };
    leat_subscription *s[2];
    cr_assert_eq(leat_channel_subscribe(mq, "c", threads_check_order, &order[0], NULL, &s[0]), 0);
    cr_assert_eq(leat_channel_subscribe(mq, "?", threads_check_order, &order[1], NULL, &s[1]), 0);
    struct threads_sequence seq[3];
    pthread_t publisher[3];
    for (int i = 0; i < 3; i++) {
        seq[i].mq = mq;
        seq[i].who = i;
        atomic_init(&seq[i].failures, 0);
        publisher[i] = threads_start(threads_publish_sequence, &seq[i]);
    }
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(pthread_join(publisher[i], NULL), 0);
        cr_assert_eq(atomic_load(&seq[i].failures), 0);
        cr_assert(order[0].last[i] == THREADS_MESSAGES && order[1].last[i] == THREADS_MESSAGES);
    }
    cr_assert(atomic_load(&order[0].wrong) == 0 && atomic_load(&order[1].wrong) == 0);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(leat_subscription_close(s[i], 0), 0);
    cr_assert_eq(leat_close(mq, 0), 0, "%s", leat_errmsg());
}
