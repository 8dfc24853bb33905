/* SPDX-License-Identifier: MIT */
// A subscription's buffer when it is full: the five choices, for callbacks and for those who pull,
// with threads and without; who waits for room, in which order, and what ends the wait.
#include "lib/mail.h"

// ---- the table

struct full_case {
    int64_t buffer, bytes;
    int32_t when_full;
    int published, heard; // 1 to `published`; what the publishes gave; refused: not counted in
    int refused;          // publishes that were LEAT_EFULL
    const char *diary;
    uint64_t dropped, max;
};

static const struct full_case full_cases[] = {
    { 3, 0, 0, 5, 5, 0, "+2:3 4 5 ", 2, 3 },
    { 3, 0, LEAT_DROP_OLDEST, 5, 5, 0, "+2:3 4 5 ", 2, 3 },
    { 3, 0, LEAT_DROP_NEWEST, 5, 3, 0, "1 2 3 ", 2, 3 },
    { 3, 0, LEAT_KEEP_LATEST, 5, 5, 0, "5 ", 0, 1 },
    { 3, 0, LEAT_BLOCK, 5, 3, 0, "1 2 3 ", 2, 3 }, // block_ms passes on the jumping clock
    { 3, 0, LEAT_FAIL, 5, 3, 2, "1 2 3 ", 2, 3 },
    { 0, 2, LEAT_DROP_OLDEST, 5, 5, 0, "+3:4 5 ", 3, 2 },
    { 0, 2, LEAT_DROP_NEWEST, 5, 2, 0, "1 2 ", 3, 2 },
    { 0, 2, LEAT_FAIL, 5, 2, 3, "1 2 ", 3, 2 },
    { LEAT_UNLIMITED, 0, LEAT_FAIL, 5, 5, 0, "1 2 3 4 5 ", 0, 5 },
    { 600, 0, LEAT_FAIL, 5, 5, 0, "1 2 3 4 5 ", 0, 5 },
};

static void full_publish(leat *mq, const struct full_case *c) {
    int heard = 0, refused = 0;
    for (int i = 1; i <= c->published; i++) {
        int rc = mail_count(mq, "c", i, i);
        cr_assert(rc >= 0 || rc == LEAT_EFULL, "%s", leat_errmsg());
        heard += rc > 0 ? rc : 0;
        refused += rc < 0;
    }
    cr_assert_eq(heard, c->heard);
    cr_assert_eq(refused, c->refused);
}

Test(subscription_full, each_choice_pulled) {
    for (size_t i = 0; i < sizeof full_cases / sizeof *full_cases; i++) {
        const struct full_case *c = &full_cases[i];
        struct mail_ear e;
        mail_ear_init(&e, mail_store(MAIL_ALONE), false);
        mail_listen(&e, "c", NULL,
                    (leat_subscription_options){
                        .buffer = c->buffer, .buffer_bytes = c->bytes, .when_full = c->when_full });
        full_publish(e.mq, c);
        leat_subscription_stats st = mail_stats(&e);
        cr_assert_eq(st.dropped, c->dropped, "case %zu", i);
        cr_assert_eq(st.waiting_max, c->max, "case %zu", i);
        mail_pull(&e);
        cr_assert_str_eq(e.diary, c->diary, "case %zu", i);
        gives(0, leat_subscription_close(e.s, 0));
        ok(leat_close(e.mq, 0));
    }
}

