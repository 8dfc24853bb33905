/* SPDX-License-Identifier: MIT */
// Threads that share a producer and send in every way there is, while sends fail for a while,
// others flush, purge and poll: each record that was accepted has one end, that end is true, and
// those of a thread are in its order in each partition, whatever the order of things.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8, EACH = 1500, PARTITIONS = 4, FUTURES = 6, BATCH = 5, LAST = 60 };

enum { REFUSED, ACCEPTED, UNHEARD }; // UNHEARD: accepted, and nobody is to be told

struct slot { // of one record
    atomic_int reports;
    int fate, status, error, of_batch; // of_batch: how many its report is for
    int32_t partition;
    int64_t offset;
};

struct sender {
    pthread_t thread;
    int number, next;
    uint32_t seed;
    uint64_t accepted; // asynchronously
    struct {
        leat_future *f;
        struct slot *slot;
    } future[FUTURES];
    struct slot slot[EACH];
};

static struct sender *sender; // THREADS of them
static atomic_int running, wrong;

static uint32_t draw(uint32_t *state) { // xorshift
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

// In threads that are not the test's nothing may fail by an assertion: wrong is the line of one.
#define expect(good)                                                                               \
    do {                                                                                           \
        if (!(good))                                                                               \
            atomic_store(&wrong, __LINE__);                                                        \
    } while (0)

static void note(struct slot *s, const leat_report *r) {
    for (int i = 0; i < s->of_batch; i++) {
        s[i].status = r->status;
        s[i].error = r->error;
        s[i].offset = r->md.offset < 0 ? -1 : r->md.offset + i;
        expect(s[i].partition == r->md.partition);
        expect((r->md.offset < 0) == (r->status == LEAT_NOT_STORED));
        atomic_fetch_add(&s[i].reports, 1);
    }
}

static int64_t told_to[PARTITIONS]; // by callbacks, which come one at a time

static void tell(leat_producer *from, const leat_report *r, void *ctx) {
    struct slot *s = ctx;
    if (r->md.offset >= 0) {
        expect(r->md.offset >= told_to[r->md.partition]);
        told_to[r->md.partition] = r->md.offset + s->of_batch;
    }
    expect(from == p && (r->record == NULL) == (s->of_batch > 1));
    note(s, r);
}

// ---- the ways of sending

struct text {
    char bytes[64];
};

static leat_record record_of(struct sender *s, int i, int32_t partition, struct text *text) {
    (void)snprintf(text->bytes, sizeof text->bytes, "%d %d %.*s", s->number, i,
                   (int)(draw(&s->seed) % 30), "..............................");
    s->slot[i].partition = partition;
    s->slot[i].of_batch = 1;
    return (leat_record){ .value = leat_str(text->bytes),
                          .to_partition = LEAT_PARTITION(partition) };
}

static bool accepted(struct sender *s, int i, int rc, int fate) {
    expect(rc == 0 || rc == LEAT_EFULL);
    s->slot[i].fate = rc == 0 ? fate : REFUSED;
    s->accepted += rc == 0;
    return rc == 0;
}

static void send_now(struct sender *s, int32_t partition) {
    struct text text;
    leat_metadata md = { .offset = -1 };
    struct slot *slot = &s->slot[s->next];
    const leat_record r = record_of(s, s->next++, partition, &text);
    int rc = leat_send(p, t, &r, &md);
    slot->fate = ACCEPTED;
    slot->error = rc;
    slot->offset = md.offset;
    slot->status = rc == 0 ? LEAT_STORED : md.offset >= 0 ? LEAT_UNKNOWN : LEAT_NOT_STORED;
    expect(rc == 0 || rc == LEAT_ENOSPC || rc == LEAT_EIO || rc == LEAT_EPOISONED);
    slot->reports = 1;
}

static void send_later(struct sender *s, int32_t partition, bool heard) {
    struct text text;
    int i = s->next++;
    const leat_record r = record_of(s, i, partition, &text);
    int rc = leat_send_async(p, t, &r, heard ? tell : NULL, heard ? &s->slot[i] : NULL);
    (void)accepted(s, i, rc, heard ? ACCEPTED : UNHEARD);
}

static void end_future(struct sender *s, int k) {
    leat_report r;
    struct slot *slot = s->future[k].slot;
    if (!s->future[k].f)
        return;
    if (slot->fate == ACCEPTED) {
        int rc = leat_future_wait(s->future[k].f, LEAT_FOREVER, &r);
        expect(rc == 0);
        if (rc == 0)
            note(slot, &r);
    }
    expect(leat_future_release(s->future[k].f) == 0);
    s->future[k].f = NULL;
}

static void send_future(struct sender *s, int32_t partition) {
    struct text text;
    int i = s->next++, k = (int)(draw(&s->seed) % FUTURES);
    const leat_record r = record_of(s, i, partition, &text);
    end_future(s, k);
    int rc = leat_send_future(p, t, &r, &s->future[k].f);
    s->future[k].slot = &s->slot[i];
    if (!accepted(s, i, rc, draw(&s->seed) % 3 ? ACCEPTED : UNHEARD))
        expect(s->future[k].f == NULL);
}

static void send_batch(struct sender *s, int32_t partition) {
    struct text text;
    leat_batch *b;
    int n = 2 + (int)(draw(&s->seed) % (BATCH - 1)), first = s->next;
    if (first + n > EACH) {
        send_later(s, partition, true);
        return;
    }
    expect(leat_batch_open(p, t, partition, &b) == 0);
    for (int i = 0; i < n; i++) {
        const leat_record r = record_of(s, s->next++, partition, &text);
        expect(leat_batch_append(b, &r) == 0);
    }
    s->slot[first].of_batch = n;
    int rc = leat_batch_send(b, tell, &s->slot[first]);
    for (int i = first; i < first + n; i++)
        (void)accepted(s, i, rc, ACCEPTED);
}

static void *send_all(void *arg) {
    struct sender *s = arg;
    while (s->next < EACH) {
        int32_t partition = (int32_t)(draw(&s->seed) % PARTITIONS);
        switch (draw(&s->seed) % 12) {
        case 0:
            send_now(s, partition);
            break;
        case 1:
        case 2:
            send_future(s, partition);
            break;
        case 3:
            send_batch(s, partition);
            break;
        case 4:
            send_later(s, partition, false);
            break;
        default:
            send_later(s, partition, true);
        }
    }
    for (int k = 0; k < FUTURES; k++)
        end_future(s, k);
    atomic_fetch_sub(&running, 1);
    return NULL;
}

// ---- what goes on meanwhile

static void look_at_stats(void) {
    leat_producer_stats s;
    ok(leat_producer_get_stats(p, &s, sizeof s));
    cr_assert_eq(s.accepted, s.stored + s.not_stored + s.unknown + s.in_flight);
}

static void disturb(uint32_t *seed, bool polled, bool poison) {
    int32_t partition = (int32_t)(draw(seed) % PARTITIONS);
    switch (draw(seed) % 8) {
    case 0:
        cr_assert(leat_flush(p, draw(seed) % 3) >= 0, "%s", leat_errmsg());
        break;
    case 1:
        if (draw(seed) % 4 == 0)
            cr_assert(leat_producer_purge(p) >= 0, "%s", leat_errmsg());
        break;
    case 2:
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", partition, LEAT_ENOSPC, 1 + draw(seed) % 20,
                           0));
        break;
    case 3:
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", partition, 0, 1, 1));
        break;
    case 4:
        if (!poison)
            ok(leat_sync(mq)); // of all: some batches find that theirs was done
        break;
    default:
        look_at_stats();
    }
    if (polled)
        cr_assert(draw(seed) % 2 ? leat_producer_poll(p, 1) >= 0 : leat_dispatch(mq, 1) >= 0, "%s",
                  leat_errmsg());
}

