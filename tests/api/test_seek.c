/* SPDX-License-Identifier: MIT */
// Seek: places that are said otherwise than by an offset; partitions that are paused.
#include "lib/report.h"
#include "lib/stream.h"

enum { HOUR = 3600000 };
static const int64_t noon = 1000000000000; // where the clock of a test starts

// Records 0 to 9 in partition 0 of "t", an hour between them; what is in front of `begin` deleted.
static void open_hours(int64_t begin) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    for (int i = 0; i < 10; i++) {
        send_many(0, 1);
        ok(leat_clock_advance(mq, HOUR));
    }
    ok(leat_topic_delete_records(t, 0, begin));
}

static const struct {
    int64_t from, asked, to; // to < 0: the code
} places[] = {
    { 5, LEAT_AT(noon + 4 * HOUR), 4 },
    { 5, LEAT_AT(noon + 4 * HOUR + 1), 5 },
    { 5, LEAT_AT(0), 2 },
    { 5, LEAT_AT(noon), 2 },
    { 5, LEAT_AT(noon + 9 * HOUR), 9 },
    { 5, LEAT_AT(noon + 9 * HOUR + 1), 10 },
    { 5, LEAT_AT((INT64_C(1) << 60) - 1), 10 },
    { 5, LEAT_LAST(0), 10 },
    { 5, LEAT_LAST(1), 9 },
    { 5, LEAT_LAST(8), 2 },
    { 5, LEAT_LAST(9), 2 },
    { 5, LEAT_LAST(INT64_C(1) << 58), 2 },
    { 5, LEAT_SHIFT(0), 5 },
    { 5, LEAT_SHIFT(2), 7 },
    { 5, LEAT_SHIFT(-3), 2 },
    { 5, LEAT_SHIFT(-4), 2 },
    { 5, LEAT_SHIFT(5), 10 },
    { 5, LEAT_SHIFT(6), 10 },
    { 10, LEAT_SHIFT(-1), 9 },
    { 2, LEAT_SHIFT(INT64_C(1) << 58), 10 },
    { 2, LEAT_SHIFT(-(INT64_C(1) << 58)), 2 },
    { 5, LEAT_BEGIN, 2 },
    { 5, LEAT_END, 10 },
    { 5, 2, 2 },
    { 5, 10, 10 },
    // plain offsets are not held to what is there
    { 5, 1, LEAT_ERANGE },
    { 5, 11, LEAT_ERANGE },
    { 5, -1, LEAT_ERANGE },
    { 5, -3, LEAT_ERANGE },
    { 5, -6, LEAT_ERANGE },
    { 5, INT64_MAX, LEAT_ERANGE },
    // numbers out of their range
    { 5, LEAT_AT(-1), LEAT_EINVAL },
    { 5, LEAT_AT(INT64_C(1) << 60), LEAT_EINVAL },
    { 5, LEAT_AT(INT64_MAX), LEAT_EINVAL },
    { 5, LEAT_LAST(-1), LEAT_EINVAL },
    { 5, LEAT_LAST((INT64_C(1) << 58) + 1), LEAT_EINVAL },
    { 5, LEAT_LAST(INT64_MAX), LEAT_EINVAL },
    { 5, LEAT_SHIFT((INT64_C(1) << 58) + 1), LEAT_EINVAL },
    { 5, LEAT_SHIFT(-(INT64_C(1) << 58) - 1), LEAT_EINVAL },
    { 5, LEAT_SHIFT(INT64_MAX), LEAT_EINVAL },
    { 5, INT64_MIN, LEAT_EINVAL },
};

