/* SPDX-License-Identifier: MIT */
#include "lib/sim.h"

#include <string.h>

// Makes a topic again that the crash took: nothing of the old one may show in it.
static bool make_again(struct sim_look *l, int topic) {
    int life = 0;
    for (const struct sim_fact *f = l->r->fact; f < l->r->fact + l->r->facts; f++)
        life = f->what == SIM_MADE && f->topic == topic ? f->life : life;
    if (life == 0 || topic >= SIM_Q)
        return true; // the workload has none, or it is the queue's
    leat_topic_options o = { .partitions = sim_topic_parts[topic],
                             .segment_bytes = 16384,
                             .dedup_window_count = l->r->window[topic] };
    struct sim_fact *f = &l->r->fact[l->r->facts++];
    *f = (struct sim_fact){ .what = SIM_MADE, .topic = topic, .life = life + 1 };
    f->from = l->os->recording ? (uint32_t)l->os->trace.count : 0;
    sim_must("topic again", leat_topic_open(l->mq, sim_topic_name[topic], &o, &l->t[topic]));
    f->to = l->os->recording ? (uint32_t)l->os->trace.count : 0;
    l->found->there[topic] = true;
    l->found->life[topic] = f->life;
    leat_range r;
    sim_must("range", leat_topic_range(l->t[topic], 0, &r));
    leat_lag lag[SIM_TOPICS * SIM_PARTS];
    int n = leat_group_lag(l->mq, "g", lag, SIM_TOPICS * SIM_PARTS, sizeof lag[0]);
    bool old = r.end != 0;
    for (int i = 0; i < n; i++)
        old |= strcmp(lag[i].topic, sim_topic_name[topic]) == 0;
    return old ? sim_fail(l->r, "topic %s was made anew and is not empty", sim_topic_name[topic])
               : true;
}

static bool id_here(const struct sim_look *l, int topic, int id) {
    for (int part = 0; part < sim_topic_parts[topic]; part++)
        for (int o = 0; o < SIM_OFFSETS; o++) {
            int number = l->found->here[topic][part][o];
            if (number > 0 && l->r->fact[number - 1].id == id)
                return true;
        }
    return false;
}

// An id that was sent and is in no record, so that it is none; else one of the fact's own.
static int lost_id(const struct sim_look *l, int topic, int number) {
    for (const struct sim_fact *f = l->r->fact + number; f-- > l->r->fact;) {
        bool after = f - l->r->fact >= l->w->old; // of after the crash: it may have this one
        if (f->what == SIM_SENT && f->topic == topic && f->id > 0 &&
            (after || id_here(l, topic, f->id)))
            break;
        if (f->what == SIM_SENT && f->topic == topic && f->id > 0)
            return f->id;
    }
    return number + 1;
}

enum { REPEATS = 3 };

bool sim_repeat(const struct sim_look *l) {
    static const leat_producer_options at_log = { .acks = LEAT_ACKS_LOG };
    leat_producer *p;
    bool ok = true;
    sim_must("producer", leat_producer_open(l->mq, &at_log, &p));
    for (int topic = 0; topic < SIM_Q; topic++)
        for (int part = 0;
             l->r->window[topic] > 0 && l->found->there[topic] && part < sim_topic_parts[topic];
             part++) {
            int64_t o = l->found->records_end[topic][part];
            for (int n = 0; ok && n < REPEATS && o-- > l->found->begin[topic][part];) {
                int number = l->found->here[topic][part][o];
                if (number == 0)
                    continue;
                n++;
                char id[SIM_ID];
                leat_metadata md;
                leat_record r = { .value = leat_str("a repeat"),
                                  .dedup_id = sim_id(l->r->fact[number - 1].id, id) };
                int rc = leat_send(p, l->t[topic], &r, &md);
                if (rc != 0)
                    ok = sim_fail(l->r, "a repeat: %s", leat_errmsg());
                else if (!md.duplicate || md.partition != part || md.offset != o)
                    ok = sim_fail(l->r, "%s:%d offset %lld: its repeat is at %d:%lld",
                                  sim_topic_name[topic], part, (long long)o, md.partition,
                                  (long long)md.offset);
            }
        }
    sim_must("producer close", leat_producer_close(p, 0));
    return ok;
}

