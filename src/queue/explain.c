/* SPDX-License-Identifier: MIT */
// explain: what one message of a queue is now, and why it is not handed out. Put together under the
// queue's lock, handed out without it.
#include "queue/room.h"

struct explain {
    leat_queue *q;
    struct lt_queue_part *part;
    int64_t offset;
    struct lt_text *text;
};

static long long explain_ms(const leat_queue *q, int64_t due_ns) {
    int64_t left = due_ns - lt_now_ns(q->mq);
    return left > 0 ? (long long)((left + 999999) / 1000000) : 0;
}

static struct lt_lease *explain_find(const struct explain *e) {
    uint32_t walk = 0;
    struct lt_lease *lease;
    while ((lease = lt_leases_walk(&e->q->leases, &walk)))
        if (lease->partition == (uint32_t)e->part->p->number && lease->offset == e->offset)
            return lease;
    return NULL;
}

static void explain_moving(const leat_queue *q, const struct lt_lease *lease,
                           struct lt_text *text) {
    const char *to = q->dead ? q->dead->name : "(none)";
    unsigned tries = lt_dead_tries(lease);
    if (lease->due_ns == LT_NEVER)
        lt_text_line(text, "moving: it is being moved to another queue, or about to be");
    else if (tries == 0)
        lt_text_line(text, "moving: to queue %s, in %lld ms", to, explain_ms(q, lease->due_ns));
    else
        lt_text_line(text, "moving: to queue %s, after %u%s tries the next one in %lld ms: %s", to,
                     tries, tries == 7 ? " or more" : "", explain_ms(q, lease->due_ns),
                     leat_strerror(q->move_error));
}

void lt_queue_explain_lease(const leat_queue *q, const struct lt_lease *lease,
                            struct lt_text *text) {
    if (lease->state == LT_LEASE_MOVING)
        explain_moving(q, lease, text);
    else if (lease->state == LT_LEASE_DELAYED)
        lt_text_line(text, "delayed: for %lld ms more, was delivered %u times",
                     explain_ms(q, lease->due_ns), lease->deliveries);
    else
        lt_text_line(text, "leased: for %lld ms more, delivery %u%s%s",
                     explain_ms(q, lease->due_ns), lease->deliveries,
                     lt_who_name(q, lease)[0] ? ", by " : "", lt_who_name(q, lease));
}

void lt_queue_explain_kept(const struct lt_word *word, struct lt_text *text) {
    lt_text_line(text, "dead: kept in place after %u deliveries; leat_queue_redrive ends it",
                 word->deliveries);
}

// Why one that is available is not handed out by the next receive.
static void explain_available(const struct explain *e, uint32_t deliveries) {
    leat_queue *q = e->q;
    const struct lt_window *w = &e->part->window;
    uint64_t before = 0;
    if (e->offset >= w->tail)
        before = lt_backlog_available(&e->part->backlog) + (uint64_t)(e->offset - w->tail);
    for (int64_t at = w->head; at < e->offset && e->offset < w->tail; at++)
        before += lt_backlog_state(&e->part->backlog, at) == LT_WINDOW_AVAILABLE;
    lt_text_line(e->text, "available: %llu stand before it in partition %d, was delivered %u times",
                 (unsigned long long)before, e->part->p->number, deliveries);
    if (q->set.paused)
        lt_text_line(e->text, "the queue is paused");
    if (lt_queue_leased(q) >= (uint64_t)q->set.in_flight_max)
        lt_text_line(e->text, "in_flight_max is %lld, as many messages are leased",
                     (long long)q->set.in_flight_max);
}

static void explain_final(const struct explain *e, const struct lt_word *word) {
    if (word->state == LT_WORD_DONE)
        lt_text_line(e->text, "done");
    else if (word->state == LT_WORD_DEAD)
        lt_text_line(e->text, "dead: was moved to the dead-letter queue%s%s",
                     e->q->dead ? ", which is " : "", e->q->dead ? e->q->dead->name : "");
    else if (word->state == LT_WORD_EXPIRED)
        lt_text_line(e->text, "expired: it was older than retention_ms");
    else
        lt_text_line(e->text, "over: done, dead, expired or purged; the head is at %lld",
                     (long long)e->part->window.head);
}

static void explain_state(const struct explain *e) {
    const struct lt_sheet *sheet = lt_ledger_find(&e->part->ledger, e->offset);
    struct lt_word word = { 0 };
    if (sheet)
        word = lt_sheet_load(sheet, e->offset);
    int state = lt_backlog_state(&e->part->backlog, e->offset);
    const struct lt_lease *lease = state == LT_WINDOW_HELD ? explain_find(e) : NULL;
    if (lease)
        lt_queue_explain_lease(e->q, lease, e->text);
    else if (state == LT_BACKLOG_WAITING)
        lt_text_line(e->text, "waits: one of its group is in front of it, not done yet");
    else if (state == LT_WINDOW_FINAL)
        explain_final(e, &word);
    else if (state == LT_WINDOW_HELD)
        lt_queue_explain_kept(&word, e->text);
    else
        explain_available(e, word.deliveries);
}

// Says what the offset is where it is no message. Returns  1 if it is one, 0, or an error.
static int explain_record(const struct explain *e) {
    const struct lt_partition *p = e->part->p;
    long long begin = atomic_load(&p->begin), end = atomic_load(&p->end);
    if (e->offset >= end) {
        lt_text_line(e->text, "not sent yet: the end is at %lld", end);
        return 0;
    }
    if (e->offset < begin) {
        lt_text_line(e->text, "given back: the topic begins at %lld", begin);
        return 0;
    }
    struct lt_cursor c;
    lt_cursor_init(&c, e->part->p, e->offset);
    int found = lt_cursor_find(&c, e->offset + 1);
    lt_cursor_fini(&c);
    if (found == 0)
        lt_text_line(e->text, "no message: the log has a gap there");
    return found;
}

int leat_queue_explain(leat_queue *q, int32_t partition, int64_t offset, leat_write_fn write,
                       void *ctx) {
    int rc = lt_begin(q ? q->mq : NULL, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!write)
        rc = lt_fail(LEAT_EINVAL, "queue %s: explain: write is NULL", q->name);
    if (rc == 0 && offset < 0)
        rc = lt_fail(LEAT_EINVAL, "queue %s: explain offset %lld", q->name, (long long)offset);
    if (rc == 0 && !lt_topic_partition(q->topic, partition))
        rc = LEAT_ERANGE;
    if (rc != 0)
        return lt_end(q->mq, rc);
    struct lt_text text = { .mem = &q->mq->mem };
    lt_queue_look(q);
    lt_lock(q->lock);
    rc = lt_queue_catch_up(q);
    if (rc == 0) {
        struct explain e = { q, lt_queue_part(q, partition), offset, &text };
        lt_queue_follow(q, e.part);
        rc = lt_queue_admit_all(q, e.part);
        rc = rc == 0 ? explain_record(&e) : rc;
        if (rc == 1)
            explain_state(&e);
    }
    lt_queue_plan(q);
    lt_unlock(q->lock);
    if (rc >= 0)
        rc = lt_text_write(&text, write, ctx);
    if (rc < 0)
        lt_text_drop(&text);
    return lt_end(q->mq, rc);
}
