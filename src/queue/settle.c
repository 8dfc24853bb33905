/* SPDX-License-Identifier: MIT */
// settle: ack, nack, extend, and what happens when time is over. None of it allocates. The word is
// stored first; if that fails the lease stands as it was.
#include "leat_test.h"
#include "queue/room.h"

// ---- shared steps. Locks: the queue's

static struct lt_queue_part *settle_part(leat_queue *q, const struct lt_lease *lease) {
    return lt_queue_part(q, lease->partition);
}

static int settle_find(leat_queue *q, const leat_message *m, struct lt_lease **lease) {
    *lease = lt_leases_find(&q->leases, m->receipt);
    if (*lease && (*lease)->offset < atomic_load(&settle_part(q, *lease)->p->begin)) {
        lt_queue_follow(q, settle_part(q, *lease));
        *lease = NULL; // the record is gone
    }
    if (*lease)
        return 0;
    return lt_fail(LEAT_ESTALE, "queue %s: the receipt of offset %lld is not valid any more",
                   q->name, (long long)m->offset);
}

void lt_queue_tell_head(struct lt_queue_part *part) {
    int64_t head = part->window.head;
    if (!part->p->topic->keep_until_consumed)
        return;
    int64_t before = atomic_exchange(&part->keeper.floor, head);
    lt_partition_consumed(part->p, before, head);
}

void lt_queue_finished(leat_queue *q, struct lt_queue_part *part, int64_t offset) {
    int64_t before = part->window.head;
    (void)lt_backlog_finish(&part->backlog, offset);
    lt_queue_turns(q, part);
    if (part->window.head == before)
        return;
    lt_queue_tell_head(part);
    size_t sheets = part->ledger.count;
    lt_ledger_drop_below(&part->ledger, part->window.head, lt_queue_settles_on_disk(q));
    if (part->ledger.count != sheets && q->owns_topic)
        q->release_due = true;
}

void lt_queue_release(leat_queue *q) {
    lt_lock(&q->lock);
    bool due = q->release_due;
    q->release_due = false;
    for (int32_t i = 0; due && i < q->count; i++) {
        int64_t head = lt_queue_part(q, i)->window.head;
        lt_unlock(&q->lock);
        // The head is in the words: done is done after a crash too. A failure leaves the segment
        // for the next one that is done.
        (void)lt_partition_release(lt_queue_part(q, i)->p, head);
        lt_lock(&q->lock);
    }
    lt_unlock(&q->lock);
}

// Makes a leased or lapsed message available at once.
static void settle_give_back(leat_queue *q, struct lt_lease *lease) {
    (void)lt_backlog_give_back(&settle_part(q, lease)->backlog, lease->offset);
    lt_queue_drop_lease(q, lease);
}

static bool settle_was_last_try(const leat_queue *q, const struct lt_lease *lease) {
    return q->set.deliveries_max > 0 && lease->deliveries >= q->set.deliveries_max;
}

// A lapsed lease that is renewed takes its message back from those available.
static void settle_reclaim(leat_queue *q, struct lt_lease *lease) {
    if (lt_lapsed_remove(&q->lapsed, lease))
        (void)lt_backlog_hold(&settle_part(q, lease)->backlog, lease->offset);
}

// ---- what the log has given back

// Counts the messages of [head, upto) that are held without a lease, and ends the leases there.
static uint64_t settle_let_go(leat_queue *q, struct lt_queue_part *part, int64_t upto) {
    uint64_t held = 0;
    for (int64_t at = part->window.head; at < upto && at < part->window.tail; at++)
        held += lt_backlog_state(&part->backlog, at) == LT_WINDOW_HELD;
    uint32_t walk = 0;
    struct lt_lease *lease;
    while ((lease = lt_leases_walk(&q->leases, &walk))) {
        if (lease->partition != (uint32_t)part->p->number || lease->offset >= upto)
            continue;
        if (lt_backlog_state(&part->backlog, lease->offset) == LT_WINDOW_HELD)
            held--;
        bool at_work = lease->state == LT_LEASE_MOVING && lease->due_ns == LT_LEASE_NEVER &&
                       !lt_node_linked(&lease->link);
        if (!at_work)
            lt_queue_drop_lease(q, lease);
    }
    return held;
}

