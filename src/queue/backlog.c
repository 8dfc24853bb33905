/* SPDX-License-Identifier: MIT */
// backlog: planes and lines, see backlog.h for the states and the invariants. The order in this
// file: planes, lines, admission, what comes next, one offset, ranges, the check.
#include "queue/backlog.h"

#include "base/hash.h"

#include <string.h>

enum { BACKLOG_WAIT = 0, BACKLOG_MIDDLE = 4, BACKLOG_LINES_MIN = 16, BACKLOG_WAITS_MIN = 4 };

struct backlog_wait {
    int64_t offset, not_before_ms;
};

struct backlog_line {
    struct lt_node by_head, turn;
    int64_t head, not_before_ms;
    struct backlog_wait *wait; // a ring: those who wait, in order; some may not wait any more
    size_t first, count, room; // room: 0 or a power of 2
    size_t size;
    char group[];
};

// ---- planes ------------------------------------------------------------------------------------

static bool backlog_begun(const struct lt_backlog *b, int i) {
    return (b->planes >> i & 1) != 0;
}

static bool backlog_open_in(const struct lt_window *w, int64_t off) {
    int state = lt_window_state(w, off);
    return state == LT_WINDOW_HELD || state == LT_WINDOW_AVAILABLE;
}

// The plane of the priority of an offset that is not final.
static struct lt_window *backlog_plane(const struct lt_backlog *b, int64_t off) {
    for (int i = 1; i < LT_BACKLOG_PLANES && b->planes >> i; i++)
        if (backlog_begun(b, i) && backlog_open_in(&b->plane[i], off))
            return &b->plane[i];
    return b->window;
}

static bool backlog_came_back(const struct lt_backlog *b, int64_t off) {
    return lt_map_count(&b->back) > 0 && lt_map_get(&b->back, &off, sizeof off);
}

static bool backlog_waits(const struct lt_backlog *b, int64_t off) {
    return (backlog_begun(b, BACKLOG_WAIT) && backlog_open_in(&b->plane[BACKLOG_WAIT], off)) ||
           backlog_came_back(b, off);
}

// Ends the waiting of off. Returns  false if it does not wait.
static bool backlog_end_wait(struct lt_backlog *b, int64_t off) {
    if (backlog_begun(b, BACKLOG_WAIT) && lt_window_finish(&b->plane[BACKLOG_WAIT], off))
        return true;
    return lt_map_count(&b->back) > 0 && lt_map_remove(&b->back, &off, sizeof off);
}

// Gets a plane ready for off, which is behind all that it has: what is between is not of it.
static int backlog_reserve(struct lt_backlog *b, int i, int64_t off) {
    if (!b->plane)
        b->plane = lt_zalloc(b->mem, LT_BACKLOG_PLANES * sizeof *b->plane);
    if (!b->plane)
        return LEAT_ENOMEM;
    struct lt_window *w = &b->plane[i];
    if (!backlog_begun(b, i))
        lt_window_init(w, b->mem, off);
    b->planes |= 1u << i;
    if (off < w->tail)
        return LEAT_EINVAL;
    int rc = lt_window_gap(w, w->tail, off);
    return rc == 0 ? lt_window_reserve(w, off + 1) : rc;
}

// ---- lines -------------------------------------------------------------------------------------

static struct lt_list *backlog_bucket(const struct lt_backlog *b, int64_t head) {
    return &b->heads[lt_mix64((uint64_t)head) & (b->buckets - 1)];
}

static struct backlog_line *backlog_headed_by(const struct lt_backlog *b, int64_t off) {
    if (lt_map_count(&b->lines) == 0)
        return NULL;
    const struct lt_list *l = backlog_bucket(b, off);
    for (struct lt_node *n = lt_list_first(l); n; n = lt_list_next(l, n)) {
        struct backlog_line *line = LT_CONTAINER(n, struct backlog_line, by_head);
        if (line->head == off)
            return line;
    }
    return NULL;
}

