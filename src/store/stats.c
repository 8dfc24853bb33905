/* SPDX-License-Identifier: MIT */
// stats: what a store has done and what it takes. Each room counts where it works anyway, under a
// lock that it has or in a line of its own; this sums up.
#include "log/log.h"
#include "pubsub/pubsub.h"
#include "queue/queue.h"
#include "store/store.h"

static void stats_children(leat *mq, leat_stats *s) {
    lt_lock(&mq->children_lock);
    for (struct lt_node *n = lt_list_first(&mq->children); n; n = lt_list_next(&mq->children, n)) {
        const struct lt_child *c = LT_CONTAINER(n, struct lt_child, node);
        if (c->count)
            c->count(c, s);
    }
    lt_unlock(&mq->children_lock);
}

int leat_get_stats(leat *mq, leat_stats *s, size_t size_of_s) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc == 0 && (!s || size_of_s != sizeof *s))
        rc = lt_fail(LEAT_EINVAL, "stats: out is NULL or has %zu bytes", size_of_s);
    if (rc != 0)
        return rc;
    *s = (leat_stats){ .fds = (uint64_t)(mq->dir_fd >= 0) + (mq->lock_fd >= 0) };
    s->threads = (lt_service_runs(&mq->clock.service) ? 1u : 0u) + (lt_courier_runs(mq) ? 1u : 0u);
    if (mq->dir && !lt_read_only(mq))
        s->fs_class = mq->mapped_write ? LEAT_WRITE_MAPPED : LEAT_WRITE_PWRITE;
    stats_children(mq, s);
    lt_log_count(mq, s);
    lt_queues_count(mq, s);
    lt_channels_count(mq, s);
    return 0;
}
