/* SPDX-License-Identifier: MIT */
// Faults that a user plans for the tests of his own code: each kind of call fails as a real failure
// would, as often as planned, and then works again.
#include "leat.h"
#include "leat_test.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>

static leat *mq;
static leat_topic *t;
static leat_producer *p;
static const leat_record record = { .value = { "x", 1 } };

static void open_store(int32_t acks) {
    leat_options o = { .threads = LEAT_NO_THREADS, .clock = LEAT_CLOCK_JUMP, .acks = acks };
    ok(leat_open_memory(&o, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 2 }, &t));
    ok(leat_producer_open(mq, NULL, &p));
}

static int send_to(int32_t partition) {
    leat_record r = record;
    r.to_partition = LEAT_PARTITION(partition);
    return leat_send(p, t, &r, NULL);
}

static int64_t end_of(int32_t partition) {
    leat_range r;
    ok(leat_topic_range(t, partition, &r));
    return r.end;
}

Test(fault, sends_fail_as_often_as_planned_first_in_first_out) {
    open_store(LEAT_ACKS_LOG);
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 1, LEAT_ENOSPC, 2, 0));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, NULL, -1, LEAT_EIO, 1, 0));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "other", -1, LEAT_EFULL, LEAT_FOREVER, 0));
    fails_saying(LEAT_ENOSPC, "planned", send_to(1));
    fails(LEAT_EIO, send_to(0)); // the first one is of partition 1 alone
    fails(LEAT_ENOSPC, send_to(1));
    ok(send_to(1));
    ok(send_to(0));
    cr_assert(end_of(0) == 1 && end_of(1) == 1);
    ok(leat_fault_push(mq, LEAT_OP_SPACE, NULL, -1, LEAT_ENOSPC, LEAT_FOREVER, 0));
    for (int i = 0; i < 5; i++)
        fails(LEAT_ENOSPC, send_to(0));
    ok(leat_fault_clear(mq));
    ok(send_to(0));
    ok(leat_close_all(mq, 0));
}

Test(fault, a_failed_sync_poisons_its_partition) {
    open_store(LEAT_ACKS_DISK);
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 0, LEAT_EIO, 1, 0));
    fails(LEAT_EIO, send_to(0));
    cr_assert_eq(end_of(0), 1, "it is in the log, and nobody knows what is on disk");
    fails(LEAT_EPOISONED, send_to(0));
    ok(send_to(1));
    ok(leat_close_all(mq, 0));
}

Test(fault, queues_fail_and_their_leases_stand) {
    open_store(LEAT_ACKS_LOG);
    leat_queue *q;
    leat_message m;
    ok(leat_queue_open(mq, "q", NULL, &q));
    ok(leat_queue_send(q, &record, NULL));
    ok(leat_fault_push(mq, LEAT_OP_RECEIVE, "q", -1, LEAT_EIO, 1, 0));
    fails(LEAT_EIO, leat_queue_receive(q, 0, &m, 1));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    cr_assert_eq(m.deliveries, 1);
    ok(leat_fault_push(mq, LEAT_OP_SETTLE, "q", -1, LEAT_ENOSPC, 3, 0));
    fails(LEAT_ENOSPC, leat_queue_extend(q, &m, 1000));
    fails(LEAT_ENOSPC, leat_queue_nack(q, &m, 0, 0));
    fails(LEAT_ENOSPC, leat_queue_ack(q, &m));
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

Test(fault, commits_and_publishes_fail) {
    open_store(LEAT_ACKS_LOG);
    leat_consumer *c;
    const leat_message *m;
    ok(send_to(0));
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    gives(1, leat_poll(c, 0, &m));
    ok(leat_fault_push(mq, LEAT_OP_COMMIT, "t", 0, LEAT_EIO, 1, 0));
    fails(LEAT_EIO, leat_commit(c));
    leat_lag lag[2];
    gives(2, leat_group_lag(mq, "g", lag, 2, sizeof lag[0]));
    cr_assert_eq(lag[0].committed, -1);
    ok(leat_commit(c));
    ok(leat_fault_push(mq, LEAT_OP_PUBLISH, "news", -1, LEAT_EIO, 1, 0));
    gives(0, leat_publish(mq, "other", "x", 1));
    fails(LEAT_EIO, leat_publish(mq, "news", "x", 1));
    gives(0, leat_publish(mq, "news", "x", 1));
    ok(leat_close_all(mq, 0));
}

Test(fault, a_delay_takes_the_stores_time) {
    open_store(LEAT_ACKS_LOG);
    int64_t before, after;
    ok(leat_clock_now(mq, &before, NULL));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, NULL, -1, 0, 3, 50));
    for (int i = 0; i < 4; i++)
        ok(send_to(0));
    ok(leat_clock_now(mq, &after, NULL));
    cr_assert_eq(after - before, 150);
    ok(leat_close_all(mq, 0));
}

