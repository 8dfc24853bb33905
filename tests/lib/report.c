/* SPDX-License-Identifier: MIT */
#include "lib/report.h"

#include <string.h>

char report[REPORT_MAX];
static size_t report_used;

void report_begin(void) {
    report_used = 0;
    report[0] = '\0';
}

int report_take(const void *data, size_t size, void *ctx) {
    (void)ctx;
    if (report_used + size >= sizeof report)
        return -1;
    memcpy(report + report_used, data, size);
    report_used += size;
    report[report_used] = '\0';
    return 0;
}
