/* SPDX-License-Identifier: MIT */
// The ways to commit: what poll returned, offsets that are given, without waiting, by itself.
#include "lib/stream.h"

static int64_t committed(int32_t partition) {
    leat_lag lag[8];
    int n = leat_group_lag(mq, "g", lag, 8, sizeof lag[0]);
    for (int i = 0; i < n; i++)
        if (lag[i].partition == partition)
            return lag[i].committed;
    return -1;
}

static leat_position at(int32_t partition, int64_t offset) {
    return (leat_position){ .topic = "t", .partition = partition, .offset = offset };
}

static leat_consumer *with(leat_consumer_options o) {
    leat_consumer *c;
    ok(leat_consumer_open(mq, "g", &o, &c));
    ok(leat_consumer_subscribe(c, "t"));
    return c;
}

// ---- given

Test(commit_given, stores_exactly_these_offsets, .init = make_dir, .fini = drop_dir) {
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_topic("t", 2);
    send_many(0, 5);
    send_many(1, 5);
    const leat_message *m;
    leat_consumer *c = member("g", "c", "t");
    gives(10, leat_poll(c, 0, &m));
    leat_position two[] = { at(0, 3), at(1, 5) };
    ok(leat_commit_offsets(c, two, 2));
    cr_assert_eq(committed(0), 3);
    cr_assert_eq(committed(1), 5);
    leat_position back = at(1, 0);
    ok(leat_commit_offsets(c, &back, 1)); // the caller knows why
    cr_assert_eq(committed(1), 0);
    ok(leat_commit_offsets(c, NULL, 0));
    cr_assert_eq(position(c, 0, 0), 5, "reading goes on where it was");
    ok(leat_commit(c));
    leat_position twice[] = { at(0, 1), at(0, 2) };
    ok(leat_commit_offsets(c, twice, 2));
    close_store();
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    cr_assert_eq(committed(0), 2, "the last one counts");
    cr_assert_eq(committed(1), 5);
    close_store();
}

Test(commit_given, if_one_is_wrong_none_is_stored) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 5);
    const leat_message *m;
    leat_consumer *c = member("g", "c", "t"), *loner;
    gives(5, leat_poll(c, 0, &m));
    const struct {
        leat_position wrong;
        int rc;
    } cases[] = {
        { at(0, 6), LEAT_ERANGE },
        { at(0, -1), LEAT_ERANGE },
        { at(0, LEAT_END), LEAT_ERANGE },
        { at(2, 0), LEAT_ERANGE },
        { at(-1, 0), LEAT_ERANGE },
        { { .topic = "none", .offset = 0 }, LEAT_ENOENT },
        { { .topic = NULL, .offset = 0 }, LEAT_EINVAL },
        { { .topic = "t/", .offset = 0 }, LEAT_EINVAL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        leat_position both[] = { at(0, 2), cases[i].wrong };
        fails(cases[i].rc, leat_commit_offsets(c, both, 2));
        cr_assert_eq(committed(0), -1, "case %zu", i);
    }
    fails(LEAT_EINVAL, leat_commit_offsets(c, NULL, 1));
    fails(LEAT_EINVAL, leat_commit_offsets(NULL, NULL, 0));
    fails(LEAT_EINVAL, leat_commit_offsets(c, (leat_position[]){ at(0, 1) }, SIZE_MAX));
    ok(leat_consumer_open(mq, NULL, NULL, &loner));
    fails(LEAT_EINVAL, leat_commit_offsets(loner, NULL, 0));
    fails(LEAT_EINVAL, leat_commit_async(loner, NULL, NULL));
    fails(LEAT_EINVAL, leat_commit_async(NULL, NULL, NULL));
    close_store();
}

Test(commit_given, what_is_anothers_is_left_out_and_said) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 5);
    send_many(1, 5);
    const leat_message *m;
    leat_consumer *a = member("g", "a", "t"), *b = member("g", "b", "t");
    gives(5, leat_poll(a, 0, &m));
    gives(5, leat_poll(b, 0, &m));
    leat_position both[] = { at(0, 4), at(1, 4) };
    fails_saying(LEAT_EFENCED, "partition 1", leat_commit_offsets(a, both, 2));
    cr_assert_eq(committed(0), 4);
    cr_assert_eq(committed(1), -1);
    close_store();
}

