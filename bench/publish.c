/* SPDX-License-Identifier: MIT */
// publish: a value on a channel, heard by callbacks on the publishing thread before the publish
// returns; nothing is stored. The peers hand it to a subscriber on another thread.
//
// limit is the least that any such publish must do: a hash of the channel's name, a look into a
// table with a memcmp, and an indirect call of the same callback for each subscriber.
//
// Of several subscribers, who are all shown the same bytes, the first adds up all of them, the
// others look at the numbers at both ends: adding up 100 bytes takes as long as bringing them.
#include "payload.h"
#include "peers.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { SUBSCRIBERS_MAX = 100, PATTERNS = 1000, QUEUED = 10000 }; // QUEUED: ZeroMQ's mark

static void hear(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    tally_add(ctx, m->value.data, m->value.size);
}

static void hear_ends(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    tally_ends(ctx, m->value.data, m->value.size);
}

static leat_message_fn hearer(size_t i) {
    return i == 0 ? hear : hear_ends;
}

static void check_heard(const struct tally *seen, size_t n, size_t work) {
    for (size_t i = 0; i < n; i++)
        tally_check(&seen[i], i == 0 ? VALUE : ENDS, work, 1);
}

// ---- leat

static leat *open_store(void) {
    leat *mq;
    must(leat_open_memory(NULL, &mq), "leat_open_memory");
    return mq;
}

static void subscribe(leat *mq, const char *pattern, leat_message_fn fn, struct tally *seen) {
    leat_subscription *s;
    must(leat_channel_subscribe(mq, pattern, fn, seen, NULL, &s), "leat_channel_subscribe");
}

// Publishes a second.
static double publish_all(leat *mq, size_t work, int subscribers) {
    unsigned char value[VALUE];
    payload_init(value, sizeof value);
    double begin = now_s();
    for (size_t i = 0; i < work; i++) {
        payload_number(value, sizeof value, i);
        int n = leat_publish(mq, CHANNEL, value, sizeof value);
        must(n, "leat_publish");
        if (n != subscribers)
            fail("%d heard a publish, not %d", n, subscribers);
    }
    double took = now_s() - begin;
    must(leat_close_all(mq, 0), "leat_close_all");
    return (double)work / took;
}

static void publish_inline(struct run *r, int subscribers) {
    static struct tally seen[SUBSCRIBERS_MAX];
    size_t n = (size_t)subscribers, work = r->work / n;
    leat *mq = open_store();
    for (size_t i = 0; i < n; i++)
        subscribe(mq, CHANNEL, hearer(i), &seen[i]);
    r->figure[0] = publish_all(mq, work, subscribers) * subscribers;
    check_heard(seen, n, work);
}

static void leat_inline_1(struct run *r) {
    publish_inline(r, 1);
}

static void leat_inline_100(struct run *r) {
    publish_inline(r, 100);
}

// One that matches, and `others` which differ from the channel in their first character.
static double publish_patterns(size_t work, int others) {
    struct tally seen = { 0 }, none = { 0 };
    leat *mq = open_store();
    for (int i = 0; i < others; i++) {
        char pattern[32];
        (void)snprintf(pattern, sizeof pattern, "%c%03d.*", "abcdefgh"[i % 8], i);
        subscribe(mq, pattern, hear, &none);
    }
    subscribe(mq, "orders.*", hear, &seen);
    double rate = publish_all(mq, work, 1);
    check_heard(&seen, 1, work);
    if (none.count || none.torn)
        fail("a pattern that does not match was called");
    return rate;
}

static void leat_patterns(struct run *r) {
    r->figure[0] = publish_patterns(r->work, PATTERNS);
    r->figure[1] = publish_patterns(r->work * 10, 0);
}

// ---- queued: to another thread, which calls back; the publisher waits where there is no room

struct queued {
    struct tally seen;
    size_t work, heard;
    bool done;
    pthread_mutex_t lock;
    pthread_cond_t end;
};

static void hear_queued(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct queued *q = ctx;
    tally_add(&q->seen, m->value.data, m->value.size);
    if (++q->heard < q->work)
        return;
    (void)pthread_mutex_lock(&q->lock);
    q->done = true;
    (void)pthread_cond_signal(&q->end);
    (void)pthread_mutex_unlock(&q->lock);
}

