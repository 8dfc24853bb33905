/* SPDX-License-Identifier: MIT */
// The intrusive binary heap, see heap.h. Children of i are 2i + 1 and 2i + 2. Sifting moves a hole
// and stores the node once at the end, so that each step costs one store of a neighbour.
#include "base/heap.h"

#include <stdint.h>

enum { HEAP_CAP_MIN = 16 }; // arbitrary: two cache lines of pointers

void lt_heap_init(struct lt_heap *h, struct lt_mem *mem, lt_heap_less_fn less) {
    *h = (struct lt_heap){ .less = less, .mem = mem };
}

void lt_heap_fini(struct lt_heap *h) {
    for (size_t i = 0; i < h->n; i++)
        h->v[i]->at = 0;
    lt_free(h->mem, h->v);
    h->v = NULL;
    h->n = 0;
    h->cap = 0;
}

int lt_heap_reserve(struct lt_heap *h, size_t n) {
    if (n <= h->cap)
        return 0;
    size_t limit = SIZE_MAX / sizeof(struct lt_heap_node *);
    if (n > limit)
        return LEAT_ENOMEM;
    size_t cap = h->cap > limit / 2 ? limit : h->cap * 2; // doubling keeps a push O(1) on average
    if (cap < HEAP_CAP_MIN)
        cap = HEAP_CAP_MIN;
    if (cap < n)
        cap = n;
    struct lt_heap_node **v = lt_resize(h->mem, h->v, cap * sizeof(struct lt_heap_node *));
    if (!v)
        return LEAT_ENOMEM;
    h->v = v;
    h->cap = cap;
    return 0;
}

static void heap_place(struct lt_heap *h, struct lt_heap_node *node, size_t i) {
    h->v[i] = node;
    node->at = i + 1;
}

// heap_sift_up puts node into the hole at i or above.
static void heap_sift_up(struct lt_heap *h, struct lt_heap_node *node, size_t i) {
    while (i > 0) {
        size_t parent = (i - 1) / 2;
        if (!h->less(node, h->v[parent]))
            break;
        heap_place(h, h->v[parent], i);
        i = parent;
    }
    heap_place(h, node, i);
}

// heap_sift_down puts node into the hole at i or below.
static void heap_sift_down(struct lt_heap *h, struct lt_heap_node *node, size_t i) {
    while (i < h->n / 2) { // i has a left child
        size_t child = 2 * i + 1;
        if (child + 1 < h->n && h->less(h->v[child + 1], h->v[child]))
            child++;
        if (!h->less(h->v[child], node))
            break;
        heap_place(h, h->v[child], i);
        i = child;
    }
    heap_place(h, node, i);
}

// heap_sift puts node into the hole at i, or up or down from there.
static void heap_sift(struct lt_heap *h, struct lt_heap_node *node, size_t i) {
    if (i > 0 && h->less(node, h->v[(i - 1) / 2]))
        heap_sift_up(h, node, i);
    else
        heap_sift_down(h, node, i);
}

int lt_heap_push(struct lt_heap *h, struct lt_heap_node *node) {
    int rc = lt_heap_reserve(h, h->n + 1);
    if (rc < 0)
        return rc;
    heap_sift_up(h, node, h->n++);
    return 0;
}

void lt_heap_remove(struct lt_heap *h, struct lt_heap_node *node) {
    if (!lt_heap_has(node))
        return;
    size_t i = node->at - 1;
    struct lt_heap_node *last = h->v[--h->n];
    node->at = 0;
    if (last != node)
        heap_sift(h, last, i);
}

void lt_heap_update(struct lt_heap *h, struct lt_heap_node *node) {
    if (lt_heap_has(node))
        heap_sift(h, node, node->at - 1);
}
