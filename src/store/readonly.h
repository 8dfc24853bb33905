/* SPDX-License-Identifier: MIT */
// readonly is a table of system calls in front of another one for a store that is looked at, not
// owned: LEAT_READ_ONLY. Nothing that comes through it changes anything.
//
// Files are opened for reading, and a file is not mapped: what is asked for is memory into which it
// is copied. An owner may store into the file, cut it or remove it meanwhile, and a mapping would
// change under the checks, or raise SIGBUS; a copy that was checked stays what it is. What the file
// has not got is zeros. Every call that writes is -EROFS: a net under the checks that say so with a
// better text, and counted, so that a test can see that nobody fell into it.
#ifndef LT_STORE_READONLY_H
#define LT_STORE_READONLY_H

#include "base/core.h"

// lt_readonly_begin puts the table in front of mq->os.
// Returns  LEAT_ENOMEM. Owns  ended by lt_readonly_end, when nothing is open or mapped any more.
int lt_readonly_begin(leat *mq);
void lt_readonly_end(leat *mq);

// lt_readonly_refused is how many calls were refused. 0: no table, or none.
uint64_t lt_readonly_refused(const leat *mq);

#endif
