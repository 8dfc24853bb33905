/* SPDX-License-Identifier: MIT */
// nng: a push and a pull socket, inproc, with nng_send and nng_recv into a buffer of the caller's;
// the sender's buffer is raised to 1,024 messages (it comes with none).
#include "flow.h"
#include "peers.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>

enum { BUFFERED = 1024 };

struct nng_way {
    nng_socket push, pull;
};

static void nng_must(int rc, const char *what) {
    if (rc != 0)
        fail("%s: %s", what, nng_strerror(rc));
}

static void nng_put(void *arg, const unsigned char *value) {
    struct nng_way *w = arg;
    unsigned char copy[VALUE]; // what nng_send takes is not const
    memcpy(copy, value, VALUE);
    nng_must(nng_send(w->push, copy, VALUE, 0), "nng_send");
}

static size_t nng_take(void *arg, struct tally *seen) {
    struct nng_way *w = arg;
    unsigned char value[VALUE];
    size_t size = sizeof value;
    nng_must(nng_recv(w->pull, value, &size, 0), "nng_recv");
    tally_add(seen, value, size);
    return 1;
}

static void *nng_produce(void *arg) {
    return flow_produce(arg, nng_put);
}

// A hundredth of the work: it is that much slower. A buffer at the receiver makes it slower still.
void nng_push_stream(struct run *r) {
    struct nng_way w;
    r->work = (r->work + 99) / 100;
    nng_must(nng_push0_open(&w.push), "nng_push0_open");
    nng_must(nng_pull0_open(&w.pull), "nng_pull0_open");
    nng_must(nng_socket_set_int(w.push, NNG_OPT_SENDBUF, BUFFERED), "NNG_OPT_SENDBUF");
    nng_must(nng_listen(w.pull, "inproc://bench", NULL, 0), "nng_listen");
    nng_must(nng_dial(w.push, "inproc://bench", NULL, 0), "nng_dial");
    flow_run(r, &w, nng_produce, nng_take);
    nng_must(nng_close(w.push), "nng_close");
    nng_must(nng_close(w.pull), "nng_close");
}
