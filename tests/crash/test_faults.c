/* SPDX-License-Identifier: MIT */
// Every system call and every allocation fails in turn, once and from then on, while one piece of
// work goes through all rooms: open, send, poll, commit, seek, receive, settle, expire, die,
// publish, delete, close, reopen. After each run: every call said the right thing or an error that
// fits; nothing crashed, hung or leaked; what was acknowledged is there and what certainly failed
// is not; and the store opens again and works. LEAT_FAULT_ONLY=N runs case N of each family alone.
#include <criterion/criterion.h>

#include "lib/faults_work.h"
#include "lib/scratch.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define FAULTS_STEP 9 // under ThreadSanitizer every ninth case
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FAULTS_STEP 9
#endif
#endif
#ifndef FAULTS_STEP
#define FAULTS_STEP 1
#endif

enum { FAULTS_CASES_MAX = 20000 };

static struct oracle world; // large

// ---- the enumeration

static int faults_open_files(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        (void)closedir(d);
    return n;
}

// A directory of our own, where it costs least.
static void faults_place(char out[200]) {
    struct statfs fs;
    const char *base = getenv("TMPDIR");
    if (statfs("/dev/shm", &fs) == 0 && fs.f_type == 0x01021994 && access("/dev/shm", W_OK) == 0)
        base = "/dev/shm";
    (void)snprintf(out, 200, "%s/leat-faults-XXXXXX", base && base[0] ? base : "/tmp");
    cr_assert_not_null(mkdtemp(out), "%s", out);
}

struct family {
    const char *name;
    struct faulty_plan plan; // all but .at
    bool mem, memory, sticky, lives;
    int32_t write;
};

static void faults_begin_case(struct oracle *o, const struct family *f, long k) {
    o->family = f->name;
    o->memory = f->memory;
    o->write = f->write;
    o->sticky = f->mem ? f->sticky : f->plan.sticky;
    o->lives = f->lives || f->memory;
    o->mem_fault = f->mem;
    o->mq = NULL;
    o->wall_ms = 0;
    o->calm = o->came = false;
    o->at = k;
    o->count = o->blind = 0;
    memset(o->committed, 0, sizeof o->committed);
    o->log_made = o->gone_made = o->queue_made = SENT_MAYBE;
    o->gone_deleted = false;
    o->after_delete = -1;
    failing_mem_init(&o->mem, f->mem ? k : 0);
    o->mem.then_all = f->sticky;
    struct faulty_plan plan = f->plan;
    plan.at = f->mem ? 0 : k;
    faulty_os_plan(&o->os, &plan);
    o->os.errors = 0;
    o->os.faults = o->os.misuse = o->os.second_syncs = 0;
    o->os.fault_ops = 0;
    o->os.fault[0] = o->os.misused[0] = o->os.second_sync[0] = '\0';
}

static void faults_family(const struct family *f) {
    struct oracle *o = &world;
    char place[200];
    const char *only = getenv("LEAT_FAULT_ONLY");
    long first = only ? strtol(only, NULL, 10) : 1, step = FAULTS_STEP, cases = 0;
    faults_place(place);
    (void)snprintf(o->dir, sizeof o->dir, "%s/store", place);
    faulty_os_init(&o->os);
    o->complaints = 0;
    int files = faults_open_files();
    for (long k = first; k < FAULTS_CASES_MAX; k += step) {
        faults_begin_case(o, f, k);
        faults_run(o);
        scratch_remove(o->dir);
        if (faults_open_files() != files)
            oracle_complain(o, "%d files were open, now %d", files, faults_open_files());
        if (!o->came || only)
            break;
        cases++;
    }
    faulty_os_fini(&o->os);
    (void)rmdir(place);
    printf("fault_cases=%ld %s\n", cases, f->name);
    (void)fflush(stdout);
    cr_assert_eq(o->complaints, 0, "%s: %ld complaints", f->name, o->complaints);
    cr_assert(cases > 0 || only, "%s: no call failed", f->name);
}

#define FAULTS_ALL(list)                                                                           \
    for (size_t i = 0; i < sizeof(list) / sizeof(list)[0]; i++)                                    \
    faults_family(&(list)[i])

#define MAPPED LEAT_WRITE_MAPPED
#define PWRITE LEAT_WRITE_PWRITE

Test(faults, each_system_call_fails_once) {
    static const struct family list[] = {
        { .name = "os, once, mapped", .write = MAPPED },
        { .name = "os, once, pwrite", .write = PWRITE },
        { .name = "os, once, mapped, goes on",
          .plan = { .variant = 1 },
          .lives = true,
          .write = MAPPED },
        { .name = "os, once, pwrite, goes on",
          .plan = { .variant = 1 },
          .lives = true,
          .write = PWRITE },
        { .name = "os, once, mapped, third errors", .plan = { .variant = 2 }, .write = MAPPED },
    };
    FAULTS_ALL(list);
}

