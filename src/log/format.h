/* SPDX-License-Identifier: MIT */
// format: the bytes of a segment and of its index. Pure: no I/O, no clock, no lock.
//
// FORMAT VERSION 1. How to change it: README.md of this folder.
//
// A segment is one header page of 4096 bytes, then records, each at a multiple of 8. Zeros follow
// the last one, or, once it is sealed, a seal with which the file ends. All numbers are
// little-endian.
//
//  header page               record
//   0  magic "leatseg\n"      0  total length u32: header and body, padding not counted
//   8  version u32            4  CRC-32C u32 over bytes 0-3 and 8-31, then uid u64, offset u64
//  12  incompatible u32:     8  CRC-32C u32 of the body
//      1 system fields
//  16  compatible u32       12  offset - base u32
//  20  partition u32        16  timestamp i64, ms since 1970
//  24  uid u64              24  behind u16: records that the durable end was behind this one;
//  32  base offset i64           65535 claims nothing
//  40  previous end i64     26  header count u8
//  48  created i64, wall ms 27  flags u8: 1 null value, 2 the last headers are provenance
//  56  topic id u32              4 the batch goes on behind it, 8 system fields
//  60  reason u32           28  key length u32; 0xffffffff: null
//  64  topic name, 252 B    32  body: system fields, key NUL, headers, value NUL (a null one has
//                               no NUL)
// 4092 CRC-32C u32 of       header: name length u32, value length u32 (0xffffffff: null),
//      0-4091                       name NUL, value NUL
//                           system fields, with flag 8: bytes that follow u16, then each field:
//                                   tag u8, length u8, its bytes
//
// A record at offset o is valid if and only if its length fits the segment, its header CRC is right
// for the segment's uid and o, its offset is o, its body CRC is right, and fields, key, headers and
// value fit its length exactly. The uid in the CRC keeps bytes of another segment from ever
// validating. A batch is the records up to and with one without flag 4: all of it is there, or
// none. System fields are what must be known of a record at once with it, and is not shown with it.
// Each tag is there once or not; an unknown one is skipped. They stand only in segments that say
// so.
//
//  seal: the last 64 bytes of a sealed segment; head of an index file
//   0  magic "leatend\n" or "leatidx\n"
//   8  version u32                       40  wall time of the last append i64, ms
//  12  CRC-32C u32 over the header CRCs  48  highest timestamp i64
//  16  uid u64                           56  index: CRC-32C u32 of what follows; else 0
//  24  records i64                       60  CRC-32C u32 of 0-59
//  32  where they end u64
// In an index follow the position of each record, u32 (0: it could not be read), zeros up to a
// multiple of 8, then the highest timestamp up to and with each 512th record and the last one, i64.
#ifndef LT_LOG_FORMAT_H
#define LT_LOG_FORMAT_H

#include "base/bytes.h"

#include "leat.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LT_FORMAT_VERSION = 1,
    LT_SEGMENT_PAGE = 4096, // bytes before the first record
    LT_RECORD_HEADER = 32,  // bytes before a record's body
    LT_RECORD_MIN = 40,     // bytes of the smallest record
    LT_SEAL = 64,
    LT_SEAL_TIMES = 512, // records per timestamp in an index
    LT_KEY_MAX = 64 * 1024,
    LT_DEDUP_ID_MAX = 255,
    LT_GROUP_MAX = 255,
    LT_RECORD_MAX = 16 * 1024 * 1024, // key, headers, value, dedup id and group together
    LT_HEADERS_MAX = 64,
    LT_BATCH_MAX = 64 * 1024 * 1024, // records of a batch, as they are stored
    LT_PROVENANCE = 7                // headers that a dead-letter move adds
};
#define LT_DELAY_MAX_MS (INT64_C(366) * 24 * 3600 * 1000)
enum { LT_PRIORITY_MIDDLE = 4, LT_PRIORITY_MAX = 9 };

