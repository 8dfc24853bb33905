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
    int rc = lt_pin_add(c->mq, LT_PIN_POLL, &s->pinned, &token);
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

static int64_t poll_end(const leat_consumer *c, const struct lt_partition *p) {
    return atomic_load_explicit(c->durable ? &p->durable_end : &p->end, memory_order_acquire);
}

// Before a partition is read: is it there, and is the place to go on?
static int poll_place(leat_consumer *c, struct lt_consumer_part *part) {
    const struct lt_partition *p = part->cursor.p;
    int rc = lt_topic_alive(p->topic);
    if (rc != 0)
        return rc;
    int64_t begin = atomic_load(&p->begin), at = part->cursor.offset;
    if (at >= begin)
        return 0;
    if (at < 0)
        return lt_fail(LEAT_ERANGE,
                       "topic %s partition %d: no committed offset, and .start is NONE",
                       p->topic->name, p->number);
    if (c->start == LEAT_NONE)
        return lt_fail(LEAT_ERANGE,
                       "topic %s partition %d begins at %lld, %lld was deleted, and "
                       ".start is NONE",
                       p->topic->name, p->number, (long long)begin, (long long)at);
    rc = lt_consumer_event(c, LEAT_EV_GAP, p, begin);
    if (rc == 0)
        lt_cursor_seek(&part->cursor, begin);
    return rc;
}

// Says, once for each place, that all there was had been returned before this poll.
static int poll_at_end(leat_consumer *c, struct lt_consumer_part *part, int64_t end) {
    if (!c->report_end || part->cursor.offset != end || part->end_told == end)
        return 0;
    int rc = lt_consumer_event(c, LEAT_EV_END, part->cursor.p, end);
    if (rc == 0)
        part->end_told = end;
    return rc;
}

// Finds the next record below end. What was stepped over to it is told.
static int poll_find(leat_consumer *c, struct lt_consumer_part *part, int64_t end) {
    int64_t from = part->cursor.offset;
    int rc = lt_cursor_find(&part->cursor, end);
    if (rc < 0 || part->cursor.offset == from)
        return rc;
    int told = lt_consumer_event(c, LEAT_EV_GAP, part->cursor.p, part->cursor.offset);
    if (told == 0)
        return rc;
    lt_cursor_seek(&part->cursor, from);
    return told;
}

struct poll_take { // what a poll has, and may still take
    size_t n;
    int64_t bytes;
};

