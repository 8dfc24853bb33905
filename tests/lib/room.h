/* SPDX-License-Identifier: MIT */
// room: what tests of the queue room share, beside lib/jobs.h: a disk with a clock, a second queue,
// and whether its invariants hold.
#ifndef LEAT_TESTS_LIB_ROOM_H
#define LEAT_TESTS_LIB_ROOM_H

#include "base/core.h" // the names of jobs.h would shadow some of these
#include "log/log.h"
#include "queue/room.h"
#include "store/store.h"

#include "lib/jobs.h"

static leat_queue *other __attribute__((unused));

static inline void open_disk(const char *where, int32_t write, int64_t start_ms) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL,
                       .seed = 7,
                       .acks = LEAT_ACKS_LOG,
                       .write = write,
                       .start_ms = start_ms };
    ok(leat_open(where, &o, &mq));
}

static inline void send_n(leat_queue *to, int count, size_t size) {
    static char bytes[4096];
    for (int i = 0; i < count; i++)
        ok(leat_queue_send(to, &(leat_record){ .value = { bytes, size } }, NULL));
}

static inline void holds(leat_queue *of) {
    lt_lock(of->lock);
    bool sound = lt_leases_check(&of->leases);
    for (int32_t i = 0; i < of->topic->partitions; i++)
        sound = sound && lt_window_check(&lt_queue_part(of, i)->window);
    lt_unlock(of->lock);
    cr_assert(sound, "an invariant of %s is broken", of->name);
}

static inline void ack_all(leat_queue *of) {
    while (leat_queue_receive(of, 0, &n, 1) == 1)
        ok(leat_queue_ack(of, &n));
}

#endif
