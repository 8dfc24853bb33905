/* SPDX-License-Identifier: MIT */
#include "lib/sim_drive.h"
#include "log/producer.h"

#include <string.h>

static struct sim_driver *told_to; // the driver whose reports come

// ---- reports

static void told_stored(const struct sim_fact *f, const leat_report *r) {
    int number = (int)(f - told_to->r->fact);
    leat_message m = { .value = r->record ? r->record->value : leat_str("") };
    bool whole = r->record || f->whole;
    if (r->md.offset != f->offset || r->md.partition != f->part || r->error != 0 || !whole)
        sim_broken("a report tells of another place", r->error);
    if (r->record && (m.value.size != (size_t)f->size || !sim_value_right(&m, number)))
        sim_broken("a report tells of another record", 0);
}

// Of a batch made by hand the facts behind f are told, too.
static void told(leat_producer *p, const leat_report *r, void *ctx) {
    struct sim_driver *d = told_to;
    struct sim_fact *f = ctx;
    (void)p;
    if (f->to != UINT32_MAX)
        sim_broken("a report came twice", 0);
    for (const struct sim_fact *g = d->r->fact + d->since; g < f; g++)
        if (g->what == SIM_SENT && g->topic == f->topic && g->life == f->life &&
            g->part == f->part && g->disk == f->disk && g->to == UINT32_MAX)
            sim_broken("a report came before one of an earlier record", 0);
    if (f->what == SIM_REPEATED) {
        if (r->status != LEAT_STORED || !r->md.duplicate || r->md.offset != f->offset)
            sim_broken("a repeat was stored", r->error);
        f->to = (uint32_t)d->os->trace.count;
        return;
    }
    if (r->status == LEAT_STORED)
        told_stored(f, r);
    else if (r->status != LEAT_NOT_STORED || r->md.offset != -1)
        sim_broken("a report without an error of the system", r->error);
    struct sim_fact *end = f->whole ? d->r->fact + d->r->facts : f + 1;
    for (struct sim_fact *g = f; g < end && g->batch == f->batch; g++) {
        g->to = (uint32_t)d->os->trace.count;
        if (r->status == LEAT_STORED)
            continue;
        g->offset = -1; // those behind it get its number
        if (g->life == d->life[g->topic])
            d->next[g->topic][g->part]--;
    }
}

static void check_all_told(const struct sim_driver *d) {
    for (const struct sim_fact *f = d->r->fact + d->since; f < d->r->fact + d->r->facts; f++)
        if (f->what == SIM_SENT && f->to == UINT32_MAX)
            sim_broken("a report is lost", 0);
}

// ---- sending

// Which of the producer's batches the record is in that was just accepted.
static int batch_of(struct sim_driver *d, const struct sim_fact *f, leat_producer *p) {
    int *gathers = &d->gathers[f->disk][f->topic][f->part];
    const struct lt_parcel *open = p->last->open;
    if (!open && f->id == 0 && f->size < SIM_BATCH_BYTES)
        sim_broken("a record filled a batch to the last byte", 0);
    if (!open || open->count == 1)
        *gathers = ++d->r->batches;
    return *gathers;
}

static void drive_async(struct sim_driver *d, const struct sim_step *s, bool on_disk) {
    leat_producer *p = on_disk ? d->disk : d->log;
    for (int i = 0; i < s->n; i++) {
        leat_record r;
        struct sim_fact *f = sim_fact_record(d, s, i, on_disk, &r);
        sim_must("send async", leat_send_async(p, d->t[s->topic], &r, told, f));
        f->batch = batch_of(d, f, p);
        sim_fact_end(d, NULL);
    }
}

static void drive_direct(struct sim_driver *d, const struct sim_step *s, bool on_disk) {
    leat_producer *p = on_disk ? d->disk : d->log;
    leat_batch *b;
    struct sim_fact *first = NULL;
    int number = ++d->r->batches;
    sim_must("batch open", leat_batch_open(p, d->t[s->topic], 0, &b));
    for (int i = 0; i < s->n; i++) {
        leat_record r;
        struct sim_fact *f = sim_fact_record(d, s, 0, on_disk, &r);
        first = first ? first : f;
        f->batch = number;
        f->whole = true;
        sim_must("batch append", leat_batch_append(b, &r));
    }
    sim_must("batch send", leat_batch_send(b, told, first));
    sim_fact_end(d, NULL);
}

