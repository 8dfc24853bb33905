/* SPDX-License-Identifier: MIT */
// Failures that other stores have had in the field, each as one test of what this one does instead.
#include "leat.h"
#include "leat_test.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VALUE = 104 };

static char root[SCRATCH_PATH], dir[SCRATCH_PATH], copy[SCRATCH_PATH];
static leat *mq;
static leat_topic *t;
static leat_producer *p;
static int warnings;

static void make_root(void) {
    if (access("/dev/shm", W_OK) == 0) { // thousands of opens, each with its syncs
        strcpy(root, "/dev/shm/leat-field-XXXXXX");
        cr_assert_not_null(mkdtemp(root));
    } else {
        scratch_make(root);
    }
    scratch_join(dir, root, "store");
    scratch_join(copy, root, "copy");
}

static void drop_root(void) {
    scratch_remove(root);
}

static void on_log(int level, const char *text, void *ctx) {
    (void)text;
    (void)ctx;
    warnings += level == LEAT_LOG_WARNING;
}

static int open_with(const char *at, uint32_t flags) {
    leat_options o = { .flags = flags, .log = on_log, .seed = 1 };
    warnings = 0;
    return leat_open(at, &o, &mq);
}

static void use(const char *at, uint32_t flags) {
    leat_topic_options o = { .segment_bytes = 16384 };
    ok(open_with(at, flags));
    ok(leat_topic_open(mq, "t", &o, &t));
}

static void done(void) {
    ok(leat_close_all(mq, 0));
}

static void text_of(char text[VALUE], int64_t offset) {
    memset(text, 'a' + (int)(offset % 26), VALUE);
    snprintf(text, VALUE, "record %lld", (long long)offset);
}

static void send_n(int32_t acks, int n) {
    leat_range r;
    char text[VALUE];
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = acks }, &p));
    ok(leat_topic_range(t, 0, &r));
    for (int i = 0; i < n; i++) {
        text_of(text, r.end + i);
        ok(leat_send(p, t, &(leat_record){ .value = { text, VALUE } }, NULL));
    }
    ok(leat_producer_close(p, 0));
}

// Reads from `from`: the records up to `to` and no other; then poll is `end`.
static void reads(int64_t from, int64_t to, int end) {
    leat_consumer *c;
    const leat_message *m;
    char text[VALUE];
    int n;
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    leat_position at = { .topic = "t", .offset = from };
    ok(leat_consumer_assign(c, &at, 1));
    while ((n = leat_poll(c, 0, &m)) > 0)
        for (int i = 0; i < n; i++, from++) {
            text_of(text, from);
            cr_assert_eq(m[i].offset, from);
            cr_assert(m[i].value.size == VALUE && memcmp(m[i].value.data, text, VALUE) == 0,
                      "offset %lld", (long long)from);
        }
    cr_assert_eq(n, end, "poll is %s: %s", leat_errname(n), leat_errmsg());
    cr_assert_eq(from, to, "read to %lld, not to %lld", (long long)from, (long long)to);
    ok(leat_consumer_close(c));
}

static void log_path(char path[SCRATCH_PATH], const char *at, int64_t base) {
    scratch_join(path, at, "1/0/%020lld.log", (long long)base);
}

// The bases of the segments, which are told by the files there are. Returns how many.
static int bases_of(const char *at, int64_t base[64]) {
    int n = 0;
    for (int64_t i = 0; i < 2000 && n < 64; i++) {
        char path[SCRATCH_PATH];
        log_path(path, at, i);
        if (scratch_exists(path))
            base[n++] = i;
    }
    return n;
}

static size_t record_at(int64_t base, int64_t offset) { // all are of one length
    return 4096 + (size_t)(offset - base) * ((32 + VALUE + 1 + 7) / 8 * 8);
}

static void same(char *before, const char *at) {
    char *after = scratch_listing(at);
    cr_assert_str_eq(before, after, "nothing is changed");
    free(before);
    free(after);
}

// As kill -9 leaves it: on disk below `synced`, the rest at LOG.
static void make_killed(int synced, int all) {
    scratch_remove(dir);
    use(dir, 0);
    send_n(LEAT_ACKS_DISK, synced);
    send_n(LEAT_ACKS_LOG, all - synced);
    scratch_remove(copy);
    scratch_copy(dir, copy);
    done();
    scratch_remove(dir);
    scratch_copy(copy, dir);
}

