/* SPDX-License-Identifier: MIT */
// The allocator seam, see mem.h. Sizes of 0 are rounded up to 1 here, so that NULL always means
// "no room" and the hook sees size 0 only for a free.
#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool mem_denied(struct lt_mem *m) {
    int64_t n = atomic_load_explicit(&m->deny, memory_order_relaxed);
    while (n > 0 && !atomic_compare_exchange_weak_explicit(
                        &m->deny, &n, n - 1, memory_order_relaxed, memory_order_relaxed))
        ;
    return n != 0;
}

void *lt_alloc(struct lt_mem *m, size_t size) {
    size_t want = size ? size : 1;
    if (mem_denied(m))
        return NULL;
    return m->fn ? m->fn(m->ctx, NULL, want) : malloc(want);
}

void *lt_zalloc(struct lt_mem *m, size_t size) {
    size_t want = size ? size : 1;
    if (mem_denied(m))
        return NULL;
    if (!m->fn)
        return calloc(1, want); // fresh pages are zero already: calloc does not touch them
    void *p = m->fn(m->ctx, NULL, want);
    if (p)
        memset(p, 0, want);
    return p;
}

void *lt_resize(struct lt_mem *m, void *old, size_t size) {
    size_t want = size ? size : 1;
    if (mem_denied(m))
        return NULL;
    return m->fn ? m->fn(m->ctx, old, want) : realloc(old, want);
}

void lt_free(struct lt_mem *m, void *p) {
    if (!p)
        return;
    if (m->fn)
        m->fn(m->ctx, p, 0);
    else
        free(p);
}

char *lt_strdup_n(struct lt_mem *m, const char *s, size_t n) {
    if (n == SIZE_MAX)
        return NULL;
    char *copy = lt_alloc(m, n + 1);
    if (!copy)
        return NULL;
    if (n)
        memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}
