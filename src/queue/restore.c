/* SPDX-License-Identifier: MIT */
// restore: what a queue is after an open, from its words. Leases are volatile: whatever was in
// flight is available again, with its delivery count; what had its last try is moved (again).
#include "queue/room.h"

static int restore_lease(leat_queue *q, struct lt_queue_part *part, int64_t offset, int state,
                         int64_t due_ns, uint32_t deliveries, struct lt_lease **lease) {
    if (lt_leases_reserve(&q->leases) != 0 || lt_lapsed_reserve(&q->lapsed, q->leases.room) != 0)
        return lt_fail_nomem();
    *lease = lt_leases_add(&q->leases, (uint32_t)part->p->number, offset, state, due_ns, deliveries,
                           1); // a generation of long ago: no receipt is out for it
    return 0;
}

// The wall time before which the message is not handed out, INT64_MIN: any. Its word knows better
// than its record, which counts until the first delivery.
static int64_t restore_not_before(const leat_queue *q, const struct lt_sheet *sheet,
                                  const struct lt_word *word, const uint8_t *record,
                                  const struct lt_order *order) {
    if (word->state == LT_WORD_UNTOUCHED)
        return record ? lt_queue_not_before(q, record, order) : INT64_MIN;
    int64_t due = lt_sheet_due_ms(sheet, word);
    return due == 0 ? INT64_MIN : due;
}

static bool restore_dies(const leat_queue *q, const struct lt_word *word) {
    bool last = q->set.deliveries_max > 0 && word->deliveries >= (uint32_t)q->set.deliveries_max;
    return last || word->state == LT_WORD_MOVING;
}

static int restore_live(leat_queue *q, struct lt_queue_part *part, int64_t offset,
                        const struct lt_word *word, int64_t not_before) {
    int64_t now = lt_now_ns(q->mq), wait = lt_queue_wait_ms(q, not_before);
    struct lt_lease *lease;
    if (restore_dies(q, word)) {
        int rc = restore_lease(q, part, offset, LT_LEASE_MOVING, now, word->deliveries, &lease);
        if (rc == 0 && word->state == LT_WORD_MOVING && word->not_before != 0)
            (void)lt_reason_keep(q, lease, "expired"); // without memory it says another one
        return rc;
    }
    if (wait > 0)
        return restore_lease(q, part, offset, LT_LEASE_DELAYED, lt_add_ms(now, wait),
                             word->deliveries, &lease);
    (void)lt_backlog_give_back(&part->backlog, offset);
    return 0;
}

// A message that is not over: where its record puts it, if that says its order, then as it is. A
// damaged record counts as one that says nothing: who comes to it will be told.
static int restore_open(leat_queue *q, struct lt_queue_part *part, int64_t offset,
                        const struct lt_segment *s, const struct lt_sheet *sheet,
                        const struct lt_word *word) {
    struct lt_order order = { .priority = LT_PRIORITY_MIDDLE };
    bool ordered = offset < atomic_load(&part->p->fields_end);
    const uint8_t *record = NULL;
    if (ordered || (q->set.delay_ms > 0 && word->state == LT_WORD_UNTOUCHED))
        record = lt_segment_record(s, offset);
    ordered = ordered && record && lt_record_order(record, &order);
    int64_t not_before = restore_not_before(q, sheet, word, record, &order);
    int rc = ordered ? lt_queue_admit_one(q, part, offset, &order, not_before) : 1;
    if (rc == 0 && restore_dies(q, word)) { // it is over whose turn ever it is
        (void)lt_backlog_hold(&part->backlog, offset);
        rc = 1;
    }
    return rc == 1 ? restore_live(q, part, offset, word, not_before) : rc;
}

// A message that is kept is in nobody's way, so it is of no group until it is redriven, but comes
// back with its priority.
static int restore_kept(leat_queue *q, struct lt_queue_part *part, int64_t offset,
                        const struct lt_segment *s) {
    struct lt_order order = { .priority = LT_PRIORITY_MIDDLE };
    q->kept++;
    const uint8_t *record =
        offset < atomic_load(&part->p->fields_end) ? lt_segment_record(s, offset) : NULL;
    if (!record || !lt_record_order(record, &order) || order.priority == LT_PRIORITY_MIDDLE)
        return 0; // held
    const struct lt_order alone = { .priority = order.priority };
    int rc = lt_queue_admit_one(q, part, offset, &alone, INT64_MIN);
    return rc < 0 ? rc : 0;
}

