/* SPDX-License-Identifier: MIT */
// Consumers: where they begin, what poll returns and when, hand-assigned partitions, seek.
#include "lib/stream.h"

// ---- where to begin

Test(consumer, begins_at_the_earliest_the_latest_or_not_at_all) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 3);
    const leat_message *m;
    leat_consumer *c[3];
    static const int32_t start[] = { 0, LEAT_LATEST, LEAT_NONE };
    static const char *const group[] = { "a", "b", "c" };
    for (int i = 0; i < 3; i++) {
        ok(leat_consumer_open(mq, group[i], &(leat_consumer_options){ .start = start[i] }, &c[i]));
        ok(leat_consumer_subscribe(c[i], "t"));
    }
    gives(3, leat_poll(c[0], 0, &m));
    is(m[0].value, "0/0");
    gives(0, leat_poll(c[1], 0, &m));
    fails_saying(LEAT_ERANGE, "t", leat_poll(c[2], 0, &m));
    fails(LEAT_ERANGE, leat_poll(c[2], 1000, &m));
    send_many(0, 1);
    gives(1, leat_poll(c[0], 0, &m));
    gives(1, leat_poll(c[1], 0, &m));
    is(m[0].value, "0/3");
    fails(LEAT_ERANGE, leat_poll(c[2], 0, &m));
    ok(leat_consumer_seek(c[2], "t", 0, 2)); // a way out
    gives(2, leat_poll(c[2], 0, &m));
    close_store();
}

Test(consumer, options_and_arguments_are_checked) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    leat_consumer *c = NULL, *d;
    const leat_message *m;
    leat_position pos;
    fails(LEAT_EINVAL, leat_consumer_open(NULL, "g", NULL, &c));
    fails(LEAT_EINVAL, leat_consumer_open(mq, "g", NULL, NULL));
    fails(LEAT_EINVAL, leat_consumer_open(mq, "", NULL, &c));
    fails(LEAT_EINVAL, leat_consumer_open(mq, "../x", NULL, &c));
    fails(LEAT_EINVAL, leat_consumer_open(mq, "g", &(leat_consumer_options){ .start = 4 }, &c));
    fails(LEAT_EINVAL, leat_consumer_open(mq, "g", &(leat_consumer_options){ .start = -1 }, &c));
    fails(LEAT_EINVAL,
          leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = 10001 }, &c));
    fails(LEAT_EINVAL,
          leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = -1 }, &c));
    fails(LEAT_EINVAL,
          leat_consumer_open(mq, "g", &(leat_consumer_options){ .reserved = { 1 } }, &c));
    cr_assert_null(c);
    fails(LEAT_ENOENT, leat_group_lag(mq, "g", NULL, 0, sizeof(leat_lag)));
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = 10000 }, &c));
    fails(LEAT_EINVAL, leat_poll(NULL, 0, &m));
    fails(LEAT_EINVAL, leat_poll(c, 0, NULL));
    fails(LEAT_EINVAL, leat_poll(c, -2, &m));
    fails(LEAT_EINVAL, leat_poll(c, INT64_MIN, &m));
    fails(LEAT_EINVAL, leat_commit(NULL));
    fails(LEAT_EINVAL, leat_consumer_close(NULL));
    fails(LEAT_EINVAL, leat_consumer_subscribe(NULL, "t"));
    fails(LEAT_EINVAL, leat_consumer_subscribe(c, "no/name"));
    fails_saying(LEAT_ENOENT, "nothing", leat_consumer_subscribe(c, "nothing"));
    fails(LEAT_EINVAL, leat_consumer_assign(c, NULL, 1));
    fails(LEAT_EINVAL, leat_consumer_positions(c, 0, NULL, 1));
    gives(0, leat_consumer_positions(c, 0, NULL, 0));
    fails(LEAT_EINVAL, leat_consumer_seek(c, NULL, 0, 0));
    fails(LEAT_ENOENT, leat_consumer_seek(c, "t", 0, 0));
    fails(LEAT_EINVAL, leat_group_lag(mq, "g", NULL, 1, sizeof(leat_lag)));
    fails(LEAT_EINVAL, leat_group_lag(mq, "g", NULL, 0, sizeof(leat_lag) - 8));
    fails(LEAT_EINVAL, leat_group_lag(NULL, "g", NULL, 0, sizeof(leat_lag)));
    gives(0, leat_poll(c, 0, &m));
    ok(leat_commit(c)); // it has nothing
    ok(leat_consumer_subscribe(c, "t"));
    pos = (leat_position){ .topic = "t" };
    fails(LEAT_EINVAL, leat_consumer_assign(c, &pos, 1));
    ok(leat_consumer_subscribe(c, NULL));
    ok(leat_consumer_assign(c, &pos, 1));
    fails(LEAT_EINVAL, leat_consumer_subscribe(c, "t"));
    ok(leat_consumer_assign(c, NULL, 0));
    ok(leat_consumer_subscribe(c, "t"));
    ok(leat_consumer_open(mq, NULL, NULL, &d));
    fails(LEAT_EINVAL, leat_consumer_subscribe(d, "t"));
    fails(LEAT_EINVAL, leat_commit(d));
    close_store();
}

