/* SPDX-License-Identifier: MIT */
// Appends and syncs when the system or the allocator fails: what an answer says is true, and what
// comes next works.
#include "base/os.h"
#include "leat.h"
#include "lib/place.h"
#include "log/log.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static leat *mq;
static leat_topic *t;
static leat_producer *safe, *quick; // acks DISK, acks LOG
static int32_t mode;

// ---- a system that fails on demand

static struct lt_os os;
static int sync_error, allocate_error, pwrite_error; // 0: works
static int64_t pwrite_some;                          // bytes that a failing pwrite writes
static int syncs, dir_syncs;

static int bad_sync(struct lt_os *self, int fd, bool is_dir) {
    (void)self;
    syncs++;
    dir_syncs += is_dir;
    return sync_error ? -sync_error : lt_os_system()->sync(&os, fd, is_dir);
}
static int bad_allocate(struct lt_os *self, int fd, int64_t at, int64_t n) {
    (void)self;
    return allocate_error ? -allocate_error : lt_os_system()->allocate(&os, fd, at, n);
}
static int64_t bad_pwrite(struct lt_os *self, int fd, const void *buf, size_t n, int64_t at) {
    (void)self;
    if (!pwrite_error)
        return lt_os_system()->pwrite(&os, fd, buf, n, at);
    if (pwrite_some == 0 || n < (size_t)pwrite_some)
        return -pwrite_error;
    int64_t some = pwrite_some;
    pwrite_some = 0;
    return lt_os_system()->pwrite(&os, fd, buf, (size_t)some, at);
}

static void open_with(leat_alloc_fn alloc) {
    leat_options o = { .write = mode, .seed = 1, .alloc = alloc };
    os = *lt_os_system();
    os.sync = bad_sync;
    os.allocate = bad_allocate;
    os.pwrite = bad_pwrite;
    sync_error = allocate_error = pwrite_error = 0;
    ok(lt_store_open(dir, &o, &os, &mq));
}

static void open_store(int32_t partitions) {
    open_with(NULL);
    leat_topic_options o = { .partitions = partitions, .segment_bytes = 16384 };
    ok(leat_topic_open(mq, "t", &o, &t));
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_DISK }, &safe));
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &quick));
}

static void close_store(int code) {
    int rc = leat_close_all(mq, 0);
    cr_assert_eq(rc, code, "close is %s: %s", leat_errname(rc), leat_errmsg());
}

static leat_range range_of(int32_t partition) {
    leat_range r = { 0 };
    ok(leat_topic_range(t, partition, &r));
    return r;
}

static int readable(int32_t partition) {
    leat_consumer *c;
    const leat_message *m;
    int n, all = 0;
    leat_position pos = { .topic = "t", .partition = partition, .offset = LEAT_BEGIN };
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(c, &pos, 1));
    while ((n = leat_poll(c, 0, &m)) > 0)
        all += n;
    cr_assert_eq(n, 0);
    ok(leat_consumer_close(c));
    return all;
}

#define BOTH_MODES for (mode = LEAT_WRITE_MAPPED; mode <= LEAT_WRITE_PWRITE; mode++)

// ---- sync

Test(partition, a_failed_sync_leaves_its_record_unknown_and_poisons_the_partition,
     .init = make_root, .fini = drop_root) {
    static const int errors[] = { EIO, ENOSPC, EDQUOT };
    BOTH_MODES {
        for (int e = 0; e < 3; e++) {
            leat_record r = { .value = LEAT_STR("v"), .to_partition = LEAT_PARTITION(1) };
            leat_metadata md = { 0 };
            open_store(2);
            ok(leat_send(safe, t, &r, NULL));
            sync_error = errors[e];
            fails(LEAT_EIO, leat_send(safe, t, &r, &md)); // never ENOSPC: that says "not stored"
            cr_assert_eq(md.offset, 1, "it says where the record may be");
            cr_assert_eq(md.partition, 1);
            sync_error = 0;
            int before = syncs;
            fails(LEAT_EPOISONED, leat_send(safe, t, &r, &md));
            fails(LEAT_EPOISONED, leat_send(quick, t, &r, &md));
            cr_assert_eq(syncs, before, "never a second sync");
            cr_assert_eq(range_of(1).end, 2);
            cr_assert_eq(range_of(1).durable_end, 1);
            cr_assert_eq(readable(1), 2, "reads go on");
            r.to_partition = LEAT_PARTITION(0);
            ok(leat_send(safe, t, &r, NULL)); // the other partition is well
            close_store(LEAT_EIO);
            open_store(2);
            r.to_partition = LEAT_PARTITION(1);
            ok(leat_send(safe, t, &r, &md)); // opening again clears it
            cr_assert_eq(md.offset, 2);
            close_store(0);
            scratch_remove(dir);
        }
    }
}

