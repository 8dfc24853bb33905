/* SPDX-License-Identifier: MIT */
// Slots: the last value that was stored whole is what an open finds, whatever happened to the rest.
#include "lib/scratch.h"
#include "log/log.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char root[SCRATCH_PATH], dir[SCRATCH_PATH], copy[SCRATCH_PATH], path[SCRATCH_PATH];
static leat *mq;
static struct lt_slots *slots;
static int32_t mode;

static void make_root(void) {
    scratch_make(root);
    scratch_join(dir, root, "store");
    scratch_join(copy, root, "copy");
    scratch_join(path, dir, "slots");
}

static void drop_root(void) {
    scratch_remove(root);
}

static void open_at(const char *at) {
    leat_options o = { .write = mode, .seed = 1 };
    if (at)
        ok(leat_open(at, &o, &mq));
    else
        ok(leat_open_memory(&(leat_options){ .seed = 1 }, &mq));
    slots = &mq->log->slots;
}

static void done(void) {
    ok(leat_close(mq, 0));
}

// Commits of groups that do not exist: nobody else touches them.
static struct lt_slot_key key_of(uint32_t i) {
    return (struct lt_slot_key){ LT_SLOT_COMMIT, 1000 + i, 2000 + i % 7, i % 3 };
}

static struct lt_slot *store(uint32_t i, int64_t value) {
    struct lt_slot *slot = NULL;
    struct lt_slot_key key = key_of(i);
    ok(lt_slot_take(slots, &key, &slot));
    const int64_t values[4] = { value, -value, INT64_MAX, INT64_MIN };
    ok(lt_slot_store(slots, slot, values));
    return slot;
}

static int64_t value_of(uint32_t i) { // -1: there is none
    struct lt_slot_key key = key_of(i);
    const struct lt_slot *slot = lt_slot_find(slots, &key);
    if (!slot)
        return -1;
    cr_assert_eq(slot->values[1], -slot->values[0]);
    cr_assert(slot->values[2] == INT64_MAX && slot->values[3] == INT64_MIN);
    return slot->values[0];
}

enum { COPIES = LT_SLOT_COPIES };

static size_t place(uint32_t number, unsigned which) {
    return (number / 64) * (COPIES * 4096u) + which * 4096u + number % 64 * 64u;
}

static unsigned newest_of(const struct lt_slot *slot) {
    unsigned c = 0;
    while (slot->copy[c].sequence != slot->sequence)
        c++;
    return c;
}

#define BOTH_MODES for (mode = LEAT_WRITE_MAPPED; mode <= LEAT_WRITE_PWRITE; mode++)

Test(slots, keep_the_last_value_over_kills_and_closes, .init = make_root, .fini = drop_root) {
    enum { N = 1500 }; // more than the file's first step
    BOTH_MODES {
        open_at(dir);
        cr_assert_eq(value_of(0), -1);
        for (int64_t round = 1; round <= 3; round++)
            for (uint32_t i = 0; i < N; i++)
                if (round == 1 || i % (uint32_t)round == 0)
                    (void)store(i, round * 10000 + i);
        scratch_copy(dir, copy);
        for (int turn = 0; turn < 2; turn++) {
            if (turn == 1) {
                done();
                open_at(copy); // as killed
            }
            for (uint32_t i = 0; i < N; i++) {
                int64_t round = i % 3 == 0 ? 3 : i % 2 == 0 ? 2 : 1;
                cr_assert_eq(value_of(i), round * 10000 + i, "slot %u", i);
            }
        }
        done();
        scratch_remove(dir);
        scratch_remove(copy);
    }
    open_at(NULL); // and in memory
    for (uint32_t i = 0; i < N; i++)
        (void)store(i, i);
    for (uint32_t i = 0; i < N; i++)
        cr_assert_eq(value_of(i), i);
    done();
}

