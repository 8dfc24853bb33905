/* SPDX-License-Identifier: MIT */
// direct: batches made by hand, for one partition.
#include "log/dedup.h"
#include "log/producer.h"

#include "base/bytes.h"

struct leat_batch {
    struct lt_node node; // in the producer's batches
    leat_producer *p;
    struct lt_partition *to;
    struct lt_parcel *parcel;
    bool closed;
    atomic_bool busy; // a call is in progress: acquire on entry, release on leaving
};

static int direct_busy(void) {
    return lt_fail(LEAT_EBUSY, "another thread is in a call of this batch");
}

static int direct_enter(leat_batch *b) {
    int rc = lt_begin(b ? b->p->mq : NULL, LT_CALL_CB);
    if (rc == 0 && atomic_exchange_explicit(&b->busy, true, memory_order_acquire))
        rc = lt_end(b->p->mq, direct_busy());
    return rc;
}

static int direct_leave(leat_batch *b, int rc) {
    leat *mq = b->p->mq;
    atomic_store_explicit(&b->busy, false, memory_order_release);
    return lt_end(mq, rc);
}

static void direct_drop(leat_batch *b) {
    if (b->parcel)
        lt_parcel_drop(b->parcel);
    lt_free(&b->p->mq->mem, b);
}

// Locks: the producer's.
static void direct_count(leat_producer *p, int more) {
    int n = atomic_load_explicit(&p->open_batches, memory_order_relaxed);
    atomic_store_explicit(&p->open_batches, n + more, memory_order_relaxed);
}

static void direct_free(leat_batch *b) {
    lt_lock(&b->p->lock);
    lt_list_remove(&b->node);
    direct_count(b->p, -1);
    lt_unlock(&b->p->lock);
    direct_drop(b);
}

int lt_direct_check_none(const leat_producer *p) {
    int n = atomic_load_explicit(&p->open_batches, memory_order_relaxed);
    return n == 0 ? 0
                  : lt_fail(LEAT_EBUSY, "producer %s: %d batches are open",
                            p->name ? p->name : "(unnamed)", n);
}

size_t lt_direct_discard_all(leat_producer *p) {
    size_t records = 0;
    struct lt_node *n;
    while ((n = lt_list_first(&p->batches))) {
        leat_batch *b = LT_CONTAINER(n, leat_batch, node);
        records += b->parcel->count;
        lt_list_remove(&b->node);
        direct_count(p, -1);
        direct_drop(b);
    }
    return records;
}

int leat_batch_open(leat_producer *p, leat_topic *t, int32_t partition, leat_batch **out) {
    if (!out)
        return lt_fail(LEAT_EINVAL, "batch open: out is NULL");
    *out = NULL;
    static const leat_record none;
    int rc = lt_producer_enter(p, t, &none);
    if (rc != 0)
        return rc;
    rc = lt_topic_alive(t);
    if (rc == 0)
        rc = lt_check_writable(t->mq, "topic", t->name);
    struct lt_partition *to = rc == 0 ? lt_topic_partition(t, partition) : NULL;
    if (rc == 0 && !to)
        rc = LEAT_ERANGE;
    leat_batch *b = rc == 0 ? lt_zalloc(&p->mq->mem, sizeof *b) : NULL;
    if (rc == 0 && !b)
        rc = lt_fail_nomem();
    if (rc == 0) {
        b->p = p;
        b->to = to;
        b->parcel = lt_parcel_new(p, (size_t)p->batch_bytes);
        if (!b->parcel) {
            lt_free(&p->mq->mem, b);
            rc = LEAT_ENOMEM;
        }
    }
    if (rc == 0) {
        lt_lock(&p->lock);
        lt_list_push_back(&p->batches, &b->node);
        direct_count(p, 1);
        lt_unlock(&p->lock);
        *out = b;
    }
    return lt_end(p->mq, rc);
}

static int direct_append(leat_batch *b, const leat_record *r) {
    struct lt_plan plan;
    if (!r)
        return lt_fail(LEAT_EINVAL, "batch append: the record is NULL");
    int rc = lt_plan_make_sent(r, NULL, 0, lt_sent_unstamped(b->p->mq, r), &plan);
    if (rc == 0 && r->to_partition != 0 && r->to_partition != LEAT_PARTITION(b->to->number))
        rc = lt_fail(LEAT_EINVAL, "a record for partition %d in a batch for %d",
                     r->to_partition - 1, b->to->number);
    if (rc == 0 && r->dedup_id.data && b->to->topic->dedup)
        rc = lt_fail(LEAT_EINVAL,
                     "a record with a dedup_id in a batch, whose records are stored "
                     "together: topic %s has a dedup window",
                     b->to->topic->name);
    if (rc != 0)
        return rc;
    struct lt_parcel *parcel = b->parcel;
    size_t size = (size_t)lt_align8(plan.total);
    if (b->closed || (parcel->count > 0 && size > parcel->room - parcel->used)) {
        b->closed = true;
        return lt_fail(LEAT_EFULL, "the batch has %zu records and takes no more", parcel->count);
    }
    if (size > parcel->room) { // a first record of any size fits
        uint8_t *grown = lt_resize(&b->p->mq->mem, parcel->bytes, size);
        if (!grown)
            return lt_fail_nomem();
        parcel->bytes = grown;
        parcel->room = size;
    }
    return lt_parcel_put(parcel, &plan, &(struct lt_entry){ 0 });
}

int leat_batch_append(leat_batch *b, const leat_record *r) {
    int rc = direct_enter(b);
    return rc != 0 ? rc : direct_leave(b, direct_append(b, r));
}

int leat_batch_send(leat_batch *b, leat_delivery_fn fn, void *ctx) {
    int rc = direct_enter(b);
    if (rc == LEAT_ECLOSED)
        direct_free(b);
    if (rc != 0)
        return rc;
    leat_producer *p = b->p;
    struct lt_parcel *parcel = b->parcel;
    if (fn && p->acks == LEAT_ACKS_NONE)
        rc = lt_fail(LEAT_EINVAL, "with LEAT_ACKS_NONE there is no report");
    if (rc == 0)
        rc = lt_topic_alive(b->to->topic);
    if (rc == 0 && parcel->count > 0) {
        parcel->whole = true;
        parcel->entry[0].fn = fn;
        parcel->entry[0].ctx = ctx;
        rc = lt_outbox_add_parcel(p, b->to, parcel);
        if (rc == 0)
            b->parcel = NULL;
    }
    leat *mq = p->mq;
    direct_free(b);
    return lt_end(mq, rc);
}

int leat_batch_discard(leat_batch *b) {
    int rc = lt_enter(b ? b->p->mq : NULL, LT_CALL_CB | LT_CALL_SHUT);
    if (rc == 0 && atomic_exchange_explicit(&b->busy, true, memory_order_acquire))
        rc = direct_busy();
    if (rc == 0)
        direct_free(b);
    return rc;
}