// ---- without waiting

static char told[256];

static void on_commit(leat_consumer *c, int rc, void *ctx) {
    const leat_message *m;
    int polled = leat_poll(c, 0, &m);
    cr_assert(polled == LEAT_EDEADLK || polled == LEAT_ECLOSED);
    snprintf(told + strlen(told), sizeof told - strlen(told), "%s:%d ", (const char *)ctx, rc);
}

static void forget(void) {
    told[0] = '\0';
}

static void forget_and_make(void) {
    forget();
    make_dir();
}

Test(commit_async, at_log_is_stored_at_once_and_told_in_a_later_call, .init = forget) {
    for (int how = 0; how < 4; how++) {
        open_memory(LEAT_CLOCK_JUMP, 1);
        send_many(0, 5);
        const leat_message *m;
        leat_consumer *c = with((leat_consumer_options){ .max_poll_records = 2 });
        gives(2, leat_poll(c, 0, &m));
        ok(leat_commit_async(c, on_commit, "one"));
        cr_assert_eq(committed(0), 2);
        ok(leat_commit_async(c, NULL, NULL));
        gives(2, how == 0 ? leat_poll(c, 0, &m) : 2);
        ok(how == 1 ? leat_commit(c) : 0);
        ok(how == 2 ? leat_commit_offsets(c, NULL, 0) : 0);
        ok(how == 3 ? leat_consumer_close(c) : 0);
        cr_assert_str_eq(told, how == 2 ? "" : "one:0 ", "%d", how);
        close_store();
        cr_assert_str_eq(told, "one:0 ", "once, %d", how);
        forget();
    }
}

Test(commit_async, at_disk_is_done_by_leat_and_ends_up_durable, .init = forget_and_make,
     .fini = drop_dir) {
    open_store(MAPPED, LEAT_CLOCK_SYSTEM);
    open_topic("t", 1);
    send_many(0, 5);
    const leat_message *m;
    leat_consumer *c = with((leat_consumer_options){ .commit_acks = LEAT_ACKS_DISK });
    gives(5, leat_poll(c, 0, &m));
    ok(leat_commit_async(c, on_commit, "disk"));
    while (!told[0]) // nobody but leat's own thread does it
        gives(0, leat_poll(c, 10, &m));
    cr_assert_str_eq(told, "disk:0 ");
    leat_range r;
    ok(leat_topic_range(t, 0, &r));
    cr_assert_eq(r.durable_end, 5, "what was read is durable first");
    close_store();
}

Test(commit_async, keeps_the_order_of_commits, .init = forget_and_make, .fini = drop_dir) {
    leat_options o = {
        .clock = LEAT_CLOCK_JUMP, .threads = LEAT_NO_THREADS, .seed = 3, .acks = LEAT_ACKS_LOG
    };
    ok(leat_open(dir, &o, &mq));
    ok(leat_producer_open(mq, NULL, &p));
    open_topic("t", 1);
    send_many(0, 6);
    const leat_message *m;
    leat_consumer *c =
        with((leat_consumer_options){ .commit_acks = LEAT_ACKS_DISK, .max_poll_records = 2 });
    gives(2, leat_poll(c, 0, &m));
    ok(leat_commit_async(c, on_commit, "a"));
    cr_assert_eq(committed(0), -1, "nobody has looked");
    gives(2, leat_poll(c, 0, &m));
    ok(leat_commit_async(c, on_commit, "b"));
    leat_position one = at(0, 1);
    ok(leat_commit_offsets(c, &one, 1)); // behind both, though it is the lower one
    cr_assert_eq(committed(0), 1);
    cr_assert_str_eq(told, "a:0 b:0 ");
    ok(leat_commit_async(c, on_commit, "c"));
    cr_assert_geq(leat_run_due(mq), 1);
    cr_assert_eq(committed(0), 4, "whoever looks does it");
    ok(leat_commit_async(c, on_commit, "d"));
    ok(leat_consumer_close(c));
    cr_assert_str_eq(told, "a:0 b:0 c:0 d:0 ");
    close_store();
}

