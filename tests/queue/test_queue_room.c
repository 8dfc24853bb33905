/* SPDX-License-Identifier: MIT */
// The queue room where it hurts: segments that another queue has given back, settings that change
// under messages, a dead-letter queue that is full.
#include "base/failing_mem.h"

#include "lib/room.h"

// ---- segments that went while somebody stood in them

Test(room, a_queue_over_anothers_topic_lets_go_of_what_that_one_gives_back) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("own", NULL);
    q->topic->segment_bytes = 16384; // as no public call can ask of a queue's own topic
    ok(leat_queue_open(
        mq, "beside", &(leat_queue_options){ .topic = "own", .visibility_timeout_ms = 10 * SECOND },
        &other));
    send_n(q, 80, 1000); // 5 segments and a bit
    leat_message some[40];
    gives(40, leat_queue_receive(other, 0, some, 40));
    ok(leat_queue_nack(other, &some[1], HOUR, 0));
    ok(leat_queue_nack(other, &some[2], 0, 0));
    ok(leat_clock_advance(mq, 9 * SECOND));
    ok(leat_queue_extend(other, &some[3], SECOND)); // will be lapsed
    ok(leat_clock_advance(mq, SECOND));
    ack_all(q);
    leat_range r;
    ok(leat_topic_range(leat_queue_topic(q), 0, &r));
    cr_assert(r.begin > 40 && r.begin < 80, "begin %d", (int)r.begin);
    holds(other);
    fails(LEAT_ESTALE, leat_queue_ack(other, &some[0])); // the record is gone
    fails(LEAT_ESTALE, leat_queue_nack(other, &some[3], HOUR, 0));
    fails(LEAT_ESTALE, leat_queue_extend(other, &some[4], HOUR));
    leat_queue_stats s = stats_of(other);
    cr_assert_eq(s.available, (uint64_t)(r.end - r.begin));
    cr_assert(s.leased == 0 && s.delayed == 0, "leased %d delayed %d", (int)s.leased,
              (int)s.delayed);
    holds(other);
    gives(1, leat_queue_receive(other, 0, &m, 1));
    cr_assert_eq(m.offset, r.begin);
    ok(leat_queue_ack(other, &m));
    for (int i = 0; i < 40; i++)
        (void)leat_message_release(mq, &some[i]); // their bytes stayed
    ok(leat_close_all(mq, 0));
}

Test(room, kept_and_moving_messages_go_with_their_segment_too) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("own", NULL);
    q->topic->segment_bytes = 16384;
    ok(leat_queue_open(mq, "beside", &(leat_queue_options){ .topic = "own", .deliveries_max = 1 },
                       &other));
    send_n(q, 80, 1000);
    for (int i = 0; i < 3; i++) {
        gives(1, leat_queue_receive(other, 0, &m, 1));
        ok(leat_queue_nack(other, &m, 0, 0));
    }
    cr_assert_eq(stats_of(other).kept, 3);
    // One more, whose move does not succeed for as long as the dead-letter queue is closed to it.
    leat_queue *dead;
    ok(leat_queue_open(mq, "beside",
                       &(leat_queue_options){ .flags = LEAT_ALTER, .dead_letter = "dead" }, &dead));
    ok(leat_queue_close(dead));
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    lt_topic_part(dead->topic, 0)->poisoned = true;
    gives(1, leat_queue_receive(other, 0, &m, 1));
    ok(leat_queue_nack(other, &m, 0, 0));
    cr_assert_eq(stats_of(other).moving, 1);
    ack_all(q);
    leat_queue_stats s = stats_of(other);
    cr_assert(s.kept == 0 && s.moving == 0 && s.leased == 0, "kept %d moving %d", (int)s.kept,
              (int)s.moving);
    holds(other);
    ok(leat_clock_advance(mq, HOUR));
    ok(leat_close_all(mq, 0));
}

Test(room, a_poll_from_below_a_log_that_is_empty_ends) {
    struct failing_mem mem;
    failing_mem_init(&mem, 0);
    leat_options o = { .clock = LEAT_CLOCK_JUMP,
                       .threads = LEAT_NO_THREADS,
                       .acks = LEAT_ACKS_LOG,
                       .memory_max_bytes = 128 * 1024,
                       .alloc = failing_mem_fn,
                       .alloc_ctx = &mem };
    ok(leat_open_memory(&o, &mq));
    open_queue("own", NULL);
    q->topic->segment_bytes = 16384;
    leat_consumer *c;
    const leat_message *view;
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    leat_position at = { .topic = "own", .offset = LEAT_BEGIN };
    ok(leat_consumer_assign(c, &at, 1));
    send_n(q, 30, 1000); // two segments
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ack_all(q);
    static char big[1 << 20], bigger[2 << 20]; // get a segment of their own, and no room in it
    fails(LEAT_EFULL, leat_queue_send(q, &(leat_record){ .value = { big, sizeof big } }, NULL));
    ok(leat_queue_ack(q, &m));
    leat_range r;
    ok(leat_topic_range(leat_queue_topic(q), 0, &r));
    cr_assert(r.begin == 30 && r.end == 30, "begin %d", (int)r.begin);
    mem.fail_at = mem.asked + 1; // the empty segment stays, as the next is not made
    mem.then_all = true;
    fails(LEAT_ENOMEM,
          leat_queue_send(q, &(leat_record){ .value = { bigger, sizeof bigger } }, NULL));
    mem.fail_at = 0;
    cr_assert_eq(lt_topic_part(q->topic, 0)->count, 1);
    gives(0, leat_poll(c, 1000, &view));
    send("after");
    gives(1, leat_poll(c, 1000, &view));
    is(view[0].value, "after");
    cr_assert_eq(view[0].offset, 30);
    ok(leat_close_all(mq, 0));
}

