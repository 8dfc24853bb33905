/* SPDX-License-Identifier: MIT */
// LEAT_ALTER of a topic: what it keeps is changed while it is in use.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define DAY   (INT64_C(24) * 3600 * 1000)
#define START INT64_C(1700000000000)
enum { SEGMENT = 16384, VALUE = 8000 }; // one record in each segment

static void open_store(const char *path, const leat_topic_options *o) {
    leat_options so = { .acks = LEAT_ACKS_LOG, .clock = LEAT_CLOCK_MANUAL, .start_ms = START };
    ok(fixture_open(path, &so, o, NULL));
}

static void done(void) {
    ok(leat_close_all(mq, 0));
}

static int alter(leat_topic_options o) {
    leat_topic *same;
    o.flags |= LEAT_ALTER;
    int rc = leat_topic_open(mq, "t", &o, &same);
    cr_assert_eq(same, rc == 0 ? t : NULL);
    return rc;
}

static int send_to(int32_t partition) {
    static const char value[VALUE];
    leat_record r = { .value = { value, VALUE }, .to_partition = LEAT_PARTITION(partition) };
    return leat_send(p, t, &r, NULL);
}

// Sends n records, 10 ms after one another, each in a segment of its own.
static void send_some(int n) {
    for (int i = 0; i < n; i++) {
        ok(leat_clock_advance(mq, 10));
        ok(send_to(0));
    }
}

static void after(int64_t ms) {
    ok(leat_clock_advance(mq, ms));
}

static int64_t begin_of(int32_t partition) {
    leat_range r;
    ok(leat_topic_range(t, partition, &r));
    return r.begin;
}

#define begins(at) cr_assert_eq(begin_of(0), at, "it begins at %d", (int)begin_of(0))

static leat_topic_info told(void) {
    leat_topic_info info[4] = { 0 };
    int n = leat_topic_list(mq, info, 4, sizeof info[0]);
    for (int i = 0; i < n; i++)
        if (strcmp(info[i].name, "t") == 0)
            return info[i];
    cr_assert_fail("there is no topic t");
    return info[0];
}

static bool keeps_as(const leat_topic_info *a, const leat_topic_info *b) {
    return a->retention_bytes == b->retention_bytes &&
           a->retention_records == b->retention_records && a->retention_ms == b->retention_ms &&
           a->segment_ms == b->segment_ms && a->when_full == b->when_full &&
           a->keep_until_consumed == b->keep_until_consumed;
}

static const leat_topic_options small = { .segment_bytes = SEGMENT };

Test(topic_alter, a_bound_that_is_made_smaller_takes_at_once_and_a_larger_one_keeps) {
    static const leat_topic_options bounds[][3] = {
        { { .retention_records = 4 }, { .retention_records = 6 }, { .retention_records = -1 } },
        { { .retention_bytes = 4 * 8040 },
          { .retention_bytes = 6 * 8040 },
          { .retention_bytes = LEAT_UNLIMITED } },
    };
    for (int i = 0; i < 2; i++) {
        open_store(NULL, &small);
        send_some(20);
        begins(0);
        ok(alter(bounds[i][0]));
        begins(16);
        send_some(3);
        begins(19);
        ok(alter(bounds[i][1]));
        begins(19);
        send_some(4);
        begins(21);
        ok(alter(bounds[i][2]));
        send_some(50);
        begins(21);
        done();
    }
}

Test(topic_alter, each_partition_takes_it_also_those_that_come_later) {
    leat_topic_options o = small;
    o.partitions = 3;
    open_store(NULL, &o);
    for (int i = 0; i < 30; i++)
        ok(send_to(i % 3));
    ok(alter((leat_topic_options){ .retention_ms = 1000, .retention_records = 5 }));
    for (int32_t i = 0; i < 3; i++)
        cr_assert_eq(begin_of(i), 5);
    ok(leat_topic_grow(t, 4));
    for (int i = 0; i < 20; i++)
        ok(send_to(3));
    cr_assert_eq(begin_of(3), 15);
    after(1000);
    for (int32_t i = 0; i < 4; i++)
        cr_assert_eq(begin_of(i), i < 3 ? 9 : 19, "all but the active one are old");
    done();
}

