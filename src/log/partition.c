/* SPDX-License-Identifier: MIT */
#include "leat_test.h"
#include "log/partition.h"

#include "base/bytes.h"
#include "log/topic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int lt_partition_init(struct lt_partition *p, leat_topic *t, int32_t number) {
    p->mq = t->mq;
    p->topic = t;
    p->number = number;
    p->fields = t->dedup_window_ms != 0 || t->dedup_window_count != 0;
    lt_list_init(&p->dedup_ids);
    p->segs = p->few;
    p->room = sizeof p->few / sizeof p->few[0];
    int rc = lt_mutex_init(&p->lock, LT_RANK_PARTITION);
    if (rc != 0)
        return rc;
    rc = lt_turns_init(&p->syncs);
    if (rc != 0)
        goto no_turns;
    rc = lt_cond_init(&p->released);
    if (rc != 0)
        goto no_cond;
    rc = lt_retain_init(p);
    if (rc == 0)
        return 0;
    lt_cond_fini(&p->released);
no_cond:
    lt_turns_fini(&p->syncs);
no_turns:
    lt_mutex_fini(&p->lock);
    return rc;
}

void lt_partition_fini(struct lt_partition *p) {
    lt_retain_fini(p);
    for (size_t i = 0; i < p->count; i++)
        lt_segment_drop(p->segs[i]);
    if (p->segs != p->few)
        lt_free(&p->mq->mem, p->segs);
    if (!lt_forked(p->mq)) { // they would wait for a thread of the parent that waits in them
        lt_cond_fini(&p->released);
        lt_turns_fini(&p->syncs);
    }
    lt_mutex_fini(&p->lock);
}

void lt_partition_path(char out[LT_PATH_MAX], const struct lt_partition *p) {
    (void)snprintf(out, LT_PATH_MAX, "%u/%d", p->topic->id, p->number);
}

void lt_segment_path(char out[LT_PATH_MAX], const struct lt_partition *p, int64_t base,
                     const char *suffix) {
    (void)snprintf(out, LT_PATH_MAX, "%u/%d/%020lld%s", p->topic->id, p->number, (long long)base,
                   suffix);
}

// ---- append

int64_t lt_partition_time(const struct lt_partition *p, int64_t wall_ms) {
    return atomic_load_explicit(&p->topic->goes_by_time, memory_order_relaxed) ? lt_steady_ms(p->mq)
                                                                               : wall_ms;
}

// Tells whether a batch more is over what the topic keeps.
static bool partition_is_full(const struct lt_partition *p, const struct lt_batch *batch) {
    const struct lt_keeps *k = &p->keeps;
    int64_t records = atomic_load_explicit(&p->end, memory_order_relaxed) -
                      atomic_load_explicit(&p->begin, memory_order_relaxed);
    return (k->bytes != LEAT_UNLIMITED && p->bytes + (int64_t)batch->bytes > k->bytes) ||
           (k->records != LEAT_UNLIMITED && records + batch->count > k->records);
}

static int partition_conflict(const struct lt_partition *p, int64_t expected, int64_t end,
                              leat_metadata *md) {
    md->offset = end;
    md->timestamp_ms = 0; // nothing was stored
    return lt_fail(LEAT_ECONFLICT, "topic %s partition %d ends at %lld, not at %lld",
                   p->topic->name, p->number, (long long)end, (long long)expected);
}

