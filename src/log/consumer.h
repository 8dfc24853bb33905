/* SPDX-License-Identifier: MIT */
// consumer: positions in partitions, and the poll that moves them. What its files share:
//
//   consumer   open, close, one thread at a time; the partitions and ears it has
//   subscribe  which partitions are to be read: by name in a group, or assigned by hand
//   rebalance  what the group has shared out anew, from the member's side
//   poll       the happy path: end the views of the last poll, take over and give up partitions,
//              read what is there. If nothing is: back off, register for news with each partition,
//              look once more, wait
//   commit     positions, stored
//   seek       positions, moved and looked at
//
// What poll returned is pinned by one token per partition and segment; the tokens end at the next
// poll.
#ifndef LT_LOG_CONSUMER_H
#define LT_LOG_CONSUMER_H

#include "log/group.h"
#include "log/log.h"

enum { LT_CONSUMER_PATIENCE = 3 }; // see consumer_gather_more

struct lt_consumer_part {
    struct lt_cursor cursor;   // offset -1: no place to start, see LEAT_NONE
    struct lt_segment *pinned; // the segment that token pins, borrowed from the token
    uint64_t token;            // 0: none
    bool returned;             // the last poll returned messages under this token
    bool uncommitted;          // some poll has returned messages since the last commit
};

struct lt_consumer_ear { // one per topic that is read
    struct lt_ear ear;
    leat_consumer *c;
    leat_topic *topic;
    struct lt_node node;
};

struct leat_consumer {
    leat *mq;
    struct lt_child child;
    const char *name;
    atomic_bool busy; // a call is in progress: acquire on entry, release on leaving
    int32_t start;
    bool durable; // reads below the durable end only
    bool commit_disk;
    _Atomic uint64_t read; // messages that poll returned; relaxed, written by its own calls alone
    size_t records_max;
    struct lt_group *group; // NULL: none
    struct lt_member member;
    bool assigned; // by hand
    struct lt_waiter waiter;
    struct lt_list ears;
    struct lt_consumer_part *part;
    size_t part_count, part_room, turn; // turn: which one poll reads first
    const leat_topic *lost; // a poll gave up a partition of it uncommitted: the next commit says so
    int32_t lost_partition;
    leat_message *messages;
    size_t message_room;
    uint64_t *old_tokens; // of segments left during the last poll
    size_t old_count, old_room;
    int few, patience; // see consumer_gather_more
};

// lt_consumer_enter begins a call on c, lt_consumer_leave ends it. Returns  LEAT_EBUSY.
int lt_consumer_enter(leat_consumer *c);
int lt_consumer_leave(leat_consumer *c, int rc);

// lt_consumer_find returns a partition of c, or NULL.
struct lt_consumer_part *lt_consumer_find(leat_consumer *c, const leat_topic *t, int32_t partition);
// lt_consumer_add_part adds one, to be read from offset on. Returns  LEAT_ENOMEM.
int lt_consumer_add_part(leat_consumer *c, struct lt_partition *p, int64_t offset);
// lt_consumer_drop_part ends its views, and it is c's no more.
void lt_consumer_drop_part(leat_consumer *c, struct lt_consumer_part *part);
// lt_consumer_drop_all drops all partitions and ears.
void lt_consumer_drop_all(leat_consumer *c);
// lt_consumer_listen hears of what is appended to t. Returns  LEAT_ENOMEM.
int lt_consumer_listen(leat_consumer *c, leat_topic *t);

// lt_consumer_rebalance takes over and gives up what the group has shared out anew. give: this is a
// poll, so partitions that another member is to have, and their views, go.
// Returns  LEAT_ENOMEM: the rest at the next poll.
int lt_consumer_rebalance(leat_consumer *c, bool give);
// lt_consumer_end_views ends the views of the last poll.
void lt_consumer_end_views(leat_consumer *c);

// lt_consumer_resolve makes an offset of one of LEAT_BEGIN, LEAT_END. Returns  LEAT_ERANGE.
int lt_consumer_resolve(const struct lt_partition *p, int64_t *offset);

#endif
