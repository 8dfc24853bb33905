/* SPDX-License-Identifier: MIT */
#include "store/readonly.h"

#include <errno.h>
#include <fcntl.h>

struct lt_readonly {
    struct lt_os os;
    struct lt_os *under;
    _Atomic uint64_t refused; // relaxed: a count
};

static struct lt_readonly *readonly_of(struct lt_os *os) {
    return (struct lt_readonly *)(void *)os; // its first member
}

static struct lt_os *readonly_under(struct lt_os *os) {
    return readonly_of(os)->under;
}

static int readonly_refuse(struct lt_os *os) {
    atomic_fetch_add_explicit(&readonly_of(os)->refused, 1, memory_order_relaxed);
    return -EROFS;
}

// ---- what only looks

static int64_t readonly_mono_ns(struct lt_os *os) {
    return readonly_under(os)->mono_ns(readonly_under(os));
}

static int64_t readonly_wall_ms(struct lt_os *os) {
    return readonly_under(os)->wall_ms(readonly_under(os));
}

static int readonly_random(struct lt_os *os, void *buf, size_t n) {
    return readonly_under(os)->random(readonly_under(os), buf, n);
}

static uint32_t readonly_user(struct lt_os *os) {
    return readonly_under(os)->user(readonly_under(os));
}

static int readonly_close(struct lt_os *os, int fd) {
    return readonly_under(os)->close(readonly_under(os), fd);
}

static int64_t readonly_pread(struct lt_os *os, int fd, void *buf, size_t n, int64_t at) {
    return readonly_under(os)->pread(readonly_under(os), fd, buf, n, at);
}

static int readonly_info(struct lt_os *os, int fd, struct lt_file_info *out) {
    return readonly_under(os)->info(readonly_under(os), fd, out);
}

static int readonly_list(struct lt_os *os, int fd, lt_list_fn fn, void *ctx) {
    return readonly_under(os)->list(readonly_under(os), fd, fn, ctx);
}

static int readonly_writes_in_place(struct lt_os *os, int fd) {
    return readonly_under(os)->writes_in_place(readonly_under(os), fd);
}

static int readonly_unmap(struct lt_os *os, void *p, size_t n) {
    return readonly_under(os)->unmap(readonly_under(os), p, n);
}

static int64_t readonly_files_max(struct lt_os *os) {
    struct lt_os *under = readonly_under(os);
    return under->files_max ? under->files_max(under) : -1;
}

// What would be written to is opened for reading: the files of a store are read by whoever has a
// descriptor of them. O_NONBLOCK: a pipe that has the name of a file would keep us waiting.
static int readonly_open(struct lt_os *os, int dir, const char *path, int flags, unsigned mode) {
    if (flags & (O_TRUNC | O_EXCL))
        return readonly_refuse(os);
    flags &= ~(O_RDWR | O_WRONLY | O_CREAT);
    return readonly_under(os)->open(readonly_under(os), dir, path, flags | O_RDONLY | O_NONBLOCK,
                                    mode);
}

static int readonly_map(struct lt_os *os, int fd, size_t n, bool writable, void **out) {
    struct lt_os *under = readonly_under(os);
    void *copy;
    int rc = under->map(under, -1, n, fd < 0 ? writable : true, &copy);
    if (rc < 0)
        return rc;
    int64_t got = fd < 0 ? 0 : lt_pread_full(under, fd, copy, n, 0);
    if (got < 0) {
        (void)under->unmap(under, copy, n);
        return (int)got;
    }
    *out = copy;
    return 0;
}

// ---- what writes

static int64_t readonly_no_pwrite(struct lt_os *os, int fd, const void *buf, size_t n, int64_t at) {
    (void)fd, (void)buf, (void)n, (void)at;
    return readonly_refuse(os);
}

static int readonly_no_sync(struct lt_os *os, int fd, bool is_dir) {
    (void)fd, (void)is_dir;
    return readonly_refuse(os);
}

static int readonly_no_truncate(struct lt_os *os, int fd, int64_t size) {
    (void)fd, (void)size;
    return readonly_refuse(os);
}

static int readonly_no_allocate(struct lt_os *os, int fd, int64_t at, int64_t n) {
    (void)fd, (void)at, (void)n;
    return readonly_refuse(os);
}

static int readonly_no_mkdir(struct lt_os *os, int dir, const char *path, unsigned mode) {
    (void)dir, (void)path, (void)mode;
    return readonly_refuse(os);
}

static int readonly_no_unlink(struct lt_os *os, int dir, const char *path, bool is_dir) {
    (void)dir, (void)path, (void)is_dir;
    return readonly_refuse(os);
}

static int readonly_no_rename(struct lt_os *os, int dir, const char *from, const char *to) {
    (void)dir, (void)from, (void)to;
    return readonly_refuse(os);
}

static int readonly_no_lock(struct lt_os *os, int fd) {
    (void)fd;
    return readonly_refuse(os);
}

// Without populate, write_back, memory_file and duplicate, which a table need not have.
static const struct lt_os readonly_table = {
    .mono_ns = readonly_mono_ns,
    .wall_ms = readonly_wall_ms,
    .random = readonly_random,
    .user = readonly_user,
    .open = readonly_open,
    .close = readonly_close,
    .pread = readonly_pread,
    .pwrite = readonly_no_pwrite,
    .sync = readonly_no_sync,
    .truncate = readonly_no_truncate,
    .allocate = readonly_no_allocate,
    .mkdir = readonly_no_mkdir,
    .unlink = readonly_no_unlink,
    .rename = readonly_no_rename,
    .info = readonly_info,
    .list = readonly_list,
    .lock = readonly_no_lock,
    .unlock = readonly_no_lock,
    .writes_in_place = readonly_writes_in_place,
    .map = readonly_map,
    .unmap = readonly_unmap,
    .files_max = readonly_files_max,
};

int lt_readonly_begin(leat *mq) {
    struct lt_readonly *r = lt_zalloc(&mq->mem, sizeof *r);
    if (!r)
        return lt_fail_nomem();
    r->os = readonly_table;
    r->under = mq->os;
    mq->readonly = r;
    mq->os = &r->os;
    return 0;
}

void lt_readonly_end(leat *mq) {
    struct lt_readonly *r = mq->readonly;
    if (!r)
        return;
    mq->os = r->under;
    mq->readonly = NULL;
    lt_free(&mq->mem, r);
}

uint64_t lt_readonly_refused(const leat *mq) {
    return mq->readonly ? atomic_load_explicit(&mq->readonly->refused, memory_order_relaxed) : 0;
}
