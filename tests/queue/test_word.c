/* SPDX-License-Identifier: MIT */
// The state word: what was written is read back, and nothing else is ever read as final.
#include <criterion/criterion.h>

#include "base/hash.h"
#include "queue/word.h"

#include <stdbool.h>
#include <stdint.h>

static const int finals[] = { LT_WORD_DONE, LT_WORD_DEAD, LT_WORD_EXPIRED };
static const int lives[] = { LT_WORD_LIVE, LT_WORD_MOVING, LT_WORD_KEPT };

static bool is_final(struct lt_word word) {
    return word.state >= LT_WORD_DONE;
}

static bool is_untouched(struct lt_word word) {
    return word.state == LT_WORD_UNTOUCHED && word.deliveries == 0 && word.not_before == 0;
}

// random_at is the i-th word of a fixed sequence.
static uint64_t random_at(uint64_t i) {
    return lt_mix3(i, 1, 2);
}

Test(word, final_is_read_back) {
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t key = i < 2 ? i - 1 : random_at(i);
        for (int s = 0; s < 3; s++) {
            struct lt_word word = lt_word_read(lt_word_final(finals[s], key), key);
            cr_assert_eq(word.state, finals[s]);
            cr_assert_eq(word.deliveries, 0);
            cr_assert_eq(word.not_before, 0);
        }
    }
}

Test(word, live_is_read_back) {
    static const uint32_t deliveries[] = { 0, 1, 2, 255, 256, 2048, 4094, 4095 };
    static const uint64_t not_before[] = { 0,
                                           1,
                                           2,
                                           65535,
                                           65536,
                                           1u << 31,
                                           UINT64_C(1) << 32,
                                           LT_WORD_NOT_BEFORE_MAX - 1,
                                           LT_WORD_NOT_BEFORE_MAX };
    for (int s = 0; s < 3; s++) {
        for (int d = 0; d < 8; d++) {
            for (int n = 0; n < 9; n++) {
                uint64_t key = random_at((uint64_t)(d * 9 + n));
                uint64_t raw = lt_word_live(lives[s], deliveries[d], not_before[n], key);
                struct lt_word word = lt_word_read(raw, key);
                cr_assert_eq(word.state, lives[s]);
                cr_assert_eq(word.deliveries, deliveries[d]);
                cr_assert_eq(word.not_before, not_before[n]);
            }
        }
    }
}

Test(word, counts_stop_at_their_highest_value) {
    uint64_t raw = lt_word_live(LT_WORD_LIVE, 4096, UINT64_C(1) << 33, 7);
    struct lt_word word = lt_word_read(raw, 7);
    cr_assert_eq(word.state, LT_WORD_LIVE);
    cr_assert_eq(word.deliveries, 4095);
    cr_assert_eq(word.not_before, (UINT64_C(1) << 33) - 1);
    cr_assert_eq(lt_word_live(LT_WORD_KEPT, UINT32_MAX, UINT64_MAX, 7),
                 lt_word_live(LT_WORD_KEPT, 4095, (UINT64_C(1) << 33) - 1, 7));
}

// Words written by an older library must still be read: these never change.
Test(word, the_format_stands) {
    uint64_t key = lt_mix3(0x1122334455667788, 42, 1000);
    cr_assert_eq(lt_word_final(LT_WORD_DONE, key), UINT64_C(0x9d961b738a045083));
    cr_assert_eq(lt_word_final(LT_WORD_DEAD, key), UINT64_C(0xa19ff1d9f00a899b));
    cr_assert_eq(lt_word_final(LT_WORD_EXPIRED, key), UINT64_C(0xc9be48874cd54f58));
    cr_assert_eq(lt_word_live(LT_WORD_LIVE, 3, 100, key), UINT64_C(0x200600000064af1c));
    cr_assert_eq(lt_word_live(LT_WORD_MOVING, 5, 0, key), UINT64_C(0x400a00000000e06b));
    cr_assert_eq(lt_word_live(LT_WORD_KEPT, 4095, 1, key), UINT64_C(0x7ffe00000001399d));
}

Test(word, a_state_of_the_other_kind_makes_no_word) {
    static const int none[] = { -1, 0, 7, 8, 1 << 30 };
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(lt_word_final(none[i], 7), 0);
        cr_assert_eq(lt_word_live(none[i], 1, 1, 7), 0);
    }
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(lt_word_final(lives[i], 7), 0);
        cr_assert_eq(lt_word_live(finals[i], 1, 1, 7), 0);
    }
}

