/* SPDX-License-Identifier: MIT */
// index: where each record of a segment stands and how late it got, in memory and in the file
// beside the segment; and the seal. The file is a help, never the truth: one that is missing, of
// another length or with a wrong checksum is made again from the records, and each record that is
// found by it is checked when it is read.
#include "log/segment.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

// A segment with fewer bytes is read faster than its index is.
enum { INDEX_FROM = 8192 };

// ---- the layout of the file

static uint64_t index_times(int64_t count) {
    return ((uint64_t)count + LT_SEAL_TIMES - 1) / LT_SEAL_TIMES;
}

static uint64_t index_times_at(int64_t count) {
    return LT_SEAL + lt_align8((uint64_t)count * 4);
}

static uint64_t index_size(int64_t count) {
    return index_times_at(count) + index_times(count) * 8;
}

// ---- looking up

static uint32_t index_position(const struct lt_segment *s, int64_t i) {
    if (i < s->prefix.count)
        return lt_get_u32(s->prefix.image + LT_SEAL + (uint64_t)i * 4);
    return *(uint32_t *)lt_stretch_at(&s->index, (uint64_t)(i - s->prefix.count));
}

// The highest timestamp up to the end of block b. The block in which the prefix ends counts with
// the records behind it, if there are any.
static int64_t index_time(const struct lt_segment *s, uint64_t b) {
    uint64_t first = (uint64_t)s->prefix.count / LT_SEAL_TIMES;
    if (b == (uint64_t)(s->count - 1) / LT_SEAL_TIMES && s->count > s->prefix.count)
        return s->newest;
    if (b >= first && s->count > s->prefix.count)
        return *(int64_t *)lt_stretch_at(&s->newest_to, b - first);
    return (int64_t)lt_get_u64(s->prefix.image + index_times_at(s->prefix.count) + b * 8);
}

const uint8_t *lt_segment_checked(const struct lt_segment *s, int64_t offset) {
    int64_t i = offset - s->base;
    uint64_t at = index_position(s, i);
    if (at < LT_SEGMENT_PAGE)
        return NULL;
    bool read_only = lt_read_only(s->mq); // the file may have changed since it was scanned
    uint64_t end = i >= s->prefix.count && read_only ? s->write_at : s->prefix.end;
    if ((i < s->prefix.count || read_only) &&
        (at >= end || lt_record_check(s->map + at, end - at, s->uid, offset, s->base) == 0))
        return NULL;
    return s->map + at;
}

// Where record i begins. Of one that is not readable nothing is known: where the next one begins.
static uint64_t index_begins(const struct lt_segment *s, int64_t i) {
    uint32_t at = 0;
    for (i = i > 0 ? i : 0; i < s->count && at == 0; i++)
        at = index_position(s, i);
    return at != 0 ? at : s->write_at;
}

uint64_t lt_segment_bytes(const struct lt_segment *s, int64_t from, int64_t to) {
    uint64_t begin = from > s->base ? index_begins(s, from - s->base) : LT_SEGMENT_PAGE;
    uint64_t end = to < s->base + s->count ? index_begins(s, to - s->base) : s->write_at;
    return end > begin ? end - begin : 0; // an index that is damaged may say anything
}

int64_t lt_segment_offset_at(const struct lt_segment *s, int64_t ts, int64_t from) {
    uint64_t lo = 0, hi = s->count > 0 ? (uint64_t)(s->count - 1) / LT_SEAL_TIMES : 0;
    if (s->count == 0 || s->newest < ts)
        return -1;
    while (lo < hi && from <= s->base) { // the first 512 with which the highest time reaches ts
        uint64_t mid = lo + (hi - lo) / 2;
        if (index_time(s, mid) < ts)
            lo = mid + 1;
        else
            hi = mid;
    }
    // Where the front is deleted, the times may speak of what is gone: one by one from there on.
    int64_t offset = s->base + (int64_t)(lo * LT_SEAL_TIMES);
    for (offset = from > offset ? from : offset; offset < s->base + s->count; offset++) {
        const uint8_t *at = lt_segment_record(s, offset);
        if (at && lt_record_timestamp(at) >= ts)
            return offset;
    }
    return -1;
}

// ---- growing

