/* SPDX-License-Identifier: MIT */
// room: what the files of this folder share. Other folders see queue.h only.
//
// The state of a message for a queue is its word (ledger), and beside it what is volatile: whether
// it is available (window), leased, delayed or on the move (leases). Every change holds the queue's
// lock; the word is stored first, so that a crash finds the change done or not begun.
//
// Invariants
//  1. An offset in [head, tail) is available, or waits behind its group, or is final, or kept, or
//     has exactly one lease that is not lapsed. A lapsed lease's offset is available.
//  2. The delivery count is stored before the message is handed out.
//  3. DEAD is stored only after the copy in the dead-letter queue is durable.
//  4. touched (slot) is at or behind every offset whose word is not 0; after a power cut, which may
//     take the slot back, an open looks for words behind it.
//  5. No lease stands below the head, but those of moves that are at work.
//  6. Which messages are available, held or over is asked and changed through the backlog only; of
//     the window in it head and tail are read. What makes one over is followed by lt_queue_turns.
#ifndef LT_QUEUE_ROOM_H
#define LT_QUEUE_ROOM_H

#include "base/beacon.h"
#include "base/map.h"
#include "base/text.h"
#include "queue/backlog.h"
#include "queue/lapsed.h"
#include "queue/leases.h"
#include "queue/ledger.h"
#include "queue/queue.h"
#include "queue/window.h"

enum {
    LT_QUEUES_MAX = 65535,
    LT_QUEUES_PER_TOPIC = 64,
    LT_IN_FLIGHT = 1000000,
    LT_AGES_BLOCK = 4096,
    LT_RECEIPT_NONE = 1,   // a generation that no receipt has
    LT_TOUCH_AHEAD = 1024, // offsets that a slot store covers
    LT_MOVING_EXPIRED = 1, // not-before, in ms, of one that is MOVING: it was too old; else 0
    LT_BACKOFFS = 16,
    LT_REASON_MAX = 255,
    LT_WHO_MAX = 255, // names at a time; a lease says it in a byte
    LT_WHO_SIZE = 64
};

struct lt_queues {
    struct lt_list all;   // every queue; guarded by the log's admin lock
    struct lt_list going; // at an open: queues that were being deleted
    struct lt_mutex lock; // guards the next four
    struct lt_slot *slot; // says limit; a new run of the store begins there
    uint64_t next, limit; // receipt generations: next to give out, first that may not be yet
    // A power cut may take the slot back, below what was given out. Stored under the lock, read
    // anywhere: who holds one of a block has it from under a lock behind the store of true.
    atomic_bool owed;
    uint64_t gone_received, gone_acked; // of queues that were deleted; guarded by the admin lock
};

struct lt_age {     // of LT_AGES_BLOCK offsets
    int64_t min_ms; // the lowest timestamp of those that can expire; INT64_MAX: there is none
    bool stuck;     // some are over and cannot: they are leased, moving or kept
};

struct lt_ages { // of a partition, for retention; see retention.c
    struct lt_age *age;
    size_t count, room;
    int64_t first;  // block of age[0]
    int64_t seen;   // records below were looked at
    int64_t min_ms; // the lowest of all
};

struct lt_queue_part {
    struct lt_partition *p;
    struct lt_window window;
    struct lt_backlog backlog; // in front of the window: what is next
    int64_t tail_due;          // when the tail may be handed out, LT_NEVER: nobody waits for it
    int64_t looked;            // the end when the tail was looked at so
    struct lt_ledger ledger;
    struct lt_cursor cursor;
    struct lt_slot *slot;    // head, touched; NULL until the first delivery
    struct lt_keeper keeper; // says the head to retention, see lt_queue_tell_head
    struct lt_ages ages;
    uint64_t done;        // the last sync of what was settled that ended well, see ledger.syncs
    int64_t touched_safe; // what is known to be durable of the slot's `touched`
};

struct lt_queue_settings {
    int32_t acks, deliveries_max; // 0: the store's, unlimited
    int32_t settle_acks;          // 0: LEAT_ACKS_LOG
    int64_t visibility_ms, in_flight_max, delay_ms;
    char dead_letter[250]; // "": none
    int32_t backoff_count; // 0: none
    int64_t backoff_ms[LT_BACKOFFS];
    int64_t retention_ms; // 0: none
    bool dead_letter_expired, paused;
    bool going; // in a note: the queue was deleted, its own topic may still be there
};

