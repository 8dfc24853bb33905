/* SPDX-License-Identifier: MIT */
// damage: two small stores in memory, one closed and one as kill -9 left it, and the judge of what
// an open makes of either when its files are damaged.
//
// Each record's text says where it belongs: topic, partition, offset. What is read must say where
// it was read. All that was promised must be there, or the store must say that it is not: an error,
// or with LEAT_SKIP_ROT a message. What may go without a word is listed at enum damage_harm.
#ifndef LEAT_TESTS_LIB_DAMAGE_H
#define LEAT_TESTS_LIB_DAMAGE_H

#include "lib/crash_os.h"

#include <stdio.h>

enum {
    DAMAGE_FILES = 48,
    DAMAGE_TOPICS = 2, // "stream", read by the group, and "work", under the queue
    DAMAGE_PARTS = 2,
    DAMAGE_RECORDS = 256,
    DAMAGE_ALLOC_MAX = 4 << 20, // bytes that an open may ask for at once; and in all:
    DAMAGE_ALLOC_SUM = 16 << 20
};

struct damage_file {
    char path[96]; // relative to the store
    bool is_dir, gone;
    size_t size;
    uint8_t *bytes; // room for CRASH_FILE_MAX; not of a directory
};

// struct damage_part is what was promised of a partition.
struct damage_part {
    int64_t begin, synced, end; // deleted below begin, on disk below synced
    int64_t handed;             // offsets below were given out by the queue
    int64_t commit[8];          // each that there ever was, the last one last
    int commits;
    uint8_t tries[DAMAGE_RECORDS], acked[DAMAGE_RECORDS], kept[DAMAGE_RECORDS];
};

struct damage_store {
    bool killed;
    struct damage_file file[DAMAGE_FILES];
    int files;
    struct damage_part part[DAMAGE_TOPICS][DAMAGE_PARTS];
};

// What a case may cost without an error. A damaged copy of a slot makes an older one count; words
// that do not check read as those of a message that was never delivered.
enum damage_harm {
    DAMAGE_COMMITS = 1, // a committed offset is an older one, or none; so is where the log begins
    DAMAGE_LEDGER = 2,  // acknowledged messages come again, deliveries are counted anew
    DAMAGE_TAIL = 4,    // records that were never synced are missing
    DAMAGE_QUIET = 16,  // the other way round: nothing but this, no error and no message
    DAMAGE_PROOF = 8    // with LEAT_SKIP_ROT: slots and segments are gone, nothing says which
                        // offsets there were
};

struct damage_totals {
    long cases, opens, refused, told, commits, ledger, tail, failures;
};
extern struct damage_totals damage_totals;
extern char damage_what[512]; // the case, in words; in memory that outlives the process

// damage_make makes one of the two stores. d is large: not on the stack.
void damage_make(struct damage_store *d, bool killed);
void damage_free(struct damage_store *d);
struct damage_file *damage_find(struct damage_store *d, const char *path);
// damage_copy makes `to`, which has been made from an equal store, equal to `from` again.
void damage_copy(struct damage_store *to, const struct damage_store *from);

// damage_try puts the files of d into os and holds what an open makes of them to what was promised.
// harm: what the damage may cost.
void damage_try(struct crash_os *os, const struct damage_store *d, unsigned harm, uint32_t flags);

#endif
