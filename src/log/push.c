/* SPDX-License-Identifier: MIT */
// push: a consumer whose messages go to a handler on n threads.
//
// Each partition has a lane: messages that were fetched and are not handled. The threads take the
// first message of the next ready lane; when none is ready one of them polls, and the others wait.
//
//   poll --> lane of p0 [m m m]  running   --> handler --> commit, next
//            lane of p1 [m m]    ready         RETRY   --> waits, then ready again
//            lane of p2 [m]      waiting       DEAD    --> dead-letter topic, commit, next
//
// Invariants
//  1. A lane is running on one thread at most, and only that thread looks at its messages then: so
//     a partition's messages are handled one at a time, in order.
//  2. A partition is polled only while its lane is empty (`held`), so no lane grows.
//  3. A partition passes on, in the poll, only when its lane is empty: lt_push_keeps makes the lane
//     leave, which commits what is owed and drops the rest.
//  4. What was fetched and is dropped is fetched again, should the partition stay: `back`.
//  5. A message is committed when its result is there, and before the next one begins (with
//     .commit_acks DISK: before its lane is empty, waits or leaves).
#include "base/glob.h"
#include "base/workers.h"
#include "log/consumer.h"

#include <string.h>

enum { PUSH_RETRY_MS = 1000, PUSH_RETRY_MAX_MS = 60000 };

struct lt_lane {
    struct lt_node all;   // in the push's lanes, until the end
    struct lt_node ready; // in ready, while a thread may take it
    struct lt_partition *p;
    uint32_t epoch; // of the consumer's claim when its messages were fetched
    bool running;   // guarded by the lock; what follows: by it, but the runner's while running
    bool leaving;   // guarded by the lock: what is not begun is not to be
    bool mine;      // guarded by the lock: the consumer has the partition
    bool late;      // the commit of owed has failed
    bool dying;     // the first message is to go to the dead letters: its handler has had its say
    int tries;      // of the first message, or of its letter
    int failed;     // tries of the commit, in a row
    int64_t due_ns; // LT_NEVER, or when it is ready again
    int64_t owed;   // to be committed; -1: nothing
    int64_t back;   // where the cursor is to go on; -1: where it is
    leat_message *m;
    size_t next, count, room;
    uint64_t *pin; // of their segments
    size_t pins, pin_room;
};

struct push_seat { // of a thread that waits
    struct lt_node node;
    struct lt_waiter waiter;
};

struct lt_push { // guarded by the workers' lock, but what does not change
    leat *mq;
    leat_consumer *c;
    leat_workers *w;
    leat_topic *dead; // NULL: what is dead is forgotten
    int64_t retry_ms;
    struct lt_list lanes, ready, idle;
    struct lt_due due; // a lane is ready again, or the poll may be tried again
    int64_t poll_ns;   // not before: the last one has failed
    bool polling;      // a thread is in poll, and has the consumer to itself
    struct push_seat *seat;
    int seats, taken;
};

static struct lt_lane *push_any_lane(struct lt_node *all) {
    return LT_CONTAINER(all, struct lt_lane, all);
}

// ---- who does what: the lock is held

static void push_wake_poll(struct lt_push *push) {
    if (push->polling && !atomic_exchange(&push->c->woken, true))
        lt_consumer_notify(push->c);
}

// Sees to it that n things that are to be done find a thread, if one is free.
static void push_wake(struct lt_push *push, size_t n) {
    struct lt_node *node;
    while (n > 0 && (node = lt_list_first(&push->idle))) {
        lt_list_remove(node);
        lt_waiter_notify(push->mq, &LT_CONTAINER(node, struct push_seat, node)->waiter);
        n--;
    }
    if (n > 0)
        push_wake_poll(push);
}

static void push_make_ready(struct lt_push *push, struct lt_lane *lane) {
    lane->due_ns = LT_NEVER;
    if (!lane->running && !lt_node_linked(&lane->ready))
        lt_list_push_back(&push->ready, &lane->ready);
}

