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

// Steps into the segment of the next record. Returns  1, 0 if there is none below end, or an error.
static int cursor_enter(struct lt_cursor *c, int64_t end) {
    int64_t first = 0;
    struct lt_segment *s;
    int rc = lt_partition_pin(c->p, c->offset, &first, &s);
    if (rc != 0)
        return rc;
    if (!s) { // all of it up to the end was given back
        lt_cursor_seek(c, end);
        return 0;
    }
    lt_segment_drop(c->seg);
    lt_log_cool(c->p->mq, false);
    c->seg = s;
    c->offset = first;
    c->at = 0;
    return first < end;
}

static int cursor_damaged(struct lt_cursor *c) {
    const struct lt_partition *p = c->p;
    if (p->mq->flags & LEAT_SKIP_ROT) {
        lt_say(p->mq, LEAT_LOG_ERROR, "topic %s partition %d: offset %lld is left out",
               p->topic->name, p->number, (long long)c->offset);
        atomic_fetch_add_explicit(&p->mq->log->damaged_ranges, 1, memory_order_relaxed);
        lt_cursor_seek(c, c->offset + 1);
        return 0;
    }
    return lt_fail(LEAT_ECORRUPT,
                   "topic %s partition %d: offset %lld is damaged in %s; seek behind it, or open "
                   "with LEAT_SKIP_ROT",
                   p->topic->name, p->number, (long long)c->offset, p->mq->dir);
}

int lt_cursor_find(struct lt_cursor *c, int64_t end) {
    while (c->offset < end) {
        struct lt_segment *s = c->seg;
        bool inside = s && c->offset >= s->base &&
                      c->offset < atomic_load_explicit(&s->limit, memory_order_acquire);
        if (!inside) {
            int rc = cursor_enter(c, end);
            if (rc != 1)
                return rc;
            s = c->seg;
        }
        if (c->at != 0 && c->offset >= s->check_to)
            return 1;
        const uint8_t *record = lt_segment_record(s, c->offset);
        if (record) {
            c->at = (uint32_t)(record - s->map);
            return 1;
        }
        int rc = cursor_damaged(c);
        if (rc != 0)
            return rc;
    }
    return 0;
}

// Steps into the segment of the last record in front of the cursor. Returns  1 with its offset, 0
// if there is none, or an error.
static int cursor_enter_back(struct lt_cursor *c, int64_t *last) {
    struct lt_segment *s;
    int rc = lt_partition_pin_before(c->p, c->offset, last, &s);
    if (rc != 0 || !s)
        return rc;
    lt_segment_drop(c->seg);
    lt_log_cool(c->p->mq, false);
    c->seg = s;
    c->at = 0;
    return 1;
}

int lt_cursor_find_back(struct lt_cursor *c, int64_t begin) {
    while (c->offset > begin) {
        const struct lt_segment *s = c->seg;
        int64_t limit = s ? atomic_load_explicit(&s->limit, memory_order_acquire) : 0;
        int64_t want = c->offset - 1;
        // How far the active one goes is known to the lock's holder: a gap may be behind it.
        if (!s || limit == LT_NEVER || want < s->base || want >= limit) {
            int rc = cursor_enter_back(c, &want);
            if (rc != 1 || want < begin)
                return rc < 0 ? rc : 0;
        }
        const uint8_t *record = lt_segment_record(c->seg, want);
        lt_cursor_seek(c, want);
        if (record) {
            c->at = (uint32_t)(record - c->seg->map);
            return 1;
        }
        int rc = cursor_damaged(c);
        lt_cursor_seek(c, want);
        if (rc != 0)
            return rc;
    }
    return 0;
}

void lt_cursor_read(const struct lt_cursor *c, leat_message *m) {
    lt_record_view(c->seg->map + c->at, c->seg->base, m);
    m->topic = c->p->topic->name;
    m->partition = c->p->number;
}
