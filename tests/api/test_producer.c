/* SPDX-License-Identifier: MIT */
// Sending: what comes back is what was sent, where it goes, what is too much.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MIB = 1024 * 1024, RECORD_MAX = 16 * MIB, KEY_MAX = 64 * 1024 };

// disk: 0 memory, or how to write.
static void open_store(int disk, int32_t partitions) {
    leat_options o = { .write = disk, .clock = LEAT_CLOCK_MANUAL, .seed = 3 };
    leat_topic_options topic = { .partitions = partitions, .segment_bytes = 16384 };
    ok(fixture_open(disk ? dir : NULL, &o, &topic,
                    &(leat_producer_options){ .acks = LEAT_ACKS_LOG }));
}

static leat_consumer *reader(int32_t partition) {
    leat_consumer *c;
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(
        c, &(leat_position){ .topic = "t", .partition = partition, .offset = LEAT_BEGIN }, 1));
    return c;
}

static bool same(leat_bytes a, leat_bytes b) {
    if (!a.data || !b.data)
        return !a.data && !b.data && a.size == b.size;
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0) &&
           ((const char *)a.data)[a.size] == '\0'; // a came out: a NUL that is not counted
}

static leat_header many[64];
static char large[200000];
#define BYTES(data, size)                                                                          \
    { (data), (size) }

static const leat_header two[] = {
    { BYTES("name", 4), BYTES("value", 5) },
    { BYTES("", 0), { NULL, 0 } },
};
static const leat_record shapes[] = {
    { .value = BYTES("v", 1) },
    { .value = BYTES("", 0) },
    { .key = BYTES("", 0), .value = BYTES("", 0) },
    { .key = BYTES("k", 1) }, // a tombstone
    { .key = BYTES("", 0) },
    { .key = BYTES("k\0k", 3), .value = BYTES("v\0\0v", 4), .timestamp_ms = 123456789 },
    { .value = BYTES("v", 1), .headers = two, .header_count = 2, .timestamp_ms = -5 },
    { .key = BYTES("k", 1), .headers = two, .header_count = 2, .timestamp_ms = INT64_MAX },
    { .key = BYTES("k", 1), .value = BYTES("v", 1), .headers = two, .header_count = 1 },
    { .value = BYTES("v", 1), .headers = many, .header_count = 64 },
    { .key = BYTES(large, 1000), .value = BYTES(large, 7777) },
    { .value = BYTES(large, sizeof large), .headers = many, .header_count = 64 },
    { .value = BYTES("after", 5) },
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static void check_shapes(leat_consumer *c, int rounds, int64_t wall) {
    const leat_message *m;
    int n, at = 0;
    while ((n = leat_poll(c, 0, &m)) > 0) {
        for (int i = 0; i < n; i++, at++) {
            const leat_record *r = &shapes[at % SHAPES];
            cr_assert_eq(m[i].offset, at);
            cr_assert(same(m[i].key, r->key), "key of shape %d", at % SHAPES);
            cr_assert(same(m[i].value, r->value), "value of shape %d", at % SHAPES);
            cr_assert_eq(m[i].timestamp_ms, r->timestamp_ms ? r->timestamp_ms : wall);
            cr_assert_eq(m[i].header_count, r->header_count);
            leat_header h;
            for (size_t k = 0; k < r->header_count; k++) {
                cr_assert_eq(leat_message_header(&m[i], k, &h), 1);
                cr_assert(same(h.name, r->headers[k].name));
                cr_assert(same(h.value, r->headers[k].value), "header %zu of shape %d", k,
                          at % SHAPES);
            }
            cr_assert_eq(leat_message_header(&m[i], r->header_count, &h), 0);
            cr_assert_eq(leat_message_header(&m[i], SIZE_MAX, &h), 0);
            fails(LEAT_EINVAL, leat_message_header(&m[i], 0, NULL));
        }
    }
    cr_assert_eq(n, 0);
    cr_assert_eq(at, rounds * SHAPES);
}

static void fill(void) {
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)(i * 7 % 251);
    for (size_t i = 0; i < 64; i++)
        many[i] = (leat_header){ { large + i, i }, { i % 5 ? large : NULL, i % 5 ? i * 9 : 0 } };
}

