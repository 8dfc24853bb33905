/* SPDX-License-Identifier: MIT */
#include "harness.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RUNS = 5, RUNS_MAX = 51, SECONDS_MAX = 300 };

// What a run in its own process tells: shared memory.
struct told {
    double figure[FIGURES];
    char why[300];
    bool done;
};
static struct told *told;
enum plant planted;

struct settings {
    bool quick, json, list;
    int runs, names;
    size_t work; // 0: what the bench says
    enum plant plant;
    FILE *keep; // the lines of JSON go there, too; or NULL
    char **name;
    const char *dir, *only; // only: this contender, or NULL: all
};

struct sample {
    double run[FIGURES][RUNS_MAX];
    int runs;
    char why[300]; // "": no run has failed
};

double now_s(void) {
    return (double)now_ns() / 1e9;
}

uint64_t now_ns(void) {
    struct timespec ts;
    need(clock_gettime(CLOCK_MONOTONIC, &ts) == 0, "clock_gettime");
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

// ---- inside a run

void fail(const char *why, ...) {
    char text[sizeof told->why];
    va_list args;
    va_start(args, why);
    (void)vsnprintf(text, sizeof text, why, args);
    va_end(args);
    if (told)
        memcpy(told->why, text, sizeof text);
    else // not in a run: a program with a main of its own
        (void)fprintf(stderr, "%s\n", text);
    _exit(1);
}

void must(int rc, const char *what) {
    if (rc < 0)
        fail("%s: %s: %s", what, leat_errname(rc), leat_errmsg());
}

void need(bool ok, const char *what) {
    if (!ok)
        fail("%s: %s", what, strerror(errno));
}

pthread_t start(void *(*work)(void *), void *arg) {
    pthread_t t;
    int rc = pthread_create(&t, NULL, work, arg);
    if (rc != 0)
        fail("pthread_create: %s", strerror(rc));
    return t;
}

// ---- one run

static void remove_tree(const char *dir) {
    char *argv[] = { "rm", "-rf", "--", (char *)(uintptr_t)dir, NULL };
    pid_t pid = fork();
    if (pid == 0) {
        (void)execvp(argv[0], argv);
        _exit(127);
    }
    if (pid > 0)
        (void)waitpid(pid, NULL, 0);
}

// Has the machine give memory which it then takes back: the first touch of a page that a virtual
// machine has never used costs ten times that of another, and would hit who comes first.
static void warm_memory(size_t size) {
    void *p =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (p != MAP_FAILED)
        (void)munmap(p, size);
}

static void one_run(const struct settings *s, const struct bench *b, run_fn *fn) {
    size_t work = s->work ? s->work : s->quick ? b->quick : b->work;
    char dir[PATH_MAX];
    (void)snprintf(dir, sizeof dir, "%s/leat-bench-XXXXXX", s->dir);
    memset(told, 0, sizeof *told);
    if (!mkdtemp(dir)) {
        (void)snprintf(told->why, sizeof told->why, "%.200s: %s", dir, strerror(errno));
        return;
    }
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct run r = { .dir = dir, .work = work };
        for (int line = 0; line < FIGURES; line++)
            r.figure[line] = NAN;
        (void)alarm(SECONDS_MAX);
        if (b->memory)
            warm_memory(work * b->memory);
        fn(&r);
        memcpy(told->figure, r.figure, sizeof r.figure);
        told->done = true;
        _exit(0);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        (void)snprintf(told->why, sizeof told->why, "fork: %s", strerror(errno));
    else if (WIFSIGNALED(status))
        (void)snprintf(told->why, sizeof told->why, "ended by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    else if (!told->done && !told->why[0])
        (void)snprintf(told->why, sizeof told->why, "ended with %d", WEXITSTATUS(status));
    remove_tree(dir);
}

// ---- what is told

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const struct sample *s, int line) {
    return s->run[line][s->runs / 2]; // sorted
}

// Whether the runs told a figure for this line.
static bool tells(const struct sample *s, int line) {
    return s->runs > 0 && !isnan(median(s, line));
}

// As people read it: 8.71 M, 352 k, 4.5.
static const char *human(double v, char out[32]) {
    const char *unit = "";
    if (v >= 1e6)
        v /= 1e6, unit = " M";
    else if (v >= 1e4)
        v /= 1e3, unit = " k";
    (void)snprintf(out, 32, "%.*f%s", v >= 100 ? 0 : v >= 10 ? 1 : v >= 1 ? 2 : 3, v, unit);
    return out;
}

static void print_line(const struct bench *b, const struct sample *s, int line) {
    const struct line *l = &b->line[line];
    char mid[32], low[32], high[32];
    printf("%s%s, %s, %s is better\n", b->name, l->suffix, l->unit, l->better);
    for (int i = 0; b->who[i].name; i++) {
        if (!tells(&s[i], line))
            continue; // it failed, and was told so, or has no such figure
        double m = median(&s[i], line);
        printf("  %-20s %10s   %10s to %-10s", b->who[i].name, human(m, mid),
               human(s[i].run[line][0], low), human(s[i].run[line][s[i].runs - 1], high));
        if (i > 0 && tells(&s[0], line) && m > 0)
            printf(" leat / %s = %.3g", b->who[i].name, median(&s[0], line) / m);
        printf("\n");
    }
}

static void print_json(const struct bench *b, const struct sample *s, int line, FILE *out) {
    const char *comma = "";
    (void)fprintf(out,
                  "{\"bench\":\"%s%s\",\"unit\":\"%s\",\"better\":\"%s\",\"leat\":%.6g,\"peers\":{",
                  b->name, b->line[line].suffix, b->line[line].unit, b->line[line].better,
                  median(&s[0], line));
    for (int i = 1; b->who[i].name; i++) {
        if (!tells(&s[i], line))
            continue;
        (void)fprintf(out, "%s\"%s\":%.6g", comma, b->who[i].name, median(&s[i], line));
        comma = ",";
    }
    (void)fprintf(out, "}}\n");
}

// ---- a bench

static void progress(const struct settings *s, const struct bench *b, const char *who, int run) {
    if (!isatty(STDERR_FILENO))
        return;
    (void)fprintf(stderr, "\r\033[K");
    if (who)
        (void)fprintf(stderr, "%s: run %d of %d, %s", b->name, run + 1, s->runs, who);
}

static void take(struct sample *s) {
    if (!told->done) {
        memcpy(s->why, told->why, sizeof s->why);
        return;
    }
    for (int line = 0; line < FIGURES; line++)
        s->run[line][s->runs] = told->figure[line];
    s->runs++;
}

static bool is_asked(const struct settings *s, const char *who) {
    return !s->only || strcmp(s->only, who) == 0;
}

// Returns  whether leat did what it should.
static bool run_bench(const struct settings *s, const struct bench *b) {
    struct sample sample[CONTENDERS] = { 0 };
    for (int run = 0; run < s->runs; run++)
        for (int i = 0; b->who[i].name; i++) {
            if (sample[i].why[0] || !is_asked(s, b->who[i].name))
                continue;
            progress(s, b, b->who[i].name, run);
            memcpy(told->why, "its package was not there at the build", 39);
            told->done = false;
            planted = i == 0 ? s->plant : PLANT_NONE;
            if (b->who[i].run)
                one_run(s, b, b->who[i].run);
            take(&sample[i]);
        }
    progress(s, b, NULL, 0);
    for (int i = 0; b->who[i].name; i++) {
        if (sample[i].why[0]) { // in no figure: a part of its runs proves nothing
            sample[i].runs = 0;
            (void)fprintf(s->json ? stderr : stdout, "%s: %s: left out: %s\n", b->name,
                          b->who[i].name, sample[i].why);
        }
        for (int line = 0; line < FIGURES; line++)
            qsort(sample[i].run[line], (size_t)sample[i].runs, sizeof(double), by_value);
    }
    for (int line = 0; line < FIGURES && b->line[line].unit; line++) {
        if (sample[0].runs && !tells(&sample[0], line))
            continue; // not in a run of this size
        if (!s->json)
            print_line(b, sample, line);
        if (s->json && sample[0].runs)
            print_json(b, sample, line, stdout);
        if (s->keep && sample[0].runs)
            print_json(b, sample, line, s->keep);
    }
    (void)fflush(stdout);
    return sample[0].runs > 0 || !is_asked(s, "leat");
}

// ---- the command

static bool wanted(const struct settings *s, const char *name) {
    for (int i = 0; i < s->names; i++)
        if (strcmp(s->name[i], name) == 0)
            return true;
    return s->names == 0;
}

// Returns  a name that is asked for and not in the table, or NULL.
static const char *unknown(const struct settings *s, const struct bench *table, size_t n) {
    for (int i = 0; i < s->names; i++) {
        size_t at = 0;
        while (at < n && strcmp(s->name[i], table[at].name) != 0)
            at++;
        if (at == n)
            return s->name[i];
    }
    return NULL;
}

static int usage(const char *program, const char *what) {
    (void)fprintf(stderr,
                  "%s: '%s'?\nusage: %s [NAME...] [--list] [--quick] [--json] [--runs N] "
                  "[--dir DIRECTORY] [--work N] [--keep FILE] [--only WHO]\n",
                  program, what, program);
    return 2;
}

// Returns  false if there is no such option with a value, or not this one.
static bool parse_value(struct settings *s, const char *option, const char *value) {
    if (strcmp(option, "--dir") == 0)
        return s->dir = value, true;
    if (strcmp(option, "--only") == 0)
        return s->only = value, true;
    if (strcmp(option, "--keep") == 0)
        return s->keep || (s->keep = fopen(value, "a"));
    if (strcmp(option, "--plant") == 0) {
        s->plant = strcmp(value, "lost") == 0   ? PLANT_LOST
                   : strcmp(value, "torn") == 0 ? PLANT_TORN
                                                : PLANT_NONE;
        return s->plant != PLANT_NONE;
    }
    char *end;
    errno = 0;
    unsigned long n = strtoul(value, &end, 10);
    if (errno != 0 || *end || value[0] < '0' || value[0] > '9' || n == 0)
        return false;
    if (strcmp(option, "--work") == 0)
        s->work = n;
    else if (strcmp(option, "--runs") == 0 && n <= RUNS_MAX)
        s->runs = (int)n;
    else
        return false;
    return true;
}

static bool parse(struct settings *s, int argc, char **argv, int *at) {
    for (*at = 1; *at < argc; (*at)++) {
        char *arg = argv[*at];
        if (strcmp(arg, "--quick") == 0)
            s->quick = true;
        else if (strcmp(arg, "--json") == 0)
            s->json = true;
        else if (strcmp(arg, "--list") == 0)
            s->list = true;
        else if (arg[0] != '-')
            s->name[s->names++] = arg;
        else if (*at + 1 == argc || !parse_value(s, arg, argv[*at + 1]))
            return false;
        else
            (*at)++;
    }
    return true;
}

int bench_main(int argc, char **argv, const struct bench *table, size_t n) {
    struct settings s = { .runs = RUNS, .dir = ".", .name = argv }; // names: argv from 0 on
    char program[256];
    int at;
    (void)snprintf(program, sizeof program, "%s", argv[0]);
    if (!parse(&s, argc, argv, &at))
        return usage(program, argv[at < argc ? at : argc - 1]);
    const char *name = unknown(&s, table, n);
    if (name)
        return usage(program, name);
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        if (!wanted(&s, table[i].name))
            continue;
        if (s.list)
            printf("%-22s %s\n", table[i].name, table[i].about);
        else
            ok = run_bench(&s, &table[i]) && ok;
    }
    if (s.keep && fclose(s.keep) != 0) {
        perror("--keep");
        ok = false;
    }
    return ok ? 0 : 1;
}
