/* SPDX-License-Identifier: MIT */
// Slot n stands in the three blocks behind block 3 * (n / 64), at (n % 64) * 64 in each.
#include "log/slots.h"

#include "leat_test.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "log/topic.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum {
    SLOTS_SIZE = 64,
    SLOTS_BLOCK = 4096,
    SLOTS_PER_BLOCK = SLOTS_BLOCK / SLOTS_SIZE,
    SLOTS_GROUP = LT_SLOT_COPIES * SLOTS_BLOCK,
    SLOTS_STEP = 2 * SLOTS_GROUP,       // the file grows by this
    SLOTS_FILE_MAX = 4096 * SLOTS_STEP, // address space kept for it
    SLOTS_MAX = SLOTS_FILE_MAX / LT_SLOT_COPIES / SLOTS_SIZE
};

static uint64_t slots_position(uint32_t number, unsigned copy) {
    return (uint64_t)(number / SLOTS_PER_BLOCK) * SLOTS_GROUP + copy * (uint64_t)SLOTS_BLOCK +
           (uint64_t)(number % SLOTS_PER_BLOCK) * SLOTS_SIZE;
}

static void slots_encode(const struct lt_slot *slot, uint8_t out[SLOTS_SIZE]) {
    memset(out, 0, SLOTS_SIZE);
    lt_put_u32(out + 4, slot->key.kind);
    lt_put_u32(out + 8, slot->key.id);
    lt_put_u32(out + 12, slot->key.topic);
    lt_put_u32(out + 16, slot->key.partition);
    lt_put_u64(out + 24, slot->sequence);
    for (size_t i = 0; i < 4; i++)
        lt_put_u64(out + 32 + 8 * i, (uint64_t)slot->values[i]);
    lt_put_u32(out, lt_crc32c(0, out + 4, SLOTS_SIZE - 4));
}

// Reads one copy, and its content into *slot if it is the newest so far. Returns whether it is
// valid.
static bool slots_decode(const uint8_t *in, struct lt_slot *slot, unsigned copy) {
    uint64_t sequence = lt_get_u64(in + 24);
    if (sequence == 0 || lt_get_u32(in) != lt_crc32c(0, in + 4, SLOTS_SIZE - 4))
        return false;
    slot->copy[copy].sequence = sequence;
    if (sequence <= slot->sequence)
        return true;
    slot->key = (struct lt_slot_key){ lt_get_u32(in + 4), lt_get_u32(in + 8), lt_get_u32(in + 12),
                                      lt_get_u32(in + 16) };
    slot->sequence = sequence;
    for (size_t i = 0; i < 4; i++)
        slot->values[i] = (int64_t)lt_get_u64(in + 32 + 8 * i);
    return true;
}

// ---- opening

// Gets room for the slot of that number, in the file and in the tables. Locks: slots.
static int slots_room(struct lt_slots *s, uint32_t number) {
    if (lt_stretch_reserve(&s->slots, (uint64_t)number + 1) != 0)
        return lt_fail_nomem();
    if (s->free_room < (size_t)number + 1) {
        size_t room = s->free_room ? 2 * s->free_room : 64;
        struct lt_slot **grown = lt_resize(&s->mq->mem, s->free, room * sizeof *grown);
        if (!grown)
            return lt_fail_nomem();
        s->free = grown;
        s->free_room = room;
    }
    uint64_t need = slots_position(number, LT_SLOT_COPIES - 1) + SLOTS_SIZE;
    if (s->fd < 0 || need <= s->allocated)
        return 0;
    struct lt_os *os = s->mq->os;
    int rc = lt_os_room(os, s->fd, (int64_t)s->allocated, SLOTS_STEP, s->mq->mapped_write);
    if (rc < 0)
        return lt_fail_os(rc, "allocating %s/slots", s->mq->dir);
    s->allocated += SLOTS_STEP;
    return 0;
}

static int slots_put_key(struct lt_slots *s, struct lt_slot *slot) {
    return lt_map_put(&s->by_key, &slot->key, sizeof slot->key, slot);
}

static bool slots_is_blank(const uint8_t *in) {
    return in[0] == 0 && memcmp(in, in + 1, SLOTS_SIZE - 1) == 0;
}

