/* SPDX-License-Identifier: MIT */
// The clocks: what falls due and in which order, how calls wait on each of them, and that no wait
// outlives its reason.
#include "base/core.h"
#include "leat_test.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define MS      INT64_C(1000000)
#define SOON_MS 20000 // bound of what must happen soon, in real time

static leat mq;

static void open_core(int32_t clock) {
    leat_options o = { .clock = clock, .threads = LEAT_NO_THREADS, .seed = 1 };
    memset(&mq, 0, sizeof mq);
    cr_assert_eq(lt_core_init(&mq, &o, lt_os_system()), 0);
}

static void close_core(void) {
    lt_core_fini(&mq);
}

// ---- what falls due

struct timer {
    struct lt_due due;
    int number, fired;
    int64_t fired_at, again; // again: plan anew this much later
};

static int order[64], order_count;

static void timer_fire(leat *store, struct lt_due *due) {
    struct timer *timer = LT_CONTAINER(due, struct timer, due);
    timer->fired++;
    timer->fired_at = lt_now_ns(store);
    if (order_count < 64)
        order[order_count++] = timer->number;
    if (timer->again > 0)
        lt_due_set(store, due, lt_now_ns(store) + timer->again);
}

static void make_timers(struct timer *timer, int n) {
    order_count = 0;
    for (int i = 0; i < n; i++) {
        timer[i] = (struct timer){ .number = i };
        cr_assert_eq(lt_due_init(&mq, &timer[i].due, timer_fire), 0);
    }
}

static void end_timers(struct timer *timer, int n) {
    for (int i = 0; i < n; i++)
        lt_due_end(&mq, &timer[i].due);
}

Test(clock, fires_in_order_of_due_time_then_of_planning_each_at_its_own_time) {
    open_core(LEAT_CLOCK_MANUAL);
    static const int64_t at[] = { 30, 10, 20, 10, 40, 10, 0 };
    static const int expect[] = { 6, 1, 3, 5, 2, 0 };
    struct timer timer[7];
    make_timers(timer, 7);
    for (int i = 0; i < 7; i++)
        lt_due_set(&mq, &timer[i].due, at[i] * MS);
    cr_assert_eq(leat_clock_advance(&mq, 30), 0);
    cr_assert_eq(order_count, 6);
    for (int i = 0; i < 6; i++) {
        cr_assert_eq(order[i], expect[i], "place %d: %d", i, order[i]);
        cr_assert_eq(timer[order[i]].fired_at, at[order[i]] * MS, "the clock stops at each");
    }
    cr_assert_eq(leat_clock_advance(&mq, 9), 0);
    cr_assert_eq(timer[4].fired, 0);
    cr_assert_eq(leat_clock_advance(&mq, 1), 0);
    cr_assert_eq(timer[4].fired, 1);
    cr_assert_eq(leat_clock_advance(&mq, 1000000), 0);
    cr_assert_eq(order_count, 7, "each once");
    end_timers(timer, 7);
    close_core();
}

Test(clock, a_plan_can_be_moved_and_cancelled_and_made_anew_when_it_fires) {
    open_core(LEAT_CLOCK_MANUAL);
    struct timer timer[3];
    make_timers(timer, 3);
    lt_due_set(&mq, &timer[0].due, 10 * MS);
    lt_due_set(&mq, &timer[1].due, 10 * MS);
    lt_due_set(&mq, &timer[0].due, 20 * MS);
    lt_due_set(&mq, &timer[1].due, LT_NEVER);
    lt_due_set(&mq, &timer[1].due, LT_NEVER); // twice is harmless
    timer[2].again = 7 * MS;
    lt_due_set(&mq, &timer[2].due, 7 * MS);
    cr_assert_eq(leat_clock_advance(&mq, 30), 0);
    cr_assert_eq(timer[0].fired, 1);
    cr_assert_eq(timer[0].fired_at, 20 * MS);
    cr_assert_eq(timer[1].fired, 0);
    cr_assert_eq(timer[2].fired, 4);
    cr_assert_eq(timer[2].fired_at, 28 * MS);
    end_timers(timer, 3);
    cr_assert_eq(leat_clock_advance(&mq, 100), 0);
    cr_assert_eq(timer[2].fired, 4, "ended");
    close_core();
}

