/* SPDX-License-Identifier: MIT */
// retention: messages that are older, by their timestamp, than the queue's retention_ms are ended:
// EXPIRED, or moved to the dead-letter queue. Never while leased, moving or kept. At each look, and
// at the time when the oldest one expires: a timer like that of a lease.
//
// Timestamps are the sender's and come in any order, so each record is looked at once, when it is
// new (the topic rings then), and of each 4096 offsets the lowest timestamp is kept. When that is
// over, the block is looked through again. One that could not expire, being leased, is counted in
// no block; its block is `stuck`, and looked at when one comes back to it.
#include "queue/room.h"

#include <string.h>

enum { RETENTION_RETRY_MS = 1000 };

static int64_t retention_block(int64_t offset) {
    return offset / LT_AGES_BLOCK;
}

static struct lt_age *retention_age(struct lt_ages *a, int64_t block) {
    return block >= a->first && block < a->first + (int64_t)a->count ? &a->age[block - a->first]
                                                                     : NULL;
}

// Makes the age of a block, behind all others.
static struct lt_age *retention_make(leat_queue *q, struct lt_ages *a, int64_t block) {
    struct lt_age *age = retention_age(a, block);
    if (age)
        return age;
    if (a->count == 0)
        a->first = block;
    size_t need = (size_t)(block - a->first) + 1;
    if (need > a->room) {
        struct lt_age *grown = lt_resize(&q->mq->mem, a->age, 2 * need * sizeof *grown);
        if (!grown)
            return NULL;
        a->age = grown;
        a->room = 2 * need;
    }
    for (; a->count < need; a->count++)
        a->age[a->count] = (struct lt_age){ .min_ms = INT64_MAX };
    return &a->age[need - 1];
}

// Forgets the blocks in front of the head.
static void retention_forget(struct lt_ages *a, int64_t head) {
    int64_t gone = retention_block(head) - a->first;
    if (gone <= 0 || a->count == 0 || (gone < 64 && (size_t)gone < a->count))
        return;
    size_t n = (size_t)gone < a->count ? (size_t)gone : a->count;
    a->count -= n;
    a->first += (int64_t)n;
    memmove(a->age, a->age + n, a->count * sizeof *a->age);
}

void lt_retention_fini(leat_queue *q, struct lt_queue_part *part) {
    lt_free(&q->mq->mem, part->ages.age);
    part->ages = (struct lt_ages){ 0 };
}

void lt_retention_begin(leat_queue *q) {
    for (int32_t i = 0; i < q->count; i++)
        lt_retention_fini(q, lt_queue_part(q, i));
    atomic_store(&q->ages, q->set.retention_ms > 0);
    q->age_due = q->set.retention_ms > 0 ? 0 : LT_NEVER;
    lt_queue_plan(q);
}

void lt_retention_hear(leat_queue *q) {
    if (atomic_load(&q->ages) && !atomic_exchange(&q->news, true))
        lt_due_set(q->mq, &q->due, 0);
}

void lt_retention_back(leat_queue *q, const struct lt_queue_part *part, int64_t offset) {
    if (q->set.retention_ms == 0)
        return;
    struct lt_ages *a = &lt_queue_part(q, part->p->number)->ages;
    struct lt_age *age = retention_age(a, retention_block(offset));
    if (age && age->stuck) {
        age->min_ms = INT64_MIN;
        a->min_ms = INT64_MIN;
        q->age_due = 0;
    }
}

// ---- ending them

static int64_t retention_over_ms(const leat_queue *q) { // what is from here or before is over
    int64_t over;
    return __builtin_sub_overflow(lt_wall_ms(q->mq), q->set.retention_ms, &over) ? INT64_MIN : over;
}