// now_ms: see appended_ms of a segment.
static int partition_append_locked(struct lt_partition *p, const struct lt_batch *batch,
                                   int64_t now_ms, leat_metadata *md) {
    if (atomic_load_explicit(&p->topic->gone, memory_order_relaxed))
        return lt_fail(LEAT_EGONE, "topic %s was deleted", p->topic->name);
    if (p->poisoned)
        return lt_fail(LEAT_EPOISONED, "topic %s partition %d: a sync has failed", p->topic->name,
                       p->number);
    // What says where records are, and which of them are durable, may be lost.
    if (lt_manifest_poisoned(&p->mq->log->manifest) || lt_slots_poisoned(&p->mq->log->slots))
        return lt_fail(LEAT_EPOISONED, "topic %s: a sync of the manifest or the slots has failed",
                       p->topic->name);
    int64_t offset = atomic_load_explicit(&p->end, memory_order_relaxed);
    if (batch->expected_end && *batch->expected_end != offset)
        return partition_conflict(p, *batch->expected_end, offset, md);
    if (p->rejects && partition_is_full(p, batch))
        return lt_fail(LEAT_EFULL, "topic %s partition %d is at its retention", p->topic->name,
                       p->number);
    if (p->count == 0 || p->stray || !lt_segment_fits(p->segs[p->count - 1], batch->bytes) ||
        (batch->fields && !p->segs[p->count - 1]->fields) || // older code must not misread it
        now_ms > p->segs[p->count - 1]->old_ms) {
        p->fields |= batch->fields;
        int rc = lt_partition_roll(p, offset, batch->bytes, LT_GAP_LOST);
        if (rc != 0)
            return rc;
    }
    struct lt_segment *s = p->segs[p->count - 1];
    int64_t behind = offset - atomic_load_explicit(&p->durable_end, memory_order_relaxed);
    struct lt_stamp stamp = { .uid = s->uid,
                              .offset = offset,
                              .base = s->base,
                              .timestamp_ms = md->timestamp_ms,
                              .behind = (uint16_t)(behind < 65535 ? behind : 65535) };
    int rc = lt_fault(p->mq, LEAT_OP_SPACE, p->topic->name, p->number, false);
    if (rc == 0)
        rc = lt_segment_append(s, batch, &stamp);
    if (rc != 0)
        return rc;
    if (batch->kept) {
        lt_segment_keep(s);
        *batch->kept = (struct lt_kept){ s, s->map + (s->write_at - batch->bytes) };
    }
    s->appended_ms = now_ms;
    p->bytes += (int64_t)batch->bytes;
    p->appended += (uint64_t)batch->count;
    if (batch->ordered)
        atomic_store_explicit(&p->fields_end, offset + batch->count, memory_order_relaxed);
    atomic_store_explicit(&p->end, offset + batch->count, memory_order_release);
    uintptr_t place = (uintptr_t)(s->map + s->write_at);
    atomic_store_explicit(&p->next_segment, (uintptr_t)s, memory_order_relaxed);
    atomic_store_explicit(&p->next_place, place, memory_order_relaxed);
    atomic_store_explicit(&p->next_index, lt_index_next(s), memory_order_relaxed);
    lt_prefetch(place, LT_RECORD_LINES);
    md->offset = offset;
    return 0;
}

int lt_partition_skip_to(struct lt_partition *p, int64_t offset, uint32_t reason) {
    int rc = 0;
    lt_lock(&p->lock);
    int64_t end = atomic_load_explicit(&p->end, memory_order_relaxed);
    if (offset > end && offset - end > LT_GAP_MAX) {
        rc = lt_fail(LEAT_ECORRUPT, "topic %s partition %d ends at %lld, offset %lld is in use",
                     p->topic->name, p->number, (long long)end, (long long)offset);
    } else if (offset > end && lt_read_only(p->mq)) {
        if (p->count > 0)
            atomic_store(&p->segs[p->count - 1]->limit, end);
        atomic_store_explicit(&p->end, offset, memory_order_release); // as its owner will find it
    } else if (offset > end) {
        rc = lt_partition_roll(p, offset, 0, reason);
        if (rc == 0) {
            atomic_store_explicit(&p->end, offset, memory_order_release);
            lt_say(p->mq, LEAT_LOG_WARNING,
                   "topic %s partition %d: offsets %lld to %lld are lost and not used again",
                   p->topic->name, p->number, (long long)end, (long long)offset - 1);
        }
    }
    lt_unlock(&p->lock);
    return rc;
}

static void partition_trace_batch(const struct lt_partition *p, const struct lt_batch *batch,
                                  leat_metadata md, int rc) {
    const struct lt_plan *plan = batch->first;
    const uint8_t *encoded = batch->encoded;
    const int64_t wall_ms = md.timestamp_ms;
    for (int64_t i = 0; i < batch->count; i++) {
        md.timestamp_ms =
            plan ? lt_plan_timestamp(plan, wall_ms) : lt_encoded_timestamp(encoded, wall_ms);
        lt_trace(p->mq, "append", NULL, &md, rc);
        md.offset += rc == 0;
        if (plan)
            plan = plan->next;
        else
            encoded += lt_record_size(encoded);
    }
}