Test(clock, manual_time_is_what_advance_and_set_wall_make_it) {
    open_core(LEAT_CLOCK_MANUAL);
    int64_t mono = -1, wall = -1;
    cr_assert_eq(leat_clock_now(&mq, &mono, &wall), 0);
    cr_assert_eq(mono, 0);
    cr_assert_eq(wall, INT64_C(1000000000000));
    cr_assert_eq(leat_clock_advance(&mq, 0), 0);
    cr_assert_eq(leat_clock_advance(&mq, 1500), 0);
    cr_assert_eq(leat_clock_now(&mq, &mono, NULL), 0);
    cr_assert_eq(mono, 1500);
    cr_assert_eq(leat_clock_now(&mq, NULL, &wall), 0);
    cr_assert_eq(wall, INT64_C(1000000001500));
    cr_assert_eq(leat_clock_set_wall(&mq, 77), 0);
    cr_assert_eq(leat_clock_now(&mq, &mono, &wall), 0);
    cr_assert_eq(mono, 1500, "the monotonic clock does not move");
    cr_assert_eq(wall, 77);
    cr_assert_eq(leat_clock_advance(&mq, 3), 0);
    cr_assert_eq(leat_clock_now(&mq, NULL, &wall), 0);
    cr_assert_eq(wall, 80);
    cr_assert_eq(leat_clock_advance(&mq, -1), LEAT_EINVAL);
    cr_assert_eq(leat_clock_advance(&mq, INT64_MAX), LEAT_EINVAL);
    cr_assert_eq(leat_clock_set_wall(&mq, -1), LEAT_EINVAL);
    cr_assert_eq(leat_clock_advance(NULL, 1), LEAT_EINVAL);
    cr_assert_eq(leat_clock_wait_blocked(&mq, 0, 0), 0);
    cr_assert_eq(leat_clock_wait_blocked(&mq, 1, -7), LEAT_EINVAL);
    cr_assert_eq(leat_clock_wait_blocked(&mq, 1, 1), LEAT_ETIMEDOUT);
    close_core();
    open_core(LEAT_CLOCK_SYSTEM);
    cr_assert_eq(leat_clock_advance(&mq, 1), LEAT_EINVAL);
    cr_assert_eq(leat_clock_set_wall(&mq, 1), LEAT_EINVAL);
    cr_assert_eq(leat_clock_wait_blocked(&mq, 1, 0), LEAT_EINVAL);
    cr_assert_eq(leat_clock_now(&mq, &mono, &wall), 0);
    cr_assert(mono >= 0 && mono < 3600000, "since the store was opened");
    cr_assert_gt(wall, INT64_C(1500000000000));
    close_core();
}

Test(clock, adding_a_duration_saturates) {
    cr_assert_eq(lt_add_ms(5, 0), 5);
    cr_assert_eq(lt_add_ms(5, 2), 5 + 2 * MS);
    cr_assert_eq(lt_add_ms(5, LEAT_FOREVER), LT_NEVER);
    cr_assert_eq(lt_add_ms(5, INT64_MAX), LT_NEVER);
    cr_assert_eq(lt_add_ms(INT64_MAX - 1, 1), LT_NEVER);
    cr_assert_eq(lt_add_ms(0, INT64_MAX / MS), INT64_MAX / MS * MS);
    cr_assert_eq(lt_add_ms(0, INT64_MAX / MS + 1), LT_NEVER);
}

// ---- waiting

struct sleeper {
    struct lt_waiter waiter;
    int64_t deadline_ns;
    int rc, rounds; // rounds: how many times lt_wait returned 0 before
    bool until_news;
    atomic_bool news;
    pthread_t thread;
};

