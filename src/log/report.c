/* SPDX-License-Identifier: MIT */
// report: what became of the records of a producer, told once each.
#include "base/rest.h"
#include "log/producer.h"

#include <stdio.h>

enum { REPORT_SPARES = 1024 * 1024 }; // bytes of parcels that are kept to be used again

// ---- a parcel ends

static void report_count(leat_producer_stats *s, int status, size_t n) {
    s->stored += status == LEAT_STORED ? n : 0;
    s->not_stored += status == LEAT_NOT_STORED ? n : 0;
    s->unknown += status == LEAT_UNKNOWN ? n : 0;
}

static void report_notify(leat_producer *p) {
    for (struct lt_node *n = lt_list_first(&p->holds); n; n = lt_list_next(&p->holds, n))
        lt_waiter_notify(p->mq, &LT_CONTAINER(n, struct lt_hold, node)->waiter);
}

// All of it is told, or nobody is to be told: keeps the parcel for another use, or gives it back.
// Locks: the producer's.
static void report_put_away(leat_producer *p, struct lt_parcel *parcel) {
    lt_list_remove(&parcel->live);
    bool few = lt_list_empty(&p->spares) || p->spare_bytes + p->batch_bytes <= REPORT_SPARES;
    if (!few || parcel->room != (size_t)p->batch_bytes || parcel->whole || parcel->futures) {
        lt_parcel_drop(parcel);
        return;
    }
    lt_list_push_front(&p->spares, &parcel->node);
    p->spare_bytes += p->batch_bytes;
}

void lt_producer_collect(leat_producer *p) {
    struct lt_list told;
    struct lt_node *n;
    lt_list_init(&told);
    lt_lock(&p->told_lock);
    lt_list_take_all(&told, &p->told);
    lt_unlock(&p->told_lock);
    while ((n = lt_list_first(&told))) {
        lt_list_remove(n);
        report_put_away(p, LT_CONTAINER(n, struct lt_parcel, node));
    }
}

// The first one to be told since there was none says so to who tells. Without a thread it is told
// by a flush, a close, or the thread that the next one gets. Locks: the producer's.
static void report_hand_over(leat_producer *p, struct lt_parcel *parcel) {
    lt_lock(&p->told_lock);
    bool first = lt_list_empty(&p->done);
    lt_list_push_back(&p->done, &parcel->node);
    lt_unlock(&p->told_lock);
    if (first || p->threadless)
        p->threadless = lt_errand_post(p->mq, &p->errand) != 0;
}

void lt_parcel_end(leat_producer *p, struct lt_parcel *parcel, int status, int error,
                   const char *message) {
    parcel->status = status;
    parcel->error = error;
    if (message != parcel->message)
        (void)snprintf(parcel->message, sizeof parcel->message, "%s", message);
    p->stats.batches++;
    p->stats.duplicates += parcel->duplicate;
    report_count(&p->stats, status, parcel->count);
    for (size_t i = 0; parcel->futures && i < parcel->entries; i++)
        if (parcel->entry[i].future)
            lt_future_done(parcel->entry[i].future);
    if (parcel->telling == 0)
        report_put_away(p, parcel);
    else
        report_hand_over(p, parcel);
    report_notify(p);
    lt_rest_stir(p->mq);
}

// ---- telling

static const uint8_t *report_bytes(const struct lt_parcel *parcel) {
    return parcel->log.seg ? parcel->log.at : parcel->bytes;
}

void lt_parcel_report(const struct lt_parcel *parcel, const struct lt_spot *at, leat_report *r,
                      leat_record *record, leat_header *header) {
    const uint8_t *encoded = report_bytes(parcel) + at->at;
    const struct lt_partition *part = parcel->box->p;
    lt_record_unpack(encoded, record, header);
    if (parcel->log.seg)
        record->timestamp_ms = record->delay_ms = 0; // the log has put its own there
    record->to_partition = LEAT_PARTITION(part->number);
    const leat_metadata md =
        parcel->duplicate
            ? parcel->first
            : (leat_metadata){ .topic = part->topic->name,
                               .partition = part->number,
                               .offset = parcel->base < 0 ? -1 : parcel->base + (int64_t)at->index,
                               .timestamp_ms = lt_encoded_timestamp(encoded, parcel->wall_ms) };
    *r = (leat_report){ .md = md,
                        .record = parcel->whole ? NULL : record,
                        .message = parcel->message,
                        .error = parcel->error,
                        .status = parcel->status };
}

