/* SPDX-License-Identifier: MIT */
#include "base/core.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// ---- fork: a counter that the child's side of every fork moves on. One read per call, where
// getpid would be a system call of 100 ns.

static atomic_uint core_fork_epoch; // relaxed: changes only while the process has one thread
static pthread_once_t core_fork_once = PTHREAD_ONCE_INIT;
static int core_fork_rc;

static void core_after_fork(void) {
    atomic_fetch_add_explicit(&core_fork_epoch, 1, memory_order_relaxed);
}

static void core_watch_forks(void) {
    core_fork_rc = pthread_atfork(NULL, NULL, core_after_fork);
}

bool lt_forked(const leat *mq) {
    return mq->fork_epoch != atomic_load_explicit(&core_fork_epoch, memory_order_relaxed);
}

enum { CORE_DIRTY_STEP = 8 * 1024 * 1024, CORE_DIRTY_STEP_MIN = 64 * 1024 };

int lt_core_init(leat *mq, const leat_options *o, struct lt_os *os) {
    (void)pthread_once(&core_fork_once, core_watch_forks);
    if (core_fork_rc != 0)
        return lt_fail_nomem();
    mq->os = os;
    mq->flags = o->flags;
    mq->acks = o->acks ? o->acks : LEAT_ACKS_DISK;
    mq->dirty_bytes_max = o->dirty_bytes_max ? o->dirty_bytes_max : INT64_C(1) << 30;
    if (o->dirty_bytes_max == LEAT_UNLIMITED)
        mq->dirty_bytes_max = INT64_MAX;
    mq->sync_interval_ms = o->sync_interval_ms > 0 ? o->sync_interval_ms : 0;
    mq->dirty_step = mq->dirty_bytes_max / 4; // a step is counted, and its writing begun, at once
    if (mq->dirty_step > CORE_DIRTY_STEP)
        mq->dirty_step = CORE_DIRTY_STEP;
    if (mq->dirty_step < CORE_DIRTY_STEP_MIN)
        mq->dirty_step = CORE_DIRTY_STEP_MIN;
    mq->memory_max_bytes = o->memory_max_bytes ? o->memory_max_bytes : INT64_C(1) << 30;
    if (o->memory_max_bytes == LEAT_UNLIMITED)
        mq->memory_max_bytes = INT64_MAX;
    mq->threads = o->threads != LEAT_NO_THREADS;
    mq->callbacks = o->threads == LEAT_NO_THREADS ? LEAT_CALLBACKS_POLL
                    : o->callbacks                ? o->callbacks
                                                  : LEAT_CALLBACKS_THREAD;
    mq->fork_epoch = atomic_load_explicit(&core_fork_epoch, memory_order_relaxed);
    mq->trace = o->trace;
    mq->trace_ctx = o->trace_ctx;
    mq->log_fn = o->log;
    mq->log_ctx = o->log_ctx;
    lt_list_init(&mq->children);
    uint64_t seed = o->seed;
    if (seed == 0) {
        int rc = os->random(os, &seed, sizeof seed);
        if (rc < 0)
            return lt_fail_os(rc, "drawing a seed");
    }
    lt_chance_init(&mq->chance, seed);
    int rc = lt_mutex_init(&mq->children_lock, LT_RANK_CHILDREN);
    if (rc != 0)
        return rc;
    rc = lt_clock_init(&mq->clock, o, os, &mq->mem);
    if (rc != 0)
        goto no_clock;
    rc = lt_courier_init(&mq->courier);
    if (rc != 0)
        goto no_courier;
    rc = lt_pins_init(&mq->pins, &mq->mem);
    if (rc != 0)
        goto no_pins;
    rc = lt_faults_init(&mq->faults);
    if (rc == 0)
        return 0;
    lt_pins_fini(&mq->pins);
no_pins:
    lt_courier_fini(mq);
no_courier:
    lt_clock_fini(&mq->clock);
no_clock:
    lt_mutex_fini(&mq->children_lock);
    return rc;
}

void lt_core_fini(leat *mq) {
    lt_faults_fini(mq);
    lt_pins_fini(&mq->pins);
    if (lt_forked(mq)) // lt_due_end left them in: what they are part of is freed by now.
        mq->clock.events.due.n = mq->clock.chores.due.n = 0;
    lt_courier_fini(mq);
    lt_clock_fini(&mq->clock);
    lt_mutex_fini(&mq->children_lock);
}

// ---- entering

static _Thread_local int core_callback_depth;

void lt_callback_begin(void) {
    core_callback_depth++;
}

void lt_callback_end(void) {
    core_callback_depth--;
}

bool lt_in_callback(void) {
    return core_callback_depth > 0;
}

int lt_callback_depth(void) {
    return core_callback_depth;
}

