/* SPDX-License-Identifier: MIT */
#include "base/turns.h"

int lt_turns_init(struct lt_turns *t) {
    *t = (struct lt_turns){ .number = 0 };
    int rc = lt_cond_init(&t->ended[0]);
    if (rc != 0)
        return rc;
    rc = lt_cond_init(&t->ended[1]);
    if (rc != 0)
        lt_cond_fini(&t->ended[0]);
    return rc;
}

void lt_turns_fini(struct lt_turns *t) {
    lt_cond_fini(&t->ended[0]);
    lt_cond_fini(&t->ended[1]);
}

uint64_t lt_turns_begin(struct lt_turns *t) {
    if (t->untold) // by who ended it and goes on at once
        lt_cond_broadcast(&t->ended[t->number & 1]);
    t->untold = false;
    t->under_way = true;
    return ++t->number;
}

void lt_turns_end(struct lt_turns *t) {
    t->under_way = false;
    t->untold = true;
}

void lt_turns_wait(struct lt_turns *t, struct lt_mutex *mu, bool ours) {
    lt_cond_wait(&t->ended[(t->number + !ours) & 1], mu);
}

void lt_turns_unlock(struct lt_turns *t, struct lt_mutex *mu) {
    uint64_t number = t->number;
    bool next = !t->under_way, over = t->untold;
    t->untold = false;
    lt_unlock(mu); // first: who is woken wants it
    if (next)
        lt_cond_signal(&t->ended[(number + 1) & 1]); // it is on its way while the others wake
    if (over)
        lt_cond_broadcast(&t->ended[number & 1]);
}
