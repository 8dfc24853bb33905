/* SPDX-License-Identifier: MIT */
#include "leat_test.h"
#include "log/producer.h"

#include "base/bytes.h"

#include <stdio.h>
#include <string.h>

enum { OUTBOX_ENTRIES = 64, OUTBOX_PASSES = 4 };
#define OUTBOX_BACKOFF_MAX INT64_C(1000) // ms
#define OUTBOX_NAP         50000         // ns

// ---- parcels

struct lt_parcel *lt_parcel_new(leat_producer *p, size_t room) {
    leat *mq = p->mq;
    struct lt_parcel *parcel = lt_zalloc(&mq->mem, sizeof *parcel);
    uint8_t *bytes = lt_alloc(&mq->mem, room);
    struct lt_entry *entry = lt_alloc(&mq->mem, OUTBOX_ENTRIES * sizeof *entry);
    if (!parcel || !bytes || !entry) {
        lt_free(&mq->mem, entry);
        lt_free(&mq->mem, bytes);
        lt_free(&mq->mem, parcel);
        (void)lt_fail_nomem();
        return NULL;
    }
    parcel->mq = mq;
    parcel->bytes = bytes;
    parcel->room = room;
    parcel->entry = entry;
    parcel->entry_room = OUTBOX_ENTRIES;
    parcel->refs = 1;
    parcel->base = -1;
    lt_node_init(&parcel->node);
    lt_node_init(&parcel->live);
    return parcel;
}

void lt_parcel_free(struct lt_parcel *parcel) {
    struct lt_mem *mem = &parcel->mq->mem;
    if (parcel->log.seg) // of a fork, where nothing is told
        lt_segment_drop(parcel->log.seg);
    lt_free(mem, parcel->entry);
    lt_free(mem, parcel->bytes);
    lt_free(mem, parcel);
}

void lt_parcel_reset(struct lt_parcel *parcel) {
    *parcel = (struct lt_parcel){ .mq = parcel->mq,
                                  .refs = 1,
                                  .bytes = parcel->bytes,
                                  .room = parcel->room,
                                  .entry = parcel->entry,
                                  .entry_room = parcel->entry_room,
                                  .base = -1 };
    lt_node_init(&parcel->node);
    lt_node_init(&parcel->live);
}

// The entry of the next record: that of the one before it, or another.
static struct lt_entry *parcel_entry(struct lt_parcel *parcel, const struct lt_entry *like) {
    struct lt_entry *last = parcel->entries > 0 ? &parcel->entry[parcel->entries - 1] : NULL;
    if (last && last->fn == like->fn && last->ctx == like->ctx && !last->future && !like->future)
        return last;
    if (parcel->entries == parcel->entry_room) {
        size_t room = 2 * parcel->entry_room;
        struct lt_entry *grown = lt_resize(&parcel->mq->mem, parcel->entry, room * sizeof *grown);
        if (!grown)
            return NULL;
        parcel->entry = grown;
        parcel->entry_room = room;
    }
    struct lt_entry *e = &parcel->entry[parcel->entries++];
    *e = *like;
    e->at = (uint32_t)parcel->used;
    e->count = 0;
    return e;
}

int lt_parcel_put(struct lt_parcel *parcel, const struct lt_plan *plan,
                  const struct lt_entry *entry) {
    struct lt_entry *e = parcel_entry(parcel, entry);
    if (!e)
        return lt_fail_nomem();
    e->count++;
    parcel->count++;
    lt_record_encode(parcel->bytes + parcel->used, plan);
    parcel->fields |= plan->fields != 0;
    parcel->ordered |= plan->ordered;
    parcel->dated |= plan->record->timestamp_ms != 0;
    parcel->used += lt_align8(plan->total);
    return 0;
}

// ---- boxes

static void outbox_run_locked(leat_producer *p);

// Who finds senders at work on the service thread does not wait for them, nor make them wait.
static void outbox_due(leat *mq, struct lt_due *due) {
    leat_producer *p = LT_CONTAINER(due, leat_producer, due);
    bool may_pass = lt_service_runs(&mq->clock.service) &&
                    atomic_load_explicit(&p->passed, memory_order_relaxed) < OUTBOX_PASSES;
    if (may_pass && !lt_lock_if_free(&p->lock)) {
        atomic_fetch_add_explicit(&p->passed, 1, memory_order_relaxed);
        lt_due_set(mq, due, lt_now_ns(mq) + OUTBOX_NAP);
        return;
    }
    if (!may_pass)
        lt_lock(&p->lock);
    atomic_store_explicit(&p->passed, 0, memory_order_relaxed);
    outbox_run_locked(p);
    lt_unlock(&p->lock);
}

