/* SPDX-License-Identifier: MIT */
// event: what happens to a consumer's partitions, in a ring until it is told.
#include "log/consumer.h"

#include <string.h>

enum { EVENTS_KEPT = 1024, EVENTS_FIRST = 16 };

static _Thread_local char event_here; // its address is this thread's

void lt_consumer_call_begin(leat_consumer *c) {
    atomic_store_explicit(&c->teller, (uintptr_t)&event_here, memory_order_relaxed);
    lt_callback_begin();
}

void lt_consumer_call_end(leat_consumer *c) {
    lt_callback_end();
    atomic_store_explicit(&c->teller, 0, memory_order_relaxed);
}

bool lt_consumer_tells_here(const leat_consumer *c) {
    return atomic_load_explicit(&c->teller, memory_order_relaxed) == (uintptr_t)&event_here;
}

static int event_room(leat_consumer *c) {
    if (c->event_count < c->event_room)
        return 0;
    if (c->event_room >= EVENTS_KEPT && !c->on_event) { // nobody asks: the oldest goes
        c->event_first = (c->event_first + 1) % c->event_room;
        c->event_count--;
        return 0;
    }
    size_t room = c->event_room ? 2 * c->event_room : EVENTS_FIRST;
    leat_event *grown = lt_zalloc(&c->mq->mem, room * sizeof *grown);
    if (!grown)
        return lt_fail_nomem();
    for (size_t i = 0; i < c->event_count; i++)
        grown[i] = c->event[(c->event_first + i) % c->event_room];
    lt_free(&c->mq->mem, c->event);
    c->event = grown;
    c->event_room = room;
    c->event_first = 0;
    return 0;
}

int lt_consumer_event(leat_consumer *c, int32_t kind, const struct lt_partition *p,
                      int64_t offset) {
    int rc = event_room(c);
    if (rc == 0)
        c->event[(c->event_first + c->event_count++) % c->event_room] = (leat_event){
            .kind = kind, .partition = p->number, .topic = p->topic->name, .offset = offset
        };
    return rc;
}

static bool event_take(leat_consumer *c, leat_event *e) {
    if (c->event_count == 0)
        return false;
    *e = c->event[c->event_first];
    c->event_first = (c->event_first + 1) % c->event_room;
    c->event_count--;
    return true;
}

void lt_consumer_tell(leat_consumer *c) {
    leat_event e;
    while (c->on_event && event_take(c, &e)) {
        lt_consumer_call_begin(c);
        c->on_event(c, &e, c->event_ctx);
        lt_consumer_call_end(c);
    }
}

int leat_consumer_event(leat_consumer *c, leat_event *e) {
    if (!e)
        return lt_fail(LEAT_EINVAL, "consumer event: the event's pointer is NULL");
    memset(e, 0, sizeof *e);
    int rc = lt_consumer_enter(c);
    if (rc != 0)
        return rc;
    if (!c->on_event) {
        c->asks = true;
        rc = lt_consumer_rebalance(c, false);
    }
    if (rc >= 0)
        rc = !c->on_event && event_take(c, e);
    return lt_consumer_leave(c, rc);
}
