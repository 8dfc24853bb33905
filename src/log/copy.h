/* SPDX-License-Identifier: MIT */
// copy: a message with bytes of its own, counted by those who have it. A channel makes one for all
// who keep what was published, and leat_message_hold one of what is the publisher's.
#ifndef LT_LOG_COPY_H
#define LT_LOG_COPY_H

#include "base/mem.h"
#include "base/pins.h"

#include "leat.h"

#include <stdatomic.h>

struct lt_copy {
    struct lt_pinned pinned; // one reference each
    struct lt_mem *mem;
    struct lt_copy *next; // of those that are kept to be used again
    size_t room;          // bytes behind this
    _Atomic int refs;     // release where one is given up, acquire before it is freed
    size_t weight;        // bytes of key, value and headers
    leat_message m;       // of the bytes behind: headers, strings; each string followed by a NUL
};

// lt_copy_new copies m, of a channel, with key, value, headers, channel and pattern; with so many
// references.
// Returns  NULL, and says that memory is out.
struct lt_copy *lt_copy_new(struct lt_mem *mem, const leat_message *m, int refs);
// lt_copy_again is that in the place of an old one, if it has the room; else the old one is freed.
// old: NULL, or of no reference.
struct lt_copy *lt_copy_again(struct lt_copy *old, struct lt_mem *mem, const leat_message *m,
                              int refs);
// lt_copy_leave gives up a reference. Returns  whether it was the last: it is the caller's to free.
bool lt_copy_leave(struct lt_copy *copy);
// lt_copy_drop gives up n references.
void lt_copy_drop(struct lt_copy *copy, int n);
// lt_copy_pin takes a reference that a pin may own. *pattern, if there is one, is made to live as
// long. Returns  NULL, and says that memory is out.
struct lt_pinned *lt_copy_pin(struct lt_copy *copy, const char **pattern);

// Where a message of a channel says what else it has, as addresses in reserved: its headers, an
// array, for leat_message_header; and in a callback the copy that it is of, for leat_message_hold.
enum { LT_MESSAGE_HEADERS = 2, LT_MESSAGE_COPY = 3 };

#endif
