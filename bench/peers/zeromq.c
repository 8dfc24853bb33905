/* SPDX-License-Identifier: MIT */
// zeromq: sockets of one context, inproc, in which no thread of its own takes part; zmq_send and
// zmq_recv copy. The high-water marks are raised from 1,000 to 10,000 messages a side.
#include "flow.h"
#include "peers.h"

#include <zmq.h>

enum { HIGH_WATER = 10000 };

struct zmq_way {
    void *context, *in, *out;
    unsigned char frame[64 + VALUE]; // of publish: the channel, a NUL, the value
    size_t before;                   // bytes before the value
};

static void zmq_need(bool ok, const char *what) {
    if (!ok)
        fail("%s: %s", what, zmq_strerror(zmq_errno()));
}

static void *zmq_make(struct zmq_way *w, int type) {
    int high = HIGH_WATER;
    void *s = zmq_socket(w->context, type);
    zmq_need(s != NULL, "zmq_socket");
    zmq_need(zmq_setsockopt(s, ZMQ_SNDHWM, &high, sizeof high) == 0, "ZMQ_SNDHWM");
    zmq_need(zmq_setsockopt(s, ZMQ_RCVHWM, &high, sizeof high) == 0, "ZMQ_RCVHWM");
    return s;
}

static void zmq_way_open(struct zmq_way *w, int in, int out) {
    memset(w, 0, sizeof *w);
    w->context = zmq_ctx_new();
    zmq_need(w->context != NULL, "zmq_ctx_new");
    w->in = zmq_make(w, in);
    w->out = zmq_make(w, out);
    zmq_need(zmq_bind(w->in, "inproc://bench") == 0, "zmq_bind");
    zmq_need(zmq_connect(w->out, "inproc://bench") == 0, "zmq_connect");
}

static void zmq_way_close(struct zmq_way *w) {
    zmq_need(zmq_close(w->in) == 0 && zmq_close(w->out) == 0, "zmq_close");
    zmq_need(zmq_ctx_term(w->context) == 0, "zmq_ctx_term");
}

static void zmq_put(void *arg, const unsigned char *value) {
    struct zmq_way *w = arg;
    memcpy(w->frame + w->before, value, VALUE);
    zmq_need(zmq_send(w->in, w->frame, w->before + VALUE, 0) >= 0, "zmq_send");
}

static size_t zmq_take(void *arg, struct tally *seen) {
    struct zmq_way *w = arg;
    unsigned char frame[sizeof w->frame];
    int n = zmq_recv(w->out, frame, sizeof frame, 0);
    zmq_need(n >= 0, "zmq_recv");
    if ((size_t)n != w->before + VALUE)
        fail("a message of %d bytes instead of %zu", n, w->before + VALUE);
    tally_add(seen, frame + w->before, VALUE);
    return 1;
}

static void *zmq_produce(void *arg) {
    return flow_produce(arg, zmq_put);
}

void zeromq_stream(struct run *r) {
    struct zmq_way w;
    zmq_way_open(&w, ZMQ_PUSH, ZMQ_PULL);
    flow_run(r, &w, zmq_produce, zmq_take);
    zmq_way_close(&w);
}

// The channel is the front of the one frame, which is what a SUB socket filters by, and cheaper
// than a frame of its own. XPUB is PUB which tells who subscribes; with NODROP it waits for a slow
// subscriber instead of dropping messages.
void zeromq_publish(struct run *r) {
    static const char channel[] = CHANNEL;
    struct zmq_way w;
    unsigned char joined[sizeof channel + 1];
    zmq_way_open(&w, ZMQ_XPUB, ZMQ_SUB);
    memcpy(w.frame, channel, sizeof channel);
    w.before = sizeof channel;
    zmq_need(zmq_setsockopt(w.in, ZMQ_XPUB_NODROP, &(int){ 1 }, sizeof(int)) == 0,
             "ZMQ_XPUB_NODROP");
    zmq_need(zmq_setsockopt(w.out, ZMQ_SUBSCRIBE, channel, sizeof channel) == 0, "ZMQ_SUBSCRIBE");
    zmq_need(zmq_recv(w.in, joined, sizeof joined, 0) == sizeof joined, "zmq_recv");
    flow_run(r, &w, zmq_produce, zmq_take);
    zmq_way_close(&w);
}
