/* SPDX-License-Identifier: MIT */
// Partitioners: which partition a record goes to, by each rule, one at a time and many together.
#include "leat.h"
#include "leat_test.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { PARTS = 7, MANY = 700 };

static leat *mq;
static leat_topic *t;
static leat_producer *p;
static leat_record recs[MANY];
static leat_metadata md[MANY];
static char keys[MANY][16], value[1000];

static void open_store(int32_t partitions) {
    ok(leat_open_memory(&(leat_options){ .clock = LEAT_CLOCK_MANUAL, .seed = 5 }, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = partitions }, &t));
}

static leat_producer *producer(leat_producer_options o) {
    leat_producer *made;
    ok(leat_producer_open(mq, &o, &made));
    return made;
}

static void close_store(void) {
    ok(leat_close_all(mq, 0));
}

// Records of a kilobyte; each fourth without a key.
static void number(size_t n) {
    for (size_t i = 0; i < n; i++) {
        int k = snprintf(keys[i], sizeof keys[i], "key-%zu", i);
        recs[i] = (leat_record){ .value = { value, sizeof value } };
        if (i % 4 != 0)
            recs[i].key = (leat_bytes){ keys[i], (size_t)k };
        md[i] = (leat_metadata){ .partition = -9 };
    }
}

static void send_all(bool together, size_t n) {
    if (together)
        ok(leat_send_many(p, t, recs, n, md));
    for (size_t i = 0; i < n && !together; i++)
        ok(leat_send(p, t, &recs[i], &md[i]));
}

static int64_t end_of(leat_topic *of, int32_t partition) {
    leat_range r;
    ok(leat_topic_range(of, partition, &r));
    return r.end;
}

static void all_end_at(leat_topic *of, int32_t partitions, int64_t end) {
    for (int32_t i = 0; i < partitions; i++)
        cr_assert_eq(end_of(of, i), end, "partition %d ends at %lld, not %lld", i,
                     (long long)end_of(of, i), (long long)end);
}

static int32_t must_not_be_called(const leat_record *r, int32_t partitions, void *ctx) {
    (void)r;
    atomic_fetch_add((atomic_int *)ctx, 1);
    return partitions;
}

Test(partitioner, wrong_options_are_refused) {
    static const struct {
        leat_producer_options o;
        const char *says;
    } wrong[] = {
        { { .partitioner = -1 }, "partitioner is -1" },
        { { .partitioner = 5 }, "partitioner is 5" },
        { { .partitioner = INT32_MIN }, "partitioner" },
        { { .partitioner = INT32_MAX }, "partitioner" },
        { { .partitioner = LEAT_BY_FUNCTION }, "NULL" },
        { { .partitioner = LEAT_BY_FUNCTION, .partition_ctx = value }, "NULL" },
        { { .partition = must_not_be_called }, "LEAT_BY_FUNCTION" }, // it never would be
        { { .partition = must_not_be_called, .partitioner = LEAT_STICKY }, "LEAT_BY_FUNCTION" },
    };
    open_store(1);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        p = (leat_producer *)value;
        fails_saying(LEAT_EINVAL, wrong[i].says, leat_producer_open(mq, &wrong[i].o, &p));
        cr_assert_null(p);
    }
    close_store();
}

// murmur2 as Kafka's tests have it, and its sign bit cut off.
Test(partitioner, by_key_is_where_kafkas_java_client_puts_it) {
    static const struct {
        leat_bytes key;
        uint32_t hash;
    } c[] = {
        { { "foobar", 6 }, 0xd0e47bbeu },
        { { "abc", 3 }, 0x1c94221bu },
        { { "kafka", 5 }, 0xd067cf64u },
        { { "", 0 }, 0x106e08d9u }, // an empty key is a key
        { { "\xff\xff\xff", 3 }, 0x5c47a5feu },
        { { "\x80\xfe\xff\x81\x90\xa0\xb0", 7 }, 0x27c219b2u },
    };
    static const int32_t counts[] = { 1, 2, 7, 12, 1024 };
    for (size_t n = 0; n < sizeof counts / sizeof counts[0]; n++) {
        open_store(counts[n]);
        for (int32_t rule = 0; rule <= LEAT_BY_KEY; rule++) {
            p = producer((leat_producer_options){ .partitioner = rule });
            for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
                int32_t there = (int32_t)((c[i].hash & 0x7fffffff) % (uint32_t)counts[n]);
                recs[0] = (leat_record){ .key = c[i].key, .value = LEAT_STR("v") };
                for (int together = 0; together < 2; together++) {
                    send_all(together, 1);
                    cr_assert_eq(md[0].partition, there, "case %zu of %d", i, counts[n]);
                }
            }
        }
        close_store();
    }
}

