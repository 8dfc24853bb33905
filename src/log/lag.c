/* SPDX-License-Identifier: MIT */
// lag: how far a group is behind, seen from outside.
#include "log/group.h"

#include <string.h>

static void lag_fill(const struct lt_group *g, const struct lt_group_topic *gt, int32_t i,
                     leat_lag *out) {
    const struct lt_claim *c = &gt->claim[i];
    const struct lt_partition *p = lt_topic_part(gt->topic, i);
    int64_t committed = c->slot ? c->slot->values[0] : -1;
    int64_t end = atomic_load(&p->end), begin = atomic_load(&p->begin);
    *out = (leat_lag){ .group = g->name,
                       .topic = gt->topic->name,
                       .owner = c->owner ? c->owner->name ? c->owner->name : "(unnamed)" : NULL,
                       .committed = committed,
                       .end = end,
                       .lag = end - (committed > begin ? committed : begin),
                       .partition = i,
                       .generation = g->generation };
    if (out->lag < 0)
        out->lag = 0;
}

static int lag_list(struct lt_group *g, leat_lag *out, size_t max) {
    size_t n = 0;
    lt_lock(&g->lock);
    for (struct lt_node *node = lt_list_first(&g->topics); node;
         node = lt_list_next(&g->topics, node)) {
        const struct lt_group_topic *gt = LT_CONTAINER(node, struct lt_group_topic, node);
        for (int32_t i = 0; i < gt->count; i++) {
            if (!gt->claim[i].slot && !gt->claim[i].owner)
                continue;
            if (n < max)
                lag_fill(g, gt, i, &out[n]);
            n++;
        }
    }
    lt_unlock(&g->lock);
    return (int)n;
}

int leat_group_lag(leat *mq, const char *group, leat_lag *out, size_t max, size_t size_of_one) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc == 0)
        rc = lt_check_name("group", group);
    if (rc != 0)
        return rc;
    if (size_of_one != sizeof(leat_lag) || (max > 0 && !out))
        return lt_fail(LEAT_EINVAL, "group lag: out is NULL or entries of %zu bytes", size_of_one);
    struct lt_group *g = lt_group_find(mq, group);
    if (!g)
        return lt_fail(LEAT_ENOENT, "group %s does not exist", group);
    return lag_list(g, out, max);
}
