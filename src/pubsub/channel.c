/* SPDX-License-Identifier: MIT */
// The table, the lists, and publishing. See channel.h for the invariants.
//
// A publish: find the channel, walk its list, then the patterns by prefix. Its own price is two
// counter steps of grace, and for each who hears it one step of the publish's place; and the wall
// clock, which costs half of the rest and is therefore read only when somebody hears it.
#include "leat_test.h"
#include "pubsub/channel.h"

#include "base/hash.h"
#include "pubsub/announce.h"
#include "pubsub/pattern.h"
#include "pubsub/pubsub.h"
#include "pubsub/queued.h"

#include <string.h>

enum { CHANNEL_SLOTS_MIN = 16 };

struct lt_channel lt_channel_gone = { .name_len = SIZE_MAX };

// ---- the table

static struct lt_channel *channel_find(const struct lt_names *names, const char *name, size_t n,
                                       uint64_t hash) {
    struct lt_channel_table *t = atomic_load(&names->table);
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

// channel_room_locked makes room for one name more. A new table is at most half full, so that
// the next one is needed only after a quarter of its slots were taken.
static int channel_room_locked(leat *mq, struct lt_names *names) {
    struct lt_channel_table *old = atomic_load(&names->table);
    size_t slots = old ? old->mask + 1 : 0;
    if (names->used + 1 <= slots / 4 * 3)
        return 0;
    for (slots = CHANNEL_SLOTS_MIN; slots / 2 < names->live + 1;)
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
        if (ch && ch != &lt_channel_gone)
            channel_put(t, ch);
    }
    names->used = names->live;
    atomic_store(&names->table, t);
    if (old)
        lt_grace_retire(&mq->channels->grace, &old->retired, channel_table_free);
    return 0;
}

// channel_make_locked finds what stands under that name, or makes it.
static int channel_make_locked(leat *mq, struct lt_names *names, const char *name, size_t name_len,
                               struct lt_channel **out) {
    uint64_t hash = lt_hash_bytes(name, name_len, mq->channels->seed);
    *out = channel_find(names, name, name_len, hash);
    if (*out)
        return 0;
    struct lt_channel *ch = lt_zalloc(&mq->mem, sizeof *ch + name_len + 1);
    if (!ch)
        return lt_fail_nomem();
    int rc = channel_room_locked(mq, names);
    if (rc != 0) {
        lt_free(&mq->mem, ch);
        return rc;
    }
    ch->mem = &mq->mem;
    atomic_init(&ch->listeners.first, NULL);
    ch->hash = hash;
    ch->name_len = name_len;
    memcpy(ch->name, name, name_len);
    channel_put(atomic_load(&names->table), ch);
    names->live++;
    names->used++;
    *out = ch;
    return 0;
}

static void channel_remove_locked(struct lt_channels *cs, struct lt_names *names,
                                  struct lt_channel *ch) {
    struct lt_channel_table *t = atomic_load(&names->table);
    size_t i = (size_t)ch->hash & t->mask;
    while (atomic_load(&t->slot[i]) != ch)
        i = (i + 1) & t->mask;
    atomic_store(&t->slot[i], &lt_channel_gone);
    names->live--;
    lt_grace_retire(&cs->grace, &ch->retired, channel_free);
}

// Says that there is one prefix of that length more, or less.
static void channel_count_length(struct lt_channels *cs, size_t n, bool more) {
    cs->length_count[n] += more ? 1u : UINT32_MAX;
    uint64_t bit = UINT64_C(1) << (n & 63), word = atomic_load(&cs->lengths[n / 64]);
    atomic_store(&cs->lengths[n / 64], cs->length_count[n] ? word | bit : word & ~bit);
}

// ---- the lists

