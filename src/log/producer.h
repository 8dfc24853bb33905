/* SPDX-License-Identifier: MIT */
// producer: what the files of the asynchronous half share. Private to log/: producer (options,
// opening, synchronous sends), outbox (records on their way), report (what became of them), future,
// direct (batches made by hand), hold (who waits for them).
//
// The happy path of an asynchronous send: under the producer's lock the record is encoded into the
// open parcel of its partition's box. A parcel that is full is appended by the sender himself, one
// that has lingered by the service thread, or by whoever looks where there is none. Then it waits
// for its sync, if asked for, and for its reports to be told, by the courier or by who polls.
//
// Invariants
//  1. A parcel is open, ready, appended or done; it moves in this order only, and the parcels of a
//     box one behind the other. So reports come in offset order per partition.
//  2. One thread at a time appends for a box (`sending`), and one syncs (`syncing`), without the
//     producer's lock.
//  3. Each record ends exactly once: its report is called, its future done, or it has neither.
//  4. `buffered` is what is open or ready; who waits for room waits in line.
#ifndef LT_LOG_PRODUCER_H
#define LT_LOG_PRODUCER_H

#include "log/log.h"

struct lt_entry {        // of one record, or of some in a row that are told to the same
    leat_delivery_fn fn; // NULL: none
    void *ctx;
    leat_future *future; // of one; NULL: none
    uint32_t at;         // where the first stands in the parcel
    uint32_t count;
};

struct lt_spot { // of a record in a parcel
    size_t index, at;
};

struct lt_parcel {
    struct lt_node node; // in its box, or in the producer's `done`, `told` or `spares`
    struct lt_node live; // in the producer's `live`, in order of making, until all is told
    leat *mq;
    struct lt_box *box;
    int refs; // its way, and each future in it; guarded by the lock of futures
    uint8_t *bytes;
    size_t used, room;
    struct lt_entry *entry;
    size_t entries, entry_room;
    size_t count;          // of records
    size_t telling;        // records with fn: what it counts in the producer's `to_tell`
    uint64_t epoch;        // of the producer when it was begun
    int64_t since_ns;      // when its first record was accepted
    int64_t base, wall_ms; // when appended: first offset, time of those that have none of their own
    int64_t upto;          // when appended: its box's partition is synced to there before it ends
    int status, error, tries;
    int fault;          // what a planned fault makes of the next try, when its delay is over
    bool faulted;       // it was asked for
    bool whole;         // a leat_batch: one report, the first entry's, for all
    bool alone;         // one record that has to be looked up before it is appended: a dedup id
    bool duplicate;     // and was found: first says where
    bool fields;        // a record of it has system fields
    bool ordered;       // or those that lt_record_order reads
    bool dated;         // or a time of its own
    struct lt_kept log; // where they are told from, so that the sender keeps bytes in its cache;
                        // seg NULL: from bytes
    int failed;         // why it was not stored, while it waits for those in front of it
    int unsure;         // of a duplicate: the sync of the first one has failed so
    leat_metadata first;
    bool futures; // some entry has one
    char message[160];
};

struct lt_box {          // of one partition
    struct lt_node node; // in the producer's `boxes`, until it is closed
    struct lt_partition *p;
    struct lt_parcel *open;  // NULL: none
    struct lt_list ready;    // to be appended
    struct lt_list appended; // to be synced; and what waits for them to be told
    bool sending, syncing;   // see invariant 2
    int64_t again_ns;        // the first ready one failed: not before; 0: at once
};

