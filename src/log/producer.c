/* SPDX-License-Identifier: MIT */
#include "leat_test.h"
#include "base/bytes.h"
#include "log/dedup.h"
#include "log/producer.h"

#include <stdio.h>
#include <string.h>

// Appends the record, unless it is a repeat; *where: of the first one.
static int producer_append_once(const struct lt_send *s, struct lt_partition *p,
                                const struct lt_batch *batch, leat_metadata *where) {
    struct lt_once once = { .id = s->record->dedup_id, .p = p };
    *where = (leat_metadata){ .offset = -1 };
    int rc = lt_dedup_begin(s->topic, &once, 1);
    if (rc != 0)
        return rc;
    if (once.repeat) {
        *where = once.where;
        return 0;
    }
    rc = lt_partition_append(p, batch, where);
    once.where = *where;
    if (rc != 0) // of a conflict it says where the log ends
        once.where.offset = -1;
    lt_dedup_end(s->topic, &once, 1);
    return rc;
}

int lt_send_record(const struct lt_send *s, leat_metadata *md) {
    struct lt_plan plan;
    int rc = lt_topic_alive(s->topic);
    if (s->topic->partitions == 1)
        lt_partition_prefetch(lt_topic_part(s->topic, 0));
    if (rc == 0)
        rc = lt_check_writable(s->topic->mq, "topic", s->topic->name);
    if (rc != 0)
        return rc;
    struct lt_sent sent = lt_sent_now(s->topic, s->record);
    if (s->sent_ms != 0)
        sent.wall_ms = s->sent_ms;
    rc = lt_plan_make_sent(s->record, s->extra, s->extra_count, sent, &plan);
    if (rc != 0)
        return rc;
    struct lt_partition *p = lt_partitioner_pick(s->where, s->topic, &plan, s->topic->partitions);
    if (!p)
        return LEAT_ERANGE;
    leat_metadata where;
    rc = lt_send_clear(s, p);
    if (rc == 0 && !s->fault_asked)
        rc = lt_fault(p->mq, LEAT_OP_APPEND, s->topic->name, p->number, true);
    if (rc != 0)
        return rc;
    const struct lt_batch batch = { .first = &plan,
                                    .bytes = lt_align8(plan.total),
                                    .count = 1,
                                    .fields = plan.fields != 0,
                                    .ordered = plan.ordered,
                                    .durable = s->acks == LEAT_ACKS_DISK,
                                    .expected_end = s->expected_end };
    rc = plan.stamp != 0 ? producer_append_once(s, p, &batch, &where)
                         : lt_partition_append(p, &batch, &where);
    if (rc == 0 && s->acks == LEAT_ACKS_DISK) {
        rc = lt_partition_sync(lt_topic_part(s->topic, where.partition), where.offset + 1);
        if (rc != 0 && rc != LEAT_EGONE)
            rc = LEAT_EIO; // whatever the reason: the record is in the log, so "unknown"
    }
    if (md && where.offset >= 0)
        *md = where; // also when the sync failed: it says where the record may be
    if (md && s->acks == LEAT_ACKS_NONE && rc != LEAT_ECONFLICT)
        md->offset = -1;
    return rc;
}

// ---- opening

enum {
    PRODUCER_BATCH = 16 * 1024,
    PRODUCER_BUFFER = 32 * 1024 * 1024,
    PRODUCER_REPORTS = 1000000,
    PRODUCER_BLOCK_MS = 60000,
    PRODUCER_DELIVERY_MS = 120000,
    PRODUCER_BACKOFF_MS = 100
};

static int producer_check_time(const char *what, int64_t ms) {
    return ms >= LEAT_ZERO
               ? 0
               : lt_fail(LEAT_EINVAL, "producer options: %s is %lld", what, (long long)ms);
}

static int producer_check_bound(const char *what, int64_t n, int64_t max) {
    return n == LEAT_UNLIMITED || (n >= 0 && n <= max)
               ? 0
               : lt_fail(LEAT_EINVAL, "producer options: %s is %lld", what, (long long)n);
}