void lt_queue_follow(leat_queue *q, struct lt_queue_part *part) {
    int64_t begin = atomic_load(&part->p->begin);
    if (begin <= part->window.head)
        return;
    q->kept -= settle_let_go(q, part, begin);
    lt_backlog_skip_to(&part->backlog, begin);
    lt_queue_turns(q, part);
    lt_queue_tell_head(part);
    lt_ledger_drop_below(&part->ledger, begin, false);
    lt_queue_trace(q, "gone", (uint32_t)part->p->number, begin, 0);
}

// ---- the three

static int settle_ack(leat_queue *q, const leat_message *m, uint32_t *partition) {
    struct lt_lease *lease;
    int rc = settle_find(q, m, &lease);
    if (rc == 0)
        rc = lt_queue_settle_check(q);
    if (rc != 0)
        return rc;
    struct lt_queue_part *part = settle_part(q, lease);
    *partition = lease->partition;
    int64_t offset = lease->offset;
    struct lt_sheet *sheet = lt_ledger_find(&part->ledger, offset);
    rc = lt_ledger_store_final(&part->ledger, sheet, offset, LT_WORD_DONE);
    if (rc != 0)
        return rc;
    lt_queue_trace(q, "ack", lease->partition, offset, 0);
    lt_queue_drop_lease(q, lease);
    lt_queue_finished(q, part, offset);
    q->done++;
    return 0;
}

static int settle_nack(leat_queue *q, const leat_message *m, int64_t delay_ms,
                       uint32_t *partition) {
    struct lt_lease *lease;
    int rc = settle_find(q, m, &lease);
    if (rc == 0)
        rc = lt_queue_settle_check(q);
    if (rc != 0)
        return rc;
    *partition = lease->partition;
    lt_queue_trace(q, "nack", lease->partition, lease->offset, 0);
    if (settle_was_last_try(q, lease)) {
        settle_reclaim(q, lease);
        lt_queue_kill(q, lease);
        return 0;
    }
    if (delay_ms == 0) {
        settle_give_back(q, lease);
        return 0;
    }
    struct lt_queue_part *part = settle_part(q, lease);
    struct lt_sheet *sheet = lt_ledger_find(&part->ledger, lease->offset);
    int64_t not_before;
    if (__builtin_add_overflow(lt_wall_ms(q->mq), delay_ms, &not_before))
        not_before = INT64_MAX;
    rc = lt_ledger_store_live(&part->ledger, sheet, lease->offset, LT_WORD_LIVE, lease->deliveries,
                              not_before);
    if (rc != 0)
        return rc;
    settle_reclaim(q, lease);
    lt_leases_set(&q->leases, lease, LT_LEASE_DELAYED, lt_add_ms(lt_now_ns(q->mq), delay_ms));
    return 0;
}

static int settle_extend(leat_queue *q, const leat_message *m, int64_t ms) {
    struct lt_lease *lease;
    int rc = settle_find(q, m, &lease);
    if (rc != 0)
        return rc;
    if (ms == 0 && settle_was_last_try(q, lease)) {
        settle_reclaim(q, lease);
        lt_queue_kill(q, lease);
    } else if (ms == 0) {
        settle_give_back(q, lease);
    } else {
        settle_reclaim(q, lease);
        lt_leases_set(&q->leases, lease, LT_LEASE_LEASED, lt_add_ms(lt_now_ns(q->mq), ms));
    }
    return 0;
}

// ---- time is over

static void settle_one_due(leat_queue *q, struct lt_lease *lease) {
    struct lt_queue_part *part = settle_part(q, lease);
    if (lease->state == LT_LEASE_MOVING) {
        lt_list_push_back(&q->moving, &lease->link);
        return;
    }
    lt_queue_trace(q, lease->state == LT_LEASE_LEASED ? "expire" : "due", lease->partition,
                   lease->offset, 0);
    if (lease->state == LT_LEASE_DELAYED) {
        settle_give_back(q, lease);
    } else if (settle_was_last_try(q, lease)) {
        lt_queue_kill(q, lease);
    } else {
        (void)lt_backlog_give_back(&part->backlog, lease->offset);
        lt_lapsed_add(&q->lapsed, lease);
    }
}

