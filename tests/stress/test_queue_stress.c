/* SPDX-License-Identifier: MIT */
// A durable queue under load: eight workers take messages of four partitions, with priorities,
// groups and delays, and do with them whatever comes: ack, nack now, later, by the backoff list or
// uncounted, reject, extend, leave them to run out, hand the receipt to another thread. Two
// producers send, an observer looks, buries the dead and purges another queue. Leases are so short
// that many run out while their holder thinks that he has them. The store is shut down in the
// middle of it, closed, and opened again.
//
// What is held: one valid receipt a message; each message ends once, acknowledged or dead; dead
// after exactly TRIES tries; one of a group at a time, in order; counts that add up. lib/ledger.h
// has what is known of each message.
#include "leat.h"
#include "leat_test.h"
#include "lib/ledger.h"
#include "lib/place.h"

#include <criterion/criterion.h>

enum { WORKERS = 8, PARTITIONS = 4, BOX = 64, LEASE_MIN_MS = 10, LEASE_MAX_MS = 50 };

static leat *mq;
static leat_queue *jobs, *dead, *other;
static atomic_long sent;
static uint64_t alive; // in the queue at the open
static struct {
    pthread_mutex_t lock;
    struct holder h[BOX];
    int count;
} box = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void end_all(void) {
    atomic_store(&over, true);
    (void)sem_post(&enough);
}

static unsigned draw(unsigned *chance, unsigned n) {
    *chance = *chance * 1664525u + 1013904223u;
    return (*chance >> 8) % n;
}

// ---- settling

static int settle_call(struct holder *h, int how, int64_t ms, bool by_receipt) {
    uint64_t r = h->m.receipt;
    uint32_t flags = how == UNCOUNTED ? LEAT_UNCOUNTED : 0;
    int64_t delay = how == BACKOFF ? LEAT_BACKOFF : how == NACK ? 0 : ms;
    switch (how) {
    case ACK:
        return by_receipt ? leat_queue_ack_receipt(jobs, r) : leat_queue_ack(jobs, &h->m);
    case REJECT:
        return by_receipt ? leat_queue_reject_receipt(jobs, r, "stress")
                          : leat_queue_reject(jobs, &h->m, "stress");
    case EXTEND:
        return by_receipt ? leat_queue_extend_receipt(jobs, r, ms)
                          : leat_queue_extend(jobs, &h->m, ms);
    default:
        return by_receipt ? leat_queue_nack_receipt(jobs, r, delay, flags)
                          : leat_queue_nack(jobs, &h->m, delay, flags);
    }
}

static void extend(struct holder *h, int64_t ms, bool by_receipt) {
    struct message *x = &message[h->number];
    if (h->mark == 0)
        return;
    uint64_t was = h->mark, sooner = mark_make(now_ms() + ms), mark = was;
    if (mark_until(sooner) > mark_until(was))
        sooner = mark_make(mark_until(was)); // until it is surely done
    int64_t until = now_ms() + ms;
    bool mine = atomic_compare_exchange_strong(&x->mark, &mark, sooner);
    h->mark = sooner;
    int rc = settle_call(h, EXTEND, ms, by_receipt);
    settle_end(h, EXTEND, mine, rc);
    uint64_t later = mark_make(until);
    if (rc == 0 && mine && mark_until(later) > mark_until(sooner) &&
        atomic_compare_exchange_strong(&x->mark, &sooner, later))
        h->mark = later;
}

static void settle(struct holder *h, int how, int64_t ms, bool by_receipt) {
    if (how == EXTEND) {
        extend(h, ms, by_receipt);
        return;
    }
    bool mine = settle_begin(h, how);
    int rc = settle_call(h, how, ms, by_receipt);
    settle_end(h, how, mine, rc);
    if (rc == 0 && ms % 8 == 0) {
        rc = leat_queue_ack_receipt(jobs, h->m.receipt);
        if (rc != LEAT_ESTALE && !atomic_load(&over))
            complain("message %d is settled twice by a receipt: %s", h->number, leat_errname(rc));
    }
}

// ---- workers

static void release(struct holder *h) {
    int rc = leat_message_release(mq, &h->m);
    if (rc != 0 && !atomic_load(&over))
        complain("release: %s", leat_errmsg());
}

