/* SPDX-License-Identifier: MIT */
// Reclamation of snapshots: who holds back what, step by step, then readers beside a writer.
#include "base/grace.h"
#include "base/list.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

struct grace_item {
    struct lt_retired retired;
    struct lt_grace *g;
    int freed;
    struct grace_item *then_retire; // its free_fn retires this one
};

static int grace_depth, grace_depth_max; // free functions running at once on this thread

static void grace_item_free(struct lt_retired *r) {
    struct grace_item *item = LT_CONTAINER(r, struct grace_item, retired);
    grace_depth++;
    if (grace_depth > grace_depth_max)
        grace_depth_max = grace_depth;
    item->freed++;
    if (item->then_retire)
        lt_grace_retire(item->g, &item->then_retire->retired, grace_item_free);
    grace_depth--;
}

Test(grace, with_no_reader_retire_frees_at_once) {
    struct lt_grace g;
    lt_grace_init(&g);
    struct grace_item item[5] = { 0 };
    for (int i = 0; i < 5; i++) {
        lt_grace_retire(&g, &item[i].retired, grace_item_free);
        cr_assert_eq(item[i].freed, 1, "item %d", i);
    }
    lt_grace_leave(&g, lt_grace_enter(&g));
    lt_grace_poll(&g);
    lt_grace_drain(&g);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(item[i].freed, 1, "item %d was freed %d times", i, item[i].freed);
}

Test(grace, who_was_there_holds_it_back_and_frees_it_by_leaving) {
    struct lt_grace g;
    lt_grace_init(&g);
    for (int turn = 0; turn < 4; turn++) { // both phases
        struct grace_item item[3] = { 0 };
        uint32_t token = lt_grace_enter(&g);
        for (int i = 0; i < 3; i++)
            lt_grace_retire(&g, &item[i].retired, grace_item_free);
        lt_grace_poll(&g);
        lt_grace_poll(&g);
        for (int i = 0; i < 3; i++)
            cr_assert_eq(item[i].freed, 0, "turn %d, item %d", turn, i);
        lt_grace_leave(&g, token);
        for (int i = 0; i < 3; i++)
            cr_assert_eq(item[i].freed, 1, "turn %d, item %d", turn, i);
    }
}

Test(grace, nested_sections_hold_until_the_outermost_ends) {
    struct lt_grace g;
    lt_grace_init(&g);
    struct grace_item a = { 0 }, b = { 0 };
    uint32_t outer = lt_grace_enter(&g);
    lt_grace_retire(&g, &a.retired, grace_item_free);
    uint32_t inner = lt_grace_enter(&g);
    lt_grace_retire(&g, &b.retired, grace_item_free);
    lt_grace_leave(&g, inner);
    cr_assert(!a.freed && !b.freed);
    lt_grace_leave(&g, outer);
    cr_assert(a.freed == 1 && b.freed == 1);
}

Test(grace, a_place_belongs_to_one_section_at_a_time) {
    struct lt_grace g;
    lt_grace_init(&g);
    uint32_t first = lt_grace_enter(&g), second = lt_grace_enter(&g);
    int place = lt_grace_place(first);
    cr_assert(place >= 0 && place < LT_GRACE_PLACES, "%d", place);
    cr_assert_eq(lt_grace_place(second), -1);
    lt_grace_leave(&g, first);
    uint32_t third = lt_grace_enter(&g);
    cr_assert_eq(lt_grace_place(third), -1, "the second is still in");
    lt_grace_leave(&g, second);
    lt_grace_leave(&g, third);
    uint32_t fourth = lt_grace_enter(&g);
    cr_assert_eq(lt_grace_place(fourth), place);
    lt_grace_leave(&g, fourth);
}

Test(grace, who_came_later_does_not_hold_it_back) {
    struct lt_grace g;
    lt_grace_init(&g);
    struct grace_item item = { 0 };
    uint32_t before = lt_grace_enter(&g);
    lt_grace_retire(&g, &item.retired, grace_item_free);
    uint32_t after = lt_grace_enter(&g);
    lt_grace_leave(&g, before);
    cr_assert_eq(item.freed, 1);
    lt_grace_leave(&g, after);
}

