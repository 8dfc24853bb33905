/* SPDX-License-Identifier: MIT */
#include "log/partitioner.h"

#include "base/hash.h"

int lt_partitioner_check(const leat_producer_options *o) {
    if (o->partitioner < 0 || o->partitioner > LEAT_BY_FUNCTION)
        return lt_fail(LEAT_EINVAL, "producer options: partitioner is %d", o->partitioner);
    bool by_function = o->partitioner == LEAT_BY_FUNCTION;
    if (by_function && !o->partition)
        return lt_fail(LEAT_EINVAL, "producer options: by function, and partition is NULL");
    if (!by_function && o->partition) // it would never be called
        return lt_fail(LEAT_EINVAL, "producer options: partition needs LEAT_BY_FUNCTION");
    return 0;
}

void lt_partitioner_init(struct lt_partitioner *w, const leat_producer_options *o,
                         int64_t sticky_bytes) {
    w->rule = o->partitioner;
    w->function = o->partition;
    w->ctx = o->partition_ctx;
    w->sticky_bytes = (uint32_t)(sticky_bytes < INT32_MAX ? sticky_bytes : INT32_MAX);
    atomic_init(&w->sticky, 0);
}

static uint32_t partitioner_stick(struct lt_partitioner *w, leat *mq, uint32_t partitions,
                                  uint32_t bytes) {
    if (!w)
        return (uint32_t)(lt_chance_next(mq) % partitions);
    uint32_t enough = w->sticky_bytes ? w->sticky_bytes : LT_STICKY_BYTES;
    uint64_t word = atomic_load_explicit(&w->sticky, memory_order_relaxed);
    uint32_t choice = (uint32_t)(word >> 32), sent = (uint32_t)word;
    if (sent == 0 || sent >= enough) {
        uint32_t next = (uint32_t)lt_chance_next(mq);
        if (sent != 0 && next % partitions == choice % partitions)
            next = next % partitions + 1; // another one than before
        choice = next;
        sent = 0;
    }
    word = (uint64_t)choice << 32 | (sent + bytes);
    atomic_store_explicit(&w->sticky, word, memory_order_relaxed);
    return choice % partitions;
}

// The turn is the topic's: a producer's own would give each second partition nothing where two
// topics take turns.
static uint32_t partitioner_turn(leat_topic *t, uint32_t partitions) {
    uint64_t turn = atomic_fetch_add_explicit(&t->turn, 1, memory_order_relaxed);
    return (uint32_t)(turn % partitions);
}

static struct lt_partition *partitioner_call(const struct lt_partitioner *w, leat_topic *t,
                                             const leat_record *r, int32_t partitions) {
    lt_callback_begin();
    int32_t choice = w->function(r, partitions, w->ctx);
    lt_callback_end();
    if (choice >= 0 && choice < partitions)
        return lt_topic_part(t, choice);
    (void)lt_fail(LEAT_ERANGE, "topic %s has %d partitions, the partition function chose %d",
                  t->name, partitions, choice);
    return NULL;
}

struct lt_partition *lt_partitioner_ask(struct lt_partitioner *w, leat_topic *t,
                                        const struct lt_plan *plan, int32_t partitions) {
    const leat_record *r = plan->record;
    if (r->to_partition > 0 && r->to_partition <= partitions)
        return lt_topic_part(t, r->to_partition - 1);
    if (r->to_partition != 0) {
        (void)lt_fail(LEAT_ERANGE, "topic %s has %d partitions, no number %lld", t->name,
                      partitions, (long long)r->to_partition - 1);
        return NULL;
    }
    int32_t rule = w ? w->rule : LEAT_BY_KEY;
    if (rule == LEAT_BY_FUNCTION)
        return partitioner_call(w, t, r, partitions);
    uint32_t count = (uint32_t)partitions;
    if (count == 1)
        return lt_topic_part(t, 0);
    if (r->group.data && !r->key.data) // so that it stays together: a queue keeps its order
        return lt_topic_part(t, (lt_murmur2(r->group.data, r->group.size) & 0x7fffffff) % count);
    if (rule == LEAT_ROUND_ROBIN)
        return lt_topic_part(t, partitioner_turn(t, count));
    if (rule != LEAT_STICKY && r->key.data)
        return lt_topic_part(t, (lt_murmur2(r->key.data, r->key.size) & 0x7fffffff) % count);
    return lt_topic_part(t, partitioner_stick(w, t->mq, count, plan->total));
}
