/* SPDX-License-Identifier: MIT */
// consumer: positions in partitions, and the poll that moves them.
//
// The happy path of a poll: end the views of the last poll, take over and give up partitions if
// the group has shared out anew, read what is there. If nothing is: back off, register for news
// with each partition, look once more, wait. What poll returned is pinned by one token per
// partition and segment; the tokens end at the next poll.
#include "leat_test.h"
#include "log/group.h"
#include "log/log.h"

#include <string.h>

enum { CONSUMER_RECORDS = 500, CONSUMER_RECORDS_MAX = 10000 };
enum { CONSUMER_FEW = 8, CONSUMER_PATIENCE = 3, CONSUMER_PATIENCE_MAX = 4096 };

struct consumer_part {
    struct lt_cursor cursor;   // offset -1: no place to start, see LEAT_NONE
    struct lt_segment *pinned; // the segment that token pins, borrowed from the token
    uint64_t token;            // 0: none
    bool returned;             // the last poll returned messages under this token
    bool uncommitted;          // some poll has returned messages since the last commit
};

struct consumer_ear { // one per topic that is read
    struct lt_ear ear;
    leat_consumer *c;
    leat_topic *topic;
    struct lt_node node;
};

struct leat_consumer {
    leat *mq;
    struct lt_child child;
    const char *name;
    atomic_bool busy; // a call is in progress: acquire on entry, release on leaving
    int32_t start;
    bool durable; // reads below the durable end only
    bool commit_disk;
    _Atomic uint64_t read; // messages that poll returned; relaxed, written by its own calls alone
    size_t records_max;
    struct lt_group *group; // NULL: none
    struct lt_member member;
    bool assigned; // by hand
    struct lt_waiter waiter;
    struct lt_list ears;
    struct consumer_part *part;
    size_t part_count, part_room, turn; // turn: which one poll reads first
    const leat_topic *lost; // a poll gave up a partition of it uncommitted: the next commit says so
    int32_t lost_partition;
    leat_message *messages;
    size_t message_room;
    uint64_t *old_tokens; // of segments left during the last poll
    size_t old_count, old_room;
    int few, patience; // see consumer_gather_more
};

// ---- entering and leaving a call: one thread at a time

static int consumer_enter(leat_consumer *c) {
    int rc = lt_begin(c ? c->mq : NULL, LT_CALL);
    if (rc != 0)
        return rc;
    if (!atomic_exchange_explicit(&c->busy, true, memory_order_acquire))
        return 0;
    return lt_end(c->mq, lt_fail(LEAT_EBUSY, "another thread is in a call of consumer %s",
                                 c->name ? c->name : "(unnamed)"));
}

static int consumer_leave(leat_consumer *c, int rc) {
    leat *counted = lt_counts(c->mq) ? c->mq : NULL;
    atomic_store_explicit(&c->busy, false, memory_order_release); // now another may close all
    return counted ? lt_end_counted(counted, rc) : rc;
}

// ---- the partitions of a consumer

static struct consumer_part *consumer_find(leat_consumer *c, const leat_topic *t,
                                           int32_t partition) {
    for (size_t i = 0; i < c->part_count; i++)
        if (c->part[i].cursor.p->topic == t && c->part[i].cursor.p->number == partition)
            return &c->part[i];
    return NULL;
}

static int consumer_add_part(leat_consumer *c, struct lt_partition *p, int64_t offset) {
    if (c->part_count == c->part_room) {
        size_t room = c->part_room ? 2 * c->part_room : 4;
        struct consumer_part *grown = lt_resize(&c->mq->mem, c->part, room * sizeof *grown);
        if (!grown)
            return lt_fail_nomem();
        c->part = grown;
        c->part_room = room;
    }
    struct consumer_part *part = &c->part[c->part_count++];
    *part = (struct consumer_part){ 0 };
    lt_cursor_init(&part->cursor, p, offset);
    return 0;
}

static void consumer_drop_part(leat_consumer *c, struct consumer_part *part) {
    if (part->token)
        (void)lt_pin_end(c->mq, part->token, LT_PIN_POLL);
    lt_cursor_fini(&part->cursor);
    size_t i = (size_t)(part - c->part);
    memmove(part, part + 1, (c->part_count - i - 1) * sizeof *part);
    c->part_count--;
}