// Leaves a receipt to whoever comes by. Returns  false: there is no room.
static bool box_put(const struct holder *h) {
    pthread_mutex_lock(&box.lock);
    bool room = box.count < BOX;
    if (room)
        box.h[box.count++] = *h;
    pthread_mutex_unlock(&box.lock);
    return room;
}

static bool box_take(unsigned at, struct holder *h) {
    pthread_mutex_lock(&box.lock);
    bool any = box.count > 0;
    if (any) {
        struct holder *it = &box.h[at % (unsigned)box.count];
        *h = *it;
        *it = box.h[--box.count];
    }
    pthread_mutex_unlock(&box.lock);
    return any;
}

static int random_way(unsigned *chance) {
    static const int way[] = { ACK, ACK, ACK, ACK, ACK, NACK, LATER, BACKOFF, UNCOUNTED, REJECT };
    return way[draw(chance, 200) ? draw(chance, 9) : 9];
}

static void work_on(struct holder *h, unsigned *chance) {
    int64_t ms = 1 + draw(chance, 20);
    unsigned x = draw(chance, 100);
    if (x < 10) { // it runs out, and is never heard of again
        release(h);
    } else if (x < 25) { // another thread goes on with it
        release(h);
        if (!box_put(h))
            settle(h, random_way(chance), ms, true);
    } else if (x < 40) { // once more by the receipt, with the view gone
        extend(h, LEASE_MIN_MS + draw(chance, 40), draw(chance, 2));
        release(h);
        settle(h, random_way(chance), ms, true);
    } else {
        settle(h, random_way(chance), ms, false);
    }
}

static void ack_all(struct holder *h, int n) {
    leat_message m[8];
    bool mine[8];
    int rcs[8];
    for (int i = 0; i < n; i++) {
        m[i] = h[i].m;
        mine[i] = settle_begin(&h[i], ACK);
        rcs[i] = LEAT_ECLOSED;
    }
    int refused = leat_queue_ack_many(jobs, m, (size_t)n, rcs);
    for (int i = 0; i < n; i++) {
        settle_end(&h[i], ACK, mine[i], rcs[i]);
        refused -= rcs[i] != 0;
    }
    if (refused != 0 && !atomic_load(&over))
        complain("ack_many does not count what it refused");
}

static int receive(struct holder *h, int max, unsigned *chance) {
    leat_message m[8];
    leat_receive_options o = { .visibility_timeout_ms =
                                   LEASE_MIN_MS + draw(chance, LEASE_MAX_MS - LEASE_MIN_MS + 1),
                               .who = draw(chance, 2) ? "worker" : NULL };
    int64_t asked = now_ms();
    int n = leat_queue_receive_with(jobs, 0, &o, m, (size_t)max);
    if (n == 0)
        n = leat_queue_receive_with(jobs, 20, &o, m, (size_t)max);
    for (int i = 0; i < n; i++) {
        h[i].m = m[i];
        take(&h[i], asked, o.visibility_timeout_ms);
    }
    if (n < 0 && !(n == LEAT_ECLOSED && atomic_load(&over)))
        complain("receive: %s", leat_errmsg());
    return n;
}

static void *work(void *arg) {
    unsigned chance = (unsigned)(uintptr_t)arg;
    struct holder h[8], other_one;
    while (!atomic_load(&over)) {
        int n = receive(h, 1 + (int)draw(&chance, 8), &chance);
        if (atomic_load(&failed))
            break;
        if (n > 1 && draw(&chance, 4) == 0) {
            ack_all(h, n);
            continue;
        }
        for (int i = 0; i < n; i++)
            work_on(&h[i], &chance);
        if (draw(&chance, 2) && box_take(draw(&chance, BOX), &other_one)) {
            int how = draw(&chance, 5) ? random_way(&chance) : EXTEND;
            settle(&other_one, how, LEASE_MIN_MS + draw(&chance, 20), true);
        }
    }
    return NULL;
}

// ---- producers

// The group of a message, as the order in which it was sent.
static void join_group(int number, int producer, unsigned *chance) {
    struct message *x = &message[number];
    x->group = x->place = -1;
    if (draw(chance, 3))
        return;
    x->group = producer * GROUPS + (int)draw(chance, GROUPS);
    struct line *l = &line[x->group];
    x->place = l->count;
    l->number[l->count++] = number;
}

