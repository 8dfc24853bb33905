/* SPDX-License-Identifier: MIT */
// Groups under load: six members of each of two groups join, leave, stall until they are expelled,
// and go without a word, while four producers write to twelve partitions; between the rounds the
// store is closed or killed and opened again. Who owns what is what the members are told, and each
// looks after its own: never two owners at once, but for one that was expelled and does not know
// it; positions without holes; commits that only grow.
#include "leat.h"
#include "leat_test.h"
#include "lib/place.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PARTITIONS = 12,
    PRODUCERS = 4,
    GROUPS = 2,
    MEMBERS = 6, // of each group
    ROUNDS = 3,
    SENDS = 1500, // of a producer in a round
    OFFSETS = ROUNDS * PRODUCERS * SENDS,
    INTERVAL_MS = 1000,
    STEP_MS = 50 // by which time moves
};

static leat *mq;
static leat_topic *t;
static atomic_int producing;
static atomic_bool over; // of a round: all is read

static struct group {
    char name[2];
    _Atomic uint64_t owner[PARTITIONS];        // who was told last that it is his; 0: nobody
    _Atomic int64_t committed[PARTITIONS];     // what a commit that succeeded said
    atomic_uchar seen[PARTITIONS][OFFSETS];    // how often each record was read, up to 255
    atomic_llong left[PARTITIONS];             // records of the round that nobody has read
    atomic_int expelled, moved, fenced, twice; // what happened, so that it is not nothing
} group[GROUPS];

static _Atomic uint64_t identities = 1;

enum phase { AWAY, POLLING, STALLED, BUSY }; // BUSY: the clock waits for its next poll

struct member {
    struct group *g;
    leat_consumer *c;
    _Atomic uint64_t me;
    unsigned chance;
    bool out;                 // it was expelled, and did not poll since
    int64_t next[PARTITIONS]; // to be read; -1: not its own
    int64_t kept[PARTITIONS]; // where it stood when it was told to be revoked
    atomic_int phase;
    atomic_uint polls;
    unsigned polls_seen; // by who moves the clock, as the next two
    int steps;           // since then, while it is at a poll
    uint64_t late;       // whom `lates` has for it; 0: nobody
    _Atomic(const char *) fault;
    char detail[160];
};

static unsigned draw(unsigned *chance, unsigned n) {
    *chance = *chance * 1664525u + 1013904223u;
    return (*chance >> 8) % n;
}

static void complain(struct member *m, const char *what, int32_t partition, int64_t a, int64_t b) {
    if (m->fault)
        return;
    snprintf(m->detail, sizeof m->detail, "group %s member %llu partition %d: %s (%lld, %lld)",
             m->g->name, (unsigned long long)m->me, partition, what, (long long)a, (long long)b);
    atomic_store(&m->fault, m->detail);
}

// ---- what a member is told

// By identity: it may be out and not know it. stalls: it wants to. lates: it is about to poll, but
// has not had the processor for so long that it may be expelled.
static atomic_bool stalls[1 << 16], lates[1 << 16];

static atomic_bool *stalls_of(uint64_t who) {
    return &stalls[who % (sizeof stalls / sizeof *stalls)];
}

static atomic_bool *lates_of(uint64_t who) {
    return &lates[who % (sizeof lates / sizeof *lates)];
}

static void take(struct member *m, const leat_event *e) {
    uint64_t before = atomic_exchange(&m->g->owner[e->partition], m->me);
    if (before != 0 && before != m->me && !atomic_load(stalls_of(before)) &&
        !atomic_load(lates_of(before)))
        complain(m, "has another owner", e->partition, (int64_t)before, e->offset);
    int64_t committed = atomic_load(&m->g->committed[e->partition]);
    if (e->offset != committed && e->offset != m->kept[e->partition])
        complain(m, "does not begin at the last commit", e->partition, e->offset, committed);
    m->next[e->partition] = e->offset;
    atomic_fetch_add(&m->g->moved, 1);
}

