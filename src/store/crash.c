/* SPDX-License-Identifier: MIT */
// The tables of a store that can be crashed, from the caller's downward:
//
//   disk      crashable (what was synced) --> the system
//   memory    crashable                   --> memfs (names) --> the system
//
// A crash hands crashable and memfs to the store that is opened then, and the old one gets a table
// that can only unmap and close: its descriptors and mappings are the system's own.
#include "store/crash.h"

#include "leat_test.h"
#include "store/crashable.h"
#include "store/memfs.h"
#include "store/store.h"

#include <errno.h>

struct lt_crash {
    struct lt_os os; // of a store that has crashed
    struct lt_os *under;
    leat_options options;
    struct lt_crashable *crashable; // NULL: without LEAT_CRASHABLE
    struct lt_os *memfs;            // NULL: a disk store
};

// ---- the table of a store that has crashed

static struct lt_os *crash_under(struct lt_os *os) {
    return ((struct lt_crash *)(void *)os)->under; // os is its first member
}

static int crash_close(struct lt_os *os, int fd) {
    return crash_under(os)->close(crash_under(os), fd);
}

static int crash_unmap(struct lt_os *os, void *p, size_t n) {
    return crash_under(os)->unmap(crash_under(os), p, n);
}

static int64_t crash_mono_ns(struct lt_os *os) {
    return crash_under(os)->mono_ns(crash_under(os));
}

static int64_t crash_wall_ms(struct lt_os *os) {
    return crash_under(os)->wall_ms(crash_under(os));
}

static int crash_random(struct lt_os *os, void *buf, size_t n) {
    return crash_under(os)->random(crash_under(os), buf, n);
}

static uint32_t crash_user(struct lt_os *os) {
    return crash_under(os)->user(crash_under(os));
}

static int crash_no_open(struct lt_os *os, int dir, const char *path, int flags, unsigned mode) {
    (void)os, (void)dir, (void)path, (void)flags, (void)mode;
    return -EIO;
}

static int64_t crash_no_pread(struct lt_os *os, int fd, void *buf, size_t n, int64_t at) {
    (void)os, (void)fd, (void)buf, (void)n, (void)at;
    return -EIO;
}

static int64_t crash_no_pwrite(struct lt_os *os, int fd, const void *buf, size_t n, int64_t at) {
    (void)os, (void)fd, (void)buf, (void)n, (void)at;
    return -EIO;
}

static int crash_no_sync(struct lt_os *os, int fd, bool is_dir) {
    (void)os, (void)fd, (void)is_dir;
    return -EIO;
}

static int crash_no_truncate(struct lt_os *os, int fd, int64_t size) {
    (void)os, (void)fd, (void)size;
    return -EIO;
}

static int crash_no_allocate(struct lt_os *os, int fd, int64_t at, int64_t n) {
    (void)os, (void)fd, (void)at, (void)n;
    return -EIO;
}

static int crash_no_mkdir(struct lt_os *os, int dir, const char *path, unsigned mode) {
    (void)os, (void)dir, (void)path, (void)mode;
    return -EIO;
}

static int crash_no_unlink(struct lt_os *os, int dir, const char *path, bool is_dir) {
    (void)os, (void)dir, (void)path, (void)is_dir;
    return -EIO;
}

static int crash_no_rename(struct lt_os *os, int dir, const char *from, const char *to) {
    (void)os, (void)dir, (void)from, (void)to;
    return -EIO;
}

static int crash_no_info(struct lt_os *os, int fd, struct lt_file_info *out) {
    (void)os, (void)fd, (void)out;
    return -EIO;
}

static int crash_no_list(struct lt_os *os, int fd, lt_list_fn fn, void *ctx) {
    (void)os, (void)fd, (void)fn, (void)ctx;
    return -EIO;
}

static int crash_no_fd(struct lt_os *os, int fd) {
    (void)os, (void)fd;
    return -EIO;
}

static int crash_no_map(struct lt_os *os, int fd, size_t n, bool writable, void **out) {
    (void)os, (void)fd, (void)n, (void)writable, (void)out;
    return -EIO;
}

static const struct lt_os crash_table = {
    .mono_ns = crash_mono_ns,
    .wall_ms = crash_wall_ms,
    .random = crash_random,
    .user = crash_user,
    .open = crash_no_open,
    .close = crash_close,
    .pread = crash_no_pread,
    .pwrite = crash_no_pwrite,
    .sync = crash_no_sync,
    .truncate = crash_no_truncate,
    .allocate = crash_no_allocate,
    .mkdir = crash_no_mkdir,
    .unlink = crash_no_unlink,
    .rename = crash_no_rename,
    .info = crash_no_info,
    .list = crash_no_list,
    .lock = crash_no_fd,
    .unlock = crash_no_fd,
    .writes_in_place = crash_no_fd,
    .map = crash_no_map,
    .unmap = crash_unmap,
};

