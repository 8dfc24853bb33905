/* SPDX-License-Identifier: MIT */
#include "queue/ledger.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "queue/queue.h"

#include <stdio.h>
#include <string.h>

int lt_ledger_init(struct lt_ledger *l, struct lt_partition *p, uint32_t queue_id) {
    *l = (struct lt_ledger){ .mq = p->mq, .p = p, .queue_id = queue_id };
    return lt_turns_init(&l->syncs);
}

void lt_ledger_fini(struct lt_ledger *l) {
    for (size_t i = 0; i < l->count; i++)
        lt_words_close(&l->sheet[i].words);
    lt_free(&l->mq->mem, l->sheet);
    l->sheet = NULL;
    l->count = l->room = 0;
    if (!lt_forked(l->mq)) // they would wait for a thread of the parent that waits in them
        lt_turns_fini(&l->syncs);
}

// The place of the last sheet whose base is at or below offset, + 1; 0: none.
static size_t ledger_place(const struct lt_ledger *l, int64_t offset) {
    size_t lo = 0, hi = l->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (l->sheet[mid].base <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int ledger_add(struct lt_ledger *l, const struct lt_segment *s, bool create, size_t at) {
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 2;
        struct lt_sheet *grown = lt_resize(&l->mq->mem, l->sheet, room * sizeof *grown);
        if (!grown)
            return lt_fail_nomem();
        l->sheet = grown;
        l->room = room;
    }
    struct lt_sheet sheet = { .base = s->base, .created_ms = s->created_ms };
    sheet.seed = lt_mix64(lt_mix64(s->uid) ^ l->queue_id);
    char suffix[16], path[LT_PATH_MAX];
    (void)snprintf(suffix, sizeof suffix, ".q%u", l->queue_id);
    lt_segment_path(path, l->p, s->base, suffix);
    int rc = lt_words_open(l->mq, l->mq->dir ? path : NULL, create, lt_segment_count_max(s),
                           &sheet.words);
    if (rc != 0)
        return rc;
    memmove(&l->sheet[at + 1], &l->sheet[at], (l->count - at) * sizeof *l->sheet);
    l->sheet[at] = sheet;
    l->count++;
    l->dir_owed |= l->mq->dir != NULL; // one that was there may have been left by a kill
    return 0;
}

int lt_ledger_open(struct lt_ledger *l, const struct lt_segment *s, int64_t offset, bool create,
                   struct lt_sheet **out) {
    size_t at = ledger_place(l, s->base);
    if (at == 0 || l->sheet[at - 1].base != s->base) {
        int rc = ledger_add(l, s, create, at);
        if (rc != 0)
            return rc;
        at++;
    }
    *out = &l->sheet[at - 1];
    if (!create)
        return 0; // to be read: a full disk is no reason not to open a store
    return lt_words_reserve(&(*out)->words, (uint64_t)(offset - s->base));
}

struct lt_sheet *lt_ledger_find(const struct lt_ledger *l, int64_t offset) {
    size_t at = ledger_place(l, offset);
    return at ? &l->sheet[at - 1] : NULL;
}

void lt_ledger_drop_below(struct lt_ledger *l, int64_t head, bool keep_dirty) {
    size_t gone = 0;
    while (gone + 1 < l->count && l->sheet[gone + 1].base <= head && !l->syncs.under_way &&
           !(keep_dirty && l->sheet[gone].dirty))
        lt_words_close(&l->sheet[gone++].words);
    if (gone == 0)
        return;
    l->count -= gone;
    memmove(l->sheet, l->sheet + gone, l->count * sizeof *l->sheet);
}

// lt_mix3 of the segment's uid, the queue's id and the offset.
static uint64_t ledger_key(const struct lt_sheet *sheet, int64_t offset) {
    return lt_mix64(sheet->seed ^ (uint64_t)offset);
}

struct lt_word lt_sheet_load(const struct lt_sheet *sheet, int64_t offset) {
    uint64_t raw = lt_words_load(&sheet->words, (uint64_t)(offset - sheet->base));
    return raw ? lt_word_read(raw, ledger_key(sheet, offset)) : (struct lt_word){ 0 };
}

struct lt_sheet *lt_ledger_dirty(const struct lt_ledger *l, int64_t after) {
    for (size_t i = 0; i < l->count; i++)
        if (l->sheet[i].dirty && l->sheet[i].base > after)
            return &l->sheet[i];
    return NULL;
}

int lt_sheet_store(struct lt_sheet *sheet, int64_t offset, uint64_t word) {
    sheet->dirty = true;
    return lt_words_store(&sheet->words, (uint64_t)(offset - sheet->base), word);
}

uint64_t lt_sheet_final(const struct lt_sheet *sheet, int64_t offset, int state) {
    return lt_word_final(state, ledger_key(sheet, offset));
}

int lt_sheet_store_final(struct lt_sheet *sheet, int64_t offset, int state) {
    return lt_sheet_store(sheet, offset, lt_sheet_final(sheet, offset, state));
}

int lt_sheet_store_live(struct lt_sheet *sheet, int64_t offset, int state, uint32_t deliveries,
                        int64_t not_before_ms) {
    uint64_t not_before = 0;
    if (not_before_ms != 0) {
        int64_t after; // the creation; in ms, because times in ns end in the year 2262
        if (__builtin_sub_overflow(not_before_ms, sheet->created_ms, &after))
            after = not_before_ms < 0 ? 0 : INT64_MAX;
        not_before = lt_word_not_before(lt_add_ms(0, after < 0 ? 0 : after), 0);
    }
    return lt_sheet_store(sheet, offset,
                          lt_word_live(state, deliveries, not_before, ledger_key(sheet, offset)));
}

int64_t lt_sheet_due_ms(const struct lt_sheet *sheet, const struct lt_word *word) {
    if (word->not_before == 0)
        return 0;
    int64_t due_ms;
    if (__builtin_add_overflow((int64_t)word->not_before * (LT_WORD_UNIT_NS / 1000000),
                               sheet->created_ms, &due_ms))
        return INT64_MAX;
    return due_ms;
}

int lt_ledger_behind(struct lt_ledger *l, const struct lt_segment *s, int64_t from, int64_t *past) {
    struct lt_sheet *sheet;
    size_t before = l->count;
    int rc = lt_ledger_open(l, s, from, false, &sheet);
    if (rc != 0)
        return rc == LEAT_ENOENT ? 0 : rc;
    int64_t end = s->base + (int64_t)(sheet->words.allocated / 8);
    for (int64_t offset = from; offset < end; offset++)
        if (offset >= *past && lt_sheet_load(sheet, offset).state != LT_WORD_UNTOUCHED)
            *past = offset + 1;
    if (l->count > before) { // opened for this alone
        lt_words_close(&sheet->words);
        l->count--;
        memmove(sheet, sheet + 1, (size_t)(l->sheet + l->count - sheet) * sizeof *sheet);
    }
    return 0;
}

uint64_t lt_queue_garbage(const uint8_t *words, size_t *n, uint64_t uid, uint32_t id,
                          int64_t base) {
    uint64_t garbage = 0;
    size_t used = 0;
    for (size_t i = 0; i < *n; i++) {
        uint64_t raw = lt_get_u64(words + 8 * i), key = lt_mix3(uid, id, (uint64_t)base + i);
        used += raw != 0;
        garbage += raw != 0 && lt_word_read(raw, key).state == LT_WORD_UNTOUCHED;
    }
    *n = used;
    return garbage;
}

int lt_ledger_sync_names(const struct lt_ledger *l) {
    char path[LT_PATH_MAX];
    lt_partition_path(path, l->p);
    return lt_manifest_sync_dir(&l->mq->log->manifest, path);
}

int lt_ledger_sync(struct lt_ledger *l) {
    if (l->lost)
        return lt_fail(LEAT_EPOISONED, "topic %s partition %d: an earlier write of words was lost",
                       l->p->topic->name, l->p->number);
    int first = 0;
    for (size_t i = 0; i < l->count; i++) {
        int rc = lt_words_sync(&l->sheet[i].words);
        first = first ? first : rc;
    }
    if (l->dir_owed && first == 0) {
        first = lt_ledger_sync_names(l);
        l->dir_owed = first != 0;
    }
    return first;
}
