/* SPDX-License-Identifier: MIT */
// The backlog: a table of what each call does to each state, what comes next, and a random walk
// against a model that looks at every offset, in which allocations fail.
#include <criterion/criterion.h>

#include "base/hash.h"
#include "queue/backlog.h"

#include <stdlib.h>
#include <string.h>

static int fail_in; // so many allocations until one fails; 0: none does
static long out;    // allocations

static void *counted(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0) {
        out -= old != NULL;
        free(old);
        return NULL;
    }
    if (fail_in > 0 && --fail_in == 0)
        return NULL;
    void *p = realloc(old, size);
    out += !old;
    return p;
}

static struct lt_mem mem = { .fn = counted };
static struct lt_window w;
static struct lt_backlog b;

static void start(int64_t head) {
    fail_in = 0;
    lt_window_init(&w, &mem, head);
    lt_backlog_init(&b, &w, &mem);
}

static void stop(void) {
    cr_assert(lt_backlog_check(&b));
    lt_backlog_fini(&b);
    lt_backlog_fini(&b);
    lt_window_fini(&w);
    cr_assert_eq(out, 0, "%ld allocations left", out);
}

static int admit(int priority, const char *group, int64_t not_before_ms) {
    struct lt_admission a = { priority, group, group ? strlen(group) : 0, not_before_ms };
    return lt_backlog_admit(&b, w.tail, &a);
}

static void admit_and_give(int priority, const char *group) {
    if (admit(priority, group, 0) == 1)
        cr_assert(lt_backlog_give_back(&b, w.tail - 1));
}

static int64_t take(int64_t end) {
    int64_t off;
    while ((off = lt_backlog_peek(&b, end)) == LT_WINDOW_NO_ROOM)
        cr_assert_eq(lt_window_reserve(&w, w.tail + 1), 0);
    cr_assert(off < 0 || lt_backlog_take(&b, off));
    return off;
}

static int64_t turn(void) {
    int64_t off, not_before_ms;
    return lt_backlog_turn(&b, &off, &not_before_ms) ? off : -1;
}

static int rejoin(int64_t off, const char *group, bool pass) {
    struct lt_admission a = { 4, group, group ? strlen(group) : 0, off * 3 };
    return lt_backlog_rejoin(&b, off, &a, pass);
}

// ---- tables

enum { HELD, AVAILABLE, WAITING, FINAL, NEW, STATES };
enum { TAKE, GIVE_BACK, HOLD, FINISH, LEAVE, GAP, SKIP, TURN, REJOIN, CALLS };
static const int shown[] = { LT_WINDOW_HELD, LT_WINDOW_AVAILABLE, LT_BACKLOG_WAITING,
                             LT_WINDOW_FINAL, LT_WINDOW_NEW };
static const char *const group_of[] = { NULL, NULL, "g", "g", "h", "h" };

static void try_call(int call, int off, int state) {
    switch (call) {
    case TAKE:
        (void)lt_backlog_take(&b, off);
        break;
    case GIVE_BACK:
        cr_assert_eq(lt_backlog_give_back(&b, off), state == HELD);
        break;
    case HOLD:
        cr_assert_eq(lt_backlog_hold(&b, off), state == AVAILABLE || state == WAITING);
        break;
    case FINISH:
        cr_assert_eq(lt_backlog_finish(&b, off), state != FINAL && state != NEW);
        break;
    case LEAVE:
        lt_backlog_leave(&b, off);
        break;
    case GAP:
        cr_assert_eq(lt_backlog_gap(&b, off, off + 1), 0);
        break;
    case SKIP:
        lt_backlog_skip_to(&b, off + 1);
        break;
    case REJOIN: // they are in no line, or the heads of theirs
        cr_assert_eq(rejoin(off, off < 6 ? group_of[off] : NULL, true),
                     state == HELD ? 1 : LEAT_EINVAL);
        break;
    default:
        (void)turn();
    }
}

