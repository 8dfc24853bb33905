/* SPDX-License-Identifier: MIT */
// Each check sorts the events that it needs and walks them side by side.
#include "lib/check_order.h"

#include <stdio.h>
#include <stdlib.h>

static int by_place(const void *a, const void *b) { // partition, offset, ticket
    int c = compare_signed(of(a)->partition, of(b)->partition);
    c = c ? c : compare_signed(of(a)->offset, of(b)->offset);
    return c ? c : compare(of(a)->invoked, of(b)->invoked);
}

static int by_value(const void *a, const void *b) { // value, the send first, ticket
    int c = compare(of(a)->value, of(b)->value);
    c = c ? c : compare(of(a)->op, of(b)->op);
    return c ? c : compare(of(a)->invoked, of(b)->invoked);
}

static int by_thread(const void *a, const void *b) { // thread, partition, ticket
    int c = compare_signed(of(a)->thread, of(b)->thread);
    c = c ? c : compare_signed(of(a)->partition, of(b)->partition);
    return c ? c : compare(of(a)->invoked, of(b)->invoked);
}

static int by_scan(const void *a, const void *b) { // scan, partition, ranges first, offset
    int c = compare_signed(of(a)->scan, of(b)->scan);
    c = c ? c : compare_signed(of(a)->partition, of(b)->partition);
    c = c ? c : compare_signed(of(b)->op == HISTORY_RANGE, of(a)->op == HISTORY_RANGE);
    return c ? c : compare_signed(of(a)->offset, of(b)->offset);
}

static int by_ticket(const void *a, const void *b) {
    return compare(of(a)->invoked, of(b)->invoked);
}

static const char *where(event e) {
    static _Thread_local char text[2][96];
    static _Thread_local int turn;
    turn = !turn;
    (void)snprintf(text[turn], sizeof text[turn], "value %llu at %d/%lld (tickets %llu-%llu)",
                   (unsigned long long)e->value, e->partition, (long long)e->offset,
                   (unsigned long long)e->invoked, (unsigned long long)e->returned);
    return text[turn];
}

// ---- S1, S10: what must be there

// What a look at the whole log found: the sorted events of all looks, and their ranges.
struct looks {
    event *scan, *range;
    size_t scans, ranges;
};

static struct looks looks_of(struct history *h) {
    struct looks l;
    l.scan = history_select(h, HISTORY_SCAN, by_scan, &l.scans);
    l.range = history_select(h, HISTORY_RANGE, by_ticket, &l.ranges);
    size_t k = 0;
    for (size_t i = 0; i < l.ranges; i++)
        if (l.range[i]->scan != 0)
            l.range[k++] = l.range[i];
    l.ranges = k;
    return l;
}

static void looks_free(struct looks *l) {
    free(l->scan);
    free(l->range);
}

static event looks_find(const struct looks *l, int scan, int32_t partition, int64_t offset) {
    struct history_event key = {
        .op = HISTORY_SCAN, .scan = scan, .partition = partition, .offset = offset
    };
    event k = &key;
    event *at = bsearch(&k, l->scan, l->scans, sizeof *l->scan, by_scan);
    return at ? *at : NULL;
}

// Looks for e in every look at the log that came after it, unless its level did not survive.
static const char *must_be_there(struct history *h, const struct looks *l, event e, bool durable) {
    for (size_t i = 0; i < l->ranges; i++) {
        event r = l->range[i];
        if (r->partition != e->partition || r->invoked < e->returned || e->offset < r->begin ||
            (!durable && history_cut_between(h, e->returned, r->invoked)))
            continue;
        event found = looks_find(l, r->scan, e->partition, e->offset);
        if (!found)
            return check_say("%s is not there in look %d", where(e), r->scan);
        if (found->value != e->value)
            return check_say("%s: look %d has value %llu there", where(e), r->scan,
                             (unsigned long long)found->value);
    }
    return NULL;
}

