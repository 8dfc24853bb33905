/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include "base/core.h"
#include "base/rest.h"
#include "leat_test.h"

#define CLOCK_START_MS  1000000000000 // where manual wall time begins unless told
#define CLOCK_SETTLE_NS 10000000000   // how long advance waits for a woken caller, in real time
#define CLOCK_BACK_OFF  5000          // ns: less than sleeping and being woken take

static bool clock_sooner(const struct lt_heap_node *a, const struct lt_heap_node *b) {
    const struct lt_due *x = LT_CONTAINER(a, struct lt_due, node);
    const struct lt_due *y = LT_CONTAINER(b, struct lt_due, node);
    return x->due_ns != y->due_ns ? x->due_ns < y->due_ns : x->id < y->id;
}

static void clock_agenda_init(struct lt_agenda *a, struct lt_mem *mem) {
    lt_heap_init(&a->due, mem, clock_sooner);
    a->room = 0;
    atomic_init(&a->next, LT_NEVER);
}

static int64_t clock_mono_ns(const struct lt_clock *c) {
    return c->mode == LEAT_CLOCK_SYSTEM ? c->os->mono_ns(c->os) : atomic_load(&c->mono_ns);
}

static int64_t clock_wall_ms(const struct lt_clock *c) {
    if (c->mode == LEAT_CLOCK_SYSTEM)
        return c->os->wall_ms(c->os);
    int64_t wall; // stops at its highest value
    if (__builtin_add_overflow(atomic_load(&c->wall_offset), atomic_load(&c->mono_ns) / 1000000,
                               &wall))
        return INT64_MAX;
    return wall;
}

static void clock_set_steady(struct lt_clock *c) {
    c->steady_ns = clock_mono_ns(c);
    c->steady_ms = clock_wall_ms(c);
}

int lt_clock_init(struct lt_clock *c, const leat_options *o, struct lt_os *os, struct lt_mem *mem) {
    c->mode = o->clock ? o->clock : LEAT_CLOCK_SYSTEM;
    c->os = os;
    c->open_ns = os->mono_ns(os);
    atomic_init(&c->mono_ns, 0);
    atomic_init(&c->wall_offset, o->start_ms ? o->start_ms : CLOCK_START_MS);
    atomic_init(&c->first_wake, LT_NEVER);
    clock_agenda_init(&c->events, mem);
    clock_agenda_init(&c->chores, mem);
    clock_set_steady(c);
    lt_service_init(&c->service, c->mode == LEAT_CLOCK_SYSTEM && o->threads != LEAT_NO_THREADS);
    lt_list_init(&c->blocked);
    if (lt_mutex_init(&c->due_lock, LT_RANK_DUE) != 0)
        return LEAT_ENOMEM;
    if (lt_cond_init(&c->due_idle) != 0)
        goto no_idle;
    if (lt_mutex_init(&c->lock, LT_RANK_CLOCK) != 0)
        goto no_lock;
    if (lt_cond_init(&c->changed) == 0)
        return 0;
    lt_mutex_fini(&c->lock);
no_lock:
    lt_cond_fini(&c->due_idle);
no_idle:
    lt_mutex_fini(&c->due_lock);
    return LEAT_ENOMEM;
}

void lt_clock_fini(struct lt_clock *c) {
    lt_heap_fini(&c->events.due);
    lt_heap_fini(&c->chores.due);
    if (lt_forked(LT_CONTAINER(c, leat, clock)))
        return; // ending a condition waits for those who wait in it: the parent's threads
    lt_cond_fini(&c->changed);
    lt_mutex_fini(&c->lock);
    lt_cond_fini(&c->due_idle);
    lt_mutex_fini(&c->due_lock);
}

void lt_clock_go_on(struct lt_clock *c, const struct lt_clock *from) {
    c->open_ns = from->open_ns;
    atomic_store(&c->mono_ns, atomic_load(&from->mono_ns));
    atomic_store(&c->wall_offset, atomic_load(&from->wall_offset));
    clock_set_steady(c);
}

int64_t lt_now_ns(const leat *mq) {
    return clock_mono_ns(&mq->clock);
}