int lt_index_room(struct lt_segment *s, uint64_t n) {
    uint64_t more = (uint64_t)(s->count - s->prefix.count) + n;
    if (more <= s->index_room)
        return 0;
    uint64_t begun = (uint64_t)s->prefix.count % LT_SEAL_TIMES; // of the block where it ends
    if (lt_stretch_reserve(&s->index, more) != 0 ||
        lt_stretch_reserve(&s->newest_to, (begun + more) / LT_SEAL_TIMES) != 0)
        return lt_fail_nomem();
    uint64_t times = (lt_stretch_capacity(&s->newest_to) + 1) * LT_SEAL_TIMES - begun - 1;
    s->index_room = lt_stretch_capacity(&s->index);
    s->index_room = s->index_room < times ? s->index_room : times;
    return 0;
}

void lt_index_add(struct lt_segment *s, int64_t timestamp_ms, uint64_t n, bool readable) {
    uint32_t *at = lt_stretch_at(&s->index, (uint64_t)(s->count - s->prefix.count));
    *at = readable ? (uint32_t)s->write_at : 0;
    if (s->count % LT_SEAL_TIMES == 0 && s->count > s->prefix.count) { // a block is full
        uint64_t block = (uint64_t)s->count / LT_SEAL_TIMES - 1;
        block -= (uint64_t)s->prefix.count / LT_SEAL_TIMES;
        *(int64_t *)lt_stretch_at(&s->newest_to, block) = s->newest;
    }
    if (readable && timestamp_ms > s->newest)
        s->newest = timestamp_ms;
    s->write_at += n;
    s->count++;
}

// What a block that got full has in newest_to is stored again when it does so again.
void lt_index_undo(struct lt_segment *s, int64_t count, uint64_t write_at, int64_t newest) {
    s->count = count;
    s->write_at = write_at;
    s->newest = newest;
}

// ---- the file

void lt_index_take(struct lt_segment *s, const struct lt_seal *seal) {
    s->prefix.count = s->count = seal->count;
    s->prefix.end = s->write_at = seal->end;
    s->newest = seal->newest;
    s->appended_ms = seal->appended_ms;
    s->head_crcs = seal->head_crcs;
    s->check_to = s->base + seal->count;
}

// Opens the index file.
// Returns  a descriptor, INDEX_NONE (there is none that can be read), or an error.
enum { INDEX_NONE = LEAT_ENOENT };

static int index_open(const struct lt_segment *s, int64_t *size) {
    struct lt_os *os = s->mq->os;
    char path[LT_PATH_MAX];
    struct lt_file_info info;
    lt_segment_file(path, s, ".idx");
    int fd = os->open(os, s->mq->dir_fd, path, O_RDONLY, 0);
    if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM)
        return lt_fail_os(fd, "opening %s/%s", s->mq->dir, path);
    if (fd < 0)
        return INDEX_NONE;
    if (os->info(os, fd, &info) == 0 && info.kind == LT_FILE_REGULAR) {
        *size = info.size;
        return fd;
    }
    (void)os->close(os, fd);
    return INDEX_NONE;
}

static int index_read_seal(const struct lt_segment *s, int fd, struct lt_seal *seal) {
    uint8_t head[LT_SEAL];
    return lt_pread_full(s->mq->os, fd, head, LT_SEAL, 0) == LT_SEAL &&
           lt_seal_get(head, LT_SEAL_INDEX, s->uid, seal);
}

int lt_index_probe(struct lt_segment *s) {
    struct lt_seal seal;
    int64_t size;
    int fd = index_open(s, &size);
    if (fd < 0)
        return fd == INDEX_NONE ? 0 : fd;
    bool sound = index_read_seal(s, fd, &seal) && seal.end <= s->allocated;
    (void)s->mq->os->close(s->mq->os, fd);
    if (sound)
        lt_index_take(s, &seal);
    return sound;
}

// Maps the file if it is what belongs to the prefix. Returns  1, 0, or an error.
static int index_map(struct lt_segment *s) {
    struct lt_os *os = s->mq->os;
    struct lt_seal seal;
    uint64_t size = index_size(s->prefix.count);
    int64_t is;
    void *p = NULL;
    int fd = index_open(s, &is);
    if (fd < 0)
        return fd == INDEX_NONE ? 0 : fd;
    bool sound = is == (int64_t)size && index_read_seal(s, fd, &seal) &&
                 seal.count == s->prefix.count && seal.end == s->prefix.end;
    int rc = sound ? os->map(os, fd, size, false, &p) : 0;
    (void)os->close(os, fd);
    if (rc < 0)
        return lt_fail_os(rc, "mapping the index of segment %lld in %s", (long long)s->base,
                          s->mq->dir);
    if (!sound)
        return 0;
    if (lt_crc32c(0, (uint8_t *)p + LT_SEAL, size - LT_SEAL) != seal.body_crc) {
        (void)os->unmap(os, p, size);
        return 0;
    }
    s->prefix.image = p;
    s->prefix.mapped = true;
    return 1;
}

