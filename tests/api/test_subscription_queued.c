/* SPDX-License-Identifier: MIT */
// Subscriptions with a buffer and a callback: where it runs, what closing delivers and throws away,
// ends, held messages, what callbacks may do, and several threads at once.
#include "lib/mail.h"

#include <sched.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

static const leat_subscription_options queued_roomy = { .buffer = 100 };

static void queued_open(struct mail_ear *e, enum mail_kind kind, bool gated) {
    mail_ear_init(e, mail_store(kind), gated);
    mail_listen(e, "c", mail_hear, queued_roomy);
}

// Lets n calls of a gated ear return.
static void queued_let(struct mail_ear *e, int n) {
    for (int i = 0; i < n; i++)
        (void)sem_post(&e->open);
}

// ---- where and when

Test(subscription_queued, is_called_in_order_where_callbacks_are) {
    for (enum mail_kind kind = MAIL_ALONE; kind < MAIL_KINDS; kind++)
        for (int64_t buffer = 100; buffer <= 1000; buffer += 900) {
            struct mail_ear e;
            mail_ear_init(&e, mail_store(kind), false);
            mail_listen(&e, "c", mail_hear, (leat_subscription_options){ .buffer = buffer });
            gives(5, mail_count(e.mq, "c", 1, 5));
            if (kind != MAIL_THREADED)
                cr_assert_eq(atomic_load(&e.calls), 0, "before a dispatch");
            mail_settle(e.mq, kind);
            cr_assert_str_eq(e.diary, "1 2 3 4 5 ");
            leat_subscription_stats st = mail_stats(&e);
            cr_assert(st.delivered == 5 && st.waiting == 0 && st.dropped == 0);
            gives(0, leat_subscription_close(e.s, 0));
            gives(0, mail_count(e.mq, "c", 6, 7));
            cr_assert_str_eq(e.diary, "1 2 3 4 5 end ");
            ok(leat_close(e.mq, 0));
        }
}

Test(subscription_queued, a_dispatch_tells_how_many_and_the_descriptor_shines) {
    struct mail_ear e;
    queued_open(&e, MAIL_ALONE, false);
    gives(0, leat_dispatch(e.mq, 0));
    gives(3, mail_count(e.mq, "c", 1, 3));
    gives(3, leat_dispatch(e.mq, LEAT_FOREVER));
    gives(0, leat_dispatch(e.mq, 0));
    gives(LEAT_EDEADLK, leat_dispatch(e.mq, LEAT_FOREVER));
    gives(0, leat_subscription_close(e.s, 0));
    ok(leat_close(e.mq, 0));
}

static pthread_t queued_thread;
static void queued_where(leat_subscription *s, const leat_message *m, void *ctx) {
    queued_thread = pthread_self();
    mail_hear(s, m, ctx);
}

Test(subscription_queued, an_advance_waits_until_all_is_heard) {
    struct mail_ear e;
    mail_ear_init(&e, mail_store(MAIL_THREADED), false);
    mail_listen(&e, "c", queued_where, queued_roomy);
    for (int i = 1; i <= 100; i++) {
        gives(1, mail_say(e.mq, "c", "x"));
        ok(leat_clock_advance(e.mq, 1));
        cr_assert_eq(atomic_load(&e.calls), i);
    }
    cr_assert(!pthread_equal(queued_thread, pthread_self()));
    gives(0, leat_subscription_close(e.s, 0));
    ok(leat_close(e.mq, 0));
}

// ---- held messages

struct queued_kept {
    leat *mq;
    leat_message m[2];
    const void *seen;
    int n, rc;
};

static void queued_keep(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct queued_kept *kept = ctx;
    kept->seen = m->value.data;
    kept->rc |= leat_message_hold(kept->mq, m, &kept->m[kept->n++ % 2]);
}

