/* SPDX-License-Identifier: MIT */
// The crash simulator. Small workloads run over files in memory (lib/crash_os.h). For each moment
// at which a crash may come the states that it can leave are made, each is opened, held to what
// the callers were told by then, written to, closed, opened and held to it again:
//
//   kill -9    what a call returned is there, exactly: records, commits, acks, delivery counts
//   power cut  what was acknowledged on DISK is there, each partition is a prefix of what was
//              sent; the rest may be lost, but nothing is wrong: no hole, no phantom, no number
//              that names two records, no dead letter that is nowhere
//
// Crashes inside the recovery of a state, and of the first sends after it, are tried for some.
// Prints crash_states=N failures=N; a failure says how to come back to it.
//
// test_simulator [NAME]: only that workload. LEAT_CRASH_STATES: how many states, at the least.
#include "base/core.h"
#include "lib/crash_os.h"
#include "leat_test.h"
#include "log/log.h"
#include "store/store.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// ---- what is not held yet: each of these leaves out one check until it is 1. None may stay

enum {
    // Notes that were not synced can be left with a hole among them and a whole note behind it.
    // Nothing tells that from damage, so the open is LEAT_ECORRUPT.
    HELD_MANIFEST_TAIL = 1,
    // The name of a log's first segment can be lost and that of the next one kept, when neither
    // was synced. No record in it was promised, but the open is LEAT_ECORRUPT.
    HELD_FIRST_NAME = 0,
    // After two stores to a slot without a sync between them the disk may have neither of its
    // copies whole: the first was not written back, the second was in the middle of its memcpy. A
    // log start that was durable is lost by it.
    HELD_TORN_SLOTS = 1
};

// ---- workloads

enum { TOPIC_A, TOPIC_B, TOPIC_Q, TOPIC_D, TOPICS };
static const char *const topic_name[TOPICS] = { "a", "b", "q", "d" };
static const int topic_parts[TOPICS] = { 2, 1, 1, 1 };
enum { PARTS = 2, TRIES = 2, DELAY_MS = 1000, HOUR_MS = 3600000 };

// The words of a workload:
//   topic T, delete T        make it, delete it
//   log T NxM, disk T NxM    send N records of M bytes, acknowledged at LOG or DISK, to the
//                            partitions in turn
//   poll T N, commit         read N records in the group, commit what was polled
//   queue own|over|dead      open the queue over a topic of its own, over "a", or over its own with
//                            a dead-letter queue
//   receive N, ack, nack, later   N calls; settle the oldest message held; nack with a delay
//   trim T N                 delete the records below N in partition 0
//   sync, reopen             leat_sync; close and open
//   killed                   kill -9 and open: what was not synced is still not synced
//   many N                   make N topics of no further use
struct workload {
    const char *name, *steps;
};

static const struct workload workloads[] = {
    { "append", "topic b, log b 3x100, disk b 1x40, log b 3x300, disk b 1x700, log b 2x50" },
    { "two-partitions", "topic a, disk a 2x60, log a 4x200, disk a 1x60, reopen, log a 3x60, "
                        "disk a 1x10" },
    { "roll", "topic b, disk b 1x5000, log b 5x4000, disk b 1x4000, log b 4x5000, sync, "
              "log b 1x17000, log b 1x20" },
    { "same-size",
      "topic b, disk b 1x64, log b 6x64, killed, log b 5x64, disk b 1x64, log b 3x64" },
    { "killed", "topic b, log b 3x100, killed, log b 2x100, disk b 1x100, log b 2x6000, killed, "
                "log b 2x6000, disk b 1x9" },
    { "topics", "topic a, topic b, disk b 1x30, log a 2x30, delete b, topic b, log b 1x30, "
                "delete a, disk b 1x30, reopen, delete b" },
    { "snapshots",
      "topic b, disk b 1x30, topic a, delete a, topic a, log a 1x30, delete a, "
      "topic a, delete a, log b 1x30, topic a, delete a, topic a, delete a, topic a, "
      "delete a, topic a, delete a, topic a, disk a 1x30, delete b, topic b, delete b, "
      "topic b, delete b, topic b, log b 1x30, delete b, reopen, topic b, disk b 1x9" },
    { "many-topics", "many 20, topic b, log b 1x30, many 9, disk b 1x30, many 6, reopen" },
    { "commit",
      "topic a, disk a 4x80, poll a 2, commit, log a 4x400, poll a 3, commit, poll a 3, "
      "commit, sync, log a 2x80, poll a 2, commit, reopen, log a 2x80, poll a 2, commit" },
    { "trim", "topic b, log b 7x4000, trim b 2, log b 2x40, trim b 5, disk b 1x4000, log b 1x8000, "
              "trim b 11, log b 1x40, reopen" },
    { "queue", "queue own, disk q 2x50, log q 3x50, receive 3, ack, later, ack, receive 2, ack, "
               "nack, reopen, receive 1, ack, log q 1x50" },
    { "queue-rolls", "queue own, log q 4x5000, receive 3, ack, ack, ack, disk q 1x5000, receive 2, "
                     "ack, ack, log q 2x5000, receive 1, killed, receive 1, ack" },
    { "queue-over", "topic a, log a 4x50, queue over, receive 3, ack, nack, disk a 2x5000, "
                    "receive 3, ack, ack, sync, ack, log a 2x50" },
    { "dead-letters",
      "queue dead, disk q 1x50, log q 2x50, receive 2, nack, nack, receive 2, nack, "
      "ack, receive 1, nack, receive 1, nack, reopen" },
    { "dead-killed", "queue dead, log q 2x50, receive 1, killed, receive 1, killed, receive 1, "
                     "nack, receive 1, nack" },
};
enum { WORKLOADS = sizeof workloads / sizeof *workloads };

struct step {
    char verb[16], word[16]; // word: "" if there is none
    int topic, n, size;
};

// Takes one step off *steps. Returns false at the end.
static bool step_next(const char **steps, struct step *s) {
    char text[64];
    size_t n = strcspn(*steps, ",");
    if (n == 0 || n >= sizeof text)
        return false;
    memcpy(text, *steps, n);
    text[n] = '\0';
    *steps += n + ((*steps)[n] == ',' ? 2 : 0);
    *s = (struct step){ .topic = -1 };
    char *save, *word = strtok_r(text, " ", &save);
    (void)snprintf(s->verb, sizeof s->verb, "%s", word);
    while ((word = strtok_r(NULL, " ", &save))) {
        if (sscanf(word, "%dx%d", &s->n, &s->size) > 0)
            continue;
        (void)snprintf(s->word, sizeof s->word, "%s", word);
        for (int i = 0; i < TOPICS; i++)
            if (strcmp(word, topic_name[i]) == 0)
                s->topic = i;
    }
    return true;
}

// ---- what happened

enum what {
    MADE,
    GONE,
    SENT,
    COMMITTED,
    QUEUE_MADE,
    RECEIVED,
    ACKED,
    DIED, // a nack after the last try
    TRIMMED,
    SYNCED,
    CLOSED
};
enum { FACTS = 160, HELD = 8, MANY_MAX = 40 };

struct fact {
    enum what what;
    uint32_t from, to; // of the trace, while the call was made
    int topic, life, part;
    int64_t offset; // committed: the position; received: of the message
    int64_t size;   // of the value
    bool disk;
};

struct run { // a workload that was carried out
    const struct workload *w;
    int32_t write;
    struct crash_trace trace;
    struct fact fact[FACTS];
    int facts;
    int queue_topic; // TOPIC_Q or TOPIC_A; -1: no queue
    bool dead;       // with a dead-letter queue
    int many;
};

