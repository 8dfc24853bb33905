/* SPDX-License-Identifier: MIT */
#include "lib/crash_tree.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void crash_abort(const char *format, ...) {
    va_list list;
    va_start(list, format);
    (void)fprintf(stderr, "crash_os: ");
    (void)vfprintf(stderr, format, list);
    (void)fprintf(stderr, "\n");
    va_end(list);
    abort();
}

void *crash_alloc(size_t n) {
    void *p = calloc(1, n);
    if (!p)
        crash_abort("out of memory");
    return p;
}

// ---- names

struct crash_entry *crash_entry(struct crash_entry *entry, int entries, const char *name) {
    for (int i = 0; i < entries; i++)
        if (strcmp(entry[i].name, name) == 0)
            return &entry[i];
    return NULL;
}

void crash_enter(struct crash_entry *entry, int *entries, const char *name, int file) {
    struct crash_entry *e = crash_entry(entry, *entries, name);
    if (!e) {
        if (*entries == CRASH_ENTRIES)
            crash_abort("more than %d names in a directory", CRASH_ENTRIES);
        e = &entry[(*entries)++];
        memcpy(e->name, name, strlen(name) + 1);
    }
    e->file = file;
}

void crash_leave(struct crash_entry *entry, int *entries, const char *name) {
    struct crash_entry *e = crash_entry(entry, *entries, name);
    if (e)
        *e = entry[--*entries];
}

// ---- hashes

uint64_t crash_mix(uint64_t a, uint64_t b) {
    uint64_t x = (a ^ (b + UINT64_C(0x9e3779b97f4a7c15) + (a << 6) + (a >> 2))) *
                 UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 29;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 32;
}

static uint64_t crash_hash_text(uint64_t seed, const char *s) {
    for (; *s; s++)
        seed = crash_mix(seed, (unsigned char)*s);
    return crash_mix(seed, 0x100);
}

// Of one sector; 0 if it is all zeros.
uint64_t crash_hash_sector(const uint8_t *bytes) {
    uint64_t h = 1, any = 0;
    for (size_t i = 0; i < CRASH_SECTOR; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        any |= word;
        h = (h ^ word) * UINT64_C(0x9fb21c651e98df25);
        h ^= h >> 35;
    }
    return any ? h | 1 : 0;
}

uint64_t crash_hash_end(const uint8_t *bytes, size_t n) {
    uint8_t cut[CRASH_SECTOR] = { 0 };
    memcpy(cut, bytes, n);
    return crash_hash_sector(cut);
}

// ---- the tree

static uint64_t crash_tree_file(const struct crash_tree *t, int file, uint64_t path) {
    int64_t size = t->size(t->of, file);
    uint64_t sum = crash_mix(path, (uint64_t)size);
    for (int64_t at = 0; at < size; at += CRASH_SECTOR) {
        uint64_t h = t->sector(t->of, file, (uint32_t)(at / CRASH_SECTOR), size);
        sum += h ? crash_mix(path ^ h, (uint64_t)at + 1) : 0;
    }
    return sum;
}

uint64_t crash_tree_hash(const struct crash_tree *t) {
    struct {
        int file;
        uint64_t hash;
    } todo[CRASH_FILES];
    int count = 0;
    uint64_t sum = 0;
    todo[count].file = 0;
    todo[count++].hash = 1;
    while (count > 0) {
        int file = todo[--count].file;
        uint64_t path = todo[count].hash;
        struct crash_entry entry[CRASH_ENTRIES];
        int entries = t->names(t->of, file, entry);
        sum += entries < 0 ? crash_tree_file(t, file, path) : crash_mix(path, UINT64_MAX);
        for (int i = 0; i < entries; i++) {
            todo[count].file = entry[i].file;
            todo[count++].hash = crash_hash_text(path, entry[i].name);
        }
    }
    return sum;
}
