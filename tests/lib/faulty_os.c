/* SPDX-License-Identifier: MIT */
// faulty_os: every call goes through faulty_turn, which counts it and decides, and then, unless it
// fails, through the real table.
#include "lib/faulty_os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

// What a call can fail with in life, the likeliest first; 0 ends a list.
static const struct {
    const char *name;
    int errors[4];
} faulty_ops[FAULTY_OPS] = {
    [FAULTY_RANDOM] = { "random", { EIO } },
    [FAULTY_OPEN] = { "open", { EMFILE, EACCES, ENOSPC, EIO } },
    [FAULTY_CLOSE] = { "close", { EIO, ENOSPC } },
    [FAULTY_PREAD] = { "pread", { EIO } },
    [FAULTY_PWRITE] = { "pwrite", { ENOSPC, EIO, EDQUOT } },
    [FAULTY_SYNC] = { "sync", { EIO, ENOSPC } },
    [FAULTY_TRUNCATE] = { "truncate", { EIO, ENOSPC } },
    [FAULTY_ALLOCATE] = { "allocate", { ENOSPC, EIO } },
    [FAULTY_MKDIR] = { "mkdir", { EACCES, ENOSPC, EIO } },
    [FAULTY_UNLINK] = { "unlink", { EACCES, EIO } },
    [FAULTY_RENAME] = { "rename", { EACCES, ENOSPC, EIO } },
    [FAULTY_INFO] = { "info", { EIO } },
    [FAULTY_LIST] = { "list", { EIO, EMFILE } },
    [FAULTY_LOCK] = { "lock", { ENOLCK } },
    [FAULTY_IN_PLACE] = { "writes_in_place", { EIO } },
    [FAULTY_MAP] = { "map", { ENOMEM, EACCES } },
    [FAULTY_UNMAP] = { "unmap", { ENOMEM } },
};

const char *faulty_op_name(enum faulty_op op) {
    return faulty_ops[op].name;
}

static struct faulty_os *faulty_of(struct lt_os *os) {
    return (struct faulty_os *)(void *)os; // os is its first member
}

__attribute__((format(printf, 2, 3))) static void faulty_note(char text[160], const char *format,
                                                              ...) {
    if (text[0] != '\0')
        return; // the first one is the one to tell
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, 160, format, list);
    va_end(list);
}

// ---- what fails

static int faulty_error(const struct faulty_os *f, enum faulty_op op) {
    if (f->plan.error != 0)
        return f->plan.error;
    unsigned n = 0;
    while (n < 4 && faulty_ops[op].errors[n] != 0)
        n++;
    return faulty_ops[op].errors[f->plan.variant % n];
}

static bool faulty_halves(const struct faulty_os *f, enum faulty_op op) {
    if (f->plan.how == FAULTY_TORN)
        return op == FAULTY_PWRITE || op == FAULTY_ALLOCATE;
    return op == FAULTY_PWRITE || op == FAULTY_PREAD;
}

static const char *faulty_path(const struct faulty_os *f, int fd) {
    return fd >= 0 && fd < FAULTY_FDS && f->fd[fd].open ? f->fd[fd].path : "";
}

static void faulty_remember(struct faulty_os *f, int error) {
    for (int i = 0; i < f->errors; i++)
        if (f->error[i] == error)
            return;
    if (f->errors < 8)
        f->error[f->errors++] = error;
}

enum faulty_turn_is { FAULTY_GO, FAULTY_FAIL, FAULTY_HALF };

// Counts the call and says what becomes of it; *error: with what it fails. Locks: f's.
static enum faulty_turn_is faulty_turn_locked(struct faulty_os *f, enum faulty_op op,
                                              const char *what, int *error) {
    f->by_op[op]++;
    if (f->plan.ops != 0 && !(f->plan.ops & FAULTY_BIT(op)))
        return FAULTY_GO;
    f->calls++;
    if (f->torn && faulty_halves(f, op)) {
        f->torn = false; // the rest of what was torn
        *error = faulty_error(f, op);
        return FAULTY_FAIL;
    }
    bool soft = f->plan.how == FAULTY_SHORT || f->plan.how == FAULTY_EINTR;
    long past = f->calls - f->plan.at; // soft and sticky: every second one, or nothing would end
    bool hit = f->plan.at > 0 && past >= 0 && (past == 0 || f->plan.sticky);
    if (!hit || (soft && (past % 2 != 0 || !faulty_halves(f, op))))
        return FAULTY_GO;
    bool half = f->plan.how == FAULTY_SHORT ||
                (f->plan.how == FAULTY_TORN && past == 0 && faulty_halves(f, op));
    *error = f->plan.how == FAULTY_EINTR ? EINTR : faulty_error(f, op);
    f->torn = half && f->plan.how == FAULTY_TORN;
    f->faults++;
    f->fault_ops |= FAULTY_BIT(op);
    faulty_remember(f, *error);
    faulty_note(f->fault, "call %ld: %s %s -> %s%s", f->calls, faulty_ops[op].name, what,
                half ? "half, " : "", half && !f->torn ? "short" : strerror(*error));
    return half ? FAULTY_HALF : FAULTY_FAIL;
}

