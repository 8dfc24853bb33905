/* SPDX-License-Identifier: MIT */
#include "base/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/magic.h>
#include <sys/random.h>
#include <sys/vfs.h>
#endif

static inline int64_t os_clock_ns(clockid_t clock) {
    struct timespec ts;
    (void)clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t os_mono_ns(struct lt_os *os) {
    (void)os;
    return os_clock_ns(CLOCK_MONOTONIC);
}

#ifdef CLOCK_MONOTONIC_COARSE
// What the kernel knew at its last tick, of which there are a hundred a second at the least.
static int64_t os_ahead_ns(struct lt_os *os) {
    (void)os;
    return os_clock_ns(CLOCK_MONOTONIC_COARSE) + LT_AHEAD_NS;
}
#endif

static uint64_t os_ticks(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return 0;
#endif
}

// Every append asks. The clock is read a few times a millisecond; between that the processor's
// ticks, a third of the price, tell that this millisecond cannot be over: they are 2 ns long at the
// most on every machine that has them. Where there are none, or they jump, the clock is read.
static int64_t os_wall_ms(struct lt_os *os) {
    (void)os;
    static _Thread_local struct {
        uint64_t from, ticks;
        int64_t ms;
    } known;
    uint64_t now = os_ticks();
    if (now - known.from < known.ticks)
        return known.ms;
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    known.ms = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
    known.from = now;
    known.ticks = now ? (uint64_t)(1000000 - ts.tv_nsec % 1000000) / 2 : 0;
    return known.ms;
}

static int os_random(struct lt_os *os, void *buf, size_t n) {
    (void)os;
    return getentropy(buf, n) == 0 ? 0 : -errno;
}

static uint32_t os_user(struct lt_os *os) {
    (void)os;
    return (uint32_t)geteuid();
}

// Moves a descriptor up from those of the standard streams: a host that closed them would otherwise
// print into our files.
static int os_above_streams(int fd) {
    if (fd < 0)
        return -errno;
    if (fd > 2)
        return fd;
    int up = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int e = errno;
    (void)close(fd);
    return up < 0 ? -e : up;
}

static int os_open(struct lt_os *os, int dir, const char *path, int flags, unsigned mode) {
    (void)os;
    int fd;
    do
        fd = openat(dir, path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, (mode_t)mode);
    while (fd < 0 && errno == EINTR);
    return os_above_streams(fd);
}

static int os_close(struct lt_os *os, int fd) {
    (void)os;
    return close(fd) == 0 || errno == EINTR ? 0 : -errno; // never twice: the number may be reused
}

static int64_t os_pread(struct lt_os *os, int fd, void *buf, size_t n, int64_t at) {
    (void)os;
    ssize_t got = pread(fd, buf, n, at);
    return got < 0 ? -errno : got;
}

static int64_t os_pwrite(struct lt_os *os, int fd, const void *buf, size_t n, int64_t at) {
    (void)os;
    ssize_t put = pwrite(fd, buf, n, at);
    return put < 0 ? -errno : put;
}

static int os_sync(struct lt_os *os, int fd, bool is_dir) {
    (void)os;
    return (is_dir ? fsync(fd) : fdatasync(fd)) == 0 ? 0 : -errno;
}

static int os_truncate(struct lt_os *os, int fd, int64_t size) {
    (void)os;
    int rc;
    do
        rc = ftruncate(fd, size);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : -errno;
}

static int os_allocate(struct lt_os *os, int fd, int64_t at, int64_t n) {
    (void)os;
    int rc;
    do
        rc = fallocate(fd, 0, at, n);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : -errno;
}

static int os_mkdir(struct lt_os *os, int dir, const char *path, unsigned mode) {
    (void)os;
    return mkdirat(dir, path, (mode_t)mode) == 0 ? 0 : -errno;
}

static int os_unlink(struct lt_os *os, int dir, const char *path, bool is_dir) {
    (void)os;
    return unlinkat(dir, path, is_dir ? AT_REMOVEDIR : 0) == 0 ? 0 : -errno;
}

static int os_rename(struct lt_os *os, int dir, const char *from, const char *to) {
    (void)os;
    return renameat(dir, from, dir, to) == 0 ? 0 : -errno;
}

static int os_info(struct lt_os *os, int fd, struct lt_file_info *out) {
    (void)os;
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -errno;
    out->size = st.st_size;
    out->uid = st.st_uid;
    out->links = (uint32_t)st.st_nlink;
    out->kind = S_ISREG(st.st_mode)   ? LT_FILE_REGULAR
                : S_ISDIR(st.st_mode) ? LT_FILE_DIR
                                      : LT_FILE_OTHER;
    return 0;
}

static int os_list(struct lt_os *os, int fd, lt_list_fn fn, void *ctx) {
    (void)os;
    // A descriptor of its own: closedir closes it, and its position is not shared.
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (own < 0)
        return -errno;
    DIR *d = fdopendir(own);
    if (!d) {
        int e = errno;
        (void)close(own);
        return -e;
    }
    int rc = 0;
    while (rc == 0) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e) {
            rc = -errno;
            break;
        }
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            rc = fn(e->d_name, ctx);
    }
    (void)closedir(d);
    return rc;
}

