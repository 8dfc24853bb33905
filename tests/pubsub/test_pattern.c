/* SPDX-License-Identifier: MIT */
// What is a name of a channel, what a pattern, and what neither.
#include "pubsub/pattern.h"

#include "base/chance.h"

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

// ---- tokens

Test(pattern, tokens_choose_as_nats_does) {
    static const struct {
        const char *pattern, *yes[5], *no[5];
    } cases[] = {
        { "a.*.c",
          { "a.b.c", "a..c", "a.x-y.c" },
          { "a.c", "a.b.c.d", "a.b.b.c", "b.b.c", "a.b." } },
        { "a.>", { "a.b", "a.b.c", "a." }, { "a", "b.a", "ab.c" } },
        { "*", { "a", "abc" }, { "a.b", ".", "a." } },
        { ">", { "a", "a.b.c", "." }, { 0 } },
        { "*.*", { "a.b", "." }, { "a", "a.b.c" } },
        { "*.b.>", { "a.b.c", ".b.c.d" }, { "a.b", "b.c", "a.c.b.d" } },
        { "a.b", { "a.b" }, { "a", "a.b.c", "a.bc", "a.", "xa.b" } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *p = cases[i].pattern;
        cr_assert_eq(lt_check_tokens(p), 0, "%s: %s", p, leat_errmsg());
        for (size_t k = 0; k < 5 && cases[i].yes[k]; k++)
            cr_assert(lt_tokens_match(p, strlen(p), cases[i].yes[k], strlen(cases[i].yes[k])),
                      "%s, %s", p, cases[i].yes[k]);
        for (size_t k = 0; k < 5 && cases[i].no[k]; k++)
            cr_assert(!lt_tokens_match(p, strlen(p), cases[i].no[k], strlen(cases[i].no[k])),
                      "%s, %s", p, cases[i].no[k]);
    }
}

Test(pattern, a_wildcard_is_a_token_of_its_own_and_the_rest_comes_last) {
    static const char *const wrong[] = { "",    "a*", "*a", "a.*b", "a.>.b", ">.",  "a>",
                                         ".a>", "**", ">>", "a.?",  "a.[b]", "a b", "a/b" };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_assert_eq(lt_check_tokens(wrong[i]), LEAT_EINVAL, "'%s'", wrong[i]);
    char longest[LT_PATTERN_MAX + 2];
    memset(longest, 'a', sizeof longest);
    longest[LT_PATTERN_MAX + 1] = '\0';
    cr_assert_eq(lt_check_tokens(longest), LEAT_EINVAL);
    cr_assert_eq(lt_check_tokens(longest + 1), 0);
    cr_assert(lt_is_tokens("a.*") && lt_is_tokens(">") && !lt_is_tokens("a.b"));
    cr_assert_eq(lt_tokens_literal("a.b.*.c"), 4u);
    cr_assert_eq(lt_tokens_literal("a"), 1u);
}

// The first token of both, then the rest: as the definition reads.
static bool pattern_slow(const char *p, const char *s) {
    size_t pn = strcspn(p, "."), sn = strcspn(s, ".");
    if (strcmp(p, ">") == 0)
        return true;
    bool same = (pn == 1 && p[0] == '*') || (pn == sn && memcmp(p, s, pn) == 0);
    if (!same || !p[pn] != !s[sn])
        return false;
    return !p[pn] || pattern_slow(p + pn + 1, s + sn + 1);
}

Test(pattern, tokens_agree_with_a_slow_matcher_on_a_million_pairs) {
    static const char *const token[] = { "a", "b", "ab", "", "*", ">" };
    struct lt_chance chance;
    lt_chance_init(&chance, 7);
    int matched = 0;
    for (int i = 0; i < 1000000; i++) {
        char p[32] = "", s[32] = "";
        size_t pn = 1 + lt_chance_u64(&chance) % 5, sn = 1 + lt_chance_u64(&chance) % 5;
        for (size_t k = 0; k < pn; k++) {
            strcat(p, token[lt_chance_u64(&chance) % (k + 1 < pn ? 5 : 6)]);
            strcat(p, k + 1 < pn ? "." : "");
        }
        for (size_t k = 0; k < sn; k++) {
            strcat(s, token[lt_chance_u64(&chance) % 4]);
            strcat(s, k + 1 < sn ? "." : "");
        }
        bool want = pattern_slow(p, s);
        size_t cut = lt_tokens_literal(p); // as publishing cuts off what it has found by
        cr_assert_eq(lt_tokens_match(p, strlen(p), s, strlen(s)), want, "%s, %s", p, s);
        if (strncmp(p, s, cut) == 0)
            cr_assert_eq(lt_tokens_match(p + cut, strlen(p) - cut, s + cut, strlen(s) - cut), want,
                         "%s, %s from %zu on", p, s, cut);
        matched += want;
    }
    cr_assert_gt(matched, 50000, "only %d of the pairs match: they say little", matched);
}
