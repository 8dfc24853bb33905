/* SPDX-License-Identifier: MIT */
// ledger: what is known of each message of a stress of queues while threads receive and settle
// them, and the complaint where that cannot be.
//
// A message's mark says who was the last to get it, and until when nobody else may. Who gets one
// sets it, who settles it closes it. Leases may run out before their holder has come to set the
// mark: then he does not, and nothing is known of him.
#ifndef LEAT_TESTS_LIB_LEDGER_H
#define LEAT_TESTS_LIB_LEDGER_H

#include "leat.h"
#include "lib/complain.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SENDS = 4000 };
#else
enum { SENDS = 10000 }; // of a producer in a round
#endif

enum {
    PRODUCERS = 2,
    ROUNDS = 3, // ended by a shutdown, with leases out, and when all is done
    TRIES = 4,
    GROUPS = 50, // of each producer
    MESSAGES = PRODUCERS * ROUNDS * SENDS,
    LINE_MAX = 1 + MESSAGES / PRODUCERS,
    SUSPECTS = 1024
};

enum { ACK, NACK, LATER, BACKOFF, UNCOUNTED, REJECT, EXTEND, WAYS };

static struct message {
    _Atomic uint64_t mark;
    atomic_int received, uncounted; // deliveries; those that a nack took back
    atomic_int last;                // the highest count that a delivery had
    atomic_int ending;              // acks and rejects that are under way or done
    atomic_int acked, rejected, buried;
    atomic_long acked_at;       // look of the observer
    atomic_int partition, sent; // partition + 1; sent: it was told so
    int group, place;           // -1: none
    int64_t offset;
} message[MESSAGES];

static struct line {
    int number[LINE_MAX];
    atomic_int highest; // that was handed out
    int count;
} line[PRODUCERS * GROUPS];

struct holder { // of a receipt
    leat_message m;
    int number;
    uint64_t mark; // 0: the lease had run out before it could be marked
};

static atomic_bool over;
static atomic_int ended; // messages
static atomic_long looks, handed;
static atomic_llong marks;
static time_t epoch; // of now_ms
static sem_t enough; // posted when so many were handed out, and when all have ended
static long enough_at;
static atomic_long told[WAYS];
static struct {
    pthread_mutex_t lock;
    int before[SUSPECTS], number[SUSPECTS], count;
} suspect = { .lock = PTHREAD_MUTEX_INITIALIZER }; // handed out before the one before was over

// Monotonic; leat's own is over with the store. Rounded down, as what leases last from is.
static inline int64_t now_ms(void) {
    struct timespec ts = { 0 };
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)(ts.tv_sec - epoch) * 1000 + ts.tv_nsec / 1000000;
}

// ---- marks: until when, a number of its own, and whether it is closed

static inline uint64_t mark_make(int64_t until) {
    uint64_t number = (uint64_t)atomic_fetch_add(&marks, 1) + 1;
    return (uint64_t)until << 32 | (number & 0x7fffffff) << 1;
}

static inline int64_t mark_until(uint64_t mark) {
    return mark & 1 ? 0 : (int64_t)(mark >> 32);
}

// Sets the mark while nobody else can have got the message. Returns  false: too late.
static inline bool mark_set(struct holder *h, int64_t until) {
    struct message *x = &message[h->number];
    uint64_t mark = mark_make(until), old;
    do {
        old = atomic_load(&x->mark);
        if (now_ms() >= until)
            return false;
    } while (!atomic_compare_exchange_strong(&x->mark, &old, mark));
    if (now_ms() < mark_until(old))
        complain("message %d is handed out twice, by receipt %llx, before %lld", h->number,
                 (unsigned long long)h->m.receipt, (long long)mark_until(old));
    h->mark = mark;
    return true;
}

// ---- a message is handed out

static inline void raise_to(atomic_int *highest, int value) {
    int is = atomic_load(highest);
    while (is < value && !atomic_compare_exchange_weak(highest, &is, value))
        ;
}

// One of a group at a time, and in order.
static inline void check_line(const struct holder *h, int64_t until) {
    const struct message *x = &message[h->number];
    struct line *l = &line[x->group];
    int highest = atomic_load(&l->highest);
    if (now_ms() < until && highest > x->place)
        complain("group %d: message %d comes after a later one", x->group, h->number);
    raise_to(&l->highest, x->place);
    if (x->place == 0)
        return;
    int before = l->number[x->place - 1];
    if (atomic_load(&message[before].ending) > 0 || atomic_load(&message[before].last) == TRIES)
        return;
    pthread_mutex_lock(&suspect.lock); // it may be dead of a try that was not noted yet
    if (suspect.count < SUSPECTS) {
        suspect.before[suspect.count] = before;
        suspect.number[suspect.count++] = h->number;
    }
    pthread_mutex_unlock(&suspect.lock);
}