// Waits as a call of leat does: again and again until its reason is there.
static void *sleeper_run(void *ctx) {
    struct sleeper *s = ctx;
    for (;;) {
        lt_waiter_arm(&mq, &s->waiter);
        if (atomic_load(&s->news)) {
            s->rc = 0;
            return NULL;
        }
        s->rc = lt_wait(&mq, &s->waiter, s->deadline_ns);
        if (s->rc != 0)
            return NULL;
        s->rounds++;
    }
}

static void sleeper_start(struct sleeper *s, int64_t deadline_ns) {
    *s = (struct sleeper){ .deadline_ns = deadline_ns, .rc = -99 };
    cr_assert_eq(lt_waiter_init(&mq, &s->waiter), 0);
    cr_assert_eq(pthread_create(&s->thread, NULL, sleeper_run, s), 0);
}

static void sleeper_tell(struct sleeper *s) {
    atomic_store(&s->news, true);
    lt_waiter_notify(&mq, &s->waiter);
}

static int sleeper_join(struct sleeper *s) {
    cr_assert_eq(pthread_join(s->thread, NULL), 0);
    lt_waiter_fini(&mq, &s->waiter);
    return s->rc;
}

// Waits until n callers sleep, on whichever clock.
static void until_blocked(int n) {
    struct lt_clock *c = &mq.clock;
    bool in_time = true;
    int64_t limit = lt_add_ms(lt_real_ns(), SOON_MS);
    lt_lock(&c->lock);
    while (c->blocked_count < n && in_time)
        in_time = lt_cond_wait_until(&c->changed, &c->lock, limit);
    int blocked = c->blocked_count;
    lt_unlock(&c->lock);
    cr_assert_geq(blocked, n);
}

Test(clock, waits_on_a_manual_clock_end_at_their_deadline_in_order_and_advance_waits_for_them) {
    enum { SLEEPERS = 8 };
    open_core(LEAT_CLOCK_MANUAL);
    struct sleeper s[SLEEPERS];
    for (int i = 0; i < SLEEPERS; i++)
        sleeper_start(&s[i], (i + 1) * 10 * MS);
    for (int i = 0; i < SLEEPERS; i++) {
        cr_assert_eq(leat_clock_wait_blocked(&mq, SLEEPERS - i, SOON_MS), 0);
        cr_assert_eq(leat_clock_advance(&mq, 9), 0);
        cr_assert_eq(leat_clock_wait_blocked(&mq, SLEEPERS - i, 0), 0, "nobody left early");
        cr_assert_eq(leat_clock_advance(&mq, 1), 0);
        cr_assert_eq(leat_clock_wait_blocked(&mq, SLEEPERS - i, 0), LEAT_ETIMEDOUT,
                     "advance came back before the wait had ended");
        cr_assert_eq(sleeper_join(&s[i]), LEAT_ETIMEDOUT);
    }
    close_core();
}

Test(clock, news_ends_a_wait_also_when_it_came_before) {
    static const int32_t clocks[] = { LEAT_CLOCK_SYSTEM, LEAT_CLOCK_MANUAL };
    for (int k = 0; k < 2; k++) {
        open_core(clocks[k]);
        for (int i = 0; i < 300; i++) {
            struct sleeper s;
            sleeper_start(&s, LT_NEVER);
            if (i % 3 == 0)
                until_blocked(1);
            sleeper_tell(&s);
            cr_assert_eq(sleeper_join(&s), 0);
        }
        struct lt_waiter w;
        cr_assert_eq(lt_waiter_init(&mq, &w), 0);
        lt_waiter_arm(&mq, &w);
        lt_waiter_notify(&mq, &w);
        cr_assert_eq(lt_wait(&mq, &w, LT_NEVER), 0, "news between arming and waiting counts");
        lt_waiter_arm(&mq, &w); // forgets it
        int64_t now = lt_now_ns(&mq);
        cr_assert_eq(lt_wait(&mq, &w, now), LEAT_ETIMEDOUT, "a deadline that is over");
        lt_waiter_fini(&mq, &w);
        cr_assert_eq(mq.clock.blocked_count, 0);
        cr_assert_eq(mq.clock.ready_count, 0);
        close_core();
    }
}

