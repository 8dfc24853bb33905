/* SPDX-License-Identifier: MIT */
// topic: names and their partitions, and the log as a whole: what the other files of this folder
// hang on.
#ifndef LT_LOG_TOPIC_H
#define LT_LOG_TOPIC_H

#include "base/bell.h"
#include "log/manifest.h"
#include "log/partition.h"
#include "log/slots.h"
#include "log/spare.h"

enum { LT_PARTITIONS_MAX = 1024, LT_TOPICS_MAX = 65535 };
#define LT_SEGMENT_MS_MAX (INT64_C(365) * 24 * 3600 * 1000)

struct leat_topic {
    // What each send looks at comes first: many topics that take turns are each in few lines of the
    // cache.
    leat *mq;
    char *name;
    uint32_t id;
    // Stored with release when those below are ready; only grows.
    _Atomic int32_t partitions;
    // segment_ms is not the default, or something else is by time; or was: once set it stays.
    atomic_bool goes_by_time;
    atomic_bool tells_heads;        // keeps.until_consumed, for queues over it (relaxed)
    bool owned;                     // by the queue of its name
    struct lt_dedup *_Atomic dedup; // NULL: there was no window yet, or the store is read-only
    atomic_bool gone;               // deleted; set once, under the lock of each partition in turn
    _Atomic int32_t room; // so many a group that comes to it makes room for; at least partitions
    struct lt_partition first; // partition 0: where it is, is known without a look
    struct lt_stretch others;  // struct lt_partition, see lt_topic_part
    int64_t segment_bytes;
    // What its partitions keep, each with a copy of its own: see lt_topic_alter. Stored under the
    // log's admin and table locks, read under either, or while the store is opened.
    struct lt_keeps keeps;
    _Atomic int queues;  // that stand over it; stored under the log's admin lock, read anywhere
    struct lt_bell bell; // rung at appends that somebody armed for
    struct lt_node node; // in the log's `all`
    // Of an owned topic changed under the log's admin lock, read anywhere; the others never change.
    _Atomic int64_t dedup_window_ms; // 0: none
    int64_t dedup_window_count;      // 0: none
    char *announce_on;               // the channel that hears each record; NULL: none
    void *announcer;                 // who tells it, see lt_log.announce; guarded by the admin lock
    _Atomic uint64_t turn; // of LEAT_ROUND_ROBIN, over all producers; relaxed: nothing rests on it
};

// lt_topic_part returns a partition; i is below `partitions`, as loaded before. It stays where it
// is as long as the topic.
static inline struct lt_partition *lt_topic_part(leat_topic *t, int64_t i) {
    return i == 0 ? &t->first : lt_stretch_at(&t->others, (uint64_t)i - 1);
}

struct lt_log {
    struct lt_manifest manifest;
    struct lt_slots slots;
    struct lt_spares spares;
    struct lt_mutex admin; // held by whoever creates or deletes topics and queues
    struct lt_mutex table; // guards the maps and `all`
    // What the rooms above do for a topic with .announce_on, before anybody can find it, and, if it
    // then comes to nothing, take back; NULL while they are not open. Locks: admin held.
    int (*announce)(leat_topic *t);
    void (*unannounce)(leat_topic *t);
    struct lt_map topics;      // name to leat_topic
    struct lt_map topic_ids;   // id to leat_topic
    struct lt_map queue_names; // names taken by queues over other topics
    struct lt_map groups;      // name to lt_group
    struct lt_map group_ids;   // id to lt_group
    struct lt_map names;       // of consumers, as given out in lags: kept until the store closes
    struct lt_list all;        // every topic since open, deleted ones too
    struct lt_mutex producers_lock; // guards `producers`
    struct lt_list producers;       // leat_producer that are open
    struct lt_mutex future_lock;    // guards `futures`, each of them, and how many a parcel has
    struct lt_list futures;         // leat_future that were not released
    struct lt_due sync_due;         // an entry if there is a sync_interval_ms
    atomic_bool small_pages;        // large ones are dear here; relaxed, it is about speed alone
    atomic_bool sync_planned; // something was stored since the last timed sync began (seq_cst)
    atomic_flag cooling;      // a thread is in lt_log_cool; nobody waits for it
    leat_topic *cool_next;    // where the next one goes on; that thread's
    // What recovery has cut and found damaged; relaxed, for the stats alone.
    _Atomic uint64_t cut_records, cut_bytes, damaged_ranges;
};

// lt_topic_find returns the topic of that name, or NULL; lt_topic_by_id the same by id.
leat_topic *lt_topic_find(leat *mq, const char *name);
leat_topic *lt_topic_by_id(leat *mq, uint32_t id);

// lt_keep_name returns a copy of a name that lives until the store closes; NULL: no memory.
const char *lt_keep_name(leat *mq, const char *name);

// lt_topic_create makes a topic. Locks: admin held.
// Returns  LEAT_EFULL, LEAT_ENOSPC, LEAT_EIO, LEAT_ENOMEM, LEAT_EPOISONED.
int lt_topic_create(leat *mq, const char *name, const leat_topic_options *o, bool owned,
                    leat_topic **out);
