/* SPDX-License-Identifier: MIT */
#include "log/group.h"

#include "base/glob.h"

#include <string.h>

// ---- topics of a group

// Anybody but lt_group_expect_locked who comes with a topic has found it, so it is born.
struct lt_group_topic *lt_group_topic_make_locked(struct lt_group *g, leat_topic *t) {
    struct lt_group_topic *gt = lt_group_topic_locked(g, t);
    struct lt_mem *mem = &g->mq->mem;
    if (!gt) {
        int32_t room = atomic_load(&t->room);
        if (lt_sharing_reserve(g, 1, 0, (size_t)room) != 0)
            return NULL;
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
        lt_sharing_add_topic(g, gt);
    }
    gt->unborn = false;
    lt_group_topic_count(gt);
    return gt;
}

void lt_group_topic_free(struct lt_group *g, struct lt_group_topic *gt) {
    lt_sharing_remove_topic(g, gt);
    lt_free(&g->mq->mem, gt->claim);
    lt_free(&g->mq->mem, gt);
}

struct lt_claim *lt_group_claim_locked(struct lt_group *g, const leat_topic *t, int32_t partition) {
    struct lt_group_topic *gt = lt_group_topic_locked(g, t);
    return gt && partition >= 0 && partition < gt->count ? &gt->claim[partition] : NULL;
}

// ---- what a member reads

// Makes room for one more entry of `each` bytes. Returns  NULL: no memory.
static void *member_room(struct lt_mem *mem, void *old, size_t count, size_t *room, size_t each) {
    if (count < *room)
        return old;
    size_t more = *room ? 2 * *room : 4;
    void *grown = lt_resize(mem, old, more * each);
    if (grown)
        *room = more;
    else
        (void)lt_fail_nomem();
    return grown;
}

bool lt_member_named(const struct lt_member *m, const leat_topic *t) {
    for (size_t i = 0; i < m->topic_count; i++)
        if (m->topics[i] == t)
            return true;
    return false;
}

static bool member_matches(const struct lt_member *m, const leat_topic *t) {
    if (t->owned) // a queue's own topic is read by a group only if it is named
        return false;
    for (size_t i = 0; i < m->pattern_count; i++)
        if (lt_glob_match(m->patterns[i], strlen(m->patterns[i]), t->name, strlen(t->name)))
            return true;
    return false;
}

bool lt_member_reads_locked(const struct lt_member *m, const struct lt_group_topic *gt) {
    for (size_t i = 0; i < m->read_count; i++)
        if (m->reads[i] == gt)
            return true;
    return false;
}

// There may be readers only of what the group has, so this makes that, too.
static int member_read(struct lt_group *g, struct lt_member *m, leat_topic *t) {
    struct lt_group_topic *gt = lt_group_topic_make_locked(g, t);
    if (!gt)
        return LEAT_ENOMEM;
    if (lt_member_reads_locked(m, gt))
        return 0;
    void *reads = member_room(&g->mq->mem, m->reads, m->read_count, &m->read_room, sizeof(void *));
    if (!reads)
        return LEAT_ENOMEM;
    m->reads = reads;
    m->reads[m->read_count++] = gt;
    return 0;
}

void lt_member_fini(struct lt_mem *mem, struct lt_member *m) {
    lt_free(mem, m->topics);
    lt_free(mem, m->patterns);
    lt_free(mem, m->reads);
}

// ---- joining and leaving

static const char *group_assignor(int32_t assignor) {
    return assignor == LEAT_ASSIGN_STICKY        ? "sticky"
           : assignor == LEAT_ASSIGN_ROUND_ROBIN ? "round robin"
                                                 : "range";
}

// Looks whether m can be a member, or is one; there is room for it then.
static int group_admit(struct lt_group *g, const struct lt_member *m) {
    if (lt_node_linked(&m->node))
        return 0;
    if (g->sharing.member_count > 0 && m->assignor != 0 && m->assignor != g->assignor)
        return lt_fail(LEAT_EEXIST, "group %s shares by %s, not by %s", g->name,
                       group_assignor(g->assignor), group_assignor(m->assignor));
    return lt_sharing_reserve(g, 0, 1, 0);
}

// Tells whether a stands before b whenever they joined.
static bool group_before(const struct lt_member *a, const struct lt_member *b) {
    return a->name && (!b->name || strcmp(a->name, b->name) < 0);
}

static void group_join(struct lt_group *g, struct lt_member *m) {
    if (lt_node_linked(&m->node) && !m->expelled)
        return;
    if (m->expelled) { // it has kept its seat
        lt_list_remove(&m->node);
        m->expelled = false;
    } else {
        if (g->sharing.member_count++ == 0)
            g->assignor = m->assignor ? m->assignor : LEAT_ASSIGN_RANGE;
    }
    struct lt_node *n = lt_list_first(&g->members);
    while (n && !group_before(m, LT_CONTAINER(n, struct lt_member, node)))
        n = lt_list_next(&g->members, n);
    n = n ? n : &g->members.head;
    lt_list_link(&m->node, n->prev, n);
}

static int group_subscribe_locked(struct lt_group *g, struct lt_member *m, leat_topic *t) {
    if (lt_member_named(m, t))
        return 0;
    int rc = group_admit(g, m);
    if (rc != 0)
        return rc;
    void *topics =
        member_room(&g->mq->mem, m->topics, m->topic_count, &m->topic_room, sizeof(void *));
    if (!topics)
        return LEAT_ENOMEM;
    m->topics = topics;
    rc = member_read(g, m, t);
    if (rc != 0)
        return rc;
    m->topics[m->topic_count++] = t;
    group_join(g, m);
    lt_group_share_locked(g);
    return 0;
}

