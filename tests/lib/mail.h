/* SPDX-License-Identifier: MIT */
// mail: what tests of subscriptions with a buffer share: stores of three kinds, a listener that
// writes down what it hears, and one that stands at a gate until the test lets it go.
#ifndef LEAT_TESTS_LIB_MAIL_H
#define LEAT_TESTS_LIB_MAIL_H

#include <leat.h>
#include <leat_test.h>

#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/scratch.h"

// ALONE: no threads, a jumping clock. POLLED: a manual one. THREADED: with the callback thread.
enum mail_kind { MAIL_ALONE, MAIL_POLLED, MAIL_THREADED, MAIL_KINDS };

struct mail_memory { // an allocator that counts, and may fail
    atomic_long blocks;
    atomic_long fail_from; // 1: the next one and all later ones fail; 0: none
};

static inline void *mail_alloc(void *ctx, void *old, size_t size) {
    struct mail_memory *mem = ctx;
    if (size == 0) {
        atomic_fetch_sub(&mem->blocks, old ? 1 : 0);
        free(old);
        return NULL;
    }
    if (atomic_load(&mem->fail_from) > 0 &&
        (atomic_load(&mem->fail_from) == 1 || atomic_fetch_sub(&mem->fail_from, 1) == 1))
        return NULL;
    void *p = realloc(old, size);
    atomic_fetch_add(&mem->blocks, p && !old ? 1 : 0);
    return p;
}

static inline leat *mail_store_of(enum mail_kind kind, struct mail_memory *mem) {
    leat *mq;
    leat_options o = { .clock = kind == MAIL_ALONE ? LEAT_CLOCK_JUMP : LEAT_CLOCK_MANUAL,
                       .threads = kind == MAIL_ALONE ? LEAT_NO_THREADS : 0,
                       .callbacks = kind == MAIL_POLLED ? LEAT_CALLBACKS_POLL : 0,
                       .seed = 1,
                       .alloc = mem ? mail_alloc : NULL,
                       .alloc_ctx = mem };
    ok(leat_open_memory(&o, &mq));
    return mq;
}

static inline leat *mail_store(enum mail_kind kind) {
    return mail_store_of(kind, NULL);
}

struct mail_ear {
    leat *mq;
    char diary[4096]; // "1 2 +3:4 " : values, with the number of those that were lost before it
    atomic_int calls, ends, running, twice; // twice: calls that ran beside another
    bool gated;
    sem_t inside, open;
    leat_subscription *s;
};

static inline void mail_ear_init(struct mail_ear *e, leat *mq, bool gated) {
    memset(e, 0, sizeof *e);
    e->mq = mq;
    e->gated = gated;
    cr_assert(sem_init(&e->inside, 0, 0) == 0 && sem_init(&e->open, 0, 0) == 0);
}

static inline void mail_write(struct mail_ear *e, const leat_message *m) {
    size_t n = strlen(e->diary);
    if (m->dropped > 0)
        n += (size_t)snprintf(e->diary + n, sizeof e->diary - n, "+%d:", (int)m->dropped);
    snprintf(e->diary + n, sizeof e->diary - n, LEAT_FMT " ", LEAT_ARG(m->value));
}

static inline void mail_wait(sem_t *s) {
    while (sem_wait(s) != 0) // EINTR
        continue;
}

static inline void mail_hear(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct mail_ear *e = ctx;
    if (atomic_fetch_add(&e->running, 1) != 0)
        atomic_fetch_add(&e->twice, 1);
    mail_write(e, m);
    if (e->gated) {
        (void)sem_post(&e->inside);
        mail_wait(&e->open);
    }
    atomic_fetch_add(&e->calls, 1);
    atomic_fetch_sub(&e->running, 1);
}

static inline void mail_ended(void *ctx) {
    struct mail_ear *e = ctx;
    strncat(e->diary, "end ", sizeof e->diary - strlen(e->diary) - 1);
    atomic_fetch_add(&e->ends, 1);
}

// Subscribes e; fn NULL: to be pulled.
static inline void mail_listen(struct mail_ear *e, const char *pattern, leat_message_fn fn,
                               leat_subscription_options o) {
    o.on_end = mail_ended;
    ok(leat_channel_subscribe(e->mq, pattern, fn, e, &o, &e->s));
}

static inline int mail_say(leat *mq, const char *channel, const char *text) {
    return leat_publish(mq, channel, text, strlen(text));
}

// Publishes 1 to n, as text. Returns  the sum of what the publishes gave.
static inline int mail_count(leat *mq, const char *channel, int first, int last) {
    int sum = 0;
    for (int i = first; i <= last; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        sum += mail_say(mq, channel, text);
    }
    return sum;
}

// Lets all that waits be delivered.
static inline void mail_settle(leat *mq, enum mail_kind kind) {
    if (kind == MAIL_THREADED)
        ok(leat_clock_advance(mq, 0));
    else
        while (leat_dispatch(mq, 0) > 0)
            continue;
}

// Gets all that waits by next.
static inline void mail_pull(struct mail_ear *e) {
    leat_message m;
    int rc;
    while ((rc = leat_subscription_next(e->s, 0, &m)) == 1) {
        mail_write(e, &m);
        ok(leat_message_release(e->mq, &m));
    }
    cr_assert(rc == 0 || rc == LEAT_EGONE, "%s", leat_errmsg());
}

static inline leat_subscription_stats mail_stats(const struct mail_ear *e) {
    leat_subscription_stats st;
    ok(leat_subscription_get_stats(e->s, &st, sizeof st));
    return st;
}

static inline pthread_t mail_start(void *(*fn)(void *), void *ctx) {
    pthread_t t;
    cr_assert_eq(pthread_create(&t, NULL, fn, ctx), 0);
    return t;
}

static inline void mail_join(pthread_t t) {
    cr_assert_eq(pthread_join(t, NULL), 0);
}

#endif
