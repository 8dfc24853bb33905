/* SPDX-License-Identifier: MIT */
// The leases: slots, receipts that go stale, and due times that come out in order; then a random
// walk against a plain array of what should be there.
#include <criterion/criterion.h>

#include "base/hash.h"
#include "queue/leases.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

// ---- memory that counts, and fails when told to ------------------------------------------------

struct meter {
    size_t live;    // allocations that are out
    size_t calls;   // allocations so far
    size_t fail_at; // this call fails; 0 = none
};

static void *meter_alloc(void *ctx, void *old, size_t size) {
    struct meter *m = ctx;
    if (size == 0) {
        m->live -= old != NULL;
        free(old);
        return NULL;
    }
    if (++m->calls == m->fail_at)
        return NULL;
    void *p = realloc(old, size);
    m->live += p && !old;
    return p;
}

static struct meter meter;
static struct lt_mem mem = { .fn = meter_alloc, .ctx = &meter };
static struct lt_leases l;

static void start(uint32_t cap) {
    meter = (struct meter){ 0 };
    lt_leases_init(&l, &mem, cap);
}

static void stop(void) {
    cr_assert(lt_leases_check(&l));
    lt_leases_fini(&l);
    cr_assert_eq(meter.live, 0, "%d allocations left", (int)meter.live);
    lt_leases_fini(&l);
}

static struct lt_lease *add(int state, int64_t due_ns, uint64_t generation) {
    cr_assert_eq(lt_leases_reserve(&l), 0);
    struct lt_lease *lease = lt_leases_add(&l, 1, 2, state, due_ns, 3, generation);
    cr_assert_not_null(lease);
    return lease;
}

// ---- slots and receipts ------------------------------------------------------------------------

Test(leases, a_lease_is_what_was_added) {
    start(0);
    cr_assert_eq(meter.calls, 0, "an idle queue costs nothing");
    cr_assert_eq(lt_leases_reserve(&l), 0);
    struct lt_lease *lease = lt_leases_add(&l, 7, 1 << 20, LT_LEASE_DELAYED, 99, 5, 1234);
    cr_assert_not_null(lease);
    cr_assert_eq(lease->partition, 7);
    cr_assert_eq(lease->offset, 1 << 20);
    cr_assert_eq(lease->state, LT_LEASE_DELAYED);
    cr_assert_eq(lease->due_ns, 99);
    cr_assert_eq(lease->deliveries, 5);
    cr_assert_eq(lease->generation, 1234);
    cr_assert_eq(lease->note, 0);
    lease->note = 55;
    lt_leases_remove(&l, lease);
    cr_assert_eq(add(LT_LEASE_LEASED, 1, 1)->note, 0, "the note of the one before");
    cr_assert_eq(lt_leases_reserve(&l), 0);
    lease = lt_leases_add(&l, 0, 0, LT_LEASE_LEASED, 1, 1 << 20, 2);
    cr_assert_eq(lease->deliveries, UINT16_MAX);
    stop();
}

Test(leases, one_that_lingers_is_found_while_it_is_delayed) {
    start(0);
    struct lt_lease *lease = add(LT_LEASE_LEASED, 10, 5);
    uint64_t receipt = lt_lease_receipt(lease);
    lt_leases_set(&l, lease, LT_LEASE_DELAYED, 20);
    cr_assert_null(lt_leases_find(&l, receipt));
    lease->lingers = true;
    cr_assert(lt_leases_find(&l, receipt) == lease && lt_leases_check(&l));
    cr_assert_null(lt_leases_find(&l, receipt + 1));
    cr_assert_eq(lt_leases_pop_due(&l, 20), lease);
    cr_assert_eq(lt_leases_find(&l, receipt), lease); // until the caller says what it is now
    lt_leases_set(&l, lease, LT_LEASE_DELAYED, 30);
    cr_assert_null(lt_leases_find(&l, receipt));
    lease->lingers = true;
    lt_leases_remove(&l, lease);
    cr_assert_null(lt_leases_find(&l, receipt));
    cr_assert_null(lt_leases_find(&l, receipt - 5)); // generation 0
    lease = add(LT_LEASE_MOVING, 10, 6);
    cr_assert(!lease->lingers && lease->who == 0);
    lease->lingers = true;
    cr_assert(!lt_leases_check(&l));
    lease->lingers = false;
    stop();
}

