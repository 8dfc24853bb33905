/* SPDX-License-Identifier: MIT */
// core: the part of a store that every room sees: the system, memory, time, chance, what is
// blocked, what is open, and one opaque pointer per room. base/ knows nothing else of the rooms.
#ifndef LT_BASE_CORE_H
#define LT_BASE_CORE_H

#include "base/chance.h"
#include "base/clock.h"
#include "base/courier.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/pins.h"
#include "base/sync.h"

#include <stdatomic.h>

struct lt_log;
struct lt_queues;
struct lt_channels;
struct lt_crash;
struct lt_readonly;

// lt_child is what a handle embeds, so that a store can name and close what is still open.
struct lt_child {
    struct lt_node node;
    const char *kind; // "consumer"
    const char *name; // may be NULL; lives as long as the handle
    bool first;       // leat_close_all closes it before all others: it uses them
    // Closes the handle, for leat_close_all. Returns  < 0, or how many records were given up.
    int (*close)(struct lt_child *child, int64_t timeout_ms);
    // Frees its memory and does nothing else, in a fork: takes no lock. NULL: it is not freed.
    void (*forget)(struct lt_child *child);
    int (*owes)(struct lt_child *child); // LEAT_EBUSY, with LEAT_STRICT: names what; NULL: nothing
    // Tells whether close would be LEAT_EBUSY, so that leat_close_all can refuse before it closes
    // anything; NULL: never. Reads an atomic, takes no lock.
    bool (*busy)(const struct lt_child *child);
    // Says that the store is shut down; NULL: nobody waits outside of leat. Takes no lock but
    // leaves.
    void (*shut)(struct lt_child *child);
    // Adds what the handle counts to *s; NULL: nothing. Takes no lock.
    void (*count)(const struct lt_child *child, leat_stats *s);
};

struct leat {
    struct lt_os *_Atomic os; // another one only when the store has crashed; seq_cst
    struct lt_mem mem;
    char *dir;  // NULL: a memory store
    int dir_fd; // -1: a memory store
    int lock_fd;
    uint32_t flags;
    int32_t acks;      // the default: LEAT_ACKS_LOG or LEAT_ACKS_DISK
    bool mapped_write; // segments, words and slots are written through mappings
    int64_t memory_max_bytes;
    _Atomic int64_t memory_bytes; // of segments in a memory store; relaxed: a sum, guards nothing
    // Of segments on disk, relaxed: sums that guard nothing; above the limits what nobody uses is
    // given back. The bytes are of address space.
    _Atomic int64_t files, maps, map_bytes;
    int64_t files_max, maps_max, map_bytes_max;
    _Atomic int64_t
        dirty_bytes; // appended to segments on disk, not synced, in steps; relaxed: a sum
    int64_t dirty_bytes_max, dirty_step;
    int64_t sync_interval_ms;   // 0: nothing is synced by time
    _Atomic int64_t words;      // files of queues' words, each mapped; relaxed, for the stats alone
    _Atomic uint64_t read_gone; // by consumers that are closed; relaxed, the same
    unsigned fork_epoch;        // of the process that opened it
    atomic_bool shut;           // set once by leat_shutdown; seq_cst
    atomic_bool crashed; // set once by leat_crash: what is stored is another handle's, as soon as
                         // the calls that are counted have left; seq_cst
    int inside;          // calls between lt_begin and lt_end; guarded by the clock's lock
    struct lt_clock clock;
    struct lt_courier courier;
    bool threads;      // there may be some
    int32_t callbacks; // LEAT_CALLBACKS_THREAD or _POLL: the default of producers
    struct lt_pins pins;
    struct lt_faults faults;
    struct lt_mutex children_lock; // guards children and chance
    struct lt_list children;
    struct lt_chance chance;
    leat_trace_fn trace;
    void *trace_ctx;
    leat_log_fn log_fn;
    void *log_ctx;
    struct lt_log *log; // the rooms; each is made by its own folder
    struct lt_queues *queues;
    struct lt_channels *channels;
    struct lt_crash *crash;       // what leat_crash needs; NULL: nothing was asked for
    struct lt_readonly *readonly; // the table that refuses to write; NULL: the store is our own
};

