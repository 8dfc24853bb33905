/* SPDX-License-Identifier: MIT */
// See crc32c.h. Three ways to the same number: SSE4.2, ARMv8 with the crc extension, and tables
// (slice-by-8). The way is chosen at run time by the first call, through one atomic pointer: every
// caller then pays one indirect jump. Records are small (24 to 200 bytes), so the instruction runs
// in one stream, 8 bytes per step, until a buffer is long enough for three streams to pay.
//
// Three streams: the instruction takes 3 cycles but a new one can start in each, so three lanes of
// CRC32C_LANE bytes run side by side. crc is linear, hence crc(a|b) = crc(a|zeros) ^ crc(b), and
// "append CRC32C_LANE zero bytes" is a table lookup per byte of the crc.
#include "base/crc32c.h"

#include "base/bytes.h"

#include <pthread.h>
#include <stdatomic.h>

typedef uint32_t (*crc32c_fn)(uint32_t state, const uint8_t *p, size_t n); // state = ~crc

// Bytes; a multiple of 8. Measured on x86_64 with 64 to 512: at 384 to 512 bytes 128 is the
// fastest, 2 times one stream; 512 gains a fifth at 64 KiB but nothing below 1.5 KiB.
enum { CRC32C_LANE = 128 };

// crc32c_slice[k][b] is the state after byte b and k zero bytes; crc32c_skip[k][b] is the state
// b << 8k after CRC32C_LANE zero bytes. Written once under crc32c_once, read-only afterwards.
static uint32_t crc32c_slice[8][256];
static uint32_t crc32c_skip[4][256];
static pthread_once_t crc32c_once = PTHREAD_ONCE_INIT;

// crc32c_append_lane is the slow way to append CRC32C_LANE zero bytes, from crc32c_slice[0].
static uint32_t crc32c_append_lane(uint32_t state) {
    uint32_t c = state;
    for (int zero = 0; zero < CRC32C_LANE; zero++)
        c = crc32c_slice[0][c & 0xff] ^ (c >> 8);
    return c;
}

// The skip table follows from its 32 single bits, because crc is linear. Measured on x86_64: all
// tables take 13 us at the first call; every entry of skip the slow way would add 190 us.
static void crc32c_make_tables(void) {
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = b;
        for (int bit = 0; bit < 8; bit++)
            c = (c >> 1) ^ (0x82f63b78u & (0u - (c & 1)));
        crc32c_slice[0][b] = c;
    }
    for (uint32_t b = 0; b < 256; b++)
        for (int k = 1; k < 8; k++) {
            uint32_t c = crc32c_slice[k - 1][b];
            crc32c_slice[k][b] = crc32c_slice[0][c & 0xff] ^ (c >> 8);
        }
    for (uint32_t k = 0; k < 4; k++)
        for (uint32_t b = 1; b < 256; b++)
            crc32c_skip[k][b] = (b & (b - 1)) == 0
                                    ? crc32c_append_lane(b << (8 * k))
                                    : crc32c_skip[k][b & (b - 1)] ^ crc32c_skip[k][b & (0u - b)];
}

static uint32_t crc32c_by_table(uint32_t state, const uint8_t *p, size_t n) {
    uint32_t c = state;
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t lo = lt_get_u32(p) ^ c, hi = lt_get_u32(p + 4);
        c = crc32c_slice[7][lo & 0xff] ^ crc32c_slice[6][lo >> 8 & 0xff] ^
            crc32c_slice[5][lo >> 16 & 0xff] ^ crc32c_slice[4][lo >> 24] ^
            crc32c_slice[3][hi & 0xff] ^ crc32c_slice[2][hi >> 8 & 0xff] ^
            crc32c_slice[1][hi >> 16 & 0xff] ^ crc32c_slice[0][hi >> 24];
    }
    for (; n > 0; n--, p++)
        c = crc32c_slice[0][(c ^ *p) & 0xff] ^ (c >> 8);
    return c;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
#define CRC32C_NAME      "sse4.2"
#define CRC32C_TARGET    __attribute__((target("sse4.2")))
#define CRC32C_U64(c, p) ((uint32_t)_mm_crc32_u64((c), lt_get_u64(p)))
#define CRC32C_U32(c, p) _mm_crc32_u32((c), lt_get_u32(p))
#define CRC32C_U8(c, p)  _mm_crc32_u8((c), *(p))

