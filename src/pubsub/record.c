/* SPDX-License-Identifier: MIT */
// record: a subscription that appends what it hears to a topic, on the publisher's thread, before
// the publish returns. Each record has one more header, leat.channel.
#include "pubsub/record.h"

#include "pubsub/pattern.h"

#include <string.h>

// The first of a row of failures is told.
static void record_failed(struct lt_recorder *r, const leat_message *m) {
    atomic_fetch_add_explicit(&r->failed, 1, memory_order_relaxed);
    if (!atomic_exchange_explicit(&r->fails, true, memory_order_relaxed))
        lt_say(r->into->mq, LEAT_LOG_WARNING, "channel %s is not recorded: %s", m->topic,
               leat_errmsg());
}

void lt_record_hear(leat_subscription *s, const leat_message *m, void *ctx) {
    struct lt_recorder *r = s->recorder;
    const leat_header channel = { leat_str("leat.channel"), leat_str(m->topic) };
    const leat_record record = {
        .key = m->key,
        .value = m->value,
        .headers = (const leat_header *)(uintptr_t)m->reserved[LT_MESSAGE_HEADERS],
        .header_count = m->header_count,
        .timestamp_ms = m->timestamp_ms
    };
    const struct lt_send send = { .topic = r->into,
                                  .record = &record,
                                  .extra = &channel,
                                  .extra_count = 1,
                                  .acks = LEAT_ACKS_LOG };
    leat_metadata md;
    (void)ctx;
    if (lt_begin(r->into->mq, LT_CALL_CB) != 0)
        return;
    int rc = lt_send_record(&send, &md);
    if (rc == 0) {
        atomic_fetch_add_explicit(&r->stored, 1, memory_order_relaxed);
        atomic_store_explicit(&r->fails, false, memory_order_relaxed);
    } else {
        record_failed(r, m);
    }
    (void)lt_end(r->into->mq, rc);
}

// ---- no record may lead to itself

static bool record_hears(const char *pattern, const char *channel) {
    return channel && lt_glob_match(pattern, strlen(pattern), channel, strlen(channel));
}

static bool record_is_reached(struct lt_channels *cs, const struct lt_recorder *to,
                              const char *channel) {
    if (record_hears(to->pattern, channel))
        return true;
    for (struct lt_node *n = lt_list_first(&cs->recorders); n;
         n = lt_list_next(&cs->recorders, n)) {
        const struct lt_recorder *r = LT_CONTAINER(n, struct lt_recorder, node);
        if (r->reached && record_hears(to->pattern, r->into->announce_on))
            return true;
    }
    return false;
}

// Whether what `fresh` stores comes back to it, by way of topics that are announced and others that
// record. Locks: the channels'.
static bool record_is_circular(struct lt_channels *cs, const struct lt_recorder *fresh) {
    const char *channel = fresh->into->announce_on;
    struct lt_node *n;
    for (n = lt_list_first(&cs->recorders); n; n = lt_list_next(&cs->recorders, n))
        LT_CONTAINER(n, struct lt_recorder, node)->reached = false;
    for (bool more = true; more;) {
        more = false;
        for (n = lt_list_first(&cs->recorders); n; n = lt_list_next(&cs->recorders, n)) {
            struct lt_recorder *r = LT_CONTAINER(n, struct lt_recorder, node);
            if (!r->reached && record_is_reached(cs, r, channel))
                more = r->reached = true;
        }
    }
    return record_is_reached(cs, fresh, channel);
}

int lt_record_enter_locked(struct lt_channels *cs, struct lt_recorder *r) {
    if (record_is_circular(cs, r))
        return lt_fail(LEAT_EINVAL, "recording %s in topic %s: it hears what that is announced on",
                       r->pattern, r->into->name);
    lt_list_push_back(&cs->recorders, &r->node);
    return 0;
}

// ---- public

int leat_channel_record(leat *mq, const char *pattern, leat_topic *into, leat_subscription **out) {
    if (out)
        *out = NULL;
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc == 0 && (!into || !out))
        rc = lt_fail(LEAT_EINVAL, "recording: %s is NULL", into ? "out" : "the topic");
    if (rc == 0 && into->mq != mq)
        rc = lt_fail(LEAT_EINVAL, "recording: topic %s is of another store", into->name);
    if (rc == 0)
        rc = lt_topic_alive(into);
    if (rc == 0)
        rc = lt_check_writable(mq, "topic", into->name);
    return rc != 0 ? rc : lt_subscription_record(mq, pattern, into, out);
}
