/* SPDX-License-Identifier: MIT */
// The bytes of a segment: one example to the byte, every shape there and back, and that nothing
// damaged ever validates.
#include "base/bytes.h"
#include "lib/scratch.h"
#include "log/format.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define BYTES(data, size)                                                                          \
    { (data), (size) }

// CRC-32C bit by bit, from its definition, so that the example does not rest on the library's.
static uint32_t slow_crc(uint32_t crc, const void *data, size_t n) {
    const uint8_t *p = data;
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

static struct lt_sent sent; // of the records to come
static const struct lt_stamp stamp = { .uid = UINT64_C(0x1122334455667788),
                                       .offset = 0x1000a,
                                       .base = 8,
                                       .timestamp_ms = 0x0506,
                                       .behind = 3 };

// Puts a record into fresh memory of exactly its size. Owns: free it.
static uint8_t *put(const leat_record *r, const leat_header *extra, size_t extra_count,
                    uint32_t *size) {
    struct lt_plan plan;
    ok(lt_plan_make_sent(r, extra, extra_count, sent, &plan));
    *size = (uint32_t)lt_align8(plan.total);
    uint8_t *at = malloc(*size);
    cr_assert_not_null(at);
    memset(at, 0xee, *size); // what was there before must not show
    lt_record_put(at, &plan, &stamp);
    return at;
}

static uint32_t check(const uint8_t *at, uint64_t room) {
    return lt_record_check(at, room, stamp.uid, stamp.offset, stamp.base);
}

Test(format, a_record_is_these_bytes) {
    uint8_t expect[64] = {
        60,  0,   0,   0,                                    // total length
        0,   0,   0,   0,                                    // header CRC, below
        0,   0,   0,   0,                                    // body CRC, below
        2,   0,   1,   0,                                    // offset - base
        6,   5,   0,   0,   0,   0,   0,   0,                // timestamp
        3,   0,                                              // behind
        1,   0,                                              // headers, flags
        2,   0,   0,   0,                                    // key length
        'k', 'y', 0,                                         // key
        1,   0,   0,   0,                                    // name length
        3,   0,   0,   0,                                    // value length
        'n', 0,   'v', 'a', 'l', 0,                          // name, value
        'v', 'a', 'l', 'u', 'e', '!', '!', '!', '!', '!', 0, // the record's value
    };
    uint8_t tail[16];
    lt_put_u32(expect + 8, slow_crc(0, expect + 32, 28));
    lt_put_u64(tail, stamp.uid);
    lt_put_u64(tail + 8, (uint64_t)stamp.offset);
    uint32_t crc = slow_crc(0, expect, 4);
    crc = slow_crc(crc, expect + 8, 24);
    lt_put_u32(expect + 4, slow_crc(crc, tail, 16));
    leat_header h = { BYTES("n", 1), BYTES("val", 3) };
    leat_record r = {
        .key = BYTES("ky", 2), .value = BYTES("value!!!!!", 10), .headers = &h, .header_count = 1
    };
    uint32_t size;
    uint8_t *at = put(&r, NULL, 0, &size);
    cr_assert_eq(size, 64u);
    for (int i = 0; i < 64; i++)
        cr_assert_eq(at[i], expect[i], "byte %d: %#x, not %#x", i, at[i], expect[i]);
    cr_assert_eq(check(at, 64), 64u);
    cr_assert_eq(lt_record_size(at), 64u);
    free(at);
}

Test(format, a_segment_page_is_these_bytes_and_any_other_is_refused) {
    static uint8_t page[LT_SEGMENT_PAGE], copy[LT_SEGMENT_PAGE];
    struct lt_segment_head head = { .uid = 7,
                                    .topic_id = 3,
                                    .partition = 2,
                                    .base = 1000,
                                    .previous_end = 990,
                                    .created_ms = 55,
                                    .reason = 1,
                                    .topic = "orders" };
    struct lt_segment_head out;
    memset(page, 0xee, sizeof page);
    lt_segment_head_put(page, &head);
    cr_assert_eq(memcmp(page, "leatseg\n", 8), 0);
    cr_assert_eq(lt_get_u32(page + 8), 1u);
    cr_assert_eq(lt_get_u32(page + 12), 0u);
    cr_assert_eq(lt_get_u32(page + 20), 2u);
    cr_assert_eq(lt_get_u64(page + 24), 7u);
    cr_assert_eq(lt_get_u64(page + 32), 1000u);
    cr_assert_eq(lt_get_u64(page + 40), 990u);
    cr_assert_eq(lt_get_u64(page + 48), 55u);
    cr_assert_eq(lt_get_u32(page + 56), 3u);
    cr_assert_eq(lt_get_u32(page + 60), 1u);
    cr_assert_str_eq((char *)page + 64, "orders");
    cr_assert_eq(lt_get_u32(page + 4092), slow_crc(0, page, 4092));
    for (int i = 71; i < 4092; i++)
        cr_assert_eq(page[i], 0);
    cr_assert_eq(lt_segment_head_get(page, &out), 0);
    cr_assert(out.uid == 7 && out.topic_id == 3 && out.partition == 2 && out.base == 1000 &&
              out.previous_end == 990 && out.created_ms == 55 && out.reason == 1);
    cr_assert_str_eq(out.topic, "orders");
    for (size_t i = 0; i < LT_SEGMENT_PAGE; i++) {
        memcpy(copy, page, sizeof page);
        copy[i] ^= (uint8_t)(1u << i % 8);
        cr_assert_eq(lt_segment_head_get(copy, &out), LEAT_ECORRUPT, "byte %zu", i);
    }
    for (size_t field = 8; field <= 12; field += 4) { // version, incompatible features
        memcpy(copy, page, sizeof page);
        lt_put_u32(copy + field, lt_get_u32(copy + field) + 2);
        lt_put_u32(copy + 4092, slow_crc(0, copy, 4092));
        cr_assert_eq(lt_segment_head_get(copy, &out), LEAT_EINVAL);
    }
    memcpy(copy, page, sizeof page);
    lt_put_u32(copy + 16, 1); // a compatible feature is read over
    lt_put_u32(copy + 4092, slow_crc(0, copy, 4092));
    cr_assert_eq(lt_segment_head_get(copy, &out), 0);
    memset(copy, 0, sizeof copy);
    cr_assert_eq(lt_segment_head_get(copy, &out), LEAT_ECORRUPT);
    head.incompatible = LT_INCOMPATIBLE_FIELDS;
    lt_segment_head_put(page, &head);
    cr_assert(lt_get_u32(page + 12) == 1 && lt_segment_head_get(page, &out) == 0);
    cr_assert_eq(out.incompatible, 1u);
    memset(head.topic, 'x', sizeof head.topic); // without an end
    lt_segment_head_put(page, &head);
    cr_assert_eq(lt_segment_head_get(page, &out), 0);
    cr_assert_eq(strlen(out.topic), sizeof out.topic - 1);
}

// Makes both sums of a hostile record right.
static void seal(uint8_t *at, uint32_t body) {
    uint8_t tail[16];
    lt_put_u32(at + 8, slow_crc(0, at + 32, body));
    lt_put_u64(tail, stamp.uid);
    lt_put_u64(tail + 8, (uint64_t)stamp.offset);
    uint32_t crc = slow_crc(0, at, 4);
    crc = slow_crc(crc, at + 8, 24);
    lt_put_u32(at + 4, slow_crc(crc, tail, 16));
}

Test(format, system_fields_are_these_bytes_and_unknown_ones_are_skipped) {
    static const uint8_t expect[] = {
        17,  0,                                 // bytes that follow
        1,   5, 'i', 'd', 0, '-', '1',          // dedup id
        2,   8, 8,   7,   6, 5,   4,   3, 2, 1, // stamp
        'k', 0, 'v', 0,
    };
    leat_record r = { .key = BYTES("k", 1),
                      .value = BYTES("v", 1),
                      .dedup_id = BYTES("id\0-1", 5) };
    uint32_t size;
    sent.stamp = INT64_C(0x0102030405060708);
    uint8_t *at = put(&r, NULL, 0, &size);
    sent.stamp = 0;
    cr_assert_eq(lt_get_u32(at), 32 + sizeof expect);
    cr_assert_eq(at[27], LT_RECORD_FIELDS);
    for (size_t i = 0; i < sizeof expect; i++)
        cr_assert_eq(at[32 + i], expect[i], "byte %zu: %#x, not %#x", i, at[32 + i], expect[i]);
    leat_bytes id = lt_record_field(at, LT_FIELD_DEDUP_ID);
    cr_assert(id.size == 5 && memcmp(id.data, "id\0-1", 5) == 0);
    cr_assert_eq(lt_record_field(at, LT_FIELD_STAMP).size, 8u);
    cr_assert_null(lt_record_field(at, 3).data);
    struct lt_order order;
    cr_assert(!lt_record_order(at, &order) && order.priority == 4 && !order.group.data);
    at[34] = 200; // a tag of a later version, of the same length
    seal(at, sizeof expect);
    cr_assert_eq(check(at, size), size);
    leat_message m;
    lt_record_view(at, stamp.base, &m);
    is(m.key, "k");
    is(m.value, "v");
    cr_assert_null(lt_record_field(at, LT_FIELD_DEDUP_ID).data);
    cr_assert_eq(lt_record_field(at, LT_FIELD_STAMP).size, 8u);
    for (unsigned length = 0; length < 256; length++) { // of the first field
        at[35] = (uint8_t)length;
        seal(at, sizeof expect);
        // As is, or up to the end of the block, or so that what is behind it is a field as well.
        bool fits = check(at, size) == size;
        cr_assert(length != 5 || fits);
        cr_assert(length <= 15 || !fits, "length %u", length);
    }
    at[35] = 5;
    for (unsigned length = 0; length < 65536; length++) { // of the block
        lt_put_u16(at + 32, (uint16_t)length);
        seal(at, sizeof expect);
        if (check(at, size) != 0)
            cr_assert(length == 17 || length == 7 || length == 0, "block of %u", length);
    }
    free(at);
    r.dedup_id.data = NULL; // a record without any is as it always was
    r.dedup_id.size = 0;
    at = put(&r, NULL, 0, &size);
    cr_assert(lt_get_u32(at) == 36 && at[27] == 0);
    cr_assert_null(lt_record_field(at, LT_FIELD_DEDUP_ID).data);
    free(at);
}

Test(format, what_says_the_order_is_these_bytes_and_only_what_was_set) {
    static const uint8_t expect[] = {
        19,  0,                               // bytes that follow
        3,   1, 7,                            // priority
        4,   8, 232, 3, 0,   0,   0, 0, 0, 0, // not before: 700 + 300
        5,   4, 'a', 0, 'b', 'c',             // group
        'v', 0,
    };
    leat_record r = {
        .value = BYTES("v", 1), .priority = 7, .delay_ms = 300, .group = BYTES("a\0bc", 4)
    };
    struct lt_order order;
    uint32_t size;
    sent.wall_ms = 700;
    uint8_t *at = put(&r, NULL, 0, &size);
    cr_assert_eq(lt_get_u32(at), 32 + sizeof expect);
    cr_assert(memcmp(at + 32, expect, sizeof expect) == 0);
    cr_assert(lt_record_order(at, &order) && order.priority == 7 && order.delayed);
    cr_assert_eq(order.not_before_ms, 1000);
    cr_assert(order.group.size == 4 && memcmp(order.group.data, "a\0bc", 4) == 0);
    at[36] = 10; // no priority that we know
    at[38] = 7;  // no time, then
    seal(at, sizeof expect);
    cr_assert(!lt_record_order(at, &order) || (order.priority == 4 && !order.delayed));
    free(at);
    static const struct {
        int64_t delay_ms, wall_ms, not_before_ms;
    } times[] = { { LEAT_ZERO, 700, 0 },
                  { 1, 0, 1 },
                  { 5, -5, 1 }, // 0 would be none
                  { LT_DELAY_MAX_MS, INT64_MAX - 9, INT64_MAX } };
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        sent.wall_ms = times[i].wall_ms;
        at = put(&(leat_record){ .value = BYTES("v", 1), .delay_ms = times[i].delay_ms }, NULL, 0,
                 &size);
        cr_assert_eq(lt_get_u32(at), 32 + 2 + 10 + 2u);
        cr_assert(lt_record_order(at, &order) && order.delayed && !order.group.data);
        cr_assert_eq(order.not_before_ms, times[i].not_before_ms, "case %zu", i);
        free(at);
    }
    sent.wall_ms = 0;
    at = put(&(leat_record){ .value = BYTES("v", 1), .priority = 4 }, NULL, 0, &size);
    cr_assert(lt_record_order(at, &order) && order.priority == 4 && !order.delayed);
    free(at);
}