Test(fault, memory_runs_out_and_comes_back) {
    open_store(LEAT_ACKS_LOG);
    leat_consumer *c;
    ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, 1, 0));
    fails(LEAT_ENOMEM, leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, LEAT_FOREVER, 0));
    leat_topic *u;
    for (int i = 0; i < 3; i++)
        fails(LEAT_ENOMEM, leat_topic_open(mq, "u", NULL, &u));
    ok(leat_fault_clear(mq));
    ok(leat_topic_open(mq, "u", NULL, &u));
    ok(leat_close_all(mq, 0));
}

Test(fault, what_is_not_used_up_harms_no_close) {
    open_store(LEAT_ACKS_LOG);
    for (int op = LEAT_OP_APPEND; op <= LEAT_OP_PUBLISH; op++)
        if (op != LEAT_OP_MEMORY)
            ok(leat_fault_push(mq, op, "t", 0, LEAT_EIO, LEAT_FOREVER, 0));
    ok(leat_close_all(mq, 0));
}

Test(fault, wrong_plans_are_refused) {
    open_store(LEAT_ACKS_LOG);
    static const struct {
        int op, error;
        const char *topic;
        int64_t count, delay_ms;
        int32_t partition;
    } bad[] = {
        { 0, LEAT_EIO, NULL, 1, 0, -1 },
        { 9, LEAT_EIO, NULL, 1, 0, -1 },
        { LEAT_OP_APPEND, 1, NULL, 1, 0, -1 },
        { LEAT_OP_APPEND, -1000, NULL, 1, 0, -1 },
        { LEAT_OP_APPEND, LEAT_EIO, NULL, 0, 0, -1 },
        { LEAT_OP_APPEND, LEAT_EIO, NULL, -2, 0, -1 },
        { LEAT_OP_APPEND, LEAT_EIO, NULL, 1, -1, -1 },
        { LEAT_OP_APPEND, LEAT_EIO, NULL, 1, 0, -2 },
        { LEAT_OP_APPEND, LEAT_EIO, "no such name", 1, 0, -1 },
        { LEAT_OP_MEMORY, LEAT_EIO, NULL, 1, 0, -1 },
        { LEAT_OP_MEMORY, LEAT_ENOMEM, "t", 1, 0, -1 },
        { LEAT_OP_MEMORY, LEAT_ENOMEM, NULL, 1, 5, -1 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        fails(LEAT_EINVAL, leat_fault_push(mq, bad[i].op, bad[i].topic, bad[i].partition,
                                           bad[i].error, bad[i].count, bad[i].delay_ms));
    fails(LEAT_EINVAL, leat_fault_push(NULL, LEAT_OP_APPEND, NULL, -1, LEAT_EIO, 1, 0));
    fails(LEAT_EINVAL, leat_fault_clear(NULL));
    ok(send_to(0));
    ok(leat_close_all(mq, 0));
}