// lt_topic_write_note writes the note of a topic, with options that are filled in.
int lt_topic_write_note(struct lt_manifest *m, uint32_t id, const char *name,
                        const leat_topic_options *o, bool owned);
// lt_topic_read_note reads one. Returns  LEAT_ECORRUPT.
int lt_topic_read_note(leat *mq, const struct lt_note *note, char name[250],
                       leat_topic_options *full);
bool lt_topic_note_owned(const struct lt_note *note);
// lt_topic_note writes what the topic is, with that many partitions, that window and that to keep,
// into the manifest.
int lt_topic_note(const leat_topic *t, int32_t partitions, int64_t dedup_window_ms,
                  const struct lt_keeps *keeps);
// lt_keeps_set takes from options what is not 0.
void lt_keeps_set(struct lt_keeps *k, const leat_topic_options *o);
// lt_keeps_by_time tells whether something of it goes by time.
static inline bool lt_keeps_by_time(const struct lt_keeps *k) {
    return k->ms != LEAT_FOREVER || k->segment_ms != LT_SEGMENT_MS_MAX;
}
// lt_topic_alter changes what a topic keeps to what was asked and is not 0: see topic_alter.c. Then
// lt_topic_altered does what follows of it. Locks: admin held; for lt_topic_altered none.
// Returns  1; 0: it is that already. LEAT_EEXIST, which names what differs and does not change;
//          LEAT_EACCESS, LEAT_ENOMEM, as lt_manifest_note: nothing changed.
int lt_topic_alter(leat_topic *t, const leat_topic_options *asked);
void lt_topic_altered(leat_topic *t);
// lt_topic_set_dedup_window changes how long the ids of an owned topic are remembered, 0: not at
// all; for what is sent from now on: in dedup.c. Locks: admin held.
// Returns  as lt_manifest_note: nothing changed.
int lt_topic_set_dedup_window(leat_topic *t, int64_t window_ms);
// lt_dedup_forget_below forgets the dedup ids of what is purged: those of records of p below upto,
// also of who is on his way to tell of one; as often as p is opened, for the records stay. It walks
// all ids of p. Locks: none of DEDUP and above.
void lt_dedup_forget_below(struct lt_partition *p, int64_t upto);
// lt_topic_add_parts makes the partitions up to that number ready; they are published by storing
// `partitions`, or taken back by lt_topic_drop_parts. Locks: admin held.
// Returns  LEAT_ENOMEM: nothing changed.
int lt_topic_add_parts(leat_topic *t, int32_t partitions);
void lt_topic_drop_parts(leat_topic *t, int32_t partitions);
// lt_topic_destroy deletes a topic that no queue stands over. Locks: admin held.
// Returns  LEAT_ENOSPC, LEAT_EIO, LEAT_ENOMEM, LEAT_EPOISONED: nothing was deleted.
int lt_topic_destroy(leat_topic *t);
// lt_topic_check_options checks the options and fills in the defaults.
int lt_topic_check_options(const leat_topic_options *in, leat_topic_options *out);
// lt_topic_same compares what was asked with what the topic is, lt_topic_same_made only what never
// changes but by calls of its own. Locks: admin held.
// Returns  LEAT_EEXIST, which names the field that differs.
int lt_topic_same(const leat_topic *t, const leat_topic_options *asked);
int lt_topic_same_made(const leat_topic *t, const leat_topic_options *asked);
// lt_topic_partition returns partition n, or NULL with LEAT_ERANGE as the last error's text.
struct lt_partition *lt_topic_partition(leat_topic *t, int64_t n);
// lt_topic_alive is 0, or LEAT_EGONE with its text.
int lt_topic_alive(const leat_topic *t);
void lt_topics_free(leat *mq);
// lt_topic_next goes through all topics that there were since the open; NULL: the first, the end.
leat_topic *lt_topic_next(struct lt_log *log, leat_topic *t);

// lt_log_retain does what retention says, at an open: consumers are known.
void lt_log_retain(leat *mq);

// lt_log_sync makes all durable that was in a log, committed or noted when it was called.
int lt_log_sync(leat *mq);
int lt_log_sync_init(leat *mq);
void lt_log_sync_fini(leat *mq);
// lt_log_changed tells that something was stored which the next timed sync is to make durable. Not
// before a sync would find it. Locks: any below DUE.
void lt_log_plan_sync(leat *mq);
static inline void lt_log_changed(leat *mq) {
    if (mq->sync_interval_ms > 0 && mq->log && !atomic_load(&mq->log->sync_planned))
        lt_log_plan_sync(mq);
}

// lt_log_limits finds out how many descriptors and mappings the store takes at most, by habit.
void lt_log_limits(leat *mq);
// lt_log_cool gives back descriptors (files) and mappings of segments when there are too many.
// Locks: none of a partition's. Blocks  (files) for syncs.
void lt_log_cool(leat *mq, bool files);

#endif
