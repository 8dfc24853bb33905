/* SPDX-License-Identifier: MIT */
// Dedup by id within one run: what a repeat is, how long an id is remembered, what is not, batches
// and threads. What outlives a run: test_dedup_restart.c.
#include "leat.h"
#include "leat_test.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define DAY (INT64_C(24) * 3600 * 1000)

static char root[SCRATCH_PATH], dir[SCRATCH_PATH];
static leat *mq;
static leat_topic *t;
static leat_producer *p;

static void open_store(const char *path, int32_t acks, const leat_topic_options *o) {
    leat_options so = { .acks = acks, .clock = LEAT_CLOCK_MANUAL, .seed = 1 };
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

static leat_metadata send_to(int32_t to, const char *id) {
    leat_metadata md;
    leat_record r = { .value = LEAT_STR("v"), .dedup_id = leat_str(id), .to_partition = to };
    ok(leat_send(p, t, &r, &md));
    return md;
}

// fresh: it was stored, as the record of that offset. again: it was not, and that is the first one.
#define fresh(at, id)                                                                              \
    do {                                                                                           \
        leat_metadata md_ = send_to(0, id);                                                        \
        cr_assert(!md_.duplicate && md_.offset == (at), "%s: %d at %d", id, md_.duplicate,         \
                  (int)md_.offset);                                                                \
    } while (0)
#define again(at, id)                                                                              \
    do {                                                                                           \
        leat_metadata md_ = send_to(0, id);                                                        \
        cr_assert(md_.duplicate == 1 && md_.offset == (at), "%s: %d at %d", id, md_.duplicate,     \
                  (int)md_.offset);                                                                \
    } while (0)

Test(dedup, a_repeat_stores_nothing_and_tells_of_the_first_one) {
    for (int kind = 0; kind < 2; kind++) {
        scratch_make(root);
        scratch_join(dir, root, "store");
        open_store(kind ? dir : NULL, LEAT_ACKS_LOG,
                   &(leat_topic_options){ .partitions = 3, .dedup_window_ms = DAY });
        leat_record r = { .key = LEAT_STR("k"),
                          .value = LEAT_STR("first"),
                          .timestamp_ms = 77,
                          .to_partition = LEAT_PARTITION(1),
                          .dedup_id = LEAT_STR("order 1") };
        leat_metadata md, first;
        ok(leat_send(p, t, &r, &first));
        cr_assert(first.partition == 1 && first.offset == 0 && first.timestamp_ms == 77);
        cr_assert_eq(first.duplicate, 0);
        r.value = LEAT_STR("second"); // whatever else it says
        r.to_partition = LEAT_PARTITION(2);
        r.timestamp_ms = 78;
        ok(leat_send(p, t, &r, NULL));
        ok(leat_send(p, t, &r, &md));
        cr_assert(md.partition == 1 && md.offset == 0 && md.timestamp_ms == 77);
        cr_assert_str_eq(md.topic, "t");
        cr_assert_eq(md.duplicate, 1);
        for (int32_t i = 0; i < 3; i++)
            cr_assert_eq(range_of(i).end, i == 1);
        leat_queue *q; // over the topic: the same ids
        leat_queue_stats qs;
        ok(leat_queue_open(mq, "q", &(leat_queue_options){ .topic = "t" }, &q));
        ok(leat_queue_send(q, &r, &md));
        cr_assert(md.duplicate == 1 && md.partition == 1 && md.offset == 0);
        ok(leat_queue_send(q, &r, NULL));
        r.dedup_id = LEAT_STR("order 2");
        ok(leat_queue_send(q, &r, NULL));
        ok(leat_queue_get_stats(q, &qs, sizeof qs));
        cr_assert_eq(qs.sent, 2u); // with the one before the queue
        leat_consumer *c;          // what is read does not show it
        const leat_message *m;
        ok(leat_consumer_open(mq, "g", NULL, &c));
        ok(leat_consumer_subscribe(c, "t"));
        gives(2, leat_poll(c, 0, &m));
        for (int i = 0; i < 2; i++) {
            cr_assert_eq(m[i].header_count, 0u);
            is(m[i].key, "k");
            is(m[i].value, m[i].partition == 1 ? "first" : "second");
        }
        done();
        scratch_remove(root);
    }
}

Test(dedup, a_window_by_time_ends_that_long_after_the_first_one) {
    static const int64_t windows[] = { 1, 1000, 365 * DAY };
    for (int i = 0; i < 3; i++) {
        open_store(NULL, LEAT_ACKS_LOG, &(leat_topic_options){ .dedup_window_ms = windows[i] });
        fresh(0, "a");
        after(windows[i] - 1);
        again(0, "a"); // which does not prolong it
        fresh(1, "b");
        after(1);
        fresh(2, "a");
        if (windows[i] > 1)
            again(1, "b");
        again(2, "a");
        after(windows[i]);
        fresh(3, "a");
        fresh(4, "b");
        done();
    }
}

Test(dedup, a_window_by_count_is_of_the_newest_ids) {
    for (int n = 1; n <= 100; n += 33) {
        char id[16];
        open_store(NULL, LEAT_ACKS_LOG, &(leat_topic_options){ .dedup_window_count = n });
        for (int i = 0; i < n; i++) {
            (void)snprintf(id, sizeof id, "%d", i);
            fresh(i, id);
        }
        ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("no id") }, NULL));
        after(1000 * DAY);
        for (int i = 0; i < n; i++) {
            (void)snprintf(id, sizeof id, "%d", i);
            again(i, id);
        }
        fresh(n + 1, "one more");
        for (int i = 1; i < n; i++) {
            (void)snprintf(id, sizeof id, "%d", i);
            again(i, id);
        }
        fresh(n + 2, "0");
        done();
    }
}