static void *produce(void *arg) {
    int job = (int)(uintptr_t)arg, producer = job % PRODUCERS;
    unsigned chance = (unsigned)job + 77;
    for (int i = 0; i < SENDS && !atomic_load(&failed); i++) {
        char text[16], group[32];
        int number = job * SENDS + i;
        (void)snprintf(text, sizeof text, "%d", number);
        join_group(number, producer, &chance);
        leat_record r = { .value = leat_str(text) };
        leat_metadata md;
        if (message[number].group >= 0) {
            (void)snprintf(group, sizeof group, "group %d", message[number].group);
            r.group = leat_str(group);
        }
        r.priority = (int32_t)draw(&chance, 10);
        r.delay_ms = draw(&chance, 10) ? 0 : 1 + draw(&chance, 20);
        if (leat_queue_send(jobs, &r, &md) != 0) {
            complain("send: %s", leat_errmsg());
            break;
        }
        message[number].offset = md.offset;
        int of = 0, part = md.partition + 1;
        if (!atomic_compare_exchange_strong(&message[number].partition, &of, part) && of != part)
            complain("message %d went to %d and came from %d", number, part, of);
        atomic_store(&message[number].sent, 1);
        atomic_fetch_add(&sent, 1);
    }
    return NULL;
}

// ---- the observer

static int number_of(const leat_message *m) {
    return atoi(m->value.data);
}

static int says(const leat_message *m, const char *name) {
    leat_header h;
    for (size_t i = 0; leat_message_header(m, i, &h); i++)
        if (strcmp(h.name.data, name) == 0)
            return atoi(h.value.data);
    return -1;
}

static void bury(const leat_message *m) {
    int number = number_of(m), deliveries = says(m, "leat.deliveries");
    struct message *x = &message[number];
    leat_header h;
    bool rejected = false;
    for (size_t i = 0; leat_message_header(m, i, &h); i++)
        rejected |=
            strcmp(h.name.data, "leat.reason") == 0 && strcmp(h.value.data, "deliveries") != 0;
    if (!rejected && deliveries != TRIES)
        complain("message %d is dead after %d tries", number, deliveries);
    if (deliveries > TRIES || deliveries < 1)
        complain("message %d was delivered %d times", number, deliveries);
    if (rejected && atomic_load(&x->ending) == 0)
        complain("message %d was rejected by nobody", number);
    if (says(m, "leat.partition") + 1 != atomic_load(&x->partition))
        complain("message %d: another partition", number);
    note_end(number, &x->buried);
}

static bool bury_some(void) {
    leat_message m[16];
    int n = leat_queue_receive(dead, 0, m, 16);
    for (int i = 0; i < n; i++) {
        int rc = leat_queue_ack_receipt(dead, m[i].receipt);
        if (rc == 0)
            bury(&m[i]);
        else if (rc != LEAT_ECLOSED || !atomic_load(&over))
            complain("burying: %s", leat_errmsg());
        (void)leat_message_release(mq, &m[i]);
    }
    return n > 0;
}

// What was acknowledged before the look is not seen.
static void look_at(int state, unsigned *chance) {
    leat_message m[32];
    long look = atomic_fetch_add(&looks, 1) + 1;
    int n = leat_queue_peek(jobs, state, LEAT_PEEK(draw(chance, PARTITIONS), 0), m, 32);
    for (int i = 0; i < n; i++) {
        struct message *x = &message[number_of(&m[i])];
        if (atomic_load(&x->acked) && atomic_load(&x->acked_at) < look)
            complain("message %d is seen in state %d, and was done", number_of(&m[i]), state);
        (void)leat_message_release(mq, &m[i]);
    }
}

static uint64_t total(const leat_queue_stats *s) {
    return s->available + s->delayed + s->leased + s->moving + s->kept + s->done + s->dead +
           s->expired;
}

