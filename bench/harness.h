/* SPDX-License-Identifier: MIT */
// harness: runs what leat does beside what others do, and tells the figures.
//
// A program of this folder is a table of benches. A bench is one name with its contenders; each has
// one function, which does one run: prepare, work against the clock, check what was moved, tell the
// figures. Every run has a process of its own, so that none inherits another's heap, threads or
// page tables, and a peer that crashes or hangs is a line that says so. Runs are interleaved, so
// that a slow moment hits all alike; the median of the runs counts, with the lowest and highest.
//
// The contender called "leat" is what it is about: when it fails the program ends with 1.
#ifndef LEAT_BENCH_HARNESS_H
#define LEAT_BENCH_HARNESS_H

#include "leat.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FIGURES = 16, CONTENDERS = 10 };

struct run {
    const char *dir;        // an empty directory of this run, on the file system asked for
    size_t work;            // how many operations
    double figure[FIGURES]; // the result: one for each line of the bench; NAN, as it begins: none
};
// A defect put in on purpose: what leat's receivers tally leaves out message 0, or bends it. The
// run must fail. Set before a run starts, never in a peer's.
enum plant { PLANT_NONE, PLANT_LOST, PLANT_TORN };
extern enum plant planted;

typedef void run_fn(struct run *r);

struct contender {
    const char *name; // "leat", "limit", or a peer's
    run_fn *run;      // NULL: its package was not there when this was built
};

struct line {
    const char *suffix; // behind the name of the bench; "" for the first
    const char *unit;   // "op/s", "us", "bytes", "ratio"
    const char *better; // "higher", "lower"
};

struct bench {
    const char *name, *about; // about: one line of what is measured
    size_t work, quick;       // operations in a run; with --quick
    size_t memory;            // bytes that an operation leaves behind, about; see warm_memory
    struct line line[FIGURES];
    struct contender who[CONTENDERS]; // ends with a name NULL; leat is the first
};

// What a program's main returns: 0, 1 if leat failed, 2 if the command was not understood. --list
// tells the names and ends; NAME... chooses; --quick, --json, --runs N, --dir DIRECTORY; --only WHO
// leaves the other contenders out, --work N is how many operations, --keep FILE appends the lines
// of --json to it, too. --plant lost|torn tries the check: see planted.
int bench_main(int argc, char **argv, const struct bench *table, size_t n);

// Inside a run: says why it failed (printf) and ends the run; else on stderr, and ends the process.
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *why, ...);
// Ends the run if rc is an error of leat.
void must(int rc, const char *what);
// Ends the run, naming errno, if what failed is not ok.
void need(bool ok, const char *what);

double now_s(void); // monotonic
uint64_t now_ns(void);

// Starts work(arg) on another thread, which pthread_join ends.
pthread_t start(void *(*work)(void *), void *arg);

// Starts a server (argv[0] from PATH), which dies with this run at the latest, and returns its
// process when something accepts on the unix socket at `path`. server_stop ends it.
int server_start(const char *path, char *const argv[]);
void server_stop(int pid);
int unix_connect(const char *path); // a descriptor, or -1

#ifdef __cplusplus
}
#endif
#endif
