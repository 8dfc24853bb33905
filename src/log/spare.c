/* SPDX-License-Identifier: MIT */
#include "log/spare.h"

#include "log/topic.h"

#include <string.h>

int lt_spares_init(struct lt_spares *spares) {
    spares->count = 0;
    return lt_mutex_init(&spares->lock, LT_RANK_LEAF);
}

void lt_spares_fini(leat *mq) {
    if (!lt_forked(mq)) // a thread that this process does not have may hold the lock
        (void)lt_spares_drop(mq);
    lt_mutex_fini(&mq->log->spares.lock);
}

static struct lt_spare spare_remove(struct lt_spares *spares, size_t i) {
    struct lt_spare spare = spares->spare[i];
    spares->count--;
    memmove(&spares->spare[i], &spares->spare[i + 1], (spares->count - i) * sizeof spare);
    return spare;
}

// What is to be given back is no longer counted before others find it gone from the spares: they
// could not get it by giving it back themselves. Locks: the spares'.
static void spare_uncount(leat *mq, const struct lt_spare *spare) {
    atomic_fetch_sub_explicit(&mq->memory_bytes, (int64_t)spare->allocated, memory_order_relaxed);
}

static void spare_unmap(leat *mq, const struct lt_spare *spare) {
    if (spare->map)
        (void)mq->os->unmap(mq->os, spare->map, spare->size);
}

static int64_t spare_sum(const struct lt_spares *spares) {
    int64_t sum = 0;
    for (size_t i = 0; i < spares->count; i++)
        sum += (int64_t)spares->spare[i].allocated;
    return sum;
}

void lt_spare_keep(struct lt_segment *s) {
    struct lt_spares *spares = &s->mq->log->spares;
    struct lt_spare old[LT_SPARES] = { { 0 } };
    if (!s->map || s->allocated > (uint64_t)LT_SPARE_BYTES || lt_forked(s->mq))
        return;
    lt_lock(&spares->lock);
    for (size_t i = 0;
         spares->count == LT_SPARES || spare_sum(spares) + (int64_t)s->allocated > LT_SPARE_BYTES;
         i++) {
        old[i] = spare_remove(spares, 0); // of topics that are perhaps idle by now
        spare_uncount(s->mq, &old[i]);
    }
    spares->spare[spares->count++] = (struct lt_spare){
        .map = s->map,
        .size = s->map_size,
        .allocated = s->allocated,
        .populated = s->populated,
        .large = s->large,
    };
    lt_unlock(&spares->lock);
    s->map = NULL;
    s->allocated = s->populated = 0;
    for (size_t i = 0; i < LT_SPARES; i++)
        spare_unmap(s->mq, &old[i]);
}

bool lt_spare_use(struct lt_segment *s, uint64_t used) {
    struct lt_spares *spares = &s->mq->log->spares;
    struct lt_spare spare = { 0 };
    lt_lock(&spares->lock);
    for (size_t i = spares->count; i > 0 && !spare.map; i--)
        if (spares->spare[i - 1].size == s->map_size && spares->spare[i - 1].allocated / 2 <= used)
            spare = spare_remove(spares, i - 1); // the newest: most of it is in a cache
    lt_unlock(&spares->lock);
    if (!spare.map)
        return false;
    s->map = spare.map;
    s->allocated = spare.allocated;
    s->populated = spare.populated;
    s->large = spare.large;
    return true;
}

bool lt_spares_drop(leat *mq) {
    struct lt_spares *spares = &mq->log->spares;
    struct lt_spare old[LT_SPARES];
    lt_lock(&spares->lock);
    size_t n = spares->count;
    memcpy(old, spares->spare, n * sizeof old[0]);
    spares->count = 0;
    for (size_t i = 0; i < n; i++)
        spare_uncount(mq, &old[i]);
    lt_unlock(&spares->lock);
    for (size_t i = 0; i < n; i++)
        spare_unmap(mq, &old[i]);
    return n > 0;
}
