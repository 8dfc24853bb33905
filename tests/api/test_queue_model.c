/* SPDX-License-Identifier: MIT */
// Random operations on a queue, and on the model of one (lib/queue_model.h): what each call
// returns, which message comes next, how often it was delivered, what is seen in each state, here
// and among the dead letters, what is said of a message, and all counts are the same at each step.
#include "leat.h"
#include "leat_test.h"
#include "lib/place.h"
#include "lib/queue_model.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STEPS = 200000 };
#else
enum { STEPS = 10000000 };
#endif
enum { RESTART_STEPS = 50000, RUNS = 16, OLD = 64, TAKE = 3 };
enum { FILL = 48, DEAD_FILL = MODEL_ROOM - FILL }; // all of the queue may die at once

static leat *mq;
static leat_queue *q, *dead;
static struct model model;
static leat_message held[MODEL_ROOM]; // whose views are not ended, by place
static int held_count;
static uint64_t old[OLD]; // receipts of any time
static uint64_t chance;
static long step;
static struct model before; // its counts at the store's last open
static int64_t ids;

static uint64_t draw(uint64_t n) {
    chance = chance * 6364136223846793005u + 1442695040888963407u;
    return (chance >> 33) % n;
}

#define same(a, b)                                                                                 \
    cr_assert_eq((long long)(a), (long long)(b), "step %ld: %s is %lld, the model's %s %lld",      \
                 step, #a, (long long)(a), #b, (long long)(b))

// ---- opening

struct set {
    uint64_t seed;
    int deliveries_max;
    bool dead_letter, backoff, groups, priorities, retention, expired;
    const char *path; // NULL: in memory
};

static void open_all(const struct set *set) {
    leat_options o = { .clock = LEAT_CLOCK_JUMP,
                       .threads = LEAT_NO_THREADS,
                       .seed = set->seed,
                       .acks = LEAT_ACKS_LOG,
                       .start_ms = 1000000 + model.now_ms };
    leat_queue_options qo = { .visibility_timeout_ms = model.visibility_ms,
                              .deliveries_max = set->deliveries_max,
                              .dead_letter = set->dead_letter ? "dead" : NULL,
                              .backoff_count = set->backoff ? MODEL_BACKOFFS : 0,
                              .backoff_ms = set->backoff ? model.backoff_ms : NULL,
                              .retention_ms = model.retention_ms,
                              .dead_letter_expired = set->expired };
    ok(set->path ? leat_open(set->path, &o, &mq) : leat_open_memory(&o, &mq));
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    ok(leat_queue_open(mq, "q", &qo, &q));
}

static int64_t number_of(const leat_message *m) {
    char text[24] = "";
    memcpy(text, m->value.data, m->value.size < sizeof text ? m->value.size : 0);
    return atoll(text);
}

// The letters that came since the last look stand in any order.
static void compare_dead(void) {
    leat_message m[MODEL_ROOM + 1];
    int n = leat_queue_peek(dead, LEAT_AVAILABLE, 0, m, MODEL_ROOM + 1);
    same(n, model.dead_count);
    for (int i = 0; i < n; i++) {
        cr_assert(model_dead_is(&model, i, number_of(&m[i])), "step %ld: dead letter %d is %lld",
                  step, i, (long long)number_of(&m[i]));
        ok(leat_message_release(mq, &m[i]));
    }
}

static int count(int state) {
    struct model_message *found[MODEL_ROOM];
    return model_look(&model, state, 0, found, MODEL_ROOM);
}

static void compare(void) {
    leat_queue_stats s;
    ok(leat_queue_get_stats(q, &s, sizeof s));
    same(s.available, count(MODEL_AVAILABLE));
    same(s.delayed, count(MODEL_DELAYED));
    same(s.leased, count(MODEL_LEASED));
    same(s.kept, count(MODEL_KEPT));
    same(s.moving, 0);
    same(s.done, model.done - before.done);
    same(s.dead, model.died - before.died);
    same(s.expired, model.ended - before.ended);
    same(s.sent, model.sent - before.sent);
    same(s.oldest_ms, model.count ? model.now_ms - model.m[0].sent_ms : 0);
    compare_dead();
}

// ---- the operations

static void do_send(const struct set *set) {
    if (model.count >= FILL)
        return;
    char group[16] = "", value[24];
    int number = set->groups && draw(2) ? 1 + (int)draw(5) : 0;
    int priority = set->priorities && draw(2) ? 1 + (int)draw(9) : 0;
    int64_t delay = draw(4) ? 0 : 10 * (int64_t)draw(20);
    snprintf(group, sizeof group, "g%d", number);
    snprintf(value, sizeof value, "%lld", (long long)++ids);
    leat_record r = { .value = leat_str(value),
                      .priority = priority,
                      .delay_ms = delay,
                      .group = number ? leat_str(group) : (leat_bytes){ 0 } };
    leat_metadata md;
    ok(leat_queue_send(q, &r, &md));
    same(md.offset, model.sent);
    model_send(&model, ids, priority ? priority : 4, number, delay);
}

static void do_receive(void) {
    leat_message m[TAKE];
    int64_t visibility = draw(3) ? 0 : 10 + 10 * (int64_t)draw(30);
    size_t max = 1 + draw(TAKE);
    leat_receive_options o = { .visibility_timeout_ms = visibility };
    if (held_count + TAKE > MODEL_ROOM)
        return;
    int n = leat_queue_receive_with(q, 0, &o, m, max);
    cr_assert_geq(n, 0, "step %ld: %s", step, leat_errmsg());
    for (int i = 0; i < n; i++) {
        struct model_message *expected = model_next(&model);
        cr_assert_not_null(expected, "step %ld: offset %lld is not to come", step,
                           (long long)m[i].offset);
        same(m[i].offset, expected->offset);
        same(number_of(&m[i]), expected->id);
        same(m[i].deliveries, expected->deliveries + 1);
        cr_assert_null(model_find(&model, m[i].receipt), "step %ld: the receipt is not new", step);
        model_hand_out(&model, expected, visibility, m[i].receipt);
        old[draw(OLD)] = m[i].receipt;
        held[held_count++] = m[i];
    }
    if ((size_t)n < max)
        cr_assert_null(model_next(&model), "step %ld: one more was to come", step);
}

enum how { ACK, NACK, REJECT, EXTEND, HOWS };

static int settle(enum how how, leat_message *m, uint64_t receipt, int64_t ms, uint32_t flags) {
    if (m)
        return how == ACK      ? leat_queue_ack(q, m)
               : how == NACK   ? leat_queue_nack(q, m, ms, flags)
               : how == REJECT ? leat_queue_reject(q, m, "model")
                               : leat_queue_extend(q, m, ms);
    return how == ACK      ? leat_queue_ack_receipt(q, receipt)
           : how == NACK   ? leat_queue_nack_receipt(q, receipt, ms, flags)
           : how == REJECT ? leat_queue_reject_receipt(q, receipt, NULL)
                           : leat_queue_extend_receipt(q, receipt, ms);
}

// By a message that is held, which ends its view, or by any receipt there ever was.
static void do_settle(const struct set *set) {
    bool by_view = held_count > 0 && draw(3) > 0;
    int place = by_view ? (int)draw((uint64_t)held_count) : 0;
    uint64_t receipt = by_view ? held[place].receipt : draw(50) ? old[draw(OLD)] : draw(UINT32_MAX);
    enum how how = draw(2) ? ACK : (enum how)draw(HOWS);
    int64_t ms = draw(2) ? 0 : 10 * (int64_t)draw(30);
    if (how == NACK && set->backoff && draw(3) == 0)
        ms = LEAT_BACKOFF;
    uint32_t flags = how == NACK && draw(4) == 0 ? LEAT_UNCOUNTED : 0;
    struct model_message *m = model_find(&model, receipt);
    int rc = settle(how, by_view ? &held[place] : NULL, receipt, ms, flags);
    same(rc, m ? 0 : LEAT_ESTALE);
    if (m && how == ACK)
        model_ack(&model, m);
    else if (m && how == NACK)
        model_nack(&model, m, ms == LEAT_BACKOFF ? -1 : ms, flags == 0);
    else if (m && how == REJECT)
        model_reject(&model, m);
    else if (m)
        model_extend(&model, m, ms);
    if (by_view && how != EXTEND)
        held[place] = held[--held_count];
}

static void do_release(void) {
    if (held_count > 0)
        ok(leat_message_release(mq, &held[--held_count]));
}

static void do_advance(void) {
    int64_t ms = 10 * (int64_t)draw(draw(10) ? 4 : 60);
    ok(leat_clock_advance(mq, ms));
    model_advance(&model, ms);
}

static void do_pause(void) {
    model.paused = draw(4) == 0;
    ok(leat_queue_pause(q, model.paused));
}

static void do_purge(void) {
    uint64_t purged = 0;
    ok(leat_queue_purge(q, &purged));
    same(purged, model.count);
    model.count = 0;
}

static void do_redrive(const struct set *set) {
    uint64_t moved = 0, most = (uint64_t)(model.count < FILL ? FILL - model.count : 0);
    uint64_t limit = draw(3) ? 1 + draw(8) : 0;
    uint64_t there = (uint64_t)(set->dead_letter ? model.dead_count : count(MODEL_KEPT));
    if (set->dead_letter && (limit ? limit : there) > most)
        return;
    compare(); // what is over is among the dead letters now
    ok(leat_queue_redrive(set->dead_letter ? dead : q, draw(2) ? q : NULL, limit, &moved));
    same(moved, limit && limit < there ? limit : there);
    model_redrive(&model, (int)moved);
}

static void do_peek(void) {
    leat_message m[8];
    struct model_message *expected[8];
    int state = 1 + (int)draw(4), max = 1 + (int)draw(8);
    int64_t from = model.count && draw(2) ? model.m[draw((uint64_t)model.count)].offset : 0;
    int n = leat_queue_peek(q, state, from, m, (size_t)max);
    same(n, model_look(&model, state, from, expected, max));
    for (int i = 0; i < n; i++) {
        same(m[i].offset, expected[i]->offset);
        same(m[i].deliveries, expected[i]->deliveries);
        same(number_of(&m[i]), expected[i]->id);
        same(m[i].receipt, 0);
        ok(leat_message_release(mq, &m[i]));
    }
}

static int write_text(const void *data, size_t size, void *ctx) {
    snprintf(ctx, 64, "%.*s", (int)size, (const char *)data);
    return 0;
}

static void do_explain(void) {
    static const char *const says[] = { "", "available: ", "delayed: ", "leased: ", "dead: kept" };
    char text[64] = "";
    if (model.count == 0)
        return;
    const struct model_message *m = &model.m[draw((uint64_t)model.count)];
    const char *expected = model_waits(m) ? "waits: " : says[m->state];
    ok(leat_queue_explain(q, 0, m->offset, write_text, text));
    cr_assert(strncmp(text, expected, strlen(expected)) == 0, "step %ld: offset %lld is %s not %s",
              step, (long long)m->offset, text, expected);
}

static void do_restart(const struct set *set) {
    while (held_count > 0)
        do_release();
    compare(); // what is over is ended in this run
    ok(leat_close_all(mq, 0));
    before = model;
    model_restart(&model);
    open_all(set);
}

static void do_one(const struct set *set) {
    uint64_t what = draw(1000);
    if (what < 300)
        do_send(set);
    else if (what < 600)
        do_receive();
    else if (what < 870)
        do_settle(set);
    else if (what < 890)
        do_release();
    else if (what < 920)
        do_peek();
    else if (what < 930)
        do_explain();
    else if (what < 940)
        do_redrive(set);
    else if (what < 945)
        do_pause();
    else if (what < 947)
        do_purge();
    else if (what < 999 || !set->path)
        do_advance();
    else
        do_restart(set);
}

static void play(const struct set *set, long steps) {
    model = (struct model){ .deliveries_max = set->deliveries_max,
                            .dead_letter = set->dead_letter,
                            .expired = set->expired,
                            .backoffs = set->backoff ? MODEL_BACKOFFS : 0,
                            .backoff_ms = { 20, 0, 110 },
                            .visibility_ms = 200,
                            .retention_ms = set->retention ? 600 : 0 };
    held_count = 0;
    before = (struct model){ 0 };
    memset(old, 0, sizeof old);
    chance = set->seed;
    open_all(set);
    for (step = 0; step < steps; step++) {
        do_one(set);
        model_expire(&model);
        if (draw(16) == 0)
            compare();
        if (model.dead_count > DEAD_FILL) {
            compare();
            ok(leat_queue_purge(dead, NULL));
            model.dead_count = model.dead_known = 0;
        }
    }
    while (held_count > 0)
        do_release();
    ok(leat_close_all(mq, 0));
}

static void play_all(const char *path, long steps) {
    for (int run = 0; run < RUNS; run++) {
        struct set set = { .seed = 20261 + (uint64_t)run,
                           .deliveries_max = run % 4 == 3 ? 0 : 1 + run % 4,
                           .dead_letter = run & 1,
                           .backoff = run & 2,
                           .groups = run % 4 != 0,
                           .priorities = run != 1 && run != 4,
                           .retention = run & 4,
                           .expired = run & 8,
                           .path = path };
        cr_log_info("run %d: seed %llu", run, (unsigned long long)set.seed);
        play(&set, steps / RUNS);
        if (path) {
            scratch_remove(dir);
            scratch_mkdir(dir);
        }
    }
}

Test(queue_and_model, says_what_the_queue_does_in_memory) {
    play_all(NULL, STEPS);
}

Test(queue_and_model, says_what_the_queue_does_over_restarts, .init = make_dir, .fini = drop_dir) {
    play_all(dir, RESTART_STEPS);
}