static void count_all(void) {
    leat_queue_stats s;
    uint64_t least = alive + (uint64_t)atomic_load(&sent);
    if (leat_queue_get_stats(jobs, &s, sizeof s) != 0)
        return;
    if (total(&s) < least || total(&s) > alive + s.sent || s.kept > 0 || s.expired > 0)
        complain("%llu in all: %llu were there, %llu sent", (unsigned long long)total(&s),
                 (unsigned long long)alive, (unsigned long long)s.sent);
}

static int write_nothing(const void *data, size_t size, void *ctx) {
    *(size_t *)ctx += size;
    (void)data;
    return 0;
}

// Another queue of the store is emptied again and again.
static void purge_other(unsigned *chance) {
    static uint64_t in, out;
    leat_message m;
    uint64_t purged = 0;
    for (unsigned i = draw(chance, 5); i > 0; i--)
        in += leat_queue_send(other, &(leat_record){ .value = LEAT_STR("x") }, NULL) == 0;
    if (leat_queue_receive(other, 0, &m, 1) == 1)
        out += leat_queue_ack(other, &m) == 0;
    if (leat_queue_purge(other, &purged) == 0) {
        out += purged;
        if (in != out)
            complain("%d were sent and %d purged or done", (int)in, (int)out);
    }
}

static void *observe(void *arg) {
    unsigned chance = 3;
    (void)arg;
    while (!atomic_load(&over)) {
        size_t size = 0;
        count_all();
        look_at(LEAT_AVAILABLE + (int)draw(&chance, 3), &chance);
        const struct message *x = &message[draw(&chance, MESSAGES)];
        if (atomic_load(&x->sent) &&
            leat_queue_explain(jobs, atomic_load(&x->partition) - 1, x->offset, write_nothing,
                               &size) == 0 &&
            size == 0)
            complain("nothing is explained");
        purge_other(&chance);
        while (bury_some())
            ;
    }
    return NULL;
}

// ---- rounds

static void open_round(void) {
    static const int64_t backoff[] = { 1, 5, 15 };
    leat_options o = { .acks = LEAT_ACKS_LOG };
    leat_queue_options q = { .partitions = PARTITIONS,
                             .deliveries_max = TRIES,
                             .visibility_timeout_ms = LEASE_MIN_MS,
                             .dead_letter = "dead",
                             .backoff_count = 3,
                             .backoff_ms = backoff };
    ok(leat_open(dir, &o, &mq));
    ok(leat_queue_open(mq, "jobs", &q, &jobs));
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    ok(leat_queue_open(mq, "other", NULL, &other));
    for (int i = 0; i < MESSAGES; i++)
        atomic_store(&message[i].mark, 0); // leases end with the store
    box.count = 0;
    atomic_store(&over, false);
    complained = end_all;
    atomic_store(&sent, 0);
}

// What the queue has now is what did not end.
static void count_alive(void) {
    leat_queue_stats s, d;
    do { // the dead that were on their way arrive
        ok(leat_queue_get_stats(jobs, &s, sizeof s));
        while (bury_some())
            ;
        ok(leat_queue_get_stats(dead, &d, sizeof d));
    } while (s.moving > 0 || d.available > 0);
    ok(leat_queue_get_stats(jobs, &s, sizeof s));
    alive = s.dead;
    for (int i = 0; i < MESSAGES; i++)
        alive += message[i].sent && !message[i].acked && !message[i].buried;
}

// Where each message is while nobody works: in one place.
static int find_all(int state, unsigned char *places) {
    static leat_message m[256];
    int64_t from = 0;
    int n, all = 0;
    while ((n = leat_queue_peek(jobs, state, from, m, 256)) > 0) {
        from = LEAT_PEEK(m[n - 1].partition, m[n - 1].offset + 1);
        for (int i = 0; i < n; i++) {
            struct message *x = &message[number_of(&m[i])];
            cr_assert_eq(m[i].deliveries, atomic_load(&x->received) - atomic_load(&x->uncounted),
                         "message %d: %d deliveries, %d received, %d taken back", number_of(&m[i]),
                         m[i].deliveries, x->received, x->uncounted);
            places[number_of(&m[i])]++;
            ok(leat_message_release(mq, &m[i]));
        }
        all += n;
    }
    gives(0, n);
    return all;
}