int lt_outbox_init(leat_producer *p) {
    lt_map_init(&p->map, &p->mq->mem, 0);
    lt_list_init(&p->boxes);
    lt_list_init(&p->batches);
    lt_list_init(&p->live);
    lt_list_init(&p->done);
    lt_list_init(&p->told);
    lt_list_init(&p->spares);
    lt_list_init(&p->line);
    lt_list_init(&p->holds);
    p->planned_ns = LT_NEVER;
    int rc = lt_mutex_init(&p->lock, LT_RANK_PRODUCER);
    if (rc == 0 && (rc = lt_mutex_init(&p->told_lock, LT_RANK_TOLD)) != 0)
        lt_mutex_fini(&p->lock);
    return rc;
}

int lt_outbox_begin(leat_producer *p) {
    if (p->closing)
        return lt_fail(LEAT_ECLOSED, "producer %s is being closed",
                       p->name ? p->name : "(unnamed)");
    if (p->begun)
        return 0;
    // A jumping clock moves for it, as for all that somebody may wait for.
    int rc = p->mq->clock.mode == LEAT_CLOCK_JUMP ? lt_due_init(p->mq, &p->due, outbox_due)
                                                  : lt_chore_init(p->mq, &p->due, outbox_due);
    if (rc != 0)
        return rc;
    lt_errand_init(&p->errand, p->polled, lt_producer_tell);
    p->begun = true;
    return 0;
}

static void outbox_free_list(struct lt_list *list) {
    struct lt_node *n;
    while ((n = lt_list_first(list))) {
        lt_list_remove(n);
        lt_parcel_free(LT_CONTAINER(n, struct lt_parcel, node));
    }
}

void lt_outbox_fini(leat_producer *p) {
    struct lt_node *n;
    while ((n = lt_list_first(&p->boxes))) {
        struct lt_box *box = LT_CONTAINER(n, struct lt_box, node);
        lt_list_remove(n);
        if (box->open) // of a fork, where nothing is told
            lt_parcel_free(box->open);
        outbox_free_list(&box->ready);
        outbox_free_list(&box->appended);
        lt_free(&p->mq->mem, box);
    }
    outbox_free_list(&p->done);
    outbox_free_list(&p->told);
    outbox_free_list(&p->spares);
    lt_map_fini(&p->map);
    lt_mutex_fini(&p->told_lock);
    lt_mutex_fini(&p->lock);
}

static inline struct lt_box *outbox_find(leat_producer *p, struct lt_partition *to) {
    if (p->last && p->last->p == to)
        return p->last;
    return lt_map_get(&p->map, &to, sizeof(struct lt_partition *));
}

static struct lt_box *outbox_box_new(leat_producer *p, struct lt_partition *to) {
    struct lt_box *box = lt_zalloc(&p->mq->mem, sizeof *box);
    if (!box || lt_map_put(&p->map, &to, sizeof(struct lt_partition *), box) != 0) {
        lt_free(&p->mq->mem, box);
        (void)lt_fail_nomem();
        return NULL;
    }
    box->p = to;
    lt_list_init(&box->ready);
    lt_list_init(&box->appended);
    lt_list_push_back(&p->boxes, &box->node);
    return box;
}

static struct lt_box *outbox_box(leat_producer *p, struct lt_partition *to) {
    struct lt_box *box = outbox_find(p, to);
    if (!box)
        box = outbox_box_new(p, to);
    if (box)
        p->last = box;
    return box;
}

// ---- plans

static void outbox_plan(leat_producer *p, int64_t at_ns) {
    if (at_ns >= p->planned_ns)
        return;
    p->planned_ns = at_ns;
    lt_due_set(p->mq, &p->due, at_ns);
}

static struct lt_parcel *outbox_first(const struct lt_list *list) {
    struct lt_node *n = lt_list_first(list);
    return n ? LT_CONTAINER(n, struct lt_parcel, node) : NULL;
}

