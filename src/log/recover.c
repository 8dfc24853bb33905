/* SPDX-License-Identifier: MIT */
// recover: what an open makes of a partition's directory: a prefix of what was appended, by
// evidence.
//
// The segments are taken in order. A sealed one is complete; of another the records behind those
// that its index knows are read, each is checked. Where they do not go on, `proof` decides: the
// highest offset below which all was on disk, as the partition's slot, the seals, the indexes and
// the records further on (`behind`) say.
//  - The records end below it: damage (rot). The open fails with the range and nothing is changed;
//    with LEAT_SKIP_ROT what cannot be read is left out, and nothing of it is touched.
//  - Otherwise an unfinished tail: it is cut after the last whole batch, the cut is synced before
//    anything is appended, and segments behind it are set aside under another name.
// A file without a valid page may have been made when the process died: it is judged in the same
// way. An error of the system is an error of the open, never an end of the log. Recovering twice
// gives the same bytes.
//
// A read-only store sees what an owner would find, and nothing is cut or set aside.
#include "log/partition.h"

#include "log/topic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct recover {
    struct lt_partition *p;
    int64_t *base; // of the files there are, in order
    size_t count, room;
    size_t used;     // files that have been looked at
    int64_t begin;   // the log start
    int64_t end;     // where the records taken so far end
    int64_t proof;   // what is below was on disk
    bool proved;     // the files further on have been asked
    int64_t skipped; // LEAT_SKIP_ROT: so many offsets were left out
    int64_t lost_to; // LEAT_SKIP_ROT: the log goes on there; 0: where it ends
    bool jump;       // LEAT_SKIP_ROT: the next segment need not follow
    bool bad;        // the file at `used` cannot be a segment of this log
};

// ---- the files

