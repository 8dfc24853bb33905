/* SPDX-License-Identifier: MIT */
#include "log/manifest.h"

#include "base/bytes.h"
#include "log/topic.h"

#include <fcntl.h>
#include <string.h>

enum {
    MANIFEST_SIZE_MAX = 1 << 30,
    MANIFEST_SNAPSHOT_OVER = 64 * 1024, // no snapshot of a file that is not longer ...
    MANIFEST_SNAPSHOT_TIMES = 4,        // ... or less than so many times what lives
    MANIFEST_IDS = 64,                  // ids and uids reserved at a time
    MANIFEST_UIDS = 1024
};

struct manifest_key {
    uint32_t kind, id;
};

static int manifest_sync_locked(struct lt_manifest *m);

// ---- the table of what exists, and the file

static int manifest_write(struct lt_manifest *m, struct lt_note *note) {
    if (m->fd < 0)
        return 0;
    struct lt_os *os = m->mq->os;
    size_t n = lt_note_length(note);
    int rc = 0;
    if (m->end + (int64_t)n - m->synced > LT_NOTES_TAIL_MAX) // or a tail would look like damage
        rc = manifest_sync_locked(m);
    if (rc != 0)
        return rc;
    uint8_t *bytes = lt_alloc(&m->mq->mem, n);
    if (!bytes)
        return lt_fail_nomem();
    note->synced = (uint64_t)m->synced;
    (void)lt_note_encode(bytes, (size_t)m->end, note);
    rc = lt_pwrite_full(os, m->fd, bytes, n, m->end);
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
    if (!note)
        return;
    m->living -= note->body ? (int64_t)lt_note_length(note) : 0;
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
static int manifest_set(struct lt_manifest *m, struct lt_note *said, bool write) {
    struct manifest_key key = { said->kind, said->id };
    if (!said->body) {
        int rc = write ? manifest_write(m, said) : 0;
        if (rc == 0)
            manifest_forget(m, &key);
        return rc;
    }
    bool fresh;
    struct lt_note *note = manifest_entry(m, &key, &fresh);
    uint8_t *copy = note ? lt_alloc(&m->mq->mem, said->size) : NULL;
    int rc = copy ? 0 : lt_fail_nomem();
    if (rc == 0)
        rc = write ? manifest_write(m, said) : 0;
    if (rc == 0) {
        m->living += (int64_t)lt_note_length(said);
        m->living -= note->body ? (int64_t)lt_note_length(note) : 0;
        memcpy(copy, said->body, said->size);
        lt_free(&m->mq->mem, note->body);
        note->body = copy;
        note->size = said->size;
        return 0;
    }
    lt_free(&m->mq->mem, copy);
    if (note && fresh)
        manifest_forget(m, &key);
    return rc;
}

static void manifest_take_limits(struct lt_manifest *m, const struct lt_note *note) {
    if (note->size < 12)
        return;
    m->next_id = m->id_limit = lt_get_u32(note->body);
    m->next_uid = m->uid_limit = lt_get_u64(note->body + 4);
}

// ---- opening

static int manifest_damage(const struct lt_manifest *m) {
    return lt_fail(LEAT_ECORRUPT, "%s/manifest is damaged at byte %lld", m->mq->dir,
                   (long long)m->end);
}

static int manifest_load_notes(struct lt_manifest *m, const uint8_t *all, size_t size) {
    struct lt_notes_head head;
    int rc = lt_notes_head_decode(all, &head);
    if (rc == LEAT_EINVAL)
        return lt_fail(rc, "%s/manifest has format version %u, this library writes %d", m->mq->dir,
                       (unsigned)head.version, LT_NOTES_VERSION);
    if (rc != 0)
        return lt_fail(rc, "%s/manifest is no manifest", m->mq->dir);
    m->generation = head.generation;
    m->synced = (int64_t)head.born;
    size_t at = LT_NOTES_HEAD, n;
    struct lt_note note;
    while ((n = lt_note_decode(all, size, at, &note)) > 0) {
        rc = manifest_set(m, &note, false);
        if (rc != 0)
            return rc;
        if (note.kind == LT_NOTE_LIMITS && note.body)
            manifest_take_limits(m, &note);
        m->synced = lt_max(m->synced, (int64_t)note.synced);
        at += n;
    }
    m->end = (int64_t)at;
    if (m->synced > m->end || head.born > (uint64_t)INT64_MAX || lt_notes_damaged(all, size, at))
        return manifest_damage(m);
    if (m->uid_limit == 0)
        return lt_fail(LEAT_ECORRUPT, "%s/manifest has lost its first note", m->mq->dir);
    return 0;
}

static int manifest_read(struct lt_manifest *m) {
    struct lt_os *os = m->mq->os;
    struct lt_file_info info;
    int rc = os->info(os, m->fd, &info);
    if (rc < 0)
        return lt_fail_os(rc, "%s/manifest", m->mq->dir);
    if (info.kind != LT_FILE_REGULAR || info.size < LT_NOTES_HEAD || info.size > MANIFEST_SIZE_MAX)
        return lt_fail(LEAT_ECORRUPT, "%s/manifest is no manifest: %lld bytes", m->mq->dir,
                       (long long)info.size);
    m->found_size = (size_t)info.size;
    m->found = lt_alloc(&m->mq->mem, m->found_size);
    if (!m->found)
        return lt_fail_nomem();
    int64_t got = lt_pread_full(os, m->fd, m->found, m->found_size, 0);
    if (got < 0)
        return lt_fail_os(got, "reading %s/manifest", m->mq->dir);
    if ((size_t)got != m->found_size)
        return lt_fail(LEAT_ECORRUPT, "%s/manifest is no manifest", m->mq->dir);
    return manifest_load_notes(m, m->found, m->found_size);
}

// Writes down in the slot what is known to be on disk. That costs evidence where it fails, nothing
// else.
static void manifest_note_synced(struct lt_manifest *m) {
    struct lt_slots *slots = &m->mq->log->slots;
    const struct lt_slot_key key = { LT_SLOT_MANIFEST, 0, 0, 0 };
    const int64_t values[4] = { (int64_t)m->generation, m->synced };
    if (!m->slot && lt_slot_take(slots, &key, &m->slot) != 0)
        return;
    if (memcmp(m->slot->values, values, sizeof values) != 0)
        (void)lt_slot_store(slots, m->slot, values);
}

// Cuts the tail, and writes what may be in the page cache only, after a failed sync too, again.
// Synced at every open: one before may have cut a tail, failed in its sync and left no trace of it
// but on the disk, where it would stand behind what comes next.
static int manifest_mend(struct lt_manifest *m) {
    struct lt_os *os = m->mq->os;
    int64_t tail = (int64_t)m->found_size - m->end;
    int rc = 0;
    if (m->synced < m->end)
        rc = lt_pwrite_full(os, m->fd, m->found + m->synced, (size_t)(m->end - m->synced),
                            m->synced);
    if (rc == 0 && tail > 0) {
        lt_say(m->mq, LEAT_LOG_WARNING, "%s/manifest: cut an unfinished tail of %lld bytes",
               m->mq->dir, (long long)tail);
        rc = os->truncate(os, m->fd, m->end);
    }
    if (rc == 0)
        rc = os->sync(os, m->fd, false);
    return rc == 0 ? 0 : lt_fail_os(rc, "mending %s/manifest", m->mq->dir);
}

int lt_manifest_settle(struct lt_manifest *m) {
    if (m->fd < 0)
        return 0;
    const struct lt_slot_key key = { LT_SLOT_MANIFEST, 0, 0, 0 };
    m->slot = lt_slot_find(&m->mq->log->slots, &key);
    if (m->slot && m->slot->values[0] == (int64_t)m->generation)
        m->synced = lt_max(m->synced, m->slot->values[1]);
    if (m->synced > m->end)
        return manifest_damage(m);
    int rc = lt_read_only(m->mq) ? 0 : manifest_mend(m);
    lt_free(&m->mq->mem, m->found);
    m->found = NULL;
    m->synced = rc == 0 ? m->end : m->synced; // written down with the next sync
    return rc;
}

bool lt_manifest_used(const struct lt_manifest *m) {
    return lt_map_count(&m->notes) > 1; // than the limits
}

// ---- making it

// The living notes as a file. Returns NULL without memory. Owns  the caller.
static uint8_t *manifest_image(struct lt_manifest *m, uint64_t generation) {
    uint8_t *all = lt_alloc(&m->mq->mem, (size_t)m->living);
    if (!all)
        return NULL;
    struct lt_notes_head head = { .generation = generation, .born = (uint64_t)m->living };
    struct lt_map_cursor next = { 0 };
    const struct lt_note *living;
    size_t at = LT_NOTES_HEAD;
    lt_notes_head_encode(all, &head);
    while ((living = lt_manifest_next(m, &next))) {
        struct lt_note note = *living;
        note.synced = 0; // `born` says it
        at += lt_note_encode(all + at, at, &note);
    }
    return all;
}

// Makes manifest.new, whole and on disk. Returns its descriptor or an error.
static int manifest_make_new(struct lt_manifest *m, uint64_t generation) {
    struct lt_os *os = m->mq->os;
    uint8_t *all = manifest_image(m, generation);
    if (!all)
        return lt_fail_nomem();
    int fd = os->open(os, m->mq->dir_fd, "manifest.new", O_RDWR | O_CREAT | O_TRUNC, 0600);
    int rc = fd < 0 ? fd : lt_pwrite_full(os, fd, all, (size_t)m->living, 0);
    if (rc == 0)
        rc = os->sync(os, fd, false);
    lt_free(&m->mq->mem, all);
    if (rc == 0)
        return fd;
    if (fd >= 0)
        (void)os->close(os, fd);
    return lt_fail_os(rc, "creating %s/manifest.new", m->mq->dir);
}

// Made under another name and renamed: a manifest that has its name is whole.
static int manifest_create(struct lt_manifest *m) {
    leat *mq = m->mq;
    struct lt_os *os = mq->os;
    uint8_t body[12];
    lt_put_u32(body, 1);
    lt_put_u64(body + 4, 1);
    struct lt_note limits = { .kind = LT_NOTE_LIMITS, .body = body, .size = sizeof body };
    int rc = manifest_set(m, &limits, false);
    if (rc == 0)
        rc = manifest_make_new(m, 1);
    if (rc < 0)
        return rc;
    m->fd = rc;
    rc = os->rename(os, mq->dir_fd, "manifest.new", "manifest");
    if (rc == 0)
        rc = os->sync(os, mq->dir_fd, true);
    return rc == 0 ? 0 : lt_fail_os(rc, "creating %s/manifest", mq->dir);
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

int lt_manifest_begin(struct lt_manifest *m, leat *mq) {
    *m = (struct lt_manifest){ .mq = mq,
                               .fd = -1,
                               .living = LT_NOTES_HEAD,
                               .snapshot_over = MANIFEST_SNAPSHOT_OVER,
                               .next_id = 1,
                               .next_uid = 1 };
    int rc = lt_mutex_init(&m->lock, LT_RANK_MANIFEST);
    if (rc != 0) {
        m->mq = NULL;
        return rc;
    }
    lt_map_init(&m->notes, &mq->mem, 0);
    return 0;
}

int lt_manifest_make_new(struct lt_manifest *m, uint64_t generation) {
    int fd = manifest_make_new(m, generation);
    if (fd < 0)
        return fd;
    (void)m->mq->os->close(m->mq->os, fd);
    return 0;
}

int lt_manifest_open(struct lt_manifest *m, leat *mq, bool create) {
    int rc = lt_manifest_begin(m, mq);
    if (rc != 0)
        return rc;
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
    lt_free(&m->mq->mem, m->found);
    if (m->fd >= 0)
        (void)m->mq->os->close(m->mq->os, m->fd);
    lt_mutex_fini(&m->lock);
    m->mq = NULL;
}

// ---- notes

// After a rename that failed: whether the name is still that of the file in use.
static bool manifest_has_name(struct lt_manifest *m) {
    struct lt_os *os = m->mq->os;
    uint8_t bytes[LT_NOTES_HEAD];
    struct lt_notes_head head;
    int fd = os->open(os, m->mq->dir_fd, "manifest", O_RDONLY, 0);
    if (fd < 0)
        return false;
    int64_t got = lt_pread_full(os, fd, bytes, sizeof bytes, 0);
    (void)os->close(os, fd);
    return got == LT_NOTES_HEAD && lt_notes_head_decode(bytes, &head) == 0 &&
           head.generation == m->generation;
}

// Gives the name to manifest.new. *lost: nobody knows which file has it after a crash.
static int manifest_swap(struct lt_manifest *m, bool *lost) {
    struct lt_os *os = m->mq->os;
    int rc = os->rename(os, m->mq->dir_fd, "manifest.new", "manifest");
    if (rc < 0) {
        *lost = !manifest_has_name(m);
    } else {
        rc = os->sync(os, m->mq->dir_fd, true);
        *lost = rc < 0;
    }
    return rc == 0 ? 0 : lt_fail_os(rc, "renaming %s/manifest.new", m->mq->dir);
}

static void manifest_use(struct lt_manifest *m, int fd) {
    (void)m->mq->os->close(m->mq->os, m->fd);
    m->fd = fd;
    m->end = m->synced = m->living;
    m->owed = false;
    m->generation++;
    m->snapshot_next = 0;
    manifest_note_synced(m);
}

// Writes the living notes anew if the file has grown too long. Returns an error only if it poisons.
static int manifest_snapshot(struct lt_manifest *m) {
    struct lt_os *os = m->mq->os;
    if (m->fd < 0 || m->end <= m->snapshot_over || m->end < m->snapshot_next ||
        m->end <= MANIFEST_SNAPSHOT_TIMES * m->living)
        return 0;
    bool lost = false;
    int fd = manifest_make_new(m, m->generation + 1);
    int rc = fd < 0 ? fd : manifest_swap(m, &lost);
    if (rc == 0) {
        manifest_use(m, fd);
        return 0;
    }
    if (fd >= 0)
        (void)os->close(os, fd);
    if (lost) {
        m->poisoned = m->owed = true;
        return rc;
    }
    lt_say(m->mq, LEAT_LOG_WARNING, "%s/manifest: no snapshot: %s", m->mq->dir, leat_errmsg());
    (void)os->unlink(os, m->mq->dir_fd, "manifest.new", false);
    m->snapshot_next = 2 * m->end; // not again with every note
    return 0;
}

static int manifest_note_locked(struct lt_manifest *m, struct lt_note *note) {
    if (m->poisoned)
        return lt_fail(LEAT_EPOISONED, "%s/manifest: an earlier write was lost", m->mq->dir);
    int rc = manifest_snapshot(m);
    return rc == 0 ? manifest_set(m, note, true) : rc;
}

int lt_manifest_note(struct lt_manifest *m, uint32_t kind, uint32_t id, const void *body,
                     size_t size) {
    struct lt_note note = {
        .kind = kind, .id = id, .body = (uint8_t *)(uintptr_t)body, .size = size
    };
    lt_lock(&m->lock);
    int rc = manifest_note_locked(m, &note);
    lt_unlock(&m->lock);
    if (rc == 0)
        lt_log_changed(m->mq);
    return rc;
}

static int manifest_sync_locked(struct lt_manifest *m) {
    if (m->fd < 0)
        return 0;
    if (m->poisoned && m->owed)
        return lt_fail(LEAT_EPOISONED, "%s/manifest: an earlier write was lost", m->mq->dir);
    int rc = m->owed ? m->mq->os->sync(m->mq->os, m->fd, false) : 0;
    if (rc < 0) {
        m->poisoned = true;
        return lt_fail_os(rc, "syncing %s/manifest", m->mq->dir);
    }
    m->owed = false;
    m->synced = m->end;
    manifest_note_synced(m);
    return 0;
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

void lt_manifest_poison(struct lt_manifest *m) {
    atomic_store_explicit(&m->poisoned, true, memory_order_relaxed);
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
    struct lt_note limits = { .kind = LT_NOTE_LIMITS, .body = body, .size = sizeof body };
    int rc = manifest_note_locked(m, &limits);
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