Test(clock, shutdown_ends_every_wait_and_every_later_one) {
    static const int32_t clocks[] = { LEAT_CLOCK_SYSTEM, LEAT_CLOCK_MANUAL };
    for (int k = 0; k < 2; k++) {
        enum { SLEEPERS = 4 };
        open_core(clocks[k]);
        struct sleeper s[SLEEPERS], late;
        for (int i = 0; i < SLEEPERS; i++)
            sleeper_start(&s[i], i % 2 ? LT_NEVER : lt_add_ms(lt_now_ns(&mq), SOON_MS));
        until_blocked(SLEEPERS);
        atomic_store(&mq.shut, true);
        lt_wake_all(&mq);
        for (int i = 0; i < SLEEPERS; i++)
            cr_assert_eq(sleeper_join(&s[i]), LEAT_ECLOSED);
        sleeper_start(&late, LT_NEVER);
        cr_assert_eq(sleeper_join(&late), LEAT_ECLOSED);
        close_core();
    }
}

Test(clock, a_sleeper_of_the_system_clock_fires_what_falls_due_meanwhile) {
    open_core(LEAT_CLOCK_SYSTEM);
    struct timer timer[1];
    struct sleeper s;
    make_timers(timer, 1);
    lt_due_set(&mq, &timer[0].due, lt_now_ns(&mq) + 2 * MS);
    sleeper_start(&s, lt_now_ns(&mq) + 30 * MS);
    cr_assert_eq(sleeper_join(&s), LEAT_ETIMEDOUT);
    cr_assert_eq(timer[0].fired, 1);
    end_timers(timer, 1);
    close_core();
}

// Fires and tells: how a test learns that somebody fired it, without a sleep.
struct told {
    struct lt_due due;
    struct lt_mutex lock; // guards fired
    struct lt_cond cond;
    bool fired;
};

static void told_fire(leat *store, struct lt_due *due) {
    (void)store;
    struct told *t = LT_CONTAINER(due, struct told, due);
    lt_lock(&t->lock);
    t->fired = true;
    lt_cond_broadcast(&t->cond);
    lt_unlock(&t->lock);
}

static void told_init(struct told *t) {
    t->fired = false;
    cr_assert_eq(lt_mutex_init(&t->lock, LT_RANK_LEAF), 0);
    cr_assert_eq(lt_cond_init(&t->cond), 0);
    cr_assert_eq(lt_due_init(&mq, &t->due, told_fire), 0);
}

static bool told_in_time(struct told *t) {
    int64_t limit = lt_add_ms(lt_real_ns(), SOON_MS / 2);
    bool in_time = true;
    lt_lock(&t->lock);
    while (!t->fired && in_time)
        in_time = lt_cond_wait_until(&t->cond, &t->lock, limit);
    bool fired = t->fired;
    lt_unlock(&t->lock);
    return fired;
}

static void told_fini(struct told *t) {
    lt_due_end(&mq, &t->due);
    lt_cond_fini(&t->cond);
    lt_mutex_fini(&t->lock);
}

Test(clock, an_earlier_plan_wakes_a_sleeper_of_the_system_clock) {
    open_core(LEAT_CLOCK_SYSTEM);
    for (int i = 0; i < 50; i++) {
        struct told t;
        struct sleeper s;
        told_init(&t);
        if (i % 2)
            lt_due_set(&mq, &t.due, lt_add_ms(lt_now_ns(&mq), 10 * SOON_MS));
        sleeper_start(&s, LT_NEVER);
        if (i % 3)
            until_blocked(1);
        lt_due_set(&mq, &t.due, lt_now_ns(&mq) + MS / 2);
        cr_assert(told_in_time(&t), "nobody fired it");
        sleeper_tell(&s);
        cr_assert_eq(sleeper_join(&s), 0);
        told_fini(&t);
    }
    close_core();
}

