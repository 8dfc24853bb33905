/* SPDX-License-Identifier: MIT */
// queue_kill: the process that works until it is killed.
#include "lib/queue_kill.h"

#include "leat_test.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TAKE = 3, VALUE_MAX = 700, START_MS = 1000000 };

struct qkill_shared *qkill;
uint64_t qkill_chance;

uint64_t qkill_draw(uint64_t n) {
    qkill_chance = qkill_chance * 6364136223846793005u + 1442695040888963407u;
    return (qkill_chance >> 33) % n;
}

void qkill_complain(const char *format, ...) {
    size_t used = strlen(qkill->text);
    atomic_fetch_add(&qkill->complaints, 1);
    va_list list;
    va_start(list, format);
    if (used + 2 < sizeof qkill->text)
        (void)vsnprintf(qkill->text + used, sizeof qkill->text - used - 1, format, list);
    va_end(list);
    used = strlen(qkill->text);
    qkill->text[used] = '\n';
    qkill->text[used + 1] = '\0';
}

bool qkill_is(const char *what, int rc, int expected) {
    if (rc == expected)
        return true;
    qkill_complain("%s: %d %s (%s), not %d", what, rc, leat_errname(rc), leat_errmsg(), expected);
    return false;
}

static bool qkill_same(const char *what, int64_t is, int64_t expected) {
    if (is != expected)
        qkill_complain("%s: %lld, the model's %lld", what, (long long)is, (long long)expected);
    return is == expected;
}

// ---- messages: the bytes follow from the number

static leat_bytes qkill_value(int64_t id) {
    static char bytes[VALUE_MAX + 32];
    uint64_t x = (uint64_t)id * 0x9e3779b97f4a7c15u;
    size_t size = (size_t)snprintf(bytes, sizeof bytes, "%lld:", (long long)id);
    size_t end = size + (size_t)((x >> 40) % VALUE_MAX);
    for (; size < end; size++)
        bytes[size] = (char)('a' + (x >> size % 57) % 16);
    return (leat_bytes){ bytes, size };
}

int64_t qkill_id(const leat_message *m) {
    char text[24] = "";
    memcpy(text, m->value.data, m->value.size < sizeof text ? m->value.size : sizeof text - 1);
    int64_t id = strtoll(text, NULL, 10);
    leat_bytes v = qkill_value(id);
    return v.size == m->value.size && memcmp(v.data, m->value.data, v.size) == 0 ? id : -1;
}

int64_t qkill_header(const leat_message *m, const char *name) {
    leat_header h;
    for (size_t i = 0; leat_message_header(m, i, &h) == 1; i++)
        if (strcmp(h.name.data, name) == 0)
            return strtoll(h.value.data, NULL, 10);
    return -1;
}

// ---- the store

void qkill_start(const struct qkill_set *set) {
    qkill->model[0] = (struct model){ .deliveries_max = set->deliveries_max,
                                      .dead_letter = set->dead_letter,
                                      .expired = set->expired,
                                      .backoffs = set->backoff ? MODEL_BACKOFFS : 0,
                                      .backoff_ms = { 20, 0, 110 },
                                      .visibility_ms = 100,
                                      .retention_ms = set->retention ? 600 : 0 };
    memset(qkill->old, 0, sizeof qkill->old);
    atomic_store(&qkill->stage, 0);
}

bool qkill_open(struct qkill_store *s, const struct qkill_set *set, int64_t now_ms, bool ends) {
    const struct model *is = &qkill->model[0];
    leat_options o = { .clock = LEAT_CLOCK_JUMP,
                       .threads = LEAT_NO_THREADS,
                       .write = set->write,
                       .seed = 1,
                       .acks = LEAT_ACKS_LOG,
                       .start_ms = START_MS + now_ms };
    leat_topic_options small = { .segment_bytes = 16384 };
    leat_queue_options qo = { .flags = LEAT_ALTER,
                              .topic = set->over ? "base" : NULL,
                              .visibility_timeout_ms = is->visibility_ms,
                              .deliveries_max = set->deliveries_max,
                              .dead_letter = set->dead_letter ? "dead" : NULL,
                              .backoff_count = is->backoffs,
                              .backoff_ms = is->backoffs ? is->backoff_ms : NULL,
                              .retention_ms = ends ? is->retention_ms : LEAT_FOREVER,
                              .dead_letter_expired = set->expired };
    leat_topic *base;
    *s = (struct qkill_store){ .mq = NULL };
    return qkill_is("open", leat_open(set->dir, &o, &s->mq), 0) &&
           (!set->over || qkill_is("topic", leat_topic_open(s->mq, "base", &small, &base), 0)) &&
           qkill_is("queue", leat_queue_open(s->mq, "q", &qo, &s->q), 0) &&
           (!set->dead_letter ||
            qkill_is("dead queue", leat_queue_open(s->mq, "dead", NULL, &s->dead), 0));
}

