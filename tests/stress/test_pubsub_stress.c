/* SPDX-License-Identifier: MIT */
// Pub/sub under load. Four threads publish; subscriptions of every kind come and go meanwhile:
// inline, called back, pulled by leat_subscription_next or after poll(2); with each choice when
// full; slow ones, ones that stop after so many, close each other, subscribe, publish and hold
// messages which another thread releases. Where callbacks are polled for, two threads dispatch. A
// round ends by closing each, by leat_close_all, or by a shutdown in the middle of it.
//
// What is held. Each publish has a number of its publisher and channel. Each subscription (an ear)
// knows which had ended before it was made, begun when it was, ended before it was counted and
// closed, begun when it was closed. So what lies between must have come, or be counted: inline each
// one, once and in order; with a buffer the sums, and at each delivery no number is missing which
// m.dropped did not tell. No call is made after the close has returned or after on_end, which runs
// once; one with a buffer is never called twice at once; bytes stay as long as they are held. What
// is heard is written without locks: a thread sanitizer sees calls that are not one after another.
//
// All waits are for ever: one that is not woken is seen as a test that does not end. All messages
// have one size, so that none takes the room of two.
#include <leat.h>

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/complain.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SENDS = 4000, CHANGES = 400, SEEDS = 1 };
#else
enum { SENDS = 5000, CHANGES = 600, SEEDS = 2 }; // of each thread in a round; rounds of a kind
#endif

enum { PUBLISHERS = 4, CHURNERS = 2, PULLERS = 2, DISPATCHERS = 2 };
enum { WHO = 16 };                         // may publish: these, and those that call back
enum { PLAIN = 4, BYE = 6, CHANNELS = 7 }; // of callbacks 4 and 5; for the end 6
enum { KEYS = 4, NOTE = 56, SLOTS = 24, EARS = 6000, HELD = 64 }; // NOTE: bytes of a message

enum round_end { END_ORDERLY, END_ALL, END_SHUTDOWN, ENDS };

static const char *const channel_name[] = { "c.0", "c.1", "c.2", "c.3", "n.0", "n.1", "bye" };

static const struct what { // a subscription may listen to
    const char *pattern;
    int tokens;
    unsigned mask; // of channels
} whats[] = { { "c.0", 0, 1 },  { "c.1", 0, 2 },   { "c.2", 1, 4 },  { "c.3", 0, 8 },
              { "n.0", 0, 16 }, { "n.1", 1, 32 },  { "c.*", 0, 15 }, { "[cx].[01]", 0, 3 },
              { "?.0", 0, 17 }, { "*", 0, 127 },   { "*.0", 1, 17 }, { "c.>", 1, 15 },
              { "*.>", 1, 63 }, { "\\c.3", 0, 8 }, { "bye", 0, 64 } };
enum { WHATS = sizeof whats / sizeof whats[0] };

struct note { // what is published; NOTE bytes, the key among them
    uint32_t who, channel, seq, key;
    uint32_t same[8];
};

struct tally {
    uint32_t n[WHO][CHANNELS];
};
enum { QUIRK_SLOW = 1, QUIRK_CLOSES = 2, QUIRK_MAKES = 4, QUIRK_TALKS = 8, QUIRK_HOLDS = 16 };

struct ear {
    const struct what *what;
    leat_subscription_options o;
    unsigned quirks;
    bool queued, closed;
    atomic_bool closed_outside; // and the close has returned
    atomic_int running, ends, heard;
    uint64_t told, gaps; // m.dropped, and numbers that did not come; with a buffer
    int left;            // what the close said
    uint64_t dropped;    // counted before it
    struct tally ended_before, begun_made, ended_closed, begun_closed; // see the head
    struct tally first, last;
    uint32_t last_of_key[WHO][CHANNELS][KEYS + 1];
};

static leat *mq;
static atomic_uint begun[WHO][CHANNELS], ended[WHO][CHANNELS];
static atomic_long sum_heard[CHANNELS], sum_full[CHANNELS]; // of publishes
static struct ear *ears;
static atomic_int ear_count, who_count, pullers_done, dispatchers_done;
static _Atomic(struct ear *) slot_ear[SLOTS]; // who takes it out closes it
static leat_subscription *_Atomic sub_of[EARS];
static atomic_bool over, shut; // no more is done; leat_shutdown was called, or is about to be
static atomic_int round_number;
static long halfway;
static atomic_long sent;
static sem_t half;

