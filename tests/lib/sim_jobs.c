/* SPDX-License-Identifier: MIT */
// sim_jobs: the queues of the crash simulator that have all of it: priorities, groups, delays, the
// backoff list, deliveries that do not count, rejects, purge, redrive, retention. Each call says
// what becomes of a message, whatever it was before: of the facts that had begun at a crash one
// says how it is now, the last one that is safe or one behind it.
#include "lib/sim_drive.h"

#include <stdlib.h>
#include <string.h>

enum { OFFSETS = 64, HOUR_MS = 3600000, LEASE_MS = 30000, AGE_MS = 100000 };
enum state { NOWHERE, READY, DELAYED, DEAD, GONE };

// ---- carrying out

static struct sim_fact *begin_at(struct sim_driver *d, enum sim_what what, int64_t offset) {
    struct sim_fact *f = sim_fact_begin(d, what);
    f->topic = SIM_Q;
    f->life = d->life[SIM_Q];
    f->offset = offset;
    f->disk = d->durable;
    return f;
}

// The call that these facts are of has returned.
static void end_all(struct sim_driver *d, int first) {
    for (int i = first; i < d->r->facts; i++)
        d->r->fact[i].to = (uint32_t)d->os->trace.count;
    sim_fact_end(d, NULL);
}

static void drive_jobs(struct sim_driver *d, const struct sim_step *s) {
    static const int64_t backoff[] = { 1000, 2000 };
    bool dead = strstr(s->word, "dead") != NULL, aged = strncmp(s->word, "aged", 4) == 0;
    leat_queue_options o = { .deliveries_max = SIM_TRIES,
                             .visibility_timeout_ms = LEASE_MS,
                             .settle_acks = d->durable ? LEAT_ACKS_DISK : 0,
                             .dead_letter = dead ? "d" : NULL,
                             .backoff_count = 2,
                             .backoff_ms = backoff,
                             .retention_ms = aged ? AGE_MS : 0,
                             .dead_letter_expired = aged && dead };
    d->r->jobs = true;
    d->r->dead = dead;
    d->r->kept = !dead;
    d->r->aged = aged;
    d->r->queue_topic = SIM_Q;
    struct sim_fact *f = sim_fact_begin(d, SIM_QUEUE_MADE);
    sim_must("queue", leat_queue_open(d->mq, "q", &o, &d->q));
    sim_fact_end(d, f);
}

static void drive_settle(struct sim_driver *d, const char *verb) {
    leat_message m = d->held[0];
    memmove(d->held, d->held + 1, (size_t)--d->held_count * sizeof m);
    bool reject = strcmp(verb, "reject") == 0, free = strcmp(verb, "uncount") == 0;
    bool later = strcmp(verb, "later") == 0, backoff = strcmp(verb, "backoff") == 0;
    bool dies = reject || (!free && m.deliveries == SIM_TRIES);
    struct sim_fact *f = begin_at(d, dies ? SIM_DIED : SIM_NACKED, m.offset);
    f->tries = m.deliveries - free;
    f->later = later || backoff;
    f->reject = reject;
    if (reject)
        sim_must("reject", leat_queue_reject(d->q, &m, "simulated"));
    else
        sim_must(verb, leat_queue_nack(d->q, &m,
                                       later     ? 3000
                                       : backoff ? LEAT_BACKOFF
                                                 : 0,
                                       free ? LEAT_UNCOUNTED : 0));
    sim_fact_end(d, f);
}

// The oldest one held is not heard of any more.
static void drive_forget(struct sim_driver *d) {
    if (d->lost_count == SIM_HELD)
        sim_broken("too many forgotten", 0);
    leat_message *m = &d->held[0];
    d->lost[d->lost_count].offset = m->offset;
    d->lost[d->lost_count++].tries = m->deliveries;
    sim_must("release", leat_message_release(d->mq, m));
    memmove(d->held, d->held + 1, (size_t)--d->held_count * sizeof *m);
}

