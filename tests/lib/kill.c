/* SPDX-License-Identifier: MIT */
// kill: the process that works until it is killed, and what both sides know: which bytes stand
// where, and what a delivery may look like.
#include "lib/kill.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct kill_shared *shared;
char kill_dir[256];
int32_t kill_write = LEAT_WRITE_MAPPED;
uint64_t kill_state;

void kill_complain(const char *format, ...) {
    size_t used = strlen(shared->text);
    atomic_fetch_add(&shared->complaints, 1);
    va_list list;
    va_start(list, format);
    if (used + 2 < sizeof shared->text)
        (void)vsnprintf(shared->text + used, sizeof shared->text - used - 1, format, list);
    va_end(list);
    used = strlen(shared->text);
    shared->text[used] = '\n';
    shared->text[used + 1] = '\0';
}

bool kill_is(const char *what, int rc, int expected) {
    if (rc == expected)
        return true;
    kill_complain("%s: %d %s (%s), not %d", what, rc, leat_errname(rc), leat_errmsg(), expected);
    return false;
}

uint64_t kill_mix(uint64_t x) { // splitmix64
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

unsigned kill_random(unsigned below) {
    return (unsigned)(kill_mix(kill_state++) % below);
}

// ---- records: their bytes follow from where they stand

static uint8_t kill_bytes[KILL_VALUE_MAX];

static leat_bytes kill_value(int log, unsigned life, int part, int64_t offset) {
    uint64_t x = kill_mix((uint64_t)log << 56 ^ (uint64_t)life << 40 ^ (uint64_t)part << 36 ^
                          (uint64_t)offset);
    size_t size = log == LOG_WORK ? 40 : 8 + x % 300;
    if (log != LOG_WORK && log != LOG_BASE && x % 97 == 0)
        size = x % 3 == 0 ? KILL_VALUE_MAX : 3000; // larger than a segment, large
    for (size_t i = 0; i < size; i += 8) {
        memcpy(kill_bytes + i, &x, size - i < 8 ? size - i : 8);
        x += 0x0101010101010101u;
    }
    return (leat_bytes){ kill_bytes, size };
}

void kill_check_bytes(int log, const leat_message *m) {
    unsigned life = atomic_load(&shared->log[log].life);
    leat_bytes v = kill_value(log, life, m->partition, m->offset);
    if (m->value.size != v.size || memcmp(m->value.data, v.data, v.size) != 0)
        kill_complain("%s partition %d offset %lld has other bytes", m->topic, m->partition,
                      (long long)m->offset);
}

const char *kill_name(int log, char buf[32]) {
    if (log == LOG_BASE)
        return "base";
    if (log == LOG_WORK)
        return "work";
    (void)snprintf(buf, 32, "log%d.%u", log, atomic_load(&shared->log[log].life));
    return buf;
}

int kill_parts(int log) {
    return log == LOG_WORK ? 1 : KILL_PARTS;
}

// ---- the store, in the child and in the parent

static void kill_warned(int level, const char *text, void *ctx) {
    (void)ctx;
    (void)text;
    if (level == LEAT_LOG_WARNING)
        atomic_fetch_add(&shared->cuts, 1);
}

bool kill_open(struct kill_store *s, bool must_exist) {
    leat_options o = { .flags = must_exist ? LEAT_MUST_EXIST : 0,
                       .write = kill_write,
                       .seed = 1,
                       .log = kill_warned };
    *s = (struct kill_store){ .mq = NULL };
    if (!kill_is("open", leat_open(kill_dir, &o, &s->mq), 0))
        return false;
    atomic_fetch_add(&shared->opens, 1);
    leat_topic_options base = { .partitions = KILL_PARTS, .segment_bytes = 256 * 1024 };
    leat_queue_options over = { .topic = "base" };
    leat_queue_options work = { .deliveries_max = KILL_TRIES,
                                .dead_letter = "dead",
                                .acks = LEAT_ACKS_LOG };
    return kill_is("topic open", leat_topic_open(s->mq, "base", &base, &s->t[LOG_BASE]), 0) &&
           kill_is("queue open", leat_queue_open(s->mq, "over", &over, &s->q[QUEUE_OVER]), 0) &&
           kill_is("queue open", leat_queue_open(s->mq, "work", &work, &s->q[QUEUE_WORK]), 0) &&
           kill_is("queue open", leat_queue_open(s->mq, "dead", NULL, &s->dead), 0);
}

// ---- the child: logs

void kill_forget_log(struct kill_log *l) {
    for (int i = 0; i < KILL_PARTS; i++) {
        atomic_store(&l->part[i].acked, 0);
        atomic_store(&l->part[i].tried, 0);
        atomic_store(&l->part[i].on_disk, 0);
        atomic_store(&l->part[i].committed, -1);
        atomic_store(&l->part[i].trying, -1);
    }
}

static bool kill_create(struct kill_store *s, int log) {
    char name[32];
    leat_topic_options o = { .partitions = KILL_PARTS, .segment_bytes = 16384 };
    struct kill_log *l = &shared->log[log];
    kill_forget_log(l);
    atomic_store(&l->state, CREATING);
    if (!kill_is("create", leat_topic_open(s->mq, kill_name(log, name), &o, &s->t[log]), 0))
        return false;
    atomic_store(&l->state, THERE);
    return kill_is("subscribe", leat_consumer_subscribe(s->c, name), 0);
}

static bool kill_delete(struct kill_store *s, int log) {
    char name[32];
    struct kill_log *l = &shared->log[log];
    atomic_store(&l->state, DELETING);
    if (!kill_is("delete", leat_topic_delete(s->mq, kill_name(log, name)), 0))
        return false;
    s->t[log] = NULL;
    atomic_store(&l->state, ABSENT);
    atomic_fetch_add(&l->life, 1);
    // The consumer still has the partitions of what is gone: it begins anew.
    if (!kill_is("consumer close", leat_consumer_close(s->c), 0) ||
        !kill_is("consumer open", leat_consumer_open(s->mq, "g", NULL, &s->c), 0))
        return false;
    for (int i = 0; i < LOG_WORK; i++)
        if (s->t[i] && !kill_is("subscribe", leat_consumer_subscribe(s->c, kill_name(i, name)), 0))
            return false;
    return true;
}

static bool kill_send(struct kill_store *s, int log, int part) {
    struct kill_log *l = &shared->log[log];
    struct kill_part *p = &l->part[part];
    int64_t offset = atomic_load(&p->acked);
    bool disk = log != LOG_WORK && kill_random(60) == 0;
    bool queue = log == LOG_BASE || log == LOG_WORK;
    if (queue ? s->messages++ > KILL_ROUND_MESSAGES || offset + 1 >= KILL_MESSAGES
              : s->sends++ > KILL_ROUND_SENDS)
        return true;
    leat_record r = { .value = kill_value(log, atomic_load(&l->life), part, offset),
                      .to_partition = LEAT_PARTITION(part) };
    leat_metadata md;
    atomic_store(&p->tried, offset + 1);
    int rc = log == LOG_WORK ? leat_queue_send(s->q[QUEUE_WORK], &r, &md)
                             : leat_send(disk ? s->safe : s->fast, s->t[log], &r, &md);
    if (!kill_is("send", rc, 0))
        return false;
    atomic_store(&p->acked, offset + 1);
    if (disk)
        atomic_store(&p->on_disk, offset + 1);
    atomic_fetch_add(&shared->sends, 1);
    if (md.offset != offset)
        kill_complain("send to log %d: offset %lld, not %lld", log, (long long)md.offset,
                      (long long)offset);
    return md.offset == offset;
}

// What one call of leat_send_many sends: some records to each partition.
struct kill_batch {
    int count, log;
    int64_t to[KILL_PARTS]; // where the partitions end when it has returned
    leat_record r[KILL_BATCH];
    int64_t offset[KILL_BATCH];
};

static void kill_make_batch(struct kill_batch *b, int log) {
    static uint8_t bytes[KILL_BATCH][KILL_VALUE_MAX];
    struct kill_log *l = &shared->log[log];
    b->log = log;
    b->count = 2 + (int)kill_random(KILL_BATCH - 1);
    for (int i = 0; i < KILL_PARTS; i++)
        b->to[i] = atomic_load(&l->part[i].acked);
    for (int i = 0; i < b->count; i++) {
        int part = (int)kill_random(KILL_PARTS);
        b->offset[i] = b->to[part]++;
        leat_bytes v = kill_value(log, atomic_load(&l->life), part, b->offset[i]);
        memcpy(bytes[i], v.data, v.size);
        b->r[i] =
            (leat_record){ .value = { bytes[i], v.size }, .to_partition = LEAT_PARTITION(part) };
    }
}

// Each partition has all of its records or none, also if the kill comes here.
static bool kill_send_many(struct kill_store *s, int log) {
    static struct kill_batch b;
    leat_metadata md[KILL_BATCH];
    bool disk = kill_random(20) == 0;
    kill_make_batch(&b, log);
    int *sent = log == LOG_BASE ? &s->messages : &s->sends;
    *sent += b.count;
    if (*sent > (log == LOG_BASE ? KILL_ROUND_MESSAGES : KILL_ROUND_SENDS) ||
        (log == LOG_BASE && (b.to[0] >= KILL_MESSAGES || b.to[1] >= KILL_MESSAGES)))
        return true;
    struct kill_part *p = shared->log[log].part;
    for (int i = 0; i < KILL_PARTS; i++)
        atomic_store(&p[i].tried, b.to[i]);
    int rc = leat_send_many(disk ? s->safe : s->fast, s->t[log], b.r, (size_t)b.count, md);
    if (!kill_is("send many", rc, 0))
        return false;
    for (int i = 0; i < KILL_PARTS; i++) {
        bool some = b.to[i] > atomic_load(&p[i].acked);
        atomic_store(&p[i].acked, b.to[i]);
        if (disk && some)
            atomic_store(&p[i].on_disk, b.to[i]);
    }
    atomic_fetch_add(&shared->sends, b.count);
    atomic_fetch_add(&shared->batches, 1);
    for (int i = 0; i < b.count; i++)
        if (md[i].offset != b.offset[i])
            kill_complain("a batch to log %d: offset %lld, not %lld", log, (long long)md[i].offset,
                          (long long)b.offset[i]);
    return atomic_load(&shared->complaints) == 0;
}

// What the reports of one round of asynchronous sends need to know.
struct kill_told {
    struct kill_part *part;
    int64_t offset;
    bool disk;
};

static void kill_told(leat_producer *p, const leat_report *r, void *ctx) {
    const struct kill_told *t = ctx;
    (void)p;
    if (r->status != LEAT_STORED || r->md.offset != t->offset)
        kill_complain("a report: %d, %s, offset %lld, not %lld", r->status, r->message,
                      (long long)r->md.offset, (long long)t->offset);
    atomic_store(&t->part->acked, t->offset + 1);
    if (t->disk)
        atomic_store(&t->part->on_disk, t->offset + 1);
}

// The same, asynchronously: what goes to a partition lingers until the flush, and is a batch.
static bool kill_send_async(struct kill_store *s, int log) {
    static struct kill_batch b;
    static struct kill_told told[KILL_BATCH];
    bool disk = kill_random(10) == 0;
    leat_producer *producer = disk ? s->safe : s->fast;
    kill_make_batch(&b, log);
    s->sends += b.count;
    if (s->sends > KILL_ROUND_SENDS)
        return true;
    struct kill_part *p = shared->log[log].part;
    for (int i = 0; i < KILL_PARTS; i++)
        atomic_store(&p[i].tried, b.to[i]);
    for (int i = 0; i < b.count; i++) {
        told[i] = (struct kill_told){ &p[b.r[i].to_partition - 1], b.offset[i], disk };
        if (!kill_is("send async",
                     leat_send_async(producer, s->t[log], &b.r[i], kill_told, &told[i]), 0))
            return false;
    }
    if (!kill_is("flush", leat_flush(producer, LEAT_FOREVER), 0))
        return false;
    for (int i = 0; i < KILL_PARTS; i++)
        if (atomic_load(&p[i].acked) != b.to[i])
            kill_complain("flushed, and told to %lld of %lld", (long long)atomic_load(&p[i].acked),
                          (long long)b.to[i]);
    atomic_fetch_add(&shared->sends, b.count);
    atomic_fetch_add(&shared->asyncs, b.count);
    return atomic_load(&shared->complaints) == 0;
}

// All that was acknowledged is on disk then.
static bool kill_sync(struct kill_store *s) {
    if (!kill_is("sync", leat_sync(s->mq), 0))
        return false;
    for (int log = 0; log < LOGS; log++)
        for (int i = 0; i < kill_parts(log); i++) {
            struct kill_part *p = &shared->log[log].part[i];
            atomic_store(&p->on_disk, atomic_load(&p->acked));
        }
    atomic_fetch_add(&shared->syncs, 1);
    return true;
}

static int kill_log_of(const struct kill_store *s, const char *topic) {
    char name[32];
    for (int i = 0; i < LOG_WORK; i++)
        if (s->t[i] && strcmp(kill_name(i, name), topic) == 0)
            return i;
    kill_complain("poll gives topic %s", topic);
    return -1;
}

static bool kill_poll(struct kill_store *s) {
    const leat_message *m;
    int n = leat_poll(s->c, 0, &m);
    for (int i = 0; i < n; i++) {
        int log = kill_log_of(s, m[i].topic);
        if (log < 0)
            return false;
        kill_check_bytes(log, &m[i]);
    }
    return n >= 0 || kill_is("poll", n, 0);
}

static bool kill_commit(struct kill_store *s) {
    leat_position at[LOGS * KILL_PARTS];
    int n = leat_consumer_positions(s->c, 0, at, LOGS * KILL_PARTS);
    for (int i = 0; i < n; i++) {
        int log = kill_log_of(s, at[i].topic);
        if (log < 0)
            return false;
        atomic_store(&shared->log[log].part[at[i].partition].trying, at[i].offset);
    }
    if (!kill_is("commit", leat_commit(s->c), 0))
        return false;
    for (int i = 0; i < n; i++) {
        struct kill_part *p = &shared->log[kill_log_of(s, at[i].topic)].part[at[i].partition];
        atomic_store(&p->committed, atomic_load(&p->trying));
    }
    atomic_fetch_add(&shared->commits, 1);
    return true;
}

// ---- the child: queues

bool kill_delivered(int queue, const leat_message *m) {
    struct kill_ledger *l = &shared->queue[queue];
    struct kill_message *x = &l->m[m->partition][m->offset];
    int least = atomic_load(&x->seen) + 1;
    int most = least + (int)(atomic_load(&l->blind) - atomic_load(&x->blind));
    kill_check_bytes(queue == QUEUE_OVER ? LOG_BASE : LOG_WORK, m);
    if (atomic_load(&x->acked))
        kill_complain("queue %d: offset %d:%lld was acknowledged and comes again", queue,
                      m->partition, (long long)m->offset);
    if (m->deliveries < least || m->deliveries > most ||
        (queue == QUEUE_WORK && m->deliveries > KILL_TRIES))
        kill_complain("queue %d: offset %d:%lld is delivery %d, not %d to %d", queue, m->partition,
                      (long long)m->offset, m->deliveries, least, most);
    atomic_store(&x->acking, 0); // so that was not done
    atomic_store(&x->seen, (uint16_t)m->deliveries);
    atomic_store(&x->blind, atomic_load(&l->blind));
    return atomic_load(&shared->complaints) == 0;
}

static bool kill_receive(struct kill_store *s, int queue) {
    leat_message m[5];
    size_t max = 1 + kill_random(5);
    if (s->held_count + (int)max > KILL_HELD)
        return true;
    atomic_store(&shared->queue[queue].receiving, 1);
    int n = leat_queue_receive(s->q[queue], 0, m, max);
    for (int i = 0; i < n; i++) {
        if (!kill_delivered(queue, &m[i]))
            return false;
        s->held[s->held_count].queue = queue;
        s->held[s->held_count++].m = m[i];
    }
    atomic_store(&shared->queue[queue].receiving, 0);
    return n >= 0 || kill_is("receive", n, 0);
}

bool kill_ack(leat_queue *q, int queue, leat_message *m) {
    struct kill_message *x = &shared->queue[queue].m[m->partition][m->offset];
    atomic_store(&x->acking, 1);
    if (!kill_is("ack", leat_queue_ack(q, m), 0))
        return false;
    atomic_store(&x->acked, 1);
    atomic_fetch_add(&shared->acks, 1);
    return true;
}

static bool kill_settle(struct kill_store *s) {
    if (s->held_count == 0)
        return true;
    int i = (int)kill_random((unsigned)s->held_count), queue = s->held[i].queue;
    leat_message m = s->held[i].m;
    s->held[i] = s->held[--s->held_count];
    unsigned how = kill_random(100);
    if (how < 55)
        return kill_ack(s->q[queue], queue, &m);
    if (how < 90)
        return kill_is("nack", leat_queue_nack(s->q[queue], &m, how < 75 ? 0 : how - 74, 0), 0);
    return kill_is("release", leat_message_release(s->mq, &m), 0); // leased, until the next run
}

// A copy in the dead-letter queue says which message it was. Returns  that, or NULL.
static struct kill_message *kill_died(const leat_message *m) {
    int64_t offset = -1;
    int deliveries = 0;
    leat_header h;
    for (size_t i = 0; leat_message_header(m, i, &h) == 1; i++) {
        if (strcmp(h.name.data, "leat.offset") == 0)
            offset = strtoll(h.value.data, NULL, 10);
        if (strcmp(h.name.data, "leat.deliveries") == 0)
            deliveries = atoi(h.value.data);
    }
    if (offset < 0 || offset >= atomic_load(&shared->log[LOG_WORK].part[0].tried)) {
        kill_complain("a dead message comes from offset %lld", (long long)offset);
        return NULL;
    }
    struct kill_message *x = &shared->queue[QUEUE_WORK].m[0][offset];
    leat_bytes v = kill_value(LOG_WORK, 0, 0, offset);
    if (deliveries != KILL_TRIES || atomic_load(&x->acked) || m->value.size != v.size ||
        memcmp(m->value.data, v.data, v.size) != 0)
        kill_complain("dead: offset %lld after %d tries, %s", (long long)offset, deliveries,
                      atomic_load(&x->acked) ? "acknowledged" : "not acknowledged");
    if (m->offset < KILL_MESSAGES) // one store: a kill finds all of it or nothing
        atomic_store(&shared->copy[m->offset], (int32_t)offset + 1);
    return x;
}

bool kill_bury(struct kill_store *s) {
    leat_message m;
    int n = leat_queue_receive(s->dead, 0, &m, 1);
    if (n <= 0)
        return n == 0 || kill_is("receive of the dead", n, 0);
    struct kill_message *x = kill_died(&m);
    if (!x)
        return false;
    atomic_store(&x->burying, 1);
    if (!kill_is("ack of the dead", leat_queue_ack(s->dead, &m), 0))
        return false;
    atomic_store(&x->buried, 1);
    return true;
}

// ---- the child: what it does until it is killed

static bool kill_step(struct kill_store *s) {
    unsigned what = kill_random(1000);
    int log = LOG_FIRST + (int)kill_random(LOG_LAST - LOG_FIRST + 1);
    int part = (int)kill_random(KILL_PARTS);
    if (what < 30)
        return !s->t[log] || kill_send_async(s, log);
    if (what < 360)
        return !s->t[log] || kill_send(s, log, part);
    if (what < 400) {
        log = what < 390 ? log : LOG_BASE;
        return !s->t[log] || kill_send_many(s, log);
    }
    if (what < 500)
        return kill_send(s, what < 450 ? LOG_BASE : LOG_WORK, what < 450 ? part : 0);
    if (what < 560)
        return kill_poll(s);
    if (what < 620)
        return kill_commit(s);
    if (what < 780)
        return kill_receive(s, what < 700 ? QUEUE_OVER : QUEUE_WORK);
    if (what < 960)
        return kill_settle(s);
    if (what < 985)
        return kill_bury(s);
    if (what < 990)
        return kill_sync(s);
    if (!s->t[log])
        return kill_create(s, log);
    return what < 999 || kill_random(4) != 0 || kill_delete(s, log);
}

static bool kill_take_up(struct kill_store *s) {
    char name[32];
    leat_topic_options o = { .flags = LEAT_MUST_EXIST };
    leat_producer_options fast = { .acks = LEAT_ACKS_LOG,
                                   .linger_ms = 100000,
                                   .batch_bytes = KILL_BATCH * (KILL_VALUE_MAX + 100) },
                          safe = fast;
    safe.acks = LEAT_ACKS_DISK;
    if (!kill_open(s, false) ||
        !kill_is("producer open", leat_producer_open(s->mq, &fast, &s->fast), 0) ||
        !kill_is("producer open", leat_producer_open(s->mq, &safe, &s->safe), 0) ||
        !kill_is("consumer open", leat_consumer_open(s->mq, "g", NULL, &s->c), 0))
        return false;
    for (int i = 0; i < LOG_WORK; i++) {
        if (i != LOG_BASE && atomic_load(&shared->log[i].state) == ABSENT)
            continue;
        if (!kill_is("topic open", leat_topic_open(s->mq, kill_name(i, name), &o, &s->t[i]), 0) ||
            !kill_is("subscribe", leat_consumer_subscribe(s->c, kill_name(i, name)), 0))
            return false;
    }
    return true;
}

_Noreturn void kill_child(int ready) {
    static struct kill_store s; // large
    if (!kill_take_up(&s) || write(ready, "r", 1) != 1)
        _exit(1);
    for (;;) {
        if (kill_random(600) == 0) { // it also dies while it closes, and between two lives
            if (!kill_is("close", leat_close_all(s.mq, 0), 0) || !kill_take_up(&s))
                _exit(1);
        }
        if (!kill_step(&s) || atomic_load(&shared->complaints) > 0)
            _exit(1);
    }
}