// A crash leaves one copy of a slot half written at the most. So a slot that has been stored more
// than once, and of which nothing can be read, is damage: it may be where a log begins.
static int slots_lost(const struct lt_slots *s, uint32_t n) {
    if (!(s->mq->flags & LEAT_SKIP_ROT))
        return lt_fail(LEAT_ECORRUPT,
                       "%s/slots is damaged in all copies of slot %u; LEAT_SKIP_ROT leaves it out",
                       s->mq->dir, n);
    lt_say(s->mq, LEAT_LOG_ERROR, "%s/slots: slot %u is left out", s->mq->dir, n);
    return 0;
}

// Takes up one slot as the file has it. used[c]: block c of its group is in use.
static int slots_load_one(struct lt_slots *s, uint32_t n, bool used[LT_SLOT_COPIES]) {
    int rc = slots_room(s, n);
    if (rc != 0)
        return rc;
    struct lt_slot *slot = lt_stretch_at(&s->slots, n);
    slot->number = n;
    unsigned valid = 0, bad = 0;
    for (unsigned c = 0; c < LT_SLOT_COPIES; c++) {
        const uint8_t *in = s->map + slots_position(n, c);
        bool is = slots_decode(in, slot, c);
        used[c] |= is;
        valid += is;
        bad += !is && !slots_is_blank(in);
    }
    s->count = n + 1;
    // Beside its owner, who stores meanwhile, each copy may be seen half written.
    rc = bad > 1 && valid == 0 && !lt_read_only(s->mq) ? slots_lost(s, n) : 0;
    if (rc != 0)
        return rc;
    rc = slot->key.kind == LT_SLOT_FREE ? LEAT_EEXIST : slots_put_key(s, slot);
    if (rc == LEAT_ENOMEM)
        return lt_fail_nomem();
    if (rc == LEAT_EEXIST) {
        slot->key.kind = LT_SLOT_FREE;
        s->free[s->free_count++] = slot;
    }
    return 0;
}

// After a failed sync the page cache can hold what the disk does not: such a block is made dirty.
static int slots_redirty(struct lt_slots *s, uint64_t at) {
    if (lt_read_only(s->mq))
        return 0;
    if (s->mq->mapped_write) {
        volatile uint8_t *byte = s->map + at;
        *byte = *byte;
        return 0;
    }
    int rc = lt_pwrite_full(s->mq->os, s->fd, s->map + at, SLOTS_BLOCK, (int64_t)at);
    return rc == 0 ? 0 : lt_fail_os(rc, "writing %s/slots", s->mq->dir);
}

// Reads all slots, and syncs them: recovery acts on what it finds in them, and which copies are on
// disk must be known before the first store.
static int slots_load(struct lt_slots *s) {
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < s->allocated; at += SLOTS_GROUP) {
        bool used[LT_SLOT_COPIES] = { false };
        uint32_t first = (uint32_t)(at / SLOTS_GROUP) * SLOTS_PER_BLOCK;
        for (uint32_t n = first; rc == 0 && n < first + SLOTS_PER_BLOCK; n++)
            rc = slots_load_one(s, n, used);
        for (unsigned c = 0; rc == 0 && c < LT_SLOT_COPIES; c++)
            rc = used[c] ? slots_redirty(s, at + c * (uint64_t)SLOTS_BLOCK) : 0;
    }
    return rc == 0 && s->allocated > 0 && !lt_read_only(s->mq) ? lt_slots_sync(s) : rc;
}

// Opens the file. It is made before anything is noted in the manifest, so where that has notes and
// the file is missing somebody took it away.
static int slots_open_fd(struct lt_slots *s) {
    leat *mq = s->mq;
    int fd = mq->os->open(mq->os, mq->dir_fd, "slots", O_RDWR, 0600);
    if (fd == -ENOENT && lt_manifest_used(&mq->log->manifest)) {
        if (!(mq->flags & LEAT_SKIP_ROT))
            return lt_fail(LEAT_ECORRUPT,
                           "%s/slots is missing, with committed offsets and log starts; "
                           "LEAT_SKIP_ROT goes on without them",
                           mq->dir);
        lt_say(mq, LEAT_LOG_ERROR, "%s/slots is missing: committed offsets and log starts are lost",
               mq->dir);
    }
    if (fd == -ENOENT && lt_read_only(mq))
        return 0; // nothing was ever stored in one
    if (fd == -ENOENT)
        fd = mq->os->open(mq->os, mq->dir_fd, "slots", O_RDWR | O_CREAT, 0600);
    if (fd < 0)
        return lt_fail_os(fd, "opening %s/slots", mq->dir);
    s->fd = fd;
    return 0;
}

