/* SPDX-License-Identifier: MIT */
// wake: how long a thread that is blocked takes to be told of a value: from before the send to the
// return of the wait, on the clock of both. The value bears the time of its send behind its number.
//
// No contender tells whether its receiver is blocked. So the sender waits until the receiver says
// that it is about to wait, and then keeps its own processor busy for 100 us, the same for all:
// longer than any of them looks again before it sleeps. Sender and receiver have a processor each:
// left to itself the system puts them now on one and now on two, which differ by a factor of four.
#include "histogram.h"
#include "payload.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { SETTLE_NS = 100000, TIME_AT = 8 };

struct wake {
    size_t work;
    void *way;
    void (*send)(void *way, const unsigned char *value);
    const unsigned char *(*wait)(void *way); // its bytes live until the next wait
    _Atomic size_t waits;                    // how many waits the receiver has begun
    struct tally sent, seen;
    struct histogram latency;
};

// Keeps this thread on the n-th (0, 1) of the processors that this process may use, if it has two.
static void stay_on(int n) {
    cpu_set_t all, one;
    need(sched_getaffinity(0, sizeof all, &all) == 0, "sched_getaffinity");
    if (CPU_COUNT(&all) < 2)
        return;
    CPU_ZERO(&one);
    for (size_t cpu = 0; CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all) && n-- == 0)
            CPU_SET(cpu, &one);
    need(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
}

static void *hear_all(void *arg) {
    struct wake *w = arg;
    stay_on(1);
    for (size_t i = 0; i < w->work; i++) {
        uint64_t sent;
        atomic_store(&w->waits, i + 1);
        const unsigned char *value = w->wait(w->way);
        uint64_t now = now_ns();
        memcpy(&sent, value + TIME_AT, sizeof sent);
        histogram_add(&w->latency, now - sent);
        tally_add(&w->seen, value, VALUE);
    }
    return NULL;
}

static void await(struct wake *w, size_t waits) {
    while (atomic_load(&w->waits) < waits)
        (void)sched_yield();
}

static void wake(struct run *r, void *way, void (*send)(void *, const unsigned char *),
                 const unsigned char *(*wait)(void *)) {
    static struct wake w;
    unsigned char value[VALUE];
    w = (struct wake){ .work = r->work, .way = way, .send = send, .wait = wait };
    payload_init(value, sizeof value);
    pthread_t receiver = start(hear_all, &w); // before stay_on, which a new thread inherits
    stay_on(0);
    for (size_t i = 0; i < r->work; i++) {
        await(&w, i + 1);
        for (uint64_t begin = now_ns(); now_ns() - begin < SETTLE_NS;)
            continue;
        payload_number(value, sizeof value, i);
        uint64_t now = now_ns();
        memcpy(value + TIME_AT, &now, sizeof now);
        w.send(way, value);
        tally_sent(&w.sent, value, sizeof value);
    }
    (void)pthread_join(receiver, NULL);
    tally_compare(&w.seen, &w.sent, 1);
    histogram_tell(&w.latency, r, 0);
}

// ---- leat

struct leat_way {
    leat_producer *p;
    leat_topic *t;
    leat_consumer *c;
};

static void leat_way_send(void *arg, const unsigned char *value) {
    struct leat_way *w = arg;
    leat_record r = { .value = { value, VALUE } };
    must(leat_send(w->p, w->t, &r, NULL), "leat_send");
}

static const unsigned char *leat_way_wait(void *arg) {
    struct leat_way *w = arg;
    const leat_message *m;
    int n = leat_poll(w->c, LEAT_FOREVER, &m);
    must(n, "leat_poll");
    if (n != 1 || m->value.size != VALUE)
        fail("a poll for one message of %d bytes got %d", VALUE, n);
    return m->value.data;
}

static void wake_leat(struct run *r) {
    struct leat_way w;
    leat *mq;
    must(leat_open_memory(NULL, &mq), "leat_open_memory");
    must(leat_topic_open(mq, "t", NULL, &w.t), "leat_topic_open");
    must(leat_producer_open(mq, NULL, &w.p), "leat_producer_open");
    must(leat_consumer_open(mq, "g", NULL, &w.c), "leat_consumer_open");
    must(leat_consumer_subscribe(w.c, "t"), "leat_consumer_subscribe");
    wake(r, &w, leat_way_send, leat_way_wait);
    must(leat_close_all(mq, 0), "leat_close_all");
}

// ---- a slot, and what tells that it is filled

struct slot {
    unsigned char value[VALUE];
    pthread_mutex_t lock; // of value and filled
    pthread_cond_t cond;
    bool filled;
    int fd; // or an eventfd instead of these three
};

static void condvar_send(void *arg, const unsigned char *value) {
    struct slot *s = arg;
    (void)pthread_mutex_lock(&s->lock);
    memcpy(s->value, value, VALUE);
    s->filled = true;
    (void)pthread_cond_signal(&s->cond);
    (void)pthread_mutex_unlock(&s->lock);
}

static const unsigned char *condvar_wait(void *arg) {
    struct slot *s = arg;
    (void)pthread_mutex_lock(&s->lock);
    while (!s->filled)
        (void)pthread_cond_wait(&s->cond, &s->lock);
    s->filled = false;
    (void)pthread_mutex_unlock(&s->lock);
    return s->value; // the sender waits for the next wait
}

static void wake_condvar(struct run *r) {
    struct slot s = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
    wake(r, &s, condvar_send, condvar_wait);
}

static void eventfd_send(void *arg, const unsigned char *value) {
    struct slot *s = arg;
    memcpy(s->value, value, VALUE);
    need(write(s->fd, &(uint64_t){ 1 }, sizeof(uint64_t)) == sizeof(uint64_t), "write");
}

static const unsigned char *eventfd_wait(void *arg) {
    struct slot *s = arg;
    uint64_t count;
    need(read(s->fd, &count, sizeof count) == sizeof count, "read");
    return s->value;
}

static void wake_eventfd(struct run *r) {
    struct slot s = { .fd = eventfd(0, EFD_CLOEXEC) };
    need(s.fd >= 0, "eventfd");
    wake(r, &s, eventfd_send, eventfd_wait);
    (void)close(s.fd);
}

static const struct bench table[] = {
    { .name = "wake-latency",
      .about = "from the append to the return of a blocked poll of another thread (median)",
      .work = 5000,
      .quick = 1000,
      .line = { { "", "us", "lower" },
                { "-p99", "us", "lower" },
                { "-p999", "us", "lower" },
                { "-max", "us", "lower" } },
      .who = { { "leat", wake_leat }, { "condvar", wake_condvar }, { "eventfd", wake_eventfd } } },
};

int main(int argc, char **argv) {
    return bench_main(argc, argv, table, sizeof table / sizeof table[0]);
}
