/* SPDX-License-Identifier: MIT */
// peek: what is in a queue, by state, without handing it out. It changes nothing and counts
// nowhere: copies with views of their own and without a receipt. All of it is one look, under the
// queue's lock: it walks the window from where it begins, or all leases.
#include "queue/room.h"

#include <stdlib.h>

enum { PEEK_OFFSET_BITS = 53 };

struct peek {
    leat_queue *q;
    int state;
    leat_message *m;
    size_t max, count;
};

struct peek_leased { // of a lease, what is needed to sort
    int64_t offset;
    uint32_t partition, deliveries;
};

static struct lt_word peek_word(const struct lt_queue_part *part, int64_t offset) {
    const struct lt_sheet *sheet = lt_ledger_find(&part->ledger, offset);
    return sheet ? lt_sheet_load(sheet, offset) : (struct lt_word){ 0 };
}

// Copies out the message that the cursor has found. Returns  1, or an error.
static int peek_copy(struct peek *k, const struct lt_cursor *c, uint32_t deliveries) {
    leat_message *m = &k->m[k->count];
    lt_cursor_read(c, m);
    m->deliveries = (int32_t)deliveries;
    m->receipt = 0;
    lt_segment_keep(c->seg);
    int rc = lt_pin_add_locked(k->q->mq, k->q->views, LT_PIN_VIEW, &c->seg->pinned, &m->view);
    if (rc != 0) {
        lt_segment_drop(c->seg);
        return rc;
    }
    k->count++;
    return 1;
}

// Copies out one that was handed out before. Returns  1, 0 (its record is gone), or an error.
static int peek_one(struct peek *k, struct lt_cursor *c, int64_t offset, uint32_t deliveries) {
    lt_cursor_seek(c, offset);
    int found = lt_cursor_find(c, offset + 1);
    return found == 1 ? peek_copy(k, c, deliveries) : found;
}

// Those that are in the window, and then (available ones) what nobody has touched yet.
static int peek_part(struct peek *k, struct lt_queue_part *part, int64_t from) {
    const struct lt_window *w = &part->window;
    int64_t end = atomic_load_explicit(&part->p->end, memory_order_acquire);
    int rc = lt_queue_admit_all(k->q, part);
    if (rc != 0)
        return rc;
    int64_t at = from > w->head ? from : w->head;
    bool dead = k->state == LEAT_IS_DEAD;
    if (dead ? k->q->kept == 0
             : lt_backlog_available(&part->backlog) + lt_backlog_waiting(&part->backlog) == 0)
        at = at > w->tail ? at : w->tail; // nothing is there to be found
    struct lt_cursor c;
    lt_cursor_init(&c, part->p, at);
    for (; at < w->tail && k->count < k->max && rc >= 0; at++) {
        int state = lt_backlog_state(&part->backlog, at);
        bool waits = state == LT_WINDOW_AVAILABLE || state == LT_BACKLOG_WAITING;
        if (dead ? state != LT_WINDOW_HELD : !waits)
            continue;
        struct lt_word word = peek_word(part, at);
        if (!dead || word.state == LT_WORD_KEPT)
            rc = peek_one(k, &c, at, word.deliveries);
    }
    lt_cursor_seek(&c, at);
    while (!dead && k->count < k->max && rc >= 0) {
        rc = lt_cursor_find(&c, end);
        if (rc == 0)
            break;
        if (rc == 1)
            rc = peek_copy(k, &c, 0);
        lt_cursor_advance(&c, lt_cursor_size(&c));
    }
    lt_cursor_fini(&c);
    return rc;
}

