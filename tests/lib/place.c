/* SPDX-License-Identifier: MIT */
#include "lib/copy.h"

char root[SCRATCH_PATH], dir[SCRATCH_PATH], copy[SCRATCH_PATH];

void make_dir(void) {
    scratch_make(dir);
}

void drop_dir(void) {
    scratch_remove(dir);
}

void make_root(void) {
    scratch_make(root);
    scratch_join(dir, root, "store");
    scratch_join(copy, root, "copy");
}

void drop_root(void) {
    scratch_remove(root);
}

void fresh(void) {
    scratch_remove(copy);
    scratch_copy(dir, copy);
}
