/* SPDX-License-Identifier: MIT */
#include "log/manifest.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <fcntl.h>
#include <string.h>

enum {
    MANIFEST_VERSION = 0, // as LT_FORMAT_VERSION: no promise yet
    MANIFEST_HEAD = 16,
    MANIFEST_NOTE_HEAD = 16,
    MANIFEST_BODY_MAX = 64 * 1024,
    MANIFEST_SIZE_MAX = 1 << 30,
    MANIFEST_IDS = 64, // ids and uids reserved at a time
    MANIFEST_UIDS = 1024
};
#define MANIFEST_GONE UINT32_MAX

static const char manifest_magic[8] = { 'l', 'e', 'a', 't', 'm', 'a', 'n', '\n' };

struct manifest_key {
    uint32_t kind, id;
};

// ---- bytes

static size_t manifest_encode(uint8_t *out, const struct manifest_key *key, const void *body,
                              size_t size) {
    size_t n = MANIFEST_NOTE_HEAD + (size_t)lt_align8(size);
    memset(out, 0, n);
    lt_put_u32(out, body ? (uint32_t)size : MANIFEST_GONE);
    lt_put_u32(out + 8, key->kind);
    lt_put_u32(out + 12, key->id);
    if (size > 0)
        memcpy(out + MANIFEST_NOTE_HEAD, body, size);
    uint32_t crc = lt_crc32c(0, out, 4);
    lt_put_u32(out + 4, lt_crc32c(crc, out + 8, n - 8));
    return n;
}

// Reads the note at `at`. Returns its length in the file, or 0 if there is no valid one.
static size_t manifest_decode(const uint8_t *at, size_t room, struct lt_note *note) {
    if (room < MANIFEST_NOTE_HEAD)
        return 0;
    uint32_t size = lt_get_u32(at);
    bool gone = size == MANIFEST_GONE;
    if (!gone && size > MANIFEST_BODY_MAX)
        return 0;
    size_t n = MANIFEST_NOTE_HEAD + (gone ? 0 : (size_t)lt_align8(size));
    if (n > room)
        return 0;
    uint32_t crc = lt_crc32c(0, at, 4);
    if (lt_get_u32(at + 4) != lt_crc32c(crc, at + 8, n - 8) || lt_get_u32(at + 8) == 0)
        return 0;
    note->kind = lt_get_u32(at + 8);
    note->id = lt_get_u32(at + 12);
    note->body = gone ? NULL : (uint8_t *)(uintptr_t)(at + MANIFEST_NOTE_HEAD);
    note->size = gone ? 0 : size;
    return n;
}

// ---- the table of what exists, and the file

static int manifest_write(struct lt_manifest *m, const struct manifest_key *key, const void *body,
                          size_t size) {
    if (m->fd < 0)
        return 0;
    struct lt_os *os = m->mq->os;
    uint8_t *bytes = lt_alloc(&m->mq->mem, MANIFEST_NOTE_HEAD + size + 8);
    if (!bytes)
        return lt_fail_nomem();
    size_t n = manifest_encode(bytes, key, body, size);
    int rc = lt_pwrite_full(os, m->fd, bytes, n, m->end);
    lt_free(&m->mq->mem, bytes);
    if (rc < 0) {
        // A half-written note is cut, or a later, shorter one would leave its end standing.
        if (os->truncate(os, m->fd, m->end) != 0)
            m->poisoned = true;
        return lt_fail_os(rc, "writing %s/manifest", m->mq->dir);
    }
    m->end += (int64_t)n;
    m->owed = true;
    return 0;
}

static void manifest_forget(struct lt_manifest *m, const struct manifest_key *key) {
    struct lt_note *note = lt_map_remove(&m->notes, key, sizeof *key);
    if (note)
        lt_free(&m->mq->mem, note->body);
    lt_free(&m->mq->mem, note);
}

// Finds or makes the entry of a thing. *fresh: it was made.
static struct lt_note *manifest_entry(struct lt_manifest *m, const struct manifest_key *key,
                                      bool *fresh) {
    struct lt_note *note = lt_map_get(&m->notes, key, sizeof *key);
    *fresh = !note;
    if (note)
        return note;
    note = lt_zalloc(&m->mq->mem, sizeof *note);
    if (!note)
        return NULL;
    note->kind = key->kind;
    note->id = key->id;
    if (lt_map_put(&m->notes, key, sizeof *key, note) == 0)
        return note;
    lt_free(&m->mq->mem, note);
    return NULL;
}