static _Thread_local int my_round, my_who;
static _Thread_local uint32_t my_chance = 1;

static unsigned draw(unsigned n) {
    my_chance = my_chance * 1664525u + 1013904223u;
    return (my_chance >> 8) % n;
}

// Which publisher this thread is.
static int self(void) {
    int round = atomic_load(&round_number);
    if (my_round != round) {
        my_round = round;
        my_who = atomic_fetch_add(&who_count, 1);
        my_chance = (uint32_t)round * 131u + (uint32_t)my_who * 7919u;
    }
    if (my_who >= WHO) {
        complain("more threads than were thought of");
        my_who = WHO - 1;
    }
    return my_who;
}

// ---- slow ones wait until the observer has looked

static struct {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    long looks;
    bool free; // nobody waits any more
    sem_t asked;
} tick = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

static void wait_for_a_look(void) {
    (void)pthread_mutex_lock(&tick.lock);
    long seen = tick.looks;
    (void)sem_post(&tick.asked);
    while (tick.looks == seen && !tick.free)
        (void)pthread_cond_wait(&tick.cond, &tick.lock);
    (void)pthread_mutex_unlock(&tick.lock);
}

static void set_free(bool is) {
    (void)pthread_mutex_lock(&tick.lock);
    tick.free = is;
    (void)pthread_cond_broadcast(&tick.cond);
    (void)pthread_mutex_unlock(&tick.lock);
    (void)sem_post(&tick.asked);
}

static void *observe(void *arg) {
    static leat_channel_info info[64];
    for (;;) {
        wait_for(&tick.asked);
        if (atomic_load(&over))
            return arg;
        int n = leat_channel_list(mq, info, 64, sizeof *info);
        int count = leat_channel_count(mq, "c.1");
        bool closed = atomic_load(&shut);
        if ((n < 0 && !(n == LEAT_ECLOSED && closed)) ||
            (count < 0 && !(count == LEAT_ECLOSED && closed)))
            complain("listing: %d, counting: %d, %s", n, count, leat_errmsg());
        for (int i = 0; i < n && i < 64; i++)
            if (info[i].subscribers < 1 || info[i].subscribers > EARS)
                complain("%s has %d subscribers", info[i].name, info[i].subscribers);
        (void)pthread_mutex_lock(&tick.lock);
        tick.looks++;
        (void)pthread_cond_broadcast(&tick.cond);
        (void)pthread_mutex_unlock(&tick.lock);
    }
}

// ---- messages

static void note_make(struct note *x, int who, int c, uint32_t seq, uint32_t key) {
    *x = (struct note){ (uint32_t)who, (uint32_t)c, seq, key, { 0 } };
    memset(x->same, (int)(seq * 31u) + who * 7 + c, sizeof x->same);
}

static bool note_read(struct note *x, const leat_message *m) {
    struct note want;
    if (m->value.size < sizeof *x || m->value.size + m->key.size != NOTE)
        return false;
    memcpy(x, m->value.data, sizeof *x);
    note_make(&want, (int)x->who, (int)x->channel, x->seq, x->key);
    return memcmp(x, &want, sizeof want) == 0 && x->who < WHO && x->channel < CHANNELS &&
           (x->key < KEYS) == (m->key.size != 0) &&
           (x->key == KEYS || ((const char *)m->key.data)[0] == (char)('a' + x->key)) &&
           strcmp(m->topic, channel_name[x->channel]) == 0;
}