// ---- settings

Test(room, a_lower_deliveries_max_ends_what_had_as_many_tries) {
    for (int with_dead = 0; with_dead < 2; with_dead++) {
        open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
        open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = SECOND });
        send("a");
        send("b");
        send("c");
        for (int i = 0; i < 3; i++) {
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(i == 2 ? leat_message_release(mq, &m) : leat_queue_nack(q, &m, 0, 0));
        }
        ok(leat_clock_advance(mq, SECOND)); // its lease is lapsed
        leat_queue *x;
        ok(leat_queue_open(mq, "jobs",
                           &(leat_queue_options){ .flags = LEAT_ALTER,
                                                  .deliveries_max = 2,
                                                  .dead_letter = with_dead ? "dead" : NULL },
                           &x));
        gives(1, leat_queue_receive(q, 0, &n, 1));
        is(n.value, "b");
        cr_assert_eq(n.deliveries, 1);
        fails(LEAT_ESTALE, leat_queue_ack(q, &m));
        leat_queue_stats s = stats_of(q);
        cr_assert_eq(s.dead, (uint64_t)with_dead);
        cr_assert_eq(s.kept, (uint64_t)!with_dead);
        cr_assert(s.moving == 0 && s.leased == 1 && s.available == 1);
        holds(q);
        ok(leat_queue_ack(q, &n));
        ok(leat_close_all(mq, 0));
    }
}

Test(room, the_4095th_delivery_is_the_last) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 4095 });
    send("a");
    for (int i = 1; i <= 4095; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        cr_assert_eq(m.deliveries, i);
        ok(leat_queue_nack(q, &m, 0, 0));
    }
    gives(0, leat_queue_receive(q, 0, &m, 1));
    cr_assert_eq(stats_of(q).kept, 1);
    open_queue("ever", NULL);
    send("b");
    for (int i = 1; i <= 4100; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        cr_assert_eq(m.deliveries, i < 4095 ? i : 4095); // as far as a word counts
        ok(leat_queue_nack(q, &m, 0, 0));
    }
    ok(leat_close_all(mq, 0));
}

Test(room, a_topic_left_by_a_dead_open_is_taken_over_only_as_it_is) {
    open_jobs(MEMORY, LEAT_CLOCK_MANUAL, 0);
    leat_topic_options o = { .partitions = 2 }, full;
    leat_topic *t;
    ok(lt_topic_check_options(&o, &full));
    lt_lock(&mq->log->admin);
    ok(lt_topic_create(mq, "jobs", &full, true, &t));
    lt_unlock(&mq->log->admin);
    fails_saying(LEAT_EEXIST, "2 partitions",
                 leat_queue_open(mq, "jobs", &(leat_queue_options){ .partitions = 3 }, &q));
    ok(leat_queue_open(mq, "jobs", &(leat_queue_options){ .partitions = 2 }, &q));
    cr_assert_eq(leat_queue_topic(q), t);
    ok(leat_close_all(mq, 0));
}

// ---- the dead-letter queue

Test(room, a_full_dead_letter_queue_keeps_it_moving_until_there_is_room) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL,
                       .acks = LEAT_ACKS_LOG,
                       .memory_max_bytes = 192 * 1024 };
    ok(leat_open_memory(&o, &mq));
    open_queue("filler", NULL);
    q->topic->segment_bytes = 16384;
    leat_queue *filler = q, *dead;
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 1, .dead_letter = "dead" });
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    q->topic->segment_bytes = dead->topic->segment_bytes = 16384;
    send("a");
    static char bytes[8000];
    leat_record r = { .value = { bytes, sizeof bytes } };
    int rc;
    while ((rc = leat_queue_send(filler, &r, NULL)) == 0)
        ;
    cr_assert_eq(rc, LEAT_EFULL);
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_nack(q, &m, 0, 0));
    for (int i = 0; i < 30; i++) {
        ok(leat_clock_advance(mq, SECOND));
        leat_queue_stats s = stats_of(q);
        cr_assert(s.moving == 1 && s.dead == 0 && s.available == 0 && s.leased == 0);
    }
    gives(0, leat_queue_receive(q, 0, &m, 1));
    ack_all(filler); // its segments go
    ok(leat_clock_advance(mq, SECOND));
    cr_assert_eq(stats_of(q).moving, 0);
    cr_assert_eq(stats_of(q).dead, 1);
    gives(1, leat_queue_receive(dead, 0, &m, 1));
    is(m.value, "a");
    ok(leat_queue_ack(dead, &m));
    ok(leat_close_all(mq, 0));
}
