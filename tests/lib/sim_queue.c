/* SPDX-License-Identifier: MIT */
#include "lib/sim.h"

#include <stdlib.h>
#include <string.h>

// ---- the queue of a state

enum { OFFSETS = 64, HOUR_MS = 3600000 };

struct drained {
    int seen[SIM_PARTS][OFFSETS], copies[SIM_PARTS][OFFSETS];
};

static int count_facts(const struct sim_look *l, enum sim_what what, int part, int64_t offset,
                       bool (*is)(const struct sim_moment *, const struct sim_run *,
                                  const struct sim_fact *)) {
    int n = 0;
    for (const struct sim_fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++)
        n += f->what == what && f->part == part && f->offset == offset && is(l->w, l->r, f);
    return n;
}

static bool check_delivery(const struct sim_look *l, struct drained *d, const leat_message *m) {
    int topic = l->r->queue_topic;
    const struct sim_fact *f = sim_sent_at(l, topic, m->partition, m->offset, m);
    if (!f)
        return false;
    if (m->offset >= OFFSETS)
        sim_broken("an offset too high", 0);
    if (d->seen[m->partition][m->offset]++ > 0)
        return sim_fail(l->r, "offset %d:%lld was delivered twice", m->partition,
                        (long long)m->offset);
    bool old = f - l->r->fact < l->w->old;
    if (f - l->r->fact < l->w->fresh && l->w->closed)
        return sim_fail(l->r, "offset %d:%lld was acknowledged, the store closed, and it came back",
                        m->partition, (long long)m->offset);
    if (l->r->kept && old && l->w->kill && !l->w->base &&
        count_facts(l, SIM_DIED, m->partition, m->offset, sim_done) > 0)
        return sim_fail(l->r, "offset %d:%lld died, was kept and came back", m->partition,
                        (long long)m->offset);
    int least = 1, most = 1;
    if (old) { // the word of a record that was lost must not be the next one's
        if (count_facts(l, SIM_ACKED, m->partition, m->offset, sim_safe) > 0)
            return sim_fail(l->r, "offset %d:%lld was acknowledged and came back", m->partition,
                            (long long)m->offset);
        least += count_facts(l, SIM_RECEIVED, m->partition, m->offset, sim_safe);
        most += count_facts(l, SIM_RECEIVED, m->partition, m->offset, sim_begun);
    }
    if (m->deliveries < least || m->deliveries > most ||
        ((l->r->dead || l->r->kept) && m->deliveries > SIM_TRIES))
        return sim_fail(l->r, "offset %d:%lld: delivery %d, not %d to %d", m->partition,
                        (long long)m->offset, m->deliveries, least, most);
    return true;
}

// Receives and acknowledges all that there is.
static bool drain(const struct sim_look *l, leat_queue *q, struct drained *d,
                  bool (*check)(const struct sim_look *, struct drained *, const leat_message *)) {
    leat_message m[8];
    bool ok = true;
    int n;
    while (ok && (n = leat_queue_receive(q, 0, m, 8)) != 0) {
        if (n < 0)
            return sim_fail(l->r, "receive: %s", leat_errmsg());
        for (int i = 0; i < n; i++) {
            ok = ok && check(l, d, &m[i]);
            sim_must("ack", leat_queue_ack(q, &m[i]));
        }
    }
    return ok;
}

static bool check_dead(const struct sim_look *l, struct drained *d, const leat_message *m) {
    int64_t offset = -1;
    leat_header h;
    for (size_t i = 0; leat_message_header(m, i, &h); i++)
        if (h.name.size == 11 && memcmp(h.name.data, "leat.offset", 11) == 0)
            offset = atoll(h.value.data);
    if (offset < 0 || offset >= OFFSETS)
        return sim_fail(l->r, "a dead letter does not say where it is from");
    int number = sim_value_number(m);
    const struct sim_fact *f = number >= 0 && number < l->r->facts ? &l->r->fact[number] : NULL;
    if (!f || f->what != SIM_SENT || f->offset != offset || !sim_value_right(m, number))
        return sim_fail(l->r, "a dead letter has bytes that nobody sent");
    if (count_facts(l, SIM_RECEIVED, 0, offset, sim_begun) < SIM_TRIES)
        return sim_fail(l->r, "a letter is dead too soon: offset %lld", (long long)offset);
    d->copies[0][offset]++;
    return true;
}

