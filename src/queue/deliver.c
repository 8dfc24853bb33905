/* SPDX-License-Identifier: MIT */
// deliver: receive. The happy path: the window names the lowest offset to hand out, the cursor
// finds its record, the word takes the delivery count, a lease and a view are made. A receive that
// finds nothing, or no more than one message for each in line, joins the line; of those in it only
// the first looks, and whoever leaves wakes the next.
#include "leat_test.h"
#include "queue/room.h"

enum { DELIVER_GENERATIONS = 4096, DELIVER_GENERATION_BLOCK = 1 << 24 };

#define DELIVER_LONG_MS 10000 // a thousand times what lt_ahead_ns may be ahead

// What a receive was asked for.
struct deliver_ask {
    leat_message *m;
    size_t max;
    const leat_receive_options *o; // not NULL
    uint64_t wakeups;              // when it began
    const atomic_bool *quit;       // NULL, or ends it
};

static const leat_receive_options deliver_defaults;

struct deliver_call {
    struct lt_waiter waiter;
    struct lt_node node; // in the queue's line
};

// ---- receipts

// Draws a block of generations that no receipt ever had, of this run or an earlier one.
static int deliver_draw(leat_queue *q) {
    leat *mq = q->mq;
    struct lt_queues *qs = mq->queues;
    const struct lt_slot_key key = { LT_SLOT_RECEIPTS, 0, 0, 0 };
    int rc = 0;
    lt_lock(&qs->lock);
    if (qs->next + DELIVER_GENERATIONS > qs->limit) {
        const int64_t values[4] = { (int64_t)(qs->limit + DELIVER_GENERATION_BLOCK) };
        rc = qs->slot ? 0 : lt_slot_take(&mq->log->slots, &key, &qs->slot);
        if (rc == 0)
            rc = lt_slot_store(&mq->log->slots, qs->slot, values);
        if (rc == 0) {
            qs->limit += DELIVER_GENERATION_BLOCK;
            atomic_store_explicit(&qs->owed, mq->log->slots.fd >= 0, memory_order_relaxed);
        }
    }
    if (rc == 0) {
        q->generation = qs->next;
        qs->next += DELIVER_GENERATIONS;
        q->generation_end = qs->next;
    }
    lt_unlock(&qs->lock);
    return rc;
}

// Before a receipt of a new block leaves the library the slot is on disk: after a power cut it
// would be handed out a second time, and who has the first one could settle another's message. That
// is one sync for each run, and each 2^24 receipts. One that fails poisons the store, which says
// so.
static void deliver_keep_block(leat_queue *q) {
    struct lt_queues *qs = q->mq->queues;
    lt_lock(&qs->lock);
    uint64_t limit = qs->limit;
    lt_unlock(&qs->lock);
    if (lt_slots_sync(&q->mq->log->slots) != 0)
        return;
    lt_lock(&qs->lock);
    if (qs->limit == limit)
        atomic_store_explicit(&qs->owed, false, memory_order_relaxed);
    lt_unlock(&qs->lock);
}

static uint64_t deliver_generation(leat_queue *q) {
    uint64_t g = q->generation++ & LT_LEASE_GENERATION_MAX;
    return g ? g : 1;
}

// ---- handing out one message

int lt_queue_note(leat_queue *q, struct lt_queue_part *part, int64_t touched) {
    struct lt_slots *slots = &q->mq->log->slots;
    int rc = 0;
    if (!part->slot) {
        struct lt_slot_key key = { LT_SLOT_QUEUE, q->id, q->topic->id, (uint32_t)part->p->number };
        rc = lt_slot_take(slots, &key, &part->slot);
    }
    const int64_t values[4] = { part->window.head, touched,
                                part->slot ? part->slot->values[2] : 0 };
    return rc == 0 ? lt_slot_store(slots, part->slot, values) : rc;
}

