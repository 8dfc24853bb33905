/* SPDX-License-Identifier: MIT */
// record: subscriptions that store what they hear. A topic that is announced on a channel which is
// recorded in that topic would grow for ever: such rings are refused.
#ifndef LT_PUBSUB_RECORD_H
#define LT_PUBSUB_RECORD_H

#include "log/log.h"
#include "pubsub/channel.h"

struct lt_recorder {
    struct lt_node node; // in lt_channels.recorders
    leat_topic *into;
    const char *pattern;             // the subscription's
    _Atomic uint64_t stored, failed; // relaxed: counts
    atomic_bool fails;               // the last one failed; relaxed: it only spares the log lines
    bool reached;                    // while rings are looked for; guarded by the channels' lock
};

// lt_record_hear is the fn of such a subscription.
void lt_record_hear(leat_subscription *s, const leat_message *m, void *ctx);

// lt_record_enter_locked enters r among those that there are. Locks: the channels'.
// Returns  LEAT_EINVAL: it would hear itself.
int lt_record_enter_locked(struct lt_channels *cs, struct lt_recorder *r);

// lt_subscription_record makes the subscription: in subscription.c.
int lt_subscription_record(leat *mq, const char *pattern, leat_topic *into,
                           leat_subscription **out);

#endif
