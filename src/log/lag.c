/* SPDX-License-Identifier: MIT */
// lag: how far groups are behind, seen from outside. Under the locks only what a group knows is
// copied; segments are read without them.
#include "log/group.h"

#include <string.h>

// Between the two steps an entry has its partition in a reserved word.
static void lag_copy_locked(const struct lt_group *g, const struct lt_group_topic *gt, int32_t i,
                            leat_lag *out) {
    const struct lt_claim *c = &gt->claim[i];
    *out = (leat_lag){ .group = g->name,
                       .topic = gt->topic->name,
                       .owner = c->owner ? c->owner->name ? c->owner->name : "(unnamed)" : NULL,
                       .committed = c->slot ? c->slot->values[0] : -1,
                       .partition = i,
                       .generation = g->generation,
                       .reserved = { (uintptr_t)lt_topic_part(gt->topic, i) } };
}

// Copies what the group has, behind the n entries that there are. Returns  how many there are then.
static size_t lag_copy_group(struct lt_group *g, leat_lag *out, size_t max, size_t n) {
    lt_lock(&g->lock);
    for (struct lt_node *node = lt_list_first(&g->topics); node;
         node = lt_list_next(&g->topics, node)) {
        const struct lt_group_topic *gt = LT_CONTAINER(node, struct lt_group_topic, node);
        for (int32_t i = 0; i < gt->count; i++) {
            if (!gt->claim[i].slot && !gt->claim[i].owner)
                continue;
            if (n < max)
                lag_copy_locked(g, gt, i, &out[n]);
            n++;
        }
    }
    lt_unlock(&g->lock);
    return n;
}

// group NULL: all. Returns  how many entries there are, or LEAT_ENOENT.
static int lag_copy(leat *mq, const char *group, leat_lag *out, size_t max) {
    struct lt_map_cursor at = { 0 };
    void *g = NULL;
    size_t n = 0;
    lt_lock(&mq->log->table);
    if (group) {
        g = lt_map_get(&mq->log->groups, group, strlen(group));
        n = g ? lag_copy_group(g, out, max, 0) : 0;
    } else {
        while (lt_map_next(&mq->log->groups, &at, NULL, NULL, &g))
            n = lag_copy_group(g, out, max, n);
    }
    lt_unlock(&mq->log->table);
    return group && !g ? lt_fail(LEAT_ENOENT, "group %s does not exist", group) : (int)n;
}

// Fills in what the log says.
static int lag_measure(leat *mq, leat_lag *lag) {
    struct lt_partition *p = (void *)(uintptr_t)lag->reserved[0];
    int64_t end = atomic_load(&p->end), begin = atomic_load(&p->begin), written_ms;
    int64_t from = lag->committed > begin ? lag->committed : begin;
    lag->reserved[0] = 0;
    lag->end = end;
    if (from >= end)
        return 0;
    lag->lag = end - from;
    int rc = lt_partition_bytes_between(p, from, end, &lag->lag_bytes);
    if (rc == 0)
        rc = lt_partition_first_time(p, from, end, &written_ms);
    if (rc == 1 && __builtin_sub_overflow(lt_wall_ms(mq), written_ms, &lag->lag_ms))
        lag->lag_ms = written_ms < 0 ? INT64_MAX : 0;
    if (lag->lag_ms < 0)
        lag->lag_ms = 0;
    return rc < 0 ? rc : 0;
}

int leat_group_lag(leat *mq, const char *group, leat_lag *out, size_t max, size_t size_of_one) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc == 0 && group)
        rc = lt_check_name("group", group);
    if (rc != 0)
        return rc;
    if (size_of_one != sizeof(leat_lag) || (max > 0 && !out))
        return lt_fail(LEAT_EINVAL, "group lag: out is NULL or entries of %zu bytes", size_of_one);
    int n = lag_copy(mq, group, out, max);
    for (int i = 0; i < n && (size_t)i < max && rc == 0; i++)
        rc = lag_measure(mq, &out[i]);
    lt_log_cool(mq, false);
    return rc != 0 ? rc : n;
}
