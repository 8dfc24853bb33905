/* SPDX-License-Identifier: MIT */
// dump: topics, groups and producers as text. What others change is looked at under its lock, a
// topic, a group or a producer at a time; nothing is handed out here.
#include "log/group.h"
#include "log/producer.h"

#include <stdlib.h>
#include <string.h>

static const char *dump_name(const char *name) {
    return name ? name : "(unnamed)";
}

// ---- topics

// What it keeps may be altered meanwhile: the first partition's copy is a whole one.
static void dump_keeps(leat_topic *t, struct lt_text *text) {
    lt_lock(&t->first.lock);
    const struct lt_keeps k = t->first.keeps;
    lt_unlock(&t->first.lock);
    if (k.segment_ms != LT_SEGMENT_MS_MAX)
        lt_text_add(text, ", segment_ms %lld", (long long)k.segment_ms);
    if (k.bytes != LEAT_UNLIMITED)
        lt_text_add(text, ", retention_bytes %lld", (long long)k.bytes);
    if (k.records != LEAT_UNLIMITED)
        lt_text_add(text, ", retention_records %lld", (long long)k.records);
    if (k.ms != LEAT_FOREVER)
        lt_text_add(text, ", retention_ms %lld", (long long)k.ms);
    if (k.until_consumed)
        lt_text_add(text, ", keep_until_consumed");
    if (k.when_full == LEAT_REJECT)
        lt_text_add(text, ", when_full LEAT_REJECT");
}

static void dump_topic_settings(leat_topic *t, struct lt_text *text) {
    dump_keeps(t, text);
    if (t->dedup_window_ms > 0)
        lt_text_add(text, ", dedup_window_ms %lld", (long long)t->dedup_window_ms);
    if (t->dedup_window_count > 0)
        lt_text_add(text, ", dedup_window_count %lld", (long long)t->dedup_window_count);
    if (t->announce_on)
        lt_text_add(text, ", announce_on %s", t->announce_on);
}

static void dump_partition(struct lt_partition *p, struct lt_text *text) {
    lt_lock(&p->lock);
    lt_text_line(text, "  %d: %lld to %lld, durable to %lld, segments %zu, bytes %lld%s", p->number,
                 (long long)atomic_load(&p->begin), (long long)atomic_load(&p->end),
                 (long long)atomic_load(&p->durable_end), p->count, (long long)p->bytes,
                 p->poisoned ? ", POISONED" : "");
    lt_unlock(&p->lock);
}

static void dump_topics(leat *mq, struct lt_text *text) {
    for (leat_topic *t = lt_topic_next(mq->log, NULL); t; t = lt_topic_next(mq->log, t)) {
        if (atomic_load(&t->gone))
            continue;
        int32_t partitions = atomic_load(&t->partitions);
        lt_text_add(text, "topic %s: partitions %d%s", t->name, partitions,
                    t->owned ? ", its queue's" : "");
        dump_topic_settings(t, text);
        lt_text_line(text, "%s", "");
        for (int32_t i = 0; i < partitions; i++)
            dump_partition(lt_topic_part(t, i), text);
    }
}

// ---- groups

static void dump_member(const struct lt_member *m, struct lt_text *text) {
    const char *name = dump_name(m->name);
    if (m->expelled)
        lt_text_line(text, "  member %s: expelled, it did not poll", name);
    if (m->by_hand)
        lt_text_line(text, "  member %s: assigned by hand", name);
    for (size_t i = 0; i < m->topic_count; i++)
        lt_text_line(text, "  member %s: reads %s", name, m->topics[i]->name);
    for (size_t i = 0; i < m->pattern_count; i++)
        lt_text_line(text, "  member %s: reads pattern %s", name, m->patterns[i]);
    if (m->topic_count + m->pattern_count == 0 && !m->by_hand)
        lt_text_line(text, "  member %s: reads nothing", name);
}