// What was said last of a message; NOWHERE: it was not sent.
static enum state state_now(const struct sim_run *r, int64_t offset) {
    enum state is = NOWHERE;
    for (const struct sim_fact *f = r->fact; f < r->fact + r->facts; f++) {
        if (f->what == SIM_MOVED && f->other == offset)
            is = READY;
        if (f->topic != SIM_Q || f->offset != offset)
            continue;
        if (f->what == SIM_SENT || f->what == SIM_NACKED || f->what == SIM_REVIVED ||
            f->what == SIM_RECEIVED)
            is = READY;
        if (f->what == SIM_DIED)
            is = DEAD;
        if (f->what == SIM_ACKED || f->what == SIM_PURGED || f->what == SIM_EXPIRED ||
            f->what == SIM_MOVED)
            is = GONE;
    }
    return is;
}

// Time goes by: leases of what was forgotten end, what is too old is over.
static void drive_pass(struct sim_driver *d, const struct sim_step *s) {
    int first = d->r->facts;
    for (int i = 0; s->n > LEASE_MS && i < d->lost_count; i++) {
        bool dies = d->lost[i].tries == SIM_TRIES;
        struct sim_fact *f = begin_at(d, dies ? SIM_DIED : SIM_NACKED, d->lost[i].offset);
        f->tries = d->lost[i].tries;
        f->later = true;
        f->disk = false; // nobody is told
    }
    if (s->n > LEASE_MS)
        d->lost_count = 0;
    int64_t end = d->next[SIM_Q][0];
    for (int64_t o = 0; d->r->aged && s->n > AGE_MS && o < end; o++)
        if (state_now(d->r, o) == READY)
            begin_at(d, d->r->dead ? SIM_DIED : SIM_EXPIRED, o)->disk = false;
    sim_must("advance", leat_clock_advance(d->mq, s->n));
    end_all(d, first);
}

static void drive_empty(struct sim_driver *d) {
    int first = d->r->facts;
    for (; d->held_count > 0; d->held_count--)
        sim_must("release", leat_message_release(d->mq, &d->held[d->held_count - 1]));
    d->lost_count = 0;
    for (int64_t o = 0; o < d->next[SIM_Q][0]; o++)
        if (state_now(d->r, o) == READY || (!d->r->dead && state_now(d->r, o) == DEAD))
            (void)begin_at(d, SIM_PURGED, o);
    sim_must("purge", leat_queue_purge(d->q, NULL));
    end_all(d, first);
}

static void drive_redrive(struct sim_driver *d) {
    int first = d->r->facts;
    uint64_t moved = 0;
    leat_queue *dead = NULL;
    int64_t end = d->next[SIM_Q][0];
    for (int i = 0; i < first; i++) { // in the order in which they died
        const struct sim_fact *was = &d->r->fact[i];
        if (was->what != SIM_DIED || state_now(d->r, was->offset) != DEAD)
            continue;
        struct sim_fact *f = begin_at(d, d->r->dead ? SIM_MOVED : SIM_REVIVED, was->offset);
        f->other = d->r->dead ? end++ : -1;
        f->disk = d->r->dead || d->durable;
    }
    if (d->r->dead)
        sim_must("queue", leat_queue_open(d->mq, "d", NULL, &dead));
    sim_must("redrive", leat_queue_redrive(dead ? dead : d->q, NULL, 0, &moved));
    if (dead)
        sim_must("queue close", leat_queue_close(dead));
    if (moved != (uint64_t)(d->r->facts - first))
        sim_broken("redrive moved another number", (int)moved);
    d->next[SIM_Q][0] = end;
    end_all(d, first);
}

bool sim_drive_jobs(struct sim_driver *d, const struct sim_step *s) {
    static const char *const settles[] = { "nack", "later", "backoff", "uncount", "reject" };
    const char *verb = s->verb;
    for (size_t i = 0; d->r->jobs && i < sizeof settles / sizeof *settles; i++)
        if (strcmp(verb, settles[i]) == 0) {
            drive_settle(d, verb);
            return true;
        }
    if (strcmp(verb, "jobs") == 0)
        drive_jobs(d, s);
    else if (strcmp(verb, "priority") == 0)
        d->priority = s->n;
    else if (strcmp(verb, "delay") == 0)
        d->delay_ms = s->n;
    else if (strcmp(verb, "group") == 0)
        d->group = strcmp(s->word, "none") == 0 ? 0 : s->word[0];
    else if (strcmp(verb, "forget") == 0)
        drive_forget(d);
    else if (strcmp(verb, "pass") == 0)
        drive_pass(d, s);
    else if (strcmp(verb, "empty") == 0)
        drive_empty(d);
    else if (strcmp(verb, "redrive") == 0)
        drive_redrive(d);
    else
        return false;
    return true;
}

