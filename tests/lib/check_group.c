/* SPDX-License-Identifier: MIT */
// Who owned what: from tickets one knows when a member surely had a partition (from the return of
// the call in which it came to the begin of the one in which it went, its polls left out) and when
// it may have had it (the other two). Two that surely had it at once are wrong, and so is one that
// committed when it cannot have had it.
#include "lib/check_order.h"

#include <stdlib.h>

static bool same_part(event a, event b) {
    return a->group == b->group && a->partition == b->partition;
}

// ---- owners

struct owned {
    int group, member;
    int32_t partition;
    uint64_t may_from, from, to, may_to;
};

struct owners {
    struct owned *list;
    size_t count;
};

static int owned_by_member(const void *a, const void *b) {
    const struct owned *x = a, *y = b;
    int c = compare_signed(x->member, y->member);
    c = c ? c : compare_signed(x->partition, y->partition);
    return c ? c : compare(x->may_from, y->may_from);
}

static int owned_by_part(const void *a, const void *b) {
    const struct owned *x = a, *y = b;
    int c = compare_signed(x->group, y->group);
    c = c ? c : compare_signed(x->partition, y->partition);
    return c ? c : compare(x->from, y->from);
}

static event first_crash_after(event *crash, size_t n, uint64_t ticket) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (crash[mid]->invoked <= ticket)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n ? crash[lo] : NULL;
}

static struct owners owners_of(struct history *h, int (*sorted)(const void *, const void *)) {
    size_t n, crashes;
    event *list = history_select(h, HISTORY_OWN | HISTORY_LOST, by_member, &n);
    event *crash = history_select(h, HISTORY_CRASH, by_time, &crashes);
    struct owners o = { calloc(n + 1, sizeof *o.list), 0 };
    if (!o.list)
        abort();
    for (size_t i = 0; i < n; i++) {
        event e = list[i], next = i + 1 < n ? list[i + 1] : NULL;
        if (e->op != HISTORY_OWN)
            continue;
        bool ends = next && next->member == e->member && next->partition == e->partition &&
                    next->op == HISTORY_LOST;
        event crashed = first_crash_after(crash, crashes, e->invoked);
        uint64_t to = ends ? next->invoked : UINT64_MAX, may_to = ends ? next->returned : to;
        if (crashed && crashed->invoked < to)
            to = crashed->invoked;
        if (crashed && crashed->returned < may_to)
            may_to = crashed->returned;
        o.list[o.count++] = (struct owned){
            .group = e->group,
            .member = e->member,
            .partition = e->partition,
            .may_from = e->invoked,
            .from = e->returned,
            .to = to,
            .may_to = may_to,
        };
    }
    qsort(o.list, o.count, sizeof *o.list, sorted);
    free(crash);
    free(list);
    return o;
}

static int by_polls(const void *a, const void *b) { // member, ticket
    int c = compare_signed(of(a)->member, of(b)->member);
    return c ? c : compare(of(a)->invoked, of(b)->invoked);
}

// The first poll of the member that began after the ticket.
static size_t poll_after(event *poll, size_t n, int member, uint64_t ticket) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (poll[mid]->member < member ||
            (poll[mid]->member == member && poll[mid]->invoked <= ticket))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

// Cuts what was surely owned into pieces: between two polls of the member.
static struct owners between_polls(struct history *h) {
    size_t n, room;
    event *poll = history_select(h, HISTORY_POLL, by_polls, &n);
    struct owners o = owners_of(h, owned_by_part), out = { NULL, 0 };
    room = o.count;
    out.list = calloc(room + 1, sizeof *out.list);
    for (size_t i = 0; i < o.count; i++) {
        struct owned x = o.list[i];
        for (size_t k = poll_after(poll, n, x.member, x.from); out.list; k++) {
            bool cut = k < n && poll[k]->member == x.member && poll[k]->invoked < x.to;
            if (out.count == room)
                out.list = realloc(out.list, (room = 2 * room + 16) * sizeof *out.list);
            if (!out.list)
                break;
            out.list[out.count] = x;
            if (cut)
                out.list[out.count].to = poll[k]->invoked;
            out.count++;
            if (!cut)
                break;
            x.from = poll[k]->returned;
        }
    }
    if (!out.list)
        abort();
    qsort(out.list, out.count, sizeof *out.list, owned_by_part);
    free(o.list);
    free(poll);
    return out;
}

