/* SPDX-License-Identifier: MIT */
// rdkafka: librdkafka with the mock cluster that it brings for tests: a broker in the process,
// which is what its users take where others open a store in memory. It keeps only the latest
// 5 MiB of a partition, so what is checked is what its delivery reports show of each message.
#include "histogram.h"
#include "payload.h"
#include "peers.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdlib.h>

enum { RDKAFKA_LESS = 4, RDKAFKA_SAMPLE = 61, RDKAFKA_WAIT_MS = 60000 };

static void rdkafka_set(rd_kafka_conf_t *conf, const char *key, const char *value) {
    char why[200];
    if (rd_kafka_conf_set(conf, key, value, why, sizeof why) != RD_KAFKA_CONF_OK)
        fail("%s", why);
}

// A thousandth of the work: it is that much slower. A producer with a cluster of one broker
// is up when its listening address can be told; no connection is waited for.
void rdkafka_open_close(struct run *r) {
    char why[200];
    size_t work = (r->work + 999) / 1000;
    double begin = now_s();
    for (size_t i = 0; i < work; i++) {
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        rdkafka_set(conf, "test.mock.num.brokers", "1");
        rdkafka_set(conf, "log_level", "0");
        rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
        if (!rk)
            fail("rd_kafka_new: %s", why);
        rd_kafka_mock_cluster_t *mock = rd_kafka_handle_mock_cluster(rk);
        if (!mock || !rd_kafka_mock_cluster_bootstraps(mock)[0])
            fail("the mock cluster is not up");
        rd_kafka_destroy(rk);
    }
    r->figure[0] = (now_s() - begin) * 1e6 / (double)work;
}

// ---- sends with delivery reports

struct rdkafka_reports {
    struct tally seen;
    struct histogram latency;
};

// A timed message has its time as its opaque, others have none.
static void rdkafka_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
    (void)rk;
    struct rdkafka_reports *t = opaque;
    if (m->err)
        fail("a report of librdkafka: %s", rd_kafka_err2str(m->err));
    tally_add(&t->seen, m->payload, m->len);
    if (m->_private)
        histogram_add(&t->latency, now_ns() - (uint64_t)(uintptr_t)m->_private);
}

static rd_kafka_t *rdkafka_producer(struct rdkafka_reports *t) {
    char why[200];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rdkafka_set(conf, "test.mock.num.brokers", "1");
    rdkafka_set(conf, "log_level", "0");
    rdkafka_set(conf, "acks", "1");
    rdkafka_set(conf, "queue.buffering.max.messages", "1000000");
    rd_kafka_conf_set_dr_msg_cb(conf, rdkafka_report);
    rd_kafka_conf_set_opaque(conf, t);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!rk)
        fail("rd_kafka_new: %s", why);
    if (rd_kafka_mock_topic_create(rd_kafka_handle_mock_cluster(rk), "t", 1, 1))
        fail("rd_kafka_mock_topic_create");
    return rk;
}

static void rdkafka_produce(rd_kafka_t *rk, rd_kafka_topic_t *topic, uint64_t i) {
    unsigned char value[VALUE];
    payload_init(value, VALUE);
    payload_number(value, VALUE, i);
    void *at = i % RDKAFKA_SAMPLE == 0 ? (void *)(uintptr_t)now_ns() : NULL;
    while (rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, value, VALUE, NULL, 0, at) != 0) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            fail("rd_kafka_produce: %s", rd_kafka_err2str(rd_kafka_last_error()));
        (void)rd_kafka_poll(rk, 1);
    }
}

// The first message is outside of the clock: with it the connection is made.
void rdkafka_send(struct run *r) {
    static struct rdkafka_reports t;
    size_t work = r->work / RDKAFKA_LESS + 1;
    rd_kafka_t *rk = rdkafka_producer(&t);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, "t", NULL);
    need(topic != NULL, "rd_kafka_topic_new");
    rdkafka_produce(rk, topic, 0);
    if (rd_kafka_flush(rk, RDKAFKA_WAIT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        fail("rd_kafka_flush has left some");
    memset(&t.latency, 0, sizeof t.latency);
    double begin = now_s();
    for (size_t i = 1; i <= work; i++) {
        rdkafka_produce(rk, topic, i);
        (void)rd_kafka_poll(rk, 0);
    }
    if (rd_kafka_flush(rk, RDKAFKA_WAIT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        fail("rd_kafka_flush has left some");
    r->figure[0] = (double)work / (now_s() - begin);
    r->figure[8] = histogram_us(&t.latency, 0.99);
    tally_check(&t.seen, VALUE, work + 1, 1);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
}
