/* SPDX-License-Identifier: MIT */
#include "lib/sim_drive.h"
#include "log/log.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const sim_topic_name[SIM_TOPICS] = { "a", "b", "q", "d" };
const int sim_topic_parts[SIM_TOPICS] = { 2, 1, 1, 1 };
enum { DELAY_MS = 1000 };

// The words of a workload:
//   topic T, delete T        make it, delete it
//   log T NxM, disk T NxM    send N records of M bytes, acknowledged at LOG or DISK, to the
//                            partitions in turn
//   batch T NxM, batch-disk T NxM   the same in one call
//   retain T N               the next topic T is made with a retention of N bytes
//   poll T N, commit         read N records in the group, commit what was polled
//   queue own|over|dead|kept   open the queue over a topic of its own, over "a", or over its own
//   with
//                            a dead-letter queue, or with none and a number of tries
//   durable                  the consumer and the queue opened from here on commit and settle on
//   disk receive N, ack, nack, later   N calls; settle the oldest message held; nack with a delay
//   trim T N                 delete the records below N in partition 0
//   sync, reopen             leat_sync; close and open
//   killed                   kill -9 and open: what was not synced is still not synced
//   many N                   make N topics of no further use
//   window T N               the next topic T remembers N dedup ids, and each record has one
// and those of lib/sim_drive.h.
static const struct sim_workload workloads[] = {
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
    { "batches", "topic a, batch a 4x60, batch-disk a 3x60, batch a 6x4000, batch a 2x9, killed, "
                 "batch a 8x3000, sync, batch a 3x60, batch-disk a 2x5000, batch a 6x100" },
    { "batch-same-size", "topic b, batch b 3x64, batch-disk b 2x64, batch b 5x64, killed, "
                         "batch b 4x64, log b 2x64, batch b 9x700, reopen, batch b 3x64" },
    { "retention", "retain b 33000, topic b, disk b 2x5000, log b 9x5000, disk b 1x5000, log b "
                   "6x5000, sync, log b 4x5000, killed, log b 4x5000, disk b 1x30, reopen" },
    { "seals", "topic b, log b 4x7000, sync, log b 4x7000, sync, killed, log b 3x7000, disk b "
               "1x7000, log b 5x7000, reopen, log b 2x9000, sync, log b 1x40" },
    { "seals-two", "topic a, log a 4x7000, sync, log a 6x7000, disk a 1x40, log a 4x9000, disk a "
                   "2x9000, killed, log a 4x7000, sync" },
    { "two-topics", "topic a, topic b, log a 2x30, disk b 2x5000, log b 3x5000, delete a, "
                    "disk b 1x30, topic a, log a 2x5000, delete b, disk a 2x30, reopen, topic b, "
                    "log b 1x9" },
    { "trim-killed", "topic b, log b 7x4000, trim b 2, killed, trim b 3, killed, log b 2x40, "
                     "trim b 5, killed, trim b 6, killed, disk b 1x40, trim b 10, log b 1x40" },
    { "commit-killed", "topic a, disk a 8x80, poll a 2, commit, sync, poll a 1, commit, killed, "
                       "poll a 1, commit, killed, poll a 1, commit, poll a 1, commit, poll a 1, "
                       "commit, log a 2x80, killed, poll a 1, commit" },
    { "commit-disk", "durable, topic a, log a 4x80, poll a 2, commit, poll a 1, commit, log a "
                     "4x400, poll a 3, commit, log a 2x9, poll a 1, commit" },
    { "settle-disk", "durable, queue own, log q 5x50, receive 3, ack, later, ack, receive 2, ack, "
                     "nack, log q 2x50, receive 2, ack, ack" },
    { "kept", "queue kept, disk q 2x50, log q 2x50, receive 2, nack, nack, receive 2, nack, ack, "
              "receive 1, nack, receive 1, nack, reopen, receive 1, ack" },
    { "kept-killed",
      "queue kept, log q 3x50, receive 1, killed, receive 1, killed, receive 1, nack, "
      "receive 1, nack, receive 1, ack, log q 1x50" },
    { "queue", "queue own, disk q 2x50, log q 3x50, receive 3, ack, later, ack, receive 2, ack, "
               "nack, reopen, receive 1, ack, log q 1x50" },
    { "queue-rolls", "queue own, log q 4x5000, receive 3, ack, ack, ack, disk q 1x5000, receive 2, "
                     "ack, ack, log q 2x5000, receive 1, killed, receive 1, ack" },
    { "queue-over", "topic a, log a 4x50, queue over, receive 3, ack, nack, disk a 2x5000, "
                    "receive 3, ack, ack, sync, ack, log a 2x50" },
    { "dead-letters",
      "queue dead, disk q 1x50, log q 2x50, receive 2, nack, nack, receive 2, nack, "
      "ack, receive 1, nack, receive 1, nack, reopen" },
    { "async",
      "topic b, async b 3x100, flush, async b 2x300, told, linger, told, async b 2x40, log b "
      "1x40, async b 4x1200, told, async-disk b 3x60, linger, told, async-disk b 2x900, "
      "flush, async b 2x30, purge, async b 1x70, flush, async b 2x50, reopen, log b 1x9" },
    { "async-parts", "topic a, async-disk a 4x60, flush, async a 8x900, told, linger, told, disk a "
                     "1x10, async a 4x1500, flush, async-disk a 6x1500, told, linger, flush, "
                     "async-disk a 2x5000, told, async-disk a 3x10, reopen, async a 2x8, flush" },
    { "async-killed", "topic b, async b 3x100, flush, async b 2x50, killed, async-disk b 3x64, "
                      "linger, killed, async b 5x1200, killed, async-disk b 7x1200, told, killed, "
                      "async b 3x64, linger, killed, disk b 1x64, async b 3x64, flush" },
    { "async-same-size", "topic b, async b 3x64, flush, async-disk b 2x64, flush, async b 5x64, "
                         "linger, killed, async b 4x64, log b 2x64, async b 9x700, flush, async b "
                         "3x64, purge, reopen, async b 3x64, flush, disk b 1x64" },
    { "async-rolls",
      "topic b, async b 5x3000, told, async b 4x3900, flush, async-disk b 5x3500, "
      "told, linger, told, async b 1x17000, async b 2x20, flush, sync, async b 3x40, "
      "flush" },
    { "direct", "topic b, direct b 3x60, flush, direct-disk b 3x64, told, linger, told, direct b "
                "6x600, async b 2x64, direct b 2x64, flush, direct-disk b 2x64, killed, direct b "
                "4x64, told, direct b 1x64, reopen, direct-disk b 2x1900, flush" },
    { "direct-parts", "topic a, async a 3x60, direct a 3x60, async a 3x60, flush, disk a 2x30, "
                      "async-disk a 3x64, direct-disk a 4x64, told, linger, killed, direct a 5x64, "
                      "linger, flush" },
    { "async-refused",
      "topic b, disk b 1x40, refuse b 2, async b 3x64, linger, direct b 2x64, async b 2x64, told, "
      "retry, told, retry, retry, told, flush, refuse b 1, async-disk b 2x64, linger, direct-disk "
      "b 2x64, told, retry, flush, refuse b 1, async b 2x64, linger, purge, async b "
      "1x64, flush" },
    { "async-deleted", "topic b, topic a, disk b 1x30, async b 3x30, async a 2x30, delete b, told, "
                       "linger, told, topic b, async b 2x30, flush, async-disk b 2x30, linger, "
                       "delete b, flush, topic b, async-disk b 2x30, flush" },
    { "ids", "window b 100, topic b, log b 2x64, disk b 1x64, again b 2, again-disk b 3, log b "
             "3x64, again b 3, flush, killed, again b 4, flush, log b 1x64, reopen, again-disk b "
             "5, flush, batch b 3x64, again b 3, flush" },
    { "ids-async",
      "window a 100, topic a, async a 3x64, again a 2, flush, async-disk a 3x64, linger, "
      "told, again-disk a 3, flush, killed, async a 2x5000, again a 2, flush, async a "
      "3x64, purge, async-disk a 1x64, flush, reopen, again a 5, flush" },
    { "ids-rolls", "window b 8, topic b, disk b 1x5000, log b 5x5000, again b 4, flush, log b "
                   "4x5000, again b 6, flush, killed, again b 6, flush, log b 1x64" },
    { "dead-killed", "queue dead, log q 2x50, receive 1, killed, receive 1, killed, receive 1, "
                     "nack, receive 1, nack" },
    { "jobs-order",
      "topic q, topic d, jobs dead, priority 9, log q 1x50, priority 1, log q 1x50, group g, "
      "priority 5, disk q 2x50, group h, log q 1x50, group g, log q 1x50, receive 3, ack, nack, "
      "ack, receive 2, killed, receive 2, ack, ack" },
    { "jobs-delay",
      "topic q, topic d, jobs dead, delay 3000, log q 2x50, delay 0, disk q 2x50, "
      "receive 2, later, backoff, pass 5000, receive 3, uncount, ack, nack, pass 500, "
      "receive 1, forget, pass 31000, reopen, pass 40000, receive 1, ack" },
    { "jobs-dead",
      "topic q, topic d, jobs dead, log q 3x50, disk q 1x50, receive 2, reject, nack, "
      "receive 1, uncount, receive 1, nack, receive 2, forget, ack, killed, receive 1, "
      "reject, log q 1x50" },
    { "jobs-group-dead",
      "topic q, topic d, jobs dead, group g, log q 3x50, receive 1, later, log q 1x50, pass 4000, "
      "receive 1, nack, receive 1, reject, receive 1, forget, pass 40000, receive 1, ack" },
    { "jobs-kept", "topic q, jobs kept, group g, log q 2x50, group none, log q 2x50, receive 2, "
                   "reject, nack, receive 2, nack, reject, redrive, receive 2, ack, ack, receive "
                   "1, reject, killed, redrive, receive 1, ack" },
    { "jobs-purge",
      "topic q, topic d, jobs dead, priority 7, log q 2x50, delay 4000, log q 1x50, "
      "delay 0, receive 1, later, receive 1, empty, log q 2x50, receive 1, ack, killed, "
      "receive 1, reject, log q 1x50, empty, disk q 1x50" },
    { "jobs-purge-disk", "durable, topic q, jobs kept, log q 3x50, receive 2, reject, nack, empty, "
                         "log q 2x50, receive 1, later, log q 1x50, empty, log q 1x50" },
    { "jobs-redrive", "topic q, topic d, jobs dead, priority 8, log q 3x50, receive 3, reject, "
                      "ack, reject, redrive, receive 1, nack, log q 1x50, receive 2, reject, "
                      "reject, killed, redrive, receive 1, ack" },
    { "jobs-disk", "durable, topic q, topic d, jobs dead, group g, log q 2x50, group none, log q "
                   "2x50, receive 3, reject, backoff, uncount, pass 2000, receive 2, ack, nack, "
                   "redrive, receive 1, ack" },
    { "jobs-aged", "topic q, jobs aged, log q 2x50, delay 3000, log q 1x50, delay 0, receive 1, "
                   "backoff, pass 60000, log q 1x50, pass 110000, log q 2x50, receive 1, ack" },
    { "jobs-aged-dead", "topic q, topic d, jobs aged-dead, log q 2x50, receive 1, reject, group g, "
                        "log q 2x50, pass 110000, log q 1x50, killed, receive 1, nack" },
    { "jobs-rolls",
      "topic q, topic d, jobs dead, priority 6, log q 3x5000, receive 3, ack, reject, "
      "later, log q 2x5000, receive 2, ack, ack, pass 4000, log q 2x5000, receive 2, "
      "ack, forget, killed, receive 1, ack, redrive, receive 1, ack" },
};

