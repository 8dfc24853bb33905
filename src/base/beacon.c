/* SPDX-License-Identifier: MIT */
#include "base/beacon.h"

#include "base/err.h"

#include "leat.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int lt_beacon_init(struct lt_beacon *b) {
    b->fd[0] = b->fd[1] = -1;
    atomic_init(&b->state, LT_BEACON_NONE);
    return lt_mutex_init(&b->lock, LT_RANK_LEAF);
}

void lt_beacon_fini(struct lt_beacon *b) {
    for (int i = 0; i < 2; i++)
        if (b->fd[i] >= 0)
            (void)close(b->fd[i]);
    lt_mutex_fini(&b->lock);
}

// The pipe has room for a byte where one is put, and one in it where one is taken: so neither call
// blocks, and both are made again only for a signal. Locks: the beacon's.
static void beacon_set_locked(struct lt_beacon *b, int state) {
    char byte = 0;
    ssize_t n = 1;
    if (b->fd[0] < 0 || atomic_load(&b->state) == state)
        return;
    atomic_store(&b->state, state);
    do {
        n = state == LT_BEACON_LIT ? write(b->fd[1], &byte, 1) : read(b->fd[0], &byte, 1);
    } while (n < 0 && errno == EINTR);
}

void lt_beacon_set(struct lt_beacon *b, enum lt_beacon_state state) {
    int kept = errno; // of whoever sends: this is news on his thread
    lt_lock(&b->lock);
    beacon_set_locked(b, (int)state);
    lt_unlock(&b->lock);
    errno = kept;
}

int lt_beacon_open(struct lt_beacon *b, const char *what) {
    int rc = 0;
    lt_lock(&b->lock);
    if (b->fd[0] < 0 && pipe2(b->fd, O_CLOEXEC | O_NONBLOCK) != 0) {
        b->fd[0] = b->fd[1] = -1;
        rc = lt_fail(LEAT_ENOMEM, "no descriptors for %s: errno %d", what, errno);
    }
    if (rc == 0 && atomic_load(&b->state) == LT_BEACON_NONE)
        beacon_set_locked(b, LT_BEACON_LIT);
    rc = rc == 0 ? b->fd[0] : rc;
    lt_unlock(&b->lock);
    return rc;
}
