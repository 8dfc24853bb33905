/* SPDX-License-Identifier: MIT */
// map is a hash table from a byte string (copied) to a pointer. Chained: one allocation per entry,
// the buckets double when there are as many entries as buckets, and never shrink.
//
// Invariants: n_buckets is 0 or a power of 2; an entry hangs at bucket hash & (n_buckets - 1); a
// key occurs once; no value is NULL.
// Threads: none of this locks; the owner's lock guards the map.
#ifndef LT_BASE_MAP_H
#define LT_BASE_MAP_H

#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lt_map_entry;

struct lt_map {
    struct lt_map_entry **bucket;
    size_t n_buckets, count;
    uint64_t seed;
    struct lt_mem *mem;
};

// struct lt_map_cursor is a place in a walk; zeroed it stands before the first entry.
struct lt_map_cursor {
    size_t bucket;             // next bucket to look at
    struct lt_map_entry *next; // next entry in the bucket before it, or NULL
};

// lt_map_init makes m empty; it allocates nothing. seed should be hard to guess where keys come
// from outside (see lt_hash_bytes). mem must outlive m.
void lt_map_init(struct lt_map *m, struct lt_mem *mem, uint64_t seed);

// lt_map_fini frees the entries and the copies of the keys; the values stay the caller's. Twice is
// harmless.
void lt_map_fini(struct lt_map *m);

// lt_map_get returns the value of key, NULL when there is none.
void *lt_map_get(const struct lt_map *m, const void *key, size_t key_len);

// lt_map_put adds key with value, which must not be NULL.
// Returns: 0, LEAT_ENOMEM or LEAT_EEXIST (the key is there; in both cases nothing changed).
// Owns: m keeps a copy of the key; the value stays the caller's.
int lt_map_put(struct lt_map *m, const void *key, size_t key_len, void *value);

// lt_map_remove takes key out; it allocates nothing.
// Returns: the value it had, NULL when there was none.
void *lt_map_remove(struct lt_map *m, const void *key, size_t key_len);

// lt_map_count returns the number of entries.
static inline size_t lt_map_count(const struct lt_map *m) {
    return m->count;
}

// lt_map_next steps to the next entry, in no particular order, and tells its key, key length and
// value; each of the three may be NULL. The key (a NUL follows it, not counted) is valid until the
// entry is removed. While walking, the entry just told may be removed; any other change ends the
// walk's meaning.
// Returns: false behind the last entry.
bool lt_map_next(const struct lt_map *m, struct lt_map_cursor *cursor, const void **key,
                 size_t *key_len, void **value);

#endif
