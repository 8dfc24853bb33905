/* SPDX-License-Identifier: MIT */
// redrive: the dead go back to work. Those that are kept in place become available again; those in
// a dead-letter queue are moved, to the queue they came from or another one. A move is made like a
// dead letter's: appended there and durable, then DONE here; in between the message is MOVING, with
// a lease that nothing but this thread ends. A crash in between leaves both, never neither.
//
// A group goes on without those of it that are kept. One that comes back takes its place by offset:
// in front of those that wait, and of one that is available; behind one that somebody may have.
//
// Some are moved at a time: read and held under the queue's lock, appended and synced without it.
#include "leat_test.h"
#include "queue/room.h"

#include <string.h>

enum {
    REDRIVE_BATCH = 64,
    REDRIVE_LOOKS = 4096 // offsets, for as long as the queue's lock is held
};

struct redrive_one {
    struct lt_lease *lease;
    struct lt_segment *seg; // keeps the bytes of m and record
    leat_message m;
    const uint8_t *record;
    leat_queue *to; // a guest of it
    leat_metadata md;
    bool kept, sent;
};

struct redrive {
    leat_queue *dead, *to; // to NULL: each to where it came from
    bool all;              // also those available that do not say where they came from
    bool in_place;         // those kept stay
    uint64_t left, moved;  // how many may be moved still
    int refused;           // LEAT_ENOENT: a queue is gone; the text is in `gone`
    char gone[250];
    struct redrive_one one[REDRIVE_BATCH];
    size_t count;
};

// ---- finding them. Locks: the queue's

// The name of the queue that a message came from, by its provenance; false: it has none.
static bool redrive_source(const leat_message *m, char name[250]) {
    leat_header h;
    for (size_t i = (size_t)m->reserved[1]; leat_message_header(m, i, &h) == 1; i++) {
        if (h.name.size != 10 || memcmp(h.name.data, "leat.queue", 10) != 0 || h.value.size >= 250)
            continue;
        memcpy(name, h.value.data, h.value.size);
        name[h.value.size] = '\0';
        return true;
    }
    return false;
}

int lt_queue_reserve(leat_queue *q, struct lt_queue_part *part, struct lt_segment *s,
                     int64_t offset) {
    struct lt_sheet *sheet;
    if (lt_window_reserve(&part->window, offset + 1) != 0)
        return lt_fail_nomem();
    int rc = lt_leases_reserve(&q->leases);
    if (rc == LEAT_EFULL)
        return lt_fail(LEAT_EFULL, "queue %s: %u messages are in flight or delayed", q->name,
                       LT_LEASE_SLOTS_MAX);
    if (rc != 0 || lt_lapsed_reserve(&q->lapsed, q->leases.room) != 0)
        return lt_fail_nomem();
    if (!part->slot || offset >= part->slot->values[1])
        rc = lt_queue_note(q, part, offset + LT_TOUCH_AHEAD);
    return rc == 0 ? lt_ledger_open(&part->ledger, s, offset, true, &sheet) : rc;
}

void lt_queue_occupy(leat_queue *q, struct lt_queue_part *part, int64_t offset) {
    struct lt_lease *lapsed = lt_lapsed_find(&q->lapsed, (uint32_t)part->p->number, offset);
    if (lapsed)
        lt_queue_drop_lease(q, lapsed);
    if (lt_backlog_hold(&part->backlog, offset))
        return;
    int64_t at = part->window.tail; // those in front stay: nobody took them yet
    (void)lt_window_touch_to(&part->window, offset + 1);
    for (int64_t first, past; at < offset; at = past) {
        lt_partition_run(part->p, at, offset, &first, &past);
        (void)lt_backlog_gap(&part->backlog, at, first); // allocates nothing below the tail
        for (; first < past; first++)
            (void)lt_backlog_give_back(&part->backlog, first);
    }
}

