/* SPDX-License-Identifier: MIT */
// queue: the door of this folder. A queue is a small ledger about a topic: it never moves a record.
#ifndef LT_QUEUE_QUEUE_H
#define LT_QUEUE_QUEUE_H

#include "base/core.h"
#include "base/text.h"

// lt_queues_open opens the queue room: queues by the manifest's notes, what was in flight is
// available again.
// Returns  LEAT_ECORRUPT, LEAT_EIO, LEAT_ENOSPC, LEAT_ENOMEM.
int lt_queues_open(leat *mq);
// lt_queues_close stores the heads and frees the room.
// Returns  the first error of making the words durable.
int lt_queues_close(leat *mq);
// lt_queues_leased is LEAT_EBUSY naming a queue that has messages leased, or 0.
int lt_queues_leased(leat *mq);
// lt_queues_count adds what the queues count to *s.
void lt_queues_count(leat *mq, leat_stats *s);
// lt_queues_dump tells what is in the queues. Locks: none. Returns  LEAT_ENOMEM.
int lt_queues_dump(leat *mq, struct lt_text *text);
// lt_queue_garbage tells how many of n words beside a segment, as its file of queue `id` has them,
// are neither untouched nor valid, and in *n how many are not untouched.
uint64_t lt_queue_garbage(const uint8_t *words, size_t *n, uint64_t uid, uint32_t id, int64_t base);

#endif