static void give(struct member *m, const leat_event *e) {
    uint64_t me = m->me;
    bool mine = atomic_compare_exchange_strong(&m->g->owner[e->partition], &me, 0);
    if (!mine && e->kind == LEAT_EV_REVOKED)
        complain(m, "is another's before it was revoked", e->partition, (int64_t)me, e->offset);
    m->kept[e->partition] = mine ? m->next[e->partition] : -1; // it may stay after all
    m->next[e->partition] = -1;
}

static int commit(struct member *m);

static void on_event(leat_consumer *c, const leat_event *e, void *ctx) {
    struct member *m = ctx;
    (void)c;
    if (e->kind == LEAT_EV_ASSIGNED) {
        take(m, e);
    } else if (e->kind == LEAT_EV_REVOKED) {
        if (draw(&m->chance, 2))
            (void)commit(m); // the last chance
        give(m, e);
    } else if (e->kind == LEAT_EV_LOST) {
        give(m, e);
        atomic_fetch_add(&m->g->expelled, 1);
    } else {
        complain(m, "is told what cannot be", e->partition, e->kind, e->offset);
    }
}

// ---- what a member does

// Commits one partition at a time, so that it is known which ones were.
static int commit(struct member *m) {
    for (int32_t k = 0; k < PARTITIONS && !m->out; k++) {
        if (m->next[k] < 0)
            continue;
        leat_position at = { .topic = "t", .partition = k, .offset = m->next[k] };
        int64_t known = atomic_load(&m->g->committed[k]);
        if (at.offset < known)
            complain(m, "would commit backwards", k, at.offset, known);
        // Before the call: who takes the partition over next may look before it has returned.
        atomic_store(&m->g->committed[k], at.offset);
        int rc = leat_commit_offsets(m->c, &at, 1);
        if (rc != 0)
            atomic_store(&m->g->committed[k], known);
        if (rc == LEAT_ECLOSED)
            return rc;
        if (rc != 0)
            complain(m, leat_errmsg(), k, rc, 0);
    }
    return 0;
}

static void read_one(struct member *m, const leat_message *msg) {
    int32_t k = msg->partition;
    if (m->next[k] != msg->offset)
        complain(m, "has a hole, or is not its own", k, msg->offset, m->next[k]);
    m->next[k] = msg->offset + 1;
    if (msg->offset >= OFFSETS)
        return;
    unsigned char before = atomic_fetch_add(&m->g->seen[k][msg->offset], 1);
    if (before == 0)
        atomic_fetch_sub(&m->g->left[k], 1);
    else
        atomic_fetch_add(&m->g->twice, 1);
    if (before == 255)
        atomic_store(&m->g->seen[k][msg->offset], 255);
}

// Does not poll until it is surely expelled: the clock is moved by somebody else, in steps that are
// over when the next one begins. What it would commit then is fenced, and changes nothing.
static void stall(struct member *m) {
    int64_t since = 0, now = 0;
    if (leat_clock_now(mq, &since, NULL) != 0)
        return;
    atomic_store(stalls_of(m->me), true);
    atomic_store(&m->phase, STALLED);
    m->out = true;
    while (leat_clock_now(mq, &now, NULL) == 0 && now - since <= INTERVAL_MS + 2 * STEP_MS &&
           !atomic_load(&over))
        (void)sched_yield();
    atomic_store(&m->phase, BUSY);
    if (now - since <= INTERVAL_MS + 2 * STEP_MS)
        return;
    for (int32_t k = 0; k < PARTITIONS; k++) {
        leat_position none = { .topic = "t", .partition = k, .offset = 0 };
        uint64_t me = m->me;
        if (m->next[k] < 0)
            continue;
        if (leat_commit_offsets(m->c, &none, 1) == 0)
            complain(m, "is committed by a member that is out", k, now, since);
        else
            atomic_fetch_add(&m->g->fenced, 1);
        (void)atomic_compare_exchange_strong(&m->g->owner[k], &me, 0);
    }
    atomic_store(stalls_of(m->me), false);
}

