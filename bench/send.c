/* SPDX-License-Identifier: MIT */
// send: the ways to send a message, by one thread: wait for it, be called back, wait for a future,
// forget it; and batches that are filled by hand. The clock ends when the last one has ended, those
// of fire and forget too. Reports are checked as they come: each once, in order, with no error.
// After the clock all is read back.
//
// Latency is that of each SAMPLE-th message (where each waits for the disk: of each), so that
// reading the clock is not what is measured: from the send call to its return, or to the callback,
// or to the end of the wait for its future.
#include "histogram.h"
#include "kept.h"
#include "payload.h"
#include "peers.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
    WAYS = 4,
    P99 = 2 * WAYS, // the figures: each way in memory and to the disk, then their p99
    SAMPLE = 61,    // prime: no place in a batch is preferred
    WINDOW = 1000,  // futures outstanding
    BATCH = 100,    // of async-batch
    DISK_SYNC = 500 // so much less work where each message waits for the disk
};

struct sending {
    struct log l;
    size_t work;
    bool each; // message is timed, not one in SAMPLE
    unsigned char value[BATCH][VALUE];
    leat_record record[BATCH];
    uint64_t *sent_ns; // when each that is timed was handed over
    uint64_t told;     // reports so far; guarded by there being one at a time
    struct histogram latency;
    struct tally seen; // of the records in reports, in send-bounded
};

static struct sending *sending_new_with(const char *dir, size_t work, bool each,
                                        const leat_topic_options *o) {
    struct sending *s = calloc(1, sizeof *s);
    need(s != NULL, "calloc");
    s->work = work;
    s->each = each;
    size_t timed = work / (each ? 1 : SAMPLE) + 1;
    s->sent_ns = malloc(timed * sizeof *s->sent_ns);
    need(s->sent_ns != NULL, "malloc");
    memset(s->sent_ns, 1, timed * sizeof *s->sent_ns); // touched before the clock
    for (size_t i = 0; i < BATCH; i++) {
        payload_init(s->value[i], VALUE);
        s->record[i] = (leat_record){ .value = { s->value[i], VALUE } };
    }
    log_open_with(&s->l, dir, dir ? LEAT_ACKS_DISK : LEAT_ACKS_LOG, o);
    return s;
}

static struct sending *sending_new(const char *dir, size_t work, bool each) {
    return sending_new_with(dir, work, each, NULL);
}

// Reads all back.
static void sending_end(struct sending *s) {
    log_check(&s->l, VALUE, s->work);
    free(s->sent_ns);
    free(s);
}

// Where the time of message i is; NULL: it is not timed. By a constant: a division by another
// number takes a tenth of a send.
static inline uint64_t *time_of(const struct sending *s, uint64_t i) {
    if (s->each)
        return &s->sent_ns[i];
    return i % SAMPLE == 0 ? &s->sent_ns[i / SAMPLE] : NULL;
}

// Message i, with its time if it is timed.
static const leat_record *next(struct sending *s, uint64_t i) {
    payload_number(s->value[0], VALUE, i);
    uint64_t *at = time_of(s, i);
    if (at)
        *at = now_ns();
    return &s->record[0];
}

static void measure(struct sending *s, uint64_t i) {
    const uint64_t *at = time_of(s, i);
    if (at)
        histogram_add(&s->latency, now_ns() - *at);
}

static void check_report(const leat_report *r, uint64_t expected) {
    if (r->error != 0 || r->status != LEAT_STORED || r->md.offset != (int64_t)expected)
        fail("report %llu: offset %lld, %s: %s", (unsigned long long)expected,
             (long long)r->md.offset, leat_errname(r->error), r->message);
}

static void flush(struct sending *s) {
    int left = leat_flush(s->l.p, LEAT_FOREVER);
    must(left, "leat_flush");
    if (left > 0)
        fail("%d messages are left after a flush", left);
}

static void check_told(const struct sending *s, uint64_t wanted) {
    if (s->told != wanted)
        fail("%llu reports of %llu", (unsigned long long)s->told, (unsigned long long)wanted);
}

// ---- three ways, and none

