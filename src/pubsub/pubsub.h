/* SPDX-License-Identifier: MIT */
// pubsub: the door of this folder. A channel stores nothing: it is a list of who listens now, and a
// call to each of them. What leat.h has under "channel" lives here.
#ifndef LT_PUBSUB_PUBSUB_H
#define LT_PUBSUB_PUBSUB_H

#include "base/core.h"
#include "base/text.h"

// lt_channels_open makes mq->channels. It draws once from the store's chance.
// Returns  LEAT_ENOMEM and what lt_tap_open does: lt_channels_close frees what there is.
int lt_channels_open(leat *mq);

// lt_channels_count adds what was published to *s.
void lt_channels_count(const leat *mq, leat_stats *s);

// lt_channels_dump tells who listens to what. Locks: none. Returns  LEAT_ENOMEM.
int lt_channels_dump(leat *mq, struct lt_text *text);

// lt_channels_close frees all of it, and in a forked child also the subscriptions that are open. No
// other call of the store is running or will come, no callback either. NULL channels are fine.
void lt_channels_close(leat *mq);

#endif