Test(subscription_queued, a_held_message_is_the_copy_and_outlives_all) {
    for (int pattern = 0; pattern < 2; pattern++) {
        leat *mq = mail_store(MAIL_ALONE);
        struct queued_kept kept = { .mq = mq };
        leat_subscription *s;
        ok(leat_channel_subscribe(mq, pattern ? "a.*" : "a.b", queued_keep, &kept, &queued_roomy,
                                  &s));
        leat_record r = { .key = LEAT_STR("k"), .value = LEAT_STR("held") };
        gives(1, leat_publish_record(mq, "a.b", &r));
        mail_settle(mq, MAIL_ALONE);
        gives(0, leat_subscription_close(s, 0));
        ok(kept.rc);
        cr_assert(kept.m[0].value.data == kept.seen, "held without a copy");
        cr_assert_str_eq(kept.m[0].value.data, "held");
        cr_assert_str_eq(kept.m[0].key.data, "k");
        cr_assert_str_eq(kept.m[0].topic, "a.b");
        cr_assert(pattern ? strcmp(kept.m[0].pattern, "a.*") == 0 : kept.m[0].pattern == NULL);
        leat_message second;
        ok(leat_message_hold(mq, &kept.m[0], &second));
        ok(leat_message_release(mq, &kept.m[0]));
        cr_assert_str_eq(second.value.data, "held");
        ok(leat_message_release(mq, &second));
        gives(LEAT_ESTALE, leat_message_release(mq, &second));
        ok(leat_close(mq, 0));
    }
}

Test(subscription_queued, an_inline_message_with_key_and_headers_is_held_whole) {
    leat *mq = mail_store(MAIL_ALONE);
    struct queued_kept kept = { .mq = mq };
    leat_subscription *s;
    ok(leat_channel_subscribe(mq, "a", queued_keep, &kept, NULL, &s));
    char name[] = "n", text[] = "t", key[] = "k";
    leat_header header = { { name, 1 }, { text, 1 } };
    leat_record r = { .key = { key, 1 },
                      .value = LEAT_STR("v"),
                      .headers = &header,
                      .header_count = 1,
                      .timestamp_ms = 5 };
    gives(1, leat_publish_record(mq, "a", &r));
    name[0] = text[0] = key[0] = 'z';
    leat_header h;
    cr_assert_eq(leat_message_header(&kept.m[0], 0, &h), 1);
    cr_assert_str_eq(h.name.data, "n");
    cr_assert_str_eq(h.value.data, "t");
    cr_assert_str_eq(kept.m[0].key.data, "k");
    cr_assert_eq(kept.m[0].timestamp_ms, 5);
    ok(leat_message_release(mq, &kept.m[0]));
    ok(leat_close_all(mq, 0));
}

// ---- the end after n

Test(subscription_queued, stops_after_so_many_and_stays_to_be_closed) {
    for (enum mail_kind kind = MAIL_ALONE; kind < MAIL_KINDS; kind++)
        for (int buffer = 0; buffer <= 100; buffer += 100) {
            struct mail_ear e;
            mail_ear_init(&e, mail_store(kind), false);
            mail_listen(&e, "c", mail_hear,
                        (leat_subscription_options){ .buffer = buffer, .stop_after = 3 });
            gives(2, mail_count(e.mq, "c", 1, 2));
            gives(1, leat_channel_count(e.mq, "c"));
            gives(1, mail_count(e.mq, "c", 3, 9));
            gives(0, leat_channel_count(e.mq, "c"));
            mail_settle(e.mq, kind);
            cr_assert_str_eq(e.diary, "1 2 3 end ");
            gives(LEAT_EBUSY, leat_close(e.mq, 0)); // it is to be closed
            gives(0, leat_subscription_close(e.s, LEAT_FOREVER));
            cr_assert_eq(atomic_load(&e.ends), 1);
            ok(leat_close(e.mq, 0));
        }
}

