/* SPDX-License-Identifier: MIT */
// admit: what a record says of its order, told to the backlog. Up to the last record that says
// anything every one is looked at before one is handed out; behind it none is.
#include "queue/room.h"

int64_t lt_queue_not_before(const leat_queue *q, const uint8_t *record,
                            const struct lt_order *order) {
    if (order->delayed)
        return order->not_before_ms;
    if (q->set.delay_ms == 0)
        return INT64_MIN;
    int64_t wall = lt_wall_ms(q->mq), from = lt_record_timestamp(record), at;
    from = from < wall ? from : wall; // a time that is yet to come delays for no longer
    return __builtin_add_overflow(from, q->set.delay_ms, &at) ? INT64_MIN : at;
}

int64_t lt_queue_wait_ms(const leat_queue *q, int64_t not_before_ms) {
    if (not_before_ms == INT64_MIN)
        return 0;
    int64_t wall = lt_wall_ms(q->mq), wait;
    if (not_before_ms <= wall)
        return 0;
    bool over = __builtin_sub_overflow(not_before_ms, wall, &wait) || wait > LT_DELAY_MAX_MS;
    return over ? LT_DELAY_MAX_MS : wait; // the wall clock was set back: no delay is longer
}

int lt_queue_admit_one(leat_queue *q, struct lt_queue_part *part, int64_t offset,
                       const struct lt_order *order, int64_t not_before_ms) {
    struct lt_backlog *b = &part->backlog;
    if (order->group.data && !b->seeded)
        lt_backlog_seed(b, lt_chance_next(q->mq));
    const struct lt_admission a = { .priority = order->priority,
                                    .group = order->group.data,
                                    .group_size = order->group.size,
                                    .not_before_ms = not_before_ms };
    int rc = lt_backlog_admit(b, offset, &a);
    return rc < 0 ? lt_fail_nomem() : rc;
}

int lt_queue_lease_room(leat_queue *q) {
    int rc = lt_leases_reserve(&q->leases);
    if (rc == LEAT_EFULL)
        return lt_fail(LEAT_EFULL, "queue %s: %u messages are in flight or delayed", q->name,
                       LT_LEASE_SLOTS_MAX);
    return rc != 0 || lt_lapsed_reserve(&q->lapsed, q->leases.room) != 0 ? lt_fail_nomem() : 0;
}

// Delays a message that is held; with 1 for a generation, of long ago: no receipt is out for it.
// Returns  false if there is no lease for it.
static bool admit_delay(leat_queue *q, const struct lt_queue_part *part, int64_t offset,
                        int64_t wait_ms) {
    const struct lt_sheet *sheet = lt_ledger_find(&part->ledger, offset);
    uint32_t deliveries = sheet ? lt_sheet_load(sheet, offset).deliveries : 0;
    return lt_leases_add(&q->leases, (uint32_t)part->p->number, offset, LT_LEASE_DELAYED,
                         lt_add_ms(lt_now_ns(q->mq), wait_ms), deliveries, 1) != NULL;
}

static int admit_record(leat_queue *q, struct lt_queue_part *part, int64_t offset,
                        const uint8_t *record) {
    struct lt_order order = { .priority = LT_PRIORITY_MIDDLE };
    int64_t not_before = INT64_MIN;
    if (record) {
        (void)lt_record_order(record, &order);
        not_before = lt_queue_not_before(q, record, &order);
    }
    int64_t wait = lt_queue_wait_ms(q, not_before);
    int rc = wait > 0 ? lt_queue_lease_room(q) : 0;
    if (rc == 0)
        rc = lt_queue_admit_one(q, part, offset, &order, not_before);
    if (rc != 1)
        return rc; // it waits behind its group
    if (wait == 0 || !admit_delay(q, part, offset, wait))
        (void)lt_backlog_give_back(&part->backlog, offset);
    return 0;
}

int lt_queue_admit_to(leat_queue *q, struct lt_queue_part *part, int64_t upto) {
    struct lt_cursor c;
    int rc = 0;
    lt_cursor_init(&c, part->p, part->window.tail);
    while (rc == 0 && part->window.tail < upto) {
        int found = lt_cursor_find(&c, upto);
        bool damaged = found == LEAT_ECORRUPT; // who comes to it will be told
        if (found < 0 && !damaged) {
            rc = found;
            break;
        }
        int64_t next = found == 0 ? upto : c.offset;
        if (next > part->window.tail &&
            lt_backlog_gap(&part->backlog, part->window.tail, next) != 0)
            rc = lt_fail_nomem();
        if (rc != 0 || found == 0)
            break;
        rc = admit_record(q, part, next, damaged ? NULL : c.seg->map + c.at);
        if (damaged)
            lt_cursor_seek(&c, next + 1);
        else
            lt_cursor_advance(&c, lt_cursor_size(&c));
    }
    lt_cursor_fini(&c);
    lt_queue_tell_head(part);
    return rc;
}

