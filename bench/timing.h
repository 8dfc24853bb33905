/* SPDX-License-Identifier: MIT */
// timing: what the timing programs share: the clock, an end to a failed call, and a figure as the
// median of RUNS runs with the lowest and highest.
#ifndef LEAT_BENCH_TIMING_H
#define LEAT_BENCH_TIMING_H

#include "leat.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { RUNS = 5 };

static inline double now_s(void) {
    struct timespec ts;
    if (clock_gettime(CLOCK_MONOTONIC, &ts) != 0)
        exit(1);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

static inline void must(int rc, const char *what) {
    if (rc >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, leat_errmsg());
    exit(1);
}

static inline int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Returns  the median.
static inline double report(const char *name, double run[RUNS], const char *unit) {
    qsort(run, RUNS, sizeof run[0], by_value);
    printf("%-22s %10.3f %s  (min %.3f, max %.3f)\n", name, run[RUNS / 2], unit, run[0],
           run[RUNS - 1]);
    return run[RUNS / 2];
}

// Makes a directory of its own below `below`; remove_root takes it away.
static inline void make_root(char root[4096], const char *below) {
    (void)snprintf(root, 4096, "%s/bench-XXXXXX", below);
    if (!mkdtemp(root))
        die(root);
}

static inline void remove_root(const char *root) {
    char command[4200];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", root);
    if (system(command) != 0)
        exit(1);
}

#endif
