/* SPDX-License-Identifier: MIT */
// Groups from outside: listed, their offsets reset, deleted.
#include "lib/stream.h"

static leat_position at(const char *topic, int32_t partition, int64_t offset) {
    return (leat_position){ .topic = topic, .partition = partition, .offset = offset };
}

static int64_t committed(const char *group, int32_t partition) {
    leat_lag lag[8];
    int n = leat_group_lag(mq, group, lag, 8, sizeof lag[0]);
    for (int i = 0; i < n; i++)
        if (lag[i].partition == partition)
            return lag[i].committed;
    return -1;
}

// A member of the group reads and commits all there is.
static void read_all(const char *group) {
    leat_consumer *c = member(group, NULL, "t");
    (void)drain(c);
    ok(leat_commit(c));
    ok(leat_consumer_close(c));
}

static bool listed(const char *group) {
    const char *names[8];
    int n = leat_group_list(mq, names, 8);
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], group) == 0)
            return true;
    return false;
}

// ---- list

Test(group_list, names_what_exists, .init = make_dir, .fini = drop_dir) {
    const char *names[4] = { "as it was", "as it was", "as it was", "as it was" };
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    gives(0, leat_group_list(mq, names, 4));
    gives(0, leat_group_list(mq, NULL, 0));
    ok(leat_consumer_close(member("a", NULL, NULL)));
    member("b", NULL, NULL);
    member("b", NULL, NULL);
    member(NULL, NULL, NULL);
    gives(2, leat_group_list(mq, names, 1));
    cr_assert_str_eq(names[1], "as it was");
    gives(2, leat_group_list(mq, names, 4));
    cr_assert_str_eq(names[2], "as it was");
    cr_assert(listed("a") && listed("b"));
    close_store();
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    gives(2, leat_group_list(mq, NULL, 0));
    cr_assert(listed("a") && listed("b"));
    fails(LEAT_EINVAL, leat_group_list(NULL, names, 4));
    fails(LEAT_EINVAL, leat_group_list(mq, NULL, 1));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_group_list(mq, names, 4));
    close_store();
}

// ---- reset

Test(group_reset, goes_to_every_place, .init = make_dir, .fini = drop_dir) {
    for (int kind = MEMORY; kind < KINDS; kind++) {
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 2);
        send_many(0, 5);
        ok(leat_clock_advance(mq, 1000));
        send_many(0, 5);
        send_many(1, 3);
        ok(leat_topic_delete_records(t, 0, 1));
        read_all("g");
        static const struct {
            int64_t asked, is;
        } cases[] = { { LEAT_SHIFT(-3), 7 },
                      { LEAT_SHIFT(1), 8 },
                      { LEAT_SHIFT(-100), 1 },
                      { LEAT_SHIFT(100), 10 },
                      { LEAT_AT(1000000000000 + 1), 5 },
                      { LEAT_AT(1000000000000 + 1001), 10 },
                      { LEAT_BEGIN, 1 },
                      { LEAT_END, 10 },
                      { LEAT_LAST(4), 6 },
                      { 3, 3 } };
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            leat_position p0 = at("t", 0, cases[i].asked);
            ok(leat_group_reset(mq, "g", &p0, 1));
            cr_assert_eq(committed("g", 0), cases[i].is, "%zu: %lld", i,
                         (long long)committed("g", 0));
            cr_assert_eq(committed("g", 1), 3, "the other one stands");
        }
        leat_position both[] = { at("t", 1, 2), at("t", 0, LEAT_LAST(2)) };
        ok(leat_group_reset(mq, "g", both, 2));
        leat_consumer *c = member("g", NULL, "t");
        cr_assert_eq(drain(c), 3, "a new member begins there");
        close_store();
        if (kind == MEMORY)
            continue;
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        cr_assert_eq(committed("g", 0), 8);
        cr_assert_eq(committed("g", 1), 2);
        close_store();
        scratch_remove(dir);
        scratch_mkdir(dir);
    }
}

