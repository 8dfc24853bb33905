/* SPDX-License-Identifier: MIT */
// task_groups: in order for each customer, and nobody waits for somebody else's. Tasks of one group
// are handed out one at a time; one that fails is tried again before the next of its group. What to
// look at: two workers at once never have two tasks of one customer, and a slow customer holds back
// himself only.
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

static int take(leat_queue *q, leat_message *m, const char *worker) {
    int n = must(leat_queue_receive(q, 0, m, 1));
    if (n == 1)
        printf("%s has " LEAT_FMT "\n", worker, LEAT_ARG(m->value));
    else
        printf("%s has nothing\n", worker);
    return n;
}

int main(void) {
    static const char *const tasks[] = { "anna: open", "anna: pay", "anna: close", "ben: open" };
    leat *mq;
    leat_queue *q;
    leat_message a, b;
    leat_options o = { .clock = LEAT_CLOCK_JUMP, .threads = LEAT_NO_THREADS };
    must(leat_open_memory(&o, &mq));
    must(leat_queue_open(mq, "tasks", NULL, &q));
    for (int i = 0; i < 4; i++) {
        leat_record r = { .value = leat_str(tasks[i]) };
        r.group = (leat_bytes){ tasks[i], strcspn(tasks[i], ":") };
        must(leat_queue_send(q, &r, NULL));
    }
    int taken = take(q, &a, "first worker") + take(q, &b, "second worker");
    must(leat_queue_ack(q, &b));
    taken += take(q, &b, "second worker");  // anna's next one waits for her first
    must(leat_queue_nack(q, &a, 60000, 0)); // it failed: again in a minute
    taken += take(q, &a, "first worker");
    for (int i = 0; i < 3; i++) {
        taken += must(leat_queue_receive(q, LEAT_FOREVER, &a, 1));
        printf("then " LEAT_FMT ", try %d\n", LEAT_ARG(a.value), a.deliveries);
        must(leat_queue_ack(q, &a));
    }
    return leat_close_all(mq, 0) == 0 && taken == 5 ? 0 : 1;
}
