/* SPDX-License-Identifier: MIT */
// First the table of system calls, which keeps the account, then the power cut.
#include "store/crashable.h"

#include "base/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { CRASHABLE_SECTOR = 512, CRASHABLE_CHUNK = 64 * 1024 };
#define CRASHABLE_NEW "leat.crash.new" // where what survives is written, to be renamed

// Paths are relative to the store's directory. synced_path and path are the same pointer when the
// name is durable.
struct crashable_file {
    char *path;        // NULL: removed
    char *synced_path; // NULL: no sync of its directory has seen it
    char *chosen;      // of a power cut: one of the two, or NULL
    bool is_dir;
    uint8_t *bytes; // of a file: as last synced
    uint64_t size, room;
};

struct lt_crashable {
    struct lt_os os; // first
    struct lt_os *under;
    struct lt_mem mem;
    struct lt_mutex lock; // guards all below
    int root;             // the store's directory; -1: not open
    struct crashable_file *file;
    size_t files, file_room;
    size_t *of_fd; // place + 1 of the file behind a descriptor; 0: unknown
    size_t fds;
    uint8_t chunk[CRASHABLE_CHUNK];
};

static struct lt_crashable *crashable_of(struct lt_os *os) {
    return (struct lt_crashable *)(void *)os; // os is its first member
}

// ---- the account. Locks: held by the caller.

static struct crashable_file *crashable_find(struct lt_crashable *c, const char *path) {
    for (size_t i = 0; i < c->files; i++)
        if (c->file[i].path && strcmp(c->file[i].path, path) == 0)
            return &c->file[i];
    return NULL;
}