Test(subscription_queued, what_was_dropped_does_not_count_to_its_end) {
    struct mail_ear e;
    mail_ear_init(&e, mail_store(MAIL_ALONE), false);
    mail_listen(&e, "c", mail_hear, (leat_subscription_options){ .buffer = 2, .stop_after = 3 });
    gives(5, mail_count(e.mq, "c", 1, 5));
    mail_settle(e.mq, MAIL_ALONE);
    cr_assert_str_eq(e.diary, "+3:4 5 ");
    gives(1, mail_count(e.mq, "c", 6, 7));
    mail_settle(e.mq, MAIL_ALONE);
    cr_assert_str_eq(e.diary, "+3:4 5 6 end ");
    gives(0, leat_subscription_close(e.s, 0));
    ok(leat_close(e.mq, 0));
}

// ---- closing

Test(subscription_queued, a_close_throws_away_and_counts_or_drains) {
    for (enum mail_kind kind = MAIL_ALONE; kind < MAIL_THREADED; kind++)
        for (int drain = 0; drain < 2; drain++) {
            struct mail_ear e;
            queued_open(&e, kind, false);
            gives(5, mail_count(e.mq, "c", 1, 5));
            gives(drain ? 0 : 5, leat_subscription_close(e.s, drain ? 1000 : 0));
            cr_assert_str_eq(e.diary, drain ? "1 2 3 4 5 end " : "end ");
            mail_settle(e.mq, kind);
            cr_assert_str_eq(e.diary, drain ? "1 2 3 4 5 end " : "end ");
            ok(leat_close(e.mq, 0));
        }
}

struct queued_close {
    struct mail_ear *e;
    int64_t drain_ms;
    int rc;
    atomic_bool done;
};

static void *queued_close_it(void *ctx) {
    struct queued_close *c = ctx;
    c->rc = leat_subscription_close(c->e->s, c->drain_ms);
    atomic_store(&c->done, true);
    return NULL;
}

// Five wait, one is being handled. The drain ends when all are through, or with a shutdown.
Test(subscription_queued, a_drain_waits_for_the_thread_until_all_is_through_or_a_shutdown) {
    for (int in_time = 0; in_time < 2; in_time++)
        for (int64_t buffer = 100; buffer <= 1000; buffer += 900) {
            struct mail_ear e;
            mail_ear_init(&e, mail_store(MAIL_THREADED), true);
            mail_listen(&e, "c", mail_hear, (leat_subscription_options){ .buffer = buffer });
            gives(1, mail_say(e.mq, "c", "0"));
            mail_wait(&e.inside);
            gives(5, mail_count(e.mq, "c", 1, 5));
            struct queued_close close = { .e = &e, .drain_ms = in_time ? LEAT_FOREVER : 1000 };
            pthread_t t = mail_start(queued_close_it, &close);
            ok(leat_clock_wait_blocked(e.mq, 1, 10000));
            gives(0, mail_say(e.mq, "c", "late"));
            gives(0, leat_channel_count(e.mq, "c"));
            gives(LEAT_EBUSY, leat_close_all(e.mq, 0));
            if (in_time) {
                queued_let(&e, 6);
            } else {
                queued_let(&e, 1);
                mail_wait(&e.inside); // with 1
                leat_shutdown(e.mq);
                queued_let(&e, 6);
            }
            mail_join(t);
            cr_assert_eq(atomic_load(&e.ends), 1);
            cr_assert_eq(atomic_load(&e.running), 0);
            if (in_time) {
                cr_assert_eq(close.rc, 0);
                cr_assert_str_eq(e.diary, "0 1 2 3 4 5 end ");
            } else {
                cr_assert_eq(close.rc + atomic_load(&e.calls), 6, "each counted or delivered");
            }
            ok(leat_close(e.mq, 0));
        }
}

static void *queued_dispatch(void *ctx) {
    (void)leat_dispatch(ctx, 0);
    return NULL;
}

