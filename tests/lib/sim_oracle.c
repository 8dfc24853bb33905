/* SPDX-License-Identifier: MIT */
#include "lib/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- failures

struct sim_totals sim_totals;
char sim_where[1024];
static int classes;
static struct {
    const char *format, *workload;
    long count;
} failure_class[256];

bool sim_fail(const struct sim_run *r, const char *format, ...) {
    sim_totals.failures++;
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
    (void)printf("\n    %s\n", sim_where);
    va_end(list);
    return false;
}

void sim_print_failures(void) {
    for (int i = 0; i < classes; i++)
        (void)printf("%6ld x %s: %s\n", failure_class[i].count, failure_class[i].workload,
                     failure_class[i].format);
}

_Noreturn void sim_broken(const char *what, int rc) {
    (void)printf("the workload itself failed: %s is %s: %s (%s)\n", what, leat_errname(rc),
                 leat_errmsg(), sim_where);
    (void)fflush(stdout);
    abort();
}

void sim_must(const char *what, int rc) {
    if (rc < 0)
        sim_broken(what, rc);
}

// ---- what is owed at a moment

bool sim_begun(const struct sim_moment *w, const struct sim_run *r, const struct sim_fact *f) {
    return f->from <= (f - r->fact < w->old ? w->at : w->at2);
}

bool sim_done(const struct sim_moment *w, const struct sim_run *r, const struct sim_fact *f) {
    return f->to <= (f - r->fact < w->old ? w->at : w->at2);
}

// Whether what a call that returned did must be there.
bool sim_safe(const struct sim_moment *w, const struct sim_run *r, const struct sim_fact *f) {
    if (!sim_done(w, r, f))
        return false;
    if (w->kill || f->disk || f->what == SIM_GONE || f->what == SIM_TRIMMED)
        return true;
    for (const struct sim_fact *g = f + 1; g < r->fact + r->facts; g++) {
        if (!sim_done(w, r, g) || g->from < f->to)
            continue;
        if (g->what == SIM_CLOSED)
            return true;
        if (g->what == SIM_SYNCED &&
            (f->what == SIM_SENT || f->what == SIM_COMMITTED || f->what == SIM_MADE))
            return true;
        if (g->what == SIM_REPEATED && g->disk && f->what == SIM_SENT && g->topic == f->topic &&
            g->life == f->life && g->part == f->part && f->offset <= g->offset)
            return true;
        if (g->what == SIM_SENT && g->disk && g->offset >= 0 && g->topic == f->topic &&
            g->life == f->life &&
            (f->what == SIM_MADE || (f->what == SIM_SENT && f->part == g->part)))
            return true;
    }
    return false;
}

// ---- looking at a state

const struct sim_fact *sim_sent_at(const struct sim_look *l, int topic, int part, int64_t offset,
                                   const leat_message *m) {
    int number = sim_value_number(m);
    const struct sim_fact *f = number >= 0 && number < l->r->facts ? &l->r->fact[number] : NULL;
    if (!f || f->what != SIM_SENT || !sim_value_right(m, number)) {
        sim_fail(l->r, "%s:%d offset %lld has bytes that nobody sent", sim_topic_name[topic], part,
                 (long long)offset);
        return NULL;
    }
    const struct sim_found *b = l->w->base;
    for (const struct sim_fact *g = f; g < l->r->fact + l->r->facts; g++)
        if (g->what == SIM_MOVED && topic == SIM_Q && g->other == offset &&
            sim_begun(l->w, l->r, g))
            return f;
    bool lost = b && b->there[topic] && number < l->w->old && offset >= b->records_end[topic][part];
    if (f->topic != topic || f->part != part || f->offset != offset || !sim_begun(l->w, l->r, f) ||
        lost || (int64_t)m->value.size != f->size) {
        sim_fail(l->r, "%s:%d offset %lld is record %d, which was sent to %s:%d as %lld%s",
                 sim_topic_name[topic], part, (long long)offset, number, sim_topic_name[f->topic],
                 f->part, (long long)f->offset, lost ? " and lost before" : "");
        return NULL;
    }
    return f;
}

