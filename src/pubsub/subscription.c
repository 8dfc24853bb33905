/* SPDX-License-Identifier: MIT */
// The life of a subscription: joining, being called, closing.
//
// One word says what it is doing: three flags, and the number of publishes that count themselves in
// it, since they have no place of their own to show in where they are (see struct lt_stand).
//
//   CLOSED   no call may begin any more
//   AWAITED  closed by a thread that waits until nobody is at it, and then ends it itself
//   ENDED    closed inside a callback: somebody has taken it on to end it
//
// To end it is to run on_end and to hand the memory to grace; it happens once.
//
// A publisher first says that it is here, then looks whether it may call; a closer first sets
// CLOSED, then looks who is here. All these steps have one order, so there are two cases only:
//
//     publisher P                  closer C
//     place = s, or number + 1
//     looks: open
//                                  |= CLOSED
//                                  looks: P is at s                  C must leave the end to P,
//     ... fn ...                                                     or wait for it
//     place = next, or number - 1
//     looks: CLOSED                                                  P ends it or wakes C
//
//                                  |= CLOSED
//                                  looks: nobody                     C ends it
//     place = s, or number + 1
//     looks: CLOSED                                                  P does not call
//     place = next, or number - 1
//     looks: CLOSED                                                  P tries to end it, too
//
// As the last line shows, there can be nobody at it more than once: publishers that found the
// subscription before it was taken out of its list come and go again without calling. So who finds
// nobody takes the end on by changing that very word from CLOSED to CLOSED ENDED, and only one can.
// Of several who leave at once the last one finds nobody, as each has said that it left before it
// looks. With AWAITED nobody but the closer ends it, and a late step at most wakes somebody for
// nothing.
//
// Who looks at the word is in a section of grace, hence the memory stays for it even if the end
// comes in between. The closer inside a callback is no exception, it enters one: between its two
// steps a late publisher may take on the end.
#include "pubsub/channel.h"
#include "pubsub/pattern.h"
#include "pubsub/pubsub.h"
#include "pubsub/queued.h"
#include "pubsub/record.h"

#include <string.h>

#define SUBSCRIPTION_CLOSED  UINT32_C(0x80000000)
#define SUBSCRIPTION_AWAITED UINT32_C(0x40000000)
#define SUBSCRIPTION_ENDED   UINT32_C(0x20000000)
#define SUBSCRIPTION_RUNNING UINT32_C(0x1fffffff) // the number; bounded by the threads' stacks

// ---- the end

static void subscription_free(struct lt_retired *r) {
    leat_subscription *s = LT_CONTAINER(r, leat_subscription, retired);
    lt_queued_free(s);
    lt_free(&s->mq->mem, s->recorder);
    lt_free(&s->mq->mem, s);
}

void lt_subscription_retire(leat_subscription *s) {
    lt_grace_retire(&s->mq->channels->grace, &s->retired, subscription_free);
}

void lt_subscription_say_end(leat_subscription *s) {
    if (!s->on_end)
        return;
    void (*on_end)(void *ctx) = s->on_end;
    s->on_end = NULL;
    lt_callback_begin();
    on_end(s->ctx);
    lt_callback_end();
}

static void subscription_end(leat_subscription *s) {
    lt_subscription_say_end(s);
    lt_subscription_retire(s);
}

// Nobody is at s who does not count itself in its word.
static bool subscription_has_no_stand(leat_subscription *s) {
    struct lt_channels *cs = s->mq->channels;
    for (int i = 0; i < LT_GRACE_PLACES; i++)
        if (atomic_load(&cs->place[i].at) == s)
            return false;
    return true;
}

