/* SPDX-License-Identifier: MIT */
// The stream under load, written down and checked: four threads that send, at once, asynchronously,
// by futures and in batches made by hand, two groups whose members come
// and go, one of them reading only what is durable, segments of 16 KiB, and between the rounds the
// store is closed, killed and loses its power, while everybody is at it. What the history shows
// must hold whatever the order of things was.
#include "leat.h"
#include "leat_test.h"
#include "lib/check.h"
#include "lib/history.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PARTITIONS = 3,
    PRODUCERS = 4,
    MEMBERS = 4, // two of each group
    SENDS = 80,  // of a producer in a round
    ROUNDS = 4,
    EVENTS = 60000
};

static struct history h;
static char dir[SCRATCH_PATH];
static leat *mq;
static leat_topic *t;
static atomic_int sent, member_count, producing; // producing: producers that are not done

// ---- producers

static uint64_t value_of(const leat_message *m) {
    return strtoull(m->value.data, NULL, 10);
}

static int send_one(leat_producer *p, int thread, uint64_t value, int acks) {
    char text[128], key[16];
    (void)snprintf(text, sizeof text, "%llu %0100d", (unsigned long long)value, 0);
    (void)snprintf(key, sizeof key, "%llu", (unsigned long long)value % 7);
    struct history_event what = { .op = HISTORY_SEND,
                                  .thread = thread,
                                  .partition = (int32_t)(value % PARTITIONS),
                                  .offset = -1,
                                  .key = value % 7,
                                  .value = value,
                                  .acks = acks };
    leat_record r = { .key = leat_str(key),
                      .value = leat_str(text),
                      .to_partition = LEAT_PARTITION(what.partition) };
    leat_metadata md = { .offset = -1 };
    struct history_event *e = history_begin(&h, &what);
    int rc = leat_send(p, t, &r, &md);
    e->offset = md.offset;
    e->hash = history_hash_record(&r, md.timestamp_ms);
    history_end(&h, e, history_outcome_of(rc));
    cr_assert(rc == 0 || rc == LEAT_ECLOSED, "%s", leat_errmsg());
    return rc;
}

static atomic_ullong next_value = 1;

enum { BATCH = 3 };

static int send_batch(leat_producer *p, int thread, int acks) {
    char text[BATCH][64];
    leat_record r[BATCH];
    leat_metadata md[BATCH] = { { 0 } };
    struct history_event *e[BATCH];
    uint64_t batch = atomic_fetch_add(&next_value, BATCH);
    for (uint64_t i = 0; i < BATCH; i++) {
        (void)snprintf(text[i], sizeof text[i], "%llu", (unsigned long long)(batch + i));
        r[i] = (leat_record){ .key = LEAT_STR("0"),
                              .value = leat_str(text[i]),
                              .to_partition = LEAT_PARTITION((int32_t)(batch % PARTITIONS)) };
        struct history_event what = { .op = HISTORY_SEND,
                                      .thread = thread,
                                      .partition = (int32_t)(batch % PARTITIONS),
                                      .offset = -1,
                                      .value = batch + i,
                                      .batch = batch,
                                      .acks = acks };
        e[i] = history_begin(&h, &what);
        md[i].offset = -1;
    }
    int rc = leat_send_many(p, t, r, BATCH, md);
    for (int i = 0; i < BATCH; i++) {
        e[i]->offset = md[i].offset;
        e[i]->hash = history_hash_record(&r[i], md[i].timestamp_ms);
        history_end(&h, e[i], history_outcome_of(rc));
    }
    cr_assert(rc == 0 || rc == LEAT_ECLOSED, "%s", leat_errmsg());
    return rc;
}

// ---- asynchronously: an operation is over when its report has come

struct later { // what one report ends
    struct history_event *e[BATCH];
    char text[BATCH][64];
    int count;
};

static leat_record later_record(const struct later *l, int i) {
    return (leat_record){ .key = LEAT_STR("0"),
                          .value = leat_str(l->text[i]),
                          .to_partition = LEAT_PARTITION(l->e[i]->partition) };
}

