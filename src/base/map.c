/* SPDX-License-Identifier: MIT */
// The hash table, see map.h. The hash is kept in the entry: growing does not hash again, and a
// chain is walked without touching keys that cannot match.
#include "base/map.h"

#include "base/bytes.h"
#include "base/hash.h"

#include <string.h>

struct lt_map_entry {
    struct lt_map_entry *next;
    uint64_t hash;
    void *value;
    size_t key_len;
    char key[]; // key_len bytes and a NUL
};

enum { MAP_BUCKETS_MIN = 16 }; // arbitrary: two cache lines of pointers

void lt_map_init(struct lt_map *m, struct lt_mem *mem, uint64_t seed) {
    *m = (struct lt_map){ .seed = seed, .mem = mem };
}

void lt_map_fini(struct lt_map *m) {
    for (size_t i = 0; i < m->n_buckets; i++)
        for (struct lt_map_entry *e = m->bucket[i], *next; e; e = next) {
            next = e->next;
            lt_free(m->mem, e);
        }
    lt_free(m->mem, m->bucket);
    lt_map_init(m, m->mem, m->seed);
}

// map_find returns the link that points at the key's entry, or the NULL at the end of its chain.
static struct lt_map_entry **map_find(const struct lt_map *m, uint64_t hash, const void *key,
                                      size_t key_len) {
    struct lt_map_entry **link = &m->bucket[hash & (m->n_buckets - 1)];
    for (; *link; link = &(*link)->next) {
        const struct lt_map_entry *e = *link;
        if (e->hash == hash && e->key_len == key_len &&
            (key_len == 0 || memcmp(e->key, key, key_len) == 0))
            break;
    }
    return link;
}

void *lt_map_get(const struct lt_map *m, const void *key, size_t key_len) {
    if (m->count == 0)
        return NULL;
    struct lt_map_entry *e = *map_find(m, lt_hash_bytes(key, key_len, m->seed), key, key_len);
    return e ? e->value : NULL;
}

static void map_hang(struct lt_map *m, struct lt_map_entry *e) {
    struct lt_map_entry **head = &m->bucket[e->hash & (m->n_buckets - 1)];
    e->next = *head;
    *head = e;
}

// map_grow doubles the buckets and hangs every entry anew.
static int map_grow(struct lt_map *m) {
    size_t bytes, n = MAP_BUCKETS_MIN;
    if (m->n_buckets && !lt_mul_size(m->n_buckets, 2, &n))
        return LEAT_ENOMEM;
    if (!lt_mul_size(n, sizeof(struct lt_map_entry *), &bytes))
        return LEAT_ENOMEM;
    struct lt_map_entry **bucket = lt_zalloc(m->mem, bytes);
    if (!bucket)
        return LEAT_ENOMEM;
    struct lt_map old = *m;
    m->bucket = bucket;
    m->n_buckets = n;
    for (size_t i = 0; i < old.n_buckets; i++)
        for (struct lt_map_entry *e = old.bucket[i], *next; e; e = next) {
            next = e->next;
            map_hang(m, e);
        }
    lt_free(m->mem, old.bucket);
    return 0;
}

// map_entry makes an entry that hangs nowhere yet.
static struct lt_map_entry *map_entry(struct lt_map *m, const void *key, size_t key_len) {
    size_t bytes;
    if (!lt_add_size(sizeof(struct lt_map_entry) + 1, key_len, &bytes))
        return NULL;
    struct lt_map_entry *e = lt_alloc(m->mem, bytes);
    if (!e)
        return NULL;
    e->key_len = key_len;
    if (key_len)
        memcpy(e->key, key, key_len);
    e->key[key_len] = '\0';
    return e;
}

int lt_map_put(struct lt_map *m, const void *key, size_t key_len, void *value) {
    uint64_t hash = lt_hash_bytes(key, key_len, m->seed);
    if (m->count && *map_find(m, hash, key, key_len))
        return LEAT_EEXIST;
    struct lt_map_entry *e = map_entry(m, key, key_len);
    if (!e)
        return LEAT_ENOMEM;
    e->hash = hash;
    e->value = value;
    if (m->count == m->n_buckets && map_grow(m) < 0) {
        lt_free(m->mem, e);
        return LEAT_ENOMEM;
    }
    map_hang(m, e);
    m->count++;
    return 0;
}

void *lt_map_remove(struct lt_map *m, const void *key, size_t key_len) {
    if (m->count == 0)
        return NULL;
    struct lt_map_entry **link = map_find(m, lt_hash_bytes(key, key_len, m->seed), key, key_len);
    struct lt_map_entry *e = *link;
    if (!e)
        return NULL;
    void *value = e->value;
    *link = e->next;
    lt_free(m->mem, e);
    m->count--;
    return value;
}

bool lt_map_next(const struct lt_map *m, struct lt_map_cursor *cursor, const void **key,
                 size_t *key_len, void **value) {
    while (!cursor->next && cursor->bucket < m->n_buckets)
        cursor->next = m->bucket[cursor->bucket++];
    struct lt_map_entry *e = cursor->next;
    if (!e)
        return false;
    cursor->next = e->next;
    if (key)
        *key = e->key;
    if (key_len)
        *key_len = e->key_len;
    if (value)
        *value = e->value;
    return true;
}
