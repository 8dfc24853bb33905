/* SPDX-License-Identifier: MIT */
// crash_os is a table of system calls over files that live in memory, and a record of what a crash
// at any moment could leave of them.
//
// Files are real memory that is shared by all who map it, so what leat stores by memcpy is there
// at once, as in the page cache. At every call, and at each crash_os_point, it is noted which
// sectors of 512 bytes have changed; the notes make a trace. A struct crash_model follows the trace
// event by event and knows at each point what may be on the disk:
//
//   of a file       every sector at any version that it had since the file's last sync, and beside
//                   that any length that the file had
//   of a directory  each entry made, renamed or removed since the directory's last sync, or not;
//                   a file's own sync does not make its name durable, a rename is atomic
//   kill -9         the newest of all
//
// A version is what a note saw, and between two of them (crash_os.torn) one where the first half of
// the bytes that changed is new and the rest is old, as the kernel may find it that writes the page
// back in the middle of a memcpy. That takes an instant to meet, so a state should have one such
// sector a file at the most.
// Not modelled: sectors that are half written, garbage in what a file grew by. Threads: one.
// Whatever cannot be represented (a file too long, a table full) aborts: the test is at fault.
#ifndef LEAT_TESTS_LIB_CRASH_OS_H
#define LEAT_TESTS_LIB_CRASH_OS_H

#include "base/os.h"

enum {
    CRASH_SECTOR = 512,
    CRASH_FILE_MAX = 128 * 1024,
    CRASH_SECTORS = CRASH_FILE_MAX / CRASH_SECTOR,
    CRASH_FILES = 96, // files and directories ever made
    CRASH_ENTRIES = 48,
    CRASH_PENDING = 96,
    CRASH_SIZES = 64,
    CRASH_FDS = 96,
    CRASH_MAPS = 96,
    CRASH_NAME = 40,
    CRASH_VARS = 2048
};

enum crash_kind {
    CRASH_POINT, // a crash may come here
    CRASH_BYTES, // a sector has a new version
    CRASH_SIZE,
    CRASH_SYNC,
    CRASH_MAKE, // a file or directory came to be
    CRASH_LINK, // entry `name` of a directory is `target` from now on
    CRASH_UNLINK,
    CRASH_RENAME // entry `from` of a directory became `name`
};

struct crash_event {
    enum crash_kind kind;
    int file, target;
    bool is_dir, torn;
    uint32_t sector;
    int64_t size;
    uint64_t hash;             // of bytes
    struct crash_event *older; // the sector's version before; NULL: zeros. Set by the model
    uint8_t *bytes;            // CRASH_SECTOR
    char name[CRASH_NAME], from[CRASH_NAME];
};

struct crash_trace { // Owns: its events
    struct crash_event **event;
    size_t count, room;
};

void crash_trace_clear(struct crash_trace *t);

// ---- what may be on the disk

struct crash_entry {
    char name[CRASH_NAME];
    int file;
};

struct crash_sector {
    struct crash_event *newest; // NULL: zeros
    uint32_t count;             // versions since the last sync, the one it found included
    uint32_t pick;              // 0: the newest
};

struct crash_node {
    bool is_dir;
    char name[CRASH_NAME]; // the last one, for messages
    int64_t sizes[CRASH_SIZES];
    int size_count, size_pick;
    uint32_t sectors; // that were ever written
    struct crash_sector sector[CRASH_SECTORS];
    struct crash_entry entry[CRASH_ENTRIES]; // durable
    int entries;
    struct crash_event *pending[CRASH_PENDING]; // of a directory, since its last sync
    bool dropped[CRASH_PENDING];
    int pendings;
};

struct crash_model { // large: not on the stack. Borrows the events of the traces it followed.
    struct crash_node node[CRASH_FILES];
    int nodes;                            // node 0 is the root
    struct crash_event *cut[CRASH_FILES]; // Owns: last sectors that a settling made shorter
    int cuts;
};

// struct crash_var is one thing that is not certain at a point.
enum crash_what { CRASH_VAR_SECTOR, CRASH_VAR_SIZE, CRASH_VAR_NAME };
struct crash_var {
    enum crash_what what;
    int file;
    uint32_t index, choices; // choices: pick 0 is the newest, choices - 1 the oldest
};

void crash_model_init(struct crash_model *m);
void crash_model_copy(struct crash_model *to, const struct crash_model *from);
void crash_model_follow(struct crash_model *m, struct crash_event *e);
// crash_model_vars lists what is not certain now, files of no name left out, and picks the newest.
size_t crash_model_vars(struct crash_model *m, struct crash_var vars[CRASH_VARS]);
void crash_model_pick(struct crash_model *m, const struct crash_var *var, uint32_t pick);
// crash_model_torn tells whether a version is one of those between two notes.
bool crash_model_torn(const struct crash_model *m, const struct crash_var *var, uint32_t pick);
// crash_model_hash is of the names, lengths and bytes that were picked.
uint64_t crash_model_hash(const struct crash_model *m);
// crash_model_settle makes what was picked the only thing: the power was off. Copies of m must not
// be used after crash_model_free(m), which frees what the settling made.
void crash_model_settle(struct crash_model *m);
void crash_model_free(struct crash_model *m);
// crash_model_say describes a variable: "slots, sector 3, version 1 of 2".
void crash_model_say(const struct crash_model *m, const struct crash_var *var, uint32_t pick,
                     char out[160]);

// ---- the table of system calls

struct crash_file {
    bool made, is_dir;
    int memfd;          // kept for the next use of the place
    int64_t memfd_size; // its length: `size`, or that of an earlier use
    uint8_t *bytes;     // of the memfd
    uint8_t *view;      // the same for reading only; NULL if each mapping is made
    uint8_t *shadow;    // as noted last; only while recording
    int64_t size, shadow_size;
    int writable_maps, locked_by; // locked_by: a descriptor + 1
    struct crash_entry entry[CRASH_ENTRIES];
    int entries;
};

struct crash_os {
    struct lt_os os; // first; give this to lt_store_open
    bool recording, torn;
    struct crash_trace trace;
    bool changed;          // since the last point
    long calls, calls_max; // calls_max: more are a hang, and abort; 0: no bound
    struct crash_file file[CRASH_FILES];
    int files;
    int fd[CRASH_FDS]; // file + 1; 0: free
    struct {
        void *at;
        size_t size;
        int file; // -1: anonymous
        bool writable;
    } map[CRASH_MAPS];
};

// crash_os_init makes c an empty root directory. c is large: not on the stack.
void crash_os_init(struct crash_os *c);
void crash_os_fini(struct crash_os *c);
// crash_os_load makes the files what the model picked, and begins a new trace if it is to record.
// No descriptor or mapping may be out.
void crash_os_load(struct crash_os *c, const struct crash_model *m, bool record);
// crash_os_point notes what has changed and that a crash may come here, whatever has changed.
void crash_os_point(struct crash_os *c);
// crash_os_hash is of the names, lengths and bytes as they are; as crash_model_hash of the newest.
uint64_t crash_os_hash(const struct crash_os *c);
// crash_os_idle tells whether every descriptor, mapping and lock was given back.
bool crash_os_idle(const struct crash_os *c);

#endif
