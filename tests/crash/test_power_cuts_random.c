/* SPDX-License-Identifier: MIT */
// Random lives of a store with power cuts, and at times kills, in between (lib/cuts.h).
//
// Of queues, after each cut and now and then: the store opens and closes; a queue's counts are what
// a peek finds in each state; what was sent with acks DISK, and nobody had, is there; what was
// acked with settle_acks DISK is not; its number, and that of what was given back, is of no other
// message.
// Of a topic: the end is not below what was durable, the begin not below what it was; what is in it
// is a whole prefix of what was sent, at the offsets that the sender was told.
//
// LEAT_SEED: where the lives begin; LEAT_LIVES: how many. A life that fails is told with its seed
// and step; with LEAT_LIVES=1 it is lived alone.
#include "lib/cuts.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LIVES = 12 };
#else
enum { LIVES = 120 };
#endif

enum { LIFE_SECONDS = 20 }; // of one that does not end
enum { QUEUE_STEPS = 1500, LOG_STEPS = 300, LOG_OFFSETS = 1 << 13, LOG_BATCH = 20, FAILURES = 10 };

static struct { // of the life of a topic
    leat_queue *q;
    bool deletes, has_queue, delays, batches, large;
    uint32_t sent[LOG_OFFSETS]; // which record has the offset; 0: none
    uint32_t records;
} life;

// ---- a topic

static leat_range range(void) {
    leat_range r = { 0 };
    (void)cuts_is("range", leat_topic_range(cuts.t, 0, &r), 0);
    return r;
}

static bool log_make(void) {
    leat_topic_options t = { .segment_bytes = 16384 };
    leat_queue_options q = { .topic = "t", .visibility_timeout_ms = 100 };
    memset(&life, 0, sizeof life);
    life.deletes = cuts_one_in(2);
    life.has_queue = cuts_one_in(2);
    life.delays = life.has_queue && cuts_one_in(2);
    life.batches = cuts_one_in(2);
    life.large = cuts_one_in(2);
    return cuts_is("topic", leat_topic_open(cuts.mq, "t", &t, &cuts.t), 0) &&
           (!life.has_queue || cuts_is("queue", leat_queue_open(cuts.mq, "q", &q, &life.q), 0)) &&
           cuts_is("sync", leat_sync(cuts.mq), 0);
}

static void log_send(void) {
    static char value[LOG_BATCH][3000];
    leat_record r[LOG_BATCH];
    leat_metadata md[LOG_BATCH];
    uint32_t n = life.batches ? 1 + cuts_draw(LOG_BATCH) : 1;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = life.records + i + 1;
        memcpy(value[i], &id, sizeof id);
        r[i] = (leat_record){ .value = { value[i], 4 + cuts_draw(life.large ? 2900 : 700) },
                              .delay_ms = life.delays && cuts_one_in(3) ? 5 : 0 };
    }
    leat_producer *p = cuts_one_in(16) ? cuts.disk : cuts.log;
    if (!cuts_is("send", leat_send_many(p, cuts.t, r, n, md), 0))
        return;
    for (uint32_t i = 0; i < n; i++)
        if (md[i].offset < LOG_OFFSETS)
            life.sent[md[i].offset] = ++life.records;
}

static void log_receive(void) {
    leat_message m[8];
    int n = leat_queue_receive(life.q, 0, m, 8);
    if (n < 0)
        (void)cuts_is("receive", n, 0);
    for (int i = 0; i < n; i++)
        (void)cuts_is("ack", leat_queue_ack(life.q, &m[i]), 0);
}

// Looks at offset, which the log does not have. lost: what a cut took before it.
static void log_missing(int64_t offset, int64_t durable_end, bool *lost) {
    if (life.sent[offset] == 0)
        return;
    if (offset < durable_end)
        cuts_complain("offset %lld is lost, and was below the durable end %lld", (long long)offset,
                      (long long)durable_end);
    *lost = true;
    life.sent[offset] = 0;
}