static void send_sync(struct sending *s) {
    for (uint64_t i = 0; i < s->work; i++) {
        must(leat_send(s->l.p, s->l.t, next(s, i), NULL), "leat_send");
        measure(s, i);
    }
}

static void on_report(leat_producer *p, const leat_report *r, void *ctx) {
    (void)p;
    struct sending *s = ctx;
    check_report(r, s->told);
    measure(s, s->told++);
}

static void send_callback(struct sending *s) {
    for (uint64_t i = 0; i < s->work; i++)
        must(leat_send_async(s->l.p, s->l.t, next(s, i), on_report, s), "leat_send_async");
    flush(s);
    check_told(s, s->work);
}

static void send_forget(struct sending *s) {
    for (uint64_t i = 0; i < s->work; i++) {
        must(leat_send_async(s->l.p, s->l.t, next(s, i), NULL, NULL), "leat_send_async");
        measure(s, i);
    }
    flush(s);
}

static void wait_for(struct sending *s, leat_future *f) {
    leat_report r;
    must(leat_future_wait(f, LEAT_FOREVER, &r), "leat_future_wait");
    check_report(&r, s->told);
    measure(s, s->told++);
    must(leat_future_release(f), "leat_future_release");
}

static void send_future(struct sending *s) {
    leat_future *f[WINDOW];
    for (uint64_t i = 0; i < s->work; i++) {
        if (i - s->told == WINDOW)
            wait_for(s, f[i % WINDOW]);
        must(leat_send_future(s->l.p, s->l.t, next(s, i), &f[i % WINDOW]), "leat_send_future");
    }
    while (s->told < s->work)
        wait_for(s, f[s->told % WINDOW]);
}

// In the order of the figures; sync is the last.
static void (*const way[WAYS])(struct sending *s) = { send_callback, send_forget, send_future,
                                                      send_sync };

// One way in a store of its own.
static void one_way(struct run *r, int at, bool disk) {
    char dir[PATH_MAX];
    bool each_waits = disk && way[at] == send_sync;
    (void)snprintf(dir, sizeof dir, "%s/%d", r->dir, at);
    if (disk)
        need(mkdir(dir, 0700) == 0, "mkdir");
    struct sending *s =
        sending_new(disk ? dir : NULL, each_waits ? r->work / DISK_SYNC + 1 : r->work, each_waits);
    double begin = now_s();
    way[at](s);
    int line = disk ? WAYS + at : at;
    r->figure[line] = (double)s->work / (now_s() - begin);
    r->figure[P99 + line] = histogram_us(&s->latency, 0.99);
    sending_end(s);
}

static void leat_three_ways(struct run *r) {
    for (int at = 0; at < WAYS; at++)
        one_way(r, at, false);
    for (int at = 0; at < WAYS; at++)
        one_way(r, at, true);
}

// ---- a topic that keeps as much as the mock of librdkafka, whose peer also adds up what reports
// say

static void on_seen(leat_producer *p, const leat_report *r, void *ctx) {
    struct sending *s = ctx;
    on_report(p, r, ctx);
    tally_add(&s->seen, r->record->value.data, r->record->value.size);
}

// What is left is the end of what was sent, without a hole.
static void check_tail(struct sending *s) {
    leat_reader *reader;
    leat_message m;
    uint64_t number = 0, first = 0, n = 0;
    must(leat_reader_open(s->l.t, 0, LEAT_BEGIN, &reader), "leat_reader_open");
    for (int rc; (rc = leat_reader_next(reader, 0, &m)) != 0; n++) {
        must(rc, "leat_reader_next");
        memcpy(&number, m.value.data, sizeof number);
        first = n == 0 ? number : first;
        if (number != first + n || (uint64_t)m.offset != number)
            fail("value %llu stands at offset %lld", (unsigned long long)number,
                 (long long)m.offset);
    }
    if (n == 0 || number + 1 != s->work)
        fail("the last value is %llu of %zu", (unsigned long long)number, s->work);
    must(leat_close_all(s->l.mq, 0), "leat_close_all");
    free(s->sent_ns);
    free(s);
}