// Locks: the partition's. Returns  whether somebody waits for it: ring the topic's bell.
static bool partition_set_durable(struct lt_partition *p, int64_t end) {
    int64_t before = atomic_load_explicit(&p->durable_end, memory_order_relaxed);
    p->made_durable += (uint64_t)(end - before);
    atomic_store_explicit(&p->durable_end, end, memory_order_release);
    bool ring = p->armed_durable;
    p->armed_durable = false;
    return ring;
}

// In memory there is nothing to wait for, unless a sync was told to fail, or one is in flight that
// was. Locks: the partition's.
static bool partition_syncs_at_once(const struct lt_partition *p) {
    return !p->mq->dir && !p->syncs.under_way &&
           !atomic_load_explicit(&p->mq->faults.any, memory_order_relaxed);
}

int lt_partition_append(struct lt_partition *p, const struct lt_batch *batch, leat_metadata *md) {
    int64_t ts = batch->count == 1 && batch->first ? batch->first->record->timestamp_ms : 0;
    int64_t wall_ms = lt_wall_ms(p->mq), now_ms = lt_partition_time(p, wall_ms);
    *md = (leat_metadata){ .topic = p->topic->name,
                           .partition = p->number,
                           .timestamp_ms = ts ? ts : wall_ms,
                           .offset = -1 };
    lt_lock_busy(&p->lock);
    int rc = partition_append_locked(p, batch, now_ms, md);
    bool ring = rc == 0 && p->armed, rolled = p->rolled;
    if (ring)
        p->armed = false;
    p->rolled = false;
    int64_t dirty = atomic_load_explicit(&p->mq->dirty_bytes, memory_order_relaxed);
    int64_t end = atomic_load_explicit(&p->end, memory_order_relaxed);
    if (rc == 0 && batch->durable && partition_syncs_at_once(p))
        ring |= partition_set_durable(p, end);
    lt_unlock(&p->lock);
    if (ring)
        lt_bell_ring(&p->topic->bell);
    if (rc == 0)
        lt_log_changed(p->mq);
    if (dirty > p->mq->dirty_bytes_max) // who appends then pays, and a failure poisons, no more
        (void)lt_partition_sync(p, end);
    if (rolled) {
        lt_partition_retain(p);
        lt_log_cool(p->mq, true);
    }
    if (p->mq->trace)
        partition_trace_batch(p, batch, *md, rc);
    return rc;
}

// ---- sync

int lt_partition_sync_dirs(struct lt_partition *p) {
    struct lt_manifest *m = &p->mq->log->manifest;
    char path[LT_PATH_MAX];
    lt_partition_path(path, p);
    int rc = lt_manifest_sync_dir(m, path);
    (void)snprintf(path, sizeof path, "%u", p->topic->id);
    if (rc == 0)
        rc = lt_manifest_sync_dir(m, path);
    if (rc == 0)
        rc = lt_manifest_sync_dir(m, ".");
    return rc;
}

// Finds the first segment with unsynced bytes, or to be sealed, whose base is behind `after` and
// below `target`, and takes a reference; *upto: its bytes; *rolled: it is to be sealed. Locks: the
// partition's. Returns  1, 0 or an error.
static int partition_unsynced(struct lt_partition *p, int64_t after, int64_t target,
                              struct lt_segment **out, uint64_t *upto, bool *rolled) {
    size_t i = p->count;
    while (i > 0 && p->segs[i - 1]->base > after && p->segs[i - 1]->synced_to == 0)
        i--; // rolled while nobody synced
    for (i = i > 0 ? i - 1 : 0; i < p->count; i++) {
        struct lt_segment *s = p->segs[i];
        *rolled = i + 1 < p->count && lt_segment_sealable(s);
        // One that begins at the target is empty, but may say that a gap is in front of it.
        if (s->base <= after || s->base > target || (s->synced_to >= s->write_at && !*rolled))
            continue;
        int rc = *rolled ? lt_segment_map(s) : 0;
        if (rc == 0)
            rc = lt_segment_ready_fd(s);
        if (rc != 0)
            return rc;
        *upto = s->write_at;
        lt_segment_keep(s);
        *out = s;
        return 1;
    }
    return 0;
}

