/* SPDX-License-Identifier: MIT */
#include "base/rest.h"

#include "base/core.h"

static _Thread_local const struct lt_clock
    *rest_serves; // whose worker this thread is; NULL: none's

void lt_rest_watch(leat *mq, int more) {
    atomic_fetch_add(&mq->clock.watchers, more);
}

uint64_t lt_rest_stirs(leat *mq) {
    lt_lock(&mq->clock.lock);
    uint64_t stirs = mq->clock.stirs;
    lt_unlock(&mq->clock.lock);
    return stirs;
}

static void rest_stir_locked(struct lt_clock *c) {
    c->stirs++;
    lt_cond_broadcast(&c->changed);
}

void lt_rest_stir(leat *mq) {
    struct lt_clock *c = &mq->clock;
    if (atomic_load(&c->watchers) == 0)
        return;
    lt_lock(&c->lock);
    rest_stir_locked(c);
    lt_unlock(&c->lock);
}

// What is planned of both kinds, whoever is to do it.
static bool rest_is_due(leat *mq) {
    int64_t event = atomic_load(&mq->clock.events.next);
    int64_t chore = atomic_load(&mq->clock.chores.next);
    return (event < chore ? event : chore) <= lt_now_ns(mq);
}

const char *lt_rest_lacks(leat *mq) {
    struct lt_clock *c = &mq->clock;
    lt_lock(&c->due_lock);
    bool due = c->firing > 0 || rest_is_due(mq);
    lt_unlock(&c->due_lock);
    lt_lock(&c->lock);
    bool at_work = c->at_work > 0, woken = c->ready_count > 0;
    lt_unlock(&c->lock);
    return at_work ? "a handler, or the thread it has, is at work"
           : due   ? "something is due, or is being done"
           : woken ? "a call that was woken has not left its wait"
                   : NULL;
}

int lt_rest_wait(leat *mq, uint64_t seen, int64_t limit_ns) {
    struct lt_clock *c = &mq->clock;
    int rc = 0;
    lt_lock(&c->lock);
    while (rc == 0 && c->stirs == seen) {
        int64_t until = limit_ns;
        if (c->mode == LEAT_CLOCK_SYSTEM) {
            int64_t next = lt_due_next(mq);
            if (next <= lt_now_ns(mq))
                break;
            until = next < limit_ns ? next : limit_ns;
        }
        if (atomic_load(&mq->shut))
            rc = LEAT_ECLOSED;
        else if (lt_real_ns() >= limit_ns)
            rc = LEAT_ETIMEDOUT;
        else
            (void)lt_cond_wait_until(&c->changed, &c->lock, until);
    }
    lt_unlock(&c->lock);
    if (rc == 0 && atomic_load(&mq->shut))
        rc = LEAT_ECLOSED;
    // Where something stirs all the time, too.
    return rc == 0 && lt_real_ns() >= limit_ns ? LEAT_ETIMEDOUT : rc;
}

// ---- workers

void lt_rest_hire(leat *mq, int more) {
    struct lt_clock *c = &mq->clock;
    lt_lock(&c->lock);
    c->at_work += more;
    rest_stir_locked(c);
    lt_unlock(&c->lock);
}

void lt_rest_serve(leat *mq) {
    rest_serves = &mq->clock;
}

void lt_rest_blocks(struct lt_clock *c, bool begins) {
    if (rest_serves == c)
        c->at_work += begins ? -1 : 1;
    rest_stir_locked(c);
}
