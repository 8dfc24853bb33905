/* SPDX-License-Identifier: MIT */
// leases: a queue in memory with messages in flight, which are settled in the order in which they
// were received.
#ifndef LEAT_BENCH_LEASES_H
#define LEAT_BENCH_LEASES_H

#include "payload.h"

#include <stdlib.h>
#include <string.h>

struct leases {
    leat *mq;
    leat_queue *q;
    leat_message *ring; // those in flight: settled .. received-1, modulo slots
    size_t slots;
    uint64_t sent, received, settled;
    struct tally seen;
    unsigned char value[VALUE];
};

static inline void leases_open(struct leases *l, size_t slots) {
    *l = (struct leases){ .slots = slots, .ring = malloc(slots * sizeof *l->ring) };
    need(l->ring != NULL, "malloc");
    memset(l->ring, 1, slots * sizeof *l->ring); // its pages are no cost of a receive
    payload_init(l->value, VALUE);
    leat_queue_options o = { .acks = LEAT_ACKS_LOG,
                             .in_flight_max = (int64_t)slots,
                             .visibility_timeout_ms = 3600 * 1000 };
    must(leat_open_memory(&(leat_options){ .memory_max_bytes = LEAT_UNLIMITED }, &l->mq),
         "leat_open_memory");
    must(leat_queue_open(l->mq, "q", &o, &l->q), "leat_queue_open");
}

static inline void leases_send(struct leases *l, size_t n) {
    leat_record r = { .value = { l->value, VALUE } };
    for (; n > 0; n--) {
        payload_number(l->value, VALUE, l->sent++);
        must(leat_queue_send(l->q, &r, NULL), "leat_queue_send");
    }
}

// One call of receive. Returns  how many it was.
static inline size_t leases_receive(struct leases *l, size_t max) {
    leat_message *m = &l->ring[l->received % l->slots];
    size_t room = l->slots - l->received % l->slots;
    int got = leat_queue_receive(l->q, 0, m, max < room ? max : room);
    must(got, "leat_queue_receive");
    if (got == 0)
        fail("no message, but %llu were sent and %llu received", (unsigned long long)l->sent,
             (unsigned long long)l->received);
    for (int i = 0; i < got; i++)
        tally_add(&l->seen, m[i].value.data, m[i].value.size);
    l->received += (uint64_t)got;
    return (size_t)got;
}

// The oldest in flight is done.
static inline void leases_settle(struct leases *l) {
    must(leat_queue_ack(l->q, &l->ring[l->settled % l->slots]), "leat_queue_ack");
    l->settled++;
}

// Ends the run unless q is empty, and n messages are done.
static inline void queue_check(leat_queue *q, uint64_t n) {
    leat_queue_stats s;
    must(leat_queue_get_stats(q, &s, sizeof s), "leat_queue_get_stats");
    if (s.available + s.delayed + s.leased + s.moving + s.kept != 0 || s.done != n)
        fail("%llu of %llu messages are done", (unsigned long long)s.done, (unsigned long long)n);
}

// Settles the rest, and checks that all that was sent was received.
static inline void leases_close(struct leases *l) {
    while (l->settled < l->received)
        leases_settle(l);
    tally_check(&l->seen, VALUE, l->sent, 1);
    queue_check(l->q, l->sent);
    must(leat_close_all(l->mq, 0), "leat_close_all");
    free(l->ring);
}

#endif
