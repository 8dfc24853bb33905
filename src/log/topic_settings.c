/* SPDX-License-Identifier: MIT */
// topic_settings: what a topic was told to be: checked, compared with what is, and kept as a note.
#include "base/bytes.h"
#include "log/dedup.h"
#include "log/log.h"

#include <string.h>

// The note of a topic: 40 bytes, its name, and in a note of today a NUL and 20 bytes more; with a
// dedup window, or what follows, 16 more; with a channel its name.
enum { SETTINGS_HEAD = 40, SETTINGS_TAIL = 20, SETTINGS_DEDUP = 16, SETTINGS_OWNED = 1 };

// ---- the note

int lt_topic_write_note(struct lt_manifest *m, uint32_t id, const char *name,
                        const leat_topic_options *o, bool owned) {
    uint8_t body[SETTINGS_HEAD + 256 + SETTINGS_TAIL + SETTINGS_DEDUP + 256];
    size_t n = strlen(name), more = SETTINGS_TAIL;
    lt_put_u32(body, owned ? SETTINGS_OWNED : 0);
    lt_put_u32(body + 4, (uint32_t)o->partitions);
    lt_put_u64(body + 8, (uint64_t)o->segment_bytes);
    lt_put_u64(body + 16, (uint64_t)o->retention_bytes);
    lt_put_u64(body + 24, (uint64_t)o->retention_records);
    lt_put_u64(body + 32, (uint64_t)o->when_full);
    memcpy(body + SETTINGS_HEAD, name, n + 1);
    uint8_t *tail = body + SETTINGS_HEAD + n + 1;
    lt_put_u64(tail, (uint64_t)o->segment_ms);
    lt_put_u64(tail + 8, (uint64_t)o->retention_ms);
    lt_put_u32(tail + 16, (uint32_t)o->keep_until_consumed);
    if (o->dedup_window_ms != 0 || o->dedup_window_count != 0 || o->announce_on) {
        lt_put_u64(tail + more, (uint64_t)o->dedup_window_ms);
        lt_put_u64(tail + more + 8, (uint64_t)o->dedup_window_count);
        more += SETTINGS_DEDUP;
    }
    if (o->announce_on) {
        size_t size = strlen(o->announce_on) + 1; // at most 250, it was checked
        memcpy(tail + more, o->announce_on, size);
        more += size;
    }
    return lt_manifest_note(m, LT_NOTE_TOPIC, id, body, SETTINGS_HEAD + n + 1 + more);
}

int lt_topic_note(const leat_topic *t, int32_t partitions, int64_t dedup_window_ms,
                  const struct lt_keeps *keeps) {
    const leat_topic_options o = { .partitions = partitions,
                                   .segment_bytes = t->segment_bytes,
                                   .retention_bytes = keeps->bytes,
                                   .retention_records = keeps->records,
                                   .segment_ms = keeps->segment_ms,
                                   .retention_ms = keeps->ms,
                                   .dedup_window_ms = dedup_window_ms,
                                   .dedup_window_count = t->dedup_window_count,
                                   .keep_until_consumed = keeps->until_consumed,
                                   .when_full = keeps->when_full,
                                   .announce_on = t->announce_on };
    return lt_topic_write_note(&t->mq->log->manifest, t->id, t->name, &o, t->owned);
}

// The name of the channel stands at the end, if there is one.
static void settings_read_channel(const uint8_t *at, const struct lt_note *note,
                                  leat_topic_options *o) {
    size_t left = (size_t)(note->body + note->size - at);
    if (left > 0 && at[left - 1] == '\0')
        o->announce_on = (const char *)at;
}

