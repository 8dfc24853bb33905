/* SPDX-License-Identifier: MIT */
// The assignors of a group, from outside: who gets what, what moves and what stays, and that
// sharing out cannot fail.
#include "lib/stream.h"

static leat_consumer *joins(const char *group, const char *name, int32_t assignor) {
    leat_consumer *c;
    ok(leat_consumer_open(mq, group, &(leat_consumer_options){ .name = name, .assignor = assignor },
                          &c));
    return c;
}

static void reads(leat_consumer *c, const char *const *topics) {
    for (; *topics; topics++)
        ok(leat_consumer_subscribe(c, *topics));
}

static int by_place(const void *a, const void *b) {
    const leat_position *x = a, *y = b;
    int names = strcmp(x->topic, y->topic);
    return names ? names : x->partition - y->partition;
}

// "t0p0 t1p1": what c has, in order.
static const char *has(leat_consumer *c) {
    static char text[4][512];
    static int turn;
    char *to = text[turn++ % 4];
    leat_position pos[64];
    int n = leat_consumer_positions(c, 0, pos, 64);
    cr_assert(n >= 0 && n <= 64, "positions: %s", leat_errmsg());
    qsort(pos, (size_t)n, sizeof pos[0], by_place);
    to[0] = '\0';
    for (int i = 0; i < n; i++)
        snprintf(to + strlen(to), sizeof text[0] - strlen(to), "%s%sp%d", i ? " " : "",
                 pos[i].topic, pos[i].partition);
    return to;
}

// Everybody polls twice: what one gives up in his poll, another takes over in his.
static void settle(leat_consumer *const *c, size_t n) {
    const leat_message *m;
    for (size_t i = 0; i < 2 * n; i++)
        cr_assert_geq(leat_poll(c[i % n], 0, &m), 0, "%s", leat_errmsg());
}

static void make_topics(const char *partitions) {
    for (int i = 0; partitions[i]; i++) {
        char name[3] = { 't', (char)('0' + i), '\0' };
        open_topic(name, partitions[i] - '0');
    }
}