int lt_group_subscribe(struct lt_group *g, struct lt_member *m, leat_topic *t) {
    lt_lock(&g->lock);
    int rc = group_subscribe_locked(g, m, t);
    lt_unlock(&g->lock);
    return rc;
}

static int group_match_locked(struct lt_group *g, struct lt_member *m) {
    struct lt_log *log = g->mq->log;
    size_t before = m->read_count;
    int rc = 0;
    for (struct lt_node *n = lt_list_first(&log->all); n && rc == 0;
         n = lt_list_next(&log->all, n)) {
        leat_topic *t = LT_CONTAINER(n, leat_topic, node);
        if (!atomic_load(&t->gone) && member_matches(m, t))
            rc = member_read(g, m, t);
    }
    if (rc != 0)
        m->read_count = before;
    return rc;
}

// Locks: table, and the group's.
static int group_pattern_locked(struct lt_group *g, struct lt_member *m, const char *pattern) {
    for (size_t i = 0; i < m->pattern_count; i++)
        if (strcmp(m->patterns[i], pattern) == 0)
            return 0;
    int rc = group_admit(g, m);
    if (rc != 0)
        return rc;
    struct lt_mem *mem = &g->mq->mem;
    void *patterns =
        member_room(mem, m->patterns, m->pattern_count, &m->pattern_room, sizeof(void *));
    if (!patterns)
        return LEAT_ENOMEM;
    m->patterns = patterns;
    char *copy = lt_strdup_n(mem, pattern, strlen(pattern));
    if (!copy)
        return lt_fail_nomem();
    m->patterns[m->pattern_count++] = copy;
    rc = group_match_locked(g, m);
    if (rc != 0) {
        lt_free(mem, m->patterns[--m->pattern_count]);
        return rc;
    }
    group_join(g, m);
    lt_group_share_locked(g);
    return 0;
}

int lt_group_subscribe_pattern(struct lt_group *g, struct lt_member *m, const char *pattern) {
    struct lt_log *log = g->mq->log;
    lt_lock(&log->admin); // no topic comes or goes
    lt_lock(&log->table);
    lt_lock(&g->lock);
    int rc = group_pattern_locked(g, m, pattern);
    lt_unlock(&g->lock);
    lt_unlock(&log->table);
    lt_unlock(&log->admin);
    return rc;
}

// Gives up all that a member owns, without asking it.
static void group_release_locked(struct lt_group *g, const struct lt_member *m) {
    for (struct lt_node *n = lt_list_first(&g->topics); n; n = lt_list_next(&g->topics, n)) {
        struct lt_group_topic *gt = LT_CONTAINER(n, struct lt_group_topic, node);
        for (int32_t i = 0; i < gt->count; i++) {
            if (gt->claim[i].owner != m)
                continue;
            gt->claim[i].owner = NULL;
            gt->claim[i].epoch++;
        }
    }
}

void lt_group_leave(struct lt_group *g, struct lt_member *m) {
    lt_lock(&g->lock);
    m->topic_count = 0;
    while (m->pattern_count > 0)
        lt_free(&g->mq->mem, m->patterns[--m->pattern_count]);
    m->read_count = 0;
    group_release_locked(g, m);
    if (lt_node_linked(&m->node)) {
        lt_list_remove(&m->node);
        g->sharing.member_count--;
    }
    m->expelled = false;
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
    if (lt_node_linked(&m->node) && !m->expelled) {
        group_release_locked(g, m);
        lt_list_remove(&m->node);
        lt_list_push_back(&g->away, &m->node);
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
    group_join(g, m);
    lt_group_share_locked(g);
}

// ---- topics that come and go

static int group_expect_each(struct lt_group *g, const struct lt_list *members, leat_topic *t) {
    int rc = 0;
    for (struct lt_node *n = lt_list_first(members); n && rc == 0; n = lt_list_next(members, n)) {
        struct lt_member *m = LT_CONTAINER(n, struct lt_member, node);
        if (member_matches(m, t))
            rc = member_read(g, m, t);
    }
    return rc;
}

int lt_group_expect_locked(struct lt_group *g, leat_topic *t) {
    int rc = group_expect_each(g, &g->members, t);
    if (rc == 0)
        rc = group_expect_each(g, &g->away, t);
    struct lt_group_topic *gt = lt_group_topic_locked(g, t);
    if (gt) {
        gt->unborn = true;
        gt->count = 0;
    }
    return rc;
}

static void group_forget_each(struct lt_group *g, const struct lt_list *members,
                              const struct lt_group_topic *gt) {
    for (struct lt_node *n = lt_list_first(members); n; n = lt_list_next(members, n)) {
        struct lt_member *m = LT_CONTAINER(n, struct lt_member, node);
        for (size_t i = 0; i < m->read_count; i++) {
            if (m->reads[i] != gt)
                continue;
            m->reads[i] = m->reads[--m->read_count];
            lt_group_wake_locked(g, m); // what it has of it goes in its next poll
            break;
        }
    }
}

void lt_group_topic_forget_locked(struct lt_group *g, struct lt_group_topic *gt) {
    bool was_read = gt->readers > 0;
    group_forget_each(g, &g->members, gt);
    group_forget_each(g, &g->away, gt);
    lt_group_topic_free(g, gt);
    if (was_read)
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