static struct crash_os *disk;             // where states are opened
static struct crash_model *model, *later; // of a run; of the recovery of one of its states
static struct run runs[2 * WORKLOADS];
static int run_count;

// ---- failures

static long states, contents, failures, classes, excuses, second_points;
static struct {
    const char *format, *workload;
    long count;
} failure_class[256];
static char where[1024]; // the state that is being looked at

__attribute__((format(printf, 2, 3))) static bool fail(const struct run *r, const char *format,
                                                       ...) {
    failures++;
    int i = 0;
    while (i < classes &&
           (failure_class[i].format != format || failure_class[i].workload != r->w->name))
        i++;
    if (i == 256)
        return false;
    failure_class[i].format = format;
    failure_class[i].workload = r->w->name;
    if (failure_class[i].count++ > 0)
        return false;
    classes++;
    va_list list;
    va_start(list, format);
    (void)printf("FAILURE %s %s: ", r->w->name,
                 r->write == LEAT_WRITE_PWRITE ? "pwrite" : "mapped");
    (void)vprintf(format, list);
    (void)printf("\n    %s\n", where);
    va_end(list);
    return false;
}

static _Noreturn void broken(const char *what, int rc) {
    (void)printf("the workload itself failed: %s is %s: %s (%s)\n", what, leat_errname(rc),
                 leat_errmsg(), where);
    (void)fflush(stdout);
    abort();
}

static void must(const char *what, int rc) {
    if (rc < 0)
        broken(what, rc);
}

// ---- values: the number of the fact, and bytes that follow from it

static void value_make(int number, size_t size, char *out) {
    char text[16];
    (void)snprintf(text, sizeof text, "%07d", number);
    memcpy(out, text, 8);
    for (size_t i = 8; i < size; i++)
        out[i] = (char)('a' + (i * 7 + (size_t)number) % 26);
}

static int value_number(const leat_message *m) {
    const char *s = m->value.data;
    return m->value.size >= 8 && s[7] == '\0' ? atoi(s) : -1;
}

static bool value_right(const leat_message *m, int number) {
    static char want[32 * 1024];
    value_make(number, m->value.size, want);
    return memcmp(m->value.data, want, m->value.size) == 0;
}

// ---- carrying out a workload

struct driver {
    struct run *r;
    struct crash_os *os;
    leat *mq;
    leat_producer *log, *disk;
    leat_topic *t[TOPICS];
    leat_consumer *c;
    int c_topic;
    leat_queue *q;
    leat_message held[HELD];
    int held_count;
    int life[TOPICS];
    int64_t next[TOPICS][PARTS];
    int64_t polled[PARTS];
};

static int store_open(struct crash_os *os, int32_t write, leat **mq) {
    leat_options o = {
        .threads = LEAT_NO_THREADS, .clock = LEAT_CLOCK_MANUAL, .seed = 1, .write = write
    };
    int rc = lt_store_open("store", &o, &os->os, mq);
    if (rc == 0)
        (*mq)->log->manifest.snapshot_over = 0; // as soon as it is four times as long as needed
    return rc;
}

// Frees the store as if its process was killed: as in the child of a fork, which writes nothing.
static void store_kill(leat *mq) {
    mq->fork_epoch--;
    (void)leat_close_all(mq, 0);
}

static struct fact *begin(struct driver *d, enum what what) {
    struct run *r = d->r;
    if (r->facts == FACTS)
        broken("too many facts", 0);
    struct fact *f = &r->fact[r->facts++];
    *f = (struct fact){ .what = what, .from = (uint32_t)d->os->trace.count, .to = UINT32_MAX };
    return f;
}

// The call has returned; what it did becomes part of the next point.
static void end(struct driver *d, struct fact *f) {
    if (f)
        f->to = (uint32_t)d->os->trace.count;
    crash_os_point(d->os);
}

static void drive_open(struct driver *d) {
    static const leat_producer_options at_log = { .acks = LEAT_ACKS_LOG };
    must("open", store_open(d->os, d->r->write, &d->mq));
    must("producer", leat_producer_open(d->mq, &at_log, &d->log));
    must("producer", leat_producer_open(d->mq, NULL, &d->disk));
    leat_topic_options o = { .flags = LEAT_MUST_EXIST };
    for (int i = 0; i < TOPICS; i++)
        if (d->t[i])
            must("topic", leat_topic_open(d->mq, topic_name[i], &o, &d->t[i]));
    if (d->q)
        must("queue",
             leat_queue_open(d->mq, d->r->queue_topic == TOPIC_Q ? "q" : "over", NULL, &d->q));
    d->c = NULL;
    d->held_count = 0;
    crash_os_point(d->os);
}

static void drive_close_children(struct driver *d) {
    if (d->c)
        must("consumer close", leat_consumer_close(d->c));
    for (int i = 0; i < d->held_count; i++)
        must("release", leat_message_release(d->mq, &d->held[i]));
    if (d->q)
        must("queue close", leat_queue_close(d->q));
    must("producer close", leat_producer_close(d->log, 0));
    must("producer close", leat_producer_close(d->disk, 0));
}

static void drive_topic(struct driver *d, int topic) {
    leat_topic_options o = { .partitions = topic_parts[topic], .segment_bytes = 16384 };
    struct fact *f = begin(d, MADE);
    f->topic = topic;
    f->life = ++d->life[topic];
    if (topic == TOPIC_Q || topic == TOPIC_D) { // as queues make theirs, but with small segments
        lt_lock(&d->mq->log->admin);
        int rc = lt_topic_create(d->mq, topic_name[topic], &o, true, &d->t[topic]);
        lt_unlock(&d->mq->log->admin);
        must("topic", rc);
    } else {
        must("topic", leat_topic_open(d->mq, topic_name[topic], &o, &d->t[topic]));
    }
    memset(d->next[topic], 0, sizeof d->next[topic]);
    end(d, f);
}

static void drive_delete(struct driver *d, int topic) {
    struct fact *f = begin(d, GONE);
    f->topic = topic;
    f->life = d->life[topic];
    must("delete", leat_topic_delete(d->mq, topic_name[topic]));
    d->t[topic] = NULL;
    end(d, f);
}

static void drive_send(struct driver *d, const struct step *s, bool on_disk) {
    static char value[32 * 1024];
    int topic = s->topic;
    for (int i = 0; i < s->n; i++) {
        struct fact *f = begin(d, SENT);
        f->topic = topic;
        f->life = d->life[topic];
        f->part = i % topic_parts[topic];
        f->offset = d->next[topic][f->part]++;
        f->disk = on_disk;
        f->size = s->size < 8 ? 8 : s->size;
        value_make((int)(f - d->r->fact), (size_t)f->size, value);
        leat_record r = { .value = { value, (size_t)f->size },
                          .to_partition = LEAT_PARTITION(f->part) };
        leat_metadata md;
        must("send", leat_send(on_disk ? d->disk : d->log, d->t[topic], &r, &md));
        if (md.offset != f->offset)
            broken("a send got another offset", 0);
        end(d, f);
    }
}

static void drive_poll(struct driver *d, const struct step *s) {
    static const leat_consumer_options one = { .max_poll_records = 1 };
    if (!d->c) {
        must("consumer", leat_consumer_open(d->mq, "g", &one, &d->c));
        must("subscribe", leat_consumer_subscribe(d->c, topic_name[s->topic]));
        d->c_topic = s->topic;
        memset(d->polled, -1, sizeof d->polled);
    }
    for (int i = 0; i < s->n; i++) {
        const leat_message *m;
        int n = leat_poll(d->c, 0, &m);
        must("poll", n);
        if (n != 1)
            broken("nothing to poll", 0);
        d->polled[m->partition] = m->offset + 1;
    }
    end(d, NULL);
}

