/* SPDX-License-Identifier: MIT */
// The hash table, against a plain array, and with an allocator that fails.
#include "base/chance.h"
#include "base/failing_mem.h"
#include "base/map.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { MAP_KEYS = 300 };

static int map_value[MAP_KEYS]; // only the addresses matter

// map_key writes the k-th key; lengths vary from 1 on.
static size_t map_key(char key[64], int k) {
    int n = snprintf(key, 64, "%d%.*s", k, k % 40, "........................................");
    return (size_t)n;
}

Test(map, finds_what_was_put_and_nothing_else) {
    struct lt_mem mem = { 0 };
    struct lt_map m;
    lt_map_init(&m, &mem, 1);
    cr_assert_null(lt_map_get(&m, "a", 1), "an empty map has nothing");
    cr_assert_null(lt_map_remove(&m, "a", 1));
    int a, b, empty;
    char key[] = "a";
    cr_assert_eq(lt_map_put(&m, key, 1, &a), 0);
    key[0] = 'z';
    cr_assert_eq(lt_map_get(&m, "a", 1), &a, "the key was copied");
    cr_assert_null(lt_map_get(&m, "z", 1));
    cr_assert_eq(lt_map_put(&m, "a\0", 2, &b), 0, "keys are bytes: length counts");
    cr_assert_eq(lt_map_put(&m, NULL, 0, &empty), 0, "an empty key is a key");
    cr_assert_eq(lt_map_get(&m, "a", 1), &a);
    cr_assert_eq(lt_map_get(&m, "a\0", 2), &b);
    cr_assert_eq(lt_map_get(&m, "", 0), &empty);
    cr_assert_eq(lt_map_put(&m, "a", 1, &b), LEAT_EEXIST);
    cr_assert_eq(lt_map_get(&m, "a", 1), &a, "what is there stays");
    cr_assert_eq(lt_map_count(&m), 3u);
    cr_assert_eq(lt_map_remove(&m, "a", 1), &a);
    cr_assert_null(lt_map_get(&m, "a", 1));
    cr_assert_null(lt_map_remove(&m, "a", 1));
    cr_assert_eq(lt_map_get(&m, "a\0", 2), &b);
    cr_assert_eq(lt_map_count(&m), 2u);
    lt_map_fini(&m);
    lt_map_fini(&m);
    cr_assert_eq(lt_map_count(&m), 0u);
}

Test(map, agrees_with_an_array_under_random_calls) {
    struct lt_mem mem = { 0 };
    struct lt_map m;
    bool in[MAP_KEYS] = { 0 };
    size_t count = 0;
    struct lt_chance chance;
    lt_chance_init(&chance, 8);
    lt_map_init(&m, &mem, 99);
    for (int step = 0; step < 50000; step++) {
        char key[64];
        int k = (int)lt_chance_below(&chance, MAP_KEYS);
        size_t n = map_key(key, k);
        switch (lt_chance_below(&chance, 3)) {
        case 0:
            cr_assert_eq(lt_map_put(&m, key, n, &map_value[k]), in[k] ? LEAT_EEXIST : 0);
            count += !in[k];
            in[k] = true;
            break;
        case 1:
            cr_assert_eq(lt_map_remove(&m, key, n), in[k] ? &map_value[k] : NULL);
            count -= in[k];
            in[k] = false;
            break;
        default:
            cr_assert_eq(lt_map_get(&m, key, n), in[k] ? &map_value[k] : NULL);
        }
        cr_assert_eq(lt_map_count(&m), count, "step %d", step);
    }
    lt_map_fini(&m);
}

Test(map, walk_tells_each_entry_once_and_may_remove_it) {
    struct lt_mem mem = { 0 };
    struct lt_map m;
    char key[64];
    lt_map_init(&m, &mem, 7);
    struct lt_map_cursor none = { 0 };
    cr_assert(!lt_map_next(&m, &none, NULL, NULL, NULL));
    for (int k = 0; k < MAP_KEYS; k++)
        cr_assert_eq(lt_map_put(&m, key, map_key(key, k), &map_value[k]), 0);
    int seen[MAP_KEYS] = { 0 };
    struct lt_map_cursor at = { 0 };
    const void *told;
    size_t told_len;
    void *value;
    while (lt_map_next(&m, &at, &told, &told_len, &value)) {
        long k = (int *)value - map_value;
        cr_assert(k >= 0 && k < MAP_KEYS);
        cr_assert_eq(told_len, map_key(key, (int)k));
        cr_assert_str_eq((const char *)told, key, "key %ld, with a NUL behind it", k);
        seen[k]++;
        if (k % 3)
            cr_assert_eq(lt_map_remove(&m, told, told_len), value);
    }
    for (int k = 0; k < MAP_KEYS; k++) {
        cr_assert_eq(seen[k], 1, "key %d was told %d times", k, seen[k]);
        cr_assert_eq(lt_map_get(&m, key, map_key(key, k)), k % 3 ? NULL : &map_value[k]);
    }
    size_t left = 0;
    for (struct lt_map_cursor c = { 0 }; lt_map_next(&m, &c, NULL, NULL, NULL); left++) {
    }
    cr_assert_eq(left, MAP_KEYS / 3u);
    lt_map_fini(&m);
}

Test(map, no_room_changes_nothing) {
    for (long fail = 1;; fail++) {
        struct failing_mem f;
        failing_mem_init(&f, fail);
        struct lt_map m;
        char key[64];
        int failed = 0;
        lt_map_init(&m, &f.mem, 7);
        for (int k = 0; k < 40; k++) {
            size_t n = map_key(key, k);
            long out = f.out;
            int rc = lt_map_put(&m, key, n, &map_value[k]);
            if (rc == 0)
                continue;
            failed++;
            cr_assert_eq(rc, LEAT_ENOMEM);
            cr_assert_eq(f.out, out, "allocation %ld", fail);
            cr_assert_eq(lt_map_count(&m), (size_t)k);
            cr_assert_null(lt_map_get(&m, key, n));
            for (int j = 0; j < k; j++) {
                char other[64];
                cr_assert_eq(lt_map_get(&m, other, map_key(other, j)), &map_value[j]);
            }
            cr_assert_eq(lt_map_put(&m, key, n, &map_value[k]), 0, "the next try has room");
        }
        long asked = f.asked;
        for (int k = 0; k < 40; k++)
            cr_assert_eq(lt_map_remove(&m, key, map_key(key, k)), &map_value[k]);
        cr_assert_eq(f.asked, asked, "remove allocates nothing");
        lt_map_fini(&m);
        cr_assert_eq(f.out, 0);
        if (!failed) {
            cr_assert_gt(fail, 40, "each put allocates at least once");
            return;
        }
    }
}
