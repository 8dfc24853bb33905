/* SPDX-License-Identifier: MIT */
// Subscribing to a pattern: what it lets in, what comes later, what goes.
#include "lib/stream.h"

#include <stdatomic.h>

static leat_topic *make(const char *name, int32_t partitions) {
    open_topic(name, partitions);
    return t;
}

// Polls until nothing comes; returns how many came. *last: the topic of the last one.
static int all_of(leat_consumer *c, char last[256]) {
    const leat_message *m;
    int n, all = 0;
    while ((n = leat_poll(c, 0, &m)) > 0) {
        all += n;
        if (last)
            snprintf(last, 256, "%s", m[n - 1].topic);
    }
    cr_assert_eq(n, 0, "poll: %s", leat_errmsg());
    return all;
}

static int keep_text(const void *data, size_t size, void *ctx) {
    char *text = ctx;
    size_t n = strlen(text);
    snprintf(text + n, 2000 - n, "%.*s", (int)size, (const char *)data);
    return 0;
}

static void explains(leat_consumer *c, const char *words) {
    char text[2000] = "";
    ok(leat_consumer_explain(c, keep_text, text));
    cr_assert_not_null(strstr(text, words), "'%s' does not say '%s'", text, words);
}

Test(pattern_subscribe, reads_what_matches_now_and_what_comes_later) {
    const leat_message *m;
    char from[256];
    open_store(MEMORY, LEAT_CLOCK_JUMP);
    leat_topic *a = make("orders.a", 2), *other = make("news", 1);
    leat_consumer *c = member("g", "c", "orders.*");
    send_to(a, 0, "1");
    send_to(a, 1, "2");
    send_to(other, 0, "3");
    gives(2, all_of(c, from));
    leat_topic *b = make("orders.b", 3);
    gives(5, leat_consumer_positions(c, 0, NULL, 0));
    send_to(b, 2, "4");
    gives(1, all_of(c, from));
    cr_assert_str_eq(from, "orders.b");
    gives(0, leat_poll(c, 1000, &m)); // waits, and listens to both
    ok(leat_commit(c));
    // Several patterns and names, some of them twice, are read once.
    ok(leat_consumer_subscribe(c, "*s"));
    ok(leat_consumer_subscribe(c, "*s"));
    ok(leat_consumer_subscribe(c, "orders.[ab]"));
    ok(leat_consumer_subscribe(c, "orders.a"));
    gives(6, leat_consumer_positions(c, 0, NULL, 0));
    gives(1, all_of(c, from));
    cr_assert_str_eq(from, "news");
    // Without it, nothing comes later either.
    ok(leat_consumer_subscribe(c, NULL));
    (void)make("orders.c", 1);
    gives(0, leat_consumer_positions(c, 0, NULL, 0));
    gives(0, leat_poll(c, 0, &m));
    ok(leat_consumer_subscribe(c, "orders.?"));
    gives(6, leat_consumer_positions(c, 0, NULL, 0));
    close_store();
}

Test(pattern_subscribe, a_queues_own_topic_is_read_only_by_its_name) {
    leat_queue *q, *over;
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_consumer *c = member("g", "c", "*");
    ok(leat_queue_open(mq, "later", NULL, &q)); // comes later
    (void)make("plain", 1);
    ok(leat_queue_open(mq, "over", &(leat_queue_options){ .topic = "plain" }, &over));
    gives(1, leat_consumer_positions(c, 0, NULL, 0)); // a topic under a queue is a topic
    leat_consumer *d = member("h", "d", "*");         // was there before
    gives(1, leat_consumer_positions(d, 0, NULL, 0));
    ok(leat_consumer_subscribe(d, "later"));
    gives(2, leat_consumer_positions(d, 0, NULL, 0));
    close_store();
}

struct asked {
    leat_consumer *c;
    int rc;
};

static void subscribe_inside(leat_producer *from, const leat_report *r, void *ctx) {
    struct asked *a = ctx;
    (void)from;
    (void)r;
    a->rc = leat_consumer_subscribe(a->c, "x*");
}

