/* SPDX-License-Identifier: MIT */
// See hash.h. lt_hash_bytes folds 16 bytes at a time with a 64 x 64 -> 128 bit multiplication (the
// idea of wyhash). The two factors carry different secrets, so that no key can force a factor to
// zero or swap the factors, and the length comes in last, where no byte of the key can undo it:
// with one secret and the length in the first word, keys that collide for every seed are easy to
// write.
#include "base/hash.h"

#include "base/bytes.h"

uint32_t lt_murmur2(const void *data, size_t n) {
    const uint32_t m = 0x5bd1e995u;
    const uint8_t *p = data;
    uint32_t h = 0x9747b28cu ^ (uint32_t)n;
    size_t left = n;
    for (; left >= 4; left -= 4, p += 4) {
        uint32_t k = lt_get_u32(p) * m;
        k = (k ^ (k >> 24)) * m;
        h = (h * m) ^ k;
    }
    if (left == 3)
        h ^= (uint32_t)p[2] << 16;
    if (left >= 2)
        h ^= (uint32_t)p[1] << 8;
    if (left >= 1)
        h = (h ^ p[0]) * m;
    h = (h ^ (h >> 13)) * m;
    return h ^ (h >> 15);
}

// hash_fold multiplies to 128 bits and returns the high half xor the low half.
static uint64_t hash_fold(uint64_t a, uint64_t b) {
#ifdef __SIZEOF_INT128__
    __extension__ typedef unsigned __int128 hash_wide;
    hash_wide r = (hash_wide)a * b;
    return (uint64_t)(r >> 64) ^ (uint64_t)r;
#else
    uint64_t al = a & 0xffffffffu, ah = a >> 32, bl = b & 0xffffffffu, bh = b >> 32;
    uint64_t low = al * bl, mid = ah * bl + (low >> 32), cross = al * bh + (mid & 0xffffffffu);
    uint64_t high = ah * bh + (mid >> 32) + (cross >> 32);
    return high ^ (cross << 32 | (low & 0xffffffffu));
#endif
}

uint64_t lt_hash_bytes(const void *data, size_t n, uint64_t seed) {
    const uint8_t *p = data;
    const uint64_t secret = lt_mix64(seed);
    uint64_t h = lt_mix64(~seed);
    size_t left = n;
    for (; left > 16; left -= 16, p += 16)
        h = hash_fold(lt_get_u64(p) ^ secret, lt_get_u64(p + 8) ^ h);
    // The last 1 to 16 bytes, in two words that may overlap.
    uint64_t a = 0, b = 0;
    if (left >= 8) {
        a = lt_get_u64(p);
        b = lt_get_u64(p + left - 8);
    } else if (left >= 4) {
        a = lt_get_u32(p);
        b = lt_get_u32(p + left - 4);
    } else if (left > 0) {
        a = (uint64_t)p[0] << 16 | (uint64_t)p[left / 2] << 8 | p[left - 1];
    }
    return lt_mix64(hash_fold(a ^ secret, b ^ h) ^ n);
}
