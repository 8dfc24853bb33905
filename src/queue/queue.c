/* SPDX-License-Identifier: MIT */
// queue: open and close, send.
#include "queue/room.h"

#include <string.h>

// Segments of a queue's own topic in memory: what is done goes by whole segments, and is used again
// while it is in a cache.
enum { QUEUE_VISIBILITY_MS = 30000, QUEUE_SEGMENT_BYTES = 1 << 20 };

// ---- small things that the other files share

uint64_t lt_queue_leased(const leat_queue *q) {
    return q->leases.count[LT_LEASE_LEASED] - q->lapsed.count;
}

void lt_queue_plan(leat_queue *q) {
    int64_t due;
    (void)lt_leases_next_due(&q->leases, &due);
    for (int32_t i = 0; q->set.delay_ms > 0 && i < q->count; i++)
        due = lt_queue_part(q, i)->tail_due < due ? lt_queue_part(q, i)->tail_due : due;
    due = q->age_due < due ? q->age_due : due;
    due = q->release_at < due ? q->release_at : due;
    if (due == q->planned)
        return;
    // On the system clock a timer that fires early is harmless, and cheaper than moving it at every
    // receive and ack. Other clocks are exact: they move time to what is planned.
    if (q->mq->clock.mode == LEAT_CLOCK_SYSTEM && due > q->planned)
        return;
    q->planned = due;
    lt_due_set(q->mq, &q->due, due);
    if (atomic_load(&q->news)) // which planned it for now, before or after us
        lt_due_set(q->mq, &q->due, 0);
}

void lt_queue_drop_lease(leat_queue *q, struct lt_lease *lease) {
    if (lease->state == LT_LEASE_LEASED)
        (void)lt_lapsed_remove(&q->lapsed, lease);
    if (lt_map_count(&q->reasons) > 0)
        lt_reason_drop(q, lease);
    if (lease->who > 0)
        lt_who_drop(q, lease);
    lt_leases_remove(&q->leases, lease);
}

void lt_queue_trace(leat_queue *q, const char *event, uint32_t partition, int64_t offset, int rc) {
    leat_metadata md = { .topic = q->topic->name,
                         .partition = (int32_t)partition,
                         .offset = offset };
    lt_trace(q->mq, event, q->name, &md, rc);
}

int lt_queue_catch_up(leat_queue *q) {
    leat_topic *t = q->topic;
    int32_t partitions = atomic_load_explicit(&t->partitions, memory_order_acquire);
    if (q->count == partitions)
        return 0;
    if (lt_stretch_reserve(&q->parts, (uint64_t)partitions) != 0)
        return lt_fail_nomem();
    for (; q->count < partitions; q->count++) { // a queue sees what was sent before, too
        struct lt_queue_part *part = lt_queue_part(q, q->count);
        part->p = lt_topic_part(t, q->count);
        if (lt_ledger_init(&part->ledger, part->p, q->id) != 0)
            return LEAT_ENOMEM;
        lt_window_init(&part->window, &q->mq->mem, atomic_load(&part->p->begin));
        lt_backlog_init(&part->backlog, &part->window, &q->mq->mem);
        part->tail_due = LT_NEVER;
        lt_cursor_init(&part->cursor, part->p, 0);
        lt_partition_keep(part->p, &part->keeper, part->window.head);
    }
    return 0;
}

// ---- making and freeing

static void queue_hear(struct lt_ear *ear) {
    lt_retention_hear(LT_CONTAINER(ear, leat_queue, ear));
    lt_queue_wake(LT_CONTAINER(ear, leat_queue, ear));
}

static bool queue_child_busy(const struct lt_child *child) {
    return atomic_load(&LT_CONTAINER(child, leat_queue, child)->waiting) > 0;
}

// A poll(2) ends with a shutdown, as a receive does.
static void queue_child_shut(struct lt_child *child) {
    lt_beacon_raise(&LT_CONTAINER(child, leat_queue, child)->beacon);
}

