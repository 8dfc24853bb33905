/* SPDX-License-Identifier: MIT */
// Deleting the front of a partition: who reads it goes on at the new start, what is held stays, and
// an open finds the same.
#include "leat.h"
#include "leat_test.h"
#include "lib/place.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { RECORDS = 2000 };

static leat *mq;
static leat_topic *t;

static void open_store(int32_t write) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL, .acks = LEAT_ACKS_LOG, .write = write };
    ok(write ? leat_open(dir, &o, &mq) : leat_open_memory(&o, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
}

static void send_all(void) {
    leat_producer *p;
    ok(leat_producer_open(mq, NULL, &p));
    for (int i = 0; i < RECORDS; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        ok(leat_send(p, t, &(leat_record){ .value = leat_str(text), .timestamp_ms = i + 1 }, NULL));
    }
    ok(leat_producer_close(p, 0));
}

static void range_is(int64_t begin, int64_t end) {
    leat_range r;
    ok(leat_topic_range(t, 0, &r));
    cr_assert(r.begin == begin && r.end == end, "%d to %d, not %d to %d", (int)r.begin, (int)r.end,
              (int)begin, (int)end);
}

static void first_is(leat_consumer *c, const char *text) {
    const leat_message *m;
    int n = leat_poll(c, 0, &m);
    cr_assert_gt(n, 0);
    is(m[0].value, text);
}

Test(delete_records, who_reads_goes_on_at_the_new_start) {
    for (int32_t write = 0; write <= LEAT_WRITE_PWRITE; write++) {
        scratch_make(dir);
        open_store(write);
        send_all();
        leat_consumer *c;
        const leat_message *m;
        leat_message held;
        leat_queue *q;
        leat_message one;
        ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = 10 }, &c));
        ok(leat_consumer_subscribe(c, "t"));
        gives(10, leat_poll(c, 0, &m));
        ok(leat_message_hold(mq, &m[3], &held));
        ok(leat_commit(c));
        ok(leat_queue_open(mq, "q", &(leat_queue_options){ .topic = "t" }, &q));
        gives(1, leat_queue_receive(q, 0, &one, 1));

        ok(leat_topic_delete_records(t, 0, 1500));
        range_is(1500, RECORDS);
        first_is(c, "1500");
        is(held.value, "3");
        is(one.value, "0");
        fails(LEAT_ESTALE, leat_queue_ack(q, &one)); // the message is gone
        gives(1, leat_queue_receive(q, 0, &one, 1));
        is(one.value, "1500");
        ok(leat_queue_ack(q, &one));
        ok(leat_message_release(mq, &held));
        int64_t offset;
        gives(1, leat_topic_offset_at(t, 0, 1, &offset));
        cr_assert_eq(offset, 1500);
        fails(LEAT_ERANGE, leat_consumer_seek(c, "t", 0, 1499));
        ok(leat_topic_delete_records(t, 0, 10)); // below the start: nothing to do
        range_is(1500, RECORDS);
        ok(leat_close_all(mq, 0));
        if (write) {
            open_store(write);
            range_is(1500, RECORDS);
            ok(leat_consumer_open(mq, "g", NULL, &c)); // committed 10, which is gone
            ok(leat_consumer_subscribe(c, "t"));
            first_is(c, "1500");
            ok(leat_queue_open(mq, "q", NULL, &q));
            gives(1, leat_queue_receive(q, 0, &one, 1));
            is(one.value, "1501");
            ok(leat_close_all(mq, 0));
        }
        scratch_remove(dir);
    }
}

Test(delete_records, everything_can_go_and_offsets_go_on) {
    for (int32_t write = 0; write <= LEAT_WRITE_PWRITE; write++) {
        scratch_make(dir);
        open_store(write);
        send_all();
        ok(leat_topic_delete_records(t, 0, LEAT_END));
        range_is(RECORDS, RECORDS);
        if (write) {
            ok(leat_close_all(mq, 0));
            open_store(write);
            range_is(RECORDS, RECORDS);
        }
        send_all();
        range_is(RECORDS, 2 * RECORDS);
        leat_consumer *c;
        ok(leat_consumer_open(mq, "g", NULL, &c));
        ok(leat_consumer_subscribe(c, "t"));
        first_is(c, "0");
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
    }
}

Test(delete_records, wrong_arguments_delete_nothing) {
    open_store(0);
    send_all();
    fails(LEAT_ERANGE, leat_topic_delete_records(t, 0, RECORDS + 1));
    fails(LEAT_ERANGE, leat_topic_delete_records(t, 0, -1));
    fails(LEAT_ERANGE, leat_topic_delete_records(t, 1, 0));
    fails(LEAT_EINVAL, leat_topic_delete_records(NULL, 0, 0));
    range_is(0, RECORDS);
    ok(leat_close_all(mq, 0));
}
