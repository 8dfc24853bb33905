/* SPDX-License-Identifier: MIT */
// Globs: a table from what Redis does, all small patterns at random against a matcher too simple to
// be wrong, and the work that hostile patterns make.
#include "base/glob.h"

#include "base/chance.h"
#include "leat.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

static bool glob_match(const char *pattern, const char *name) {
    return lt_glob_match(pattern, strlen(pattern), name, strlen(name));
}

Test(glob, matches_what_redis_matches) {
    static const struct {
        const char *pattern, *yes[5], *no[5];
    } cases[] = {
        { "news", { "news" }, { "new", "newss", "News", "n" } },
        { "h?llo", { "hello", "hallo", "h.llo" }, { "hllo", "heello", "hell" } },
        { "h*llo", { "hllo", "heeeello", "hllollo" }, { "hll", "ehllo", "hello." } },
        { "h[ae]llo", { "hello", "hallo" }, { "hillo", "hllo", "haello" } },
        { "h[^e]llo", { "hallo", "hbllo" }, { "hello", "hllo" } },
        { "h[a-b]llo", { "hallo", "hbllo" }, { "hcllo", "h-llo" } },
        // stars: any bytes, '.' too; also none; many are as one; several can be needed
        { "*", { "a", "a.b.c" }, { NULL } },
        { "a.*", { "a.", "a.b", "a.b.c" }, { "a", "b.a." } },
        { "*.c", { "a.c", "a.b.c", ".c", ".c.c" }, { "a.cc", "c" } },
        { "a**b***", { "ab", "axbx", "abb" }, { "ba", "a" } },
        { "*a*b*", { "ab", "xaxbx", "bab" }, { "ba", "bbb", "aaa" } },
        { "*ab*abc", { "ababc", "abxabc", "ababcabc" }, { "abc", "abab", "ababx" } },
        { "*??", { "aa", "aaa" }, { "a" } },
        { "?*?", { "aa", "aaa" }, { "a" } },
        // ranges: either way round; a - first or last is itself; ] may be an end
        { "[z-a]", { "a", "m", "z" }, { "A", "-" } },
        { "[a-]", { "a", "_", "^", "]" }, { "-", "b" } }, // a to ], then no end
        { "[a-c-e]", { "a", "b", "c", "-", "e" }, { "d" } },
        { "[-a]", { "-", "a" }, { "b" } },
        { "[a-cx-z]", { "b", "y" }, { "d", "w", "-" } },
        { "[0-9][0-9]", { "00", "42" }, { "4", "4a", "424" } },
        { "[^a-c]", { "d", "-", "A" }, { "a", "b", "c", "dd" } },
        // in a set \ makes the next byte a plain one
        { "[\\]]", { "]" }, { "\\", "a" } },
        { "[\\^a]", { "^", "a" }, { "b", "\\" } },
        { "[a^]", { "^", "a" }, { "b" } },
        { "[a\\-c]", { "a", "-", "c" }, { "b", "\\" } },
        { "[\\a-c]", { "a", "-", "c" }, { "b" } }, // \a is no end of a range
        { "[+-\\]", { "+", "A", "\\" }, { "a", "]" } },
        // a set that ends at once holds nothing, or everything
        { "[]", { NULL }, { "a", "]", "[" } },
        { "[^]", { "a", "]", "^" }, { "aa" } },
        { "[]a]", { NULL }, { "a", "]", "a]", "]a]" } },
        // a set without an end reaches to the end of the pattern
        { "[abc", { "a", "b", "c" }, { "d", "[abc", "[", "ab" } },
        { "[", { NULL }, { "[", "a" } },
        { "[^", { "a", "^", "[" }, { "ab" } },
        { "[^ab", { "c", "^", "[" }, { "a", "b" } },
        { "x[a-", { "xa", "x-" }, { "xb", "x" } },
        { "[\\", { "\\" }, { "a", "[" } },
        { "[a\\", { "a", "\\" }, { "b" } },
        { "[a\\]", { "a", "]" }, { "\\" } },
        { "*[ab", { "a", "xxb" }, { "xxc", "ax" } },
        // a backslash takes the meaning away, also of itself; at the very end it is itself
        { "\\*", { "*" }, { "a", "\\*", "" } },
        { "a\\?b", { "a?b" }, { "axb" } },
        { "\\[a]", { "[a]" }, { "a" } },
        { "\\\\", { "\\" }, { "\\\\" } },
        { "\\a\\b", { "ab" }, { "\\a\\b" } },
        { "a\\", { "a\\" }, { "a", "ab" } },
        { "*\\", { "\\", "a\\" }, { "a" } },
        { "]", { "]" }, { "a" } },
        { "a^b-c", { "a^b-c" }, { "abc" } },
        { "", { "" }, { "a" } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int k = 0; k < 5 && cases[i].yes[k]; k++)
            cr_assert(glob_match(cases[i].pattern, cases[i].yes[k]), "'%s' should match '%s'",
                      cases[i].pattern, cases[i].yes[k]);
        for (int k = 0; k < 5 && cases[i].no[k]; k++)
            cr_assert(!glob_match(cases[i].pattern, cases[i].no[k]), "'%s' matches '%s'",
                      cases[i].pattern, cases[i].no[k]);
    }
}

