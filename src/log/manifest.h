/* SPDX-License-Identifier: MIT */
// manifest: what exists in a store: an append-only file of checksummed notes. A note says of one
// thing (kind, id) what it is now; a note without a body says that it is gone. Names never become
// paths: directories are called after ids, and ids are never used twice.
//
//  file     "leatman\n", version u32, zero u32, then notes
//  note     length u32 of the body (0xffffffff: gone), CRC-32C u32 over the rest of the note,
//           kind u32, id u32, body, zeros up to a multiple of 8
//
// Notes are at LOG (in the page cache) when an append returns; their sync is owed and is paid by
// the next sync for acks DISK. Ids and segment uids come from blocks that are reserved and synced
// before the first one is used.
#ifndef LT_LOG_MANIFEST_H
#define LT_LOG_MANIFEST_H

#include "base/core.h"
#include "base/map.h"

enum lt_note_kind {
    LT_NOTE_LIMITS = 1, // id 0; body: next free id u32, next free segment uid u64
    LT_NOTE_TOPIC = 2,
    LT_NOTE_QUEUE = 3,
    LT_NOTE_GROUP = 4
};

struct lt_note {
    uint32_t kind, id;
    uint8_t *body;
    size_t size;
};

struct lt_manifest {
    leat *mq;
    struct lt_mutex lock; // guards all below
    int fd;               // -1: memory
    int64_t end;          // where the next note goes
    bool owed;            // notes are not synced
    atomic_bool
        poisoned;        // a sync failed: no further note, no further record; stored under the lock
    struct lt_map notes; // by (kind, id); of a memory store too
    uint32_t next_id, id_limit;
    uint64_t next_uid, uid_limit;
};

// lt_manifest_open reads the manifest of the store, or (create) makes it.
// Returns  LEAT_ECORRUPT, LEAT_EINVAL (a later version's), LEAT_EIO, LEAT_ENOSPC, LEAT_ENOMEM.
int lt_manifest_open(struct lt_manifest *m, leat *mq, bool create);
void lt_manifest_close(struct lt_manifest *m);

// lt_manifest_note appends a note; body NULL: the thing is gone.
// Returns  LEAT_ENOSPC, LEAT_EIO, LEAT_ENOMEM, LEAT_EPOISONED: nothing changed.
int lt_manifest_note(struct lt_manifest *m, uint32_t kind, uint32_t id, const void *body,
                     size_t size);
// lt_manifest_sync pays the owed sync. Returns  LEAT_EIO, LEAT_EPOISONED.
int lt_manifest_sync(struct lt_manifest *m);
// lt_manifest_sync_dir syncs a directory of the store. Topics and partitions share them, so this is
// under the manifest's lock, one at a time, and one that fails poisons the manifest.
// Returns  LEAT_EIO, LEAT_EPOISONED; the system's refusal to open it poisons nothing.
int lt_manifest_sync_dir(struct lt_manifest *m, const char *path);
// lt_manifest_poisoned tells whether a sync has failed.
bool lt_manifest_poisoned(const struct lt_manifest *m);
// lt_manifest_next iterates over the notes of things that exist, in no order. Only at open.
const struct lt_note *lt_manifest_next(struct lt_manifest *m, struct lt_map_cursor *at);

// lt_manifest_new_id and _new_uid give an id (topics, queues, groups) and a segment uid.
// Returns  LEAT_ENOSPC, LEAT_EIO, LEAT_EPOISONED.
int lt_manifest_new_id(struct lt_manifest *m, uint32_t *id);
int lt_manifest_new_uid(struct lt_manifest *m, uint64_t *uid);

#endif