// What it says lives as long as the note. Returns  false if it cannot be a topic's.
static bool settings_read(const struct lt_note *note, char name[250], leat_topic_options *o) {
    if (note->size <= SETTINGS_HEAD)
        return false;
    const uint8_t *text = note->body + SETTINGS_HEAD;
    size_t left = note->size - SETTINGS_HEAD, n = strnlen((const char *)text, left);
    if (n == 0 || n >= 250 || (n < left && left - n - 1 < SETTINGS_TAIL))
        return false;
    memcpy(name, text, n);
    name[n] = '\0';
    *o = (leat_topic_options){ .partitions = (int32_t)lt_get_u32(note->body + 4),
                               .segment_bytes = (int64_t)lt_get_u64(note->body + 8),
                               .retention_bytes = (int64_t)lt_get_u64(note->body + 16),
                               .retention_records = (int64_t)lt_get_u64(note->body + 24),
                               .when_full = (int32_t)lt_get_u32(note->body + 32) };
    if (n < left) {
        const uint8_t *tail = text + n + 1;
        o->segment_ms = (int64_t)lt_get_u64(tail);
        o->retention_ms = (int64_t)lt_get_u64(tail + 8);
        o->keep_until_consumed = (int32_t)lt_get_u32(tail + 16);
        if (left - n - 1 >= SETTINGS_TAIL + SETTINGS_DEDUP) {
            o->dedup_window_ms = (int64_t)lt_get_u64(tail + SETTINGS_TAIL);
            o->dedup_window_count = (int64_t)lt_get_u64(tail + SETTINGS_TAIL + 8);
            settings_read_channel(tail + SETTINGS_TAIL + SETTINGS_DEDUP, note, o);
        }
    }
    return true;
}

int lt_topic_read_note(leat *mq, const struct lt_note *note, char name[250],
                       leat_topic_options *full) {
    leat_topic_options o;
    if (!settings_read(note, name, &o))
        return lt_fail(LEAT_ECORRUPT, "%s/manifest: topic id %u has no name", mq->dir, note->id);
    if (lt_check_name("topic", name) != 0 || lt_topic_check_options(&o, full) != 0)
        return lt_fail(LEAT_ECORRUPT, "%s/manifest: the note of topic id %u is unsound", mq->dir,
                       note->id);
    return 0;
}

bool lt_topic_note_owned(const struct lt_note *note) {
    return (lt_get_u32(note->body) & SETTINGS_OWNED) != 0;
}

// ---- options

static int settings_check_retention(leat_topic_options *o) {
    if (o->retention_bytes == 0)
        o->retention_bytes = LEAT_UNLIMITED;
    if (o->retention_records == 0)
        o->retention_records = LEAT_UNLIMITED;
    if (o->retention_ms == 0)
        o->retention_ms = LEAT_FOREVER;
    if (o->segment_ms == 0)
        o->segment_ms = LT_SEGMENT_MS_MAX;
    if (o->when_full == 0)
        o->when_full = LEAT_DELETE_OLDEST;
    if (o->keep_until_consumed == LEAT_ZERO)
        o->keep_until_consumed = 0;
    if (o->retention_bytes < LEAT_UNLIMITED || o->retention_records < LEAT_UNLIMITED)
        return lt_fail(LEAT_EINVAL, "retention_bytes is %lld, retention_records %lld",
                       (long long)o->retention_bytes, (long long)o->retention_records);
    if (o->retention_ms < LEAT_FOREVER)
        return lt_fail(LEAT_EINVAL, "retention_ms is %lld", (long long)o->retention_ms);
    if (o->segment_ms < 0 || o->segment_ms > LT_SEGMENT_MS_MAX)
        return lt_fail(LEAT_EINVAL, "segment_ms is %lld; up to 365 days", (long long)o->segment_ms);
    if (o->when_full < 0 || o->when_full > LEAT_REJECT)
        return lt_fail(LEAT_EINVAL, "when_full is %d", o->when_full);
    if (o->keep_until_consumed < 0 || o->keep_until_consumed > 1)
        return lt_fail(LEAT_EINVAL, "keep_until_consumed is %d", o->keep_until_consumed);
    return 0;
}