Test(clock, when_the_sleeper_that_watches_leaves_another_takes_its_place) {
    open_core(LEAT_CLOCK_SYSTEM);
    enum { SLEEPERS = 3 };
    for (int gone = 0; gone < SLEEPERS; gone++) {
        struct told t;
        struct sleeper s[SLEEPERS];
        told_init(&t);
        for (int i = 0; i < SLEEPERS; i++) {
            sleeper_start(&s[i], LT_NEVER);
            until_blocked(i + 1);
        }
        int64_t due = lt_now_ns(&mq) + 30 * MS; // wakes one of those that are asleep
        lt_due_set(&mq, &t.due, due);
        sleeper_tell(&s[gone]); // and it may be the one that leaves
        cr_assert_eq(sleeper_join(&s[gone]), 0);
        cr_assert(told_in_time(&t), "sleeper %d left, and nobody fired what fell due", gone);
        cr_assert_geq(lt_now_ns(&mq), due);
        for (int i = 0; i < SLEEPERS; i++) {
            if (i == gone)
                continue;
            sleeper_tell(&s[i]);
            cr_assert_eq(sleeper_join(&s[i]), 0);
        }
        told_fini(&t);
    }
    close_core();
}

Test(clock, advance_goes_on_when_a_woken_sleeper_waits_again) {
    open_core(LEAT_CLOCK_MANUAL);
    struct sleeper s;
    sleeper_start(&s, LT_NEVER);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(leat_clock_wait_blocked(&mq, 1, SOON_MS), 0);
        lt_waiter_notify(&mq, &s.waiter); // no reason to end: it waits again
        cr_assert_eq(leat_clock_advance(&mq, 1), 0);
    }
    sleeper_tell(&s);
    cr_assert_eq(sleeper_join(&s), 0);
    close_core();
}

// ---- the end of an entry

struct slow {
    struct lt_due due;
    struct lt_mutex lock; // guards the rest
    struct lt_cond cond;
    bool inside, go, after;
};

static void slow_fire(leat *store, struct lt_due *due) {
    (void)store;
    struct slow *s = LT_CONTAINER(due, struct slow, due);
    lt_lock(&s->lock);
    s->inside = true;
    lt_cond_broadcast(&s->cond);
    while (!s->go)
        lt_cond_wait(&s->cond, &s->lock);
    s->after = true;
    lt_unlock(&s->lock);
}

static void *advance_by_one(void *ctx) {
    *(int *)ctx = leat_clock_advance(&mq, 1);
    return NULL;
}

static void *let_go(void *ctx) {
    struct slow *s = ctx;
    lt_lock(&s->lock);
    s->go = true;
    lt_cond_broadcast(&s->cond);
    lt_unlock(&s->lock);
    return NULL;
}

Test(clock, an_entry_ends_only_when_it_is_not_running_and_only_one_call_advances) {
    open_core(LEAT_CLOCK_MANUAL);
    struct slow s = { .inside = false };
    pthread_t firing, helper;
    int rc = -99;
    cr_assert_eq(lt_mutex_init(&s.lock, LT_RANK_LEAF), 0);
    cr_assert_eq(lt_cond_init(&s.cond), 0);
    cr_assert_eq(lt_due_init(&mq, &s.due, slow_fire), 0);
    lt_due_set(&mq, &s.due, MS);
    cr_assert_eq(pthread_create(&firing, NULL, advance_by_one, &rc), 0);
    lt_lock(&s.lock);
    while (!s.inside)
        lt_cond_wait(&s.cond, &s.lock);
    lt_unlock(&s.lock);
    cr_assert_eq(leat_clock_advance(&mq, 1), LEAT_EBUSY);
    cr_assert_eq(leat_clock_advance(&mq, 1), LEAT_EBUSY, "still");
    cr_assert_eq(pthread_create(&helper, NULL, let_go, &s), 0);
    lt_due_end(&mq, &s.due);
    cr_assert(s.after, "ended while it was running");
    cr_assert_eq(pthread_join(helper, NULL), 0);
    cr_assert_eq(pthread_join(firing, NULL), 0);
    cr_assert_eq(rc, 0);
    cr_assert_eq(leat_clock_advance(&mq, 1), 0);
    lt_cond_fini(&s.cond);
    lt_mutex_fini(&s.lock);
    close_core();
}

