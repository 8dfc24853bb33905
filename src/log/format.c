/* SPDX-License-Identifier: MIT */
#include "log/format.h"

#include "base/bytes.h"
#include "log/copy.h"
#include "base/crc32c.h"
#include "base/err.h"

#include <string.h>

#define FORMAT_NULL_LENGTH UINT32_MAX
enum { FORMAT_FIELDS_MAX = 2 + (2 + LT_DEDUP_ID_MAX) + 2 * (2 + 8) + (2 + 1) + (2 + LT_GROUP_MAX) };

static const char format_magic[8] = { 'l', 'e', 'a', 't', 's', 'e', 'g', '\n' };
static const char format_seal_magic[2][8] = { { 'l', 'e', 'a', 't', 'e', 'n', 'd', '\n' },
                                              { 'l', 'e', 'a', 't', 'i', 'd', 'x', '\n' } };

// ---- header page

void lt_segment_head_put(uint8_t page[LT_SEGMENT_PAGE], const struct lt_segment_head *head) {
    memset(page, 0, LT_SEGMENT_PAGE);
    memcpy(page, format_magic, sizeof format_magic);
    lt_put_u32(page + 8, LT_FORMAT_VERSION);
    lt_put_u32(page + 12, head->incompatible);
    lt_put_u32(page + 20, head->partition);
    lt_put_u64(page + 24, head->uid);
    lt_put_u64(page + 32, (uint64_t)head->base);
    lt_put_u64(page + 40, (uint64_t)head->previous_end);
    lt_put_u64(page + 48, (uint64_t)head->created_ms);
    lt_put_u32(page + 56, head->topic_id);
    lt_put_u32(page + 60, head->reason);
    memcpy(page + 64, head->topic, strnlen(head->topic, sizeof head->topic - 1));
    lt_put_u32(page + LT_SEGMENT_PAGE - 4, lt_crc32c(0, page, LT_SEGMENT_PAGE - 4));
}

int lt_segment_head_get(const uint8_t page[LT_SEGMENT_PAGE], struct lt_segment_head *out) {
    if (memcmp(page, format_magic, sizeof format_magic) != 0)
        return LEAT_ECORRUPT;
    if (lt_crc32c(0, page, LT_SEGMENT_PAGE - 4) != lt_get_u32(page + LT_SEGMENT_PAGE - 4))
        return LEAT_ECORRUPT;
    if (lt_get_u32(page + 8) != LT_FORMAT_VERSION ||
        (lt_get_u32(page + 12) & ~(uint32_t)LT_INCOMPATIBLE_FIELDS) != 0)
        return LEAT_EINVAL;
    *out = (struct lt_segment_head){
        .uid = lt_get_u64(page + 24),
        .topic_id = lt_get_u32(page + 56),
        .partition = lt_get_u32(page + 20),
        .base = (int64_t)lt_get_u64(page + 32),
        .previous_end = (int64_t)lt_get_u64(page + 40),
        .created_ms = (int64_t)lt_get_u64(page + 48),
        .incompatible = lt_get_u32(page + 12),
        .reason = lt_get_u32(page + 60),
    };
    memcpy(out->topic, page + 64, sizeof out->topic - 1);
    // Its last offset would be no number.
    return out->base < 0 || out->base > INT64_MAX - UINT32_MAX ? LEAT_ECORRUPT : 0;
}

// ---- seal

void lt_seal_put(uint8_t at[LT_SEAL], enum lt_seal_kind kind, const struct lt_seal *seal) {
    memcpy(at, format_seal_magic[kind], 8);
    lt_put_u32(at + 8, LT_FORMAT_VERSION);
    lt_put_u32(at + 12, seal->head_crcs);
    lt_put_u64(at + 16, seal->uid);
    lt_put_u64(at + 24, (uint64_t)seal->count);
    lt_put_u64(at + 32, seal->end);
    lt_put_u64(at + 40, (uint64_t)seal->appended_ms);
    lt_put_u64(at + 48, (uint64_t)seal->newest);
    lt_put_u32(at + 56, kind == LT_SEAL_INDEX ? seal->body_crc : 0);
    lt_put_u32(at + 60, lt_crc32c(0, at, 60));
}

