/* SPDX-License-Identifier: MIT */
#include "log/consumer.h"

#include <string.h>

enum { CONSUMER_RECORDS = 500, CONSUMER_RECORDS_MAX = 10000, CONSUMER_BYTES = 50 << 20 };

// ---- entering and leaving a call: one thread at a time

static int consumer_busy(const leat_consumer *c) {
    const char *name = c->name ? c->name : "(unnamed)";
    if (atomic_load(&c->push))
        return lt_fail(LEAT_EBUSY, "workers have consumer %s: stop them first", name);
    return lt_fail(LEAT_EBUSY, "another thread is in a call of consumer %s", name);
}

int lt_consumer_enter(leat_consumer *c) {
    int rc = lt_begin(c ? c->mq : NULL, LT_CALL);
    if (rc != 0)
        return rc;
    if (!atomic_exchange_explicit(&c->busy, true, memory_order_acquire))
        return 0;
    return lt_end(c->mq, consumer_busy(c));
}

int lt_consumer_enter_event(leat_consumer *c) {
    if (!c || !lt_consumer_tells(c))
        return lt_consumer_enter(c);
    return atomic_load(&c->push) ? consumer_busy(c) : lt_enter(c->mq, LT_CALL_CB);
}

int lt_consumer_leave(leat_consumer *c, int rc) {
    if (lt_consumer_tells(c))
        return rc; // the poll that the callback belongs to goes on
    leat *counted = lt_counts(c->mq) ? c->mq : NULL;
    atomic_store_explicit(&c->busy, false, memory_order_release); // now another may close all
    return counted ? lt_end_counted(counted, rc) : rc;
}

// ---- the partitions of a consumer

struct lt_consumer_part *lt_consumer_find(leat_consumer *c, const leat_topic *t,
                                          int32_t partition) {
    for (size_t i = 0; i < c->part_count; i++)
        if (c->part[i].cursor.p->topic == t && c->part[i].cursor.p->number == partition)
            return &c->part[i];
    return NULL;
}

int lt_consumer_add_part(leat_consumer *c, struct lt_partition *p, int64_t offset) {
    if (c->part_count == c->part_room) {
        size_t room = c->part_room ? 2 * c->part_room : 4;
        struct lt_consumer_part *grown = lt_resize(&c->mq->mem, c->part, room * sizeof *grown);
        if (!grown)
            return lt_fail_nomem();
        c->part = grown;
        c->part_room = room;
    }
    if (c->part_count >= c->at_room) {
        struct lt_commit_at *grown = lt_resize(&c->mq->mem, c->at, c->part_room * sizeof *grown);
        if (!grown)
            return lt_fail_nomem();
        c->at = grown;
        c->at_room = c->part_room;
    }
    struct lt_consumer_part *part = &c->part[c->part_count++];
    *part = (struct lt_consumer_part){ .end_told = -1 };
    lt_cursor_init(&part->cursor, p, offset);
    return 0;
}

void lt_consumer_drop_part(leat_consumer *c, struct lt_consumer_part *part) {
    if (part->token)
        (void)lt_pin_end(c->mq, part->token, LT_PIN_POLL);
    lt_cursor_fini(&part->cursor);
    size_t i = (size_t)(part - c->part);
    memmove(part, part + 1, (c->part_count - i - 1) * sizeof *part);
    c->part_count--;
}

// ---- news: one ear per topic

static void consumer_hear(struct lt_ear *ear) {
    lt_consumer_notify(LT_CONTAINER(ear, struct lt_consumer_ear, ear)->c);
}

int lt_consumer_listen(leat_consumer *c, leat_topic *t) {
    for (struct lt_node *n = lt_list_first(&c->ears); n; n = lt_list_next(&c->ears, n))
        if (LT_CONTAINER(n, struct lt_consumer_ear, node)->topic == t)
            return 0;
    struct lt_consumer_ear *e = lt_zalloc(&c->mq->mem, sizeof *e);
    if (!e)
        return lt_fail_nomem();
    e->ear.hear = consumer_hear;
    e->c = c;
    e->topic = t;
    lt_list_push_back(&c->ears, &e->node);
    lt_bell_add(&t->bell, &e->ear);
    return 0;
}

void lt_consumer_deafen(leat_consumer *c, struct lt_consumer_ear *e) {
    lt_bell_remove(&e->topic->bell, &e->ear);
    lt_list_remove(&e->node);
    lt_free(&c->mq->mem, e);
}

// ---- open and close

static int consumer_close_child(struct lt_child *child, int64_t timeout_ms) {
    (void)timeout_ms;
    return leat_consumer_close(LT_CONTAINER(child, leat_consumer, child));
}

