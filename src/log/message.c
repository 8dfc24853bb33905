/* SPDX-License-Identifier: MIT */
// message: views that outlive the call which gave them.
#include "log/log.h"

#include <string.h>

// A message of a channel callback is the publisher's own bytes; holding it makes this copy.
struct message_copy {
    struct lt_pinned pinned;
    leat *mq;
    _Atomic int refs; // release on drop, acquire before freeing
    char bytes[];
};

static void message_keep(struct lt_pinned *obj) {
    struct message_copy *copy = LT_CONTAINER(obj, struct message_copy, pinned);
    atomic_fetch_add_explicit(&copy->refs, 1, memory_order_relaxed);
}

static void message_drop(struct lt_pinned *obj) {
    struct message_copy *copy = LT_CONTAINER(obj, struct message_copy, pinned);
    if (atomic_fetch_sub_explicit(&copy->refs, 1, memory_order_acq_rel) == 1)
        lt_free(&copy->mq->mem, copy);
}

static void message_copy_string(const char **field, char **to) {
    if (!*field)
        return;
    size_t n = strlen(*field) + 1;
    memcpy(*to, *field, n);
    *field = *to;
    *to += n;
}

// Copies value, channel and pattern of m and makes *m refer to the copies.
static struct lt_pinned *message_copy_of(leat *mq, leat_message *m) {
    size_t n = m->value.size + 1 + (m->topic ? strlen(m->topic) + 1 : 0) +
               (m->pattern ? strlen(m->pattern) + 1 : 0);
    struct message_copy *copy = lt_alloc(&mq->mem, sizeof *copy + n);
    if (!copy) {
        (void)lt_fail_nomem();
        return NULL;
    }
    copy->pinned = (struct lt_pinned){ message_keep, message_drop };
    copy->mq = mq;
    atomic_init(&copy->refs, 1);
    char *to = copy->bytes;
    if (m->value.size > 0)
        memcpy(to, m->value.data, m->value.size);
    to[m->value.size] = '\0';
    m->value.data = to;
    to += m->value.size + 1;
    message_copy_string(&m->topic, &to);
    message_copy_string(&m->pattern, &to);
    return &copy->pinned;
}

int leat_message_hold(leat *mq, const leat_message *m, leat_message *kept) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!m || !kept)
        return lt_fail(LEAT_EINVAL, "hold: a message is NULL");
    bool inline_channel = m->view == 0 && m->offset == -1 && m->topic;
    if (m->view == 0 && !inline_channel)
        return lt_fail(LEAT_ESTALE, "the message has no view");
    leat_message copy = *m;
    struct lt_pinned *obj = inline_channel ? message_copy_of(mq, &copy) : lt_pin_keep(mq, m->view);
    if (!obj)
        return inline_channel ? LEAT_ENOMEM
                              : lt_fail(LEAT_ESTALE, "the view has been ended before");
    rc = lt_pin_add(mq, LT_PIN_HELD, obj, NULL, &copy.view);
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
