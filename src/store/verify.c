/* SPDX-License-Identifier: MIT */
// verify: leat_verify. It opens no room: a store that is damaged opens none. The manifest says what
// there is to be read; where it cannot be read, the directories do.
#include "log/log.h"
#include "queue/queue.h"
#include "store/readonly.h"
#include "store/store.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { STORE_VERIFY_TRIES = 8, STORE_VERIFY_TEXT = 512 };

struct verify_store {
    struct lt_verify v; // first: verify_gone finds it
    bool manifest;      // it can be read
    int64_t tail;       // of the manifest
};

static bool verify_has_topic(struct lt_manifest *m, uint32_t id) {
    struct lt_map_cursor at = { 0 };
    const struct lt_note *note;
    while ((note = lt_manifest_next(m, &at)))
        if (note->kind == LT_NOTE_TOPIC && note->id == id)
            return true;
    return false;
}

// Asks the manifest as it is now.
static bool verify_gone(struct lt_verify *v, uint32_t topic_id) {
    struct lt_manifest now;
    if (!((struct verify_store *)(void *)v)->manifest || lt_manifest_open(&now, v->mq, false) != 0)
        return false;
    bool gone = !verify_has_topic(&now, topic_id);
    lt_manifest_close(&now);
    return gone;
}

// ---- manifest and slots

// The slots come first: what they say was synced is found behind them.
int lt_view_log(leat *mq, int64_t *tail) {
    struct lt_log *log = mq->log;
    int rc = lt_slots_open(&log->slots, mq);
    if (rc == 0)
        rc = lt_manifest_open(&log->manifest, mq, false);
    if (rc == 0) {
        *tail = (int64_t)log->manifest.found_size - log->manifest.end;
        rc = lt_manifest_settle(&log->manifest);
    }
    struct lt_map_cursor at = { 0 };
    const struct lt_note *note;
    char name[250];
    leat_topic_options o;
    while (rc == 0 && (note = lt_manifest_next(&log->manifest, &at)))
        if (note->kind == LT_NOTE_TOPIC)
            rc = lt_topic_read_note(mq, note, name, &o);
    return rc;
}

static void verify_close_log(leat *mq) {
    lt_manifest_close(&mq->log->manifest);
    lt_slots_close(&mq->log->slots);
    *mq->log = (struct lt_log){ 0 };
}

// Reads manifest and slots, until what looks like damage is found twice.
// Returns  0; LEAT_ECORRUPT, LEAT_ENOENT: there are the slots only; an error: nothing.
static int verify_read_log(struct verify_store *vs) {
    leat *mq = vs->v.mq;
    char last[STORE_VERIFY_TEXT] = "";
    for (int i = 0;; i++) {
        int rc = lt_view_log(mq, &vs->tail);
        bool damaged = rc == LEAT_ECORRUPT || rc == LEAT_ENOENT;
        if (rc == 0 || (damaged && (i == STORE_VERIFY_TRIES ||
                                    strncmp(last, leat_errmsg(), sizeof last - 1) == 0)))
            return rc;
        (void)snprintf(last, sizeof last, "%s", leat_errmsg());
        verify_close_log(mq);
        if (!damaged)
            return rc;
    }
}

static void verify_tell_manifest(struct verify_store *vs, int rc) {
    struct lt_map_cursor at = { 0 };
    const struct lt_note *note;
    unsigned n[LT_NOTE_GROUP + 1] = { 0 };
    if (rc != 0) {
        lt_verify_damage(&vs->v, "manifest: DAMAGED: %s", leat_errmsg());
        return;
    }
    while ((note = lt_manifest_next(&vs->v.mq->log->manifest, &at)))
        if (note->kind <= LT_NOTE_GROUP)
            n[note->kind]++;
    lt_verify_say(&vs->v, "manifest: %u topics, %u queues, %u groups", n[LT_NOTE_TOPIC],
                  n[LT_NOTE_QUEUE], n[LT_NOTE_GROUP]);
    if (vs->tail > 0)
        lt_verify_say(&vs->v, "manifest: an unfinished tail of %lld bytes", (long long)vs->tail);
}

static void verify_tell_slots(struct verify_store *vs) {
    struct lt_slots_check c;
    struct lt_log *log = vs->v.mq->log;
    if (log->slots.fd < 0 && vs->manifest && lt_manifest_used(&log->manifest)) {
        lt_verify_damage(&vs->v, "slots: DAMAGED: the file is missing");
        return;
    }
    lt_slots_check(&log->slots, &c);
    lt_verify_say(&vs->v, "slots: %llu in use", (unsigned long long)c.used);
    if (c.unsound == 0)
        return;
    lt_verify_damage(&vs->v, "slots: DAMAGED: copies that are unsound: %llu; slots lost: %llu",
                     (unsigned long long)c.unsound, (unsigned long long)c.lost);
    vs->v.damage += c.unsound - 1;
}

// ---- topics

static int verify_topic(struct verify_store *vs, const char *name, uint32_t id,
                        const uint32_t *partition, size_t partitions) {
    uint64_t records = 0, before = vs->v.damage;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < partitions; i++)
        rc = lt_verify_partition(&vs->v, id, partition ? partition[i] : (uint32_t)i, &records);
    if (rc == 0)
        lt_verify_say(&vs->v, "topic %s, id %u: %zu partitions, %llu records, %llu damaged ranges",
                      name, id, partitions, (unsigned long long)records,
                      (unsigned long long)(vs->v.damage - before));
    return rc != 0 ? rc : vs->v.stopped;
}