static void outbox_plan_box(leat_producer *p, const struct lt_box *box) {
    if (box->open) {
        int64_t at = lt_add_ms(box->open->since_ns, p->linger_ms);
        outbox_plan(p, at > p->rested_ns ? at : p->rested_ns);
    }
    if (!lt_list_empty(&box->ready) && !box->sending)
        outbox_plan(p, box->again_ns);
    if (!lt_list_empty(&box->appended) && !box->syncing)
        outbox_plan(p, 0);
}

static void outbox_close(struct lt_box *box) {
    if (!box->open)
        return;
    lt_list_push_back(&box->ready, &box->open->node);
    box->open = NULL;
}

void lt_outbox_close_open(leat_producer *p) {
    for (struct lt_node *n = lt_list_first(&p->boxes); n; n = lt_list_next(&p->boxes, n))
        outbox_close(LT_CONTAINER(n, struct lt_box, node));
}

void lt_outbox_ripen(leat_producer *p) {
    for (struct lt_node *n = lt_list_first(&p->boxes); n; n = lt_list_next(&p->boxes, n)) {
        struct lt_box *box = LT_CONTAINER(n, struct lt_box, node);
        bool open = box->open != NULL;
        outbox_close(box);
        if (open)
            outbox_plan_box(p, box);
    }
}

// ---- into the log

static bool outbox_fits(const leat_producer *p, size_t bytes, size_t told_as) {
    int64_t untold = lt_producer_untold(p);
    return (p->buffered == 0 || p->buffered + (int64_t)bytes <= p->buffer_max) &&
           (untold == 0 || untold + (int64_t)told_as <= p->reports_max);
}

// Takes a parcel that was ready off the books of what is to be appended.
static void outbox_left(leat_producer *p, struct lt_parcel *parcel) {
    lt_list_remove(&parcel->node);
    p->buffered -= (int64_t)parcel->used;
    lt_producer_count(&p->pending, -1);
    struct lt_node *n = lt_list_first(&p->line);
    if (n)
        lt_waiter_notify(p->mq, &LT_CONTAINER(n, struct lt_hold, node)->waiter);
}

// Errors that may be over when it is tried again. What an append fails with is certainly not
// stored.
static bool outbox_transient(int rc) {
    return rc == LEAT_ENOSPC || rc == LEAT_EFULL || rc == LEAT_ENOMEM || rc == LEAT_EIO ||
           rc == LEAT_ETIMEDOUT || rc == LEAT_EBUSY;
}

static int outbox_append_alone(leat_producer *p, struct lt_box *box, struct lt_parcel *parcel,
                               leat_metadata *md) {
    leat_record record;
    leat_header header[LT_HEADERS_MAX];
    lt_record_unpack(parcel->bytes, &record, header);
    record.to_partition = LEAT_PARTITION(box->p->number);
    int32_t acks = p->acks == LEAT_ACKS_DISK ? LEAT_ACKS_LOG : p->acks; // its sync comes later
    struct lt_send s = {
        .topic = box->p->topic, .record = &record, .acks = acks, .fault_asked = true
    };
    struct lt_order order;
    if (record.delay_ms > 0 && lt_record_order(parcel->bytes, &order))
        s.sent_ms = order.not_before_ms - record.delay_ms;
    int rc = lt_send_record(&s, md);
    parcel->duplicate = rc == 0 && md->duplicate != 0;
    if (!parcel->duplicate)
        return rc;
    // The first one may be in another partition. That it is there is certain, whatever comes now.
    parcel->first = *md;
    if (p->acks == LEAT_ACKS_DISK)
        parcel->unsure =
            lt_partition_sync(lt_topic_part(box->p->topic, md->partition), md->offset + 1);
    return 0;
}

// Tells whether its records are told from the log, where they have no more than what was sent.
static bool outbox_keeps(const struct lt_parcel *parcel) {
    return parcel->telling > 0 && !parcel->futures && !parcel->whole && !parcel->fields &&
           !parcel->ordered && !parcel->dated;
}

