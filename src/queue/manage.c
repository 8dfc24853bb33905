/* SPDX-License-Identifier: MIT */
// manage: queues from outside: listed, deleted, paused, purged, and where a new one begins.
//
// What a crash leaves. Of a delete: the queue, whole, until a note says that it is gone; that is
// durable before anything else goes. Where it had a topic of its own, the note says "going", and
// the next open takes the topic away, too. Of a purge: each partition is purged or as it was, for
// one store of its slot says so; on disk after a power cut where .settle_acks is DISK, else if the
// page was written.
#include "leat_test.h"
#include "queue/room.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

// ---- list

static int manage_list(leat *mq, const char **names, size_t max) {
    struct lt_list *all = &mq->queues->all;
    size_t n = 0;
    for (struct lt_node *at = lt_list_first(all); at; at = lt_list_next(all, at), n++) {
        const char *kept =
            n < max ? lt_keep_name(mq, LT_CONTAINER(at, leat_queue, node)->name) : "";
        if (!kept)
            return lt_fail_nomem();
        if (n < max)
            names[n] = kept;
    }
    return (int)n;
}

int leat_queue_list(leat *mq, const char **names, size_t max) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc == 0 && max > 0 && !names)
        rc = lt_fail(LEAT_EINVAL, "queue list: names is NULL");
    if (rc != 0)
        return rc;
    lt_lock(&mq->log->admin);
    rc = manage_list(mq, names, max);
    lt_unlock(&mq->log->admin);
    return rc;
}

// ---- where a queue begins

static void manage_drop_slots(leat *mq, uint32_t id, const leat_topic *t) {
    for (int32_t i = 0; i < t->partitions; i++) {
        const struct lt_slot_key key = { LT_SLOT_QUEUE, id, t->id, (uint32_t)i };
        struct lt_slot *slot = lt_slot_find(&mq->log->slots, &key);
        if (slot)
            lt_slot_drop(&mq->log->slots, slot);
    }
}

int lt_queue_start_at_end(leat_queue *q) {
    int rc = 0;
    bool stored = false;
    lt_lock(q->lock);
    for (int32_t i = 0; i < q->count && rc == 0; i++) {
        struct lt_queue_part *part = lt_queue_part(q, i);
        int64_t end = atomic_load(&part->p->end);
        if (end <= part->window.head)
            continue;
        lt_backlog_skip_to(&part->backlog, end);
        lt_queue_tell_head(part);
        rc = lt_queue_note(q, part, end);
        stored = true;
    }
    lt_unlock(q->lock);
    // Durable before the queue's note: it must not be found without where it begins.
    if (rc == 0 && stored)
        rc = lt_slots_sync(&q->mq->log->slots);
    if (rc != 0)
        manage_drop_slots(q->mq, q->id, q->topic);
    return rc;
}

// ---- delete

static int manage_enter(leat *mq, const char *name) {
    int rc = lt_enter(mq, LT_CALL);
    if (rc == 0)
        rc = lt_check_name("queue", name);
    return rc != 0 ? rc : lt_check_writable(mq, "queue", name);
}

// Another queue over the topic that q owns, or whose dead letters q gets; NULL: none.
static const leat_queue *manage_find_user(const leat_queue *q, bool dead) {
    struct lt_list *all = &q->mq->queues->all;
    for (struct lt_node *n = lt_list_first(all); n; n = lt_list_next(all, n)) {
        const leat_queue *other = LT_CONTAINER(n, leat_queue, node);
        if (other != q && (dead ? other->dead == q : q->owns_topic && other->topic == q->topic))
            return other;
    }
    return NULL;
}

static int manage_check_idle(leat_queue *q) {
    const leat_queue *user = manage_find_user(q, true);
    if (user)
        return lt_fail(LEAT_EBUSY, "queue %s is the dead-letter queue of %s", q->name, user->name);
    user = manage_find_user(q, false);
    if (user)
        return lt_fail(LEAT_EBUSY, "queue %s: queue %s stands over its topic", q->name, user->name);
    int rc = lt_queue_idle(q);
    if (rc != 0)
        return rc;
    if (q->opens > 0)
        return lt_fail(LEAT_EBUSY, "queue %s is open", q->name);
    if (atomic_load(&q->guests) > 0)
        return lt_fail(LEAT_EBUSY, "queue %s: messages are being moved to it", q->name);
    return 0;
}

void lt_queue_unname(leat_queue *q) {
    struct lt_log *log = q->mq->log;
    lt_lock(&log->table);
    if (lt_map_get(&log->queue_names, q->name, strlen(q->name)) == q)
        (void)lt_map_remove(&log->queue_names, q->name, strlen(q->name));
    lt_unlock(&log->table);
}