static int qkill_count(struct model *is, int state) {
    struct model_message *found[MODEL_ROOM];
    return model_look(is, state, 0, found, MODEL_ROOM);
}

// The i-th dead letter is the one of that offset: of those that came at once the order is seen.
static bool qkill_letter(struct model *is, int i, const leat_message *m) {
    int64_t offset = qkill_header(m, "leat.offset");
    int at = i, last = i < is->dead_known ? i + 1 : is->dead_count;
    while (at < last && is->dead[at].offset != offset)
        at++;
    if (at == last || is->dead[at].id != qkill_id(m) ||
        is->dead[at].deliveries != qkill_header(m, "leat.deliveries")) {
        qkill_complain("dead letter %d is offset %lld, %lld tries", i, (long long)offset,
                       (long long)qkill_header(m, "leat.deliveries"));
        return false;
    }
    struct model_message found = is->dead[at];
    is->dead[at] = is->dead[i];
    is->dead[i] = found;
    return true;
}

static bool qkill_letters(const struct qkill_store *s, struct model *is) {
    leat_message m[MODEL_ROOM + 1];
    int n = leat_queue_peek(s->dead, LEAT_AVAILABLE, 0, m, MODEL_ROOM + 1);
    bool good = qkill_same("dead letters", n, is->dead_count);
    for (int i = 0; i < n; i++) {
        good = good && qkill_letter(is, i, &m[i]);
        (void)leat_message_release(s->mq, &m[i]);
    }
    is->dead_known = is->dead_count;
    return good;
}

bool qkill_compare(const struct qkill_store *s, struct model *is, const struct model *base) {
    leat_queue_stats t = { 0 };
    return qkill_is("stats", leat_queue_get_stats(s->q, &t, sizeof t), 0) &&
           qkill_same("available", (int64_t)t.available, qkill_count(is, MODEL_AVAILABLE)) &&
           qkill_same("delayed", (int64_t)t.delayed, qkill_count(is, MODEL_DELAYED)) &&
           qkill_same("leased", (int64_t)t.leased, qkill_count(is, MODEL_LEASED)) &&
           qkill_same("kept", (int64_t)t.kept, qkill_count(is, MODEL_KEPT)) &&
           qkill_same("moving", (int64_t)t.moving, 0) &&
           qkill_same("done", (int64_t)t.done, (int64_t)(is->done - base->done)) &&
           qkill_same("died", (int64_t)t.dead, (int64_t)(is->died - base->died)) &&
           qkill_same("expired", (int64_t)t.expired, (int64_t)(is->ended - base->ended)) &&
           qkill_same("sent", (int64_t)t.sent, (int64_t)(is->sent - base->sent)) &&
           qkill_same("oldest", t.oldest_ms, is->count ? is->now_ms - is->m[0].sent_ms : 0) &&
           (!s->dead || qkill_letters(s, is));
}

// ---- what it does. Each plans what comes of it in *next, says so, and does it

static struct qkill_work {
    struct qkill_store s;
    const struct qkill_set *set;
    struct model base;             // at the open
    leat_message held[MODEL_ROOM]; // whose views are not ended
    int held_count;
} w;

static void qkill_begin(enum qkill_op op, struct model *next) {
    qkill->middle = *next;
    model_expire(next);
    qkill->op = (int)op;
    atomic_fetch_or(&qkill->stage, 1);
    atomic_fetch_add(&qkill->calls[op], 1);
}

static bool qkill_send(struct model *next) {
    if (next->count >= QKILL_FILL)
        return true;
    char group[16];
    int number = w.set->groups && qkill_draw(2) ? 1 + (int)qkill_draw(5) : 0;
    int priority = w.set->priorities && qkill_draw(2) ? 1 + (int)qkill_draw(9) : 0;
    int64_t delay = qkill_draw(4) ? 0 : 10 * (int64_t)qkill_draw(20), id = ++qkill->ids;
    (void)snprintf(group, sizeof group, "g%d", number);
    leat_record r = { .value = qkill_value(id), .priority = priority, .delay_ms = delay };
    if (number)
        r.group = leat_str(group);
    leat_metadata md;
    int64_t offset = (int64_t)next->sent;
    model_send(next, id, priority ? priority : 4, number, delay);
    qkill_begin(QKILL_SEND, next);
    return qkill_is("send", leat_queue_send(w.s.q, &r, &md), 0) &&
           qkill_same("offset of a send", md.offset, offset);
}