static int outbox_append(leat_producer *p, struct lt_box *box, struct lt_parcel *parcel) {
    leat_metadata md = { .offset = -1 };
    int rc = parcel->fault;
    parcel->fault = 0;
    parcel->faulted = false; // the next try asks again
    if (rc != 0) {
        rc = lt_fail(rc, "topic %s partition %d: a fault that leat_fault_push planned",
                     box->p->topic->name, box->p->number);
    } else if (parcel->alone) {
        rc = outbox_append_alone(p, box, parcel, &md);
    } else {
        const struct lt_batch batch = { .encoded = parcel->bytes,
                                        .bytes = parcel->used,
                                        .count = (int64_t)parcel->count,
                                        .fields = parcel->fields,
                                        .ordered = parcel->ordered,
                                        .kept = outbox_keeps(parcel) ? &parcel->log : NULL,
                                        .durable = p->acks == LEAT_ACKS_DISK };
        rc = lt_partition_append(box->p, &batch, &md);
    }
    parcel->base = rc == 0 ? md.offset : -1;
    parcel->wall_ms = md.timestamp_ms;
    return rc;
}

// rc: of the sync that it needed, with its text.
static void outbox_end(leat_producer *p, struct lt_parcel *parcel, int rc) {
    if (parcel->failed)
        lt_parcel_end(p, parcel, LEAT_NOT_STORED, parcel->failed, parcel->message);
    else if (rc == 0)
        lt_parcel_end(p, parcel, LEAT_STORED, 0, "");
    else
        lt_parcel_end(p, parcel, LEAT_UNKNOWN, rc == LEAT_EGONE ? rc : LEAT_EIO,
                      parcel->duplicate ? "the sync of the first record with this id has failed"
                                        : leat_errmsg());
}

static struct lt_parcel *outbox_last_appended(const struct lt_box *box) {
    struct lt_node *last = box->appended.head.prev;
    return lt_list_empty(&box->appended) ? NULL : LT_CONTAINER(last, struct lt_parcel, node);
}

// Ends a parcel that was ready, behind those in front of it.
static void outbox_not_stored(leat_producer *p, struct lt_box *box, struct lt_parcel *parcel,
                              int error, const char *message) {
    const struct lt_parcel *last = outbox_last_appended(box);
    outbox_left(p, parcel);
    parcel->failed = error;
    (void)snprintf(parcel->message, sizeof parcel->message, "%s", message);
    parcel->upto = last ? last->upto : 0;
    if (last)
        lt_list_push_back(&box->appended, &parcel->node);
    else
        outbox_end(p, parcel, 0);
}

static void outbox_appended(leat_producer *p, struct lt_box *box, struct lt_parcel *parcel) {
    const struct lt_parcel *last = outbox_last_appended(box);
    outbox_left(p, parcel);
    box->again_ns = 0;
    parcel->upto = parcel->base + (int64_t)parcel->count;
    if (parcel->duplicate) // it waits for those in front of it, for the order of reports alone
        parcel->upto = last ? last->upto : 0;
    bool owed = p->acks == LEAT_ACKS_DISK && atomic_load(&box->p->durable_end) < parcel->upto;
    if (owed || !lt_list_empty(&box->appended))
        lt_list_push_back(&box->appended, &parcel->node);
    else
        outbox_end(p, parcel, parcel->unsure);
}

static void outbox_failed(leat_producer *p, struct lt_box *box, struct lt_parcel *parcel, int rc) {
    int64_t now = lt_now_ns(p->mq);
    int64_t until = lt_add_ms(parcel->since_ns, p->delivery_timeout_ms);
    int64_t wait_ms = p->backoff_ms;
    for (int i = 0; i < parcel->tries && wait_ms < OUTBOX_BACKOFF_MAX; i++)
        wait_ms = 2 * wait_ms < OUTBOX_BACKOFF_MAX ? 2 * wait_ms : OUTBOX_BACKOFF_MAX;
    if (outbox_transient(rc) && p->acks != LEAT_ACKS_NONE && !p->closing && now < until &&
        p->delivery_timeout_ms != 0) {
        int64_t again = lt_add_ms(now, wait_ms);
        box->again_ns = again < until ? again : until;
        parcel->tries++;
        p->stats.retries++;
        return;
    }
    box->again_ns = 0;
    outbox_not_stored(p, box, parcel, rc, leat_errmsg());
}

