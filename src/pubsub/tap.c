/* SPDX-License-Identifier: MIT */
#include "pubsub/tap.h"

#include "pubsub/pubsub.h"
#include "pubsub/queued.h"

enum { TAP_RUN = 64 }; // messages of a partition before another one has its turn

// ---- parts

static int64_t tap_end(const struct lt_partition *p) {
    return atomic_load_explicit(&p->end, memory_order_acquire);
}

// Has the topic got partitions that were not taken in?
static bool tap_has_grown(const struct lt_tap *tap) {
    return tap->only < 0 && tap->count != atomic_load(&tap->topic->partitions);
}

// Locks: the queued's, or nobody has found it yet.
static int tap_add(struct lt_tap *tap, int32_t number, int64_t offset) {
    struct lt_mem *mem = &tap->s->mq->mem;
    struct lt_tap_part *part = lt_alloc(mem, ((size_t)tap->count + 1) * sizeof *part);
    if (!part)
        return lt_fail_nomem();
    for (int32_t i = 0; i < tap->count; i++)
        part[i] = tap->part[i];
    lt_free(mem, tap->part);
    tap->part = part;
    part += tap->count++;
    *part = (struct lt_tap_part){ .at = offset };
    lt_cursor_init(&part->cursor, lt_topic_part(tap->topic, number), offset);
    return 0;
}

// Takes the partitions in that the topic has got since, from their begin.
static int tap_catch_up(struct lt_tap *tap) {
    if (!tap_has_grown(tap))
        return 0;
    struct lt_queued *q = tap->s->queued;
    int rc = 0;
    lt_lock(&q->lock);
    while (rc == 0 && tap_has_grown(tap)) {
        rc = tap_add(tap, tap->count, 0);
        if (rc == 0 && q->sealed)
            tap->part[tap->count - 1].until = tap_end(tap->part[tap->count - 1].cursor.p);
    }
    lt_unlock(&q->lock);
    return rc;
}

// ---- looking

// What lies before the cursor, from `from` on, was lost.
static void tap_lose(struct lt_tap *tap, struct lt_tap_part *part, int64_t from) {
    struct lt_queued *q = tap->s->queued;
    lt_lock(&q->lock);
    tap->lost += (uint64_t)(part->cursor.offset - from);
    tap->dropped += (uint64_t)(part->cursor.offset - from);
    part->at = part->cursor.offset;
    lt_unlock(&q->lock);
}

// Nothing is there below `end`: say so.
static void tap_rest(struct lt_tap *tap, struct lt_tap_part *part, int64_t end) {
    struct lt_queued *q = tap->s->queued;
    part->seen = end;
    if (part->at >= end)
        return;
    lt_lock(&q->lock);
    part->at = end;
    lt_unlock(&q->lock);
}

// Returns  as lt_cursor_find. What retention took, also while this looks, and what is damaged, is
// counted as lost.
static int tap_look(struct lt_tap *tap, struct lt_tap_part *part) {
    for (;;) {
        int64_t begin = atomic_load(&part->cursor.p->begin), end = tap_end(part->cursor.p);
        int64_t from = part->cursor.offset;
        if (from >= begin && lt_cursor_stands(&part->cursor, end))
            return 1;
        if (from < begin)
            lt_cursor_seek(&part->cursor, begin);
        int rc = lt_cursor_find(&part->cursor, end);
        if (rc == LEAT_ECORRUPT)
            lt_cursor_seek(&part->cursor, part->cursor.offset + 1);
        if (part->cursor.offset > from)
            tap_lose(tap, part, from);
        if (rc == 0)
            tap_rest(tap, part, end);
        if (rc != LEAT_ECORRUPT)
            return rc;
    }
}

static void tap_turn(struct lt_tap *tap) {
    tap->turn = tap->turn + 1 < tap->count ? tap->turn + 1 : 0;
    tap->run = 0;
}

// Asks for a ring. Returns  whether there is news already.
static bool tap_arm(struct lt_tap *tap) {
    bool there = tap_has_grown(tap);
    for (int32_t i = 0; i < tap->count; i++)
        there |= lt_partition_arm(tap->part[i].cursor.p, tap->part[i].seen);
    return there;
}

// Something failed: the next append, wherever it is, rings.
static void tap_arm_all(struct lt_tap *tap) {
    for (int32_t i = 0; tap->only < 0 && i < atomic_load(&tap->topic->partitions); i++)
        (void)lt_partition_arm(lt_topic_part(tap->topic, i), INT64_MAX);
    if (tap->only >= 0)
        (void)lt_partition_arm(tap->part[0].cursor.p, INT64_MAX);
}

static int tap_find(struct lt_tap *tap) {
    int rc = tap_catch_up(tap);
    if (rc == 0)
        rc = lt_topic_alive(tap->topic);
    if (rc == 0 && tap->run == TAP_RUN)
        tap_turn(tap);
    for (int32_t i = 0; rc == 0 && i < tap->count; i++) {
        rc = tap_look(tap, &tap->part[tap->turn]);
        if (rc == 0)
            tap_turn(tap);
    }
    return rc;
}

