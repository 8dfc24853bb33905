/* SPDX-License-Identifier: MIT */
// What reports show where records of one batch are told to different callbacks, and where the log
// has given back what they tell of.
#include "leat_test.h"
#include "lib/async.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS = 40 };

static int64_t offset_of[RECORDS]; // -1: not told
static int wrong;

static void note(const leat_report *r, int64_t number, bool keyed) {
    char value[24];
    (void)snprintf(value, sizeof value, "value %d", (int)number);
    const leat_record *record = r->record;
    wrong += number < 0 || number >= RECORDS || offset_of[number] != -1;
    wrong += strcmp(record->value.data, value) != 0 || record->value.size != strlen(value);
    wrong += keyed ? strcmp(record->key.data, "key") != 0 : record->key.data != NULL;
    wrong += record->timestamp_ms != 0 || record->delay_ms != 0 || record->group.data != NULL;
    wrong += r->status != LEAT_STORED || r->md.timestamp_ms < INT64_C(1000000000000);
    offset_of[number] = r->md.offset;
}

static void tell(leat_producer *from, const leat_report *r, void *ctx) {
    (void)from;
    note(r, strtol((const char *)r->record->value.data + 6, NULL, 10), ctx != NULL);
}

static void tell_too(leat_producer *from, const leat_report *r, void *ctx) {
    tell(from, r, ctx);
}

// Number i: to one of two callbacks or none, in runs of three; two of four with a context of their
// own.
static void send(int i) {
    static char contexts[RECORDS];
    leat_delivery_fn fns[] = { tell, NULL, tell_too };
    char value[24];
    (void)snprintf(value, sizeof value, "value %d", i);
    leat_record r = { .value = leat_str(value) };
    if (i / 2 % 2)
        r.key = LEAT_STR("key");
    ok(leat_send_async(p, t, &r, fns[i / 3 % 3], i / 2 % 2 ? &contexts[i] : NULL));
    offset_of[i] = -1;
}

Test(async_told, records_of_one_batch_are_told_to_their_own) {
    for (enum async_mode mode = 0; mode < MODES; mode++) {
        wrong = 0;
        ok(async_open(mode, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 10 }));
        for (int i = 0; i < RECORDS; i++)
            send(i);
        ok(async_pass(10));
        cr_assert_eq(async_stats().batches, 1u, "all in one batch");
        cr_assert_eq(wrong, 0, "%s: %d are wrong", async_name[mode], wrong);
        for (int i = 0; i < RECORDS; i++)
            cr_assert_eq(offset_of[i], i / 3 % 3 == 1 ? -1 : i, "%s: %d", async_name[mode], i);
        ok(leat_close_all(mq, 0));
    }
}

static void tell_plain(leat_producer *from, const leat_report *r, void *ctx) {
    (void)from, (void)ctx;
    note(r, strtol((const char *)r->record->value.data + 6, NULL, 10), false);
}

Test(async_told, what_the_log_has_given_back_meanwhile_is_told_as_it_was) {
    leat_metadata md;
    char big[16000];
    memset(big, 'b', sizeof big);
    wrong = 0;
    ok(async_open(POLLED, NULL, 0, 1, &(leat_producer_options){ .linger_ms = 10 }));
    leat_topic *small;
    ok(leat_topic_open(mq, "small",
                       &(leat_topic_options){ .segment_bytes = 16384, .retention_records = 1 },
                       &small));
    for (int i = 0; i < RECORDS; i++) {
        char value[24];
        (void)snprintf(value, sizeof value, "value %d", i);
        offset_of[i] = -1;
        ok(leat_send_async(p, small, &(leat_record){ .value = leat_str(value) }, tell_plain, NULL));
    }
    // A synchronous send is behind them, and the ones after it take their segment away, and others
    // use its memory.
    for (int i = 0; i < 8; i++)
        ok(leat_send(p, small, &(leat_record){ .value = { big, sizeof big } }, &md));
    leat_range range;
    ok(leat_topic_range(small, 0, &range));
    cr_assert_gt(range.begin, RECORDS, "they are gone from the log");
    cr_assert_eq(offset_of[0], -1, "not told yet");
    gives(RECORDS, leat_producer_poll(p, 0));
    cr_assert_eq(wrong, 0, "%d are wrong", wrong);
    for (int i = 0; i < RECORDS; i++)
        cr_assert_eq(offset_of[i], i);
    ok(leat_close_all(mq, 0));
}