static bool push_lane_empty(const struct lt_lane *lane) {
    return !lane->running && lane->next == lane->count && lane->owed < 0;
}

static void push_plan(struct lt_push *push) {
    int64_t first = push->poll_ns;
    for (struct lt_node *n = lt_list_first(&push->lanes); n; n = lt_list_next(&push->lanes, n))
        if (push_any_lane(n)->due_ns < first)
            first = push_any_lane(n)->due_ns;
    lt_due_set(push->mq, &push->due, first);
}

static void push_due(leat *mq, struct lt_due *due) {
    struct lt_push *push = LT_CONTAINER(due, struct lt_push, due);
    size_t news = 0;
    lt_lock(&push->w->lock);
    int64_t now = lt_now_ns(mq);
    for (struct lt_node *n = lt_list_first(&push->lanes); n; n = lt_list_next(&push->lanes, n)) {
        if (push_any_lane(n)->due_ns > now)
            continue;
        push_make_ready(push, push_any_lane(n));
        news++;
    }
    if (push->poll_ns <= now) {
        push->poll_ns = LT_NEVER;
        news++;
    }
    push_plan(push);
    push_wake(push, news);
    lt_unlock(&push->w->lock);
}

static bool push_drained(const struct lt_push *push) {
    for (struct lt_node *n = lt_list_first(&push->lanes); n; n = lt_list_next(&push->lanes, n))
        if (!push_lane_empty(push_any_lane(n)))
            return false;
    return !push->polling;
}

static bool push_over(const struct lt_push *push) {
    enum lt_workers_phase phase = push->w->phase;
    return phase == LT_WORKERS_HALT || atomic_load(&push->mq->shut) ||
           (phase == LT_WORKERS_DRAIN && push_drained(push));
}

// Ends the waits of all threads: there may be nothing left to do.
static void push_wake_all(leat_workers *w) {
    struct lt_push *push = w->self;
    push_wake(push, (size_t)push->seats + 1);
}

// ---- a message: its lane is running, the lock is not held

static void push_clear(leat *mq, struct lt_lane *lane) {
    if (lane->next < lane->count)
        lane->back = lane->m[lane->next].offset;
    while (lane->pins > 0)
        (void)lt_pin_end(mq, lane->pin[--lane->pins], LT_PIN_POLL);
    lane->next = lane->count = 0;
    lane->owed = -1;
    lane->tries = lane->failed = 0;
    lane->late = lane->dying = false;
}

static int64_t push_backoff(const struct lt_push *push, int tries) {
    int64_t most = push->retry_ms < PUSH_RETRY_MAX_MS ? PUSH_RETRY_MAX_MS : push->retry_ms;
    int64_t ms = push->retry_ms;
    for (int i = 1; i < tries && ms < most; i++)
        ms = ms < most / 2 ? 2 * ms : most;
    return ms;
}

static void push_say(const struct lt_push *push, const struct lt_lane *lane, const char *what,
                     int rc) {
    if (rc != LEAT_ECLOSED)
        lt_say(push->mq, LEAT_LOG_WARNING, "group %s, topic %s partition %d: %s: %s",
               push->c->group->name, lane->p->topic->name, lane->p->number, what, leat_errmsg());
}

// Also after a shutdown: what was handled is not to be handled again.
static int push_commit(struct lt_push *push, struct lt_lane *lane) {
    const struct lt_commit_at at = { .p = lane->p, .epoch = lane->epoch, .offset = lane->owed };
    int rc = lt_begin(push->mq, LT_CALL_CB | LT_CALL_SHUT);
    if (rc == 0)
        rc = lt_end(push->mq, lt_commit_many(push->c, &at, 1));
    lane->late = rc != 0;
    if (rc != 0) {
        push_say(push, lane, "commit", rc);
    } else {
        lane->owed = -1;
        lane->failed = 0;
    }
    return rc;
}

