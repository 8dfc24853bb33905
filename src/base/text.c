/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include "base/core.h"

#include <stdarg.h>
#include <stdio.h>

enum { TEXT_GUESS = 256 }; // bytes that most pieces fit into

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

// Prints behind what there is, if it fits. Returns  how many bytes it has.
static size_t text_print(struct lt_text *t, const char *fmt, va_list ap) {
    int n = vsnprintf(t->data + t->size, t->room - t->size, fmt, ap);
    return n < 0 ? 0 : (size_t)n;
}

static void text_put(struct lt_text *t, const char *fmt, va_list ap) {
    va_list again;
    if (t->lacks || !text_room(t, TEXT_GUESS))
        return;
    va_copy(again, ap);
    size_t n = text_print(t, fmt, ap);
    if (n >= t->room - t->size && text_room(t, n + 1))
        n = text_print(t, fmt, again);
    va_end(again);
    if (t->lacks)
        return;
    for (size_t i = 0; i < n; i++) {
        char *c = &t->data[t->size + i];
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = '?';
    }
    t->size += n;
}

void lt_text_add(struct lt_text *t, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    text_put(t, fmt, ap);
    va_end(ap);
}

void lt_text_line(struct lt_text *t, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    text_put(t, fmt, ap);
    va_end(ap);
    if (!t->lacks && text_room(t, 1))
        t->data[t->size++] = '\n';
}

void lt_text_drop(struct lt_text *t) {
    lt_free(t->mem, t->data);
    *t = (struct lt_text){ .mem = t->mem };
}

int lt_text_write(struct lt_text *t, leat_write_fn write, void *ctx) {
    int rc = t->lacks ? lt_fail_nomem() : 0;
    if (rc == 0 && t->size > 0) {
        lt_callback_begin();
        bool taken = write(t->data, t->size, ctx) == 0;
        lt_callback_end();
        rc = taken ? 0 : lt_fail(LEAT_EIO, "the text was not taken");
    }
    lt_text_drop(t);
    return rc;
}