const char *check_g1_one_owner(struct history *h) {
    struct owners o = between_polls(h);
    const char *bad = NULL;
    const struct owned *longest = NULL; // of those so far, who surely had it last
    for (size_t i = 0; i < o.count && !bad; i++) {
        const struct owned *x = &o.list[i];
        if (longest && (longest->group != x->group || longest->partition != x->partition))
            longest = NULL;
        if (x->from >= x->to)
            continue; // not surely at any time
        if (longest && longest->to > x->from && longest->member != x->member)
            bad = check_say("group %d, partition %d: members %d and %d both had it at ticket %llu",
                            x->group, x->partition, longest->member, x->member,
                            (unsigned long long)x->from);
        if (!longest || x->to > longest->to)
            longest = x;
    }
    free(o.list);
    return bad;
}

// Tells whether the member may have had the partition at some moment of the call.
static bool may_have_had(const struct owners *o, event e) {
    size_t lo = 0, hi = o->count; // the first that came too late
    struct owned key = { .member = e->member, .partition = e->partition, .may_from = e->returned };
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (owned_by_member(&o->list[mid], &key) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    const struct owned *last = lo > 0 ? &o->list[lo - 1] : NULL;
    return last && last->member == e->member && last->partition == e->partition &&
           last->may_to >= e->invoked;
}

const char *check_g3_stale_commits_fail(struct history *h) {
    size_t n;
    event *list = history_select(h, HISTORY_COMMIT, by_time, &n);
    struct owners o = owners_of(h, owned_by_member);
    const char *bad = NULL;
    for (size_t i = 0; i < n && !bad; i++)
        if (list[i]->outcome == HISTORY_OK && !may_have_had(&o, list[i]))
            bad = check_say("group %d: member %d committed %d/%lld at tickets %llu-%llu, which it "
                            "did not own",
                            list[i]->group, list[i]->member, list[i]->partition,
                            (long long)list[i]->offset, (unsigned long long)list[i]->invoked,
                            (unsigned long long)list[i]->returned);
    free(o.list);
    free(list);
    return bad;
}

// ---- committed offsets

const char *check_g2_commits_grow(struct history *h) {
    size_t n, k = 0;
    event *list = history_select(h, HISTORY_COMMIT | HISTORY_COMMITTED | HISTORY_SEEK, by_time, &n);
    struct check_bound *b = calloc(n + 1, sizeof *b);
    if (!b)
        abort();
    for (size_t i = 0; i < n; i++) {
        event e = list[i];
        if (e->outcome != HISTORY_OK)
            continue;
        bool seek = e->op == HISTORY_SEEK;
        b[k++] = (struct check_bound){ .group = e->group,
                                       .partition = e->partition,
                                       .must = seek ? INT64_MAX : e->offset,
                                       .soft = seek ? INT64_MIN : e->offset,
                                       .hard = INT64_MIN,
                                       .reset = seek,
                                       .e = e };
    }
    const struct check_bound *before, *bad = check_bounds(h, b, k, false, &before);
    const char *text = NULL;
    if (bad)
        text = check_say("group %d, partition %d: committed %lld at tickets %llu-%llu, after %lld",
                         bad->group, bad->partition, (long long)bad->must,
                         (unsigned long long)bad->e->invoked, (unsigned long long)bad->e->returned,
                         (long long)before->soft);
    free(b);
    free(list);
    return text;
}

// ---- delivered

// A member that has just got a partition begins at what was committed, or before it.
static const char *begins_beyond(struct history *h) {
    size_t n;
    event *list = history_select(h, HISTORY_READ | HISTORY_OWN | HISTORY_SEEK, by_member, &n);
    struct check_highs committed = check_highs_of(h, HISTORY_COMMIT);
    struct check_highs deleted = check_highs_of(h, HISTORY_DELETE);
    const char *bad = NULL;
    for (size_t i = 1; i < n && !bad && !h->retention; i++) {
        event own = list[i - 1], e = list[i];
        if (own->op != HISTORY_OWN || e->op != HISTORY_READ || own->member != e->member ||
            own->partition != e->partition || history_cut_between(h, 0, e->invoked))
            continue;
        if (e->offset > check_highs_at(&committed, e->group, e->partition, e->returned) &&
            e->offset > check_highs_at(&deleted, 0, e->partition, e->returned))
            bad = check_say("group %d: member %d begins partition %d at %lld, which nobody has "
                            "committed",
                            e->group, e->member, e->partition, (long long)e->offset);
    }
    check_highs_free(&deleted);
    check_highs_free(&committed);
    free(list);
    return bad;
}

static int by_offset(const void *a, const void *b) { // group, partition, offset
    int c = compare_signed(of(a)->group, of(b)->group);
    c = c ? c : compare_signed(of(a)->partition, of(b)->partition);
    return c ? c : compare_signed(of(a)->offset, of(b)->offset);
}

// Records of a send list that no member of the group was given, though the group is beyond them.
static const char *left_out(struct history *h, int group, event *send, size_t sends) {
    size_t n;
    event *read = history_select(h, HISTORY_READ, by_offset, &n);
    struct check_highs committed = check_highs_of(h, HISTORY_COMMIT);
    struct check_highs deleted = check_highs_of(h, HISTORY_DELETE);
    const char *bad = NULL;
    for (size_t i = 0; i < sends && !bad; i++) {
        event e = send[i];
        bool kept = e->acks == LEAT_ACKS_DISK || !history_cut_between(h, e->returned, UINT64_MAX);
        struct history_event want = { .group = group,
                                      .partition = e->partition,
                                      .offset = e->offset };
        event key = &want;
        if (e->outcome == HISTORY_OK && kept && !h->retention &&
            check_highs_at(&committed, group, e->partition, UINT64_MAX) > e->offset &&
            check_highs_at(&deleted, 0, e->partition, UINT64_MAX) <= e->offset &&
            !bsearch(&key, read, n, sizeof *read, by_offset))
            bad = check_say("group %d is beyond %d/%lld, which was never delivered to it", group,
                            e->partition, (long long)e->offset);
    }
    check_highs_free(&deleted);
    check_highs_free(&committed);
    free(read);
    return bad;
}

const char *check_g4_at_least_once(struct history *h) {
    size_t n, sends, seeks;
    const char *bad = begins_beyond(h);
    event *commit = history_select(h, HISTORY_COMMIT, by_time, &n);
    event *send = history_select(h, HISTORY_SEND, by_time, &sends);
    event *seek = history_select(h, HISTORY_SEEK, by_time, &seeks);
    for (size_t i = 0; i < n && !bad && seeks == 0; i++) // who seeks may leave out what he likes
        if (i == 0 || commit[i]->group != commit[i - 1]->group)
            bad = left_out(h, commit[i]->group, send, sends);
    free(seek);
    free(send);
    free(commit);
    return bad;
}

const char *check_g5_committed_was_delivered(struct history *h) {
    size_t n;
    event *list = history_select(h, HISTORY_READ | HISTORY_SEEK | HISTORY_COMMIT, by_member, &n);
    struct check_highs committed = check_highs_of(h, HISTORY_COMMIT);
    struct check_highs deleted = check_highs_of(h, HISTORY_DELETE);
    const char *bad = NULL;
    int64_t given = 0; // the member may commit up to here
    for (size_t i = 0; i < n && !bad; i++) {
        event e = list[i];
        if (i == 0 || e->member != list[i - 1]->member || !same_part(e, list[i - 1]))
            given = 0;
        int64_t upto = e->op == HISTORY_READ ? e->offset + 1 : e->offset;
        if (e->op != HISTORY_COMMIT)
            given = upto > given ? upto : given;
        else if (e->outcome == HISTORY_OK && upto > given && !h->retention &&
                 upto > check_highs_at(&committed, e->group, e->partition, e->invoked) &&
                 upto > check_highs_at(&deleted, 0, e->partition, e->invoked))
            bad = check_say("group %d: member %d committed %d/%lld, it was given %lld", e->group,
                            e->member, e->partition, (long long)upto, (long long)given);
    }
    check_highs_free(&deleted);
    check_highs_free(&committed);
    free(list);
    return bad;
}

const struct check check_group[] = {
    { "G1", check_g1_one_owner },
    { "G2", check_g2_commits_grow },
    { "G3", check_g3_stale_commits_fail },
    { "G4", check_g4_at_least_once },
    { "G5", check_g5_committed_was_delivered },
};
const size_t check_group_count = sizeof check_group / sizeof *check_group;
