/* SPDX-License-Identifier: MIT */
#include "log/topic.h"

#include "base/bytes.h"
#include "log/dedup.h"
#include "log/group.h"
#include "log/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- finding

leat_topic *lt_topic_find(leat *mq, const char *name) {
    lt_lock(&mq->log->table);
    leat_topic *t = lt_map_get(&mq->log->topics, name, strlen(name));
    lt_unlock(&mq->log->table);
    return t;
}

leat_topic *lt_topic_by_id(leat *mq, uint32_t id) {
    lt_lock(&mq->log->table);
    leat_topic *t = lt_map_get(&mq->log->topic_ids, &id, sizeof id);
    lt_unlock(&mq->log->table);
    return t;
}

struct lt_partition *lt_topic_partition(leat_topic *t, int64_t n) {
    if (n >= 0 && n < t->partitions)
        return lt_topic_part(t, n);
    (void)lt_fail(LEAT_ERANGE, "topic %s has %d partitions, no number %lld", t->name, t->partitions,
                  (long long)n);
    return NULL;
}

int lt_topic_alive(const leat_topic *t) {
    if (!atomic_load_explicit(&t->gone, memory_order_relaxed))
        return 0;
    return lt_fail(LEAT_EGONE, "topic %s was deleted", t->name);
}

// ---- making and freeing

static void topic_set(leat_topic *t, const leat_topic_options *o) {
    t->segment_bytes = o->segment_bytes;
    t->dedup_window_ms = o->dedup_window_ms;
    t->dedup_window_count = o->dedup_window_count;
    lt_keeps_set(&t->keeps, o);
    t->tells_heads = t->keeps.until_consumed;
    t->goes_by_time = lt_keeps_by_time(&t->keeps) || t->dedup_window_ms != 0;
}

static void topic_free(leat_topic *t) {
    leat *mq = t->mq;
    lt_dedup_free(t->dedup);
    for (int32_t i = 0; i < t->partitions; i++)
        lt_partition_fini(lt_topic_part(t, i));
    lt_bell_fini(&t->bell);
    lt_stretch_fini(&t->others);
    lt_free(&mq->mem, t->announce_on);
    lt_free(&mq->mem, t->name);
    lt_free(&mq->mem, t);
}

int lt_topic_add_parts(leat_topic *t, int32_t partitions) {
    int32_t first = t->partitions, n = first;
    int rc = lt_stretch_reserve(&t->others, (uint64_t)partitions - 1) == 0 ? 0 : lt_fail_nomem();
    for (; rc == 0 && n < partitions; n += rc == 0) {
        *lt_topic_part(t, n) = (struct lt_partition){ .number = n };
        rc = lt_partition_init(lt_topic_part(t, n), t, n);
    }
    if (rc != 0)
        lt_topic_drop_parts(t, n);
    return rc;
}

void lt_topic_drop_parts(leat_topic *t, int32_t partitions) {
    while (partitions > t->partitions)
        lt_partition_fini(lt_topic_part(t, --partitions));
}

static leat_topic *topic_new(leat *mq, const char *name, const leat_topic_options *o) {
    leat_topic *t = lt_zalloc(&mq->mem, sizeof *t);
    if (!t)
        goto no_memory;
    t->mq = mq;
    topic_set(t, o);
    lt_stretch_init(&t->others, &mq->mem, sizeof(struct lt_partition), 1);
    t->name = lt_strdup_n(&mq->mem, name, strlen(name));
    const char *channel = o->announce_on;
    t->announce_on = channel ? lt_strdup_n(&mq->mem, channel, strlen(channel)) : NULL;
    if (!t->name || (channel && !t->announce_on) || lt_bell_init(&t->bell) != 0)
        goto no_memory;
    bool dedup = !lt_read_only(mq) && (o->dedup_window_ms != 0 || o->dedup_window_count != 0);
    t->dedup = dedup ? lt_dedup_new(t) : NULL;
    if ((dedup && !t->dedup) || lt_topic_add_parts(t, o->partitions) != 0) {
        topic_free(t);
        return NULL;
    }
    t->partitions = t->room = o->partitions;
    return t;
no_memory:
    if (t) {
        lt_free(&mq->mem, t->announce_on);
        lt_free(&mq->mem, t->name);
    }
    lt_free(&mq->mem, t);
    (void)lt_fail_nomem();
    return NULL;
}

static void topic_leave_locked(struct lt_log *log, leat_topic *t) {
    (void)lt_map_remove(&log->topics, t->name, strlen(t->name));
    (void)lt_map_remove(&log->topic_ids, &t->id, sizeof t->id);
}

