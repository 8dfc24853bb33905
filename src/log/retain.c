/* SPDX-License-Identifier: MIT */
// retain: giving back the front of a partition: because the topic keeps only so much or so long,
// because a queue is done with its own topic, or on demand.
//
// Whole segments go, never the active one, and the log start is durable before the first file does.
// A failure leaves them for the next time.
//
// By time: a segment goes when its last append is retention_ms ago. Time is the wall time of the
// open and the monotonic time since, so a wall clock that is set while the store is open deletes
// nothing. At an open the wall clock alone says how long the store was closed. If it is more than
// 400 days ahead of the newest append of a partition, it is not believed: what was appended while
// the battery of the clock was dead says 1970, and would all be fifty years old at once. Time of
// that partition then stands at its newest append and runs on from there, until the next open,
// when there are records of the right time. (400: a segment is rolled after 365 days, and of one
// that was not sealed an open knows only when it was made.)
//
// keep_until_consumed: consumers say where they are in numbers: a group by what it has committed,
// a queue by a keeper whose floor it moves on. When retention wants a segment that they hold back,
// it says up to where (`wanted`); whoever gets past that makes it look again. The ids of a topic
// with a dedup window are such a consumer: their records stay as long as they are remembered.
//
// Altered: a topic that did not go by time has segments with the time of the wall clock. If that
// was set since the open, nobody knows when they were sent, and they count as sent at the change.
// (One record that is under way just then may have that time yet, until the next one.)
#include "log/partition.h"

#include "log/dedup.h"
#include "log/group.h"
#include "log/topic.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define RETAIN_AHEAD_MS (INT64_C(400) * 24 * 3600 * 1000)
enum { RETAIN_AGAIN_MS = 60000 };

// ---- giving back

struct retain_leavings { // what is left beside a segment that went: words of queues
    struct lt_partition *p;
    char prefix[24]; // "<base>.q"
};

static int retain_unlink_words(const char *name, void *ctx) {
    struct retain_leavings *l = ctx;
    leat *mq = l->p->mq;
    if (strncmp(name, l->prefix, strlen(l->prefix)) == 0) {
        char path[LT_PATH_MAX + 256];
        (void)snprintf(path, sizeof path, "%u/%d/%s", l->p->topic->id, l->p->number, name);
        (void)mq->os->unlink(mq->os, mq->dir_fd, path, false);
    }
    return 0;
}

void lt_partition_unlink_rest(struct lt_partition *p, int64_t base) {
    leat *mq = p->mq;
    char path[LT_PATH_MAX];
    struct retain_leavings l = { .p = p };
    lt_segment_path(path, p, base, ".idx");
    (void)mq->os->unlink(mq->os, mq->dir_fd, path, false);
    (void)snprintf(l.prefix, sizeof l.prefix, "%020lld.q", (long long)base);
    lt_partition_path(path, p);
    int fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return;
    (void)mq->os->list(mq->os, fd, retain_unlink_words, &l);
    (void)mq->os->close(mq->os, fd);
}

void lt_partition_unlink(struct lt_partition *p, int64_t base) {
    char path[LT_PATH_MAX];
    // A file that cannot be removed is in nobody's way: its offsets are below the log start.
    lt_segment_path(path, p, base, ".log");
    (void)p->mq->os->unlink(p->mq->os, p->mq->dir_fd, path, false);
    lt_partition_unlink_rest(p, base);
}

// How many segments in front have only records below floor.
static size_t retain_releasable(const struct lt_partition *p, int64_t floor) {
    size_t n = 0;
    while (n + 1 < p->count && p->segs[n + 1]->base <= floor)
        n++;
    return n;
}

// Takes the first n segments away, whose records are below the log start. Locks: none; `releasing`
// keeps others from the segments in front.
static void retain_drop_first(struct lt_partition *p, size_t n) {
    for (; n > 0; n--) {
        lt_lock(&p->lock);
        struct lt_segment *s = p->segs[0];
        p->bytes -= (int64_t)(s->write_at - LT_SEGMENT_PAGE);
        p->count--;
        memmove(p->segs, p->segs + 1, p->count * sizeof(struct lt_segment *));
        lt_unlock(&p->lock);
        if (p->mq->dir)
            lt_partition_unlink(p, s->base);
        lt_segment_drop(s);
    }
}