static const struct lt_note *verify_note(struct lt_manifest *m, uint32_t id) {
    struct lt_map_cursor at = { 0 };
    const struct lt_note *note;
    while ((note = lt_manifest_next(m, &at)))
        if (note->kind == LT_NOTE_TOPIC && note->id == id)
            break;
    return note;
}

// A directory of a topic that is not in the manifest, or not in one that can be read.
static int verify_directory(struct verify_store *vs, uint32_t id) {
    uint32_t *partition;
    size_t count;
    char path[32];
    if (vs->manifest) {
        lt_verify_say(&vs->v, "%u: not in the manifest: left by a topic that was deleted, or new",
                      id);
        return vs->v.stopped;
    }
    (void)snprintf(path, sizeof path, "%u", id);
    int rc = lt_verify_numbers(vs->v.mq, path, &partition, &count);
    if (rc == 0)
        rc = verify_topic(vs, "(unknown)", id, partition, count);
    lt_free(&vs->v.mq->mem, partition);
    return rc;
}

static int verify_topics(struct verify_store *vs, const uint32_t *dir, size_t dirs) {
    struct lt_manifest *m = &vs->v.mq->log->manifest;
    struct lt_map_cursor at = { 0 };
    const struct lt_note *note;
    int rc = vs->v.stopped;
    while (rc == 0 && vs->manifest && (note = lt_manifest_next(m, &at))) {
        char name[250];
        leat_topic_options o;
        if (note->kind != LT_NOTE_TOPIC)
            continue;
        rc = lt_topic_read_note(vs->v.mq, note, name, &o);
        if (rc == 0)
            rc = verify_topic(vs, name, note->id, NULL, (size_t)o.partitions);
    }
    for (size_t i = 0; rc == 0 && i < dirs; i++)
        if (!vs->manifest || !verify_note(m, dir[i]))
            rc = verify_directory(vs, dir[i]);
    return rc;
}

// ---- all of it

static int verify_all(struct verify_store *vs) {
    leat *mq = vs->v.mq;
    uint32_t *dir;
    size_t dirs;
    int rc = lt_verify_numbers(mq, ".", &dir, &dirs);
    if (rc != 0)
        return rc;
    rc = verify_read_log(vs);
    vs->manifest = rc == 0;
    if (rc == LEAT_ENOENT && dirs == 0) {
        rc = lt_fail(rc, "%s holds no store", mq->dir);
    } else if (rc == 0 || rc == LEAT_ECORRUPT || rc == LEAT_ENOENT) {
        verify_tell_manifest(vs, rc);
        verify_tell_slots(vs);
        rc = verify_topics(vs, dir, dirs);
    }
    if (rc == 0) {
        if (vs->v.damage > 0)
            lt_verify_say(&vs->v, "%llu damaged ranges", (unsigned long long)vs->v.damage);
        else
            lt_verify_say(&vs->v, "whole");
        rc = vs->v.stopped;
    }
    lt_free(&mq->mem, dir);
    return rc;
}

int lt_view_begin(const char *dir, const leat_options *o, struct lt_os *os, leat **out) {
    leat *mq;
    int rc = lt_store_core(o, LEAT_READ_ONLY, os, &mq);
    if (rc != 0)
        return rc;
    rc = lt_readonly_begin(mq);
    if (rc == 0)
        rc = lt_dir_find(mq, dir);
    mq->log = rc == 0 ? lt_zalloc(&mq->mem, sizeof *mq->log) : NULL;
    if (rc == 0 && !mq->log)
        rc = lt_fail_nomem();
    if (rc == 0)
        *out = mq;
    else
        lt_view_end(mq);
    return rc;
}

void lt_view_end(leat *mq) {
    if (mq->log)
        verify_close_log(mq);
    lt_free(&mq->mem, mq->log);
    lt_dir_close(mq);
    lt_readonly_end(mq);
    lt_store_core_free(mq);
}

int lt_verify_store(const char *dir, const leat_options *o, struct lt_os *os, leat_write_fn write,
                    void *ctx) {
    leat *mq;
    int rc = lt_view_begin(dir, o, os, &mq);
    if (rc != 0)
        return rc;
    struct verify_store vs = { .v = { .mq = mq,
                                      .write = write,
                                      .ctx = ctx,
                                      .gone = verify_gone,
                                      .garbage = lt_queue_garbage } };
    rc = verify_all(&vs);
    lt_view_end(mq);
    if (rc == 0)
        return vs.v.damage < INT_MAX ? (int)vs.v.damage : INT_MAX;
    return vs.v.stopped ? lt_fail(LEAT_EIO, "verify %s: the report was ended by its reader", dir)
                        : rc;
}

int leat_verify(const char *dir, const leat_options *o, leat_write_fn write, void *ctx) {
    if (!dir || !*dir)
        return lt_fail(LEAT_EINVAL, "verify: the directory is NULL or empty");
    if (lt_in_callback())
        return lt_fail(LEAT_EDEADLK, "not allowed inside a callback");
    return lt_verify_store(dir, o, lt_os_system(), write, ctx);
}