struct leat_producer {
    leat *mq;
    struct lt_child child;
    char *name;
    int32_t acks;
    struct lt_partitioner where;
    // Settings of the asynchronous half; they do not change.
    bool polled;
    int64_t linger_ms, max_block_ms, delivery_timeout_ms, backoff_ms;
    int64_t batch_bytes, buffer_max, reports_max;
    _Atomic int64_t pending; // parcels that are open or ready: relaxed, 0 if it never sent so
    struct lt_mutex lock;    // guards what is not guarded by told_lock
    bool begun;              // due and errand are there
    bool closing;
    bool threadless;     // there is something to tell, and no thread for it could be started
    struct lt_map map;   // struct lt_partition * to struct lt_box *
    struct lt_box *last; // that was sent to
    struct lt_list boxes, live;
    struct lt_list batches;   // leat_batch
    _Atomic int open_batches; // of them; stored under the lock, read anywhere (relaxed)
    struct lt_list line;      // struct lt_hold: who waits for room, in order of arrival
    struct lt_list holds;     // struct lt_hold: who waits for something to end
    struct lt_list spares;    // parcels to be used again, the warmest first
    int64_t spare_bytes;      // their room
    uint64_t epoch;
    int64_t buffered;        // bytes, see invariant 4
    _Atomic int64_t to_tell; // records with a callback, ever; stored under the lock, read anywhere
    int64_t planned_ns;      // when due is due
    int64_t rested_ns;       // before that nothing is planned for what may wait for more
    uint64_t pushes;         // times that a sender found something to append himself
    uint64_t pushes_seen;    // when the service thread looked last
    // Times in a row that the lock was taken, and who does what is due went away. Relaxed: a hint.
    _Atomic int passed;
    leat_producer_stats stats;
    // Who tells takes this one alone, for a few stores. The lock above is the senders': one that
    // finds it taken sleeps for much longer than what it is taken for.
    struct lt_mutex told_lock;  // guards the next four
    struct lt_list done;        // parcels to be told
    struct lt_list told;        // that were: who holds the lock takes them out of `live`
    _Atomic int64_t told_count; // records of them, ever; stored with release, read anywhere
    int waiting;                // calls in line and holds, which are woken when some were told
    struct lt_due due;
    struct lt_errand errand;
    struct lt_node node; // in the log's producers
};

// lt_producer_untold counts records with a callback that was not called.
static inline int64_t lt_producer_untold(const leat_producer *p) {
    int64_t told = atomic_load_explicit(&p->told_count, memory_order_acquire); // not after the next
    return atomic_load_explicit(&p->to_tell, memory_order_relaxed) - told;
}

// lt_producer_count adds to a counter of p that is stored under the lock and read anywhere: no
// read-modify-write, which would wait for all that the record has just written. Locks: the
// producer's.
static inline void lt_producer_count(_Atomic int64_t *counter, int64_t more) {
    int64_t n = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, n + more, memory_order_relaxed);
}

// ---- direct.c

// lt_direct_check_none is LEAT_EBUSY while batches of p are open, and tells how many. Locks: any.
int lt_direct_check_none(const leat_producer *p);
// lt_direct_discard_all discards them. No other thread is in a call of p or of them, or ever will
// be: it takes no lock, for after a fork one may be held for ever. Returns  how many records were
// in them.
size_t lt_direct_discard_all(leat_producer *p);

// ---- hold.c

struct lt_hold { // a call that waits
    struct lt_node node;
    struct lt_waiter waiter;
};
// Between them the caller looks, arms the waiter and waits. Locks: the producer's.
int lt_hold_begin(leat_producer *p, struct lt_list *list, struct lt_hold *h);
void lt_hold_end(leat_producer *p, struct lt_hold *h);
// lt_hold_wait gives up the lock, waits until something has ended, something was due, or the
// deadline, and takes the lock. Returns  as lt_wait.
int lt_hold_wait(leat_producer *p, struct lt_hold *h, int64_t deadline_ns);

// ---- outbox.c

int lt_outbox_init(leat_producer *p);
void lt_outbox_fini(leat_producer *p);
// lt_outbox_begin makes what asynchronous sends need, once. Locks: the producer's.
// Returns  LEAT_ENOMEM; LEAT_ECLOSED: the producer is being closed, nobody would send it.
int lt_outbox_begin(leat_producer *p);
// lt_outbox_add accepts a record for a partition. Locks: none. Blocks  for room.
// Returns  LEAT_EFULL, LEAT_ETOOBIG, LEAT_ENOMEM: not accepted, certainly not sent.
int lt_outbox_add(leat_producer *p, struct lt_partition *to, const struct lt_plan *plan,
                  const struct lt_entry *entry);
