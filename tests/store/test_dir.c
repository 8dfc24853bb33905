/* SPDX-License-Identifier: MIT */
// Directories that cannot be used, as seen through the table of system calls: what root cannot make
// by hand.
#include "base/os.h"
#include "lib/scratch.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static char root[SCRATCH_PATH], dir[SCRATCH_PATH];
static leat *mq;
static struct lt_os os;
static int open_error, mkdir_error, lock_error, list_error, place_error, random_error, map_error;
static int above_error, above_sync_error, above_fd = -1; // of the directory that the store's is in
static bool above_synced;

static int dir_test_open(struct lt_os *self, int at, const char *path, int flags, unsigned m) {
    (void)self;
    if (strcmp(path, "..") == 0)
        return above_fd =
                   above_error ? -above_error : lt_os_system()->open(&os, at, path, flags, m);
    if (open_error && (flags & O_ACCMODE) != O_RDONLY)
        return -open_error; // a read-only file system, or a directory without the right to write
    return lt_os_system()->open(&os, at, path, flags, m);
}
static int dir_test_mkdir(struct lt_os *self, int at, const char *path, unsigned m) {
    (void)self;
    return mkdir_error ? -mkdir_error : lt_os_system()->mkdir(&os, at, path, m);
}
static int dir_test_lock(struct lt_os *self, int fd) {
    (void)self;
    return lock_error ? -lock_error : lt_os_system()->lock(&os, fd);
}
static int dir_test_sync(struct lt_os *self, int fd, bool is_dir) {
    (void)self;
    if (fd == above_fd && above_sync_error)
        return -above_sync_error;
    above_synced |= fd == above_fd;
    return lt_os_system()->sync(&os, fd, is_dir);
}
static int dir_test_close(struct lt_os *self, int fd) {
    (void)self;
    if (fd == above_fd)
        above_fd = -1;
    return lt_os_system()->close(&os, fd);
}
static int dir_test_rename(struct lt_os *self, int at, const char *from, const char *to) {
    (void)self;
    cr_assert(above_synced, "%s has its name and the store's directory may lose its own", to);
    return lt_os_system()->rename(&os, at, from, to);
}
static int dir_test_list(struct lt_os *self, int fd, lt_list_fn fn, void *ctx) {
    (void)self;
    return list_error ? -list_error : lt_os_system()->list(&os, fd, fn, ctx);
}
static int dir_test_place(struct lt_os *self, int fd) {
    (void)self;
    return place_error ? -place_error : lt_os_system()->writes_in_place(&os, fd);
}
static int dir_test_random(struct lt_os *self, void *buf, size_t n) {
    (void)self;
    return random_error ? -random_error : lt_os_system()->random(&os, buf, n);
}
static int dir_test_map(struct lt_os *self, int fd, size_t n, bool w, void **out) {
    (void)self;
    return map_error ? -map_error : lt_os_system()->map(&os, fd, n, w, out);
}
static uint32_t dir_test_user(struct lt_os *self) {
    (void)self;
    return lt_os_system()->user(&os) + 1;
}

static void make_root(void) {
    scratch_make(root);
    scratch_join(dir, root, "store");
    os = *lt_os_system();
    os.open = dir_test_open;
    os.mkdir = dir_test_mkdir;
    os.lock = dir_test_lock;
    os.sync = dir_test_sync;
    os.close = dir_test_close;
    os.rename = dir_test_rename;
    os.list = dir_test_list;
    os.writes_in_place = dir_test_place;
    os.random = dir_test_random;
    os.map = dir_test_map;
}

static void drop_root(void) {
    scratch_remove(root);
}

static void refused(int code, const char *words) {
    char *before = scratch_listing(root);
    fails_saying(code, words, lt_store_open(dir, NULL, &os, &mq));
    cr_assert_null(mq);
    char *after = scratch_listing(root);
    cr_assert_str_eq(before, after, "a refused open left something behind");
    free(before);
    free(after);
}

