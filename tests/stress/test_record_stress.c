/* SPDX-License-Identifier: MIT */
// A topic that is announced while three threads send to it, and channels that are recorded while
// three threads publish on them; recorders and subscribers with a buffer come and go. Held: an
// inline subscriber hears each record once, each partition in its order; one with a buffer the
// same, or is told; what is recorded is what was heard, or counted as failed, each publisher's in
// its order; what is announced is recorded as it was sent.
#include <leat.h>
#include <leat_test.h>

#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "lib/scratch.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SENDS = 1500 };
#else
enum { SENDS = 20000 }; // of each thread
#endif
enum { THREADS = 3, PARTS = 2, FAILS = 50, CHANGES = 200 };

struct note {
    uint32_t who, seq;
};

struct listener {
    int64_t next[PARTS]; // offsets
    uint64_t told, gaps;
    int heard;
    sem_t all;
};

static leat *mq;
static leat_topic *announced, *copied, *recorded;
static atomic_int wrong, pub_heard;

static void hear(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct listener *l = ctx;
    int p = m->partition;
    if (p < 0 || p >= PARTS || m->offset < l->next[p]) {
        atomic_fetch_add(&wrong, 1);
        return;
    }
    l->told += m->dropped;
    l->gaps += (uint64_t)(m->offset - l->next[p]);
    l->next[p] = m->offset + 1;
    if (++l->heard == THREADS * SENDS)
        (void)sem_post(&l->all);
}

static void pub_hear(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    (void)ctx;
    atomic_fetch_add(&pub_heard, 1);
}

static void *run_sender(void *arg) {
    struct note note = { .who = (uint32_t)(uintptr_t)arg };
    leat_producer *p;
    leat_record r = { .value = { &note, sizeof note } };
    int failed = leat_producer_open(mq, NULL, &p) != 0;
    for (uint32_t i = 0; i < SENDS && !failed; i++) {
        note.seq = i;
        r.to_partition = LEAT_PARTITION(i % PARTS);
        if (leat_send(p, announced, &r, NULL) != 0)
            failed = 1;
    }
    if (failed || leat_producer_close(p, LEAT_FOREVER) != 0)
        atomic_fetch_add(&wrong, 1);
    return NULL;
}

static void *run_publisher(void *arg) {
    struct note note = { .who = (uint32_t)(uintptr_t)arg };
    char channel[8];
    (void)snprintf(channel, sizeof channel, "pub.%u", note.who);
    for (uint32_t i = 0; i < SENDS; i++) {
        note.seq = i;
        if (i == SENDS / 2 &&
            leat_fault_push(mq, LEAT_OP_APPEND, "recorded", -1, LEAT_EIO, FAILS, 0) != 0)
            atomic_fetch_add(&wrong, 1);
        if (leat_publish(mq, channel, &note, sizeof note) < 2) // the recorder, and who counts
            atomic_fetch_add(&wrong, 1);
    }
    return NULL;
}

// Recorders and listeners of what goes on.
static void *run_churner(void *arg) {
    const leat_subscription_options o = { .buffer = 16 };
    for (int i = 0; i < CHANGES; i++) {
        leat_subscription *record, *pulled, *ring;
        leat_message m;
        if (leat_channel_record(mq, "none.*", recorded, &record) != 0 ||
            leat_channel_record(mq, "l?ve", announced, &ring) != LEAT_EINVAL ||
            leat_channel_subscribe(mq, "live", NULL, NULL, &o, &pulled) != 0) {
            atomic_fetch_add(&wrong, 1);
            return NULL;
        }
        for (int k = 0; k < 8; k++)
            if (leat_subscription_next(pulled, 0, &m) == 1)
                (void)leat_message_release(mq, &m);
        (void)leat_subscription_close(pulled, 0);
        (void)leat_subscription_close(record, 0);
    }
    return arg;
}

static void wait_for(sem_t *s) {
    while (sem_wait(s) != 0) // EINTR
        continue;
}

