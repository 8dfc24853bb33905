/* SPDX-License-Identifier: MIT */
// leat: a message broker that you link, not a server that you run. Partitioned append-only logs,
// queues with visibility timeouts and push channels, in memory or durable in a directory.
//
// CONVENTIONS (everything below obeys them)
//  results    int: < 0 a LEAT_E code, 0 done or nothing, > 0 a count. A condition that the caller
//             must handle is never 0: full is LEAT_EFULL. 64-bit results leave through
//             out-parameters, which come last. leat_errmsg() names the thing that failed.
//  options    zero-initialised structs; NULL = all defaults; reserved words must be zero. In every
//             option 0 = default. Where 0 would mean something else, LEAT_ZERO = really zero or
//             off, and where there can be none, LEAT_FOREVER and LEAT_UNLIMITED = no bound;
//             elsewhere these are LEAT_EINVAL. Durations are int64_t milliseconds. When something
//             that exists is opened, 0 = as it is; any other value must match (LEAT_EEXIST names
//             the field).
//  timeouts   (arguments) int64_t ms: 0 = do not wait, > 0 = at most, LEAT_FOREVER = no bound;
//             anything else is LEAT_EINVAL.
//  in data    is copied, or finished with, when the call returns.
//  out data   is a view: bytes inside the log, valid as long as its section says, and longer with
//             leat_message_hold. Key, value and header bytes that come out of a log are followed
//             by a NUL that is not counted, so puts(m.value.data) works.
//  callbacks  get their handle and ctx; no lock is held (but see .log and .trace). Inside one,
//             calls marked [cb] may be made, and those that only look at a message or a handle;
//             all others are LEAT_EDEADLK and do nothing.
//  lifetime   a close ends its handle unless it returns LEAT_EBUSY, LEAT_EDEADLK or LEAT_EINVAL;
//             using the handle later is undefined. A leat_topic belongs to the store and is never
//             closed. Names of topics, groups and queues given out live until the store closes.
//  threads    [any] any thread; [one] one thread at a time, a second gets LEAT_EBUSY. leat starts
//             two at most, see .threads, and the workers that you ask for. In a forked child every
//             call is LEAT_EFORK, and closing the store only frees its memory.
//  names      of topics, queues, groups and channels: 1 to 249 of A-Z a-z 0-9 . _ -
//  common     Every call may return LEAT_EINVAL (a NULL or wrong argument), LEAT_ECLOSED (after
//  errors     leat_shutdown), LEAT_EFORK, LEAT_EDEADLK (in a callback) and LEAT_ENOMEM (nothing
//             changed); one that makes files also LEAT_EACCESS and LEAT_EPOISONED (the manifest).
//             The lists below leave these out.
//  caveats    One process owns a directory at a time. A store on a network file system promises
//             what that file system promises. Held views pin the memory of their segment.
#ifndef LEAT_H
#define LEAT_H

#include <stddef.h>
#include <stdint.h>

#if defined(LEAT_API) // as whoever compiles leat has it
#elif defined(__GNUC__)
#define LEAT_API __attribute__((visibility("default")))
#else
#define LEAT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define LEAT_VERSION_NUMBER 100u // major * 10000 + minor * 100 + patch
#define LEAT_FOREVER        (-1)
#define LEAT_UNLIMITED      (-1)
#define LEAT_ZERO           (-2)

typedef struct leat leat;                           // a store: one directory, or memory
typedef struct leat_topic leat_topic;               // a name and its partitions
typedef struct leat_producer leat_producer;         // sends
typedef struct leat_future leat_future;             // the report to come of one asynchronous send
typedef struct leat_batch leat_batch;               // records that are sent together
typedef struct leat_consumer leat_consumer;         // reads a stream, alone or in a group
typedef struct leat_reader leat_reader;             // reads one partition, forwards and backwards
typedef struct leat_queue leat_queue;               // leases messages to workers
typedef struct leat_workers leat_workers;           // threads that give messages to a handler
typedef struct leat_subscription leat_subscription; // hears a channel

// ---- results -----------------------------------------------------------------------------------

// LEAT_ERRORS is the one list of error codes: X(name, number, text). Numbers never change.
#define LEAT_ERRORS(X)                                                                             \
    X(EINVAL, -1, "invalid argument")                                                              \
    X(ENOMEM, -2, "out of memory")                                                                 \
    X(EBUSY, -3, "in use")                                                                         \
    X(ENOENT, -4, "does not exist")                                                                \
    X(EEXIST, -5, "exists already, or exists with another setting")                                \
    X(ETOOBIG, -6, "larger than a limit")                                                          \
    X(EFULL, -7, "no room")                                                                        \
    X(ETIMEDOUT, -8, "timed out")                                                                  \
    X(ECLOSED, -9, "the store is shut down")                                                       \
    X(EGONE, -10, "was deleted")                                                                   \
    X(ESTALE, -11, "the receipt or view is no longer valid")                                       \
    X(EFENCED, -12, "the partition belongs to another member now")                                 \
    X(ECONFLICT, -13, "the end of the partition is not the expected one")                          \
    X(ECORRUPT, -14, "damaged data")                                                               \
    X(EPOISONED, -15, "an earlier write was lost; close and open the store again")                 \
    X(EIO, -16, "input/output error")                                                              \
    X(ENOSPC, -17, "no space left on the device")                                                  \
    X(EACCESS, -18, "permission denied")                                                           \
    X(EDEADLK, -19, "would wait for ever, or is not allowed in a callback")                        \
    X(EFORK, -20, "the store was opened before a fork, in the parent process")                     \
    X(ERANGE, -21, "outside the range that exists")                                                \
    X(EPURGED, -22, "removed by a purge")

enum {
#define LEAT_ERROR_CODE(name, number, text) LEAT_##name = number,
    LEAT_ERRORS(LEAT_ERROR_CODE)
#undef LEAT_ERROR_CODE
        LEAT_ERROR_LAST_ = -22
};

// leat_strerror returns the text of a result code: "no error" for >= 0, never NULL.
LEAT_API const char *leat_strerror(int rc);
// leat_errname returns the name of a result code, "LEAT_EFULL"; "LEAT_OK" for >= 0.
LEAT_API const char *leat_errname(int rc);
// leat_is_retriable tells whether the same call may succeed later, and this one has stored nothing
// (of leat_send_many: but for what its md says): 1 for LEAT_ENOMEM, LEAT_EBUSY, LEAT_EFULL,
// LEAT_ETIMEDOUT and LEAT_ENOSPC, else 0.
LEAT_API int leat_is_retriable(int rc);
// leat_errmsg returns what the last failed call of this thread has to say: it names the path,
// topic, offset or errno. "" if no call failed.
// Owns     valid until the next failing call of this thread.
LEAT_API const char *leat_errmsg(void);
// leat_version returns the version of the library that is linked, as LEAT_VERSION_NUMBER.
LEAT_API uint32_t leat_version(void);

// ---- what is sent, what is delivered -----------------------------------------------------------

// leat_bytes is a run of bytes. data NULL: null; size 0 with data: empty.
typedef struct {
    const void *data;
    size_t size;
} leat_bytes;

#ifdef __cplusplus
#define LEAT_STR(s) (leat_bytes{ (s), sizeof(s) - 1 })
#else
#define LEAT_STR(s) ((leat_bytes){ (s), sizeof(s) - 1 }) // of a string literal
#endif
// leat_str is LEAT_STR at run time: the bytes of a C string without its NUL; NULL gives null.
LEAT_API leat_bytes leat_str(const char *s);
#define LEAT_FMT    "%.*s" // printf(LEAT_FMT "\n", LEAT_ARG(m->value))
#define LEAT_ARG(b) (int)(b).size, (const char *)(b).data

typedef struct {
    leat_bytes name, value; // a name is not null; a value may be
} leat_header;

#define LEAT_PARTITION(n) ((int32_t)(n) + 1)

// leat_record is what is sent. Limits: key 64 KiB, 64 headers, dedup id and group 255 bytes each,
// all of it together 16 MiB. Consumers do not see priority, delay_ms and group.
// A null value needs a key (a tombstone); an empty value is a value; an empty key is a key.
typedef struct {
    leat_bytes key, value;
    const leat_header *headers;
    size_t header_count;
    int64_t timestamp_ms; // wall time, ms since 1970; 0: now
    int32_t to_partition; // 0: as the producer's .partitioner says; LEAT_PARTITION(3): partition 3
    int32_t priority;     // queues: 1 to 9, 9 is handed out first; 0: 4, the middle
    int64_t delay_ms;     // queues: not handed out for so long after it was sent, up to 366 days;
                          // 0: as the queue's .delay_ms says; LEAT_ZERO: at once
    leat_bytes group;    // queues: null: none; 1 to 255 bytes: of each group one message at a time,
                         // in order, the next one when it is done or dead; without a key it
                         // chooses the partition as a key would
    leat_bytes dedup_id; // null: none; 1 to 255 bytes: a repeat is not stored again, where the
                         // topic has a dedup window
    uint64_t reserved[4];
} leat_record;

// leat_metadata says where a record went.
typedef struct {
    const char *topic;
    int64_t offset, timestamp_ms;
    int32_t partition, duplicate; // duplicate 1: nothing was stored, this is the first record with
                                  // that dedup id
    uint64_t reserved[2];
} leat_metadata;

// What became of an asynchronous send. LEAT_UNKNOWN: it was in the log, and whether it is on disk
// is not known.
enum { LEAT_STORED = 1, LEAT_NOT_STORED = 2, LEAT_UNKNOWN = 3 };
// leat_report tells it. It and what it points to are views, valid during the callback, or until
// leat_future_release.
typedef struct {
    leat_metadata md;          // offset -1: not stored; with LEAT_UNKNOWN where it may be
    const leat_record *record; // as it was sent; NULL for a leat_batch
    const char *message;       // of what failed; "" if nothing did
    int32_t error, status;     // error: 0, or why
    uint64_t reserved[2];
} leat_report;

// leat_message is a record as delivered. How long its bytes live: from a consumer until the next
// call of leat_poll, _assign or _subscribe for it; from a reader its next call; from a queue until
// its view is ended by ack, nack or leat_message_release; in a channel callback until the callback
// returns.
typedef struct {
    leat_bytes key, value;
    const char *topic;   // or the channel
    const char *pattern; // channels: the pattern that matched, else NULL
    int64_t offset;      // -1: not stored
    int64_t timestamp_ms;
    int32_t partition, deliveries; // deliveries: of a queue or to a handler, this one counted
    uint64_t receipt;              // of a queue: the right to settle this delivery
    uint64_t view;                 // token of the pin that keeps the bytes; safe to copy
    uint64_t dropped;
    uint32_t header_count, flags;
    uint64_t reserved[4];
} leat_message;

