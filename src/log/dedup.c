/* SPDX-License-Identifier: MIT */
#include "log/dedup.h"

#include "base/bytes.h"
#include "log/cursor.h"

#include <stdlib.h>
#include <string.h>

enum { DEDUP_COUNT_MAX = 1 << 24 };
#define DEDUP_WINDOW_MAX_MS (INT64_C(365) * 24 * 3600 * 1000)
#define DEDUP_NS            INT64_C(1000000)                 // in a ms
#define DEDUP_STAMP_MAX     (INT64_MAX - (INT64_C(1) << 40)) // of a record that is found at an open

struct lt_dedup_id {
    struct lt_node by_age; // once it is stored
    struct lt_node in_part;
    struct lt_partition *p;
    int64_t offset, low, timestamp_ms;
    int64_t at_ms;               // when it was stored, by the store's steady time
    const struct lt_once *owner; // pending: whose; else NULL
    size_t index;                // pending: which of the owner's
    uint8_t size;
    uint8_t id[];
};

struct lt_dedup {
    leat_topic *topic;
    int64_t window_ms, window_count; // 0: none
    _Atomic int64_t stamp;           // the last one that was given; relaxed: only its value counts
    struct lt_mutex lock;            // guards all below, and the partitions' dedup_ids
    struct lt_cond settled;          // an id is pending no more
    struct lt_map ids;
    struct lt_list by_age;
    int64_t stored; // in by_age
};

int lt_dedup_check(leat_topic_options *o) {
    if (o->dedup_window_ms == LEAT_ZERO)
        o->dedup_window_ms = 0;
    if (o->dedup_window_count == LEAT_ZERO)
        o->dedup_window_count = 0;
    if (o->dedup_window_ms < 0 || o->dedup_window_ms > DEDUP_WINDOW_MAX_MS)
        return lt_fail(LEAT_EINVAL, "dedup_window_ms is %lld; up to 365 days",
                       (long long)o->dedup_window_ms);
    if (o->dedup_window_count < 0 || o->dedup_window_count > DEDUP_COUNT_MAX)
        return lt_fail(LEAT_EINVAL, "dedup_window_count is %lld; up to %d",
                       (long long)o->dedup_window_count, DEDUP_COUNT_MAX);
    return 0;
}

struct lt_dedup *lt_dedup_new(leat_topic *t) {
    struct lt_dedup *d = lt_zalloc(&t->mq->mem, sizeof *d);
    if (!d) {
        (void)lt_fail_nomem();
        return NULL;
    }
    if (lt_mutex_init(&d->lock, LT_RANK_DEDUP) != 0)
        goto no_lock;
    if (lt_cond_init(&d->settled) != 0)
        goto no_cond;
    d->topic = t;
    d->window_ms = t->dedup_window_ms;
    d->window_count = t->dedup_window_count;
    lt_map_init(&d->ids, &t->mq->mem, lt_chance_next(t->mq));
    lt_list_init(&d->by_age);
    return d;
no_cond:
    lt_mutex_fini(&d->lock);
no_lock:
    lt_free(&t->mq->mem, d);
    (void)lt_fail_nomem();
    return NULL;
}

void lt_dedup_free(struct lt_dedup *d) {
    if (!d)
        return;
    leat *mq = d->topic->mq;
    struct lt_map_cursor at = { 0 };
    void *entry;
    while (lt_map_next(&d->ids, &at, NULL, NULL, &entry))
        lt_free(&mq->mem, entry);
    lt_map_fini(&d->ids);
    if (!lt_forked(mq)) // it would wait for a thread of the parent that waits in it
        lt_cond_fini(&d->settled);
    lt_mutex_fini(&d->lock);
    lt_free(&mq->mem, d);
}

