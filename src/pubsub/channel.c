/* SPDX-License-Identifier: MIT */
// The table, the lists, and publishing. See channel.h for the invariants.
//
// A publish: find the channel, walk its list, walk the patterns. Its own price is two counter steps
// of grace, and for each who hears it two steps of that subscription's word; and the wall clock,
// which costs as much as all of the rest and is therefore read only when somebody hears it.
#include "leat_test.h"
#include "pubsub/channel.h"

#include "base/hash.h"
#include "pubsub/pattern.h"
#include "pubsub/pubsub.h"

#include <string.h>

enum { CHANNEL_SLOTS_MIN = 16 };

// channel_gone marks a slot whose channel went. No name is that long. Never written.
static struct lt_channel channel_gone = { .name_len = SIZE_MAX };

// ---- the table

static struct lt_channel *channel_find(const struct lt_channels *cs, const char *name, size_t n,
                                       uint64_t hash) {
    struct lt_channel_table *t = atomic_load(&cs->table);
    if (!t)
        return NULL;
    for (size_t i = (size_t)hash & t->mask;; i = (i + 1) & t->mask) {
        struct lt_channel *ch = atomic_load(&t->slot[i]);
        if (!ch || (ch->hash == hash && ch->name_len == n && memcmp(ch->name, name, n) == 0))
            return ch;
    }
}

// channel_put stores ch in the first free slot on its way.
static void channel_put(struct lt_channel_table *t, struct lt_channel *ch) {
    size_t i = (size_t)ch->hash & t->mask;
    while (atomic_load(&t->slot[i]))
        i = (i + 1) & t->mask;
    atomic_store(&t->slot[i], ch);
}

static void channel_table_free(struct lt_retired *r) {
    struct lt_channel_table *t = LT_CONTAINER(r, struct lt_channel_table, retired);
    lt_free(t->mem, t);
}

static void channel_free(struct lt_retired *r) {
    struct lt_channel *ch = LT_CONTAINER(r, struct lt_channel, retired);
    lt_free(ch->mem, ch);
}

// channel_room_locked makes room for one channel more. A new table is at most half full, so that
// the next one is needed only after a quarter of its slots were taken.
static int channel_room_locked(leat *mq) {
    struct lt_channels *cs = mq->channels;
    struct lt_channel_table *old = atomic_load(&cs->table);
    size_t slots = old ? old->mask + 1 : 0;
    if (cs->used + 1 <= slots / 4 * 3)
        return 0;
    for (slots = CHANNEL_SLOTS_MIN; slots / 2 < cs->live + 1;)
        slots *= 2;
    struct lt_channel_table *t = lt_zalloc(&mq->mem, sizeof *t + slots * sizeof t->slot[0]);
    if (!t)
        return lt_fail_nomem();
    t->mem = &mq->mem;
    t->mask = slots - 1;
    for (size_t i = 0; i < slots; i++)
        atomic_init(&t->slot[i], NULL);
    for (size_t i = 0; old && i <= old->mask; i++) {
        struct lt_channel *ch = atomic_load(&old->slot[i]);
        if (ch && ch != &channel_gone)
            channel_put(t, ch);
    }
    cs->used = cs->live;
    atomic_store(&cs->table, t);
    if (old)
        lt_grace_retire(&cs->grace, &old->retired, channel_table_free);
    return 0;
}

int lt_channel_make_locked(leat *mq, const char *name, size_t name_len, struct lt_channel **out) {
    struct lt_channels *cs = mq->channels;
    uint64_t hash = lt_hash_bytes(name, name_len, cs->seed);
    *out = channel_find(cs, name, name_len, hash);
    if (*out)
        return 0;
    struct lt_channel *ch = lt_zalloc(&mq->mem, sizeof *ch + name_len + 1);
    if (!ch)
        return lt_fail_nomem();
    int rc = channel_room_locked(mq);
    if (rc != 0) {
        lt_free(&mq->mem, ch);
        return rc;
    }
    ch->mem = &mq->mem;
    atomic_init(&ch->listeners.first, NULL);
    ch->hash = hash;
    ch->name_len = name_len;
    memcpy(ch->name, name, name_len);
    channel_put(atomic_load(&cs->table), ch);
    cs->live++;
    cs->used++;
    *out = ch;
    return 0;
}

static void channel_remove_locked(struct lt_channels *cs, struct lt_channel *ch) {
    struct lt_channel_table *t = atomic_load(&cs->table);
    size_t i = (size_t)ch->hash & t->mask;
    while (atomic_load(&t->slot[i]) != ch)
        i = (i + 1) & t->mask;
    atomic_store(&t->slot[i], &channel_gone);
    cs->live--;
    lt_grace_retire(&cs->grace, &ch->retired, channel_free);
}

// ---- the lists

void lt_channel_join_locked(struct lt_channels *cs, leat_subscription *s) {
    struct lt_listeners *l = s->channel ? &s->channel->listeners : &cs->patterns;
    s->serial = atomic_load(&cs->serial) + 1;
    s->prev = l->last;
    atomic_store(&s->next, NULL);
    atomic_store(l->last ? &l->last->next : &l->first, s);
    l->last = s;
    atomic_store(&cs->serial, s->serial);
}

void lt_channel_leave_locked(struct lt_channels *cs, leat_subscription *s) {
    struct lt_listeners *l = s->channel ? &s->channel->listeners : &cs->patterns;
    leat_subscription *next = atomic_load(&s->next);
    atomic_store(s->prev ? &s->prev->next : &l->first, next);
    if (next)
        next->prev = s->prev;
    else
        l->last = s->prev;
    if (s->channel && !l->last)
        channel_remove_locked(cs, s->channel);
}

