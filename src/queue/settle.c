/* SPDX-License-Identifier: MIT */
// settle: the steps of ack, nack, reject and extend, and what happens when time is over. Only
// reject allocates, before anything changes. The word is stored first; if that fails the lease
// stands as it was. A lease that ran out is lapsed (its message is available again) or, where the
// queue has a backoff list, lingers (its message is delayed): either way its receipt settles.
#include "queue/room.h"

// ---- shared steps. Locks: the queue's

static struct lt_queue_part *settle_part(leat_queue *q, const struct lt_lease *lease) {
    return lt_queue_part(q, lease->partition);
}

static int settle_find(leat_queue *q, uint64_t receipt, struct lt_lease **lease) {
    *lease = lt_leases_find(&q->leases, receipt);
    if (*lease && (*lease)->offset < atomic_load(&settle_part(q, *lease)->p->begin)) {
        lt_queue_follow(q, settle_part(q, *lease));
        *lease = NULL; // the record is gone
    }
    if (*lease)
        return 0;
    return lt_fail(LEAT_ESTALE, "queue %s: the receipt %llu is not valid", q->name,
                   (unsigned long long)receipt);
}

void lt_queue_tell_head(struct lt_queue_part *part) {
    int64_t head = part->window.head;
    if (!atomic_load_explicit(&part->p->topic->tells_heads, memory_order_relaxed)) {
        // Nobody waits for it until the topic is altered, and then it is there. If it moves at that
        // very moment, the place before may be seen until its next move, or retention's next look.
        atomic_store_explicit(&part->keeper.floor, head, memory_order_relaxed);
        return;
    }
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
    int held = 0;
    lt_lock(q->lock);
    bool due = q->release_due;
    q->release_due = false;
    for (int32_t i = 0; due && i < q->count; i++) {
        int64_t head = lt_queue_part(q, i)->window.head;
        lt_unlock(q->lock);
        // The head is in the words: done is done after a crash too. A failure leaves the segment
        // for the next one that is done.
        int rc = lt_partition_release(lt_queue_part(q, i)->p, head);
        lt_lock(q->lock);
        held |= rc > 0;
    }
    if (held && q->release_at == LT_NEVER) {
        q->release_at = lt_add_ms(lt_now_ns(q->mq), q->topic->dedup_window_ms);
        lt_queue_plan(q);
    }
    lt_unlock(q->lock);
}

// Stores that a message is to be delivered, delay_ms from now.
static int settle_store_live(leat_queue *q, const struct lt_lease *lease, uint32_t deliveries,
                             int64_t delay_ms) {
    struct lt_ledger *l = &settle_part(q, lease)->ledger;
    int64_t not_before = 0;
    if (delay_ms > 0 && __builtin_add_overflow(lt_wall_ms(q->mq), delay_ms, &not_before))
        not_before = INT64_MAX;
    return lt_sheet_store_live(lt_ledger_find(l, lease->offset), lease->offset, LT_WORD_LIVE,
                               deliveries, not_before);
}

// Makes a leased or lapsed message available at once.
static void settle_give_back(leat_queue *q, struct lt_lease *lease) {
    (void)lt_backlog_give_back(&settle_part(q, lease)->backlog, lease->offset);
    lt_retention_back(q, settle_part(q, lease), lease->offset);
    lt_queue_drop_lease(q, lease);
}

static bool settle_was_last_try(const leat_queue *q, const struct lt_lease *lease) {
    return q->set.deliveries_max > 0 && lease->deliveries >= q->set.deliveries_max;
}

