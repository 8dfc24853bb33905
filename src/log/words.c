/* SPDX-License-Identifier: MIT */
#include "log/words.h"

#include "base/bytes.h"

#include <endian.h>
#include <fcntl.h>

enum { WORDS_STEP = 64 * 1024 }; // bytes that a words file grows by

int lt_words_open(leat *mq, const char *path, bool create, uint64_t count, struct lt_words *w) {
    *w = (struct lt_words){ .mq = mq, .fd = -1, .map_size = count * 8 };
    lt_stretch_init(&w->memory, &mq->mem, 8, 64);
    if (!path)
        return 0;
    int fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDWR | (create ? O_CREAT : 0), 0600);
    if (fd < 0)
        return lt_fail_os(fd, "opening %s/%s", mq->dir, path);
    w->fd = fd;
    struct lt_file_info info;
    int rc = mq->os->info(mq->os, fd, &info);
    if (rc == 0 && info.size > (int64_t)w->map_size)
        info.size = (int64_t)w->map_size; // somebody made it longer; there are no more records
    void *p = NULL;
    if (rc == 0)
        rc = mq->os->map(mq->os, fd, w->map_size, mq->mapped_write, &p);
    if (rc < 0) {
        (void)mq->os->close(mq->os, fd);
        w->fd = -1;
        return lt_fail_os(rc, "mapping %s/%s", mq->dir, path);
    }
    w->map = p;
    atomic_fetch_add_explicit(&mq->words, 1, memory_order_relaxed);
    w->allocated = (uint64_t)info.size & ~UINT64_C(7);
    return 0;
}

void lt_words_close(struct lt_words *w) {
    if (w->map) {
        (void)w->mq->os->unmap(w->mq->os, w->map, w->map_size);
        atomic_fetch_sub_explicit(&w->mq->words, 1, memory_order_relaxed);
    }
    if (w->fd >= 0)
        (void)w->mq->os->close(w->mq->os, w->fd);
    lt_stretch_fini(&w->memory);
    w->map = NULL;
    w->fd = -1;
}

int lt_words_reserve(struct lt_words *w, uint64_t i) {
    leat *mq = w->mq;
    if (w->fd < 0)
        return lt_stretch_reserve(&w->memory, i + 1) == 0 ? 0 : lt_fail_nomem();
    uint64_t need = (i + 1) * 8;
    if (need <= w->allocated)
        return 0;
    uint64_t to = w->allocated + WORDS_STEP;
    to = to < need ? need : to;
    to = to > w->map_size ? w->map_size : to;
    // Where the file system copies on write a store can still fail for want of room, and says so.
    int rc = lt_os_room(mq->os, w->fd, (int64_t)w->allocated, (int64_t)(to - w->allocated),
                        mq->mapped_write);
    if (rc < 0)
        return lt_fail_os(rc, "allocating queue words in %s", mq->dir);
    w->allocated = to;
    return 0;
}

uint64_t lt_words_load(const struct lt_words *w, uint64_t i) {
    if (w->fd < 0)
        return i < lt_stretch_capacity(&w->memory) ? *(uint64_t *)lt_stretch_at(&w->memory, i) : 0;
    return (i + 1) * 8 <= w->allocated ? lt_get_u64(w->map + i * 8) : 0;
}

// The second seam.
int lt_words_store(struct lt_words *w, uint64_t i, uint64_t word) {
    if (w->fd < 0) {
        *(uint64_t *)lt_stretch_at(&w->memory, i) = word;
        return 0;
    }
    if (w->mq->mapped_write) {
        // One store of 8 bytes: kill -9 finds the old word or the new one.
        *(volatile uint64_t *)(void *)(w->map + i * 8) = htole64(word);
        return 0;
    }
    uint8_t bytes[8];
    lt_put_u64(bytes, word);
    int rc = lt_pwrite_full(w->mq->os, w->fd, bytes, sizeof bytes, (int64_t)(i * 8));
    return rc == 0 ? 0 : lt_fail_os(rc, "writing queue words in %s", w->mq->dir);
}

int lt_words_sync(struct lt_words *w) {
    if (w->fd < 0)
        return 0;
    int rc = w->mq->os->sync(w->mq->os, w->fd, false);
    return rc == 0 ? 0 : lt_fail_os(rc, "syncing queue words in %s", w->mq->dir);
}
