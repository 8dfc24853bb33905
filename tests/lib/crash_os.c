/* SPDX-License-Identifier: MIT */
// crash_os: the table of system calls and its trace.
#include "lib/crash_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CRASH_FD_FIRST = 3, CRASH_USER = 1000 };

// Mappings are two that each file has for good, one of them for reading only, which is several
// times faster than making them. Under a sanitizer each is made and ends with the file, so that an
// access behind the end or after its unmap is seen.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CRASH_REAL_MAPS = 1 };
#else
enum { CRASH_REAL_MAPS = 0 };
#endif

// ---- the trace

void crash_trace_clear(struct crash_trace *t) {
    for (size_t i = 0; i < t->count; i++) {
        free(t->event[i]->bytes);
        free(t->event[i]);
    }
    free(t->event);
    *t = (struct crash_trace){ 0 };
}

// Returns NULL while nothing is recorded.
static struct crash_event *crash_note(struct crash_os *c, enum crash_kind kind, int file) {
    if (!c->recording)
        return NULL;
    struct crash_trace *t = &c->trace;
    if (t->count == t->room) {
        t->room = t->room ? 2 * t->room : 256;
        t->event = realloc(t->event, t->room * sizeof(struct crash_event *));
        if (!t->event)
            crash_abort("out of memory");
    }
    struct crash_event *e = crash_alloc(sizeof *e);
    e->kind = kind;
    e->file = file;
    t->event[t->count++] = e;
    c->changed = kind != CRASH_POINT;
    return e;
}

static void crash_note_sector(struct crash_os *c, int file, uint32_t sector, const uint8_t *bytes) {
    struct crash_event *e = crash_note(c, CRASH_BYTES, file);
    e->sector = sector;
    e->bytes = crash_alloc(CRASH_SECTOR);
    memcpy(e->bytes, bytes, CRASH_SECTOR);
    e->hash = crash_hash_sector(bytes);
}

static void crash_note_torn(struct crash_os *c, int file, uint32_t sector, const uint8_t *was,
                            const uint8_t *is) {
    size_t first = 0, last = CRASH_SECTOR - 1;
    while (was[first] == is[first])
        first++;
    while (was[last] == is[last])
        last--;
    size_t middle = (first + last + 1) / 2 & ~(size_t)7; // 8 bytes are stored at once
    if (middle <= first || middle > last)
        return;
    uint8_t torn[CRASH_SECTOR];
    memcpy(torn, is, middle);
    memcpy(torn + middle, was + middle, CRASH_SECTOR - middle);
    crash_note_sector(c, file, sector, torn);
    c->trace.event[c->trace.count - 1]->torn = true;
}

// Notes what has changed in a file since the last look.
static void crash_look(struct crash_os *c, int file) {
    struct crash_file *f = &c->file[file];
    int64_t top = f->size > f->shadow_size ? f->size : f->shadow_size;
    for (int64_t at = 0; at < top; at += CRASH_SECTOR) {
        uint8_t now[CRASH_SECTOR] = { 0 }; // what is behind the end reads as zeros
        int64_t n = f->size - at < CRASH_SECTOR ? f->size - at : CRASH_SECTOR;
        if (n == CRASH_SECTOR && memcmp(f->bytes + at, f->shadow + at, CRASH_SECTOR) == 0)
            continue;
        if (n > 0)
            memcpy(now, f->bytes + at, (size_t)n);
        if (memcmp(now, f->shadow + at, CRASH_SECTOR) == 0)
            continue;
        uint32_t sector = (uint32_t)(at / CRASH_SECTOR);
        if (c->torn)
            crash_note_torn(c, file, sector, f->shadow + at, now);
        crash_note_sector(c, file, sector, now);
        memcpy(f->shadow + at, now, CRASH_SECTOR);
    }
    if (f->size != f->shadow_size) {
        struct crash_event *e = crash_note(c, CRASH_SIZE, file);
        e->size = f->shadow_size = f->size;
    }
}

// At the beginning of every call: what was stored since the last one, and a point.
static void crash_turn(struct lt_os *os) {
    struct crash_os *c = (struct crash_os *)(void *)os; // os is its first member
    if (++c->calls > c->calls_max && c->calls_max > 0)
        crash_abort("more than %ld calls", c->calls_max);
    if (!c->recording)
        return;
    for (int i = 0; i < c->files; i++)
        if (c->file[i].writable_maps > 0)
            crash_look(c, i);
    if (c->changed)
        (void)crash_note(c, CRASH_POINT, -1);
}