// Ends one that is available (lease NULL) or delayed; it moves if it is to. Returns  an error, and
// nothing has changed.
static int retention_end(leat_queue *q, struct lt_queue_part *part, struct lt_segment *s,
                         int64_t offset, struct lt_lease *lease) {
    uint32_t number = (uint32_t)part->p->number;
    int rc = lt_queue_reserve(q, part, s, offset);
    if (rc != 0)
        return rc;
    struct lt_sheet *sheet = lt_ledger_find(&part->ledger, offset);
    struct lt_word word = lt_sheet_load(sheet, offset);
    bool move = q->set.dead_letter_expired && q->dead;
    if (move) // from here on a crash moves it again, and nobody gets it
        rc = lt_sheet_store_live(sheet, offset, LT_WORD_MOVING, word.deliveries, LT_MOVING_EXPIRED);
    else
        rc = lt_sheet_store_final(sheet, offset, LT_WORD_EXPIRED);
    if (rc != 0)
        return rc;
    if (lease)
        lt_queue_drop_lease(q, lease);
    else
        lt_queue_occupy(q, part, offset);
    lt_queue_trace(q, "expired", number, offset, 0);
    if (move) {
        lease = lt_leases_add(&q->leases, number, offset, LT_LEASE_MOVING, LT_LEASE_NEVER,
                              word.deliveries, LT_RECEIPT_NONE);
        (void)lt_reason_keep(q, lease, "expired"); // without memory it says another one
        lt_queue_kill(q, lease);
        return 0;
    }
    q->expired++;
    lt_queue_finished(q, part, offset);
    return 0;
}

// Ends those of a block that are over. Returns  an error that another try may not have.
static int retention_sweep(leat_queue *q, struct lt_queue_part *part, struct lt_cursor *c,
                           int64_t block) {
    struct lt_ages *a = &part->ages;
    int64_t over = retention_over_ms(q), min_ms = INT64_MAX;
    int64_t at = block * LT_AGES_BLOCK, to = at + LT_AGES_BLOCK;
    bool stuck = false;
    int rc = 0;
    at = at < part->window.head ? part->window.head : at;
    for (to = to < a->seen ? to : a->seen; at < to && rc == 0; at++) {
        int state = lt_backlog_state(&part->backlog, at);
        leat_message m;
        if (state == LT_WINDOW_FINAL)
            continue;
        lt_cursor_seek(c, at);
        int found = lt_cursor_find(c, at + 1);
        if (found != 1) {
            rc = found == LEAT_ECORRUPT ? 0 : found;
            continue;
        }
        lt_cursor_read(c, &m);
        if (m.timestamp_ms > over)
            min_ms = m.timestamp_ms < min_ms ? m.timestamp_ms : min_ms;
        else if (state == LT_WINDOW_HELD)
            stuck = true; // leased, moving or kept: those delayed have been ended
        else
            rc = retention_end(q, part, c->seg, at, NULL);
    }
    struct lt_age *age = retention_age(a, block);
    if (rc == 0)
        *age = (struct lt_age){ .min_ms = min_ms, .stuck = stuck };
    return rc;
}

// Ends those delayed in blocks that are due: they are found through their leases.
static int retention_sweep_delayed(leat_queue *q, int64_t over) {
    uint32_t walk = 0;
    struct lt_lease *lease;
    int rc = 0;
    while (q->leases.count[LT_LEASE_DELAYED] > 0 && rc == 0 &&
           (lease = lt_leases_walk(&q->leases, &walk))) {
        struct lt_queue_part *part = lt_queue_part(q, lease->partition);
        const struct lt_age *age = retention_age(&part->ages, retention_block(lease->offset));
        if (lease->state != LT_LEASE_DELAYED || !age || age->min_ms > over)
            continue;
        struct lt_cursor c;
        leat_message m;
        lt_cursor_init(&c, part->p, lease->offset);
        int found = lt_cursor_find(&c, lease->offset + 1);
        if (found == 1)
            lt_cursor_read(&c, &m);
        if (found == 1 && m.timestamp_ms <= over)
            rc = retention_end(q, part, c.seg, lease->offset, lease);
        else if (found < 0 && found != LEAT_ECORRUPT)
            rc = found;
        lt_cursor_fini(&c);
    }
    return rc;
}

// ---- looking at them