static void dump_members(leat *mq, const char *name, struct lt_text *text) {
    lt_lock(&mq->log->table);
    struct lt_group *g = lt_map_get(&mq->log->groups, name, strlen(name));
    if (g) { // else it was deleted meanwhile
        lt_lock(&g->lock);
        lt_text_line(text, "group %s: generation %d", name, g->generation);
        for (struct lt_node *n = lt_list_first(&g->open); n; n = lt_list_next(&g->open, n))
            dump_member(LT_CONTAINER(n, struct lt_member, open_node), text);
        lt_unlock(&g->lock);
    }
    lt_unlock(&mq->log->table);
}

static void dump_lag(const leat_lag *lag, struct lt_text *text) {
    lt_text_add(text, "  %s %d: ", lag->topic, lag->partition);
    if (lag->committed < 0)
        lt_text_add(text, "nothing committed");
    else
        lt_text_add(text, "committed %lld", (long long)lag->committed);
    lt_text_line(text, ", lag %lld records, %lld bytes, %lld ms%s%s", (long long)lag->lag,
                 (long long)lag->lag_bytes, (long long)lag->lag_ms,
                 lag->owner ? ", owner " : ", no owner", lag->owner ? lag->owner : "");
}

// Returns  LEAT_ENOMEM, LEAT_ECLOSED. What cannot be read for another reason is said instead.
static int dump_lags(leat *mq, const char *name, struct lt_text *text) {
    leat_lag *all = NULL;
    int n = 0, room;
    do {
        room = n;
        lt_free(&mq->mem, all);
        all = lt_alloc(&mq->mem, (size_t)room * sizeof *all);
        if (!all)
            return lt_fail_nomem();
        n = leat_group_lag(mq, name, all, (size_t)room, sizeof *all);
    } while (n > room);
    for (int i = 0; i < n; i++)
        dump_lag(&all[i], text);
    lt_free(&mq->mem, all);
    if (n >= 0 || n == LEAT_ENOENT)
        return 0;
    lt_text_line(text, "  %s: %s", leat_errname(n), leat_errmsg());
    return n == LEAT_ENOMEM || n == LEAT_ECLOSED ? n : 0;
}

static int dump_before(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int dump_groups(leat *mq, struct lt_text *text) {
    const char **names = NULL;
    int n = 0, room;
    do {
        room = n;
        lt_free(&mq->mem, names);
        names = lt_alloc(&mq->mem, (size_t)room * sizeof *names);
        if (!names)
            return lt_fail_nomem();
        n = leat_group_list(mq, names, (size_t)room);
    } while (n > room);
    if (n > 0)
        qsort(names, (size_t)n, sizeof *names, dump_before);
    int rc = n < 0 ? n : 0;
    for (int i = 0; i < n && rc == 0; i++) {
        dump_members(mq, names[i], text);
        rc = dump_lags(mq, names[i], text);
    }
    lt_free(&mq->mem, names);
    return rc;
}

// ---- producers

static int dump_producer(leat_producer *p, struct lt_text *text) {
    leat_producer_stats s;
    int rc = leat_producer_get_stats(p, &s, sizeof s);
    if (rc == 0)
        lt_text_line(text,
                     "producer %s: accepted %llu, stored %llu, not stored %llu, unknown %llu, "
                     "in flight %llu, not reported %llu",
                     dump_name(p->name), (unsigned long long)s.accepted,
                     (unsigned long long)s.stored, (unsigned long long)s.not_stored,
                     (unsigned long long)s.unknown, (unsigned long long)s.in_flight,
                     (unsigned long long)s.reports_waiting);
    return rc;
}

static int dump_producers(leat *mq, struct lt_text *text) {
    struct lt_list *all = &mq->log->producers;
    int rc = 0;
    lt_lock(&mq->log->producers_lock);
    for (struct lt_node *n = lt_list_first(all); n && rc == 0; n = lt_list_next(all, n))
        rc = dump_producer(LT_CONTAINER(n, leat_producer, node), text);
    lt_unlock(&mq->log->producers_lock);
    return rc;
}

int lt_log_dump(leat *mq, struct lt_text *text) {
    dump_topics(mq, text);
    int rc = dump_groups(mq, text);
    return rc == 0 ? dump_producers(mq, text) : rc;
}
