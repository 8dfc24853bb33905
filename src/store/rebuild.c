/* SPDX-License-Identifier: MIT */
// rebuild: leat_rebuild_manifest. All is read through a read-only handle first; then manifest.new
// is made, whole and on disk, the old manifest gets another name and the new one its name. Whatever
// dies in between, no file but manifest.new was written, and it can be done again.
//
// Ids and uids go on far behind the highest that are found: what was reserved, or was used by what
// is deleted, left no trace. Slots and words go by ids, so those of topics stay what they are. The
// generation is another one than before, or the slot that tells how much of the old manifest was on
// disk would be taken for the new one's.
#include "base/bytes.h"
#include "log/log.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REBUILD_IDS = 1 << 16 };
#define REBUILD_UIDS (UINT64_C(1) << 32)

struct rebuild_topic {
    uint32_t id, partitions;
    char name[250]; // "": not known
};

struct rebuild {
    leat *mq, *view; // mq has the lock
    struct lt_verify say;
    struct rebuild_topic *topic;
    size_t count, room;
    uint32_t *lost; // ids of queues and groups that were said to be lost
    size_t lost_count, lost_room;
    uint64_t uid, generation; // the highest found
    uint32_t id;
    int rc; // while a directory is listed
};

struct rebuild_dir { // a partition's
    struct rebuild *r;
    struct rebuild_topic *t;
    uint32_t partition;
};

// ---- what is found

static int rebuild_order(const void *key, const void *topic) {
    uint32_t x = *(const uint32_t *)key, y = ((const struct rebuild_topic *)topic)->id;
    return (x > y) - (x < y);
}

static struct rebuild_topic *rebuild_topic_of(struct rebuild *r, uint32_t id) {
    return r->count == 0 ? NULL : bsearch(&id, r->topic, r->count, sizeof *r->topic, rebuild_order);
}

// Adds a topic; they come in the order of their ids.
static struct rebuild_topic *rebuild_add_topic(struct rebuild *r, uint32_t id) {
    if (r->count == r->room) {
        size_t room = r->room ? 2 * r->room : 16;
        struct rebuild_topic *grown = lt_resize(&r->mq->mem, r->topic, room * sizeof *grown);
        if (!grown) {
            (void)lt_fail_nomem();
            return NULL;
        }
        r->topic = grown;
        r->room = room;
    }
    r->topic[r->count] = (struct rebuild_topic){ .id = id, .partitions = 1 };
    return &r->topic[r->count++];
}

static void rebuild_saw_id(struct rebuild *r, uint32_t id) {
    r->id = id > r->id ? id : r->id;
}

// Says once of a queue or group that its name is lost.
static int rebuild_lost(struct rebuild *r, const char *kind, uint32_t id) {
    rebuild_saw_id(r, id);
    for (size_t i = 0; i < r->lost_count; i++)
        if (r->lost[i] == id)
            return 0;
    if (r->lost_count == r->lost_room) {
        size_t room = r->lost_room ? 2 * r->lost_room : 16;
        uint32_t *grown = lt_resize(&r->mq->mem, r->lost, room * sizeof *grown);
        if (!grown)
            return lt_fail_nomem();
        r->lost = grown;
        r->lost_room = room;
    }
    r->lost[r->lost_count++] = id;
    lt_verify_say(&r->say,
                  "%s id %u: its name and its settings are lost; what is its is left alone", kind,
                  id);
    return 0;
}

// Takes what the header page of a segment says. One that is damaged says nothing.
static int rebuild_segment(struct rebuild_dir *d, const char *name, bool in_use) {
    struct rebuild *r = d->r;
    struct lt_segment_head head;
    char path[LT_PATH_MAX + 256];
    (void)snprintf(path, sizeof path, "%u/%u/%s", d->t->id, d->partition, name);
    int rc = lt_verify_page(r->view, path, &head);
    if (rc != 0)
        return rc == LEAT_ECORRUPT ? 0 : rc;
    r->uid = head.uid > r->uid ? head.uid : r->uid;
    rebuild_saw_id(r, head.topic_id);
    if (!in_use || head.topic_id != d->t->id || head.partition != d->partition ||
        lt_check_name("topic", head.topic) != 0)
        return 0;
    memcpy(d->t->name, head.topic, strlen(head.topic) + 1);
    return 0;
}