// Returns 0 (do it), 1 (do half of it), or -errno.
static int faulty_turn(struct faulty_os *f, enum faulty_op op, int fd, const char *path) {
    int error = 0;
    (void)pthread_mutex_lock(&f->lock);
    if (fd >= 0 && (fd >= FAULTY_FDS || !f->fd[fd].open)) {
        f->misuse++;
        faulty_note(f->misused, "%s of descriptor %d, which is not open", faulty_ops[op].name, fd);
    }
    enum faulty_turn_is is = faulty_turn_locked(f, op, path ? path : faulty_path(f, fd), &error);
    (void)pthread_mutex_unlock(&f->lock);
    return is == FAULTY_GO ? 0 : is == FAULTY_HALF ? 1 : -error;
}

// ---- the books

static void faulty_opened(struct faulty_os *f, int fd, const char *path, bool fresh) {
    struct stat st;
    if (fd >= FAULTY_FDS || fstat(fd, &st) != 0)
        return;
    size_t n = strlen(path), room = sizeof f->fd[fd].path - 1;
    (void)pthread_mutex_lock(&f->lock);
    struct faulty_fd *book = &f->fd[fd];
    *book = (struct faulty_fd){
        .open = true, .is_dir = S_ISDIR(st.st_mode), .dev = st.st_dev, .ino = st.st_ino
    };
    memcpy(book->path, n > room ? path + n - room : path, n > room ? room : n);
    f->fds++;
    for (int i = 0; fresh && i < f->lost_count; i++)
        if (f->lost[i].dev == st.st_dev && f->lost[i].ino == st.st_ino)
            f->lost[i] = f->lost[--f->lost_count]; // a new file with a number used before
    (void)pthread_mutex_unlock(&f->lock);
}

static void faulty_closed(struct faulty_os *f, int fd) {
    if (fd < 0 || fd >= FAULTY_FDS)
        return;
    (void)pthread_mutex_lock(&f->lock);
    f->fds -= f->fd[fd].open;
    f->fd[fd].open = false;
    (void)pthread_mutex_unlock(&f->lock);
}

// Before a sync: has one of this file failed already? Locks: f's.
static void faulty_look_for_second(struct faulty_os *f, const struct faulty_fd *book) {
    for (int i = 0; i < f->lost_count; i++)
        if (f->lost[i].dev == book->dev && f->lost[i].ino == book->ino) {
            f->second_syncs++;
            faulty_note(f->second_sync, "%s was synced again after a failed sync", book->path);
        }
}

static void faulty_sync_lost(struct faulty_os *f, const struct faulty_fd *book) {
    if (f->lost_count < FAULTY_LOST) {
        f->lost[f->lost_count].dev = book->dev;
        f->lost[f->lost_count].ino = book->ino;
        f->lost_count++;
    }
    memcpy(f->lost_path, book->path, sizeof f->lost_path);
}

// ---- the table

static int64_t faulty_mono_ns(struct lt_os *os) {
    (void)os;
    return lt_os_system()->mono_ns(lt_os_system());
}

static int64_t faulty_wall_ms(struct lt_os *os) {
    (void)os;
    return lt_os_system()->wall_ms(lt_os_system());
}

static uint32_t faulty_user(struct lt_os *os) {
    return lt_os_system()->user(lt_os_system()) + faulty_of(os)->user_offset;
}

static int faulty_random(struct lt_os *os, void *buf, size_t n) {
    int rc = faulty_turn(faulty_of(os), FAULTY_RANDOM, -1, "");
    return rc < 0 ? rc : lt_os_system()->random(lt_os_system(), buf, n);
}

static int faulty_open(struct lt_os *os, int dir, const char *path, int flags, unsigned mode) {
    int rc = faulty_turn(faulty_of(os), FAULTY_OPEN, dir == AT_FDCWD ? -1 : dir, path);
    if (rc < 0)
        return rc;
    int fd = lt_os_system()->open(lt_os_system(), dir, path, flags, mode);
    if (fd >= 0)
        faulty_opened(faulty_of(os), fd, path, (flags & O_EXCL) != 0);
    return fd;
}

