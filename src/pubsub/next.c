/* SPDX-License-Identifier: MIT */
// next: the side of a queued subscription that is pulled, and what one counts.
#include "pubsub/queued.h"
#include "pubsub/record.h"
#include "pubsub/tap.h"

// Checks that s is one to pull from. Returns  LEAT_EINVAL, ECLOSED and the like.
static int next_enter(leat_subscription *s) {
    int rc = lt_enter(s ? s->mq : NULL, LT_CALL);
    if (rc != 0)
        return rc;
    if (!s->queued || !s->queued->pulled)
        return lt_fail(LEAT_EINVAL, "subscription %s: %s", s->child.name,
                       s->queued ? "it has a callback" : "it is inline, nothing waits");
    return 0;
}

static void next_count(struct lt_queued *q) {
    q->taken++;
    q->over = q->stop_after != 0 && q->taken >= q->stop_after;
}

// Looks into the topic. Locks: the queued's, given up meanwhile.
static int next_tap_locked(leat_subscription *s, leat_message *m) {
    struct lt_queued *q = s->queued;
    lt_unlock(&q->lock);
    int rc = lt_tap_find(s->tap);
    lt_lock(&q->lock);
    if (rc != 1)
        return rc;
    leat_message got;
    rc = lt_tap_take_locked(s->tap, LT_PIN_VIEW, &got);
    if (rc != 0)
        return rc;
    next_count(q);
    *m = got;
    return 1;
}

// Gives the oldest, as a view. Locks: the queued's. Returns  1, 0: there is none.
static int next_take_locked(leat_subscription *s, leat_message *m) {
    struct lt_queued *q = s->queued;
    const struct lt_mail *first = lt_mailbox_first(&q->box);
    if (!first && q->over)
        return lt_fail(LEAT_EGONE, "subscription %s: all of its %llu messages came", s->child.name,
                       (unsigned long long)q->stop_after);
    if (!first)
        return s->tap ? next_tap_locked(s, m) : 0;
    leat_message got = first->copy->m;
    got.pattern = s->exact ? NULL : s->pattern;
    got.dropped = first->before;
    struct lt_pinned *obj = lt_copy_pin(first->copy, &got.pattern);
    if (!obj)
        return LEAT_ENOMEM;
    int rc = lt_pin_add(s->mq, LT_PIN_VIEW, obj, &got.view);
    if (rc != 0) {
        obj->drop(obj);
        return rc;
    }
    lt_copy_drop(lt_mailbox_take(&q->box).copy, 1);
    next_count(q);
    lt_queued_taken_locked(s->mq, q);
    *m = got;
    return 1;
}

// Locks: the queued's, given up while it waits. Returns  as leat_subscription_next.
static int next_wait_locked(leat_subscription *s, int64_t timeout_ms, leat_message *m) {
    struct lt_queued *q = s->queued;
    int rc = next_take_locked(s, m);
    int64_t until = rc == 0 && timeout_ms != 0 ? lt_add_ms(lt_now_ns(s->mq), timeout_ms) : 0;
    for (bool first = true; rc == 0 && timeout_ms != 0; first = false) {
        q->sleeps = !first;
        if (q->sleeps && !s->tap)
            lt_waiter_arm(s->mq, &q->waiter);
        lt_unlock(&q->lock);
        if (first)
            lt_back_off(s->mq);
        else
            rc = lt_wait(s->mq, &q->waiter, until);
        lt_lock(&q->lock);
        q->sleeps = false;
        if (s->tap) // the bell does not wait for the lock: so before it is asked to ring
            lt_waiter_arm(s->mq, &q->waiter);
        int got = rc == 0 || rc == LEAT_ETIMEDOUT ? next_take_locked(s, m) : 0;
        rc = got != 0 ? got : rc;
    }
    return rc == LEAT_ETIMEDOUT ? 0 : rc;
}

// Runs on_end, which may close s. Returns  whether it has.
static bool next_say_end(leat_subscription *s) {
    struct lt_queued *q = s->queued;
    lt_lock(&q->lock);
    q->running = true;
    q->ender = pthread_self();
    lt_unlock(&q->lock);
    lt_subscription_say_end(s);
    lt_lock(&q->lock);
    q->running = false;
    bool leaves = q->leaves;
    lt_unlock(&q->lock);
    if (leaves)
        lt_queued_end(s);
    return leaves;
}

// The descriptor goes dark. A tap has asked for a ring when it found nothing, and only then.
static void next_rest_locked(leat_subscription *s, int rc) {
    struct lt_queued *q = s->queued;
    if (q->over || lt_mailbox_count(&q->box) > 0 || (s->tap && rc != 0))
        return;
    lt_beacon_lower(&q->beacon);
    if ((s->tap ? lt_tap_has_news(s->tap) : lt_queued_waiting(q) > 0) || atomic_load(&s->mq->shut))
        lt_beacon_raise(&q->beacon);
}

int leat_subscription_next(leat_subscription *s, int64_t timeout_ms, leat_message *m) {
    int rc = m ? lt_check_timeout(timeout_ms) : lt_fail(LEAT_EINVAL, "next: the message is NULL");
    if (rc == 0)
        rc = next_enter(s);
    if (rc != 0)
        return rc;
    struct lt_queued *q = s->queued;
    if (atomic_exchange(&q->busy, true))
        return lt_fail(LEAT_EBUSY, "another thread is in a call of subscription %s", s->child.name);
    lt_lock(&q->lock);
    bool was_over = q->over;
    rc = next_wait_locked(s, timeout_ms, m);
    bool ends = q->over && !was_over;
    next_rest_locked(s, rc);
    lt_unlock(&q->lock);
    if (!ends || !next_say_end(s))
        atomic_store(&q->busy, false);
    return rc;
}

int leat_subscription_fd(leat_subscription *s) {
    int rc = next_enter(s);
    return rc != 0 ? rc : lt_beacon_open(&s->queued->beacon, "leat_subscription_fd");
}

int leat_subscription_get_stats(leat_subscription *s, leat_subscription_stats *st,
                                size_t size_of_st) {
    int rc = lt_enter(s ? s->mq : NULL, LT_CALL_CB);
    if (rc == 0 && (!st || size_of_st != sizeof *st))
        rc = lt_fail(LEAT_EINVAL, "subscription stats: out is NULL or has %zu bytes", size_of_st);
    if (rc == 0 && s->recorder) {
        *st = (leat_subscription_stats){ .delivered = atomic_load(&s->recorder->stored),
                                         .dropped = atomic_load(&s->recorder->failed) };
        return 0;
    }
    if (rc == 0 && !s->queued)
        rc =
            lt_fail(LEAT_EINVAL, "subscription %s: it is inline and counts nothing", s->child.name);
    if (rc != 0)
        return rc;
    struct lt_queued *q = s->queued;
    lt_lock(&q->lock);
    *st = (leat_subscription_stats){ .delivered = q->taken - atomic_load(&q->in_hand),
                                     .dropped = q->box.dropped + (s->tap ? s->tap->dropped : 0),
                                     .waiting = lt_queued_waiting(q),
                                     .waiting_max = q->box.count_max };
    lt_unlock(&q->lock);
    return 0;
}
