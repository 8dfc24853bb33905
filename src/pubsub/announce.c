/* SPDX-License-Identifier: MIT */
// announce: a topic with .announce_on has a tap of its own, which publishes each record. It is no
// child of the store: nobody opened it, nobody need close it.
#include "pubsub/announce.h"

#include "pubsub/pubsub.h"
#include "pubsub/tap.h"

enum { ANNOUNCE_HEADERS = LT_HEADERS_MAX + LT_PROVENANCE };

// That somebody found no room for it, and the like, is counted there.
static void announce_hear(leat_subscription *s, const leat_message *m, void *ctx) {
    const leat_topic *t = ctx;
    leat_header header[ANNOUNCE_HEADERS];
    leat_message copy = *m;
    (void)s;
    copy.header_count = 0;
    while (copy.header_count < ANNOUNCE_HEADERS &&
           leat_message_header(m, copy.header_count, &header[copy.header_count]) == 1)
        copy.header_count++;
    copy.view = 0; // inline subscribers who hold it get a copy
    for (int i = 0; i < 4; i++)
        copy.reserved[i] = 0;
    copy.reserved[LT_MESSAGE_HEADERS] = copy.header_count ? (uint64_t)(uintptr_t)header : 0;
    (void)lt_channel_publish(t->mq, t->announce_on, &copy);
}

int lt_announce(leat_topic *t) {
    static const leat_subscription_options defaults;
    leat_subscription *s = lt_subscription_new(t->mq, t->name, NULL);
    if (!s)
        return LEAT_ENOMEM;
    s->fn = announce_hear;
    s->ctx = t;
    s->exact = true;
    int rc = lt_tap_make(s, t, -1, LEAT_END, &defaults);
    if (rc == 0)
        rc = lt_tap_start(s);
    if (rc == 0)
        t->announcer = s;
    else
        lt_subscription_drop(s);
    return rc;
}

void lt_announce_end(leat_topic *t) {
    leat_subscription *s = t->announcer;
    t->announcer = NULL;
    if (s)
        lt_subscription_drop(s);
}

// The topics that were there before this room was.
int lt_announce_all(leat *mq) {
    int rc = 0;
    if (lt_read_only(mq))
        return 0;
    for (leat_topic *t = lt_topic_next(mq->log, NULL); t && rc == 0; t = lt_topic_next(mq->log, t))
        if (t->announce_on && !t->announcer)
            rc = lt_announce(t);
    mq->log->announce = lt_announce;
    mq->log->unannounce = lt_announce_end;
    return rc;
}

void lt_announce_end_all(leat *mq) {
    for (leat_topic *t = lt_topic_next(mq->log, NULL); t; t = lt_topic_next(mq->log, t)) {
        if (!lt_forked(mq)) {
            lt_announce_end(t);
        } else if (t->announcer) {
            lt_queued_forget(t->announcer);
            lt_free(&mq->mem, t->announcer);
        }
    }
}
