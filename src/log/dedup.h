/* SPDX-License-Identifier: MIT */
// dedup: which ids were sent to a topic within its window, and where the first record of each is.
//
// A record with an id passes lt_dedup_begin, which either finds the first one, or enters the id as
// pending: then the record is appended, and lt_dedup_end says where, or that it was not. Who comes
// with an id that is pending waits for that. So no lock is held while a record is appended, and of
// two with one id exactly one is stored.
//
// An id is forgotten when its record is window_ms old, or when window_count newer ones are stored.
// Time does not step with the wall clock: see retain.c. Each record has a stamp among its system
// fields: that time, in ns, but above the stamp before it. By it an open tells in what order the
// ids came, over all partitions, and how old they are, whatever timestamps the records have.
//
// Invariants
//  1. An id is in `ids` once: pending, or stored and then in `by_age`, oldest first.
//  2. Each is in its partition's list, pending ones too, in the order of `low`, which is at most
//     its offset: what retention leaves alone (lt_dedup_floor) is never too little.
//  3. Nobody waits for another sender, or for a clock, while an id of his is pending: so nobody
//     waits for ever.
#ifndef LT_LOG_DEDUP_H
#define LT_LOG_DEDUP_H

#include "log/topic.h"

struct lt_dedup;
struct lt_dedup_id;

// lt_dedup_check checks the windows among a topic's options and resolves LEAT_ZERO.
int lt_dedup_check(leat_topic_options *o);

// lt_dedup_new makes what a topic with a window needs. Returns  NULL: no memory.
struct lt_dedup *lt_dedup_new(leat_topic *t);
void lt_dedup_free(struct lt_dedup *d); // NULL is fine

// lt_dedup_load finds the ids inside the window in the topic's records, at an open: nobody else
// uses the topic. A record that is damaged is left out, and said.
// Returns  LEAT_EIO, LEAT_ENOMEM.
int lt_dedup_load(leat_topic *t);

// lt_dedup_clear forgets all ids that are stored, of a topic that was deleted.
void lt_dedup_clear(leat_topic *t);

// lt_dedup_stamp gives the next stamp of a topic with a window; lt_dedup_wants does if r passes
// lt_dedup_begin, else 0.
int64_t lt_dedup_stamp(const leat_topic *t);
static inline int64_t lt_dedup_wants(const leat_topic *t, const leat_record *r) {
    return t->dedup && r->dedup_id.data ? lt_dedup_stamp(t) : 0;
}

// lt_sent_now is the moment in which r is sent to t; lt_sent_unstamped, where it is looked up
// later.
static inline struct lt_sent lt_sent_unstamped(leat *mq, const leat_record *r) {
    return (struct lt_sent){ .wall_ms = r->delay_ms > 0 ? lt_wall_ms(mq) : 0 };
}
static inline struct lt_sent lt_sent_now(const leat_topic *t, const leat_record *r) {
    struct lt_sent sent = lt_sent_unstamped(t->mq, r);
    sent.stamp = lt_dedup_wants(t, r);
    return sent;
}

// lt_once is a record on its way into a topic with a window. Zeroed but for id and p.
struct lt_once {
    leat_bytes id;             // null: it passes
    struct lt_partition *p;    // where it goes if it is the first one
    struct lt_dedup_id *entry; // pending
    bool repeat;               // it is not to be stored
    size_t like;               // a repeat of this one in the same call, + 1; 0: of an earlier one
    leat_metadata where;       // a repeat: the first one. Else the caller's, before lt_dedup_end
};

// lt_dedup_begin enters the ids of n records, all or none of them, and tells which are repeats. The
// others have where.offset -1.
// Blocks   while another thread appends a record with one of the ids.
// Returns  LEAT_ENOMEM.
int lt_dedup_begin(leat_topic *t, struct lt_once *once, size_t n);
// lt_dedup_end tells that those are stored whose where.offset is not -1, and fills in `where` of
// those like them. To be called after every lt_dedup_begin that was 0. It allocates nothing.
void lt_dedup_end(leat_topic *t, struct lt_once *once, size_t n);

// lt_dedup_floor is the offset below which no record of p is inside the window.
// Locks: none of DEDUP and above.
int64_t lt_dedup_floor(struct lt_partition *p);

#endif
