/* SPDX-License-Identifier: MIT */
// The window: what may be handed out, in what order, and what is over. Besides the tables of cases
// there is one random walk against a model that could not be plainer: an array of states.
#include <criterion/criterion.h>

#include "base/hash.h"
#include "queue/window.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// ---- memory that counts, and fails when told to ------------------------------------------------

enum { HEADER = 16 }; // keeps the size in front of each allocation

struct meter {
    size_t live;    // allocations that are out
    size_t bytes;   // their bytes
    size_t calls;   // allocations so far
    size_t fail_at; // this call fails; 0 = none
};

static void *meter_alloc(void *ctx, void *old, size_t size) {
    struct meter *m = ctx;
    size_t before = 0;
    char *p = old ? (char *)old - HEADER : NULL;
    if (p)
        memcpy(&before, p, sizeof(before));
    if (size == 0) {
        m->live -= p != NULL;
        m->bytes -= before;
        free(p);
        return NULL;
    }
    if (++m->calls == m->fail_at)
        return NULL;
    char *q = realloc(p, size + HEADER);
    if (!q)
        return NULL;
    memcpy(q, &size, sizeof(size));
    m->live += p == NULL;
    m->bytes += size - before;
    return q + HEADER;
}

static struct meter meter;
static struct lt_mem mem = { .fn = meter_alloc, .ctx = &meter };
static struct lt_window w;

static void start(int64_t head) {
    meter = (struct meter){ 0 };
    lt_window_init(&w, &mem, head);
}

static void stop(void) {
    cr_assert(lt_window_check(&w));
    lt_window_fini(&w);
    cr_assert_eq(meter.live, 0, "%d allocations left", (int)meter.live);
    lt_window_fini(&w);
}

static int64_t take(void) {
    return lt_window_take(&w, INT64_MAX);
}

// take_to hands out all offsets up to tail, reserving on the way.
static void take_to(int64_t tail) {
    cr_assert_eq(lt_window_reserve(&w, tail), 0);
    while (w.tail < tail)
        cr_assert_eq(take(), w.tail - 1);
}

// is compares all that can be seen of w in a few numbers, and checks the invariants.
static bool is(int64_t head, int64_t tail, uint64_t available, uint64_t final) {
    return w.head == head && w.tail == tail && w.available == available && w.final == final &&
           lt_window_check(&w);
}

// ---- one offset --------------------------------------------------------------------------------

Test(window, hands_out_in_order_up_to_the_end) {
    static const int64_t heads[] = { 0, 1, 63, 64, 4095, 4096, 4097, INT64_C(1) << 40 };
    for (int i = 0; i < 8; i++) {
        start(heads[i]);
        for (int64_t off = heads[i]; off < heads[i] + 5000; off++) {
            cr_assert_eq(lt_window_reserve(&w, off + 1), 0);
            cr_assert_eq(lt_window_peek_next(&w, heads[i] + 5000), off);
            cr_assert_eq(lt_window_take(&w, heads[i] + 5000), off);
        }
        cr_assert_eq(lt_window_take(&w, heads[i] + 5000), LT_WINDOW_NONE);
        cr_assert_eq(lt_window_take(&w, 0), LT_WINDOW_NONE);
        cr_assert(is(heads[i], heads[i] + 5000, 0, 0));
        stop();
    }
}

Test(window, nothing_is_handed_out_without_room) {
    start(4095);
    cr_assert_eq(lt_window_take(&w, 4095), LT_WINDOW_NONE);
    cr_assert_eq(lt_window_take(&w, 5000), LT_WINDOW_NO_ROOM);
    cr_assert_eq(lt_window_reserve(&w, 4096), 0);
    cr_assert_eq(lt_window_take(&w, 5000), 4095);
    cr_assert_eq(lt_window_take(&w, 5000), LT_WINDOW_NO_ROOM);
    cr_assert_eq(lt_window_peek_next(&w, 5000), LT_WINDOW_NO_ROOM);
    cr_assert(lt_window_give_back(&w, 4095)); // what is available needs no room
    cr_assert_eq(lt_window_take(&w, 5000), 4095);
    cr_assert(is(4095, 4096, 0, 0));
    stop();
}

