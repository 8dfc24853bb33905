/* SPDX-License-Identifier: MIT */
// group_admin: groups from outside: listed, set to other offsets, deleted. The log's admin lock
// keeps groups and topics from coming and going meanwhile, the group's lock members.
#include "leat_test.h"
#include "log/cursor.h"
#include "log/group.h"

#include <string.h>

int leat_group_list(leat *mq, const char **names, size_t max) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc == 0 && max > 0 && !names)
        rc = lt_fail(LEAT_EINVAL, "group list: names is NULL");
    if (rc != 0)
        return rc;
    struct lt_map_cursor at = { 0 };
    void *group;
    size_t n = 0;
    lt_lock(&mq->log->table);
    while (lt_map_next(&mq->log->groups, &at, NULL, NULL, &group)) {
        if (n < max)
            names[n] = ((const struct lt_group *)group)->name;
        n++;
    }
    lt_unlock(&mq->log->table);
    return (int)n;
}

static int admin_enter(leat *mq, const char *group) {
    int rc = lt_enter(mq, LT_CALL);
    if (rc == 0)
        rc = lt_check_name("group", group);
    return rc != 0 ? rc : lt_check_writable(mq, "group", group);
}

static int admin_find(leat *mq, const char *group, struct lt_group **g) {
    *g = lt_group_find(mq, group);
    return *g ? 0 : lt_fail(LEAT_ENOENT, "group %s does not exist", group);
}

// ---- reset

struct admin_move { // of one partition's committed offset
    leat_topic *topic;
    struct lt_claim *claim;
    struct lt_slot *slot;
    int64_t offset, before; // before -1: nothing was committed
    int32_t partition;
};

// Locks: the group's.
static int admin_check_idle(struct lt_group *g) {
    for (struct lt_node *n = lt_list_first(&g->open); n; n = lt_list_next(&g->open, n)) {
        const struct lt_member *m = LT_CONTAINER(n, struct lt_member, open_node);
        if ((lt_node_linked(&m->node) && !m->expelled) || m->by_hand)
            return lt_fail(LEAT_EBUSY, "group %s: consumer %s is in it", g->name,
                           m->name ? m->name : "(unnamed)");
    }
    return 0;
}

static int admin_find_topics(leat *mq, const leat_position *p, size_t n, struct admin_move *move) {
    for (size_t i = 0; i < n; i++) {
        leat_topic *t = lt_topic_find(mq, p[i].topic);
        if (!t)
            return lt_fail(LEAT_ENOENT, "topic %s does not exist", p[i].topic);
        if (!lt_topic_partition(t, p[i].partition))
            return LEAT_ERANGE;
        for (size_t k = 0; k < i; k++)
            if (move[k].topic == t && move[k].partition == p[i].partition)
                return lt_fail(LEAT_EINVAL, "topic %s partition %d is given twice", t->name,
                               p[i].partition);
        move[i] = (struct admin_move){ .topic = t, .partition = p[i].partition };
    }
    return 0;
}

// Finds out where each is to go, and gets what is needed for that. Locks: the group's.
static int admin_prepare(struct lt_group *g, const leat_position *p, size_t n,
                         struct admin_move *move) {
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct lt_claim *c = lt_group_claim_locked(g, move[i].topic, move[i].partition);
        move[i].before = c && c->slot ? c->slot->values[0] : -1;
        rc = lt_offset_resolve(lt_topic_part(move[i].topic, move[i].partition), move[i].before,
                               p[i].offset, &move[i].offset);
        if (rc == 0 && !lt_group_topic_make_locked(g, move[i].topic))
            rc = LEAT_ENOMEM;
    }
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct lt_slot_key key = { LT_SLOT_COMMIT, g->id, move[i].topic->id,
                                         (uint32_t)move[i].partition };
        move[i].claim = lt_group_claim_locked(g, move[i].topic, move[i].partition);
        rc = lt_slot_take(&g->mq->log->slots, &key, &move[i].slot);
    }
    return rc;
}

// Undoes what was done of the moves, of which the first `stored` were stored. Locks: the group's.
static void admin_undo(struct lt_group *g, struct admin_move *move, size_t n, size_t stored) {
    struct lt_slots *slots = &g->mq->log->slots;
    for (size_t i = 0; i < n && move[i].slot; i++) {
        const int64_t values[4] = { move[i].before };
        if (move[i].before < 0)
            lt_slot_drop(slots, move[i].slot);
        else if (i < stored)
            (void)lt_slot_store(slots, move[i].slot, values);
    }
}