Test(seek, goes_by_offset_time_end_or_where_it_is) {
    open_hours(2);
    leat_consumer *c = reader(0, LEAT_BEGIN, 0);
    const leat_message *m;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int64_t to = places[i].to;
        ok(leat_consumer_seek(c, "t", 0, places[i].from));
        int rc = leat_consumer_seek(c, "t", 0, places[i].asked);
        cr_assert_eq(rc, to < 0 ? to : 0, "%zu: %s: %s", i, leat_errname(rc), leat_errmsg());
        to = to < 0 ? places[i].from : to; // a seek that fails moves nothing
        cr_assert_eq(position(c, 0, 0), to, "%zu: %lld", i, (long long)position(c, 0, 0));
        gives(10 - to, leat_poll(c, 0, &m));
        cr_assert(to == 10 || m[0].offset == to);
    }
    close_store();
}

Test(seek, assign_takes_a_place_but_no_shift) {
    open_hours(2);
    leat_consumer *c = reader(0, LEAT_AT(noon + 7 * HOUR), 0);
    const leat_message *m;
    gives(3, leat_poll(c, 0, &m));
    cr_assert_eq(m[0].offset, 7);
    leat_position pos = { .topic = "t", .offset = LEAT_LAST(1) };
    ok(leat_consumer_assign(c, &pos, 1));
    gives(1, leat_poll(c, 0, &m));
    pos.offset = LEAT_SHIFT(0);
    fails_saying(LEAT_EINVAL, "shift", leat_consumer_assign(c, &pos, 1));
    pos.offset = LEAT_AT(-1);
    fails_saying(LEAT_EINVAL, "place", leat_consumer_assign(c, &pos, 1));
    cr_assert_eq(position(c, 0, 0), 10);
    close_store();
}

Test(seek, there_is_nothing_to_shift_where_there_was_no_place_to_start) {
    open_hours(2);
    leat_consumer *c;
    const leat_message *m;
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .start = LEAT_NONE }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    fails(LEAT_ERANGE, leat_poll(c, 0, &m));
    fails_saying(LEAT_EINVAL, "shift", leat_consumer_seek(c, "t", 0, LEAT_SHIFT(1)));
    ok(leat_consumer_seek(c, "t", 0, LEAT_LAST(1)));
    ok(leat_consumer_seek(c, "t", 0, LEAT_SHIFT(-1)));
    ok(leat_consumer_seek(c, "t", 1, LEAT_BEGIN));
    gives(2, leat_poll(c, 0, &m));
    close_store();
}

Test(seek, by_time_looks_at_every_record_also_after_a_restart, .init = make_dir, .fini = drop_dir) {
    for (int kind = MAPPED; kind < KINDS; kind++) {
        static char value[900];
        memset(value, 'v', sizeof value - 1);
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 1);
        for (int i = 0; i < 100; i++) { // over six segments; every other record comes late
            leat_record r = { .value = leat_str(value),
                              .timestamp_ms = noon + (i % 2 ? 0 : (int64_t)i * HOUR) };
            ok(leat_send(p, t, &r, NULL));
        }
        close_store();
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 1);
        leat_consumer *c = reader(0, LEAT_END, 0);
        for (int i = 1; i <= 98; i++) {
            ok(leat_consumer_seek(c, "t", 0, LEAT_AT(noon + (int64_t)i * HOUR)));
            cr_assert_eq(position(c, 0, 0), (i + 1) / 2 * 2);
        }
        close_store();
        scratch_remove(dir);
        scratch_mkdir(dir);
    }
}

// ---- pause

Test(pause, leaves_a_partition_out_and_its_position_where_it_is) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 4);
    send_many(1, 4);
    const leat_message *m;
    leat_consumer *c = member("g", NULL, "t");
    ok(leat_consumer_pause(c, "t", 1, 1)); // before the first poll
    gives(4, leat_poll(c, 0, &m));
    for (int i = 0; i < 4; i++)
        cr_assert_eq(m[i].partition, 0);
    cr_assert_eq(position(c, 1, 0), 0);
    ok(leat_consumer_pause(c, "t", 1, 7)); // twice is once
    send_many(0, 1);
    gives(1, leat_poll(c, 0, &m));
    ok(leat_consumer_seek(c, "t", 1, LEAT_LAST(3)));
    gives(0, leat_poll(c, 0, &m));
    cr_assert_eq(position(c, 1, 0), 1);
    ok(leat_consumer_pause(c, "t", 1, 0));
    gives(3, leat_poll(c, 0, &m));
    is(m[0].value, "1/1");
    is(m[2].value, "1/3");                   // the seek holds
    ok(leat_consumer_pause(c, NULL, 99, 1)); // all, whatever the number says
    send_many(0, 1);
    send_many(1, 1);
    gives(0, leat_poll(c, 0, &m));
    ok(leat_commit(c)); // what was read before
    cr_assert_eq(position(c, 0, 1), 5);
    cr_assert_eq(position(c, 1, 1), 4);
    ok(leat_consumer_pause(c, NULL, 0, 0));
    cr_assert_eq(drain(c), 2);
    close_store();
}

