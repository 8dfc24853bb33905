/* SPDX-License-Identifier: MIT */
// The system's table: that what it does for speed is not seen.
#include "base/os.h"
#include "base/sync.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
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

// That it is no time of long ago hangs on the machine, and is not said here.
Test(os, the_time_that_is_ahead_is_not_further_ahead_than_it_says) {
    struct lt_os *os = lt_os_system();
    for (int i = 0; os->ahead_ns && i < 100000; i++) {
        int64_t ahead = os->ahead_ns(os), now = os->mono_ns(os);
        cr_assert(ahead <= now + LT_AHEAD_NS);
    }
}

Test(os, what_is_prefilled_is_zeros_there_and_nowhere_else) {
    enum { SIZE = 3 << 20 };
    static const struct {
        int64_t at, n;
    } range[] = { { 4096, 4096 }, { 1, 1 }, { 5000, (1 << 20) + 70001 }, { SIZE - 10, 10 } };
    struct lt_os *os = lt_os_system();
    char root[SCRATCH_PATH], path[SCRATCH_PATH];
    unsigned char *bytes = malloc(SIZE);
    cr_assert_not_null(bytes);
    scratch_make(root);
    scratch_join(path, root, "file");
    for (size_t k = 0; k < sizeof range / sizeof range[0]; k++) {
        memset(bytes, 'x', SIZE);
        scratch_write(path, bytes, SIZE);
        int fd = os->open(os, AT_FDCWD, path, O_RDWR, 0);
        cr_assert(fd >= 0);
        os->prefill(os, fd, range[k].at, range[k].n);
        cr_assert_eq(os->close(os, fd), 0);
        size_t size;
        unsigned char *now = scratch_read(path, &size);
        cr_assert_eq(size, (size_t)SIZE);
        memset(bytes + range[k].at, 0, (size_t)range[k].n);
        cr_assert_eq(memcmp(now, bytes, SIZE), 0, "range %zu", k);
        free(now);
    }
    os->prefill(os, -1, 0, 100); // it cannot, and does no harm
    free(bytes);
    scratch_remove(root);
}
