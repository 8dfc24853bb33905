/* SPDX-License-Identifier: MIT */
// bell: how news travels upward. The log rings a topic's bell, holding none of its locks, when
// records arrive that somebody asked to hear of; it knows nothing of who listens.
#ifndef LT_BASE_BELL_H
#define LT_BASE_BELL_H

#include "base/list.h"
#include "base/sync.h"

struct lt_ear {
    struct lt_node node; // guarded by the bell's lock
    // Runs on the ringing thread with the bell's lock held: may wake somebody, nothing more.
    void (*hear)(struct lt_ear *ear);
};

struct lt_bell {
    struct lt_mutex lock; // guards ears
    struct lt_list ears;
};

static inline int lt_bell_init(struct lt_bell *b) {
    lt_list_init(&b->ears);
    return lt_mutex_init(&b->lock, LT_RANK_BELL);
}

static inline void lt_bell_fini(struct lt_bell *b) {
    lt_mutex_fini(&b->lock);
}

static inline void lt_bell_add(struct lt_bell *b, struct lt_ear *ear) {
    lt_lock(&b->lock);
    lt_list_push_back(&b->ears, &ear->node);
    lt_unlock(&b->lock);
}

// lt_bell_remove: on return hear is not running and will not run for this bell.
static inline void lt_bell_remove(struct lt_bell *b, struct lt_ear *ear) {
    lt_lock(&b->lock);
    lt_list_remove(&ear->node);
    lt_unlock(&b->lock);
}

static inline void lt_bell_ring(struct lt_bell *b) {
    lt_lock(&b->lock);
    for (struct lt_node *n = lt_list_first(&b->ears); n; n = lt_list_next(&b->ears, n)) {
        struct lt_ear *ear = LT_CONTAINER(n, struct lt_ear, node);
        ear->hear(ear);
    }
    lt_unlock(&b->lock);
}

#endif
