/* SPDX-License-Identifier: MIT */
// topic_alter: what a live topic keeps is changed. First all is made that can fail: the timers of
// its partitions, then the note; from there on the new settings are what an open finds. Then each
// partition takes them, all at once, under its own lock. Last it is done what they say.
//
// The note is at LOG, like every other, but on disk before anything goes that it lets go.
#include "log/log.h"

enum { ALTER_STEP_MS = 1000 }; // less is two clocks that are not read at the same moment

static bool alter_same(const struct lt_keeps *a, const struct lt_keeps *b) {
    return a->bytes == b->bytes && a->records == b->records && a->ms == b->ms &&
           a->segment_ms == b->segment_ms && a->when_full == b->when_full &&
           a->until_consumed == b->until_consumed;
}

// Tells whether segments have the time of a wall clock that was set since the open.
static bool alter_stepped(leat *mq) {
    int64_t by_ms;
    return __builtin_sub_overflow(lt_wall_ms(mq), lt_steady_ms(mq), &by_ms) ||
           by_ms > ALTER_STEP_MS || by_ms < -ALTER_STEP_MS;
}

// Makes it hold; it is noted. Locks: admin held.
static void alter_take(leat_topic *t, const struct lt_keeps *keeps) {
    struct lt_log *log = t->mq->log;
    bool stepped = false;
    lt_lock(&log->table);
    t->keeps = *keeps;
    lt_unlock(&log->table);
    if (lt_keeps_by_time(keeps) && !atomic_exchange(&t->goes_by_time, true))
        stepped = alter_stepped(t->mq);
    atomic_store(&t->tells_heads, keeps->until_consumed);
    for (int32_t i = 0; i < t->partitions; i++)
        lt_retain_alter(lt_topic_part(t, i), keeps, stepped);
}

int lt_topic_alter(leat_topic *t, const leat_topic_options *asked) {
    struct lt_keeps keeps = t->keeps;
    int rc = lt_topic_same_made(t, asked);
    lt_keeps_set(&keeps, asked);
    if (rc != 0 || alter_same(&keeps, &t->keeps))
        return rc;
    rc = lt_check_writable(t->mq, "topic", t->name);
    if (rc != 0)
        return rc;
    int32_t ready = 0;
    while (rc == 0 && ready < t->partitions) {
        rc = lt_retain_ready(lt_topic_part(t, ready), &keeps);
        ready += rc == 0;
    }
    if (rc == 0)
        rc = lt_topic_note(t, t->partitions, t->dedup_window_ms, &keeps);
    if (rc != 0) {
        while (ready > 0)
            lt_retain_unready(lt_topic_part(t, --ready), &keeps);
        return rc;
    }
    alter_take(t, &keeps);
    leat_metadata md = { .topic = t->name, .offset = -1, .partition = -1 };
    lt_trace(t->mq, "topic-alter", NULL, &md, 0);
    return 1;
}

void lt_topic_altered(leat_topic *t) {
    int32_t partitions = atomic_load_explicit(&t->partitions, memory_order_acquire);
    for (int32_t i = 0; i < partitions; i++)
        lt_retain_altered(lt_topic_part(t, i));
}
