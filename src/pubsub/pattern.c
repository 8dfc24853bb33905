/* SPDX-License-Identifier: MIT */
#include "pubsub/pattern.h"

#include "base/err.h"

#include <stdint.h>
#include <string.h>

// clang-format off
static const bool pattern_byte[256] = {
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
};
// clang-format on

bool lt_is_channel_name(const char *name, size_t name_len) {
    if (name_len == 0 || name_len > LT_PATTERN_MAX)
        return false;
    bool plain = true;
    for (size_t i = 0; i < name_len; i++)
        plain &= pattern_byte[(uint8_t)name[i]];
    return plain;
}

// ---- tokens

bool lt_is_tokens(const char *s) {
    return strpbrk(s, "*>") != NULL;
}

size_t lt_tokens_literal(const char *pattern) {
    return strcspn(pattern, "*>");
}

int lt_check_tokens(const char *pattern) {
    size_t n = strnlen(pattern, LT_PATTERN_MAX + 1);
    if (n == 0 || n > LT_PATTERN_MAX)
        return lt_fail(LEAT_EINVAL, "pattern '%.32s%s': 1 to %d bytes", pattern,
                       n > 32 ? "..." : "", LT_PATTERN_MAX);
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)pattern[i];
        bool wild = c == '*' || c == '>';
        if (!wild && !pattern_byte[c])
            return lt_fail(LEAT_EINVAL, "pattern '%s': only A-Z a-z 0-9 . _ - * >", pattern);
        bool alone = (i == 0 || pattern[i - 1] == '.') && (i + 1 == n || pattern[i + 1] == '.');
        if (wild && !alone)
            return lt_fail(LEAT_EINVAL, "pattern '%s': %c is a token of its own", pattern, c);
        if (c == '>' && i + 1 < n)
            return lt_fail(LEAT_EINVAL, "pattern '%s': > is its last token", pattern);
    }
    return 0;
}

bool lt_tokens_match(const char *pattern, size_t pattern_len, const char *name, size_t name_len) {
    size_t p = 0, n = 0;
    for (; p < pattern_len; p++) {
        if (pattern[p] == '>')
            return true;
        if (pattern[p] == '*') {
            const char *dot = memchr(name + n, '.', name_len - n);
            n = dot ? (size_t)(dot - name) : name_len;
        } else if (n == name_len || name[n++] != pattern[p]) {
            return false;
        }
    }
    return n == name_len;
}
