/* SPDX-License-Identifier: MIT */
// See chance.h. xoshiro256** is by David Blackman and Sebastiano Vigna (public domain).
#include "base/chance.h"

#include "base/hash.h"

void lt_chance_init(struct lt_chance *c, uint64_t seed) {
    // splitmix64 run from seed: four different inputs of a bijection, so at most one result is
    // zero.
    for (uint64_t i = 0; i < 4; i++)
        c->s[i] = lt_mix64(seed + i * 0x9e3779b97f4a7c15u);
}

static uint64_t chance_rotl(uint64_t x, int k) {
    return x << k | x >> (64 - k);
}

uint64_t lt_chance_u64(struct lt_chance *c) {
    uint64_t *s = c->s;
    uint64_t result = chance_rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = chance_rotl(s[3], 45);
    return result;
}

uint64_t lt_chance_below(struct lt_chance *c, uint64_t n) {
    if (n == 0)
        return 0;
    // 2^64 mod n numbers at the bottom would make the small results likelier: draw again there.
    uint64_t unfair = (0 - n) % n;
    uint64_t r = lt_chance_u64(c);
    while (r < unfair)
        r = lt_chance_u64(c);
    return r % n;
}