Test(window, the_lowest_available_comes_first) {
    start(10);
    take_to(300000);
    static const int64_t given[] = { 200000, 11, 4095, 299999, 4096, 74, 73, 262144, 8191 };
    static const int64_t taken[] = { 11, 73, 74, 4095, 4096, 8191, 200000, 262144, 299999 };
    for (int i = 0; i < 9; i++) {
        cr_assert(lt_window_give_back(&w, given[i]));
        cr_assert_eq(lt_window_state(&w, given[i]), LT_WINDOW_AVAILABLE);
    }
    cr_assert(is(10, 300000, 9, 0));
    for (int i = 0; i < 9; i++) {
        cr_assert_eq(lt_window_peek_next(&w, 0), taken[i]);
        cr_assert_eq(lt_window_take(&w, 0), taken[i], "instead of %d", (int)taken[i]);
        cr_assert_eq(lt_window_state(&w, taken[i]), LT_WINDOW_HELD);
    }
    cr_assert(is(10, 300000, 0, 0));
    stop();
}

// In the ring, blocks 128 and on stand before the head's own, in the same word of the tree.
Test(window, the_lowest_comes_first_around_the_ring) {
    start(32 * 4096 + 17);
    take_to(150 * 4096);
    static const int64_t block[] = { 130, 149, 100, 64, 33, 128, 32, 63, 127 };
    static const int64_t order[] = { 32, 33, 63, 64, 100, 127, 128, 130, 149 };
    for (int n = 1; n <= 9; n++) {
        for (int i = 0; i < n; i++)
            cr_assert(lt_window_give_back(&w, block[i] * 4096 + 100));
        for (int i = 0; i < 9; i++) {
            int64_t off = order[i] * 4096 + 100;
            if (lt_window_state(&w, off) == LT_WINDOW_AVAILABLE)
                cr_assert_eq(take(), off, "of %d, block %d", n, (int)order[i]);
        }
        cr_assert(is(32 * 4096 + 17, 150 * 4096, 0, 0));
    }
    stop();
}

Test(window, the_head_moves_over_a_run_of_final) {
    start(100);
    take_to(200);
    for (int64_t off = 101; off < 150; off++)
        cr_assert(lt_window_finish(&w, off));
    cr_assert(is(100, 200, 0, 49));
    cr_assert(lt_window_finish(&w, 100));
    cr_assert(is(150, 200, 0, 0));
    cr_assert(lt_window_give_back(&w, 150)); // an available one may be finished too
    cr_assert(lt_window_finish(&w, 150));
    cr_assert(is(151, 200, 0, 0));
    for (int64_t off = 199; off > 150; off--)
        cr_assert(lt_window_finish(&w, off));
    cr_assert(is(200, 200, 0, 0));
    take_to(201);
    cr_assert(is(200, 201, 0, 0));
    stop();
}

