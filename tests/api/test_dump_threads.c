/* SPDX-License-Identifier: MIT */
// leat_dump while others are at work: they send, receive, subscribe, open and close handles, make
// and delete topics. Who works counts what fails; the test looks at the count.
#include "lib/queues.h"
#include "lib/report.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

enum { DUMPS = 100 };

static atomic_bool over;
static atomic_int failures, rounds;

// expect: the call gives at least that; else it is counted.
static void expect(int least, int rc) {
    if (rc < least)
        atomic_fetch_add(&failures, 1);
}

static void untold(leat_producer *p, const leat_report *r, void *ctx) {
    (void)p;
    (void)r;
    atomic_fetch_add((atomic_int *)ctx, 1);
}

static void unheard(leat_subscription *s, const leat_message *got, void *ctx) {
    (void)s;
    (void)got;
    (void)ctx;
}

// ---- who is at work: one round each

static void send_round(void) {
    leat_producer *p;
    leat_topic *t;
    atomic_int told = 0;
    leat_record r = { .key = LEAT_STR("k"), .value = LEAT_STR("v") };
    expect(0, leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 3 }, &t));
    expect(0, leat_producer_open(mq, &(leat_producer_options){ .name = "p" }, &p));
    for (int i = 0; i < 20; i++) {
        expect(0, leat_send(p, t, &r, NULL));
        expect(0, leat_send_async(p, t, &r, untold, &told));
    }
    expect(0, leat_producer_close(p, 1000));
    if (atomic_load(&told) != 20)
        atomic_fetch_add(&failures, 1);
}

static void queue_round(void) {
    leat_queue *q;
    leat_message got;
    leat_queue_options o = { .deliveries_max = 2 };
    expect(0, leat_queue_open(mq, "q", &o, &q));
    for (int i = 0; i < 5; i++) {
        expect(0, leat_queue_send(q, &(leat_record){ .value = LEAT_STR("v") }, NULL));
        expect(1, leat_queue_receive(q, 0, &got, 1));
        expect(0, i % 2 ? leat_queue_ack(q, &got) : leat_queue_nack(q, &got, 1, 0));
    }
    expect(0, leat_queue_close(q));
}

static void group_round(void) {
    leat_consumer *c;
    leat_topic *t;
    const leat_message *got;
    expect(0, leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 3 }, &t));
    expect(0, leat_consumer_open(mq, "g", &(leat_consumer_options){ .name = "c" }, &c));
    expect(0, leat_consumer_subscribe(c, "t"));
    expect(0, leat_poll(c, 0, &got));
    expect(0, leat_commit(c));
    expect(0, leat_consumer_close(c));
}

static void listen_round(void) {
    leat_subscription *s[2];
    leat_subscription_options o = { .buffer = 2, .name = "s" };
    expect(0, leat_channel_subscribe(mq, "a.*", unheard, NULL, &o, &s[0]));
    expect(0, leat_channel_subscribe(mq, "a.b", unheard, NULL, NULL, &s[1]));
    expect(2, leat_publish(mq, "a.b", "x", 1));
    expect(0, leat_subscription_close(s[0], 0));
    expect(0, leat_subscription_close(s[1], 0));
}

static void admin_round(void) {
    leat_topic *t;
    leat_queue *q;
    expect(0, leat_topic_open(mq, "brief", NULL, &t));
    expect(0, leat_queue_open(mq, "short", NULL, &q));
    expect(0, leat_queue_close(q));
    expect(0, leat_queue_delete(mq, "short"));
    expect(0, leat_topic_delete(mq, "brief"));
}

static void *at_work(void *round) {
    while (!atomic_load(&over)) {
        (*(void (**)(void))round)();
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static int whole_lines(const void *data, size_t size, void *ctx) {
    const char *text = data;
    *(bool *)ctx = size > 0 && text[size - 1] == '\n' && memcmp(text, "store: ", 7) == 0;
    return 0;
}

Test(dump_threads, is_whole_while_others_are_at_work) {
    static void (*round[])(void) = { send_round, queue_round, group_round, listen_round,
                                     admin_round };
    enum { WORKERS = sizeof round / sizeof round[0] };
    pthread_t thread[WORKERS];
    ok(leat_open_memory(&(leat_options){ .acks = LEAT_ACKS_LOG }, &mq));
    for (int i = 0; i < WORKERS; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, at_work, &round[i]), 0);
    for (int i = 0; i < DUMPS || atomic_load(&rounds) < DUMPS; i++) {
        bool whole = false;
        ok(leat_dump(mq, whole_lines, &whole));
        cr_assert(whole);
    }
    atomic_store(&over, true);
    for (int i = 0; i < WORKERS; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    cr_assert_eq(atomic_load(&failures), 0);
    report_begin();
    ok(leat_dump(mq, report_take, NULL));
    says("topic t: partitions 3\n");
    cr_assert_null(strstr(report, "\nopen: "));
    cr_assert_null(strstr(report, "producer"));
    ok(leat_close_all(mq, 0));
}
