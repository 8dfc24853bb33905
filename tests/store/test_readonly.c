/* SPDX-License-Identifier: MIT */
// The calls that a read-only store makes of the system: none that writes, and none that is refused.
#include "leat.h"
#include "lib/place.h"
#include "store/readonly.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct lt_os os;
static int wrote, looked;
static char report[4096];

static int spy_open(struct lt_os *o, int at, const char *path, int flags, unsigned mode) {
    wrote += (flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)) != 0;
    looked++;
    return lt_os_system()->open(o, at, path, flags, mode);
}
static int64_t spy_pwrite(struct lt_os *o, int fd, const void *buf, size_t n, int64_t at) {
    (void)o, (void)fd, (void)buf, (void)at;
    wrote++;
    return (int64_t)n;
}
static int spy_sync(struct lt_os *o, int fd, bool is_dir) {
    (void)o, (void)fd, (void)is_dir;
    return wrote++, 0;
}
static int spy_truncate(struct lt_os *o, int fd, int64_t size) {
    (void)o, (void)fd, (void)size;
    return wrote++, 0;
}
static int spy_allocate(struct lt_os *o, int fd, int64_t at, int64_t n) {
    (void)o, (void)fd, (void)at, (void)n;
    return wrote++, 0;
}
static int spy_mkdir(struct lt_os *o, int at, const char *path, unsigned mode) {
    (void)o, (void)at, (void)path, (void)mode;
    return wrote++, 0;
}
static int spy_unlink(struct lt_os *o, int at, const char *path, bool is_dir) {
    (void)o, (void)at, (void)path, (void)is_dir;
    return wrote++, 0;
}
static int spy_rename(struct lt_os *o, int at, const char *from, const char *to) {
    (void)o, (void)at, (void)from, (void)to;
    return wrote++, 0;
}
static int spy_lock(struct lt_os *o, int fd) {
    (void)o, (void)fd;
    return wrote++, 0;
}
static int spy_map(struct lt_os *o, int fd, size_t n, bool writable, void **out) {
    wrote += fd >= 0; // not even to read
    return lt_os_system()->map(o, fd, n, writable, out);
}
static void spy_write_back(struct lt_os *o, int fd, int64_t at, int64_t n) {
    (void)o, (void)fd, (void)at, (void)n;
    wrote++;
}

static void spy(void) {
    os = *lt_os_system();
    os.open = spy_open;
    os.pwrite = spy_pwrite;
    os.sync = spy_sync;
    os.truncate = spy_truncate;
    os.allocate = spy_allocate;
    os.mkdir = spy_mkdir;
    os.unlink = spy_unlink;
    os.rename = spy_rename;
    os.lock = spy_lock;
    os.unlock = spy_lock;
    os.map = spy_map;
    os.write_back = spy_write_back;
    wrote = looked = 0;
}

static void fill(int32_t write) {
    leat *mq;
    leat_topic *t;
    leat_producer *p;
    leat_consumer *c;
    leat_queue *q;
    leat_message m;
    const leat_message *ms;
    ok(leat_open(dir, &(leat_options){ .write = write }, &mq));
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p));
    for (int n = 0; n < 3; n++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", n);
        ok(leat_topic_open(mq, name,
                           &(leat_topic_options){ .segment_bytes = 16384, .partitions = 2 }, &t));
        for (int i = 0; i < 800; i++)
            ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("a record of some length") },
                         NULL));
    }
    ok(leat_topic_delete_records(t, 0, LEAT_END));
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t0"));
    cr_assert_gt(leat_poll(c, 0, &ms), 0);
    ok(leat_commit(c));
    ok(leat_queue_open(mq, "q", NULL, &q));
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("job") }, NULL));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

