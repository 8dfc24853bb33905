/* SPDX-License-Identifier: MIT */
// scale: what an operation costs when there is little and when there is much of something; 1 is
// flat. Each point is the median of batches; the points behind r->work are left out.
#include "leases.h"
#include "payload.h"
#include "peers.h"
#include "scale.h"

#include <stdio.h>
#include <stdlib.h>

enum { BATCHES = 9, BATCH = 1000 };

struct log {
    leat *mq;
    leat_topic **t;
    leat_position *at;
    size_t topics;
    leat_producer *p;
    leat_consumer *c; // assigned to all
    uint64_t sent;
    unsigned char value[VALUE];
};

static void log_open(struct log *l, size_t topics) {
    *l = (struct log){ .topics = topics };
    payload_init(l->value, VALUE);
    l->t = calloc(topics, sizeof l->t[0]);
    l->at = calloc(topics, sizeof l->at[0]);
    need(l->t && l->at, "malloc");
    must(leat_open_memory(&(leat_options){ .memory_max_bytes = LEAT_UNLIMITED }, &l->mq),
         "leat_open_memory");
    must(leat_producer_open(l->mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &l->p),
         "leat_producer_open");
    must(leat_consumer_open(l->mq, NULL, NULL, &l->c), "leat_consumer_open");
    for (size_t i = 0; i < topics; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "topic-%zu", i);
        must(leat_topic_open(l->mq, name, NULL, &l->t[i]), "leat_topic_open");
    }
}

static inline void log_send_to(struct log *l, size_t topic) {
    leat_record r = { .value = { l->value, VALUE } };
    payload_number(l->value, VALUE, l->sent++);
    must(leat_send(l->p, l->t[topic], &r, NULL), "leat_send");
}

// Sends the next n, to the topics in turn.
static void log_send(struct log *l, size_t n) {
    size_t topic = l->sent % l->topics;
    for (; n > 0; n--) {
        log_send_to(l, topic);
        topic = topic + 1 == l->topics ? 0 : topic + 1;
    }
}

static void log_spread(struct log *l) {
    for (size_t topic = 0; topic < l->topics; topic++)
        for (size_t i = 0; i < topic_ahead(topic); i++)
            log_send_to(l, topic);
}

// All topics from there.
static void log_assign(struct log *l, int64_t offset) {
    leat_topic_info *info = calloc(l->topics, sizeof *info);
    need(info != NULL, "malloc");
    must(leat_topic_list(l->mq, info, l->topics, sizeof *info), "leat_topic_list");
    for (size_t i = 0; i < l->topics; i++)
        l->at[i] = (leat_position){ .topic = info[i].name, .offset = offset };
    must(leat_consumer_assign(l->c, l->at, l->topics), "leat_consumer_assign");
    free(info);
}

// Reads all back and closes.
static void log_check(struct log *l) {
    struct tally seen = { 0 };
    const leat_message *m;
    int got;
    log_assign(l, LEAT_BEGIN);
    while ((got = leat_poll(l->c, 0, &m)) > 0)
        for (int i = 0; i < got; i++)
            tally_add(&seen, m[i].value.data, m[i].value.size);
    must(got, "leat_poll");
    tally_check(&seen, VALUE, l->sent, 1);
    must(leat_close_all(l->mq, 0), "leat_close_all");
    free(l->t);
    free(l->at);
}

// Sends and polls, each message alone. Returns  seconds.
static double send_and_poll(struct log *l, size_t n) {
    struct tally seen = { 0 };
    const leat_message *m;
    double begin = now_s();
    for (size_t i = 0; i < n; i++) {
        log_send(l, 1);
        int got = leat_poll(l->c, 0, &m);
        must(got, "leat_poll");
        if (got != 1)
            fail("%d messages instead of the one that was sent", got);
        tally_add(&seen, m->value.data, m->value.size);
    }
    double took = now_s() - begin;
    if (seen.count != n || seen.torn)
        fail("messages arrived, but not as they were sent");
    return took;
}

