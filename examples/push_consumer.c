/* SPDX-License-Identifier: MIT */
// push_consumer: a handler on four threads. Payments of one account must stay in order, so the
// account is the key: a key has one partition, and a partition's messages come one at a time. What
// to look at: each account is in order, whatever the threads do; a payment that fails is tried
// again and holds back its own partition alone; what never succeeds is in the dead-letter topic.
#include "leat.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

static char paid[3][64]; // an account is one handler's at a time, so there is no lock
static int used[3];
static sem_t ended;

static void must(int rc) {
    if (rc < 0)
        exit((puts(leat_errmsg()), 1));
}

static int pay(leat_workers *w, const leat_message *m, int64_t *retry_delay_ms, void *ctx) {
    int who = *(const char *)m->key.data - 'a', amount = atoi(m->value.data);
    (void)w, (void)retry_delay_ms, (void)ctx;
    if (amount == 222 && m->deliveries < 3)
        return LEAT_RETRY; // the bank does not answer
    if (amount >= 0)
        used[who] += snprintf(paid[who] + used[who], 16, " %d/%d", amount, m->deliveries);
    sem_post(&ended);
    return amount >= 0 ? LEAT_DONE : LEAT_DEAD;
}

int main(void) {
    static const char *const sent[] = { "a10", "b20", "c30", "a11", "b222", "c-1", "a12" };
    const leat_worker_options four = { .threads = 4, .retry_ms = 1, .dead_letter = "dead" };
    leat *mq;
    leat_topic *t, *dead;
    leat_producer *p;
    leat_consumer *c;
    leat_workers *w;
    leat_range letters;
    must(leat_open_memory(NULL, &mq));
    must(leat_topic_open(mq, "payments", &(leat_topic_options){ .partitions = 8 }, &t));
    must(leat_topic_open(mq, "dead", NULL, &dead));
    must(leat_producer_open(mq, NULL, &p));
    must(leat_consumer_open(mq, "bank", NULL, &c));
    must(leat_consumer_subscribe(c, "payments"));
    must(sem_init(&ended, 0, 0));
    must(leat_consumer_start(c, pay, NULL, &four, &w));
    for (int i = 0; i < 7; i++)
        must(leat_send(
            p, t, &(leat_record){ .key = { sent[i], 1 }, .value = leat_str(sent[i] + 1) }, NULL));
    for (int i = 0; i < 7; i++)
        (void)sem_wait(&ended);
    must(leat_workers_stop(w, LEAT_FOREVER)); // now no handler runs, and none will
    must(leat_topic_range(dead, 0, &letters));
    printf("amount/try of a:%s, b:%s, c:%s\n", paid[0], paid[1], paid[2]);
    printf("dead letters: %lld\n", (long long)letters.end);
    return leat_close_all(mq, 0) == 0 ? 0 : 1;
}