int lt_tap_find(struct lt_tap *tap) {
    leat *mq = tap->s->mq;
    int rc = lt_begin(mq, LT_CALL_CB);
    if (rc != 0)
        return rc;
    do
        rc = tap_find(tap);
    while (rc == 0 && tap_arm(tap));
    return lt_end(mq, rc);
}

// ---- giving

// Makes the token pin the segment of the message, and ends the view of the one before.
static int tap_pin(struct lt_tap *tap, struct lt_segment *s) {
    leat *mq = tap->s->mq;
    if (tap->pinned == s && tap->token) {
        tap->token = lt_pin_renew(mq, tap->token);
        return 0;
    }
    uint64_t token;
    lt_segment_keep(s);
    int rc = lt_pin_add(mq, LT_PIN_POLL, &s->pinned, &token);
    if (rc != 0) {
        lt_segment_drop(s);
        return rc;
    }
    if (tap->token)
        (void)lt_pin_end(mq, tap->token, LT_PIN_POLL);
    tap->token = token;
    tap->pinned = s;
    return 0;
}

int lt_tap_take_locked(struct lt_tap *tap, enum lt_pin_kind kind, leat_message *m) {
    struct lt_tap_part *part = &tap->part[tap->turn];
    struct lt_segment *s = part->cursor.seg;
    int rc;
    if (kind == LT_PIN_POLL) {
        rc = tap_pin(tap, s);
    } else {
        lt_segment_keep(s);
        rc = lt_pin_add(tap->s->mq, kind, &s->pinned, &m->view);
        if (rc != 0)
            lt_segment_drop(s);
    }
    if (rc != 0)
        return rc;
    uint64_t view = kind == LT_PIN_POLL ? tap->token : m->view;
    lt_cursor_read(&part->cursor, m);
    m->view = view;
    m->dropped = tap->lost;
    tap->lost = 0;
    lt_cursor_advance(&part->cursor, lt_cursor_size(&part->cursor));
    part->at = part->cursor.offset;
    tap->run++;
    return 0;
}

int lt_tap_round_locked(struct lt_tap *tap, int max) {
    leat_subscription *s = tap->s;
    struct lt_queued *q = s->queued;
    int n = 0, rc = 1;
    while (n < max && (q->stop_after == 0 || q->taken < q->stop_after)) {
        leat_message m;
        lt_unlock(&q->lock);
        rc = lt_tap_find(tap);
        lt_lock(&q->lock);
        if (rc == 1 && !q->closed) {
            rc = lt_tap_take_locked(tap, LT_PIN_POLL, &m);
            rc = rc == 0 ? 1 : rc;
        }
        if (rc != 1 || q->closed)
            break;
        q->taken++;
        n++;
        lt_unlock(&q->lock);
        lt_subscription_call(s, &m);
        lt_lock(&q->lock);
    }
    tap->stuck = rc < 0;
    if (rc < 0 && rc != LEAT_ECLOSED && rc != LEAT_EGONE) { // the next append has it try again
        lt_unlock(&q->lock);
        lt_say(s->mq, LEAT_LOG_WARNING, "tap of topic %s: %s", tap->topic->name, leat_errmsg());
        tap_arm_all(tap);
        lt_lock(&q->lock);
    }
    return n;
}

uint64_t lt_tap_waiting(const struct lt_tap *tap) {
    uint64_t sum = 0;
    for (int32_t i = 0; i < tap->count; i++) {
        int64_t end = tap_end(tap->part[i].cursor.p);
        sum += end > tap->part[i].at ? (uint64_t)(end - tap->part[i].at) : 0;
    }
    for (int32_t i = tap->count; tap->only < 0 && i < atomic_load(&tap->topic->partitions); i++)
        sum += (uint64_t)tap_end(lt_topic_part(tap->topic, i)); // they are not taken in yet
    return sum;
}

void lt_tap_drain_locked(struct lt_tap *tap) {
    tap->stuck = false; // it tries once more what failed
    tap->fresh = atomic_load(&tap->topic->partitions);
    for (int32_t i = 0; i < tap->count; i++)
        tap->part[i].until = tap_end(tap->part[i].cursor.p);
}

bool lt_tap_drains(const struct lt_tap *tap) {
    bool owes = tap->only < 0 && tap->count < tap->fresh;
    for (int32_t i = 0; i < tap->count; i++)
        owes |= tap->part[i].at < tap->part[i].until;
    return owes && !tap->stuck;
}

bool lt_tap_has_news(const struct lt_tap *tap) {
    return lt_tap_waiting(tap) > 0 || tap_has_grown(tap) || atomic_load(&tap->topic->gone);
}

// ---- beginning and end

static void tap_hear(struct lt_ear *ear) {
    lt_queued_ring(LT_CONTAINER(ear, struct lt_tap, ear)->s);
}