static int publish(int c) {
    int who = self();
    uint32_t seq = atomic_load(&begun[who][c]) + 1, key = draw(2 * KEYS);
    key = key < KEYS ? key : KEYS;
    char bytes[NOTE] = "", name[8] = "akeyakey";
    struct note x;
    note_make(&x, who, c, seq, key);
    memcpy(bytes, &x, sizeof x);
    name[0] = (char)('a' + key);
    leat_record r = { .key = { name, sizeof name }, .value = { bytes, NOTE - sizeof name } };
    atomic_store(&begun[who][c], seq);
    int rc = key < KEYS ? leat_publish_record(mq, channel_name[c], &r)
                        : leat_publish(mq, channel_name[c], bytes, NOTE);
    if (rc == LEAT_ECLOSED && atomic_load(&shut))
        return rc; // some may have heard it
    atomic_store(&ended[who][c], seq);
    if (rc < 0 && rc != LEAT_EFULL)
        complain("publish: %d, %s", rc, leat_errmsg());
    atomic_fetch_add(rc < 0 ? &sum_full[c] : &sum_heard[c], rc < 0 ? 1 : rc);
    return rc;
}

// ---- messages that are held, and released by another thread

static struct {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int count;
    leat_message m[HELD];
    struct note was[HELD];
    bool over;
} held = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

static void release(leat_message *m, const struct note *was) {
    struct note x;
    leat_message again = *m;
    if (!note_read(&x, m) || memcmp(&x, was, sizeof x) != 0)
        complain("a held message has other bytes");
    int rc = leat_message_release(mq, m);
    if (rc != 0 && !(rc == LEAT_ECLOSED && atomic_load(&shut)))
        complain("release: %d, %s", rc, leat_errmsg());
    int twice = leat_message_release(mq, &again);
    if (twice != LEAT_ESTALE && !(twice == LEAT_ECLOSED && atomic_load(&shut)))
        complain("released twice: %d", twice);
}

// What comes when it is over, nobody takes: it is ended with the store.
static void hand_over(leat_message *m, const struct note *was) {
    (void)pthread_mutex_lock(&held.lock);
    if (!held.over && held.count < HELD) {
        held.m[held.count] = *m;
        held.was[held.count++] = *was;
        (void)pthread_cond_signal(&held.cond);
    } else if (!held.over) {
        release(m, was);
    }
    (void)pthread_mutex_unlock(&held.lock);
}

static void held_end(void) {
    (void)pthread_mutex_lock(&held.lock);
    held.over = true;
    (void)pthread_cond_signal(&held.cond);
    (void)pthread_mutex_unlock(&held.lock);
}

static void *release_all(void *arg) {
    (void)pthread_mutex_lock(&held.lock);
    while (held.count > 0 || !held.over) {
        if (held.count == 0) {
            (void)pthread_cond_wait(&held.cond, &held.lock);
            continue;
        }
        leat_message m = held.m[--held.count];
        struct note was = held.was[held.count];
        (void)pthread_mutex_unlock(&held.lock);
        release(&m, &was);
        (void)pthread_mutex_lock(&held.lock);
    }
    (void)pthread_mutex_unlock(&held.lock);
    return arg;
}

// ---- subscriptions

static void take_tally(struct tally *t, atomic_uint from[WHO][CHANNELS]) {
    for (int w = 0; w < WHO; w++)
        for (int c = 0; c < CHANNELS; c++)
            t->n[w][c] = atomic_load(&from[w][c]);
}

static void ear_ended(void *ctx) {
    struct ear *e = ctx;
    if (atomic_load(&e->running) != 0)
        complain("%s: ended beside a call", e->what->pattern);
    if (atomic_fetch_add(&e->ends, 1) != 0)
        complain("%s: ended twice", e->what->pattern);
}

static void ear_note(struct ear *e, const leat_message *m, const struct note *x) {
    int w = (int)x->who, c = (int)x->channel;
    uint32_t *last = &e->last.n[w][c];
    if (!(e->what->mask & 1u << c))
        complain("%s heard %s", e->what->pattern, m->topic);
    bool exact = !strpbrk(e->what->pattern, "*?[\\>");
    if (exact ? m->pattern != NULL : !m->pattern || strcmp(m->pattern, e->what->pattern) != 0)
        complain("%s: the pattern is %s", e->what->pattern, m->pattern ? m->pattern : "none");
    if (e->o.when_full == LEAT_KEEP_LATEST) {
        last = &e->last_of_key[w][c][x->key];
    } else {
        uint32_t missed = *last && x->seq > *last ? x->seq - *last - 1 : 0;
        if (e->queued) {
            e->told += m->dropped;
            e->gaps += missed;
        }
        if (e->queued ? e->gaps > e->told : missed > 0)
            complain("%s, %d: %u of %d on %s after %u; missed %d, told %d", e->what->pattern,
                     e->o.when_full, x->seq, w, m->topic, *last, (int)e->gaps, (int)e->told);
        if (e->first.n[w][c] == 0)
            e->first.n[w][c] = x->seq;
    }
    if (x->seq <= *last)
        complain("%s, %d: %u of %d on %s after %u", e->what->pattern, e->o.when_full, x->seq, w,
                 m->topic, *last);
    *last = x->seq;
    atomic_fetch_add(&e->heard, 1);
}