// What the backoff list says about the delivery that ends; 0 without a list.
static int64_t settle_backoff(const leat_queue *q, const struct lt_lease *lease) {
    int32_t n = q->set.backoff_count, last = lease->deliveries < n ? lease->deliveries : n;
    return last > 0 ? q->set.backoff_ms[last - 1] : 0;
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

void lt_queue_skip(leat_queue *q, struct lt_queue_part *part, int64_t upto) {
    q->kept -= settle_let_go(q, part, upto);
    lt_backlog_skip_to(&part->backlog, upto);
    lt_queue_turns(q, part);
    lt_queue_tell_head(part);
    lt_ledger_drop_below(&part->ledger, upto, false);
}

void lt_queue_follow(leat_queue *q, struct lt_queue_part *part) {
    int64_t begin = atomic_load(&part->p->begin);
    if (begin <= part->window.head)
        return;
    lt_queue_skip(q, part, begin);
    lt_queue_trace(q, "gone", (uint32_t)part->p->number, begin, 0);
}

// ---- the four. Each stores the word first

static int settle_ack(leat_queue *q, struct lt_lease *lease) {
    struct lt_queue_part *part = settle_part(q, lease);
    int64_t offset = lease->offset;
    struct lt_sheet *sheet = lt_ledger_find(&part->ledger, offset);
    uint64_t done = lease->note ? lease->note : lt_sheet_final(sheet, offset, LT_WORD_DONE);
    int rc = lt_sheet_store(sheet, offset, done);
    if (rc != 0)
        return rc;
    lt_queue_trace(q, "ack", lease->partition, offset, 0);
    lt_queue_drop_lease(q, lease);
    lt_queue_finished(q, part, offset);
    q->done++;
    return 0;
}

static int settle_nack(leat_queue *q, struct lt_lease *lease, const struct lt_settle *s) {
    bool counted = !(s->flags & LEAT_UNCOUNTED);
    if (counted && settle_was_last_try(q, lease)) {
        lt_queue_trace(q, "nack", lease->partition, lease->offset, 0);
        settle_reclaim(q, lease);
        lt_queue_kill(q, lease);
        return 0;
    }
    int64_t delay_ms = s->ms == LEAT_BACKOFF ? settle_backoff(q, lease) : s->ms;
    uint32_t deliveries = lease->deliveries;
    if (!counted && deliveries > 0)
        deliveries--;
    // Handing it out has stored the count, and no delay.
    bool said = delay_ms == 0 && counted && !lease->lingers;
    int rc = said ? 0 : settle_store_live(q, lease, deliveries, delay_ms);
    if (rc != 0)
        return rc;
    lt_queue_trace(q, "nack", lease->partition, lease->offset, 0);
    if (delay_ms == 0) {
        settle_give_back(q, lease);
        return 0;
    }
    settle_reclaim(q, lease);
    lt_who_drop(q, lease);
    lease->deliveries = (uint16_t)deliveries;
    lt_retention_back(q, settle_part(q, lease), lease->offset);
    lt_leases_set(&q->leases, lease, LT_LEASE_DELAYED, lt_add_ms(lt_now_ns(q->mq), delay_ms));
    return 0;
}

static int settle_reject(leat_queue *q, struct lt_lease *lease, const struct lt_settle *s) {
    struct lt_ledger *l = &settle_part(q, lease)->ledger;
    int rc = lt_reason_keep(q, lease, s->reason);
    if (rc != 0)
        return rc;
    // Its count does not say that it is dead, so the word must.
    rc = lt_sheet_store_live(lt_ledger_find(l, lease->offset), lease->offset,
                             q->dead ? LT_WORD_MOVING : LT_WORD_KEPT, lease->deliveries, 0);
    if (rc != 0) {
        lt_reason_drop(q, lease);
        return rc;
    }
    lt_queue_trace(q, "reject", lease->partition, lease->offset, 0);
    settle_reclaim(q, lease);
    lt_queue_kill(q, lease);
    return 0;
}

static int settle_extend(leat_queue *q, struct lt_lease *lease, int64_t ms) {
    if (ms == 0 && settle_was_last_try(q, lease)) {
        settle_reclaim(q, lease);
        lt_queue_kill(q, lease);
        return 0;
    }
    // What is in flight when the store stops is available at the next open: the word said "later".
    int rc = lease->lingers ? settle_store_live(q, lease, lease->deliveries, 0) : 0;
    if (rc != 0)
        return rc;
    if (ms == 0) {
        settle_give_back(q, lease);
        return 0;
    }
    settle_reclaim(q, lease);
    lt_leases_set(&q->leases, lease, LT_LEASE_LEASED, lt_add_ms(lt_now_ns(q->mq), ms));
    return 0;
}

int lt_settle(leat_queue *q, uint64_t receipt, const struct lt_settle *s, uint32_t *partition) {
    struct lt_lease *lease;
    int rc = settle_find(q, receipt, &lease);
    if (rc == 0 && s->kind != LT_SETTLE_EXTEND)
        rc = lt_queue_settle_check(q);
    if (rc != 0)
        return rc;
    *partition = lease->partition;
    switch (s->kind) {
    case LT_SETTLE_ACK:
        return settle_ack(q, lease);
    case LT_SETTLE_NACK:
        return settle_nack(q, lease, s);
    case LT_SETTLE_REJECT:
        return settle_reject(q, lease, s);
    default:
        return settle_extend(q, lease, s->ms);
    }
}

// ---- time is over

// The message is available again, its receipt good until it is handed out.
static void settle_lapse(leat_queue *q, struct lt_lease *lease) {
    (void)lt_backlog_give_back(&settle_part(q, lease)->backlog, lease->offset);
    lt_retention_back(q, settle_part(q, lease), lease->offset);
    lt_lapsed_add(&q->lapsed, lease);
}

// A lease ended at `at` without a word. That the list's delay may not be stored is no reason not to
// keep it: an open would only forget it.
static void settle_expire(leat_queue *q, struct lt_lease *lease, int64_t now, int64_t at) {
    int64_t delay_ms = settle_backoff(q, lease);
    if (settle_was_last_try(q, lease)) {
        lt_queue_kill(q, lease);
        return;
    }
    int64_t due = lt_add_ms(at, delay_ms);
    if (delay_ms == 0 || due <= now) {
        settle_lapse(q, lease);
        return;
    }
    (void)settle_store_live(q, lease, lease->deliveries, (due - now + 999999) / 1000000);
    lt_leases_set(&q->leases, lease, LT_LEASE_DELAYED, due);
    lease->lingers = true;
    lt_retention_back(q, settle_part(q, lease), lease->offset);
}

static void settle_one_due(leat_queue *q, struct lt_lease *lease, int64_t now, int64_t at) {
    if (lease->state == LT_LEASE_MOVING) {
        lt_list_push_back(&q->moving, &lease->link);
        return;
    }
    lt_queue_trace(q, lease->state == LT_LEASE_LEASED ? "expire" : "due", lease->partition,
                   lease->offset, 0);
    if (lease->state == LT_LEASE_LEASED) {
        settle_expire(q, lease, now, at);
    } else if (lease->lingers) {
        lt_leases_set(&q->leases, lease, LT_LEASE_LEASED, LT_LEASE_NEVER);
        settle_lapse(q, lease);
    } else {
        settle_give_back(q, lease);
    }
}

void lt_queue_fall_due(leat *mq, struct lt_due *due) {
    leat_queue *q = LT_CONTAINER(due, leat_queue, due);
    lt_lock(q->lock);
    q->planned = LT_NEVER;
    int64_t now = lt_now_ns(mq), at;
    // A lease that ended long ago, while nobody looked, has waited since then.
    while (lt_leases_next_due(&q->leases, &at) && at <= now)
        settle_one_due(q, lt_leases_pop_due(&q->leases, now), now, at);
    for (int32_t i = 0; q->set.delay_ms > 0 && i < q->count; i++)
        if (lt_queue_part(q, i)->tail_due <= now) // who is woken looks at it
            lt_queue_part(q, i)->tail_due = LT_NEVER;
    lt_retention_look(q);
    if (q->release_at <= now) {
        q->release_at = LT_NEVER;
        q->release_due = true;
    }
    lt_queue_plan(q);
    lt_unlock(q->lock);
    lt_queue_wake(q);
    lt_queue_move(q); // and gives back what is done
}