// Makes the file a whole number of steps long, as every store leaves it: what was cut off reads as
// zeros, and no copy is left standing behind what is read, to come back when the file grows.
static int slots_round_up(struct lt_slots *s, int64_t size) {
    struct lt_os *os = s->mq->os;
    if (size > SLOTS_FILE_MAX)
        size = SLOTS_FILE_MAX;
    bool whole = lt_read_only(s->mq); // which cannot
    s->allocated = ((uint64_t)size + (whole ? 0 : SLOTS_STEP - 1)) / SLOTS_STEP * SLOTS_STEP;
    if (whole)
        return 0;
    int64_t more = (int64_t)s->allocated - size;
    if (more == 0)
        return 0;
    return lt_os_room(os, s->fd, size, more, s->mq->mapped_write);
}

static int slots_open_file(struct lt_slots *s) {
    struct lt_os *os = s->mq->os;
    int rc = slots_open_fd(s);
    if (rc != 0 || s->fd < 0)
        return rc;
    struct lt_file_info info;
    rc = os->info(os, s->fd, &info);
    void *p = NULL;
    if (rc == 0 && info.size == 0 &&
        !lt_read_only(s->mq)) // new: its name is durable before anything rests on a slot
        rc = os->sync(os, s->mq->dir_fd, true);
    if (rc == 0)
        rc = slots_round_up(s, info.size);
    if (rc == 0)
        rc = os->map(os, s->fd, SLOTS_FILE_MAX, s->mq->mapped_write, &p);
    if (rc < 0)
        return lt_fail_os(rc, "mapping %s/slots", s->mq->dir);
    s->map = p;
    return slots_load(s);
}

int lt_slots_open(struct lt_slots *s, leat *mq) {
    *s = (struct lt_slots){ .mq = mq, .fd = -1 };
    int rc = lt_mutex_init(&s->lock, LT_RANK_SLOTS);
    if (rc != 0)
        goto no_lock;
    rc = lt_turns_init(&s->syncs);
    if (rc != 0)
        goto no_turns;
    lt_map_init(&s->by_key, &mq->mem, lt_chance_next(mq));
    lt_stretch_init(&s->slots, &mq->mem, sizeof(struct lt_slot), 64);
    if (mq->dir)
        rc = slots_open_file(s);
    if (rc != 0)
        lt_slots_close(s);
    return rc;
no_turns:
    lt_mutex_fini(&s->lock);
no_lock:
    s->mq = NULL;
    return rc;
}

void lt_slots_close(struct lt_slots *s) {
    if (!s->mq)
        return;
    if (s->map)
        (void)s->mq->os->unmap(s->mq->os, s->map, SLOTS_FILE_MAX);
    if (s->fd >= 0)
        (void)s->mq->os->close(s->mq->os, s->fd);
    lt_map_fini(&s->by_key);
    lt_stretch_fini(&s->slots);
    lt_free(&s->mq->mem, s->free);
    if (!lt_forked(s->mq)) // it would wait for a thread of the parent that waits in it
        lt_turns_fini(&s->syncs);
    lt_mutex_fini(&s->lock);
    s->mq = NULL;
}

// ---- use

struct lt_slot *lt_slot_find(struct lt_slots *s, const struct lt_slot_key *key) {
    lt_lock(&s->lock);
    struct lt_slot *slot = lt_map_get(&s->by_key, key, sizeof *key);
    lt_unlock(&s->lock);
    return slot;
}

int lt_slot_again(struct lt_slots *s, struct lt_slot *slot) {
    struct lt_slot now = { .key = slot->key };
    uint8_t bytes[SLOTS_SIZE];
    for (unsigned c = 0; c < LT_SLOT_COPIES && s->fd >= 0; c++) {
        int64_t got = lt_pread_full(s->mq->os, s->fd, bytes, sizeof bytes,
                                    (int64_t)slots_position(slot->number, c));
        if (got < 0)
            return lt_fail_os(got, "reading %s/slots", s->mq->dir);
        if (got == SLOTS_SIZE)
            (void)slots_decode(bytes, &now, c);
    }
    // One that is another's now, or damaged: what was known of it is as good.
    if (now.sequence > slot->sequence && memcmp(&now.key, &slot->key, sizeof now.key) == 0)
        memcpy(slot->values, now.values, sizeof now.values);
    return 0;
}