static int tap_begin_at(struct lt_tap *tap, int32_t number, int64_t from) {
    struct lt_partition *p = lt_topic_partition(tap->topic, number);
    int64_t offset;
    int rc = p ? lt_offset_resolve(p, -1, from, &offset) : LEAT_ERANGE;
    return rc == 0 ? tap_add(tap, number, offset) : rc;
}

static int tap_open(leat_subscription *s, leat_topic *t, int32_t partition, int64_t from) {
    struct lt_tap *tap = lt_zalloc(&s->mq->mem, sizeof *tap);
    if (!tap)
        return lt_fail_nomem();
    *tap = (struct lt_tap){ .s = s, .topic = t, .only = partition };
    tap->ear.hear = tap_hear;
    lt_node_init(&tap->ear.node);
    int32_t count = partition >= 0 ? 1 : atomic_load(&t->partitions);
    int rc = 0;
    for (int32_t i = 0; rc == 0 && i < count; i++)
        rc = tap_begin_at(tap, partition >= 0 ? partition : i, from);
    if (rc != 0) {
        lt_tap_free(tap);
        return rc;
    }
    s->tap = tap;
    return 0;
}

void lt_tap_deafen(struct lt_tap *tap) {
    if (tap) // whether it is in the list is for the bell's lock
        lt_bell_remove(&tap->topic->bell, &tap->ear);
}

void lt_tap_free(struct lt_tap *tap) {
    if (!tap)
        return;
    struct lt_mem *mem = &tap->s->mq->mem;
    if (tap->token)
        (void)lt_pin_end(tap->s->mq, tap->token, LT_PIN_POLL);
    for (int32_t i = 0; i < tap->count; i++)
        lt_cursor_fini(&tap->part[i].cursor);
    lt_free(mem, tap->part);
    lt_free(mem, tap);
}

void lt_tap_forget(struct lt_tap *tap) {
    if (!tap)
        return;
    lt_free(&tap->s->mq->mem, tap->part);
    lt_free(&tap->s->mq->mem, tap);
}

// ---- public

static int tap_check(const leat_subscription_options *o) {
    if (o->buffer != 0 || o->buffer_bytes != 0 || o->when_full != 0 || o->block_ms != 0 ||
        o->tokens != 0)
        return lt_fail(LEAT_EINVAL, "tap: the log is the buffer; .stop_after, .name, .on_end only");
    if (o->stop_after < 0)
        return lt_fail(LEAT_EINVAL, "tap: stop_after is %lld", (long long)o->stop_after);
    return lt_check_reserved("leat_subscription_options", o->reserved, 8);
}

int lt_tap_make(leat_subscription *s, leat_topic *t, int32_t partition, int64_t from,
                const leat_subscription_options *o) {
    int rc = tap_open(s, t, partition, from);
    return rc == 0 ? lt_queued_begin(s, o) : rc;
}

// The errand, as soon as it is posted, calls fn, which may close s: so it waits for the lock.
int lt_tap_start(leat_subscription *s) {
    struct lt_queued *q = s->queued;
    int rc = 0;
    lt_lock(&q->lock);
    lt_bell_add(&s->tap->topic->bell, &s->tap->ear);
    if (!q->pulled)
        rc = lt_errand_post(s->mq, &q->errand); // for what is there
    q->closed = rc != 0;                        // it was posted all the same
    lt_unlock(&q->lock);
    return rc;
}

int leat_topic_tap(leat_topic *t, int32_t partition, int64_t from, leat_message_fn fn, void *ctx,
                   const leat_subscription_options *o, leat_subscription **out) {
    static const leat_subscription_options defaults;
    o = o ? o : &defaults;
    if (out)
        *out = NULL;
    int rc = lt_enter(t ? t->mq : NULL, LT_CALL_CB);
    if (rc == 0 && !out)
        rc = lt_fail(LEAT_EINVAL, "tap: out is NULL");
    if (rc == 0 && partition < -1)
        rc = lt_fail(LEAT_ERANGE, "tap of topic %s: partition %d", t->name, partition);
    if (rc == 0)
        rc = tap_check(o);
    if (rc == 0)
        rc = lt_topic_alive(t);
    if (rc != 0)
        return rc;
    leat_subscription *s = lt_subscription_new(t->mq, t->name, o->name);
    if (!s)
        return LEAT_ENOMEM;
    s->fn = fn;
    s->ctx = ctx;
    s->on_end = o->on_end;
    s->exact = true;
    leat *mq = t->mq;
    rc = lt_tap_make(s, t, partition, from, o);
    if (rc == 0) {
        *out = s;
        lt_child_add(mq, &s->child); // before fn may close it
        rc = lt_tap_start(s);
        if (rc == 0)
            return 0;
        *out = NULL;
        lt_child_remove(mq, &s->child);
    }
    lt_subscription_drop(s);
    return rc;
}
