/* SPDX-License-Identifier: MIT */
// A mailbox: what waits, what goes when it is full, and that all that is lost is told.
#include "pubsub/mailbox.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long box_blocks;    // that are out
static long box_fail_from; // this allocation and all later ones fail; 0: none

static void *box_alloc(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0) {
        box_blocks -= old ? 1 : 0;
        free(old);
        return NULL;
    }
    if (box_fail_from && --box_fail_from == 0) {
        box_fail_from = 1;
        return NULL;
    }
    void *p = realloc(old, size);
    box_blocks += p && !old ? 1 : 0;
    return p;
}

static struct lt_mem box_mem = { .fn = box_alloc };

// A message "channel key value"; key "-": none.
static struct lt_copy *box_copy(const char *text) {
    char channel[32], key[32], value[64];
    cr_assert_eq(sscanf(text, "%31s %31s %63s", channel, key, value), 3, "%s", text);
    leat_message m = { .value = { value, strlen(value) }, .topic = channel, .offset = -1 };
    if (strcmp(key, "-") != 0)
        m.key = (leat_bytes){ key, strlen(key) };
    struct lt_copy *copy = lt_copy_new(&box_mem, &m, 1);
    cr_assert_not_null(copy);
    return copy;
}

// Puts what the text says, separated by ';'. Says what became of each: t(aken) d(ropped) f(ull).
static const char *box_put(struct lt_mailbox *b, const char *text) {
    static char said[64];
    char all[512], *rest = all;
    size_t n = 0;
    snprintf(all, sizeof all, "%s", text);
    for (char *one; (one = strsep(&rest, ";"));) {
        struct lt_copy *copy = box_copy(one);
        enum lt_mail_result rc = lt_mailbox_put(b, copy, 0);
        if (rc != LT_MAIL_TAKEN)
            lt_copy_drop(copy, 1);
        said[n++] = "tdf"[rc];
    }
    said[n] = '\0';
    return said;
}

// Takes all out: values, each with how many were lost before it.
static const char *box_take(struct lt_mailbox *b) {
    static char said[512];
    size_t n = 0;
    said[0] = '\0';
    while (lt_mailbox_first(b)) {
        struct lt_mail mail = lt_mailbox_take(b);
        n += (size_t)snprintf(said + n, sizeof said - n, "%s/%d ",
                              (const char *)mail.copy->m.value.data, (int)mail.before);
        lt_copy_drop(mail.copy, 1);
    }
    return said;
}

static void box_init(struct lt_mailbox *b, int64_t room, int64_t bytes, int32_t when_full) {
    box_fail_from = 0;
    lt_mailbox_init(b, &box_mem, room, bytes, when_full);
}