void sim_jobs_record(struct sim_driver *d, struct sim_fact *f, leat_record *r) {
    static char name;
    f->priority = d->priority;
    f->group = d->group;
    f->later = d->delay_ms > 0;
    name = (char)d->group;
    r->priority = d->priority;
    r->delay_ms = d->delay_ms;
    if (d->group)
        r->group = (leat_bytes){ &name, 1 };
}

// ---- what a state has

struct seen {
    enum state state; // of READY, DELAYED, DEAD (kept); NOWHERE
    int tries, copies;
    bool handed, unsure; // unsure: it may turn out to have had its last try
};

struct jobs {
    const struct sim_look *l;
    leat_queue *q, *dead;
    struct seen m[OFFSETS];
};

static bool note_state(struct jobs *j, const leat_message *m, enum state state) {
    if (!sim_sent_at(j->l, SIM_Q, m->partition, m->offset, m))
        return false;
    if (m->offset >= OFFSETS)
        sim_broken("an offset too high", 0);
    struct seen *s = &j->m[m->offset];
    if (s->state != NOWHERE)
        return sim_fail(j->l->r, "offset %lld is in two states", (long long)m->offset);
    s->state = state;
    s->tries = m->deliveries;
    return true;
}

static bool note_copy(struct jobs *j, const leat_message *m) {
    int64_t offset = -1;
    leat_header h;
    for (size_t i = 0; leat_message_header(m, i, &h); i++)
        if (strcmp(h.name.data, "leat.offset") == 0)
            offset = atoll(h.value.data);
    int number = sim_value_number(m);
    if (offset < 0 || offset >= OFFSETS || number < 0 || number >= j->l->r->facts ||
        j->l->r->fact[number].what != SIM_SENT || !sim_value_right(m, number))
        return sim_fail(j->l->r, "a dead letter that nobody sent");
    // The record may be lost, and its number have gone to another one.
    int here = j->l->found->here[SIM_Q][0][offset];
    const struct sim_fact *f = here > 0 ? &j->l->r->fact[here - 1] : NULL;
    if (!f || f - j->l->r->fact == number)
        j->m[offset].copies++;
    return true;
}

// Looks at all in one state of a queue. Returns  how many; -1: that is not right.
static int peek_all(struct jobs *j, leat_queue *q, int state) {
    static leat_message m[2 * OFFSETS];
    int n = leat_queue_peek(q, state, 0, m, 2 * OFFSETS);
    bool ok = n >= 0 || sim_fail(j->l->r, "peek: %s", leat_errmsg());
    for (int i = 0; i < n; i++) {
        if (ok && q == j->dead)
            ok = note_copy(j, &m[i]);
        else if (ok)
            ok = note_state(j, &m[i],
                            state == LEAT_AVAILABLE ? READY
                            : state == LEAT_DELAYED ? DELAYED
                                                    : DEAD);
        sim_must("release", leat_message_release(j->l->mq, &m[i]));
    }
    return ok ? n : -1;
}

static bool look_around(struct jobs *j) {
    leat_queue_stats s;
    sim_must("stats", leat_queue_get_stats(j->q, &s, sizeof s)); // what was moving arrives
    sim_must("stats", leat_queue_get_stats(j->q, &s, sizeof s));
    int ready = peek_all(j, j->q, LEAT_AVAILABLE), delayed = peek_all(j, j->q, LEAT_DELAYED);
    int kept = peek_all(j, j->q, LEAT_IS_DEAD);
    int copies = j->dead ? peek_all(j, j->dead, LEAT_AVAILABLE) : 0;
    if (ready < 0 || delayed < 0 || kept < 0 || copies < 0)
        return false;
    if (s.available != (uint64_t)ready || s.delayed != (uint64_t)delayed ||
        s.kept != (uint64_t)kept || s.leased != 0 || s.moving != 0)
        return sim_fail(j->l->r, "%d available %d delayed %d kept are there; %d %d %d are counted",
                        ready, delayed, kept, (int)s.available, (int)s.delayed, (int)s.kept);
    return true;
}

