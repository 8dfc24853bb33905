/* SPDX-License-Identifier: MIT */
// The work, in lives of a store: the first does everything, the second recovers and does a little,
// the third and fourth have no faults and are held to what is owed. A caller that is refused goes
// on with what it has: handles that are not there are left out.
#include "lib/faults_work.h"

#include "leat_test.h"
#include "store/store.h"

#include <string.h>

enum { FAULTS_RECORD = 3000, FAULTS_BIG = 20000, HOUR_MS = 3600000 };

struct handles { // NULL: not there, and what needs it is left out
    leat_topic *log, *gone;
    leat_producer *fast, *safe; // acks LOG, acks DISK
    leat_consumer *c, *alone;
    leat_queue *q, *dead, *over;
    leat_subscription *ear;
    int64_t position[ORACLE_PARTS];
    leat_message kept;
    bool holds, committed;
};

// Makes a call, once more if it may fail once only; tells whether it succeeded. (Statement
// expressions are not C11, so the call is written where it can be repeated.)
#define TRIED(o, what, rc, call)                                                                   \
    (((rc) = (call)), oracle_fits(o, what, rc, 0) ||                                               \
                          (oracle_again(o) && ((rc) = (call), oracle_must(o, what, rc, 0))))

// ---- the store

static int faults_open_store(struct oracle *o) {
    leat_options options = { .threads = LEAT_NO_THREADS,
                             .clock = LEAT_CLOCK_JUMP,
                             .seed = 7,
                             .start_ms = o->wall_ms,
                             .write = o->write,
                             .alloc = failing_mem_fn,
                             .alloc_ctx = &o->mem };
    faulty_os_reborn(&o->os);
    memset(o->poisoned, 0, sizeof o->poisoned);
    o->mq = NULL;
    int rc = lt_store_open(o->memory ? NULL : o->dir, &options, &o->os.os, &o->mq);
    if ((rc == 0) != (o->mq != NULL))
        oracle_complain(o, "open: %d, and a store is %s", rc, o->mq ? "there" : "not there");
    if (rc != 0 && (o->os.fds != 0 || o->os.maps != 0 || o->mem.out != 0))
        oracle_complain(o, "a failed open leaves %ld descriptors, %ld mappings, %ld allocations",
                        o->os.fds, o->os.maps, o->mem.out);
    return rc;
}

static bool faults_open(struct oracle *o) {
    int rc = faults_open_store(o);
    if (!oracle_fits(o, "open", rc, 0) && oracle_again(o)) {
        rc = faults_open_store(o);
        if (rc != 0) // another life: nothing is poisoned any more
            oracle_complain(o, "open, again: %s (%s)", leat_errname(rc), leat_errmsg());
    }
    return rc == 0;
}

static void faults_close(struct oracle *o) {
    int64_t wall = o->wall_ms;
    if (leat_clock_now(o->mq, NULL, &wall) == 0)
        o->wall_ms = wall;
    int rc = leat_close_all(o->mq, 0);
    (void)oracle_fits(o, "close", rc, 0);
    if (o->mem_fault && rc != 0) // what it allocates it can do without
        oracle_complain(o, "close: %s for want of memory", leat_errname(rc));
    if (rc == LEAT_EBUSY || rc == LEAT_EDEADLK)
        oracle_complain(o, "close: the store is still there");
    o->mq = NULL;
    if (o->os.fds != 0 || o->os.maps != 0 || o->mem.out != 0)
        oracle_complain(o, "closed, and %ld descriptors, %ld mappings, %ld allocations are out",
                        o->os.fds, o->os.maps, o->mem.out);
}

// ---- the stream

static void faults_send(struct oracle *o, const struct handles *h, leat_topic *t, int32_t part,
                        size_t size, bool disk) {
    struct oracle_sending s = { .p = disk ? h->safe : h->fast,
                                .t = t,
                                .topic = t == h->log ? ON_LOG : ON_GONE,
                                .partition = part,
                                .size = size,
                                .disk = disk };
    if (!s.p || !t)
        return;
    int rc = oracle_send(o, &s);
    if (rc < 0 && rc != LEAT_EGONE && oracle_again(o)) {
        rc = oracle_send(o, &s);
        (void)oracle_must(o, "send, again", rc, 0);
    }
}

// Six of them make a batch of three for each partition.
static void faults_send_many(struct oracle *o, const struct handles *h, bool disk) {
    struct oracle_sending s = {
        .p = disk ? h->safe : h->fast, .t = h->log, .topic = ON_LOG, .disk = disk
    };
    if (!s.p || !s.t)
        return;
    int rc = oracle_send_many(o, &s, 6);
    if (rc < 0 && oracle_again(o))
        (void)oracle_must(o, "send many, again", oracle_send_many(o, &s, 6), 0);
}