static int step(struct member *m) {
    const leat_message *msg;
    bool out = m->out;
    m->out = false; // it is told so, and is in again
    atomic_store(&m->phase, POLLING);
    int n = leat_poll(m->c, (int64_t)draw(&m->chance, 3), &msg);
    atomic_fetch_add(&m->polls, 1);
    atomic_store(&m->phase, BUSY);
    m->out = n < 0 && out;
    for (int i = 0; i < n; i++)
        read_one(m, &msg[i]);
    if (n < 0)
        return n;
    if (draw(&m->chance, 3) == 0)
        n = commit(m);
    if (n >= 0 && draw(&m->chance, 60) == 0)
        stall(m);
    return n < 0 ? n : 0;
}

// A life of a member: opens, reads for a while, and goes, with or without a last commit.
static int live(struct member *m) {
    m->me = atomic_fetch_add(&identities, 1);
    m->out = false;
    for (int32_t k = 0; k < PARTITIONS; k++)
        m->next[k] = m->kept[k] = -1;
    leat_consumer_options o = { .max_poll_records = 1 + (int32_t)draw(&m->chance, 50),
                                .max_poll_interval_ms = INTERVAL_MS,
                                .on_event = on_event,
                                .ctx = m };
    int rc = leat_consumer_open(mq, m->g->name, &o, &m->c);
    if (rc != 0)
        return rc;
    atomic_store(&m->phase, BUSY);
    rc = leat_consumer_subscribe(m->c, draw(&m->chance, 2) ? "t" : "t*");
    for (unsigned i = 10 + draw(&m->chance, 200); rc == 0 && i > 0 && !atomic_load(&over); i--)
        rc = step(m);
    if (rc == 0 && draw(&m->chance, 2))
        (void)commit(m);
    int closed = leat_consumer_close(m->c);
    atomic_store(&m->phase, AWAY);
    return rc ? rc : closed;
}

static void *member_main(void *arg) {
    struct member *m = arg;
    int rc = 0;
    while (rc == 0 && !atomic_load(&over) && !m->fault)
        rc = live(m);
    if (rc != 0 && rc != LEAT_ECLOSED)
        complain(m, leat_errmsg(), -1, rc, 0);
    return NULL;
}

static void *produce(void *arg) {
    unsigned chance = (unsigned)(uintptr_t)arg;
    leat_producer *p;
    if (leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p) != 0)
        return arg;
    for (int i = 0; i < SENDS; i++) {
        int32_t k = (int32_t)draw(&chance, PARTITIONS);
        leat_record r = { .value = LEAT_STR("x"), .to_partition = LEAT_PARTITION(k) };
        for (int g = 0; g < GROUPS; g++)
            atomic_fetch_add(&group[g].left[k], 1);
        if (leat_send(p, t, &r, NULL) != 0)
            return arg;
    }
    atomic_fetch_sub(&producing, 1);
    return leat_producer_close(p, 0) == 0 ? NULL : arg;
}

// ---- rounds

static bool all_read(void) {
    bool all = atomic_load(&producing) == 0;
    for (int g = 0; g < GROUPS; g++)
        for (int k = 0; k < PARTITIONS; k++)
            all = all && atomic_load(&group[g].left[k]) == 0;
    return all;
}

// A poll takes no more than a step: more of them pass only while its thread does not run.
static void look_for_late(struct member *m) {
    unsigned polls = atomic_load(&m->polls);
    bool at_it = polls == m->polls_seen && atomic_load(&m->phase) == POLLING;
    m->polls_seen = polls;
    m->steps = at_it ? m->steps + 1 : 0;
    if (m->late && !at_it) {
        atomic_store(lates_of(m->late), false);
        m->late = 0;
    } else if (!m->late && m->steps > INTERVAL_MS / STEP_MS / 2) {
        m->late = m->me;
        atomic_store(lates_of(m->late), true);
    }
}