static void ear_close(struct ear *e, bool inside, int64_t drain_ms) {
    leat_subscription_stats st = { 0 };
    if (!e)
        return;
    leat_subscription *s = atomic_load(&sub_of[e - ears]);
    take_tally(&e->ended_closed, ended);
    int rc = e->queued ? leat_subscription_get_stats(s, &st, sizeof st) : 0;
    if (rc != 0 && !(rc == LEAT_ECLOSED && atomic_load(&shut)))
        complain("%s: stats: %d, %s", e->what->pattern, rc, leat_errmsg());
    e->left = leat_subscription_close(s, drain_ms);
    if (!inside)
        atomic_store(&e->closed_outside, true);
    if (e->left < 0 || (!e->queued && e->left != 0))
        complain("%s: close: %d, %s", e->what->pattern, e->left, leat_errmsg());
    if (!inside && atomic_load(&e->ends) != 1)
        complain("%s: closed, and %d ends", e->what->pattern, atomic_load(&e->ends));
    e->dropped = st.dropped;
    e->closed = rc == 0; // else nothing is known of what was dropped
    take_tally(&e->begun_closed, begun);
}

static void ear_hear(leat_subscription *s, const leat_message *m, void *ctx);

static struct ear *ear_make(const struct what *what, const leat_subscription_options *o,
                            bool pulled, unsigned quirks) {
    int i = atomic_fetch_add(&ear_count, 1);
    if (i >= EARS) {
        atomic_store(&ear_count, EARS);
        return NULL;
    }
    struct ear *e = &ears[i];
    leat_subscription *s;
    e->what = what;
    e->o = *o;
    e->o.on_end = ear_ended;
    e->o.tokens = what->tokens;
    e->queued = o->buffer != 0 || o->buffer_bytes != 0;
    e->quirks = quirks;
    take_tally(&e->ended_before, ended);
    int rc = leat_channel_subscribe(mq, what->pattern, pulled ? NULL : ear_hear, e, &e->o, &s);
    if (rc != 0) {
        if (rc != LEAT_ECLOSED || !atomic_load(&shut))
            complain("%s: subscribing: %d, %s", what->pattern, rc, leat_errmsg());
        e->what = NULL;
        return NULL;
    }
    take_tally(&e->begun_made, begun);
    atomic_store(&sub_of[i], s);
    return e;
}

// Some kind of buffer; of callbacks' channels none that waits for them.
static leat_subscription_options some_options(bool queued) {
    leat_subscription_options o = { .stop_after = draw(6) == 0 ? 1 + (int)draw(60) : 0 };
    if (!queued)
        return o;
    o.buffer = draw(3) ? 1 + (int)draw(8) : 0;
    o.buffer_bytes = !o.buffer || draw(3) == 0 ? NOTE * (1 + (int)draw(6)) - (int)draw(20) : 0;
    if (draw(12) == 0) { // where some are taken out at once
        o.buffer = 600;
        o.buffer_bytes = 0;
    }
    o.when_full = 1 + (int)draw(5);
    static const int64_t block[] = { 5, LEAT_ZERO, 1, LEAT_FOREVER };
    o.block_ms = o.when_full == LEAT_BLOCK ? block[draw(4)] : 0;
    return o;
}