static int backlog_more_buckets(struct lt_backlog *b) {
    if (lt_map_count(&b->lines) < b->buckets)
        return 0;
    struct lt_backlog bigger = { .buckets = b->buckets ? 2 * b->buckets : BACKLOG_LINES_MIN };
    bigger.heads = lt_alloc(b->mem, bigger.buckets * sizeof *bigger.heads);
    if (!bigger.heads)
        return LEAT_ENOMEM;
    for (size_t i = 0; i < bigger.buckets; i++)
        lt_list_init(&bigger.heads[i]);
    for (size_t i = 0; i < b->buckets; i++) {
        struct lt_node *n;
        while ((n = lt_list_first(&b->heads[i]))) {
            lt_list_remove(n);
            int64_t head = LT_CONTAINER(n, struct backlog_line, by_head)->head;
            lt_list_push_back(backlog_bucket(&bigger, head), n);
        }
    }
    lt_free(b->mem, b->heads);
    b->heads = bigger.heads;
    b->buckets = bigger.buckets;
    return 0;
}

static int backlog_new_line(struct lt_backlog *b, const struct lt_admission *a, int64_t off) {
    struct backlog_line *line = NULL;
    if (backlog_more_buckets(b) == 0)
        line = lt_zalloc(b->mem, sizeof *line + a->group_size);
    if (!line)
        return LEAT_ENOMEM;
    line->size = a->group_size;
    memcpy(line->group, a->group, a->group_size);
    if (lt_map_put(&b->lines, a->group, a->group_size, line) != 0) {
        lt_free(b->mem, line);
        return LEAT_ENOMEM;
    }
    line->head = off;
    line->not_before_ms = a->not_before_ms;
    lt_node_init(&line->turn);
    lt_list_push_back(backlog_bucket(b, off), &line->by_head);
    return 0;
}

// Makes room for two more.
static int backlog_more_waits(struct lt_backlog *b, struct backlog_line *line) {
    if (line->count + 2 <= line->room)
        return 0;
    size_t room = line->room ? 2 * line->room : BACKLOG_WAITS_MIN;
    struct backlog_wait *wait = lt_resize(b->mem, line->wait, room * sizeof *wait);
    if (!wait)
        return LEAT_ENOMEM;
    // The part that had wrapped round goes behind the rest.
    if (line->first != 0)
        memcpy(wait + line->room, wait, line->first * sizeof *wait);
    line->wait = wait;
    line->room = room;
    return 0;
}

static void backlog_set_head(struct lt_backlog *b, struct backlog_line *line, int64_t off,
                             int64_t not_before_ms) {
    lt_list_remove(&line->by_head);
    line->head = off;
    line->not_before_ms = not_before_ms;
    lt_list_push_back(backlog_bucket(b, off), &line->by_head);
}

static void backlog_end_line(struct lt_backlog *b, struct backlog_line *line) {
    lt_list_remove(&line->by_head);
    lt_list_remove(&line->turn);
    (void)lt_map_remove(&b->lines, line->group, line->size);
    lt_free(b->mem, line->wait);
    lt_free(b->mem, line);
}

// Lets a line go on behind its head.
static void backlog_next(struct lt_backlog *b, struct backlog_line *line) {
    while (line->count > 0) {
        struct backlog_wait next = line->wait[line->first];
        line->first = (line->first + 1) & (line->room - 1);
        line->count--;
        if (!backlog_end_wait(b, next.offset))
            continue; // it is final since, or has left
        lt_list_remove(&line->turn);
        backlog_set_head(b, line, next.offset, next.not_before_ms);
        lt_list_push_back(&b->turns, &line->turn);
        return;
    }
    backlog_end_line(b, line);
}

// ---- making and freeing ------------------------------------------------------------------------

void lt_backlog_init(struct lt_backlog *b, struct lt_window *window, struct lt_mem *mem) {
    *b = (struct lt_backlog){ .window = window, .mem = mem };
    lt_map_init(&b->lines, mem, 0);
    lt_map_init(&b->back, mem, 0);
    lt_list_init(&b->turns);
}

void lt_backlog_seed(struct lt_backlog *b, uint64_t seed) {
    if (lt_map_count(&b->lines) != 0)
        return;
    lt_map_fini(&b->lines);
    lt_map_init(&b->lines, b->mem, seed);
    b->seeded = true;
}

void lt_backlog_fini(struct lt_backlog *b) {
    struct lt_map_cursor at = { 0 };
    void *line;
    while (lt_map_next(&b->lines, &at, NULL, NULL, &line))
        backlog_end_line(b, line);
    lt_map_fini(&b->lines);
    lt_map_fini(&b->back);
    for (int i = 0; i < LT_BACKLOG_PLANES; i++)
        if (backlog_begun(b, i))
            lt_window_fini(&b->plane[i]);
    lt_free(b->mem, b->plane);
    lt_free(b->mem, b->heads);
    lt_backlog_init(b, b->window, b->mem);
}