Test(window, what_makes_no_sense_changes_nothing) {
    start(5);
    take_to(10);
    cr_assert(lt_window_finish(&w, 7));
    cr_assert(lt_window_give_back(&w, 8));
    static const int64_t neither[] = { INT64_MIN, -1, 0, 4, 7, 10, 11, 4096, INT64_MAX };
    for (int i = 0; i < 9; i++) {
        cr_assert(!lt_window_give_back(&w, neither[i]), "case %d", i);
        cr_assert(!lt_window_finish(&w, neither[i]), "case %d", i);
    }
    cr_assert(!lt_window_give_back(&w, 8)); // twice
    cr_assert_eq(lt_window_gap(&w, 11, 12), LEAT_EINVAL);
    cr_assert_eq(lt_window_gap(&w, 5, INT64_MAX), LEAT_EINVAL);
    cr_assert_eq(lt_window_gap(&w, 7, 7), 0);
    cr_assert_eq(lt_window_gap(&w, 9, 6), 0);
    cr_assert_eq(lt_window_gap(&w, -3, 5), 0);
    lt_window_skip_to(&w, 5);
    lt_window_skip_to(&w, INT64_MIN);
    cr_assert(lt_window_touch_to(&w, 9));
    cr_assert(!lt_window_touch_to(&w, 5000));
    cr_assert_eq(lt_window_reserve(&w, INT64_MIN), 0);
    cr_assert_eq(lt_window_reserve(&w, INT64_MAX), LEAT_EINVAL);
    cr_assert_eq(lt_window_reserve(&w, LT_WINDOW_OFFSET_MAX), LEAT_ENOMEM); // refused unasked
    cr_assert(is(5, 10, 1, 1));
    static const int states[] = { LT_WINDOW_FINAL, LT_WINDOW_HELD,      LT_WINDOW_HELD,
                                  LT_WINDOW_FINAL, LT_WINDOW_AVAILABLE, LT_WINDOW_HELD,
                                  LT_WINDOW_NEW };
    for (int64_t off = 4; off <= 10; off++)
        cr_assert_eq(lt_window_state(&w, off), states[off - 4], "offset %d", (int)off);
    stop();
}

Test(window, works_at_the_highest_offsets) {
    start(INT64_MAX); // clipped
    cr_assert(is(LT_WINDOW_OFFSET_MAX, LT_WINDOW_OFFSET_MAX, 0, 0));
    cr_assert_eq(lt_window_take(&w, INT64_MAX), LT_WINDOW_NO_ROOM);
    lt_window_init(&w, &mem, INT64_MIN);
    cr_assert(is(0, 0, 0, 0));
    lt_window_init(&w, &mem, LT_WINDOW_OFFSET_MAX - 5000);
    take_to(LT_WINDOW_OFFSET_MAX);
    cr_assert_eq(take(), LT_WINDOW_NO_ROOM);
    cr_assert(lt_window_give_back(&w, LT_WINDOW_OFFSET_MAX - 1));
    cr_assert_eq(take(), LT_WINDOW_OFFSET_MAX - 1);
    cr_assert(lt_window_finish(&w, LT_WINDOW_OFFSET_MAX - 1));
    lt_window_skip_to(&w, INT64_MAX);
    cr_assert(is(LT_WINDOW_OFFSET_MAX, LT_WINDOW_OFFSET_MAX, 0, 0));
    stop();
}

// ---- memory ------------------------------------------------------------------------------------

Test(window, blocks_behind_the_head_are_freed) {
    start(0);
    for (int64_t off = 0; off < 1000000; off++) { // the ring goes around 30 times
        cr_assert_eq(lt_window_reserve(&w, off + 1), 0);
        cr_assert_eq(take(), off);
        if (off >= 3)
            cr_assert(lt_window_finish(&w, off - 3));
        cr_assert(meter.live <= 4, "%d allocations at %d", (int)meter.live, (int)off);
    }
    cr_assert(is(999997, 1000000, 0, 0));
    stop();
}

Test(window, a_stuck_head_costs_next_to_nothing) {
    start(0);
    size_t most = 0;
    for (int64_t off = 0; off < 1000000; off++) {
        cr_assert_eq(lt_window_reserve(&w, off + 1), 0);
        cr_assert_eq(take(), off);
        if (off >= 1000)
            cr_assert(lt_window_finish(&w, off - 999)); // 0 stays
        if (meter.bytes > most)
            most = meter.bytes;
    }
    cr_assert(is(0, 1000000, 0, 999000));
    cr_assert_lt(most, 12000, "%d bytes", (int)most);
    for (int64_t off = 0; off < 1000000; off += 4099)
        cr_assert_eq(lt_window_state(&w, off), off ? LT_WINDOW_FINAL : LT_WINDOW_HELD);
    cr_assert(lt_window_finish(&w, 0));
    cr_assert(is(999001, 1000000, 0, 0));
    stop();
}

