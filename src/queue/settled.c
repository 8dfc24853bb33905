/* SPDX-License-Identifier: MIT */
// settled: the public forms of settling: of one message, of many, by receipt. Each checks the call
// as a whole, then takes the queue's lock once and lets lt_settle do the steps; what follows needs
// the lock no more: wake who waits, move the dead, sync.
#include "leat_test.h"
#include "queue/room.h"

#include <string.h>

enum { SETTLED_VIEWS = 64 }; // that are ended under one lock

static const char *const settled_name[] = { "ack", "nack", "reject", "extend" };

// ---- the call as a whole

static int settled_check(const struct lt_settle *s) {
    const char *what = settled_name[s->kind];
    bool backoff = s->kind == LT_SETTLE_NACK && s->ms == LEAT_BACKOFF;
    if (!backoff && (s->ms < 0 || s->ms > LT_DELAY_MAX_MS))
        return lt_fail(LEAT_EINVAL, "%s: %lld ms; 0 to 366 days", what, (long long)s->ms);
    if (s->flags & ~(uint32_t)LEAT_UNCOUNTED)
        return lt_fail(LEAT_EINVAL, "%s: unknown flags %#x", what, s->flags);
    if (s->reason && strnlen(s->reason, LT_REASON_MAX + 1) > LT_REASON_MAX)
        return lt_fail(LEAT_EINVAL, "%s: the reason has more than %d bytes", what, LT_REASON_MAX);
    return 0;
}

// On success lt_end follows. Of a call that is refused here nothing happened.
static int settled_enter(leat_queue *q, const struct lt_settle *s, const void *m, bool needs_m) {
    int rc = lt_begin(q ? q->mq : NULL, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (needs_m && !m)
        rc = lt_fail(LEAT_EINVAL, "%s: the message is NULL", settled_name[s->kind]);
    if (rc == 0)
        rc = lt_fault(q->mq, LEAT_OP_SETTLE, q->name, -1, true);
    if (rc == 0 && s->kind != LT_SETTLE_ACK)
        rc = settled_check(s);
    if (rc != 0)
        return lt_end(q->mq, rc);
    // An ack does not look at the clock: where its lease has run out nobody else got the message.
    if (s->kind != LT_SETTLE_ACK)
        lt_due_fire(q->mq);
    return 0;
}

// Locks: the queue's.
static int settled_has_list(const leat_queue *q, const struct lt_settle *s) {
    if (s->kind != LT_SETTLE_NACK || s->ms != LEAT_BACKOFF || q->set.backoff_count > 0)
        return 0;
    return lt_fail(LEAT_EINVAL, "queue %s: nack with LEAT_BACKOFF, but it has no backoff list",
                   q->name);
}

// What does not need the lock. Locks: none.
static void settled_follow(leat_queue *q, int kind) {
    if (kind == LT_SETTLE_ACK)
        return;
    lt_queue_wake(q);
    lt_queue_move(q);
}

// ---- views: settling ends that of a message whatever else happens; that it was ended before is no
// error

// Ends those of messages that were held by leat_message_hold. Locks: none.
static void settled_end_held(leat_queue *q, const leat_message *m, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (m[i].view != 0 && !lt_pin_is_of(q->mq, q->views, m[i].view))
            (void)lt_pin_end(q->mq, m[i].view, LT_PIN_VIEW | LT_PIN_HELD);
}

// Ends those of the queue. Locks: none.
static void settled_end_views(leat_queue *q, const leat_message *m, size_t n) {
    for (size_t i = 0; i < n;) {
        struct lt_pinned *obj[SETTLED_VIEWS];
        size_t count = 0;
        lt_lock_busy(q->lock);
        for (; i < n && count < SETTLED_VIEWS; i++) {
            obj[count] = lt_pin_take_locked(q->mq, q->views, m[i].view);
            count += obj[count] != NULL;
        }
        lt_unlock(q->lock);
        while (count-- > 0)
            obj[count]->drop(obj[count]);
    }
}

// ---- one

// m: whose view ends, too; NULL: none.
static int settled_one(leat_queue *q, const leat_message *m, uint64_t receipt,
                       const struct lt_settle *s) {
    uint32_t partition = 0;
    lt_lock_busy(q->lock);
    struct lt_pinned *view = m ? lt_pin_take_locked(q->mq, q->views, m->view) : NULL;
    int rc = settled_has_list(q, s);
    if (rc == 0)
        rc = lt_settle(q, receipt, s, &partition);
    bool release = q->release_due;
    bool disk = rc == 0 && s->kind != LT_SETTLE_EXTEND && lt_queue_settles_on_disk(q);
    lt_queue_plan(q);
    lt_unlock(q->lock);
    if (view)
        view->drop(view);
    settled_follow(q, s->kind);
    if (disk)
        rc = lt_queue_settle_sync(q, partition);
    if (release || disk)
        lt_queue_release(q);
    return lt_end(q->mq, rc);
}

static int settled_message(leat_queue *q, const leat_message *m, const struct lt_settle *s) {
    bool ends = s->kind != LT_SETTLE_EXTEND && q && m && !lt_forked(q->mq);
    if (ends)
        settled_end_held(q, m, 1);
    int rc = settled_enter(q, s, m, true);
    if (rc == 0)
        return settled_one(q, ends ? m : NULL, m->receipt, s);
    if (ends)
        settled_end_views(q, m, 1);
    return rc;
}

static int settled_receipt(leat_queue *q, uint64_t receipt, const struct lt_settle *s) {
    int rc = settled_enter(q, s, NULL, false);
    return rc != 0 ? rc : settled_one(q, NULL, receipt, s);
}

int leat_queue_ack(leat_queue *q, leat_message *m) {
    return settled_message(q, m, &(struct lt_settle){ .kind = LT_SETTLE_ACK });
}

int leat_queue_nack(leat_queue *q, leat_message *m, int64_t delay_ms, uint32_t flags) {
    return settled_message(
        q, m, &(struct lt_settle){ .kind = LT_SETTLE_NACK, .flags = flags, .ms = delay_ms });
}

int leat_queue_reject(leat_queue *q, leat_message *m, const char *reason) {
    return settled_message(q, m, &(struct lt_settle){ .kind = LT_SETTLE_REJECT, .reason = reason });
}

int leat_queue_extend(leat_queue *q, const leat_message *m, int64_t ms) {
    return settled_message(q, m, &(struct lt_settle){ .kind = LT_SETTLE_EXTEND, .ms = ms });
}

int leat_queue_ack_receipt(leat_queue *q, uint64_t receipt) {
    return settled_receipt(q, receipt, &(struct lt_settle){ .kind = LT_SETTLE_ACK });
}

int leat_queue_nack_receipt(leat_queue *q, uint64_t receipt, int64_t delay_ms, uint32_t flags) {
    return settled_receipt(
        q, receipt, &(struct lt_settle){ .kind = LT_SETTLE_NACK, .flags = flags, .ms = delay_ms });
}

int leat_queue_reject_receipt(leat_queue *q, uint64_t receipt, const char *reason) {
    return settled_receipt(q, receipt,
                           &(struct lt_settle){ .kind = LT_SETTLE_REJECT, .reason = reason });
}

int leat_queue_extend_receipt(leat_queue *q, uint64_t receipt, int64_t ms) {
    return settled_receipt(q, receipt, &(struct lt_settle){ .kind = LT_SETTLE_EXTEND, .ms = ms });
}

// ---- many

// Settles each by itself. Locks: the queue's. Returns  how many were refused.
static int settled_each(leat_queue *q, const leat_message *m, size_t n, const struct lt_settle *s,
                        int *rcs) {
    int refused = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t partition;
        int rc = lt_settle(q, m[i].receipt, s, &partition);
        refused += rc != 0;
        if (rcs)
            rcs[i] = rc;
    }
    return refused;
}