// 0: of priority 4; 1: of 7; 2 and 3: one group, of 4; 4 and 5: another, of 2. Then each is brought
// into a state, and a call tried on it.
Test(backlog, each_call_leads_from_a_state_to_a_state) {
    static const int to[CALLS][STATES] = {
        [TAKE] = { HELD, HELD, HELD, FINAL, HELD },
        [GIVE_BACK] = { AVAILABLE, AVAILABLE, WAITING, FINAL, NEW },
        [HOLD] = { HELD, HELD, HELD, FINAL, NEW },
        [FINISH] = { FINAL, FINAL, FINAL, FINAL, NEW },
        [LEAVE] = { HELD, AVAILABLE, WAITING, FINAL, NEW },
        [GAP] = { FINAL, FINAL, FINAL, FINAL, FINAL },
        [SKIP] = { FINAL, FINAL, FINAL, FINAL, FINAL },
        [TURN] = { HELD, AVAILABLE, WAITING, FINAL, NEW },
        [REJOIN] = { HELD, AVAILABLE, WAITING, FINAL, NEW },
    };
    static const int priority[] = { 4, 7, 4, 4, 2, 2 };
    for (int off = 0; off < 7; off++) {
        for (int state = 0; state < STATES; state++) {
            bool behind = off == 3 || off == 5;
            if ((off == 6) != (state == NEW) || (state == WAITING && !behind))
                continue;
            for (int call = 0; call < CALLS; call++) {
                start(0);
                for (int i = 0; i < 6; i++)
                    cr_assert_eq(admit(priority[i], group_of[i], 0), i != 3 && i != 5);
                cr_assert_eq(lt_window_reserve(&w, 7), 0);
                if (behind && state != WAITING && state != FINAL) {
                    cr_assert(lt_backlog_finish(&b, off - 1));
                    cr_assert_eq(turn(), off);
                }
                if (state == AVAILABLE)
                    cr_assert(lt_backlog_give_back(&b, off));
                else if (state == FINAL)
                    cr_assert(lt_backlog_finish(&b, off));
                cr_assert_eq(lt_backlog_state(&b, off), shown[state]);
                try_call(call, off, state);
                cr_assert_eq(lt_backlog_state(&b, off), shown[to[call][state]],
                             "offset %d, state %d, call %d: %d", off, state, call,
                             lt_backlog_state(&b, off));
                stop();
            }
        }
    }
}

Test(backlog, the_highest_priority_comes_first_and_of_it_the_lowest_offset) {
    static const int priorities[] = { 4, 1, 9, 5, 4, 9, 3, 2, 6, 7, 8, 1 };
    static const int expect[] = { 2, 5, 10, 9, 8, 3, 0, 4, 12, 13, 6, 7, 1, 11 };
    start(0);
    for (size_t i = 0; i < 12; i++)
        admit_and_give(priorities[i], NULL);
    cr_assert_eq(lt_backlog_available(&b), 12);
    for (size_t i = 0; i < sizeof expect / sizeof expect[0]; i++) // 12 and 13 were never admitted
        cr_assert_eq(take(14), expect[i], "the %zu.", i);
    cr_assert_eq(take(14), LT_WINDOW_NONE);
    cr_assert(lt_backlog_give_back(&b, 11) && lt_backlog_give_back(&b, 3));
    cr_assert_eq(take(14), 3); // at its old place
    for (int64_t off = 0; off < 14; off++)
        cr_assert(lt_backlog_finish(&b, off));
    cr_assert(w.head == 14 && lt_backlog_available(&b) == 0);
    stop();
}

Test(backlog, of_a_group_one_at_a_time_in_order_and_others_are_not_hidden) {
    start(1000);
    for (int i = 0; i < 5000; i++)
        admit_and_give(i % 2 ? 4 : 9, "a");
    admit_and_give(1, "b");
    admit_and_give(4, NULL);
    cr_assert_eq(lt_backlog_waiting(&b), 4999);
    cr_assert_eq(lt_backlog_head_of(&b, "a", 1), 1000);
    cr_assert_eq(take(0), 1000);
    cr_assert_eq(take(0), 6001);
    cr_assert_eq(take(0), 6000);
    cr_assert_eq(take(0), LT_WINDOW_NONE);
    for (int64_t off = 1000; off < 5999; off++) {
        if (off % 3 == 0)
            lt_backlog_leave(&b, off); // kept: the line goes on, and the offset is held
        else
            cr_assert(lt_backlog_finish(&b, off));
        cr_assert_eq(turn(), off + 1);
        cr_assert_eq(turn(), -1);
        cr_assert_eq(take(0), LT_WINDOW_NONE, "it is the caller who gives it back");
        cr_assert(lt_backlog_give_back(&b, off + 1));
        cr_assert_eq(take(0), off + 1);
    }
    cr_assert(lt_backlog_finish(&b, 5999));
    cr_assert_eq(turn(), -1);
    cr_assert_eq(lt_backlog_head_of(&b, "a", 1), -1);
    cr_assert_eq(lt_backlog_state(&b, 1002), LT_WINDOW_HELD);
    admit_and_give(4, "a"); // a new line
    cr_assert_eq(take(0), 6002);
    stop();
}