Test(leases, a_receipt_is_slot_and_generation) {
    start(0);
    uint64_t last = 0;
    for (uint64_t i = 0; i < 200; i++) {
        last = lt_lease_receipt(add(LT_LEASE_LEASED, LT_LEASE_NEVER, 1000 + i));
        cr_assert_eq(last, i << 40 | (1000 + i));
    }
    cr_assert_eq(lt_leases_find(&l, last)->slot, 199);
    struct lt_lease *lease = add(LT_LEASE_LEASED, LT_LEASE_NEVER, LT_LEASE_GENERATION_MAX);
    cr_assert_eq(lt_lease_receipt(lease), UINT64_C(200) << 40 | 0xffffffffff);
    cr_assert_eq(lt_leases_find(&l, lt_lease_receipt(lease)), lease);
    stop();
}

Test(leases, only_a_good_receipt_is_found) {
    start(0);
    cr_assert_null(lt_leases_find(&l, 1), "there is no slot at all");
    struct lt_lease *a = add(LT_LEASE_LEASED, 10, 5);
    struct lt_lease *b = add(LT_LEASE_LEASED, 10, 6);
    uint64_t receipt = lt_lease_receipt(a);
    cr_assert_eq(lt_leases_find(&l, receipt), a);
    uint64_t forged[] = { 0,
                          receipt + 1,
                          receipt - 1,
                          lt_lease_receipt(b) - 1,
                          receipt | UINT64_C(1) << 40,
                          UINT64_C(2) << 40 | 5,
                          UINT64_C(64) << 40 | 5,
                          UINT64_MAX,
                          UINT64_C(1) << 40,
                          5 | UINT64_C(1) << 39 };
    for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++)
        cr_assert_null(lt_leases_find(&l, forged[i]), "forged %d", (int)i);
    lt_leases_set(&l, a, LT_LEASE_DELAYED, 20);
    cr_assert_null(lt_leases_find(&l, receipt), "given back with a delay");
    lt_leases_set(&l, a, LT_LEASE_MOVING, 20);
    cr_assert_null(lt_leases_find(&l, receipt), "on its way to the dead");
    lt_leases_set(&l, a, LT_LEASE_LEASED, 10);
    cr_assert_eq(lt_leases_pop_due(&l, 10), b);
    cr_assert_eq(lt_leases_pop_due(&l, 10), a);
    cr_assert_eq(lt_leases_find(&l, receipt), a, "fallen due, but nobody took it");
    lt_leases_remove(&l, a);
    cr_assert_null(lt_leases_find(&l, receipt), "settled");
    cr_assert_null(lt_leases_find(&l, 0), "a free slot has no receipt");
    cr_assert_eq(add(LT_LEASE_LEASED, 10, 7), a);
    cr_assert_null(lt_leases_find(&l, receipt), "the slot has a new lease");
    stop();
}

Test(leases, slots_are_reused_oldest_first) {
    start(0);
    struct lt_lease *lease[100];
    for (uint64_t i = 0; i < 100; i++)
        lease[i] = add(LT_LEASE_LEASED, 1, i + 1);
    for (uint64_t i = 0; i < 100; i++)
        lt_leases_remove(&l, lease[i * 37 % 100]);
    lt_leases_remove(&l, lease[0]); // twice is harmless
    cr_assert_eq(l.count[LT_LEASE_FREE], 100);
    cr_assert(lt_leases_check(&l));
    for (uint64_t i = 0; i < 100; i++)
        cr_assert_eq(add(LT_LEASE_LEASED, 1, i + 101), lease[i * 37 % 100]);
    cr_assert_eq(add(LT_LEASE_LEASED, 1, 201)->slot, 100);
    stop();
}