Test(subscription_full, each_choice_polled) {
    for (size_t i = 0; i < sizeof full_cases / sizeof *full_cases; i++) {
        const struct full_case *c = &full_cases[i];
        struct mail_ear e;
        mail_ear_init(&e, mail_store(MAIL_ALONE), false);
        mail_listen(&e, "c", mail_hear,
                    (leat_subscription_options){
                        .buffer = c->buffer, .buffer_bytes = c->bytes, .when_full = c->when_full });
        full_publish(e.mq, c);
        cr_assert_str_eq(e.diary, "", "nothing is called before a dispatch");
        mail_settle(e.mq, MAIL_ALONE);
        cr_assert_str_eq(e.diary, c->diary, "case %zu", i);
        leat_subscription_stats st = mail_stats(&e);
        cr_assert(st.dropped == c->dropped && st.waiting_max == c->max && st.waiting == 0);
        cr_assert_eq(st.delivered, (uint64_t)atomic_load(&e.calls));
        gives(0, leat_subscription_close(e.s, 0));
        ok(leat_close(e.mq, 0));
    }
}

// Message 0 is being handled: it takes no room. On the manual clock a block_ms of zero has passed.
Test(subscription_full, each_choice_on_the_callback_thread) {
    for (size_t i = 0; i < sizeof full_cases / sizeof *full_cases; i++) {
        const struct full_case *c = &full_cases[i];
        struct mail_ear e;
        mail_ear_init(&e, mail_store(MAIL_THREADED), true);
        mail_listen(
            &e, "c", mail_hear,
            (leat_subscription_options){ .buffer = c->buffer,
                                         .buffer_bytes = c->bytes,
                                         .when_full = c->when_full,
                                         .block_ms = c->when_full == LEAT_BLOCK ? LEAT_ZERO : 0 });
        gives(1, mail_say(e.mq, "c", "0"));
        mail_wait(&e.inside);
        full_publish(e.mq, c);
        e.gated = false; // the thread is at the gate
        (void)sem_post(&e.open);
        mail_settle(e.mq, MAIL_THREADED);
        char diary[64];
        snprintf(diary, sizeof diary, "0 %s", c->diary);
        cr_assert_str_eq(e.diary, diary, "case %zu", i);
        leat_subscription_stats st = mail_stats(&e);
        cr_assert(st.dropped == c->dropped && st.waiting == 0, "case %zu", i);
        gives(0, leat_subscription_close(e.s, 0));
        ok(leat_close(e.mq, 0));
    }
}

Test(subscription_full, the_latest_of_each_key_is_kept_in_place) {
    struct mail_ear e;
    mail_ear_init(&e, mail_store(MAIL_ALONE), false);
    mail_listen(&e, "c*", NULL,
                (leat_subscription_options){ .buffer = 3, .when_full = LEAT_KEEP_LATEST });
    static const char *const sent[][3] = {
        { "c", "x", "1" },  { "c", "y", "2" }, { "c", "x", "3" },
        { "c1", "x", "4" }, { "c", "y", "5" }, { "c", "z", "6" }
    };
    for (size_t i = 0; i < sizeof sent / sizeof *sent; i++)
        gives(1, leat_publish_record(
                     e.mq, sent[i][0],
                     &(leat_record){ .key = leat_str(sent[i][1]), .value = leat_str(sent[i][2]) }));
    mail_pull(&e); // x of c1 is another one; 3 had to go
    cr_assert_str_eq(e.diary, "+1:5 4 6 ");
    gives(0, leat_subscription_close(e.s, 0));
    ok(leat_close(e.mq, 0));
}

Test(subscription_full, who_has_no_room_keeps_nothing_from_the_others) {
    leat *mq = mail_store(MAIL_ALONE);
    struct mail_ear full, before, behind;
    mail_ear_init(&before, mq, false);
    mail_ear_init(&full, mq, false);
    mail_ear_init(&behind, mq, false);
    leat_subscription_options roomy = { .buffer = 100 };
    mail_listen(&before, "c", NULL, roomy);
    mail_listen(
        &full, "c", NULL,
        (leat_subscription_options){ .buffer = 1, .when_full = LEAT_FAIL, .name = "tight" });
    mail_listen(&behind, "*", NULL, roomy);
    gives(3, mail_say(mq, "c", "1"));
    gives(LEAT_EFULL, mail_say(mq, "c", "2"));
    cr_assert_not_null(strstr(leat_errmsg(), "tight"), "%s", leat_errmsg());
    mail_pull(&full);
    gives(3, mail_say(mq, "c", "3"));
    mail_pull(&full);
    mail_pull(&before);
    mail_pull(&behind);
    cr_assert_str_eq(full.diary, "1 +1:3 ");
    cr_assert_str_eq(before.diary, "1 2 3 ");
    cr_assert_str_eq(behind.diary, "1 2 3 ");
    ok(leat_close_all(mq, 0));
}

