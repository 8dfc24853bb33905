/* SPDX-License-Identifier: MIT */
#include "store/store.h"

#include "base/workers.h"
#include "leat_test.h"
#include "log/log.h"
#include "pubsub/pubsub.h"
#include "queue/queue.h"
#include "store/crash.h"
#include "store/readonly.h"

#include <stdio.h>
#include <string.h>

enum { STORE_VIEW_TRIES = 32, STORE_VIEW_TEXT = 512 };

// ---- open

static int store_check_options(const leat_options *o) {
    int rc = lt_check_reserved("store options", o->reserved, 8);
    if (rc != 0)
        return rc;
    if (o->flags & ~(uint32_t)(LEAT_STRICT | LEAT_READ_ONLY | LEAT_MUST_EXIST | LEAT_SKIP_ROT |
                               LEAT_CRASHABLE))
        return lt_fail(LEAT_EINVAL, "store options: unknown flags %#x", o->flags);
    if ((o->flags & LEAT_READ_ONLY) && (o->flags & LEAT_CRASHABLE))
        return lt_fail(LEAT_EINVAL, "store options: LEAT_READ_ONLY with LEAT_CRASHABLE");
    if (o->threads != 0 && o->threads != LEAT_NO_THREADS)
        return lt_fail(LEAT_EINVAL, "store options: threads is %d", o->threads);
    if (o->callbacks < 0 || o->callbacks > LEAT_CALLBACKS_POLL)
        return lt_fail(LEAT_EINVAL, "store options: callbacks is %d", o->callbacks);
    if (o->threads == LEAT_NO_THREADS && o->callbacks == LEAT_CALLBACKS_THREAD)
        return lt_fail(LEAT_EINVAL, "store options: callbacks on a thread, and no threads");
    if (!lt_acks_sound(o->acks))
        return lt_fail(LEAT_EINVAL, "store options: acks is %d", o->acks);
    if (o->clock < 0 || o->clock > LEAT_CLOCK_JUMP)
        return lt_fail(LEAT_EINVAL, "store options: clock is %d", o->clock);
    if (o->clock == LEAT_CLOCK_JUMP && o->threads != LEAT_NO_THREADS)
        return lt_fail(LEAT_EINVAL, "store options: a jumping clock needs LEAT_NO_THREADS");
    if (o->start_ms < 0)
        return lt_fail(LEAT_EINVAL, "store options: start_ms is %lld", (long long)o->start_ms);
    if (o->memory_max_bytes < 0 && o->memory_max_bytes != LEAT_UNLIMITED)
        return lt_fail(LEAT_EINVAL, "store options: memory_max_bytes is %lld",
                       (long long)o->memory_max_bytes);
    if (o->dirty_bytes_max < 0 && o->dirty_bytes_max != LEAT_UNLIMITED)
        return lt_fail(LEAT_EINVAL, "store options: dirty_bytes_max is %lld",
                       (long long)o->dirty_bytes_max);
    if (o->sync_interval_ms < 0 && o->sync_interval_ms != LEAT_FOREVER &&
        o->sync_interval_ms != LEAT_ZERO)
        return lt_fail(LEAT_EINVAL, "store options: sync_interval_ms is %lld",
                       (long long)o->sync_interval_ms);
    if (o->write < 0 || o->write > LEAT_WRITE_PWRITE)
        return lt_fail(LEAT_EINVAL, "store options: write is %d", o->write);
    return 0;
}

static int store_choose_write(leat *mq, int32_t asked) {
    if (lt_read_only(mq))
        return 0; // not at all
    int in_place = mq->os->writes_in_place(mq->os, mq->dir_fd);
    if (in_place < 0)
        return lt_fail_os(in_place, "asking for the file system of %s", mq->dir);
    mq->mapped_write = asked ? asked == LEAT_WRITE_MAPPED : in_place == 1;
    return 0;
}

static int store_open_rooms(leat *mq, bool create) {
    int rc = lt_log_open(mq, create);
    if (rc != 0)
        return rc;
    rc = lt_queues_open(mq);
    if (rc == 0) {
        rc = lt_channels_open(mq);
        if (rc == 0 && !lt_read_only(mq)) {
            lt_log_retain(mq);
            rc = lt_service_open(mq);
        }
        if (rc == 0)
            return 0;
        lt_courier_end(mq); // topics that are announced may have started it
        lt_channels_close(mq);
        (void)lt_queues_close(mq);
    }
    (void)lt_log_close(mq);
    return rc;
}