bool lt_seal_get(const uint8_t at[LT_SEAL], enum lt_seal_kind kind, uint64_t uid,
                 struct lt_seal *out) {
    if (memcmp(at, format_seal_magic[kind], 8) != 0 ||
        lt_crc32c(0, at, 60) != lt_get_u32(at + 60) || lt_get_u32(at + 8) != LT_FORMAT_VERSION)
        return false;
    *out = (struct lt_seal){ .uid = lt_get_u64(at + 16),
                             .end = lt_get_u64(at + 32),
                             .count = (int64_t)lt_get_u64(at + 24),
                             .appended_ms = (int64_t)lt_get_u64(at + 40),
                             .newest = (int64_t)lt_get_u64(at + 48),
                             .head_crcs = lt_get_u32(at + 12),
                             .body_crc = lt_get_u32(at + 56) };
    return out->uid == uid && out->end >= LT_SEGMENT_PAGE && out->end <= UINT32_MAX &&
           out->end % 8 == 0 && out->count >= 0 &&
           (uint64_t)out->count <= (out->end - LT_SEGMENT_PAGE) / LT_RECORD_MIN;
}

// ---- planning: limits, length, body checksum

static void format_header_lengths(const leat_header *h, uint8_t out[8]) {
    lt_put_u32(out, (uint32_t)h->name.size);
    lt_put_u32(out + 4, h->value.data ? (uint32_t)h->value.size : FORMAT_NULL_LENGTH);
}

// Writes one system field. Returns where the next one goes.
static uint8_t *format_put_field(uint8_t *to, uint8_t tag, const void *data, size_t n) {
    to[0] = tag;
    to[1] = (uint8_t)n;
    memcpy(to + 2, data, n);
    return to + 2 + n;
}

// Writes the system fields that there are. Returns  how long they are, 0: there is none.
static uint32_t format_fields(const struct lt_plan *plan, uint8_t out[FORMAT_FIELDS_MAX]) {
    const leat_record *r = plan->record;
    uint8_t *to = out + 2, number[8], priority = (uint8_t)r->priority;
    if (r->dedup_id.data)
        to = format_put_field(to, LT_FIELD_DEDUP_ID, r->dedup_id.data, r->dedup_id.size);
    if (plan->stamp != 0) {
        lt_put_u64(number, (uint64_t)plan->stamp);
        to = format_put_field(to, LT_FIELD_STAMP, number, sizeof number);
    }
    if (priority != 0)
        to = format_put_field(to, LT_FIELD_PRIORITY, &priority, 1);
    if (r->delay_ms != 0) {
        lt_put_u64(number, (uint64_t)plan->not_before);
        to = format_put_field(to, LT_FIELD_NOT_BEFORE, number, sizeof number);
    }
    if (r->group.data)
        to = format_put_field(to, LT_FIELD_GROUP, r->group.data, r->group.size);
    lt_put_u16(out, (uint16_t)(to - out - 2));
    return to == out + 2 ? 0 : (uint32_t)(to - out);
}

static void format_plan_fields(struct lt_plan *plan) {
    uint8_t fields[FORMAT_FIELDS_MAX];
    plan->fields = format_fields(plan, fields);
    plan->body_crc = lt_crc32c(0, fields, plan->fields);
    plan->total += plan->fields;
}

