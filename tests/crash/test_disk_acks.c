/* SPDX-License-Identifier: MIT */
// Which files are synced for a commit or a settled message at acks DISK, in which order, how often;
// and that threads share: one sync of a file at a time, and nobody rides on one that had begun.
#include <criterion/criterion.h>

#include "base/os.h"
#include "leat_test.h"
#include "lib/scratch.h"
#include "store/store.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

enum { FILES = 4096, NAMES = 64, THREADS = 4, ROUNDS = 100, QUEUED = 50 };

// A table in front of the system's which keeps books of syncs.
static struct {
    struct lt_os os; // first
    atomic_int at_work[FILES];
    atomic_int overlaps;
    _Atomic uint64_t begun, ended; // of the file that is watched
    atomic_bool slow;
    char watched[16];
    char name[NAMES][32]; // what was synced, in order
    atomic_int names;
} books;

// The last part of a descriptor's path.
static void name_of(int fd, char out[32]) {
    char link[64], path[SCRATCH_PATH];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    const char *last = strrchr(path, '/');
    (void)snprintf(out, 32, "%.31s", last ? last + 1 : path);
}

static int books_sync(struct lt_os *os, int fd, bool is_dir) {
    char name[32];
    (void)os;
    name_of(fd, name);
    if (atomic_load(&books.names) < NAMES)
        memcpy(books.name[atomic_fetch_add(&books.names, 1) % NAMES], name, sizeof name);
    bool watched = books.watched[0] && strstr(name, books.watched);
    if (watched)
        atomic_fetch_add(&books.begun, 1);
    if (atomic_fetch_add(&books.at_work[fd], 1) != 0 && !is_dir)
        atomic_fetch_add(&books.overlaps, 1);
    for (int i = 0; i < 20 && atomic_load(&books.slow); i++)
        (void)sched_yield(); // so that others come meanwhile
    int rc = lt_os_system()->sync(os, fd, is_dir);
    atomic_fetch_sub(&books.at_work[fd], 1);
    if (watched)
        atomic_fetch_add(&books.ended, 1);
    return rc;
}

static char dir[SCRATCH_PATH];
static leat *mq;
static leat_topic *t;
static leat_producer *p;

static void begin(void) {
    scratch_make(dir);
    memset(&books, 0, sizeof books);
    books.os = *lt_os_system();
    books.os.sync = books_sync;
    leat_options o = { .acks = LEAT_ACKS_LOG, .threads = LEAT_NO_THREADS };
    ok(lt_store_open(dir, &o, &books.os, &mq));
    ok(leat_producer_open(mq, NULL, &p));
}

static void end(void) {
    ok(leat_close_all(mq, 0));
    cr_assert_eq(atomic_load(&books.overlaps), 0, "two syncs of a file at once");
}

static void drop_dir(void) {
    scratch_remove(dir);
}

static void forget(void) {
    atomic_store(&books.names, 0);
}

// How many of the syncs since were of a file whose name has `part` in it. *last: the last of them.
static int synced(const char *part, int *last) {
    int n = 0;
    for (int i = 0; i < atomic_load(&books.names); i++)
        if (strstr(books.name[i], part)) {
            n++;
            *last = i;
        }
    return n;
}

static void send_to(leat_topic *to, int32_t partition) {
    leat_record r = { .value = LEAT_STR("x"), .to_partition = LEAT_PARTITION(partition) };
    ok(leat_send(p, to, &r, NULL));
}