Test(grace, readers_that_overlap_for_ever_do_not_stop_it) {
    enum { N = 1000 };
    struct lt_grace g;
    lt_grace_init(&g);
    static struct grace_item item[N];
    uint32_t token = lt_grace_enter(&g);
    for (int i = 0; i < N; i++) {
        lt_grace_retire(&g, &item[i].retired, grace_item_free);
        uint32_t next = lt_grace_enter(&g); // somebody is always inside
        lt_grace_leave(&g, token);
        token = next;
        if (i >= 4)
            cr_assert_eq(item[i - 4].freed, 1, "item %d is still here at %d", i - 4, i);
    }
    lt_grace_leave(&g, token);
    for (int i = 0; i < N; i++)
        cr_assert_eq(item[i].freed, 1, "item %d", i);
}

// A reader may stall between looking at the phase and counting itself, and so count itself in the
// phase that is idle by then. Played here by hand, since no call stalls there.
Test(grace, a_straggler_in_the_idle_phase_holds_back_too) {
    struct lt_grace g;
    lt_grace_init(&g);
    for (unsigned old = 0; old < 2; old++) {
        for (uint32_t stripe = 0; stripe < LT_GRACE_STRIPES; stripe++) {
            struct grace_item item = { 0 };
            while (atomic_load(&g.phase) == old) { // make that phase the idle one
                struct grace_item flip = { 0 };
                lt_grace_retire(&g, &flip.retired, grace_item_free);
                cr_assert_eq(flip.freed, 1);
            }
            atomic_fetch_add(&g.stripe[stripe].readers[old], 1);
            lt_grace_retire(&g, &item.retired, grace_item_free);
            lt_grace_poll(&g);
            uint32_t token = lt_grace_enter(&g);
            lt_grace_leave(&g, token);
            cr_assert_eq(item.freed, 0, "phase %u, stripe %u", old, stripe);
            lt_grace_leave(&g, stripe * 2 + old);
            cr_assert_eq(item.freed, 1, "phase %u, stripe %u", old, stripe);
        }
    }
}

// A batch that waits is not joined by what is retired later: that has readers of its own.
Test(grace, what_is_retired_later_waits_for_later_readers) {
    struct lt_grace g;
    lt_grace_init(&g);
    struct grace_item a = { 0 }, b = { 0 };
    uint32_t first = lt_grace_enter(&g);
    lt_grace_retire(&g, &a.retired, grace_item_free);
    uint32_t second = lt_grace_enter(&g);
    lt_grace_retire(&g, &b.retired, grace_item_free);
    lt_grace_leave(&g, first);
    cr_assert_eq(a.freed, 1);
    cr_assert_eq(b.freed, 0, "the second reader may see b");
    lt_grace_leave(&g, second);
    cr_assert_eq(b.freed, 1);
}

Test(grace, a_free_function_may_retire_and_is_never_nested) {
    struct lt_grace g;
    lt_grace_init(&g);
    struct grace_item item[4] = { 0 };
    grace_depth_max = 0;
    for (int i = 0; i < 4; i++) {
        item[i].g = &g;
        item[i].then_retire = i < 3 ? &item[i + 1] : NULL;
    }
    lt_grace_retire(&g, &item[0].retired, grace_item_free);
    for (int i = 0; i < 4; i++)
        lt_grace_poll(&g);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(item[i].freed, 1, "item %d", i);
    cr_assert_eq(grace_depth_max, 1);
}

Test(grace, drain_frees_all_also_what_is_retired_meanwhile) {
    struct lt_grace g;
    lt_grace_init(&g);
    enum { N = 20 };
    struct grace_item item[N] = { 0 };
    grace_depth_max = 0;
    // A batch in its last step, more on the stack, and a chain behind it. The reader then goes
    // without a word, as when nobody polled since.
    uint32_t token = lt_grace_enter(&g);
    for (int i = 0; i < N; i++) {
        item[i].g = &g;
        item[i].then_retire = i >= 4 && i < N - 1 ? &item[i + 1] : NULL;
    }
    for (int i = 0; i < 5; i++)
        lt_grace_retire(&g, &item[i].retired, grace_item_free);
    int place = lt_grace_place(token);
    atomic_fetch_sub(&g.stripe[place / 2].readers[place % 2], 1);
    cr_assert_eq(item[0].freed, 0);
    lt_grace_drain(&g);
    for (int i = 0; i < N; i++)
        cr_assert_eq(item[i].freed, 1, "item %d", i);
    cr_assert_eq(grace_depth_max, 1);
    cr_assert_eq(atomic_load(&g.owed), 0u);
    struct grace_item again = { 0 };
    lt_grace_retire(&g, &again.retired, grace_item_free);
    cr_assert_eq(again.freed, 1, "it goes on working");
}