Test(pattern_subscribe, wrong_patterns_and_wrong_moments_are_refused) {
    static const char *const wrong[] = { "a b*", "a/*", "*\n", "{*}", "*é" };
    const leat_message *m;
    leat_consumer *alone;
    char s[252];
    open_memory(LEAT_CLOCK_MANUAL, 1);
    leat_consumer *c = member("g", "c", NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        fails_saying(LEAT_EINVAL, "pattern", leat_consumer_subscribe(c, wrong[i]));
    memset(s, '*', sizeof s);
    s[250] = '\0';
    fails(LEAT_EINVAL, leat_consumer_subscribe(c, s));
    fails(LEAT_EINVAL, leat_consumer_subscribe(c, "")); // a name
    fails(LEAT_EINVAL, leat_consumer_subscribe(c, "a]"));
    fails(LEAT_EINVAL, leat_consumer_subscribe(NULL, "*"));
    gives(0, leat_poll(c, 0, &m)); // it is in nothing yet
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t" }, 1));
    fails_saying(LEAT_EINVAL, "assigned by hand", leat_consumer_subscribe(c, "*"));
    ok(leat_consumer_assign(c, NULL, 0));
    s[249] = '\0';
    ok(leat_consumer_subscribe(c, s)); // 249 are as many as a name may have
    fails_saying(LEAT_EINVAL, "subscribed",
                 leat_consumer_assign(c, &(leat_position){ .topic = "t" }, 1));
    ok(leat_consumer_subscribe(c, NULL));
    ok(leat_consumer_subscribe(c, "nothing.*")); // matches nothing, and that is fine
    fails_saying(LEAT_EINVAL, "subscribed",
                 leat_consumer_assign(c, &(leat_position){ .topic = "t" }, 1));
    gives(0, leat_consumer_positions(c, 0, NULL, 0));
    ok(leat_consumer_open(mq, NULL, NULL, &alone));
    fails_saying(LEAT_EINVAL, "without a group", leat_consumer_subscribe(alone, "*"));
    struct asked a = { .c = c };
    ok(leat_send_async(p, t, &(leat_record){ .value = LEAT_STR("x") }, subscribe_inside, &a));
    ok(leat_flush(p, REAL_MS));
    cr_assert_eq(a.rc, LEAT_EDEADLK);
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_consumer_subscribe(c, "*"));
    close_store();
}

Test(pattern_subscribe, a_blocked_poll_wakes_when_a_topic_appears) {
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_consumer *a = member("g", "a", "late.*"), *b = member("g", "b", "late.*");
    struct waiting wa, wb;
    start(&wa, a, LEAT_FOREVER);
    start(&wb, b, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 2, REAL_MS));
    leat_topic *l = make("late.1", 2);
    ok(leat_clock_wait_blocked(mq, 2, REAL_MS)); // they have taken it over, and wait for records
    send_to(l, 1, "for b");
    join(&wb);
    cr_assert_str_eq(wb.text, "for b");
    ok(leat_commit(b));
    start(&wb, b, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 2, REAL_MS));
    ok(leat_topic_grow(l, 3)); // 2 and 1: the second one goes from b to a
    ok(leat_clock_wait_blocked(mq, 2, REAL_MS));
    send_to(l, 2, "for b again");
    join(&wb);
    cr_assert_str_eq(wb.text, "for b again");
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    send_to(l, 0, "for a");
    join(&wa);
    cr_assert_str_eq(wa.text, "for a");
    close_store();
}

Test(pattern_subscribe, a_jumping_clock_says_that_nothing_can_come) {
    const leat_message *m;
    open_store(MEMORY, LEAT_CLOCK_JUMP);
    leat_consumer *c = member("g", "c", "x*");
    fails(LEAT_EDEADLK, leat_poll(c, LEAT_FOREVER, &m));
    gives(0, leat_poll(c, 3600000, &m));
    send_to(make("x1", 1), 0, "1");
    gives(1, leat_poll(c, LEAT_FOREVER, &m));
    close_store();
}

