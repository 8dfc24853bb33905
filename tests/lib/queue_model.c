/* SPDX-License-Identifier: MIT */
#include "lib/queue_model.h"

#include <stddef.h>
#include <string.h>

static void model_remove(struct model *q, struct model_message *m) {
    q->count--;
    memmove(m, m + 1, (size_t)(q->m + q->count - m) * sizeof *m);
}

void model_send(struct model *q, int64_t id, int priority, int group, int64_t delay_ms) {
    q->m[q->count++] = (struct model_message){ .offset = (int64_t)q->sent++,
                                               .id = id,
                                               .state = delay_ms ? MODEL_DELAYED : MODEL_AVAILABLE,
                                               .priority = priority,
                                               .group = group,
                                               .sent_ms = q->now_ms,
                                               .due_ms = q->now_ms + delay_ms };
}

// A group's message has its turn when none before it is left; who is kept is out of the way.
bool model_waits(const struct model *q, const struct model_message *m) {
    for (const struct model_message *b = q->m; b < m; b++)
        if (m->group != 0 && b->group == m->group && b->state != MODEL_KEPT)
            return m->state == MODEL_AVAILABLE || m->state == MODEL_DELAYED;
    return false;
}

struct model_message *model_next(struct model *q) {
    struct model_message *best = NULL;
    for (struct model_message *m = q->m; m < q->m + q->count && !q->paused; m++)
        if (m->state == MODEL_AVAILABLE && (!best || m->priority > best->priority) &&
            !model_waits(q, m))
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
    if (!q->dead_letter)
        return;
    q->died++;
    q->dead[q->dead_count++] = *m;
    model_remove(q, m);
}

static bool model_last_try(const struct model *q, const struct model_message *m) {
    return q->deliveries_max > 0 && m->deliveries >= q->deliveries_max;
}

static int64_t model_backoff(const struct model *q, const struct model_message *m) {
    int n = m->deliveries < q->backoffs ? m->deliveries : q->backoffs;
    return n > 0 ? q->backoff_ms[n - 1] : 0;
}

static void model_wait(struct model_message *m, int64_t from_ms, int64_t delay_ms) {
    m->state = delay_ms ? MODEL_DELAYED : MODEL_AVAILABLE;
    m->due_ms = from_ms + delay_ms;
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
    model_wait(m, q->now_ms, ms);
}

void model_extend(struct model *q, struct model_message *m, int64_t ms) {
    if (ms == 0) {
        model_nack(q, m, 0, true);
        return;
    }
    m->state = MODEL_LEASED;
    m->due_ms = q->now_ms + ms;
}

// A lease that runs out leaves its receipt good until the message is handed out again.
static void model_fall_due(struct model *q, struct model_message *m) {
    if (m->state == MODEL_DELAYED)
        m->state = MODEL_AVAILABLE;
    else if (model_last_try(q, m))
        model_reject(q, m);
    else
        model_wait(m, m->due_ms, model_backoff(q, m));
}

void model_advance(struct model *q, int64_t ms) {
    q->now_ms += ms;
    for (int i = 0; i < q->count;) {
        struct model_message *m = &q->m[i];
        if ((m->state == MODEL_DELAYED || m->state == MODEL_LEASED) && m->due_ms <= q->now_ms)
            model_fall_due(q, m);
        else
            i++;
    }
}

void model_expire(struct model *q) {
    for (int i = 0; i < q->count && q->retention_ms > 0;) {
        struct model_message *m = &q->m[i];
        bool over = m->sent_ms + q->retention_ms <= q->now_ms;
        if (!over || (m->state != MODEL_AVAILABLE && m->state != MODEL_DELAYED)) {
            i++;
        } else if (q->expired && q->dead_letter) {
            model_reject(q, m);
        } else {
            q->ended++;
            model_remove(q, m);
        }
    }
}

void model_restart(struct model *q) {
    for (int i = 0; i < q->count;) {
        struct model_message *m = &q->m[i];
        int before = q->count;
        m->receipt = 0;
        if (m->state == MODEL_LEASED && model_last_try(q, m))
            model_reject(q, m); // that was its last one
        else if (m->state == MODEL_LEASED)
            m->state = MODEL_AVAILABLE;
        i += q->count == before;
    }
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
    for (struct model_message *m = q->m; m < q->m + q->count && !q->dead_letter && n > 0; m++)
        if (m->state == MODEL_KEPT) {
            m->state = MODEL_AVAILABLE;
            m->deliveries = 0;
            n--;
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
        if (m->offset >= from && (model_waits(q, m) ? MODEL_AVAILABLE : (int)m->state) == state)
            out[n++] = m;
    return n;
}