// ---- what it may have

// What a fact says of its message: the state that a crash leaves, and its deliveries.
static enum state state_of(const struct sim_fact *f, int64_t offset, int *tries) {
    bool moved_here = f->what == SIM_MOVED && f->other == offset;
    *tries = f->what == SIM_RECEIVED || f->what == SIM_NACKED ? f->tries : 0;
    if (moved_here)
        return READY;
    if (f->topic != SIM_Q || f->offset != offset)
        return NOWHERE;
    switch (f->what) {
    case SIM_SENT:
    case SIM_NACKED:
        return f->later ? DELAYED : READY;
    case SIM_RECEIVED: // it had its last try
        return f->tries >= SIM_TRIES ? DEAD : READY;
    case SIM_REVIVED:
        return READY;
    case SIM_DIED:
        return DEAD;
    case SIM_ACKED:
    case SIM_PURGED:
    case SIM_EXPIRED:
        return GONE;
    default:
        return NOWHERE;
    }
}

struct fate { // of one message
    bool may[GONE + 1], die_begun, die_done, moved;
    int tries[OFFSETS], count; // that it may have had, when it is READY or DELAYED
    int64_t other;             // where it went by a redrive that had begun; -1
};

static void fate_add(struct fate *t, enum state state, int tries) {
    t->may[state] = true;
    if (t->count < OFFSETS && (state == READY || state == DELAYED))
        t->tries[t->count++] = tries;
}

// Of the facts from the one that made it on.
static struct fate fate_of(const struct sim_look *l, const struct sim_fact *made, int64_t offset) {
    struct fate t = { .other = -1 };
    for (const struct sim_fact *f = made; f < l->r->fact + l->r->facts; f++) {
        int tries;
        enum state state = state_of(f, offset, &tries);
        if (f->what == SIM_MOVED && f->offset == offset && sim_begun(l->w, l->r, f)) {
            t.moved = true;
            t.other = f->other;
        }
        if (state == NOWHERE || !sim_begun(l->w, l->r, f))
            continue;
        if (f->what != SIM_SENT && sim_safe(l->w, l->r, f)) {
            memset(t.may, 0, sizeof t.may);
            t.count = 0;
        }
        fate_add(&t, state, tries);
        if (made->group && state == DELAYED) // who waits for his group counts as available,
            fate_add(&t, READY, tries);
        if (made->group && state == DEAD && f->what == SIM_RECEIVED) // until it is his turn
            fate_add(&t, READY, f->tries);
        if (state == DEAD)
            t.die_begun = true;
        if (f->what == SIM_DIED && sim_done(l->w, l->r, f))
            t.die_done = true;
    }
    return t;
}

static bool has_tries(const struct fate *t, int tries) {
    for (int i = 0; i < t->count; i++)
        if (t->tries[i] == tries)
            return true;
    return false;
}

// Words of a power cut may be newer than what says how far they go: then the count that a message
// has is seen when it is handed out.
static bool is_exact(const struct sim_look *l) {
    return l->w->kill && !l->w->base;
}

static bool is_here(const struct sim_look *l, int64_t offset) {
    return offset >= 0 && offset < SIM_OFFSETS && l->found->here[SIM_Q][0][offset] != 0;
}

static bool check_copies(const struct jobs *j, const struct fate *t, int64_t offset) {
    const struct sim_look *l = j->l;
    const struct seen *s = &j->m[offset];
    bool sure = is_exact(l);
    if (s->copies > 0 && !t->die_begun)
        return sim_fail(l->r, "offset %lld is dead, and nobody let it die", (long long)offset);
    if (s->copies > (sure && t->die_done ? 1 : sure ? 2 : 3))
        return sim_fail(l->r, "offset %lld has %d copies", (long long)offset, s->copies);
    if (s->copies > 0 && s->state != NOWHERE && sure)
        return sim_fail(l->r, "offset %lld is dead, and in the queue", (long long)offset);
    // The copy is on disk before anybody is told; so is what a redrive makes of it.
    bool elsewhere = s->copies > 0 || (t->moved && is_here(l, t->other));
    if (t->die_done && !elsewhere && !t->may[GONE] && !l->w->base)
        return sim_fail(l->r, "offset %lld died, and is nowhere", (long long)offset);
    return true;
}

