/* SPDX-License-Identifier: MIT */
// commit: positions of a group, stored.
#include "leat_test.h"
#include "log/consumer.h"

static int commit_one(leat_consumer *c, const struct lt_commit_at *at) {
    const struct lt_partition *p = at->p;
    int rc = lt_fault(c->mq, LEAT_OP_COMMIT, p->topic->name, p->number, true);
    // The law of release: no durable slot is ahead of what can be read after a crash.
    if (rc == 0 && c->commit_disk)
        rc = lt_partition_sync(at->p, at->offset);
    return rc != 0 ? rc : lt_group_commit(c->group, c->assigned ? NULL : &c->member, at);
}

// Makes the slots that were stored durable, and the note of the group that they belong to.
static int commit_sync(leat_consumer *c) {
    struct lt_log *log = c->mq->log;
    int rc = lt_manifest_sync(&log->manifest);
    if (rc == 0)
        rc = lt_slots_sync(&log->slots);
    return rc == 0 ? 0 : LEAT_EIO; // whatever the reason: they are stored, so "unknown"
}

int lt_commit_many(leat_consumer *c, const struct lt_commit_at *at, size_t n) {
    int first = lt_check_writable(c->mq, "group", c->group->name);
    if (first != 0)
        return first;
    if (c->commit_disk && lt_slots_poisoned(&c->mq->log->slots))
        return lt_fail(LEAT_EPOISONED, "group %s: a sync of the slots has failed", c->group->name);
    bool stored = false;
    for (size_t i = 0; i < n; i++) {
        int rc = commit_one(c, &at[i]);
        if (rc == LEAT_EGONE && lt_consumer_without(c, at[i].p->topic))
            continue; // a pattern had chosen it: nothing is left to commit
        stored |= rc == 0;
        first = first ? first : rc;
    }
    if (stored && c->commit_disk) {
        int rc = commit_sync(c);
        first = rc ? rc : first;
    }
    return first;
}

size_t lt_commit_gather(leat_consumer *c, bool revoking) {
    size_t n = 0;
    for (size_t i = 0; i < c->part_count; i++) {
        const struct lt_consumer_part *part = &c->part[i];
        if (part->cursor.offset >= 0 && (!revoking || part->revoking))
            c->at[n++] = (struct lt_commit_at){ part->cursor.p, part->epoch, part->cursor.offset };
    }
    return n;
}

int lt_commit_positions(leat_consumer *c, bool revoking) {
    size_t n = lt_commit_gather(c, revoking);
    int rc = lt_commit_many(c, c->at, n);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < c->part_count; i++)
        if (!revoking || c->part[i].revoking)
            c->part[i].uncommitted = false;
    return 0;
}

void lt_commit_automatic(leat_consumer *c, bool now, bool revoking) {
    if (!c->auto_ms || !c->group || atomic_load(&c->push) ||
        (!now && lt_now_ns(c->mq) < c->auto_ns))
        return;
    bool any = false;
    for (size_t i = 0; i < c->part_count; i++)
        any |= c->part[i].uncommitted && (!revoking || c->part[i].revoking);
    if (!revoking)
        c->auto_ns = lt_add_ms(lt_now_ns(c->mq), c->auto_ms);
    if (!any || !lt_stores(c->mq))
        return;
    lt_commits_finish(c);
    int rc = lt_commit_positions(c, revoking);
    if (rc != 0 && rc != LEAT_EFENCED)
        lt_say(c->mq, LEAT_LOG_WARNING, "group %s: automatic commit: %s", c->group->name,
               leat_errmsg());
}

int lt_commit_check(const leat_consumer *c) {
    return c->group ? 0 : lt_fail(LEAT_EINVAL, "a consumer without a group cannot commit");
}

// LEAT_EFENCED, once, for what went to another member before it was committed.
static int commit_lost(leat_consumer *c) {
    if (!c->lost)
        return 0;
    int rc = lt_fail(LEAT_EFENCED,
                     "group %s: topic %s partition %d was left out: it went to another member",
                     c->group->name, c->lost->name, c->lost_partition);
    c->lost = NULL;
    return rc;
}

static int commit_now(leat_consumer *c) {
    int rc = lt_commit_check(c);
    if (rc != 0)
        return rc;
    lt_commits_finish(c);
    rc = lt_commit_positions(c, false);
    if (rc == 0)
        rc = commit_lost(c);
    lt_commits_tell(c);
    return rc;
}

int leat_commit(leat_consumer *c) {
    int rc = lt_consumer_enter_event(c);
    return rc != 0 ? rc : lt_consumer_leave(c, commit_now(c));
}

// ---- of offsets that are given

static int commit_resolve(leat_consumer *c, const leat_position *pos, struct lt_commit_at *at) {
    int rc = lt_check_name("topic", pos->topic);
    leat_topic *t = rc == 0 ? lt_topic_find(c->mq, pos->topic) : NULL;
    if (rc == 0 && !t)
        rc = lt_fail(LEAT_ENOENT, "topic %s does not exist", pos->topic);
    if (rc != 0)
        return rc;
    at->p = lt_topic_partition(t, pos->partition);
    if (!at->p)
        return LEAT_ERANGE;
    int64_t end = atomic_load(&at->p->end);
    at->offset = pos->offset;
    if (at->offset < 0 || at->offset > end)
        return lt_fail(LEAT_ERANGE, "topic %s partition %d ends at %lld; %lld cannot be committed",
                       t->name, pos->partition, (long long)end, (long long)pos->offset);
    const struct lt_consumer_part *part = lt_consumer_find(c, t, pos->partition);
    at->epoch = part ? part->epoch : 0; // a claim that somebody owns has another one
    return 0;
}

static int commit_given(leat_consumer *c, const leat_position *pos, size_t n) {
    int rc = lt_commit_check(c);
    if (rc == 0 && n > 0 && !pos)
        rc = lt_fail(LEAT_EINVAL, "commit: the positions are NULL");
    if (rc == 0 && n > SIZE_MAX / sizeof(struct lt_commit_at))
        rc = lt_fail(LEAT_EINVAL, "commit: %zu positions", n);
    if (rc != 0 || n == 0)
        return rc;
    struct lt_commit_at *at = lt_alloc(&c->mq->mem, n * sizeof *at);
    if (!at)
        return lt_fail_nomem();
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = commit_resolve(c, &pos[i], &at[i]);
    if (rc == 0) {
        lt_commits_finish(c);
        rc = lt_commit_many(c, at, n);
        for (size_t i = 0; i < n && rc == 0; i++) {
            struct lt_consumer_part *part = lt_consumer_find(c, at[i].p->topic, at[i].p->number);
            if (part && at[i].offset >= part->cursor.offset)
                part->uncommitted = false;
        }
    }
    lt_free(&c->mq->mem, at);
    lt_commits_tell(c);
    return rc;
}

int leat_commit_offsets(leat_consumer *c, const leat_position *p, size_t n) {
    int rc = lt_consumer_enter_event(c);
    return rc != 0 ? rc : lt_consumer_leave(c, commit_given(c, p, n));
}