static const char *all_there(struct history *h, unsigned op) {
    size_t n;
    event *list = history_select(h, op, by_ticket, &n);
    struct looks l = looks_of(h);
    const char *bad = NULL;
    for (size_t i = 0; i < n && !bad; i++) {
        event e = list[i];
        if (e->outcome != HISTORY_OK || (op == HISTORY_READ && !e->durable))
            continue;
        bad = must_be_there(h, &l, e, op == HISTORY_READ || e->acks == LEAT_ACKS_DISK);
    }
    looks_free(&l);
    free(list);
    return bad;
}

const char *check_s1_no_acked_record_is_lost(struct history *h) {
    return all_there(h, HISTORY_SEND);
}

const char *check_s10_durable_reads_stay(struct history *h) {
    return all_there(h, HISTORY_READ);
}

// ---- S2, S4, S11: by value

static const char *phantom(event send, event read) {
    if (!send)
        return check_say("%s was never sent", where(read));
    if (send->outcome == HISTORY_FAILED)
        return check_say("%s was read, its send had failed", where(read));
    if (read->returned < send->invoked)
        return check_say("%s was read before it was sent", where(read));
    return NULL;
}

static const char *changed(event send, event read) {
    if (send && send->outcome == HISTORY_OK && send->key != read->key)
        return check_say("%s has another key than was sent", where(read));
    if (send && send->outcome == HISTORY_OK && send->hash != read->hash)
        return check_say("%s does not have the bytes that were sent", where(read));
    return NULL;
}

// Compares each record read with its send.
static const char *each_read(struct history *h, const char *(*check)(event send, event read)) {
    size_t n;
    event *list = history_select(h, HISTORY_SEND | HISTORY_READ | HISTORY_SCAN, by_value, &n);
    const char *bad = NULL;
    event send = NULL;
    for (size_t i = 0; i < n && !bad; i++) {
        if (send && send->value != list[i]->value)
            send = NULL;
        if (list[i]->op == HISTORY_SEND)
            send = list[i];
        else
            bad = check(send, list[i]);
    }
    free(list);
    return bad;
}

// A value at two places. unknown: only where it is not known whether it was stored.
static const char *twice(struct history *h, bool unknown) {
    size_t n;
    event *list = history_select(h, HISTORY_SEND | HISTORY_READ | HISTORY_SCAN, by_value, &n);
    const char *bad = NULL;
    event at = NULL, send = NULL;
    for (size_t i = 0; i < n && !bad; i++) {
        event e = list[i];
        if (i == 0 || e->value != list[i - 1]->value)
            at = send = NULL;
        if (e->op == HISTORY_SEND)
            send = e;
        if (e->offset < 0 || (e->op == HISTORY_SEND && e->outcome == HISTORY_FAILED))
            continue;
        bool counts = !unknown || (send && send->outcome == HISTORY_UNKNOWN);
        if (counts && at && (at->partition != e->partition || at->offset != e->offset))
            bad = check_say("%s and %s", where(at), where(e));
        at = e;
    }
    free(list);
    return bad;
}

const char *check_s2_no_phantom(struct history *h) {
    const char *bad = each_read(h, phantom);
    return bad ? bad : twice(h, true);
}

const char *check_s4_no_duplicate(struct history *h) {
    return twice(h, false);
}

const char *check_s11_bytes_are_identical(struct history *h) {
    return each_read(h, changed);
}

// ---- S3, S5: by place

// Tells whether what e saw at its place is there for ever.
static bool stays(event e) {
    return e->op == HISTORY_READ ? e->durable : e->op == HISTORY_SEND && e->acks == LEAT_ACKS_DISK;
}

const char *check_s3_one_offset_one_value(struct history *h) {
    size_t n;
    event *list = history_select(h, HISTORY_SEND | HISTORY_READ | HISTORY_SCAN, by_place, &n);
    const char *bad = NULL;
    event before = NULL;
    bool kept = false; // the value there is there for ever
    for (size_t i = 0; i < n && !bad; i++) {
        event e = list[i];
        if (e->offset < 0 || (e->op == HISTORY_SEND && e->outcome != HISTORY_OK))
            continue;
        bool same = before && before->partition == e->partition && before->offset == e->offset;
        if (same && before->value != e->value &&
            (kept || !history_cut_between(h, before->invoked, e->returned)))
            bad = check_say("%s, then %s", where(before), where(e));
        kept = stays(e) || (same && before->value == e->value && kept);
        before = e;
    }
    free(list);
    return bad;
}