struct leat_queue {
    leat *mq;
    struct lt_node node; // in lt_queues.all
    struct lt_child child;
    char *name;
    uint32_t id;
    leat_topic *topic;
    bool owns_topic;
    int opens; // handles out; guarded by the log's admin lock, as are settings and dead
    struct lt_queue_settings set; // changed under both locks, read under either
    leat_queue *dead;
    struct lt_partitioner where;
    _Atomic int32_t acks;      // what a send waits for; stored with set, read anywhere (relaxed)
    struct lt_pin_pool *views; // of its messages
    struct lt_mutex *lock;   // that of views; guards all down to `planned`; a part's address stays
    struct lt_stretch parts; // struct lt_queue_part, see lt_queue_part
    int32_t count;           // of them; behind the topic's until lt_queue_catch_up
    int32_t turn;            // partition that is looked at first
    struct lt_leases leases;
    struct lt_lapsed lapsed;
    struct lt_list moving;               // leases to be moved now, by link
    struct lt_map reasons;               // of rejected messages that are MOVING, by slot
    struct lt_who *who;                  // LT_WHO_MAX names; NULL until the first one
    uint64_t generation, generation_end; // a block of them, drawn from the store's
    uint64_t kept, done, died, expired, received;
    int64_t age_due;    // when retention is to look; LT_NEVER
    atomic_bool ages;   // there is a retention; stored under the lock, read anywhere (seq_cst)
    atomic_bool news;   // it was told of a record since it looked; what plans, and what tells, each
                        // sets the timer after its own (seq_cst)
    bool release_due;   // a segment of its own topic may be done
    int64_t release_at; // when one that is done may go, whose dedup ids are remembered; LT_NEVER
    bool final_due;     // a dead message has its final word: to be synced at acks DISK
    int move_error;     // why the last move to the dead-letter queue failed
    bool settle_lost;   // a sync of what was settled has failed: no more settling at acks DISK
    int64_t planned;    // due time that `due` is set to
    struct lt_due due;
    struct lt_ear ear;
    struct lt_mutex line_lock; // guards line
    struct lt_list line;       // blocked receives in order of arrival
    atomic_int waiting;        // receives in line that have not left; release on leaving
    atomic_int hands;          // the same of workers: they end before the queue is closed
    _Atomic uint64_t wakeups;  // how often leat_queue_wakeup was called; seq_cst
    struct lt_beacon beacon;   // leat_queue_fd
    atomic_int guests;         // other queues' threads that use it as where messages are moved to;
                               // comes under that queue's lock, or the admin lock
};

// lt_queue_part returns the part of a partition, below `count`.
static inline struct lt_queue_part *lt_queue_part(const leat_queue *q, int64_t i) {
    return lt_stretch_at(&q->parts, (uint64_t)i);
}

// ---- queue.c
// lt_queue_catch_up takes the partitions in that the topic has got since. Locks: queue.
// Returns  LEAT_ENOMEM.
int lt_queue_catch_up(leat_queue *q);
uint64_t lt_queue_leased(const leat_queue *q); // in flight, lapsed ones not counted. Locks: queue
// lt_queue_find returns the queue of that name, or NULL. Locks: admin.
leat_queue *lt_queue_find(leat *mq, const char *name);
// lt_queue_idle tells whether nobody has a view of q or waits in it. Locks: admin.
// Returns  LEAT_EBUSY, saying which.
int lt_queue_idle(const leat_queue *q);
// lt_queue_end takes a queue, of which there is no handle, out of all that knows it, and frees it.
// Locks: admin. Blocks  for its timer.
void lt_queue_end(leat_queue *q);
// lt_queue_plan sets the timer to what falls due first. Locks: queue.
void lt_queue_plan(leat_queue *q);
// lt_queue_drop_lease frees a lease, lapsed or not. Locks: queue.
void lt_queue_drop_lease(leat_queue *q, struct lt_lease *lease);
void lt_queue_trace(leat_queue *q, const char *event, uint32_t partition, int64_t offset, int rc);

