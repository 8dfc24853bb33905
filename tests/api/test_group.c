/* SPDX-License-Identifier: MIT */
// Groups: who gets what, whose commit counts, how far behind it is.
#include "lib/stream.h"

Test(group, a_commit_lasts_and_the_group_goes_on_from_it, .init = make_dir, .fini = drop_dir) {
    for (int kind = MAPPED; kind < KINDS; kind++) {
        const leat_message *m;
        leat_consumer *c;
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 2);
        send_many(0, 10);
        send_many(1, 4);
        ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = 6 }, &c));
        ok(leat_consumer_subscribe(c, "t"));
        gives(6, leat_poll(c, 0, &m));
        cr_assert_eq(position(c, 0, 1), -1);
        ok(leat_commit(c));
        cr_assert_eq(position(c, 0, 0), 6);
        cr_assert_eq(position(c, 0, 1), 6);
        gives(6, leat_poll(c, 0, &m)); // not committed
        close_store();

        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 0);
        c = member("g", NULL, "t");
        cr_assert_eq(position(c, 0, 1), 6);
        cr_assert_eq(position(c, 0, 0), 6);
        cr_assert_eq(drain(c), 8);
        ok(leat_commit(c));
        leat_consumer *other = member("h", NULL, "t"); // another group has its own positions
        cr_assert_eq(drain(other), 14);
        close_store();

        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 0);
        c = member("g", NULL, "t");
        cr_assert_eq(drain(c), 0);
        send_many(1, 1);
        cr_assert_eq(drain(c), 1);
        other = member("h", NULL, "t");
        cr_assert_eq(drain(other), 15, "closing does not commit");
        close_store();
        scratch_remove(dir);
        scratch_mkdir(dir);
    }
}

Test(group, members_share_by_range_and_a_partition_moves_at_its_owners_poll) {
    open_memory(LEAT_CLOCK_MANUAL, 4);
    for (int32_t i = 0; i < 4; i++)
        send_many(i, 10);
    const leat_message *m;
    leat_consumer *a = member("g", "a", "t");
    cr_assert_str_eq(parts(a), "0 1 2 3");
    cr_assert_eq(drain(a), 40);
    leat_consumer *b = member("g", "b", "t");
    gives(0, leat_poll(b, 0, &m)); // still a's
    cr_assert_str_eq(parts(b), "");
    cr_assert_str_eq(parts(a), "0 1 2 3", "asking for positions gives nothing up");
    ok(leat_commit(a)); // and the owner's commit counts until its next poll
    gives(0, leat_poll(a, 0, &m));
    cr_assert_str_eq(parts(a), "0 1");
    gives(0, leat_poll(b, 0, &m)); // committed by a: nothing comes twice
    cr_assert_str_eq(parts(b), "2 3");
    send_many(3, 1);
    cr_assert_eq(drain(b), 1);
    cr_assert_eq(drain(a), 0);
    ok(leat_commit(a));
    ok(leat_commit(b));

    leat_consumer *c = member("g", "c", "t"); // 4 by 3: 2 1 1
    gives(0, leat_poll(b, 0, &m));
    gives(0, leat_poll(c, 0, &m));
    cr_assert_str_eq(parts(a), "0 1");
    cr_assert_str_eq(parts(b), "2");
    cr_assert_str_eq(parts(c), "3");
    ok(leat_consumer_close(a)); // 2 2
    gives(0, leat_poll(b, 0, &m));
    gives(0, leat_poll(c, 0, &m));
    cr_assert_str_eq(parts(b), "0 1");
    cr_assert_str_eq(parts(c), "2 3");
    ok(leat_consumer_subscribe(b, NULL));
    gives(0, leat_poll(c, 0, &m));
    cr_assert_str_eq(parts(b), "");
    cr_assert_str_eq(parts(c), "0 1 2 3");
    for (int32_t i = 0; i < 4; i++)
        send_many(i, 1);
    cr_assert_eq(drain(c), 4);
    cr_assert_eq(drain(b), 0);
    close_store();
}

