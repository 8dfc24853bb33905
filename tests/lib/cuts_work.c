/* SPDX-License-Identifier: MIT */
#include "lib/cuts.h"

#include <string.h>

enum { CUTS_VALUE = 700, CUTS_BATCH = 20, CUTS_TAKE = 8 };

static const int64_t cuts_backoff[3] = { 10, 0, 3000 };

// ---- what there is

static bool cuts_make_queue(int queue, leat_queue_options *o, int64_t retention_ms) {
    cuts.on_disk[queue] = cuts_one_in(3);
    o->settle_acks = cuts.on_disk[queue] ? LEAT_ACKS_DISK : 0;
    o->retention_ms = cuts_one_in(2) ? retention_ms : 0;
    cuts.owes[queue] = o->retention_ms == 0;
    return cuts_is(cuts_name[queue], leat_queue_open(cuts.mq, cuts_name[queue], o, &cuts.q[queue]),
                   0);
}

static bool cuts_make_plain(void) {
    bool backoff = cuts_one_in(2);
    leat_queue_options o = { .deliveries_max = 1 + (int32_t)cuts_draw(4),
                             .dead_letter = "dead",
                             .partitions = 1 + (int32_t)cuts_draw(3),
                             .visibility_timeout_ms = 50,
                             .backoff_count = backoff ? 3 : 0,
                             .backoff_ms = backoff ? cuts_backoff : NULL,
                             .dead_letter_expired = cuts_one_in(2),
                             .dedup_window_ms = cuts_one_in(2) ? 500 : 0 };
    return cuts_make_queue(CUTS_PLAIN, &o, 2000);
}

bool cuts_make(void) {
    bool trims = cuts_one_in(4);
    leat_topic_options t = { .partitions = 1 + (int32_t)cuts_draw(2),
                             .segment_bytes = 16384,
                             .retention_records = trims ? 200 : 0,
                             .keep_until_consumed = cuts_one_in(2) };
    leat_queue_options dead = { 0 };
    leat_queue_options over = { .topic = "t",
                                .visibility_timeout_ms = 30,
                                .deliveries_max = 3,
                                .dead_letter = cuts_one_in(2) ? "dead" : NULL,
                                .delay_ms = cuts_one_in(2) ? 40 : 0 };
    leat_queue_options kept = { .topic = cuts_one_in(2) ? "t" : NULL,
                                .acks = LEAT_ACKS_DISK,
                                .deliveries_max = 2,
                                .visibility_timeout_ms = 70 };
    bool good = cuts_is("topic", leat_topic_open(cuts.mq, "t", &t, &cuts.t), 0) &&
                cuts_make_queue(CUTS_DEAD, &dead, 0) && cuts_make_plain() &&
                cuts_make_queue(CUTS_OVER, &over, 0) && cuts_make_queue(CUTS_KEPT, &kept, 3000) &&
                cuts_is("sync", leat_sync(cuts.mq), 0);
    for (int i = 0; i < CUTS_QUEUES && good; i++)
        cuts.owes[i] &= !trims || leat_queue_topic(cuts.q[i]) != cuts.t;
    return good;
}

// ---- sending

// Fills a record, of bytes that stay until the next one. Returns  its id, or CUTS_OFFSETS: it may
// be a repeat.
static uint32_t cuts_record(leat_record *r) {
    static char value[CUTS_VALUE], group[2], id[2];
    uint32_t number = cuts.ids++;
    memcpy(value, &number, sizeof number);
    *r = (leat_record){ .value = { value, sizeof number + cuts_draw(cuts_draw(5) ? 40 : 690) } };
    group[0] = 'g';
    group[1] = (char)('0' + cuts_draw(4));
    id[0] = 'i';
    id[1] = (char)('0' + cuts_draw(30));
    int64_t wall_ms = 0;
    (void)leat_clock_now(cuts.mq, NULL, &wall_ms);
    if (cuts_one_in(3))
        r->group = (leat_bytes){ group, sizeof group };
    if (cuts_one_in(4))
        r->priority = 1 + (int32_t)cuts_draw(9);
    if (cuts_one_in(5))
        r->delay_ms = cuts_one_in(4) ? LEAT_ZERO : 1 + (int64_t)cuts_draw(300);
    if (cuts_one_in(6))
        r->dedup_id = (leat_bytes){ id, sizeof id };
    if (cuts_one_in(12))
        r->timestamp_ms = wall_ms - 5000 + cuts_draw(9000);
    return r->dedup_id.size > 0 ? CUTS_OFFSETS : number;
}

