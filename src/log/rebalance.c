/* SPDX-License-Identifier: MIT */
// rebalance: what the group has shared out anew, from the member's side.
//
// A partition that another member is to have goes in two looks: the first marks it and tells that
// it is revoked, so that its owner may still commit; the next one gives it up. Which of the looks
// of a poll that are is the poll's to say.
#include "log/consumer.h"

#include <string.h>

// Where to begin, and whether what was committed is not there.
static int64_t rebalance_start(const leat_consumer *c, const struct lt_partition *p,
                               int64_t committed, bool *reset) {
    int64_t begin = atomic_load(&p->begin), end = atomic_load(&p->end);
    *reset = committed > end || (committed >= 0 && committed < begin);
    if (committed >= begin)
        return committed < end ? committed : end;
    if (c->start == LEAT_NONE)
        return -1;
    return c->start == LEAT_LATEST ? end : begin;
}

static int rebalance_take(leat_consumer *c, const struct lt_claim *claim, struct lt_partition *p) {
    int rc = lt_consumer_listen(c, p->topic); // it may have come by a pattern
    if (rc != 0)
        return rc;
    bool reset;
    int64_t at = rebalance_start(c, p, claim->slot ? claim->slot->values[0] : -1, &reset);
    rc = lt_consumer_add_part(c, p, at);
    if (rc != 0)
        return rc;
    struct lt_consumer_part *part = &c->part[c->part_count - 1];
    part->epoch = claim->epoch;
    rc = lt_consumer_event(c, LEAT_EV_ASSIGNED, p, at);
    if (rc == 0 && reset)
        rc = lt_consumer_event(c, LEAT_EV_RESET, p, at);
    if (rc != 0)
        lt_consumer_drop_part(c, part);
    return rc;
}

static void rebalance_drop(leat_consumer *c, struct lt_consumer_part *part) {
    if (part->uncommitted) {
        c->lost = part->cursor.p->topic;
        c->lost_partition = part->cursor.p->number;
    }
    lt_consumer_drop_part(c, part);
}

// One partition that is c's by its claim. Returns  1: marked.
static int rebalance_owned(leat_consumer *c, struct lt_claim *claim, struct lt_partition *p,
                           bool give) {
    struct lt_consumer_part *part = lt_consumer_find(c, p->topic, p->number);
    if (claim->target == &c->member) {
        if (!part)
            return rebalance_take(c, claim, p);
        if (!part->revoking)
            return 0;
        part->revoking = false; // it is to stay after all
        return lt_consumer_event(c, LEAT_EV_ASSIGNED, p, part->cursor.offset);
    }
    if (part && lt_push_keeps(c, part))
        return 0;
    if (part && !part->revoking && (give || c->asks)) {
        int rc = lt_consumer_event(c, LEAT_EV_REVOKED, p, part->cursor.offset);
        part->revoking = rc == 0;
        return rc == 0 ? 1 : rc;
    }
    if (!give)
        return 0;
    if (part)
        rebalance_drop(c, part);
    lt_group_give_locked(c->group, claim);
    return 0;
}

// What was c's and is not: c was expelled, or a pattern had chosen it and it was deleted. (What is
// subscribed by its name and deleted stays, and poll says so.) Locks: the group's.
static int rebalance_lost(leat_consumer *c) {
    for (size_t i = c->part_count; i-- > 0;) {
        struct lt_consumer_part *part = &c->part[i];
        struct lt_partition *p = part->cursor.p;
        const struct lt_claim *claim = lt_group_claim_locked(c->group, p->topic, p->number);
        bool without = lt_consumer_without(c, p->topic);
        if (!without && (!claim || (claim->owner == &c->member && claim->epoch == part->epoch)))
            continue;
        int rc = lt_consumer_event(c, LEAT_EV_LOST, p, part->cursor.offset);
        if (rc != 0)
            return rc;
        part->uncommitted &= !without; // nobody else will read it
        rebalance_drop(c, part);
    }
    struct lt_node *next;
    for (struct lt_node *n = lt_list_first(&c->ears); n; n = next) {
        struct lt_consumer_ear *e = LT_CONTAINER(n, struct lt_consumer_ear, node);
        next = lt_list_next(&c->ears, n);
        if (lt_consumer_without(c, e->topic))
            lt_consumer_deafen(c, e);
    }
    return 0;
}

static int rebalance_all(leat_consumer *c, bool give) {
    struct lt_group *g = c->group;
    int rc = give ? rebalance_lost(c) : 0;
    if (rc == 0 && give)
        lt_group_rejoin_locked(g, &c->member);
    bool marked = false;
    for (struct lt_node *n = lt_list_first(&g->topics); n && rc >= 0;
         n = lt_list_next(&g->topics, n)) {
        struct lt_group_topic *gt = LT_CONTAINER(n, struct lt_group_topic, node);
        for (int32_t i = 0; i < gt->count && rc >= 0; i++)
            if (gt->claim[i].owner == &c->member) {
                rc = rebalance_owned(c, &gt->claim[i], lt_topic_part(gt->topic, i), give);
                marked |= rc > 0;
            }
    }
    return rc < 0 ? rc : marked;
}

int lt_consumer_rebalance(leat_consumer *c, bool give) {
    struct lt_group *g = c->group;
    if (!g || !atomic_load(&c->member.stale))
        return 0;
    lt_lock(&g->lock);
    if (give)
        atomic_store(&c->member.stale, false);
    int rc = rebalance_all(c, give);
    if (rc != 0)
        atomic_store(&c->member.stale, true); // what was marked, or failed, at the next look
    lt_unlock(&g->lock);
    return rc;
}

void lt_consumer_revoke_all(leat_consumer *c) {
    if (!c->on_event || !c->group || c->assigned || lt_forked(c->mq))
        return;
    c->event_count = 0; // what was not told yet does not matter any more
    lt_lock(&c->group->lock);
    int rc = rebalance_lost(c);
    lt_unlock(&c->group->lock);
    for (size_t i = 0; i < c->part_count && rc == 0; i++) { // no memory: the rest is not told
        const struct lt_cursor *at = &c->part[i].cursor;
        if (!c->part[i].revoking)
            rc = lt_consumer_event(c, LEAT_EV_REVOKED, at->p, at->offset);
    }
    lt_consumer_tell(c);
}

// ---- expiry

static void rebalance_expire(leat *mq, struct lt_due *due) {
    leat_consumer *c = LT_CONTAINER(due, leat_consumer, expiry);
    (void)mq;
    lt_group_expel(c->group, &c->member);
}

int lt_consumer_expiry_init(leat_consumer *c) {
    return c->interval_ms ? lt_due_init(c->mq, &c->expiry, rebalance_expire) : 0;
}

void lt_consumer_expire(leat_consumer *c, bool plan) {
    if (c->interval_ms)
        lt_due_set(c->mq, &c->expiry,
                   plan ? lt_add_ms(lt_now_ns(c->mq), c->interval_ms) : LT_NEVER);
}
