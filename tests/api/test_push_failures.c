/* SPDX-License-Identifier: MIT */
// A consumer's messages given to a handler on threads: those that are dead, commits and polls that
// fail, and no memory.
#include "lib/handled.h"

#include <stdatomic.h>
#include <stdlib.h>

// ---- dead letters

static leat_topic *dead;
static leat_consumer *reader;

static void open_dead(void) {
    ok(leat_topic_open(mq, "dead", NULL, &dead));
    ok(leat_consumer_open(mq, NULL, NULL, &reader));
    ok(leat_consumer_assign(reader, &(leat_position){ .topic = "dead" }, 1));
}

static void header_is(const leat_message *m, size_t i, const char *name, const char *value) {
    leat_header h = { .name = { NULL, 0 } };
    cr_assert_eq(leat_message_header(m, i, &h), 1);
    is(h.name, name);
    is(h.value, value);
}

Test(push, what_is_dead_goes_to_the_dead_letters_with_where_it_comes_from) {
    open_all(2);
    open_dead();
    leat_header own = { .name = LEAT_STR("own"), .value = LEAT_STR("header") };
    leat_record r = { .key = LEAT_STR("k"),
                      .value = LEAT_STR("d1"),
                      .headers = &own,
                      .header_count = 1,
                      .timestamp_ms = 5,
                      .to_partition = LEAT_PARTITION(1) };
    send_to(1, "a");
    ok(leat_send(p, t, &r, NULL));
    send_to(1, "b");
    ok(leat_consumer_start(c, take, NULL, &(leat_worker_options){ .dead_letter = "dead" }, &w));
    idle(1);
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    handled(1, "a d1 d1 b");
    cr_assert_eq(committed(1), 3);
    const leat_message *m;
    gives(1, leat_poll(reader, 0, &m));
    is(m->key, "k");
    is(m->value, "d1");
    int64_t wall;
    ok(leat_clock_now(mq, NULL, &wall));
    cr_assert_eq(m->timestamp_ms, wall); // of the move
    cr_assert_eq(m->header_count, 8);
    header_is(m, 0, "own", "header");
    header_is(m, 1, "leat.group", "g");
    header_is(m, 2, "leat.topic", "t");
    header_is(m, 3, "leat.partition", "1");
    header_is(m, 4, "leat.offset", "1");
    header_is(m, 5, "leat.timestamp", "5");
    header_is(m, 6, "leat.deliveries", "2");
    header_is(m, 7, "leat.reason", "handler");
    leat_range range;
    ok(leat_topic_range(dead, 0, &range));
    cr_assert_eq(range.durable_end, 1);
    stop_all();
}

Test(push, a_message_that_dies_twice_tells_of_the_last_time) {
    open_all(1);
    open_dead();
    send_to(0, "d");
    ok(leat_consumer_start(c, take, NULL, &(leat_worker_options){ .dead_letter = "dead" }, &w));
    idle(1);
    leat_consumer *second;
    leat_workers *w2;
    leat_topic *deader;
    const leat_message *m;
    ok(leat_topic_open(mq, "deader", NULL, &deader));
    ok(leat_consumer_open(mq, "h", NULL, &second));
    ok(leat_consumer_subscribe(second, "dead"));
    ok(leat_consumer_start(second, take, NULL, &(leat_worker_options){ .dead_letter = "deader" },
                           &w2));
    idle(2);
    ok(leat_consumer_assign(reader, &(leat_position){ .topic = "deader" }, 1));
    gives(1, leat_poll(reader, 0, &m));
    cr_assert_eq(m->header_count, 7);
    header_is(m, 0, "leat.group", "h");
    header_is(m, 1, "leat.topic", "dead");
    ok(leat_workers_stop(w2, 0));
    stop_all();
}

