/* SPDX-License-Identifier: MIT */
// dump: the queues as text: of each its settings, its counts, and the first of those that are not
// handed out because of something: in flight, delayed, moving or dead. All of a queue is one look,
// under its lock.
#include "queue/room.h"

#include <stdlib.h>
#include <string.h>

enum { DUMP_MESSAGES = 32 }; // of a kind

struct dump_first { // the first messages by partition and offset, of those that were offered
    const struct lt_lease *lease[DUMP_MESSAGES];
    size_t count;
    uint64_t offered;
};

static void dump_settings(const leat_queue *q, struct lt_text *text) {
    const struct lt_queue_settings *set = &q->set;
    lt_text_add(text, "queue %s: ", q->name);
    if (!q->owns_topic)
        lt_text_add(text, "over topic %s, ", q->topic->name);
    lt_text_add(text, "visibility_timeout_ms %lld", (long long)set->visibility_ms);
    if (set->deliveries_max > 0)
        lt_text_add(text, ", deliveries_max %d", set->deliveries_max);
    if (set->dead_letter[0])
        lt_text_add(text, ", dead_letter %s%s", set->dead_letter,
                    set->dead_letter_expired ? ", dead_letter_expired" : "");
    if (set->delay_ms > 0)
        lt_text_add(text, ", delay_ms %lld", (long long)set->delay_ms);
    for (int32_t i = 0; i < set->backoff_count; i++)
        lt_text_add(text, "%s %lld", i == 0 ? ", backoff_ms" : "", (long long)set->backoff_ms[i]);
    if (set->retention_ms > 0)
        lt_text_add(text, ", retention_ms %lld", (long long)set->retention_ms);
    if (set->in_flight_max != LT_IN_FLIGHT)
        lt_text_add(text, ", in_flight_max %lld", (long long)set->in_flight_max);
    if (lt_queue_settles_on_disk(q))
        lt_text_add(text, ", settle_acks DISK");
    lt_text_line(text, "%s%s", set->paused ? ", PAUSED" : "",
                 q->settle_lost ? ", a sync of what was settled has FAILED" : "");
}

static void dump_counts(leat_queue *q, struct lt_text *text) {
    leat_queue_stats s;
    int rc = lt_queue_count(q, &s);
    lt_text_line(text,
                 "  available %llu, delayed %llu, leased %llu, moving %llu, kept %llu; since the "
                 "open: sent %llu, done %llu, dead %llu, expired %llu",
                 (unsigned long long)s.available, (unsigned long long)s.delayed,
                 (unsigned long long)s.leased, (unsigned long long)s.moving,
                 (unsigned long long)s.kept, (unsigned long long)s.sent, (unsigned long long)s.done,
                 (unsigned long long)s.dead, (unsigned long long)s.expired);
    if (rc < 0)
        lt_text_line(text, "  %s: %s", leat_errname(rc), leat_errmsg());
    int waiting = atomic_load(&q->waiting);
    if (waiting > 0)
        lt_text_line(text, "  receives that wait: %d", waiting);
}

// ---- messages

static bool dump_lease_before(const struct lt_lease *a, const struct lt_lease *b) {
    return a->partition != b->partition ? a->partition < b->partition : a->offset < b->offset;
}

// Leases come in no order, mostly in a rising one: then most of them are refused by one look.
static void dump_offer(struct dump_first *first, const struct lt_lease *lease) {
    size_t at = first->count;
    first->offered++;
    if (at == DUMP_MESSAGES && !dump_lease_before(lease, first->lease[at - 1]))
        return;
    if (at == DUMP_MESSAGES)
        at--;
    else
        first->count++;
    for (; at > 0 && dump_lease_before(lease, first->lease[at - 1]); at--)
        first->lease[at] = first->lease[at - 1];
    first->lease[at] = lease;
}

static void dump_more(uint64_t left, struct lt_text *text) {
    if (left > 0)
        lt_text_line(text, "  and %llu more", (unsigned long long)left);
}

static void dump_leases(const leat_queue *q, struct lt_text *text) {
    struct dump_first first = { .count = 0 };
    const struct lt_lease *lease;
    uint32_t walk = 0;
    while ((lease = lt_leases_walk(&q->leases, &walk)))
        if (!lt_lapsed_has(lease)) // else it is available
            dump_offer(&first, lease);
    for (size_t i = 0; i < first.count; i++) {
        lease = first.lease[i];
        lt_text_add(text, "  %u at %lld: ", lease->partition, (long long)lease->offset);
        lt_queue_explain_lease(q, lease, text);
    }
    dump_more(first.offered - first.count, text);
}

// Those that are dead in place.
static void dump_kept(const leat_queue *q, struct lt_text *text) {
    uint64_t told = 0, most = q->kept < DUMP_MESSAGES ? q->kept : DUMP_MESSAGES;
    for (int32_t i = 0; i < q->count && told < most; i++) {
        const struct lt_queue_part *part = lt_queue_part(q, i);
        for (int64_t at = part->window.head; at < part->window.tail && told < most; at++) {
            const struct lt_sheet *sheet = lt_backlog_state(&part->backlog, at) == LT_WINDOW_HELD
                                               ? lt_ledger_find(&part->ledger, at)
                                               : NULL;
            struct lt_word word = sheet ? lt_sheet_load(sheet, at) : (struct lt_word){ 0 };
            if (word.state != LT_WORD_KEPT)
                continue;
            lt_text_add(text, "  %d at %lld: ", i, (long long)at);
            lt_queue_explain_kept(&word, text);
            told++;
        }
    }
    dump_more(q->kept - told, text);
}

static void dump_queue(leat_queue *q, struct lt_text *text) {
    lt_lock(q->lock);
    int rc = lt_queue_catch_up(q);
    for (int32_t i = 0; rc == 0 && i < q->count; i++) {
        lt_queue_follow(q, lt_queue_part(q, i));
        rc = lt_queue_admit_all(q, lt_queue_part(q, i)); // or delayed ones would not be told
    }
    dump_settings(q, text);
    dump_counts(q, text);
    if (rc < 0)
        lt_text_line(text, "  %s: %s", leat_errname(rc), leat_errmsg());
    dump_leases(q, text);
    dump_kept(q, text);
    lt_queue_plan(q);
    lt_unlock(q->lock);
}

static int dump_by_name(const void *a, const void *b) {
    return strcmp((*(leat_queue *const *)a)->name, (*(leat_queue *const *)b)->name);
}

int lt_queues_dump(leat *mq, struct lt_text *text) {
    struct lt_list *all = &mq->queues->all;
    size_t n = 0, i = 0;
    int rc = 0;
    lt_lock(&mq->log->admin);
    for (struct lt_node *at = lt_list_first(all); at; at = lt_list_next(all, at))
        n++;
    leat_queue **q = lt_alloc(&mq->mem, n * sizeof *q);
    if (!q)
        rc = lt_fail_nomem();
    for (struct lt_node *at = lt_list_first(all); at && q; at = lt_list_next(all, at))
        q[i++] = LT_CONTAINER(at, leat_queue, node);
    if (i > 1)
        qsort(q, i, sizeof(leat_queue *), dump_by_name);
    for (n = 0; n < i; n++)
        dump_queue(q[n], text);
    lt_unlock(&mq->log->admin);
    lt_free(&mq->mem, q);
    return rc;
}