int64_t lt_dedup_stamp(const leat_topic *t) {
    struct lt_dedup *d = t->dedup;
    int64_t now_ns, next, last = atomic_load_explicit(&d->stamp, memory_order_relaxed);
    if (__builtin_mul_overflow(lt_steady_ms(t->mq), DEDUP_NS, &now_ns))
        now_ns = 0; // no clock that is sound: the order is left
    do {
        next = now_ns > last ? now_ns : last + (last < INT64_MAX);
    } while (!atomic_compare_exchange_weak_explicit(&d->stamp, &last, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return next;
}

// ---- the ids. Locks: the dedup's, in all that follows to the next line of this kind

static bool dedup_is_old(const struct lt_dedup *d, const struct lt_dedup_id *e, int64_t now_ms) {
    int64_t age_ms;
    return d->window_ms != 0 && !__builtin_sub_overflow(now_ms, e->at_ms, &age_ms) &&
           age_ms >= d->window_ms;
}

// Forgets an id, and tells retention if it held something back.
static void dedup_drop(struct lt_dedup *d, struct lt_dedup_id *e) {
    struct lt_partition *p = e->p;
    bool first = lt_list_first(&p->dedup_ids) == &e->in_part;
    int64_t low = e->low;
    (void)lt_map_remove(&d->ids, e->id, e->size);
    if (!e->owner) {
        lt_list_remove(&e->by_age);
        d->stored--;
    }
    lt_list_remove(&e->in_part);
    lt_free(&d->topic->mq->mem, e);
    struct lt_node *next = first ? lt_list_first(&p->dedup_ids) : NULL;
    if (first)
        lt_partition_consumed(
            p, low, next ? LT_CONTAINER(next, struct lt_dedup_id, in_part)->low : INT64_MAX);
}

// There was a window, and is none now.
static bool dedup_is_off(const struct lt_dedup *d) {
    return d->window_ms == 0 && d->window_count == 0;
}

static void dedup_forget(struct lt_dedup *d, int64_t now_ms) {
    struct lt_node *n;
    while ((n = lt_list_first(&d->by_age))) {
        struct lt_dedup_id *e = LT_CONTAINER(n, struct lt_dedup_id, by_age);
        if (!dedup_is_off(d) && (d->window_count == 0 || d->stored <= d->window_count) &&
            !dedup_is_old(d, e, now_ms))
            break;
        dedup_drop(d, e);
    }
}

// Finds an id that is not forgotten.
static struct lt_dedup_id *dedup_find(struct lt_dedup *d, leat_bytes id, int64_t now_ms) {
    struct lt_dedup_id *e = lt_map_get(&d->ids, id.data, id.size);
    if (!e || e->owner || !dedup_is_old(d, e, now_ms))
        return e;
    dedup_drop(d, e); // one in front of it was stored at another partition's time
    return NULL;
}

// Makes an entry, which is in no list yet. Returns  NULL: no memory.
static struct lt_dedup_id *dedup_make(struct lt_dedup *d, leat_bytes id, struct lt_partition *p) {
    struct lt_mem *mem = &d->topic->mq->mem;
    struct lt_dedup_id *e = lt_zalloc(mem, sizeof *e + id.size);
    if (!e)
        return NULL;
    e->p = p;
    e->size = (uint8_t)id.size;
    memcpy(e->id, id.data, id.size);
    lt_node_init(&e->by_age);
    lt_node_init(&e->in_part);
    return e;
}

static void dedup_store(struct lt_dedup *d, struct lt_dedup_id *e) {
    e->owner = NULL;
    lt_list_push_back(&d->by_age, &e->by_age);
    d->stored++;
}

// Enters record i of a call as pending, or tells that it is a repeat.
static int dedup_enter(struct lt_dedup *d, struct lt_once *once, size_t i, int64_t now_ms) {
    struct lt_once *o = &once[i];
    struct lt_dedup_id *e = dedup_find(d, o->id, now_ms);
    o->repeat = e != NULL;
    if (e && e->owner) {
        o->like = e->index + 1;
    } else if (e) {
        o->where = (leat_metadata){ .topic = d->topic->name,
                                    .partition = e->p->number,
                                    .offset = e->offset,
                                    .timestamp_ms = e->timestamp_ms,
                                    .duplicate = 1 };
    } else {
        e = dedup_make(d, o->id, o->p);
        if (!e || lt_map_put(&d->ids, e->id, e->size, e) != 0) {
            lt_free(&d->topic->mq->mem, e);
            return lt_fail_nomem();
        }
        e->owner = once;
        e->index = i;
        e->at_ms = now_ms;
        e->low = atomic_load(&o->p->end); // it only grows, so the list is in order
        lt_list_push_back(&o->p->dedup_ids, &e->in_part);
        o->entry = e;
    }
    return 0;
}

static bool dedup_others_pending(struct lt_dedup *d, const struct lt_once *once, size_t n,
                                 int64_t now_ms) {
    bool pending = false;
    for (size_t i = 0; i < n && !pending; i++) {
        const struct lt_dedup_id *e = once[i].id.data ? dedup_find(d, once[i].id, now_ms) : NULL;
        pending = e && e->owner;
    }
    return pending;
}

static void dedup_end_locked(struct lt_dedup *d, struct lt_once *once, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct lt_dedup_id *e = once[i].entry;
        once[i].entry = NULL;
        if (!e)
            continue;
        if (once[i].where.offset < e->p->dedup_from) { // -1, or it was purged already
            dedup_drop(d, e);
            continue;
        }
        e->offset = once[i].where.offset;
        e->timestamp_ms = once[i].where.timestamp_ms;
        dedup_store(d, e);
    }
    dedup_forget(d, lt_steady_ms(d->topic->mq));
    lt_cond_broadcast(&d->settled);
}

// ---- sending

int lt_dedup_begin(leat_topic *t, struct lt_once *once, size_t n) {
    struct lt_dedup *d = t->dedup;
    int rc = 0;
    for (size_t i = 0; i < n; i++)
        once[i].where = (leat_metadata){ .topic = t->name, .offset = -1, .partition = -1 };
    lt_lock(&d->lock);
    while (dedup_others_pending(d, once, n, lt_steady_ms(t->mq)))
        lt_cond_wait(&d->settled, &d->lock);
    int64_t now_ms = lt_steady_ms(t->mq);
    dedup_forget(d, now_ms);
    for (size_t i = 0; rc == 0 && i < n && !dedup_is_off(d); i++)
        if (once[i].id.data)
            rc = dedup_enter(d, once, i, now_ms);
    if (rc != 0)
        dedup_end_locked(d, once, n);
    lt_unlock(&d->lock);
    return rc;
}

void lt_dedup_end(leat_topic *t, struct lt_once *once, size_t n) {
    struct lt_dedup *d = t->dedup;
    lt_lock(&d->lock);
    dedup_end_locked(d, once, n);
    lt_unlock(&d->lock);
    for (size_t i = 0; i < n; i++) {
        if (once[i].like == 0)
            continue;
        once[i].where = once[once[i].like - 1].where;
        once[i].where.duplicate = once[i].where.offset >= 0;
    }
}

int lt_topic_set_dedup_window(leat_topic *t, int64_t window_ms) {
    if (t->dedup_window_ms == window_ms)
        return 0;
    struct lt_dedup *before = t->dedup, *d = before ? before : lt_dedup_new(t);
    int rc = d ? lt_topic_note(t, t->partitions, window_ms, &t->keeps) : LEAT_ENOMEM;
    if (rc != 0) {
        if (!before)
            lt_dedup_free(d);
        return rc;
    }
    if (window_ms != 0)
        t->goes_by_time = true; // first: ids are forgotten by it
    t->dedup_window_ms = window_ms;
    lt_lock(&d->lock);
    d->window_ms = window_ms;
    dedup_forget(d, lt_steady_ms(t->mq));
    lt_unlock(&d->lock);
    t->dedup = d; // it stays, also when it is off: who sends may be in it
    return 0;
}

void lt_dedup_clear(leat_topic *t) {
    struct lt_dedup *d = t->dedup;
    struct lt_node *n;
    if (!d)
        return;
    lt_lock(&d->lock);
    while ((n = lt_list_first(&d->by_age)))
        dedup_drop(d, LT_CONTAINER(n, struct lt_dedup_id, by_age));
    lt_unlock(&d->lock);
}

void lt_dedup_forget_below(struct lt_partition *p, int64_t upto) {
    struct lt_dedup *d = p->topic->dedup;
    if (!d)
        return;
    lt_lock(&d->lock);
    p->dedup_from = upto > p->dedup_from ? upto : p->dedup_from;
    for (struct lt_node *n = lt_list_first(&p->dedup_ids), *next; n; n = next) {
        struct lt_dedup_id *e = LT_CONTAINER(n, struct lt_dedup_id, in_part);
        next = lt_list_next(&p->dedup_ids, n);
        if (!e->owner && e->offset < p->dedup_from)
            dedup_drop(d, e);
    }
    lt_unlock(&d->lock);
}

int64_t lt_dedup_floor(struct lt_partition *p) {
    struct lt_dedup *d = p->topic->dedup;
    lt_lock(&d->lock);
    dedup_forget(d, lt_steady_ms(p->mq));
    struct lt_node *n = lt_list_first(&p->dedup_ids);
    int64_t floor = n ? LT_CONTAINER(n, struct lt_dedup_id, in_part)->low : INT64_MAX;
    lt_unlock(&d->lock);
    return floor;
}

// ---- at an open

struct dedup_found {
    int64_t stamp;
    struct lt_dedup_id *entry;
};

struct dedup_load {
    struct lt_dedup *d;
    struct dedup_found *found;
    size_t count, room;
    int64_t now_ms;
};

static int64_t dedup_read_stamp(const uint8_t *record) {
    leat_bytes field = lt_record_field(record, LT_FIELD_STAMP);
    int64_t stamp;
    if (field.size == 8)
        stamp = (int64_t)lt_get_u64(field.data);
    else if (__builtin_mul_overflow(lt_record_timestamp(record), DEDUP_NS, &stamp))
        stamp = 0;
    return stamp < 0 ? 0 : stamp > DEDUP_STAMP_MAX ? DEDUP_STAMP_MAX : stamp;
}

// Takes one record, if it has an id that may be inside the window.
static int dedup_take(struct dedup_load *l, struct lt_partition *p, const uint8_t *record,
                      int64_t offset) {
    struct lt_mem *mem = &p->mq->mem;
    leat_bytes id = lt_record_field(record, LT_FIELD_DEDUP_ID);
    if (id.size == 0)
        return 0;
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        struct dedup_found *grown = lt_resize(mem, l->found, room * sizeof *grown);
        if (!grown)
            return lt_fail_nomem();
        l->found = grown;
        l->room = room;
    }
    int64_t stamp = dedup_read_stamp(record);
    struct lt_dedup_id *e = dedup_make(l->d, id, p);
    if (!e)
        return lt_fail_nomem();
    e->offset = offset;
    e->timestamp_ms = lt_record_timestamp(record);
    // No record is of the future. One of a clock that was wrong is remembered for too long rather.
    if (__builtin_add_overflow(stamp / DEDUP_NS, p->slow_ms, &e->at_ms) || e->at_ms > l->now_ms)
        e->at_ms = l->now_ms;
    l->found[l->count++] = (struct dedup_found){ stamp, e };
    return 0;
}