// So that it stays in one partition; with a key the key decides.
Test(partitioner, a_group_without_a_key_chooses_as_a_key_would) {
    static const int32_t rules[] = { 0, LEAT_BY_KEY, LEAT_ROUND_ROBIN, LEAT_STICKY };
    open_store(PARTS);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        p = producer((leat_producer_options){ .partitioner = rules[i] });
        for (size_t n = 0; n < 20; n++) {
            leat_record r = { .value = LEAT_STR("v"), .group = LEAT_STR("foobar") };
            ok(leat_send(p, t, &r, &md[0]));
            cr_assert_eq(md[0].partition, (int32_t)(0x50e47bbeu % PARTS), "rule %d", rules[i]);
            r.to_partition = LEAT_PARTITION(2);
            ok(leat_send(p, t, &r, &md[0]));
            cr_assert_eq(md[0].partition, 2);
            r.to_partition = 0;
            r.key = leat_str("abc");
            ok(leat_send_many(p, t, &r, 1, &md[0]));
            cr_assert(rules[i] > LEAT_BY_KEY || md[0].partition == (int32_t)(0x1c94221bu % PARTS));
        }
    }
    close_store();
}

Test(partitioner, a_partition_that_is_named_goes_first_whatever_the_rule) {
    for (int32_t rule = 0; rule <= LEAT_BY_FUNCTION; rule++) {
        atomic_int calls = 0;
        leat_producer_options o = { .partitioner = rule };
        if (rule == LEAT_BY_FUNCTION) {
            o.partition = must_not_be_called;
            o.partition_ctx = &calls;
        }
        open_store(PARTS);
        p = producer(o);
        number(PARTS);
        for (int32_t i = 0; i < PARTS; i++)
            recs[i].to_partition = LEAT_PARTITION(PARTS - 1 - i);
        for (int together = 0; together < 2; together++) {
            send_all(together, PARTS);
            for (int32_t i = 0; i < PARTS; i++)
                cr_assert_eq(md[i].partition, PARTS - 1 - i, "rule %d", rule);
        }
        static const int32_t none[] = { -1, INT32_MIN, PARTS + 1, INT32_MAX };
        for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
            recs[0].to_partition = none[i];
            fails_saying(LEAT_ERANGE, "topic t", leat_send(p, t, &recs[0], NULL));
            fails_saying(LEAT_ERANGE, "topic t", leat_send_many(p, t, recs, 1, NULL));
        }
        all_end_at(t, PARTS, 2);
        cr_assert_eq(calls, 0);
        close_store();
    }
}