Test(subscription_queued, a_drain_takes_no_longer_than_told) {
    struct mail_ear e;
    queued_open(&e, MAIL_POLLED, true);
    gives(3, mail_count(e.mq, "c", 1, 3));
    pthread_t caller = mail_start(queued_dispatch, e.mq);
    mail_wait(&e.inside); // with 1
    struct queued_close close = { .e = &e, .drain_ms = 1000 };
    pthread_t t = mail_start(queued_close_it, &close);
    ok(leat_clock_wait_blocked(e.mq, 1, 10000));
    ok(leat_clock_advance(e.mq, 999));
    ok(leat_clock_wait_blocked(e.mq, 1, 10000));
    ok(leat_clock_advance(e.mq, 1));
    while (leat_clock_wait_blocked(e.mq, 1, 0) == 0)
        (void)sched_yield(); // the drain is over: now it waits for the call alone
    leat_subscription_stats st;
    do { // until what waits is thrown away
        st = mail_stats(&e);
        (void)sched_yield();
    } while (st.waiting > 0);
    queued_let(&e, 3);
    mail_join(caller);
    mail_join(t);
    cr_assert_eq(close.rc, 2);
    cr_assert_str_eq(e.diary, "1 end ");
    ok(leat_close(e.mq, 0));
}

Test(subscription_queued, a_close_waits_for_the_call_and_counts_the_rest) {
    for (int64_t buffer = 100; buffer <= 1000; buffer += 900) {
        struct mail_ear e;
        mail_ear_init(&e, mail_store(MAIL_THREADED), true);
        mail_listen(&e, "c", mail_hear, (leat_subscription_options){ .buffer = buffer });
        gives(1, mail_say(e.mq, "c", "0"));
        mail_wait(&e.inside);
        gives(5, mail_count(e.mq, "c", 1, 5));
        queued_let(&e, 1); // it goes on: one at a time, or with all five in its hand
        mail_wait(&e.inside);
        leat_subscription_stats st = mail_stats(&e);
        cr_assert(st.waiting == 4 && st.delivered == 2, "%d %d", (int)st.waiting,
                  (int)st.delivered);
        struct queued_close close = { .e = &e };
        pthread_t t = mail_start(queued_close_it, &close);
        while (leat_channel_count(e.mq, "c") != 0)
            (void)sched_yield();
        cr_assert(!atomic_load(&close.done) && atomic_load(&e.ends) == 0, "1 still runs");
        while (mail_say(e.mq, "c", "late") != 0)
            (void)sched_yield();
        e.gated = false;
        queued_let(&e, 1);
        mail_join(t);
        cr_assert_eq(close.rc + atomic_load(&e.calls), 6);
        cr_assert_eq(atomic_load(&e.ends), 1);
        ok(leat_close(e.mq, 0));
    }
}

struct queued_actor {
    struct mail_ear *victim;
    leat *mq;
    int at, calls, rc, ends;
};

static void queued_act(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)m;
    struct queued_actor *a = ctx;
    if (++a->calls == a->at)
        a->rc = leat_subscription_close(a->victim ? a->victim->s : s, LEAT_FOREVER);
}

static void queued_acted(void *ctx) {
    ((struct queued_actor *)ctx)->ends++;
}

Test(subscription_queued, closed_by_its_own_callback_it_ends_after_it) {
    for (enum mail_kind kind = MAIL_ALONE; kind < MAIL_KINDS; kind++)
        for (int64_t buffer = 100; buffer <= 1000; buffer += 900) {
            leat *mq = mail_store(kind);
            struct queued_actor a = { .mq = mq, .at = 2, .rc = -1 };
            struct mail_ear gate; // holds the thread until all are published
            mail_ear_init(&gate, mq, kind == MAIL_THREADED);
            mail_listen(&gate, "gate", mail_hear, queued_roomy);
            leat_subscription_options o = { .buffer = buffer, .on_end = queued_acted };
            leat_subscription *s;
            ok(leat_channel_subscribe(mq, "c", queued_act, &a, &o, &s));
            if (kind == MAIL_THREADED) {
                gives(1, mail_say(mq, "gate", ""));
                mail_wait(&gate.inside);
            }
            gives(5, mail_count(mq, "c", 1, 5));
            queued_let(&gate, 1);
            if (kind == MAIL_THREADED)
                mail_settle(mq, kind);
            else
                gives(2, leat_dispatch(mq, 0));
            cr_assert_eq(a.rc, 3, "what it did not get: %d", a.rc);
            cr_assert(a.calls == 2 && a.ends == 1);
            gives(0, mail_say(mq, "c", "6"));
            gives(0, leat_subscription_close(gate.s, 0));
            ok(leat_close(mq, 0));
        }
}