Test(group_reset, survives_what_a_commit_survives, .init = make_dir, .fini = drop_dir) {
    char copy[SCRATCH_PATH], first[SCRATCH_PATH];
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_topic("t", 1);
    send_many(0, 5);
    read_all("g");
    leat_position p0 = at("t", 0, 2);
    ok(leat_group_reset(mq, "g", &p0, 1));
    snprintf(copy, sizeof copy, "%.1000s.killed", dir);
    scratch_copy(dir, copy); // what kill -9 leaves
    close_store();
    memcpy(first, dir, sizeof first);
    memcpy(dir, copy, sizeof dir);
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    cr_assert_eq(committed("g", 0), 2);
    close_store();
    memcpy(dir, first, sizeof dir);
    scratch_remove(copy);
}

Test(group_reset, of_what_was_never_committed) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 4);
    ok(leat_consumer_close(member("g", NULL, NULL)));
    leat_position p0 = at("t", 0, LEAT_SHIFT(0));
    fails_saying(LEAT_EINVAL, "shift", leat_group_reset(mq, "g", &p0, 1));
    gives(0, leat_group_lag(mq, "g", NULL, 0, sizeof(leat_lag)));
    p0.offset = 3;
    ok(leat_group_reset(mq, "g", &p0, 1));
    gives(1, leat_group_lag(mq, "g", NULL, 0, sizeof(leat_lag)));
    leat_consumer *c = member("g", NULL, "t");
    cr_assert_eq(drain(c), 1);
    close_store();
}

Test(group_reset, is_all_or_nothing) {
    open_memory(LEAT_CLOCK_MANUAL, 3);
    for (int32_t i = 0; i < 3; i++)
        send_many(i, 5);
    read_all("g");
    static const struct {
        const char *topic;
        int64_t offset;
        int32_t partition;
        int code;
    } bad[] = { { "t", 0, 3, LEAT_ERANGE },         { "t", 0, -1, LEAT_ERANGE },
                { "t", 0, INT32_MAX, LEAT_ERANGE }, { "t", 6, 2, LEAT_ERANGE },
                { "t", -1, 2, LEAT_ERANGE },        { "t", LEAT_AT(-1), 2, LEAT_EINVAL },
                { "none", 0, 0, LEAT_ENOENT },      { "no/name", 0, 0, LEAT_EINVAL },
                { NULL, 0, 0, LEAT_EINVAL },        { "t", 3, 0, LEAT_EINVAL } }; // twice
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        leat_position pos[] = { at("t", 0, 1), at("t", 1, LEAT_BEGIN),
                                at(bad[i].topic, bad[i].partition, bad[i].offset) };
        int rc = leat_group_reset(mq, "g", pos, 3);
        cr_assert_eq(rc, bad[i].code, "%zu: %s: %s", i, leat_errname(rc), leat_errmsg());
        for (int32_t k = 0; k < 3; k++)
            cr_assert_eq(committed("g", k), 5);
    }
    leat_position pos[] = { at("t", 0, 1), at("t", 1, 2) };
    ok(leat_fault_push(mq, LEAT_OP_COMMIT, "t", 1, LEAT_EIO, 1, 0));
    fails(LEAT_EIO, leat_group_reset(mq, "g", pos, 2));
    cr_assert_eq(committed("g", 0), 5);
    ok(leat_group_reset(mq, "g", pos, 2));
    cr_assert_eq(committed("g", 0), 1);
    ok(leat_group_reset(mq, "g", NULL, 0)); // of nothing
    close_store();
}

static long asks; // so many allocations more succeed; < 0: all

static void *fail_later(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0) {
        free(old);
        return NULL;
    }
    if (asks == 0)
        return NULL;
    asks -= asks > 0;
    return realloc(old, size);
}

static void open_failing(void) {
    asks = -1;
    ok(leat_open_memory(&(leat_options){ .alloc = fail_later, .seed = 1 }, &mq));
    ok(leat_producer_open(mq, NULL, &p));
    open_topic("t", 2);
    send_many(0, 5);
    send_many(1, 5);
    ok(leat_consumer_close(member("g", NULL, NULL)));
}

Test(group_reset, without_memory_nothing_is_set) {
    int failed = 0;
    for (int rc = LEAT_ENOMEM; rc != 0; failed += rc != 0) {
        leat_position pos[] = { at("t", 0, 1), at("t", 1, 2) };
        open_failing();
        asks = failed;
        rc = leat_group_reset(mq, "g", pos, 2);
        cr_assert(rc == 0 || rc == LEAT_ENOMEM, "%s", leat_errmsg());
        asks = -1;
        cr_assert_eq(committed("g", 0), rc == 0 ? 1 : -1);
        cr_assert_eq(committed("g", 1), rc == 0 ? 2 : -1);
        ok(leat_group_reset(mq, "g", pos, 2)); // and it can be done later
        close_store();
    }
    cr_assert_gt(failed, 2);
}