Test(faults, each_system_call_fails_from_then_on) {
    static const struct family list[] = {
        { .name = "os, sticky, mapped", .plan = { .sticky = true }, .write = MAPPED },
        { .name = "os, sticky, pwrite", .plan = { .sticky = true }, .write = PWRITE },
        { .name = "os, sticky, mapped, goes on",
          .plan = { .sticky = true, .variant = 1 },
          .lives = true,
          .write = MAPPED },
        { .name = "os, sticky, pwrite, goes on",
          .plan = { .sticky = true, .variant = 1 },
          .lives = true,
          .write = PWRITE },
    };
    FAULTS_ALL(list);
}

// The disk is full: only what needs room fails, and it stays so.
Test(faults, the_disk_is_full_and_then_is_not) {
    enum {
        ROOM = FAULTY_BIT(FAULTY_PWRITE) | FAULTY_BIT(FAULTY_ALLOCATE) | FAULTY_BIT(FAULTY_MKDIR) |
               FAULTY_BIT(FAULTY_TRUNCATE),
        LOSES = FAULTY_BIT(FAULTY_SYNC) | FAULTY_BIT(FAULTY_TRUNCATE),
        ALL = FAULTY_BIT(FAULTY_OPS) - 1
    };
    static const struct family list[] = {
        { .name = "full, mapped",
          .plan = { .sticky = true, .ops = ROOM, .error = ENOSPC },
          .lives = true,
          .write = MAPPED },
        { .name = "full, pwrite",
          .plan = { .sticky = true, .ops = ROOM, .error = ENOSPC },
          .lives = true,
          .write = PWRITE },
        { .name = "all but syncs, mapped",
          .plan = { .sticky = true, .ops = ALL - LOSES },
          .lives = true,
          .write = MAPPED },
        { .name = "all but syncs, pwrite",
          .plan = { .sticky = true, .ops = ALL - LOSES },
          .lives = true,
          .write = PWRITE },
        { .name = "torn, mapped", .plan = { .how = FAULTY_TORN, .ops = ROOM }, .write = MAPPED },
        { .name = "torn, pwrite", .plan = { .how = FAULTY_TORN, .ops = ROOM }, .write = PWRITE },
        { .name = "torn and full, pwrite",
          .plan = { .how = FAULTY_TORN, .sticky = true, .ops = ROOM },
          .lives = true,
          .write = PWRITE },
    };
    FAULTS_ALL(list);
}

// A sync that has failed is never tried again: what it lost may be marked clean.
Test(faults, a_failed_sync_poisons) {
    static const struct family list[] = {
        { .name = "sync, once",
          .plan = { .ops = FAULTY_BIT(FAULTY_SYNC) },
          .lives = true,
          .write = MAPPED },
        { .name = "sync, once, ENOSPC",
          .plan = { .ops = FAULTY_BIT(FAULTY_SYNC), .variant = 1 },
          .write = PWRITE },
        { .name = "sync, sticky",
          .plan = { .ops = FAULTY_BIT(FAULTY_SYNC), .sticky = true },
          .lives = true,
          .write = MAPPED },
    };
    FAULTS_ALL(list);
}

Test(faults, short_and_interrupted_calls_are_invisible) {
    enum { RW = FAULTY_BIT(FAULTY_PREAD) | FAULTY_BIT(FAULTY_PWRITE) };
    static const struct family list[] = {
        { .name = "short, pwrite", .plan = { .how = FAULTY_SHORT, .ops = RW }, .write = PWRITE },
        { .name = "all short, pwrite",
          .plan = { .how = FAULTY_SHORT, .ops = RW, .sticky = true },
          .write = PWRITE },
        { .name = "interrupted, pwrite",
          .plan = { .how = FAULTY_EINTR, .ops = RW },
          .write = PWRITE },
        { .name = "all interrupted, mapped",
          .plan = { .how = FAULTY_EINTR, .ops = RW, .sticky = true },
          .write = MAPPED },
    };
    FAULTS_ALL(list);
}

Test(faults, each_allocation_fails_once) {
    static const struct family list[] = {
        { .name = "memory, once, mapped", .mem = true, .write = MAPPED },
        { .name = "memory, once, pwrite", .mem = true, .write = PWRITE },
        { .name = "memory, once, in memory", .mem = true, .memory = true },
        { .name = "memory, once, mapped, goes on", .mem = true, .lives = true, .write = MAPPED },
    };
    FAULTS_ALL(list);
}