Test(slots, a_damaged_copy_leaves_the_others, .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        open_at(dir);
        (void)store(0, 5);
        (void)store(2, 7);
        (void)store(1, 100);
        struct lt_slot *slot = store(1, 200);
        uint32_t number = slot->number;
        unsigned newest = newest_of(slot);
        done();
        size_t size;
        unsigned char *whole = scratch_read(path, &size);
        for (unsigned which = 0; which < COPIES; which++) {
            for (size_t i = 0; i < 64; i++) {
                size_t at = place(number, which) + i;
                unsigned char bad = whole[at] ^ 0x40;
                scratch_poke(path, at, &bad, 1);
                open_at(dir);
                cr_assert_eq(value_of(1), which == newest ? 100 : 200, "byte %zu of copy %u", i,
                             which);
                cr_assert_eq(value_of(0), 5);
                cr_assert_eq(value_of(2), 7);
                if (i % 9 == 0) { // it goes on from there
                    (void)store(1, 300);
                    done();
                    open_at(dir);
                    cr_assert_eq(value_of(1), 300);
                    (void)store(1, 400);
                    scratch_remove(copy);
                    scratch_copy(dir, copy);
                    done();
                    open_at(copy);
                    cr_assert_eq(value_of(1), 400);
                }
                done();
                scratch_write(path, whole, size);
            }
        }
        for (unsigned which = 0; which < COPIES; which++) // all of them
            scratch_poke(path, place(number, which) + 40, "????", 4);
        leat_options plain = { .write = mode, .seed = 1 }, skip = plain;
        skip.flags = LEAT_SKIP_ROT;
        fails_saying(LEAT_ECORRUPT, "slots is damaged", leat_open(dir, &plain, &mq));
        ok(leat_open(dir, &skip, &mq));
        slots = &mq->log->slots;
        cr_assert_eq(value_of(1), -1, "as if it had never been stored");
        cr_assert_eq(value_of(0), 5);
        cr_assert_eq(value_of(2), 7);
        (void)store(1, 1);
        done();
        ok(leat_open(dir, &skip, &mq));
        slots = &mq->log->slots;
        cr_assert_eq(value_of(1), 1);
        done();
        free(whole);
        scratch_remove(dir);
        scratch_remove(copy);
    }
}

// ---- what a crash leaves

static struct lt_os os;
static int slots_fd, sync_error;
static unsigned char *on_disk; // the file at its last sync
static size_t disk_size;
static void (*during_sync)(void);
static bool keep;

static int slots_test_open(struct lt_os *self, int at, const char *name, int flags, unsigned m) {
    (void)self;
    int fd = lt_os_system()->open(&os, at, name, flags, m);
    if (strcmp(name, "slots") == 0)
        slots_fd = fd;
    return fd;
}
static int slots_test_sync(struct lt_os *self, int fd, bool is_dir) {
    (void)self;
    (void)is_dir;
    if (fd != slots_fd || !keep)
        return 0;
    if (sync_error)
        return -sync_error;
    free(on_disk);
    on_disk = scratch_read(path, &disk_size);
    if (during_sync)
        during_sync();
    return 0;
}

static void open_watched(void) {
    leat_options o = { .write = mode, .seed = 1 };
    os = *lt_os_system();
    os.open = slots_test_open;
    os.sync = slots_test_sync;
    keep = true;
    ok(lt_store_open(dir, &o, &os, &mq));
    slots = &mq->log->slots;
}

// What a slot is worth if every copy that was stored to since the sync is garbage: each may have
// been written back in the middle of a store.
static int64_t value_after_cut(uint32_t i) {
    size_t size;
    unsigned char *now = scratch_read(path, &size);
    for (size_t at = 0; at < size; at += 64)
        if (at >= disk_size || memcmp(now + at, on_disk + at, 64) != 0)
            memset(now + at + 20, 0xa5, 30);
    leat *was_mq = mq;
    struct lt_slots *was = slots;
    scratch_remove(copy);
    scratch_copy(dir, copy);
    char file[SCRATCH_PATH];
    scratch_join(file, copy, "slots");
    scratch_write(file, now, size);
    keep = false;
    open_at(copy);
    int64_t value = value_of(i);
    done();
    keep = true;
    mq = was_mq;
    slots = was;
    free(now);
    return value;
}

static int64_t stored;
static struct lt_slot *stored_to;
static void store_one_more(void) { // as another thread does
    const int64_t v = ++stored, values[4] = { v, -v, INT64_MAX, INT64_MIN };
    ok(lt_slot_store(slots, stored_to, values));
}