// Adds one header to the plan's length and checksum. size: so far, of what the limit counts.
static int format_plan_header(const leat_header *h, uint64_t *size, struct lt_plan *plan) {
    if (!h->name.data)
        return lt_fail(LEAT_EINVAL, "a header without a name");
    if (!h->value.data && h->value.size != 0)
        return lt_fail(LEAT_EINVAL, "a header value is NULL with a size");
    if (h->name.size > LT_RECORD_MAX || h->value.size > LT_RECORD_MAX)
        return lt_fail(LEAT_ETOOBIG, "a header of %zu + %zu bytes; a record has at most %d",
                       h->name.size, h->value.size, LT_RECORD_MAX);
    *size += h->name.size + h->value.size;
    uint8_t lengths[8];
    format_header_lengths(h, lengths);
    plan->body_crc = lt_crc32c(plan->body_crc, lengths, sizeof lengths);
    plan->body_crc = lt_crc32c_text(plan->body_crc, h->name.data, h->name.size);
    plan->total += 8 + (uint32_t)h->name.size + 1;
    if (h->value.data) {
        plan->body_crc = lt_crc32c_text(plan->body_crc, h->value.data, h->value.size);
        plan->total += (uint32_t)h->value.size + 1;
    }
    return 0;
}

// What the record says of the order in which a queue hands out.
static int format_check_order(const leat_record *r) {
    if (r->priority < 0 || r->priority > LT_PRIORITY_MAX)
        return lt_fail(LEAT_EINVAL, "priority is %d; 1 to %d, 0 is %d", r->priority,
                       LT_PRIORITY_MAX, LT_PRIORITY_MIDDLE);
    if (r->delay_ms != LEAT_ZERO && (r->delay_ms < 0 || r->delay_ms > LT_DELAY_MAX_MS))
        return lt_fail(LEAT_EINVAL, "delay_ms is %lld; up to 366 days", (long long)r->delay_ms);
    if (r->group.data ? r->group.size == 0 : r->group.size != 0)
        return lt_fail(LEAT_EINVAL, "group is empty, or NULL with a size");
    if (r->group.size > LT_GROUP_MAX)
        return lt_fail(LEAT_ETOOBIG, "a group of %zu bytes; the limit is %d", r->group.size,
                       LT_GROUP_MAX);
    return 0;
}

static int format_check_record(const leat_record *r) {
    if (r->key.size > LT_KEY_MAX)
        return lt_fail(LEAT_ETOOBIG, "a key of %zu bytes; the limit is %d", r->key.size,
                       LT_KEY_MAX);
    if (r->value.size > LT_RECORD_MAX)
        return lt_fail(LEAT_ETOOBIG, "a value of %zu bytes; the limit of a record is %d",
                       r->value.size, LT_RECORD_MAX);
    if (r->header_count > LT_HEADERS_MAX)
        return lt_fail(LEAT_ETOOBIG, "%zu headers; the limit is %d", r->header_count,
                       LT_HEADERS_MAX);
    if ((!r->key.data && r->key.size != 0) || (!r->value.data && r->value.size != 0) ||
        (!r->headers && r->header_count != 0))
        return lt_fail(LEAT_EINVAL, "key, value or headers are NULL with a size");
    if (!r->value.data && !r->key.data)
        return lt_fail(LEAT_EINVAL, "a null value needs a key");
    if (r->dedup_id.data || r->dedup_id.size != 0) {
        if (!r->dedup_id.data || r->dedup_id.size == 0)
            return lt_fail(LEAT_EINVAL, "dedup_id is empty, or NULL with a size");
        if (r->dedup_id.size > LT_DEDUP_ID_MAX)
            return lt_fail(LEAT_ETOOBIG, "a dedup id of %zu bytes; the limit is %d",
                           r->dedup_id.size, LT_DEDUP_ID_MAX);
    }
    for (size_t i = 0; i < sizeof r->reserved / sizeof r->reserved[0]; i++)
        if (r->reserved[i] != 0)
            return lt_fail(LEAT_EINVAL, "record: reserved words must be zero");
    return 0;
}

// The time at which a delay is over. 0 would say that there is none.
static int64_t format_not_before(int64_t delay_ms, int64_t wall_ms) {
    int64_t at;
    if (delay_ms <= 0)
        return 0;
    if (__builtin_add_overflow(wall_ms, delay_ms, &at))
        return INT64_MAX;
    return at ? at : 1;
}