Test(word, garbage_is_untouched) {
    cr_assert(is_untouched(lt_word_read(0, 0)));
    cr_assert(is_untouched(lt_word_read(UINT64_MAX, 7)));
    int live = 0;
    for (uint64_t i = 0; i < 1000000; i++) {
        struct lt_word word = lt_word_read(random_at(i), i);
        cr_assert(!is_final(word), "random word %d forges a final state", (int)i);
        live += !is_untouched(word);
        for (uint64_t top = 0; top < 8 && i < 1000; top++)
            cr_assert(!is_final(lt_word_read(top << 61 | i, i * 977)));
    }
    // 3 of 8 have a live state, 1 of 65536 of these passes the check: 6 are to be expected.
    cr_assert_lt(live, 30, "%d random words read as live", live);
}

Test(word, no_flipped_bits_leave_a_final_word) {
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t key = random_at(i);
        for (int s = 0; s < 3; s++) {
            uint64_t raw = lt_word_final(finals[s], key);
            for (int a = 0; a < 64; a++)
                cr_assert(!is_final(lt_word_read(raw ^ UINT64_C(1) << a, key)), "bit %d", a);
            for (int a = 0; a < 64 && i == 0; a++) {
                for (int b = 0; b < a; b++) {
                    uint64_t bits = UINT64_C(1) << a | UINT64_C(1) << b;
                    cr_assert(!is_final(lt_word_read(raw ^ bits, key)), "bits %d, %d", a, b);
                }
            }
        }
    }
}

Test(word, flipped_bits_of_a_live_word_are_seen) {
    int passed = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t key = random_at(i);
        uint64_t raw = lt_word_live(lives[i % 3], (uint32_t)(i % 4096), random_at(i) >> 40, key);
        for (int a = 0; a < 64; a++) {
            struct lt_word word = lt_word_read(raw ^ UINT64_C(1) << a, key);
            cr_assert(!is_final(word), "bit %d makes it final", a);
            cr_assert(a >= 16 || is_untouched(word), "bit %d of the check is not checked", a);
            passed += !is_untouched(word);
        }
    }
    cr_assert_lt(passed, 10, "%d of 64000 passed, 1 is to be expected", passed);
}

// A word that is copied to, or left over from, another place says nothing there.
Test(word, another_key_reads_nothing) {
    static const uint64_t bits[] = { 1, 2, 1u << 12, 1u << 31, UINT64_C(1) << 32, 1ull << 63 };
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t uid = random_at(i);
        uint64_t queue = i % 64;
        uint64_t key = lt_mix3(uid, queue, i);
        for (int b = 0; b < 6; b++) {
            uint64_t others[] = { lt_mix3(uid ^ bits[b], queue, i),
                                  lt_mix3(uid, queue ^ bits[b], i),
                                  lt_mix3(uid, queue, i ^ bits[b]), lt_mix3(queue, uid, i), 0 };
            for (int o = 0; o < 5; o++) {
                for (int s = 0; s < 3; s++)
                    cr_assert(is_untouched(lt_word_read(lt_word_final(finals[s], key), others[o])));
            }
        }
    }
}

Test(word, another_state_in_a_final_word_is_seen) {
    for (uint64_t key = 0; key < 100; key++) {
        uint64_t done = lt_word_final(LT_WORD_DONE, key);
        for (uint64_t state = 0; state < 8; state++) {
            uint64_t forged = (done & ~(UINT64_C(7) << 61)) | state << 61;
            cr_assert(state == LT_WORD_DONE || !is_final(lt_word_read(forged, key)));
        }
    }
}

Test(word, not_before_is_never_early) {
    static const struct {
        int64_t due, created;
        uint64_t units;
    } cases[] = {
        { 1, 0, 1 },
        { 9999999, 0, 1 },
        { 10000000, 0, 1 },
        { 10000001, 0, 2 },
        { 1700000000000000001, 1700000000000000000, 1 },
        { 1700000060000000000, 1700000000000000000, 6000 },
        { 1700000060000000001, 1700000000000000000, 6001 },
        { 5, 5, 1 }, // due at the creation
        { 4, 5, 1 }, // the clock was set back after it
        { INT64_MIN, INT64_MAX, 1 },
        { INT64_MAX, INT64_MIN, LT_WORD_NOT_BEFORE_MAX },           // 584 years: stops at 994 days
        { 731 * INT64_C(86400000000000), 0, UINT64_C(6315840000) }, // the longest that is allowed
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t units = lt_word_not_before(cases[i].due, cases[i].created);
        cr_assert_eq(units, cases[i].units, "case %d", (int)i);
        if (units < LT_WORD_NOT_BEFORE_MAX)
            cr_assert(lt_word_due_ns(units, cases[i].created) >= cases[i].due, "case %d", (int)i);
    }
    cr_assert_eq(lt_word_due_ns(0, 17), 17);
    cr_assert_eq(lt_word_due_ns(3, 17), 30000017);
    cr_assert_eq(lt_word_due_ns(1, INT64_MAX), INT64_MAX);
    cr_assert_eq(lt_word_due_ns(UINT64_MAX, 0), lt_word_due_ns(LT_WORD_NOT_BEFORE_MAX, 0));
}
