/* SPDX-License-Identifier: MIT */
// commit: positions of a group, stored.
#include "leat_test.h"
#include "log/consumer.h"

static int consumer_commit_part(leat_consumer *c, struct lt_consumer_part *part) {
    const struct lt_cursor *at = &part->cursor;
    leat_topic *t = at->p->topic;
    int rc = lt_fault(c->mq, LEAT_OP_COMMIT, t->name, at->p->number, true);
    // The law of release: no durable slot is ahead of what can be read after a crash.
    if (rc == 0 && c->commit_disk)
        rc = lt_partition_sync(at->p, at->offset);
    if (rc == 0)
        rc = lt_group_commit(c->group, c->assigned ? NULL : &c->member, t, at->p->number,
                             at->offset);
    if (rc == 0)
        part->uncommitted = false;
    return rc;
}

// Makes the slots that were stored durable, and the note of the group that they belong to.
static int consumer_commit_sync(leat_consumer *c) {
    struct lt_log *log = c->mq->log;
    int rc = lt_manifest_sync(&log->manifest);
    if (rc == 0)
        rc = lt_slots_sync(&log->slots);
    return rc == 0 ? 0 : LEAT_EIO; // whatever the reason: they are stored, so "unknown"
}

static int consumer_commit(leat_consumer *c) {
    if (!c->group)
        return lt_fail(LEAT_EINVAL, "a consumer without a group cannot commit");
    int first = lt_check_writable(c->mq, "group", c->group->name);
    if (first != 0)
        return first;
    if (c->commit_disk && lt_slots_poisoned(&c->mq->log->slots))
        return lt_fail(LEAT_EPOISONED, "group %s: a sync of the slots has failed", c->group->name);
    bool stored = false;
    for (size_t i = 0; i < c->part_count; i++) {
        if (c->part[i].cursor.offset < 0)
            continue;
        int rc = consumer_commit_part(c, &c->part[i]);
        stored |= rc == 0;
        first = first ? first : rc;
    }
    if (stored && c->commit_disk) {
        int rc = consumer_commit_sync(c);
        first = rc ? rc : first;
    }
    if (first == 0 && c->lost) {
        first = lt_fail(LEAT_EFENCED,
                        "group %s: topic %s partition %d was left out: it went to another member",
                        c->group->name, c->lost->name, c->lost_partition);
        c->lost = NULL;
    }
    return first;
}

int leat_commit(leat_consumer *c) {
    int rc = lt_consumer_enter(c);
    return rc != 0 ? rc : lt_consumer_leave(c, consumer_commit(c));
}