// Moves the log start to `begin`, durably, and gives back the n segments that are below it.
// Locks: the partition's at entry and exit, not in between.
static int retain_move_begin(struct lt_partition *p, int64_t begin, size_t n) {
    p->releasing = true;
    int rc = lt_partition_note(p, atomic_load(&p->durable_end), begin);
    lt_unlock(&p->lock);
    // Without its topic the slot says nothing; and what was altered must not be to be kept again.
    if (rc == 0)
        rc = lt_manifest_sync(&p->mq->log->manifest);
    if (rc == 0)
        rc = lt_slots_sync(&p->mq->log->slots); // the law of release: before a file goes
    lt_lock(&p->lock);
    if (rc == 0) {
        atomic_store(&p->begin, begin);
        if (atomic_load(&p->durable_end) < begin)
            atomic_store(&p->durable_end, begin); // what is gone needs no sync
        lt_unlock(&p->lock);
        retain_drop_first(p, n);
        lt_lock(&p->lock);
    }
    p->releasing = false;
    lt_cond_broadcast(&p->released);
    return rc;
}

int lt_partition_release(struct lt_partition *p, int64_t floor) {
    int64_t ids = p->topic->dedup ? lt_dedup_floor(p) : INT64_MAX;
    lt_lock(&p->lock);
    size_t over = p->releasing ? 0 : retain_releasable(p, floor);
    size_t n = ids < floor && over > 0 ? retain_releasable(p, ids) : over;
    int rc = n > 0 ? retain_move_begin(p, p->segs[n]->base, n) : 0;
    lt_unlock(&p->lock);
    return rc == 0 && n < over ? 1 : rc;
}

// ---- what retention takes

// When the last append to s was. Locks: the partition's.
static int64_t retain_appended_ms(const struct lt_partition *p, const struct lt_segment *s) {
    return s->base < p->dated_below ? p->dated_ms : s->appended_ms;
}

// Tells whether the last append to s is so long ago.
static bool retain_is_past(const struct lt_partition *p, const struct lt_segment *s, int64_t ms,
                           int64_t now_ms) {
    int64_t until_ms;
    return !__builtin_add_overflow(retain_appended_ms(p, s), ms, &until_ms) && until_ms <= now_ms;
}

// Tells whether that is as long as the topic keeps records.
static bool retain_is_old(const struct lt_partition *p, const struct lt_segment *s,
                          int64_t now_ms) {
    return p->keeps.ms != LEAT_FOREVER && retain_is_past(p, s, p->keeps.ms, now_ms);
}

// The time by which the partition's segments are old. Locks: the partition's.
static int64_t retain_now_ms(const struct lt_partition *p) {
    return lt_steady_ms(p->mq) - p->slow_ms;
}

// How many segments in front the topic need not keep. Locks: the partition's.
static size_t retain_over(const struct lt_partition *p) {
    const struct lt_keeps *k = &p->keeps;
    int64_t end = atomic_load_explicit(&p->end, memory_order_relaxed), bytes = p->bytes;
    int64_t now_ms = retain_now_ms(p);
    size_t n = 0;
    while (n + 1 < p->count && !p->releasing) {
        bytes -= (int64_t)(p->segs[n]->write_at - LT_SEGMENT_PAGE);
        bool over = (k->bytes != LEAT_UNLIMITED && bytes >= k->bytes) ||
                    (k->records != LEAT_UNLIMITED && end - p->segs[n + 1]->base >= k->records);
        over = over && k->when_full == LEAT_DELETE_OLDEST;
        if (!over && !retain_is_old(p, p->segs[n], now_ms))
            break; // without this segment less than the topic is to keep would be left
        n++;
    }
    return n;
}

// When the front segment is to be looked at again: when it will be old, or, if it is to go, when no
// id in it can be inside the dedup window any more; LEAT_FOREVER: that is not known. Locks: the
// partition's.
static int64_t retain_wait_ms(const struct lt_partition *p, int64_t now_ms) {
    const leat_topic *t = p->topic;
    const struct lt_segment *s = p->count > 1 ? p->segs[0] : NULL;
    int64_t after_ms, wait_ms;
    if (s && p->keeps.ms != LEAT_FOREVER && !retain_is_old(p, s, now_ms))
        after_ms = p->keeps.ms;
    else if (s && t->dedup_window_ms != 0 && !retain_is_past(p, s, t->dedup_window_ms, now_ms) &&
             retain_over(p) > 0)
        after_ms = t->dedup_window_ms;
    else
        return LEAT_FOREVER;
    if (__builtin_add_overflow(retain_appended_ms(p, s), after_ms, &wait_ms) ||
        __builtin_sub_overflow(wait_ms, now_ms, &wait_ms))
        return LEAT_FOREVER;
    return wait_ms;
}

