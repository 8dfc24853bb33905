/* SPDX-License-Identifier: MIT */
// Long polls: how much a poll waits for, how long, and how much it takes.
#include "lib/stream.h"

enum { RECORD_BYTES = 40 }; // "0/0" as it stands in the log: 32 of header, value, NUL, up to 8

static leat_consumer *fetch(leat_consumer_options o) {
    leat_consumer *c;
    ok(leat_consumer_open(mq, "g", &o, &c));
    ok(leat_consumer_subscribe(c, "t"));
    return c;
}

static void open_with_one(int32_t clock, int32_t partitions) {
    open_memory(clock, partitions);
    send_many(0, 1);
}

Test(long_poll, waits_for_its_bytes_and_takes_all_that_is_there) {
    open_with_one(LEAT_CLOCK_MANUAL, 2);
    leat_consumer *c = fetch((leat_consumer_options){ .fetch_min_bytes = 5 * RECORD_BYTES });
    struct waiting w;
    start(&w, c, 60000);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    send_many(1, 2);
    ok(leat_clock_advance(mq, 1000)); // three: it looks, and waits on
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    send_many(0, 2);
    join(&w);
    cr_assert_eq(w.rc, 5);
    close_store();
}

Test(long_poll, when_its_time_is_over_takes_what_there_is) {
    open_with_one(LEAT_CLOCK_JUMP, 1);
    const leat_message *m;
    leat_consumer *c = fetch((leat_consumer_options){ .fetch_min_bytes = 1000000 });
    int64_t before = 0, after = 0;
    ok(leat_clock_now(mq, &before, NULL));
    gives(1, leat_poll(c, 700, &m));
    ok(leat_clock_now(mq, &after, NULL));
    cr_assert_eq(after - before, 700, "it was the poll's timeout");
    send_many(0, 1);
    gives(1, leat_poll(c, 0, &m)); // no time at all
    gives(0, leat_poll(c, 10, &m));
    close_store();
    open_with_one(LEAT_CLOCK_JUMP, 1);
    c = fetch((leat_consumer_options){ .fetch_min_bytes = 1000000, .fetch_max_wait_ms = 500 });
    ok(leat_clock_now(mq, &before, NULL));
    gives(1, leat_poll(c, 60000, &m));
    ok(leat_clock_now(mq, &after, NULL));
    cr_assert_eq(after - before, 500);
    gives(0, leat_poll(c, 2000, &m)); // nothing: the timeout, not the wait
    int64_t later = 0;
    ok(leat_clock_now(mq, &later, NULL));
    cr_assert_eq(later - after, 2000);
    close_store();
    open_with_one(LEAT_CLOCK_JUMP, 1);
    c = fetch(
        (leat_consumer_options){ .fetch_min_bytes = 1000000, .fetch_max_wait_ms = LEAT_ZERO });
    ok(leat_clock_now(mq, &before, NULL));
    gives(1, leat_poll(c, 60000, &m));
    ok(leat_clock_now(mq, &after, NULL));
    cr_assert_eq(after, before);
    close_store();
}

Test(long_poll, behind_its_wait_the_first_record_ends_it) {
    open_with_one(LEAT_CLOCK_MANUAL, 1);
    const leat_message *m;
    leat_consumer *c =
        fetch((leat_consumer_options){ .fetch_min_bytes = 1000000, .fetch_max_wait_ms = 500 });
    gives(1, leat_poll(c, 0, &m));
    struct waiting w;
    start(&w, c, 60000);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(leat_clock_advance(mq, 500));
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    send_many(0, 1);
    join(&w);
    cr_assert_eq(w.rc, 1);
    close_store();
}

Test(long_poll, takes_at_most_its_bytes_but_always_one_record) {
    open_with_one(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 9);
    send_many(1, 10);
    const leat_message *m;
    leat_consumer *c = fetch((leat_consumer_options){ .fetch_max_bytes = 3 * RECORD_BYTES });
    int all[2] = { 0, 0 }, n, polls = 0;
    while ((n = leat_poll(c, 0, &m)) > 0) {
        cr_assert_leq(n, 3);
        for (int i = 0; i < n; i++)
            cr_assert_eq(m[i].offset, all[m[i].partition]++, "each in its place");
        polls++;
        if (polls == 2)
            cr_assert(all[0] > 0 && all[1] > 0, "fair: each was first once");
    }
    cr_assert_eq(n, 0);
    cr_assert_eq(all[0] + all[1], 20);
    cr_assert_geq(polls, 7);
    ok(leat_consumer_close(c));
    leat_consumer *tiny;
    ok(leat_consumer_open(mq, "h", &(leat_consumer_options){ .fetch_max_bytes = 1 }, &tiny));
    ok(leat_consumer_subscribe(tiny, "t"));
    for (int i = 0; i < 20; i++)
        gives(1, leat_poll(tiny, 0, &m));
    gives(0, leat_poll(tiny, 0, &m));
    close_store();
}

Test(long_poll, counts_what_is_durable_where_only_that_is_read) {
    leat_options o = {
        .clock = LEAT_CLOCK_JUMP, .threads = LEAT_NO_THREADS, .acks = LEAT_ACKS_LOG, .seed = 1
    };
    make_dir();
    ok(leat_open(dir, &o, &mq));
    ok(leat_producer_open(mq, NULL, &p));
    open_topic("t", 1);
    send_many(0, 5);
    const leat_message *m;
    leat_consumer *c =
        fetch((leat_consumer_options){ .isolation = LEAT_READ_DURABLE, .fetch_min_bytes = 60 });
    gives(0, leat_poll(c, 1000, &m));
    ok(leat_sync(mq));
    gives(5, leat_poll(c, 1000, &m));
    close_store();
    drop_dir();
}

Test(long_poll, options_are_checked) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    leat_consumer *c;
    const leat_consumer_options wrong[] = {
        { .fetch_min_bytes = -1 },      { .fetch_max_bytes = -1 }, { .fetch_max_wait_ms = -1 },
        { .max_poll_interval_ms = -1 }, { .auto_commit_ms = -3 },  { .report_end = 2 },
        { .max_poll_interval_ms = -2 }, { .report_end = -1 },      { .fetch_min_bytes = -2 },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        c = (leat_consumer *)&c;
        fails(LEAT_EINVAL, leat_consumer_open(mq, "g", &wrong[i], &c));
        cr_assert_null(c);
    }
    close_store();
}