static int queue_close_child(struct lt_child *child, int64_t timeout_ms) {
    (void)timeout_ms;
    leat_queue *q = LT_CONTAINER(child, leat_queue, child);
    int rc = 0;
    for (int opens = q->opens; opens > 0 && rc == 0; opens--)
        rc = leat_queue_close(q);
    return rc;
}

static void queue_free(leat_queue *q) {
    leat *mq = q->mq;
    for (int32_t i = 0; i < q->count; i++) {
        if (!lt_forked(mq))
            lt_partition_unkeep(lt_queue_part(q, i)->p, &lt_queue_part(q, i)->keeper);
        lt_cursor_fini(&lt_queue_part(q, i)->cursor);
        lt_ledger_fini(&lt_queue_part(q, i)->ledger);
        lt_backlog_fini(&lt_queue_part(q, i)->backlog);
        lt_retention_fini(q, lt_queue_part(q, i));
        lt_window_fini(&lt_queue_part(q, i)->window);
    }
    lt_reasons_fini(q);
    lt_free(&mq->mem, q->who);
    lt_lapsed_fini(&q->lapsed);
    lt_leases_fini(&q->leases);
    lt_beacon_fini(&q->beacon);
    lt_mutex_fini(&q->line_lock);
    lt_pin_pool_close(mq, q->views);
    lt_stretch_fini(&q->parts);
    lt_free(&mq->mem, q->name);
    lt_free(&mq->mem, q);
}

void lt_queue_end(leat_queue *q) {
    if (!lt_forked(q->mq)) // its lock may be held by a thread that this process does not have
        lt_bell_remove(&q->topic->bell, &q->ear); // which sets the timer
    lt_due_end(q->mq, &q->due);
    lt_list_remove(&q->node);
    queue_free(q);
}

static int queue_init_locks(leat_queue *q) {
    int rc = lt_pin_pool_open(q->mq, &q->views);
    if (rc != 0)
        return rc;
    q->lock = &q->views->lock;
    rc = lt_mutex_init(&q->line_lock, LT_RANK_LINE);
    if (rc != 0)
        goto no_line;
    rc = lt_beacon_init(&q->beacon);
    if (rc != 0)
        goto no_beacon;
    rc = lt_due_init(q->mq, &q->due, lt_queue_fall_due);
    if (rc == 0)
        return 0;
    lt_beacon_fini(&q->beacon);
no_beacon:
    lt_mutex_fini(&q->line_lock);
no_line:
    lt_pin_pool_close(q->mq, q->views);
    return rc;
}

// Makes a queue over a topic, without any state. It is not in the store's list yet.
static leat_queue *queue_new(leat_topic *t, const char *name, uint32_t id) {
    leat *mq = t->mq;
    leat_queue *q = lt_zalloc(&mq->mem, sizeof *q);
    char *copy = lt_strdup_n(&mq->mem, name, strlen(name));
    if (q)
        q->mq = mq;
    if (!q || !copy || queue_init_locks(q) != 0) {
        lt_free(&mq->mem, copy);
        lt_free(&mq->mem, q);
        (void)lt_fail_nomem();
        return NULL;
    }
    q->topic = t;
    q->name = copy;
    q->id = id;
    q->planned = q->age_due = q->release_at = LT_NEVER;
    q->ear.hear = queue_hear;
    lt_list_init(&q->moving);
    lt_list_init(&q->line);
    lt_leases_init(&q->leases, &mq->mem, 0);
    lt_lapsed_init(&q->lapsed, &mq->mem);
    lt_map_init(&q->reasons, &mq->mem, id);
    lt_stretch_init(&q->parts, &mq->mem, sizeof(struct lt_queue_part), 1);
    if (lt_queue_catch_up(q) != 0) {
        lt_due_end(mq, &q->due);
        queue_free(q);
        return NULL;
    }
    q->child = (struct lt_child){ .kind = "queue",
                                  .name = q->name,
                                  .close = queue_close_child,
                                  .busy = queue_child_busy,
                                  .shut = queue_child_shut };
    lt_list_push_back(&mq->queues->all, &q->node);
    lt_bell_add(&t->bell, &q->ear);
    return q;
}