static int producer_check(const leat *mq, const leat_producer_options *o) {
    int rc = lt_check_reserved("producer options", o->reserved, 8);
    if (rc == 0 && !lt_acks_sound(o->acks))
        rc = lt_fail(LEAT_EINVAL, "producer options: acks is %d", o->acks);
    if (rc == 0 && (o->callbacks < 0 || o->callbacks > LEAT_CALLBACKS_POLL))
        rc = lt_fail(LEAT_EINVAL, "producer options: callbacks is %d", o->callbacks);
    if (rc == 0 && o->callbacks == LEAT_CALLBACKS_THREAD && !mq->threads)
        rc = lt_fail(LEAT_EINVAL, "producer options: callbacks on a thread, and no threads");
    if (rc == 0)
        rc = producer_check_time("linger_ms", o->linger_ms);
    if (rc == 0)
        rc = producer_check_time("max_block_ms", o->max_block_ms);
    if (rc == 0)
        rc = producer_check_time("delivery_timeout_ms", o->delivery_timeout_ms);
    if (rc == 0 && o->retry_backoff_ms < 0)
        rc = lt_fail(LEAT_EINVAL, "producer options: retry_backoff_ms is %lld",
                     (long long)o->retry_backoff_ms);
    if (rc == 0 && o->batch_bytes < 0)
        rc = lt_fail(LEAT_EINVAL, "producer options: batch_bytes is %lld",
                     (long long)o->batch_bytes);
    if (rc == 0)
        rc = producer_check_bound("batch_bytes", o->batch_bytes, LT_BATCH_MAX);
    if (rc == 0)
        rc = producer_check_bound("buffer_memory_bytes", o->buffer_memory_bytes, INT64_MAX / 2);
    if (rc == 0)
        rc = producer_check_bound("reports_max", o->reports_max, INT64_MAX / 2);
    if (rc == 0 && o->pad_ != 0)
        rc = lt_fail(LEAT_EINVAL, "producer options: pad_ is not zero");
    return rc == 0 ? lt_partitioner_check(o) : rc;
}

// An option's value: the default for 0, 0 for LEAT_ZERO; LEAT_FOREVER stays.
static int64_t producer_time(int64_t ms, int64_t by_default) {
    return ms == 0 ? by_default : ms == LEAT_ZERO ? 0 : ms;
}

static int64_t producer_bound(int64_t n, int64_t by_default) {
    return n == 0 ? by_default : n == LEAT_UNLIMITED ? INT64_MAX / 2 : n;
}

static void producer_set(leat_producer *p, const leat_producer_options *o) {
    p->acks = o->acks ? o->acks : p->mq->acks;
    p->polled = (o->callbacks ? o->callbacks : p->mq->callbacks) == LEAT_CALLBACKS_POLL;
    p->linger_ms = producer_time(o->linger_ms, 0);
    p->max_block_ms = producer_time(o->max_block_ms, PRODUCER_BLOCK_MS);
    p->delivery_timeout_ms = producer_time(o->delivery_timeout_ms, PRODUCER_DELIVERY_MS);
    p->backoff_ms = producer_time(o->retry_backoff_ms, PRODUCER_BACKOFF_MS);
    p->batch_bytes = producer_bound(o->batch_bytes, PRODUCER_BATCH);
    p->buffer_max = producer_bound(o->buffer_memory_bytes, PRODUCER_BUFFER);
    p->reports_max = producer_bound(o->reports_max, PRODUCER_REPORTS);
    lt_partitioner_init(&p->where, o, p->batch_bytes);
}

static void producer_free(leat_producer *p) {
    lt_free(&p->mq->mem, p->name);
    lt_free(&p->mq->mem, p);
}

// Returns  how many records were given up, as many as an int can tell.
static int producer_lost(size_t records) {
    return records < INT32_MAX ? (int)records : INT32_MAX;
}

static int producer_close_child(struct lt_child *child, int64_t timeout_ms) {
    leat_producer *p = LT_CONTAINER(child, leat_producer, child);
    size_t open = lt_direct_discard_all(p);
    int rc = leat_producer_close(p, timeout_ms);
    return rc < 0 ? rc : producer_lost(open + (size_t)rc);
}

static void producer_forget_child(struct lt_child *child) {
    leat_producer *p = LT_CONTAINER(child, leat_producer, child);
    (void)lt_direct_discard_all(p);
    lt_outbox_fini(p);
    producer_free(p);
}

