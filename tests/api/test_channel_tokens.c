/* SPDX-License-Identifier: MIT */
// Patterns of tokens as a subscriber sees them.
#include <leat.h>
#include <leat_test.h>

#include <criterion/criterion.h>
#include <string.h>

static char tokens_heard[256];

static void tokens_hear(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)ctx;
    strcat(strcat(tokens_heard, m->pattern ? m->pattern : "-"), " ");
}

static int tokens_join(leat *mq, const char *pattern, int32_t tokens) {
    leat_subscription *s;
    const leat_subscription_options o = { .tokens = tokens };
    return leat_channel_subscribe(mq, pattern, tokens_hear, NULL, &o, &s);
}

static const char *tokens_publish(leat *mq, const char *channel) {
    tokens_heard[0] = '\0';
    cr_assert(leat_publish(mq, channel, "x", 1) >= 0);
    return tokens_heard;
}

Test(channel_tokens, a_star_is_one_token_and_an_arrow_the_rest) {
    leat *mq;
    cr_assert_eq(leat_test_open(&mq), 0);
    static const char *const patterns[] = { "a.b", "a.*", "*.b", "a.>", ">", "a.*.c" };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        cr_assert_eq(tokens_join(mq, patterns[i], 1), 0, "%s: %s", patterns[i], leat_errmsg());
    cr_assert_str_eq(tokens_publish(mq, "a.b"), "- *.b > a.* a.> ");
    cr_assert_str_eq(tokens_publish(mq, "a.b.c"), "> a.> a.*.c ");
    cr_assert_str_eq(tokens_publish(mq, "a"), "> ");
    cr_assert_str_eq(tokens_publish(mq, "b.b"), "*.b > ");
    leat_close_all(mq, 0);
}

Test(channel_tokens, what_is_a_glob_only_is_refused) {
    leat *mq;
    cr_assert_eq(leat_test_open(&mq), 0);
    static const char *const wrong[] = { "a*", "a.b*", "a.>.b", "a.?", "[a]", "a.\\*", "", "**" };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_assert_eq(tokens_join(mq, wrong[i], 1), LEAT_EINVAL, "%s", wrong[i]);
    cr_assert_eq(tokens_join(mq, NULL, 1), LEAT_EINVAL);
    cr_assert_eq(tokens_join(mq, "a.>", 0), LEAT_EINVAL, "no glob has a >");
    cr_assert_eq(tokens_join(mq, "a.*", 2), LEAT_EINVAL);
    cr_assert_eq(tokens_join(mq, "a.*", -1), LEAT_EINVAL);
    cr_assert_eq(leat_channel_list(mq, NULL, 0, sizeof(leat_channel_info)), 0);
    leat_close_all(mq, 0);
}
