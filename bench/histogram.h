/* SPDX-License-Identifier: MIT */
// histogram: counts of nanoseconds in buckets that are 1/32 wide, so that percentiles are exact to
// about 3 %, whatever their size.
#ifndef LEAT_BENCH_HISTOGRAM_H
#define LEAT_BENCH_HISTOGRAM_H

#include "harness.h"

#include <stdint.h>

enum { HISTOGRAM_STEPS = 32, HISTOGRAM_BUCKETS = 40 * HISTOGRAM_STEPS };

struct histogram {
    uint64_t bucket[HISTOGRAM_BUCKETS], count, max;
};

static inline void histogram_add(struct histogram *h, uint64_t ns) {
    unsigned shift = 0;
    while (ns >> shift >= 2 * HISTOGRAM_STEPS)
        shift++;
    uint64_t at = shift * (uint64_t)HISTOGRAM_STEPS + (ns >> shift);
    h->bucket[at < HISTOGRAM_BUCKETS ? at : HISTOGRAM_BUCKETS - 1]++;
    h->count++;
    if (ns > h->max)
        h->max = ns;
}

static inline void histogram_merge(struct histogram *h, const struct histogram *other) {
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
        h->bucket[i] += other->bucket[i];
    h->count += other->count;
    if (other->max > h->max)
        h->max = other->max;
}

// Microseconds below or at which `share` (0..1) of what was added lies.
static inline double histogram_us(const struct histogram *h, double share) {
    uint64_t seen = 0, wanted = (uint64_t)(share * (double)h->count + 0.5);
    for (uint64_t at = 0; at < HISTOGRAM_BUCKETS; at++) {
        seen += h->bucket[at];
        if (seen >= wanted && seen > 0) {
            uint64_t shift = at < 2 * HISTOGRAM_STEPS ? 0 : at / HISTOGRAM_STEPS - 1;
            uint64_t top = at - shift * HISTOGRAM_STEPS + 1; // the bucket's upper edge
            double ns = (double)(top << shift) - 1;
            return (ns < (double)h->max ? ns : (double)h->max) / 1e3;
        }
    }
    return 0;
}

// p50, p99, p99.9 and max from figure[from] on; LATENCY_LINES are their lines.
static inline void histogram_tell(const struct histogram *h, struct run *r, int from) {
    r->figure[from] = histogram_us(h, 0.5);
    r->figure[from + 1] = histogram_us(h, 0.99);
    r->figure[from + 2] = histogram_us(h, 0.999);
    r->figure[from + 3] = (double)h->max / 1e3;
}
#define LATENCY_LINES                                                                              \
    { "-p50", "us", "lower" }, { "-p99", "us", "lower" }, { "-p999", "us", "lower" }, {            \
        "-max", "us", "lower"                                                                      \
    }

#endif
