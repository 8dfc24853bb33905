/* SPDX-License-Identifier: MIT */
// dir: the store's directory. LOCK is held as long as the store is open; what is neither empty nor
// a store is left alone.
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct dir_content {
    bool manifest, numbered, foreign;
};

static int dir_take_name(const char *name, void *ctx) {
    struct dir_content *c = ctx;
    if (strcmp(name, "manifest") == 0)
        c->manifest = true;
    else if (strspn(name, "0123456789") == strlen(name))
        c->numbered = true;
    else if (strncmp(name, "manifest.lost", 13) == 0) // kept by a rebuild
        c->numbered = true;
    else if (strcmp(name, "LOCK") != 0 && strcmp(name, "manifest.new") != 0 &&
             strcmp(name, "slots") != 0) // a store that died while it was being made
        c->foreign = true;
    return 0;
}

// Decides what the directory is. Changes nothing.
static int dir_look(leat *mq, bool *create) {
    struct dir_content c = { 0 };
    int rc = mq->os->list(mq->os, mq->dir_fd, dir_take_name, &c);
    if (rc < 0)
        return lt_fail_os(rc, "listing %s", mq->dir);
    *create = !c.manifest;
    if (c.manifest)
        return 0;
    if (c.numbered)
        return lt_fail(LEAT_ECORRUPT,
                       "%s has lost its manifest: it must be rebuilt from the segments, by "
                       "leat_rebuild_manifest",
                       mq->dir);
    if (c.foreign)
        return lt_fail(LEAT_EEXIST, "%s is not empty and holds no store", mq->dir);
    if (mq->flags & (LEAT_MUST_EXIST | LEAT_READ_ONLY))
        return lt_fail(LEAT_ENOENT, "%s holds no store", mq->dir);
    return 0;
}

static int dir_open_fd(leat *mq, bool *made) {
    struct lt_os *os = mq->os;
    *made = false;
    int fd = os->open(os, AT_FDCWD, mq->dir, O_RDONLY | O_DIRECTORY, 0);
    if (fd == -ENOENT && !(mq->flags & (LEAT_MUST_EXIST | LEAT_READ_ONLY))) {
        int rc = os->mkdir(os, AT_FDCWD, mq->dir, 0700);
        if (rc < 0)
            return lt_fail_os(rc, "creating %s", mq->dir);
        *made = true;
        fd = os->open(os, AT_FDCWD, mq->dir, O_RDONLY | O_DIRECTORY, 0);
    }
    if (fd < 0)
        return lt_fail_os(fd, "opening directory %s", mq->dir);
    mq->dir_fd = fd;
    return 0;
}

// Makes the name of the store's directory durable, before anything in it is promised: also if
// somebody else made it, who may have been killed before he synced it. A directory that its owner
// made ready for us may stand in one that we cannot look into: then its name is his concern.
static int dir_sync_name(leat *mq, bool made) {
    struct lt_os *os = mq->os;
    int fd = os->open(os, mq->dir_fd, "..", O_RDONLY | O_DIRECTORY, 0), rc = fd;
    if (fd >= 0) {
        rc = os->sync(os, fd, true);
        (void)os->close(os, fd);
    }
    if (rc >= 0)
        return 0;
    if (!made && (rc == -EACCES || rc == -EPERM || rc == -EROFS || rc == -EINVAL)) {
        lt_say(mq, LEAT_LOG_WARNING, "%s: the directory above cannot be synced", mq->dir);
        return 0;
    }
    return lt_fail_os(rc, "syncing the directory above %s", mq->dir);
}

static int dir_check_owner(leat *mq) {
    struct lt_file_info info;
    int rc = mq->os->info(mq->os, mq->dir_fd, &info);
    if (rc < 0)
        return lt_fail_os(rc, "%s", mq->dir);
    uint32_t user = mq->os->user(mq->os);
    if (info.uid != user)
        return lt_fail(LEAT_EACCESS, "%s belongs to user %u, not to %u", mq->dir, info.uid, user);
    return 0;
}

static int dir_lock(leat *mq) {
    struct lt_os *os = mq->os;
    int fd = os->open(os, mq->dir_fd, "LOCK", O_RDWR | O_CREAT, 0600);
    if (fd < 0)
        return lt_fail_os(fd, "opening %s/LOCK", mq->dir);
    int rc = os->lock(os, fd);
    if (rc < 0) {
        (void)os->close(os, fd);
        if (rc == -EAGAIN)
            return lt_fail(LEAT_EBUSY, "%s is open already, here or in another process", mq->dir);
        return lt_fail_os(rc, "locking %s/LOCK", mq->dir);
    }
    mq->lock_fd = fd;
    return 0;
}

int lt_dir_find(leat *mq, const char *dir) {
    bool made = false;
    mq->dir = lt_strdup_n(&mq->mem, dir, strlen(dir));
    return mq->dir ? dir_open_fd(mq, &made) : lt_fail_nomem();
}

int lt_dir_take(leat *mq, const char *dir) {
    struct dir_content c = { 0 };
    int rc = lt_dir_find(mq, dir);
    if (rc == 0)
        rc = dir_check_owner(mq);
    if (rc != 0)
        return rc;
    rc = mq->os->list(mq->os, mq->dir_fd, dir_take_name, &c);
    if (rc < 0)
        return lt_fail_os(rc, "listing %s", mq->dir);
    if (!c.manifest && !c.numbered)
        return lt_fail(LEAT_ENOENT, "%s holds no store", mq->dir);
    return dir_lock(mq);
}

int lt_dir_open(leat *mq, const char *dir, bool *create) {
    bool made = false;
    mq->dir = lt_strdup_n(&mq->mem, dir, strlen(dir));
    if (!mq->dir)
        return lt_fail_nomem();
    int rc = dir_open_fd(mq, &made);
    bool own = !lt_read_only(mq);
    if (rc == 0 && own)
        rc = dir_check_owner(mq);
    if (rc == 0)
        rc = dir_look(mq, create); // before LOCK is made in somebody else's directory
    if (rc == 0 && own)
        rc = dir_lock(mq);
    if (rc == 0 && own)
        rc = dir_look(mq, create); // again: another process may have made the store meanwhile
    if (rc == 0 && *create)
        rc = dir_sync_name(mq, made);
    if (rc != 0 && rc != LEAT_EBUSY && made) { // busy: somebody else has made it his
        (void)mq->os->unlink(mq->os, mq->dir_fd, "LOCK", false);
        (void)mq->os->unlink(mq->os, AT_FDCWD, mq->dir, true);
    }
    if (rc != 0)
        lt_dir_close(mq);
    return rc;
}

void lt_dir_unlock(leat *mq) {
    // Said, not left to the last close: a fork of this process may live on with the descriptor.
    if (mq->lock_fd >= 0 && !lt_forked(mq))
        (void)mq->os->unlock(mq->os, mq->lock_fd);
    if (mq->lock_fd >= 0)
        (void)mq->os->close(mq->os, mq->lock_fd);
    mq->lock_fd = -1;
}

void lt_dir_close(leat *mq) {
    lt_dir_unlock(mq);
    if (mq->dir_fd >= 0)
        (void)mq->os->close(mq->os, mq->dir_fd);
    lt_free(&mq->mem, mq->dir);
    mq->dir = NULL;
    mq->dir_fd = -1;
}