Test(subscription_queued, closed_by_a_callback_of_another_it_ends_at_once) {
    for (enum mail_kind kind = MAIL_ALONE; kind < MAIL_KINDS; kind++) {
        struct mail_ear e;
        queued_open(&e, kind, false);
        struct queued_actor a = { .victim = &e, .mq = e.mq, .at = 1, .rc = -1 };
        leat_subscription *s;
        ok(leat_channel_subscribe(e.mq, "now", queued_act, &a, NULL, &s));
        if (kind != MAIL_THREADED)
            gives(2, mail_count(e.mq, "c", 1, 2));
        gives(1, mail_say(e.mq, "now", ""));
        cr_assert_eq(a.rc, kind == MAIL_THREADED ? 0 : 2);
        cr_assert_eq(atomic_load(&e.ends), 1);
        mail_settle(e.mq, kind);
        cr_assert_str_eq(e.diary, "end ");
        gives(0, leat_subscription_close(s, 0));
        ok(leat_close(e.mq, 0));
    }
}

// Its own list goes on from where it stood: to one that was closed, or has come to its end, since.
static void queued_go_and_take_along(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)m;
    struct queued_actor *a = ctx;
    a->ends += leat_subscription_close(s, 0) == 0;
    if (a->at == 0)
        a->rc = leat_subscription_close(a->victim->s, 0);
    else
        a->rc = mail_say(a->mq, "c", "nested");
}

Test(subscription_queued, who_is_on_the_way_to_it_puts_nothing_in_after_its_end) {
    for (int at = 0; at < 2; at++) {
        struct mail_ear e;
        mail_ear_init(&e, mail_store(MAIL_ALONE), false);
        struct queued_actor a = { .victim = &e, .mq = e.mq, .at = at, .rc = -1 };
        leat_subscription *s;
        ok(leat_channel_subscribe(e.mq, "c", queued_go_and_take_along, &a, NULL, &s));
        mail_listen(&e, "c", mail_hear,
                    (leat_subscription_options){ .buffer = 9, .stop_after = 1 });
        gives(1, mail_say(e.mq, "c", "outer"));
        cr_assert(a.ends == 1 && a.rc == at);
        mail_settle(e.mq, MAIL_ALONE);
        cr_assert_str_eq(e.diary, at ? "nested end " : "end ");
        if (at)
            gives(0, leat_subscription_close(e.s, 0));
        ok(leat_close(e.mq, 0));
    }
}

// Closed on another thread, inside a callback, while its own runs: it does not wait.
Test(subscription_queued, closed_by_another_thread_in_a_callback_it_ends_after_its_call) {
    struct mail_ear e;
    queued_open(&e, MAIL_THREADED, true);
    struct queued_actor a = { .victim = &e, .mq = e.mq, .at = 1, .rc = -1 };
    leat_subscription *s;
    ok(leat_channel_subscribe(e.mq, "now", queued_act, &a, NULL, &s));
    gives(1, mail_say(e.mq, "c", "0"));
    mail_wait(&e.inside);
    gives(2, mail_count(e.mq, "c", 1, 2));
    gives(1, mail_say(e.mq, "now", ""));
    cr_assert_eq(a.rc, 2);
    cr_assert_eq(atomic_load(&e.ends), 0, "fn still runs");
    queued_let(&e, 1);
    mail_settle(e.mq, MAIL_THREADED);
    cr_assert_str_eq(e.diary, "0 end ");
    gives(0, leat_subscription_close(s, 0));
    ok(leat_close(e.mq, 0));
}

