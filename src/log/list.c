/* SPDX-License-Identifier: MIT */
// list: what topics there are, and what they were told to be.
#include "log/topic.h"

static int64_t list_bytes(leat_topic *t) {
    int64_t sum = 0;
    for (int32_t i = 0; i < t->partitions; i++)
        sum += lt_partition_bytes(lt_topic_part(t, i));
    return sum;
}

static leat_topic_info list_one(leat_topic *t) {
    leat_topic_info info = { .name = t->name,
                             .bytes = list_bytes(t),
                             .dedup_window_ms = t->dedup_window_ms,
                             .dedup_window_count = t->dedup_window_count,
                             .partitions = t->partitions,
                             .announce_on = t->announce_on };
    lt_lock(&t->mq->log->table);
    info.retention_bytes = t->keeps.bytes;
    info.retention_records = t->keeps.records;
    info.retention_ms = t->keeps.ms;
    info.segment_ms = t->keeps.segment_ms;
    info.when_full = t->keeps.when_full;
    info.keep_until_consumed = t->keeps.until_consumed;
    lt_unlock(&t->mq->log->table);
    return info;
}

int leat_topic_list(leat *mq, leat_topic_info *out, size_t max, size_t size_of_one) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc == 0 && (size_of_one != sizeof(leat_topic_info) || (max > 0 && !out)))
        rc = lt_fail(LEAT_EINVAL, "topic list: out is NULL or entries of %zu bytes", size_of_one);
    if (rc != 0)
        return rc;
    size_t n = 0;
    for (leat_topic *t = lt_topic_next(mq->log, NULL); t; t = lt_topic_next(mq->log, t)) {
        if (atomic_load(&t->gone))
            continue;
        if (n < max)
            out[n] = list_one(t);
        n++;
    }
    return (int)n;
}
