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

// lt_text_line adds a line and its end. When memory is out, nothing more is added.
void lt_text_line(struct lt_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// lt_text_write hands it all out and frees it.
// Returns  LEAT_ENOMEM: it is not whole, nothing was handed out; LEAT_EIO: write ended it.
int lt_text_write(struct lt_text *t, leat_write_fn write, void *ctx);

#endif