Test(partitioner, round_robin_is_even_and_does_not_look_at_keys) {
    open_store(PARTS);
    leat_topic *u;
    ok(leat_topic_open(mq, "u", &(leat_topic_options){ .partitions = 2 }, &u));
    p = producer((leat_producer_options){ .partitioner = LEAT_ROUND_ROBIN });
    number(MANY);
    for (int i = 0; i < MANY; i++) // all of one key
        recs[i].key = LEAT_STR("k");
    for (size_t i = 0; i < PARTS; i++) { // in turn, while another topic has its own turns
        ok(leat_send(p, t, &recs[i], &md[i]));
        ok(leat_send(p, u, &recs[i], NULL));
        cr_assert_eq(md[i].partition, (int32_t)i);
    }
    all_end_at(t, PARTS, 1);
    cr_assert(end_of(u, 0) == 4 && end_of(u, 1) == 3);
    send_all(true, MANY);
    all_end_at(t, PARTS, 1 + MANY / PARTS);
    // Two producers share the turns; what names a partition takes none.
    leat_producer *other = producer((leat_producer_options){ .partitioner = LEAT_ROUND_ROBIN });
    for (size_t i = 0; i < 2 * PARTS; i++) {
        ok(leat_send(i % 2 ? p : other, t, &recs[i], NULL));
        leat_record r = { .value = LEAT_STR("v"), .to_partition = LEAT_PARTITION(0) };
        ok(leat_send(p, u, &r, NULL));
    }
    all_end_at(t, PARTS, 3 + MANY / PARTS);
    ok(leat_send(p, u, &recs[0], &md[0]));
    cr_assert_eq(md[0].partition, 1);
    // More partitions join in.
    ok(leat_topic_grow(u, 3));
    int got[3] = { 0 };
    for (size_t i = 0; i < 30; i++) {
        ok(leat_send(p, u, &recs[i], &md[i]));
        got[md[i].partition]++;
    }
    cr_assert(got[0] == 10 && got[1] == 10 && got[2] == 10);
    close_store();
}

// A record that is refused takes no turn: else every second one, always the bad, would leave half
// of the partitions empty.
Test(partitioner, what_is_refused_takes_no_turn) {
    open_store(2);
    p = producer((leat_producer_options){ .partitioner = LEAT_ROUND_ROBIN });
    number(4);
    leat_record wrong[2] = { recs[0], { .value = { NULL, 0 } } };
    for (int i = 0; i < 10; i++) {
        fails(LEAT_EINVAL, leat_send(p, t, &wrong[1], NULL));
        fails(LEAT_EINVAL, leat_send_many(p, t, wrong, 2, NULL));
        ok(leat_send(p, t, &recs[0], NULL));
    }
    all_end_at(t, 2, 5);
    close_store();
}

Test(partitioner, sticky_stays_for_16_kib_whatever_the_keys) {
    for (int32_t rule = LEAT_BY_KEY; rule <= LEAT_STICKY; rule += LEAT_STICKY - LEAT_BY_KEY) {
        for (int together = 0; together < 2; together++) {
            open_store(PARTS);
            p = producer((leat_producer_options){ .partitioner = rule });
            number(MANY);
            for (size_t i = 0; i < MANY && rule == LEAT_BY_KEY; i++)
                recs[i].key = (leat_bytes){ NULL, 0 };
            send_all(together, MANY);
            // 15 records are less than 16 KiB and 16 are not, with keys or without.
            int run = 0, changes = 0, used[PARTS] = { 0 };
            for (size_t i = 0; i < MANY; i++, run++) {
                used[md[i].partition]++;
                if (i == 0 || md[i].partition == md[i - 1].partition)
                    continue;
                cr_assert(run == 16, "a run of %d before record %zu", run, i);
                run = 0;
                changes++;
            }
            cr_assert_eq(changes, (MANY - 1) / 16);
            for (int i = 0; i < PARTS; i++)
                cr_assert(used[i] > 0, "partition %d got none", i);
            close_store();
        }
    }
}

// A batch that is sent together is what a partition gets in a row.
Test(partitioner, sticky_stays_for_batch_bytes) {
    static const struct {
        int64_t bytes;
        int run;
    } c[] = { { 1, 1 }, { 4096, 4 }, { 100 * 1024, 100 }, { 64 * 1024 * 1024, MANY } };
    for (size_t k = 0; k < sizeof c / sizeof c[0]; k++) {
        open_store(PARTS);
        p = producer((leat_producer_options){ .batch_bytes = c[k].bytes });
        number(MANY);
        for (size_t i = 0; i < MANY; i++)
            recs[i].key = (leat_bytes){ NULL, 0 };
        send_all(false, MANY);
        for (int i = 1; i < MANY; i++) {
            bool same = md[i].partition == md[i - 1].partition;
            cr_assert(same == (i % c[k].run != 0), "case %zu, record %d", k, i);
        }
        close_store();
    }
}

