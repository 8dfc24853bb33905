/* SPDX-License-Identifier: MIT */
// leat_dump: the state of a store as text. Here: what it says, of small and of large stores, and
// what ends it. With threads: test_dump_threads.c.
#include "lib/queues.h"
#include "lib/report.h"

#include <stdlib.h>
#include <string.h>

static void dump(void) {
    report_begin();
    ok(leat_dump(mq, report_take, NULL));
}

static void nobody(leat_subscription *s, const leat_message *got, void *ctx) {
    (void)s;
    (void)got;
    (void)ctx;
}

static void untold(leat_producer *p, const leat_report *r, void *ctx) {
    (void)p;
    (void)r;
    (void)ctx;
}

// ---- a store in which there is one of each

static void shop_orders(leat_topic **orders) {
    leat_producer *till;
    leat_consumer *c;
    const leat_message *got;
    leat_topic_options two = { .partitions = 2, .retention_bytes = 1 << 20, .dedup_window_ms = 50 };
    leat_record r = { .key = LEAT_STR("user-7"), .value = LEAT_STR("paid") };
    ok(leat_topic_open(mq, "orders", &two, orders));
    ok(leat_producer_open(mq, &(leat_producer_options){ .name = "till", .linger_ms = 100 }, &till));
    ok(leat_consumer_open(mq, "billing", &(leat_consumer_options){ .name = "clerk" }, &c));
    ok(leat_consumer_subscribe(c, "orders"));
    for (int i = 0; i < 3; i++)
        ok(leat_send(till, *orders, &r, NULL));
    gives(3, leat_poll(c, 0, &got));
    ok(leat_commit(c));
    ok(leat_send(till, *orders, &r, NULL));
    ok(leat_send_async(till, *orders, &r, untold, NULL));
    ok(leat_consumer_open(mq, "audit", NULL, &c));
    ok(leat_consumer_subscribe(c, "ord*"));
}

static void shop_emails(void) {
    leat_receive_options who = { .who = "worker-1" };
    leat_queue *emails =
        queues_make("emails", &(leat_queue_options){ .deliveries_max = 2,
                                                     .dead_letter = "dead",
                                                     .backoff_ms = (int64_t[]){ 10, 500 },
                                                     .backoff_count = 2 });
    for (int i = 0; i < 4; i++)
        ok(leat_queue_send(
            emails, &(leat_record){ .value = LEAT_STR("hi"), .delay_ms = i == 3 ? 60000 : 0 },
            NULL));
    gives(1, leat_queue_receive_with(emails, 0, &who, &m, 1));
    gives(1, leat_queue_receive(emails, 0, &n, 1));
    ok(leat_queue_reject(emails, &n, "no such user"));
    ok(leat_queue_pause(emails, 1));
}

static void shop_open(void) {
    leat_topic *orders;
    leat_subscription *s;
    ok(leat_test_open(&mq));
    shop_orders(&orders);
    shop_emails();
    ok(leat_clock_advance(mq, 50));
    ok(leat_channel_subscribe(mq, "sensors.*", nobody, NULL, NULL, &s));
    ok(leat_channel_subscribe(mq, "sensors.kitchen", nobody, NULL,
                              &(leat_subscription_options){ .buffer = 10, .name = "tv" }, &s));
    ok(leat_topic_tap(orders, -1, LEAT_END, NULL, NULL, NULL, &s));
    gives(2, leat_publish(mq, "sensors.kitchen", "21.5", 4));
}

static void shop_close(void) {
    ok(leat_queue_ack(queues_make("emails", NULL), &m));
    gives(1, leat_dispatch(mq, 0));
    ok(leat_clock_advance(mq, 100));
    gives(1, leat_dispatch(mq, 0));
    ok(leat_close_all(mq, 0));
}