const char *check_s5_offsets_are_dense(struct history *h) {
    size_t n;
    event *list = history_select(h, HISTORY_SCAN | HISTORY_RANGE, by_scan, &n);
    const char *bad = NULL;
    event range = NULL;
    int64_t next = 0;
    for (size_t i = 0; i <= n && !bad; i++) {
        event e = i < n ? list[i] : NULL;
        bool ends = !e || e->op == HISTORY_RANGE;
        bool gaps = range && history_cut_between(h, 0, range->invoked);
        if (ends && range && next != range->end && !gaps)
            bad = check_say("look %d: partition %d ends at %lld, records at %lld", range->scan,
                            range->partition, (long long)range->end, (long long)next);
        if (ends) {
            range = e && e->scan != 0 ? e : NULL;
            next = range ? range->begin : 0;
        } else if (!range || e->scan != range->scan || e->partition != range->partition) {
            bad = check_say("look %d has no range of partition %d", e->scan, e->partition);
        } else {
            if (e->offset < next || e->offset >= range->end || (e->offset > next && !gaps))
                bad = check_say("look %d: %s where offset %lld is next", e->scan, where(e),
                                (long long)next);
            next = e->offset + 1;
        }
    }
    free(list);
    return bad;
}

// ---- S6, S8: by who did it

const char *check_s6_order_of_a_producer(struct history *h) {
    size_t n;
    event *list = history_select(h, HISTORY_SEND, by_thread, &n);
    const char *bad = NULL;
    event high = NULL; // the highest offset of this thread in this partition
    for (size_t i = 0; i < n && !bad; i++) {
        event e = list[i];
        if (high && (high->thread != e->thread || high->partition != e->partition))
            high = NULL;
        if (e->offset < 0 || e->outcome == HISTORY_FAILED)
            continue;
        bool lost = high && (high->acks != LEAT_ACKS_DISK || high->outcome != HISTORY_OK) &&
                    history_cut_between(h, high->invoked, e->invoked);
        if (high && !lost && e->offset <= high->offset)
            bad = check_say("thread %d: %s, then %s", e->thread, where(high), where(e));
        high = !high || lost || e->offset > high->offset ? e : high;
    }
    free(list);
    return bad;
}

const char *check_s8_polls_are_contiguous(struct history *h) {
    size_t n;
    event *list =
        history_select(h, HISTORY_READ | HISTORY_OWN | HISTORY_LOST | HISTORY_SEEK, by_member, &n);
    struct check_highs deleted = check_highs_of(h, HISTORY_DELETE);
    const char *bad = NULL;
    int64_t next = -1; // -1: anything
    for (size_t i = 0; i < n && !bad; i++) {
        event e = list[i];
        if (i == 0 || e->member != list[i - 1]->member || e->partition != list[i - 1]->partition ||
            e->op == HISTORY_OWN || e->op == HISTORY_LOST)
            next = -1;
        if (e->op == HISTORY_SEEK)
            next = e->offset;
        if (e->op != HISTORY_READ)
            continue;
        if (next >= 0 && e->offset < next)
            bad = check_say("member %d goes back: %s where offset %lld is next", e->member,
                            where(e), (long long)next);
        else if (next >= 0 && e->offset > next && !h->retention &&
                 !history_cut_between(h, 0, e->invoked) &&
                 e->offset > check_highs_at(&deleted, 0, e->partition, e->returned))
            bad = check_say("member %d skips: %s where offset %lld is next", e->member, where(e),
                            (long long)next);
        next = e->offset + 1;
    }
    check_highs_free(&deleted);
    free(list);
    return bad;
}

// ---- S7

static int by_batch(const void *a, const void *b) { // partition, batch, ticket
    int c = compare_signed(of(a)->partition, of(b)->partition);
    c = c ? c : compare(of(a)->batch, of(b)->batch);
    return c ? c : compare(of(a)->invoked, of(b)->invoked);
}

static int by_look(const void *a, const void *b) { // scan, value
    int c = compare_signed(of(a)->scan, of(b)->scan);
    return c ? c : compare(of(a)->value, of(b)->value);
}