static int64_t consumer_start(const leat_consumer *c, const struct lt_partition *p,
                              int64_t committed) {
    int64_t begin = atomic_load(&p->begin), end = atomic_load(&p->end);
    if (committed >= begin)
        return committed < end ? committed : end;
    if (c->start == LEAT_NONE)
        return -1;
    return c->start == LEAT_LATEST ? end : begin;
}

// ---- news: one ear per topic

static void consumer_hear(struct lt_ear *ear) {
    leat_consumer *c = LT_CONTAINER(ear, struct consumer_ear, ear)->c;
    lt_waiter_notify(c->mq, &c->waiter);
}

static int consumer_listen(leat_consumer *c, leat_topic *t) {
    for (struct lt_node *n = lt_list_first(&c->ears); n; n = lt_list_next(&c->ears, n))
        if (LT_CONTAINER(n, struct consumer_ear, node)->topic == t)
            return 0;
    struct consumer_ear *e = lt_zalloc(&c->mq->mem, sizeof *e);
    if (!e)
        return lt_fail_nomem();
    e->ear.hear = consumer_hear;
    e->c = c;
    e->topic = t;
    lt_list_push_back(&c->ears, &e->node);
    lt_bell_add(&t->bell, &e->ear);
    return 0;
}

static void consumer_deafen(leat_consumer *c) {
    struct lt_node *n;
    while ((n = lt_list_first(&c->ears))) {
        struct consumer_ear *e = LT_CONTAINER(n, struct consumer_ear, node);
        lt_bell_remove(&e->topic->bell, &e->ear);
        lt_list_remove(n);
        lt_free(&c->mq->mem, e);
    }
}

// ---- rebalance, from the member's side

static int consumer_take_over(leat_consumer *c, struct lt_group_topic *gt, int32_t i, bool give) {
    struct lt_claim *claim = &gt->claim[i];
    struct consumer_part *part = consumer_find(c, gt->topic, i);
    if (claim->owner == &c->member && claim->target != &c->member) {
        if (!give)
            return 0;
        if (part && part->uncommitted) {
            c->lost = gt->topic;
            c->lost_partition = i;
        }
        if (part)
            consumer_drop_part(c, part);
        lt_group_give_locked(c->group, claim);
        return 0;
    }
    if (claim->owner != &c->member || part)
        return 0;
    struct lt_partition *p = lt_topic_part(gt->topic, i);
    int64_t committed = claim->slot ? claim->slot->values[0] : -1;
    return consumer_add_part(c, p, consumer_start(c, p, committed));
}

// give: this is a poll, so partitions that another member is to have, and their views, go.
static int consumer_rebalance(leat_consumer *c, bool give) {
    struct lt_group *g = c->group;
    if (!g || !atomic_load(&c->member.stale))
        return 0;
    int rc = 0;
    lt_lock(&g->lock);
    if (give)
        atomic_store(&c->member.stale, false);
    for (struct lt_node *n = lt_list_first(&g->topics); n && rc == 0;
         n = lt_list_next(&g->topics, n)) {
        struct lt_group_topic *gt = LT_CONTAINER(n, struct lt_group_topic, node);
        for (int32_t i = 0; i < gt->count && rc == 0; i++)
            rc = consumer_take_over(c, gt, i, give);
    }
    if (rc != 0)
        atomic_store(&c->member.stale, true); // the rest at the next poll
    lt_unlock(&g->lock);
    return rc;
}

// ---- poll

static void consumer_end_views(leat_consumer *c) {
    while (c->old_count > 0)
        (void)lt_pin_end(c->mq, c->old_tokens[--c->old_count], LT_PIN_POLL);
    for (size_t i = 0; i < c->part_count; i++) {
        struct consumer_part *part = &c->part[i];
        if (part->returned)
            part->token = lt_pin_renew(c->mq, part->token);
        part->returned = false;
    }
}

