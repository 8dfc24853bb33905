/* SPDX-License-Identifier: MIT */
// tap: a subscription whose messages come out of a topic. There is no mailbox: the log is the
// buffer, and a tap is a place in each partition. What was there before it and what comes later is
// the same walk, so there is no seam where a message could be missing or come twice.
//
// One thread at a time walks: the errand, or leat_subscription_next. What others look at (parts,
// their places, what was lost) changes under the lock of the subscription's lt_queued.
//
// Who finds nothing more asks each partition to ring at its next append. The bell then posts the
// errand, or wakes next: with the bell's lock held, so without the queued's.
#ifndef LT_PUBSUB_TAP_H
#define LT_PUBSUB_TAP_H

#include "log/log.h"
#include "pubsub/channel.h"

struct lt_tap_part {
    struct lt_cursor cursor;
    int64_t seen;  // where the partition ended when nothing more was found
    int64_t at;    // all below was given, lost, or never was; for others to see
    int64_t until; // a drain waits for at to be there
};

struct lt_tap {
    leat_subscription *s;
    leat_topic *topic;
    struct lt_ear ear;
    struct lt_tap_part *part;
    int32_t count; // of parts
    int32_t only;  // the one partition; -1: all, also those that come
    int32_t turn;  // the part that is looked at first
    int32_t run;   // so many came out of it in a row
    uint64_t lost; // since the last one was given: gone before they were read, or damaged
    uint64_t dropped;
    bool stuck;                // the last round failed
    int32_t fresh;             // so many partitions a drain waits for; it sets their until
    struct lt_segment *pinned; // the segment that token pins, borrowed from the token
    uint64_t token;            // of what fn sees; 0: none
};

// lt_tap_make makes s, which nobody has found yet, a tap.
// Returns  LEAT_ERANGE, LEAT_EINVAL (`from`), LEAT_EIO, LEAT_ENOMEM: it is to be dropped.
int lt_tap_make(leat_subscription *s, leat_topic *t, int32_t partition, int64_t from,
                const leat_subscription_options *o);
// lt_tap_start has it give what there is: fn may have closed s on return, which is touched no more.
// Returns  LEAT_ENOMEM: there is no thread to be had, fn was not called, it is to be dropped.
int lt_tap_start(leat_subscription *s);
// lt_tap_deafen: on return the bell does not ring for it any more; twice is once. NULL is fine, as
// in the next two.
void lt_tap_deafen(struct lt_tap *tap);
// lt_tap_free frees it; lt_tap_forget does in a fork.
void lt_tap_free(struct lt_tap *tap);
void lt_tap_forget(struct lt_tap *tap);

// lt_tap_find looks for the next message. Locks: none held; it takes the queued's.
// Returns  1: lt_tap_take gives it; 0: there is none, and the bell will ring; LEAT_EGONE (the topic
//          was deleted), LEAT_ECLOSED, LEAT_EIO, LEAT_ENOMEM.
int lt_tap_find(struct lt_tap *tap);
// lt_tap_take_locked gives the message that was found. kind: LT_PIN_POLL: its view ends with the
// next one; LT_PIN_VIEW: it is the caller's. Locks: the queued's.
// Returns  LEAT_ENOMEM, LEAT_EFULL: it is still the next.
int lt_tap_take_locked(struct lt_tap *tap, enum lt_pin_kind kind, leat_message *m);

// lt_tap_round_locked calls fn with up to max messages. Locks: the queued's, given up meanwhile.
// Returns  how many there were.
int lt_tap_round_locked(struct lt_tap *tap, int max);

// lt_tap_waiting is how many there may be still. Locks: the queued's.
uint64_t lt_tap_waiting(const struct lt_tap *tap);
// lt_tap_has_news tells whether lt_tap_find may say something else than 0. Locks: the queued's.
bool lt_tap_has_news(const struct lt_tap *tap);

// lt_tap_drain_locked notes where the partitions end, and lt_tap_drains tells whether what is below
// is still to be given, and may be. Locks: the queued's, which is sealed.
void lt_tap_drain_locked(struct lt_tap *tap);
bool lt_tap_drains(const struct lt_tap *tap);

#endif