// Reasons of a gap before a segment: offsets that were in use and whose records were lost in a
// power cut; records that could not be read and were skipped on demand.
enum { LT_GAP_LOST = 1, LT_GAP_ROT = 2 };
enum {
    LT_RECORD_NULL_VALUE = 1,
    LT_RECORD_PROVENANCE = 2,
    LT_RECORD_MORE = 4,
    LT_RECORD_FIELDS = 8,
    LT_RECORD_DATED = 16 // of the headers of a move one is the time before; without it there are 6
};
enum { LT_INCOMPATIBLE_FIELDS = 1 }; // records may have system fields

// Tags of system fields. A new one: here, in lt_plan if it is not the record's, and in
// format_fields.
enum {
    LT_FIELD_DEDUP_ID = 1,   // 1 to 255 bytes
    LT_FIELD_STAMP = 2,      // i64, see dedup.h: ns since 1970, each of a topic above the last
    LT_FIELD_PRIORITY = 3,   // u8: 1 to 9; not there: 4
    LT_FIELD_NOT_BEFORE = 4, // i64, wall ms: queues hand it out then; 0: at once, whatever they say
    LT_FIELD_GROUP = 5       // 1 to 255 bytes
};

struct lt_segment_head {
    uint64_t uid;
    uint32_t topic_id, partition;
    int64_t base, previous_end, created_ms;
    uint32_t reason, incompatible;
    char topic[252];
};

void lt_segment_head_put(uint8_t page[LT_SEGMENT_PAGE], const struct lt_segment_head *head);
// lt_segment_head_get reads a header page.
// Returns  LEAT_ECORRUPT (damaged, or not a segment), LEAT_EINVAL (a later version's).
int lt_segment_head_get(const uint8_t page[LT_SEGMENT_PAGE], struct lt_segment_head *out);

// lt_seal says what is in a segment.
struct lt_seal {
    uint64_t uid, end; // end: where the records end
    int64_t count, appended_ms, newest;
    uint32_t head_crcs, body_crc;
};

enum lt_seal_kind { LT_SEAL_SEGMENT, LT_SEAL_INDEX };
void lt_seal_put(uint8_t at[LT_SEAL], enum lt_seal_kind kind, const struct lt_seal *seal);
// lt_seal_get tells whether there is a seal that can be true of a segment of that uid, and reads
// it.
bool lt_seal_get(const uint8_t at[LT_SEAL], enum lt_seal_kind kind, uint64_t uid,
                 struct lt_seal *out);

// lt_plan is a record made ready outside of any lock: checked, measured, its body summed up.
struct lt_plan {
    const leat_record *record;
    const leat_header *extra; // provenance, after the record's own headers
    size_t extra_count;
    uint32_t total; // bytes, padding not counted
    uint32_t body_crc;
    uint32_t fields;            // of these, system fields
    int64_t stamp;              // 0: none
    int64_t not_before;         // of that field, 0 too if it is not there
    bool ordered;               // it has one of the fields that lt_record_order reads
    const struct lt_plan *next; // the record behind it in the same batch; NULL: the last one
};

// lt_sent is what the fields of a record need of the moment in which it is sent.
struct lt_sent {
    int64_t stamp;   // 0: none
    int64_t wall_ms; // what a delay counts from; not needed without one
};

// lt_plan_make_sent checks r against the limits and measures it. The plan refers to r and extra.
// Returns  LEAT_ETOOBIG, LEAT_EINVAL.
int lt_plan_make_sent(const leat_record *r, const leat_header *extra, size_t extra_count,
                      struct lt_sent sent, struct lt_plan *plan);
static inline int lt_plan_make(const leat_record *r, const leat_header *extra, size_t extra_count,
                               struct lt_plan *plan) {
    return lt_plan_make_sent(r, extra, extra_count, (struct lt_sent){ 0 }, plan);
}

// lt_plan_timestamp is the record's own, or the wall clock's where it has none.
static inline int64_t lt_plan_timestamp(const struct lt_plan *plan, int64_t wall_ms) {
    int64_t own = plan->record->timestamp_ms;
    return own ? own : wall_ms;
}

// lt_encoded_timestamp is the same of an encoded record.
int64_t lt_encoded_timestamp(const uint8_t *encoded, int64_t wall_ms);