Test(topic_alter, a_topic_without_a_bound_in_time_gets_one) {
    int64_t in_ms;
    open_store(NULL, &small);
    send_some(10); // the last one is the active segment; the first was sent 90 ms ago
    ok(leat_next_due(mq, &in_ms));
    cr_assert_eq(in_ms, LEAT_FOREVER);
    ok(alter((leat_topic_options){ .retention_ms = 50 }));
    begins(5); // sent 50 ms ago and before
    ok(leat_next_due(mq, &in_ms));
    cr_assert_eq(in_ms, 10);
    after(9);
    begins(5);
    after(1);
    begins(6);
    ok(alter((leat_topic_options){ .retention_ms = 1000 })); // and longer
    after(900);
    begins(6);
    after(100);
    begins(9);
    done();
}

Test(topic_alter, a_bound_in_time_is_taken_away) {
    int64_t in_ms;
    leat_topic_options o = small;
    o.retention_ms = 5000;
    open_store(NULL, &o);
    send_some(3);
    ok(alter((leat_topic_options){ .retention_ms = LEAT_FOREVER }));
    ok(leat_next_due(mq, &in_ms));
    cr_assert_eq(in_ms, LEAT_FOREVER);
    after(1000 * DAY);
    send_some(3);
    begins(0);
    ok(alter((leat_topic_options){ .retention_ms = 5000 }));
    begins(3); // the fourth was sent just now
    after(5000);
    begins(5);
    done();
}

static uint64_t segments(void) {
    leat_stats s;
    ok(leat_get_stats(mq, &s, sizeof s));
    return s.segments;
}

static void send_short(void) {
    ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("x") }, NULL));
}

Test(topic_alter, a_segment_takes_records_as_long_as_it_is_told_now) {
    for (int by_time = 0; by_time < 2; by_time++) {
        open_store(NULL, &(leat_topic_options){ .segment_ms = by_time ? 500 * 1000 : 0 });
        send_short();
        after(100);
        ok(alter((leat_topic_options){ .segment_ms = 100 }));
        send_short();
        cr_assert_eq(segments(), 1u);
        after(1);
        cr_assert_eq(segments(), 1u, "the next record begins it");
        send_short();
        cr_assert_eq(segments(), 2u);
        ok(alter((leat_topic_options){ .segment_ms = 1000 }));
        after(1000);
        send_short();
        cr_assert_eq(segments(), 2u);
        ok(alter((leat_topic_options){ .segment_ms = 365 * DAY }));
        after(364 * DAY);
        send_short();
        cr_assert_eq(segments(), 2u);
        after(DAY);
        send_short();
        cr_assert_eq(segments(), 3u);
        done();
    }
}

Test(topic_alter, what_is_full_refuses_or_makes_room) {
    leat_topic_options o = small;
    o.retention_records = 5;
    open_store(NULL, &o);
    send_some(20);
    begins(15);
    ok(alter((leat_topic_options){ .when_full = LEAT_REJECT }));
    fails(LEAT_EFULL, send_to(0));
    ok(alter((leat_topic_options){ .retention_records = 8 }));
    for (int i = 0; i < 3; i++)
        ok(send_to(0));
    fails(LEAT_EFULL, send_to(0));
    begins(15);
    ok(alter((leat_topic_options){ .retention_records = 3, .when_full = LEAT_DELETE_OLDEST }));
    begins(20);
    ok(send_to(0));
    begins(21);
    ok(alter((leat_topic_options){ .retention_records = 1, .when_full = LEAT_REJECT }));
    begins(21);
    fails(LEAT_EFULL, send_to(0));
    ok(alter((leat_topic_options){ .retention_records = LEAT_UNLIMITED }));
    ok(send_to(0));
    done();
}

Test(topic_alter, what_has_ids_of_the_window_stays) {
    static const char value[VALUE];
    leat_topic_options o = small;
    leat_metadata md;
    o.dedup_window_ms = 5000;
    open_store(NULL, &o);
    for (int i = 0; i < 10; i++) {
        char id = (char)('a' + i);
        leat_record r = { .value = { value, VALUE }, .dedup_id = { &id, 1 } };
        after(10);
        ok(leat_send(p, t, &r, NULL));
    }
    ok(alter((leat_topic_options){ .retention_records = 2 }));
    begins(0);
    ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("x"), .dedup_id = LEAT_STR("a") }, &md));
    cr_assert(md.duplicate && md.offset == 0);
    after(5000 - 90 + 40); // the first five are forgotten
    begins(5);
    after(5000);
    begins(8);
    done();
}