// Reads a copy again that is not valid: its owner may have been storing it.
static bool slots_copy_sound(struct lt_slots *s, uint64_t at, struct lt_slot *slot, unsigned c) {
    uint8_t bytes[SLOTS_SIZE];
    memcpy(bytes, s->map + at, sizeof bytes);
    for (int i = 0; i < 8; i++) {
        if (slots_decode(bytes, slot, c))
            return true;
        if (lt_pread_full(s->mq->os, s->fd, bytes, sizeof bytes, (int64_t)at) != SLOTS_SIZE)
            return false;
    }
    return false;
}

void lt_slots_check(struct lt_slots *s, struct lt_slots_check *out) {
    static const uint8_t zeros[SLOTS_SIZE];
    *out = (struct lt_slots_check){ 0 };
    uint32_t count = (uint32_t)(s->allocated / SLOTS_GROUP) * SLOTS_PER_BLOCK;
    for (uint32_t n = 0; n < count; n++) {
        struct lt_slot slot = { .number = n };
        uint64_t unsound = 0;
        for (unsigned c = 0; c < LT_SLOT_COPIES; c++) {
            uint64_t at = slots_position(n, c);
            if (memcmp(s->map + at, zeros, SLOTS_SIZE) != 0)
                unsound += !slots_copy_sound(s, at, &slot, c);
        }
        out->unsound += unsound;
        out->used += slot.sequence > 0 && slot.key.kind != LT_SLOT_FREE;
        out->lost += slot.sequence == 0 && unsound > 0;
    }
}

static int slots_take_locked(struct lt_slots *s, const struct lt_slot_key *key,
                             struct lt_slot **out) {
    *out = lt_map_get(&s->by_key, key, sizeof *key);
    if (*out)
        return 0;
    bool reuse = s->free_count > 0;
    if (!reuse && s->count >= SLOTS_MAX)
        return lt_fail(LEAT_EFULL, "the store is at its limit of %d slots", SLOTS_MAX);
    int rc = reuse ? 0 : slots_room(s, s->count);
    if (rc != 0)
        return rc;
    struct lt_slot *slot = reuse ? s->free[s->free_count - 1] : lt_stretch_at(&s->slots, s->count);
    if (!reuse)
        slot->number = s->count;
    slot->key = *key; // the copies of one that was dropped stand until they are overwritten
    memset(slot->values, 0, sizeof slot->values);
    if (slots_put_key(s, slot) != 0) {
        slot->key.kind = LT_SLOT_FREE;
        return lt_fail_nomem();
    }
    if (reuse)
        s->free_count--;
    else
        s->count++;
    *out = slot;
    return 0;
}

int lt_slot_take(struct lt_slots *s, const struct lt_slot_key *key, struct lt_slot **out) {
    lt_lock(&s->lock);
    int rc = slots_take_locked(s, key, out);
    lt_unlock(&s->lock);
    return rc;
}

// Which copy the next store goes to: the oldest that is neither the newest nor the newest on disk.
static unsigned slots_target(const struct lt_slots *s, const struct lt_slot *slot) {
    uint64_t synced = atomic_load_explicit(&s->done, memory_order_acquire), durable = 0;
    for (unsigned c = 0; c < LT_SLOT_COPIES; c++)
        if (slot->copy[c].epoch <= synced && slot->copy[c].sequence > durable)
            durable = slot->copy[c].sequence;
    unsigned target = LT_SLOT_COPIES;
    for (unsigned c = 0; c < LT_SLOT_COPIES; c++) {
        uint64_t is = slot->copy[c].sequence;
        if (is != 0 && (is == slot->sequence || is == durable))
            continue;
        if (target == LT_SLOT_COPIES || is < slot->copy[target].sequence)
            target = c;
    }
    return target; // there is one: at most two were passed over
}

// The third seam.
int lt_slot_store(struct lt_slots *s, struct lt_slot *slot, const int64_t values[4]) {
    struct lt_slot next = *slot;
    next.sequence++;
    memcpy(next.values, values, sizeof next.values);
    if (s->fd >= 0) {
        uint8_t bytes[SLOTS_SIZE];
        slots_encode(&next, bytes);
        unsigned target = slots_target(s, slot);
        uint64_t at = slots_position(slot->number, target);
        slot->copy[target].sequence = 0; // as long as it is not whole
        if (s->mq->mapped_write) {
            memcpy(s->map + at, bytes, sizeof bytes);
        } else {
            int rc = lt_pwrite_full(s->mq->os, s->fd, bytes, sizeof bytes, (int64_t)at);
            if (rc < 0)
                return lt_fail_os(rc, "writing %s/slots", s->mq->dir);
        }
        slot->copy[target].sequence = next.sequence;
        slot->copy[target].epoch =
            atomic_fetch_add_explicit(&s->begun, 0, memory_order_acq_rel) + 1;
    }
    slot->sequence = next.sequence;
    memcpy(slot->values, values, sizeof slot->values);
    return 0;
}