void lt_queue_fall_due(leat *mq, struct lt_due *due) {
    leat_queue *q = LT_CONTAINER(due, leat_queue, due);
    lt_lock(&q->lock);
    q->planned = LT_NEVER;
    int64_t now = lt_now_ns(mq);
    struct lt_lease *lease;
    while ((lease = lt_leases_pop_due(&q->leases, now)))
        settle_one_due(q, lease);
    for (int32_t i = 0; q->set.delay_ms > 0 && i < q->count; i++)
        if (lt_queue_part(q, i)->tail_due <= now) // who is woken looks at it
            lt_queue_part(q, i)->tail_due = LT_NEVER;
    lt_queue_plan(q);
    lt_unlock(&q->lock);
    lt_queue_wake(q);
    lt_queue_move(q);
}

// ---- public

// On success lt_end follows.
static int settle_enter(leat_queue *q, const leat_message *m, const char *what) {
    int rc = lt_begin(q ? q->mq : NULL, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!m)
        rc = lt_fail(LEAT_EINVAL, "%s: the message is NULL", what);
    if (rc == 0)
        rc = lt_fault(q->mq, LEAT_OP_SETTLE, q->name, -1, true);
    if (rc != 0)
        return lt_end(q->mq, rc);
    lt_due_fire(q->mq);
    return 0;
}

static int settle_check_ms(const char *what, int64_t ms) {
    if (ms >= 0 && ms <= LT_DELAY_MAX_MS)
        return 0;
    return lt_fail(LEAT_EINVAL, "%s: %lld ms; 0 to 366 days", what, (long long)ms);
}

// Settling ends the view of m whatever else happens; that it was ended before is no error.
static void settle_end_view(leat_queue *q, const leat_message *m) {
    if (q && m && m->view != 0 && !lt_forked(q->mq))
        (void)lt_pin_end(q->mq, m->view, LT_PIN_VIEW | LT_PIN_HELD);
}

int leat_queue_ack(leat_queue *q, leat_message *m) {
    settle_end_view(q, m);
    int rc = settle_enter(q, m, "ack");
    if (rc != 0)
        return rc;
    uint32_t partition = 0;
    lt_lock(&q->lock);
    rc = settle_ack(q, m, &partition);
    bool release = q->release_due, disk = rc == 0 && lt_queue_settles_on_disk(q);
    lt_queue_plan(q);
    lt_unlock(&q->lock);
    if (disk)
        rc = lt_queue_settle_sync(q, partition);
    if (release || disk)
        lt_queue_release(q);
    (void)lt_end(q->mq, rc);
    return rc;
}

int leat_queue_nack(leat_queue *q, leat_message *m, int64_t delay_ms, uint32_t flags) {
    settle_end_view(q, m);
    int rc = settle_enter(q, m, "nack");
    if (rc != 0)
        return rc;
    rc = settle_check_ms("nack", delay_ms);
    if (rc == 0 && flags != 0)
        rc = lt_fail(LEAT_EINVAL, "nack: unknown flags %#x", flags);
    if (rc != 0)
        return lt_end(q->mq, rc);
    uint32_t partition = 0;
    lt_lock(&q->lock);
    rc = settle_nack(q, m, delay_ms, &partition);
    bool disk = rc == 0 && lt_queue_settles_on_disk(q);
    lt_queue_plan(q);
    lt_unlock(&q->lock);
    lt_queue_wake(q);
    lt_queue_move(q);
    return lt_end(q->mq, disk ? lt_queue_settle_sync(q, partition) : rc);
}

int leat_queue_extend(leat_queue *q, const leat_message *m, int64_t ms) {
    int rc = settle_enter(q, m, "extend");
    if (rc != 0)
        return rc;
    rc = settle_check_ms("extend", ms);
    if (rc != 0)
        return lt_end(q->mq, rc);
    lt_lock(&q->lock);
    rc = settle_extend(q, m, ms);
    lt_queue_plan(q);
    lt_unlock(&q->lock);
    lt_queue_wake(q);
    lt_queue_move(q);
    return lt_end(q->mq, rc);
}
