/* SPDX-License-Identifier: MIT */
// Pub/sub under load where nobody comes or goes, so that all numbers are known: four threads
// publish on four channels to subscriptions of every kind. What each heard, lost and left is what
// was published; what publish said is what was taken. Then with some that are held in their
// callbacks until all others have heard everything; and shutdowns beside pulls.
#include <leat.h>

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "lib/complain.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SENDS = 3000, ROUNDS = 2, SHUTDOWNS = 200 };
#else
enum { SENDS = 10000, ROUNDS = 4, SHUTDOWNS = 400 };
#endif

enum { PUBLISHERS = 4, WHO = 5, CHANNELS = 4, KEYS = 4, STOP = 100 };

static const char *const channel_name[CHANNELS] = { "c.0", "c.1", "c.2", "c.3" };

struct note { // what is published
    uint32_t who, channel, seq, key;
};

enum how { INLINE, CALLED, NEXT, POLLS };

struct listener {
    const char *pattern;
    unsigned mask; // of channels
    enum how how;
    leat_subscription_options o;
    leat_subscription *s;
    atomic_long heard;
    atomic_int running, ends;
    long told, left; // m.dropped; by the close
    leat_subscription_stats st;
    uint32_t last[WHO][CHANNELS], last_of_key[WHO][CHANNELS][KEYS];
};

static leat *mq;
static atomic_bool over;
static uint32_t seqs[WHO][CHANNELS];                           // each its publisher's
static uint32_t last_of_key[WHO][CHANNELS][KEYS];              // published
static atomic_long sum_heard[CHANNELS], sum_refused[CHANNELS]; // of publishes

static void publish(int who, int c) {
    uint32_t seq = ++seqs[who][c], key = seq % KEYS;
    struct note x = { (uint32_t)who, (uint32_t)c, seq, key };
    char name = (char)('a' + key);
    leat_record r = { .key = { &name, 1 }, .value = { &x, sizeof x } };
    last_of_key[who][c][key] = seq;
    int rc = leat_publish_record(mq, channel_name[c], &r);
    if (rc < 0 && rc != LEAT_EFULL)
        complain("publish: %d, %s", rc, leat_errmsg());
    atomic_fetch_add(rc < 0 ? &sum_refused[c] : &sum_heard[c], rc < 0 ? 1 : rc);
}

static void *run_publisher(void *arg) {
    int who = *(int *)arg;
    for (int i = 0; i < SENDS; i++)
        publish(who, (i + who) % CHANNELS);
    return NULL;
}

// ---- who listens

static void listen_note(struct listener *l, const leat_message *m) {
    struct note x = { WHO, 0, 0, 0 };
    if (m->value.size == sizeof x)
        memcpy(&x, m->value.data, sizeof x);
    if (x.who >= WHO || x.channel >= CHANNELS || x.key >= KEYS || !(l->mask & 1u << x.channel) ||
        strcmp(m->topic, channel_name[x.channel]) != 0) {
        complain("%s: what is this on %s?", l->pattern, m->topic);
        return;
    }
    uint32_t *last = l->o.when_full == LEAT_KEEP_LATEST ? &l->last_of_key[x.who][x.channel][x.key]
                                                        : &l->last[x.who][x.channel];
    if (x.seq <= *last)
        complain("%s: %u after %u", l->pattern, x.seq, *last);
    *last = x.seq;
    if (l->how != INLINE)
        l->told += (long)m->dropped;
    atomic_fetch_add(&l->heard, 1);
}

static void listen_hear(leat_subscription *s, const leat_message *m, void *ctx) {
    struct listener *l = ctx;
    (void)s;
    if (atomic_fetch_add(&l->running, 1) != 0 && l->how != INLINE)
        complain("%s: called twice at once", l->pattern);
    listen_note(l, m);
    atomic_fetch_sub(&l->running, 1);
}

static void listen_ended(void *ctx) {
    struct listener *l = ctx;
    if (atomic_fetch_add(&l->ends, 1) != 0)
        complain("%s: ended twice", l->pattern);
}