int lt_topic_check_options(const leat_topic_options *in, leat_topic_options *out) {
    *out = in ? *in : (leat_topic_options){ 0 };
    int rc = lt_check_reserved("topic options", out->reserved, 8);
    if (rc != 0)
        return rc;
    if (out->flags & ~(uint32_t)(LEAT_MUST_EXIST | LEAT_ALTER))
        return lt_fail(LEAT_EINVAL, "topic options: unknown flags %#x", out->flags);
    if (out->partitions == 0)
        out->partitions = 1;
    if (out->partitions < 0 || out->partitions > LT_PARTITIONS_MAX)
        return lt_fail(LEAT_EINVAL, "partitions is %d; 1 to %d", out->partitions,
                       LT_PARTITIONS_MAX);
    if (out->segment_bytes == 0)
        out->segment_bytes = INT64_C(64) << 20;
    if (out->segment_bytes < 16384 || out->segment_bytes > (INT64_C(4) << 30) - 4096)
        return lt_fail(LEAT_EINVAL, "segment_bytes is %lld; 16 KiB to 4 GiB - 4 KiB",
                       (long long)out->segment_bytes);
    if (out->announce_on && !*out->announce_on)
        out->announce_on = NULL;
    rc = settings_check_retention(out);
    if (rc == 0 && out->announce_on)
        rc = lt_check_name("channel", out->announce_on);
    return rc != 0 ? rc : lt_dedup_check(out);
}

void lt_keeps_set(struct lt_keeps *k, const leat_topic_options *o) {
    if (o->retention_bytes)
        k->bytes = o->retention_bytes;
    if (o->retention_records)
        k->records = o->retention_records;
    if (o->retention_ms)
        k->ms = o->retention_ms;
    if (o->segment_ms)
        k->segment_ms = o->segment_ms;
    if (o->when_full)
        k->when_full = o->when_full;
    if (o->keep_until_consumed)
        k->until_consumed = o->keep_until_consumed == 1;
}

// Tells whether a setting that was asked for is the one that is.
static int settings_same(const leat_topic *t, const char *field, int64_t asked, int64_t is) {
    if (asked == 0 || asked == is)
        return 0;
    return lt_fail(LEAT_EEXIST, "topic %s exists with %s %lld, not %lld", t->name, field,
                   (long long)is, (long long)asked);
}

static int settings_same_channel(const leat_topic *t, const char *asked) {
    const char *is = t->announce_on ? t->announce_on : "";
    if (!asked || strcmp(asked, is) == 0)
        return 0;
    return lt_fail(LEAT_EEXIST, "topic %s exists with announce_on '%s', not '%.32s'", t->name, is,
                   asked);
}

int lt_topic_same_made(const leat_topic *t, const leat_topic_options *asked) {
    int rc = settings_same(t, "partitions", asked->partitions, t->partitions);
    if (rc == 0)
        rc = settings_same(t, "segment_bytes", asked->segment_bytes, t->segment_bytes);
    if (rc == 0)
        rc = settings_same(t, "dedup_window_ms", asked->dedup_window_ms,
                           t->dedup_window_ms ? t->dedup_window_ms : LEAT_ZERO);
    if (rc == 0)
        rc = settings_same(t, "dedup_window_count", asked->dedup_window_count,
                           t->dedup_window_count ? t->dedup_window_count : LEAT_ZERO);
    return rc != 0 ? rc : settings_same_channel(t, asked->announce_on);
}

int lt_topic_same(const leat_topic *t, const leat_topic_options *asked) {
    const struct lt_keeps *k = &t->keeps;
    int rc = lt_topic_same_made(t, asked);
    if (rc == 0)
        rc = settings_same(t, "retention_bytes", asked->retention_bytes, k->bytes);
    if (rc == 0)
        rc = settings_same(t, "retention_records", asked->retention_records, k->records);
    if (rc == 0)
        rc = settings_same(t, "segment_ms", asked->segment_ms, k->segment_ms);
    if (rc == 0)
        rc = settings_same(t, "retention_ms", asked->retention_ms, k->ms);
    if (rc == 0)
        rc = settings_same(t, "keep_until_consumed", asked->keep_until_consumed,
                           k->until_consumed ? 1 : LEAT_ZERO);
    return rc != 0 ? rc : settings_same(t, "when_full", asked->when_full, k->when_full);
}