// Fills the image from the records: those that cannot be found get position 0.
static void index_walk(const struct lt_segment *s, uint8_t *image) {
    struct lt_segment_head head = { .uid = s->uid, .base = s->base };
    uint64_t at = LT_SEGMENT_PAGE, end = s->prefix.end;
    int64_t newest = INT64_MIN, next = s->base;
    for (int64_t i = 0; i < s->prefix.count; i++) {
        if (s->base + i == next && at < end &&
            lt_record_check(s->map + at, end - at, s->uid, next, s->base) == 0)
            at = lt_record_find(s->map, at + 8, end, &head, next + 1, &next);
        if (s->base + i == next && at < end) {
            lt_put_u32(image + LT_SEAL + (uint64_t)i * 4, (uint32_t)at);
            if (lt_record_timestamp(s->map + at) > newest)
                newest = lt_record_timestamp(s->map + at);
            at += lt_record_size(s->map + at);
            next++;
        }
        lt_put_u64(image + index_times_at(s->prefix.count) + (uint64_t)i / LT_SEAL_TIMES * 8,
                   (uint64_t)newest);
    }
}

static int index_save(struct lt_segment *s, uint32_t head_crcs);

int lt_index_load(struct lt_segment *s) {
    s->prefix.size = index_size(s->prefix.count);
    int rc = index_map(s);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    uint8_t *image = lt_zalloc(&s->mq->mem, s->prefix.size);
    if (!image)
        return lt_fail_nomem();
    index_walk(s, image);
    s->prefix.image = image;
    s->prefix.mapped = false;
    if (s->count == s->prefix.count && !lt_read_only(s->mq))
        (void)index_save(s, s->head_crcs); // if it fails it is made again the next time
    return 0;
}

void lt_index_unload(struct lt_segment *s) {
    if (!s->prefix.image)
        return;
    if (s->prefix.mapped)
        (void)s->mq->os->unmap(s->mq->os, s->prefix.image, s->prefix.size);
    else
        lt_free(&s->mq->mem, s->prefix.image);
    s->prefix.image = NULL;
}

// index_out is a file that is written from front to back.
struct index_out {
    struct lt_os *os;
    int fd, rc;
    int64_t at;
    uint32_t crc;
    size_t used;
    uint8_t bytes[4096];
};

static void index_flush(struct index_out *out) {
    if (out->rc == 0 && out->used > 0)
        out->rc = lt_pwrite_full(out->os, out->fd, out->bytes, out->used, out->at);
    out->crc = lt_crc32c(out->crc, out->bytes, out->used);
    out->at += (int64_t)out->used;
    out->used = 0;
}

static uint8_t *index_next(struct index_out *out, size_t n) {
    if (out->used + n > sizeof out->bytes)
        index_flush(out);
    out->used += n;
    return out->bytes + out->used - n;
}

static void index_write_body(const struct lt_segment *s, struct index_out *out) {
    out->at = LT_SEAL;
    for (int64_t i = 0; i < s->count; i++)
        lt_put_u32(index_next(out, 4), index_position(s, i));
    if (s->count % 2 != 0)
        lt_put_u32(index_next(out, 4), 0);
    for (uint64_t b = 0; b < index_times(s->count); b++)
        lt_put_u64(index_next(out, 8), (uint64_t)index_time(s, b));
    index_flush(out);
}

static void index_seal(const struct lt_segment *s, uint32_t head_crcs, uint32_t body_crc,
                       enum lt_seal_kind kind, uint8_t at[LT_SEAL]) {
    struct lt_seal seal = { .uid = s->uid,
                            .end = s->write_at,
                            .count = s->count,
                            .appended_ms = s->appended_ms,
                            .newest = s->newest,
                            .head_crcs = head_crcs,
                            .body_crc = body_crc };
    lt_seal_put(at, kind, &seal);
}