static void drive_commit(struct driver *d) {
    struct fact *f[PARTS] = { NULL };
    for (int i = 0; i < topic_parts[d->c_topic]; i++) {
        if (d->polled[i] < 0)
            continue;
        f[i] = begin(d, COMMITTED);
        f[i]->topic = d->c_topic;
        f[i]->life = d->life[d->c_topic];
        f[i]->part = i;
        f[i]->offset = d->polled[i];
    }
    must("commit", leat_commit(d->c));
    for (int i = 0; i < PARTS; i++)
        if (f[i])
            f[i]->to = (uint32_t)d->os->trace.count;
    memset(d->polled, -1, sizeof d->polled);
    end(d, NULL);
}

static void drive_queue(struct driver *d, const struct step *s) {
    bool over = strcmp(s->word, "over") == 0, dead = strcmp(s->word, "dead") == 0;
    leat_queue_options o = { .deliveries_max = dead ? TRIES : LEAT_UNLIMITED,
                             .topic = over ? "a" : NULL,
                             .dead_letter = dead ? "d" : NULL };
    if (!over)
        drive_topic(d, TOPIC_Q);
    if (dead)
        drive_topic(d, TOPIC_D);
    d->r->queue_topic = over ? TOPIC_A : TOPIC_Q;
    d->r->dead = dead;
    struct fact *f = begin(d, QUEUE_MADE);
    must("queue", leat_queue_open(d->mq, over ? "over" : "q", &o, &d->q));
    end(d, f);
}

static void drive_receive(struct driver *d, const struct step *s) {
    for (int i = 0; i < s->n; i++) {
        leat_message *m = &d->held[d->held_count++];
        struct fact *f = begin(d, RECEIVED);
        int n = leat_queue_receive(d->q, 0, m, 1);
        must("receive", n);
        if (n != 1)
            broken("nothing to receive", 0);
        f->topic = d->r->queue_topic;
        f->part = m->partition;
        f->offset = m->offset;
        end(d, f);
    }
}

static leat_message drive_oldest(struct driver *d) {
    leat_message m = d->held[0];
    memmove(d->held, d->held + 1, (size_t)--d->held_count * sizeof m);
    return m;
}

static void drive_ack(struct driver *d) {
    leat_message m = drive_oldest(d);
    struct fact *f = begin(d, ACKED);
    f->topic = d->r->queue_topic;
    f->part = m.partition;
    f->offset = m.offset;
    must("ack", leat_queue_ack(d->q, &m));
    end(d, f);
}

static void drive_nack(struct driver *d, int64_t delay_ms) {
    leat_message m = drive_oldest(d);
    struct fact *f = d->r->dead && m.deliveries == TRIES ? begin(d, DIED) : NULL;
    if (f) {
        f->topic = d->r->queue_topic;
        f->offset = m.offset;
    }
    must("nack", leat_queue_nack(d->q, &m, delay_ms, 0));
    end(d, f);
    if (delay_ms > 0)
        must("advance", leat_clock_advance(d->mq, delay_ms));
    end(d, NULL);
}

static void drive_trim(struct driver *d, const struct step *s) {
    struct fact *f = begin(d, TRIMMED);
    f->topic = s->topic;
    f->life = d->life[s->topic];
    f->offset = s->n;
    must("delete_records", leat_topic_delete_records(d->t[s->topic], 0, s->n));
    end(d, f);
}

static void drive_many(struct driver *d, const struct step *s) {
    for (int i = 0; i < s->n; i++) {
        char name[16];
        leat_topic *t;
        (void)snprintf(name, sizeof name, "many-%d", d->r->many++);
        must("topic", leat_topic_open(d->mq, name, NULL, &t));
        end(d, NULL);
    }
}

static void drive_sync(struct driver *d) {
    struct fact *f = begin(d, SYNCED);
    must("sync", leat_sync(d->mq));
    end(d, f);
}

static void drive_reopen(struct driver *d) {
    drive_close_children(d);
    struct fact *f = begin(d, CLOSED);
    must("close", leat_close_all(d->mq, 0));
    end(d, f);
    drive_open(d);
}

static void drive_kill(struct driver *d) {
    drive_close_children(d);
    store_kill(d->mq);
    drive_open(d);
}

static void drive_step(struct driver *d, const struct step *s) {
    const char *verb = s->verb;
    if (strcmp(verb, "topic") == 0)
        drive_topic(d, s->topic);
    else if (strcmp(verb, "delete") == 0)
        drive_delete(d, s->topic);
    else if (strcmp(verb, "log") == 0 || strcmp(verb, "disk") == 0)
        drive_send(d, s, verb[0] == 'd');
    else if (strcmp(verb, "poll") == 0)
        drive_poll(d, s);
    else if (strcmp(verb, "commit") == 0)
        drive_commit(d);
    else if (strcmp(verb, "queue") == 0)
        drive_queue(d, s);
    else if (strcmp(verb, "receive") == 0)
        drive_receive(d, s);
    else if (strcmp(verb, "ack") == 0)
        drive_ack(d);
    else if (strcmp(verb, "nack") == 0 || strcmp(verb, "later") == 0)
        drive_nack(d, verb[0] == 'l' ? DELAY_MS : 0);
    else if (strcmp(verb, "trim") == 0)
        drive_trim(d, s);
    else if (strcmp(verb, "many") == 0)
        drive_many(d, s);
    else if (strcmp(verb, "sync") == 0)
        drive_sync(d);
    else if (strcmp(verb, "reopen") == 0)
        drive_reopen(d);
    else if (strcmp(verb, "killed") == 0)
        drive_kill(d);
    else
        broken(verb, 0);
}

static void carry_out(const struct workload *w, int32_t write) {
    static struct driver d;
    struct crash_os *os = calloc(1, sizeof *os);
    struct run *r = &runs[run_count++];
    if (!os)
        abort();
    *r = (struct run){ .w = w, .write = write, .queue_topic = -1 };
    memset(&d, 0, sizeof d);
    d.r = r;
    d.os = os;
    crash_os_init(os);
    os->torn = true;
    os->recording = true;
    (void)snprintf(where, sizeof where, "workload %s", w->name);
    drive_open(&d);
    const char *steps = w->steps;
    for (struct step s; step_next(&steps, &s);)
        drive_step(&d, &s);
    os->recording = false;
    drive_close_children(&d);
    must("close", leat_close_all(d.mq, 0));
    r->trace = os->trace;
    os->trace = (struct crash_trace){ 0 };
    crash_os_fini(os);
    free(os);
}

// ---- what is owed at a moment

struct found { // in a state
    bool there[TOPICS];
    int life[TOPICS];
    int64_t begin[TOPICS][PARTS], records_end[TOPICS][PARTS], end[TOPICS][PARTS];
    int64_t committed[TOPICS][PARTS];
    bool queue;
};

struct moment {
    uint32_t at;  // of the run's trace
    uint32_t at2; // of the recovery's trace; UINT32_MAX: no second crash
    bool kill;
    const struct found *base; // what was there before the second crash, or a clean close
    bool exact;               // what is in base must be there again
    bool closed;              // base was left by a clean close: all of it is safe
    int old;                  // facts of the run; those behind it are of after the crash
    int fresh;                // facts behind it are of after what base was found in
};

static bool begun(const struct moment *w, const struct run *r, const struct fact *f) {
    return f->from <= (f - r->fact < w->old ? w->at : w->at2);
}

static bool done(const struct moment *w, const struct run *r, const struct fact *f) {
    return f->to <= (f - r->fact < w->old ? w->at : w->at2);
}