// Tells whether n records of one batch are there all or none in one look at their partition. The
// first ones may be missing where the log begins behind them.
static const char *whole_in(event *send, size_t n, event range, event *scan, size_t scans) {
    event missing = NULL, found = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct history_event want = { .scan = range->scan, .value = send[i]->value };
        event key = &want;
        event *at = bsearch(&key, scan, scans, sizeof *scan, by_look);
        if (at)
            found = *at;
        else if (found || send[i]->offset < 0 || send[i]->offset >= range->begin)
            missing = send[i];
    }
    if (!missing || !found || (missing->offset < 0 && found->offset == range->begin))
        return NULL;
    return check_say("look %d has %s, and not value %llu of the same batch", range->scan,
                     where(found), (unsigned long long)missing->value);
}

const char *check_s7_batches_are_whole(struct history *h) {
    size_t n, scans;
    event *send = history_select(h, HISTORY_SEND, by_batch, &n);
    event *scan = history_select(h, HISTORY_SCAN, by_look, &scans);
    struct looks l = looks_of(h);
    const char *bad = NULL;
    for (size_t i = 0, k; i < n && !bad; i = k) {
        k = i + 1;
        while (k < n && send[i]->batch != 0 && send[k]->batch == send[i]->batch &&
               send[k]->partition == send[i]->partition)
            k++;
        for (size_t j = 0; j < l.ranges && k > i + 1 && !bad; j++)
            if (l.range[j]->partition == send[i]->partition &&
                l.range[j]->invoked > send[k - 1]->invoked)
                bad = whole_in(&send[i], k - i, l.range[j], scan, scans);
    }
    looks_free(&l);
    free(scan);
    free(send);
    return bad;
}

// ---- S9, S12, S14: real time

static struct check_bound *room_for(size_t n) {
    struct check_bound *b = calloc(n + 1, sizeof *b);
    if (!b)
        abort();
    return b;
}

static const char *bounds_hold(struct history *h, struct check_bound *b, size_t n, bool strict,
                               const char *what) {
    const struct check_bound *before, *bad = check_bounds(h, b, n, strict, &before);
    if (!bad)
        return NULL;
    return check_say("partition %d: %s %lld at tickets %llu-%llu, after %lld at %llu-%llu",
                     bad->partition, what, (long long)bad->must,
                     (unsigned long long)bad->e->invoked, (unsigned long long)bad->e->returned,
                     (long long)(before->soft > before->hard ? before->soft : before->hard),
                     (unsigned long long)before->e->invoked,
                     (unsigned long long)before->e->returned);
}

const char *check_s9_real_time(struct history *h) {
    size_t n, k = 0;
    event *list = history_select(h, HISTORY_SEND, by_ticket, &n);
    struct check_bound *b = room_for(n);
    for (size_t i = 0; i < n; i++) {
        event e = list[i];
        if (e->offset < 0 || e->outcome == HISTORY_FAILED)
            continue;
        bool acked = e->outcome == HISTORY_OK;
        b[k++] = (struct check_bound){
            .partition = e->partition,
            .must = e->offset,
            .soft = acked ? e->offset : INT64_MIN,
            .hard = acked && e->acks == LEAT_ACKS_DISK ? e->offset : INT64_MIN,
            .e = e,
        };
    }
    const char *bad = bounds_hold(h, b, k, true, "offset");
    free(b);
    free(list);
    return bad;
}

const char *check_s12_log_start(struct history *h) {
    size_t n;
    event *list = history_select(h, HISTORY_RANGE, by_ticket, &n);
    struct check_highs deleted = check_highs_of(h, HISTORY_DELETE);
    struct check_bound *b = room_for(n);
    const char *bad = NULL;
    for (size_t i = 0; i < n; i++) {
        event e = list[i];
        b[i] = (struct check_bound){
            .partition = e->partition, .must = e->begin, .soft = e->begin, .hard = e->begin, .e = e
        };
        if (!bad && !h->retention &&
            e->begin > check_highs_at(&deleted, 0, e->partition, e->returned))
            bad = check_say("partition %d begins at %lld: nobody deleted that far", e->partition,
                            (long long)e->begin);
    }
    bad = bad ? bad : bounds_hold(h, b, n, false, "begin");
    free(b);
    check_highs_free(&deleted);
    free(list);
    return bad;
}