const struct sim_workload *sim_workload(int number) {
    return (size_t)number < sizeof workloads / sizeof *workloads ? &workloads[number] : NULL;
}

// Takes one step off *steps. Returns false at the end.
static bool step_next(const char **steps, struct sim_step *s) {
    char text[64];
    size_t n = strcspn(*steps, ",");
    if (n == 0 || n >= sizeof text)
        return false;
    memcpy(text, *steps, n);
    text[n] = '\0';
    *steps += n + ((*steps)[n] == ',' ? 2 : 0);
    *s = (struct sim_step){ .topic = -1 };
    char *save, *word = strtok_r(text, " ", &save);
    (void)snprintf(s->verb, sizeof s->verb, "%s", word);
    while ((word = strtok_r(NULL, " ", &save))) {
        if (sscanf(word, "%dx%d", &s->n, &s->size) > 0)
            continue;
        (void)snprintf(s->word, sizeof s->word, "%s", word);
        for (int i = 0; i < SIM_TOPICS; i++)
            if (strcmp(word, sim_topic_name[i]) == 0)
                s->topic = i;
    }
    return true;
}

// ---- values: the number of the fact, and bytes that follow from it

void sim_value_make(int number, size_t size, char *out) {
    char text[16];
    (void)snprintf(text, sizeof text, "%07d", number);
    memcpy(out, text, 8);
    for (size_t i = 8; i < size; i++)
        out[i] = (char)('a' + (i * 7 + (size_t)number) % 26);
}