Test(group_reset, not_while_somebody_is_in_the_group) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 5);
    leat_position pos = at("t", 0, 1);
    leat_consumer *a = member("g", "anna", "t");
    cr_assert_eq(drain(a), 5);
    ok(leat_commit(a));
    fails_saying(LEAT_EBUSY, "anna", leat_group_reset(mq, "g", &pos, 1));
    ok(leat_consumer_subscribe(a, NULL)); // it has left
    ok(leat_group_reset(mq, "g", &pos, 1));
    leat_position by_hand = at("t", 0, 0);
    leat_consumer *b = member("g", "bert", NULL);
    ok(leat_consumer_assign(b, &by_hand, 1));
    fails_saying(LEAT_EBUSY, "bert", leat_group_reset(mq, "g", &pos, 1));
    ok(leat_consumer_assign(b, NULL, 0));
    ok(leat_group_reset(mq, "g", &pos, 1));
    ok(leat_consumer_assign(b, &by_hand, 1));
    ok(leat_consumer_close(b));
    ok(leat_group_reset(mq, "g", &pos, 1));
    cr_assert_eq(committed("g", 0), 1);
    leat_consumer *other = member("h", "otto", "t"); // of another group
    ok(leat_group_reset(mq, "g", &pos, 1));
    ok(leat_consumer_close(other));
    close_store();
}

Test(group_reset, does_not_wait_for_a_member_that_is_expelled) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 5);
    leat_consumer *c;
    const leat_message *m;
    leat_position pos = at("t", 0, 3);
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_interval_ms = 1000 }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    gives(5, leat_poll(c, 0, &m));
    fails(LEAT_EBUSY, leat_group_reset(mq, "g", &pos, 1));
    ok(leat_clock_advance(mq, 1001));
    ok(leat_group_reset(mq, "g", &pos, 1));
    fails(LEAT_EFENCED, leat_commit(c));
    cr_assert_eq(committed("g", 0), 3);
    gives(2, leat_poll(c, 0, &m)); // it is in again, and goes on there
    is(m[0].value, "0/3");
    fails(LEAT_EBUSY, leat_group_reset(mq, "g", &pos, 1));
    close_store();
}

Test(group_reset, lets_retention_have_what_it_passes_over) {
    leat_topic_options o = { .segment_ms = 1, .keep_until_consumed = 1, .retention_records = 2 };
    leat_range r;
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    ok(leat_topic_open(mq, "t", &o, &t));
    for (int i = 0; i < 10; i++) { // each in a segment of its own
        if (i == 1)
            read_all("g");
        ok(leat_clock_advance(mq, 2));
        send_many(0, 1);
    }
    ok(leat_clock_advance(mq, 0));
    ok(leat_topic_range(t, 0, &r));
    cr_assert_eq(r.begin, 1);
    leat_position pos = at("t", 0, 6);
    ok(leat_group_reset(mq, "g", &pos, 1));
    ok(leat_clock_advance(mq, 0));
    ok(leat_topic_range(t, 0, &r));
    cr_assert_eq(r.begin, 6);
    ok(leat_group_delete(mq, "g")); // and so does the end of the group
    ok(leat_clock_advance(mq, 0));
    ok(leat_topic_range(t, 0, &r));
    cr_assert_eq(r.begin, 8);
    close_store();
}

// ---- delete

