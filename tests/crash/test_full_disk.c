/* SPDX-License-Identifier: MIT */
// Full disks, real ones: a tmpfs of 4 MiB, and as root ext4, xfs and btrfs in a file. A store sends
// until LEAT_ENOSPC, in both write modes where the file system writes in place, at LOG and DISK.
// Then readers go on, commits and settling go on or are LEAT_ENOSPC; space that is freed by
// somebody else, or by leat_topic_delete_records, lets the same store send again; and after a
// reopen everything that was acknowledged is there. No SIGBUS.
//
// Each file system is mounted in a namespace of a process of its own: however that ends, nothing
// stays mounted and no loop device attached. What cannot be mounted or made here is said; where
// nothing can be the test is skipped. test_full_disk [tmpfs|ext4|xfs|btrfs]: only that one.
#include "leat.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PARTS = 2, VALUE = 1000, SENDS_MAX = 20000, HALF_MEGABYTE = 1 << 19, SKIPPED = 77 };

struct disk {
    const char *name;
    int megabytes, leave, spare; // leave, spare: in half megabytes, before it is used; freed later
    const char *make;            // the program that makes one, with its options
    bool in_place;
};

static const struct disk disks[] = {
    { "tmpfs", 4, 5, 2, NULL, true },
    { "ext4", 16, 5, 2, "mkfs.ext4 -q -F", true },
    { "xfs", 300, 5, 2, "mkfs.xfs -q -f", true },
    { "btrfs", 128, 20, 8, "mkfs.btrfs -q -f -M", false },
};

static char root[64]; // the mount's directory, and the image, stand in it
static char place[96], image[96], dir[128], filler[128], spare[128];
static char what[128];
static bool is_root; // before any namespace

static struct {
    leat *mq;
    leat_topic *t;
    leat_producer *p;
    leat_consumer *c;
    leat_queue *q;
    int64_t end[PARTS], begin[PARTS], committed[PARTS];
    bool acked[PARTS][SENDS_MAX];
    int64_t sent;
} s;

__attribute__((format(printf, 1, 2))) static _Noreturn void bad(const char *format, ...) {
    va_list list;
    (void)printf("FAILED: %s: ", what);
    va_start(list, format);
    (void)vprintf(format, list);
    va_end(list);
    (void)printf("\n");
    (void)fflush(stdout);
    _exit(1);
}

static void must(const char *call, int rc) {
    if (rc < 0)
        bad("%s is %s: %s", call, leat_errname(rc), leat_errmsg());
}

// Returns whether a call did what it is to do; LEAT_ENOSPC is the only way not to.
static bool did(const char *call, int rc) {
    if (rc != LEAT_ENOSPC)
        must(call, rc);
    return rc >= 0;
}

// ---- the disk

static void fill_to(int64_t leave) {
    struct statvfs st;
    int fd = open(filler, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        bad("open of the filler: %s", strerror(errno));
    off_t at = lseek(fd, 0, SEEK_END);
    for (off_t step = 64 << 20; step >= 4096;) {
        if (statvfs(place, &st) != 0)
            bad("statvfs: %s", strerror(errno));
        int64_t room = (int64_t)(st.f_bavail * st.f_frsize) - leave;
        if (room < step || posix_fallocate(fd, at, step) != 0)
            step /= 2;
        else
            at += step;
    }
    (void)close(fd);
}

// A file of its own, to be deleted: btrfs does not give back a part of what was allocated at once.
static void make_spare(off_t size) {
    int fd = open(spare, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, size) != 0)
        bad("making the file to delete");
    (void)close(fd);
}

// Waits until what was freed is there: btrfs gives it back when it commits, xfs when it comes to
// it.
static void settle_disk(int64_t room) {
    int fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    time_t last = time(NULL) + 2;
    for (bool there = false; !there;) {
        struct statvfs st;
        if (fd < 0 || syncfs(fd) != 0 || fstatvfs(fd, &st) != 0)
            bad("syncfs: %s", strerror(errno));
        there = (int64_t)(st.f_bavail * st.f_frsize) >= room || time(NULL) > last;
        (void)sched_yield();
    }
    (void)close(fd);
}

// ---- the store

static void text_of(char text[VALUE], int part, int64_t offset) {
    memset(text, 'a' + (int)(offset % 26), VALUE);
    int n = snprintf(text, VALUE, "%d:%lld", part, (long long)offset);
    text[n] = ' ';
}

static bool right(const leat_message *m) {
    char text[VALUE];
    text_of(text, m->partition, m->offset);
    return m->value.size == VALUE && memcmp(m->value.data, text, VALUE) == 0;
}

static int send_one(void) {
    int part = (int)(s.sent % PARTS);
    char text[VALUE];
    text_of(text, part, s.end[part]);
    leat_record r = { .value = { text, VALUE }, .to_partition = LEAT_PARTITION(part) };
    leat_metadata md;
    int rc = leat_send(s.p, s.t, &r, &md);
    if (rc != 0)
        return rc;
    if (md.offset != s.end[part])
        bad("offset %lld, not %lld", (long long)md.offset, (long long)s.end[part]);
    s.end[part]++;
    s.sent++;
    return 0;
}