// Lets time pass, but not so fast that members that do poll are expelled: each has polled since the
// last step, or is at it, or stalls because it wants to.
static void pass(struct member *m) {
    for (int i = 0; i < GROUPS * MEMBERS; i++) {
        while (atomic_load(&m[i].phase) == BUSY && atomic_load(&m[i].polls) == m[i].polls_seen &&
               !m[i].fault)
            (void)sched_yield();
        look_for_late(&m[i]);
    }
    ok(leat_clock_advance(mq, STEP_MS));
}

static void open_round(int round) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL, .seed = 1, .acks = LEAT_ACKS_LOG };
    leat_topic_options topic = { .partitions = PARTITIONS, .segment_bytes = 16384 };
    ok(leat_open(dir, &o, &mq));
    ok(leat_topic_open(mq, "t", &topic, &t));
    atomic_store(&over, false);
    atomic_store(&producing, PRODUCERS);
    for (int g = 0; g < GROUPS; g++) {
        snprintf(group[g].name, sizeof group[g].name, "%c", 'a' + g);
        leat_lag lag[PARTITIONS];
        int n = round == 0 ? 0 : leat_group_lag(mq, group[g].name, lag, PARTITIONS, sizeof *lag);
        cr_assert_geq(n, 0, "%s", leat_errmsg());
        for (int i = 0; i < n; i++)
            cr_assert_eq(lag[i].committed < 0 ? 0 : lag[i].committed,
                         atomic_load(&group[g].committed[lag[i].partition]),
                         "what was committed is there after a restart");
        for (int k = 0; k < PARTITIONS; k++)
            atomic_store(&group[g].owner[k], 0);
    }
}

static void play_round(int round) {
    pthread_t producer[PRODUCERS], thread[GROUPS * MEMBERS];
    struct member *m = calloc(GROUPS * MEMBERS, sizeof *m);
    cr_assert_not_null(m);
    open_round(round);
    for (int i = 0; i < GROUPS * MEMBERS; i++) {
        m[i].g = &group[i % GROUPS];
        m[i].chance = (unsigned)(round * 1000 + i);
        cr_assert_eq(pthread_create(&thread[i], NULL, member_main, &m[i]), 0);
    }
    for (uintptr_t i = 0; i < PRODUCERS; i++)
        cr_assert_eq(pthread_create(&producer[i], NULL, produce, (void *)(i + 1)), 0);
    bool fault = false;
    while (!all_read() && !fault) { // the only hand on the clock
        pass(m);
        for (int i = 0; i < GROUPS * MEMBERS; i++)
            fault = fault || m[i].fault;
        (void)sched_yield();
    }
    atomic_store(&over, true);
    ok(leat_clock_advance(mq, 10));
    for (int i = 0; i < PRODUCERS; i++) {
        void *failed;
        cr_assert_eq(pthread_join(producer[i], &failed), 0);
        cr_assert_null(failed);
    }
    ok(leat_shutdown(mq));
    for (int i = 0; i < GROUPS * MEMBERS; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    for (int i = 0; i < GROUPS * MEMBERS; i++)
        cr_assert_null(m[i].fault, "round %d: %s", round, m[i].fault);
    free(m);
    ok(leat_close_all(mq, 0));
}

Test(group_stress, every_record_is_read_and_no_partition_has_two_owners, .init = make_dir,
     .fini = drop_dir) {
    for (int round = 0; round < ROUNDS; round++)
        play_round(round);
    for (int g = 0; g < GROUPS; g++) {
        cr_log_info("group %s: %d taken over, %d lost, %d commits fenced, %d read again",
                    group[g].name, group[g].moved, group[g].expelled, group[g].fenced,
                    group[g].twice);
        cr_assert_gt(group[g].moved, PARTITIONS);
        cr_assert_gt(group[g].expelled, 0);
        cr_assert_gt(group[g].fenced, 0);
    }
}