int64_t lt_ahead_ns(const leat *mq) {
    const struct lt_clock *c = &mq->clock;
    bool there = c->mode == LEAT_CLOCK_SYSTEM && c->os->ahead_ns;
    return there ? c->os->ahead_ns(c->os) : clock_mono_ns(c);
}

int64_t lt_wall_ms(const leat *mq) {
    return clock_wall_ms(&mq->clock);
}

int64_t lt_steady_ms(const leat *mq) {
    const struct lt_clock *c = &mq->clock;
    int64_t ms;
    if (__builtin_add_overflow(c->steady_ms, (clock_mono_ns(c) - c->steady_ns) / 1000000, &ms))
        return INT64_MAX;
    return ms;
}

int64_t lt_add_ms(int64_t at_ns, int64_t ms) {
    int64_t ns, sum;
    if (ms == LEAT_FOREVER || __builtin_mul_overflow(ms, (int64_t)1000000, &ns) ||
        __builtin_add_overflow(at_ns, ns, &sum))
        return LT_NEVER;
    return sum;
}

// ---- what falls due

static struct lt_agenda *clock_agenda(struct lt_clock *c, const struct lt_due *d) {
    return d->chore ? &c->chores : &c->events;
}

static int clock_due_init(leat *mq, struct lt_due *d, bool chore,
                          void (*fn)(leat *mq, struct lt_due *due)) {
    struct lt_clock *c = &mq->clock;
    *d = (struct lt_due){ .due_ns = LT_NEVER, .fn = fn, .chore = chore };
    struct lt_agenda *a = clock_agenda(c, d);
    lt_lock(&c->due_lock);
    int rc = lt_heap_reserve(&a->due, a->room + 1);
    if (rc == 0)
        a->room++;
    lt_unlock(&c->due_lock);
    return rc == 0 ? 0 : lt_fail_nomem();
}

int lt_due_init(leat *mq, struct lt_due *d, void (*fn)(leat *mq, struct lt_due *due)) {
    return clock_due_init(mq, d, false, fn);
}

int lt_chore_init(leat *mq, struct lt_due *d, void (*fn)(leat *mq, struct lt_due *due)) {
    int rc = clock_due_init(mq, d, true, fn);
    if (rc != 0)
        return rc;
    rc = lt_service_need(mq);
    if (rc != 0)
        lt_due_end(mq, d);
    return rc;
}

static struct lt_due *clock_top(const struct lt_agenda *a) {
    struct lt_heap_node *top = lt_heap_top(&a->due);
    return top ? LT_CONTAINER(top, struct lt_due, node) : NULL;
}

static void clock_hint(struct lt_agenda *a) {
    const struct lt_due *top = clock_top(a);
    atomic_store(&a->next, top ? top->due_ns : LT_NEVER);
}

void lt_due_end(leat *mq, struct lt_due *d) {
    struct lt_clock *c = &mq->clock;
    if (lt_forked(mq))
        return; // another thread may have held the lock when this process was made
    struct lt_agenda *a = clock_agenda(c, d);
    lt_lock(&c->due_lock);
    if (lt_heap_has(&d->node))
        lt_heap_remove(&a->due, &d->node);
    clock_hint(a);
    while (d->running)
        lt_cond_wait(&c->due_idle, &c->due_lock);
    // Its fn may have planned it once more before it returned.
    if (lt_heap_has(&d->node))
        lt_heap_remove(&a->due, &d->node);
    clock_hint(a);
    a->room--;
    lt_unlock(&c->due_lock);
}

static int64_t clock_sooner_of(const struct lt_agenda *a, const struct lt_agenda *b) {
    int64_t x = atomic_load(&a->next), y = atomic_load(&b->next);
    return x < y ? x : y;
}

// When the next thing falls due that is for whoever looks.
static int64_t clock_next(const struct lt_clock *c) {
    if (lt_service_runs(&c->service))
        return atomic_load(&c->events.next);
    return clock_sooner_of(&c->events, &c->chores);
}