// Whether what a call that returned did must be there.
static bool safe(const struct moment *w, const struct run *r, const struct fact *f) {
    if (!done(w, r, f))
        return false;
    if (w->kill || f->disk || f->what == GONE || f->what == TRIMMED)
        return true;
    for (const struct fact *g = f + 1; g < r->fact + r->facts; g++) {
        if (!done(w, r, g) || g->from < f->to)
            continue;
        if (g->what == CLOSED)
            return true;
        if (g->what == SYNCED && (f->what == SENT || f->what == COMMITTED || f->what == MADE))
            return true;
        if (g->what == SENT && g->disk && g->topic == f->topic && g->life == f->life &&
            (f->what == MADE || (f->what == SENT && f->part == g->part)))
            return true;
    }
    return false;
}

// ---- looking at a state

struct look {
    struct run *r;
    const struct moment *w;
    struct found *found;
    leat *mq;
    leat_topic *t[TOPICS];
};

static const struct fact *sent_at(const struct look *l, int topic, int part, int64_t offset,
                                  const leat_message *m) {
    int number = value_number(m);
    const struct fact *f = number >= 0 && number < l->r->facts ? &l->r->fact[number] : NULL;
    if (!f || f->what != SENT || !value_right(m, number)) {
        fail(l->r, "%s:%d offset %lld has bytes that nobody sent", topic_name[topic], part,
             (long long)offset);
        return NULL;
    }
    const struct found *b = l->w->base;
    bool lost = b && b->there[topic] && number < l->w->old && offset >= b->records_end[topic][part];
    if (f->topic != topic || f->part != part || f->offset != offset || !begun(l->w, l->r, f) ||
        lost || (int64_t)m->value.size != f->size) {
        fail(l->r, "%s:%d offset %lld is record %d, which was sent to %s:%d as %lld%s",
             topic_name[topic], part, (long long)offset, number, topic_name[f->topic], f->part,
             (long long)f->offset, lost ? " and lost before" : "");
        return NULL;
    }
    return f;
}

// The highest number that was committed in a partition.
static int64_t highest_committed(const struct look *l, int topic, int part) {
    int64_t high = 0;
    for (const struct fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++)
        if (f->what == COMMITTED && f->topic == topic && f->part == part && begun(l->w, l->r, f) &&
            f->offset > high)
            high = f->offset;
    return high;
}

static bool check_end(const struct look *l, int topic, int part) {
    const struct found *n = l->found, *b = l->w->base;
    int64_t records_end = n->records_end[topic][part], least = 0;
    for (const struct fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++) {
        bool old = f - l->r->fact < l->w->old;
        if (f->what == SENT && f->topic == topic && f->part == part && f->life == n->life[topic] &&
            safe(l->w, l->r, f) && f->offset >= least &&
            !(b && old && f->offset >= b->records_end[topic][part]))
            least = f->offset + 1;
    }
    if (b && l->w->exact && least < b->records_end[topic][part])
        least = b->records_end[topic][part];
    if (records_end < least)
        return fail(l->r, "%s:%d ends at %lld, %lld were promised", topic_name[topic], part,
                    (long long)records_end, (long long)least);
    if (n->end[topic][part] < records_end ||
        (n->end[topic][part] > records_end &&
         n->end[topic][part] > highest_committed(l, topic, part) &&
         n->end[topic][part] > n->begin[topic][part]))
        return fail(l->r, "%s:%d ends at %lld, its records at %lld", topic_name[topic], part,
                    (long long)n->end[topic][part], (long long)records_end);
    return true;
}

// Where the log starts: between what was deleted for sure and what somebody may have deleted.
static bool check_begin(const struct look *l, int topic, int part) {
    int64_t least = 0, most = 0;
    const struct found *n = l->found;
    for (const struct fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++) {
        if (f->what != TRIMMED || f->topic != topic || f->part != part || f->life != n->life[topic])
            continue;
        if (safe(l->w, l->r, f) && f->offset > least)
            least = f->offset;
        if (begun(l->w, l->r, f) && f->offset > most)
            most = f->offset;
    }
    if (topic == TOPIC_Q)
        most = n->end[topic][part]; // check_queue knows better
    if (n->begin[topic][part] >= least && n->begin[topic][part] <= most)
        return true;
    return fail(l->r, "%s:%d begins at %lld, not in %lld to %lld", topic_name[topic], part,
                (long long)n->begin[topic][part], (long long)least, (long long)most);
}

static bool check_records(const struct look *l, leat_consumer *c, int topic, int part) {
    int64_t next = l->found->begin[topic][part];
    const leat_message *m;
    int n;
    while ((n = leat_poll(c, 0, &m)) > 0)
        for (int i = 0; i < n; i++) {
            const struct fact *f = sent_at(l, topic, part, m[i].offset, &m[i]);
            if (!f)
                return false;
            bool gap = m[i].offset > next && f - l->r->fact >= l->w->old &&
                       m[i].offset <= highest_committed(l, topic, part);
            if (m[i].offset != next && !gap)
                return fail(l->r, "%s:%d has a hole at %lld, up to %lld", topic_name[topic], part,
                            (long long)next, (long long)m[i].offset);
            if (next == l->found->begin[topic][part] && l->found->life[topic] == 0)
                l->found->life[topic] = f->life;
            if (f->life != l->found->life[topic])
                return fail(l->r, "%s:%d has a record of an earlier life", topic_name[topic], part);
            next = m[i].offset + 1;
        }
    if (n < 0)
        return fail(l->r, "%s:%d cannot be read: %s", topic_name[topic], part, leat_errmsg());
    l->found->records_end[topic][part] = next;
    return true;
}

static bool check_part(const struct look *l, int topic, int part) {
    leat_range r;
    leat_consumer *c;
    leat_position at = { .topic = topic_name[topic], .offset = LEAT_BEGIN, .partition = part };
    must("range", leat_topic_range(l->t[topic], part, &r));
    l->found->begin[topic][part] = r.begin;
    l->found->end[topic][part] = r.end;
    if (r.begin > r.durable_end || r.durable_end > r.end)
        return fail(l->r, "%s:%d: begin %lld durable %lld end %lld", topic_name[topic], part,
                    (long long)r.begin, (long long)r.durable_end, (long long)r.end);
    if (topic == TOPIC_D) // its records are copies: check_dead
        return true;
    must("consumer", leat_consumer_open(l->mq, NULL, NULL, &c));
    must("assign", leat_consumer_assign(c, &at, 1));
    bool ok = check_records(l, c, topic, part);
    must("consumer close", leat_consumer_close(c));
    return ok && check_begin(l, topic, part) && check_end(l, topic, part);
}

// Which life of a topic must be there, and which may be: bits.
static void lives(const struct look *l, int topic, unsigned *owed, unsigned *allowed) {
    unsigned dying = 0; // killed half way through its deletion: the note may be gone again
    *owed = *allowed = 0;
    for (const struct fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++) {
        if (f->topic != topic || (f->what != MADE && f->what != GONE && f->what != SENT))
            continue;
        unsigned bit = 1u << f->life;
        if (f->what == MADE && begun(l->w, l->r, f))
            *allowed |= bit;
        if (f->what == MADE && safe(l->w, l->r, f))
            *owed |= bit;
        if (f->what == GONE && begun(l->w, l->r, f))
            *owed &= ~bit;
        if (f->what == GONE && done(l->w, l->r, f))
            *allowed &= ~bit;
        else if (f->what == GONE && begun(l->w, l->r, f))
            dying |= bit;
    }
    const struct found *b = l->w->base;
    if (b && (l->w->exact || !b->there[topic]))
        *owed = *allowed = b->there[topic] ? 1u << b->life[topic] : 0;
    if (b && !l->w->exact && !b->there[topic])
        *allowed = dying;
    for (const struct fact *f = l->r->fact + l->w->old; f < l->r->fact + l->r->facts; f++) {
        if (f->what != MADE || f->topic != topic)
            continue;
        *allowed |= begun(l->w, l->r, f) ? 1u << f->life : 0;
        *owed |= safe(l->w, l->r, f) ? 1u << f->life : 0;
    }
}