// 10^3 .. 10^7 records, and the few thousand of the batches, are in the partition.
static void leat_messages(struct run *r) {
    struct log l;
    int points = 0;
    log_open(&l, 1);
    for (size_t point = 1000; point <= r->work; point *= 10) {
        double took[BATCHES];
        if (l.sent < point)
            log_send(&l, point - l.sent);
        log_assign(&l, LEAT_END);
        (void)send_and_poll(&l, BATCH); // caches are as in the middle of it
        for (int i = 0; i < BATCHES; i++)
            took[i] = send_and_poll(&l, BATCH);
        r->figure[++points] = scale_cost(took, BATCHES, BATCH);
    }
    scale_ratio(r, points);
    log_check(&l);
}

// 1 .. 10^4 topics, each point with a store of its own.
static void leat_topics(struct run *r) {
    int points = 0;
    for (size_t point = 1; point <= r->work; point *= 10) {
        struct log l;
        double took[TOPIC_TIMES];
        log_open(&l, point);
        log_spread(&l);
        log_send(&l, r->work * TOPIC_ROUNDS); // each has its memory
        for (int i = 0; i < TOPIC_TIMES; i++) {
            double begin = now_s();
            log_send(&l, r->work * TOPIC_ROUNDS);
            took[i] = now_s() - begin;
        }
        r->figure[++points] = scale_cost(took, TOPIC_TIMES, r->work * TOPIC_ROUNDS);
        log_check(&l);
    }
    scale_ratio(r, points);
}

// 10 .. 10^6 in flight; the oldest is settled.
static void leat_leases(struct run *r) {
    struct leases l;
    int points = 0;
    leases_open(&l, r->work + 1);
    for (size_t point = 10; point <= r->work; point *= 10) {
        double took[BATCHES + 1];
        leases_send(&l, point - (l.received - l.settled) + (BATCHES + 1) * BATCH);
        while (l.received - l.settled < point)
            (void)leases_receive(&l, point - (l.received - l.settled));
        for (int i = 0; i < BATCHES + 1; i++) {
            double begin = now_s();
            for (int k = 0; k < BATCH; k++) {
                (void)leases_receive(&l, 1);
                leases_settle(&l);
            }
            took[i] = now_s() - begin;
        }
        r->figure[++points] = scale_cost(took + 1, BATCHES, BATCH); // the first warms
    }
    scale_ratio(r, points);
    leases_close(&l);
}

#define POINT(suffix)                                                                              \
    { suffix, "us", "lower" }

static const struct bench table[] = {
    { .name = "scale-messages",
      .about = "send and poll with 10^3 to 10^7 records in the partition (--quick: to 10^6)",
      .work = 10000000,
      .quick = 1000000,
      .memory = 150,
      .line = { { "", "ratio", "lower" },
                POINT("-1e3"),
                POINT("-1e4"),
                POINT("-1e5"),
                POINT("-1e6"),
                POINT("-1e7") },
      .who = { { "leat", leat_messages } } },
    { .name = "scale-topics",
      .about = "a send to 1 to 10^4 topics in turn (--quick: to 10^3)",
      .work = 10000,
      .quick = 1000,
      .memory = 20000,
      .line = { { "", "ratio", "lower" },
                POINT("-1e0"),
                POINT("-1e1"),
                POINT("-1e2"),
                POINT("-1e3"),
                POINT("-1e4") },
      .who = { { "leat", leat_topics }, { "limit", bare_topics } } },
    { .name = "scale-leases",
      .about = "receive and ack of the oldest with 10 to 10^6 in flight (--quick: to 10^5)",
      .work = 1000000,
      .quick = 100000,
      .memory = 350,
      .line = { { "", "ratio", "lower" },
                POINT("-1e1"),
                POINT("-1e2"),
                POINT("-1e3"),
                POINT("-1e4"),
                POINT("-1e5"),
                POINT("-1e6") },
      .who = { { "leat", leat_leases } } },
};

int main(int argc, char **argv) {
    return bench_main(argc, argv, table, sizeof table / sizeof table[0]);
}