Test(assignor, each_shares_as_the_examples_of_kafka_say) {
    static const char *const all[] = { "t0", "t1", "t2", "t3", NULL };
    static const struct {
        int32_t how;
        const char *partitions;
        const char *before[3], *after[2]; // of C0, C1, C2; C0 and C2 when C1 has left
    } cases[] = {
        { LEAT_ASSIGN_RANGE,
          "33",
          { "t0p0 t1p0", "t0p1 t1p1", "t0p2 t1p2" },
          { "t0p0 t0p1 t1p0 t1p1", "t0p2 t1p2" } },
        { 0,
          "33",
          { "t0p0 t1p0", "t0p1 t1p1", "t0p2 t1p2" },
          { "t0p0 t0p1 t1p0 t1p1", "t0p2 t1p2" } },
        { LEAT_ASSIGN_ROUND_ROBIN,
          "2222",
          { "t0p0 t1p1 t3p0", "t0p1 t2p0 t3p1", "t1p0 t2p1" },
          { "t0p0 t1p0 t2p0 t3p0", "t0p1 t1p1 t2p1 t3p1" } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_store(MEMORY, LEAT_CLOCK_MANUAL);
        make_topics(cases[i].partitions);
        leat_consumer *c[3];
        for (int k = 2; k >= 0; k--) { // the order of joining does not matter, their names do
            c[k] = joins("g", (const char *[]){ "C0", "C1", "C2" }[k], cases[i].how);
            for (size_t n = 0; n < strlen(cases[i].partitions); n++)
                ok(leat_consumer_subscribe(c[k], all[n]));
        }
        settle(c, 3);
        for (int k = 0; k < 3; k++)
            cr_assert_str_eq(has(c[k]), cases[i].before[k]);
        ok(leat_consumer_close(c[1]));
        settle((leat_consumer *[]){ c[0], c[2] }, 2);
        cr_assert_str_eq(has(c[0]), cases[i].after[0]);
        cr_assert_str_eq(has(c[2]), cases[i].after[1]);
        close_store();
    }
}

Test(assignor, different_subscriptions_count_as_in_kafka) {
    static const char *const names[] = { "t0", "t1", "t2" };
    static const char *const expected[2][3] = {
        { "t0p0", "t1p0", "t1p1 t2p0 t2p1 t2p2" }, // round robin
        { "t0p0", "t1p0 t1p1", "t2p0 t2p1 t2p2" }, // sticky
    };
    static const char *const without[2][2] = {
        { "t0p0 t1p1", "t1p0 t2p0 t2p1 t2p2" },
        { "t0p0 t1p0 t1p1", "t2p0 t2p1 t2p2" },
    };
    for (int32_t how = LEAT_ASSIGN_ROUND_ROBIN; how <= LEAT_ASSIGN_STICKY; how++) {
        open_store(MEMORY, LEAT_CLOCK_MANUAL);
        make_topics("123");
        leat_consumer *c[3];
        for (int k = 0; k < 3; k++) {
            c[k] = joins("g", (const char *[]){ "C0", "C1", "C2" }[k], how);
            for (int i = 0; i <= k; i++)
                ok(leat_consumer_subscribe(c[k], names[i]));
        }
        settle(c, 3);
        for (int k = 0; k < 3; k++)
            cr_assert_str_eq(has(c[k]), expected[how - 2][k]);
        ok(leat_consumer_close(c[0]));
        settle(c + 1, 2);
        for (int k = 0; k < 2; k++)
            cr_assert_str_eq(has(c[k + 1]), without[how - 2][k]);
        close_store();
    }
}

Test(assignor, sticky_takes_no_more_from_anybody_than_evenness_wants) {
    static const char *const all[] = { "t0", "t1", NULL };
    const leat_message *m;
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    make_topics("44");
    leat_consumer *a = joins("g", "z", LEAT_ASSIGN_STICKY); // the last by name, and yet it keeps
    reads(a, all);
    gives(0, leat_poll(a, 0, &m));
    leat_consumer *b = joins("g", "a", 0);
    reads(b, all);
    settle((leat_consumer *[]){ a, b }, 2);
    cr_assert_str_eq(has(b), "t0p0 t0p1 t0p2 t0p3");
    cr_assert_str_eq(has(a), "t1p0 t1p1 t1p2 t1p3");
    leat_consumer *c = joins("g", NULL, 0); // 3 3 2: one from each
    reads(c, all);
    settle((leat_consumer *[]){ a, b, c }, 3);
    gives(3, leat_consumer_positions(a, 0, NULL, 0));
    gives(3, leat_consumer_positions(b, 0, NULL, 0));
    gives(2, leat_consumer_positions(c, 0, NULL, 0));
    char had[2][512];
    snprintf(had[0], sizeof had[0], "%s", has(a));
    snprintf(had[1], sizeof had[1], "%s", has(c));
    ok(leat_consumer_close(b)); // free: at once, and nobody gives up anything
    for (const char *word = strtok(had[0], " "); word; word = strtok(NULL, " "))
        cr_assert_not_null(strstr(has(a), word), "%s has gone", word);
    for (const char *word = strtok(had[1], " "); word; word = strtok(NULL, " "))
        cr_assert_not_null(strstr(has(c), word), "%s has gone", word);
    gives(4, leat_consumer_positions(a, 0, NULL, 0));
    gives(4, leat_consumer_positions(c, 0, NULL, 0));
    // More partitions of a topic: those that are there stay.
    snprintf(had[0], sizeof had[0], "%s", has(a));
    ok(leat_topic_grow(t, 6));
    for (const char *word = strtok(had[0], " "); word; word = strtok(NULL, " "))
        cr_assert_not_null(strstr(has(a), word), "%s has gone", word);
    gives(5, leat_consumer_positions(a, 0, NULL, 0));
    gives(5, leat_consumer_positions(c, 0, NULL, 0));
    close_store();
}

Test(assignor, a_deleted_topic_leaves_the_rest_shared_out_anew) {
    static const char *const all[] = { "t0", "t1", NULL };
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    make_topics("44");
    leat_consumer *c[2];
    for (int i = 0; i < 2; i++) {
        c[i] = joins("g", NULL, LEAT_ASSIGN_STICKY);
        reads(c[i], all);
        settle(c, (size_t)i + 1);
    }
    ok(leat_consumer_subscribe(c[0], NULL)); // the other has all of both, then half of each topic
    settle(c, 2);
    ok(leat_consumer_subscribe(c[0], "t*"));
    settle(c, 2);
    cr_assert_str_eq(has(c[0]), "t0p0 t0p1 t0p2 t0p3");
    cr_assert_str_eq(has(c[1]), "t1p0 t1p1 t1p2 t1p3");
    ok(leat_consumer_subscribe(c[1], NULL));
    ok(leat_consumer_subscribe(c[1], "t*"));
    settle(c, 2);
    ok(leat_topic_delete(mq, "t1"));
    settle(c, 2);
    gives(2, leat_consumer_positions(c[0], 0, NULL, 0));
    gives(2, leat_consumer_positions(c[1], 0, NULL, 0));
    close_store();
}

Test(assignor, members_stand_in_the_order_of_names_then_of_joining) {
    const leat_message *m;
    open_memory(LEAT_CLOCK_MANUAL, 5);
    leat_consumer *c[5];
    static const char *const names[] = { NULL, "b", NULL, "a", "b" };
    for (int i = 0; i < 5; i++) {
        c[i] = joins("g", names[i], 0);
        ok(leat_consumer_subscribe(c[i], "t"));
    }
    settle(c, 5);
    cr_assert_str_eq(parts(c[3]), "0"); // a
    cr_assert_str_eq(parts(c[1]), "1"); // the first b
    cr_assert_str_eq(parts(c[4]), "2"); // the second b
    cr_assert_str_eq(parts(c[0]), "3"); // the first without a name
    cr_assert_str_eq(parts(c[2]), "4");
    ok(leat_consumer_subscribe(c[1], NULL)); // and back: now behind the other b
    ok(leat_consumer_subscribe(c[1], "t"));
    settle(c, 5);
    cr_assert_str_eq(parts(c[4]), "1");
    cr_assert_str_eq(parts(c[1]), "2");
    gives(0, leat_poll(c[1], 0, &m));
    close_store();
}

Test(assignor, wrong_ones_and_another_than_the_groups_are_refused) {
    const leat_message *m;
    leat_consumer *c;
    open_memory(LEAT_CLOCK_MANUAL, 2);
    static const int32_t wrong[] = { -1, -2, 4, INT32_MAX, INT32_MIN };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        fails_saying(
            LEAT_EINVAL, "assignor",
            leat_consumer_open(mq, "g", &(leat_consumer_options){ .assignor = wrong[i] }, &c));
        cr_assert_null(c);
    }
    fails_saying(LEAT_EINVAL, "pad_",
                 leat_consumer_open(mq, "g", &(leat_consumer_options){ .pad_ = 1 }, &c));
    leat_consumer *a = joins("g", "a", LEAT_ASSIGN_STICKY);
    leat_consumer *b = joins("g", "b", LEAT_ASSIGN_ROUND_ROBIN);
    leat_consumer *any = joins("g", "c", 0), *range = joins("g", "d", LEAT_ASSIGN_RANGE);
    ok(leat_consumer_subscribe(a, "t")); // opening says nothing, the first member in does
    fails_saying(LEAT_EEXIST, "group g", leat_consumer_subscribe(b, "t"));
    fails_saying(LEAT_EEXIST, "sticky", leat_consumer_subscribe(b, "t"));
    fails_saying(LEAT_EEXIST, "round robin", leat_consumer_subscribe(b, "t*"));
    fails_saying(LEAT_EEXIST, "range", leat_consumer_subscribe(range, "t"));
    gives(0, leat_poll(b, 0, &m)); // it is not in
    cr_assert_str_eq(parts(a), "0 1");
    ok(leat_consumer_subscribe(any, "t"));
    ok(leat_consumer_subscribe(a, NULL)); // c is left, and shares by sticky
    fails(LEAT_EEXIST, leat_consumer_subscribe(b, "t"));
    ok(leat_consumer_close(any));
    ok(leat_consumer_subscribe(b, "t")); // nobody was in
    fails_saying(LEAT_EEXIST, "round robin", leat_consumer_subscribe(a, "t"));
    ok(leat_consumer_subscribe(b, "t")); // who is in is asked nothing
    ok(leat_consumer_close(b));
    leat_consumer *first = joins("g", NULL, 0); // range, if nobody says
    ok(leat_consumer_subscribe(first, "t"));
    fails_saying(LEAT_EEXIST, "range", leat_consumer_subscribe(a, "t"));
    ok(leat_consumer_subscribe(range, "t"));
    leat_consumer *other = joins("h", NULL, LEAT_ASSIGN_ROUND_ROBIN); // another group
    ok(leat_consumer_subscribe(other, "t"));
    close_store();
}

