/* SPDX-License-Identifier: MIT */
#include "store/memfs.h"

#include "base/list.h"
#include "base/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

struct memfs_file {
    char *path; // relative to the root, ".": the root; NULL: this place is free
    int fd;     // the memory file; what is opened is a copy of it
    bool is_dir;
    int64_t size;
};

struct memfs {
    struct lt_os os; // first
    struct lt_os *under;
    struct lt_mem mem;
    int64_t bytes_max;
    struct lt_mutex lock; // guards all below
    int64_t bytes;
    struct memfs_file *file; // [0]: the root
    size_t files, file_room;
    size_t *of_fd; // place + 1 of the file behind a descriptor; 0: of none, or without a name
    size_t fds;
};

static struct memfs *memfs_of(struct lt_os *os) {
    return (struct memfs *)(void *)os; // os is its first member
}

// ---- files and descriptors. Locks: held by the caller.

static struct memfs_file *memfs_find(struct memfs *m, const char *path) {
    for (size_t i = 0; i < m->files; i++)
        if (m->file[i].path && strcmp(m->file[i].path, path) == 0)
            return &m->file[i];
    return NULL;
}

// A path is there to be made in if its directory is.
static int memfs_parent(struct memfs *m, const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash)
        return 0;
    char *dir = lt_strdup_n(&m->mem, path, (size_t)(slash - path));
    if (!dir)
        return -ENOMEM;
    const struct memfs_file *f = memfs_find(m, dir);
    lt_free(&m->mem, dir);
    return !f ? -ENOENT : !f->is_dir ? -ENOTDIR : 0;
}