// Returns  0: there is nothing more to do for the message.
static int push_bury(struct lt_push *push, struct lt_lane *lane, const leat_message *m) {
    if (!push->dead)
        return 0;
    const struct lt_letter letter = { .message = m,
                                      .kind = "leat.group",
                                      .who = push->c->group->name,
                                      .deliveries = (uint32_t)m->deliveries,
                                      .reason = "handler",
                                      .to = push->dead };
    int rc = lt_begin(push->mq, LT_CALL);
    if (rc == 0)
        rc = lt_end(push->mq, lt_letter_send(&letter, NULL));
    if (rc != 0)
        push_say(push, lane, "dead letter", rc);
    return rc;
}

static void push_trace(const struct lt_push *push, const char *event, const leat_message *m,
                       int rc) {
    leat_metadata md = { .topic = m->topic, .partition = m->partition, .offset = m->offset };
    lt_trace(push->mq, event, push->c->group->name, &md, rc);
}

// Gives the first message to the handler, and does what its result asks for.
// Returns  how many ms to wait before the message, or its dead letter, is tried again; -1: it is
//          done.
static int64_t push_handle(struct lt_push *push, struct lt_lane *lane) {
    leat_message *m = &lane->m[lane->next];
    int64_t ms = 0;
    if (!lane->dying) {
        int result;
        lane->tries++;
        m->deliveries = lane->tries;
        ms = push_backoff(push, lane->tries);
        int64_t asked = ms;
        if (!lt_workers_call(push->w, m, &asked, &result))
            return ms; // and there will be no time for it
        if (result == LEAT_DONE)
            return -1;
        if (result != LEAT_DEAD) {
            push_trace(push, "retry", m, 0);
            return asked >= 0 ? asked : ms;
        }
        lane->tries = 0; // from now on: of the letter
    }
    int rc = push_bury(push, lane, m);
    lane->dying = rc != 0;
    push_trace(push, "dead", m, rc);
    if (rc == 0)
        return -1;
    return push_backoff(push, ++lane->tries);
}

// Does the next thing that is to be done for a lane. Returns  how many ms to wait before the next.
static int64_t push_step(struct lt_push *push, struct lt_lane *lane, bool leaves) {
    int rc = 0;
    if (lane->owed >= 0 && (leaves || lane->late))
        rc = push_commit(push, lane);
    if (!leaves && rc == 0 && lane->next < lane->count) {
        int64_t ms = push_handle(push, lane);
        if (ms < 0) {
            lane->owed = lane->m[lane->next++].offset + 1;
            lane->tries = 0;
            lane->dying = false;
        }
        if (lane->owed >= 0 && (ms >= 0 || !push->c->commit_disk || lane->next == lane->count))
            rc = push_commit(push, lane);
        if (rc == 0 && ms >= 0)
            return ms;
    }
    if (rc != 0 && rc != LEAT_EFENCED && rc != LEAT_EGONE && !leaves)
        return push_backoff(push, ++lane->failed);
    if (rc != 0 || leaves || lane->next == lane->count)
        push_clear(push->mq, lane); // what is not committed is read again
    return 0;
}

// ---- what a thread does: the lock is held at entry and exit

static void push_serve(struct lt_push *push, struct lt_lane *lane) {
    lt_list_remove(&lane->ready);
    lane->running = true;
    bool leaves = lane->leaving;
    lt_unlock(&push->w->lock);
    int64_t ms = push_step(push, lane, leaves);
    lt_due_fire(push->mq);
    int64_t due = ms > 0 ? lt_add_ms(lt_now_ns(push->mq), ms) : LT_NEVER;
    lt_lock(&push->w->lock);
    lane->running = false;
    if (!push->polling)
        lt_consumer_expire(push->c, true); // as long as handlers return, it is not stuck
    if (push_lane_empty(lane)) {
        if (lane->leaving)
            atomic_store(&push->c->member.stale, true); // it can pass on now
        lane->leaving = false;
        push_wake_poll(push); // to read on, or to give it up
    } else if (lane->leaving || ms == 0) {
        push_make_ready(push, lane);
    } else {
        lane->due_ns = due;
        push_plan(push);
    }
    if (push->w->phase != LT_WORKERS_RUN && push_over(push))
        push_wake_all(push->w);
}

