/* SPDX-License-Identifier: MIT */
#include "log/copy.h"

#include "base/err.h"
#include "base/list.h"

#include <string.h>

static void copy_keep(struct lt_pinned *obj) {
    struct lt_copy *copy = LT_CONTAINER(obj, struct lt_copy, pinned);
    atomic_fetch_add_explicit(&copy->refs, 1, memory_order_relaxed);
}

void lt_copy_drop(struct lt_copy *copy, int n) {
    if (atomic_fetch_sub_explicit(&copy->refs, n, memory_order_acq_rel) == n)
        lt_free(copy->mem, copy);
}

bool lt_copy_leave(struct lt_copy *copy) {
    return atomic_fetch_sub_explicit(&copy->refs, 1, memory_order_acq_rel) == 1;
}

static void copy_drop_one(struct lt_pinned *obj) {
    lt_copy_drop(LT_CONTAINER(obj, struct lt_copy, pinned), 1);
}

// ---- making one

static size_t copy_string_size(const char *s) {
    return s ? strlen(s) + 1 : 0;
}

static const leat_header *copy_headers(const leat_message *m) {
    return (const leat_header *)(uintptr_t)m->reserved[LT_MESSAGE_HEADERS];
}

// Adds up what the copy needs behind its struct. Returns  false: more than there are numbers.
static bool copy_measure(const leat_message *m, size_t *weight, size_t *room) {
    bool over = __builtin_add_overflow(m->key.size, m->value.size, weight);
    *room = 2 + copy_string_size(m->topic) + copy_string_size(m->pattern);
    *room += m->header_count * (sizeof(leat_header) + 2);
    for (size_t i = 0; i < m->header_count; i++) {
        const leat_header *h = &copy_headers(m)[i];
        over |= __builtin_add_overflow(*weight, h->name.size, weight);
        over |= __builtin_add_overflow(*weight, h->value.size, weight);
    }
    over |= __builtin_add_overflow(*room, *weight, room);
    return !over && *room <= SIZE_MAX - sizeof(struct lt_copy);
}

static leat_bytes copy_bytes(leat_bytes b, char **to) {
    if (!b.data)
        return b;
    char *at = *to;
    if (b.size > 0)
        memcpy(at, b.data, b.size);
    at[b.size] = '\0';
    *to = at + b.size + 1;
    return (leat_bytes){ at, b.size };
}

static const char *copy_string(const char *s, char **to) {
    return s ? copy_bytes((leat_bytes){ s, strlen(s) }, to).data : NULL;
}

struct lt_copy *lt_copy_new(struct lt_mem *mem, const leat_message *m, int refs) {
    return lt_copy_again(NULL, mem, m, refs);
}

struct lt_copy *lt_copy_again(struct lt_copy *copy, struct lt_mem *mem, const leat_message *m,
                              int refs) {
    size_t weight, room;
    bool sound = copy_measure(m, &weight, &room);
    if (copy && (!sound || copy->room < room)) {
        lt_free(mem, copy);
        copy = NULL;
    }
    if (!copy && sound) {
        copy = lt_alloc(mem, sizeof *copy + room);
        if (copy)
            copy->room = room;
    }
    if (!copy) {
        (void)lt_fail_nomem();
        return NULL;
    }
    copy->pinned = (struct lt_pinned){ copy_keep, copy_drop_one };
    copy->mem = mem;
    atomic_init(&copy->refs, refs);
    copy->weight = weight;
    copy->m = *m;
    leat_header *header = (void *)(copy + 1);
    char *to = (char *)(header + m->header_count);
    for (size_t i = 0; i < m->header_count; i++) {
        header[i].name = copy_bytes(copy_headers(m)[i].name, &to);
        header[i].value = copy_bytes(copy_headers(m)[i].value, &to);
    }
    copy->m.key = copy_bytes(m->key, &to);
    copy->m.value = copy_bytes(m->value, &to);
    copy->m.topic = copy_string(m->topic, &to);
    copy->m.pattern = copy_string(m->pattern, &to);
    copy->m.reserved[LT_MESSAGE_HEADERS] = m->header_count ? (uint64_t)(uintptr_t)header : 0;
    copy->m.reserved[LT_MESSAGE_COPY] = 0;
    return copy;
}

// ---- a pin of it, and of the pattern that it came by

struct copy_pin {
    struct lt_pinned pinned;
    _Atomic int refs; // as those of a copy
    struct lt_copy *copy;
    char pattern[];
};

static void copy_pin_keep(struct lt_pinned *obj) {
    struct copy_pin *pin = LT_CONTAINER(obj, struct copy_pin, pinned);
    atomic_fetch_add_explicit(&pin->refs, 1, memory_order_relaxed);
}

static void copy_pin_drop(struct lt_pinned *obj) {
    struct copy_pin *pin = LT_CONTAINER(obj, struct copy_pin, pinned);
    if (atomic_fetch_sub_explicit(&pin->refs, 1, memory_order_acq_rel) > 1)
        return;
    struct lt_mem *mem = pin->copy->mem;
    lt_copy_drop(pin->copy, 1);
    lt_free(mem, pin);
}

struct lt_pinned *lt_copy_pin(struct lt_copy *copy, const char **pattern) {
    struct lt_pinned *obj = &copy->pinned;
    if (*pattern) {
        size_t n = strlen(*pattern) + 1;
        struct copy_pin *pin = lt_alloc(copy->mem, sizeof *pin + n);
        if (!pin) {
            (void)lt_fail_nomem();
            return NULL;
        }
        pin->pinned = (struct lt_pinned){ copy_pin_keep, copy_pin_drop };
        atomic_init(&pin->refs, 1);
        pin->copy = copy;
        *pattern = memcpy(pin->pattern, *pattern, n);
        obj = &pin->pinned;
    }
    copy_keep(&copy->pinned);
    return obj;
}
