/* SPDX-License-Identifier: MIT */
// pattern: names of channels, and the patterns that choose among them. There are two kinds. Globs,
// as Redis has them, go by bytes: base/glob. Tokens, as NATS has them, go by what stands between
// the dots of a name:
//
//   *   one token, whatever it is, also an empty one
//   >   the rest, one token or more; at the very end only
//
// Both are a whole token: in `a*.b` no wildcard is meant, it is refused. Matching walks once
// through both. Pure, but for the error's text.
#ifndef LT_PUBSUB_PATTERN_H
#define LT_PUBSUB_PATTERN_H

#include "base/glob.h"

// lt_is_channel_name is lt_check_name without a message, for the hot path.
bool lt_is_channel_name(const char *name, size_t name_len);

// lt_is_tokens tells whether s has one of * > in it, and so is no name.
bool lt_is_tokens(const char *s);

// lt_check_tokens checks the length of a pattern of tokens, its bytes, and where its wildcards are.
// Returns  LEAT_EINVAL.
int lt_check_tokens(const char *pattern);

// lt_tokens_literal tells how many bytes every name that matches begins with, as they stand in the
// pattern: up to the first token that is a wildcard.
size_t lt_tokens_literal(const char *pattern);

// lt_tokens_match tells whether the pattern matches the whole name. Both may lack the same
// beginning, as far as lt_tokens_literal.
bool lt_tokens_match(const char *pattern, size_t pattern_len, const char *name, size_t name_len);

#endif
