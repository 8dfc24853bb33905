/* SPDX-License-Identifier: MIT */
// Taps under load. Three threads send (one by one, asynchronously, in batches) into a topic of
// small segments that grows meanwhile; taps come from every kind of place and go: called back,
// pulled, closed by their own callback, by another thread, by leat_close_all, after a shutdown or a
// deletion; messages are held, and released by another thread. Two threads follow the topic all the
// time, by leat_subscription_next and by poll(2), with no bound: a ring that is lost is a test that
// does not end.
//
// What is held. Of each tap and partition the offsets rise, from where it began, without a gap but
// for what m.dropped told; what a sender sent rises, too. A drained tap has seen all up to the end
// as it was. No call runs beside another, after the close, or after on_end, which runs once.
#include <leat.h>

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/complain.h"
#include "lib/scratch.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SENDS = 2000, CHANGES = 100 };
#else
enum { SENDS = 6000, CHANGES = 300 }; // of each thread in a round
#endif
enum { SENDERS = 3, CHURNERS = 2, PARTS = 4, SLOTS = 8, EARS = CHURNERS * CHANGES, BATCH = 8 };
enum { BYE = SENDERS, HELD = 64 };

enum round_end { END_DRAINED, END_ALL, END_SHUTDOWN, END_DELETED };

struct round {
    bool disk, polled;
    int64_t retention_bytes;
    enum round_end end;
};

struct note { // what is sent
    uint32_t who, seq, same[24];
};

struct ear { // a tap, and what it saw
    leat_subscription *s;
    int closes_at, ends_at;      // its own callback closes it; .stop_after
    bool holds, all;             // all: of all partitions, from their begin
    atomic_bool claimed, closed; // claimed: who set it closes it
    atomic_int running, ends;
    sem_t ended;
    int heard;
    uint64_t told, gaps;
    int64_t low[PARTS], high[PARTS], next[PARTS]; // it begins at low to high; -1: nothing yet
    uint32_t seq[PARTS][SENDERS + 1];
};

static leat *mq;
static leat_topic *topic;
static const struct round *now;
static struct ear *ears, follower[2];
static atomic_int ear_count;
static atomic_bool over, stopped; // stopped: after a shutdown or deletion calls may fail

static unsigned draw(uint32_t *chance, unsigned n) {
    *chance = *chance * 1664525u + 1013904223u;
    return (*chance >> 8) % n;
}

static void stopped_only(const char *what, int rc) {
    if (!atomic_load(&stopped))
        complain("%s: %d: %s", what, rc, leat_errmsg());
}

// ---- held messages

static struct {
    pthread_mutex_t lock;
    leat_message m[HELD];
    int count;
    sem_t some;
} held = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void check_note(const leat_message *m, struct note *note) {
    if (m->value.size != sizeof *note) {
        complain("a message of %zu bytes", m->value.size);
        return;
    }
    memcpy(note, m->value.data, sizeof *note);
    for (int i = 0; i < 24; i++)
        if (note->same[i] != note->seq)
            complain("the bytes of a message have changed");
}

static void hold(const leat_message *m) {
    (void)pthread_mutex_lock(&held.lock);
    if (held.count < HELD && leat_message_hold(mq, m, &held.m[held.count]) == 0) {
        held.count++;
        (void)sem_post(&held.some);
    }
    (void)pthread_mutex_unlock(&held.lock);
}

static void *run_releaser(void *arg) {
    for (;;) {
        wait_for(&held.some);
        (void)pthread_mutex_lock(&held.lock);
        bool some = held.count > 0;
        leat_message m = held.m[some ? --held.count : 0];
        (void)pthread_mutex_unlock(&held.lock);
        struct note note;
        if (some) {
            check_note(&m, &note);
            if (leat_message_release(mq, &m) != 0)
                complain("release: %s", leat_errmsg());
        } else if (atomic_load(&over)) {
            return arg;
        }
    }
}

// ---- hearing

static void ear_note(struct ear *e, const leat_message *m) {
    struct note note = { 0 };
    int p = m->partition;
    check_note(m, &note);
    if (p < 0 || p >= PARTS || note.who > BYE) {
        complain("partition %d, sender %u", p, note.who);
        return;
    }
    e->told += m->dropped;
    if (e->next[p] < 0) {
        if (m->offset < e->low[p])
            complain("partition %d: begins at %lld, before %lld", p, (long long)m->offset,
                     (long long)e->low[p]);
        e->next[p] = m->offset < e->high[p] ? m->offset : e->high[p]; // less: it began there
    }
    if (m->offset < e->next[p])
        complain("partition %d: %lld comes after %lld", p, (long long)m->offset,
                 (long long)e->next[p]);
    e->gaps += (uint64_t)(m->offset - e->next[p]);
    e->next[p] = m->offset + 1;
    if (e->gaps > e->told)
        complain("partition %d at %lld: %llu are missing, %llu were told", p, (long long)m->offset,
                 (unsigned long long)e->gaps, (unsigned long long)e->told);
    if (!now->retention_bytes && now->end != END_DELETED && e->told != 0)
        complain("%llu were told as lost", (unsigned long long)e->told);
    if (note.who != BYE && note.seq <= e->seq[p][note.who])
        complain("partition %d: of %u %u comes after %u", p, note.who, note.seq,
                 e->seq[p][note.who]);
    e->seq[p][note.who] = note.seq;
    e->heard++;
}

