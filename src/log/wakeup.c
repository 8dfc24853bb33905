/* SPDX-License-Identifier: MIT */
// wakeup: how others reach a consumer that waits, in poll or in poll(2).
//
// Whoever has news says so first, then notifies: the waiter of a poll, and the beacon of whoever
// sleeps in poll(2). A poll that ends darkens the beacon, then registers for news and looks once
// more: so the beacon is never dark while there is something.
#include "log/consumer.h"

void lt_consumer_notify(leat_consumer *c) {
    lt_waiter_notify(c->mq, &c->waiter);
    lt_beacon_raise(&c->beacon);
}

bool lt_consumer_woken(leat_consumer *c) {
    return atomic_load(&c->woken) && atomic_exchange(&c->woken, false);
}

void lt_consumer_rest(leat_consumer *c, size_t n) {
    if (n < c->records_max)
        lt_beacon_lower(&c->beacon);
    bool told = (c->event_count == 0 || !c->asks) && !lt_commits_wait(c);
    if (!told || n == c->records_max || lt_consumer_arm(c, false) || atomic_load(&c->mq->shut))
        lt_beacon_raise(&c->beacon);
}

int leat_consumer_wakeup(leat_consumer *c) {
    int rc = lt_enter(c ? c->mq : NULL, LT_CALL_CB);
    if (rc != 0)
        return rc;
    atomic_store(&c->woken, true);
    lt_consumer_notify(c);
    return 0;
}

int leat_consumer_fd(leat_consumer *c) {
    int rc = lt_consumer_enter(c);
    return rc != 0 ? rc : lt_consumer_leave(c, lt_beacon_open(&c->beacon, "leat_consumer_fd"));
}