// Reads all. durable_end: of before the cut.
static void log_read(int64_t durable_end) {
    leat_reader *reader;
    leat_message m;
    leat_range r = range();
    int64_t at = r.begin;
    bool lost = false;
    int rc = leat_reader_open(cuts.t, 0, LEAT_BEGIN, &reader);
    if (!cuts_is("reader", rc, 0))
        return;
    while ((rc = leat_reader_next(reader, 0, &m)) == 1 && m.offset < LOG_OFFSETS) {
        uint32_t id = 0;
        for (; at < m.offset; at++)
            log_missing(at, durable_end, &lost);
        memcpy(&id, m.value.data, sizeof id);
        if (id != life.sent[at])
            cuts_complain("offset %lld is record %u, and was sent as %u", (long long)at, id,
                          life.sent[at]);
        if (lost)
            cuts_complain("offset %lld is there, and one in front of it is lost", (long long)at);
        at++;
    }
    for (; at < LOG_OFFSETS; at++)
        log_missing(at, durable_end, &lost);
    if (rc != 1)
        (void)cuts_is("reading", rc, 0);
    (void)cuts_is("close", leat_reader_close(reader), 0);
}

static void log_cut(void) {
    leat_range before = range();
    if (!cuts_cut() || !cuts_is("topic", leat_topic_open(cuts.mq, "t", NULL, &cuts.t), 0) ||
        (life.has_queue && !cuts_is("queue", leat_queue_open(cuts.mq, "q", NULL, &life.q), 0)))
        return;
    leat_range after = range();
    if (after.end < before.durable_end || after.begin < before.begin)
        cuts_complain("%lld to %lld, durable to %lld, is now %lld to %lld", (long long)before.begin,
                      (long long)before.end, (long long)before.durable_end, (long long)after.begin,
                      (long long)after.end);
    log_read(before.durable_end);
}

static void log_work(void) {
    leat_range r = range();
    uint32_t what = cuts_draw(100);
    if (what < 60)
        log_send();
    else if (what < 66)
        (void)cuts_is("sync", leat_sync(cuts.mq), 0);
    else if (what < 72 && life.deletes)
        (void)cuts_is("delete_records",
                      leat_topic_delete_records(
                          cuts.t, 0, r.begin + cuts_draw((uint32_t)(r.end - r.begin) + 1)),
                      0);
    else if (what >= 72 && what < 90 && life.has_queue)
        log_receive();
    else if (what >= 90 && what < 92)
        log_cut();
}

// ---- lives

static char endless[64]; // what is said of a life that does not end

static void give_up(int sig) {
    (void)sig;
    ssize_t written = write(STDOUT_FILENO, endless, strlen(endless));
    _exit(written > 0 ? 1 : 2);
}

static bool live(uint64_t seed, bool (*make)(void), void (*work)(void), int steps) {
    cuts_begin(seed);
    (void)snprintf(endless, sizeof endless, "seed %llu: a call does not end\n",
                   (unsigned long long)seed);
    (void)alarm(LIFE_SECONDS);
    if (cuts_open() && make())
        for (; cuts.step < steps && !cuts.failed; cuts.step++)
            work();
    cuts_release();
    if (cuts.mq)
        (void)cuts_is("close", leat_close_all(cuts.mq, 0), 0);
    return !cuts.failed;
}

int main(void) {
    const char *begin = getenv("LEAT_SEED"), *lives = getenv("LEAT_LIVES");
    uint64_t seed = begin ? strtoull(begin, NULL, 0) : 1;
    uint64_t end = seed + (lives ? strtoull(lives, NULL, 0) : LIVES);
    int failures = 0;
    (void)signal(SIGALRM, give_up);
    printf("seed=%llu lives=%llu\n", (unsigned long long)seed, (unsigned long long)(end - seed));
    (void)fflush(stdout);
    for (; seed < end && failures < FAILURES; seed++) {
        failures += !live(seed, cuts_make, cuts_work, QUEUE_STEPS);
        failures += !live(seed, log_make, log_work, LOG_STEPS);
    }
    printf("failures=%d\n", failures);
    return failures == 0 ? 0 : 1;
}