struct manage_words { // files of a queue's words beside the segments of a partition
    struct lt_partition *p;
    char suffix[16]; // ".q<id>"
};

static int manage_unlink_words(const char *name, void *ctx) {
    const struct manage_words *w = ctx;
    leat *mq = w->p->mq;
    size_t n = strlen(name), tail = strlen(w->suffix);
    if (n > tail && strcmp(name + n - tail, w->suffix) == 0) {
        char path[LT_PATH_MAX + 256];
        (void)snprintf(path, sizeof path, "%u/%d/%s", w->p->topic->id, w->p->number, name);
        (void)mq->os->unlink(mq->os, mq->dir_fd, path, false);
    }
    return 0;
}

// What the queue held back may go, and so may its files: an id is never used again, so one that
// stays is in nobody's way, and goes with its segment.
static void manage_let_go(leat_topic *t, uint32_t id) {
    leat *mq = t->mq;
    for (int32_t i = 0; i < t->partitions; i++) {
        struct manage_words w = { .p = lt_topic_part(t, i) };
        char path[LT_PATH_MAX];
        lt_partition_path(path, w.p);
        (void)snprintf(w.suffix, sizeof w.suffix, ".q%u", id);
        int fd = mq->dir ? mq->os->open(mq->os, mq->dir_fd, path, O_RDONLY | O_DIRECTORY, 0) : -1;
        if (fd >= 0) {
            (void)mq->os->list(mq->os, fd, manage_unlink_words, &w);
            (void)mq->os->close(mq->os, fd);
        }
        lt_partition_consumed(w.p, 0, INT64_MAX);
    }
}

static int manage_finish(leat *mq, uint32_t id, uint32_t topic_id) {
    leat_topic *t = lt_topic_by_id(mq, topic_id);
    int rc = t && t->owned && t->queues == 0 ? lt_topic_destroy(t) : 0;
    return rc == 0 ? lt_manifest_note(&mq->log->manifest, LT_NOTE_QUEUE, id, NULL, 0) : rc;
}

struct manage_gone { // was deleted, and the store ended before that was all done
    struct lt_node node;
    uint32_t id, topic_id;
};

int lt_queue_going(leat *mq, uint32_t id, uint32_t topic_id) {
    struct manage_gone *gone = lt_zalloc(&mq->mem, sizeof *gone);
    if (!gone)
        return lt_fail_nomem();
    *gone = (struct manage_gone){ .id = id, .topic_id = topic_id };
    lt_list_push_back(&mq->queues->going, &gone->node);
    return 0;
}

// Where it fails it is left to the next open.
void lt_queues_finish_deletes(leat *mq, bool now) {
    struct lt_node *n;
    while ((n = lt_list_first(&mq->queues->going))) {
        struct manage_gone *gone = LT_CONTAINER(n, struct manage_gone, node);
        lt_list_remove(n);
        if (now)
            (void)manage_finish(mq, gone->id, gone->topic_id);
        lt_free(&mq->mem, gone);
    }
}

static int manage_delete(leat *mq, const char *name) {
    struct lt_manifest *manifest = &mq->log->manifest;
    leat_queue *q = lt_queue_find(mq, name);
    int rc = q ? manage_check_idle(q) : lt_fail(LEAT_ENOENT, "queue %s does not exist", name);
    if (rc != 0)
        return rc;
    struct lt_queue_settings set = q->set;
    set.going = true;
    rc = q->owns_topic ? lt_settings_write(q, &set)
                       : lt_manifest_note(manifest, LT_NOTE_QUEUE, q->id, NULL, 0);
    if (rc != 0)
        return rc;
    // The note stands: it is gone for every later open, so it is gone here, too. The rest goes only
    // when that is durable, or a power cut could bring half of it back.
    rc = lt_manifest_sync(manifest);
    leat_topic *t = q->topic;
    uint32_t id = q->id;
    bool owns = q->owns_topic;
    lt_queue_trace(q, "queue-delete", 0, -1, rc);
    mq->queues->gone_received += q->received;
    mq->queues->gone_acked += q->done;
    lt_queue_unname(q);
    lt_queue_end(q);
    t->queues--;
    if (rc != 0)
        return rc;
    manage_drop_slots(mq, id, t);
    if (owns)
        return manage_finish(mq, id, t->id);
    manage_let_go(t, id);
    lt_log_changed(mq);
    return 0;
}

