/* SPDX-License-Identifier: MIT */
// send_if: a record that is stored only where its sender expects the log to end. The end is
// compared under the lock under which the record is appended, so of two who expect the same one
// wins.
#include "log/log.h"

int lt_send_if(const struct lt_send *s, int32_t partition, int64_t expected_end,
               leat_metadata *md) {
    if (expected_end < 0)
        return lt_fail(LEAT_EINVAL, "send if: the expected end is %lld", (long long)expected_end);
    int64_t named = (int64_t)s->record->to_partition - 1;
    if (named != -1 && named != partition)
        return lt_fail(LEAT_EINVAL, "send if: to partition %d, and the record names %lld",
                       partition, (long long)named);
    if (!lt_topic_partition(s->topic, partition))
        return LEAT_ERANGE;
    leat_record r = *s->record;
    r.to_partition = LEAT_PARTITION(partition);
    struct lt_send one = *s;
    one.record = &r;
    one.expected_end = &expected_end;
    return lt_send_record(&one, md);
}
