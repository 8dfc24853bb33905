/* SPDX-License-Identifier: MIT */
// The asynchronous part of the work: by callback, by future, in batches made by hand, and purged.
// Each record that was accepted has one end, and it is told, whatever fails: by the flush, or by
// the close of the producer at the latest.
#include "lib/faults_work.h"

#include "leat_test.h"

#include <string.h>

enum { ASYNC_MAX = 24, ASYNC_SIZE = 900, ASYNC_BIG = 6000, ASYNC_LINGER_MS = 50 };

struct async_send { // what one report is about
    struct async *a;
    int number, count, told;
    int also; // an error that it may be told with, beside those that fit the fault
    leat_future *f;
};

struct async {
    struct oracle *o;
    leat_topic *t;
    leat_producer *p;
    bool disk;
    bool poisoned[ORACLE_PARTS]; // before it began
    int last[ORACLE_PARTS];      // number of the last record that was told
    struct async_send send[ASYNC_MAX];
    int count;
};

// ---- reports

static void async_note(struct async_send *s, const leat_report *r) {
    struct oracle *o = s->a->o;
    int32_t part = o->sent[s->number].partition;
    if (s->told++ > 0)
        oracle_complain(o, "record %d is told twice", s->number);
    if (r->status == LEAT_STORED && (r->error != 0 || r->md.offset < 0 || r->md.partition != part))
        oracle_complain(o, "a report: stored at %d:%lld, error %d", r->md.partition,
                        (long long)r->md.offset, r->error);
    if (r->status == LEAT_STORED && s->a->poisoned[part])
        oracle_complain(o, "a report: stored in a partition whose sync has failed");
    if (r->status == LEAT_UNKNOWN && !s->a->disk)
        oracle_complain(o, "a report: unknown, and nobody asked for a sync");
    if (r->status != LEAT_STORED)
        (void)oracle_fits(o, "report", r->error, r->status == LEAT_UNKNOWN ? LEAT_EIO : s->also);
    if (r->status != LEAT_STORED && (r->error == 0 || !r->message[0]))
        oracle_complain(o, "a report: %d, without a reason", r->status);
    if (r->status == LEAT_NOT_STORED && s->also == 0 && o->mem_fault && !o->sticky)
        oracle_complain(o, "a report: not stored, for want of memory once");
    for (int i = 0; i < s->count; i++) {
        struct sent *x = &o->sent[s->number + i];
        x->state = r->status == LEAT_STORED       ? SENT_YES
                   : r->status == LEAT_NOT_STORED ? SENT_NO
                                                  : SENT_MAYBE;
        x->offset = r->md.offset < 0 ? -1 : r->md.offset + i;
    }
}

static void async_told(leat_producer *p, const leat_report *r, void *ctx) {
    struct async_send *s = ctx;
    int *last = &s->a->last[s->a->o->sent[s->number].partition];
    (void)p;
    if (s->number < *last)
        oracle_complain(s->a->o, "record %d is told after %d", s->number, *last);
    *last = s->number;
    async_note(s, r);
}

// ---- sends

// The next record; it may be there until a report says more.
static struct async_send *async_begin(struct async *a, int32_t part, size_t size) {
    struct oracle *o = a->o;
    if (a->count == ASYNC_MAX || o->count == ORACLE_SENT) {
        oracle_complain(o, "the oracle is full");
        return NULL;
    }
    struct async_send *s = &a->send[a->count++];
    *s = (struct async_send){ .a = a, .number = o->count };
    o->sent[o->count++] = (struct sent){ .topic = ON_LOG,
                                         .state = SENT_MAYBE,
                                         .partition = part,
                                         .offset = -1,
                                         .size = size,
                                         .blind = o->blind };
    return s;
}

// What was refused is certainly not sent.
static void async_refused(struct async_send *s, const char *what, int rc) {
    struct oracle *o = s->a->o;
    (void)oracle_fits(o, what, rc, 0);
    for (int i = 0; i < s->count || i == 0; i++)
        o->sent[s->number + i].state = SENT_NO;
    s->count = 0;
}

static int async_try(struct async *a, int32_t part, size_t size, bool future) {
    struct oracle_made made;
    struct async_send *s = async_begin(a, part, size);
    if (!s)
        return 0;
    oracle_make(s->number, part, size, &made);
    int rc = future ? leat_send_future(a->p, a->t, &made.record, &s->f)
                    : leat_send_async(a->p, a->t, &made.record, async_told, s);
    s->count = 1;
    if (rc != 0)
        async_refused(s, future ? "send future" : "send async", rc);
    if (rc != 0 && s->f)
        oracle_complain(a->o, "a send was refused and has a future");
    return rc;
}

static void async_send(struct async *a, int32_t part, size_t size, bool future) {
    if (async_try(a, part, size, future) < 0 && oracle_again(a->o))
        (void)oracle_must(a->o, "send async, again", async_try(a, part, size, future), 0);
}

static int async_try_batch(struct async *a, int count, size_t first_size) {
    leat_batch *b;
    struct async_send *s = NULL;
    int rc = leat_batch_open(a->p, a->t, 0, &b);
    if (rc != 0) {
        (void)oracle_fits(a->o, "batch open", rc, 0);
        return rc;
    }
    for (int i = 0; i < count && rc == 0; i++) {
        struct oracle_made made;
        struct async_send *one = async_begin(a, 0, i == 0 ? first_size : ASYNC_SIZE);
        if (!one)
            break;
        s = s ? s : one;
        oracle_make(one->number, 0, a->o->sent[one->number].size, &made);
        rc = leat_batch_append(b, &made.record);
        s->count++; // the report is of the first one for all
    }
    if (rc == 0)
        rc = leat_batch_send(b, async_told, s);
    else
        (void)oracle_must(a->o, "batch discard", leat_batch_discard(b), 0);
    if (rc != 0)
        async_refused(s, "batch", rc);
    return rc;
}