int lt_queue_is_due(leat_queue *q, struct lt_queue_part *part, int64_t end, int64_t *upto) {
    const uint8_t *record = part->cursor.seg->map + part->cursor.at;
    int64_t offset = part->cursor.offset, not_before;
    bool fresh = offset == part->window.tail;
    if (fresh)
        not_before = lt_queue_not_before(q, record, &(struct lt_order){ 0 });
    else
        not_before = lt_backlog_not_before(&part->backlog, offset);
    int64_t wait = lt_queue_wait_ms(q, not_before);
    if (wait == 0)
        return 1;
    if (fresh && lt_record_timestamp(record) <= lt_wall_ms(q->mq)) { // all behind it wait, too
        part->tail_due = lt_add_ms(lt_now_ns(q->mq), wait);
        part->looked = end;
        *upto = offset;
        return 0;
    }
    // Of the future, or delayed by its record, but there was no lease for it when its turn came.
    int rc = lt_queue_lease_room(q);
    if (rc != 0)
        return rc;
    (void)lt_backlog_take(&part->backlog, offset);
    (void)admit_delay(q, part, offset, wait);
    return 0;
}

void lt_queue_take_turns(leat_queue *q, struct lt_queue_part *part) {
    int64_t offset, not_before;
    bool ready = false;
    while (lt_backlog_turn(&part->backlog, &offset, &not_before)) {
        int64_t wait = lt_queue_wait_ms(q, not_before);
        // Nothing is allocated here. Without a lease lt_queue_is_due sees to it.
        if (wait > 0 && admit_delay(q, part, offset, wait))
            continue;
        ready |= lt_backlog_give_back(&part->backlog, offset);
    }
    if (ready)
        lt_queue_wake(q);
}

int lt_queue_rejoin(leat_queue *q, struct lt_queue_part *part, int64_t offset,
                    const uint8_t *record, bool revived) {
    struct lt_backlog *b = &part->backlog;
    struct lt_order order = { .priority = LT_PRIORITY_MIDDLE };
    if (record)
        (void)lt_record_order(record, &order);
    int64_t not_before = revived || !record ? INT64_MIN : lt_queue_not_before(q, record, &order);
    if (order.group.size > 0 && !b->seeded)
        lt_backlog_seed(b, lt_chance_next(q->mq));
    // One that is available, and whose receipt is of no use any more, nobody has.
    int64_t head = lt_backlog_head_of(b, order.group.data, order.group.size);
    bool pass = head > offset && lt_backlog_state(b, head) == LT_WINDOW_AVAILABLE &&
                !lt_lapsed_find(&q->lapsed, (uint32_t)part->p->number, head);
    const struct lt_admission a = { .priority = order.priority,
                                    .group = order.group.data,
                                    .group_size = order.group.size,
                                    .not_before_ms = not_before };
    int rc = lt_backlog_rejoin(b, offset, &a, pass);
    lt_queue_turns(q, part);
    if (rc != 1)
        return rc < 0 ? lt_fail_nomem() : 0;
    int64_t wait = lt_queue_wait_ms(q, not_before);
    if (wait == 0 || !admit_delay(q, part, offset, wait))
        (void)lt_backlog_give_back(b, offset);
    return 0;
}

// Counts the offsets of from..to-1 that have no record: a power cut took them.
static uint64_t admit_missing(struct lt_partition *p, int64_t from, int64_t to) {
    int64_t missing = 0;
    for (int64_t first, past; from < to; from = past) {
        lt_partition_run(p, from, to, &first, &past);
        missing += first - from;
    }
    return (uint64_t)missing;
}

int lt_queue_lazy(const leat_queue *q, const struct lt_queue_part *part, uint64_t *ready,
                  uint64_t *delayed, bool exact) {
    int64_t end = atomic_load(&part->p->end), tail = part->window.tail, at = end;
    int rc = 0;
    if (end <= tail)
        return 0;
    if (q->set.delay_ms > 0) {
        int64_t due;
        if (!__builtin_sub_overflow(lt_wall_ms(q->mq), q->set.delay_ms - 1, &due))
            rc = lt_partition_offset_at(part->p, due, &at);
        at = rc < 0 || at > end ? end : at < tail ? tail : at;
    }
    *ready += (uint64_t)(at - tail);
    *delayed += (uint64_t)(end - at);
    if (exact) {
        *ready -= admit_missing(part->p, tail, at);
        *delayed -= admit_missing(part->p, at, end);
    }
    return rc < 0 ? rc : 0;
}
