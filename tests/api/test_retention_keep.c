/* SPDX-License-Identifier: MIT */
// .keep_until_consumed: retention goes only as far as the slowest group and the slowest queue.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>

#define START INT64_C(1700000000000)

static void open_store(const char *path, const leat_topic_options *o) {
    leat_options so = { .acks = LEAT_ACKS_LOG, .clock = LEAT_CLOCK_MANUAL, .start_ms = START };
    ok(fixture_open(path, &so, o, NULL));
}

static void done(void) {
    ok(leat_close_all(mq, 0));
}

// Sends n records, each in a segment of its own.
static void send_some(int n, int32_t partition) {
    for (int i = 0; i < n; i++) {
        ok(leat_clock_advance(mq, 2));
        ok(leat_send(
            p, t,
            &(leat_record){ .value = LEAT_STR("x"), .to_partition = LEAT_PARTITION(partition) },
            NULL));
    }
}

static int64_t begin_of(int32_t partition) {
    leat_range r;
    ok(leat_clock_advance(mq, 0)); // what consumers set free goes when it is due: at once
    ok(leat_topic_range(t, partition, &r));
    return r.begin;
}

#define begins(at) cr_assert_eq(begin_of(0), at, "it begins at %d", (int)begin_of(0))

static leat_consumer *member(const char *group) {
    leat_consumer *c;
    ok(leat_consumer_open(mq, group, &(leat_consumer_options){ .max_poll_records = 1 }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    return c;
}

static void reads_and_commits(leat_consumer *c, int n) {
    const leat_message *m;
    for (int i = 0; i < n; i++) {
        gives(1, leat_poll(c, 0, &m));
        ok(leat_commit(c));
    }
}

static leat_queue *queue_over(const char *name) {
    leat_queue *q;
    ok(leat_queue_open(mq, name, &(leat_queue_options){ .topic = "t" }, &q));
    return q;
}

static void acks(leat_queue *q, int n) {
    leat_message m;
    for (int i = 0; i < n; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_ack(q, &m));
    }
}

// Every kind of retention that would leave two records of ten.
static const leat_topic_options kinds[] = {
    { .segment_ms = 1, .keep_until_consumed = 1, .retention_records = 2 },
    { .segment_ms = 1, .keep_until_consumed = 1, .retention_bytes = 80 },
    { .segment_ms = 1, .keep_until_consumed = 1, .retention_ms = 3 },
};

Test(retention_keep, with_no_consumer_nothing_is_kept_back) {
    for (int i = 0; i < 3; i++) {
        open_store(NULL, &kinds[i]);
        send_some(10, 0);
        begins(8);
        done();
    }
}

Test(retention_keep, it_goes_up_to_the_slowest_group_and_queue_and_not_a_record_further) {
    for (int i = 0; i < 3; i++) {
        open_store(NULL, &kinds[i]);
        leat_consumer *a = member("a"), *b = member("b");
        leat_queue *q = queue_over("q"), *r = queue_over("r");
        send_some(10, 0);
        begins(0);
        reads_and_commits(a, 9);
        reads_and_commits(b, 3);
        begins(0);
        acks(q, 2);
        begins(0);
        acks(r, 10);
        begins(2);
        acks(q, 8);
        begins(3);
        reads_and_commits(b, 4);
        begins(7);
        reads_and_commits(b, 2);
        begins(8);
        done();
    }
}

Test(retention_keep, an_ack_out_of_order_frees_nothing_until_the_head_is_done) {
    open_store(NULL, &kinds[0]);
    leat_queue *q = queue_over("q");
    leat_message m[5];
    send_some(10, 0);
    gives(5, leat_queue_receive(q, 0, m, 5));
    for (int i = 4; i > 0; i--)
        ok(leat_queue_ack(q, &m[i]));
    begins(0);
    ok(leat_queue_ack(q, &m[0]));
    begins(5);
    done();
}

Test(retention_keep, a_member_without_a_commit_holds_all_back_until_it_leaves) {
    for (int i = 0; i < 3; i++) {
        open_store(NULL, &kinds[i]);
        leat_consumer *c = member("a");
        const leat_message *m;
        send_some(10, 0);
        gives(1, leat_poll(c, 0, &m));
        begins(0);
        ok(leat_consumer_close(c));
        begins(8);
        done();
    }
}

Test(retention_keep, a_group_that_has_committed_counts_without_members) {
    open_store(NULL, &kinds[0]);
    leat_consumer *c = member("a");
    send_some(2, 0);
    reads_and_commits(c, 1);
    ok(leat_consumer_close(c));
    send_some(8, 0);
    begins(1);
    c = member("a");
    reads_and_commits(c, 9);
    begins(8);
    done();
}

Test(retention_keep, delete_records_asks_nobody) {
    open_store(NULL, &kinds[0]);
    (void)member("a");
    (void)queue_over("q");
    send_some(10, 0);
    ok(leat_topic_delete_records(t, 0, 6));
    begins(6);
    done();
}

Test(retention_keep, after_an_open_groups_and_queues_count_as_before, .init = make_root,
     .fini = drop_root) {
    for (int i = 0; i < 3; i++) {
        open_store(dir, &kinds[i]);
        leat_consumer *c = member("a");
        leat_queue *q = queue_over("q");
        send_some(10, 0);
        reads_and_commits(c, 4);
        acks(q, 3);
        begins(3);
        done();
        open_store(dir, NULL);
        ok(leat_clock_advance(mq, 1000));
        begins(3);
        acks(queue_over("q"), 7);
        begins(4);
        done();
        open_store(dir, NULL);
        ok(leat_clock_advance(mq, 1000)); // the clock has begun at START again
        begins(4);
        reads_and_commits(member("a"), 6);
        begins(i == 2 ? 9 : 8); // by time all but the active one are old by now
        done();
        drop_root();
        make_root();
    }
}

Test(retention_keep, a_queue_that_has_not_seen_the_topic_grow_holds_all_of_it_back) {
    open_store(NULL, &kinds[0]);
    leat_queue *q = queue_over("q");
    ok(leat_topic_grow(t, 2));
    send_some(10, 1);
    cr_assert_eq(begin_of(1), 0);
    acks(q, 10);
    cr_assert_eq(begin_of(1), 8);
    done();
}
