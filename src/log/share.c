/* SPDX-License-Identifier: MIT */
// share: who of a group is to own what. The assignor works on tables that belong to the group and
// are large enough at all times: whatever leaves, expires or is deleted, sharing out cannot fail.
#include "log/assign.h"
#include "log/group.h"

#include <string.h>

// ---- room

// Makes *array at least so many entries long. Each has its own type, so it goes through memcpy.
static int sharing_fit(struct lt_mem *mem, void *array, size_t entries, size_t each) {
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = lt_resize(mem, old, entries * each);
    if (!grown)
        return lt_fail_nomem();
    memcpy(array, &grown, sizeof grown);
    return 0;
}

static size_t sharing_room(size_t room, size_t need) {
    return need <= room ? room : need <= 2 * room ? 2 * room : need;
}

int lt_sharing_reserve(struct lt_group *g, size_t topics, size_t members, size_t claims) {
    struct lt_sharing *s = &g->sharing;
    struct lt_mem *mem = &g->mq->mem;
    size_t t = sharing_room(s->topic_room, s->topic_count + topics);
    size_t m = sharing_room(s->member_room, s->member_count + members);
    size_t c = sharing_room(s->claim_room, s->claim_count + claims);
    size_t r = t * m; // so it does not matter which of the two comes first
    int rc = 0;
    if (t > s->topic_room) {
        rc = sharing_fit(mem, &s->topics, t, sizeof *s->topics);
        if (rc == 0)
            rc = sharing_fit(mem, &s->partitions, t, sizeof *s->partitions);
        s->topic_room = rc == 0 ? t : s->topic_room;
    }
    if (rc == 0 && m > s->member_room) {
        rc = sharing_fit(mem, &s->members, m, sizeof *s->members);
        if (rc == 0)
            rc = sharing_fit(mem, &s->load, m, sizeof *s->load);
        s->member_room = rc == 0 ? m : s->member_room;
    }
    if (rc == 0 && c > s->claim_room) {
        rc = sharing_fit(mem, &s->owner, c, sizeof *s->owner);
        if (rc == 0)
            rc = sharing_fit(mem, &s->target, c, sizeof *s->target);
        s->claim_room = rc == 0 ? c : s->claim_room;
    }
    if (rc == 0 && r > s->reads_room) {
        rc = sharing_fit(mem, &s->reads, r, sizeof *s->reads);
        s->reads_room = rc == 0 ? r : s->reads_room;
    }
    return rc;
}

void lt_sharing_fini(struct lt_group *g) {
    struct lt_sharing *s = &g->sharing;
    struct lt_mem *mem = &g->mq->mem;
    lt_free(mem, s->topics);
    lt_free(mem, s->members);
    lt_free(mem, s->partitions);
    lt_free(mem, s->owner);
    lt_free(mem, s->target);
    lt_free(mem, s->load);
    lt_free(mem, s->reads);
}

// ---- the topics, in the order of their names