int lt_plan_make_sent(const leat_record *r, const leat_header *extra, size_t extra_count,
                      struct lt_sent sent, struct lt_plan *plan) {
    int rc = format_check_record(r);
    bool ordered = r->priority != 0 || r->delay_ms != 0 || r->group.data || r->group.size != 0;
    if (rc == 0 && ordered)
        rc = format_check_order(r);
    if (rc != 0)
        return rc;
    *plan = (struct lt_plan){
        .record = r, .extra = extra, .extra_count = extra_count, .total = LT_RECORD_HEADER
    };
    plan->stamp = sent.stamp;
    uint64_t size = r->key.size + r->value.size;
    if (r->dedup_id.data || sent.stamp != 0 || ordered) {
        plan->ordered = ordered;
        plan->not_before = format_not_before(r->delay_ms, sent.wall_ms);
        format_plan_fields(plan);
        size += r->dedup_id.size + r->group.size;
    }
    if (r->key.data) {
        plan->body_crc = lt_crc32c_text(plan->body_crc, r->key.data, r->key.size);
        plan->total += (uint32_t)r->key.size + 1;
    }
    for (size_t i = 0; i < r->header_count && size <= LT_RECORD_MAX; i++) {
        rc = format_plan_header(&r->headers[i], &size, plan);
        if (rc != 0)
            return rc;
    }
    if (size > LT_RECORD_MAX)
        return lt_fail(LEAT_ETOOBIG, "a record of %llu bytes or more; the limit is %d",
                       (unsigned long long)size, LT_RECORD_MAX);
    for (size_t i = 0; i < extra_count; i++) { // ours: not part of the limit, so moves always fit
        rc = format_plan_header(&extra[i], &size, plan);
        if (rc != 0)
            return rc;
    }
    if (r->value.data) {
        plan->body_crc = lt_crc32c_text(plan->body_crc, r->value.data, r->value.size);
        plan->total += (uint32_t)r->value.size + 1;
    }
    return 0;
}

// ---- writing

static uint8_t *format_put_nul(uint8_t *at, const void *data, size_t n) {
    if (n > 0)
        memcpy(at, data, n);
    at[n] = 0;
    return at + n + 1;
}

static uint8_t *format_put_header(uint8_t *at, const leat_header *h) {
    format_header_lengths(h, at);
    at = format_put_nul(at + 8, h->name.data, h->name.size);
    return h->value.data ? format_put_nul(at, h->value.data, h->value.size) : at;
}

// The checksum of a record's header: of its bytes but the checksum itself, of the segment's uid and
// of the offset. word[] is what it has at 8, 16 and 24, as numbers: a load of bytes that were just
// stored in pieces would wait for all of them.
static inline uint32_t format_head_crc(uint32_t total, const uint64_t word[3], uint64_t uid,
                                       int64_t offset) {
    const uint64_t all[5] = { word[0], word[1], word[2], uid, (uint64_t)offset };
    return lt_crc32c_words(0, total, all, 5);
}

// Stores a header: word[] as above but for what the stamp says.
static inline void format_put_head(uint8_t *at, uint32_t total, const uint64_t without[3],
                                   const struct lt_stamp *stamp) {
    uint64_t more = stamp->more ? (uint64_t)LT_RECORD_MORE << 24 : 0;
    const uint64_t word[3] = { without[0] | (uint64_t)(stamp->offset - stamp->base) << 32,
                               (uint64_t)stamp->timestamp_ms, without[2] | stamp->behind | more };
    uint32_t crc = format_head_crc(total, word, stamp->uid, stamp->offset);
    lt_put_u64(at, total | (uint64_t)crc << 32);
    for (int i = 0; i < 3; i++)
        lt_put_u64(at + 8 + 8 * i, word[i]);
}