void crash_os_point(struct crash_os *c) {
    crash_turn(&c->os);
    c->changed = true;
    if (c->recording)
        (void)crash_note(c, CRASH_POINT, -1);
}

// ---- files

static int crash_make(struct crash_os *c, bool is_dir) {
    if (c->files == CRASH_FILES)
        crash_abort("more than %d files", CRASH_FILES);
    struct crash_file *f = &c->file[c->files];
    f->made = true;
    f->is_dir = is_dir;
    f->size = f->shadow_size = 0;
    f->entries = f->writable_maps = f->locked_by = 0;
    if (!is_dir && f->memfd < 0) {
        f->memfd = memfd_create("leat", MFD_CLOEXEC);
        f->bytes = f->memfd < 0 ? MAP_FAILED
                                : mmap(NULL, CRASH_FILE_MAX, PROT_READ | PROT_WRITE, MAP_SHARED,
                                       f->memfd, 0);
        if (f->bytes != MAP_FAILED && !CRASH_REAL_MAPS && ftruncate(f->memfd, CRASH_FILE_MAX) == 0)
            f->view = mmap(NULL, CRASH_FILE_MAX, PROT_READ, MAP_SHARED, f->memfd, 0);
        f->shadow = crash_alloc(CRASH_FILE_MAX);
        if (f->bytes == MAP_FAILED || f->view == MAP_FAILED || (!f->view && !CRASH_REAL_MAPS))
            crash_abort("no memory file: %s", strerror(errno));
    }
    if (!is_dir && c->recording)
        memset(f->shadow, 0, CRASH_FILE_MAX);
    struct crash_event *e = crash_note(c, CRASH_MAKE, c->files);
    if (e)
        e->is_dir = is_dir;
    return c->files++;
}

static void crash_set_size(struct crash_file *f, int64_t size) {
    if (size > CRASH_FILE_MAX)
        crash_abort("a file of %lld bytes", (long long)size);
    if (CRASH_REAL_MAPS && size != f->memfd_size && ftruncate(f->memfd, size) != 0)
        crash_abort("truncate: %s", strerror(errno));
    if (!CRASH_REAL_MAPS && size < f->memfd_size)
        memset(f->bytes + size, 0, (size_t)(f->memfd_size - size));
    f->size = f->memfd_size = size;
}

static int crash_of_fd(struct crash_os *c, int fd) {
    int i = fd - CRASH_FD_FIRST;
    if (i < 0 || i >= CRASH_FDS || c->fd[i] == 0)
        crash_abort("descriptor %d is not open", fd);
    return c->fd[i] - 1;
}

static int crash_above(const struct crash_os *c, int dir) {
    for (int i = 0; i < c->files; i++)
        for (int k = 0; c->file[i].is_dir && k < c->file[i].entries; k++)
            if (c->file[i].entry[k].file == dir)
                return i;
    return dir;
}

// Finds the directory that a path's last part is in. Returns it or -errno.
static int crash_walk(struct crash_os *c, int dir, const char *path, char last[CRASH_NAME]) {
    int at = dir == AT_FDCWD ? 0 : crash_of_fd(c, dir);
    for (;;) {
        size_t n = strcspn(path, "/");
        if (n >= CRASH_NAME)
            return -ENAMETOOLONG;
        memcpy(last, path, n);
        last[n] = '\0';
        if (path[n] == '\0')
            return at;
        const struct crash_entry *e = crash_entry(c->file[at].entry, c->file[at].entries, last);
        if (!e)
            return -ENOENT;
        if (!c->file[e->file].is_dir)
            return -ENOTDIR;
        at = e->file;
        path += n + 1;
    }
}

static void crash_link(struct crash_os *c, int dir, const char *name, int file) {
    crash_enter(c->file[dir].entry, &c->file[dir].entries, name, file);
    struct crash_event *e = crash_note(c, CRASH_LINK, dir);
    if (e) {
        memcpy(e->name, name, strlen(name) + 1);
        e->target = file;
    }
}

// ---- the calls

static int64_t crash_mono_ns(struct lt_os *os) {
    (void)os;
    return 1;
}

static int64_t crash_wall_ms(struct lt_os *os) {
    (void)os;
    return INT64_C(1700000000000);
}

static int crash_random(struct lt_os *os, void *buf, size_t n) {
    crash_turn(os);
    memset(buf, 0x5a, n);
    return 0;
}

static uint32_t crash_user(struct lt_os *os) {
    (void)os;
    return CRASH_USER;
}