// ---- what must have come out

static char (*found)[THREADS][EACH]; // of each record, how often it is in the log

static void check_message(const leat_message *m, int last[THREADS]) {
    int number, i;
    cr_assert_eq(sscanf(m->value.data, "%d %d", &number, &i), 2);
    cr_assert(number >= 0 && number < THREADS && i >= 0 && i < EACH);
    const struct slot *s = &sender[number].slot[i];
    cr_assert_eq((*found)[number][i]++, 0, "%d of thread %d is stored twice", i, number);
    cr_assert_gt(i, last[number], "%d of thread %d stands behind %d", i, number, last[number]);
    last[number] = i;
    cr_assert_neq(s->fate, REFUSED, "it was certainly not sent");
    cr_assert_eq(s->partition, m->partition);
    if (s->fate == ACCEPTED) {
        cr_assert_neq(s->status, LEAT_NOT_STORED);
        cr_assert_eq(s->offset, m->offset);
    }
}

static uint64_t read_all(void) {
    uint64_t n = 0;
    for (int32_t i = 0; i < PARTITIONS; i++) {
        int last[THREADS], got;
        leat_consumer *c;
        const leat_message *m;
        leat_position at = { .topic = "t", .partition = i, .offset = LEAT_BEGIN };
        memset(last, -1, sizeof last);
        ok(leat_consumer_open(mq, NULL, NULL, &c));
        ok(leat_consumer_assign(c, &at, 1));
        while ((got = leat_poll(c, 0, &m)) > 0) {
            for (int k = 0; k < got; k++)
                check_message(&m[k], last);
            n += (uint64_t)got;
        }
        ok(got);
        ok(leat_consumer_close(c));
    }
    return n;
}

static void check_slots(void) {
    for (int k = 0; k < THREADS; k++)
        for (int i = 0; i < EACH; i++) {
            struct slot *s = &sender[k].slot[i];
            cr_assert_eq(s->reports, s->fate == ACCEPTED, "%d of thread %d has %d reports", i, k,
                         s->reports);
            if (s->fate == ACCEPTED && s->status == LEAT_STORED)
                cr_assert_eq((*found)[k][i], 1, "%d of thread %d was told to be stored", i, k);
            if (s->fate == REFUSED)
                cr_assert_eq((*found)[k][i], 0);
        }
}