Test(partition, a_failed_sync_of_the_manifest_poisons_the_store, .init = make_root,
     .fini = drop_root) {
    BOTH_MODES {
        leat_record r = { .value = LEAT_STR("v") };
        open_store(1);
        ok(leat_send(safe, t, &r, NULL));
        leat_topic *u;
        ok(leat_topic_open(mq, "u", NULL, &u)); // its note is owed a sync
        sync_error = EIO;
        fails(LEAT_EIO, leat_topic_delete(mq, "u")); // nothing but the manifest is synced here
        sync_error = 0;
        fails(LEAT_EPOISONED, leat_send(safe, t, &r, NULL));
        fails(LEAT_EPOISONED, leat_send(quick, t, &r, NULL));
        fails(LEAT_EPOISONED, leat_topic_open(mq, "w", NULL, &u));
        cr_assert_eq(readable(0), 1);
        int rc = leat_close_all(mq, 0);
        cr_assert(rc == LEAT_EIO || rc == LEAT_EPOISONED, "%s", leat_errname(rc));
        open_store(1);
        cr_assert_eq(readable(0), 1);
        ok(leat_send(safe, t, &r, NULL)); // opening again clears it
        close_store(0);
        scratch_remove(dir);
    }
}

Test(partition, a_new_file_has_its_name_made_durable_before_the_answer, .init = make_root,
     .fini = drop_root) {
    static char big[9000];
    BOTH_MODES {
        leat_record r = { .value = { big, sizeof big } };
        open_store(1);
        int before = dir_syncs;
        ok(leat_send(quick, t, &r, NULL));
        cr_assert_eq(dir_syncs, before);
        ok(leat_send(safe, t, &r, NULL)); // another segment: the partition, the topic, the store
        cr_assert_eq(dir_syncs, before + 3);
        r.value.size = 10;
        ok(leat_send(safe, t, &r, NULL));
        cr_assert_eq(dir_syncs, before + 3, "no new file");
        r.value.size = sizeof big;
        ok(leat_send(safe, t, &r, NULL));
        cr_assert_gt(dir_syncs, before + 3);
        cr_assert_eq(range_of(0).durable_end, 4);
        close_store(0);
        scratch_remove(dir);
    }
}

static atomic_int in_sync, most_in_sync;

static int slow_sync(struct lt_os *self, int fd, bool is_dir) {
    (void)self;
    int n = atomic_fetch_add(&in_sync, 1) + 1;
    if (n > atomic_load(&most_in_sync))
        atomic_store(&most_in_sync, n);
    int rc = lt_os_system()->sync(&os, fd, is_dir);
    atomic_fetch_sub(&in_sync, 1);
    return rc;
}

static void *send_safely(void *ctx) {
    for (int i = 0; i < 40; i++)
        *(int *)ctx += leat_send(safe, t, &(leat_record){ .value = LEAT_STR("v") }, NULL) != 0;
    return NULL;
}

Test(partition, one_sync_is_in_flight_whoever_wants_it, .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        pthread_t thread[6];
        int bad[6] = { 0 };
        open_store(1);
        os.sync = slow_sync;
        for (int i = 0; i < 6; i++)
            cr_assert_eq(pthread_create(&thread[i], NULL, send_safely, &bad[i]), 0);
        for (int i = 0; i < 6; i++) {
            cr_assert_eq(pthread_join(thread[i], NULL), 0);
            cr_assert_eq(bad[i], 0);
        }
        cr_assert_eq(atomic_load(&most_in_sync), 1);
        cr_assert_eq(range_of(0).durable_end, 240);
        close_store(0);
        scratch_remove(dir);
    }
}

static void *send_one_safely(void *rc) {
    *(int *)rc = leat_send(safe, t, &(leat_record){ .value = LEAT_STR("v") }, NULL);
    return NULL;
}

// In memory a send waits for no sync, but for one that is in flight: it may be about to fail.
Test(partition, in_memory_too_a_failed_sync_is_that_of_all_who_sent_during_it) {
    pthread_t thread;
    int rc = 1;
    ok(leat_open_memory(NULL, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, NULL, &safe));
    struct lt_partition *p = lt_topic_part(t, 0);
    lt_lock(&p->lock);
    (void)lt_turns_begin(&p->syncs);
    lt_unlock(&p->lock);
    cr_assert_eq(pthread_create(&thread, NULL, send_one_safely, &rc), 0);
    while (atomic_load(&p->end) == 0)
        (void)sched_yield();
    lt_lock(&p->lock);
    lt_turns_end(&p->syncs);
    p->poisoned = true;
    lt_turns_unlock(&p->syncs, &p->lock);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(rc, LEAT_EIO, "%s", leat_errname(rc));
    cr_assert_eq(atomic_load(&p->durable_end), 0);
    (void)leat_close_all(mq, 0);
}