static bool check_fate(struct jobs *j, const struct sim_fact *made, int64_t offset) {
    const struct sim_look *l = j->l;
    struct seen *s = &j->m[offset];
    struct fate t = fate_of(l, made, offset);
    s->unsure = t.may[DEAD] && (!is_exact(l) || made->group);
    if (j->dead && !check_copies(j, &t, offset))
        return false;
    bool moved_on = t.moved && is_here(l, t.other);
    switch (s->state) {
    case READY:
    case DELAYED:
        if (!t.may[s->state])
            return sim_fail(l->r, "offset %lld is %s, and cannot be", (long long)offset,
                            s->state == READY ? "available" : "delayed");
        if (!has_tries(&t, s->tries))
            return sim_fail(l->r, "offset %lld was delivered %d times, it says", (long long)offset,
                            s->tries);
        return true;
    case DEAD:
        return t.may[DEAD] ||
               sim_fail(l->r, "offset %lld is kept, and cannot be dead", (long long)offset);
    default:
        if (t.may[GONE] || (j->dead && t.may[DEAD] && (s->copies > 0 || moved_on)))
            return true;
        return sim_fail(l->r, "offset %lld is lost: neither here nor done nor dead",
                        (long long)offset);
    }
}

// What made the message that is at an offset, being the record of fact `number`.
static const struct sim_fact *made_by(const struct sim_run *r, int number, int64_t offset) {
    const struct sim_fact *f = &r->fact[number];
    if (f->offset == offset)
        return f;
    for (const struct sim_fact *g = f; g < r->fact + r->facts; g++)
        if (g->what == SIM_MOVED && g->other == offset)
            return g;
    sim_broken("a record that nobody moved", number);
}

static bool check_fates(struct jobs *j) {
    const struct sim_look *l = j->l;
    int64_t begin = l->found->begin[SIM_Q][0];
    for (int64_t o = 0; o < OFFSETS; o++) {
        int number = l->found->here[SIM_Q][0][o];
        if (number > 0 && !check_fate(j, made_by(l->r, number - 1, o), o))
            return false;
    }
    // What the log has given back was done.
    for (const struct sim_fact *f = l->r->fact; f < l->r->fact + l->w->old; f++)
        if (f->what == SIM_SENT && f->topic == SIM_Q && f->offset < begin && !l->w->base &&
            !check_fate(j, f, f->offset))
            return false;
    return true;
}

// ---- the order in which they come

static const struct sim_fact *record_at(const struct jobs *j, int64_t offset) {
    int number = j->l->found->here[SIM_Q][0][offset];
    return number > 0 ? &j->l->r->fact[number - 1] : NULL;
}

static bool in_line(const struct jobs *j, int64_t o) {
    return (j->m[o].state == READY || j->m[o].state == DELAYED) && !j->m[o].handed;
}

// A message moved by a redrive keeps its group, and nothing else.
static int priority_at(const struct jobs *j, int64_t offset) {
    const struct sim_fact *f = record_at(j, offset);
    bool original = f && f->offset == offset;
    return original && f->priority ? f->priority : 4;
}

// Whether something of its group is in front of it; not surely: or was, until this receive.
static bool waits(const struct jobs *j, int64_t offset, bool surely) {
    const struct sim_fact *f = record_at(j, offset);
    for (int64_t o = 0; f && f->group && o < offset; o++) {
        const struct sim_fact *g = record_at(j, o);
        if (g && g->group == f->group && in_line(j, o) && !(surely && j->m[o].unsure))
            return true;
    }
    return false;
}