static int crash_open_fd(struct crash_os *c, int file) {
    for (int i = 0; i < CRASH_FDS; i++)
        if (c->fd[i] == 0) {
            c->fd[i] = file + 1;
            return i + CRASH_FD_FIRST;
        }
    crash_abort("more than %d descriptors", CRASH_FDS);
}

static int crash_open(struct lt_os *os, int dir, const char *path, int flags, unsigned mode) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    char name[CRASH_NAME];
    (void)mode;
    crash_turn(os);
    int in = crash_walk(c, dir, path, name);
    if (in < 0)
        return in;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return crash_open_fd(c, name[1] ? crash_above(c, in) : in);
    const struct crash_entry *e = crash_entry(c->file[in].entry, c->file[in].entries, name);
    if (!e && !(flags & O_CREAT))
        return -ENOENT;
    if (e && (flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    if (e && (flags & O_DIRECTORY) && !c->file[e->file].is_dir)
        return -ENOTDIR;
    if (e && c->file[e->file].is_dir && (flags & O_ACCMODE) != O_RDONLY)
        return -EISDIR;
    int file = e ? e->file : crash_make(c, false);
    if (!e)
        crash_link(c, in, name, file);
    if (!e || (flags & O_TRUNC)) {
        crash_set_size(&c->file[file], 0);
        if (c->recording)
            crash_look(c, file);
    }
    return crash_open_fd(c, file);
}

static int crash_close(struct lt_os *os, int fd) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    crash_turn(os);
    int file = crash_of_fd(c, fd);
    if (c->file[file].locked_by == fd + 1)
        c->file[file].locked_by = 0;
    c->fd[fd - CRASH_FD_FIRST] = 0;
    return 0;
}

static int64_t crash_pread(struct lt_os *os, int fd, void *buf, size_t n, int64_t at) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    const struct crash_file *f = &c->file[crash_of_fd(c, fd)];
    crash_turn(os);
    if (f->is_dir)
        return -EISDIR;
    if (at >= f->size)
        return 0;
    if ((int64_t)n > f->size - at)
        n = (size_t)(f->size - at);
    memcpy(buf, f->bytes + at, n);
    return (int64_t)n;
}

static int64_t crash_pwrite(struct lt_os *os, int fd, const void *buf, size_t n, int64_t at) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    int file = crash_of_fd(c, fd);
    crash_turn(os);
    if (at + (int64_t)n > c->file[file].size)
        crash_set_size(&c->file[file], at + (int64_t)n);
    memcpy(c->file[file].bytes + at, buf, n);
    if (c->recording)
        crash_look(c, file);
    return (int64_t)n;
}

static int crash_sync(struct lt_os *os, int fd, bool is_dir) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    int file = crash_of_fd(c, fd);
    crash_turn(os);
    if (is_dir != c->file[file].is_dir)
        crash_abort("a sync of the wrong kind");
    (void)crash_note(c, CRASH_SYNC, file);
    return 0;
}

static int crash_truncate(struct lt_os *os, int fd, int64_t size) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    int file = crash_of_fd(c, fd);
    crash_turn(os);
    crash_set_size(&c->file[file], size);
    if (c->recording)
        crash_look(c, file);
    return 0;
}

static int crash_allocate(struct lt_os *os, int fd, int64_t at, int64_t n) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    int file = crash_of_fd(c, fd);
    crash_turn(os);
    if (at + n > c->file[file].size)
        crash_set_size(&c->file[file], at + n);
    if (c->recording)
        crash_look(c, file);
    return 0;
}

static int crash_mkdir(struct lt_os *os, int dir, const char *path, unsigned mode) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    char name[CRASH_NAME];
    (void)mode;
    crash_turn(os);
    int in = crash_walk(c, dir, path, name);
    if (in < 0)
        return in;
    if (crash_entry(c->file[in].entry, c->file[in].entries, name))
        return -EEXIST;
    crash_link(c, in, name, crash_make(c, true));
    return 0;
}

static int crash_unlink(struct lt_os *os, int dir, const char *path, bool is_dir) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    char name[CRASH_NAME];
    crash_turn(os);
    int in = crash_walk(c, dir, path, name);
    if (in < 0)
        return in;
    const struct crash_entry *e = crash_entry(c->file[in].entry, c->file[in].entries, name);
    if (!e)
        return -ENOENT;
    if (c->file[e->file].is_dir != is_dir)
        return is_dir ? -ENOTDIR : -EISDIR;
    if (is_dir && c->file[e->file].entries > 0)
        return -ENOTEMPTY;
    crash_leave(c->file[in].entry, &c->file[in].entries, name);
    struct crash_event *note = crash_note(c, CRASH_UNLINK, in);
    if (note)
        memcpy(note->name, name, sizeof name);
    return 0;
}