// Gets everything that handing out `offset` can want for: nothing can fail for want of room later.
static int deliver_reserve(leat_queue *q, struct lt_queue_part *part, int64_t offset) {
    if (lt_window_reserve(&part->window, offset + 1) != 0)
        return lt_fail_nomem();
    int rc = lt_queue_lease_room(q);
    if (rc != 0)
        return rc;
    if (q->generation == q->generation_end) {
        rc = deliver_draw(q);
        if (rc != 0)
            return rc;
    }
    if (!part->slot || offset >= part->slot->values[1])
        return lt_queue_note(q, part, offset + LT_TOUCH_AHEAD);
    return 0;
}

static int deliver_view(leat_queue *q, const struct lt_queue_part *part, leat_message *m) {
    struct lt_segment *s = part->cursor.seg;
    lt_segment_keep(s);
    int rc = lt_pin_add_locked(q->mq, q->views, LT_PIN_VIEW, &s->pinned, &m->view);
    if (rc != 0)
        lt_segment_drop(s);
    return rc;
}

// Takes a message out of the window and ends the receipt that may still be good for it.
static void deliver_take(leat_queue *q, struct lt_queue_part *part, int64_t offset) {
    struct lt_lease *lapsed = lt_lapsed_find(&q->lapsed, (uint32_t)part->p->number, offset);
    if (lapsed)
        lt_queue_drop_lease(q, lapsed); // its receipt is stale from here on
    (void)lt_backlog_take(&part->backlog, offset);
}

// The message had its last try before deliveries_max was lowered: it dies instead. Room for the
// lease was reserved.
static void deliver_bury(leat_queue *q, struct lt_queue_part *part, uint32_t deliveries) {
    int64_t offset = part->cursor.offset;
    deliver_take(q, part, offset);
    lt_queue_kill(q, lt_leases_add(&q->leases, (uint32_t)part->p->number, offset, LT_LEASE_MOVING,
                                   LT_LEASE_NEVER, deliveries, deliver_generation(q)));
}

// Hands out the record that the cursor found. Nothing has changed if it fails.
// Returns  1, 0 (it is dead, the next one may do), or an error.
static int deliver_record(leat_queue *q, struct lt_queue_part *part, int64_t due, leat_message *m) {
    int64_t offset = part->cursor.offset;
    struct lt_sheet *sheet;
    int rc = deliver_reserve(q, part, offset);
    if (rc == 0)
        rc = lt_ledger_open(&part->ledger, part->cursor.seg, offset, true, &sheet);
    if (rc != 0)
        return rc;
    struct lt_word word = lt_sheet_load(sheet, offset);
    if (word.state == LT_WORD_MOVING ||
        (q->set.deliveries_max > 0 && word.deliveries >= (uint32_t)q->set.deliveries_max)) {
        deliver_bury(q, part, word.deliveries);
        return 0;
    }
    uint32_t deliveries =
        word.deliveries < LT_WORD_DELIVERIES_MAX ? word.deliveries + 1 : LT_WORD_DELIVERIES_MAX;
    lt_cursor_read(&part->cursor, m);
    rc = deliver_view(q, part, m);
    if (rc != 0)
        return rc;
    rc = lt_sheet_store_live(sheet, offset, LT_WORD_LIVE, deliveries, 0);
    if (rc != 0) {
        (void)lt_pin_take_locked(q->mq, q->views, m->view);
        lt_segment_drop(part->cursor.seg); // not the last one: the cursor has its own
        return rc;
    }
    uint32_t number = (uint32_t)part->p->number;
    deliver_take(q, part, offset);
    struct lt_lease *lease = lt_leases_add(&q->leases, number, offset, LT_LEASE_LEASED, due,
                                           deliveries, deliver_generation(q));
    // While the caller is at work with the message this is done: an ack would have to wait for it.
    lease->note = lt_sheet_final(sheet, offset, LT_WORD_DONE);
    q->received++;
    m->deliveries = (int32_t)deliveries;
    m->receipt = lt_lease_receipt(lease);
    lt_queue_trace(q, "receive", number, offset, 0);
    return 1;
}