Test(commit_async, tells_what_failed, .init = forget) {
    open_memory(LEAT_CLOCK_JUMP, 2);
    send_many(0, 1);
    send_many(1, 1);
    const leat_message *m;
    leat_consumer *c = with((leat_consumer_options){ .name = "c" });
    gives(2, leat_poll(c, 0, &m));
    ok(leat_fault_push(mq, LEAT_OP_COMMIT, NULL, -1, LEAT_EIO, 1, 0));
    ok(leat_commit_async(c, on_commit, "io"));
    ok(leat_commit_async(c, on_commit, "again"));
    gives(0, leat_poll(c, 0, &m));
    char expect[64];
    snprintf(expect, sizeof expect, "io:%d again:0 ", LEAT_EIO);
    cr_assert_str_eq(told, expect);
    ok(leat_commit_async(c, on_commit, "shut"));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_commit_async(c, on_commit, "late"));
    forget();
    ok(leat_close_all(mq, 0));
    cr_assert_str_eq(told, "shut:0 ", "it was stored before");
    mq = NULL;
}

Test(commit_async, a_poll_that_waits_tells_it, .init = forget) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 1);
    const leat_message *m;
    leat_consumer *c = with((leat_consumer_options){ .commit_acks = LEAT_ACKS_DISK });
    gives(1, leat_poll(c, 0, &m));
    ok(leat_commit_async(c, on_commit, "x"));
    struct waiting w;
    start(&w, c, 1000);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(leat_clock_advance(mq, 0)); // who looks: here it is this thread
    ok(leat_clock_advance(mq, 1000));
    join(&w);
    cr_assert_str_eq(told, "x:0 ");
    cr_assert_eq(committed(0), 1);
    close_store();
}

// ---- by itself

Test(commit_auto, a_poll_commits_what_earlier_ones_returned) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 6);
    const leat_message *m;
    leat_consumer *c =
        with((leat_consumer_options){ .auto_commit_ms = 100, .max_poll_records = 2 });
    gives(2, leat_poll(c, 0, &m));
    ok(leat_clock_advance(mq, 1000));
    cr_assert_eq(committed(0), -1, "what it returned may not have been handled");
    gives(2, leat_poll(c, 0, &m));
    cr_assert_eq(committed(0), 2);
    gives(2, leat_poll(c, 0, &m));
    cr_assert_eq(committed(0), 2, "not before the time");
    ok(leat_clock_advance(mq, 100));
    gives(0, leat_poll(c, 0, &m));
    cr_assert_eq(committed(0), 6);
    close_store();
}

Test(commit_auto, before_a_partition_goes_and_at_the_close) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 2);
    send_many(1, 2);
    const leat_message *m;
    leat_consumer *a = with((leat_consumer_options){ .name = "a", .auto_commit_ms = 100000 });
    gives(4, leat_poll(a, 0, &m));
    leat_consumer *b = member("g", "b", "t");
    gives(0, leat_poll(a, 0, &m));
    cr_assert_eq(committed(0), -1);
    cr_assert_eq(committed(1), 2, "it goes to b, who does not get it twice");
    gives(0, leat_poll(b, 0, &m));
    ok(leat_commit(a));
    send_many(0, 3);
    gives(3, leat_poll(a, 0, &m));
    ok(leat_consumer_close(a));
    cr_assert_eq(committed(0), 5);
    leat_consumer *off = with((leat_consumer_options){ .name = "c" });
    ok(leat_consumer_close(b));
    send_many(0, 1);
    gives(1, leat_poll(off, 0, &m));
    ok(leat_consumer_close(off));
    cr_assert_eq(committed(0), 5, "it is off by default");
    close_store();
}

Test(commit_auto, a_failure_is_said_and_tried_again) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 2);
    const leat_message *m;
    leat_consumer *c = with((leat_consumer_options){ .auto_commit_ms = 100 });
    gives(2, leat_poll(c, 0, &m));
    ok(leat_fault_push(mq, LEAT_OP_COMMIT, "t", 0, LEAT_ENOSPC, 1, 0));
    ok(leat_clock_advance(mq, 100));
    gives(0, leat_poll(c, 0, &m));
    cr_assert_eq(committed(0), -1);
    ok(leat_clock_advance(mq, 100));
    gives(0, leat_poll(c, 0, &m));
    cr_assert_eq(committed(0), 2);
    close_store();
}