// Tells the records of an entry; *at: the first one, then what is behind them.
static void report_tell_entry(leat_producer *p, const struct lt_parcel *parcel,
                              const struct lt_entry *e, struct lt_spot *at) {
    leat_header header[LT_HEADERS_MAX];
    leat_record record;
    leat_report r;
    for (uint32_t i = 0; i < e->count; i++, at->index++) {
        lt_parcel_report(parcel, at, &r, &record, header);
        lt_callback_begin();
        e->fn(p, &r, e->ctx);
        lt_callback_end();
        if (parcel->whole)
            return; // one for all
        at->at += lt_record_size(report_bytes(parcel) + at->at);
    }
}

static void report_tell(leat_producer *p, struct lt_parcel *parcel) {
    struct lt_spot at = { 0 };
    for (size_t i = 0; i < parcel->entries; i++) {
        const struct lt_entry *e = &parcel->entry[i];
        at.at = e->at;
        if (e->fn)
            report_tell_entry(p, parcel, e, &at);
        else
            at.index += e->count;
    }
    if (parcel->log.seg)
        lt_segment_drop(parcel->log.seg);
    parcel->log.seg = NULL;
}

// Says that a round was told, and wakes who waits for that. Returns  how many reports it was.
static int report_told(leat_producer *p, struct lt_list *round) {
    int64_t told = 0;
    for (struct lt_node *n = lt_list_first(round); n; n = lt_list_next(round, n))
        told += (int64_t)LT_CONTAINER(n, struct lt_parcel, node)->telling;
    lt_lock(&p->told_lock);
    lt_list_take_all(&p->told, round);
    atomic_fetch_add_explicit(&p->told_count, told, memory_order_release);
    bool waiting = p->waiting > 0;
    lt_unlock(&p->told_lock);
    if (waiting) {
        lt_lock_busy(&p->lock);
        report_notify(p);
        struct lt_node *line = lt_list_first(&p->line);
        if (line) // it may have been waiting for reports
            lt_waiter_notify(p->mq, &LT_CONTAINER(line, struct lt_hold, node)->waiter);
        lt_unlock(&p->lock);
    }
    return told < INT32_MAX ? (int)told : INT32_MAX;
}

// A round is all that has ended by now.
int lt_producer_tell(leat *mq, struct lt_errand *e) {
    (void)mq;
    leat_producer *p = LT_CONTAINER(e, leat_producer, errand);
    struct lt_list round;
    lt_list_init(&round);
    lt_lock(&p->told_lock);
    lt_list_take_all(&round, &p->done);
    lt_unlock(&p->told_lock);
    if (lt_list_empty(&round))
        return 0;
    for (struct lt_node *n = lt_list_first(&round); n; n = lt_list_next(&round, n))
        report_tell(p, LT_CONTAINER(n, struct lt_parcel, node));
    return report_told(p, &round);
}

// ---- flush and poll

size_t lt_producer_unfinished(leat_producer *p, uint64_t epoch) {
    size_t sum = 0;
    lt_producer_collect(p);
    for (struct lt_node *n = lt_list_first(&p->live); n; n = lt_list_next(&p->live, n)) {
        const struct lt_parcel *parcel = LT_CONTAINER(n, struct lt_parcel, live);
        if (parcel->epoch > epoch)
            break;
        sum += parcel->count;
    }
    return sum;
}

// Does what can be done here and now.
static void report_drive(leat_producer *p) {
    lt_outbox_run(p);
    if (p->polled || !lt_courier_runs(p->mq)) // no thread could be started
        (void)lt_errand_run(p->mq, &p->errand);
}

static int report_flush_wait(leat_producer *p, uint64_t epoch, int64_t timeout_ms) {
    struct lt_hold h;
    int64_t deadline = lt_add_ms(lt_now_ns(p->mq), timeout_ms);
    lt_lock(&p->lock);
    int rc = lt_hold_begin(p, &p->holds, &h);
    bool begun = rc == 0;
    while (rc == 0 && lt_producer_unfinished(p, epoch) > 0) {
        lt_unlock(&p->lock);
        report_drive(p);
        lt_lock(&p->lock);
        if (lt_producer_unfinished(p, epoch) > 0)
            rc = lt_hold_wait(p, &h, deadline);
    }
    size_t left = lt_producer_unfinished(p, epoch);
    if (begun)
        lt_hold_end(p, &h);
    lt_unlock(&p->lock);
    return rc != 0 && rc != LEAT_ETIMEDOUT ? rc : left < INT32_MAX ? (int)left : INT32_MAX;
}