// The words at 8, 16 and 24 of a record without its place in a log: body_crc and, left out, the
// offset in the segment; time; left out u16 behind, u8 headers, u8 flags, key_size.
static inline void format_words(const struct lt_plan *plan, uint64_t word[3]) {
    const leat_record *r = plan->record;
    unsigned flags = (r->value.data ? 0u : (unsigned)LT_RECORD_NULL_VALUE) |
                     (plan->extra_count ? (unsigned)LT_RECORD_PROVENANCE | LT_RECORD_DATED : 0u) |
                     (plan->fields ? (unsigned)LT_RECORD_FIELDS : 0u);
    unsigned headers = (unsigned)(r->header_count + plan->extra_count);
    uint32_t key_size = r->key.data ? (uint32_t)r->key.size : FORMAT_NULL_LENGTH;
    word[0] = plan->body_crc;
    word[1] = (uint64_t)r->timestamp_ms;
    word[2] = headers << 16 | (uint64_t)flags << 24 | (uint64_t)key_size << 32;
}

static inline void format_put_body(uint8_t *at, const struct lt_plan *plan) {
    const leat_record *r = plan->record;
    lt_put_u64(at + lt_align8(plan->total) - 8, 0); // padding; the rest of it is overwritten
    uint8_t *to = at + LT_RECORD_HEADER;
    if (plan->fields)
        to += format_fields(plan, to); // it has room for them: MAX is for the stack
    if (r->key.data)
        to = format_put_nul(to, r->key.data, r->key.size);
    for (size_t i = 0; i < r->header_count; i++)
        to = format_put_header(to, &r->headers[i]);
    for (size_t i = 0; i < plan->extra_count; i++)
        to = format_put_header(to, &plan->extra[i]);
    if (r->value.data)
        (void)format_put_nul(to, r->value.data, r->value.size);
}

void lt_record_put(uint8_t *at, const struct lt_plan *plan, const struct lt_stamp *stamp) {
    uint64_t word[3];
    format_words(plan, word);
    format_put_body(at, plan);
    format_put_head(at, plan->total, word, stamp);
}

void lt_record_encode(uint8_t *at, const struct lt_plan *plan) {
    uint64_t word[3];
    format_words(plan, word);
    format_put_body(at, plan);
    uint64_t delay = (uint64_t)plan->record->delay_ms;
    word[0] |= delay >> 32 << 32;
    lt_put_u64(at, plan->total | delay << 32);
    for (int i = 0; i < 3; i++)
        lt_put_u64(at + 8 + 8 * i, word[i]);
}

uint32_t lt_record_copy(uint8_t *at, const uint8_t *encoded, const struct lt_stamp *stamp) {
    uint32_t total = lt_get_u32(encoded), size = (uint32_t)lt_align8(total);
    const uint64_t word[3] = { lt_get_u32(encoded + 8), 0, lt_get_u64(encoded + 24) };
    memcpy(at + LT_RECORD_HEADER, encoded + LT_RECORD_HEADER, size - LT_RECORD_HEADER);
    format_put_head(at, total, word, stamp);
    return size;
}

// ---- reading

uint32_t lt_record_own_headers(const uint8_t *at) {
    uint32_t n = at[26], added = at[27] & LT_RECORD_DATED ? LT_PROVENANCE : LT_PROVENANCE - 1;
    return at[27] & LT_RECORD_PROVENANCE && n >= added ? n - added : n;
}

// Takes the bytes of one length-n field and its NUL out of *left.
static bool format_skip(const uint8_t **at, uint64_t *left, uint64_t n) {
    if (n >= *left || (*at)[n] != 0)
        return false;
    *at += n + 1;
    *left -= n + 1;
    return true;
}

// Takes the system fields out of *left.
static bool format_skip_fields(const uint8_t **at, uint64_t *left) {
    if (*left < 2 || *left - 2 < lt_get_u16(*at))
        return false;
    const uint8_t *p = *at + 2, *end = p + lt_get_u16(*at);
    while (p < end) {
        if (end - p < 2 || end - p - 2 < p[1])
            return false;
        p += 2 + p[1];
    }
    *left -= (uint64_t)(end - *at);
    *at = end;
    return true;
}

// Where the key of a valid record begins, or what follows if it has none.
static const uint8_t *format_behind_fields(const uint8_t *at) {
    const uint8_t *p = at + LT_RECORD_HEADER;
    return at[27] & LT_RECORD_FIELDS ? p + 2 + lt_get_u16(p) : p;
}

