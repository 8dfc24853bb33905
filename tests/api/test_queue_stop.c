/* SPDX-License-Identifier: MIT */
// Workers of a queue that are stopped at any moment: what one has received and not begun goes back
// as if it had never been delivered.
#include "lib/queues.h"

#include <stdatomic.h>

enum { ROUNDS = 300, BUSY = 5000, GIVEN_BACK = 3 };

static _Atomic int begun, tries;

static int handle(leat_workers *w, const leat_message *msg, int64_t *delay_ms, void *ctx) {
    (void)w, (void)delay_ms, (void)ctx;
    begun++;
    tries += msg->deliveries != 1;
    return LEAT_DONE;
}

Test(queue_stop, what_was_not_begun_goes_back_uncounted) {
    int given_back = 0;
    queues_open(LEAT_CLOCK_MANUAL, 1);
    leat_queue *q = queues_make("a", &(leat_queue_options){ .deliveries_max = 1 });
    begun = tries = 0;
    for (int i = 0; i < ROUNDS && given_back < GIVEN_BACK; i++) {
        leat_workers *w;
        leat_stats s;
        queues_send_n(q, BUSY - (int)queues_stats(q).available, 0);
        ok(leat_queue_start(q, handle, NULL, &(leat_worker_options){ .threads = 4 }, &w));
        while (begun == 0)
            (void)queues_stats(q);
        if (leat_workers_stop(w, 0) == LEAT_ETIMEDOUT) // a handler runs; no other one is begun
            ok(leat_workers_stop(w, LEAT_FOREVER));
        ok(leat_get_stats(mq, &s, sizeof s));
        given_back = (int)s.received - begun;
        leat_queue_stats now = queues_stats(q);
        cr_assert(now.leased == 0 && now.delayed == 0 && now.kept == 0 &&
                      now.done == (unsigned)begun,
                  "round %d: leased %d delayed %d kept %d done %d begun %d", i, (int)now.leased,
                  (int)now.delayed, (int)now.kept, (int)now.done, begun);
        cr_assert_eq(now.available + now.done, now.sent);
        cr_assert_eq(tries, 0, "round %d: a try was counted that was none", i);
    }
    cr_log_info("%d of %d deliveries given back", given_back, given_back + begun);
    while (leat_queue_receive(q, 0, &m, 1) == 1) { // nor do the rest have one
        cr_assert_eq(m.deliveries, 1);
        ok(leat_queue_ack(q, &m));
    }
    ok(leat_close_all(mq, 0));
}