int sim_value_number(const leat_message *m) {
    const char *s = m->value.data;
    return m->value.size >= 8 && s[7] == '\0' ? atoi(s) : -1;
}

// The pattern comes again every 26 bytes.
bool sim_value_right(const leat_message *m, int number) {
    char want[8 + 26];
    size_t size = m->value.size, n = size < sizeof want ? size : sizeof want;
    const char *is = m->value.data;
    sim_value_make(number, n, want);
    return memcmp(is, want, n) == 0 && (size == n || memcmp(is + n, is + n - 26, size - n) == 0);
}

leat_bytes sim_id(int number, char out[SIM_ID]) {
    return (leat_bytes){ out, (size_t)snprintf(out, SIM_ID, "id-%d", number) };
}

// ---- carrying out a workload

int sim_store_open(struct crash_os *os, int32_t write, leat **mq) {
    leat_options o = {
        .threads = LEAT_NO_THREADS, .clock = LEAT_CLOCK_MANUAL, .seed = 1, .write = write
    };
    int rc = lt_store_open("store", &o, &os->os, mq);
    if (rc == 0)
        (*mq)->log->manifest.snapshot_over = 0; // as soon as it is four times as long as needed
    return rc;
}

// Frees the store as if its process was killed: as in the child of a fork, which writes nothing.
void sim_store_kill(leat *mq) {
    mq->fork_epoch--;
    (void)leat_close_all(mq, 0);
}