// leat_message_header gets header i of m. A message in a dead-letter queue or topic has, after its
// own headers, leat.queue (or leat.group), leat.topic, leat.partition, leat.offset, leat.timestamp
// (that it had, in ms; its own is when it was moved), leat.deliveries and leat.reason.
// Returns  1, or 0 when there is no header i.
// Owns     *h is a view, valid as long as m's bytes.
LEAT_API int leat_message_header(const leat_message *m, size_t i, leat_header *h);

// leat_message_hold makes *kept a second view of m which stays valid until it is released.
// Returns  LEAT_ESTALE if m's own view has ended, LEAT_EFULL at 2^20 views.
// Owns     *kept is ended by leat_message_release. A message of a channel callback is copied.
// Threads  [any] [cb]
LEAT_API int leat_message_hold(leat *mq, const leat_message *m, leat_message *kept);

// leat_message_release ends the view of m; its bytes must not be read any more. The lease of a
// queue's message goes on: ack later by a copy of the message, or let it run out.
// Returns  LEAT_ESTALE if the view has ended before (harmless), LEAT_EINVAL if m is a consumer's.
// Threads  [any] [cb]
LEAT_API int leat_message_release(leat *mq, leat_message *m);

// ---- store -------------------------------------------------------------------------------------

// .threads; 0: at most two, each started when first needed. One does timed work and what
// asynchronous sends leave to it (on the system clock only): it never runs code of yours but .log,
// .trace and .alloc. One calls your callbacks. LEAT_NO_THREADS: none; timed work is done by
// leat_run_due and by calls that block, callbacks run in calls that poll.
enum { LEAT_NO_THREADS = 1 };
// .callbacks; 0: LEAT_CALLBACKS_THREAD, or _POLL with LEAT_NO_THREADS. Where reports are given: on
// a thread of leat's, one at a time; or only inside leat_producer_poll, leat_dispatch, leat_flush
// and leat_producer_close.
enum { LEAT_CALLBACKS_THREAD = 1, LEAT_CALLBACKS_POLL = 2 };
// .acks: when a send returns, and what the record then survives.
enum {
    LEAT_ACKS_DEFAULT = 0,
    LEAT_ACKS_NONE = 1, // nothing is promised, and the offset is not told (-1)
    LEAT_ACKS_LOG = 2,  // it is in the log (page cache): survives kill -9 of the process
    LEAT_ACKS_DISK = 3  // the disk has it: survives power loss. The default.
};
enum {
    LEAT_CLOCK_SYSTEM = 1, // the default
    LEAT_CLOCK_MANUAL = 2, // only leat_clock_advance (leat_test.h) moves time
    LEAT_CLOCK_JUMP = 3    // a call that would wait moves time instead; needs LEAT_NO_THREADS
};
enum {
    LEAT_STRICT = 1u,     // close_all is LEAT_EBUSY while a message is leased or held, a report not
                          // given or a batch open, and names it
    LEAT_READ_ONLY = 2u,  // leat_open looks at a store without owning it, see there
    LEAT_MUST_EXIST = 4u, // open does not create
    LEAT_SKIP_ROT = 8u,   // what is damaged is left out, said to .log, and never touched
    LEAT_ALTER = 16u,     // topics, queues: non-zero settings replace stored ones, see there
    LEAT_CRASHABLE = 32u  // keeps what leat_crash (leat_test.h) needs: for tests, not for speed
};
enum { LEAT_WRITE_MAPPED = 1, LEAT_WRITE_PWRITE = 2 }; // .write; 0: by file system

// leat_trace_event is one change of state, for lessons, checkers and debugging.
typedef struct {
    int64_t at_ms; // monotonic time of the store
    const char *event, *who, *topic;
    int64_t offset;
    int32_t partition, error;
    const char *detail;
} leat_trace_event;
// Called with locks held, on the thread that changed the state, which may be leat's: must not call
// leat.
typedef void (*leat_trace_fn)(const leat_trace_event *e, void *ctx);
enum { LEAT_LOG_ERROR = 1, LEAT_LOG_WARNING = 2, LEAT_LOG_INFO = 3 };
// Called on the thread that has something to say, possibly leat's, possibly with locks held: must
// not call leat.
typedef void (*leat_log_fn)(int level, const char *text, void *ctx);
// leat_alloc_fn is realloc: old NULL allocates, size 0 frees and returns NULL. Any thread.
typedef void *(*leat_alloc_fn)(void *ctx, void *old, size_t size);

typedef struct {
    uint32_t flags;               // LEAT_STRICT, _READ_ONLY, _MUST_EXIST, _SKIP_ROT, _CRASHABLE
    int32_t threads, acks, clock; // acks: the default of producers and queues
    uint64_t seed;                // of every choice made by chance; 0: from the system
    int64_t start_ms;             // wall time at which a manual or jumping clock starts;
                                  // 0: 1,000,000,000,000
    int64_t memory_max_bytes;     // of a memory store; 0: 1 GiB
    int64_t sync_interval_ms; // what is appended, committed or made at LEAT_ACKS_LOG is synced when
                              // so much time has passed; 0: off. Settled messages are not.
    int64_t dirty_bytes_max;  // appended and not synced, about; above it a send syncs, at any
                              // acks; 0: 1 GiB; LEAT_UNLIMITED
    int32_t write, callbacks;
    leat_log_fn log;
    void *log_ctx;
    leat_alloc_fn alloc;
    void *alloc_ctx;
    leat_trace_fn trace;
    void *trace_ctx;
    uint64_t reserved[8];
} leat_options;

// leat_write_fn takes a piece of text; a result other than 0 ends what is being written.
typedef int (*leat_write_fn)(const void *data, size_t size, void *ctx);

// leat_open opens the store in directory dir; creates it (mode 0700) if it is missing or empty,
// its parent must exist. Recovers what an earlier process left, also after kill -9.
// Returns  LEAT_EBUSY (open already, here or in another process), LEAT_ENOENT (LEAT_MUST_EXIST, or
//          the parent is missing), LEAT_EEXIST (not empty and no store: nothing was created),
//          LEAT_ECORRUPT, LEAT_EACCESS (not writable, or not this user's), LEAT_ENOSPC, LEAT_EIO.
// Owns     *out is ended by leat_close or leat_close_all; NULL on failure.
//
// With LEAT_READ_ONLY a store is looked at as it is at the open, beside an owner in this or another
// process, or without one; open again to see more. Nothing in the directory is changed, none of it
// has to be writable, nor this user's. An unfinished tail is left out and stays. Records and
// committed offsets can be read; what would write is LEAT_EACCESS: sends, commits, leat_sync,
// making or deleting topics or groups, every queue. A record that the owner has deleted since is
// an error of the poll (LEAT_ENOENT, LEAT_ECORRUPT) or still read, never other bytes.
// Returns  as above, but LEAT_EBUSY; LEAT_ENOENT (no store), LEAT_EINVAL (with LEAT_CRASHABLE).
LEAT_API int leat_open(const char *dir, const leat_options *o, leat **out);

// leat_open_memory opens a store with the same behaviour that lives in memory and dies at close.
LEAT_API int leat_open_memory(const leat_options *o, leat **out);

// leat_verify reads all of the store in directory dir as LEAT_READ_ONLY does, beside an owner or
// not: every record of every segment against its checksums, seals and indexes against the records,
// each copy of the slots, the manifest. Writes a line for each segment, topic and damaged range,
// for the manifest and the slots. What cannot be read and was never known to be on disk is an
// unfinished tail: it is named, and no damage. write NULL: nothing is written.
// Returns  how many damaged ranges there are, 0: it is whole; LEAT_ENOENT (no store), LEAT_EINVAL
//          (also a later version's format), LEAT_EACCESS, LEAT_EIO (also when write ends it);
//          LEAT_EBUSY: an owner changes it too fast to be read.
// Threads  [any]
// Blocks   for as long as it takes to read it, a segment at a time into memory.
LEAT_API int leat_verify(const char *dir, const leat_options *o, leat_write_fn write, void *ctx);

// leat_rebuild_manifest makes a manifest for the store in directory dir, whose own is lost or
// damaged, from what stands in front of each segment: the topics that had a record, their names,
// ids and numbers of partitions. Their other settings become the defaults. Names of groups and
// queues, and their settings, were in the manifest only: they are gone, words of queues are left
// alone, and a queue's own topic becomes a plain one. A topic whose deletion was under way comes
// back. The old manifest is kept as manifest.lost, manifest.lost2, ...; what was done and what was
// lost is written line by line. write NULL: nothing is written.
// Returns  how many topics there are; LEAT_EEXIST (the manifest is sound: nothing is changed),
//          LEAT_EBUSY, LEAT_ENOENT (no store), LEAT_EINVAL (also a later version's format),
//          LEAT_EACCESS, LEAT_ENOSPC, LEAT_EIO.
// Threads  [any]
LEAT_API int leat_rebuild_manifest(const char *dir, const leat_options *o, leat_write_fn write,
                                   void *ctx);

// leat_shutdown makes every blocked and every later call return LEAT_ECLOSED, but closes.
// Threads  [any] [cb]
LEAT_API int leat_shutdown(leat *mq);

// leat_sync makes durable what was in a log, and what was committed, when it was called. (Settling
// a queue's messages is at LOG, or as .settle_acks says; closing the store makes it durable.)
// Returns  LEAT_EIO, LEAT_ENOSPC, LEAT_EPOISONED: not all of it.
// Threads  [any]
// Blocks   for a sync of each partition with unsynced records, shared with its senders.
LEAT_API int leat_sync(leat *mq);

typedef struct {
    uint64_t appended, read, synced;  // records: sent, returned by polls, made durable by a sync
    uint64_t published;               // on channels
    uint64_t received, acked;         // messages of queues
    uint64_t bytes, topics, segments; // of the segments, what is allocated ahead included
    uint64_t maps, fds, threads;      // of files: mappings, descriptors; threads that leat runs
    uint64_t cut_records, cut_bytes;  // of unfinished tails, by the open: whole records, bytes
    uint64_t damaged_ranges;          // left out so far, by LEAT_SKIP_ROT
    uint64_t fs_class; // LEAT_WRITE_MAPPED or LEAT_WRITE_PWRITE: how it writes; 0: in memory
} leat_stats;