static struct later *later_begin(int thread, int acks, int count) {
    struct later *l = calloc(1, sizeof *l);
    cr_assert_not_null(l);
    uint64_t value = atomic_fetch_add(&next_value, (uint64_t)count);
    for (l->count = 0; l->count < count; l->count++) {
        struct history_event what = { .op = HISTORY_SEND,
                                      .thread = thread,
                                      .partition = (int32_t)(value % PARTITIONS),
                                      .offset = -1,
                                      .value = value + (uint64_t)l->count,
                                      .batch = count > 1 ? value : 0,
                                      .acks = acks };
        (void)snprintf(l->text[l->count], sizeof l->text[0], "%llu",
                       (unsigned long long)what.value);
        l->e[l->count] = history_begin(&h, &what);
    }
    return l;
}

static void later_end(struct later *l, const leat_metadata *md, enum history_outcome outcome) {
    for (int i = 0; i < l->count; i++) {
        leat_record r = later_record(l, i);
        l->e[i]->offset = md->offset < 0 ? -1 : md->offset + i;
        l->e[i]->hash = history_hash_record(&r, md->timestamp_ms);
        history_end(&h, l->e[i], outcome);
    }
    free(l);
}

static void later_told(leat_producer *p, const leat_report *r, void *ctx) {
    (void)p;
    later_end(ctx, &r->md,
              r->status == LEAT_STORED       ? HISTORY_OK
              : r->status == LEAT_NOT_STORED ? HISTORY_FAILED
                                             : HISTORY_UNKNOWN);
}

// By a callback, or (batch) with others by hand.
static int send_later(leat_producer *p, int thread, int acks, bool batch) {
    static const leat_metadata none = { .offset = -1 };
    struct later *l = later_begin(thread, acks, batch ? BATCH : 1);
    leat_record r = later_record(l, 0);
    leat_batch *b = NULL;
    int rc = batch ? leat_batch_open(p, t, l->e[0]->partition, &b)
                   : leat_send_async(p, t, &r, later_told, l);
    for (int i = 0; b && rc == 0 && i < l->count; i++) {
        r = later_record(l, i);
        rc = leat_batch_append(b, &r);
    }
    if (b && rc == 0)
        rc = leat_batch_send(b, later_told, l);
    else if (b)
        (void)leat_batch_discard(b);
    cr_assert(rc == 0 || rc == LEAT_ECLOSED, "%s", leat_errmsg());
    if (rc != 0)
        later_end(l, &none, HISTORY_FAILED);
    return rc;
}

// By a future that is waited for: it is sent when it has lingered.
static int send_future(leat_producer *p, int thread, int acks) {
    struct later *l = later_begin(thread, acks, 1);
    leat_record r = later_record(l, 0);
    leat_report report = { .md.offset = -1, .status = LEAT_NOT_STORED };
    leat_future *f = NULL;
    int rc = leat_send_future(p, t, &r, &f), waited = 0;
    if (rc == 0)
        waited = leat_future_wait(f, LEAT_FOREVER, &report);
    cr_assert(rc == 0 || rc == LEAT_ECLOSED, "%s", leat_errmsg());
    cr_assert(waited == 0 || waited == LEAT_ECLOSED, "%s", leat_errmsg());
    if (waited == 0)
        later_told(p, &report, l);
    else // it is not told any more
        free(l);
    if (f)
        ok(leat_future_release(f));
    return rc != 0 ? rc : waited;
}

static int send_in_turn(leat_producer *p, int thread, int acks, int i) {
    int rc = i % 3 == 0 ? send_one(p, thread, atomic_fetch_add(&next_value, 1), acks)
                        : send_later(p, thread, acks, false);
    if (rc == 0 && i % 10 == 0)
        rc = send_batch(p, thread, acks);
    if (rc == 0 && i % 10 == 4)
        rc = send_later(p, thread, acks, true);
    if (rc == 0 && i % 20 == 7)
        rc = send_future(p, thread, acks);
    return rc;
}

static void close_producer(leat_producer *p) {
    leat_producer_stats s;
    int rc = leat_producer_get_stats(p, &s, sizeof s);
    cr_assert(rc == LEAT_ECLOSED ||
              s.accepted == s.stored + s.not_stored + s.unknown + s.in_flight);
    int lost = leat_producer_close(p, 0); // what it gives up is told
    cr_assert_geq(lost, 0, "%s", leat_errmsg());
}