leat_queue *lt_queue_find(leat *mq, const char *name) {
    struct lt_list *all = &mq->queues->all;
    for (struct lt_node *n = lt_list_first(all); n; n = lt_list_next(all, n)) {
        leat_queue *q = LT_CONTAINER(n, leat_queue, node);
        if (strcmp(q->name, name) == 0)
            return q;
    }
    return NULL;
}

static void queue_set(leat_queue *q, const struct lt_queue_settings *set) {
    q->set = *set;
    atomic_store_explicit(&q->acks, set->acks ? set->acks : q->mq->acks, memory_order_relaxed);
}

// ---- what the manifest says

static int queue_read_note(leat *mq, const struct lt_note *note, leat_queue **out) {
    char name[250];
    uint32_t topic_id;
    struct lt_queue_settings set;
    *out = NULL;
    int rc = lt_settings_read(mq, note, name, &topic_id, &set);
    if (rc != 0)
        return rc;
    if (set.going)
        return lt_queue_going(mq, note->id, topic_id);
    leat_topic *t = lt_topic_by_id(mq, topic_id);
    if (!t || lt_queue_find(mq, name))
        return lt_fail(LEAT_ECORRUPT, "%s/manifest: queue %s has no topic, or is there twice",
                       mq->dir, name);
    leat_queue *q = queue_new(t, name, note->id);
    if (!q)
        return LEAT_ENOMEM;
    queue_set(q, &set);
    q->owns_topic = t->owned && strcmp(t->name, name) == 0;
    t->queues++;
    *out = q;
    return 0;
}

// ---- creating and altering. Locks: admin held

static int queue_make(leat *mq, const char *name, const leat_queue_options *o, leat_queue **out);

static int queue_cycle(const char *name, const leat_queue *dead) {
    for (const leat_queue *q = dead; q; q = q->dead)
        if (strcmp(q->name, name) == 0)
            return lt_fail(LEAT_EINVAL, "queue %s would be its own dead-letter queue", name);
    return 0;
}

// Finds or makes the dead-letter queue that the settings name.
static int queue_find_dead(leat *mq, const char *name, const struct lt_queue_settings *set,
                           leat_queue **dead) {
    static const leat_queue_options defaults;
    *dead = NULL;
    if (!set->dead_letter[0])
        return 0;
    if (strcmp(set->dead_letter, name) == 0)
        return lt_fail(LEAT_EINVAL, "queue %s would be its own dead-letter queue", name);
    *dead = lt_queue_find(mq, set->dead_letter);
    // Made with the defaults it has no dead-letter queue itself: this goes one level deep.
    return *dead ? queue_cycle(name, *dead) : queue_make(mq, set->dead_letter, &defaults, dead);
}

static int queue_topic_for(leat *mq, const char *name, const leat_queue_options *o, leat_topic **t,
                           bool *made) {
    leat_topic *same = lt_topic_find(mq, name);
    if (o->topic) {
        *t = lt_topic_find(mq, o->topic);
        if (!*t)
            return lt_fail(LEAT_ENOENT, "queue %s: topic %s does not exist", name, o->topic);
        if (same)
            return lt_fail(LEAT_EEXIST, "queue %s: there is a topic of that name", name);
        if (o->partitions && o->partitions != (*t)->partitions)
            return lt_fail(LEAT_EINVAL, "queue %s: topic %s has %d partitions", name, o->topic,
                           (*t)->partitions);
    } else if (same && !same->owned) {
        return lt_fail(LEAT_EEXIST, "queue %s: there is a plain topic of that name", name);
    } else if (same && o->partitions && o->partitions != same->partitions) {
        return lt_fail(LEAT_EEXIST, "queue %s: its topic was left behind with %d partitions", name,
                       same->partitions);
    } else if (same) {
        *t = same; // left by a process that died between topic and queue
        return lt_topic_set_dedup_window(same, o->dedup_window_ms > 0 ? o->dedup_window_ms : 0);
    } else {
        leat_topic_options to = { .partitions = o->partitions,
                                  .segment_bytes = mq->dir ? 0 : QUEUE_SEGMENT_BYTES,
                                  .dedup_window_ms = o->dedup_window_ms };
        leat_topic_options full;
        int rc = lt_topic_check_options(&to, &full);
        *made = rc == 0;
        return rc != 0 ? rc : lt_topic_create(mq, name, &full, true, t);
    }
    return 0;
}

