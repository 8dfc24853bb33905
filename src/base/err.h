/* SPDX-License-Identifier: MIT */
// err: results and the thread-local text that goes with the last failure.
#ifndef LT_BASE_ERR_H
#define LT_BASE_ERR_H

#include "leat.h"

// lt_fail remembers the text for leat_errmsg and returns rc, so that a failing path is one line:
// return lt_fail(LEAT_ENOENT, "topic %s does not exist", name).
// Threads  any; the text is the calling thread's own.
int lt_fail(int rc, const char *fmt, ...) __attribute__((format(printf, 2, 3), cold));

// lt_fail_os is lt_fail for a failed system call: err is -errno as the os table returns it; the
// code is chosen by it, and ": No space left on device (errno 28)" follows the text.
int lt_fail_os(int64_t err, const char *fmt, ...) __attribute__((format(printf, 2, 3), cold));

// lt_fail_nomem is lt_fail(LEAT_ENOMEM, ...) with one text for all.
int lt_fail_nomem(void) __attribute__((cold));

#endif