// ---- waiting for room

struct full_call {
    leat *mq;
    const char *text;
    int rc;
    atomic_bool done;
};

static void *full_publish_one(void *ctx) {
    struct full_call *call = ctx;
    call->rc = mail_say(call->mq, "c", call->text);
    atomic_store(&call->done, true);
    return NULL;
}

Test(subscription_full, publishers_that_wait_come_in_their_order) {
    for (int64_t bytes = 0; bytes <= 1; bytes++) {
        struct mail_ear e;
        mail_ear_init(&e, mail_store(MAIL_POLLED), false);
        mail_listen(&e, "c", NULL,
                    (leat_subscription_options){ .buffer = !bytes,
                                                 .buffer_bytes = bytes,
                                                 .when_full = LEAT_BLOCK,
                                                 .block_ms = LEAT_FOREVER });
        gives(1, mail_say(e.mq, "c", "0"));
        struct full_call call[3] = { { .text = "1" }, { .text = "2" }, { .text = "3" } };
        pthread_t t[3];
        for (int i = 0; i < 3; i++) {
            call[i].mq = e.mq;
            t[i] = mail_start(full_publish_one, &call[i]);
            ok(leat_clock_wait_blocked(e.mq, i + 1, 10000));
        }
        leat_message m;
        for (int i = 0; i < 4; i++) {
            gives(1, leat_subscription_next(e.s, LEAT_FOREVER, &m));
            mail_write(&e, &m);
            ok(leat_message_release(e.mq, &m));
            if (i < 3)
                mail_join(t[i]); // room for exactly one
            for (int k = 0; k < 3; k++)
                cr_assert_eq(atomic_load(&call[k].done), k <= i);
        }
        cr_assert_str_eq(e.diary, "0 1 2 3 ");
        cr_assert(call[0].rc == 1 && call[1].rc == 1 && call[2].rc == 1);
        cr_assert_eq(mail_stats(&e).dropped, 0);
        gives(0, leat_subscription_close(e.s, 0));
        ok(leat_close(e.mq, 0));
    }
}

// A small one that would fit does not overtake a large one that waits.
Test(subscription_full, nobody_goes_past_who_waits) {
    struct mail_ear e;
    mail_ear_init(&e, mail_store(MAIL_POLLED), false);
    mail_listen(&e, "c", NULL,
                (leat_subscription_options){
                    .buffer_bytes = 10, .when_full = LEAT_BLOCK, .block_ms = LEAT_FOREVER });
    gives(1, mail_say(e.mq, "c", "123456789"));
    struct full_call call[2] = { { .mq = e.mq, .text = "large" }, { .mq = e.mq, .text = "s" } };
    pthread_t t[2];
    for (int i = 0; i < 2; i++) {
        t[i] = mail_start(full_publish_one, &call[i]);
        ok(leat_clock_wait_blocked(e.mq, i + 1, 10000));
    }
    leat_message m;
    gives(1, leat_subscription_next(e.s, 0, &m));
    ok(leat_message_release(e.mq, &m));
    for (int i = 0; i < 2; i++)
        mail_join(t[i]);
    mail_pull(&e);
    cr_assert_str_eq(e.diary, "large s ");
    gives(0, leat_subscription_close(e.s, 0));
    ok(leat_close(e.mq, 0));
}