static int os_lock(struct lt_os *os, int fd) {
    (void)os;
#ifdef F_OFD_SETLK
    // Held by the open file description: a second open in the same process conflicts too, and an
    // unrelated close in this process does not drop it.
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(fd, F_OFD_SETLK, &fl) == 0)
        return 0;
#else
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(fd, F_SETLK, &fl) == 0)
        return 0;
#endif
    return errno == EACCES ? -EAGAIN : -errno;
}

static int os_unlock(struct lt_os *os, int fd) {
    (void)os;
    struct flock fl = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
#ifdef F_OFD_SETLK
    return fcntl(fd, F_OFD_SETLK, &fl) == 0 ? 0 : -errno;
#else
    return fcntl(fd, F_SETLK, &fl) == 0 ? 0 : -errno;
#endif
}

static int os_writes_in_place(struct lt_os *os, int fd) {
    (void)os;
#ifdef __linux__
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0)
        return -errno;
    unsigned long type = (unsigned long)fs.f_type;
    // Copy-on-write file systems can raise SIGBUS on a store into an allocated page of a full
    // disk, and network ones anywhere; these three write where they allocated.
    return type == EXT4_SUPER_MAGIC || type == 0x58465342UL /* xfs */ || type == TMPFS_MAGIC;
#else
    (void)fd;
    return 0;
#endif
}