// The last n records of a topic again, by their ids: in turn at once and later.
static void drive_again(struct sim_driver *d, const struct sim_step *s, bool on_disk) {
    leat_producer *p = on_disk ? d->disk : d->log;
    const struct sim_fact *f = d->r->fact + d->r->facts;
    for (int i = 0; i < s->n && f > d->r->fact;) {
        if ((--f)->what != SIM_SENT || f->topic != s->topic || f->life != d->life[s->topic] ||
            f->offset < 0)
            continue;
        char id[SIM_ID];
        struct sim_fact *g = sim_fact_begin(d, SIM_REPEATED);
        leat_record r = { .value = leat_str("a repeat"), .to_partition = LEAT_PARTITION(f->part) };
        leat_metadata md;
        *g = (struct sim_fact){ .what = SIM_REPEATED,
                                .from = g->from,
                                .to = UINT32_MAX,
                                .topic = f->topic,
                                .life = f->life,
                                .part = f->part,
                                .offset = f->offset,
                                .disk = on_disk };
        r.dedup_id = sim_id(f->id, id);
        if (i++ % 2 == 0) {
            sim_must("repeat", leat_send_async(p, d->t[s->topic], &r, told, g));
            sim_fact_end(d, NULL);
            continue;
        }
        sim_must("repeat", leat_send(p, d->t[s->topic], &r, &md));
        if (!md.duplicate || md.offset != f->offset)
            sim_broken("a repeat was stored", 0);
        sim_fact_end(d, g);
    }
}

// ---- what comes between

static void drive_flush(struct sim_driver *d) {
    for (int i = 0; i < 2; i++) {
        int left = leat_flush(i == 0 ? d->log : d->disk, 0);
        sim_must("flush", left);
        if (left != 0)
            sim_broken("a flush leaves something", left);
        sim_fact_end(d, NULL);
    }
    check_all_told(d);
}

static void drive_told(struct sim_driver *d) {
    sim_must("producer poll", leat_producer_poll(d->log, 0));
    sim_fact_end(d, NULL);
    sim_must("producer poll", leat_producer_poll(d->disk, 0));
    sim_fact_end(d, NULL);
}

static void drive_purge(struct sim_driver *d) {
    sim_must("purge", leat_producer_purge(d->log));
    sim_must("purge", leat_producer_purge(d->disk));
    drive_told(d);
}

static void drive_time(struct sim_driver *d, int64_t ms) {
    sim_must("advance", leat_clock_advance(d->mq, ms));
    sim_fact_end(d, NULL);
}

bool sim_drive_async(struct sim_driver *d, const struct sim_step *s) {
    const char *verb = s->verb;
    bool on_disk = strstr(verb, "-disk") != NULL;
    told_to = d;
    if (strncmp(verb, "async", 5) == 0)
        drive_async(d, s, on_disk);
    else if (strncmp(verb, "direct", 6) == 0)
        drive_direct(d, s, on_disk);
    else if (strncmp(verb, "again", 5) == 0)
        drive_again(d, s, on_disk);
    else if (strcmp(verb, "flush") == 0)
        drive_flush(d);
    else if (strcmp(verb, "told") == 0)
        drive_told(d);
    else if (strcmp(verb, "purge") == 0)
        drive_purge(d);
    else if (strcmp(verb, "linger") == 0)
        drive_time(d, SIM_LINGER_MS);
    else if (strcmp(verb, "retry") == 0)
        drive_time(d, SIM_BACKOFF_MS);
    else if (strcmp(verb, "refuse") == 0)
        sim_must("fault", leat_fault_push(d->mq, LEAT_OP_APPEND, sim_topic_name[s->topic], -1,
                                          LEAT_ENOSPC, s->n, 0));
    else
        return false;
    return true;
}

void sim_async_close(leat_producer *p, struct sim_driver *d) {
    told_to = d;
    int lost = leat_producer_close(p, 0);
    sim_must("producer close", lost);
    if (lost != 0)
        sim_broken("a close gives up records", lost);
}

void sim_async_open(struct sim_driver *d) {
    memset(d->gathers, 0, sizeof d->gathers);
    for (int topic = 0; topic < SIM_Q; topic++)
        for (int part = 0; d->t[topic] && part < sim_topic_parts[topic]; part++) {
            leat_range r;
            sim_must("range", leat_topic_range(d->t[topic], part, &r));
            d->next[topic][part] = r.end;
        }
    for (struct sim_fact *f = d->r->fact + d->since; f < d->r->fact + d->r->facts; f++)
        if (f->what == SIM_SENT && f->to == UINT32_MAX && f->topic < SIM_Q &&
            f->life == d->life[f->topic] && f->offset >= d->next[f->topic][f->part])
            f->offset = -1;
    d->since = d->r->facts;
}
