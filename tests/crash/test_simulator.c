/* SPDX-License-Identifier: MIT */
// The crash simulator. Small workloads run over files in memory (lib/crash_os.h). For each moment
// at which a crash may come the states that it can leave are made, each is opened, held to what
// the callers were told by then, written to, closed, opened and held to it again:
//
//   kill -9    what a call returned is there, exactly: records, commits, acks, delivery counts
//   power cut  what was acknowledged on DISK is there, each partition is a prefix of what was
//              sent; the rest may be lost, but nothing is wrong: no hole, no phantom, no number
//              that names two records, no dead letter that is nowhere
//
// Crashes inside the recovery of a state, and of the first sends after it, are tried for some.
// Prints crash_states=N failures=N; a failure says how to come back to it.
//
// test_simulator [NAME | K/N]: only that workload, or one of N shares of them and of the states.
// LEAT_CRASH_STATES: how many different contents of the disk are looked at, at the least.
#include "lib/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS = 128, STATES = 200000 };

static double now(void) {
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void go_once(struct sim_run *r, uint64_t round, unsigned point_in) {
    struct sim_totals was = sim_totals;
    struct sim_tour t = {
        .r = r, .round = round, .chances = 4, .one_in = 4, .second_each = 64, .point_in = point_in
    };
    sim_go_through(&t);
    (void)printf("%-16s %s round %llu: %zu events, %ld states, %ld failures\n", r->w->name,
                 r->write == LEAT_WRITE_PWRITE ? "pwrite" : "mapped", (unsigned long long)round,
                 r->trace.count, sim_totals.states - was.states,
                 sim_totals.failures - was.failures);
    (void)fflush(stdout);
}

// Whether the argument names the workload: by its name, or as one of N shares, "1/2".
static bool is_asked(const char *argument, int number, const struct sim_workload *w) {
    int share, of;
    if (sscanf(argument, "%d/%d", &share, &of) == 2)
        return of > 0 && number % of == share - 1;
    return strcmp(argument, w->name) == 0;
}

int main(int argc, char **argv) {
    static struct sim_run runs[RUNS];
    const char *text = getenv("LEAT_CRASH_STATES");
    long target = text ? atol(text) : STATES;
    int share, of, count = 0;
    // With few to look at, not all of them at the first points.
    unsigned point_in = target > 0 && target < STATES ? (unsigned)((STATES + target) / target) : 1;
    if (argc > 1 && sscanf(argv[1], "%d/%d", &share, &of) == 2 && of > 0)
        target /= of;
    const struct sim_workload *w;
    for (int i = 0; (w = sim_workload(i)); i++) {
        if (argc > 1 && !is_asked(argv[1], i, w))
            continue;
        for (int32_t write = LEAT_WRITE_MAPPED; write <= LEAT_WRITE_PWRITE; write++, count++) {
            if (count == RUNS)
                sim_broken("too many workloads", 0);
            runs[count].number = count;
            sim_carry_out(w, write, &runs[count]);
        }
    }
    sim_states_init();
    double begin = now();
    long before = -1;
    for (uint64_t round = 0; sim_totals.contents < target; round++) {
        if (round % point_in == 0 && sim_totals.states == before)
            break; // there are no more
        before = round % point_in == 0 ? sim_totals.states : before;
        for (int i = 0; i < count; i++)
            go_once(&runs[i], round, point_in);
    }
    double took = now() - begin;
    sim_print_failures();
    (void)printf("%ld contents, %ld points of a second crash, %.1f s, %.0f a second\n",
                 sim_totals.contents, sim_totals.second_points, took,
                 (double)sim_totals.states / took);
    (void)printf("crash_states=%ld failures=%ld\n", sim_totals.states, sim_totals.failures);
    for (int i = 0; i < count; i++)
        crash_trace_clear(&runs[i].trace);
    sim_states_fini();
    return sim_totals.failures == 0 && sim_totals.states > 0 ? 0 : 1;
}