static void async_batch(struct async *a, int count, size_t first_size) {
    if (async_try_batch(a, count, first_size) < 0 && oracle_again(a->o))
        (void)oracle_must(a->o, "batch, again", async_try_batch(a, count, first_size), 0);
}

// ---- ends

static void async_check_told(struct async *a, const char *when) {
    for (int i = 0; i < a->count; i++)
        if (a->send[i].count > 0 && !a->send[i].f && a->send[i].told != 1)
            oracle_complain(a->o, "record %d is told %d times, %s", a->send[i].number,
                            a->send[i].told, when);
}

static void async_flush(struct async *a) {
    int rc = leat_flush(a->p, LEAT_FOREVER);
    if (!oracle_fits(a->o, "flush", rc, 0) && oracle_again(a->o))
        rc = leat_flush(a->p, LEAT_FOREVER);
    if (rc > 0)
        oracle_complain(a->o, "a flush without end leaves %d", rc);
    if (rc == 0)
        async_check_told(a, "after a flush");
}

static void async_purge(struct async *a) {
    int from = a->count;
    async_send(a, 1, ASYNC_SIZE, false);
    int accepted = 0;
    for (int i = from; i < a->count; i++) {
        a->send[i].also = LEAT_EPURGED;
        accepted += a->send[i].count;
    }
    (void)oracle_must(a->o, "purge", leat_producer_purge(a->p), accepted);
}

static void async_check_books(struct async *a) {
    leat_producer_stats s;
    uint64_t accepted = 0;
    for (int i = 0; i < a->count; i++)
        accepted += (uint64_t)a->send[i].count;
    (void)oracle_must(a->o, "stats", leat_producer_get_stats(a->p, &s, sizeof s), 0);
    if (s.accepted != accepted || s.accepted != s.stored + s.not_stored + s.unknown + s.in_flight)
        oracle_complain(a->o, "%llu accepted, not %llu: %llu stored, %llu not, %llu unknown",
                        (unsigned long long)s.accepted, (unsigned long long)accepted,
                        (unsigned long long)s.stored, (unsigned long long)s.not_stored,
                        (unsigned long long)s.unknown);
}

// What the close gives up is told with it.
static void async_close(struct async *a) {
    for (int i = 0; i < a->count; i++)
        a->send[i].also =
            a->send[i].told == 0 && a->send[i].also == 0 ? LEAT_ETIMEDOUT : a->send[i].also;
    int lost = leat_producer_close(a->p, 0);
    if (lost < 0)
        oracle_complain(a->o, "producer close: %s", leat_errname(lost));
    async_check_told(a, "after the close");
    for (int i = 0; i < a->count; i++) {
        leat_report r;
        if (!a->send[i].f)
            continue;
        if (oracle_must(a->o, "future wait, after the close", leat_future_wait(a->send[i].f, 0, &r),
                        0))
            async_note(&a->send[i], &r);
        (void)oracle_must(a->o, "future release", leat_future_release(a->send[i].f), 0);
    }
}

// One future is waited for, one is dropped at once, one is looked at when all is over.
static void async_futures(struct async *a) {
    for (int i = 0; i < 3; i++) {
        async_send(a, i % 2, ASYNC_SIZE, true);
        struct async_send *s = &a->send[a->count - 1];
        if (i == 0 && s->f) {
            int rc = leat_future_wait(s->f, LEAT_FOREVER, NULL);
            if (!oracle_fits(a->o, "future wait", rc, 0) && oracle_again(a->o))
                (void)oracle_must(a->o, "future wait, again",
                                  leat_future_wait(s->f, LEAT_FOREVER, NULL), 0);
        } else if (i == 1 && s->f) {
            (void)oracle_must(a->o, "future release", leat_future_release(s->f), 0);
            s->f = NULL;
            s->told = 1; // nobody is to be told
        }
    }
}

void faults_async(struct oracle *o, leat_topic *t, bool disk) {
    static struct async a;
    leat_producer_options options = { .acks = disk ? LEAT_ACKS_DISK : LEAT_ACKS_LOG,
                                      .callbacks = disk ? LEAT_CALLBACKS_POLL : 0,
                                      .linger_ms = ASYNC_LINGER_MS,
                                      .delivery_timeout_ms = 500,
                                      .batch_bytes = 4096 };
    a = (struct async){ .o = o, .t = t, .disk = disk };
    memcpy(a.poisoned, o->poisoned[ON_LOG], sizeof a.poisoned);
    int lost = o->os.lost_count, rc = leat_producer_open(o->mq, &options, &a.p);
    if (!oracle_fits(o, "producer open", rc, 0) && oracle_again(o))
        rc = leat_producer_open(o->mq, &options, &a.p);
    if (rc != 0)
        return;
    for (int32_t i = 0; i < 3; i++)
        async_send(&a, i % 2, ASYNC_SIZE, false);
    async_send(&a, 1, ASYNC_BIG, false);
    async_batch(&a, 2, ASYNC_SIZE);
    async_futures(&a);
    async_flush(&a);
    async_batch(&a, 1, ASYNC_BIG);
    async_flush(&a);
    async_purge(&a);
    async_send(&a, 0, ASYNC_SIZE, false); // for the close
    async_check_books(&a);
    async_close(&a);
    oracle_note_lost(o, ON_LOG, lost);
}
