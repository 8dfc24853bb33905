/* SPDX-License-Identifier: MIT */
// kept: a store with one topic of one partition and its producer, for what is sent against the
// clock; and the proof afterwards, by reading all of it back.
#ifndef LEAT_BENCH_KEPT_H
#define LEAT_BENCH_KEPT_H

#include "payload.h"

#include <limits.h>
#include <stdio.h>

struct log {
    leat *mq;
    leat_topic *t;
    leat_producer *p;
};

// acks LOG in memory if dir is NULL. o: of the topic; NULL: the defaults.
static inline void log_open_with(struct log *l, const char *dir, int32_t acks,
                                 const leat_topic_options *o) {
    char path[PATH_MAX];
    if (dir) {
        (void)snprintf(path, sizeof path, "%s/store", dir);
        must(leat_open(path, NULL, &l->mq), "leat_open");
    } else {
        must(leat_open_memory(&(leat_options){ .memory_max_bytes = LEAT_UNLIMITED }, &l->mq),
             "leat_open_memory");
    }
    must(leat_topic_open(l->mq, "t", o, &l->t), "leat_topic_open");
    must(leat_producer_open(l->mq, &(leat_producer_options){ .acks = acks }, &l->p),
         "leat_producer_open");
}

static inline void log_open(struct log *l, const char *dir, int32_t acks) {
    log_open_with(l, dir, acks, NULL);
}

// Reads all back and closes.
static inline void log_check(struct log *l, size_t size, uint64_t n) {
    struct tally seen = { 0 };
    const leat_message *m;
    leat_consumer *c;
    int got;
    must(leat_consumer_open(l->mq, NULL, NULL, &c), "leat_consumer_open");
    must(leat_consumer_assign(c, &(leat_position){ .topic = "t", .offset = LEAT_BEGIN }, 1),
         "leat_consumer_assign");
    while ((got = leat_poll(c, 0, &m)) > 0)
        for (int i = 0; i < got; i++)
            tally_add(&seen, m[i].value.data, m[i].value.size);
    must(got, "leat_poll");
    tally_check(&seen, size, n, 1);
    must(leat_close_all(l->mq, 0), "leat_close_all");
}

#endif