static bool check_topic(struct look *l, int topic) {
    leat_topic_options o = { .flags = LEAT_MUST_EXIST };
    unsigned owed, allowed;
    lives(l, topic, &owed, &allowed);
    int rc = leat_topic_open(l->mq, topic_name[topic], &o, &l->t[topic]);
    if (rc == LEAT_ENOENT)
        return owed ? fail(l->r, "topic %s is lost", topic_name[topic]) : true;
    if (rc != 0)
        return fail(l->r, "topic %s: %s", topic_name[topic], leat_errmsg());
    if (!allowed)
        return fail(l->r, "topic %s is there and should not be", topic_name[topic]);
    l->found->there[topic] = true;
    l->found->life[topic] = 0; // a record will say
    if ((allowed & (allowed - 1)) == 0)
        while (allowed >> l->found->life[topic] != 1)
            l->found->life[topic]++;
    for (int part = 0; part < topic_parts[topic]; part++)
        if (!check_part(l, topic, part))
            return false;
    if (l->found->life[topic] == 0) // an empty one: the last
        while (allowed >> l->found->life[topic] != 1)
            l->found->life[topic]++;
    if (!(allowed & 1u << l->found->life[topic]))
        return fail(l->r, "topic %s has come back", topic_name[topic]);
    return true;
}

static bool check_committed(const struct look *l, int topic, int part) {
    const struct found *n = l->found, *b = l->w->base;
    int64_t found = n->committed[topic][part];
    if (found > n->end[topic][part])
        return fail(l->r, "%s:%d is committed at %lld, beyond its end %lld", topic_name[topic],
                    part, (long long)found, (long long)n->end[topic][part]);
    if (b && l->w->exact)
        return found == b->committed[topic][part]
                   ? true
                   : fail(l->r, "%s:%d was committed at %lld, now at %lld", topic_name[topic], part,
                          (long long)b->committed[topic][part], (long long)found);
    bool fits = found == -1;
    for (const struct fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++) {
        if (f->what != COMMITTED || f->topic != topic || f->part != part ||
            f->life != n->life[topic] || !begun(l->w, l->r, f))
            continue;
        if (safe(l->w, l->r, f))
            fits = false; // what was before is no answer any more
        fits |= found == f->offset;
    }
    return fits ? true
                : fail(l->r, "%s:%d is committed at %lld, which is not what was promised",
                       topic_name[topic], part, (long long)found);
}

static bool check_commits(struct look *l) {
    leat_lag lag[TOPICS * PARTS];
    memset(l->found->committed, -1, sizeof l->found->committed);
    int n = leat_group_lag(l->mq, "g", lag, TOPICS * PARTS, sizeof lag[0]);
    if (n < 0 && n != LEAT_ENOENT)
        return fail(l->r, "lag: %s", leat_errmsg());
    for (int i = 0; i < n; i++)
        for (int topic = 0; topic < TOPICS; topic++)
            if (strcmp(lag[i].topic, topic_name[topic]) == 0)
                l->found->committed[topic][lag[i].partition] = lag[i].committed;
    for (int topic = 0; topic < TOPICS; topic++)
        for (int part = 0; l->found->there[topic] && part < topic_parts[topic]; part++)
            if (!check_committed(l, topic, part))
                return false;
    return true;
}

// ---- the queue of a state

enum { OFFSETS = 64 };

struct drained {
    int seen[PARTS][OFFSETS], copies[PARTS][OFFSETS];
};

static int count_facts(const struct look *l, enum what what, int part, int64_t offset,
                       bool (*is)(const struct moment *, const struct run *, const struct fact *)) {
    int n = 0;
    for (const struct fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++)
        n += f->what == what && f->part == part && f->offset == offset && is(l->w, l->r, f);
    return n;
}

static bool check_delivery(const struct look *l, struct drained *d, const leat_message *m) {
    int topic = l->r->queue_topic;
    const struct fact *f = sent_at(l, topic, m->partition, m->offset, m);
    if (!f)
        return false;
    if (m->offset >= OFFSETS)
        broken("an offset too high", 0);
    if (d->seen[m->partition][m->offset]++ > 0)
        return fail(l->r, "offset %d:%lld was delivered twice", m->partition, (long long)m->offset);
    bool old = f - l->r->fact < l->w->old;
    if (f - l->r->fact < l->w->fresh && l->w->closed)
        return fail(l->r, "offset %d:%lld was acknowledged, the store closed, and it came back",
                    m->partition, (long long)m->offset);
    int least = 1, most = 1;
    if (old) { // the word of a record that was lost must not be the next one's
        if (count_facts(l, ACKED, m->partition, m->offset, safe) > 0)
            return fail(l->r, "offset %d:%lld was acknowledged and came back", m->partition,
                        (long long)m->offset);
        least += count_facts(l, RECEIVED, m->partition, m->offset, safe);
        most += count_facts(l, RECEIVED, m->partition, m->offset, begun);
    }
    if (m->deliveries < least || m->deliveries > most || (l->r->dead && m->deliveries > TRIES))
        return fail(l->r, "offset %d:%lld: delivery %d, not %d to %d", m->partition,
                    (long long)m->offset, m->deliveries, least, most);
    return true;
}

// Receives and acknowledges all that there is.
static bool drain(const struct look *l, leat_queue *q, struct drained *d,
                  bool (*check)(const struct look *, struct drained *, const leat_message *)) {
    leat_message m[8];
    bool ok = true;
    int n;
    while (ok && (n = leat_queue_receive(q, 0, m, 8)) != 0) {
        if (n < 0)
            return fail(l->r, "receive: %s", leat_errmsg());
        for (int i = 0; i < n; i++) {
            ok = ok && check(l, d, &m[i]);
            must("ack", leat_queue_ack(q, &m[i]));
        }
    }
    return ok;
}

static bool check_dead(const struct look *l, struct drained *d, const leat_message *m) {
    int64_t offset = -1;
    leat_header h;
    for (size_t i = 0; leat_message_header(m, i, &h); i++)
        if (h.name.size == 11 && memcmp(h.name.data, "leat.offset", 11) == 0)
            offset = atoll(h.value.data);
    if (offset < 0 || offset >= OFFSETS)
        return fail(l->r, "a dead letter does not say where it is from");
    int number = value_number(m);
    const struct fact *f = number >= 0 && number < l->r->facts ? &l->r->fact[number] : NULL;
    if (!f || f->what != SENT || f->offset != offset || !value_right(m, number))
        return fail(l->r, "a dead letter has bytes that nobody sent");
    if (count_facts(l, RECEIVED, 0, offset, begun) < TRIES)
        return fail(l->r, "a letter is dead too soon: offset %lld", (long long)offset);
    d->copies[0][offset]++;
    return true;
}

// A record that was not delivered must be done, or dead.
static bool check_one_left(const struct look *l, const struct drained *d, int part,
                           int64_t offset) {
    int copies = d->copies[part][offset], seen = d->seen[part][offset];
    if (l->w->closed)
        return true; // what was there before the clean close was drained
    if (seen == 0 && copies == 0 && count_facts(l, ACKED, part, offset, begun) == 0)
        return fail(l->r, "offset %d:%lld is neither delivered nor done nor dead", part,
                    (long long)offset);
    // The copy is on disk before the nack returns; that it was made, the word says at LOG.
    int died = count_facts(l, DIED, part, offset, done);
    if (died > 0 && copies == 0)
        return fail(l->r, "offset %d:%lld died and is no dead letter", part, (long long)offset);
    if (died > 0 && l->w->kill && copies > 1)
        return fail(l->r, "offset %d:%lld has two copies", part, (long long)offset);
    if (copies > 0 && seen > 0 && l->w->kill)
        return fail(l->r, "offset %d:%lld is dead and was delivered", part, (long long)offset);
    if (copies > 2)
        return fail(l->r, "offset %d:%lld has %d copies", part, (long long)offset, copies);
    return true;
}

