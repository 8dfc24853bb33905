/* SPDX-License-Identifier: MIT */
// scan: what is behind the records that a segment is known to have: more records, an unfinished
// tail, or damage. Which of the last two it is, recover.c decides by what later records prove.
#include "log/segment.h"

#include "base/bytes.h"

#include <string.h>

int lt_segment_scan(struct lt_segment *s) {
    int rc = s->write_at < s->allocated ? lt_segment_map(s) : 0;
    int64_t whole = s->count; // what ends with a whole batch
    uint64_t whole_at = s->write_at;
    while (rc == 0 && s->write_at < s->allocated) { // else there may be no mapping
        const uint8_t *at = s->map + s->write_at;
        uint32_t n =
            lt_record_check(at, s->allocated - s->write_at, s->uid, s->base + s->count, s->base);
        if (n == 0)
            break;
        rc = lt_index_room(s, 1);
        if (rc != 0)
            break;
        lt_index_add(s, lt_record_timestamp(at), n, true);
        if (!lt_record_more(at)) {
            whole = s->count;
            whole_at = s->write_at;
        }
    }
    s->count = whole;
    s->write_at = whole_at;
    return rc;
}

void lt_segment_look(const struct lt_segment *s, struct lt_tail *tail) {
    struct lt_segment_head head = { .uid = s->uid, .base = s->base };
    *tail = (struct lt_tail){ .clean = true, .next = -1 };
    if (s->sealed || s->write_at >= s->allocated)
        return;
    const uint8_t *p = s->map + s->write_at;
    uint64_t n = s->allocated - s->write_at;
    tail->clean = p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
    if (tail->clean)
        return;
    for (tail->bytes = n; p[tail->bytes - 1] == 0;)
        tail->bytes--;
    int64_t found = s->base + s->count;
    tail->records = lt_record_check(p, n, s->uid, found, s->base) != 0; // of a batch
    uint64_t at = s->write_at + 8;
    for (;;) {
        at = lt_record_find(s->map, at, s->allocated, &head, found + 1, &found);
        if (at >= s->allocated)
            return;
        if (tail->next < 0) {
            tail->next = found;
            tail->next_at = at;
        }
        tail->records++;
        int64_t claim = lt_record_claim(s->map + at, s->base);
        tail->claim = claim > tail->claim ? claim : tail->claim;
        at += lt_record_size(s->map + at);
    }
}

int lt_segment_skip(struct lt_segment *s, const struct lt_tail *tail) {
    int rc = lt_index_room(s, (uint64_t)(tail->next - s->base - s->count));
    if (rc != 0)
        return rc;
    while (s->base + s->count < tail->next)
        lt_index_add(s, 0, 0, false);
    s->write_at = tail->next_at;
    s->check_to = tail->next;
    return 0;
}

int lt_segment_cut(struct lt_segment *s) {
    struct lt_os *os = s->mq->os;
    char path[LT_PATH_MAX];
    lt_segment_file(path, s, ".log");
    int rc = lt_segment_ready_fd(s);
    if (rc != 0)
        return rc;
    rc = os->truncate(os, s->fd, (int64_t)s->write_at);
    if (rc == 0)
        rc = os->sync(os, s->fd, false);
    if (rc < 0)
        return lt_fail_os(rc, "cutting the unfinished tail of %s/%s", s->mq->dir, path);
    s->allocated = s->write_at;
    return 0;
}

int lt_segment_redirty(struct lt_segment *s, int64_t from) {
    if (from >= s->base + s->count && s->count > 0)
        return 0;
    int rc = lt_segment_map(s);
    if (rc == 0)
        rc = lt_segment_ready_fd(s);
    if (rc != 0)
        return rc;
    uint64_t at = 0; // the header page, too
    if (from > s->base) {
        const uint8_t *record = lt_segment_record(s, from);
        at = record ? (uint64_t)(record - s->map) : LT_SEGMENT_PAGE;
    }
    if (!s->mq->mapped_write) {
        rc = lt_pwrite_full(s->mq->os, s->fd, s->map + at, s->write_at - at, (int64_t)at);
        return rc == 0 ? 0 : lt_fail_os(rc, "writing a segment again in %s", s->mq->dir);
    }
    for (at &= ~UINT64_C(4095); at < s->write_at; at += 4096) {
        volatile uint8_t *byte = s->map + at;
        *byte = *byte; // the page is dirty by it
    }
    return 0;
}
