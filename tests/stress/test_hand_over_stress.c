/* SPDX-License-Identifier: MIT */
// Two threads that hand each other one record at a time: a wake-up that is missed is a stall, and
// the poll that waits for it ends with nothing.
#include "leat.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { HAND_OVERS = 60000 };
#else
enum { HAND_OVERS = 1000000 };
#endif
enum { STALL_MS = 60000 };

static leat *mq;
static const char *const names[] = { "there", "back" };

struct side {
    int number; // 0 begins
    const char *fault;
    int fault_at;
};

static const char *hand_over(struct side *s, leat_producer *p, leat_topic *to, leat_consumer *c) {
    for (int i = 0; i < HAND_OVERS / 2; i++) {
        const leat_message *m;
        leat_record r = { .value = { &i, sizeof i } };
        s->fault_at = i;
        if (s->number == 0 && leat_send(p, to, &r, NULL) != 0)
            return "a send failed";
        int n = leat_poll(c, STALL_MS, &m);
        if (n != 1)
            return n == 0 ? "stalled" : "not one at a time";
        if (m->offset != i || memcmp(m->value.data, &i, sizeof i) != 0)
            return "not the next one";
        if (leat_commit(c) != 0)
            return "a commit failed";
        if (s->number == 1 && leat_send(p, to, &r, NULL) != 0)
            return "a send failed";
    }
    return NULL;
}

static void *play(void *arg) {
    struct side *s = arg;
    leat_topic *to = NULL;
    leat_producer *p = NULL;
    leat_consumer *c = NULL;
    // What was read goes, so that a million records need no room.
    leat_topic_options o = { .segment_bytes = 65536,
                             .retention_records = 1,
                             .keep_until_consumed = 1 };
    int rc = leat_topic_open(mq, names[s->number], &o, &to);
    if (rc == 0)
        rc = leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p);
    if (rc == 0)
        rc = leat_topic_open(mq, names[!s->number], &o, &to);
    if (rc == 0)
        rc = leat_consumer_open(mq, names[s->number], NULL, &c);
    if (rc == 0)
        rc = leat_consumer_subscribe(c, names[s->number]);
    s->fault = rc == 0 ? hand_over(s, p, to, c) : "not opened";
    return NULL;
}

Test(hand_over, of_single_records_between_two_threads_never_stalls) {
    struct side side[2] = { { .number = 0 }, { .number = 1 } };
    pthread_t thread[2];
    ok(leat_open_memory(NULL, &mq));
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, play, &side[i]), 0);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    for (int i = 0; i < 2; i++)
        cr_assert_null(side[i].fault, "side %d, hand-over %d: %s", i, side[i].fault_at,
                       side[i].fault);
    ok(leat_close_all(mq, 0));
}
