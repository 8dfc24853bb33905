/* SPDX-License-Identifier: MIT */
// The intrusive heap, against a plain array, and with an allocator that fails.
#include "base/chance.h"
#include "base/failing_mem.h"
#include "base/heap.h"
#include "base/list.h"

#include <criterion/criterion.h>
#include <stdint.h>

struct heap_item {
    int64_t key;
    int id;
    struct lt_heap_node node;
};

static struct heap_item *heap_item_of(const struct lt_heap_node *n) {
    return LT_CONTAINER(n, struct heap_item, node);
}

static bool heap_item_less(const struct lt_heap_node *a, const struct lt_heap_node *b) {
    const struct heap_item *x = heap_item_of(a), *y = heap_item_of(b);
    return x->key != y->key ? x->key < y->key : x->id < y->id;
}

// heap_sound re-states the invariants of heap.h.
static bool heap_sound(const struct lt_heap *h) {
    for (size_t i = 0; i < h->n; i++)
        if (h->v[i]->at != i + 1 || (i > 0 && heap_item_less(h->v[i], h->v[(i - 1) / 2])))
            return false;
    return h->n <= h->cap;
}

Test(heap, gives_the_least_first_and_ties_by_id) {
    struct lt_mem mem = { 0 };
    struct lt_heap h;
    struct heap_item item[100] = { 0 };
    struct lt_chance chance;
    lt_chance_init(&chance, 5);
    lt_heap_init(&h, &mem, heap_item_less);
    cr_assert_null(lt_heap_top(&h));
    for (int i = 0; i < 100; i++) {
        item[i].key = (int64_t)lt_chance_below(&chance, 20);
        item[i].id = i;
        cr_assert(!lt_heap_has(&item[i].node), "a zeroed node is in no heap");
        cr_assert_eq(lt_heap_push(&h, &item[i].node), 0);
        cr_assert(lt_heap_has(&item[i].node));
    }
    const struct heap_item *before = NULL;
    for (int i = 0; i < 100; i++) {
        struct lt_heap_node *top = lt_heap_top(&h);
        cr_assert(!before || heap_item_less(&before->node, top), "number %d is out of order", i);
        before = heap_item_of(top);
        lt_heap_remove(&h, top);
        cr_assert(!lt_heap_has(top));
    }
    cr_assert_null(lt_heap_top(&h));
    lt_heap_fini(&h);
}

Test(heap, stays_sound_under_random_push_remove_and_update) {
    enum { ITEMS = 64 };
    struct lt_mem mem = { 0 };
    struct lt_heap h;
    struct heap_item item[ITEMS] = { 0 };
    lt_heap_init(&h, &mem, heap_item_less);
    struct lt_chance chance;
    lt_chance_init(&chance, 6);
    for (int i = 0; i < ITEMS; i++)
        item[i].id = i;
    for (int step = 0; step < 20000; step++) {
        struct heap_item *it = &item[lt_chance_below(&chance, ITEMS)];
        int64_t key = (int64_t)lt_chance_below(&chance, 50);
        if (!lt_heap_has(&it->node)) {
            it->key = key;
            cr_assert_eq(lt_heap_push(&h, &it->node), 0);
        } else if (lt_chance_below(&chance, 2)) {
            it->key = key;
            lt_heap_update(&h, &it->node);
        } else {
            lt_heap_remove(&h, &it->node);
            it->key = key; // no longer the heap's business
        }
        cr_assert(heap_sound(&h), "step %d", step);
        size_t in = 0;
        const struct heap_item *least = NULL;
        for (int i = 0; i < ITEMS; i++)
            if (lt_heap_has(&item[i].node)) {
                in++;
                if (!least || heap_item_less(&item[i].node, &least->node))
                    least = &item[i];
            }
        cr_assert_eq(in, h.n, "step %d", step);
        cr_assert_eq(lt_heap_top(&h), least ? &least->node : NULL, "step %d", step);
    }
    lt_heap_fini(&h);
    for (int i = 0; i < ITEMS; i++)
        cr_assert(!lt_heap_has(&item[i].node), "fini lets all nodes go");
}

Test(heap, remove_and_update_of_what_is_not_there_do_nothing) {
    struct lt_mem mem = { 0 };
    struct lt_heap h;
    struct heap_item a = { .key = 1 }, b = { .key = 2 };
    lt_heap_init(&h, &mem, heap_item_less);
    cr_assert_eq(lt_heap_push(&h, &a.node), 0);
    lt_heap_remove(&h, &b.node);
    lt_heap_update(&h, &b.node);
    cr_assert_eq(h.n, 1u);
    lt_heap_remove(&h, &a.node);
    lt_heap_remove(&h, &a.node);
    cr_assert_eq(h.n, 0u);
    lt_heap_fini(&h);
    lt_heap_fini(&h);
}

Test(heap, no_room_changes_nothing) {
    enum { ITEMS = 100 };
    for (long k = 1;; k++) {
        struct failing_mem f;
        failing_mem_init(&f, k);
        struct lt_heap h;
        struct heap_item item[ITEMS] = { 0 };
        lt_heap_init(&h, &f.mem, heap_item_less);
        int failed = 0;
        for (int i = 0; i < ITEMS; i++) {
            item[i].key = ITEMS - i;
            struct lt_heap before = h;
            int rc = lt_heap_push(&h, &item[i].node);
            if (rc == 0)
                continue;
            failed++;
            cr_assert_eq(rc, LEAT_ENOMEM);
            cr_assert(!lt_heap_has(&item[i].node), "allocation %ld", k);
            cr_assert(h.v == before.v && h.n == before.n && h.cap == before.cap);
            cr_assert(heap_sound(&h), "allocation %ld", k);
            cr_assert_eq(lt_heap_push(&h, &item[i].node), 0, "the next try has room");
        }
        cr_assert_eq(h.n, (size_t)ITEMS);
        lt_heap_fini(&h);
        cr_assert_eq(f.out, 0);
        if (!failed) {
            cr_assert_gt(k, 3, "some allocations did fail before");
            return;
        }
    }
}

Test(heap, what_was_reserved_needs_no_room) {
    struct failing_mem f;
    failing_mem_init(&f, 0);
    struct lt_heap h;
    struct heap_item item[50] = { 0 };
    lt_heap_init(&h, &f.mem, heap_item_less);
    cr_assert_eq(lt_heap_reserve(&h, 50), 0);
    f.fail_at = f.asked + 1;
    f.then_all = true;
    for (int i = 0; i < 50; i++) {
        item[i].key = i;
        cr_assert_eq(lt_heap_push(&h, &item[i].node), 0);
    }
    for (int i = 0; i < 50; i++) {
        item[i].key = -i;
        lt_heap_update(&h, &item[i].node);
    }
    cr_assert_eq(heap_item_of(lt_heap_top(&h)), &item[49]);
    cr_assert_eq(lt_heap_reserve(&h, 10), 0, "less than there is needs nothing");
    cr_assert_eq(lt_heap_reserve(&h, h.cap + 1), LEAT_ENOMEM);
    f.fail_at = 0;
    long asked = f.asked;
    cr_assert_eq(lt_heap_reserve(&h, SIZE_MAX), LEAT_ENOMEM);
    cr_assert_eq(lt_heap_reserve(&h, SIZE_MAX / sizeof(void *) + 2), LEAT_ENOMEM);
    cr_assert_eq(f.asked, asked, "a size that wraps is not asked for");
    cr_assert(heap_sound(&h));
    lt_heap_fini(&h);
    cr_assert_eq(f.out, 0);
}
