/* SPDX-License-Identifier: MIT */
// words: an array of 8-byte words beside a segment, one for each record: a file of its own, or
// memory. lt_words_store is the second of the seams through which the log is written.
#ifndef LT_LOG_WORDS_H
#define LT_LOG_WORDS_H

#include "base/core.h"
#include "base/stretch.h"

struct lt_words {
    leat *mq;
    uint8_t *map; // of a file: all of it reserved
    size_t map_size;
    uint64_t allocated; // bytes
    struct lt_stretch memory;
    int fd; // -1: memory
};

// lt_words_open opens or (create) makes the words file at path with room for `count` words; path
// NULL: in memory. Untouched words read as 0.
// Returns  LEAT_ENOENT (no file, and not create), LEAT_ENOSPC, LEAT_EIO, LEAT_ENOMEM.
int lt_words_open(leat *mq, const char *path, bool create, uint64_t count, struct lt_words *w);
void lt_words_close(struct lt_words *w);
// lt_words_reserve makes sure that word i can be stored without failing for want of room.
int lt_words_reserve(struct lt_words *w, uint64_t i);
uint64_t lt_words_load(const struct lt_words *w, uint64_t i);
// lt_words_store stores word i, reserved before.
// Returns  LEAT_EIO, LEAT_ENOSPC: only where words are not mapped.
int lt_words_store(struct lt_words *w, uint64_t i, uint64_t word);
// lt_words_sync makes them durable.
int lt_words_sync(struct lt_words *w);

#endif
