/* SPDX-License-Identifier: MIT */
#include "base/fault.h"

#include "base/core.h"
#include "leat_test.h"

#include <string.h>

struct fault {
    struct lt_node node;
    char *topic; // NULL: any
    int64_t count, delay_ms;
    int op, error;
    int32_t partition; // -1: any
};

int lt_faults_init(struct lt_faults *f) {
    lt_list_init(&f->planned);
    return lt_mutex_init(&f->lock, LT_RANK_LEAF);
}

static void fault_free(leat *mq, struct fault *f) {
    lt_free(&mq->mem, f->topic);
    lt_free(&mq->mem, f);
}

// Takes all faults out of the plan. Locks: none, unless nobody else is left.
static void fault_clear(leat *mq) {
    struct lt_node *n;
    atomic_store(&mq->mem.deny, 0);
    do {
        lt_lock(&mq->faults.lock);
        n = lt_list_first(&mq->faults.planned);
        if (n)
            lt_list_remove(n);
        else
            atomic_store(&mq->faults.any, false);
        lt_unlock(&mq->faults.lock);
        if (n)
            fault_free(mq, LT_CONTAINER(n, struct fault, node));
    } while (n);
}

void lt_faults_fini(leat *mq) {
    if (!lt_forked(mq)) // a thread that this process does not have may hold the lock
        fault_clear(mq);
    lt_mutex_fini(&mq->faults.lock);
}

static bool fault_is_for(const struct fault *f, int op, const char *topic, int32_t partition) {
    return f->op == op && (!f->topic || (topic && strcmp(f->topic, topic) == 0)) &&
           (f->partition == -1 || f->partition == partition);
}

// Counts the first fault for this call down. Returns false if there is none.
static bool fault_count_down(leat *mq, int op, const char *topic, int32_t partition,
                             struct fault *out) {
    struct lt_faults *fs = &mq->faults;
    struct fault *found = NULL, *spent = NULL;
    lt_lock(&fs->lock);
    for (struct lt_node *n = lt_list_first(&fs->planned); n && !found;
         n = lt_list_next(&fs->planned, n)) {
        struct fault *f = LT_CONTAINER(n, struct fault, node);
        found = fault_is_for(f, op, topic, partition) ? f : NULL;
    }
    if (found) {
        *out = *found;
        if (found->count != LEAT_FOREVER && --found->count == 0) {
            lt_list_remove(&found->node);
            spent = found;
        }
    }
    if (lt_list_empty(&fs->planned))
        atomic_store_explicit(&fs->any, false, memory_order_relaxed);
    lt_unlock(&fs->lock);
    if (spent)
        fault_free(mq, spent);
    return found != NULL;
}

static int fault_wait(leat *mq, int64_t ms) {
    struct lt_waiter w;
    int rc = lt_waiter_init(mq, &w);
    if (rc != 0)
        return rc;
    int64_t deadline = lt_add_ms(lt_now_ns(mq), ms);
    while (rc == 0)
        rc = lt_wait(mq, &w, deadline); // due things are fired on the way
    lt_waiter_fini(mq, &w);
    return rc == LEAT_ETIMEDOUT ? 0 : rc;
}

static int fault_error(int error, const char *topic) {
    return error == 0 ? 0
                      : lt_fail(error, "%s%sa fault that leat_fault_push planned",
                                topic ? topic : "", topic ? ": " : "");
}

int lt_fault_take(leat *mq, int op, const char *topic, int32_t partition, bool wait) {
    struct fault f;
    if (!fault_count_down(mq, op, topic, partition, &f))
        return 0;
    int rc = wait && f.delay_ms > 0 && !lt_in_callback() ? fault_wait(mq, f.delay_ms) : 0;
    return rc != 0 ? rc : fault_error(f.error, topic);
}

int lt_fault_later(leat *mq, int op, const char *topic, int32_t partition, int64_t *delay_ms) {
    struct fault f;
    *delay_ms = 0;
    if (!fault_count_down(mq, op, topic, partition, &f))
        return 0;
    *delay_ms = f.delay_ms;
    return fault_error(f.error, topic);
}

// ---- public

static int fault_check(int op, const char *topic, int32_t partition, int error, int64_t count,
                       int64_t delay_ms) {
    if (op < LEAT_OP_APPEND || op > LEAT_OP_PUBLISH)
        return lt_fail(LEAT_EINVAL, "fault: no operation %d", op);
    if (error > 0 || error < LEAT_ERROR_LAST_)
        return lt_fail(LEAT_EINVAL, "fault: %d is no error code", error);
    if (count < LEAT_FOREVER || count == 0 || delay_ms < 0 || partition < -1)
        return lt_fail(LEAT_EINVAL, "fault: count %lld, delay %lld, partition %d", (long long)count,
                       (long long)delay_ms, partition);
    if (op == LEAT_OP_MEMORY && (topic || partition != -1 || error != LEAT_ENOMEM || delay_ms != 0))
        return lt_fail(LEAT_EINVAL, "fault: memory is LEAT_ENOMEM, of no topic, without delay");
    return topic ? lt_check_name("topic or channel", topic) : 0;
}

int leat_fault_push(leat *mq, int op, const char *topic, int32_t partition, int error,
                    int64_t count, int64_t delay_ms) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc == 0)
        rc = fault_check(op, topic, partition, error, count, delay_ms);
    if (rc != 0)
        return rc;
    if (op == LEAT_OP_MEMORY) {
        atomic_store(&mq->mem.deny, count);
        return 0;
    }
    struct fault *f = lt_zalloc(&mq->mem, sizeof *f);
    char *copy = topic ? lt_strdup_n(&mq->mem, topic, strlen(topic)) : NULL;
    if (!f || (topic && !copy)) {
        lt_free(&mq->mem, copy);
        lt_free(&mq->mem, f);
        return lt_fail_nomem();
    }
    *f = (struct fault){ .topic = copy,
                         .count = count,
                         .delay_ms = delay_ms,
                         .op = op,
                         .error = error,
                         .partition = partition };
    lt_lock(&mq->faults.lock);
    lt_list_push_back(&mq->faults.planned, &f->node);
    atomic_store(&mq->faults.any, true);
    lt_unlock(&mq->faults.lock);
    return 0;
}

int leat_fault_clear(leat *mq) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc != 0)
        return rc;
    fault_clear(mq);
    return 0;
}
