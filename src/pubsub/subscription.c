/* SPDX-License-Identifier: MIT */
// The life of a subscription: joining, being called, closing.
//
// One word says what it is doing: the number of calls of fn that have begun and not ended, and
// three flags.
//
//   CLOSED   no call may begin any more
//   AWAITED  closed by a thread that waits until the number is 0, and then ends it itself
//   ENDED    closed inside a callback: somebody has taken it on to end it
//
// To end it is to run on_end and to hand the memory to grace; it happens once.
//
// A publisher counts itself and learns in the same step whether it may call; a closer sets CLOSED
// and learns in the same step how many calls are under way. All steps on the word have one order,
// and so there are two cases only:
//
//     publisher P                  closer C             word
//     +1 (sees open)                                    1
//                                  |= CLOSED (sees 1)   CLOSED 1     C must leave the end to P,
//     ... fn ...                                                     or wait for it
//     -1                                                CLOSED 0     P brought it to 0: P ends it,
//                                                                    or wakes C (AWAITED)
//
//                                  |= CLOSED (sees 0)   CLOSED 0     C ends it
//     +1 (sees CLOSED)                                  CLOSED 1     P does not call
//     -1                                                CLOSED 0     P brought it to 0, too
//
// As the last line shows, the number can come down to 0 more than once: publishers that found the
// subscription before it was taken out of its list step up and down again without calling. So who
// sees CLOSED 0 takes the end on by changing that very word to CLOSED ENDED, and only one can.
// With AWAITED nobody but the closer ends it, and a late step at most wakes somebody for nothing.
//
// Who steps on the word is in a section of grace, hence the memory stays for it even if the end
// comes in between. The closer inside a callback is no exception, it enters one: between its two
// steps a late publisher may take on the end.
#include "pubsub/channel.h"
#include "pubsub/pattern.h"
#include "pubsub/pubsub.h"

#include <string.h>

#define SUBSCRIPTION_CLOSED  UINT32_C(0x80000000)
#define SUBSCRIPTION_AWAITED UINT32_C(0x40000000)
#define SUBSCRIPTION_ENDED   UINT32_C(0x20000000)
#define SUBSCRIPTION_RUNNING UINT32_C(0x1fffffff) // the number; bounded by the threads' stacks

// ---- the end

static void subscription_free(struct lt_retired *r) {
    leat_subscription *s = LT_CONTAINER(r, leat_subscription, retired);
    lt_free(&s->mq->mem, s);
}

static void subscription_end(leat_subscription *s) {
    if (s->on_end) {
        lt_callback_begin();
        s->on_end(s->ctx);
        lt_callback_end();
    }
    lt_grace_retire(&s->mq->channels->grace, &s->retired, subscription_free);
}

static void subscription_end_once(leat_subscription *s) {
    uint32_t quiet = SUBSCRIPTION_CLOSED;
    if (atomic_compare_exchange_strong(&s->word, &quiet, SUBSCRIPTION_CLOSED | SUBSCRIPTION_ENDED))
        subscription_end(s);
}

// ---- being called

// subscription_leave is what a publisher does after the call that it did, or did not, make.
static void subscription_leave(leat_subscription *s) {
    uint32_t word = atomic_fetch_sub(&s->word, 1) - 1;
    if (word == SUBSCRIPTION_CLOSED) {
        subscription_end_once(s);
    } else if (word == (SUBSCRIPTION_CLOSED | SUBSCRIPTION_AWAITED)) {
        // Through the lock, or this could fall between the closer's look and its sleep.
        struct lt_channels *cs = s->mq->channels;
        lt_lock(&cs->idle_lock);
        lt_cond_broadcast(&cs->idle);
        lt_unlock(&cs->idle_lock);
    }
}

bool lt_subscription_deliver(leat_subscription *s, const leat_message *m) {
    bool open = (atomic_fetch_add(&s->word, 1) & SUBSCRIPTION_CLOSED) == 0;
    if (open) {
        lt_callback_begin();
        s->fn(s, m, s->ctx);
        lt_callback_end();
    }
    subscription_leave(s);
    return open;
}

// ---- closing