static int faulty_close(struct lt_os *os, int fd) {
    int rc = faulty_turn(faulty_of(os), FAULTY_CLOSE, fd, NULL);
    faulty_closed(faulty_of(os), fd);
    int real = lt_os_system()->close(lt_os_system(), fd);
    return rc < 0 ? rc : real;
}

static int64_t faulty_pread(struct lt_os *os, int fd, void *buf, size_t n, int64_t at) {
    int rc = faulty_turn(faulty_of(os), FAULTY_PREAD, fd, NULL);
    return rc < 0 ? rc
                  : lt_os_system()->pread(lt_os_system(), fd, buf, rc && n > 1 ? n / 2 : n, at);
}

// The rest of a torn write fails at once. Locks: none.
static int faulty_rest(struct faulty_os *f, enum faulty_op op) {
    (void)pthread_mutex_lock(&f->lock);
    f->torn = false;
    int rc = -faulty_error(f, op);
    (void)pthread_mutex_unlock(&f->lock);
    return rc;
}

static int64_t faulty_pwrite(struct lt_os *os, int fd, const void *buf, size_t n, int64_t at) {
    struct faulty_os *f = faulty_of(os);
    int rc = faulty_turn(f, FAULTY_PWRITE, fd, NULL);
    // No kernel tears a small power of two at its own multiple: it lies in one sector.
    bool whole = n <= 64 && (n & (n - 1)) == 0 && at % (int64_t)n == 0;
    if (rc == 1 && f->plan.how == FAULTY_TORN && whole)
        rc = faulty_rest(f, FAULTY_PWRITE);
    return rc < 0 ? rc
                  : lt_os_system()->pwrite(lt_os_system(), fd, buf, rc && n > 1 ? n / 2 : n, at);
}

static int faulty_sync(struct lt_os *os, int fd, bool is_dir) {
    struct faulty_os *f = faulty_of(os);
    struct faulty_fd none = { .open = false },
                     *book = fd >= 0 && fd < FAULTY_FDS ? &f->fd[fd] : &none;
    (void)pthread_mutex_lock(&f->lock);
    faulty_look_for_second(f, book);
    (void)pthread_mutex_unlock(&f->lock);
    int rc = faulty_turn(f, FAULTY_SYNC, fd, NULL);
    if (rc == 0)
        rc = lt_os_system()->sync(lt_os_system(), fd, is_dir);
    (void)pthread_mutex_lock(&f->lock);
    if (rc < 0)
        faulty_sync_lost(f, book);
    (void)pthread_mutex_unlock(&f->lock);
    return rc;
}

static int faulty_truncate(struct lt_os *os, int fd, int64_t size) {
    int rc = faulty_turn(faulty_of(os), FAULTY_TRUNCATE, fd, NULL);
    return rc < 0 ? rc : lt_os_system()->truncate(lt_os_system(), fd, size);
}

static int faulty_allocate(struct lt_os *os, int fd, int64_t at, int64_t n) {
    struct faulty_os *f = faulty_of(os);
    int rc = faulty_turn(f, FAULTY_ALLOCATE, fd, NULL);
    if (rc < 0)
        return rc;
    if (rc == 0 || n < 2)
        return lt_os_system()->allocate(lt_os_system(), fd, at, n);
    // Out of space half-way: the kernel may leave what it had.
    (void)lt_os_system()->allocate(lt_os_system(), fd, at, n / 2);
    return faulty_rest(f, FAULTY_ALLOCATE);
}

static int faulty_mkdir(struct lt_os *os, int dir, const char *path, unsigned mode) {
    int rc = faulty_turn(faulty_of(os), FAULTY_MKDIR, dir == AT_FDCWD ? -1 : dir, path);
    return rc < 0 ? rc : lt_os_system()->mkdir(lt_os_system(), dir, path, mode);
}

static int faulty_unlink(struct lt_os *os, int dir, const char *path, bool is_dir) {
    int rc = faulty_turn(faulty_of(os), FAULTY_UNLINK, dir == AT_FDCWD ? -1 : dir, path);
    return rc < 0 ? rc : lt_os_system()->unlink(lt_os_system(), dir, path, is_dir);
}

static int faulty_rename(struct lt_os *os, int dir, const char *from, const char *to) {
    int rc = faulty_turn(faulty_of(os), FAULTY_RENAME, dir == AT_FDCWD ? -1 : dir, from);
    return rc < 0 ? rc : lt_os_system()->rename(lt_os_system(), dir, from, to);
}