// Opens the rooms of a store that is looked at. Its owner may be at work, and what was read at
// different times need not fit together: what looks like damage is looked at again, until it is
// found twice.
static int store_open_twice(leat *mq) {
    char last[STORE_VIEW_TEXT] = "";
    for (int i = 0;; i++) {
        int rc = store_open_rooms(mq, false);
        if (rc != LEAT_ECORRUPT && rc != LEAT_ENOENT)
            return rc;
        if (i == STORE_VIEW_TRIES || strncmp(last, leat_errmsg(), sizeof last - 1) == 0)
            return rc;
        (void)snprintf(last, sizeof last, "%s", leat_errmsg());
    }
}

// With LEAT_SKIP_ROT, too: or what an owner was about to write would be left out.
static int store_open_view(leat *mq) {
    const uint32_t flags = mq->flags;
    mq->flags &= ~(uint32_t)LEAT_SKIP_ROT;
    int rc = store_open_twice(mq);
    mq->flags = flags;
    return rc == LEAT_ECORRUPT && (flags & LEAT_SKIP_ROT) ? store_open_twice(mq) : rc;
}

// *mq has its core. Opens the rest, and on failure leaves nothing but the core.
static int store_open_all(leat *mq, const char *dir, const leat_options *o, leat *crashed) {
    int rc = lt_read_only(mq) ? lt_readonly_begin(mq) : 0;
    bool create = true;
    if (rc == 0)
        rc = lt_crash_prepare(mq, o, crashed, &dir);
    if (rc == 0 && dir)
        rc = lt_dir_open(mq, dir, &create);
    if (rc == 0 && dir)
        rc = store_choose_write(mq, o->write);
    if (rc == 0)
        rc = lt_read_only(mq) ? store_open_view(mq) : store_open_rooms(mq, create);
    if (rc != 0) {
        lt_dir_close(mq);
        lt_crash_end(mq);
        lt_readonly_end(mq);
    }
    return rc;
}

static int store_core(const leat_options *o, struct lt_os *os, leat **out) {
    struct lt_mem mem = { .fn = o->alloc, .ctx = o->alloc_ctx };
    leat *mq = lt_zalloc(&mem, sizeof *mq);
    if (!mq)
        return lt_fail_nomem();
    mq->mem.fn = mem.fn;
    mq->mem.ctx = mem.ctx;
    mq->dir_fd = mq->lock_fd = -1;
    int rc = lt_core_init(mq, o, os);
    if (rc == 0)
        *out = mq;
    else
        lt_free(&mem, mq);
    return rc;
}

void lt_store_core_free(leat *mq) {
    struct lt_mem mem = { .fn = mq->mem.fn, .ctx = mq->mem.ctx };
    lt_core_fini(mq);
    lt_free(&mem, mq);
}

// As lt_store_open; `crashed`: in the place of that one.
static int store_open(const char *dir, const leat_options *o, struct lt_os *os, leat *crashed,
                      leat **out) {
    leat *mq;
    int rc = store_core(o, os, &mq);
    if (rc != 0)
        return rc;
    rc = store_open_all(mq, dir, o, crashed);
    if (rc == 0) {
        *out = mq;
        lt_trace(mq, "open", NULL, NULL, 0);
        return 0;
    }
    lt_store_core_free(mq);
    return rc;
}

int lt_store_core(const leat_options *o, uint32_t flags, struct lt_os *os, leat **out) {
    leat_options full = { 0 };
    if (o)
        full = *o;
    full.flags |= flags;
    int rc = store_check_options(&full);
    return rc != 0 ? rc : store_core(&full, os, out);
}

int lt_store_open(const char *dir, const leat_options *o, struct lt_os *os, leat **out) {
    static const leat_options defaults;
    o = o ? o : &defaults;
    if (!out)
        return lt_fail(LEAT_EINVAL, "open: out is NULL");
    *out = NULL;
    int rc = store_check_options(o);
    if (rc == 0 && !dir && (o->flags & LEAT_READ_ONLY))
        rc = lt_fail(LEAT_EINVAL, "a memory store cannot be read-only");
    return rc != 0 ? rc : store_open(dir, o, os, NULL, out);
}

