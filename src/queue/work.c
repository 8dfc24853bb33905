/* SPDX-License-Identifier: MIT */
// work: a queue whose messages go to a handler on n threads. Each thread receives one message,
// gives it to the handler and settles it as that says; there is nothing else that they share. A
// lease that is to be renewed while its handler runs has an entry among the store's due things,
// half a visibility timeout ahead, so it is renewed before it can run out, whoever looks.
#include "base/workers.h"
#include "queue/room.h"

enum { WORK_RETRY_MS = 1000 };

struct work_seat { // of one thread
    leat_queue *q;
    leat_workers *w;
    struct lt_due due; // the lease is renewed
    uint64_t receipt;  // of the message that is handled; 0: none. Guarded by the workers' lock
    int64_t until_ns;  // the lease is renewed no more; the same
    struct lt_waiter waiter; // between receives that fail
};

struct work {
    leat_queue *q;
    int64_t retry_ms;
    int32_t extends;  // for how many visibility timeouts leases are renewed; 0: not
    atomic_bool quit; // nothing is received any more; seq_cst
    struct work_seat *seat;
    int seats, taken; // taken: guarded by the workers' lock
};

static int64_t work_visibility_ms(leat_queue *q) {
    lt_lock(q->lock);
    int64_t ms = q->set.visibility_ms;
    lt_unlock(q->lock);
    return ms;
}

// ---- leases that are renewed

static void work_plan(struct work_seat *seat) {
    int64_t ms = work_visibility_ms(seat->q);
    lt_due_set(seat->q->mq, &seat->due, lt_add_ms(lt_now_ns(seat->q->mq), ms > 1 ? ms / 2 : 1));
}

static void work_renew(leat *mq, struct lt_due *due) {
    struct work_seat *seat = LT_CONTAINER(due, struct work_seat, due);
    leat_queue *q = seat->q;
    lt_lock(&seat->w->lock);
    uint64_t receipt = lt_now_ns(mq) < seat->until_ns ? seat->receipt : 0;
    lt_unlock(&seat->w->lock);
    if (receipt == 0)
        return; // stuck: let another one have it
    uint32_t partition;
    const struct lt_settle extend = { .kind = LT_SETTLE_EXTEND, .ms = work_visibility_ms(q) };
    lt_lock(q->lock);
    int rc = lt_settle(q, receipt, &extend, &partition);
    lt_queue_plan(q);
    lt_unlock(q->lock);
    if (rc == 0)
        work_plan(seat);
}

// Begins to renew the lease of a receipt, or ends it (0).
static void work_watch(struct work *all, struct work_seat *seat, uint64_t receipt) {
    if (all->extends == 0)
        return;
    leat *mq = all->q->mq;
    int64_t ms = work_visibility_ms(all->q);
    if (__builtin_mul_overflow(ms, all->extends, &ms))
        ms = LEAT_FOREVER;
    lt_lock(&seat->w->lock);
    seat->receipt = receipt;
    seat->until_ns = lt_add_ms(lt_now_ns(mq), ms);
    lt_unlock(&seat->w->lock);
    if (receipt)
        work_plan(seat);
    else
        lt_due_set(mq, &seat->due, LT_NEVER);
}

// ---- one message

static void work_say(const struct work *all, const char *what, int rc) {
    if (rc != LEAT_ECLOSED)
        lt_say(all->q->mq, LEAT_LOG_WARNING, "queue %s: %s: %s", all->q->name, what, leat_errmsg());
}

static int64_t work_retry_ms(struct work *all) {
    if (all->retry_ms >= 0)
        return all->retry_ms;
    lt_lock(all->q->lock);
    bool list = all->q->set.backoff_count > 0;
    lt_unlock(all->q->lock);
    return list ? LEAT_BACKOFF : WORK_RETRY_MS;
}

static void work_one(struct work *all, struct work_seat *seat, leat_message *m) {
    leat_queue *q = all->q;
    int64_t ms = LEAT_FOREVER; // as the options and the queue say
    int result = LEAT_RETRY, rc;
    work_watch(all, seat, m->receipt);
    bool called = lt_workers_call(seat->w, m, &ms, &result);
    work_watch(all, seat, 0);
    if (!called) // it was not even begun
        rc = leat_queue_nack(q, m, 0, LEAT_UNCOUNTED);
    else if (result == LEAT_DONE)
        rc = leat_queue_ack(q, m);
    else if (result == LEAT_DEAD)
        rc = leat_queue_reject(q, m, "handler");
    else
        rc = leat_queue_nack(q, m, ms >= 0 ? ms : work_retry_ms(all), 0);
    if (rc == LEAT_EINVAL) // a delay beyond what there is
        rc = leat_queue_nack_receipt(q, m->receipt, work_retry_ms(all), 0);
    if (rc != 0)
        work_say(all, "settling", rc);
}

// ---- the threads

static bool work_over(const struct work *all) {
    return atomic_load(&all->quit) || atomic_load(&all->q->mq->shut);
}

