/* SPDX-License-Identifier: MIT */
// Dedup over restarts and crashes: ids are found again in the records, as far as the window goes;
// retention leaves these records alone; damage, deletion and wrong clocks.
#include "leat.h"
#include "leat_test.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define DAY   (INT64_C(24) * 3600 * 1000)
#define START INT64_C(1700000000000)

static char root[SCRATCH_PATH], dir[SCRATCH_PATH];
static leat *mq;
static leat_topic *t;
static leat_producer *p;

static void make_root(void) {
    scratch_make(root);
    scratch_join(dir, root, "store");
}

static void drop_root(void) {
    scratch_remove(root);
}

static void open_at(const char *path, int64_t start_ms, const leat_topic_options *o) {
    leat_options so = { .acks = LEAT_ACKS_LOG, .clock = LEAT_CLOCK_MANUAL, .start_ms = start_ms };
    ok(path ? leat_open(path, &so, &mq) : leat_open_memory(&so, &mq));
    ok(leat_topic_open(mq, "t", o, &t));
    ok(leat_producer_open(mq, NULL, &p));
}

static void done(void) {
    ok(leat_close_all(mq, 0));
}

static void after(int64_t ms) {
    ok(leat_clock_advance(mq, ms));
}

static leat_range range_of(int32_t partition) {
    leat_range r;
    ok(leat_topic_range(t, partition, &r));
    return r;
}

// 1: it was stored; 0: it is remembered.
static int stores_in(int32_t partition, const char *id) {
    static const char filling[1000];
    leat_metadata md;
    leat_record r = { .value = { filling, sizeof filling },
                      .dedup_id = leat_str(id),
                      .timestamp_ms = partition ? 5 : 0, // what records say is not when they came
                      .to_partition = LEAT_PARTITION(partition) };
    ok(leat_send(p, t, &r, &md));
    cr_assert(md.offset >= 0 && md.partition >= 0);
    return !md.duplicate;
}

static int stores(int id) {
    char text[16];
    (void)snprintf(text, sizeof text, "%d", id);
    return stores_in(0, text);
}

Test(dedup_restart, ids_are_found_again, .init = make_root, .fini = drop_root) {
    enum { N = 100 };
    const leat_topic_options o = { .partitions = 3,
                                   .segment_bytes = 16384,
                                   .dedup_window_count = N };
    char text[16], killed[SCRATCH_PATH];
    leat_metadata first[2 * N], md;
    open_at(dir, START, &o);
    for (int i = 0; i < 2 * N; i++) { // over all partitions, many of them in the same ms
        (void)snprintf(text, sizeof text, "%d", i);
        leat_record r = { .value = LEAT_STR("v"),
                          .dedup_id = leat_str(text),
                          .timestamp_ms = 1000 - i,
                          .to_partition = LEAT_PARTITION(i * 7 % 11 % 3) };
        ok(leat_send(p, t, &r, &first[i]));
        if (i % 60 == 0)
            after(1);
        ok(leat_send(p, t, &(leat_record){ .value = { text, 500 % sizeof text } }, NULL));
    }
    scratch_join(killed, root, "killed");
    scratch_copy(dir, killed);
    done();
    for (int kind = 0; kind < 4; kind++) {
        char copy[SCRATCH_PATH];
        scratch_join(copy, root, "copy%d", kind);
        scratch_copy(kind % 2 ? killed : dir, copy);
        for (int twice = 0; twice < 2; twice++) {
            leat_options so = { .acks = LEAT_ACKS_LOG,
                                .clock = LEAT_CLOCK_MANUAL,
                                .start_ms = START + 5,
                                .write = kind < 2 ? LEAT_WRITE_MAPPED : LEAT_WRITE_PWRITE };
            ok(leat_open(copy, &so, &mq));
            ok(leat_topic_open(mq, "t", NULL, &t));
            ok(leat_producer_open(mq, NULL, &p));
            for (int i = N; i < 2 * N; i++) {
                (void)snprintf(text, sizeof text, "%d", i);
                leat_record r = { .value = LEAT_STR("v"), .dedup_id = leat_str(text) };
                ok(leat_send(p, t, &r, &md));
                cr_assert(md.duplicate == 1 && md.partition == first[i].partition &&
                              md.offset == first[i].offset &&
                              md.timestamp_ms == first[i].timestamp_ms,
                          "id %d: %d, %d/%d", i, md.duplicate, md.partition, (int)md.offset);
            }
            if (twice) { // exactly these, and the order is known still
                cr_assert_eq(stores(N - 1), 1);
                cr_assert_eq(stores(N + 1), 0);
                cr_assert_eq(stores(N), 1);
                cr_assert_eq(stores(N + 2), 0);
                cr_assert_eq(stores(N - 1), 0);
            }
            done();
        }
    }
}

