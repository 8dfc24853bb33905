/* SPDX-License-Identifier: MIT */
// jobs: what tests of queues are written in: a store of each kind, its queue `q`, and what is in
// it.
#ifndef LEAT_TESTS_LIB_JOBS_H
#define LEAT_TESTS_LIB_JOBS_H

#include "leat.h"
#include "leat_test.h"
#include "lib/place.h"

#include <criterion/criterion.h>

enum { SECOND = 1000, HOUR = 3600 * SECOND, REAL_MS = 20000 };
enum jobs_kind { MEMORY, MAPPED, PWRITE, JOBS_KINDS };

static leat *mq;
static leat_queue *q;
static leat_message m __attribute__((unused)), n __attribute__((unused));

// open_jobs opens a store in memory or in `dir`. flags: LEAT_CRASHABLE or 0.
static inline void open_jobs(enum jobs_kind kind, int32_t clock, uint32_t flags) {
    leat_options o = { .clock = clock,
                       .flags = flags,
                       .seed = 7,
                       .acks = LEAT_ACKS_LOG,
                       .threads = clock == LEAT_CLOCK_JUMP ? LEAT_NO_THREADS : 0,
                       .write = kind == PWRITE ? LEAT_WRITE_PWRITE : LEAT_WRITE_MAPPED };
    if (kind == MEMORY)
        ok(leat_open_memory(&o, &mq));
    else
        ok(leat_open(dir, &o, &mq));
}

static inline void open_queue(const char *name, const leat_queue_options *o) {
    ok(leat_queue_open(mq, name, o, &q));
}

// crash goes on with the store as after a kill or a power cut, and its queue "jobs".
static inline void crash(int how) {
    leat *old = mq;
    ok(leat_crash(old, how, &mq));
    ok(leat_close_all(old, 0));
    open_queue("jobs", NULL);
}

static inline void send(const char *text) {
    ok(leat_queue_send(q, &(leat_record){ .value = leat_str(text) }, NULL));
}

// take: the next message is this one, delivered so often.
#define take(queue, message, text, times)                                                          \
    do {                                                                                           \
        gives(1, leat_queue_receive((queue), 0, (message), 1));                                    \
        is((message)->value, text);                                                                \
        cr_assert_eq((message)->deliveries, (times), "%s: delivery %d", text,                      \
                     (message)->deliveries);                                                       \
    } while (0)
#define nothing(queue) gives(0, leat_queue_receive((queue), 0, &n, 1))

static inline leat_queue_stats stats_of(leat_queue *queue) {
    leat_queue_stats s;
    ok(leat_queue_get_stats(queue, &s, sizeof s));
    return s;
}

// counts: so many messages of q are in each state.
static inline void counts(uint64_t available, uint64_t delayed, uint64_t leased, uint64_t kept) {
    leat_queue_stats s = stats_of(q);
    cr_assert(s.available == available && s.delayed == delayed && s.leased == leased &&
                  s.kept == kept && s.moving == 0,
              "available %d delayed %d leased %d kept %d moving %d", (int)s.available,
              (int)s.delayed, (int)s.leased, (int)s.kept, (int)s.moving);
}

// says: the message has this header, with this value.
static inline void says(const leat_message *message, const char *name, const char *value) {
    leat_header h;
    for (size_t i = 0; leat_message_header(message, i, &h); i++)
        if (h.name.size == strlen(name) && memcmp(h.name.data, name, h.name.size) == 0) {
            is(h.value, value);
            return;
        }
    cr_assert(false, "no header %s", name);
}

#endif