// ---- admission ---------------------------------------------------------------------------------

// Gets all that admitting off needs, but for a line of its own.
static int backlog_make_room(struct lt_backlog *b, int64_t off, int priority,
                             struct backlog_line *line) {
    int rc = lt_window_reserve(b->window, off + 1);
    if (rc == 0 && priority != BACKLOG_MIDDLE)
        rc = backlog_reserve(b, priority, off);
    if (rc == 0 && line)
        rc = backlog_reserve(b, BACKLOG_WAIT, off);
    return rc == 0 && line ? backlog_more_waits(b, line) : rc;
}

int lt_backlog_admit(struct lt_backlog *b, int64_t off, const struct lt_admission *a) {
    int state = lt_window_state(b->window, off);
    if ((state != LT_WINDOW_HELD && off != b->window->tail) || a->priority < 1 ||
        a->priority >= LT_BACKLOG_PLANES)
        return LEAT_EINVAL;
    struct backlog_line *line =
        a->group_size > 0 ? lt_map_get(&b->lines, a->group, a->group_size) : NULL;
    int rc = backlog_make_room(b, off, a->priority, line);
    if (rc == 0 && a->group_size > 0 && !line)
        rc = backlog_new_line(b, a, off);
    if (rc != 0)
        return rc;
    (void)lt_window_touch_to(b->window, off + 1);
    if (a->priority != BACKLOG_MIDDLE)
        (void)lt_window_touch_to(&b->plane[a->priority], off + 1);
    if (!line)
        return 1;
    (void)lt_window_touch_to(&b->plane[BACKLOG_WAIT], off + 1);
    (void)lt_window_give_back(&b->plane[BACKLOG_WAIT], off);
    line->wait[(line->first + line->count++) & (line->room - 1)] =
        (struct backlog_wait){ off, a->not_before_ms };
    return 0;
}

// ---- coming back -------------------------------------------------------------------------------

static struct backlog_wait *backlog_wait_at(const struct backlog_line *line, size_t i) {
    return &line->wait[(line->first + i) & (line->room - 1)];
}

// Puts one in its place in the ring, in which there is room: mostly that is near its begin.
static void backlog_insert(struct backlog_line *line, struct backlog_wait wait) {
    size_t i = 0;
    while (i < line->count && backlog_wait_at(line, i)->offset < wait.offset)
        i++;
    if (i == line->count || backlog_wait_at(line, i)->offset != wait.offset) { // else it had left
        line->first = (line->first - 1) & (line->room - 1);
        line->count++;
        for (size_t k = 0; k < i; k++)
            *backlog_wait_at(line, k) = *backlog_wait_at(line, k + 1);
    }
    *backlog_wait_at(line, i) = wait;
}

// Gets all that is needed for off, and for the head, to wait once more.
static int backlog_wait_again(struct lt_backlog *b, struct backlog_line *line, int64_t off,
                              bool pass) {
    int64_t head = line->head;
    if (backlog_more_waits(b, line) != 0 || lt_map_put(&b->back, &off, sizeof off, line) != 0)
        return LEAT_ENOMEM;
    if (!pass || lt_map_put(&b->back, &head, sizeof head, line) == 0)
        return 0;
    (void)lt_map_remove(&b->back, &off, sizeof off);
    return LEAT_ENOMEM;
}

int lt_backlog_rejoin(struct lt_backlog *b, int64_t off, const struct lt_admission *a, bool pass) {
    if (lt_backlog_state(b, off) != LT_WINDOW_HELD)
        return LEAT_EINVAL;
    if (a->group_size == 0)
        return 1;
    struct backlog_line *line = lt_map_get(&b->lines, a->group, a->group_size);
    if (!line)
        return backlog_new_line(b, a, off) == 0 ? 1 : LEAT_ENOMEM;
    if (line->head == off)
        return 1;
    pass = pass && off < line->head;
    if (backlog_wait_again(b, line, off, pass) != 0)
        return LEAT_ENOMEM;
    backlog_insert(line, (struct backlog_wait){ off, a->not_before_ms });
    if (pass) {
        (void)lt_window_hold(backlog_plane(b, line->head), line->head);
        backlog_insert(line, (struct backlog_wait){ line->head, line->not_before_ms });
        backlog_next(b, line); // it is the turn of off, or of one that waited in front of it
    }
    return 0;
}

