/* SPDX-License-Identifier: MIT */
// letter: what is moved to a dead-letter topic, by a queue or by a group's workers, says where it
// comes from: seven headers behind its own, see leat_message_header. It is of the time of its move:
// what a dead-letter queue keeps for a day is there for a day.
#include "log/log.h"

#include <stdio.h>

struct letter_origin {
    char partition[16], offset[24], timestamp[24], deliveries[16];
    leat_header header[LT_PROVENANCE];
};

static void letter_describe(const struct lt_letter *l, struct letter_origin *o) {
    const leat_message *m = l->message;
    (void)snprintf(o->partition, sizeof o->partition, "%d", m->partition);
    (void)snprintf(o->offset, sizeof o->offset, "%lld", (long long)m->offset);
    (void)snprintf(o->timestamp, sizeof o->timestamp, "%lld", (long long)m->timestamp_ms);
    (void)snprintf(o->deliveries, sizeof o->deliveries, "%u", l->deliveries);
    const char *pairs[LT_PROVENANCE][2] = {
        { l->kind, l->who },
        { "leat.topic", m->topic },
        { "leat.partition", o->partition },
        { "leat.offset", o->offset },
        { "leat.timestamp", o->timestamp },
        { "leat.deliveries", o->deliveries },
        { "leat.reason", l->reason },
    };
    for (size_t i = 0; i < LT_PROVENANCE; i++) {
        o->header[i].name = leat_str(pairs[i][0]);
        o->header[i].value = leat_str(pairs[i][1]);
    }
}

int lt_letter_send(const struct lt_letter *l, leat_metadata *md) {
    const leat_message *m = l->message;
    struct letter_origin origin;
    leat_header own[LT_HEADERS_MAX];
    // A message that was moved before tells of its last move only.
    size_t count = (size_t)m->reserved[1];
    for (size_t i = 0; i < count && i < LT_HEADERS_MAX; i++)
        (void)leat_message_header(m, i, &own[i]);
    letter_describe(l, &origin);
    leat_record r = {
        .key = m->key, .value = m->value, .headers = own, .header_count = count, .group = l->group
    };
    struct lt_send send = { .topic = l->to,
                            .record = &r,
                            .extra = origin.header,
                            .extra_count = LT_PROVENANCE,
                            .acks = LEAT_ACKS_DISK,
                            .where = l->where };
    return lt_send_record(&send, md);
}