static void cuts_send(int queue) {
    leat_record r;
    leat_metadata md;
    uint32_t id = cuts_record(&r);
    leat_topic *t = leat_queue_topic(cuts.q[queue]);
    bool disk = cuts_one_in(4);
    int rc;
    if (cuts_one_in(2)) {
        disk = queue == CUTS_KEPT;
        rc = leat_queue_send(cuts.q[queue], &r, &md);
    } else {
        rc = leat_send(disk ? cuts.disk : cuts.log, t, &r, &md);
    }
    if (cuts_is("send", rc, 0) && r.dedup_id.size == 0)
        cuts_sent(t, id, &md, disk);
}

static void cuts_send_many(int queue) {
    leat_record r[CUTS_BATCH];
    leat_metadata md[CUTS_BATCH];
    leat_topic *t = leat_queue_topic(cuts.q[queue]);
    bool repeat = cuts_record(&r[0]) == CUTS_OFFSETS;
    for (int i = 1; i < CUTS_BATCH; i++)
        r[i] = r[0];
    if (!cuts_is("send_many", leat_send_many(cuts.log, t, r, CUTS_BATCH, md), 0))
        return;
    for (int i = 0; i < CUTS_BATCH && !repeat; i++)
        cuts_sent(t, CUTS_OFFSETS, &md[i], false);
}

// ---- receiving and settling

static void cuts_receive(int queue) {
    leat_message m[CUTS_TAKE];
    int64_t wait_ms = cuts_one_in(4) ? cuts_draw(30) : 0;
    int n = leat_queue_receive(cuts.q[queue], wait_ms, m, 1 + cuts_draw(CUTS_TAKE));
    if (n < 0)
        (void)cuts_is("receive", n, 0);
    for (int i = 0; i < n; i++) {
        cuts_received(queue, &m[i]);
        if (cuts.helds < CUTS_HELD)
            cuts.held[cuts.helds++] = (struct cuts_held){ .m = m[i], .queue = queue };
        else
            (void)leat_message_release(cuts.mq, &m[i]);
    }
}

static void cuts_settle(void) {
    if (cuts.helds == 0)
        return;
    uint32_t at = cuts_draw((uint32_t)cuts.helds), how = cuts_draw(7);
    struct cuts_held h = cuts.held[at];
    leat_queue *q = cuts.q[h.queue];
    cuts.held[at] = cuts.held[--cuts.helds];
    int rc = 0;
    if (how < 2)
        rc = leat_queue_ack(q, &h.m);
    else if (how < 4)
        rc = leat_queue_nack(q, &h.m, cuts_one_in(2) ? 0 : cuts_draw(100),
                             cuts_one_in(5) ? LEAT_UNCOUNTED : 0);
    else if (how == 4)
        rc = leat_queue_reject(q, &h.m, cuts_one_in(2) ? "why" : NULL);
    else if (how == 5)
        rc = leat_queue_extend(q, &h.m, cuts_draw(200));
    if (how >= 5)
        (void)leat_message_release(cuts.mq, &h.m);
    if (rc != LEAT_ESTALE && cuts_is("settling", rc, 0) && how < 4)
        cuts_settled(h.queue, &h.m, how < 2);
}

// ---- from outside

static void cuts_redrive(void) {
    int from = cuts_one_in(2) ? CUTS_KEPT : CUTS_DEAD, to = (int)cuts_draw(CUTS_QUEUES);
    int rc =
        leat_queue_redrive(cuts.q[from], cuts_one_in(3) ? cuts.q[to] : NULL, cuts_draw(3), NULL);
    if (rc != LEAT_EINVAL) // it cannot go there
        (void)cuts_is("redrive", rc, 0);
    cuts_ended(from);
}