static void ear_replace(bool inside) {
    leat_subscription_options o = some_options(draw(3) != 0);
    static const int64_t drain[] = { 0, 0, 1, LEAT_FOREVER };
    unsigned quirks = draw(4) ? 1u << draw(5) : 0;
    struct ear *e = ear_make(&whats[draw(WHATS)], &o, false, quirks);
    if (e)
        ear_close(atomic_exchange(&slot_ear[draw(SLOTS)], e), inside, drain[draw(4)]);
}

static void ear_misbehave(struct ear *e, const leat_message *m, const struct note *x) {
    leat_message kept;
    if (x->channel >= PLAIN || draw(8) != 0) // no callback of a callback's publish does more
        return;
    if (e->quirks & QUIRK_SLOW)
        wait_for_a_look();
    if (e->quirks & QUIRK_MAKES)
        ear_replace(true);
    if (e->quirks & QUIRK_TALKS)
        (void)publish(PLAIN + (int)draw(2));
    if (e->quirks & QUIRK_HOLDS && leat_message_hold(mq, m, &kept) == 0)
        hand_over(&kept, x);
    if (!(e->quirks & QUIRK_CLOSES))
        return;
    if (draw(2))
        ear_close(atomic_exchange(&slot_ear[draw(SLOTS)], NULL), true, 0);
    for (int i = 0; i < SLOTS; i++) { // itself, if nobody else has begun to
        struct ear *mine = e;
        if (atomic_compare_exchange_strong(&slot_ear[i], &mine, NULL))
            ear_close(e, true, LEAT_FOREVER);
    }
}

static void ear_check(struct ear *e) {
    if (atomic_load(&e->ends) != 0 || atomic_load(&e->closed_outside))
        complain("%s: called after its end", e->what->pattern);
}

static void ear_hear(leat_subscription *s, const leat_message *m, void *ctx) {
    struct ear *e = ctx;
    struct note x;
    (void)s;
    if (atomic_fetch_add(&e->running, 1) != 0 && e->queued)
        complain("%s: called twice at once", e->what->pattern);
    ear_check(e);
    if (!note_read(&x, m)) {
        complain("%s: other bytes", e->what->pattern);
    } else {
        (void)self();
        ear_note(e, m, &x);
        ear_misbehave(e, m, &x);
        if (memcmp(&x, m->value.data, sizeof x) != 0)
            complain("%s: bytes change in the callback", e->what->pattern);
    }
    ear_check(e);
    atomic_fetch_sub(&e->running, 1);
}

// ---- the threads

static void *run_publisher(void *arg) {
    (void)self();
    for (int i = 0; i < SENDS; i++) {
        if (publish((int)draw(PLAIN)) == LEAT_ECLOSED)
            break;
        if (i % 16 == 0)
            (void)sem_post(&tick.asked);
        if (atomic_fetch_add(&sent, 1) + 1 == halfway)
            (void)sem_post(&half);
    }
    return arg;
}

static void *run_churner(void *arg) {
    (void)self();
    for (int i = 0; i < CHANGES && !atomic_load(&shut); i++) {
        if (draw(4) == 0)
            ear_close(atomic_exchange(&slot_ear[draw(SLOTS)], NULL), false,
                      draw(2) ? LEAT_FOREVER : 0);
        else
            ear_replace(false);
        wait_for_a_look();
    }
    return arg;
}

// Returns  1, 0 or an error, as leat_subscription_next.
static int pull(struct ear *e, bool polls) {
    leat_subscription *s = atomic_load(&sub_of[e - ears]);
    leat_message m;
    struct note x;
    if (polls) {
        struct pollfd p = { .fd = leat_subscription_fd(s), .events = POLLIN };
        if (p.fd < 0)
            return p.fd;
        while (poll(&p, 1, -1) != 1) // EINTR
            continue;
    }
    int n = leat_subscription_next(s, polls ? 0 : LEAT_FOREVER, &m);
    if (n != 1)
        return n;
    if (note_read(&x, &m))
        ear_note(e, &m, &x);
    else
        complain("%s: next has other bytes", e->what->pattern);
    if (draw(4) == 0)
        hand_over(&m, &x);
    else
        release(&m, &x);
    return 1;
}

