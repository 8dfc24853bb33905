/* SPDX-License-Identifier: MIT */
#include "base/courier.h"

#include "base/core.h"
#include "base/rest.h"

enum { COURIER_NAP_NS = 50000 };

int lt_courier_init(struct lt_courier *c) {
    *c = (struct lt_courier){ .open = true };
    lt_list_init(&c->threaded);
    lt_list_init(&c->polled);
    lt_list_init(&c->sleepers);
    int rc = lt_mutex_init(&c->lock, LT_RANK_COURIER);
    if (rc != 0)
        return rc;
    rc = lt_cond_init(&c->cond);
    if (rc != 0)
        goto no_cond;
    rc = lt_beacon_init(&c->beacon);
    if (rc == 0)
        return 0;
    lt_cond_fini(&c->cond);
no_cond:
    lt_mutex_fini(&c->lock);
    return rc;
}

void lt_courier_fini(leat *mq) {
    struct lt_courier *c = &mq->courier;
    lt_beacon_fini(&c->beacon);
    if (!lt_forked(mq)) // it would wait for threads of the parent
        lt_cond_fini(&c->cond);
    lt_mutex_fini(&c->lock);
}

// ---- the descriptor: level-triggered, so it is set where the list changes

static void courier_signal(struct lt_courier *c) {
    if (lt_list_empty(&c->polled))
        lt_beacon_lower(&c->beacon);
    else
        lt_beacon_raise(&c->beacon);
}

int leat_fd(leat *mq) {
    int rc = lt_enter(mq, LT_CALL);
    if (rc != 0)
        return rc;
    struct lt_courier *c = &mq->courier;
    lt_lock(&c->lock);
    int fd = lt_beacon_open(&c->beacon, "leat_fd");
    courier_signal(c);
    lt_unlock(&c->lock);
    return fd;
}

// ---- errands

void lt_errand_init(struct lt_errand *e, bool polled, int (*run)(leat *mq, struct lt_errand *e)) {
    *e = (struct lt_errand){ .run = run, .polled = polled };
    lt_node_init(&e->node);
}

static void courier_put(struct lt_courier *c, struct lt_errand *e) {
    lt_list_push_back(e->polled ? &c->polled : &c->threaded, &e->node);
    courier_signal(c);
}

static void courier_take(struct lt_courier *c, struct lt_errand *e) {
    lt_list_remove(&e->node);
    courier_signal(c);
}

// Runs e once; the lock is held at entry and exit. e stays posted unless there was nothing to tell.
// Returns  as run.
static int courier_run(leat *mq, struct lt_errand *e) {
    struct lt_courier *c = &mq->courier;
    courier_take(c, e);
    e->running = true;
    e->posted = false;
    c->running++;
    bool polled = e->polled;
    lt_unlock(&c->lock);
    int n = e->run(mq, e);
    lt_lock(&c->lock);
    c->running--;
    if (n < 0) { // e is no more
        if (!polled)
            lt_clock_tell(mq, -1);
        lt_rest_stir(mq);
        return n;
    }
    e->running = false;
    e->posted |= n > 0;
    if (e->posted && c->open)
        courier_put(c, e);
    else if (!e->polled)
        lt_clock_tell(mq, -1);
    lt_cond_broadcast(&c->cond);
    lt_rest_stir(mq);
    return n;
}

static void *courier_main(void *arg) {
    leat *mq = arg;
    struct lt_courier *c = &mq->courier;
    lt_lock(&c->lock);
    while (c->open) {
        struct lt_node *n = lt_list_first(&c->threaded);
        if (n) {
            (void)courier_run(mq, LT_CONTAINER(n, struct lt_errand, node));
            continue;
        }
        // More is about to come where something has come: nobody need wake us for it.
        c->naps = true;
        (void)lt_cond_wait_until(&c->cond, &c->lock, lt_real_ns() + COURIER_NAP_NS);
        c->naps = false;
        if (c->open && lt_list_empty(&c->threaded))
            lt_cond_wait(&c->cond, &c->lock);
    }
    lt_unlock(&c->lock);
    return NULL;
}

static int courier_start(leat *mq) {
    struct lt_courier *c = &mq->courier;
    if (c->runs || !c->open)
        return 0;
    int rc = lt_thread_start(&c->thread, courier_main, mq);
    c->runs = rc == 0;
    return rc;
}

int lt_errand_post(leat *mq, struct lt_errand *e) {
    struct lt_courier *c = &mq->courier;
    int rc = 0;
    lt_lock(&c->lock);
    bool put = !e->posted && !e->running && c->open;
    e->posted = true;
    if (put)
        courier_put(c, e);
    if (put && !e->polled) {
        lt_clock_tell(mq, 1);
        if (!c->naps)
            lt_cond_broadcast(&c->cond);
    }
    if (!e->polled && !e->running)
        rc = courier_start(mq); // also if that failed for an earlier one
    for (struct lt_node *n = put && e->polled ? lt_list_first(&c->sleepers) : NULL; n;
         n = lt_list_next(&c->sleepers, n))
        lt_waiter_notify(mq, LT_CONTAINER(n, struct lt_sleeper, node)->waiter);
    if (put && e->polled)
        lt_rest_stir(mq); // who watches runs it
    lt_unlock(&c->lock);
    return rc;
}

