/* SPDX-License-Identifier: MIT */
// rdkafka: librdkafka with the mock cluster that it brings for tests: a broker in the process,
// which is what its users take where others open a store in memory.
#include "peers.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdlib.h>

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
