/* SPDX-License-Identifier: MIT */
// Snapshots of the manifest: it does not grow for ever, and where one fails the old file goes on.
#include "base/bytes.h"
#include "lib/scratch.h"
#include "log/log.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KIND = 1000 }; // notes that nobody reads
enum bad { OPEN, PWRITE, SYNC, RENAME, RENAME_DONE, DIR_SYNC, NOTHING };

static char root[SCRATCH_PATH], dir[SCRATCH_PATH], copy[SCRATCH_PATH], path[SCRATCH_PATH];
static char fresh[SCRATCH_PATH];
static leat *mq;
static struct lt_manifest *m;
static struct lt_os os;
static enum bad bad;
static int fresh_fd, renamed, tried;

static int snap_open(struct lt_os *self, int at, const char *name, int flags, unsigned mode) {
    (void)self;
    bool is_fresh = strcmp(name, "manifest.new") == 0;
    tried += is_fresh;
    if (is_fresh && bad == OPEN)
        return -EMFILE;
    int fd = lt_os_system()->open(&os, at, name, flags, mode);
    if (is_fresh)
        fresh_fd = fd;
    return fd;
}
static int snap_close(struct lt_os *self, int fd) {
    (void)self;
    fresh_fd = fd == fresh_fd ? -1 : fresh_fd;
    return lt_os_system()->close(&os, fd);
}
static int64_t snap_pwrite(struct lt_os *self, int fd, const void *buf, size_t n, int64_t at) {
    (void)self;
    if (fd == fresh_fd && renamed == 0 && bad == PWRITE)
        return at == 0 ? lt_os_system()->pwrite(&os, fd, buf, n / 2, at) : -ENOSPC;
    return lt_os_system()->pwrite(&os, fd, buf, n, at);
}
static int snap_sync(struct lt_os *self, int fd, bool is_dir) {
    (void)self;
    if ((bad == SYNC && fd == fresh_fd) || (bad == DIR_SYNC && is_dir && renamed > 0))
        return -EIO;
    return 0; // what this file looks at is the page cache
}
static int snap_rename(struct lt_os *self, int at, const char *from, const char *to) {
    (void)self;
    if (bad == RENAME)
        return -EIO;
    int rc = lt_os_system()->rename(&os, at, from, to);
    renamed++;
    fresh_fd = -1;
    return bad == RENAME_DONE ? -EIO : rc;
}

static void make_root(void) {
    scratch_make(root);
    scratch_join(dir, root, "store");
    scratch_join(copy, root, "copy");
    scratch_join(path, dir, "manifest");
    scratch_join(fresh, dir, "manifest.new");
    os = *lt_os_system();
    os.open = snap_open;
    os.close = snap_close;
    os.pwrite = snap_pwrite;
    os.sync = snap_sync;
    os.rename = snap_rename;
    bad = NOTHING;
    fresh_fd = -1;
}

static void drop_root(void) {
    scratch_remove(root);
}

static void open_store(const char *at) {
    ok(lt_store_open(at, NULL, &os, &mq));
    m = &mq->log->manifest;
    renamed = tried = 0;
}

static int has(const char *name) {
    leat_topic *t;
    return leat_topic_open(mq, name, &(leat_topic_options){ .flags = LEAT_MUST_EXIST }, &t) == 0;
}

static void make(const char *name) {
    leat_topic *t;
    ok(leat_topic_open(mq, name, NULL, &t));
}

static int note(uint32_t id, size_t size) {
    static char body[64 * 1024];
    return lt_manifest_note(m, KIND, id, body, size);
}

static size_t length(void) {
    size_t size;
    free(scratch_read(path, &size));
    return size;
}

Test(snapshot, topics_that_come_and_go_leave_a_short_manifest, .init = make_root,
     .fini = drop_root) {
    enum { ROUNDS = 4000 };
    char name[32];
    size_t longest = 0;
    open_store(dir);
    make("stays");
    for (int i = 0; i < ROUNDS; i++) {
        (void)snprintf(name, sizeof name, "comes-and-goes-%d", i);
        make(name);
        ok(leat_topic_delete(mq, name));
        if (i % 50 == 0)
            longest = length() > longest ? length() : longest;
    }
    cr_assert(longest > 50000 && longest < 70000, "%zu bytes", longest);
    cr_assert_geq(renamed, 3);
    uint32_t next = m->next_id;
    ok(leat_close(mq, 0));
    for (int i = 0; i < 2; i++) {
        open_store(dir);
        cr_assert(has("stays") && !has(name));
        cr_assert_geq(m->next_id, next, "an id is given twice");
        ok(leat_close(mq, 0));
    }
}

