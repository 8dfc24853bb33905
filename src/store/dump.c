/* SPDX-License-Identifier: MIT */
// dump: the whole state as text. Each room tells its own; it is put together first, under the locks
// of what is told, and handed out when none is held.
#include "log/log.h"
#include "pubsub/pubsub.h"
#include "queue/queue.h"
#include "store/store.h"

#include "leat_test.h"

static void dump_store(leat *mq, struct lt_text *text) {
    static const char *const clocks[] = { "?", "system", "manual", "jumping" };
    static const char *const acks[] = { "?", "NONE", "LOG", "DISK" };
    int64_t mono_ms = 0, wall_ms = 0;
    (void)leat_clock_now(mq, &mono_ms, &wall_ms);
    lt_text_add(text, "store: %s clock at %lld ms, wall time %lld, acks %s, callbacks %s",
                clocks[mq->clock.mode], (long long)mono_ms, (long long)wall_ms, acks[mq->acks],
                mq->callbacks == LEAT_CALLBACKS_POLL ? "polled" : "on a thread");
    if (!mq->threads)
        lt_text_add(text, ", no threads");
    if (mq->flags & LEAT_STRICT)
        lt_text_add(text, ", strict");
    if (mq->flags & LEAT_CRASHABLE)
        lt_text_add(text, ", crashable");
    if (lt_read_only(mq))
        lt_text_add(text, ", read-only: queues are not told");
    if (mq->dir)
        lt_text_line(text, ", in %s", mq->dir);
    else
        lt_text_line(text, ", in memory");
}

// What keeps the store from being closed.
static void dump_open(leat *mq, struct lt_text *text) {
    lt_lock(&mq->children_lock);
    for (struct lt_node *n = lt_list_first(&mq->children); n; n = lt_list_next(&mq->children, n)) {
        const struct lt_child *c = LT_CONTAINER(n, struct lt_child, node);
        lt_text_line(text, "open: %s %s%s", c->kind, c->name ? c->name : "(unnamed)",
                     c->busy && c->busy(c) ? ", another thread is in a call of it" : "");
    }
    lt_unlock(&mq->children_lock);
    uint32_t views = lt_pin_count(mq, LT_PIN_VIEW | LT_PIN_HELD);
    if (views > 0)
        lt_text_line(text, "open: messages that are held: %u", views);
    size_t futures = lt_futures_count(mq);
    if (futures > 0)
        lt_text_line(text, "open: futures: %zu", futures);
}

int leat_dump(leat *mq, leat_write_fn write, void *ctx) {
    int rc = lt_begin(mq, LT_CALL_CB);
    if (rc != 0)
        return rc;
    if (!write)
        return lt_end(mq, lt_fail(LEAT_EINVAL, "dump: write is NULL"));
    struct lt_text text = { .mem = &mq->mem };
    lt_due_fire(mq);
    dump_store(mq, &text);
    rc = lt_log_dump(mq, &text);
    if (rc == 0)
        rc = lt_queues_dump(mq, &text);
    if (rc == 0)
        rc = lt_channels_dump(mq, &text);
    if (rc == 0) {
        dump_open(mq, &text);
        rc = lt_text_write(&text, write, ctx);
    }
    if (rc != 0)
        lt_text_drop(&text);
    return lt_end(mq, rc);
}