// Asks for a planned fault. Returns  false: it puts the parcel off. Nobody waits for that here: it
// may be the thread that is to move a clock.
static bool outbox_faulted(leat_producer *p, struct lt_box *box, struct lt_parcel *parcel) {
    int64_t delay_ms = 0;
    if (parcel->faulted || !atomic_load_explicit(&p->mq->faults.any, memory_order_relaxed))
        return true;
    parcel->fault =
        lt_fault_later(p->mq, LEAT_OP_APPEND, box->p->topic->name, box->p->number, &delay_ms);
    parcel->faulted = true;
    if (delay_ms > 0)
        box->again_ns = lt_add_ms(lt_now_ns(p->mq), delay_ms);
    return delay_ms == 0;
}

// Appends what is ready. Locks: the producer's at entry and exit, not in between.
static void outbox_send(leat_producer *p, struct lt_box *box) {
    struct lt_parcel *parcel;
    while (!box->sending && (parcel = outbox_first(&box->ready)) &&
           (box->again_ns == 0 || box->again_ns <= lt_now_ns(p->mq)) &&
           outbox_faulted(p, box, parcel)) {
        box->sending = true;
        lt_unlock(&p->lock);
        int rc = outbox_append(p, box, parcel);
        lt_lock(&p->lock);
        box->sending = false;
        if (rc == 0)
            outbox_appended(p, box, parcel);
        else
            outbox_failed(p, box, parcel, rc);
    }
}

// ---- onto the disk

// Ends the parcels that a sync was for. Its error is nobody else's: the next one finds its own.
static void outbox_synced(leat_producer *p, struct lt_box *box, int64_t upto, int rc) {
    struct lt_parcel *parcel;
    while ((parcel = outbox_first(&box->appended)) && parcel->upto <= upto) {
        lt_list_remove(&parcel->node);
        outbox_end(p, parcel, parcel->duplicate ? parcel->unsure : rc);
    }
}

// Locks: as outbox_send.
static void outbox_sync(leat_producer *p, struct lt_box *box) {
    while (!box->syncing && !lt_list_empty(&box->appended)) {
        int64_t upto = outbox_last_appended(box)->upto;
        box->syncing = true;
        lt_unlock(&p->lock);
        int rc = lt_partition_sync(box->p, upto);
        lt_lock(&p->lock);
        box->syncing = false;
        outbox_synced(p, box, upto, rc);
    }
}

// While senders are busy they send their full batches themselves: the service thread, with its wish
// to send what is there now, would only be in their way. Then it looks again after a nap, whether
// or not something is open now, so that no sender has to wake it; and it leaves to them what is
// younger than a nap. So a record waits for two naps at most.
static bool outbox_rest(leat_producer *p, int64_t now) {
    bool busy = lt_service_runs(&p->mq->clock.service) && p->pushes != p->pushes_seen;
    p->pushes_seen = p->pushes;
    if (busy)
        p->rested_ns = now + OUTBOX_NAP;
    return busy;
}

static bool outbox_lingered(const leat_producer *p, const struct lt_parcel *parcel, int64_t now) {
    return lt_add_ms(parcel->since_ns, p->linger_ms) <= now &&
           (p->rested_ns <= now || parcel->since_ns + OUTBOX_NAP <= now);
}

static void outbox_run_locked(leat_producer *p) {
    p->planned_ns = LT_NEVER;
    int64_t now = lt_now_ns(p->mq);
    bool busy = outbox_rest(p, now);
    for (struct lt_node *n = lt_list_first(&p->boxes); n; n = lt_list_next(&p->boxes, n)) {
        struct lt_box *box = LT_CONTAINER(n, struct lt_box, node);
        if (box->open && outbox_lingered(p, box->open, now))
            outbox_close(box);
        outbox_send(p, box);
    }
    for (struct lt_node *n = lt_list_first(&p->boxes); n; n = lt_list_next(&p->boxes, n))
        outbox_sync(p, LT_CONTAINER(n, struct lt_box, node));
    for (struct lt_node *n = lt_list_first(&p->boxes); n; n = lt_list_next(&p->boxes, n))
        outbox_plan_box(p, LT_CONTAINER(n, struct lt_box, node));
    if (busy)
        outbox_plan(p, p->rested_ns);
    if (p->planned_ns == LT_NEVER)
        lt_due_set(p->mq, &p->due, LT_NEVER); // it may still be planned for what is done by now
}

void lt_outbox_run(leat_producer *p) {
    lt_lock(&p->lock);
    outbox_run_locked(p);
    lt_unlock(&p->lock);
}

// ---- who waits

