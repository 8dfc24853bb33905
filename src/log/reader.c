/* SPDX-License-Identifier: MIT */
// reader: one partition without a group, forwards and backwards. It stands between two records.
// What it gave last is pinned by a token, as what a poll gives.
#include "log/log.h"

struct leat_reader {
    leat *mq;
    struct lt_child child;
    atomic_bool busy; // a call is in progress: acquire on entry, release on leaving
    struct lt_cursor cursor;
    struct lt_segment *pinned; // the segment that token pins, borrowed from the token
    uint64_t token;            // 0: none
};

static int reader_enter(leat_reader *r) {
    int rc = lt_begin(r ? r->mq : NULL, LT_CALL);
    if (rc != 0)
        return rc;
    if (!atomic_exchange_explicit(&r->busy, true, memory_order_acquire))
        return 0;
    return lt_end(r->mq, lt_fail(LEAT_EBUSY, "another thread is in a call of a reader of topic %s",
                                 r->cursor.p->topic->name));
}

static int reader_leave(leat_reader *r, int rc) {
    leat *counted = lt_counts(r->mq) ? r->mq : NULL;
    atomic_store_explicit(&r->busy, false, memory_order_release); // now another may close all
    return counted ? lt_end_counted(counted, rc) : rc;
}

// Makes the token pin the segment that the cursor is in.
static int reader_pin(leat_reader *r) {
    struct lt_segment *s = r->cursor.seg;
    uint64_t token;
    if (r->pinned == s)
        return 0;
    lt_segment_keep(s);
    int rc = lt_pin_add(r->mq, LT_PIN_POLL, &s->pinned, &token);
    if (rc != 0) {
        lt_segment_drop(s);
        return rc;
    }
    if (r->token)
        (void)lt_pin_end(r->mq, r->token, LT_PIN_POLL);
    r->token = token;
    r->pinned = s;
    return 0;
}

// Finds the next record that way. A damaged one is told once: the cursor is past it then.
static int reader_find(leat_reader *r, bool back) {
    struct lt_cursor *at = &r->cursor;
    int64_t end = atomic_load_explicit(&at->p->end, memory_order_acquire);
    int64_t begin = atomic_load(&at->p->begin);
    if (back)
        return lt_cursor_find_back(at, begin);
    if (at->offset < begin)
        lt_cursor_seek(at, begin); // deleted before it was read
    int rc = lt_cursor_find(at, end);
    if (rc == LEAT_ECORRUPT)
        lt_cursor_seek(at, at->offset + 1);
    return rc;
}

static int reader_next(leat_reader *r, bool back, leat_message *m) {
    int64_t before = r->cursor.offset;
    if (r->token) // the view of the last call ends
        r->token = lt_pin_renew(r->mq, r->token);
    int rc = lt_topic_alive(r->cursor.p->topic);
    if (rc == 0)
        rc = reader_find(r, back);
    if (rc != 1)
        return rc;
    rc = reader_pin(r);
    if (rc != 0) {
        lt_cursor_seek(&r->cursor, before);
        return rc;
    }
    lt_cursor_read(&r->cursor, m);
    m->view = r->token;
    if (!back)
        lt_cursor_advance(&r->cursor, lt_cursor_size(&r->cursor));
    return 1;
}

int leat_reader_next(leat_reader *r, int back, leat_message *m) {
    if (!m)
        return lt_fail(LEAT_EINVAL, "reader next: the message is NULL");
    *m = (leat_message){ 0 };
    int rc = reader_enter(r);
    return rc != 0 ? rc : reader_leave(r, reader_next(r, back != 0, m));
}

// ---- open and close

static int reader_close_child(struct lt_child *child, int64_t timeout_ms) {
    (void)timeout_ms;
    return leat_reader_close(LT_CONTAINER(child, leat_reader, child));
}

static bool reader_child_busy(const struct lt_child *child) {
    return atomic_load(&LT_CONTAINER(child, leat_reader, child)->busy);
}

int leat_reader_open(leat_topic *t, int32_t partition, int64_t offset, leat_reader **out) {
    if (!out)
        return lt_fail(LEAT_EINVAL, "reader open: out is NULL");
    *out = NULL;
    int rc = lt_enter(t ? t->mq : NULL, LT_CALL);
    if (rc == 0)
        rc = lt_topic_alive(t);
    if (rc != 0)
        return rc;
    struct lt_partition *p = lt_topic_partition(t, partition);
    rc = p ? lt_offset_resolve(p, -1, offset, &offset) : LEAT_ERANGE;
    if (rc != 0)
        return rc;
    leat_reader *r = lt_zalloc(&t->mq->mem, sizeof *r);
    if (!r)
        return lt_fail_nomem();
    r->mq = t->mq;
    r->child = (struct lt_child){
        .kind = "reader", .name = t->name, .close = reader_close_child, .busy = reader_child_busy
    };
    lt_cursor_init(&r->cursor, p, offset);
    lt_child_add(r->mq, &r->child);
    *out = r;
    return 0;
}

int leat_reader_close(leat_reader *r) {
    int rc = lt_enter(r ? r->mq : NULL, LT_CALL_SHUT);
    if (rc != 0)
        return rc;
    if (atomic_exchange_explicit(&r->busy, true, memory_order_acquire))
        return lt_fail(LEAT_EBUSY, "another thread is in a call of a reader of topic %s",
                       r->cursor.p->topic->name);
    lt_child_remove(r->mq, &r->child);
    if (r->token)
        (void)lt_pin_end(r->mq, r->token, LT_PIN_POLL);
    lt_cursor_fini(&r->cursor);
    lt_free(&r->mq->mem, r);
    return 0;
}
