/* SPDX-License-Identifier: MIT */
// syncs: all of a store made durable, on demand, at the close, and by time: .sync_interval_ms. The
// first thing that is stored after a timed sync has begun plans the next, that much later; so
// nothing that is stored stays longer than that without a sync having begun.
#include "log/log.h"

enum { SYNCS_AGAIN_MS = 1000 }; // one that has failed is not tried again before

static int syncs_topic(leat_topic *t) {
    int first = 0;
    for (int32_t i = 0; i < t->partitions; i++) {
        int rc = lt_partition_sync(lt_topic_part(t, i), atomic_load(&lt_topic_part(t, i)->end));
        if (rc == LEAT_EGONE)
            return first; // deleted meanwhile: nothing of it is to be kept
        first = first ? first : rc;
    }
    return first;
}

int lt_log_sync(leat *mq) {
    struct lt_log *log = mq->log;
    int first = 0;
    for (leat_topic *t = lt_topic_next(log, NULL); t; t = lt_topic_next(log, t)) {
        int rc = syncs_topic(t);
        first = first ? first : rc;
    }
    int rc = lt_manifest_sync(&log->manifest);
    first = first ? first : rc;
    rc = lt_slots_sync(&log->slots);
    return first ? first : rc;
}

int leat_sync(leat *mq) {
    int rc = lt_begin(mq, LT_CALL);
    if (rc != 0)
        return rc;
    rc = lt_check_writable(mq, "sync", "of it");
    return lt_end(mq, rc != 0 ? rc : lt_log_sync(mq));
}

// ---- by time

void lt_log_plan_sync(leat *mq) {
    if (!atomic_exchange(&mq->log->sync_planned, true))
        lt_due_set(mq, &mq->log->sync_due, lt_add_ms(lt_now_ns(mq), mq->sync_interval_ms));
}

static void syncs_fall_due(leat *mq, struct lt_due *due) {
    // What is stored from here on plans the next one: this one may miss it. What was stored before
    // is found: the lock, or the counter of the slots, behind which it was stored comes first.
    atomic_store(&mq->log->sync_planned, false);
    if (lt_log_sync(mq) == 0)
        return;
    int64_t wait_ms = mq->sync_interval_ms;
    if (wait_ms < SYNCS_AGAIN_MS)
        wait_ms = SYNCS_AGAIN_MS;
    atomic_store(&mq->log->sync_planned, true);
    lt_due_set(mq, due, lt_add_ms(lt_now_ns(mq), wait_ms));
}

int lt_log_sync_init(leat *mq) {
    return mq->sync_interval_ms > 0 ? lt_chore_init(mq, &mq->log->sync_due, syncs_fall_due) : 0;
}

void lt_log_sync_fini(leat *mq) {
    if (mq->sync_interval_ms > 0)
        lt_due_end(mq, &mq->log->sync_due);
}