// Gives back a segment that was synced. Its index was written meanwhile: if the segment is gone
// from the log, that goes, too.
static void partition_drop_synced(struct lt_partition *p, struct lt_segment *s) {
    bool there = p->count > 0 && s->base >= p->segs[0]->base;
    if (!there && s->sealed) {
        char path[LT_PATH_MAX];
        lt_segment_file(path, s, ".idx");
        (void)p->mq->os->unlink(p->mq->os, p->mq->dir_fd, path, false);
    }
    lt_segment_drop(s);
}

// *lost: the sync itself failed, so that nobody knows what is on disk.
static int partition_sync_segment(struct lt_partition *p, struct lt_segment *s, bool *lost) {
    int fault = lt_fault(p->mq, LEAT_OP_SYNC, p->topic->name, p->number, false);
    *lost = fault != 0;
    if (fault != 0)
        return fault;
    struct lt_os *os = s->mq->os;
    int rc = s->fd < 0 ? 0 : os->sync(os, s->fd, false);
    *lost = rc < 0;
    return rc == 0 ? 0
                   : lt_fail_os(rc, "syncing segment %lld in %s", (long long)s->base, s->mq->dir);
}

// Pays the owed syncs of directories. Before any record is synced: a seal, and what later records
// say of what is durable, must not outlive the name of a segment in front of them. Locks: as below.
static int partition_pay_dirs(struct lt_partition *p, bool *lost) {
    if (!p->dir_owed)
        return 0;
    p->dir_owed = false; // a segment made from here on owes its own
    lt_unlock(&p->lock);
    int rc = lt_partition_sync_dirs(p);
    lt_lock(&p->lock);
    p->dir_owed |= rc != 0;
    *lost = rc != 0 && lt_manifest_poisoned(&p->mq->log->manifest);
    return rc;
}

// Syncs all that was appended below `target`, and what else its being found again rests on. The
// lock is held at entry and exit, not during system calls; the turn keeps others out.
static int partition_sync_to(struct lt_partition *p, int64_t target, bool *lost) {
    int rc = partition_pay_dirs(p, lost);
    uint64_t upto = 0;
    bool rolled = false;
    struct lt_segment *s = NULL;
    for (int64_t after = -1; rc == 0;) {
        rc = partition_unsynced(p, after, target, &s, &upto, &rolled);
        if (rc != 1)
            break;
        after = s->base;
        bool synced = s->synced_to >= upto;
        int64_t dirty = s->dirty;
        lt_unlock(&p->lock);
        rc = synced ? 0 : partition_sync_segment(p, s, lost);
        int sealed = rc == 0 && rolled ? lt_segment_seal(s) : 0;
        lt_lock(&p->lock);
        if (rc == 0) {
            s->synced_to = upto;
            lt_segment_clean(s, dirty);
        }
        if (rc == 0 && rolled)
            lt_segment_sealed(s, sealed);
        partition_drop_synced(p, s);
    }
    lt_unlock(&p->lock);
    if (rc == 0)
        rc = lt_manifest_sync(&p->mq->log->manifest);
    *lost |= rc != 0 && lt_manifest_poisoned(&p->mq->log->manifest);
    lt_lock(&p->lock);
    return rc;
}

int lt_partition_note(struct lt_partition *p, int64_t durable_end, int64_t begin) {
    // A sync may store its durable end while a release has stored its log start and not moved it
    // yet: the files it gives back must not be missed after a power cut.
    begin = begin > p->noted_begin ? begin : p->noted_begin;
    struct lt_slots *slots = &p->mq->log->slots;
    if (!p->mq->dir)
        return 0;
    if (!p->slot) {
        struct lt_slot_key key = { LT_SLOT_PARTITION, 0, p->topic->id, (uint32_t)p->number };
        int rc = lt_slot_take(slots, &key, &p->slot);
        if (rc != 0)
            return rc;
    }
    const int64_t values[4] = { durable_end, begin };
    int rc = lt_slot_store(slots, p->slot, values);
    if (rc == 0) // one that was not stored is no log start: nothing was given back for it
        p->noted_begin = begin;
    return rc;
}