static bool consumer_child_busy(const struct lt_child *child) {
    const leat_consumer *c = LT_CONTAINER(child, leat_consumer, child);
    return atomic_load(&c->busy) && !atomic_load(&c->push); // workers are closed first
}

static void consumer_child_count(const struct lt_child *child, leat_stats *s) {
    s->read += atomic_load_explicit(&LT_CONTAINER(child, leat_consumer, child)->read,
                                    memory_order_relaxed);
}

void lt_consumer_drop_all(leat_consumer *c) {
    lt_consumer_end_views(c);
    while (c->part_count > 0)
        lt_consumer_drop_part(c, &c->part[c->part_count - 1]);
    struct lt_node *n;
    while ((n = lt_list_first(&c->ears)))
        lt_consumer_deafen(c, LT_CONTAINER(n, struct lt_consumer_ear, node));
    c->lost = NULL;
}

static void consumer_free(leat_consumer *c) {
    struct lt_mem *mem = &c->mq->mem;
    lt_member_fini(mem, &c->member);
    lt_free(mem, c->old_tokens);
    lt_free(mem, c->messages);
    lt_free(mem, c->event);
    lt_free(mem, c->part);
    lt_free(mem, c->at);
    lt_free(mem, c);
}

static int consumer_check_number(const char *what, int64_t n, bool zero) {
    if (n >= 0 || (zero && n == LEAT_ZERO))
        return 0;
    return lt_fail(LEAT_EINVAL, "consumer options: %s is %lld", what, (long long)n);
}

static int consumer_check_fetch(const leat_consumer_options *o) {
    int rc = consumer_check_number("fetch_min_bytes", o->fetch_min_bytes, false);
    if (rc == 0)
        rc = consumer_check_number("fetch_max_bytes", o->fetch_max_bytes, false);
    if (rc == 0)
        rc = consumer_check_number("fetch_max_wait_ms", o->fetch_max_wait_ms, true);
    if (rc == 0)
        rc = consumer_check_number("max_poll_interval_ms", o->max_poll_interval_ms, false);
    if (rc == 0)
        rc = consumer_check_number("auto_commit_ms", o->auto_commit_ms, false);
    if (rc == 0 && (o->report_end < 0 || o->report_end > 1))
        rc = lt_fail(LEAT_EINVAL, "consumer options: report_end is %d", o->report_end);
    return rc;
}

// In a fork. What it reads stays referenced: that takes locks.
static void consumer_child_forget(struct lt_child *child) {
    leat_consumer *c = LT_CONTAINER(child, leat_consumer, child);
    struct lt_node *n;
    while ((n = lt_list_first(&c->ears))) {
        lt_list_remove(n);
        lt_free(&c->mq->mem, LT_CONTAINER(n, struct lt_consumer_ear, node));
    }
    lt_beacon_fini(&c->beacon);
    consumer_free(c);
}

// A poll(2) ends with a shutdown, as leat_poll does.
static void consumer_child_shut(struct lt_child *child) {
    lt_beacon_raise(&LT_CONTAINER(child, leat_consumer, child)->beacon);
}

static int consumer_check(const leat_consumer_options *o) {
    int rc = lt_check_reserved("consumer options", o->reserved, 8);
    if (rc == 0)
        rc = consumer_check_fetch(o);
    if (rc == 0 && (o->start < 0 || o->start > LEAT_NONE))
        rc = lt_fail(LEAT_EINVAL, "consumer options: start is %d", o->start);
    if (rc == 0 && (o->isolation < 0 || o->isolation > LEAT_READ_DURABLE))
        rc = lt_fail(LEAT_EINVAL, "consumer options: isolation is %d", o->isolation);
    if (rc == 0 && (o->assignor < 0 || o->assignor > LEAT_ASSIGN_STICKY))
        rc = lt_fail(LEAT_EINVAL, "consumer options: assignor is %d", o->assignor);
    if (rc == 0 && (o->pad_ != 0 || o->pad2_ != 0))
        rc = lt_fail(LEAT_EINVAL, "consumer options: pad_ or pad2_ is not zero");
    if (rc == 0 && o->commit_acks != LEAT_ACKS_DEFAULT && o->commit_acks != LEAT_ACKS_LOG &&
        o->commit_acks != LEAT_ACKS_DISK)
        rc = lt_fail(LEAT_EINVAL, "consumer options: commit_acks is %d", o->commit_acks);
    if (rc == 0 && (o->max_poll_records < 0 || o->max_poll_records > CONSUMER_RECORDS_MAX))
        rc = lt_fail(LEAT_EINVAL, "consumer options: max_poll_records is %d; 1 to %d",
                     o->max_poll_records, CONSUMER_RECORDS_MAX);
    return rc;
}