static int queue_reserve_name(leat_queue *q) {
    struct lt_log *log = q->mq->log;
    if (q->owns_topic)
        return 0;
    lt_lock(&log->table);
    int rc = lt_map_put(&log->queue_names, q->name, strlen(q->name), q);
    lt_unlock(&log->table);
    return rc == 0 ? 0 : lt_fail_nomem();
}

static int queue_make_over(leat_topic *t, const char *name, const leat_queue_options *o,
                           const struct lt_queue_settings *set, leat_queue **out) {
    leat *mq = t->mq;
    if (t->queues >= LT_QUEUES_PER_TOPIC)
        return lt_fail(LEAT_EFULL, "topic %s has %d queues", t->name, LT_QUEUES_PER_TOPIC);
    uint32_t id;
    int rc = lt_manifest_new_id(&mq->log->manifest, &id);
    leat_queue *q = rc == 0 ? queue_new(t, name, id) : NULL;
    if (!q)
        return rc != 0 ? rc : LEAT_ENOMEM;
    queue_set(q, set);
    q->owns_topic = !o->topic;
    rc = queue_reserve_name(q);
    // What its own topic has already is of a queue that is gone.
    if (rc == 0 && (o->start == LEAT_LATEST || q->owns_topic))
        rc = lt_queue_start_at_end(q);
    if (rc == 0)
        rc = lt_settings_write(q, set);
    if (rc != 0) {
        lt_queue_unname(q);
        lt_queue_end(q);
        return rc;
    }
    t->queues++;
    *out = q;
    return 0;
}

static int queue_make(leat *mq, const char *name, const leat_queue_options *o, leat_queue **out) {
    struct lt_queue_settings set = { .visibility_ms = QUEUE_VISIBILITY_MS,
                                     .in_flight_max = LT_IN_FLIGHT };
    lt_settings_apply(o, &set);
    leat_topic *t;
    leat_queue *dead, *q = NULL;
    bool made = false;
    int rc = queue_topic_for(mq, name, o, &t, &made);
    if (rc != 0)
        return rc;
    rc = queue_find_dead(mq, name, &set, &dead);
    if (rc == 0)
        rc = queue_make_over(t, name, o, &set, &q);
    if (rc != 0) {
        if (made)
            (void)lt_topic_destroy(t); // if not, the next open of the queue takes it over
        return rc;
    }
    lt_lock(q->lock);
    q->dead = dead;
    lt_retention_begin(q);
    lt_unlock(q->lock);
    lt_queue_trace(q, "queue", 0, -1, 0);
    *out = q;
    return 0;
}

static int queue_alter(leat_queue *q, const leat_queue_options *o) {
    struct lt_queue_settings set = q->set;
    leat_queue *dead;
    lt_settings_apply(o, &set);
    int rc = queue_find_dead(q->mq, q->name, &set, &dead);
    int64_t dedup_ms = lt_settings_dedup(q, o);
    if (rc == 0)
        rc = lt_settings_write(q, &set);
    if (rc == 0 && dedup_ms != q->topic->dedup_window_ms) {
        rc = lt_topic_set_dedup_window(q->topic, dedup_ms);
        if (rc != 0)
            (void)lt_settings_write(q, &q->set);
    }
    if (rc != 0)
        return rc;
    lt_lock(q->lock);
    queue_set(q, &set);
    q->dead = dead;
    if (q->release_at != LT_NEVER)
        q->release_at = 0; // for a window that was longer
    lt_retention_begin(q);
    lt_unlock(q->lock);
    lt_queue_wake(q); // what was delayed may not be any more
    return 0;
}

