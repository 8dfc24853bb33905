/* SPDX-License-Identifier: MIT */
// crashable is a table of system calls in front of another one that knows what a power cut would
// leave, for leat_crash.
//
// Of each file that the store opened, made, renamed or removed it keeps the bytes and the name as
// they were last synced. A power cut makes of these and of what is there now, for each sector of
// 512 bytes, each length and each name by itself, one of the two. A file's own sync does not make
// its name durable, its directory's does; a rename is one step.
//
// What was there when the store was opened counts as synced, and what a power cut left. A sync
// reads the whole file, so this is for tests.
#ifndef LT_STORE_CRASHABLE_H
#define LT_STORE_CRASHABLE_H

#include "base/chance.h"
#include "base/mem.h"
#include "base/os.h"

struct lt_crashable;

// lt_crashable_new makes a table over `under`, which must outlive it.
// Returns  NULL without memory. Owns  ended by lt_crashable_free; mem is copied.
struct lt_crashable *lt_crashable_new(struct lt_mem *mem, struct lt_os *under);

// lt_crashable_free takes no lock: nobody else uses it any more, or this is a forked child.
void lt_crashable_free(struct lt_crashable *c);

// lt_crashable_os is the table to give to a store: one store at a time.
struct lt_os *lt_crashable_os(struct lt_crashable *c);

// lt_crashable_cut makes the store's directory what a power cut leaves, by chance. What changes is
// written to new files: old descriptors and mappings keep what they have.
// Returns  0 or -errno: then the directory is none that a power cut would leave.
// Threads  no call of the store's is running.
int lt_crashable_cut(struct lt_crashable *c, struct lt_chance *chance);

#endif