Test(leases, add_refuses_what_it_cannot_hold) {
    start(0);
    cr_assert_null(lt_leases_add(&l, 0, 0, LT_LEASE_LEASED, 1, 1, 1), "nothing was reserved");
    cr_assert_eq(lt_leases_reserve(&l), 0);
    cr_assert_null(lt_leases_add(&l, 0, 0, LT_LEASE_LEASED, 1, 1, 0), "0 is no generation");
    cr_assert_null(lt_leases_add(&l, 0, 0, LT_LEASE_LEASED, 1, 1, UINT64_C(1) << 40));
    cr_assert_null(lt_leases_add(&l, 0, 0, LT_LEASE_FREE, 1, 1, 1));
    cr_assert_null(lt_leases_add(&l, 0, 0, LT_LEASE_STATES, 1, 1, 1));
    cr_assert_null(lt_leases_add(&l, 0, 0, -1, 1, 1, 1));
    cr_assert_eq(l.made, 0);
    cr_assert(lt_leases_check(&l));
    cr_assert_not_null(lt_leases_add(&l, 0, 0, LT_LEASE_LEASED, 1, 1, 1));
    cr_assert_null(lt_leases_add(&l, 0, 0, LT_LEASE_LEASED, 1, 1, 2), "one was reserved, not two");
    stop();
}

Test(leases, no_more_than_the_cap) {
    start(3);
    struct lt_lease *first = add(LT_LEASE_LEASED, 1, 1);
    add(LT_LEASE_DELAYED, 1, 2);
    add(LT_LEASE_MOVING, 1, 3);
    cr_assert_eq(lt_leases_reserve(&l), LEAT_EFULL);
    cr_assert_null(lt_leases_add(&l, 0, 0, LT_LEASE_LEASED, 1, 1, 4));
    cr_assert(lt_leases_check(&l));
    lt_leases_remove(&l, first);
    cr_assert_eq(add(LT_LEASE_LEASED, 1, 4), first);
    cr_assert_eq(lt_leases_reserve(&l), LEAT_EFULL);
    stop();
    start(UINT32_MAX);
    cr_assert_eq(l.cap, LT_LEASE_SLOTS_MAX);
    start(0);
    cr_assert_eq(l.cap, LT_LEASE_SLOTS_MAX);
    cr_assert_eq(LT_LEASE_SLOTS_MAX, 16777215);
}

Test(leases, counts_and_walk_agree) {
    start(0);
    struct lt_lease *lease[10];
    uint32_t cursor = 0;
    cr_assert_null(lt_leases_walk(&l, &cursor));
    for (int i = 0; i < 10; i++)
        lease[i] = add(1 + i % 3, 5, (uint64_t)i + 1);
    lt_leases_remove(&l, lease[0]);
    lt_leases_remove(&l, lease[9]);
    lt_leases_set(&l, lease[3], LT_LEASE_MOVING, 5);
    cr_assert_eq(l.count[LT_LEASE_FREE], 2);
    cr_assert_eq(l.count[LT_LEASE_LEASED], 1);
    cr_assert_eq(l.count[LT_LEASE_DELAYED], 3);
    cr_assert_eq(l.count[LT_LEASE_MOVING], 4);
    for (int i = 1; i < 9; i++) {
        cr_assert_eq(lt_leases_walk(&l, &cursor), lease[i]);
        lt_leases_remove(&l, lease[i]); // a purge
    }
    cr_assert_null(lt_leases_walk(&l, &cursor));
    cr_assert_eq(l.count[LT_LEASE_FREE], 10);
    int64_t due;
    cr_assert(!lt_leases_next_due(&l, &due));
    stop();
}

