/* SPDX-License-Identifier: MIT */
// The array that grows without moving: addresses, failing memory, a reader beside the writer.
#include "base/failing_mem.h"
#include "base/stretch.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

Test(stretch, elements_are_zeroed_apart_and_never_move) {
    static const uint32_t firsts[] = { 1, 2, 64 };
    for (size_t c = 0; c < sizeof firsts / sizeof firsts[0]; c++) {
        enum { N = 1000 };
        struct lt_mem mem = { 0 };
        struct lt_stretch s;
        uint64_t *at[N];
        lt_stretch_init(&s, &mem, 3 * sizeof(uint64_t), firsts[c]);
        cr_assert_eq(lt_stretch_capacity(&s), 0u);
        for (uint64_t i = 0; i < N; i++) {
            cr_assert_eq(lt_stretch_reserve(&s, i + 1), 0);
            cr_assert_gt(lt_stretch_capacity(&s), i);
            at[i] = lt_stretch_at(&s, i);
            cr_assert(at[i][0] == 0 && at[i][1] == 0 && at[i][2] == 0, "element %d", (int)i);
            at[i][0] = at[i][1] = at[i][2] = i + 1;
        }
        for (uint64_t i = 0; i < N; i++) {
            cr_assert_eq(lt_stretch_at(&s, i), at[i], "element %d has moved", (int)i);
            cr_assert(at[i][0] == i + 1 && at[i][1] == i + 1 && at[i][2] == i + 1,
                      "element %d was overwritten", (int)i);
        }
        uint64_t capacity = lt_stretch_capacity(&s);
        cr_assert_eq(lt_stretch_reserve(&s, 5), 0);
        cr_assert_eq(lt_stretch_capacity(&s), capacity, "it never shrinks");
        lt_stretch_fini(&s);
        lt_stretch_fini(&s);
    }
}

Test(stretch, chunks_double_from_the_first) {
    struct lt_mem mem = { 0 };
    struct lt_stretch s;
    lt_stretch_init(&s, &mem, 1, 4);
    cr_assert_eq(lt_stretch_reserve(&s, 29), 0); // 4 + 8 + 16 = 28, one more
    cr_assert_eq(lt_stretch_capacity(&s), 60u);
    static const uint64_t last[] = { 3, 11, 27, 59 };
    for (int k = 0; k < 4; k++) {
        uint64_t first = k ? last[k - 1] + 1 : 0;
        cr_assert_eq(lt_stretch_at(&s, first), s.chunk[k], "chunk %d begins", k);
        cr_assert_eq(lt_stretch_at(&s, last[k]), s.chunk[k] + (last[k] - first), "chunk %d", k);
    }
    lt_stretch_fini(&s);
}

Test(stretch, no_room_changes_nothing) {
    struct failing_mem f;
    for (long k = 3; k <= 7; k++) { // two chunks, then five more at once, the k-th has no room
        failing_mem_init(&f, k);
        struct lt_stretch s;
        lt_stretch_init(&s, &f.mem, 16, 8);
        cr_assert_eq(lt_stretch_reserve(&s, 24), 0);
        memset(lt_stretch_at(&s, 23), 0x77, 16);
        cr_assert_eq(lt_stretch_reserve(&s, 1016), LEAT_ENOMEM);
        cr_assert_eq(f.asked, k, "it stopped at the failure");
        cr_assert_eq(f.out, 2, "and gave back what it had");
        cr_assert_eq(lt_stretch_capacity(&s), 24u);
        cr_assert_eq(*(unsigned char *)lt_stretch_at(&s, 23), 0x77u);
        cr_assert_eq(lt_stretch_reserve(&s, 1016), 0, "the next try has room");
        cr_assert_eq(lt_stretch_capacity(&s), 1016u);
        cr_assert_eq(*(unsigned char *)lt_stretch_at(&s, 1015), 0u);
        lt_stretch_fini(&s);
        cr_assert_eq(f.out, 0);
    }
}

Test(stretch, absurd_sizes_are_no_room_not_an_overflow) {
    struct failing_mem f;
    failing_mem_init(&f, 5); // refuses before real memory gets short
    f.then_all = true;
    struct lt_stretch s;
    lt_stretch_init(&s, &f.mem, 8, 1);
    cr_assert_eq(lt_stretch_reserve(&s, UINT64_MAX), LEAT_ENOMEM);
    cr_assert_eq(lt_stretch_capacity(&s), 0u);
    failing_mem_init(&f, 0);
    lt_stretch_init(&s, &f.mem, SIZE_MAX / 4 + 3, 4); // 4 of these wrap to 8 bytes
    cr_assert_eq(lt_stretch_reserve(&s, 1), LEAT_ENOMEM);
    cr_assert_eq(f.asked, 0, "nobody was asked for the remainder");
    cr_assert_eq(f.out, 0);
}

enum { STRETCH_N = 200000 };

struct stretch_race {
    struct lt_stretch s;
    _Atomic uint64_t
        published;  // elements below it are written: release by the writer, acquire here
    uint64_t wrong; // the reader's, read after the join
    uint64_t looks;
};

static void *stretch_read(void *arg) {
    struct stretch_race *r = arg;
    uint64_t seen = 0;
    while (seen < STRETCH_N) {
        uint64_t end = atomic_load_explicit(&r->published, memory_order_acquire);
        for (; seen < end; seen++) {
            const uint64_t *now = lt_stretch_at(&r->s, seen);
            const uint64_t *older = lt_stretch_at(&r->s, seen / 2);
            r->wrong += *now != seen * 3 || *older != seen / 2 * 3;
        }
        r->looks++;
    }
    return NULL;
}

Test(stretch, a_reader_needs_no_lock_while_it_grows) {
    struct lt_mem mem = { 0 };
    struct stretch_race r = { .wrong = 0 };
    lt_stretch_init(&r.s, &mem, sizeof(uint64_t), 1);
    atomic_init(&r.published, 0);
    pthread_t reader;
    cr_assert_eq(pthread_create(&reader, NULL, stretch_read, &r), 0);
    bool room = true;
    for (uint64_t i = 0; i < STRETCH_N; i++) {
        room = room && lt_stretch_reserve(&r.s, i + 1) == 0;
        if (room)
            *(uint64_t *)lt_stretch_at(&r.s, i) = i * 3;
        atomic_store_explicit(&r.published, room ? i + 1 : STRETCH_N, memory_order_release);
        if (!room)
            break;
    }
    cr_assert_eq(pthread_join(reader, NULL), 0);
    cr_assert(room);
    cr_assert_eq(r.wrong, 0u);
    lt_stretch_fini(&r.s);
}