// ---- the log start in its slot

enum { SMALL = 2000 }; // records in several segments

static void send_small(void) {
    open_store(1);
    for (int i = 0; i < SMALL; i++)
        ok(leat_send(quick, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
}

// What a process would find that opens the store now, after a crash: it begins there, and each
// record from there on can be read.
static void crashed_store_begins_at(int64_t begin) {
    char copy[SCRATCH_PATH];
    leat *mine = mq;
    leat_topic *my_topic = t;
    int64_t end = range_of(0).end;
    scratch_join(copy, root, "copy");
    scratch_copy(dir, copy);
    ok(leat_open(copy, &(leat_options){ .write = mode }, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    cr_assert_eq(range_of(0).begin, begin);
    cr_assert_eq(readable(0), (int)(end - begin));
    ok(leat_close_all(mq, 0));
    scratch_remove(copy);
    mq = mine;
    t = my_topic;
}

static bool meddle; // at the next sync of the slots

static bool is_slots(int fd) {
    char path[SCRATCH_PATH];
    struct stat one, other;
    scratch_join(path, dir, "slots");
    return fstat(fd, &one) == 0 && stat(path, &other) == 0 && one.st_ino == other.st_ino;
}

static int meddling_sync(struct lt_os *self, int fd, bool is_dir) {
    if (meddle && is_slots(fd)) {
        meddle = false;
        ok(leat_send(safe, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
    }
    return bad_sync(self, fd, is_dir);
}

Test(partition, a_sync_brings_no_log_start_back_that_a_release_under_way_has_moved,
     .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        send_small();
        os.sync = meddling_sync;
        meddle = true; // while the new log start is made durable, before the files go
        ok(leat_topic_delete_records(t, 0, SMALL - 500));
        cr_assert(!meddle, "there was no sync of the slots");
        cr_assert_eq(range_of(0).durable_end, SMALL + 1, "the other sync stored its durable end");
        crashed_store_begins_at(SMALL - 500);
        ok(leat_send(safe, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
        crashed_store_begins_at(SMALL - 500);
        close_store(0);
        scratch_remove(dir);
    }
}

Test(partition, a_log_start_that_could_not_be_stored_is_in_no_later_store_of_the_slot,
     .init = make_root, .fini = drop_root) {
    mode = LEAT_WRITE_PWRITE; // a mapped slot cannot fail
    send_small();
    ok(leat_send(safe, t, &(leat_record){ .value = LEAT_STR("v") }, NULL)); // it has its slot
    pwrite_error = EIO;
    fails(LEAT_EIO, leat_topic_delete_records(t, 0, SMALL - 500));
    pwrite_error = 0;
    cr_assert_eq(range_of(0).begin, 0);
    ok(leat_send(safe, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
    cr_assert_eq(readable(0), SMALL + 2);
    crashed_store_begins_at(0);
    ok(leat_topic_delete_records(t, 0, SMALL - 500)); // nothing stands in the way
    crashed_store_begins_at(SMALL - 500);
    close_store(0);
}

// ---- room

Test(partition, no_space_is_an_error_before_anything_is_stored, .init = make_root,
     .fini = drop_root) {
    static char big[100000];
    BOTH_MODES {
        leat_record r = { .value = LEAT_STR("v") }, large = { .value = { big, 40000 } };
        leat_metadata md;
        open_store(1);
        allocate_error = pwrite_error = ENOSPC; // the first segment
        fails(LEAT_ENOSPC, leat_send(quick, t, &r, NULL));
        fails(LEAT_ENOSPC, leat_send(safe, t, &r, NULL));
        allocate_error = pwrite_error = 0;
        ok(leat_send(quick, t, &r, &md));
        cr_assert_eq(md.offset, 0);
        for (pwrite_some = 0; pwrite_some < 60; pwrite_some += 20) { // also half a record
            int64_t some = pwrite_some;
            allocate_error = pwrite_error = ENOSPC;
            fails(LEAT_ENOSPC, leat_send(quick, t, &large, NULL));
            large.value.size += 10000; // does not fit into what was made ready
            pwrite_some = some;
            fails(LEAT_ENOSPC, leat_send(quick, t, &large, NULL));
            cr_assert_eq(range_of(0).end, range_of(0).end);
            allocate_error = pwrite_error = 0;
            pwrite_some = some;
        }
        cr_assert_eq(range_of(0).end, 1);
        ok(leat_send(quick, t, &large, &md));
        cr_assert_eq(md.offset, 1);
        ok(leat_send(safe, t, &r, &md));
        cr_assert_eq(md.offset, 2);
        cr_assert_eq(readable(0), 3);
        close_store(0);
        open_store(1);
        cr_assert_eq(readable(0), 3);
        close_store(0);
        scratch_remove(dir);
    }
}

static int allocations_left; // the allocation of a segment file that fails, counted down

static int late_allocate(struct lt_os *self, int fd, int64_t at, int64_t n) {
    (void)self;
    if (allocations_left > 0 && --allocations_left == 0)
        return -ENOSPC;
    return lt_os_system()->allocate(&os, fd, at, n);
}

Test(partition, a_segment_that_got_no_record_makes_way_for_a_larger_one, .init = make_root,
     .fini = drop_root) {
    static char big[300000];
    mode = LEAT_WRITE_MAPPED;
    for (int first = 0; first < 2; first++) { // as the first segment, and behind another
        leat_record r = { .value = LEAT_STR("v") }, large = { .value = { big, 100000 } };
        leat_metadata md;
        open_store(1);
        if (first == 0)
            ok(leat_send(safe, t, &r, NULL));
        os.allocate = late_allocate;
        allocations_left = 2; // the header page has room, the record has not
        fails(LEAT_ENOSPC, leat_send(quick, t, &large, NULL));
        cr_assert_eq(allocations_left, 0);
        large.value.size = 300000;
        ok(leat_send(quick, t, &large, &md));
        cr_assert_eq(md.offset, 1 - first);
        ok(leat_send(quick, t, &r, &md));
        cr_assert_eq(readable(0), 3 - first);
        close_store(0);
        open_store(1);
        cr_assert_eq(readable(0), 3 - first);
        close_store(0);
        scratch_remove(dir);
    }
}

// ---- without a producer

Test(partition, a_record_without_key_and_without_a_sticky_word_goes_somewhere, .init = make_root,
     .fini = drop_root) {
    mode = LEAT_WRITE_MAPPED;
    int used[3] = { 0 };
    open_store(3);
    for (int i = 0; i < 60; i++) {
        leat_record r = { .value = LEAT_STR("v") };
        struct lt_send s = { .topic = t, .record = &r, .acks = LEAT_ACKS_LOG };
        leat_metadata md;
        ok(lt_send_record(&s, &md));
        cr_assert(md.partition >= 0 && md.partition < 3);
        used[md.partition]++;
    }
    for (int i = 0; i < 3; i++)
        cr_assert_gt(used[i], 0);
    close_store(0);
}

// ---- the allocator

static long asked, fail_at;

static void *failing(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0) {
        free(old);
        return NULL;
    }
    return ++asked == fail_at ? NULL : realloc(old, size);
}

static int make_things(void) {
    leat_topic *u;
    leat_consumer *c;
    leat_producer *q;
    int rc = leat_topic_open(mq, "u", &(leat_topic_options){ .partitions = 2 }, &u);
    if (rc != 0)
        return rc;
    rc = leat_producer_open(mq, &(leat_producer_options){ .name = "q" }, &q);
    if (rc != 0)
        return rc;
    rc = leat_send(q, u, &(leat_record){ .key = LEAT_STR("k"), .value = LEAT_STR("v") }, NULL);
    int closed = leat_producer_close(q, 0);
    if (rc != 0)
        return rc;
    rc = leat_consumer_open(mq, "g", &(leat_consumer_options){ .name = "c" }, &c);
    if (rc != 0)
        return rc;
    const leat_message *m;
    rc = leat_consumer_subscribe(c, "u");
    if (rc == 0)
        rc = leat_poll(c, 0, &m);
    if (rc >= 0)
        rc = leat_commit(c);
    int left = leat_consumer_close(c);
    return rc != 0 ? rc : closed != 0 ? closed : left;
}

Test(partition, no_memory_changes_nothing_and_the_next_try_works, .init = make_root,
     .fini = drop_root) {
    mode = LEAT_WRITE_PWRITE; // it allocates most
    for (long k = 1;; k++) {
        fail_at = 0;
        open_with(failing);
        asked = 0;
        fail_at = k;
        int rc = make_things();
        bool failed = asked >= fail_at;
        cr_assert(rc == 0 || rc == LEAT_ENOMEM, "allocation %ld: %s, %s", k, leat_errname(rc),
                  leat_errmsg());
        cr_assert(!failed || rc == LEAT_ENOMEM || rc == 0);
        fail_at = 0;
        ok(make_things());
        close_store(0);
        open_with(failing); // what was written can be read
        fail_at = 0;
        ok(make_things());
        close_store(0);
        scratch_remove(dir);
        if (!failed) {
            cr_assert_gt(k, 15);
            return;
        }
    }
}