Test(leases, link_is_the_callers_while_not_free) {
    start(0);
    struct lt_list mine;
    lt_list_init(&mine);
    struct lt_lease *a = add(LT_LEASE_LEASED, 1, 1);
    struct lt_lease *b = add(LT_LEASE_LEASED, 1, 2);
    lt_list_push_back(&mine, &a->link);
    lt_list_push_back(&mine, &b->link);
    lt_leases_remove(&l, a);
    cr_assert_eq(lt_list_first(&mine), &b->link);
    lt_leases_remove(&l, b);
    cr_assert(lt_list_empty(&mine));
    stop();
}

// ---- due times ---------------------------------------------------------------------------------

Test(leases, due_comes_by_time_then_by_order) {
    static const int64_t due[] = { 50, 10, 50, LT_LEASE_NEVER, 10, -5, 50, INT64_MIN, 10 };
    static const int expected[] = { 7, 5, 1, 4, 8, 0, 2, 6 };
    start(0);
    struct lt_lease *lease[9];
    int64_t next;
    cr_assert(!lt_leases_next_due(&l, &next));
    cr_assert_eq(next, LT_LEASE_NEVER);
    for (int i = 0; i < 9; i++)
        lease[i] = add(LT_LEASE_LEASED, due[i], (uint64_t)i + 1);
    for (int i = 0; i < 8; i++) {
        cr_assert(lt_leases_next_due(&l, &next));
        cr_assert_eq(next, due[expected[i]]);
        cr_assert(next == INT64_MIN || !lt_leases_pop_due(&l, next - 1), "early");
        cr_assert_eq(lt_leases_pop_due(&l, next), lease[expected[i]], "place %d", i);
        cr_assert_eq(lease[expected[i]]->due_ns, LT_LEASE_NEVER);
        cr_assert_eq(lease[expected[i]]->state, LT_LEASE_LEASED);
        cr_assert(lt_leases_check(&l));
    }
    cr_assert_null(lt_leases_pop_due(&l, INT64_MAX), "3 never falls due");
    cr_assert(!lt_leases_next_due(&l, &next));
    stop();
}

Test(leases, set_moves_the_due_time) {
    start(0);
    struct lt_lease *a = add(LT_LEASE_LEASED, 10, 1);
    struct lt_lease *b = add(LT_LEASE_LEASED, 20, 2);
    int64_t next;
    lt_leases_set(&l, a, LT_LEASE_LEASED, 30); // later
    cr_assert(lt_leases_next_due(&l, &next) && next == 20);
    lt_leases_set(&l, a, LT_LEASE_DELAYED, 5); // earlier
    cr_assert(lt_leases_next_due(&l, &next) && next == 5);
    lt_leases_set(&l, a, LT_LEASE_DELAYED, LT_LEASE_NEVER);
    cr_assert(lt_leases_next_due(&l, &next) && next == 20);
    lt_leases_set(&l, a, LT_LEASE_DELAYED, 20); // the same time, but set later
    cr_assert_eq(lt_leases_pop_due(&l, 20), b);
    lt_leases_set(&l, b, LT_LEASE_MOVING, 20); // put back: behind a
    cr_assert_eq(lt_leases_pop_due(&l, 20), a);
    cr_assert_eq(lt_leases_pop_due(&l, 20), b);
    lt_leases_remove(&l, a);
    stop();
}