static const char shop[] =
    "store: jumping clock at 50 ms, wall time 1000000000050, acks DISK, callbacks polled, "
    "no threads, strict, in memory\n"
    "topic orders: partitions 2, retention_bytes 1048576, dedup_window_ms 50\n"
    "  0: 0 to 4, durable to 4, segments 1, bytes 192\n"
    "  1: 0 to 0, durable to 0, segments 0, bytes 0\n"
    "topic emails: partitions 1, its queue's\n"
    "  0: 0 to 4, durable to 4, segments 2, bytes 168\n"
    "topic dead: partitions 1, its queue's\n"
    "  0: 0 to 1, durable to 1, segments 1, bytes 232\n"
    "group audit: generation 1\n"
    "  member (unnamed): reads pattern ord*\n"
    "  orders 0: nothing committed, lag 4 records, 192 bytes, 50 ms, owner (unnamed)\n"
    "  orders 1: nothing committed, lag 0 records, 0 bytes, 0 ms, owner (unnamed)\n"
    "group billing: generation 1\n"
    "  member clerk: reads orders\n"
    "  orders 0: committed 3, lag 1 records, 48 bytes, 50 ms, owner clerk\n"
    "  orders 1: committed 0, lag 0 records, 0 bytes, 0 ms, owner clerk\n"
    "producer till: accepted 1, stored 0, not stored 0, unknown 0, in flight 1, not reported 1\n"
    "queue dead: visibility_timeout_ms 30000\n"
    "  available 1, delayed 0, leased 0, moving 0, kept 0; since the open: sent 1, done 0, dead 0, "
    "expired 0\n"
    "queue emails: visibility_timeout_ms 30000, deliveries_max 2, dead_letter dead, "
    "backoff_ms 10 500, PAUSED\n"
    "  available 1, delayed 1, leased 1, moving 0, kept 0; since the open: sent 4, done 0, dead 1, "
    "expired 0\n"
    "  0 at 0: leased: for 29950 ms more, delivery 1, by worker-1\n"
    "  0 at 3: delayed: for 59950 ms more, was delivered 0 times\n"
    "channel sensors.kitchen: tv, callback, waiting 1, dropped 0\n"
    "pattern sensors.*: inline\n"
    "open: producer till\n"
    "open: consumer clerk\n"
    "open: consumer audit\n"
    "open: queue emails\n"
    "open: subscription sensors.*\n"
    "open: subscription tv\n"
    "open: subscription orders\n"
    "open: messages that are held: 1\n";

Test(dump, of_one_of_each_is_this_text_each_time) {
    for (int i = 0; i < 2; i++) {
        shop_open();
        for (int k = 0; k < 2; k++) {
            dump();
            cr_assert_str_eq(report, shop, "%s", report);
        }
        shop_close();
    }
}

Test(dump, of_an_empty_store_is_one_line) {
    ok(leat_open_memory(&(leat_options){ .clock = LEAT_CLOCK_MANUAL, .acks = LEAT_ACKS_LOG }, &mq));
    dump();
    cr_assert_str_eq(report,
                     "store: manual clock at 0 ms, wall time 1000000000000, acks LOG, callbacks on "
                     "a thread, in memory\n",
                     "%s", report);
    ok(leat_close(mq, 0));
}

// ---- stores that exist already

Test(dump, on_disk_says_the_same_after_an_open_and_read_only, .init = make_dir, .fini = drop_dir) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL, .seed = 7 };
    leat_topic *t;
    leat_consumer *c;
    const leat_message *got;
    ok(leat_open(dir, &o, &mq));
    leat_queue *q = queues_make("z", &(leat_queue_options){ .deliveries_max = 1 });
    queues_send_n(q, 2, 0);
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_nack(q, &m, 0, 0));
    ok(leat_topic_open(mq, "a", &(leat_topic_options){ .keep_until_consumed = 1 }, &t));
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "z" }, 1));
    gives(2, leat_poll(c, 0, &got));
    ok(leat_commit(c));
    dump();
    says("member (unnamed): assigned by hand");
    ok(leat_close_all(mq, 0));
    for (int view = 0; view < 2; view++) {
        o.flags = view ? LEAT_READ_ONLY : 0;
        ok(leat_open(dir, &o, &mq));
        dump();
        says(dir);
        says("topic z: partitions 1, its queue's\n  0: 0 to 2, durable to 2, segments 1");
        says("topic a: partitions 1, keep_until_consumed\n  0: 0 to 0");
        cr_assert_lt(strstr(report, "topic z"), strstr(report, "topic a"));
        says("group g: generation 0\n  z 0: committed 2, lag 0 records, 0 bytes, 0 ms, no owner\n");
        if (view)
            says("read-only: queues are not told");
        else
            says(
                "queue z: visibility_timeout_ms 30000, deliveries_max 1\n  available 1, delayed 0, "
                "leased 0, moving 0, kept 1; since the open: sent 0, done 0, dead 0, expired 0\n"
                "  0 at 0: dead: kept in place after 1 deliveries");
        ok(leat_close_all(mq, 0));
    }
}