// fresh: it is noted in the manifest before anybody can find it.
static int topic_enter(struct lt_log *log, leat_topic *t, bool fresh) {
    lt_lock(&log->table);
    int rc = lt_map_put(&log->topics, t->name, strlen(t->name), t);
    if (rc != 0)
        goto out;
    rc = lt_map_put(&log->topic_ids, &t->id, sizeof t->id, t);
    if (rc == 0 && fresh)
        rc = lt_topic_note(t, t->partitions, t->dedup_window_ms, &t->keeps);
    if (rc == 0)
        lt_list_push_back(&log->all, &t->node);
    else
        topic_leave_locked(log, t);
out:
    lt_unlock(&log->table);
    return rc == LEAT_ENOMEM ? lt_fail_nomem() : rc;
}

int lt_topic_create(leat *mq, const char *name, const leat_topic_options *o, bool owned,
                    leat_topic **out) {
    struct lt_log *log = mq->log;
    int rc = lt_check_writable(mq, "topic", name);
    if (rc != 0)
        return rc;
    lt_lock(&log->table);
    size_t topics = lt_map_count(&log->topics);
    lt_unlock(&log->table);
    if (topics >= LT_TOPICS_MAX)
        return lt_fail(LEAT_EFULL, "topic %s: the store has %d topics", name, LT_TOPICS_MAX);
    leat_topic *t = topic_new(mq, name, o);
    if (!t)
        return LEAT_ENOMEM;
    t->owned = owned;
    rc = lt_manifest_new_id(&log->manifest, &t->id);
    if (rc == 0 && t->announce_on && log->announce)
        rc = log->announce(t);
    if (rc == 0)
        rc = lt_groups_expect_topic(mq, t);
    if (rc == 0) {
        rc = topic_enter(log, t, true);
        if (rc != 0)
            lt_groups_forget_topic(mq, t);
    }
    if (rc != 0) {
        if (t->announcer)
            log->unannounce(t);
        topic_free(t);
        return rc;
    }
    lt_groups_share_topic(mq, t);
    leat_metadata md = { .topic = t->name, .offset = -1, .partition = -1 };
    lt_trace(mq, "topic", NULL, &md, 0);
    *out = t;
    return 0;
}

// Makes a topic of its note at open.
static int topic_restore(leat *mq, const struct lt_note *note) {
    char name[250] = "";
    leat_topic_options full;
    int rc = lt_topic_read_note(mq, note, name, &full);
    if (rc != 0)
        return rc;
    leat_topic *t = topic_new(mq, name, &full);
    if (!t)
        return LEAT_ENOMEM;
    t->id = note->id;
    t->owned = lt_topic_note_owned(note);
    rc = topic_enter(mq->log, t, false);
    if (rc == LEAT_EEXIST)
        rc = lt_fail(LEAT_ECORRUPT, "%s/manifest: two topics are called %s", mq->dir, name);
    if (rc != 0) {
        topic_free(t);
        return rc;
    }
    for (int32_t i = 0; rc == 0 && i < t->partitions; i++)
        rc = lt_partition_recover(lt_topic_part(t, i));
    if (rc == 0 && t->dedup)
        rc = lt_dedup_load(t);
    if (rc == 0)
        lt_log_cool(mq, true);
    return rc; // lt_topics_free frees it
}

void lt_topics_free(leat *mq) {
    struct lt_node *n;
    while ((n = lt_list_first(&mq->log->all))) {
        lt_list_remove(n);
        topic_free(LT_CONTAINER(n, leat_topic, node));
    }
}

// ---- the log as a whole

static int log_by_id(const void *a, const void *b) {
    const struct lt_note *x = *(const struct lt_note *const *)a;
    const struct lt_note *y = *(const struct lt_note *const *)b;
    return (x->id > y->id) - (x->id < y->id);
}

// Restores what there is of a kind in the order of its making, in which ids are given out; the
// manifest's table has none.
static int log_restore(leat *mq, uint32_t kind, int (*restore)(leat *, const struct lt_note *)) {
    const struct lt_note *note, **all;
    size_t n = 0, i = 0;
    for (struct lt_map_cursor at = { 0 }; (note = lt_manifest_next(&mq->log->manifest, &at));)
        n += note->kind == kind;
    all = lt_alloc(&mq->mem, n * sizeof *all);
    if (!all)
        return lt_fail_nomem();
    for (struct lt_map_cursor at = { 0 }; (note = lt_manifest_next(&mq->log->manifest, &at));)
        if (note->kind == kind)
            all[i++] = note;
    if (n > 1)
        qsort(all, n, sizeof *all, log_by_id);
    int rc = 0;
    for (i = 0; i < n && rc == 0; i++)
        rc = restore(mq, all[i]);
    lt_free(&mq->mem, all);
    return rc;
}

