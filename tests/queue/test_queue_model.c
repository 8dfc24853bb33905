/* SPDX-License-Identifier: MIT */
// A queue against a naive model of it: thousands of calls by chance, from a seed, in memory and on
// disk, with closes in between (kills: tests/crash/test_queue_kill.c), in several partitions. After
// each call the counts of the queue are those of the model; what receive hands out is what the
// model has available, with its count of deliveries and never early; a receipt is good when the
// model says so. All times are multiples of 10 ms, to which delays are kept over a reopen.
#include <criterion/criterion.h>

#include "base/chance.h"
#include "lib/scratch.h"

#include "leat_test.h"

#include <stdio.h>
#include <stdlib.h>

enum kind { MEMORY, MAPPED, PWRITE, KINDS };
enum state { AVAILABLE, DELAYED, LEASED, DONE, DEAD, KEPT, STATES };

enum {
    OPS = 3000,
    SEEDS = 3,
    MESSAGES_MAX = OPS + 1,
    HANDLES_MAX = 100,
    VISIBILITY_MS = 1000,
    DELIVERIES_MAX = 3,
    PARTITIONS_MAX = 3
};

struct message { // as the model has it
    enum state state;
    int deliveries, partition;
    int64_t due_ms; // of DELAYED and LEASED
    long token;     // the handle whose receipt is good; 0: none
};

struct handle { // one delivery, kept for longer than it is good
    leat_message m;
    int message;
    long token;
    bool view;
};

static struct model {
    struct lt_chance chance;
    enum kind kind;
    bool with_dead;
    int partitions;
    int64_t now_ms; // wall time
    struct message message[MESSAGES_MAX];
    int messages;
    struct handle handle[HANDLES_MAX];
    int handles;
    long tokens;
    uint64_t done, died, sent; // since the open
    long op;
    char root[SCRATCH_PATH], dir[SCRATCH_PATH];
} w;

static leat *mq;
static leat_queue *q, *dead;

static int64_t draw(int64_t n) {
    return (int64_t)(lt_chance_u64(&w.chance) % (uint64_t)n);
}

// ---- the model

static void model_die(struct message *m) {
    m->state = w.with_dead ? DEAD : KEPT;
    m->token = 0;
    w.died += w.with_dead;
}

static void model_fall_due(void) {
    for (int i = 0; i < w.messages; i++) {
        struct message *m = &w.message[i];
        if ((m->state != LEASED && m->state != DELAYED) || m->due_ms > w.now_ms)
            continue;
        if (m->state == LEASED && m->deliveries >= DELIVERIES_MAX)
            model_die(m);
        else
            m->state = AVAILABLE; // the receipt of a lease stays good until the next delivery
    }
}

static void model_reopen(void) {
    w.done = w.died = w.sent = 0;
    for (int i = 0; i < w.messages; i++) {
        struct message *m = &w.message[i];
        m->token = 0;
        if (m->state == LEASED && m->deliveries >= DELIVERIES_MAX)
            model_die(m);
        else if (m->state == LEASED)
            m->state = AVAILABLE;
    }
    for (int i = 0; i < w.handles; i++) {
        w.handle[i].m.view = 0; // its token was of the store that is closed
        w.handle[i].view = false;
    }
}

static void model_check(const char *op) {
    uint64_t n[STATES] = { 0 };
    for (int i = 0; i < w.messages; i++)
        n[w.message[i].state]++;
    leat_queue_stats s, d;
    ok(leat_queue_get_stats(q, &s, sizeof s));
    cr_assert(s.available == n[AVAILABLE] && s.delayed == n[DELAYED] && s.leased == n[LEASED] &&
                  s.moving == 0 && s.kept == n[KEPT],
              "op %ld %s: available %d delayed %d leased %d moving %d kept %d, not %d %d %d 0 %d",
              w.op, op, (int)s.available, (int)s.delayed, (int)s.leased, (int)s.moving, (int)s.kept,
              (int)n[AVAILABLE], (int)n[DELAYED], (int)n[LEASED], (int)n[KEPT]);
    cr_assert(s.done == w.done && s.dead == w.died && s.sent == w.sent,
              "op %ld %s: done %d dead %d sent %d, not %d %d %d", w.op, op, (int)s.done,
              (int)s.dead, (int)s.sent, (int)w.done, (int)w.died, (int)w.sent);
    if (!w.with_dead)
        return;
    ok(leat_queue_get_stats(dead, &d, sizeof d));
    cr_assert_eq(d.available, n[DEAD], "op %ld %s: %d dead letters, not %d", w.op, op,
                 (int)d.available, (int)n[DEAD]);
}

