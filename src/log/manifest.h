/* SPDX-License-Identifier: MIT */
// manifest: what exists in a store: an append-only file of checksummed notes, whose bytes note.h
// describes. Names never become paths: directories are called after ids, and ids are never used
// twice.
//
// Notes are at LOG (in the page cache) when an append returns; their sync is owed and is paid by
// the next sync for acks DISK. Ids and segment uids come from blocks that are reserved and synced
// before the first one is used.
//
// What is known to be on disk is written down with each note, and in a slot after each sync. What
// is not valid below that is damage: nothing is changed. Behind it there is an unfinished tail:
// cut, and the cut synced, before anything is appended.
//
// Snapshots: a file that is long, and several times what the living notes need, is written anew
// under another name, synced, renamed, the directory synced; before that the old one is in use and
// after it the new one, and each is whole. Where that fails the old one goes on. Only a failed sync
// of the directory poisons: nobody knows then which of them has the name.
#ifndef LT_LOG_MANIFEST_H
#define LT_LOG_MANIFEST_H

#include "base/core.h"
#include "base/map.h"
#include "log/note.h"

enum lt_note_kind {
    LT_NOTE_LIMITS = 1, // id 0; body: next free id u32, next free segment uid u64
    LT_NOTE_TOPIC = 2,
    LT_NOTE_QUEUE = 3,
    LT_NOTE_GROUP = 4
};

struct lt_slot;

struct lt_manifest {
    leat *mq;
    struct lt_mutex lock;                 // guards all below
    int fd;                               // -1: memory
    int64_t end;                          // where the next note goes
    int64_t synced;                       // below this the file is known to be on disk
    bool owed;                            // a sync
    int64_t living;                       // how long a snapshot would be
    int64_t snapshot_over, snapshot_next; // no snapshot below these: ever; after one has failed
    uint64_t generation;
    struct lt_slot *slot; // where `synced` is written down; may be NULL: evidence, no promise
    uint8_t *found;       // from open to settle: the file as it was found, found_size bytes
    size_t found_size;
    atomic_bool poisoned; // a sync failed: no further note, no further record; is never taken back
    struct lt_map notes;  // by (kind, id); of a memory store too
    uint32_t next_id, id_limit;
    uint64_t next_uid, uid_limit;
};

// lt_manifest_open reads the manifest of the store and changes nothing, or (create) makes it.
// Returns  LEAT_ECORRUPT, LEAT_EINVAL (a later version's), LEAT_EIO, LEAT_ENOSPC, LEAT_ENOMEM.
int lt_manifest_open(struct lt_manifest *m, leat *mq, bool create);
// lt_manifest_settle holds it to what the slots say was synced, and deals with the tail. Before the
// first note; the slots are open.
// Returns  LEAT_ECORRUPT: nothing was changed; LEAT_EIO, LEAT_ENOSPC.
int lt_manifest_settle(struct lt_manifest *m);
// lt_manifest_begin makes one that is in memory only, empty: for notes from which manifest.new is
// to be made by lt_manifest_make_new, whole and on disk, with that generation. Returns LEAT_ENOMEM;
// LEAT_ENOSPC, LEAT_EIO.
int lt_manifest_begin(struct lt_manifest *m, leat *mq);
int lt_manifest_make_new(struct lt_manifest *m, uint64_t generation);
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
// lt_manifest_poison makes the store take no further note and no further record: a sync of the
// slots has failed.
void lt_manifest_poison(struct lt_manifest *m);
// lt_manifest_poisoned tells whether a sync has failed.
bool lt_manifest_poisoned(const struct lt_manifest *m);
// lt_manifest_next iterates over the notes of things that exist, in no order. Only at open
// and under the lock.
const struct lt_note *lt_manifest_next(struct lt_manifest *m, struct lt_map_cursor *at);

// lt_manifest_used tells whether anything exists, so that the file of slots must, too. At open.
bool lt_manifest_used(const struct lt_manifest *m);

// lt_manifest_new_id and _new_uid give an id (topics, queues, groups) and a segment uid.
// Returns  LEAT_ENOSPC, LEAT_EIO, LEAT_EPOISONED.
int lt_manifest_new_id(struct lt_manifest *m, uint32_t *id);
int lt_manifest_new_uid(struct lt_manifest *m, uint64_t *uid);

#endif