Test(subscription_queued, close_all_throws_away_and_ends_views) {
    for (enum mail_kind kind = MAIL_ALONE; kind < MAIL_THREADED; kind++) {
        struct mail_memory mem = { .blocks = 0 };
        struct mail_ear e;
        leat *mq = mail_store_of(kind, &mem);
        mail_ear_init(&e, mq, false);
        mail_listen(&e, "c", mail_hear, queued_roomy);
        struct queued_kept kept = { .mq = mq };
        leat_subscription *s;
        ok(leat_channel_subscribe(mq, "c*", queued_keep, &kept, &queued_roomy, &s));
        gives(2, mail_say(mq, "c", "1"));
        mail_settle(mq, kind);
        gives(2, mail_say(mq, "c", "2"));
        gives(LEAT_EBUSY, leat_close(mq, 0));
        gives(2, leat_close_all(mq, 0));
        cr_assert_str_eq(e.diary, "1 end ");
        cr_assert_eq(atomic_load(&mem.blocks), 0);
    }
}

Test(subscription_queued, after_shutdown_it_still_closes_and_drains_what_it_can) {
    struct mail_ear e;
    queued_open(&e, MAIL_POLLED, false);
    gives(2, mail_count(e.mq, "c", 1, 2));
    ok(leat_shutdown(e.mq));
    gives(0, leat_subscription_close(e.s, 1000));
    cr_assert_str_eq(e.diary, "1 2 end ");
    ok(leat_close(e.mq, 0));
}

// ---- callbacks that publish

struct queued_nest {
    leat *mq;
    int depth, deepest, rc;
    char said[128];
};

static void queued_again(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    struct queued_nest *n = ctx;
    n->depth++;
    n->deepest = n->depth > n->deepest ? n->depth : n->deepest;
    int rc = mail_say(n->mq, "deep", "");
    if (rc < 0 && n->rc == 0) {
        n->rc = rc;
        snprintf(n->said, sizeof n->said, "%s", leat_errmsg());
    }
    n->depth--;
}

Test(subscription_queued, publishes_nest_so_deep_and_no_deeper) {
    leat *mq = mail_store(MAIL_ALONE);
    struct queued_nest n = { .mq = mq };
    leat_subscription *s;
    ok(leat_channel_subscribe(mq, "deep", queued_again, &n, NULL, &s));
    for (int i = 0; i < 2; i++) {
        gives(1, mail_say(mq, "deep", ""));
        cr_assert_eq(n.rc, LEAT_EDEADLK);
        cr_assert_eq(n.deepest, 64);
        cr_assert_not_null(strstr(n.said, "deep"), "%s", n.said);
    }
    ok(leat_close_all(mq, 0));
}

static void queued_echo(leat_subscription *s, const leat_message *m, void *ctx) {
    struct mail_ear *e = ctx;
    mail_hear(s, m, ctx);
    if (atomic_load(&e->calls) < 1000)
        (void)mail_say(e->mq, "c", "x");
}

Test(subscription_queued, one_that_publishes_to_itself_gets_its_turn_again) {
    for (enum mail_kind kind = MAIL_ALONE; kind < MAIL_KINDS; kind++) {
        struct mail_ear e;
        mail_ear_init(&e, mail_store(kind), false);
        mail_listen(&e, "c", queued_echo, (leat_subscription_options){ .buffer = 1 });
        gives(1, mail_say(e.mq, "c", "x"));
        mail_settle(e.mq, kind);
        cr_assert_eq(atomic_load(&e.calls), 1000);
        cr_assert_eq(mail_stats(&e).dropped, 0);
        gives(0, leat_subscription_close(e.s, 0));
        ok(leat_close(e.mq, 0));
    }
}

// ---- several threads: each publish is delivered once, counted as dropped, or thrown away

enum { QUEUED_PUBLISHERS = 3, QUEUED_MESSAGES = 4000, QUEUED_EARS = 6 };

struct queued_storm {
    leat *mq;
    int who, heard, failures;
};

struct queued_count {
    int last[QUEUED_PUBLISHERS];
    uint64_t delivered, lost;
    int wrong, ends, late, self_close;
    int rc;
};