static int queue_open_locked(leat *mq, const char *name, const leat_queue_options *o,
                             leat_queue **out) {
    leat_queue *q = lt_queue_find(mq, name);
    bool change = false;
    int rc = 0;
    if (q)
        rc = lt_settings_compare(q, o, &change);
    else if (o->flags & LEAT_MUST_EXIST)
        rc = lt_fail(LEAT_ENOENT, "queue %s does not exist", name);
    else
        rc = queue_make(mq, name, o, &q);
    if (rc == 0 && change)
        rc = queue_alter(q, o);
    if (rc != 0)
        return rc;
    if (q->opens++ == 0)
        lt_child_add(mq, &q->child);
    *out = q;
    return 0;
}

// ---- public

int leat_queue_open(leat *mq, const char *name, const leat_queue_options *o, leat_queue **out) {
    static const leat_queue_options defaults;
    o = o ? o : &defaults;
    if (!out)
        return lt_fail(LEAT_EINVAL, "queue open: out is NULL");
    *out = NULL;
    int rc = lt_enter(mq, LT_CALL);
    if (rc == 0)
        rc = lt_check_name("queue", name);
    if (rc == 0)
        rc = lt_settings_check(name, o);
    if (rc == 0)
        rc = lt_check_writable(mq, "queue", name);
    if (rc == 0)
        rc = lt_begin(mq, LT_CALL);
    if (rc != 0)
        return rc;
    lt_lock(&mq->log->admin);
    rc = queue_open_locked(mq, name, o, out);
    lt_unlock(&mq->log->admin);
    return lt_end(mq, rc);
}

int lt_queue_idle(const leat_queue *q) {
    uint32_t views = lt_pin_pool_out(q->views);
    if (views > 0)
        return lt_fail(LEAT_EBUSY, "queue %s: %u messages are neither settled nor released",
                       q->name, views);
    if (atomic_load(&q->waiting) > 0)
        return lt_fail(LEAT_EBUSY, "queue %s: another thread waits in receive", q->name);
    return 0;
}

static int queue_close_locked(leat_queue *q) {
    if (q->opens > 1) {
        q->opens--;
        return 0;
    }
    int rc = lt_queue_idle(q);
    if (rc != 0)
        return rc;
    q->opens = 0;
    lt_child_remove(q->mq, &q->child);
    return 0;
}

int leat_queue_close(leat_queue *q) {
    int rc = lt_enter(q ? q->mq : NULL, LT_CALL_SHUT);
    if (rc != 0)
        return rc;
    lt_lock(&q->mq->log->admin);
    rc = queue_close_locked(q);
    lt_unlock(&q->mq->log->admin);
    return rc;
}

void lt_queue_hold(leat_queue *q) {
    lt_lock(&q->mq->log->admin);
    if (q->opens++ == 0)
        lt_child_add(q->mq, &q->child);
    lt_unlock(&q->mq->log->admin);
}

void lt_queue_let_go(leat_queue *q) {
    lt_lock(&q->mq->log->admin);
    if (--q->opens == 0)
        lt_child_remove(q->mq, &q->child);
    lt_unlock(&q->mq->log->admin);
}

leat_topic *leat_queue_topic(leat_queue *q) {
    return q ? q->topic : NULL;
}

int leat_queue_send(leat_queue *q, const leat_record *r, leat_metadata *md) {
    int rc = lt_enter(q ? q->mq : NULL, LT_CALL_CB);
    if (rc == 0 && !r)
        rc = lt_fail(LEAT_EINVAL, "queue %s: the record is NULL", q->name);
    if (rc == 0)
        rc = lt_begin(q->mq, LT_CALL_CB);
    if (rc != 0)
        return rc;
    int32_t acks = atomic_load_explicit(&q->acks, memory_order_relaxed);
    struct lt_send s = { .topic = q->topic, .record = r, .acks = acks, .where = &q->where };
    leat_metadata own;
    md = md ? md : &own;
    return lt_end(q->mq, lt_send_record(&s, md));
}

// ---- the room