static leat_consumer *consumer_new(leat *mq, const leat_consumer_options *o) {
    leat_consumer *c = lt_zalloc(&mq->mem, sizeof *c);
    if (!c) {
        (void)lt_fail_nomem();
        return NULL;
    }
    c->mq = mq;
    c->durable = o->isolation == LEAT_READ_DURABLE;
    c->commit_disk = o->commit_acks == LEAT_ACKS_DISK;
    c->start = o->start ? o->start : LEAT_EARLIEST;
    c->records_max = o->max_poll_records ? (size_t)o->max_poll_records : CONSUMER_RECORDS;
    c->bytes_min = o->fetch_min_bytes;
    c->bytes_max = o->fetch_max_bytes ? o->fetch_max_bytes : CONSUMER_BYTES;
    c->wait_ms = o->fetch_max_wait_ms;
    c->report_end = o->report_end != 0;
    c->interval_ms = o->max_poll_interval_ms;
    c->auto_ms = o->auto_commit_ms;
    c->auto_ns = c->auto_ms ? lt_add_ms(lt_now_ns(mq), c->auto_ms) : LT_NEVER;
    c->on_event = o->on_event;
    c->event_ctx = o->ctx;
    c->patience = LT_CONSUMER_PATIENCE;
    c->name = o->name ? lt_keep_name(mq, o->name) : NULL; // lags give it out
    c->member.name = c->name;
    c->member.assignor = o->assignor;
    c->member.waiter = &c->waiter;
    c->member.beacon = &c->beacon;
    lt_node_init(&c->member.node);
    lt_list_init(&c->ears);
    if ((!o->name || c->name) && lt_beacon_init(&c->beacon) == 0) {
        if (lt_waiter_init(mq, &c->waiter) == 0) {
            if (lt_consumer_expiry_init(c) == 0)
                return c;
            lt_waiter_fini(mq, &c->waiter);
        }
        lt_beacon_fini(&c->beacon);
    }
    consumer_free(c);
    (void)lt_fail_nomem();
    return NULL;
}

static void consumer_end(leat_consumer *c) {
    if (c->interval_ms)
        lt_due_end(c->mq, &c->expiry);
    if (c->group)
        lt_group_close(c->group, &c->member); // which may be deleted from here on
    lt_waiter_fini(c->mq, &c->waiter);
    lt_beacon_fini(&c->beacon);
    consumer_free(c);
}

int leat_consumer_open(leat *mq, const char *group, const leat_consumer_options *o,
                       leat_consumer **out) {
    static const leat_consumer_options defaults;
    o = o ? o : &defaults;
    if (!out)
        return lt_fail(LEAT_EINVAL, "consumer open: out is NULL");
    *out = NULL;
    int rc = lt_enter(mq, LT_CALL);
    if (rc == 0)
        rc = consumer_check(o);
    if (rc == 0 && group)
        rc = lt_check_name("group", group);
    if (rc != 0)
        return rc;
    leat_consumer *c = consumer_new(mq, o);
    rc = c ? lt_begin(mq, LT_CALL) : LEAT_ENOMEM;
    if (c && rc == 0)
        rc = lt_end(mq, group ? lt_group_open(mq, group, &c->member, &c->group) : 0);
    if (rc != 0 && c)
        consumer_end(c);
    if (rc != 0)
        return rc;
    c->child = (struct lt_child){ .kind = "consumer",
                                  .name = c->name ? c->name : group,
                                  .close = consumer_close_child,
                                  .busy = consumer_child_busy,
                                  .forget = consumer_child_forget,
                                  .shut = consumer_child_shut,
                                  .count = consumer_child_count };
    if (c->group)
        c->child.name = c->name ? c->name : c->group->name;
    lt_child_add(mq, &c->child);
    *out = c;
    return 0;
}

// What its owner is told before it goes, and what is still to be stored.
static void consumer_take_leave(leat_consumer *c) {
    lt_consumer_expire(c, false);
    lt_commit_automatic(c, true, false);
    lt_consumer_revoke_all(c);
    lt_commits_finish(c);
    lt_commits_tell(c);
}

int leat_consumer_close(leat_consumer *c) {
    int rc = lt_enter(c ? c->mq : NULL, LT_CALL_SHUT);
    if (rc != 0)
        return rc;
    if (atomic_exchange_explicit(&c->busy, true, memory_order_acquire))
        return consumer_busy(c);
    consumer_take_leave(c);
    lt_commits_free(c);
    lt_consumer_drop_all(c);
    if (c->group)
        lt_group_leave(c->group, &c->member);
    lt_child_remove(c->mq, &c->child);
    atomic_fetch_add_explicit(&c->mq->read_gone, c->read, memory_order_relaxed);
    consumer_end(c);
    return 0;
}