static void slots_drop_locked(struct lt_slots *s, struct lt_slot *slot) {
    static const int64_t zeros[4];
    (void)lt_map_remove(&s->by_key, &slot->key, sizeof slot->key);
    slot->key = (struct lt_slot_key){ 0 };
    // If this store fails the slot comes back at the next open, for an id that is never used again:
    // harmless.
    (void)lt_slot_store(s, slot, zeros);
    s->free[s->free_count++] = slot; // slots_room made the room
}

void lt_slot_drop(struct lt_slots *s, struct lt_slot *slot) {
    lt_lock(&s->lock);
    slots_drop_locked(s, slot);
    lt_unlock(&s->lock);
}

void lt_slots_drop_topic(struct lt_slots *s, uint32_t topic) {
    lt_lock(&s->lock);
    for (uint32_t n = 0; n < s->count; n++) {
        struct lt_slot *slot = lt_stretch_at(&s->slots, n);
        if (slot->key.kind != LT_SLOT_FREE && slot->key.kind != LT_SLOT_RECEIPTS &&
            slot->key.topic == topic)
            slots_drop_locked(s, slot);
    }
    lt_unlock(&s->lock);
}

void lt_slots_drop_group(struct lt_slots *s, uint32_t group) {
    lt_lock(&s->lock);
    for (uint32_t n = 0; n < s->count; n++) {
        struct lt_slot *slot = lt_stretch_at(&s->slots, n);
        if (slot->key.kind == LT_SLOT_COMMIT && slot->key.id == group)
            slots_drop_locked(s, slot);
    }
    lt_unlock(&s->lock);
}

struct lt_slot *lt_slots_next(struct lt_slots *s, uint32_t *at) {
    struct lt_slot *found = NULL;
    lt_lock(&s->lock);
    while (*at < s->count && !found) {
        struct lt_slot *slot = lt_stretch_at(&s->slots, (*at)++);
        if (slot->key.kind != LT_SLOT_FREE)
            found = slot;
    }
    lt_unlock(&s->lock);
    return found;
}

// ---- sync

bool lt_slots_poisoned(const struct lt_slots *s) {
    return atomic_load_explicit(&s->poisoned, memory_order_relaxed);
}

// The lock is held at entry and exit, not during the sync; the turn keeps others out.
static int slots_sync_file(struct lt_slots *s) {
    struct lt_os *os = s->mq->os;
    uint64_t number = atomic_fetch_add_explicit(&s->begun, 1, memory_order_acq_rel) + 1;
    (void)lt_turns_begin(&s->syncs);
    lt_unlock(&s->lock);
    int rc = lt_fault(s->mq, LEAT_OP_SYNC, NULL, -1, false);
    if (rc == 0 && s->fd >= 0) {
        rc = os->sync(os, s->fd, false);
        if (rc < 0)
            rc = lt_fail_os(rc, "syncing %s/slots", s->mq->dir);
    }
    lt_lock(&s->lock);
    lt_turns_end(&s->syncs);
    if (rc == 0) {
        atomic_store_explicit(&s->done, number, memory_order_release);
    } else {
        atomic_store_explicit(&s->poisoned, true, memory_order_relaxed);
        lt_manifest_poison(&s->mq->log->manifest);
    }
    return rc;
}

int lt_slots_sync(struct lt_slots *s) {
    int rc = 0;
    lt_lock(&s->lock);
    uint64_t mine = s->begun + 1; // one that is under way may have missed what was stored last
    while (s->done < mine && rc == 0) {
        if (lt_slots_poisoned(s))
            rc = lt_fail(LEAT_EPOISONED, "%s/slots: an earlier write was lost",
                         s->mq->dir ? s->mq->dir : "memory");
        else if (s->syncs.under_way)
            lt_turns_wait(&s->syncs, &s->lock, mine <= s->begun);
        else
            rc = slots_sync_file(s);
    }
    lt_turns_unlock(&s->syncs, &s->lock);
    return rc;
}