Test(format, an_encoded_record_says_how_it_was_sent) {
    static const leat_record rs[] = {
        { .value = BYTES("v", 1) },
        { .value = BYTES("v", 1), .priority = 1 },
        { .value = BYTES("v", 1), .delay_ms = LEAT_ZERO, .group = BYTES("g", 1) },
        { .value = BYTES("v", 1), .delay_ms = LT_DELAY_MAX_MS, .dedup_id = BYTES("d", 1) },
    };
    static leat_header header[LT_HEADERS_MAX];
    uint8_t encoded[128], copied[128];
    for (size_t i = 0; i < sizeof rs / sizeof rs[0]; i++) {
        struct lt_plan plan;
        leat_record r;
        ok(lt_plan_make_sent(&rs[i], NULL, 0, (struct lt_sent){ .wall_ms = 1 }, &plan));
        cr_assert_eq(plan.ordered, i > 0);
        lt_record_encode(encoded, &plan);
        lt_record_unpack(encoded, &r, header);
        cr_assert(r.priority == rs[i].priority && r.delay_ms == rs[i].delay_ms);
        cr_assert(r.group.size == rs[i].group.size && r.dedup_id.size == rs[i].dedup_id.size);
        uint32_t size = lt_record_copy(copied, encoded, &stamp);
        cr_assert_eq(check(copied, size), size, "no trace of it is left in its place");
    }
}

