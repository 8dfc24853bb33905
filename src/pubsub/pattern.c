/* SPDX-License-Identifier: MIT */
// The matcher is one loop with one place to go back to: behind the last star, one byte further on
// in the name each time.
#include "pubsub/pattern.h"

#include "base/err.h"

#include <stdint.h>
#include <string.h>

enum { PATTERN_NAME = 1, PATTERN_GLOB = 2 }; // what a byte may be part of

// clang-format off
static const uint8_t pattern_class[256] = {
    ['a'] = 1, ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1, ['g'] = 1, ['h'] = 1,
    ['i'] = 1, ['j'] = 1, ['k'] = 1, ['l'] = 1, ['m'] = 1, ['n'] = 1, ['o'] = 1, ['p'] = 1,
    ['q'] = 1, ['r'] = 1, ['s'] = 1, ['t'] = 1, ['u'] = 1, ['v'] = 1, ['w'] = 1, ['x'] = 1,
    ['y'] = 1, ['z'] = 1,
    ['A'] = 1, ['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1, ['F'] = 1, ['G'] = 1, ['H'] = 1,
    ['I'] = 1, ['J'] = 1, ['K'] = 1, ['L'] = 1, ['M'] = 1, ['N'] = 1, ['O'] = 1, ['P'] = 1,
    ['Q'] = 1, ['R'] = 1, ['S'] = 1, ['T'] = 1, ['U'] = 1, ['V'] = 1, ['W'] = 1, ['X'] = 1,
    ['Y'] = 1, ['Z'] = 1,
    ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1,
    ['8'] = 1, ['9'] = 1, ['.'] = 1, ['_'] = 1, ['-'] = 1,
    ['*'] = 2, ['?'] = 2, ['['] = 2, [']'] = 2, ['^'] = 2, ['\\'] = 2,
};
// clang-format on

// pattern_kinds gives all classes that occur in n bytes; bytes of no class count as both and more.
static unsigned pattern_kinds(const char *s, size_t n) {
    unsigned kinds = 0, alien = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned class = pattern_class[(uint8_t)s[i]];
        kinds |= class;
        alien |= class == 0;
    }
    return alien ? ~0u : kinds;
}

bool lt_is_channel_name(const char *name, size_t name_len) {
    return name_len <= LT_PATTERN_MAX && pattern_kinds(name, name_len) == PATTERN_NAME;
}

bool lt_is_pattern(const char *s) {
    return strpbrk(s, "*?[\\") != NULL;
}

int lt_check_pattern(const char *pattern) {
    size_t n = strnlen(pattern, LT_PATTERN_MAX + 1);
    if (n == 0 || n > LT_PATTERN_MAX)
        return lt_fail(LEAT_EINVAL, "pattern '%.32s%s': 1 to %d bytes", pattern,
                       n > 32 ? "..." : "", LT_PATTERN_MAX);
    if ((pattern_kinds(pattern, n) & ~(unsigned)(PATTERN_NAME | PATTERN_GLOB)) != 0)
        return lt_fail(LEAT_EINVAL, "pattern '%s': only A-Z a-z 0-9 . _ - * ? [ ] ^ \\", pattern);
    return 0;
}

// ---- matching

// pattern_set looks whether the set behind p[-1] = '[' holds c.
// Returns  the first byte behind the set.
static const uint8_t *pattern_set(const uint8_t *p, const uint8_t *end, uint8_t c, bool *hit) {
    bool inverse = p < end && *p == '^';
    bool found = false;
    if (inverse)
        p++;
    while (p < end && *p != ']') {
        uint8_t low = *p, high = *p;
        if (low == '\\' && end - p >= 2) {
            low = high = p[1];
            p += 2;
        } else if (end - p >= 3 && p[1] == '-') {
            high = p[2];
            p += 3;
        } else {
            p++;
        }
        found |= low <= high ? low <= c && c <= high : high <= c && c <= low;
    }
    *hit = found != inverse;
    return p < end ? p + 1 : p;
}

// pattern_one matches the one element at p, which is no star, against c.
// Returns  the first byte behind the element.
static const uint8_t *pattern_one(const uint8_t *p, const uint8_t *end, uint8_t c, bool *hit) {
    uint8_t first = *p++;
    if (first == '[')
        return pattern_set(p, end, c, hit);
    if (first == '\\' && p < end)
        first = *p++;
    else if (first == '?')
        first = c;
    *hit = first == c;
    return p;
}

bool lt_glob_match_work(const char *pattern, size_t pattern_len, const char *name, size_t name_len,
                        size_t *work) {
    const uint8_t *p = (const uint8_t *)pattern, *p_end = p + pattern_len;
    const uint8_t *n = (const uint8_t *)name, *n_end = n + name_len;
    const uint8_t *star = NULL, *taken = NULL; // behind the last star; behind what it has taken
    *work = 0;
    while (n < n_end) {
        const uint8_t *at = p;
        bool hit = false;
        if (p < p_end && *p == '*') {
            hit = true;
            star = ++p;
            taken = n;
        } else if (p < p_end) {
            p = pattern_one(p, p_end, *n++, &hit);
        }
        *work += (size_t)(p - at);
        if (!hit) {
            if (!star)
                return false;
            p = star; // it takes one byte more, and the rest is tried again
            n = ++taken;
        }
    }
    for (; p < p_end && *p == '*'; p++)
        ++*work;
    return p == p_end;
}

bool lt_glob_match(const char *pattern, size_t pattern_len, const char *name, size_t name_len) {
    size_t work;
    return lt_glob_match_work(pattern, pattern_len, name, name_len, &work);
}
