/* SPDX-License-Identifier: MIT */
// sync_vs_async: the three ways to send, timed. In one process a sync send is a copy into memory,
// so waiting for it costs nothing. With --as-network each append takes 1 ms, as a round trip to a
// broker does: sync pays it for each message, the others once for a batch of about 50. What to look
// at: the ratio is not the library's, it is the round trip's.
#include "leat_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SYNC, CALLBACK, FORGET };
static const char *const name[] = { "sync", "async with callback", "fire and forget" };
static int told; // by the callback thread; read after the flush

static void must(int rc) {
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
        exit(1);
    }
}

static void on_report(leat_producer *p, const leat_report *r, void *ctx) {
    (void)p, (void)ctx;
    told += r->error == 0;
}

// Sends n messages one way, prints a line. Returns  messages a second.
static double run(int way, int n, int network, double beside) {
    leat *mq;
    leat_topic *t;
    leat_producer *p;
    int64_t begin = 0, end = 0;
    const leat_record r = { .value = { (char[280]){ "an order" }, 280 } };
    must(leat_open_memory(&(leat_options){ .acks = LEAT_ACKS_LOG }, &mq));
    must(leat_topic_open(mq, "orders", NULL, &t));
    must(leat_producer_open(mq, NULL, &p));
    if (network)
        must(leat_fault_push(mq, LEAT_OP_APPEND, NULL, -1, 0, LEAT_FOREVER, 1));
    told = 0;
    must(leat_clock_now(mq, &begin, NULL));
    for (int i = 0; i < n; i++)
        must(way == SYNC ? leat_send(p, t, &r, NULL)
                         : leat_send_async(p, t, &r, way == CALLBACK ? on_report : NULL, NULL));
    must(leat_flush(p, LEAT_FOREVER)); // until the last one is stored and told
    must(leat_clock_now(mq, &end, NULL));
    must(leat_close_all(mq, 0));
    double seconds = (double)(end > begin ? end - begin : 1) / 1e3, rate = n / seconds;
    printf("%-20s %9d %9.3f %12.0f %6.1f\n", name[way], n, seconds, rate,
           rate / (beside > 0 ? beside : rate));
    return way == CALLBACK && told != n ? (exit(1), 0) : rate;
}

int main(int argc, char **argv) {
    int network = argc > 1 && strcmp(argv[1], "--as-network") == 0, n = network ? 20000 : 1000000;
    printf("%-20s %9s %9s %12s %6s\n", "", "messages", "seconds", "a second", "ratio");
    double sync = run(SYNC, network ? n / 50 : n, network, 0);
    run(CALLBACK, n, network, sync);
    return run(FORGET, n, network, sync) > 0 ? 0 : 1;
}
