/* SPDX-License-Identifier: MIT */
// reason: why a rejected message died, from the call until its move is done. The words of a queue
// have no room for it, so it is kept in memory: a move that goes on after the next open does not
// know the text any more. Only rejected messages have an entry, by slot: settling otherwise, and
// dying of the count, allocate nothing.
#include "queue/room.h"

#include <string.h>

int lt_reason_keep(leat_queue *q, const struct lt_lease *lease, const char *reason) {
    reason = reason ? reason : "rejected";
    char *copy = lt_strdup_n(&q->mq->mem, reason, strlen(reason));
    if (copy && lt_map_put(&q->reasons, &lease->slot, sizeof lease->slot, copy) == 0)
        return 0;
    lt_free(&q->mq->mem, copy);
    return lt_fail_nomem();
}

void lt_reason_drop(leat_queue *q, const struct lt_lease *lease) {
    lt_free(&q->mq->mem, lt_map_remove(&q->reasons, &lease->slot, sizeof lease->slot));
}

const char *lt_reason_of(const leat_queue *q, const struct lt_lease *lease) {
    const char *reason = NULL;
    if (lt_map_count(&q->reasons) > 0)
        reason = lt_map_get(&q->reasons, &lease->slot, sizeof lease->slot);
    if (reason)
        return reason;
    bool counted = q->set.deliveries_max > 0 && lease->deliveries >= q->set.deliveries_max;
    return counted ? "deliveries" : "rejected"; // in an earlier run, then
}

void lt_reasons_fini(leat_queue *q) {
    struct lt_map_cursor at = { 0 };
    void *reason;
    while (lt_map_next(&q->reasons, &at, NULL, NULL, &reason))
        lt_free(&q->mq->mem, reason);
    lt_map_fini(&q->reasons);
}
