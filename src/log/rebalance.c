/* SPDX-License-Identifier: MIT */
// rebalance: what the group has shared out anew, from the member's side.
#include "log/consumer.h"

static int64_t rebalance_start(const leat_consumer *c, const struct lt_partition *p,
                               int64_t committed) {
    int64_t begin = atomic_load(&p->begin), end = atomic_load(&p->end);
    if (committed >= begin)
        return committed < end ? committed : end;
    if (c->start == LEAT_NONE)
        return -1;
    return c->start == LEAT_LATEST ? end : begin;
}

static int rebalance_one(leat_consumer *c, struct lt_group_topic *gt, int32_t i, bool give) {
    struct lt_claim *claim = &gt->claim[i];
    struct lt_consumer_part *part = lt_consumer_find(c, gt->topic, i);
    if (claim->owner == &c->member && claim->target != &c->member) {
        if (!give)
            return 0;
        if (part && part->uncommitted) {
            c->lost = gt->topic;
            c->lost_partition = i;
        }
        if (part)
            lt_consumer_drop_part(c, part);
        lt_group_give_locked(c->group, claim);
        return 0;
    }
    if (claim->owner != &c->member || part)
        return 0;
    struct lt_partition *p = lt_topic_part(gt->topic, i);
    int64_t committed = claim->slot ? claim->slot->values[0] : -1;
    return lt_consumer_add_part(c, p, rebalance_start(c, p, committed));
}

int lt_consumer_rebalance(leat_consumer *c, bool give) {
    struct lt_group *g = c->group;
    if (!g || !atomic_load(&c->member.stale))
        return 0;
    int rc = 0;
    lt_lock(&g->lock);
    if (give)
        atomic_store(&c->member.stale, false);
    for (struct lt_node *n = lt_list_first(&g->topics); n && rc == 0;
         n = lt_list_next(&g->topics, n)) {
        struct lt_group_topic *gt = LT_CONTAINER(n, struct lt_group_topic, node);
        for (int32_t i = 0; i < gt->count && rc == 0; i++)
            rc = rebalance_one(c, gt, i, give);
    }
    if (rc != 0)
        atomic_store(&c->member.stale, true); // the rest at the next poll
    lt_unlock(&g->lock);
    return rc;
}