// Behind the highest number that somebody saw in a partition: committed, or handed out by a queue.
static int64_t highest_seen(const struct sim_look *l, int topic, int part) {
    int64_t high = 0;
    for (const struct sim_fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++) {
        bool committed = f->what == SIM_COMMITTED && f->topic == topic;
        bool received = f->what == SIM_RECEIVED && l->r->queue_topic == topic;
        received |= l->r->jobs && topic == SIM_Q && // or that is over
                    (f->what == SIM_PURGED || f->what == SIM_EXPIRED || f->what == SIM_DIED);
        if ((committed || received) && f->part == part && sim_begun(l->w, l->r, f) &&
            f->offset + received > high)
            high = f->offset + received;
    }
    return high;
}

static bool check_end(const struct sim_look *l, int topic, int part) {
    const struct sim_found *n = l->found, *b = l->w->base;
    int64_t records_end = n->records_end[topic][part], least = 0;
    for (const struct sim_fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++) {
        bool old = f - l->r->fact < l->w->old;
        if (f->what == SIM_SENT && f->topic == topic && f->part == part &&
            f->life == n->life[topic] && sim_safe(l->w, l->r, f) && f->offset >= least &&
            !(b && old && f->offset >= b->records_end[topic][part]))
            least = f->offset + 1;
    }
    if (b && l->w->exact && least < b->records_end[topic][part])
        least = b->records_end[topic][part];
    if (records_end < least)
        return sim_fail(l->r, "%s:%d ends at %lld, %lld were promised", sim_topic_name[topic], part,
                        (long long)records_end, (long long)least);
    if (n->end[topic][part] < records_end ||
        (n->end[topic][part] > records_end && n->end[topic][part] > highest_seen(l, topic, part) &&
         n->end[topic][part] > n->begin[topic][part]))
        return sim_fail(l->r, "%s:%d ends at %lld, its records at %lld", sim_topic_name[topic],
                        part, (long long)n->end[topic][part], (long long)records_end);
    return true;
}

// A batch is there as a whole or not at all.
static bool check_batches(const struct sim_look *l, int topic, int part) {
    const struct sim_found *n = l->found;
    int64_t end = n->records_end[topic][part];
    for (const struct sim_fact *f = l->r->fact; f + 1 < l->r->fact + l->r->facts; f++) {
        if (f->batch == 0 || f->topic != topic || f->part != part || f->life != n->life[topic] ||
            f->offset != end - 1 || end <= n->begin[topic][part])
            continue;
        for (const struct sim_fact *g = f + 1; g < l->r->fact + l->r->facts; g++)
            if (g->batch == f->batch && g->part == part && f - l->r->fact < l->w->old &&
                !(l->w->base && l->w->base->records_end[topic][part] != end))
                return sim_fail(l->r, "%s:%d ends at %lld, in the middle of a batch",
                                sim_topic_name[topic], part, (long long)end);
    }
    return true;
}

// How far retention may have moved the log start: what is left is not less than the topic keeps.
static int64_t retained_from(const struct sim_look *l, int topic, int part) {
    int64_t left = 0, from = 0;
    for (const struct sim_fact *f = l->r->fact + l->r->facts; f-- > l->r->fact;) {
        if (f->what != SIM_SENT || f->topic != topic || f->part != part ||
            f->life != l->found->life[topic] || !sim_begun(l->w, l->r, f))
            continue;
        left += f->size + 56; // at the most
        from = f->offset;
        if (left >= l->r->retention[topic])
            break;
    }
    return left >= l->r->retention[topic] ? from : 0;
}

// Where the log starts: between what was deleted for sure and what somebody may have deleted.
static bool check_begin(const struct sim_look *l, int topic, int part) {
    int64_t least = 0, most = 0;
    const struct sim_found *n = l->found;
    for (const struct sim_fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++) {
        if (f->what != SIM_TRIMMED || f->topic != topic || f->part != part ||
            f->life != n->life[topic])
            continue;
        if (sim_safe(l->w, l->r, f) && f->offset > least)
            least = f->offset;
        if (sim_begun(l->w, l->r, f) && f->offset > most)
            most = f->offset;
    }
    if (l->r->retention[topic] > 0)
        most = retained_from(l, topic, part);
    if (topic == SIM_Q)
        most = n->end[topic][part]; // check_queue knows better
    if (n->begin[topic][part] >= least && n->begin[topic][part] <= most)
        return true;
    return sim_fail(l->r, "%s:%d begins at %lld, not in %lld to %lld", sim_topic_name[topic], part,
                    (long long)n->begin[topic][part], (long long)least, (long long)most);
}

