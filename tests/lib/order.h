/* SPDX-License-Identifier: MIT */
// order: what tests of the order in which a queue hands out share, beside lib/jobs.h.
#ifndef LEAT_TESTS_LIB_ORDER_H
#define LEAT_TESTS_LIB_ORDER_H

#include "lib/jobs.h"

enum { DAY = 24 * HOUR };
static const int64_t START = INT64_C(1700000000000);

static inline leat_options manual(void) {
    return (leat_options){
        .clock = LEAT_CLOCK_MANUAL, .seed = 7, .start_ms = START, .acks = LEAT_ACKS_LOG
    };
}

static inline void open_memory(void) {
    leat_options o = manual();
    o.flags = LEAT_CRASHABLE;
    ok(leat_open_memory(&o, &mq));
}

static inline void send_at(const char *text, int32_t priority, int64_t delay_ms) {
    leat_record r = { .value = leat_str(text), .priority = priority, .delay_ms = delay_ms };
    ok(leat_queue_send(q, &r, NULL));
}

// get: the next message is this one; done: and it is acknowledged.
#define get(message, text)                                                                         \
    do {                                                                                           \
        gives(1, leat_queue_receive(q, 0, (message), 1));                                          \
        is((message)->value, text);                                                                \
    } while (0)
#define done(text)                                                                                 \
    do {                                                                                           \
        get(&m, text);                                                                             \
        ok(leat_queue_ack(q, &m));                                                                 \
    } while (0)

// wait_exactly: there is nothing until so much time has passed.
static inline void wait_exactly(int64_t ms) {
    ok(leat_clock_advance(mq, ms - 1));
    nothing(q);
    ok(leat_clock_advance(mq, 1));
}

#endif
