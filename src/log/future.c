/* SPDX-License-Identifier: MIT */
// future: the report to come of one asynchronous send, for whoever wants to wait for it. It keeps
// the parcel that it is in, so that the record can be seen until it is released; so it may outlive
// its producer, but not the store.
#include "log/producer.h"

struct leat_future {
    leat *mq;
    struct lt_parcel *parcel;
    struct lt_node node; // in the log's `futures`; this and all below: guarded by its lock
    struct lt_spot at;
    bool done, released;
    struct lt_list waiters; // struct lt_hold
    leat_report report;
    leat_record record;
    leat_header *header; // room for the record's, or NULL
};

static void future_lock(leat *mq) {
    lt_lock(&mq->log->future_lock);
}

static void future_unlock(leat *mq) {
    lt_unlock(&mq->log->future_lock);
}

// Locks: that of futures. Returns  the parcel, if it is to be freed.
static struct lt_parcel *future_drop_locked(struct lt_parcel *parcel) {
    return parcel && --parcel->refs == 0 ? parcel : NULL;
}

void lt_parcel_drop(struct lt_parcel *parcel) {
    leat *mq = parcel->mq;
    future_lock(mq);
    struct lt_parcel *gone = future_drop_locked(parcel);
    future_unlock(mq);
    if (gone)
        lt_parcel_free(gone);
}

static void future_free(leat_future *f) {
    lt_free(&f->mq->mem, f->header);
    lt_free(&f->mq->mem, f);
}

void lt_future_done(leat_future *f) {
    leat *mq = f->mq;
    future_lock(mq);
    bool released = f->released;
    f->done = true;
    if (released)
        (void)future_drop_locked(f->parcel); // never the last: the parcel is on its way
    else
        lt_parcel_report(f->parcel, &f->at, &f->report, &f->record, f->header);
    for (struct lt_node *n = lt_list_first(&f->waiters); n; n = lt_list_next(&f->waiters, n))
        lt_waiter_notify(mq, &LT_CONTAINER(n, struct lt_hold, node)->waiter);
    future_unlock(mq);
    if (released)
        future_free(f);
}

void lt_future_enter(leat_future *f, struct lt_parcel *parcel, struct lt_spot at) {
    future_lock(f->mq);
    f->parcel = parcel;
    f->at = at;
    parcel->refs++;
    parcel->futures = true;
    lt_list_push_back(&f->mq->log->futures, &f->node);
    future_unlock(f->mq);
}

static leat_future *future_new(leat *mq, const leat_record *r) {
    leat_future *f = lt_zalloc(&mq->mem, sizeof *f);
    bool headers = r->header_count > 0 && r->header_count <= LT_HEADERS_MAX;
    if (f && headers)
        f->header = lt_alloc(&mq->mem, r->header_count * sizeof *f->header);
    if (!f || (headers && !f->header)) {
        lt_free(&mq->mem, f);
        (void)lt_fail_nomem();
        return NULL;
    }
    f->mq = mq;
    lt_node_init(&f->node);
    lt_list_init(&f->waiters);
    return f;
}

int leat_send_future(leat_producer *p, leat_topic *t, const leat_record *r, leat_future **out) {
    if (!out)
        return lt_fail(LEAT_EINVAL, "send future: out is NULL");
    *out = NULL;
    int rc = lt_producer_enter(p, t, r);
    if (rc != 0)
        return rc;
    leat_future *f = p->acks == LEAT_ACKS_NONE ? NULL : future_new(p->mq, r);
    if (f)
        rc = lt_send_later(p, t, r, &(struct lt_entry){ .future = f });
    else
        rc = p->acks == LEAT_ACKS_NONE
                 ? lt_fail(LEAT_EINVAL, "with LEAT_ACKS_NONE there is no report to wait for")
                 : LEAT_ENOMEM;
    if (rc == 0)
        *out = f;
    else if (f)
        future_free(f);
    return lt_end(p->mq, rc);
}

// Waits until f is done. Locks: that of futures at entry and exit, not in between.
static int future_wait_done(leat_future *f, int64_t timeout_ms) {
    leat *mq = f->mq;
    struct lt_hold h;
    int rc = lt_waiter_init(mq, &h.waiter);
    if (rc != 0)
        return rc;
    int64_t deadline = lt_add_ms(lt_now_ns(mq), timeout_ms);
    lt_list_push_back(&f->waiters, &h.node);
    while (rc == 0 && !f->done) {
        lt_waiter_arm(mq, &h.waiter);
        future_unlock(mq);
        rc = lt_wait(mq, &h.waiter, deadline);
        future_lock(mq);
    }
    lt_list_remove(&h.node);
    lt_waiter_fini(mq, &h.waiter);
    return f->done ? 0 : rc;
}

int leat_future_wait(leat_future *f, int64_t timeout_ms, leat_report *out) {
    int rc = lt_begin(f ? f->mq : NULL, LT_CALL);
    if (rc != 0)
        return rc;
    leat *mq = f->mq;
    rc = lt_check_timeout(timeout_ms);
    if (rc != 0)
        return lt_end(mq, rc);
    lt_due_fire(mq);
    future_lock(mq);
    if (!f->done)
        rc = timeout_ms == 0 ? LEAT_ETIMEDOUT : future_wait_done(f, timeout_ms);
    if (rc == 0 && out)
        *out = f->report;
    future_unlock(mq);
    if (rc == LEAT_ETIMEDOUT)
        (void)lt_fail(rc, "the record of this future has not been sent yet");
    return lt_end(mq, rc);
}

int leat_future_release(leat_future *f) {
    int rc = lt_enter(f ? f->mq : NULL, LT_CALL_CB | LT_CALL_SHUT);
    if (rc != 0)
        return rc;
    leat *mq = f->mq;
    future_lock(mq);
    bool done = f->done;
    f->released = true; // if it is not done, who ends the parcel frees it
    lt_list_remove(&f->node);
    struct lt_parcel *gone = done ? future_drop_locked(f->parcel) : NULL;
    future_unlock(mq);
    if (gone)
        lt_parcel_free(gone);
    if (done)
        future_free(f);
    return 0;
}

size_t lt_futures_count(leat *mq) {
    size_t n = 0;
    future_lock(mq);
    for (struct lt_node *at = lt_list_first(&mq->log->futures); at;
         at = lt_list_next(&mq->log->futures, at))
        n++;
    future_unlock(mq);
    return n;
}

void lt_futures_free(leat *mq) {
    struct lt_node *n;
    while ((n = lt_list_first(&mq->log->futures)))
        (void)leat_future_release(LT_CONTAINER(n, leat_future, node));
}
