/* SPDX-License-Identifier: MIT */
#include "base/workers.h"

#include "base/rest.h"

#include <string.h>

static const char workers_kind[] = "workers";

// ---- making and freeing

int lt_workers_check(leat *mq, leat_handler_fn fn, const leat_worker_options *o) {
    int rc = lt_check_reserved("worker options", o->reserved, 8);
    if (rc != 0)
        return rc;
    if (!fn)
        return lt_fail(LEAT_EINVAL, "start: the handler is NULL");
    if (o->threads < 0 || o->threads > LT_WORKERS_MAX)
        return lt_fail(LEAT_EINVAL, "worker options: threads is %d; 1 to %d", o->threads,
                       LT_WORKERS_MAX);
    if (o->retry_ms < 0 && o->retry_ms != LEAT_ZERO)
        return lt_fail(LEAT_EINVAL, "worker options: retry_ms is %lld", (long long)o->retry_ms);
    if (!mq->threads)
        return lt_fail(LEAT_EINVAL, "the store was opened with LEAT_NO_THREADS: poll instead");
    return 0;
}

static int workers_name(leat_workers *w, const char *name) {
    size_t n = name ? strlen(name) + 1 : 0;
    if (n == 0)
        return 0;
    w->name = lt_alloc(&w->mq->mem, n);
    if (!w->name)
        return lt_fail_nomem();
    memcpy(w->name, name, n);
    return 0;
}

static void workers_free_memory(leat_workers *w) {
    struct lt_mem *mem = &w->mq->mem;
    lt_free(mem, w->thread);
    lt_free(mem, w->name);
    lt_free(mem, w);
}

void lt_workers_free(leat_workers *w) {
    lt_waiter_fini(w->mq, &w->stopper);
    lt_cond_fini(&w->gone);
    lt_mutex_fini(&w->lock);
    workers_free_memory(w);
}

int lt_workers_new(leat *mq, leat_handler_fn fn, void *ctx, const leat_worker_options *o,
                   leat_workers **out) {
    leat_workers *w = lt_zalloc(&mq->mem, sizeof *w);
    if (!w)
        return lt_fail_nomem();
    w->mq = mq;
    w->fn = fn;
    w->ctx = ctx;
    w->on_end = o->on_end;
    w->threads = o->threads ? o->threads : 1;
    w->thread = lt_zalloc(&mq->mem, (size_t)w->threads * sizeof *w->thread);
    int rc = w->thread ? workers_name(w, o->name) : lt_fail_nomem();
    if (rc == 0)
        rc = lt_mutex_init(&w->lock, LT_RANK_WORKERS);
    if (rc != 0)
        goto no_lock;
    rc = lt_cond_init(&w->gone);
    if (rc != 0)
        goto no_cond;
    rc = lt_waiter_init(mq, &w->stopper);
    if (rc == 0) {
        *out = w;
        return 0;
    }
    lt_cond_fini(&w->gone);
no_cond:
    lt_mutex_fini(&w->lock);
no_lock:
    workers_free_memory(w);
    return rc;
}

// ---- the threads

static void workers_tell_end(leat_workers *w) {
    if (!w->on_end)
        return;
    lt_callback_begin();
    w->on_end(w->ctx);
    lt_callback_end();
}

static void *workers_main(void *arg) {
    leat_workers *w = arg;
    leat *mq = w->mq;
    lt_rest_serve(mq);
    w->owner->run(w);
    lt_lock(&w->lock);
    bool ends = --w->running == 0 && w->abandoned;
    if (ends)
        atomic_store(&w->over, true);
    if (w->stopping) {
        lt_cond_broadcast(&w->gone);
        lt_waiter_notify(w->mq, &w->stopper);
    }
    lt_unlock(&w->lock); // who joins this thread may be about to free w
    if (ends) {
        w->owner->end(w);
        workers_tell_end(w);
    }
    lt_rest_hire(mq, -1); // who frees the store joins this thread first
    return NULL;
}

static void workers_join(leat_workers *w) {
    for (int i = 0; i < w->threads; i++)
        lt_thread_join(w->thread[i]);
}

static void workers_halt_locked(leat_workers *w, enum lt_workers_phase phase) {
    if (w->phase < phase)
        w->phase = phase;
    w->owner->wake(w);
}

static int workers_child_close(struct lt_child *child, int64_t timeout_ms);
static void workers_child_forget(struct lt_child *child);
static void workers_child_count(const struct lt_child *child, leat_stats *s);

int lt_workers_start(leat_workers *w) {
    int rc = 0, started = 0, asked = w->threads;
    lt_lock(&w->lock);
    while (started < asked && rc == 0) {
        w->running++;
        lt_rest_hire(w->mq, 1);
        rc = lt_thread_start(&w->thread[started], workers_main, w);
        if (rc == 0) {
            started++;
        } else {
            w->running--;
            lt_rest_hire(w->mq, -1);
        }
    }
    w->threads = started;
    w->child = (struct lt_child){ .kind = workers_kind,
                                  .name = w->name,
                                  .first = true,
                                  .close = workers_child_close,
                                  .forget = workers_child_forget,
                                  .count = workers_child_count };
    if (rc == 0)
        lt_child_add(w->mq, &w->child);
    else
        w->phase = LT_WORKERS_HALT;
    lt_unlock(&w->lock); // the threads wait for it before they do anything
    if (rc != 0)
        workers_join(w);
    return rc;
}