// ---- what comes next ---------------------------------------------------------------------------

// The lowest available one of the priorities from..to, going down, or LT_WINDOW_NONE.
static int64_t backlog_lowest(const struct lt_backlog *b, int from, int to) {
    for (int i = from; i >= to; i--)
        if (backlog_begun(b, i) && b->plane[i].available)
            return lt_window_peek_next(&b->plane[i], 0);
    return LT_WINDOW_NONE;
}

int64_t lt_backlog_peek_all(const struct lt_backlog *b, int64_t end) {
    int64_t off = backlog_lowest(b, LT_BACKLOG_PLANES - 1, BACKLOG_MIDDLE + 1);
    if (off == LT_WINDOW_NONE)
        off = lt_window_peek_next(b->window, end);
    if (off == LT_WINDOW_NONE)
        off = backlog_lowest(b, BACKLOG_MIDDLE - 1, 1);
    return off;
}

bool lt_backlog_take(struct lt_backlog *b, int64_t off) {
    if (off == b->window->tail)
        return lt_window_touch_to(b->window, off + 1);
    return lt_backlog_hold(b, off);
}

bool lt_backlog_turn(struct lt_backlog *b, int64_t *off, int64_t *not_before_ms) {
    struct lt_node *n = lt_list_first(&b->turns);
    if (!n)
        return false;
    const struct backlog_line *line = LT_CONTAINER(n, struct backlog_line, turn);
    lt_list_remove(n);
    *off = line->head;
    *not_before_ms = line->not_before_ms;
    return true;
}

// ---- one offset --------------------------------------------------------------------------------

bool lt_backlog_give_back(struct lt_backlog *b, int64_t off) {
    if (!b->planes && lt_map_count(&b->back) == 0)
        return lt_window_give_back(b->window, off);
    return !backlog_waits(b, off) && lt_window_give_back(backlog_plane(b, off), off);
}

bool lt_backlog_hold(struct lt_backlog *b, int64_t off) {
    if (backlog_end_wait(b, off))
        return true;
    return lt_window_hold(b->planes ? backlog_plane(b, off) : b->window, off);
}

bool lt_backlog_finish_all(struct lt_backlog *b, int64_t off) {
    for (int i = 0; i < LT_BACKLOG_PLANES && b->planes >> i; i++)
        if (backlog_begun(b, i))
            (void)lt_window_finish(&b->plane[i], off);
    if (!lt_window_finish(b->window, off))
        return false;
    (void)backlog_end_wait(b, off);
    lt_backlog_leave(b, off);
    return true;
}

void lt_backlog_leave(struct lt_backlog *b, int64_t off) {
    struct backlog_line *line = backlog_headed_by(b, off);
    if (line)
        backlog_next(b, line);
}

int lt_backlog_state(const struct lt_backlog *b, int64_t off) {
    int state = lt_window_state(b->window, off);
    if (state != LT_WINDOW_HELD || (!b->planes && lt_map_count(&b->back) == 0))
        return state;
    return backlog_waits(b, off) ? LT_BACKLOG_WAITING : lt_window_state(backlog_plane(b, off), off);
}

int64_t lt_backlog_not_before(const struct lt_backlog *b, int64_t off) {
    const struct backlog_line *line = backlog_headed_by(b, off);
    return line ? line->not_before_ms : INT64_MIN;
}

uint64_t lt_backlog_available(const struct lt_backlog *b) {
    uint64_t sum = b->window->available;
    for (int i = 1; i < LT_BACKLOG_PLANES && b->planes >> i; i++)
        sum += backlog_begun(b, i) ? b->plane[i].available : 0;
    return sum;
}

uint64_t lt_backlog_waiting(const struct lt_backlog *b) {
    uint64_t first = backlog_begun(b, BACKLOG_WAIT) ? b->plane[BACKLOG_WAIT].available : 0;
    return first + lt_map_count(&b->back);
}

int64_t lt_backlog_head_of(const struct lt_backlog *b, const void *group, size_t size) {
    const struct backlog_line *line = lt_map_get(&b->lines, group, size);
    return line ? line->head : -1;
}

// ---- ranges of offsets -------------------------------------------------------------------------

