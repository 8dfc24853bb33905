/* SPDX-License-Identifier: MIT */
// list is an intrusive doubly linked list: the node lives inside the thing that is listed, so that
// adding never fails and removing needs no search. The list is a ring through a sentinel.
//
// Invariant: a node is either in exactly one list or linked to itself. A node must be set up by
// lt_node_init before lt_list_remove may see it; adding sets it up by itself.
// Threads: none of this locks; the owner's lock guards the list and all its nodes.
#ifndef LT_BASE_LIST_H
#define LT_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct lt_node {
    struct lt_node *prev, *next;
};

struct lt_list {
    struct lt_node head; // the sentinel: head.next is the first, head.prev the last
};

// LT_CONTAINER gives the struct of the named type whose member ptr points at.
// The way through void * is deliberate: the cast may raise the alignment, the struct has it.
#define LT_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

// lt_node_init links n to itself: in no list.
static inline void lt_node_init(struct lt_node *n) {
    n->prev = n;
    n->next = n;
}

// lt_node_linked says whether n is in a list.
static inline bool lt_node_linked(const struct lt_node *n) {
    return n->next != n;
}

// lt_list_init makes l empty.
static inline void lt_list_init(struct lt_list *l) {
    lt_node_init(&l->head);
}

// lt_list_empty says whether l has no node.
static inline bool lt_list_empty(const struct lt_list *l) {
    return l->head.next == &l->head;
}

// lt_list_link puts n, which is in no list, between two neighbours.
static inline void lt_list_link(struct lt_node *n, struct lt_node *prev, struct lt_node *next) {
    n->prev = prev;
    n->next = next;
    prev->next = n;
    next->prev = n;
}

// lt_list_push_back adds n, which is in no list, as the last.
static inline void lt_list_push_back(struct lt_list *l, struct lt_node *n) {
    lt_list_link(n, l->head.prev, &l->head);
}

// lt_list_push_front adds n, which is in no list, as the first.
static inline void lt_list_push_front(struct lt_list *l, struct lt_node *n) {
    lt_list_link(n, &l->head, l->head.next);
}

// lt_list_remove takes n out of the list it is in and links it to itself; doing so again is
// harmless.
static inline void lt_list_remove(struct lt_node *n) {
    n->prev->next = n->next;
    n->next->prev = n->prev;
    lt_node_init(n);
}

// lt_list_take_all moves all of `from` to the end of l. Those in the middle are not looked at.
static inline void lt_list_take_all(struct lt_list *l, struct lt_list *from) {
    if (lt_list_empty(from))
        return;
    struct lt_node *first = from->head.next, *last = from->head.prev, *end = l->head.prev;
    end->next = first;
    first->prev = end;
    last->next = &l->head;
    l->head.prev = last;
    lt_list_init(from);
}

// lt_list_first returns the first node, NULL when l is empty.
static inline struct lt_node *lt_list_first(const struct lt_list *l) {
    return lt_list_empty(l) ? NULL : l->head.next;
}

// lt_list_next returns the node behind n, NULL behind the last. To remove while walking, take the
// next one first.
static inline struct lt_node *lt_list_next(const struct lt_list *l, const struct lt_node *n) {
    return n->next == &l->head ? NULL : n->next;
}

#endif