// Makes the table, and with `write` the file, say what the note says; or changes nothing.
static int manifest_set(struct lt_manifest *m, const struct manifest_key *key, const void *body,
                        size_t size, bool write) {
    if (!body) {
        int rc = write ? manifest_write(m, key, NULL, 0) : 0;
        if (rc == 0)
            manifest_forget(m, key);
        return rc;
    }
    bool fresh;
    struct lt_note *note = manifest_entry(m, key, &fresh);
    uint8_t *copy = note ? lt_alloc(&m->mq->mem, size) : NULL;
    int rc = copy ? 0 : lt_fail_nomem();
    if (rc == 0)
        rc = write ? manifest_write(m, key, body, size) : 0;
    if (rc == 0) {
        memcpy(copy, body, size);
        lt_free(&m->mq->mem, note->body);
        note->body = copy;
        note->size = size;
        return 0;
    }
    lt_free(&m->mq->mem, copy);
    if (note && fresh)
        manifest_forget(m, key);
    return rc;
}

static void manifest_take_limits(struct lt_manifest *m, const struct lt_note *note) {
    if (note->size < 12)
        return;
    m->next_id = m->id_limit = lt_get_u32(note->body);
    m->next_uid = m->uid_limit = lt_get_u64(note->body + 4);
}

// ---- opening

static int manifest_load_notes(struct lt_manifest *m, const uint8_t *all, size_t size) {
    size_t at = MANIFEST_HEAD;
    for (;;) {
        struct lt_note note;
        size_t n = manifest_decode(all + at, size - at, &note);
        if (n == 0)
            break;
        struct manifest_key key = { note.kind, note.id };
        int rc = manifest_set(m, &key, note.body, note.size, false);
        if (rc != 0)
            return rc;
        if (note.kind == LT_NOTE_LIMITS && note.body)
            manifest_take_limits(m, &note);
        at += n;
    }
    m->end = (int64_t)at;
    // An unfinished last note is cut, and zeros. A bad note with a good one behind it is damage; so
    // is more than a note can be: it is no note, and looking all through it could take for ever.
    size_t end = size;
    while (end > at && all[end - 1] == 0)
        end--;
    bool damage = end - at > MANIFEST_NOTE_HEAD + MANIFEST_BODY_MAX;
    for (size_t look = at + 8; look < end && !damage; look += 8) {
        struct lt_note note;
        damage = manifest_decode(all + look, size - look, &note) > 0;
    }
    if (damage)
        return lt_fail(LEAT_ECORRUPT, "%s/manifest is damaged at byte %zu", m->mq->dir, at);
    return 0;
}

static int manifest_cut_tail(struct lt_manifest *m, size_t size) {
    if ((size_t)m->end == size)
        return 0;
    struct lt_os *os = m->mq->os;
    lt_say(m->mq, LEAT_LOG_WARNING, "%s/manifest: cut an unfinished note of %zu bytes", m->mq->dir,
           size - (size_t)m->end);
    int rc = os->truncate(os, m->fd, m->end);
    if (rc == 0)
        rc = os->sync(os, m->fd, false);
    return rc == 0 ? 0 : lt_fail_os(rc, "cutting %s/manifest", m->mq->dir);
}