static bool qkill_receive(struct model *next) {
    leat_message m[TAKE];
    struct model_message *expected[TAKE];
    int64_t visibility = qkill_draw(3) ? 0 : 10 + 10 * (int64_t)qkill_draw(20);
    int max = 1 + (int)qkill_draw(TAKE), count = 0;
    leat_receive_options o = { .visibility_timeout_ms = visibility };
    if (w.held_count + TAKE > MODEL_ROOM)
        return true;
    while (count < max && (expected[count] = model_next(next)))
        model_hand_out(next, expected[count++], visibility, 0);
    qkill_begin(QKILL_RECEIVE, next);
    int n = leat_queue_receive_with(w.s.q, 0, &o, m, (size_t)max);
    bool good = qkill_same("receive", n, count);
    for (int i = 0; good && i < n; i++) {
        good = qkill_same("order", m[i].offset, expected[i]->offset) &&
               qkill_same("bytes", qkill_id(&m[i]), expected[i]->id) &&
               qkill_same("deliveries", m[i].deliveries, expected[i]->deliveries);
        for (int k = 0; k < QKILL_OLD; k++)
            if (qkill->old[k] == m[i].receipt)
                qkill_complain("a receipt is not new");
        expected[i]->receipt = m[i].receipt;
        qkill->old[qkill_draw(QKILL_OLD)] = m[i].receipt;
        w.held[w.held_count++] = m[i];
    }
    return good;
}

enum qkill_how { ACK, NACK, REJECT, EXTEND, HOWS };

static int qkill_settle_one(enum qkill_how how, leat_message *m, uint64_t receipt, int64_t ms,
                            uint32_t flags) {
    leat_queue *q = w.s.q;
    if (m)
        return how == ACK      ? leat_queue_ack(q, m)
               : how == NACK   ? leat_queue_nack(q, m, ms, flags)
               : how == REJECT ? leat_queue_reject(q, m, "killed")
                               : leat_queue_extend(q, m, ms);
    return how == ACK      ? leat_queue_ack_receipt(q, receipt)
           : how == NACK   ? leat_queue_nack_receipt(q, receipt, ms, flags)
           : how == REJECT ? leat_queue_reject_receipt(q, receipt, NULL)
                           : leat_queue_extend_receipt(q, receipt, ms);
}

// By a message that is held, which ends its view, or by any receipt there ever was.
static bool qkill_settle(struct model *next) {
    bool by_view = w.held_count > 0 && qkill_draw(4) > 0;
    int place = by_view ? (int)qkill_draw((uint64_t)w.held_count) : 0;
    uint64_t receipt = by_view ? w.held[place].receipt : qkill->old[qkill_draw(QKILL_OLD)];
    enum qkill_how how = qkill_draw(3) == 0 ? ACK : (enum qkill_how)qkill_draw(HOWS);
    int64_t ms = qkill_draw(2) ? 0 : 10 * (int64_t)qkill_draw(20);
    if (how == NACK && w.set->backoff && qkill_draw(3) == 0)
        ms = LEAT_BACKOFF;
    uint32_t flags = how == NACK && qkill_draw(4) == 0 ? LEAT_UNCOUNTED : 0;
    struct model_message *m = model_find(next, receipt);
    bool good = m != NULL;
    if (good && how == ACK)
        model_ack(next, m);
    else if (good && how == NACK)
        model_nack(next, m, ms == LEAT_BACKOFF ? -1 : ms, flags == 0);
    else if (good && how == REJECT)
        model_reject(next, m);
    else if (good)
        model_extend(next, m, ms);
    qkill_begin(QKILL_SETTLE, next);
    int rc = qkill_settle_one(how, by_view ? &w.held[place] : NULL, receipt, ms, flags);
    if (by_view && how != EXTEND)
        w.held[place] = w.held[--w.held_count];
    return qkill_is("settle", rc, good ? 0 : LEAT_ESTALE);
}

static bool qkill_advance(struct model *next, int64_t ms) {
    model_advance(next, ms);
    qkill_begin(QKILL_ADVANCE, next);
    return qkill_is("advance", leat_clock_advance(w.s.mq, ms), 0);
}

static bool qkill_purge(struct model *next) {
    uint64_t purged = 0;
    int count = next->count;
    next->count = 0;
    qkill_begin(QKILL_PURGE, next);
    return qkill_is("purge", leat_queue_purge(w.s.q, &purged), 0) &&
           qkill_same("purged", (int64_t)purged, count);
}

