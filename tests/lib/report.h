/* SPDX-License-Identifier: MIT */
// report: what leat_verify and leat_rebuild_manifest write, and whether it says something.
#ifndef LEAT_TESTS_LIB_REPORT_H
#define LEAT_TESTS_LIB_REPORT_H

#include <stddef.h>

enum { REPORT_MAX = 1 << 18 };
extern char report[REPORT_MAX]; // with a NUL behind it

// report_begin empties it. report_take is a leat_write_fn that adds to it; full: -1.
void report_begin(void);
int report_take(const void *data, size_t size, void *ctx);

// says: the report has these words.
#define says(text)                                                                                 \
    cr_assert_not_null(strstr(report, text), "it does not say '%s':\n%s", text, report)

#endif