Test(pause, ends_when_the_partition_goes_to_another_member) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 2);
    send_many(1, 2);
    const leat_message *m;
    leat_consumer *a = member("g", "a", "t");
    gives(4, leat_poll(a, 0, &m));
    ok(leat_commit(a));
    ok(leat_consumer_pause(a, NULL, 0, 1));
    leat_consumer *b = member("g", "b", "t");
    gives(0, leat_poll(a, 0, &m)); // gives partition 1 up
    cr_assert_str_eq(parts(a), "0");
    fails(LEAT_ENOENT, leat_consumer_pause(a, "t", 1, 1));
    ok(leat_consumer_close(b));
    send_many(0, 2);
    send_many(1, 2);
    gives(2, leat_poll(a, 0, &m));
    cr_assert_eq(m[0].partition, 1, "partition 0 is still paused");
    close_store();
}

Test(pause, what_is_paused_wakes_nobody) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    leat_consumer *c = member("g", NULL, "t");
    struct waiting w;
    ok(leat_consumer_pause(c, "t", 0, 1));
    start(&w, c, 1000);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    send_many(0, 1);
    ok(leat_clock_advance(mq, 999));
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(leat_clock_advance(mq, 1));
    join(&w);
    cr_assert_eq(w.rc, 0);
    start(&w, c, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    send_many(1, 1);
    join(&w);
    cr_assert_eq(w.rc, 1);
    cr_assert_str_eq(w.text, "1/0");
    close_store();
}

Test(pause, what_is_paused_counts_for_no_bytes) {
    open_memory(LEAT_CLOCK_JUMP, 2);
    send_many(0, 10);
    const leat_message *m;
    leat_consumer *c;
    ok(leat_consumer_open(mq, NULL, &(leat_consumer_options){ .fetch_min_bytes = 100 }, &c));
    leat_position both[] = { { .topic = "t", .partition = 0 }, { .topic = "t", .partition = 1 } };
    ok(leat_consumer_assign(c, both, 2));
    ok(leat_consumer_pause(c, "t", 0, 1));
    send_many(1, 1);
    int64_t before, after;
    ok(leat_clock_now(mq, &before, NULL));
    gives(1, leat_poll(c, 3000, &m)); // has waited for more
    ok(leat_clock_now(mq, &after, NULL));
    cr_assert_eq(after - before, 3000);
    ok(leat_consumer_pause(c, "t", 0, 0));
    gives(10, leat_poll(c, 3000, &m));
    close_store();
}

static void pause_it(leat_consumer *c, const leat_event *e, void *ctx) {
    (void)ctx;
    if (e->kind != LEAT_EV_ASSIGNED)
        return;
    ok(leat_consumer_pause(c, e->topic, e->partition, e->partition == 0));
    ok(leat_consumer_seek(c, e->topic, e->partition, LEAT_LAST(1)));
}

Test(pause, and_a_seek_may_be_asked_for_where_a_partition_is_assigned) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 3);
    send_many(1, 3);
    const leat_message *m;
    leat_consumer *c;
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .on_event = pause_it }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    gives(1, leat_poll(c, 0, &m));
    is(m[0].value, "1/2");
    report_begin();
    ok(leat_consumer_explain(c, report_take, NULL));
    says("t 0: paused at offset 2 of 3");
    close_store();
}