int64_t lt_due_next(const leat *mq) {
    return clock_next(&mq->clock);
}

// Sees to it that some sleeper wakes for the earliest due time: wakes one, which then looks anew
// when to wake. One that is ready is on its way out and watches no longer. Locks: the clock's.
static void clock_watch(struct lt_clock *c) {
    if (clock_next(c) >= atomic_load(&c->first_wake))
        return;
    for (struct lt_node *n = lt_list_first(&c->blocked); n; n = lt_list_next(&c->blocked, n)) {
        struct lt_waiter *w = LT_CONTAINER(n, struct lt_waiter, node);
        if (w->ready)
            continue;
        lt_cond_signal(&w->cond);
        return;
    }
}

void lt_due_set(leat *mq, struct lt_due *d, int64_t due_ns) {
    struct lt_clock *c = &mq->clock;
    struct lt_agenda *a = clock_agenda(c, d);
    lt_lock(&c->due_lock);
    if (lt_heap_has(&d->node))
        lt_heap_remove(&a->due, &d->node);
    d->due_ns = due_ns;
    d->id = c->next_id++;
    if (due_ns != LT_NEVER)
        (void)lt_heap_push(&a->due, &d->node); // lt_due_init made the room
    clock_hint(a);
    lt_unlock(&c->due_lock);
    if (c->mode != LEAT_CLOCK_SYSTEM)
        return;
    if (d->chore && lt_service_runs(&c->service)) {
        lt_service_wake(mq, due_ns);
    } else if (due_ns < atomic_load(&c->first_wake)) {
        lt_lock(&c->lock);
        clock_watch(c);
        lt_unlock(&c->lock);
    }
    lt_rest_stir(mq);
}

// Runs what is due, in order. Either agenda may be NULL. Returns  how many.
static int clock_fire(leat *mq, struct lt_agenda *events, struct lt_agenda *chores) {
    struct lt_clock *c = &mq->clock;
    int fired = 0;
    int64_t next = events ? atomic_load_explicit(&events->next, memory_order_relaxed) : LT_NEVER;
    if (chores && atomic_load_explicit(&chores->next, memory_order_relaxed) < next)
        next = atomic_load_explicit(&chores->next, memory_order_relaxed);
    if (next == LT_NEVER || next > lt_ahead_ns(mq))
        return 0;
    int64_t now = lt_now_ns(mq);
    if (next > now)
        return 0;
    lt_lock(&c->due_lock);
    for (;; fired++) {
        struct lt_due *d = events ? clock_top(events) : NULL;
        struct lt_due *chore = chores ? clock_top(chores) : NULL;
        if (chore && (!d || clock_sooner(&chore->node, &d->node)))
            d = chore;
        if (!d || d->due_ns > now)
            break;
        struct lt_agenda *a = clock_agenda(c, d);
        lt_heap_remove(&a->due, &d->node);
        clock_hint(a);
        d->running++;
        c->firing++;
        lt_unlock(&c->due_lock);
        d->fn(mq, d);
        lt_lock(&c->due_lock);
        d->running--;
        c->firing--;
        lt_cond_broadcast(&c->due_idle);
        lt_rest_stir(mq);
    }
    lt_unlock(&c->due_lock);
    return fired;
}

void lt_due_fire(leat *mq) {
    struct lt_clock *c = &mq->clock;
    // A chore may sync: not where a callback only looks.
    bool all = !lt_service_runs(&c->service) && !lt_in_callback();
    (void)clock_fire(mq, &c->events, all ? &c->chores : NULL);
}

int lt_due_fire_all(leat *mq) {
    return clock_fire(mq, &mq->clock.events, &mq->clock.chores);
}

void lt_chores_fire(leat *mq) {
    (void)clock_fire(mq, NULL, &mq->clock.chores);
}

// ---- calls that wait

static void clock_timeout(leat *mq, struct lt_due *d) {
    lt_waiter_notify(mq, LT_CONTAINER(d, struct lt_waiter, timeout));
}