Test(faults, each_allocation_fails_from_then_on) {
    static const struct family list[] = {
        { .name = "memory, sticky, mapped", .mem = true, .sticky = true, .write = MAPPED },
        { .name = "memory, sticky, pwrite", .mem = true, .sticky = true, .write = PWRITE },
        { .name = "memory, sticky, in memory", .mem = true, .sticky = true, .memory = true },
        { .name = "memory, sticky, pwrite, goes on",
          .mem = true,
          .sticky = true,
          .lives = true,
          .write = PWRITE },
    };
    FAULTS_ALL(list);
}

// A process that is killed leaves its last notes unsynced. The next one must sync them before it
// says that a record is on the disk, or a power cut could take the topic from under the record.
Test(faults, notes_of_a_killed_process_are_synced_before_a_disk_ack) {
    struct faulty_os *os = &world.os;
    char place[200], first[256], copy[256];
    leat_options o = { .threads = LEAT_NO_THREADS, .seed = 7 };
    leat_producer_options fast = { .acks = LEAT_ACKS_LOG };
    leat_record r = { .value = LEAT_STR("x") };
    leat *mq, *next;
    leat_topic *t;
    leat_producer *p;
    faults_place(place);
    faulty_os_init(os);
    (void)snprintf(first, sizeof first, "%s/first", place);
    ok(leat_open(first, &o, &mq));
    ok(leat_producer_open(mq, &fast, &p));
    ok(leat_topic_open(mq, "early", NULL, &t)); // draws ids and uids, which syncs the manifest
    ok(leat_send(p, t, &r, NULL));
    ok(leat_topic_open(mq, "late", NULL, &t)); // needs none
    ok(leat_send(p, t, &r, NULL));
    bool synced = false;
    for (long k = 1; k < 9; k++) {
        (void)snprintf(copy, sizeof copy, "%s/copy%ld", place, k);
        scratch_copy(first, copy); // as kill -9 would leave it
        faulty_os_reborn(os);
        faulty_os_plan(os, &(struct faulty_plan){ .at = k, .ops = FAULTY_BIT(FAULTY_SYNC) });
        bool opened = lt_store_open(copy, &o, &os->os, &next) == 0;
        if (opened) {
            ok(leat_topic_open(next, "late", NULL, &t));
            ok(leat_producer_open(next, NULL, &p));
            (void)leat_send(p, t, &r, NULL);
        }
        synced |= strcmp(os->lost_path, "manifest") == 0;
        faulty_os_plan(os, NULL);
        if (opened)
            (void)leat_close_all(next, 0);
    }
    cr_assert(synced, "the send was acknowledged without a sync of the manifest");
    ok(leat_close_all(mq, 0));
    scratch_remove(place);
    faulty_os_fini(os);
}

// The file of a segment that could not be begun, and not be removed: what is sent next must not go
// into the segment in front of it, beyond its base, or an open would find it missing there.
Test(faults, no_record_goes_past_a_segment_file_that_could_not_be_removed) {
    struct faulty_os *os = &world.os;
    char place[200], dir[256];
    static char big[20000];
    leat_options o = { .threads = LEAT_NO_THREADS, .seed = 7 };
    leat_producer_options fast = { .acks = LEAT_ACKS_LOG };
    leat_topic_options small = { .segment_bytes = 16384 };
    leat_record r = { .value = LEAT_STR("x") }, large = { .value = { big, sizeof big } };
    faults_place(place);
    (void)snprintf(dir, sizeof dir, "%s/store", place);
    for (int32_t write = LEAT_WRITE_MAPPED; write <= LEAT_WRITE_PWRITE; write++) {
        leat *mq;
        leat_topic *t;
        leat_producer *p;
        leat_range range;
        int64_t stored = 1;
        faulty_os_init(os);
        o.write = write;
        ok(lt_store_open(dir, &o, &os->os, &mq));
        ok(leat_topic_open(mq, "t", &small, &t));
        ok(leat_producer_open(mq, &fast, &p));
        ok(leat_send(p, t, &r, NULL));
        faulty_os_plan(os, &(struct faulty_plan){ .at = 1,
                                                  .sticky = true,
                                                  .ops = FAULTY_BIT(FAULTY_ALLOCATE) |
                                                         FAULTY_BIT(FAULTY_PWRITE) |
                                                         FAULTY_BIT(FAULTY_UNLINK) });
        cr_assert_lt(leat_send(p, t, &large, NULL), 0);
        for (int i = 0; i < 3; i++)
            stored += leat_send(p, t, &r, NULL) == 0;
        faulty_os_plan(os, NULL);
        for (int i = 0; i < 3; i++, stored++)
            ok(leat_send(p, t, i == 1 ? &large : &r, NULL));
        ok(leat_close_all(mq, 0));
        ok(lt_store_open(dir, &o, &os->os, &mq));
        ok(leat_topic_open(mq, "t", &small, &t));
        ok(leat_topic_range(t, 0, &range));
        cr_assert_eq(range.end, stored);
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
        faulty_os_fini(os);
    }
    (void)rmdir(place);
}