// lt_core_init fills *mq from the options (checked by the caller) and the system's table.
// On failure nothing is left behind.
int lt_core_init(leat *mq, const leat_options *o, struct lt_os *os);
void lt_core_fini(leat *mq);

// Bits: may the call be made inside a callback, and after leat_shutdown?
enum { LT_CALL = 0, LT_CALL_CB = 1, LT_CALL_SHUT = 2 };
// lt_enter is the first line of every public call.
// Returns  LEAT_EINVAL (NULL), LEAT_EFORK, LEAT_ECLOSED, LEAT_EDEADLK.
int lt_enter(leat *mq, int where);
// lt_begin is lt_enter for a call that may change what is stored, and lt_end its end: leat_crash
// waits until all of them have ended. Returns  as lt_enter: not begun. Counts only where a crash
// with threads was asked for (LEAT_CRASHABLE). With LT_CALL_SHUT it is LEAT_ECLOSED only when a
// crash has begun.
int lt_begin(leat *mq, int where);
// A call that does not store, and is about to wait where the close of its handle ends the wait, is
// counted by lt_begin_counted, in any store: the store is not closed before its lt_end_counted.
// Returns  rc. Others may close the store once it is called.
void lt_begin_counted(leat *mq);
int lt_end_counted(leat *mq, int rc);
static inline bool lt_counts(const leat *mq) {
    return (mq->flags & LEAT_CRASHABLE) != 0;
}
static inline int lt_end(leat *mq, int rc) {
    return lt_counts(mq) ? lt_end_counted(mq, rc) : rc;
}
// A call that gives up, before it ends, what kept others from closing the store: it asks lt_counts
// first, and then lt_end_counted if so. lt_calls_wait waits until no call is counted.
void lt_calls_wait(leat *mq);
// lt_stores tells whether what is stored is this handle's to change: not in a fork, nor after
// leat_crash, nor with LEAT_READ_ONLY.
bool lt_stores(const leat *mq);
// lt_read_only tells whether the store is somebody else's to change: LEAT_READ_ONLY.
static inline bool lt_read_only(const leat *mq) {
    return (mq->flags & LEAT_READ_ONLY) != 0;
}
// lt_check_writable is LEAT_EACCESS, which says so, if it is. what: "topic t".
int lt_check_writable(const leat *mq, const char *what, const char *name);
// lt_forked tells whether this process is a fork of the one that opened mq.
bool lt_forked(const leat *mq);

// Around each call of user code; nestable.
void lt_callback_begin(void);
void lt_callback_end(void);
bool lt_in_callback(void);
int lt_callback_depth(void);

void lt_child_add(leat *mq, struct lt_child *child);
void lt_child_remove(leat *mq, struct lt_child *child);

// lt_chance_next draws from the store's seed. Threads  any.
uint64_t lt_chance_next(leat *mq);

// lt_trace reports one change of state; one branch when nobody listens.
void lt_trace_emit(leat *mq, const char *event, const char *who, const leat_metadata *where,
                   int error);
static inline void lt_trace(leat *mq, const char *event, const char *who,
                            const leat_metadata *where, int error) {
    if (mq->trace)
        lt_trace_emit(mq, event, who, where, error);
}
// lt_say hands one line to the log callback.
void lt_say(leat *mq, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4), cold));

// lt_acks_sound tells whether acks may be asked for of sends.
static inline bool lt_acks_sound(int32_t acks) {
    return acks >= LEAT_ACKS_DEFAULT && acks <= LEAT_ACKS_DISK;
}
// lt_check_name checks a name against the rules of leat.h. what: "topic".
int lt_check_name(const char *what, const char *name);
// lt_check_timeout accepts what leat.h calls a timeout.
int lt_check_timeout(int64_t timeout_ms);
// lt_check_reserved checks that the n reserved words are zero.
int lt_check_reserved(const char *what, const uint64_t *words, size_t n);

#endif
