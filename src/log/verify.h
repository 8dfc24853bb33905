/* SPDX-License-Identifier: MIT */
// verify: reads all of a partition and says what is whole. It changes nothing and follows the rules
// of recovery (recover.c): what cannot be read below what is proved to have been on disk is damage,
// what cannot be read behind it is an unfinished tail. Unlike an open it reads every record, holds
// seals and indexes to them, and goes on behind damage.
#ifndef LT_LOG_VERIFY_H
#define LT_LOG_VERIFY_H

#include "base/core.h"
#include "log/topic.h"

struct lt_verify {
    leat *mq; // with LEAT_READ_ONLY; its log has slots and perhaps a manifest
    leat_write_fn write;
    void *ctx;
    int stopped;     // `write` has said so: what the call returns
    uint64_t damage; // damaged ranges
    // Tells whether a topic that seems damaged is gone by now: its owner may be at work.
    bool (*gone)(struct lt_verify *v, uint32_t topic_id);
    // Counts the words of a queue that are garbage, and in *n those that are not untouched. A
    // function of the queue's room.
    uint64_t (*garbage)(const uint8_t *words, size_t *n, uint64_t uid, uint32_t queue_id,
                        int64_t base);
};

// lt_verify_say writes a line of the report; lt_verify_damage one that counts a damaged range.
void lt_verify_say(struct lt_verify *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void lt_verify_damage(struct lt_verify *v, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

// lt_verify_partition reads a partition, reports its segments, and adds its readable records.
// Returns  LEAT_EIO, LEAT_ENOMEM and the like: of the system, never of damage.
int lt_verify_partition(struct lt_verify *v, uint32_t topic_id, uint32_t partition,
                        uint64_t *records);

// lt_verify_numbers collects the names in a directory that are numbers, sorted.
// Returns  0 (also where there is no such directory), LEAT_EIO, LEAT_ENOMEM. Owns  free *out.
int lt_verify_numbers(leat *mq, const char *path, uint32_t **out, size_t *count);

// lt_verify_page reads the header page of a segment. Returns  0; LEAT_ECORRUPT; LEAT_EIO.
int lt_verify_page(leat *mq, const char *path, struct lt_segment_head *head);

#endif
