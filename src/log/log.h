/* SPDX-License-Identifier: MIT */
// log: the door of this folder. Bytes and offsets, and the stream on top of them. Rooms above
// (queue, pubsub, store) include this header only.
#ifndef LT_LOG_LOG_H
#define LT_LOG_LOG_H

#include "base/text.h"
#include "log/copy.h"
#include "log/cursor.h"
#include "log/partitioner.h"
#include "log/topic.h"
#include "log/verify.h"

// lt_log_open opens the log room of a store: manifest, slots, topics, groups.
// Returns  LEAT_ECORRUPT, LEAT_EINVAL (a later version's), LEAT_EIO, LEAT_ENOSPC, LEAT_ENOMEM.
int lt_log_open(leat *mq, bool create);
// lt_log_close makes everything durable, unless this is a fork or the store is in memory, and
// frees the room. The first error is returned.
int lt_log_close(leat *mq);

// lt_log_count adds what the log counts to *s.
void lt_log_count(leat *mq, leat_stats *s);

// lt_log_dump tells what there is: topics, groups and producers. Locks: none.
// Returns  LEAT_ENOMEM, LEAT_ECLOSED.
int lt_log_dump(leat *mq, struct lt_text *text);

// lt_producers_ripen makes what lingers for others due now, and tells whether some record was
// accepted and has not got its report. Locks: none.
bool lt_producers_ripen(leat *mq);

// lt_futures_count counts the futures that were not released; lt_futures_free releases them.
size_t lt_futures_count(leat *mq);
void lt_futures_free(leat *mq);

// lt_send appends r to t with provenance headers `extra`, as safe as acks says. What leat_send,
// leat_queue_send and the dead-letter move are made of.
struct lt_send {
    leat_topic *topic;
    const leat_record *record;
    const leat_header *extra;
    size_t extra_count;
    int32_t acks;
    struct lt_partitioner *where; // NULL: see lt_partitioner_pick
    const int64_t *expected_end;  // of its partition; NULL: any
    leat_producer *behind;        // its asynchronous records for the partition go first; NULL: none
    bool fault_asked;             // a planned fault has had its turn
    int64_t sent_ms;              // wall time that a delay counts from; 0: now
};
int lt_send_record(const struct lt_send *s, leat_metadata *md);
// lt_send_if sends one record to that partition if it ends at expected_end: see leat_send_if.
int lt_send_if(const struct lt_send *s, int32_t partition, int64_t expected_end, leat_metadata *md);
// lt_send_many sends n records, s->record being the first: see leat_send_many. Room for all that
// the call needs is had, and every record checked, before the first one is appended.
int lt_send_many(const struct lt_send *s, size_t n, leat_metadata *md);

// lt_letter is a message on its way to a dead-letter topic, with where it comes from.
struct lt_letter {
    const leat_message *message; // as lt_record_view made it
    const char *kind, *who;      // "leat.queue" or "leat.group", and its name
    uint32_t deliveries;
    const char *reason;
    leat_topic *to;
    struct lt_partitioner *where; // NULL: see lt_partitioner_pick
    leat_bytes group;             // null: none
};
// lt_letter_send appends it, durably. Of earlier moves it tells nothing.
// Returns  as lt_send_record.
int lt_letter_send(const struct lt_letter *l, leat_metadata *md);

#endif