static int crash_rename(struct lt_os *os, int dir, const char *from, const char *to) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    char old[CRASH_NAME], name[CRASH_NAME];
    crash_turn(os);
    int in = crash_walk(c, dir, from, old);
    int in_to = crash_walk(c, dir, to, name);
    if (in < 0 || in_to < 0)
        return in < 0 ? in : in_to;
    if (in != in_to)
        crash_abort("a rename from one directory to another");
    const struct crash_entry *e = crash_entry(c->file[in].entry, c->file[in].entries, old);
    if (!e)
        return -ENOENT;
    int file = e->file;
    crash_leave(c->file[in].entry, &c->file[in].entries, old);
    crash_enter(c->file[in].entry, &c->file[in].entries, name, file);
    struct crash_event *note = crash_note(c, CRASH_RENAME, in);
    if (note) {
        memcpy(note->from, old, sizeof old);
        memcpy(note->name, name, sizeof name);
        note->target = file;
    }
    return 0;
}

static int crash_info(struct lt_os *os, int fd, struct lt_file_info *out) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    const struct crash_file *f = &c->file[crash_of_fd(c, fd)];
    crash_turn(os);
    *out = (struct lt_file_info){ .size = f->is_dir ? 0 : f->size,
                                  .uid = CRASH_USER,
                                  .links = 1,
                                  .kind = f->is_dir ? LT_FILE_DIR : LT_FILE_REGULAR };
    return 0;
}

static int crash_list(struct lt_os *os, int fd, lt_list_fn fn, void *ctx) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    const struct crash_file *f = &c->file[crash_of_fd(c, fd)];
    crash_turn(os);
    static struct crash_entry entry[CRASH_ENTRIES]; // fn may remove what it is told of
    int entries = f->entries, rc = 0;
    memcpy(entry, f->entry, (size_t)entries * sizeof *entry);
    for (int i = 0; i < entries && rc == 0; i++)
        rc = fn(entry[i].name, ctx);
    return rc;
}

static int crash_lock(struct lt_os *os, int fd) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    struct crash_file *f = &c->file[crash_of_fd(c, fd)];
    crash_turn(os);
    if (f->locked_by != 0 && f->locked_by != fd + 1)
        return -EAGAIN;
    f->locked_by = fd + 1;
    return 0;
}

static int crash_unlock(struct lt_os *os, int fd) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    crash_turn(os);
    c->file[crash_of_fd(c, fd)].locked_by = 0;
    return 0;
}

static int crash_writes_in_place(struct lt_os *os, int fd) {
    (void)fd;
    crash_turn(os);
    return 1;
}

static int crash_map(struct lt_os *os, int fd, size_t n, bool writable, void **out) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    crash_turn(os);
    int file = fd < 0 ? -1 : crash_of_fd(c, fd), i = 0;
    while (i < CRASH_MAPS && c->map[i].at)
        i++;
    if (i == CRASH_MAPS)
        crash_abort("more than %d mappings", CRASH_MAPS);
    void *p;
    if (fd < 0)
        p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    else if (CRASH_REAL_MAPS)
        p = mmap(NULL, n, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                 c->file[file].memfd, 0);
    else
        p = writable ? c->file[file].bytes : c->file[file].view;
    if (p == MAP_FAILED)
        return -errno;
    c->map[i].at = *out = p;
    c->map[i].size = n;
    c->map[i].file = file;
    c->map[i].writable = writable;
    if (file >= 0 && writable)
        c->file[file].writable_maps++;
    return 0;
}

static int crash_unmap(struct lt_os *os, void *p, size_t n) {
    struct crash_os *c = (struct crash_os *)(void *)os;
    crash_turn(os);
    int i = 0;
    while (i < CRASH_MAPS && (c->map[i].at != p || c->map[i].size != n))
        i++;
    if (i == CRASH_MAPS)
        crash_abort("unmap of what is not mapped");
    if (c->map[i].file >= 0 && c->map[i].writable)
        c->file[c->map[i].file].writable_maps--;
    bool made = c->map[i].file < 0 || CRASH_REAL_MAPS;
    c->map[i].at = NULL;
    return !made || munmap(p, n) == 0 ? 0 : -errno;
}

// ---- making, loading, looking