static int os_map(struct lt_os *os, int fd, size_t n, bool writable, void **out) {
    (void)os;
    int prot = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
    void *p = mmap(NULL, n, prot, flags, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    *out = p;
    return 0;
}

static int os_unmap(struct lt_os *os, void *p, size_t n) {
    (void)os;
    return munmap(p, n) == 0 ? 0 : -errno;
}

enum { OS_ZEROS = 64 * 1024, OS_PIECES = 16 };

static void os_prefill(struct lt_os *os, int fd, int64_t at, int64_t n) {
    (void)os;
    static uint8_t zeros[OS_ZEROS]; // never written: no memory is used for it
    while (n > 0) {
        struct iovec piece[OS_PIECES];
        int count = 0;
        int64_t sum = 0;
        for (; count < OS_PIECES && sum < n; count++) {
            int64_t size = n - sum < OS_ZEROS ? n - sum : OS_ZEROS;
            piece[count] = (struct iovec){ zeros, (size_t)size };
            sum += size;
        }
        int64_t done = pwritev(fd, piece, count, at);
        if (done <= 0)
            return;
        at += done;
        n -= done;
    }
}

static int os_populate(struct lt_os *os, void *p, size_t n) {
    (void)os;
#ifdef MADV_POPULATE_WRITE
    return madvise(p, n, MADV_POPULATE_WRITE) == 0 ? 0 : -errno;
#else
    (void)p;
    (void)n;
    return -EINVAL;
#endif
}

static void os_large_pages(struct lt_os *os, void *p, size_t n, bool wanted) {
    (void)os;
#ifdef MADV_HUGEPAGE
    (void)madvise(p, n, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#else
    (void)p;
    (void)n;
    (void)wanted;
#endif
}

static int64_t os_spent_ns(struct lt_os *os) {
    (void)os;
    return os_clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static int os_protect(struct lt_os *os, void *p, size_t n) {
    (void)os;
    return mprotect(p, n, PROT_READ) == 0 ? 0 : -errno;
}

static void os_write_back(struct lt_os *os, int fd, int64_t at, int64_t n) {
    (void)os;
#ifdef SYNC_FILE_RANGE_WRITE
    (void)sync_file_range(fd, at, n, SYNC_FILE_RANGE_WRITE);
#else
    (void)fd;
    (void)at;
    (void)n;
#endif
}

static int64_t os_files_max(struct lt_os *os) {
    (void)os;
    return (int64_t)sysconf(_SC_OPEN_MAX);
}

static int os_memory_file(struct lt_os *os) {
    (void)os;
#ifdef __linux__
    return os_above_streams(memfd_create("leat", MFD_CLOEXEC));
#else
    return -ENOSYS;
#endif
}

static int os_duplicate(struct lt_os *os, int fd) {
    (void)os;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? -errno : copy;
}

struct lt_os *lt_os_system(void) {
    static struct lt_os system = {
        .mono_ns = os_mono_ns,
        .wall_ms = os_wall_ms,
#ifdef CLOCK_MONOTONIC_COARSE
        .ahead_ns = os_ahead_ns,
#endif
        .random = os_random,
        .user = os_user,
        .open = os_open,
        .close = os_close,
        .pread = os_pread,
        .pwrite = os_pwrite,
        .sync = os_sync,
        .truncate = os_truncate,
        .allocate = os_allocate,
        .mkdir = os_mkdir,
        .unlink = os_unlink,
        .rename = os_rename,
        .info = os_info,
        .list = os_list,
        .lock = os_lock,
        .unlock = os_unlock,
        .writes_in_place = os_writes_in_place,
        .map = os_map,
        .unmap = os_unmap,
        .prefill = os_prefill,
        .populate = os_populate,
        .large_pages = os_large_pages,
        .spent_ns = os_spent_ns,
        .protect = os_protect,
        .write_back = os_write_back,
        .files_max = os_files_max,
        .memory_file = os_memory_file,
        .duplicate = os_duplicate,
    };
    return &system;
}

int64_t lt_pread_full(struct lt_os *os, int fd, void *buf, size_t n, int64_t at) {
    size_t done = 0;
    while (done < n) {
        int64_t got = os->pread(os, fd, (char *)buf + done, n - done, at + (int64_t)done);
        if (got == -EINTR)
            continue;
        if (got < 0)
            return got;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (int64_t)done;
}

int lt_pwrite_full(struct lt_os *os, int fd, const void *buf, size_t n, int64_t at) {
    size_t done = 0;
    while (done < n) {
        int64_t put = os->pwrite(os, fd, (const char *)buf + done, n - done, at + (int64_t)done);
        if (put == -EINTR)
            continue;
        if (put < 0)
            return (int)put;
        if (put == 0)
            return -EIO; // a regular file that takes no byte and gives no reason
        done += (size_t)put;
    }
    return 0;
}

int lt_os_room(struct lt_os *os, int fd, int64_t at, int64_t n, bool stored) {
    int rc = os->allocate(os, fd, at, n);
    if (!stored && (rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -EINVAL))
        rc = os->truncate(os, fd, at + n);
    return rc;
}
