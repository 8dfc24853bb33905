/* SPDX-License-Identifier: MIT */
// stretch is an array that grows without moving: chunk k holds first << k elements, so that the
// chunk of an index is found by counting its leading zeros and an element's address never changes.
// For tables that are read without a lock while they grow (index entries, state words, slots).
//
// Threads: one writer at a time grows (its own lock sees to that). Readers call lt_stretch_at
// without a lock for any index that was published to them (a release store read by an acquire load)
// after the lt_stretch_reserve which covered it. This is no data race: a chunk pointer is written
// once, before any index inside it is published, and never again; growing writes other chunk
// pointers and n_chunks, and readers look at neither.
#ifndef LT_BASE_STRETCH_H
#define LT_BASE_STRETCH_H

#include "base/mem.h"

#include <stddef.h>
#include <stdint.h>

// 2^26 elements with first = 1, 2^32 with 64: more than a store has of the one kind or the other.
enum { LT_STRETCH_CHUNKS = 26 };

struct lt_stretch {
    size_t elem_size;
    uint32_t shift;    // first == 1 << shift
    uint32_t n_chunks; // the writer's; readers never look
    struct lt_mem *mem;
    unsigned char *chunk[LT_STRETCH_CHUNKS]; // written once each, see above
};

// lt_stretch_init makes s empty; it allocates nothing. first, a power of 2 up to 2^31, is how many
// elements the first chunk holds. mem must outlive s.
void lt_stretch_init(struct lt_stretch *s, struct lt_mem *mem, size_t elem_size, uint32_t first);

// lt_stretch_fini frees all elements. No reader may be left. Twice is harmless.
void lt_stretch_fini(struct lt_stretch *s);

// lt_stretch_reserve makes room for n elements in all; new elements are zeroed. It never shrinks.
// Returns: 0, LEAT_ENOMEM (nothing changed).
// Threads: the writer only.
int lt_stretch_reserve(struct lt_stretch *s, uint64_t n);

// lt_stretch_capacity returns for how many elements there is room now.
// Threads: the writer only.
static inline uint64_t lt_stretch_capacity(const struct lt_stretch *s) {
    return (((uint64_t)1 << s->n_chunks) - 1) << s->shift;
}

// lt_stretch_at returns the address of element i, which must have been reserved.
// Owns: s; the address stays the same until lt_stretch_fini.
static inline void *lt_stretch_at(const struct lt_stretch *s, uint64_t i) {
    uint64_t block = (i >> s->shift) + 1; // chunk k begins at block 1 << k
    uint32_t k = 63u - (uint32_t)__builtin_clzll(block);
    uint64_t begin = (((uint64_t)1 << k) - 1) << s->shift;
    return s->chunk[k] + (size_t)(i - begin) * s->elem_size;
}

#endif
