/* SPDX-License-Identifier: MIT */
// courier: where user code is called that was not called for by the call it belongs to: reports of
// asynchronous sends. Each thing with something to tell is an errand; it is on one thread at a
// time.
//
// An errand is threaded or polled, for good. Threaded ones are run by the one thread that the
// courier starts when the first is posted; polled ones wait for leat_dispatch, or for whoever
// runs his own (lt_errand_run). With LEAT_NO_THREADS there are polled ones only.
//
// Locks: the courier's lock is held while lists change, never while an errand runs. A clock that is
// advanced by hand waits until nothing threaded is left to tell.
#ifndef LT_BASE_COURIER_H
#define LT_BASE_COURIER_H

#include "base/beacon.h"
#include "base/list.h"
#include "base/sync.h"

#include "leat.h"

struct lt_waiter;

struct lt_errand { // guarded by the courier's lock, but run and polled, which do not change
    struct lt_node node;
    // Runs with no lock held and tells some, not all, of what there is. Returns  how much; 0: there
    // was nothing; -1 - how much: e has ended and is touched no more. What came to be told since it
    // began has been posted.
    int (*run)(leat *mq, struct lt_errand *e);
    bool polled;
    bool posted;  // there may be something to tell
    bool running; // somebody tells
};

struct lt_courier {
    struct lt_mutex lock;            // guards the rest
    struct lt_list threaded, polled; // posted and not running
    struct lt_list sleepers;         // waiters of leat_dispatch
    struct lt_cond cond;             // wakes the thread; and those who wait for one that runs
    pthread_t thread;
    int running;             // errands that run
    bool open, runs, naps;   // naps: the thread will look by itself at once
    struct lt_beacon beacon; // lit while polled is not empty
};

struct lt_sleeper { // a call that waits until there is something polled
    struct lt_node node;
    struct lt_waiter *waiter;
};

int lt_courier_init(struct lt_courier *c);
void lt_courier_fini(leat *mq);
// lt_courier_end ends the thread and waits until it is gone. Not from a callback.
void lt_courier_end(leat *mq);

void lt_errand_init(struct lt_errand *e, bool polled, int (*run)(leat *mq, struct lt_errand *e));
// lt_errand_post says that there is something to tell. Locks: any below COURIER.
// Returns  LEAT_ENOMEM: there is no thread to be had; it is posted all the same.
int lt_errand_post(leat *mq, struct lt_errand *e);
// lt_errand_run runs e here, if nobody else does, until there is nothing to tell. Returns  how
// much.
int lt_errand_run(leat *mq, struct lt_errand *e);
// lt_errand_end takes e out for good and waits until it does not run. Not from within.
void lt_errand_end(leat *mq, struct lt_errand *e);

// lt_courier_round runs each polled errand that waits now, once. Returns  how many there were.
int lt_courier_round(leat *mq);
// lt_courier_lacks says what is not told; NULL: all is.
const char *lt_courier_lacks(leat *mq);

// lt_courier_runs tells whether the thread is there.
bool lt_courier_runs(leat *mq);

#endif
