/* SPDX-License-Identifier: MIT */
#include "pubsub/queued.h"

#include "pubsub/pubsub.h"
#include "pubsub/tap.h"

enum {
    QUEUED_ROUND = 64,               // messages that an errand delivers before another has its turn
    QUEUED_ROOMY = 8 * QUEUED_ROUND, // a room where it takes out more than one at a time
    QUEUED_BLOCK_MS = 1000,          // .block_ms 0
    QUEUED_SPARE = 1024,             // bytes of a copy that is kept
    QUEUED_SPARES = 256 * 1024,      // and of all of them
    QUEUED_COPIES = 1 << 30          // references of a publish, taken at once: more than mailboxes
};

struct queued_place { // a publisher that waits for room
    struct lt_node node;
    struct lt_waiter waiter;
};

// ---- what waits

uint64_t lt_queued_waiting(struct lt_queued *q) {
    if (q->owner->tap)
        return lt_tap_waiting(q->owner->tap);
    return lt_mailbox_count(&q->box) + atomic_load(&q->in_hand);
}

// Whether who drains has something to wait for.
static bool queued_goes_on(struct lt_queued *q) {
    if (!q->owner->tap)
        return lt_queued_waiting(q) > 0;
    return (q->stop_after == 0 || q->taken < q->stop_after) && lt_tap_drains(q->owner->tap);
}

static bool queued_is_over(const struct lt_queued *q) {
    return q->stop_after != 0 && q->taken + lt_mailbox_count(&q->box) >= q->stop_after;
}

static void queued_wake_line(leat *mq, struct lt_queued *q) {
    struct lt_node *n = lt_list_first(&q->line);
    atomic_store(&q->wants, false);
    if (n)
        lt_waiter_notify(mq, &LT_CONTAINER(n, struct queued_place, node)->waiter);
}

void lt_queued_taken_locked(leat *mq, struct lt_queued *q) {
    if (atomic_load(&q->wants))
        queued_wake_line(mq, q);
    if (lt_mailbox_count(&q->box) == 0)
        q->slow = false;
}

// ---- publishing

static void queued_tell(leat_subscription *s, struct lt_queued *q) {
    if (q->pulled) {
        lt_beacon_raise(&q->beacon);
        if (q->sleeps)
            lt_waiter_notify(s->mq, &q->waiter);
        q->sleeps = false;
    } else if (!q->told) {
        q->told = lt_errand_post(s->mq, &q->errand) == 0; // without a thread the next one tries
    }
}

void lt_queued_ring(leat_subscription *s) {
    struct lt_queued *q = s->queued;
    if (q->pulled) {
        lt_beacon_raise(&q->beacon);
        lt_waiter_notify(s->mq, &q->waiter);
    } else {
        (void)lt_errand_post(s->mq, &q->errand);
    }
}

// Waits for room behind those who came before. Locks: the queued's.
// Returns  whether it was taken. *rc: why the wait ended.
static bool queued_wait(leat_subscription *s, struct lt_copy *copy, int *rc) {
    struct lt_queued *q = s->queued;
    struct queued_place place;
    bool taken = false;
    *rc = lt_waiter_init(s->mq, &place.waiter);
    if (*rc != 0) {
        lt_mailbox_lose(&q->box);
        return false;
    }
    int64_t until = lt_add_ms(lt_now_ns(s->mq), q->block_ms);
    lt_list_push_back(&q->line, &place.node);
    for (;;) {
        lt_waiter_arm(s->mq, &place.waiter);
        atomic_store(&q->wants, true);
        if (q->sealed || queued_is_over(q))
            break;
        taken = lt_list_first(&q->line) == &place.node &&
                lt_mailbox_put(&q->box, copy, atomic_load(&q->in_hand)) == LT_MAIL_TAKEN;
        if (taken || *rc != 0)
            break;
        lt_unlock(&q->lock);
        *rc = lt_wait(s->mq, &place.waiter, until);
        lt_lock(&q->lock);
    }
    if (taken || q->sealed || queued_is_over(q))
        *rc = 0;
    else
        lt_mailbox_lose(&q->box);
    lt_list_remove(&place.node);
    queued_wake_line(s->mq, q); // there may be room for the next one too
    lt_waiter_fini(s->mq, &place.waiter);
    if (*rc == LEAT_ETIMEDOUT)
        *rc = 0;
    return taken;
}