// Collects the segments' names.
static int recover_take_name(const char *name, void *ctx) {
    struct recover *r = ctx;
    int64_t base;
    if (!lt_segment_name(name, &base))
        return 0;
    if (r->count == r->room) {
        size_t room = r->room ? 2 * r->room : 16;
        int64_t *grown = lt_resize(&r->p->mq->mem, r->base, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        r->base = grown;
        r->room = room;
    }
    r->base[r->count++] = base;
    return 0;
}

static int recover_order(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int recover_list(struct recover *r) {
    leat *mq = r->p->mq;
    char path[LT_PATH_MAX];
    lt_partition_path(path, r->p);
    int fd = mq->os->open(mq->os, mq->dir_fd, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd == -ENOENT)
        return 0; // no record was ever sent to it
    int rc = fd < 0 ? fd : mq->os->list(mq->os, fd, recover_take_name, r);
    if (fd >= 0)
        (void)mq->os->close(mq->os, fd);
    if (rc < 0)
        return lt_fail_os(rc, "listing %s/%s", mq->dir, path);
    if (r->count > 0)
        qsort(r->base, r->count, sizeof *r->base, recover_order);
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

// Sets aside the files that were not looked at. The names are durable before anything is appended:
// a segment that came back under its own would follow what stands there by then.
static int recover_set_all_aside(struct recover *r) {
    int rc = 0;
    for (size_t i = r->count; rc == 0 && i-- > r->used;)
        rc = recover_set_aside(r->p, r->base[i]);
    if (rc != 0 || r->count == r->used)
        return rc;
    char path[LT_PATH_MAX];
    lt_partition_path(path, r->p);
    return lt_manifest_sync_dir(&r->p->mq->log->manifest, path);
}

// ---- evidence

// Opens the segment at `base`. Returns  0, LEAT_ECORRUPT (no valid page, or another's: *foreign),
// or an error.
static int recover_open(const struct recover *r, int64_t base, struct lt_segment_head *head,
                        struct lt_segment **out, bool *foreign) {
    const struct lt_partition *p = r->p;
    *head = (struct lt_segment_head){ .topic_id = p->topic->id,
                                      .partition = (uint32_t)p->number,
                                      .base = base };
    *foreign = false;
    int rc = lt_segment_open(p->mq, (uint64_t)p->topic->segment_bytes, head, out);
    if (rc != 0)
        return rc;
    if (head->topic_id == p->topic->id && head->partition == (uint32_t)p->number &&
        head->base == base && head->previous_end <= base)
        return 0;
    lt_segment_drop(*out);
    *foreign = true;
    return lt_fail(LEAT_ECORRUPT,
                   "%s/%u/%d/%020lld.log belongs to topic id %u partition %u base %lld", p->mq->dir,
                   p->topic->id, p->number, (long long)base, head->topic_id, head->partition,
                   (long long)head->base);
}

static void recover_prove(struct recover *r, int64_t claim) {
    r->proof = claim > r->proof ? claim : r->proof;
}

// Asks the segment at `base` what it proves.
static int recover_ask(struct recover *r, int64_t base) {
    struct lt_segment_head head;
    struct lt_segment *s;
    bool foreign;
    int rc = recover_open(r, base, &head, &s, &foreign);
    if (rc == LEAT_ECORRUPT && !foreign)
        return 0; // it has nothing to say
    if (rc != 0)
        return rc;
    recover_prove(r, s->count > 0 ? base + s->count : 0);
    rc = s->sealed ? 0 : lt_segment_map(s);
    if (rc == 0 && !s->sealed) {
        struct lt_tail tail;
        s->write_at -= 8; // the first record counts, too
        s->count -= 1;
        lt_segment_look(s, &tail);
        recover_prove(r, tail.claim);
    }
    lt_segment_drop(s);
    return rc;
}

// Asks all that stands behind what was taken.
static int recover_ask_all(struct recover *r, const struct lt_tail *tail) {
    recover_prove(r, tail->claim);
    int rc = 0;
    for (size_t i = r->used; rc == 0 && !r->proved && i < r->count; i++)
        rc = recover_ask(r, r->base[i]);
    r->proved = rc == 0;
    return rc;
}

static int recover_damage(const struct lt_partition *p, int64_t from, int64_t to) {
    return lt_fail(LEAT_ECORRUPT,
                   "topic %s partition %d: offsets %lld to %lld are damaged or missing in %s; "
                   "LEAT_SKIP_ROT leaves them out",
                   p->topic->name, p->number, (long long)from, (long long)to - 1, p->mq->dir);
}

// ---- reading

enum { RECOVER_TRIES = 16, RECOVER_TEXT = 512 }; // of a read-only store
enum { RECOVER_ENDS = 1, RECOVER_GOES_ON = 2 };

// Steps over what cannot be read, on demand: to the next record in the same segment, else to the
// next segment, else the log goes on behind all that is known to be lost.
static int recover_step_over(struct recover *r, struct lt_segment *last,
                             const struct lt_tail *tail) {
    const struct lt_partition *p = r->p;
    int64_t to = r->proof;
    r->used += r->bad; // it stays where it is
    r->bad = false;
    if (tail->next >= 0)
        to = tail->next;
    else if (r->used < r->count && r->base[r->used] >= r->end)
        to = r->base[r->used];
    else
        r->lost_to = to;
    lt_say(p->mq, LEAT_LOG_ERROR, "topic %s partition %d: offsets %lld to %lld are left out",
           p->topic->name, p->number, (long long)r->end, (long long)to - 1);
    atomic_fetch_add_explicit(&p->mq->log->damaged_ranges, 1, memory_order_relaxed);
    r->skipped += to - r->end;
    if (tail->next < 0) {
        if (last && !tail->clean)
            last->rotten = true;
        r->jump = true;
        r->end = to;
        return RECOVER_GOES_ON;
    }
    int rc = lt_segment_skip(last, tail);
    if (rc == 0)
        rc = lt_segment_scan(last);
    r->end = last->base + last->count;
    return rc == 0 ? RECOVER_GOES_ON : rc;
}

// Judges what stands behind the records taken so far, which do not go on.
// Returns  RECOVER_ENDS (an unfinished tail), RECOVER_GOES_ON, or an error.
static int recover_judge(struct recover *r) {
    struct lt_partition *p = r->p;
    struct lt_segment *last = p->count > 0 && !r->jump ? p->segs[p->count - 1] : NULL;
    struct lt_tail tail = { .clean = true, .next = -1 };
    if (last)
        lt_segment_look(last, &tail);
    int rc = recover_ask_all(r, &tail);
    if (rc != 0)
        return rc;
    if (r->end >= r->proof || r->proof <= r->begin)
        return RECOVER_ENDS;
    if (p->mq->flags & LEAT_SKIP_ROT)
        return recover_step_over(r, last, &tail);
    int64_t to = r->proof;
    if (tail.next >= 0 && tail.next < to)
        to = tail.next;
    size_t next = r->used + r->bad;
    if (next < r->count && r->base[next] > r->end && r->base[next] < to)
        to = r->base[next];
    return recover_damage(p, r->end, to);
}

// Takes the next segment, with which the log goes on at r->end or, if it says so, behind a gap.
// Returns  RECOVER_GOES_ON, 0 (it does not follow), or an error.
static int recover_take(struct recover *r) {
    struct lt_partition *p = r->p;
    struct lt_segment_head head;
    struct lt_segment *s;
    bool foreign;
    int64_t base = r->base[r->used];
    r->bad = base < r->end;
    if (r->bad)
        return 0;
    int rc = recover_open(r, base, &head, &s, &foreign);
    r->bad = rc == LEAT_ECORRUPT && !foreign;
    if (rc != 0)
        return r->bad ? 0 : rc;
    // The log start may stand in the gap, when all in front of it is deleted.
    bool behind_gap = head.previous_end == r->end ||
                      (p->count == 0 && r->end == r->begin && head.previous_end < r->end);
    bool follows = base == r->end || r->jump || (behind_gap && base - r->end <= LT_GAP_MAX);
    if (follows)
        rc = s->sealed ? 0 : lt_segment_scan(s);
    if (follows && rc == 0)
        rc = lt_partition_table_room(p);
    if (!follows || rc != 0) {
        lt_segment_drop(s);
        return rc;
    }
    recover_prove(r, s->prefix.count > 0 ? s->base + s->prefix.count : 0);
    p->segs[p->count++] = s;
    r->end = s->base + s->count;
    r->jump = false;
    r->used++;
    return RECOVER_GOES_ON;
}

static int recover_read(struct recover *r) {
    for (;;) {
        int rc = r->used < r->count ? recover_take(r) : 0;
        if (rc == 0)
            rc = recover_judge(r);
        if (rc != RECOVER_GOES_ON)
            return rc == RECOVER_ENDS ? 0 : rc;
    }
}

// ---- putting in order

// Drops what was read: all of it is below the log start. The records from there up to the log start
// were deleted before they were synced, and a power cut took them, so no evidence says otherwise.
static void recover_forget(struct lt_partition *p) {
    for (size_t i = 0; i < p->count; i++) {
        if (!lt_read_only(p->mq))
            lt_partition_unlink(p, p->segs[i]->base);
        lt_segment_drop(p->segs[i]);
    }
    p->count = 0;
}

// Cuts what follows the last whole record of the last segment kept.
static int recover_cut(struct lt_partition *p) {
    struct lt_segment *s = p->count > 0 ? p->segs[p->count - 1] : NULL;
    struct lt_tail tail;
    if (!s || s->sealed || s->rotten || s->write_at >= s->allocated)
        return 0;
    lt_segment_look(s, &tail);
    if (tail.clean)
        return 0;
    char path[LT_PATH_MAX];
    lt_segment_file(path, s, ".log");
    lt_say(p->mq, LEAT_LOG_WARNING, "%s/%s: cut an unfinished tail after offset %lld", p->mq->dir,
           path, (long long)(s->base + s->count - 1));
    atomic_fetch_add_explicit(&p->mq->log->cut_records, tail.records, memory_order_relaxed);
    atomic_fetch_add_explicit(&p->mq->log->cut_bytes, tail.bytes, memory_order_relaxed);
    return lt_segment_cut(s);
}

// Tells whether the segment at `base` is one of this log behind records from `before` on, so that
// the one there can be below the log start. Returns  1, 0 (nothing proves it), or an error.
static int recover_is_behind(const struct recover *r, int64_t base, int64_t before) {
    struct lt_segment_head head;
    struct lt_segment *s;
    bool foreign;
    int rc = recover_open(r, base, &head, &s, &foreign);
    if (rc != 0)
        return rc == LEAT_ECORRUPT ? 0 : rc;
    lt_segment_drop(s);
    return head.previous_end > before;
}

// Removes the segments that were given back before the process died: never by the name of a file
// alone, which may be anybody's. What is left must begin at the log start, but for what is proved
// to be an unfinished tail.
static int recover_begin(struct recover *r, int64_t begin) {
    size_t gone = 0;
    int rc = 0;
    while (gone + 1 < r->count && r->base[gone + 1] <= begin) {
        rc = recover_is_behind(r, r->base[gone + 1], r->base[gone]);
        if (rc <= 0)
            break;
        if (!lt_read_only(r->p->mq))
            lt_partition_unlink(r->p, r->base[gone]);
        gone++;
    }
    r->count -= gone;
    if (gone > 0)
        memmove(r->base, r->base + gone, r->count * sizeof *r->base);
    r->end = r->count > 0 && r->base[0] < begin ? r->base[0] : begin;
    return rc < 0 ? rc : 0;
}

// Gets a segment that is rolled or kept ready for what follows: the bytes that are not known to be
// on disk are written again, and synced before the first acks DISK.
static int recover_publish_one(struct lt_partition *p, struct lt_segment *s, bool rolled,
                               int64_t durable_end) {
    int64_t past = s->base + s->count;
    if (rolled || lt_read_only(p->mq))
        atomic_store(&s->limit, past);
    p->bytes += (int64_t)(s->write_at - LT_SEGMENT_PAGE);
    s->pushed_to = s->write_at & ~UINT64_C(4095);
    if (lt_read_only(p->mq)) { // each record is checked again in the copy in which it is read
        s->check_to = LT_NEVER;
        s->synced_to = s->write_at;
        lt_segment_unready(s);
        return 0;
    }
    if (s->sealed)
        return 0;
    if (s->appended_ms == INT64_MIN || s->count > s->prefix.count)
        s->appended_ms = lt_steady_ms(p->mq); // not known: it is kept longer rather than shorter
    s->synced_to = past <= durable_end ? s->write_at : 0;
    if (past > durable_end)
        return lt_segment_redirty(s, durable_end);
    lt_segment_unready(s); // perhaps nobody uses it
    return 0;
}

// Tells whether the names of the segments are known to be on disk. A sync that went beyond the base
// of the last one has paid for it; a durable end at the log start was moved there without a sync.
static bool recover_names_synced(const struct lt_partition *p, int64_t begin) {
    int64_t synced = p->slot ? p->slot->values[0] : 0;
    return p->count == 0 || (synced > begin && synced > p->segs[p->count - 1]->base);
}

static int recover_publish(struct lt_partition *p, int64_t begin, int64_t end,
                           int64_t durable_end) {
    int64_t newest_ms = INT64_MIN; // append; of an unsealed segment perhaps only when it was made
    for (size_t i = 0; i < p->count; i++) {
        struct lt_segment *s = p->segs[i];
        s->old_ms = lt_retain_old_ms(p, s->created_ms);
        newest_ms = s->created_ms > newest_ms ? s->created_ms : newest_ms;
        newest_ms = s->appended_ms > newest_ms ? s->appended_ms : newest_ms;
        if (s->fields)
            atomic_store(&p->fields_end, s->base + s->count);
    }
    lt_retain_set_time(p, newest_ms);
    for (size_t i = 0; i < p->count; i++) {
        int rc = recover_publish_one(p, p->segs[i], i + 1 < p->count, durable_end);
        if (rc != 0)
            return rc;
    }
    p->dir_owed = !lt_read_only(p->mq) && !recover_names_synced(p, begin);
    atomic_store(&p->begin, begin);
    atomic_store(&p->durable_end, durable_end);
    atomic_store(&p->end, end);
    return 0;
}

// Asks the slot and the directory. Beside an owner the slot is asked before, for what will be
// found, and behind, for what may be gone.
static int recover_look(struct recover *r) {
    struct lt_partition *p = r->p;
    struct lt_slots *slots = &p->mq->log->slots;
    bool again = p->slot && lt_read_only(p->mq);
    int rc = again ? lt_slot_again(slots, p->slot) : 0;
    int64_t proof = p->slot ? p->slot->values[0] : 0;
    if (rc == 0)
        rc = recover_list(r);
    if (rc == 0 && again)
        rc = lt_slot_again(slots, p->slot);
    r->begin = p->slot ? p->slot->values[1] : 0;
    r->proof = proof > r->begin ? proof : 0;
    return rc;
}

// *skipped: offsets that were left out.
static int recover_once(struct lt_partition *p, int64_t *skipped) {
    struct recover r = { .p = p };
    struct lt_slot_key key = { LT_SLOT_PARTITION, 0, p->topic->id, (uint32_t)p->number };
    p->slot = lt_slot_find(&p->mq->log->slots, &key);
    int rc = recover_look(&r);
    int64_t begin = r.begin;
    if (rc == 0)
        rc = recover_begin(&r, begin);
    if (rc == 0)
        rc = recover_read(&r);
    // Only an unfinished tail is left to deal with: segments beyond it can be reached no more.
    if (rc == 0 && !lt_read_only(p->mq))
        rc = recover_set_all_aside(&r);
    int64_t end = p->count > 0 ? p->segs[p->count - 1]->base + p->segs[p->count - 1]->count : begin;
    if (rc == 0 && end < begin) {
        recover_forget(p);
        end = begin;
    }
    if (rc == 0 && !lt_read_only(p->mq))
        rc = recover_cut(p);
    if (rc == 0) {
        int64_t durable = r.proof < end ? r.proof : end;
        rc = recover_publish(p, begin, end, durable > begin ? durable : begin);
    }
    if (rc == 0 && r.lost_to > end)
        rc = lt_partition_skip_to(p, r.lost_to, LT_GAP_ROT);
    lt_free(&p->mq->mem, r.base);
    *skipped = r.skipped;
    return rc;
}

int lt_partition_recover(struct lt_partition *p) {
    struct lt_log *log = p->mq->log;
    char last[RECOVER_TEXT] = "";
    int64_t skipped, before = 0;
    uint64_t ranges = atomic_load_explicit(&log->damaged_ranges, memory_order_relaxed);
    for (int i = 0;; i++) {
        int rc = recover_once(p, &skipped);
        bool damaged = rc == LEAT_ECORRUPT || rc == LEAT_ENOENT || (rc == 0 && skipped > 0);
        if (!lt_read_only(p->mq) || !damaged || i == RECOVER_TRIES)
            return rc;
        // The owner may have appended, rolled and deleted while it was read, page by page and file
        // by file. Damage is found again in the same place.
        if (rc == 0 ? skipped == before : strncmp(last, leat_errmsg(), sizeof last - 1) == 0)
            return rc;
        before = rc == 0 ? skipped : 0;
        (void)snprintf(last, sizeof last, "%s", rc == 0 ? "" : leat_errmsg());
        while (p->count > 0)
            lt_segment_drop(p->segs[--p->count]);
        p->bytes = 0;
        atomic_store_explicit(&log->damaged_ranges, ranges, memory_order_relaxed);
    }
}
