/* SPDX-License-Identifier: MIT */
// text: lines that are put together while locks are held and handed out when none is.
#ifndef LT_BASE_TEXT_H
#define LT_BASE_TEXT_H

#include "base/mem.h"

#include "leat.h"

#include <stdbool.h>

struct lt_text {
    struct lt_mem *mem;
    char *data;
    size_t size, room;
    bool lacks; // memory was out: the text is not whole
};

// lt_text_line adds the rest of a line and its end, lt_text_add what stands before. Names may be of
// any bytes: what would break a line, or is no text, becomes '?'. When memory is out, nothing more
// is added.
void lt_text_line(struct lt_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void lt_text_add(struct lt_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// lt_text_write hands it all out, in a callback, and frees it. Locks: none.
// Returns  LEAT_ENOMEM: it is not whole, nothing was handed out; LEAT_EIO: write ended it.
int lt_text_write(struct lt_text *t, leat_write_fn write, void *ctx);
// lt_text_drop frees it.
void lt_text_drop(struct lt_text *t);

#endif