// Hands out the next message of one partition.
// Returns  1, 0 (none), or an error.
static int deliver_from(leat_queue *q, struct lt_queue_part *part, int64_t due, leat_message *m) {
    int64_t end = atomic_load_explicit(&part->p->end, memory_order_acquire);
    lt_queue_follow(q, part);
    int64_t upto = end;
    int rc = lt_queue_admit(q, part, end);
    if (rc != 0)
        return rc;
    for (;;) {
        int64_t offset = lt_backlog_peek(&part->backlog, upto);
        if (offset == LT_WINDOW_NO_ROOM) {
            if (lt_window_reserve(&part->window, part->window.tail + 1) != 0)
                return lt_fail_nomem();
            continue;
        }
        if (offset < 0)
            return 0;
        lt_cursor_seek(&part->cursor, offset);
        int found = lt_cursor_find(&part->cursor, end);
        if (found < 0)
            return found;
        if (found && part->cursor.offset == offset) {
            bool plain = q->set.delay_ms == 0 && !part->backlog.planes;
            rc = plain ? 1 : lt_queue_is_due(q, part, end, &upto);
            if (rc == 1)
                rc = deliver_record(q, part, due, m);
            if (rc != 0)
                return rc;
            continue;
        }
        // The log has no such offset: it was given back, or the next one is further on, a gap.
        lt_queue_follow(q, part);
        if (part->window.head > offset)
            continue;
        if (lt_backlog_gap(&part->backlog, offset, found ? part->cursor.offset : end) != 0)
            return lt_fail_nomem();
        lt_queue_turns(q, part);
        lt_queue_tell_head(part);
    }
}

static int deliver_some(leat_queue *q, int64_t due, leat_message *m, size_t max) {
    size_t n = 0;
    int32_t idle = 0; // partitions in a row that had nothing
    int rc = lt_queue_catch_up(q);
    while (n < max && idle < q->count && rc >= 0) {
        if (lt_queue_leased(q) >= (uint64_t)q->set.in_flight_max) {
            rc = lt_fail(LEAT_EFULL, "queue %s: in_flight_max is %lld", q->name,
                         (long long)q->set.in_flight_max);
            break;
        }
        rc = deliver_from(q, lt_queue_part(q, q->turn), due, &m[n]);
        q->turn = q->turn + 1 < q->count ? q->turn + 1 : 0;
        idle = rc == 1 ? 0 : idle + 1;
        n += rc == 1;
    }
    lt_queue_plan(q);
    return n > 0 ? (int)n : rc;
}

// When the leases of a receive end. One of long ends some milliseconds after its time, so that the
// clock need not be read exactly.
static int64_t deliver_due(const leat_queue *q, const struct deliver_ask *ask) {
    int64_t own = ask->o->visibility_timeout_ms, ms = own > 0 ? own : q->set.visibility_ms;
    return lt_add_ms(ms < DELIVER_LONG_MS ? lt_now_ns(q->mq) : lt_ahead_ns(q->mq), ms);
}

// Leaves as many messages as `others`, who came first and wait for one each.
static int deliver_look(leat_queue *q, const struct deliver_ask *ask, size_t others) {
    leat_message *m = ask->m;
    size_t max = ask->max;
    lt_queue_look(q);
    lt_lock_busy(q->lock);
    int who = ask->o->who ? lt_who_find(q, ask->o->who) : 0;
    if (who < 0) {
        lt_unlock(q->lock);
        return who;
    }
    if (others > 0) {
        uint64_t there = lt_queue_available(q), left = there > others ? there - others : 0;
        max = max < left ? max : (size_t)left;
    }
    int rc = max > 0 && !q->set.paused ? deliver_some(q, deliver_due(q, ask), m, max) : 0;
    for (int i = 0; i < rc && who > 0; i++)
        lt_who_set(q, lt_leases_find(&q->leases, m[i].receipt), who);
    bool move = !lt_list_empty(&q->moving);
    lt_unlock(q->lock);
    if (move)
        lt_queue_move(q);
    if (rc > 0 && atomic_load_explicit(&q->mq->queues->owed, memory_order_relaxed))
        deliver_keep_block(q);
    return rc;
}

