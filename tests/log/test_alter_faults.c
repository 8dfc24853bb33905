/* SPDX-License-Identifier: MIT */
// A topic that is altered where the system fails: each call in turn, and for want of room.
#include <criterion/criterion.h>

#include "lib/faulty_os.h"
#include "lib/place.h"
#include "log/log.h"
#include "store/store.h"

#include <errno.h>

enum { STEPS = 400, SEGMENT = 16384, VALUE = 8000, RECORDS = 6, FEW = 2 };

static struct faulty_os faulty; // large
static leat *mq;
static leat_topic *t;

static int alter(void) {
    leat_topic *same;
    leat_topic_options o = { .flags = LEAT_ALTER,
                             .retention_records = FEW,
                             .retention_ms = 1000000,
                             .keep_until_consumed = 1 };
    return leat_topic_open(mq, "t", &o, &same);
}

static void open_store(int write) {
    static const char value[VALUE];
    const leat_options o = { .clock = LEAT_CLOCK_MANUAL, .seed = 3, .write = write };
    leat_producer *p;
    make_dir();
    faulty_os_init(&faulty);
    ok(lt_store_open(dir, &o, &faulty.os, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = SEGMENT }, &t));
    ok(leat_producer_open(mq, NULL, &p));
    for (int i = 0; i < RECORDS; i++)
        ok(leat_send(p, t, &(leat_record){ .value = { value, VALUE } }, NULL));
}

// Whether the topic is as it was altered; a mix is a failure.
static bool altered(void) {
    const struct lt_keeps *k = &t->keeps, *own = &lt_topic_part(t, 0)->keeps;
    bool is = k->records == FEW;
    cr_assert(k->ms == (is ? 1000000 : LEAT_FOREVER) && k->until_consumed == is);
    cr_assert(own->records == k->records && own->ms == k->ms);
    cr_assert(own->until_consumed == k->until_consumed);
    return is;
}

static int64_t begins(void) {
    leat_range r;
    ok(leat_topic_range(t, 0, &r));
    cr_assert_eq(r.end, RECORDS);
    return r.begin;
}

// Closes what has failed, and looks at what an open finds.
static bool altered_after_open(void) {
    (void)leat_close_all(mq, 0);
    faulty_os_plan(&faulty, NULL);
    faulty_os_fini(&faulty);
    ok(leat_open(dir, NULL, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    bool is = altered();
    cr_assert(begins() == (is ? RECORDS - FEW : 0));
    ok(leat_close_all(mq, 0));
    drop_dir();
    return is;
}

static void fail_each(bool sticky, enum faulty_how how) {
    int refused = 0;
    bool failed = true;
    for (long at = 1; failed && at < STEPS; at++) {
        open_store(at % 2 ? LEAT_WRITE_MAPPED : LEAT_WRITE_PWRITE);
        faulty_os_plan(&faulty, &(struct faulty_plan){ .at = at, .sticky = sticky, .how = how });
        int rc = alter();
        failed = faulty.faults > 0;
        refused += rc != 0;
        cr_assert(rc == 0 || failed);
        cr_assert_eq(altered(), rc == 0, "call %ld: %d", at, rc);
        cr_assert(begins() == 0 || rc == 0);
        cr_assert(failed || begins() == RECORDS - FEW);
        bool now = altered_after_open();
        if (!sticky) // a note that is not whole is taken back
            cr_assert_eq(now, rc == 0, "call %ld: %d", at, rc);
        cr_assert(rc != 0 || now || failed, "call %ld", at);
    }
    cr_assert(refused > 0 && !failed, "refused %d", refused);
}

Test(alter_faults, a_change_that_fails_anywhere_leaves_all_as_it_was) {
    fail_each(false, FAULTY_ERROR);
    fail_each(true, FAULTY_ERROR);
    fail_each(false, FAULTY_TORN);
}

Test(alter_faults, on_a_full_disk_nothing_changes) {
    const struct faulty_plan full = {
        .at = 1, .sticky = true, .ops = FAULTY_BIT(FAULTY_PWRITE), .error = ENOSPC
    };
    open_store(LEAT_WRITE_MAPPED);
    faulty_os_plan(&faulty, &full);
    fails(LEAT_ENOSPC, alter());
    fails(LEAT_ENOSPC, alter());
    cr_assert(!altered() && begins() == 0);
    faulty_os_plan(&faulty, NULL);
    ok(alter()); // there is room again
    cr_assert(altered() && begins() == RECORDS - FEW);
    cr_assert(altered_after_open());
}
