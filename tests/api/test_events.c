/* SPDX-License-Identifier: MIT */
// What a consumer is told of its partitions: by callback inside its own poll, or by asking.
#include "lib/stream.h"

static char seen[4096];
static int commit_in_revoked; // what the commit in a revoked event returned; 1: none was made
static bool commits;

static void note(const leat_event *e) {
    static const char kinds[] = "?ARLEXG";
    snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s%c%d@%lld", seen[0] ? " " : "",
             kinds[e->kind], e->partition, (long long)e->offset);
    cr_assert_str_eq(e->topic, "t");
}

static void on_event(leat_consumer *c, const leat_event *e, void *ctx) {
    cr_assert_eq(ctx, &seen);
    note(e);
    const leat_message *m;
    cr_assert_eq(leat_poll(c, 0, &m), LEAT_EDEADLK);
    cr_assert_eq(leat_consumer_close(c), LEAT_EDEADLK);
    if (commits && e->kind == LEAT_EV_REVOKED)
        commit_in_revoked = leat_commit(c);
}

static void forget(void) {
    seen[0] = '\0';
    commit_in_revoked = 1;
    commits = false;
}

static const char *said(void) {
    static char last[sizeof seen];
    memcpy(last, seen, sizeof seen);
    seen[0] = '\0';
    return last;
}

static leat_consumer *told(const char *group, leat_consumer_options o) {
    leat_consumer *c;
    o.on_event = on_event;
    o.ctx = &seen;
    ok(leat_consumer_open(mq, group, &o, &c));
    return c;
}

static const char *asked(leat_consumer *c) {
    leat_event e;
    int rc;
    while ((rc = leat_consumer_event(c, &e)) == 1)
        note(&e);
    cr_assert_eq(rc, 0);
    return said();
}

Test(events, tell_what_is_assigned_and_where_it_begins, .init = forget) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 5);
    leat_consumer *c = told("g", (leat_consumer_options){ .name = "c" });
    const leat_message *m;
    ok(leat_consumer_subscribe(c, "t"));
    cr_assert_str_eq(said(), "", "only a poll tells");
    gives(5, leat_poll(c, 0, &m));
    cr_assert_str_eq(said(), "A0@0 A1@0");
    ok(leat_commit(c));
    ok(leat_consumer_close(c));
    cr_assert_str_eq(said(), "R0@5 R1@0");
    c = told("g", (leat_consumer_options){ 0 });
    ok(leat_consumer_subscribe(c, "t"));
    gives(0, leat_poll(c, 0, &m));
    cr_assert_str_eq(said(), "A0@5 A1@0");
    ok(leat_consumer_subscribe(c, NULL));
    cr_assert_str_eq(said(), "R0@5 R1@0");
    close_store();
    cr_assert_str_eq(said(), "", "it had nothing any more");
}

Test(events, a_commit_in_revoked_counts_and_the_new_owner_starts_behind_it, .init = forget) {
    for (int k = 0; k < 2; k++) {
        open_memory(LEAT_CLOCK_MANUAL, 2);
        send_many(0, 5);
        send_many(1, 5);
        const leat_message *m;
        leat_consumer *a = told("g", (leat_consumer_options){ .name = "a" });
        ok(leat_consumer_subscribe(a, "t"));
        gives(10, leat_poll(a, 0, &m));
        cr_assert_str_eq(said(), "A0@0 A1@0");
        leat_consumer *b = member("g", "b", "t");
        commits = k == 0;
        gives(0, leat_poll(a, 0, &m));
        cr_assert_str_eq(said(), "R1@5");
        cr_assert_eq(commit_in_revoked, k == 0 ? 0 : 1);
        gives(k == 0 ? 0 : 5, leat_poll(b, 0, &m));
        cr_assert_eq(position(b, 1, 0), 5);
        cr_assert_eq(leat_commit(a), k == 0 ? 0 : LEAT_EFENCED);
        close_store();
        forget();
    }
}