// subscription_left is what follows on a publisher's having left s, which is closed.
static void subscription_left(leat_subscription *s) {
    if (atomic_load(&s->word) & SUBSCRIPTION_AWAITED) {
        // Through the lock, or this could fall between the closer's look and its sleep.
        struct lt_channels *cs = s->mq->channels;
        lt_lock(&cs->idle_lock);
        lt_cond_broadcast(&cs->idle);
        lt_unlock(&cs->idle_lock);
        return;
    }
    uint32_t quiet = SUBSCRIPTION_CLOSED;
    if (subscription_has_no_stand(s) &&
        atomic_compare_exchange_strong(&s->word, &quiet, SUBSCRIPTION_CLOSED | SUBSCRIPTION_ENDED))
        subscription_end(s);
}

// ---- being called

// The place says where the publish is now, then it looks at what it left.
static void stand_at(struct lt_stand *stand, leat_subscription *s) {
    leat_subscription *was = stand->at;
    stand->at = s;
    atomic_store(&stand->place->at, s);
    if (was && atomic_load(&was->word) & SUBSCRIPTION_CLOSED)
        subscription_left(was);
}

void lt_stand_leave(struct lt_stand *stand) {
    if (stand->at)
        stand_at(stand, NULL);
}

// Calls fn if the last of .stop_after calls has not begun. The last one to begin takes s out of its
// list, the last one to return runs on_end; s waits to be closed.
static bool subscription_call_some(leat_subscription *s, const leat_message *m) {
    uint64_t before = atomic_fetch_add(&s->begun, 1);
    if (before >= s->stop_after)
        return false;
    if (before + 1 == s->stop_after)
        lt_subscription_leave(s);
    lt_subscription_call(s, m);
    if (atomic_fetch_add(&s->done, 1) + 1 == s->stop_after)
        lt_subscription_say_end(s);
    return true;
}

bool lt_subscription_deliver(struct lt_stand *stand, leat_subscription *s, const leat_message *m) {
    uint32_t word;
    if (stand->place) {
        stand_at(stand, s);
        word = atomic_load(&s->word);
    } else {
        word = atomic_fetch_add(&s->word, 1);
    }
    bool open = (word & SUBSCRIPTION_CLOSED) == 0;
    if (open && s->stop_after)
        open = subscription_call_some(s, m);
    else if (open)
        lt_subscription_call(s, m);
    if (!stand->place && (atomic_fetch_sub(&s->word, 1) & SUBSCRIPTION_CLOSED))
        subscription_left(s);
    return open;
}

// ---- closing

// subscription_close_now leaves the end to the last call if one is under way: its own, or another
// thread's.
// Runs on: a thread that is in a callback.
static void subscription_close_now(leat_subscription *s) {
    struct lt_grace *grace = &s->mq->channels->grace;
    uint32_t token = lt_grace_enter(grace);
    atomic_fetch_add_explicit(&s->mq->channels->no_publish, 1, memory_order_relaxed);
    (void)atomic_fetch_or(&s->word, SUBSCRIPTION_CLOSED);
    subscription_left(s);
    lt_grace_leave(grace, token);
}

static void subscription_close_and_wait(leat_subscription *s) {
    struct lt_channels *cs = s->mq->channels;
    lt_lock(&cs->idle_lock);
    (void)atomic_fetch_or(&s->word, SUBSCRIPTION_CLOSED | SUBSCRIPTION_AWAITED);
    while ((atomic_load(&s->word) & SUBSCRIPTION_RUNNING) != 0 || !subscription_has_no_stand(s))
        lt_cond_wait(&cs->idle, &cs->idle_lock);
    lt_unlock(&cs->idle_lock);
    subscription_end(s);
}

void lt_subscription_trace(const leat_subscription *s, const char *event) {
    leat_metadata where = { .topic = s->pattern, .offset = -1, .partition = -1 };
    lt_trace(s->mq, event, s->child.name, &where, 0);
}

void lt_subscription_leave(leat_subscription *s) {
    struct lt_channels *cs = s->mq->channels;
    lt_lock(&cs->lock);
    if (s->channel) {
        lt_subscription_trace(s, "unsubscribe");
        lt_channel_leave_locked(cs, s);
        if (s->recorder)
            lt_list_remove(&s->recorder->node);
    }
    lt_unlock(&cs->lock);
}