// Leases that last equally long wait in runs, even beside a few with far due times; only what fits
// nowhere goes into the heap.
Test(leases, equal_timeouts_need_no_heap) {
    start(0);
    struct lt_lease *far[] = { add(LT_LEASE_DELAYED, 1000000, 1),
                               add(LT_LEASE_DELAYED, 900000, 2) };
    for (uint64_t i = 0; i < 5000; i += 2) {
        add(LT_LEASE_LEASED, 30000 + (int64_t)i, i + 3);
        add(LT_LEASE_DELAYED, 60000 + (int64_t)i, i + 4);
    }
    cr_assert_eq(l.due.n, 0);
    struct lt_lease *late = add(LT_LEASE_LEASED, 5, 6000);
    cr_assert_eq(l.due.n, 1, "it fits into no run");
    cr_assert(lt_leases_check(&l));
    cr_assert_eq(lt_leases_pop_due(&l, INT64_MAX), late);
    for (int64_t i = 0; i < 5000; i++) {
        int64_t due;
        cr_assert(lt_leases_next_due(&l, &due));
        cr_assert_eq(due, i < 2500 ? 30000 + 2 * i : 60000 + 2 * (i - 2500));
        cr_assert_not_null(lt_leases_pop_due(&l, due));
    }
    cr_assert_eq(lt_leases_pop_due(&l, INT64_MAX), far[1]);
    cr_assert_eq(lt_leases_pop_due(&l, INT64_MAX), far[0]);
    stop();
}

// Each goes behind the latest that it may follow, an empty run comes last: so the fewest are used.
Test(leases, runs_are_used_sparingly) {
    static const int64_t due[] = { 100, 50, 20, 10, 70, 40, 30, 25, 25, 25, 25, 25, 30, 40, 70 };
    start(0);
    struct lt_lease *first = NULL;
    for (int i = 0; i < 15; i++) {
        struct lt_lease *lease = add(LT_LEASE_LEASED, due[i], (uint64_t)i + 1);
        first = first ? first : lease;
        if (i == 3)
            lt_leases_remove(&l, first); // its run is empty
        cr_assert_eq(l.due.n, 0, "number %d", i);
    }
    add(LT_LEASE_LEASED, 24, 16);
    cr_assert_eq(l.due.n, 1);
    stop();
}

// ---- memory ------------------------------------------------------------------------------------

Test(leases, no_memory_changes_nothing) {
    int refused = 0;
    for (size_t k = 1; k <= 14; k++) {
        start(0);
        meter.fail_at = k;
        for (uint64_t i = 0; i < 1000; i++) {
            uint32_t room = l.room;
            uint32_t made = l.made;
            int rc = lt_leases_reserve(&l);
            if (rc < 0) {
                refused++;
                cr_assert_eq(rc, LEAT_ENOMEM);
                cr_assert(l.room == room && l.made == made && lt_leases_check(&l));
                cr_assert_null(lt_leases_add(&l, 0, 0, LT_LEASE_LEASED, 1, 1, 1));
                cr_assert_eq(lt_leases_reserve(&l), 0);
            }
            size_t calls = meter.calls;
            struct lt_lease *lease = lt_leases_add(&l, 0, 0, LT_LEASE_LEASED, LT_LEASE_NEVER, 1, 1);
            cr_assert_not_null(lease);
            lt_leases_set(&l, lease, LT_LEASE_DELAYED, -(int64_t)i); // falling: for the heap
            cr_assert_eq(meter.calls, calls, "only reserve allocates");
        }
        cr_assert_eq(l.due.n, 1000 - LT_LEASE_RUNS);
        stop();
    }
    cr_assert_eq(refused, 12); // 5 chunks of slots, 7 sizes of the heap; 13 and 14 never come
}

// ---- the check ---------------------------------------------------------------------------------

