/* SPDX-License-Identifier: MIT */
// Who listens to what, as leat_channel_count and leat_channel_list tell it.
#include <leat.h>
#include <leat_test.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static int list_heard;

static void list_hear(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    (void)ctx;
    list_heard++;
}

static leat_subscription *list_join(leat *mq, const char *pattern) {
    leat_subscription *s;
    cr_assert_eq(leat_channel_subscribe(mq, pattern, list_hear, NULL, NULL, &s), 0, "%s",
                 leat_errmsg());
    return s;
}

static leat *list_store(void) {
    leat *mq;
    cr_assert_eq(leat_test_open(&mq), 0);
    return mq;
}

// The line of that name; its subscribers, or -1.
static int list_of(leat *mq, const char *name, int32_t pattern) {
    leat_channel_info info[16];
    int n = leat_channel_list(mq, info, 16, sizeof info[0]), found = -1;
    for (int i = 0; i < n; i++)
        if (strcmp(info[i].name, name) == 0) {
            cr_assert_eq(found, -1, "%s is told twice", name);
            cr_assert_eq(info[i].pattern, pattern, "%s", name);
            found = info[i].subscribers;
        }
    return found;
}

Test(channel_list, counts_who_would_hear_a_publish) {
    leat *mq = list_store();
    static const char *const names[] = { "a.b", "a.b", "a.*", "*", "?.b", "a.c", "a.b*" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)list_join(mq, names[i]);
    static const char *const channels[] = { "a.b", "a.c", "b", "a.bb", "a" };
    for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++) {
        list_heard = 0;
        int n = leat_channel_count(mq, channels[i]);
        cr_assert_eq(list_heard, 0, "counting is no publish");
        cr_assert_eq(leat_publish(mq, channels[i], "x", 1), n, "%s", channels[i]);
        cr_assert_eq(list_heard, n, "%s", channels[i]);
    }
    cr_assert_eq(leat_channel_count(mq, "a.b"), 6);
    leat_stats st;
    cr_assert_eq(leat_get_stats(mq, &st, sizeof st), 0);
    cr_assert_eq(st.published, sizeof channels / sizeof channels[0]);
    leat_close_all(mq, 0);
}

Test(channel_list, tells_channels_and_patterns_with_their_subscribers) {
    leat *mq = list_store();
    cr_assert_eq(leat_channel_list(mq, NULL, 0, sizeof(leat_channel_info)), 0);
    leat_subscription *s[6];
    static const char *const names[] = { "news", "news", "n.*", "n.*", "n.?", "jobs" };
    for (int i = 0; i < 6; i++)
        s[i] = list_join(mq, names[i]);
    cr_assert_eq(leat_channel_list(mq, NULL, 0, sizeof(leat_channel_info)), 4);
    cr_assert_eq(list_of(mq, "news", 0), 2);
    cr_assert_eq(list_of(mq, "jobs", 0), 1);
    cr_assert_eq(list_of(mq, "n.*", 1), 2);
    cr_assert_eq(list_of(mq, "n.?", 1), 1);
    leat_channel_info info[3] = { [2] = { .subscribers = -7 } };
    cr_assert_eq(leat_channel_list(mq, info, 2, sizeof info[0]), 4);
    cr_assert(info[0].subscribers > 0 && info[1].subscribers > 0);
    cr_assert_eq(info[2].subscribers, -7, "behind max nothing is written");
    leat_subscription_close(s[0], 0);
    leat_subscription_close(s[2], 0);
    leat_subscription_close(s[5], 0);
    cr_assert_eq(list_of(mq, "news", 0), 1);
    cr_assert_eq(list_of(mq, "jobs", 0), -1);
    cr_assert_eq(list_of(mq, "n.*", 1), 1);
    for (int i = 1; i < 5; i += i == 1 ? 2 : 1)
        leat_subscription_close(s[i], 0);
    cr_assert_eq(leat_channel_list(mq, NULL, 0, sizeof(leat_channel_info)), 0);
    leat_close_all(mq, 0);
}

Test(channel_list, patterns_of_tokens_are_told_apart_from_globs) {
    leat *mq = list_store();
    leat_subscription *s;
    const leat_subscription_options tokens = { .tokens = 1 };
    (void)list_join(mq, "a.*");
    cr_assert_eq(leat_channel_subscribe(mq, "a.*", list_hear, NULL, &tokens, &s), 0);
    cr_assert_eq(leat_channel_subscribe(mq, "a.>", list_hear, NULL, &tokens, &s), 0);
    cr_assert_eq(leat_channel_count(mq, "a.b"), 3);
    cr_assert_eq(leat_channel_count(mq, "a.b.c"), 2, "* is one token, but any bytes of a glob");
    leat_channel_info info[4];
    cr_assert_eq(leat_channel_list(mq, info, 4, sizeof info[0]), 3);
    int kinds[3] = { 0 };
    for (int i = 0; i < 3; i++)
        kinds[info[i].pattern]++;
    cr_assert(kinds[1] == 1 && kinds[2] == 2);
    leat_close_all(mq, 0);
}

static void list_look(leat_subscription *s, const leat_message *m, void *ctx) {
    leat *mq = ctx;
    cr_assert_eq(leat_channel_count(mq, m->topic), 1);
    cr_assert_eq(leat_subscription_close(s, 0), 0);
    cr_assert_eq(leat_channel_count(mq, m->topic), 0);
    cr_assert_eq(leat_channel_list(mq, NULL, 0, sizeof(leat_channel_info)), 0);
}

Test(channel_list, may_be_asked_inside_a_callback) {
    leat *mq = list_store();
    leat_subscription *s;
    cr_assert_eq(leat_channel_subscribe(mq, "a", list_look, mq, NULL, &s), 0);
    cr_assert_eq(leat_publish(mq, "a", "x", 1), 1);
    leat_close_all(mq, 0);
}

Test(channel_list, wrong_arguments_and_a_store_that_was_shut_down_are_refused) {
    leat *mq = list_store();
    leat_channel_info one;
    cr_assert_eq(leat_channel_count(NULL, "a"), LEAT_EINVAL);
    cr_assert_eq(leat_channel_count(mq, NULL), LEAT_EINVAL);
    cr_assert_eq(leat_channel_count(mq, "a*"), LEAT_EINVAL);
    cr_assert_eq(leat_channel_count(mq, ""), LEAT_EINVAL);
    cr_assert_eq(leat_channel_count(mq, "nobody"), 0);
    cr_assert_eq(leat_channel_list(NULL, &one, 1, sizeof one), LEAT_EINVAL);
    cr_assert_eq(leat_channel_list(mq, NULL, 1, sizeof one), LEAT_EINVAL);
    cr_assert_eq(leat_channel_list(mq, &one, 1, 8), LEAT_EINVAL);
    leat_shutdown(mq);
    cr_assert_eq(leat_channel_count(mq, "a"), LEAT_ECLOSED);
    cr_assert_eq(leat_channel_list(mq, &one, 1, sizeof one), LEAT_ECLOSED);
    leat_close_all(mq, 0);
}