static void faults_open_log(struct oracle *o, struct handles *h) {
    leat_topic_options two = { .partitions = 2, .segment_bytes = 16384 };
    leat_producer_options fast = { .name = "fast", .acks = LEAT_ACKS_LOG };
    leat_producer_options safe = { .name = "safe", .acks = LEAT_ACKS_DISK };
    int rc;
    bool made = TRIED(o, "topic open", rc, leat_topic_open(o->mq, "log", &two, &h->log));
    o->log_made = made ? SENT_YES : SENT_MAYBE;
    (void)TRIED(o, "producer open", rc, leat_producer_open(o->mq, &fast, &h->fast));
    (void)TRIED(o, "producer open", rc, leat_producer_open(o->mq, &safe, &h->safe));
}

static void faults_open_gone(struct oracle *o, struct handles *h) {
    leat_topic_options one = { .segment_bytes = 16384 };
    int rc;
    bool made = TRIED(o, "topic open", rc, leat_topic_open(o->mq, "gone", &one, &h->gone));
    o->gone_made = made ? SENT_YES : SENT_MAYBE;
}

static void faults_poll(struct oracle *o, struct handles *h) {
    const leat_message *m;
    bool again = oracle_again(o);
    for (int n; (n = leat_poll(h->c, 0, &m)) != 0;) {
        if (!oracle_fits(o, "poll", n, 0)) {
            if (!again)
                return;
            again = false; // it must succeed now
            continue;
        }
        for (int i = 0; i < n; i++) {
            (void)oracle_check(o, ON_LOG, &m[i]);
            int64_t *at = &h->position[m[i].partition % ORACLE_PARTS];
            if (m[i].offset != (*at < 0 ? 0 : *at))
                oracle_complain(o, "poll gives offset %lld after %lld", (long long)m[i].offset,
                                (long long)*at - 1);
            *at = m[i].offset + 1;
        }
    }
}

static void faults_commit(struct oracle *o, struct handles *h) {
    long asked = o->mem.asked;
    int rc = leat_commit(h->c);
    if (h->committed && o->mem.asked != asked)
        oracle_complain(o, "a commit allocates");
    h->committed = oracle_fits(o, "commit", rc, 0);
    oracle_commit_tried(o, h->position, h->committed);
    if (!h->committed && oracle_again(o)) {
        h->committed = oracle_must(o, "commit, again", leat_commit(h->c), 0);
        oracle_commit_tried(o, h->position, h->committed);
    }
}

static void faults_stream(struct oracle *o, struct handles *h) {
    int rc;
    for (int32_t i = 0; i < 6; i++)
        faults_send(o, h, h->log, i % 2, FAULTS_RECORD, i == 3);
    faults_send(o, h, h->log, 0, FAULTS_BIG, false);
    faults_send_many(o, h, false);
    if (!h->log || !TRIED(o, "consumer open", rc, leat_consumer_open(o->mq, "g", NULL, &h->c)))
        return;
    if (!TRIED(o, "subscribe", rc, leat_consumer_subscribe(h->c, "log")))
        return;
    faults_poll(o, h);
    faults_commit(o, h);
    for (int32_t i = 0; i < 5; i++)
        faults_send(o, h, h->log, i % 2, FAULTS_RECORD, i == 4);
    faults_poll(o, h);
    if (TRIED(o, "seek", rc, leat_consumer_seek(h->c, "log", 0, LEAT_BEGIN)))
        h->position[0] = 0;
    faults_poll(o, h);
    faults_commit(o, h);
    faults_send(o, h, h->log, 1, 100, true);
    faults_send_many(o, h, true);
    faults_async(o, h->log, false);
    faults_async(o, h->log, true);
}

// ---- the queues

static void faults_open_queues(struct oracle *o, struct handles *h) {
    leat_queue_options q = { .acks = LEAT_ACKS_LOG,
                             .deliveries_max = 2,
                             .visibility_timeout_ms = 1000,
                             .dead_letter = "dead" };
    leat_queue_options over = { .topic = "log" };
    int rc;
    bool made = TRIED(o, "queue open", rc, leat_queue_open(o->mq, "q", &q, &h->q));
    o->queue_made = made ? SENT_YES : SENT_MAYBE;
    (void)TRIED(o, "queue open", rc, leat_queue_open(o->mq, "dead", NULL, &h->dead));
    if (h->log)
        (void)TRIED(o, "queue open", rc, leat_queue_open(o->mq, "over", &over, &h->over));
}

