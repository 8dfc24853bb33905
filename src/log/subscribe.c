/* SPDX-License-Identifier: MIT */
// subscribe: which partitions a consumer is to read.
#include "base/glob.h"
#include "log/consumer.h"

bool lt_consumer_without(const leat_consumer *c, const leat_topic *t) {
    return atomic_load_explicit(&t->gone, memory_order_relaxed) && !c->assigned &&
           !lt_member_named(&c->member, t);
}

static int consumer_subscribe_name(leat_consumer *c, const char *topic) {
    int rc = lt_check_name("topic", topic);
    if (rc != 0)
        return rc;
    leat_topic *t = lt_topic_find(c->mq, topic);
    if (!t)
        return lt_fail(LEAT_ENOENT, "topic %s does not exist", topic);
    rc = lt_consumer_listen(c, t);
    return rc != 0 ? rc : lt_group_subscribe(c->group, &c->member, t);
}

static int consumer_subscribe(leat_consumer *c, const char *topic) {
    if (!c->group)
        return lt_fail(LEAT_EINVAL, "a consumer without a group cannot subscribe; assign");
    if (c->assigned)
        return lt_fail(LEAT_EINVAL, "the consumer is assigned by hand");
    if (!topic) {
        lt_consumer_expire(c, false);
        lt_commit_automatic(c, true, false);
        lt_consumer_revoke_all(c);
        lt_consumer_drop_all(c);
        lt_group_leave(c->group, &c->member);
        return 0;
    }
    bool all = lt_is_pattern(topic);
    int rc = all ? lt_check_pattern(topic) : consumer_subscribe_name(c, topic);
    if (rc == 0 && all)
        rc = lt_group_subscribe_pattern(c->group, &c->member, topic);
    if (rc == 0)
        lt_consumer_expire(c, true);
    return rc;
}

int leat_consumer_subscribe(leat_consumer *c, const char *topic) {
    int rc = lt_consumer_enter(c);
    return rc != 0 ? rc : lt_consumer_leave(c, consumer_subscribe(c, topic));
}

static int consumer_assign_one(leat_consumer *c, const leat_position *pos) {
    int rc = lt_check_name("topic", pos->topic);
    if (rc != 0)
        return rc;
    leat_topic *t = lt_topic_find(c->mq, pos->topic);
    if (!t)
        return lt_fail(LEAT_ENOENT, "topic %s does not exist", pos->topic);
    struct lt_partition *p = lt_topic_partition(t, pos->partition);
    if (!p)
        return LEAT_ERANGE;
    int64_t offset;
    rc = lt_offset_resolve(p, -1, pos->offset, &offset);
    if (rc == 0 && lt_consumer_find(c, t, pos->partition))
        rc = lt_fail(LEAT_EINVAL, "topic %s partition %d is assigned twice", t->name,
                     pos->partition);
    if (rc == 0)
        rc = lt_consumer_listen(c, t);
    return rc != 0 ? rc : lt_consumer_add_part(c, p, offset);
}

static int consumer_assign(leat_consumer *c, const leat_position *p, size_t n) {
    if (c->member.topic_count + c->member.pattern_count > 0)
        return lt_fail(LEAT_EINVAL, "the consumer is subscribed");
    if (n > 0 && !p)
        return lt_fail(LEAT_EINVAL, "assign: the positions are NULL");
    // The new ones are added behind the old ones, which go only when all is well.
    struct lt_consumer_part *old = c->part;
    size_t old_count = c->part_count, old_room = c->part_room;
    c->part = NULL;
    c->part_count = c->part_room = 0;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = consumer_assign_one(c, &p[i]);
    struct lt_consumer_part *gone = rc == 0 ? old : c->part;
    size_t gone_count = rc == 0 ? old_count : c->part_count;
    if (rc != 0) {
        c->part = old;
        c->part_count = old_count;
        c->part_room = old_room;
    } else {
        c->assigned = n > 0;
        if (c->group)
            lt_group_by_hand(c->group, &c->member, c->assigned);
        c->turn = 0;
        while (c->old_count > 0)
            (void)lt_pin_end(c->mq, c->old_tokens[--c->old_count], LT_PIN_POLL);
    }
    for (size_t i = 0; i < gone_count; i++) {
        if (gone[i].token)
            (void)lt_pin_end(c->mq, gone[i].token, LT_PIN_POLL);
        lt_cursor_fini(&gone[i].cursor);
    }
    lt_free(&c->mq->mem, gone);
    lt_beacon_raise(&c->beacon);
    return rc;
}

int leat_consumer_assign(leat_consumer *c, const leat_position *p, size_t n) {
    int rc = lt_consumer_enter(c);
    return rc != 0 ? rc : lt_consumer_leave(c, consumer_assign(c, p, n));
}
