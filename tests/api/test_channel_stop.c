/* SPDX-License-Identifier: MIT */
// .stop_after where calls nest, or close: on_end comes once, after the last call has returned, and
// what is closed in it, or in the last call, is ended there and then.
#include <leat.h>
#include <leat_test.h>

#include "lib/mail.h"

#include <criterion/criterion.h>

static const leat_subscription_options three = { .stop_after = 3 };

// Publishes the next number to its own channel, and says when it returns.
static void stop_nest(leat_subscription *s, const leat_message *m, void *ctx) {
    struct mail_ear *e = ctx;
    char next[2] = { (char)(((const char *)m->value.data)[0] + 1), 0 };
    (void)s;
    mail_write(e, m);
    if (mail_say(e->mq, "c", next) < 0)
        strcat(e->diary, "failed ");
    strcat(e->diary, ") ");
}

Test(channel_stop, inline_calls_that_nest_end_with_the_outermost) {
    struct mail_ear e;
    mail_ear_init(&e, mail_store(MAIL_ALONE), false);
    mail_listen(&e, "c*", stop_nest, three);
    gives(1, mail_say(e.mq, "c", "1"));
    cr_assert_str_eq(e.diary, "1 2 3 ) ) ) end ");
    gives(0, mail_say(e.mq, "c", "1"));
    gives(0, leat_channel_count(e.mq, "c"));
    gives(0, leat_subscription_close(e.s, 0));
    cr_assert_eq(atomic_load(&e.ends), 1);
    ok(leat_close(e.mq, 0));
}

// Closes itself, then publishes as many as there may be.
static void stop_use_up(leat_subscription *s, const leat_message *m, void *ctx) {
    struct mail_ear *e = ctx;
    (void)m;
    if (leat_subscription_close(s, 0) != 0 || mail_count(e->mq, "c", 1, 3) != 3)
        strcat(e->diary, "failed ");
}

// The publish goes on from one that was taken out first, hence to one that was taken out since.
Test(channel_stop, who_still_finds_it_does_not_call_once_more) {
    struct mail_ear e;
    leat_subscription *first;
    mail_ear_init(&e, mail_store(MAIL_ALONE), false);
    ok(leat_channel_subscribe(e.mq, "c", stop_use_up, &e, NULL, &first));
    mail_listen(&e, "c", mail_hear, three);
    gives(1, mail_say(e.mq, "c", "0"));
    cr_assert_str_eq(e.diary, "1 2 3 end ");
    gives(0, leat_subscription_close(e.s, 0));
    ok(leat_close(e.mq, 0));
}

static void stop_close_at_end(void *ctx) {
    struct mail_ear *e = ctx;
    mail_ended(e);
    if (leat_subscription_close(e->s, 0) != 0)
        strcat(e->diary, "failed ");
}

Test(channel_stop, on_end_may_close_it) {
    for (enum mail_kind kind = MAIL_ALONE; kind < MAIL_KINDS; kind++)
        for (int buffer = 0; buffer <= 100; buffer += 100) {
            struct mail_ear e;
            leat_subscription_options o = { .buffer = buffer,
                                            .stop_after = 2,
                                            .on_end = stop_close_at_end };
            mail_ear_init(&e, mail_store(kind), false);
            ok(leat_channel_subscribe(e.mq, "c", mail_hear, &e, &o, &e.s));
            gives(2, mail_count(e.mq, "c", 1, 5));
            mail_settle(e.mq, kind);
            cr_assert_str_eq(e.diary, "1 2 end ");
            ok(leat_close(e.mq, 0)); // nothing is left to be closed
        }
}

static void stop_close_in_last(leat_subscription *s, const leat_message *m, void *ctx) {
    struct mail_ear *e = ctx;
    mail_write(e, m);
    if (((const char *)m->value.data)[0] == '3' && leat_subscription_close(s, LEAT_FOREVER) != 0)
        strcat(e->diary, "failed ");
    strcat(e->diary, ") ");
}

Test(channel_stop, the_last_call_may_close_it) {
    for (enum mail_kind kind = MAIL_ALONE; kind < MAIL_KINDS; kind++)
        for (int buffer = 0; buffer <= 100; buffer += 100) {
            struct mail_ear e;
            leat_subscription_options o = three;
            o.buffer = buffer;
            mail_ear_init(&e, mail_store(kind), false);
            mail_listen(&e, "c", stop_close_in_last, o);
            gives(3, mail_count(e.mq, "c", 1, 5));
            mail_settle(e.mq, kind);
            cr_assert_str_eq(e.diary, "1 ) 2 ) 3 ) end ");
            cr_assert_eq(atomic_load(&e.ends), 1);
            ok(leat_close(e.mq, 0));
        }
}

Test(channel_stop, closed_before_it_has_heard_all_it_ends_once) {
    for (enum mail_kind kind = MAIL_ALONE; kind < MAIL_KINDS; kind++)
        for (int buffer = 0; buffer <= 100; buffer += 100) {
            struct mail_ear e;
            leat_subscription_options o = three;
            o.buffer = buffer;
            mail_ear_init(&e, mail_store(kind), false);
            mail_listen(&e, "c", mail_hear, o);
            gives(2, mail_count(e.mq, "c", 1, 2));
            mail_settle(e.mq, kind);
            gives(0, leat_subscription_close(e.s, 0));
            cr_assert_str_eq(e.diary, "1 2 end ");
            gives(0, mail_say(e.mq, "c", "3"));
            ok(leat_close(e.mq, 0));
        }
}
