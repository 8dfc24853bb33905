/* SPDX-License-Identifier: MIT */
// hold: a call that waits for something to end in a producer.
#include "log/producer.h"

static void hold_count(leat_producer *p, int more) {
    lt_lock(&p->told_lock);
    p->waiting += more;
    lt_unlock(&p->told_lock);
}

int lt_hold_begin(leat_producer *p, struct lt_list *list, struct lt_hold *h) {
    int rc = lt_waiter_init(p->mq, &h->waiter);
    if (rc != 0)
        return rc;
    lt_waiter_arm(p->mq, &h->waiter);
    lt_list_push_back(list, &h->node);
    hold_count(p, 1);
    return 0;
}

void lt_hold_end(leat_producer *p, struct lt_hold *h) {
    lt_list_remove(&h->node);
    hold_count(p, -1);
    lt_waiter_fini(p->mq, &h->waiter);
}

int lt_hold_wait(leat_producer *p, struct lt_hold *h, int64_t deadline_ns) {
    lt_unlock(&p->lock);
    int rc = lt_wait(p->mq, &h->waiter, deadline_ns);
    lt_lock(&p->lock);
    lt_waiter_arm(p->mq, &h->waiter);
    return rc;
}
