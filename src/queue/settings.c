/* SPDX-License-Identifier: MIT */
// settings: what a queue was told to be: from options, to and from its note in the manifest.
#include "queue/room.h"

#include "base/bytes.h"

#include <string.h>

enum { SETTINGS_NOTE_HEAD = 32, SETTINGS_FIELDS = 8, SETTINGS_VALUES = LT_BACKOFFS };

// ---- the note of a queue
//
// A head, two names, then fields, each only if it is set: tag u8, count u8 (1 to 16), that many
// i64. Tags are for ever.
enum {
    SETTINGS_BACKOFF = 1,
    SETTINGS_DELAY = 2,
    SETTINGS_RETENTION = 3,
    SETTINGS_EXPIRED_DEAD = 4,
    SETTINGS_PAUSED = 5,
    SETTINGS_GOING = 6
};

static uint8_t *settings_put(uint8_t *at, uint8_t tag, const int64_t *values, int32_t n) {
    if (n == 0)
        return at;
    at[0] = tag;
    at[1] = (uint8_t)n;
    for (int32_t i = 0; i < n; i++)
        lt_put_u64(at + 2 + 8 * i, (uint64_t)values[i]);
    return at + 2 + 8 * n;
}

static uint8_t *settings_put_one(uint8_t *at, uint8_t tag, int64_t value) {
    return settings_put(at, tag, &value, value != 0);
}

int lt_settings_write(const leat_queue *q, const struct lt_queue_settings *set) {
    uint8_t body[SETTINGS_NOTE_HEAD + 4 + 2 * 256 + SETTINGS_FIELDS * (2 + 8 * SETTINGS_VALUES)];
    size_t name = strlen(q->name), dead = strlen(set->dead_letter);
    memset(body, 0, SETTINGS_NOTE_HEAD);
    lt_put_u32(body, q->topic->id);
    lt_put_u32(body + 4, (uint32_t)set->acks);
    lt_put_u32(body + 8, (uint32_t)set->deliveries_max);
    lt_put_u32(body + 12, (uint32_t)set->settle_acks);
    lt_put_u64(body + 16, (uint64_t)set->visibility_ms);
    lt_put_u64(body + 24, (uint64_t)set->in_flight_max);
    uint8_t *at = body + SETTINGS_NOTE_HEAD;
    lt_put_u16(at, (uint16_t)name);
    memcpy(at + 2, q->name, name);
    at += 2 + name;
    lt_put_u16(at, (uint16_t)dead);
    memcpy(at + 2, set->dead_letter, dead);
    at += 2 + dead;
    at = settings_put(at, SETTINGS_BACKOFF, set->backoff_ms, set->backoff_count);
    at = settings_put(at, SETTINGS_DELAY, &set->delay_ms, set->delay_ms != 0);
    at = settings_put_one(at, SETTINGS_RETENTION, set->retention_ms);
    at = settings_put_one(at, SETTINGS_EXPIRED_DEAD, set->dead_letter_expired);
    at = settings_put_one(at, SETTINGS_PAUSED, set->paused);
    at = settings_put_one(at, SETTINGS_GOING, set->going);
    return lt_manifest_note(&q->mq->log->manifest, LT_NOTE_QUEUE, q->id, body, (size_t)(at - body));
}

// Takes one name out of a note. Returns false if it does not fit.
static bool settings_read_name(const uint8_t **at, const uint8_t *end, char out[250]) {
    if (end - *at < 2)
        return false;
    uint16_t n = lt_get_u16(*at);
    if (n >= 250 || end - *at - 2 < n)
        return false;
    memcpy(out, *at + 2, n);
    out[n] = '\0';
    *at += 2 + n;
    return true;
}

