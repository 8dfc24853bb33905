/* SPDX-License-Identifier: MIT */
// peers: what users would pick instead, one file each in peers/. A function whose peer is not in
// the build, because its package was not there, is NULL: the bench says so.
#ifndef LEAT_BENCH_PEERS_H
#define LEAT_BENCH_PEERS_H

#include "harness.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PEER(name) __attribute__((weak)) void name(struct run *r)

// One producer thread, one consumer thread.
PEER(ring_mutex_stream); // a textbook ring: mutex and two condition variables
PEER(ring_spsc_stream);  // no lock, each side waits by yielding: the limit
PEER(moodycamel_stream);
PEER(moodycamel_bulk_stream);
PEER(glib_stream);
PEER(zeromq_stream); // PUSH and PULL, inproc
PEER(nng_stream);    // PUSH and PULL, inproc

#ifdef __cplusplus
}
#endif
#endif
