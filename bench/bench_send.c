/* SPDX-License-Identifier: MIT */
// bench_send: how many synchronous sends a second one thread does (100-byte values, acks LOG, in
// memory and on disk), beside the least that any such append must do (checksum, copy, index); and
// how long a memory store takes to open and close. Each figure is the median of 5 runs, with the
// lowest and highest. Usage: bench_send [DIRECTORY], default the current one.
#include "timing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SENDS = 2000000, OPENS = 2000, VALUE = 100 };

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
    char root[4096], dir[4200];
    make_root(root, argc > 1 ? argv[1] : ".");
    (void)snprintf(dir, sizeof dir, "%s/store", root);
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
    (void)report("send-memory", memory, "million/s");
    (void)report("send-disk", disk, "million/s");
    (void)report("open-close", opens, "microseconds");
    remove_root(root);
    return 0;
}