static void backlog_lines_go_on(struct lt_backlog *b) {
    struct lt_map_cursor at = { 0 };
    const void *key;
    void *line;
    while (lt_map_next(&b->back, &at, &key, NULL, NULL)) {
        int64_t off;
        memcpy(&off, key, sizeof off);
        if (lt_window_state(b->window, off) == LT_WINDOW_FINAL)
            (void)lt_map_remove(&b->back, &off, sizeof off);
    }
    at = (struct lt_map_cursor){ 0 };
    while (lt_map_next(&b->lines, &at, NULL, NULL, &line))
        if (lt_window_state(b->window, ((struct backlog_line *)line)->head) == LT_WINDOW_FINAL)
            backlog_next(b, line);
}

int lt_backlog_gap(struct lt_backlog *b, int64_t from, int64_t to) {
    int rc = lt_window_gap(b->window, from, to);
    if (rc != 0)
        return rc;
    for (int i = 0; i < LT_BACKLOG_PLANES && b->planes >> i; i++)
        if (backlog_begun(b, i) && from < b->plane[i].tail)
            (void)lt_window_gap(&b->plane[i], from, to < b->plane[i].tail ? to : b->plane[i].tail);
    backlog_lines_go_on(b);
    return 0;
}

void lt_backlog_skip_to(struct lt_backlog *b, int64_t off) {
    lt_window_skip_to(b->window, off);
    for (int i = 0; i < LT_BACKLOG_PLANES && b->planes >> i; i++)
        if (backlog_begun(b, i))
            lt_window_skip_to(&b->plane[i], off);
    backlog_lines_go_on(b);
}

// ---- the check ---------------------------------------------------------------------------------

static bool backlog_check_planes(const struct lt_backlog *b) {
    for (int i = 0; i < LT_BACKLOG_PLANES; i++) {
        const struct lt_window *w = b->plane ? &b->plane[i] : NULL;
        if (!backlog_begun(b, i))
            continue;
        if (!lt_window_check(w) || w->tail > b->window->tail || i == BACKLOG_MIDDLE)
            return false;
    }
    for (int64_t off = b->window->head; off < b->window->tail; off++) {
        int in = 0;
        for (int i = 1; i < LT_BACKLOG_PLANES; i++)
            in += backlog_begun(b, i) && backlog_open_in(&b->plane[i], off);
        bool waits = backlog_waits(b, off);
        if (in > 1 || (in + waits > 0 && lt_window_state(b->window, off) != LT_WINDOW_HELD))
            return false;
        bool back = backlog_came_back(b, off),
             first = backlog_begun(b, BACKLOG_WAIT) &&
                     lt_window_state(&b->plane[BACKLOG_WAIT], off) == LT_WINDOW_AVAILABLE;
        if (waits &&
            (back == first || lt_window_state(backlog_plane(b, off), off) != LT_WINDOW_HELD))
            return false;
    }
    return true;
}

// Counts those who wait in a line. Returns false if it is not in order.
static bool backlog_check_line(const struct lt_backlog *b, const struct backlog_line *line,
                               uint64_t *waiting) {
    int64_t before = -1;
    if (!backlog_open_in(b->window, line->head) || backlog_waits(b, line->head) ||
        backlog_headed_by(b, line->head) != line ||
        lt_map_get(&b->lines, line->group, line->size) != line)
        return false;
    for (size_t i = 0; i < line->count; i++) {
        int64_t off = line->wait[(line->first + i) & (line->room - 1)].offset;
        if (off <= before)
            return false;
        before = off;
        *waiting += backlog_waits(b, off);
    }
    return true;
}

bool lt_backlog_check(const struct lt_backlog *b) {
    if (!lt_window_check(b->window) || !backlog_check_planes(b))
        return false;
    struct lt_map_cursor at = { 0 };
    uint64_t waiting = 0;
    size_t headed = 0;
    void *line;
    while (lt_map_next(&b->lines, &at, NULL, NULL, &line))
        if (!backlog_check_line(b, line, &waiting))
            return false;
    for (size_t i = 0; i < b->buckets; i++)
        for (struct lt_node *n = lt_list_first(&b->heads[i]); n; n = lt_list_next(&b->heads[i], n))
            headed++;
    return waiting == lt_backlog_waiting(b) && headed == lt_map_count(&b->lines);
}