Test(group_delete, a_new_group_of_the_name_begins_anew, .init = make_dir, .fini = drop_dir) {
    for (int kind = MEMORY; kind < KINDS; kind++) {
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 2);
        send_many(0, 5);
        send_many(1, 5);
        read_all("g");
        read_all("h");
        const char *name[8];
        gives(2, leat_group_list(mq, name, 8));
        ok(leat_group_delete(mq, "g"));
        gives(1, leat_group_list(mq, NULL, 0));
        cr_assert(!listed("g") && listed("h"));
        cr_assert(strcmp(name[0], "g") == 0 || strcmp(name[1], "g") == 0, "names stay");
        fails(LEAT_ENOENT, leat_group_lag(mq, "g", NULL, 0, sizeof(leat_lag)));
        fails(LEAT_ENOENT, leat_group_delete(mq, "g"));
        for (int again = 0; again < 2; again++) {
            leat_consumer *c = member("g", NULL, "t");
            cr_assert_eq(committed("g", 0), -1);
            cr_assert_eq(drain(c), 10);
            if (again == 0)
                ok(leat_commit(c));
            ok(leat_consumer_close(c));
            if (again == 0)
                ok(leat_group_delete(mq, "g"));
        }
        cr_assert_eq(committed("h", 1), 5);
        close_store();
        if (kind == MEMORY)
            continue;
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        cr_assert_eq(committed("g", 0), -1);
        cr_assert_eq(committed("h", 1), 5);
        gives(2, leat_group_list(mq, NULL, 0));
        ok(leat_group_delete(mq, "g"));
        close_store();
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        cr_assert(!listed("g") && listed("h"));
        close_store();
        scratch_remove(dir);
        scratch_mkdir(dir);
    }
}

Test(group_delete, gives_its_slots_back, .init = make_dir, .fini = drop_dir) {
    char path[SCRATCH_PATH];
    size_t before, after;
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_topic("t", 2);
    for (int i = 0; i < 400; i++) { // 800 slots are more than a step of the file
        read_all("g");
        ok(leat_group_delete(mq, "g"));
        if (i == 0) {
            scratch_join(path, dir, "%s", "slots");
            free(scratch_read(path, &before));
        }
    }
    free(scratch_read(path, &after));
    cr_assert_eq(after, before);
    close_store();
}

Test(group_delete, not_while_a_consumer_of_it_is_open) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    leat_consumer *a = member("g", "anna", NULL), *b = member("g", NULL, "t");
    fails_saying(LEAT_EBUSY, "anna", leat_group_delete(mq, "g"));
    ok(leat_consumer_close(a));
    fails_saying(LEAT_EBUSY, "unnamed", leat_group_delete(mq, "g"));
    ok(leat_consumer_close(b));
    ok(leat_group_delete(mq, "g"));
    close_store();
}

Test(group_delete, without_memory_it_is_there_or_gone) {
    for (int failed = 0, rc = LEAT_ENOMEM; rc != 0; failed++) {
        open_failing();
        read_all("g");
        asks = failed;
        rc = leat_group_delete(mq, "g");
        asks = -1;
        cr_assert(rc == 0 || rc == LEAT_ENOMEM, "%s", leat_errmsg());
        cr_assert_eq(committed("g", 0), rc == 0 ? -1 : 5);
        cr_assert_eq(listed("g"), rc != 0);
        close_store();
    }
}

static leat_options crashable(uint64_t seed) {
    return (leat_options){ .flags = LEAT_CRASHABLE,
                           .acks = LEAT_ACKS_DISK,
                           .threads = LEAT_NO_THREADS,
                           .clock = LEAT_CLOCK_JUMP,
                           .seed = seed };
}

Test(group_delete, is_not_taken_back_by_a_crash) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        leat_options o = crashable(seed);
        ok(leat_open_memory(&o, &mq));
        ok(leat_producer_open(mq, NULL, &p));
        open_topic("t", 2);
        send_many(0, 5);
        send_many(1, 5);
        read_all("g");
        read_all("h");
        ok(leat_sync(mq));
        bool gone = seed % 3 != 0, again = seed % 3 == 1;
        if (gone)
            ok(leat_group_delete(mq, "g"));
        if (again)
            ok(leat_consumer_close(member("g", NULL, NULL))); // takes a slot of the old one, maybe
        leat *old = mq;
        ok(leat_crash(old, seed % 2 ? LEAT_POWER_CUT : LEAT_KILL, &mq));
        cr_assert(listed("g") == !gone || again, "seed %d", (int)seed);
        cr_assert_eq(committed("g", 0), gone ? -1 : 5, "seed %d", (int)seed);
        cr_assert_eq(committed("g", 1), gone ? -1 : 5, "seed %d", (int)seed);
        cr_assert_eq(committed("h", 0), 5, "seed %d", (int)seed);
        close_store();
        ok(leat_close_all(old, 0));
    }
}

