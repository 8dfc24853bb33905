/* SPDX-License-Identifier: MIT */
#include "log/note.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "leat.h"

#include <string.h>

#define NOTE_GONE UINT32_MAX

static const char note_magic[8] = { 'l', 'e', 'a', 't', 'm', 'a', 'n', '\n' };

static uint32_t note_head_crc(const uint8_t *head) {
    return lt_crc32c(lt_crc32c(0, head, 12), head + 16, LT_NOTES_HEAD - 16);
}

void lt_notes_head_encode(uint8_t out[LT_NOTES_HEAD], const struct lt_notes_head *head) {
    memcpy(out, note_magic, sizeof note_magic);
    lt_put_u32(out + 8, LT_NOTES_VERSION);
    lt_put_u64(out + 16, head->generation);
    lt_put_u64(out + 24, head->born);
    lt_put_u32(out + 12, note_head_crc(out));
}

int lt_notes_head_decode(const uint8_t in[LT_NOTES_HEAD], struct lt_notes_head *head) {
    if (memcmp(in, note_magic, sizeof note_magic) != 0)
        return LEAT_ECORRUPT;
    head->version = lt_get_u32(in + 8);
    if (head->version != LT_NOTES_VERSION)
        return LEAT_EINVAL;
    head->generation = lt_get_u64(in + 16);
    head->born = lt_get_u64(in + 24);
    return lt_get_u32(in + 12) == note_head_crc(in) ? 0 : LEAT_ECORRUPT;
}

size_t lt_note_length(const struct lt_note *note) {
    return LT_NOTE_HEAD + (note->body ? (size_t)lt_align8(note->size) : 0);
}

static uint32_t note_crc(const uint8_t *note, size_t n, size_t at) {
    uint8_t place[8];
    lt_put_u64(place, at);
    uint32_t crc = lt_crc32c(lt_crc32c(0, place, sizeof place), note, 4);
    return lt_crc32c(crc, note + 8, n - 8);
}

size_t lt_note_encode(uint8_t *out, size_t at, const struct lt_note *note) {
    size_t n = lt_note_length(note);
    memset(out, 0, n);
    lt_put_u32(out, note->body ? (uint32_t)note->size : NOTE_GONE);
    lt_put_u32(out + 8, note->kind);
    lt_put_u32(out + 12, note->id);
    lt_put_u64(out + 16, note->synced);
    if (note->body && note->size > 0)
        memcpy(out + LT_NOTE_HEAD, note->body, note->size);
    lt_put_u32(out + 4, note_crc(out, n, at));
    return n;
}

size_t lt_note_decode(const uint8_t *all, size_t size, size_t at, struct lt_note *note) {
    if (size - at < LT_NOTE_HEAD)
        return 0;
    const uint8_t *in = all + at;
    uint32_t length = lt_get_u32(in);
    bool gone = length == NOTE_GONE;
    if (!gone && length > LT_NOTE_BODY_MAX)
        return 0;
    *note = (struct lt_note){ .kind = lt_get_u32(in + 8),
                              .id = lt_get_u32(in + 12),
                              .body = gone ? NULL : (uint8_t *)(uintptr_t)(in + LT_NOTE_HEAD),
                              .size = gone ? 0 : length,
                              .synced = lt_get_u64(in + 16) };
    size_t n = lt_note_length(note);
    if (n > size - at || note->kind == 0 || note->synced > at ||
        lt_get_u32(in + 4) != note_crc(in, n, at))
        return 0;
    return n;
}

bool lt_notes_damaged(const uint8_t *all, size_t size, size_t at) {
    size_t end = size;
    while (end > at && all[end - 1] == 0)
        end--;
    if (end - at > LT_NOTES_TAIL_MAX) // and looking all through it could take for ever
        return true;
    for (size_t look = at + 8; look < end; look += 8) {
        struct lt_note note;
        if (lt_note_decode(all, size, look, &note) > 0 && note.synced > at)
            return true;
    }
    return false;
}