static int dedup_read(struct dedup_load *l, struct lt_partition *p, int64_t from, int64_t end) {
    struct lt_cursor c;
    int rc = 0;
    lt_cursor_init(&c, p, from);
    while (rc == 0 && c.offset < end) {
        int found = lt_cursor_find(&c, end);
        if (found == LEAT_ECORRUPT) {
            lt_say(p->mq, LEAT_LOG_WARNING,
                   "topic %s partition %d: offset %lld is damaged: its dedup id is not known",
                   p->topic->name, p->number, (long long)c.offset);
            lt_cursor_seek(&c, c.offset + 1);
        } else if (found == 1) {
            rc = dedup_take(l, p, c.seg->map + c.at, c.offset);
            lt_cursor_advance(&c, lt_cursor_size(&c));
        } else {
            rc = found;
            break;
        }
    }
    lt_cursor_fini(&c);
    return rc;
}

// Reads those segments of a partition that can be inside the window, the newest first.
static int dedup_load_partition(struct dedup_load *l, struct lt_partition *p) {
    const struct lt_dedup *d = l->d;
    const size_t before = l->count;
    int64_t begin = atomic_load(&p->begin), age_ms;
    int rc = 0;
    for (size_t i = p->count; rc == 0 && i > 0; i--) {
        const struct lt_segment *s = p->segs[i - 1];
        if (d->window_count != 0 && l->count - before >= (size_t)d->window_count)
            break;
        bool old = d->window_ms != 0 &&
                   !__builtin_sub_overflow(l->now_ms - p->slow_ms, s->appended_ms, &age_ms) &&
                   age_ms >= d->window_ms;
        if (!old && s->fields)
            rc = dedup_read(l, p, begin > s->base ? begin : s->base, s->base + s->count);
    }
    return rc;
}