// ---- poll

Test(consumer, poll_gives_every_record_once_and_in_order, .init = make_dir, .fini = drop_dir) {
    for (int kind = 0; kind < KINDS; kind++) {
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 3);
        send_many(0, 700); // more than a segment
        send_many(1, 1);
        send_many(2, 30);
        leat_consumer *c = member("g", "one", "t");
        const leat_message *m;
        int64_t next[3] = { 0 };
        int n, all = 0;
        while ((n = leat_poll(c, 0, &m)) > 0) {
            cr_assert_leq(n, 500, "the default of max_poll_records");
            for (int i = 0; i < n; i++) {
                char text[64];
                cr_assert_eq(m[i].offset, next[m[i].partition]++);
                snprintf(text, sizeof text, "%d/%lld", m[i].partition, (long long)m[i].offset);
                is(m[i].value, text);
                is_null(m[i].key);
                cr_assert_eq(m[i].deliveries, 0);
                cr_assert_eq(m[i].receipt, 0u);
                cr_assert_null(m[i].pattern);
            }
            all += n;
        }
        cr_assert_eq(n, 0);
        cr_assert_eq(all, 731, "kind %d: %d", kind, all);
        cr_assert_eq(position(c, 0, 0), 700);
        send_many(2, 2);
        cr_assert_eq(drain(c), 2);
        close_store();
        scratch_remove(dir);
        scratch_mkdir(dir);
    }
}

Test(consumer, max_poll_records_bounds_a_poll_and_no_partition_starves) {
    open_memory(LEAT_CLOCK_MANUAL, 3);
    for (int32_t i = 0; i < 3; i++)
        send_many(i, 100);
    static const int32_t limits[] = { 1, 2, 10, 99, 100, 101 };
    for (size_t k = 0; k < sizeof limits / sizeof limits[0]; k++) {
        leat_consumer *c;
        ok(leat_consumer_open(mq, NULL, &(leat_consumer_options){ .max_poll_records = limits[k] },
                              &c));
        leat_position pos[] = { { .topic = "t", .partition = 0 },
                                { .topic = "t", .partition = 1 },
                                { .topic = "t", .partition = 2 } };
        ok(leat_consumer_assign(c, pos, 3));
        int got[3] = { 0 }, n;
        const leat_message *m;
        for (int poll = 0; poll < 3; poll++) {
            gives(limits[k], leat_poll(c, 0, &m));
            for (int i = 0; i < limits[k]; i++)
                got[m[i].partition]++;
            if (limits[k] > 100)
                break;
        }
        for (int i = 0; i < 3 && limits[k] <= 100; i++)
            cr_assert_eq(got[i], limits[k], "limit %d partition %d: %d", limits[k], i, got[i]);
        while ((n = leat_poll(c, 0, &m)) > 0)
            for (int i = 0; i < n; i++)
                got[m[i].partition]++;
        for (int i = 0; i < 3; i++)
            cr_assert_eq(got[i], 100);
        ok(leat_consumer_close(c));
    }
    close_store();
}