// Locks: the queued's, which it may give up and take again.
static bool queued_put(leat_subscription *s, struct lt_publish *call) {
    struct lt_queued *q = s->queued;
    if (q->sealed || queued_is_over(q))
        return false;
    enum lt_mail_result result = LT_MAIL_FULL;
    if (!call->copy)
        lt_mailbox_lose(&q->box);
    else if (lt_list_empty(&q->line))
        result = lt_mailbox_put(&q->box, call->copy, atomic_load(&q->in_hand));
    if (!call->copy || result != LT_MAIL_FULL)
        return call->copy && result == LT_MAIL_TAKEN;
    if (q->box.when_full == LEAT_BLOCK && !lt_in_callback()) {
        int rc;
        if (!call->waited) // who closes the store waits until it has returned
            lt_begin_counted(s->mq);
        bool taken = queued_wait(s, call->copy, &rc);
        call->rc = rc < 0 ? rc : call->rc;
        call->waited = true;
        return taken;
    }
    lt_mailbox_lose(&q->box);
    call->rc = LEAT_EFULL;
    call->full = s;
    return false;
}

static struct lt_copy *queued_copy(const struct lt_publish *call, struct lt_copy *spare) {
    leat_message m = *call->m;
    m.pattern = NULL; // each has its own
    return lt_copy_again(spare, &call->mq->mem, &m, QUEUED_COPIES);
}

// Is there a spare copy that may do? Filling one takes less than taking the lock once more.
static bool queued_has_spare(struct lt_queued *q, const leat_message *m) {
    return m->value.size < QUEUED_SPARE && m->key.size < QUEUED_SPARE && m->header_count == 0 &&
           atomic_load_explicit(&q->spare_bytes, memory_order_relaxed) > 0;
}

static size_t queued_size(const struct lt_copy *copy) {
    return sizeof *copy + copy->room;
}

static struct lt_copy *queued_take_spare(struct lt_queued *q) {
    struct lt_copy *copy = q->spare;
    if (copy) {
        q->spare = copy->next;
        atomic_fetch_sub_explicit(&q->spare_bytes, queued_size(copy), memory_order_relaxed);
    }
    return copy;
}

bool lt_queued_hear(leat_subscription *s, struct lt_publish *call) {
    struct lt_queued *q = s->queued;
    lt_stand_leave(&call->stand); // nobody need wait for this publish but those whom it calls
    if (!call->copy && !queued_has_spare(q, call->m))
        call->copy = queued_copy(call, NULL);
    lt_lock(&q->lock);
    if (!call->copy)
        call->copy = queued_copy(call, queued_take_spare(q));
    uint64_t dropped = q->box.dropped;
    bool taken = queued_put(s, call);
    if (taken)
        queued_tell(s, q);
    bool last = taken && queued_is_over(q);
    bool slow = q->box.dropped != dropped && !q->slow;
    q->slow |= slow;
    lt_unlock(&q->lock);
    call->copies += taken ? 1 : 0;
    if (slow)
        lt_subscription_trace(s, "drop");
    if (last)
        lt_subscription_leave(s);
    return taken;
}

void lt_queued_done(struct lt_publish *call) {
    lt_copy_drop(call->copy, QUEUED_COPIES - call->copies);
}

// ---- calling back

