/* SPDX-License-Identifier: MIT */
// chance is the only source of chance in the library: xoshiro256** started from one seed through
// splitmix64. Same seed, same calls, same numbers, on every machine. Not for secrets.
// Threads: none of this locks; whoever shares one guards it.
#ifndef LT_BASE_CHANCE_H
#define LT_BASE_CHANCE_H

#include <stdint.h>

struct lt_chance {
    uint64_t s[4]; // never all zero
};

// lt_chance_init starts c from seed; every seed is good, 0 too.
void lt_chance_init(struct lt_chance *c, uint64_t seed);

// lt_chance_u64 returns the next 64 bits.
uint64_t lt_chance_u64(struct lt_chance *c);

// lt_chance_below returns a number in [0, n), each equally likely; 0 when n is 0.
uint64_t lt_chance_below(struct lt_chance *c, uint64_t n);

#endif