Test(dedup_restart, the_window_by_time_goes_on_while_the_store_is_closed, .init = make_root,
     .fini = drop_root) {
    static const int64_t closed_ms[] = { 0, 1, 898, 899, 900, 5000 };
    const leat_topic_options o = { .partitions = 2,
                                   .segment_bytes = 16384,
                                   .dedup_window_ms = 1000 };
    open_at(dir, START, &o);
    cr_assert_eq(stores_in(0, "a"), 1);
    after(50);
    cr_assert_eq(stores_in(1, "b"), 1);
    for (int i = 0; i < 50; i++) // more segments
        (void)stores_in(i % 2, NULL);
    after(50);
    cr_assert_eq(stores_in(1, "c"), 1);
    done();
    for (int i = 0; i < 6; i++) {
        char copy[SCRATCH_PATH];
        scratch_join(copy, root, "copy%d", i);
        scratch_copy(dir, copy);
        open_at(copy, START + 100 + closed_ms[i], NULL);
        cr_assert_eq(stores_in(0, "b"), closed_ms[i] >= 950, "after %d", (int)closed_ms[i]);
        cr_assert_eq(stores_in(0, "c"), closed_ms[i] >= 1000);
        cr_assert_eq(stores_in(0, "a"), closed_ms[i] >= 900);
        if (i == 2) { // 898
            after(1);
            cr_assert_eq(stores_in(1, "a"), 0);
            after(1);
            cr_assert_eq(stores_in(1, "a"), 1);
            after(49);
            cr_assert_eq(stores_in(1, "b"), 0);
            after(1);
            cr_assert_eq(stores_in(1, "b"), 1);
        }
        done();
    }
}

Test(dedup_restart, a_clock_that_was_wrong_makes_nothing_be_forgotten, .init = make_root,
     .fini = drop_root) {
    const leat_topic_options o = { .dedup_window_ms = 1000, .dedup_window_count = 3 };
    open_at(dir, 1 /* 1970 */, &o);
    cr_assert_eq(stores(1), 1);
    done();
    open_at(dir, START, NULL); // fifty years at once are not believed
    cr_assert_eq(stores(1), 0);
    after(999);
    cr_assert_eq(stores(2), 1);
    done();
    open_at(dir, 7, NULL); // of the future: it is now
    cr_assert_eq(stores(2), 0);
    after(999);
    cr_assert_eq(stores(2), 0);
    cr_assert_eq(stores(3), 1);
    after(1);
    cr_assert_eq(stores(2), 1);
    done();
    open_at(dir, 8, NULL); // and the order is known in spite of it
    cr_assert_eq(stores(2) + stores(3), 0);
    cr_assert_eq(stores(4) + stores(5), 2);
    cr_assert_eq(stores(2), 0);
    cr_assert_eq(stores(3), 1);
    done();
    scratch_remove(dir);
    open_at(dir, START, &(leat_topic_options){ .dedup_window_count = 2 });
    cr_assert_eq(stores(1) + stores(2), 2);
    done();
    open_at(dir, 7, NULL);
    cr_assert_eq(stores(3), 1); // later than the others, whatever the clock says
    done();
    open_at(dir, 8, NULL);
    cr_assert_eq(stores(3) + stores(2), 0);
    cr_assert_eq(stores(1), 1);
    done();
    scratch_remove(dir);
    open_at(dir, START, &(leat_topic_options){ .segment_bytes = 16384, .dedup_window_ms = 1000 });
    ok(leat_clock_set_wall(mq, START - 2 * DAY)); // for a while
    for (int i = 0; i < 40; i++)
        cr_assert_eq(stores(i), 1);
    done();
    open_at(dir, START + 999, NULL);
    for (int i = 0; i < 40; i++)
        cr_assert_eq(stores(i), 0);
    done();
}

// ---- deletion and retention

Test(dedup_restart, what_is_deleted_is_remembered_until_the_store_is_closed, .init = make_root,
     .fini = drop_root) {
    open_at(dir, START, &(leat_topic_options){ .segment_bytes = 16384, .dedup_window_count = 100 });
    for (int i = 0; i < 40; i++)
        cr_assert_eq(stores(i), 1);
    ok(leat_topic_delete_records(t, 0, 30));
    for (int i = 0; i < 40; i++)
        cr_assert_eq(stores(i), 0);
    done();
    open_at(dir, START, NULL);
    for (int i = 0; i < 40; i++)
        cr_assert_eq(stores(i), i < 30, "id %d", i);
    ok(leat_topic_delete_records(t, 0, LEAT_END));
    done();
    open_at(dir, START, NULL);
    cr_assert_eq(stores(39), 1);
    done();
}