// Until the fifth has published on that channel, or all came.
static void *run_puller(void *arg) {
    struct listener *l = arg;
    int channel = l->mask & 1 ? 0 : l->mask & 2 ? 1 : 2;
    int fd = l->how == POLLS ? leat_subscription_fd(l->s) : -1;
    struct pollfd p = { .fd = fd, .events = POLLIN };
    while (l->last[WHO - 1][channel] == 0) {
        leat_message m;
        if (l->how == POLLS && poll(&p, 1, -1) != 1) // EINTR
            continue;
        int n = leat_subscription_next(l->s, l->how == POLLS ? 0 : LEAT_FOREVER, &m);
        if (n == LEAT_EGONE)
            break;
        if (n < 0)
            complain("next: %d, %s", n, leat_errmsg());
        if (n == 1) {
            listen_note(l, &m);
            (void)leat_message_release(mq, &m);
        }
    }
    return NULL;
}

static void listen_open(struct listener *l) {
    l->o.on_end = listen_ended;
    bool pulled = l->how == NEXT || l->how == POLLS;
    int rc = leat_channel_subscribe(mq, l->pattern, pulled ? NULL : listen_hear, l, &l->o, &l->s);
    cr_assert_eq(rc, 0, "%s", leat_errmsg());
}

static void listen_close(struct listener *l) {
    l->left = leat_subscription_close(l->s, LEAT_FOREVER);
    cr_assert_eq(l->left, 0, "%s: %s", l->pattern, leat_errmsg());
    cr_assert_eq(atomic_load(&l->ends), 1);
}

// ---- all of them

#define BUFFER(n, choice) .buffer = (n), .when_full = (choice)

static const struct listener all[] = {
    { .pattern = "c.0", .mask = 1, .how = INLINE },
    { .pattern = "[cx].[012]", .mask = 7, .how = INLINE },
    { .pattern = "c.1", .mask = 2, .how = INLINE, .o = { .stop_after = STOP } },
    { .pattern = "[cx].[012]", .mask = 7, .how = CALLED, .o = { BUFFER(4, LEAT_DROP_OLDEST) } },
    { .pattern = "c.0",
      .mask = 1,
      .how = CALLED,
      .o = { .buffer_bytes = 80, .when_full = LEAT_DROP_NEWEST } },
    { .pattern = "[cx].[012]", .mask = 7, .how = CALLED, .o = { BUFFER(64, LEAT_KEEP_LATEST) } },
    { .pattern = "c.1",
      .mask = 2,
      .how = CALLED,
      .o = { BUFFER(3, LEAT_BLOCK), .block_ms = LEAT_FOREVER } },
    { .pattern = "c.2",
      .mask = 4,
      .how = CALLED,
      .o = { BUFFER(2, LEAT_BLOCK), .block_ms = 1, .tokens = 1 } },
    { .pattern = "c.2",
      .mask = 4,
      .how = CALLED,
      .o = { BUFFER(600, LEAT_BLOCK), .block_ms = LEAT_ZERO } },
    { .pattern = "c.0",
      .mask = 1,
      .how = NEXT,
      .o = { BUFFER(5, LEAT_BLOCK), .block_ms = LEAT_FOREVER } },
    { .pattern = "c.1",
      .mask = 2,
      .how = POLLS,
      .o = { BUFFER(5, LEAT_BLOCK), .block_ms = LEAT_FOREVER } },
    { .pattern = "c.2", .mask = 4, .how = NEXT, .o = { BUFFER(8, LEAT_DROP_OLDEST) } },
    { .pattern = "c.2",
      .mask = 4,
      .how = CALLED,
      .o = { BUFFER(3, LEAT_BLOCK), .block_ms = LEAT_FOREVER, .stop_after = STOP } },
    { .pattern = "c.0",
      .mask = 1,
      .how = POLLS,
      .o = { BUFFER(2, LEAT_BLOCK), .block_ms = LEAT_FOREVER, .stop_after = STOP } },
    { .pattern = "c.3", .mask = 8, .how = CALLED, .o = { BUFFER(2, LEAT_FAIL) } },
    { .pattern = "c.3", .mask = 8, .how = INLINE },
};
enum { ALL = sizeof all / sizeof all[0] };

static struct listener now[ALL];
static leat_subscription *bye;

static long published(unsigned mask) {
    long n = 0;
    for (int w = 0; w < WHO; w++)
        for (int c = 0; c < CHANNELS; c++)
            n += mask & 1u << c ? (long)seqs[w][c] : 0;
    return n;
}

// The last on a channel with a key is heard: some publisher's last.
static void check_latest(const struct listener *l) {
    for (int c = 0; c < CHANNELS; c++)
        for (int k = 0; k < KEYS && l->mask & 1u << c; k++) {
            bool heard = false;
            for (int w = 0; w < WHO; w++)
                heard |=
                    last_of_key[w][c][k] != 0 && l->last_of_key[w][c][k] == last_of_key[w][c][k];
            cr_assert(heard, "the last of key %d on %s is missing", k, channel_name[c]);
        }
}

