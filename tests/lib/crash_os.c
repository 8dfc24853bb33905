/* SPDX-License-Identifier: MIT */
// crash_os: first the table of system calls and its trace, then the model that follows a trace.
// Whatever cannot be represented here (a file too long, a table full) aborts: the test is at fault.
#include "lib/crash_os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CRASH_FD_FIRST = 3, CRASH_USER = 1000 };

__attribute__((format(printf, 1, 2))) static _Noreturn void crash_abort(const char *format, ...) {
    va_list list;
    va_start(list, format);
    (void)fprintf(stderr, "crash_os: ");
    (void)vfprintf(stderr, format, list);
    (void)fprintf(stderr, "\n");
    va_end(list);
    abort();
}

static void *crash_alloc(size_t n) {
    void *p = calloc(1, n);
    if (!p)
        crash_abort("out of memory");
    return p;
}

// ---- hashes

static uint64_t crash_mix(uint64_t a, uint64_t b) {
    uint64_t x = (a ^ (b + UINT64_C(0x9e3779b97f4a7c15) + (a << 6) + (a >> 2))) *
                 UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 29;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 32;
}

static uint64_t crash_hash_text(uint64_t seed, const char *s) {
    for (; *s; s++)
        seed = crash_mix(seed, (unsigned char)*s);
    return crash_mix(seed, 0x100);
}

// Of one sector; 0 if it is all zeros.
static uint64_t crash_hash_sector(const uint8_t *bytes) {
    uint64_t h = 1, any = 0;
    for (size_t i = 0; i < CRASH_SECTOR; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        any |= word;
        h = (h ^ word) * UINT64_C(0x9fb21c651e98df25);
        h ^= h >> 35;
    }
    return any ? h | 1 : 0;
}

static uint64_t crash_hash_end(const uint8_t *bytes, size_t n) {
    uint8_t cut[CRASH_SECTOR] = { 0 };
    memcpy(cut, bytes, n);
    return crash_hash_sector(cut);
}

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
    c->calls++;
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
        f->shadow = crash_alloc(CRASH_FILE_MAX);
        if (f->bytes == MAP_FAILED)
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
    if (size != f->memfd_size && ftruncate(f->memfd, size) != 0)
        crash_abort("truncate: %s", strerror(errno));
    f->size = f->memfd_size = size;
}

static struct crash_entry *crash_entry(struct crash_entry *entry, int entries, const char *name) {
    for (int i = 0; i < entries; i++)
        if (strcmp(entry[i].name, name) == 0)
            return &entry[i];
    return NULL;
}

static void crash_enter(struct crash_entry *entry, int *entries, const char *name, int file) {
    struct crash_entry *e = crash_entry(entry, *entries, name);
    if (!e) {
        if (*entries == CRASH_ENTRIES)
            crash_abort("more than %d names in a directory", CRASH_ENTRIES);
        e = &entry[(*entries)++];
        memcpy(e->name, name, strlen(name) + 1);
    }
    e->file = file;
}

