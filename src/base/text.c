/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

enum { TEXT_LINE_MAX = 1024 };

static bool text_room(struct lt_text *t, size_t n) {
    if (t->room - t->size >= n)
        return true;
    size_t room = 2 * t->room + n;
    char *grown = lt_resize(t->mem, t->data, room);
    if (!grown) {
        t->lacks = true;
        return false;
    }
    t->data = grown;
    t->room = room;
    return true;
}

void lt_text_line(struct lt_text *t, const char *fmt, ...) {
    va_list ap;
    if (t->lacks || !text_room(t, TEXT_LINE_MAX))
        return;
    va_start(ap, fmt);
    int n = vsnprintf(t->data + t->size, TEXT_LINE_MAX - 1, fmt, ap);
    va_end(ap);
    size_t size = n < 0 ? 0 : (size_t)n < TEXT_LINE_MAX - 1 ? (size_t)n : TEXT_LINE_MAX - 2;
    t->data[t->size + size] = '\n';
    t->size += size + 1;
}

int lt_text_write(struct lt_text *t, leat_write_fn write, void *ctx) {
    int rc = t->lacks ? lt_fail_nomem() : 0;
    if (rc == 0 && t->size > 0 && write(t->data, t->size, ctx) != 0)
        rc = lt_fail(LEAT_EIO, "the text was not taken");
    lt_free(t->mem, t->data);
    *t = (struct lt_text){ .mem = t->mem };
    return rc;
}
