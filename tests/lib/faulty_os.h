/* SPDX-License-Identifier: MIT */
// faulty_os is a table of system calls that stands in front of the real one, counts what goes
// through it and makes the n-th call fail. It also keeps the books that a test of failures needs:
// which descriptors and mappings are out, whether one is used after it was given back, and whether
// a file whose sync has failed is ever synced again.
//
// What cannot fail in life does not fail here: both clocks and the user id. close and unmap do
// their work and then say that they failed, as the kernel does. Threads: any.
#ifndef LEAT_TESTS_LIB_FAULTY_OS_H
#define LEAT_TESTS_LIB_FAULTY_OS_H

#include "base/os.h"

#include <pthread.h>
#include <sys/types.h>

enum faulty_op {
    FAULTY_RANDOM,
    FAULTY_OPEN,
    FAULTY_CLOSE,
    FAULTY_PREAD,
    FAULTY_PWRITE,
    FAULTY_SYNC,
    FAULTY_TRUNCATE,
    FAULTY_ALLOCATE,
    FAULTY_MKDIR,
    FAULTY_UNLINK,
    FAULTY_RENAME,
    FAULTY_INFO,
    FAULTY_LIST,
    FAULTY_LOCK,
    FAULTY_IN_PLACE,
    FAULTY_MAP,
    FAULTY_UNMAP,
    FAULTY_OPS
};

#define FAULTY_BIT(op) (1u << (op))

enum faulty_how {
    FAULTY_ERROR, // nothing is done (but close and unmap), the call fails
    FAULTY_TORN,  // pwrite and allocate do half of it, and what follows fails; others as ERROR
    FAULTY_SHORT, // pread and pwrite do half of it and say so; others are left alone
    FAULTY_EINTR  // pread and pwrite are interrupted once; others are left alone
};

// struct faulty_plan says which call fails. All zero: none.
struct faulty_plan {
    long at;      // counted from 1 among the calls of `ops`
    bool sticky;  // and every one behind it
    unsigned ops; // FAULTY_BITs; 0: all of them
    enum faulty_how how;
    int error;        // a positive errno; 0: one that is natural for the call,
    unsigned variant; // of several
};

enum { FAULTY_FDS = 4096, FAULTY_MAPS = 8192, FAULTY_LOST = 64 };

struct faulty_fd {
    bool open, is_dir;
    dev_t dev;
    ino_t ino;
    char path[48]; // its end
};

struct faulty_map {
    void *at;
    size_t size;
};

struct faulty_os {
    struct lt_os os;      // first; give this to lt_store_open
    pthread_mutex_t lock; // guards all below
    struct faulty_plan plan;
    long calls;             // of plan.ops since faulty_os_plan
    long by_op[FAULTY_OPS]; // since faulty_os_init, failed ones too
    long faults;            // calls that were made to fail or to do less
    unsigned fault_ops;     // FAULTY_BITs of these
    int error[8], errors;   // the different errnos they failed with
    char fault[160];        // the first one, in words
    bool torn;              // the rest of a torn write is still to fail
    uint32_t user_offset;   // added to the user id: somebody else's directory
    // -- the books --
    struct faulty_fd fd[FAULTY_FDS];
    struct faulty_map map[FAULTY_MAPS];
    long fds, maps; // that are out
    long misuse;    // calls with a descriptor or mapping that is not out
    char misused[160];
    struct {
        dev_t dev;
        ino_t ino;
    } lost[FAULTY_LOST]; // files with a failed sync
    int lost_count;
    char lost_path[48]; // the last one
    long second_syncs;  // of such a file
    char second_sync[160];
};

// faulty_os_init makes f a table that fails nothing. f is large: not on the stack.
void faulty_os_init(struct faulty_os *f);
void faulty_os_fini(struct faulty_os *f);

// faulty_os_plan sets what is to fail from now on and counts from 1 again; NULL: nothing.
void faulty_os_plan(struct faulty_os *f, const struct faulty_plan *plan);

// faulty_os_reborn forgets failed syncs: the store that they belong to was closed.
void faulty_os_reborn(struct faulty_os *f);

const char *faulty_op_name(enum faulty_op op);

#endif
