/* SPDX-License-Identifier: MIT */
// copy: a second place in `root`, for a copy of the store that may be damaged.
#ifndef LEAT_TESTS_LIB_COPY_H
#define LEAT_TESTS_LIB_COPY_H

#include "lib/place.h"

extern char copy[SCRATCH_PATH]; // a name from make_root on

// fresh makes `copy` a copy of `dir`, whatever it was.
void fresh(void);

#endif