static int dedup_order(const void *a, const void *b) {
    const struct dedup_found *x = a, *y = b;
    if (x->stamp != y->stamp)
        return x->stamp > y->stamp ? 1 : -1;
    int part = x->entry->p->number - y->entry->p->number;
    return part ? part
                : (x->entry->offset > y->entry->offset) - (x->entry->offset < y->entry->offset);
}

// Remembers what was found as if it were sent now, in the order in which it was. An id that was
// sent again after it was forgotten is the later one.
static int dedup_replay(struct dedup_load *l) {
    struct lt_dedup *d = l->d;
    for (size_t i = 0; i < l->count; i++) {
        struct lt_dedup_id *e = l->found[i].entry;
        dedup_forget(d, e->at_ms);
        struct lt_dedup_id *again = lt_map_get(&d->ids, e->id, e->size);
        if (again)
            dedup_drop(d, again);
        if (lt_map_put(&d->ids, e->id, e->size, e) != 0)
            return lt_fail_nomem();
        l->found[i].entry = NULL;
        dedup_store(d, e);
        atomic_store_explicit(&d->stamp, l->found[i].stamp, memory_order_relaxed);
    }
    dedup_forget(d, l->now_ms);
    for (struct lt_node *n = d->by_age.head.prev; n != &d->by_age.head; n = n->prev) {
        struct lt_dedup_id *e = LT_CONTAINER(n, struct lt_dedup_id, by_age);
        struct lt_node *next = lt_list_first(&e->p->dedup_ids);
        e->low = next ? LT_CONTAINER(next, struct lt_dedup_id, in_part)->low : INT64_MAX;
        e->low = e->offset < e->low ? e->offset : e->low;
        lt_list_push_front(&e->p->dedup_ids, &e->in_part);
    }
    return 0;
}

int lt_dedup_load(leat_topic *t) {
    struct dedup_load l = { .d = t->dedup, .now_ms = lt_steady_ms(t->mq) };
    int rc = 0;
    for (int32_t i = 0; rc == 0 && i < t->partitions; i++)
        rc = dedup_load_partition(&l, lt_topic_part(t, i));
    if (rc == 0 && l.count > 0) {
        qsort(l.found, l.count, sizeof *l.found, dedup_order);
        lt_lock(&l.d->lock);
        rc = dedup_replay(&l);
        lt_unlock(&l.d->lock);
    }
    for (size_t i = 0; i < l.count; i++) // those that were not taken
        lt_free(&t->mq->mem, l.found[i].entry);
    lt_free(&t->mq->mem, l.found);
    return rc;
}