// Takes out what is to be delivered next: one, or where there is a lot of room, more.
static size_t queued_grab(leat *mq, struct lt_queued *q, struct lt_mail hand[QUEUED_ROUND],
                          size_t max) {
    uint64_t n = lt_mailbox_count(&q->box);
    bool roomy = q->box.room >= QUEUED_ROOMY && q->box.bytes_max == INT64_MAX;
    if (!roomy && n > 1)
        n = 1;
    if (n > max)
        n = max;
    for (size_t i = 0; i < n; i++)
        hand[i] = lt_mailbox_take(&q->box);
    if (n > 0) {
        q->taken += n;
        atomic_store(&q->in_hand, (uint32_t)n - 1);
        lt_queued_taken_locked(mq, q);
    }
    return (size_t)n;
}

// Takes one of those in the hand; false: the closer has taken them. Who waits for room has said so
// before it looked at the hand, or sees that there is one less.
static bool queued_claim(leat *mq, struct lt_queued *q) {
    uint32_t n = atomic_load(&q->in_hand);
    while (n > 0 && !atomic_compare_exchange_weak(&q->in_hand, &n, n - 1))
        continue;
    if (n > 0 && atomic_load(&q->wants)) {
        lt_lock(&q->lock);
        queued_wake_line(mq, q);
        lt_unlock(&q->lock);
    }
    return n > 0;
}

// Delivers what is in the hand. *heard: copies that nobody has any more are put in front of it.
// Returns  how many.
static int queued_deliver(leat_subscription *s, const struct lt_mail *hand, size_t n,
                          struct lt_copy **heard) {
    size_t i = 0;
    do {
        struct lt_copy *copy = hand[i].copy;
        leat_message m = copy->m;
        m.pattern = s->exact ? NULL : s->pattern;
        m.dropped = hand[i].before;
        m.reserved[LT_MESSAGE_COPY] = (uint64_t)(uintptr_t)copy;
        lt_subscription_call(s, &m);
        if (lt_copy_leave(copy)) {
            copy->next = *heard;
            *heard = copy;
        }
    } while (++i < n && queued_claim(s->mq, s->queued));
    for (size_t k = i; k < n; k++)
        lt_copy_drop(hand[k].copy, 1);
    return (int)i;
}

// Keeps some of the copies. Locks: the queued's.
static void queued_keep_spares(struct lt_queued *q, struct lt_copy *heard) {
    struct lt_copy *next;
    size_t bytes = atomic_load_explicit(&q->spare_bytes, memory_order_relaxed);
    for (; heard; heard = next) {
        next = heard->next;
        size_t size = queued_size(heard);
        if (q->closed || size > QUEUED_SPARE || bytes + size > QUEUED_SPARES) {
            lt_free(heard->mem, heard);
            continue;
        }
        heard->next = q->spare;
        q->spare = heard;
        bytes += size;
    }
    atomic_store_explicit(&q->spare_bytes, bytes, memory_order_relaxed);
}

static void queued_free_spares(struct lt_queued *q) {
    struct lt_copy *copy;
    while ((copy = queued_take_spare(q)))
        lt_free(copy->mem, copy);
}

void lt_queued_end(leat_subscription *s) {
    struct lt_queued *q = s->queued;
    lt_tap_deafen(s->tap);
    lt_subscription_say_end(s);
    lt_tap_free(s->tap);
    lt_waiter_fini(s->mq, &q->waiter);
    lt_beacon_fini(&q->beacon);
    lt_subscription_retire(s);
}

static void queued_tell_drainer(leat *mq, struct lt_queued *q) {
    if (q->drains)
        lt_waiter_notify(mq, &q->waiter);
}

