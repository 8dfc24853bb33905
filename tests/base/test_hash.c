/* SPDX-License-Identifier: MIT */
// Hashes and chance: the values that are on disk or in other people's clients, and the spread.
#include "base/chance.h"
#include "base/hash.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(hash, murmur2_is_kafkas_at_any_alignment) {
    static const struct {
        const char *key;
        size_t n;
        uint32_t hash;
    } c[] = {
        { "foobar", 6, 0xd0e47bbeu }, // the first four: Kafka's own
        { "abc", 3, 0x1c94221bu },
        { "kafka", 5, 0xd067cf64u },
        { "", 0, 0x106e08d9u },
        { "a", 1, 0xa2d0b27cu }, // computed apart from this code: each tail length, high bytes
        { "ab", 2, 0x12d8262au },
        { "abcd", 4, 0xb11ab5f4u },
        { "abcde", 5, 0x1b897eddu },
        { "user-7", 6, 0x2987fe7cu },
        { "\xff\xff\xff", 3, 0x5c47a5feu },
        { "\x80\xfe\xff\x81\x90\xa0\xb0", 7, 0x27c219b2u },
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++)
        for (size_t at = 0; at < 4; at++) {
            char buf[16];
            memcpy(buf + at, c[i].key, c[i].n);
            cr_assert_eq(lt_murmur2(buf + at, c[i].n), c[i].hash, "case %zu at %zu", i, at);
        }
    cr_assert_eq(lt_murmur2(NULL, 0), 0x106e08d9u, "an empty key is a key");
}

// On disk: these numbers must never change.
Test(hash, mix3_never_changes) {
    cr_assert_eq(lt_mix64(0), 0xe220a8397b1dcdafu, "splitmix64 from 0, first number");
    cr_assert_eq(lt_mix64(1), 0x910a2dec89025cc1u);
    cr_assert_eq(lt_mix64(UINT64_MAX), 0xe4d971771b652c20u);
    cr_assert_eq(lt_mix3(0, 0, 0), 0x238275bc38fcbe91u);
    cr_assert_eq(lt_mix3(1, 2, 3), 0xd0734750fde362b3u);
    cr_assert_eq(lt_mix3(3, 2, 1), 0xd62a7f6e291fef64u, "the order counts");
    cr_assert_eq(lt_mix3(UINT64_MAX, 7, 1ull << 32), 0x36f6bc0c95c34255u);
    cr_assert_eq(lt_mix3(5, 6, 7), lt_mix64(lt_mix64(lt_mix64(5) ^ 6) ^ 7), "a kept prefix works");
}

