/* SPDX-License-Identifier: MIT */
// CRC-32C: published values, streaming, and all ways to compute it against each other.
#include "base/chance.h"
#include "base/crc32c.h"

#include <criterion/criterion.h>
#include <string.h>

// crc32c_bits is the definition, bit by bit, kept apart from the library's code.
static uint32_t crc32c_bits(const unsigned char *p, size_t n) {
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
    }
    return ~c;
}

Test(crc32c, published_values) {
    unsigned char zeros[32], ones[32], up[32], down[32];
    for (unsigned i = 0; i < 32; i++) {
        zeros[i] = 0;
        ones[i] = 0xff;
        up[i] = (unsigned char)i;
        down[i] = (unsigned char)(31 - i);
    }
    const struct {
        const void *data;
        size_t n;
        uint32_t crc;
    } c[] = {
        { "123456789", 9, 0xe3069283u },
        { "Some String", 11, 0x2445290fu },
        { "Any String you want", 19, 0x73c6e69bu },
        { "a", 1, 0xc1d04330u },
        { "", 0, 0 },
        { NULL, 0, 0 },
        { zeros, 32, 0x8a9136aau }, // these four: RFC 3720, B.4
        { ones, 32, 0x62a8ab43u },
        { up, 32, 0x46dd794eu },
        { down, 32, 0x113fdb5cu },
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        cr_assert_eq(lt_crc32c(0, c[i].data, c[i].n), c[i].crc, "case %zu", i);
        cr_assert_eq(lt_crc32c_table(0, c[i].data, c[i].n), c[i].crc, "case %zu, table", i);
    }
    const char *name = lt_crc32c_best_name();
    cr_assert(!strcmp(name, "sse4.2") || !strcmp(name, "armv8") || !strcmp(name, "table"));
    cr_log_info("crc32c by %s", name);
}

Test(crc32c, all_ways_agree_at_every_alignment_and_length) {
    static unsigned char buf[3000];
    struct lt_chance chance;
    lt_chance_init(&chance, 20);
    for (size_t i = 0; i < sizeof buf; i++)
        buf[i] = (unsigned char)lt_chance_u64(&chance);
    // Lengths on both sides of each step: words, one lane, three lanes, several times three lanes.
    for (size_t n = 0; n <= 1300; n += n < 420 ? 1 : 7)
        for (size_t at = 0; at < 9; at++) {
            uint32_t want = lt_crc32c_table(0, buf + at, n);
            cr_assert_eq(lt_crc32c(0, buf + at, n), want, "%zu bytes at %zu", n, at);
            if (at == n % 9)
                cr_assert_eq(crc32c_bits(buf + at, n), want, "%zu bytes at %zu", n, at);
        }
    cr_assert_eq(lt_crc32c(0, buf, sizeof buf), crc32c_bits(buf, sizeof buf));
}

Test(crc32c, goes_on_where_it_stopped) {
    static unsigned char buf[1200];
    for (size_t i = 0; i < sizeof buf; i++)
        buf[i] = (unsigned char)(i * 31 + 7);
    uint32_t whole = lt_crc32c(0, buf, sizeof buf);
    uint32_t by_byte = 0;
    for (size_t i = 0; i < sizeof buf; i++) {
        by_byte = lt_crc32c(by_byte, buf + i, 1);
        cr_assert_eq(lt_crc32c(by_byte, buf + i + 1, sizeof buf - i - 1), whole, "cut at %zu", i);
        cr_assert_eq(lt_crc32c_table(by_byte, buf + i + 1, sizeof buf - i - 1), whole,
                     "cut at %zu, table", i);
    }
    cr_assert_eq(by_byte, whole);
}

Test(crc32c, of_text_and_of_words_is_that_of_their_bytes) {
    unsigned char buf[450];
    const uint64_t word[3] = { 0x0123456789abcdef, 0, 0xfedcba9876543210 };
    const uint32_t first = 0x89abcdef;
    for (size_t i = 0; i < sizeof buf; i++)
        buf[i] = (unsigned char)(i * 37 + 11);
    for (size_t n = 0; n + 1 < sizeof buf; n++) {
        unsigned char behind = buf[n];
        buf[n] = 0;
        cr_assert_eq(lt_crc32c_text(0x5eed, buf, n), lt_crc32c_table(0x5eed, buf, n + 1), "%zu", n);
        buf[n] = behind;
        cr_assert_eq(lt_crc32c_text(0x5eed, buf, n),
                     lt_crc32c_table(lt_crc32c_table(0x5eed, buf, n), "", 1), "%zu", n);
    }
    cr_assert_eq(lt_crc32c_text(0, NULL, 0), crc32c_bits((const unsigned char *)"", 1));
    for (int byte = 0; byte < 4; byte++)
        buf[byte] = (unsigned char)(first >> (8 * byte));
    for (size_t n = 0; n <= 3; n++) {
        for (size_t byte = 0; n > 0 && byte < 8; byte++)
            buf[4 + 8 * (n - 1) + byte] = (unsigned char)(word[n - 1] >> (8 * byte));
        cr_assert_eq(lt_crc32c_words(0, first, word, n), crc32c_bits(buf, 4 + 8 * n), "%zu", n);
        cr_assert_eq(lt_crc32c_words(77, first, word, n), lt_crc32c_table(77, buf, 4 + 8 * n));
    }
}

Test(crc32c, sees_each_flipped_bit) {
    unsigned char buf[500];
    memset(buf, 0x5a, sizeof buf);
    uint32_t good = lt_crc32c(0, buf, sizeof buf);
    for (size_t bit = 0; bit < sizeof buf * 8; bit++) {
        buf[bit / 8] ^= (unsigned char)(1u << bit % 8);
        cr_assert_neq(lt_crc32c(0, buf, sizeof buf), good, "bit %zu", bit);
        buf[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}