static void look(const char *at, uint32_t flags) {
    leat *mq;
    leat_consumer *c;
    const leat_message *m;
    spy();
    leat_options o = { .flags = LEAT_READ_ONLY | flags };
    int rc = lt_store_open(at, &o, &os, &mq), n;
    cr_assert_eq(wrote, 0);
    cr_assert_gt(looked, 0);
    if (rc != 0)
        return;
    ok(leat_consumer_open(mq, "g", NULL, &c));
    for (int i = 0; i < 3; i++) {
        char name[16];
        int64_t offset;
        leat_topic *t;
        snprintf(name, sizeof name, "t%d", i);
        ok(leat_topic_open(mq, name, NULL, &t));
        cr_assert(leat_topic_offset_at(t, 0, 1, &offset) >= 0);
        ok(leat_consumer_subscribe(c, name));
    }
    while ((n = leat_poll(c, 0, &m)) > 0)
        ;
    (void)leat_commit(c);
    (void)leat_sync(mq);
    (void)leat_topic_delete(mq, "t1");
    cr_assert_eq(lt_readonly_refused(mq), 0, "%d calls fell into the net",
                 (int)lt_readonly_refused(mq));
    ok(leat_close_all(mq, 0));
    cr_assert_eq(wrote, 0);
}

Test(readonly, no_call_writes_and_none_is_refused, .init = make_root, .fini = drop_root) {
    static const char *const gone[] = { "slots", "manifest", "1/0/00000000000000000000.idx",
                                        "1/1/00000000000000000000.idx",
                                        "1/0/00000000000000000000.log" };
    for (int32_t write = LEAT_WRITE_MAPPED; write <= LEAT_WRITE_PWRITE; write++) {
        fill(write);
        char *before = scratch_listing(dir);
        look(dir, 0);
        look(dir, LEAT_SKIP_ROT);
        char *after = scratch_listing(dir);
        cr_assert_str_eq(before, after);
        free(before);
        free(after);
        for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
            char copy[SCRATCH_PATH], path[SCRATCH_PATH];
            scratch_join(copy, root, "copy");
            scratch_copy(dir, copy);
            scratch_join(path, copy, "%s", gone[i]);
            scratch_remove(path);
            look(copy, 0);
            look(copy, LEAT_SKIP_ROT);
            scratch_remove(copy);
        }
        scratch_remove(dir);
    }
}

// ---- an owner who works between two calls of the looker's

static struct {
    leat *mq;
    leat_topic *t, *other;
    leat_producer *p;
    int64_t next;
    int calls, at, kind; // at call number `at` of the looker this kind of work is done
} owner;

static int owner_sync(struct lt_os *o, int fd, bool is_dir) {
    (void)o, (void)fd, (void)is_dir;
    return 0;
}

static void owner_send(int n) {
    char text[64];
    for (int i = 0; i < n; i++) {
        snprintf(text, sizeof text, "%lld ..........................", (long long)owner.next++);
        ok(leat_send(owner.p, owner.t, &(leat_record){ .value = leat_str(text) }, NULL));
    }
}

static void *owner_do(void *arg) {
    leat_record r = { .value = LEAT_STR("x") };
    (void)arg;
    switch (owner.kind) {
    case 0: // rolls, twice
        owner_send(400);
        ok(leat_sync(owner.mq));
        break;
    case 1: // deletes all but what is new
        owner_send(400);
        ok(leat_topic_delete_records(owner.t, 0, owner.next - 10));
        break;
    case 2: // a topic comes, is used, and goes
        if (owner.other)
            ok(leat_topic_delete(owner.mq, "other"));
        ok(leat_topic_open(owner.mq, "other", NULL, &owner.other));
        ok(leat_send(owner.p, owner.other, &r, NULL));
        ok(leat_sync(owner.mq));
        break;
    case 3:
        owner_send(1);
        ok(leat_sync(owner.mq));
        break;
    default: // each says that the one before is on disk
        for (int i = 0; i < 120; i++) {
            owner_send(1);
            ok(leat_sync(owner.mq));
        }
        break;
    }
    return NULL;
}

