/* SPDX-License-Identifier: MIT */
// The intrusive list.
#include "base/list.h"

#include <criterion/criterion.h>

struct list_item {
    char name;
    struct lt_node node;
};

// list_is says whether the names in l, forwards and backwards, are those of want.
static bool list_is(const struct lt_list *l, const char *want) {
    size_t n = 0;
    for (struct lt_node *at = lt_list_first(l); at; at = lt_list_next(l, at), n++)
        if (LT_CONTAINER(at, struct list_item, node)->name != want[n])
            return false;
    if (want[n] != '\0')
        return false;
    for (const struct lt_node *at = l->head.prev; at != &l->head; at = at->prev)
        if (n == 0 || LT_CONTAINER(at, struct list_item, node)->name != want[--n])
            return false;
    return n == 0 && lt_list_empty(l) == (want[0] == '\0');
}

Test(list, keeps_order_at_both_ends) {
    struct lt_list l;
    struct list_item a = { .name = 'a' }, b = { .name = 'b' }, c = { .name = 'c' };
    lt_list_init(&l);
    cr_assert(list_is(&l, ""));
    cr_assert_null(lt_list_first(&l));
    lt_list_push_back(&l, &b.node);
    lt_list_push_back(&l, &c.node);
    lt_list_push_front(&l, &a.node);
    cr_assert(list_is(&l, "abc"));
    cr_assert_eq(LT_CONTAINER(lt_list_first(&l), struct list_item, node), &a);
    cr_assert_null(lt_list_next(&l, &c.node));
}

Test(list, remove_works_anywhere_and_twice) {
    struct lt_list l;
    struct list_item i[4] = { { .name = 'a' }, { .name = 'b' }, { .name = 'c' }, { .name = 'd' } };
    lt_list_init(&l);
    for (int k = 0; k < 4; k++)
        lt_list_push_back(&l, &i[k].node);
    lt_list_remove(&i[1].node);
    cr_assert(list_is(&l, "acd"));
    cr_assert(!lt_node_linked(&i[1].node));
    lt_list_remove(&i[1].node);
    cr_assert(list_is(&l, "acd"), "removing twice is harmless");
    lt_list_remove(&i[0].node);
    lt_list_remove(&i[3].node);
    cr_assert(list_is(&l, "c"));
    lt_list_push_back(&l, &i[1].node);
    cr_assert(list_is(&l, "cb"), "what was removed can be added again");
    cr_assert(lt_node_linked(&i[1].node));
    lt_list_remove(&i[2].node);
    lt_list_remove(&i[1].node);
    cr_assert(list_is(&l, ""));
    struct lt_node lone;
    lt_node_init(&lone);
    lt_list_remove(&lone);
    cr_assert(!lt_node_linked(&lone));
}

Test(list, may_lose_the_current_node_while_walked) {
    struct lt_list l;
    struct list_item i[6];
    lt_list_init(&l);
    for (int k = 0; k < 6; k++) {
        i[k].name = (char)('a' + k);
        lt_list_push_back(&l, &i[k].node);
    }
    for (struct lt_node *at = lt_list_first(&l), *next; at; at = next) {
        next = lt_list_next(&l, at);
        if ((LT_CONTAINER(at, struct list_item, node)->name - 'a') % 2 == 0)
            lt_list_remove(at);
    }
    cr_assert(list_is(&l, "bdf"));
}
