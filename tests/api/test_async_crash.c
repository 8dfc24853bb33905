/* SPDX-License-Identifier: MIT */
// Crashes beside threads that send asynchronously: what was told to be stored is there, batches are
// whole or not there, and each record that was accepted has its one report.
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 4, EACH = 20000, BATCH = 3, ENOUGH = 300 };

struct slot { // of one record, or of a batch
    int reports, status, n;
    int64_t offset;
};

struct sender {
    pthread_t thread;
    int number, used, rc;
    struct slot slot[EACH];
};

static struct sender sender[THREADS];
static atomic_int told_count;

static void tell(leat_producer *from, const leat_report *r, void *ctx) {
    struct slot *s = ctx;
    (void)from;
    s->reports++;
    s->status = r->status;
    s->offset = r->md.offset;
    atomic_fetch_add(&told_count, 1);
}

static int send_batch(struct sender *s, const leat_record *r) {
    leat_batch *b;
    int rc = leat_batch_open(p, t, 0, &b);
    if (rc != 0)
        return rc;
    for (int i = 0; i < BATCH; i++)
        (void)leat_batch_append(b, r);
    s->slot[s->used].n = BATCH;
    return leat_batch_send(b, tell, &s->slot[s->used]);
}

static void *send_until_the_crash(void *arg) {
    struct sender *s = arg;
    s->rc = 0;
    for (s->used = 0; s->used < EACH && s->rc == 0; s->used += s->rc == 0) {
        char text[32];
        (void)snprintf(text, sizeof text, "%d %d", s->number, s->used);
        const leat_record r = { .value = leat_str(text) };
        s->slot[s->used].n = 1;
        s->rc = s->used % 7 == 0 ? send_batch(s, &r)
                                 : leat_send_async(p, t, &r, tell, &s->slot[s->used]);
    }
    return NULL;
}

// Reads what is left. Each record's slot says where it is to be, its batch is whole.
static void read_back(int64_t *end) {
    leat_consumer *c;
    const leat_message *m;
    int n, of_batch = 0, from, i, last_from = -1, last = -1;
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t", .offset = LEAT_BEGIN }, 1));
    *end = 0;
    while ((n = leat_poll(c, 0, &m)) > 0)
        for (int k = 0; k < n; k++) {
            cr_assert_eq(m[k].offset, (*end)++);
            cr_assert_eq(sscanf(m[k].value.data, "%d %d", &from, &i), 2);
            const struct slot *s = &sender[from].slot[i];
            cr_assert_neq(s->status, LEAT_NOT_STORED);
            of_batch = of_batch > 0 ? of_batch - 1 : s->n - 1;
            if (of_batch == s->n - 1) // the first one
                cr_assert_eq(s->offset, m[k].offset);
            else
                cr_assert(from == last_from && i == last, "a batch is not in a row");
            last_from = from;
            last = i;
        }
    ok(n);
    cr_assert_eq(of_batch, 0, "a batch is not whole");
    ok(leat_consumer_close(c));
}

static void crash(int how, uint64_t seed, const leat_options *more) {
    leat_options o = *more;
    leat *after;
    int64_t end;
    o.flags |= LEAT_CRASHABLE;
    o.seed = seed;
    atomic_store(&told_count, 0);
    memset(sender, 0, sizeof sender);
    ok(fixture_open(
        NULL, &o, NULL,
        &(leat_producer_options){ .acks = how == LEAT_KILL ? LEAT_ACKS_LOG : LEAT_ACKS_DISK,
                                  .batch_bytes = 400,
                                  .buffer_memory_bytes = 4000 }));
    for (int i = 0; i < THREADS; i++) {
        sender[i].number = i;
        cr_assert_eq(pthread_create(&sender[i].thread, NULL, send_until_the_crash, &sender[i]), 0);
    }
    while (atomic_load(&told_count) < ENOUGH)
        cr_assert(leat_flush(p, 1) >= 0, "%s", leat_errmsg());
    ok(leat_crash(mq, how, &after));
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_join(sender[i].thread, NULL), 0);
        cr_assert(sender[i].rc == LEAT_ECLOSED || sender[i].used == EACH, "%s",
                  leat_errname(sender[i].rc));
    }
    cr_assert(leat_close_all(mq, 0) >= 0, "%s", leat_errmsg());
    mq = after;
    ok(leat_topic_open(mq, "t", NULL, &t));
    read_back(&end);
    for (int i = 0; i < THREADS; i++)
        for (int k = 0; k < sender[i].used; k++) {
            const struct slot *s = &sender[i].slot[k];
            cr_assert_eq(s->reports, 1, "%d of thread %d has %d", k, i, s->reports);
            if (s->status == LEAT_STORED)
                cr_assert_gt(end, s->offset + s->n - 1, "%d of thread %d is lost", k, i);
        }
    ok(leat_close_all(mq, 0));
}

Test(async_crash, a_kill_takes_nothing_that_was_told_to_be_in_the_log) {
    for (uint64_t seed = 1; seed <= 5; seed++)
        crash(LEAT_KILL, seed, &(leat_options){ 0 });
}

Test(async_crash, a_power_cut_takes_nothing_that_was_told_to_be_on_disk) {
    for (uint64_t seed = 1; seed <= 8; seed++)
        crash(LEAT_POWER_CUT, seed, &(leat_options){ 0 });
}

Test(async_crash, without_threads_of_the_store_it_is_the_same) {
    const leat_options o = { .threads = LEAT_NO_THREADS };
    for (uint64_t seed = 1; seed <= 3; seed++)
        crash(LEAT_POWER_CUT, seed, &o);
}
