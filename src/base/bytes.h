/* SPDX-License-Identifier: MIT */
// bytes holds the small arithmetic that every format needs: little-endian loads and stores at any
// alignment (compilers make one instruction of each), rounding up to 8, and additions and
// multiplications that say when the result does not fit. Numbers that come from a disk or from a
// caller go through the checked forms.
#ifndef LT_BASE_BYTES_H
#define LT_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Little-endian there and back; nothing where the machine is.
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define BYTES_LE(bits, v) __builtin_bswap##bits(v)
#else
#define BYTES_LE(bits, v) (v)
#endif

// lt_get_u16, _u32, _u64 load a little-endian number from p, at any alignment.
static inline uint16_t lt_get_u16(const void *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return BYTES_LE(16, v);
}

static inline uint32_t lt_get_u32(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return BYTES_LE(32, v);
}

static inline uint64_t lt_get_u64(const void *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return BYTES_LE(64, v);
}

// lt_put_u16, _u32, _u64 store v at p as little-endian, at any alignment.
static inline void lt_put_u16(void *p, uint16_t v) {
    v = BYTES_LE(16, v);
    memcpy(p, &v, sizeof v);
}

static inline void lt_put_u32(void *p, uint32_t v) {
    v = BYTES_LE(32, v);
    memcpy(p, &v, sizeof v);
}

static inline void lt_put_u64(void *p, uint64_t v) {
    v = BYTES_LE(64, v);
    memcpy(p, &v, sizeof v);
}

// lt_align8 rounds n up to a multiple of 8. Above UINT64_MAX - 7 it wraps: check first.
static inline uint64_t lt_align8(uint64_t n) {
    return (n + 7) & ~(uint64_t)7;
}

// lt_add_u64, lt_mul_u64, lt_add_size, lt_mul_size store the result in *out.
// Returns: true if it fits; false if not, and *out then means nothing.
static inline bool lt_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

static inline bool lt_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool lt_add_size(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

static inline bool lt_mul_size(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

// lt_min and lt_max compare signed 64-bit numbers (times, durations, offsets).
static inline int64_t lt_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t lt_max(int64_t a, int64_t b) {
    return a > b ? a : b;
}

#endif
