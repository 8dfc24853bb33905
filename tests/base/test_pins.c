/* SPDX-License-Identifier: MIT */
// Tokens of views: valid once, stale for ever, and every reference goes back.
#include "base/core.h"
#include "base/pins.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static leat mq;

struct thing {
    struct lt_pinned pinned;
    atomic_int refs;
};

static void thing_keep(struct lt_pinned *obj) {
    atomic_fetch_add(&LT_CONTAINER(obj, struct thing, pinned)->refs, 1);
}

static void thing_drop(struct lt_pinned *obj) {
    atomic_fetch_sub(&LT_CONTAINER(obj, struct thing, pinned)->refs, 1);
}

static struct thing thing = { { thing_keep, thing_drop }, 0 };

static void open_core(void) {
    memset(&mq, 0, sizeof mq);
    cr_assert_eq(lt_core_init(&mq, &(leat_options){ .seed = 1 }, lt_os_system()), 0);
    atomic_store(&thing.refs, 0);
}

static uint64_t add(enum lt_pin_kind kind, uint32_t *owner) {
    uint64_t token = 0;
    thing_keep(&thing.pinned);
    cr_assert_eq(lt_pin_add(&mq, kind, &thing.pinned, owner, &token), 0);
    cr_assert_neq(token, 0u);
    return token;
}

enum { EVERY = LT_PIN_POLL | LT_PIN_VIEW | LT_PIN_HELD };

Test(pins, end_once_and_only_as_what_they_are) {
    open_core();
    uint32_t owner = 0;
    uint64_t poll = add(LT_PIN_POLL, NULL), view = add(LT_PIN_VIEW, &owner),
             held = add(LT_PIN_HELD, NULL);
    cr_assert(poll != view && view != held && poll != held);
    cr_assert_eq(owner, 1u);
    cr_assert_eq(lt_pin_owned(&mq, &owner), 1u);
    cr_assert_eq(lt_pin_count(&mq, EVERY), 3u);
    cr_assert_eq(lt_pin_count(&mq, LT_PIN_VIEW | LT_PIN_HELD), 2u);
    cr_assert_eq(lt_pin_end(&mq, poll, LT_PIN_VIEW | LT_PIN_HELD), LEAT_EINVAL);
    cr_assert_eq(atomic_load(&thing.refs), 3);
    cr_assert_eq(lt_pin_end(&mq, poll, LT_PIN_POLL), 0);
    cr_assert_eq(lt_pin_end(&mq, poll, EVERY), LEAT_ESTALE);
    cr_assert_eq(lt_pin_end(&mq, view, EVERY), 0);
    cr_assert_eq(owner, 0u);
    cr_assert_eq(lt_pin_end(&mq, held, EVERY), 0);
    cr_assert_eq(atomic_load(&thing.refs), 0);
    cr_assert_eq(lt_pin_count(&mq, EVERY), 0u);
    static const uint64_t forged[] = { 0, 1, UINT64_MAX, UINT64_C(1) << 40, UINT64_C(77) << 40 };
    for (size_t i = 0; i < sizeof forged / sizeof forged[0]; i++) {
        cr_assert_null(lt_pin_keep(&mq, forged[i]));
        cr_assert_eq(lt_pin_end(&mq, forged[i], EVERY), LEAT_ESTALE);
    }
    lt_core_fini(&mq);
}

Test(pins, renewing_makes_the_old_token_stale_and_keeps_the_pin) {
    open_core();
    uint64_t first = add(LT_PIN_POLL, NULL), second = lt_pin_renew(&mq, first);
    cr_assert_neq(first, second);
    cr_assert_null(lt_pin_keep(&mq, first));
    cr_assert_eq(lt_pin_keep(&mq, second), &thing.pinned);
    cr_assert_eq(atomic_load(&thing.refs), 2);
    thing_drop(&thing.pinned);
    cr_assert_eq(lt_pin_end(&mq, first, EVERY), LEAT_ESTALE);
    cr_assert_eq(lt_pin_end(&mq, second, EVERY), 0);
    cr_assert_eq(atomic_load(&thing.refs), 0);
    lt_core_fini(&mq);
}

Test(pins, a_slot_is_used_again_with_another_token) {
    enum { N = 200 };
    open_core();
    static uint64_t old[N * 10];
    uint64_t now[N];
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < N; i++)
            old[round * N + i] = now[i] = add(LT_PIN_VIEW, NULL);
        for (int i = 0; i < N; i++) // not in order
            cr_assert_eq(lt_pin_end(&mq, now[i * 77 % N], EVERY), 0);
    }
    for (int i = 0; i < N; i++)
        now[i] = add(LT_PIN_VIEW, NULL);
    for (int i = 0; i < N * 10; i++)
        cr_assert_eq(lt_pin_end(&mq, old[i], EVERY), LEAT_ESTALE, "token %d of old", i);
    cr_assert_eq(lt_pin_count(&mq, LT_PIN_VIEW), (uint32_t)N);
    lt_pin_end_all(&mq);
    cr_assert_eq(lt_pin_count(&mq, EVERY), 0u);
    cr_assert_eq(atomic_load(&thing.refs), 0);
    for (int i = 0; i < N; i++)
        cr_assert_eq(lt_pin_end(&mq, now[i], EVERY), LEAT_ESTALE);
    cr_assert_eq(lt_pin_end(&mq, add(LT_PIN_HELD, NULL), LT_PIN_HELD), 0);
    lt_core_fini(&mq);
}

Test(pins, are_bounded) {
    open_core();
    uint64_t token = 0, last = 0;
    for (int i = 0; i < LT_PINS_MAX; i++)
        last = add(LT_PIN_VIEW, NULL);
    thing_keep(&thing.pinned);
    cr_assert_eq(lt_pin_add(&mq, LT_PIN_VIEW, &thing.pinned, NULL, &token), LEAT_EFULL);
    cr_assert_eq(atomic_load(&thing.refs), LT_PINS_MAX + 1, "the reference stays the caller's");
    cr_assert_eq(lt_pin_end(&mq, last, EVERY), 0);
    cr_assert_eq(lt_pin_add(&mq, LT_PIN_VIEW, &thing.pinned, NULL, &token), 0);
    lt_pin_end_all(&mq);
    cr_assert_eq(atomic_load(&thing.refs), 0);
    lt_core_fini(&mq);
}

static void *churn(void *ctx) {
    for (int i = 0; i < 3000; i++) {
        uint64_t token = 0;
        thing_keep(&thing.pinned);
        if (lt_pin_add(&mq, LT_PIN_HELD, &thing.pinned, NULL, &token) != 0) {
            ++*(int *)ctx;
            continue;
        }
        struct lt_pinned *obj = lt_pin_keep(&mq, token);
        *(int *)ctx += obj != &thing.pinned;
        if (obj)
            obj->drop(obj);
        *(int *)ctx += lt_pin_end(&mq, token, LT_PIN_HELD) != 0;
        *(int *)ctx += lt_pin_end(&mq, token, LT_PIN_HELD) != LEAT_ESTALE;
    }
    return NULL;
}

Test(pins, are_safe_from_many_threads) {
    open_core();
    pthread_t thread[4];
    int bad[4] = { 0 };
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, churn, &bad[i]), 0);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
        cr_assert_eq(bad[i], 0);
    }
    cr_assert_eq(atomic_load(&thing.refs), 0);
    cr_assert_eq(lt_pin_count(&mq, EVERY), 0u);
    lt_core_fini(&mq);
}
