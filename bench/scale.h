/* SPDX-License-Identifier: MIT */
// scale: how the contenders of scale-topics spread their sends, and what the points of a scale come
// to: the first figure is the dearest point in parts of the cheapest, the others are the points.
#ifndef LEAT_BENCH_SCALE_H
#define LEAT_BENCH_SCALE_H

#include "harness.h"

#include <stdlib.h>

// A batch is 30 rounds through all topics of the last point: as many 100-byte values as a page
// holds, so that each has its share of fresh pages.
enum { TOPIC_ROUNDS = 30, TOPIC_TIMES = 3 };

// How many a topic gets ahead of the others. Topics that never differ would stand at the same place
// of their segments for ever, and all want the same few lines of the cache: no set of topics is
// like that.
static inline size_t topic_ahead(size_t topic) {
    return topic * 7 % 57;
}

static inline int scale_by_cost(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Seconds of `batches` batches of `ops` operations. Returns  microseconds of an operation.
static inline double scale_cost(double *took, int batches, size_t ops) {
    qsort(took, (size_t)batches, sizeof took[0], scale_by_cost);
    return took[batches / 2] / (double)ops * 1e6;
}

static inline void scale_ratio(struct run *r, int points) {
    double low = r->figure[1], high = low;
    for (int i = 2; i <= points; i++) {
        low = r->figure[i] < low ? r->figure[i] : low;
        high = r->figure[i] > high ? r->figure[i] : high;
    }
    r->figure[0] = high / low;
}

#endif
