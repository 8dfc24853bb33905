/* SPDX-License-Identifier: MIT */
// commit_async: commits that do not wait. Their positions are taken when they are asked for. At
// acks LOG they are stored at once, too, and only their callbacks come later; at DISK leat's own
// thread does them, or whoever looks.
//
// They are done one at a time in the order in which they were asked for, and before any commit that
// is asked for later: a position never overtakes a newer one.
#include "log/consumer.h"

struct commits_one {
    struct lt_node node;
    leat_commit_fn fn;
    void *ctx;
    int rc;
    size_t count;
    struct lt_commit_at at[];
};

struct lt_commits {
    leat_consumer *c;
    struct lt_mutex lock; // guards the rest, but due
    struct lt_cond idle;  // running has ended
    struct lt_list pending, done;
    bool running; // somebody is at the first pending one, without the lock
    struct lt_due due;
};

// Does all that is pending, or waits for who does.
static void commits_run(struct lt_commits *all) {
    leat_consumer *c = all->c;
    lt_lock(&all->lock);
    while (all->running)
        lt_cond_wait(&all->idle, &all->lock);
    all->running = true;
    struct lt_node *n;
    while ((n = lt_list_first(&all->pending))) {
        struct commits_one *one = LT_CONTAINER(n, struct commits_one, node);
        lt_unlock(&all->lock);
        int rc = lt_begin(c->mq, LT_CALL_CB);
        one->rc = rc != 0 ? rc : lt_end(c->mq, lt_commit_many(c, one->at, one->count));
        lt_lock(&all->lock);
        lt_list_remove(n);
        lt_list_push_back(&all->done, n);
    }
    all->running = false;
    lt_cond_broadcast(&all->idle);
    lt_unlock(&all->lock);
}

static void commits_due(leat *mq, struct lt_due *due) {
    struct lt_commits *all = LT_CONTAINER(due, struct lt_commits, due);
    (void)mq;
    commits_run(all);
    lt_consumer_notify(all->c); // a poll that waits is to tell of it
}

static void commits_fini(struct lt_commits *all) {
    lt_cond_fini(&all->idle);
    lt_mutex_fini(&all->lock);
    lt_free(&all->c->mq->mem, all);
}

static int commits_make(leat_consumer *c) {
    if (c->commits)
        return 0;
    struct lt_commits *all = lt_zalloc(&c->mq->mem, sizeof *all);
    if (!all || lt_mutex_init(&all->lock, LT_RANK_LEAF) != 0) {
        lt_free(&c->mq->mem, all);
        return lt_fail_nomem();
    }
    all->c = c;
    lt_list_init(&all->pending);
    lt_list_init(&all->done);
    if (lt_cond_init(&all->idle) != 0) {
        lt_mutex_fini(&all->lock);
        lt_free(&c->mq->mem, all);
        return lt_fail_nomem();
    }
    int rc = lt_chore_init(c->mq, &all->due, commits_due);
    if (rc != 0) {
        commits_fini(all);
        return rc;
    }
    c->commits = all;
    return 0;
}

void lt_commits_finish(leat_consumer *c) {
    if (c->commits && !lt_forked(c->mq))
        commits_run(c->commits);
}

static struct commits_one *commits_take(struct lt_commits *all) {
    lt_lock(&all->lock);
    struct lt_node *n = lt_list_first(&all->done);
    if (n)
        lt_list_remove(n);
    lt_unlock(&all->lock);
    return n ? LT_CONTAINER(n, struct commits_one, node) : NULL;
}

bool lt_commits_wait(const leat_consumer *c) {
    if (!c->commits)
        return false;
    lt_lock(&c->commits->lock);
    bool waits = !lt_list_empty(&c->commits->done);
    lt_unlock(&c->commits->lock);
    return waits;
}

void lt_commits_tell(leat_consumer *c) {
    struct commits_one *one;
    while (c->commits && !lt_consumer_tells(c) && (one = commits_take(c->commits))) {
        if (one->fn) {
            lt_consumer_call_begin(c);
            one->fn(c, one->rc, one->ctx);
            lt_consumer_call_end(c);
        }
        lt_free(&c->mq->mem, one);
    }
}

void lt_commits_free(leat_consumer *c) {
    if (!c->commits)
        return;
    lt_due_end(c->mq, &c->commits->due);
    commits_fini(c->commits);
    c->commits = NULL;
}

static int commits_add(leat_consumer *c, leat_commit_fn fn, void *ctx) {
    int rc = lt_commit_check(c);
    if (rc == 0)
        rc = commits_make(c);
    if (rc != 0)
        return rc;
    size_t n = lt_commit_gather(c, false);
    struct commits_one *one = lt_alloc(&c->mq->mem, sizeof *one + n * sizeof *one->at);
    if (!one)
        return lt_fail_nomem();
    *one = (struct commits_one){ .fn = fn, .ctx = ctx, .count = n };
    lt_node_init(&one->node);
    for (size_t i = 0; i < n; i++)
        one->at[i] = c->at[i];
    for (size_t i = 0; i < c->part_count; i++)
        c->part[i].uncommitted = false;
    lt_lock(&c->commits->lock);
    lt_list_push_back(&c->commits->pending, &one->node);
    lt_unlock(&c->commits->lock);
    if (c->commit_disk)
        lt_due_set(c->mq, &c->commits->due, lt_now_ns(c->mq));
    else
        commits_run(c->commits);
    lt_beacon_raise(&c->beacon); // a poll is to tell of it
    return 0;
}

int leat_commit_async(leat_consumer *c, leat_commit_fn fn, void *ctx) {
    int rc = lt_consumer_enter_event(c);
    return rc != 0 ? rc : lt_consumer_leave(c, commits_add(c, fn, ctx));
}