int lt_store_reopen(leat *crashed, const char *dir, const leat_options *o, leat **out) {
    return store_open(dir, o, crashed->clock.os, crashed, out);
}

int leat_open(const char *dir, const leat_options *o, leat **out) {
    if (out)
        *out = NULL;
    if (!dir || !*dir)
        return lt_fail(LEAT_EINVAL, "open: the directory is NULL or empty");
    if (lt_in_callback())
        return lt_fail(LEAT_EDEADLK, "not allowed inside a callback");
    return lt_store_open(dir, o, lt_os_system(), out);
}

int leat_open_memory(const leat_options *o, leat **out) {
    if (out)
        *out = NULL;
    if (lt_in_callback())
        return lt_fail(LEAT_EDEADLK, "not allowed inside a callback");
    return lt_store_open(NULL, o, lt_os_system(), out);
}

int leat_test_open(leat **out) {
    leat_options o = {
        .flags = LEAT_STRICT, .threads = LEAT_NO_THREADS, .clock = LEAT_CLOCK_JUMP, .seed = 1
    };
    return leat_open_memory(&o, out);
}

// ---- close

int leat_shutdown(leat *mq) {
    int rc = lt_enter(mq, LT_CALL_CB | LT_CALL_SHUT);
    if (rc != 0)
        return rc;
    atomic_store(&mq->shut, true);
    lt_wake_all(mq);
    lt_lock(&mq->children_lock);
    for (struct lt_node *n = lt_list_first(&mq->children); n; n = lt_list_next(&mq->children, n)) {
        struct lt_child *c = LT_CONTAINER(n, struct lt_child, node);
        if (c->shut)
            c->shut(c);
    }
    lt_unlock(&mq->children_lock);
    return 0;
}

static int store_enter_close(leat *mq, int64_t timeout_ms) {
    if (!mq)
        return lt_fail(LEAT_EINVAL, "the handle is NULL");
    if (lt_in_callback())
        return lt_fail(LEAT_EDEADLK, "not allowed inside a callback");
    return lt_check_timeout(timeout_ms);
}

// Names what is still open: LEAT_EBUSY, or 0.
static int store_children(leat *mq) {
    char text[256] = "";
    size_t used = 0, count = 0;
    lt_lock(&mq->children_lock);
    for (struct lt_node *n = lt_list_first(&mq->children); n; n = lt_list_next(&mq->children, n)) {
        const struct lt_child *c = LT_CONTAINER(n, struct lt_child, node);
        if (count++ >= 4)
            continue;
        int k = snprintf(text + used, sizeof text - used, "%s%s %s", used ? ", " : "", c->kind,
                         c->name ? c->name : "(unnamed)");
        used += k > 0 && (size_t)k < sizeof text - used ? (size_t)k : 0;
    }
    lt_unlock(&mq->children_lock);
    if (count == 0)
        return 0;
    return lt_fail(LEAT_EBUSY, "%zu still open: %s%s", count, text, count > 4 ? ", ..." : "");
}

static int store_views(leat *mq) {
    uint32_t out = lt_pin_count(mq, LT_PIN_VIEW | LT_PIN_HELD);
    if (out == 0)
        return 0;
    return lt_fail(LEAT_EBUSY, "%u message%s held and not released", out,
                   out == 1 ? " is" : "s are");
}

static int store_futures(leat *mq) {
    size_t out = lt_futures_count(mq);
    return out == 0 ? 0 : lt_fail(LEAT_EBUSY, "%zu futures are not released", out);
}

// With LEAT_STRICT: LEAT_EBUSY names what is leased. A crash ended all leases.
static int store_leased(leat *mq) {
    bool strict = (mq->flags & LEAT_STRICT) && !atomic_load(&mq->crashed);
    return strict ? lt_queues_leased(mq) : 0;
}

// In a fork: threads of the parent may have held any lock when it was made.
static void store_forget_children(leat *mq) {
    struct lt_node *n = lt_list_first(&mq->children);
    while (n) {
        struct lt_child *c = LT_CONTAINER(n, struct lt_child, node);
        n = lt_list_next(&mq->children, n);
        if (c->forget)
            c->forget(c);
    }
}