static void leat_bounded(struct run *r) {
    const leat_topic_options o = { .segment_bytes = 1 << 20, .retention_bytes = 5 << 20 };
    for (int sync = 0; sync <= 1; sync++) {
        struct sending *s = sending_new_with(NULL, r->work, false, &o);
        double begin = now_s();
        for (uint64_t i = 0; i < s->work && !sync; i++)
            must(leat_send_async(s->l.p, s->l.t, next(s, i), on_seen, s), "leat_send_async");
        if (sync)
            send_sync(s);
        else
            flush(s);
        r->figure[sync] = (double)s->work / (now_s() - begin);
        if (!sync)
            tally_check(&s->seen, VALUE, s->work, 1);
        check_tail(s);
    }
}

// ---- batches by hand

static void on_batch(leat_producer *p, const leat_report *r, void *ctx) {
    (void)p;
    struct sending *s = ctx;
    check_report(r, s->told);
    s->told += BATCH;
}

static void number_batch(struct sending *s, uint64_t first) {
    for (uint64_t i = 0; i < BATCH; i++)
        payload_number(s->value[i], VALUE, first + i);
}

static void send_batches(struct sending *s) {
    leat_batch *b;
    for (uint64_t at = 0; at < s->work; at += BATCH) {
        number_batch(s, at);
        must(leat_batch_open(s->l.p, s->l.t, 0, &b), "leat_batch_open");
        for (size_t i = 0; i < BATCH; i++)
            must(leat_batch_append(b, &s->record[i]), "leat_batch_append");
        must(leat_batch_send(b, on_batch, s), "leat_batch_send");
    }
    flush(s);
    check_told(s, s->work);
}

static void send_many(struct sending *s) {
    for (uint64_t at = 0; at < s->work; at += BATCH) {
        number_batch(s, at);
        must(leat_send_many(s->l.p, s->l.t, s->record, BATCH, NULL), "leat_send_many");
    }
}

static void batches(struct run *r, void (*send)(struct sending *s)) {
    size_t work = (r->work + BATCH - 1) / BATCH * BATCH;
    for (int disk = 0; disk <= 1; disk++) {
        struct sending *s = sending_new(disk ? r->dir : NULL, work, false);
        double begin = now_s();
        send(s);
        r->figure[disk] = (double)work / (now_s() - begin);
        sending_end(s);
    }
}

static void leat_batches(struct run *r) {
    batches(r, send_batches);
}

static void leat_many(struct run *r) {
    batches(r, send_many);
}

#define RATE(suffix)                                                                               \
    { suffix, "op/s", "higher" }
#define TAIL(suffix)                                                                               \
    { suffix, "us", "lower" }

static const struct bench table[] = {
    { .name = "send-three-ways",
      .about = "asynchronous sends of one thread with a callback; beside them the other ways",
      .work = 1000000,
      .quick = 60000,
      .memory = 150,
      .line = { RATE(""), RATE("-forget"), RATE("-future"), RATE("-sync"), RATE("-disk"),
                RATE("-disk-forget"), RATE("-disk-future"), RATE("-disk-sync"), TAIL("-p99"),
                TAIL("-forget-p99"), TAIL("-future-p99"), TAIL("-sync-p99"), TAIL("-disk-p99"),
                TAIL("-disk-forget-p99"), TAIL("-disk-future-p99"), TAIL("-disk-sync-p99") },
      .who = { { "leat", leat_three_ways }, { "librdkafka-mock", rdkafka_send } } },
    { .name = "send-bounded",
      .about = "with a callback, in memory, 5 MiB are kept, as librdkafka's mock does; -sync: sync",
      .work = 4000000,
      .quick = 400000,
      .memory = 50,
      .line = { RATE(""), RATE("-sync") },
      .who = { { "leat", leat_bounded }, { "librdkafka-mock", rdkafka_send } } },
    { .name = "async-batch",
      .about = "batches of 100 records, filled and sent by hand, in memory; -disk: acks DISK",
      .work = 2000000,
      .quick = 100000,
      .memory = 150,
      .line = { RATE(""), RATE("-disk") },
      .who = { { "leat", leat_batches }, { "leat_send_many", leat_many } } },
};

int main(int argc, char **argv) {
    return bench_main(argc, argv, table, sizeof table / sizeof table[0]);
}