// lt_batch is what is appended at once: records that are planned, each the next of the one before,
// or that were encoded, one behind the other.
struct lt_segment;

// lt_kept is where a batch stands in the log, with a reference of its segment.
struct lt_kept {
    struct lt_segment *seg; // NULL: not known
    const uint8_t *at;
};

struct lt_batch {
    const struct lt_plan *first; // NULL: encoded
    const uint8_t *encoded;
    uint64_t bytes; // as they are stored, padding counted
    int64_t count;
    bool durable;                // lt_partition_sync will be asked for it at once
    bool fields;                 // a record of it has system fields
    bool ordered;                // a record of it has one that lt_record_order reads
    struct lt_kept *kept;        // filled in when it is in the log; NULL: not asked for
    const int64_t *expected_end; // only if the log ends there; NULL: anywhere
};

// lt_stamp is what a record gets from its place in the log.
struct lt_stamp {
    uint64_t uid;
    int64_t offset, base, timestamp_ms;
    uint16_t behind;
    bool more; // the batch goes on
};

// lt_record_put writes the record and its padding: lt_align8(plan->total) bytes.
void lt_record_put(uint8_t *at, const struct lt_plan *plan, const struct lt_stamp *stamp);

// lt_record_encode writes the same without its place in a log, to be copied there later. Its
// timestamp is its own, 0 if it has none; in the places of the header's checksum and of the offset
// stands the delay it was sent with.
void lt_record_encode(uint8_t *at, const struct lt_plan *plan);
// lt_record_copy writes an encoded record and its padding, stamped. Returns  how many bytes.
uint32_t lt_record_copy(uint8_t *at, const uint8_t *encoded, const struct lt_stamp *stamp);
// lt_record_unpack makes a record of an encoded one, as it was sent; all in it are views.
// header: room for LT_HEADERS_MAX.
void lt_record_unpack(const uint8_t *encoded, leat_record *r, leat_header *header);

// lt_record_check tells whether a valid record of this uid and offset stands at `at`, of which
// `room` bytes may be read. base is the segment's.
// Returns  its length with padding, or 0.
uint32_t lt_record_check(const uint8_t *at, uint64_t room, uint64_t uid, int64_t offset,
                         int64_t base);

// lt_record_find looks for the next valid record at or behind `from` with an offset of at least
// `offset`, behind bytes that are no record.
// Returns  its position, its offset in *found; or `to`.
uint64_t lt_record_find(const uint8_t *map, uint64_t from, uint64_t to,
                        const struct lt_segment_head *head, int64_t offset, int64_t *found);

// lt_record_claim is what a valid record proves: offsets below were on disk when it was written; 0:
// nothing.
int64_t lt_record_claim(const uint8_t *at, int64_t base);
// lt_record_more tells whether the batch of a valid record goes on behind it.
bool lt_record_more(const uint8_t *at);
int64_t lt_record_timestamp(const uint8_t *at);

// lt_record_size is the length with padding of a record that is known to be valid.
static inline uint32_t lt_record_size(const uint8_t *at) {
    return (uint32_t)lt_align8(lt_get_u32(at));
}

// lt_record_own_headers is how many headers a valid record has, provenance not counted.
uint32_t lt_record_own_headers(const uint8_t *at);

// lt_record_field finds a system field of a valid record. Returns  null if it is not there.
leat_bytes lt_record_field(const uint8_t *at, unsigned tag);

// lt_order is what a record says of the order in which a queue hands out.
struct lt_order {
    int priority;          // 1 to 9
    bool delayed;          // not_before_ms says when; else the queue does
    int64_t not_before_ms; // wall time; 0: at once
    leat_bytes group;      // null: none
};
// lt_record_order reads it from a valid record. Returns  false: the record says nothing of it.
bool lt_record_order(const uint8_t *at, struct lt_order *out);

// lt_record_view makes a message of a valid record: views, offset and timestamp; topic, partition
// and tokens are the caller's.
void lt_record_view(const uint8_t *at, int64_t base, leat_message *m);

#endif
