/* SPDX-License-Identifier: MIT */
#include "log/group.h"

#include "log/assign.h"

#include <string.h>

// ---- topics of a group

static struct lt_group_topic *group_topic_locked(struct lt_group *g, const leat_topic *t) {
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

static struct lt_group_topic *group_topic_make_locked(struct lt_group *g, leat_topic *t) {
    struct lt_group_topic *gt = group_topic_locked(g, t);
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

static void group_topic_free(struct lt_group *g, struct lt_group_topic *gt) {
    lt_list_remove(&gt->node);
    lt_free(&g->mq->mem, gt->claim);
    lt_free(&g->mq->mem, gt);
}

struct lt_claim *lt_group_claim_locked(struct lt_group *g, const leat_topic *t, int32_t partition) {
    struct lt_group_topic *gt = group_topic_locked(g, t);
    return gt && partition >= 0 && partition < gt->count ? &gt->claim[partition] : NULL;
}

// ---- sharing out

static bool group_subscribed(const struct lt_member *m, const leat_topic *t) {
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
    if (c->owner)
        group_wake(g, c->owner);
}

// The member that stands at place `index` among those subscribed to t.
static struct lt_member *group_member_at(struct lt_group *g, const leat_topic *t, int32_t index) {
    for (struct lt_node *n = lt_list_first(&g->members); n; n = lt_list_next(&g->members, n)) {
        struct lt_member *m = LT_CONTAINER(n, struct lt_member, node);
        if (group_subscribed(m, t) && index-- == 0)
            return m;
    }
    return NULL;
}

static void group_share_topic(struct lt_group *g, struct lt_group_topic *gt) {
    int32_t members = 0;
    group_topic_fit(gt);
    for (struct lt_node *n = lt_list_first(&g->members); n; n = lt_list_next(&g->members, n))
        members += group_subscribed(LT_CONTAINER(n, struct lt_member, node), gt->topic);
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

static void group_share(struct lt_group *g) {
    g->generation++;
    for (struct lt_node *n = lt_list_first(&g->topics); n; n = lt_list_next(&g->topics, n))
        group_share_topic(g, LT_CONTAINER(n, struct lt_group_topic, node));
    lt_trace(g->mq, "rebalance", g->name, NULL, 0);
}

static int group_subscribe_locked(struct lt_group *g, struct lt_member *m, leat_topic *t) {
    if (group_subscribed(m, t))
        return 0;
    if (m->topic_count == m->topic_room) {
        size_t room = m->topic_room ? 2 * m->topic_room : 4;
        leat_topic **grown = lt_resize(&g->mq->mem, m->topics, room * sizeof(leat_topic *));
        if (!grown)
            return lt_fail_nomem();
        m->topics = grown;
        m->topic_room = room;
    }
    if (!group_topic_make_locked(g, t))
        return LEAT_ENOMEM;
    m->topics[m->topic_count++] = t;
    if (!lt_node_linked(&m->node))
        lt_list_push_back(&g->members, &m->node);
    group_share(g);
    return 0;
}

int lt_group_subscribe(struct lt_group *g, struct lt_member *m, leat_topic *t) {
    lt_lock(&g->lock);
    int rc = group_subscribe_locked(g, m, t);
    lt_unlock(&g->lock);
    return rc;
}

void lt_group_leave(struct lt_group *g, struct lt_member *m) {
    lt_lock(&g->lock);
    m->topic_count = 0;
    if (lt_node_linked(&m->node))
        lt_list_remove(&m->node);
    for (struct lt_node *n = lt_list_first(&g->topics); n; n = lt_list_next(&g->topics, n)) {
        struct lt_group_topic *gt = LT_CONTAINER(n, struct lt_group_topic, node);
        for (int32_t i = 0; i < gt->count; i++)
            if (gt->claim[i].owner == m)
                gt->claim[i].owner = NULL;
        for (int32_t i = 0; i < gt->count; i++) // a group that has not committed holds all back
            lt_partition_consumed(lt_topic_part(gt->topic, i), 0, INT64_MAX);
    }
    group_share(g);
    lt_unlock(&g->lock);
}

// ---- committed offsets

int64_t lt_group_committed(struct lt_group *g, const leat_topic *t, int32_t partition) {
    lt_lock(&g->lock);
    const struct lt_claim *c = lt_group_claim_locked(g, t, partition);
    int64_t offset = c && c->slot ? c->slot->values[0] : -1;
    lt_unlock(&g->lock);
    return offset;
}

static int group_commit_locked(struct lt_group *g, const struct lt_member *m, leat_topic *t,
                               int32_t partition, int64_t offset) {
    struct lt_slots *slots = &g->mq->log->slots;
    int rc = lt_topic_alive(t);
    if (rc != 0)
        return rc;
    if (!group_topic_make_locked(g, t))
        return LEAT_ENOMEM;
    struct lt_claim *c = lt_group_claim_locked(g, t, partition);
    if (c->owner != m)
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

int lt_group_commit(struct lt_group *g, const struct lt_member *m, leat_topic *t, int32_t partition,
                    int64_t offset) {
    lt_lock(&g->lock);
    int rc = group_commit_locked(g, m, t, partition, offset);
    lt_unlock(&g->lock);
    return rc;
}

// ---- the table of groups

static void group_free(struct lt_group *g) {
    struct lt_node *n;
    while ((n = lt_list_first(&g->topics)))
        group_topic_free(g, LT_CONTAINER(n, struct lt_group_topic, node));
    leat *mq = g->mq;
    lt_mutex_fini(&g->lock);
    lt_free(&mq->mem, g->name);
    lt_free(&mq->mem, g);
}

static struct lt_group *group_new(leat *mq, const char *name, size_t n) {
    struct lt_group *g = lt_zalloc(&mq->mem, sizeof *g);
    char *copy = g ? lt_strdup_n(&mq->mem, name, n) : NULL;
    if (copy && lt_mutex_init(&g->lock, LT_RANK_GROUP) == 0) {
        g->mq = mq;
        g->name = copy;
        lt_list_init(&g->members);
        lt_list_init(&g->topics);
        return g;
    }
    lt_free(&mq->mem, copy);
    lt_free(&mq->mem, g);
    (void)lt_fail_nomem();
    return NULL;
}

static int group_enter_locked(struct lt_group *g) {
    struct lt_log *log = g->mq->log;
    int rc = lt_map_put(&log->groups, g->name, strlen(g->name), g);
    if (rc == 0) {
        rc = lt_map_put(&log->group_ids, &g->id, sizeof g->id, g);
        if (rc != 0)
            (void)lt_map_remove(&log->groups, g->name, strlen(g->name));
    }
    return rc == LEAT_ENOMEM ? lt_fail_nomem() : rc;
}

static int group_enter(struct lt_group *g) {
    lt_lock(&g->mq->log->table);
    int rc = group_enter_locked(g);
    lt_unlock(&g->mq->log->table);
    return rc;
}

// Enters a new group and notes it, or neither: the note comes last, because it cannot be taken
// back, and nobody finds the group before. Locks: table.
static int group_enter_new_locked(struct lt_group *g) {
    struct lt_log *log = g->mq->log;
    int rc = group_enter_locked(g);
    if (rc != 0)
        return rc;
    rc = lt_manifest_note(&log->manifest, LT_NOTE_GROUP, g->id, g->name, strlen(g->name));
    if (rc != 0) {
        (void)lt_map_remove(&log->groups, g->name, strlen(g->name));
        (void)lt_map_remove(&log->group_ids, &g->id, sizeof g->id);
    }
    return rc;
}

struct lt_group *lt_group_find(leat *mq, const char *name) {
    lt_lock(&mq->log->table);
    struct lt_group *g = lt_map_get(&mq->log->groups, name, strlen(name));
    lt_unlock(&mq->log->table);
    return g;
}

static int group_create(leat *mq, const char *name, struct lt_group **out) {
    struct lt_log *log = mq->log;
    int rc = lt_check_writable(mq, "group", name);
    if (rc != 0)
        return rc;
    lt_lock(&log->table);
    size_t groups = lt_map_count(&log->groups);
    lt_unlock(&log->table);
    if (groups >= LT_GROUPS_MAX)
        return lt_fail(LEAT_EFULL, "group %s: the store has %d groups", name, LT_GROUPS_MAX);
    struct lt_group *g = group_new(mq, name, strlen(name));
    if (!g)
        return LEAT_ENOMEM;
    rc = lt_manifest_new_id(&log->manifest, &g->id);
    if (rc == 0) {
        lt_lock(&log->table);
        rc = group_enter_new_locked(g);
        lt_unlock(&log->table);
    }
    if (rc != 0) {
        group_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

int lt_group_open(leat *mq, const char *name, struct lt_group **out) {
    lt_lock(&mq->log->admin);
    *out = lt_group_find(mq, name);
    int rc = *out ? 0 : group_create(mq, name, out);
    lt_unlock(&mq->log->admin);
    return rc;
}

int lt_group_restore(leat *mq, const struct lt_note *note) {
    struct lt_group *g = group_new(mq, (const char *)note->body, note->size);
    if (!g)
        return LEAT_ENOMEM;
    g->id = note->id;
    int rc = lt_check_name("group", g->name) == 0 ? group_enter(g) : LEAT_ECORRUPT;
    if (rc == LEAT_EEXIST || rc == LEAT_ECORRUPT)
        rc = lt_fail(LEAT_ECORRUPT, "%s/manifest: the note of group id %u is unsound", mq->dir,
                     note->id);
    if (rc != 0)
        group_free(g);
    return rc;
}

int lt_groups_attach(leat *mq) {
    struct lt_log *log = mq->log;
    uint32_t at = 0;
    struct lt_slot *slot;
    while ((slot = lt_slots_next(&log->slots, &at))) {
        if (slot->key.kind != LT_SLOT_COMMIT)
            continue;
        struct lt_group *g = lt_map_get(&log->group_ids, &slot->key.id, sizeof slot->key.id);
        leat_topic *t = lt_topic_by_id(mq, slot->key.topic);
        if (!g || !t || slot->key.partition >= (uint32_t)t->partitions)
            continue;                                              // of something that was deleted
        struct lt_group_topic *gt = group_topic_make_locked(g, t); // nobody else is here yet
        if (!gt)
            return LEAT_ENOMEM;
        gt->claim[slot->key.partition].slot = slot;
        // What was committed is in use: after a power cut that took the records the log goes on
        // behind them, or the group would skip the new ones.
        int rc = lt_partition_skip_to(lt_topic_part(t, slot->key.partition), slot->values[0],
                                      LT_GAP_LOST);
        if (rc != 0)
            return rc;
    }
    return 0;
}

void lt_groups_forget_topic(leat *mq, const leat_topic *t) {
    struct lt_map_cursor at = { 0 };
    void *group;
    lt_lock(&mq->log->table);
    while (lt_map_next(&mq->log->groups, &at, NULL, NULL, &group)) {
        struct lt_group *g = group;
        lt_lock(&g->lock);
        struct lt_group_topic *gt = group_topic_locked(g, t);
        if (gt)
            group_topic_free(g, gt);
        lt_unlock(&g->lock);
    }
    lt_unlock(&mq->log->table);
}

static int group_topic_room(struct lt_group *g, struct lt_group_topic *gt, int32_t room) {
    if (room <= gt->room)
        return 0;
    struct lt_claim *grown = lt_resize(&g->mq->mem, gt->claim, (size_t)room * sizeof *grown);
    if (!grown)
        return lt_fail_nomem();
    memset(grown + gt->room, 0, (size_t)(room - gt->room) * sizeof *grown);
    gt->claim = grown;
    gt->room = room;
    return 0;
}

int lt_groups_make_room(leat *mq, leat_topic *t, int32_t partitions) {
    struct lt_map_cursor at = { 0 };
    void *group;
    int rc = 0;
    atomic_store(&t->room, partitions); // for groups that come to it from here on
    lt_lock(&mq->log->table);
    while (rc == 0 && lt_map_next(&mq->log->groups, &at, NULL, NULL, &group)) {
        struct lt_group *g = group;
        lt_lock(&g->lock);
        struct lt_group_topic *gt = group_topic_locked(g, t);
        if (gt)
            rc = group_topic_room(g, gt, partitions);
        lt_unlock(&g->lock);
    }
    lt_unlock(&mq->log->table);
    return rc;
}

void lt_groups_share_topic(leat *mq, const leat_topic *t) {
    struct lt_map_cursor at = { 0 };
    void *group;
    lt_lock(&mq->log->table);
    while (lt_map_next(&mq->log->groups, &at, NULL, NULL, &group)) {
        struct lt_group *g = group;
        lt_lock(&g->lock);
        if (group_topic_locked(g, t))
            group_share(g);
        lt_unlock(&g->lock);
    }
    lt_unlock(&mq->log->table);
}

static bool group_has_member_locked(struct lt_group *g, const leat_topic *t) {
    for (struct lt_node *n = lt_list_first(&g->members); n; n = lt_list_next(&g->members, n))
        if (group_subscribed(LT_CONTAINER(n, struct lt_member, node), t))
            return true;
    return false;
}

int64_t lt_groups_floor(leat *mq, const leat_topic *t, int32_t partition) {
    struct lt_map_cursor at = { 0 };
    void *group;
    int64_t floor = INT64_MAX;
    lt_lock(&mq->log->table);
    while (lt_map_next(&mq->log->groups, &at, NULL, NULL, &group)) {
        struct lt_group *g = group;
        lt_lock(&g->lock);
        const struct lt_claim *c = lt_group_claim_locked(g, t, partition);
        int64_t offset = c && c->slot                    ? c->slot->values[0]
                         : group_has_member_locked(g, t) ? 0
                                                         : INT64_MAX;
        floor = offset < floor ? offset : floor;
        lt_unlock(&g->lock);
    }
    lt_unlock(&mq->log->table);
    return floor;
}

void lt_groups_free(leat *mq) {
    struct lt_map_cursor at = { 0 };
    void *group;
    while (lt_map_next(&mq->log->groups, &at, NULL, NULL, &group))
        group_free(group);
}
