/* SPDX-License-Identifier: MIT */
// os: every system call and both clocks, behind one table per store. Tests put a table in front of
// it that fails the n-th call. Nothing else in src/ calls the system.
//
// Every function returns >= 0, or -errno. Paths are relative to a directory's descriptor.
#ifndef LT_BASE_OS_H
#define LT_BASE_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lt_file_kind { LT_FILE_REGULAR = 1, LT_FILE_DIR = 2, LT_FILE_OTHER = 3 };

struct lt_file_info {
    int64_t size;
    uint32_t uid, links;
    enum lt_file_kind kind;
};

#define LT_AHEAD_NS INT64_C(10000000)

// Called for each entry of a directory but . and ..; a result other than 0 stops the listing.
typedef int (*lt_list_fn)(const char *name, void *ctx);

struct lt_os {
    int64_t (*mono_ns)(struct lt_os *os); // CLOCK_MONOTONIC; cannot fail
    int64_t (*wall_ms)(struct lt_os *os); // CLOCK_REALTIME; cannot fail
    // A time that mono_ns does not reach yet, but will in LT_AHEAD_NS, for an eighth of its price;
    // NULL: there is none.
    int64_t (*ahead_ns)(struct lt_os *os);
    int (*random)(struct lt_os *os, void *buf, size_t n);
    uint32_t (*user)(struct lt_os *os); // effective user id; cannot fail
    // open: O_CLOEXEC, O_NOFOLLOW and O_NONBLOCK (a fifo does not hang it) are added; the
    // descriptor is never 0, 1 or 2.
    int (*open)(struct lt_os *os, int dir, const char *path, int flags, unsigned mode);
    int (*close)(struct lt_os *os, int fd);
    int64_t (*pread)(struct lt_os *os, int fd, void *buf, size_t n, int64_t at);
    int64_t (*pwrite)(struct lt_os *os, int fd, const void *buf, size_t n, int64_t at);
    int (*sync)(struct lt_os *os, int fd, bool is_dir); // fdatasync; fsync of a directory
    int (*truncate)(struct lt_os *os, int fd, int64_t size);
    int (*allocate)(struct lt_os *os, int fd, int64_t at, int64_t n); // fallocate: grows, zeroed
    int (*mkdir)(struct lt_os *os, int dir, const char *path, unsigned mode);
    int (*unlink)(struct lt_os *os, int dir, const char *path, bool is_dir);
    int (*rename)(struct lt_os *os, int dir, const char *from, const char *to);
    int (*info)(struct lt_os *os, int fd, struct lt_file_info *out);
    int (*list)(struct lt_os *os, int fd, lt_list_fn fn, void *ctx);
    int (*lock)(struct lt_os *os, int fd);   // -EAGAIN: somebody has it
    int (*unlock)(struct lt_os *os, int fd); // for a fork that still has the descriptor, too
    int (*writes_in_place)(struct lt_os *os, int fd); // 1: mapped writes are safe here
    // map: fd -1 is anonymous memory, zeroed, not reserved against swap.
    int (*map)(struct lt_os *os, int fd, size_t n, bool writable, void **out);
    int (*unmap)(struct lt_os *os, void *p, size_t n);
    // prefill: writes zeros where a file has nothing else, so that its pages come into memory many
    // at a time, and populate finds them there. What it cannot write does no harm. NULL: no.
    void (*prefill)(struct lt_os *os, int fd, int64_t at, int64_t n);
    // populate: gets the pages ready to be stored to, so that what a store would make SIGBUS is an
    // error here. May be NULL, and -EINVAL where the kernel cannot: then the store finds out.
    int (*populate)(struct lt_os *os, void *p, size_t n);
    // large_pages: whether pages of anonymous memory are to be large ones: one fault for 2 MiB, but
    // so much for the first byte, too. Where the kernel has none that does no harm. May be NULL.
    void (*large_pages)(struct lt_os *os, void *p, size_t n, bool wanted);
    // spent_ns: processor time of the calling thread. NULL: not known.
    int64_t (*spent_ns)(struct lt_os *os);
    // protect: a mapping is only read from here on. May be NULL.
    int (*protect)(struct lt_os *os, void *p, size_t n);
    // write_back: starts writing a range of a file to the disk, without waiting and without any
    // promise. May be NULL.
    void (*write_back)(struct lt_os *os, int fd, int64_t at, int64_t n);
    // files_max: how many descriptors the process may have. May be NULL: not known.
    int64_t (*files_max)(struct lt_os *os);
    // memory_file: a descriptor of a new empty file without a name, in memory; duplicate: another
    // descriptor of the same. Both may be NULL: then no memory store can be crashed.
    int (*memory_file)(struct lt_os *os);
    int (*duplicate)(struct lt_os *os, int fd);
};

// lt_os_system returns the table of the real system: one for all stores, without state.
struct lt_os *lt_os_system(void);

// lt_pread_full reads n bytes at `at`, also over short reads and EINTR.
// Returns  bytes read (less than n only at the end of the file), or -errno.
int64_t lt_pread_full(struct lt_os *os, int fd, void *buf, size_t n, int64_t at);
// lt_pwrite_full writes all n bytes. Returns  0 or -errno.
int lt_pwrite_full(struct lt_os *os, int fd, const void *buf, size_t n, int64_t at);

// lt_os_room makes a file n bytes longer than the `at` bytes that it has, with room for them: a
// hole needs room when it is written, and on tmpfs when its mapping is read, which is SIGBUS if
// there is none. Unless they are to be `stored` to through a mapping, a file system that cannot
// allocate ahead makes it longer without room. Returns  0 or -errno.
int lt_os_room(struct lt_os *os, int fd, int64_t at, int64_t n, bool stored);

#endif