Test(consumer, a_poll_on_a_jumping_clock_takes_its_timeout_at_once_or_says_that_it_is_in_vain) {
    ok(leat_test_open(&mq));
    ok(leat_producer_open(mq, NULL, &p));
    open_topic("t", 1);
    leat_consumer *c = member("g", NULL, "t");
    const leat_message *m;
    int64_t before, now;
    ok(leat_clock_now(mq, &before, NULL));
    gives(0, leat_poll(c, 12 * 3600000LL, &m));
    ok(leat_clock_now(mq, &now, NULL));
    cr_assert_eq(now - before, 12 * 3600000LL);
    fails(LEAT_EDEADLK, leat_poll(c, LEAT_FOREVER, &m));
    gives(0, leat_poll(c, 1, &m));
    send_many(0, 1);
    gives(1, leat_poll(c, LEAT_FOREVER, &m));
    is(m[0].value, "0/0");
    fails(LEAT_EDEADLK, leat_poll(c, LEAT_FOREVER, &m));
    close_store();
}

Test(consumer, a_blocked_poll_wakes_on_append) {
    open_memory(LEAT_CLOCK_MANUAL, 4);
    leat_consumer *c = member("g", NULL, "t");
    for (int32_t i = 0; i < 4; i++) { // of whichever partition
        struct waiting w;
        start(&w, c, LEAT_FOREVER);
        ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
        send_many(i, 1);
        join(&w);
        cr_assert_eq(w.rc, 1);
    }
    close_store();
}

Test(consumer, many_blocked_polls_all_wake_on_one_append) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    enum { READERS = 5 };
    struct waiting w[READERS];
    for (int round = 0; round < 20; round++) {
        leat_consumer *c[READERS];
        for (int i = 0; i < READERS; i++) {
            c[i] = reader(1, LEAT_END, 0);
            start(&w[i], c[i], LEAT_FOREVER);
        }
        ok(leat_clock_wait_blocked(mq, READERS, REAL_MS));
        send_many(0, 1); // not theirs
        send_many(1, 1);
        for (int i = 0; i < READERS; i++) {
            join(&w[i]);
            cr_assert_eq(w[i].rc, 1);
            ok(leat_consumer_close(c[i]));
        }
    }
    close_store();
}

Test(consumer, a_blocked_poll_ends_at_its_timeout_of_a_manual_clock) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    leat_consumer *c = member("g", NULL, "t"), *d = member("h", NULL, "t");
    struct waiting w, v;
    start(&w, c, 1000);
    start(&v, d, 1001);
    ok(leat_clock_wait_blocked(mq, 2, REAL_MS));
    ok(leat_clock_advance(mq, 999));
    ok(leat_clock_wait_blocked(mq, 2, REAL_MS));
    ok(leat_clock_advance(mq, 1));
    join(&w);
    cr_assert_eq(w.rc, 0);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    fails(LEAT_ETIMEDOUT, leat_clock_wait_blocked(mq, 2, 0));
    ok(leat_clock_advance(mq, 1));
    join(&v);
    cr_assert_eq(v.rc, 0);
    close_store();
}

Test(consumer, a_blocked_poll_wakes_on_append_by_the_system_clock) {
    open_memory(LEAT_CLOCK_SYSTEM, 1);
    leat_consumer *c = member("g", NULL, "t");
    for (int i = 0; i < 200; i++) { // the append comes before, amid and after the wait
        struct waiting w;
        start(&w, c, REAL_MS);
        send_many(0, 1);
        join(&w);
        cr_assert_eq(w.rc, 1);
    }
    const leat_message *m;
    gives(0, leat_poll(c, 1, &m));
    close_store();
}