static void cuts_purge(int queue) {
    leat_queue_stats s;
    if (!cuts_is("purge", leat_queue_purge(cuts.q[queue], NULL), 0) ||
        !cuts_is("stats", leat_queue_get_stats(cuts.q[queue], &s, sizeof s), 0))
        return;
    if (s.available + s.delayed + s.leased + s.moving + s.kept != 0)
        cuts_complain("%s: it was purged, and has %lld", cuts_name[queue],
                      (long long)(s.available + s.delayed + s.leased + s.moving + s.kept));
    cuts_ended(queue);
}

static void cuts_delete_records(void) {
    leat_range r;
    int32_t partition = (int32_t)cuts_draw(2);
    if (leat_topic_range(cuts.t, partition, &r) != 0)
        return; // it has one
    int64_t before = r.begin + cuts_draw((uint32_t)(r.end - r.begin) + 1);
    (void)cuts_is("delete_records", leat_topic_delete_records(cuts.t, partition, before), 0);
    cuts_trimmed(cuts.t);
}

static void cuts_alter(int queue) {
    leat_queue_options o = { .flags = LEAT_ALTER };
    leat_queue *q;
    switch (cuts_draw(5)) {
    case 0:
        o.deliveries_max = cuts_one_in(3) ? LEAT_UNLIMITED : 1 + (int32_t)cuts_draw(4);
        break;
    case 1:
        o.retention_ms = cuts_one_in(2) ? LEAT_FOREVER : 100 + (int64_t)cuts_draw(3000);
        cuts.owes[queue] = false; // a cut may bring back what it was
        cuts_ended(queue);
        break;
    case 2:
        o.delay_ms = cuts_one_in(2) ? LEAT_ZERO : 1 + (int64_t)cuts_draw(200);
        break;
    case 3:
        o.dead_letter = queue == CUTS_DEAD ? NULL : "dead";
        break;
    default:
        o.backoff_count = cuts_one_in(2) ? LEAT_ZERO : 3;
        o.backoff_ms = o.backoff_count == 3 ? cuts_backoff : NULL;
    }
    if (cuts_is("alter", leat_queue_open(cuts.mq, cuts_name[queue], &o, &q), 0))
        (void)cuts_is("close", leat_queue_close(q), 0);
}

static int cuts_write(const void *data, size_t size, void *ctx) {
    (void)data;
    (void)size;
    (void)ctx;
    return 0;
}

static void cuts_explain(int queue) {
    leat_range r;
    if (!cuts_is("range", leat_topic_range(leat_queue_topic(cuts.q[queue]), 0, &r), 0))
        return;
    int64_t offset = cuts_draw((uint32_t)r.end + 1);
    (void)cuts_is("explain", leat_queue_explain(cuts.q[queue], 0, offset, cuts_write, NULL), 0);
}

static void cuts_cut_all(void) {
    (void)leat_run_due(cuts.mq);
    cuts_check();
    if (!cuts.failed && cuts_cut() && cuts_open_queues())
        cuts_check();
}

// ---- one thing

static void cuts_work_outside(uint32_t what, int queue) {
    if (what == 0)
        cuts_redrive();
    else if (what == 1 && cuts_one_in(3))
        cuts_purge(queue);
    else if (what == 2 && cuts_one_in(3))
        cuts_delete_records();
    else if (what == 3)
        cuts_alter(queue);
    else if (what == 4)
        (void)cuts_is("pause", leat_queue_pause(cuts.q[queue], cuts_one_in(3)), 0);
    else if (what == 5)
        cuts_explain(queue);
    else if (what == 6)
        cuts_check();
    else if (what == 7 && cuts_one_in(8)) // it may have more
        (void)leat_topic_grow(leat_queue_topic(cuts.q[queue]), 1 + (int32_t)cuts_draw(CUTS_PARTS));
    else if (what == 8)
        cuts_cut_all();
}

void cuts_work(void) {
    int queue = (int)cuts_draw(CUTS_QUEUES);
    uint32_t what = cuts_draw(100);
    if (what < 30)
        cuts_send(queue);
    else if (what < 33)
        cuts_send_many(queue);
    else if (what < 56)
        cuts_receive(queue);
    else if (what < 86)
        cuts_settle();
    else if (what < 90)
        (void)cuts_is("advance", leat_clock_advance(cuts.mq, cuts_draw(cuts_one_in(8) ? 1500 : 60)),
                      0);
    else
        cuts_work_outside(what - 90, queue);
}
