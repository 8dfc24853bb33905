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

#include "base/beacon.h"
#include "log/topic.h"

struct lt_group;

struct lt_member {
    struct lt_node node; // in the group's members, in their order, or away: see lt_group
    const char *name;
    struct lt_waiter *waiter;
    struct lt_beacon *beacon;
    bool expelled;       // it did not poll; guarded by the group's lock, as is all below
    leat_topic **topics; // subscribed by name; its own calls alone write them, and the patterns
    size_t topic_count, topic_room;
    char **patterns;
    size_t pattern_count, pattern_room;
    struct lt_group_topic **reads; // by its topics and patterns
    size_t read_count, read_room;
    size_t index;             // in the last sharing
    int32_t assignor;         // that it asks for; 0: the group's
    atomic_bool stale;        // holdings differ from targets; set under the lock, seq_cst
    struct lt_node open_node; // in the group's `open`
    bool by_hand;             // its consumer was assigned partitions by hand
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
    struct lt_node node; // in the group's topics, in the order of their names
    leat_topic *topic;
    struct lt_claim *claim; // one per partition
    int32_t count, room;    // of the claims; when the topic grows there is room before it has
    bool unborn;            // the topic is being created: count is 0, nobody finds it yet
    size_t index;           // in lt_sharing's topics
    size_t readers;         // members that read it, in the last sharing
};

// What lt_assign works on. There is room before a topic, a partition or a member comes, so that
// sharing out cannot fail.
struct lt_sharing {
    struct lt_group_topic **topics; // all of the group, in the order of their names
    struct lt_member **members;
    int32_t *partitions, *owner, *target, *load;
    uint8_t *reads;
    size_t topic_count, claim_count; // claim_count: the room of all topics
    size_t member_count;             // with those that are away
    size_t topic_room, member_room, claim_room, reads_room;
};

struct lt_group {
    leat *mq;
    const char *name; // lt_keep_name's
    uint32_t id;
    struct lt_mutex lock; // guards all below
    int32_t generation;   // moves on at every change of targets
    int32_t assignor;     // of the members that are in
    // Members with a name come first, in lexicographic order, then the others; where that does not
    // decide, in the order of joining: so whoever comes back after a restart gets the same.
    struct lt_list members, topics;
    struct lt_list away; // members that are expelled: they keep their seats
    struct lt_sharing sharing;
    struct lt_list open; // members that may join: of consumers that are open
};

enum { LT_GROUPS_MAX = 65535 };

// lt_group_open finds or makes the group of that name, for a consumer whose member m is. It lives
// until lt_group_close of its last one, at the least; without one only as long as the admin or the
// table lock is held. Returns  LEAT_EFULL, LEAT_ENOSPC, LEAT_EIO, LEAT_ENOMEM.
int lt_group_open(leat *mq, const char *name, struct lt_member *m, struct lt_group **out);
void lt_group_close(struct lt_group *g, struct lt_member *m);
// lt_group_by_hand says whether m's consumer has partitions that it was assigned by hand.
void lt_group_by_hand(struct lt_group *g, struct lt_member *m, bool has);
struct lt_group *lt_group_find(leat *mq, const char *name);
// lt_group_forget takes a group out of the tables, lt_group_free ends it. Locks: admin.
void lt_group_forget(struct lt_group *g);
void lt_group_free(struct lt_group *g);
int lt_group_restore(leat *mq, const struct lt_note *note);
// lt_groups_attach gives the committed offsets found at open to their groups.
int lt_groups_attach(leat *mq);
void lt_groups_forget_topic(leat *mq, const leat_topic *t);
// lt_groups_expect_topic lets the members in whose patterns match t, before anybody can find it;
// lt_groups_share_topic follows, or lt_groups_forget_topic if it is not created after all.
// Locks: admin held. Returns  LEAT_ENOMEM: nothing changed.
int lt_groups_expect_topic(leat *mq, leat_topic *t);
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
// out anew; lt_group_subscribe_pattern all topics that match, now or later, but those that belong
// to a queue. Returns  LEAT_EEXIST (another assignor), LEAT_ENOMEM: nothing changed.
int lt_group_subscribe(struct lt_group *g, struct lt_member *m, leat_topic *t);
int lt_group_subscribe_pattern(struct lt_group *g, struct lt_member *m, const char *pattern);
// lt_group_leave drops all of a member's topics and patterns and gives up what it owns.
void lt_group_leave(struct lt_group *g, struct lt_member *m);
// lt_group_expel puts out a member that does not poll: what it owns goes to others at once.
// lt_group_rejoin_locked takes it in again. Locks: the group's.
void lt_group_expel(struct lt_group *g, struct lt_member *m);
void lt_group_rejoin_locked(struct lt_group *g, struct lt_member *m);
// lt_member_named tells whether m is subscribed to t by its name; its own calls need no lock.
bool lt_member_named(const struct lt_member *m, const leat_topic *t);
// lt_member_fini frees what a member that has left has kept.
void lt_member_fini(struct lt_mem *mem, struct lt_member *m);

// Locks of these: the group's. lt_group_topic_locked returns what the group has of a topic, or
// NULL; lt_group_topic_make_locked makes it if need be (NULL: LEAT_ENOMEM); lt_group_topic_free
// ends it: nobody reads it any more.
struct lt_group_topic *lt_group_topic_locked(struct lt_group *g, const leat_topic *t);
struct lt_group_topic *lt_group_topic_make_locked(struct lt_group *g, leat_topic *t);
void lt_group_topic_free(struct lt_group *g, struct lt_group_topic *gt);
// lt_group_topic_forget_locked ends it, and no member reads it any more.
void lt_group_topic_forget_locked(struct lt_group *g, struct lt_group_topic *gt);
// lt_group_topic_count takes in the partitions that the topic has got since. There is room for
// them: lt_groups_make_room.
void lt_group_topic_count(struct lt_group_topic *gt);
// lt_member_reads_locked tells whether m reads it, by its name or a pattern.
bool lt_member_reads_locked(const struct lt_member *m, const struct lt_group_topic *gt);
// lt_group_expect_locked is lt_groups_expect_topic for one group.
int lt_group_expect_locked(struct lt_group *g, leat_topic *t);

// lt_sharing_reserve makes room for so many more of each. Returns  LEAT_ENOMEM.
int lt_sharing_reserve(struct lt_group *g, size_t topics, size_t members, size_t claims);
void lt_sharing_fini(struct lt_group *g);
// lt_sharing_add_topic takes a topic in, for which there is room; lt_sharing_remove_topic out.
void lt_sharing_add_topic(struct lt_group *g, struct lt_group_topic *gt);
void lt_sharing_remove_topic(struct lt_group *g, struct lt_group_topic *gt);
// lt_group_wake_locked tells m that what it has is to change.
void lt_group_wake_locked(struct lt_group *g, struct lt_member *m);
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