// Notes a delivery that was asked for at `asked`, for lease_ms.
static inline void take(struct holder *h, int64_t asked, int64_t lease_ms) {
    h->number = atoi(h->m.value.data);
    h->mark = 0;
    if (h->number < 0 || h->number >= MESSAGES) {
        complain("nobody sent '%s'", (const char *)h->m.value.data);
        return;
    }
    struct message *x = &message[h->number];
    int of = 0, part = h->m.partition + 1;
    bool is_over = atomic_load(&x->acked) || atomic_load(&x->buried);
    if (is_over && now_ms() < asked + lease_ms) // later, another one may have ended it
        complain("message %d comes back: acked %d buried %d", h->number, atomic_load(&x->acked),
                 atomic_load(&x->buried));
    if (!atomic_compare_exchange_strong(&x->partition, &of, part) && of != part)
        complain("message %d is in two partitions", h->number);
    if (h->m.deliveries < 1 || h->m.deliveries > TRIES)
        complain("message %d: delivery %d", h->number, h->m.deliveries);
    raise_to(&x->last, h->m.deliveries);
    atomic_fetch_add(&x->received, 1);
    if (mark_set(h, asked + lease_ms) && x->group >= 0)
        check_line(h, asked + lease_ms);
    if (atomic_fetch_add(&handed, 1) + 1 == enough_at)
        (void)sem_post(&enough);
}

// ---- and settled

// What must come of it: 0 while the lease is out, LEAT_ESTALE when another one has the message,
// either when it is not known whether somebody has.
static inline void settle_judge(const struct holder *h, const char *what, bool mine, int rc) {
    if (rc == LEAT_ECLOSED && atomic_load(&over))
        return;
    if (rc != 0 && rc != LEAT_ESTALE)
        complain("%s: %s", what, leat_errmsg());
    if (h->mark == 0)
        return;
    if (!mine && rc == 0)
        complain("%s of message %d by %llx: another one has it, and it is accepted", what,
                 h->number, (unsigned long long)h->m.receipt);
    if (mine && rc == LEAT_ESTALE && now_ms() < mark_until(h->mark))
        complain("%s of message %d by %llx: refused before its lease ran out", what, h->number,
                 (unsigned long long)h->m.receipt);
}

static inline void note_end(int number, atomic_int *how) {
    struct message *x = &message[number];
    if (atomic_fetch_add(how, 1) != 0 || atomic_load(&x->acked) + atomic_load(&x->buried) > 1)
        complain("message %d ended twice: acked %d buried %d", number, atomic_load(&x->acked),
                 atomic_load(&x->buried));
    if (how != &x->rejected && atomic_fetch_add(&ended, 1) + 1 == MESSAGES)
        (void)sem_post(&enough);
}

// What is known of the message before it is settled. Returns  whether nobody else has got it.
static inline bool settle_begin(const struct holder *h, int how) {
    struct message *x = &message[h->number];
    uint64_t mark = h->mark;
    if (how == ACK || how == REJECT)
        atomic_fetch_add(&x->ending, 1);
    return mark != 0 && atomic_compare_exchange_strong(&x->mark, &mark, mark | 1);
}

static inline void settle_end(const struct holder *h, int how, bool mine, int rc) {
    static const char *const name[WAYS] = { "ack",       "nack",   "nack later", "nack backoff",
                                            "uncounted", "reject", "extend" };
    struct message *x = &message[h->number];
    settle_judge(h, name[how], mine, rc);
    atomic_fetch_add(&told[how], rc == 0);
    if (rc != 0 && (how == ACK || how == REJECT))
        atomic_fetch_sub(&x->ending, 1);
    if (rc != 0)
        return;
    if (how == ACK) {
        atomic_store(&x->acked_at, atomic_load(&looks));
        note_end(h->number, &x->acked);
    } else if (how == REJECT) {
        note_end(h->number, &x->rejected);
    } else if (how == UNCOUNTED) {
        atomic_fetch_add(&x->uncounted, 1);
    }
}

#endif
