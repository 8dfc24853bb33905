/* SPDX-License-Identifier: MIT */
// cool: a bound for what the segments of a store take from the process: descriptors and mappings.
// Above it those that nobody uses at the moment are given back, partition by partition round the
// topics, until a quarter is free again. What is needed later is opened again.
#include "log/topic.h"

enum {
    COOL_FILES_MIN = 16,
    COOL_FILES = 4096, // at most, and a quarter of what the process may have
    COOL_MAPS = 16384  // a quarter of what Linux gives a process
};
#define COOL_BYTES  (INT64_C(8) << 40) // of address space, which has 47 bits at the least
#define COOL_COPIES (INT64_C(1) << 30) // of memory: a read-only store copies what it reads

void lt_log_limits(leat *mq) {
    int64_t files = mq->dir && mq->os->files_max ? mq->os->files_max(mq->os) / 4 : COOL_FILES;
    mq->files_max = files > COOL_FILES       ? COOL_FILES
                    : files < COOL_FILES_MIN ? COOL_FILES_MIN
                                             : files;
    mq->maps_max = COOL_MAPS;
    mq->map_bytes_max = lt_read_only(mq) ? COOL_COPIES : COOL_BYTES;
}

static bool cool_over(const _Atomic int64_t *is, int64_t max) {
    return atomic_load_explicit(is, memory_order_relaxed) > max;
}

static bool cool_topic(leat *mq, leat_topic *t, bool files, bool maps) {
    for (int32_t i = 0; i < t->partitions; i++) {
        bool f = files && cool_over(&mq->files, mq->files_max / 4 * 3);
        bool m = maps && (cool_over(&mq->maps, mq->maps_max / 4 * 3) ||
                          cool_over(&mq->map_bytes, mq->map_bytes_max / 4 * 3));
        if (!f && !m)
            return false;
        lt_partition_cool(lt_topic_part(t, i), f, m);
    }
    return true;
}

void lt_log_cool(leat *mq, bool files) {
    struct lt_log *log = mq->log;
    bool maps = cool_over(&mq->maps, mq->maps_max) || cool_over(&mq->map_bytes, mq->map_bytes_max);
    files = files && cool_over(&mq->files, mq->files_max);
    if ((!files && !maps) || atomic_flag_test_and_set_explicit(&log->cooling, memory_order_acquire))
        return;
    leat_topic *t = log->cool_next, *first = t;
    do {
        if (t && !cool_topic(mq, t, files, maps))
            break;
        t = lt_topic_next(log, t);
    } while (t != first);
    log->cool_next = t;
    atomic_flag_clear_explicit(&log->cooling, memory_order_release);
}
