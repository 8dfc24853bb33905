/* SPDX-License-Identifier: MIT */
// durable: settling at acks DISK. A word counts after a power cut if the words' file is on disk,
// its name is, the slot says that its offset was touched, and the manifest knows the queue. One
// thread at a time syncs for a partition, without the queue's lock, for all who stored a word
// before it began; the others wait for the next one. A failed sync is never tried again. None of
// it allocates.
#include "leat_test.h"
#include "queue/room.h"

int lt_queue_settle_check(const leat_queue *q) {
    const struct lt_log *log = q->mq->log;
    if (!lt_queue_settles_on_disk(q) || (!q->settle_lost && !lt_slots_poisoned(&log->slots) &&
                                         !lt_manifest_poisoned(&log->manifest)))
        return 0;
    return lt_fail(LEAT_EPOISONED, "queue %s: a sync of what was settled has failed", q->name);
}

static int64_t durable_touched(const struct lt_queue_part *part) {
    return part->slot ? part->slot->values[1] : 0;
}

static bool durable_is_clean(const struct lt_queue_part *part) {
    return !part->ledger.syncs.under_way && !part->ledger.dir_owed &&
           !lt_ledger_dirty(&part->ledger, -1) && durable_touched(part) <= part->touched_safe;
}

// The next three: the queue's lock is held at entry and exit, not during system calls.

static int durable_sync_words(leat_queue *q, struct lt_queue_part *part) {
    struct lt_ledger *l = &part->ledger;
    int rc = lt_fault(q->mq, LEAT_OP_SYNC, q->name, part->p->number, false);
    struct lt_sheet *sheet;
    for (int64_t after = -1; rc == 0 && (sheet = lt_ledger_dirty(l, after));) {
        struct lt_words words = sheet->words; // the sheet may move, but it is not closed
        after = sheet->base;
        sheet->dirty = false;
        lt_unlock(q->lock);
        rc = lt_words_sync(&words);
        lt_lock(q->lock);
    }
    if (rc != 0)
        l->lost = q->settle_lost = true;
    return rc;
}

// What makes the words be found: the segment, file names, slot, notes.
static int durable_sync_rest(leat_queue *q, struct lt_queue_part *part) {
    struct lt_log *log = q->mq->log;
    struct lt_ledger *l = &part->ledger;
    int64_t touched = durable_touched(part);
    bool names = l->dir_owed, slot = touched > part->touched_safe;
    l->dir_owed = false; // a sheet made from here on owes its own
    lt_unlock(q->lock);
    // Without the first page of its segment nobody knows whose words these are.
    int names_rc = names ? lt_partition_sync(part->p, atomic_load(&part->p->end)) : 0;
    if (names && names_rc == 0)
        names_rc = lt_ledger_sync_names(l);
    int rc = names_rc;
    if (rc == 0)
        rc = lt_manifest_sync(&log->manifest);
    if (rc == 0 && slot)
        rc = lt_slots_sync(&log->slots);
    lt_lock(q->lock);
    l->dir_owed |= names_rc != 0;
    if (rc == 0)
        part->touched_safe = touched;
    return rc;
}

static int durable_lead(leat_queue *q, struct lt_queue_part *part) {
    struct lt_ledger *l = &part->ledger;
    uint64_t number = lt_turns_begin(&l->syncs);
    int rc = durable_sync_words(q, part);
    if (rc == 0)
        rc = durable_sync_rest(q, part);
    lt_turns_end(&l->syncs);
    if (rc == 0)
        part->done = number;
    size_t sheets = l->count; // those that were done with meanwhile
    lt_ledger_drop_below(l, part->window.head, true);
    q->release_due |= q->owns_topic && l->count != sheets;
    return rc;
}

int lt_queue_settle_sync(leat_queue *q, uint32_t partition) {
    int rc = 0;
    lt_lock(q->lock);
    struct lt_queue_part *part = lt_queue_part(q, partition);
    struct lt_turns *syncs = &part->ledger.syncs;
    uint64_t mine = syncs->number + 1; // one that is under way may have missed our word
    while (lt_queue_settles_on_disk(q) && part->done < mine && rc == 0) {
        rc = lt_queue_settle_check(q);
        if (rc != 0)
            break;
        if (syncs->under_way)
            lt_turns_wait(syncs, q->lock, mine <= syncs->number);
        else if (durable_is_clean(part))
            break; // by one that began after our word was stored
        else
            rc = durable_lead(q, part);
    }
    lt_turns_unlock(syncs, q->lock);
    return rc == 0 ? 0 : LEAT_EIO; // whatever the reason: the word is stored, so "unknown"
}

int lt_queue_settle_sync_all(leat_queue *q) {
    int first = 0;
    lt_lock(q->lock);
    for (int32_t i = 0; i < q->count; i++) {
        if (durable_is_clean(lt_queue_part(q, i)))
            continue;
        lt_unlock(q->lock);
        int rc = lt_queue_settle_sync(q, (uint32_t)i);
        first = first ? first : rc;
        lt_lock(q->lock);
    }
    lt_unlock(q->lock);
    return first;
}
