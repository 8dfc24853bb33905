/* SPDX-License-Identifier: MIT */
// fault: what leat_fault_push plans: the next calls of a kind fail, or take their time.
#ifndef LT_BASE_FAULT_H
#define LT_BASE_FAULT_H

#include "base/list.h"
#include "base/sync.h"

#include "leat.h"

#include <stdatomic.h>

struct lt_faults {
    struct lt_mutex lock; // guards planned
    struct lt_list planned;
    atomic_bool any; // planned is not empty: relaxed, a call that races a push may miss it
};

int lt_faults_init(struct lt_faults *f);
void lt_faults_fini(leat *mq);

// lt_fault_take finds the first fault that is planned for this call and counts it down. Where it
// has a delay and `wait` is set, the call waits first, on the store's clock.
// Returns  0, or the error that the call is to return, with its text.
// Locks    none held if wait is set.
int lt_fault_take(leat *mq, int op, const char *topic, int32_t partition, bool wait);

// lt_fault_later is that for work that is planned: *delay_ms tells for how long it is to be put
// off, before the result counts.
int lt_fault_later(leat *mq, int op, const char *topic, int32_t partition, int64_t *delay_ms);

// Off, which is always but in tests, this is one branch.
#define lt_fault(mq, op, topic, partition, wait)                                                   \
    (atomic_load_explicit(&(mq)->faults.any, memory_order_relaxed)                                 \
         ? lt_fault_take((mq), (op), (topic), (partition), (wait))                                 \
         : 0)

#endif