int lt_channel_join_locked(leat *mq, leat_subscription *s) {
    struct lt_channels *cs = mq->channels;
    bool prefix = s->names == &cs->prefixes;
    size_t n = s->pattern_len;
    if (prefix)
        n = s->tokens ? lt_tokens_literal(s->pattern) : lt_glob_literal(s->pattern);
    int rc = channel_make_locked(mq, s->names, s->pattern, n, &s->channel);
    if (rc != 0)
        return rc;
    struct lt_listeners *l = &s->channel->listeners;
    if (prefix && !l->last)
        channel_count_length(cs, n, true);
    s->serial = atomic_load(&cs->serial) + 1;
    s->prev = l->last;
    atomic_store(&s->next, NULL);
    atomic_store(l->last ? &l->last->next : &l->first, s);
    l->last = s;
    atomic_store(&cs->serial, s->serial);
    return 0;
}

void lt_channel_leave_locked(struct lt_channels *cs, leat_subscription *s) {
    if (!s->channel)
        return;
    struct lt_listeners *l = &s->channel->listeners;
    leat_subscription *next = atomic_load(&s->next);
    atomic_store(s->prev ? &s->prev->next : &l->first, next);
    if (next)
        next->prev = s->prev;
    else
        l->last = s->prev;
    struct lt_channel *ch = s->channel;
    s->channel = NULL;
    if (l->last)
        return;
    size_t n = ch->name_len;
    channel_remove_locked(cs, s->names, ch);
    if (s->names == &cs->prefixes)
        channel_count_length(cs, n, false);
}

// ---- publishing

static void channel_trace(leat *mq, const char *name) {
    leat_metadata where = { .topic = name, .offset = -1, .partition = -1 };
    lt_trace(mq, "publish", name, &where, 0);
}

static bool channel_matches(const leat_subscription *s, size_t n, const char *name,
                            size_t name_len) {
    return (s->tokens ? lt_tokens_match : lt_glob_match)(s->pattern + n, s->pattern_len - n,
                                                         name + n, name_len - n);
}

// channel_each shows visit, as *call has it, each who listens: first ch's own (ch may be NULL),
// then the patterns' whose prefix the name has, with their pattern.
static inline void
channel_each(struct lt_publish *call, struct lt_channel *ch, const char *name, size_t name_len,
             void (*visit)(struct lt_publish *call, leat_subscription *s, const char *pattern)) {
    struct lt_channels *cs = call->mq->channels;
    leat_subscription *s = ch ? atomic_load(&ch->listeners.first) : NULL;
    for (; s && s->serial <= call->serial; s = atomic_load(&s->next))
        visit(call, s, NULL);
    for (size_t w = 0; w <= name_len / 64; w++)
        for (uint64_t bits = atomic_load(&cs->lengths[w]); bits; bits &= bits - 1) {
            size_t n = w * 64 + (size_t)__builtin_ctzll(bits);
            if (n > name_len)
                break;
            ch = channel_find(&cs->prefixes, name, n, lt_hash_bytes(name, n, cs->seed));
            s = ch ? atomic_load(&ch->listeners.first) : NULL;
            for (; s && s->serial <= call->serial; s = atomic_load(&s->next))
                if (channel_matches(s, n, name, name_len))
                    visit(call, s, s->pattern);
        }
}

static inline void channel_hear(struct lt_publish *call, leat_subscription *s,
                                const char *pattern) {
    if (call->heard == 0 && !call->dated)
        call->m->timestamp_ms = lt_wall_ms(call->mq);
    call->m->pattern = pattern;
    bool heard =
        s->queued ? lt_queued_hear(s, call) : lt_subscription_deliver(&call->stand, s, call->m);
    call->heard += heard ? 1 : 0;
}

static void channel_count(struct lt_publish *call, leat_subscription *s, const char *pattern) {
    (void)s;
    (void)pattern;
    call->heard++;
}

int leat_channel_count(leat *mq, const char *channel) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc == 0)
        rc = lt_check_name("channel", channel);
    if (rc != 0)
        return rc;
    struct lt_channels *cs = mq->channels;
    size_t n = strlen(channel);
    uint32_t token = lt_grace_enter(&cs->grace);
    atomic_fetch_add_explicit(&cs->no_publish, 1, memory_order_relaxed);
    struct lt_publish call = { .mq = mq, .serial = atomic_load(&cs->serial) };
    uint64_t hash = lt_hash_bytes(channel, n, cs->seed);
    channel_each(&call, channel_find(&cs->names, channel, n, hash), channel, n, channel_count);
    lt_grace_leave(&cs->grace, token);
    return call.heard;
}