// Where the callback thread takes out many at once, each that begins makes room for one.
Test(subscription_full, each_call_makes_room_for_one_who_waits) {
    struct mail_ear e;
    mail_ear_init(&e, mail_store(MAIL_THREADED), true);
    mail_listen(&e, "c", mail_hear,
                (leat_subscription_options){
                    .buffer = 512, .when_full = LEAT_BLOCK, .block_ms = LEAT_FOREVER });
    gives(1, mail_say(e.mq, "c", "0"));
    mail_wait(&e.inside);
    gives(512, mail_count(e.mq, "c", 1, 512));
    struct full_call call[2] = { { .mq = e.mq, .text = "a" }, { .mq = e.mq, .text = "b" } };
    pthread_t t[2];
    for (int i = 0; i < 2; i++) {
        t[i] = mail_start(full_publish_one, &call[i]);
        ok(leat_clock_wait_blocked(e.mq, i + 1, 10000));
    }
    for (int i = 0; i < 2; i++) {
        (void)sem_post(&e.open);
        mail_wait(&e.inside);
        mail_join(t[i]);
        cr_assert_eq(call[i].rc, 1);
        cr_assert_eq(atomic_load(&call[1].done), i == 1);
    }
    e.gated = false;
    (void)sem_post(&e.open);
    mail_settle(e.mq, MAIL_THREADED);
    cr_assert_eq(atomic_load(&e.calls), 515);
    gives(0, leat_subscription_close(e.s, 0));
    ok(leat_close(e.mq, 0));
}

Test(subscription_full, a_publisher_waits_its_time_and_drops_for_this_one_alone) {
    leat *mq = mail_store(MAIL_POLLED);
    struct mail_ear e, other;
    mail_ear_init(&e, mq, false);
    mail_ear_init(&other, mq, false);
    mail_listen(&e, "c", NULL, (leat_subscription_options){ .buffer = 1, .when_full = LEAT_BLOCK });
    mail_listen(&other, "c", NULL, (leat_subscription_options){ .buffer = 10 });
    gives(2, mail_say(mq, "c", "0"));
    struct full_call call = { .mq = mq, .text = "1" };
    pthread_t t = mail_start(full_publish_one, &call);
    ok(leat_clock_wait_blocked(mq, 1, 10000));
    ok(leat_clock_advance(mq, 999));
    cr_assert(!atomic_load(&call.done));
    ok(leat_clock_advance(mq, 1));
    mail_join(t);
    cr_assert_eq(call.rc, 1, "the other one has it");
    mail_pull(&e);
    mail_pull(&other);
    cr_assert_str_eq(e.diary, "0 ");
    cr_assert_str_eq(other.diary, "0 1 ");
    cr_assert_eq(mail_stats(&e).dropped, 1);
    gives(2, mail_say(mq, "c", "2"));
    mail_pull(&e);
    cr_assert_str_eq(e.diary, "0 +1:2 ");
    gives(1, leat_close_all(mq, 0)); // what the other one has not got
}

Test(subscription_full, shutdown_and_both_closes_end_the_wait) {
    for (int how = 0; how < 4; how++) {
        struct mail_ear e;
        mail_ear_init(&e, mail_store(MAIL_POLLED), false);
        mail_listen(&e, "c", how == 3 ? mail_hear : NULL,
                    (leat_subscription_options){
                        .buffer = 1, .when_full = LEAT_BLOCK, .block_ms = LEAT_FOREVER });
        gives(1, mail_say(e.mq, "c", "0"));
        struct full_call call[2] = { { .mq = e.mq, .text = "1" }, { .mq = e.mq, .text = "2" } };
        pthread_t t[2];
        for (int i = 0; i < 2; i++)
            t[i] = mail_start(full_publish_one, &call[i]);
        ok(leat_clock_wait_blocked(e.mq, 2, 10000));
        if (how == 0)
            ok(leat_shutdown(e.mq));
        else if (how == 1)
            gives(1, leat_subscription_close(e.s, 0));
        else if (how == 2)
            gives(1, leat_close_all(e.mq, 0)); // what waited
        else
            gives(0, leat_subscription_close(e.s, LEAT_FOREVER)); // "0" is delivered
        for (int i = 0; i < 2; i++) {
            mail_join(t[i]);
            cr_assert_eq(call[i].rc, how == 0 ? LEAT_ECLOSED : 0);
        }
        if (how == 0)
            gives(1, leat_close_all(e.mq, 0));
        else if (how != 2)
            ok(leat_close(e.mq, 0));
        cr_assert_str_eq(e.diary, how == 3 ? "0 end " : "end ");
    }
}