Test(slots, a_power_cut_leaves_what_was_synced, .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        for (int meanwhile = 0; meanwhile < 2; meanwhile++) { // one more store during each sync
            uint64_t x = 7;
            int64_t synced = -1;
            stored = 0;
            during_sync = NULL;
            open_watched();
            (void)store(0, 3);
            ok(lt_slots_sync(slots));
            for (int i = 0; i < 300; i++) {
                x = x * 6364136223846793005u + 1442695040888963407u;
                unsigned what = (unsigned)(x >> 60);
                if (what < 9 || stored == 0) {
                    stored_to = store(1, ++stored);
                } else if (what < 15) {
                    int64_t before = stored;
                    during_sync = meanwhile ? store_one_more : NULL;
                    ok(lt_slots_sync(slots));
                    during_sync = NULL;
                    synced = before;
                } else { // killed: what is in the page cache is not on disk by that
                    scratch_remove(copy);
                    scratch_copy(dir, copy);
                    keep = false;
                    done();
                    scratch_remove(dir);
                    scratch_copy(copy, dir);
                    open_watched(); // syncs
                    cr_assert_eq(value_of(1), stored);
                    synced = stored;
                    stored_to = store(1, ++stored);
                }
                if (synced <= 0)
                    continue;
                cr_assert_geq(value_after_cut(1), synced, "step %d", i);
                cr_assert_eq(value_after_cut(0), 3);
            }
            keep = false;
            done();
            scratch_remove(dir);
            scratch_remove(copy);
        }
        free(on_disk);
        on_disk = NULL;
        disk_size = 0;
    }
}

Test(slots, a_store_that_is_killed_half_way_leaves_what_was_stored_before, .init = make_root,
     .fini = drop_root) {
    BOTH_MODES {
        open_at(dir);
        (void)store(1, 1);
        for (int64_t i = 2; i < 12; i++) {
            const struct lt_slot *slot = store(1, i);
            size_t at = place(slot->number, newest_of(slot)), size;
            if (i % 4 == 0)
                ok(lt_slots_sync(slots));
            scratch_copy(dir, copy);
            char file[SCRATCH_PATH];
            scratch_join(file, copy, "slots");
            unsigned char *half = scratch_read(file, &size);
            memset(half + at + 30, 0x77, 34);
            scratch_write(file, half, size);
            free(half);
            leat *was_mq = mq;
            struct lt_slots *was = slots;
            open_at(copy);
            cr_assert_eq(value_of(1), i - 1);
            done();
            mq = was_mq;
            slots = was;
            scratch_remove(copy);
        }
        done();
        scratch_remove(dir);
    }
}

Test(slots, a_failed_sync_of_the_slots_poisons_the_store, .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        leat_topic *t;
        leat_producer *p;
        open_watched();
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p));
        ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
        sync_error = EIO;
        fails(LEAT_EIO, lt_slots_sync(slots));
        sync_error = 0;
        fails(LEAT_EPOISONED, lt_slots_sync(slots)); // never a second one
        fails(LEAT_EPOISONED, leat_send(p, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
        fails(LEAT_EPOISONED, leat_topic_open(mq, "u", NULL, &t));
        fails(LEAT_EPOISONED, leat_close_all(mq, 0));
        sync_error = EIO; // an error of the open
        leat_options o = { .write = mode };
        fails_saying(LEAT_EIO, "slots", lt_store_open(dir, &o, &os, &mq));
        sync_error = 0;
        open_watched();
        ok(leat_topic_open(mq, "u", NULL, &t));
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
        free(on_disk);
        on_disk = NULL;
        disk_size = 0;
    }
}

Test(slots, of_a_deleted_topic_are_used_again, .init = make_root, .fini = drop_root) {
    enum { N = 700 };
    BOTH_MODES {
        open_at(dir);
        for (uint32_t i = 0; i < N; i++)
            (void)store(i, i + 1);
        cr_assert_leq(slots->count, (uint32_t)N + 1); // the manifest has one
        for (int round = 0; round < 5; round++) {
            lt_slots_drop_topic(slots, 2003);
            for (uint32_t i = 0; i < N; i++)
                cr_assert_eq(value_of(i), i % 7 == 3 ? -1 : (int64_t)i + 1);
            uint32_t at = 0, seen = 0;
            for (const struct lt_slot *s; (s = lt_slots_next(slots, &at)); seen++)
                if (s->key.kind != LT_SLOT_COMMIT || s->key.topic == 2003u)
                    seen += s->key.kind == LT_SLOT_COMMIT ? 100000 : UINT32_MAX;
            cr_assert_eq(seen, (uint32_t)N - N / 7);
            if (round == 2) {
                done();
                open_at(dir); // what was dropped stays so
                for (uint32_t i = 0; i < N; i++)
                    cr_assert_eq(value_of(i), i % 7 == 3 ? -1 : (int64_t)i + 1);
            }
            for (uint32_t i = 3; i < N; i += 7)
                (void)store(i, i + 1);
        }
        cr_assert_leq(slots->count, 1024u, "freed slots were used again");
        done();
        open_at(dir);
        for (uint32_t i = 0; i < N; i++)
            cr_assert_eq(value_of(i), (int64_t)i + 1);
        done();
        scratch_remove(dir);
    }
}

