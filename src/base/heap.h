/* SPDX-License-Identifier: MIT */
// heap is an intrusive binary heap: the node lives inside the thing that is ordered and knows where
// it stands, so that any node can be removed or moved in O(log n). Leases by deadline, timers, and
// whatever else asks "which is next".
//
// Invariants: v[i].at == i + 1 for each i < n; no node is less than its parent; n <= cap.
// A node of zeroes is in no heap.
// Threads: none of this locks; the owner's lock guards the heap and all its nodes.
#ifndef LT_BASE_HEAP_H
#define LT_BASE_HEAP_H

#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>

struct lt_heap_node {
    size_t at; // place in the heap + 1; 0 = in no heap
};

// lt_heap_less_fn says whether a comes before b. It must be a strict total order: equal keys are
// told apart by something that does not change (an id), so that the order is the same in each run.
typedef bool (*lt_heap_less_fn)(const struct lt_heap_node *a, const struct lt_heap_node *b);

struct lt_heap {
    struct lt_heap_node **v;
    size_t n, cap;
    lt_heap_less_fn less;
    struct lt_mem *mem;
};

// lt_heap_init makes h empty; it allocates nothing. mem must outlive h.
void lt_heap_init(struct lt_heap *h, struct lt_mem *mem, lt_heap_less_fn less);

// lt_heap_fini frees what h allocated. Nodes still in it belong to the caller, and lt_heap_has says
// of them that they are in no heap. Twice is harmless.
void lt_heap_fini(struct lt_heap *h);

// lt_heap_reserve makes room for n nodes in all, so that no push up to there can fail.
// Returns: 0, LEAT_ENOMEM (nothing changed).
int lt_heap_reserve(struct lt_heap *h, size_t n);

// lt_heap_push adds node, which must be in no heap.
// Returns: 0, LEAT_ENOMEM (nothing changed).
int lt_heap_push(struct lt_heap *h, struct lt_heap_node *node);

// lt_heap_top returns the least node, NULL when h is empty.
static inline struct lt_heap_node *lt_heap_top(const struct lt_heap *h) {
    return h->n ? h->v[0] : NULL;
}

// lt_heap_has says whether node is in a heap.
static inline bool lt_heap_has(const struct lt_heap_node *node) {
    return node->at != 0;
}

// lt_heap_remove takes node out of h, wherever it stands; if it is in no heap, nothing happens.
// It allocates nothing.
void lt_heap_remove(struct lt_heap *h, struct lt_heap_node *node);

// lt_heap_update puts node, whose key has changed, where it now belongs; if it is in no heap,
// nothing happens. It allocates nothing.
void lt_heap_update(struct lt_heap *h, struct lt_heap_node *node);

#endif