static void faults_queue_send(struct oracle *o, const struct handles *h) {
    struct oracle_sending s = { .q = h->q, .topic = ON_QUEUE, .size = 200 };
    int rc = oracle_send(o, &s);
    if (rc < 0 && oracle_again(o))
        (void)oracle_must(o, "queue send, again", oracle_send(o, &s), 0);
}

static void faults_nack(struct oracle *o, struct handles *h, leat_message *m, int64_t delay) {
    leat_message copy = *m;
    int rc = leat_queue_nack(h->q, m, delay, 0);
    if (rc < 0 && (o->memory || o->write == LEAT_WRITE_MAPPED))
        oracle_complain(o, "nack: %s where it cannot fail", leat_errname(rc));
    if (!oracle_fits(o, "nack", rc, 0) && oracle_again(o))
        (void)oracle_must(o, "nack, again", leat_queue_nack(h->q, &copy, delay, 0), 0);
}

static void faults_take_dead(struct oracle *o, struct handles *h) {
    leat_message m;
    struct sent *x;
    if (h->dead && oracle_receive(o, h->dead, ON_DEAD, 5000, &m, &x) > 0)
        oracle_ack(o, h->dead, ON_DEAD, &m, x);
}

// One that is left alone until its lease ends, by a worker that dies without a word.
static void faults_expire(struct oracle *o, struct handles *h) {
    leat_message m;
    struct sent *x;
    if (oracle_receive(o, h->q, ON_QUEUE, 0, &m, &x) <= 0)
        return;
    (void)oracle_must(o, "release", leat_message_release(o->mq, &m), 0);
    (void)oracle_must(o, "release, twice", leat_message_release(o->mq, &m), LEAT_ESTALE);
    leat_message old = m;
    (void)oracle_must(o, "advance", leat_clock_advance(o->mq, 1000), 0);
    if (oracle_receive(o, h->q, ON_QUEUE, 0, &m, &x) <= 0)
        return;
    if (m.offset == old.offset)
        (void)oracle_must(o, "a stale ack", leat_queue_ack(h->q, &old), LEAT_ESTALE);
    else if (!o->sticky && oracle_faults(o) == 0)
        oracle_complain(o, "a lease that has ended brings nothing back");
    oracle_ack(o, h->q, ON_QUEUE, &m, x);
}

// One that is looked at for longer than its lease.
static void faults_hold(struct oracle *o, struct handles *h) {
    leat_message m;
    struct sent *x;
    int rc;
    if (oracle_receive(o, h->q, ON_QUEUE, 0, &m, &x) <= 0)
        return;
    h->holds = TRIED(o, "hold", rc, leat_message_hold(o->mq, &m, &h->kept));
    long asked = o->mem.asked;
    (void)oracle_must(o, "extend", leat_queue_extend(h->q, &m, 5000), 0);
    if (o->mem.asked != asked)
        oracle_complain(o, "extend allocates");
    oracle_ack(o, h->q, ON_QUEUE, &m, x);
    if (h->holds) {
        (void)oracle_check(o, ON_QUEUE, &h->kept);
        (void)oracle_must(o, "release of what was held", leat_message_release(o->mq, &h->kept), 0);
    }
}

static void faults_queue(struct oracle *o, struct handles *h) {
    leat_message m;
    struct sent *x;
    for (int i = 0; i < 7; i++)
        faults_queue_send(o, h);
    if (oracle_receive(o, h->q, ON_QUEUE, 0, &m, &x) > 0)
        oracle_ack(o, h->q, ON_QUEUE, &m, x);
    for (int i = 0; i < 2; i++) // the same one twice: it dies
        if (oracle_receive(o, h->q, ON_QUEUE, 0, &m, &x) > 0)
            faults_nack(o, h, &m, 0);
    faults_take_dead(o, h);
    faults_expire(o, h);
    faults_hold(o, h);
    if (oracle_receive(o, h->q, ON_QUEUE, 0, &m, &x) > 0)
        faults_nack(o, h, &m, 500);
    if (oracle_receive(o, h->q, ON_QUEUE, 0, &m, &x) > 0) // stays leased when the store closes
        (void)oracle_must(o, "release", leat_message_release(o->mq, &m), 0);
    int rc = leat_clock_advance(o->mq, 500);
    (void)oracle_must(o, "advance", rc, 0);
    (void)oracle_receive(o, h->q, ON_QUEUE, 0, &m, &x);   // as does this, with its view out
    if (oracle_receive(o, h->q, ON_QUEUE, 0, &m, &x) > 0) // done, above one that is not
        oracle_ack(o, h->q, ON_QUEUE, &m, x);
    for (int i = 0; h->over && i < 3; i++)
        if (oracle_receive(o, h->over, ON_LOG, 0, &m, &x) > 0)
            oracle_ack(o, h->over, ON_LOG, &m, x);
}

