/* SPDX-License-Identifier: MIT */
// message: views that outlive the call which gave them.
#include "log/log.h"

#include "log/copy.h"

// A message of a channel callback is the publisher's own bytes, then holding it copies them; or it
// is of a copy that waited for this subscription, which then stays. Makes *m refer to what stays.
static struct lt_pinned *message_of_channel(leat *mq, leat_message *m) {
    struct lt_copy *shared = (struct lt_copy *)(uintptr_t)m->reserved[LT_MESSAGE_COPY];
    if (shared) {
        m->reserved[LT_MESSAGE_COPY] = 0;
        return lt_copy_pin(shared, &m->pattern);
    }
    struct lt_copy *own = lt_copy_new(&mq->mem, m, 1);
    if (!own)
        return NULL;
    *m = own->m;
    return &own->pinned;
}

int leat_message_hold(leat *mq, const leat_message *m, leat_message *kept) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!m || !kept)
        return lt_fail(LEAT_EINVAL, "hold: a message is NULL");
    bool of_channel = m->view == 0 && m->topic;
    if (m->view == 0 && !of_channel)
        return lt_fail(LEAT_ESTALE, "the message has no view");
    leat_message copy = *m;
    struct lt_pinned *obj = of_channel ? message_of_channel(mq, &copy) : lt_pin_keep(mq, m->view);
    if (!obj)
        return of_channel ? LEAT_ENOMEM : lt_fail(LEAT_ESTALE, "the view has been ended before");
    rc = lt_pin_add(mq, LT_PIN_HELD, obj, &copy.view);
    if (rc != 0) {
        obj->drop(obj);
        return rc;
    }
    *kept = copy;
    return 0;
}

int leat_message_release(leat *mq, leat_message *m) {
    // Also after leat_shutdown: what was handed out must be given back.
    int rc = lt_enter(mq, LT_CALL_CB | LT_CALL_SHUT);
    if (rc == 0 && !m)
        rc = lt_fail(LEAT_EINVAL, "release: the message is NULL");
    if (rc != 0)
        return rc;
    return lt_pin_end(mq, m->view, LT_PIN_VIEW | LT_PIN_HELD);
}