Test(dedup, of_two_windows_the_one_that_ends_first_counts) {
    open_store(NULL, LEAT_ACKS_LOG,
               &(leat_topic_options){ .dedup_window_ms = 100, .dedup_window_count = 2 });
    fresh(0, "a");
    after(50);
    fresh(1, "b");
    after(49);
    again(0, "a");
    after(1);
    fresh(2, "a");
    again(1, "b");
    fresh(3, "c");
    fresh(4, "b"); // of the newest two no more
    done();
}

Test(dedup, without_a_window_ids_are_stored_and_ignored) {
    open_store(NULL, LEAT_ACKS_LOG, NULL);
    fresh(0, "a");
    fresh(1, "a");
    leat_record r[2] = { { .value = LEAT_STR("v"), .dedup_id = LEAT_STR("a") },
                         { .value = LEAT_STR("v"), .dedup_id = LEAT_STR("a") } };
    leat_metadata md[2];
    ok(leat_send_many(p, t, r, 2, md));
    cr_assert(md[0].offset == 2 && md[1].offset == 3 && !md[1].duplicate);
    done();
}

Test(dedup, the_step_of_a_wall_clock_changes_no_window) {
    open_store(NULL, LEAT_ACKS_LOG, &(leat_topic_options){ .dedup_window_ms = 1000 });
    fresh(0, "a");
    ok(leat_clock_set_wall(mq, 4000000000000));
    again(0, "a");
    ok(leat_clock_set_wall(mq, 5));
    after(999);
    again(0, "a");
    after(1);
    fresh(1, "a");
    done();
}

// ---- limits and settings

Test(dedup, an_id_has_1_to_255_bytes_of_any_kind) {
    enum { MOST = 16 * 1024 * 1024 };
    char *large = calloc(1, MOST);
    cr_assert_not_null(large);
    leat_metadata md;
    for (int window = 0; window < 2; window++) {
        open_store(NULL, LEAT_ACKS_LOG, &(leat_topic_options){ .dedup_window_count = window * 9 });
        leat_record r = { .value = LEAT_STR("v"), .dedup_id = { large, 255 } };
        ok(leat_send(p, t, &r, NULL));
        ok(leat_send(p, t, &r, &md));
        cr_assert_eq(md.duplicate, window);
        for (size_t n = 1; n < 4; n++) { // zeros are bytes, and the length counts
            r.dedup_id.size = n;
            ok(leat_send(p, t, &r, &md));
            cr_assert_eq(md.duplicate, 0);
        }
        int64_t end = range_of(0).end;
        r.dedup_id.size = 256;
        fails_saying(LEAT_ETOOBIG, "256", leat_send(p, t, &r, NULL));
        fails(LEAT_ETOOBIG, leat_send_many(p, t, &r, 1, NULL));
        r.dedup_id.size = SIZE_MAX;
        fails(LEAT_ETOOBIG, leat_send(p, t, &r, NULL));
        r.dedup_id.size = 0;
        fails_saying(LEAT_EINVAL, "dedup_id", leat_send(p, t, &r, NULL));
        fails(LEAT_EINVAL, leat_send_many(p, t, &r, 1, NULL));
        r.dedup_id = (leat_bytes){ NULL, 3 };
        fails(LEAT_EINVAL, leat_send(p, t, &r, NULL));
        // The limit of a record counts it.
        r = (leat_record){ .value = { large, MOST - 199 }, .dedup_id = { "x", 1 } };
        r.dedup_id = (leat_bytes){ large + 1000, 200 };
        fails(LEAT_ETOOBIG, leat_send(p, t, &r, NULL));
        cr_assert_eq(range_of(0).end, end);
        r.value.size--;
        ok(leat_send(p, t, &r, &md));
        cr_assert(!md.duplicate && md.offset == end);
        done();
    }
    free(large);
}

