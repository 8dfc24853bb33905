/* SPDX-License-Identifier: MIT */
// roll: how the next segment of a partition is begun. An active one that no record was ever written
// to makes room for it: nobody reads that, because it has nothing to read. But it may say that a
// gap is in front of it, and a sync may have made that durable: then it goes when the next one,
// which says so too, is on disk, with its name.
#include "log/partition.h"

#include "log/topic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

// Segments in memory: how large the first is, and how many times larger the next ones are.
enum { ROLL_FIRST = 64 * 1024, ROLL_GROWS = 4 };

int lt_partition_table_room(struct lt_partition *p) {
    if (p->count < p->room)
        return 0;
    struct lt_segment **has = p->segs == p->few ? NULL : p->segs;
    size_t room = 2 * p->room;
    struct lt_segment **grown = lt_resize(&p->mq->mem, has, room * sizeof(struct lt_segment *));
    if (!grown)
        return lt_fail_nomem();
    if (!has)
        memcpy(grown, p->few, sizeof p->few);
    p->segs = grown;
    p->room = room;
    return 0;
}

static int roll_make_dirs(struct lt_partition *p) {
    leat *mq = p->mq;
    char path[LT_PATH_MAX];
    (void)snprintf(path, sizeof path, "%u", p->topic->id);
    int rc = mq->os->mkdir(mq->os, mq->dir_fd, path, 0700);
    if (rc == 0 || rc == -EEXIST) {
        lt_partition_path(path, p);
        rc = mq->os->mkdir(mq->os, mq->dir_fd, path, 0700);
    }
    if (rc == 0 || rc == -EEXIST)
        return 0;
    return lt_fail_os(rc, "creating %s/%s", mq->dir, path);
}

// How large the next segment may get, with a batch of n bytes in it. used: bytes in the one before
// it. In memory they grow with what the topic holds: what is reserved for each of many small topics
// costs page tables, and where the kernel commits all that it reserves, memory. And such a segment
// has a page more than a power of 2: else those of many topics, of which each is at about the same
// place, would want the same few sets of the caches.
static uint64_t roll_size(const struct lt_partition *p, uint64_t n, uint64_t used) {
    const uint64_t need = LT_SEGMENT_PAGE + n + LT_SEAL, most = (uint64_t)p->topic->segment_bytes;
    const uint64_t before = used > LT_SEGMENT_PAGE ? used - LT_SEGMENT_PAGE : 0;
    uint64_t size = p->mq->dir ? most : ROLL_FIRST;
    while (size < most && (size < need || size < ROLL_GROWS * before))
        size *= ROLL_GROWS;
    size = size + LT_SEGMENT_PAGE < most ? size + LT_SEGMENT_PAGE : most;
    return size < need ? need : size; // a batch larger than a segment gets its own
}

// What stands in front of the segment that is begun.
struct roll_before {
    struct lt_segment *last;  // NULL: none
    struct lt_segment *empty; // behind it, to make room; NULL: none
    int64_t end;              // of the records
    bool gap;                 // the empty one says that a gap is in front of it
};

static struct roll_before roll_look(const struct lt_partition *p) {
    struct roll_before b = { .end = atomic_load_explicit(&p->begin, memory_order_relaxed) };
    size_t n = p->count;
    if (n > 0 && p->segs[n - 1]->count == 0 && !p->segs[n - 1]->rotten)
        b.empty = p->segs[--n];
    if (n > 0) {
        b.last = p->segs[n - 1];
        b.end = b.last->base + b.last->count;
    }
    b.gap = b.empty && b.empty->base > b.end;
    return b;
}

// Makes the segment that begins with *head, as safe as what it takes the place of.
static int roll_make(struct lt_partition *p, const struct roll_before *b, uint64_t n,
                     const struct lt_segment_head *head, struct lt_segment **out) {
    bool gap = b->gap && p->mq->dir;
    enum lt_segment_how how = !b->empty ? LT_SEGMENT_PLAIN
                              : gap     ? LT_SEGMENT_SURE
                                        : LT_SEGMENT_INSTEAD;
    uint64_t used = b->last ? b->last->write_at : 0;
    int rc = lt_segment_create(p->mq, roll_size(p, n, used), used, head, how, out);
    if (rc != 0 || !gap || b->empty->base == head->base)
        return rc;
    rc = lt_partition_sync_dirs(p);
    if (rc != 0) {
        lt_partition_unlink(p, head->base);
        lt_segment_drop(*out);
    }
    return rc;
}

static void roll_drop_empty(struct lt_partition *p, struct lt_segment *empty, int64_t base) {
    if (p->mq->dir && empty->base != base)
        lt_partition_unlink(p, empty->base);
    else if (p->mq->dir)
        lt_partition_unlink_rest(p, base); // the new one has its name
    p->count--;
    lt_segment_drop(empty);
}

static int roll_begin(struct lt_partition *p, int64_t end, uint64_t n, uint32_t reason) {
    leat *mq = p->mq;
    struct roll_before b = roll_look(p);
    if (p->count > 0)
        p->fields |= p->segs[p->count - 1]->fields;
    struct lt_segment_head head = { .topic_id = p->topic->id,
                                    .partition = (uint32_t)p->number,
                                    .base = end,
                                    .previous_end = b.end,
                                    .reason = end > b.end ? reason : 0,
                                    .created_ms = lt_wall_ms(mq),
                                    .incompatible = p->fields ? LT_INCOMPATIBLE_FIELDS : 0 };
    memcpy(head.topic, p->topic->name, strlen(p->topic->name));
    struct lt_segment *s;
    int rc = lt_partition_table_room(p);
    if (rc == 0)
        rc = lt_manifest_new_uid(&mq->log->manifest, &head.uid);
    if (rc == 0 && mq->dir && !b.last)
        rc = roll_make_dirs(p);
    if (rc == 0)
        rc = roll_make(p, &b, n, &head, &s);
    if (rc != 0)
        return rc;
    s->appended_ms = lt_partition_time(p, head.created_ms); // until there is a record
    s->old_ms = lt_retain_old_ms(p, s->appended_ms);
    if (b.empty)
        roll_drop_empty(p, b.empty, end);
    if (b.last) {
        lt_segment_push(b.last);
        atomic_store_explicit(&b.last->limit, b.end, memory_order_release);
    }
    p->segs[p->count++] = s;
    p->dir_owed = mq->dir != NULL;
    p->rolled = true;
    return 0;
}

// Tells whether there may be a file of a segment with that base.
static bool roll_has_file(const struct lt_partition *p, int64_t base) {
    struct lt_os *os = p->mq->os;
    char path[LT_PATH_MAX];
    lt_segment_path(path, p, base, ".log");
    int fd = os->open(os, p->mq->dir_fd, path, O_RDONLY, 0);
    if (fd >= 0)
        (void)os->close(os, fd);
    return fd != -ENOENT;
}

int lt_partition_roll(struct lt_partition *p, int64_t end, uint64_t n, uint32_t reason) {
    int rc = roll_begin(p, end, n, reason);
    bool kept = p->count > 0 && p->segs[p->count - 1]->base == end; // the empty one has that name
    p->stray = rc != 0 && p->mq->dir && !kept && roll_has_file(p, end);
    return rc;
}
