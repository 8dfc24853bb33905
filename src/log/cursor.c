/* SPDX-License-Identifier: MIT */
#include "log/cursor.h"

#include "log/topic.h"

void lt_cursor_init(struct lt_cursor *c, struct lt_partition *p, int64_t offset) {
    *c = (struct lt_cursor){ .p = p, .offset = offset };
}

void lt_cursor_fini(struct lt_cursor *c) {
    lt_segment_drop(c->seg);
    c->seg = NULL;
}

void lt_cursor_seek(struct lt_cursor *c, int64_t offset) {
    c->offset = offset;
    c->at = 0; // before the first record: not known
}

bool lt_cursor_find(struct lt_cursor *c, int64_t end) {
    if (c->offset >= end)
        return false;
    struct lt_segment *s = c->seg;
    bool inside = s && c->offset >= s->base &&
                  c->offset < atomic_load_explicit(&s->limit, memory_order_acquire);
    if (!inside) {
        int64_t first = 0;
        s = lt_partition_pin(c->p, c->offset, &first);
        if (!s) { // all of it up to the end was given back
            lt_cursor_seek(c, end);
            return false;
        }
        lt_segment_drop(c->seg);
        c->seg = s;
        c->offset = first;
        c->at = 0;
        if (first >= end)
            return false;
    }
    if (c->at == 0)
        c->at = (uint32_t)(lt_segment_record(s, c->offset) - s->map);
    return true;
}

void lt_cursor_read(const struct lt_cursor *c, leat_message *m) {
    lt_record_view(c->seg->map + c->at, c->seg->base, m);
    m->topic = c->p->topic->name;
    m->partition = c->p->number;
}

void lt_cursor_advance(struct lt_cursor *c) {
    c->at += lt_record_size(c->seg->map + c->at);
    c->offset++;
}
