/* SPDX-License-Identifier: MIT */
// Times: what the index of a segment knows of them in blocks of 512 records, held against a look at
// each record. And how large the segments are in which they stand.
#include "base/chance.h"
#include "lib/place.h"
#include "log/log.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <errno.h>

enum { MANY = 2600, BATCH = 150, FAR = 1000000 };

static leat *mq;
static leat_topic *t;
static leat_producer *p;
static struct lt_os os;
static bool full; // no pwrite works
static struct lt_chance chance;
static int64_t stored[MANY + 2 * BATCH]; // timestamps
static int count;

static int64_t full_pwrite(struct lt_os *self, int fd, const void *bytes, size_t n, int64_t at) {
    (void)self;
    return full ? -ENOSPC : lt_os_system()->pwrite(lt_os_system(), fd, bytes, n, at);
}

static void open_store(const char *path) {
    leat_options o = { .seed = 1, .write = path ? LEAT_WRITE_PWRITE : 0 };
    os = *lt_os_system();
    os.pwrite = full_pwrite;
    ok(lt_store_open(path, &o, &os, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p));
}

// Sends n as a batch, of times around the last one, and now and then of one that is far ahead.
static void send(int n, bool stores) {
    leat_record r[BATCH];
    for (int i = 0; i < n; i++) {
        int64_t around = 1000000 + 10 * (count + i) + (int64_t)lt_chance_below(&chance, 100);
        bool ahead = lt_chance_below(&chance, 400) == 0 || !stores;
        stored[count + i] = around + (ahead ? (int64_t)lt_chance_below(&chance, FAR) : 0);
        r[i] = (leat_record){ .value = LEAT_STR("v"), .timestamp_ms = stored[count + i] };
    }
    full = !stores;
    int rc = leat_send_many(p, t, r, (size_t)n, NULL);
    full = false;
    cr_assert_eq(rc, stores ? 0 : LEAT_ENOSPC, "%s: %s", leat_errname(rc), leat_errmsg());
    count += stores ? n : 0;
}

static void check(void) {
    for (int i = 0; i < 40; i++) {
        int64_t ts = 1000000 + (int64_t)lt_chance_below(&chance, (uint64_t)(12 * count + 200));
        int64_t wanted = 0, found = -1;
        while (wanted < count && stored[wanted] < ts)
            wanted++;
        int rc = lt_partition_offset_at(lt_topic_part(t, 0), ts, &found);
        cr_assert_eq(rc, wanted < count, "%d of %d: %s", i, count, leat_errmsg());
        cr_assert_eq(found, wanted, "of %d records: %lld, not %lld", count, (long long)found,
                     (long long)wanted);
    }
}

Test(times, are_found_as_by_a_look_at_each_record) {
    lt_chance_init(&chance, 11);
    open_store(NULL);
    for (count = 0; count < MANY;) {
        send(1 + (int)lt_chance_below(&chance, BATCH), true);
        check();
    }
    ok(leat_close_all(mq, 0));
}

Test(times, of_what_was_not_stored_mislead_nobody_and_an_open_goes_on, .init = make_root,
     .fini = drop_root) {
    lt_chance_init(&chance, 12);
    open_store(dir);
    for (count = 0; count < MANY;) {
        send(1 + (int)lt_chance_below(&chance, BATCH), true);
        send(BATCH, false); // over the end of a block, in every fourth
        check();
        if (lt_chance_below(&chance, 4) == 0) {
            ok(leat_close_all(mq, 0));
            open_store(dir);
            check();
        }
    }
    ok(leat_close_all(mq, 0));
}

// ---- how large

static uint64_t size_of_last(void) {
    const struct lt_partition *part = lt_topic_part(t, 0);
    return part->segs[part->count - 1]->map_size;
}

Test(times, segments_in_memory_grow_with_what_their_topic_holds) {
    static char bytes[16 << 10];
    const uint64_t page = LT_SEGMENT_PAGE,
                   sizes[] = { (64 << 10) + page, (256 << 10) + page, (1 << 20) + page, 3 << 20 };
    uint64_t got = 0;
    size_t n = 0;
    open_store(NULL);
    const leat_topic_options o = { .segment_bytes = 3 << 20, .retention_bytes = 8 << 20 };
    ok(leat_topic_open(mq, "grows", &o, &t));
    for (int i = 0; i < 1000; i++) {
        ok(leat_send(p, t, &(leat_record){ .value = { bytes, sizeof bytes } }, NULL));
        if (size_of_last() != got) {
            got = size_of_last();
            cr_assert_lt(n, sizeof sizes / sizeof sizes[0], "it does not grow for ever");
            cr_assert_eq(got, sizes[n++]);
        }
    }
    cr_assert_eq(n, sizeof sizes / sizeof sizes[0]);
    ok(leat_close_all(mq, 0));
}

Test(times, a_batch_has_a_segment_of_its_own_size_where_it_must) {
    static char bytes[600 << 10];
    open_store(NULL);
    ok(leat_send(p, t, &(leat_record){ .value = { bytes, sizeof bytes } }, NULL));
    cr_assert_eq(size_of_last(), (1u << 20) + LT_SEGMENT_PAGE, "the next size in which it fits");
    ok(leat_topic_open(mq, "small", &(leat_topic_options){ .segment_bytes = 16 << 10 }, &t));
    ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
    cr_assert_eq(size_of_last(), 16u << 10, "never more than asked for");
    ok(leat_send(p, t, &(leat_record){ .value = { bytes, sizeof bytes } }, NULL));
    cr_assert_geq(size_of_last(), sizeof bytes + LT_SEGMENT_PAGE);
    cr_assert_lt(size_of_last(), sizeof bytes + 2 * LT_SEGMENT_PAGE);
    ok(leat_close_all(mq, 0));
}

Test(times, segments_on_disk_are_as_large_as_asked_for, .init = make_root, .fini = drop_root) {
    open_store(dir);
    ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
    cr_assert_eq(size_of_last(), 64u << 20);
    ok(leat_close_all(mq, 0));
}
