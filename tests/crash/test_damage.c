/* SPDX-License-Identifier: MIT */
// What an open makes of damage. Two small stores in memory (lib/damage.h), one closed and one as
// kill -9 left it; each case changes the files of one, opens it, reads everything, receives
// everything, sends, syncs, closes, opens again. Whatever is read must be right and whatever is
// missing must be told of; lib/damage.h says what may go without a word.
//
//   flips      a single bit of a file: every 16th, by a stride that moves with the file
//   sectors    512 bytes become zeros, 0xff, or those of another sector
//   lengths    a file ends earlier (every 16th length), or goes on with zeros or rubbish
//   removed    every subset of up to two files and directories
//   names      a file under the name of another, two that changed places, segments with names of
//              their own making, empty files
//
// test_damage [closed|killed]. LEAT_DAMAGE_ALL: every bit, every length. LEAT_DAMAGE_EACH: so many
// times fewer, whatever the other says. Prints damage_cases=N failures=N.
#include "leat.h"
#include "lib/crash_tree.h"
#include "lib/damage.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct damage_store *whole, *hurt;
static struct crash_os *os;
static size_t stride = 16;
static char *place; // where what is tried now is said, for the parent

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    va_list list;
    va_start(list, format);
    (void)vsnprintf(damage_what, sizeof damage_what, format, list);
    va_end(list);
    memcpy(place, damage_what, sizeof damage_what);
}

static bool ends_with(const char *path, const char *end) {
    size_t n = strlen(path), k = strlen(end);
    return n >= k && strcmp(path + n - k, end) == 0;
}

// What damage to a file may cost.
static unsigned harm_of(const char *path) {
    if (strcmp(path, "slots") == 0)
        return DAMAGE_COMMITS | DAMAGE_LEDGER;
    if (strstr(path, ".q"))
        return DAMAGE_LEDGER;
    return strstr(path, ".log") ? DAMAGE_TAIL : 0;
}

// One bit cannot be more than that; nor anything in a file that can be made again.
static unsigned harm_of_bit(const char *path) {
    return harm_of(path) |
           (strstr(path, ".log") || strcmp(path, "manifest") == 0 ? 0 : DAMAGE_QUIET);
}

static unsigned harm_of_bytes(const char *path) {
    return ends_with(path, ".log") || strcmp(path, "slots") == 0 ? harm_of(path)
                                                                 : harm_of_bit(path);
}

static void try_it(unsigned harm) {
    damage_try(os, hurt, harm, 0);
    damage_try(os, hurt, harm, LEAT_SKIP_ROT);
}

static void put_back(int file) {
    struct damage_file *f = &hurt->file[file];
    const struct damage_file *from = &whole->file[file];
    f->gone = false;
    f->size = from->size;
    memcpy(f->bytes, from->bytes, from->size);
}

// ---- bytes

