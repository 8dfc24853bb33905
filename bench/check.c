/* SPDX-License-Identifier: MIT */
// check: is the benchmark itself right? The histogram against exact percentiles, and the tally
// against what a receiver can see. A test of the project runs it.
#include "histogram.h"
#include "payload.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VALUES = 20000, MESSAGES = 100 };

static uint64_t next(uint64_t *seed) { // splitmix64
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// What histogram_us must tell: a value at or above the exact one, by less than a bucket.
static void check_histogram(const char *what, uint64_t *ns, size_t n) {
    static struct histogram h;
    const double share[] = { 0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1 };
    memset(&h, 0, sizeof h);
    for (size_t i = 0; i < n; i++)
        histogram_add(&h, ns[i]);
    qsort(ns, n, sizeof *ns, by_value);
    if (h.count != n || h.max != ns[n - 1])
        fail("%s: count or max is wrong", what);
    for (size_t i = 0; i < sizeof share / sizeof share[0]; i++) {
        size_t rank = (size_t)(share[i] * (double)n + 0.5);
        double exact = (double)ns[rank > 0 ? rank - 1 : 0] / 1e3, told = histogram_us(&h, share[i]);
        if (told < exact - 1e-9 || told > exact * (1 + 1.0 / HISTOGRAM_STEPS) + 1e-9)
            fail("%s: %g of %zu is %g us, not %g", what, share[i], n, exact, told);
    }
}

static void check_histograms(void) {
    static uint64_t ns[VALUES];
    uint64_t seed = 1;
    for (size_t n = 1; n <= VALUES; n = n * 3 + 1) {
        for (size_t i = 0; i < n; i++)
            ns[i] = i; // each value below 64 ns, and each edge above, once
        check_histogram("0 to n-1", ns, n);
        for (size_t i = 0; i < n; i++)
            ns[i] = next(&seed) >> (24 + next(&seed) % 40); // of every size up to 18 minutes
        check_histogram("of every size", ns, n);
        for (size_t i = 0; i < n; i++)
            ns[i] = i * 100 < n ? 5000000 : 800; // a far tail
        check_histogram("a far tail", ns, n);
    }
    for (unsigned bit = 0; bit < 40; bit++) { // each edge
        uint64_t edge[3] = { ((uint64_t)1 << bit) - 1, (uint64_t)1 << bit,
                             ((uint64_t)1 << bit) + 1 };
        check_histogram("an edge", edge, 3);
    }
    struct histogram none = { 0 };
    if (histogram_us(&none, 0.5) > 0)
        fail("a histogram of nothing tells something");
}

// What happens to message 7; BENT + i: its byte i.
enum { NONE, LOST, TWICE, REPLACED, CROSSED, SHORT, BENT, DAMAGES = BENT + VALUE };

// A receiver that sees 0..MESSAGES-1 with one damage, in the other order; then the check.
static void receive(int damage) {
    unsigned char value[VALUE], other[VALUE];
    struct tally t = { 0 };
    payload_init(value, sizeof value);
    payload_init(other, sizeof other);
    for (uint64_t i = MESSAGES; i-- > 0;) {
        int mine = i == 7 ? damage : NONE;
        payload_number(value, sizeof value, mine == REPLACED ? 8 : i);
        payload_number(other, sizeof other, i == 7 ? 8 : 7);
        if (damage == CROSSED && (i == 7 || i == 8)) // the end of the one in the other
            memcpy(value + VALUE / 2, other + VALUE / 2, VALUE / 2);
        if (mine >= BENT)
            value[mine - BENT] ^= 1;
        if (mine != LOST)
            tally_add(&t, value, mine == SHORT ? 15 : sizeof value);
        if (mine == TWICE)
            tally_add(&t, value, sizeof value);
        if (mine >= BENT)
            value[mine - BENT] ^= 1;
    }
    tally_check(&t, VALUE, MESSAGES, 1);
}

static void check_tally(void) {
    for (int damage = NONE; damage < DAMAGES; damage++) {
        int status = 0;
        (void)fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            if (damage != NONE)
                (void)fclose(stderr); // it says why, as it should
            receive(damage);
            _exit(0);
        }
        need(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
        if (!WIFEXITED(status) || (WEXITSTATUS(status) == 0) != (damage == NONE))
            fail("the tally of damage %d: %x", damage, (unsigned)status);
    }
}

int main(void) {
    check_histograms();
    check_tally();
    printf("histogram and tally are right\n");
    return 0;
}