Test(dedup, windows_are_settings_of_the_topic) {
    static const leat_topic_options bad[] = {
        { .dedup_window_ms = -1 },
        { .dedup_window_ms = -3 },
        { .dedup_window_ms = 365 * DAY + 1 },
        { .dedup_window_ms = INT64_MAX },
        { .dedup_window_count = -1 },
        { .dedup_window_count = (1 << 24) + 1 },
        { .dedup_window_count = INT64_MIN },
    };
    leat_topic_options o = { .dedup_window_ms = 365 * DAY, .dedup_window_count = 1 << 24 };
    leat_topic *u;
    leat_topic_info info[3];
    scratch_make(root);
    scratch_join(dir, root, "store");
    open_store(dir, LEAT_ACKS_LOG, &o);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        fails_saying(LEAT_EINVAL, "dedup_window", leat_topic_open(mq, "u", &bad[i], &u));
    ok(leat_topic_open(mq, "off", &(leat_topic_options){ .dedup_window_ms = LEAT_ZERO }, &u));
    ok(leat_topic_open(mq, "one", &(leat_topic_options){ .dedup_window_count = 1 }, &u));
    ok(leat_topic_grow(u, 2)); // writes the note anew
    for (int restarted = 0; restarted < 2; restarted++) {
        ok(leat_topic_open(mq, "t", &o, &u));
        ok(leat_topic_open(mq, "t", NULL, &u));
        leat_topic_options other = o;
        other.dedup_window_ms = 1;
        fails_saying(LEAT_EEXIST, "dedup_window_ms", leat_topic_open(mq, "t", &other, &u));
        other.dedup_window_ms = LEAT_ZERO;
        fails_saying(LEAT_EEXIST, "dedup_window_ms", leat_topic_open(mq, "t", &other, &u));
        other = (leat_topic_options){ .dedup_window_count = 2 };
        fails_saying(LEAT_EEXIST, "dedup_window_count", leat_topic_open(mq, "one", &other, &u));
        fails_saying(LEAT_EEXIST, "dedup_window_count", leat_topic_open(mq, "off", &other, &u));
        other.dedup_window_count = LEAT_ZERO;
        ok(leat_topic_open(mq, "off", &other, &u));
        gives(3, leat_topic_list(mq, info, 3, sizeof *info));
        for (int i = 0; i < 3; i++) {
            bool is_t = strcmp(info[i].name, "t") == 0, one = strcmp(info[i].name, "one") == 0;
            cr_assert_eq(info[i].dedup_window_ms, is_t ? 365 * DAY : 0);
            cr_assert_eq(info[i].dedup_window_count, is_t ? 1 << 24 : one);
        }
        ok(leat_close_all(mq, 0));
        ok(leat_open(dir, NULL, &mq));
    }
    done();
    scratch_remove(root);
}

Test(dedup, partitions_that_come_later_share_the_ids_of_the_topic) {
    open_store(NULL, LEAT_ACKS_LOG, &(leat_topic_options){ .dedup_window_count = 2 });
    (void)send_to(LEAT_PARTITION(0), "a");
    ok(leat_topic_grow(t, 3));
    cr_assert_eq(send_to(LEAT_PARTITION(2), "a").duplicate, 1);
    cr_assert_eq(send_to(LEAT_PARTITION(2), "b").duplicate, 0);
    leat_metadata md = send_to(LEAT_PARTITION(0), "b");
    cr_assert(md.duplicate == 1 && md.partition == 2 && md.offset == 0);
    ok(leat_topic_delete(mq, "t"));
    fails(
        LEAT_EGONE,
        leat_send(p, t, &(leat_record){ .value = LEAT_STR("v"), .dedup_id = LEAT_STR("b") }, NULL));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .dedup_window_count = 2 }, &t));
    fresh(0, "b");
    done();
}

// ---- what is not stored is not remembered