static void hear(leat_subscription *s, const leat_message *m, void *ctx) {
    struct ear *e = ctx;
    if (atomic_fetch_add(&e->running, 1) != 0 || atomic_load(&e->ends) || atomic_load(&e->closed))
        complain("a call beside another, or after the end");
    ear_note(e, m);
    if (e->holds && e->heard % 8 == 0)
        hold(m);
    if (e->closes_at && e->heard >= e->closes_at && !atomic_exchange(&e->claimed, true))
        if (leat_subscription_close(s, LEAT_FOREVER) < 0)
            complain("closing itself: %s", leat_errmsg());
    atomic_fetch_sub(&e->running, 1);
}

static void ear_ended(void *ctx) {
    struct ear *e = ctx;
    if (atomic_fetch_add(&e->ends, 1) != 0 || (e->ends_at && e->heard > e->ends_at))
        complain("it ended twice, or late");
    (void)sem_post(&e->ended);
}

static void ranges(int64_t begin[PARTS], int64_t end[PARTS]) {
    leat_range r;
    for (int p = 0; p < PARTS; p++) {
        bool there = leat_topic_range(topic, p, &r) == 0;
        begin[p] = there ? r.begin : 0;
        end[p] = there ? r.end : 0;
    }
}

// Opens a tap; place 0: LEAT_BEGIN.
static bool ear_open(struct ear *e, int place, leat_message_fn fn, uint32_t *chance) {
    int64_t begin[PARTS], end[PARTS], from = LEAT_BEGIN;
    int32_t partition = place ? (int32_t)draw(chance, 4) - 1 : -1;
    partition = partition == 3 ? -1 : partition;
    ranges(begin, end);
    switch (place) {
    case 1:
        from = LEAT_END;
        break;
    case 2:
        from = LEAT_LAST(100);
        break;
    case 3:
        from = LEAT_AT(0);
        break;
    case 4:
        partition = 0;
        from = end[0] - (end[0] - begin[0]) / 4; // retention does not get there meanwhile
        break;
    default:
        break;
    }
    const leat_subscription_options o = { .stop_after = e->ends_at, .on_end = ear_ended };
    if (sem_init(&e->ended, 0, 0) != 0)
        complain("no semaphore");
    int rc = leat_topic_tap(topic, partition, from, fn, e, &o, &e->s);
    if (rc != 0) {
        (void)sem_destroy(&e->ended);
        if (rc != LEAT_ERANGE || place != 4)
            stopped_only("tap", rc);
        return false;
    }
    return true;
}

// Where it begins has to be known before it is called: low and high are bounds of any place.
static struct ear *ear_new(uint32_t *chance, leat_message_fn fn, int place) {
    struct ear *e = &ears[atomic_fetch_add(&ear_count, 1)];
    int64_t begin[PARTS], end[PARTS];
    ranges(begin, end);
    for (int p = 0; p < PARTS; p++) {
        e->low[p] = place == 1 ? end[p] : place == 2 && end[p] > 100 ? end[p] - 100 : 0;
        e->high[p] = place == 0 && !now->retention_bytes ? 0 : INT64_MAX;
        e->next[p] = -1;
    }
    e->closes_at = fn && place == 0 && draw(chance, 3) == 0 ? 1 + (int)draw(chance, 200) : 0;
    e->ends_at = draw(chance, 4) == 0 ? 1 + (int)draw(chance, 300) : 0;
    e->holds = draw(chance, 4) == 0;
    e->all = place == 0;
    if (ear_open(e, place, fn, chance))
        return e;
    e->s = NULL;
    return NULL;
}

static void ear_close(struct ear *e, bool drain) {
    int64_t begin[PARTS], end[PARTS];
    if (!e)
        return;
    if (!atomic_exchange(&e->claimed, true)) {
        ranges(begin, end);
        if (leat_subscription_close(e->s, drain ? LEAT_FOREVER : 0) != 0)
            complain("close: %s", leat_errmsg());
        atomic_store(&e->closed, true);
        for (int p = 0; p < PARTS && drain && !e->ends_at && !atomic_load(&stopped); p++)
            if (!now->retention_bytes && e->next[p] < end[p] &&
                (e->next[p] >= 0 || (e->all && end[p] > 0)))
                complain("a drain ended at %lld of %lld", (long long)e->next[p], (long long)end[p]);
    }
    wait_for(&e->ended);
    if (atomic_load(&e->ends) != 1)
        complain("%d ends", atomic_load(&e->ends));
    (void)sem_destroy(&e->ended);
}