// ---- the line of blocked receives

static void deliver_wake_first(leat_queue *q) {
    lt_lock(&q->line_lock);
    struct lt_node *first = lt_list_first(&q->line);
    if (first)
        lt_waiter_notify(q->mq, &LT_CONTAINER(first, struct deliver_call, node)->waiter);
    lt_unlock(&q->line_lock);
}

void lt_queue_wake(leat_queue *q) {
    lt_beacon_raise(&q->beacon);
    deliver_wake_first(q);
}

static bool deliver_is_first(leat_queue *q, const struct deliver_call *call) {
    lt_lock(&q->line_lock);
    bool first = lt_list_first(&q->line) == &call->node;
    lt_unlock(&q->line_lock);
    return first;
}

// Behind it there is news: a tail that waits for its time is none.
static int64_t deliver_seen(const struct lt_queue_part *part) {
    return part->looked > part->window.tail ? part->looked : part->window.tail;
}

// Asks every partition to ring at its next append. Returns true if one has news already.
static bool deliver_arm(leat_queue *q) {
    lt_lock(q->lock);
    bool there = lt_queue_catch_up(q) != 0; // then the look says so
    // One that is paused has no news but that it is not any more.
    for (int32_t i = 0; i < q->count && !q->set.paused; i++)
        there |= lt_partition_arm(lt_queue_part(q, i)->p, deliver_seen(lt_queue_part(q, i)));
    lt_unlock(q->lock);
    return there;
}

// The descriptor goes dark, unless something came meanwhile.
static void deliver_rest(leat_queue *q) {
    if (!lt_beacon_asked(&q->beacon))
        return;
    lt_beacon_lower(&q->beacon);
    bool there = deliver_arm(q);
    lt_lock(q->lock);
    there |= !q->set.paused && lt_queue_available(q) > 0;
    lt_unlock(q->lock);
    if (there || atomic_load(&q->mq->shut))
        lt_beacon_raise(&q->beacon);
}

static int deliver_in_line(leat_queue *q, struct deliver_call *call, int64_t deadline,
                           const struct deliver_ask *ask) {
    for (;;) {
        lt_waiter_arm(q->mq, &call->waiter);
        if (atomic_load(&q->wakeups) != ask->wakeups || (ask->quit && atomic_load(ask->quit)))
            return 0;
        if (deliver_is_first(q, call)) {
            bool news = deliver_arm(q);
            int rc = deliver_look(q, ask, 0);
            if (rc != 0)
                return rc;
            if (news)
                continue; // somebody took it; arm again, at the new tail
        }
        int rc = lt_wait(q->mq, &call->waiter, deadline);
        if (rc != 0)
            return rc == LEAT_ETIMEDOUT ? 0 : rc;
    }
}

static int deliver_wait(leat_queue *q, int64_t timeout_ms, const struct deliver_ask *ask) {
    struct deliver_call call;
    int rc = lt_waiter_init(q->mq, &call.waiter);
    if (rc != 0)
        return rc;
    atomic_int *in_line = ask->quit ? &q->hands : &q->waiting;
    atomic_fetch_add(in_line, 1);
    lt_lock(&q->line_lock);
    lt_list_push_back(&q->line, &call.node);
    lt_unlock(&q->line_lock);
    rc = deliver_in_line(q, &call, lt_add_ms(lt_now_ns(q->mq), timeout_ms), ask);
    if (rc == 0)
        deliver_rest(q);
    lt_lock(&q->line_lock);
    lt_list_remove(&call.node);
    lt_unlock(&q->line_lock);
    deliver_wake_first(q); // the news may have been for the next one
    lt_waiter_fini(q->mq, &call.waiter);
    atomic_fetch_sub(in_line, 1); // from here on the queue may be closed, and the store
    return rc;
}

