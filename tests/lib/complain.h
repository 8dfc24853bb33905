/* SPDX-License-Identifier: MIT */
// complain: the first thing that a thread of a stress saw go wrong. Threads go on, and what broke
// may never end: so it is said at once, too.
#ifndef LEAT_TESTS_LIB_COMPLAIN_H
#define LEAT_TESTS_LIB_COMPLAIN_H

#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

static atomic_bool failed;       // set once, by whoever writes complaint
static char complaint[400];      // to be read when the threads have ended
static void (*complained)(void); // NULL, or ends the threads

__attribute__((format(printf, 1, 2))) static inline void complain(const char *format, ...) {
    if (atomic_exchange(&failed, true))
        return;
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(complaint, sizeof complaint, format, ap);
    va_end(ap);
    (void)fprintf(stderr, "%s\n", complaint);
    if (complained)
        complained();
}

// wait_for waits until a semaphore is posted, whatever signals come.
static inline void wait_for(sem_t *s) {
    while (sem_wait(s) != 0) // EINTR
        continue;
}

#endif