static int manifest_read(struct lt_manifest *m) {
    struct lt_os *os = m->mq->os;
    struct lt_file_info info;
    int rc = os->info(os, m->fd, &info);
    if (rc < 0)
        return lt_fail_os(rc, "%s/manifest", m->mq->dir);
    if (info.kind != LT_FILE_REGULAR || info.size < MANIFEST_HEAD || info.size > MANIFEST_SIZE_MAX)
        return lt_fail(LEAT_ECORRUPT, "%s/manifest is no manifest: %lld bytes", m->mq->dir,
                       (long long)info.size);
    size_t size = (size_t)info.size;
    uint8_t *all = lt_alloc(&m->mq->mem, size);
    if (!all)
        return lt_fail_nomem();
    int64_t got = lt_pread_full(os, m->fd, all, size, 0);
    if (got < 0)
        rc = lt_fail_os(got, "reading %s/manifest", m->mq->dir);
    else if ((size_t)got != size || memcmp(all, manifest_magic, sizeof manifest_magic) != 0)
        rc = lt_fail(LEAT_ECORRUPT, "%s/manifest is no manifest", m->mq->dir);
    else if (lt_get_u32(all + 8) != MANIFEST_VERSION)
        rc = lt_fail(LEAT_EINVAL, "%s/manifest has format version %u, this library writes %d",
                     m->mq->dir, (unsigned)lt_get_u32(all + 8), MANIFEST_VERSION);
    else
        rc = manifest_load_notes(m, all, size);
    lt_free(&m->mq->mem, all);
    if (rc == 0 && m->uid_limit == 0)
        rc = lt_fail(LEAT_ECORRUPT, "%s/manifest has lost its first note", m->mq->dir);
    m->owed = true; // by a process that may have died before it synced its last notes
    return rc == 0 ? manifest_cut_tail(m, size) : rc;
}