static leat_queue *queue_over(void) {
    leat_queue *q;
    ok(leat_queue_open(mq, "q", &(leat_queue_options){ .topic = "t" }, &q));
    return q;
}

static void acks(leat_queue *q, int n) {
    leat_message m;
    for (int i = 0; i < n; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_ack(q, &m));
    }
}

static void reads_and_commits(leat_consumer *c, int n) {
    const leat_message *m;
    for (int i = 0; i < n; i++) {
        gives(1, leat_poll(c, 0, &m));
        ok(leat_commit(c));
    }
    after(0); // what is free now goes when it is due: at once
}

static leat_consumer *member(void) {
    leat_consumer *c;
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = 1 }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    return c;
}

Test(topic_alter, what_was_not_consumed_is_kept_from_then_on, .init = make_root,
     .fini = drop_root) {
    for (int disk = 0; disk < 2; disk++) {
        open_store(disk ? dir : NULL, &small);
        leat_consumer *c = member();
        leat_queue *q = queue_over();
        send_some(10);
        reads_and_commits(c, 4);
        acks(q, 6); // before: the topic did not ask
        ok(alter((leat_topic_options){ .keep_until_consumed = 1, .retention_records = 1 }));
        begins(4);
        reads_and_commits(c, 4);
        begins(6);
        acks(q, 4);
        after(0);
        begins(8);
        if (disk) {
            done();
            open_store(dir, NULL);
            c = member();
            q = queue_over();
            begins(8);
        }
        reads_and_commits(c, 2);
        begins(9);
        send_some(5);
        begins(10);
        ok(alter((leat_topic_options){ .keep_until_consumed = LEAT_ZERO }));
        begins(14); // nobody is asked any more
        reads_and_commits(c, 1);
        acks(q, 1);
        send_some(5);
        begins(19);
        done();
    }
}

Test(topic_alter, what_a_queue_over_the_topic_was_told_stays) {
    leat_message m;
    open_store(NULL, &small);
    leat_queue_options qo = { .topic = "t", .retention_ms = 5000, .deliveries_max = 3 };
    leat_queue *q;
    ok(leat_queue_open(mq, "q", &qo, &q));
    send_some(4);
    ok(alter((leat_topic_options){ .retention_ms = 100000, .keep_until_consumed = 1 }));
    ok(leat_queue_open(mq, "q", &qo, &q));
    after(5000);
    gives(0, leat_queue_receive(q, 0, &m, 1));
    begins(0); // its own retention ends messages, not records
    done();
}

// ---- what is stored, compared and refused

Test(topic_alter, the_settings_are_the_topics_from_then_on_and_over_opens, .init = make_root,
     .fini = drop_root) {
    const leat_topic_options to = { .flags = LEAT_ALTER,
                                    .partitions = 2,
                                    .segment_bytes = SEGMENT,
                                    .retention_bytes = 1000000,
                                    .retention_records = 77,
                                    .segment_ms = 2000,
                                    .retention_ms = 9000,
                                    .keep_until_consumed = 1,
                                    .when_full = LEAT_REJECT };
    const leat_topic_options back = { .flags = LEAT_ALTER,
                                      .retention_bytes = LEAT_UNLIMITED,
                                      .retention_records = LEAT_UNLIMITED,
                                      .segment_ms = 365 * DAY,
                                      .retention_ms = LEAT_FOREVER,
                                      .keep_until_consumed = LEAT_ZERO,
                                      .when_full = LEAT_DELETE_OLDEST };
    leat_topic *same;
    open_store(dir, &(leat_topic_options){ .partitions = 2, .segment_bytes = SEGMENT });
    const leat_topic_info first = told();
    ok(leat_topic_open(mq, "t", &to, &same));
    for (int run = 0; run < 3; run++) {
        leat_topic_options o = to;
        o.flags = 0;
        leat_topic_info is = told();
        cr_assert(is.retention_bytes == 1000000 && is.retention_records == 77 &&
                  is.segment_ms == 2000 && is.retention_ms == 9000 && is.keep_until_consumed == 1 &&
                  is.when_full == LEAT_REJECT);
        ok(leat_topic_open(mq, "t", &o, &same));
        o.retention_ms++;
        fails_saying(LEAT_EEXIST, "retention_ms 9000", leat_topic_open(mq, "t", &o, &same));
        o = back;
        o.flags = 0;
        fails_saying(LEAT_EEXIST, "retention_bytes", leat_topic_open(mq, "t", &o, &same));
        ok(alter((leat_topic_options){ 0 })); // 0: as it is
        leat_topic_info now = told();
        cr_assert(keeps_as(&now, &is));
        if (run == 1)
            ok(leat_topic_grow(t, 2)); // nothing; and the next writes all of the note once more
        done();
        open_store(dir, NULL);
    }
    ok(leat_topic_open(mq, "t", &back, &same));
    for (int run = 0; run < 2; run++) {
        leat_topic_info is = told();
        cr_assert(keeps_as(&is, &first));
        done();
        open_store(dir, &(leat_topic_options){ .retention_ms = LEAT_FOREVER });
    }
    done();
}