// Plans when to look again: as said above, or after a failure. What consumers, or ids by their
// number, hold back they set free, see lt_partition_consumed.
static void retain_plan(struct lt_partition *p, bool failed) {
    leat *mq = p->mq;
    int64_t due_ns = LT_NEVER, wait_ms;
    lt_lock(&p->lock);
    wait_ms = failed || p->releasing ? RETAIN_AGAIN_MS : retain_wait_ms(p, retain_now_ms(p));
    if (wait_ms != LEAT_FOREVER)
        due_ns = lt_add_ms(lt_now_ns(mq), wait_ms);
    if (p->has_due)
        lt_due_set(mq, &p->due, due_ns);
    lt_unlock(&p->lock);
}

// Where the slowest consumer is that the topic waits for. Locks: none.
static int64_t retain_consumers(struct lt_partition *p) {
    int queues = 0;
    int64_t floor = lt_groups_floor(p->mq, p->topic, p->number);
    lt_lock(&p->lock);
    for (struct lt_node *n = lt_list_first(&p->keepers); n; n = lt_list_next(&p->keepers, n)) {
        int64_t head = atomic_load(&LT_CONTAINER(n, struct lt_keeper, node)->floor);
        floor = head < floor ? head : floor;
        queues++;
    }
    if (queues < atomic_load(&p->topic->queues)) // it has not seen yet that the topic has grown
        floor = 0;
    lt_unlock(&p->lock);
    return floor;
}

// What is below may go. ask: the consumers. Locks: none.
static int64_t retain_floor(struct lt_partition *p, bool ask) {
    int64_t floor = ask ? retain_consumers(p) : INT64_MAX;
    int64_t ids = p->topic->dedup ? lt_dedup_floor(p) : INT64_MAX;
    return ids < floor ? ids : floor;
}

// Says what is to be consumed, or forgotten, before a segment can go, then looks whether it is: who
// consumes first says so, then looks at `wanted`. *ask: whether consumers are to be asked.
// Returns  false if nothing is to go.
static bool retain_want(struct lt_partition *p, bool *ask) {
    lt_lock(&p->lock);
    bool over = retain_over(p) > 0;
    *ask = p->keeps.until_consumed;
    bool waits = *ask || p->topic->dedup;
    atomic_store(&p->wanted, over && waits ? p->segs[1]->base : LT_NEVER);
    lt_unlock(&p->lock);
    return over;
}

void lt_partition_retain(struct lt_partition *p) {
    int rc = 0;
    size_t n = 1;
    bool ask;
    while (n > 0 && rc == 0 && retain_want(p, &ask)) {
        int64_t floor = retain_floor(p, ask);
        lt_lock(&p->lock);
        size_t over = retain_over(p), free_of = retain_releasable(p, floor);
        n = over < free_of ? over : free_of;
        bool asked = ask || !p->keeps.until_consumed; // else it was altered: ask first
        if (n > 0 && asked)
            rc = retain_move_begin(p, p->segs[n]->base, n);
        lt_unlock(&p->lock);
    }
    retain_plan(p, rc != 0);
}

void lt_log_retain(leat *mq) {
    for (leat_topic *t = lt_topic_next(mq->log, NULL); t; t = lt_topic_next(mq->log, t)) {
        if (t->keeps.bytes == LEAT_UNLIMITED && t->keeps.records == LEAT_UNLIMITED &&
            t->keeps.ms == LEAT_FOREVER)
            continue;
        for (int32_t i = 0; i < t->partitions; i++)
            lt_partition_retain(lt_topic_part(t, i));
    }
}

static void retain_fall_due(leat *mq, struct lt_due *due) {
    (void)mq;
    lt_partition_retain(LT_CONTAINER(due, struct lt_partition, due));
}

// Tells whether something may go at another time than when a segment is rolled.
static bool retain_goes_later(const leat_topic *t, const struct lt_keeps *k) {
    bool bounded = k->bytes != LEAT_UNLIMITED || k->records != LEAT_UNLIMITED;
    return k->ms != LEAT_FOREVER || k->until_consumed ||
           (bounded && (t->dedup_window_ms != 0 || t->dedup_window_count != 0));
}

static void retain_set(struct lt_partition *p, const struct lt_keeps *keeps) {
    p->keeps = *keeps;
    p->rejects = keeps->when_full == LEAT_REJECT;
    p->has_due |= retain_goes_later(p->topic, keeps);
}