Test(window, two_bits_an_offset_are_all_it_keeps) {
    start(0);
    take_to(1 << 20);
    cr_assert_lt(meter.bytes, (1 << 20) / 8 * 22 / 10, "%d bytes", (int)meter.bytes);
    for (int64_t off = 1; off < 1 << 20; off += 2)
        cr_assert(lt_window_give_back(&w, off));
    for (int64_t off = 1; off < 1 << 20; off += 2)
        cr_assert_eq(take(), off);
    cr_assert_lt(meter.bytes, (1 << 20) / 8 * 22 / 10);
    stop();
}

// grow_from reserves, with the k-th allocation failing, and tells whether that was refused.
static bool grow_from(size_t k, bool gap) {
    start(77);
    take_to(40000);
    for (int64_t off = 78; off < 40000; off += 7)
        cr_assert(lt_window_give_back(&w, off));
    cr_assert(lt_window_finish(&w, 20001));
    struct lt_window before = w;
    meter.fail_at = meter.calls + k;
    int rc = gap ? lt_window_gap(&w, 39990, 400000) : lt_window_reserve(&w, 400000);
    meter.fail_at = 0;
    if (rc == 0)
        return false;
    cr_assert_eq(rc, LEAT_ENOMEM);
    cr_assert(is(before.head, before.tail, before.available, before.final));
    cr_assert_eq(w.room, before.room);
    for (int64_t off = 77; off < 40000; off++) {
        int state = off % 7 == 1 && off != 20001 ? LT_WINDOW_AVAILABLE : LT_WINDOW_HELD;
        cr_assert_eq(lt_window_state(&w, off), off == 20001 ? LT_WINDOW_FINAL : state);
    }
    return true;
}

Test(window, no_memory_changes_nothing) {
    for (int gap = 0; gap < 2; gap++) {
        size_t k = 1;
        for (; grow_from(k, gap); k++) {
            cr_assert_eq(gap ? lt_window_gap(&w, 39990, 400000) : lt_window_reserve(&w, 400000), 0);
            cr_assert(lt_window_check(&w));
            stop();
        }
        stop();
        cr_assert_eq(k, gap ? 4 : 2 + 88 + 1); // ring and tree, then each block
    }
}

// ---- ranges ------------------------------------------------------------------------------------