Test(topic_alter, what_a_topic_is_already_is_not_written, .init = make_root, .fini = drop_root) {
    const leat_topic_options o = { .segment_bytes = SEGMENT, .retention_ms = 9000 };
    char manifest[SCRATCH_PATH];
    size_t before, now;
    open_store(dir, &o);
    scratch_join(manifest, dir, "manifest");
    free(scratch_read(manifest, &before));
    ok(alter(o));
    ok(alter(
        (leat_topic_options){ .when_full = LEAT_DELETE_OLDEST, .keep_until_consumed = LEAT_ZERO }));
    free(scratch_read(manifest, &now));
    cr_assert_eq(now, before);
    ok(alter((leat_topic_options){ .retention_ms = 9001 }));
    free(scratch_read(manifest, &now));
    cr_assert_gt(now, before);
    done();
}

Test(topic_alter, what_does_not_change_and_what_is_unsound_is_refused_and_nothing_changes) {
    open_store(NULL, &(leat_topic_options){ .segment_bytes = SEGMENT, .retention_records = 9 });
    const leat_topic_info before = told();
    const struct {
        leat_topic_options o;
        int rc;
        const char *field;
    } refused[] = {
        { { .partitions = 2 }, LEAT_EEXIST, "partitions" },
        { { .segment_bytes = SEGMENT + 1 }, LEAT_EEXIST, "segment_bytes" },
        { { .dedup_window_ms = 5 }, LEAT_EEXIST, "dedup_window_ms" },
        { { .dedup_window_count = 5 }, LEAT_EEXIST, "dedup_window_count" },
        { { .announce_on = "c" }, LEAT_EEXIST, "announce_on" },
        { { .retention_bytes = -2 }, LEAT_EINVAL, "retention_bytes" },
        { { .retention_records = INT64_MIN }, LEAT_EINVAL, "retention_records" },
        { { .retention_ms = -2 }, LEAT_EINVAL, "retention_ms" },
        { { .segment_ms = -1 }, LEAT_EINVAL, "segment_ms" },
        { { .segment_ms = 365 * DAY + 1 }, LEAT_EINVAL, "segment_ms" },
        { { .when_full = 3 }, LEAT_EINVAL, "when_full" },
        { { .keep_until_consumed = 2 }, LEAT_EINVAL, "keep_until_consumed" },
        { { .flags = LEAT_STRICT }, LEAT_EINVAL, "flags" },
        { { .reserved = { 1 } }, LEAT_EINVAL, "reserved" },
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        leat_topic_options o = refused[i].o;
        if (o.retention_bytes == 0)
            o.retention_bytes = 5; // which alone would be changed
        if (refused[i].rc == LEAT_EEXIST && o.retention_ms == 0)
            o.retention_ms = 1;
        fails_saying(refused[i].rc, refused[i].field, alter(o));
        leat_topic_info now = told();
        cr_assert(keeps_as(&now, &before), "%s", refused[i].field);
    }
    // What does not differ may be said.
    ok(alter((leat_topic_options){ .partitions = 1,
                                   .segment_bytes = SEGMENT,
                                   .dedup_window_ms = LEAT_ZERO,
                                   .announce_on = "",
                                   .retention_records = 10 }));
    // As large as they may be.
    ok(alter((leat_topic_options){ .retention_bytes = INT64_MAX,
                                   .retention_records = INT64_MAX,
                                   .retention_ms = INT64_MAX,
                                   .segment_ms = 365 * DAY }));
    send_some(5);
    after(400 * DAY);
    send_some(1);
    begins(0);
    done();
}