Test(dedup, a_send_that_fails_is_not_remembered) {
    static const struct {
        int op, error;
    } faults[] = { { LEAT_OP_APPEND, LEAT_ENOSPC },
                   { LEAT_OP_SPACE, LEAT_ENOSPC },
                   { LEAT_OP_MEMORY, LEAT_ENOMEM } };
    open_store(NULL, LEAT_ACKS_LOG, &(leat_topic_options){ .dedup_window_count = 100 });
    fresh(0, "known");
    leat_record r[3] = { { .value = LEAT_STR("v"), .dedup_id = LEAT_STR("a") },
                         { .value = LEAT_STR("v"), .dedup_id = LEAT_STR("a") },
                         { .value = LEAT_STR("v"), .dedup_id = LEAT_STR("known") } };
    leat_metadata md[3];
    for (int i = 0; i < 3; i++) {
        ok(leat_fault_push(mq, faults[i].op, NULL, -1, faults[i].error, LEAT_FOREVER, 0));
        fails(faults[i].error, leat_send(p, t, r, NULL));
        fails(faults[i].error, leat_send_many(p, t, r, 3, md));
        cr_assert(md[0].offset == -1 && md[1].offset == -1 && md[1].duplicate == 0);
        // The third is known, and nothing more is needed; but without memory nothing is done.
        cr_assert(i == 2 || (md[2].offset == 0 && md[2].duplicate == 1));
        if (i > 0)
            again(0, "known");
        ok(leat_fault_clear(mq));
    }
    fresh(1, "a");
    done();
    // Every single allocation.
    open_store(NULL, LEAT_ACKS_LOG, &(leat_topic_options){ .dedup_window_count = 100 });
    int failed = 0;
    for (int k = 0, id = 0; id < 40; k++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", id);
        leat_record one = { .value = LEAT_STR("v"), .dedup_id = leat_str(text) };
        if (k % 2 == 0)
            ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, 1, 0));
        int rc = leat_send(p, t, &one, md);
        ok(leat_fault_clear(mq));
        cr_assert(rc == LEAT_ENOMEM || (rc == 0 && md[0].duplicate == 0 && md[0].offset == id));
        failed += rc != 0;
        id += rc == 0;
    }
    cr_assert_gt(failed, 0);
    done();
}

Test(dedup, a_full_partition_still_knows_its_ids) {
    open_store(NULL, LEAT_ACKS_LOG,
               &(leat_topic_options){
                   .dedup_window_count = 9, .retention_records = 1, .when_full = LEAT_REJECT });
    fresh(0, "a");
    again(0, "a");
    leat_record r = { .value = LEAT_STR("v"), .dedup_id = LEAT_STR("b") };
    fails(LEAT_EFULL, leat_send(p, t, &r, NULL));
    ok(leat_topic_delete_records(t, 0, 1));
    again(0, "a"); // deleted, and remembered
    fresh(1, "b");
    done();
}

Test(dedup, a_repeat_is_as_safe_as_asked_for) {
    leat_producer *disk, *none;
    leat_metadata md;
    leat_record r = { .value = LEAT_STR("v"), .dedup_id = LEAT_STR("a") };
    scratch_make(root);
    scratch_join(dir, root, "store");
    for (int fault = 0; fault < 2; fault++) {
        open_store(fault ? dir : NULL, LEAT_ACKS_LOG,
                   &(leat_topic_options){ .dedup_window_ms = 9 });
        ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_DISK }, &disk));
        ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_NONE }, &none));
        r.dedup_id = LEAT_STR("a");
        ok(leat_send(p, t, &r, NULL));
        cr_assert_eq(range_of(0).durable_end, 0);
        ok(leat_send(none, t, &r, &md));
        cr_assert(md.duplicate == 1 && md.offset == -1);
        cr_assert_eq(range_of(0).durable_end, 0);
        if (fault) {
            ok(leat_fault_push(mq, LEAT_OP_SYNC, NULL, -1, LEAT_EIO, 1, 0));
            fails(LEAT_EIO, leat_send(disk, t, &r, &md));
            cr_assert(md.duplicate == 1 && md.offset == 0);
            fails(LEAT_EIO, leat_send(disk, t, &r, NULL)); // never a second sync
            fails(LEAT_EIO, leat_send_many(disk, t, &r, 1, &md));
            cr_assert(md.duplicate == 1 && md.offset == 0);
            again(0, "a");
            cr_assert(leat_close_all(mq, 0) < 0);
            continue;
        }
        ok(leat_send(disk, t, &r, &md));
        cr_assert(md.duplicate == 1 && md.offset == 0);
        cr_assert_eq(range_of(0).durable_end, 1);
        r.dedup_id = LEAT_STR("b");
        ok(leat_send(p, t, &r, NULL));
        ok(leat_send_many(disk, t, &r, 1, &md));
        cr_assert(md.duplicate == 1 && md.offset == 1);
        cr_assert_eq(range_of(0).durable_end, 2);
        done();
    }
    scratch_remove(root);
}

