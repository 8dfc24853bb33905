/* SPDX-License-Identifier: MIT */
// word: the eight bytes that a queue keeps on disk for one message. They are written in place, in
// any order, by a kernel that may stop at any byte; so a word must prove itself, and a word that
// does not is read as if nothing had ever been written. Nothing here does I/O: this is arithmetic.
//
//   final   DONE, DEAD, EXPIRED   state 3 | hash 61
//   live    LIVE, MOVING, KEPT    state 3 | deliveries 12 | not-before 33 | check 16
//
// The key is lt_mix3(segment uid, queue id, offset). hash is of the key and the state, check is of
// the key and the 48 bits above it. Reasons:
//  1. A final word lets a message go for good, so no garbage may forge one: 61 bits stand against
//     chance, and the state is hashed too, so that one flipped bit cannot turn DONE into DEAD.
//  2. A live word only says how often and from when. A forged one costs a wrong count, a lost one
//     a delivery more; 16 bits are enough, and leave room for what it has to say.
//  3. A word of another segment, queue or offset never reads: recycled blocks and copied files are
//     garbage like any other.
//  4. 0 is untouched: a hole in a sparse file says by itself that nothing happened yet.
#ifndef LT_QUEUE_WORD_H
#define LT_QUEUE_WORD_H

#include <stdint.h>

// The states of a word. On disk for ever: numbers are never changed, nor used again.
#define LT_WORD_UNTOUCHED 0
#define LT_WORD_LIVE      1 // still to be delivered, perhaps not before a certain time
#define LT_WORD_MOVING    2 // on its way to the dead-letter queue; with a not-before: it was too old
#define LT_WORD_KEPT      3 // dead, but kept in place
#define LT_WORD_DONE      4 // settled
#define LT_WORD_DEAD      5 // stored in the dead-letter queue
#define LT_WORD_EXPIRED   6 // older than the queue's retention

#define LT_WORD_DELIVERIES_MAX 4095u
#define LT_WORD_NOT_BEFORE_MAX ((UINT64_C(1) << 33) - 1) // 994 days of 10 ms each
#define LT_WORD_UNIT_NS        INT64_C(10000000)

// What a word says; all zero when it is untouched or does not check. Of a final word only the
// state is known.
struct lt_word {
    int state;
    uint32_t deliveries;
    uint64_t not_before; // in units of 10 ms wall time since the segment's creation; 0 = now
};

// lt_word_final makes the word of a message that is settled for good.
// Returns  the word, or 0 if state is not a final one.
uint64_t lt_word_final(int state, uint64_t key);

// lt_word_live makes the word of a message that is still the queue's. deliveries and not_before
// stop at their highest value.
// Returns  the word, or 0 if state is not a live one.
uint64_t lt_word_live(int state, uint32_t deliveries, uint64_t not_before, uint64_t key);

// lt_word_read tells what raw says about the message with this key.
// Returns  a struct of zeros (untouched) for whatever does not check.
struct lt_word lt_word_read(uint64_t raw, uint64_t key);

// lt_word_not_before turns a due time into units since the segment's creation, rounded up: never
// early. A due time before the creation (the wall clock was set back in between) gives 1, not 0,
// for the same reason; a caller that wants no delay says 0 by itself.
uint64_t lt_word_not_before(int64_t due_wall_ns, int64_t created_wall_ns);

// lt_word_due_ns is the way back: the wall time at which not_before is over, INT64_MAX if that
// cannot be said in nanoseconds.
int64_t lt_word_due_ns(uint64_t not_before, int64_t created_wall_ns);

#endif