static int rebuild_take_file(const char *name, void *ctx) {
    struct rebuild_dir *d = ctx;
    size_t n = strlen(name);
    if (n < 23 || n > 64 || strspn(name, "0123456789") != 20)
        return 0;
    const char *rest = name + 20;
    if (strncmp(rest, ".log", 4) == 0) { // or one that was set aside
        d->r->rc = rebuild_segment(d, name, rest[4] == '\0');
    } else if (strncmp(rest, ".q", 2) == 0 && strspn(rest + 2, "0123456789") == n - 22) {
        unsigned long long id = strtoull(rest + 2, NULL, 10);
        if (id < UINT32_MAX)
            d->r->rc = rebuild_lost(d->r, "queue", (uint32_t)id);
    }
    return d->r->rc == 0 ? 0 : 1;
}

static int rebuild_partition(struct rebuild *r, struct rebuild_topic *t, uint32_t partition) {
    struct lt_os *os = r->view->os;
    struct rebuild_dir d = { r, t, partition };
    char path[LT_PATH_MAX];
    if (partition >= LT_PARTITIONS_MAX)
        return 0;
    (void)snprintf(path, sizeof path, "%u/%u", t->id, partition);
    int fd = os->open(os, r->view->dir_fd, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd == -ENOENT || fd == -ENOTDIR)
        return 0;
    int rc = fd < 0 ? fd : os->list(os, fd, rebuild_take_file, &d);
    if (fd >= 0)
        (void)os->close(os, fd);
    if (rc < 0)
        return lt_fail_os(rc, "listing %s/%s", r->view->dir, path);
    t->partitions = partition >= t->partitions ? partition + 1 : t->partitions;
    return r->rc;
}

static int rebuild_topic_dir(struct rebuild *r, uint32_t id) {
    uint32_t *partition;
    size_t count;
    char path[32];
    (void)snprintf(path, sizeof path, "%u", id);
    int rc = lt_verify_numbers(r->view, path, &partition, &count);
    struct rebuild_topic *t = rc == 0 && count > 0 ? rebuild_add_topic(r, id) : NULL;
    if (rc == 0 && count > 0 && !t)
        rc = LEAT_ENOMEM;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = rebuild_partition(r, t, partition[i]);
    lt_free(&r->view->mem, partition);
    return rc;
}

// What the slots know: how many partitions there were, ids, and the manifest's generation.
static int rebuild_slots(struct rebuild *r) {
    struct lt_slots *slots = &r->view->log->slots;
    const struct lt_slot *slot;
    uint32_t at = 0;
    int rc = 0;
    while (rc == 0 && (slot = lt_slots_next(slots, &at))) {
        const struct lt_slot_key *key = &slot->key;
        if (key->kind == LT_SLOT_MANIFEST && slot->values[0] > (int64_t)r->generation)
            r->generation = (uint64_t)slot->values[0];
        if (key->kind != LT_SLOT_PARTITION && key->kind != LT_SLOT_COMMIT &&
            key->kind != LT_SLOT_QUEUE)
            continue;
        rebuild_saw_id(r, key->topic);
        struct rebuild_topic *t = rebuild_topic_of(r, key->topic);
        if (t && key->partition < LT_PARTITIONS_MAX && key->partition >= t->partitions)
            t->partitions = key->partition + 1;
        if (key->kind != LT_SLOT_PARTITION)
            rc = rebuild_lost(r, key->kind == LT_SLOT_COMMIT ? "group" : "queue", key->id);
    }
    return rc;
}