// ---- there and back

static char large[70000];
static leat_header many[64];
static const leat_header extra[] = {
    { BYTES("leat.queue", 10), BYTES("q", 1) },
    { BYTES("leat.reason", 11), { NULL, 0 } },
};

static void same(leat_bytes a, leat_bytes b) {
    cr_assert_eq(a.data == NULL, b.data == NULL);
    cr_assert_eq(a.size, b.size);
    if (b.data) {
        cr_assert(b.size == 0 || memcmp(a.data, b.data, b.size) == 0);
        cr_assert_eq(((const char *)a.data)[a.size], '\0');
    }
}

static void there_and_back(const leat_record *r, size_t extra_count) {
    uint32_t size;
    uint8_t *at = put(r, extra, extra_count, &size);
    cr_assert_eq(check(at, size), size);
    cr_assert_eq(check(at, UINT64_MAX), size, "more room is fine");
    cr_assert_eq(check(at, size - 1), 0u, "the padding is part of it");
    leat_message m;
    leat_header h;
    lt_record_view(at, stamp.base, &m);
    same(m.key, r->key);
    same(m.value, r->value);
    leat_bytes id = lt_record_field(at, LT_FIELD_DEDUP_ID),
               at_ns = lt_record_field(at, LT_FIELD_STAMP);
    cr_assert(id.size == r->dedup_id.size && (id.data == NULL) == (r->dedup_id.data == NULL));
    cr_assert(id.size == 0 || memcmp(id.data, r->dedup_id.data, id.size) == 0);
    cr_assert(sent.stamp == 0 ? at_ns.data == NULL
                              : at_ns.size == 8 && lt_get_u64(at_ns.data) == (uint64_t)sent.stamp);
    cr_assert_eq(m.offset, stamp.offset);
    cr_assert_eq(m.timestamp_ms, stamp.timestamp_ms);
    cr_assert_eq(m.header_count, r->header_count + extra_count);
    for (size_t i = 0; i < m.header_count; i++) {
        const leat_header *was = i < r->header_count ? &r->headers[i] : &extra[i - r->header_count];
        cr_assert_eq(leat_message_header(&m, i, &h), 1);
        same(h.name, was->name);
        same(h.value, was->value);
    }
    cr_assert_eq(leat_message_header(&m, m.header_count, &h), 0);
    free(at);
}