struct sim_fact *sim_fact_begin(struct sim_driver *d, enum sim_what what) {
    struct sim_run *r = d->r;
    if (r->facts == SIM_FACTS)
        sim_broken("too many facts", 0);
    struct sim_fact *f = &r->fact[r->facts++];
    *f = (struct sim_fact){ .what = what, .from = (uint32_t)d->os->trace.count, .to = UINT32_MAX };
    return f;
}

// The call has returned; what it did becomes part of the next point.
void sim_fact_end(struct sim_driver *d, struct sim_fact *f) {
    if (f)
        f->to = (uint32_t)d->os->trace.count;
    crash_os_point(d->os);
}

static void drive_open(struct sim_driver *d) {
    leat_producer_options o = { .acks = LEAT_ACKS_LOG,
                                .callbacks = LEAT_CALLBACKS_POLL,
                                .linger_ms = SIM_LINGER_MS,
                                .retry_backoff_ms = SIM_BACKOFF_MS,
                                .batch_bytes = SIM_BATCH_BYTES };
    sim_must("open", sim_store_open(d->os, d->r->write, &d->mq));
    sim_must("producer", leat_producer_open(d->mq, &o, &d->log));
    o.acks = LEAT_ACKS_DISK;
    sim_must("producer", leat_producer_open(d->mq, &o, &d->disk));
    leat_topic_options there = { .flags = LEAT_MUST_EXIST };
    for (int i = 0; i < SIM_TOPICS; i++)
        if (d->t[i])
            sim_must("topic", leat_topic_open(d->mq, sim_topic_name[i], &there, &d->t[i]));
    sim_async_open(d);
    if (d->q)
        sim_must("queue",
                 leat_queue_open(d->mq, d->r->queue_topic == SIM_Q ? "q" : "over", NULL, &d->q));
    d->c = NULL;
    d->held_count = d->lost_count = 0;
    crash_os_point(d->os);
}

