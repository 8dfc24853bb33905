/* SPDX-License-Identifier: MIT */
// service: the one thread that a store may start. It does chores when they fall due (clock.h) and
// nothing else: never user code, but for what may be called on any thread (the log callback, the
// trace, the allocator). It starts when the first chore is made, on a system clock, unless
// LEAT_NO_THREADS was asked for; while the store is being opened it is only asked for. It ends at a
// shutdown, a crash or a close, and there is none in a fork.
#ifndef LT_BASE_SERVICE_H
#define LT_BASE_SERVICE_H

#include "base/sync.h"

#include "leat.h"

#include <stdatomic.h>

struct lt_service {
    bool allowed; // does not change
    bool open;    // the store is open; this and the next: guarded by the clock's lock
    bool needed;
    atomic_bool runs;        // the thread is there; stored under the clock's lock
    pthread_t thread;        // of who started it, then of who ends it
    struct lt_cond cond;     // wakes it; there while it runs
    _Atomic int64_t wake_ns; // when it will wake by itself; INT64_MIN: it looks anyway (seq_cst)
};

void lt_service_init(struct lt_service *s, bool allowed);
static inline bool lt_service_runs(const struct lt_service *s) {
    return atomic_load(&s->runs);
}
// lt_service_need asks for the thread. Returns  LEAT_ENOMEM: the system has no more of them.
int lt_service_need(leat *mq);
// lt_service_open says that the store is open: the thread starts if it was asked for.
int lt_service_open(leat *mq);
// lt_service_wake tells it that something is due at due_ns. Locks: any below CLOCK.
void lt_service_wake(leat *mq, int64_t due_ns);
// lt_service_end ends the thread and waits until it is gone. The store is shut down, or nobody else
// uses it. Not from the thread itself.
void lt_service_end(leat *mq);

#endif