static int pull(struct ear *e, int64_t timeout_ms) {
    leat_message m;
    int rc = leat_subscription_next(e->s, timeout_ms, &m);
    if (rc == 1) {
        ear_note(e, &m);
        if (leat_message_release(mq, &m) != 0)
            complain("release: %s", leat_errmsg());
    } else if (rc < 0 && !(rc == LEAT_EGONE && e->ends_at && e->heard == e->ends_at)) {
        stopped_only("next", rc);
    }
    return rc;
}

static void *run_churner(void *arg) {
    uint32_t chance = (uint32_t)(uintptr_t)arg * 7919u + 1;
    struct ear *slot[SLOTS] = { NULL };
    for (int i = 0; i < CHANGES && !atomic_load(&failed); i++) {
        struct ear **at = &slot[draw(&chance, SLOTS)];
        ear_close(*at, draw(&chance, 3) == 0);
        bool pulled = draw(&chance, 4) == 0;
        *at = ear_new(&chance, pulled ? NULL : hear, (int)draw(&chance, 5));
        for (int k = 0; *at && pulled && k < 100; k++)
            if (pull(*at, k % 10 == 0 ? 1 : 0) < 0)
                break;
        if (*at && pulled) {
            ear_close(*at, false);
            *at = NULL;
        }
    }
    for (int i = 0; i < SLOTS; i++)
        if (now->end != END_ALL)
            ear_close(slot[i], i % 2 == 0);
        else if (slot[i] && atomic_exchange(&slot[i]->claimed, true)) // it closes itself
            wait_for(&slot[i]->ended);
    return NULL;
}

// Follows until the last of each partition came.
static void *run_follower(void *arg) {
    struct ear *e = arg;
    bool polls = e == &follower[1];
    int fd = polls ? leat_subscription_fd(e->s) : -1, rc = 0;
    if (polls && fd < 0)
        stopped_only("fd", fd);
    for (;;) {
        while ((rc = pull(e, polls ? 0 : LEAT_FOREVER)) == 1) {
            int done = 0;
            for (int p = 0; p < PARTS; p++)
                done += e->seq[p][BYE] != 0;
            if (done == PARTS)
                return NULL;
        }
        if (rc < 0 || fd < 0)
            return NULL;
        struct pollfd one = { .fd = fd, .events = POLLIN };
        (void)poll(&one, 1, -1);
    }
}

static void *run_dispatcher(void *arg) {
    while (!atomic_load(&over))
        if (leat_dispatch(mq, 10) < 0)
            return arg;
    return arg;
}

// ---- sending

static void note_fill(struct note *n, uint32_t who, uint32_t seq) {
    n->who = who;
    n->seq = seq;
    for (int i = 0; i < 24; i++)
        n->same[i] = seq;
}

static void *run_sender(void *arg) {
    uint32_t who = (uint32_t)(uintptr_t)arg;
    leat_producer *p;
    const leat_producer_options o = { .partitioner = LEAT_ROUND_ROBIN };
    int rc = leat_producer_open(mq, &o, &p);
    if (rc != 0) {
        stopped_only("producer", rc);
        return NULL;
    }
    struct note note[BATCH];
    leat_record r[BATCH] = { { .key = { NULL, 0 } } };
    for (uint32_t i = 0; i < SENDS && rc == 0;) {
        int n = who == 2 ? BATCH : 1;
        for (int k = 0; k < n; k++) {
            note_fill(&note[k], who, ++i);
            r[k].value = (leat_bytes){ &note[k], sizeof note[k] };
        }
        if (who == 0)
            rc = leat_send(p, topic, r, NULL);
        else if (who == 1)
            rc = leat_send_async(p, topic, r, NULL, NULL);
        else
            rc = leat_send_many(p, topic, r, (size_t)n, NULL);
        if (who == 0 && i == SENDS / 3)
            rc = leat_topic_grow(topic, PARTS);
        if (who == 0 && i == SENDS / 2 && now->end >= END_SHUTDOWN) {
            atomic_store(&stopped, true);
            rc = now->end == END_SHUTDOWN ? leat_shutdown(mq) : leat_topic_delete(mq, "t");
        }
    }
    if (rc != 0)
        stopped_only("send", rc);
    rc = leat_producer_close(p, LEAT_FOREVER);
    if (rc != 0)
        stopped_only("producer close", rc);
    return NULL;
}