// Made under another name and renamed: a manifest that has its name is whole.
static int manifest_create(struct lt_manifest *m) {
    leat *mq = m->mq;
    struct lt_os *os = mq->os;
    uint8_t bytes[MANIFEST_HEAD + MANIFEST_NOTE_HEAD + 16] = { 0 }, body[12];
    memcpy(bytes, manifest_magic, sizeof manifest_magic);
    lt_put_u32(bytes + 8, MANIFEST_VERSION);
    lt_put_u32(body, 1);
    lt_put_u64(body + 4, 1);
    struct manifest_key key = { LT_NOTE_LIMITS, 0 };
    size_t n = MANIFEST_HEAD + manifest_encode(bytes + MANIFEST_HEAD, &key, body, sizeof body);
    int fd = os->open(os, mq->dir_fd, "manifest.new", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return lt_fail_os(fd, "creating %s/manifest.new", mq->dir);
    m->fd = fd;
    int rc = lt_pwrite_full(os, fd, bytes, n, 0);
    if (rc == 0)
        rc = os->sync(os, fd, false);
    if (rc == 0)
        rc = os->rename(os, mq->dir_fd, "manifest.new", "manifest");
    if (rc == 0)
        rc = os->sync(os, mq->dir_fd, true);
    if (rc < 0)
        return lt_fail_os(rc, "creating %s/manifest", mq->dir);
    return 0;
}

static int manifest_open_file(struct lt_manifest *m, bool create) {
    leat *mq = m->mq;
    if (create) {
        int rc = manifest_create(m);
        return rc != 0 ? rc : manifest_read(m);
    }
    int fd = mq->os->open(mq->os, mq->dir_fd, "manifest", O_RDWR, 0);
    if (fd < 0)
        return lt_fail_os(fd, "opening %s/manifest", mq->dir);
    m->fd = fd;
    return manifest_read(m);
}

int lt_manifest_open(struct lt_manifest *m, leat *mq, bool create) {
    *m = (struct lt_manifest){ .mq = mq, .fd = -1, .next_id = 1, .next_uid = 1 };
    int rc = lt_mutex_init(&m->lock, LT_RANK_MANIFEST);
    if (rc != 0) {
        m->mq = NULL;
        return rc;
    }
    lt_map_init(&m->notes, &mq->mem, 0);
    if (mq->dir)
        rc = manifest_open_file(m, create);
    else
        m->id_limit = UINT32_MAX, m->uid_limit = UINT64_MAX;
    if (rc != 0)
        lt_manifest_close(m);
    return rc;
}

void lt_manifest_close(struct lt_manifest *m) {
    if (!m->mq)
        return;
    struct lt_map_cursor at = { 0 };
    const void *key;
    size_t key_size;
    void *note;
    while (lt_map_next(&m->notes, &at, &key, &key_size, &note)) {
        lt_free(&m->mq->mem, ((struct lt_note *)note)->body);
        lt_free(&m->mq->mem, note);
    }
    lt_map_fini(&m->notes);
    if (m->fd >= 0)
        (void)m->mq->os->close(m->mq->os, m->fd);
    lt_mutex_fini(&m->lock);
    m->mq = NULL;
}

// ---- notes

static int manifest_note_locked(struct lt_manifest *m, const struct manifest_key *key,
                                const void *body, size_t size) {
    if (m->poisoned)
        return lt_fail(LEAT_EPOISONED, "%s/manifest: an earlier write was lost", m->mq->dir);
    return manifest_set(m, key, body, size, true);
}

int lt_manifest_note(struct lt_manifest *m, uint32_t kind, uint32_t id, const void *body,
                     size_t size) {
    struct manifest_key key = { kind, id };
    lt_lock(&m->lock);
    int rc = manifest_note_locked(m, &key, body, size);
    lt_unlock(&m->lock);
    return rc;
}

static int manifest_sync_locked(struct lt_manifest *m) {
    if (m->fd < 0 || !m->owed)
        return 0;
    if (m->poisoned)
        return lt_fail(LEAT_EPOISONED, "%s/manifest: an earlier write was lost", m->mq->dir);
    int rc = m->mq->os->sync(m->mq->os, m->fd, false);
    m->poisoned = rc < 0;
    m->owed = rc < 0;
    return rc == 0 ? 0 : lt_fail_os(rc, "syncing %s/manifest", m->mq->dir);
}

int lt_manifest_sync(struct lt_manifest *m) {
    lt_lock(&m->lock);
    int rc = manifest_sync_locked(m);
    lt_unlock(&m->lock);
    return rc;
}

static int manifest_sync_dir_locked(struct lt_manifest *m, const char *path) {
    struct lt_os *os = m->mq->os;
    if (m->poisoned)
        return lt_fail(LEAT_EPOISONED, "%s/manifest: an earlier write was lost", m->mq->dir);
    int fd = os->open(os, m->mq->dir_fd, path, O_RDONLY | O_DIRECTORY, 0);
    int rc = fd;
    if (fd >= 0) {
        rc = os->sync(os, fd, true);
        if (rc < 0) {
            m->poisoned = true;
            m->owed = true;
        }
        (void)os->close(os, fd);
    }
    return rc == 0 ? 0 : lt_fail_os(rc, "syncing directory %s/%s", m->mq->dir, path);
}

int lt_manifest_sync_dir(struct lt_manifest *m, const char *path) {
    lt_lock(&m->lock);
    int rc = manifest_sync_dir_locked(m, path);
    lt_unlock(&m->lock);
    return rc;
}

bool lt_manifest_poisoned(const struct lt_manifest *m) {
    return atomic_load_explicit(&m->poisoned, memory_order_relaxed);
}

const struct lt_note *lt_manifest_next(struct lt_manifest *m, struct lt_map_cursor *at) {
    const void *key;
    size_t key_size;
    void *note;
    return lt_map_next(&m->notes, at, &key, &key_size, &note) ? note : NULL;
}

// ---- ids

// Reserves the next blocks of ids and uids and syncs the note, so that no crash can hand out an
// id twice.
static int manifest_reserve_locked(struct lt_manifest *m) {
    uint8_t body[12];
    uint32_t ids = m->next_id + MANIFEST_IDS;
    uint64_t uids = m->next_uid + MANIFEST_UIDS;
    lt_put_u32(body, ids);
    lt_put_u64(body + 4, uids);
    struct manifest_key key = { LT_NOTE_LIMITS, 0 };
    int rc = manifest_note_locked(m, &key, body, sizeof body);
    if (rc == 0)
        rc = manifest_sync_locked(m);
    if (rc == 0) {
        m->id_limit = ids;
        m->uid_limit = uids;
    }
    return rc;
}

int lt_manifest_new_id(struct lt_manifest *m, uint32_t *id) {
    lt_lock(&m->lock);
    int rc = m->next_id < m->id_limit ? 0 : manifest_reserve_locked(m);
    if (rc == 0)
        *id = m->next_id++;
    lt_unlock(&m->lock);
    return rc;
}

int lt_manifest_new_uid(struct lt_manifest *m, uint64_t *uid) {
    lt_lock(&m->lock);
    int rc = m->next_uid < m->uid_limit ? 0 : manifest_reserve_locked(m);
    if (rc == 0)
        *uid = m->next_uid++;
    lt_unlock(&m->lock);
    return rc;
}
