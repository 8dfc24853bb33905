/* SPDX-License-Identifier: MIT */
// note: the bytes of the manifest, pure. A note says of one thing (kind, id) what it is now; a note
// without a body says that it is gone.
//
//  header of the file, 32 bytes
//   0  "leatman\n"                  16  generation u64: 1, and one more in each snapshot
//   8  version u32                  24  born u64: how long the file was when it got its name
//  12  CRC-32C u32 of the rest
//
//  note, a multiple of 8 bytes; the first stands behind the header
//   0  length u32 of the body       12  id u32
//      (0xffffffff: gone)           16  synced u64: how many bytes of the file were known to be on
//   4  CRC-32C u32 of the rest          disk when this was written
//      and of where it stands, u64  24  body, zeros
//   8  kind u32
//
// What does not validate below `born`, or below what a whole note behind it says was synced, was
// whole once: it is damage. Anything else behind the last whole note is an unfinished tail: pages
// that were not synced reach the disk in any order, so there may be whole notes in it.
#ifndef LT_LOG_NOTE_H
#define LT_LOG_NOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LT_NOTES_VERSION = 1,
    LT_NOTES_HEAD = 32,
    LT_NOTE_HEAD = 24,
    LT_NOTE_BODY_MAX = 64 * 1024,
    LT_NOTES_TAIL_MAX = 256 * 1024 // no more than this is ever written without a sync
};

struct lt_notes_head {
    uint32_t version;
    uint64_t generation, born;
};

struct lt_note {
    uint32_t kind, id;
    uint8_t *body; // NULL: gone
    size_t size;
    uint64_t synced;
};

void lt_notes_head_encode(uint8_t out[LT_NOTES_HEAD], const struct lt_notes_head *head);
// lt_notes_head_decode reads a header. Returns  LEAT_ECORRUPT; LEAT_EINVAL: another version's,
// which is in head->version. Sets no message.
int lt_notes_head_decode(const uint8_t in[LT_NOTES_HEAD], struct lt_notes_head *head);

// lt_note_length tells how long a note is in the file.
size_t lt_note_length(const struct lt_note *note);
// lt_note_encode writes the note as it stands at `at` of the file. Returns  its length.
size_t lt_note_encode(uint8_t *out, size_t at, const struct lt_note *note);
// lt_note_decode reads the note at `at` of a file of `size` bytes; the body points into the file.
// Returns  its length, or 0 if there is no valid one.
size_t lt_note_decode(const uint8_t *all, size_t size, size_t at, struct lt_note *note);
// lt_notes_damaged tells whether what stands at `at`, where the whole notes end, was whole once: by
// a note behind it, or because more stands there than can be unfinished.
bool lt_notes_damaged(const uint8_t *all, size_t size, size_t at);

#endif
