/* SPDX-License-Identifier: MIT */
// stream: what the tests of consumers, groups and views share: a store of each kind, records that
// say where they are, members, and a thread that waits in a poll.
#ifndef LEAT_TESTS_LIB_STREAM_H
#define LEAT_TESTS_LIB_STREAM_H

#include "leat.h"
#include "leat_test.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { REAL_MS = 20000 }; // bound of what must happen soon, in real time

static char dir[SCRATCH_PATH];
static leat *mq;
static leat_producer *p;
static leat_topic *t;

static inline void make_dir(void) {
    scratch_make(dir);
}

static inline void drop_dir(void) {
    scratch_remove(dir);
}

// Each of the three ways in which a store keeps its bytes.
enum kind { MEMORY, MAPPED, PWRITE, KINDS };

static inline void open_store(enum kind kind, int32_t clock) {
    leat_options o = { .clock = clock,
                       .seed = 7,
                       .acks = LEAT_ACKS_LOG,
                       .threads = clock == LEAT_CLOCK_JUMP ? LEAT_NO_THREADS : 0 };
    if (kind == MEMORY) {
        ok(leat_open_memory(&o, &mq));
    } else {
        o.write = kind == MAPPED ? LEAT_WRITE_MAPPED : LEAT_WRITE_PWRITE;
        ok(leat_open(dir, &o, &mq));
    }
    ok(leat_producer_open(mq, NULL, &p));
}

static inline void open_topic(const char *name, int32_t partitions) {
    leat_topic_options o = { .partitions = partitions, .segment_bytes = 16384 };
    ok(leat_topic_open(mq, name, &o, &t));
}

static inline void open_memory(int32_t clock, int32_t partitions) {
    open_store(MEMORY, clock);
    open_topic("t", partitions);
}

static inline void close_store(void) {
    ok(leat_close_all(mq, 0));
    mq = NULL;
}

static inline void send_to(leat_topic *topic, int32_t partition, const char *text) {
    leat_record r = { .value = leat_str(text), .to_partition = LEAT_PARTITION(partition) };
    ok(leat_send(p, topic, &r, NULL));
}

// Sends n records "partition/offset" to one partition.
static inline void send_many(int32_t partition, int n) {
    leat_range range;
    ok(leat_topic_range(t, partition, &range));
    for (int i = 0; i < n; i++) {
        char text[64];
        snprintf(text, sizeof text, "%d/%lld", partition, (long long)range.end + i);
        send_to(t, partition, text);
    }
}

static inline leat_consumer *member(const char *group, const char *name, const char *topic) {
    leat_consumer *c;
    ok(leat_consumer_open(mq, group, &(leat_consumer_options){ .name = name }, &c));
    if (topic)
        ok(leat_consumer_subscribe(c, topic));
    return c;
}

static inline leat_consumer *reader(int32_t partition, int64_t offset, int32_t max) {
    leat_consumer *c;
    ok(leat_consumer_open(mq, NULL, &(leat_consumer_options){ .max_poll_records = max }, &c));
    ok(leat_consumer_assign(
        c, &(leat_position){ .topic = "t", .partition = partition, .offset = offset }, 1));
    return c;
}

// Writes "0 1 2": the partitions that c has, in order.
static inline const char *parts(leat_consumer *c) {
    static char text[256];
    leat_position pos[64];
    int n = leat_consumer_positions(c, 0, pos, 64);
    cr_assert_geq(n, 0, "positions: %s", leat_errmsg());
    text[0] = '\0';
    for (int32_t k = 0; k < 64; k++)
        for (int i = 0; i < n; i++)
            if (pos[i].partition == k)
                snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d",
                         text[0] ? " " : "", k);
    return text;
}

static inline int64_t position(leat_consumer *c, int32_t partition, int committed) {
    leat_position pos[64];
    int n = leat_consumer_positions(c, committed, pos, 64);
    for (int i = 0; i < n; i++)
        if (pos[i].partition == partition)
            return pos[i].offset;
    return -99;
}

// Polls until nothing comes; returns how many came, each where and what it should be.
static inline int drain(leat_consumer *c) {
    const leat_message *m;
    int n, all = 0;
    while ((n = leat_poll(c, 0, &m)) > 0) {
        for (int i = 0; i < n; i++) {
            char text[64];
            snprintf(text, sizeof text, "%d/%lld", m[i].partition, (long long)m[i].offset);
            is(m[i].value, text);
            cr_assert_str_eq(m[i].topic, "t");
        }
        all += n;
    }
    cr_assert_eq(n, 0, "poll: %s", leat_errmsg());
    return all;
}

// ---- a thread that waits in a poll

struct waiting {
    leat_consumer *c;
    int64_t timeout_ms;
    int rc;
    char text[64];
    pthread_t thread;
};

static inline void *wait_in_poll(void *ctx) {
    struct waiting *w = ctx;
    const leat_message *m;
    w->rc = leat_poll(w->c, w->timeout_ms, &m);
    if (w->rc > 0)
        snprintf(w->text, sizeof w->text, LEAT_FMT, LEAT_ARG(m[0].value));
    return NULL;
}

static inline void start(struct waiting *w, leat_consumer *c, int64_t timeout_ms) {
    *w = (struct waiting){ .c = c, .timeout_ms = timeout_ms, .rc = -99 };
    cr_assert_eq(pthread_create(&w->thread, NULL, wait_in_poll, w), 0);
}

static inline void join(struct waiting *w) {
    cr_assert_eq(pthread_join(w->thread, NULL), 0);
}

#endif