// The old manifest's generation, if its first bytes can be read.
static void rebuild_generation(struct rebuild *r) {
    struct lt_os *os = r->view->os;
    uint8_t bytes[LT_NOTES_HEAD];
    struct lt_notes_head head;
    int fd = os->open(os, r->view->dir_fd, "manifest", O_RDONLY, 0);
    if (fd < 0)
        return;
    if (lt_pread_full(os, fd, bytes, sizeof bytes, 0) == LT_NOTES_HEAD &&
        lt_notes_head_decode(bytes, &head) == 0 && head.generation > r->generation)
        r->generation = head.generation;
    (void)os->close(os, fd);
}

static int rebuild_find(struct rebuild *r) {
    uint32_t *dir;
    size_t dirs;
    int rc = lt_verify_numbers(r->view, ".", &dir, &dirs);
    for (size_t i = 0; rc == 0 && i < dirs; i++)
        rc = rebuild_topic_dir(r, dir[i]);
    lt_free(&r->view->mem, dir);
    if (rc == 0)
        rc = rebuild_slots(r);
    rebuild_generation(r);
    return rc;
}

// ---- what is made of it

// Two topics of one name: one of them was deleted, and its files were left. The later one keeps it.
static void rebuild_name(struct rebuild *r, size_t i) {
    struct rebuild_topic *t = &r->topic[i];
    bool taken = false;
    for (size_t k = i + 1; k < r->count && t->name[0]; k++)
        taken |= strcmp(r->topic[k].name, t->name) == 0;
    if (taken) {
        char name[250];
        (void)snprintf(name, sizeof name, "%.*s.id%u", 230, t->name, t->id);
        lt_verify_say(&r->say, "topic id %u: a later topic is called %s, too: it becomes %s", t->id,
                      t->name, name);
        memcpy(t->name, name, sizeof name);
    }
    for (size_t k = 0; k < r->count && t->name[0] && taken; k++) {
        if (k == i || strcmp(r->topic[k].name, t->name) != 0)
            continue;
        lt_verify_say(&r->say, "topic id %u: that is taken, too: left out", t->id);
        t->name[0] = '\0';
    }
}

static int rebuild_note_topics(struct rebuild *r, struct lt_manifest *m, int *topics) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->count; i++) {
        const struct rebuild_topic *t = &r->topic[i];
        leat_topic_options o = { .partitions = (int32_t)t->partitions };
        rebuild_saw_id(r, t->id);
        rebuild_name(r, i);
        if (!t->name[0]) {
            lt_verify_say(&r->say, "topic id %u: no segment can be read that names it: left out",
                          t->id);
            continue;
        }
        rc = lt_topic_check_options(&o, &o);
        if (rc == 0)
            rc = lt_topic_write_note(m, t->id, t->name, &o, false);
        lt_verify_say(&r->say, "topic %s, id %u: %u partitions that had a record, default settings",
                      t->name, t->id, t->partitions);
        ++*topics;
    }
    return rc;
}

static int rebuild_note_limits(struct rebuild *r, struct lt_manifest *m) {
    uint8_t body[12];
    uint64_t uid;
    if (r->id > UINT32_MAX - 2 * REBUILD_IDS || !lt_add_u64(r->uid, REBUILD_UIDS, &uid))
        return lt_fail(LEAT_EFULL, "%s: ids are used up to %u, uids up to %llu", r->mq->dir, r->id,
                       (unsigned long long)r->uid);
    lt_put_u32(body, r->id + REBUILD_IDS);
    lt_put_u64(body + 4, uid);
    return lt_manifest_note(m, LT_NOTE_LIMITS, 0, body, sizeof body);
}