int leat_queue_delete(leat *mq, const char *name) {
    int rc = manage_enter(mq, name);
    if (rc == 0)
        rc = lt_begin(mq, LT_CALL);
    if (rc != 0)
        return rc;
    lt_lock(&mq->log->admin);
    rc = manage_delete(mq, name);
    lt_unlock(&mq->log->admin);
    return lt_end(mq, rc);
}

// ---- pause

static int manage_pause(leat_queue *q, bool on) {
    struct lt_queue_settings set = q->set;
    if (set.paused == on)
        return 0;
    set.paused = on;
    int rc = lt_settings_write(q, &set);
    if (rc != 0)
        return rc;
    lt_lock(q->lock);
    q->set.paused = on;
    lt_unlock(q->lock);
    lt_queue_trace(q, on ? "pause" : "resume", 0, -1, 0);
    lt_log_changed(q->mq);
    return 0;
}

int leat_queue_pause(leat_queue *q, int on) {
    int rc = lt_begin(q ? q->mq : NULL, LT_CALL);
    if (rc != 0)
        return rc;
    lt_lock(&q->mq->log->admin);
    rc = manage_pause(q, on != 0);
    lt_unlock(&q->mq->log->admin);
    lt_queue_wake(q);
    return lt_end(q->mq, rc);
}

// ---- purge

static uint64_t manage_count(const leat_queue *q, const struct lt_queue_part *part, int64_t end) {
    int64_t tail = part->window.tail;
    return lt_backlog_available(&part->backlog) + lt_backlog_waiting(&part->backlog) +
           (uint64_t)(end > tail ? end - tail : 0) + q->leases.count[LT_LEASE_DELAYED] +
           lt_queue_leased(q) + q->leases.count[LT_LEASE_MOVING] + q->kept;
}

// All that the partition has now is gone, with its dedup ids: the slot says so first. Locks: queue.
static int manage_purge_part(leat_queue *q, struct lt_queue_part *part, uint64_t *purged) {
    lt_queue_follow(q, part);
    int64_t end = atomic_load(&part->p->end), head = part->window.head;
    bool ids = q->owns_topic && q->topic->dedup && end > (part->slot ? part->slot->values[2] : 0);
    if (end < head || (end == head && !ids))
        return 0;
    struct lt_slots *slots = &q->mq->log->slots;
    int rc = 0;
    if (!part->slot) {
        struct lt_slot_key key = { LT_SLOT_QUEUE, q->id, q->topic->id, (uint32_t)part->p->number };
        rc = lt_slot_take(slots, &key, &part->slot);
    }
    if (rc != 0)
        return rc;
    int64_t touched = part->slot->values[1];
    const int64_t values[4] = { end, touched > end ? touched : end, end };
    rc = lt_slot_store(slots, part->slot, values);
    if (rc != 0)
        return rc;
    uint64_t before = manage_count(q, part, end);
    lt_queue_skip(q, part, end);
    if (q->owns_topic)
        lt_dedup_forget_below(part->p, end);
    *purged += before - manage_count(q, part, end);
    lt_queue_trace(q, "purge", (uint32_t)part->p->number, end, 0);
    q->release_due |= q->owns_topic;
    return 0;
}

// Makes what the slots say durable, with the queue that they are of. Locks: none.
static int manage_purge_sync(leat_queue *q) {
    struct lt_log *log = q->mq->log;
    int rc = lt_fault(q->mq, LEAT_OP_SYNC, q->name, -1, false);
    if (rc == 0)
        rc = lt_manifest_sync(&log->manifest);
    if (rc == 0)
        rc = lt_slots_sync(&log->slots);
    return rc == 0 ? 0 : LEAT_EIO; // whatever the reason: it is purged, so "unknown"
}

int leat_queue_purge(leat_queue *q, uint64_t *purged) {
    uint64_t own = 0;
    purged = purged ? purged : &own;
    *purged = 0;
    int rc = lt_begin(q ? q->mq : NULL, LT_CALL);
    if (rc != 0)
        return rc;
    rc = lt_fault(q->mq, LEAT_OP_SETTLE, q->name, -1, true);
    if (rc != 0)
        return lt_end(q->mq, rc);
    lt_queue_look(q);
    lt_lock(q->lock);
    rc = lt_queue_settle_check(q);
    if (rc == 0)
        rc = lt_queue_catch_up(q);
    for (int32_t i = 0; i < q->count && rc == 0; i++)
        rc = manage_purge_part(q, lt_queue_part(q, i), purged);
    bool disk = rc == 0 && lt_queue_settles_on_disk(q);
    lt_queue_plan(q);
    lt_unlock(q->lock);
    if (disk)
        rc = manage_purge_sync(q);
    lt_queue_release(q);
    lt_log_changed(q->mq);
    return lt_end(q->mq, rc);
}