Test(dedup, the_dead_are_moved_whatever_ids_they_had) {
    open_store(NULL, LEAT_ACKS_LOG, NULL);
    leat_topic *u;
    leat_queue *dead, *q;
    leat_message m;
    ok(leat_topic_open(mq, "u", &(leat_topic_options){ .dedup_window_count = 100 }, &u));
    ok(leat_queue_open(mq, "dead", &(leat_queue_options){ .topic = "u" }, &dead));
    ok(leat_queue_open(
        mq, "q", &(leat_queue_options){ .topic = "t", .deliveries_max = 1, .dead_letter = "dead" },
        &q));
    for (int i = 0; i < 2; i++) {
        (void)send_to(0, "same");
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_nack(q, &m, 0, 0));
    }
    for (int i = 0; i < 2; i++) {
        gives(1, leat_queue_receive(dead, 0, &m, 1));
        ok(leat_queue_ack(dead, &m));
    }
    done();
}

// ---- send_many

static leat_record many_record(const char *id, int32_t partition) {
    return (leat_record){ .value = leat_str(id ? id : "none"),
                          .dedup_id = leat_str(id),
                          .to_partition = LEAT_PARTITION(partition) };
}

Test(dedup, repeats_are_left_out_of_a_batch) {
    for (int acks = LEAT_ACKS_LOG; acks <= LEAT_ACKS_DISK; acks++) {
        open_store(NULL, acks,
                   &(leat_topic_options){ .partitions = 2, .dedup_window_count = 1000 });
        (void)send_to(LEAT_PARTITION(1), "old");
        leat_record r[] = { many_record("a", 0),  many_record("old", 0), many_record(NULL, 0),
                            many_record("a", 1),  many_record("b", 1),   many_record("a", 0),
                            many_record(NULL, 1), many_record("b", 1),   many_record("c", 0) };
        static const struct {
            int partition, offset, duplicate;
        } want[] = { { 0, 0, 0 }, { 1, 0, 1 }, { 0, 1, 0 }, { 0, 0, 1 }, { 1, 1, 0 },
                     { 0, 0, 1 }, { 1, 2, 0 }, { 1, 1, 1 }, { 0, 2, 0 } };
        leat_metadata md[9];
        for (int round = 0; round < 2; round++) {
            ok(leat_send_many(p, t, r, 9, md));
            for (int i = 0; i < 9; i++) {
                bool plain = r[i].dedup_id.data == NULL,
                     dup = !plain && (round || want[i].duplicate);
                cr_assert_eq(md[i].partition, want[i].partition, "record %d", i);
                cr_assert_eq(md[i].duplicate, dup, "record %d", i);
                cr_assert_eq(md[i].offset,
                             plain ? want[i].offset + round * (i == 6 ? 1 : 2) : want[i].offset,
                             "record %d", i);
            }
        }
        ok(leat_send_many(p, t, r, 2, NULL)); // nothing is left
        cr_assert(range_of(0).end == 4 && range_of(1).end == 4);
        cr_assert(acks == LEAT_ACKS_LOG || range_of(1).durable_end == 4);
        done();
    }
}