leat_bytes lt_record_field(const uint8_t *at, unsigned tag) {
    const uint8_t *end = format_behind_fields(at);
    for (const uint8_t *p = at + LT_RECORD_HEADER + 2; p < end; p += 2 + p[1])
        if (p[0] == tag)
            return (leat_bytes){ p + 2, p[1] };
    return (leat_bytes){ NULL, 0 };
}

bool lt_record_order(const uint8_t *at, struct lt_order *out) {
    *out = (struct lt_order){ .priority = LT_PRIORITY_MIDDLE };
    bool some = false;
    const uint8_t *end = format_behind_fields(at);
    for (const uint8_t *p = at + LT_RECORD_HEADER + 2; p < end; p += 2 + p[1]) {
        if (p[0] == LT_FIELD_PRIORITY && p[1] == 1 && p[2] >= 1 && p[2] <= LT_PRIORITY_MAX) {
            out->priority = p[2];
        } else if (p[0] == LT_FIELD_NOT_BEFORE && p[1] == 8) {
            out->delayed = true;
            out->not_before_ms = (int64_t)lt_get_u64(p + 2);
        } else if (p[0] == LT_FIELD_GROUP && p[1] != 0) {
            out->group = (leat_bytes){ p + 2, p[1] };
        } else {
            continue;
        }
        some = true;
    }
    return some;
}

// Tells whether fields, key, headers and value fill the body exactly.
static bool format_body_fits(const uint8_t *at, uint64_t left) {
    uint32_t key_size = lt_get_u32(at + 28);
    unsigned count = at[26], flags = at[27];
    const uint8_t *p = at + LT_RECORD_HEADER;
    if (flags & LT_RECORD_FIELDS && !format_skip_fields(&p, &left))
        return false;
    if (key_size != FORMAT_NULL_LENGTH && !format_skip(&p, &left, key_size))
        return false;
    for (unsigned i = 0; i < count; i++) {
        if (left < 8)
            return false;
        uint32_t name_size = lt_get_u32(p), value_size = lt_get_u32(p + 4);
        p += 8;
        left -= 8;
        if (!format_skip(&p, &left, name_size))
            return false;
        if (value_size != FORMAT_NULL_LENGTH && !format_skip(&p, &left, value_size))
            return false;
    }
    if (flags & LT_RECORD_NULL_VALUE)
        return left == 0;
    return left > 0 && p[left - 1] == 0;
}

uint32_t lt_record_check(const uint8_t *at, uint64_t room, uint64_t uid, int64_t offset,
                         int64_t base) {
    if (room < LT_RECORD_HEADER)
        return 0;
    uint32_t total = lt_get_u32(at);
    if (total < LT_RECORD_HEADER || total > UINT32_MAX - 8 || lt_align8(total) > room)
        return 0;
    const uint64_t word[3] = { lt_get_u64(at + 8), lt_get_u64(at + 16), lt_get_u64(at + 24) };
    if (lt_get_u32(at + 4) != format_head_crc(total, word, uid, offset) ||
        (int64_t)lt_get_u32(at + 12) != offset - base)
        return 0;
    uint64_t body = total - LT_RECORD_HEADER;
    if (lt_crc32c(0, at + LT_RECORD_HEADER, body) != lt_get_u32(at + 8))
        return 0;
    return format_body_fits(at, body) ? (uint32_t)lt_align8(total) : 0;
}

uint64_t lt_record_find(const uint8_t *map, uint64_t from, uint64_t to,
                        const struct lt_segment_head *head, int64_t offset, int64_t *found) {
    for (uint64_t at = from; at + LT_RECORD_MIN <= to; at += 8) {
        int64_t here = head->base + lt_get_u32(map + at + 12);
        // Cheap first: between two places there is room for so many records only.
        if (here < offset || (uint64_t)(here - offset) > (at - from) / LT_RECORD_MIN)
            continue;
        if (lt_record_check(map + at, to - at, head->uid, here, head->base) != 0) {
            *found = here;
            return at;
        }
    }
    return to;
}