// ---- channels, and the end of a topic

static void faults_hear(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    ++*(int *)ctx;
}

static void faults_channel(struct oracle *o, struct handles *h) {
    int rc;
    o->heard = 0;
    if (!TRIED(o, "subscribe to a channel", rc,
               leat_channel_subscribe(o->mq, "ch.*", faults_hear, &o->heard, NULL, &h->ear)))
        return;
    (void)oracle_must(o, "publish", leat_publish(o->mq, "ch.a", "x", 1), 1);
    (void)oracle_must(o, "publish", leat_publish(o->mq, "other", "x", 1), 0);
    (void)oracle_must(o, "heard", o->heard, 1);
    (void)oracle_must(o, "subscription close", leat_subscription_close(h->ear, 0), 0);
    (void)oracle_must(o, "publish", leat_publish(o->mq, "ch.a", "x", 1), 0);
}

// A topic goes while somebody holds a message of it.
static void faults_delete(struct oracle *o, struct handles *h) {
    int rc, n = 0;
    const leat_message *m;
    leat_position begin = { .topic = "gone", .offset = LEAT_BEGIN };
    if (!h->gone)
        return;
    faults_send(o, h, h->gone, 0, FAULTS_RECORD, false);
    faults_send(o, h, h->gone, 0, FAULTS_RECORD, true);
    (void)TRIED(o, "topic grow", rc, leat_topic_grow(h->gone, 3));
    if (TRIED(o, "consumer open", rc, leat_consumer_open(o->mq, NULL, NULL, &h->alone)) &&
        TRIED(o, "assign", rc, leat_consumer_assign(h->alone, &begin, 1))) {
        n = leat_poll(h->alone, 0, &m);
        if (!oracle_fits(o, "poll", n, 0) && oracle_again(o))
            n = leat_poll(h->alone, 0, &m);
        h->holds = n > 0 && TRIED(o, "hold", rc, leat_message_hold(o->mq, &m[0], &h->kept));
    }
    rc = leat_topic_delete(o->mq, "gone");
    if (!oracle_fits(o, "topic delete", rc, 0)) {
        o->after_delete = o->count;
        faults_send(o, h, h->gone, 0, 50, false); // what is acknowledged now must stay
        if (oracle_again(o))
            rc = leat_topic_delete(o->mq, "gone");
    }
    o->gone_deleted = rc == 0;
    if (rc == 0)
        o->after_delete = -1; // it went with the topic
    if (n > 0 && rc == 0)
        (void)oracle_must(o, "poll of a deleted topic", leat_poll(h->alone, 0, &m), LEAT_EGONE);
    if (n > 0 && h->holds) {
        (void)oracle_check(o, ON_GONE, &h->kept);
        (void)oracle_must(o, "release of what was held", leat_message_release(o->mq, &h->kept), 0);
    }
}

// ---- a run

static void faults_clear(struct oracle *o) {
    if (!o->calm)
        o->came = oracle_faults(o) > 0;
    faulty_os_plan(&o->os, NULL);
    o->mem.fail_at = 0;
    o->calm = true;
}

static void faults_work(struct oracle *o) {
    struct handles h = { .position = { -1, -1 } };
    faults_open_log(o, &h);
    faults_open_gone(o, &h);
    faults_open_queues(o, &h);
    faults_stream(o, &h);
    if (h.q)
        faults_queue(o, &h);
    faults_channel(o, &h);
    faults_delete(o, &h);
    if (!o->lives)
        return;
    faults_clear(o); // there is room again: the store goes on as it is
    for (int32_t i = 0; i < 2; i++)
        faults_send(o, &h, h.log, i, FAULTS_RECORD, false);
    if (h.log)
        oracle_read_all(o, "log", ON_LOG, 2);
    if (h.c)
        (void)oracle_must(o, "consumer close", leat_consumer_close(h.c), 0);
    if (h.safe)
        (void)oracle_must(o, "producer close", leat_producer_close(h.safe, 0), 0);
}