static void push_wait(struct lt_push *push, struct push_seat *seat) {
    lt_waiter_arm(push->mq, &seat->waiter);
    lt_list_push_back(&push->idle, &seat->node);
    lt_unlock(&push->w->lock);
    (void)lt_wait(push->mq, &seat->waiter, LT_NEVER);
    lt_lock(&push->w->lock);
    lt_list_remove(&seat->node);
}

// ---- polling

static struct lt_lane *push_lane_find(struct lt_push *push, const struct lt_partition *p) {
    for (struct lt_node *n = lt_list_first(&push->lanes); n; n = lt_list_next(&push->lanes, n))
        if (push_any_lane(n)->p == p)
            return push_any_lane(n);
    return NULL;
}

// Gives the partitions that the poll has added their lanes. One that still has messages of an
// earlier time, when the partition was lost, is not for new ones.
static int push_lanes(struct lt_push *push) {
    leat_consumer *c = push->c;
    for (size_t i = 0; i < c->part_count; i++) {
        struct lt_consumer_part *part = &c->part[i];
        if (part->lane)
            continue;
        struct lt_lane *lane = push_lane_find(push, part->cursor.p);
        if (!lane) {
            lane = lt_zalloc(&push->mq->mem, sizeof *lane);
            if (!lane)
                return lt_fail_nomem();
            lane->p = part->cursor.p;
            lane->due_ns = LT_NEVER;
            lane->owed = -1;
            lt_node_init(&lane->ready);
            lt_list_push_back(&push->lanes, &lane->all);
        }
        lane->back = -1;
        part->lane = lane;
        part->held = !push_lane_empty(lane);
    }
    return 0;
}

// Says which partitions may be read, and makes the lanes leave of those that were lost.
static void push_look(struct lt_push *push) {
    leat_consumer *c = push->c;
    for (struct lt_node *n = lt_list_first(&push->lanes); n; n = lt_list_next(&push->lanes, n))
        push_any_lane(n)->mine = false;
    for (size_t i = 0; i < c->part_count; i++) {
        struct lt_lane *lane = c->part[i].lane;
        if (!lane)
            continue;
        lane->mine = true;
        c->part[i].held = !push_lane_empty(lane);
        if (!c->part[i].held && lane->back >= 0) {
            lt_cursor_seek(&c->part[i].cursor, lane->back);
            lane->back = -1;
        }
    }
    for (struct lt_node *n = lt_list_first(&push->lanes); n; n = lt_list_next(&push->lanes, n)) {
        struct lt_lane *lane = push_any_lane(n);
        if (lane->mine || push_lane_empty(lane))
            continue;
        lane->leaving = true;
        push_make_ready(push, lane);
    }
}

// Makes room for one message more and for its pin. Returns  LEAT_ENOMEM.
static int push_lane_room(struct lt_mem *mem, struct lt_lane *lane) {
    if (lane->count == lane->room) {
        size_t room = lane->room ? 2 * lane->room : 16;
        leat_message *grown = lt_resize(mem, lane->m, room * sizeof *grown);
        if (!grown)
            return lt_fail_nomem();
        lane->m = grown;
        lane->room = room;
    }
    if (lane->pins == lane->pin_room) {
        size_t room = lane->pin_room ? 2 * lane->pin_room : 4;
        uint64_t *grown = lt_resize(mem, lane->pin, room * sizeof *grown);
        if (!grown)
            return lt_fail_nomem();
        lane->pin = grown;
        lane->pin_room = room;
    }
    return 0;
}

// Puts a message into a lane. *view: the poll's of the message before it.
static int push_put(struct lt_push *push, struct lt_lane *lane, const leat_message *m,
                    uint64_t *view) {
    int rc = push_lane_room(&push->mq->mem, lane);
    if (rc != 0)
        return rc;
    if (lane->count == 0 || *view != m->view) {
        struct lt_pinned *obj = lt_pin_keep(push->mq, m->view);
        if (!obj)
            return LEAT_ESTALE;
        rc = lt_pin_add(push->mq, LT_PIN_POLL, obj, &lane->pin[lane->pins]);
        if (rc != 0) {
            obj->drop(obj); // not the last one: the poll has its own
            return rc;
        }
        lane->pins++;
        *view = m->view;
    }
    lane->m[lane->count] = *m;
    lane->m[lane->count++].view = lane->pin[lane->pins - 1];
    return 0;
}