// ---- the clock that jumps

Test(clock, a_jumping_clock_moves_to_the_next_due_thing_or_the_deadline) {
    open_core(LEAT_CLOCK_JUMP);
    struct timer timer[2];
    struct lt_waiter w;
    make_timers(timer, 2);
    cr_assert_eq(lt_waiter_init(&mq, &w), 0);
    lt_due_set(&mq, &timer[0].due, 10 * MS);
    lt_due_set(&mq, &timer[1].due, 30 * MS);
    lt_waiter_arm(&mq, &w);
    cr_assert_eq(lt_wait(&mq, &w, 50 * MS), 0);
    cr_assert_eq(lt_now_ns(&mq), 10 * MS);
    cr_assert_eq(timer[0].fired, 1);
    cr_assert_eq(lt_wait(&mq, &w, 20 * MS), LEAT_ETIMEDOUT);
    cr_assert_eq(lt_now_ns(&mq), 20 * MS);
    cr_assert_eq(timer[1].fired, 0);
    cr_assert_eq(lt_wait(&mq, &w, LT_NEVER), 0);
    cr_assert_eq(timer[1].fired_at, 30 * MS);
    cr_assert_eq(lt_wait(&mq, &w, LT_NEVER), LEAT_EDEADLK);
    cr_assert_neq(leat_errmsg()[0], '\0');
    cr_assert_eq(lt_now_ns(&mq), 30 * MS, "nothing moved");
    lt_waiter_notify(&mq, &w);
    cr_assert_eq(lt_wait(&mq, &w, LT_NEVER), 0, "there was news");
    lt_waiter_arm(&mq, &w);
    cr_assert_eq(lt_wait(&mq, &w, 10 * MS), LEAT_ETIMEDOUT);
    cr_assert_eq(lt_now_ns(&mq), 30 * MS, "time never goes back");
    cr_assert_eq(leat_clock_advance(&mq, 5), 0);
    cr_assert_eq(lt_now_ns(&mq), 35 * MS);
    lt_waiter_fini(&mq, &w);
    end_timers(timer, 2);
    close_core();
}

struct second {
    struct lt_due due;
    int rc;
};

static void *second_wait(void *ctx) {
    struct lt_waiter w;
    *(int *)ctx = -99;
    if (lt_waiter_init(&mq, &w) != 0)
        return NULL;
    lt_waiter_arm(&mq, &w);
    *(int *)ctx = lt_wait(&mq, &w, LT_NEVER);
    lt_waiter_fini(&mq, &w);
    return NULL;
}

static void second_fire(leat *store, struct lt_due *due) { // amid the first one's wait
    (void)store;
    pthread_t thread;
    struct second *s = LT_CONTAINER(due, struct second, due);
    if (pthread_create(&thread, NULL, second_wait, &s->rc) == 0)
        (void)pthread_join(thread, NULL);
}

Test(clock, a_second_wait_on_a_jumping_clock_is_refused) {
    open_core(LEAT_CLOCK_JUMP);
    struct second s = { .rc = 0 };
    struct lt_waiter w;
    cr_assert_eq(lt_waiter_init(&mq, &w), 0);
    cr_assert_eq(lt_due_init(&mq, &s.due, second_fire), 0);
    lt_due_set(&mq, &s.due, MS);
    lt_waiter_arm(&mq, &w);
    cr_assert_eq(lt_wait(&mq, &w, LT_NEVER), 0);
    cr_assert_eq(s.rc, LEAT_EBUSY);
    cr_assert_eq(lt_wait(&mq, &w, 5 * MS), LEAT_ETIMEDOUT, "the first one has its clock back");
    lt_due_end(&mq, &s.due);
    lt_waiter_fini(&mq, &w);
    close_core();
}