// Delivers a round. Locks: the queued's.
static int queued_round(leat_subscription *s, struct lt_queued *q) {
    struct lt_mail hand[QUEUED_ROUND];
    int sum = 0;
    if (s->tap) {
        if (!q->sealed || queued_goes_on(q))
            sum = lt_tap_round_locked(s->tap, QUEUED_ROUND);
        if (q->sealed && !queued_goes_on(q))
            queued_tell_drainer(s->mq, q);
        return sum;
    }
    while (sum < QUEUED_ROUND && !q->closed) {
        size_t n = queued_grab(s->mq, q, hand, (size_t)(QUEUED_ROUND - sum));
        if (n == 0) {
            q->told = false;
            queued_tell_drainer(s->mq, q);
            break;
        }
        struct lt_copy *heard = NULL;
        lt_unlock(&q->lock);
        sum += queued_deliver(s, hand, n, &heard);
        lt_lock(&q->lock);
        queued_keep_spares(q, heard);
    }
    return sum;
}

static int queued_run(leat *mq, struct lt_errand *e) {
    struct lt_queued *q = LT_CONTAINER(e, struct lt_queued, errand);
    leat_subscription *s = q->owner;
    (void)mq;
    lt_lock(&q->lock);
    if (q->closed) { // who closed it ends it
        lt_unlock(&q->lock);
        return 0;
    }
    q->running = true;
    int n = queued_round(s, q);
    if (!q->closed && !q->over && q->stop_after != 0 && q->taken >= q->stop_after) {
        q->over = true;
        lt_unlock(&q->lock);
        lt_subscription_say_end(s);
        lt_lock(&q->lock);
    }
    q->running = false;
    bool leaves = q->leaves;
    lt_unlock(&q->lock);
    if (!leaves)
        return n;
    lt_queued_end(s);
    return -1 - n;
}

// ---- closing

// Waits until all is delivered, and delivers itself where nobody else does.
static void queued_drain(leat_subscription *s, int64_t drain_ms) {
    struct lt_queued *q = s->queued;
    leat *mq = s->mq;
    int64_t until = lt_add_ms(lt_now_ns(mq), drain_ms);
    int rc = 0;
    lt_lock(&q->lock);
    q->sealed = true;
    queued_wake_line(mq, q);
    if (s->tap) {
        lt_tap_drain_locked(s->tap);
        lt_queued_ring(s);
    }
    while (queued_goes_on(q) && rc == 0) {
        lt_unlock(&q->lock);
        if (q->errand.polled || !lt_courier_runs(mq))
            (void)lt_errand_run(mq, &q->errand);
        lt_waiter_arm(mq, &q->waiter);
        lt_lock(&q->lock);
        q->drains = true;
        if (!queued_goes_on(q))
            break;
        lt_unlock(&q->lock);
        rc = lt_wait(mq, &q->waiter, until);
        lt_lock(&q->lock);
    }
    q->drains = false;
    lt_unlock(&q->lock);
}

// Is this the on_end that leat_subscription_next runs?
static bool queued_ends_here(struct lt_queued *q) {
    lt_lock(&q->lock);
    bool here = q->pulled && q->running && pthread_equal(q->ender, pthread_self());
    lt_unlock(&q->lock);
    return here;
}

int lt_queued_close(leat_subscription *s, int64_t drain_ms) {
    struct lt_queued *q = s->queued;
    leat *mq = s->mq;
    bool inside = lt_in_callback();
    if (atomic_exchange(&q->busy, true) && !(inside && queued_ends_here(q)))
        return lt_fail(LEAT_EBUSY, "another thread is in a call of subscription %s", s->child.name);
    lt_subscription_leave(s);
    if (!q->pulled && !inside && drain_ms != 0)
        queued_drain(s, drain_ms);
    lt_child_remove(mq, &s->child);
    lt_lock(&q->lock);
    q->sealed = q->closed = true;
    uint64_t lost = atomic_exchange(&q->in_hand, 0) + lt_mailbox_clear(&q->box);
    queued_wake_line(mq, q);
    bool leaves = q->leaves = inside && q->running;
    lt_unlock(&q->lock);
    if (!leaves) {
        lt_tap_deafen(s->tap); // which posts the errand
        lt_errand_end(mq, &q->errand);
        lt_queued_end(s);
    }
    return lost < INT32_MAX ? (int)lost : INT32_MAX;
}

