/* SPDX-License-Identifier: MIT */
// The allocator seam and the byte helpers.
#include "base/bytes.h"
#include "base/failing_mem.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <string.h>

// What a hook was asked last.
struct mem_call {
    void *old;
    size_t size;
    int calls;
};

static void *mem_note(void *ctx, void *old, size_t size) {
    struct mem_call *call = ctx;
    call->old = old;
    call->size = size;
    call->calls++;
    if (size == 0) {
        free(old);
        return NULL;
    }
    void *p = realloc(old, size);
    if (p && !old)
        memset(p, 0xa5, size); // what is fresh is not zero by luck
    return p;
}

Test(mem, hook_gets_old_and_size_as_realloc_does) {
    struct mem_call call = { 0 };
    struct lt_mem m = { .fn = mem_note, .ctx = &call };

    void *p = lt_alloc(&m, 10);
    cr_assert_not_null(p);
    cr_assert_null(call.old);
    cr_assert_eq(call.size, 10u);
    void *q = lt_resize(&m, p, 1000);
    cr_assert_not_null(q);
    cr_assert_eq(call.old, p);
    cr_assert_eq(call.size, 1000u);
    lt_free(&m, q);
    cr_assert_eq(call.old, q);
    cr_assert_eq(call.size, 0u);

    int calls = call.calls;
    lt_free(&m, NULL);
    cr_assert_eq(call.calls, calls, "freeing NULL does not bother the hook");
}

Test(mem, size_zero_is_one_byte_and_never_a_free) {
    struct mem_call call = { 0 };
    struct lt_mem hooked = { .fn = mem_note, .ctx = &call }, plain = { 0 };

    void *p = lt_alloc(&hooked, 0);
    cr_assert_eq(call.size, 1u);
    void *z = lt_zalloc(&hooked, 0);
    cr_assert_eq(call.size, 1u);
    p = lt_resize(&hooked, p, 0);
    cr_assert_eq(call.size, 1u);
    cr_assert_not_null(p);
    cr_assert_not_null(z);
    lt_free(&hooked, p);
    lt_free(&hooked, z);

    void *a = lt_alloc(&plain, 0), *b = lt_zalloc(&plain, 0), *c = lt_resize(&plain, NULL, 0);
    cr_assert(a && b && c);
    c = lt_resize(&plain, c, 0);
    cr_assert_not_null(c);
    lt_free(&plain, a);
    lt_free(&plain, b);
    lt_free(&plain, c);
}

Test(mem, zalloc_zeroes_with_and_without_a_hook) {
    struct mem_call call = { 0 };
    struct lt_mem m[2] = { { 0 }, { .fn = mem_note, .ctx = &call } };
    static const unsigned char zero[300];
    for (int i = 0; i < 2; i++) {
        void *p = lt_zalloc(&m[i], sizeof zero);
        cr_assert_not_null(p);
        cr_assert_eq(memcmp(p, zero, sizeof zero), 0);
        lt_free(&m[i], p);
    }
}

Test(mem, no_room_is_null_and_resize_keeps_the_old) {
    struct failing_mem f;
    failing_mem_init(&f, 2);
    f.then_all = true;
    char *p = lt_alloc(&f.mem, 4);
    cr_assert_not_null(p);
    memcpy(p, "abc", 4);
    cr_assert_null(lt_resize(&f.mem, p, 1 << 20));
    cr_assert_str_eq(p, "abc");
    cr_assert_null(lt_alloc(&f.mem, 1));
    cr_assert_null(lt_zalloc(&f.mem, 1));
    cr_assert_null(lt_strdup_n(&f.mem, "x", 1));
    lt_free(&f.mem, p);
    cr_assert_eq(f.out, 0);
}

Test(mem, strdup_n_copies_n_bytes_and_ends_them) {
    struct lt_mem m = { 0 };
    char *s = lt_strdup_n(&m, "abcdef", 3);
    cr_assert_str_eq(s, "abc");
    lt_free(&m, s);
    s = lt_strdup_n(&m, "a\0b", 3);
    cr_assert_eq(memcmp(s, "a\0b", 4), 0, "a NUL inside is a byte like others");
    lt_free(&m, s);
    s = lt_strdup_n(&m, NULL, 0);
    cr_assert_str_eq(s, "");
    lt_free(&m, s);
    cr_assert_null(lt_strdup_n(&m, "x", SIZE_MAX));
}

Test(bytes, loads_and_stores_are_little_endian_at_any_alignment) {
    for (size_t at = 0; at < 8; at++) {
        unsigned char b[24];
        memset(b, 0xee, sizeof b);
        lt_put_u16(b + at, 0xf1e2);
        cr_assert_eq(memcmp(b + at, "\xe2\xf1\xee", 3), 0);
        cr_assert_eq(lt_get_u16(b + at), 0xf1e2u);
        lt_put_u32(b + at, 0xf1e2d3c4u);
        cr_assert_eq(memcmp(b + at, "\xc4\xd3\xe2\xf1\xee", 5), 0);
        cr_assert_eq(lt_get_u32(b + at), 0xf1e2d3c4u);
        lt_put_u64(b + at, 0xf1e2d3c4b5a69788u);
        cr_assert_eq(memcmp(b + at, "\x88\x97\xa6\xb5\xc4\xd3\xe2\xf1\xee", 9), 0);
        cr_assert_eq(lt_get_u64(b + at), 0xf1e2d3c4b5a69788u);
        for (size_t i = 0; i < at; i++)
            cr_assert_eq(b[i], 0xeeu, "nothing is written before the place");
    }
}

Test(bytes, align8_rounds_up) {
    static const uint64_t c[][2] = { { 0, 0 },
                                     { 1, 8 },
                                     { 7, 8 },
                                     { 8, 8 },
                                     { 9, 16 },
                                     { 4294967295u, 4294967296u },
                                     { UINT64_MAX - 7, UINT64_MAX - 7 } };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++)
        cr_assert_eq(lt_align8(c[i][0]), c[i][1], "case %zu", i);
}

Test(bytes, checked_arithmetic_says_what_does_not_fit) {
    uint64_t r;
    cr_assert(lt_add_u64(UINT64_MAX - 1, 1, &r) && r == UINT64_MAX);
    cr_assert(!lt_add_u64(UINT64_MAX, 1, &r));
    cr_assert(!lt_add_u64(UINT64_MAX, UINT64_MAX, &r));
    cr_assert(lt_mul_u64(0xffffffffu, 0x100000001u, &r) && r == UINT64_MAX);
    cr_assert(!lt_mul_u64(0x100000000u, 0x100000000u, &r));
    cr_assert(lt_mul_u64(UINT64_MAX, 0, &r) && r == 0);
    size_t z;
    cr_assert(lt_add_size(SIZE_MAX - 1, 1, &z) && z == SIZE_MAX);
    cr_assert(!lt_add_size(SIZE_MAX, 1, &z));
    cr_assert(lt_mul_size(SIZE_MAX / 2, 2, &z) && z == SIZE_MAX - 1);
    cr_assert(!lt_mul_size(SIZE_MAX / 2 + 1, 2, &z));
    cr_assert_eq(lt_min(-3, 2), -3);
    cr_assert_eq(lt_max(-3, 2), 2);
    cr_assert_eq(lt_min(INT64_MIN, INT64_MAX), INT64_MIN);
    cr_assert_eq(lt_max(INT64_MIN, INT64_MAX), INT64_MAX);
}