const char *lt_keep_name(leat *mq, const char *name) {
    struct lt_log *log = mq->log;
    size_t n = strlen(name);
    lt_lock(&log->table);
    char *kept = lt_map_get(&log->names, name, n);
    if (!kept) {
        kept = lt_strdup_n(&mq->mem, name, n);
        if (kept && lt_map_put(&log->names, name, n, kept) != 0) {
            lt_free(&mq->mem, kept);
            kept = NULL;
        }
    }
    lt_unlock(&log->table);
    return kept;
}

static void log_free_names(leat *mq) {
    struct lt_map_cursor at = { 0 };
    void *name;
    while (lt_map_next(&mq->log->names, &at, NULL, NULL, &name))
        lt_free(&mq->mem, name);
    lt_map_fini(&mq->log->names);
}

static void log_free(leat *mq) {
    struct lt_log *log = mq->log;
    lt_log_sync_fini(mq);
    lt_groups_free(mq);
    lt_topics_free(mq);
    lt_slots_close(&log->slots);
    lt_manifest_close(&log->manifest);
    lt_map_fini(&log->topics);
    lt_map_fini(&log->queue_names);
    lt_map_fini(&log->groups);
    lt_map_fini(&log->topic_ids);
    lt_map_fini(&log->group_ids);
    log_free_names(mq);
    lt_mutex_fini(&log->producers_lock);
    lt_mutex_fini(&log->future_lock);
    lt_spares_fini(mq);
    lt_mutex_fini(&log->table);
    lt_mutex_fini(&log->admin);
    lt_free(&mq->mem, log);
    mq->log = NULL;
}

int lt_log_open(leat *mq, bool create) {
    struct lt_log *log = lt_zalloc(&mq->mem, sizeof *log);
    if (!log)
        return lt_fail_nomem();
    int rc = lt_mutex_init(&log->admin, LT_RANK_ADMIN);
    if (rc != 0)
        goto no_admin;
    rc = lt_mutex_init(&log->table, LT_RANK_TABLE);
    if (rc != 0)
        goto no_table;
    rc = lt_spares_init(&log->spares);
    if (rc != 0)
        goto no_spares;
    rc = lt_mutex_init(&log->future_lock, LT_RANK_FUTURE);
    if (rc != 0)
        goto no_futures;
    rc = lt_mutex_init(&log->producers_lock, LT_RANK_PRODUCERS);
    if (rc != 0)
        goto no_producers;
    lt_list_init(&log->futures);
    lt_list_init(&log->producers);
    uint64_t seed = lt_chance_next(mq);
    lt_map_init(&log->topics, &mq->mem, seed);
    lt_map_init(&log->queue_names, &mq->mem, seed);
    lt_map_init(&log->groups, &mq->mem, seed);
    lt_map_init(&log->topic_ids, &mq->mem, seed);
    lt_map_init(&log->group_ids, &mq->mem, seed);
    lt_map_init(&log->names, &mq->mem, seed);
    lt_list_init(&log->all);
    atomic_flag_clear(&log->cooling);
    mq->log = log;
    lt_log_limits(mq);
    rc = lt_log_sync_init(mq);
    if (rc != 0)
        goto no_sync;
    // Beside an owner the slots come first: what they say was synced must be found behind them.
    if (lt_read_only(mq))
        rc = lt_slots_open(&log->slots, mq);
    if (rc == 0)
        rc = lt_manifest_open(&log->manifest, mq, create);
    if (rc == 0 && !lt_read_only(mq))
        rc = lt_slots_open(&log->slots, mq);
    if (rc == 0)
        rc = lt_manifest_settle(&log->manifest);
    if (rc == 0)
        rc = log_restore(mq, LT_NOTE_TOPIC, topic_restore);
    if (rc == 0)
        rc = log_restore(mq, LT_NOTE_GROUP, lt_group_restore);
    if (rc == 0)
        rc = lt_groups_attach(mq);
    if (rc != 0)
        log_free(mq);
    return rc;
no_sync:
    mq->log = NULL;
    lt_mutex_fini(&log->producers_lock);
no_producers:
    lt_mutex_fini(&log->future_lock);
no_futures:
    lt_mutex_fini(&log->spares.lock);
no_spares:
    lt_mutex_fini(&log->table);
no_table:
    lt_mutex_fini(&log->admin);
no_admin:
    lt_free(&mq->mem, log);
    return rc;
}