// Returns  how many it has taken, as publish has it.
static long check_listener(const struct listener *l) {
    long heard = atomic_load(&l->heard), dropped = (long)l->st.dropped, sum = published(l->mask);
    const char *name = l->pattern;
    if (l->o.stop_after) {
        cr_assert_eq(heard, STOP);
        return STOP;
    }
    if (l->how == INLINE) {
        cr_assert_eq(heard, sum, "%s: %ld of %ld", name, heard, sum);
        return heard;
    }
    if (l->o.buffer)
        cr_assert(l->st.waiting_max <= (uint64_t)l->o.buffer, "%s", name);
    if (l->o.when_full == LEAT_KEEP_LATEST) {
        cr_assert(dropped == 0 && heard <= sum, "%s: %ld", name, dropped);
        check_latest(l);
        return sum;
    }
    cr_assert_eq(heard + dropped, sum, "%s, %d: heard %ld, dropped %ld, of %ld", name,
                 l->o.when_full, heard, dropped, sum);
    cr_assert(l->told <= dropped, "%s: %ld, told %ld", name, dropped, l->told);
    if (l->o.block_ms == LEAT_FOREVER)
        cr_assert_eq(dropped, 0, "%s: %ld", name, dropped);
    if (l->o.when_full == LEAT_DROP_OLDEST) // the last one always comes
        cr_assert_eq(l->told, dropped, "%s: %ld, told %ld", name, dropped, l->told);
    return l->o.when_full == LEAT_DROP_OLDEST ? sum : heard;
}

static void *run_dispatcher(void *arg) {
    int rc = 0;
    while (rc >= 0 && !atomic_load(&over))
        rc = leat_dispatch(mq, LEAT_FOREVER);
    if (rc < 0)
        complain("dispatch: %d, %s", rc, leat_errmsg());
    return arg;
}

static void store_begin(bool polled) {
    leat_options o = { .callbacks = polled ? LEAT_CALLBACKS_POLL : 0 };
    cr_assert_eq(leat_open_memory(&o, &mq), 0, "%s", leat_errmsg());
    memset(seqs, 0, sizeof seqs);
    memset(last_of_key, 0, sizeof last_of_key);
    for (int c = 0; c < CHANNELS; c++) {
        atomic_store(&sum_heard[c], 0);
        atomic_store(&sum_refused[c], 0);
    }
    atomic_store(&over, false);
}

static void store_end(void) {
    cr_assert_eq(leat_close(mq, 0), 0, "%s", leat_errmsg());
    cr_assert(!atomic_load(&failed), "%s", complaint);
}

static void start(pthread_t *t, void *(*run)(void *arg), void *arg) {
    cr_assert_eq(pthread_create(t, NULL, run, arg), 0);
}

static void publish_all(void) {
    static int who[PUBLISHERS] = { 0, 1, 2, 3 };
    pthread_t t[PUBLISHERS];
    for (int i = 0; i < PUBLISHERS; i++)
        start(&t[i], run_publisher, &who[i]);
    for (int i = 0; i < PUBLISHERS; i++)
        cr_assert_eq(pthread_join(t[i], NULL), 0);
    for (int c = 0; c < CHANNELS; c++)
        publish(WHO - 1, c);
}

static void hear_bye(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    (void)ctx;
}

static pthread_t dispatcher;

static void dispatch_begin(void) {
    leat_subscription_options o = { .buffer = 1 };
    cr_assert_eq(leat_channel_subscribe(mq, "bye", hear_bye, NULL, &o, &bye), 0);
    start(&dispatcher, run_dispatcher, NULL);
}

static void dispatch_end(void) {
    atomic_store(&over, true);
    cr_assert_eq(leat_publish(mq, "bye", "", 0), 1); // or it would sleep on
    cr_assert_eq(pthread_join(dispatcher, NULL), 0);
    cr_assert(leat_subscription_close(bye, 0) >= 0);
}