static int outbox_full(const leat_producer *p, size_t told_as) {
    const char *name = p->name ? p->name : "(unnamed)";
    int64_t untold = lt_producer_untold(p);
    if (untold > 0 && untold + (int64_t)told_as > p->reports_max)
        return lt_fail(LEAT_EFULL, "producer %s: %lld reports are not told%s", name,
                       (long long)untold,
                       p->polled ? ": leat_producer_poll or leat_dispatch tells them" : "");
    return lt_fail(LEAT_EFULL, "producer %s: its buffer is full: %lld bytes wait to be sent", name,
                   (long long)p->buffered);
}

// Sends what is ready from here.
static void outbox_push(leat_producer *p, struct lt_box *box) {
    p->pushes += !box->sending && !lt_list_empty(&box->ready);
    outbox_send(p, box);
    outbox_plan_box(p, box);
}

// Nothing lingers while others wait for its place.
static void outbox_hurry(leat_producer *p) {
    lt_outbox_close_open(p);
    for (struct lt_node *n = lt_list_first(&p->boxes); n; n = lt_list_next(&p->boxes, n))
        outbox_push(p, LT_CONTAINER(n, struct lt_box, node));
}

static int outbox_wait_room(leat_producer *p, size_t bytes, size_t told_as) {
    outbox_hurry(p);
    if (lt_list_empty(&p->line) && outbox_fits(p, bytes, told_as))
        return 0;
    if (lt_in_callback() || p->max_block_ms == 0)
        return outbox_full(p, told_as);
    struct lt_hold h;
    int rc = lt_hold_begin(p, &p->line, &h);
    if (rc != 0)
        return rc;
    int64_t deadline = lt_add_ms(lt_now_ns(p->mq), p->max_block_ms);
    while (rc == 0 && (lt_list_first(&p->line) != &h.node || !outbox_fits(p, bytes, told_as))) {
        rc = lt_hold_wait(p, &h, deadline);
        if (lt_list_first(&p->line) == &h.node && !outbox_fits(p, bytes, told_as))
            outbox_hurry(p); // what came in before it
    }
    lt_hold_end(p, &h);
    struct lt_node *next = lt_list_first(&p->line);
    if (next) // there may be room for it, too
        lt_waiter_notify(p->mq, &LT_CONTAINER(next, struct lt_hold, node)->waiter);
    return rc == LEAT_ETIMEDOUT ? outbox_full(p, told_as) : rc;
}

// Returns when there is room, first come first served. Locks: the producer's at entry and exit.
static inline int outbox_room(leat_producer *p, size_t bytes, size_t told_as) {
    if (lt_list_empty(&p->line) && outbox_fits(p, bytes, told_as))
        return 0;
    return outbox_wait_room(p, bytes, told_as);
}

// ---- what comes in

static struct lt_parcel *outbox_open(leat_producer *p, struct lt_box *box, size_t size) {
    size_t room = (size_t)p->batch_bytes > size ? (size_t)p->batch_bytes : size;
    lt_producer_collect(p);
    struct lt_parcel *parcel = room == (size_t)p->batch_bytes ? outbox_first(&p->spares) : NULL;
    if (parcel) {
        lt_list_remove(&parcel->node);
        p->spare_bytes -= p->batch_bytes;
        lt_parcel_reset(parcel);
    } else {
        parcel = lt_parcel_new(p, room);
    }
    if (!parcel)
        return NULL;
    parcel->since_ns = lt_now_ns(p->mq);
    parcel->epoch = p->epoch;
    parcel->box = box;
    box->open = parcel;
    lt_list_push_back(&p->live, &parcel->live);
    lt_producer_count(&p->pending, 1);
    return parcel;
}

static void outbox_accept(leat_producer *p, struct lt_parcel *parcel, size_t bytes, size_t count,
                          size_t told_as) {
    p->buffered += (int64_t)bytes;
    lt_producer_count(&p->to_tell, (int64_t)told_as);
    parcel->telling += told_as;
    p->stats.accepted += count;
}

