/* SPDX-License-Identifier: MIT */
// counts: how many messages of a queue are in which state, and of all queues together.
#include "queue/room.h"

uint64_t lt_queue_available(const leat_queue *q) {
    uint64_t sum = 0;
    for (int32_t i = 0; i < q->count; i++) {
        uint64_t delayed = 0;
        (void)lt_queue_lazy(q, lt_queue_part(q, i), &sum, &delayed, false);
        sum += lt_backlog_available(&lt_queue_part(q, i)->backlog);
    }
    return sum;
}

// What came into the topic of q since the store was opened.
static uint64_t counts_sent(const leat_queue *q) {
    uint64_t sum = 0;
    for (int32_t i = 0; i < q->count; i++) {
        struct lt_partition *p = lt_queue_part(q, i)->p;
        lt_lock(&p->lock);
        sum += p->appended;
        lt_unlock(&p->lock);
    }
    return sum;
}

// The age of what is first in its partition and not final.
static int counts_oldest(const leat_queue *q, int64_t *ms) {
    int rc = 0;
    *ms = 0;
    for (int32_t i = 0; i < q->count && rc >= 0; i++) {
        const struct lt_queue_part *part = lt_queue_part(q, i);
        int64_t end = atomic_load_explicit(&part->p->end, memory_order_acquire), first_ms, age;
        rc = lt_partition_first_time(part->p, part->window.head, end, &first_ms);
        if (rc == 1 && __builtin_sub_overflow(lt_wall_ms(q->mq), first_ms, &age))
            age = first_ms < 0 ? INT64_MAX : 0;
        if (rc == 1 && age > *ms)
            *ms = age;
    }
    return rc < 0 ? rc : 0;
}

int lt_queue_count(leat_queue *q, leat_queue_stats *s) {
    int rc = lt_queue_catch_up(q);
    uint64_t available = 0, delayed = 0;
    for (int32_t i = 0; i < q->count; i++) {
        struct lt_queue_part *part = lt_queue_part(q, i);
        lt_queue_follow(q, part);
        int failed = lt_queue_admit(q, part, atomic_load(&part->p->end));
        if (failed == 0)
            failed = lt_queue_lazy(q, part, &available, &delayed, true);
        available += lt_backlog_available(&part->backlog) + lt_backlog_waiting(&part->backlog);
        rc = rc ? rc : failed;
    }
    lt_queue_plan(q);
    *s = (leat_queue_stats){ .available = available,
                             .delayed = delayed + q->leases.count[LT_LEASE_DELAYED],
                             .leased = lt_queue_leased(q),
                             .moving = q->leases.count[LT_LEASE_MOVING],
                             .kept = q->kept,
                             .done = q->done,
                             .dead = q->died,
                             .expired = q->expired,
                             .sent = counts_sent(q) };
    int old = counts_oldest(q, &s->oldest_ms);
    return rc == 0 ? old : rc;
}

int leat_queue_get_stats(leat_queue *q, leat_queue_stats *s, size_t size_of_s) {
    int rc = lt_enter(q ? q->mq : NULL, LT_CALL_CB);
    if (rc == 0 && (!s || size_of_s != sizeof *s))
        rc = lt_fail(LEAT_EINVAL, "queue stats: out is NULL or has %zu bytes", size_of_s);
    if (rc == 0)
        rc = lt_begin(q->mq, LT_CALL_CB);
    if (rc != 0)
        return rc;
    lt_queue_look(q);
    lt_lock(q->lock);
    rc = lt_queue_count(q, s);
    lt_unlock(q->lock);
    return lt_end(q->mq, rc);
}

int lt_queues_leased(leat *mq) {
    int rc = 0;
    struct lt_list *all = &mq->queues->all;
    lt_lock(&mq->log->admin);
    for (struct lt_node *n = lt_list_first(all); n && rc == 0; n = lt_list_next(all, n)) {
        leat_queue *q = LT_CONTAINER(n, leat_queue, node);
        lt_lock(q->lock);
        uint64_t leased = lt_queue_leased(q);
        lt_unlock(q->lock);
        if (leased > 0)
            rc = lt_fail(LEAT_EBUSY, "queue %s: %llu message%s leased", q->name,
                         (unsigned long long)leased, leased == 1 ? " is" : "s are");
    }
    lt_unlock(&mq->log->admin);
    return rc;
}

void lt_queues_count(leat *mq, leat_stats *s) {
    struct lt_list *all = &mq->queues->all;
    lt_lock(&mq->log->admin);
    for (struct lt_node *n = lt_list_first(all); n; n = lt_list_next(all, n)) {
        leat_queue *q = LT_CONTAINER(n, leat_queue, node);
        lt_lock(q->lock);
        s->received += q->received;
        s->acked += q->done;
        lt_unlock(q->lock);
    }
    s->received += mq->queues->gone_received;
    s->acked += mq->queues->gone_acked;
    lt_unlock(&mq->log->admin);
}