int64_t lt_record_claim(const uint8_t *at, int64_t base) {
    uint16_t behind = lt_get_u16(at + 24);
    return behind == UINT16_MAX ? 0 : base + lt_get_u32(at + 12) - behind;
}

int64_t lt_encoded_timestamp(const uint8_t *encoded, int64_t wall_ms) {
    int64_t own = lt_record_timestamp(encoded);
    return own ? own : wall_ms;
}

bool lt_record_more(const uint8_t *at) {
    return (at[27] & LT_RECORD_MORE) != 0;
}

int64_t lt_record_timestamp(const uint8_t *at) {
    return (int64_t)lt_get_u64(at + 16);
}

// Steps over one encoded header of a valid record.
static const uint8_t *format_next_header(const uint8_t *p) {
    uint32_t name_size = lt_get_u32(p), value_size = lt_get_u32(p + 4);
    p += 8 + (uint64_t)name_size + 1;
    return value_size == FORMAT_NULL_LENGTH ? p : p + value_size + 1;
}

void lt_record_view(const uint8_t *at, int64_t base, leat_message *m) {
    uint32_t total = lt_get_u32(at), key_size = lt_get_u32(at + 28);
    const uint8_t *p = format_behind_fields(at);
    *m = (leat_message){ .offset = base + lt_get_u32(at + 12),
                         .timestamp_ms = (int64_t)lt_get_u64(at + 16),
                         .header_count = at[26] };
    if (key_size != FORMAT_NULL_LENGTH) {
        m->key = (leat_bytes){ p, key_size };
        p += (uint64_t)key_size + 1;
    }
    m->reserved[0] = (uint64_t)(uintptr_t)p; // leat_message_header walks from here
    m->reserved[1] = lt_record_own_headers(at);
    for (unsigned i = 0; i < at[26]; i++)
        p = format_next_header(p);
    if (!(at[27] & LT_RECORD_NULL_VALUE))
        m->value = (leat_bytes){ p, (size_t)(at + total - 1 - p) };
}

void lt_record_unpack(const uint8_t *encoded, leat_record *r, leat_header *header) {
    leat_message m;
    lt_record_view(encoded, 0, &m);
    *r = (leat_record){ .key = m.key,
                        .value = m.value,
                        .headers = header,
                        .header_count = m.header_count,
                        .timestamp_ms = m.timestamp_ms,
                        .delay_ms = (int64_t)((uint64_t)lt_get_u32(encoded + 12) << 32 |
                                              lt_get_u32(encoded + 4)),
                        .group = lt_record_field(encoded, LT_FIELD_GROUP),
                        .dedup_id = lt_record_field(encoded, LT_FIELD_DEDUP_ID) };
    leat_bytes priority = lt_record_field(encoded, LT_FIELD_PRIORITY);
    r->priority = priority.size == 1 ? *(const uint8_t *)priority.data : 0;
    for (size_t i = 0; i < m.header_count; i++)
        (void)leat_message_header(&m, i, &header[i]);
}

int leat_message_header(const leat_message *m, size_t i, leat_header *h) {
    if (!m || !h)
        return lt_fail(LEAT_EINVAL, "message or header is NULL");
    if (i < m->header_count && m->reserved[LT_MESSAGE_HEADERS] != 0) { // of a channel
        *h = ((const leat_header *)(uintptr_t)m->reserved[LT_MESSAGE_HEADERS])[i];
        return 1;
    }
    if (i >= m->header_count || m->reserved[0] == 0)
        return 0;
    const uint8_t *p = (const uint8_t *)(uintptr_t)m->reserved[0];
    for (size_t k = 0; k < i; k++)
        p = format_next_header(p);
    uint32_t name_size = lt_get_u32(p), value_size = lt_get_u32(p + 4);
    h->name = (leat_bytes){ p + 8, name_size };
    h->value = (leat_bytes){ NULL, 0 };
    if (value_size != FORMAT_NULL_LENGTH)
        h->value = (leat_bytes){ p + 8 + name_size + 1, value_size };
    return 1;
}