static bool check_all_left(const struct look *l, const struct drained *d) {
    int topic = l->r->queue_topic;
    const struct found *n = l->found;
    for (int part = 0; part < topic_parts[topic]; part++)
        for (int64_t o = n->begin[topic][part]; o < n->records_end[topic][part]; o++)
            if (!check_one_left(l, d, part, o))
                return false;
    for (int64_t o = 0; topic == TOPIC_Q && !l->w->base && o < n->begin[topic][0]; o++)
        if (count_facts(l, ACKED, 0, o, begun) == 0 && d->copies[0][o] == 0)
            return fail(l->r, "offset 0:%lld was given back and was not done", (long long)o);
    for (const struct fact *f = l->r->fact + l->w->fresh; f < l->r->fact + l->r->facts; f++)
        if (f->what == SENT && f->topic == topic && l->w->closed &&
            d->seen[f->part][f->offset] == 0)
            return fail(l->r, "offset %d:%lld was sent after the crash and is not delivered",
                        f->part, (long long)f->offset);
    return true;
}

static bool check_queue(struct look *l) {
    struct drained d = { 0 };
    leat_queue_options o = { .flags = LEAT_MUST_EXIST };
    leat_queue *q, *dead = NULL;
    if (l->r->queue_topic < 0)
        return true;
    int rc = leat_queue_open(l->mq, l->r->queue_topic == TOPIC_Q ? "q" : "over", &o, &q);
    bool owed = l->w->base && l->w->exact && l->w->base->queue;
    for (const struct fact *f = l->r->fact; !l->w->base && f < l->r->fact + l->r->facts; f++)
        owed |= f->what == QUEUE_MADE && safe(l->w, l->r, f);
    if (rc == LEAT_ENOENT)
        return owed ? fail(l->r, "the queue is lost") : true;
    l->found->queue = true;
    if (rc != 0)
        return fail(l->r, "the queue: %s", leat_errmsg());
    must("advance", leat_clock_advance(l->mq, HOUR_MS)); // delays end
    bool ok = drain(l, q, &d, check_delivery);
    if (ok && l->r->dead) {
        rc = leat_queue_open(l->mq, "d", &o, &dead);
        ok = rc == 0 ? drain(l, dead, &d, check_dead)
                     : fail(l->r, "the dead-letter queue: %s", leat_errmsg());
    }
    ok = ok && check_all_left(l, &d);
    if (dead)
        must("queue close", leat_queue_close(dead));
    must("queue close", leat_queue_close(q));
    return ok;
}

static bool check_store(struct look *l) {
    memset(l->found, 0, sizeof *l->found);
    for (int topic = 0; topic < TOPICS; topic++)
        if (!check_topic(l, topic))
            return false;
    return check_commits(l) && check_queue(l);
}

// Makes a topic again that the crash took: nothing of the old one may show in it.
static bool make_again(struct look *l, int topic, const struct crash_os *os) {
    int life = 0;
    for (const struct fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++)
        life = f->what == MADE && f->topic == topic ? f->life : life;
    if (life == 0 || topic >= TOPIC_Q)
        return true; // the workload has none, or it is the queue's
    leat_topic_options o = { .partitions = topic_parts[topic], .segment_bytes = 16384 };
    struct fact *f = &l->r->fact[l->r->facts++];
    *f = (struct fact){ .what = MADE, .topic = topic, .life = life + 1 };
    f->from = os->recording ? (uint32_t)os->trace.count : 0;
    must("topic again", leat_topic_open(l->mq, topic_name[topic], &o, &l->t[topic]));
    f->to = os->recording ? (uint32_t)os->trace.count : 0;
    l->found->there[topic] = true;
    l->found->life[topic] = f->life;
    leat_range r;
    must("range", leat_topic_range(l->t[topic], 0, &r));
    leat_lag lag[TOPICS * PARTS];
    int n = leat_group_lag(l->mq, "g", lag, TOPICS * PARTS, sizeof lag[0]);
    bool old = r.end != 0;
    for (int i = 0; i < n; i++)
        old |= strcmp(lag[i].topic, topic_name[topic]) == 0;
    return old ? fail(l->r, "topic %s was made anew and is not empty", topic_name[topic]) : true;
}

// Sends some records to each topic, on disk, as facts of after the crash.
static bool send_more(struct look *l, int n, const struct crash_os *os) {
    static char value[64];
    leat_producer *p;
    bool ok = true;
    must("producer", leat_producer_open(l->mq, NULL, &p));
    for (int topic = 0; topic < TOPIC_D && ok; topic++) {
        if (!l->found->there[topic])
            ok = make_again(l, topic, os);
        if (!l->found->there[topic])
            continue;
        leat_topic_options o = { .flags = LEAT_MUST_EXIST };
        must("topic", leat_topic_open(l->mq, topic_name[topic], &o, &l->t[topic]));
        for (int i = 0; i < n && ok; i++) {
            int number = l->r->facts++;
            struct fact *f = &l->r->fact[number];
            if (l->r->facts > FACTS)
                broken("too many facts", 0);
            *f = (struct fact){ .what = SENT, .topic = topic, .disk = true, .size = sizeof value };
            f->life = l->found->life[topic];
            f->from = os->recording ? (uint32_t)os->trace.count : 0;
            value_make(number, sizeof value, value);
            leat_record r = { .value = { value, sizeof value }, .to_partition = LEAT_PARTITION(0) };
            leat_metadata md;
            int rc = leat_send(p, l->t[topic], &r, &md);
            f->offset = md.offset;
            f->to = os->recording ? (uint32_t)os->trace.count : 0;
            if (rc != 0)
                ok = fail(l->r, "a send after the crash: %s", leat_errmsg());
            else if (md.offset < l->found->committed[topic][0])
                ok = fail(l->r, "%s:0 offset %lld is used again: it was committed",
                          topic_name[topic], (long long)md.offset);
        }
    }
    must("producer close", leat_producer_close(p, 0));
    return ok;
}

// ---- one state

// Whether a directory of the state has segment `next` and no segment `first`.
static bool first_is_missing(long long first, long long next) {
    char name[2][CRASH_NAME];
    (void)snprintf(name[0], CRASH_NAME, "%020lld.log", first);
    (void)snprintf(name[1], CRASH_NAME, "%020lld.log", next);
    for (int i = 0; i < disk->files; i++) {
        bool has[2] = { false, false };
        for (int k = 0; disk->file[i].is_dir && k < disk->file[i].entries; k++)
            for (int n = 0; n < 2; n++)
                has[n] |= strcmp(disk->file[i].entry[k].name, name[n]) == 0;
        if (has[1] && !has[0])
            return true;
    }
    return false;
}

// Whether the open may fail like this until what is not held yet is held.
static bool excused(const struct look *l) {
    const char *text = leat_errmsg();
    const struct crash_model *m = l->w->base ? later : model;
    long long at, last;
    char topic[8];
    int part;
    if (l->w->kill)
        return false;
    if (!HELD_MANIFEST_TAIL && sscanf(text, "store/manifest is damaged at byte %lld", &at) == 1) {
        for (int i = 0; i < m->nodes; i++)
            if (strcmp(m->node[i].name, "manifest") == 0)
                return at >= m->node[i].sizes[0]; // the length at its last sync
        return false;
    }
    if (HELD_FIRST_NAME || sscanf(text, "topic %7s partition %d: offsets %lld to %lld are damaged",
                                  topic, &part, &at, &last) != 4)
        return false;
    for (const struct fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++)
        if (f->what == SENT && strcmp(topic_name[f->topic], topic) == 0 && f->part == part &&
            f->offset >= at && safe(l->w, l->r, f))
            return false;
    return first_is_missing(at, last + 1);
}

