/* SPDX-License-Identifier: MIT */
// Lag: how far groups are behind, in records, bytes and age, from outside.
#include "lib/stream.h"

enum { VALUE = 99, RECORD = 136 }; // 32 bytes, the value and a NUL, up to a multiple of 8

static void send_sized(int32_t partition, int n) {
    static char value[VALUE + 1];
    memset(value, 'v', VALUE);
    for (int i = 0; i < n; i++)
        send_to(t, partition, value);
}

static leat_lag lag_of(leat *store, const char *group, int32_t partition) {
    leat_lag lag[4];
    int n = leat_group_lag(store, group, lag, 4, sizeof lag[0]);
    for (int i = 0; i < n; i++)
        if (lag[i].partition == partition)
            return lag[i];
    cr_assert_fail("group %s has no partition %d: %s", group, partition, leat_errmsg());
    return lag[0];
}

static void check(const char *group, int64_t records, int64_t ms) {
    leat_lag lag = lag_of(mq, group, 0);
    cr_assert_eq(lag.lag, records, "%lld records", (long long)lag.lag);
    cr_assert_eq(lag.lag_bytes, records * RECORD, "%lld bytes", (long long)lag.lag_bytes);
    cr_assert_eq(lag.lag_ms, ms, "%lld ms", (long long)lag.lag_ms);
    cr_assert_eq(lag.reserved[0], 0);
    cr_assert_eq(lag.reserved[1], 0);
}

Test(lag, is_told_in_records_bytes_and_age, .init = make_dir, .fini = drop_dir) {
    for (int kind = MEMORY; kind < KINDS; kind++) {
        leat_consumer *c;
        const leat_message *m;
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 2);
        ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = 100 }, &c));
        ok(leat_consumer_subscribe(c, "t"));
        check("g", 0, 0);
        send_sized(0, 150); // over two segments
        check("g", 150, 0);
        ok(leat_clock_advance(mq, 1000));
        send_sized(0, 150);
        ok(leat_clock_advance(mq, 500));
        check("g", 300, 1500);
        gives(100, leat_poll(c, 0, &m));
        check("g", 300, 1500); // nothing is committed yet
        ok(leat_commit(c));
        check("g", 200, 1500);
        gives(100, leat_poll(c, 0, &m));
        ok(leat_commit(c));
        check("g", 100, 500);
        ok(leat_topic_delete_records(t, 0, 210)); // what is gone is no lag
        check("g", 90, 500);
        gives(90, leat_poll(c, 0, &m));
        ok(leat_commit(c));
        check("g", 0, 0);
        cr_assert_eq(lag_of(mq, "g", 0).committed, 300);
        cr_assert_eq(lag_of(mq, "g", 1).committed, 0);
        send_sized(0, 1);
        ok(leat_clock_set_wall(mq, 5)); // it was written in the future
        check("g", 1, 0);
        close_store();
        scratch_remove(dir);
        scratch_mkdir(dir);
    }
}

Test(lag, after_a_restart_and_from_beside_the_owner_is_the_same, .init = make_dir,
     .fini = drop_dir) {
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_topic("t", 1);
    leat_consumer *c;
    const leat_message *m;
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = 100 }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    send_sized(0, 300);
    gives(100, leat_poll(c, 0, &m));
    ok(leat_commit(c));
    close_store();
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    ok(leat_clock_advance(mq, 700));
    check("g", 200, 700); // from an index that is loaded for it
    leat *owner = mq;
    ok(leat_open(dir, &(leat_options){ .flags = LEAT_READ_ONLY, .clock = LEAT_CLOCK_MANUAL }, &mq));
    check("g", 200, 0);
    close_store();
    mq = owner;
    close_store();
}

Test(lag, of_all_groups) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    leat_topic *first = t;
    open_topic("u", 1);
    send_to(first, 1, "v");
    leat_lag lag[8];
    gives(0, leat_group_lag(mq, NULL, lag, 8, sizeof lag[0]));
    leat_consumer *a = member("a", "anna", "t");
    leat_consumer *b = member("b", NULL, "u");
    member("c", NULL, NULL); // reads nothing
    gives(3, leat_group_lag(mq, NULL, NULL, 0, sizeof lag[0]));
    gives(3, leat_group_lag(mq, NULL, lag, 8, sizeof lag[0]));
    int of_a = 0;
    for (int i = 0; i < 3; i++) {
        bool is_a = strcmp(lag[i].group, "a") == 0;
        of_a += is_a;
        cr_assert_str_eq(lag[i].group, is_a ? "a" : "b");
        cr_assert_str_eq(lag[i].topic, is_a ? "t" : "u");
        cr_assert_str_eq(lag[i].owner, is_a ? "anna" : "(unnamed)");
        cr_assert_eq(lag[i].lag, is_a && lag[i].partition == 1);
    }
    cr_assert_eq(of_a, 2);
    lag[1] = (leat_lag){ .end = -7 };
    gives(3, leat_group_lag(mq, NULL, lag, 1, sizeof lag[0]));
    cr_assert_eq(lag[1].end, -7, "no more than max are written");
    ok(leat_consumer_close(a));
    ok(leat_consumer_close(b));
    gives(0, leat_group_lag(mq, NULL, lag, 8, sizeof lag[0]));
    close_store();
}

Test(lag, goes_by_the_first_record_that_can_be_read, .init = make_dir, .fini = drop_dir) {
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_topic("t", 1);
    member("g", NULL, "t");
    send_sized(0, 1);
    ok(leat_clock_advance(mq, 1000));
    send_sized(0, 300);
    char path[SCRATCH_PATH];
    leat_range r;
    ok(leat_topic_range(t, 0, &r));
    close_store();
    scratch_join(path, dir, "%s", "1/0/00000000000000000000.log");
    cr_assert(scratch_exists(path));
    scratch_poke(path, 4096 + 60, "?", 1); // in the value of record 0
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    member("g", NULL, "t");
    ok(leat_clock_advance(mq, 1500));
    check("g", 301, 500);
    close_store();
}

static int calls_inside;

static void ask_inside(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s, (void)m, (void)ctx;
    check("g", 3, 0);
    calls_inside++;
}

Test(lag, may_be_asked_in_a_callback_and_says_what_is_wrong) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    member("g", NULL, "t");
    send_sized(0, 3);
    leat_lag lag;
    leat_subscription *s;
    ok(leat_channel_subscribe(mq, "ch", ask_inside, NULL, NULL, &s));
    calls_inside = 0;
    gives(1, leat_publish(mq, "ch", "x", 1));
    cr_assert_eq(calls_inside, 1);
    fails(LEAT_EINVAL, leat_group_lag(NULL, NULL, &lag, 1, sizeof lag));
    fails(LEAT_EINVAL, leat_group_lag(mq, NULL, NULL, 1, sizeof lag));
    fails(LEAT_EINVAL, leat_group_lag(mq, NULL, &lag, 1, 0));
    fails(LEAT_EINVAL, leat_group_lag(mq, NULL, &lag, 1, SIZE_MAX));
    fails(LEAT_EINVAL, leat_group_lag(mq, "", &lag, 1, sizeof lag));
    fails(LEAT_ENOENT, leat_group_lag(mq, "none", &lag, 1, sizeof lag));
    gives(1, leat_group_lag(mq, "g", &lag, SIZE_MAX, sizeof lag));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_group_lag(mq, NULL, &lag, 1, sizeof lag));
    close_store();
}