// Zeros are slots that were never stored. Of one that was, two copies cannot be half written.
Test(slots, any_file_can_be_opened_or_is_said_to_be_damaged, .init = make_root, .fini = drop_root) {
    static const size_t sizes[] = { 0, 1, 64, 4095, 4096, 4160, 65535, 65536, 65537, 200000 };
    BOTH_MODES {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            for (int fill = 0; fill < 3; fill++) {
                leat_options plain = { .write = mode, .seed = 1 }, skip = plain;
                skip.flags = LEAT_SKIP_ROT;
                open_at(dir);
                done();
                unsigned char *bytes = malloc(sizes[s] + 1);
                for (size_t i = 0; i < sizes[s]; i++)
                    bytes[i] = fill == 0 ? 0 : fill == 1 ? 0xff : (unsigned char)(i * i >> 3);
                scratch_write(path, bytes, sizes[s]);
                free(bytes);
                if (fill > 0 && sizes[s] > 4096)
                    fails_saying(LEAT_ECORRUPT, "slots is damaged", leat_open(dir, &plain, &mq));
                ok(leat_open(dir, &skip, &mq));
                slots = &mq->log->slots;
                cr_assert_eq(value_of(1), -1);
                for (uint32_t i = 0; i < 600; i++)
                    (void)store(i, i);
                done();
                ok(leat_open(dir, &skip, &mq));
                slots = &mq->log->slots;
                for (uint32_t i = 0; i < 600; i++)
                    cr_assert_eq(value_of(i), i);
                done();
                scratch_remove(dir);
            }
        }
    }
}

// What is cut off is as if it had never been stored, also when the file has grown again.
Test(slots, a_file_that_was_cut_does_not_bring_old_values_back, .init = make_root,
     .fini = drop_root) {
    BOTH_MODES {
        for (size_t cut = 1; cut < 24576; cut += 1531) {
            open_at(dir);
            for (int64_t round = 0; round < 5; round++)
                for (uint32_t i = 0; i < 100; i++)
                    (void)store(i, 100 * round + i);
            done();
            scratch_truncate(path, cut);
            open_at(dir);
            for (uint32_t i = 0; i < 100; i++) {
                int64_t is = value_of(i);
                cr_assert(is == -1 || (is % 100 == i && is / 100 >= 2), "%lld", (long long)is);
                if (i % 2)
                    (void)store(i, 1000 + i);
            }
            int64_t even[100];
            for (uint32_t i = 0; i < 100; i++)
                even[i] = value_of(i);
            done();
            open_at(dir);
            for (uint32_t i = 0; i < 100; i++)
                cr_assert_eq(value_of(i), even[i], "cut at %zu, slot %u", cut, i);
            done();
            scratch_remove(dir);
        }
    }
}

Test(slots, that_are_missing_are_told_of, .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        leat_options plain = { .write = mode, .seed = 1 }, skip = plain;
        skip.flags = LEAT_SKIP_ROT;
        leat_topic *t;
        open_at(dir); // nothing was noted in the manifest: it can have died before it made them
        done();
        scratch_remove(path);
        open_at(dir);
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_close_all(mq, 0));
        scratch_remove(path);
        fails_saying(LEAT_ECORRUPT, "slots is missing", leat_open(dir, &plain, &mq));
        cr_assert(!scratch_exists(path), "nothing was made");
        ok(leat_open(dir, &skip, &mq));
        done();
        open_at(dir);
        done();
        scratch_remove(dir);
    }
}

// The same key twice, as only damage can leave it: one of them counts, the store opens.
Test(slots, a_key_that_is_there_twice_is_there_once, .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        open_at(dir);
        uint32_t a = store(0, 5)->number, b = store(1, 6)->number;
        done();
        size_t size;
        unsigned char *all = scratch_read(path, &size);
        for (unsigned which = 0; which < COPIES; which++)
            memcpy(all + place(b, which), all + place(a, which), 64);
        scratch_write(path, all, size);
        free(all);
        open_at(dir);
        cr_assert_eq(value_of(0), 5);
        cr_assert_eq(value_of(1), -1);
        (void)store(0, 8);
        (void)store(1, 9);
        done();
        open_at(dir);
        cr_assert_eq(value_of(0), 8, "the other one does not come back");
        cr_assert_eq(value_of(1), 9);
        done();
        scratch_remove(dir);
    }
}