// leat_get_stats tells what was done since the store was opened, and what it takes now.
// Threads  [any] [cb]
LEAT_API int leat_get_stats(leat *mq, leat_stats *s, size_t size_of_s);

// leat_dump writes the whole state as text, for tests that fail and for classes: the store and its
// clocks, topics with their partitions, groups with members and lags, producers, queues with what
// is in flight, delayed or dead (the first 32 each), who listens to what, and all that is open. The
// same state gives the same text, of lines: no addresses, times as ms from now, topics and handles
// in the order of their making, the rest by name. Bytes of names that are no text are '?'. Where
// others change it meanwhile, each part was true when it was looked at.
// Returns  LEAT_EIO (write ended it); LEAT_ENOMEM: nothing was written. What a part cannot tell,
//          for want of an index that cannot be read, is said in the text.
// Owns     what write gets lives during the call. It gets all of it at once, and is a callback.
// Threads  [any] [cb]
LEAT_API int leat_dump(leat *mq, leat_write_fn write, void *ctx);

// leat_run_due does what is due now: with LEAT_NO_THREADS that is left to this call and to those
// that block.
// Returns  how many things were done.
// Threads  [any]
// Blocks   for the syncs that are due.
LEAT_API int leat_run_due(leat *mq);

// leat_fd returns a descriptor that is readable while leat_dispatch has something to run: for event
// loops, with leat_next_due as the timeout. It is the store's: do not read or close it.
// Returns  the descriptor; LEAT_ENOMEM.
// Threads  [any]
LEAT_API int leat_fd(leat *mq);

// leat_dispatch runs the callbacks that wait to be polled for: LEAT_CALLBACKS_POLL.
// Returns  how many; 0 after timeout_ms. LEAT_EDEADLK (jumping clock: nothing can ever come).
// Threads  [any]
// Blocks   up to timeout_ms, until there is one.
LEAT_API int leat_dispatch(leat *mq, int64_t timeout_ms);

// leat_next_due tells in how many ms the next thing falls due: LEAT_FOREVER if nothing is planned.
// Threads  [any]
LEAT_API int leat_next_due(leat *mq, int64_t *in_ms);

// leat_close closes the store when nothing else of it is open, and makes its data durable.
// Returns  LEAT_EBUSY naming what is still open or held, or (LEAT_STRICT) leased: nothing is
//          closed; LEAT_EIO, LEAT_ENOSPC, LEAT_EPOISONED: closed, but not all made durable.
// Blocks   for the sync of a disk store; timeout_ms bounds nothing else in this version.
LEAT_API int leat_close(leat *mq, int64_t timeout_ms);

// leat_close_all closes every child of the store, ends every view, then closes the store. What is
// in batches that are open is given up.
// Returns  as leat_close, or how many records were given up (as leat_producer_close) and messages
//          of channels not delivered. LEAT_EBUSY: another thread is in a call of a handle that one
//          thread at a time may use; with LEAT_STRICT it names what is still leased or held,
//          reports that were not given, and batches that are open.
// Blocks   up to timeout_ms for each producer and subscription, for callbacks, and for the sync.
LEAT_API int leat_close_all(leat *mq, int64_t timeout_ms);

// ---- topic -------------------------------------------------------------------------------------

// .when_full: what happens to a partition at its retention_bytes or retention_records.
enum {
    LEAT_DELETE_OLDEST =
        1,          // the default: whole segments go, the oldest first, never the active one
    LEAT_REJECT = 2 // sends are LEAT_EFULL until records are deleted
};

typedef struct {
    uint32_t flags;              // LEAT_MUST_EXIST, LEAT_ALTER
    int32_t partitions;          // 0: 1; at most 1,024
    int64_t segment_bytes;       // 0: 64 MiB (a queue's own topic in memory: 1 MiB); 16 KiB to
                                 // 4 GiB - 4 KiB. In memory the first ones have 68 KiB, then
                                 // each about four times the one before, up to this
    int64_t retention_bytes;     // of each partition; 0: unlimited
    int64_t retention_records;   // of each partition; 0: unlimited
    int64_t segment_ms;          // a segment takes no more records when it is older; 0: 365 days,
                                 // which is also the most
    int64_t retention_ms;        // segments whose last record was sent that long ago go, also with
                                 // LEAT_REJECT; 0: never
    int32_t keep_until_consumed; // 1: none of these takes what a group that has committed or is
                                 // subscribed, or a queue, has not done with; a subscribed group
                                 // that has not committed holds back all
    int32_t when_full;
    int64_t dedup_window_ms; // how long and how many dedup ids are remembered, see below; 0 (both):
    int64_t dedup_window_count; // none; at most 365 days, and 16,777,216
    const char *announce_on; // the channel that hears each record, see leat_topic_tap; NULL: none
    uint64_t reserved[8];
} leat_topic_options;

// Retention takes whole segments from the front, the oldest first, never the active one. It looks
// when a segment is begun, at an open, and when something is that old. Time for it is what the wall
// clock read when the store was opened and the monotonic time since; if that is over 400 days ahead
// of a partition's last record, it stands at that record, and goes on from there, until the next
// open.
//
// Dedup: a record with a .dedup_id that the topic, in any partition, remembers is not stored: the
// send is 0, as safe as acks say, with the metadata of the first one and .duplicate 1. An id is
// remembered from when its record is stored until that is dedup_window_ms ago (by time as above) or
// dedup_window_count newer ones were stored, whichever is set and comes first; a repeat does not
// prolong it. A send that fails is not remembered. Two at once: one is stored, the other waits for
// it. An open finds the ids in the records, so they outlive a restart and a crash as the records
// do; hence retention leaves segments with ids of the window alone, also beyond its own bounds.
// What leat_topic_delete_records takes is remembered until the store is closed, no longer. Memory:
// some 250 bytes for each id. Without a window ids are stored and nothing else. A move to a
// dead-letter queue carries no id.
//
// LEAT_ALTER changes what a topic that exists keeps: those of retention_bytes, retention_records,
// retention_ms, segment_ms, when_full and keep_until_consumed that are not 0, all at once in each
// partition. LEAT_UNLIMITED, LEAT_FOREVER, 365 days and LEAT_ZERO take a bound away. The others are
// compared, as all are of a queue's own topic, which is as its queue says; partitions grow by
// leat_topic_grow. What is then to go goes before the call returns; what fails in that is for the
// next look. The active segment, as always, waits for an append, also if it is too old for a new
// segment_ms. If the wall clock was set since the open, and the topic went by no time until now,
// what it has counts as sent now. The change lasts as a commit with LEAT_ACKS_LOG does (leat_sync
// makes it survive power loss); it is on disk before anything goes by it.
//
// leat_topic_open opens the topic of that name, creating it if it is missing.
// Returns  LEAT_EEXIST naming the field that differs, or if a queue over another topic has the
//          name; LEAT_ENOENT (LEAT_MUST_EXIST); LEAT_EFULL at 65,535 topics; LEAT_EACCESS
//          (read-only, if it is to be made or altered); LEAT_ENOSPC, LEAT_EIO, LEAT_EPOISONED:
//          nothing changed.
// Owns     *out belongs to the store; opening again gives the same handle.
// Threads  [any]
// Blocks   with LEAT_ALTER for syncs of what it lets go.
LEAT_API int leat_topic_open(leat *mq, const char *name, const leat_topic_options *o,
                             leat_topic **out);

// leat_topic_grow gives a topic more partitions, durably. Records with a key may go to another
// partition from then on. Its groups are shared out anew at once; queues over it serve the new
// ones, too. As many as it has is nothing.
// Returns  LEAT_EINVAL (fewer, or over 1,024), LEAT_EGONE, LEAT_ENOSPC; LEAT_EIO: unknown until the
//          store is opened again.
// Threads  [any]
LEAT_API int leat_topic_grow(leat_topic *t, int32_t partitions);

typedef struct {
    const char *name;
    int64_t bytes;                              // of its segments, what is allocated ahead included
    int64_t retention_bytes, retention_records; // LEAT_UNLIMITED: none
    int64_t retention_ms, segment_ms;           // LEAT_FOREVER: never
    int32_t partitions, when_full, keep_until_consumed, pad_;
    int64_t dedup_window_ms, dedup_window_count; // 0: none
    const char *announce_on;                     // NULL: none
    uint64_t reserved[4];
} leat_topic_info;

// leat_topic_list tells which topics exist, those of queues included.
// Returns  how many; at most max are written, in the order of their creation.
// Threads  [any] [cb]
LEAT_API int leat_topic_list(leat *mq, leat_topic_info *out, size_t max, size_t size_of_one);

// leat_topic_delete deletes a topic and its records. Calls on its handles are LEAT_EGONE from then
// on; held messages stay readable.
// Returns  LEAT_ENOENT; LEAT_EBUSY if a queue stands over it.
// Threads  [any]
LEAT_API int leat_topic_delete(leat *mq, const char *name);

// A place, where an offset is asked for: leat_consumer_seek and _assign, leat_group_reset,
// leat_reader_open; and LEAT_END in leat_topic_delete_records.
#define LEAT_BEGIN (-4)
#define LEAT_END   (-5)
// The first record with a timestamp of ms (wall time, 0 to 2^60 - 1) or later; the end if there is
// none.
#define LEAT_AT(ms) LEAT_PLACE_(6, ms)
// n (0 to 2^58) before the end, at most the begin.
#define LEAT_LAST(n) LEAT_PLACE_(4, n)
// n (up to 2^58) behind where it is now, or back by -n, at most to the end or begin: of seek the
// position, of reset the committed offset. LEAT_EINVAL where it is nowhere yet, as in assign.
#define LEAT_SHIFT(n)     LEAT_PLACE_(2, n)
#define LEAT_PLACE_(k, n) ((int64_t)(n) - (int64_t)(k) * (INT64_C(1) << 60))

typedef struct {
    int64_t begin, end, durable_end; // offsets: first, next to be written, next not yet on disk
} leat_range;

// leat_topic_range tells which offsets a partition holds. In memory durable_end is what a disk
// store would have synced.
// Returns  LEAT_ERANGE (no such partition), LEAT_EGONE.
// Threads  [any] [cb]
LEAT_API int leat_topic_range(leat_topic *t, int32_t partition, leat_range *r);

// leat_topic_offset_at finds the first record whose timestamp is timestamp_ms or later. Timestamps
// need not be in order.
// Returns  1 with its offset; 0 if there is none, with the end of the partition. LEAT_ERANGE (no
//          such partition), LEAT_EGONE.
// Threads  [any] [cb]
LEAT_API int leat_topic_offset_at(leat_topic *t, int32_t partition, int64_t timestamp_ms,
                                  int64_t *offset);

