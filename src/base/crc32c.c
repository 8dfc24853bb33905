/* SPDX-License-Identifier: MIT */
// See crc32c.h. Three ways to the same number: SSE4.2, ARMv8 with the crc extension, and tables
// (slice-by-8). The way is chosen at run time by the first call, through one atomic pointer: every
// caller then pays one indirect jump. Records are small (24 to 200 bytes), so the instruction runs
// in one stream, 8 bytes per step, until a buffer is long enough for three streams to pay; and they
// are many, so each call that a record does not need counts.
//
// Three streams: the instruction takes 3 cycles but a new one can start in each, so three lanes of
// CRC32C_LANE bytes run side by side. crc is linear, hence crc(a|b) = crc(a|zeros) ^ crc(b), and
// "append CRC32C_LANE zero bytes" is a table lookup per byte of the crc.
#include "base/crc32c.h"

#include "base/bytes.h"

#include <pthread.h>
#include <stdatomic.h>

struct crc32c_way { // state: ~crc
    uint32_t (*data)(uint32_t state, const uint8_t *p, size_t n);
    uint32_t (*text)(uint32_t state, const uint8_t *p, size_t n); // and a zero byte
    uint32_t (*words)(uint32_t state, uint32_t first, const uint64_t *word, size_t n);
};

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

static uint32_t crc32c_text_by_table(uint32_t state, const uint8_t *p, size_t n) {
    return crc32c_by_table(crc32c_by_table(state, p, n), (const uint8_t *)"", 1);
}

static uint32_t crc32c_words_by_table(uint32_t state, uint32_t first, const uint64_t *word,
                                      size_t n) {
    uint8_t bytes[8];
    lt_put_u32(bytes, first);
    uint32_t c = crc32c_by_table(state, bytes, 4);
    for (size_t i = 0; i < n; i++) {
        lt_put_u64(bytes, word[i]);
        c = crc32c_by_table(c, bytes, 8);
    }
    return c;
}

static const struct crc32c_way crc32c_table_way = { crc32c_by_table, crc32c_text_by_table,
                                                    crc32c_words_by_table };

#if defined(__x86_64__)
#include <nmmintrin.h>
#define CRC32C_NAME      "sse4.2"
#define CRC32C_TARGET    __attribute__((target("sse4.2")))
#define CRC32C_U64(c, v) _mm_crc32_u64((c), (v))
#define CRC32C_U32(c, v) _mm_crc32_u32((uint32_t)(c), (v))
#define CRC32C_U8(c, v)  _mm_crc32_u8((uint32_t)(c), (v))
typedef uint64_t crc32c_state; // as the instruction has it

static bool crc32c_has_instruction(void) {
    return __builtin_cpu_supports("sse4.2") != 0;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define CRC32C_NAME "armv8"
#define CRC32C_TARGET
#define CRC32C_U64(c, v) crc32c_arm_u64((c), (v))
#define CRC32C_U32(c, v) crc32c_arm_u32((c), (v))
#define CRC32C_U8(c, v)  crc32c_arm_u8((c), (v))
typedef uint32_t crc32c_state;

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
static inline crc32c_state crc32c_run(crc32c_state c, const uint8_t *p, size_t n) {
    for (; n >= 3 * CRC32C_LANE; n -= 3 * CRC32C_LANE, p += 3 * CRC32C_LANE) {
        crc32c_state c1 = 0, c2 = 0;
        for (const uint8_t *q = p; q < p + CRC32C_LANE; q += 8) {
            c = CRC32C_U64(c, lt_get_u64(q));
            c1 = CRC32C_U64(c1, lt_get_u64(q + CRC32C_LANE));
            c2 = CRC32C_U64(c2, lt_get_u64(q + 2 * CRC32C_LANE));
        }
        c = crc32c_skip_lane(crc32c_skip_lane((uint32_t)c) ^ (uint32_t)c1) ^ (uint32_t)c2;
    }
    for (; n >= 32; n -= 32, p += 32)
        for (size_t i = 0; i < 32; i += 8) // unrolled by the compiler
            c = CRC32C_U64(c, lt_get_u64(p + i));
    for (; n >= 8; n -= 8, p += 8)
        c = CRC32C_U64(c, lt_get_u64(p));
    if (n >= 4) {
        c = CRC32C_U32(c, lt_get_u32(p));
        p += 4;
        n -= 4;
    }
    for (; n > 0; n--, p++)
        c = CRC32C_U8(c, *p);
    return c;
}

CRC32C_TARGET
static uint32_t crc32c_by_instruction(uint32_t state, const uint8_t *p, size_t n) {
    return (uint32_t)crc32c_run(state, p, n);
}

CRC32C_TARGET
static uint32_t crc32c_text_by_instruction(uint32_t state, const uint8_t *p, size_t n) {
    return (uint32_t)CRC32C_U8(crc32c_run(state, p, n), 0);
}

CRC32C_TARGET
static uint32_t crc32c_words_by_instruction(uint32_t state, uint32_t first, const uint64_t *word,
                                            size_t n) {
    crc32c_state c = CRC32C_U32(state, first);
    for (size_t i = 0; i < n; i++)
        c = CRC32C_U64(c, word[i]);
    return (uint32_t)c;
}

static const struct crc32c_way crc32c_instruction_way = { crc32c_by_instruction,
                                                          crc32c_text_by_instruction,
                                                          crc32c_words_by_instruction };
#endif

// The way to go; NULL: not chosen yet. Release at the store, acquire at the load: who sees a way
// sees its tables filled. Several first calls at once store the same pointer.
static _Atomic(const struct crc32c_way *) crc32c_chosen;

static const struct crc32c_way *crc32c_choose(void) {
    const struct crc32c_way *way = &crc32c_table_way;
    pthread_once(&crc32c_once, crc32c_make_tables);
#ifdef CRC32C_TARGET
    if (crc32c_has_instruction())
        way = &crc32c_instruction_way;
#endif
    atomic_store_explicit(&crc32c_chosen, way, memory_order_release);
    return way;
}

static inline const struct crc32c_way *crc32c_get_way(void) {
    const struct crc32c_way *way = atomic_load_explicit(&crc32c_chosen, memory_order_acquire);
    return way ? way : crc32c_choose();
}

uint32_t lt_crc32c(uint32_t crc, const void *data, size_t n) {
    return ~crc32c_get_way()->data(~crc, data, n);
}

uint32_t lt_crc32c_text(uint32_t crc, const void *data, size_t n) {
    return ~crc32c_get_way()->text(~crc, data, n);
}

uint32_t lt_crc32c_words(uint32_t crc, uint32_t first, const uint64_t *word, size_t n) {
    return ~crc32c_get_way()->words(~crc, first, word, n);
}

uint32_t lt_crc32c_table(uint32_t crc, const void *data, size_t n) {
    pthread_once(&crc32c_once, crc32c_make_tables);
    return ~crc32c_by_table(~crc, data, n);
}

const char *lt_crc32c_best_name(void) {
    return crc32c_choose() == &crc32c_table_way ? "table" : CRC32C_NAME;
}
