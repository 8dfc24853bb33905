/* SPDX-License-Identifier: MIT */
// store: the handle. Opens the rooms in order and closes them in reverse.
#ifndef LT_STORE_STORE_H
#define LT_STORE_STORE_H

#include "base/core.h"

// lt_store_open is leat_open (dir) and leat_open_memory (dir NULL) over a given table of system
// calls, which must outlive the store: for tests that make the system fail.
int lt_store_open(const char *dir, const leat_options *o, struct lt_os *os, leat **out);

// lt_store_core makes a handle with its core and no room; options NULL: the defaults. flags are
// added to those of the options. It is freed by lt_store_core_free.
// Returns  LEAT_EINVAL, LEAT_ENOMEM.
int lt_store_core(const leat_options *o, uint32_t flags, struct lt_os *os, leat **out);
void lt_store_core_free(leat *mq);

// lt_view_begin makes a read-only handle on a directory, with a log that has nothing open yet.
int lt_view_begin(const char *dir, const leat_options *o, struct lt_os *os, leat **out);
void lt_view_end(leat *mq);
// lt_view_log opens its slots and its manifest, which has to be sound. *tail: bytes behind it.
// Returns  LEAT_ECORRUPT, LEAT_ENOENT: the slots are open; LEAT_EINVAL (a later version's).
int lt_view_log(leat *mq, int64_t *tail);

// lt_rebuild_store is leat_rebuild_manifest over a given table.
int lt_rebuild_store(const char *dir, const leat_options *o, struct lt_os *os, leat_write_fn write,
                     void *ctx);

// lt_verify_store is leat_verify over a given table.
int lt_verify_store(const char *dir, const leat_options *o, struct lt_os *os, leat_write_fn write,
                    void *ctx);

// lt_store_reopen opens a store in the place of one that has crashed, with the same options.
int lt_store_reopen(leat *crashed, const char *dir, const leat_options *o, leat **out);

// lt_dir_open opens or makes the store's directory, checks whose it is and what is in it, and locks
// it. *create: there is no store in it yet.
// Returns  as leat_open; nothing is left behind on failure.
int lt_dir_open(leat *mq, const char *dir, bool *create);
void lt_dir_close(leat *mq);
// lt_dir_find opens a directory that exists (LEAT_READ_ONLY or LEAT_MUST_EXIST), whatever is in it,
// without a lock. It is ended by lt_dir_close, also on failure.
int lt_dir_find(leat *mq, const char *dir);
// lt_dir_take is that for a store of this user's, with or without a manifest, and takes its LOCK.
// Returns  LEAT_ENOENT, LEAT_EACCESS, LEAT_EBUSY.
int lt_dir_take(leat *mq, const char *dir);
// lt_dir_unlock gives LOCK back.
void lt_dir_unlock(leat *mq);

#endif