static int channel_publish(leat *mq, const char *channel, leat_message *m) {
    struct lt_channels *cs = mq->channels;
    size_t n = strnlen(channel, LT_PATTERN_MAX + 1);
    uint64_t hash = lt_hash_bytes(channel, n, cs->seed);
    struct lt_publish call = { .mq = mq, .m = m, .dated = m->timestamp_ms != 0 };
    uint32_t token = lt_grace_enter(&cs->grace);
    // What is in the table was checked when it came there.
    struct lt_channel *ch = channel_find(&cs->names, channel, n, hash);
    if (!ch && !lt_is_channel_name(channel, n))
        call.rc = lt_check_name("channel", channel);
    if (call.rc == 0) {
        if (mq->trace)
            channel_trace(mq, channel);
        m->topic = channel;
        call.serial = atomic_load(&cs->serial);
        int place = lt_grace_place(token);
        if (place >= 0)
            call.stand.place = &cs->place[place];
        channel_each(&call, ch, channel, n, channel_hear);
        lt_stand_leave(&call.stand);
        if (call.copy)
            lt_queued_done(&call);
        if (call.rc == LEAT_EFULL) // said here: those called since may have said something else
            (void)lt_fail(LEAT_EFULL, "channel %.32s: subscription %s has no room", channel,
                          call.full->child.name);
    } else {
        atomic_fetch_add_explicit(&cs->no_publish, 1, memory_order_relaxed);
    }
    lt_grace_leave(&cs->grace, token);
    int rc = call.rc < 0 ? call.rc : call.heard;
    return call.waited ? lt_end_counted(mq, rc) : rc;
}

int lt_channel_publish(leat *mq, const char *channel, leat_message *m) {
    int rc = lt_fault(mq, LEAT_OP_PUBLISH, channel, -1, true);
    if (rc == 0 && lt_callback_depth() >= LT_PUBLISH_DEPTH)
        rc = lt_fail(LEAT_EDEADLK, "channel %.32s: published inside %d callbacks", channel,
                     LT_PUBLISH_DEPTH);
    return rc != 0 ? rc : channel_publish(mq, channel, m);
}

int leat_publish(leat *mq, const char *channel, const void *data, size_t size) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!channel)
        return lt_check_name("channel", channel);
    if (!data && size != 0)
        return lt_fail(LEAT_EINVAL, "channel %.32s: %zu bytes at NULL", channel, size);
    leat_message m = { .value = { data ? data : "", size }, .offset = -1 };
    return lt_channel_publish(mq, channel, &m);
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
    atomic_init(&cs->names.table, NULL);
    atomic_init(&cs->prefixes.table, NULL);
    for (size_t w = 0; w < LT_PREFIX_WORDS; w++)
        atomic_init(&cs->lengths[w], 0);
    atomic_init(&cs->serial, 0);
    lt_grace_init(&cs->grace);
    lt_list_init(&cs->recorders);
    mq->channels = cs;
    return lt_announce_all(mq); // lt_channels_close ends what was begun
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
        lt_queued_forget(s);
        lt_free(&mq->mem, s->recorder);
        lt_free(&mq->mem, s);
        s = next;
    }
}

static void channel_free_names(leat *mq, struct lt_names *names) {
    struct lt_channel_table *t = atomic_load(&names->table);
    for (size_t i = 0; t && i <= t->mask; i++) {
        struct lt_channel *ch = atomic_load(&t->slot[i]);
        if (!ch || ch == &lt_channel_gone)
            continue;
        channel_free_listeners(mq, &ch->listeners);
        lt_free(&mq->mem, ch);
    }
    lt_free(&mq->mem, t);
}

void lt_channels_close(leat *mq) {
    struct lt_channels *cs = mq->channels;
    if (!cs)
        return;
    lt_announce_end_all(mq);
    mq->channels = NULL;
    channel_free_names(mq, &cs->names);
    channel_free_names(mq, &cs->prefixes);
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