// With LEAT_STRICT: names the reports that were not given, or the batches that are open.
static int producer_child_owes(struct lt_child *child) {
    leat_producer *p = LT_CONTAINER(child, leat_producer, child);
    long long untold = (long long)lt_producer_untold(p);
    return untold == 0 ? lt_direct_check_none(p)
                       : lt_fail(LEAT_EBUSY, "producer %s: %lld reports were not given",
                                 p->name ? p->name : "(unnamed)", untold);
}

static leat_producer *producer_new(leat *mq, const leat_producer_options *o) {
    leat_producer *p = lt_zalloc(&mq->mem, sizeof *p);
    if (!p) {
        (void)lt_fail_nomem();
        return NULL;
    }
    p->mq = mq;
    producer_set(p, o);
    p->name = o->name ? lt_strdup_n(&mq->mem, o->name, strlen(o->name)) : NULL;
    if ((!o->name || p->name) && lt_outbox_init(p) == 0)
        return p;
    producer_free(p);
    (void)lt_fail_nomem();
    return NULL;
}

int leat_producer_open(leat *mq, const leat_producer_options *o, leat_producer **out) {
    static const leat_producer_options defaults;
    o = o ? o : &defaults;
    if (!out)
        return lt_fail(LEAT_EINVAL, "producer open: out is NULL");
    *out = NULL;
    int rc = lt_enter(mq, LT_CALL);
    if (rc == 0)
        rc = producer_check(mq, o);
    if (rc != 0)
        return rc;
    leat_producer *p = producer_new(mq, o);
    if (!p)
        return LEAT_ENOMEM;
    p->child = (struct lt_child){ .kind = "producer",
                                  .name = p->name,
                                  .close = producer_close_child,
                                  .forget = producer_forget_child,
                                  .owes = producer_child_owes };
    lt_child_add(mq, &p->child);
    lt_lock(&mq->log->producers_lock);
    lt_list_push_back(&mq->log->producers, &p->node);
    lt_unlock(&mq->log->producers_lock);
    *out = p;
    return 0;
}

// ---- closing

// Ends what is left and tells all. Returns  how many records were given up.
static size_t producer_end(leat_producer *p, int error) {
    char message[80];
    (void)snprintf(message, sizeof message, "given up when its producer was closed: %s",
                   leat_strerror(error));
    lt_lock(&p->lock);
    uint64_t before = p->stats.not_stored + p->stats.unknown;
    p->closing = true;
    (void)lt_outbox_give_up(p, error, message, false);
    lt_unlock(&p->lock);
    lt_due_end(p->mq, &p->due); // nobody is between append and sync any more
    lt_lock(&p->lock);
    (void)lt_outbox_give_up(p, error, message, true);
    size_t lost = (size_t)(p->stats.not_stored + p->stats.unknown - before);
    lt_unlock(&p->lock);
    lt_errand_end(p->mq, &p->errand);
    while (lt_producer_tell(p->mq, &p->errand) > 0)
        ;
    lt_lock(&p->lock);
    lt_producer_collect(p); // futures may be left that look at them
    lt_unlock(&p->lock);
    return lost;
}

// Flushes until nothing is left or the time is over: what callbacks send meanwhile, too.
static void producer_finish(leat_producer *p, int64_t timeout_ms) {
    int64_t deadline = lt_add_ms(lt_now_ns(p->mq), timeout_ms), now;
    bool more;
    do {
        more = lt_producer_flush(p, timeout_ms) == 0;
        now = lt_now_ns(p->mq);
        if (timeout_ms != LEAT_FOREVER)
            timeout_ms = now < deadline ? (deadline - now + 999999) / 1000000 : 0;
        lt_lock(&p->lock);
        lt_producer_collect(p);
        more = more && !lt_list_empty(&p->live);
        lt_unlock(&p->lock);
    } while (more && now < deadline);
}

