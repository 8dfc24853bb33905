/* SPDX-License-Identifier: MIT */
// announce: topics whose records are published on a channel as they come.
#ifndef LT_PUBSUB_ANNOUNCE_H
#define LT_PUBSUB_ANNOUNCE_H

#include "log/log.h"
#include "pubsub/queued.h"

// lt_announce begins it for a topic, from its end on, and lt_announce_end ends it: see lt_log.
// Returns  LEAT_ENOMEM: also if there is no thread to be had.
int lt_announce(leat_topic *t);
void lt_announce_end(leat_topic *t);

// lt_announce_all begins it for the topics that there are, and lets the log begin it for those that
// come. lt_announce_end_all ends all; in a fork it frees them.
int lt_announce_all(leat *mq);
void lt_announce_end_all(leat *mq);

#endif