static int settled_many(leat_queue *q, const leat_message *m, size_t n, const struct lt_settle *s,
                        int *rcs) {
    int rc = settled_enter(q, s, m, n > 0);
    if (rc != 0)
        return rc;
    if (n > INT32_MAX)
        return lt_end(q->mq, lt_fail(LEAT_EINVAL, "%s: %zu messages", settled_name[s->kind], n));
    lt_lock(q->lock);
    rc = settled_has_list(q, s);
    int refused = rc == 0 ? settled_each(q, m, n, s, rcs) : rc;
    bool disk = refused >= 0 && (size_t)refused < n && lt_queue_settles_on_disk(q);
    lt_queue_plan(q);
    lt_unlock(q->lock);
    if (refused >= 0) {
        settled_end_held(q, m, n);
        settled_end_views(q, m, n);
    }
    settled_follow(q, s->kind);
    if (disk && lt_queue_settle_sync_all(q) != 0) { // of which, nobody knows
        for (size_t i = 0; rcs && i < n; i++)
            rcs[i] = rcs[i] == 0 ? LEAT_EIO : rcs[i];
        refused = (int)n;
    }
    lt_queue_release(q);
    return lt_end(q->mq, refused);
}

int leat_queue_ack_many(leat_queue *q, leat_message *m, size_t n, int *rcs) {
    return settled_many(q, m, n, &(struct lt_settle){ .kind = LT_SETTLE_ACK }, rcs);
}

int leat_queue_nack_many(leat_queue *q, leat_message *m, size_t n, int64_t delay_ms, uint32_t flags,
                         int *rcs) {
    const struct lt_settle s = { .kind = LT_SETTLE_NACK, .flags = flags, .ms = delay_ms };
    return settled_many(q, m, n, &s, rcs);
}

int leat_queue_reject_many(leat_queue *q, leat_message *m, size_t n, const char *reason, int *rcs) {
    return settled_many(q, m, n, &(struct lt_settle){ .kind = LT_SETTLE_REJECT, .reason = reason },
                        rcs);
}
