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
