/* SPDX-License-Identifier: MIT */
// Reclamation of immutable snapshots; grace.h has the argument why it is safe. Here is how it gets
// on without a lock: retired objects go to a stack that is only pushed to and taken whole (so there
// is no ABA), and whoever raises `polls` from 0 is the one poller. Others who come meanwhile raise
// it further and go; the poller sees that and looks again, so no last reader's leave is overlooked.
#include "base/grace.h"

#include <assert.h>

enum { GRACE_ROUNDS_MAX = 4 }; // arbitrary: how often a poller looks again for others
#define GRACE_ENTRY (UINT64_C(1) << LT_GRACE_BITS)

// Numbers threads as they come, to spread them over the stripes. Relaxed: any number will do.
static atomic_uint grace_threads;
static _Thread_local unsigned grace_thread; // number + 1; 0 = has none yet

void lt_grace_init(struct lt_grace *g) {
    atomic_init(&g->phase, 0);
    atomic_init(&g->owed, 0);
    atomic_init(&g->polls, 0);
    atomic_init(&g->incoming, NULL);
    g->batch = NULL;
    g->flipped = false;
    for (int i = 0; i < LT_GRACE_STRIPES; i++)
        for (int phase = 0; phase < 2; phase++)
            atomic_init(&g->stripe[i].readers[phase], 0);
}

uint32_t lt_grace_enter(struct lt_grace *g) {
    if (!grace_thread)
        grace_thread = atomic_fetch_add_explicit(&grace_threads, 1, memory_order_relaxed) + 1;
    uint32_t stripe = grace_thread % LT_GRACE_STRIPES;
    uint32_t phase = atomic_load(&g->phase);
    uint64_t was = atomic_fetch_add(&g->stripe[stripe].readers[phase], GRACE_ENTRY + 1);
    // Whoever enters there before this section leaves finds it at 1 or more.
    return (stripe * 2 + phase) | (was % GRACE_ENTRY == 0 ? LT_GRACE_ALONE : 0u);
}

void lt_grace_leave(struct lt_grace *g, uint32_t token) {
    token &= ~(uint32_t)LT_GRACE_ALONE;
    // Only who brings a counter to 0 can have ended a batch's wait. If `owed` is still 0 here, then
    // retire raises it later and polls itself.
    uint64_t was = atomic_fetch_sub(&g->stripe[token / 2].readers[token % 2], 1);
    if (was % GRACE_ENTRY == 1 && atomic_load(&g->owed) != 0)
        lt_grace_poll(g);
}

uint64_t lt_grace_entered(const struct lt_grace *g) {
    uint64_t sum = 0;
    for (int i = 0; i < LT_GRACE_STRIPES; i++)
        for (int phase = 0; phase < 2; phase++)
            sum += atomic_load_explicit(&g->stripe[i].readers[phase], memory_order_relaxed) /
                   GRACE_ENTRY;
    return sum;
}

void lt_grace_retire(struct lt_grace *g, struct lt_retired *r,
                     void (*free_fn)(struct lt_retired *r)) {
    r->free_fn = free_fn;
    atomic_fetch_add(&g->owed, 1);
    r->next = atomic_load(&g->incoming);
    while (!atomic_compare_exchange_weak(&g->incoming, &r->next, r)) {
    }
    lt_grace_poll(g);
}

// grace_idle says whether each counter of phase was seen at 0.
static bool grace_idle(struct lt_grace *g, unsigned phase) {
    for (int i = 0; i < LT_GRACE_STRIPES; i++)
        if (atomic_load(&g->stripe[i].readers[phase]) % GRACE_ENTRY != 0)
            return false;
    return true;
}

// grace_free_batch frees the poller's batch. A free_fn that polls only raises `polls`.
static void grace_free_batch(struct lt_grace *g) {
    struct lt_retired *r = g->batch;
    g->batch = NULL;
    while (r) {
        struct lt_retired *next = r->next;
        r->free_fn(r);
        atomic_fetch_sub(&g->owed, 1);
        r = next;
    }
}

// grace_advance takes the batch as far as the readers let it; with none waiting, the next one.
// Runs on: the poller.
static void grace_advance(struct lt_grace *g) {
    if (!g->batch) {
        g->batch = atomic_exchange(&g->incoming, NULL);
        g->flipped = false;
    }
    if (!g->batch)
        return;
    unsigned phase = atomic_load(&g->phase); // only the poller changes it
    if (!g->flipped) {
        if (!grace_idle(g, 1 - phase))
            return; // (a) stragglers; the last of them polls
        phase = 1 - phase;
        atomic_store(&g->phase, phase); // (b)
        g->flipped = true;
    }
    if (!grace_idle(g, 1 - phase))
        return; // (c) the last of them polls
    grace_free_batch(g);
    // What came meanwhile gets its own round: its readers may have entered after this batch's.
    if (atomic_load(&g->incoming))
        atomic_fetch_add(&g->polls, 1);
}

void lt_grace_poll(struct lt_grace *g) {
    if (atomic_fetch_add(&g->polls, 1) != 0)
        return;
    unsigned seen = 1;
    for (int round = 0; round < GRACE_ROUNDS_MAX; round++) {
        grace_advance(g);
        if (atomic_compare_exchange_strong(&g->polls, &seen, 0))
            return;
        // seen is now what others have raised it to
    }
    // Under this much traffic others poll soon; this thread, which may be a publisher, goes on.
    atomic_store(&g->polls, 0);
}

void lt_grace_drain(struct lt_grace *g) {
    assert(grace_idle(g, 0) && grace_idle(g, 1));
    atomic_fetch_add(&g->polls, 1); // be the poller: a free_fn that retires does not nest
    if (!g->batch)
        g->batch = atomic_exchange(&g->incoming, NULL);
    while (g->batch) {
        grace_free_batch(g);
        g->batch = atomic_exchange(&g->incoming, NULL);
    }
    atomic_store(&g->polls, 0);
}