Test(consumer, a_blocked_poll_ends_at_shutdown_and_at_deletion_of_its_topic) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    leat_topic *u;
    ok(leat_topic_open(mq, "u", NULL, &u));
    leat_consumer *c = member("g", NULL, "t"), *d = member("g", NULL, "u");
    struct waiting w, v;
    start(&w, c, LEAT_FOREVER);
    start(&v, d, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 2, REAL_MS));
    ok(leat_topic_delete(mq, "t"));
    join(&w);
    cr_assert_eq(w.rc, LEAT_EGONE);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    const leat_message *m;
    fails(LEAT_EGONE, leat_poll(c, 0, &m));
    ok(leat_consumer_subscribe(c, NULL));
    gives(0, leat_poll(c, 0, &m));
    ok(leat_shutdown(mq));
    join(&v);
    cr_assert_eq(v.rc, LEAT_ECLOSED);
    fails(LEAT_ECLOSED, leat_poll(c, 0, &m));
    fails(LEAT_ECLOSED, leat_commit(c));
    close_store();
}

Test(consumer, belongs_to_one_thread_at_a_time) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    leat_consumer *c = member("g", "mine", "t");
    struct waiting w;
    start(&w, c, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    const leat_message *m;
    leat_position pos;
    fails_saying(LEAT_EBUSY, "mine", leat_poll(c, 0, &m));
    fails(LEAT_EBUSY, leat_commit(c));
    fails(LEAT_EBUSY, leat_consumer_seek(c, "t", 0, 0));
    fails(LEAT_EBUSY, leat_consumer_positions(c, 0, &pos, 1));
    fails(LEAT_EBUSY, leat_consumer_subscribe(c, NULL));
    fails(LEAT_EBUSY, leat_consumer_assign(c, NULL, 0));
    fails(LEAT_EBUSY, leat_consumer_close(c));
    fails(LEAT_EBUSY, leat_close_all(mq, 0));
    send_many(0, 1);
    join(&w);
    cr_assert_eq(w.rc, 1);
    ok(leat_consumer_close(c));
    close_store();
}

// ---- by hand

Test(consumer, hand_assigned_reads_exactly_what_it_was_told) {
    open_memory(LEAT_CLOCK_MANUAL, 3);
    for (int32_t i = 0; i < 3; i++)
        send_many(i, 4);
    const leat_message *m;
    leat_consumer *c = reader(1, 3, 0);
    gives(1, leat_poll(c, 0, &m));
    is(m[0].value, "1/3");
    leat_position bad[] = { { .topic = "t", .partition = 0 }, { .topic = "t", .partition = 3 } };
    fails(LEAT_ERANGE, leat_consumer_assign(c, bad, 2));
    bad[1] = (leat_position){ .topic = "t", .partition = -1 };
    fails(LEAT_ERANGE, leat_consumer_assign(c, bad, 2));
    bad[1] = (leat_position){ .topic = "none" };
    fails(LEAT_ENOENT, leat_consumer_assign(c, bad, 2));
    bad[1] = (leat_position){ .topic = NULL };
    fails(LEAT_EINVAL, leat_consumer_assign(c, bad, 2));
    bad[1] = (leat_position){ .topic = "t", .partition = 1, .offset = 5 };
    fails(LEAT_ERANGE, leat_consumer_assign(c, bad, 2));
    bad[1].offset = -1;
    fails(LEAT_ERANGE, leat_consumer_assign(c, bad, 2));
    bad[1] = bad[0];
    fails(LEAT_EINVAL, leat_consumer_assign(c, bad, 2));
    cr_assert_str_eq(parts(c), "1", "a failed assign changes nothing");
    cr_assert_eq(position(c, 1, 0), 4);
    leat_position good[] = { { .topic = "t", .partition = 2, .offset = LEAT_BEGIN },
                             { .topic = "t", .partition = 0, .offset = LEAT_END } };
    ok(leat_consumer_assign(c, good, 2));
    cr_assert_eq(drain(c), 4);
    send_many(0, 1);
    send_many(1, 1);
    cr_assert_eq(drain(c), 1);
    ok(leat_consumer_assign(c, NULL, 0));
    gives(0, leat_poll(c, 0, &m));
    cr_assert_str_eq(parts(c), "");
    close_store();
}