// Counts what is in a topic. What a thread put into one of the lanes is in order.
static int count(leat_topic *t, uint32_t lanes) {
    leat_reader *r;
    leat_message m;
    struct note note;
    int64_t last[THREADS][PARTS];
    int n = 0;
    memset(last, -1, sizeof last);
    ok(leat_reader_open(t, 0, LEAT_BEGIN, &r));
    for (; leat_reader_next(r, 0, &m) == 1; n++) {
        cr_assert_eq(m.value.size, sizeof note);
        memcpy(&note, m.value.data, sizeof note);
        cr_assert_lt(note.who, (uint32_t)THREADS);
        int64_t *at = &last[note.who][note.seq % lanes];
        cr_assert_gt(note.seq, *at);
        *at = note.seq;
    }
    ok(leat_reader_close(r));
    return n;
}

static leat_subscription *listen(struct listener *l, int64_t buffer) {
    const leat_subscription_options o = { .buffer = buffer };
    leat_subscription *s;
    memset(l, 0, sizeof *l);
    cr_assert_eq(sem_init(&l->all, 0, 0), 0);
    ok(leat_channel_subscribe(mq, "live", hear, l, &o, &s));
    return s;
}

static void run_all(const char *dir) {
    const leat_options o = { .acks = LEAT_ACKS_LOG };
    struct listener at_once, buffered, narrow;
    leat_subscription *s[3], *pub, *record[2];
    leat_subscription_stats st;
    ok(dir ? leat_open(dir, &o, &mq) : leat_open_memory(&o, &mq));
    const leat_topic_options live = { .partitions = PARTS,
                                      .segment_bytes = 16384,
                                      .announce_on = "live" };
    ok(leat_topic_open(mq, "announced", &live, &announced));
    ok(leat_topic_open(mq, "recorded", &(leat_topic_options){ .segment_bytes = 16384 }, &recorded));
    ok(leat_topic_open(mq, "copied", NULL, &copied));
    s[0] = listen(&at_once, 0);
    s[1] = listen(&buffered, LEAT_UNLIMITED);
    s[2] = listen(&narrow, 4);
    ok(leat_channel_record(mq, "live", copied, &record[0]));
    ok(leat_channel_record(mq, "pub.*", recorded, &record[1]));
    ok(leat_channel_subscribe(mq, "pub.*", pub_hear, NULL, NULL, &pub));
    atomic_store(&wrong, 0);
    atomic_store(&pub_heard, 0);
    pthread_t t[2 * THREADS + 1];
    for (uintptr_t i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_create(&t[i], NULL, run_sender, (void *)i), 0);
        cr_assert_eq(pthread_create(&t[THREADS + i], NULL, run_publisher, (void *)i), 0);
    }
    cr_assert_eq(pthread_create(&t[2 * THREADS], NULL, run_churner, NULL), 0);
    for (int i = 0; i < 2 * THREADS + 1; i++)
        cr_assert_eq(pthread_join(t[i], NULL), 0);
    wait_for(&at_once.all);
    wait_for(&buffered.all);
    ok(leat_subscription_get_stats(record[1], &st, sizeof st));
    cr_assert_eq(st.delivered + st.dropped, (uint64_t)(THREADS * SENDS));
    cr_assert_eq(st.dropped, (uint64_t)(THREADS * FAILS));
    cr_assert_eq(atomic_load(&pub_heard), THREADS * SENDS);
    gives(st.delivered, count(recorded, 1));
    for (int i = 0; i < 3; i++)
        cr_assert_eq(leat_subscription_close(s[i], LEAT_FOREVER), 0);
    ok(leat_subscription_close(record[0], 0)); // also waits for who is in it
    gives(THREADS * SENDS, count(copied, PARTS));
    cr_assert_eq(atomic_load(&wrong), 0);
    cr_assert(at_once.gaps == 0 && at_once.told == 0 && buffered.gaps == 0 && buffered.told == 0);
    cr_assert_leq(narrow.gaps, narrow.told, "what was lost last leaves no gap");
    cr_assert_eq((uint64_t)narrow.heard + narrow.told, (uint64_t)(THREADS * SENDS));
    ok(leat_close_all(mq, 0));
}

Test(record_stress, what_is_announced_and_recorded_in_memory) {
    run_all(NULL);
}

Test(record_stress, what_is_announced_and_recorded_on_disk) {
    char dir[SCRATCH_PATH];
    scratch_make(dir);
    run_all(dir);
    scratch_remove(dir);
}
