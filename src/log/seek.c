/* SPDX-License-Identifier: MIT */
// seek: positions of a consumer, looked at and moved.
#include "log/consumer.h"

int lt_consumer_resolve(const struct lt_partition *p, int64_t *offset) {
    int64_t begin = atomic_load(&p->begin), end = atomic_load(&p->end);
    if (*offset == LEAT_BEGIN)
        *offset = begin;
    else if (*offset == LEAT_END)
        *offset = end;
    if (*offset >= begin && *offset <= end)
        return 0;
    return lt_fail(LEAT_ERANGE, "topic %s partition %d has offsets %lld to %lld, not %lld",
                   p->topic->name, p->number, (long long)begin, (long long)end, (long long)*offset);
}

int leat_consumer_positions(leat_consumer *c, int committed, leat_position *out, size_t max) {
    int rc = lt_consumer_enter_event(c);
    if (rc != 0)
        return rc;
    if (max > 0 && !out)
        return lt_consumer_leave(c, lt_fail(LEAT_EINVAL, "positions: out is NULL"));
    rc = lt_consumer_rebalance(c, false);
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

static int consumer_seek(leat_consumer *c, const char *topic, int32_t partition, int64_t offset) {
    int rc = lt_check_name("topic", topic);
    if (rc == 0)
        rc = lt_consumer_rebalance(c, false);
    if (rc != 0)
        return rc;
    leat_topic *t = lt_topic_find(c->mq, topic);
    struct lt_consumer_part *part = t ? lt_consumer_find(c, t, partition) : NULL;
    if (!part)
        return lt_fail(LEAT_ENOENT, "topic %s partition %d is not the consumer's", topic,
                       partition);
    rc = lt_consumer_resolve(part->cursor.p, &offset);
    if (rc == 0)
        lt_cursor_seek(&part->cursor, offset);
    return rc;
}

int leat_consumer_seek(leat_consumer *c, const char *topic, int32_t partition, int64_t offset) {
    int rc = lt_consumer_enter_event(c);
    return rc != 0 ? rc : lt_consumer_leave(c, consumer_seek(c, topic, partition, offset));
}