// The check is what the other tests lean on: it must see whatever is wrong.
Test(leases, check_sees_what_is_broken) {
    start(0);
    struct lt_lease *lease[8];
    for (int i = 0; i < 8; i++) // four falling due times for the runs, two for the heap
        lease[i] = add(LT_LEASE_LEASED, i < 6 ? 100 - i : LT_LEASE_NEVER, (uint64_t)i + 1);
    lt_leases_set(&l, lease[7], LT_LEASE_LEASED, 100); // behind 0, in its run
    lt_leases_remove(&l, lease[6]);
    cr_assert_eq(l.due.n, 2);
    cr_assert(lt_leases_check(&l));
    struct lt_leases good = l;
    for (int state = 0; state < LT_LEASE_STATES; state++) {
        l.count[state]++;
        cr_assert(!lt_leases_check(&l), "count %d", state);
        l.count[state]--;
    }
    uint32_t *number[] = { &l.made, &l.room, &l.cap };
    uint32_t wrong[] = { 7, 1000, 7 };
    for (int i = 0; i < 3; i++) {
        uint32_t before = *number[i];
        *number[i] = wrong[i];
        cr_assert(!lt_leases_check(&l), "number %d", i);
        *number[i] = before;
    }
    l.order = 1;
    cr_assert(!lt_leases_check(&l));
    l.order = good.order;
    for (int i = 0; i < 8; i++) {
        struct lt_lease before = *lease[i];
        lease[i]->state = LT_LEASE_STATES;
        cr_assert(!lt_leases_check(&l), "state of %d", i);
        lease[i]->state = i == 6 ? LT_LEASE_LEASED : LT_LEASE_FREE;
        cr_assert(!lt_leases_check(&l), "other state of %d", i);
        *lease[i] = before;
        lease[i]->generation = i == 6 ? 7 : 0;
        cr_assert(!lt_leases_check(&l), "generation of %d", i);
        *lease[i] = before;
        lease[i]->slot++;
        cr_assert(!lt_leases_check(&l), "slot of %d", i);
        *lease[i] = before;
        lease[i]->due_ns = i == 6 ? 5 : LT_LEASE_NEVER;
        cr_assert(!lt_leases_check(&l), "due of %d", i);
        *lease[i] = before;
    }
    lease[0]->due_ns = 101; // 7 comes behind it
    cr_assert(!lt_leases_check(&l), "order in a run");
    lease[0]->due_ns = 100;
    lease[5]->node.at = 3 - lease[5]->node.at; // the other's place in the heap
    cr_assert(!lt_leases_check(&l), "place in the heap");
    lease[5]->node.at = 3 - lease[5]->node.at;
    cr_assert(lt_leases_check(&l));
    stop();
}

// ---- the model ---------------------------------------------------------------------------------

enum { MODEL_CAP = 300, MODEL_OLD = 64, MODEL_STEPS = 200000 };

struct entry {
    uint64_t receipt; // 0 = none here
    int state;
    int64_t due;
    uint64_t order;
    int64_t offset;
};

struct model {
    struct entry entry[MODEL_CAP]; // by slot
    uint64_t old[MODEL_OLD];       // receipts that were good once
    uint64_t order, generation, drawn;
    uint32_t used;
    int64_t now;
};

static uint64_t model_below(struct model *m, uint64_t n) {
    return lt_mix3(4711, m->drawn++, 0) % n;
}

static int64_t model_due(struct model *m) {
    return model_below(m, 8) ? m->now + (int64_t)model_below(m, 50) : LT_LEASE_NEVER;
}

static void model_set(struct model *m, struct lt_lease *lease, int state, int64_t due) {
    struct entry *e = &m->entry[lease->slot];
    e->state = state;
    e->due = due;
    e->order = ++m->order;
}

static void model_add(struct model *m) {
    int rc = lt_leases_reserve(&l);
    cr_assert_eq(rc, m->used == MODEL_CAP ? LEAT_EFULL : 0);
    if (rc < 0)
        return;
    int state = 1 + (int)model_below(m, 3);
    int64_t due = model_due(m);
    int64_t offset = (int64_t)m->drawn;
    struct lt_lease *lease = lt_leases_add(&l, 0, offset, state, due, 1, ++m->generation);
    cr_assert_not_null(lease);
    struct entry *e = &m->entry[lease->slot];
    cr_assert_eq(e->receipt, 0, "slot %d is in use", (int)lease->slot);
    e->receipt = lt_lease_receipt(lease);
    e->offset = offset;
    model_set(m, lease, state, due);
    m->used++;
}

static void model_remove(struct model *m, struct lt_lease *lease) {
    struct entry *e = &m->entry[lease->slot];
    m->old[model_below(m, MODEL_OLD)] = e->receipt;
    e->receipt = 0;
    m->used--;
    lt_leases_remove(&l, lease);
}