Test(backlog, a_head_that_is_gone_lets_the_next_one_come) {
    start(0);
    for (int i = 0; i < 300; i++)
        admit_and_give(4, i % 3 == 0 ? "a" : i % 3 == 1 ? "b" : "c");
    cr_assert(lt_backlog_finish(&b, 4)); // in the middle of a line
    lt_backlog_skip_to(&b, 2);           // the heads of a and b
    int64_t one = turn(), two = turn();
    cr_assert(one + two == 3 + 7 && (one == 3 || one == 7) && turn() == -1);
    cr_assert_eq(lt_backlog_gap(&b, 0, 400), 0); // all, and what never was
    cr_assert(turn() == -1 && w.tail == 400 && lt_backlog_waiting(&b) == 0);
    cr_assert_eq(lt_backlog_head_of(&b, "c", 1), -1);
    stop();
}

// 0 and 1 are kept, 2 is at work, 3 and 4 wait; of priorities that differ.
Test(backlog, one_that_comes_back_takes_its_place_in_its_line) {
    start(0);
    for (int i = 0; i < 5; i++)
        admit_and_give(i % 2 ? 4 : 7, "a");
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(take(0), i);
        lt_backlog_leave(&b, i);
        cr_assert_eq(turn(), i + 1);
        cr_assert(lt_backlog_give_back(&b, i + 1));
    }
    cr_assert_eq(take(0), 2);
    for (int i = 1; i >= 0; i--) { // in any order
        cr_assert_eq(rejoin(i, "a", false), 0);
        cr_assert_eq(lt_backlog_state(&b, i), LT_BACKLOG_WAITING);
        cr_assert(!lt_backlog_give_back(&b, i) && rejoin(i, "a", true) == LEAT_EINVAL);
        cr_assert(lt_backlog_check(&b));
    }
    cr_assert(lt_backlog_waiting(&b) == 4 && lt_backlog_available(&b) == 0 && turn() == -1);
    cr_assert(lt_backlog_finish(&b, 2));
    int64_t off, not_before_ms;
    for (int i = 0; i < 5; i += i == 1 ? 2 : 1) {
        cr_assert(lt_backlog_turn(&b, &off, &not_before_ms));
        cr_assert(off == i && not_before_ms == (i < 2 ? i * 3 : 0), "%d, not %d", (int)off, i);
        cr_assert(turn() == -1 && lt_backlog_give_back(&b, i) && take(0) == i);
        cr_assert(lt_backlog_finish(&b, i));
    }
    cr_assert(w.head == 5 && lt_backlog_waiting(&b) == 0);
    stop();
}

Test(backlog, one_that_comes_back_passes_a_head_that_nobody_has) {
    start(0);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(admit(4, "a", 10 + i), i == 0);
    lt_backlog_leave(&b, 0);
    cr_assert_eq(turn(), 1);
    lt_backlog_leave(&b, 1);
    cr_assert(turn() == 2 && lt_backlog_give_back(&b, 2));
    cr_assert(rejoin(1, "a", true) == 0 && turn() == 1);
    cr_assert(lt_backlog_state(&b, 2) == LT_BACKLOG_WAITING && lt_backlog_head_of(&b, "a", 1) == 1);
    cr_assert(rejoin(0, "a", true) == 0 && turn() == 0); // 1 is held still
    cr_assert(lt_backlog_state(&b, 1) == LT_BACKLOG_WAITING && lt_backlog_waiting(&b) == 3);
    cr_assert(lt_backlog_check(&b) && turn() == -1);
    cr_assert(lt_backlog_hold(&b, 1)); // leaves again, and comes back
    cr_assert_eq(rejoin(1, "a", true), 0);
    int64_t off, not_before_ms;
    for (int i = 1; i < 4; i++) {
        cr_assert(lt_backlog_finish(&b, i - 1));
        cr_assert(lt_backlog_turn(&b, &off, &not_before_ms) && off == i);
        cr_assert_eq(not_before_ms, i == 1 ? 3 : 10 + i);
    }
    lt_backlog_leave(&b, 3);
    cr_assert_eq(rejoin(3, "a", true), 1); // a new line
    cr_assert_eq(lt_backlog_head_of(&b, "a", 1), 3);
    cr_assert(rejoin(3, "a", true) == 1 && rejoin(4, "a", true) == LEAT_EINVAL);
    stop();
}