// leat_topic_delete_records deletes the records of a partition below offset `before` (LEAT_END:
// all). What is deleted is read no more; held messages stay readable. Offsets are not used again.
// Returns  LEAT_ERANGE (no such partition, or beyond the end), LEAT_EGONE, LEAT_EIO, LEAT_ENOSPC.
// Threads  [any]
LEAT_API int leat_topic_delete_records(leat_topic *t, int32_t partition, int64_t before);

// ---- producer ----------------------------------------------------------------------------------

// leat_delivery_fn is told what became of a record. Called once for each record that was accepted
// with it, in offset order within a partition, by one thread at a time. r is a view for the call.
typedef void (*leat_delivery_fn)(leat_producer *p, const leat_report *r, void *ctx);

// .partitioner: where a record goes that names no partition (.to_partition).
enum {
    LEAT_BY_KEY = 1,      // by the key's murmur2 hash as Kafka's Java client does, and an empty key
                          // is a key; a null one as LEAT_STICKY. The default.
    LEAT_ROUND_ROBIN = 2, // the topic's partitions in turn, over all producers: keys do not count
    LEAT_STICKY = 3,     // one until it got .batch_bytes, then another by chance: keys do not count
    LEAT_BY_FUNCTION = 4 // .partition says
};
// leat_partitioner_fn returns where r goes, 0 to partitions - 1; anything else makes the send
// LEAT_ERANGE. A callback, once for each record that is sound and names no partition, on each
// sending thread, several at once. Those of a key stay together only if it is the same each time.
typedef int32_t (*leat_partitioner_fn)(const leat_record *r, int32_t partitions, void *ctx);

typedef struct {
    const char *name;              // for traces
    int32_t acks;                  // 0: the store's
    int32_t callbacks;             // 0: the store's
    int32_t partitioner, pad_;     // 0: LEAT_BY_KEY
    int64_t linger_ms;             // an asynchronous record waits so long for others; 0: until the
                                   // service thread is free, about 0.1 ms beside busy senders, or
                                   // somebody looks where there is none
    int64_t max_block_ms;          // so long leat_send_async waits for room; 0: 60 s; LEAT_ZERO
    int64_t delivery_timeout_ms;   // an asynchronous record is tried again so long; 0: 120 s;
                                   // LEAT_ZERO: once; LEAT_FOREVER
    int64_t retry_backoff_ms;      // before the first time again, then twice that, up to 1 s or it;
                                   // 0: 100 ms
    int64_t batch_bytes;           // of a partition's records that are sent together, as they are
                                   // stored; 0: 16 KiB; at most 64 MiB
    int64_t buffer_memory_bytes;   // accepted and not in the log; 0: 32 MiB; LEAT_UNLIMITED
    int64_t reports_max;           // accepted with a callback that was not called; 0: 1,000,000;
                                   // LEAT_UNLIMITED
    leat_partitioner_fn partition; // with LEAT_BY_FUNCTION, and only then
    void *partition_ctx;
    uint64_t reserved[8];
} leat_producer_options;

// leat_producer_open opens a producer, which sends to any topic of the store.
// Owns     *out is ended by leat_producer_close.
// Threads  [any], the handle too
LEAT_API int leat_producer_open(leat *mq, const leat_producer_options *o, leat_producer **out);

// leat_producer_close flushes for up to timeout_ms, also what callbacks send meanwhile, gives up
// what is left, gives every report that was not given, and closes the producer, which no other
// thread uses any more. What callbacks send asynchronously by it from then on is LEAT_ECLOSED.
// Returns  0, or how many records this call gave up: not stored (LEAT_ETIMEDOUT; LEAT_ECLOSED after
//          a shutdown or crash), or unknown. Their reports name the error. LEAT_EBUSY: a leat_batch
//          of it is open, nothing is closed.
// Blocks   up to timeout_ms, and for callbacks.
LEAT_API int leat_producer_close(leat_producer *p, int64_t timeout_ms);

// leat_send appends r to topic t and returns when it is as safe as the acks level says. It never
// retries.
// Returns  0 with *md (which may be NULL) filled. Certainly not stored: LEAT_ETOOBIG, LEAT_ERANGE
//          (no such partition, a partition function's too), LEAT_EGONE, LEAT_EFULL (memory store,
//          LEAT_REJECT), LEAT_ENOSPC, LEAT_EPOISONED. LEAT_EIO: with LEAT_ACKS_DISK unknown, *md
//          says where it may be.
// Threads  [any] [cb]
// Blocks   with LEAT_ACKS_DISK for a sync, shared with the other senders of the partition; while
//          another thread stores a record with the same dedup id; behind asynchronous records of p
//          for the partition until they are in the log, or, where there is no room for them, given
//          up: .delivery_timeout_ms. In a callback that is LEAT_EFULL.
LEAT_API int leat_send(leat_producer *p, leat_topic *t, const leat_record *r, leat_metadata *md);

// leat_send_many sends n records, each to the partition that leat_send would choose. Those of one
// partition are a batch: in order, with offsets in a row, stored as a whole or not at all, also
// after a crash; with LEAT_ACKS_DISK one sync for each partition. Repeats by their dedup id, also
// of a record in the same call, are left out of the batches. n 0 is nothing.
// Returns  as leat_send, for any of the records; LEAT_ETOOBIG also for a batch over 64 MiB as it is
//          stored (each record takes 33 to 40 bytes beside key, value and headers; with a dedup id
//          that and 14 more). md (an array of n, or NULL) says what is stored: offset -1 is
//          certainly not. A wrong record, a limit or LEAT_ENOMEM: nothing. Else the batches of
//          lower partitions may be, the one that failed and those behind it not; LEAT_EIO with
//          LEAT_ACKS_DISK: unknown for those with an offset.
// Threads  [any] [cb]
// Blocks   with LEAT_ACKS_DISK for the syncs, shared with other senders.
LEAT_API int leat_send_many(leat_producer *p, leat_topic *t, const leat_record *r, size_t n,
                            leat_metadata *md);

// leat_send_if is leat_send of r to that partition (from 0; r names it or none), if the partition
// ends at expected_end, as r's offset will then be. Of several that expect the same end one wins.
// Returns  as leat_send. LEAT_ECONFLICT: nothing was stored, and md->offset is the end that it has.
//          The end need not be durable yet. LEAT_EINVAL also if r names another partition. A
//          repeat by its dedup id is 0, wherever the partition ends.
// Threads  [any] [cb]
// Blocks   as leat_send.
LEAT_API int leat_send_if(leat_producer *p, leat_topic *t, int32_t partition, int64_t expected_end,
                          const leat_record *r, leat_metadata *md);

// leat_send_async accepts a copy of r, to be sent in order with the partition's other records of p,
// and returns. Then fn, unless it is NULL, is called once with what became of it, on the thread
// that .callbacks says. Records of a partition are sent together: all of a batch is stored, or
// nothing. What fails for want of room or by chance is tried again until .delivery_timeout_ms, the
// records behind it wait. One with a dedup id is sent alone, where the topic has a dedup window.
// Returns  0: accepted. Certainly not sent: LEAT_EFULL after .max_block_ms (in a callback at once:
//          .buffer_memory_bytes or .reports_max), and as leat_send of wrong records. With
//          LEAT_ACKS_NONE fn must be NULL: nothing is told, and nothing tried again.
// Threads  [any] [cb]
// Blocks   up to .max_block_ms, first come first served, for room; without threads for the work.
LEAT_API int leat_send_async(leat_producer *p, leat_topic *t, const leat_record *r,
                             leat_delivery_fn fn, void *ctx);

// leat_send_future is leat_send_async with a report that is waited for.
// Owns     *f is ended by leat_future_release; it may outlive p, but not the store.
// Threads  [any] [cb], the handle too
LEAT_API int leat_send_future(leat_producer *p, leat_topic *t, const leat_record *r,
                              leat_future **f);
// leat_future_wait waits until it is known what became of the record.
// Returns  0 with *out, which may be NULL: its error may be one; LEAT_ETIMEDOUT: not yet.
// Owns     what *out points to is valid until leat_future_release.
// Threads  [any], several at once
// Blocks   up to timeout_ms. It does not make the record go sooner: leat_flush does.
LEAT_API int leat_future_wait(leat_future *f, int64_t timeout_ms, leat_report *out);
// leat_future_release ends a future that nobody waits in, at any time. The record is sent all the
// same.
// Threads  [any] [cb]
LEAT_API int leat_future_release(leat_future *f);

// leat_flush sends at once what was accepted before it, and waits until all of it has ended and its
// reports are given. With LEAT_CALLBACKS_POLL it gives them itself, others' of this producer too.
// Returns  how many records have not ended after timeout_ms, 0: none. Later records do not count.
// Threads  [any]
// Blocks   up to timeout_ms; 0: does what can be done now.
LEAT_API int leat_flush(leat_producer *p, int64_t timeout_ms);

// leat_producer_poll gives the reports that wait, with LEAT_CALLBACKS_POLL.
// Returns  how many; 0 after timeout_ms; LEAT_EINVAL (they come on a thread).
// Threads  [any]
// Blocks   up to timeout_ms, until there is one.
LEAT_API int leat_producer_poll(leat_producer *p, int64_t timeout_ms);

// leat_producer_purge gives up what was accepted and is not in the log nor on its way into it: the
// reports are LEAT_EPURGED, not stored.
// Returns  how many records.
// Threads  [any] [cb]
LEAT_API int leat_producer_purge(leat_producer *p);

typedef struct {
    uint64_t accepted, stored, not_stored, unknown; // records; accepted: the sum, and in_flight
    uint64_t in_flight, in_flight_bytes;            // bytes: of what is not in the log
    uint64_t batches, retries, duplicates;
    uint64_t reports_waiting; // accepted with a callback that was not called
} leat_producer_stats;

// leat_producer_get_stats counts the asynchronous records since p was opened.
// Threads  [any] [cb]
LEAT_API int leat_producer_get_stats(leat_producer *p, leat_producer_stats *s, size_t size_of_s);