struct chooser {
    atomic_int calls;
    const leat_record *last;
    int32_t partitions, answer;
};

static int32_t choose(const leat_record *r, int32_t partitions, void *ctx) {
    struct chooser *c = ctx;
    atomic_fetch_add(&c->calls, 1);
    c->last = r;
    c->partitions = partitions;
    return c->answer == -2 ? (int32_t)r->value.size % partitions : c->answer;
}

Test(partitioner, a_function_chooses) {
    struct chooser c = { .answer = -2 };
    open_store(PARTS);
    p = producer((leat_producer_options){
        .partitioner = LEAT_BY_FUNCTION, .partition = choose, .partition_ctx = &c });
    number(MANY);
    for (size_t i = 0; i < MANY; i++)
        recs[i].value.size = i;
    for (int together = 0; together < 2; together++) {
        c.calls = 0;
        send_all(together, MANY);
        cr_assert_eq(c.calls, MANY, "once for each record");
        cr_assert_eq(c.last, &recs[MANY - 1]);
        cr_assert_eq(c.partitions, PARTS);
        for (size_t i = 0; i < MANY; i++)
            cr_assert_eq(md[i].partition, (int32_t)(i % PARTS));
    }
    all_end_at(t, PARTS, 2 * MANY / PARTS);
    ok(leat_topic_grow(t, PARTS + 2)); // it hears of more
    ok(leat_send(p, t, &recs[0], NULL));
    cr_assert_eq(c.partitions, PARTS + 2);
    recs[1] = (leat_record){ .value = { NULL, 0 } }; // a wrong record is not shown to it
    c.calls = 0;
    fails(LEAT_EINVAL, leat_send(p, t, &recs[1], NULL));
    fails(LEAT_EINVAL, leat_send_many(p, t, recs, 2, NULL));
    cr_assert_eq(c.calls, 0);
    close_store();
}

Test(partitioner, a_function_that_chooses_what_is_not_there_stores_nothing) {
    static const int32_t bad[] = { -1, INT32_MIN, INT32_MAX, 0 }; // 0: the number of partitions
    for (int32_t parts = 1; parts <= PARTS; parts += PARTS - 1) {
        struct chooser c = { .answer = 0 };
        open_store(parts);
        p = producer((leat_producer_options){
            .partitioner = LEAT_BY_FUNCTION, .partition = choose, .partition_ctx = &c });
        number(2);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            char says[64];
            c.answer = bad[i] ? bad[i] : parts;
            (void)snprintf(says, sizeof says, "topic t has %d partitions", parts);
            fails_saying(LEAT_ERANGE, says, leat_send(p, t, &recs[0], &md[0]));
            (void)snprintf(says, sizeof says, "chose %d", c.answer);
            fails_saying(LEAT_ERANGE, says, leat_send_many(p, t, recs, 2, md));
            cr_assert(md[0].offset == -1 && md[1].offset == -1);
            all_end_at(t, parts, 0);
        }
        // All in a call or none: the first one's partition is there.
        c.answer = PARTS;
        recs[0].to_partition = LEAT_PARTITION(0);
        fails(LEAT_ERANGE, leat_send_many(p, t, recs, 2, md));
        all_end_at(t, parts, 0);
        c.answer = parts - 1;
        ok(leat_send_many(p, t, recs, 2, md));
        cr_assert_eq(md[1].partition, parts - 1);
        close_store();
    }
}

struct nosy {
    leat_topic *u;
    leat_producer *plain;
    leat_consumer *c;
    int bad;
};