bool lt_producers_ripen(leat *mq) {
    struct lt_list *all = &mq->log->producers;
    bool unfinished = false;
    lt_lock(&mq->log->producers_lock);
    for (struct lt_node *n = lt_list_first(all); n; n = lt_list_next(all, n)) {
        leat_producer *p = LT_CONTAINER(n, leat_producer, node);
        lt_lock(&p->lock);
        if (p->begun && !p->closing && lt_producer_unfinished(p, UINT64_MAX) > 0) {
            lt_outbox_ripen(p);
            unfinished = true;
        }
        lt_unlock(&p->lock);
    }
    lt_unlock(&mq->log->producers_lock);
    return unfinished;
}

int lt_producer_flush(leat_producer *p, int64_t timeout_ms) {
    lt_lock(&p->lock);
    if (!p->begun) {
        lt_unlock(&p->lock);
        return 0;
    }
    uint64_t epoch = p->epoch++;
    lt_outbox_close_open(p);
    lt_unlock(&p->lock);
    report_drive(p);
    lt_lock(&p->lock);
    size_t left = lt_producer_unfinished(p, epoch);
    lt_unlock(&p->lock);
    if (left > 0 && timeout_ms != 0)
        return report_flush_wait(p, epoch, timeout_ms);
    return left < INT32_MAX ? (int)left : INT32_MAX;
}

int leat_flush(leat_producer *p, int64_t timeout_ms) {
    int rc = lt_begin(p ? p->mq : NULL, LT_CALL);
    if (rc != 0)
        return rc;
    rc = lt_check_timeout(timeout_ms);
    return lt_end(p->mq, rc != 0 ? rc : lt_producer_flush(p, timeout_ms));
}

static int report_poll_wait(leat_producer *p, int64_t timeout_ms) {
    struct lt_hold h;
    int64_t deadline = lt_add_ms(lt_now_ns(p->mq), timeout_ms);
    int told = 0;
    lt_lock(&p->lock);
    int rc = lt_hold_begin(p, &p->holds, &h);
    bool begun = rc == 0;
    while (rc == 0 && told == 0) {
        lt_unlock(&p->lock);
        lt_due_fire(p->mq);
        told = lt_errand_run(p->mq, &p->errand);
        lt_lock(&p->lock);
        if (told == 0)
            rc = lt_hold_wait(p, &h, deadline);
    }
    if (begun)
        lt_hold_end(p, &h);
    lt_unlock(&p->lock);
    return told > 0 ? told : rc == LEAT_ETIMEDOUT ? 0 : rc;
}

static int report_poll(leat_producer *p, int64_t timeout_ms) {
    int rc = lt_check_timeout(timeout_ms);
    if (rc == 0 && !p->polled)
        rc = lt_fail(LEAT_EINVAL, "producer %s: its reports come on a thread of their own",
                     p->name ? p->name : "(unnamed)");
    if (rc != 0)
        return rc;
    lt_lock(&p->lock);
    rc = lt_outbox_begin(p);
    lt_unlock(&p->lock);
    if (rc != 0)
        return rc;
    lt_due_fire(p->mq);
    int told = lt_errand_run(p->mq, &p->errand);
    return told > 0 || timeout_ms == 0 ? told : report_poll_wait(p, timeout_ms);
}

int leat_producer_poll(leat_producer *p, int64_t timeout_ms) {
    int rc = lt_begin(p ? p->mq : NULL, LT_CALL);
    return rc != 0 ? rc : lt_end(p->mq, report_poll(p, timeout_ms));
}

// ---- purge, counts

int leat_producer_purge(leat_producer *p) {
    int rc = lt_begin(p ? p->mq : NULL, LT_CALL_CB);
    if (rc != 0)
        return rc;
    lt_lock(&p->lock);
    size_t n = lt_outbox_give_up(p, LEAT_EPURGED, "purged before it was sent", false);
    lt_unlock(&p->lock);
    return lt_end(p->mq, n < INT32_MAX ? (int)n : INT32_MAX);
}

int leat_producer_get_stats(leat_producer *p, leat_producer_stats *s, size_t size_of_s) {
    int rc = lt_enter(p ? p->mq : NULL, LT_CALL_CB);
    if (rc == 0 && (!s || size_of_s != sizeof *s))
        rc = lt_fail(LEAT_EINVAL, "producer stats: out is NULL or has %zu bytes", size_of_s);
    if (rc != 0)
        return rc;
    lt_lock(&p->lock);
    *s = p->stats;
    s->in_flight = s->accepted - s->stored - s->not_stored - s->unknown;
    s->in_flight_bytes = (uint64_t)p->buffered;
    s->reports_waiting = (uint64_t)lt_producer_untold(p);
    lt_unlock(&p->lock);
    return 0;
}
