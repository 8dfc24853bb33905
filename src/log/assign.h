/* SPDX-License-Identifier: MIT */
// assign: who gets which partition. Pure.
#ifndef LT_LOG_ASSIGN_H
#define LT_LOG_ASSIGN_H

#include <stdint.h>

// lt_assign_range returns which of the members (0 .. members-1, in order) gets a partition, by
// Kafka's range rule: runs of partitions/members in order, the first partitions%members members
// get one more. Each topic is shared out by itself.
static inline int32_t lt_assign_range(int32_t partition, int32_t partitions, int32_t members) {
    int32_t each = partitions / members, more = partitions % members;
    int32_t large = more * (each + 1); // partitions of the members that get one more
    return partition < large ? partition / (each + 1) : more + (partition - large) / each;
}

#endif
