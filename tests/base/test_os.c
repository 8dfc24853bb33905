/* SPDX-License-Identifier: MIT */
// The system's table: that what it does for speed is not seen.
#include "base/os.h"
#include "base/sync.h"

#include <criterion/criterion.h>
#include <time.h>

static int64_t real_ms(void) {
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

// Between two looks of ours at the clock: neither of an earlier millisecond nor of a later one.
static void *compare(void *arg) {
    struct lt_os *os = lt_os_system();
    int64_t *wrong = arg;
    for (int i = 0; i < 300000; i++) {
        int64_t before = real_ms(), wall = os->wall_ms(os), after = real_ms();
        *wrong += before <= after && (wall < before || wall > after);
    }
    return NULL;
}

Test(os, wall_time_is_the_clocks_to_the_millisecond_on_every_thread) {
    int64_t wrong[2] = { 0, 0 };
    pthread_t other;
    cr_assert_eq(lt_thread_start(&other, compare, &wrong[1]), 0);
    (void)compare(&wrong[0]);
    lt_thread_join(other);
    cr_assert_eq(wrong[0], 0);
    cr_assert_eq(wrong[1], 0);
}