static void add_up(bool polled) {
    pthread_t puller[ALL];
    store_begin(polled);
    memcpy(now, all, sizeof now);
    for (int i = 0; i < ALL; i++) {
        listen_open(&now[i]);
        if (now[i].how == NEXT || now[i].how == POLLS)
            start(&puller[i], run_puller, &now[i]);
    }
    if (polled)
        dispatch_begin();
    publish_all();
    for (int i = 0; i < ALL; i++) {
        struct listener *l = &now[i];
        if (l->how == NEXT || l->how == POLLS)
            cr_assert_eq(pthread_join(puller[i], NULL), 0);
        if (l->how != INLINE)
            cr_assert_eq(leat_subscription_get_stats(l->s, &l->st, sizeof l->st), 0);
    }
    for (int i = 0; i < ALL; i++)
        listen_close(&now[i]);
    if (polled)
        dispatch_end();
    long took = 0, refused = 0;
    for (int i = 0; i < ALL; i++) {
        took += check_listener(&now[i]);
        refused += now[i].o.when_full == LEAT_FAIL ? (long)now[i].st.dropped : 0;
    }
    long said = 0;
    for (int c = 0; c < CHANNELS; c++)
        said += atomic_load(&sum_heard[c]);
    cr_assert_eq(atomic_load(&sum_refused[3]), refused);
    cr_assert_eq(said + refused, took, "publish said %ld, %ld were taken", said + refused, took);
    store_end();
}

Test(pubsub_still_stress, nobody_comes_or_goes_and_all_adds_up) {
    for (int i = 0; i < ROUNDS; i++)
        add_up(i % 2 == 1);
}

// ---- some are held

static struct gate {
    sem_t inside, open;
    atomic_int calls;
    uint32_t seq[8];
} gate[2];

static void hear_at_gate(leat_subscription *s, const leat_message *m, void *ctx) {
    struct gate *g = ctx;
    struct note x;
    (void)s;
    memcpy(&x, m->value.data, sizeof x);
    if (g == &gate[1] && x.who != 0) // inline: of the first publisher only
        return;
    int n = atomic_fetch_add(&g->calls, 1);
    if (n < 8)
        g->seq[n] = x.seq;
    if (n == 0) {
        (void)sem_post(&g->inside);
        wait_for(&g->open);
    }
}

static void *run_first(void *arg) {
    publish(0, 3);
    return arg;
}

// One is held on the callback thread, one inline in the first thread's publish; all others publish,
// hear, subscribe and close.
static void hold_up(bool polled, int32_t when_full) {
    leat_subscription *slow[2], *other;
    pthread_t first, puller[2];
    struct listener others[] = { { .pattern = "c.0", .mask = 1, .how = INLINE },
                                 { .pattern = "c.*", .mask = 15, .how = INLINE },
                                 { .pattern = "c.0",
                                   .mask = 1,
                                   .how = NEXT,
                                   .o = { BUFFER(3, LEAT_BLOCK), .block_ms = LEAT_FOREVER } },
                                 { .pattern = "c.1",
                                   .mask = 2,
                                   .how = POLLS,
                                   .o = { BUFFER(3, LEAT_BLOCK), .block_ms = LEAT_FOREVER } } };
    leat_subscription_options o = { BUFFER(4, when_full) };
    static int who[2] = { 1, 2 };
    pthread_t publisher[2];
    store_begin(polled);
    for (int i = 0; i < 2; i++) {
        cr_assert(sem_init(&gate[i].inside, 0, 0) == 0 && sem_init(&gate[i].open, 0, 0) == 0);
        atomic_store(&gate[i].calls, 0);
    }
    cr_assert_eq(leat_channel_subscribe(mq, "c.2", hear_at_gate, &gate[0], &o, &slow[0]), 0);
    cr_assert_eq(leat_channel_subscribe(mq, "c.3", hear_at_gate, &gate[1], NULL, &slow[1]), 0);
    for (int i = 0; i < 4; i++)
        listen_open(&others[i]);
    if (polled)
        dispatch_begin();
    publish(WHO - 2, 2);
    wait_for(&gate[0].inside);
    start(&first, run_first, NULL);
    wait_for(&gate[1].inside);
    for (int i = 0; i < 2; i++) {
        start(&puller[i], run_puller, &others[2 + i]);
        start(&publisher[i], run_publisher, &who[i]);
    }
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(publisher[i], NULL), 0);
    publish(WHO - 1, 0);
    publish(WHO - 1, 1);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(puller[i], NULL), 0);
    cr_assert_eq(leat_channel_subscribe(mq, "c.2", hear_bye, NULL, &o, &other), 0);
    cr_assert_eq(leat_subscription_close(other, 0), 0);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(atomic_load(&others[i].heard), published(others[i].mask) - (i == 1));
        if (i != 1)
            listen_close(&others[i]);
    }
    (void)sem_post(&gate[1].open);
    cr_assert_eq(pthread_join(first, NULL), 0);
    cr_assert_eq(atomic_load(&others[1].heard), published(15));
    listen_close(&others[1]);
    cr_assert_eq(leat_subscription_close(slow[1], 0), 0);
    (void)sem_post(&gate[0].open);
    leat_subscription_stats st;
    cr_assert_eq(leat_subscription_get_stats(slow[0], &st, sizeof st), 0);
    cr_assert_eq((long)st.dropped, published(4) - 1 - 4);
    cr_assert_eq(leat_subscription_close(slow[0], LEAT_FOREVER), 0);
    cr_assert_eq(atomic_load(&gate[0].calls), 1 + 4);
    if (polled)
        dispatch_end();
    store_end();
}