static int memfs_add(struct memfs *m, const char *path, bool is_dir) {
    size_t i = 0;
    while (i < m->files && m->file[i].path)
        i++;
    if (i == m->file_room) {
        size_t room = i ? 2 * i : 16;
        struct memfs_file *grown = lt_resize(&m->mem, m->file, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        m->file = grown;
        m->file_room = room;
    }
    int rc = memfs_parent(m, path);
    char *copy = rc == 0 ? lt_strdup_n(&m->mem, path, strlen(path)) : NULL;
    if (!copy)
        return rc != 0 ? rc : -ENOMEM;
    int fd = m->under->memory_file ? m->under->memory_file(m->under) : -ENOSYS;
    if (fd < 0) {
        lt_free(&m->mem, copy);
        return fd;
    }
    m->file[i] = (struct memfs_file){ .path = copy, .fd = fd, .is_dir = is_dir };
    if (i == m->files)
        m->files++;
    return 0;
}

// Takes a name away. Who has the file open, or mapped, keeps it.
static void memfs_drop(struct memfs *m, struct memfs_file *f) {
    size_t place = (size_t)(f - m->file) + 1;
    for (size_t i = 0; i < m->fds; i++)
        if (m->of_fd[i] == place)
            m->of_fd[i] = 0;
    m->bytes -= f->size;
    (void)m->under->close(m->under, f->fd);
    lt_free(&m->mem, f->path);
    f->path = NULL;
}

static struct memfs_file *memfs_of_fd(struct memfs *m, int fd) {
    size_t place = fd >= 0 && (size_t)fd < m->fds ? m->of_fd[fd] : 0;
    return place ? &m->file[place - 1] : NULL;
}

static int memfs_hand_out(struct memfs *m, const struct memfs_file *f) {
    int fd = m->under->duplicate(m->under, f->fd);
    if (fd < 0)
        return fd;
    if ((size_t)fd >= m->fds) {
        size_t room = 2 * (size_t)fd + 16;
        size_t *grown = lt_resize(&m->mem, m->of_fd, room * sizeof *grown);
        if (!grown) {
            (void)m->under->close(m->under, fd);
            return -ENOMEM;
        }
        memset(grown + m->fds, 0, (room - m->fds) * sizeof *grown);
        m->of_fd = grown;
        m->fds = room;
    }
    m->of_fd[fd] = (size_t)(f - m->file) + 1;
    return fd;
}

// ---- names

static int memfs_open_locked(struct memfs *m, const char *path, int flags) {
    struct memfs_file *f = memfs_find(m, path);
    if (!f && !(flags & O_CREAT))
        return -ENOENT;
    if (f && (flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    if (f && f->is_dir && (flags & O_ACCMODE) != O_RDONLY)
        return -EISDIR;
    if (f && !f->is_dir && (flags & O_DIRECTORY))
        return -ENOTDIR;
    bool made = !f;
    if (made) {
        int rc = memfs_add(m, path, false);
        if (rc < 0)
            return rc;
        f = memfs_find(m, path);
    } else if (flags & O_TRUNC) {
        int rc = m->under->truncate(m->under, f->fd, 0);
        if (rc < 0)
            return rc;
        m->bytes -= f->size;
        f->size = 0;
    }
    int fd = memfs_hand_out(m, f);
    if (fd < 0 && made)
        memfs_drop(m, f);
    return fd;
}

static int memfs_open(struct lt_os *os, int dir, const char *path, int flags, unsigned mode) {
    struct memfs *m = memfs_of(os);
    (void)mode;
    lt_lock(&m->lock);
    bool top = dir == AT_FDCWD || strcmp(path, "..") == 0; // nothing is above it
    int fd = memfs_open_locked(m, top ? "." : path, flags);
    lt_unlock(&m->lock);
    return fd;
}

static int memfs_close(struct lt_os *os, int fd) {
    struct memfs *m = memfs_of(os);
    lt_lock(&m->lock);
    if (memfs_of_fd(m, fd))
        m->of_fd[fd] = 0;
    lt_unlock(&m->lock);
    return m->under->close(m->under, fd);
}

static int memfs_mkdir(struct lt_os *os, int dir, const char *path, unsigned mode) {
    struct memfs *m = memfs_of(os);
    (void)dir;
    (void)mode;
    lt_lock(&m->lock);
    int rc = memfs_find(m, path) ? -EEXIST : memfs_add(m, path, true);
    lt_unlock(&m->lock);
    return rc;
}

static bool memfs_is_in(const char *path, const char *dir) {
    if (strcmp(dir, ".") == 0)
        return strcmp(path, ".") != 0 && !strchr(path, '/');
    size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

static int memfs_unlink_locked(struct memfs *m, const char *path, bool is_dir) {
    struct memfs_file *f = memfs_find(m, path);
    if (!f)
        return -ENOENT;
    if (f->is_dir != is_dir)
        return is_dir ? -ENOTDIR : -EISDIR;
    for (size_t i = 0; i < m->files && is_dir; i++)
        if (m->file[i].path && memfs_is_in(m->file[i].path, path))
            return -ENOTEMPTY;
    memfs_drop(m, f);
    return 0;
}

static int memfs_unlink(struct lt_os *os, int dir, const char *path, bool is_dir) {
    struct memfs *m = memfs_of(os);
    if (dir == AT_FDCWD)
        return -EBUSY; // the root stays
    lt_lock(&m->lock);
    int rc = memfs_unlink_locked(m, path, is_dir);
    lt_unlock(&m->lock);
    return rc;
}

static int memfs_rename_locked(struct memfs *m, const char *from, const char *to) {
    struct memfs_file *f = memfs_find(m, from), *old = memfs_find(m, to);
    if (!f || f->is_dir)
        return f ? -EISDIR : -ENOENT;
    if (old && old->is_dir)
        return -EISDIR;
    if (f == old)
        return 0;
    int rc = memfs_parent(m, to);
    char *copy = rc == 0 ? lt_strdup_n(&m->mem, to, strlen(to)) : NULL;
    if (!copy)
        return rc != 0 ? rc : -ENOMEM;
    if (old)
        memfs_drop(m, old);
    lt_free(&m->mem, f->path);
    f->path = copy;
    return 0;
}

static int memfs_rename(struct lt_os *os, int dir, const char *from, const char *to) {
    struct memfs *m = memfs_of(os);
    (void)dir;
    lt_lock(&m->lock);
    int rc = memfs_rename_locked(m, from, to);
    lt_unlock(&m->lock);
    return rc;
}

static int memfs_info(struct lt_os *os, int fd, struct lt_file_info *out) {
    struct memfs *m = memfs_of(os);
    int rc = m->under->info(m->under, fd, out);
    lt_lock(&m->lock);
    const struct memfs_file *f = memfs_of_fd(m, fd);
    if (f && f->is_dir)
        out->kind = LT_FILE_DIR;
    lt_unlock(&m->lock);
    return rc;
}

// The name in directory `fd` at place *at or behind it, a copy; moves *at past it.
static int memfs_next_name(struct memfs *m, int fd, size_t *at, char **out) {
    *out = NULL;
    const struct memfs_file *dir = memfs_of_fd(m, fd);
    if (!dir || !dir->is_dir)
        return -ENOTDIR;
    for (; *at < m->files && !*out; ++*at) {
        const char *path = m->file[*at].path;
        if (!path || !memfs_is_in(path, dir->path))
            continue;
        const char *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path;
        *out = lt_strdup_n(&m->mem, name, strlen(name));
        if (!*out)
            return -ENOMEM;
    }
    return 0;
}

static int memfs_list(struct lt_os *os, int fd, lt_list_fn fn, void *ctx) {
    struct memfs *m = memfs_of(os);
    size_t at = 0;
    for (;;) { // fn may remove what it is told of, so it runs without the lock
        char *name;
        lt_lock(&m->lock);
        int rc = memfs_next_name(m, fd, &at, &name);
        lt_unlock(&m->lock);
        if (!name)
            return rc;
        rc = fn(name, ctx);
        lt_free(&m->mem, name);
        if (rc != 0)
            return rc;
    }
}

// ---- bytes

// Counts a file's length as it will be. Returns -ENOSPC over the bound: nothing changed.
static int memfs_resize(struct memfs *m, int fd, int64_t size, bool only_grow) {
    int rc = 0;
    lt_lock(&m->lock);
    struct memfs_file *f = memfs_of_fd(m, fd);
    if (f && (size > f->size || !only_grow)) {
        if (size > f->size && size - f->size > m->bytes_max - m->bytes) {
            rc = -ENOSPC;
        } else {
            m->bytes += size - f->size;
            f->size = size;
        }
    }
    lt_unlock(&m->lock);
    return rc;
}

static int64_t memfs_pread(struct lt_os *os, int fd, void *buf, size_t n, int64_t at) {
    struct memfs *m = memfs_of(os);
    return m->under->pread(m->under, fd, buf, n, at);
}

static int64_t memfs_pwrite(struct lt_os *os, int fd, const void *buf, size_t n, int64_t at) {
    struct memfs *m = memfs_of(os);
    int rc = memfs_resize(m, fd, at + (int64_t)n, true);
    return rc != 0 ? rc : m->under->pwrite(m->under, fd, buf, n, at);
}

static int memfs_truncate(struct lt_os *os, int fd, int64_t size) {
    struct memfs *m = memfs_of(os);
    int rc = memfs_resize(m, fd, size, false);
    return rc != 0 ? rc : m->under->truncate(m->under, fd, size);
}

static int memfs_allocate(struct lt_os *os, int fd, int64_t at, int64_t n) {
    struct memfs *m = memfs_of(os);
    int rc = memfs_resize(m, fd, at + n, true);
    return rc != 0 ? rc : m->under->allocate(m->under, fd, at, n);
}

static int memfs_map(struct lt_os *os, int fd, size_t n, bool writable, void **out) {
    struct memfs *m = memfs_of(os);
    return m->under->map(m->under, fd, n, writable, out);
}

static int memfs_unmap(struct lt_os *os, void *p, size_t n) {
    struct memfs *m = memfs_of(os);
    return m->under->unmap(m->under, p, n);
}

static int memfs_populate(struct lt_os *os, void *p, size_t n) {
    struct memfs *m = memfs_of(os);
    return m->under->populate ? m->under->populate(m->under, p, n) : -EINVAL;
}

// ---- the rest

static int64_t memfs_mono_ns(struct lt_os *os) {
    return memfs_of(os)->under->mono_ns(memfs_of(os)->under);
}

static int64_t memfs_wall_ms(struct lt_os *os) {
    return memfs_of(os)->under->wall_ms(memfs_of(os)->under);
}

static int memfs_random(struct lt_os *os, void *buf, size_t n) {
    return memfs_of(os)->under->random(memfs_of(os)->under, buf, n);
}

static uint32_t memfs_user(struct lt_os *os) {
    return memfs_of(os)->under->user(memfs_of(os)->under);
}

static int64_t memfs_files_max(struct lt_os *os) {
    struct memfs *m = memfs_of(os);
    return m->under->files_max ? m->under->files_max(m->under) / 2
                               : INT64_MAX; // each file has one more
}

static int memfs_sync(struct lt_os *os, int fd, bool is_dir) {
    (void)os;
    (void)fd;
    (void)is_dir;
    return 0;
}

static int memfs_lock(struct lt_os *os, int fd) { // one store has it
    (void)os;
    (void)fd;
    return 0;
}

static int memfs_writes_in_place(struct lt_os *os, int fd) {
    (void)os;
    (void)fd;
    return 1;
}

static const struct lt_os memfs_table = {
    .mono_ns = memfs_mono_ns,
    .wall_ms = memfs_wall_ms,
    .random = memfs_random,
    .user = memfs_user,
    .open = memfs_open,
    .close = memfs_close,
    .pread = memfs_pread,
    .pwrite = memfs_pwrite,
    .sync = memfs_sync,
    .truncate = memfs_truncate,
    .allocate = memfs_allocate,
    .mkdir = memfs_mkdir,
    .unlink = memfs_unlink,
    .rename = memfs_rename,
    .info = memfs_info,
    .list = memfs_list,
    .lock = memfs_lock,
    .unlock = memfs_lock,
    .writes_in_place = memfs_writes_in_place,
    .map = memfs_map,
    .unmap = memfs_unmap,
    .populate = memfs_populate,
    .files_max = memfs_files_max,
};

struct lt_os *lt_memfs_new(struct lt_mem *mem, struct lt_os *under, int64_t bytes_max) {
    struct memfs *m = lt_zalloc(mem, sizeof *m);
    if (!m)
        return NULL;
    m->os = memfs_table;
    m->under = under;
    m->mem.fn = mem->fn;
    m->mem.ctx = mem->ctx;
    m->bytes_max = bytes_max;
    if (lt_mutex_init(&m->lock, LT_RANK_LEAF) != 0) {
        lt_free(mem, m);
        return NULL;
    }
    if (memfs_add(m, ".", true) == 0)
        return &m->os;
    lt_memfs_free(&m->os);
    return NULL;
}

void lt_memfs_free(struct lt_os *os) {
    struct memfs *m = memfs_of(os);
    struct lt_mem mem = { .fn = m->mem.fn, .ctx = m->mem.ctx };
    for (size_t i = 0; i < m->files; i++)
        if (m->file[i].path)
            memfs_drop(m, &m->file[i]);
    lt_free(&mem, m->file);
    lt_free(&mem, m->of_fd);
    lt_mutex_fini(&m->lock);
    lt_free(&mem, m);
}