Test(dedup, of_a_call_that_fails_only_what_is_stored_is_remembered) {
    open_store(NULL, LEAT_ACKS_LOG,
               &(leat_topic_options){ .partitions = 2, .dedup_window_count = 1000 });
    leat_record r[] = { many_record("a", 0), many_record("b", 1), many_record("b", 0),
                        many_record("a", 1) };
    leat_metadata md[5];
    ok(leat_fault_push(mq, LEAT_OP_SPACE, "t", 1, LEAT_ENOSPC, 1, 0));
    fails(LEAT_ENOSPC, leat_send_many(p, t, r, 4, md));
    cr_assert(md[0].offset == 0 && md[0].duplicate == 0 && md[3].offset == 0 && md[3].duplicate);
    cr_assert(md[1].offset == -1 && md[2].offset == -1 && !md[1].duplicate && !md[2].duplicate);
    ok(leat_send_many(p, t, r, 4, md));
    cr_assert(md[0].duplicate == 1 && md[1].duplicate == 0 && md[2].duplicate == 1);
    cr_assert(range_of(0).end == 1 && range_of(1).end == 1);
    // A wrong record, or a limit: nothing.
    leat_record wrong[] = { many_record("x", 0), many_record("y", 0), { .priority = 1 } };
    fails(LEAT_EINVAL, leat_send_many(p, t, wrong, 3, md));
    for (int i = 0; i < 3; i++)
        cr_assert_eq(md[i].offset, -1);
    enum { EACH = 16 * 1024 * 1024 - 8 };
    char *large = calloc(1, EACH);
    cr_assert_not_null(large);
    leat_record over[5];
    for (int i = 0; i < 5; i++) {
        over[i] = many_record(i ? NULL : "x", 0);
        over[i].value = (leat_bytes){ large, EACH };
    }
    fails(LEAT_ETOOBIG, leat_send_many(p, t, over, 5, md));
    free(large);
    cr_assert_eq(send_to(LEAT_PARTITION(0), "x").duplicate, 0);
    done();
}

// ---- threads

enum { THREADS = 4, IDS = 400 };
static pthread_barrier_t barrier;
static _Atomic int stored[IDS];
static _Atomic int64_t where[IDS]; // partition << 32 | offset, + 1
static atomic_int wrong_places;

static void told(int id, const leat_metadata *md) {
    int64_t place = ((int64_t)md->partition << 32 | md->offset) + 1, none = 0;
    if (!md->duplicate)
        atomic_fetch_add(&stored[id], 1);
    if (!atomic_compare_exchange_strong(&where[id], &none, place) && none != place)
        atomic_fetch_add(&wrong_places, 1);
}

static void *send_all_ids(void *arg) {
    int me = (int)(intptr_t)arg;
    char text[IDS][16];
    leat_record r[IDS];
    leat_metadata md[IDS];
    (void)pthread_barrier_wait(&barrier);
    for (int i = 0; i < IDS; i++) {
        int id = me % 2 ? IDS - 1 - i : i; // half of them come the other way
        (void)snprintf(text[i], sizeof text[i], "%d", id);
        r[i] = (leat_record){ .value = leat_str(text[i]), .dedup_id = leat_str(text[i]) };
    }
    if (me >= THREADS / 2) { // in batches
        for (int i = 0; i < IDS; i += 20)
            if (leat_send_many(p, t, &r[i], 20, &md[i]) != 0)
                atomic_fetch_add(&wrong_places, 1);
    } else {
        for (int i = 0; i < IDS; i++)
            if (leat_send(p, t, &r[i], &md[i]) != 0)
                atomic_fetch_add(&wrong_places, 1);
    }
    for (int i = 0; i < IDS; i++)
        told(atoi(text[i]), &md[i]);
    return NULL;
}

Test(dedup, of_threads_with_the_same_ids_exactly_one_stores_each) {
    for (int round = 0; round < 20; round++) {
        bool disk = round % 10 == 0;
        scratch_make(root);
        scratch_join(dir, root, "store");
        leat_options so = { .acks = disk ? LEAT_ACKS_DISK : LEAT_ACKS_LOG };
        ok(disk ? leat_open(dir, &so, &mq) : leat_open_memory(&so, &mq));
        ok(leat_topic_open(mq, "t",
                           &(leat_topic_options){ .partitions = 2,
                                                  .segment_bytes = 16384,
                                                  .retention_records = 50,
                                                  .dedup_window_count = IDS },
                           &t));
        ok(leat_producer_open(mq, NULL, &p));
        pthread_t thread[THREADS];
        cr_assert_eq(pthread_barrier_init(&barrier, NULL, THREADS), 0);
        for (intptr_t i = 0; i < THREADS; i++)
            cr_assert_eq(pthread_create(&thread[i], NULL, send_all_ids, (void *)i), 0);
        for (int i = 0; i < THREADS; i++)
            (void)pthread_join(thread[i], NULL);
        (void)pthread_barrier_destroy(&barrier);
        cr_assert_eq(wrong_places, 0);
        for (int i = 0; i < IDS; i++) {
            cr_assert_eq(stored[i], 1, "id %d", i);
            stored[i] = 0;
            where[i] = 0;
        }
        cr_assert_eq(range_of(0).end + range_of(1).end, IDS);
        done();
        scratch_remove(root);
    }
}