// What a close gives up is told: a log that takes nothing, and one that does. How much that is
// depends on how much time there was (tests of the manual clock hold the number): the rest was
// given up before, or the disk was too slow.
static void close_it(void) {
    struct slot last[LAST];
    int lost = 0;
    memset(last, 0, sizeof last);
    memset(told_to, 0, sizeof told_to); // of another topic
    ok(leat_fault_clear(mq));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "last", 0, LEAT_ENOSPC, LEAT_FOREVER, 0));
    ok(leat_topic_open(mq, "last", &(leat_topic_options){ .partitions = 2 }, &t));
    for (int i = 0; i < LAST; i++) {
        last[i].partition = i % 2;
        last[i].of_batch = 1;
        const leat_record r = { .value = LEAT_STR("v"), .to_partition = LEAT_PARTITION(i % 2) };
        ok(leat_send_async(p, t, &r, tell, &last[i]));
    }
    int rc = leat_producer_close(p, 3);
    for (int i = 0; i < LAST; i++) {
        cr_assert_eq(last[i].reports, 1);
        cr_assert(i % 2 == 1 || last[i].status == LEAT_NOT_STORED);
        lost += last[i].status != LEAT_STORED;
    }
    cr_assert_leq(rc, lost);
}

static void run(const char *path, const leat_options *o, leat_producer_options options,
                bool poison) {
    uint32_t seed = 4711;
    uint64_t sent = 0;
    bool polled = o->callbacks == LEAT_CALLBACKS_POLL;
    sender = calloc(THREADS, sizeof *sender);
    found = calloc(1, sizeof *found);
    cr_assert(sender && found);
    options.linger_ms = 1;
    options.retry_backoff_ms = 1;
    options.delivery_timeout_ms = 10;
    options.batch_bytes = 600;
    options.buffer_memory_bytes = 6000;
    options.reports_max = 150;
    options.max_block_ms = LEAT_FOREVER;
    ok(fixture_open(path, o, &(leat_topic_options){ .partitions = PARTITIONS }, &options));
    atomic_store(&running, THREADS);
    atomic_store(&wrong, 0);
    memset(told_to, 0, sizeof told_to);
    for (int i = 0; i < THREADS; i++) {
        sender[i].number = i;
        sender[i].seed = 99 + (uint32_t)i;
        cr_assert_eq(pthread_create(&sender[i].thread, NULL, send_all, &sender[i]), 0);
    }
    for (int i = 0; atomic_load(&running) > 0; i++) {
        disturb(&seed, polled, poison);
        if (poison && i == 20)
            ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 1, LEAT_EIO, 1, 0));
    }
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_join(sender[i].thread, NULL), 0);
        sent += sender[i].accepted;
    }
    gives(0, leat_flush(p, LEAT_FOREVER));
    leat_producer_stats s;
    ok(leat_producer_get_stats(p, &s, sizeof s));
    cr_assert_eq(s.accepted, sent);
    cr_assert_eq(s.accepted, s.stored + s.not_stored + s.unknown);
    cr_assert_eq(s.in_flight_bytes + s.reports_waiting, 0);
    cr_assert_gt(s.retries, 0);
    cr_assert_eq(wrong, 0, "line %d", wrong);
    cr_assert(poison || s.unknown == 0);
    (void)read_all();
    check_slots();
    close_it();
    cr_assert_eq(wrong, 0, "line %d", wrong);
    (void)leat_close_all(mq, 0);
    free(found);
    free(sender);
}

Test(producer_stress, with_reports_on_a_thread) {
    run(NULL, &(leat_options){ .seed = 1 }, (leat_producer_options){ .acks = LEAT_ACKS_LOG },
        false);
}

Test(producer_stress, with_reports_that_are_polled_for) {
    run(NULL, &(leat_options){ .seed = 2, .callbacks = LEAT_CALLBACKS_POLL },
        (leat_producer_options){ .acks = LEAT_ACKS_DISK }, false);
}

Test(producer_stress, without_threads) {
    run(NULL,
        &(leat_options){ .seed = 3, .callbacks = LEAT_CALLBACKS_POLL, .threads = LEAT_NO_THREADS },
        (leat_producer_options){ .acks = LEAT_ACKS_LOG }, false);
}

Test(producer_stress, with_a_partition_that_is_lost) {
    run(NULL, &(leat_options){ .seed = 4 }, (leat_producer_options){ .acks = LEAT_ACKS_DISK },
        true);
}

Test(producer_stress, on_a_disk, .init = make_dir, .fini = drop_dir) {
    run(dir, &(leat_options){ .seed = 5 }, (leat_producer_options){ .acks = LEAT_ACKS_DISK },
        false);
}