Test(format, every_shape_goes_there_and_back) {
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)(i % 253);
    for (size_t i = 0; i < 64; i++)
        many[i] = (leat_header){ { large, i }, { i % 3 ? large : NULL, i % 3 ? i * 30 : 0 } };
    for (int key = 0; key < 4; key++) {
        for (int value = 0; value < 5; value++) {
            for (size_t headers = 0; headers <= 64; headers = headers * 2 + 1) {
                static const size_t sizes[] = { 0, 0, 1, 65536, 69999 };
                leat_record r = { .key = { key ? large : NULL, sizes[key] },
                                  .value = { value ? large : NULL, sizes[value] },
                                  .headers = headers ? many : NULL,
                                  .header_count = headers };
                if (!key && !value)
                    continue; // a null value needs a key
                for (size_t more = 0; more <= 2; more++)
                    there_and_back(&r, more);
                for (size_t id = 1; id <= 255; id += 127) {
                    r.dedup_id = (leat_bytes){ large + 7, id };
                    sent.stamp = id == 1 ? 0 : (int64_t)id << 40;
                    there_and_back(&r, 2);
                    sent.stamp = 0;
                }
            }
        }
    }
    for (size_t n = 0; n < 40; n++) // every length of padding
        there_and_back(&(leat_record){ .value = { large, n } }, 0);
    there_and_back(&(leat_record){ .value = { large, 1 }, .headers = many, .header_count = 64 }, 2);
}