// lt_outbox_add_parcel accepts a whole parcel, which is gone on success. As above.
int lt_outbox_add_parcel(leat_producer *p, struct lt_partition *to, struct lt_parcel *parcel);
// lt_outbox_clear returns when nothing stands before a synchronous send to that partition.
// Returns  LEAT_EFULL (in a callback: it would have to wait), LEAT_ECLOSED.
int lt_outbox_clear(leat_producer *p, struct lt_partition *to);
// lt_outbox_close_open makes ready all that is open. Locks: the producer's.
void lt_outbox_close_open(leat_producer *p);
// lt_outbox_ripen makes ready what is open, and plans to send it now. Locks: the producer's.
void lt_outbox_ripen(leat_producer *p);
// lt_outbox_run appends and syncs what can be, and plans the rest. Locks: none.
void lt_outbox_run(leat_producer *p);
// lt_outbox_give_up ends what is ready and not being appended, and with `appended` also what waits
// for its sync. Locks: the producer's. Returns  how many records.
size_t lt_outbox_give_up(leat_producer *p, int error, const char *message, bool appended);

struct lt_parcel *lt_parcel_new(leat_producer *p, size_t room);
// Locks  that of futures, or nobody else knows it.
void lt_parcel_free(struct lt_parcel *parcel);
// lt_parcel_reset makes it empty, to be used again.
void lt_parcel_reset(struct lt_parcel *parcel);
// lt_parcel_put encodes a record at its end. Returns  LEAT_ENOMEM.
int lt_parcel_put(struct lt_parcel *parcel, const struct lt_plan *plan,
                  const struct lt_entry *entry);

// ---- report.c

// lt_parcel_end ends a parcel that is in no list of its box any more. Locks: the producer's.
void lt_parcel_end(leat_producer *p, struct lt_parcel *parcel, int status, int error,
                   const char *message);
// lt_producer_collect puts away the parcels that were told. Locks: the producer's.
void lt_producer_collect(leat_producer *p);
// lt_producer_unfinished counts the records of parcels up to an epoch. Locks: the producer's.
size_t lt_producer_unfinished(leat_producer *p, uint64_t epoch);
// lt_producer_flush is leat_flush inside of a call.
int lt_producer_flush(leat_producer *p, int64_t timeout_ms);
int lt_producer_tell(leat *mq, struct lt_errand *e);
// lt_parcel_report fills *r for a record; record and header (LT_HEADERS_MAX) are room for views.
void lt_parcel_report(const struct lt_parcel *parcel, const struct lt_spot *at, leat_report *r,
                      leat_record *record, leat_header *header);

// ---- future.c

// lt_future_enter makes f the future of a record; lt_future_done ends it, see lt_parcel_end. Locks:
// the producer's.
void lt_future_enter(leat_future *f, struct lt_parcel *parcel, struct lt_spot at);
void lt_future_done(leat_future *f);
// lt_parcel_drop gives the parcel back, once for its way and once for each future.
void lt_parcel_drop(struct lt_parcel *parcel);

// ---- producer.c

// lt_send_clear lets what s is to be behind go to that partition first. Returns  as
// lt_outbox_clear.
static inline int lt_send_clear(const struct lt_send *s, struct lt_partition *to) {
    if (!s->behind || atomic_load_explicit(&s->behind->pending, memory_order_relaxed) == 0)
        return 0;
    return lt_outbox_clear(s->behind, to);
}

// lt_producer_enter is the head of a call that sends. Returns  as lt_begin, LEAT_EINVAL.
int lt_producer_enter(leat_producer *p, leat_topic *t, const leat_record *r);
// lt_send_later chooses a partition and hands r to the outbox.
int lt_send_later(leat_producer *p, leat_topic *t, const leat_record *r,
                  const struct lt_entry *entry);

#endif
