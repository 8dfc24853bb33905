/* SPDX-License-Identifier: MIT */
// recover: what an open makes of a partition's directory.
//
// The segments are read in order from their beginning, every record is checked. Where the valid
// records end:
//  - below the durable end: damage. The open fails with the range; nothing is changed.
//  - otherwise an unfinished tail: it is cut, the cut is synced before anything is appended, and
//    segments behind it are set aside under another name.
// The first segment's page may be missing or half written if the process died while making it: a
// file without a valid page which would begin at the end is set aside too. An error of the system
// is an error of the open, never an end of the log. Recovering twice gives the same bytes.
#include "log/partition.h"

#include "log/topic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct recover_bases {
    struct lt_mem *mem;
    int64_t *base;
    size_t count, room;
};

// Collects "<20 digits>.log"; every other name is somebody else's.
static int recover_take_name(const char *name, void *ctx) {
    struct recover_bases *b = ctx;
    if (strlen(name) != 24 || strspn(name, "0123456789") != 20 || strcmp(name + 20, ".log") != 0)
        return 0;
    errno = 0;
    long long base = strtoll(name, NULL, 10);
    if (errno != 0)
        return 0;
    if (b->count == b->room) {
        size_t room = b->room ? 2 * b->room : 16;
        int64_t *grown = lt_resize(b->mem, b->base, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        b->base = grown;
        b->room = room;
    }
    b->base[b->count++] = base;
    return 0;
}

static int recover_order(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int recover_list(struct lt_partition *p, struct recover_bases *bases) {
    leat *mq = p->mq;
    char path[LT_PATH_MAX];
    lt_partition_path(path, p);
    int fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd == -ENOENT)
        return 0; // no record was ever sent to it
    int rc = fd < 0 ? fd : mq->os->list(mq->os, fd, recover_take_name, bases);
    if (fd >= 0)
        (void)mq->os->close(mq->os, fd);
    if (rc < 0)
        return lt_fail_os(rc, "listing %s/%s", mq->dir, path);
    if (bases->count > 0)
        qsort(bases->base, bases->count, sizeof *bases->base, recover_order);
    return 0;
}

// Finds a name that is not taken: what was set aside before is somebody's evidence.
static int recover_aside_name(struct lt_partition *p, int64_t base, char to[LT_PATH_MAX]) {
    struct lt_os *os = p->mq->os;
    lt_segment_path(to, p, base, ".log.cut");
    for (unsigned n = 2;; n++) {
        int fd = os->open(os, p->mq->dir_fd, to, O_RDONLY, 0);
        if (fd < 0)
            return fd == -ENOENT ? 0 : lt_fail_os(fd, "looking for %s/%s", p->mq->dir, to);
        (void)os->close(os, fd);
        char suffix[32];
        (void)snprintf(suffix, sizeof suffix, ".log.cut%u", n);
        lt_segment_path(to, p, base, suffix);
    }
}

static int recover_set_aside(struct lt_partition *p, int64_t base) {
    leat *mq = p->mq;
    char from[LT_PATH_MAX], to[LT_PATH_MAX];
    lt_segment_path(from, p, base, ".log");
    int found = recover_aside_name(p, base, to);
    if (found != 0)
        return found;
    lt_say(mq, LEAT_LOG_WARNING, "%s/%s: set aside, behind an unfinished tail", mq->dir, from);
    int rc = mq->os->rename(mq->os, mq->dir_fd, from, to);
    return rc == 0 ? 0 : lt_fail_os(rc, "setting %s/%s aside", mq->dir, from);
}

// Sets aside what is behind the first `used` segments. The names are durable before anything is
// appended: a segment that came back under its own would follow what stands there by then.
static int recover_set_all_aside(struct lt_partition *p, const struct recover_bases *bases,
                                 size_t used) {
    int rc = 0;
    for (size_t i = bases->count; rc == 0 && i-- > used;)
        rc = recover_set_aside(p, bases->base[i]);
    if (rc != 0 || bases->count == used)
        return rc;
    char path[LT_PATH_MAX];
    lt_partition_path(path, p);
    return lt_manifest_sync_dir(&p->mq->log->manifest, path);
}

static int recover_damage(const struct lt_partition *p, int64_t from, int64_t to) {
    return lt_fail(LEAT_ECORRUPT,
                   "topic %s partition %d: offsets %lld to %lld are damaged or missing in %s",
                   p->topic->name, p->number, (long long)from, (long long)to - 1, p->mq->dir);
}

static bool recover_head_fits(const struct lt_partition *p, const struct lt_segment_head *head,
                              int64_t base) {
    return head->topic_id == p->topic->id && head->partition == (uint32_t)p->number &&
           head->base == base && head->previous_end <= base;
}

// Opens and scans the segment at `base`, with which the log goes on at `end` or, if it says so,
// behind a gap; and puts it into the partition's table.
// Returns  1 if its page is not valid or it does not follow, 0, or an error.
static int recover_segment(struct lt_partition *p, int64_t base, int64_t end) {
    char path[LT_PATH_MAX];
    struct lt_segment_head head;
    struct lt_segment *s;
    lt_segment_path(path, p, base, ".log");
    int rc = lt_segment_open(p->mq, path, (uint64_t)p->topic->segment_bytes, &head, &s);
    if (rc == LEAT_ECORRUPT)
        return 1;
    if (rc != 0)
        return rc;
    if (!recover_head_fits(p, &head, base)) {
        lt_segment_drop(s);
        return lt_fail(LEAT_ECORRUPT, "%s/%s belongs to topic id %u partition %u base %lld",
                       p->mq->dir, path, head.topic_id, head.partition, (long long)head.base);
    }
    if (base > end && (head.previous_end != end || base - end > LT_GAP_MAX)) {
        lt_segment_drop(s);
        return 1;
    }
    rc = lt_segment_scan(s);
    if (rc == 0)
        rc = lt_partition_table_room(p);
    if (rc == 0)
        p->segs[p->count++] = s;
    else
        lt_segment_drop(s);
    return rc;
}

// Drops what was read: all of it is below the log start. The records from there up to the log start
// were deleted before they were synced, and a power cut took them, so no evidence says otherwise.
static void recover_forget(struct lt_partition *p) {
    for (size_t i = 0; i < p->count; i++) {
        lt_partition_unlink(p, p->segs[i]->base);
        lt_segment_drop(p->segs[i]);
    }
    p->count = 0;
}

// Cuts what follows the last whole record of the last segment kept.
static int recover_cut(struct lt_partition *p) {
    if (p->count == 0)
        return 0;
    struct lt_segment *s = p->segs[p->count - 1];
    if (lt_segment_tail_is_clean(s))
        return 0;
    char path[LT_PATH_MAX];
    lt_segment_path(path, p, s->base, ".log");
    lt_say(p->mq, LEAT_LOG_WARNING, "%s/%s: cut an unfinished tail after offset %lld", p->mq->dir,
           path, (long long)(s->base + s->count - 1));
    return lt_segment_cut(s, path);
}

// Removes the segments that were given back before the process died. What is left must begin at
// the log start.
static int recover_begin(struct lt_partition *p, struct recover_bases *bases, int64_t begin) {
    size_t gone = 0;
    while (gone + 1 < bases->count && bases->base[gone + 1] <= begin)
        lt_partition_unlink(p, bases->base[gone++]);
    bases->count -= gone;
    if (gone > 0)
        memmove(bases->base, bases->base + gone, bases->count * sizeof *bases->base);
    if (bases->count > 0 && bases->base[0] > begin)
        return recover_damage(p, begin, bases->base[0]);
    return 0;
}

// Reads the segments in order. *end: where the valid records end; *used: how many of the bases
// were taken.
static int recover_read(struct lt_partition *p, const struct recover_bases *bases, int64_t *end,
                        size_t *used) {
    for (*used = 0; *used < bases->count && bases->base[*used] >= *end; ++*used) {
        int rc = recover_segment(p, bases->base[*used], *end);
        if (rc == 1)
            return 0; // the log ends before it
        if (rc != 0)
            return rc;
        const struct lt_segment *s = p->segs[p->count - 1];
        *end = s->base + s->count;
    }
    return 0;
}

static int recover_publish(struct lt_partition *p, int64_t begin, int64_t end,
                           int64_t durable_end) {
    for (size_t i = 0; i < p->count; i++) {
        struct lt_segment *s = p->segs[i];
        int64_t past = s->base + s->count;
        if (i + 1 < p->count)
            atomic_store(&s->limit, past);
        p->bytes += (int64_t)(s->write_at - LT_SEGMENT_PAGE);
        s->synced_to = past <= durable_end ? s->write_at : 0;
        if (past <= durable_end)
            continue;
        // Not known to be on disk: written again, and synced before the first acks DISK.
        uint64_t from = 0; // the header page, too
        if (durable_end > s->base)
            from = (uint64_t)(lt_segment_record(s, durable_end) - s->map);
        int rc = lt_segment_redirty(s, from);
        if (rc != 0)
            return rc;
    }
    p->dir_owed = durable_end < end;
    atomic_store(&p->begin, begin);
    atomic_store(&p->durable_end, durable_end);
    atomic_store(&p->end, end);
    return 0;
}

int lt_partition_recover(struct lt_partition *p) {
    struct recover_bases bases = { .mem = &p->mq->mem };
    struct lt_slot_key key = { LT_SLOT_PARTITION, 0, p->topic->id, (uint32_t)p->number };
    p->slot = lt_slot_find(&p->mq->log->slots, &key);
    int64_t durable_end = p->slot ? p->slot->values[0] : 0;
    int64_t begin = p->slot ? p->slot->values[1] : 0, end = begin;
    size_t used = 0;
    int rc = recover_list(p, &bases);
    if (rc == 0)
        rc = recover_begin(p, &bases, begin);
    if (rc == 0 && bases.count > 0)
        end = bases.base[0]; // at or below the log start
    if (rc == 0)
        rc = recover_read(p, &bases, &end, &used);
    if (rc == 0 && end < durable_end && durable_end > begin)
        rc = recover_damage(p, end, durable_end);
    // Only an unfinished tail is left to deal with: segments beyond it can be reached no more.
    if (rc == 0)
        rc = recover_set_all_aside(p, &bases, used);
    if (rc == 0 && end < begin) {
        recover_forget(p);
        end = begin;
    }
    if (rc == 0)
        rc = recover_cut(p);
    if (rc == 0)
        rc = recover_publish(p, begin, end, durable_end > begin ? durable_end : begin);
    lt_free(&p->mq->mem, bases.base);
    return rc;
}