static bool qkill_bury(struct model *next) {
    next->dead_count = next->dead_known = 0;
    qkill_begin(QKILL_BURY, next);
    return qkill_is("bury", leat_queue_purge(w.s.dead, NULL), 0);
}

static bool qkill_redrive(struct model *next) {
    uint64_t moved = 0, limit = qkill_draw(3) ? 1 + qkill_draw(8) : 0;
    int there = w.s.dead ? next->dead_count : qkill_count(next, MODEL_KEPT);
    int n = limit && (int)limit < there ? (int)limit : there;
    if (w.s.dead && next->count + n > QKILL_FILL)
        return true;
    model_redrive(next, n);
    qkill_begin(QKILL_REDRIVE, next);
    leat_queue *from = w.s.dead ? w.s.dead : w.s.q, *to = qkill_draw(2) ? w.s.q : NULL;
    return qkill_is("redrive", leat_queue_redrive(from, to, limit, &moved), 0) &&
           qkill_same("moved", (int64_t)moved, n);
}

static void qkill_release(void) {
    if (w.held_count > 0)
        (void)qkill_is("release", leat_message_release(w.s.mq, &w.held[--w.held_count]), 0);
}

// A close and an open, which a kill may cut short like all else.
static bool qkill_close(struct model *next) {
    while (w.held_count > 0)
        qkill_release();
    model_restart(next);
    qkill_begin(QKILL_CLOSE, next);
    bool good = qkill_is("close", leat_close_all(w.s.mq, 0), 0) &&
                qkill_open(&w.s, w.set, next->now_ms, true);
    const struct model *now = &qkill->model[atomic_load(&qkill->stage) >> 1];
    w.base = *now; // what dies or ends at the open counts since then
    return good;
}

static bool qkill_choose(struct model *next) {
    uint64_t what = qkill_draw(1000);
    if (next->dead_count > QKILL_DEAD_FILL)
        return qkill_bury(next);
    if (what < 300)
        return qkill_send(next);
    if (what < 560)
        return qkill_receive(next);
    if (what < 840)
        return qkill_settle(next);
    if (what < 860)
        return qkill_release(), true;
    if (what < 880)
        return qkill_redrive(next);
    if (what < 886)
        return qkill_purge(next);
    if (what < 890)
        return qkill_close(next);
    return qkill_advance(next, 10 * (int64_t)qkill_draw(qkill_draw(10) ? 4 : 30));
}

// The first one only ends what became too old while the queue had no retention.
static bool qkill_step(bool first) {
    int true_one = atomic_load(&qkill->stage) >> 1;
    struct model *next = &qkill->model[!true_one];
    *next = qkill->model[true_one];
    if (!(first ? qkill_advance(next, 0) : qkill_choose(next)) ||
        !qkill_compare(&w.s, next, &w.base))
        return false;
    atomic_store(&qkill->stage, 2 * !true_one);
    return atomic_load(&qkill->complaints) == 0;
}

static bool qkill_take_up(const struct qkill_set *set) {
    w.set = set;
    w.base = qkill->model[0];
    w.held_count = 0;
    return qkill_open(&w.s, set, w.base.now_ms, true);
}

_Noreturn void qkill_work(const struct qkill_set *set, void (*armed)(void)) {
    if (!qkill_take_up(set))
        _exit(1);
    armed();
    for (bool first = true; qkill_step(first); first = false)
        ;
    _exit(1);
}

bool qkill_drain(const struct qkill_set *set) {
    struct model is = qkill->model[0];
    leat_message m;
    if (!qkill_take_up(set))
        return false;
    model_advance(&is, 5000);
    model_expire(&is);
    bool good = qkill_is("advance", leat_clock_advance(w.s.mq, 5000), 0);
    while (good && qkill_compare(&w.s, &is, &w.base)) {
        struct model_message *x = model_next(&is);
        int n = leat_queue_receive(w.s.q, 0, &m, 1);
        good = qkill_same("drain", n, x != NULL);
        if (!x || !good)
            break;
        good = qkill_same("order", m.offset, x->offset) &&
               qkill_same("bytes", qkill_id(&m), x->id) &&
               qkill_same("deliveries", m.deliveries, x->deliveries + 1) &&
               qkill_is("ack", leat_queue_ack(w.s.q, &m), 0);
        model_ack(&is, x);
    }
    return qkill_is("close", leat_close_all(w.s.mq, 0), 0) && good;
}
