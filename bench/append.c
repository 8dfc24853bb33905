/* SPDX-License-Identifier: MIT */
// append: what it costs to send a message that is kept: in memory, in files, and until the disk
// has it. After the clock all is read back.
#include "durable.h"
#include "kept.h"
#include "payload.h"
#include "peers.h"

#include <pthread.h>

enum { LARGE = 1024 };

// ---- acks LOG

struct sender {
    struct log *l;
    size_t size;
    uint64_t first, step, end; // the numbers of its messages
};

static void *send_all(void *arg) {
    struct sender *s = arg;
    unsigned char value[LARGE];
    payload_init(value, s->size);
    leat_record r = { .value = { value, s->size } };
    for (uint64_t i = s->first; i < s->end; i += s->step) {
        payload_number(value, s->size, i);
        must(leat_send(s->l->p, s->l->t, &r, NULL), "leat_send");
    }
    return NULL;
}

static void append(struct run *r, const char *dir, size_t size) {
    struct log l;
    log_open(&l, dir, LEAT_ACKS_LOG);
    struct sender s = { &l, size, 0, 1, r->work };
    double begin = now_s();
    (void)send_all(&s);
    r->figure[0] = (double)r->work / (now_s() - begin);
    log_check(&l, size, r->work);
}

static void leat_memory(struct run *r) {
    append(r, NULL, VALUE);
}

static void leat_disk(struct run *r) {
    append(r, r->dir, VALUE);
}

static void leat_1k(struct run *r) {
    append(r, NULL, LARGE);
}

static void leat_2p(struct run *r) {
    struct log l;
    log_open(&l, NULL, LEAT_ACKS_LOG);
    struct sender even = { &l, VALUE, 0, 2, r->work }, odd = { &l, VALUE, 1, 2, r->work };
    double begin = now_s();
    pthread_t other = start(send_all, &odd);
    (void)send_all(&even);
    (void)pthread_join(other, NULL);
    r->figure[0] = (double)r->work / (now_s() - begin);
    log_check(&l, VALUE, r->work);
}

// ---- acks DISK

static void store(void *ctx, uint64_t first, size_t n) {
    struct log *l = ctx;
    unsigned char value[DURABLE_BATCH][VALUE];
    leat_record r[DURABLE_BATCH];
    durable_values(value, first, n);
    for (size_t i = 0; i < n; i++)
        r[i] = (leat_record){ .value = { value[i], VALUE } };
    if (n == 1)
        must(leat_send(l->p, l->t, r, NULL), "leat_send");
    else
        must(leat_send_many(l->p, l->t, r, n, NULL), "leat_send_many");
}

static void durable(struct run *r, int threads, size_t batch) {
    struct log l;
    log_open(&l, r->dir, LEAT_ACKS_DISK);
    struct durable d = { store, &l, threads, batch };
    log_check(&l, VALUE, durable_run(r, &d));
}

static void leat_durable_1(struct run *r) {
    durable(r, 1, 1);
}

static void leat_durable_16(struct run *r) {
    durable(r, DURABLE_THREADS, 1);
}

static void leat_many_100(struct run *r) {
    durable(r, 1, DURABLE_BATCH);
}

#define DURABLE_LINES                                                                              \
    { "", "op/s", "higher" }, LATENCY_LINES, {                                                     \
        "-bytes-per-ack", "bytes", "lower"                                                         \
    }

static const struct bench table[] = {
    { .name = "append-memory",
      .about = "sends by one thread, in memory",
      .work = 2000000,
      .quick = 200000,
      .memory = 150,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_memory },
               { "limit", bare_memory_append },
               { "sqlite-memory", sqlite_memory_append } } },
    { .name = "append-disk",
      .about = "sends by one thread into files, acks LOG: they survive kill -9",
      .work = 2000000,
      .quick = 200000,
      .memory = 150,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_disk },
               { "limit", bare_disk_append },
               { "sqlite-wal", sqlite_wal_append },
               { "redis", redis_append } } },
    { .name = "append-durable-1",
      .about = "sends by one thread, acks DISK: each waits until the disk has it",
      .work = 2000,
      .quick = 200,
      .line = { DURABLE_LINES },
      .who = { { "leat", leat_durable_1 },
               { "fdatasync-loop", bare_durable_1 },
               { "sqlite-full", sqlite_full_durable_1 } } },
    { .name = "append-durable-16",
      .about = "sends by 16 threads, acks DISK",
      .work = 16000,
      .quick = 800,
      .line = { DURABLE_LINES },
      .who = { { "leat", leat_durable_16 },
               { "fdatasync-loop", bare_durable_16 },
               { "sqlite-full", sqlite_full_durable_16 } } },
    { .name = "append-1k",
      .about = "sends of 1,024 bytes by one thread, in memory",
      .work = 400000,
      .quick = 50000,
      .memory = 1100,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_1k }, { "limit", bare_1k_append } } },
    { .name = "append-2p",
      .about = "sends by two threads into one partition, in memory: both together",
      .work = 2000000,
      .quick = 200000,
      .memory = 150,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_2p } } },
    { .name = "send-many-100",
      .about = "records sent 100 at a time, acks DISK",
      .work = 100000,
      .quick = 10000,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_many_100 },
               { "fdatasync-loop", bare_durable_100 },
               { "sqlite-full", sqlite_full_durable_100 } } },
};

int main(int argc, char **argv) {
    return bench_main(argc, argv, table, sizeof table / sizeof table[0]);
}
