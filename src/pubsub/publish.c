/* SPDX-License-Identifier: MIT */
// publish: records on channels. What they may be is what a topic takes.
#include "pubsub/channel.h"

enum {
    PUBLISH_KEY_MAX = 64 * 1024, // as in leat.h
    PUBLISH_HEADERS_MAX = 64,
    PUBLISH_RECORD_MAX = 16 * 1024 * 1024
};

static int publish_check_bytes(const char *channel, leat_bytes b, size_t *sum) {
    if (!b.data && b.size != 0)
        return lt_fail(LEAT_EINVAL, "channel %.32s: %zu bytes at NULL", channel, b.size);
    if (b.size > PUBLISH_RECORD_MAX || (*sum += b.size) > PUBLISH_RECORD_MAX)
        return lt_fail(LEAT_ETOOBIG, "channel %.32s: a record of more than %d bytes", channel,
                       PUBLISH_RECORD_MAX);
    return 0;
}

static int publish_check_headers(const char *channel, const leat_record *r, size_t *sum) {
    if (r->header_count > PUBLISH_HEADERS_MAX)
        return lt_fail(LEAT_ETOOBIG, "channel %.32s: %zu headers; the limit is %d", channel,
                       r->header_count, PUBLISH_HEADERS_MAX);
    if (!r->headers && r->header_count != 0)
        return lt_fail(LEAT_EINVAL, "channel %.32s: the headers are NULL", channel);
    int rc = 0;
    for (size_t i = 0; i < r->header_count && rc == 0; i++) {
        if (!r->headers[i].name.data)
            return lt_fail(LEAT_EINVAL, "channel %.32s: a header without a name", channel);
        rc = publish_check_bytes(channel, r->headers[i].name, sum);
        if (rc == 0)
            rc = publish_check_bytes(channel, r->headers[i].value, sum);
    }
    return rc;
}

static int publish_check(const char *channel, const leat_record *r) {
    size_t sum = 0;
    if (r->to_partition != 0 || r->priority != 0 || r->delay_ms != 0 || r->group.data ||
        r->group.size != 0 || r->dedup_id.data || r->dedup_id.size != 0)
        return lt_fail(LEAT_EINVAL,
                       "channel %.32s: a record has key, value, headers and timestamp only",
                       channel);
    if (r->timestamp_ms < 0)
        return lt_fail(LEAT_EINVAL, "channel %.32s: the timestamp is negative", channel);
    if (!r->value.data && !r->key.data)
        return lt_fail(LEAT_EINVAL, "channel %.32s: a null value needs a key", channel);
    if (r->key.size > PUBLISH_KEY_MAX)
        return lt_fail(LEAT_ETOOBIG, "channel %.32s: a key of %zu bytes; the limit is %d", channel,
                       r->key.size, PUBLISH_KEY_MAX);
    int rc = publish_check_bytes(channel, r->key, &sum);
    if (rc == 0)
        rc = publish_check_bytes(channel, r->value, &sum);
    if (rc == 0)
        rc = publish_check_headers(channel, r, &sum);
    return rc != 0 ? rc : lt_check_reserved("leat_record", r->reserved, 4);
}

int leat_publish_record(leat *mq, const char *channel, const leat_record *r) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!channel)
        return lt_check_name("channel", channel);
    rc = r ? publish_check(channel, r) : lt_fail(LEAT_EINVAL, "publish: the record is NULL");
    if (rc != 0)
        return rc;
    leat_message m = { .key = r->key,
                       .value = r->value,
                       .offset = -1,
                       .timestamp_ms = r->timestamp_ms,
                       .header_count = (uint32_t)r->header_count };
    m.reserved[LT_MESSAGE_HEADERS] = (uint64_t)(uintptr_t)r->headers;
    return lt_channel_publish(mq, channel, &m);
}