int leat_producer_close(leat_producer *p, int64_t timeout_ms) {
    int rc = lt_enter(p ? p->mq : NULL, LT_CALL_SHUT);
    if (rc == 0)
        rc = lt_check_timeout(timeout_ms);
    if (rc == 0)
        rc = lt_direct_check_none(p);
    if (rc != 0)
        return rc;
    leat *mq = p->mq;
    size_t lost = 0;
    if (p->begun) {
        lt_lock(&p->lock);
        uint64_t before = p->stats.not_stored + p->stats.unknown;
        lt_unlock(&p->lock);
        // A crash waits for what this stores, or has begun: then it is given up.
        if (lt_stores(mq) && lt_begin(mq, LT_CALL_SHUT) == 0) {
            producer_finish(p, atomic_load(&mq->shut) ? 0 : timeout_ms);
            (void)lt_end(mq, 0);
        }
        bool shut = atomic_load(&mq->shut);
        lt_lock(&p->lock);
        lost = (size_t)(p->stats.not_stored + p->stats.unknown - before);
        lt_unlock(&p->lock);
        lost += producer_end(p, shut || !lt_stores(mq) ? LEAT_ECLOSED : LEAT_ETIMEDOUT);
    }
    lost += lt_direct_discard_all(p); // that a callback has opened meanwhile
    lt_lock(&mq->log->producers_lock);
    lt_list_remove(&p->node);
    lt_unlock(&mq->log->producers_lock);
    lt_child_remove(mq, &p->child);
    lt_outbox_fini(p);
    producer_free(p);
    return producer_lost(lost);
}

// ---- sending

int lt_producer_enter(leat_producer *p, leat_topic *t, const leat_record *r) {
    int rc = lt_begin(p ? p->mq : NULL, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!t || !r)
        return lt_end(p->mq, lt_fail(LEAT_EINVAL, "send: topic or record is NULL"));
    if (t->mq != p->mq)
        return lt_end(p->mq, lt_fail(LEAT_EINVAL, "topic %s belongs to another store", t->name));
    return 0;
}

int leat_send(leat_producer *p, leat_topic *t, const leat_record *r, leat_metadata *md) {
    int rc = lt_producer_enter(p, t, r);
    if (rc != 0)
        return rc;
    struct lt_send s = {
        .topic = t, .record = r, .acks = p->acks, .where = &p->where, .behind = p
    };
    return lt_end(p->mq, lt_send_record(&s, md));
}

int leat_send_many(leat_producer *p, leat_topic *t, const leat_record *r, size_t n,
                   leat_metadata *md) {
    static const leat_record none;
    int rc = lt_producer_enter(p, t, n > 0 ? r : &none);
    if (rc != 0)
        return rc;
    struct lt_send s = {
        .topic = t, .record = r, .acks = p->acks, .where = &p->where, .behind = p
    };
    return lt_end(p->mq, lt_send_many(&s, n, md));
}

int lt_send_later(leat_producer *p, leat_topic *t, const leat_record *r,
                  const struct lt_entry *entry) {
    struct lt_plan plan;
    int rc = lt_topic_alive(t);
    if (rc == 0)
        rc = lt_check_writable(t->mq, "topic", t->name);
    if (rc == 0)
        rc = lt_plan_make_sent(r, NULL, 0, lt_sent_unstamped(t->mq, r), &plan);
    if (rc != 0)
        return rc;
    struct lt_partition *to = lt_partitioner_pick(&p->where, t, &plan, t->partitions);
    return to ? lt_outbox_add(p, to, &plan, entry) : LEAT_ERANGE;
}

int leat_send_async(leat_producer *p, leat_topic *t, const leat_record *r, leat_delivery_fn fn,
                    void *ctx) {
    int rc = lt_producer_enter(p, t, r);
    if (rc != 0)
        return rc;
    if (fn && p->acks == LEAT_ACKS_NONE)
        rc = lt_fail(LEAT_EINVAL, "with LEAT_ACKS_NONE there is no report");
    if (rc == 0)
        rc = lt_send_later(p, t, r, &(struct lt_entry){ .fn = fn, .ctx = ctx });
    return lt_end(p->mq, rc);
}

int leat_send_if(leat_producer *p, leat_topic *t, int32_t partition, int64_t expected_end,
                 const leat_record *r, leat_metadata *md) {
    int rc = lt_producer_enter(p, t, r);
    if (rc != 0)
        return rc;
    struct lt_send s = { .topic = t, .record = r, .acks = p->acks, .behind = p };
    return lt_end(p->mq, lt_send_if(&s, partition, expected_end, md));
}
