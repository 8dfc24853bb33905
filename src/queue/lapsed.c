/* SPDX-License-Identifier: MIT */
#include "queue/lapsed.h"

#include "base/hash.h"

#include "leat.h"

void lt_lapsed_init(struct lt_lapsed *t, struct lt_mem *mem) {
    *t = (struct lt_lapsed){ .mem = mem };
}

void lt_lapsed_fini(struct lt_lapsed *t) {
    lt_free(t->mem, t->bucket);
    t->bucket = NULL;
    t->buckets = 0;
}

static struct lt_list *lapsed_bucket(const struct lt_lapsed *t, uint32_t partition,
                                     int64_t offset) {
    return &t->bucket[lt_mix64((uint64_t)offset ^ (uint64_t)partition << 48) & (t->buckets - 1)];
}

int lt_lapsed_reserve(struct lt_lapsed *t, uint32_t leases) {
    if (leases <= t->buckets)
        return 0;
    size_t n = t->buckets ? t->buckets : 64;
    while (n < leases)
        n *= 2;
    struct lt_lapsed bigger = { .mem = t->mem, .buckets = n, .count = t->count };
    bigger.bucket = lt_alloc(t->mem, n * sizeof *bigger.bucket);
    if (!bigger.bucket)
        return LEAT_ENOMEM;
    for (size_t i = 0; i < n; i++)
        lt_list_init(&bigger.bucket[i]);
    for (size_t i = 0; i < t->buckets; i++) {
        struct lt_node *node;
        while ((node = lt_list_first(&t->bucket[i]))) {
            struct lt_lease *lease = LT_CONTAINER(node, struct lt_lease, link);
            lt_list_remove(node);
            lt_list_push_back(lapsed_bucket(&bigger, lease->partition, lease->offset), node);
        }
    }
    lt_free(t->mem, t->bucket);
    *t = bigger;
    return 0;
}

void lt_lapsed_add(struct lt_lapsed *t, struct lt_lease *lease) {
    lt_list_push_back(lapsed_bucket(t, lease->partition, lease->offset), &lease->link);
    t->count++;
}

bool lt_lapsed_has(const struct lt_lease *lease) {
    return lt_node_linked(&lease->link);
}

bool lt_lapsed_remove(struct lt_lapsed *t, struct lt_lease *lease) {
    if (!lt_lapsed_has(lease))
        return false;
    lt_list_remove(&lease->link);
    t->count--;
    return true;
}

struct lt_lease *lt_lapsed_find(const struct lt_lapsed *t, uint32_t partition, int64_t offset) {
    if (t->count == 0)
        return NULL;
    const struct lt_list *l = lapsed_bucket(t, partition, offset);
    for (struct lt_node *n = lt_list_first(l); n; n = lt_list_next(l, n)) {
        struct lt_lease *lease = LT_CONTAINER(n, struct lt_lease, link);
        if (lease->partition == partition && lease->offset == offset)
            return lease;
    }
    return NULL;
}
