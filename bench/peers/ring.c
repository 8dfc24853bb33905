/* SPDX-License-Identifier: MIT */
// ring: bounded queues of 4,096 slots between two threads, as one writes them by hand.
#include "payload.h"
#include "peers.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SLOTS = 4096 };

struct ring {
    size_t work;
    pthread_mutex_t lock; // of head and tail, in the ring with a mutex
    pthread_cond_t filled, freed;
    uint64_t head, tail;
    _Alignas(64) _Atomic uint64_t written; // in the ring without: slots below it are filled
    _Alignas(64) _Atomic uint64_t read;    // slots below it are free again
    _Alignas(64) unsigned char slot[SLOTS][VALUE];
};

static struct ring *ring_make(size_t work) {
    struct ring *ring = aligned_alloc(64, sizeof *ring + 64 - sizeof *ring % 64);
    need(ring != NULL, "malloc");
    memset(ring, 0, sizeof *ring);
    ring->work = work;
    need(pthread_mutex_init(&ring->lock, NULL) == 0, "pthread_mutex_init");
    need(pthread_cond_init(&ring->filled, NULL) == 0, "pthread_cond_init");
    need(pthread_cond_init(&ring->freed, NULL) == 0, "pthread_cond_init");
    return ring;
}

static void *mutex_producer(void *arg) {
    struct ring *ring = arg;
    unsigned char value[VALUE];
    payload_init(value, sizeof value);
    for (size_t i = 0; i < ring->work; i++) {
        payload_number(value, sizeof value, i);
        (void)pthread_mutex_lock(&ring->lock);
        while (ring->tail - ring->head == SLOTS)
            (void)pthread_cond_wait(&ring->freed, &ring->lock);
        memcpy(ring->slot[ring->tail++ % SLOTS], value, sizeof value);
        (void)pthread_cond_signal(&ring->filled);
        (void)pthread_mutex_unlock(&ring->lock);
    }
    return NULL;
}

void ring_mutex_stream(struct run *r) {
    struct ring *ring = ring_make(r->work);
    struct tally seen = { 0 };
    unsigned char value[VALUE];
    double begin = now_s();
    pthread_t producer = start(mutex_producer, ring);
    for (size_t i = 0; i < r->work; i++) {
        (void)pthread_mutex_lock(&ring->lock);
        while (ring->tail == ring->head)
            (void)pthread_cond_wait(&ring->filled, &ring->lock);
        memcpy(value, ring->slot[ring->head++ % SLOTS], sizeof value);
        (void)pthread_cond_signal(&ring->freed);
        (void)pthread_mutex_unlock(&ring->lock);
        tally_add(&seen, value, sizeof value);
    }
    r->figure[0] = (double)r->work / (now_s() - begin);
    (void)pthread_join(producer, NULL);
    tally_check(&seen, VALUE, r->work, 1);
}

static void *spsc_producer(void *arg) {
    struct ring *ring = arg;
    unsigned char value[VALUE];
    uint64_t read = 0; // what is known of the other side
    payload_init(value, sizeof value);
    for (uint64_t i = 0; i < ring->work; i++) {
        payload_number(value, sizeof value, i);
        while (i - read == SLOTS) {
            read = atomic_load_explicit(&ring->read, memory_order_acquire);
            if (i - read == SLOTS)
                (void)sched_yield();
        }
        memcpy(ring->slot[i % SLOTS], value, sizeof value);
        atomic_store_explicit(&ring->written, i + 1, memory_order_release);
    }
    return NULL;
}

void ring_spsc_stream(struct run *r) {
    struct ring *ring = ring_make(r->work);
    struct tally seen = { 0 };
    uint64_t written = 0;
    double begin = now_s();
    pthread_t producer = start(spsc_producer, ring);
    for (uint64_t i = 0; i < r->work; i++) {
        while (i == written) {
            written = atomic_load_explicit(&ring->written, memory_order_acquire);
            if (i == written)
                (void)sched_yield();
        }
        tally_add(&seen, ring->slot[i % SLOTS], VALUE);
        atomic_store_explicit(&ring->read, i + 1, memory_order_release);
    }
    r->figure[0] = (double)r->work / (now_s() - begin);
    (void)pthread_join(producer, NULL);
    tally_check(&seen, VALUE, r->work, 1);
}