// ---- positions, seek, lag

Test(consumer, seek_moves_within_what_exists, .init = make_dir, .fini = drop_dir) {
    for (int kind = 0; kind < KINDS; kind++) {
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 1);
        send_many(0, 1500); // several segments
        const leat_message *m;
        leat_consumer *c = reader(0, LEAT_END, 2);
        static const int64_t places[] = { 0, 1499, 1, 700, 699, 333, 1498, 5 };
        for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
            ok(leat_consumer_seek(c, "t", 0, places[i]));
            cr_assert_eq(position(c, 0, 0), places[i]);
            gives(places[i] == 1499 ? 1 : 2, leat_poll(c, 0, &m));
            cr_assert_eq(m[0].offset, places[i]);
        }
        for (int64_t at = 1499; at >= 0; at -= 7) { // over every border, backwards
            ok(leat_consumer_seek(c, "t", 0, at));
            cr_assert_gt(leat_poll(c, 0, &m), 0);
            cr_assert_eq(m[0].offset, at);
        }
        ok(leat_consumer_seek(c, "t", 0, LEAT_BEGIN));
        cr_assert_eq(position(c, 0, 0), 0);
        ok(leat_consumer_seek(c, "t", 0, 1500));
        ok(leat_consumer_seek(c, "t", 0, LEAT_END));
        cr_assert_eq(position(c, 0, 0), 1500);
        gives(0, leat_poll(c, 0, &m));
        fails_saying(LEAT_ERANGE, "1501", leat_consumer_seek(c, "t", 0, 1501));
        fails(LEAT_ERANGE, leat_consumer_seek(c, "t", 0, -1));
        fails(LEAT_ERANGE, leat_consumer_seek(c, "t", 0, INT64_MAX));
        fails(LEAT_ENOENT, leat_consumer_seek(c, "t", 1, 0));
        fails(LEAT_ENOENT, leat_consumer_seek(c, "u", 0, 0));
        cr_assert_eq(position(c, 0, 0), 1500, "a refused seek moves nothing");
        send_many(0, 1);
        gives(1, leat_poll(c, 0, &m));
        close_store();
        scratch_remove(dir);
        scratch_mkdir(dir);
    }
}

// ---- at once

struct sender {
    leat_topic *topic;
    int32_t partition;
    int n, failed;
    pthread_t thread;
};

static void *send_numbers(void *ctx) {
    struct sender *s = ctx;
    for (int i = 0; i < s->n; i++) {
        char text[32];
        int size = snprintf(text, sizeof text, "%d", i);
        leat_record r = { .value = { text, (size_t)size },
                          .to_partition = LEAT_PARTITION(s->partition) };
        s->failed += leat_send(p, s->topic, &r, NULL) != 0;
    }
    return NULL;
}

Test(consumer, reads_what_others_append_while_it_reads) {
    enum { EACH = 3000 };
    open_memory(LEAT_CLOCK_SYSTEM, 2);
    struct sender s[2];
    leat_consumer *c = member("g", NULL, "t");
    for (int i = 0; i < 2; i++) {
        s[i] = (struct sender){ t, i, EACH, 0, 0 };
        cr_assert_eq(pthread_create(&s[i].thread, NULL, send_numbers, &s[i]), 0);
    }
    int64_t next[2] = { 0 };
    int all = 0;
    while (all < 2 * EACH) {
        const leat_message *m;
        int n = leat_poll(c, REAL_MS, &m);
        cr_assert_gt(n, 0, "after %d: %s", all, leat_errmsg());
        for (int i = 0; i < n; i++) {
            char text[32];
            cr_assert_eq(m[i].offset, next[m[i].partition]);
            snprintf(text, sizeof text, "%lld", (long long)next[m[i].partition]++);
            is(m[i].value, text);
        }
        all += n;
    }
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(pthread_join(s[i].thread, NULL), 0);
        cr_assert_eq(s[i].failed, 0);
    }
    close_store();
}