static void leat_queued(struct run *r) {
    struct queued q = { .work = r->work,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .end = PTHREAD_COND_INITIALIZER };
    unsigned char value[VALUE];
    leat *mq = open_store();
    leat_subscription *s;
    leat_subscription_options o = { .buffer = QUEUED,
                                    .when_full = LEAT_BLOCK,
                                    .block_ms = LEAT_FOREVER };
    must(leat_channel_subscribe(mq, CHANNEL, hear_queued, &q, &o, &s), "leat_channel_subscribe");
    payload_init(value, sizeof value);
    double begin = now_s();
    for (size_t i = 0; i < r->work; i++) {
        payload_number(value, sizeof value, i);
        must(leat_publish(mq, CHANNEL, value, sizeof value), "leat_publish");
    }
    (void)pthread_mutex_lock(&q.lock);
    while (!q.done)
        (void)pthread_cond_wait(&q.end, &q.lock);
    (void)pthread_mutex_unlock(&q.lock);
    r->figure[0] = (double)r->work / (now_s() - begin);
    must(leat_subscription_close(s, 0), "leat_subscription_close");
    must(leat_close(mq, 0), "leat_close");
    tally_check(&q.seen, VALUE, r->work, 1);
}

// ---- the limit

enum { SLOTS = 64 };

struct bare_channel {
    const char *name; // NULL: a free slot
    size_t length, subscribers;
    leat_message message; // made once: only its value is new in each publish
    leat_message_fn fn[SUBSCRIBERS_MAX];
    void *ctx[SUBSCRIBERS_MAX];
};

static size_t bare_hash(const char *name, size_t length) { // FNV-1a
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)name[i]) * 1099511628211u;
    return h % SLOTS;
}

// Not inlined, nor is its channel a constant: neither hash nor callback is known at the build.
__attribute__((noinline)) static size_t bare_publish(struct bare_channel *const table[SLOTS],
                                                     const char *channel, const void *data,
                                                     size_t size) {
    size_t length = strlen(channel);
    struct bare_channel *c = table[bare_hash(channel, length)];
    if (!c || c->length != length || memcmp(c->name, channel, length) != 0)
        return 0;
    c->message.value = (leat_bytes){ data, size };
    for (size_t i = 0; i < c->subscribers; i++)
        c->fn[i](NULL, &c->message, c->ctx[i]);
    return c->subscribers;
}

static void bare_inline(struct run *r, size_t subscribers) {
    static struct tally seen[SUBSCRIBERS_MAX];
    static struct bare_channel *table[SLOTS];
    unsigned char value[VALUE];
    char name[] = CHANNEL;
    size_t work = r->work / subscribers;
    struct bare_channel *c = calloc(1, sizeof *c);
    need(c != NULL, "calloc");
    c->name = name;
    c->length = strlen(name);
    c->subscribers = subscribers;
    c->message = (leat_message){ .topic = name, .offset = -1 };
    for (size_t i = 0; i < subscribers; i++) {
        c->fn[i] = hearer(i);
        c->ctx[i] = &seen[i];
    }
    table[bare_hash(name, c->length)] = c;
    payload_init(value, sizeof value);
    double begin = now_s();
    for (size_t i = 0; i < work; i++) {
        payload_number(value, sizeof value, i);
        if (bare_publish(table, name, value, sizeof value) != subscribers)
            fail("the channel was not found");
    }
    r->figure[0] = (double)(work * subscribers) / (now_s() - begin);
    check_heard(seen, subscribers, work);
    free(c);
}

static void limit_inline_1(struct run *r) {
    bare_inline(r, 1);
}

static void limit_inline_100(struct run *r) {
    bare_inline(r, 100);
}

static const struct bench table[] = {
    { .name = "publish-inline-1",
      .about = "deliveries to one subscriber of a channel",
      .work = 4000000,
      .quick = 400000,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_inline_1 },
               { "limit", limit_inline_1 },
               { "zeromq", zeromq_publish },
               { "redis", redis_publish } } },
    { .name = "publish-inline-100",
      .about = "deliveries to 100 subscribers of a channel",
      .work = 20000000,
      .quick = 2000000,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_inline_100 }, { "limit", limit_inline_100 } } },
    { .name = "publish-patterns",
      .about = "publishes to one pattern that matches among 1,000 others; -one-pattern: alone",
      .work = 200000,
      .quick = 30000,
      .line = { { "", "op/s", "higher" }, { "-one-pattern", "op/s", "higher" } },
      .who = { { "leat", leat_patterns } } },
    { .name = "publish-queued",
      .about = "publishes to one subscriber on another thread, 10,000 may wait",
      .work = 4000000,
      .quick = 400000,
      .line = { { "", "op/s", "higher" } },
      .who = { { "leat", leat_queued },
               { "zeromq", zeromq_publish },
               { "redis", redis_publish } } },
};

int main(int argc, char **argv) {
    return bench_main(argc, argv, table, sizeof table / sizeof table[0]);
}