// A message that is kept becomes available here, or waits for one of its group.
static int redrive_revive(leat_queue *q, struct lt_queue_part *part, struct lt_cursor *c) {
    int64_t offset = c->offset;
    const uint8_t *record = NULL;
    int rc = 0;
    if (offset < atomic_load(&part->p->fields_end)) {
        int found = lt_cursor_find(c, offset + 1);
        record = found == 1 ? c->seg->map + c->at : NULL;
        rc = found == LEAT_ECORRUPT || found > 0 ? 0 : found; // who comes to it will be told
    }
    if (rc == 0)
        rc = lt_queue_rejoin(q, part, offset, record, true);
    if (rc != 0)
        return rc;
    rc = lt_sheet_store_live(lt_ledger_find(&part->ledger, offset), offset, LT_WORD_LIVE, 0, 0);
    if (rc != 0) { // it is in nobody's way, as before
        (void)lt_backlog_hold(&part->backlog, offset);
        lt_backlog_leave(&part->backlog, offset);
        lt_queue_turns(q, part);
        return rc;
    }
    q->kept--;
    lt_retention_back(q, part, offset);
    lt_queue_trace(q, "redrive", (uint32_t)part->p->number, offset, 0);
    return 0;
}

// Enters the message that the cursor has found, if it is to be moved.
static int redrive_enter(struct redrive *r, struct lt_queue_part *part, struct lt_cursor *c,
                         bool kept) {
    leat_queue *q = r->dead;
    char source[250];
    struct redrive_one *one = &r->one[r->count];
    *one = (struct redrive_one){ .seg = c->seg, .kept = kept };
    lt_cursor_read(c, &one->m);
    one->record = c->seg->map + c->at;
    if (!kept && !r->all && !redrive_source(&one->m, source))
        return 0;
    int64_t offset = c->offset;
    int rc = lt_queue_reserve(q, part, c->seg, offset);
    if (rc != 0)
        return rc;
    struct lt_sheet *sheet = lt_ledger_find(&part->ledger, offset);
    uint32_t deliveries = lt_sheet_load(sheet, offset).deliveries;
    if (kept)
        q->kept--;
    else
        lt_queue_occupy(q, part, offset);
    one->lease = lt_leases_add(&q->leases, (uint32_t)part->p->number, offset, LT_LEASE_MOVING,
                               LT_LEASE_NEVER, deliveries, LT_RECEIPT_NONE);
    lt_segment_keep(c->seg);
    r->count++;
    r->left--;
    return 0;
}

// Looks at one offset in front of the end.
static int redrive_look(struct redrive *r, struct lt_queue_part *part, struct lt_cursor *c) {
    leat_queue *q = r->dead;
    int state = lt_backlog_state(&part->backlog, c->offset);
    bool kept = false;
    if (state == LT_WINDOW_HELD) {
        const struct lt_sheet *sheet = lt_ledger_find(&part->ledger, c->offset);
        kept = sheet && lt_sheet_load(sheet, c->offset).state == LT_WORD_KEPT;
    }
    if (kept && r->in_place) {
        int rc = redrive_revive(q, part, c);
        r->moved += rc == 0;
        r->left -= rc == 0;
        return rc;
    }
    bool available =
        state == LT_WINDOW_AVAILABLE || state == LT_WINDOW_NEW || state == LT_BACKLOG_WAITING;
    if (!kept && (!available || (r->in_place && r->to)))
        return 0;
    int found = lt_cursor_find(c, c->offset + 1);
    return found == 1 ? redrive_enter(r, part, c, kept) : found;
}

// Fills the batch from *at on, which it moves.
static int redrive_fill(struct redrive *r, struct lt_queue_part *part, int64_t *at, int64_t end) {
    struct lt_cursor c;
    int rc = 0;
    lt_queue_follow(r->dead, part);
    rc = lt_queue_admit_all(r->dead, part);
    *at = *at < part->window.head ? part->window.head : *at;
    lt_cursor_init(&c, part->p, *at);
    if (end > *at + REDRIVE_LOOKS)
        end = *at + REDRIVE_LOOKS;
    for (; *at < end && r->count < REDRIVE_BATCH && r->left > 0 && rc == 0; *at += rc == 0) {
        lt_cursor_seek(&c, *at);
        rc = redrive_look(r, part, &c);
    }
    lt_cursor_fini(&c);
    return rc;
}

