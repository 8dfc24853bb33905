/* SPDX-License-Identifier: MIT */
// assign: who gets which partition. Pure: no allocation, no clock, no lock, and the same input
// gives the same result.
//
//   range        each topic by itself: runs of n/m partitions for the m members that read it, in
//                order, the first n%m of them one more (Kafka's RangeAssignor)
//   round robin  all partitions of all topics in order, the members in a circle; one that does not
//                read the topic is passed over (Kafka's RoundRobinAssignor)
//   sticky       balanced as Kafka's StickyAssignor means it: a member with two fewer than another
//                could take over none of the other's partitions. What is owned stays where it is,
//                as far as that allows. If all members read the same, no assignment that is
//                balanced moves fewer; if not, few, since that is a hard problem
#ifndef LT_LOG_ASSIGN_H
#define LT_LOG_ASSIGN_H

#include <stddef.h>
#include <stdint.h>

struct lt_assign {
    size_t topics, members;
    const int32_t *partitions; // of each topic; topics and members are in the order that counts
    const uint8_t *reads;      // [member * topics + topic]: not 0 if the member reads the topic
    const int32_t *owner;      // of each partition, topic by topic: index of a member, or -1
    int32_t *target;           // out, as owner; -1: nobody reads the topic
    int32_t *load; // scratch, one per member; afterwards the partitions that it is to have
};

// lt_assign fills in the targets, by one of LEAT_ASSIGN_*.
void lt_assign(int32_t how, const struct lt_assign *a);

#endif
