/* SPDX-License-Identifier: MIT */
// queue: messages that a worker receives and acknowledges. In memory; each is received alone. A
// message counts when it is acknowledged.
#include "leases.h"
#include "payload.h"
#include "peers.h"

#include <pthread.h>

enum { WORKERS = 4 };

static void leat_1t(struct run *r) {
    struct leases l;
    leases_open(&l, 16);
    double begin = now_s();
    for (size_t i = 0; i < r->work; i++) {
        leases_send(&l, 1);
        (void)leases_receive(&l, 1);
        leases_settle(&l);
    }
    r->figure[0] = (double)r->work / (now_s() - begin);
    leases_close(&l);
}

struct worker {
    leat_queue *q;
    pthread_t thread;
    struct tally seen;
};

// Until a message that is empty.
static void *work_all(void *arg) {
    struct worker *w = arg;
    for (size_t size = 1; size > 0;) {
        leat_message m;
        must(leat_queue_receive(w->q, LEAT_FOREVER, &m, 1), "leat_queue_receive");
        size = m.value.size;
        if (size > 0)
            tally_add(&w->seen, m.value.data, size);
        must(leat_queue_ack(w->q, &m), "leat_queue_ack");
    }
    return NULL;
}

static void leat_4w(struct run *r) {
    struct leases l;
    struct worker w[WORKERS];
    struct tally seen = { 0 };
    leases_open(&l, 16);
    double begin = now_s();
    for (int i = 0; i < WORKERS; i++) {
        w[i] = (struct worker){ .q = l.q };
        w[i].thread = start(work_all, &w[i]);
    }
    leases_send(&l, r->work);
    for (int i = 0; i < WORKERS; i++)
        must(leat_queue_send(l.q, &(leat_record){ .value = LEAT_STR("") }, NULL), "the last");
    for (int i = 0; i < WORKERS; i++)
        (void)pthread_join(w[i].thread, NULL);
    r->figure[0] = (double)r->work / (now_s() - begin);
    for (int i = 0; i < WORKERS; i++) {
        seen.count += w[i].seen.count;
        seen.sum += w[i].seen.sum;
        seen.torn += w[i].seen.torn;
    }
    tally_check(&seen, VALUE, r->work, 1);
    queue_check(l.q, r->work + WORKERS);
    must(leat_close_all(l.mq, 0), "leat_close_all");
}

// ---- workers that receive several at a time

enum { AT_A_TIME = 16, HANDLER_NS = 2000 };

struct bulk {
    leat_queue *q;
    pthread_t thread;
    struct tally seen;
    int64_t handler_ns; // what a message takes
};

static void bulk_handle(struct bulk *w, const leat_message *m) {
    double end = now_s() + (double)w->handler_ns / 1e9;
    tally_add(&w->seen, m->value.data, m->value.size);
    while (w->handler_ns > 0 && now_s() < end)
        continue;
}

// Until the queue is empty.
static void *bulk_work(void *arg) {
    struct bulk *w = arg;
    leat_message m[AT_A_TIME];
    for (;;) {
        int n = leat_queue_receive(w->q, 0, m, AT_A_TIME);
        must(n, "leat_queue_receive");
        if (n == 0)
            return NULL;
        for (int i = 0; i < n; i++) {
            bulk_handle(w, &m[i]);
            must(leat_queue_ack(w->q, &m[i]), "leat_queue_ack");
        }
    }
}

static double bulk_rate(size_t work, int workers, int64_t handler_ns) {
    struct leases l;
    struct bulk w[WORKERS];
    struct tally seen = { 0 };
    leases_open(&l, WORKERS * AT_A_TIME);
    leases_send(&l, work);
    double begin = now_s();
    for (int i = 0; i < workers; i++) {
        w[i] = (struct bulk){ .q = l.q, .handler_ns = handler_ns };
        w[i].thread = start(bulk_work, &w[i]);
    }
    for (int i = 0; i < workers; i++)
        (void)pthread_join(w[i].thread, NULL);
    double rate = (double)work / (now_s() - begin);
    for (int i = 0; i < workers; i++) {
        seen.count += w[i].seen.count;
        seen.sum += w[i].seen.sum;
        seen.torn += w[i].seen.torn;
    }
    tally_check(&seen, VALUE, work, 1);
    queue_check(l.q, work);
    must(leat_close_all(l.mq, 0), "leat_close_all");
    return rate;
}

static void leat_4w_16(struct run *r) {
    r->figure[0] = bulk_rate(r->work, WORKERS, 0);
    r->figure[1] = bulk_rate(r->work, 1, 0);
}

static void leat_4w_busy(struct run *r) {
    r->figure[0] = bulk_rate(r->work, WORKERS, HANDLER_NS);
    r->figure[1] = bulk_rate(r->work, 1, HANDLER_NS);
}

// As many as r->work stand in flight, and as many are received, each of which lets the oldest be
// acknowledged.
static void leat_1m_inflight(struct run *r) {
    struct leases l;
    leases_open(&l, r->work + 1);
    leases_send(&l, 2 * r->work);
    for (size_t n = r->work; n > 0;)
        n -= leases_receive(&l, n < 500 ? n : 500);
    double begin = now_s();
    for (size_t i = 0; i < r->work; i++) {
        (void)leases_receive(&l, 1);
        leases_settle(&l);
    }
    r->figure[0] = (double)r->work / (now_s() - begin);
    leases_close(&l);
}

static const struct bench table[] = {
    { .name = "queue-1t",
      .about = "send, receive and ack of one message at a time, one thread, in memory",
      .work = 1000000,
      .quick = 100000,
      .memory = 150,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_1t },
               { "limit", bare_queue },
               { "sqlite-memory", sqlite_memory_queue },
               { "sqlite-wal", sqlite_wal_queue },
               { "beanstalkd", beanstalkd_queue },
               { "redis", redis_queue } } },
    { .name = "queue-4w",
      .about = "one thread sends, four receive and ack one at a time, in memory",
      .work = 100000,
      .quick = 20000,
      .memory = 150,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_4w } } },
    { .name = "queue-4w-16",
      .about = "four receive what is there, 16 at a time, and ack each; -one-worker: one does",
      .work = 1000000,
      .quick = 200000,
      .memory = 250,
      .line = { { "", "op/s", "higher" }, { "-one-worker", "op/s", "higher" } },
      .who = { { "leat", leat_4w_16 } } },
    { .name = "queue-4w-busy",
      .about = "the same, and each message takes its worker 2 us",
      .work = 200000,
      .quick = 50000,
      .memory = 150,
      .line = { { "", "op/s", "higher" }, { "-one-worker", "op/s", "higher" } },
      .who = { { "leat", leat_4w_busy } } },
    { .name = "queue-1m-inflight",
      .about = "receive and ack of the oldest, with a million in flight (--quick: 100,000)",
      .work = 1000000,
      .quick = 100000,
      .memory = 500,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_1m_inflight } } },
};

int main(int argc, char **argv) {
    return bench_main(argc, argv, table, sizeof table / sizeof table[0]);
}