static void flips(int file) {
    struct damage_file *f = &hurt->file[file];
    size_t first = stride > 1 ? (size_t)file * 5 % stride : 0;
    for (size_t bit = first; bit < f->size * 8; bit += stride + (stride > 1)) {
        say("%s, bit %zu of byte %zu", f->path, bit % 8, bit / 8);
        f->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        try_it(harm_of_bit(f->path));
        f->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void sectors(int file) {
    struct damage_file *f = &hurt->file[file];
    for (size_t at = 0; at < f->size; at += CRASH_SECTOR) {
        size_t n = f->size - at < CRASH_SECTOR ? f->size - at : CRASH_SECTOR;
        for (int how = 0; how < 3; how++) {
            size_t from = (at + 7 * CRASH_SECTOR) % f->size / CRASH_SECTOR * CRASH_SECTOR;
            if (how == 2 && from + n > f->size)
                continue;
            say("%s, sector at %zu %s", f->path, at,
                how == 0   ? "zeros"
                : how == 1 ? "0xff"
                           : "is another one");
            memset(f->bytes + at, how == 0 ? 0 : 0xff, n);
            if (how == 2)
                memcpy(f->bytes + at, whole->file[file].bytes + from, n);
            try_it(harm_of_bytes(f->path));
            put_back(file);
        }
    }
}

static void lengths(int file) {
    struct damage_file *f = &hurt->file[file];
    size_t size = f->size;
    for (size_t n = (size_t)file % stride; n < size; n += stride) {
        say("%s cut to %zu bytes of %zu", f->path, n, size);
        f->size = n;
        try_it(harm_of_bytes(f->path));
    }
    static const size_t more[] = { 1, 8, 64, 512, 4096, 16384 };
    for (size_t i = 0; i < 2 * sizeof more / sizeof more[0]; i++) {
        say("%s goes on with %zu %s", f->path, more[i / 2], i % 2 ? "0x5a" : "zeros");
        f->size = size + more[i / 2];
        memset(f->bytes + size, i % 2 ? 0x5a : 0, more[i / 2]);
        try_it(harm_of_bytes(f->path));
    }
    put_back(file);
}

// ---- names

// Takes away a file, or a directory with all in it. Returns what that may cost.
static unsigned take_away(int file) {
    unsigned harm = 0;
    const char *path = whole->file[file].path;
    for (int i = 0; i < hurt->files; i++) {
        const char *other = hurt->file[i].path;
        if (strncmp(other, path, strlen(path)) != 0 ||
            (other[strlen(path)] != '\0' && other[strlen(path)] != '/'))
            continue;
        hurt->file[i].gone = true;
        harm |= harm_of(other);
    }
    return harm;
}

static void removed(void) {
    for (int i = 0; i < whole->files; i++)
        for (int k = 0; k <= i; k++) {
            say("without %s and %s", whole->file[i].path, whole->file[k].path);
            unsigned harm = take_away(i) | take_away(k);
            if (harm & DAMAGE_COMMITS)
                harm |= DAMAGE_PROOF;
            try_it(harm);
            for (int f = 0; f < hurt->files; f++)
                put_back(f);
        }
}

static void become(int file, const struct damage_file *from) {
    hurt->file[file].size = from->size;
    memcpy(hurt->file[file].bytes, from->bytes, from->size);
}

static void changed_places(void) {
    for (int i = 0; i < whole->files; i++)
        for (int k = 0; k < whole->files; k++) {
            const struct damage_file *a = &whole->file[i], *b = &whole->file[k];
            if (i == k || a->is_dir || b->is_dir)
                continue;
            unsigned harm = harm_of(a->path) | harm_of(b->path);
            if (harm & DAMAGE_COMMITS)
                harm |= DAMAGE_PROOF;
            say("%s is a copy of %s", a->path, b->path);
            become(i, b);
            try_it(harm);
            say("%s and %s have changed places", a->path, b->path);
            become(k, a);
            if (k < i)
                try_it(harm);
            put_back(i);
            put_back(k);
        }
}

// A new file in the directory of a segment: with its bytes, or some others.
static void invented_one(int file, const char *name, int how) {
    static const char *const with[] = { "its bytes", "nothing", "zeros", "rubbish", "a directory" };
    struct damage_file *f = &hurt->file[hurt->files++];
    const struct damage_file *of = &whole->file[file];
    const char *slash = strrchr(of->path, '/');
    (void)snprintf(f->path, sizeof f->path, "%.*s/%s", (int)(slash - of->path), of->path, name);
    f->bytes = f->bytes ? f->bytes : crash_alloc(CRASH_FILE_MAX);
    f->is_dir = how == 4;
    f->gone = false;
    f->size = how == 0 ? of->size : how == 1 ? 0 : how == 4 ? 0 : 8192;
    memset(f->bytes, how == 2 ? 0 : 0x5a, f->size);
    if (how == 0)
        memcpy(f->bytes, of->bytes, of->size);
    bool taken = damage_find(whole, f->path) != NULL;
    say("%s with %s of %s", f->path, with[how], of->path);
    if (!taken)
        try_it(0);
    hurt->files--;
}

static void invented(int file) {
    static const char *const names[] = { "00000000000000000000.log",
                                         "00000000000000000001.log",
                                         "00000000000000000006.log",
                                         "00000000000000000050.log",
                                         "00000000000000000100.log",
                                         "00000000000000000115.log",
                                         "00000000000000000116.log",
                                         "00000000000000000200.log",
                                         "00000004294967296000.log",
                                         "09223372036854775807.log",
                                         "09223372036854775808.log",
                                         "99999999999999999999.log",
                                         "0000000000000000001.log",
                                         "00000000000000000001.LOG",
                                         "00000000000000000001.idx",
                                         "00000000000000000001.q1",
                                         "00000000000000000000.log.cut",
                                         "00000000000000000000.logx",
                                         "-0000000000000000001.log",
                                         "core",
                                         ".log",
                                         "00000000000000000000.idx.new",
                                         "manifest" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (int how = 0; how < 5; how++)
            invented_one(file, names[i], how);
}

// ---- all of it

static void go_through(void) {
    for (int i = 0; i < whole->files; i++) {
        if (whole->file[i].is_dir)
            continue;
        flips(i);
        sectors(i);
        lengths(i);
        if (ends_with(whole->file[i].path, ".log"))
            invented(i);
    }
    removed();
    changed_places();
}

static double now(void) {
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int run(bool killed) {
    whole = crash_alloc(sizeof *whole);
    hurt = crash_alloc(sizeof *hurt);
    os = crash_alloc(sizeof *os);
    damage_make(whole, killed);
    damage_copy(hurt, whole);
    size_t bytes = 0;
    for (int i = 0; i < whole->files; i++) {
        bytes += whole->file[i].size;
        if (getenv("LEAT_DAMAGE_LIST"))
            (void)printf("%6zu %s\n", whole->file[i].size, whole->file[i].path);
    }
    crash_os_init(os);
    os->calls_max = 20000;
    double begin = now();
    say("nothing");
    damage_try(os, hurt, 0, 0);
    if (damage_totals.refused > 0)
        damage_totals.failures++;
    go_through();
    double took = now() - begin;
    (void)printf("%s: %d files, %zu bytes, %.1f s, %.0f cases a second; %ld opens refused, "
                 "%ld records told damaged, %ld unsynced ones lost, %ld older commits, "
                 "%ld deliveries counted anew\n",
                 killed ? "killed" : "closed", whole->files, bytes, took,
                 (double)damage_totals.cases / took, damage_totals.refused, damage_totals.told,
                 damage_totals.tail, damage_totals.commits, damage_totals.ledger);
    (void)printf("damage_cases=%ld failures=%ld\n", damage_totals.cases, damage_totals.failures);
    crash_os_fini(os);
    damage_free(whole);
    damage_free(hurt);
    free(os);
    free(whole);
    free(hurt);
    return damage_totals.failures == 0 ? 0 : 1;
}

// In a process of its own, so that somebody is left to say in which case it died.
int main(int argc, char **argv) {
    bool killed = argc > 1 && strcmp(argv[1], "killed") == 0;
    const char *each = getenv("LEAT_DAMAGE_EACH");
    if (each && atoi(each) > 0)
        stride *= (size_t)atoi(each);
    else if (getenv("LEAT_DAMAGE_ALL"))
        stride = 1;
    place =
        mmap(NULL, sizeof damage_what, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED)
        return 1;
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
            _exit(1);
        exit(run(killed));
    }
    int status = 1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 1;
    if (!WIFEXITED(status))
        (void)printf("died of signal %d: %s\n", WTERMSIG(status), place);
    (void)munmap(place, sizeof damage_what);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
