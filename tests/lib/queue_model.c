/* SPDX-License-Identifier: MIT */
#include "lib/queue_model.h"

#include <string.h>

void model_turns(struct model *q) {
    for (struct model_message *m = q->m; m < q->m + q->count; m++) {
        bool taken = m->group == 0 || m->state == MODEL_KEPT;
        for (struct model_message *b = q->m; b < q->m + q->count && !taken; b++)
            taken = b->group == m->group && b->turn;
        m->turn |= !taken;
    }
}

static void model_remove(struct model *q, struct model_message *m) {
    q->count--;
    memmove(m, m + 1, (size_t)(q->m + q->count - m) * sizeof *m);
    model_turns(q);
}

static void model_wait(const struct model *q, struct model_message *m, int64_t due_ms) {
    m->state = due_ms > q->now_ms ? MODEL_DELAYED : MODEL_AVAILABLE;
    m->due_ms = due_ms;
}

void model_send(struct model *q, int64_t id, int priority, int group, int64_t delay_ms) {
    q->m[q->count++] = (struct model_message){ .offset = (int64_t)q->sent++,
                                               .id = id,
                                               .priority = priority,
                                               .group = group,
                                               .sent_ms = q->now_ms };
    model_wait(q, &q->m[q->count - 1], q->now_ms + delay_ms);
    model_turns(q);
}

struct model_message *model_next(struct model *q) {
    struct model_message *best = NULL;
    for (struct model_message *m = q->m; m < q->m + q->count && !q->paused; m++)
        if (m->state == MODEL_AVAILABLE && (!best || m->priority > best->priority) &&
            !model_waits(m))
            best = m;
    return best;
}

void model_hand_out(struct model *q, struct model_message *m, int64_t ms, uint64_t receipt) {
    m->state = MODEL_LEASED;
    m->due_ms = q->now_ms + (ms ? ms : q->visibility_ms);
    m->deliveries++;
    m->receipt = receipt;
}

struct model_message *model_find(struct model *q, uint64_t receipt) {
    for (struct model_message *m = q->m; m < q->m + q->count; m++)
        if (receipt != 0 && m->receipt == receipt)
            return m;
    return NULL;
}

void model_reject(struct model *q, struct model_message *m) {
    m->receipt = 0;
    m->state = MODEL_KEPT;
    m->turn = false;
    model_turns(q);
    if (q->dead_letter) {
        q->died++;
        q->dead[q->dead_count++] = *m;
        model_remove(q, m);
    }
}

static bool model_last_try(const struct model *q, const struct model_message *m) {
    return q->deliveries_max > 0 && m->deliveries >= q->deliveries_max;
}

static int64_t model_backoff(const struct model *q, const struct model_message *m) {
    int n = m->deliveries < q->backoffs ? m->deliveries : q->backoffs;
    return n > 0 ? q->backoff_ms[n - 1] : 0;
}

void model_ack(struct model *q, struct model_message *m) {
    q->done++;
    model_remove(q, m);
}

void model_nack(struct model *q, struct model_message *m, int64_t delay_ms, bool counted) {
    int64_t ms = delay_ms < 0 ? model_backoff(q, m) : delay_ms;
    if (counted && model_last_try(q, m)) {
        model_reject(q, m);
        return;
    }
    m->deliveries -= counted ? 0 : 1;
    m->receipt = 0;
    model_wait(q, m, q->now_ms + ms);
}

void model_extend(struct model *q, struct model_message *m, int64_t ms) {
    m->state = MODEL_LEASED;
    m->due_ms = q->now_ms + ms;
    if (ms == 0)
        model_nack(q, m, 0, true);
}

// A lease that runs out leaves its receipt good until the message is handed out again.
void model_advance(struct model *q, int64_t ms) {
    q->now_ms += ms;
    for (int i = q->count; i-- > 0;) {
        struct model_message *m = &q->m[i];
        if (m->state == MODEL_DELAYED && m->due_ms <= q->now_ms)
            m->state = MODEL_AVAILABLE;
        else if (m->state != MODEL_LEASED || m->due_ms > q->now_ms)
            continue;
        else if (model_last_try(q, m))
            model_reject(q, m);
        else
            model_wait(q, m, m->due_ms + model_backoff(q, m));
    }
}

void model_expire(struct model *q) {
    for (int i = q->count; i-- > 0 && q->retention_ms > 0;) {
        struct model_message *m = &q->m[i];
        if (m->sent_ms + q->retention_ms > q->now_ms ||
            (m->state != MODEL_AVAILABLE && m->state != MODEL_DELAYED))
            continue;
        bool moves = q->expired && q->dead_letter;
        q->ended += !moves;
        (moves ? model_reject : model_remove)(q, m);
    }
}

void model_restart(struct model *q) {
    for (int i = 0; i < q->count; i++)
        q->m[i].turn = false, q->m[i].receipt = 0; // turns go by offset again
    model_turns(q);
    for (int i = q->count; i-- > 0;)
        if (q->m[i].state == MODEL_LEASED && model_last_try(q, &q->m[i]))
            model_reject(q, &q->m[i]); // that was its last one
        else if (q->m[i].state == MODEL_LEASED)
            q->m[i].state = MODEL_AVAILABLE;
}

bool model_dead_is(struct model *q, int i, int64_t id) {
    int at = i;
    while (at < q->dead_count && q->dead[at].id != id)
        at++;
    if (at == q->dead_count || (i < q->dead_known && at != i))
        return false;
    struct model_message found = q->dead[at];
    q->dead[at] = q->dead[i];
    q->dead[i] = found;
    q->dead_known = i < q->dead_known ? q->dead_known : i + 1;
    return true;
}

void model_redrive(struct model *q, int n) {
    for (struct model_message *m = q->m; m < q->m + q->count && !q->dead_letter && n > 0; m++) {
        if (m->state != MODEL_KEPT)
            continue;
        m->state = MODEL_AVAILABLE;
        m->deliveries = 0;
        n--;
        // In front of one of its group that is available, but not if its receipt is good still.
        for (struct model_message *b = m + 1; b < q->m + q->count; b++)
            b->turn &= b->group != m->group || b->state != MODEL_AVAILABLE || b->receipt != 0;
        model_turns(q);
    }
    for (int i = 0; i < n; i++)
        model_send(q, q->dead[i].id, 4, q->dead[i].group, 0);
    q->dead_count -= n;
    q->dead_known -= n;
    memmove(q->dead, q->dead + n, (size_t)q->dead_count * sizeof q->dead[0]);
}

int model_look(struct model *q, int state, int64_t from, struct model_message **out, int max) {
    int n = 0;
    for (struct model_message *m = q->m; m < q->m + q->count && n < max; m++)
        if (m->offset >= from && (model_waits(m) ? MODEL_AVAILABLE : (int)m->state) == state)
            out[n++] = m;
    return n;
}