// The second life, in which faults still come: recovery, and a little of everything.
static void faults_work_again(struct oracle *o) {
    struct handles h = { .position = { -1, -1 } };
    leat_topic_options there = { .flags = LEAT_MUST_EXIST };
    leat_producer_options safe = { .acks = LEAT_ACKS_DISK };
    leat_message m;
    struct sent *x;
    int rc = leat_topic_open(o->mq, "log", &there, &h.log);
    if (rc < 0 && o->log_made == SENT_YES)
        oracle_complain(o, "open of a topic that was made: %s", leat_errname(rc));
    if (h.log && TRIED(o, "producer open", rc, leat_producer_open(o->mq, &safe, &h.safe)))
        faults_send(o, &h, h.log, 0, FAULTS_RECORD, true);
    if (o->queue_made == SENT_YES &&
        TRIED(o, "queue open", rc, leat_queue_open(o->mq, "q", NULL, &h.q)) &&
        oracle_receive(o, h.q, ON_QUEUE, 0, &m, &x) > 0)
        oracle_ack(o, h.q, ON_QUEUE, &m, x);
    if (h.log && TRIED(o, "consumer open", rc, leat_consumer_open(o->mq, "g", NULL, &h.c)) &&
        TRIED(o, "subscribe", rc, leat_consumer_subscribe(h.c, "log")))
        (void)leat_consumer_close(h.c);
}

static void faults_check_gone(struct oracle *o) {
    leat_topic_options there = { .flags = LEAT_MUST_EXIST };
    leat_topic *t = NULL;
    int rc = leat_topic_open(o->mq, "gone", &there, &t);
    if (rc == 0 && !o->gone_deleted)
        oracle_read_all(o, "gone", ON_GONE, 1);
    else if (o->gone_deleted || o->after_delete >= 0 || o->gone_made != SENT_YES)
        (void)oracle_must(o, "open of a topic that was deleted", rc, LEAT_ENOENT);
    else
        oracle_complain(o, "a topic is gone that nobody deleted: %s", leat_errname(rc));
    if (rc != 0 && o->after_delete >= 0 && o->after_delete < o->count &&
        o->sent[o->after_delete].state == SENT_YES)
        oracle_complain(o, "a record was acknowledged after the delete failed, and is gone");
}

// Everything that is owed, in a store where nothing fails any more. final: all is settled already.
static void faults_verify(struct oracle *o, bool final) {
    struct handles h = { .position = { -1, -1 } };
    leat_queue_stats stats;
    faults_open_log(o, &h);
    faults_open_queues(o, &h);
    faults_check_gone(o);
    oracle_read_all(o, "log", ON_LOG, 2);
    (void)oracle_must(o, "consumer open", leat_consumer_open(o->mq, "g", NULL, &h.c), 0);
    (void)oracle_must(o, "subscribe", leat_consumer_subscribe(h.c, "log"), 0);
    oracle_check_committed(o, h.c, h.position);
    for (int i = 0; i < 3; i++) // delays end, and the dead-letter queue takes what it refused
        (void)oracle_must(o, "advance", leat_clock_advance(o->mq, HOUR_MS), 0);
    oracle_drain(o, h.q, h.dead, h.over);
    (void)oracle_must(o, "stats", leat_queue_get_stats(h.q, &stats, sizeof stats), 0);
    if (stats.available + stats.delayed + stats.leased + stats.moving + stats.kept != 0)
        oracle_complain(o, "the drained queue has %llu available, %llu delayed, %llu moving",
                        (unsigned long long)stats.available, (unsigned long long)stats.delayed,
                        (unsigned long long)stats.moving);
    if (final)
        return;
    for (int32_t i = 0; i < 2; i++) {
        faults_send(o, &h, h.log, i, FAULTS_RECORD, false);
        faults_send(o, &h, h.log, i, FAULTS_RECORD, true);
    }
    if (h.log)
        faults_async(o, h.log, true);
    faults_poll(o, &h);
    faults_commit(o, &h);
}

static void faults_check_books(struct oracle *o) {
    if (o->os.misuse != 0)
        oracle_complain(o, "%s", o->os.misused);
    if (o->os.second_syncs != 0)
        oracle_complain(o, "%s", o->os.second_sync);
}

void faults_run(struct oracle *o) {
    if (faults_open(o)) {
        faults_work(o);
        if (!o->memory)
            faults_close(o);
    }
    if (!o->memory && !o->lives && faults_open(o)) {
        faults_work_again(o);
        faults_close(o);
    }
    faults_clear(o);
    if (!o->memory || !o->mq)
        o->os.fault_ops = 0; // a new life: nothing is poisoned
    if (o->mq || faults_open(o)) {
        faults_verify(o, false);
        faults_close(o);
    }
    if (!o->memory && faults_open(o)) {
        faults_verify(o, true);
        faults_close(o);
    }
    faults_check_books(o);
}