Test(pubsub_still_stress, who_is_held_in_a_callback_delays_nobody) {
    for (int i = 0; i < ROUNDS; i++)
        hold_up(i % 2 == 1, i < ROUNDS / 2 ? LEAT_DROP_OLDEST : LEAT_DROP_NEWEST);
}

// A publisher that waits for room after it has called an inline one is no longer at that one.
Test(pubsub_still_stress, who_waits_for_room_keeps_nobody_from_closing) {
    leat_subscription_options o = { BUFFER(1, LEAT_BLOCK), .block_ms = LEAT_FOREVER };
    leat_subscription *heard, *full;
    leat_message m;
    pthread_t first;
    store_begin(false);
    cr_assert(sem_init(&gate[1].inside, 0, 0) == 0 && sem_init(&gate[1].open, 0, 1) == 0);
    cr_assert_eq(leat_channel_subscribe(mq, "c.*", NULL, NULL, &o, &full), 0);
    publish(1, 3);
    atomic_store(&gate[1].calls, 0);
    cr_assert_eq(leat_channel_subscribe(mq, "c.3", hear_at_gate, &gate[1], NULL, &heard), 0);
    start(&first, run_first, NULL); // hears by its name first, then waits
    wait_for(&gate[1].inside);
    cr_assert_eq(leat_subscription_close(heard, 0), 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(leat_subscription_next(full, LEAT_FOREVER, &m), 1, "%s", leat_errmsg());
        cr_assert_eq(leat_message_release(mq, &m), 0);
    }
    cr_assert_eq(pthread_join(first, NULL), 0);
    cr_assert_eq(leat_subscription_close(full, 0), 0);
    store_end();
}

// ---- shutdowns

static pthread_barrier_t together;
static atomic_int pulls;

static void *run_shutdown(void *arg) {
    (void)pthread_barrier_wait(&together);
    for (int n = *(int *)arg; atomic_load(&pulls) < n;) // in the middle of one
        continue;
    if (leat_shutdown(mq) != 0)
        complain("shutdown: %s", leat_errmsg());
    return NULL;
}

Test(pubsub_still_stress, a_descriptor_shines_after_a_shutdown_beside_a_pull) {
    cr_assert_eq(pthread_barrier_init(&together, NULL, 2), 0);
    for (int i = 0; i < SHUTDOWNS; i++) {
        leat_subscription *s;
        leat_subscription_options o = { .buffer = 4 };
        leat_message m;
        pthread_t t;
        store_begin(true);
        cr_assert_eq(leat_channel_subscribe(mq, "c.0", NULL, NULL, &o, &s), 0);
        struct pollfd p = { .fd = leat_subscription_fd(s), .events = POLLIN };
        int pull = 1 + i % 30;
        atomic_store(&pulls, 0);
        start(&t, run_shutdown, &pull);
        (void)pthread_barrier_wait(&together);
        while (leat_publish(mq, "c.0", "", 0) == 1) {
            atomic_fetch_add(&pulls, 1);
            if (leat_subscription_next(s, 0, &m) == 1)
                (void)leat_message_release(mq, &m);
        }
        cr_assert_eq(pthread_join(t, NULL), 0);
        cr_assert_eq(poll(&p, 1, 0), 1, "dark after a shutdown, in round %d", i);
        cr_assert(leat_subscription_close(s, 0) >= 0); // one may have come and not been taken
        cr_assert_eq(leat_close_all(mq, 0), 0, "%s", leat_errmsg());
        cr_assert(!atomic_load(&failed), "%s", complaint);
    }
    (void)pthread_barrier_destroy(&together);
}