Test(events, who_asks_has_until_the_next_poll_to_commit_what_is_revoked, .init = forget) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 5);
    send_many(1, 5);
    const leat_message *m;
    leat_consumer *a = member("g", "a", "t"), *b;
    cr_assert_str_eq(asked(a), "A0@0 A1@0", "asking takes over, too");
    gives(10, leat_poll(a, 0, &m));
    b = member("g", "b", "t");
    struct waiting w;
    start(&w, a, LEAT_FOREVER);
    join(&w);
    cr_assert_eq(w.rc, 0, "a poll does not wait while an event does");
    cr_assert_str_eq(asked(a), "R1@5");
    cr_assert_str_eq(parts(a), "0 1");
    gives(0, leat_poll(b, 0, &m)); // still a's
    ok(leat_commit(a));
    cr_assert_eq(position(a, 1, 1), 5);
    gives(0, leat_poll(a, 0, &m));
    cr_assert_str_eq(parts(a), "0");
    gives(0, leat_poll(b, 0, &m));
    cr_assert_str_eq(asked(b), "A1@5");
    cr_assert_str_eq(asked(a), "");
    // Revoked while nobody polls: asking tells it, and a poll passes it on.
    leat_consumer *c = member("g", "c", "t");
    ok(leat_consumer_close(a));
    cr_assert_str_eq(asked(b), "A0@5 R1@5");
    gives(0, leat_poll(b, 0, &m));
    cr_assert_str_eq(parts(b), "0");
    gives(0, leat_poll(c, 0, &m));
    cr_assert_str_eq(parts(c), "1");
    close_store();
}

Test(events, what_was_to_go_and_stays_is_assigned_again, .init = forget) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(1, 3);
    const leat_message *m;
    leat_consumer *a = member("g", "a", "t");
    (void)asked(a);
    gives(3, leat_poll(a, 0, &m));
    (void)asked(a);
    leat_consumer *b = member("g", "b", "t");
    cr_assert_str_eq(asked(a), "R1@3");
    ok(leat_consumer_close(b));
    cr_assert_str_eq(asked(a), "A1@3");
    send_many(1, 2);
    gives(2, leat_poll(a, 0, &m));
    ok(leat_commit(a));
    close_store();
}

Test(events, who_never_asks_passes_on_at_once_and_may_ask_later, .init = forget) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    const leat_message *m;
    leat_consumer *a = member("g", "a", "t"), *b = member("g", "b", "t");
    gives(0, leat_poll(a, 0, &m));
    gives(0, leat_poll(b, 0, &m));
    cr_assert_str_eq(parts(b), "1");
    struct waiting w; // the event that waits does not end its polls
    start(&w, a, 50);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    ok(leat_clock_advance(mq, 50));
    join(&w);
    cr_assert_str_eq(asked(a), "A0@0");
    cr_assert_str_eq(asked(b), "A1@0");
    // The last 1,024 are kept.
    leat_consumer *idle;
    ok(leat_consumer_open(mq, "h", &(leat_consumer_options){ .report_end = 1 }, &idle));
    ok(leat_consumer_subscribe(idle, "t"));
    for (int i = 0; i < 2000; i++) {
        send_many(0, 1);
        gives(1, leat_poll(idle, 0, &m));
        gives(0, leat_poll(idle, 0, &m));
    }
    leat_event e;
    gives(1, leat_consumer_event(idle, &e));
    cr_assert_eq(e.kind, LEAT_EV_END);
    cr_assert_eq(e.offset, 2000 - 1023);
    int more = 0;
    while (leat_consumer_event(idle, &e) == 1)
        more++;
    cr_assert_eq(more, 1023);
    cr_assert_eq(e.topic, NULL, "nothing is in it when there was nothing");
    close_store();
}

Test(events, the_end_is_told_once_for_each_place_behind_the_messages, .init = forget) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 3);
    const leat_message *m;
    leat_consumer *c = told("g", (leat_consumer_options){ .report_end = 1 });
    ok(leat_consumer_subscribe(c, "t"));
    gives(3, leat_poll(c, 0, &m));
    cr_assert_str_eq(said(), "A0@0", "its messages are not handled yet");
    gives(0, leat_poll(c, 0, &m));
    gives(0, leat_poll(c, 0, &m));
    cr_assert_str_eq(said(), "E0@3");
    send_many(0, 1);
    gives(1, leat_poll(c, 0, &m));
    gives(0, leat_poll(c, 0, &m));
    cr_assert_str_eq(said(), "E0@4");
    leat_consumer *quiet = told("h", (leat_consumer_options){ 0 });
    ok(leat_consumer_subscribe(quiet, "t"));
    gives(4, leat_poll(quiet, 0, &m));
    gives(0, leat_poll(quiet, 0, &m));
    cr_assert_str_eq(said(), "A0@0", "not asked for");
    close_store();
}