Test(topic_alter, makes_a_topic_that_is_not_there_as_with_queues) {
    leat_topic *u, *again;
    leat_topic_options o = { .flags = LEAT_ALTER | LEAT_MUST_EXIST, .retention_ms = 5 };
    open_store(NULL, NULL);
    fails(LEAT_ENOENT, leat_topic_open(mq, "u", &o, &u));
    o.flags = LEAT_ALTER;
    o.partitions = 3;
    ok(leat_topic_open(mq, "u", &o, &u));
    o.flags |= LEAT_MUST_EXIST;
    o.retention_ms = 6;
    ok(leat_topic_open(mq, "u", &o, &again));
    cr_assert_eq(again, u);
    ok(leat_topic_delete(mq, "u"));
    fails(LEAT_ENOENT, leat_topic_open(mq, "u", &o, &again));
    ok(leat_topic_delete(mq, "t"));
    o = (leat_topic_options){ .flags = LEAT_ALTER, .retention_records = 5 };
    ok(leat_topic_open(mq, "t", &o, &u)); // another one of that name
    cr_assert_neq(u, t);
    fails(LEAT_EGONE, send_to(0));
    done();
}

Test(topic_alter, a_queues_own_topic_is_as_its_queue_says) {
    leat_queue *q, *over;
    leat_topic *u;
    open_store(NULL, NULL);
    ok(leat_queue_open(mq, "own", NULL, &q));
    ok(leat_queue_open(mq, "over", &(leat_queue_options){ .topic = "t" }, &over));
    leat_topic_options o = { .flags = LEAT_ALTER, .retention_records = 5 };
    fails_saying(LEAT_EEXIST, "retention_records", leat_topic_open(mq, "own", &o, &u));
    fails_saying(LEAT_EEXIST, "queue", leat_topic_open(mq, "over", &o, &u));
    o = (leat_topic_options){ .flags = LEAT_ALTER, .keep_until_consumed = LEAT_ZERO };
    ok(leat_topic_open(mq, "own", &o, &u));
    cr_assert_eq(u, leat_queue_topic(q));
    done();
}

Test(topic_alter, a_store_that_is_only_looked_at_is_not_altered, .init = make_root,
     .fini = drop_root) {
    leat_topic *u;
    open_store(dir, &(leat_topic_options){ .retention_records = 9 });
    done();
    ok(leat_open(dir, &(leat_options){ .flags = LEAT_READ_ONLY }, &mq));
    leat_topic_options o = { .flags = LEAT_ALTER, .retention_records = 5 };
    fails(LEAT_EACCESS, leat_topic_open(mq, "t", &o, &u));
    o.retention_records = 9;
    ok(leat_topic_open(mq, "t", &o, &u));
    cr_assert_eq(told().retention_records, 9);
    done();
}

static int from_inside;

static void on_message(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s, (void)m, (void)ctx;
    leat_topic *u;
    leat_topic_options o = { .flags = LEAT_ALTER, .retention_records = 5 };
    from_inside = leat_topic_open(mq, "t", &o, &u);
}

Test(topic_alter, inside_a_callback_it_is_refused) {
    leat_subscription *s;
    open_store(NULL, NULL);
    ok(leat_channel_subscribe(mq, "c", on_message, NULL, NULL, &s));
    gives(1, leat_publish(mq, "c", "x", 1));
    cr_assert_eq(from_inside, LEAT_EDEADLK);
    cr_assert_eq(told().retention_records, LEAT_UNLIMITED);
    done();
}

// ---- a wall clock that is set

Test(topic_alter, what_a_wrong_clock_dated_counts_as_sent_at_the_change) {
    static const int64_t steps[] = { START + 1000 * DAY, START - 1000 * DAY, 0 };
    for (int i = 0; i < 3; i++) {
        open_store(NULL, &small);
        send_some(2);
        ok(leat_clock_set_wall(mq, steps[i]));
        send_some(3);
        ok(alter((leat_topic_options){ .retention_ms = 5000 }));
        begins(0);
        after(4999);
        begins(0);
        after(1);
        begins(4);
        send_some(1); // rolls the active one, which is as old
        begins(5);
        after(4980);
        send_some(1);
        begins(5);
        after(10);
        begins(6);
        done();
    }
}