int leat_subscription_close(leat_subscription *s, int64_t drain_ms) {
    if (!s)
        return lt_fail(LEAT_EINVAL, "the subscription is NULL");
    leat *mq = s->mq;
    if (lt_forked(mq)) {
        // One thread is left, and the parent's others may have held any lock: it takes none. The
        // memory goes with the store, since a publish that forked in a callback may still be here.
        if (s->channel) // else the list of children is all that leads to it
            lt_list_remove(&s->child.node);
        return lt_fail(LEAT_EFORK, "the store was opened by the parent process");
    }
    int rc = lt_check_timeout(drain_ms);
    if (rc != 0)
        return rc;
    if (s->queued)
        return lt_queued_close(s, drain_ms);
    lt_child_remove(mq, &s->child);
    lt_subscription_leave(s);
    if (lt_in_callback())
        subscription_close_now(s);
    else
        subscription_close_and_wait(s);
    return 0;
}

// ---- joining

static int subscription_close_child(struct lt_child *child, int64_t timeout_ms) {
    (void)timeout_ms;
    return leat_subscription_close(LT_CONTAINER(child, leat_subscription, child), 0);
}

// In a fork. What is in a list is freed with it.
static void subscription_child_forget(struct lt_child *child) {
    leat_subscription *s = LT_CONTAINER(child, leat_subscription, child);
    if (s->channel)
        return;
    lt_queued_forget(s);
    lt_free(&s->mq->mem, s->recorder);
    lt_free(&s->mq->mem, s);
}

leat_subscription *lt_subscription_new(leat *mq, const char *pattern, const char *name) {
    size_t pattern_size = strlen(pattern) + 1; // at most 250, it was checked
    size_t name_size = name ? strlen(name) + 1 : 0;
    leat_subscription *s = lt_zalloc(&mq->mem, sizeof *s + pattern_size + name_size);
    if (!s) {
        (void)lt_fail_nomem();
        return NULL;
    }
    s->mq = mq;
    atomic_init(&s->next, NULL);
    atomic_init(&s->word, 0);
    atomic_init(&s->begun, 0);
    atomic_init(&s->done, 0);
    memcpy(s->pattern, pattern, pattern_size);
    s->pattern_len = (uint32_t)pattern_size - 1;
    s->child.kind = "subscription";
    s->child.name = s->pattern;
    s->child.close = subscription_close_child;
    s->child.forget = subscription_child_forget;
    if (name)
        s->child.name = memcpy(s->pattern + pattern_size, name, name_size);
    return s;
}

static int subscription_join(leat *mq, leat_subscription *s, bool exact) {
    struct lt_channels *cs = mq->channels;
    s->names = exact ? &cs->names : &cs->prefixes;
    lt_lock(&cs->lock);
    lt_child_add(mq, &s->child);
    int rc = s->recorder ? lt_record_enter_locked(cs, s->recorder) : 0;
    // From here on s is called, and may be closed by its own fn; but not before the unlock.
    if (rc == 0) {
        rc = lt_channel_join_locked(mq, s);
        if (rc != 0 && s->recorder)
            lt_list_remove(&s->recorder->node);
    }
    if (rc == 0)
        lt_subscription_trace(s, "subscribe");
    else
        lt_child_remove(mq, &s->child);
    lt_unlock(&cs->lock);
    return rc;
}

