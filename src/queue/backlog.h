/* SPDX-License-Identifier: MIT */
// backlog: which offset of one partition a queue hands out next: by priority, of each group one at
// a time, lowest offset first. A pure state machine in front of the partition's window: no I/O, no
// lock, no clock; what a delay or a lease is the caller's business.
//
//   waiting: behind another of its group   held: leased, delayed, moving or kept   final: over
//
//   from         to         by
//   new          held       lt_backlog_take at the tail (priority 4, no group); lt_backlog_admit
//   new          waiting    lt_backlog_admit
//   available    held       lt_backlog_take, lt_backlog_hold
//   held         available  lt_backlog_give_back
//   held         waiting    lt_backlog_rejoin
//   available    waiting    lt_backlog_rejoin, of the head that one before it passes
//   waiting      held       lt_backlog_turn: the one before it is final, or was left;
//                           lt_backlog_hold
//   any of them  final      lt_backlog_finish, lt_backlog_gap, lt_backlog_skip_to
//
// The window knows of every offset whether it is held, available or final; what is available there
// is of priority 4. Each other priority that occurs has a plane, a window of its own over the same
// offsets, in which all that is not of that priority is final; so have those who wait. So the next
// message is found through ten numbers and one search, whatever the backlog. Where all is of
// priority 4 and without a group there is no plane, and nothing costs more than the window.
//
// A line is what is left of a group: its head, whose turn it is, and in order of offset those who
// wait. It ends with its last message, so the next one of that group begins a new one.
//
// Cost: 2 bits an offset for each plane in use; a line some 200 bytes, 16 for each who waits, 60
// more for one who came back. Only lt_backlog_admit and _rejoin, and as in the window
// lt_window_reserve and a gap beyond its room, allocate: what settling needs is there before a
// message can be handed out. All is O(log64 n), but a gap or skip also looks at each line.
//
// Invariants (lt_backlog_check restates them):
//  1. The window's and the planes' own hold; no plane has a tail behind the window's.
//  2. What is not final in a plane is held in the window, and in one plane of a priority only.
//  3. Who waits is available in the plane of those who wait, or in the map of those who came back,
//     and held where its priority says.
//  4. A line has a head that is neither final nor waiting; who waits stands in one, in order, and
//     behind its head unless it came back; of those in it who do not wait any more nothing is
//     asked. It is found by its group, and by its head.
//  5. A line is among `turns` from when its head changed until lt_backlog_turn has told so.
//
// Threads: none of this locks; the owner's lock guards it.
#ifndef LT_QUEUE_BACKLOG_H
#define LT_QUEUE_BACKLOG_H

#include "base/list.h"
#include "base/map.h"
#include "queue/window.h"

enum { LT_BACKLOG_WAITING = 4 }; // what lt_backlog_state says beside LT_WINDOW_...
enum { LT_BACKLOG_PLANES = 10 }; // by priority; 0: those who wait; 4: none, it is the window

// The caller reads nothing but through the functions.
struct lt_backlog {
    struct lt_window *window;
    struct lt_window *plane; // LT_BACKLOG_PLANES of them; NULL: never needed
    uint32_t planes;         // bit: the plane has been begun
    bool seeded;
    struct lt_map lines;   // group to line
    struct lt_list *heads; // buckets of lines, by head
    size_t buckets;        // 0 or a power of 2
    struct lt_list turns;  // lines with another head than before
    struct lt_map back;    // offsets of those who came back and wait
    struct lt_mem *mem;
};

// lt_backlog_init makes b empty in front of window, which outlives it and stays where it is; also
// mem. It allocates nothing.
void lt_backlog_init(struct lt_backlog *b, struct lt_window *window, struct lt_mem *mem);
// lt_backlog_fini frees all but the window. Twice is harmless.
void lt_backlog_fini(struct lt_backlog *b);
// lt_backlog_seed makes the places of groups hard to guess; before the first one, see lt_map_init.
void lt_backlog_seed(struct lt_backlog *b, uint64_t seed);