// The topic behind t in `all`, which only grows; NULL: the first one.
leat_topic *lt_topic_next(struct lt_log *log, leat_topic *t) {
    lt_lock(&log->table);
    struct lt_node *n = t ? lt_list_next(&log->all, &t->node) : lt_list_first(&log->all);
    lt_unlock(&log->table);
    return n ? LT_CONTAINER(n, leat_topic, node) : NULL;
}

int lt_log_close(leat *mq) {
    int rc = 0;
    if (mq->dir && lt_stores(mq)) {
        rc = lt_log_sync(mq);
        for (leat_topic *t = lt_topic_next(mq->log, NULL); t; t = lt_topic_next(mq->log, t))
            for (int32_t i = 0; i < t->partitions; i++)
                lt_partition_settle(lt_topic_part(t, i));
    }
    log_free(mq);
    return rc;
}

// ---- public

// Returns  1: it was altered.
static int topic_open_again(leat_topic *t, const leat_topic_options *asked) {
    if (!asked)
        return 0;
    // A queue's own topic is as its queue says.
    bool alter = (asked->flags & LEAT_ALTER) && !t->owned;
    return alter ? lt_topic_alter(t, asked) : lt_topic_same(t, asked);
}

static int topic_open_locked(leat *mq, const char *name, const leat_topic_options *asked,
                             const leat_topic_options *full, leat_topic **out) {
    leat_topic *t = lt_topic_find(mq, name);
    if (t) {
        int rc = topic_open_again(t, asked);
        if (rc >= 0)
            *out = t;
        return rc;
    }
    lt_lock(&mq->log->table);
    bool taken = lt_map_get(&mq->log->queue_names, name, strlen(name)) != NULL;
    lt_unlock(&mq->log->table);
    if (taken)
        return lt_fail(LEAT_EEXIST, "%s is a queue over another topic", name);
    if (full->flags & LEAT_MUST_EXIST)
        return lt_fail(LEAT_ENOENT, "topic %s does not exist", name);
    return lt_topic_create(mq, name, full, false, out);
}

int leat_topic_open(leat *mq, const char *name, const leat_topic_options *o, leat_topic **out) {
    if (!out)
        return lt_fail(LEAT_EINVAL, "topic open: out is NULL");
    *out = NULL;
    leat_topic_options full;
    int rc = lt_enter(mq, LT_CALL);
    if (rc == 0)
        rc = lt_check_name("topic", name);
    if (rc == 0)
        rc = lt_topic_check_options(o, &full);
    if (rc == 0)
        rc = lt_begin(mq, LT_CALL);
    if (rc != 0)
        return rc;
    lt_lock(&mq->log->admin);
    rc = topic_open_locked(mq, name, o, &full, out);
    lt_unlock(&mq->log->admin);
    if (rc > 0)
        lt_topic_altered(*out);
    return lt_end(mq, rc > 0 ? 0 : rc);
}

int lt_topic_destroy(leat_topic *t) {
    leat *mq = t->mq;
    struct lt_log *log = mq->log;
    // The law of release: the note is durable before a file goes.
    int rc = lt_manifest_note(&log->manifest, LT_NOTE_TOPIC, t->id, NULL, 0);
    if (rc != 0)
        return rc;
    // The note stands: the topic is gone for every later open, so it is gone here too, or a record
    // could be acknowledged that nobody will find.
    rc = lt_manifest_sync(&log->manifest);
    for (int32_t i = 0; i < t->partitions; i++) {
        lt_lock(&lt_topic_part(t, i)->lock);
        atomic_store(&t->gone, true);
        lt_unlock(&lt_topic_part(t, i)->lock);
    }
    lt_lock(&log->table);
    topic_leave_locked(log, t);
    lt_unlock(&log->table);
    lt_bell_ring(&t->bell);
    lt_groups_forget_topic(mq, t);
    lt_dedup_clear(t);
    if (rc != 0)
        return rc; // its files stay
    for (int32_t i = 0; i < t->partitions; i++)
        lt_partition_remove(lt_topic_part(t, i));
    if (mq->dir) {
        char path[LT_PATH_MAX];
        (void)snprintf(path, sizeof path, "%u", t->id);
        (void)mq->os->unlink(mq->os, mq->dir_fd, path, true);
    }
    lt_slots_drop_topic(&log->slots, t->id);
    leat_metadata md = { .topic = t->name, .offset = -1, .partition = -1 };
    lt_trace(mq, "topic-delete", NULL, &md, 0);
    return 0;
}