Test(events, what_was_deleted_before_it_was_read_is_a_gap, .init = forget) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 10);
    const leat_message *m;
    leat_consumer *c =
        told("g", (leat_consumer_options){ .max_poll_records = 2, .start = LEAT_LATEST });
    ok(leat_consumer_subscribe(c, "t"));
    gives(0, leat_poll(c, 0, &m));
    ok(leat_consumer_seek(c, "t", 0, 0));
    gives(2, leat_poll(c, 0, &m));
    ok(leat_topic_delete_records(t, 0, 7));
    forget();
    gives(2, leat_poll(c, 0, &m));
    cr_assert_str_eq(said(), "G0@7", "and goes on behind it, whatever .start is");
    cr_assert_eq(m[0].offset, 7);
    leat_consumer *strict = told("h", (leat_consumer_options){ .start = LEAT_NONE });
    ok(leat_consumer_subscribe(strict, "t"));
    fails_saying(LEAT_ERANGE, "NONE", leat_poll(strict, 0, &m));
    ok(leat_consumer_seek(strict, "t", 0, 8));
    ok(leat_topic_delete_records(t, 0, 9));
    fails_saying(LEAT_ERANGE, "8 was deleted", leat_poll(strict, 0, &m));
    close_store();
}

Test(events, a_committed_offset_that_was_deleted_is_reset_as_start_says, .init = forget) {
    static const struct {
        int32_t start;
        int64_t at;
    } cases[] = { { LEAT_EARLIEST, 7 }, { LEAT_LATEST, 10 }, { LEAT_NONE, -1 } };
    for (int i = 0; i < 3; i++) {
        open_memory(LEAT_CLOCK_MANUAL, 1);
        send_many(0, 10);
        const leat_message *m;
        leat_consumer_options o = { .max_poll_records = 3 };
        leat_consumer *c;
        ok(leat_consumer_open(mq, "g", &o, &c));
        ok(leat_consumer_subscribe(c, "t"));
        gives(3, leat_poll(c, 0, &m));
        ok(leat_commit(c));
        ok(leat_consumer_close(c));
        ok(leat_topic_delete_records(t, 0, 7));
        c = told("g", (leat_consumer_options){ .start = cases[i].start });
        ok(leat_consumer_subscribe(c, "t"));
        int rc = leat_poll(c, 0, &m);
        char text[64];
        snprintf(text, sizeof text, "A0@%lld X0@%lld", (long long)cases[i].at,
                 (long long)cases[i].at);
        cr_assert_str_eq(said(), text);
        cr_assert_eq(rc, cases[i].start == LEAT_NONE ? LEAT_ERANGE : (int)(10 - cases[i].at));
        if (cases[i].start == LEAT_NONE) {
            ok(leat_consumer_seek(c, "t", 0, 8));
            gives(2, leat_poll(c, 0, &m));
        }
        close_store();
        forget();
    }
}

static int nested_positions, nested_seek, nested_other;
static leat_consumer *other;

static void on_assigned(leat_consumer *c, const leat_event *e, void *ctx) {
    (void)ctx;
    leat_position pos[8];
    leat_event none;
    const leat_message *m;
    nested_positions = leat_consumer_positions(c, 0, pos, 8);
    if (e->kind == LEAT_EV_ASSIGNED)
        nested_seek = leat_consumer_seek(c, "t", e->partition, 2);
    nested_other = leat_poll(other, 0, &m);
    cr_assert_eq(leat_consumer_event(c, &none), LEAT_EDEADLK);
    cr_assert_eq(leat_consumer_subscribe(c, "t"), LEAT_EDEADLK);
}

Test(events, a_callback_may_seek_and_look_at_its_own_consumer_only, .init = forget) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 5);
    send_many(1, 5);
    const leat_message *m;
    other = member("h", NULL, "t");
    leat_consumer *c;
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .on_event = on_assigned }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    gives(6, leat_poll(c, 0, &m));
    cr_assert_eq(nested_positions, 2);
    cr_assert_eq(nested_seek, 0);
    cr_assert_eq(nested_other, LEAT_EDEADLK);
    leat_event e;
    gives(0, leat_consumer_event(c, &e)); // what the callback was told is told
    fails(LEAT_EINVAL, leat_consumer_event(c, NULL));
    fails(LEAT_EINVAL, leat_consumer_event(NULL, &e));
    ok(leat_consumer_close(c));
    close_store();
}