Test(glob, takes_bytes_as_they_are) {
    cr_assert(lt_glob_match("a\0*", 3, "a\0\0b", 4));
    cr_assert(!lt_glob_match("a\0b", 3, "a\0c", 3), "it ended at the NUL");
    cr_assert(lt_glob_match("[\x80-\xff]", 5, "\xfe", 1));
    cr_assert(!lt_glob_match("[\x80-\xff]", 5, "\x7f", 1));
    cr_assert(lt_glob_match("[a-\xff]", 5, "\x80", 1), "bytes are unsigned");
}

// ---- the simple matcher: a set is 256 flags, a star is tried at every length

static size_t glob_element(const char *p, size_t n, bool holds[256]) {
    memset(holds, 0, 256);
    if (p[0] == '?') {
        memset(holds, 1, 256);
        return 1;
    }
    if (p[0] != '[') {
        size_t at = p[0] == '\\' && n > 1 ? 1 : 0;
        holds[(uint8_t)p[at]] = true;
        return at + 1;
    }
    size_t i = 1;
    bool inverse = n > 1 && p[1] == '^';
    for (i += inverse ? 1 : 0; i < n && p[i] != ']'; i++) {
        if (p[i] == '\\' && i + 1 < n) {
            holds[(uint8_t)p[++i]] = true;
        } else if (i + 2 < n && p[i + 1] == '-') {
            int a = (uint8_t)p[i], b = (uint8_t)p[i + 2];
            for (int c = a < b ? a : b; c <= (a < b ? b : a); c++)
                holds[c] = true;
            i += 2;
        } else {
            holds[(uint8_t)p[i]] = true;
        }
    }
    for (int c = 0; c < 256 && inverse; c++)
        holds[c] = !holds[c];
    return i < n ? i + 1 : n;
}

static bool glob_simple(const char *p, size_t pn, const char *s, size_t sn) {
    if (pn == 0)
        return sn == 0;
    if (p[0] == '*')
        return glob_simple(p + 1, pn - 1, s, sn) || (sn > 0 && glob_simple(p, pn, s + 1, sn - 1));
    bool holds[256];
    size_t one = glob_element(p, pn, holds);
    return sn > 0 && holds[(uint8_t)s[0]] && glob_simple(p + one, pn - one, s + 1, sn - 1);
}

Test(glob, agrees_with_a_simple_matcher_on_random_patterns) {
    static const char *const alphabet[] = { "ab*",    "a*?b",   "ab[]^*",
                                            "abc[-]", "a\\*[]", "[]^-\\ab?*" };
    struct lt_chance chance;
    lt_chance_init(&chance, 1);
    int matched = 0;
    for (int i = 0; i < 1000000; i++) {
        const char *from = alphabet[lt_chance_u64(&chance) % 6];
        char p[10], s[8];
        size_t pn = lt_chance_u64(&chance) % sizeof p, sn = lt_chance_u64(&chance) % sizeof s;
        for (size_t k = 0; k < pn; k++)
            p[k] = from[lt_chance_u64(&chance) % strlen(from)];
        for (size_t k = 0; k < sn; k++)
            s[k] = "aab]-\\"[lt_chance_u64(&chance) % (i % 2 ? 3 : 6)];
        bool want = glob_simple(p, pn, s, sn);
        cr_assert_eq(lt_glob_match(p, pn, s, sn), want, "case %d: '%.*s' and '%.*s'", i, (int)pn, p,
                     (int)sn, s);
        matched += want ? 1 : 0;
    }
    cr_assert_gt(matched, 50000, "only %d of the cases match: they say little", matched);
}

// ---- work

static void glob_repeat(char *to, size_t n, const char *what, const char *end) {
    size_t k = strlen(what);
    for (size_t i = 0; i < n; i++)
        to[i] = what[i % k];
    memcpy(to + n - strlen(end), end, strlen(end) + 1);
}

Test(glob, hostile_patterns_cost_no_more_than_the_product_of_the_lengths) {
    static const struct {
        const char *repeat, *end, *name;
        bool may_match;
    } cases[] = {
        // a matcher that goes back to every star does not end on the first one
        { "a*", "b", "a", false },    { "*a", "b", "a", false },   { "*a", "*", "a", true },
        { "?*", "b", "a", false },    { "a", "b", "a", false },    { "*[ab]", "c", "a", true },
        { "*[^b]", "*b", "a", true }, { "*ab", "*b", "ab", true },
    };
    char pattern[LT_PATTERN_MAX + 1], name[LT_PATTERN_MAX + 1];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t pn = 16; pn <= LT_PATTERN_MAX - 1; pn += 58) {
            glob_repeat(pattern, pn, cases[i].repeat, cases[i].end);
            glob_repeat(name, LT_PATTERN_MAX - 1, cases[i].name, "");
            size_t work = 0, nn = strlen(name);
            bool hit = lt_glob_match_work(pattern, pn, name, nn, &work);
            cr_assert_leq(work, pn * (nn + 1), "'%s' looked at %zu bytes", pattern, work);
            cr_assert_gt(work, 0);
            cr_assert(cases[i].may_match || !hit, "'%s'", pattern);
        }
    }
    pattern[0] = '*'; // the bound is about right: here one star has the whole name to try
    memset(pattern + 1, 'a', 120);
    memcpy(pattern + 121, "b", 2);
    memset(name, 'a', 249);
    size_t work = 0;
    cr_assert(!lt_glob_match_work(pattern, 122, name, 249, &work));
    cr_assert(work > 122 * 100 && work <= 122 * 250, "looked at %zu bytes", work);
}
