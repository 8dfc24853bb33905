/* SPDX-License-Identifier: MIT */
// clock: the store's two clocks, what falls due, and the calls that wait.
//
// Time is driven by whoever looks: lt_due_fire runs what is due, and a blocked call (lt_wait)
// sleeps until its own deadline or the next due thing, whichever comes first, then fires it. On a
// manual clock sleepers wait for leat_clock_advance; on a jumping clock a call that would wait
// moves the clock instead.
//
// A chore is a due entry that nobody waits for: retention, the timed sync. A jumping clock does not
// move for it. On the system clock the service thread (service.h) does chores, and then nobody
// else; without one, and on other clocks, whoever looks does them with the rest.
//
// Invariants
//  1. fn of a due entry runs with no lock held, in order of (due, id).
//  2. At least one blocked call wakes no later than the earliest due time (system clock).
//  3. Every blocked call is in `blocked`, so that shutdown and advance reach it.
#ifndef LT_BASE_CLOCK_H
#define LT_BASE_CLOCK_H

#include "base/heap.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/service.h"
#include "base/sync.h"

#include "leat.h"

#include <stdatomic.h>

#define LT_NEVER INT64_MAX

struct lt_due {
    struct lt_heap_node node; // all guarded by the clock's due_lock
    int64_t due_ns;
    uint64_t id;
    void (*fn)(leat *mq, struct lt_due *due);
    int running;
    bool chore; // does not change
};

struct lt_agenda { // all guarded by due_lock, but as said
    struct lt_heap due;
    size_t room; // entries for which there is room
    // Due time of the heap's top; stored under due_lock, read anywhere. next and the time at which
    // somebody will wake (first_wake, the service's) close the gap between "a sleeper reads when to
    // wake" and "something earlier is planned": each side stores its own, then reads the other's
    // (seq_cst).
    _Atomic int64_t next;
};

struct lt_waiter { // all guarded by the clock's lock
    struct lt_cond cond;
    struct lt_node node;   // in blocked
    bool ready;            // there was news: do not wait
    bool counted;          // became ready while blocked and has not left yet
    int64_t until_ns;      // when it will wake by itself
    struct lt_due timeout; // of a manual clock
};

struct lt_clock {
    int32_t mode; // LEAT_CLOCK_SYSTEM, _MANUAL, _JUMP
    struct lt_os *os;
    int64_t open_ns;              // system clock: monotonic time at open
    _Atomic int64_t mono_ns;      // manual: stored under lock, read anywhere
    _Atomic int64_t wall_offset;  // manual: wall time when mono_ns was 0; the same
    int64_t steady_ns, steady_ms; // both clocks when the store was opened
    struct lt_mutex due_lock;     // guards the agendas, next_id, firing and the entries
    struct lt_cond due_idle;      // some fn has returned
    struct lt_agenda events, chores;
    uint64_t next_id;
    int firing;                 // fns of entries that run
    _Atomic int64_t first_wake; // earliest until_ns in blocked; stored under lock
    struct lt_service service;
    struct lt_mutex lock;   // guards blocked, the counts, advancing, jumping, every waiter
    struct lt_cond changed; // one of these has changed
    struct lt_list blocked;
    int blocked_count, ready_count;
    int telling; // threaded errands with something to tell; not on the system clock
    int at_work; // threads of workers that do not wait
    bool advancing, jumping;
    atomic_int watchers; // see rest.h, as at_work and stirs
    uint64_t stirs;
};

int lt_clock_init(struct lt_clock *c, const leat_options *o, struct lt_os *os, struct lt_mem *mem);
void lt_clock_fini(struct lt_clock *c);
// lt_clock_go_on makes a new clock read what `from`, of the same mode, reads.
void lt_clock_go_on(struct lt_clock *c, const struct lt_clock *from);

int64_t lt_now_ns(const leat *mq); // monotonic
// lt_ahead_ns is a time that is not over, for an eighth of the price of lt_now_ns: on the system
// clock up to LT_AHEAD_NS ahead of it, on others the same.
int64_t lt_ahead_ns(const leat *mq);
int64_t lt_wall_ms(const leat *mq); // since 1970
// lt_steady_ms is what the wall clock read at the open, and the monotonic time since: it does not
// step.
int64_t lt_steady_ms(const leat *mq);
// lt_add_ms adds a duration (>= 0, or LEAT_FOREVER) to a time; saturates at LT_NEVER.
int64_t lt_add_ms(int64_t at_ns, int64_t ms);

// lt_due_init prepares an entry and makes room for it, so that lt_due_set cannot fail.
// Returns  LEAT_ENOMEM: nothing to end.
int lt_due_init(leat *mq, struct lt_due *d, void (*fn)(leat *mq, struct lt_due *due));
// lt_chore_init is that for a chore, and starts the service thread if there is to be one.
int lt_chore_init(leat *mq, struct lt_due *d, void (*fn)(leat *mq, struct lt_due *due));
// lt_due_end cancels an entry for good and waits until its fn is not running. Not from that fn.
void lt_due_end(leat *mq, struct lt_due *d);
// lt_due_set plans, moves or (LT_NEVER) cancels an entry.
void lt_due_set(leat *mq, struct lt_due *d, int64_t due_ns);
// lt_due_fire runs all that is due now and the caller's to run. Locks: none held.
void lt_due_fire(leat *mq);
// lt_due_fire_all runs all that is due now, chores too. Locks: none held. Returns  how many.
int lt_due_fire_all(leat *mq);
// lt_chores_fire runs the chores that are due now: for the service thread.
void lt_chores_fire(leat *mq);
// lt_due_next tells when the next thing falls due that is for whoever looks; LT_NEVER: nothing is.
int64_t lt_due_next(const leat *mq);

int lt_waiter_init(leat *mq, struct lt_waiter *w);
void lt_waiter_fini(leat *mq, struct lt_waiter *w);
// lt_back_off is for a call that has found nothing and is about to wait: who is faster than those
// who send would sleep at each message. A short while first, and there are several, for a wake-up
// that would have cost both sides more. Only on the system clock.
void lt_back_off(const leat *mq);
// lt_waiter_arm forgets earlier news. The order is: arm, register for news, look, lt_wait.
void lt_waiter_arm(leat *mq, struct lt_waiter *w);
// lt_waiter_notify makes the wait of w end now, or not begin. Takes the clock's lock only.
void lt_waiter_notify(leat *mq, struct lt_waiter *w);
// lt_wait blocks until w is notified, something fell due (which it fires), or the deadline.
// Returns  0 (look again), LEAT_ETIMEDOUT, LEAT_ECLOSED; on a jumping clock LEAT_EDEADLK (nothing
//          can ever come) and LEAT_EBUSY (another call waits already).
int lt_wait(leat *mq, struct lt_waiter *w, int64_t deadline_ns);
// lt_clock_tell counts threaded errands with something to tell, which an advance waits for.
void lt_clock_tell(leat *mq, int more);
// lt_wake_all ends every wait, for shutdown.
void lt_wake_all(leat *mq);

#endif