// ---- crashes

Test(topic_alter, a_kill_leaves_it_and_a_power_cut_what_is_synced_or_all_of_before) {
    for (int how = LEAT_KILL; how <= LEAT_POWER_CUT; how++) {
        bool before = false, now = false;
        for (uint64_t seed = 1; seed < 40; seed++) {
            leat_options o = { .threads = LEAT_NO_THREADS, .clock = LEAT_CLOCK_JUMP, .seed = seed };
            o.flags = LEAT_CRASHABLE;
            ok(fixture_open(NULL, &o, &small, NULL));
            ok(alter((leat_topic_options){ .retention_records = 7 }));
            ok(leat_sync(mq));
            ok(alter((leat_topic_options){ .retention_records = 5, .retention_ms = 1000 }));
            leat *crashed = mq;
            ok(leat_crash(crashed, how, &mq));
            ok(leat_close_all(crashed, 0));
            leat_topic_info is = told();
            bool altered = is.retention_records == 5;
            cr_assert(is.retention_ms == (altered ? 1000 : LEAT_FOREVER));
            cr_assert(altered || is.retention_records == 7);
            now |= altered;
            before |= !altered;
            done();
        }
        cr_assert(now && before == (how == LEAT_POWER_CUT));
    }
}

Test(topic_alter, what_went_by_new_settings_went_after_they_were_on_disk) {
    for (uint64_t seed = 1; seed < 40; seed++) {
        leat_options o = { .threads = LEAT_NO_THREADS, .clock = LEAT_CLOCK_JUMP, .seed = seed };
        o.flags = LEAT_CRASHABLE;
        ok(fixture_open(NULL, &o, &small, NULL)); // acks DISK
        for (int i = 0; i < 10; i++)
            ok(send_to(0));
        ok(alter((leat_topic_options){ .retention_records = 3 }));
        begins(7);
        leat *crashed = mq;
        ok(leat_crash(crashed, LEAT_POWER_CUT, &mq));
        ok(leat_close_all(crashed, 0));
        ok(leat_topic_open(mq, "t", NULL, &t));
        cr_assert_eq(told().retention_records, 3);
        begins(7);
        done();
    }
}

// ---- failures

static int64_t refuse_at;

static void *refusing(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0) {
        free(old);
        return NULL;
    }
    return --refuse_at == 0 ? NULL : realloc(old, size);
}

Test(topic_alter, without_memory_nothing_has_changed) {
    leat_options so = { .alloc = refusing, .clock = LEAT_CLOCK_MANUAL };
    int rc = LEAT_ENOMEM, tries = 0;
    for (int64_t k = 1; rc != 0; k++, tries++) {
        leat_topic_options o = { .partitions = 40, .segment_bytes = SEGMENT };
        ok(fixture_open(NULL, &so, &o, NULL));
        const leat_topic_info before = told();
        send_some(5);
        refuse_at = k;
        rc = alter((leat_topic_options){ .retention_ms = 1000, .retention_records = 2 });
        refuse_at = 0;
        cr_assert(rc == 0 || rc == LEAT_ENOMEM, "%s", leat_errmsg());
        leat_topic_info is = told();
        cr_assert_eq(keeps_as(&is, &before), rc != 0);
        begins(rc == 0 ? 3 : 0);
        after(5000);
        begins(rc == 0 ? 4 : 0);
        ok(alter((leat_topic_options){ .retention_ms = 2000 }));
        begins(4);
        done();
    }
    cr_assert_gt(tries, 2);
}

Test(topic_alter, of_a_store_that_lost_a_sync_it_is_refused, .init = make_root, .fini = drop_root) {
    open_store(dir, &small);
    send_some(5);
    ok(leat_fault_push(mq, LEAT_OP_SYNC, NULL, -1, LEAT_EIO, LEAT_FOREVER, 0));
    (void)leat_sync(mq);
    ok(leat_fault_clear(mq));
    int rc = alter((leat_topic_options){ .retention_records = 2 });
    cr_assert(rc == 0 || rc == LEAT_EPOISONED, "%s", leat_errname(rc));
    cr_assert_eq(told().retention_records, rc == 0 ? 2 : LEAT_UNLIMITED);
    (void)leat_close_all(mq, 0);
}