static void *run_puller(void *arg) {
    (void)self();
    for (int i = 0; i < CHANGES / 4 && !atomic_load(&shut); i++) {
        leat_subscription_options o = some_options(true);
        struct ear *e = ear_make(&whats[draw(PLAIN)], &o, true, 0);
        bool polls = draw(2);
        int rc = 0;
        for (unsigned n = 1 + draw(100); e && n > 0 && rc >= 0; n--)
            rc = pull(e, polls);
        if (rc < 0 && rc != LEAT_EGONE && !(rc == LEAT_ECLOSED && atomic_load(&shut)))
            complain("next: %d, %s", rc, leat_errmsg());
        ear_close(e, false, draw(2) ? LEAT_FOREVER : 0);
    }
    atomic_fetch_add(&pullers_done, 1);
    return arg;
}

static void *run_dispatcher(void *arg) {
    int rc = 0;
    while (rc >= 0 && !atomic_load(&over))
        rc = leat_dispatch(mq, LEAT_FOREVER);
    if (rc < 0 && !(rc == LEAT_ECLOSED && atomic_load(&shut)))
        complain("dispatch: %d, %s", rc, leat_errmsg());
    atomic_fetch_add(&dispatchers_done, 1);
    return arg;
}

// ---- what must hold when all is over

// How many of what e must have heard lie between two tallies.
static long between(const struct ear *e, const struct tally *from, const struct tally *to) {
    long n = 0;
    for (int w = 0; w < WHO; w++)
        for (int c = 0; c < CHANNELS; c++)
            if (e->what->mask & 1u << c && to->n[w][c] > from->n[w][c])
                n += (long)(to->n[w][c] - from->n[w][c]);
    return n;
}

static void check_inline(const struct ear *e) {
    for (int w = 0; w < WHO; w++)
        for (int c = 0; c < CHANNELS; c++) {
            uint32_t first = e->first.n[w][c], last = e->last.n[w][c];
            uint32_t from = e->begun_made.n[w][c], to = e->ended_closed.n[w][c];
            if (!(e->what->mask & 1u << c))
                continue;
            bool early = first != 0 && first <= e->ended_before.n[w][c];
            bool missed = to > from && (first == 0 || first > from + 1 || last < to);
            if (early || missed || last > e->begun_closed.n[w][c])
                complain("%s: heard %u to %u of %d on %d, not %u to %u", e->what->pattern, first,
                         last, w, c, from + 1, to);
        }
}

static void check_ear(const struct ear *e) {
    if (atomic_load(&e->ends) != 1)
        complain("%s: %d ends", e->what->pattern, atomic_load(&e->ends));
    long heard = atomic_load(&e->heard), stop = (long)e->o.stop_after;
    if (stop && heard > stop)
        complain("%s: heard %ld, and was to stop after %ld", e->what->pattern, heard, stop);
    if (!e->closed || (stop && heard + e->left >= stop))
        return;
    if (!e->queued && !stop) {
        check_inline(e);
        return;
    }
    long counted = heard + e->left + (long)e->dropped;
    long least = between(e, &e->begun_made, &e->ended_closed);
    long most = between(e, &e->ended_before, &e->begun_closed);
    if ((counted < least && e->o.when_full != LEAT_KEEP_LATEST) || counted > most)
        complain("%s, %d: heard %ld, dropped %ld, left %d; not %ld to %ld", e->what->pattern,
                 e->o.when_full, heard, (long)e->dropped, e->left, least, most);
}

// ---- rounds

struct crew {
    pthread_t thread[PUBLISHERS + CHURNERS + PULLERS + DISPATCHERS + 2];
    int count;
};

static void start(struct crew *crew, int n, void *(*run)(void *arg), void *arg) {
    for (int i = 0; i < n; i++)
        cr_assert_eq(pthread_create(&crew->thread[crew->count++], NULL, run, arg), 0);
}

static void join(struct crew *crew) {
    while (crew->count > 0)
        cr_assert_eq(pthread_join(crew->thread[--crew->count], NULL), 0);
}

