/* SPDX-License-Identifier: MIT */
// What a topic keeps: bounded by bytes or by records, in whole segments; or refusing what is more.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { SEGMENT = 16384, VALUE = 1000, PER_SEGMENT = 11 }; // records of 1,040 bytes

static void open_store(int32_t write, const leat_topic_options *o) {
    leat_options so = { .acks = LEAT_ACKS_LOG, .write = write };
    ok(fixture_open(write ? dir : NULL, &so, o, NULL));
}

static int send_one(void) {
    static const char value[VALUE];
    return leat_send(p, t, &(leat_record){ .value = { value, VALUE } }, NULL);
}

static leat_range range(void) {
    leat_range r;
    ok(leat_topic_range(t, 0, &r));
    return r;
}

Test(retention, by_records_keeps_at_least_so_many_and_at_most_a_segment_more) {
    for (int32_t write = 0; write <= LEAT_WRITE_PWRITE; write++) {
        leat_topic_options o = { .segment_bytes = SEGMENT, .retention_records = 30 };
        scratch_make(dir);
        open_store(write, &o);
        for (int i = 1; i <= 300; i++) {
            ok(send_one());
            leat_range r = range();
            int64_t kept = r.end - r.begin;
            cr_assert_eq(r.end, i);
            cr_assert(kept >= (i < 30 ? i : 30) && kept <= 30 + 2 * PER_SEGMENT,
                      "%d of %d are kept", (int)kept, i);
        }
        cr_assert_gt(range().begin, 200);
        if (write) {
            leat_range before = range();
            ok(leat_close_all(mq, 0));
            open_store(write, NULL); // its settings are in the store
            cr_assert(range().begin == before.begin && range().end == 300);
            for (int i = 0; i < 100; i++)
                ok(send_one());
            cr_assert_gt(range().begin, 300);
        }
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
    }
}

Test(retention, by_bytes_keeps_at_least_so_much) {
    leat_topic_options o = { .segment_bytes = SEGMENT, .retention_bytes = 50000 };
    open_store(0, &o);
    for (int i = 0; i < 300; i++) {
        ok(send_one());
        int64_t bytes = (range().end - range().begin) * 1040;
        cr_assert(bytes <= 50000 + 2 * SEGMENT && (i < 60 || bytes >= 50000), "%d bytes",
                  (int)bytes);
    }
    leat_topic_info info;
    gives(1, leat_topic_list(mq, &info, 1, sizeof info));
    cr_assert(info.retention_bytes == 50000 && info.retention_records == LEAT_UNLIMITED &&
              info.when_full == LEAT_DELETE_OLDEST);
    ok(leat_close_all(mq, 0));
}

Test(retention, reject_refuses_what_is_more_until_records_are_deleted) {
    leat_topic_options o = { .retention_records = 5, .when_full = LEAT_REJECT };
    open_store(0, &o);
    for (int i = 0; i < 5; i++)
        ok(send_one());
    fails_saying(LEAT_EFULL, "retention", send_one());
    cr_assert(range().begin == 0 && range().end == 5);
    ok(leat_topic_delete_records(t, 0, 2));
    ok(send_one());
    ok(send_one());
    fails(LEAT_EFULL, send_one());
    ok(leat_close_all(mq, 0));
    o = (leat_topic_options){ .retention_bytes = 3000, .when_full = LEAT_REJECT };
    open_store(0, &o);
    ok(send_one());
    ok(send_one());
    fails(LEAT_EFULL, send_one()); // 3,120 bytes
    ok(leat_close_all(mq, 0));
}

Test(retention, a_reader_that_is_too_slow_goes_on_at_the_new_start) {
    leat_topic_options o = { .segment_bytes = SEGMENT, .retention_records = 20 };
    open_store(0, &o);
    leat_consumer *c;
    const leat_message *m;
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = 1 }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    ok(send_one());
    gives(1, leat_poll(c, 0, &m));
    for (int i = 0; i < 200; i++)
        ok(send_one());
    gives(1,
          leat_poll(c, 0, &m)); // the segment that it stands in is its own as long as it is there
    int64_t last = m[0].offset;
    for (int n; (n = leat_poll(c, 0, &m)) > 0; last = m[0].offset)
        cr_assert_gt(m[0].offset, last);
    cr_assert_eq(last, 200);
    ok(leat_close_all(mq, 0));
}

Test(retention, settings_must_match_and_be_sound) {
    leat_topic_options o = { .retention_records = 20, .retention_bytes = 1000000 };
    open_store(0, &o);
    leat_topic *u;
    fails_saying(LEAT_EEXIST, "retention_records",
                 leat_topic_open(mq, "t", &(leat_topic_options){ .retention_records = 21 }, &u));
    fails_saying(LEAT_EEXIST, "retention_bytes",
                 leat_topic_open(mq, "t", &(leat_topic_options){ .retention_bytes = -1 }, &u));
    fails_saying(LEAT_EEXIST, "when_full",
                 leat_topic_open(mq, "t", &(leat_topic_options){ .when_full = LEAT_REJECT }, &u));
    ok(leat_topic_open(mq, "t", &o, &u));
    const leat_topic_options bad[] = { { .retention_bytes = -2 },
                                       { .retention_records = -2 },
                                       { .when_full = 3 },
                                       { .when_full = -1 },
                                       { .keep_until_consumed = 2 } };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        fails(LEAT_EINVAL, leat_topic_open(mq, "u", &bad[i], &u));
    ok(leat_close_all(mq, 0));
}