static int store_free(leat *mq) {
    lt_trace(mq, "close", NULL, NULL, 0);
    if (lt_forked(mq)) {
        lt_crash_in_fork(mq);
        store_forget_children(mq);
    }
    lt_service_end(mq);
    lt_courier_end(mq);
    int rc = lt_queues_close(mq);
    lt_channels_close(mq);
    int log_rc = lt_log_close(mq);
    lt_dir_close(mq);
    lt_crash_end(mq);
    lt_readonly_end(mq);
    lt_store_core_free(mq);
    return rc != 0 ? rc : log_rc;
}

int leat_close(leat *mq, int64_t timeout_ms) {
    int rc = store_enter_close(mq, timeout_ms);
    if (rc == 0 && !lt_forked(mq)) {
        lt_workers_reap(mq);
        rc = store_children(mq);
        if (rc == 0)
            rc = store_views(mq);
        if (rc == 0)
            rc = store_futures(mq);
        if (rc == 0)
            rc = store_leased(mq);
        if (rc == 0)
            lt_calls_wait(mq); // what they held is free, and they are about to return
    }
    return rc != 0 ? rc : store_free(mq);
}

// LEAT_EBUSY if a child is in use on another thread: then none of them is closed.
static int store_busy_child(leat *mq) {
    const struct lt_child *busy = NULL;
    lt_lock(&mq->children_lock);
    for (struct lt_node *n = lt_list_first(&mq->children); n && !busy;
         n = lt_list_next(&mq->children, n)) {
        const struct lt_child *c = LT_CONTAINER(n, struct lt_child, node);
        busy = c->busy && c->busy(c) ? c : NULL;
    }
    int rc = !busy ? 0
                   : lt_fail(LEAT_EBUSY, "another thread is in a call of %s %s", busy->kind,
                             busy->name ? busy->name : "(unnamed)");
    lt_unlock(&mq->children_lock);
    return rc;
}

// With LEAT_STRICT: LEAT_EBUSY names what a child has not given yet.
static int store_owing_child(leat *mq) {
    int rc = 0;
    lt_lock(&mq->children_lock);
    for (struct lt_node *n = lt_list_first(&mq->children); n && rc == 0;
         n = lt_list_next(&mq->children, n)) {
        struct lt_child *c = LT_CONTAINER(n, struct lt_child, node);
        rc = c->owes ? c->owes(c) : 0;
    }
    lt_unlock(&mq->children_lock);
    return rc;
}

static int store_close_children(leat *mq, bool first, int64_t timeout_ms, int *lost) {
    for (;;) {
        lt_lock(&mq->children_lock);
        struct lt_node *n = lt_list_first(&mq->children);
        lt_unlock(&mq->children_lock);
        struct lt_child *c = n ? LT_CONTAINER(n, struct lt_child, node) : NULL;
        if (!c || (first && !c->first))
            return 0;
        int rc = c->close(c, timeout_ms);
        if (rc == LEAT_EBUSY)
            return rc;
        *lost += rc > 0 && rc < INT32_MAX - *lost ? rc : 0;
    }
}

int leat_close_all(leat *mq, int64_t timeout_ms) {
    int rc = store_enter_close(mq, timeout_ms);
    if (rc != 0)
        return rc;
    if (lt_forked(mq))
        return store_free(mq);
    if (mq->flags & LEAT_STRICT) {
        rc = store_views(mq);
        if (rc == 0)
            rc = store_leased(mq);
        if (rc == 0)
            rc = store_owing_child(mq);
        if (rc != 0)
            return rc;
    }
    int lost = 0;
    rc = store_busy_child(mq);
    if (rc == 0)
        rc = store_close_children(mq, true, timeout_ms, &lost);
    if (rc == 0) {
        lt_pin_end_all(mq); // or a queue with views out would not close
        rc = store_close_children(mq, false, timeout_ms, &lost);
    }
    if (rc != 0)
        return rc;
    lt_pin_end_all(mq); // what callbacks held before the last of them was over
    lt_futures_free(mq);
    rc = leat_close(mq, timeout_ms);
    return rc != 0 ? rc : lost;
}