// ---- the store

static void store_open(void) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL,
                       .acks = LEAT_ACKS_LOG,
                       .seed = 5,
                       .start_ms = w.now_ms,
                       .write = w.kind == PWRITE ? LEAT_WRITE_PWRITE : LEAT_WRITE_MAPPED };
    if (w.kind == MEMORY)
        ok(leat_open_memory(&o, &mq));
    else
        ok(leat_open(w.dir, &o, &mq));
    leat_queue_options qo = { .visibility_timeout_ms = VISIBILITY_MS,
                              .deliveries_max = DELIVERIES_MAX,
                              .dead_letter = w.with_dead ? "dead" : NULL };
    leat_topic *t;
    if (w.partitions > 1) { // over a topic, with segments that are soon full
        ok(leat_topic_open(
            mq, "lines",
            &(leat_topic_options){ .partitions = w.partitions, .segment_bytes = 16384 }, &t));
        qo.topic = "lines";
    }
    ok(leat_queue_open(mq, "jobs", &qo, &q));
    if (w.with_dead)
        ok(leat_queue_open(mq, "dead", NULL, &dead));
}

static void store_close(void) {
    ok(leat_close_all(mq, 0));
}

// ---- what is done to both

static void op_send(void) {
    static char padding[400];
    struct message *m = &w.message[w.messages];
    *m = (struct message){ .state = AVAILABLE, .partition = (int)draw(w.partitions) };
    char text[16];
    (void)snprintf(text, sizeof text, "%d", w.messages);
    leat_header h = { LEAT_STR("padding"), { padding, (size_t)draw(sizeof padding) } };
    leat_record r = { .value = leat_str(text),
                      .headers = &h,
                      .header_count = 1,
                      .to_partition = LEAT_PARTITION(m->partition) };
    ok(leat_queue_send(q, &r, NULL));
    w.messages++;
    w.sent++;
}

static void drop_handle(int i) {
    if (w.handle[i].view)
        ok(leat_message_release(mq, &w.handle[i].m));
    w.handle[i] = w.handle[--w.handles];
}

static void expect(const leat_message *m) {
    int number = atoi(m->value.data);
    cr_assert(number >= 0 && number < w.messages);
    struct message *x = &w.message[number];
    cr_assert_eq(x->state, AVAILABLE, "op %ld: message %d is handed out in state %d", w.op, number,
                 (int)x->state);
    for (int i = 0; i < number; i++)
        cr_assert(w.message[i].partition != x->partition || w.message[i].state != AVAILABLE,
                  "op %ld: message %d is handed out before %d", w.op, number, i);
    cr_assert_eq(m->deliveries, ++x->deliveries, "op %ld: message %d, delivery %d", w.op, number,
                 m->deliveries);
    cr_assert_eq(m->partition, x->partition);
    x->state = LEASED;
    x->due_ms = w.now_ms + VISIBILITY_MS;
    x->token = ++w.tokens;
    if (w.handles == HANDLES_MAX)
        drop_handle((int)draw(w.handles));
    w.handle[w.handles++] =
        (struct handle){ .m = *m, .message = number, .token = x->token, .view = true };
}

static void op_receive(void) {
    leat_message m[8];
    int max = 1 + (int)draw(8), there = 0;
    for (int i = 0; i < w.messages; i++)
        there += w.message[i].state == AVAILABLE;
    int got = leat_queue_receive(q, 0, m, (size_t)max);
    cr_assert_eq(got, there < max ? there : max, "op %ld: %d handed out of %d", w.op, got, there);
    for (int i = 0; i < got; i++)
        expect(&m[i]);
}

enum settle { ACK, NACK, NACK_LATER, EXTEND, GIVE_BACK };

static void settled(struct message *m, enum settle how, int64_t ms) {
    bool last = m->deliveries >= DELIVERIES_MAX;
    if (how == EXTEND) {
        m->state = LEASED;
        m->due_ms = w.now_ms + ms;
        return;
    }
    m->token = 0;
    m->due_ms = w.now_ms + ms;
    if (how == ACK) {
        m->state = DONE;
        w.done++;
    } else if (last) {
        model_die(m);
    } else {
        m->state = how == NACK_LATER ? DELAYED : AVAILABLE;
    }
}

