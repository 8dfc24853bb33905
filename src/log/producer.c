/* SPDX-License-Identifier: MIT */
#include "leat_test.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "log/log.h"

#include <string.h>

enum { PRODUCER_STICKY_BYTES = 16 * 1024 }; // Kafka's batch.size: then the next partition

struct leat_producer {
    leat *mq;
    struct lt_child child;
    char *name;
    int32_t acks;
    struct lt_sticky sticky;
};

// ---- where a record goes

static uint32_t producer_sticky(leat *mq, struct lt_sticky *sticky, uint32_t partitions,
                                uint32_t bytes) {
    if (!sticky)
        return (uint32_t)(lt_chance_next(mq) % partitions);
    uint64_t word = atomic_load_explicit(&sticky->word, memory_order_relaxed);
    uint32_t choice = (uint32_t)(word >> 32), sent = (uint32_t)word;
    if (sent == 0 || sent >= PRODUCER_STICKY_BYTES) {
        uint32_t next = (uint32_t)lt_chance_next(mq);
        if (sent != 0 && next % partitions == choice % partitions)
            next = next % partitions + 1; // another one than before
        choice = next;
        sent = 0;
    }
    word = (uint64_t)choice << 32 | (sent + bytes);
    atomic_store_explicit(&sticky->word, word, memory_order_relaxed);
    return choice % partitions;
}

static inline struct lt_partition *
producer_partition(const struct lt_send *s, const struct lt_plan *plan, int32_t partitions) {
    leat_topic *t = s->topic;
    const leat_record *r = plan->record;
    if (r->to_partition != 0 && r->to_partition <= partitions)
        return lt_topic_partition(t, (int64_t)r->to_partition - 1);
    if (r->to_partition != 0) {
        (void)lt_fail(LEAT_ERANGE, "topic %s has %d partitions, no number %d", t->name, partitions,
                      r->to_partition - 1);
        return NULL;
    }
    if (partitions == 1)
        return lt_topic_part(t, 0);
    if (r->key.data) {
        uint32_t hash = lt_murmur2(r->key.data, r->key.size) & 0x7fffffff;
        return lt_topic_part(t, hash % (uint32_t)partitions);
    }
    return lt_topic_part(t, producer_sticky(t->mq, s->sticky, (uint32_t)partitions, plan->total));
}

struct lt_partition *lt_send_partition(const struct lt_send *s, const struct lt_plan *plan,
                                       int32_t partitions) {
    return producer_partition(s, plan, partitions);
}

int lt_send_record(const struct lt_send *s, leat_metadata *md) {
    struct lt_plan plan;
    int rc = lt_topic_alive(s->topic);
    if (s->topic->partitions == 1)
        lt_partition_prefetch(lt_topic_part(s->topic, 0));
    if (rc == 0)
        rc = lt_check_writable(s->topic->mq, "topic", s->topic->name);
    if (rc == 0)
        rc = lt_plan_make(s->record, s->extra, s->extra_count, &plan);
    if (rc != 0)
        return rc;
    struct lt_partition *p = producer_partition(s, &plan, s->topic->partitions);
    if (!p)
        return LEAT_ERANGE;
    leat_metadata where;
    rc = lt_fault(p->mq, LEAT_OP_APPEND, s->topic->name, p->number, true);
    if (rc != 0)
        return rc;
    const struct lt_batch batch = { .first = &plan,
                                    .bytes = lt_align8(plan.total),
                                    .count = 1,
                                    .durable = s->acks == LEAT_ACKS_DISK };
    rc = lt_partition_append(p, &batch, &where);
    if (rc == 0 && s->acks == LEAT_ACKS_DISK) {
        rc = lt_partition_sync(p, where.offset + 1);
        if (rc != 0 && rc != LEAT_EGONE)
            rc = LEAT_EIO; // whatever the reason: the record is in the log, so "unknown"
    }
    if (md && where.offset >= 0)
        *md = where; // also when the sync failed: it says where the record may be
    if (md && s->acks == LEAT_ACKS_NONE)
        md->offset = -1;
    return rc;
}

// ---- public

static void producer_free(leat_producer *p) {
    lt_free(&p->mq->mem, p->name);
    lt_free(&p->mq->mem, p);
}

static int producer_close_child(struct lt_child *child) {
    return leat_producer_close(LT_CONTAINER(child, leat_producer, child), 0);
}

static int producer_check(const leat_producer_options *o) {
    int rc = lt_check_reserved("producer options", o->reserved, 8);
    if (rc == 0 && !lt_acks_sound(o->acks))
        rc = lt_fail(LEAT_EINVAL, "producer options: acks is %d", o->acks);
    return rc;
}

int leat_producer_open(leat *mq, const leat_producer_options *o, leat_producer **out) {
    static const leat_producer_options defaults;
    o = o ? o : &defaults;
    if (!out)
        return lt_fail(LEAT_EINVAL, "producer open: out is NULL");
    *out = NULL;
    int rc = lt_enter(mq, LT_CALL);
    if (rc == 0)
        rc = producer_check(o);
    if (rc != 0)
        return rc;
    leat_producer *p = lt_zalloc(&mq->mem, sizeof *p);
    if (!p)
        return lt_fail_nomem();
    p->mq = mq;
    p->acks = o->acks ? o->acks : mq->acks;
    p->name = o->name ? lt_strdup_n(&mq->mem, o->name, strlen(o->name)) : NULL;
    if (o->name && !p->name) {
        producer_free(p);
        return lt_fail_nomem();
    }
    p->child =
        (struct lt_child){ .kind = "producer", .name = p->name, .close = producer_close_child };
    lt_child_add(mq, &p->child);
    *out = p;
    return 0;
}

int leat_producer_close(leat_producer *p, int64_t timeout_ms) {
    int rc = lt_enter(p ? p->mq : NULL, LT_CALL_SHUT);
    if (rc == 0)
        rc = lt_check_timeout(timeout_ms);
    if (rc != 0)
        return rc;
    lt_child_remove(p->mq, &p->child);
    producer_free(p);
    return 0;
}

int leat_send(leat_producer *p, leat_topic *t, const leat_record *r, leat_metadata *md) {
    int rc = lt_begin(p ? p->mq : NULL, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!t || !r)
        return lt_end(p->mq, lt_fail(LEAT_EINVAL, "send: topic or record is NULL"));
    if (t->mq != p->mq)
        return lt_end(p->mq, lt_fail(LEAT_EINVAL, "topic %s belongs to another store", t->name));
    struct lt_send s = { .topic = t, .record = r, .acks = p->acks, .sticky = &p->sticky };
    return lt_end(p->mq, lt_send_record(&s, md));
}

int leat_send_many(leat_producer *p, leat_topic *t, const leat_record *r, size_t n,
                   leat_metadata *md) {
    int rc = lt_begin(p ? p->mq : NULL, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!t || (!r && n > 0))
        return lt_end(p->mq, lt_fail(LEAT_EINVAL, "send many: topic or records are NULL"));
    if (t->mq != p->mq)
        return lt_end(p->mq, lt_fail(LEAT_EINVAL, "topic %s belongs to another store", t->name));
    struct lt_send s = { .topic = t, .record = r, .acks = p->acks, .sticky = &p->sticky };
    return lt_end(p->mq, lt_send_many(&s, n, md));
}
