/* SPDX-License-Identifier: MIT */
// group: a set of positions in topics, and the members that share the reading. It never changes the
// log. Committed offsets are slots; who owns what is volatile.
//
// Invariants
//  1. A partition has at most one owner. It passes on only in its owner's own poll, at the owner's
//     close, or when it has none: so an owner may commit until then, and nobody else.
//     A member that is expelled has none at once.
//  2. target says who is to own it, by the assignor; a member whose holdings differ from its
//     targets is marked stale and woken.
#ifndef LT_LOG_GROUP_H
#define LT_LOG_GROUP_H

#include "log/topic.h"

struct lt_group;

struct lt_member {
    struct lt_node node; // in the group's members, in the order of joining
    const char *name;
    struct lt_waiter *waiter;
    bool expelled;       // it did not poll; guarded by the group's lock, as are the topics
    leat_topic **topics; // subscribed
    size_t topic_count, topic_room;
    atomic_bool stale; // holdings differ from targets; set under the lock, seq_cst
};

struct lt_claim { // one partition of one topic, for one group
    struct lt_member *owner, *target;
    struct lt_slot *slot; // of the committed offset; NULL: nothing was ever committed
    uint32_t epoch;       // one more with each owner: who had it before has it no more
};

struct lt_commit_at { // a position to be committed
    struct lt_partition *p;
    uint32_t epoch;
    int64_t offset;
};

struct lt_group_topic {
    struct lt_node node;
    leat_topic *topic;
    struct lt_claim *claim; // one per partition
    int32_t count, room;    // of the claims; when the topic grows there is room before it has
};

struct lt_group {
    leat *mq;
    char *name;
    uint32_t id;
    struct lt_mutex lock; // guards all below
    int32_t generation;   // moves on at every change of targets
    struct lt_list members, topics;
};

enum { LT_GROUPS_MAX = 65535 };

// lt_group_open finds or makes the group of that name.
// Returns  LEAT_EFULL, LEAT_ENOSPC, LEAT_EIO, LEAT_ENOMEM.
int lt_group_open(leat *mq, const char *name, struct lt_group **out);
struct lt_group *lt_group_find(leat *mq, const char *name);
int lt_group_restore(leat *mq, const struct lt_note *note);
// lt_groups_attach gives the committed offsets found at open to their groups.
int lt_groups_attach(leat *mq);
void lt_groups_forget_topic(leat *mq, const leat_topic *t);
// lt_groups_make_room makes every group that has to do with t fit for so many partitions.
// Returns  LEAT_ENOMEM.
int lt_groups_make_room(leat *mq, leat_topic *t, int32_t partitions);
// lt_groups_share_topic shares t out anew in every group that has to do with it.
void lt_groups_share_topic(leat *mq, const leat_topic *t);
// lt_groups_floor returns the lowest offset that a group has committed in a partition; 0 if one is
// subscribed that has not, INT64_MAX if there is none. Locks: none.
int64_t lt_groups_floor(leat *mq, const leat_topic *t, int32_t partition);
void lt_groups_free(leat *mq);

// lt_group_subscribe adds a topic to a member (joining the group with the first one) and shares
// out anew. Returns  LEAT_ENOMEM: nothing changed.
int lt_group_subscribe(struct lt_group *g, struct lt_member *m, leat_topic *t);
// lt_group_leave drops all of a member's topics and gives up what it owns.
void lt_group_leave(struct lt_group *g, struct lt_member *m);
// lt_group_expel puts out a member that does not poll: what it owns goes to others at once.
// lt_group_rejoin_locked takes it in again. Locks: the group's.
void lt_group_expel(struct lt_group *g, struct lt_member *m);
void lt_group_rejoin_locked(struct lt_group *g, struct lt_member *m);

// Locks of these: the group's. lt_group_topic_locked returns what the group has of a topic, or
// NULL; lt_group_topic_make_locked makes it if need be (NULL: LEAT_ENOMEM); lt_group_topic_free
// ends it.
struct lt_group_topic *lt_group_topic_locked(struct lt_group *g, const leat_topic *t);
struct lt_group_topic *lt_group_topic_make_locked(struct lt_group *g, leat_topic *t);
void lt_group_topic_free(struct lt_group *g, struct lt_group_topic *gt);
bool lt_group_subscribed_locked(const struct lt_member *m, const leat_topic *t);
// lt_group_share_locked shares all topics out anew and wakes whom it concerns.
void lt_group_share_locked(struct lt_group *g);
// lt_group_claim returns the claim on a partition, or NULL. Locks: the group's.
struct lt_claim *lt_group_claim_locked(struct lt_group *g, const leat_topic *t, int32_t partition);
// lt_group_give_locked passes a partition on to its target. Locks: the group's.
void lt_group_give_locked(struct lt_group *g, struct lt_claim *c);
// lt_group_commit stores a committed offset. m owns the partition since that epoch, or m is NULL
// and nobody does. Returns  LEAT_EFENCED, LEAT_EGONE, LEAT_ENOMEM, LEAT_EFULL, LEAT_ENOSPC,
// LEAT_EIO.
int lt_group_commit(struct lt_group *g, const struct lt_member *m, const struct lt_commit_at *at);
// lt_group_committed returns the committed offset, -1 if there is none.
int64_t lt_group_committed(struct lt_group *g, const leat_topic *t, int32_t partition);

#endif