static bool check_order(const struct jobs *j, int64_t offset) {
    if (!in_line(j, offset))
        return sim_fail(j->l->r, "offset %lld is handed out, and was not there", (long long)offset);
    if (waits(j, offset, true))
        return sim_fail(j->l->r, "offset %lld comes before its group's turn", (long long)offset);
    int mine = priority_at(j, offset);
    for (int64_t o = 0; o < OFFSETS; o++)
        if (in_line(j, o) && !j->m[o].unsure && !waits(j, o, false) &&
            (priority_at(j, o) > mine || (priority_at(j, o) == mine && o < offset)))
            return sim_fail(j->l->r, "offset %lld comes before %lld", (long long)offset,
                            (long long)o);
    return true;
}

static bool check_count(const struct jobs *j, const leat_message *m) {
    const struct seen *s = &j->m[m->offset];
    if (m->deliveries == s->tries + 1)
        return true;
    const struct sim_fact *f = record_at(j, m->offset);
    bool fits = false;
    if (f && !is_exact(j->l) && !j->l->w->closed) {
        struct fate t =
            fate_of(j->l, made_by(j->l->r, (int)(f - j->l->r->fact), m->offset), m->offset);
        fits = has_tries(&t, m->deliveries - 1);
    }
    return fits || sim_fail(j->l->r, "offset %lld: delivery %d after %d", (long long)m->offset,
                            m->deliveries, s->tries);
}

// A receive that comes upon one that had its last try may return nothing, and the next one more.
static int receive_next(const struct jobs *j, leat_queue *q, leat_message *m) {
    int n = leat_queue_receive(q, 0, m, 1);
    for (int i = 0; n == 0 && i < OFFSETS && q == j->q; i++)
        n = leat_queue_receive(q, 0, m, 1);
    return n;
}

// Takes and ends all that there is.
static bool drain(struct jobs *j, leat_queue *q) {
    leat_message m;
    bool ok = true;
    int n;
    while (ok && (n = receive_next(j, q, &m)) != 0) {
        if (n < 0)
            return sim_fail(j->l->r, "receive: %s", leat_errmsg());
        if (q == j->q && !j->l->r->aged)
            ok = check_order(j, m.offset);
        if (q == j->q && ok)
            ok = check_count(j, &m);
        if (q == j->q)
            j->m[m.offset].handed = true;
        sim_must("ack", leat_queue_ack(q, &m));
    }
    for (int64_t o = 0; ok && q == j->q && !j->l->r->aged && o < OFFSETS; o++)
        if (in_line(j, o) && !j->m[o].unsure)
            ok = sim_fail(j->l->r, "offset %lld is there, and not handed out", (long long)o);
    return ok;
}

// After a clean close only what was sent before it and not received is there.
static bool check_closed(const struct jobs *j) {
    const struct sim_look *l = j->l;
    for (int64_t o = 0; o < OFFSETS; o++) {
        const struct sim_fact *f = record_at(j, o);
        bool fresh = f && f - l->r->fact >= l->w->fresh && f->offset == o;
        enum state is = j->m[o].state;
        if (fresh && (is != READY || j->m[o].tries != 0))
            return sim_fail(l->r, "offset %lld was sent after the crash and is not there",
                            (long long)o);
        if (!fresh && is != NOWHERE && is != DEAD && !l->r->aged)
            return sim_fail(l->r, "offset %lld was done, the store closed, and it came back",
                            (long long)o);
        if (j->m[o].copies > 0)
            return sim_fail(l->r, "offset %lld was buried, and came back", (long long)o);
    }
    return true;
}

static bool check_both(struct jobs *j) {
    if (!look_around(j) || !(j->l->w->closed ? check_closed(j) : check_fates(j)))
        return false;
    if (!j->l->r->aged) // else all would be too old
        sim_must("advance", leat_clock_advance(j->l->mq, HOUR_MS));
    return drain(j, j->q) && (!j->dead || drain(j, j->dead));
}

bool sim_check_jobs(struct sim_look *l, leat_queue *q) {
    static struct jobs j;
    leat_queue_options o = { .flags = LEAT_MUST_EXIST };
    memset(&j, 0, sizeof j);
    j.l = l;
    j.q = q;
    if (l->r->dead && leat_queue_open(l->mq, "d", &o, &j.dead) != 0)
        return sim_fail(l->r, "the dead-letter queue: %s", leat_errmsg());
    bool ok = check_both(&j);
    if (j.dead)
        sim_must("queue close", leat_queue_close(j.dead));
    return ok;
}