static void op_settle(enum settle how) {
    if (w.handles == 0)
        return;
    int i = (int)draw(w.handles), rc = 0;
    struct handle *h = &w.handle[i];
    struct message *m = &w.message[h->message];
    int64_t ms = 10 * (1 + draw(300));
    bool good = h->token == m->token;
    if (how == ACK)
        rc = leat_queue_ack(q, &h->m);
    else if (how == NACK || how == NACK_LATER)
        rc = leat_queue_nack(q, &h->m, how == NACK ? 0 : ms, 0);
    else
        rc = leat_queue_extend(q, &h->m, how == EXTEND ? ms : 0);
    if (how != EXTEND && how != GIVE_BACK)
        h->view = false;
    cr_assert_eq(rc, good ? 0 : LEAT_ESTALE, "op %ld: settling %d by %d is %s", w.op, h->message,
                 (int)how, leat_errname(rc));
    if (good)
        settled(m, how, ms);
    if (draw(2) == 0)
        drop_handle(i);
}

static void op_release(void) {
    if (w.handles == 0)
        return;
    struct handle *h = &w.handle[draw(w.handles)];
    cr_assert_eq(leat_message_release(mq, &h->m), h->view ? 0 : LEAT_ESTALE);
    h->view = false;
}

// How long until the next lease or delay ends; 0: none does.
static int64_t next_due(void) {
    int64_t first = INT64_MAX;
    for (int i = 0; i < w.messages; i++)
        if ((w.message[i].state == LEASED || w.message[i].state == DELAYED) &&
            w.message[i].due_ms < first)
            first = w.message[i].due_ms;
    return first == INT64_MAX ? 0 : first - w.now_ms;
}

static void op_advance(void) {
    int64_t ms = 10 * draw(30), due = next_due();
    if (due > 0 && draw(4) != 0)
        ms = due - 10 * draw(2); // just before something ends, or to its end
    ok(leat_clock_advance(mq, ms));
    w.now_ms += ms;
    model_fall_due();
}

static void op_reopen(void) {
    if (w.kind == MEMORY)
        return;
    store_close();
    model_reopen();
    store_open();
}

static const char *one_op(void) {
    int64_t x = draw(1000);
    if (x < 260)
        return op_send(), "send";
    if (x < 500)
        return op_receive(), "receive";
    if (x < 640)
        return op_settle(ACK), "ack";
    if (x < 700)
        return op_settle(NACK), "nack";
    if (x < 770)
        return op_settle(NACK_LATER), "nack later";
    if (x < 820)
        return op_settle(EXTEND), "extend";
    if (x < 850)
        return op_settle(GIVE_BACK), "give back";
    if (x < 880)
        return op_release(), "release";
    if (x < 980)
        return op_advance(), "advance";
    return op_reopen(), "reopen";
}

// What is left is delivered to its end: everything that was sent is somewhere, once.
static void drain(void) {
    leat_message m;
    while (w.handles > 0)
        drop_handle(w.handles - 1);
    ok(leat_clock_advance(mq, 10000));
    w.now_ms += 10000;
    model_fall_due();
    model_check("drain");
    while (leat_queue_receive(q, 0, &m, 1) == 1) {
        struct message *x = &w.message[atoi(m.value.data)];
        cr_assert_eq(x->state, AVAILABLE);
        ok(leat_queue_ack(q, &m));
        x->state = DONE;
        w.done++;
    }
    model_check("drained");
    while (w.with_dead && leat_queue_receive(dead, 0, &m, 1) == 1) {
        struct message *x = &w.message[atoi(m.value.data)];
        cr_assert_eq(x->state, DEAD);
        leat_header h;
        gives(1, leat_message_header(&m, 6, &h));
        is(h.name, "leat.deliveries");
        is(h.value, "3");
        ok(leat_queue_ack(dead, &m));
        x->state = DONE; // a second copy would be seen
    }
    for (int i = 0; i < w.messages; i++)
        cr_assert(w.message[i].state == DONE || w.message[i].state == KEPT, "message %d: %d", i,
                  (int)w.message[i].state);
}

static void run(enum kind kind, uint64_t seed) {
    w.kind = kind;
    w.with_dead = seed % 3 != 2;
    w.partitions = seed % 3 == 0 ? 1 : PARTITIONS_MAX;
    w.now_ms = 1000000000000;
    w.messages = w.handles = 0;
    w.done = w.died = w.sent = 0;
    lt_chance_init(&w.chance, seed);
    scratch_make(w.root);
    scratch_join(w.dir, w.root, "a");
    store_open();
    for (w.op = 0; w.op < OPS; w.op++)
        model_check(one_op());
    drain();
    store_close();
    scratch_remove(w.root);
}

Test(model, in_memory) {
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        run(MEMORY, seed);
}

Test(model, on_disk_mapped) {
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        run(MAPPED, seed);
}

Test(model, on_disk_written) {
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        run(PWRITE, seed);
}
