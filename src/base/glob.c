/* SPDX-License-Identifier: MIT */
// The matcher is one loop with one place to go back to: behind the last star, one byte further on
// in the name each time.
#include "base/glob.h"

#include "base/err.h"

#include <stdint.h>
#include <string.h>

size_t lt_glob_literal(const char *pattern) {
    return strcspn(pattern, "*?[\\");
}

bool lt_is_pattern(const char *s) {
    return s[lt_glob_literal(s)] != '\0';
}

int lt_check_pattern(const char *pattern) {
    size_t n = strnlen(pattern, LT_PATTERN_MAX + 1);
    if (n == 0 || n > LT_PATTERN_MAX)
        return lt_fail(LEAT_EINVAL, "pattern '%.32s%s': 1 to %d bytes", pattern,
                       n > 32 ? "..." : "", LT_PATTERN_MAX);
    static const char legal[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-*?[]^\\";
    if (strspn(pattern, legal) != n)
        return lt_fail(LEAT_EINVAL, "pattern '%s': only A-Z a-z 0-9 . _ - * ? [ ] ^ \\", pattern);
    return 0;
}

// ---- matching

// glob_set looks whether the set behind p[-1] = '[' holds c.
// Returns  the first byte behind the set.
static const uint8_t *glob_set(const uint8_t *p, const uint8_t *end, uint8_t c, bool *hit) {
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

// glob_one matches the one element at p, which is no star, against c.
// Returns  the first byte behind the element.
static const uint8_t *glob_one(const uint8_t *p, const uint8_t *end, uint8_t c, bool *hit) {
    uint8_t first = *p++;
    if (first == '[')
        return glob_set(p, end, c, hit);
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
            p = glob_one(p, p_end, *n++, &hit);
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