// ---- opening and closing

static int crash_make_tables(leat *mq, bool memory) {
    struct lt_crash *c = mq->crash;
    if (!(mq->flags & LEAT_CRASHABLE))
        return 0;
    if (memory)
        c->memfs = lt_memfs_new(&mq->mem, c->under, mq->memory_max_bytes);
    if (memory && !c->memfs)
        return lt_fail(LEAT_ENOMEM, "no memory file for a store with LEAT_CRASHABLE");
    c->crashable = lt_crashable_new(&mq->mem, memory ? c->memfs : c->under);
    return c->crashable ? 0 : lt_fail_nomem();
}

int lt_crash_prepare(leat *mq, const leat_options *o, leat *from, const char **dir) {
    bool memory = !*dir;
    if (memory && !(mq->flags & LEAT_CRASHABLE))
        return 0; // opens in less than it takes to allocate this
    struct lt_crash *c = lt_zalloc(&mq->mem, sizeof *c);
    if (!c)
        return lt_fail_nomem();
    mq->crash = c;
    c->os = crash_table;
    c->under = mq->os;
    c->options = *o;
    int rc = 0;
    if (from) {
        c->under = from->crash->under;
        c->crashable = from->crash->crashable;
        c->memfs = from->crash->memfs;
        from->crash->crashable = NULL;
        from->crash->memfs = NULL;
        mq->chance = from->chance;
        lt_clock_go_on(&mq->clock, &from->clock);
    } else {
        rc = crash_make_tables(mq, memory);
    }
    if (c->crashable)
        mq->os = lt_crashable_os(c->crashable);
    if (memory) {
        *dir = "memory";
        mq->flags &= ~(uint32_t)LEAT_MUST_EXIST; // it never does
    }
    return rc;
}

void lt_crash_end(leat *mq) {
    struct lt_crash *c = mq->crash;
    if (c && c->crashable)
        lt_crashable_free(c->crashable);
    if (c && c->memfs)
        lt_memfs_free(c->memfs);
    lt_free(&mq->mem, c);
    mq->crash = NULL;
}

void lt_crash_in_fork(leat *mq) {
    if (mq->crash)
        mq->os = &mq->crash->os;
}

// ---- the crash

static int crash_check(leat *mq, int how, leat **reopened) {
    if (!reopened)
        return lt_fail(LEAT_EINVAL, "crash: reopened is NULL");
    *reopened = NULL;
    int rc = lt_enter(mq, LT_CALL);
    if (rc != 0)
        return rc;
    if (how != LEAT_KILL && how != LEAT_POWER_CUT)
        return lt_fail(LEAT_EINVAL, "crash: how is %d", how);
    rc = lt_check_writable(mq, "crash", "of it");
    if (rc != 0)
        return rc;
    if (!mq->crash)
        return lt_fail(LEAT_EINVAL, "crash: this memory store was opened without LEAT_CRASHABLE");
    if (how == LEAT_POWER_CUT && !mq->crash->crashable)
        return lt_fail(LEAT_EINVAL, "crash: %s was opened without LEAT_CRASHABLE", mq->dir);
    return 0;
}

// Waits until every call has left that may change what is stored, and every wait has ended.
static void crash_wait_for_calls(leat *mq) {
    struct lt_clock *c = &mq->clock;
    lt_lock(&c->lock);
    while (mq->inside > 0 || c->blocked_count > 0)
        lt_cond_wait(&c->changed, &c->lock);
    lt_unlock(&c->lock);
}

int leat_crash(leat *mq, int how, leat **reopened) {
    int rc = crash_check(mq, how, reopened);
    if (rc != 0)
        return rc;
    if (atomic_exchange(&mq->shut, true))
        return lt_fail(LEAT_ECLOSED, "the store was shut down");
    atomic_store(&mq->crashed, true); // before the calls are counted: see lt_begin
    lt_wake_all(mq);
    lt_service_end(mq);
    crash_wait_for_calls(mq);
    struct lt_crash *c = mq->crash;
    lt_dir_unlock(mq);
    mq->os = &c->os;
    int cut = how == LEAT_POWER_CUT ? lt_crashable_cut(c->crashable, &mq->chance) : 0;
    if (cut < 0)
        return lt_fail_os(cut, "crash: writing to %s what a power cut leaves", mq->dir);
    return lt_store_reopen(mq, c->memfs ? NULL : mq->dir, &c->options, reopened);
}
