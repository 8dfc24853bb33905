/* SPDX-License-Identifier: MIT */
#include "log/group.h"

#include "log/assign.h"

#include <string.h>

// ---- topics of a group

struct lt_group_topic *lt_group_topic_locked(struct lt_group *g, const leat_topic *t) {
    for (struct lt_node *n = lt_list_first(&g->topics); n; n = lt_list_next(&g->topics, n)) {
        struct lt_group_topic *gt = LT_CONTAINER(n, struct lt_group_topic, node);
        if (gt->topic == t)
            return gt;
    }
    return NULL;
}

// Takes the partitions in that the topic has got since. There is room: lt_groups_make_room.
static void group_topic_fit(struct lt_group_topic *gt) {
    int32_t partitions = atomic_load_explicit(&gt->topic->partitions, memory_order_acquire);
    if (gt->count < partitions)
        gt->count = partitions < gt->room ? partitions : gt->room;
}

struct lt_group_topic *lt_group_topic_make_locked(struct lt_group *g, leat_topic *t) {
    struct lt_group_topic *gt = lt_group_topic_locked(g, t);
    if (gt) {
        group_topic_fit(gt);
        return gt;
    }
    struct lt_mem *mem = &g->mq->mem;
    int32_t room = atomic_load(&t->room);
    gt = lt_zalloc(mem, sizeof *gt);
    struct lt_claim *claim = lt_zalloc(mem, (size_t)room * sizeof *claim);
    if (!gt || !claim) {
        lt_free(mem, gt);
        lt_free(mem, claim);
        (void)lt_fail_nomem();
        return NULL;
    }
    gt->topic = t;
    gt->claim = claim;
    gt->room = room;
    group_topic_fit(gt);
    lt_list_push_back(&g->topics, &gt->node);
    return gt;
}

void lt_group_topic_free(struct lt_group *g, struct lt_group_topic *gt) {
    lt_list_remove(&gt->node);
    lt_free(&g->mq->mem, gt->claim);
    lt_free(&g->mq->mem, gt);
}

struct lt_claim *lt_group_claim_locked(struct lt_group *g, const leat_topic *t, int32_t partition) {
    struct lt_group_topic *gt = lt_group_topic_locked(g, t);
    return gt && partition >= 0 && partition < gt->count ? &gt->claim[partition] : NULL;
}

// ---- sharing out

bool lt_group_subscribed_locked(const struct lt_member *m, const leat_topic *t) {
    for (size_t i = 0; i < m->topic_count; i++)
        if (m->topics[i] == t)
            return true;
    return false;
}

static void group_wake(struct lt_group *g, struct lt_member *m) {
    atomic_store(&m->stale, true);
    lt_waiter_notify(g->mq, m->waiter);
}

void lt_group_give_locked(struct lt_group *g, struct lt_claim *c) {
    c->owner = c->target;
    c->epoch++;
    if (c->owner)
        group_wake(g, c->owner);
}

// The member that stands at place `index` among those subscribed to t.
static struct lt_member *group_member_at(struct lt_group *g, const leat_topic *t, int32_t index) {
    for (struct lt_node *n = lt_list_first(&g->members); n; n = lt_list_next(&g->members, n)) {
        struct lt_member *m = LT_CONTAINER(n, struct lt_member, node);
        if (lt_group_subscribed_locked(m, t) && index-- == 0)
            return m;
    }
    return NULL;
}

static void group_share_topic(struct lt_group *g, struct lt_group_topic *gt) {
    int32_t members = 0;
    group_topic_fit(gt);
    for (struct lt_node *n = lt_list_first(&g->members); n; n = lt_list_next(&g->members, n))
        members += lt_group_subscribed_locked(LT_CONTAINER(n, struct lt_member, node), gt->topic);
    for (int32_t i = 0; i < gt->count; i++) {
        struct lt_claim *c = &gt->claim[i];
        c->target = NULL;
        if (members > 0)
            c->target = group_member_at(g, gt->topic, lt_assign_range(i, gt->count, members));
        if (c->owner == c->target)
            continue;
        if (c->owner)
            group_wake(g, c->owner); // gives it up in its next poll
        else
            lt_group_give_locked(g, c);
    }
}

void lt_group_share_locked(struct lt_group *g) {
    g->generation++;
    for (struct lt_node *n = lt_list_first(&g->topics); n; n = lt_list_next(&g->topics, n))
        group_share_topic(g, LT_CONTAINER(n, struct lt_group_topic, node));
    lt_trace(g->mq, "rebalance", g->name, NULL, 0);
}