Test(assignor, leaving_shares_out_also_when_there_is_no_memory) {
    for (int32_t how = LEAT_ASSIGN_RANGE; how <= LEAT_ASSIGN_STICKY; how++) {
        open_store(MEMORY, LEAT_CLOCK_MANUAL);
        make_topics("34");
        leat_consumer *c[3];
        for (int i = 0; i < 3; i++) {
            c[i] = joins("g", NULL, how);
            reads(c[i], (const char *[]){ "t0", NULL });
            ok(leat_consumer_subscribe(c[i], "t1*"));
        }
        settle(c, 3);
        leat_consumer *late = joins("g", NULL, 0);
        ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, -1, 0));
        fails(LEAT_ENOMEM, leat_consumer_subscribe(late, "t0"));
        ok(leat_consumer_close(c[0]));
        ok(leat_consumer_subscribe(c[1], NULL));
        ok(leat_topic_delete(mq, "t1"));
        const leat_message *m;
        gives(0, leat_poll(c[2], 0, &m)); // which drops t1, too
        ok(leat_fault_clear(mq));
        leat_lag lag[8];
        gives(3, leat_group_lag(mq, "g", lag, 8, sizeof lag[0]));
        for (int i = 0; i < 3; i++)
            cr_assert_str_eq(lag[i].owner, "(unnamed)");
        cr_assert_str_eq(has(c[2]), "t0p0 t0p1 t0p2");
        close_store();
    }
}