// A thread's sends by one producer are in order, those by two are not.
static void *produce(void *arg) {
    int thread = (int)(intptr_t)arg;
    leat_producer *log = NULL, *disk = NULL;
    leat_producer_options o = { .acks = LEAT_ACKS_LOG, .linger_ms = 1, .batch_bytes = 1024 };
    int rc = leat_producer_open(mq, &o, &log);
    o.acks = LEAT_ACKS_DISK;
    if (rc == 0)
        rc = leat_producer_open(mq, &o, &disk);
    cr_assert(rc == 0 || rc == LEAT_ECLOSED, "%s", leat_errmsg()); // closed before it began
    for (int i = 0; i < SENDS && rc == 0; i++) {
        bool durable = i % 8 == thread % 8;
        rc = durable ? send_in_turn(disk, PRODUCERS + thread, LEAT_ACKS_DISK, i / 8)
                     : send_in_turn(log, thread, LEAT_ACKS_LOG, i);
        atomic_fetch_add(&sent, 1);
    }
    if (log)
        close_producer(log);
    if (disk)
        close_producer(disk);
    atomic_fetch_sub(&producing, 1);
    return NULL;
}

// ---- members

struct member {
    leat_consumer *c;
    int group, number;
    bool owns[PARTITIONS];
    uint64_t polled; // ticket before the last poll
};

static struct history_event about(const struct member *m, enum history_op op, int32_t partition) {
    return (struct history_event){
        .op = op, .group = m->group, .member = m->number, .partition = partition
    };
}

// Writes down what came and went since the last poll began.
static void note_owned(struct member *m, const leat_position *pos, int n) {
    bool owns[PARTITIONS] = { false };
    for (int i = 0; i < n; i++)
        owns[pos[i].partition] = true;
    for (int32_t k = 0; k < PARTITIONS && n >= 0; k++) {
        if (owns[k] == m->owns[k])
            continue;
        struct history_event what = about(m, owns[k] ? HISTORY_OWN : HISTORY_LOST, k);
        history_note(&h, &what)->invoked = m->polled;
        m->owns[k] = owns[k];
    }
}

static void note_read(const struct member *m, const leat_message *msg) {
    struct history_event what = about(m, HISTORY_READ, msg->partition);
    what.offset = msg->offset;
    what.value = value_of(msg);
    what.key = strtoull(msg->key.data, NULL, 10);
    what.hash = history_hash(msg);
    what.durable = m->group == 2;
    (void)history_note(&h, &what);
}

static int commit(struct member *m, const leat_position *pos, int n) {
    struct history_event *e[PARTITIONS] = { NULL };
    for (int i = 0; i < n; i++) {
        struct history_event what = about(m, HISTORY_COMMIT, pos[i].partition);
        what.offset = pos[i].offset;
        if (pos[i].offset >= 0)
            e[i] = history_begin(&h, &what);
    }
    int rc = leat_commit(m->c);
    for (int i = 0; i < n; i++)
        if (e[i])
            history_end(&h, e[i], history_outcome_of(rc));
    cr_assert(rc == 0 || rc == LEAT_EFENCED || rc == LEAT_ECLOSED, "%s", leat_errmsg());
    return rc == LEAT_ECLOSED ? rc : 0;
}

// One poll and one commit. Returns how many came, or LEAT_ECLOSED.
static int read_some(struct member *m) {
    const leat_message *msg;
    leat_position pos[PARTITIONS];
    struct history_event what = about(m, HISTORY_POLL, -1), *poll = history_begin(&h, &what);
    m->polled = poll->invoked;
    int n = leat_poll(m->c, 2, &msg);
    cr_assert(n >= 0 || n == LEAT_ECLOSED, "%s", leat_errmsg());
    int owned = n < 0 ? n : leat_consumer_positions(m->c, 0, pos, PARTITIONS);
    history_end(&h, poll, history_outcome_of(n));
    note_owned(m, pos, owned);
    for (int i = 0; i < n; i++)
        note_read(m, &msg[i]);
    int rc = owned < 0 ? owned : commit(m, pos, owned);
    return rc < 0 ? rc : n;
}