// Sends some records to each topic, on disk, as facts of after the crash.
bool sim_send_more(struct sim_look *l, int n) {
    static char value[64];
    leat_producer *p;
    bool ok = true;
    sim_must("producer", leat_producer_open(l->mq, NULL, &p));
    for (int topic = 0; topic < SIM_D && ok; topic++) {
        if (!l->found->there[topic])
            ok = make_again(l, topic);
        if (!l->found->there[topic])
            continue;
        leat_topic_options o = { .flags = LEAT_MUST_EXIST };
        sim_must("topic", leat_topic_open(l->mq, sim_topic_name[topic], &o, &l->t[topic]));
        for (int i = 0; i < n && ok; i++) {
            int number = l->r->facts++;
            struct sim_fact *f = &l->r->fact[number];
            if (l->r->facts > SIM_FACTS)
                sim_broken("too many facts", 0);
            *f = (struct sim_fact){
                .what = SIM_SENT, .topic = topic, .disk = true, .size = sizeof value
            };
            f->life = l->found->life[topic];
            f->from = l->os->recording ? (uint32_t)l->os->trace.count : 0;
            sim_value_make(number, sizeof value, value);
            leat_record r = { .value = { value, sizeof value }, .to_partition = LEAT_PARTITION(0) };
            leat_metadata md;
            char id[SIM_ID];
            f->id = l->r->window[topic] > 0 ? lost_id(l, topic, number) : 0;
            if (f->id > 0)
                r.dedup_id = sim_id(f->id, id);
            int rc = leat_send(p, l->t[topic], &r, &md);
            f->offset = md.offset;
            f->to = l->os->recording ? (uint32_t)l->os->trace.count : 0;
            if (rc != 0)
                ok = sim_fail(l->r, "a send after the crash: %s", leat_errmsg());
            else if (md.duplicate)
                ok = sim_fail(l->r, "%s:0 has id %d at %lld, which was lost", sim_topic_name[topic],
                              f->id, (long long)md.offset);
            else if (md.offset < l->found->committed[topic][0])
                ok = sim_fail(l->r, "%s:0 offset %lld is used again: it was committed",
                              sim_topic_name[topic], (long long)md.offset);
        }
    }
    sim_must("producer close", leat_producer_close(p, 0));
    return ok;
}

// ---- one state

bool sim_reopen(struct sim_look *l, const char *when) {
    int rc = sim_store_open(l->os, l->r->write, &l->mq);
    if (rc == 0)
        return true;
    l->mq = NULL;
    if (rc == LEAT_ECORRUPT)
        return sim_fail(l->r, "damaged, %s: %s", when, leat_errmsg());
    return sim_fail(l->r, "open, %s, is %s: %s", when, leat_errname(rc), leat_errmsg());
}

static bool close_store(struct sim_look *l, bool ok) {
    int rc = leat_close_all(l->mq, 0);
    l->mq = NULL;
    return rc == 0 ? ok : ok && sim_fail(l->r, "close: %s", leat_errmsg());
}

// Looks at the state that `disk` holds. *found: what is in it.
bool sim_try(struct crash_os *os, struct sim_run *r, const struct sim_moment *w,
             struct sim_found *found, uint64_t hash) {
    struct sim_look l = { .r = r, .w = w, .found = found, .os = os };
    if (!sim_reopen(&l, "first"))
        return false;
    uint64_t once = crash_os_hash(os);
    int fresh = r->facts;
    sim_store_kill(l.mq);
    if (!sim_reopen(&l, "again"))
        return false;
    if (crash_os_hash(os) != once)
        return close_store(&l, sim_fail(r, "recovering twice gives other bytes"));
    static struct sim_found more, after;
    bool ok = sim_check_store(&l);
    more = *found;
    l.found = &more;
    ok = ok && sim_repeat(&l) && sim_send_more(&l, 1 + (int)(hash % 4));
    if (!close_store(&l, ok) || !sim_reopen(&l, "after a clean close"))
        return false;
    struct sim_moment then = { .at = w->at,
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
    return close_store(&l, sim_check_store(&l) && sim_repeat(&l));
}