static void every_refusal(void) {
    static const int no_right[] = { EACCES, EPERM, EROFS };
    for (int i = 0; i < 3; i++) {
        open_error = mkdir_error = no_right[i];
        refused(LEAT_EACCESS, dir);
        open_error = mkdir_error = 0;
    }
    open_error = mkdir_error = ENOSPC;
    refused(LEAT_ENOSPC, dir);
    open_error = mkdir_error = 0;
    list_error = EIO;
    refused(LEAT_EIO, dir);
    list_error = 0;
    os.user = dir_test_user;
    refused(LEAT_EACCESS, "belongs to user");
    os.user = lt_os_system()->user;
    random_error = EIO;
    refused(LEAT_EIO, "seed");
    random_error = 0;
}

Test(dir, that_cannot_be_used_is_refused_and_nothing_is_made, .init = make_root,
     .fini = drop_root) {
    every_refusal(); // missing
    ok(leat_open(dir, NULL, &mq));
    ok(leat_close(mq, 0));
    every_refusal(); // a store
    static const int no_lock[] = { ENOLCK, EIO, EINTR };
    for (int i = 0; i < 3; i++) {
        lock_error = no_lock[i];
        refused(LEAT_EIO, "LOCK");
    }
    lock_error = EAGAIN;
    refused(LEAT_EBUSY, "open already");
    lock_error = 0;
    place_error = EIO;
    refused(LEAT_EIO, dir);
    place_error = 0;
    map_error = ENOMEM;
    refused(LEAT_ENOMEM, "slots");
    map_error = 0;
    ok(lt_store_open(dir, NULL, &os, &mq)); // no refusal left it locked
    ok(leat_close(mq, 0));
}

Test(dir, of_somebody_else_is_left_alone_also_when_empty, .init = make_root, .fini = drop_root) {
    scratch_mkdir(dir);
    os.user = dir_test_user;
    refused(LEAT_EACCESS, dir);
    os.user = lt_os_system()->user;
    lock_error = EIO;
    fails(LEAT_EIO, lt_store_open(dir, NULL, &os, &mq));
    lock_error = 0;
    ok(lt_store_open(dir, NULL, &os, &mq));
    ok(leat_close(mq, 0));
}

// What is acknowledged on DISK must be found again, and so its directory.
Test(dir, has_its_name_synced_before_a_store_is_made_in_it, .init = make_root, .fini = drop_root) {
    static const int closed_to_us[] = { EACCES, EPERM, EROFS, EINVAL };
    for (int made = 0; made < 2; made++) { // by us, or by one who was killed before he synced it
        if (!made)
            scratch_mkdir(dir);
        above_sync_error = EIO;
        fails_saying(LEAT_EIO, "above", lt_store_open(dir, NULL, &os, &mq));
        cr_assert_eq(scratch_exists(dir), !made, "what we made, we take away");
        above_sync_error = 0;
        above_error = EMFILE;
        fails(LEAT_EIO, lt_store_open(dir, NULL, &os, &mq));
        above_error = 0;
        above_synced = false;
        ok(lt_store_open(dir, NULL, &os, &mq));
        cr_assert(above_synced);
        ok(leat_close(mq, 0));
        above_synced = false;
        ok(lt_store_open(dir, NULL, &os, &mq)); // and not again
        cr_assert(!above_synced);
        ok(leat_close(mq, 0));
        scratch_remove(dir);
    }
    for (size_t i = 0; i < sizeof closed_to_us / sizeof *closed_to_us; i++) {
        above_error = closed_to_us[i];
        int rc = lt_store_open(dir, NULL, &os, &mq);
        cr_assert_lt(rc, 0);
        cr_assert(!scratch_exists(dir));
        scratch_mkdir(dir); // by somebody who may look there: his concern
        above_synced = true;
        ok(lt_store_open(dir, NULL, &os, &mq));
        ok(leat_close(mq, 0));
        above_error = 0;
        scratch_remove(dir);
    }
}