enum { GRACE_READERS = 3, GRACE_SNAPSHOTS = 20000 };

struct grace_snapshot {
    struct lt_retired retired;
    struct grace_race *race;
    uint64_t a, b; // b == ~a as long as it lives
};

struct grace_race {
    struct lt_grace g;
    _Atomic(struct grace_snapshot *) now; // seq_cst, as grace.h asks
    atomic_int readers_up;
    atomic_bool done;
    atomic_long freed;
    atomic_long wrong;
};

static void grace_snapshot_free(struct lt_retired *r) {
    struct grace_snapshot *s = LT_CONTAINER(r, struct grace_snapshot, retired);
    struct grace_race *race = s->race;
    s->a = s->b = 0xdeaddeaddeaddeadu; // whoever still looks sees that it is wrong
    free(s);
    atomic_fetch_add(&race->freed, 1);
}

static struct grace_snapshot *grace_snapshot_new(struct grace_race *race, uint64_t a) {
    struct grace_snapshot *s = calloc(1, sizeof *s);
    if (s)
        *s = (struct grace_snapshot){ .race = race, .a = a, .b = ~a };
    return s;
}

static void *grace_read(void *arg) {
    struct grace_race *race = arg;
    atomic_fetch_add(&race->readers_up, 1);
    uint64_t newest = 0;
    while (!atomic_load(&race->done)) {
        uint32_t outer = lt_grace_enter(&race->g);
        const struct grace_snapshot *s = atomic_load(&race->now);
        uint32_t inner = lt_grace_enter(&race->g);
        const struct grace_snapshot *t = atomic_load(&race->now);
        bool good = t->b == ~t->a && t->a >= s->a;
        lt_grace_leave(&race->g, inner);
        good = good && s->b == ~s->a && s->a >= newest;
        newest = s->a;
        lt_grace_leave(&race->g, outer);
        if (!good)
            atomic_fetch_add(&race->wrong, 1);
    }
    return NULL;
}

Test(grace, readers_beside_a_writer_never_see_a_freed_snapshot) {
    struct grace_race *race = calloc(1, sizeof *race);
    cr_assert_not_null(race);
    lt_grace_init(&race->g);
    atomic_store(&race->now, grace_snapshot_new(race, 1));
    pthread_t reader[GRACE_READERS];
    for (int i = 0; i < GRACE_READERS; i++)
        cr_assert_eq(pthread_create(&reader[i], NULL, grace_read, race), 0);
    while (atomic_load(&race->readers_up) < GRACE_READERS)
        sched_yield();
    long made = 1;
    for (uint64_t a = 2; a < GRACE_SNAPSHOTS; a++) {
        struct grace_snapshot *s = grace_snapshot_new(race, a);
        if (!s)
            break;
        made++;
        // Every other retire is made inside a section of the writer's own, as a publisher's would
        // be.
        uint32_t token = a % 2 ? lt_grace_enter(&race->g) : 0;
        struct grace_snapshot *old = atomic_exchange(&race->now, s);
        lt_grace_retire(&race->g, &old->retired, grace_snapshot_free);
        if (a % 2)
            lt_grace_leave(&race->g, token);
    }
    atomic_store(&race->done, true);
    for (int i = 0; i < GRACE_READERS; i++)
        cr_assert_eq(pthread_join(reader[i], NULL), 0);
    long freed_before_drain = atomic_load(&race->freed);
    lt_grace_drain(&race->g);
    long freed = atomic_load(&race->freed), wrong = atomic_load(&race->wrong);
    free(atomic_load(&race->now));
    free(race);
    cr_log_info("%ld of %ld snapshots were freed before the drain", freed_before_drain, made);
    cr_assert_eq(wrong, 0);
    cr_assert_eq(freed, made - 1, "all but the last are freed, once each");
    cr_assert_eq(made, GRACE_SNAPSHOTS - 1);
}
