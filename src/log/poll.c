/* SPDX-License-Identifier: MIT */
// poll: how messages are got, and waited for.
#include "log/consumer.h"

enum { CONSUMER_FEW = 8, CONSUMER_PATIENCE_MAX = 4096 };

void lt_consumer_end_views(leat_consumer *c) {
    while (c->old_count > 0)
        (void)lt_pin_end(c->mq, c->old_tokens[--c->old_count], LT_PIN_POLL);
    for (size_t i = 0; i < c->part_count; i++) {
        struct lt_consumer_part *part = &c->part[i];
        if (part->returned)
            part->token = lt_pin_renew(c->mq, part->token);
        part->returned = false;
    }
}

// Makes part's token pin the segment that its cursor is in.
static int consumer_pin(leat_consumer *c, struct lt_consumer_part *part) {
    struct lt_segment *s = part->cursor.seg;
    if (part->pinned == s)
        return 0;
    if (part->token && c->old_count == c->old_room) {
        size_t room = c->old_room ? 2 * c->old_room : 8;
        uint64_t *grown = lt_resize(&c->mq->mem, c->old_tokens, room * sizeof *grown);
        if (!grown)
            return lt_fail_nomem();
        c->old_tokens = grown;
        c->old_room = room;
    }
    uint64_t token;
    lt_segment_keep(s);
    int rc = lt_pin_add(c->mq, LT_PIN_POLL, &s->pinned, NULL, &token);
    if (rc != 0) {
        lt_segment_drop(s);
        return rc;
    }
    if (part->token)
        c->old_tokens[c->old_count++] = part->token;
    part->token = token;
    part->pinned = s;
    return 0;
}

static int consumer_message_room(leat_consumer *c, size_t n) {
    if (n < c->message_room)
        return 0;
    size_t room = c->message_room ? 2 * c->message_room : 64;
    if (room > c->records_max)
        room = c->records_max;
    leat_message *grown = lt_resize(&c->mq->mem, c->messages, room * sizeof *grown);
    if (!grown)
        return lt_fail_nomem();
    c->messages = grown;
    c->message_room = room;
    return 0;
}

// Reads from one partition behind the *n messages that are there. An error after the first
// message is left to the next poll, or those read would be lost to the caller.
static int consumer_read(leat_consumer *c, struct lt_consumer_part *part, size_t *n) {
    const struct lt_partition *p = part->cursor.p;
    int rc = lt_topic_alive(p->topic);
    if (rc == 0 && part->cursor.offset < 0)
        rc = lt_fail(LEAT_ERANGE, "topic %s partition %d: no committed offset, and .start is NONE",
                     p->topic->name, p->number);
    if (rc != 0)
        return rc;
    int64_t begin = atomic_load(&p->begin);
    if (part->cursor.offset < begin)
        lt_cursor_seek(&part->cursor, begin); // deleted before it was read
    int64_t end =
        atomic_load_explicit(c->durable ? &p->durable_end : &p->end, memory_order_acquire);
    while (*n < c->records_max && (rc = lt_cursor_find(&part->cursor, end)) == 1) {
        rc = consumer_message_room(c, *n);
        if (rc == 0)
            rc = consumer_pin(c, part);
        if (rc != 0)
            return rc;
        lt_cursor_read(&part->cursor, &c->messages[*n]);
        c->messages[*n].view = part->token;
        part->returned = part->uncommitted = true;
        lt_cursor_advance(&part->cursor);
        ++*n;
    }
    return rc < 0 ? rc : 0;
}

// LEAT_EGONE if a topic that c is subscribed to was deleted, also if c has no partition of it. Only
// c's own calls write the member's topics, so this one may read them without the lock.
static int consumer_topics_alive(const leat_consumer *c) {
    int rc = 0;
    for (size_t i = 0; i < c->member.topic_count && rc == 0; i++)
        rc = lt_topic_alive(c->member.topics[i]);
    return rc;
}

static int consumer_gather(leat_consumer *c, size_t *n) {
    *n = 0;
    for (size_t k = 0; k < c->part_count && *n < c->records_max; k++) {
        size_t i = (c->turn + k) % c->part_count;
        int rc = consumer_read(c, &c->part[i], n);
        if (rc != 0 && *n == 0)
            return rc;
    }
    c->turn = c->part_count ? (c->turn + 1) % c->part_count : 0;
    return *n > 0 ? 0 : consumer_topics_alive(c);
}

// A consumer that keeps pace with its producers would take every message off the cache line that is
// being written to, which costs both more than all the rest: after some polls in a row that found
// little it lets more come in first. Where that does not help it is tried more and more rarely.
static int consumer_gather_more(leat_consumer *c, bool may_wait, size_t *n) {
    bool late = may_wait && c->few >= c->patience;
    if (late)
        lt_back_off(c->mq);
    int rc = consumer_gather(c, n);
    if (late && *n >= CONSUMER_FEW)
        c->patience = LT_CONSUMER_PATIENCE;
    else if (late && c->patience < CONSUMER_PATIENCE_MAX)
        c->patience *= 2;
    c->few = late || *n == 0 || *n >= CONSUMER_FEW ? 0 : c->few + (c->few < c->patience);
    return rc;
}

// Registers for news everywhere. Returns true if there is something to look at already.
static bool consumer_arm(leat_consumer *c) {
    lt_waiter_arm(c->mq, &c->waiter);
    if ((c->group && atomic_load(&c->member.stale)) || consumer_topics_alive(c) != 0)
        return true;
    for (size_t i = 0; i < c->part_count; i++) {
        struct lt_cursor *at = &c->part[i].cursor;
        if (c->durable ? lt_partition_arm_durable(at->p, at->offset)
                       : lt_partition_arm(at->p, at->offset))
            return true;
    }
    return false;
}

static int consumer_poll(leat_consumer *c, int64_t timeout_ms, size_t *n) {
    int64_t deadline = -1;
    lt_consumer_end_views(c);
    for (;;) {
        int rc = lt_consumer_rebalance(c, true);
        if (rc == 0)
            rc = consumer_gather_more(c, timeout_ms != 0, n);
        if (rc != 0 || *n > 0 || timeout_ms == 0)
            return rc;
        if (deadline < 0) {
            deadline = lt_add_ms(lt_now_ns(c->mq), timeout_ms);
            lt_back_off(c->mq);
            continue;
        }
        if (consumer_arm(c))
            continue;
        rc = lt_wait(c->mq, &c->waiter, deadline);
        if (rc == LEAT_ETIMEDOUT)
            return 0;
        if (rc != 0)
            return rc;
    }
}

int leat_poll(leat_consumer *c, int64_t timeout_ms, const leat_message **m) {
    if (!m)
        return lt_fail(LEAT_EINVAL, "poll: the messages' pointer is NULL");
    *m = NULL;
    int rc = lt_check_timeout(timeout_ms);
    if (rc == 0)
        rc = lt_consumer_enter(c);
    if (rc != 0)
        return rc;
    size_t n = 0;
    rc = consumer_poll(c, timeout_ms, &n);
    if (rc == 0) {
        *m = c->messages;
        rc = (int)n;
        uint64_t read = atomic_load_explicit(&c->read, memory_order_relaxed);
        atomic_store_explicit(&c->read, read + n, memory_order_relaxed);
    }
    return lt_consumer_leave(c, rc);
}