static bool crc32c_has_instruction(void) {
    return __builtin_cpu_supports("sse4.2") != 0;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define CRC32C_NAME "armv8"
#define CRC32C_TARGET
#define CRC32C_U64(c, p) crc32c_arm_u64((c), lt_get_u64(p))
#define CRC32C_U32(c, p) crc32c_arm_u32((c), lt_get_u32(p))
#define CRC32C_U8(c, p)  crc32c_arm_u8((c), *(p))

// In assembler, because gcc and clang name the intrinsics and the target attribute differently.
static inline uint32_t crc32c_arm_u64(uint32_t c, uint64_t v) {
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(c) : "r"(v));
    return c;
}

static inline uint32_t crc32c_arm_u32(uint32_t c, uint32_t v) {
    __asm__(".arch_extension crc\n\tcrc32cw %w0, %w0, %w1" : "+r"(c) : "r"(v));
    return c;
}

static inline uint32_t crc32c_arm_u8(uint32_t c, uint8_t v) {
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(c) : "r"((uint32_t)v));
    return c;
}

static bool crc32c_has_instruction(void) {
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}
#else
#define CRC32C_NAME "table"
#endif

#ifdef CRC32C_TARGET
static uint32_t crc32c_skip_lane(uint32_t c) {
    return crc32c_skip[0][c & 0xff] ^ crc32c_skip[1][c >> 8 & 0xff] ^
           crc32c_skip[2][c >> 16 & 0xff] ^ crc32c_skip[3][c >> 24];
}

CRC32C_TARGET
static uint32_t crc32c_by_instruction(uint32_t state, const uint8_t *p, size_t n) {
    uint32_t c = state;
    for (; n >= 3 * CRC32C_LANE; n -= 3 * CRC32C_LANE, p += 3 * CRC32C_LANE) {
        uint32_t c1 = 0, c2 = 0;
        for (const uint8_t *q = p; q < p + CRC32C_LANE; q += 8) {
            c = CRC32C_U64(c, q);
            c1 = CRC32C_U64(c1, q + CRC32C_LANE);
            c2 = CRC32C_U64(c2, q + 2 * CRC32C_LANE);
        }
        c = crc32c_skip_lane(crc32c_skip_lane(c) ^ c1) ^ c2;
    }
    for (; n >= 8; n -= 8, p += 8)
        c = CRC32C_U64(c, p);
    if (n >= 4) {
        c = CRC32C_U32(c, p);
        p += 4;
        n -= 4;
    }
    for (; n > 0; n--, p++)
        c = CRC32C_U8(c, p);
    return c;
}
#endif

static uint32_t crc32c_by_first_call(uint32_t state, const uint8_t *p, size_t n);

// The way to go. Release at the store, acquire at the load: who sees a way sees its tables filled.
// Several first calls at once store the same pointer.
static _Atomic(crc32c_fn) crc32c_way = crc32c_by_first_call;

static crc32c_fn crc32c_choose(void) {
    pthread_once(&crc32c_once, crc32c_make_tables);
#ifdef CRC32C_TARGET
    if (crc32c_has_instruction())
        return crc32c_by_instruction;
#endif
    return crc32c_by_table;
}

static uint32_t crc32c_by_first_call(uint32_t state, const uint8_t *p, size_t n) {
    crc32c_fn way = crc32c_choose();
    atomic_store_explicit(&crc32c_way, way, memory_order_release);
    return way(state, p, n);
}

uint32_t lt_crc32c(uint32_t crc, const void *data, size_t n) {
    crc32c_fn way = atomic_load_explicit(&crc32c_way, memory_order_acquire);
    return ~way(~crc, data, n);
}

uint32_t lt_crc32c_table(uint32_t crc, const void *data, size_t n) {
    pthread_once(&crc32c_once, crc32c_make_tables);
    return ~crc32c_by_table(~crc, data, n);
}

const char *lt_crc32c_best_name(void) {
    return crc32c_choose() == crc32c_by_table ? "table" : CRC32C_NAME;
}