static bool reopen(struct look *l, const char *when) {
    int rc = store_open(disk, l->r->write, &l->mq);
    if (rc == 0)
        return true;
    l->mq = NULL;
    if (rc == LEAT_ECORRUPT && excused(l)) {
        excuses++;
        return false;
    }
    if (rc == LEAT_ECORRUPT)
        return fail(l->r, "damaged, %s: %s", when, leat_errmsg());
    return fail(l->r, "open, %s, is %s: %s", when, leat_errname(rc), leat_errmsg());
}

static bool close_store(struct look *l, bool ok) {
    int rc = leat_close_all(l->mq, 0);
    l->mq = NULL;
    return rc == 0 ? ok : ok && fail(l->r, "close: %s", leat_errmsg());
}

// Looks at the state that `disk` holds. *found: what is in it.
static bool try_state(struct run *r, const struct moment *w, struct found *found, uint64_t hash) {
    struct look l = { .r = r, .w = w, .found = found };
    if (!reopen(&l, "first"))
        return false;
    uint64_t once = crash_os_hash(disk);
    int fresh = r->facts;
    store_kill(l.mq);
    if (!reopen(&l, "again"))
        return false;
    if (crash_os_hash(disk) != once)
        return close_store(&l, fail(r, "recovering twice gives other bytes"));
    static struct found more, after;
    bool ok = check_store(&l);
    more = *found;
    l.found = &more;
    ok = ok && send_more(&l, 1 + (int)(hash % 4), disk);
    if (!close_store(&l, ok) || !reopen(&l, "after a clean close"))
        return false;
    struct moment then = { .at = w->at,
                           .at2 = UINT32_MAX,
                           .base = &more,
                           .exact = true,
                           .closed = true,
                           .kill = true,
                           .old = w->old,
                           .fresh = fresh };
    if (w->at2 != UINT32_MAX)
        then.at2 = w->at2; // what was sent after the second crash has no place in a trace
    l.w = &then;
    l.found = &after;
    return close_store(&l, check_store(&l));
}

// ---- the set of states that were seen

static uint64_t *seen_table[2];
static size_t seen_room[2], seen_count[2];

static bool seen_before(int set, uint64_t hash, bool note) {
    hash = hash ? hash : 1;
    if (2 * seen_count[set] >= seen_room[set]) {
        size_t room = seen_room[set] ? 2 * seen_room[set] : 1 << 16;
        uint64_t *old = seen_table[set], *table = calloc(room, sizeof *table);
        if (!table)
            abort();
        for (size_t i = 0; i < seen_room[set]; i++) {
            size_t at = old[i] & (room - 1);
            while (old[i] && table[at])
                at = (at + 1) & (room - 1);
            table[at] = old[i] ? old[i] : table[at];
        }
        free(old);
        seen_table[set] = table;
        seen_room[set] = room;
    }
    size_t at = hash & (seen_room[set] - 1);
    while (seen_table[set][at] && seen_table[set][at] != hash)
        at = (at + 1) & (seen_room[set] - 1);
    bool before = seen_table[set][at] == hash;
    if (note) {
        seen_table[set][at] = hash;
        seen_count[set] += !before;
    }
    return before;
}

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t x = (a ^ b * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 31;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 29;
}

// ---- the states of a point

enum shape { NEWEST, OLDEST, BUT_ONE_OLD, BUT_ONE_NEW, FILE_OLD, FILE_NEW, CHANCE };
static const char *const shape_name[] = { "newest",   "oldest",   "one old", "one new",
                                          "file old", "file new", "chance" };

struct plan { // which state of a point
    enum shape shape;
    size_t n;      // variable or file
    uint64_t seed; // CHANCE
};

static struct crash_var vars[CRASH_VARS];
static uint32_t picks[CRASH_VARS];
static size_t var_count;

static void pick_by_chance(uint64_t seed) {
    static const unsigned odds[4] = { 10, 50, 90, 97 };
    uint64_t x = mix(seed, 1);
    unsigned newest = odds[x % 4];
    for (size_t i = 0; i < var_count; i++) {
        x = mix(x, i + 2);
        uint32_t last = vars[i].choices - 1;
        bool is_newest = (x >> 8) % 100 < newest;
        bool is_oldest = (x >> 20) % 100 < 70;
        picks[i] = is_newest ? 0 : is_oldest ? last : (uint32_t)((x >> 32) % vars[i].choices);
    }
}

static void pick(struct crash_model *m, const struct plan *p) {
    int torn_file = -1;
    if (p->shape == CHANCE)
        pick_by_chance(p->seed);
    for (size_t i = 0; i < var_count; i++) {
        uint32_t old = vars[i].choices - 1;
        bool mine =
            p->shape == FILE_OLD || p->shape == FILE_NEW ? (size_t)vars[i].file == p->n : i == p->n;
        switch (p->shape) {
        case NEWEST:
            picks[i] = 0;
            break;
        case OLDEST:
            picks[i] = old;
            break;
        case BUT_ONE_OLD:
        case FILE_OLD:
            picks[i] = mine ? old : 0;
            break;
        case BUT_ONE_NEW:
        case FILE_NEW:
            picks[i] = mine ? 0 : old;
            break;
        case CHANCE:
            break;
        }
        // One torn sector a file; of another the version after it, which is whole.
        bool torn = crash_model_torn(m, &vars[i], picks[i]);
        bool slots = strcmp(m->node[vars[i].file].name, "slots") == 0;
        if (torn && (vars[i].file == torn_file || (slots && !HELD_TORN_SLOTS)) && picks[i] > 0)
            picks[i]--;
        torn_file = torn ? vars[i].file : torn_file;
        crash_model_pick(m, &vars[i], picks[i]);
    }
}

// Says what a state is: what differs from the newest or the oldest, whichever is shorter.
static void describe(const struct crash_model *m, const struct run *r, uint32_t at,
                     const struct plan *p, const char *level) {
    size_t news = 0, used;
    int last = -1;
    for (int i = 0; i < r->facts; i++)
        if (r->fact[i].from <= at)
            last = i;
    for (size_t i = 0; i < var_count; i++)
        news += picks[i] == 0;
    bool from_new = 2 * news >= var_count;
    used = (size_t)snprintf(where, sizeof where, "%s point %u (fact %d%s), %s %zu/%llx: %s but",
                            level, at, last, last >= 0 && r->fact[last].to > at ? " under way" : "",
                            shape_name[p->shape], p->n, (unsigned long long)p->seed,
                            from_new ? "newest" : "oldest");
    for (size_t i = 0; i < var_count && used < sizeof where - 170; i++) {
        char one[160];
        if (from_new ? picks[i] == 0 : picks[i] == vars[i].choices - 1)
            continue;
        crash_model_say(m, &vars[i], picks[i], one);
        used += (size_t)snprintf(where + used, sizeof where - used, " %s", one);
    }
}

// ---- going through the points

struct tour {
    struct run *r;
    uint64_t round;       // round 0: every shape; later ones: chance
    unsigned chances;     // states by chance at each point
    unsigned one_in;      // of the shapes that single out one variable
    unsigned second_each; // one state in so many is tried for a second crash
    long most;            // states
};