static void owner_work(void) {
    pthread_t thread; // its own: the looker's holds locks
    if (owner.calls++ != owner.at)
        return;
    cr_assert_eq(pthread_create(&thread, NULL, owner_do, NULL), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

static int work_open(struct lt_os *o, int at, const char *path, int flags, unsigned mode) {
    owner_work();
    return spy_open(o, at, path, flags, mode);
}

static int64_t work_pread(struct lt_os *o, int fd, void *buf, size_t n, int64_t at) {
    owner_work();
    if (n < 8192) // a copy is made page by page
        return lt_os_system()->pread(o, fd, buf, n, at);
    int64_t got = lt_os_system()->pread(o, fd, buf, 4096, at);
    owner_work();
    return got;
}

static int work_list(struct lt_os *o, int fd, lt_list_fn fn, void *ctx) {
    owner_work();
    return lt_os_system()->list(o, fd, fn, ctx);
}

static void work_at(int kind, int at) {
    spy();
    os.open = work_open;
    os.pread = work_pread;
    os.list = work_list;
    owner.kind = kind;
    owner.at = at;
    owner.calls = 0;
}

// Looks while the work is done at call `at`. Returns whether there were that many calls.
static bool look_at_work(int kind, int at, uint32_t flags) {
    leat *mq;
    leat_consumer *c;
    const leat_message *m;
    leat_topic *t;
    leat_range r;
    work_at(kind, at);
    ok(lt_store_open(dir, &(leat_options){ .flags = LEAT_READ_ONLY | flags }, &os, &mq));
    leat_stats stats;
    ok(leat_get_stats(mq, &stats, sizeof stats));
    cr_assert_eq(stats.damaged_ranges, 0);
    ok(leat_topic_open(mq, "t0", NULL, &t));
    ok(leat_topic_range(t, 0, &r));
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t0", .offset = LEAT_BEGIN }, 1));
    int64_t expect = r.begin;
    int n;
    while ((n = leat_poll(c, 0, &m)) > 0) {
        for (int i = 0; i < n; i++, expect++) {
            cr_assert_eq(m[i].offset, expect);
            cr_assert_eq(strtoll(m[i].value.data, NULL, 10), expect);
        }
    }
    // What was deleted between the open and the read is an error of the read.
    cr_assert(n == 0 ? expect == r.end : n == LEAT_ENOENT && kind == 1, "%d: %s", n, leat_errmsg());
    cr_assert_eq(lt_readonly_refused(mq), 0);
    cr_assert_eq(wrote, 0);
    ok(leat_close_all(mq, 0));
    return owner.calls > at;
}

static void owner_begin(void) {
    static struct lt_os quick; // what is in the page cache is all that is looked at
    quick = *lt_os_system();
    quick.sync = owner_sync;
    ok(lt_store_open(dir, NULL, &quick, &owner.mq));
    ok(leat_topic_open(owner.mq, "t0", &(leat_topic_options){ .segment_bytes = 16384 }, &owner.t));
    ok(leat_producer_open(owner.mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &owner.p));
    owner.next = 0;
    owner.other = NULL;
    owner_send(500);
}

// With LEAT_SKIP_ROT nothing of a store that is whole may be left out.
Test(readonly, an_owner_may_work_between_any_two_calls, .init = make_root, .fini = drop_root) {
    owner_begin();
    for (int kind = 0; kind < 10; kind++)
        for (int at = 0; look_at_work(kind % 5, at, kind < 5 ? 0 : LEAT_SKIP_ROT); at++)
            if (kind % 5 == 0 || kind % 5 == 4) // or there would be more calls with each
                ok(leat_topic_delete_records(owner.t, 0, owner.next - 300));
    ok(leat_close_all(owner.mq, 0));
}

static int print(const void *data, size_t size, void *ctx) {
    size_t *used = ctx, n = size < 4095 - *used ? size : 4095 - *used;
    memcpy(report + *used, data, n);
    *used += n;
    report[*used] = '\0';
    return 0;
}

// Verifies while the work is done at call `at`.
static bool verify_at_work(int kind, int at) {
    size_t used = 0;
    work_at(kind, at);
    int rc = lt_verify_store(dir, NULL, &os, print, &used);
    cr_assert_eq(rc, 0, "work %d at call %d: %d %s\n%s", kind, at, rc, leat_errmsg(), report);
    cr_assert_eq(wrote, 0);
    return owner.calls > at;
}

Test(readonly, to_verify_no_owner_is_damage, .init = make_root, .fini = drop_root) {
    owner_begin();
    for (int kind = 0; kind < 5; kind++)
        for (int at = 0; verify_at_work(kind, at); at++)
            if (kind == 0 || kind == 4)
                ok(leat_topic_delete_records(owner.t, 0, owner.next - 300));
    ok(leat_close_all(owner.mq, 0));
}

Test(readonly, copies_are_given_back, .init = make_root, .fini = drop_root) {
    leat *mq;
    leat_consumer *c;
    const leat_message *m;
    owner_begin();
    owner_send(5000);
    ok(leat_close_all(owner.mq, 0));
    ok(leat_open(dir, &(leat_options){ .flags = LEAT_READ_ONLY }, &mq));
    cr_assert_eq(mq->map_bytes_max, INT64_C(1) << 30);
    mq->map_bytes_max = 100000;
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t0", .offset = LEAT_BEGIN }, 1));
    for (int round = 0; round < 2; round++) {
        int64_t expect = 0;
        int n;
        ok(leat_consumer_seek(c, "t0", 0, LEAT_BEGIN));
        while ((n = leat_poll(c, 0, &m)) > 0) {
            for (int i = 0; i < n; i++, expect++)
                cr_assert_eq(strtoll(m[i].value.data, NULL, 10), expect);
            cr_assert_lt(mq->map_bytes, 200000);
        }
        cr_assert_eq(expect, owner.next);
    }
    ok(leat_close_all(mq, 0));
}

Test(readonly, the_net_refuses_whatever_writes, .init = make_root, .fini = drop_root) {
    leat *mq;
    void *p;
    char path[SCRATCH_PATH];
    fill(LEAT_WRITE_MAPPED);
    spy();
    ok(lt_store_open(dir, &(leat_options){ .flags = LEAT_READ_ONLY }, &os, &mq));
    struct lt_os *net = mq->os;
    int fd = net->open(net, mq->dir_fd, "manifest", O_RDWR | O_CREAT, 0600);
    cr_assert(fd >= 0);
    cr_assert_eq(net->pwrite(net, fd, "x", 1, 0), -EROFS);
    cr_assert_eq(net->sync(net, fd, false), -EROFS);
    cr_assert_eq(net->truncate(net, fd, 0), -EROFS);
    cr_assert_eq(net->allocate(net, fd, 0, 1), -EROFS);
    cr_assert_eq(net->mkdir(net, mq->dir_fd, "x", 0700), -EROFS);
    cr_assert_eq(net->unlink(net, mq->dir_fd, "manifest", false), -EROFS);
    cr_assert_eq(net->rename(net, mq->dir_fd, "manifest", "x"), -EROFS);
    cr_assert_eq(net->lock(net, fd), -EROFS);
    cr_assert_eq(net->unlock(net, fd), -EROFS);
    cr_assert_eq(net->open(net, mq->dir_fd, "x", O_RDWR | O_TRUNC, 0600), -EROFS);
    cr_assert_eq(net->open(net, mq->dir_fd, "x", O_RDWR | O_CREAT, 0600), -ENOENT);
    cr_assert_eq(lt_readonly_refused(mq), 10);
    ok(net->map(net, fd, 4096, true, &p)); // a copy
    *(char *)p = '?';
    ok(net->unmap(net, p, 4096));
    ok(net->close(net, fd));
    cr_assert_eq(wrote, 0);
    ok(leat_close_all(mq, 0));
    scratch_join(path, dir, "x");
    cr_assert(!scratch_exists(path));
    ok(leat_open(dir, NULL, &mq));
    ok(leat_close_all(mq, 0));
}
