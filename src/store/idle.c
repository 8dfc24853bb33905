/* SPDX-License-Identifier: MIT */
// idle: leat_wait_idle. The store's part of base/rest: what can be done here is done, then each of
// the things that may go on is looked at, then it waits for one of them to end.
#include "base/rest.h"
#include "leat_test.h"
#include "log/log.h"
#include "store/store.h"

enum { IDLE_ROUNDS = 64 }; // that are done before the time counts

// Does what is to be done now, callbacks that are polled for included. What they began is for the
// next round. Returns  whether there was something.
static bool idle_work(leat *mq) {
    (void)lt_producers_ripen(mq);
    int done = lt_due_fire_all(mq);
    return lt_courier_round(mq) + done > 0;
}

// Says what goes on; NULL: nothing.
static const char *idle_lacks(leat *mq) {
    const char *what = lt_courier_lacks(mq);
    if (!what && lt_producers_ripen(mq))
        what = "a record that was accepted has no report yet";
    return what ? what : lt_rest_lacks(mq);
}

static int idle_wait(leat *mq, int64_t limit_ns) {
    for (int round = 0;; round += round < IDLE_ROUNDS) {
        bool worked = idle_work(mq);
        uint64_t stirs = lt_rest_stirs(mq);
        const char *what = idle_lacks(mq);
        if (!what && lt_rest_stirs(mq) == stirs)
            return 0;
        int rc = 0;
        if (!worked || round == IDLE_ROUNDS) // if it worked there may be more to do: no sleep
            rc = lt_rest_wait(mq, worked ? stirs - 1 : stirs, limit_ns);
        if (rc == LEAT_ECLOSED)
            return lt_fail(rc, "the store was shut down");
        if (rc != 0)
            return lt_fail(rc, "not idle: %s", what ? what : "something begins all the time");
    }
}

int leat_wait_idle(leat *mq, int64_t real_timeout_ms) {
    int rc = lt_begin(mq, LT_CALL);
    if (rc != 0)
        return rc;
    rc = lt_check_timeout(real_timeout_ms);
    if (rc == 0) {
        lt_rest_watch(mq, 1);
        rc = idle_wait(mq, lt_add_ms(lt_real_ns(), real_timeout_ms));
        lt_rest_watch(mq, -1);
    }
    return lt_end(mq, rc);
}