static bool check_records(const struct sim_look *l, leat_consumer *c, int topic, int part) {
    int64_t next = l->found->begin[topic][part];
    const leat_message *m;
    int n;
    while ((n = leat_poll(c, 0, &m)) > 0)
        for (int i = 0; i < n; i++) {
            const struct sim_fact *f = sim_sent_at(l, topic, part, m[i].offset, &m[i]);
            if (!f)
                return false;
            bool gap = m[i].offset > next && f - l->r->fact >= l->w->old &&
                       m[i].offset <= highest_seen(l, topic, part);
            if (m[i].offset != next && !gap)
                return sim_fail(l->r, "%s:%d has a hole at %lld, up to %lld", sim_topic_name[topic],
                                part, (long long)next, (long long)m[i].offset);
            if (next == l->found->begin[topic][part] && l->found->life[topic] == 0)
                l->found->life[topic] = f->life;
            if (f->life != l->found->life[topic])
                return sim_fail(l->r, "%s:%d has a record of an earlier life",
                                sim_topic_name[topic], part);
            next = m[i].offset + 1;
            if (m[i].offset < SIM_OFFSETS)
                l->found->here[topic][part][m[i].offset] = (int16_t)(f - l->r->fact + 1);
        }
    if (n < 0)
        return sim_fail(l->r, "%s:%d cannot be read: %s", sim_topic_name[topic], part,
                        leat_errmsg());
    l->found->records_end[topic][part] = next;
    return true;
}

static bool check_part(const struct sim_look *l, int topic, int part) {
    leat_range r;
    leat_consumer *c;
    leat_position at = { .topic = sim_topic_name[topic], .offset = LEAT_BEGIN, .partition = part };
    sim_must("range", leat_topic_range(l->t[topic], part, &r));
    l->found->begin[topic][part] = r.begin;
    l->found->end[topic][part] = r.end;
    if (r.begin > r.durable_end || r.durable_end > r.end)
        return sim_fail(l->r, "%s:%d: begin %lld durable %lld end %lld", sim_topic_name[topic],
                        part, (long long)r.begin, (long long)r.durable_end, (long long)r.end);
    if (topic == SIM_D) // its records are copies: check_dead
        return true;
    sim_must("consumer", leat_consumer_open(l->mq, NULL, NULL, &c));
    sim_must("assign", leat_consumer_assign(c, &at, 1));
    bool ok = check_records(l, c, topic, part);
    sim_must("consumer close", leat_consumer_close(c));
    return ok && check_begin(l, topic, part) && check_end(l, topic, part) &&
           check_batches(l, topic, part);
}

// Which life of a topic must be there, and which may be: bits.
static void lives(const struct sim_look *l, int topic, unsigned *owed, unsigned *allowed) {
    unsigned dying = 0; // killed half way through its deletion: the note may be gone again
    *owed = *allowed = 0;
    for (const struct sim_fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++) {
        if (f->topic != topic ||
            (f->what != SIM_MADE && f->what != SIM_GONE && f->what != SIM_SENT))
            continue;
        unsigned bit = 1u << f->life;
        if (f->what == SIM_MADE && sim_begun(l->w, l->r, f))
            *allowed |= bit;
        if (f->what == SIM_MADE && sim_safe(l->w, l->r, f))
            *owed |= bit;
        if (f->what == SIM_GONE && sim_begun(l->w, l->r, f))
            *owed &= ~bit;
        if (f->what == SIM_GONE && sim_done(l->w, l->r, f))
            *allowed &= ~bit;
        else if (f->what == SIM_GONE && sim_begun(l->w, l->r, f))
            dying |= bit;
    }
    const struct sim_found *b = l->w->base;
    if (b && (l->w->exact || !b->there[topic]))
        *owed = *allowed = b->there[topic] ? 1u << b->life[topic] : 0;
    if (b && !l->w->exact && !b->there[topic])
        *allowed = dying;
    for (const struct sim_fact *f = l->r->fact + l->w->old; f < l->r->fact + l->r->facts; f++) {
        if (f->what != SIM_MADE || f->topic != topic)
            continue;
        *allowed |= sim_begun(l->w, l->r, f) ? 1u << f->life : 0;
        *owed |= sim_safe(l->w, l->r, f) ? 1u << f->life : 0;
    }
}

