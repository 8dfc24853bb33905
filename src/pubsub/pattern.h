/* SPDX-License-Identifier: MIT */
// pattern: names of channels; the patterns that choose among them are globs, see base/glob.h. Pure.
#ifndef LT_PUBSUB_PATTERN_H
#define LT_PUBSUB_PATTERN_H

#include "base/glob.h"

// lt_is_channel_name is lt_check_name without a message, for the hot path.
bool lt_is_channel_name(const char *name, size_t name_len);

#endif