Test(dedup_restart, retention_leaves_the_window_alone, .init = make_root, .fini = drop_root) {
    static const leat_topic_options kinds[] = {
        { .retention_records = 5 },
        { .retention_bytes = 20000 },
        { .retention_ms = 1, .segment_ms = 10 },
    };
    for (int kind = 0; kind < 6; kind++) {
        leat_topic_options o = kinds[kind % 3];
        o.segment_bytes = 16384; // 15 records
        o.dedup_window_count = 100;
        open_at(kind < 3 ? NULL : dir, START, &o);
        for (int i = 0; i < 400; i++) {
            cr_assert_eq(stores(i), 1);
            after(1);
            leat_range r = range_of(0);
            cr_assert(r.begin <= (i < 100 ? 0 : i - 99), "%d at %d", (int)r.begin, i);
            cr_assert(kind % 3 == 2 || r.end - r.begin <= 100 + 2 * 16, "%d at %d", (int)r.begin,
                      i);
        }
        cr_assert(range_of(0).begin > 250, "what is older goes");
        if (kind >= 3) {
            done();
            open_at(dir, START + 10 * DAY, NULL);
        }
        for (int i = 300; i < 400; i++)
            cr_assert_eq(stores(i), 0, "id %d", i);
        done();
        scratch_remove(dir);
    }
}

Test(dedup_restart, what_the_window_held_goes_when_it_is_over, .init = make_root,
     .fini = drop_root) {
    // The window is longer than retention, so that is what counts; as soon as it is over.
    open_at(
        NULL, START,
        &(leat_topic_options){ .segment_ms = 10, .retention_ms = 100, .dedup_window_ms = 10000 });
    cr_assert_eq(stores(1), 1); // at 0
    after(5);
    cr_assert_eq(stores(2), 1); // at 5
    after(20);
    cr_assert_eq(stores(3), 1); // at 25, in the next segment
    after(10004 - 25);
    cr_assert_eq(range_of(0).begin, 0);
    cr_assert_eq(stores(2), 0);
    after(1);
    cr_assert_eq(range_of(0).begin, 2);
    cr_assert_eq(stores(3), 0);
    int64_t in_ms;
    ok(leat_next_due(mq, &in_ms));
    cr_assert_eq(in_ms, LEAT_FOREVER, "%d", (int)in_ms);
    done();
    // Retention by records: when the window is over, not with the next roll only.
    open_at(NULL, START,
            &(leat_topic_options){
                .segment_bytes = 16384, .retention_records = 1, .dedup_window_ms = 10000 });
    for (int i = 0; i < 40; i++)
        cr_assert_eq(stores(i), 1);
    cr_assert_eq(range_of(0).begin, 0);
    after(9999);
    cr_assert_eq(range_of(0).begin, 0);
    after(1);
    cr_assert_gt(range_of(0).begin, 20);
    done();
    // By their number: ids in another partition set it free, too.
    open_at(NULL, START,
            &(leat_topic_options){
                .partitions = 2, .segment_ms = 10, .retention_ms = 100, .dedup_window_count = 3 });
    cr_assert_eq(stores_in(0, "a"), 1);
    after(11);
    (void)stores_in(0, NULL);
    after(DAY);
    cr_assert_eq(range_of(0).begin, 0);
    ok(leat_next_due(mq, &in_ms));
    cr_assert_eq(in_ms, LEAT_FOREVER);
    cr_assert_eq(stores_in(1, "b") + stores_in(1, "c"), 2);
    after(1);
    cr_assert_eq(range_of(0).begin, 0);
    cr_assert_eq(stores_in(1, "d"), 1);
    after(0);
    (void)leat_run_due(mq);
    cr_assert_eq(range_of(0).begin, 1);
    done();
}

// ---- crashes and damage

Test(dedup_restart, a_crash_forgets_what_it_takes_and_no_more) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        leat *next;
        leat_producer *disk;
        leat_metadata md[60];
        int how = seed % 2 ? LEAT_KILL : LEAT_POWER_CUT;
        leat_options so = { .flags = LEAT_CRASHABLE,
                            .threads = LEAT_NO_THREADS,
                            .acks = LEAT_ACKS_LOG,
                            .clock = LEAT_CLOCK_MANUAL,
                            .seed = seed };
        ok(leat_open_memory(&so, &mq));
        leat_topic_options o = { .partitions = 2, .segment_bytes = 16384, .dedup_window_ms = DAY };
        ok(leat_topic_open(mq, "t", &o, &t));
        ok(leat_producer_open(mq, NULL, &p));
        ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_DISK }, &disk));
        for (int i = 0; i < 60; i++) {
            cr_assert_eq(stores(i), 1);
            char text[16];
            (void)snprintf(text, sizeof text, "%d", i);
            leat_record r = { .value = LEAT_STR("v"), .dedup_id = leat_str(text) };
            ok(leat_send(i == 20 ? disk : p, t, &r, &md[i])); // a repeat: 0 to 20 are durable
            cr_assert_eq(md[i].duplicate, 1);
        }
        leat *old = mq;
        ok(leat_crash(old, how, &next));
        mq = next;
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_producer_open(mq, NULL, &p));
        int64_t kept = range_of(0).end;
        cr_assert(kept >= 21 && (how != LEAT_KILL || kept == 60));
        for (int i = 0; i < 60; i++) // what is there is known, what is lost is not
            cr_assert_eq(stores(i), i >= kept, "seed %d: id %d of %d", (int)seed, i, (int)kept);
        ok(leat_close_all(old, 0));
        done();
    }
}