// ---- moving them. Locks: none

// Finds where it goes, and sees to it that this is not deleted meanwhile.
static void redrive_aim(struct redrive *r, struct redrive_one *one) {
    leat *mq = r->dead->mq;
    char source[250];
    one->to = r->to;
    if (one->to || !redrive_source(&one->m, source))
        return;
    lt_lock(&mq->log->admin);
    leat_queue *to = lt_queue_find(mq, source);
    if (to == r->dead)
        to = NULL;
    if (to)
        atomic_fetch_add(&to->guests, 1);
    lt_unlock(&mq->log->admin);
    one->to = to;
    if (!to && r->refused == 0) {
        r->refused = LEAT_ENOENT;
        memcpy(r->gone, source, sizeof source);
    }
}

static int redrive_send(struct redrive_one *one) {
    leat_header own[LT_HEADERS_MAX];
    size_t count = (size_t)one->m.reserved[1]; // without provenance
    for (size_t i = 0; i < count && i < LT_HEADERS_MAX; i++)
        (void)leat_message_header(&one->m, i, &own[i]);
    leat_record record = { .key = one->m.key,
                           .value = one->m.value,
                           .headers = own,
                           .header_count = count,
                           .group = lt_record_field(one->record, LT_FIELD_GROUP) };
    struct lt_send s = { .topic = one->to->topic,
                         .record = &record,
                         .acks = LEAT_ACKS_LOG, // one sync for all of them follows
                         .where = &one->to->where };
    int rc = lt_send_record(&s, &one->md);
    one->sent = rc == 0;
    return rc;
}

// Sends the batch and makes it durable. Those that did not come so far are not `sent`.
static int redrive_move(struct redrive *r) {
    int first = 0;
    for (size_t i = 0; i < r->count; i++) {
        struct redrive_one *one = &r->one[i];
        redrive_aim(r, one);
        if (one->to && first == 0)
            first = redrive_send(one);
    }
    for (size_t i = r->count; i-- > 0;) { // the last one of a partition syncs for those before it
        struct redrive_one *one = &r->one[i];
        int rc = 0;
        if (one->sent)
            rc = lt_partition_sync(lt_topic_part(one->to->topic, one->md.partition),
                                   one->md.offset + 1);
        one->sent &= rc == 0;
        first = first ? first : rc;
        if (one->to && !r->to)
            atomic_fetch_sub(&one->to->guests, 1);
    }
    return first;
}

// Ends what was moved, gives back what was not. Locks: the queue's.
static int redrive_settle(struct redrive *r, struct redrive_one *one) {
    leat_queue *q = r->dead;
    struct lt_queue_part *part = lt_queue_part(q, one->lease->partition);
    int64_t offset = one->lease->offset;
    int rc = 0;
    lt_queue_follow(q, part);
    if (offset >= part->window.head) { // else it was given back, or purged, meanwhile
        if (one->sent)
            rc = lt_sheet_store_final(lt_ledger_find(&part->ledger, offset), offset, LT_WORD_DONE);
        if (!one->sent || rc != 0) {
            if (one->kept)
                q->kept++;
            else if (lt_queue_rejoin(q, part, offset, one->record, false) != 0)
                (void)lt_backlog_give_back(&part->backlog, offset); // rather than not at all
            lt_retention_back(q, part, offset);
            lt_queue_drop_lease(q, one->lease);
            return rc;
        }
    }
    lt_queue_trace(q, "redrive", one->lease->partition, offset, 0);
    lt_queue_drop_lease(q, one->lease);
    if (offset >= part->window.head)
        lt_queue_finished(q, part, offset);
    r->moved += one->sent;
    q->done += one->sent;
    return 0;
}