static int outbox_add_locked(leat_producer *p, struct lt_partition *to, const struct lt_plan *plan,
                             const struct lt_entry *entry) {
    size_t size = (size_t)lt_align8(plan->total), told_as = entry->fn ? 1 : 0;
    bool alone = plan->record->dedup_id.data && to->topic->dedup;
    int rc = lt_outbox_begin(p);
    if (rc == 0)
        rc = outbox_room(p, size, told_as);
    struct lt_box *box = rc == 0 ? outbox_box(p, to) : NULL;
    if (!box)
        return rc != 0 ? rc : LEAT_ENOMEM;
    if (box->open && (alone || size > box->open->room - box->open->used))
        outbox_close(box);
    bool fresh = !box->open;
    struct lt_parcel *parcel = fresh ? outbox_open(p, box, size) : box->open;
    if (!parcel) {
        outbox_push(p, box); // what was closed here waits for nothing
        return lt_fail_nomem();
    }
    const struct lt_spot at = { parcel->count, parcel->used };
    rc = lt_parcel_put(parcel, plan, entry);
    if (rc != 0)
        return rc; // never of an empty one, which has room for entries
    if (entry->future)
        lt_future_enter(entry->future, parcel, at);
    parcel->alone = alone;
    outbox_accept(p, parcel, size, 1, told_as);
    if (alone || parcel->room - parcel->used < LT_RECORD_MIN)
        outbox_close(box);
    if (fresh || !lt_list_empty(&box->ready))
        outbox_push(p, box);
    return 0;
}

int lt_outbox_add(leat_producer *p, struct lt_partition *to, const struct lt_plan *plan,
                  const struct lt_entry *entry) {
    lt_lock(&p->lock);
    int rc = outbox_add_locked(p, to, plan, entry);
    lt_unlock(&p->lock);
    return rc;
}

int lt_outbox_add_parcel(leat_producer *p, struct lt_partition *to, struct lt_parcel *parcel) {
    size_t told_as = parcel->entry[0].fn ? 1 : 0;
    lt_lock(&p->lock);
    int rc = lt_outbox_begin(p);
    if (rc == 0)
        rc = outbox_room(p, parcel->used, told_as);
    struct lt_box *box = rc == 0 ? outbox_box(p, to) : NULL;
    if (box) {
        outbox_close(box);
        parcel->since_ns = lt_now_ns(p->mq);
        parcel->epoch = p->epoch;
        parcel->box = box;
        lt_list_push_back(&p->live, &parcel->live);
        lt_producer_count(&p->pending, 1);
        outbox_accept(p, parcel, parcel->used, parcel->count, told_as);
        lt_list_push_back(&box->ready, &parcel->node);
        outbox_push(p, box);
    }
    lt_unlock(&p->lock);
    return rc == 0 && !box ? LEAT_ENOMEM : rc;
}

int lt_outbox_clear(leat_producer *p, struct lt_partition *to) {
    int rc = 0;
    lt_lock(&p->lock);
    struct lt_box *box = outbox_find(p, to);
    if (box) {
        outbox_close(box);
        outbox_push(p, box);
    }
    if (box && !lt_list_empty(&box->ready)) {
        struct lt_hold h;
        rc = lt_in_callback() ? lt_fail(LEAT_EFULL, "records that were sent before wait to be sent")
                              : lt_hold_begin(p, &p->holds, &h);
        if (rc == 0) {
            while (rc == 0 && !lt_list_empty(&box->ready))
                rc = lt_hold_wait(p, &h, LT_NEVER);
            lt_hold_end(p, &h);
        }
    }
    lt_unlock(&p->lock);
    return rc;
}

size_t lt_outbox_give_up(leat_producer *p, int error, const char *message, bool appended) {
    size_t count = 0;
    lt_outbox_close_open(p);
    for (struct lt_node *n = lt_list_first(&p->boxes); n; n = lt_list_next(&p->boxes, n)) {
        struct lt_box *box = LT_CONTAINER(n, struct lt_box, node);
        struct lt_parcel *parcel;
        while (appended && (parcel = outbox_first(&box->appended))) {
            lt_list_remove(&parcel->node);
            count += parcel->count;
            if (parcel->failed)
                outbox_end(p, parcel, 0);
            else
                lt_parcel_end(p, parcel, LEAT_UNKNOWN, error, message);
        }
        struct lt_node *from = box->sending ? lt_list_first(&box->ready) : &box->ready.head;
        while (from->next != &box->ready.head) {
            parcel = LT_CONTAINER(from->next, struct lt_parcel, node);
            count += parcel->count;
            outbox_not_stored(p, box, parcel, error, message);
        }
        if (!box->sending)
            box->again_ns = 0;
    }
    return count;
}
