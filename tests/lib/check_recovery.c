/* SPDX-License-Identifier: MIT */
// A listing has a line "path size hash" for each file, sorted. Two of them are walked side by side.
#include "lib/check.h"

#include <stdlib.h>
#include <string.h>

struct line {
    const char *text;
    size_t size, path; // of the line without its newline; of the path alone
};

static bool next_line(const char **at, struct line *l) {
    if (!*at || !**at)
        return false;
    l->text = *at;
    l->size = strcspn(*at, "\n");
    *at += l->size + ((*at)[l->size] == '\n');
    l->path = strcspn(l->text, " \n");
    return true;
}

static int compare_paths(const struct line *a, const struct line *b) {
    int c = strncmp(a->text, b->text, a->path < b->path ? a->path : b->path);
    return c ? c : (a->path > b->path) - (a->path < b->path);
}

static bool same(const struct line *a, const struct line *b) {
    return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

// Names the first file that is not in both listings as it is.
static const char *difference(const char *before, const char *after, const char *what) {
    struct line a = { 0 }, b = { 0 };
    bool more_a = next_line(&before, &a), more_b = next_line(&after, &b);
    while (more_a || more_b) {
        int c = !more_a ? 1 : !more_b ? -1 : compare_paths(&a, &b);
        const struct line *at = c > 0 ? &b : &a;
        if (c != 0 || !same(&a, &b))
            return check_say("%s %s: %.*s", what,
                             c < 0   ? "removed"
                             : c > 0 ? "made"
                                     : "changed",
                             (int)at->path, at->text);
        more_a = next_line(&before, &a);
        more_b = next_line(&after, &b);
    }
    return NULL;
}

const char *check_r1_idempotent(const struct check_recovery *r) {
    return r->again ? difference(r->after, r->again, "the second recovery") : NULL;
}

static bool is_segment(const struct line *l) {
    return l->path > 4 && strncmp(l->text + l->path - 4, ".log", 4) == 0;
}

// Tells whether b is in the directory of a.
static bool same_dir(const struct line *a, const struct line *b) {
    size_t n = a->path;
    while (n > 0 && a->text[n - 1] != '/')
        n--;
    size_t m = b->path;
    while (m > 0 && b->text[m - 1] != '/')
        m--;
    return n == m && strncmp(a->text, b->text, n) == 0;
}

// Moves *at, in a listing, to the line of that path or behind where it would be.
static bool find_path(const char **at, const struct line *want, struct line *out) {
    for (const char *look = *at; next_line(&look, out) && compare_paths(out, want) <= 0;) {
        *at = look;
        if (compare_paths(out, want) == 0)
            return true;
    }
    return false;
}

// Base offsets have 20 digits, so the segments of a partition are listed in their order.
const char *check_r2_sealed_files_stay(const struct check_recovery *r) {
    const char *at = r->before, *after = r->after;
    struct line l, last = { 0 }, now;
    while (next_line(&at, &l)) {
        if (!is_segment(&l))
            continue;
        if (last.text && same_dir(&last, &l) && find_path(&after, &last, &now) &&
            !same(&last, &now))
            return check_say("recovery changed a sealed file: %.*s", (int)last.path, last.text);
        last = l;
    }
    return NULL;
}

const char *check_r3_errors_change_nothing(const struct check_recovery *r) {
    if (r->rc == 0)
        return NULL;
    switch (r->rc) {
    case LEAT_ECORRUPT:
    case LEAT_EIO:
    case LEAT_ENOMEM:
    case LEAT_ENOSPC:
    case LEAT_EACCESS:
    case LEAT_EBUSY:
    case LEAT_EEXIST:
    case LEAT_EINVAL: // a later version's
        return difference(r->before, r->after, "an open that failed");
    default:
        return check_say("an open is %s", leat_errname(r->rc));
    }
}

const char *check_r4_damage_is_reported(const struct check_recovery *r) {
    if (r->damaged_offset < 0 || r->damaged_offset >= r->durable_end || r->rc < 0 || r->reported ||
        r->intact)
        return NULL;
    return check_say("offset %lld was damaged, below the durable end %lld: nobody says so",
                     (long long)r->damaged_offset, (long long)r->durable_end);
}