// ---- damage

Test(format, no_flipped_bit_validates) {
    uint32_t size;
    leat_header h[] = { { BYTES("a", 1), BYTES("b", 1) }, { BYTES("", 0), { NULL, 0 } } };
    leat_record shapes[] = {
        { .key = BYTES("key", 3), .value = BYTES("value", 5), .headers = h, .header_count = 2 },
        { .key = BYTES("k", 1) },
        { .value = BYTES("", 0) },
        { .value = BYTES("v", 1), .dedup_id = BYTES("an id", 5) },
        { .key = BYTES("k", 1), .headers = h, .header_count = 2, .dedup_id = BYTES("i", 1) },
        { .value = BYTES("v", 1), .priority = 9, .delay_ms = 5, .group = BYTES("g", 1) },
    };
    for (int s = 0; s < 6; s++) {
        sent.stamp = s == 4 ? 77 : 0;
        uint8_t *at = put(&shapes[s], NULL, 0, &size);
        sent.stamp = 0;
        uint32_t total = lt_get_u32(at);
        for (uint32_t i = 0; i < size * 8; i++) {
            at[i / 8] ^= (uint8_t)(1u << i % 8);
            cr_assert_eq(check(at, size), i / 8 < total ? 0u : size, "bit %u of shape %d", i, s);
            cr_assert_eq(check(at, UINT32_MAX), i / 8 < total ? 0u : size, "with more room");
            at[i / 8] ^= (uint8_t)(1u << i % 8);
        }
        cr_assert_eq(check(at, size), size);
        free(at);
    }
}

static void valid_in_its_place_only(const leat_record *r) {
    uint32_t size;
    uint8_t *at = put(r, NULL, 0, &size);
    cr_assert_eq(lt_record_check(at, size, stamp.uid + 1, stamp.offset, stamp.base), 0u);
    cr_assert_eq(lt_record_check(at, size, stamp.uid, stamp.offset + 1, stamp.base), 0u);
    cr_assert_eq(lt_record_check(at, size, stamp.uid, stamp.offset, stamp.base + 1), 0u);
    cr_assert_eq(lt_record_check(at, size, stamp.uid, stamp.offset + 1, stamp.base + 1), 0u);
    for (uint64_t room = 0; room < size; room++) {
        uint8_t *tight = malloc(room + 1); // a sanitizer sees a read behind it
        memcpy(tight, at, room);
        cr_assert_eq(check(tight, room), 0u, "room %llu", (unsigned long long)room);
        free(tight);
    }
    free(at);
}

Test(format, a_record_is_valid_in_its_place_only) {
    valid_in_its_place_only(&(leat_record){ .value = BYTES("v", 1) });
    valid_in_its_place_only(&(leat_record){ .value = BYTES("v", 1), .dedup_id = BYTES("id", 2) });
}

