/* SPDX-License-Identifier: MIT */
// The small runner: the tests of one file, one after another, in this process.
// It keeps what our CTest rules rely on: the Synthesis line in Criterion's form; a failing teardown
// fails its test; no test run is an error; a test over its time ends the run. A failed assertion
// leaves the test by longjmp, so it may only fail on the runner's own thread and in the runner's
// own process: anywhere else the run ends at once.
#include "criterion/criterion.h"

#include <errno.h>
#include <fnmatch.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

static struct plain_test *plain_first, **plain_last = &plain_first;
static struct plain_test *volatile plain_now;
static jmp_buf plain_way_out;
static pthread_t plain_thread;
static pid_t plain_process;

void plain_add(struct plain_test *test) {
    *plain_last = test;
    plain_last = &test->next;
}

_Noreturn void plain_fail(const char *file, int line, const char *text, const char *format, ...) {
    fprintf(stderr, "[----] %s:%d: Assertion Failed\n[----]   %s\n", file, line, text);
    if (format[0] != '\0') {
        va_list list;
        va_start(list, format);
        fprintf(stderr, "[----]   ");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" // criterion.h says why
        vfprintf(stderr, format, list);
#pragma GCC diagnostic pop
        fprintf(stderr, "\n");
        va_end(list);
    }
    if (getpid() != plain_process || !pthread_equal(pthread_self(), plain_thread)) {
        fprintf(stderr, "[FAIL] in another thread or process than the test's: the run ends here\n");
        _exit(1);
    }
    longjmp(plain_way_out, 1);
}

void plain_log(const char *format, ...) {
    va_list list;
    va_start(list, format);
    fprintf(stderr, "[----] ");
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
}

static void plain_say(const char *text) {
    ssize_t n = write(STDERR_FILENO, text, strlen(text));
    (void)n; // there is nobody left to tell
}

static void plain_overtime(int signal) {
    (void)signal;
    plain_say("\n[FAIL] over its time: ");
    plain_say(plain_now->suite);
    plain_say("::");
    plain_say(plain_now->name);
    plain_say("\n");
    _exit(1);
}

static bool plain_step(void (*step)(void)) {
    if (step == NULL) {
        return true;
    }
    if (setjmp(plain_way_out) != 0) {
        return false;
    }
    step();
    return true;
}

static bool plain_run(struct plain_test *test, unsigned seconds) {
    plain_now = test;
    alarm(seconds);
    bool ok = plain_step(test->init) && plain_step(test->body);
    if (!plain_step(test->fini)) {
        fprintf(stderr, "[----] the teardown of %s::%s failed\n", test->suite, test->name);
        ok = false;
    }
    alarm(0);
    if (!ok) {
        fprintf(stderr, "[FAIL] %s::%s\n", test->suite, test->name);
    }
    return ok;
}

static bool plain_chosen(const struct plain_test *test, const char *filter) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test->suite, test->name);
    return filter == NULL || fnmatch(filter, path, 0) == 0;
}

int main(int argc, char **argv) {
    const char *filter = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--filter") == 0 && i + 1 < argc) {
            filter = argv[++i];
        } else if (strncmp(argv[i], "--filter=", 9) == 0) {
            filter = argv[i] + 9;
        } else {
            fprintf(stderr, "usage: %s [--filter SUITE/NAME-PATTERN]\n", argv[0]);
            return 2;
        }
    }
    const char *limit = getenv("LEAT_TEST_SECONDS");
    long seconds = limit != NULL ? strtol(limit, NULL, 10) : 60;
    plain_thread = pthread_self();
    plain_process = getpid();
    struct sigaction overtime = { .sa_handler = plain_overtime };
    if (sigaction(SIGALRM, &overtime, NULL) != 0) {
        perror("sigaction");
        return 2;
    }
    int tested = 0, failed = 0;
    for (struct plain_test *test = plain_first; test != NULL; test = test->next) {
        if (!test->disabled && plain_chosen(test, filter)) {
            tested++;
            failed += plain_run(test, seconds > 0 ? (unsigned)seconds : 60) ? 0 : 1;
        }
    }
    fprintf(stderr, "[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: 0 \n",
            tested, tested - failed, failed);
    return tested == 0 || failed != 0 ? 1 : 0;
}