Test(clock, planning_cannot_fail_once_there_was_room) {
    static struct timer timer[1000];
    open_core(LEAT_CLOCK_MANUAL);
    make_timers(timer, 1000);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 1000; i++)
            lt_due_set(&mq, &timer[i].due, lt_now_ns(&mq) + (i * 37 % 1000 + 1) * MS);
        cr_assert_eq(leat_clock_advance(&mq, 1000), 0);
        for (int i = 0; i < 1000; i++)
            cr_assert_eq(timer[i].fired, round + 1);
    }
    end_timers(timer, 1000);
    cr_assert_eq(mq.clock.events.room, 0u);
    close_core();
}

// ---- chores

static void make_chore(struct timer *timer, int number) {
    *timer = (struct timer){ .number = number };
    cr_assert_eq(lt_chore_init(&mq, &timer->due, timer_fire), 0);
}

Test(clock, chores_fire_in_order_with_the_rest_when_advance_passes_them) {
    open_core(LEAT_CLOCK_MANUAL);
    struct timer timer[4];
    int64_t in_ms;
    make_timers(timer, 2);
    make_chore(&timer[2], 2);
    make_chore(&timer[3], 3);
    cr_assert_eq(leat_next_due(&mq, &in_ms), 0);
    cr_assert_eq(in_ms, LEAT_FOREVER);
    lt_due_set(&mq, &timer[0].due, 20 * MS);
    lt_due_set(&mq, &timer[2].due, 10 * MS + 1);
    lt_due_set(&mq, &timer[3].due, 20 * MS);
    lt_due_set(&mq, &timer[1].due, 20 * MS);
    cr_assert_eq(leat_next_due(&mq, &in_ms), 0);
    cr_assert_eq(in_ms, 11, "rounded up, or a caller would come too early");
    cr_assert_eq(leat_clock_advance(&mq, 20), 0);
    static const int expect[] = { 2, 0, 3, 1 };
    cr_assert_eq(order_count, 4);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(order[i], expect[i], "place %d: %d", i, order[i]);
    lt_due_set(&mq, &timer[0].due, lt_now_ns(&mq));
    lt_due_set(&mq, &timer[2].due, lt_now_ns(&mq));
    lt_due_set(&mq, &timer[3].due, lt_now_ns(&mq) + 1);
    cr_assert_eq(leat_run_due(&mq), 2);
    cr_assert_eq(leat_run_due(&mq), 0);
    cr_assert_eq(leat_next_due(&mq, NULL), LEAT_EINVAL);
    end_timers(timer, 4);
    cr_assert_eq(mq.clock.chores.room, 0u);
    close_core();
}

Test(clock, a_jumping_clock_does_not_jump_for_a_chore_but_does_it_when_it_passes) {
    open_core(LEAT_CLOCK_JUMP);
    struct timer timer[2];
    struct lt_waiter w;
    cr_assert_eq(lt_waiter_init(&mq, &w), 0);
    make_timers(timer, 1);
    make_chore(&timer[1], 1);
    lt_due_set(&mq, &timer[1].due, 10 * MS);
    lt_waiter_arm(&mq, &w);
    cr_assert_eq(lt_wait(&mq, &w, LT_NEVER), LEAT_EDEADLK, "a chore ends no wait");
    cr_assert_eq(lt_wait(&mq, &w, 9 * MS), LEAT_ETIMEDOUT);
    cr_assert_eq(timer[1].fired, 0);
    lt_due_set(&mq, &timer[0].due, 30 * MS);
    cr_assert_eq(lt_wait(&mq, &w, LT_NEVER), 0);
    cr_assert(timer[0].fired == 1 && timer[1].fired == 1);
    cr_assert_eq(order[0], 1, "the earlier one first");
    lt_waiter_fini(&mq, &w);
    end_timers(timer, 2);
    close_core();
}