// ---- counts.c
// lt_queue_available is how many messages could be handed out now. Locks: the queue's.
uint64_t lt_queue_available(const leat_queue *q);
// lt_queue_count is leat_queue_get_stats. Locks: the queue's.
int lt_queue_count(leat_queue *q, leat_queue_stats *s);

// ---- settings.c
// lt_settings_check checks a queue's options.
int lt_settings_check(const char *name, const leat_queue_options *o);
// lt_settings_apply puts the options that are not zero over *set.
void lt_settings_apply(const leat_queue_options *o, struct lt_queue_settings *set);
// lt_settings_compare compares what was asked with what is. *change: settings are to be altered.
// Returns  LEAT_EEXIST naming the field that differs.
int lt_settings_compare(const leat_queue *q, const leat_queue_options *o, bool *change);
// lt_settings_dedup is the dedup window that the topic of q is to have. Locks: admin.
int64_t lt_settings_dedup(const leat_queue *q, const leat_queue_options *o);
// lt_settings_write writes the note of q with these settings; lt_settings_read reads one.
// Returns  as lt_manifest_note; LEAT_ECORRUPT.
int lt_settings_write(const leat_queue *q, const struct lt_queue_settings *set);
int lt_settings_read(leat *mq, const struct lt_note *note, char name[250], uint32_t *topic_id,
                     struct lt_queue_settings *set);

// ---- restore.c
int lt_queue_restore_state(leat_queue *q);

// ---- deliver.c
// lt_queue_receive_until is leat_queue_receive of one message, for ever, until *quit is set and
// lt_queue_wake_all called: then it returns 0.
int lt_queue_receive_until(leat_queue *q, const atomic_bool *quit, leat_message *m);
void lt_queue_wake_all(leat_queue *q);
// lt_queue_wake tells the first blocked receive to look. Locks: any below LINE.
void lt_queue_wake(leat_queue *q);
// lt_queue_note stores head and touched of a part. Locks: queue. Returns  LEAT_EIO and the like.
int lt_queue_note(leat_queue *q, struct lt_queue_part *part, int64_t touched);

// ---- admit.c. Locks: the queue's, or its restore
// lt_queue_not_before is the wall time before which a record is not handed out, by itself or by the
// queue's delay; INT64_MIN: any.
int64_t lt_queue_not_before(const leat_queue *q, const uint8_t *record,
                            const struct lt_order *order);
// lt_queue_wait_ms is how long until such a time comes, 0: it has; at most 366 days.
int64_t lt_queue_wait_ms(const leat_queue *q, int64_t not_before_ms);
// lt_queue_admit_one is lt_backlog_admit. Returns  1, 0, LEAT_ENOMEM.
int lt_queue_admit_one(leat_queue *q, struct lt_queue_part *part, int64_t offset,
                       const struct lt_order *order, int64_t not_before_ms);
// lt_queue_lease_room sees to it that there is a lease to be added. Returns  LEAT_EFULL,
// LEAT_ENOMEM.
int lt_queue_lease_room(leat_queue *q);
// lt_queue_admit takes in all up to the last record that says its order, below end.
// Returns  LEAT_EFULL, LEAT_ENOMEM, LEAT_EIO.
int lt_queue_admit_to(leat_queue *q, struct lt_queue_part *part, int64_t upto);
static inline int lt_queue_admit(leat_queue *q, struct lt_queue_part *part, int64_t end) {
    int64_t upto = atomic_load_explicit(&part->p->fields_end, memory_order_relaxed);
    upto = upto < end ? upto : end;
    return upto > part->window.tail ? lt_queue_admit_to(q, part, upto) : 0;
}
// lt_queue_admit_all is that, and where the queue delays by default all up to the end: nothing that
// is not due is behind the tail then.
static inline int lt_queue_admit_all(leat_queue *q, struct lt_queue_part *part) {
    int64_t end = atomic_load(&part->p->end);
    bool delays = q->set.delay_ms > 0 && end > part->window.tail;
    return delays ? lt_queue_admit_to(q, part, end) : lt_queue_admit(q, part, end);
}
// lt_queue_is_due tells whether the record that the part's cursor is at may be handed out now. If
// it is the tail that may not be, neither may what is behind it: *upto is set to it. Returns  1, 0
// (look again), LEAT_EFULL, LEAT_ENOMEM.
int lt_queue_is_due(leat_queue *q, struct lt_queue_part *part, int64_t end, int64_t *upto);
// lt_queue_turns sees to those of groups whose turn has come. It allocates nothing.
void lt_queue_take_turns(leat_queue *q, struct lt_queue_part *part);
static inline void lt_queue_turns(leat_queue *q, struct lt_queue_part *part) {
    if (!lt_list_empty(&part->backlog.turns))
        lt_queue_take_turns(q, part);
}
// lt_queue_rejoin makes one that is held, and has no lease but of a move, available again, at its
// place among those of its group, which may be to wait. record NULL: says nothing. revived: without
// its delay. Returns  0, LEAT_ENOMEM: it is held still.
int lt_queue_rejoin(leat_queue *q, struct lt_queue_part *part, int64_t offset,
                    const uint8_t *record, bool revived);