// 0 waits behind 2, which has been in flight, when 1 passes that.
Test(backlog, one_that_waits_before_both_goes_first) {
    start(0);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(admit(4, "a", 0), i == 0);
    for (int i = 0; i < 2; i++) {
        lt_backlog_leave(&b, i);
        cr_assert_eq(turn(), i + 1);
    }
    cr_assert(rejoin(0, "a", false) == 0 && lt_backlog_give_back(&b, 2));
    cr_assert(rejoin(1, "a", true) == 0 && turn() == 0 && turn() == -1);
    cr_assert(lt_backlog_finish(&b, 0) && turn() == 1);
    cr_assert(lt_backlog_finish(&b, 1) && turn() == 2);
    stop();
}

// What came back and waits goes with a gap, with a skip, or alone.
Test(backlog, one_that_came_back_can_go) {
    for (int how = 0; how < 4; how++) {
        start(0);
        for (int i = 0; i < 4; i++)
            cr_assert_eq(admit(4, "a", 0), i == 0);
        lt_backlog_leave(&b, 0);
        cr_assert(turn() == 1 && rejoin(0, "a", false) == 0);
        if (how == 0)
            cr_assert_eq(lt_backlog_gap(&b, 0, 1), 0);
        else if (how == 1)
            lt_backlog_skip_to(&b, 1);
        else if (how == 2)
            cr_assert(lt_backlog_finish(&b, 0));
        else
            cr_assert(lt_backlog_hold(&b, 0));
        cr_assert(lt_backlog_waiting(&b) == 2 && lt_backlog_check(&b));
        cr_assert(lt_backlog_finish(&b, 1) && turn() == 2 && turn() == -1);
        stop();
    }
}

// After a restart all up to the tail is held, and classified in order; what is over goes.
Test(backlog, what_was_touched_is_admitted_in_place) {
    struct lt_admission a = { 6, "g", 1, 77 };
    start(10);
    cr_assert_eq(lt_window_reserve(&w, 15), 0);
    cr_assert(lt_window_touch_to(&w, 15));
    cr_assert(lt_backlog_finish(&b, 10));
    cr_assert_eq(lt_backlog_admit(&b, 12, &a), 1);
    cr_assert_eq(lt_backlog_admit(&b, 13, &a), 0);
    cr_assert_eq(lt_backlog_admit(&b, 16, &a), LEAT_EINVAL);
    cr_assert_eq(lt_backlog_admit(&b, 10, &a), LEAT_EINVAL);
    cr_assert_eq(lt_backlog_admit(&b, 12, &a), LEAT_EINVAL); // not in order
    cr_assert_eq(lt_backlog_admit(&b, 15, &(struct lt_admission){ .priority = 0 }), LEAT_EINVAL);
    cr_assert_eq(lt_backlog_admit(&b, 15, &(struct lt_admission){ .priority = 10 }), LEAT_EINVAL);
    cr_assert_eq(lt_backlog_not_before(&b, 12), 77);
    cr_assert_eq(lt_backlog_not_before(&b, 13), INT64_MIN);
    cr_assert(lt_backlog_give_back(&b, 12) && lt_backlog_give_back(&b, 14));
    cr_assert(take(20) == 12 && take(20) == 14 && take(20) == 15);
    stop();
}

