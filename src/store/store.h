/* SPDX-License-Identifier: MIT */
// store: the handle. Opens the rooms in order and closes them in reverse.
#ifndef LT_STORE_STORE_H
#define LT_STORE_STORE_H

#include "base/core.h"

// lt_store_open is leat_open (dir) and leat_open_memory (dir NULL) over a given table of system
// calls, which must outlive the store: for tests that make the system fail.
int lt_store_open(const char *dir, const leat_options *o, struct lt_os *os, leat **out);

// lt_store_reopen opens a store in the place of one that has crashed, with the same options.
int lt_store_reopen(leat *crashed, const char *dir, const leat_options *o, leat **out);

// lt_dir_open opens or makes the store's directory, checks whose it is and what is in it, and locks
// it. *create: there is no store in it yet.
// Returns  as leat_open; nothing is left behind on failure.
int lt_dir_open(leat *mq, const char *dir, bool *create);
void lt_dir_close(leat *mq);
// lt_dir_unlock gives LOCK back.
void lt_dir_unlock(leat *mq);

#endif