// lt_queue_lazy adds to *ready and *delayed what the window has not touched; exact: but for numbers
// that a power cut took, else maybe some too many. Returns  LEAT_EIO,
// LEAT_ENOMEM: all counted as ready.
int lt_queue_lazy(const leat_queue *q, const struct lt_queue_part *part, uint64_t *ready,
                  uint64_t *delayed, bool exact);

// ---- queue.c
// lt_queue_hold opens the queue once more, lt_queue_let_go closes it so often. Locks: none.
void lt_queue_hold(leat_queue *q);
void lt_queue_let_go(leat_queue *q);

// ---- settle.c
enum { LT_SETTLE_ACK, LT_SETTLE_NACK, LT_SETTLE_REJECT, LT_SETTLE_EXTEND };
struct lt_settle {
    int kind;
    uint32_t flags;     // of nack
    int64_t ms;         // of nack, LEAT_BACKOFF if there is a list, and extend
    const char *reason; // of reject; NULL: none
};
// lt_settle settles the delivery of a receipt, whose partition it tells. Locks: queue.
// Returns  LEAT_ESTALE, LEAT_EPOISONED; LEAT_EIO, LEAT_ENOSPC, LEAT_ENOMEM (reject): it stands.
int lt_settle(leat_queue *q, uint64_t receipt, const struct lt_settle *s, uint32_t *partition);
void lt_queue_fall_due(leat *mq, struct lt_due *due);
// lt_queue_finished makes an offset final, its word says so already. Locks: queue.
void lt_queue_finished(leat_queue *q, struct lt_queue_part *part, int64_t offset);
// lt_queue_tell_head tells the log where the head is, for a topic that keeps what was not consumed.
// Locks: queue.
void lt_queue_tell_head(struct lt_queue_part *part);
// lt_queue_follow lets go of what the log has given back for another queue, whose topic it is.
// Leases may end by it, but not one that a move is at work on. Locks: queue.
void lt_queue_follow(leat_queue *q, struct lt_queue_part *part);
// lt_queue_skip lets go of all below upto, as lt_queue_follow.
void lt_queue_skip(leat_queue *q, struct lt_queue_part *part, int64_t upto);
// lt_queue_release gives back the segments of its own topic that are done. Locks: none.
void lt_queue_release(leat_queue *q);

// ---- durable.c
static inline bool lt_queue_settles_on_disk(const leat_queue *q) {
    return q->set.settle_acks == LEAT_ACKS_DISK;
}
// lt_queue_settle_check refuses to settle where it cannot become durable any more. Locks: queue.
// Returns  LEAT_EPOISONED.
int lt_queue_settle_check(const leat_queue *q);
// lt_queue_settle_sync returns when the words that were stored for a partition are durable, with
// all that finding them again rests on; at acks LOG at once. Locks: none.
// Returns  LEAT_EIO: unknown.
int lt_queue_settle_sync(leat_queue *q, uint32_t partition);
// lt_queue_settle_sync_all is that for every partition.
int lt_queue_settle_sync_all(leat_queue *q);