// Takes one field out of a note. Returns false if it does not fit, or is of a later version.
static bool settings_read_field(const uint8_t **at, const uint8_t *end,
                                struct lt_queue_settings *set) {
    int64_t values[SETTINGS_VALUES];
    if (end - *at < 2)
        return false;
    int tag = (*at)[0], n = (*at)[1];
    if (n == 0 || n > SETTINGS_VALUES || end - *at - 2 < 8 * n)
        return false;
    for (int i = 0; i < n; i++)
        values[i] = (int64_t)lt_get_u64(*at + 2 + 8 * i);
    *at += 2 + 8 * n;
    switch (tag) {
    case SETTINGS_BACKOFF:
        set->backoff_count = n;
        memcpy(set->backoff_ms, values, (size_t)n * sizeof values[0]);
        return true;
    case SETTINGS_DELAY:
        set->delay_ms = values[0];
        return n == 1;
    case SETTINGS_RETENTION:
        set->retention_ms = values[0];
        return true;
    case SETTINGS_EXPIRED_DEAD:
        set->dead_letter_expired = values[0] != 0;
        return true;
    case SETTINGS_PAUSED:
        set->paused = values[0] != 0;
        return true;
    case SETTINGS_GOING:
        set->going = values[0] != 0;
        return true;
    default:
        return false;
    }
}

static bool settings_acks_sound(int32_t acks) {
    return acks == LEAT_ACKS_DEFAULT || acks == LEAT_ACKS_LOG || acks == LEAT_ACKS_DISK;
}

// Returns the first entry that is not a delay, or n.
static int32_t settings_backoff_sound(const int64_t *ms, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        if (ms[i] < 0 || ms[i] > LT_DELAY_MAX_MS)
            return i;
    return n;
}

static bool settings_sound(const struct lt_queue_settings *set) {
    return lt_acks_sound(set->acks) && settings_acks_sound(set->settle_acks) &&
           set->deliveries_max >= 0 && set->deliveries_max <= (int32_t)LT_WORD_DELIVERIES_MAX &&
           set->delay_ms >= 0 && set->delay_ms <= LT_DELAY_MAX_MS && set->visibility_ms > 0 &&
           set->visibility_ms <= LT_DELAY_MAX_MS && set->in_flight_max > 0 &&
           set->in_flight_max <= LT_LEASE_SLOTS_MAX &&
           settings_backoff_sound(set->backoff_ms, set->backoff_count) == set->backoff_count &&
           set->retention_ms >= 0;
}

int lt_settings_read(leat *mq, const struct lt_note *note, char name[250], uint32_t *topic_id,
                     struct lt_queue_settings *set) {
    const uint8_t *at = note->body + SETTINGS_NOTE_HEAD, *end = note->body + note->size;
    memset(set, 0, sizeof *set);
    if (note->size < SETTINGS_NOTE_HEAD || !settings_read_name(&at, end, name) ||
        !settings_read_name(&at, end, set->dead_letter) || lt_check_name("queue", name) != 0)
        return lt_fail(LEAT_ECORRUPT, "%s/manifest: the note of queue id %u is unsound", mq->dir,
                       note->id);
    bool fields = true;
    while (fields && at < end)
        fields = settings_read_field(&at, end, set);
    *topic_id = lt_get_u32(note->body);
    set->acks = (int32_t)lt_get_u32(note->body + 4);
    set->deliveries_max = (int32_t)lt_get_u32(note->body + 8);
    set->settle_acks = (int32_t)lt_get_u32(note->body + 12);
    set->visibility_ms = (int64_t)lt_get_u64(note->body + 16);
    set->in_flight_max = (int64_t)lt_get_u64(note->body + 24);
    if (!fields || !settings_sound(set))
        return lt_fail(LEAT_ECORRUPT, "%s/manifest: the settings of queue %s are unsound", mq->dir,
                       name);
    return 0;
}

// ---- options

static int settings_check_backoff(const char *name, const leat_queue_options *o) {
    int32_t n = o->backoff_count;
    if ((n <= 0 || n > LT_BACKOFFS || !o->backoff_ms) &&
        ((n != 0 && n != LEAT_ZERO) || o->backoff_ms))
        return lt_fail(LEAT_EINVAL, "queue %s: backoff_count is %d%s; 1 to %d, of a list", name, n,
                       o->backoff_ms ? "" : " and backoff_ms NULL", LT_BACKOFFS);
    int32_t sound = n > 0 ? settings_backoff_sound(o->backoff_ms, n) : n;
    if (sound != n)
        return lt_fail(LEAT_EINVAL, "queue %s: backoff_ms[%d] is %lld; 0 to 366 days", name, sound,
                       (long long)o->backoff_ms[sound]);
    return 0;
}