Test(group, what_a_member_did_not_commit_comes_again_at_the_new_owner) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 5);
    send_many(1, 5);
    const leat_message *m;
    leat_consumer *a = member("g", "a", "t");
    gives(10, leat_poll(a, 0, &m));
    leat_consumer *b = member("g", "b", "t");
    gives(0, leat_poll(b, 0, &m));
    gives(0, leat_poll(a, 0, &m)); // gives 1 up without having committed it
    fails_saying(LEAT_EFENCED, "1", leat_commit(a));
    cr_assert_eq(position(a, 0, 1), 5, "what it still owns was committed");
    ok(leat_commit(a)); // said once
    gives(5, leat_poll(b, 0, &m));
    cr_assert_eq(m[0].partition, 1);
    cr_assert_eq(m[0].offset, 0);
    ok(leat_commit(b));
    leat_lag lag[4];
    gives(2, leat_group_lag(mq, "g", lag, 4, sizeof lag[0]));
    for (int i = 0; i < 2; i++)
        cr_assert_eq(lag[i].committed, 5);
    close_store();
}

Test(group, a_blocked_member_wakes_when_it_is_given_partitions) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 1);
    send_many(1, 1);
    const leat_message *m;
    leat_consumer *a = member("g", "a", "t");
    gives(2, leat_poll(a, 0, &m));
    leat_consumer *b = member("g", "b", "t");
    struct waiting w;
    start(&w, b, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    gives(0, leat_poll(a, 0, &m)); // gives 1 up
    join(&w);
    cr_assert_eq(w.rc, 1);
    cr_assert_str_eq(w.text, "1/0");
    start(&w, b, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(leat_consumer_close(a)); // gives 0 up
    join(&w);
    cr_assert_eq(w.rc, 1);
    cr_assert_str_eq(w.text, "0/0");
    close_store();
}

Test(group, an_owner_that_is_blocked_gives_up_what_another_is_to_have) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    const leat_message *m;
    leat_consumer *a = member("g", "a", "t");
    struct waiting w;
    start(&w, a, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    leat_consumer *b = member("g", "b", "t");
    send_many(1, 1);
    gives(1, leat_poll(b, LEAT_FOREVER, &m)); // a's poll was woken and has let go
    is(m[0].value, "1/0");
    send_many(0, 1);
    join(&w);
    cr_assert_eq(w.rc, 1);
    cr_assert_str_eq(w.text, "0/0");
    close_store();
}

Test(group, the_fifth_member_of_four_partitions_is_idle_until_one_leaves) {
    open_memory(LEAT_CLOCK_MANUAL, 4);
    const leat_message *m;
    leat_consumer *c[5];
    for (int i = 0; i < 5; i++) {
        char name[2] = { (char)('a' + i), 0 };
        c[i] = member("g", name, "t");
        for (int k = 0; k <= i; k++)
            gives(0, leat_poll(c[k], 0, &m));
    }
    for (int i = 0; i < 4; i++) {
        char number[2] = { (char)('0' + i), 0 };
        cr_assert_str_eq(parts(c[i]), number);
    }
    cr_assert_str_eq(parts(c[4]), "");
    for (int32_t i = 0; i < 4; i++)
        send_many(i, 1);
    gives(0, leat_poll(c[4], 0, &m));
    ok(leat_consumer_close(c[1]));
    for (int i = 0; i < 5; i++)
        if (i != 1)
            (void)drain(c[i]);
    cr_assert_str_eq(parts(c[0]), "0");
    cr_assert_str_eq(parts(c[2]), "1");
    cr_assert_str_eq(parts(c[3]), "2");
    cr_assert_str_eq(parts(c[4]), "3");
    close_store();
}

Test(group, several_topics_are_shared_out_each_by_itself) {
    open_memory(LEAT_CLOCK_MANUAL, 3);
    leat_topic *u;
    ok(leat_topic_open(mq, "u", &(leat_topic_options){ .partitions = 3 }, &u));
    leat_consumer *a = member("g", "a", "t"), *b = member("g", "b", "u");
    ok(leat_consumer_subscribe(a, "u"));
    ok(leat_consumer_subscribe(a, "u")); // twice is once
    const leat_message *m;
    gives(0, leat_poll(b, 0, &m));
    gives(0, leat_poll(a, 0, &m));
    gives(0, leat_poll(b, 0, &m));
    leat_position pos[8];
    int of_t = 0, of_u = 0, n = leat_consumer_positions(a, 0, pos, 8);
    cr_assert_eq(n, 5); // all of t, 2 of 3 of u
    for (int i = 0; i < n; i++) {
        of_t += strcmp(pos[i].topic, "t") == 0;
        of_u += strcmp(pos[i].topic, "u") == 0;
    }
    cr_assert_eq(of_t, 3);
    cr_assert_eq(of_u, 2);
    gives(1, leat_consumer_positions(b, 0, pos, 8));
    cr_assert_eq(pos[0].partition, 2);
    gives(5, leat_consumer_positions(a, 0, pos, 1)); // how many there are, not how many fit
    close_store();
}

Test(group, a_member_without_partitions_hears_of_the_deletion_of_its_topic) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    const leat_message *m;
    leat_consumer *a = member("g", "a", "t"), *b = member("g", "b", "t");
    gives(0, leat_poll(a, 0, &m));
    struct waiting w;
    start(&w, b, LEAT_FOREVER); // idle: a has the only one
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    leat_consumer *c = member("h", "c", "t");
    ok(leat_topic_delete(mq, "t"));
    join(&w);
    cr_assert_eq(w.rc, LEAT_EGONE);
    fails(LEAT_EGONE, leat_poll(b, LEAT_FOREVER, &m));
    fails(LEAT_EGONE, leat_poll(c, LEAT_FOREVER, &m)); // its first poll
    close_store();
}

