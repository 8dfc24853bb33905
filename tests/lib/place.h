/* SPDX-License-Identifier: MIT */
// place: the directories of a test program, made and removed by .init and .fini.
#ifndef LEAT_TESTS_LIB_PLACE_H
#define LEAT_TESTS_LIB_PLACE_H

#include "lib/scratch.h"

extern char root[SCRATCH_PATH], dir[SCRATCH_PATH]; // dir: of the store; root: around it

// make_dir makes `dir`, drop_dir removes it; there is no root then.
void make_dir(void);
void drop_dir(void);
// make_root makes `root`; `dir` is a name in it of what is not there yet. drop_root removes all.
void make_root(void);
void drop_root(void);

#endif
