/* SPDX-License-Identifier: MIT */
// queues: the verbs of tests about queues as they are seen and changed from outside.
#ifndef LEAT_TESTS_LIB_QUEUES_H
#define LEAT_TESTS_LIB_QUEUES_H

#include "leat.h"
#include "leat_test.h"
#include "lib/place.h"

#include <criterion/criterion.h>

enum { SECOND = 1000, HOUR = 3600 * SECOND };

extern leat *mq;
extern leat_message m, n;

// queues_open opens a store in memory, crashable, with acks LOG; queues_open_disk one in `dir`.
void queues_open(int32_t clock, uint64_t seed);
void queues_open_disk(int32_t write);
// queues_crash crashes the store, closes what is left of it, and goes on with what is found.
void queues_crash(int how);
leat_queue *queues_make(const char *name, const leat_queue_options *o);
void queues_send(leat_queue *q, const char *text);
// queues_send_n sends "0", "1" and so on, of `size` bytes or more.
void queues_send_n(leat_queue *q, int count, size_t size);
leat_queue_stats queues_stats(leat_queue *q);
// queues_explain returns what leat_queue_explain says of it; valid until the next call.
const char *queues_explain(leat_queue *q, int32_t partition, int64_t offset);

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