static bool check_topic(struct sim_look *l, int topic) {
    leat_topic_options o = { .flags = LEAT_MUST_EXIST };
    unsigned owed, allowed;
    lives(l, topic, &owed, &allowed);
    int rc = leat_topic_open(l->mq, sim_topic_name[topic], &o, &l->t[topic]);
    if (rc == LEAT_ENOENT)
        return owed ? sim_fail(l->r, "topic %s is lost", sim_topic_name[topic]) : true;
    if (rc != 0)
        return sim_fail(l->r, "topic %s: %s", sim_topic_name[topic], leat_errmsg());
    if (!allowed)
        return sim_fail(l->r, "topic %s is there and should not be", sim_topic_name[topic]);
    l->found->there[topic] = true;
    l->found->life[topic] = 0; // a record will say
    if ((allowed & (allowed - 1)) == 0)
        while (allowed >> l->found->life[topic] != 1)
            l->found->life[topic]++;
    for (int part = 0; part < sim_topic_parts[topic]; part++)
        if (!check_part(l, topic, part))
            return false;
    if (l->found->life[topic] == 0) // an empty one: the last
        while (allowed >> l->found->life[topic] != 1)
            l->found->life[topic]++;
    if (!(allowed & 1u << l->found->life[topic]))
        return sim_fail(l->r, "topic %s has come back", sim_topic_name[topic]);
    return true;
}

static bool check_committed(const struct sim_look *l, int topic, int part) {
    const struct sim_found *n = l->found, *b = l->w->base;
    int64_t found = n->committed[topic][part];
    if (found > n->end[topic][part])
        return sim_fail(l->r, "%s:%d is committed at %lld, beyond its end %lld",
                        sim_topic_name[topic], part, (long long)found,
                        (long long)n->end[topic][part]);
    if (b && l->w->exact)
        return found == b->committed[topic][part]
                   ? true
                   : sim_fail(l->r, "%s:%d was committed at %lld, now at %lld",
                              sim_topic_name[topic], part, (long long)b->committed[topic][part],
                              (long long)found);
    bool fits = found == -1;
    for (const struct sim_fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++) {
        if (f->what != SIM_COMMITTED || f->topic != topic || f->part != part ||
            f->life != n->life[topic] || !sim_begun(l->w, l->r, f))
            continue;
        if (sim_safe(l->w, l->r, f))
            fits = false; // what was before is no answer any more
        fits |= found == f->offset;
    }
    return fits ? true
                : sim_fail(l->r, "%s:%d is committed at %lld, which is not what was promised",
                           sim_topic_name[topic], part, (long long)found);
}

static bool check_commits(struct sim_look *l) {
    leat_lag lag[SIM_TOPICS * SIM_PARTS];
    memset(l->found->committed, -1, sizeof l->found->committed);
    int n = leat_group_lag(l->mq, "g", lag, SIM_TOPICS * SIM_PARTS, sizeof lag[0]);
    if (n < 0 && n != LEAT_ENOENT)
        return sim_fail(l->r, "lag: %s", leat_errmsg());
    for (int i = 0; i < n; i++)
        for (int topic = 0; topic < SIM_TOPICS; topic++)
            if (strcmp(lag[i].topic, sim_topic_name[topic]) == 0)
                l->found->committed[topic][lag[i].partition] = lag[i].committed;
    for (int topic = 0; topic < SIM_TOPICS; topic++)
        for (int part = 0; l->found->there[topic] && part < sim_topic_parts[topic]; part++)
            if (!check_committed(l, topic, part))
                return false;
    return true;
}

bool sim_check_store(struct sim_look *l) {
    memset(l->found, 0, sizeof *l->found);
    for (int topic = 0; topic < SIM_TOPICS; topic++)
        if (!check_topic(l, topic))
            return false;
    return check_commits(l) && sim_check_queue(l);
}