// ---- reason.c. Locks: queue
// lt_reason_keep remembers why a message is rejected, until its lease goes; NULL: "rejected".
// Returns  LEAT_ENOMEM.
int lt_reason_keep(leat_queue *q, const struct lt_lease *lease, const char *reason);
void lt_reason_drop(leat_queue *q, const struct lt_lease *lease);
// lt_reason_of is what the copy in the dead-letter queue says. Owns: q, until the lease goes.
const char *lt_reason_of(const leat_queue *q, const struct lt_lease *lease);
void lt_reasons_fini(leat_queue *q);

// ---- who.c. Locks: queue
// lt_who_find returns the number of a name, good until the lock is given back: 0 for none, or if
// the table is full. Returns  LEAT_ENOMEM.
int lt_who_find(leat_queue *q, const char *name);
void lt_who_set(leat_queue *q, struct lt_lease *lease, int who);
void lt_who_drop(leat_queue *q, struct lt_lease *lease);
// lt_who_name is who received the message of a lease, "" if that was not said.
const char *lt_who_name(const leat_queue *q, const struct lt_lease *lease);

// ---- explain.c: one line each. Locks: queue
void lt_queue_explain_lease(const leat_queue *q, const struct lt_lease *lease,
                            struct lt_text *text);
void lt_queue_explain_kept(const struct lt_word *word, struct lt_text *text);

// ---- manage.c
// lt_queue_start_at_end lets a queue that nobody knows yet begin at the end of its topic, durably.
// Returns  LEAT_EFULL, LEAT_ENOSPC, LEAT_EIO: nobody should.
int lt_queue_start_at_end(leat_queue *q);
// lt_queue_unname gives its name and its place over the topic back. Locks: admin.
void lt_queue_unname(leat_queue *q);
// lt_queue_going enters a queue whose delete was cut short, at an open; lt_queues_finish_deletes
// ends what is left of them (now), or forgets them. Returns  LEAT_ENOMEM.
int lt_queue_going(leat *mq, uint32_t id, uint32_t topic_id);
void lt_queues_finish_deletes(leat *mq, bool now);

// ---- redrive.c
// lt_queue_reserve gets all that holding and ending `offset`, a record of s, can want for.
// Returns  as a receive. Locks: queue.
int lt_queue_reserve(leat_queue *q, struct lt_queue_part *part, struct lt_segment *s,
                     int64_t offset);
// lt_queue_occupy makes an available or new offset, reserved for, held; a receipt that may be good
// for it is stale. Locks: queue.
void lt_queue_occupy(leat_queue *q, struct lt_queue_part *part, int64_t offset);

// ---- retention.c
// lt_retention_begin forgets all, for what is set now, and plans. Locks: queue.
void lt_retention_begin(leat_queue *q);
void lt_retention_fini(leat_queue *q, struct lt_queue_part *part);
// lt_retention_look ends what is too old, and says in q->age_due when to look again. There may be
// moves to do then. Locks: queue.
void lt_retention_look(leat_queue *q);
// lt_retention_back says that a message which was leased, moving or kept is so no more. It
// allocates nothing. Locks: queue.
void lt_retention_back(leat_queue *q, const struct lt_queue_part *part, int64_t offset);
// lt_retention_hear says that there is a new record. Locks: any below DUE.
void lt_retention_hear(leat_queue *q);
void lt_retention_now(leat_queue *q);
// lt_queue_look does what is due, before the state of a queue is looked at. Locks: none.
static inline void lt_queue_look(leat_queue *q) {
    lt_due_fire(q->mq);
    if (atomic_load(&q->ages))
        lt_retention_now(q);
}

// ---- dead.c
// lt_queue_kill begins the end of a message that was delivered often enough: to the dead-letter
// queue, or kept in place. The offset is held by the window. Locks: queue.
void lt_queue_kill(leat_queue *q, struct lt_lease *lease);
// lt_queue_move does the moves that were begun. Locks: none.
void lt_queue_move(leat_queue *q);
// lt_dead_tries tells how often moving has failed, 7: so often or more.
unsigned lt_dead_tries(const struct lt_lease *lease);

#endif