static void work_pause(struct work *all, struct work_seat *seat) {
    leat *mq = all->q->mq;
    int64_t until = lt_add_ms(lt_now_ns(mq), WORK_RETRY_MS);
    lt_waiter_arm(mq, &seat->waiter);
    if (!work_over(all))
        (void)lt_wait(mq, &seat->waiter, until);
}

static void work_run(leat_workers *w) {
    struct work *all = w->self;
    lt_lock(&w->lock);
    struct work_seat *seat = &all->seat[all->taken++];
    lt_unlock(&w->lock);
    while (!work_over(all)) {
        leat_message m;
        int rc = lt_queue_receive_until(all->q, &all->quit, &m);
        if (rc == 1) {
            work_one(all, seat, &m);
        } else if (rc < 0 && rc != LEAT_ECLOSED) {
            work_say(all, "receive", rc);
            work_pause(all, seat);
        }
    }
}

static void work_wake(leat_workers *w) {
    struct work *all = w->self;
    atomic_store(&all->quit, true);
    lt_queue_wake_all(all->q);
    for (int i = 0; i < all->seats; i++)
        lt_waiter_notify(w->mq, &all->seat[i].waiter);
}

// ---- making and ending

static void work_free_memory(leat_workers *w) {
    struct work *all = w->self;
    lt_free(&w->mq->mem, all->seat);
    lt_free(&w->mq->mem, all);
}

static void work_free(leat_workers *w) {
    struct work *all = w->self;
    while (all->seats > 0) {
        struct work_seat *seat = &all->seat[--all->seats];
        lt_due_end(w->mq, &seat->due);
        lt_waiter_fini(w->mq, &seat->waiter);
    }
    work_free_memory(w);
}

static void work_end(leat_workers *w) {
    leat_queue *q = ((struct work *)w->self)->q;
    work_free(w);
    lt_queue_let_go(q);
}

static const struct lt_workers_owner work_owner = {
    .run = work_run, .wake = work_wake, .end = work_end, .forget = work_free_memory
};

static int work_seats(struct work *all, leat_workers *w) {
    all->seat = lt_zalloc(&w->mq->mem, (size_t)w->threads * sizeof *all->seat);
    int rc = all->seat ? 0 : lt_fail_nomem();
    while (rc == 0 && all->seats < w->threads) {
        struct work_seat *seat = &all->seat[all->seats];
        seat->q = all->q;
        seat->w = w;
        rc = lt_due_init(w->mq, &seat->due, work_renew);
        if (rc != 0)
            break;
        rc = lt_waiter_init(w->mq, &seat->waiter);
        if (rc != 0)
            lt_due_end(w->mq, &seat->due);
        all->seats += rc == 0;
    }
    return rc;
}

static int work_check(leat_queue *q, leat_handler_fn fn, const leat_worker_options *o) {
    int rc = lt_workers_check(q->mq, fn, o);
    if (rc == 0 && o->auto_extend < 0)
        rc = lt_fail(LEAT_EINVAL, "worker options: auto_extend is %d", o->auto_extend);
    if (rc == 0 && o->dead_letter)
        rc = lt_fail(LEAT_EINVAL, "worker options: the dead-letter queue is an option of queue %s",
                     q->name);
    if (rc == 0 && o->retry_ms > LT_DELAY_MAX_MS)
        rc = lt_fail(LEAT_EINVAL, "worker options: retry_ms is above 366 days");
    return rc;
}

static int work_start(leat_queue *q, leat_handler_fn fn, void *ctx, const leat_worker_options *o,
                      leat_workers **out) {
    leat *mq = q->mq;
    leat_workers *w = NULL;
    lt_workers_reap(mq);
    int rc = lt_workers_new(mq, fn, ctx, o, &w);
    if (rc != 0)
        return rc;
    struct work *all = lt_zalloc(&mq->mem, sizeof *all);
    if (!all) {
        lt_workers_free(w);
        return lt_fail_nomem();
    }
    all->q = q;
    all->extends = o->auto_extend;
    all->retry_ms = o->retry_ms == LEAT_ZERO ? 0 : o->retry_ms ? o->retry_ms : LEAT_FOREVER;
    w->owner = &work_owner;
    w->self = all;
    rc = work_seats(all, w);
    if (rc == 0) {
        lt_queue_hold(q); // its own opening of it
        *out = w;         // before a handler may ask for it
        rc = lt_workers_start(w);
        if (rc != 0)
            lt_queue_let_go(q);
    }
    if (rc != 0) {
        *out = NULL;
        work_free(w);
        lt_workers_free(w);
    }
    return rc;
}

int leat_queue_start(leat_queue *q, leat_handler_fn fn, void *ctx, const leat_worker_options *o,
                     leat_workers **out) {
    static const leat_worker_options defaults;
    if (!out)
        return lt_fail(LEAT_EINVAL, "start: out is NULL");
    *out = NULL;
    o = o ? o : &defaults;
    int rc = lt_begin(q ? q->mq : NULL, LT_CALL);
    if (rc != 0)
        return rc;
    rc = work_check(q, fn, o);
    if (rc == 0)
        rc = work_start(q, fn, ctx, o, out);
    return lt_end(q->mq, rc);
}
