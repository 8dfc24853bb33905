/* SPDX-License-Identifier: MIT */
// ledger: the state words of one queue over one partition, a sheet of them beside each segment.
// Words are the queue's only durable state but for its head; what they mean is in word.h.
//
// Threads: none of this locks; the queue's lock guards it.
#ifndef LT_QUEUE_LEDGER_H
#define LT_QUEUE_LEDGER_H

#include "base/turns.h"
#include "log/log.h"
#include "queue/word.h"

struct lt_sheet {
    int64_t base; // of its segment, as are the next two
    int64_t created_ms;
    uint64_t seed; // of the keys of its words: of the segment's uid and the queue's id
    bool dirty;    // words were stored since the last sync of it began
    struct lt_words words;
};

struct lt_ledger {
    leat *mq;
    struct lt_partition *p;
    uint32_t queue_id;
    struct lt_sheet *sheet; // in order of base
    size_t count, room;
    bool dir_owed;         // the name of a sheet's file is not known to be on disk
    bool lost;             // a sync failed: there is no second one
    struct lt_turns syncs; // while one is under way no sheet is closed
};

// Returns  LEAT_ENOMEM.
int lt_ledger_init(struct lt_ledger *l, struct lt_partition *p, uint32_t queue_id);
void lt_ledger_fini(struct lt_ledger *l);

// lt_ledger_open opens the sheet of a segment. create: makes the sheet if there is none, and sees
// to it that the word of `offset`, which is in it, can be stored without failing for want of room.
// Returns  LEAT_ENOENT (no sheet, and not create), LEAT_ENOSPC, LEAT_EIO, LEAT_ENOMEM.
// Owns     *out is valid until the next lt_ledger_open or _drop_below.
int lt_ledger_open(struct lt_ledger *l, const struct lt_segment *s, int64_t offset, bool create,
                   struct lt_sheet **out);
// lt_ledger_find returns the sheet of an offset that was handed out, which is open therefore.
struct lt_sheet *lt_ledger_find(const struct lt_ledger *l, int64_t offset);
// lt_ledger_drop_below closes the sheets that have only offsets below head, but none while a sync
// is at work, nor (keep_dirty) one that is still to be synced.
void lt_ledger_drop_below(struct lt_ledger *l, int64_t head, bool keep_dirty);
// lt_ledger_dirty returns the first sheet with unsynced words whose base is behind `after`, or
// NULL.
struct lt_sheet *lt_ledger_dirty(const struct lt_ledger *l, int64_t after);

struct lt_word lt_sheet_load(const struct lt_sheet *sheet, int64_t offset);
// lt_sheet_final is the final word of an offset.
uint64_t lt_sheet_final(const struct lt_sheet *sheet, int64_t offset, int state);
// lt_sheet_store stores such a word, lt_sheet_store_final makes and stores it, lt_sheet_store_live
// stores one that is not final.
// Returns  LEAT_EIO, LEAT_ENOSPC: only where words are not mapped; nothing changed.
int lt_sheet_store(struct lt_sheet *sheet, int64_t offset, uint64_t word);
int lt_sheet_store_final(struct lt_sheet *sheet, int64_t offset, int state);
// not_before_ms: wall time, 0: at once.
int lt_sheet_store_live(struct lt_sheet *sheet, int64_t offset, int state, uint32_t deliveries,
                        int64_t not_before_ms);
// lt_sheet_due_ms is the wall time that a word's not_before means.
int64_t lt_sheet_due_ms(const struct lt_sheet *sheet, const struct lt_word *word);

// lt_ledger_behind moves *past on, never back, behind the last offset from `from` on that has a
// word in the sheet of s: behind its records, these are of messages that were handed out and lost
// in a power cut. Returns  LEAT_EIO, LEAT_ENOMEM. It ends what lt_ledger_open gave out.
int lt_ledger_behind(struct lt_ledger *l, const struct lt_segment *s, int64_t from, int64_t *past);

// lt_ledger_sync_names makes the names of the words' files durable, if that is owed. Locks: none.
int lt_ledger_sync_names(const struct lt_ledger *l);
// lt_ledger_sync makes the words durable, and the names of their files; for a store that closes.
// Returns  LEAT_EIO, LEAT_ENOSPC; LEAT_EPOISONED: an earlier sync has failed.
int lt_ledger_sync(struct lt_ledger *l);

#endif