Test(producer, what_was_sent_comes_back_from_memory_and_disk, .init = make_dir, .fini = drop_dir) {
    fill();
    for (int disk = 0; disk < 3; disk++) {
        int64_t wall = 0;
        for (int round = 1; round <= 2; round++) {
            open_store(disk, 1);
            ok(leat_clock_now(mq, NULL, &wall));
            for (int i = 0; i < SHAPES; i++) {
                leat_metadata md = { .offset = -77 };
                ok(leat_send(p, t, &shapes[i], &md));
                cr_assert_eq(md.offset, (disk ? round - 1 : 0) * SHAPES + i);
                cr_assert_eq(md.partition, 0);
                cr_assert_str_eq(md.topic, "t");
                cr_assert_eq(md.timestamp_ms,
                             shapes[i].timestamp_ms ? shapes[i].timestamp_ms : wall);
                cr_assert_eq(md.duplicate, 0);
            }
            check_shapes(reader(0), disk ? round : 1, wall);
            ok(leat_close_all(mq, 0));
        }
        if (disk) {
            open_store(disk, 1);
            check_shapes(reader(0), 2, wall);
            ok(leat_close_all(mq, 0));
        }
        scratch_remove(dir);
    }
}

Test(producer, wrong_records_and_arguments_are_refused_and_nothing_is_stored) {
    leat_producer *q = NULL;
    leat *other;
    leat_topic *u;
    open_store(0, 2);
    fails(LEAT_EINVAL, leat_producer_open(NULL, NULL, &q));
    fails(LEAT_EINVAL, leat_producer_open(mq, NULL, NULL));
    fails(LEAT_EINVAL, leat_producer_open(mq, &(leat_producer_options){ .acks = -1 }, &q));
    fails(LEAT_EINVAL, leat_producer_open(mq, &(leat_producer_options){ .acks = 4 }, &q));
    fails(LEAT_EINVAL, leat_producer_open(mq, &(leat_producer_options){ .reserved = { 1 } }, &q));
    cr_assert_null(q);
    leat_record good = { .value = LEAT_STR("v") };
    fails(LEAT_EINVAL, leat_send(NULL, t, &good, NULL));
    fails(LEAT_EINVAL, leat_send(p, NULL, &good, NULL));
    fails(LEAT_EINVAL, leat_send(p, t, NULL, NULL));
    ok(leat_open_memory(NULL, &other));
    ok(leat_topic_open(other, "t", NULL, &u));
    fails(LEAT_EINVAL, leat_send(p, u, &good, NULL)); // of another store
    ok(leat_close(other, 0));
    static const leat_header nameless = { { NULL, 0 }, BYTES("v", 1) };
    static const leat_header hollow = { BYTES("n", 1), { NULL, 3 } };
    static const leat_record bad[] = {
        { .timestamp_ms = 0 }, // neither key nor value
        { .value = { NULL, 1 }, .key = BYTES("k", 1) },
        { .value = BYTES("v", 1), .key = { NULL, 1 } },
        { .value = BYTES("v", 1), .header_count = 1 },
        { .value = BYTES("v", 1), .headers = &nameless, .header_count = 1 },
        { .value = BYTES("v", 1), .headers = &hollow, .header_count = 1 },
        { .value = BYTES("v", 1), .priority = 10 },
        { .value = BYTES("v", 1), .priority = -1 },
        { .value = BYTES("v", 1), .delay_ms = -1 },
        { .value = BYTES("v", 1), .delay_ms = INT64_C(366) * 86400000 + 1 },
        { .value = BYTES("v", 1), .group = BYTES("", 0) },
        { .value = BYTES("v", 1), .group = { NULL, 1 } },
        { .value = BYTES("v", 1), .dedup_id = { NULL, 1 } },
        { .value = BYTES("v", 1), .dedup_id = BYTES("d", 0) },
        { .value = BYTES("v", 1), .reserved = { 0, 0, 0, 1 } },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        fails(LEAT_EINVAL, leat_send(p, t, &bad[i], NULL));
    static const int32_t nowhere[] = { 3, 1025, INT32_MAX, -1, INT32_MIN };
    for (size_t i = 0; i < sizeof nowhere / sizeof nowhere[0]; i++) {
        good.to_partition = nowhere[i];
        fails_saying(LEAT_ERANGE, "t has 2 partitions", leat_send(p, t, &good, NULL));
    }
    for (int32_t i = 0; i < 2; i++) {
        leat_range range;
        ok(leat_topic_range(t, i, &range));
        cr_assert_eq(range.end, 0);
    }
    fails(LEAT_EINVAL, leat_producer_close(NULL, 0));
    fails(LEAT_EINVAL, leat_producer_close(p, -2));
    ok(leat_producer_close(p, 0));
    ok(leat_close(mq, 0));
}

Test(producer, sizes_have_limits_at_both_sides, .init = make_dir, .fini = drop_dir) {
    char *big = calloc(1, RECORD_MAX + 1);
    cr_assert_not_null(big);
    big[0] = 'a';
    big[RECORD_MAX - 2] = 'z';
    for (int disk = 0; disk < 3; disk++) {
        open_store(disk, 1);
        leat_record r = { .value = { big, RECORD_MAX } };
        ok(leat_send(p, t, &r, NULL));
        r.value.size++;
        fails(LEAT_ETOOBIG, leat_send(p, t, &r, NULL));
        r.value.size = SIZE_MAX;
        fails(LEAT_ETOOBIG, leat_send(p, t, &r, NULL));
        r = (leat_record){ .key = { big, KEY_MAX }, .value = { big, RECORD_MAX - KEY_MAX } };
        ok(leat_send(p, t, &r, NULL)); // all of it together
        r.value.size++;
        fails(LEAT_ETOOBIG, leat_send(p, t, &r, NULL));
        r = (leat_record){ .key = { big, KEY_MAX + 1 } };
        fails_saying(LEAT_ETOOBIG, "key", leat_send(p, t, &r, NULL));
        r.key.size = SIZE_MAX;
        fails(LEAT_ETOOBIG, leat_send(p, t, &r, NULL));
        leat_header h[65];
        for (int i = 0; i < 65; i++)
            h[i] = (leat_header){ LEAT_STR("n"), LEAT_STR("") };
        r = (leat_record){ .value = LEAT_STR("v"), .headers = h, .header_count = 64 };
        ok(leat_send(p, t, &r, NULL));
        r.header_count = 65;
        fails_saying(LEAT_ETOOBIG, "headers", leat_send(p, t, &r, NULL));
        h[1] = (leat_header){ { big, MIB }, { big, RECORD_MAX - MIB - 4 } };
        r = (leat_record){
            .key = LEAT_STR("k"), .value = LEAT_STR("v"), .headers = h, .header_count = 3
        }; // 1 + 1 + 1 + all of h[1] + 1
        ok(leat_send(p, t, &r, NULL));
        r.value = LEAT_STR("vv");
        fails(LEAT_ETOOBIG, leat_send(p, t, &r, NULL));
        r.value = LEAT_STR("v");
        h[1].value.size = SIZE_MAX; // sums must not wrap
        fails(LEAT_ETOOBIG, leat_send(p, t, &r, NULL));
        h[1] = (leat_header){ { big, SIZE_MAX }, { big, 2 } };
        fails(LEAT_ETOOBIG, leat_send(p, t, &r, NULL));
        ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("small") }, NULL));

        leat_consumer *c = reader(0);
        const leat_message *m;
        gives(5, leat_poll(c, 0, &m)); // each larger than a segment
        cr_assert_eq(m[0].value.size, (size_t)RECORD_MAX);
        cr_assert_eq(memcmp(m[0].value.data, big, RECORD_MAX), 0);
        cr_assert_eq(((const char *)m[0].value.data)[RECORD_MAX], '\0');
        cr_assert_eq(m[1].key.size, (size_t)KEY_MAX);
        cr_assert_eq(m[1].value.size, (size_t)(RECORD_MAX - KEY_MAX));
        is(m[4].value, "small");
        ok(leat_close_all(mq, 0));
        if (disk) {
            open_store(disk, 1);
            c = reader(0);
            gives(5, leat_poll(c, 0, &m));
            cr_assert_eq(memcmp(m[0].value.data, big, RECORD_MAX), 0);
            leat_header out;
            cr_assert_eq(leat_message_header(&m[3], 1, &out), 1);
            cr_assert_eq(out.value.size, (size_t)(RECORD_MAX - MIB - 4));
            is(m[4].value, "small");
            ok(leat_close_all(mq, 0));
        }
        scratch_remove(dir);
    }
    free(big);
}