static int topic_delete_locked(leat *mq, const char *name) {
    leat_topic *t = lt_topic_find(mq, name);
    if (!t)
        return lt_fail(LEAT_ENOENT, "topic %s does not exist", name);
    if (t->queues > 0)
        return lt_fail(LEAT_EBUSY, "topic %s: %d queue%s over it", name, t->queues,
                       t->queues == 1 ? " stands" : "s stand");
    return lt_topic_destroy(t);
}

int leat_topic_delete(leat *mq, const char *name) {
    int rc = lt_enter(mq, LT_CALL);
    if (rc == 0)
        rc = lt_check_name("topic", name);
    if (rc == 0)
        rc = lt_check_writable(mq, "topic", name);
    if (rc == 0)
        rc = lt_begin(mq, LT_CALL);
    if (rc != 0)
        return rc;
    lt_lock(&mq->log->admin);
    rc = topic_delete_locked(mq, name);
    lt_unlock(&mq->log->admin);
    return lt_end(mq, rc);
}

void lt_log_count(leat *mq, leat_stats *s) {
    struct lt_log *log = mq->log;
    for (leat_topic *t = lt_topic_next(log, NULL); t; t = lt_topic_next(log, t)) {
        s->topics += !atomic_load(&t->gone);
        for (int32_t i = 0; i < t->partitions; i++)
            lt_partition_count(lt_topic_part(t, i), s);
    }
    int64_t words = atomic_load_explicit(&mq->words, memory_order_relaxed);
    s->read += atomic_load_explicit(&mq->read_gone, memory_order_relaxed);
    s->fds += (uint64_t)(atomic_load_explicit(&mq->files, memory_order_relaxed) + words) +
              (log->manifest.fd >= 0) + (log->slots.fd >= 0);
    s->maps += (uint64_t)(atomic_load_explicit(&mq->maps, memory_order_relaxed) + words) +
               (log->slots.map != NULL);
    s->cut_records = atomic_load_explicit(&log->cut_records, memory_order_relaxed);
    s->cut_bytes = atomic_load_explicit(&log->cut_bytes, memory_order_relaxed);
    s->damaged_ranges = atomic_load_explicit(&log->damaged_ranges, memory_order_relaxed);
}

// The first lines of every public call about one partition.
static int topic_enter_partition(leat_topic *t, int32_t partition, int where,
                                 struct lt_partition **p) {
    int rc = lt_enter(t ? t->mq : NULL, where);
    if (rc == 0)
        rc = lt_topic_alive(t);
    if (rc != 0)
        return rc;
    *p = lt_topic_partition(t, partition);
    return *p ? 0 : LEAT_ERANGE;
}

int leat_topic_range(leat_topic *t, int32_t partition, leat_range *r) {
    struct lt_partition *p;
    int rc = topic_enter_partition(t, partition, LT_CALL_CB, &p);
    if (rc == 0 && !r)
        rc = lt_fail(LEAT_EINVAL, "topic range: out is NULL");
    if (rc != 0)
        return rc;
    r->durable_end = atomic_load(&p->durable_end);
    r->begin = atomic_load(&p->begin);
    r->end = atomic_load(&p->end);
    return 0;
}

int leat_topic_offset_at(leat_topic *t, int32_t partition, int64_t timestamp_ms, int64_t *offset) {
    struct lt_partition *p;
    int rc = topic_enter_partition(t, partition, LT_CALL_CB, &p);
    if (rc == 0 && !offset)
        rc = lt_fail(LEAT_EINVAL, "offset at: out is NULL");
    return rc != 0 ? rc : lt_partition_offset_at(p, timestamp_ms, offset);
}

int leat_topic_delete_records(leat_topic *t, int32_t partition, int64_t before) {
    struct lt_partition *p;
    int rc = topic_enter_partition(t, partition, LT_CALL, &p);
    if (rc == 0)
        rc = lt_check_writable(t->mq, "topic", t->name);
    if (rc != 0)
        return rc;
    int64_t end = atomic_load(&p->end);
    if (before == LEAT_END)
        before = end;
    if (before < 0 || before > end)
        return lt_fail(LEAT_ERANGE, "topic %s partition %d ends at %lld, before %lld", t->name,
                       partition, (long long)end, (long long)before);
    rc = lt_begin(t->mq, LT_CALL);
    return rc != 0 ? rc : lt_end(t->mq, lt_partition_trim(p, before));
}
