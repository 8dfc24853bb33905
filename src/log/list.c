/* SPDX-License-Identifier: MIT */
// list: what topics there are, and what they were told to be.
#include "log/topic.h"

static int64_t list_bytes(leat_topic *t) {
    int64_t sum = 0;
    for (int32_t i = 0; i < t->partitions; i++)
        sum += lt_partition_bytes(lt_topic_part(t, i));
    return sum;
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
            out[n] = (leat_topic_info){ .name = t->name,
                                        .bytes = list_bytes(t),
                                        .retention_bytes = t->retention_bytes,
                                        .retention_records = t->retention_records,
                                        .retention_ms = t->retention_ms,
                                        .segment_ms = t->segment_ms,
                                        .dedup_window_ms = t->dedup_window_ms,
                                        .dedup_window_count = t->dedup_window_count,
                                        .partitions = t->partitions,
                                        .when_full = t->when_full,
                                        .announce_on = t->announce_on,
                                        .keep_until_consumed = t->keep_until_consumed };
        n++;
    }
    return (int)n;
}