static void drive_close_children(struct sim_driver *d) {
    if (d->c)
        sim_must("consumer close", leat_consumer_close(d->c));
    for (int i = 0; i < d->held_count; i++)
        sim_must("release", leat_message_release(d->mq, &d->held[i]));
    if (d->q)
        sim_must("queue close", leat_queue_close(d->q));
}

// What waits is sent, and told.
static void drive_close_producers(struct sim_driver *d) {
    sim_async_close(d->log, d);
    sim_async_close(d->disk, d);
}

static void drive_topic(struct sim_driver *d, int topic) {
    leat_topic_options o = { .partitions = sim_topic_parts[topic],
                             .segment_bytes = 16384,
                             .retention_bytes = d->r->retention[topic],
                             .dedup_window_count = d->r->window[topic] };
    struct sim_fact *f = sim_fact_begin(d, SIM_MADE);
    f->topic = topic;
    f->life = ++d->life[topic];
    if (topic == SIM_Q || topic == SIM_D) { // as queues make theirs, but with small segments
        leat_topic_options full;
        sim_must("topic options", lt_topic_check_options(&o, &full));
        lt_lock(&d->mq->log->admin);
        int rc = lt_topic_create(d->mq, sim_topic_name[topic], &full, true, &d->t[topic]);
        lt_unlock(&d->mq->log->admin);
        sim_must("topic", rc);
    } else {
        sim_must("topic", leat_topic_open(d->mq, sim_topic_name[topic], &o, &d->t[topic]));
    }
    memset(d->next[topic], 0, sizeof d->next[topic]);
    sim_fact_end(d, f);
}

static void drive_delete(struct sim_driver *d, int topic) {
    struct sim_fact *f = sim_fact_begin(d, SIM_GONE);
    f->topic = topic;
    f->life = d->life[topic];
    sim_must("delete", leat_topic_delete(d->mq, sim_topic_name[topic]));
    d->t[topic] = NULL;
    sim_fact_end(d, f);
}

// A fact of one record, which is r from then on.
struct sim_fact *sim_fact_record(struct sim_driver *d, const struct sim_step *s, int i,
                                 bool on_disk, leat_record *r) {
    static char value[16][32 * 1024], id[16][SIM_ID];
    struct sim_fact *f = sim_fact_begin(d, SIM_SENT);
    f->topic = s->topic;
    f->life = d->life[s->topic];
    f->part = i % sim_topic_parts[s->topic];
    f->offset = d->next[s->topic][f->part]++;
    f->disk = on_disk;
    f->size = s->size < 8 ? 8 : s->size;
    sim_value_make((int)(f - d->r->fact), (size_t)f->size, value[i % 16]);
    *r = (leat_record){ .value = { value[i % 16], (size_t)f->size },
                        .to_partition = LEAT_PARTITION(f->part) };
    if (d->r->window[s->topic] > 0 && !strstr(s->verb, "direct")) {
        f->id = (int)(f - d->r->fact) + 1;
        r->dedup_id = sim_id(f->id, id[i % 16]);
    }
    if (d->r->jobs)
        sim_jobs_record(d, f, r);
    return f;
}

static void drive_send(struct sim_driver *d, const struct sim_step *s, bool on_disk) {
    for (int i = 0; i < s->n; i++) {
        leat_record r;
        leat_metadata md;
        struct sim_fact *f = sim_fact_record(d, s, i, on_disk, &r);
        sim_must("send", leat_send(on_disk ? d->disk : d->log, d->t[s->topic], &r, &md));
        if (md.offset != f->offset)
            sim_broken("a send got another offset", 0);
        sim_fact_end(d, f);
    }
}

static void drive_batch(struct sim_driver *d, const struct sim_step *s, bool on_disk) {
    leat_record r[16];
    leat_metadata md[16];
    int first = d->r->facts, batch = ++d->r->batches;
    for (int i = 0; i < s->n; i++)
        sim_fact_record(d, s, i, on_disk, &r[i])->batch = batch;
    sim_must("send many",
             leat_send_many(on_disk ? d->disk : d->log, d->t[s->topic], r, (size_t)s->n, md));
    for (int i = 0; i < s->n; i++) {
        struct sim_fact *f = &d->r->fact[first + i];
        if (md[i].offset != f->offset)
            sim_broken("a batch got other offsets", 0);
        f->to = (uint32_t)d->os->trace.count;
    }
    sim_fact_end(d, NULL);
}