Test(pattern_subscribe, a_deleted_topic_drops_out_and_a_new_one_of_its_name_is_new) {
    const leat_message *m;
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_topic *a = make("s.a", 2), *b = make("s.b", 1);
    leat_consumer *c = member("g", "c", "s.*"), *named = member("h", "n", "s.a");
    ok(leat_consumer_subscribe(named, "s.*"));
    send_to(a, 0, "1");
    send_to(a, 1, "2");
    send_to(b, 0, "3");
    gives(3, all_of(c, NULL));
    ok(leat_topic_delete(mq, "s.a"));
    ok(leat_commit(c)); // of what there is
    gives(1, leat_poll(named, 0, &m));
    is(m[0].value, "3");
    fails_saying(LEAT_EGONE, "s.a", leat_poll(named, 0, &m));
    send_to(b, 0, "4");
    gives(1, leat_poll(c, 0, &m));
    is(m[0].value, "4");
    gives(1, leat_consumer_positions(c, 0, NULL, 0));
    ok(leat_commit(c));
    leat_lag lag[4];
    gives(1, leat_group_lag(mq, "g", lag, 4, sizeof lag[0]));
    a = make("s.a", 1); // nothing of it was ever committed
    send_to(a, 0, "5");
    gives(1, leat_poll(c, 0, &m));
    is(m[0].value, "5");
    cr_assert_eq(m[0].offset, 0);
    ok(leat_commit(c));
    gives(2, leat_poll(named, 0, &m));          // its pattern has them
    fails(LEAT_EGONE, leat_poll(named, 0, &m)); // named, so it stays gone until it is dropped
    ok(leat_consumer_subscribe(named, NULL));
    ok(leat_consumer_subscribe(named, "s.a"));
    gives(1, leat_poll(named, 0, &m));
    ok(leat_topic_delete(mq, "s.b")); // also while a poll waits
    struct waiting w;
    start(&w, c, LEAT_FOREVER);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(leat_topic_delete(mq, "s.a"));
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    send_to(make("s.c", 1), 0, "6");
    join(&w);
    cr_assert_str_eq(w.text, "6");
    for (int i = 0; i < 50; i++) { // topics come and go
        send_to(make("s.d", 3), 1, "7");
        gives(1, leat_poll(c, 0, &m));
        cr_assert_str_eq(m[0].topic, "s.d");
        ok(leat_topic_delete(mq, "s.d"));
    }
    close_store();
}

Test(pattern_subscribe, events_and_explain_say_what_came_and_what_went) {
    const leat_message *m;
    leat_event e;
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_consumer *c = member("g", "c", "s*");
    explains(c, "no topic matches");
    gives(0, leat_consumer_event(c, &e)); // it is asked: told what is to come
    leat_topic *s = make("s", 1);
    send_to(s, 0, "1");
    while (leat_poll(c, 0, &m) == 0)
        ;
    gives(1, leat_consumer_event(c, &e));
    cr_assert_eq(e.kind, LEAT_EV_ASSIGNED);
    cr_assert_str_eq(e.topic, "s");
    ok(leat_topic_delete(mq, "s"));
    for (int i = 0; i < 3; i++)
        gives(0, leat_poll(c, 0, &m));
    gives(1, leat_consumer_event(c, &e));
    cr_assert_eq(e.kind, LEAT_EV_LOST);
    cr_assert_str_eq(e.topic, "s");
    gives(0, leat_consumer_event(c, &e));
    ok(leat_commit(c)); // and nothing is fenced: nobody else has it
    explains(c, "no topic matches");
    close_store();
}

Test(pattern_subscribe, groups_members_and_growth_are_as_with_names) {
    const leat_message *m;
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_consumer *a = member("g", "a", "t*"), *b = member("g", "b", "t?"),
                  *h = member("h", "h", "t*");
    leat_topic *t1 = make("t1", 4);
    gives(2, leat_consumer_positions(a, 0, NULL, 0));
    gives(2, leat_consumer_positions(b, 0, NULL, 0));
    gives(4, leat_consumer_positions(h, 0, NULL, 0));
    leat_topic *t22 = make("t22", 2); // a alone has a pattern for it
    gives(4, leat_consumer_positions(a, 0, NULL, 0));
    gives(2, leat_consumer_positions(b, 0, NULL, 0));
    ok(leat_topic_grow(t1, 6));
    gives(0, leat_poll(a, 0, &m));
    gives(0, leat_poll(b, 0, &m));
    gives(5, leat_consumer_positions(a, 0, NULL, 0));
    gives(3, leat_consumer_positions(b, 0, NULL, 0));
    gives(8, leat_consumer_positions(h, 0, NULL, 0));
    for (int32_t i = 0; i < 6; i++)
        send_to(t1, i, "x");
    send_to(t22, 1, "y");
    gives(3, all_of(b, NULL));
    gives(4, all_of(a, NULL));
    gives(7, all_of(h, NULL)); // each group has its own positions
    ok(leat_commit(b));
    ok(leat_consumer_close(b));
    gives(0, all_of(a, NULL)); // b's are a's from there on
    gives(8, leat_consumer_positions(a, 0, NULL, 0));
    leat_lag lag[16];
    gives(8, leat_group_lag(mq, "g", lag, 16, sizeof lag[0]));
    for (int i = 0; i < 8; i++)
        cr_assert_str_eq(lag[i].owner, "a");
    close_store();
}