Test(producer, keys_go_where_kafka_puts_them) {
    static const struct {
        const char *key;
        uint32_t hash;
    } known[] = { { "foobar", 0xd0e47bbeu },
                  { "abc", 0x1c94221bu },
                  { "kafka", 0xd067cf64u },
                  { "", 0x106e08d9u } };
    static const int32_t partitions[] = { 1, 2, 3, 4, 7, 64, 1000 };
    for (size_t k = 0; k < sizeof partitions / sizeof partitions[0]; k++) {
        open_store(0, partitions[k]);
        for (int i = 0; i < 4; i++) {
            leat_metadata md;
            leat_record r = { .key = leat_str(known[i].key) };
            ok(leat_send(p, t, &r, &md));
            cr_assert_eq(md.partition,
                         (int32_t)((known[i].hash & 0x7fffffff) % (uint32_t)partitions[k]), "%s",
                         known[i].key);
            r.to_partition = LEAT_PARTITION(partitions[k] - 1);
            ok(leat_send(p, t, &r, &md)); // said explicitly
            cr_assert_eq(md.partition, partitions[k] - 1);
        }
        ok(leat_close_all(mq, 0));
    }
}

Test(producer, records_without_a_key_stick_to_a_partition_for_16_kib) {
    static char kb[1000];
    int used[4] = { 0 }, changes = 0;
    int32_t last = -1;
    open_store(0, 4);
    for (int i = 0; i < 2000; i++) {
        leat_metadata md;
        ok(leat_send(p, t, &(leat_record){ .value = { kb, sizeof kb } }, &md));
        changes += md.partition != last;
        last = md.partition;
        used[md.partition]++;
    }
    cr_assert(changes >= 2000 / 17 && changes <= 2000 / 14, "%d changes", changes);
    for (int i = 0; i < 4; i++)
        cr_assert_gt(used[i], 200, "partition %d got %d of 2000", i, used[i]);
    ok(leat_close_all(mq, 0));

    int32_t first[2][50];
    for (int run = 0; run < 2; run++) { // same seed, same calls, same partitions
        open_store(0, 4);
        for (int i = 0; i < 50; i++) {
            leat_metadata md;
            leat_record r = { .value = { large, 9000 } };
            ok(leat_send(p, t, &r, &md));
            first[run][i] = md.partition;
        }
        ok(leat_close_all(mq, 0));
    }
    cr_assert_eq(memcmp(first[0], first[1], sizeof first[0]), 0);
}

