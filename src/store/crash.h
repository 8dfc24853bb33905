/* SPDX-License-Identifier: MIT */
// crash: what a store keeps so that leat_crash can open another one in its place.
#ifndef LT_STORE_CRASH_H
#define LT_STORE_CRASH_H

#include "base/core.h"

// lt_crash_prepare puts the tables in front of mq->os that a store opened with LEAT_CRASHABLE
// needs, and keeps the options. `from`, which has crashed: mq takes over what that one had, its
// files, its clock and its chance. *dir: NULL, of a memory store, becomes the name of its directory
// when it has one.
// Returns  LEAT_ENOMEM. What was made is ended by lt_crash_end, also on failure.
int lt_crash_prepare(leat *mq, const leat_options *o, leat *from, const char **dir);

// lt_crash_end frees it, when nothing of the store is open any more.
void lt_crash_end(leat *mq);

// lt_crash_in_fork: in a forked child, closing and unmapping take no lock from here on.
void lt_crash_in_fork(leat *mq);

#endif
