/* SPDX-License-Identifier: MIT */
// Mutexes and conditions: exclusion, news, and deadlines on the monotonic clock.
#include "base/sync.h"

#include <criterion/criterion.h>
#include <pthread.h>

static struct lt_mutex low, high;
static struct lt_cond cond;
static long counter;
static int stage; // guarded by low

static void make_locks(void) {
    cr_assert_eq(lt_mutex_init(&low, LT_RANK_GROUP), 0);
    cr_assert_eq(lt_mutex_init(&high, LT_RANK_LEAF), 0);
    cr_assert_eq(lt_cond_init(&cond), 0);
    counter = stage = 0;
}

static void drop_locks(void) {
    lt_cond_fini(&cond);
    lt_mutex_fini(&high);
    lt_mutex_fini(&low);
}

static void *count_up(void *ctx) {
    (void)ctx;
    for (int i = 0; i < 20000; i++) {
        lt_lock(&low);
        lt_lock(&high); // a thread only climbs
        counter++;
        lt_unlock(&low); // and may let go in any order
        lt_unlock(&high);
    }
    return NULL;
}

Test(sync, a_mutex_excludes, .init = make_locks, .fini = drop_locks) {
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, count_up, NULL), 0);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    cr_assert_eq(counter, 80000);
}

static void *count_up_busy(void *ctx) {
    (void)ctx;
    for (int i = 0; i < 20000; i++) {
        lt_lock_busy(&low);
        if (i % 4 == 0)
            lt_lock_busy(&high);
        counter++;
        if (i % 4 == 0)
            lt_unlock(&high);
        if (i % 5000 == 0)
            lt_linger(100000); // longer than the others stay away: they sleep
        lt_unlock(&low);
    }
    return NULL;
}

Test(sync, a_busy_mutex_excludes_those_who_stay_away_and_those_who_sleep, .init = make_locks,
     .fini = drop_locks) {
    pthread_t thread[4];
    (void)count_up_busy(NULL); // alone, before there are threads
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, count_up_busy, NULL), 0);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    cr_assert_eq(counter, 100000);
}

static void *answer(void *ctx) {
    (void)ctx;
    lt_lock(&low);
    for (int i = 0; i < 100; i++) {
        while (stage % 2 == 0)
            lt_cond_wait(&cond, &low);
        stage++;
        lt_cond_signal(&cond);
    }
    lt_unlock(&low);
    return NULL;
}

Test(sync, a_condition_hands_over, .init = make_locks, .fini = drop_locks) {
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, answer, NULL), 0);
    lt_lock(&low);
    for (int i = 0; i < 100; i++) {
        stage++;
        lt_cond_broadcast(&cond);
        bool in_time = true;
        int64_t limit = lt_real_ns() + INT64_C(20000000000);
        while (stage % 2 == 1 && in_time)
            in_time = lt_cond_wait_until(&cond, &low, i % 2 ? limit : INT64_MAX);
        if (stage % 2 == 1)
            break;
    }
    int reached = stage;
    lt_unlock(&low);
    cr_assert_eq(reached, 200);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

Test(sync, a_wait_ends_at_its_time_and_not_before, .init = make_locks, .fini = drop_locks) {
    lt_lock(&low);
    int64_t until = lt_real_ns() + 3000000;
    while (lt_cond_wait_until(&cond, &low, until)) {
    }
    int64_t now = lt_real_ns();
    bool past = lt_cond_wait_until(&cond, &low, now - 1);
    bool begin = lt_cond_wait_until(&cond, &low, 0);
    lt_unlock(&low);
    cr_assert_geq(now, until);
    cr_assert(!past && !begin, "what is over is over");
    int64_t last = now;
    for (int i = 0; i < 1000; i++) {
        now = lt_real_ns();
        cr_assert_geq(now, last);
        last = now;
    }
}
