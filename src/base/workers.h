/* SPDX-License-Identifier: MIT */
// workers: threads that the user asked for, by number, to run his handler. Whose messages they are
// is the owner's business: he gives the loop that each thread runs. Here is what all have in
// common: how they start, how a stop waits for them, and how they end by themselves when they are
// stopped inside a callback, which cannot wait.
//
// Who ends them frees the handle, after the threads are joined: the stop that waited, or, when they
// were stopped inside a callback, whoever looks later (lt_workers_reap). The last thread has then
// done the rest: `over`.
#ifndef LT_BASE_WORKERS_H
#define LT_BASE_WORKERS_H

#include "base/core.h"

enum { LT_WORKERS_MAX = 256 };

enum lt_workers_phase {
    LT_WORKERS_RUN,
    LT_WORKERS_DRAIN, // nothing new is fetched; what was fetched is handled
    LT_WORKERS_HALT   // no handler is begun
};

struct lt_workers_owner {
    // The loop of a thread; it takes the lock before it does anything. Until the phase, or a
    // shutdown, says that there is nothing left to do.
    void (*run)(leat_workers *w);
    // Ends the waits of all threads: the phase has changed. Locks: the workers'.
    void (*wake)(leat_workers *w);
    void (*end)(leat_workers *w);    // no thread is left: frees what is the owner's
    void (*forget)(leat_workers *w); // in a fork: frees memory, takes no lock
};

struct leat_workers {
    leat *mq;
    struct lt_child child;
    const struct lt_workers_owner *owner;
    void *self; // the owner's
    leat_handler_fn fn;
    void *ctx;
    void (*on_end)(void *ctx);
    char *name;           // NULL: none
    struct lt_mutex lock; // guards the rest, and what the owner says
    struct lt_cond gone;  // running or inside has fallen, while somebody stops
    struct lt_waiter stopper;
    enum lt_workers_phase phase;
    int threads, running, inside; // started; in their loop; in the handler
    bool stopping;                // a stop waits
    bool abandoned;               // stopped in a callback: the last thread ends them
    atomic_bool over;             // the last thread ends them now; stored under lock
    pthread_t *thread;
};

// lt_workers_check checks what is common to all options. Returns  LEAT_EINVAL.
int lt_workers_check(leat *mq, leat_handler_fn fn, const leat_worker_options *o);
// lt_workers_new makes workers without threads, to be started or freed. name: if the options have
// none; may be NULL. Returns  LEAT_ENOMEM.
int lt_workers_new(leat *mq, leat_handler_fn fn, void *ctx, const leat_worker_options *o,
                   leat_workers **out);
void lt_workers_free(leat_workers *w);
// lt_workers_start starts the threads. Returns  LEAT_ENOMEM: none is left, and nothing was ended.
int lt_workers_start(leat_workers *w);
// lt_workers_call calls the handler. Returns  false: not called, since nothing is to begin any
// more.
bool lt_workers_call(leat_workers *w, const leat_message *m, int64_t *retry_delay_ms, int *result);
// lt_workers_reap frees those that have ended by themselves. Blocks  until their threads are gone.
void lt_workers_reap(leat *mq);

#endif