Test(disk_acks, a_commit_syncs_logs_then_the_manifest_then_the_slots_once, .fini = drop_dir) {
    leat_consumer *c;
    const leat_message *m;
    int log = -1, manifest = -1, slots = -1;
    begin();
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 4 }, &t));
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .commit_acks = LEAT_ACKS_DISK }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    for (int32_t i = 0; i < 3; i++)
        send_to(t, i);
    gives(3, leat_poll(c, 0, &m));
    forget();
    ok(leat_commit(c));
    cr_assert_eq(synced(".log", &log), 3);
    cr_assert_geq(synced("manifest", &manifest), 1); // topic and group
    cr_assert_eq(synced("slots", &slots), 1);
    cr_assert(slots > log && slots > manifest);
    forget();
    ok(leat_commit(c)); // all is durable but the slots that are stored anew
    cr_assert(atomic_load(&books.names) == 1 && synced("slots", &slots) == 1);
    send_to(t, 3);
    gives(1, leat_poll(c, 0, &m));
    forget();
    ok(leat_commit(c));
    cr_assert(synced(".log", &log) == 1 && synced("slots", &slots) == 1 && slots > log);
    // The group's note alone is owed.
    ok(leat_consumer_close(c));
    ok(leat_consumer_open(mq, "h", &(leat_consumer_options){ .commit_acks = LEAT_ACKS_DISK }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    gives(4, leat_poll(c, 0, &m));
    forget();
    ok(leat_commit(c));
    cr_assert(synced("manifest", &manifest) == 1 && synced("slots", &slots) == 1);
    end();
}

Test(disk_acks, an_ack_syncs_words_names_notes_and_what_was_touched, .fini = drop_dir) {
    leat_queue *q;
    leat_message m[3];
    int words = -1, names = -1, manifest = -1, slots = -1, log = -1;
    begin();
    ok(leat_queue_open(mq, "q", &(leat_queue_options){ .settle_acks = LEAT_ACKS_DISK }, &q));
    for (int i = 0; i < 3; i++)
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x") }, NULL));
    forget();
    gives(3, leat_queue_receive(q, 0, m, 3)); // the count is at LOG; the first receipts are not
    cr_assert(atomic_load(&books.names) == 1 && synced("slots", &slots) == 1);
    forget();
    ok(leat_queue_ack(q, &m[0]));
    cr_assert_eq(synced(".q", &words), 1);
    cr_assert_eq(synced("manifest", &manifest), 1);
    cr_assert_eq(synced("slots", &slots), 1);
    cr_assert_eq(synced(".log", &log), 1, "the segment, which says whose words they are");
    cr_assert_geq(synced("0", &names), 3, "these two, and the directory that names them");
    cr_assert(log < names && words < manifest && manifest < slots);
    forget();
    ok(leat_queue_ack(q, &m[1]));
    cr_assert(atomic_load(&books.names) == 1 && synced(".q", &words) == 1);
    forget();
    ok(leat_queue_nack(q, &m[2], 1000, 0));
    cr_assert(atomic_load(&books.names) == 1 && synced(".q", &words) == 1);
    forget();
    gives(0, leat_queue_receive(q, 0, m, 1));
    cr_assert_eq(atomic_load(&books.names), 0);
    end();
}

// The ack with which the queue is done with a segment's words syncs them before they are let go.
Test(disk_acks, the_last_ack_of_a_segment_syncs_its_words, .fini = drop_dir) {
    static char large[1000];
    static leat_message m[THREADS * 10];
    leat_queue *q;
    int last;
    begin();
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
    leat_queue_options o = { .topic = "t", .settle_acks = LEAT_ACKS_DISK };
    ok(leat_queue_open(mq, "q", &o, &q));
    for (int i = 0; i < THREADS * 10; i++)
        ok(leat_send(p, t, &(leat_record){ .value = { large, sizeof large } }, NULL));
    gives(THREADS * 10, leat_queue_receive(q, 0, m, THREADS * 10));
    ok(leat_queue_ack(q, &m[0])); // all sheets are clean now
    for (int i = 1; i < THREADS * 10; i++) {
        forget();
        ok(leat_queue_ack(q, &m[i]));
        cr_assert_eq(synced(".q", &last), 1, "ack %d", i);
    }
    end();
}

// Without the option nothing is synced for either, but which receipts are given out, once.
Test(disk_acks, at_acks_log_nothing_is_synced, .fini = drop_dir) {
    int slots;
    leat_queue *q;
    leat_message m[2];
    leat_consumer *c;
    const leat_message *polled;
    begin();
    ok(leat_queue_open(mq, "q", NULL, &q));
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "q"));
    for (int i = 0; i < 2; i++)
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x") }, NULL));
    forget();
    gives(1, leat_queue_receive(q, 0, m, 1));
    cr_assert(atomic_load(&books.names) == 1 && synced("slots", &slots) == 1);
    forget();
    gives(1, leat_queue_receive(q, 0, m + 1, 1));
    ok(leat_queue_ack(q, &m[0]));
    ok(leat_queue_nack(q, &m[1], 1000, 0));
    gives(2, leat_poll(c, 0, &polled));
    ok(leat_commit(c));
    cr_assert_eq(atomic_load(&books.names), 0);
    end();
}