// closed: the last poll may have given up partitions before it found the store shut down.
static void leave(struct member *m, bool closed) {
    uint64_t since = closed && m->polled ? m->polled : history_ticket(&h);
    ok(leat_consumer_close(m->c));
    for (int32_t k = 0; k < PARTITIONS; k++) {
        struct history_event what = about(m, HISTORY_LOST, k);
        if (m->owns[k])
            history_note(&h, &what)->invoked = since;
    }
}

// Members of a group that read for a while, leave, and are followed by others, until the producers
// are done and nothing more comes.
static void *consume(void *arg) {
    int group = 1 + (int)(intptr_t)arg % 2, rc = 1;
    for (unsigned turn = (unsigned)(intptr_t)arg; rc >= 0; turn++) {
        struct member m = { .group = group, .number = atomic_fetch_add(&member_count, 1) };
        leat_consumer_options o = { .max_poll_records = 20,
                                    .isolation = group == 2 ? LEAT_READ_DURABLE : LEAT_READ_LOG };
        rc = leat_consumer_open(mq, group == 1 ? "log" : "disk", &o, &m.c);
        if (rc < 0)
            break;
        rc = leat_consumer_subscribe(m.c, "t");
        for (unsigned i = 0; rc >= 0 && i < 3 + turn % 7; i++) {
            bool done = atomic_load(&producing) == 0;
            rc = read_some(&m);
            if (done && rc == 0)
                rc = LEAT_ETIMEDOUT; // the end of this thread, not an error
        }
        leave(&m, rc == LEAT_ECLOSED);
    }
    cr_assert(rc == LEAT_ECLOSED || rc == LEAT_ETIMEDOUT, "%d: %s", rc, leat_errmsg());
    return NULL;
}

// ---- looking at it all

static void look_up(int look, int32_t partition, int64_t timestamp_ms) {
    struct history_event what = {
        .op = HISTORY_LOOKUP, .scan = look, .partition = partition, .timestamp_ms = timestamp_ms
    };
    cr_assert_geq(leat_topic_offset_at(t, partition, timestamp_ms, &what.offset), 0);
    (void)history_note(&h, &what);
}

static void look_at_partition(int look, int32_t partition) {
    leat_consumer *c;
    const leat_message *m;
    leat_range r;
    int n;
    ok(leat_topic_range(t, partition, &r));
    struct history_event range = { .op = HISTORY_RANGE,
                                   .scan = look,
                                   .partition = partition,
                                   .begin = r.begin,
                                   .end = r.end,
                                   .durable_end = r.durable_end };
    (void)history_note(&h, &range);
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(
        c, &(leat_position){ .topic = "t", .partition = partition, .offset = LEAT_BEGIN }, 1));
    while ((n = leat_poll(c, 0, &m)) > 0)
        for (int i = 0; i < n; i++) {
            struct history_event what = { .op = HISTORY_SCAN,
                                          .scan = look,
                                          .partition = partition,
                                          .offset = m[i].offset,
                                          .timestamp_ms = m[i].timestamp_ms,
                                          .value = value_of(&m[i]),
                                          .key = strtoull(m[i].key.data, NULL, 10),
                                          .hash = history_hash(&m[i]) };
            (void)history_note(&h, &what);
            if (i == 7)
                look_up(look, partition, m[i].timestamp_ms + 1);
        }
    cr_assert_eq(n, 0, "%s", leat_errmsg());
    ok(leat_consumer_close(c));
}

static void look(int number) {
    for (int32_t k = 0; k < PARTITIONS; k++)
        look_at_partition(number, k);
}

static void delete_front(int32_t partition) {
    leat_range r;
    ok(leat_topic_range(t, partition, &r));
    struct history_event what = { .op = HISTORY_DELETE,
                                  .partition = partition,
                                  .offset = r.begin + (r.end - r.begin) / 3 };
    struct history_event *e = history_begin(&h, &what);
    int rc = leat_topic_delete_records(t, partition, what.offset);
    history_end(&h, e, history_outcome_of(rc));
    ok(rc);
}

// ---- recovery