// Makes part's token pin the segment that its cursor is in.
static int consumer_pin(leat_consumer *c, struct consumer_part *part) {
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
static int consumer_read(leat_consumer *c, struct consumer_part *part, size_t *n) {
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
        c->patience = CONSUMER_PATIENCE;
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
    consumer_end_views(c);
    for (;;) {
        int rc = consumer_rebalance(c, true);
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
        rc = consumer_enter(c);
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
    return consumer_leave(c, rc);
}

// ---- open and close

static int consumer_close_child(struct lt_child *child, int64_t timeout_ms) {
    (void)timeout_ms;
    return leat_consumer_close(LT_CONTAINER(child, leat_consumer, child));
}

static bool consumer_child_busy(const struct lt_child *child) {
    return atomic_load(&LT_CONTAINER(child, leat_consumer, child)->busy);
}

static void consumer_child_count(const struct lt_child *child, leat_stats *s) {
    s->read += atomic_load_explicit(&LT_CONTAINER(child, leat_consumer, child)->read,
                                    memory_order_relaxed);
}

static void consumer_drop_all(leat_consumer *c) {
    consumer_end_views(c);
    while (c->part_count > 0)
        consumer_drop_part(c, &c->part[c->part_count - 1]);
    consumer_deafen(c);
    c->lost = NULL;
}

static void consumer_free(leat_consumer *c) {
    struct lt_mem *mem = &c->mq->mem;
    lt_free(mem, c->member.topics);
    lt_free(mem, c->old_tokens);
    lt_free(mem, c->messages);
    lt_free(mem, c->part);
    lt_free(mem, c);
}

static int consumer_check(const leat_consumer_options *o) {
    int rc = lt_check_reserved("consumer options", o->reserved, 8);
    if (rc == 0 && (o->start < 0 || o->start > LEAT_NONE))
        rc = lt_fail(LEAT_EINVAL, "consumer options: start is %d", o->start);
    if (rc == 0 && (o->isolation < 0 || o->isolation > LEAT_READ_DURABLE))
        rc = lt_fail(LEAT_EINVAL, "consumer options: isolation is %d", o->isolation);
    if (rc == 0 && o->commit_acks != LEAT_ACKS_DEFAULT && o->commit_acks != LEAT_ACKS_LOG &&
        o->commit_acks != LEAT_ACKS_DISK)
        rc = lt_fail(LEAT_EINVAL, "consumer options: commit_acks is %d", o->commit_acks);
    if (rc == 0 && (o->max_poll_records < 0 || o->max_poll_records > CONSUMER_RECORDS_MAX))
        rc = lt_fail(LEAT_EINVAL, "consumer options: max_poll_records is %d; 1 to %d",
                     o->max_poll_records, CONSUMER_RECORDS_MAX);
    return rc;
}

static leat_consumer *consumer_new(leat *mq, const leat_consumer_options *o) {
    leat_consumer *c = lt_zalloc(&mq->mem, sizeof *c);
    if (!c) {
        (void)lt_fail_nomem();
        return NULL;
    }
    c->mq = mq;
    c->durable = o->isolation == LEAT_READ_DURABLE;
    c->commit_disk = o->commit_acks == LEAT_ACKS_DISK;
    c->start = o->start ? o->start : LEAT_EARLIEST;
    c->records_max = o->max_poll_records ? (size_t)o->max_poll_records : CONSUMER_RECORDS;
    c->patience = CONSUMER_PATIENCE;
    c->name = o->name ? lt_keep_name(mq, o->name) : NULL; // lags give it out
    c->member.name = c->name;
    c->member.waiter = &c->waiter;
    lt_node_init(&c->member.node);
    lt_list_init(&c->ears);
    if ((!o->name || c->name) && lt_waiter_init(mq, &c->waiter) == 0)
        return c;
    consumer_free(c);
    (void)lt_fail_nomem();
    return NULL;
}

int leat_consumer_open(leat *mq, const char *group, const leat_consumer_options *o,
                       leat_consumer **out) {
    static const leat_consumer_options defaults;
    o = o ? o : &defaults;
    if (!out)
        return lt_fail(LEAT_EINVAL, "consumer open: out is NULL");
    *out = NULL;
    int rc = lt_enter(mq, LT_CALL);
    if (rc == 0)
        rc = consumer_check(o);
    if (rc == 0 && group)
        rc = lt_check_name("group", group);
    if (rc != 0)
        return rc;
    leat_consumer *c = consumer_new(mq, o);
    rc = c ? lt_begin(mq, LT_CALL) : LEAT_ENOMEM;
    if (c && rc == 0)
        rc = lt_end(mq, group ? lt_group_open(mq, group, &c->group) : 0);
    if (rc != 0 && c) {
        lt_waiter_fini(mq, &c->waiter);
        consumer_free(c);
    }
    if (rc != 0)
        return rc;
    c->child = (struct lt_child){ .kind = "consumer",
                                  .name = c->name ? c->name : group,
                                  .close = consumer_close_child,
                                  .busy = consumer_child_busy,
                                  .count = consumer_child_count };
    if (c->group)
        c->child.name = c->name ? c->name : c->group->name;
    lt_child_add(mq, &c->child);
    *out = c;
    return 0;
}

int leat_consumer_close(leat_consumer *c) {
    int rc = lt_enter(c ? c->mq : NULL, LT_CALL_SHUT);
    if (rc != 0)
        return rc;
    if (atomic_exchange_explicit(&c->busy, true, memory_order_acquire))
        return lt_fail(LEAT_EBUSY, "another thread is in a call of consumer %s",
                       c->name ? c->name : "(unnamed)");
    consumer_drop_all(c);
    if (c->group)
        lt_group_leave(c->group, &c->member);
    lt_child_remove(c->mq, &c->child);
    atomic_fetch_add_explicit(&c->mq->read_gone, c->read, memory_order_relaxed);
    lt_waiter_fini(c->mq, &c->waiter);
    consumer_free(c);
    return 0;
}

// ---- what to read

static int consumer_subscribe(leat_consumer *c, const char *topic) {
    if (!c->group)
        return lt_fail(LEAT_EINVAL, "a consumer without a group cannot subscribe; assign");
    if (c->assigned)
        return lt_fail(LEAT_EINVAL, "the consumer is assigned by hand");
    if (!topic) {
        consumer_drop_all(c);
        lt_group_leave(c->group, &c->member);
        return 0;
    }
    int rc = lt_check_name("topic", topic);
    if (rc != 0)
        return rc;
    leat_topic *t = lt_topic_find(c->mq, topic);
    if (!t)
        return lt_fail(LEAT_ENOENT, "topic %s does not exist", topic);
    rc = consumer_listen(c, t);
    return rc != 0 ? rc : lt_group_subscribe(c->group, &c->member, t);
}

int leat_consumer_subscribe(leat_consumer *c, const char *topic) {
    int rc = consumer_enter(c);
    return rc != 0 ? rc : consumer_leave(c, consumer_subscribe(c, topic));
}

static int consumer_resolve(const struct lt_partition *p, int64_t *offset) {
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
    int64_t offset = pos->offset;
    rc = consumer_resolve(p, &offset);
    if (rc == 0 && consumer_find(c, t, pos->partition))
        rc = lt_fail(LEAT_EINVAL, "topic %s partition %d is assigned twice", t->name,
                     pos->partition);
    if (rc == 0)
        rc = consumer_listen(c, t);
    return rc != 0 ? rc : consumer_add_part(c, p, offset);
}

static int consumer_assign(leat_consumer *c, const leat_position *p, size_t n) {
    if (c->member.topic_count > 0)
        return lt_fail(LEAT_EINVAL, "the consumer is subscribed");
    if (n > 0 && !p)
        return lt_fail(LEAT_EINVAL, "assign: the positions are NULL");
    // The new ones are added behind the old ones, which go only when all is well.
    struct consumer_part *old = c->part;
    size_t old_count = c->part_count, old_room = c->part_room;
    c->part = NULL;
    c->part_count = c->part_room = 0;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = consumer_assign_one(c, &p[i]);
    struct consumer_part *gone = rc == 0 ? old : c->part;
    size_t gone_count = rc == 0 ? old_count : c->part_count;
    if (rc != 0) {
        c->part = old;
        c->part_count = old_count;
        c->part_room = old_room;
    } else {
        c->assigned = n > 0;
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
    return rc;
}

int leat_consumer_assign(leat_consumer *c, const leat_position *p, size_t n) {
    int rc = consumer_enter(c);
    return rc != 0 ? rc : consumer_leave(c, consumer_assign(c, p, n));
}

// ---- positions

static int consumer_commit_part(leat_consumer *c, struct consumer_part *part) {
    const struct lt_cursor *at = &part->cursor;
    leat_topic *t = at->p->topic;
    int rc = lt_fault(c->mq, LEAT_OP_COMMIT, t->name, at->p->number, true);
    // The law of release: no durable slot is ahead of what can be read after a crash.
    if (rc == 0 && c->commit_disk)
        rc = lt_partition_sync(at->p, at->offset);
    if (rc == 0)
        rc = lt_group_commit(c->group, c->assigned ? NULL : &c->member, t, at->p->number,
                             at->offset);
    if (rc == 0)
        part->uncommitted = false;
    return rc;
}

// Makes the slots that were stored durable, and the note of the group that they belong to.
static int consumer_commit_sync(leat_consumer *c) {
    struct lt_log *log = c->mq->log;
    int rc = lt_manifest_sync(&log->manifest);
    if (rc == 0)
        rc = lt_slots_sync(&log->slots);
    return rc == 0 ? 0 : LEAT_EIO; // whatever the reason: they are stored, so "unknown"
}

static int consumer_commit(leat_consumer *c) {
    if (!c->group)
        return lt_fail(LEAT_EINVAL, "a consumer without a group cannot commit");
    int first = lt_check_writable(c->mq, "group", c->group->name);
    if (first != 0)
        return first;
    if (c->commit_disk && lt_slots_poisoned(&c->mq->log->slots))
        return lt_fail(LEAT_EPOISONED, "group %s: a sync of the slots has failed", c->group->name);
    bool stored = false;
    for (size_t i = 0; i < c->part_count; i++) {
        if (c->part[i].cursor.offset < 0)
            continue;
        int rc = consumer_commit_part(c, &c->part[i]);
        stored |= rc == 0;
        first = first ? first : rc;
    }
    if (stored && c->commit_disk) {
        int rc = consumer_commit_sync(c);
        first = rc ? rc : first;
    }
    if (first == 0 && c->lost) {
        first = lt_fail(LEAT_EFENCED,
                        "group %s: topic %s partition %d was left out: it went to another member",
                        c->group->name, c->lost->name, c->lost_partition);
        c->lost = NULL;
    }
    return first;
}

int leat_commit(leat_consumer *c) {
    int rc = consumer_enter(c);
    return rc != 0 ? rc : consumer_leave(c, consumer_commit(c));
}

int leat_consumer_positions(leat_consumer *c, int committed, leat_position *out, size_t max) {
    int rc = consumer_enter(c);
    if (rc != 0)
        return rc;
    if (max > 0 && !out)
        return consumer_leave(c, lt_fail(LEAT_EINVAL, "positions: out is NULL"));
    rc = consumer_rebalance(c, false);
    if (rc != 0)
        return consumer_leave(c, rc);
    for (size_t i = 0; i < c->part_count && i < max; i++) {
        const struct lt_cursor *at = &c->part[i].cursor;
        out[i] = (leat_position){ .topic = at->p->topic->name,
                                  .partition = at->p->number,
                                  .offset = at->offset };
        if (committed)
            out[i].offset =
                c->group ? lt_group_committed(c->group, at->p->topic, at->p->number) : -1;
    }
    return consumer_leave(c, (int)c->part_count);
}

static int consumer_seek(leat_consumer *c, const char *topic, int32_t partition, int64_t offset) {
    int rc = lt_check_name("topic", topic);
    if (rc == 0)
        rc = consumer_rebalance(c, false);
    if (rc != 0)
        return rc;
    leat_topic *t = lt_topic_find(c->mq, topic);
    struct consumer_part *part = t ? consumer_find(c, t, partition) : NULL;
    if (!part)
        return lt_fail(LEAT_ENOENT, "topic %s partition %d is not the consumer's", topic,
                       partition);
    rc = consumer_resolve(part->cursor.p, &offset);
    if (rc == 0)
        lt_cursor_seek(&part->cursor, offset);
    return rc;
}

int leat_consumer_seek(leat_consumer *c, const char *topic, int32_t partition, int64_t offset) {
    int rc = consumer_enter(c);
    return rc != 0 ? rc : consumer_leave(c, consumer_seek(c, topic, partition, offset));
}