static void second_crashes(const struct tour *t, const struct moment *w, const struct found *base,
                           uint64_t hash);

// Returns false if it was seen before.
static bool visit(const struct tour *t, struct crash_model *m, const struct moment *w,
                  const struct plan *p, const char *level) {
    struct run *r = t->r;
    pick(m, p);
    uint64_t content = crash_model_hash(m);
    int told = 0;
    for (int i = 0; i < r->facts; i++)
        told += 2 * (r->fact[i].to <= w->at) + (r->fact[i].from <= w->at);
    uint64_t hash = mix(mix(content, (uint64_t)(r - runs)), (uint64_t)told);
    if (w->base) {
        hash = mix(hash, 77);
        for (int i = w->old; i < r->facts; i++)
            hash = mix(hash, 1u + (r->fact[i].to <= w->at2) + (r->fact[i].from <= w->at2));
    }
    // What holds after kill -9 holds after a power cut.
    if (seen_before(0, mix(hash, 1), w->kill) || (!w->kill && seen_before(0, mix(hash, 2), true)))
        return false;
    contents += !seen_before(1, mix(content, (uint64_t)(r - runs)), true);
    states++;
    describe(m, r, w->base ? w->at2 : w->at, p, level);
    crash_os_load(disk, m, false);
    static struct found found[2];
    struct found *here = &found[w->base != NULL];
    int facts = r->facts;
    bool ok = try_state(r, w, here, hash);
    r->facts = facts;
    if (ok && !w->base && t->second_each && mix(hash, t->round) % t->second_each == 0)
        second_crashes(t, w, here, hash);
    return true;
}

// All shapes of the point that m has come to.
static void visit_point(const struct tour *t, struct crash_model *m, struct moment *w,
                        const char *level, uint64_t seed) {
    var_count = crash_model_vars(m, vars);
    bool kill = w->kill;
    size_t mine = var_count;
    static struct crash_var own[2][CRASH_VARS];
    struct crash_var *keep = own[w->base != NULL];
    memcpy(keep, vars, mine * sizeof *vars);
    struct plan p = { .shape = NEWEST };
    if (t->round == 0 && kill)
        (void)visit(t, m, w, &p, level);
    w->kill = false;
    if (w->base)
        w->exact = w->exact && w->base != NULL;
    for (p.shape = NEWEST; p.shape <= CHANCE; p.shape++) {
        size_t n = p.shape == NEWEST || p.shape == OLDEST ? 1 : mine;
        if (p.shape == FILE_OLD || p.shape == FILE_NEW)
            n = (size_t)m->nodes;
        if (p.shape == CHANCE)
            n = t->chances;
        if (t->round > 0 && p.shape != CHANCE)
            continue;
        for (p.n = 0; p.n < n && states < t->most; p.n++) {
            p.seed = mix(mix(seed, t->round), p.n + 1);
            bool single = p.shape == BUT_ONE_OLD || p.shape == BUT_ONE_NEW;
            if (single && p.seed % t->one_in != 0)
                continue;
            // A visit goes deeper and comes back with other variables.
            var_count = crash_model_vars(m, vars);
            (void)visit(t, m, w, &p, level);
        }
    }
    w->kill = kill;
}

// Crashes during the recovery of the state that m's picks are, and the sends after it.
static void second_crashes(const struct tour *t, const struct moment *w, const struct found *base,
                           uint64_t hash) {
    static struct found was, more;
    struct run *r = t->r;
    int facts = r->facts;
    was = more = *base;
    crash_model_copy(later, model);
    if (!w->kill)
        crash_model_settle(later);
    crash_os_load(disk, model, true);
    disk->torn = true;
    struct look l = { .r = r, .w = w, .found = &more };
    if (!reopen(&l, "first"))
        return;
    bool ok = send_more(&l, 1 + (int)(hash % 4), disk);
    crash_os_point(disk);
    disk->recording = false;
    store_kill(l.mq);
    struct crash_trace trace = disk->trace;
    disk->trace = (struct crash_trace){ 0 };
    struct tour inner = { .r = r, .chances = 2, .one_in = 16, .most = t->most };
    for (size_t i = 0; ok && i < trace.count && states < t->most; i++) {
        crash_model_follow(later, trace.event[i]);
        if (trace.event[i]->kind != CRASH_POINT)
            continue;
        struct moment w2 = {
            .at = w->at, .at2 = (uint32_t)i, .kill = w->kill, .base = &was, .old = w->old
        };
        char level[64];
        (void)snprintf(level, sizeof level, "after point %u %s, second", w->at,
                       w->kill ? "killed" : "cut");
        second_points++;
        // The process is killed again, or the power goes: what a cut has settled stays.
        struct plan p = { .shape = NEWEST };
        var_count = crash_model_vars(later, vars);
        w2.exact = true;
        (void)visit(&inner, later, &w2, &p, level);
        w2.kill = false;
        w2.exact = !w->kill;
        visit_point(&inner, later, &w2, level, mix(hash, i));
    }
    r->facts = facts;
    crash_trace_clear(&trace);
    crash_model_free(later);
}

static void go_through(const struct tour *t) {
    crash_model_init(model);
    for (size_t i = 0; i < t->r->trace.count && states < t->most; i++) {
        crash_model_follow(model, t->r->trace.event[i]);
        if (t->r->trace.event[i]->kind != CRASH_POINT)
            continue;
        struct moment w = {
            .at = (uint32_t)i, .at2 = UINT32_MAX, .kill = true, .old = t->r->facts
        };
        visit_point(t, model, &w, "", mix((uint64_t)(t->r - runs), i));
    }
}

static double now(void) {
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    const char *text = getenv("LEAT_CRASH_STATES");
    long target = text ? atol(text) : 40000;
    disk = calloc(1, sizeof *disk);
    model = calloc(1, sizeof *model);
    later = calloc(1, sizeof *later);
    if (!disk || !model || !later)
        return 1;
    crash_os_init(disk);
    for (int i = 0; i < WORKLOADS; i++) {
        if (argc > 1 && strcmp(argv[1], workloads[i].name) != 0)
            continue;
        carry_out(&workloads[i], LEAT_WRITE_MAPPED);
        carry_out(&workloads[i], LEAT_WRITE_PWRITE);
    }
    double begin_s = now();
    for (uint64_t round = 0; states < target && round < 1000; round++) {
        long before = states;
        for (int i = 0; i < run_count; i++) {
            long was = states, failed = failures;
            struct tour t = { .r = &runs[i],
                              .round = round,
                              .chances = 4,
                              .one_in = 4,
                              .second_each = 64,
                              .most = LONG_MAX };
            go_through(&t);
            (void)printf("%-16s %s round %llu: %zu events, %ld states, %ld failures\n",
                         runs[i].w->name, i % 2 ? "pwrite" : "mapped", (unsigned long long)round,
                         runs[i].trace.count, states - was, failures - failed);
            (void)fflush(stdout);
        }
        if (states == before)
            break;
    }
    double took = now() - begin_s;
    for (int i = 0; i < classes; i++)
        (void)printf("%6ld x %s: %s\n", failure_class[i].count, failure_class[i].workload,
                     failure_class[i].format);
    (void)printf("%ld contents, %ld points of a second crash, %ld not held yet, %.1f s, %.0f a "
                 "second\n",
                 contents, second_points, excuses, took, (double)states / took);
    (void)printf("crash_states=%ld failures=%ld\n", states, failures);
    for (int i = 0; i < run_count; i++)
        crash_trace_clear(&runs[i].trace);
    crash_os_fini(disk);
    free(disk);
    free(model);
    free(later);
    free(seen_table[0]);
    free(seen_table[1]);
    return failures == 0 && states > 0 ? 0 : 1;
}
