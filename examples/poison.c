/* SPDX-License-Identifier: MIT */
// poison: a message that no worker can handle. After three tries it is in the dead-letter queue,
// with where it came from and why; the others are done meanwhile. When the worker is mended the
// dead are sent back to work. What to look at: nothing is lost, and nothing is tried for ever.
#include "leat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int must(int rc) {
    if (rc >= 0)
        return rc;
    fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
    exit(1);
}

// Handles all there is. mended: also what it could not before. Returns  how many were done.
static int work(leat_queue *q, int mended) {
    leat_message m;
    int done = 0;
    while (must(leat_queue_receive(q, 0, &m, 1)) == 1) {
        int bad = !mended && strcmp(m.value.data, "1/0") == 0;
        printf(LEAT_FMT ", try %d: %s\n", LEAT_ARG(m.value), m.deliveries, bad ? "failed" : "done");
        must(bad ? leat_queue_nack(q, &m, 0, 0) : leat_queue_ack(q, &m));
        done += !bad;
    }
    return done;
}

int main(void) {
    static const char *const sums[] = { "1/1", "1/0", "2/1" };
    leat *mq;
    leat_queue *q, *dead;
    leat_message m;
    leat_header h;
    uint64_t moved;
    leat_queue_options o = { .deliveries_max = 3, .dead_letter = "sums.dead" };
    must(leat_open_memory(NULL, &mq));
    must(leat_queue_open(mq, "sums", &o, &q));
    must(leat_queue_open(mq, "sums.dead", NULL, &dead));
    for (int i = 0; i < 3; i++)
        must(leat_queue_send(q, &(leat_record){ .value = leat_str(sums[i]) }, NULL));
    int done = work(q, 0);
    if (must(leat_queue_peek(dead, LEAT_AVAILABLE, 0, &m, 1)) == 1) {
        printf("dead: " LEAT_FMT, LEAT_ARG(m.value));
        for (size_t i = 0; leat_message_header(&m, i, &h); i++)
            printf(", " LEAT_FMT " " LEAT_FMT, LEAT_ARG(h.name), LEAT_ARG(h.value));
        printf("\n");
        must(leat_message_release(mq, &m));
    }
    must(leat_queue_redrive(dead, NULL, 0, &moved)); // each to where it came from
    done += work(q, 1);
    return leat_close_all(mq, 0) == 0 && done == 3 && moved == 1 ? 0 : 1;
}