Test(clock, without_threads_a_blocked_call_does_the_chores) {
    open_core(LEAT_CLOCK_SYSTEM);
    struct timer timer;
    struct lt_waiter w;
    cr_assert_eq(lt_waiter_init(&mq, &w), 0);
    make_chore(&timer, 0);
    cr_assert(!lt_service_runs(&mq.clock.service));
    cr_assert_eq(lt_service_open(&mq), 0);
    cr_assert(!lt_service_runs(&mq.clock.service));
    lt_due_set(&mq, &timer.due, lt_now_ns(&mq) + MS);
    lt_waiter_arm(&mq, &w);
    while (timer.fired == 0)
        cr_assert_eq(lt_wait(&mq, &w, lt_add_ms(lt_now_ns(&mq), SOON_MS)), 0);
    lt_waiter_fini(&mq, &w);
    end_timers(&timer, 1);
    close_core();
}

// What the service thread does, and the test waits for.
struct job {
    struct lt_due due;
    struct lt_mutex lock;
    struct lt_cond done;
    int fired, again;
    pthread_t by;
};

static void job_fire(leat *store, struct lt_due *due) {
    struct job *job = LT_CONTAINER(due, struct job, due);
    lt_lock(&job->lock);
    job->fired++;
    job->by = pthread_self();
    if (job->again > 0 && job->again--)
        lt_due_set(store, due, lt_now_ns(store) + MS / 10);
    lt_cond_broadcast(&job->done);
    lt_unlock(&job->lock);
}

static void job_wait(struct job *job, int fired) {
    int64_t limit = lt_add_ms(lt_real_ns(), SOON_MS);
    lt_lock(&job->lock);
    while (job->fired < fired)
        cr_assert(lt_cond_wait_until(&job->done, &job->lock, limit), "%d of %d", job->fired, fired);
    lt_unlock(&job->lock);
}

Test(clock, the_service_thread_does_chores_while_nobody_looks_and_nobody_else_does) {
    leat_options o = { .seed = 1 };
    struct job job = { .again = 0 }, late = { .again = 0 };
    memset(&mq, 0, sizeof mq);
    cr_assert_eq(lt_core_init(&mq, &o, lt_os_system()), 0);
    cr_assert_eq(lt_service_open(&mq), 0);
    cr_assert(!lt_service_runs(&mq.clock.service), "nothing needs it");
    cr_assert_eq(lt_mutex_init(&job.lock, LT_RANK_ADMIN), 0);
    cr_assert_eq(lt_cond_init(&job.done), 0);
    cr_assert_eq(lt_chore_init(&mq, &job.due, job_fire), 0);
    cr_assert_eq(lt_chore_init(&mq, &late.due, job_fire), 0);
    cr_assert(lt_service_runs(&mq.clock.service));
    lt_due_set(&mq, &late.due, lt_add_ms(lt_now_ns(&mq), 3600000));
    for (int i = 1; i <= 100; i++) { // each is earlier than what it sleeps for
        lt_due_set(&mq, &job.due, lt_now_ns(&mq) + i % 3 * MS / 10);
        lt_due_fire(&mq);
        job_wait(&job, i);
        cr_assert(!pthread_equal(job.by, pthread_self()));
    }
    job.again = 20;
    lt_due_set(&mq, &job.due, lt_now_ns(&mq));
    job_wait(&job, 121);
    lt_service_end(&mq);
    cr_assert(!lt_service_runs(&mq.clock.service));
    lt_service_end(&mq);
    lt_due_end(&mq, &late.due);
    lt_due_end(&mq, &job.due);
    lt_cond_fini(&job.done);
    lt_mutex_fini(&job.lock);
    close_core();
}