// Locks: the partition's at entry and exit. Returns  whether to ring the bell.
static bool partition_lead_sync(struct lt_partition *p, int *rc) {
    bool ring = false, lost = false;
    int64_t target = atomic_load_explicit(&p->end, memory_order_relaxed);
    (void)lt_turns_begin(&p->syncs);
    p->sync_to = target;
    *rc = partition_sync_to(p, target, &lost);
    lt_turns_end(&p->syncs);
    p->poisoned = lost;
    if (*rc == 0 && atomic_load(&p->durable_end) < target) { // a release may be ahead
        ring = partition_set_durable(p, target);
        // Not having it stored costs recovery some evidence, never a record: a failure here is not
        // the sender's.
        (void)lt_partition_note(p, target, atomic_load(&p->begin));
    }
    return ring;
}

int lt_partition_sync(struct lt_partition *p, int64_t upto) {
    int rc = 0;
    bool ring = false;
    if (atomic_load_explicit(&p->durable_end, memory_order_acquire) >= upto)
        return 0;
    lt_lock(&p->lock);
    while (atomic_load_explicit(&p->durable_end, memory_order_relaxed) < upto && rc == 0) {
        if (atomic_load_explicit(&p->topic->gone, memory_order_relaxed))
            rc = lt_fail(LEAT_EGONE, "topic %s was deleted", p->topic->name);
        else if (p->poisoned)
            rc = lt_fail(LEAT_EIO, "topic %s partition %d: the sync of this record has failed",
                         p->topic->name, p->number);
        else if (p->syncs.under_way)
            lt_turns_wait(&p->syncs, &p->lock, upto <= p->sync_to);
        else
            ring |= partition_lead_sync(p, &rc);
    }
    lt_turns_unlock(&p->syncs, &p->lock);
    if (ring)
        lt_bell_ring(&p->topic->bell);
    return rc;
}

// ---- reading

int lt_partition_offset_at(struct lt_partition *p, int64_t ts, int64_t *offset) {
    int64_t found = -1;
    int rc = 0;
    lt_lock(&p->lock);
    int64_t begin = atomic_load_explicit(&p->begin, memory_order_relaxed);
    for (size_t i = 0; i < p->count && found < 0 && rc == 0; i++) {
        if (p->segs[i]->count == 0 || p->segs[i]->newest < ts)
            continue;
        rc = lt_segment_ready(p->segs[i]);
        if (rc == 0)
            found = lt_segment_offset_at(p->segs[i], ts, begin);
    }
    *offset = found >= 0 ? found : atomic_load_explicit(&p->end, memory_order_relaxed);
    lt_unlock(&p->lock);
    return rc != 0 ? rc : found >= 0;
}

void lt_partition_run(struct lt_partition *p, int64_t from, int64_t to, int64_t *first,
                      int64_t *past) {
    *first = *past = to;
    lt_lock(&p->lock);
    size_t i = lt_partition_find(p, from);
    while (i < p->count && p->segs[i]->count == 0)
        i++;
    if (i < p->count && p->segs[i]->base < to) {
        const struct lt_segment *s = p->segs[i];
        int64_t end = s->base + s->count;
        *first = s->base > from ? s->base : from;
        *past = end < to ? end : to;
    }
    lt_unlock(&p->lock);
}

int64_t lt_partition_bytes(struct lt_partition *p) {
    uint64_t sum = 0;
    lt_lock(&p->lock);
    for (size_t i = 0; i < p->count; i++)
        sum += p->segs[i]->allocated;
    lt_unlock(&p->lock);
    return (int64_t)sum;
}