// Finds a name that is not taken.
static int rebuild_old_name(struct rebuild *r, char out[64]) {
    struct lt_os *os = r->mq->os;
    (void)snprintf(out, 64, "manifest.lost");
    for (unsigned n = 2;; n++) {
        int fd = os->open(os, r->mq->dir_fd, out, O_RDONLY, 0);
        if (fd == -ENOENT)
            return 0;
        if (fd < 0)
            return lt_fail_os(fd, "looking for %s/%s", r->mq->dir, out);
        (void)os->close(os, fd);
        (void)snprintf(out, 64, "manifest.lost%u", n);
    }
}

static int rebuild_swap(struct rebuild *r) {
    struct lt_os *os = r->mq->os;
    char old[64];
    int rc = rebuild_old_name(r, old);
    if (rc != 0)
        return rc;
    int kept = os->rename(os, r->mq->dir_fd, "manifest", old);
    if (kept < 0 && kept != -ENOENT)
        return lt_fail_os(kept, "renaming %s/manifest", r->mq->dir);
    if (kept == 0)
        lt_verify_say(&r->say, "the old manifest is kept as %s", old);
    rc = os->rename(os, r->mq->dir_fd, "manifest.new", "manifest");
    if (rc < 0 && kept == 0)
        (void)os->rename(os, r->mq->dir_fd, old, "manifest");
    if (rc == 0)
        rc = os->sync(os, r->mq->dir_fd, true);
    return rc == 0 ? 0 : lt_fail_os(rc, "renaming %s/manifest.new", r->mq->dir);
}

static int rebuild_make(struct rebuild *r, int *topics) {
    struct lt_manifest m;
    int rc = lt_manifest_begin(&m, r->mq);
    if (rc != 0)
        return rc;
    rc = rebuild_note_topics(r, &m, topics);
    if (rc == 0)
        rc = rebuild_note_limits(r, &m);
    if (rc == 0)
        rc = lt_manifest_make_new(&m, r->generation + 1);
    lt_manifest_close(&m);
    return rc == 0 ? rebuild_swap(r) : rc;
}

// ---- all of it

static int rebuild_all(struct rebuild *r, int *topics) {
    int64_t tail;
    int rc = lt_view_log(r->view, &tail);
    if (rc == 0)
        return lt_fail(LEAT_EEXIST, "%s/manifest is sound", r->mq->dir);
    if (rc != LEAT_ECORRUPT && rc != LEAT_ENOENT)
        return rc;
    rc = rebuild_find(r);
    return rc == 0 ? rebuild_make(r, topics) : rc;
}

static void rebuild_free(leat *mq) {
    lt_dir_close(mq);
    lt_store_core_free(mq);
}

int lt_rebuild_store(const char *dir, const leat_options *o, struct lt_os *os, leat_write_fn write,
                     void *ctx) {
    leat *mq;
    int topics = 0;
    if (o && (o->flags & LEAT_READ_ONLY))
        return lt_fail(LEAT_EINVAL, "rebuild: LEAT_READ_ONLY");
    int rc = lt_store_core(o, LEAT_MUST_EXIST, os, &mq);
    if (rc != 0)
        return rc;
    struct rebuild r = { .mq = mq, .say = { .mq = mq, .write = write, .ctx = ctx } };
    rc = lt_dir_take(mq, dir);
    if (rc == 0)
        rc = lt_view_begin(dir, o, os, &r.view);
    if (rc == 0)
        rc = rebuild_all(&r, &topics);
    if (r.view)
        lt_view_end(r.view);
    lt_free(&mq->mem, r.topic);
    lt_free(&mq->mem, r.lost);
    rebuild_free(mq);
    return rc != 0 ? rc : topics;
}

int leat_rebuild_manifest(const char *dir, const leat_options *o, leat_write_fn write, void *ctx) {
    if (!dir || !*dir)
        return lt_fail(LEAT_EINVAL, "rebuild: the directory is NULL or empty");
    if (lt_in_callback())
        return lt_fail(LEAT_EDEADLK, "not allowed inside a callback");
    return lt_rebuild_store(dir, o, lt_os_system(), write, ctx);
}