// ---- threads

// A call is right if a sync of the watched file began after it did, and has ended.
static bool rode_on_none(uint64_t begun_before) {
    return atomic_load(&books.ended) > begun_before;
}

static void *commit_often(void *arg) {
    leat_consumer *c = arg;
    const leat_message *m;
    void *bad = NULL;
    for (int i = 0; i < ROUNDS && !bad; i++) {
        bad = leat_poll(c, 0, &m) < 0 ? c : NULL;
        uint64_t before = atomic_load(&books.begun);
        if (leat_commit(c) != 0 || !rode_on_none(before))
            bad = c;
    }
    return bad;
}

Test(disk_acks, commits_of_threads_share_syncs_of_the_slots, .fini = drop_dir) {
    pthread_t thread[THREADS];
    leat_consumer *c[THREADS];
    char group[THREADS][16];
    begin();
    ok(leat_topic_open(mq, "t", NULL, &t));
    for (int i = 0; i < 20; i++)
        send_to(t, 0);
    for (int i = 0; i < THREADS; i++) {
        leat_consumer_options o = { .commit_acks = LEAT_ACKS_DISK, .max_poll_records = 1 };
        (void)snprintf(group[i], sizeof group[i], "g%d", i);
        ok(leat_consumer_open(mq, group[i], &o, &c[i]));
        ok(leat_consumer_subscribe(c[i], "t"));
    }
    strcpy(books.watched, "slots");
    atomic_store(&books.slow, true);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, commit_often, c[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        void *bad;
        cr_assert_eq(pthread_join(thread[i], &bad), 0);
        cr_assert_null(bad, "thread %d: %s", i, leat_errmsg());
    }
    cr_assert_leq(atomic_load(&books.begun), THREADS * ROUNDS);
    end();
}

static leat_queue *shared;

static void *ack_often(void *arg) {
    leat_message m;
    int rc;
    while ((rc = leat_queue_receive(shared, 0, &m, 1)) > 0) {
        uint64_t before = atomic_load(&books.begun);
        if (leat_queue_ack(shared, &m) != 0 || !rode_on_none(before))
            return arg;
    }
    return rc == 0 ? NULL : arg;
}

// The segments are small: words' files come and go while others are synced.
Test(disk_acks, acks_of_threads_share_syncs_of_the_words, .fini = drop_dir) {
    static char large[1000];
    static int number[THREADS];
    pthread_t thread[THREADS];
    begin();
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
    leat_queue_options o = { .topic = "t", .settle_acks = LEAT_ACKS_DISK };
    ok(leat_queue_open(mq, "q", &o, &shared));
    for (int i = 0; i < THREADS * QUEUED; i++)
        ok(leat_send(p, t, &(leat_record){ .value = { large, sizeof large } }, NULL));
    strcpy(books.watched, ".q");
    atomic_store(&books.slow, true);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, ack_often, &number[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        void *bad;
        cr_assert_eq(pthread_join(thread[i], &bad), 0);
        cr_assert_null(bad, "thread %d", i);
    }
    leat_queue_stats s;
    ok(leat_queue_get_stats(shared, &s, sizeof s));
    cr_assert(s.done == THREADS * QUEUED && s.available == 0 && s.leased == 0);
    end();
}