int lt_enter(leat *mq, int where) {
    if (!mq)
        return lt_fail(LEAT_EINVAL, "the handle is NULL");
    if (lt_forked(mq))
        return lt_fail(LEAT_EFORK, "the store was opened by the parent process");
    if (atomic_load_explicit(&mq->shut, memory_order_relaxed) && !(where & LT_CALL_SHUT))
        return lt_fail(LEAT_ECLOSED, "the store was shut down");
    if (core_callback_depth > 0 && !(where & LT_CALL_CB))
        return lt_fail(LEAT_EDEADLK, "not allowed inside a callback");
    return 0;
}

int lt_begin(leat *mq, int where) {
    int rc = lt_enter(mq, where);
    if (rc != 0 || !(mq->flags & LEAT_CRASHABLE))
        return rc;
    lt_lock(&mq->clock.lock);
    // leat_crash sets both, then takes the lock to count.
    bool over = atomic_load(where & LT_CALL_SHUT ? &mq->crashed : &mq->shut);
    if (!over)
        mq->inside++;
    lt_unlock(&mq->clock.lock);
    return over ? lt_fail(LEAT_ECLOSED, "the store was shut down") : 0;
}

void lt_begin_counted(leat *mq) {
    lt_lock(&mq->clock.lock);
    mq->inside++;
    lt_unlock(&mq->clock.lock);
}

int lt_end_counted(leat *mq, int rc) {
    lt_lock(&mq->clock.lock);
    if (--mq->inside == 0)
        lt_cond_broadcast(&mq->clock.changed);
    lt_unlock(&mq->clock.lock);
    return rc;
}

void lt_calls_wait(leat *mq) {
    lt_lock(&mq->clock.lock);
    while (mq->inside > 0)
        lt_cond_wait(&mq->clock.changed, &mq->clock.lock);
    lt_unlock(&mq->clock.lock);
}

bool lt_stores(const leat *mq) {
    return !lt_forked(mq) && !atomic_load(&mq->crashed) && !lt_read_only(mq);
}

int lt_check_writable(const leat *mq, const char *what, const char *name) {
    return lt_read_only(mq)
               ? lt_fail(LEAT_EACCESS, "%s %s: the store %s is open read-only", what, name, mq->dir)
               : 0;
}

// ---- children, chance, words

void lt_child_add(leat *mq, struct lt_child *child) {
    lt_lock(&mq->children_lock);
    if (child->first)
        lt_list_push_front(&mq->children, &child->node);
    else
        lt_list_push_back(&mq->children, &child->node);
    lt_unlock(&mq->children_lock);
}

void lt_child_remove(leat *mq, struct lt_child *child) {
    lt_lock(&mq->children_lock);
    lt_list_remove(&child->node);
    lt_unlock(&mq->children_lock);
}

uint64_t lt_chance_next(leat *mq) {
    lt_lock(&mq->children_lock);
    uint64_t x = lt_chance_u64(&mq->chance);
    lt_unlock(&mq->children_lock);
    return x;
}

void lt_trace_emit(leat *mq, const char *event, const char *who, const leat_metadata *where,
                   int error) {
    leat_trace_event e = { .at_ms = lt_now_ns(mq) / 1000000,
                           .event = event,
                           .who = who,
                           .topic = where ? where->topic : NULL,
                           .offset = where ? where->offset : -1,
                           .partition = where ? where->partition : -1,
                           .error = error,
                           .detail = error < 0 ? leat_strerror(error) : NULL };
    mq->trace(&e, mq->trace_ctx);
}

void lt_say(leat *mq, int level, const char *fmt, ...) {
    if (!mq->log_fn)
        return;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n >= 0)
        mq->log_fn(level, text, mq->log_ctx);
}

// ---- arguments

int lt_check_name(const char *what, const char *name) {
    if (!name)
        return lt_fail(LEAT_EINVAL, "the name of a %s is NULL", what);
    size_t n = strnlen(name, 250);
    if (n == 0 || n > 249)
        return lt_fail(LEAT_EINVAL, "%s name '%.32s%s': 1 to 249 characters", what, name,
                       n > 32 ? "..." : "");
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (strspn(name, legal) != n)
        return lt_fail(LEAT_EINVAL, "%s name '%s': only A-Z a-z 0-9 . _ -", what, name);
    return 0;
}

int lt_check_timeout(int64_t timeout_ms) {
    if (timeout_ms >= 0 || timeout_ms == LEAT_FOREVER)
        return 0;
    return lt_fail(LEAT_EINVAL, "a timeout of %lld ms", (long long)timeout_ms);
}

int lt_check_reserved(const char *what, const uint64_t *words, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (words[i] != 0)
            return lt_fail(LEAT_EINVAL, "%s: reserved words must be zero", what);
    return 0;
}
