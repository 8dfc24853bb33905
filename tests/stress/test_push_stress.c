/* SPDX-License-Identifier: MIT */
// Two groups, each of two members that come and go, four threads a member, eight partitions, and
// handlers whose results are drawn. A result is committed before its partition passes on, so each
// message is ended exactly once per group, in order, by one thread at a time.
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { PARTITIONS = 8, GROUPS = 2, MEMBERS = 2, MESSAGES = 12000, TURN = 150 };

struct group {
    char name[24], dead[24];
    pthread_mutex_t lock; // guards the rest
    pthread_cond_t changed;
    int64_t next[PARTITIONS];
    int inside[PARTITIONS];
    int ended, dead_count, retried;
    uint64_t seed;
    const char *wrong;
};

static struct group group[GROUPS];
static atomic_int turns;

static uint64_t draw(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static int handle(leat_workers *w, const leat_message *m, int64_t *delay_ms, void *ctx) {
    struct group *g = ctx;
    (void)w;
    pthread_mutex_lock(&g->lock);
    if (g->inside[m->partition]++ != 0)
        g->wrong = "two handlers of one partition at once";
    if (m->offset != g->next[m->partition])
        g->wrong = "out of order, or given twice";
    uint64_t x = draw(&g->seed);
    pthread_mutex_unlock(&g->lock);
    if (x % 3 == 0) // others come in between
        (void)leat_publish(mq, "c", "x", 1);
    pthread_mutex_lock(&g->lock);
    g->inside[m->partition]--;
    int rc = x % 16 == 1 ? LEAT_DEAD : x % 8 == 0 ? LEAT_RETRY : LEAT_DONE;
    *delay_ms = (int64_t)(x >> 32) % 3;
    if (rc == LEAT_RETRY) {
        g->retried++;
    } else {
        g->next[m->partition]++;
        g->ended++;
        g->dead_count += rc == LEAT_DEAD;
        pthread_cond_broadcast(&g->changed);
    }
    pthread_mutex_unlock(&g->lock);
    return rc;
}

// Waits until the group has ended n messages more, or all. Returns  all.
static bool wait_for(struct group *g, int n) {
    pthread_mutex_lock(&g->lock);
    int upto = g->ended + n < MESSAGES ? g->ended + n : MESSAGES;
    while (g->ended < upto && !g->wrong)
        pthread_cond_wait(&g->changed, &g->lock);
    bool all = g->ended == MESSAGES || g->wrong;
    pthread_mutex_unlock(&g->lock);
    return all;
}

static void *be_member(void *arg) {
    struct group *g = arg;
    leat_worker_options o = { .threads = 4, .retry_ms = 1, .dead_letter = g->dead };
    uint64_t seed = (uint64_t)(uintptr_t)&o | 1;
    for (bool all = false; !all;) {
        leat_consumer *c;
        leat_workers *w;
        leat_consumer_options co = { .max_poll_records = 1 + (int32_t)(draw(&seed) % 60) };
        if (leat_consumer_open(mq, g->name, &co, &c) != 0 || leat_consumer_subscribe(c, "t") != 0 ||
            leat_consumer_start(c, handle, g, &o, &w) != 0)
            return (void *)"a member could not begin";
        atomic_fetch_add(&turns, 1);
        all = wait_for(g, (int)(draw(&seed) % TURN));
        int rc;
        while ((rc = leat_workers_stop(w, draw(&seed) % 2 ? 0 : LEAT_FOREVER)) == LEAT_ETIMEDOUT)
            ;
        if (rc != 0 || leat_consumer_close(c) != 0)
            return (void *)"a member could not end";
    }
    return NULL;
}

static void begin_group(int i) {
    group[i] = (struct group){ .lock = PTHREAD_MUTEX_INITIALIZER,
                               .changed = PTHREAD_COND_INITIALIZER,
                               .seed = 88172645463325252u + (uint64_t)i };
    (void)snprintf(group[i].name, sizeof group[i].name, "g%d", i);
    (void)snprintf(group[i].dead, sizeof group[i].dead, "dead%d", i);
    leat_topic *dead;
    ok(leat_topic_open(mq, group[i].dead, NULL, &dead));
}

static void check_group(struct group *g) {
    leat_topic *dead;
    leat_range range;
    leat_lag lag[PARTITIONS];
    cr_assert_null(g->wrong, "%s", g->wrong);
    cr_assert_eq(g->ended, MESSAGES, "%d", g->ended);
    cr_assert(g->dead_count > 0 && g->retried > 0);
    ok(leat_topic_open(mq, g->dead, NULL, &dead));
    ok(leat_topic_range(dead, 0, &range));
    cr_assert_eq(range.end, g->dead_count);
    gives(PARTITIONS, leat_group_lag(mq, g->name, lag, PARTITIONS, sizeof lag[0]));
    for (int i = 0; i < PARTITIONS; i++) {
        cr_assert_eq(lag[i].committed, lag[i].end, "partition %d", lag[i].partition);
        cr_assert_eq(lag[i].committed, g->next[lag[i].partition]);
    }
}

Test(push_stress, members_come_and_go_and_each_message_is_ended_once) {
    pthread_t thread[GROUPS * MEMBERS];
    uint64_t seed = 2463534242u;
    ok(fixture_open(NULL, NULL, &(leat_topic_options){ .partitions = PARTITIONS },
                    &(leat_producer_options){ .acks = LEAT_ACKS_LOG }));
    for (int i = 0; i < GROUPS; i++)
        begin_group(i);
    for (int i = 0; i < GROUPS * MEMBERS; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, be_member, &group[i % GROUPS]), 0);
    for (int i = 0; i < MESSAGES; i++) {
        leat_record r = { .value = LEAT_STR("v"),
                          .to_partition = LEAT_PARTITION(draw(&seed) % PARTITIONS) };
        ok(leat_send(p, t, &r, NULL));
    }
    for (int i = 0; i < GROUPS * MEMBERS; i++) {
        void *wrong = NULL;
        cr_assert_eq(pthread_join(thread[i], &wrong), 0);
        cr_assert_null(wrong, "%s", (char *)wrong);
    }
    for (int i = 0; i < GROUPS; i++)
        check_group(&group[i]);
    cr_assert_gt(atomic_load(&turns), GROUPS * MEMBERS);
    ok(leat_close_all(mq, 0));
}