void lt_partition_count(struct lt_partition *p, leat_stats *s) {
    lt_lock(&p->lock);
    for (size_t i = 0; i < p->count; i++)
        s->bytes += p->segs[i]->allocated > p->segs[i]->write_at ? p->segs[i]->allocated
                                                                 : p->segs[i]->write_at;
    s->segments += p->count;
    s->appended += p->appended;
    s->synced += p->made_durable;
    lt_unlock(&p->lock);
}

static bool partition_arm(struct lt_partition *p, int64_t offset, const _Atomic int64_t *end,
                          bool *armed) {
    lt_lock(&p->lock);
    bool there = atomic_load_explicit(end, memory_order_relaxed) > offset ||
                 atomic_load_explicit(&p->topic->gone, memory_order_relaxed);
    if (!there)
        *armed = true;
    lt_unlock(&p->lock);
    return there;
}

bool lt_partition_arm(struct lt_partition *p, int64_t offset) {
    return partition_arm(p, offset, &p->end, &p->armed);
}

bool lt_partition_arm_durable(struct lt_partition *p, int64_t offset) {
    return partition_arm(p, offset, &p->durable_end, &p->armed_durable);
}

int lt_partition_pin(struct lt_partition *p, int64_t offset, int64_t *first,
                     struct lt_segment **out) {
    int rc = 0;
    *out = NULL;
    lt_lock(&p->lock);
    size_t lo = lt_partition_find(p, offset);
    while (lo < p->count && p->segs[lo]->count == 0)
        lo++; // one of which nothing can be read, behind a gap
    if (lo < p->count) {
        struct lt_segment *s = p->segs[lo];
        *first = offset > s->base ? offset : s->base;
        rc = lt_segment_ready(s);
        if (rc == 0) {
            lt_segment_keep(s);
            *out = s;
        }
    }
    lt_unlock(&p->lock);
    return rc;
}

void lt_partition_cool(struct lt_partition *p, bool files, bool maps) {
    if (files &&
        !lt_read_only(
            p->mq)) // a descriptor with unsynced bytes would take the error of their sync along
        (void)lt_partition_sync(p, atomic_load_explicit(&p->end, memory_order_relaxed));
    lt_lock(&p->lock);
    for (size_t i = 0; i < p->count && !p->syncs.under_way; i++) {
        struct lt_segment *s = p->segs[i];
        // Only the lock's holder makes references of what has one.
        if (maps && atomic_load_explicit(&s->refs, memory_order_acquire) == 1)
            lt_segment_unready(s);
        if (files && s->synced_to >= s->write_at)
            lt_segment_close_fd(s);
    }
    lt_unlock(&p->lock);
}

void lt_partition_settle(struct lt_partition *p) {
    lt_lock(&p->lock);
    bool sound = !p->poisoned && !p->syncs.under_way;
    // Whatever fails, the next open does without.
    for (size_t i = 0; sound && i < p->count; i++) {
        struct lt_segment *s = p->segs[i];
        if (i + 1 == p->count)
            (void)lt_segment_settle(s);
        else if (lt_segment_sealable(s) && s->synced_to >= s->write_at && lt_segment_map(s) == 0 &&
                 lt_segment_ready_fd(s) == 0)
            lt_segment_sealed(s, lt_segment_seal(s));
    }
    lt_unlock(&p->lock);
}

// ---- removal

void lt_partition_remove(struct lt_partition *p) {
    leat *mq = p->mq;
    char path[LT_PATH_MAX];
    lt_lock(&p->lock);
    while (p->syncs.under_way || p->releasing)
        if (p->releasing)
            lt_cond_wait(&p->released, &p->lock);
        else
            lt_turns_wait(&p->syncs, &p->lock, true);
    for (size_t i = 0; i < p->count; i++) {
        if (mq->dir)
            lt_partition_unlink(p, p->segs[i]->base);
        lt_segment_drop(p->segs[i]);
    }
    bool had_dir = mq->dir && p->count > 0;
    p->count = 0;
    p->slot = NULL;
    lt_turns_unlock(&p->syncs, &p->lock);
    if (had_dir) {
        lt_partition_path(path, p);
        (void)mq->os->unlink(mq->os, mq->dir_fd, path, true); // stays if somebody's file is in it
    }
}