// ---- many

// Leases are offered in the order of their slots, and offsets are not: the last hold the first.
Test(dump, tells_the_first_32_of_those_in_flight_and_of_the_dead) {
    static leat_message all[100];
    queues_open(LEAT_CLOCK_MANUAL, 1);
    leat_queue *q = queues_make("a", &(leat_queue_options){ .deliveries_max = 2 });
    queues_send_n(q, 100, 0);
    gives(100, leat_queue_receive(q, 0, all, 100));
    for (int i = 99; i >= 0; i--)
        ok(i < 50 ? leat_queue_nack(q, &all[i], i, 0) : leat_queue_reject(q, &all[i], NULL));
    dump();
    says("available 1, delayed 49, leased 0, moving 0, kept 50;");
    says("\n  0 at 1: delayed: for 1 ms more");
    says("\n  0 at 32: delayed: for 32 ms more, was delivered 1 times\n  and 17 more\n  0 at 50: "
         "dead");
    says("\n  0 at 81: dead: kept in place after 1 deliveries; leat_queue_redrive ends it\n"
         "  and 18 more\nopen: queue a\n");
    cr_assert_null(strstr(report, "0 at 33:"));
    cr_assert_null(strstr(report, "0 at 82:"));
    ok(leat_close_all(mq, 0));
}

static int count_lines(const void *data, size_t size, void *ctx) {
    const char *text = data;
    for (size_t i = 0; i < size; i++)
        *(int *)ctx += text[i] == '\n';
    return 0;
}

Test(dump, of_ten_thousand_topics_has_a_line_for_each_and_its_partition) {
    enum { TOPICS = 10000 };
    int lines = 0;
    char name[16];
    ok(leat_test_open(&mq));
    for (int i = 0; i < TOPICS; i++) {
        leat_topic *t;
        snprintf(name, sizeof name, "t%d", i);
        ok(leat_topic_open(mq, name, NULL, &t));
    }
    ok(leat_dump(mq, count_lines, &lines));
    cr_assert_eq(lines, 1 + 2 * TOPICS);
    ok(leat_close_all(mq, 0));
}

// ---- names

Test(dump, a_name_of_any_bytes_breaks_no_line) {
    char longest[4000];
    leat_producer *p[2];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    queues_open(LEAT_CLOCK_MANUAL, 1);
    ok(leat_producer_open(mq, &(leat_producer_options){ .name = "a\nopen: \x1b[2J%s\x7f" }, &p[0]));
    ok(leat_producer_open(mq, &(leat_producer_options){ .name = longest }, &p[1]));
    leat_queue *q = queues_make("q", NULL);
    queues_send(q, "v");
    leat_receive_options who = { .who = "\xc3\xa9t\xc3\xa9\t\r\n" };
    gives(1, leat_queue_receive_with(q, 0, &who, &m, 1));
    dump();
    says("\nopen: producer a?open: ?[2J%s?\n");
    says(", by \xc3\xa9t\xc3\xa9???\n");
    const char *at = strstr(report, "open: producer xxx");
    cr_assert_not_null(at);
    cr_assert_eq(strspn(at + strlen("open: producer "), "x"), sizeof longest - 1);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
}

// ---- what ends it

static int refuse(const void *data, size_t size, void *ctx) {
    (void)data;
    (void)size;
    ++*(int *)ctx;
    return 7;
}

Test(dump, a_writer_that_fails_ends_it) {
    int calls = 0;
    shop_open();
    fails(LEAT_EIO, leat_dump(mq, refuse, &calls));
    cr_assert_eq(calls, 1);
    dump();
    cr_assert_str_eq(report, shop);
    shop_close();
}

Test(dump, wrong_arguments_and_a_store_that_is_shut_down_are_refused) {
    int calls = 0;
    ok(leat_test_open(&mq));
    fails(LEAT_EINVAL, leat_dump(NULL, refuse, &calls));
    fails(LEAT_EINVAL, leat_dump(mq, NULL, NULL));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_dump(mq, refuse, &calls));
    cr_assert_eq(calls, 0);
    ok(leat_close_all(mq, 0));
}

