/* SPDX-License-Identifier: MIT */
// seek: positions of a consumer, looked at and moved.
#include "log/consumer.h"

// The macros of leat.h put each kind of place around a point far below zero, at multiples of this.
// In between, and as far above zero, are numbers that were too large for their macro.
#define SEEK_UNIT  (INT64_C(1) << 60)
#define SEEK_RANGE (SEEK_UNIT / 4)
enum seek_kind { SEEK_SHIFT = 2, SEEK_LAST = 4, SEEK_AT = 6, SEEK_TOP = 7 };

// Tells whether `asked` is a place of that kind with a number from `least` up to `most`.
static bool seek_is(int64_t asked, enum seek_kind kind, int64_t least, int64_t most) {
    return asked >= least - kind * SEEK_UNIT && asked <= most - kind * SEEK_UNIT;
}

static int seek_place(struct lt_partition *p, int64_t now, int64_t asked, int64_t *offset) {
    int64_t end = atomic_load(&p->end);
    if (seek_is(asked, SEEK_AT, 0, SEEK_UNIT - 1)) {
        int rc = lt_partition_offset_at(p, asked + SEEK_AT * SEEK_UNIT, offset);
        return rc < 0 ? rc : 0;
    }
    if (seek_is(asked, SEEK_LAST, 0, SEEK_RANGE)) {
        *offset = end - (asked + SEEK_LAST * SEEK_UNIT);
        return 0;
    }
    if (!seek_is(asked, SEEK_SHIFT, -SEEK_RANGE, SEEK_RANGE))
        return lt_fail(LEAT_EINVAL, "topic %s partition %d: %lld is no offset, nor a place",
                       p->topic->name, p->number, (long long)asked);
    if (now < 0)
        return lt_fail(LEAT_EINVAL, "topic %s partition %d: a shift, and no offset to shift",
                       p->topic->name, p->number);
    *offset = now + (asked + SEEK_SHIFT * SEEK_UNIT);
    return 0;
}

int lt_offset_resolve(struct lt_partition *p, int64_t now, int64_t asked, int64_t *offset) {
    bool place = asked < -SEEK_RANGE || (asked >= SEEK_UNIT && asked < SEEK_TOP * SEEK_UNIT);
    int rc = place ? seek_place(p, now, asked, offset) : 0;
    int64_t begin = atomic_load(&p->begin), end = atomic_load(&p->end);
    if (rc != 0)
        return rc;
    if (!place)
        *offset = asked == LEAT_BEGIN ? begin : asked == LEAT_END ? end : asked;
    else if (*offset < begin || *offset > end)
        *offset = *offset < begin ? begin : end;
    if (*offset >= begin && *offset <= end)
        return 0;
    return lt_fail(LEAT_ERANGE, "topic %s partition %d has offsets %lld to %lld, not %lld",
                   p->topic->name, p->number, (long long)begin, (long long)end, (long long)asked);
}

// Takes up what is c's by now, for a call that is no poll.
static int seek_look(leat_consumer *c) {
    int rc = lt_consumer_rebalance(c, false);
    return rc < 0 ? rc : 0; // 1: an event waits
}

int leat_consumer_positions(leat_consumer *c, int committed, leat_position *out, size_t max) {
    int rc = lt_consumer_enter_event(c);
    if (rc != 0)
        return rc;
    if (max > 0 && !out)
        return lt_consumer_leave(c, lt_fail(LEAT_EINVAL, "positions: out is NULL"));
    rc = seek_look(c);
    if (rc != 0)
        return lt_consumer_leave(c, rc);
    for (size_t i = 0; i < c->part_count && i < max; i++) {
        const struct lt_cursor *at = &c->part[i].cursor;
        out[i] = (leat_position){ .topic = at->p->topic->name,
                                  .partition = at->p->number,
                                  .offset = at->offset };
        if (committed)
            out[i].offset =
                c->group ? lt_group_committed(c->group, at->p->topic, at->p->number) : -1;
    }
    return lt_consumer_leave(c, (int)c->part_count);
}

// Finds a partition of c by its name.
static int seek_find(leat_consumer *c, const char *topic, int32_t partition,
                     struct lt_consumer_part **part) {
    int rc = lt_check_name("topic", topic);
    if (rc == 0)
        rc = seek_look(c);
    if (rc != 0)
        return rc;
    leat_topic *t = lt_topic_find(c->mq, topic);
    *part = t ? lt_consumer_find(c, t, partition) : NULL;
    return *part ? 0
                 : lt_fail(LEAT_ENOENT, "topic %s partition %d is not the consumer's", topic,
                           partition);
}

static int consumer_seek(leat_consumer *c, const char *topic, int32_t partition, int64_t asked) {
    struct lt_consumer_part *part;
    int64_t offset;
    int rc = seek_find(c, topic, partition, &part);
    if (rc == 0)
        rc = lt_offset_resolve(part->cursor.p, part->cursor.offset, asked, &offset);
    if (rc == 0)
        lt_cursor_seek(&part->cursor, offset);
    lt_beacon_raise(&c->beacon);
    return rc;
}

int leat_consumer_seek(leat_consumer *c, const char *topic, int32_t partition, int64_t offset) {
    int rc = lt_consumer_enter_event(c);
    return rc != 0 ? rc : lt_consumer_leave(c, consumer_seek(c, topic, partition, offset));
}

static int consumer_pause(leat_consumer *c, const char *topic, int32_t partition, bool on) {
    struct lt_consumer_part *part;
    int rc = topic ? seek_find(c, topic, partition, &part) : seek_look(c);
    if (rc == 0 && topic)
        part->paused = on;
    for (size_t i = 0; rc == 0 && !topic && i < c->part_count; i++)
        c->part[i].paused = on;
    lt_beacon_raise(&c->beacon);
    return rc;
}

int leat_consumer_pause(leat_consumer *c, const char *topic, int32_t partition, int on) {
    int rc = lt_consumer_enter_event(c);
    return rc != 0 ? rc : lt_consumer_leave(c, consumer_pause(c, topic, partition, on != 0));
}