// The partition of a message. *hint: where to begin to look.
static struct lt_consumer_part *push_part(const leat_consumer *c, const leat_message *m,
                                          size_t *hint) {
    for (size_t k = 0; k < c->part_count; k++, ++*hint) {
        struct lt_consumer_part *part = &c->part[*hint % c->part_count];
        if (part->cursor.p->number == m->partition && part->cursor.p->topic->name == m->topic)
            return part;
    }
    return NULL; // never: the poll has read it there
}

// Gives the n messages of the poll to their lanes; what finds no room there is read again. Returns
// how many lanes are ready.
static size_t push_fill(struct lt_push *push, size_t n, int *rc) {
    leat_consumer *c = push->c;
    const leat_message *m = c->messages;
    uint64_t view = 0;
    size_t hint = 0, lanes = 0, i = 0;
    while (i < n) {
        struct lt_consumer_part *part = push_part(c, &m[i], &hint);
        size_t first = i;
        int put = part && part->lane && !part->held ? 0 : 1;
        if (put == 0)
            part->lane->epoch = part->epoch;
        while (i < n && put == 0 && m[i].topic == m[first].topic &&
               m[i].partition == m[first].partition) {
            put = push_put(push, part->lane, &m[i], &view);
            i += put == 0;
        }
        if (put != 0 && part)
            lt_cursor_seek(&part->cursor, m[i].offset);
        *rc = *rc == 0 && put < 0 ? put : *rc;
        if (i > first) {
            push_make_ready(push, part->lane);
            lanes++;
        }
        while (i < n && put != 0 && m[i].topic == m[first].topic &&
               m[i].partition == m[first].partition)
            i++;
        if (part)
            part->uncommitted = false; // here that says nothing: results are committed
    }
    return lanes;
}

// Polls, without the lock: polling is set.
static int push_poll(struct lt_push *push, int64_t timeout_ms, size_t *n) {
    leat_consumer *c = push->c;
    int rc = lt_begin(push->mq, LT_CALL);
    if (rc != 0)
        return rc;
    lt_consumer_end_views(c);
    rc = lt_consumer_poll(c, timeout_ms, n);
    *n = rc == 0 ? *n : 0;
    uint64_t read = atomic_load_explicit(&c->read, memory_order_relaxed);
    atomic_store_explicit(&c->read, read + *n, memory_order_relaxed);
    if (rc != 0 && c->part_count > 0) // the next time another partition comes first
        c->turn = (c->turn + 1) % c->part_count;
    return lt_end(push->mq, rc);
}

static void push_fetch(struct lt_push *push) {
    size_t n = 0;
    push_look(push);
    bool work = !lt_list_empty(&push->ready);
    push->polling = true;
    lt_consumer_expire(push->c, false);
    lt_unlock(&push->w->lock);
    int rc = push_poll(push, work ? 0 : LEAT_FOREVER, &n);
    lt_due_fire(push->mq);
    lt_lock(&push->w->lock);
    push->polling = false;
    lt_consumer_expire(push->c, true);
    rc = rc != 0 ? rc : push_lanes(push);
    size_t lanes = push_fill(push, n, &rc);
    if (rc != 0 && rc != LEAT_ECLOSED) {
        int64_t ms = push->retry_ms > 0 ? push->retry_ms : PUSH_RETRY_MS;
        push->poll_ns = lt_add_ms(lt_now_ns(push->mq), ms);
        push_plan(push);
    }
    push_wake(push, lanes);
    if (push->w->phase != LT_WORKERS_RUN && push_over(push))
        push_wake_all(push->w);
    if (rc != 0 && rc != LEAT_ECLOSED) {
        lt_unlock(&push->w->lock);
        lt_say(push->mq, LEAT_LOG_WARNING, "group %s: poll: %s", push->c->group->name,
               leat_errmsg());
        lt_lock(&push->w->lock);
    }
}