Test(group, hand_assigned_with_a_group_commits_unless_a_member_owns_it) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 4);
    send_many(1, 4);
    const leat_message *m;
    leat_consumer *c = member("g", "hand", NULL);
    leat_position both[] = { { .topic = "t", .partition = 0, .offset = 1 },
                             { .topic = "t", .partition = 1, .offset = 2 } };
    ok(leat_consumer_assign(c, both, 2));
    gives(5, leat_poll(c, 0, &m));
    ok(leat_commit(c));
    cr_assert_eq(position(c, 0, 1), 4);
    leat_consumer *a = member("g", "member", "t");
    gives(0, leat_poll(a, 0, &m));
    cr_assert_str_eq(parts(a), "0 1");
    ok(leat_consumer_seek(c, "t", 0, 0));
    gives(4, leat_poll(c, 0, &m)); // reading is never fenced
    fails_saying(LEAT_EFENCED, "member", leat_commit(c));
    cr_assert_eq(position(a, 0, 1), 4);
    ok(leat_consumer_close(a));
    ok(leat_commit(c));
    close_store();
}

Test(group, lag_is_told_from_outside) {
    open_memory(LEAT_CLOCK_MANUAL, 3);
    send_many(0, 10);
    send_many(1, 5);
    const leat_message *m;
    leat_consumer *a = member("g", "a", NULL), *b;
    leat_lag lag[8];
    gives(0, leat_group_lag(mq, "g", lag, 8, sizeof lag[0]));
    ok(leat_consumer_subscribe(a, "t"));
    gives(3, leat_group_lag(mq, "g", lag, 8, sizeof lag[0]));
    for (int i = 0; i < 3; i++) {
        cr_assert_str_eq(lag[i].group, "g");
        cr_assert_str_eq(lag[i].topic, "t");
        cr_assert_str_eq(lag[i].owner, "a");
        cr_assert_eq(lag[i].partition, i);
        cr_assert_eq(lag[i].committed, -1);
        cr_assert_eq(lag[i].end, i == 0 ? 10 : i == 1 ? 5 : 0);
        cr_assert_eq(lag[i].lag, lag[i].end);
    }
    gives(15, leat_poll(a, 0, &m));
    ok(leat_consumer_seek(a, "t", 0, 4));
    ok(leat_commit(a));
    int32_t generation = lag[0].generation;
    b = member("g", "b", "t");
    gives(0, leat_poll(b, 0, &m));
    gives(3, leat_group_lag(mq, "g", lag, 1, sizeof lag[0]));
    cr_assert_eq(lag[0].committed, 4);
    cr_assert_eq(lag[0].lag, 6);
    cr_assert_gt(lag[0].generation, generation);
    ok(leat_consumer_close(a));
    ok(leat_consumer_close(b));
    gives(3, leat_group_lag(mq, "g", lag, 8, sizeof lag[0])); // committed, but nobody is there
    for (int i = 0; i < 3; i++)
        cr_assert_null(lag[i].owner);
    cr_assert_eq(lag[1].lag, 0);
    ok(leat_topic_delete(mq, "t"));
    gives(0, leat_group_lag(mq, "g", lag, 8, sizeof lag[0]));
    close_store();
}

