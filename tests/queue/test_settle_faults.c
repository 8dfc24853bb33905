/* SPDX-License-Identifier: MIT */
// Settling where words are written by a system call, which fails: the lease stands as it was.
#include "leat.h"
#include "leat_test.h"
#include "lib/faulty_os.h"
#include "lib/place.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <errno.h>

enum { SECOND = 1000, HOUR = 3600 * SECOND };

static leat *mq;
static leat_queue *q;
static leat_message m;
static struct faulty_os faulty; // large

static void open_all(void) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL,
                       .acks = LEAT_ACKS_LOG,
                       .write = LEAT_WRITE_PWRITE };
    leat_queue_options list = { .visibility_timeout_ms = SECOND,
                                .backoff_count = 1,
                                .backoff_ms = (int64_t[]){ 10 * SECOND },
                                .dead_letter = "dead" };
    make_dir();
    faulty_os_init(&faulty);
    ok(lt_store_open(dir, &o, &faulty.os, &mq));
    ok(leat_queue_open(mq, "jobs", &list, &q));
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_message_release(mq, &m));
}

static void close_all(void) {
    ok(leat_close_all(mq, 0));
    faulty_os_fini(&faulty);
    drop_dir();
}

static void fail_writes(int error) {
    faulty_os_plan(&faulty,
                   &(struct faulty_plan){
                       .at = 1, .sticky = true, .ops = FAULTY_BIT(FAULTY_PWRITE), .error = error });
}

static void leased(uint64_t leased, uint64_t delayed) {
    leat_queue_stats s;
    ok(leat_queue_get_stats(q, &s, sizeof s));
    cr_assert(s.leased == leased && s.delayed == delayed && s.moving == 0 && s.dead == 0,
              "leased %d delayed %d", (int)s.leased, (int)s.delayed);
}

// Each of the calls that store a word, while none can be stored.
static void all_fail(int code) {
    fails(code, leat_queue_ack_receipt(q, m.receipt));
    fails(code, leat_queue_reject_receipt(q, m.receipt, "x"));
    fails(code, leat_queue_nack_receipt(q, m.receipt, LEAT_BACKOFF, 0));
    fails(code, leat_queue_nack_receipt(q, m.receipt, 0, LEAT_UNCOUNTED));
}

Test(settle_faults, a_word_that_cannot_be_stored_leaves_the_lease) {
    static const struct { int error, code; } how[] = { { EIO, LEAT_EIO }, { ENOSPC, LEAT_ENOSPC } };
    for (int i = 0; i < 2; i++) {
        int rcs[2];
        open_all();
        fail_writes(how[i].error);
        all_fail(how[i].code);
        leat_message two[2] = { m, m };
        two[1].receipt = 0;
        gives(2, leat_queue_reject_many(q, two, 2, "x", rcs));
        cr_assert(rcs[0] == how[i].code && rcs[1] == LEAT_ESTALE);
        leased(1, 0);
        faulty_os_plan(&faulty, NULL);
        ok(leat_queue_ack_receipt(q, m.receipt));
        leased(0, 0);
        close_all();
    }
}

Test(settle_faults, a_lease_that_ran_out_into_its_backoff_is_left_too) {
    open_all();
    fail_writes(EIO);
    ok(leat_clock_advance(mq, SECOND)); // the delay is kept though it cannot be stored
    leased(0, 1);
    all_fail(LEAT_EIO);
    fails(LEAT_EIO, leat_queue_nack_receipt(q, m.receipt, 0, 0));
    fails(LEAT_EIO, leat_queue_extend_receipt(q, m.receipt, HOUR));
    fails(LEAT_EIO, leat_queue_extend_receipt(q, m.receipt, 0));
    leased(0, 1);
    faulty_os_plan(&faulty, NULL);
    ok(leat_queue_extend_receipt(q, m.receipt, HOUR));
    leased(1, 0);
    ok(leat_queue_ack_receipt(q, m.receipt));
    close_all();
}