// leat_batch_open begins a batch for one partition (counted from 0), to be filled by hand.
// Returns  LEAT_ERANGE (no such partition), LEAT_EGONE.
// Owns     *out is ended by leat_batch_send or leat_batch_discard, before its producer.
// Threads  [any] [cb]; the handle [one]
LEAT_API int leat_batch_open(leat_producer *p, leat_topic *t, int32_t partition, leat_batch **out);
// leat_batch_append copies r into the batch.
// Returns  LEAT_EFULL: over .batch_bytes, and from then on it takes no more; a first record of any
//          size fits. LEAT_EINVAL (another partition; a dedup id, where the topic has a dedup
//          window), and as leat_send of wrong records.
// Threads  [one] [cb]
LEAT_API int leat_batch_append(leat_batch *b, const leat_record *r);
// leat_batch_send sends the batch as leat_send_async does, and ends b, whatever it returns. fn,
// which may be NULL, is called once for all of it: its metadata is of the first record, the others
// follow. An empty batch is nothing, and fn is not called.
// Returns  as leat_send_async.
// Threads  [one] [cb]
LEAT_API int leat_batch_send(leat_batch *b, leat_delivery_fn fn, void *ctx);
// leat_batch_discard ends b and sends nothing, also after leat_shutdown.
// Threads  [one] [cb]
LEAT_API int leat_batch_discard(leat_batch *b);

// ---- consumer ----------------------------------------------------------------------------------

// .start: where to begin in a partition without a committed offset. Unlike Kafka the default is
// the earliest, so that nothing is silently skipped.
enum { LEAT_EARLIEST = 1, LEAT_LATEST = 2, LEAT_NONE = 3 };
// .isolation: whether poll returns what is in the log, or only what no power cut can take back.
enum { LEAT_READ_LOG = 1, LEAT_READ_DURABLE = 2 };
// .assignor: how the members of a group share the partitions. Range: each topic by itself, in runs
// (Kafka's rule); round robin: all partitions of all topics in turn; sticky: even, and what a
// member has it keeps as far as that allows.
enum { LEAT_ASSIGN_RANGE = 1, LEAT_ASSIGN_ROUND_ROBIN = 2, LEAT_ASSIGN_STICKY = 3 };

typedef struct {
    const char *topic;
    int64_t offset;
    int32_t partition, pad_;
} leat_position;

// What happens to the partitions of a consumer, told in the order in which it happens.
enum {
    LEAT_EV_ASSIGNED = 1, // it is c's; reads from offset
    LEAT_EV_REVOKED = 2,  // another member is to have it; until it has, c's commits of it count
    LEAT_EV_LOST = 3,     // it is c's no more, and commits of it are fenced: c did not poll for
                          // .max_poll_interval_ms; or its topic, of a pattern, was deleted
    LEAT_EV_END = 4,      // with .report_end: a poll found nothing at offset, where it ends now
    LEAT_EV_RESET = 5,    // what was committed is not there: reads from offset, as .start says
    LEAT_EV_GAP = 6       // goes on at offset: what stood before was deleted before c read it
};
typedef struct {
    int32_t kind, partition;
    const char *topic;
    int64_t offset; // next to read
    uint64_t reserved[2];
} leat_event;
// leat_event_fn is called inside leat_poll, leat_consumer_close and leat_consumer_subscribe of c.
// Calls of c that are marked [event] may be made in it.
typedef void (*leat_event_fn)(leat_consumer *c, const leat_event *e, void *ctx);

typedef struct {
    const char *name;             // for traces and leat_group_lag
    int32_t start;                // LEAT_EARLIEST, LEAT_LATEST, LEAT_NONE (poll is LEAT_ERANGE)
    int32_t isolation;            // 0: LEAT_READ_LOG
    int32_t assignor;             // 0: the one of the members that are in; if there are none, range
    int32_t report_end;           // 1: LEAT_EV_END is told
    int64_t fetch_max_wait_ms;    // how long a poll waits for .fetch_min_bytes; 0: its timeout;
                                  // LEAT_ZERO: it takes what is there
    int64_t max_poll_interval_ms; // a member that does not poll for so long is out of the group
                                  // until it does; 0: never
    int64_t auto_commit_ms;       // a poll commits what earlier ones returned, so often; 0: off
    int32_t commit_acks;          // 0: LEAT_ACKS_LOG; LEAT_ACKS_DISK: commits survive power loss
    int32_t pad2_;
    int64_t fetch_min_bytes; // 0: 1. Bytes of records as they stand in the log
    int64_t fetch_max_bytes; // of a poll; 0: 50 MiB. The first record comes whatever its size
    int32_t max_poll_records, pad_; // 0: 500; at most 10,000
    leat_event_fn on_event;         // NULL: leat_consumer_event
    void *ctx;
    uint64_t reserved[8];
} leat_consumer_options;

// leat_consumer_open opens a consumer. With a group it may subscribe and commit, and shares the
// partitions with the group's other members; group NULL only reads what it is assigned.
// Returns  LEAT_EFULL at 65,535 groups, LEAT_ENOSPC, LEAT_EIO.
// Owns     *out is ended by leat_consumer_close.
// Threads  [any]; the handle [one]
LEAT_API int leat_consumer_open(leat *mq, const char *group, const leat_consumer_options *o,
                                leat_consumer **out);

// leat_consumer_close leaves the group, gives up the partitions and ends all views of c. It commits
// what poll has returned if .auto_commit_ms is set, and nothing otherwise.
// Returns  LEAT_EBUSY while another thread is in a call of c.
LEAT_API int leat_consumer_close(leat_consumer *c);

// leat_consumer_subscribe adds a topic to what c reads as a member of its group, or, if the text
// has one of * ? [ \ in it, all topics that match this pattern (as a channel's, see
// leat_channel_subscribe), also those that are created later; NULL drops all. A topic that belongs
// to a queue is read only by its name; one that is deleted drops out of a pattern. The partitions
// are shared out at once among the members, by their .assignor; what another member owns comes over
// in that member's next poll. Members come in the order of their names, then those without one.
// Returns  LEAT_ENOENT (no topic of that name: subscribing never creates), LEAT_EINVAL (no group;
//          assigned by hand), LEAT_EEXIST (the group's members have another .assignor).
LEAT_API int leat_consumer_subscribe(leat_consumer *c, const char *topic_or_pattern);

// leat_consumer_assign makes c read exactly these n partitions, from their offsets or places
// (LEAT_BEGIN to LEAT_LAST), outside of any sharing; n 0 drops all.
// Returns  LEAT_ENOENT, LEAT_ERANGE (partition or offset does not exist), LEAT_EINVAL (subscribed).
LEAT_API int leat_consumer_assign(leat_consumer *c, const leat_position *p, size_t n);

// leat_poll gets the next messages, in offset order within each partition, fair over partitions.
// Returns  how many; 0 after timeout_ms. LEAT_EGONE (a topic was deleted), LEAT_ERANGE
//          (LEAT_NONE and nothing committed), LEAT_EBUSY (a second thread), LEAT_EDEADLK (jumping
//          clock: nothing can ever come).
// Owns     (*m)[0 .. result-1] are views, valid until the next poll on c.
// Blocks   up to timeout_ms, until there are .fetch_min_bytes, or a wake-up; then takes what there
//          is. Not while events wait for a leat_consumer_event that was called before.
LEAT_API int leat_poll(leat_consumer *c, int64_t timeout_ms, const leat_message **m);

// leat_consumer_wakeup makes one poll of c return 0, with no message: the one that is blocked, else
// the next one, which takes no message then even if there are some (they stay for the one after
// it). Wake-ups that no poll has ended for count as one.
// Threads  [any] [cb]
LEAT_API int leat_consumer_wakeup(leat_consumer *c);

// leat_consumer_fd returns a descriptor that is readable while leat_poll(c, 0, ...) may return
// something, for event loops: level-triggered; at times for nothing, never silent while there is
// something. A poll that finds all there is makes it unreadable. It is the consumer's: do not read
// or close it.
// Returns  the descriptor, the same each time; LEAT_ENOMEM.
// Threads  [one]
LEAT_API int leat_consumer_fd(leat_consumer *c);

// leat_commit stores, for each partition that c owns, the position after the last message that
// poll returned. A new member of the group goes on from there, also after kill -9; with
// .commit_acks LEAT_ACKS_DISK after power loss, and then what was read is durable, too.
// Returns  LEAT_EFENCED if a partition was left out because c does not own it any more,
//          LEAT_EINVAL (no group), LEAT_ENOSPC, LEAT_EIO (with LEAT_ACKS_DISK: whether it is
//          durable is unknown), LEAT_EPOISONED (LEAT_ACKS_DISK, an earlier sync has failed).
// Threads  [one] [event]
// Blocks   with LEAT_ACKS_DISK for the syncs, shared with others.
LEAT_API int leat_commit(leat_consumer *c);

// leat_commit_offsets stores these positions: of each the next offset to read, at most the end.
// Returns  as leat_commit, what is not c's left out; LEAT_ENOENT, LEAT_ERANGE: nothing was stored.
// Threads  [one] [event]
LEAT_API int leat_commit_offsets(leat_consumer *c, const leat_position *p, size_t n);

// leat_commit_fn is told what became of an asynchronous commit: rc as leat_commit would have
// returned it.
typedef void (*leat_commit_fn)(leat_consumer *c, int rc, void *ctx);
// leat_commit_async is leat_commit that does not wait for syncs; those are done by leat's own
// thread, or by whoever looks. fn, which may be NULL, is called once, in the order of the commits,
// inside a later leat_poll, leat_commit, leat_commit_offsets or leat_consumer_close of c.
// Returns  LEAT_EINVAL (no group), LEAT_ENOMEM: fn is not called.
// Threads  [one] [event]
LEAT_API int leat_commit_async(leat_consumer *c, leat_commit_fn fn, void *ctx);

// leat_consumer_positions lists the partitions of c: next offset to read, or (committed != 0) the
// committed offset, -1 if there is none.
// Returns  how many partitions c has; at most max are written.
// Threads  [one] [event]
LEAT_API int leat_consumer_positions(leat_consumer *c, int committed, leat_position *out,
                                     size_t max);

// leat_consumer_seek sets the next offset to read: in begin..end, or a place (LEAT_BEGIN to
// LEAT_SHIFT).
// Returns  LEAT_ENOENT (not a partition of c), LEAT_ERANGE, LEAT_EIO.
// Threads  [one] [event]
LEAT_API int leat_consumer_seek(leat_consumer *c, const char *topic, int32_t partition,
                                int64_t offset);

// leat_consumer_event gets the next event of a consumer without .on_event; the last 1,024 are kept.
// From its first call on, a poll that finds partitions revoked returns 0 with their events waiting
// here, and they stay c's, to be committed, until the poll after that. Without it, and without
// .on_event, they pass on at once.
// Returns  1, or 0: nothing has happened.
// Owns     e->topic lives as long as the store.
// Threads  [one]
LEAT_API int leat_consumer_event(leat_consumer *c, leat_event *e);