// model_settle looks a receipt up, and sets or removes what it finds.
static void model_settle(struct model *m) {
    uint32_t slot = (uint32_t)model_below(m, MODEL_CAP);
    struct entry *e = &m->entry[slot];
    struct lt_lease *lease = lt_leases_find(&l, e->receipt);
    cr_assert_eq(lease != NULL, e->receipt != 0 && e->state == LT_LEASE_LEASED);
    if (!lease && e->receipt) // waits without a receipt: the caller knows it by other ways
        lease = lt_leases_walk(&l, &(uint32_t){ slot });
    if (!lease)
        return;
    cr_assert(lease->slot == slot && lease->offset == e->offset && lease->due_ns == e->due);
    if (model_below(m, 2)) {
        model_remove(m, lease);
    } else {
        int state = 1 + (int)model_below(m, 3);
        int64_t due = model_due(m);
        lt_leases_set(&l, lease, state, due);
        model_set(m, lease, state, due);
    }
}

// model_first finds the slot that falls due first, MODEL_CAP if none.
static uint32_t model_first(const struct model *m) {
    uint32_t first = MODEL_CAP;
    for (uint32_t i = 0; i < MODEL_CAP; i++) {
        const struct entry *e = &m->entry[i];
        if (!e->receipt || e->due == LT_LEASE_NEVER)
            continue;
        if (first == MODEL_CAP || e->due < m->entry[first].due ||
            (e->due == m->entry[first].due && e->order < m->entry[first].order))
            first = i;
    }
    return first;
}

static void model_pop(struct model *m) {
    uint32_t first = model_first(m);
    int64_t due = first == MODEL_CAP ? LT_LEASE_NEVER : m->entry[first].due;
    int64_t next;
    cr_assert_eq(lt_leases_next_due(&l, &next), first != MODEL_CAP);
    cr_assert_eq(next, due);
    struct lt_lease *lease = lt_leases_pop_due(&l, m->now);
    cr_assert_eq(lease != NULL, first != MODEL_CAP && due <= m->now);
    if (!lease)
        return;
    cr_assert_eq(lease->slot, first);
    m->entry[first].due = LT_LEASE_NEVER;
    if (model_below(m, 4))
        model_remove(m, lease);
}

static void model_compare(const struct model *m) {
    cr_assert(lt_leases_check(&l));
    uint32_t seen = 0;
    uint32_t cursor = 0;
    for (struct lt_lease *x = lt_leases_walk(&l, &cursor); x; x = lt_leases_walk(&l, &cursor)) {
        const struct entry *e = &m->entry[x->slot];
        cr_assert(lt_lease_receipt(x) == e->receipt && x->state == e->state && x->due_ns == e->due);
        seen++;
    }
    cr_assert_eq(seen, m->used);
    for (int i = 0; i < MODEL_OLD; i++)
        cr_assert_null(lt_leases_find(&l, m->old[i]), "a stale receipt is found");
}

Test(leases, random_walk_agrees_with_the_model) {
    struct model m = { .now = 1000 };
    bool was_full = false;
    bool was_empty = false;
    start(MODEL_CAP);
    for (int step = 0; step < MODEL_STEPS; step++) {
        uint64_t what = model_below(&m, 100);
        if (what < (step / 10000 % 2 ? 2u : 70u)) // fill, then drain
            model_add(&m);
        else if (what < 85)
            model_settle(&m);
        else
            model_pop(&m);
        m.now += (int64_t)model_below(&m, 2);
        was_full = was_full || m.used == MODEL_CAP;
        was_empty = was_empty || (was_full && m.used == 0);
        if (step % 50 == 0)
            model_compare(&m);
    }
    cr_assert(was_full && was_empty, "the walk stays in the middle");
    cr_assert_gt(m.generation, MODEL_STEPS / 10, "only %d leases", (int)m.generation);
    stop();
}
