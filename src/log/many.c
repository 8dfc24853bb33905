/* SPDX-License-Identifier: MIT */
// many: records that are sent together. Each is planned, which is most of the work, and given its
// partition with no lock held; those of one partition make a batch, in the order in which they
// came. Then each batch is appended under one hold of its partition's lock, whole or not at all,
// and last the partitions are synced, once each.
#include "leat_test.h"
#include "base/bytes.h"
#include "log/producer.h"

struct many {
    const struct lt_send *send;
    size_t n;
    struct lt_plan *plan; // n of them
    struct many_part *part;
    int32_t parts;
};

struct many_part { // the batch of one partition
    struct lt_partition *p;
    struct lt_batch batch; // count 0: none
    struct lt_plan *last;
    leat_metadata first; // offset -1: not appended
};

// ---- making the batches

static int many_take(struct many *m, struct lt_plan *plan) {
    struct lt_partition *p = lt_partitioner_pick(m->send->where, m->send->topic, plan, m->parts);
    if (!p)
        return LEAT_ERANGE;
    struct many_part *part = &m->part[p->number];
    if (part->last)
        part->last->next = plan;
    else
        part->batch.first = plan;
    part->last = plan;
    part->batch.bytes += lt_align8(plan->total);
    part->batch.count++;
    if (part->batch.bytes <= LT_BATCH_MAX)
        return 0;
    return lt_fail(LEAT_ETOOBIG, "topic %s partition %d: a batch of over %d bytes", p->topic->name,
                   p->number, LT_BATCH_MAX);
}

static int many_plan(struct many *m) {
    const struct lt_send *s = m->send;
    int rc = 0;
    for (size_t i = 0; i < m->n && rc == 0; i++)
        rc = lt_plan_make(&s->record[i], s->extra, s->extra_count, &m->plan[i]);
    // All are sound: none takes a turn in vain, and a partition function sees no wrong one.
    for (size_t i = 0; i < m->n && rc == 0; i++)
        rc = many_take(m, &m->plan[i]);
    return rc;
}

// ---- sending them

// Appends the batches until one fails. Those before it are stored.
static int many_append(struct many *m) {
    const leat_topic *t = m->send->topic;
    int rc = 0;
    for (int32_t i = 0; i < m->parts && rc == 0; i++) {
        struct many_part *part = &m->part[i];
        if (part->batch.count == 0)
            continue;
        rc = lt_send_clear(m->send, part->p);
        if (rc == 0)
            rc = lt_fault(t->mq, LEAT_OP_APPEND, t->name, part->p->number, true);
        part->batch.durable = m->send->acks == LEAT_ACKS_DISK;
        if (rc == 0)
            rc = lt_partition_append(part->p, &part->batch, &part->first);
    }
    return rc;
}

// Syncs what was appended, also when another batch was not: what has an offset is as safe as asked.
static int many_sync(struct many *m) {
    int first = 0;
    for (int32_t i = 0; i < m->parts; i++) {
        const struct many_part *part = &m->part[i];
        if (part->first.offset < 0)
            continue;
        int rc = lt_partition_sync(part->p, part->first.offset + part->batch.count);
        if (rc != 0 && rc != LEAT_EGONE)
            rc = LEAT_EIO; // whatever the reason: the records are in the log, so "unknown"
        first = first ? first : rc;
    }
    return first;
}

static void many_tell(const struct many *m, leat_metadata *md) {
    for (int32_t i = 0; i < m->parts; i++) {
        leat_metadata where = m->part[i].first;
        if (where.offset < 0)
            continue;
        int64_t wall_ms = where.timestamp_ms;
        for (const struct lt_plan *plan = m->part[i].batch.first; plan; plan = plan->next) {
            where.timestamp_ms = lt_plan_timestamp(plan, wall_ms);
            md[plan - m->plan] = where;
            where.offset++;
        }
    }
}

static int many_send(struct many *m, leat_metadata *md) {
    int rc = many_plan(m);
    if (rc == 0)
        rc = many_append(m);
    else
        return rc;
    int synced = m->send->acks == LEAT_ACKS_DISK ? many_sync(m) : 0;
    if (md && m->send->acks != LEAT_ACKS_NONE)
        many_tell(m, md);
    return synced != 0 ? synced : rc;
}

int lt_send_many(const struct lt_send *s, size_t n, leat_metadata *md) {
    leat_topic *t = s->topic;
    struct lt_mem *mem = &t->mq->mem;
    struct many m = { .send = s, .n = n, .parts = t->partitions };
    for (size_t i = 0; md && i < n; i++)
        md[i] = (leat_metadata){ .topic = t->name, .offset = -1, .partition = -1 };
    int rc = lt_topic_alive(t);
    if (rc == 0)
        rc = lt_check_writable(t->mq, "topic", t->name);
    if (rc != 0 || n == 0)
        return rc;
    if (n / (size_t)m.parts > LT_BATCH_MAX / LT_RECORD_MIN)
        return lt_fail(LEAT_ETOOBIG, "topic %s: batches of over %d bytes", t->name, LT_BATCH_MAX);
    m.plan = lt_alloc(mem, n * sizeof *m.plan);
    m.part = lt_zalloc(mem, (size_t)m.parts * sizeof *m.part);
    if (m.plan && m.part) {
        for (int32_t i = 0; i < m.parts; i++) {
            m.part[i].p = lt_topic_part(t, i);
            m.part[i].first.offset = -1;
        }
        rc = many_send(&m, md);
    } else {
        rc = lt_fail_nomem();
    }
    lt_free(mem, m.part);
    lt_free(mem, m.plan);
    return rc;
}
