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
PEER(zeromq_stream);   // PUSH and PULL, inproc
PEER(nng_push_stream); // PUSH and PULL, inproc

// One publisher thread, one subscriber thread.
PEER(zeromq_publish); // PUB and SUB, inproc
PEER(redis_publish);  // PUBLISH, pipelined

PEER(rdkafka_open_close); // a producer with its mock cluster, up and down
PEER(rdkafka_send);       // to its mock cluster, acks=1, with delivery reports

// Appends by one thread.
PEER(bare_memory_append); // the limits: checksum, copy, index
PEER(bare_disk_append);
PEER(bare_1k_append);
PEER(bare_topics); // 1 to 10^4 logs in turn
PEER(sqlite_memory_append);
PEER(sqlite_wal_append); // synchronous=NORMAL
PEER(redis_append);      // streams, pipelined

// Appends that wait for the disk: one thread, 16, one with 100 records at a time.
PEER(bare_durable_1); // store and fdatasync
PEER(bare_durable_16);
PEER(bare_durable_100);
PEER(sqlite_full_durable_1); // WAL, synchronous=FULL
PEER(sqlite_full_durable_16);
PEER(sqlite_full_durable_100);

// A queue, one thread, one message at a time: send, receive, ack.
PEER(bare_queue); // the limit: checksum, copy, index, two words
PEER(sqlite_memory_queue);
PEER(sqlite_wal_queue);
PEER(beanstalkd_queue);
PEER(redis_queue); // lists

// Bytes in the file beyond the value.
PEER(sqlite_bytes);

#ifdef __cplusplus
}
#endif
#endif