static void *scarce(void *ctx, void *old, size_t size) {
    int *left = ctx;
    if (size == 0) {
        free(old);
        return NULL;
    }
    if (*left == 0)
        return NULL;
    *left -= *left > 0;
    return realloc(old, size);
}

Test(dump, whatever_allocation_fails_nothing_is_written_and_nothing_changes) {
    static int left;
    int calls = 0, failed = 0, rc;
    leat_options o = { .alloc = scarce, .alloc_ctx = &left, .clock = LEAT_CLOCK_MANUAL };
    leat_subscription *s;
    leat_consumer *c;
    left = -1;
    ok(leat_open_memory(&o, &mq));
    queues_send_n(queues_make("q", NULL), 3, 0);
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "q"));
    ok(leat_channel_subscribe(mq, "a*", nobody, NULL, NULL, &s));
    do {
        left = failed;
        rc = leat_dump(mq, refuse, &calls);
        left = -1;
        cr_assert_eq(rc, calls == 0 ? LEAT_ENOMEM : LEAT_EIO, "%s", leat_errmsg());
        cr_assert(++failed < 100);
    } while (calls == 0);
    cr_assert_gt(failed, 5);
    dump();
    says("available 3");
    ok(leat_close_all(mq, 0));
}

// ---- who calls it, and what it calls

// As a writer: no lock is held, and it is a callback.
static int call_back(const void *data, size_t size, void *ctx) {
    leat_queue *q = ctx;
    leat_subscription *s;
    leat_topic_info info;
    cr_assert(report_take(data, size, NULL) == 0);
    queues_send(q, "from the writer");
    counts(q, 1, 0, 0, 0);
    gives(1, leat_topic_list(mq, &info, 1, sizeof info));
    ok(leat_channel_subscribe(mq, "c", nobody, NULL, NULL, &s));
    ok(leat_subscription_close(s, 0));
    gives(0, leat_dump(mq, report_take, NULL));
    fails(LEAT_EDEADLK, leat_queue_receive(q, 0, &m, 1));
    fails(LEAT_EDEADLK, leat_topic_delete(mq, "q"));
    fails(LEAT_EDEADLK, leat_close_all(mq, 0));
    return 0;
}

Test(dump, the_writer_may_make_the_calls_of_a_callback) {
    ok(leat_test_open(&mq));
    leat_queue *q = queues_make("q", NULL);
    report_begin();
    ok(leat_dump(mq, call_back, q));
    says("0: 0 to 0, durable to 0");
    says("0: 0 to 1, durable to 1"); // of the dump inside
    ok(leat_close_all(mq, 0));
}

static void dump_inside(leat_subscription *s, const leat_message *got, void *ctx) {
    (void)s;
    (void)got;
    *(int *)ctx = leat_dump(mq, report_take, NULL);
}

Test(dump, may_be_asked_for_in_a_callback) {
    int rc = 1;
    leat_subscription *s;
    ok(leat_test_open(&mq));
    ok(leat_channel_subscribe(mq, "c", dump_inside, &rc, NULL, &s));
    report_begin();
    gives(1, leat_publish(mq, "c", "", 0));
    cr_assert_eq(rc, 0);
    says("channel c: inline\n");
    ok(leat_close_all(mq, 0));
}

// What failed before it is told, where a test would look for it.
Test(dump, tells_of_moves_that_fail_and_of_a_partition_that_is_lost) {
    leat_topic *t;
    leat_producer *p;
    leat_record r = { .value = LEAT_STR("v") };
    queues_open(LEAT_CLOCK_MANUAL, 1);
    leat_queue *q = queues_make("a", &(leat_queue_options){ .dead_letter = "dead" });
    queues_send(q, "v");
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "dead", -1, LEAT_ENOSPC, LEAT_FOREVER, 0));
    ok(leat_queue_reject(q, &m, NULL));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_DISK }, &p));
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 0, LEAT_EIO, 1, 0));
    fails(LEAT_EIO, leat_send(p, t, &r, NULL));
    dump();
    says("0 at 0: moving: to queue dead, after 1 tries the next one in ");
    says("POISONED");
    (void)leat_close_all(mq, 0);
}