Test(format, hostile_lengths_are_refused_also_with_right_sums) {
    enum { SIZE = 96, TOTAL = 93 };
    static const uint32_t lengths[] = { 0,          1,          40,         59,         60,
                                        61,         62,         0x7fffffff, 0x80000000, 0xfffffff0,
                                        0xfffffffe, 0xffffffff, 0xffffffd0 };
    enum { LENGTHS = sizeof lengths / sizeof lengths[0] };
    uint8_t *at = malloc(SIZE);
    cr_assert_not_null(at);
    for (size_t total = 0; total < LENGTHS; total++) { // the length of all
        memset(at, 0, SIZE);
        lt_put_u32(at, lengths[total]);
        lt_put_u32(at + 12, 0x10002);
        seal(at, lengths[total] >= 32 && lengths[total] < SIZE ? lengths[total] - 32 : 0);
        uint32_t got = check(at, SIZE);
        cr_assert(got == 0 || lengths[total] - 33 < SIZE - 32, "length %u", lengths[total]);
    }
    for (size_t key = 0; key < LENGTHS; key++) {
        for (size_t name = 0; name < LENGTHS; name++) {
            for (size_t value = 0; value < LENGTHS; value++) {
                for (unsigned flags = 0; flags < 16; flags++) {
                    memset(at, 0, SIZE);
                    lt_put_u32(at, TOTAL);
                    lt_put_u32(at + 12, 0x10002);
                    at[26] = (uint8_t)(value % 3 == 0 ? 255 : 1);
                    at[27] = (uint8_t)flags;
                    lt_put_u32(at + 28, lengths[key]);
                    size_t place = 32 + (lengths[key] < 40 ? lengths[key] + 1 : 0);
                    lt_put_u32(at + place, lengths[name]);
                    lt_put_u32(at + place + 4, lengths[value]);
                    seal(at, TOTAL - 32);
                    if (check(at, SIZE) == 0)
                        continue;
                    leat_message m; // what validates can be read to its end, inside its bytes
                    lt_record_view(at, stamp.base, &m);
                    const uint8_t *end = at + TOTAL;
                    if (m.value.data)
                        cr_assert((const uint8_t *)m.value.data + m.value.size < end);
                    leat_header h;
                    leat_bytes id = lt_record_field(at, LT_FIELD_DEDUP_ID);
                    if (id.data)
                        cr_assert((const uint8_t *)id.data + id.size < end);
                    for (size_t i = 0; leat_message_header(&m, i, &h) == 1; i++)
                        cr_assert((const uint8_t *)h.name.data + h.name.size < end);
                }
            }
        }
    }
    free(at);
}

// ---- seals

Test(format, a_seal_is_these_bytes_and_any_other_is_none) {
    struct lt_seal seal = { .uid = 9,
                            .end = 5000,
                            .count = 3,
                            .appended_ms = 77,
                            .newest = -5,
                            .head_crcs = 0xabcd,
                            .body_crc = 0x1234 };
    struct lt_seal out;
    uint8_t bytes[LT_SEAL], copy[LT_SEAL];
    for (int kind = LT_SEAL_SEGMENT; kind <= LT_SEAL_INDEX; kind++) {
        lt_seal_put(bytes, (enum lt_seal_kind)kind, &seal);
        cr_assert_eq(memcmp(bytes, kind == LT_SEAL_INDEX ? "leatidx\n" : "leatend\n", 8), 0);
        cr_assert_eq(lt_get_u32(bytes + 8), 1u);
        cr_assert_eq(lt_get_u32(bytes + 12), 0xabcdu);
        cr_assert_eq(lt_get_u64(bytes + 16), 9u);
        cr_assert_eq(lt_get_u64(bytes + 24), 3u);
        cr_assert_eq(lt_get_u64(bytes + 32), 5000u);
        cr_assert_eq(lt_get_u64(bytes + 40), 77u);
        cr_assert_eq((int64_t)lt_get_u64(bytes + 48), -5);
        cr_assert_eq(lt_get_u32(bytes + 56), kind == LT_SEAL_INDEX ? 0x1234u : 0u);
        cr_assert_eq(lt_get_u32(bytes + 60), slow_crc(0, bytes, 60));
        cr_assert(lt_seal_get(bytes, (enum lt_seal_kind)kind, 9, &out));
        cr_assert(out.uid == 9 && out.end == 5000 && out.count == 3 && out.appended_ms == 77 &&
                  out.newest == -5 && out.head_crcs == 0xabcd);
        cr_assert_not(lt_seal_get(bytes, (enum lt_seal_kind)kind, 8, &out), "another segment's");
        cr_assert_not(lt_seal_get(bytes, (enum lt_seal_kind)(1 - kind), 9, &out));
        for (size_t i = 0; i < 8 * LT_SEAL; i++) {
            memcpy(copy, bytes, sizeof copy);
            copy[i / 8] ^= (uint8_t)(1u << i % 8);
            cr_assert_not(lt_seal_get(copy, (enum lt_seal_kind)kind, 9, &out), "bit %zu", i);
        }
    }
    // What cannot be true of any segment, with a right checksum.
    static const struct lt_seal unsound[] = {
        { .uid = 9, .end = 4095, .count = 0 },         { .uid = 9, .end = 5004, .count = 3 },
        { .uid = 9, .end = 5000, .count = 23 },        { .uid = 9, .end = 5000, .count = -1 },
        { .uid = 9, .end = 4096, .count = 1 },         { .uid = 9, .end = 1ull << 32, .count = 3 },
        { .uid = 9, .end = 5000, .count = INT64_MAX },
    };
    for (size_t i = 0; i < sizeof unsound / sizeof unsound[0]; i++) {
        lt_seal_put(bytes, LT_SEAL_SEGMENT, &unsound[i]);
        cr_assert_not(lt_seal_get(bytes, LT_SEAL_SEGMENT, 9, &out), "seal %zu", i);
    }
}