Test(group, a_topic_made_anew_has_nothing_of_the_old_one, .init = make_dir, .fini = drop_dir) {
    for (int kind = 0; kind < KINDS; kind++) {
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 1);
        send_many(0, 9);
        leat_consumer *c = member("g", NULL, "t");
        cr_assert_eq(drain(c), 9);
        ok(leat_commit(c));
        ok(leat_topic_delete(mq, "t"));
        const leat_message *m;
        fails(LEAT_EGONE, leat_poll(c, 0, &m));
        open_topic("t", 1);
        send_many(0, 2);
        ok(leat_consumer_subscribe(c, NULL));
        ok(leat_consumer_subscribe(c, "t"));
        cr_assert_eq(position(c, 0, 1), -1);
        cr_assert_eq(drain(c), 2);
        ok(leat_consumer_close(c));
        if (kind != MEMORY) {
            close_store();
            open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
            open_topic("t", 1);
            c = member("g", NULL, "t");
            cr_assert_eq(position(c, 0, 1), -1);
            cr_assert_eq(drain(c), 2);
        }
        close_store();
        scratch_remove(dir);
        scratch_mkdir(dir);
    }
}

struct pair {
    leat_consumer *c;
    int got, rounds, bad;
    pthread_t thread;
};

// A member that polls and commits while others come and go.
static void *poll_and_commit(void *ctx) {
    struct pair *w = ctx;
    for (int i = 0; i < w->rounds; i++) {
        const leat_message *m;
        int n = leat_poll(w->c, 0, &m);
        w->bad += n < 0;
        w->got += n > 0 ? n : 0;
        int rc = leat_commit(w->c);
        w->bad += rc != 0 && rc != LEAT_EFENCED;
    }
    return NULL;
}

Test(group, members_come_and_go_while_others_poll_and_nothing_is_missed) {
    open_memory(LEAT_CLOCK_SYSTEM, 4);
    for (int32_t i = 0; i < 4; i++)
        send_many(i, 50);
    struct pair w[2];
    for (int i = 0; i < 2; i++) {
        w[i] = (struct pair){ .c = member("g", NULL, "t"), .rounds = 400 };
        cr_assert_eq(pthread_create(&w[i].thread, NULL, poll_and_commit, &w[i]), 0);
    }
    int got = 0;
    for (int i = 0; i < 60; i++) {
        const leat_message *m;
        leat_consumer *c = member("g", NULL, "t");
        int n = leat_poll(c, 0, &m);
        cr_assert_geq(n, 0);
        got += n;
        if (i % 2)
            ok(leat_commit(c));
        ok(leat_consumer_close(c));
    }
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(pthread_join(w[i].thread, NULL), 0);
        cr_assert_eq(w[i].bad, 0);
        got += w[i].got;
        ok(leat_consumer_close(w[i].c));
    }
    leat_consumer *last = member("g", NULL, "t");
    got += drain(last);
    cr_assert_geq(got, 200, "%d", got);
    for (int32_t i = 0; i < 4; i++)
        cr_assert_eq(position(last, i, 0), 50);
    close_store();
}
