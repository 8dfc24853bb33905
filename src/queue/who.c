/* SPDX-License-Identifier: MIT */
// who: the names that receives give themselves, for explain. A lease has no room for a name and
// names may be without number, so each queue has a table of a fixed size, made when the first name
// is given; an entry is another's as soon as no lease refers to it. While all are in use a new
// name is not kept.
#include "queue/room.h"

#include <string.h>

struct lt_who {
    char name[LT_WHO_SIZE];
    uint32_t leases; // that refer to it; the name is meaningless at 0
};

static bool who_is(const struct lt_who *w, const char *name) {
    return w->leases > 0 && strncmp(w->name, name, LT_WHO_SIZE - 1) == 0;
}

int lt_who_find(leat_queue *q, const char *name) {
    if (!name || !name[0])
        return 0;
    if (!q->who)
        q->who = lt_zalloc(&q->mq->mem, LT_WHO_MAX * sizeof *q->who);
    if (!q->who)
        return lt_fail_nomem();
    int unused = 0;
    for (int i = 1; i <= LT_WHO_MAX; i++) {
        if (who_is(&q->who[i - 1], name))
            return i;
        if (unused == 0 && q->who[i - 1].leases == 0)
            unused = i;
    }
    if (unused == 0)
        return 0;
    struct lt_who *w = &q->who[unused - 1];
    size_t n = strnlen(name, LT_WHO_SIZE - 1);
    memcpy(w->name, name, n);
    w->name[n] = '\0';
    return unused;
}

void lt_who_set(leat_queue *q, struct lt_lease *lease, int who) {
    lt_who_drop(q, lease);
    lease->who = (uint8_t)who;
    if (who > 0)
        q->who[who - 1].leases++;
}

void lt_who_drop(leat_queue *q, struct lt_lease *lease) {
    if (lease->who > 0)
        q->who[lease->who - 1].leases--;
    lease->who = 0;
}

const char *lt_who_name(const leat_queue *q, const struct lt_lease *lease) {
    return lease->who > 0 ? q->who[lease->who - 1].name : "";
}