static int peek_before(const void *a, const void *b) {
    const struct peek_leased *x = a, *y = b;
    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static bool peek_wants(const struct peek *k, const struct lt_lease *lease,
                       const struct peek_leased *from) {
    const struct peek_leased is = { .offset = lease->offset, .partition = lease->partition };
    bool leased = lease->state == LT_LEASE_LEASED && !lt_lapsed_has(lease);
    return (k->state == LEAT_LEASED ? leased : lease->state == LT_LEASE_DELAYED) &&
           peek_before(&is, from) >= 0;
}

// The first ones from there on, among leases that are in no order.
static int peek_leases(struct peek *k, const struct peek_leased *from) {
    leat_queue *q = k->q;
    size_t there = q->leases.count[k->state == LEAT_LEASED ? LT_LEASE_LEASED : LT_LEASE_DELAYED];
    size_t want = k->max < there ? k->max : there, found = 0;
    if (want == 0)
        return 0;
    struct peek_leased *all = lt_alloc(&q->mq->mem, 2 * want * sizeof *all);
    if (!all)
        return lt_fail_nomem();
    uint32_t walk = 0;
    const struct lt_lease *lease;
    while ((lease = lt_leases_walk(&q->leases, &walk))) {
        if (!peek_wants(k, lease, from))
            continue;
        if (found == 2 * want) { // the second half is too much
            qsort(all, found, sizeof *all, peek_before);
            found = want;
        }
        all[found++] = (struct peek_leased){ .offset = lease->offset,
                                             .partition = lease->partition,
                                             .deliveries = lease->deliveries };
    }
    qsort(all, found, sizeof *all, peek_before);
    int rc = 0;
    for (size_t i = 0; i < found && k->count < k->max && rc >= 0; i++) {
        struct lt_cursor c;
        lt_cursor_init(&c, lt_queue_part(q, all[i].partition)->p, all[i].offset);
        rc = peek_one(k, &c, all[i].offset, all[i].deliveries);
        lt_cursor_fini(&c);
    }
    lt_free(&q->mq->mem, all);
    return rc;
}

static int peek_all(struct peek *k, int64_t from) {
    leat_queue *q = k->q;
    struct peek_leased first = { .partition = (uint32_t)(from >> PEEK_OFFSET_BITS),
                                 .offset = from & ((INT64_C(1) << PEEK_OFFSET_BITS) - 1) };
    int rc = lt_queue_catch_up(q);
    for (int32_t i = 0; i < q->count; i++)
        lt_queue_follow(q, lt_queue_part(q, i));
    for (int32_t i = 0; rc == 0 && k->state == LEAT_DELAYED && i < q->count; i++)
        rc = lt_queue_admit_all(q, lt_queue_part(q, i));
    if (rc == 0 && (k->state == LEAT_LEASED || k->state == LEAT_DELAYED))
        rc = peek_leases(k, &first);
    else
        for (int32_t i = (int32_t)first.partition; i < q->count && rc >= 0; i++, first.offset = 0)
            rc = peek_part(k, lt_queue_part(q, i), first.offset);
    lt_queue_plan(q);
    return k->count > 0 ? (int)k->count : rc < 0 ? rc : 0;
}

int leat_queue_peek(leat_queue *q, int state, int64_t from, leat_message *m, size_t max) {
    int rc = lt_begin(q ? q->mq : NULL, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!m || max == 0)
        rc = lt_fail(LEAT_EINVAL, "queue %s: peek into no message", q->name);
    if (rc == 0 && (state < LEAT_AVAILABLE || state > LEAT_IS_DEAD))
        rc = lt_fail(LEAT_EINVAL, "queue %s: peek: the state is %d", q->name, state);
    if (rc == 0 && from < 0)
        rc = lt_fail(LEAT_EINVAL, "queue %s: peek from offset %lld", q->name, (long long)from);
    if (rc != 0)
        return lt_end(q->mq, rc);
    struct peek k = { .q = q, .state = state, .m = m, .max = max > INT32_MAX ? INT32_MAX : max };
    lt_queue_look(q);
    lt_lock(q->lock);
    rc = peek_all(&k, from);
    lt_unlock(q->lock);
    return lt_end(q->mq, rc);
}