int lt_waiter_init(leat *mq, struct lt_waiter *w) {
    *w = (struct lt_waiter){ .until_ns = LT_NEVER };
    lt_node_init(&w->node);
    int rc = lt_cond_init(&w->cond);
    if (rc == 0) {
        rc = lt_due_init(mq, &w->timeout, clock_timeout);
        if (rc != 0)
            lt_cond_fini(&w->cond);
    }
    return rc;
}

void lt_waiter_fini(leat *mq, struct lt_waiter *w) {
    lt_due_end(mq, &w->timeout);
    lt_cond_fini(&w->cond);
}

void lt_back_off(const leat *mq) {
    if (mq->clock.mode == LEAT_CLOCK_SYSTEM)
        lt_linger(CLOCK_BACK_OFF);
}

void lt_waiter_arm(leat *mq, struct lt_waiter *w) {
    lt_lock(&mq->clock.lock);
    w->ready = false;
    lt_unlock(&mq->clock.lock);
}

static void clock_make_ready(struct lt_clock *c, struct lt_waiter *w) {
    w->ready = true;
    if (!lt_node_linked(&w->node))
        return;
    if (!w->counted) {
        w->counted = true;
        c->ready_count++;
    }
    lt_cond_signal(&w->cond);
}

void lt_waiter_notify(leat *mq, struct lt_waiter *w) {
    lt_lock(&mq->clock.lock);
    clock_make_ready(&mq->clock, w);
    lt_unlock(&mq->clock.lock);
}

void lt_wake_all(leat *mq) {
    struct lt_clock *c = &mq->clock;
    lt_lock(&c->lock);
    for (struct lt_node *n = lt_list_first(&c->blocked); n; n = lt_list_next(&c->blocked, n))
        clock_make_ready(c, LT_CONTAINER(n, struct lt_waiter, node));
    lt_cond_broadcast(&c->changed);
    lt_unlock(&c->lock);
    lt_service_wake(mq, INT64_MIN); // it ends with a shutdown
}

static void clock_find_first_wake(struct lt_clock *c) {
    int64_t first = LT_NEVER;
    for (struct lt_node *n = lt_list_first(&c->blocked); n; n = lt_list_next(&c->blocked, n)) {
        const struct lt_waiter *w = LT_CONTAINER(n, struct lt_waiter, node);
        if (w->until_ns < first)
            first = w->until_ns;
    }
    atomic_store(&c->first_wake, first);
}

static void clock_block(struct lt_clock *c, struct lt_waiter *w) {
    w->until_ns = LT_NEVER;
    lt_list_push_back(&c->blocked, &w->node);
    c->blocked_count++;
    lt_rest_blocks(c, true);
}

static void clock_unblock(struct lt_clock *c, struct lt_waiter *w) {
    lt_list_remove(&w->node);
    c->blocked_count--;
    if (w->counted)
        c->ready_count--;
    w->counted = false;
    clock_find_first_wake(c);
    if (c->mode == LEAT_CLOCK_SYSTEM)
        clock_watch(c); // it may have been the one that would have woken
    lt_rest_blocks(c, false);
}

static int clock_wait_system(leat *mq, struct lt_waiter *w, int64_t deadline_ns) {
    struct lt_clock *c = &mq->clock;
    int rc = 0;
    lt_lock(&c->lock);
    clock_block(c, w);
    while (!w->ready && !atomic_load(&mq->shut)) {
        int64_t now = lt_now_ns(mq);
        int64_t next = clock_next(c);
        if (next <= now)
            break;
        if (deadline_ns <= now) {
            rc = LEAT_ETIMEDOUT;
            break;
        }
        w->until_ns = next < deadline_ns ? next : deadline_ns;
        clock_find_first_wake(c);
        if (clock_next(c) < w->until_ns)
            continue; // planned since we looked, by somebody who saw the old first_wake
        (void)lt_cond_wait_until(&w->cond, &c->lock, w->until_ns);
    }
    clock_unblock(c, w);
    lt_unlock(&c->lock);
    lt_due_fire(mq);
    return rc;
}

