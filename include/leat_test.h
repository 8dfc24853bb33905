/* SPDX-License-Identifier: MIT */
// leat_test.h: what unit tests and classes want: a store that opens in microseconds and whose time
// they control. Same library, no other link line. The conventions of leat.h hold.
#ifndef LEAT_TEST_H
#define LEAT_TEST_H

#include "leat.h"

#ifdef __cplusplus
extern "C" {
#endif

// leat_test_open opens a memory store for one unit test: no threads, jumping clock, seed 1,
// LEAT_STRICT. A call that would wait moves the clock to the next lease end, delay or timeout
// instead; if nothing can ever come it is LEAT_EDEADLK.
// Owns     *out is ended by leat_close_all, which names what was left leased or held.
LEAT_API int leat_test_open(leat **out);

// leat_clock_advance moves a manual or jumping clock by ms (>= 0): step by step to each due time,
// firing what is due in order, and waits until every blocked call that became ready has left its
// wait.
// Returns  LEAT_EINVAL (system clock), LEAT_ETIMEDOUT (a caller has not left its wait after 10 s
//          of real time).
// Threads  [any], one at a time: a second gets LEAT_EBUSY.
LEAT_API int leat_clock_advance(leat *mq, int64_t ms);

// leat_clock_set_wall makes the wall clock of a manual or jumping clock jump to ms since 1970. The
// monotonic clock, which drives leases and timeouts, does not move.
LEAT_API int leat_clock_set_wall(leat *mq, int64_t ms);

// leat_clock_now tells the store's monotonic time (ms since it was opened) and wall time. Either
// pointer may be NULL.
// Threads  [any] [cb]
LEAT_API int leat_clock_now(leat *mq, int64_t *mono_ms, int64_t *wall_ms);

// leat_clock_wait_blocked waits until at least `callers` calls are blocked in leat, so that a test
// with threads needs no sleep. Manual clock only.
// Returns  LEAT_ETIMEDOUT after real_timeout_ms of real time.
LEAT_API int leat_clock_wait_blocked(leat *mq, int callers, int64_t real_timeout_ms);

// leat_wait_idle waits until the store does nothing by itself any more at this time: nothing is
// due, every record that was accepted has its report, no callback runs or waits to run, every
// worker waits for a message, and every call that was woken has left its wait. It does what is due,
// sends at once what lingers, and runs the callbacks that are polled for. So a test with threads
// sends, waits and looks, without a sleep. The store's time does not move: what waits for a later
// time (a lease, a delay, the next try of a batch or a handler) is left to leat_clock_advance; a
// batch that waits to be tried again has no report, so it is LEAT_ETIMEDOUT. Not waited for: calls
// of the test's own threads, with the callbacks in them; what leat_poll, a receive or
// leat_subscription_next would give.
// Returns  LEAT_ETIMEDOUT after real_timeout_ms of real time, saying what goes on; 0: does what
//          can be done now.
// Threads  [any]
// Blocks   up to real_timeout_ms, and for callbacks and syncs that it does itself.
LEAT_API int leat_wait_idle(leat *mq, int64_t real_timeout_ms);

enum {
    // leat_send, leat_queue_send, a dead-letter move: before the record is stored; leat_send_many:
    // once for each partition
    LEAT_OP_APPEND = 1,
    LEAT_OP_SPACE = 2, // the same, where room for it is got
    // a sync of a partition, of settled messages (topic: the queue's name) or of committed offsets
    // (no topic): an error poisons what it is of, as a real one does
    LEAT_OP_SYNC = 3,
    LEAT_OP_RECEIVE = 4,
    LEAT_OP_SETTLE = 5, // ack, nack, reject, extend: the lease stands; for many: once, of the call
    LEAT_OP_COMMIT = 6,
    LEAT_OP_MEMORY = 7, // allocations: LEAT_ENOMEM, no topic, no delay; the last push counts
    LEAT_OP_PUBLISH = 8 // topic: the channel
};

// leat_fault_push makes the next `count` (LEAT_FOREVER: all) calls of a kind return `error` (0:
// only late) after delay_ms of the store's time. Faults are used up first in, first out. topic: of
// a queue's receive and settle the queue's name; NULL and partition -1: any. Inside a callback, and
// for space and sync, there is no delay.
// Threads  [any] [cb]
LEAT_API int leat_fault_push(leat *mq, int op, const char *topic, int32_t partition, int error,
                             int64_t count, int64_t delay_ms);

// leat_fault_clear takes back all faults that are not used up.
// Threads  [any] [cb]
LEAT_API int leat_fault_clear(leat *mq);

enum {
    LEAT_KILL = 1,     // kill -9 of the process: all that is in the log is there
    LEAT_POWER_CUT = 2 // the power goes: what was synced is there, and by chance some of the rest
};

// leat_crash ends mq as a crash of the process or of the machine would, and opens *reopened in its
// place: with the same options, with a clock that goes on from the same reading, without planned
// faults. It shuts mq down as leat_shutdown does, waits until all calls have left mq, and does none
// of the work of a close: it syncs nothing and stores nothing.
//
// What a power cut leaves: all that was synced, by LEAT_ACKS_DISK (a send, commit or settling), by
// leat_sync or a close. Of the rest each sector of 512 bytes, each length of a file and each name
// of a new or removed one survives or not, by the store's seed; one cut in four takes all of it,
// one nothing. The same seed and the same calls give the same crash.
//
// mq needs LEAT_CRASHABLE at leat_open_memory, and for a power cut at leat_open. With it a memory
// store runs the code of a disk store, over files in memory: it opens in some 50 us instead of one,
// memory_max_bytes is the bound of these files (LEAT_ENOSPC), each sync reads the files that it
// syncs. leat_test_open leaves it out. The same with it:
//     leat_options o = { .flags = LEAT_STRICT | LEAT_CRASHABLE, .threads = LEAT_NO_THREADS,
//                        .clock = LEAT_CLOCK_JUMP, .seed = 1 };
//     leat_open_memory(&o, &mq);
//
// Returns  LEAT_EINVAL (no LEAT_CRASHABLE, no such crash, reopened NULL) and LEAT_ECLOSED: nothing
//          was done. As leat_open: mq has crashed, *reopened is NULL; a disk store may be opened
//          again, the content of a memory store is gone.
// Owns     *reopened is ended by leat_close or leat_close_all. mq and its children stay: their
// calls
//          are LEAT_ECLOSED, messages stay readable until they are released, all is closed as usual
//          and leaves alone what *reopened owns. What was leased no longer counts as leased.
// Threads  [any]. Without LEAT_CRASHABLE (LEAT_KILL of a disk store) no other thread may be in a
//          call of mq; with it they may, and get LEAT_ECLOSED or their result.
// Blocks   until all calls that send, receive, settle, poll, commit, sync, open or delete have
// left.
LEAT_API int leat_crash(leat *mq, int how, leat **reopened);

#ifdef __cplusplus
}
#endif
#endif
