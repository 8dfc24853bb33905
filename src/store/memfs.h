/* SPDX-License-Identifier: MIT */
// memfs is a table of system calls over a directory that lives in memory, so that a memory store
// which is to be crashed runs the code of a disk store.
//
// A file is a memory file of the system below, so all who map it see the same bytes, and what it
// hands out are real descriptors: closing one and unmapping need no memfs, also in a forked child.
// Only names are kept here. One directory of directories; a sync does nothing.
#ifndef LT_STORE_MEMFS_H
#define LT_STORE_MEMFS_H

#include "base/mem.h"
#include "base/os.h"

// lt_memfs_new makes an empty directory over the system `under`, which opens as any path relative
// to AT_FDCWD. What its files hold together is bounded by bytes_max: -ENOSPC.
// Returns  NULL without memory. Owns  ended by lt_memfs_free; mem is copied.
struct lt_os *lt_memfs_new(struct lt_mem *mem, struct lt_os *under, int64_t bytes_max);

// lt_memfs_free forgets the files. Descriptors and mappings that are out stay as they are. Takes no
// lock: nobody else uses it any more, or this is a forked child.
void lt_memfs_free(struct lt_os *os);

#endif
