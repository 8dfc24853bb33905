/* SPDX-License-Identifier: MIT */
// queues: the verbs of tests about queues as they are seen and changed from outside.
#ifndef LEAT_TESTS_LIB_QUEUES_H
#define LEAT_TESTS_LIB_QUEUES_H

#include "leat.h"
#include "leat_test.h"
#include "lib/place.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { SECOND = 1000, HOUR = 3600 * SECOND };

extern leat *mq; // the fixture's
static leat_message m __attribute__((unused)), n __attribute__((unused));

// queues_open opens a store in memory, crashable, with acks LOG; queues_open_disk one in `dir`.
static inline void queues_open(int32_t clock, uint64_t seed) {
    leat_options o = { .clock = clock,
                       .seed = seed,
                       .acks = LEAT_ACKS_LOG,
                       .flags = LEAT_CRASHABLE,
                       .threads = clock == LEAT_CLOCK_JUMP ? LEAT_NO_THREADS : 0 };
    ok(leat_open_memory(&o, &mq));
}

static inline void queues_open_disk(int32_t write) {
    leat_options o = {
        .clock = LEAT_CLOCK_MANUAL, .seed = 7, .acks = LEAT_ACKS_LOG, .write = write
    };
    ok(leat_open(dir, &o, &mq));
}

// queues_crash crashes the store, closes what is left of it, and goes on with what is found.
static inline void queues_crash(int how) {
    leat *again;
    ok(leat_crash(mq, how, &again));
    ok(leat_close_all(mq, 0));
    mq = again;
}

static inline leat_queue *queues_make(const char *name, const leat_queue_options *o) {
    leat_queue *q;
    ok(leat_queue_open(mq, name, o, &q));
    return q;
}

static inline void queues_send(leat_queue *q, const char *text) {
    ok(leat_queue_send(q, &(leat_record){ .value = leat_str(text) }, NULL));
}

// queues_send_n sends "0", "1" and so on, of `size` bytes or more.
static inline void queues_send_n(leat_queue *q, int count, size_t size) {
    static char bytes[70000];
    for (int i = 0; i < count; i++) {
        int digits = snprintf(bytes, sizeof bytes, "%d", i);
        size_t all = (size_t)digits < size ? size : (size_t)digits;
        ok(leat_queue_send(q, &(leat_record){ .value = { bytes, all } }, NULL));
    }
}

static inline leat_queue_stats queues_stats(leat_queue *q) {
    leat_queue_stats s;
    ok(leat_queue_get_stats(q, &s, sizeof s));
    return s;
}

static inline int queues_write(const void *data, size_t size, void *ctx) {
    snprintf(ctx, 4096, "%.*s", (int)size, (const char *)data);
    return 0;
}

// queues_explain returns what leat_queue_explain says of it; valid until the next call.
static inline const char *queues_explain(leat_queue *q, int32_t partition, int64_t offset) {
    static char text[4096];
    ok(leat_queue_explain(q, partition, offset, queues_write, text));
    return text;
}

// take: the next message of a queue is this one, delivered so often.
#define take(queue, message, text, times)                                                          \
    do {                                                                                           \
        gives(1, leat_queue_receive((queue), 0, (message), 1));                                    \
        is((message)->value, text);                                                                \
        cr_assert_eq((message)->deliveries, (times));                                              \
    } while (0)
#define nothing(queue) gives(0, leat_queue_receive((queue), 0, &n, 1))

// counts: so many messages are in these states.
#define counts(queue, is_available, is_delayed, is_leased, is_kept)                                \
    do {                                                                                           \
        leat_queue_stats s_ = queues_stats(queue);                                                 \
        cr_assert(s_.available == (is_available) && s_.delayed == (is_delayed) &&                  \
                      s_.leased == (is_leased) && s_.kept == (is_kept),                            \
                  "line %d: available %d delayed %d leased %d kept %d", __LINE__,                  \
                  (int)s_.available, (int)s_.delayed, (int)s_.leased, (int)s_.kept);               \
    } while (0)

#endif
