/* SPDX-License-Identifier: MIT */
// format: the bytes of a segment. Pure: no I/O, no clock, no lock.
//
// FORMAT VERSION 0. No promise is made for it; when a version is promised, change LT_FORMAT_VERSION
// for every change of bytes, keep a reader of the old one, and add a directory written by it to
// the tests.
//
// A segment is one header page of 4096 bytes, then records, each at a multiple of 8; zeros follow
// the last one. All numbers are little-endian.
//
//  header page               record
//   0  magic "leatseg\n"      0  total length u32: header and body, padding not counted
//   8  version u32            4  CRC-32C u32 over bytes 0-3 and 8-31, then uid u64, offset u64
//  12  incompatible u32      8  CRC-32C u32 of the body
//  16  compatible u32       12  offset - base u32
//  20  partition u32        16  timestamp i64, ms since 1970
//  24  uid u64              24  behind u16: records that the durable end was behind this one;
//  32  base offset i64           65535 claims nothing
//  40  previous end i64     26  header count u8
//  48  created i64, wall ms 27  flags u8: 1 null value, 2 the last headers are provenance
//  56  topic id u32         28  key length u32; 0xffffffff: null
//  60  reason u32           32  body: key NUL, headers, value NUL (a null one has no NUL)
//  64  topic name, 252 bytes    header: name length u32, value length u32 (0xffffffff: null),
// 4092 CRC-32C u32 of 0-4091             name NUL, value NUL
//
// A record at offset o is valid if and only if its length fits the segment, its header CRC is right
// for the segment's uid and o, its offset is o, its body CRC is right, and key, headers and value
// fit its length exactly. The uid in the CRC keeps bytes of another segment from ever validating.
#ifndef LT_LOG_FORMAT_H
#define LT_LOG_FORMAT_H

#include "leat.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LT_FORMAT_VERSION = 0,
    LT_SEGMENT_PAGE = 4096, // bytes before the first record
    LT_RECORD_HEADER = 32,  // bytes before a record's body
    LT_KEY_MAX = 64 * 1024,
    LT_RECORD_MAX = 16 * 1024 * 1024, // key, headers and value together
    LT_HEADERS_MAX = 64,
    LT_PROVENANCE = 6 // headers that a dead-letter move adds
};

enum {
    LT_GAP_LOST = 1
}; // reason of a gap before a segment: offsets in use whose records were lost
enum { LT_RECORD_NULL_VALUE = 1, LT_RECORD_PROVENANCE = 2 };

struct lt_segment_head {
    uint64_t uid;
    uint32_t topic_id, partition;
    int64_t base, previous_end, created_ms;
    uint32_t reason;
    char topic[252];
};

void lt_segment_head_put(uint8_t page[LT_SEGMENT_PAGE], const struct lt_segment_head *head);
// lt_segment_head_get reads a header page.
// Returns  LEAT_ECORRUPT (damaged, or not a segment), LEAT_EINVAL (a later version's).
int lt_segment_head_get(const uint8_t page[LT_SEGMENT_PAGE], struct lt_segment_head *out);

// lt_plan is a record made ready outside of any lock: checked, measured, its body summed up.
struct lt_plan {
    const leat_record *record;
    const leat_header *extra; // provenance, after the record's own headers
    size_t extra_count;
    uint32_t total; // bytes, padding not counted
    uint32_t body_crc;
};

// lt_plan_make checks r against the limits and measures it. The plan refers to r and extra.
// Returns  LEAT_ETOOBIG, LEAT_EINVAL.
int lt_plan_make(const leat_record *r, const leat_header *extra, size_t extra_count,
                 struct lt_plan *plan);

// lt_stamp is what a record gets from its place in the log.
struct lt_stamp {
    uint64_t uid;
    int64_t offset, base, timestamp_ms;
    uint16_t behind;
};

// lt_record_put writes the record and its padding: lt_align8(plan->total) bytes.
void lt_record_put(uint8_t *at, const struct lt_plan *plan, const struct lt_stamp *stamp);

// lt_record_check tells whether a valid record of this uid and offset stands at `at`, of which
// `room` bytes may be read. base is the segment's.
// Returns  its length with padding, or 0.
uint32_t lt_record_check(const uint8_t *at, uint64_t room, uint64_t uid, int64_t offset,
                         int64_t base);

// lt_record_size is the length with padding of a record that is known to be valid.
uint32_t lt_record_size(const uint8_t *at);

// lt_record_own_headers is how many headers a valid record has, provenance not counted.
uint32_t lt_record_own_headers(const uint8_t *at);

// lt_record_view makes a message of a valid record: views, offset and timestamp; topic, partition
// and tokens are the caller's.
void lt_record_view(const uint8_t *at, int64_t base, leat_message *m);

#endif
