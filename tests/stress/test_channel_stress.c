/* SPDX-License-Identifier: MIT */
// Four threads publish, subscribe and close at random, also inside callbacks. What must hold: fn
// never runs after on_end, on_end runs once for each subscription, and what publishers were told
// is what callbacks counted. A subscription's ctx is freed in its on_end, so that AddressSanitizer
// and ThreadSanitizer see any call that comes too late.
#include <leat.h>

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { STRESS_THREADS = 4, STRESS_OPS = 5000, STRESS_SLOTS = 32, STRESS_CHANNELS = 12 };

static leat *stress_mq, *stress_other; // the other's callback closes what belongs to the first
static pthread_barrier_t stress_start;
static _Atomic(leat_subscription *) stress_slot[STRESS_SLOTS]; // who takes it out closes it
static atomic_long stress_made, stress_ended, stress_late, stress_failures, stress_calls,
    stress_heard;

static _Thread_local uint32_t stress_chance;
static _Thread_local int stress_depth;

static uint32_t stress_below(uint32_t n) {
    stress_chance = stress_chance * 1664525u + 1013904223u;
    return (stress_chance >> 8) % n;
}

struct stress_ear {
    atomic_int running, ended;
};

static void stress_publish(void) {
    char name[8];
    snprintf(name, sizeof name, "c%u", stress_below(STRESS_CHANNELS));
    int heard = leat_publish(stress_mq, name, "xy", 2);
    atomic_fetch_add(heard < 0 ? &stress_failures : &stress_heard, heard < 0 ? 1 : heard);
}

static void stress_close(leat_subscription *s) {
    if (s && leat_subscription_close(s, 0) != 0)
        atomic_fetch_add(&stress_failures, 1);
}

static void stress_ear_ended(void *ctx) {
    struct stress_ear *ear = ctx;
    if (atomic_load(&ear->running) != 0 || atomic_exchange(&ear->ended, 1) != 0)
        atomic_fetch_add(&stress_late, 1);
    atomic_fetch_add(&stress_ended, 1);
    free(ear);
}

static void stress_hear(leat_subscription *s, const leat_message *m, void *ctx);

static void stress_subscribe(void) {
    static const char *const patterns[] = { "c*", "c[0-2]*", "?1" };
    char name[8];
    uint32_t k = stress_below(STRESS_CHANNELS + 3);
    if (k < STRESS_CHANNELS)
        snprintf(name, sizeof name, "c%u", k);
    else
        snprintf(name, sizeof name, "%s", patterns[k - STRESS_CHANNELS]);
    struct stress_ear *ear = calloc(1, sizeof *ear);
    leat_subscription_options o = { .on_end = stress_ear_ended };
    leat_subscription *s;
    if (!ear || leat_channel_subscribe(stress_mq, name, stress_hear, ear, &o, &s) != 0) {
        atomic_fetch_add(&stress_failures, 1);
        free(ear);
        return;
    }
    atomic_fetch_add(&stress_made, 1);
    stress_close(atomic_exchange(&stress_slot[stress_below(STRESS_SLOTS)], s));
}

static void stress_hear(leat_subscription *s, const leat_message *m, void *ctx) {
    struct stress_ear *ear = ctx;
    atomic_fetch_add(&ear->running, 1);
    if (atomic_load(&ear->ended) || m->value.size != 2 || m->topic[0] != 'c')
        atomic_fetch_add(&stress_late, 1);
    atomic_fetch_add(&stress_calls, 1);
    stress_depth++;
    uint32_t what = stress_below(40);
    if (what == 0) { // itself, if it is still there to be closed
        for (int i = 0; i < STRESS_SLOTS; i++) {
            leat_subscription *mine = s;
            if (atomic_compare_exchange_strong(&stress_slot[i], &mine, NULL))
                stress_close(s);
        }
    } else if (what == 1) {
        stress_close(atomic_exchange(&stress_slot[stress_below(STRESS_SLOTS)], NULL));
    } else if (what == 2) {
        stress_subscribe();
    } else if (what < 6 && stress_depth < 3) {
        stress_publish();
    }
    stress_depth--;
    if (atomic_load(&ear->ended))
        atomic_fetch_add(&stress_late, 1);
    atomic_fetch_sub(&ear->running, 1);
}

static void stress_hear_other(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    (void)ctx;
    stress_close(atomic_exchange(&stress_slot[stress_below(STRESS_SLOTS)], NULL));
}

static void *stress_run(void *ctx) {
    stress_chance = (uint32_t)(uintptr_t)ctx;
    (void)pthread_barrier_wait(&stress_start);
    for (int i = 0; i < STRESS_OPS; i++) {
        uint32_t what = stress_below(12);
        if (what < 2)
            stress_subscribe();
        else if (what == 2)
            (void)leat_publish(stress_other, "x", "", 0);
        else if (what == 3)
            stress_close(atomic_exchange(&stress_slot[stress_below(STRESS_SLOTS)], NULL));
        else
            stress_publish();
    }
    return NULL;
}

static void stress_round(uintptr_t seed, bool close_all) {
    cr_assert_eq(leat_open_memory(NULL, &stress_mq), 0, "%s", leat_errmsg());
    cr_assert_eq(leat_open_memory(NULL, &stress_other), 0, "%s", leat_errmsg());
    leat_subscription *other;
    int rc = leat_channel_subscribe(stress_other, "x", stress_hear_other, NULL, NULL, &other);
    cr_assert_eq(rc, 0, "%s", leat_errmsg());
    atomic_store(&stress_made, 0);
    atomic_store(&stress_ended, 0);
    cr_assert_eq(pthread_barrier_init(&stress_start, NULL, STRESS_THREADS), 0);
    pthread_t thread[STRESS_THREADS];
    for (uintptr_t i = 0; i < STRESS_THREADS; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, stress_run, (void *)(seed * 8 + i)), 0);
    for (int i = 0; i < STRESS_THREADS; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    (void)pthread_barrier_destroy(&stress_start);
    for (int i = 0; i < STRESS_SLOTS; i++) {
        leat_subscription *s = atomic_exchange(&stress_slot[i], NULL);
        if (!close_all)
            stress_close(s);
    }
    cr_assert_eq(close_all ? leat_close_all(stress_mq, 0) : leat_close(stress_mq, 0), 0, "%s",
                 leat_errmsg());
    cr_assert_eq(leat_close_all(stress_other, 0), 0, "%s", leat_errmsg());
    cr_assert_gt(atomic_load(&stress_made), STRESS_OPS / 4);
    cr_assert_eq(atomic_load(&stress_ended), atomic_load(&stress_made));
    cr_assert_eq(atomic_load(&stress_late), 0, "%ld calls beside an end",
                 atomic_load(&stress_late));
    cr_assert_eq(atomic_load(&stress_failures), 0);
    cr_assert_gt(atomic_load(&stress_calls), STRESS_OPS);
    cr_assert_eq(atomic_load(&stress_heard), atomic_load(&stress_calls));
}

Test(channel_stress, ends_are_once_and_last_and_counts_agree) {
    for (uintptr_t seed = 1; seed <= 16; seed++)
        stress_round(seed, seed % 2 == 0);
}