int lt_retain_init(struct lt_partition *p) {
    atomic_init(&p->wanted, LT_NEVER);
    lt_list_init(&p->keepers);
    p->dated_below = INT64_MIN;
    int rc = lt_retain_ready(p, &p->topic->keeps);
    if (rc == 0)
        retain_set(p, &p->topic->keeps);
    return rc;
}

void lt_retain_fini(struct lt_partition *p) {
    if (p->has_due)
        lt_due_end(p->mq, &p->due);
}

int64_t lt_retain_old_ms(const struct lt_partition *p, int64_t born_ms) {
    int64_t old_ms;
    return __builtin_add_overflow(born_ms, p->keeps.segment_ms, &old_ms) ? INT64_MAX : old_ms;
}

void lt_retain_set_time(struct lt_partition *p, int64_t newest_ms) {
    int64_t ahead_ms;
    if (!__builtin_sub_overflow(lt_steady_ms(p->mq), newest_ms, &ahead_ms) &&
        ahead_ms > RETAIN_AHEAD_MS)
        p->slow_ms = ahead_ms;
}

// ---- altered

int lt_retain_ready(struct lt_partition *p, const struct lt_keeps *keeps) {
    if (p->has_due || !retain_goes_later(p->topic, keeps))
        return 0;
    return lt_chore_init(p->mq, &p->due, retain_fall_due);
}

void lt_retain_unready(struct lt_partition *p, const struct lt_keeps *keeps) {
    if (!p->has_due && retain_goes_later(p->topic, keeps))
        lt_due_end(p->mq, &p->due);
}

// Of the segments that are there only the active one takes records: its own time may be put right.
// Others are read without the lock while they are sealed.
static void retain_redate(struct lt_partition *p, struct lt_segment *active) {
    active->appended_ms = lt_steady_ms(p->mq);
    p->dated_below = active->base;
    p->dated_ms = retain_now_ms(p);
}

void lt_retain_alter(struct lt_partition *p, const struct lt_keeps *keeps, bool stepped) {
    lt_lock(&p->lock);
    const int64_t before_ms = p->keeps.segment_ms;
    retain_set(p, keeps);
    if (stepped && p->count > 0)
        retain_redate(p, p->segs[p->count - 1]);
    for (size_t i = 0; i < p->count; i++) {
        struct lt_segment *s = p->segs[i];
        if (stepped)
            s->old_ms = lt_retain_old_ms(p, lt_steady_ms(p->mq));
        else if (s->old_ms != INT64_MAX)
            s->old_ms = lt_retain_old_ms(p, s->old_ms - before_ms);
    }
    lt_unlock(&p->lock);
}

void lt_retain_altered(struct lt_partition *p) {
    lt_lock(&p->lock);
    while (p->releasing) // by what it was told before
        lt_cond_wait(&p->released, &p->lock);
    lt_unlock(&p->lock);
    lt_partition_retain(p);
}

// ---- what consumers say

void lt_partition_keep(struct lt_partition *p, struct lt_keeper *k, int64_t floor) {
    atomic_init(&k->floor, floor);
    lt_lock(&p->lock);
    lt_list_push_back(&p->keepers, &k->node);
    lt_unlock(&p->lock);
}

void lt_partition_unkeep(struct lt_partition *p, struct lt_keeper *k) {
    lt_lock(&p->lock);
    lt_list_remove(&k->node);
    lt_unlock(&p->lock);
}

void lt_partition_consumed(struct lt_partition *p, int64_t before, int64_t now) {
    int64_t wanted = atomic_load(&p->wanted);
    if (wanted != LT_NEVER && before < wanted && wanted <= now)
        lt_due_set(p->mq, &p->due, lt_now_ns(p->mq));
}

// ---- on demand

int lt_partition_trim(struct lt_partition *p, int64_t before) {
    // First what is deleted is on disk, and the segment that tells whose words there are: else a
    // power cut leaves the log start alone, and numbers behind it are given out again.
    int rc = lt_partition_sync(p, before);
    if (rc != 0)
        return rc;
    lt_lock(&p->lock);
    while (p->releasing)
        lt_cond_wait(&p->released, &p->lock);
    if (before > atomic_load_explicit(&p->begin, memory_order_relaxed))
        rc = retain_move_begin(p, before, retain_releasable(p, before));
    lt_unlock(&p->lock);
    return rc;
}