static int admin_reset_locked(struct lt_group *g, const leat_position *p, size_t n,
                              struct admin_move *move) {
    int rc = admin_check_idle(g);
    if (rc == 0)
        rc = admin_prepare(g, p, n, move);
    size_t stored = 0;
    for (; stored < n && rc == 0; stored += rc == 0) {
        const int64_t values[4] = { move[stored].offset };
        rc = lt_slot_store(&g->mq->log->slots, move[stored].slot, values);
    }
    if (rc != 0)
        admin_undo(g, move, n, stored);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct admin_move *m = &move[i];
        m->claim->slot = m->slot;
        lt_partition_consumed(lt_topic_part(m->topic, m->partition), m->before < 0 ? 0 : m->before,
                              m->offset);
        leat_metadata md = { .topic = m->topic->name,
                             .partition = m->partition,
                             .offset = m->offset };
        lt_trace(g->mq, "reset", g->name, &md, 0);
    }
    return rc;
}

static int admin_reset(leat *mq, const char *group, const leat_position *p, size_t n) {
    struct lt_group *g;
    struct admin_move *move = lt_zalloc(&mq->mem, (n + 1) * sizeof *move);
    if (!move)
        return lt_fail_nomem();
    lt_lock(&mq->log->admin);
    int rc = admin_find(mq, group, &g);
    if (rc == 0)
        rc = admin_find_topics(mq, p, n, move);
    if (rc == 0) {
        lt_lock(&g->lock);
        rc = admin_reset_locked(g, p, n, move);
        lt_unlock(&g->lock);
    }
    lt_unlock(&mq->log->admin);
    lt_free(&mq->mem, move);
    if (rc == 0)
        lt_log_changed(mq);
    return rc;
}

int leat_group_reset(leat *mq, const char *group, const leat_position *p, size_t n) {
    int rc = admin_enter(mq, group);
    if (rc == 0 && ((n > 0 && !p) || n > (size_t)LT_TOPICS_MAX * LT_PARTITIONS_MAX))
        rc = lt_fail(LEAT_EINVAL, "group %s: the positions are NULL, or %zu", group, n);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = lt_check_name("topic", p[i].topic);
    if (rc == 0)
        rc = lt_begin(mq, LT_CALL);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = lt_fault(mq, LEAT_OP_COMMIT, p[i].topic, p[i].partition, true);
    return lt_end(mq, rc != 0 ? rc : admin_reset(mq, group, p, n));
}

// ---- delete

static int admin_check_closed(struct lt_group *g) {
    int rc = 0;
    lt_lock(&g->lock);
    const struct lt_node *n = lt_list_first(&g->open);
    if (n) {
        const struct lt_member *m = LT_CONTAINER(n, struct lt_member, open_node);
        rc = lt_fail(LEAT_EBUSY, "group %s: consumer %s is open", g->name,
                     m->name ? m->name : "(unnamed)");
    }
    lt_unlock(&g->lock);
    return rc;
}

// Retention that waited for the group has to look again. Locks: none; nobody else has the group.
static void admin_let_go(struct lt_group *g) {
    for (struct lt_node *n = lt_list_first(&g->topics); n; n = lt_list_next(&g->topics, n)) {
        const struct lt_group_topic *gt = LT_CONTAINER(n, struct lt_group_topic, node);
        for (int32_t i = 0; i < gt->count; i++)
            lt_partition_consumed(lt_topic_part(gt->topic, i), 0, INT64_MAX);
    }
}

static int admin_delete(leat *mq, const char *group) {
    struct lt_log *log = mq->log;
    struct lt_group *g;
    int rc = admin_find(mq, group, &g);
    if (rc == 0)
        rc = admin_check_closed(g);
    if (rc == 0)
        rc = lt_manifest_note(&log->manifest, LT_NOTE_GROUP, g->id, NULL, 0);
    if (rc != 0)
        return rc;
    // The note stands: it is gone for every later open, so it is gone here, too. What it held back,
    // and its slots, go only when that is durable, or a power cut could bring half of it back.
    rc = lt_manifest_sync(&log->manifest);
    lt_group_forget(g);
    lt_trace(mq, "group-delete", g->name, NULL, rc);
    if (rc == 0) {
        lt_slots_drop_group(&log->slots, g->id);
        admin_let_go(g);
        lt_log_changed(mq);
    }
    lt_group_free(g);
    return rc;
}

int leat_group_delete(leat *mq, const char *group) {
    int rc = admin_enter(mq, group);
    if (rc == 0)
        rc = lt_begin(mq, LT_CALL);
    if (rc != 0)
        return rc;
    lt_lock(&mq->log->admin);
    rc = admin_delete(mq, group);
    lt_unlock(&mq->log->admin);
    return lt_end(mq, rc);
}