static int clock_wait_manual(leat *mq, struct lt_waiter *w, int64_t deadline_ns) {
    struct lt_clock *c = &mq->clock;
    if (deadline_ns <= lt_now_ns(mq))
        return LEAT_ETIMEDOUT;
    lt_due_set(mq, &w->timeout, deadline_ns);
    lt_lock(&c->lock);
    clock_block(c, w);
    // Our timeout is planned, then we look at the clock; advance moves the clock, then looks for
    // what is planned: one of the two sees the other.
    while (!w->ready && !atomic_load(&mq->shut) && lt_now_ns(mq) < deadline_ns)
        lt_cond_wait(&w->cond, &c->lock);
    clock_unblock(c, w);
    lt_unlock(&c->lock);
    lt_due_set(mq, &w->timeout, LT_NEVER);
    return 0;
}

static void clock_move(struct lt_clock *c, int64_t to_ns) {
    if (to_ns > atomic_load(&c->mono_ns))
        atomic_store(&c->mono_ns, to_ns);
}

static int clock_wait_jump(leat *mq, const struct lt_waiter *w, int64_t deadline_ns) {
    struct lt_clock *c = &mq->clock;
    lt_lock(&c->lock);
    bool busy = c->jumping, ready = w->ready;
    if (!busy)
        c->jumping = true;
    lt_unlock(&c->lock);
    if (busy)
        return lt_fail(LEAT_EBUSY, "another call waits on this jumping clock");
    int rc = 0;
    int64_t next = atomic_load(&c->events.next);
    if (!ready && next == LT_NEVER && deadline_ns == LT_NEVER) {
        rc = lt_fail(LEAT_EDEADLK, "nothing is planned, so nothing can ever end this wait");
    } else if (!ready && deadline_ns < next) {
        clock_move(c, deadline_ns);
        rc = LEAT_ETIMEDOUT;
    } else if (!ready) {
        clock_move(c, next);
        lt_due_fire(mq);
    }
    lt_lock(&c->lock);
    c->jumping = false;
    lt_unlock(&c->lock);
    return rc;
}

int lt_wait(leat *mq, struct lt_waiter *w, int64_t deadline_ns) {
    int rc;
    if (mq->clock.mode == LEAT_CLOCK_SYSTEM)
        rc = clock_wait_system(mq, w, deadline_ns);
    else if (mq->clock.mode == LEAT_CLOCK_MANUAL)
        rc = clock_wait_manual(mq, w, deadline_ns);
    else
        rc = clock_wait_jump(mq, w, deadline_ns);
    if (atomic_load(&mq->shut))
        return lt_fail(LEAT_ECLOSED, "the store was shut down");
    return rc;
}

// ---- time in the hands of a test

static int clock_need_manual(leat *mq, int where) {
    int rc = lt_enter(mq, where);
    if (rc == 0 && mq->clock.mode == LEAT_CLOCK_SYSTEM)
        rc = lt_fail(LEAT_EINVAL, "the store runs on the system clock");
    return rc;
}

void lt_clock_tell(leat *mq, int more) {
    struct lt_clock *c = &mq->clock;
    if (c->mode == LEAT_CLOCK_SYSTEM)
        return; // nobody waits for it
    lt_lock(&c->lock);
    c->telling += more;
    lt_cond_broadcast(&c->changed);
    lt_unlock(&c->lock);
}

// Waits until every call that became ready has left its wait, and all is told.
static int clock_settle(struct lt_clock *c) {
    int64_t limit = lt_real_ns() + CLOCK_SETTLE_NS;
    bool in_time = true;
    lt_lock(&c->lock);
    while ((c->ready_count > 0 || c->telling > 0) && in_time)
        in_time = lt_cond_wait_until(&c->changed, &c->lock, limit);
    int left = c->ready_count, telling = c->telling;
    lt_unlock(&c->lock);
    if (left > 0)
        return lt_fail(LEAT_ETIMEDOUT, "%d woken callers have not left their wait after 10 s",
                       left);
    return telling == 0 ? 0 : lt_fail(LEAT_ETIMEDOUT, "a callback still runs after 10 s");
}