Test(seek, and_pause_are_done_though_an_event_waits) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 3);
    const leat_message *m;
    leat_event e;
    leat_consumer *a = member("g", "a", "t");
    gives(1, leat_consumer_event(a, &e)); // it asks for events from here on
    (void)leat_poll(a, 0, &m);
    (void)leat_poll(a, 0, &m);
    member("g", "b", "t"); // takes partition 1
    gives(2, leat_consumer_positions(a, 0, NULL, 0));
    member("g", "c", "t");
    ok(leat_consumer_seek(a, "t", 0, 1));
    ok(leat_consumer_pause(a, "t", 0, 1));
    cr_assert_eq(position(a, 0, 0), 1);
    close_store();
}

Test(pause, of_all_waits_for_the_timeout_or_says_that_nothing_can_come) {
    open_memory(LEAT_CLOCK_JUMP, 2);
    send_many(0, 1);
    send_many(1, 1);
    const leat_message *m;
    int64_t before, after;
    leat_consumer *c = member("g", NULL, "t");
    ok(leat_consumer_pause(c, NULL, 0, 1));
    gives(0, leat_poll(c, 0, &m));
    ok(leat_clock_now(mq, &before, NULL));
    gives(0, leat_poll(c, 5000, &m));
    ok(leat_clock_now(mq, &after, NULL));
    cr_assert_eq(after - before, 5000);
    fails(LEAT_EDEADLK, leat_poll(c, LEAT_FOREVER, &m));
    ok(leat_consumer_pause(c, "t", 1, 0));
    gives(1, leat_poll(c, LEAT_FOREVER, &m));
    is(m[0].value, "1/0");
    close_store();
}

Test(pause, a_deleted_topic_is_told_all_the_same) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    leat_consumer *c = reader(0, LEAT_BEGIN, 0);
    const leat_message *m;
    struct waiting w;
    ok(leat_consumer_pause(c, NULL, 0, 1));
    start(&w, c, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(leat_topic_delete(mq, "t"));
    join(&w);
    cr_assert_eq(w.rc, LEAT_EGONE);
    fails(LEAT_EGONE, leat_poll(c, 0, &m));
    close_store();
}

static void try_in_callback(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s, (void)m;
    fails(LEAT_EDEADLK, leat_consumer_pause(ctx, "t", 0, 1));
    fails(LEAT_EDEADLK, leat_consumer_seek(ctx, "t", 0, LEAT_LAST(1)));
}

Test(pause, wrong_arguments) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    leat_consumer *c = member("g", "mine", "t");
    leat_subscription *s;
    fails(LEAT_EINVAL, leat_consumer_pause(NULL, "t", 0, 1));
    fails(LEAT_EINVAL, leat_consumer_pause(c, "no/name", 0, 1));
    fails(LEAT_ENOENT, leat_consumer_pause(c, "none", 0, 1));
    fails(LEAT_ENOENT, leat_consumer_pause(c, "t", 2, 1));
    fails(LEAT_ENOENT, leat_consumer_pause(c, "t", -1, 1));
    fails(LEAT_ENOENT, leat_consumer_pause(c, "t", INT32_MAX, 1));
    leat_consumer *none = member("g2", NULL, NULL);
    ok(leat_consumer_pause(none, NULL, 0, 1)); // of nothing
    struct waiting w;
    start(&w, c, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    fails_saying(LEAT_EBUSY, "mine", leat_consumer_pause(c, "t", 0, 1));
    send_many(0, 1);
    join(&w);
    ok(leat_channel_subscribe(mq, "ch", try_in_callback, c, NULL, &s));
    gives(1, leat_publish(mq, "ch", "x", 1));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_consumer_pause(c, "t", 0, 1));
    fails(LEAT_ECLOSED, leat_consumer_seek(c, "t", 0, LEAT_LAST(1)));
    close_store();
}
