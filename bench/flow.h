/* SPDX-License-Identifier: MIT */
// flow: the run of a peer which moves values from a producer thread to a consumer thread. The peer
// says how one value is put and taken; both are inlined, so that no call is counted twice. C++ sees
// this header, too.
#ifndef LEAT_BENCH_FLOW_H
#define LEAT_BENCH_FLOW_H

#include "payload.h"

#include <pthread.h>

struct flow {
    size_t work;
    void *way; // what values go through
};
typedef void flow_put(void *way, const unsigned char *value); // VALUE bytes
// Waits for one or more values. Returns  how many.
typedef size_t flow_take(void *way, struct tally *seen);

// The whole of a producer's thread, whose argument is a struct flow.
static inline void *flow_produce(void *arg, flow_put *put) {
    struct flow *f = (struct flow *)arg;
    unsigned char value[VALUE];
    payload_init(value, sizeof value);
    for (size_t i = 0; i < f->work; i++) {
        payload_number(value, sizeof value, i);
        put(f->way, value);
    }
    return NULL;
}

// The whole of a run: its first figure is values a second, from before the first put to after the
// last take.
static inline void flow_run(struct run *r, void *way, void *(*producer)(void *), flow_take *take) {
    struct flow f = { r->work, way };
    struct tally seen = { 0, 0, 0 };
    double begin = now_s();
    pthread_t thread = start(producer, &f);
    for (size_t got = 0; got < f.work;)
        got += take(way, &seen);
    r->figure[0] = (double)f.work / (now_s() - begin);
    (void)pthread_join(thread, NULL);
    tally_check(&seen, VALUE, f.work, 1);
}

#endif
