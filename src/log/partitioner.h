/* SPDX-License-Identifier: MIT */
// partitioner: which partition a record goes to. A record that names one goes there. Else the
// producer's rule is asked, once for each record that is sound, with no lock held: also by several
// threads at the same time.
#ifndef LT_LOG_PARTITIONER_H
#define LT_LOG_PARTITIONER_H

#include "log/topic.h"

enum { LT_STICKY_BYTES = 16 * 1024 }; // Kafka's batch.size: then the next partition

// lt_partitioner is the rule of a producer or a queue. All zero: by key, else sticky.
struct lt_partitioner {
    int32_t rule;          // LEAT_BY_KEY and so on; 0: by key
    uint32_t sticky_bytes; // 0: LT_STICKY_BYTES
    leat_partitioner_fn function;
    void *ctx;
    _Atomic uint64_t sticky; // partition << 32 | bytes sent to it; relaxed: a hint
};

// lt_partitioner_check checks what the options say of it. Returns  LEAT_EINVAL.
int lt_partitioner_check(const leat_producer_options *o);
// lt_partitioner_init takes the rule from options that are checked. sticky_bytes: records without
// a key stay together for so many; 0: LT_STICKY_BYTES.
void lt_partitioner_init(struct lt_partitioner *w, const leat_producer_options *o,
                         int64_t sticky_bytes);

// lt_partitioner_ask is lt_partitioner_pick for the cases that are not inline.
struct lt_partition *lt_partitioner_ask(struct lt_partitioner *w, leat_topic *t,
                                        const struct lt_plan *plan, int32_t partitions);

// lt_partitioner_pick chooses where a planned record goes, among the first `partitions` of t. w
// NULL: by key, else each by chance. Returns  NULL: LEAT_ERANGE, with its text. Locks: none.
static inline struct lt_partition *lt_partitioner_pick(struct lt_partitioner *w, leat_topic *t,
                                                       const struct lt_plan *plan,
                                                       int32_t partitions) {
    if (partitions == 1 && plan->record->to_partition == 0 && !(w && w->function))
        return lt_topic_part(t, 0);
    return lt_partitioner_ask(w, t, plan, partitions);
}

#endif