static void round_begin(bool polled) {
    leat_options o = { .callbacks = polled ? LEAT_CALLBACKS_POLL : 0 };
    cr_assert_eq(leat_open_memory(&o, &mq), 0, "%s", leat_errmsg());
    cr_assert_not_null(ears = calloc(EARS, sizeof *ears));
    for (int w = 0; w < WHO; w++)
        for (int c = 0; c < CHANNELS; c++) {
            atomic_store(&begun[w][c], 0);
            atomic_store(&ended[w][c], 0);
            atomic_store(&sum_heard[c], 0);
            atomic_store(&sum_full[c], 0);
        }
    atomic_store(&ear_count, 0);
    atomic_store(&who_count, 0);
    atomic_store(&pullers_done, 0);
    atomic_store(&dispatchers_done, 0);
    atomic_store(&over, false);
    atomic_store(&shut, false);
    atomic_store(&sent, 0);
    held.over = tick.free = false;
    cr_assert(sem_init(&tick.asked, 0, 0) == 0 && sem_init(&half, 0, 0) == 0);
    atomic_fetch_add(&round_number, 1);
    (void)self();
}

// Ends the threads that look and dispatch. Publishes until those who wait have something.
static void round_stop(struct crew *others, int dispatchers) {
    struct ear *bye = NULL;
    leat_subscription_options o = { .buffer = 4 };
    if (dispatchers && !atomic_load(&shut))
        bye = ear_make(&whats[WHATS - 1], &o, false, 0);
    set_free(true);
    atomic_store(&over, true);
    (void)sem_post(&tick.asked);
    while (atomic_load(&dispatchers_done) < dispatchers && !atomic_load(&shut))
        (void)publish(BYE);
    join(others);
    ear_close(bye, false, 0);
}

static void round_end(void) {
    int n = atomic_load(&ear_count);
    for (int i = 0; i < n && i < EARS; i++)
        if (ears[i].what)
            check_ear(&ears[i]);
    free(ears);
    ears = NULL;
    (void)sem_destroy(&tick.asked);
    (void)sem_destroy(&half);
    cr_assert(!atomic_load(&failed), "%s", complaint);
}

static void come_and_go(bool polled, enum round_end how) {
    struct crew work = { .count = 0 }, publishers = work, others = work, releaser = work;
    int dispatchers = polled ? DISPATCHERS : 0;
    round_begin(polled);
    halfway = PUBLISHERS * SENDS / 2;
    start(&releaser, 1, release_all, NULL);
    start(&others, 1, observe, NULL);
    start(&others, dispatchers, run_dispatcher, NULL);
    start(&work, CHURNERS, run_churner, NULL);
    start(&work, PULLERS, run_puller, NULL);
    start(&publishers, PUBLISHERS, run_publisher, NULL);
    if (how == END_SHUTDOWN) {
        wait_for(&half);
        atomic_store(&shut, true);
        cr_assert_eq(leat_shutdown(mq), 0, "%s", leat_errmsg());
        set_free(true);
    }
    join(&publishers);
    while (atomic_load(&pullers_done) < PULLERS && !atomic_load(&shut))
        (void)publish((int)draw(PLAIN));
    set_free(true);
    join(&work);
    for (int i = 0; i < SLOTS && how != END_ALL; i++)
        ear_close(atomic_exchange(&slot_ear[i], NULL), false, draw(2) ? LEAT_FOREVER : 0);
    round_stop(&others, dispatchers);
    for (int i = 0; i < SLOTS; i++) { // of callbacks that came last
        struct ear *e = atomic_exchange(&slot_ear[i], NULL);
        ear_close(how != END_ALL ? e : NULL, false, 0);
    }
    held_end();
    join(&releaser);
    int rc = how == END_ORDERLY ? leat_close(mq, 0) : leat_close_all(mq, 0);
    cr_assert(rc == 0 || (rc > 0 && how == END_ALL), "%d: %s", rc, leat_errmsg());
    round_end();
}

static void come_and_go_all(bool polled) {
    for (int i = 0; i < SEEDS * ENDS; i++)
        come_and_go(polled, (enum round_end)(i % ENDS));
}

Test(pubsub_stress, who_comes_and_goes_hears_all_or_is_told) {
    come_and_go_all(false);
}

Test(pubsub_stress, who_comes_and_goes_where_callbacks_are_polled) {
    come_and_go_all(true);
}