Test(snapshot, what_lives_is_not_written_again_and_again, .init = make_root, .fini = drop_root) {
    open_store(dir);
    for (uint32_t i = 0; i < 500; i++) // 1 MB that lives
        ok(note(i, 2000));
    cr_assert_eq(renamed, 0);
    for (uint32_t i = 0; i < 4000; i++)
        ok(note(i % 500, 2000));
    cr_assert(renamed >= 1 && renamed <= 3, "%d snapshots", renamed);
    cr_assert_lt(length(), (size_t)5 * 500 * 2024);
    ok(leat_close(mq, 0));
    ok(leat_open_memory(NULL, &mq)); // nor anything in memory
    m = &mq->log->manifest;
    for (uint32_t i = 0; i < 4000; i++)
        ok(note(0, 2000));
    ok(leat_close(mq, 0));
}

Test(snapshot, one_that_fails_leaves_the_old_file_in_use, .init = make_root, .fini = drop_root) {
    for (enum bad b = OPEN; b < NOTHING; b++) {
        bool poisons = b == RENAME_DONE || b == DIR_SYNC;
        open_store(dir);
        make("early");
        bad = b;
        int rc = 0, notes = 0;
        for (; notes < 300 && rc == 0; notes++)
            rc = note(1, 1000 + (size_t)notes % 8);
        cr_assert(tried > 0 && tried < 6, "%d: %d tries of %d notes", b, tried, notes);
        cr_assert_eq(rc, poisons ? LEAT_EIO : 0, "%d: %s", b, leat_errmsg());
        cr_assert(poisons || !scratch_exists(fresh));
        leat_topic *t;
        rc = leat_topic_open(mq, "late", NULL, &t);
        cr_assert_eq(rc, poisons ? LEAT_EPOISONED : 0);
        scratch_copy(dir, copy); // killed
        bad = NOTHING;
        rc = leat_close(mq, 0);
        cr_assert_eq(rc, poisons ? LEAT_EPOISONED : 0, "%s", leat_errmsg());
        for (int killed = 0; killed < 2; killed++) {
            open_store(killed ? copy : dir);
            cr_assert(has("early"));
            cr_assert_eq(has("late"), !poisons, "after %d", b);
            const struct lt_note *n;
            struct lt_map_cursor at = { 0 };
            size_t size = 0;
            while ((n = lt_manifest_next(m, &at)))
                size = n->kind == KIND ? n->size : size;
            // The note that was refused is in neither file.
            cr_assert_eq(size, 1000 + ((size_t)notes - (poisons ? 2 : 1)) % 8);
            for (int i = 0; i < 300; i++)
                ok(note(1, 1000));
            cr_assert_lt(m->end, 70000, "now it went well");
            make("again");
            ok(leat_close(mq, 0));
            open_store(killed ? copy : dir);
            cr_assert(has("early") && has("again"));
            ok(leat_close(mq, 0));
        }
        scratch_remove(dir);
        scratch_remove(copy);
    }
}

// The slots may be of before a snapshot, or of after one that a power cut took back.
Test(snapshot, slots_of_another_generation_say_nothing, .init = make_root, .fini = drop_root) {
    char slots[SCRATCH_PATH];
    size_t size[2], long_size;
    unsigned char *bytes[2], *old;
    scratch_join(slots, dir, "slots");
    open_store(dir);
    for (int i = 0; i < 60; i++)
        ok(note(1, 1000));
    ok(leat_sync(mq));
    old = scratch_read(path, &long_size);
    bytes[0] = scratch_read(slots, &size[0]);
    for (int i = 0; i < 10; i++)
        ok(note(1, 1000));
    cr_assert_eq(renamed, 1);
    make("new");
    ok(leat_close(mq, 0));
    bytes[1] = scratch_read(slots, &size[1]);
    scratch_write(slots, bytes[0], size[0]); // the new file, the old slots
    open_store(dir);
    cr_assert(has("new"));
    ok(leat_close(mq, 0));
    scratch_write(slots, bytes[1], size[1]); // the old file, the new slots
    scratch_write(path, old, long_size);
    open_store(dir);
    cr_assert(!has("new"));
    ok(leat_close(mq, 0));
    scratch_write(slots, bytes[0], size[0]); // of one and the same generation they do say it
    scratch_write(path, old, long_size - 8);
    fails(LEAT_ECORRUPT, leat_open(dir, NULL, &mq));
    free(old);
    free(bytes[0]);
    free(bytes[1]);
}