static void crash_leave(struct crash_entry *entry, int *entries, const char *name) {
    struct crash_entry *e = crash_entry(entry, *entries, name);
    if (e)
        *e = entry[--*entries];
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
    void *p = fd < 0 ? mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                     : mmap(NULL, n, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                            c->file[file].memfd, 0);
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
    c->map[i].at = NULL;
    return munmap(p, n) == 0 ? 0 : -errno;
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

// The names that a directory has by what was picked.
static int crash_names(const struct crash_node *n, struct crash_entry out[CRASH_ENTRIES]) {
    int entries = n->entries;
    memcpy(out, n->entry, (size_t)entries * sizeof *out);
    for (int i = 0; i < n->pendings; i++) {
        const struct crash_event *e = n->pending[i];
        if (n->dropped[i])
            continue;
        if (e->kind == CRASH_RENAME)
            crash_leave(out, &entries, e->from);
        if (e->kind == CRASH_UNLINK)
            crash_leave(out, &entries, e->name);
        else
            crash_enter(out, &entries, e->name, e->target);
    }
    return entries;
}

static const struct crash_event *crash_picked(const struct crash_sector *s) {
    const struct crash_event *e = s->newest;
    for (uint32_t i = 0; i < s->pick; i++)
        e = e->older;
    return e;
}

static int64_t crash_picked_size(const struct crash_node *n) {
    return n->sizes[n->size_count - 1 - n->size_pick];
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

uint64_t crash_os_hash(const struct crash_os *c) {
    struct {
        int file;
        uint64_t hash;
    } todo[CRASH_FILES];
    int count = 0;
    uint64_t sum = 0;
    todo[count].file = 0;
    todo[count++].hash = 1;
    while (count > 0) {
        const struct crash_file *f = &c->file[todo[--count].file];
        uint64_t path = todo[count].hash;
        sum += crash_mix(path, f->is_dir ? UINT64_MAX : (uint64_t)f->size);
        for (int i = 0; f->is_dir && i < f->entries; i++) {
            todo[count].file = f->entry[i].file;
            todo[count++].hash = crash_hash_text(path, f->entry[i].name);
        }
        for (int64_t at = 0; !f->is_dir && at < f->size; at += CRASH_SECTOR) {
            uint64_t h = f->size - at < CRASH_SECTOR
                             ? crash_hash_end(f->bytes + at, (size_t)(f->size - at))
                             : crash_hash_sector(f->bytes + at);
            sum += h ? crash_mix(path ^ h, (uint64_t)at + 1) : 0;
        }
    }
    return sum;
}

// ---- the model

void crash_model_init(struct crash_model *m) {
    memset(m, 0, sizeof *m);
    m->nodes = 1;
    m->node[0].is_dir = true;
    m->node[0].size_count = 1;
}

void crash_model_copy(struct crash_model *to, const struct crash_model *from) {
    to->nodes = from->nodes;
    to->cuts = 0;
    memcpy(to->node, from->node, (size_t)from->nodes * sizeof *from->node);
}

static void crash_model_make(struct crash_model *m, const struct crash_event *e) {
    if (e->file != m->nodes)
        crash_abort("file %d comes after %d", e->file, m->nodes);
    struct crash_node *n = &m->node[m->nodes++];
    memset(n, 0, sizeof *n);
    n->is_dir = e->is_dir;
    n->size_count = 1;
}

static void crash_model_sync(struct crash_node *n) {
    for (int i = 0; i < n->pendings; i++)
        n->dropped[i] = false;
    struct crash_entry entry[CRASH_ENTRIES];
    n->entries = crash_names(n, entry);
    memcpy(n->entry, entry, (size_t)n->entries * sizeof *entry);
    n->pendings = 0;
    for (uint32_t i = 0; i < n->sectors; i++)
        n->sector[i].count = 1;
    n->sizes[0] = n->sizes[n->size_count - 1];
    n->size_count = 1;
}

static void crash_model_bytes(struct crash_node *n, struct crash_event *e) {
    while (n->sectors <= e->sector)
        n->sector[n->sectors++] = (struct crash_sector){ .count = 1 };
    struct crash_sector *s = &n->sector[e->sector];
    e->older = s->newest;
    s->newest = e;
    s->count++;
}

static void crash_model_size(struct crash_node *n, int64_t size) {
    if (n->size_count == CRASH_SIZES) // the second one is forgotten: the first was synced
        memmove(n->sizes + 1, n->sizes + 2, (size_t)(--n->size_count - 1) * sizeof *n->sizes);
    n->sizes[n->size_count++] = size;
}

void crash_model_follow(struct crash_model *m, struct crash_event *e) {
    struct crash_node *n = e->kind == CRASH_POINT ? NULL : &m->node[e->file];
    switch (e->kind) {
    case CRASH_POINT:
        return;
    case CRASH_BYTES:
        crash_model_bytes(n, e);
        return;
    case CRASH_SIZE:
        crash_model_size(n, e->size);
        return;
    case CRASH_SYNC:
        crash_model_sync(n);
        return;
    case CRASH_MAKE:
        crash_model_make(m, e);
        return;
    case CRASH_LINK:
    case CRASH_RENAME:
        memcpy(m->node[e->target].name, e->name, CRASH_NAME);
        break;
    case CRASH_UNLINK:
        break;
    }
    if (n->pendings == CRASH_PENDING)
        crash_abort("more than %d names are not synced", CRASH_PENDING);
    n->dropped[n->pendings] = false;
    n->pending[n->pendings++] = e;
}

// Marks what some choice of names can reach.
static void crash_model_reach(const struct crash_model *m, bool reached[CRASH_FILES]) {
    int todo[CRASH_FILES], count = 0;
    memset(reached, 0, CRASH_FILES * sizeof *reached);
    reached[0] = true;
    todo[count++] = 0;
    while (count > 0) {
        const struct crash_node *n = &m->node[todo[--count]];
        for (int i = 0; i < n->entries + n->pendings; i++) {
            const struct crash_event *e = i < n->entries ? NULL : n->pending[i - n->entries];
            if (e && e->kind == CRASH_UNLINK)
                continue;
            int file = e ? e->target : n->entry[i].file;
            if (reached[file])
                continue;
            reached[file] = true;
            if (m->node[file].is_dir)
                todo[count++] = file;
        }
    }
}

static void crash_model_var(struct crash_var vars[CRASH_VARS], size_t *count, enum crash_what what,
                            int file, uint32_t index, uint32_t choices) {
    if (choices < 2)
        return;
    if (*count == CRASH_VARS)
        crash_abort("more than %d things are uncertain", CRASH_VARS);
    vars[(*count)++] =
        (struct crash_var){ .what = what, .file = file, .index = index, .choices = choices };
}

size_t crash_model_vars(struct crash_model *m, struct crash_var vars[CRASH_VARS]) {
    bool reached[CRASH_FILES];
    size_t count = 0;
    crash_model_reach(m, reached);
    for (int file = 0; file < m->nodes; file++) {
        struct crash_node *n = &m->node[file];
        n->size_pick = 0;
        for (uint32_t i = 0; i < n->sectors; i++)
            n->sector[i].pick = 0;
        for (int i = 0; i < n->pendings; i++)
            n->dropped[i] = false;
        if (!reached[file])
            continue;
        for (int i = 0; i < n->pendings; i++)
            crash_model_var(vars, &count, CRASH_VAR_NAME, file, (uint32_t)i, 2);
        crash_model_var(vars, &count, CRASH_VAR_SIZE, file, 0, (uint32_t)n->size_count);
        for (uint32_t i = 0; i < n->sectors; i++)
            crash_model_var(vars, &count, CRASH_VAR_SECTOR, file, i, n->sector[i].count);
    }
    return count;
}

void crash_model_pick(struct crash_model *m, const struct crash_var *var, uint32_t pick) {
    struct crash_node *n = &m->node[var->file];
    switch (var->what) {
    case CRASH_VAR_SECTOR:
        n->sector[var->index].pick = pick;
        break;
    case CRASH_VAR_SIZE:
        n->size_pick = (int)pick;
        break;
    case CRASH_VAR_NAME:
        n->dropped[var->index] = pick != 0;
        break;
    }
}

bool crash_model_torn(const struct crash_model *m, const struct crash_var *var, uint32_t pick) {
    if (var->what != CRASH_VAR_SECTOR)
        return false;
    const struct crash_event *e = m->node[var->file].sector[var->index].newest;
    for (; pick > 0; pick--)
        e = e->older;
    return e && e->torn;
}

static uint64_t crash_model_hash_file(const struct crash_node *n, uint64_t path) {
    int64_t size = crash_picked_size(n);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n->sectors && (int64_t)i * CRASH_SECTOR < size; i++) {
        const struct crash_event *e = crash_picked(&n->sector[i]);
        int64_t at = (int64_t)i * CRASH_SECTOR;
        uint64_t h = !e                          ? 0
                     : size - at >= CRASH_SECTOR ? e->hash
                                                 : crash_hash_end(e->bytes, (size_t)(size - at));
        sum += h ? crash_mix(path ^ h, (uint64_t)at + 1) : 0;
    }
    return sum;
}

uint64_t crash_model_hash(const struct crash_model *m) {
    struct {
        int file;
        uint64_t hash;
    } todo[CRASH_FILES];
    int count = 0;
    uint64_t sum = 0;
    todo[count].file = 0;
    todo[count++].hash = 1;
    while (count > 0) {
        const struct crash_node *n = &m->node[todo[--count].file];
        uint64_t path = todo[count].hash;
        sum += crash_mix(path, n->is_dir ? UINT64_MAX : (uint64_t)crash_picked_size(n));
        if (!n->is_dir) {
            sum += crash_model_hash_file(n, path);
            continue;
        }
        struct crash_entry entry[CRASH_ENTRIES];
        int entries = crash_names(n, entry);
        for (int i = 0; i < entries; i++) {
            todo[count].file = entry[i].file;
            todo[count++].hash = crash_hash_text(path, entry[i].name);
        }
    }
    return sum;
}

// What stood behind the end is not there when the file grows again.
static struct crash_event *crash_model_cut(struct crash_model *m, const struct crash_event *e,
                                           size_t n) {
    struct crash_event *cut = crash_alloc(sizeof *cut);
    *cut = *e;
    cut->bytes = crash_alloc(CRASH_SECTOR);
    memcpy(cut->bytes, e->bytes, n);
    cut->hash = crash_hash_sector(cut->bytes);
    m->cut[m->cuts++] = cut; // one a file at the most
    return cut;
}

void crash_model_free(struct crash_model *m) {
    while (m->cuts > 0) {
        free(m->cut[--m->cuts]->bytes);
        free(m->cut[m->cuts]);
    }
}

void crash_model_settle(struct crash_model *m) {
    for (int file = 0; file < m->nodes; file++) {
        struct crash_node *n = &m->node[file];
        struct crash_entry entry[CRASH_ENTRIES];
        n->entries = crash_names(n, entry);
        memcpy(n->entry, entry, (size_t)n->entries * sizeof *entry);
        n->pendings = 0;
        n->sizes[0] = crash_picked_size(n);
        n->size_count = 1;
        n->size_pick = 0;
        for (uint32_t i = 0; i < n->sectors; i++) {
            struct crash_sector *s = &n->sector[i];
            int64_t room = n->sizes[0] - (int64_t)i * CRASH_SECTOR;
            s->newest = room > 0 ? (struct crash_event *)(uintptr_t)crash_picked(s) : NULL;
            if (s->newest && room < CRASH_SECTOR)
                s->newest = crash_model_cut(m, s->newest, (size_t)room);
            s->count = 1;
            s->pick = 0;
        }
    }
}

void crash_model_say(const struct crash_model *m, const struct crash_var *var, uint32_t pick,
                     char out[160]) {
    const struct crash_node *n = &m->node[var->file];
    const char *name = n->name[0] ? n->name : "/";
    if (var->what == CRASH_VAR_NAME) {
        const struct crash_event *e = n->pending[var->index];
        const char *verb = e->kind == CRASH_LINK     ? "made"
                           : e->kind == CRASH_UNLINK ? "removed"
                                                     : "renamed";
        (void)snprintf(out, 160, "[%s: %s %s%s]", name, e->name, verb, pick ? " dropped" : " kept");
    } else if (var->what == CRASH_VAR_SIZE) {
        (void)snprintf(out, 160, "[%s: size %lld of newest %lld]", name,
                       (long long)n->sizes[n->size_count - 1 - (int)pick],
                       (long long)n->sizes[n->size_count - 1]);
    } else {
        (void)snprintf(out, 160, "[%s: sector %u version %u of %u]", name, var->index,
                       var->choices - pick, var->choices);
    }
}
