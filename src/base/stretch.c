/* SPDX-License-Identifier: MIT */
// The array that grows without moving, see stretch.h.
#include "base/stretch.h"

#include "base/bytes.h"

void lt_stretch_init(struct lt_stretch *s, struct lt_mem *mem, size_t elem_size, uint32_t first) {
    *s = (struct lt_stretch){ .elem_size = elem_size, .mem = mem };
    s->shift = (uint32_t)__builtin_ctz(first);
}

// stretch_shrink frees chunks from the end until n_chunks are left.
static void stretch_shrink(struct lt_stretch *s, uint32_t n_chunks) {
    while (s->n_chunks > n_chunks) {
        s->n_chunks--;
        lt_free(s->mem, s->chunk[s->n_chunks]);
        s->chunk[s->n_chunks] = NULL;
    }
}

void lt_stretch_fini(struct lt_stretch *s) {
    stretch_shrink(s, 0);
}

// stretch_add_chunk adds the next chunk, zeroed.
static int stretch_add_chunk(struct lt_stretch *s) {
    uint32_t k = s->n_chunks;
    uint64_t bytes;
    if (k == LT_STRETCH_CHUNKS || s->shift + k > 62)
        return LEAT_ENOMEM;
    if (!lt_mul_u64((uint64_t)1 << (s->shift + k), s->elem_size, &bytes) || bytes > SIZE_MAX / 2)
        return LEAT_ENOMEM;
    unsigned char *p = lt_zalloc(s->mem, (size_t)bytes);
    if (!p)
        return LEAT_ENOMEM;
    s->chunk[k] = p;
    s->n_chunks = k + 1;
    return 0;
}

int lt_stretch_reserve(struct lt_stretch *s, uint64_t n) {
    uint32_t before = s->n_chunks;
    while (lt_stretch_capacity(s) < n) {
        int rc = stretch_add_chunk(s);
        if (rc < 0) {
            stretch_shrink(s, before); // these were never published: no reader knows them
            return rc;
        }
    }
    return 0;
}