static void send_byes(void) {
    leat_producer *p;
    struct note note;
    note_fill(&note, BYE, 1);
    cr_assert_eq(leat_producer_open(mq, NULL, &p), 0);
    for (int i = 0; i < PARTS; i++) {
        leat_record r = { .value = { &note, sizeof note }, .to_partition = LEAT_PARTITION(i) };
        cr_assert_eq(leat_send(p, topic, &r, NULL), 0, "%s", leat_errmsg());
    }
    cr_assert_eq(leat_producer_close(p, 0), 0);
}

// ---- a round

static void start(pthread_t *t, void *(*run)(void *arg), void *arg) {
    cr_assert_eq(pthread_create(t, NULL, run, arg), 0);
}

static void join(pthread_t *t, int n) {
    for (int i = 0; i < n; i++)
        cr_assert_eq(pthread_join(t[i], NULL), 0);
}

static void follower_open(struct ear *e) {
    uint32_t chance = 1;
    memset(e, 0, sizeof *e);
    for (int p = 0; p < PARTS; p++)
        e->next[p] = 0; // from the very beginning
    cr_assert(ear_open(e, 0, NULL, &chance));
}

static void run_round(const struct round *r) {
    char dir[SCRATCH_PATH];
    const leat_options o = { .acks = LEAT_ACKS_LOG,
                             .callbacks = r->polled ? LEAT_CALLBACKS_POLL : 0 };
    const leat_topic_options to = { .partitions = 3,
                                    .segment_bytes = r->retention_bytes ? 16384 : 65536,
                                    .retention_bytes = r->retention_bytes };
    pthread_t sender[SENDERS], churner[CHURNERS], follow[2], other[2];
    now = r;
    if (r->disk)
        scratch_make(dir);
    cr_assert_eq(r->disk ? leat_open(dir, &o, &mq) : leat_open_memory(&o, &mq), 0);
    cr_assert_eq(leat_topic_open(mq, "t", &to, &topic), 0, "%s", leat_errmsg());
    ears = calloc(EARS, sizeof *ears);
    cr_assert(ears && sem_init(&held.some, 0, 0) == 0);
    atomic_store(&ear_count, 0);
    atomic_store(&over, false);
    atomic_store(&stopped, false);
    for (int i = 0; i < 2; i++) {
        follower_open(&follower[i]);
        start(&follow[i], run_follower, &follower[i]);
    }
    start(&other[0], run_releaser, NULL);
    if (r->polled)
        start(&other[1], run_dispatcher, NULL);
    for (uintptr_t i = 0; i < SENDERS; i++)
        start(&sender[i], run_sender, (void *)i);
    for (uintptr_t i = 0; i < CHURNERS; i++)
        start(&churner[i], run_churner, (void *)i);
    join(sender, SENDERS);
    if (r->end < END_SHUTDOWN)
        send_byes();
    join(follow, 2);
    join(churner, CHURNERS);
    for (int i = 0; i < 2 && r->end != END_ALL; i++)
        ear_close(&follower[i], false);
    atomic_store(&over, true);
    (void)sem_post(&held.some);
    join(other, r->polled ? 2 : 1);
    int rc = r->end == END_ALL ? leat_close_all(mq, 0) : leat_close(mq, 0);
    cr_assert_eq(rc, 0, "%d: %s", rc, leat_errmsg());
    for (int i = 0; i < EARS; i++)
        if (ears[i].s && atomic_load(&ears[i].ends) != 1)
            complain("tap %d: %d ends", i, atomic_load(&ears[i].ends));
    for (int i = 0; i < 2 && r->end < END_SHUTDOWN && !r->retention_bytes; i++)
        if (follower[i].heard < SENDERS * (SENDS / BATCH * BATCH))
            complain("a follower heard %d", follower[i].heard);
    held.count = 0;
    (void)sem_destroy(&held.some);
    free(ears);
    if (r->disk)
        scratch_remove(dir);
    cr_assert(!atomic_load(&failed), "%s", complaint);
}

Test(tap_stress, taps_that_come_and_go_in_memory) {
    static const struct round rounds[] = { { false, false, 0, END_DRAINED },
                                           { false, true, 0, END_DRAINED },
                                           { false, false, 0, END_ALL },
                                           { false, true, 0, END_SHUTDOWN },
                                           { false, false, 0, END_DELETED } };
    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0]; i++)
        run_round(&rounds[i]);
}

Test(tap_stress, taps_that_come_and_go_on_disk) {
    static const struct round rounds[] = { { true, false, 0, END_DRAINED },
                                           { true, false, 0, END_SHUTDOWN },
                                           { true, true, 0, END_DELETED } };
    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0]; i++)
        run_round(&rounds[i]);
}

Test(tap_stress, taps_that_retention_overtakes) {
    static const struct round rounds[] = { { false, false, 65536, END_DRAINED },
                                           { true, true, 65536, END_DRAINED },
                                           { false, false, 65536, END_ALL } };
    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0]; i++)
        run_round(&rounds[i]);
}