// Takes what is there beyond what those in line will get: were they alone served while somebody is
// in line, every message would wait for a wake-up as soon as there was none once.
static int deliver_at_once(leat_queue *q, const struct deliver_ask *ask) {
    int others = atomic_load(&q->waiting) + atomic_load(&q->hands);
    return deliver_look(q, ask, others > 0 ? (size_t)others : 0);
}

static int deliver_check_options(const leat_queue *q, const leat_receive_options *o) {
    int64_t ms = o->visibility_timeout_ms;
    if (ms < 0 || ms > LT_DELAY_MAX_MS)
        return lt_fail(LEAT_EINVAL, "queue %s: visibility_timeout_ms is %lld; up to 366 days",
                       q->name, (long long)ms);
    return lt_check_reserved("receive options", o->reserved, 2);
}

static int deliver_receive(leat_queue *q, int64_t timeout_ms, struct deliver_ask *ask) {
    int rc = lt_check_timeout(timeout_ms);
    if (rc == 0 && (!ask->m || ask->max == 0))
        rc = lt_fail(LEAT_EINVAL, "queue %s: receive into no message", q->name);
    if (rc == 0 && ask->o != &deliver_defaults)
        rc = deliver_check_options(q, ask->o);
    if (rc == 0)
        rc = lt_fault(q->mq, LEAT_OP_RECEIVE, q->name, -1, true);
    if (rc != 0)
        return rc;
    if (ask->max > INT32_MAX)
        ask->max = INT32_MAX;
    if (timeout_ms == 0) {
        rc = deliver_look(q, ask, 0);
        if (rc == 0)
            deliver_rest(q);
        return rc;
    }
    ask->wakeups = atomic_load(&q->wakeups);
    rc = deliver_at_once(q, ask);
    if (rc == 0) {
        lt_back_off(q->mq);
        rc = deliver_at_once(q, ask);
    }
    return rc != 0 ? rc : deliver_wait(q, timeout_ms, ask);
}

int leat_queue_receive_with(leat_queue *q, int64_t timeout_ms, const leat_receive_options *o,
                            leat_message *m, size_t max) {
    struct deliver_ask ask = { .m = m, .max = max, .o = o ? o : &deliver_defaults };
    leat *mq = q ? q->mq : NULL;
    int rc = lt_begin(mq, LT_CALL);
    if (rc != 0)
        return rc;
    bool counted = lt_counts(mq); // when nobody waits any more another thread may close all
    rc = deliver_receive(q, timeout_ms, &ask);
    return counted ? lt_end_counted(mq, rc) : rc;
}

int leat_queue_receive(leat_queue *q, int64_t timeout_ms, leat_message *m, size_t max) {
    return leat_queue_receive_with(q, timeout_ms, NULL, m, max);
}

int lt_queue_receive_until(leat_queue *q, const atomic_bool *quit, leat_message *m) {
    struct deliver_ask ask = { .m = m, .max = 1, .o = &deliver_defaults, .quit = quit };
    int rc = lt_begin(q->mq, LT_CALL);
    return rc != 0 ? rc : lt_end(q->mq, deliver_receive(q, LEAT_FOREVER, &ask));
}

void lt_queue_wake_all(leat_queue *q) {
    lt_lock(&q->line_lock);
    for (struct lt_node *n = lt_list_first(&q->line); n; n = lt_list_next(&q->line, n))
        lt_waiter_notify(q->mq, &LT_CONTAINER(n, struct deliver_call, node)->waiter);
    lt_unlock(&q->line_lock);
}

int leat_queue_wakeup(leat_queue *q) {
    int rc = lt_enter(q ? q->mq : NULL, LT_CALL_CB);
    if (rc != 0)
        return rc;
    atomic_fetch_add(&q->wakeups, 1);
    lt_queue_wake_all(q);
    return 0;
}

int leat_queue_fd(leat_queue *q) {
    int rc = lt_enter(q ? q->mq : NULL, LT_CALL_CB);
    return rc != 0 ? rc : lt_beacon_open(&q->beacon, "leat_queue_fd");
}