static void send_until_full(void) {
    int64_t from = s.sent;
    while (did("send", send_one()))
        if (s.sent >= SENDS_MAX)
            bad("the disk is never full");
    if (s.sent < from + 20)
        bad("full after %lld records", (long long)(s.sent - from));
}

static void send_n(int n) {
    for (int i = 0; i < n; i++)
        must("send", send_one());
}

static void open_store(int32_t write, int32_t acks) {
    leat_options o = { .write = write };
    leat_topic_options t = { .partitions = PARTS, .segment_bytes = 256 * 1024 };
    leat_producer_options p = { .acks = acks };
    must("open", leat_open(dir, &o, &s.mq));
    must("topic", leat_topic_open(s.mq, "t", &t, &s.t));
    must("producer", leat_producer_open(s.mq, &p, &s.p));
    must("consumer", leat_consumer_open(s.mq, "g", NULL, &s.c));
    must("subscribe", leat_consumer_subscribe(s.c, "t"));
    must("queue", leat_queue_open(s.mq, "q", &(leat_queue_options){ .topic = "t" }, &s.q));
}

// Everything that was acknowledged is there, in order, and nothing else.
static void read_all(void) {
    for (int part = 0; part < PARTS; part++) {
        leat_consumer *c;
        const leat_message *m;
        leat_position at = { .topic = "t", .offset = LEAT_BEGIN, .partition = part };
        int64_t next = s.begin[part];
        int n;
        must("consumer", leat_consumer_open(s.mq, NULL, NULL, &c));
        must("assign", leat_consumer_assign(c, &at, 1));
        while ((n = leat_poll(c, 0, &m)) > 0)
            for (int i = 0; i < n; i++, next++)
                if (m[i].offset != next || !right(&m[i]))
                    bad("%d:%lld is there for %lld", part, (long long)m[i].offset, (long long)next);
        must("poll", n);
        if (next != s.end[part])
            bad("%d is read to %lld, not %lld", part, (long long)next, (long long)s.end[part]);
        must("consumer close", leat_consumer_close(c));
    }
}

// The group and the queue go on, or say why not.
static void go_on(void) {
    const leat_message *m;
    leat_position at[PARTS];
    leat_message got[20];
    int n = leat_poll(s.c, 0, &m);
    must("poll", n);
    if (did("commit", leat_commit(s.c))) {
        n = leat_consumer_positions(s.c, 1, at, PARTS);
        for (int i = 0; i < n; i++)
            s.committed[at[i].partition] = at[i].offset;
    }
    n = leat_queue_receive(s.q, 0, got, 20);
    if (!did("receive", n))
        return;
    for (int i = 0; i < n; i++) {
        if (!right(&got[i]) || s.acked[got[i].partition][got[i].offset])
            bad("the queue gives %d:%lld", got[i].partition, (long long)got[i].offset);
        if (i % 3 == 0)
            (void)did("nack", leat_queue_nack(s.q, &got[i], 0, 0));
        else
            s.acked[got[i].partition][got[i].offset] = did("ack", leat_queue_ack(s.q, &got[i]));
    }
}

static void check_again(void) {
    leat_lag lag[PARTS];
    leat_message got[20];
    read_all();
    int n = leat_group_lag(s.mq, "g", lag, PARTS, sizeof lag[0]);
    must("lag", n);
    for (int i = 0; i < n; i++)
        if (lag[i].committed != s.committed[lag[i].partition])
            bad("%d is committed at %lld, not %lld", lag[i].partition, (long long)lag[i].committed,
                (long long)s.committed[lag[i].partition]);
    while ((n = leat_queue_receive(s.q, 0, got, 20)) > 0)
        for (int i = 0; i < n; i++) {
            if (!right(&got[i]) || s.acked[got[i].partition][got[i].offset])
                bad("the queue gives %d:%lld again", got[i].partition, (long long)got[i].offset);
            must("release", leat_message_release(s.mq, &got[i]));
        }
    if (n != LEAT_ENOSPC) // counting a delivery takes room where words are not allocated ahead
        must("receive", n);
}

static void reopen(int32_t write, int32_t acks) {
    must("close", leat_close_all(s.mq, 0));
    open_store(write, acks);
    check_again();
}

static void run_one(const struct disk *d, int32_t write, int32_t acks) {
    memset(&s, 0, sizeof s);
    for (int i = 0; i < PARTS; i++)
        s.committed[i] = -1;
    make_spare((off_t)d->spare * HALF_MEGABYTE);
    fill_to((int64_t)d->leave * HALF_MEGABYTE);
    open_store(write, acks);
    send_n(200);
    go_on();
    send_until_full();
    for (int i = 0; i < 5; i++)
        go_on();
    for (int i = 0; i < 20; i++)
        (void)did("send", send_one());
    read_all();
    fill_to(0); // the last bytes, too
    go_on();
    must("sync", leat_sync(s.mq));
    read_all();

    if (unlink(spare) != 0) // somebody deletes something
        bad("unlink: %s", strerror(errno));
    settle_disk((int64_t)d->spare * HALF_MEGABYTE / 2);
    send_n(100);
    go_on();
    send_until_full();
    reopen(write, acks); // as full as it is

    int64_t half = s.end[0] / 2;
    must("delete", leat_topic_delete_records(s.t, 0, half));
    s.begin[0] = half;
    if (s.committed[0] < half && s.committed[0] >= 0)
        go_on();
    settle_disk(HALF_MEGABYTE / 4);
    send_n(100);
    go_on();
    read_all();
    reopen(write, acks);
    must("close", leat_close_all(s.mq, 0));
}

