/* SPDX-License-Identifier: MIT */
// crash_tree: what lib/crash_os.c and lib/crash_model.c share: names in a directory, and the hash
// of a tree of files, as they are or as a model picked them.
#ifndef LEAT_TESTS_LIB_CRASH_TREE_H
#define LEAT_TESTS_LIB_CRASH_TREE_H

#include "lib/crash_os.h"

// crash_abort ends the program: what cannot be represented is the test's fault.
_Noreturn void crash_abort(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *crash_alloc(size_t n);

struct crash_entry *crash_entry(struct crash_entry *entry, int entries, const char *name);
void crash_enter(struct crash_entry *entry, int *entries, const char *name, int file);
void crash_leave(struct crash_entry *entry, int *entries, const char *name);

uint64_t crash_mix(uint64_t a, uint64_t b);
// crash_hash_sector is 0 if all of it is zeros; crash_hash_end is of n bytes and zeros behind them.
uint64_t crash_hash_sector(const uint8_t *bytes);
uint64_t crash_hash_end(const uint8_t *bytes, size_t n);

struct crash_tree {
    const void *of;
    // names returns how many a directory has, or -1 for a file.
    int (*names)(const void *of, int file, struct crash_entry out[CRASH_ENTRIES]);
    // sector returns the hash of one sector of a file of that size; 0: zeros.
    uint64_t (*sector)(const void *of, int file, uint32_t sector, int64_t size);
    int64_t (*size)(const void *of, int file);
};
// crash_tree_hash is of the names, lengths and bytes of all that has a name.
uint64_t crash_tree_hash(const struct crash_tree *t);
// crash_names returns the names that a directory of a model has by what was picked.
int crash_names(const struct crash_node *n, struct crash_entry out[CRASH_ENTRIES]);
const struct crash_event *crash_picked(const struct crash_sector *s);
int64_t crash_picked_size(const struct crash_node *n);

#endif