static void queued_tally(leat_subscription *s, const leat_message *m, void *ctx) {
    struct queued_count *c = ctx;
    int v[2];
    memcpy(v, m->value.data, sizeof v);
    c->wrong += v[1] <= c->last[v[0]];
    c->late += c->ends;
    c->last[v[0]] = v[1];
    c->delivered++;
    c->lost += m->dropped;
    if (c->self_close && c->delivered == (uint64_t)c->self_close)
        c->rc = leat_subscription_close(s, 0);
}

static void queued_tallied(void *ctx) {
    ((struct queued_count *)ctx)->ends++;
}

static void *queued_publish(void *ctx) {
    struct queued_storm *st = ctx;
    for (int i = 1; i <= QUEUED_MESSAGES; i++) {
        int v[2] = { st->who, i };
        int rc = leat_publish(st->mq, "c", v, sizeof v);
        st->heard += rc > 0 ? rc : 0;
        st->failures += rc < 0 && rc != LEAT_EFULL;
    }
    return NULL;
}

// Comes and goes, as long as the publishers publish.
static void *queued_visit(void *ctx) {
    struct queued_storm *st = ctx;
    for (int i = 0; i < 300; i++) {
        struct queued_count c = { .self_close = 0 };
        leat_subscription_options o = { .buffer = 1 + i % 700, .on_end = queued_tallied };
        leat_subscription *s;
        if (leat_channel_subscribe(st->mq, i % 2 ? "c" : "*", queued_tally, &c, &o, &s) != 0)
            st->failures++;
        for (int k = i % 3; k > 0; k--)
            (void)sched_yield();
        st->failures += leat_subscription_close(s, i % 5 == 0 ? LEAT_FOREVER : 0) < 0;
        st->failures += c.wrong + c.late + (c.ends != 1);
    }
    return NULL;
}

Test(subscription_queued, several_threads_lose_nothing_uncounted) {
    leat *mq;
    ok(leat_open_memory(NULL, &mq));
    static struct queued_count c[QUEUED_EARS];
    leat_subscription *s[QUEUED_EARS];
    static const leat_subscription_options options[QUEUED_EARS] = {
        { .buffer = 10 },
        { .buffer = 10, .when_full = LEAT_DROP_NEWEST },
        { .buffer = 1, .when_full = LEAT_BLOCK, .block_ms = LEAT_FOREVER },
        { .buffer = 1000, .when_full = LEAT_BLOCK, .block_ms = LEAT_FOREVER },
        { .buffer_bytes = 100, .when_full = LEAT_FAIL },
        { .buffer = 600, .when_full = LEAT_DROP_OLDEST },
    };
    memset(c, 0, sizeof c);
    for (int i = 0; i < QUEUED_EARS; i++) {
        leat_subscription_options o = options[i];
        o.on_end = queued_tallied;
        ok(leat_channel_subscribe(mq, i % 2 ? "c" : "?", queued_tally, &c[i], &o, &s[i]));
    }
    struct queued_count closing = { .self_close = 500, .rc = -1 };
    leat_subscription_options o = { .buffer = 800, .on_end = queued_tallied };
    leat_subscription *self;
    ok(leat_channel_subscribe(mq, "c", queued_tally, &closing, &o, &self));
    struct queued_storm storm[QUEUED_PUBLISHERS + 1];
    pthread_t t[QUEUED_PUBLISHERS + 1];
    for (int i = 0; i <= QUEUED_PUBLISHERS; i++) {
        storm[i] = (struct queued_storm){ .mq = mq, .who = i };
        t[i] = mail_start(i < QUEUED_PUBLISHERS ? queued_publish : queued_visit, &storm[i]);
    }
    for (int i = 0; i <= QUEUED_PUBLISHERS; i++) {
        mail_join(t[i]);
        cr_assert_eq(storm[i].failures, 0);
    }
    for (int i = 0; i < QUEUED_EARS; i++) {
        leat_subscription_stats st;
        uint64_t all = (uint64_t)QUEUED_PUBLISHERS * QUEUED_MESSAGES;
        ok(leat_subscription_get_stats(s[i], &st, sizeof st));
        cr_assert_eq(st.delivered + st.dropped + st.waiting, all, "ear %d", i);
        gives(0, leat_subscription_close(s[i], LEAT_FOREVER));
        cr_assert(c[i].wrong == 0 && c[i].ends == 1 && c[i].late == 0, "ear %d", i);
        cr_assert_eq(c[i].delivered + st.dropped, all, "ear %d", i);
        cr_assert_leq(c[i].lost, st.dropped);
        cr_assert(options[i].when_full != LEAT_BLOCK || st.dropped == 0);
        cr_assert_leq(st.waiting_max, options[i].buffer ? (uint64_t)options[i].buffer : 100);
    }
    cr_assert(closing.delivered == 500 && closing.ends == 1 && closing.rc >= 0);
    ok(leat_close(mq, 0));
}