// ---- beginning and end

static int64_t queued_bound(int64_t asked) {
    return asked > 0 ? asked : INT64_MAX;
}

static bool queued_child_busy(const struct lt_child *child) {
    return atomic_load(&LT_CONTAINER(child, leat_subscription, child)->queued->busy);
}

// A poll(2) ends with a shutdown, as leat_subscription_next does.
static void queued_child_shut(struct lt_child *child) {
    lt_beacon_raise(&LT_CONTAINER(child, leat_subscription, child)->queued->beacon);
}

static struct lt_queued *queued_new(leat_subscription *s, const leat_subscription_options *o) {
    struct lt_mem *mem = &s->mq->mem;
    struct lt_queued *q = lt_zalloc(mem, sizeof *q);
    if (!q) {
        (void)lt_fail_nomem();
        return NULL;
    }
    lt_mailbox_init(&q->box, mem, queued_bound(o->buffer), queued_bound(o->buffer_bytes),
                    o->when_full ? o->when_full : LEAT_DROP_OLDEST);
    lt_list_init(&q->line);
    atomic_init(&q->wants, false);
    atomic_init(&q->in_hand, 0);
    atomic_init(&q->spare_bytes, 0);
    atomic_init(&q->busy, false);
    q->owner = s;
    q->stop_after = (uint64_t)o->stop_after;
    q->block_ms = o->block_ms == LEAT_ZERO ? 0 : o->block_ms ? o->block_ms : QUEUED_BLOCK_MS;
    q->pulled = !s->fn;
    lt_errand_init(&q->errand, s->mq->callbacks == LEAT_CALLBACKS_POLL, queued_run);
    return q;
}

int lt_queued_begin(leat_subscription *s, const leat_subscription_options *o) {
    leat *mq = s->mq;
    struct lt_queued *q = queued_new(s, o);
    if (!q)
        return LEAT_ENOMEM;
    int rc = lt_mutex_init(&q->lock, LT_RANK_MAILBOX);
    if (rc != 0)
        goto no_lock;
    rc = lt_beacon_init(&q->beacon);
    if (rc != 0)
        goto no_beacon;
    rc = lt_waiter_init(mq, &q->waiter);
    if (rc != 0)
        goto no_waiter;
    s->queued = q;
    s->child.busy = queued_child_busy;
    s->child.shut = queued_child_shut;
    if (!q->pulled && !q->errand.polled && !s->tap) // to have the thread; there is nothing to tell
        rc = lt_errand_post(mq, &q->errand);
    return rc;
no_waiter:
    lt_beacon_fini(&q->beacon);
no_beacon:
    lt_mutex_fini(&q->lock);
no_lock:
    lt_free(&mq->mem, q);
    return rc;
}

void lt_queued_free(leat_subscription *s) {
    struct lt_queued *q = s->queued;
    if (!q)
        return;
    lt_mailbox_fini(&q->box);
    queued_free_spares(q);
    lt_mutex_fini(&q->lock);
    lt_free(&s->mq->mem, q);
}

void lt_queued_abandon(leat_subscription *s) {
    if (!s->queued) {
        lt_tap_free(s->tap);
        return;
    }
    lt_tap_deafen(s->tap);
    lt_errand_end(s->mq, &s->queued->errand);
    lt_tap_free(s->tap);
    lt_waiter_fini(s->mq, &s->queued->waiter);
    lt_beacon_fini(&s->queued->beacon);
    lt_queued_free(s);
}

void lt_queued_forget(leat_subscription *s) {
    struct lt_queued *q = s->queued;
    if (!q)
        return;
    if (lt_try_lock(&q->lock)) { // nobody was changing it when this process was made
        lt_mailbox_fini(&q->box);
        queued_free_spares(q);
    }
    lt_beacon_fini(&q->beacon);
    lt_tap_forget(s->tap);
    lt_free(&s->mq->mem, q);
}