static int hash_order(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

// hash_fill hashes n different keys with seed, of the kinds that a weak hash mixes up.
static void hash_fill(uint64_t *h, size_t n, uint64_t seed) {
    size_t at = 0;
    char key[80] = { 0 };
    // One byte set, at each place, at each length up to 64: a length must not cancel a byte.
    for (size_t len = 0; len <= 64; len++)
        for (size_t place = 0; place < len; place++)
            for (char v = 1; v <= 4; v++) {
                key[place] = v;
                h[at++] = lt_hash_bytes(key, len, seed);
                key[place] = 0;
            }
    // Two small words, 66 bytes in all: the words must not be exchangeable, whatever the twist.
    for (uint64_t a = 0; a < 128; a++)
        for (uint64_t b = 0; b < 128; b++) {
            memcpy(key, &a, sizeof a);
            memcpy(key + 8, &b, sizeof b);
            h[at++] = lt_hash_bytes(key, 66, seed);
        }
    memset(key, 0, sizeof key);
    // The same in the last 16 bytes; no word below 5, for those keys came above.
    for (uint64_t a = 5; a < 128; a++)
        for (uint64_t b = 5; b < 128; b++) {
            memcpy(key, &a, sizeof a);
            memcpy(key + 8, &b, sizeof b);
            h[at++] = lt_hash_bytes(key, 16, seed);
        }
    memset(key, 0, sizeof key);
    for (; at < n; at++) {
        memcpy(key, &at, sizeof at);
        h[at] = lt_hash_bytes(key, 71, seed);
    }
}

Test(hash, bytes_spread_and_do_not_collide) {
    enum { N = 100000 };
    uint64_t *h = malloc(N * sizeof *h);
    cr_assert_not_null(h);
    for (uint64_t seed = 0; seed < 4; seed++) {
        unsigned low[256] = { 0 };
        hash_fill(h, N, seed);
        for (size_t i = 0; i < N; i++)
            low[h[i] & 255]++;
        qsort(h, N, sizeof *h, hash_order);
        size_t same = 0;
        for (size_t i = 1; i < N; i++)
            same += h[i] == h[i - 1];
        cr_assert_eq(same, 0u, "seed %d: %zu of 100,000 keys collide", (int)seed, same);
        for (int i = 0; i < 256; i++) // 390 on average, standard deviation 20
            cr_assert(low[i] > 250 && low[i] < 550, "%u keys fall on low byte %d", low[i], i);
    }
    free(h);
}

Test(hash, bytes_depend_on_seed_length_and_nothing_else) {
    char a[64], b[70];
    memset(a, 'x', sizeof a);
    memset(b, 'x', sizeof b);
    for (size_t n = 0; n <= 64; n++) {
        cr_assert_eq(lt_hash_bytes(a, n, 9), lt_hash_bytes(b + 5, n, 9), "%zu bytes", n);
        cr_assert_neq(lt_hash_bytes(a, n, 9), lt_hash_bytes(a, n, 10), "%zu bytes", n);
        if (n)
            cr_assert_neq(lt_hash_bytes(a, n, 9), lt_hash_bytes(a, n - 1, 9), "%zu bytes", n);
    }
    cr_assert_eq(lt_hash_bytes(NULL, 0, 9), lt_hash_bytes(a, 0, 9));
}

Test(chance, is_xoshiro256_from_splitmix64) {
    struct lt_chance c = { .s = { 1, 2, 3, 4 } };
    static const uint64_t published[] = { 11520, 0, 1509978240, 1215971899390074240u };
    for (int i = 0; i < 4; i++)
        cr_assert_eq(lt_chance_u64(&c), published[i], "number %d", i);
    static const uint64_t seeded[][4] = {
        { 0x99ec5f36cb75f2b4u, 0xbf6e1f784956452au, 0x1a5f849d4933e6e0u, 0x6aa594f1262d2d2cu },
        { 0xb3f2af6d0fc710c5u, 0x853b559647364ceau, 0x92f89756082a4514u, 0x642e1c7bc266a3a7u },
    };
    for (uint64_t seed = 0; seed < 2; seed++) {
        lt_chance_init(&c, seed);
        for (int i = 0; i < 4; i++)
            cr_assert_eq(lt_chance_u64(&c), seeded[seed][i], "seed %d", (int)seed);
    }
}

Test(chance, below_is_even_and_in_range) {
    struct lt_chance c;
    lt_chance_init(&c, 3);
    unsigned hits[10] = { 0 };
    for (int i = 0; i < 100000; i++) {
        uint64_t r = lt_chance_below(&c, 10);
        cr_assert_lt(r, 10u);
        hits[r]++;
    }
    for (int i = 0; i < 10; i++) // 10,000 on average, standard deviation 95
        cr_assert(hits[i] > 9500 && hits[i] < 10500, "%u hits of %d", hits[i], i);
    cr_assert_eq(lt_chance_below(&c, 0), 0u);
    cr_assert_eq(lt_chance_below(&c, 1), 0u);

    // With n = 3/4 of 2^64 a plain remainder would make the lowest third twice as likely: 1/2, not
    // 1/3.
    const uint64_t n = 3ull << 62, third = 1ull << 62;
    int lowest = 0;
    for (int i = 0; i < 30000; i++) {
        uint64_t r = lt_chance_below(&c, n);
        cr_assert_lt(r, n);
        lowest += r < third;
    }
    cr_assert(lowest > 9500 && lowest < 10500, "%d of 30000 in the lowest third", lowest);
}