// Tells whether `path` is a name in directory `dir`.
static bool crashable_is_in(const char *path, const char *dir) {
    if (strcmp(dir, ".") == 0)
        return !strchr(path, '/');
    size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

// A new entry, or NULL. `synced`: its name is durable.
static struct crashable_file *crashable_add(struct lt_crashable *c, const char *path, bool is_dir,
                                            bool synced) {
    size_t i = 0;
    while (i < c->files && (c->file[i].path || c->file[i].synced_path))
        i++;
    if (i == c->file_room) {
        size_t room = i ? 2 * i : 16;
        struct crashable_file *grown = lt_resize(&c->mem, c->file, room * sizeof *grown);
        if (!grown)
            return NULL;
        c->file = grown;
        c->file_room = room;
    }
    char *copy = lt_strdup_n(&c->mem, path, strlen(path));
    if (!copy)
        return NULL;
    c->file[i] = (struct crashable_file){ .path = copy, .is_dir = is_dir };
    c->file[i].synced_path = synced ? copy : NULL;
    if (i == c->files)
        c->files++;
    return &c->file[i];
}

// Sets the two names, and forgets the file when it has neither.
static void crashable_name(struct lt_crashable *c, struct crashable_file *f, char *path,
                           char *synced_path) {
    char *old[2] = { f->path, f->synced_path == f->path ? NULL : f->synced_path };
    f->path = path;
    f->synced_path = synced_path;
    for (int i = 0; i < 2; i++)
        if (old[i] != path && old[i] != synced_path)
            lt_free(&c->mem, old[i]);
    if (path || synced_path)
        return;
    for (size_t i = 0; i < c->fds; i++)
        if (c->of_fd[i] == (size_t)(f - c->file) + 1)
            c->of_fd[i] = 0;
    lt_free(&c->mem, f->bytes);
    f->bytes = NULL;
    f->size = f->room = 0;
}

// Makes the kept bytes `size` long, with zeros at the end.
static int crashable_resize(struct lt_crashable *c, struct crashable_file *f, uint64_t size) {
    if (size > f->room) {
        uint64_t room = f->room ? f->room : 4096;
        while (room < size)
            room *= 2;
        uint8_t *grown = lt_resize(&c->mem, f->bytes, room);
        if (!grown)
            return -ENOMEM;
        f->bytes = grown;
        f->room = room;
    }
    if (size > f->size)
        memset(f->bytes + f->size, 0, size - f->size);
    f->size = size;
    return 0;
}

// Reads n bytes of a file as it is now into the chunk; behind its end there are zeros.
static int crashable_read(struct lt_crashable *c, int fd, uint64_t at, size_t n) {
    int64_t got = lt_pread_full(c->under, fd, c->chunk, n, (int64_t)at);
    if (got >= 0 && (size_t)got < n)
        memset(c->chunk + got, 0, n - (size_t)got);
    return got < 0 ? (int)got : 0;
}

static size_t crashable_part(const struct crashable_file *f, uint64_t at) {
    return f->size - at < CRASHABLE_CHUNK ? (size_t)(f->size - at) : CRASHABLE_CHUNK;
}

// Keeps the bytes as they are now. With pread, so that a store through a mapping at the same time
// is the kernel's affair; such bytes may be kept or not, as on a disk.
static int crashable_keep(struct lt_crashable *c, struct crashable_file *f, int fd) {
    struct lt_file_info info;
    int rc = c->under->info(c->under, fd, &info);
    if (rc == 0)
        rc = crashable_resize(c, f, (uint64_t)info.size);
    for (uint64_t at = 0; rc == 0 && at < f->size; at += CRASHABLE_CHUNK) {
        size_t n = crashable_part(f, at);
        rc = crashable_read(c, fd, at, n);
        if (rc == 0 && memcmp(f->bytes + at, c->chunk, n) != 0) // a page not stored to stays cold
            memcpy(f->bytes + at, c->chunk, n);
    }
    return rc;
}

// Finds a file, or takes one into account that was there before this store was opened.
// Returns 1 with *out, 0 if there is none, or -errno.
static int crashable_meet(struct lt_crashable *c, const char *path, struct crashable_file **out) {
    *out = crashable_find(c, path);
    if (*out)
        return 1;
    int fd = c->under->open(c->under, c->root, path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    struct lt_file_info info;
    struct crashable_file *f = NULL;
    int rc = c->under->info(c->under, fd, &info);
    if (rc == 0) {
        f = crashable_add(c, path, info.kind != LT_FILE_REGULAR, true);
        rc = f ? 0 : -ENOMEM;
    }
    if (rc == 0 && !f->is_dir)
        rc = crashable_keep(c, f, fd);
    if (rc < 0 && f)
        crashable_name(c, f, NULL, NULL);
    (void)c->under->close(c->under, fd);
    *out = f;
    return rc < 0 ? rc : 1;
}

static int crashable_fd_room(struct lt_crashable *c, int fd) {
    if ((size_t)fd < c->fds)
        return 0;
    size_t room = 2 * (size_t)fd + 16;
    size_t *grown = lt_resize(&c->mem, c->of_fd, room * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    memset(grown + c->fds, 0, (room - c->fds) * sizeof *grown);
    c->of_fd = grown;
    c->fds = room;
    return 0;
}

// ---- the calls that change the account

static int crashable_open_locked(struct lt_crashable *c, const char *path, int flags,
                                 unsigned mode) {
    struct crashable_file *f;
    int rc = crashable_meet(c, path, &f);
    if (rc < 0)
        return rc;
    bool made = rc == 0;
    if (made && !(flags & O_CREAT))
        return -ENOENT;
    f = made ? crashable_add(c, path, false, false) : f;
    if (!f)
        return -ENOMEM;
    int fd = c->under->open(c->under, c->root, path, flags, mode);
    if (fd >= 0 && crashable_fd_room(c, fd) != 0) {
        (void)c->under->close(c->under, fd);
        if (made)
            (void)c->under->unlink(c->under, c->root, path, false);
        fd = -ENOMEM;
    }
    if (fd >= 0)
        c->of_fd[fd] = (size_t)(f - c->file) + 1;
    else if (made)
        crashable_name(c, f, NULL, NULL);
    return fd;
}

static int crashable_open(struct lt_os *os, int dir, const char *path, int flags, unsigned mode) {
    struct lt_crashable *c = crashable_of(os);
    if (dir == AT_FDCWD || strcmp(path, "..") == 0) { // the store's own directory, or above it
        int fd = c->under->open(c->under, dir, path, flags, mode);
        if (dir == AT_FDCWD)
            c->root = fd;
        return fd;
    }
    lt_lock(&c->lock);
    int fd = crashable_open_locked(c, path, flags, mode);
    lt_unlock(&c->lock);
    return fd;
}

static int crashable_close(struct lt_os *os, int fd) {
    struct lt_crashable *c = crashable_of(os);
    lt_lock(&c->lock);
    if (fd >= 0 && (size_t)fd < c->fds)
        c->of_fd[fd] = 0;
    if (fd == c->root)
        c->root = -1;
    lt_unlock(&c->lock);
    return c->under->close(c->under, fd);
}

static void crashable_sync_names(struct lt_crashable *c, const char *dir) {
    for (size_t i = 0; i < c->files; i++) {
        struct crashable_file *f = &c->file[i];
        bool is = f->path && crashable_is_in(f->path, dir);
        bool was = f->synced_path && crashable_is_in(f->synced_path, dir);
        if (is || (was && !f->path))
            crashable_name(c, f, f->path, f->path);
    }
}

static int crashable_sync(struct lt_os *os, int fd, bool is_dir) {
    struct lt_crashable *c = crashable_of(os);
    int rc = c->under->sync(c->under, fd, is_dir);
    if (rc < 0)
        return rc;
    lt_lock(&c->lock);
    size_t place = (size_t)fd < c->fds ? c->of_fd[fd] : 0;
    struct crashable_file *f = place ? &c->file[place - 1] : NULL;
    if (is_dir && (f || fd == c->root))
        crashable_sync_names(c, f ? f->path : ".");
    else if (!is_dir && f)
        rc = crashable_keep(c, f, fd);
    lt_unlock(&c->lock);
    return rc;
}

static int crashable_mkdir(struct lt_os *os, int dir, const char *path, unsigned mode) {
    struct lt_crashable *c = crashable_of(os);
    if (dir == AT_FDCWD)
        return c->under->mkdir(c->under, dir, path, mode);
    lt_lock(&c->lock);
    struct crashable_file *f;
    int rc = crashable_meet(c, path, &f);
    if (rc == 1)
        rc = -EEXIST;
    if (rc == 0) {
        f = crashable_add(c, path, true, false);
        rc = f ? c->under->mkdir(c->under, dir, path, mode) : -ENOMEM;
        if (f && rc < 0)
            crashable_name(c, f, NULL, NULL);
    }
    lt_unlock(&c->lock);
    return rc;
}

static int crashable_unlink(struct lt_os *os, int dir, const char *path, bool is_dir) {
    struct lt_crashable *c = crashable_of(os);
    if (dir == AT_FDCWD)
        return c->under->unlink(c->under, dir, path, is_dir);
    lt_lock(&c->lock);
    struct crashable_file *f = NULL;
    int rc = crashable_meet(c, path, &f);
    if (rc >= 0)
        rc = c->under->unlink(c->under, dir, path, is_dir);
    if (rc == 0 && f)
        crashable_name(c, f, NULL, f->synced_path);
    lt_unlock(&c->lock);
    return rc;
}

static int crashable_rename_locked(struct lt_crashable *c, const char *from, const char *to) {
    struct crashable_file *f = NULL, *old = NULL;
    int rc = crashable_meet(c, to, &old);
    if (rc >= 0)
        rc = crashable_meet(c, from, &f); // it may move the table: `old` is looked up again below
    if (rc <= 0)
        return rc == 0 ? -ENOENT : rc;
    char *copy = lt_strdup_n(&c->mem, to, strlen(to));
    if (!copy)
        return -ENOMEM;
    rc = c->under->rename(c->under, c->root, from, to);
    if (rc < 0) {
        lt_free(&c->mem, copy);
        return rc;
    }
    old = crashable_find(c, to);
    if (old && old != f)
        crashable_name(c, old, NULL, old->synced_path);
    crashable_name(c, f, copy, f->synced_path);
    return 0;
}

static int crashable_rename(struct lt_os *os, int dir, const char *from, const char *to) {
    struct lt_crashable *c = crashable_of(os);
    (void)dir;
    lt_lock(&c->lock);
    int rc = crashable_rename_locked(c, from, to);
    lt_unlock(&c->lock);
    return rc;
}

// ---- the calls that are handed on

static int64_t crashable_mono_ns(struct lt_os *os) {
    return crashable_of(os)->under->mono_ns(crashable_of(os)->under);
}

static int64_t crashable_wall_ms(struct lt_os *os) {
    return crashable_of(os)->under->wall_ms(crashable_of(os)->under);
}

static int crashable_random(struct lt_os *os, void *buf, size_t n) {
    return crashable_of(os)->under->random(crashable_of(os)->under, buf, n);
}

static uint32_t crashable_user(struct lt_os *os) {
    return crashable_of(os)->under->user(crashable_of(os)->under);
}

static int64_t crashable_pread(struct lt_os *os, int fd, void *buf, size_t n, int64_t at) {
    return crashable_of(os)->under->pread(crashable_of(os)->under, fd, buf, n, at);
}

static int64_t crashable_pwrite(struct lt_os *os, int fd, const void *buf, size_t n, int64_t at) {
    return crashable_of(os)->under->pwrite(crashable_of(os)->under, fd, buf, n, at);
}

static int crashable_truncate(struct lt_os *os, int fd, int64_t size) {
    return crashable_of(os)->under->truncate(crashable_of(os)->under, fd, size);
}

static int crashable_allocate(struct lt_os *os, int fd, int64_t at, int64_t n) {
    return crashable_of(os)->under->allocate(crashable_of(os)->under, fd, at, n);
}

static int crashable_info(struct lt_os *os, int fd, struct lt_file_info *out) {
    return crashable_of(os)->under->info(crashable_of(os)->under, fd, out);
}

static int crashable_list(struct lt_os *os, int fd, lt_list_fn fn, void *ctx) {
    return crashable_of(os)->under->list(crashable_of(os)->under, fd, fn, ctx);
}

static int crashable_lock(struct lt_os *os, int fd) {
    return crashable_of(os)->under->lock(crashable_of(os)->under, fd);
}

static int crashable_unlock(struct lt_os *os, int fd) {
    return crashable_of(os)->under->unlock(crashable_of(os)->under, fd);
}

static int crashable_writes_in_place(struct lt_os *os, int fd) {
    return crashable_of(os)->under->writes_in_place(crashable_of(os)->under, fd);
}

static int crashable_map(struct lt_os *os, int fd, size_t n, bool writable, void **out) {
    return crashable_of(os)->under->map(crashable_of(os)->under, fd, n, writable, out);
}

static int crashable_unmap(struct lt_os *os, void *p, size_t n) {
    return crashable_of(os)->under->unmap(crashable_of(os)->under, p, n);
}

static int crashable_populate(struct lt_os *os, void *p, size_t n) {
    struct lt_os *under = crashable_of(os)->under;
    return under->populate ? under->populate(under, p, n) : -EINVAL;
}

static void crashable_write_back(struct lt_os *os, int fd, int64_t at, int64_t n) {
    struct lt_os *under = crashable_of(os)->under;
    if (under->write_back)
        under->write_back(under, fd, at, n);
}

static int64_t crashable_files_max(struct lt_os *os) {
    struct lt_os *under = crashable_of(os)->under;
    return under->files_max ? under->files_max(under) : INT64_MAX;
}

static const struct lt_os crashable_table = {
    .mono_ns = crashable_mono_ns,
    .wall_ms = crashable_wall_ms,
    .random = crashable_random,
    .user = crashable_user,
    .open = crashable_open,
    .close = crashable_close,
    .pread = crashable_pread,
    .pwrite = crashable_pwrite,
    .sync = crashable_sync,
    .truncate = crashable_truncate,
    .allocate = crashable_allocate,
    .mkdir = crashable_mkdir,
    .unlink = crashable_unlink,
    .rename = crashable_rename,
    .info = crashable_info,
    .list = crashable_list,
    .lock = crashable_lock,
    .unlock = crashable_unlock,
    .writes_in_place = crashable_writes_in_place,
    .map = crashable_map,
    .unmap = crashable_unmap,
    .populate = crashable_populate,
    .write_back = crashable_write_back,
    .files_max = crashable_files_max,
};

// ---- the power cut

// Tells what of two unsynced things happened: all of them, none, or each by itself.
struct crashable_coin {
    struct lt_chance *chance;
    uint64_t mood; // 0: none, 1: all, else each by itself
};

static bool crashable_toss(const struct crashable_coin *coin) {
    return coin->mood < 2 ? coin->mood == 1 : (lt_chance_u64(coin->chance) & 1) != 0;
}

// The file whose chosen name this is, but for `but`.
static struct crashable_file *crashable_chosen(struct lt_crashable *c, const char *path,
                                               const struct crashable_file *but) {
    for (size_t i = 0; i < c->files; i++)
        if (&c->file[i] != but && c->file[i].chosen && strcmp(c->file[i].chosen, path) == 0)
            return &c->file[i];
    return NULL;
}

// Tells whether all directories above a path survive that this store knows of.
static bool crashable_reachable(struct lt_crashable *c, const char *path) {
    for (size_t i = 0; i < c->files; i++) {
        const struct crashable_file *d = &c->file[i];
        const char *name = d->path ? d->path : d->synced_path;
        size_t n = d->is_dir && name ? strlen(name) : 0;
        if (n > 0 && strncmp(path, name, n) == 0 && path[n] == '/' && !d->chosen &&
            !crashable_chosen(c, name, d))
            return false;
    }
    return true;
}

static void crashable_choose_names(struct lt_crashable *c, const struct crashable_coin *coin) {
    for (size_t i = 0; i < c->files; i++) {
        struct crashable_file *f = &c->file[i];
        f->chosen = f->path == f->synced_path || crashable_toss(coin) ? f->path : f->synced_path;
    }
    // A name has one file: it is had back from the one that took it, or not.
    for (size_t i = 0; i < c->files; i++) {
        struct crashable_file *f = &c->file[i];
        if (!f->synced_path || f->path == f->synced_path)
            continue;
        if (crashable_chosen(c, f->synced_path, f))
            f->chosen = f->path;
        else if (!f->path && crashable_find(c, f->synced_path))
            f->chosen = f->synced_path;
    }
    bool again = true; // a directory that is lost takes those in it along
    while (again) {
        again = false;
        for (size_t i = 0; i < c->files; i++) {
            struct crashable_file *f = &c->file[i];
            if (!f->chosen || crashable_reachable(c, f->chosen))
                continue;
            f->chosen = NULL;
            again = true;
        }
    }
}

// Takes some of the sectors that differ now over into the bytes kept. *same: the file has them all.
static int crashable_mix(struct lt_crashable *c, struct crashable_file *f, int fd,
                         const struct crashable_coin *coin, bool *same) {
    struct lt_file_info info;
    int rc = c->under->info(c->under, fd, &info);
    if (rc == 0 && (uint64_t)info.size != f->size && crashable_toss(coin))
        rc = crashable_resize(c, f, (uint64_t)info.size);
    *same = rc == 0 && (uint64_t)info.size == f->size;
    for (uint64_t at = 0; rc == 0 && at < f->size; at += CRASHABLE_CHUNK) {
        size_t n = crashable_part(f, at);
        rc = crashable_read(c, fd, at, n);
        for (size_t k = 0; rc == 0 && k < n; k += CRASHABLE_SECTOR) {
            size_t m = n - k < CRASHABLE_SECTOR ? n - k : CRASHABLE_SECTOR;
            if (memcmp(f->bytes + at + k, c->chunk + k, m) == 0)
                continue;
            if (crashable_toss(coin))
                memcpy(f->bytes + at + k, c->chunk + k, m);
            else
                *same = false;
        }
    }
    return rc;
}

// Decides what a file has, and takes away what is not to be under its name.
static int crashable_settle_file(struct lt_crashable *c, struct crashable_file *f,
                                 const struct crashable_coin *coin) {
    if (!f->path)
        return 0;
    bool same = true;
    int rc = 0;
    if (!f->is_dir && f->chosen) {
        int fd = c->under->open(c->under, c->root, f->path, O_RDONLY, 0);
        rc = fd < 0 ? fd : crashable_mix(c, f, fd, coin, &same);
        if (fd >= 0)
            (void)c->under->close(c->under, fd);
    }
    if (rc == 0 && !f->is_dir && !(same && f->chosen == f->path)) {
        rc = c->under->unlink(c->under, c->root, f->path, false);
        if (rc == 0)
            crashable_name(c, f, NULL, f->chosen ? f->chosen : f->synced_path);
    }
    return rc;
}

static int crashable_write(struct lt_crashable *c, const struct crashable_file *f) {
    struct lt_os *os = c->under;
    int fd = os->open(os, c->root, CRASHABLE_NEW, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return fd;
    int rc = lt_pwrite_full(os, fd, f->bytes, f->size, 0);
    (void)os->close(os, fd);
    if (rc == 0)
        rc = os->rename(os, c->root, CRASHABLE_NEW, f->chosen);
    if (rc < 0)
        (void)os->unlink(os, c->root, CRASHABLE_NEW, false);
    return rc;
}

// The directory, not made or removed yet, whose path is the shortest (or the longest).
static struct crashable_file *crashable_next_dir(struct lt_crashable *c, bool make) {
    struct crashable_file *best = NULL;
    for (size_t i = 0; i < c->files; i++) {
        struct crashable_file *f = &c->file[i];
        if (!f->is_dir || (make ? !f->chosen || f->path : f->chosen || !f->path))
            continue;
        const char *a = make ? f->chosen : f->path;
        const char *b = !best ? NULL : make ? best->chosen : best->path;
        if (!b || (make ? strlen(a) < strlen(b) : strlen(a) > strlen(b)))
            best = f;
    }
    return best;
}

static int crashable_settle_dirs(struct lt_crashable *c, bool make) {
    struct crashable_file *d;
    int rc = 0;
    while (rc == 0 && (d = crashable_next_dir(c, make))) {
        rc = make ? c->under->mkdir(c->under, c->root, d->chosen, 0700)
                  : c->under->unlink(c->under, c->root, d->path, true);
        if (rc == -ENOTEMPTY) { // something in it is not the store's
            d->chosen = d->path;
            rc = 0;
        } else if (rc == 0)
            crashable_name(c, d, d->chosen, make ? d->chosen : d->synced_path);
    }
    return rc;
}

int lt_crashable_cut(struct lt_crashable *c, struct lt_chance *chance) {
    struct crashable_coin coin = { chance, lt_chance_below(chance, 4) };
    int rc = 0;
    lt_lock(&c->lock);
    crashable_choose_names(c, &coin);
    for (size_t i = 0; i < c->files && rc == 0; i++)
        rc = crashable_settle_file(c, &c->file[i], &coin);
    if (rc == 0)
        rc = crashable_settle_dirs(c, false);
    if (rc == 0)
        rc = crashable_settle_dirs(c, true);
    for (size_t i = 0; i < c->files && rc == 0; i++) {
        struct crashable_file *f = &c->file[i];
        if (f->chosen && !f->path && !f->is_dir)
            rc = crashable_write(c, f);
        if (rc == 0)
            crashable_name(c, f, f->chosen, f->chosen);
        f->chosen = NULL;
    }
    lt_unlock(&c->lock);
    return rc;
}

// ---- making

struct lt_crashable *lt_crashable_new(struct lt_mem *mem, struct lt_os *under) {
    struct lt_crashable *c = lt_zalloc(mem, sizeof *c);
    if (!c)
        return NULL;
    c->os = crashable_table;
    c->under = under;
    c->mem.fn = mem->fn;
    c->mem.ctx = mem->ctx;
    c->root = -1;
    if (lt_mutex_init(&c->lock, LT_RANK_FILES) == 0)
        return c;
    lt_free(mem, c);
    return NULL;
}

void lt_crashable_free(struct lt_crashable *c) {
    struct lt_mem mem = { .fn = c->mem.fn, .ctx = c->mem.ctx };
    for (size_t i = 0; i < c->files; i++)
        crashable_name(c, &c->file[i], NULL, NULL);
    lt_free(&mem, c->file);
    lt_free(&mem, c->of_fd);
    lt_mutex_fini(&c->lock);
    lt_free(&mem, c);
}

struct lt_os *lt_crashable_os(struct lt_crashable *c) {
    return &c->os;
}