static int clock_advance(leat *mq, int64_t ms) {
    int rc = 0;
    struct lt_clock *c = &mq->clock;
    int64_t target = lt_add_ms(atomic_load(&c->mono_ns), ms);
    if (ms < 0 || target == LT_NEVER)
        return lt_fail(LEAT_EINVAL, "cannot advance by %lld ms", (long long)ms);
    lt_lock(&c->lock);
    bool busy = c->advancing;
    c->advancing = true;
    lt_unlock(&c->lock);
    if (busy)
        return lt_fail(LEAT_EBUSY, "another call advances this clock");
    while (rc == 0) {
        int64_t next = clock_sooner_of(&c->events, &c->chores);
        bool last = next > target;
        clock_move(c, last ? target : next);
        (void)lt_due_fire_all(mq);
        rc = clock_settle(c);
        if (last &&
            clock_sooner_of(&c->events, &c->chores) > target) // else it was planned while we moved
            break;
    }
    lt_lock(&c->lock);
    c->advancing = false;
    lt_unlock(&c->lock);
    return rc;
}

int leat_clock_advance(leat *mq, int64_t ms) {
    int rc = clock_need_manual(mq, LT_CALL);
    if (rc == 0)
        rc = lt_begin(mq, LT_CALL);
    return rc != 0 ? rc : lt_end(mq, clock_advance(mq, ms));
}

int leat_run_due(leat *mq) {
    int rc = lt_begin(mq, LT_CALL);
    return rc != 0 ? rc : lt_end(mq, lt_due_fire_all(mq));
}

int leat_next_due(leat *mq, int64_t *in_ms) {
    int rc = lt_enter(mq, LT_CALL);
    if (rc == 0 && !in_ms)
        rc = lt_fail(LEAT_EINVAL, "next due: out is NULL");
    if (rc != 0)
        return rc;
    int64_t next = clock_sooner_of(&mq->clock.events, &mq->clock.chores), now = lt_now_ns(mq);
    *in_ms = next <= now ? 0 : (next - now) / 1000000 + ((next - now) % 1000000 != 0);
    if (next == LT_NEVER)
        *in_ms = LEAT_FOREVER;
    return 0;
}

int leat_clock_set_wall(leat *mq, int64_t ms) {
    int rc = clock_need_manual(mq, LT_CALL);
    if (rc != 0)
        return rc;
    if (ms < 0)
        return lt_fail(LEAT_EINVAL, "wall time %lld is before 1970", (long long)ms);
    struct lt_clock *c = &mq->clock;
    atomic_store(&c->wall_offset, ms - atomic_load(&c->mono_ns) / 1000000);
    return 0;
}

int leat_clock_now(leat *mq, int64_t *mono_ms, int64_t *wall_ms) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc != 0)
        return rc;
    int64_t since = mq->clock.mode == LEAT_CLOCK_SYSTEM ? mq->clock.open_ns : 0;
    if (mono_ms)
        *mono_ms = (lt_now_ns(mq) - since) / 1000000;
    if (wall_ms)
        *wall_ms = lt_wall_ms(mq);
    return 0;
}

int leat_clock_wait_blocked(leat *mq, int callers, int64_t real_timeout_ms) {
    int rc = clock_need_manual(mq, LT_CALL);
    if (rc == 0 && mq->clock.mode == LEAT_CLOCK_JUMP)
        rc = lt_fail(LEAT_EINVAL, "on a jumping clock nobody blocks");
    if (rc == 0)
        rc = lt_check_timeout(real_timeout_ms);
    if (rc != 0)
        return rc;
    struct lt_clock *c = &mq->clock;
    int64_t limit = lt_add_ms(lt_real_ns(), real_timeout_ms);
    bool in_time = true;
    lt_lock(&c->lock);
    while (c->blocked_count - c->ready_count < callers && in_time)
        in_time = lt_cond_wait_until(&c->changed, &c->lock, limit);
    int blocked = c->blocked_count - c->ready_count;
    lt_unlock(&c->lock);
    if (blocked >= callers)
        return 0;
    return lt_fail(LEAT_ETIMEDOUT, "%d of %d callers are blocked", blocked, callers);
}