Test(assignor, who_is_expelled_keeps_his_seat_and_his_place) {
    const leat_message *m;
    leat_consumer *stuck;
    for (int32_t how = LEAT_ASSIGN_RANGE; how <= LEAT_ASSIGN_STICKY; how++) {
        open_memory(LEAT_CLOCK_MANUAL, 4);
        ok(leat_consumer_open(
            mq, "g",
            &(leat_consumer_options){ .name = "a", .assignor = how, .max_poll_interval_ms = 1000 },
            &stuck));
        ok(leat_consumer_subscribe(stuck, "t*"));
        gives(0, leat_poll(stuck, 0, &m));
        cr_assert_str_eq(parts(stuck), "0 1 2 3");
        ok(leat_clock_advance(mq, 1000));
        leat_consumer *b = joins("g", "b", how % 3 + 1);
        fails(LEAT_EEXIST, leat_consumer_subscribe(b, "t")); // it is a member still
        ok(leat_consumer_close(b));
        b = joins("g", "b", how);
        ok(leat_consumer_subscribe(b, "t"));
        ok(leat_consumer_subscribe(b, "t*"));
        cr_assert_str_eq(parts(b), "0 1 2 3");
        // Topics come and go meanwhile.
        ok(leat_topic_open(mq, "t1", &(leat_topic_options){ .partitions = 40 }, &t));
        ok(leat_topic_open(mq, "t2", NULL, &t));
        ok(leat_topic_delete(mq, "t2"));
        gives(44, leat_consumer_positions(b, 0, NULL, 0));
        ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, -1, 0));
        (void)leat_poll(stuck, 0, &m); // comes back, and needs no room to be shared out to
        ok(leat_fault_clear(mq));
        settle((leat_consumer *[]){ stuck, b }, 2);
        gives(22, leat_consumer_positions(stuck, 0, NULL, 0));
        gives(22, leat_consumer_positions(b, 0, NULL, 0));
        if (how == LEAT_ASSIGN_RANGE) // a stands before b again
            cr_assert_eq(position(stuck, 0, 0), 0);
        ok(leat_clock_advance(mq, 1000));
        ok(leat_consumer_subscribe(stuck, NULL)); // leaves when it is out
        ok(leat_consumer_subscribe(stuck, "t2*"));
        gives(0, leat_poll(stuck, 0, &m));
        gives(0, leat_consumer_positions(stuck, 0, NULL, 0));
        gives(44, leat_consumer_positions(b, 0, NULL, 0));
        ok(leat_clock_advance(mq, 1000)); // out again, and closed
        ok(leat_consumer_close(stuck));
        close_store();
    }
}

