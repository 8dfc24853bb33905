/* SPDX-License-Identifier: MIT */
// durable: what the benches of stores that wait for the disk share: threads that store one batch
// after the other, each when the disk has the one before; their rate, the latency of one batch, and
// the bytes that went to the device for one.
#ifndef LEAT_BENCH_DURABLE_H
#define LEAT_BENCH_DURABLE_H

#include "harness.h"
#include "histogram.h"
#include "payload.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

enum { DURABLE_THREADS = 16, DURABLE_BATCH = 100 };

struct durable {
    // Stores the messages first .. first+n-1 and returns when the disk has them.
    void (*store)(void *ctx, uint64_t first, size_t n);
    void *ctx;
    int threads;
    size_t batch; // messages
};

struct durable_thread {
    const struct durable *d;
    uint64_t first;
    size_t batches;
    pthread_t thread;
    struct histogram latency;
};

// What this process had written to devices so far, in bytes.
static inline double device_bytes(void) {
    char text[128];
    double bytes = -1;
    FILE *f = fopen("/proc/self/io", "r");
    need(f != NULL, "/proc/self/io");
    while (bytes < 0 && fgets(text, sizeof text, f))
        (void)sscanf(text, "write_bytes: %lf", &bytes);
    (void)fclose(f);
    return bytes;
}

// Fills value i of a batch.
static inline void durable_values(unsigned char value[][VALUE], uint64_t first, size_t n) {
    for (size_t i = 0; i < n; i++) {
        payload_init(value[i], VALUE);
        payload_number(value[i], VALUE, first + i);
    }
}

static inline void *durable_store_all(void *arg) {
    struct durable_thread *t = arg;
    uint64_t before = now_ns();
    for (size_t i = 0; i < t->batches; i++) {
        t->d->store(t->d->ctx, t->first + i * t->d->batch, t->d->batch);
        uint64_t after = now_ns();
        histogram_add(&t->latency, after - before);
        before = after;
    }
    return NULL;
}

// Stores one batch, which makes the files, then r->work messages against the clock, and tells:
// messages a second, LATENCY_LINES of a batch, bytes that went to the device for a batch.
// Returns  how many messages there are: their numbers are 0 and up.
static inline uint64_t durable_run(struct run *r, const struct durable *d) {
    static struct durable_thread t[DURABLE_THREADS];
    size_t batches = r->work / ((size_t)d->threads * d->batch), each = batches * d->batch;
    size_t all = each * (size_t)d->threads;
    d->store(d->ctx, 0, d->batch);
    double bytes = device_bytes(), begin = now_s();
    for (int i = 0; i < d->threads; i++) {
        t[i].d = d;
        t[i].first = d->batch + (size_t)i * each;
        t[i].batches = batches;
        t[i].thread = start(durable_store_all, &t[i]);
    }
    for (int i = 0; i < d->threads; i++)
        (void)pthread_join(t[i].thread, NULL);
    r->figure[0] = (double)all / (now_s() - begin);
    for (int i = 1; i < d->threads; i++)
        histogram_merge(&t[0].latency, &t[i].latency);
    histogram_tell(&t[0].latency, r, 1);
    r->figure[5] = (device_bytes() - bytes) / (double)(batches * (size_t)d->threads);
    return d->batch + all;
}

#endif