// ---- publishing

static void channel_trace(leat *mq, const char *name) {
    leat_metadata where = { .topic = name, .offset = -1, .partition = -1 };
    lt_trace(mq, "publish", name, &where, 0);
}

// channel_deliver calls who listens: *m goes to ch's own (ch may be NULL), then to the patterns'.
// Returns  how many heard it.
static int channel_deliver(leat *mq, struct lt_channel *ch, leat_message *m, size_t name_len) {
    struct lt_channels *cs = mq->channels;
    uint64_t serial = atomic_load(&cs->serial); // before any list, see invariant 3
    int heard = 0;
    leat_subscription *s = ch ? atomic_load(&ch->listeners.first) : NULL;
    for (; s && s->serial <= serial; s = atomic_load(&s->next)) {
        if (heard == 0)
            m->timestamp_ms = lt_wall_ms(mq);
        heard += lt_subscription_deliver(s, m) ? 1 : 0;
    }
    s = atomic_load(&cs->patterns.first);
    for (; s && s->serial <= serial; s = atomic_load(&s->next)) {
        if (!lt_glob_match(s->pattern, s->pattern_len, m->topic, name_len))
            continue;
        if (heard == 0)
            m->timestamp_ms = lt_wall_ms(mq);
        m->pattern = s->pattern;
        heard += lt_subscription_deliver(s, m) ? 1 : 0;
    }
    return heard;
}

int leat_publish(leat *mq, const char *channel, const void *data, size_t size) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!channel)
        return lt_check_name("channel", channel);
    if (!data && size != 0)
        return lt_fail(LEAT_EINVAL, "channel %.32s: %zu bytes at NULL", channel, size);
    rc = lt_fault(mq, LEAT_OP_PUBLISH, channel, -1, true);
    if (rc != 0)
        return rc;
    struct lt_channels *cs = mq->channels;
    size_t n = strnlen(channel, LT_PATTERN_MAX + 1);
    uint64_t hash = lt_hash_bytes(channel, n, cs->seed);
    uint32_t token = lt_grace_enter(&cs->grace);
    // What is in the table was checked when it came there.
    struct lt_channel *ch = channel_find(cs, channel, n, hash);
    if (!ch && !lt_is_channel_name(channel, n))
        rc = lt_check_name("channel", channel);
    if (rc == 0) {
        if (mq->trace)
            channel_trace(mq, channel);
        leat_message m = { .value = { data ? data : "", size }, .topic = channel, .offset = -1 };
        rc = channel_deliver(mq, ch, &m, n);
    }
    if (rc < 0)
        atomic_fetch_add_explicit(&cs->no_publish, 1, memory_order_relaxed);
    lt_grace_leave(&cs->grace, token);
    return rc;
}

// Every publish is a section of grace.
void lt_channels_count(const leat *mq, leat_stats *s) {
    const struct lt_channels *cs = mq->channels;
    s->published +=
        lt_grace_entered(&cs->grace) - atomic_load_explicit(&cs->no_publish, memory_order_relaxed);
}

// ---- the room

int lt_channels_open(leat *mq) {
    struct lt_channels *cs = lt_zalloc(&mq->mem, sizeof *cs);
    if (!cs)
        return lt_fail_nomem();
    if (lt_mutex_init(&cs->lock, LT_RANK_CHANNELS) != 0)
        goto no_lock;
    if (lt_mutex_init(&cs->idle_lock, LT_RANK_LEAF) != 0)
        goto no_idle_lock;
    if (lt_cond_init(&cs->idle) != 0)
        goto no_idle;
    cs->seed = lt_chance_next(mq);
    atomic_init(&cs->table, NULL);
    atomic_init(&cs->patterns.first, NULL);
    atomic_init(&cs->serial, 0);
    lt_grace_init(&cs->grace);
    mq->channels = cs;
    return 0;
no_idle:
    lt_mutex_fini(&cs->idle_lock);
no_idle_lock:
    lt_mutex_fini(&cs->lock);
no_lock:
    lt_free(&mq->mem, cs);
    return LEAT_ENOMEM;
}

static void channel_free_listeners(leat *mq, struct lt_listeners *l) {
    leat_subscription *s = atomic_load(&l->first);
    while (s) {
        leat_subscription *next = atomic_load(&s->next);
        lt_free(&mq->mem, s);
        s = next;
    }
}

void lt_channels_close(leat *mq) {
    struct lt_channels *cs = mq->channels;
    if (!cs)
        return;
    mq->channels = NULL;
    channel_free_listeners(mq, &cs->patterns);
    struct lt_channel_table *t = atomic_load(&cs->table);
    for (size_t i = 0; t && i <= t->mask; i++) {
        struct lt_channel *ch = atomic_load(&t->slot[i]);
        if (!ch || ch == &channel_gone)
            continue;
        channel_free_listeners(mq, &ch->listeners);
        lt_free(&mq->mem, ch);
    }
    lt_free(&mq->mem, t);
    // In a forked child the parent's other threads are gone, but what they held and counted is
    // not: a mutex may be locked for ever, and destroying a condition would wait for its waiters.
    if (!lt_forked(mq)) {
        lt_grace_drain(&cs->grace);
        lt_cond_fini(&cs->idle);
        lt_mutex_fini(&cs->idle_lock);
        lt_mutex_fini(&cs->lock);
    }
    lt_free(&mq->mem, cs);
}