// The place of the first topic whose name does not come before that one.
static size_t sharing_place(const struct lt_sharing *s, const char *name) {
    size_t lo = 0, hi = s->topic_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(s->topics[mid]->topic->name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

// A deleted topic and the one that has its name now may both be there for a moment.
struct lt_group_topic *lt_group_topic_locked(struct lt_group *g, const leat_topic *t) {
    const struct lt_sharing *s = &g->sharing;
    for (size_t i = sharing_place(s, t->name); i < s->topic_count; i++) {
        if (s->topics[i]->topic == t)
            return s->topics[i];
        if (strcmp(s->topics[i]->topic->name, t->name) != 0)
            break;
    }
    return NULL;
}

void lt_sharing_add_topic(struct lt_group *g, struct lt_group_topic *gt) {
    struct lt_sharing *s = &g->sharing;
    size_t i = sharing_place(s, gt->topic->name);
    struct lt_node *next = i < s->topic_count ? &s->topics[i]->node : &g->topics.head;
    lt_list_link(&gt->node, next->prev, next);
    memmove(s->topics + i + 1, s->topics + i, (s->topic_count - i) * sizeof *s->topics);
    s->topics[i] = gt;
    s->topic_count++;
    s->claim_count += (size_t)gt->room;
}

void lt_sharing_remove_topic(struct lt_group *g, struct lt_group_topic *gt) {
    struct lt_sharing *s = &g->sharing;
    size_t i = sharing_place(s, gt->topic->name);
    while (s->topics[i] != gt)
        i++;
    lt_list_remove(&gt->node);
    s->topic_count--;
    memmove(s->topics + i, s->topics + i + 1, (s->topic_count - i) * sizeof *s->topics);
    s->claim_count -= (size_t)gt->room;
}

// ---- sharing out

void lt_group_wake_locked(struct lt_group *g, struct lt_member *m) {
    atomic_store(&m->stale, true);
    lt_waiter_notify(g->mq, m->waiter);
    lt_beacon_raise(m->beacon);
}

void lt_group_give_locked(struct lt_group *g, struct lt_claim *c) {
    c->owner = c->target;
    c->epoch++;
    if (c->owner)
        lt_group_wake_locked(g, c->owner);
}

void lt_group_topic_count(struct lt_group_topic *gt) {
    int32_t partitions = atomic_load_explicit(&gt->topic->partitions, memory_order_acquire);
    if (!gt->unborn && gt->count < partitions)
        gt->count = partitions < gt->room ? partitions : gt->room;
}

// Returns  how many members there are.
static size_t sharing_fill(struct lt_group *g) {
    struct lt_sharing *s = &g->sharing;
    size_t members = 0, at = 0;
    for (size_t i = 0; i < s->topic_count; i++) {
        lt_group_topic_count(s->topics[i]);
        s->topics[i]->index = i;
        s->topics[i]->readers = 0;
        s->partitions[i] = s->topics[i]->count;
    }
    if (s->member_count > 0 && s->topic_count > 0)
        memset(s->reads, 0, s->member_count * s->topic_count);
    for (struct lt_node *n = lt_list_first(&g->members); n; n = lt_list_next(&g->members, n)) {
        struct lt_member *m = LT_CONTAINER(n, struct lt_member, node);
        m->index = members++;
        s->members[m->index] = m;
        for (size_t i = 0; i < m->read_count; i++) {
            s->reads[m->index * s->topic_count + m->reads[i]->index] = 1;
            m->reads[i]->readers++;
        }
    }
    for (size_t i = 0; i < s->topic_count; i++)
        for (int32_t k = 0; k < s->partitions[i]; k++) {
            const struct lt_member *owner = s->topics[i]->claim[k].owner;
            s->owner[at++] = owner ? (int32_t)owner->index : -1;
        }
    return members;
}

static void sharing_target(struct lt_group *g, struct lt_claim *c, int32_t target) {
    c->target = target >= 0 ? g->sharing.members[target] : NULL;
    if (c->owner == c->target)
        return;
    if (c->owner)
        lt_group_wake_locked(g, c->owner); // gives it up in its next poll
    else
        lt_group_give_locked(g, c);
}

void lt_group_share_locked(struct lt_group *g) {
    struct lt_sharing *s = &g->sharing;
    g->generation++;
    size_t members = sharing_fill(g);
    const struct lt_assign a = { .topics = s->topic_count,
                                 .members = members,
                                 .partitions = s->partitions,
                                 .reads = s->reads,
                                 .owner = s->owner,
                                 .target = s->target,
                                 .load = s->load };
    lt_assign(g->assignor, &a);
    size_t at = 0;
    for (size_t i = 0; i < s->topic_count; i++)
        for (int32_t k = 0; k < s->partitions[i]; k++)
            sharing_target(g, &s->topics[i]->claim[k], s->target[at++]);
    lt_trace(g->mq, "rebalance", g->name, NULL, 0);
}
