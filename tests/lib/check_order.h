/* SPDX-License-Identifier: MIT */
// check_order: how the checkers sort events.
#ifndef LEAT_TESTS_LIB_CHECK_ORDER_H
#define LEAT_TESTS_LIB_CHECK_ORDER_H

#include "lib/check.h"

typedef const struct history_event *event;

static inline int compare(uint64_t a, uint64_t b) {
    return a < b ? -1 : a > b;
}

static inline int compare_signed(int64_t a, int64_t b) {
    return a < b ? -1 : a > b;
}

static inline event of(const void *p) {
    return *(const event *)p;
}

static inline int by_member(const void *a, const void *b) { // member, partition, ticket
    int c = compare_signed(of(a)->member, of(b)->member);
    c = c ? c : compare_signed(of(a)->partition, of(b)->partition);
    return c ? c : compare(of(a)->invoked, of(b)->invoked);
}

static inline int by_time(const void *a, const void *b) { // group, partition, ticket
    int c = compare_signed(of(a)->group, of(b)->group);
    c = c ? c : compare_signed(of(a)->partition, of(b)->partition);
    return c ? c : compare(of(a)->invoked, of(b)->invoked);
}

#endif