const char *check_s14_end(struct history *h) {
    size_t n;
    event *list = history_select(h, HISTORY_RANGE | HISTORY_SEND, by_ticket, &n);
    struct check_bound *b = room_for(n);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        event e = list[i];
        bool range = e->op == HISTORY_RANGE;
        if (!range && (e->outcome != HISTORY_OK || e->offset < 0))
            continue;
        b[k++] = (struct check_bound){
            .partition = e->partition,
            .must = range ? e->end : INT64_MAX,
            .soft = range ? e->end : e->offset + 1,
            .hard = range                       ? e->durable_end
                    : e->acks == LEAT_ACKS_DISK ? e->offset + 1
                                                : INT64_MIN,
            .e = e,
        };
    }
    const char *bad = bounds_hold(h, b, k, false, "end");
    free(b);
    free(list);
    return bad;
}

// ---- S13

// The first of the n records of one partition, in order of offset, whose timestamp is ts or later,
// by the highest timestamp up to each.
static size_t first_at(const int64_t *highest, size_t n, int64_t ts) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (highest[mid] < ts)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

// The events of one look at one partition: its range, then its records.
struct one_look {
    event *list;
    size_t count;
};

static struct one_look one_look_at(event *list, size_t n) {
    size_t k = 0;
    while (k < n && list[k]->scan == list[0]->scan && list[k]->partition == list[0]->partition)
        k++;
    return (struct one_look){ list, k };
}

static const char *told_as_is(const struct one_look *l, const int64_t *highest, event lookup) {
    size_t at = first_at(highest, l->count, lookup->timestamp_ms);
    int64_t is = at < l->count ? l->list[at]->offset : l->list[0]->end;
    if (is == lookup->offset)
        return NULL;
    return check_say("look %d, partition %d at time %lld: told %lld, it is %lld", lookup->scan,
                     lookup->partition, (long long)lookup->timestamp_ms, (long long)lookup->offset,
                     (long long)is);
}

const char *check_s13_time_lookup(struct history *h) {
    size_t n, lookups;
    event *list = history_select(h, HISTORY_SCAN | HISTORY_RANGE, by_scan, &n);
    event *lookup = history_select(h, HISTORY_LOOKUP, by_scan, &lookups);
    int64_t *highest = malloc((n + 1) * sizeof *highest);
    if (!highest)
        abort();
    const char *bad = NULL;
    for (size_t i = 0, j = 0; i < n && !bad;) {
        struct one_look l = one_look_at(list + i, n - i);
        for (size_t k = 0; k < l.count; k++) {
            int64_t ts = l.list[k]->op == HISTORY_RANGE ? INT64_MIN : l.list[k]->timestamp_ms;
            highest[k] = k > 0 && highest[k - 1] > ts ? highest[k - 1] : ts;
        }
        for (; j < lookups && !bad; j++) {
            int c = compare_signed(lookup[j]->scan, list[i]->scan);
            c = c ? c : compare_signed(lookup[j]->partition, list[i]->partition);
            if (c > 0)
                break;
            bad = c == 0 ? told_as_is(&l, highest, lookup[j]) : NULL;
        }
        i += l.count;
    }
    free(highest);
    free(lookup);
    free(list);
    return bad;
}

// ---- all

const struct check check_stream[] = {
    { "S1", check_s1_no_acked_record_is_lost },
    { "S2", check_s2_no_phantom },
    { "S3", check_s3_one_offset_one_value },
    { "S4", check_s4_no_duplicate },
    { "S5", check_s5_offsets_are_dense },
    { "S6", check_s6_order_of_a_producer },
    { "S7", check_s7_batches_are_whole },
    { "S8", check_s8_polls_are_contiguous },
    { "S9", check_s9_real_time },
    { "S10", check_s10_durable_reads_stay },
    { "S11", check_s11_bytes_are_identical },
    { "S12", check_s12_log_start },
    { "S13", check_s13_time_lookup },
    { "S14", check_s14_end },
};
const size_t check_stream_count = sizeof check_stream / sizeof *check_stream;