// ---- mounting

static bool skip(const struct disk *d, const char *why) {
    (void)printf("skipped: %s: %s\n", d->name, why);
    (void)fflush(stdout);
    return false;
}

static bool say_in(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        (void)close(fd);
    return ok;
}

// A namespace of mounts, as root or as one who is root in a namespace of users.
static bool own_namespace(void) {
    if (geteuid() == 0) {
        if (unshare(CLONE_NEWNS) != 0)
            return false;
    } else {
        char text[64];
        uid_t uid = geteuid();
        gid_t gid = getegid();
        if (unshare(CLONE_NEWNS | CLONE_NEWUSER) != 0)
            return false;
        (void)snprintf(text, sizeof text, "0 %u 1", (unsigned)uid);
        if (!say_in("/proc/self/uid_map", text) || !say_in("/proc/self/setgroups", "deny"))
            return false;
        (void)snprintf(text, sizeof text, "0 %u 1", (unsigned)gid);
        if (!say_in("/proc/self/gid_map", text))
            return false;
    }
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static bool mount_it(const struct disk *d) {
    char command[512];
    if (!d->make) {
        (void)snprintf(command, sizeof command, "size=%dm,mode=0700", d->megabytes);
        return mount("leat", place, "tmpfs", 0, command) == 0 || skip(d, strerror(errno));
    }
    if (!is_root)
        return skip(d, "only root can mount it");
    int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)d->megabytes << 20) != 0)
        bad("making an image: %s", strerror(errno));
    (void)close(fd);
    (void)snprintf(command, sizeof command, "PATH=$PATH:/sbin:/usr/sbin %s %s >%s.said 2>&1",
                   d->make, image, image);
    if (system(command) != 0)
        return skip(d, "it cannot be made here");
    (void)snprintf(command, sizeof command,
                   "PATH=$PATH:/sbin:/usr/sbin mount -t %s -o loop %s %s >%s.said 2>&1", d->name,
                   image, place, image);
    return system(command) == 0 || skip(d, "it cannot be mounted here");
}

static void run_case(const struct disk *d, int32_t write, int32_t acks) {
    (void)snprintf(what, sizeof what, "%s, %s, acks %s", d->name,
                   write == LEAT_WRITE_MAPPED ? "mapped" : "pwrite",
                   acks == LEAT_ACKS_DISK ? "DISK" : "LOG");
    (void)snprintf(dir, sizeof dir, "%s/store", place);
    (void)snprintf(filler, sizeof filler, "%s/filler", place);
    (void)snprintf(spare, sizeof spare, "%s/spare", place);
    run_one(d, write, acks);
    (void)printf("%s: %lld records\n", what, (long long)s.sent);
}

// Returns  0, 1 (failed), or SKIPPED.
static int try_disk(const struct disk *d, int32_t write, int32_t acks) {
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!own_namespace()) {
            (void)skip(d, "no namespace of mounts");
            _exit(SKIPPED);
        }
        if (!mount_it(d))
            _exit(SKIPPED);
        run_case(d, write, acks);
        (void)fflush(stdout);
        _exit(0);
    }
    int status = 1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 1;
    if (!WIFEXITED(status)) {
        (void)printf("FAILED: %s: died of signal %d\n", d->name, WTERMSIG(status));
        return 1;
    }
    return WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    const char *base = getenv("TMPDIR");
    (void)snprintf(root, sizeof root, "%.40s/leat-full-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(root))
        return 1;
    (void)snprintf(place, sizeof place, "%s/mount", root);
    (void)snprintf(image, sizeof image, "%s/image", root);
    if (mkdir(place, 0700) != 0)
        return 1;
    int failed = 0, done = 0;
    is_root = geteuid() == 0;
    for (size_t i = 0; i < sizeof disks / sizeof disks[0]; i++) {
        if (argc > 1 && strcmp(argv[1], disks[i].name) != 0)
            continue;
        int rc = 0; // each time on a new one
        for (int k = disks[i].in_place ? 0 : 2; k < 4 && rc == 0; k++)
            rc = try_disk(&disks[i], k < 2 ? LEAT_WRITE_MAPPED : LEAT_WRITE_PWRITE,
                          k % 2 ? LEAT_ACKS_DISK : LEAT_ACKS_LOG);
        failed += rc != 0 && rc != SKIPPED;
        done += rc == 0;
    }
    char command[512];
    (void)snprintf(command, sizeof command, "rm -rf %s", root);
    int removed = system(command);
    (void)printf("full_disks=%d failed=%d\n", done, failed);
    return failed > 0 || removed != 0 ? 1 : done > 0 ? 0 : SKIPPED;
}
