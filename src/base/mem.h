/* SPDX-License-Identifier: MIT */
// mem is the allocator seam: every byte that the library keeps comes through one struct lt_mem, so
// that a user can bring an allocator and a test can make the k-th allocation fail.
//
// The hook has realloc's shape: old NULL allocates, size 0 frees (its result is ignored), NULL
// means no room and leaves old as it was. What it returns is aligned as malloc's.
#ifndef LT_BASE_MEM_H
#define LT_BASE_MEM_H

#include "leat.h"

#include <stdatomic.h>
#include <stddef.h>

// struct lt_mem says where memory comes from. fn NULL = the C library. Zeroed is ready for use.
// Threads: as many as fn allows; fn and ctx are never written after they were set.
struct lt_mem {
    leat_alloc_fn fn;
    void *ctx;
    _Atomic int64_t deny; // so many allocations to come are refused, -1: all. Relaxed: a count
};

// lt_alloc gives size bytes with unknown content; size 0 gives one byte.
// Returns: NULL when there is no room.
void *lt_alloc(struct lt_mem *m, size_t size);

// lt_zalloc gives size zeroed bytes; size 0 gives one byte.
// Returns: NULL when there is no room.
void *lt_zalloc(struct lt_mem *m, size_t size);

// lt_resize makes old size bytes long (it may move); old NULL allocates; size 0 keeps one byte.
// Returns: NULL when there is no room: old is then still valid.
void *lt_resize(struct lt_mem *m, void *old, size_t size);

// lt_free gives p back. p NULL is fine.
void lt_free(struct lt_mem *m, void *p);

// lt_strdup_n copies n bytes and puts a NUL behind them. s may be NULL when n is 0.
// Returns: NULL when there is no room.
// Owns: the caller, until lt_free.
char *lt_strdup_n(struct lt_mem *m, const char *s, size_t n);

#endif