bool lt_push_keeps(leat_consumer *c, struct lt_consumer_part *part) {
    struct lt_push *push = atomic_load(&c->push);
    struct lt_lane *lane = part->lane;
    if (!push || !lane)
        return false;
    lt_lock(&push->w->lock);
    bool keeps = !push_lane_empty(lane);
    if (keeps && !lane->leaving) {
        lane->leaving = true;
        push_make_ready(push, lane);
        push_wake(push, 1);
    }
    lt_unlock(&push->w->lock);
    return keeps;
}

// ---- beginning and end

static void push_run(leat_workers *w) {
    struct lt_push *push = w->self;
    lt_lock(&w->lock);
    struct push_seat *seat = &push->seat[push->taken++];
    while (!push_over(push)) {
        struct lt_node *n = lt_list_first(&push->ready);
        bool may = w->phase == LT_WORKERS_RUN && !push->polling && push->poll_ns == LT_NEVER;
        if (may && (!n || atomic_load(&push->c->member.stale))) // what is to pass on goes first
            push_fetch(push);
        else if (n)
            push_serve(push, LT_CONTAINER(n, struct lt_lane, ready));
        else
            push_wait(push, seat);
    }
    lt_unlock(&w->lock);
}

static void push_free_memory(struct lt_push *push) {
    struct lt_mem *mem = &push->mq->mem;
    struct lt_node *n;
    while ((n = lt_list_first(&push->lanes))) {
        struct lt_lane *lane = push_any_lane(n);
        lt_list_remove(n);
        lt_free(mem, lane->m);
        lt_free(mem, lane->pin);
        lt_free(mem, lane);
    }
    lt_free(mem, push->seat);
    lt_free(mem, push);
}

static void push_free(struct lt_push *push) {
    while (push->seats > 0)
        lt_waiter_fini(push->mq, &push->seat[--push->seats].waiter);
    lt_due_end(push->mq, &push->due);
    push_free_memory(push);
}

// Commits what is owed, gives the rest back, and the consumer to its callers.
static void push_end(leat_workers *w) {
    struct lt_push *push = w->self;
    leat_consumer *c = push->c;
    for (struct lt_node *n = lt_list_first(&push->lanes); n; n = lt_list_next(&push->lanes, n)) {
        struct lt_lane *lane = push_any_lane(n);
        if (lane->owed >= 0)
            (void)push_commit(push, lane);
        push_clear(push->mq, lane);
    }
    for (size_t i = 0; i < c->part_count; i++) {
        struct lt_consumer_part *part = &c->part[i];
        if (part->lane && part->lane->back >= 0)
            lt_cursor_seek(&part->cursor, part->lane->back);
        part->lane = NULL;
        part->held = part->uncommitted = false;
    }
    if (c->group) // a partition that was to leave may do so in the next poll
        atomic_store(&c->member.stale, true);
    push_free(push);
    atomic_store(&c->woken, false); // it was ours
    atomic_store(&c->push, NULL);
    lt_beacon_raise(&c->beacon);
    atomic_store_explicit(&c->busy, false, memory_order_release);
}

static void push_forget(leat_workers *w) {
    push_free_memory(w->self);
}

static int push_new(leat_consumer *c, leat_workers *w, struct lt_push **out) {
    struct lt_push *push = lt_zalloc(&c->mq->mem, sizeof *push);
    if (!push)
        return lt_fail_nomem();
    push->mq = c->mq;
    push->c = c;
    push->w = w;
    push->poll_ns = LT_NEVER;
    lt_list_init(&push->lanes);
    lt_list_init(&push->ready);
    lt_list_init(&push->idle);
    push->seat = lt_zalloc(&c->mq->mem, (size_t)w->threads * sizeof *push->seat);
    int rc = push->seat ? lt_due_init(c->mq, &push->due, push_due) : lt_fail_nomem();
    if (rc != 0) {
        push_free_memory(push);
        return rc;
    }
    while (rc == 0 && push->seats < w->threads) {
        lt_node_init(&push->seat[push->seats].node);
        rc = lt_waiter_init(c->mq, &push->seat[push->seats].waiter);
        push->seats += rc == 0;
    }
    if (rc == 0)
        *out = push;
    else
        push_free(push);
    return rc;
}

