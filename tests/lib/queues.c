/* SPDX-License-Identifier: MIT */
#include "lib/queues.h"

#include "lib/fixture.h"

#include <stdio.h>

leat_message m, n;

void queues_open(int32_t clock, uint64_t seed) {
    leat_options o = { .clock = clock,
                       .seed = seed,
                       .acks = LEAT_ACKS_LOG,
                       .flags = LEAT_CRASHABLE,
                       .threads = clock == LEAT_CLOCK_JUMP ? LEAT_NO_THREADS : 0 };
    ok(leat_open_memory(&o, &mq));
}

void queues_open_disk(int32_t write) {
    leat_options o = {
        .clock = LEAT_CLOCK_MANUAL, .seed = 7, .acks = LEAT_ACKS_LOG, .write = write
    };
    ok(leat_open(dir, &o, &mq));
}

void queues_crash(int how) {
    leat *again;
    ok(leat_crash(mq, how, &again));
    ok(leat_close_all(mq, 0));
    mq = again;
}

leat_queue *queues_make(const char *name, const leat_queue_options *o) {
    leat_queue *q;
    ok(leat_queue_open(mq, name, o, &q));
    return q;
}

void queues_send(leat_queue *q, const char *text) {
    ok(leat_queue_send(q, &(leat_record){ .value = leat_str(text) }, NULL));
}

void queues_send_n(leat_queue *q, int count, size_t size) {
    static char bytes[70000];
    for (int i = 0; i < count; i++) {
        int digits = snprintf(bytes, sizeof bytes, "%d", i);
        size_t all = (size_t)digits < size ? size : (size_t)digits;
        ok(leat_queue_send(q, &(leat_record){ .value = { bytes, all } }, NULL));
    }
}

leat_queue_stats queues_stats(leat_queue *q) {
    leat_queue_stats s;
    ok(leat_queue_get_stats(q, &s, sizeof s));
    return s;
}

static int queues_write(const void *data, size_t size, void *ctx) {
    snprintf(ctx, 4096, "%.*s", (int)size, (const char *)data);
    return 0;
}

const char *queues_explain(leat_queue *q, int32_t partition, int64_t offset) {
    static char text[4096];
    ok(leat_queue_explain(q, partition, offset, queues_write, text));
    return text;
}
