/* SPDX-License-Identifier: MIT */
// sync: mutexes with a rank, and conditions on the monotonic clock. All of leat's blocking goes
// through here, so that a simulator can take its place.
//
// Lock order: a thread only climbs. It may take a mutex only if its rank is higher than that of
// every mutex it holds; LT_DEBUG builds assert it. No lock is held across a user's callback or a
// sync to disk.
#ifndef LT_BASE_SYNC_H
#define LT_BASE_SYNC_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#if defined(__has_include)
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define LT_ALONE __libc_single_threaded
#endif
#endif
#ifndef LT_ALONE
#define LT_ALONE 0
#endif

enum lt_rank {
    LT_RANK_ADMIN = 1, // one at a time: create and delete topics and queues
    LT_RANK_TABLE,     // name tables of topics, groups and queues
    LT_RANK_GROUP,     // a consumer group: members and owners
    LT_RANK_QUEUE,     // one queue: windows, leases, words
    LT_RANK_PRODUCERS, // which producers are open
    LT_RANK_PRODUCER,  // what a producer has accepted and not told the end of
    LT_RANK_TOLD,      // what of it is to be told, and what was
    LT_RANK_DEDUP,     // which ids a topic remembers
    LT_RANK_PARTITION, // appends and the waiters' register of one partition
    LT_RANK_MANIFEST,  // the end of the manifest
    LT_RANK_RECEIPTS,  // which receipt generations were given out
    LT_RANK_SLOTS,     // which slots are taken
    LT_RANK_CHANNELS,  // who subscribes
    LT_RANK_MAILBOX,   // what waits for one subscription
    LT_RANK_BELL,      // who hears of news
    LT_RANK_WORKERS,   // what workers have to do, and who does it
    LT_RANK_LINE,      // blocked receivers in order of arrival
    LT_RANK_FUTURE,    // which futures are done
    LT_RANK_COURIER,   // what is to be told
    LT_RANK_DUE,       // the timer heap
    LT_RANK_CLOCK,     // blocked calls and manual time
    LT_RANK_PINS,      // tokens of views
    LT_RANK_PIN_SLOTS, // how many there may be
    LT_RANK_CHILDREN,  // open handles
    LT_RANK_FILES,     // what a crashable store keeps of its files
    LT_RANK_LEAF       // takes nothing further
};

struct lt_mutex {
    pthread_mutex_t m;
    int rank;
};

// Returns  0, or LEAT_ENOMEM when the system has no more of them.
int lt_mutex_init(struct lt_mutex *mu, enum lt_rank rank);
void lt_mutex_fini(struct lt_mutex *mu);

#ifdef LT_DEBUG
void lt_rank_push(const struct lt_mutex *mu);
void lt_rank_pop(const struct lt_mutex *mu);
bool lt_mutex_held(const struct lt_mutex *mu);
#else
static inline void lt_rank_push(const struct lt_mutex *mu) {
    (void)mu;
}
static inline void lt_rank_pop(const struct lt_mutex *mu) {
    (void)mu;
}
#endif

static inline void lt_lock(struct lt_mutex *mu) {
    lt_rank_push(mu);
    (void)pthread_mutex_lock(&mu->m); // fails only on misuse, which LT_DEBUG finds
}

// lt_lock_busy is lt_lock for a lock that threads take for some nanoseconds, again and again. Who
// finds it taken stays away from its line for a while, so that the holder gets on at the speed of
// one, and sleeps only when it is taken still after some such whiles.
void lt_lock_wait(struct lt_mutex *mu);
static inline void lt_lock_busy(struct lt_mutex *mu) {
    if (LT_ALONE) { // then this is cheaper than a try
        lt_lock(mu);
        return;
    }
    lt_rank_push(mu);
    if (pthread_mutex_trylock(&mu->m) != 0)
        lt_lock_wait(mu);
}

// lt_refs_more and lt_refs_less count references, without a locked step while the process has one
// thread. The latter returns how many are left: who brings it to 0 sees all that the others did
// (acq_rel).
static inline void lt_refs_more(_Atomic int *refs) {
    if (LT_ALONE)
        atomic_store_explicit(refs, atomic_load_explicit(refs, memory_order_relaxed) + 1,
                              memory_order_relaxed);
    else
        atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
}

static inline int lt_refs_less(_Atomic int *refs) {
    if (!LT_ALONE)
        return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) - 1;
    int left = atomic_load_explicit(refs, memory_order_relaxed) - 1;
    atomic_store_explicit(refs, left, memory_order_relaxed);
    return left;
}

// lt_try_lock is for a forked child: nobody who could hold mu is there, nor any who would wait.
static inline bool lt_try_lock(struct lt_mutex *mu) {
    return pthread_mutex_trylock(&mu->m) == 0;
}

// lt_lock_if_free takes mu unless somebody has it.
static inline bool lt_lock_if_free(struct lt_mutex *mu) {
    if (!lt_try_lock(mu))
        return false;
    lt_rank_push(mu);
    return true;
}

static inline void lt_unlock(struct lt_mutex *mu) {
    (void)pthread_mutex_unlock(&mu->m);
    lt_rank_pop(mu);
}

struct lt_cond {
    pthread_cond_t c;
};

int lt_cond_init(struct lt_cond *c);
void lt_cond_fini(struct lt_cond *c);
void lt_cond_wait(struct lt_cond *c, struct lt_mutex *mu);
// lt_cond_wait_until waits until a signal or until CLOCK_MONOTONIC reads `until_ns` (INT64_MAX: no
// bound). It may wake for no reason: look at the state, in a loop.
// Returns  false when the time has come.
bool lt_cond_wait_until(struct lt_cond *c, struct lt_mutex *mu, int64_t until_ns);
void lt_cond_signal(struct lt_cond *c);
void lt_cond_broadcast(struct lt_cond *c);

// lt_thread_start starts a thread that takes no signal of the process.
// Returns  LEAT_ENOMEM: the system has no more of them.
int lt_thread_start(pthread_t *thread, void *(*fn)(void *arg), void *arg);
void lt_thread_join(pthread_t thread);

// lt_real_ns reads CLOCK_MONOTONIC, for bounds in real time beside a manual clock.
int64_t lt_real_ns(void);

// lt_linger lets ns of real time pass without sleeping and without a look at anything that others
// write.
void lt_linger(int64_t ns);

#endif
