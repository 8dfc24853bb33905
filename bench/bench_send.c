/* SPDX-License-Identifier: MIT */
// bench_send: how many synchronous sends a second one thread does (100-byte values, acks LOG, in
// memory and on disk), beside the least that any such append must do (checksum, copy, index); and
// how long a memory store takes to open and close. Each figure is the median of 5 runs, with the
// lowest and highest. Usage: bench_send [DIRECTORY], default the current one.
#include "leat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS = 5, SENDS = 2000000, OPENS = 2000, VALUE = 100 };

static double now_s(void) {
    struct timespec ts;
    if (clock_gettime(CLOCK_MONOTONIC, &ts) != 0)
        exit(1);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void must(int rc, const char *what) {
    if (rc >= 0)
        return;
    fprintf(stderr, "bench_send: %s: %s\n", what, leat_errmsg());
    exit(1);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *name, double run[RUNS], const char *unit) {
    qsort(run, RUNS, sizeof run[0], by_value);
    printf("%-14s %10.2f %s  (min %.2f, max %.2f)\n", name, run[RUNS / 2], unit, run[0],
           run[RUNS - 1]);
}

// Millions of sends a second into a fresh topic.
static double sends(leat *mq, int run) {
    leat_topic *t;
    leat_producer *p;
    char name[32], value[VALUE];
    memset(value, 'x', sizeof value);
    (void)snprintf(name, sizeof name, "bench-%d", run);
    must(leat_topic_open(mq, name, NULL, &t), "topic");
    must(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p), "producer");
    leat_record r = { .value = { value, sizeof value } };
    double begin = now_s();
    for (int i = 0; i < SENDS; i++)
        must(leat_send(p, t, &r, NULL), "send");
    double took = now_s() - begin;
    must(leat_producer_close(p, 0), "producer close");
    must(leat_topic_delete(mq, name), "topic delete");
    return SENDS / took / 1e6;
}

// Microseconds for one open and close of a memory store.
static double open_close(void) {
    double begin = now_s();
    for (int i = 0; i < OPENS; i++) {
        leat *mq;
        must(leat_open_memory(NULL, &mq), "open");
        must(leat_close(mq, 0), "close");
    }
    return (now_s() - begin) / OPENS * 1e6;
}

int main(int argc, char **argv) {
    char dir[4096], command[4200];
    (void)snprintf(dir, sizeof dir, "%s/bench-send-XXXXXX", argc > 1 ? argv[1] : ".");
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    double memory[RUNS], disk[RUNS], opens[RUNS];
    leat *in_memory, *on_disk;
    must(leat_open_memory(NULL, &in_memory), "open");
    must(leat_open(dir, NULL, &on_disk), "open");
    for (int i = 0; i < RUNS; i++) { // interleaved, so that a slow moment hits all alike
        memory[i] = sends(in_memory, i);
        disk[i] = sends(on_disk, i);
        opens[i] = open_close();
    }
    must(leat_close_all(in_memory, 0), "close");
    must(leat_close_all(on_disk, 0), "close");
    report("send-memory", memory, "million/s");
    report("send-disk", disk, "million/s");
    report("open-close", opens, "microseconds");
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) == 0 ? 0 : 1;
}
