/* SPDX-License-Identifier: MIT */
// failing_mem is an allocator hook that counts what is out and fails the k-th allocation, so that
// a test can walk k over everything that a call allocates.
#ifndef LEAT_TESTS_FAILING_MEM_H
#define LEAT_TESTS_FAILING_MEM_H

#include "base/mem.h"

#include <stdbool.h>
#include <stdlib.h>

struct failing_mem {
    struct lt_mem mem; // give &f.mem to what is tested
    long asked;        // allocations and resizes so far
    long fail_at;      // the one that fails, counted from 1; 0 = none
    bool then_all;     // and all behind it
    long out;          // given and not yet freed
};

static inline void *failing_mem_fn(void *ctx, void *old, size_t size) {
    struct failing_mem *f = ctx;
    if (size == 0) {
        f->out -= old ? 1 : 0;
        free(old);
        return NULL;
    }
    f->asked++;
    if (f->fail_at && (f->asked == f->fail_at || (f->then_all && f->asked > f->fail_at)))
        return NULL;
    void *p = realloc(old, size);
    if (p && !old)
        f->out++;
    return p;
}

// failing_mem_init makes f fail its fail_at-th allocation (0: none).
static inline void failing_mem_init(struct failing_mem *f, long fail_at) {
    *f = (struct failing_mem){ .fail_at = fail_at };
    f->mem.fn = failing_mem_fn;
    f->mem.ctx = f;
}

#endif