static void check_quiet(int sends) {
    static unsigned char places[MESSAGES];
    leat_queue_stats s, before;
    int left;
    memset(places, 0, sizeof places);
    do { // no lease ends while it is looked at, and nothing moves
        ok(leat_queue_get_stats(jobs, &before, sizeof before));
        memset(places, 0, sizeof places);
        left = find_all(LEAT_AVAILABLE, places) + find_all(LEAT_DELAYED, places) +
               find_all(LEAT_LEASED, places);
        while (bury_some())
            ;
        ok(leat_queue_get_stats(jobs, &s, sizeof s));
    } while (s.moving + s.leased + s.delayed + before.moving + before.leased > 0 ||
             s.available != before.available);
    cr_assert_eq((uint64_t)left, s.available);
    cr_assert_eq(total(&s), alive + (uint64_t)atomic_load(&sent), "%d in all, of %d and %d",
                 (int)total(&s), (int)alive, (int)atomic_load(&sent));
    cr_assert_eq(s.sent, (uint64_t)atomic_load(&sent));
    for (int i = 0; i < sends; i++) {
        const struct message *x = &message[i];
        int found = places[i] + atomic_load(&x->acked) + atomic_load(&x->buried);
        cr_assert_eq(found, 1, "message %d: in the queue %d, acked %d, buried %d", i, places[i],
                     atomic_load(&x->acked), atomic_load(&x->buried));
    }
    for (int i = 0; i < suspect.count; i++)
        cr_assert_eq(atomic_load(&message[suspect.before[i]].last), TRIES,
                     "message %d was handed out while %d, before it in group %d, was there",
                     suspect.number[i], suspect.before[i], message[suspect.number[i]].group);
    suspect.count = 0;
}

static void play(int round) {
    pthread_t producer[PRODUCERS], worker[WORKERS], observer;
    bool last = round == ROUNDS - 1;
    enough_at = last ? -1 : atomic_load(&handed) + 2 * SENDS;
    for (uintptr_t i = 0; i < WORKERS; i++)
        cr_assert_eq(pthread_create(&worker[i], NULL, work, (void *)(100 * (uintptr_t)round + i)),
                     0);
    cr_assert_eq(pthread_create(&observer, NULL, observe, NULL), 0);
    for (uintptr_t i = 0; i < PRODUCERS; i++)
        cr_assert_eq(
            pthread_create(&producer[i], NULL, produce, (void *)(PRODUCERS * (uintptr_t)round + i)),
            0);
    for (int i = 0; i < PRODUCERS; i++)
        cr_assert_eq(pthread_join(producer[i], NULL), 0);
    while (!atomic_load(&failed) &&
           (last ? atomic_load(&ended) < MESSAGES : atomic_load(&handed) < enough_at))
        (void)sem_wait(&enough);
    atomic_store(&over, true);
    if (round == 0) // in the middle of everything
        ok(leat_shutdown(mq));
    for (int i = 0; i < WORKERS; i++)
        cr_assert_eq(pthread_join(worker[i], NULL), 0);
    cr_assert_eq(pthread_join(observer, NULL), 0);
    cr_assert(!atomic_load(&failed), "round %d: %s", round, complaint);
}

Test(queue_stress, one_receipt_a_message_and_each_ends_once, .init = make_dir, .fini = drop_dir) {
    struct timespec ts;
    cr_assert_eq(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
    cr_assert_eq(sem_init(&enough, 0, 0), 0);
    epoch = ts.tv_sec;
    for (int round = 0; round < ROUNDS; round++) {
        open_round();
        count_alive();
        if (round > 0)
            check_quiet(PRODUCERS * round * SENDS);
        play(round);
        if (round > 0)
            check_quiet(PRODUCERS * (round + 1) * SENDS);
        ok(leat_close_all(mq, 0));
    }
    cr_assert_eq(atomic_load(&ended), MESSAGES);
    cr_log_info("%ld handed out: %ld acks, %ld %ld %ld nacks, %ld uncounted, %ld rejects, %ld "
                "extends",
                atomic_load(&handed), told[ACK], told[NACK], told[LATER], told[BACKOFF],
                told[UNCOUNTED], told[REJECT], told[EXTEND]);
    for (int i = 0; i < WAYS; i++)
        cr_assert_gt(atomic_load(&told[i]), 0, "way %d never came", i);
}
