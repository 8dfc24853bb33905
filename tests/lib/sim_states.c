/* SPDX-License-Identifier: MIT */
#include "lib/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct crash_os *disk;             // where states are opened
static struct crash_model *model, *later; // of a run; of the recovery of one of its states

void sim_states_init(void) {
    disk = calloc(1, sizeof *disk);
    model = calloc(1, sizeof *model);
    later = calloc(1, sizeof *later);
    if (!disk || !model || !later)
        sim_broken("out of memory", 0);
    crash_os_init(disk);
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
        if (torn && vars[i].file == torn_file && picks[i] > 0)
            picks[i]--;
        torn_file = torn ? vars[i].file : torn_file;
        crash_model_pick(m, &vars[i], picks[i]);
    }
}

// Says what a state is: what differs from the newest or the oldest, whichever is shorter.
static void describe(const struct crash_model *m, const struct sim_run *r, uint32_t at,
                     const struct plan *p, const char *level) {
    size_t news = 0, used;
    int last = -1;
    for (int i = 0; i < r->facts; i++)
        if (r->fact[i].from <= at)
            last = i;
    for (size_t i = 0; i < var_count; i++)
        news += picks[i] == 0;
    bool from_new = 2 * news >= var_count;
    used = (size_t)snprintf(
        sim_where, sizeof sim_where, "%s point %u (fact %d%s), %s %zu/%llx: %s but", level, at,
        last, last >= 0 && r->fact[last].to > at ? " under way" : "", shape_name[p->shape], p->n,
        (unsigned long long)p->seed, from_new ? "newest" : "oldest");
    for (size_t i = 0; i < var_count && used < sizeof sim_where - 170; i++) {
        char one[160];
        if (from_new ? picks[i] == 0 : picks[i] == vars[i].choices - 1)
            continue;
        crash_model_say(m, &vars[i], picks[i], one);
        used += (size_t)snprintf(sim_where + used, sizeof sim_where - used, " %s", one);
    }
}

// ---- going through the points

static void second_crashes(const struct sim_tour *t, const struct sim_moment *w,
                           const struct sim_found *base, uint64_t hash);

// Returns false if it was seen before.
static bool visit(const struct sim_tour *t, struct crash_model *m, const struct sim_moment *w,
                  const struct plan *p, const char *level) {
    struct sim_run *r = t->r;
    pick(m, p);
    uint64_t content = crash_model_hash(m);
    int told = 0;
    for (int i = 0; i < r->facts; i++)
        told += 2 * (r->fact[i].to <= w->at) + (r->fact[i].from <= w->at);
    uint64_t hash = mix(mix(content, (uint64_t)r->number), (uint64_t)told);
    if (w->base) {
        hash = mix(hash, 77);
        for (int i = w->old; i < r->facts; i++)
            hash = mix(hash, 1u + (r->fact[i].to <= w->at2) + (r->fact[i].from <= w->at2));
    }
    // What holds after kill -9 holds after a power cut.
    if (seen_before(0, mix(hash, 1), w->kill) || (!w->kill && seen_before(0, mix(hash, 2), true)))
        return false;
    sim_totals.contents += !seen_before(1, mix(content, (uint64_t)r->number), true);
    sim_totals.states++;
    describe(m, r, w->base ? w->at2 : w->at, p, level);
    crash_os_load(disk, m, false);
    static struct sim_found found[2];
    struct sim_found *here = &found[w->base != NULL];
    int facts = r->facts;
    bool ok = sim_try(disk, r, w, here, hash);
    r->facts = facts;
    if (ok && !w->base && t->second_each && mix(hash, t->round) % t->second_each == 0)
        second_crashes(t, w, here, hash);
    return true;
}

// All shapes of the point that m has come to.
static void visit_point(const struct sim_tour *t, struct crash_model *m, struct sim_moment *w,
                        const char *level, uint64_t seed) {
    var_count = crash_model_vars(m, vars);
    bool kill = w->kill;
    size_t mine = var_count;
    struct plan p = { .shape = NEWEST };
    if (t->round == 0 && kill)
        (void)visit(t, m, w, &p, level);
    w->kill = false;
    for (p.shape = NEWEST; p.shape <= CHANCE; p.shape++) {
        size_t n = p.shape == NEWEST || p.shape == OLDEST ? 1 : mine;
        if (p.shape == FILE_OLD || p.shape == FILE_NEW)
            n = (size_t)m->nodes;
        if (p.shape == CHANCE)
            n = t->chances;
        if (t->round > 0 && p.shape != CHANCE)
            continue;
        for (p.n = 0; p.n < n; p.n++) {
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
static void second_crashes(const struct sim_tour *t, const struct sim_moment *w,
                           const struct sim_found *base, uint64_t hash) {
    static struct sim_found was, more;
    struct sim_run *r = t->r;
    int facts = r->facts;
    was = more = *base;
    crash_model_copy(later, model);
    if (!w->kill)
        crash_model_settle(later);
    crash_os_load(disk, model, true);
    disk->torn = true;
    struct sim_look l = { .r = r, .w = w, .found = &more, .os = disk };
    if (!sim_reopen(&l, "first"))
        return;
    bool ok = sim_send_more(&l, 1 + (int)(hash % 4));
    crash_os_point(disk);
    disk->recording = false;
    sim_store_kill(l.mq);
    struct crash_trace trace = disk->trace;
    disk->trace = (struct crash_trace){ 0 };
    struct sim_tour inner = { .r = r, .chances = 2, .one_in = 16 };
    for (size_t i = 0; ok && i < trace.count; i++) {
        crash_model_follow(later, trace.event[i]);
        if (trace.event[i]->kind != CRASH_POINT)
            continue;
        struct sim_moment w2 = {
            .at = w->at, .at2 = (uint32_t)i, .kill = w->kill, .base = &was, .old = w->old
        };
        char level[64];
        (void)snprintf(level, sizeof level, "after point %u %s, second", w->at,
                       w->kill ? "killed" : "cut");
        sim_totals.second_points++;
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

void sim_go_through(const struct sim_tour *t) {
    crash_model_init(model);
    uint64_t point = t->round + (uint64_t)t->r->number;
    for (size_t i = 0; i < t->r->trace.count; i++) {
        crash_model_follow(model, t->r->trace.event[i]);
        if (t->r->trace.event[i]->kind != CRASH_POINT)
            continue;
        if (point++ % t->point_in != 0)
            continue;
        struct sim_moment w = {
            .at = (uint32_t)i, .at2 = UINT32_MAX, .kill = true, .old = t->r->facts
        };
        visit_point(t, model, &w, "", mix((uint64_t)t->r->number, i));
    }
}

void sim_states_fini(void) {
    crash_os_fini(disk);
    free(disk);
    free(model);
    free(later);
    for (int set = 0; set < 2; set++)
        free(seen_table[set]);
}
