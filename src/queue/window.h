/* SPDX-License-Identifier: MIT */
// window: which offsets of one partition a queue may hand out. A pure state machine: no I/O, no
// lock, no clock, and it knows nothing of leases; it only says what is free and what is over.
//
//        final             neither: leased, delayed, moving or kept          never handed out
//   ... -------- [ head . . . . . . . . . . . . . . . . . . . . . . . ) tail ------------- ...
//                        some of them available again, some of them final
//
//   from         to         by
//   new          held       lt_window_take at the tail, lt_window_touch_to
//   available    held       lt_window_take
//   held         available  lt_window_give_back
//   any of them  final      lt_window_finish, lt_window_gap, lt_window_skip_to
//   final        -          nothing leads back
//
// Two bits an offset, in blocks of 4096 offsets which stand in a ring of pointers, by block number;
// the ring doubles and never shrinks. Over the words of a block lies one summary word, over the
// blocks of the ring a tree of 64-way summary words. The lowest available offset is found through
// one word of each level: 4 words at 1,000,000 in flight, 5 at 10^9.
//
// Cost in memory: 2.03 bits an offset of [head, tail), and 8.1 bytes of ring a block, their number
// rounded up to a power of 2. A block that is final from end to end is freed wherever it stands,
// and leaves only its place in the ring: one message that waits for long under 10^8 later ones
// which are done costs 270 KB. The worst case, one offset in each 4096 that is not final, stays at
// 2.03 bits an offset. Cost in time: all is O(log64 n), but the call that lets the head go also
// walks the places of the blocks it passes, each of them once in its life.
//
// Invariants (lt_window_check restates them):
//  1. 0 <= head <= tail <= LT_WINDOW_OFFSET_MAX; head < tail implies tail <= room.
//  2. room is a multiple of 4096. The blocks from head's own up to room, and no others, have their
//     place in the ring: a block, or the mark "whole" (all of its offsets are final).
//  3. No offset is available and final.
//  4. head is not final, unless the window is empty; below head, in its block, all is final.
//  5. At and above tail nothing is available or final.
//  6. A block has less than 4096 final offsets: with the last one it turns into the mark.
//  7. The counts of each block, both summaries and the counts of the window agree with the bits.
//
// Threads: none of this locks; the owner's lock guards it.
#ifndef LT_QUEUE_WINDOW_H
#define LT_QUEUE_WINDOW_H

#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LT_WINDOW_BLOCK      4096 // offsets a block: 64 words of 64 bits, one summary word
#define LT_WINDOW_OFFSET_MAX (INT64_MAX - (LT_WINDOW_BLOCK - 1))

enum { LT_WINDOW_LEVELS = 5 }; // of the tree: 2^30 blocks, 2^42 offsets between head and tail

// What lt_window_take says besides an offset.
enum {
    LT_WINDOW_NONE = -1,    // nothing is available, and the tail is at the end
    LT_WINDOW_NO_ROOM = -2, // lt_window_reserve(w, tail + 1) must come first
};

// What lt_window_state says of an offset.
enum {
    LT_WINDOW_NEW,       // at or above tail
    LT_WINDOW_HELD,      // handed out, delayed, or left alone by the caller for another reason
    LT_WINDOW_AVAILABLE, // the next take may return it
    LT_WINDOW_FINAL,     // below head too
};

struct lt_window_block;

// The caller may read head, tail, available and final; it writes nothing.
struct lt_window {
    int64_t head;       // everything below is final
    int64_t tail;       // nothing from here on was handed out
    uint64_t available; // offsets that are available again
    uint64_t final;     // offsets above head that are final: they wait for the head
    // -- of window.c only --
    int64_t room;                   // up to here there are blocks
    size_t cap;                     // places in the ring, 0 or a power of 2
    struct lt_window_block **ring;  // block number b stands at b modulo cap
    uint64_t *tree;                 // bit of a place: its block has something available
    size_t level[LT_WINDOW_LEVELS]; // where each level begins in the tree
    unsigned levels;                // how many there are
    struct lt_mem *mem;
};

// lt_window_init makes w empty at head, which is clipped to 0 .. LT_WINDOW_OFFSET_MAX. It allocates
// nothing. mem must outlive w.
void lt_window_init(struct lt_window *w, struct lt_mem *mem, int64_t head);

// lt_window_fini frees what w allocated. Twice is harmless.
void lt_window_fini(struct lt_window *w);

// lt_window_reserve makes room so that all offsets below tail can be taken. It costs 1 KB for each
// 4096 offsets from the old tail on: for a jump of the log use lt_window_gap.
// Returns: 0, LEAT_ENOMEM (nothing changed), LEAT_EINVAL (above LT_WINDOW_OFFSET_MAX).
int lt_window_reserve(struct lt_window *w, int64_t tail);

// lt_window_take hands out the lowest available offset; if there is none, the tail, if it is below
// end (the end of what the log has). It allocates nothing.
// Returns: the offset, LT_WINDOW_NONE, LT_WINDOW_NO_ROOM.
int64_t lt_window_take(struct lt_window *w, int64_t end);

// lt_window_peek_next returns what lt_window_take would, and changes nothing.
int64_t lt_window_peek_next(const struct lt_window *w, int64_t end);

// lt_window_give_back makes off available again. It allocates nothing.
// Returns: false, with nothing changed, unless off was held.
bool lt_window_give_back(struct lt_window *w, int64_t off);

// lt_window_hold takes back what was given back: off is held again. It allocates nothing.
// Returns: false, with nothing changed, unless off was available.
bool lt_window_hold(struct lt_window *w, int64_t off);

// lt_window_finish makes off final, be it held or available. If it was the head, the head moves
// over all that is final, and the blocks it leaves are freed. It allocates nothing.
// Returns: false, with nothing changed, if off was final already or never handed out.
bool lt_window_finish(struct lt_window *w, int64_t off);

// lt_window_gap makes the offsets of [from, to) final, because they do not exist (or, as in a
// purge, no longer count): new ones too if the gap reaches the tail, which then moves to its end.
// Where a gap goes beyond the room it makes its own, a place in the ring for each 4096 offsets;
// that is the only allocation outside of lt_window_reserve. In an empty window it needs none.
// Returns: 0, LEAT_ENOMEM (nothing changed), LEAT_EINVAL (from is above the tail: what lies between
// was never handed out; or to is above LT_WINDOW_OFFSET_MAX).
int lt_window_gap(struct lt_window *w, int64_t from, int64_t to);

// lt_window_skip_to drops everything below off (clipped to LT_WINDOW_OFFSET_MAX): the log begins
// there now, or a purge ended there. It allocates nothing.
void lt_window_skip_to(struct lt_window *w, int64_t off);

// lt_window_touch_to moves the tail up to a recovered value; the new offsets are held, and the
// caller then gives back or finishes each. It allocates nothing; a lower tail is no change.
// Returns: false, with nothing changed, if the room for them was not reserved.
bool lt_window_touch_to(struct lt_window *w, int64_t tail);

// lt_window_state tells what off is, LT_WINDOW_NEW, _HELD, _AVAILABLE or _FINAL.
int lt_window_state(const struct lt_window *w, int64_t off);

// lt_window_check says whether the invariants hold. For tests: it reads every bit.
bool lt_window_check(const struct lt_window *w);

#endif