Test(subscription_full, on_a_jumping_clock_it_is_said_that_room_can_never_come) {
    leat *mq = mail_store(MAIL_ALONE);
    struct mail_ear e, other;
    mail_ear_init(&e, mq, false);
    mail_ear_init(&other, mq, false);
    mail_listen(&e, "c", NULL,
                (leat_subscription_options){
                    .buffer = 1, .when_full = LEAT_BLOCK, .block_ms = LEAT_FOREVER });
    mail_listen(&other, "c", NULL, (leat_subscription_options){ .buffer = 10 });
    gives(2, mail_say(mq, "c", "0"));
    gives(LEAT_EDEADLK, mail_say(mq, "c", "1"));
    mail_pull(&other);
    cr_assert_str_eq(other.diary, "0 1 ");
    cr_assert_eq(mail_stats(&e).dropped, 1);
    gives(1, leat_close_all(mq, 0));
}

static void full_publish_inside(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    struct full_call *call = ctx;
    call->rc = mail_say(call->mq, "c", call->text);
}

Test(subscription_full, in_a_callback_nothing_waits) {
    leat *mq = mail_store(MAIL_ALONE);
    struct mail_ear e, other;
    mail_ear_init(&e, mq, false);
    mail_ear_init(&other, mq, false);
    mail_listen(&e, "c", NULL,
                (leat_subscription_options){
                    .buffer = 1, .when_full = LEAT_BLOCK, .block_ms = LEAT_FOREVER });
    mail_listen(&other, "c", NULL, (leat_subscription_options){ .buffer = 10 });
    struct full_call call = { .mq = mq, .text = "1" };
    leat_subscription *s;
    ok(leat_channel_subscribe(mq, "go", full_publish_inside, &call, NULL, &s));
    gives(1, mail_say(mq, "go", ""));
    cr_assert_eq(call.rc, 2);
    gives(1, mail_say(mq, "go", ""));
    cr_assert_eq(call.rc, LEAT_EFULL);
    mail_pull(&other);
    cr_assert_str_eq(other.diary, "1 1 ", "all others have heard it");
    cr_assert_eq(mail_stats(&e).dropped, 1);
    gives(1, leat_close_all(mq, 0));
}

static void full_err(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    cr_assert_eq(leat_publish(ctx, "no name", "", 0), LEAT_EINVAL);
}

Test(subscription_full, a_publish_that_finds_no_room_says_where_whoever_is_called_after) {
    leat *mq = mail_store(MAIL_ALONE);
    struct mail_ear e;
    leat_subscription *s;
    mail_ear_init(&e, mq, false);
    mail_listen(
        &e, "c", NULL,
        (leat_subscription_options){ .buffer = 1, .when_full = LEAT_FAIL, .name = "narrow" });
    ok(leat_channel_subscribe(mq, "c", full_err, mq, NULL, &s));
    gives(2, mail_say(mq, "c", "1"));
    gives(LEAT_EFULL, mail_say(mq, "c", "2"));
    cr_assert_not_null(strstr(leat_errmsg(), "narrow"), "%s", leat_errmsg());
    gives(1, leat_close_all(mq, 0));
}

// ---- memory, traces

