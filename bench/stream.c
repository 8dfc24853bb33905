/* SPDX-License-Identifier: MIT */
// stream: a producer thread sends, consumer threads poll what it sends at the same time, and commit
// after each poll. The topic is bounded, as the queues of others are: it keeps a MiB or what a
// group has not committed; stream-1p1c-kept keeps all that was sent.
#include "payload.h"
#include "peers.h"

#include <pthread.h>

enum { GROUPS_MAX = 3, SILENCE_MS = 10000 };

struct sender {
    leat *mq;
    leat_topic *t;
    size_t work;
};

static void *send_all(void *arg) {
    struct sender *s = arg;
    leat_producer *p;
    unsigned char value[VALUE];
    payload_init(value, sizeof value);
    must(leat_producer_open(s->mq, NULL, &p), "leat_producer_open");
    leat_record r = { .value = { value, sizeof value } };
    for (size_t i = 0; i < s->work; i++) {
        payload_number(value, sizeof value, i);
        must(leat_send(p, s->t, &r, NULL), "leat_send");
    }
    must(leat_producer_close(p, LEAT_FOREVER), "leat_producer_close");
    return NULL;
}

struct reader {
    leat_consumer *c;
    size_t work;
    struct tally seen;
};

static void *poll_all(void *arg) {
    struct reader *r = arg;
    const leat_message *m;
    for (size_t got = 0; got < r->work;) {
        int n = leat_poll(r->c, SILENCE_MS, &m);
        must(n, "leat_poll");
        if (n == 0)
            fail("%zu messages of %zu arrived, and no more", got, r->work);
        got += (size_t)n;
        for (int i = 0; i < n; i++)
            tally_add(&r->seen, m[i].value.data, m[i].value.size);
        must(leat_commit(r->c), "leat_commit");
    }
    return NULL;
}

static const leat_topic_options bounded = { .segment_bytes = 256 * 1024,
                                            .retention_bytes = 1024 * 1024,
                                            .keep_until_consumed = 1 };

static void stream(struct run *r, int groups, const leat_topic_options *o) {
    static const char *const group[GROUPS_MAX] = { "one", "two", "three" };
    struct sender s = { .work = r->work };
    struct reader reader[GROUPS_MAX];
    pthread_t thread[GROUPS_MAX];
    must(leat_open_memory(&(leat_options){ .memory_max_bytes = LEAT_UNLIMITED }, &s.mq),
         "leat_open_memory");
    must(leat_topic_open(s.mq, "t", o, &s.t), "leat_topic_open");
    for (int i = 0; i < groups; i++) {
        reader[i] = (struct reader){ .work = r->work };
        must(leat_consumer_open(s.mq, group[i], NULL, &reader[i].c), "leat_consumer_open");
        must(leat_consumer_subscribe(reader[i].c, "t"), "leat_consumer_subscribe");
    }
    double begin = now_s();
    pthread_t producer = start(send_all, &s);
    for (int i = 1; i < groups; i++)
        thread[i] = start(poll_all, &reader[i]);
    (void)poll_all(&reader[0]);
    for (int i = 1; i < groups; i++)
        (void)pthread_join(thread[i], NULL);
    r->figure[0] = (double)r->work * groups / (now_s() - begin);
    (void)pthread_join(producer, NULL);
    for (int i = 0; i < groups; i++)
        tally_check(&reader[i].seen, VALUE, r->work, 1);
    must(leat_close_all(s.mq, 0), "leat_close_all");
}

static void leat_1p1c(struct run *r) {
    stream(r, 1, &bounded);
}

static void leat_1p1c_kept(struct run *r) {
    stream(r, 1, NULL);
}

static void leat_3groups(struct run *r) {
    stream(r, 3, &bounded);
}

static const struct bench table[] = {
    { .name = "stream-1p1c",
      .about = "messages from one thread to another, in memory",
      .work = 4000000,
      .quick = 400000,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_1p1c },
               { "spsc-ring", ring_spsc_stream },
               { "mutex-ring", ring_mutex_stream },
               { "moodycamel", moodycamel_stream },
               { "moodycamel-bulk", moodycamel_bulk_stream },
               { "gasyncqueue", glib_stream },
               { "zeromq", zeromq_stream },
               { "nng", nng_push_stream } } },
    { .name = "stream-1p1c-kept",
      .about = "the same, and nothing of it is forgotten",
      .work = 4000000,
      .quick = 400000,
      .memory = 150,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_1p1c_kept } } },
    { .name = "stream-3groups",
      .about = "deliveries to three groups, a thread each, in memory",
      .work = 2000000,
      .quick = 200000,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_3groups } } },
};

int main(int argc, char **argv) {
    return bench_main(argc, argv, table, sizeof table / sizeof table[0]);
}
