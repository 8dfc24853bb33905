/* SPDX-License-Identifier: MIT */
// machine: what the figures were measured on; ./dev bench prints it first. The disk's own sync
// latency is that of 4 KiB written over bytes that are there already, and fdatasync: nothing that
// waits for this disk can be faster.
#include "histogram.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { SYNCS = 200, BLOCK = 4096 };

static void print_cpu(void) {
    char line[512], model[256] = "unknown";
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %255[^\n]", model) == 1 ||
            sscanf(line, "Model : %255[^\n]", model) == 1) // arm
            break;
    if (f)
        (void)fclose(f);
    cpu_set_t may;
    need(sched_getaffinity(0, sizeof may, &may) == 0, "sched_getaffinity");
    printf("cpu       %s, %d cores\n", model, CPU_COUNT(&may));
    double bytes = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    printf("memory    %.1f GiB\n", bytes / (1 << 30));
}

static void print_software(void) {
    struct utsname u;
    char libc[128] = "unknown";
    need(uname(&u) == 0, "uname");
#ifdef _CS_GNU_LIBC_VERSION
    (void)confstr(_CS_GNU_LIBC_VERSION, libc, sizeof libc);
#endif
#ifdef __clang__
    const char *compiler = ""; // __VERSION__ has its name
#else
    const char *compiler = "gcc ";
#endif
    printf("kernel    %s %s, %s\n", u.sysname, u.release, u.machine);
    printf("libc      %s\n", libc);
    printf("compiler  %s%s, %s\n", compiler, __VERSION__, FLAGS);
    unsigned v = leat_version();
    printf("leat      %u.%u.%u\n", v / 10000, v / 100 % 100, v % 100);
}

static const char *file_system(const char *dir, char other[32]) {
    static const struct {
        unsigned long magic;
        const char *name;
    } known[] = {
        { EXT4_SUPER_MAGIC, "ext4" },
        { 0x58465342, "xfs" },
        { BTRFS_SUPER_MAGIC, "btrfs" },
        { TMPFS_MAGIC, "tmpfs: memory, not a disk" },
        { OVERLAYFS_SUPER_MAGIC, "overlay" },
        { F2FS_SUPER_MAGIC, "f2fs" },
        { 0x2fc12fc1, "zfs" },
        { NFS_SUPER_MAGIC, "nfs" },
        { V9FS_MAGIC, "9p" },
        { 0x65735546, "fuse" },
        { 0xca451a4e, "bcachefs" },
    };
    struct statfs fs;
    need(statfs(dir, &fs) == 0, dir);
    unsigned long magic = (unsigned long)fs.f_type & 0xffffffffu;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].magic == magic)
            return known[i].name;
    (void)snprintf(other, 32, "0x%lx", magic);
    return other;
}

static void print_disk(const char *dir) {
    static unsigned char block[BLOCK];
    struct histogram latency = { 0 };
    char path[4096], other[32];
    printf("disk      %s\n", file_system(dir, other));
    int length = snprintf(path, sizeof path, "%s/leat-machine-XXXXXX", dir);
    if (length < 0 || (size_t)length >= sizeof path)
        fail("%s: too long", dir);
    int fd = mkstemp(path);
    need(fd >= 0, path);
    need(unlink(path) == 0, "unlink");
    for (int i = 0; i < SYNCS; i++)
        need(pwrite(fd, block, BLOCK, i * BLOCK) == BLOCK, "pwrite");
    need(fsync(fd) == 0, "fsync");
    memset(block, 'x', BLOCK);
    for (int i = 0; i < SYNCS; i++) {
        uint64_t begin = now_ns();
        need(pwrite(fd, block, BLOCK, i * BLOCK) == BLOCK, "pwrite");
        need(fdatasync(fd) == 0, "fdatasync");
        histogram_add(&latency, now_ns() - begin);
    }
    (void)close(fd);
    printf("its sync  %.0f us p50, %.0f us p99, %.0f us max (4 KiB written over, fdatasync)\n",
           histogram_us(&latency, 0.5), histogram_us(&latency, 0.99), (double)latency.max / 1e3);
}

int main(int argc, char **argv) {
    const char *dir = ".";
    if (argc == 3 && strcmp(argv[1], "--dir") == 0)
        dir = argv[2];
    else if (argc != 1) {
        (void)fprintf(stderr, "usage: %s [--dir DIRECTORY]\n", argv[0]);
        return 2;
    }
    print_cpu();
    print_software();
    print_disk(dir);
    return fflush(stdout) == 0 ? 0 : 1;
}