Test(subscription_full, without_memory_a_message_is_dropped_and_counted) {
    struct mail_memory mem = { .blocks = 0 };
    leat *mq = mail_store_of(MAIL_ALONE, &mem);
    struct mail_ear e, in;
    mail_ear_init(&e, mq, false);
    mail_ear_init(&in, mq, false);
    mail_listen(&e, "c", NULL,
                (leat_subscription_options){ .buffer = 100, .when_full = LEAT_BLOCK });
    mail_listen(&in, "c", mail_hear, (leat_subscription_options){ .buffer = 0 });
    gives(2, mail_say(mq, "c", "1"));
    for (int k = 1; k <= 2; k++) {
        atomic_store(&mem.fail_from, 1);
        gives(1, mail_say(mq, "c", "x")); // the inline one needs none
        atomic_store(&mem.fail_from, 0);
        cr_assert_eq(mail_stats(&e).dropped, (uint64_t)k);
    }
    gives(2, mail_say(mq, "c", "2"));
    leat_message m;
    atomic_store(&mem.fail_from, 1);
    int rc = leat_subscription_next(e.s, 0, &m);
    atomic_store(&mem.fail_from, 0);
    cr_assert(rc == LEAT_ENOMEM || rc == 1, "%d", rc);
    if (rc == 1) {
        mail_write(&e, &m);
        ok(leat_message_release(mq, &m));
    }
    mail_pull(&e);
    cr_assert_str_eq(e.diary, "1 +2:2 ");
    ok(leat_close_all(mq, 0));
    cr_assert_eq(atomic_load(&mem.blocks), 0);
}

Test(subscription_full, without_memory_nobody_subscribes) {
    struct mail_memory mem = { .blocks = 0 };
    leat *mq = mail_store_of(MAIL_POLLED, &mem);
    leat_subscription_options o = { .buffer = 4 };
    leat_subscription *s;
    ok(leat_channel_subscribe(mq, "c", NULL, NULL, &o, &s)); // tables are there from now on
    gives(0, leat_subscription_close(s, 0));
    int failures = 0;
    for (int k = 1;; k++) {
        long before = atomic_load(&mem.blocks);
        atomic_store(&mem.fail_from, k);
        int rc = leat_channel_subscribe(mq, "d", k % 2 ? mail_hear : NULL, NULL, &o, &s);
        atomic_store(&mem.fail_from, 0);
        if (rc == 0)
            break;
        cr_assert_eq(rc, LEAT_ENOMEM);
        cr_assert_null(s);
        cr_assert_eq(atomic_load(&mem.blocks), before, "allocation %d", k);
        failures++;
    }
    cr_assert_geq(failures, 3);
    gives(0, leat_subscription_close(s, 0));
    ok(leat_close(mq, 0));
    cr_assert_eq(atomic_load(&mem.blocks), 0);
}

static void full_trace(const leat_trace_event *e, void *ctx) {
    if (strcmp(e->event, "drop") == 0)
        strncat(ctx, e->who, 40);
}

Test(subscription_full, one_trace_tells_of_an_episode) {
    char told[128] = "";
    leat *mq;
    leat_options o = {
        .clock = LEAT_CLOCK_JUMP, .threads = LEAT_NO_THREADS, .trace = full_trace, .trace_ctx = told
    };
    ok(leat_open_memory(&o, &mq));
    struct mail_ear e;
    mail_ear_init(&e, mq, false);
    mail_listen(&e, "c", NULL, (leat_subscription_options){ .buffer = 2, .name = "slow;" });
    (void)mail_count(mq, "c", 1, 10);
    cr_assert_str_eq(told, "slow;");
    mail_pull(&e);
    (void)mail_count(mq, "c", 1, 2);
    cr_assert_str_eq(told, "slow;");
    (void)mail_count(mq, "c", 3, 9);
    cr_assert_str_eq(told, "slow;slow;");
    (void)leat_close_all(mq, 0);
}