Test(push, a_dead_letter_that_cannot_be_sent_is_tried_again_in_place) {
    open_all(1);
    open_dead();
    send_to(0, "d");
    send_to(0, "a");
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "dead", 0, LEAT_ENOSPC, 2, 0));
    ok(leat_consumer_start(c, take, NULL, &(leat_worker_options){ .dead_letter = "dead" }, &w));
    idle(1);
    handled(0, "d");
    cr_assert_eq(committed(0), -1);
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    cr_assert_eq(committed(0), -1);
    ok(leat_clock_advance(mq, 1999));
    idle(1);
    cr_assert_eq(committed(0), -1);
    ok(leat_clock_advance(mq, 1));
    idle(1);
    handled(0, "d a"); // the handler had had its say
    cr_assert_eq(committed(0), 2);
    const leat_message *m;
    gives(1, leat_poll(reader, 0, &m));
    stop_all();
}

Test(push, without_a_dead_letter_topic_what_is_dead_is_forgotten) {
    open_all(1);
    send_to(0, "d");
    send_to(0, "a");
    start(1);
    idle(1);
    handled(0, "d a");
    cr_assert_eq(committed(0), 2);
    stop_all();
}

// ---- failures

static atomic_int said;
static void count_said(int level, const char *text, void *ctx) {
    (void)level, (void)text, (void)ctx;
    atomic_fetch_add(&said, 1);
}

Test(push, a_commit_that_fails_is_tried_again_before_the_next_message) {
    atomic_store(&said, 0);
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL, .log = count_said }, 1, NULL);
    ok(leat_fault_push(mq, LEAT_OP_COMMIT, "t", 0, LEAT_EIO, 2, 0));
    send_to(0, "a");
    send_to(0, "b");
    start(1);
    idle(1);
    handled(0, "a");
    cr_assert_eq(committed(0), -1);
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    handled(0, "a");
    ok(leat_clock_advance(mq, 2000));
    idle(1);
    handled(0, "a b");
    cr_assert_eq(committed(0), 2);
    cr_assert_eq(atomic_load(&said), 2);
    stop_all();
}

Test(push, a_poll_that_fails_is_said_and_tried_again) {
    leat_topic *gone;
    atomic_store(&said, 0);
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL, .log = count_said }, 2, NULL);
    ok(leat_topic_open(mq, "gone", NULL, &gone));
    ok(leat_consumer_subscribe(c, "gone"));
    start(2);
    idle(2);
    ok(leat_topic_delete(mq, "gone"));
    idle(2);
    cr_assert_geq(atomic_load(&said), 1);
    send_to(0, "a");
    send_to(1, "b");
    for (int i = 0; i < 6; i++) {
        ok(leat_clock_advance(mq, 1000));
        idle(2);
    }
    handled(0, "a"); // the others go on
    handled(1, "b");
    stop_all();
}

struct failing {
    _Atomic long left; // allocations until one fails
};

static void *fail_alloc(void *ctx, void *old, size_t size) {
    struct failing *f = ctx;
    if (size == 0) {
        free(old);
        return NULL;
    }
    return atomic_fetch_sub(&f->left, 1) == 1 ? NULL : realloc(old, size);
}

Test(push, no_memory_is_said_and_tried_again) {
    struct failing f = { .left = 0 };
    for (long at = 1; at < 12; at++) {
        atomic_store(&f.left, 0);
        open_with(
            &(leat_options){ .clock = LEAT_CLOCK_MANUAL, .alloc = fail_alloc, .alloc_ctx = &f }, 3,
            NULL);
        for (int i = 0; i < 60; i++)
            send_to(i % 3, "a");
        atomic_store(&f.left, at);
        int rc = leat_consumer_start(c, take, NULL, &(leat_worker_options){ .threads = 2 }, &w);
        if (rc != 0) {
            cr_assert_eq(rc, LEAT_ENOMEM);
            cr_assert_null(w);
            atomic_store(&f.left, 0);
            start(2);
        }
        idle(2);
        for (int i = 0; i < 3; i++) { // an error of the poll is tried again after a second
            ok(leat_clock_advance(mq, 1000));
            idle(2);
        }
        for (int i = 0; i < 3; i++)
            cr_assert_eq(committed(i), 20, "allocation %ld", at);
        cr_assert_eq(seen.count, 60, "allocation %ld: %d", at, seen.count);
        cr_assert(!seen.overlap);
        stop_all();
    }
}
