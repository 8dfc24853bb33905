/* SPDX-License-Identifier: MIT */
// grow: a topic gets more partitions. First all is made that can fail: the partitions, the room for
// them in the groups, the note, which is durable before a record can be in one of them (or a power
// cut could leave a partition's files that a later one would take for its own). Then the number is
// published, and whoever looks at it finds them: senders at once, groups by being shared out anew,
// queues over the topic when they next look for messages.
#include "log/group.h"
#include "log/log.h"

static int grow_locked(leat_topic *t, int32_t partitions) {
    leat *mq = t->mq;
    int rc = lt_topic_alive(t);
    if (rc != 0)
        return rc;
    if (partitions < t->partitions)
        return lt_fail(LEAT_EINVAL, "topic %s has %d partitions already", t->name, t->partitions);
    if (partitions == t->partitions)
        return 0;
    rc = lt_topic_add_parts(t, partitions);
    if (rc != 0)
        return rc;
    rc = lt_groups_make_room(mq, t, partitions);
    if (rc == 0)
        rc = lt_topic_note(t, partitions, t->dedup_window_ms, &t->keeps);
    if (rc == 0)
        rc = lt_manifest_sync(&mq->log->manifest);
    if (rc != 0) {
        lt_topic_drop_parts(t, partitions);
        return rc;
    }
    atomic_store_explicit(&t->partitions, partitions, memory_order_release);
    lt_groups_share_topic(mq, t);
    lt_bell_ring(&t->bell);
    leat_metadata md = { .topic = t->name, .offset = -1, .partition = partitions - 1 };
    lt_trace(mq, "topic-grow", NULL, &md, 0);
    return 0;
}

int leat_topic_grow(leat_topic *t, int32_t partitions) {
    int rc = lt_enter(t ? t->mq : NULL, LT_CALL);
    if (rc == 0 && (partitions < 1 || partitions > LT_PARTITIONS_MAX))
        rc = lt_fail(LEAT_EINVAL, "topic %s: partitions is %d; 1 to %d", t->name, partitions,
                     LT_PARTITIONS_MAX);
    if (rc == 0)
        rc = lt_check_writable(t->mq, "topic", t->name);
    if (rc == 0)
        rc = lt_begin(t->mq, LT_CALL);
    if (rc != 0)
        return rc;
    leat *mq = t->mq;
    lt_lock(&mq->log->admin);
    rc = grow_locked(t, partitions);
    lt_unlock(&mq->log->admin);
    return lt_end(mq, rc);
}