// Opens the store in `from` and copies its directory to `to`, which is what a kill leaves of what
// recovery made of it. Returns the listing of the copy. Owns: free it.
static char *recover(const char *from, const char *to, int *rc) {
    leat *again;
    *rc = leat_open(from, NULL, &again);
    if (from != to)
        scratch_copy(from, to);
    if (*rc == 0)
        ok(leat_close_all(again, 0));
    return scratch_listing(to);
}

// What a kill leaves of the store now, while nobody is at it, is recovered and killed twice.
static void check_recovering(void) {
    char copy[3][SCRATCH_PATH];
    int rc, rc_again;
    for (int i = 0; i < 3; i++)
        scratch_join(copy[i], dir, "../%s.%d", strrchr(dir, '/') + 1, i);
    scratch_copy(dir, copy[0]);
    char *before = scratch_listing(copy[0]), *after = recover(copy[0], copy[1], &rc);
    char *again = recover(copy[1], copy[2], &rc_again);
    struct check_recovery r = {
        .before = before, .after = after, .again = again, .rc = rc, .damaged_offset = -1
    };
    const char *bad = check_r1_idempotent(&r);
    bad = bad ? bad : check_r3_errors_change_nothing(&r);
    cr_assert(rc == 0 && rc_again == 0 && !bad, "%d, %d: %s", rc, rc_again, bad);
    // The first was closed, so all but the last segments are sealed.
    char *closed = scratch_listing(copy[0]), *opened = recover(copy[0], copy[0], &rc);
    r = (struct check_recovery){ .before = closed, .after = opened, .rc = rc };
    bad = check_r2_sealed_files_stay(&r);
    cr_assert(rc == 0 && !bad, "%d: %s", rc, bad);
    free(before);
    free(after);
    free(again);
    free(closed);
    free(opened);
    for (int i = 0; i < 3; i++)
        scratch_remove(copy[i]);
}

// ---- rounds

static void open_topic(void) {
    leat_topic_options o = { .partitions = PARTITIONS, .segment_bytes = 16384 };
    ok(leat_topic_open(mq, "t", &o, &t));
}

// Ends the store in one of three ways, while the threads are at it unless it is closed.
static void end_round(int how, pthread_t *thread) {
    struct history_event what = { .op = HISTORY_CRASH, .how = how };
    struct history_event *e = NULL;
    leat *old = mq, *reopened = NULL;
    if (how != 0) {
        while (atomic_load(&sent) < PRODUCERS * SENDS / 2)
            (void)sched_yield();
        e = history_begin(&h, &what);
        ok(leat_crash(old, how, &reopened));
    }
    for (int i = 0; i < PRODUCERS + MEMBERS; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    if (how == 0) {
        check_recovering(); // with what is not synced
        e = history_begin(&h, &what);
    }
    ok(leat_close_all(old, 0));
    leat_options o = { .flags = LEAT_CRASHABLE, .seed = 3 };
    if (how == 0)
        ok(leat_open(dir, &o, &reopened));
    history_end(&h, e, HISTORY_OK);
    mq = reopened;
}

Test(stress, the_history_of_a_stream_with_crashes_is_sound) {
    static const int how[ROUNDS] = { 0, LEAT_KILL, LEAT_POWER_CUT, LEAT_POWER_CUT };
    scratch_make(dir);
    history_init(&h, EVENTS);
    ok(leat_open(dir, &(leat_options){ .flags = LEAT_CRASHABLE, .seed = 3 }, &mq));
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t thread[PRODUCERS + MEMBERS];
        open_topic();
        atomic_store(&sent, 0);
        atomic_store(&producing, PRODUCERS);
        for (intptr_t i = 0; i < PRODUCERS; i++)
            cr_assert_eq(pthread_create(&thread[i], NULL, produce, (void *)i), 0);
        for (intptr_t i = 0; i < MEMBERS; i++)
            cr_assert_eq(pthread_create(&thread[PRODUCERS + i], NULL, consume, (void *)i), 0);
        end_round(how[round], thread);
        open_topic();
        check_recovering();
        look(round + 1);
        if (round % 2 == 0)
            delete_front(round % PARTITIONS);
    }
    ok(leat_close_all(mq, 0));
    const char *bad = check_history(&h);
    cr_assert_null(bad, "%s", bad);
    history_fini(&h);
    scratch_remove(dir);
}
