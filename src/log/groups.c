/* SPDX-License-Identifier: MIT */
// groups: the table of the groups of a store, and what all of them have to know of a topic.
#include "log/group.h"

#include <string.h>

void lt_group_free(struct lt_group *g) {
    while (g->sharing.topic_count > 0)
        lt_group_topic_free(g, g->sharing.topics[g->sharing.topic_count - 1]);
    lt_sharing_fini(g);
    leat *mq = g->mq;
    lt_mutex_fini(&g->lock);
    lt_free(&mq->mem, g);
}

static struct lt_group *group_new(leat *mq, const char *name) {
    struct lt_group *g = lt_zalloc(&mq->mem, sizeof *g);
    const char *kept = g ? lt_keep_name(mq, name) : NULL; // lists and lags give it out
    if (kept && lt_mutex_init(&g->lock, LT_RANK_GROUP) == 0) {
        g->mq = mq;
        g->name = kept;
        lt_list_init(&g->members);
        lt_list_init(&g->away);
        lt_list_init(&g->topics);
        lt_list_init(&g->open);
        return g;
    }
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

static void group_leave_locked(struct lt_group *g) {
    struct lt_log *log = g->mq->log;
    (void)lt_map_remove(&log->groups, g->name, strlen(g->name));
    (void)lt_map_remove(&log->group_ids, &g->id, sizeof g->id);
}

void lt_group_forget(struct lt_group *g) {
    lt_lock(&g->mq->log->table);
    group_leave_locked(g);
    lt_unlock(&g->mq->log->table);
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
    if (rc != 0)
        group_leave_locked(g);
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
    struct lt_group *g = group_new(mq, name);
    if (!g)
        return LEAT_ENOMEM;
    rc = lt_manifest_new_id(&log->manifest, &g->id);
    if (rc == 0) {
        lt_lock(&log->table);
        rc = group_enter_new_locked(g);
        lt_unlock(&log->table);
    }
    if (rc != 0) {
        lt_group_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

int lt_group_open(leat *mq, const char *name, struct lt_member *m, struct lt_group **out) {
    lt_lock(&mq->log->admin);
    *out = lt_group_find(mq, name);
    int rc = *out ? 0 : group_create(mq, name, out);
    if (rc == 0) {
        lt_lock(&(*out)->lock);
        lt_list_push_back(&(*out)->open, &m->open_node);
        lt_unlock(&(*out)->lock);
    }
    lt_unlock(&mq->log->admin);
    return rc;
}

void lt_group_close(struct lt_group *g, struct lt_member *m) {
    lt_lock(&g->lock);
    lt_list_remove(&m->open_node);
    lt_unlock(&g->lock);
}

void lt_group_by_hand(struct lt_group *g, struct lt_member *m, bool has) {
    lt_lock(&g->lock);
    m->by_hand = has;
    lt_unlock(&g->lock);
}

int lt_group_restore(leat *mq, const struct lt_note *note) {
    char name[250];
    size_t n = note->size < sizeof name ? note->size : sizeof name - 1;
    memcpy(name, note->body, n);
    name[n] = '\0';
    bool sound = n == note->size && strlen(name) == n && lt_check_name("group", name) == 0;
    struct lt_group *g = sound ? group_new(mq, name) : NULL;
    if (sound && !g)
        return LEAT_ENOMEM;
    int rc = LEAT_EEXIST;
    if (g) {
        g->id = note->id;
        rc = group_enter(g);
    }
    if (rc == LEAT_EEXIST)
        rc = lt_fail(LEAT_ECORRUPT, "%s/manifest: the note of group id %u is unsound", mq->dir,
                     note->id);
    if (rc != 0 && g)
        lt_group_free(g);
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
            continue; // of something that was deleted
        struct lt_group_topic *gt = lt_group_topic_make_locked(g, t); // nobody else is here yet
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

// ---- all groups

// What a visit is about, and finds.
struct groups_visit {
    const leat_topic *t;
    leat_topic *fresh; // one that is being made
    int32_t partition; // or how many
    int64_t floor;
};

// Visits each group, with its lock and the table's, until a visit fails. Returns  as that.
static int groups_each(leat *mq, int (*visit)(struct lt_group *g, struct groups_visit *v),
                       struct groups_visit *v) {
    struct lt_map_cursor at = { 0 };
    void *group;
    int rc = 0;
    lt_lock(&mq->log->table);
    while (rc == 0 && lt_map_next(&mq->log->groups, &at, NULL, NULL, &group)) {
        struct lt_group *g = group;
        lt_lock(&g->lock);
        rc = visit(g, v);
        lt_unlock(&g->lock);
    }
    lt_unlock(&mq->log->table);
    return rc;
}

static int groups_forget(struct lt_group *g, struct groups_visit *v) {
    struct lt_group_topic *gt = lt_group_topic_locked(g, v->t);
    if (gt)
        lt_group_topic_forget_locked(g, gt);
    return 0;
}

void lt_groups_forget_topic(leat *mq, const leat_topic *t) {
    (void)groups_each(mq, groups_forget, &(struct groups_visit){ .t = t });
}

static int groups_expect(struct lt_group *g, struct groups_visit *v) {
    return lt_group_expect_locked(g, v->fresh);
}

int lt_groups_expect_topic(leat *mq, leat_topic *t) {
    int rc = groups_each(mq, groups_expect, &(struct groups_visit){ .fresh = t });
    if (rc != 0)
        lt_groups_forget_topic(mq, t);
    return rc;
}

static int group_topic_room(struct lt_group *g, struct lt_group_topic *gt, int32_t room) {
    if (room <= gt->room)
        return 0;
    size_t more = (size_t)(room - gt->room);
    if (lt_sharing_reserve(g, 0, 0, more) != 0)
        return LEAT_ENOMEM;
    struct lt_claim *grown = lt_resize(&g->mq->mem, gt->claim, (size_t)room * sizeof *grown);
    if (!grown)
        return lt_fail_nomem();
    memset(grown + gt->room, 0, more * sizeof *grown);
    gt->claim = grown;
    gt->room = room;
    g->sharing.claim_count += more;
    return 0;
}

static int groups_make_room(struct lt_group *g, struct groups_visit *v) {
    struct lt_group_topic *gt = lt_group_topic_locked(g, v->t);
    return gt ? group_topic_room(g, gt, v->partition) : 0;
}

int lt_groups_make_room(leat *mq, leat_topic *t, int32_t partitions) {
    atomic_store(&t->room, partitions); // for groups that come to it from here on
    return groups_each(mq, groups_make_room,
                       &(struct groups_visit){ .t = t, .partition = partitions });
}

static int groups_share(struct lt_group *g, struct groups_visit *v) {
    struct lt_group_topic *gt = lt_group_topic_locked(g, v->t);
    if (gt) {
        gt->unborn = false;
        lt_group_share_locked(g);
    }
    return 0;
}

void lt_groups_share_topic(leat *mq, const leat_topic *t) {
    (void)groups_each(mq, groups_share, &(struct groups_visit){ .t = t });
}

static int groups_floor(struct lt_group *g, struct groups_visit *v) {
    const struct lt_group_topic *gt = lt_group_topic_locked(g, v->t);
    const struct lt_claim *c = lt_group_claim_locked(g, v->t, v->partition);
    int64_t offset = c && c->slot ? c->slot->values[0] : gt && gt->readers > 0 ? 0 : INT64_MAX;
    v->floor = offset < v->floor ? offset : v->floor;
    return 0;
}

int64_t lt_groups_floor(leat *mq, const leat_topic *t, int32_t partition) {
    struct groups_visit v = { .t = t, .partition = partition, .floor = INT64_MAX };
    (void)groups_each(mq, groups_floor, &v);
    return v.floor;
}

void lt_groups_free(leat *mq) {
    struct lt_map_cursor at = { 0 };
    void *group;
    while (lt_map_next(&mq->log->groups, &at, NULL, NULL, &group))
        lt_group_free(group);
}
