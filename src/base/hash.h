/* SPDX-License-Identifier: MIT */
// hash has three functions for three jobs: lt_murmur2 places keys on partitions exactly as Kafka's
// Java client does, lt_hash_bytes is for tables in memory, lt_mix3 makes check words.
//
// lt_murmur2 and lt_mix3 decide what is on disk: their results never change. lt_hash_bytes may.
#ifndef LT_BASE_HASH_H
#define LT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

// lt_murmur2 is Kafka's murmur2 of n bytes (an empty key is a key). The partition of a key is
// (lt_murmur2(key) & 0x7fffffff) % partitions. data may be NULL when n is 0.
uint32_t lt_murmur2(const void *data, size_t n);

// lt_hash_bytes hashes n bytes. With a seed that is unknown to whoever chooses the keys, keys that
// collide are hard to choose; that is no cryptographic promise. data may be NULL when n is 0.
uint64_t lt_hash_bytes(const void *data, size_t n, uint64_t seed);

// lt_mix64 is one step of splitmix64: a bijection in which each bit of x moves half of the result.
static inline uint64_t lt_mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// lt_mix3 mixes three words, in this order, to 64 bits. Where a and b stay the same, the inner
// lt_mix64(lt_mix64(a) ^ b) may be kept and finished with lt_mix64(kept ^ c).
static inline uint64_t lt_mix3(uint64_t a, uint64_t b, uint64_t c) {
    return lt_mix64(lt_mix64(lt_mix64(a) ^ b) ^ c);
}

#endif
