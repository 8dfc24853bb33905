/* SPDX-License-Identifier: MIT */
// moodycamel: the lock-free queue moodycamel::ConcurrentQueue, made for 4,096 values and
// never growing (growing, it is slower), with a producer's and a consumer's token; who finds it
// full or empty yields. Values are 100-byte structs, copied in and out.
#include "flow.h"
#include "peers.h"

#include <concurrentqueue/concurrentqueue.h>
#include <sched.h>

namespace {

enum { BULK = 64, SLOTS = 4096 };

struct value {
    unsigned char byte[VALUE];
};
using queue = moodycamel::ConcurrentQueue<value>;

struct way {
    queue q;
    moodycamel::ProducerToken in;
    moodycamel::ConsumerToken out;
    size_t left;    // of the bulk producer: not yet put
    size_t pending; // of these, in bulk
    value bulk[BULK];
    explicit way(size_t work) : q(SLOTS, 1, 0), in(q), out(q), left(work), pending(0) {}
};

void put_one(void *arg, const unsigned char *bytes) {
    way *w = static_cast<way *>(arg);
    value v;
    memcpy(v.byte, bytes, VALUE);
    while (!w->q.try_enqueue(w->in, v))
        (void)sched_yield();
}

size_t take_one(void *arg, struct tally *seen) {
    way *w = static_cast<way *>(arg);
    value v;
    while (!w->q.try_dequeue(w->out, v))
        (void)sched_yield();
    tally_add(seen, v.byte, VALUE);
    return 1;
}

void put_bulk(void *arg, const unsigned char *bytes) {
    way *w = static_cast<way *>(arg);
    memcpy(w->bulk[w->pending++].byte, bytes, VALUE);
    w->left--;
    if (w->pending < BULK && w->left > 0)
        return;
    while (!w->q.try_enqueue_bulk(w->in, w->bulk, w->pending))
        (void)sched_yield();
    w->pending = 0;
}

size_t take_bulk(void *arg, struct tally *seen) {
    way *w = static_cast<way *>(arg);
    value v[BULK];
    size_t n;
    while ((n = w->q.try_dequeue_bulk(w->out, v, BULK)) == 0)
        (void)sched_yield();
    for (size_t i = 0; i < n; i++)
        tally_add(seen, v[i].byte, VALUE);
    return n;
}

void *produce(void *arg) {
    return flow_produce(arg, put_one);
}

void *produce_bulk(void *arg) {
    return flow_produce(arg, put_bulk);
}

} // namespace

void moodycamel_stream(struct run *r) {
    way w(r->work);
    flow_run(r, &w, produce, take_one);
}

void moodycamel_bulk_stream(struct run *r) {
    way w(r->work);
    flow_run(r, &w, produce_bulk, take_bulk);
}