// Writes the index under another name: the old one may be mapped.
static int index_save(struct lt_segment *s, uint32_t head_crcs) {
    leat *mq = s->mq;
    char path[LT_PATH_MAX], fresh[LT_PATH_MAX];
    if (s->write_at < LT_SEGMENT_PAGE + INDEX_FROM)
        return 0;
    lt_segment_file(path, s, ".idx");
    lt_segment_file(fresh, s, ".idx.new");
    struct index_out out = { .os = mq->os };
    out.fd = mq->os->open(mq->os, mq->dir_fd, fresh, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (out.fd < 0)
        return lt_fail_os(out.fd, "creating %s/%s", mq->dir, fresh);
    index_write_body(s, &out);
    uint8_t head[LT_SEAL];
    index_seal(s, head_crcs, out.crc, LT_SEAL_INDEX, head);
    if (out.rc == 0)
        out.rc = lt_pwrite_full(mq->os, out.fd, head, LT_SEAL, 0);
    (void)mq->os->close(mq->os, out.fd);
    if (out.rc == 0)
        out.rc = mq->os->rename(mq->os, mq->dir_fd, fresh, path);
    if (out.rc == 0)
        return 0;
    (void)mq->os->unlink(mq->os, mq->dir_fd, fresh, false);
    return lt_fail_os(out.rc, "writing %s/%s", mq->dir, path);
}

// ---- sealing

static uint32_t index_head_crcs(const struct lt_segment *s) {
    uint32_t crc = s->head_crcs;
    for (int64_t i = s->prefix.count; i < s->count; i++) {
        uint32_t at = index_position(s, i);
        if (at != 0)
            crc = lt_crc32c(crc, s->map + at + 4, 4);
    }
    return crc;
}

static int index_put_seal(struct lt_segment *s, const uint8_t seal[LT_SEAL]) {
    struct lt_os *os = s->mq->os;
    uint64_t end = s->write_at + LT_SEAL;
    // One of its own size that was opened again may be mapped up to its last record only.
    bool mapped = s->mq->mapped_write && end <= s->map_size;
    int rc = 0;
    if (!mapped)
        rc = lt_pwrite_full(os, s->fd, seal, LT_SEAL, (int64_t)s->write_at);
    else if (s->allocated < end)
        rc = os->allocate(os, s->fd, (int64_t)s->allocated, (int64_t)(end - s->allocated));
    if (rc == 0)
        rc = os->truncate(os, s->fd, (int64_t)end); // what was allocated ahead
    if (rc == 0 && mapped)
        memcpy(s->map + s->write_at, seal, LT_SEAL);
    return rc < 0 ? lt_fail_os(rc, "sealing segment %lld in %s", (long long)s->base, s->mq->dir)
                  : 0;
}

bool lt_segment_sealable(const struct lt_segment *s) {
    return s->in_file && !s->sealed && !s->rotten && !s->seal_failed;
}

int lt_segment_seal(struct lt_segment *s) {
    uint8_t seal[LT_SEAL];
    uint32_t crcs = index_head_crcs(s);
    index_seal(s, crcs, 0, LT_SEAL_SEGMENT, seal);
    int rc = index_put_seal(s, seal);
    s->sealed_crcs = crcs;
    if (rc == 0 && (s->prefix.count == 0 || s->prefix.image))
        (void)index_save(s, crcs);
    return rc;
}

void lt_segment_sealed(struct lt_segment *s, int rc) {
    s->sealed = rc == 0;
    s->seal_failed = rc != 0;
    if (rc != 0)
        return;
    s->allocated = s->write_at + LT_SEAL;
    s->synced_to = s->write_at;
    lt_segment_close_fd(s);
    struct lt_os *os = s->mq->os;
    if (s->map && s->mq->mapped_write && os->protect)
        (void)os->protect(os, s->map, s->map_size); // a stray store of the host finds no way in
}

int lt_segment_settle(struct lt_segment *s) {
    struct lt_os *os = s->mq->os;
    if (!s->in_file || s->sealed || s->rotten || (s->synced_to < s->write_at && s->count > 0))
        return 0;
    int rc = 0;
    if (s->allocated > s->write_at) {
        rc = lt_segment_ready_fd(s);
        if (rc == 0)
            rc = os->truncate(os, s->fd, (int64_t)s->write_at);
        s->allocated = rc == 0 ? s->write_at : s->allocated;
    }
    if (rc == 0 && s->count > s->prefix.count)
        rc = lt_segment_ready(s); // of the prefix, too, for the whole
    if (rc == 0 && s->count > s->prefix.count)
        rc = index_save(s, index_head_crcs(s));
    return rc;
}
