/* SPDX-License-Identifier: MIT */
// What is a name of a channel, what a pattern, and what neither.
#include "pubsub/pattern.h"

#include "leat.h"

#include <criterion/criterion.h>
#include <string.h>

Test(pattern, knows_patterns_names_and_neither) {
    static const char *const patterns[] = { "*", "a*", "?", "[", "[a-z].x", "\\", "a\\b", "a.?" };
    static const char *const names[] = { "a", "A-Z_0.9", "news", "-" };
    static const char *const neither[] = {
        "", "a b", "a/b", "a\n", "*/", "é*", "{*}", "*,", "a!*"
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        cr_assert(lt_is_pattern(patterns[i]), "'%s'", patterns[i]);
        cr_assert_eq(lt_check_pattern(patterns[i]), 0, "'%s': %s", patterns[i], leat_errmsg());
        cr_assert(!lt_is_channel_name(patterns[i], strlen(patterns[i])), "'%s'", patterns[i]);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        cr_assert(!lt_is_pattern(names[i]), "'%s'", names[i]);
        cr_assert(lt_is_channel_name(names[i], strlen(names[i])), "'%s'", names[i]);
    }
    for (size_t i = 0; i < sizeof neither / sizeof neither[0]; i++) {
        cr_assert_eq(lt_check_pattern(neither[i]), LEAT_EINVAL, "'%s'", neither[i]);
        cr_assert(!lt_is_channel_name(neither[i], strlen(neither[i])), "'%s'", neither[i]);
    }
    cr_assert(!lt_is_pattern("]^-"), "only * ? [ \\ make a pattern");
    char s[LT_PATTERN_MAX + 2];
    memset(s, 'a', sizeof s);
    s[LT_PATTERN_MAX + 1] = '\0';
    cr_assert(!lt_is_channel_name(s, LT_PATTERN_MAX + 1));
    cr_assert_eq(lt_check_pattern(s), LEAT_EINVAL);
    s[LT_PATTERN_MAX] = '\0';
    cr_assert(lt_is_channel_name(s, LT_PATTERN_MAX));
    s[0] = '*';
    cr_assert_eq(lt_check_pattern(s), 0);
}

// Every byte, against the checker that the rest of the library uses.
Test(pattern, agrees_with_the_check_of_names_on_every_byte) {
    for (int c = 1; c < 256; c++) {
        char s[3] = { 'a', (char)c, '\0' };
        bool alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool plain = alnum || c == '.' || c == '_' || c == '-';
        bool glob = c == '*' || c == '?' || c == '[' || c == ']' || c == '^' || c == '\\';
        cr_assert_eq(lt_is_channel_name(s, 2), plain, "byte %d", c);
        cr_assert_eq(lt_check_pattern(s), plain || glob ? 0 : LEAT_EINVAL, "byte %d", c);
    }
    cr_assert(!lt_is_channel_name("a\0b", 3));
}