static int restore_offset(leat_queue *q, struct lt_queue_part *part, int64_t offset,
                          const struct lt_segment *s, const struct lt_sheet *sheet) {
    struct lt_word word = { 0 };
    if (sheet)
        word = lt_sheet_load(sheet, offset);
    switch (word.state) {
    case LT_WORD_DONE:
    case LT_WORD_DEAD:
    case LT_WORD_EXPIRED:
        (void)lt_window_finish(&part->window, offset);
        return 0;
    case LT_WORD_KEPT:
        return restore_kept(q, part, offset, s);
    default:
        return restore_open(q, part, offset, s, sheet, &word);
    }
}

// Reads the words of the offsets from..to-1 that are in one segment. *next: where it ends.
static int restore_segment(leat_queue *q, struct lt_queue_part *part, int64_t from, int64_t to,
                           int64_t *next) {
    int64_t first = from;
    struct lt_segment *s;
    int pinned = lt_partition_pin(part->p, from, &first, &s);
    if (pinned != 0)
        return pinned;
    if (!s || first >= to) {
        lt_segment_drop(s);
        *next = to;
        return lt_window_gap(&part->window, from, to) == 0 ? 0 : lt_fail_nomem();
    }
    int rc = first > from && lt_window_gap(&part->window, from, first) != 0 ? lt_fail_nomem() : 0;
    struct lt_sheet *sheet = NULL;
    if (rc == 0) {
        rc = lt_ledger_open(&part->ledger, s, first, false, &sheet);
        if (rc == LEAT_ENOENT) {
            rc = 0; // nothing was handed out of this segment
            sheet = NULL;
        }
    }
    int64_t end = atomic_load(&s->limit) < to ? atomic_load(&s->limit) : to;
    for (int64_t offset = first; rc == 0 && offset < end; offset++)
        rc = restore_offset(q, part, offset, s, sheet);
    lt_segment_drop(s);
    *next = end;
    return rc;
}

// Finds words that the slot does not know of, which a power cut may take back to what it was. *past
// moves behind the last one from `touched` on: it may be of a message whose record is lost, too.
// They are in the segments behind, or in the one in front, if another queue made the log go on
// already.
static int restore_behind(struct lt_queue_part *part, int64_t touched, int64_t *past) {
    struct lt_partition *p = part->p;
    lt_lock(&p->lock);
    size_t i = lt_partition_find(p, touched), n = p->count;
    lt_unlock(&p->lock);
    i = i + 2 > n ? (n > 2 ? n - 2 : 0) : i;
    for (int rc; i < n; i++) {
        lt_lock(&p->lock);
        struct lt_segment *s = p->segs[i];
        lt_segment_keep(s);
        lt_unlock(&p->lock);
        rc = lt_ledger_behind(&part->ledger, s, touched > s->base ? touched : s->base, past);
        lt_segment_drop(s);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int restore_part(leat_queue *q, struct lt_queue_part *part) {
    struct lt_slot_key key = { LT_SLOT_QUEUE, q->id, q->topic->id, (uint32_t)part->p->number };
    part->slot = lt_slot_find(&q->mq->log->slots, &key);
    int64_t head = part->slot ? part->slot->values[0] : 0;
    if (part->slot && q->owns_topic)
        lt_dedup_forget_below(part->p, part->slot->values[2]);
    // A power cut may take records that the queue is done with, and leave its head.
    int rc = lt_partition_skip_to(part->p, head, LT_GAP_LOST);
    if (rc != 0)
        return rc;
    int64_t begin = atomic_load(&part->p->begin), end = atomic_load(&part->p->end);
    int64_t touched = part->slot ? part->slot->values[1] : 0;
    head = head < begin ? begin : head > end ? end : head;
    touched = touched < head ? head : touched > end ? end : touched;
    int64_t past = 0;
    rc = restore_behind(part, touched, &past);
    if (rc != 0)
        return rc;
    if (past > touched)
        touched = past < end ? past : end;
    lt_window_init(&part->window, &q->mq->mem, head);
    if (lt_window_reserve(&part->window, touched) != 0)
        return lt_fail_nomem();
    (void)lt_window_touch_to(&part->window, touched);
    for (int64_t at = head; rc == 0 && at < touched;)
        rc = restore_segment(q, part, at, touched, &at);
    lt_queue_tell_head(part);
    // An offset that somebody has seen must not name another record.
    return rc == 0 ? lt_partition_skip_to(part->p, past, LT_GAP_LOST) : rc;
}

int lt_queue_restore_state(leat_queue *q) {
    int rc = 0;
    for (int32_t i = 0; rc == 0 && i < q->count; i++)
        rc = restore_part(q, lt_queue_part(q, i));
    lt_lock(q->lock);
    if (q->owns_topic && q->topic->dedup) // what is done may have stayed for its ids
        q->release_at = lt_add_ms(lt_now_ns(q->mq), q->topic->dedup_window_ms);
    lt_retention_begin(q);
    lt_unlock(q->lock);
    return rc;
}