// ---- what stands behind damage

// Puts n records with values of `size` bytes, from offset 100 on. at[n]: the end.
static void put_records(uint8_t *map, int n, size_t size, uint64_t at[]) {
    uint8_t value[256];
    memset(value, 'v', sizeof value);
    at[0] = LT_SEGMENT_PAGE;
    for (int i = 0; i < n; i++) {
        leat_record r = { .value = { value, size } };
        struct lt_plan plan;
        cr_assert_eq(lt_plan_make(&r, NULL, 0, &plan), 0);
        struct lt_stamp place = { .uid = 5,
                                  .offset = 100 + i,
                                  .base = 100,
                                  .behind = (uint16_t)(i % 3 == 2 ? 65535 : i % 3),
                                  .more = i % 4 == 1 };
        lt_record_put(map + at[i], &plan, &place);
        at[i + 1] = at[i] + lt_align8(plan.total);
    }
}

Test(format, the_next_record_behind_damage_is_found) {
    static uint8_t map[16384];
    uint64_t at[21];
    struct lt_segment_head head = { .uid = 5, .base = 100 };
    int64_t found;
    for (size_t size = 0; size < 200; size += 33) {
        memset(map, 0, sizeof map);
        put_records(map, 20, size, at);
        for (int i = 0; i < 20; i++) {
            map[at[i] + 9] ^= 1; // its body's checksum
            uint64_t next = lt_record_find(map, at[i] + 8, sizeof map, &head, 100 + i + 1, &found);
            cr_assert_eq(next, i < 19 ? at[i + 1] : sizeof map);
            cr_assert(i == 19 || found == 100 + i + 1);
            next = lt_record_find(map, LT_SEGMENT_PAGE, sizeof map, &head, 100, &found);
            cr_assert_eq(found, i == 0 ? 101 : 100);
            cr_assert_eq(next, i == 0 ? at[1] : at[0]);
            map[at[i] + 9] ^= 1;
        }
        head.uid = 6;
        cr_assert_eq(lt_record_find(map, LT_SEGMENT_PAGE, sizeof map, &head, 100, &found),
                     sizeof map, "another segment's");
        head.uid = 5;
        // An offset that cannot have got there: there is no room for so many before it.
        cr_assert_eq(lt_record_find(map, at[19], sizeof map, &head, 100, &found), sizeof map);
    }
}

Test(format, a_record_tells_what_it_proves_and_whether_its_batch_goes_on) {
    static uint8_t map[16384];
    uint64_t at[21];
    put_records(map, 20, 10, at);
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(lt_record_claim(map + at[i], 100), i % 3 == 2 ? 0 : 100 + i - i % 3);
        cr_assert_eq(lt_record_more(map + at[i]), i % 4 == 1);
        cr_assert_eq(lt_record_timestamp(map + at[i]), 0);
    }
}