// ---- everything at random

static uint64_t seed = 11;

static uint32_t chance(uint32_t below) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33) % below;
}

enum { MEMBERS = 5, STEPS = 600 };

// No partition is with two members, whoever has polled or not.
static void nobody_has_two(leat_consumer *const *c) {
    leat_position pos[MEMBERS * 64];
    int n = 0;
    for (int i = 0; i < MEMBERS; i++)
        if (c[i])
            n += leat_consumer_positions(c[i], 0, pos + n, 64);
    qsort(pos, (size_t)n, sizeof pos[0], by_place);
    for (int i = 1; i < n; i++)
        cr_assert(by_place(&pos[i - 1], &pos[i]) != 0, "%s %d twice", pos[i].topic,
                  pos[i].partition);
}

Test(assignor, at_random_a_partition_never_has_two_owners_and_in_the_end_each_has_one) {
    static const char *const patterns[] = { "t*", "t[02]", "t1", "*3" };
    for (int32_t how = LEAT_ASSIGN_RANGE; how <= LEAT_ASSIGN_STICKY; how++) {
        const leat_message *m;
        leat_consumer *c[MEMBERS] = { NULL };
        open_store(MEMORY, LEAT_CLOCK_MANUAL);
        make_topics("1342");
        for (int step = 0; step < STEPS; step++) {
            uint32_t i = chance(MEMBERS);
            char name[3] = { 't', (char)('0' + chance(4)), '\0' };
            if (!c[i]) {
                c[i] = joins("g", i % 2 ? NULL : name, how);
            } else if (chance(8) == 0) {
                ok(leat_consumer_close(c[i]));
                c[i] = NULL;
            } else if (chance(4) == 0) {
                ok(leat_consumer_subscribe(c[i], chance(5) ? patterns[chance(4)] : NULL));
            } else {
                gives(0, leat_poll(c[i], 0, &m));
            }
            if (chance(30) == 0) {
                ok(leat_topic_delete(mq, name));
                for (i = 0; i < MEMBERS; i++) // who has named it hears of that, and begins anew
                    if (c[i] && leat_poll(c[i], 0, &m) == LEAT_EGONE)
                        ok(leat_consumer_subscribe(c[i], NULL));
                open_topic(name, 1 + (int32_t)chance(4));
            }
            nobody_has_two(c);
        }
        for (int i = 0; i < MEMBERS; i++) {
            if (c[i])
                ok(leat_consumer_close(c[i]));
            c[i] = joins("g", NULL, how);
            ok(leat_consumer_subscribe(c[i], "*"));
        }
        settle(c, MEMBERS);
        leat_topic_info info[8];
        int all = 0, shared = 0, most = 0, least = 99;
        gives(4, leat_topic_list(mq, info, 8, sizeof info[0]));
        for (int i = 0; i < 4; i++)
            all += info[i].partitions;
        for (int i = 0; i < MEMBERS; i++) {
            int n = leat_consumer_positions(c[i], 0, NULL, 0);
            shared += n;
            most = n > most ? n : most;
            least = n < least ? n : least;
        }
        cr_assert_eq(shared, all);
        if (how != LEAT_ASSIGN_RANGE)
            cr_assert_leq(most - least, 1);
        close_store();
    }
}