static int push_check(leat_consumer *c, leat_handler_fn fn, const leat_worker_options *o,
                      leat_topic **dead) {
    *dead = NULL;
    int rc = lt_workers_check(c->mq, fn, o);
    if (rc == 0 && o->auto_extend != 0)
        rc = lt_fail(LEAT_EINVAL, "worker options: auto_extend is for queues");
    if (rc == 0 && !c->group)
        rc = lt_fail(LEAT_EINVAL, "a consumer without a group cannot commit: no workers");
    if (rc == 0)
        rc = lt_check_writable(c->mq, "group", c->group->name);
    if (rc != 0 || !o->dead_letter)
        return rc;
    rc = lt_check_name("topic", o->dead_letter);
    if (rc == 0 && !(*dead = lt_topic_find(c->mq, o->dead_letter)))
        rc = lt_fail(LEAT_ENOENT, "dead-letter topic %s does not exist", o->dead_letter);
    bool cycle = false;
    for (size_t i = 0; i < c->part_count && rc == 0; i++)
        cycle |= c->part[i].cursor.p->topic == *dead;
    for (size_t i = 0; i < c->member.topic_count && rc == 0; i++)
        cycle |= c->member.topics[i] == *dead;
    for (size_t i = 0; i < c->member.pattern_count && rc == 0; i++)
        cycle |= lt_glob_match(c->member.patterns[i], strlen(c->member.patterns[i]), o->dead_letter,
                               strlen(o->dead_letter));
    if (cycle)
        rc = lt_fail(LEAT_EINVAL, "topic %s is read here: not for dead letters", o->dead_letter);
    return rc;
}

static const struct lt_workers_owner push_owner = {
    .run = push_run, .wake = push_wake_all, .end = push_end, .forget = push_forget
};

static int push_start(leat_consumer *c, leat_handler_fn fn, void *ctx, const leat_worker_options *o,
                      leat_workers **out) {
    leat_topic *dead;
    leat_workers *w = NULL;
    struct lt_push *push = NULL;
    int rc = push_check(c, fn, o, &dead);
    if (rc == 0)
        rc = lt_workers_new(c->mq, fn, ctx, o, &w);
    if (rc == 0)
        rc = push_new(c, w, &push);
    if (rc == 0) {
        lt_commits_finish(c); // or they would come behind those of the workers
        c->asks = false;      // nobody can ask for events
        push->dead = dead;
        push->retry_ms = o->retry_ms == LEAT_ZERO ? 0 : o->retry_ms ? o->retry_ms : PUSH_RETRY_MS;
        w->owner = &push_owner;
        w->self = push;
        *out = w; // before a handler may ask for it
        atomic_store(&c->push, push);
        rc = lt_workers_start(w);
    }
    if (rc == 0)
        return 0;
    atomic_store(&c->push, NULL);
    *out = NULL;
    if (push)
        push_free(push);
    if (w)
        lt_workers_free(w);
    return rc;
}

int leat_consumer_start(leat_consumer *c, leat_handler_fn fn, void *ctx,
                        const leat_worker_options *o, leat_workers **out) {
    static const leat_worker_options defaults;
    if (!out)
        return lt_fail(LEAT_EINVAL, "start: out is NULL");
    *out = NULL;
    int rc = lt_consumer_enter(c);
    if (rc != 0)
        return rc;
    leat *mq = c->mq;
    lt_workers_reap(mq);
    rc = push_start(c, fn, ctx, o ? o : &defaults, out);
    return rc == 0 ? lt_end(mq, 0) : lt_consumer_leave(c, rc); // c stays busy: it is the workers'
}