// Looks at records that are new, and asks to hear of the next one.
static int retention_see(leat_queue *q, struct lt_queue_part *part) {
    struct lt_ages *a = &part->ages;
    struct lt_cursor c;
    int rc = 0;
    if (a->seen < part->window.head)
        a->seen = part->window.head;
    lt_cursor_init(&c, part->p, a->seen);
    do {
        int64_t end = atomic_load_explicit(&part->p->end, memory_order_acquire);
        while ((rc = lt_cursor_find(&c, end)) == 1 || rc == LEAT_ECORRUPT) {
            leat_message m = { .timestamp_ms = INT64_MAX };
            if (rc == 1)
                lt_cursor_read(&c, &m);
            struct lt_age *age = retention_make(q, a, retention_block(c.offset));
            if (!age) {
                rc = LEAT_ENOMEM;
                break;
            }
            age->min_ms = m.timestamp_ms < age->min_ms ? m.timestamp_ms : age->min_ms;
            a->min_ms = m.timestamp_ms < a->min_ms ? m.timestamp_ms : a->min_ms;
            a->seen = c.offset + 1;
            if (rc == 1)
                lt_cursor_advance(&c, lt_cursor_size(&c));
            else
                lt_cursor_seek(&c, a->seen);
        }
        if (rc == 0 && a->seen < end)
            a->seen = end; // up to there a power cut took what was sent
    } while (rc == 0 && lt_partition_arm(part->p, a->seen));
    lt_cursor_fini(&c);
    return rc;
}

static int retention_sweep_part(leat_queue *q, struct lt_queue_part *part, int64_t over) {
    struct lt_ages *a = &part->ages;
    struct lt_cursor c;
    int rc = 0;
    lt_cursor_init(&c, part->p, part->window.head);
    for (size_t i = 0; i < a->count && rc == 0; i++)
        if (a->age[i].min_ms <= over)
            rc = retention_sweep(q, part, &c, a->first + (int64_t)i);
    lt_cursor_fini(&c);
    retention_forget(a, part->window.head);
    a->min_ms = INT64_MAX;
    for (size_t i = 0; i < a->count; i++)
        a->min_ms = a->age[i].min_ms < a->min_ms ? a->age[i].min_ms : a->min_ms;
    return rc;
}

// When the first one is over, as far as is known.
static int64_t retention_due(const leat_queue *q, int64_t min_ms) {
    int64_t wait_ms;
    if (min_ms == INT64_MAX)
        return LT_NEVER;
    if (__builtin_sub_overflow(min_ms, retention_over_ms(q), &wait_ms))
        return min_ms < 0 ? 0 : LT_NEVER;
    return wait_ms <= 0 ? 0 : lt_add_ms(lt_now_ns(q->mq), wait_ms);
}

void lt_retention_look(leat_queue *q) {
    atomic_store(&q->news, false); // before looking: what comes now rings again
    if (q->set.retention_ms == 0)  // by now
        return;
    int64_t over = retention_over_ms(q), min_ms = INT64_MAX;
    int rc = lt_queue_catch_up(q);
    for (int32_t i = 0; i < q->count && rc == 0; i++) {
        struct lt_ages *a = &lt_queue_part(q, i)->ages;
        lt_queue_follow(q, lt_queue_part(q, i));
        if (a->count == 0)
            a->min_ms = INT64_MAX;
        rc = retention_see(q, lt_queue_part(q, i));
        min_ms = a->min_ms < min_ms ? a->min_ms : min_ms;
    }
    if (rc == 0 && min_ms <= over) {
        for (int32_t i = 0; i < q->count && rc == 0; i++)
            rc = lt_queue_admit_all(q, lt_queue_part(q, i));
        if (rc == 0)
            rc = retention_sweep_delayed(q, over);
        min_ms = INT64_MAX;
        for (int32_t i = 0; i < q->count && rc == 0; i++) {
            struct lt_ages *a = &lt_queue_part(q, i)->ages;
            if (a->min_ms <= over)
                rc = retention_sweep_part(q, lt_queue_part(q, i), over);
            min_ms = a->min_ms < min_ms ? a->min_ms : min_ms;
        }
    }
    // What failed, for want of room or memory, is tried again.
    q->age_due =
        rc == 0 ? retention_due(q, min_ms) : lt_add_ms(lt_now_ns(q->mq), RETENTION_RETRY_MS);
}

void lt_retention_now(leat_queue *q) {
    lt_lock(q->lock);
    lt_retention_look(q);
    lt_queue_plan(q);
    bool move = !lt_list_empty(&q->moving);
    lt_unlock(q->lock);
    if (move)
        lt_queue_move(q);
}