// beanstalkd #546: killed while it made a file ahead, "unknown version: 0", never opened again.
Test(field, a_zero_header_in_the_last_segment_never_existed_and_elsewhere_is_damage,
     .init = make_root, .fini = drop_root) {
    static unsigned char zeros[16384];
    char path[SCRATCH_PATH];
    int64_t base[64];
    use(dir, 0);
    send_n(LEAT_ACKS_DISK, 250);
    done();
    int n = bases_of(dir, base);
    cr_assert_geq(n, 3);
    scratch_copy(dir, copy);
    log_path(path, dir, 250);
    scratch_write(path, zeros, sizeof zeros);
    use(dir, 0);
    reads(0, 250, 0);
    send_n(LEAT_ACKS_DISK, 100);
    done();
    use(dir, 0);
    reads(0, 350, 0);
    done();
    for (int i = 0; i < n; i++) {
        scratch_remove(dir);
        scratch_copy(copy, dir);
        log_path(path, dir, base[i]);
        scratch_poke(path, 0, zeros, 4096);
        char *before = scratch_listing(dir);
        fails_saying(LEAT_ECORRUPT, "damaged or missing", open_with(dir, 0));
        same(before, dir);
    }
}

// pebble #107, doltlite #1349: what zeros and then bytes mean is told by evidence, not by the
// zeros.
Test(field, zeros_and_then_bytes_are_cut_above_what_is_proved_and_damage_below, .init = make_root,
     .fini = drop_root) {
    static const unsigned char zeros[VALUE + 40];
    char path[SCRATCH_PATH];
    log_path(path, dir, 0);
    for (int64_t bad = 25; bad < 40; bad++) {
        make_killed(30, 40);
        scratch_poke(path, record_at(0, bad), zeros, record_at(0, 1) - 4096);
        if (bad < 30) {
            char *before = scratch_listing(dir);
            fails_saying(LEAT_ECORRUPT, "damaged", open_with(dir, 0));
            same(before, dir);
            continue;
        }
        use(dir, 0);
        reads(0, bad, 0);
        cr_assert_eq(warnings, bad < 39, "a cut is told, offset %lld", (long long)bad);
        send_n(LEAT_ACKS_DISK, 20);
        reads(0, bad + 20, 0);
        done();
        use(dir, 0);
        reads(0, bad + 20, 0);
        done();
    }
}

// memgraph #4528: a prefix is sound for the last file only, and only where it was not finished.
Test(field, a_finished_segment_is_never_truncated_and_the_unfinished_last_one_is, .init = make_root,
     .fini = drop_root) {
    static const unsigned char rubbish[] = "????????????????????????????????";
    char path[SCRATCH_PATH];
    int64_t base[64];
    size_t size, is;
    make_killed(200, 220);
    int n = bases_of(dir, base);
    cr_assert(n >= 3 && base[n - 1] < 210, "%d segments", n);
    log_path(path, dir, base[0]);
    scratch_poke(path, record_at(0, 7) + 40, rubbish, 16);
    free(scratch_read(path, &size));
    use(dir, 0);
    reads(0, 7, LEAT_ECORRUPT);
    reads(8, 220, 0);
    done();
    free(scratch_read(path, &is));
    cr_assert_eq(is, size);
    log_path(path, dir, base[n - 1]);
    scratch_poke(path, record_at(base[n - 1], 215) + 40, rubbish, 16);
    char *before = scratch_listing(dir); // it was closed: all of it was finished by then
    fails_saying(LEAT_ECORRUPT, "offsets 215 to 215", open_with(dir, 0));
    same(before, dir);
    make_killed(200, 220);
    scratch_poke(path, record_at(base[n - 1], 215) + 40, rubbish, 16);
    use(dir, 0);
    reads(0, 215, 0);
    done();
}

static long long field_blocks;

static int field_count(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)path;
    (void)kind;
    (void)at;
    field_blocks += st->st_blocks;
    return 0;
}

static long long field_bytes(void) {
    field_blocks = 0;
    cr_assert_eq(nftw(dir, field_count, 16, FTW_PHYS), 0);
    return field_blocks * 512;
}