// subscription_close_now ends s later if a call is under way: its own, or another thread's.
// Runs on: a thread that is in a callback.
static void subscription_close_now(leat_subscription *s) {
    struct lt_grace *grace = &s->mq->channels->grace;
    uint32_t token = lt_grace_enter(grace);
    atomic_fetch_add_explicit(&s->mq->channels->no_publish, 1, memory_order_relaxed);
    if ((atomic_fetch_or(&s->word, SUBSCRIPTION_CLOSED) & SUBSCRIPTION_RUNNING) == 0)
        subscription_end_once(s);
    lt_grace_leave(grace, token);
}

static void subscription_close_and_wait(leat_subscription *s) {
    struct lt_channels *cs = s->mq->channels;
    lt_lock(&cs->idle_lock);
    (void)atomic_fetch_or(&s->word, SUBSCRIPTION_CLOSED | SUBSCRIPTION_AWAITED);
    while ((atomic_load(&s->word) & SUBSCRIPTION_RUNNING) != 0)
        lt_cond_wait(&cs->idle, &cs->idle_lock);
    lt_unlock(&cs->idle_lock);
    subscription_end(s);
}

static void subscription_trace(const leat_subscription *s, const char *event) {
    leat_metadata where = { .topic = s->pattern, .offset = -1, .partition = -1 };
    lt_trace(s->mq, event, s->child.name, &where, 0);
}

int leat_subscription_close(leat_subscription *s, int64_t drain_ms) {
    if (!s)
        return lt_fail(LEAT_EINVAL, "the subscription is NULL");
    leat *mq = s->mq;
    if (lt_forked(mq)) {
        // One thread is left, and the parent's others may have held any lock: it takes none. The
        // memory goes with the store, since a publish that forked in a callback may still be here.
        lt_list_remove(&s->child.node);
        return lt_fail(LEAT_EFORK, "the store was opened by the parent process");
    }
    if (drain_ms != 0)
        return lt_fail(LEAT_EINVAL, "subscription %s: drain_ms must be 0", s->child.name);
    struct lt_channels *cs = mq->channels;
    lt_child_remove(mq, &s->child);
    lt_lock(&cs->lock);
    subscription_trace(s, "unsubscribe");
    lt_channel_leave_locked(cs, s);
    lt_unlock(&cs->lock);
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

static leat_subscription *subscription_new(leat *mq, const char *pattern, const char *name) {
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
    memcpy(s->pattern, pattern, pattern_size);
    s->pattern_len = (uint32_t)pattern_size - 1;
    s->child.kind = "subscription";
    s->child.name = s->pattern;
    s->child.close = subscription_close_child;
    if (name)
        s->child.name = memcpy(s->pattern + pattern_size, name, name_size);
    return s;
}

static int subscription_join(leat *mq, leat_subscription *s, bool exact) {
    struct lt_channels *cs = mq->channels;
    s->names = exact ? &cs->names : &cs->prefixes;
    lt_lock(&cs->lock);
    lt_child_add(mq, &s->child);
    // From here on s is called, and may be closed by its own fn; but not before the unlock.
    int rc = lt_channel_join_locked(mq, s);
    if (rc == 0)
        subscription_trace(s, "subscribe");
    else
        lt_child_remove(mq, &s->child);
    lt_unlock(&cs->lock);
    return rc;
}

int leat_channel_subscribe(leat *mq, const char *pattern, leat_message_fn fn, void *ctx,
                           const leat_subscription_options *o, leat_subscription **out) {
    if (out)
        *out = NULL;
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!fn || !out)
        return lt_fail(LEAT_EINVAL, "subscribing: %s is NULL", fn ? "out" : "fn");
    bool exact = !pattern || !lt_is_pattern(pattern);
    rc = exact ? lt_check_name("channel", pattern) : lt_check_pattern(pattern);
    if (rc == 0 && o)
        rc = lt_check_reserved("leat_subscription_options", o->reserved, 8);
    if (rc != 0)
        return rc;
    leat_subscription *s = subscription_new(mq, pattern, o ? o->name : NULL);
    if (!s)
        return LEAT_ENOMEM;
    s->fn = fn;
    s->ctx = ctx;
    s->on_end = o ? o->on_end : NULL;
    *out = s; // before the first call of fn, which may use it
    rc = subscription_join(mq, s, exact);
    if (rc != 0) {
        *out = NULL;
        lt_free(&mq->mem, s);
    }
    return rc;
}