int lt_errand_run(leat *mq, struct lt_errand *e) {
    struct lt_courier *c = &mq->courier;
    int sum = 0;
    lt_lock(&c->lock);
    while (e->posted && !e->running) {
        int n = courier_run(mq, e);
        sum += n < 0 ? -1 - n : n;
        if (n <= 0)
            break;
    }
    lt_unlock(&c->lock);
    return sum;
}

void lt_errand_end(leat *mq, struct lt_errand *e) {
    struct lt_courier *c = &mq->courier;
    if (lt_forked(mq))
        return;
    lt_lock(&c->lock);
    while (e->running)
        lt_cond_wait(&c->cond, &c->lock);
    if (lt_node_linked(&e->node)) {
        courier_take(c, e);
        if (!e->polled)
            lt_clock_tell(mq, -1);
    }
    e->posted = true; // a later post changes nothing
    lt_rest_stir(mq);
    lt_unlock(&c->lock);
}

// ---- who polls

static int courier_dispatch(leat *mq) {
    struct lt_courier *c = &mq->courier;
    int sum = 0;
    lt_lock(&c->lock);
    for (struct lt_node *n; (n = lt_list_first(&c->polled));) {
        int told = courier_run(mq, LT_CONTAINER(n, struct lt_errand, node));
        told = told < 0 ? -1 - told : told;
        sum = sum < INT32_MAX - told ? sum + told : INT32_MAX;
    }
    lt_unlock(&c->lock);
    return sum;
}

int lt_courier_round(leat *mq) {
    struct lt_courier *c = &mq->courier;
    int there = 0;
    lt_lock(&c->lock);
    for (struct lt_node *n = lt_list_first(&c->polled); n; n = lt_list_next(&c->polled, n))
        there++;
    struct lt_node *first;
    for (int i = 0; i < there && (first = lt_list_first(&c->polled)); i++)
        (void)courier_run(mq, LT_CONTAINER(first, struct lt_errand, node));
    lt_unlock(&c->lock);
    return there;
}

const char *lt_courier_lacks(leat *mq) {
    struct lt_courier *c = &mq->courier;
    lt_lock(&c->lock);
    bool runs = c->running > 0;
    bool waits = !lt_list_empty(&c->threaded) || !lt_list_empty(&c->polled);
    lt_unlock(&c->lock);
    return runs ? "a callback runs" : waits ? "a callback waits to run" : NULL;
}

static void courier_sleep(leat *mq, struct lt_sleeper *s, bool begin) {
    struct lt_courier *c = &mq->courier;
    lt_lock(&c->lock);
    if (begin)
        lt_list_push_back(&c->sleepers, &s->node);
    else
        lt_list_remove(&s->node);
    lt_unlock(&c->lock);
}

static int courier_dispatch_wait(leat *mq, int64_t timeout_ms) {
    struct lt_waiter waiter;
    struct lt_sleeper s = { .waiter = &waiter };
    int rc = lt_waiter_init(mq, &waiter);
    if (rc != 0)
        return rc;
    int64_t deadline = lt_add_ms(lt_now_ns(mq), timeout_ms);
    courier_sleep(mq, &s, true);
    do {
        lt_waiter_arm(mq, &waiter);
        lt_due_fire(mq);
        int n = courier_dispatch(mq);
        rc = n > 0 ? n : lt_wait(mq, &waiter, deadline);
    } while (rc == 0);
    courier_sleep(mq, &s, false);
    lt_waiter_fini(mq, &waiter);
    return rc == LEAT_ETIMEDOUT ? 0 : rc;
}

int leat_dispatch(leat *mq, int64_t timeout_ms) {
    int rc = lt_begin(mq, LT_CALL);
    if (rc != 0)
        return rc;
    rc = lt_check_timeout(timeout_ms);
    if (rc == 0) {
        lt_due_fire(mq);
        rc = courier_dispatch(mq);
    }
    if (rc == 0 && timeout_ms != 0)
        rc = courier_dispatch_wait(mq, timeout_ms);
    return lt_end(mq, rc);
}

// ---- the end

bool lt_courier_runs(leat *mq) {
    struct lt_courier *c = &mq->courier;
    lt_lock(&c->lock);
    bool runs = c->runs;
    lt_unlock(&c->lock);
    return runs;
}

void lt_courier_end(leat *mq) {
    struct lt_courier *c = &mq->courier;
    if (lt_forked(mq))
        return; // it is the parent's
    lt_lock(&c->lock);
    bool runs = c->runs;
    c->open = c->runs = false;
    lt_cond_broadcast(&c->cond);
    lt_unlock(&c->lock);
    if (runs)
        lt_thread_join(c->thread);
}