static int subscription_check(const leat_subscription_options *o, leat_message_fn fn) {
    bool queued = o->buffer != 0 || o->buffer_bytes != 0;
    int rc = lt_check_reserved("leat_subscription_options", o->reserved, 8);
    if (rc != 0)
        return rc;
    if (!fn && !queued)
        return lt_fail(LEAT_EINVAL, "subscribing: fn is NULL, and there is no buffer");
    if (o->tokens < 0 || o->tokens > 1)
        return lt_fail(LEAT_EINVAL, "subscribing: tokens is %d", o->tokens);
    if (o->buffer < LEAT_UNLIMITED || o->buffer_bytes < LEAT_UNLIMITED || o->stop_after < 0)
        return lt_fail(LEAT_EINVAL, "subscribing: buffer, buffer_bytes or stop_after is negative");
    if (o->when_full < 0 || o->when_full > LEAT_FAIL || (o->when_full != 0 && !queued))
        return lt_fail(LEAT_EINVAL, "subscribing: when_full is %d%s", o->when_full,
                       queued ? "" : ", and there is no buffer");
    if (o->block_ms < LEAT_ZERO || (o->block_ms != 0 && o->when_full != LEAT_BLOCK))
        return lt_fail(LEAT_EINVAL, "subscribing: block_ms is %lld%s", (long long)o->block_ms,
                       o->when_full == LEAT_BLOCK ? "" : ", and when_full is not LEAT_BLOCK");
    return 0;
}

void lt_subscription_drop(leat_subscription *s) {
    lt_queued_abandon(s);
    lt_free(&s->mq->mem, s->recorder);
    lt_free(&s->mq->mem, s);
}

// A name has no wildcards, of whichever kind.
static int subscription_check_pattern(const char *pattern, bool tokens, bool *exact) {
    *exact = !pattern || !(tokens ? lt_is_tokens : lt_is_pattern)(pattern);
    if (*exact)
        return lt_check_name("channel", pattern);
    return tokens ? lt_check_tokens(pattern) : lt_check_pattern(pattern);
}

int leat_channel_subscribe(leat *mq, const char *pattern, leat_message_fn fn, void *ctx,
                           const leat_subscription_options *o, leat_subscription **out) {
    static const leat_subscription_options defaults;
    o = o ? o : &defaults;
    if (out)
        *out = NULL;
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc == 0 && !out)
        rc = lt_fail(LEAT_EINVAL, "subscribing: out is NULL");
    if (rc != 0)
        return rc;
    bool exact;
    rc = subscription_check(o, fn);
    if (rc == 0)
        rc = subscription_check_pattern(pattern, o->tokens == 1, &exact);
    if (rc != 0)
        return rc;
    leat_subscription *s = lt_subscription_new(mq, pattern, o->name);
    if (!s)
        return LEAT_ENOMEM;
    s->fn = fn;
    s->ctx = ctx;
    s->on_end = o->on_end;
    s->exact = exact;
    s->tokens = o->tokens == 1;
    if (o->buffer != 0 || o->buffer_bytes != 0)
        rc = lt_queued_begin(s, o);
    else
        s->stop_after = (uint64_t)o->stop_after;
    *out = s; // before the first call of fn, which may use it
    if (rc == 0)
        rc = subscription_join(mq, s, exact);
    if (rc != 0) {
        *out = NULL;
        lt_subscription_drop(s);
    }
    return rc;
}

int lt_subscription_record(leat *mq, const char *pattern, leat_topic *into,
                           leat_subscription **out) {
    bool exact;
    int rc = subscription_check_pattern(pattern, false, &exact);
    if (rc != 0)
        return rc;
    leat_subscription *s = lt_subscription_new(mq, pattern, NULL);
    if (!s)
        return LEAT_ENOMEM;
    s->recorder = lt_zalloc(&mq->mem, sizeof *s->recorder);
    if (s->recorder) {
        *s->recorder = (struct lt_recorder){ .into = into, .pattern = s->pattern };
        s->fn = lt_record_hear;
        s->exact = exact;
        *out = s;
        rc = subscription_join(mq, s, exact);
    } else {
        rc = lt_fail_nomem();
    }
    if (rc != 0) {
        *out = NULL;
        lt_subscription_drop(s);
    }
    return rc;
}
