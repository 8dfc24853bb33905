/* SPDX-License-Identifier: MIT */
// dead: the end of a message that was delivered deliveries_max times, or rejected. With a
// dead-letter queue: append there with where it comes from, durable, then store DEAD here. A crash
// in between moves it once more; the double says the same origin. Never neither. Without one it is
// kept in place.
#include "queue/room.h"

#include <string.h>

enum { DEAD_RETRY_MIN_MS = 100, DEAD_RETRY_MAX_MS = 1000 };

// lease->note of a moving lease: bit 0: the copy is durable in the dead-letter queue; bits 1-3:
// failed tries. A copy that was appended but could not be synced is not appended again: bits 4-14
// are its partition + 1, 15-30 the end of its topic's id, 31-63 its offset.
#define DEAD_SAFE  1u
#define DEAD_TRIES 0xeu

static uint64_t dead_place(const leat_topic *t, const leat_metadata *md) {
    if (md->offset < 0 || md->offset >> 33 != 0)
        return 0; // not appended, or too far to remember: a double, then
    return ((uint64_t)md->partition + 1) << 4 | (uint64_t)(t->id & 0xffff) << 15 |
           (uint64_t)md->offset << 31;
}

static struct lt_partition *dead_placed(leat_topic *t, uint64_t view, int64_t *upto) {
    uint64_t part = view >> 4 & 0x7ff;
    *upto = (int64_t)(view >> 31) + 1;
    if (part == 0 || part > (uint64_t)t->partitions || (view >> 15 & 0xffff) != (t->id & 0xffff))
        return NULL;
    return lt_topic_part(t, (int64_t)part - 1);
}

unsigned lt_dead_tries(const struct lt_lease *lease) {
    return lease->note >> 1 & 7;
}

static void dead_retry(leat_queue *q, struct lt_lease *lease) {
    uint64_t tries = lt_dead_tries(lease);
    int64_t ms = (int64_t)DEAD_RETRY_MIN_MS << (tries < 4 ? tries : 4);
    if (ms > DEAD_RETRY_MAX_MS)
        ms = DEAD_RETRY_MAX_MS;
    if (tries < 7)
        lease->note += 2;
    lt_leases_set(&q->leases, lease, LT_LEASE_MOVING, lt_add_ms(lt_now_ns(q->mq), ms));
}

static void dead_keep(leat_queue *q, struct lt_lease *lease) {
    struct lt_queue_part *part = lt_queue_part(q, lease->partition);
    struct lt_sheet *sheet = lt_ledger_find(&part->ledger, lease->offset);
    int rc = lt_sheet_store_live(sheet, lease->offset, LT_WORD_KEPT, lease->deliveries, 0);
    if (rc != 0) {
        dead_retry(q, lease);
        return;
    }
    lt_queue_trace(q, "kept", lease->partition, lease->offset, 0);
    q->final_due = true;
    q->kept++;
    lt_backlog_leave(&part->backlog, lease->offset);
    lt_queue_drop_lease(q, lease); // the window holds the offset on
    lt_queue_turns(q, part);
}

void lt_queue_kill(leat_queue *q, struct lt_lease *lease) {
    lease->note = 0;
    lt_leases_set(&q->leases, lease, LT_LEASE_MOVING, LT_NEVER); // the receipt is stale now
    if (q->dead)
        lt_list_push_back(&q->moving, &lease->link);
    else
        dead_keep(q, lease);
}

// Appends the copy, or makes durable the one that was appended. *place: of one that is not durable
// yet. Locks: none; the lease is the caller's, being neither listed nor due.
static int dead_send(leat_queue *q, const struct lt_lease *lease, const char *reason,
                     leat_queue *to, uint64_t *place) {
    int64_t upto;
    struct lt_partition *placed = dead_placed(to->topic, lease->note, &upto);
    if (placed)
        return lt_partition_sync(placed, upto);
    leat_message m;
    struct lt_cursor c;
    struct lt_partition *p = lt_queue_part(q, lease->partition)->p;
    lt_cursor_init(&c, p, lease->offset);
    int found = lt_cursor_find(&c, lease->offset + 1);
    if (found != 1) {
        lt_cursor_fini(&c);
        return found < 0 ? found : LEAT_EGONE; // nothing is left that could be moved
    }
    lt_cursor_read(&c, &m);
    leat_bytes group = lt_record_field(c.seg->map + c.at, LT_FIELD_GROUP);
    const struct lt_letter letter = { .message = &m,
                                      .kind = "leat.queue",
                                      .who = q->name,
                                      .deliveries = lease->deliveries,
                                      .reason = reason,
                                      .to = to->topic,
                                      .where = &to->where,
                                      .group = group };
    leat_metadata md = { .offset = -1 };
    int rc = lt_letter_send(&letter, &md);
    lt_cursor_fini(&c);
    if (rc != 0)
        *place = dead_place(to->topic, &md);
    return rc;
}

// The copy is safe, or the try has failed. Locks: the queue's.
static void dead_settle(leat_queue *q, struct lt_lease *lease, int sent) {
    struct lt_queue_part *part = lt_queue_part(q, lease->partition);
    int64_t offset = lease->offset;
    lt_queue_trace(q, "dead", lease->partition, offset, sent);
    if (sent == 0)
        lease->note |= DEAD_SAFE;
    else
        q->move_error = sent;
    if (offset < part->window.head) { // given back meanwhile, see lt_queue_follow
        q->died += sent == 0;
        lt_queue_drop_lease(q, lease);
        return;
    }
    if (sent != 0 ||
        lt_sheet_store_final(lt_ledger_find(&part->ledger, offset), offset, LT_WORD_DEAD) != 0) {
        dead_retry(q, lease);
        return;
    }
    q->died++;
    q->final_due = true;
    lt_queue_drop_lease(q, lease);
    lt_queue_finished(q, part, offset);
}

void lt_queue_move(leat_queue *q) {
    struct lt_node *node;
    lt_lock(q->lock);
    while ((node = lt_list_first(&q->moving))) {
        struct lt_lease *lease = LT_CONTAINER(node, struct lt_lease, link);
        lt_list_remove(node);
        leat_queue *to = q->dead;
        if (!to) {
            dead_keep(q, lease);
            continue;
        }
        int sent = 0;
        if (!(lease->note & DEAD_SAFE)) {
            uint64_t place = 0;
            const char *reason = lt_reason_of(q, lease); // lives as long as the lease
            atomic_fetch_add(&to->guests, 1);            // so it is not deleted meanwhile
            lt_unlock(q->lock);
            sent = dead_send(q, lease, reason, to, &place);
            lt_lock(q->lock);
            atomic_fetch_sub(&to->guests, 1);
            if (place != 0) // of this try only
                lease->note = (lease->note & DEAD_TRIES) | place;
            lt_queue_follow(q, lt_queue_part(q, lease->partition));
        }
        dead_settle(q, lease, sent);
    }
    lt_queue_plan(q);
    bool disk = q->final_due && lt_queue_settles_on_disk(q);
    q->final_due = false;
    lt_unlock(q->lock);
    if (disk)
        (void)lt_queue_settle_sync_all(q); // who settles next is told
    lt_queue_release(q);
}