// ---- both

static void try_in_callback(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s, (void)m, (void)ctx;
    fails(LEAT_EDEADLK, leat_group_reset(mq, "g", NULL, 0));
    fails(LEAT_EDEADLK, leat_group_delete(mq, "g"));
    gives(1, leat_group_list(mq, NULL, 0));
}

Test(group_admin, wrong_arguments) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    leat_position pos = at("t", 0, 0);
    fails(LEAT_ENOENT, leat_group_reset(mq, "g", &pos, 1));
    fails(LEAT_ENOENT, leat_group_delete(mq, "g"));
    ok(leat_consumer_close(member("g", NULL, NULL)));
    static const char *const bad[] = { NULL, "", "no/name" };
    for (int i = 0; i < 3; i++) {
        fails(LEAT_EINVAL, leat_group_reset(mq, bad[i], &pos, 1));
        fails(LEAT_EINVAL, leat_group_delete(mq, bad[i]));
    }
    fails(LEAT_EINVAL, leat_group_reset(NULL, "g", &pos, 1));
    fails(LEAT_EINVAL, leat_group_reset(mq, "g", NULL, 1));
    fails(LEAT_EINVAL, leat_group_reset(mq, "g", &pos, SIZE_MAX));
    fails(LEAT_EINVAL, leat_group_reset(mq, "g", &pos, SIZE_MAX / sizeof pos));
    fails(LEAT_EINVAL, leat_group_delete(NULL, "g"));
    leat_subscription *s;
    ok(leat_channel_subscribe(mq, "ch", try_in_callback, NULL, NULL, &s));
    gives(1, leat_publish(mq, "ch", "x", 1));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_group_reset(mq, "g", &pos, 1));
    fails(LEAT_ECLOSED, leat_group_delete(mq, "g"));
    close_store();
}

Test(group_admin, a_read_only_store_lists_and_changes_nothing, .init = make_dir, .fini = drop_dir) {
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_topic("t", 1);
    send_many(0, 5);
    read_all("g");
    close_store();
    ok(leat_open(dir, &(leat_options){ .flags = LEAT_READ_ONLY }, &mq));
    leat_position pos = at("t", 0, 0);
    fails(LEAT_EACCESS, leat_group_reset(mq, "g", &pos, 1));
    fails(LEAT_EACCESS, leat_group_delete(mq, "g"));
    cr_assert(listed("g"));
    cr_assert_eq(committed("g", 0), 5);
    close_store();
}

struct admin_thread {
    pthread_t thread;
    char group[8];
};

static void *make_and_delete(void *ctx) {
    struct admin_thread *a = ctx;
    for (int i = 0; i < 200; i++) {
        leat_consumer *c = member(a->group, NULL, "t");
        const leat_message *m;
        gives(5, leat_poll(c, 0, &m));
        ok(leat_commit(c));
        ok(leat_consumer_close(c));
        leat_position pos = at("t", 0, LEAT_BEGIN);
        ok(leat_group_reset(mq, a->group, &pos, 1));
        ok(leat_group_delete(mq, a->group));
    }
    return NULL;
}

Test(group_admin, groups_come_and_go_while_others_look) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 5);
    struct admin_thread a[2] = { { .group = "g" }, { .group = "h" } };
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&a[i].thread, NULL, make_and_delete, &a[i]), 0);
    for (int i = 0; i < 400; i++) {
        leat_lag lag[4];
        int n = leat_group_lag(mq, NULL, lag, 4, sizeof lag[0]);
        cr_assert(n >= 0 && n <= 2, "%s", leat_errmsg());
        for (int k = 0; k < n; k++)
            cr_assert(lag[k].lag >= 0 && lag[k].lag <= 5);
        n = leat_group_lag(mq, "g", lag, 4, sizeof lag[0]);
        cr_assert(n == LEAT_ENOENT || (n >= 0 && n <= 1), "%s", leat_errmsg());
        n = leat_group_list(mq, NULL, 0);
        cr_assert(n >= 0 && n <= 2);
    }
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(a[i].thread, NULL), 0);
    gives(0, leat_group_list(mq, NULL, 0));
    close_store();
}