// What is not [cb] does nothing; what is works, on the very topic that is sent to.
static int32_t call_leat(const leat_record *r, int32_t partitions, void *ctx) {
    struct nosy *n = ctx;
    const leat_message *m;
    leat_range range;
    (void)partitions;
    n->bad += leat_poll(n->c, 0, &m) != LEAT_EDEADLK;
    n->bad += leat_topic_grow(n->u, 9) != LEAT_EDEADLK;
    n->bad += leat_producer_close(n->plain, 0) != LEAT_EDEADLK;
    n->bad += leat_close_all(mq, 0) != LEAT_EDEADLK;
    n->bad += leat_topic_range(t, 0, &range) != 0;
    n->bad += leat_send(n->plain, n->u, r, NULL) != 0;
    n->bad += leat_send(n->plain, t, r, NULL) != 0;
    return 1;
}

Test(partitioner, a_function_may_call_what_callbacks_may) {
    struct nosy n = { .bad = 0 };
    open_store(2);
    ok(leat_topic_open(mq, "u", NULL, &n.u));
    n.plain = producer((leat_producer_options){ .partitioner = LEAT_STICKY });
    ok(leat_consumer_open(mq, NULL, NULL, &n.c));
    p = producer((leat_producer_options){
        .partitioner = LEAT_BY_FUNCTION, .partition = call_leat, .partition_ctx = &n });
    number(3);
    ok(leat_send(p, t, &recs[0], &md[0]));
    cr_assert_eq(md[0].partition, 1);
    ok(leat_send_many(p, t, recs, 3, md));
    cr_assert_eq(n.bad, 0);
    cr_assert_eq(end_of(n.u, 0), 4);
    cr_assert_eq(end_of(t, 0) + end_of(t, 1), 8);
    ok(leat_consumer_close(n.c)); // outside of it all is allowed again
    close_store();
}

static int32_t send_again(const leat_record *r, int32_t partitions, void *ctx) {
    leat_record inner = *r;
    inner.to_partition = LEAT_PARTITION(0);
    (void)partitions;
    *(int *)ctx += leat_send(p, t, &inner, NULL) != 0;
    return 1;
}

// Where leat_crash counts calls: one inside another is over when both are.
Test(partitioner, a_function_may_send_with_its_own_producer) {
    int bad = 0;
    leat *after;
    ok(leat_open_memory(&(leat_options){ .flags = LEAT_CRASHABLE }, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 2 }, &t));
    p = producer((leat_producer_options){ .acks = LEAT_ACKS_DISK,
                                          .partitioner = LEAT_BY_FUNCTION,
                                          .partition = send_again,
                                          .partition_ctx = &bad });
    number(2);
    ok(leat_send(p, t, &recs[0], NULL));
    ok(leat_send_many(p, t, recs, 2, NULL));
    cr_assert_eq(bad, 0);
    ok(leat_crash(mq, LEAT_POWER_CUT, &after));
    ok(leat_close_all(mq, 0));
    mq = after;
    ok(leat_topic_open(mq, "t", NULL, &t));
    all_end_at(t, 2, 3);
    close_store();
}

// What is sent later is placed when it is accepted.
Test(partitioner, asynchronous_sends_are_placed_by_the_same_rules) {
    struct chooser c = { .answer = -2 };
    leat_future *f;
    ok(leat_test_open(&mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = PARTS }, &t));
    p = producer((leat_producer_options){ .partitioner = LEAT_ROUND_ROBIN });
    number(MANY);
    for (size_t i = 0; i < MANY; i++)
        ok(leat_send_async(p, t, &recs[i], NULL, NULL));
    ok(leat_flush(p, LEAT_FOREVER));
    all_end_at(t, PARTS, MANY / PARTS);
    p = producer((leat_producer_options){
        .partitioner = LEAT_BY_FUNCTION, .partition = choose, .partition_ctx = &c });
    for (size_t i = 0; i < MANY; i++) {
        recs[i].value.size = i;
        ok(leat_send_async(p, t, &recs[i], NULL, NULL));
    }
    cr_assert_eq(c.calls, MANY, "by now");
    ok(leat_flush(p, LEAT_FOREVER));
    all_end_at(t, PARTS, 2 * MANY / PARTS);
    c.answer = PARTS;
    fails_saying(LEAT_ERANGE, "chose 7", leat_send_async(p, t, &recs[0], NULL, NULL));
    fails_saying(LEAT_ERANGE, "chose 7", leat_send_future(p, t, &recs[0], &f));
    ok(leat_flush(p, LEAT_FOREVER));
    all_end_at(t, PARTS, 2 * MANY / PARTS);
    close_store();
}