// leat_consumer_explain writes, line by line, what c has and why a poll returns nothing from it
// now: no partition, paused, at the end, not durable, expelled, waiting for bytes.
// Returns  0; LEAT_EIO: write ended it.
// Threads  [one] [event]
LEAT_API int leat_consumer_explain(leat_consumer *c, leat_write_fn write, void *ctx);

// leat_consumer_pause makes poll leave a partition of c out (on != 0) until it is told otherwise
// (0) or c has given it up; topic NULL: all that c has now, whatever `partition` says. Its position
// stays, and may be sought.
// Returns  LEAT_ENOENT (not a partition of c).
// Threads  [one] [event]
LEAT_API int leat_consumer_pause(leat_consumer *c, const char *topic, int32_t partition, int on);

// What a handler says of a message: it is done; it is to be given to the handler again; it is given
// up. Anything else is LEAT_RETRY.
enum { LEAT_DONE = 0, LEAT_RETRY = 1, LEAT_DEAD = 2 };
// Called for one message of a partition at a time, in offset order; for several partitions at once
// with several threads. The message and its bytes live during the call: leat_message_hold keeps
// them. *retry_delay_ms is how long LEAT_RETRY waits; set it to wait otherwise (0: not at all).
typedef int (*leat_handler_fn)(leat_workers *w, const leat_message *m, int64_t *retry_delay_ms,
                               void *ctx);

typedef struct {
    int32_t threads;         // 0: 1; at most 256
    int32_t auto_extend;     // of queues: leases are renewed while their handler runs, for at most
                             // so many visibility timeouts; 0: not
    int64_t retry_ms;        // before a message is tried again; 0: 1 s; LEAT_ZERO: at once. Of
                             // consumers it doubles with each try of a message, up to 60 s (or
                             // retry_ms); of queues 0 is the backoff list, where there is one
    const char *dead_letter; // of consumers: an existing topic, for what is LEAT_DEAD; NULL: it is
                             // forgotten
    const char *name;        // for errors that name what is open
    void (*on_end)(void *ctx); // runs once, last: no handler runs after it; free ctx there
    uint64_t reserved[8];
} leat_worker_options;

// leat_consumer_start gives the messages of c to fn, on threads that poll. A message that is done
// is committed, so c needs a group; a partition whose message waits to be tried again holds back
// itself alone. LEAT_DEAD appends the message to .dead_letter, durably, with the reason "handler"
// (see leat_message_header), then commits; if that fails, it is tried again, in place. A partition
// that another member is to have passes on when the handler that runs has returned and its result
// is committed; what was not begun is the other's. Errors of polls and commits go to .log, and are
// tried again.
// Until leat_workers_stop every call on c but leat_consumer_wakeup is LEAT_EBUSY; c goes on where
// it stands, and stands behind what was done afterwards.
// Returns  LEAT_EINVAL (no group; LEAT_NO_THREADS: poll instead), LEAT_ENOENT (the dead-letter
//          topic), LEAT_ENOMEM (also: no more threads).
// Owns     *out is ended by leat_workers_stop. Handlers are callbacks.
// Threads  [one]
LEAT_API int leat_consumer_start(leat_consumer *c, leat_handler_fn fn, void *ctx,
                                 const leat_worker_options *o, leat_workers **out);

// leat_workers_stop stops fetching, gives handlers up to timeout_ms for what was fetched, drops the
// rest, which the next member of the group reads, and ends w: on return no handler runs and none
// will. Inside any callback it does not wait: it returns 0 at once, no handler begins any more, and
// .on_end tells when the last one is over.
// Returns  LEAT_ETIMEDOUT while a handler still runs (none begins any more; w lives, call again),
//          LEAT_EBUSY (another thread is in this call).
// Threads  [any] [cb]
// Blocks   up to timeout_ms, and for a commit that is under way.
LEAT_API int leat_workers_stop(leat_workers *w, int64_t timeout_ms);

typedef struct {
    const char *group, *topic;
    const char *owner;           // name of the member that reads it; NULL: none
    int64_t committed, end, lag; // committed -1: nothing; lag: records from committed to the end
    int64_t lag_bytes;           // of these in the log, with all that is stored beside them
    int64_t lag_ms; // how long ago the first of these was written, by its timestamp; 0: none
    int32_t partition, generation;
    uint64_t reserved[2];
} leat_lag;

// leat_group_lag tells how far a group (NULL: every one) is behind, for each partition that it has
// committed in or a member is subscribed to.
// Returns  how many there are, at most max are written; LEAT_ENOENT (no such group), LEAT_EIO.
// Threads  [any] [cb]
LEAT_API int leat_group_lag(leat *mq, const char *group, leat_lag *out, size_t max,
                            size_t size_of_one);

// leat_group_list lists the names of the groups that exist, in no order.
// Returns  how many; at most max are written.
// Threads  [any] [cb]
LEAT_API int leat_group_list(leat *mq, const char **names, size_t max);

// leat_group_reset sets the committed offsets of a group in n partitions, each to an offset in
// begin..end or a place (LEAT_BEGIN to LEAT_SHIFT). No member may be in the group, nor a consumer
// of it that is assigned partitions by hand. It lasts as a commit with LEAT_ACKS_LOG does.
// Returns  LEAT_EBUSY (names a member), LEAT_ENOENT (no such group or topic), LEAT_ERANGE,
//          LEAT_EINVAL (also a partition given twice, a shift of what was not committed),
//          LEAT_EACCESS (read-only), LEAT_EFULL, LEAT_ENOSPC, LEAT_EIO: nothing was set, unless
//          the disk fails the undoing, too.
// Threads  [any]
LEAT_API int leat_group_reset(leat *mq, const char *group, const leat_position *p, size_t n);

// leat_group_delete deletes a group and what it has committed; a new one of the same name begins as
// any other. Retention waits for it no more.
// Returns  LEAT_ENOENT, LEAT_EBUSY (names a consumer of it that is open), LEAT_EACCESS (read-only),
//          LEAT_ENOSPC; LEAT_EIO, LEAT_EPOISONED: it may come back after a power cut.
// Threads  [any]
// Blocks   for a sync.
LEAT_API int leat_group_delete(leat *mq, const char *group);

// leat_reader_open makes a reader of one partition, for tools, tests and replays: it stands in
// front of an offset in begin..end, or at a place (LEAT_BEGIN to LEAT_LAST), and is in no group.
// Returns  LEAT_ERANGE (no such partition or offset), LEAT_EGONE, LEAT_EIO.
// Owns     *out is ended by leat_reader_close.
// Threads  [any]; the handle [one]
LEAT_API int leat_reader_open(leat_topic *t, int32_t partition, int64_t offset, leat_reader **out);

// leat_reader_next reads the record behind the place where r stands, or (back != 0) the one in
// front of it, and moves past it. So at LEAT_END the first step back reads the last record, and a
// step on after a step back reads the same one again. Gaps and what was deleted are stepped over.
// Returns  1, or 0 at the end or begin, with *m zeroed: what is appended later is read then.
//          LEAT_ECORRUPT: a damaged record, which is told once and moved past (with LEAT_SKIP_ROT
//          it is left out); LEAT_EGONE; LEAT_EIO, LEAT_EFULL (2^20 views): r has not moved.
// Owns     *m is a view, valid until the next call on r; leat_message_hold keeps it longer.
// Threads  [one]
LEAT_API int leat_reader_next(leat_reader *r, int back, leat_message *m);

// leat_reader_close ends a reader and the view of its last message.
// Returns  LEAT_EBUSY while another thread is in a call of r.
LEAT_API int leat_reader_close(leat_reader *r);

// ---- queue -------------------------------------------------------------------------------------

enum { LEAT_UNCOUNTED = 1u }; // nack: the delivery does not count
#define LEAT_BACKOFF (-3)     // nack: after a delay as the queue's backoff list says

typedef struct {
    uint32_t flags;                // LEAT_MUST_EXIST, LEAT_ALTER
    int32_t acks;                  // of sends; 0: the store's
    int32_t deliveries_max;        // 0: unlimited; at most 4,095
    int32_t partitions;            // of its own topic; 0: 1
    int64_t visibility_timeout_ms; // 0: 30 s; at most 366 days; from 10 s on a lease may last up to
                                   // 10 ms longer on the system clock
    int64_t delay_ms;              // no message is handed out before it is so old, by its timestamp
                                   // (one yet to come counts as now) and in the log's order; its
                                   // own .delay_ms goes first; at most 366 days; 0: none, or as it
                                   // is; LEAT_ZERO: none
    int64_t in_flight_max;         // 0: 1,000,000; at most 2^24 - 1
    const char *topic;             // NULL: its own, of the queue's name; else one that exists
    const char *dead_letter;       // a queue, created if missing; NULL: the dead stay in place
    int32_t settle_acks;           // 0: LEAT_ACKS_LOG; LEAT_ACKS_DISK: ack, nack and the end of the
                                   // dead survive power loss
    int32_t backoff_count;         // of the next: 1 to 16; 0: no list, or as it is; LEAT_ZERO: none
    const int64_t *backoff_ms;     // how long a message waits after its n-th delivery, the last one
                                   // again and again: 0 to 366 days. For nack with LEAT_BACKOFF,
                                   // and for leases that run out; copied
    int64_t retention_ms; // a message that is older, by its timestamp, is expired, unless it is
                          // leased; 0: none, or as it is; LEAT_FOREVER: none
    int32_t start;        // of one that is made over an existing topic: LEAT_LATEST: sees what is
                          // sent from now on; 0: LEAT_EARLIEST
    int32_t dead_letter_expired; // 1: what expires goes to the dead-letter queue, with leat.reason
                                 // "expired"; 0: it is gone, or as it is; LEAT_ZERO: it is gone
    int64_t dedup_window_ms; // of its own topic, as in leat_topic_options: a repeat of a .dedup_id
                             // is not stored, whatever became of the first one, also a purge.
                             // Altered: for what is sent from then on; 0: off, or as it is;
                             // LEAT_ZERO: off
    uint64_t reserved[8];
} leat_queue_options;

