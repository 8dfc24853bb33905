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

static uint64_t add(enum lt_pin_kind kind) {
    uint64_t token = 0;
    thing_keep(&thing.pinned);
    cr_assert_eq(lt_pin_add(&mq, kind, &thing.pinned, &token), 0);
    cr_assert_neq(token, 0u);
    return token;
}

static uint64_t add_to(struct lt_pin_pool *pool) {
    uint64_t token = 0;
    thing_keep(&thing.pinned);
    lt_lock(&pool->lock);
    cr_assert_eq(lt_pin_add_locked(&mq, pool, LT_PIN_VIEW, &thing.pinned, &token), 0);
    lt_unlock(&pool->lock);
    return token;
}

static struct lt_pinned *take(struct lt_pin_pool *pool, uint64_t token) {
    lt_lock(&pool->lock);
    struct lt_pinned *obj = lt_pin_take_locked(&mq, pool, token);
    lt_unlock(&pool->lock);
    if (obj)
        obj->drop(obj);
    return obj;
}

enum { EVERY = LT_PIN_POLL | LT_PIN_VIEW | LT_PIN_HELD };

Test(pins, end_once_and_only_as_what_they_are) {
    open_core();
    uint64_t poll = add(LT_PIN_POLL), view = add(LT_PIN_VIEW), held = add(LT_PIN_HELD);
    cr_assert(poll != view && view != held && poll != held);
    cr_assert_eq(lt_pin_count(&mq, EVERY), 3u);
    cr_assert_eq(lt_pin_count(&mq, LT_PIN_VIEW | LT_PIN_HELD), 2u);
    cr_assert_eq(lt_pin_end(&mq, poll, LT_PIN_VIEW | LT_PIN_HELD), LEAT_EINVAL);
    cr_assert_eq(atomic_load(&thing.refs), 3);
    cr_assert_eq(lt_pin_end(&mq, poll, LT_PIN_POLL), 0);
    cr_assert_eq(lt_pin_end(&mq, poll, EVERY), LEAT_ESTALE);
    cr_assert_eq(lt_pin_end(&mq, view, EVERY), 0);
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
    uint64_t first = add(LT_PIN_POLL), second = lt_pin_renew(&mq, first);
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
            old[round * N + i] = now[i] = add(LT_PIN_VIEW);
        for (int i = 0; i < N; i++) // not in order
            cr_assert_eq(lt_pin_end(&mq, now[i * 77 % N], EVERY), 0);
    }
    for (int i = 0; i < N; i++)
        now[i] = add(LT_PIN_VIEW);
    for (int i = 0; i < N * 10; i++)
        cr_assert_eq(lt_pin_end(&mq, old[i], EVERY), LEAT_ESTALE, "token %d of old", i);
    cr_assert_eq(lt_pin_count(&mq, LT_PIN_VIEW), (uint32_t)N);
    lt_pin_end_all(&mq);
    cr_assert_eq(lt_pin_count(&mq, EVERY), 0u);
    cr_assert_eq(atomic_load(&thing.refs), 0);
    for (int i = 0; i < N; i++)
        cr_assert_eq(lt_pin_end(&mq, now[i], EVERY), LEAT_ESTALE);
    cr_assert_eq(lt_pin_end(&mq, add(LT_PIN_HELD), LT_PIN_HELD), 0);
    lt_core_fini(&mq);
}

Test(pins, of_a_pool_end_by_its_owner_or_by_their_token) {
    open_core();
    struct lt_pin_pool *a, *b;
    cr_assert_eq(lt_pin_pool_open(&mq, &a), 0);
    cr_assert_eq(lt_pin_pool_open(&mq, &b), 0);
    uint64_t of_none = add(LT_PIN_HELD), first = add_to(a), second = add_to(a), other = add_to(b);
    cr_assert(lt_pin_is_of(&mq, a, first) && lt_pin_is_of(&mq, a, second));
    cr_assert(!lt_pin_is_of(&mq, a, other) && !lt_pin_is_of(&mq, a, of_none));
    cr_assert(!lt_pin_is_of(&mq, a, 0) && !lt_pin_is_of(&mq, a, UINT64_MAX));
    cr_assert_eq(lt_pin_pool_out(a), 2u);
    cr_assert_null(take(a, other), "of another pool");
    cr_assert_null(take(a, of_none));
    cr_assert_eq(take(a, first), &thing.pinned);
    cr_assert_null(take(a, first));
    cr_assert_eq(lt_pin_end(&mq, first, EVERY), LEAT_ESTALE);
    cr_assert_eq(lt_pin_keep(&mq, second), &thing.pinned);
    thing_drop(&thing.pinned);
    cr_assert_eq(lt_pin_end(&mq, second, LT_PIN_VIEW), 0);
    cr_assert_null(take(a, second));
    cr_assert_eq(lt_pin_pool_out(a), 0u);
    cr_assert_eq(lt_pin_pool_out(b), 1u);
    cr_assert_eq(lt_pin_count(&mq, EVERY), 2u);
    lt_pin_end_all(&mq);
    cr_assert_eq(atomic_load(&thing.refs), 0);
    cr_assert_null(take(b, other));
    lt_core_fini(&mq);
}

Test(pins, of_a_pool_that_is_closed_stay_stale_for_its_next_owner) {
    open_core();
    struct lt_pin_pool *pool, *again;
    cr_assert_eq(lt_pin_pool_open(&mq, &pool), 0);
    uint64_t old = add_to(pool);
    cr_assert_not_null(take(pool, old));
    lt_pin_pool_close(&mq, pool);
    cr_assert_eq(lt_pin_end(&mq, old, EVERY), LEAT_ESTALE);
    cr_assert_eq(lt_pin_pool_open(&mq, &again), 0);
    cr_assert_eq(again, pool, "what is idle is used again");
    uint64_t now = add_to(again);
    cr_assert_eq(now >> 40, old >> 40, "the same slot");
    cr_assert_null(take(again, old));
    cr_assert_eq(lt_pin_end(&mq, old, EVERY), LEAT_ESTALE);
    cr_assert_eq(lt_pin_end(&mq, now, EVERY), 0);
    lt_core_fini(&mq);
}

Test(pins, are_bounded) {
    open_core();
    uint64_t token = 0, last = 0;
    for (int i = 0; i < LT_PINS_MAX; i++)
        last = add(LT_PIN_VIEW);
    thing_keep(&thing.pinned);
    cr_assert_eq(lt_pin_add(&mq, LT_PIN_VIEW, &thing.pinned, &token), LEAT_EFULL);
    cr_assert_eq(atomic_load(&thing.refs), LT_PINS_MAX + 1, "the reference stays the caller's");
    cr_assert_eq(lt_pin_end(&mq, last, EVERY), 0);
    cr_assert_eq(lt_pin_add(&mq, LT_PIN_VIEW, &thing.pinned, &token), 0);
    lt_pin_end_all(&mq);
    cr_assert_eq(atomic_load(&thing.refs), 0);
    lt_core_fini(&mq);
}

static void *churn(void *ctx) {
    for (int i = 0; i < 3000; i++) {
        uint64_t token = 0;
        thing_keep(&thing.pinned);
        if (lt_pin_add(&mq, LT_PIN_HELD, &thing.pinned, &token) != 0) {
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