// Finds the dead-letter queues. That they make no cycle was checked when they were set; a manifest
// that says otherwise would send us round and round.
static int queues_restore_dead(leat *mq) {
    struct lt_list *all = &mq->queues->all;
    size_t count = 0;
    for (struct lt_node *n = lt_list_first(all); n; n = lt_list_next(all, n), count++) {
        leat_queue *q = LT_CONTAINER(n, leat_queue, node);
        q->dead = q->set.dead_letter[0] ? lt_queue_find(mq, q->set.dead_letter) : NULL;
    }
    for (struct lt_node *n = lt_list_first(all); n; n = lt_list_next(all, n)) {
        const leat_queue *q = LT_CONTAINER(n, leat_queue, node);
        size_t steps = 0;
        for (const leat_queue *d = q->dead; d && steps <= count; d = d->dead)
            steps++;
        if (steps > count)
            return lt_fail(LEAT_ECORRUPT, "%s/manifest: queue %s leads to a cycle of dead letters",
                           mq->dir, q->name);
    }
    return 0;
}

static int queues_restore(leat *mq) {
    struct lt_map_cursor at = { 0 };
    const struct lt_note *note;
    int rc = 0;
    while (rc == 0 && (note = lt_manifest_next(&mq->log->manifest, &at))) {
        leat_queue *q = NULL;
        if (note->kind != LT_NOTE_QUEUE)
            continue;
        rc = queue_read_note(mq, note, &q);
        if (rc == 0 && q)
            rc = queue_reserve_name(q);
    }
    lt_queues_finish_deletes(mq, rc == 0);
    if (rc == 0)
        rc = queues_restore_dead(mq);
    struct lt_list *all = &mq->queues->all;
    for (struct lt_node *n = lt_list_first(all); n && rc == 0; n = lt_list_next(all, n))
        rc = lt_queue_restore_state(LT_CONTAINER(n, leat_queue, node));
    return rc;
}

static void queues_free(leat *mq) {
    struct lt_queues *qs = mq->queues;
    struct lt_node *n;
    while ((n = lt_list_first(&qs->all)))
        lt_queue_end(LT_CONTAINER(n, leat_queue, node));
    lt_mutex_fini(&qs->lock);
    lt_free(&mq->mem, qs);
    mq->queues = NULL;
}

int lt_queues_open(leat *mq) {
    struct lt_queues *qs = lt_zalloc(&mq->mem, sizeof *qs);
    if (!qs)
        return lt_fail_nomem();
    int rc = lt_mutex_init(&qs->lock, LT_RANK_RECEIPTS);
    if (rc != 0) {
        lt_free(&mq->mem, qs);
        return rc;
    }
    lt_list_init(&qs->all);
    lt_list_init(&qs->going);
    const struct lt_slot_key key = { LT_SLOT_RECEIPTS, 0, 0, 0 };
    qs->slot = lt_slot_find(&mq->log->slots, &key);
    // 1 is what restored leases have; no receipt does.
    qs->next = qs->limit = qs->slot && qs->slot->values[0] > 2 ? (uint64_t)qs->slot->values[0] : 2;
    mq->queues = qs;
    if (!lt_read_only(mq)) // no call of a queue only looks
        rc = queues_restore(mq);
    if (rc != 0)
        queues_free(mq); // what is half restored must not be stored
    return rc;
}

static int queue_make_durable(leat_queue *q) {
    int first = 0;
    for (int32_t i = 0; i < q->count; i++) {
        struct lt_queue_part *part = lt_queue_part(q, i);
        int rc = part->slot ? lt_queue_note(q, part, part->window.tail) : 0;
        first = first ? first : rc;
        rc = lt_ledger_sync(&part->ledger);
        first = first ? first : rc;
    }
    return first;
}

int lt_queues_close(leat *mq) {
    struct lt_list *all = &mq->queues->all;
    int first = 0;
    bool stored = mq->dir && lt_stores(mq);
    for (struct lt_node *n = lt_list_first(all); n && stored; n = lt_list_next(all, n)) {
        int rc = queue_make_durable(LT_CONTAINER(n, leat_queue, node));
        first = first ? first : rc;
    }
    queues_free(mq);
    return first;
}