// leat_queue_open opens the queue of that name, creating it if it is missing. A queue over a topic
// sees every record of it, also those sent before, and disturbs neither groups nor other queues.
// Returns  LEAT_EEXIST naming the field that differs, or if a plain topic has the name;
//          LEAT_ENOENT (.topic, or LEAT_MUST_EXIST); LEAT_EINVAL (a cycle of dead-letter queues;
//          .dedup_window_ms of a queue over another topic); LEAT_EFULL at 64 queues a topic or
//          65,535 queues; LEAT_ENOSPC, LEAT_EIO.
// Owns     *out is ended by leat_queue_close; opening again gives the same handle, closed as often.
// Threads  [any], the handle too
LEAT_API int leat_queue_open(leat *mq, const char *name, const leat_queue_options *o,
                             leat_queue **out);

// leat_queue_close closes a queue. Leases go on until they end or the store closes.
// Returns  LEAT_EBUSY while views are out (with their number) or another thread waits in it.
LEAT_API int leat_queue_close(leat_queue *q);

// leat_queue_list tells the names of all queues.
// Returns  how many there are, at most max are written.
// Threads  [any] [cb]
LEAT_API int leat_queue_list(leat *mq, const char **names, size_t max);

// leat_queue_delete deletes a queue, with the topic if that is its own; a crash leaves it whole or
// gone.
// Returns  LEAT_ENOENT; LEAT_EBUSY while it is open, has views out, is the dead-letter queue of
//          another one, or another one stands over its topic; LEAT_ENOSPC; LEAT_EIO (if by a sync:
//          it is gone here, unknown whether durably).
// Threads  [any]
LEAT_API int leat_queue_delete(leat *mq, const char *name);

// leat_queue_pause makes receives give nothing (on != 0) until it is told otherwise (0), also after
// another open; they wait, sends and settling go on.
// Returns  LEAT_ENOSPC, LEAT_EIO: nothing changed.
// Threads  [any]
LEAT_API int leat_queue_pause(leat_queue *q, int on);

// leat_queue_purge ends every message that is in the queue now, whatever its state: receipts are
// LEAT_ESTALE, views stay. A queue with a topic of its own forgets the dedup ids that were stored
// until now: one that was used may be used again. It is as durable as a settling, each partition by
// itself. A message whose copy is just being moved to the dead-letter queue arrives there. purged
// (may be NULL): how many.
// Returns  LEAT_ENOSPC, LEAT_EIO, LEAT_EFULL: some partitions are not purged. With .settle_acks
//          LEAT_ACKS_DISK LEAT_EIO also if the sync fails: purged, but unknown whether durably.
// Threads  [any]
// Blocks   with LEAT_ACKS_DISK for a sync.
LEAT_API int leat_queue_purge(leat_queue *q, uint64_t *purged);

enum { LEAT_AVAILABLE = 1, LEAT_DELAYED = 2, LEAT_LEASED = 3, LEAT_IS_DEAD = 4 };

// A place to peek from. An offset alone is one of partition 0.
#define LEAT_PEEK(partition, offset) ((int64_t)(partition) * (INT64_C(1) << 53) + (int64_t)(offset))

// leat_queue_peek copies messages in a state without handing them out: by partition and offset,
// from the offset `from` on, in partition 0 or as LEAT_PEEK says. To see more, go on from
// LEAT_PEEK(m.partition, m.offset + 1) of the last one. LEAT_IS_DEAD: those that are kept in place;
// in a dead-letter queue they are available. Nothing counts as a delivery; m.deliveries is how
// often it was delivered.
// Returns  how many; 0: there are no more. LEAT_EFULL at 2^20 views, LEAT_EIO, LEAT_ECORRUPT.
// Owns     each message has a view, ended by leat_message_release. There is no receipt: settling
//          one is LEAT_ESTALE.
// Threads  [any] [cb]
LEAT_API int leat_queue_peek(leat_queue *q, int state, int64_t from, leat_message *m, size_t max);

// leat_queue_redrive brings the dead of a queue back to work, oldest first in each partition, at
// most `limit` of them (0: all that are there now). In a dead-letter queue that is what is
// available: moved to `to`, or with NULL each to the queue that its header leat.queue names, where
// it is a new message of the same group without these headers, sent now, durable there before it is
// gone here: a crash may leave both. In a queue that keeps its dead they become available again in
// place (to NULL or that queue itself), or are moved to another one. In place one of a group stands
// by offset before the others that are there, which went on without it, but waits for the one whose
// turn it is if that is in flight or delayed: one of a group at a time. Deliveries count from 0.
// moved (may be NULL): how many.
// Returns  LEAT_ENOENT naming a queue that they came from and that is gone: they stay, the others
//          were moved; LEAT_EINVAL (a dead-letter queue to itself); as leat_send, as
//          leat_queue_ack: the rest stays.
// Threads  [any]
// Blocks   for syncs.
LEAT_API int leat_queue_redrive(leat_queue *dead, leat_queue *to, uint64_t limit, uint64_t *moved);

// leat_queue_explain writes what became of one message, and if it is still there, why it is not
// handed out now, as a few lines for people.
// Returns  LEAT_ERANGE (no such partition), LEAT_EIO (also: write ended it), LEAT_ECORRUPT.
// Threads  [any] [cb]
LEAT_API int leat_queue_explain(leat_queue *q, int32_t partition, int64_t offset,
                                leat_write_fn write, void *ctx);

// leat_queue_topic returns the topic under a queue, NULL for NULL.
LEAT_API leat_topic *leat_queue_topic(leat_queue *q);

// leat_queue_send sends r to the queue's topic, as leat_send.
// Threads  [any] [cb]
LEAT_API int leat_queue_send(leat_queue *q, const leat_record *r, leat_metadata *md);

// leat_queue_receive leases up to max messages for the visibility timeout: no other receive gets
// them until they are settled or the time is over. The highest priority goes first, then the lowest
// offset, in each partition by itself: partitions take turns. The delivery is counted before it is
// handed out, so a message that kills its receiver is dead after deliveries_max tries.
// Returns  how many, at once with what is there; 0 after timeout_ms. LEAT_EFULL (in_flight_max, or
//          2^20 views of q are out), LEAT_EGONE, LEAT_ENOSPC, LEAT_EIO; LEAT_EDEADLK (jumping
//          clock: nothing can ever come).
// Owns     each message has a view, ended by settling or leat_message_release.
// Threads  [any]
// Blocks   up to timeout_ms; woken in order of arrival by a send, a nack, the end of a lease or
//          delay, or the turn of a group.
LEAT_API int leat_queue_receive(leat_queue *q, int64_t timeout_ms, leat_message *m, size_t max);

typedef struct {
    int64_t visibility_timeout_ms; // of this receive; 0: the queue's; at most 366 days
    const char *who;               // for explain; NULL: nobody. 63 bytes are kept, of at most 255
                                   // names that have messages of a queue at a time
    uint64_t reserved[2];
} leat_receive_options;

// leat_queue_receive_with is leat_queue_receive with a visibility timeout and a name of its own.
LEAT_API int leat_queue_receive_with(leat_queue *q, int64_t timeout_ms,
                                     const leat_receive_options *o, leat_message *m, size_t max);

// leat_queue_wakeup makes every receive that waits return 0, with nothing taken. Nothing is left
// for receives that begin later.
// Threads  [any] [cb]
LEAT_API int leat_queue_wakeup(leat_queue *q);

// leat_queue_fd returns a descriptor for poll(2) that is readable while a receive may return
// something. It goes dark when a receive without a timeout, or at the end of it, has found nothing,
// so receive until 0; it may be readable for nothing, and stays so after leat_shutdown.
// Returns  the descriptor, >= 0, always the same; LEAT_ENOMEM (the process has no more of them).
// Owns     the queue's, until the store closes: not to be closed, read or written.
// Threads  [any] [cb]
LEAT_API int leat_queue_fd(leat_queue *q);

// leat_queue_ack says that m is done: it is never delivered again. Ends the view, whatever it
// returns.
// Returns  LEAT_ESTALE (delivered again since, settled, of another queue, of an earlier run, or its
//          record was deleted: nothing changed; a lease that ran out but was not handed out again
//          is accepted), LEAT_ENOSPC, LEAT_EIO (the lease stands). With .settle_acks LEAT_ACKS_DISK
//          LEAT_EIO also if the sync fails: it is done, but unknown whether durably; from then on
//          LEAT_EPOISONED (the lease stands).
// Threads  [any] [cb]
// Blocks   with LEAT_ACKS_DISK for a sync, shared with others who settle.
LEAT_API int leat_queue_ack(leat_queue *q, leat_message *m);

// leat_queue_nack gives m back, to be delivered again after delay_ms (0: at once; at most 366
// days; LEAT_BACKOFF), or, when that was its last try, dead. With LEAT_UNCOUNTED in flags the
// delivery counts for nothing, so it is never the last one: for what could not even be begun. Ends
// the view, whatever it returns.
// Returns  as leat_queue_ack; LEAT_EINVAL also for LEAT_BACKOFF of a queue without a list.
// Threads  [any] [cb]
LEAT_API int leat_queue_nack(leat_queue *q, leat_message *m, int64_t delay_ms, uint32_t flags);

// leat_queue_reject says that m is dead now, however often it was delivered: it goes to the
// dead-letter queue with reason as its leat.reason (NULL: "rejected"; at most 255 bytes), or stays
// in place without one. A move that ends only after another open says "rejected". Ends the view,
// whatever it returns.
// Returns  as leat_queue_ack; LEAT_ENOMEM (the lease stands).
// Threads  [any] [cb]
LEAT_API int leat_queue_reject(leat_queue *q, leat_message *m, const char *reason);

// leat_queue_extend lets the lease of m end ms from now (at most 366 days); 0 gives it back.
// Returns  LEAT_ESTALE; after a lease that ran out into a backoff also LEAT_EIO and LEAT_ENOSPC.
// Threads  [any] [cb]
LEAT_API int leat_queue_extend(leat_queue *q, const leat_message *m, int64_t ms);

// The same for n messages at once: each is settled by itself, in their order, under one lock and
// with one sync. rcs[i] (rcs may be NULL) is what the call for m[i] alone would return. It ends the
// views of all n, refused or not.
// Returns  how many were refused, 0: none. < 0: the call as a whole is wrong (delay_ms, flags,
//          reason, m NULL, n above INT32_MAX), or the store shut down: nothing was settled, all
//          views stand. A sync that fails makes all those settled LEAT_EIO, and refused.
// Threads  [any] [cb]
LEAT_API int leat_queue_ack_many(leat_queue *q, leat_message *m, size_t n, int *rcs);
LEAT_API int leat_queue_nack_many(leat_queue *q, leat_message *m, size_t n, int64_t delay_ms,
                                  uint32_t flags, int *rcs);