Test(backlog, check_sees_what_is_broken) {
    start(0);
    for (int i = 0; i < 6; i++)
        admit_and_give(5 + i % 2, i < 4 ? "a" : NULL);
    cr_assert(lt_backlog_check(&b));
    (void)lt_window_give_back(&w, 5); // available twice
    cr_assert(!lt_backlog_check(&b));
    (void)lt_window_hold(&w, 5);
    (void)lt_window_hold(&b.plane[0], 2); // neither waits nor has its turn
    cr_assert(!lt_backlog_check(&b));
    (void)lt_window_give_back(&b.plane[0], 2);
    (void)lt_window_finish(&w, 2); // over, and waits
    cr_assert(!lt_backlog_check(&b));
    (void)lt_window_finish(&b.plane[0], 2);
    cr_assert(!lt_backlog_check(&b));
    (void)lt_window_finish(&b.plane[5], 2);
    cr_assert(lt_backlog_check(&b));
    b.plane[6].tail++;
    cr_assert(!lt_backlog_check(&b));
    b.plane[6].tail--;
    stop();
}

// ---- the model

enum { N = 400, GROUPS = 5 };
struct model {
    int state, priority, group; // group 0: none
    bool left;
} model[N];
static int64_t head, tail, turn_of[GROUPS + 1]; // -1: nobody's

static bool open_at(int64_t off) {
    return off >= head && off < tail && model[off].state != LT_WINDOW_FINAL;
}

static bool in_line(int64_t off, int group) {
    return open_at(off) && group != 0 && model[off].group == group && !model[off].left;
}

static void settle_model(void) {
    while (head < tail && model[head].state == LT_WINDOW_FINAL)
        head++;
    int64_t off, not_before_ms;
    int changed = 0;
    for (int g = 1; g <= GROUPS; g++) {
        if (turn_of[g] >= 0 && in_line(turn_of[g], g))
            continue;
        for (off = head; off < tail && !in_line(off, g); off++)
            ;
        turn_of[g] = off < tail ? off : -1;
        changed += off < tail;
    }
    for (; lt_backlog_turn(&b, &off, &not_before_ms); changed--) {
        cr_assert(model[off].state == LT_BACKLOG_WAITING && turn_of[model[off].group] == off);
        cr_assert_eq(not_before_ms, off * 3);
        model[off].state = LT_WINDOW_HELD;
    }
    cr_assert_eq(changed, 0, "%d were not told of", changed);
}

static int64_t model_next(int64_t end) {
    for (int priority = 9; priority >= 1; priority--) {
        for (int64_t off = head; off < tail; off++)
            if (model[off].state == LT_WINDOW_AVAILABLE && model[off].priority == priority)
                return off;
        if (priority == 4 && tail < end)
            return tail;
    }
    return LT_WINDOW_NONE;
}

static void compare(void) {
    uint64_t available = 0, waiting = 0;
    cr_assert(w.head == head && w.tail == tail, "%d..%d, not %d..%d", (int)w.head, (int)w.tail,
              (int)head, (int)tail);
    for (int64_t off = 0; off < tail; off++) {
        int expect = off < head ? LT_WINDOW_FINAL : model[off].state;
        cr_assert_eq(lt_backlog_state(&b, off), expect, "offset %d", (int)off);
        available += expect == LT_WINDOW_AVAILABLE;
        waiting += expect == LT_BACKLOG_WAITING;
    }
    cr_assert(lt_backlog_available(&b) == available && lt_backlog_waiting(&b) == waiting);
    cr_assert_eq(lt_backlog_peek(&b, 0), model_next(0));
}

static void model_admit(uint64_t r) {
    static const char *const groups[] = { "a", "", "ccc", "dddd", "ee" };
    int priority = r % 3 ? 4 : (int)(r / 3 % 9) + 1, group = (int)(r >> 8 & 0xffff) % (GROUPS + 2);
    if (group > GROUPS)
        group = 0;
    struct lt_admission a = { priority, group ? groups[group - 1] : NULL,
                              group ? strlen(groups[group - 1]) : 0, tail * 3 };
    if (group && a.group_size == 0)
        group = 0;
    fail_in = (int)(r >> 20) % 4;
    int rc = lt_backlog_admit(&b, tail, &a);
    if (rc == LEAT_ENOMEM)
        return; // nothing has changed, compare sees
    fail_in = 0;
    model[tail] = (struct model){ .state = LT_WINDOW_HELD, .priority = priority, .group = group };
    tail++;
    bool first = group == 0 || turn_of[group] < 0;
    cr_assert_eq(rc, first);
    if (!first)
        model[tail - 1].state = LT_BACKLOG_WAITING;
    else if (group)
        turn_of[group] = tail - 1;
}

