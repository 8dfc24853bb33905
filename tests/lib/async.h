/* SPDX-License-Identifier: MIT */
// async: what tests of asynchronous sends share: a store in each of the ways in which reports come,
// on a clock that only the test moves, and what was told.
#ifndef LEAT_TESTS_LIB_ASYNC_H
#define LEAT_TESTS_LIB_ASYNC_H

#include "lib/fixture.h"

enum async_mode {
    ALONE,    // no threads, jumping clock, polled
    POLLED,   // manual clock, polled
    THREADED, // manual clock, on the callback thread
    MODES
};
extern const char *const async_name[MODES];

enum { TOLD_MAX = 4096 };

struct told_one {
    char value[24], message[80];
    int64_t offset, timestamp_ms;
    int32_t partition, status, error;
};

struct told {
    int count, inside;
    bool at_once; // two were told at a time
    struct told_one one[TOLD_MAX];
};
extern struct told told;

// told_take is a leat_delivery_fn; ctx is a struct told.
void told_take(leat_producer *from, const leat_report *r, void *ctx);
// told_wrong says what is wrong unless the values "0" to "n - 1" were told once each, those of a
// partition in the order of their numbers and offsets. Returns  NULL: nothing.
const char *told_wrong(int n);
// told_as counts those with this status and error.
int told_as(int status, int error);

// async_open opens the fixture's store, topic (of that many partitions) and producer, and forgets
// what was told. path NULL: in memory.
int async_open(enum async_mode mode, const char *path, uint32_t flags, int32_t partitions,
               const leat_producer_options *o);
// async_pass lets time pass and takes the reports. Returns  0, or what failed.
int async_pass(int64_t ms);
// async_send sends a value, to be told; async_number a number as its value, to a partition.
int async_send(const char *value);
int async_number(int n, int32_t partition);
// async_plain sends a value that nobody is told of.
int async_plain(const char *value);
// async_end is the end of a partition, or what failed.
int64_t async_end(int32_t partition);
leat_producer_stats async_stats(void);
int64_t async_now(void);

#endif