Test(mailbox, each_choice_when_it_is_full) {
    static const struct {
        int64_t room, bytes;
        int32_t when_full;
        const char *put, *said, *left;
        int dropped;
    } cases[] = {
        { 3, INT64_MAX, LEAT_DROP_OLDEST, "a - 1;a - 2;a - 3;a - 4;a - 5", "ttttt", "3/2 4/0 5/0 ",
          2 },
        { 3, INT64_MAX, LEAT_DROP_NEWEST, "a - 1;a - 2;a - 3;a - 4;a - 5", "tttdd", "1/0 2/0 3/0 ",
          2 },
        { 3, INT64_MAX, LEAT_BLOCK, "a - 1;a - 2;a - 3;a - 4;a - 5", "tttff", "1/0 2/0 3/0 ", 0 },
        { 3, INT64_MAX, LEAT_FAIL, "a - 1;a - 2;a - 3;a - 4;a - 5", "tttff", "1/0 2/0 3/0 ", 0 },
        { 1, INT64_MAX, LEAT_DROP_OLDEST, "a - 1;a - 2;a - 3", "ttt", "3/2 ", 2 },
        { 3, INT64_MAX, LEAT_KEEP_LATEST, "a x 1;a y 2;a x 3;b x 4;a y 5", "ttttt", "3/0 5/0 4/0 ",
          0 },
        { 3, INT64_MAX, LEAT_KEEP_LATEST, "a x 1;a y 2;a z 3;a w 4;a x 5;a z 6", "tttttt",
          "6/2 4/0 5/0 ", 2 },
        { 3, INT64_MAX, LEAT_KEEP_LATEST, "a - 1;b - 2;a - 3", "ttt", "3/0 2/0 ", 0 },
        // by bytes
        { INT64_MAX, 4, LEAT_DROP_OLDEST, "a - 11;a - 22;a - 333", "ttt", "333/2 ", 2 },
        { INT64_MAX, 4, LEAT_DROP_NEWEST, "a - 11;a - 22;a - 3", "ttd", "11/0 22/0 ", 1 },
        { INT64_MAX, 4, LEAT_FAIL, "a - 55555;a - 1", "tf", "55555/0 ", 0 },
        { INT64_MAX, 4, LEAT_DROP_OLDEST, "a - 1;a - 55555;a - 2", "ttt", "2/2 ", 2 },
        { INT64_MAX, 4, LEAT_DROP_NEWEST, "a - 1;a - 55555;a - 2", "tdt", "1/0 2/1 ", 1 },
        { 2, 9, LEAT_FAIL, "a - 1;a - 2;a - 3", "ttf", "1/0 2/0 ", 0 },
        { INT64_MAX, 6, LEAT_KEEP_LATEST, "a x 1;a y 2;a z 3;a y 333", "tttt", "333/1 3/0 ", 1 },
        { INT64_MAX, 6, LEAT_KEEP_LATEST, "a x 1;a y 2;a z 3;a x 333", "tttt", "3/1 333/0 ", 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lt_mailbox b;
        box_init(&b, cases[i].room, cases[i].bytes, cases[i].when_full);
        cr_assert_str_eq(box_put(&b, cases[i].put), cases[i].said, "case %zu", i);
        cr_assert_str_eq(box_take(&b), cases[i].left, "case %zu", i);
        cr_assert_eq(b.dropped, (uint64_t)cases[i].dropped, "case %zu", i);
        cr_assert_eq(b.bytes, 0, "case %zu", i);
        lt_mailbox_fini(&b);
    }
    cr_assert_eq(box_blocks, 0);
}

Test(mailbox, what_is_lost_is_told_with_the_next_that_is_taken) {
    struct lt_mailbox b;
    box_init(&b, 2, INT64_MAX, LEAT_DROP_NEWEST);
    cr_assert_str_eq(box_put(&b, "a - 1;a - 2;a - 3;a - 4"), "ttdd");
    cr_assert_str_eq(box_take(&b), "1/0 2/0 ");
    lt_mailbox_lose(&b);
    cr_assert_str_eq(box_put(&b, "a - 5;a - 6"), "tt");
    cr_assert_str_eq(box_take(&b), "5/3 6/0 ");
    cr_assert_eq(b.dropped, 3);
    lt_mailbox_fini(&b);
    cr_assert_eq(box_blocks, 0);
}

Test(mailbox, what_was_taken_into_the_hand_takes_room) {
    struct lt_mailbox b;
    box_init(&b, 3, INT64_MAX, LEAT_FAIL);
    struct lt_copy *copy = box_copy("a - 1");
    cr_assert_eq(lt_mailbox_put(&b, copy, 3), LT_MAIL_FULL);
    cr_assert_eq(lt_mailbox_put(&b, copy, 2), LT_MAIL_TAKEN);
    cr_assert_eq(b.count_max, 3);
    cr_assert_eq(lt_mailbox_clear(&b), 1);
    lt_mailbox_fini(&b);
    cr_assert_eq(box_blocks, 0);
}

Test(mailbox, without_memory_for_the_ring_a_message_is_lost_and_the_rest_stays) {
    for (int when = LEAT_DROP_OLDEST; when <= LEAT_FAIL; when++) {
        struct lt_mailbox b;
        box_init(&b, 1000, INT64_MAX, when);
        char text[32];
        int taken = 0, dropped = 0;
        for (int i = 0; i < 40; i++) {
            snprintf(text, sizeof text, "a %d %d", i, i);
            struct lt_copy *copy = box_copy(text);
            box_fail_from = i >= 16 && i < 20 ? 1 : 0; // where the ring is to grow
            enum lt_mail_result rc = lt_mailbox_put(&b, copy, 0);
            box_fail_from = 0;
            taken += rc == LT_MAIL_TAKEN;
            dropped += rc == LT_MAIL_DROPPED;
            if (rc != LT_MAIL_TAKEN)
                lt_copy_drop(copy, 1);
        }
        cr_assert(taken == 36 && dropped == 4 && b.dropped == 4, "%d: %d %d", when, taken, dropped);
        cr_assert_eq(lt_mailbox_count(&b), 36);
        int seen = 0;
        for (int at = 0; lt_mailbox_first(&b); at++) {
            struct lt_mail mail = lt_mailbox_take(&b);
            int want = at < 16 ? at : at + 4;
            cr_assert_eq(atoi(mail.copy->m.value.data), want);
            cr_assert_eq(mail.before, want == 20 ? 4u : 0u);
            lt_copy_drop(mail.copy, 1);
            seen++;
        }
        cr_assert_eq(seen, 36);
        lt_mailbox_fini(&b);
    }
    cr_assert_eq(box_blocks, 0);
}

static uint64_t box_random(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

// Against a list that is searched: one of each key, in the place of its first, the oldest go.
Test(mailbox, the_latest_of_each_key_as_a_plain_list_has_it) {
    uint64_t x = 88172645463325252u;
    for (int room = 1; room < 60; room += 7) {
        struct lt_mailbox b;
        struct {
            int key, value;
        } list[64];
        int n = 0, lost = 0;
        box_init(&b, room, INT64_MAX, LEAT_KEEP_LATEST);
        for (int i = 0; i < 2000; i++) {
            int key = (int)(box_random(&x) % 80), at = 0;
            if (box_random(&x) % 3 == 0 && n > 0) {
                struct lt_mail mail = lt_mailbox_take(&b);
                cr_assert_eq(atoi(mail.copy->m.value.data), list[0].value);
                lt_copy_drop(mail.copy, 1);
                memmove(list, list + 1, (size_t)--n * sizeof list[0]);
            }
            char text[64];
            snprintf(text, sizeof text, "c %d %d", key, i);
            cr_assert_str_eq(box_put(&b, text), "t");
            while (at < n && list[at].key != key)
                at++;
            if (at == n && n == room) {
                memmove(list, list + 1, (size_t)--n * sizeof list[0]);
                at--;
                lost++;
            }
            list[at].key = key;
            list[at].value = i;
            n += at == n ? 1 : 0;
            cr_assert_eq(lt_mailbox_count(&b), (uint64_t)n);
            cr_assert_eq(b.dropped, (uint64_t)lost);
        }
        lt_mailbox_fini(&b);
    }
    cr_assert_eq(box_blocks, 0);
}