Test(dedup_restart, a_record_that_is_damaged_is_forgotten_alone, .init = make_root,
     .fini = drop_root) {
    char path[SCRATCH_PATH];
    open_at(dir, START, &(leat_topic_options){ .segment_bytes = 16384, .dedup_window_count = 100 });
    for (int i = 0; i < 40; i++)
        cr_assert_eq(stores(i), 1);
    done();
    gives(0, leat_verify(dir, NULL, NULL, NULL));
    scratch_join(path, dir, "1/0/%020d.log", 0); // the first of three segments
    size_t size;
    unsigned char *bytes = scratch_read(path, &size);
    unsigned char bad = bytes[4096 + 500] ^ 1; // in the value of record 0
    free(bytes);
    scratch_poke(path, 4096 + 500, &bad, 1);
    for (int skip = 0; skip < 2; skip++) {
        leat_options so = { .flags = skip ? LEAT_SKIP_ROT : 0,
                            .acks = LEAT_ACKS_LOG,
                            .clock = LEAT_CLOCK_MANUAL,
                            .start_ms = START };
        ok(leat_open(dir, &so, &mq)); // one damaged record of many is no reason to refuse all
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_producer_open(mq, NULL, &p));
        for (int i = 39; i > 0; i--)
            cr_assert_eq(stores(i), 0, "id %d", i);
        cr_assert_eq(stores(0), !skip); // stored again the first time
        done();
    }
}

// ---- other versions, other openers

// An id in a topic without a window begins a segment once, which older versions refuse to read.
Test(dedup_restart, segments_say_whether_there_may_be_ids_in_them, .init = make_root,
     .fini = drop_root) {
    leat_stats s;
    size_t size;
    char path[SCRATCH_PATH];
    open_at(dir, START, &(leat_topic_options){ .segment_bytes = 16384 });
    (void)stores_in(0, NULL);
    (void)stores_in(0, "a");
    (void)stores_in(0, NULL);
    (void)stores_in(0, "a");
    ok(leat_get_stats(mq, &s, sizeof s));
    cr_assert_eq(s.segments, 2u);
    done();
    open_at(dir, START, NULL);
    (void)stores_in(0, "a");
    ok(leat_get_stats(mq, &s, sizeof s));
    cr_assert(s.segments == 2u && range_of(0).end == 5);
    leat_consumer *c;
    const leat_message *m;
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    gives(5, leat_poll(c, 0, &m));
    done();
    open_at(dir, START, NULL);
    for (int i = 0; i < 12; i++)
        (void)stores_in(0, NULL); // the next one is made for ids at once: no third one for them
    (void)stores_in(0, "a");
    ok(leat_get_stats(mq, &s, sizeof s));
    cr_assert_eq(s.segments, 3u);
    done();
    for (int i = 0; i < 2; i++) {
        scratch_join(path, dir, "1/0/%020d.log", i);
        unsigned char *bytes = scratch_read(path, &size);
        cr_assert_eq(bytes[12], i, "the incompatible feature");
        free(bytes);
    }
    gives(0, leat_verify(dir, NULL, NULL, NULL));
}

Test(dedup_restart, a_store_that_is_read_only_reads_them, .init = make_root, .fini = drop_root) {
    leat *reader;
    leat_topic *u;
    leat_producer *rp;
    leat_record r = { .value = LEAT_STR("v"), .dedup_id = LEAT_STR("a") };
    leat_options ro = { .flags = LEAT_READ_ONLY };
    open_at(dir, START, &(leat_topic_options){ .dedup_window_ms = DAY });
    cr_assert_eq(stores_in(0, "a"), 1);
    ok(leat_open(dir, &ro, &reader));
    ok(leat_topic_open(reader, "t", &(leat_topic_options){ .dedup_window_ms = DAY }, &u));
    ok(leat_producer_open(reader, NULL, &rp));
    fails(LEAT_EACCESS, leat_send(rp, u, &r, NULL));
    fails(LEAT_EACCESS, leat_send_many(rp, u, &r, 1, NULL));
    ok(leat_close_all(reader, 0));
    done();
}