Test(pattern_subscribe, positions_last_over_a_restart, .init = make_dir, .fini = drop_dir) {
    for (int kind = MAPPED; kind < KINDS; kind++) {
        char from[256];
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        leat_consumer *c = member("g", "c", "s.*");
        leat_topic *a = make("s.a", 1);
        for (int i = 0; i < 3; i++)
            send_to(a, 0, "x");
        gives(3, all_of(c, from));
        ok(leat_commit(c));
        send_to(a, 0, "y");
        send_to(make("s.b", 1), 0, "z");
        close_store();
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        c = member("g", "c", "s.*");
        gives(2, all_of(c, from)); // one of each
        cr_assert_eq(leat_consumer_positions(c, 1, NULL, 0), 2);
        close_store();
        scratch_remove(dir);
        scratch_mkdir(dir);
    }
}

Test(pattern_subscribe, what_a_pattern_waits_for_is_kept_from_the_creation_on) {
    const leat_message *m;
    leat_range r;
    leat_topic *k;
    open_store(MEMORY, LEAT_CLOCK_MANUAL);
    leat_topic_options o = { .segment_bytes = 16384,
                             .retention_records = 1,
                             .keep_until_consumed = 1 };
    static char big[9000];
    leat_record record = { .value = { big, sizeof big } }; // a segment each
    leat_consumer *c = member("g", "c", "k*");
    ok(leat_topic_open(mq, "k1", &o, &k));
    for (int i = 0; i < 6; i++)
        ok(leat_send(p, k, &record, NULL));
    ok(leat_clock_advance(mq, 0));
    ok(leat_topic_range(k, 0, &r));
    cr_assert_eq(r.begin, 0, "nobody has read it, and it begins at %d", (int)r.begin);
    gives(6, leat_poll(c, 0, &m));
    ok(leat_commit(c));
    ok(leat_clock_advance(mq, 1));
    ok(leat_topic_range(k, 0, &r));
    cr_assert_eq(r.begin, 5);
    // A member that leaves without a commit holds nothing back.
    ok(leat_topic_open(mq, "k2", &o, &k));
    for (int i = 0; i < 6; i++)
        ok(leat_send(p, k, &record, NULL));
    ok(leat_clock_advance(mq, 1));
    ok(leat_topic_range(k, 0, &r));
    cr_assert_eq(r.begin, 0);
    ok(leat_consumer_subscribe(c, NULL));
    ok(leat_clock_advance(mq, 1));
    ok(leat_topic_range(k, 0, &r));
    cr_assert_eq(r.begin, 5);
    close_store();
}

// ---- without memory

static long refuse_at; // the allocation that fails, counted down; < 0: none

static void *allocate(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0) {
        free(old);
        return NULL;
    }
    if (refuse_at >= 0 && refuse_at-- == 0)
        return NULL;
    return realloc(old, size);
}

static void open_failing(void) {
    leat_options o = { .clock = LEAT_CLOCK_JUMP,
                       .threads = LEAT_NO_THREADS,
                       .acks = LEAT_ACKS_LOG,
                       .alloc = allocate };
    refuse_at = -1;
    ok(leat_open_memory(&o, &mq));
    ok(leat_producer_open(mq, NULL, &p));
}

