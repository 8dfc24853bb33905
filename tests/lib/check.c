/* SPDX-License-Identifier: MIT */
// What the checkers share: the text of a violation, real time, how far somebody got, and the run of
// them all.
#include "lib/check_order.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char check_text[512];

const char *check_say(const char *format, ...) {
    va_list list;
    va_start(list, format);
    (void)vsnprintf(check_text, sizeof check_text, format, list);
    va_end(list);
    return check_text;
}

// ---- real time: what was over before another thing began

static int by_began(const void *a, const void *b) {
    const struct check_bound *x = a, *y = b;
    int c = compare_signed(x->group, y->group);
    c = c ? c : compare_signed(x->partition, y->partition);
    return c ? c : compare(x->e->invoked, y->e->invoked);
}

static int by_over(const void *a, const void *b) {
    const struct check_bound *x = a, *y = b;
    int c = compare_signed(x->group, y->group);
    c = c ? c : compare_signed(x->partition, y->partition);
    return c ? c : compare(x->e->returned, y->e->returned);
}

// The highest that is said so far.
struct said {
    int64_t high;
    const struct check_bound *by;
};

static void say_at_least(struct said *s, int64_t value, const struct check_bound *by) {
    if (value > s->high)
        *s = (struct said){ value, by };
}

static bool same_class(const struct check_bound *a, const struct check_bound *b) {
    return a->group == b->group && a->partition == b->partition;
}

const struct check_bound *check_bounds(struct history *h, struct check_bound *list, size_t count,
                                       bool strict, const struct check_bound **before) {
    static _Thread_local struct check_bound found, cause;
    struct check_bound *over = malloc((count + 1) * sizeof *over);
    if (!over)
        abort();
    if (count > 0)
        memcpy(over, list, count * sizeof *list);
    qsort(list, count, sizeof *list, by_began);
    qsort(over, count, sizeof *over, by_over);
    const struct said nothing = { INT64_MIN, NULL };
    struct said soft = nothing, hard = nothing;
    uint64_t last = 0; // when that was over which soft heard of last
    const struct check_bound *bad = NULL;
    for (size_t i = 0, j = 0; i < count && !bad; i++) {
        const struct check_bound *b = &list[i];
        if (i == 0 || !same_class(b, b - 1)) {
            soft = hard = nothing;
            last = 0;
            while (j < count && !same_class(&over[j], b))
                j++;
        }
        for (; j < count && same_class(&over[j], b) && over[j].e->returned < b->e->invoked; j++) {
            if (over[j].reset || history_cut_between(h, last, over[j].e->returned))
                soft = nothing;
            last = over[j].e->returned;
            say_at_least(&soft, over[j].soft, &over[j]);
            say_at_least(&hard, over[j].hard, &over[j]);
        }
        if (history_cut_between(h, last, b->e->invoked))
            soft = nothing;
        const struct said *most = soft.high > hard.high ? &soft : &hard;
        if (most->by && (strict ? b->must <= most->high : b->must < most->high)) {
            found = *b;
            cause = *most->by;
            bad = &found;
        }
    }
    free(over);
    *before = &cause;
    return bad;
}

// ---- how far somebody got

struct check_highs check_highs_of(struct history *h, enum history_op op) {
    struct check_highs d;
    d.list = history_select(h, op, by_time, &d.count);
    d.high = calloc(d.count + 1, sizeof *d.high);
    if (!d.high)
        abort();
    for (size_t i = 0; i < d.count; i++) {
        event e = d.list[i], last = i > 0 ? d.list[i - 1] : NULL;
        bool first = !last || last->partition != e->partition || last->group != e->group;
        d.high[i] = e->outcome == HISTORY_FAILED ? 0 : e->offset;
        if (!first && d.high[i - 1] > d.high[i])
            d.high[i] = d.high[i - 1];
    }
    return d;
}

void check_highs_free(struct check_highs *d) {
    free(d->high);
    free(d->list);
}

int64_t check_highs_at(const struct check_highs *d, int group, int32_t partition, uint64_t before) {
    const struct history_event key = { .group = group, .partition = partition, .invoked = before };
    event k = &key;
    size_t lo = 0, hi = d->count; // the first that is not before
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (by_time(&d->list[mid], &k) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    event last = lo > 0 ? d->list[lo - 1] : NULL;
    return last && last->partition == partition && last->group == group ? d->high[lo - 1] : 0;
}

// ---- all

static const char *run_all(struct history *h, const struct check *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char *bad = list[i].fn(h);
        if (!bad)
            continue;
        char text[sizeof check_text];
        (void)snprintf(text, sizeof text, "%s", bad);
        return check_say("%s: %.480s", list[i].name, text);
    }
    return NULL;
}

const char *check_history(struct history *h) {
    const char *bad = run_all(h, check_stream, check_stream_count);
    return bad ? bad : run_all(h, check_group, check_group_count);
}