Test(window, a_gap_is_final) {
    static const struct {
        int64_t from, to;   // in a window of [100, 20000), each 10th available
        int64_t head, tail; // afterwards
        uint64_t available, final;
    } cases[] = {
        { 5000, 5001, 100, 20000, 1989, 1 },
        { 5001, 5002, 100, 20000, 1990, 1 },
        { 4096, 8192, 100, 20000, 1580, 4096 }, // one whole block: 4100 .. 8190
        { 4095, 8193, 100, 20000, 1580, 4098 },
        { 4100, 12300, 100, 20000, 1170, 8200 },
        { 0, 5000, 5000, 20000, 1500, 0 },  // from below the head
        { 100, 20000, 20000, 20000, 0, 0 }, // all of it
        { 100, 20001, 20001, 20001, 0, 0 },
        { 0, 900000, 900000, 900000, 0, 0 },
        { 20000, 20001, 100, 20001, 1990, 1 },   // new ones only
        { 20000, 20480, 100, 20480, 1990, 480 }, // to the end of the room
        { 20000, 24576, 100, 24576, 1990, 4576 },
        { 20000, 24577, 100, 24577, 1990, 4577 },
        { 19990, 900000, 100, 900000, 1989, 880010 },
        { 101, 900001, 100, 900001, 1, 899900 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        start(100);
        take_to(20000);
        for (int64_t off = 100; off < 20000; off += 10)
            cr_assert(lt_window_give_back(&w, off));
        cr_assert_eq(lt_window_gap(&w, cases[i].from, cases[i].to), 0, "case %d", (int)i);
        cr_assert(is(cases[i].head, cases[i].tail, cases[i].available, cases[i].final),
                  "case %d: %d %d %d %d", (int)i, (int)w.head, (int)w.tail, (int)w.available,
                  (int)w.final);
        cr_assert_eq(lt_window_state(&w, cases[i].to - 1), LT_WINDOW_FINAL, "case %d", (int)i);
        cr_assert_eq(lt_window_reserve(&w, w.tail + 1), 0);
        cr_assert_neq(take(), LT_WINDOW_NO_ROOM, "case %d", (int)i); // and it goes on
        stop();
    }
}

Test(window, a_jump_of_the_log_costs_little) {
    int64_t far = 1000 + (INT64_C(1) << 32);
    start(1000);
    cr_assert_eq(lt_window_gap(&w, 1000, far), 0); // empty: nothing at all
    cr_assert_eq(meter.calls, 0);
    cr_assert(is(far, far, 0, 0));
    take_to(far + 1);
    cr_assert_eq(lt_window_gap(&w, far + 1, 2 * far), 0); // behind one that is in flight
    cr_assert(w.head == far && w.tail == 2 * far && w.final == (uint64_t)far - 1);
    cr_assert_lt(meter.bytes, 18 << 20);
    take_to(2 * far + 1);
    cr_assert(lt_window_give_back(&w, 2 * far)); // found over a million blocks, of five levels
    cr_assert_eq(take(), 2 * far);
    cr_assert(lt_window_finish(&w, far));
    cr_assert(is(2 * far, 2 * far + 1, 0, 0));
    stop();
}

Test(window, skipping_drops_what_lies_below) {
    static const struct {
        int64_t to, head, tail;
        uint64_t available, final;
    } cases[] = {
        { 99, 100, 20000, 10, 3 },           { 100, 100, 20000, 10, 3 },
        { 101, 101, 20000, 9, 3 },           { 4095, 4095, 20000, 8, 3 },
        { 4096, 4097, 20000, 8, 2 },         { 4097, 4097, 20000, 8, 2 },
        { 6000, 6000, 20000, 7, 2 },         { 19999, 20000, 20000, 0, 0 },
        { 20000, 20000, 20000, 0, 0 },       { 20001, 20001, 20001, 0, 0 },
        { 20480, 20480, 20480, 0, 0 },       { 20481, 20481, 20481, 0, 0 },
        { 1 << 30, 1 << 30, 1 << 30, 0, 0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        start(100);
        take_to(20000);
        for (int64_t off = 100; off < 20000; off += 2000)
            cr_assert(lt_window_give_back(&w, off));
        cr_assert(lt_window_finish(&w, 4096));
        cr_assert(lt_window_finish(&w, 19998));
        cr_assert(lt_window_finish(&w, 19999));
        lt_window_skip_to(&w, cases[i].to);
        cr_assert(is(cases[i].head, cases[i].tail, cases[i].available, cases[i].final),
                  "case %d: %d %d %d %d", (int)i, (int)w.head, (int)w.tail, (int)w.available,
                  (int)w.final);
        cr_assert_eq(lt_window_reserve(&w, w.tail + 5000), 0);
        while (w.tail < cases[i].tail + 5000)
            cr_assert(take() >= w.head);
        stop();
    }
}

// After a restart: the touched part is known, and each offset is classified by its word.
Test(window, a_recovered_tail_is_held_until_classified) {
    start(1000);
    cr_assert(!lt_window_touch_to(&w, 9000));
    cr_assert_eq(lt_window_reserve(&w, 9000), 0);
    cr_assert(lt_window_touch_to(&w, 9000));
    cr_assert(is(1000, 9000, 0, 0));
    cr_assert_eq(lt_window_take(&w, 9000), LT_WINDOW_NONE);
    for (int64_t off = 1000; off < 9000; off++) {
        cr_assert_eq(lt_window_state(&w, off), LT_WINDOW_HELD);
        if (off % 3 == 0)
            cr_assert(lt_window_give_back(&w, off));
        else if (off % 3 == 1)
            cr_assert(lt_window_finish(&w, off)); // 1000 too
    }
    cr_assert(is(1001, 9000, 2666, 2666));
    for (int64_t off = 1002; off < 9000; off += 3)
        cr_assert_eq(take(), off);
    cr_assert_eq(lt_window_take(&w, 9001), 9000);
    stop();
}

// The check is what the other tests lean on: it must see whatever is wrong.
Test(window, check_sees_what_is_broken) {
    start(100);
    cr_assert_eq(lt_window_reserve(&w, 40000), 0);
    take_to(20000);
    cr_assert(lt_window_give_back(&w, 5000));
    cr_assert_eq(lt_window_gap(&w, 8192, 12290), 0); // block 2 is whole
    cr_assert(lt_window_check(&w));
    struct lt_window good = w;
    static const int64_t heads[] = { -1, 0, 99, 101, 4095, 4096, 5001, 8192, 9000, 12288, 20001 };
    for (int i = 0; i < 11; i++) {
        w.head = heads[i];
        cr_assert(!lt_window_check(&w), "head %d", i);
        w = good;
    }
    static const int64_t tails[] = { 0, 99, 4000, 5000, 12000, 12289, 50000, INT64_MAX };
    for (int i = 0; i < 8; i++) {
        w.tail = tails[i];
        cr_assert(!lt_window_check(&w), "tail %d", i);
        w = good;
    }
    static const int64_t rooms[] = { -4096, 0, 4096, 20480, 20000, 36864, 45056, 1 << 30 };
    for (int i = 0; i < 8; i++) {
        w.room = rooms[i];
        cr_assert(!lt_window_check(&w), "room %d", i);
        w = good;
    }
    w.available++;
    cr_assert(!lt_window_check(&w));
    w = good;
    w.final--;
    cr_assert(!lt_window_check(&w));
    w = good;
    for (int bit = 0; bit < 8; bit++) {
        w.tree[0] ^= UINT64_C(1) << bit;
        cr_assert(!lt_window_check(&w), "tree %d", bit);
        w.tree[0] ^= UINT64_C(1) << bit;
    }
    stop();
}

// ---- the model ---------------------------------------------------------------------------------

enum { MODEL_MAX = 1 << 20, MODEL_STEPS = 200000 };

struct model {
    uint8_t *state; // LT_WINDOW_... by offset; zeroed is LT_WINDOW_NEW
    int64_t head, tail;
    uint64_t seed, drawn;
};

static uint64_t model_below(struct model *m, uint64_t n) {
    return lt_mix3(m->seed, m->drawn++, 0) % n;
}

static void model_advance(struct model *m) {
    while (m->head < m->tail && m->state[m->head] == LT_WINDOW_FINAL)
        m->head++;
}

static int64_t model_next(const struct model *m, int64_t end) {
    const uint8_t *from = m->state + m->head;
    const uint8_t *p = memchr(from, LT_WINDOW_AVAILABLE, (size_t)(m->tail - m->head));
    if (p)
        return m->head + (p - from);
    return m->tail < end ? m->tail : LT_WINDOW_NONE;
}

static void model_take(struct model *m) {
    int64_t end = m->tail + (int64_t)model_below(m, 3);
    cr_assert_eq(lt_window_reserve(&w, m->tail + 1), 0);
    int64_t off = model_next(m, end);
    cr_assert_eq(lt_window_peek_next(&w, end), off);
    cr_assert_eq(lt_window_take(&w, end), off);
    if (off < 0)
        return;
    m->state[off] = LT_WINDOW_HELD;
    m->tail += off == m->tail;
}

static void model_one(struct model *m, bool finish) {
    uint64_t span = (uint64_t)(m->tail - m->head) + 4;
    if (model_below(m, 2)) // near the head, so that it moves
        span = span < 16 ? span : 16;
    int64_t off = m->head - 2 + (int64_t)model_below(m, span);
    int state = off < m->head ? LT_WINDOW_FINAL : m->state[off];
    cr_assert_eq(lt_window_state(&w, off), state);
    if (finish) {
        bool may = state == LT_WINDOW_HELD || state == LT_WINDOW_AVAILABLE;
        cr_assert_eq(lt_window_finish(&w, off), may);
        if (may)
            m->state[off] = LT_WINDOW_FINAL;
        model_advance(m);
    } else {
        cr_assert_eq(lt_window_give_back(&w, off), state == LT_WINDOW_HELD);
        if (state == LT_WINDOW_HELD)
            m->state[off] = LT_WINDOW_AVAILABLE;
    }
}

static void model_close(struct model *m, int64_t from, int64_t to) {
    if (from < to)
        memset(m->state + from, LT_WINDOW_FINAL, (size_t)(to - from));
    if (m->tail < to)
        m->tail = to;
    model_advance(m);
}

static void model_range(struct model *m) {
    static const uint64_t longest[] = { 10, 200, 5000, 20000 };
    int64_t n = (int64_t)model_below(m, longest[model_below(m, 4)]);
    int64_t span = m->tail - m->head;
    int64_t from = m->head + (int64_t)model_below(m, (uint64_t)span + 1);
    switch (model_below(m, 4)) {
    case 0: // a gap anywhere, often over the tail
        cr_assert_eq(lt_window_gap(&w, from, from + n), 0);
        model_close(m, from, from + n);
        break;
    case 1: // a gap at the tail
        cr_assert_eq(lt_window_gap(&w, m->tail, m->tail + n), 0);
        model_close(m, m->tail, m->tail + n);
        break;
    case 2: // the log begins later, now and then beyond the tail
        n = model_below(m, 4) ? (int64_t)model_below(m, (uint64_t)span / 4 + 1) : span + n;
        lt_window_skip_to(&w, m->head + n);
        model_close(m, m->head, m->head + n);
        break;
    default: // as after a restart
        cr_assert_eq(lt_window_reserve(&w, m->tail + n), 0);
        cr_assert(lt_window_touch_to(&w, m->tail + n));
        memset(m->state + m->tail, LT_WINDOW_HELD, (size_t)n);
        m->tail += n;
        break;
    }
}

// model_compare holds each offset, and the counts, to the model.
static void model_compare(const struct model *m) {
    uint64_t count[4] = { 0 };
    for (int64_t off = m->head; off < m->tail; off++) {
        count[m->state[off]]++;
        cr_assert_eq(lt_window_state(&w, off), m->state[off], "offset %d", (int)off);
    }
    cr_assert_eq(w.available, count[LT_WINDOW_AVAILABLE]);
    cr_assert_eq(w.final, count[LT_WINDOW_FINAL]);
    cr_assert(lt_window_check(&w));
}

// model_step does one thing. The mix changes every 5000 steps: grow, churn, drain.
static void model_step(struct model *m, int step) {
    static const uint64_t mix[3][3] = { { 70, 80, 90 }, { 40, 70, 99 }, { 10, 15, 99 } };
    const uint64_t *upto = mix[step / 5000 % 3];
    uint64_t what = model_below(m, 100);
    if (what < upto[0])
        model_take(m);
    else if (what < upto[1])
        model_one(m, false);
    else if (what < upto[2])
        model_one(m, true);
    else if (model_below(m, 20) == 0)
        model_range(m);
}

Test(window, random_walk_agrees_with_the_model) {
    static const int64_t heads[] = { 0, 4095, 123457 };
    struct model m = { .state = malloc(MODEL_MAX) };
    cr_assert_not_null(m.state);
    int checks = 0;
    for (uint64_t run = 0; run < 3; run++) {
        start(heads[run]);
        memset(m.state, LT_WINDOW_NEW, MODEL_MAX);
        m.seed = 20240 + run;
        m.drawn = 0;
        m.head = m.tail = heads[run];
        for (int step = 0; step < MODEL_STEPS && m.tail < MODEL_MAX - 50000; step++) {
            model_step(&m, step);
            cr_assert(w.head == m.head && w.tail == m.tail, "run %d step %d", (int)run, step);
            if (step % 97 == 0 || (m.tail - m.head < 64 && step % 7 == 0)) {
                model_compare(&m);
                checks++;
            }
        }
        stop();
    }
    free(m.state);
    cr_assert_gt(checks, 3 * MODEL_STEPS / 97, "the walk ended early: %d", checks);
}