static void drive_poll(struct sim_driver *d, const struct sim_step *s) {
    leat_consumer_options one = { .max_poll_records = 1,
                                  .commit_acks = d->durable ? LEAT_ACKS_DISK : 0 };
    if (!d->c) {
        sim_must("consumer", leat_consumer_open(d->mq, "g", &one, &d->c));
        sim_must("subscribe", leat_consumer_subscribe(d->c, sim_topic_name[s->topic]));
        d->c_topic = s->topic;
        memset(d->polled, -1, sizeof d->polled);
    }
    for (int i = 0; i < s->n; i++) {
        const leat_message *m;
        int n = leat_poll(d->c, 0, &m);
        sim_must("poll", n);
        if (n != 1)
            sim_broken("nothing to poll", 0);
        d->polled[m->partition] = m->offset + 1;
    }
    sim_fact_end(d, NULL);
}

static void drive_commit(struct sim_driver *d) {
    struct sim_fact *f[SIM_PARTS] = { NULL };
    for (int i = 0; i < sim_topic_parts[d->c_topic]; i++) {
        if (d->polled[i] < 0)
            continue;
        f[i] = sim_fact_begin(d, SIM_COMMITTED);
        f[i]->topic = d->c_topic;
        f[i]->life = d->life[d->c_topic];
        f[i]->part = i;
        f[i]->offset = d->polled[i];
        f[i]->disk = d->durable;
    }
    sim_must("commit", leat_commit(d->c));
    for (int i = 0; i < SIM_PARTS; i++)
        if (f[i])
            f[i]->to = (uint32_t)d->os->trace.count;
    memset(d->polled, -1, sizeof d->polled);
    sim_fact_end(d, NULL);
}

static void drive_queue(struct sim_driver *d, const struct sim_step *s) {
    bool over = strcmp(s->word, "over") == 0, dead = strcmp(s->word, "dead") == 0;
    bool kept = strcmp(s->word, "kept") == 0;
    leat_queue_options o = { .deliveries_max = dead || kept ? SIM_TRIES : LEAT_UNLIMITED,
                             .settle_acks = d->durable ? LEAT_ACKS_DISK : 0,
                             .topic = over ? "a" : NULL,
                             .dead_letter = dead ? "d" : NULL };
    if (!over)
        drive_topic(d, SIM_Q);
    if (dead)
        drive_topic(d, SIM_D);
    d->r->queue_topic = over ? SIM_A : SIM_Q;
    d->r->dead = dead;
    d->r->kept = kept;
    struct sim_fact *f = sim_fact_begin(d, SIM_QUEUE_MADE);
    sim_must("queue", leat_queue_open(d->mq, over ? "over" : "q", &o, &d->q));
    sim_fact_end(d, f);
}

static void drive_receive(struct sim_driver *d, const struct sim_step *s) {
    for (int i = 0; i < s->n; i++) {
        leat_message *m = &d->held[d->held_count++];
        struct sim_fact *f = sim_fact_begin(d, SIM_RECEIVED);
        int n = leat_queue_receive(d->q, 0, m, 1);
        sim_must("receive", n);
        if (n != 1)
            sim_broken("nothing to receive", 0);
        f->topic = d->r->queue_topic;
        f->part = m->partition;
        f->offset = m->offset;
        f->tries = m->deliveries;
        sim_fact_end(d, f);
    }
}

static leat_message drive_oldest(struct sim_driver *d) {
    leat_message m = d->held[0];
    memmove(d->held, d->held + 1, (size_t)--d->held_count * sizeof m);
    return m;
}

static void drive_ack(struct sim_driver *d) {
    leat_message m = drive_oldest(d);
    struct sim_fact *f = sim_fact_begin(d, SIM_ACKED);
    f->topic = d->r->queue_topic;
    f->part = m.partition;
    f->offset = m.offset;
    f->disk = d->durable;
    sim_must("ack", leat_queue_ack(d->q, &m));
    sim_fact_end(d, f);
}

