/* SPDX-License-Identifier: MIT */
// mailbox: what waits for one subscription, oldest first, and what goes when it is full. Pure: it
// waits for nobody, locks nothing, and knows no clock.
//
//   head                          tail            ring: as many slots as were ever needed at once
//    | copy | copy | copy | copy |  ...  |        before: how many were lost just in front of it
//
// Invariants
//  1. What waits is a message for each slot from head to tail, each with one reference.
//  2. The numbers lost of all that wait, and the one behind the last, add up to what was dropped
//     and is not told yet: nothing that is lost is told twice or not at all.
//  3. With LEAT_KEEP_LATEST at most one message of each channel and key waits; chains lead to it.
#ifndef LT_PUBSUB_MAILBOX_H
#define LT_PUBSUB_MAILBOX_H

#include "log/log.h"

struct lt_mail {
    struct lt_copy *copy;
    uint64_t before; // how many were lost just before it
    uint32_t hash;   // LEAT_KEEP_LATEST: of channel and key; next: slot + 1 of the next, 0: none
    uint32_t next;
};

struct lt_mailbox {
    struct lt_mem *mem;
    struct lt_mail *ring;
    uint32_t *chain;          // LEAT_KEEP_LATEST: slot + 1 of the first of each hash
    size_t mask;              // slots - 1, if there is a ring
    uint64_t head, tail;      // of all that ever came, the first that waits, the next to come
    uint64_t lost;            // since the last one came
    uint64_t dropped;         // ever
    uint64_t count_max;       // most that waited at once
    int64_t bytes, bytes_max; // of what waits
    uint64_t room;            // messages; UINT64_MAX: no bound
    int32_t when_full;        // LEAT_DROP_OLDEST, ...
};

enum lt_mail_result {
    LT_MAIL_TAKEN,   // its reference is the mailbox's
    LT_MAIL_DROPPED, // counted
    LT_MAIL_FULL     // LEAT_BLOCK, LEAT_FAIL: nothing changed
};

// lt_mailbox_init makes one for `room` messages and bytes_max bytes; INT64_MAX: any number.
void lt_mailbox_init(struct lt_mailbox *b, struct lt_mem *mem, int64_t room, int64_t bytes_max,
                     int32_t when_full);
// lt_mailbox_fini drops what waits.
void lt_mailbox_fini(struct lt_mailbox *b);

static inline uint64_t lt_mailbox_count(const struct lt_mailbox *b) {
    return b->tail - b->head;
}

// lt_mailbox_put does what is to be done with one more; in_hand: how many that were taken out count
// as waiting. One that is larger than all bytes allowed is taken when nothing waits. A message that
// takes the place of an older one of its key is TAKEN, and the older one not counted as dropped.
enum lt_mail_result lt_mailbox_put(struct lt_mailbox *b, struct lt_copy *copy, uint64_t in_hand);
// lt_mailbox_lose counts one that could not come.
void lt_mailbox_lose(struct lt_mailbox *b);
// lt_mailbox_first looks at the oldest, NULL if nothing waits; lt_mailbox_take takes it out, with
// its reference.
const struct lt_mail *lt_mailbox_first(const struct lt_mailbox *b);
struct lt_mail lt_mailbox_take(struct lt_mailbox *b);
// lt_mailbox_clear drops what waits and counts none of it. Returns  how many.
uint64_t lt_mailbox_clear(struct lt_mailbox *b);

#endif