// ---- held while all is closed

struct queued_late {
    leat *mq;
    sem_t gate;
    leat_message kept;
    int rc;
};

static void queued_hold_late(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct queued_late *late = ctx;
    (void)sem_wait(&late->gate);
    late->rc = leat_message_hold(late->mq, m, &late->kept);
}

static void *queued_open_gate(void *arg) {
    struct queued_late *late = arg;
    while (leat_channel_count(late->mq, "c") == 1) // until the close has taken it out
        (void)sched_yield();
    (void)sem_post(&late->gate);
    return NULL;
}

Test(subscription_queued, close_all_ends_what_a_callback_holds_meanwhile) {
    struct queued_late late = { .mq = mail_store(MAIL_THREADED), .rc = -1 };
    leat_subscription *s;
    pthread_t opener;
    cr_assert_eq(sem_init(&late.gate, 0, 0), 0);
    ok(leat_channel_subscribe(late.mq, "c", queued_hold_late, &late, &queued_roomy, &s));
    gives(1, mail_say(late.mq, "c", "1"));
    leat_subscription_stats st = { .waiting = 1 };
    while (st.waiting > 0) { // until it stands at the gate
        ok(leat_subscription_get_stats(s, &st, sizeof st));
        (void)sched_yield();
    }
    cr_assert_eq(pthread_create(&opener, NULL, queued_open_gate, &late), 0);
    ok(leat_close_all(late.mq, 0));
    cr_assert_eq(pthread_join(opener, NULL), 0);
    cr_assert_eq(late.rc, 0, "it was held after the views had been ended");
    (void)sem_destroy(&late.gate);
}

// ---- a fork while messages wait

Test(subscription_queued, a_forked_child_hears_nothing_and_frees_all) {
    for (enum mail_kind kind = MAIL_POLLED; kind < MAIL_KINDS; kind++) {
        struct mail_memory mem = { .blocks = 0 };
        struct mail_ear e;
        mail_ear_init(&e, mail_store_of(kind, &mem), false);
        mail_listen(&e, "c", mail_hear, queued_roomy);
        if (kind == MAIL_POLLED)
            gives(3, mail_count(e.mq, "c", 1, 3));
        pid_t pid = fork();
        cr_assert_geq(pid, 0);
        if (pid == 0) {
            bool good = mail_say(e.mq, "c", "4") == LEAT_EFORK &&
                        leat_subscription_close(e.s, LEAT_FOREVER) == LEAT_EFORK &&
                        leat_close_all(e.mq, 0) == 0 && e.diary[0] == '\0';
            _exit(good && atomic_load(&mem.blocks) == 0 ? 0 : 1);
        }
        int status;
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
        gives(0, leat_subscription_close(e.s, LEAT_FOREVER));
        cr_assert_str_eq(e.diary, kind == MAIL_POLLED ? "1 2 3 end " : "end ");
        ok(leat_close(e.mq, 0));
        cr_assert_eq(atomic_load(&mem.blocks), 0);
    }
}