bool lt_workers_call(leat_workers *w, const leat_message *m, int64_t *retry_delay_ms, int *result) {
    lt_lock(&w->lock);
    bool may = w->phase != LT_WORKERS_HALT && !atomic_load(&w->mq->shut);
    w->inside += may;
    lt_unlock(&w->lock);
    if (!may)
        return false;
    lt_callback_begin();
    *result = w->fn(w, m, retry_delay_ms, w->ctx);
    lt_callback_end();
    lt_lock(&w->lock);
    w->inside--;
    if (w->stopping)
        lt_cond_broadcast(&w->gone);
    lt_unlock(&w->lock);
    return true;
}

// ---- stopping

// The threads are gone, or are about to be: nobody else ends w.
static void workers_finish(leat_workers *w) {
    workers_join(w);
    if (!atomic_load(&w->over)) { // else the last thread has done it
        w->owner->end(w);
        workers_tell_end(w);
    }
    lt_child_remove(w->mq, &w->child);
    lt_workers_free(w);
}

// Waits until all threads have left, or until the deadline on the store's clock; after a shutdown,
// which ends all waits on it, in real time.
static void workers_wait_drained(leat_workers *w, int64_t timeout_ms) {
    int64_t deadline = lt_add_ms(lt_now_ns(w->mq), timeout_ms);
    int64_t limit = lt_add_ms(lt_real_ns(), timeout_ms);
    int rc = timeout_ms == 0 ? LEAT_ETIMEDOUT : 0;
    while (rc == 0) {
        lt_waiter_arm(w->mq, &w->stopper);
        lt_lock(&w->lock);
        bool gone = w->running == 0;
        lt_unlock(&w->lock);
        if (gone)
            return;
        rc = lt_wait(w->mq, &w->stopper, deadline);
    }
    if (rc != LEAT_ECLOSED)
        return;
    bool in_time = true;
    lt_lock(&w->lock);
    while (w->running > 0 && in_time)
        in_time = lt_cond_wait_until(&w->gone, &w->lock, limit);
    lt_unlock(&w->lock);
}

// Returns  LEAT_ETIMEDOUT: a handler still runs.
static int workers_stop_outside(leat_workers *w, int64_t timeout_ms) {
    lt_lock(&w->lock);
    bool busy = w->stopping, over = atomic_load(&w->over);
    if (!busy && !over) {
        w->stopping = true;
        w->abandoned = false;
        workers_halt_locked(w, LT_WORKERS_DRAIN);
    }
    lt_unlock(&w->lock);
    if (busy)
        return lt_fail(LEAT_EBUSY, "another thread stops workers %s already",
                       w->name ? w->name : "(unnamed)");
    if (over) { // stopped in a callback before: this one is for the store
        workers_finish(w);
        return 0;
    }
    workers_wait_drained(w, timeout_ms);
    lt_lock(&w->lock);
    workers_halt_locked(w, LT_WORKERS_HALT);
    while (w->running > w->inside) // these are on their way out
        lt_cond_wait(&w->gone, &w->lock);
    int left = w->running;
    w->stopping = left == 0;
    lt_unlock(&w->lock);
    if (left > 0)
        return lt_fail(LEAT_ETIMEDOUT, "workers %s: a handler still runs on %d thread%s",
                       w->name ? w->name : "(unnamed)", left, left == 1 ? "" : "s");
    workers_finish(w);
    return 0;
}

// In a callback, which may be one that the threads wait for. A stop elsewhere goes on and ends
// them.
static int workers_abandon(leat_workers *w) {
    lt_lock(&w->lock);
    w->abandoned = !w->stopping;
    bool over = atomic_load(&w->over), gone = w->abandoned && w->running == 0 && !over;
    if (!over)
        workers_halt_locked(w, LT_WORKERS_HALT);
    lt_unlock(&w->lock);
    if (gone) // with a shutdown: nobody is left to do it
        workers_finish(w);
    return 0;
}

int leat_workers_stop(leat_workers *w, int64_t timeout_ms) {
    int rc = lt_enter(w ? w->mq : NULL, LT_CALL_CB | LT_CALL_SHUT);
    if (rc == 0)
        rc = lt_check_timeout(timeout_ms);
    if (rc != 0)
        return rc;
    return lt_in_callback() ? workers_abandon(w) : workers_stop_outside(w, timeout_ms);
}

// ---- as children of the store

static int workers_child_close(struct lt_child *child, int64_t timeout_ms) {
    int rc = workers_stop_outside(LT_CONTAINER(child, leat_workers, child), timeout_ms);
    return rc == LEAT_ETIMEDOUT ? LEAT_EBUSY : rc;
}

static void workers_child_forget(struct lt_child *child) {
    leat_workers *w = LT_CONTAINER(child, leat_workers, child);
    w->owner->forget(w);
    workers_free_memory(w);
}

static void workers_child_count(const struct lt_child *child, leat_stats *s) {
    s->threads += (uint64_t)LT_CONTAINER(child, leat_workers, child)->threads;
}

static leat_workers *workers_take_over(leat *mq) {
    leat_workers *found = NULL;
    lt_lock(&mq->children_lock);
    for (struct lt_node *n = lt_list_first(&mq->children); n && !found;
         n = lt_list_next(&mq->children, n)) {
        struct lt_child *child = LT_CONTAINER(n, struct lt_child, node);
        if (child->kind == workers_kind &&
            atomic_load(&LT_CONTAINER(child, leat_workers, child)->over))
            found = LT_CONTAINER(child, leat_workers, child);
    }
    if (found)
        lt_list_remove(&found->child.node);
    lt_unlock(&mq->children_lock);
    return found;
}

void lt_workers_reap(leat *mq) {
    leat_workers *w;
    while ((w = workers_take_over(mq))) {
        workers_join(w);
        lt_workers_free(w);
    }
}