static int group_subscribe_locked(struct lt_group *g, struct lt_member *m, leat_topic *t) {
    if (lt_group_subscribed_locked(m, t))
        return 0;
    if (m->topic_count == m->topic_room) {
        size_t room = m->topic_room ? 2 * m->topic_room : 4;
        leat_topic **grown = lt_resize(&g->mq->mem, m->topics, room * sizeof(leat_topic *));
        if (!grown)
            return lt_fail_nomem();
        m->topics = grown;
        m->topic_room = room;
    }
    if (!lt_group_topic_make_locked(g, t))
        return LEAT_ENOMEM;
    m->topics[m->topic_count++] = t;
    if (!lt_node_linked(&m->node))
        lt_list_push_back(&g->members, &m->node);
    m->expelled = false;
    lt_group_share_locked(g);
    return 0;
}

int lt_group_subscribe(struct lt_group *g, struct lt_member *m, leat_topic *t) {
    lt_lock(&g->lock);
    int rc = group_subscribe_locked(g, m, t);
    lt_unlock(&g->lock);
    return rc;
}

// Gives up all that a member owns, without asking it.
static void group_release_locked(struct lt_group *g, struct lt_member *m) {
    for (struct lt_node *n = lt_list_first(&g->topics); n; n = lt_list_next(&g->topics, n)) {
        struct lt_group_topic *gt = LT_CONTAINER(n, struct lt_group_topic, node);
        for (int32_t i = 0; i < gt->count; i++) {
            if (gt->claim[i].owner != m)
                continue;
            gt->claim[i].owner = NULL;
            gt->claim[i].epoch++;
        }
    }
    if (lt_node_linked(&m->node))
        lt_list_remove(&m->node);
}

void lt_group_leave(struct lt_group *g, struct lt_member *m) {
    lt_lock(&g->lock);
    m->topic_count = 0;
    m->expelled = false;
    group_release_locked(g, m);
    for (struct lt_node *n = lt_list_first(&g->topics); n; n = lt_list_next(&g->topics, n)) {
        struct lt_group_topic *gt = LT_CONTAINER(n, struct lt_group_topic, node);
        for (int32_t i = 0; i < gt->count; i++) // a group that has not committed holds all back
            lt_partition_consumed(lt_topic_part(gt->topic, i), 0, INT64_MAX);
    }
    lt_group_share_locked(g);
    lt_unlock(&g->lock);
}

void lt_group_expel(struct lt_group *g, struct lt_member *m) {
    lt_lock(&g->lock);
    if (lt_node_linked(&m->node)) {
        group_release_locked(g, m);
        m->expelled = true;
        atomic_store(&m->stale, true);
        lt_trace(g->mq, "expel", g->name, NULL, 0);
        lt_group_share_locked(g);
    }
    lt_unlock(&g->lock);
}

void lt_group_rejoin_locked(struct lt_group *g, struct lt_member *m) {
    if (!m->expelled)
        return;
    m->expelled = false;
    lt_list_push_back(&g->members, &m->node);
    lt_group_share_locked(g);
}

// ---- committed offsets

int64_t lt_group_committed(struct lt_group *g, const leat_topic *t, int32_t partition) {
    lt_lock(&g->lock);
    const struct lt_claim *c = lt_group_claim_locked(g, t, partition);
    int64_t offset = c && c->slot ? c->slot->values[0] : -1;
    lt_unlock(&g->lock);
    return offset;
}

static int group_commit_locked(struct lt_group *g, const struct lt_member *m,
                               const struct lt_commit_at *at) {
    leat_topic *t = at->p->topic;
    int32_t partition = at->p->number;
    int64_t offset = at->offset;
    struct lt_slots *slots = &g->mq->log->slots;
    int rc = lt_topic_alive(t);
    if (rc != 0)
        return rc;
    if (!lt_group_topic_make_locked(g, t))
        return LEAT_ENOMEM;
    struct lt_claim *c = lt_group_claim_locked(g, t, partition);
    if (c->owner != m || (m && c->epoch != at->epoch))
        return lt_fail(LEAT_EFENCED, "group %s: topic %s partition %d belongs to %s now", g->name,
                       t->name, partition,
                       c->owner && c->owner->name ? c->owner->name : "another member");
    struct lt_slot *slot = c->slot;
    if (!slot) {
        struct lt_slot_key key = { LT_SLOT_COMMIT, g->id, t->id, (uint32_t)partition };
        rc = lt_slot_take(slots, &key, &slot);
        if (rc != 0)
            return rc;
    }
    const int64_t values[4] = { offset }, before = c->slot ? slot->values[0] : 0;
    rc = lt_slot_store(slots, slot, values);
    if (rc == 0)
        c->slot = slot;
    if (rc == 0) {
        lt_partition_consumed(lt_topic_part(t, partition), before, offset);
        lt_log_changed(g->mq);
    }
    leat_metadata md = { .topic = t->name, .partition = partition, .offset = offset };
    lt_trace(g->mq, "commit", g->name, &md, rc);
    return rc;
}

int lt_group_commit(struct lt_group *g, const struct lt_member *m, const struct lt_commit_at *at) {
    lt_lock(&g->lock);
    int rc = group_commit_locked(g, m, at);
    lt_unlock(&g->lock);
    return rc;
}