struct hand {
    leat_producer *p;
    int n, bad;
    bool together;
    pthread_t thread;
};

static void *send_some(void *ctx) {
    struct hand *h = ctx;
    leat_record r[10];
    for (int i = 0; i < 10; i++)
        r[i] = (leat_record){ .key = LEAT_STR("k"), .value = LEAT_STR("v") };
    for (int i = 0; i < h->n; i += 10) {
        if (h->together)
            h->bad += leat_send_many(h->p, t, r, 10, NULL) != 0;
        for (int k = 0; k < 10 && !h->together; k++)
            h->bad += leat_send(h->p, t, &r[k], NULL) != 0;
    }
    return NULL;
}

static void hands_send(struct hand *h, int count) {
    for (int i = 0; i < count; i++)
        cr_assert_eq(pthread_create(&h[i].thread, NULL, send_some, &h[i]), 0);
    for (int i = 0; i < count; i++)
        cr_assert_eq(pthread_join(h[i].thread, NULL), 0);
    for (int i = 0; i < count; i++)
        cr_assert_eq(h[i].bad, 0);
}

Test(partitioner, round_robin_is_even_when_threads_send) {
    enum { EACH = 70 * PARTS };
    open_store(PARTS);
    p = producer((leat_producer_options){ .partitioner = LEAT_ROUND_ROBIN });
    leat_producer *other = producer((leat_producer_options){ .partitioner = LEAT_ROUND_ROBIN });
    struct hand h[4] = { { .p = p, .n = EACH },
                         { .p = p, .n = EACH, .together = true },
                         { .p = p, .n = EACH },
                         { .p = other, .n = EACH } };
    hands_send(h, 4);
    all_end_at(t, PARTS, 4 * EACH / PARTS);
    close_store();
}

static int32_t to_the_last(const leat_record *r, int32_t partitions, void *ctx) {
    (void)r;
    atomic_fetch_add((atomic_int *)ctx, 1);
    return partitions - 1;
}

Test(partitioner, threads_call_a_function_and_stick) {
    enum { EACH = 500 };
    atomic_int calls = 0;
    open_store(PARTS);
    p = producer((leat_producer_options){
        .partitioner = LEAT_BY_FUNCTION, .partition = to_the_last, .partition_ctx = &calls });
    leat_producer *other = producer((leat_producer_options){ .partitioner = LEAT_STICKY });
    struct hand h[4] = { { .p = p, .n = EACH },
                         { .p = p, .n = EACH, .together = true },
                         { .p = other, .n = EACH },
                         { .p = other, .n = EACH, .together = true } };
    hands_send(h, 4);
    cr_assert_eq(calls, 2 * EACH);
    int64_t sum = 0;
    for (int32_t i = 0; i < PARTS; i++)
        sum += end_of(t, i);
    cr_assert_eq(sum, 4 * EACH);
    cr_assert(end_of(t, PARTS - 1) >= 2 * EACH);
    close_store();
}

// Queues have no rule of their own: by key, else sticky.
Test(partitioner, a_queue_sends_by_key) {
    leat_queue *q;
    open_store(PARTS);
    ok(leat_queue_open(mq, "q", &(leat_queue_options){ .topic = "t" }, &q));
    p = producer((leat_producer_options){ 0 });
    number(40);
    for (size_t i = 0; i < 40; i++) {
        ok(leat_queue_send(q, &recs[i], &md[0]));
        ok(leat_send(p, t, &recs[i], &md[1]));
        cr_assert(!recs[i].key.data || md[0].partition == md[1].partition, "record %zu", i);
    }
    ok(leat_queue_close(q));
    close_store();
}