// Reads from one partition behind the messages that are there. An error after the first message is
// left to the next poll, or those read would be lost to the caller.
static int poll_read(leat_consumer *c, struct lt_consumer_part *part, struct poll_take *take) {
    int rc = poll_place(c, part);
    if (rc != 0)
        return rc;
    int64_t end = poll_end(c, part->cursor.p), bytes = take->bytes;
    size_t n = take->n;
    while (n < c->records_max &&
           (lt_cursor_stands(&part->cursor, end) || (rc = poll_find(c, part, end)) == 1)) {
        int64_t size = lt_cursor_size(&part->cursor);
        if (size > bytes && n > 0) {
            bytes = 0; // this poll is full
            break;
        }
        rc = consumer_message_room(c, n);
        if (rc == 0)
            rc = consumer_pin(c, part);
        if (rc != 0)
            break;
        lt_cursor_read(&part->cursor, &c->messages[n]);
        c->messages[n++].view = part->token;
        bytes -= size;
        lt_cursor_advance(&part->cursor, size);
    }
    if (n > take->n)
        part->returned = part->uncommitted = true;
    else if (rc == 0)
        rc = poll_at_end(c, part, end);
    take->n = n;
    take->bytes = bytes;
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
    struct poll_take take = { .bytes = c->bytes_max };
    for (size_t k = 0; k < c->part_count && take.n < c->records_max && take.bytes > 0; k++) {
        size_t i = (c->turn + k) % c->part_count;
        struct lt_consumer_part *part = &c->part[i];
        if (part->held)
            continue;
        int rc = part->paused ? lt_topic_alive(part->cursor.p->topic) : poll_read(c, part, &take);
        if (rc != 0 && take.n == 0 && !lt_consumer_without(c, part->cursor.p->topic))
            return rc;
    }
    c->turn = c->part_count ? (c->turn + 1) % c->part_count : 0;
    *n = take.n;
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

// ---- waiting

struct poll_wait {
    int64_t timeout_ms, deadline, more_until; // times: -1: the clock was not read yet
    bool lacks;                               // there are fewer bytes than are waited for
    bool enough;                              // they were waited for
};

int lt_consumer_bytes(leat_consumer *c, int64_t *bytes) {
    *bytes = 0;
    for (size_t i = 0; i < c->part_count && *bytes < c->bytes_min; i++) {
        struct lt_consumer_part *part = &c->part[i];
        int64_t some = 0;
        if (part->paused || part->held)
            continue;
        part->seen = poll_end(c, part->cursor.p);
        int rc = lt_partition_bytes_between(part->cursor.p, part->cursor.offset, part->seen, &some);
        if (rc != 0 && !lt_consumer_without(c, part->cursor.p->topic))
            return rc;
        *bytes += some;
    }
    return 0;
}

// Is there less than .fetch_min_bytes, and time to wait for more?
static int poll_lacks(leat_consumer *c, struct poll_wait *w) {
    w->lacks = false;
    if (c->bytes_min <= 1 || w->enough || w->timeout_ms == 0 || c->wait_ms == LEAT_ZERO)
        return 0;
    int64_t bytes;
    int rc = lt_consumer_bytes(c, &bytes);
    if (rc != 0 || bytes >= c->bytes_min)
        return rc;
    if (w->more_until < 0)
        w->more_until = lt_add_ms(lt_now_ns(c->mq), c->wait_ms ? c->wait_ms : w->timeout_ms);
    w->lacks = true;
    return 0;
}

bool lt_consumer_arm(leat_consumer *c, bool lacks) {
    lt_waiter_arm(c->mq, &c->waiter);
    if (atomic_load(&c->woken) || (c->group && atomic_load(&c->member.stale)) ||
        consumer_topics_alive(c) != 0)
        return true;
    for (size_t i = 0; i < c->part_count; i++) {
        struct lt_cursor *at = &c->part[i].cursor;
        if (c->part[i].held)
            continue;
        if (c->part[i].paused && lt_topic_alive(at->p->topic) == 0)
            continue;
        int64_t from = lacks && c->part[i].seen > at->offset ? c->part[i].seen : at->offset;
        if (c->durable ? lt_partition_arm_durable(at->p, from) : lt_partition_arm(at->p, from))
            return true;
    }
    return false;
}

// Waits for news. Returns  1: look again; 0: the time is over.
static int poll_sleep(leat_consumer *c, struct poll_wait *w) {
    if (w->deadline < 0) {
        w->deadline = lt_add_ms(lt_now_ns(c->mq), w->timeout_ms);
        lt_back_off(c->mq);
        return 1;
    }
    if (lt_consumer_arm(c, w->lacks))
        return 1;
    bool sooner = w->lacks && w->more_until < w->deadline;
    int rc = lt_wait(c->mq, &c->waiter, sooner ? w->more_until : w->deadline);
    if (rc != LEAT_ETIMEDOUT)
        return rc == 0 ? 1 : rc;
    bool more = w->lacks; // what there is, then
    w->enough = true;
    return more;
}

// Takes over and gives up partitions. Returns  1: c is to look at its events before it goes on.
static int poll_settle(leat_consumer *c) {
    for (;;) {
        int rc = lt_consumer_rebalance(c, true);
        if (rc < 0)
            return rc;
        if (rc == 1)
            lt_commit_automatic(c, true, true);
        lt_consumer_tell(c);
        lt_commits_tell(c);
        if (rc == 0 || c->asks)
            return rc;
    }
}

// Nothing to take over or to tell, and nobody to wake up for: as nearly always.
static bool poll_calm(const leat_consumer *c) {
    return !atomic_load(&c->member.stale) && !c->commits && !lt_consumer_has_to_tell(c) &&
           !atomic_load(&c->woken);
}

int lt_consumer_poll(leat_consumer *c, int64_t timeout_ms, size_t *n) {
    struct poll_wait w = { .timeout_ms = timeout_ms, .deadline = -1, .more_until = -1 };
    for (;;) {
        int rc = 0;
        if (!poll_calm(c)) {
            rc = poll_settle(c);
            if (rc == 0 && lt_consumer_woken(c))
                return 0;
        }
        if (rc == 0)
            rc = poll_lacks(c, &w);
        if (rc == 0 && !w.lacks)
            rc = consumer_gather_more(c, timeout_ms != 0, n);
        if (rc != 0)
            return rc < 0 ? rc : 0;
        if (lt_consumer_has_to_tell(c))
            lt_consumer_tell(c);
        if (*n > 0 || timeout_ms == 0 || (c->asks && c->event_count > 0))
            return 0;
        rc = poll_sleep(c, &w);
        if (rc <= 0)
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
    if (c->interval_ms)
        lt_consumer_expire(c, false);
    lt_consumer_end_views(c);
    if (c->auto_ms)
        lt_commit_automatic(c, false, false);
    rc = lt_consumer_poll(c, timeout_ms, &n);
    if (c->interval_ms)
        lt_consumer_expire(c, true);
    if (rc == 0) {
        if (lt_beacon_asked(&c->beacon))
            lt_consumer_rest(c, n);
        *m = c->messages;
        rc = (int)n;
        uint64_t read = atomic_load_explicit(&c->read, memory_order_relaxed);
        atomic_store_explicit(&c->read, read + n, memory_order_relaxed);
    }
    return lt_consumer_leave(c, rc);
}