// A record that was not delivered must be done, or dead.
static bool check_one_left(const struct sim_look *l, const struct drained *d, int part,
                           int64_t offset) {
    int copies = d->copies[part][offset], seen = d->seen[part][offset];
    if (l->w->closed)
        return true; // what was there before the clean close was drained
    bool kept = l->r->kept && count_facts(l, SIM_RECEIVED, part, offset, sim_begun) >= SIM_TRIES;
    if (seen == 0 && copies == 0 && !kept &&
        count_facts(l, SIM_ACKED, part, offset, sim_begun) == 0)
        return sim_fail(l->r, "offset %d:%lld is neither delivered nor done nor dead", part,
                        (long long)offset);
    // The copy is on disk before the nack returns; that it was made, the word says at LOG.
    int died = count_facts(l, SIM_DIED, part, offset, sim_done);
    if (died > 0 && copies == 0 && !l->r->kept)
        return sim_fail(l->r, "offset %d:%lld died and is no dead letter", part, (long long)offset);
    if (died > 0 && l->w->kill && copies > 1)
        return sim_fail(l->r, "offset %d:%lld has two copies", part, (long long)offset);
    if (copies > 0 && seen > 0 && l->w->kill)
        return sim_fail(l->r, "offset %d:%lld is dead and was delivered", part, (long long)offset);
    if (copies > 2)
        return sim_fail(l->r, "offset %d:%lld has %d copies", part, (long long)offset, copies);
    return true;
}

// The dead that are in place are those that were not delivered and not acknowledged.
static bool check_kept(const struct sim_look *l, const struct drained *d, leat_queue *q) {
    leat_queue_stats stats;
    uint64_t least = 0, most = 0;
    sim_must("stats", leat_queue_get_stats(q, &stats, sizeof stats));
    for (int64_t o = l->found->begin[SIM_Q][0]; o < l->found->records_end[SIM_Q][0]; o++) {
        if (!l->found->here[SIM_Q][0][o] || d->seen[0][o] > 0 ||
            count_facts(l, SIM_RECEIVED, 0, o, sim_begun) < SIM_TRIES)
            continue;
        most++;
        least += count_facts(l, SIM_ACKED, 0, o, sim_begun) == 0;
    }
    if (l->w->closed || (stats.kept >= least && stats.kept <= most))
        return true;
    return sim_fail(l->r, "%llu are kept, not %llu to %llu", (unsigned long long)stats.kept,
                    (unsigned long long)least, (unsigned long long)most);
}

static bool check_all_left(const struct sim_look *l, const struct drained *d) {
    int topic = l->r->queue_topic;
    const struct sim_found *n = l->found;
    for (int part = 0; part < sim_topic_parts[topic]; part++)
        for (int64_t o = n->begin[topic][part]; o < n->records_end[topic][part]; o++)
            if (n->here[topic][part][o] && !check_one_left(l, d, part, o))
                return false;
    for (int64_t o = 0; topic == SIM_Q && !l->w->base && o < n->begin[topic][0]; o++)
        if (count_facts(l, SIM_ACKED, 0, o, sim_begun) == 0 && d->copies[0][o] == 0)
            return sim_fail(l->r, "offset 0:%lld was given back and was not done", (long long)o);
    for (const struct sim_fact *f = l->r->fact + l->w->fresh; f < l->r->fact + l->r->facts; f++)
        if (f->what == SIM_SENT && f->topic == topic && l->w->closed &&
            d->seen[f->part][f->offset] == 0)
            return sim_fail(l->r, "offset %d:%lld was sent after the crash and is not delivered",
                            f->part, (long long)f->offset);
    return true;
}

bool sim_check_queue(struct sim_look *l) {
    struct drained d = { 0 };
    leat_queue_options o = { .flags = LEAT_MUST_EXIST };
    leat_queue *q, *dead = NULL;
    if (l->r->queue_topic < 0)
        return true;
    int rc = leat_queue_open(l->mq, l->r->queue_topic == SIM_Q ? "q" : "over", &o, &q);
    bool owed = l->w->base && l->w->exact && l->w->base->queue;
    for (const struct sim_fact *f = l->r->fact; !l->w->base && f < l->r->fact + l->r->facts; f++)
        owed |= f->what == SIM_QUEUE_MADE && sim_safe(l->w, l->r, f);
    if (rc == LEAT_ENOENT)
        return owed ? sim_fail(l->r, "the queue is lost") : true;
    l->found->queue = true;
    if (rc != 0)
        return sim_fail(l->r, "the queue: %s", leat_errmsg());
    if (l->r->jobs) {
        bool right = sim_check_jobs(l, q);
        sim_must("queue close", leat_queue_close(q));
        return right;
    }
    sim_must("advance", leat_clock_advance(l->mq, HOUR_MS)); // delays end
    bool ok = drain(l, q, &d, check_delivery);
    if (ok && l->r->dead) {
        rc = leat_queue_open(l->mq, "d", &o, &dead);
        ok = rc == 0 ? drain(l, dead, &d, check_dead)
                     : sim_fail(l->r, "the dead-letter queue: %s", leat_errmsg());
    }
    ok = ok && check_all_left(l, &d) && (!l->r->kept || check_kept(l, &d, q));
    if (dead)
        sim_must("queue close", leat_queue_close(dead));
    sim_must("queue close", leat_queue_close(q));
    return ok;
}
