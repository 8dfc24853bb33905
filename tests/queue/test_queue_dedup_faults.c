/* SPDX-License-Identifier: MIT */
// The dedup window of a queue's own topic, where the system fails while it is changed, and where a
// topic was left by a process that died before its queue was made.
#include <criterion/criterion.h>

#include "lib/faulty_os.h"
#include "queue/room.h"
#include "store/store.h"

#include "lib/queues.h" // behind those: its names are short

enum { STEPS = 400 };

static struct faulty_os faulty; // large
static leat_queue *q;

static int repeats(const char *id) {
    leat_metadata md;
    leat_record r = { .value = leat_str(id), .dedup_id = leat_str(id) };
    ok(leat_queue_send(q, &r, &md));
    return md.duplicate;
}

static void change_failing(bool sticky) {
    const leat_queue_options change = { .flags = LEAT_ALTER,
                                        .dedup_window_ms = HOUR,
                                        .deliveries_max = 5 };
    int refused = 0;
    bool failed = true;
    for (long at = 1; failed && at < STEPS; at++) {
        leat_options o = { .clock = LEAT_CLOCK_MANUAL,
                           .seed = 3,
                           .write = at % 2 ? LEAT_WRITE_MAPPED : LEAT_WRITE_PWRITE };
        leat_queue *x;
        make_dir();
        faulty_os_init(&faulty);
        ok(lt_store_open(dir, &o, &faulty.os, &mq));
        q = queues_make("q", &(leat_queue_options){ .deliveries_max = 4 });
        faulty_os_plan(&faulty, &(struct faulty_plan){ .at = at, .sticky = sticky });
        int rc = leat_queue_open(mq, "q", &change, &x);
        cr_assert_eq(q->topic->dedup_window_ms, rc == 0 ? HOUR : 0, "call %ld: %d", at, rc);
        cr_assert_eq(q->set.deliveries_max, rc == 0 ? 5 : 4, "call %ld: %d", at, rc);
        failed = faulty.faults > 0;
        refused += rc != 0;
        cr_assert(rc == 0 || failed);
        (void)leat_close_all(mq, 0);
        faulty_os_plan(&faulty, NULL);
        faulty_os_fini(&faulty);
        queues_open_disk(LEAT_WRITE_MAPPED); // both are as they were, or not, and work
        q = queues_make("q", NULL);
        int64_t window_ms = q->topic->dedup_window_ms;
        int32_t tries = q->set.deliveries_max;
        cr_assert(window_ms == 0 || window_ms == HOUR);
        cr_assert(tries == 4 || tries == 5);
        cr_assert(failed || (window_ms == HOUR && tries == 5));
        if (!sticky) // one that fails alone is taken back
            cr_assert_eq(window_ms == HOUR, tries == 5, "call %ld: tries %d", at, tries);
        cr_assert_eq(repeats("a"), 0);
        cr_assert_eq(repeats("a"), window_ms == HOUR);
        ok(leat_close_all(mq, 0));
        drop_dir();
    }
    cr_assert(refused > 0 && !failed, "refused %d", refused);
}

Test(queue_dedup_faults, a_change_that_fails_anywhere_leaves_all_as_it_was) {
    change_failing(true);
    change_failing(false);
}

Test(queue_dedup_faults, a_topic_that_was_left_gets_the_window_that_is_asked_for) {
    for (int kind = 0; kind < 2; kind++) {
        leat_topic_options o = { .dedup_window_ms = kind ? HOUR : 0 }, full;
        leat_topic *t;
        queues_open(LEAT_CLOCK_MANUAL, 1);
        ok(lt_topic_check_options(&o, &full));
        lt_lock(&mq->log->admin);
        ok(lt_topic_create(mq, "q", &full, true, &t));
        lt_unlock(&mq->log->admin);
        q = queues_make("q", &(leat_queue_options){ .dedup_window_ms = kind ? 0 : HOUR });
        cr_assert_eq(leat_queue_topic(q), t);
        cr_assert_eq(repeats("a"), 0);
        cr_assert_eq(repeats("a"), kind ? 0 : 1);
        ok(leat_close_all(mq, 0));
    }
}