// RocksDB #8099: each crash left what it had allocated ahead, until the disk was full.
Test(field, a_thousand_crashes_leave_no_more_than_a_few, .init = make_root, .fini = drop_root) {
    enum { CRASHES = 1000 };
    char text[VALUE];
    long long few = 0;
    leat *next;
    use(dir, 0);
    for (int i = 0; i < CRASHES; i++) {
        leat_topic_options o = { .segment_bytes = 16384, .retention_records = 100 };
        leat_topic *u;
        ok(leat_topic_open(mq, "kept", &o, &u));
        ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p));
        text_of(text, i);
        for (int k = 0; k < 30; k++) // rolls now and then
            ok(leat_send(p, u, &(leat_record){ .value = { text, VALUE } }, NULL));
        if (i % 3 == 0)
            ok(leat_sync(mq));
        ok(leat_crash(mq, LEAT_KILL, &next));
        ok(leat_close_all(mq, 0));
        mq = next;
        if (i == 50)
            few = field_bytes();
    }
    long long many = field_bytes();
    cr_assert_leq(many, few + 128 * 1024, "%lld bytes after 50 crashes, %lld after %d", few, many,
                  CRASHES);
    done();
}

// NATS #2993: too many open files while it recovered, and it took that for the end of the log.
Test(field, no_descriptor_left_is_an_error_and_not_the_end_of_the_log, .init = make_root,
     .fini = drop_root) {
    struct rlimit was, few;
    bool opened = false;
    int refused = 0;
    make_killed(300, 500);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
    int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    cr_assert_geq(next, 0);
    close(next);
    for (int more = 0; !opened && more < 64; more++) {
        few = was;
        few.rlim_cur = (rlim_t)(next + more);
        char *before = scratch_listing(dir);
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
        int rc = open_with(dir, 0);
        opened = rc == 0;
        if (opened) {
            leat_range r = { 0 };
            int opened_rc = leat_topic_open(mq, "t", NULL, &t);
            opened_rc = opened_rc == 0 ? leat_topic_range(t, 0, &r) : opened_rc;
            cr_assert_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
            cr_assert(opened_rc == 0 && r.end == 500, "%s", leat_errmsg());
            reads(0, 500, 0);
            done();
            free(before);
            break;
        }
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
        cr_assert_neq(rc, LEAT_ECORRUPT, "%d: %s", more, leat_errmsg());
        refused++;
        same(before, dir);
    }
    cr_assert(opened && refused > 3, "refused %d times", refused);
}

// NATS #7556: a damaged file of settings, and the streams were deleted as nobody's.
Test(field, damage_to_the_manifest_never_deletes_data, .init = make_root, .fini = drop_root) {
    static const char *const names[] = { "manifest", "slots" };
    use(dir, 0);
    send_n(LEAT_ACKS_DISK, 250);
    done();
    for (int which = 0; which < 2; which++) {
        char path[SCRATCH_PATH], data[SCRATCH_PATH];
        size_t size;
        scratch_join(path, dir, "%s", names[which]);
        scratch_join(data, dir, "1");
        unsigned char *whole = scratch_read(path, &size);
        char *before = scratch_listing(data);
        for (size_t cut = 0; cut <= size; cut += which == 0 ? 5 : 997) {
            scratch_write(path, whole, cut);
            if (cut == size)
                scratch_remove(path);
            for (uint32_t skip = 0; skip <= LEAT_SKIP_ROT; skip += LEAT_SKIP_ROT) {
                if (open_with(dir, skip) == 0)
                    done();
                char *after = scratch_listing(data);
                cr_assert_str_eq(before, after, "%s of %zu bytes", names[which], cut);
                free(after);
            }
        }
        free(before);
        scratch_write(path, whole, size);
        free(whole);
        use(dir, 0);
        reads(0, 250, 0);
        done();
    }
}

// The child's side of the next test. Returns what went wrong, or 0.
static int without_streams(void) {
    char text[VALUE];
    if (close(0) != 0 || close(1) != 0 || close(2) != 0)
        return 1;
    if (leat_open(dir, NULL, &mq) != 0 || leat_topic_open(mq, "t", NULL, &t) != 0 ||
        leat_producer_open(mq, NULL, &p) != 0)
        return 2;
    for (int i = 0; i < 300; i++) {
        text_of(text, i);
        if (leat_send(p, t, &(leat_record){ .value = { text, VALUE } }, NULL) != 0)
            return 3;
        for (int fd = 0; fd < 3; fd++)
            if (write(fd, "assertion failed", 16) != -1 || errno != EBADF)
                return 4;
    }
    return leat_close_all(mq, 0) == 0 ? 0 : 5;
}

