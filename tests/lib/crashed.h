/* SPDX-License-Identifier: MIT */
// crashed: what the tests of leat_crash share: a store of each kind, its topic "t" with records
// that are numbered, its queue `q` with the dead-letter queue `dead`, and the crash.
#ifndef LEAT_TESTS_LIB_CRASHED_H
#define LEAT_TESTS_LIB_CRASHED_H

#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { REAL_MS = 20000, SECOND = 1000, SEEDS = 24 };

static leat *old; // mq before the crash
static leat_queue *q __attribute__((unused)), *dead __attribute__((unused));

// The four ways in which a store keeps its bytes.
static const struct kind {
    const char *name;
    bool disk;
    int32_t write;
} kinds[] = { { "memory", false, LEAT_WRITE_MAPPED },
              { "memory, pwrite", false, LEAT_WRITE_PWRITE },
              { "disk", true, LEAT_WRITE_MAPPED },
              { "disk, pwrite", true, LEAT_WRITE_PWRITE } };
static const struct kind *const kinds_end = kinds + sizeof kinds / sizeof *kinds;

// On disk a crash is the same code below another one, and each sync takes its time: few will do.
static inline uint64_t seeds(const struct kind *k) {
    return k->disk ? 3 : SEEDS;
}

static inline void open_with(const struct kind *k, leat_options o) {
    o.flags |= LEAT_CRASHABLE | LEAT_STRICT;
    o.write = k->write;
    if (k->disk) {
        scratch_make(dir);
        ok(leat_open(dir, &o, &mq));
    } else {
        ok(leat_open_memory(&o, &mq));
    }
}

static inline void open_kind(const struct kind *k, uint64_t seed) {
    open_with(k,
              (leat_options){ .threads = LEAT_NO_THREADS, .clock = LEAT_CLOCK_JUMP, .seed = seed });
}

static inline void open_topic(int32_t acks) {
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = acks }, &p));
}

static inline void close_kind(const struct kind *k) {
    ok(leat_close_all(mq, 0));
    if (k->disk)
        scratch_remove(dir);
}

// Crashes mq and goes on with what was opened; the old handle is closed at once.
static inline void crash(int how) {
    old = mq;
    ok(leat_crash(old, how, &mq));
    ok(leat_close_all(old, 0));
}

// Sends the records from..to-1, whose text is their number.
static inline void send_numbers(int from, int to) {
    for (int i = from; i < to; i++) {
        char text[420]; // so that the records are in several sectors
        (void)snprintf(text, sizeof text, "%d %0390d", i, 0);
        ok(leat_send(p, t, &(leat_record){ .value = leat_str(text) }, NULL));
    }
}

// Reads topic t from its beginning. Its records must be 0, 1, 2 ... Returns how many.
static inline int count_numbers(void) {
    leat_consumer *c;
    const leat_message *m;
    int n, count = 0;
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t", .offset = LEAT_BEGIN }, 1));
    while ((n = leat_poll(c, 0, &m)) > 0)
        for (int i = 0; i < n; i++, count++)
            cr_assert_eq(atoi(m[i].value.data), count, "record %d is '%.8s'", count,
                         (const char *)m[i].value.data);
    cr_assert_eq(n, 0, "%s", leat_errmsg());
    ok(leat_consumer_close(c));
    return count;
}

static inline void open_queues(void) {
    leat_queue_options o = { .visibility_timeout_ms = 60 * SECOND,
                             .deliveries_max = 2,
                             .dead_letter = "dead" };
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    ok(leat_queue_open(mq, "q", &o, &q));
}

// Receives all that a queue has. Writes the texts' first letters, and how often each came.
static inline const char *receive_all(leat_queue *from) {
    static char text[64];
    leat_message m;
    size_t n = 0;
    while (leat_queue_receive(from, 0, &m, 1) == 1) {
        n += (size_t)snprintf(text + n, sizeof text - n, "%c%d", *(const char *)m.value.data,
                              m.deliveries);
        ok(leat_queue_ack(from, &m));
    }
    text[n] = '\0';
    return text;
}

#endif
