/* SPDX-License-Identifier: MIT */
#include "lib/history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *history_alloc(size_t n) {
    void *p = calloc(1, n ? n : 1);
    if (p)
        return p;
    (void)fprintf(stderr, "history: out of memory\n");
    abort();
}

void history_init(struct history *h, size_t room) {
    *h = (struct history){ .room = room };
    h->event = history_alloc(room * sizeof *h->event);
}

void history_fini(struct history *h) {
    free(h->event);
    free(h->cut);
    h->event = NULL;
    h->cut = NULL;
}

uint64_t history_ticket(struct history *h) {
    return atomic_fetch_add(&h->tick, 1) + 1;
}

struct history_event *history_begin(struct history *h, const struct history_event *what) {
    size_t i = atomic_fetch_add_explicit(&h->count, 1, memory_order_relaxed);
    if (i >= h->room || h->sealed) {
        (void)fprintf(stderr, "history: more than %zu events, or one after a check\n", h->room);
        abort();
    }
    struct history_event *e = &h->event[i];
    *e = *what;
    e->outcome = HISTORY_UNKNOWN;
    e->returned = UINT64_MAX;
    e->invoked = history_ticket(h);
    return e;
}

void history_end(struct history *h, struct history_event *e, enum history_outcome outcome) {
    e->returned = history_ticket(h);
    e->outcome = outcome;
}

struct history_event *history_note(struct history *h, const struct history_event *what) {
    struct history_event *e = history_begin(h, what);
    history_end(h, e, HISTORY_OK);
    return e;
}

enum history_outcome history_outcome_of(int rc) {
    // LEAT_EIO of a send: in the log, and perhaps on disk. LEAT_EFENCED of a commit: in part.
    if (rc == LEAT_EIO || rc == LEAT_EFENCED)
        return HISTORY_UNKNOWN;
    return rc < 0 ? HISTORY_FAILED : HISTORY_OK;
}

static uint64_t history_mix(uint64_t h, const void *data, size_t n) {
    const unsigned char *p = data;
    h = (h ^ (p ? n : UINT64_MAX)) * UINT64_C(0x9e3779b97f4a7c15); // null is not empty
    for (size_t i = 0; p && i < n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 31;
}

static uint64_t history_hash_parts(const leat_bytes *key, const leat_bytes *value, int64_t ts) {
    uint64_t h = history_mix(UINT64_C(0xcbf29ce484222325), &ts, sizeof ts);
    return history_mix(history_mix(h, key->data, key->size), value->data, value->size);
}

uint64_t history_hash(const leat_message *m) {
    uint64_t h = history_hash_parts(&m->key, &m->value, m->timestamp_ms);
    leat_header one;
    for (size_t i = 0; leat_message_header(m, i, &one) == 1; i++)
        h = history_mix(history_mix(h, one.name.data, one.name.size), one.value.data,
                        one.value.size);
    return h;
}

uint64_t history_hash_record(const leat_record *r, int64_t timestamp_ms) {
    uint64_t h = history_hash_parts(&r->key, &r->value, timestamp_ms);
    for (size_t i = 0; i < r->header_count; i++)
        h = history_mix(history_mix(h, r->headers[i].name.data, r->headers[i].name.size),
                        r->headers[i].value.data, r->headers[i].value.size);
    return h;
}

// ---- for checkers

static int history_by_ticket(const void *a, const void *b) {
    const struct history_event *x = *(const struct history_event *const *)a;
    const struct history_event *y = *(const struct history_event *const *)b;
    return x->invoked < y->invoked ? -1 : x->invoked > y->invoked;
}

static void history_seal(struct history *h) {
    if (h->sealed)
        return;
    size_t n = atomic_load(&h->count);
    h->sealed = true;
    h->cut = history_alloc(n * sizeof(struct history_event *));
    for (size_t i = 0; i < n; i++)
        if (h->event[i].op == HISTORY_CRASH && h->event[i].how == LEAT_POWER_CUT)
            h->cut[h->cuts++] = &h->event[i];
    qsort(h->cut, h->cuts, sizeof(struct history_event *), history_by_ticket);
}

bool history_cut_between(struct history *h, uint64_t from, uint64_t to) {
    history_seal(h);
    size_t lo = 0, hi = h->cuts; // the first cut that was not over at `from`
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (h->cut[mid]->returned <= from)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < h->cuts && h->cut[lo]->invoked < to;
}

const struct history_event **history_select(struct history *h, unsigned ops, history_order order,
                                            size_t *count) {
    history_seal(h);
    size_t n = atomic_load(&h->count), k = 0;
    const struct history_event **list = history_alloc(n * sizeof(struct history_event *));
    for (size_t i = 0; i < n; i++)
        if ((unsigned)h->event[i].op & ops)
            list[k++] = &h->event[i];
    qsort(list, k, sizeof(struct history_event *), order);
    *count = k;
    return list;
}
