/* SPDX-License-Identifier: MIT */
// payload: what the benches move, and the proof that it arrived. Value i bears its number in front
// and at its end; the tally of a receiver adds up all bytes and compares the two numbers. Sums do
// not depend on the order.
#ifndef LEAT_BENCH_PAYLOAD_H
#define LEAT_BENCH_PAYLOAD_H

#include "harness.h"

#include <stdint.h>
#include <string.h>

enum { VALUE = 100, VALUE_MIN = 50, VALUE_MAX = 149 };
#define CHANNEL "orders.created" // what is published goes there

struct tally {
    uint64_t count, sum, torn;
};

// Once, before payload_number.
static inline void payload_init(unsigned char *v, size_t size) {
    memset(v, 'x', size);
}

// size: at least 16.
static inline void payload_number(unsigned char *v, size_t size, uint64_t i) {
    memcpy(v, &i, sizeof i);
    memcpy(v + size - sizeof i, &i, sizeof i);
}

// Value i where sizes differ: each from VALUE_MIN to VALUE_MAX as often. Returns  its size.
static inline size_t payload_of_any_size(unsigned char v[VALUE_MAX], uint64_t i) {
    size_t size = VALUE_MIN + (size_t)(i % (VALUE_MAX - VALUE_MIN + 1));
    payload_init(v, size);
    payload_number(v, size, i);
    return size;
}

static inline void tally_put(struct tally *t, const void *value, size_t size, enum plant plant) {
    const unsigned char *v = (const unsigned char *)value; // as C++ demands
    uint64_t word, first, last, sum = 0;
    if (size < 2 * sizeof word) {
        t->torn++;
        return;
    }
    for (size_t i = 0; i + sizeof word <= size; i += sizeof word) {
        memcpy(&word, v + i, sizeof word);
        sum += word;
    }
    memcpy(&first, v, sizeof first);
    memcpy(&last, v + size - sizeof last, sizeof last);
    if (plant != PLANT_NONE && first == 0) { // a defect on purpose, see harness.h
        if (plant == PLANT_LOST)
            return;
        last++;
    }
    t->count++;
    t->sum += sum + last;
    t->torn += first != last;
}

// What a sender counts, where tally_check cannot know it.
static inline void tally_sent(struct tally *t, const void *value, size_t size) {
    tally_put(t, value, size, PLANT_NONE);
}

// What a receiver does with each message.
static inline void tally_add(struct tally *t, const void *value, size_t size) {
    tally_put(t, value, size, planted);
}

enum { ENDS = 16 };

// What a receiver does which shares each message with another one that adds up all of it: it looks
// at the two numbers alone. Its tally is checked as one of values of ENDS bytes.
static inline void tally_ends(struct tally *t, const void *value, size_t size) {
    const unsigned char *v = (const unsigned char *)value;
    unsigned char ends[ENDS];
    if (size < sizeof ends) {
        t->torn++;
        return;
    }
    memcpy(ends, v, sizeof ends / 2);
    memcpy(ends + sizeof ends / 2, v + size - sizeof ends / 2, sizeof ends / 2);
    tally_add(t, ends, sizeof ends);
}

// Ends the run unless what was seen is what was sent, each as often as `times`.
static inline void tally_compare(const struct tally *seen, const struct tally *sent,
                                 uint64_t times) {
    if (seen->count != sent->count * times)
        fail("%llu messages of %llu arrived", (unsigned long long)seen->count,
             (unsigned long long)(sent->count * times));
    if (seen->torn != 0 || seen->sum != sent->sum * times)
        fail("%llu messages arrived, but not as they were sent", (unsigned long long)seen->count);
}

// Ends the run unless t has exactly the values 0..n-1, each as often as `times`.
static inline void tally_check(const struct tally *t, size_t size, uint64_t n, uint64_t times) {
    struct tally all = { 0, 0, 0 };
    unsigned char v[4096];
    payload_init(v, size);
    for (uint64_t i = 0; i < n; i++) {
        payload_number(v, size, i);
        tally_sent(&all, v, size);
    }
    tally_compare(t, &all, times);
}

#endif
