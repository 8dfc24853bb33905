/* SPDX-License-Identifier: MIT */
// Slots: the last value that was stored whole is what an open finds, whatever happened to the rest.
#include "lib/scratch.h"
#include "log/log.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <stdlib.h>

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

static size_t place(uint32_t number, unsigned which) {
    return (number / 64) * 8192u + which * 4096u + number % 64 * 64u;
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

Test(slots, a_torn_copy_leaves_the_other, .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        open_at(dir);
        (void)store(0, 5);
        (void)store(2, 7);
        struct lt_slot *slot = store(1, 100);
        (void)store(1, 200);
        uint32_t number = slot->number;
        unsigned newest = slot->sequence & 1;
        done();
        size_t size;
        unsigned char *whole = scratch_read(path, &size);
        for (int which = 0; which < 2; which++) {
            bool newer = (unsigned)which == newest;
            for (size_t i = 0; i < 64; i++) {
                size_t at = place(number, (unsigned)which) + i;
                unsigned char bad = whole[at] ^ 0x40;
                scratch_poke(path, at, &bad, 1);
                open_at(dir);
                cr_assert_eq(value_of(1), newer ? 100 : 200, "byte %zu of copy %d", i, which);
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
        scratch_poke(path, place(number, 0) + 40, "????", 4); // both copies
        scratch_poke(path, place(number, 1) + 40, "????", 4);
        open_at(dir);
        cr_assert_eq(value_of(1), -1, "as if it had never been stored");
        cr_assert_eq(value_of(0), 5);
        cr_assert_eq(value_of(2), 7);
        (void)store(1, 1);
        done();
        open_at(dir);
        cr_assert_eq(value_of(1), 1);
        done();
        free(whole);
        scratch_remove(dir);
        scratch_remove(copy);
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

Test(slots, any_file_can_be_opened, .init = make_root, .fini = drop_root) {
    static const size_t sizes[] = { 0, 1, 64, 4095, 4096, 65535, 65536, 65537, 200000 };
    BOTH_MODES {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            for (int fill = 0; fill < 3; fill++) {
                open_at(dir);
                done();
                unsigned char *bytes = malloc(sizes[s] + 1);
                for (size_t i = 0; i < sizes[s]; i++)
                    bytes[i] = fill == 0 ? 0 : fill == 1 ? 0xff : (unsigned char)(i * i >> 3);
                scratch_write(path, bytes, sizes[s]);
                free(bytes);
                open_at(dir);
                cr_assert_eq(value_of(1), -1);
                for (uint32_t i = 0; i < 600; i++)
                    (void)store(i, i);
                done();
                open_at(dir);
                for (uint32_t i = 0; i < 600; i++)
                    cr_assert_eq(value_of(i), i);
                done();
                scratch_remove(dir);
            }
        }
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
        for (unsigned which = 0; which < 2; which++)
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