static const struct lt_os crash_table = {
    .mono_ns = crash_mono_ns,
    .wall_ms = crash_wall_ms,
    .random = crash_random,
    .user = crash_user,
    .open = crash_open,
    .close = crash_close,
    .pread = crash_pread,
    .pwrite = crash_pwrite,
    .sync = crash_sync,
    .truncate = crash_truncate,
    .allocate = crash_allocate,
    .mkdir = crash_mkdir,
    .unlink = crash_unlink,
    .rename = crash_rename,
    .info = crash_info,
    .list = crash_list,
    .lock = crash_lock,
    .unlock = crash_unlock,
    .writes_in_place = crash_writes_in_place,
    .map = crash_map,
    .unmap = crash_unmap,
};

void crash_os_init(struct crash_os *c) {
    memset(c, 0, sizeof *c);
    c->os = crash_table;
    for (int i = 0; i < CRASH_FILES; i++)
        c->file[i].memfd = -1;
    (void)crash_make(c, true);
}

void crash_os_fini(struct crash_os *c) {
    for (int i = 0; i < CRASH_FILES; i++) {
        if (c->file[i].memfd < 0)
            continue;
        (void)munmap(c->file[i].bytes, CRASH_FILE_MAX);
        if (c->file[i].view)
            (void)munmap(c->file[i].view, CRASH_FILE_MAX);
        (void)close(c->file[i].memfd);
        free(c->file[i].shadow);
    }
    crash_trace_clear(&c->trace);
}

bool crash_os_idle(const struct crash_os *c) {
    for (int i = 0; i < CRASH_FDS; i++)
        if (c->fd[i] != 0)
            return false;
    for (int i = 0; i < CRASH_MAPS; i++)
        if (c->map[i].at)
            return false;
    return true;
}

static void crash_load_file(struct crash_os *c, int file, const struct crash_node *n) {
    struct crash_file *f = &c->file[file];
    crash_set_size(f, crash_picked_size(n));
    uint32_t sectors = (uint32_t)((f->size + CRASH_SECTOR - 1) / CRASH_SECTOR);
    for (uint32_t i = 0; i < sectors; i++) {
        const struct crash_event *e = i < n->sectors ? crash_picked(&n->sector[i]) : NULL;
        size_t at = (size_t)i * CRASH_SECTOR, room = (size_t)f->size - at;
        room = room < CRASH_SECTOR ? room : CRASH_SECTOR;
        if (e)
            memcpy(f->bytes + at, e->bytes, room);
        else
            memset(f->bytes + at, 0, room);
    }
    f->shadow_size = f->size;
    if (c->recording)
        memcpy(f->shadow, f->bytes, (size_t)f->size); // crash_make has cleared the rest
}

void crash_os_load(struct crash_os *c, const struct crash_model *m, bool record) {
    if (!crash_os_idle(c))
        crash_abort("loaded while it is in use");
    crash_trace_clear(&c->trace);
    c->recording = record;
    c->files = 0;
    for (int i = 0; i < m->nodes; i++)
        (void)crash_make(c, m->node[i].is_dir); // the same numbers as in the model
    crash_trace_clear(&c->trace);
    c->changed = false;
    int todo[CRASH_FILES], count = 0;
    todo[count++] = 0;
    while (count > 0) {
        struct crash_file *f = &c->file[todo[--count]];
        f->entries = crash_names(&m->node[f - c->file], f->entry);
        for (int i = 0; i < f->entries; i++) {
            int file = f->entry[i].file;
            if (m->node[file].is_dir)
                todo[count++] = file;
            else
                crash_load_file(c, file, &m->node[file]);
        }
    }
}

static int crash_os_names(const void *of, int file, struct crash_entry out[CRASH_ENTRIES]) {
    const struct crash_file *f = &((const struct crash_os *)of)->file[file];
    if (!f->is_dir)
        return -1;
    memcpy(out, f->entry, (size_t)f->entries * sizeof *out);
    return f->entries;
}

static uint64_t crash_os_sector(const void *of, int file, uint32_t sector, int64_t size) {
    const uint8_t *bytes = ((const struct crash_os *)of)->file[file].bytes;
    int64_t at = (int64_t)sector * CRASH_SECTOR;
    return size - at < CRASH_SECTOR ? crash_hash_end(bytes + at, (size_t)(size - at))
                                    : crash_hash_sector(bytes + at);
}

static int64_t crash_os_size(const void *of, int file) {
    return ((const struct crash_os *)of)->file[file].size;
}

uint64_t crash_os_hash(const struct crash_os *c) {
    const struct crash_tree t = {
        .of = c, .names = crash_os_names, .sector = crash_os_sector, .size = crash_os_size
    };
    return crash_tree_hash(&t);
}