static int settings_check_age(const char *name, const leat_queue_options *o) {
    if (o->retention_ms < 0 && o->retention_ms != LEAT_FOREVER)
        return lt_fail(LEAT_EINVAL, "queue %s: retention_ms is %lld", name,
                       (long long)o->retention_ms);
    if (o->dead_letter_expired != 0 && o->dead_letter_expired != 1 &&
        o->dead_letter_expired != LEAT_ZERO)
        return lt_fail(LEAT_EINVAL, "queue %s: dead_letter_expired is %d; 1, or LEAT_ZERO", name,
                       o->dead_letter_expired);
    if (o->dedup_window_ms != 0 && o->topic)
        return lt_fail(LEAT_EINVAL, "queue %s: dedup_window_ms is for a topic of its own, not %s",
                       name, o->topic);
    if (o->start < 0 || o->start > LEAT_LATEST)
        return lt_fail(LEAT_EINVAL, "queue %s: start is %d", name, o->start);
    return 0;
}

int lt_settings_check(const char *name, const leat_queue_options *o) {
    int rc = lt_check_reserved("queue options", o->reserved, 8);
    leat_topic_options dedup = { .dedup_window_ms = o->dedup_window_ms }, full;
    if (rc == 0 && (o->flags & ~(uint32_t)(LEAT_MUST_EXIST | LEAT_ALTER)))
        rc = lt_fail(LEAT_EINVAL, "queue %s: unknown flags %#x", name, o->flags);
    if (rc == 0 && !lt_acks_sound(o->acks))
        rc = lt_fail(LEAT_EINVAL, "queue %s: acks is %d", name, o->acks);
    if (rc == 0 && !settings_acks_sound(o->settle_acks))
        rc = lt_fail(LEAT_EINVAL, "queue %s: settle_acks is %d", name, o->settle_acks);
    if (rc == 0 && (o->deliveries_max < LEAT_UNLIMITED || o->deliveries_max > 4095))
        rc = lt_fail(LEAT_EINVAL, "queue %s: deliveries_max is %d; 1 to 4095", name,
                     o->deliveries_max);
    if (rc == 0 && (o->partitions < 0 || o->partitions > LT_PARTITIONS_MAX))
        rc = lt_fail(LEAT_EINVAL, "queue %s: partitions is %d; 1 to %d", name, o->partitions,
                     LT_PARTITIONS_MAX);
    if (rc == 0 && (o->visibility_timeout_ms < 0 || o->visibility_timeout_ms > LT_DELAY_MAX_MS))
        rc = lt_fail(LEAT_EINVAL, "queue %s: visibility_timeout_ms is %lld; up to 366 days", name,
                     (long long)o->visibility_timeout_ms);
    if (rc == 0 && o->delay_ms != LEAT_ZERO && (o->delay_ms < 0 || o->delay_ms > LT_DELAY_MAX_MS))
        rc = lt_fail(LEAT_EINVAL, "queue %s: delay_ms is %lld; up to 366 days", name,
                     (long long)o->delay_ms);
    if (rc == 0 && (o->in_flight_max < 0 || o->in_flight_max > LT_LEASE_SLOTS_MAX))
        rc = lt_fail(LEAT_EINVAL, "queue %s: in_flight_max is %lld; 1 to %u", name,
                     (long long)o->in_flight_max, LT_LEASE_SLOTS_MAX);
    if (rc == 0)
        rc = settings_check_backoff(name, o);
    if (rc == 0)
        rc = settings_check_age(name, o);
    if (rc == 0 && lt_topic_check_options(&dedup, &full) != 0)
        rc = lt_fail(LEAT_EINVAL, "queue %s: dedup_window_ms is %lld; up to 365 days", name,
                     (long long)o->dedup_window_ms);
    if (rc == 0 && o->topic)
        rc = lt_check_name("topic", o->topic);
    if (rc == 0 && o->dead_letter)
        rc = lt_check_name("queue", o->dead_letter);
    return rc;
}