Test(pattern_subscribe, whatever_allocation_fails_nothing_has_changed) {
    const leat_message *m;
    int failed[3] = { 0 };
    for (long k = 0; k < 60; k++) {
        open_failing();
        for (int i = 0; i < 8; i++) {
            char name[3] = { 's', (char)('0' + i), '\0' };
            (void)make(name, 3);
        }
        leat_topic *before = t; // the eighth: the ninth needs more room everywhere
        leat_consumer *a = member("g", "a", "s0"), *b = member("g", "b", NULL);
        leat_consumer *other = member("h", "o", "s*"); // the first or the second to be told
        refuse_at = k;                                 // a pattern
        int rc = leat_consumer_subscribe(b, "s*");
        refuse_at = -1;
        if (rc != 0) {
            failed[0]++;
            cr_assert_eq(rc, LEAT_ENOMEM);
            gives(0, leat_consumer_positions(b, 0, NULL, 0));
            gives(3, leat_consumer_positions(a, 0, NULL, 0));
            ok(leat_consumer_close(member("g", "c", "s1")));
            ok(leat_consumer_assign(b, &(leat_position){ .topic = "s1" }, 1)); // it is not in
            ok(leat_consumer_assign(b, NULL, 0));
            ok(leat_consumer_subscribe(b,
                                       "s7")); // nor does it read what it has tried to, when it is
            gives(3, leat_consumer_positions(b, 0, NULL, 0));
            ok(leat_consumer_subscribe(b, "s*"));
        }
        gives(0, leat_poll(a, 0, &m));
        gives(0, leat_poll(b, 0, &m));
        gives(2, leat_consumer_positions(a, 0, NULL, 0));
        gives(22, leat_consumer_positions(b, 0, NULL, 0));

        leat_topic *late = NULL;
        refuse_at = k; // a topic that a pattern is for
        rc = leat_topic_open(mq, "s9", &(leat_topic_options){ .partitions = 40 }, &late);
        refuse_at = -1;
        if (rc != 0) {
            failed[1]++;
            cr_assert_eq(rc, LEAT_ENOMEM);
            cr_assert_null(late);
            gives(8, leat_topic_list(mq, NULL, 0, sizeof(leat_topic_info)));
            gives(22, leat_consumer_positions(b, 0, NULL, 0));
            send_to(before, 0, "x");
            gives(1, leat_poll(b, 0, &m));
            gives(24, leat_consumer_positions(other, 0, NULL, 0));
            ok(leat_topic_open(mq, "s9", &(leat_topic_options){ .partitions = 40 }, &late));
        }
        gives(62, leat_consumer_positions(b, 0, NULL, 0));

        refuse_at = k; // more partitions
        rc = leat_topic_grow(late, 200);
        refuse_at = -1;
        if (rc != 0) {
            failed[2]++;
            cr_assert_eq(rc, LEAT_ENOMEM);
            gives(62, leat_consumer_positions(b, 0, NULL, 0));
            ok(leat_topic_grow(late, 200));
        }
        gives(222, leat_consumer_positions(b, 0, NULL, 0));
        close_store();
    }
    for (int i = 0; i < 3; i++)
        cr_assert(failed[i] >= 4 && failed[i] < 60, "%d: %d have failed", i, failed[i]);
}

// ---- threads

struct worker {
    leat_consumer *c;
    pthread_t thread;
    int got, bad;
};

static atomic_int going;

static void *polls(void *ctx) {
    struct worker *w = ctx;
    const leat_message *m;
    while (atomic_load(&going)) {
        int n = leat_poll(w->c, 1, &m);
        w->bad += n < 0;
        w->got += n > 0 ? n : 0;
        int rc = leat_commit(w->c);
        w->bad += rc != 0 && rc != LEAT_EFENCED;
    }
    return NULL;
}

static void come_and_go(int32_t assignor) {
    struct worker w[2];
    open_store(MEMORY, LEAT_CLOCK_SYSTEM);
    atomic_store(&going, 1);
    for (int i = 0; i < 2; i++) {
        w[i] = (struct worker){ 0 };
        leat_consumer_options o = { .assignor = assignor };
        ok(leat_consumer_open(mq, "g", &o, &w[i].c));
        ok(leat_consumer_subscribe(w[i].c, "s*"));
        cr_assert_eq(pthread_create(&w[i].thread, NULL, polls, &w[i]), 0);
    }
    leat_topic *stays = make("s-stays", 3);
    for (int i = 0; i < 60; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i % 7);
        leat_topic *made = make(name, 2);
        send_to(made, i % 2, "x");
        send_to(stays, i % 3, "y");
        leat_consumer *c = member("g", NULL, i % 2 ? "s*" : name);
        if (i % 3 == 0)
            ok(leat_topic_delete(mq, name));
        ok(leat_consumer_close(c));
    }
    atomic_store(&going, 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(pthread_join(w[i].thread, NULL), 0);
        cr_assert_eq(w[i].bad, 0);
        ok(leat_consumer_close(w[i].c));
    }
    leat_consumer *last = member("g", NULL, "s*");
    int got = w[0].got + w[1].got + all_of(last, NULL);
    cr_assert_geq(got, 60, "%d", got); // all of the one that stayed
    close_store();
}

Test(pattern_subscribe, topics_come_and_go_while_members_poll_join_and_leave) {
    for (int32_t how = LEAT_ASSIGN_RANGE; how <= LEAT_ASSIGN_STICKY; how++)
        come_and_go(how);
}
