/* SPDX-License-Identifier: MIT */
#include "base/service.h"

#include "base/core.h"

void lt_service_init(struct lt_service *s, bool allowed) {
    s->allowed = allowed;
    s->open = s->needed = false;
    atomic_init(&s->runs, false);
    atomic_init(&s->wake_ns, INT64_MIN);
}

static void service_sleep(struct lt_clock *c) {
    struct lt_service *s = &c->service;
    int64_t until = atomic_load(&c->chores.next);
    atomic_store(&s->wake_ns, until);
    if (atomic_load(&c->chores.next) >= until) // else planned by somebody who saw the old wake_ns
        (void)lt_cond_wait_until(&s->cond, &c->lock, until);
    atomic_store(&s->wake_ns, INT64_MIN);
}

static void *service_main(void *arg) {
    leat *mq = arg;
    struct lt_clock *c = &mq->clock;
    lt_lock(&c->lock);
    while (c->service.open && !atomic_load(&mq->shut)) {
        if (atomic_load(&c->chores.next) > lt_now_ns(mq)) {
            service_sleep(c);
            continue;
        }
        lt_unlock(&c->lock);
        lt_chores_fire(mq);
        lt_lock(&c->lock);
    }
    lt_unlock(&c->lock);
    return NULL;
}

static int service_start_locked(leat *mq) {
    struct lt_service *s = &mq->clock.service;
    if (!s->allowed || !s->needed || !s->open || lt_service_runs(s))
        return 0;
    int rc = lt_cond_init(&s->cond);
    if (rc != 0)
        return rc;
    rc = lt_thread_start(&s->thread, service_main, mq);
    if (rc != 0)
        lt_cond_fini(&s->cond);
    else
        atomic_store(&s->runs, true);
    return rc;
}

int lt_service_need(leat *mq) {
    lt_lock(&mq->clock.lock);
    mq->clock.service.needed = true;
    int rc = service_start_locked(mq);
    lt_unlock(&mq->clock.lock);
    return rc;
}

int lt_service_open(leat *mq) {
    lt_lock(&mq->clock.lock);
    mq->clock.service.open = true;
    int rc = service_start_locked(mq);
    lt_unlock(&mq->clock.lock);
    return rc;
}

void lt_service_wake(leat *mq, int64_t due_ns) {
    struct lt_service *s = &mq->clock.service;
    if (due_ns >= atomic_load(&s->wake_ns) && due_ns != INT64_MIN)
        return;
    lt_lock(&mq->clock.lock);
    if (lt_service_runs(s))
        lt_cond_signal(&s->cond);
    lt_unlock(&mq->clock.lock);
}

void lt_service_end(leat *mq) {
    struct lt_service *s = &mq->clock.service;
    if (lt_forked(mq))
        return; // it is the parent's
    lt_lock(&mq->clock.lock);
    bool runs = lt_service_runs(s);
    s->open = false;
    if (runs)
        lt_cond_signal(&s->cond);
    lt_unlock(&mq->clock.lock);
    if (!runs)
        return;
    lt_thread_join(s->thread);
    lt_lock(&mq->clock.lock); // somebody may be about to wake it
    atomic_store(&s->runs, false);
    lt_unlock(&mq->clock.lock);
    lt_cond_fini(&s->cond);
}