Test(producer, without_acks_nothing_is_told, .init = make_dir, .fini = drop_dir) {
    leat_record r[3] = { { .value = LEAT_STR("a") }, { .value = LEAT_STR("b") } };
    leat_metadata md[3];
    leat_range range;
    ok(leat_open(dir, &(leat_options){ .acks = LEAT_ACKS_NONE }, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, NULL, &p));
    ok(leat_send(p, t, &r[0], &md[0]));
    cr_assert_eq(md[0].offset, -1);
    ok(leat_send_many(p, t, r, 2, md));
    cr_assert(md[0].offset == -1 && md[1].offset == -1);
    fails(LEAT_EINVAL, leat_send(p, t, &r[2], NULL)); // what is wrong is told all the same
    ok(leat_topic_range(t, 0, &range));
    cr_assert(range.end == 3 && range.durable_end == 0);
    ok(leat_close_all(mq, 0));
}

Test(producer, acks_say_what_survives, .init = make_dir, .fini = drop_dir) {
    static const int32_t store_acks[] = { 0, LEAT_ACKS_LOG, LEAT_ACKS_DISK };
    for (int s = 0; s < 3; s++) {
        for (int q = 0; q < 3; q++) {
            leat_range range;
            ok(leat_open(dir, &(leat_options){ .acks = store_acks[s] }, &mq));
            ok(leat_topic_open(mq, "t", NULL, &t));
            ok(leat_producer_open(mq, &(leat_producer_options){ .acks = store_acks[q] }, &p));
            ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
            ok(leat_topic_range(t, 0, &range));
            int32_t acks = store_acks[q] ? store_acks[q] : store_acks[s];
            cr_assert_eq(range.durable_end, acks == LEAT_ACKS_LOG ? 0 : 1);
            char copy[SCRATCH_PATH];
            scratch_make(copy);
            scratch_remove(copy);    // only its name is wanted
            scratch_copy(dir, copy); // kill -9
            ok(leat_close_all(mq, 0));
            ok(leat_open(copy, NULL, &mq));
            ok(leat_topic_open(mq, "t", NULL, &t));
            ok(leat_topic_range(t, 0, &range));
            cr_assert_eq(range.end, 1);
            ok(leat_close_all(mq, 0));
            scratch_remove(copy);
            scratch_remove(dir);
        }
    }
}

struct hand {
    int32_t partition;
    int n, bad;
    pthread_t thread;
};

static void *send_some(void *ctx) {
    struct hand *h = ctx;
    int64_t last = -1;
    for (int i = 0; i < h->n; i++) {
        leat_metadata md;
        leat_record r = { .value = LEAT_STR("v"), .to_partition = LEAT_PARTITION(h->partition) };
        h->bad += leat_send(p, t, &r, &md) != 0 || md.offset <= last;
        last = md.offset;
    }
    return NULL;
}

Test(producer, serves_many_threads_and_syncs_are_shared, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        enum { HANDS = 6, EACH = 60 };
        struct hand h[HANDS];
        open_store(disk, 2);
        ok(leat_producer_close(p, 0));
        ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_DISK }, &p));
        for (int i = 0; i < HANDS; i++) {
            h[i] = (struct hand){ .partition = i % 2, .n = EACH };
            cr_assert_eq(pthread_create(&h[i].thread, NULL, send_some, &h[i]), 0);
        }
        for (int i = 0; i < HANDS; i++) {
            cr_assert_eq(pthread_join(h[i].thread, NULL), 0);
            cr_assert_eq(h[i].bad, 0);
        }
        for (int32_t i = 0; i < 2; i++) {
            leat_range range;
            ok(leat_topic_range(t, i, &range));
            cr_assert_eq(range.end, HANDS / 2 * EACH);
            cr_assert_eq(range.durable_end, range.end);
        }
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
    }
}