struct lt_admission {
    int priority; // 1 .. 9
    const void *group;
    size_t group_size;     // 0: none
    int64_t not_before_ms; // kept for lt_backlog_turn and lt_backlog_not_before
};
// lt_backlog_admit takes the offset in: the window's tail, or (after a restart) one in front of it
// that is held. Offsets come in rising order.
// Returns: 1 (it is held, and its turn: the caller gives it back when its time has come), 0 (it
// waits), LEAT_ENOMEM (nothing changed), LEAT_EINVAL (no such offset, the same).
int lt_backlog_admit(struct lt_backlog *b, int64_t off, const struct lt_admission *a);

// lt_backlog_peek returns the next one to hand out: of the highest priority the lowest offset.
// What the window has not touched yet, up to end, is of priority 4.
// Returns: LT_WINDOW_NONE; LT_WINDOW_NO_ROOM (lt_window_reserve must come first).
int64_t lt_backlog_peek_all(const struct lt_backlog *b, int64_t end);
static inline int64_t lt_backlog_peek(const struct lt_backlog *b, int64_t end) {
    return b->planes ? lt_backlog_peek_all(b, end) : lt_window_peek_next(b->window, end);
}
// lt_backlog_take makes what lt_backlog_peek returned held.
// Returns: false, with nothing changed, if it is neither available nor the tail.
bool lt_backlog_take(struct lt_backlog *b, int64_t off);
// lt_backlog_give_back makes off available, lt_backlog_hold makes it held again; one that waits
// leaves its line by it, and the others need not wait for it.
// Returns: false, with nothing changed, unless it was held, or available or waiting.
bool lt_backlog_give_back(struct lt_backlog *b, int64_t off);
bool lt_backlog_hold(struct lt_backlog *b, int64_t off);
// lt_backlog_finish makes off final; its line, if it was the head of one, goes on.
// Returns: false, with nothing changed, if off was final already or never touched.
bool lt_backlog_finish_all(struct lt_backlog *b, int64_t off);
static inline bool lt_backlog_finish(struct lt_backlog *b, int64_t off) {
    bool plain = !b->planes && lt_map_count(&b->lines) == 0;
    return plain ? lt_window_finish(b->window, off) : lt_backlog_finish_all(b, off);
}
// lt_backlog_leave lets the line of off go on, though off stays held: it is dead, in place.
void lt_backlog_leave(struct lt_backlog *b, int64_t off);
// lt_backlog_rejoin takes off, which is held and in no line (it had left it, or was kept over a
// restart), back among those of its group that are there, by offset; its priority stays. If the
// head stands behind it, and pass says that nobody has that one, it waits, and lt_backlog_turn
// tells whose turn it is. Returns: 1 (it is its turn, held as it was), 0 (it waits), LEAT_ENOMEM
// (nothing changed), LEAT_EINVAL (it is not held, the same).
int lt_backlog_rejoin(struct lt_backlog *b, int64_t off, const struct lt_admission *a, bool pass);
// lt_backlog_gap and _skip_to are lt_window_gap and _skip_to, for all; lines may go on.
int lt_backlog_gap(struct lt_backlog *b, int64_t from, int64_t to);
void lt_backlog_skip_to(struct lt_backlog *b, int64_t off);

// lt_backlog_turn tells whose turn it is since finish, leave, rejoin, gap or skip: off is held now,
// and the caller gives it back when *not_before_ms (as admitted) is over. To be called until it is
// false.
bool lt_backlog_turn(struct lt_backlog *b, int64_t *off, int64_t *not_before_ms);

// lt_backlog_not_before is what the head of a line was admitted with, INT64_MIN of any other.
int64_t lt_backlog_not_before(const struct lt_backlog *b, int64_t off);
// lt_backlog_state tells what off is: LT_WINDOW_NEW, _HELD, _AVAILABLE, _FINAL, LT_BACKLOG_WAITING.
int lt_backlog_state(const struct lt_backlog *b, int64_t off);
// lt_backlog_available counts those that are available, lt_backlog_waiting those who wait; what the
// window has not touched is in neither.
uint64_t lt_backlog_available(const struct lt_backlog *b);
uint64_t lt_backlog_waiting(const struct lt_backlog *b);
// lt_backlog_head_of is the offset that the group's others wait for, or -1.
int64_t lt_backlog_head_of(const struct lt_backlog *b, const void *group, size_t size);

// lt_backlog_check says whether the invariants hold. For tests: it looks at every offset.
bool lt_backlog_check(const struct lt_backlog *b);

#endif