static void model_rejoin(int64_t off, bool pass, int fail) {
    static const char *const groups[] = { "a", "", "ccc", "dddd", "ee" };
    int group = model[off].group;
    int64_t turn = group ? turn_of[group] : -1;
    fail_in = fail;
    int rc = rejoin(off, group ? groups[group - 1] : NULL, pass);
    if (rc == LEAT_ENOMEM)
        return;
    fail_in = 0;
    model[off].left = false;
    cr_assert_eq(rc, turn < 0 || turn == off);
    if (rc == 1 && group)
        turn_of[group] = off;
    if (rc == 1)
        return;
    model[off].state = LT_BACKLOG_WAITING;
    if (pass && off < turn) {
        model[turn].state = LT_BACKLOG_WAITING;
        turn_of[group] = -1; // the first of them is told
    }
}

static void model_range(int64_t from, int64_t to, bool skip) {
    if (skip)
        from = head;
    for (int64_t off = from; off < to && off < N; off++)
        model[off].state = LT_WINDOW_FINAL;
    if (to > tail)
        tail = to;
    if (skip)
        lt_backlog_skip_to(&b, to);
    else
        cr_assert_eq(lt_backlog_gap(&b, from, to), 0);
    if (from <= head && to > head)
        head = to;
}

static void step(uint64_t r) {
    int64_t off = head + (int64_t)(r >> 40) % (tail - head + 1), next;
    bool open = open_at(off);
    int state = open ? model[off].state : -1;
    switch (r % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
        if (tail < N - 40)
            model_admit(r >> 4);
        break;
    case 4:
    case 5: // the lazy tail
        next = model_next(tail < N - 40 ? tail + 1 : tail);
        cr_assert_eq(take(tail < N - 40 ? tail + 1 : tail), next);
        if (next == tail)
            model[tail++] = (struct model){ .priority = 4 };
        if (next >= 0)
            model[next].state = LT_WINDOW_HELD;
        break;
    case 6:
    case 7:
    case 8:
    case 9:
        cr_assert_eq(lt_backlog_give_back(&b, off), state == LT_WINDOW_HELD);
        if (state == LT_WINDOW_HELD)
            model[off].state = LT_WINDOW_AVAILABLE;
        break;
    case 10:
        cr_assert_eq(lt_backlog_hold(&b, off),
                     state == LT_WINDOW_AVAILABLE || state == LT_BACKLOG_WAITING);
        if (state == LT_BACKLOG_WAITING)
            model[off].left = true;
        if (state == LT_WINDOW_AVAILABLE || state == LT_BACKLOG_WAITING)
            model[off].state = LT_WINDOW_HELD;
        break;
    case 11:
        if (state == LT_WINDOW_HELD) {
            lt_backlog_leave(&b, off);
            model[off].left = true;
        }
        break;
    case 12:
        for (off = head; off < tail; off++) // of those that left, or one that is held
            if (open_at(off) && model[off].left && model[off].state == LT_WINDOW_HELD && r >> 8 & 3)
                break;
        if (off < tail)
            model_rejoin(off, r >> 10 & 1, (int)(r >> 20) % 6);
        break;
    case 15:
        if (r >> 10 & 7)
            break;
        model_range(off, off + (int64_t)(r >> 14) % 20, r >> 13 & 1);
        break;
    default:
        cr_assert_eq(lt_backlog_finish(&b, off), open);
        if (open)
            model[off].state = LT_WINDOW_FINAL;
    }
    settle_model();
}

Test(backlog, does_what_a_plain_model_does) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        memset(model, 0, sizeof model);
        head = tail = 0;
        memset(turn_of, -1, sizeof turn_of);
        start(0);
        for (uint64_t i = 0; i < 2000; i++) {
            step(lt_mix3(seed, i, 7));
            compare();
            cr_assert(i % 16 || lt_backlog_check(&b), "seed %d step %d", (int)seed, (int)i);
        }
        stop();
    }
}
