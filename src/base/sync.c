/* SPDX-License-Identifier: MIT */
#include "base/sync.h"

#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <time.h>

// Measured: as many nanoseconds as two cores need for the steps of a few dozen messages.
enum { SYNC_WHILES = 8, SYNC_WHILE_NS = 5000 };

int lt_mutex_init(struct lt_mutex *mu, enum lt_rank rank) {
    mu->rank = (int)rank;
    return pthread_mutex_init(&mu->m, NULL) == 0 ? 0 : lt_fail_nomem();
}

void lt_mutex_fini(struct lt_mutex *mu) {
    (void)pthread_mutex_destroy(&mu->m);
}

#ifdef LT_DEBUG
// The mutexes that this thread holds, in the order in which it took them.
static _Thread_local const struct lt_mutex *sync_held[16];
static _Thread_local int sync_held_count;

void lt_rank_push(const struct lt_mutex *mu) {
    for (int i = 0; i < sync_held_count; i++)
        assert(sync_held[i]->rank < mu->rank); // lock order: a thread only climbs
    assert(sync_held_count < 16);
    sync_held[sync_held_count++] = mu;
}

void lt_rank_pop(const struct lt_mutex *mu) {
    for (int i = sync_held_count; i-- > 0;) {
        if (sync_held[i] != mu)
            continue;
        for (int k = i; k + 1 < sync_held_count; k++)
            sync_held[k] = sync_held[k + 1];
        sync_held_count--;
        return;
    }
    assert(false); // unlock of a mutex that is not held
}

bool lt_mutex_held(const struct lt_mutex *mu) {
    for (int i = 0; i < sync_held_count; i++)
        if (sync_held[i] == mu)
            return true;
    return false;
}
#endif

int lt_cond_init(struct lt_cond *c) {
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0)
        return lt_fail_nomem();
    int rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (rc == 0)
        rc = pthread_cond_init(&c->c, &attr);
    (void)pthread_condattr_destroy(&attr);
    return rc == 0 ? 0 : lt_fail_nomem();
}

void lt_cond_fini(struct lt_cond *c) {
    (void)pthread_cond_destroy(&c->c);
}

void lt_cond_wait(struct lt_cond *c, struct lt_mutex *mu) {
    lt_rank_pop(mu);
    (void)pthread_cond_wait(&c->c, &mu->m);
    lt_rank_push(mu);
}

bool lt_cond_wait_until(struct lt_cond *c, struct lt_mutex *mu, int64_t until_ns) {
    if (until_ns == INT64_MAX) {
        lt_cond_wait(c, mu);
        return true;
    }
    struct timespec ts = { until_ns / 1000000000, until_ns % 1000000000 };
    lt_rank_pop(mu);
    int rc = pthread_cond_timedwait(&c->c, &mu->m, &ts);
    lt_rank_push(mu);
    return rc != ETIMEDOUT;
}

void lt_cond_signal(struct lt_cond *c) {
    (void)pthread_cond_signal(&c->c);
}

void lt_cond_broadcast(struct lt_cond *c) {
    (void)pthread_cond_broadcast(&c->c);
}

int lt_thread_start(pthread_t *thread, void *(*fn)(void *arg), void *arg) {
    sigset_t all, old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old); // the thread has what its maker has
    int e = pthread_create(thread, NULL, fn, arg);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return e == 0 ? 0 : lt_fail(LEAT_ENOMEM, "no thread could be started: errno %d", e);
}

void lt_thread_join(pthread_t thread) {
    (void)pthread_join(thread, NULL);
}

int64_t lt_real_ns(void) {
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline void sync_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

void lt_lock_wait(struct lt_mutex *mu) {
    for (int i = 0; i < SYNC_WHILES; i++) {
        lt_linger(SYNC_WHILE_NS);
        if (pthread_mutex_trylock(&mu->m) == 0)
            return;
    }
    (void)pthread_mutex_lock(&mu->m);
}

void lt_linger(int64_t ns) {
    for (int64_t until = lt_real_ns() + ns; lt_real_ns() < until;)
        sync_pause();
}