static void drive_nack(struct sim_driver *d, int64_t delay_ms) {
    leat_message m = drive_oldest(d);
    bool tried = (d->r->dead || d->r->kept) && m.deliveries == SIM_TRIES;
    struct sim_fact *f = tried ? sim_fact_begin(d, SIM_DIED) : NULL;
    if (f) {
        f->topic = d->r->queue_topic;
        f->offset = m.offset;
    }
    sim_must("nack", leat_queue_nack(d->q, &m, delay_ms, 0));
    sim_fact_end(d, f);
    if (delay_ms > 0)
        sim_must("advance", leat_clock_advance(d->mq, delay_ms));
    sim_fact_end(d, NULL);
}

static void drive_trim(struct sim_driver *d, const struct sim_step *s) {
    struct sim_fact *f = sim_fact_begin(d, SIM_TRIMMED);
    f->topic = s->topic;
    f->life = d->life[s->topic];
    f->offset = s->n;
    sim_must("delete_records", leat_topic_delete_records(d->t[s->topic], 0, s->n));
    sim_fact_end(d, f);
}

static void drive_many(struct sim_driver *d, const struct sim_step *s) {
    for (int i = 0; i < s->n; i++) {
        char name[16];
        leat_topic *t;
        (void)snprintf(name, sizeof name, "many-%d", d->r->many++);
        sim_must("topic", leat_topic_open(d->mq, name, NULL, &t));
        sim_fact_end(d, NULL);
    }
}

static void drive_sync(struct sim_driver *d) {
    struct sim_fact *f = sim_fact_begin(d, SIM_SYNCED);
    sim_must("sync", leat_sync(d->mq));
    sim_fact_end(d, f);
}

static void drive_reopen(struct sim_driver *d) {
    drive_close_children(d);
    drive_close_producers(d);
    struct sim_fact *f = sim_fact_begin(d, SIM_CLOSED);
    sim_must("close", leat_close_all(d->mq, 0));
    sim_fact_end(d, f);
    drive_open(d);
}

static void drive_kill(struct sim_driver *d) {
    drive_close_children(d);
    sim_store_kill(d->mq);
    drive_open(d);
}

static void drive_step(struct sim_driver *d, const struct sim_step *s) {
    const char *verb = s->verb;
    if (sim_drive_jobs(d, s) || sim_drive_async(d, s))
        return;
    if (strcmp(verb, "topic") == 0)
        drive_topic(d, s->topic);
    else if (strcmp(verb, "delete") == 0)
        drive_delete(d, s->topic);
    else if (strcmp(verb, "log") == 0 || strcmp(verb, "disk") == 0)
        drive_send(d, s, verb[0] == 'd');
    else if (strcmp(verb, "batch") == 0 || strcmp(verb, "batch-disk") == 0)
        drive_batch(d, s, verb[5] == '-');
    else if (strcmp(verb, "retain") == 0)
        d->r->retention[s->topic] = s->n;
    else if (strcmp(verb, "window") == 0)
        d->r->window[s->topic] = s->n;
    else if (strcmp(verb, "durable") == 0)
        d->durable = true;
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
        sim_broken(verb, 0);
}

void sim_carry_out(const struct sim_workload *w, int32_t write, struct sim_run *r) {
    static struct sim_driver d;
    struct crash_os *os = calloc(1, sizeof *os);
    if (!os)
        abort();
    *r = (struct sim_run){ .number = r->number, .w = w, .write = write, .queue_topic = -1 };
    memset(&d, 0, sizeof d);
    d.r = r;
    d.os = os;
    crash_os_init(os);
    os->torn = true;
    os->recording = true;
    (void)snprintf(sim_where, sizeof sim_where, "workload %s", w->name);
    drive_open(&d);
    const char *steps = w->steps;
    for (struct sim_step s; step_next(&steps, &s);)
        drive_step(&d, &s);
    os->recording = false;
    drive_close_children(&d);
    drive_close_producers(&d);
    sim_must("close", leat_close_all(d.mq, 0));
    r->trace = os->trace;
    os->trace = (struct crash_trace){ 0 };
    crash_os_fini(os);
    free(os);
}
