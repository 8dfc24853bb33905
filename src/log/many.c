/* SPDX-License-Identifier: MIT */
// many: records that are sent together. Each is planned, which is most of the work, and given its
// partition with no lock held; those of one partition make a batch, in the order in which they
// came. Then each batch is appended under one hold of its partition's lock, whole or not at all,
// and last the partitions are synced, once each. Repeats by their dedup id are in no batch.
#include "leat_test.h"
#include "base/bytes.h"
#include "log/dedup.h"
#include "log/producer.h"

struct many {
    const struct lt_send *send;
    size_t n;
    struct lt_plan *plan; // n of them
    struct lt_once *once; // the same; NULL: no record's id matters
    bool begun;           // lt_dedup_end is due
    struct many_part *part;
    int32_t parts;
};

struct many_part { // the batch of one partition
    struct lt_partition *p;
    struct lt_batch batch; // count 0: none
    struct lt_plan *last;
    leat_metadata first; // offset -1: not appended
    bool wanted;         // some record goes to it, repeats counted
    int fault;           // what a planned fault makes of it, or what went before; asked once
};

// ---- making the batches

static int many_take(struct many *m, struct lt_plan *plan, struct lt_partition *p) {
    struct many_part *part = &m->part[p->number];
    if (part->last)
        part->last->next = plan;
    else
        part->batch.first = plan;
    part->last = plan;
    part->batch.bytes += lt_align8(plan->total);
    part->batch.count++;
    part->batch.fields |= plan->fields != 0;
    part->batch.ordered |= plan->ordered;
    if (part->batch.bytes <= LT_BATCH_MAX)
        return 0;
    return lt_fail(LEAT_ETOOBIG, "topic %s partition %d: a batch of over %d bytes", p->topic->name,
                   p->number, LT_BATCH_MAX);
}

static int many_plan_one(struct many *m, size_t i) {
    const struct lt_send *s = m->send;
    const leat_record *r = &s->record[i];
    return lt_plan_make_sent(r, s->extra, s->extra_count, lt_sent_now(s->topic, r), &m->plan[i]);
}

static int many_place(struct many *m, size_t i) {
    const struct lt_send *s = m->send;
    struct lt_plan *plan = &m->plan[i];
    struct lt_partition *p = lt_partitioner_pick(s->where, s->topic, plan, m->parts);
    if (!p)
        return LEAT_ERANGE;
    if (!m->once)
        return many_take(m, plan, p);
    m->part[p->number].wanted = true;
    m->once[i] = (struct lt_once){ .p = p };
    if (plan->stamp != 0)
        m->once[i].id = s->record[i].dedup_id;
    return 0;
}

// Lets go first what is to be before a batch, and asks for a planned fault. Both may take their
// time, so no id is pending meanwhile: who is waited for could wait for that.
static int many_ask(struct many *m, struct many_part *part) {
    const leat_topic *t = m->send->topic;
    int rc = lt_send_clear(m->send, part->p);
    return rc != 0 ? rc : lt_fault(t->mq, LEAT_OP_APPEND, t->name, part->p->number, true);
}

static int many_plan(struct many *m) {
    int rc = 0;
    for (size_t i = 0; i < m->n && rc == 0; i++)
        rc = many_plan_one(m, i);
    // All are sound: none takes a turn in vain, and a partition function sees no wrong one.
    for (size_t i = 0; i < m->n && rc == 0; i++)
        rc = many_place(m, i);
    if (rc != 0 || !m->once)
        return rc;
    for (int32_t i = 0; i < m->parts && rc == 0; i++) // the batches of those before it may go
        if (m->part[i].wanted)
            rc = m->part[i].fault = many_ask(m, &m->part[i]);
    rc = lt_dedup_begin(m->send->topic, m->once, m->n);
    m->begun = rc == 0;
    for (size_t i = 0; i < m->n && rc == 0; i++)
        if (!m->once[i].repeat)
            rc = many_take(m, &m->plan[i], m->once[i].p);
    return rc;
}

// ---- sending them

// Appends the batches until one fails. Those before it are stored.
static int many_append(struct many *m) {
    int rc = 0;
    for (int32_t i = 0; i < m->parts && rc == 0; i++) {
        struct many_part *part = &m->part[i];
        if (part->batch.count == 0 && part->fault == 0)
            continue;
        rc = m->once ? part->fault : many_ask(m, part);
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
    for (size_t i = 0; m->once && i < m->n; i++) { // and what they repeat
        const leat_metadata *where = &m->once[i].where;
        if (!m->once[i].repeat || where->offset < 0)
            continue;
        int rc =
            lt_partition_sync(lt_topic_part(m->send->topic, where->partition), where->offset + 1);
        if (rc != 0 && rc != LEAT_EGONE)
            rc = LEAT_EIO;
        first = first ? first : rc;
    }
    return first;
}

// Says where the records are: to md, or to the ids of the call.
static void many_tell(const struct many *m, leat_metadata *md) {
    for (int32_t i = 0; i < m->parts; i++) {
        leat_metadata where = m->part[i].first;
        if (where.offset < 0)
            continue;
        int64_t wall_ms = where.timestamp_ms;
        for (const struct lt_plan *plan = m->part[i].batch.first; plan; plan = plan->next) {
            where.timestamp_ms = lt_plan_timestamp(plan, wall_ms);
            *(m->once ? &m->once[plan - m->plan].where : &md[plan - m->plan]) = where;
            where.offset++;
        }
    }
}

static int many_send(struct many *m, leat_metadata *md) {
    int rc = many_plan(m), planned = rc;
    if (rc == 0)
        rc = many_append(m);
    if (m->begun) {
        many_tell(m, NULL);
        lt_dedup_end(m->send->topic, m->once, m->n);
    }
    if (planned != 0)
        return rc;
    int synced = m->send->acks == LEAT_ACKS_DISK ? many_sync(m) : 0;
    bool told = md && m->send->acks != LEAT_ACKS_NONE;
    if (told && !m->once)
        many_tell(m, md);
    for (size_t i = 0; told && m->once && i < m->n; i++)
        md[i] = m->once[i].where;
    return synced != 0 ? synced : rc;
}

static bool many_has_ids(const struct lt_send *s, size_t n) {
    bool has = false;
    for (size_t i = 0; s->topic->dedup && i < n && !has; i++)
        has = s->record[i].dedup_id.data != NULL;
    return has;
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
    bool ids = many_has_ids(s, n);
    m.once = ids ? lt_alloc(mem, n * sizeof *m.once) : NULL;
    if (m.plan && m.part && (m.once || !ids)) {
        for (int32_t i = 0; i < m.parts; i++) {
            m.part[i].p = lt_topic_part(t, i);
            m.part[i].first.offset = -1;
        }
        rc = many_send(&m, md);
    } else {
        rc = lt_fail_nomem();
    }
    lt_free(mem, m.once);
    lt_free(mem, m.part);
    lt_free(mem, m.plan);
    return rc;
}
