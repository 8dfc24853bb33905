/* SPDX-License-Identifier: MIT */
// Turns: one does it for all who came before it began; nobody is left waiting.
#include "base/turns.h"

#include <criterion/criterion.h>
#include <sched.h>

enum { THREADS = 8, ROUNDS = 2000 };

static struct lt_turns turns;
static struct lt_mutex lock; // guards turns and all below
static int64_t asked, covered, done_to;
static int waiting, begun_at_once, most_at_once;
static bool given_up;

static void begin_all(void) {
    asked = covered = done_to = 0;
    waiting = begun_at_once = most_at_once = 0;
    given_up = false;
    cr_assert_eq(lt_mutex_init(&lock, LT_RANK_PARTITION), 0);
    cr_assert_eq(lt_turns_init(&turns), 0);
}

static void end_all(void) {
    lt_turns_fini(&turns);
    lt_mutex_fini(&lock);
}

static void lead(void) {
    (void)lt_turns_begin(&turns);
    int64_t upto = covered = asked;
    begun_at_once++;
    most_at_once = begun_at_once > most_at_once ? begun_at_once : most_at_once;
    lt_unlock(&lock);
    (void)sched_yield();
    lt_lock(&lock);
    begun_at_once--;
    lt_turns_end(&turns);
    done_to = upto;
}

static void wait_turn(bool ours) {
    waiting++;
    lt_turns_wait(&turns, &lock, ours);
    waiting--;
}

static void ask(void) {
    lt_lock(&lock);
    for (int64_t mine = ++asked; done_to < mine && !given_up;) {
        if (turns.under_way)
            wait_turn(mine <= covered);
        else
            lead();
    }
    lt_turns_unlock(&turns, &lock);
}

static void *ask_once(void *arg) {
    ask();
    return arg;
}

static void *ask_often(void *arg) {
    for (int i = 0; i < ROUNDS; i++)
        ask();
    return arg;
}

// On return that many wait, and the lock is held.
static void lock_when_they_wait(int n) {
    lt_lock(&lock);
    while (waiting < n) {
        lt_unlock(&lock);
        (void)sched_yield();
        lt_lock(&lock);
    }
}

static void start(pthread_t thread[THREADS], int n, void *(*fn)(void *)) {
    for (int i = 0; i < n; i++)
        cr_assert_eq(lt_thread_start(&thread[i], fn, NULL), 0);
}

static void join(pthread_t thread[THREADS], int n) {
    for (int i = 0; i < n; i++)
        lt_thread_join(thread[i]);
}

Test(turns, one_at_a_time_does_it_for_all_and_all_go_on, .init = begin_all, .fini = end_all) {
    pthread_t thread[THREADS];
    start(thread, THREADS, ask_often);
    join(thread, THREADS);
    cr_assert_eq(done_to, THREADS * ROUNDS);
    cr_assert_eq(most_at_once, 1);
    cr_assert_leq(turns.number, THREADS * ROUNDS);
    cr_assert(!turns.under_way);
}

Test(turns, who_waits_for_the_end_and_who_waits_for_the_next_go_on, .init = begin_all,
     .fini = end_all) {
    pthread_t ours[THREADS], next[THREADS];
    lt_lock(&lock);
    (void)lt_turns_begin(&turns);
    covered = 3;
    lt_unlock(&lock);
    start(ours, 3, ask_once);
    lock_when_they_wait(3);
    lt_unlock(&lock);
    start(next, 4, ask_once);
    lock_when_they_wait(7);
    done_to = 3;
    lt_turns_end(&turns);
    lt_turns_unlock(&turns, &lock);
    join(ours, 3);
    join(next, 4);
    cr_assert_eq(turns.number, 2, "one turn does for all who waited for it");
    cr_assert_eq(done_to, 7);
}

Test(turns, who_leaves_without_a_turn_lets_the_others_know, .init = begin_all, .fini = end_all) {
    pthread_t next[THREADS];
    lt_lock(&lock);
    (void)lt_turns_begin(&turns);
    lt_unlock(&lock);
    start(next, 4, ask_once);
    lock_when_they_wait(4);
    given_up = true;
    lt_turns_end(&turns);
    lt_turns_unlock(&turns, &lock);
    join(next, 4);
    cr_assert_eq(turns.number, 1);
}

Test(turns, who_begins_again_at_once_lets_them_know_before, .init = begin_all, .fini = end_all) {
    pthread_t ours[THREADS];
    lt_lock(&lock);
    (void)lt_turns_begin(&turns);
    covered = 3;
    lt_unlock(&lock);
    start(ours, 3, ask_once);
    lock_when_they_wait(3);
    done_to = 3;
    lt_turns_end(&turns);
    cr_assert_eq(lt_turns_begin(&turns), 2);
    lt_unlock(&lock);
    join(ours, 3);
    lt_lock(&lock);
    lt_turns_end(&turns);
    lt_turns_unlock(&turns, &lock);
}