static int faulty_info(struct lt_os *os, int fd, struct lt_file_info *out) {
    int rc = faulty_turn(faulty_of(os), FAULTY_INFO, fd, NULL);
    return rc < 0 ? rc : lt_os_system()->info(lt_os_system(), fd, out);
}

static int faulty_list(struct lt_os *os, int fd, lt_list_fn fn, void *ctx) {
    int rc = faulty_turn(faulty_of(os), FAULTY_LIST, fd, NULL);
    return rc < 0 ? rc : lt_os_system()->list(lt_os_system(), fd, fn, ctx);
}

static int faulty_unlock(struct lt_os *os, int fd) { // like close, it cannot usefully fail
    (void)os;
    return lt_os_system()->unlock(lt_os_system(), fd);
}

static int faulty_lock(struct lt_os *os, int fd) {
    int rc = faulty_turn(faulty_of(os), FAULTY_LOCK, fd, NULL);
    return rc < 0 ? rc : lt_os_system()->lock(lt_os_system(), fd);
}

static int faulty_in_place(struct lt_os *os, int fd) {
    int rc = faulty_turn(faulty_of(os), FAULTY_IN_PLACE, fd, NULL);
    return rc < 0 ? rc : lt_os_system()->writes_in_place(lt_os_system(), fd);
}

static int faulty_map_pages(struct lt_os *os, int fd, size_t n, bool writable, void **out) {
    struct faulty_os *f = faulty_of(os);
    int rc = faulty_turn(f, FAULTY_MAP, fd, NULL);
    if (rc == 0)
        rc = lt_os_system()->map(lt_os_system(), fd, n, writable, out);
    if (rc < 0)
        return rc;
    (void)pthread_mutex_lock(&f->lock);
    if (f->maps < FAULTY_MAPS)
        f->map[f->maps] = (struct faulty_map){ *out, n };
    f->maps++;
    (void)pthread_mutex_unlock(&f->lock);
    return rc;
}

static int faulty_unmap(struct lt_os *os, void *p, size_t n) {
    struct faulty_os *f = faulty_of(os);
    int rc = faulty_turn(f, FAULTY_UNMAP, -1, "");
    (void)pthread_mutex_lock(&f->lock);
    long i = 0;
    while (i < f->maps && i < FAULTY_MAPS && (f->map[i].at != p || f->map[i].size != n))
        i++;
    if (i < f->maps && i < FAULTY_MAPS) {
        f->map[i] = f->map[--f->maps];
    } else {
        f->misuse++;
        faulty_note(f->misused, "unmap of %zu bytes that are not mapped", n);
    }
    (void)pthread_mutex_unlock(&f->lock);
    int real = lt_os_system()->unmap(lt_os_system(), p, n);
    return rc < 0 ? rc : real;
}

// ---- a table's life

static const struct lt_os faulty_table = {
    .mono_ns = faulty_mono_ns,
    .wall_ms = faulty_wall_ms,
    .random = faulty_random,
    .user = faulty_user,
    .open = faulty_open,
    .close = faulty_close,
    .pread = faulty_pread,
    .pwrite = faulty_pwrite,
    .sync = faulty_sync,
    .truncate = faulty_truncate,
    .allocate = faulty_allocate,
    .mkdir = faulty_mkdir,
    .unlink = faulty_unlink,
    .rename = faulty_rename,
    .info = faulty_info,
    .list = faulty_list,
    .lock = faulty_lock,
    .unlock = faulty_unlock,
    .writes_in_place = faulty_in_place,
    .map = faulty_map_pages,
    .unmap = faulty_unmap,
};

void faulty_os_init(struct faulty_os *f) {
    memset(f, 0, sizeof *f);
    f->os = faulty_table;
    (void)pthread_mutex_init(&f->lock, NULL);
}

void faulty_os_fini(struct faulty_os *f) {
    (void)pthread_mutex_destroy(&f->lock);
}

void faulty_os_plan(struct faulty_os *f, const struct faulty_plan *plan) {
    static const struct faulty_plan none;
    (void)pthread_mutex_lock(&f->lock);
    f->plan = plan ? *plan : none;
    f->calls = 0;
    f->torn = false;
    (void)pthread_mutex_unlock(&f->lock);
}

void faulty_os_reborn(struct faulty_os *f) {
    (void)pthread_mutex_lock(&f->lock);
    f->lost_count = 0;
    f->lost_path[0] = '\0';
    (void)pthread_mutex_unlock(&f->lock);
}
