/* SPDX-License-Identifier: MIT */
// glob: patterns that choose among names of channels and topics. Pure, but for the error's text.
//
//   *       any number of bytes, also none; '.' is a byte like any other
//   ?       one byte
//   [a-c]   one byte of the set; [^a-c] one byte that is not in it; in a set \x is x; a range may
//           be written backwards; the first ] closes the set, so [] holds nothing and [^]
//           everything; a set that is not closed ends with the pattern
//   \x      x itself; a \ at the very end is itself
//
// These are Redis' rules (PSUBSCRIBE), down to the odd ends; bytes are unsigned here. (One case
// differs from newer Redis: * matches the empty name. Nothing has it.) Redis' matcher calls
// itself at each star and needs guards against patterns that explode; this one goes back to the
// last star only, which is enough, since an earlier star could only push the rest further right:
// at most pattern_len * (name_len + 1) bytes of pattern are looked at, in constant space.
#ifndef LT_BASE_GLOB_H
#define LT_BASE_GLOB_H

#include <stdbool.h>
#include <stddef.h>

enum { LT_PATTERN_MAX = 249 }; // bytes of a name or a pattern

// lt_glob_match tells whether the pattern matches the whole name.
bool lt_glob_match(const char *pattern, size_t pattern_len, const char *name, size_t name_len);

// lt_glob_match_work is lt_glob_match that also tells how many bytes of pattern it looked at, each
// as often as it did: the measure in which its bound is stated, so that a test needs no clock.
bool lt_glob_match_work(const char *pattern, size_t pattern_len, const char *name, size_t name_len,
                        size_t *work);

// lt_glob_literal tells how many bytes every name that matches begins with, as they stand in the
// pattern: up to the first * ? [ or \.
size_t lt_glob_literal(const char *pattern);

// lt_is_pattern tells whether s has one of * ? [ \ in it, and so is no name.
bool lt_is_pattern(const char *s);

// lt_check_pattern checks the length of a pattern and that it is made of what names are made of
// and * ? [ ] ^ \ alone.
// Returns  LEAT_EINVAL.
int lt_check_pattern(const char *pattern);

#endif
