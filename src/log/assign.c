/* SPDX-License-Identifier: MIT */
#include "log/assign.h"

#include "leat.h"

#include <stdbool.h>

static bool assign_reads(const struct lt_assign *a, size_t member, size_t topic) {
    return a->reads[member * a->topics + topic] != 0;
}

static int32_t assign_readers(const struct lt_assign *a, size_t topic) {
    int32_t n = 0;
    for (size_t m = 0; m < a->members; m++)
        n += assign_reads(a, m, topic);
    return n;
}

static void assign_put(const struct lt_assign *a, size_t at, int32_t member) {
    if (a->target[at] >= 0)
        a->load[a->target[at]]--;
    a->target[at] = member;
    a->load[member]++;
}

// ---- range and round robin

static void assign_range(const struct lt_assign *a) {
    size_t first = 0; // the topic's first partition
    for (size_t t = 0; t < a->topics; first += (size_t)a->partitions[t++]) {
        int32_t readers = assign_readers(a, t);
        if (readers == 0)
            continue;
        int32_t each = a->partitions[t] / readers, more = a->partitions[t] % readers;
        size_t at = first;
        for (size_t m = 0; m < a->members; m++) {
            if (!assign_reads(a, m, t))
                continue;
            for (int32_t i = each + (more-- > 0 ? 1 : 0); i > 0; i--)
                assign_put(a, at++, (int32_t)m);
        }
    }
}

static void assign_round_robin(const struct lt_assign *a) {
    size_t next = 0; // the member whose turn it is
    size_t at = 0;
    for (size_t t = 0; t < a->topics; t++) {
        bool read = assign_readers(a, t) > 0;
        for (int32_t i = 0; i < a->partitions[t]; i++, at++) {
            while (read && !assign_reads(a, next, t))
                next = (next + 1) % a->members;
            if (!read)
                continue;
            assign_put(a, at, (int32_t)next);
            next = (next + 1) % a->members;
        }
    }
}

// ---- sticky

// The first of the readers of a topic that have the fewest partitions; -1: nobody reads it.
static int32_t assign_least(const struct lt_assign *a, size_t topic) {
    int32_t least = -1;
    for (size_t m = 0; m < a->members; m++)
        if (assign_reads(a, m, topic) && (least < 0 || a->load[m] < a->load[least]))
            least = (int32_t)m;
    return least;
}

// The highest load below that bound; -1: there is none.
static int32_t assign_highest(const struct lt_assign *a, int32_t bound) {
    int32_t highest = -1;
    for (size_t m = 0; m < a->members; m++)
        if (a->load[m] < bound && a->load[m] > highest)
            highest = a->load[m];
    return highest;
}

// Keeps what is owned by a member that reads it. Returns  how many partitions are left.
static size_t assign_keep(const struct lt_assign *a) {
    size_t at = 0, left = 0;
    for (size_t t = 0; t < a->topics; t++) {
        for (int32_t i = 0; i < a->partitions[t]; i++, at++) {
            int32_t owner = a->owner[at];
            if (owner >= 0 && (size_t)owner < a->members && assign_reads(a, (size_t)owner, t))
                assign_put(a, at, owner);
            else
                left++;
        }
    }
    return left;
}

// Gives what nobody has to the least loaded reader, partitions that few may read first.
static void assign_give(const struct lt_assign *a, size_t left) {
    for (int32_t readers = 1, more = 0; left > 0 && more != INT32_MAX; readers = more) {
        size_t first = 0;
        more = INT32_MAX; // the next higher number of readers that there is
        for (size_t t = 0; t < a->topics; first += (size_t)a->partitions[t++]) {
            int32_t n = assign_readers(a, t);
            if (n > readers && n < more)
                more = n;
            for (size_t at = first; n == readers && at < first + (size_t)a->partitions[t]; at++) {
                if (a->target[at] >= 0)
                    continue;
                assign_put(a, at, assign_least(a, t));
                left--;
            }
        }
    }
}

struct assign_place {
    size_t topic, at; // at: in owner and target
    int32_t number;   // of the partition in its topic
};

// Goes to the next partition; behind the last one comes the first. There is one at least.
static void assign_next(const struct lt_assign *a, struct assign_place *p) {
    p->at++;
    p->number++;
    while (p->number >= a->partitions[p->topic]) {
        p->number = 0;
        if (++p->topic == a->topics)
            *p = (struct assign_place){ 0 };
    }
}

// Moves the partition at p to a reader that has at least two fewer than its member, which has top.
static bool assign_move(const struct lt_assign *a, const struct assign_place *p, int32_t top) {
    int32_t from = a->target[p->at];
    if (from < 0 || a->load[from] != top)
        return false;
    int32_t to = assign_least(a, p->topic);
    if (a->load[to] > top - 2)
        return false;
    assign_put(a, p->at, to);
    return true;
}

// Goes down the loads from the highest: who has that many gives away, one at a time and in turns,
// as long as one of them can. So nobody gives more than evenness wants of him. Each move makes the
// sum of the squares of the loads smaller, so this ends. Returns  whether anything has moved.
static bool assign_level(const struct lt_assign *a, size_t total) {
    bool moved = false;
    struct assign_place p = { 0, SIZE_MAX, -1 };
    for (int32_t top = assign_highest(a, INT32_MAX); top >= 2; top = assign_highest(a, top)) {
        size_t still = 0; // looked at since the last move
        while (still++ < total) {
            assign_next(a, &p);
            if (!assign_move(a, &p, top))
                continue;
            moved = true;
            still = 0;
            if (assign_highest(a, top + 1) < top)
                break; // nobody has so many now
        }
    }
    return moved;
}

static void assign_sticky(const struct lt_assign *a, size_t total) {
    assign_give(a, assign_keep(a));
    while (assign_level(a, total)) { // who gave may be two below one that could not, now
    }
}

void lt_assign(int32_t how, const struct lt_assign *a) {
    size_t total = 0;
    for (size_t m = 0; m < a->members; m++)
        a->load[m] = 0;
    for (size_t t = 0; t < a->topics; t++)
        for (int32_t i = 0; i < a->partitions[t]; i++)
            a->target[total++] = -1;
    if (how == LEAT_ASSIGN_STICKY)
        assign_sticky(a, total);
    else if (how == LEAT_ASSIGN_ROUND_ROBIN)
        assign_round_robin(a);
    else
        assign_range(a);
}