// SQLite, "how to corrupt": descriptor 2 was closed and given to the database, then somebody
// printed an error.
Test(field, what_is_printed_to_closed_streams_goes_into_no_file, .init = make_root,
     .fini = drop_root) {
    use(dir, 0);
    done();
    pid_t pid = fork();
    if (pid == 0)
        _exit(without_streams());
    int status = 0;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%d", WEXITSTATUS(status));
    use(dir, 0);
    reads(0, 300, 0);
    done();
}

// A file that somebody put beside the segments, and by its name alone the one before it went.
Test(field, a_stray_file_below_the_log_start_makes_no_segment_go, .init = make_root,
     .fini = drop_root) {
    static const int64_t names[] = { 1, 6, 10 };
    use(dir, 0);
    send_n(LEAT_ACKS_DISK, 200);
    ok(leat_topic_delete_records(t, 0, 10));
    done();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[SCRATCH_PATH];
        log_path(path, dir, names[i]);
        scratch_write(path, "mine", 4);
        char *before = scratch_listing(dir);
        fails(LEAT_ECORRUPT, open_with(dir, 0));
        same(before, dir);
        use(dir, LEAT_SKIP_ROT);
        reads(10, 200, 0);
        done();
        cr_assert(scratch_exists(path));
        scratch_remove(path);
        use(dir, 0);
        reads(10, 200, 0);
        done();
    }
}

enum { A_DIRECTORY, A_FIFO, A_LINK, A_LINK_TO_NOTHING, EMPTY, KINDS };

static void put_there(const char *path, int kind) {
    char elsewhere[SCRATCH_PATH];
    scratch_join(elsewhere, root, kind == A_LINK ? "elsewhere" : "nothing");
    scratch_remove(path);
    if (kind == A_DIRECTORY)
        scratch_mkdir(path);
    else if (kind == A_FIFO)
        cr_assert_eq(mkfifo(path, 0600), 0);
    else if (kind == EMPTY)
        scratch_write(path, "", 0);
    else
        cr_assert_eq(symlink(elsewhere, path), 0);
}

// Nothing but a file of its own is ever used as one, and none of it makes an open wait.
Test(field, what_is_no_file_of_the_store_hangs_nothing_and_is_not_written_to, .init = make_root,
     .fini = drop_root) {
    char elsewhere[SCRATCH_PATH], nothing[SCRATCH_PATH];
    int64_t base[64];
    scratch_join(elsewhere, root, "elsewhere");
    scratch_join(nothing, root, "nothing");
    make_killed(220, 230);
    int n = bases_of(dir, base);
    cr_assert_geq(n, 3);
    char names[12][64] = { "LOCK", "manifest", "manifest.new", "slots", "1", "1/0" };
    snprintf(names[6], 64, "1/0/%020lld.log", (long long)base[0]);
    snprintf(names[7], 64, "1/0/%020lld.idx", (long long)base[0]);
    snprintf(names[8], 64, "1/0/%020lld.log", (long long)base[n - 1]);
    snprintf(names[9], 64, "1/0/%020lld.log", 230LL);
    snprintf(names[10], 64, "1/0/%020lld.log.cut", 230LL);
    snprintf(names[11], 64, "1/0/%020lld.log", 9000LL);
    for (int i = 0; i < 12 * KINDS * 2; i++) {
        char path[SCRATCH_PATH];
        const char *name = names[i / 2 / KINDS];
        uint32_t flags = i % 2 ? LEAT_SKIP_ROT : 0;
        scratch_remove(dir);
        scratch_copy(copy, dir);
        scratch_write(elsewhere, "elsewhere", 9);
        scratch_join(path, dir, "%s", name);
        put_there(path, i / 2 % KINDS);
        int rc = open_with(dir, flags);
        cr_assert(rc == 0 || strstr(leat_errmsg(), dir), "%s: %s", name, leat_errmsg());
        if (rc == 0) {
            leat_topic_options o = { .flags = LEAT_MUST_EXIST };
            ok(leat_topic_open(mq, "t", &o, &t));
            bool whole = i / 2 / KINDS < 4 || i / 2 / KINDS == 7 || i / 2 / KINDS >= 9;
            if (whole)
                reads(0, 230, 0);
            send_n(LEAT_ACKS_LOG, 1);
            done();
        }
        size_t size;
        unsigned char *is = scratch_read(elsewhere, &size);
        cr_assert(size == 9 && memcmp(is, "elsewhere", 9) == 0, "%s was written to", name);
        free(is);
        cr_assert(!scratch_exists(nothing), "%s", name);
    }
}
