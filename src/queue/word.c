/* SPDX-License-Identifier: MIT */
// word: packing and checking, see word.h for the layout and its reasons.

#include "queue/word.h"

#include <stdbool.h>

#include "base/hash.h"

#define WORD_STATE_SHIFT      61
#define WORD_DELIVERIES_SHIFT 49
#define WORD_NOT_BEFORE_SHIFT 16
#define WORD_CHECK_MASK       UINT64_C(0xffff)
#define WORD_HASH_MASK        ((UINT64_C(1) << WORD_STATE_SHIFT) - 1)

// Arbitrary, on disk for ever: they keep the two hashes apart from each other and from the key.
#define WORD_FINAL_SALT UINT64_C(0x6c65617420656e64)
#define WORD_LIVE_SALT  UINT64_C(0x6c656174206c6976)

static bool word_is_final(int state) {
    return state == LT_WORD_DONE || state == LT_WORD_DEAD || state == LT_WORD_EXPIRED;
}

static bool word_is_live(int state) {
    return state == LT_WORD_LIVE || state == LT_WORD_MOVING || state == LT_WORD_KEPT;
}

static uint64_t word_check(uint64_t raw, uint64_t key) {
    return lt_mix3(key, raw & ~WORD_CHECK_MASK, WORD_LIVE_SALT) >> 48;
}

uint64_t lt_word_final(int state, uint64_t key) {
    if (!word_is_final(state))
        return 0;
    uint64_t top = (uint64_t)state << WORD_STATE_SHIFT;
    return top | (lt_mix3(key, top, WORD_FINAL_SALT) & WORD_HASH_MASK);
}

uint64_t lt_word_live(int state, uint32_t deliveries, uint64_t not_before, uint64_t key) {
    if (!word_is_live(state))
        return 0;
    if (deliveries > LT_WORD_DELIVERIES_MAX)
        deliveries = LT_WORD_DELIVERIES_MAX;
    if (not_before > LT_WORD_NOT_BEFORE_MAX)
        not_before = LT_WORD_NOT_BEFORE_MAX;
    uint64_t raw = (uint64_t)state << WORD_STATE_SHIFT |
                   (uint64_t)deliveries << WORD_DELIVERIES_SHIFT |
                   not_before << WORD_NOT_BEFORE_SHIFT;
    return raw | word_check(raw, key);
}

struct lt_word lt_word_read(uint64_t raw, uint64_t key) {
    struct lt_word word = { 0 };
    int state = (int)(raw >> WORD_STATE_SHIFT);
    if (word_is_final(state) && raw == lt_word_final(state, key)) {
        word.state = state;
    } else if (word_is_live(state) && (raw & WORD_CHECK_MASK) == word_check(raw, key)) {
        word.state = state;
        word.deliveries = (uint32_t)(raw >> WORD_DELIVERIES_SHIFT) & LT_WORD_DELIVERIES_MAX;
        word.not_before = raw >> WORD_NOT_BEFORE_SHIFT & LT_WORD_NOT_BEFORE_MAX;
    }
    return word;
}

uint64_t lt_word_not_before(int64_t due_wall_ns, int64_t created_wall_ns) {
    if (due_wall_ns <= created_wall_ns)
        return 1;
    // Unsigned, because the distance of two int64_t does not always fit into one.
    uint64_t ns = (uint64_t)due_wall_ns - (uint64_t)created_wall_ns;
    uint64_t units = ns / LT_WORD_UNIT_NS + (ns % LT_WORD_UNIT_NS != 0);
    return units < LT_WORD_NOT_BEFORE_MAX ? units : LT_WORD_NOT_BEFORE_MAX;
}

int64_t lt_word_due_ns(uint64_t not_before, int64_t created_wall_ns) {
    if (not_before > LT_WORD_NOT_BEFORE_MAX)
        not_before = LT_WORD_NOT_BEFORE_MAX;
    int64_t ns = (int64_t)not_before * LT_WORD_UNIT_NS;
    return created_wall_ns > INT64_MAX - ns ? INT64_MAX : created_wall_ns + ns;
}