void lt_settings_apply(const leat_queue_options *o, struct lt_queue_settings *set) {
    if (o->acks)
        set->acks = o->acks;
    if (o->settle_acks)
        set->settle_acks = o->settle_acks;
    if (o->deliveries_max)
        set->deliveries_max = o->deliveries_max == LEAT_UNLIMITED ? 0 : o->deliveries_max;
    if (o->visibility_timeout_ms)
        set->visibility_ms = o->visibility_timeout_ms;
    if (o->delay_ms)
        set->delay_ms = o->delay_ms == LEAT_ZERO ? 0 : o->delay_ms;
    if (o->in_flight_max)
        set->in_flight_max = o->in_flight_max;
    if (o->dead_letter)
        memcpy(set->dead_letter, o->dead_letter, strlen(o->dead_letter) + 1);
    if (o->retention_ms)
        set->retention_ms = o->retention_ms == LEAT_FOREVER ? 0 : o->retention_ms;
    if (o->dead_letter_expired)
        set->dead_letter_expired = o->dead_letter_expired == 1;
    if (o->backoff_count)
        set->backoff_count = o->backoff_count > 0 ? o->backoff_count : 0;
    if (o->backoff_count > 0)
        memcpy(set->backoff_ms, o->backoff_ms,
               (size_t)o->backoff_count * sizeof set->backoff_ms[0]);
}

static bool settings_same_backoff(const struct lt_queue_settings *a,
                                  const struct lt_queue_settings *b) {
    return a->backoff_count == b->backoff_count &&
           memcmp(a->backoff_ms, b->backoff_ms,
                  (size_t)a->backoff_count * sizeof a->backoff_ms[0]) == 0;
}

int64_t lt_settings_dedup(const leat_queue *q, const leat_queue_options *o) {
    if (o->dedup_window_ms == 0)
        return q->topic->dedup_window_ms;
    return o->dedup_window_ms == LEAT_ZERO ? 0 : o->dedup_window_ms;
}

static int settings_differ(const leat_queue *q, const char *field) {
    return lt_fail(LEAT_EEXIST, "queue %s exists with another %s", q->name, field);
}

// What sends wait for, and what settling does: 0 is a default, which may be asked for by its name.
static int32_t settings_acks(const leat_queue *q, int32_t acks) {
    return acks ? acks : q->mq->acks;
}

static int32_t settings_settle(int32_t acks) {
    return acks ? acks : LEAT_ACKS_LOG;
}

int lt_settings_compare(const leat_queue *q, const leat_queue_options *o, bool *change) {
    struct lt_queue_settings want = q->set;
    lt_settings_apply(o, &want);
    if (o->topic && strcmp(o->topic, q->topic->name) != 0)
        return settings_differ(q, "topic");
    if (o->partitions && o->partitions != q->topic->partitions)
        return settings_differ(q, "partitions");
    if (o->dedup_window_ms && !q->owns_topic)
        return lt_fail(LEAT_EINVAL, "queue %s: dedup_window_ms is for a topic of its own, not %s",
                       q->name, q->topic->name);
    bool acks = settings_acks(q, want.acks) == settings_acks(q, q->set.acks);
    bool settle = settings_settle(want.settle_acks) == settings_settle(q->set.settle_acks);
    const char *field = !acks                                          ? "acks"
                        : !settle                                      ? "settle_acks"
                        : want.deliveries_max != q->set.deliveries_max ? "deliveries_max"
                        : want.visibility_ms != q->set.visibility_ms   ? "visibility_timeout_ms"
                        : want.delay_ms != q->set.delay_ms             ? "delay_ms"
                        : want.in_flight_max != q->set.in_flight_max   ? "in_flight_max"
                        : strcmp(want.dead_letter, q->set.dead_letter) != 0 ? "dead_letter"
                        : !settings_same_backoff(&want, &q->set)            ? "backoff_ms"
                        : want.retention_ms != q->set.retention_ms          ? "retention_ms"
                        : want.dead_letter_expired != q->set.dead_letter_expired
                            ? "dead_letter_expired"
                        : lt_settings_dedup(q, o) != q->topic->dedup_window_ms ? "dedup_window_ms"
                                                                               : NULL;
    // One that was the store's and is now said is stored: it stays so in another store.
    bool alter = (o->flags & LEAT_ALTER) != 0;
    *change = alter && (field || want.acks != q->set.acks);
    return field && !alter ? settings_differ(q, field) : 0;
}