// Returns  the first error but that a queue is gone: the others may have gone on.
static int redrive_batch(struct redrive *r, int32_t partition, int64_t *at, int64_t end) {
    leat_queue *q = r->dead;
    r->count = 0;
    lt_lock(q->lock);
    int first = redrive_fill(r, lt_queue_part(q, partition), at, end);
    lt_unlock(q->lock);
    int rc = redrive_move(r);
    first = first ? first : rc;
    lt_lock(q->lock);
    for (size_t i = 0; i < r->count; i++) {
        struct redrive_one *one = &r->one[i];
        rc = redrive_settle(r, one);
        first = first ? first : rc;
        if (!one->sent && r->left != UINT64_MAX)
            r->left++; // of the limit, it used nothing
    }
    lt_queue_plan(q);
    lt_unlock(q->lock);
    for (size_t i = 0; i < r->count; i++)
        lt_segment_drop(r->one[i].seg);
    return first;
}

static int redrive_all(struct redrive *r) {
    leat_queue *q = r->dead;
    lt_lock(q->lock);
    int rc = lt_queue_catch_up(q);
    int32_t count = q->count;
    lt_unlock(q->lock);
    for (int32_t i = 0; i < count && rc == 0; i++) {
        int64_t at = 0, end = atomic_load(&lt_queue_part(q, i)->p->end);
        while (at < end && r->left > 0 && rc == 0)
            rc = redrive_batch(r, i, &at, end);
    }
    if (lt_queue_settles_on_disk(q))
        lt_queue_settle_sync_all(q);
    lt_queue_release(q);
    lt_queue_wake(q);
    if (rc == 0 && r->refused != 0)
        rc = lt_fail(LEAT_ENOENT, "queue %s: queue %s, where messages came from, does not exist",
                     q->name, r->gone);
    return rc;
}

// ---- public

// Is it the dead-letter queue of another one?
static bool redrive_is_target(leat_queue *q) {
    struct lt_list *all = &q->mq->queues->all;
    bool is = false;
    lt_lock(&q->mq->log->admin);
    for (struct lt_node *n = lt_list_first(all); n; n = lt_list_next(all, n))
        is |= LT_CONTAINER(n, leat_queue, node)->dead == q;
    lt_unlock(&q->mq->log->admin);
    return is;
}

static int redrive_begin(struct redrive *r, leat_queue *dead, leat_queue *to) {
    bool is_target = redrive_is_target(dead);
    if (to && to->mq != dead->mq)
        return lt_fail(LEAT_EINVAL, "queue %s: redrive to a queue of another store", dead->name);
    if (to == dead && is_target)
        return lt_fail(LEAT_EINVAL, "queue %s: redrive of dead letters to where they are",
                       dead->name);
    int rc = lt_fault(dead->mq, LEAT_OP_SETTLE, dead->name, -1, true);
    r->dead = dead;
    r->to = to;
    r->all = to && is_target;
    r->in_place = !to || to == dead;
    return rc;
}

int leat_queue_redrive(leat_queue *dead, leat_queue *to, uint64_t limit, uint64_t *moved) {
    uint64_t own = 0;
    moved = moved ? moved : &own;
    *moved = 0;
    int rc = lt_begin(dead ? dead->mq : NULL, LT_CALL);
    if (rc != 0)
        return rc;
    leat *mq = dead->mq;
    struct redrive *r = lt_zalloc(&mq->mem, sizeof *r);
    if (!r)
        return lt_end(mq, lt_fail_nomem());
    r->left = limit ? limit : UINT64_MAX;
    rc = redrive_begin(r, dead, to);
    if (rc == 0) {
        lt_queue_look(dead);
        rc = redrive_all(r);
    }
    *moved = r->moved;
    lt_free(&mq->mem, r);
    return lt_end(mq, rc);
}