LEAT_API int leat_queue_reject_many(leat_queue *q, leat_message *m, size_t n, const char *reason,
                                    int *rcs);

// The same by m.receipt alone, from anywhere: the view stays its holder's.
// Returns  as the calls above; any number that is no receipt of q is LEAT_ESTALE.
// Threads  [any] [cb]
LEAT_API int leat_queue_ack_receipt(leat_queue *q, uint64_t receipt);
LEAT_API int leat_queue_nack_receipt(leat_queue *q, uint64_t receipt, int64_t delay_ms,
                                     uint32_t flags);
LEAT_API int leat_queue_reject_receipt(leat_queue *q, uint64_t receipt, const char *reason);
LEAT_API int leat_queue_extend_receipt(leat_queue *q, uint64_t receipt, int64_t ms);

typedef struct {
    uint64_t available, delayed, leased, moving, kept; // exact; moving: to the dead-letter queue;
                                                       // kept: dead, without one. Who waits
                                                       // behind his group is available
    uint64_t done, dead, expired;                      // since the store was opened; dead: moved
    uint64_t sent;     // since then, by whatever way: all that came to its topic
    int64_t oldest_ms; // age, by its timestamp, of the oldest message that is not done,
                       // moved or expired: the first one of each partition; 0: none
} leat_queue_stats;

// leat_queue_get_stats counts the messages of a queue by state.
// Returns  LEAT_EIO (an index that had to be read for oldest_ms).
// Threads  [any] [cb]
LEAT_API int leat_queue_get_stats(leat_queue *q, leat_queue_stats *s, size_t size_of_s);

// leat_queue_start gives the messages of q to fn, on threads that receive one at a time. LEAT_DONE
// acks; LEAT_RETRY nacks, for *retry_delay_ms, the backoff list or .retry_ms; LEAT_DEAD rejects
// with the reason "handler". m.deliveries is the try. A handler that takes longer than the
// visibility timeout loses its message to another one, unless .auto_extend renews the lease; its
// result is then nothing. The queue stays open as long as they run, also when it is closed. What is
// received and not begun when they are stopped goes back uncounted. Errors go to .log, and are
// tried again.
// Returns  LEAT_EINVAL (LEAT_NO_THREADS: receive instead), LEAT_ENOMEM (also: no more threads).
// Owns     *out is ended by leat_workers_stop. Handlers are callbacks.
// Threads  [any]
LEAT_API int leat_queue_start(leat_queue *q, leat_handler_fn fn, void *ctx,
                              const leat_worker_options *o, leat_workers **out);

// ---- channel -----------------------------------------------------------------------------------

enum {                    // .when_full of a subscription with a buffer
    LEAT_DROP_OLDEST = 1, // the default
    LEAT_DROP_NEWEST = 2,
    LEAT_KEEP_LATEST = 3, // full or not, a message takes the place of the one of its channel and
                          // key that waits, which is no drop; else as LEAT_DROP_OLDEST
    LEAT_BLOCK = 4,       // the publisher waits for room, then drops it; in a callback: LEAT_FAIL
    LEAT_FAIL = 5         // the publish is LEAT_EFULL when all others have heard it
};

// Without a buffer called on each publishing thread, several at once; nested if it publishes. With
// one never two at once: on the callback thread or, with LEAT_CALLBACKS_POLL, in leat_dispatch.
typedef void (*leat_message_fn)(leat_subscription *s, const leat_message *m, void *ctx);

typedef struct {
    int64_t buffer, buffer_bytes; // messages, and bytes of keys, values and headers, that may wait;
                                  // both 0: inline, nothing waits; one 0, or LEAT_UNLIMITED: no
                                  // bound. One message of any size is taken when nothing waits
    int64_t block_ms;             // LEAT_BLOCK: 0: one second; LEAT_ZERO, LEAT_FOREVER
    int32_t when_full, tokens;    // LEAT_DROP_OLDEST, ...; tokens 1: the pattern is as in NATS
    int64_t stop_after;           // so many messages, then it hears no more; 0: no end
    const char *name;             // for traces
    void (*on_end)(void *ctx);    // runs once, last: no callback runs after it; free ctx there
    uint64_t reserved[8];
} leat_subscription_options;

typedef struct { // .dropped: also what was refused; waiting_max: most that waited at once
    uint64_t delivered, dropped, waiting, waiting_max;
} leat_subscription_stats;

// leat_publish calls every subscriber of the channel, then of each pattern that matches it, on this
// thread, before it returns; one with a buffer gets a copy, one for all of these. Nothing is
// stored: who does not listen misses it.
// Returns  how many heard it or took it (a subscription each); 0 is no error. LEAT_EFULL: it found
//          no room somewhere, see LEAT_FAIL; LEAT_EDEADLK: 64 callbacks deep.
// Threads  [any] [cb]
// Blocks   where LEAT_BLOCK says so; not in a callback.
LEAT_API int leat_publish(leat *mq, const char *channel, const void *data, size_t size);

// leat_publish_record is leat_publish with key, headers and, if it is not 0, timestamp; what else a
// record may say is LEAT_EINVAL.
// Returns  also LEAT_ETOOBIG.
// Threads  [any] [cb]
LEAT_API int leat_publish_record(leat *mq, const char *channel, const leat_record *r);

// leat_channel_subscribe calls fn for each message on the channel of that name; with * ? [ or \ in
// it, on every channel that the glob pattern matches, as Redis PSUBSCRIBE; with .tokens those with
// the same tokens between their dots, where * is any one of them, and > at the end one or more. In
// force on return. fn NULL, with a buffer: leat_subscription_next gets them.
// Owns     *out is ended by leat_subscription_close. The message and its bytes, without a buffer
//          the publisher's own, live during the callback: leat_message_hold keeps them, and copies
//          the publisher's own.
// Threads  [any] [cb]
LEAT_API int leat_channel_subscribe(leat *mq, const char *pattern, leat_message_fn fn, void *ctx,
                                    const leat_subscription_options *o, leat_subscription **out);

// leat_topic_tap gives each record of a partition (-1: of all, also of those that come) from an
// offset or a place (LEAT_BEGIN to LEAT_LAST) on: what is there, then what comes, without a gap or
// a double between the two; each partition in its order. The log is the buffer, so .stop_after,
// .name and .on_end alone are options. fn is called as one with a buffer; NULL:
// leat_subscription_next. What retention takes before it was read counts as dropped. No group,
// nothing is committed.
// Returns  LEAT_ERANGE, LEAT_EINVAL (from), LEAT_EGONE, LEAT_EIO, LEAT_ENOMEM.
// Owns     *out is ended by leat_subscription_close. Messages are views into the log: during the
//          callback, or until they are released; leat_message_hold keeps one.
// Threads  [any] [cb]
LEAT_API int leat_topic_tap(leat_topic *t, int32_t partition, int64_t from, leat_message_fn fn,
                            void *ctx, const leat_subscription_options *o, leat_subscription **out);

// leat_channel_record appends what is heard on the channel, or on those that the glob pattern
// matches, to a topic, with one more header, leat.channel: on the publisher's thread, before the
// publish returns, as safe as LEAT_ACKS_LOG. What could not be stored counts as .dropped in its
// leat_subscription_stats. A topic with .announce_on is, the other way round, published: each
// record on that channel, with its offset and partition, on the callback thread, or in
// leat_dispatch; there LEAT_BLOCK is LEAT_FAIL, as in any callback.
// Returns  LEAT_EINVAL: also if what is stored would be heard again; LEAT_EGONE, LEAT_EACCESS.
// Owns     *out is ended by leat_subscription_close.
// Threads  [any] [cb]
LEAT_API int leat_channel_record(leat *mq, const char *pattern, leat_topic *into,
                                 leat_subscription **out);

// leat_channel_count tells how many subscriptions would hear a publish on that channel.
// Returns  that number, or LEAT_EINVAL (no name of a channel).
// Threads  [any] [cb]
LEAT_API int leat_channel_count(leat *mq, const char *channel);

typedef struct {
    char name[256];      // a channel that somebody listens to, or a pattern
    int32_t pattern;     // 0: a channel; 1: a glob; 2: a pattern of tokens
    int32_t subscribers; // with that very name or pattern
    uint64_t reserved[2];
} leat_channel_info;

// leat_channel_list tells who listens to what: channels first, then patterns, each in no order.
// Where somebody subscribes or closes meanwhile, either state may be told.
// Returns  how many there are; at most max are written.
// Threads  [any] [cb]
LEAT_API int leat_channel_list(leat *mq, leat_channel_info *out, size_t max, size_t size_of_one);

// leat_subscription_next gets the oldest message that waits; m->dropped tells how many were lost
// just before it.
// Returns  1, or 0: none came. LEAT_EGONE: there were .stop_after; LEAT_EINVAL: no buffer, or it
//          has a callback; LEAT_EFULL: 2^20 views are out.
// Owns     *m is ended by leat_message_release, also when s is closed.
// Threads  [one]
// Blocks   up to timeout_ms.
LEAT_API int leat_subscription_next(leat_subscription *s, int64_t timeout_ms, leat_message *m);

// leat_subscription_fd returns a descriptor for poll(2), readable while leat_subscription_next has
// something to say; it may be for nothing. It is leat's, and closed with s.
// Threads  [any]
LEAT_API int leat_subscription_fd(leat_subscription *s);

// leat_subscription_get_stats counts.
// Returns  LEAT_EINVAL also without a buffer: an inline subscription counts nothing.
// Threads  [any] [cb]
LEAT_API int leat_subscription_get_stats(leat_subscription *s, leat_subscription_stats *st,
                                         size_t size_of_st);

// leat_subscription_close ends a subscription: on return fn is not running and never will again.
// With a buffer and a callback what waits is delivered first, for up to drain_ms; what is left is
// thrown away. Inside any callback it does not wait, whatever drain_ms: it returns at once, no new
// call of fn starts, and .on_end tells when the last one is over.
// Returns  how many waited and were never delivered; LEAT_EBUSY: leat_subscription_next runs.
// Threads  [any] [cb]
// Blocks   for drain_ms, and while fn runs on another thread.
LEAT_API int leat_subscription_close(leat_subscription *s, int64_t drain_ms);

#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L && UINTPTR_MAX == UINT64_MAX
_Static_assert(sizeof(leat_message) == 136 && sizeof(leat_record) == 136 &&
                   sizeof(leat_metadata) == 48 && sizeof(leat_report) == 88 &&
                   sizeof(leat_event) == 40,
               "sizes are the ABI");
#endif
#ifdef __cplusplus
}
#endif
#endif
