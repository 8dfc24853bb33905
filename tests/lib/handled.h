/* SPDX-License-Identifier: MIT */
// handled: what the tests of a consumer's workers share: a store, its consumer `c`, its workers
// `w`, and a handler that writes down what it is given and does what the message says. The clock is
// one that only the test moves: a thread that has nothing to do is blocked, and the test waits
// until all are.
#ifndef LEAT_TESTS_LIB_HANDLED_H
#define LEAT_TESTS_LIB_HANDLED_H

#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { SEEN_MAX = 512, PARTITIONS = 8 };

static leat_consumer *c;
static leat_workers *w;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count, inside, inside_max, at_gate, passes;
    int in_partition[PARTITIONS];
    bool open, overlap, inside_stop;
    struct {
        char value[24];
        int32_t partition, deliveries;
        int64_t offset, at_ms;
        leat_workers *w;
    } one[SEEN_MAX];
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static inline void forget_seen(void) {
    seen.count = seen.inside = seen.inside_max = seen.at_gate = seen.passes = 0;
    seen.open = seen.overlap = seen.inside_stop = false;
    memset(seen.in_partition, 0, sizeof seen.in_partition);
}

static inline void set_gate(bool open) {
    pthread_mutex_lock(&seen.lock);
    seen.open = open;
    pthread_cond_broadcast(&seen.changed);
    pthread_mutex_unlock(&seen.lock);
}

// Waits until n handlers stand at the gate.
static inline void wait_at_gate(int n) {
    pthread_mutex_lock(&seen.lock);
    while (seen.at_gate < n)
        pthread_cond_wait(&seen.changed, &seen.lock);
    pthread_mutex_unlock(&seen.lock);
}

static inline int result_of(const char *v, const leat_message *m, int64_t *delay_ms) {
    int n = v[1] ? v[1] - '0' : 0;
    if (v[0] == 'd') // dead after n tries
        return m->deliveries > n ? LEAT_DEAD : LEAT_RETRY;
    if (v[0] == 'r') // done after n tries
        return m->deliveries > n ? LEAT_DONE : LEAT_RETRY;
    if (v[0] == 'o') // something else
        return m->deliveries > n ? LEAT_DONE : 77;
    if (v[0] == 'q' && m->deliveries == 1) { // at once
        *delay_ms = 0;
        return LEAT_RETRY;
    }
    if (v[0] == 'l' && m->deliveries == 1) { // much later
        *delay_ms = 90000;
        return LEAT_RETRY;
    }
    return LEAT_DONE;
}

// The first letter of a value says what to do; 'g': stand at the gate.
static inline int take(leat_workers *from, const leat_message *m, int64_t *delay_ms, void *ctx) {
    const char *v = m->value.data;
    int64_t ms = 0;
    (void)ctx;
    (void)leat_clock_now(mq, &ms, NULL);
    pthread_mutex_lock(&seen.lock);
    seen.overlap |= seen.in_partition[m->partition]++ > 0;
    if (++seen.inside > seen.inside_max)
        seen.inside_max = seen.inside;
    if (seen.count < SEEN_MAX) {
        (void)snprintf(seen.one[seen.count].value, sizeof seen.one[0].value, "%s", v);
        seen.one[seen.count].partition = m->partition;
        seen.one[seen.count].offset = m->offset;
        seen.one[seen.count].deliveries = m->deliveries;
        seen.one[seen.count].at_ms = ms;
        seen.one[seen.count++].w = from;
    }
    if (v[0] == 'g') {
        seen.at_gate++;
        pthread_cond_broadcast(&seen.changed);
        while (!seen.open && seen.passes == 0)
            pthread_cond_wait(&seen.changed, &seen.lock);
        seen.passes -= !seen.open;
        seen.at_gate--;
    }
    int rc = result_of(v, m, delay_ms);
    seen.inside--;
    seen.in_partition[m->partition]--;
    pthread_mutex_unlock(&seen.lock);
    if (v[0] == 's' && leat_workers_stop(from, 0) == 0) { // stop
        pthread_mutex_lock(&seen.lock);
        seen.inside_stop = true;
        pthread_cond_broadcast(&seen.changed);
        pthread_mutex_unlock(&seen.lock);
    }
    return rc;
}

static inline void open_with(const leat_options *store, int32_t partitions,
                             const leat_consumer_options *o) {
    forget_seen();
    ok(fixture_open(NULL, store, &(leat_topic_options){ .partitions = partitions }, NULL));
    ok(leat_consumer_open(mq, "g", o, &c));
    ok(leat_consumer_subscribe(c, "t"));
}

static inline void open_all(int32_t partitions) {
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, partitions, NULL);
}

static inline void start(int32_t threads) {
    ok(leat_consumer_start(c, take, NULL, &(leat_worker_options){ .threads = threads }, &w));
}

static inline void send_to(int32_t partition, const char *value) {
    leat_record r = { .value = leat_str(value), .to_partition = LEAT_PARTITION(partition) };
    ok(leat_send(p, t, &r, NULL));
}

// Waits until that many threads have nothing to do.
static inline void idle(int threads) {
    ok(leat_clock_wait_blocked(mq, threads, 10000));
}

static inline int64_t committed(int32_t partition) {
    leat_lag lag[PARTITIONS];
    int n = leat_group_lag(mq, "g", lag, PARTITIONS, sizeof lag[0]);
    for (int i = 0; i < n; i++)
        if (lag[i].partition == partition && strcmp(lag[i].topic, "t") == 0)
            return lag[i].committed;
    return -1;
}

// The handler was called with these values, in this order, "a b c"; of one partition.
static inline void handled(int32_t partition, const char *values) {
    char text[1024] = "";
    size_t used = 0;
    pthread_mutex_lock(&seen.lock);
    for (int i = 0; i < seen.count; i++)
        if (seen.one[i].partition == partition)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? " " : "",
                                     seen.one[i].value);
    pthread_mutex_unlock(&seen.lock);
    cr_assert_str_eq(text, values);
    cr_assert(!seen.overlap, "two handlers of one partition at once");
}

static inline void stop_all(void) {
    ok(leat_workers_stop(w, 0));
    ok(leat_close_all(mq, 0));
}

#endif
