/* SPDX-License-Identifier: MIT */
// A consumer's messages given to a handler on threads: order, results, retries, dead letters,
// rebalances, stops. On a clock that only the test moves: a thread that has nothing to do is
// blocked, and the test waits until all are.
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEEN_MAX = 512, PARTITIONS = 8 };

static leat_consumer *c;
static leat_workers *w;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count, inside, inside_max, at_gate, passes;
    int in_partition[PARTITIONS];
    bool open, overlap, inside_stop;
    struct {
        char value[24];
        int32_t partition, deliveries;
        int64_t offset, at_ms;
        leat_workers *w;
    } one[SEEN_MAX];
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void forget_seen(void) {
    seen.count = seen.inside = seen.inside_max = seen.at_gate = seen.passes = 0;
    seen.open = seen.overlap = seen.inside_stop = false;
    memset(seen.in_partition, 0, sizeof seen.in_partition);
}

static void set_gate(bool open) {
    pthread_mutex_lock(&seen.lock);
    seen.open = open;
    pthread_cond_broadcast(&seen.changed);
    pthread_mutex_unlock(&seen.lock);
}

// Waits until n handlers stand at the gate.
static void wait_at_gate(int n) {
    pthread_mutex_lock(&seen.lock);
    while (seen.at_gate < n)
        pthread_cond_wait(&seen.changed, &seen.lock);
    pthread_mutex_unlock(&seen.lock);
}

static int result_of(const char *v, const leat_message *m, int64_t *delay_ms) {
    int n = v[1] ? v[1] - '0' : 0;
    if (v[0] == 'd') // dead after n tries
        return m->deliveries > n ? LEAT_DEAD : LEAT_RETRY;
    if (v[0] == 'r') // done after n tries
        return m->deliveries > n ? LEAT_DONE : LEAT_RETRY;
    if (v[0] == 'o') // something else
        return m->deliveries > n ? LEAT_DONE : 77;
    if (v[0] == 'q' && m->deliveries == 1) { // at once
        *delay_ms = 0;
        return LEAT_RETRY;
    }
    if (v[0] == 'l' && m->deliveries == 1) { // much later
        *delay_ms = 90000;
        return LEAT_RETRY;
    }
    return LEAT_DONE;
}

// The first letter of a value says what to do; 'g': stand at the gate.
static int take(leat_workers *from, const leat_message *m, int64_t *delay_ms, void *ctx) {
    const char *v = m->value.data;
    int64_t ms = 0;
    (void)ctx;
    (void)leat_clock_now(mq, &ms, NULL);
    pthread_mutex_lock(&seen.lock);
    seen.overlap |= seen.in_partition[m->partition]++ > 0;
    if (++seen.inside > seen.inside_max)
        seen.inside_max = seen.inside;
    if (seen.count < SEEN_MAX) {
        (void)snprintf(seen.one[seen.count].value, sizeof seen.one[0].value, "%s", v);
        seen.one[seen.count].partition = m->partition;
        seen.one[seen.count].offset = m->offset;
        seen.one[seen.count].deliveries = m->deliveries;
        seen.one[seen.count].at_ms = ms;
        seen.one[seen.count++].w = from;
    }
    if (v[0] == 'g') {
        seen.at_gate++;
        pthread_cond_broadcast(&seen.changed);
        while (!seen.open && seen.passes == 0)
            pthread_cond_wait(&seen.changed, &seen.lock);
        seen.passes -= !seen.open;
        seen.at_gate--;
    }
    int rc = result_of(v, m, delay_ms);
    seen.inside--;
    seen.in_partition[m->partition]--;
    pthread_mutex_unlock(&seen.lock);
    if (v[0] == 's' && leat_workers_stop(from, 0) == 0) { // stop
        pthread_mutex_lock(&seen.lock);
        seen.inside_stop = true;
        pthread_cond_broadcast(&seen.changed);
        pthread_mutex_unlock(&seen.lock);
    }
    return rc;
}

static void open_with(const leat_options *store, int32_t partitions,
                      const leat_consumer_options *o) {
    forget_seen();
    ok(fixture_open(NULL, store, &(leat_topic_options){ .partitions = partitions }, NULL));
    ok(leat_consumer_open(mq, "g", o, &c));
    ok(leat_consumer_subscribe(c, "t"));
}

static void open_all(int32_t partitions) {
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, partitions, NULL);
}

static void start(int32_t threads) {
    ok(leat_consumer_start(c, take, NULL, &(leat_worker_options){ .threads = threads }, &w));
}

static void send_to(int32_t partition, const char *value) {
    leat_record r = { .value = leat_str(value), .to_partition = LEAT_PARTITION(partition) };
    ok(leat_send(p, t, &r, NULL));
}

// Waits until that many threads have nothing to do.
static void idle(int threads) {
    ok(leat_clock_wait_blocked(mq, threads, 10000));
}

static int64_t committed(leat_consumer *of, int32_t partition) {
    leat_lag lag[PARTITIONS];
    (void)of;
    int n = leat_group_lag(mq, "g", lag, PARTITIONS, sizeof lag[0]);
    for (int i = 0; i < n; i++)
        if (lag[i].partition == partition && strcmp(lag[i].topic, "t") == 0)
            return lag[i].committed;
    return -1;
}

// The handler was called with these values, in this order, "a b c"; of one partition.
static void handled(int32_t partition, const char *values) {
    char text[1024] = "";
    size_t used = 0;
    pthread_mutex_lock(&seen.lock);
    for (int i = 0; i < seen.count; i++)
        if (seen.one[i].partition == partition)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? " " : "",
                                     seen.one[i].value);
    pthread_mutex_unlock(&seen.lock);
    cr_assert_str_eq(text, values);
    cr_assert(!seen.overlap, "two handlers of one partition at once");
}

static void stop_all(void) {
    ok(leat_workers_stop(w, 0));
    ok(leat_close_all(mq, 0));
}

// ---- what a result means

Test(push, messages_come_in_order_and_are_committed_each) {
    for (int32_t threads = 0; threads < 4; threads++) {
        open_all(2);
        send_to(0, "a");
        start(threads);
        idle(threads ? threads : 1);
        cr_assert_eq(committed(c, 0), 1);
        for (int i = 0; i < 3; i++) {
            send_to(0, "b");
            send_to(1, "c");
        }
        idle(threads ? threads : 1);
        handled(0, "a b b b");
        handled(1, "c c c");
        cr_assert_eq(committed(c, 0), 4);
        cr_assert_eq(committed(c, 1), 3);
        cr_assert_eq(seen.one[0].deliveries, 1);
        cr_assert_eq(seen.one[0].w, w);
        stop_all();
    }
}

Test(push, a_retry_waits_longer_each_time_and_holds_back_its_partition_alone) {
    open_all(2);
    send_to(0, "r4");
    send_to(0, "a");
    ok(leat_consumer_start(c, take, NULL, &(leat_worker_options){ .threads = 2, .retry_ms = 100 },
                           &w));
    idle(2);
    send_to(1, "b");
    idle(2);
    handled(0, "r4");
    handled(1, "b");
    cr_assert_eq(committed(c, 0), -1);
    const int64_t waits[] = { 100, 200, 400, 800 };
    for (int i = 0; i < 4; i++) {
        ok(leat_clock_advance(mq, waits[i] - 1));
        idle(2);
        cr_assert_eq(seen.count, 2 + i);
        ok(leat_clock_advance(mq, 1));
        idle(2);
        cr_assert_eq(seen.count, 3 + i + (i == 3), "%d", seen.count);
    }
    handled(0, "r4 r4 r4 r4 r4 a");
    cr_assert_eq(seen.one[5].deliveries, 5);
    cr_assert_eq(committed(c, 0), 2);
    stop_all();
}

Test(push, a_retry_doubles_up_to_a_minute_and_begins_anew_with_each_message) {
    open_all(1);
    send_to(0, "r9");
    send_to(0, "r1");
    start(1);
    idle(1);
    int64_t sum = 0, wait = 1000;
    for (int i = 0; i < 9; i++) {
        ok(leat_clock_advance(mq, wait));
        idle(1);
        sum += wait;
        cr_assert_eq(seen.one[i + 1].at_ms, sum, "%d", i);
        wait = wait < 30000 ? 2 * wait : 60000;
    }
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    cr_assert_eq(seen.count, 12);
    cr_assert_eq(seen.one[11].deliveries, 2);
    stop_all();
}

Test(push, a_handler_says_how_long_a_retry_waits) {
    open_all(1);
    send_to(0, "q");
    send_to(0, "l");
    send_to(0, "o1"); // a result that is none is a retry
    start(1);
    idle(1);
    handled(0, "q q l");
    ok(leat_clock_advance(mq, 89999));
    idle(1);
    handled(0, "q q l");
    ok(leat_clock_advance(mq, 1));
    idle(1);
    handled(0, "q q l l o1");
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    handled(0, "q q l l o1 o1");
    stop_all();
    open_all(1); // and with LEAT_ZERO there is no wait
    send_to(0, "r9");
    ok(leat_consumer_start(c, take, NULL, &(leat_worker_options){ .retry_ms = LEAT_ZERO }, &w));
    idle(1);
    cr_assert_eq(seen.count, 10);
    stop_all();
}

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
    cr_assert_eq(committed(c, 1), 3);
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
    cr_assert_eq(committed(c, 0), -1);
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    cr_assert_eq(committed(c, 0), -1);
    ok(leat_clock_advance(mq, 1999));
    idle(1);
    cr_assert_eq(committed(c, 0), -1);
    ok(leat_clock_advance(mq, 1));
    idle(1);
    handled(0, "d a"); // the handler had had its say
    cr_assert_eq(committed(c, 0), 2);
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
    cr_assert_eq(committed(c, 0), 2);
    stop_all();
}

// ---- threads

Test(push, partitions_run_in_parallel_and_each_alone) {
    open_all(4);
    for (int i = 0; i < 4; i++) {
        send_to(i, "g");
        send_to(i, "a");
    }
    start(4);
    wait_at_gate(4); // all at once
    cr_assert_eq(seen.count, 4);
    set_gate(true);
    idle(4);
    for (int i = 0; i < 4; i++) {
        handled(i, "g a");
        cr_assert_eq(committed(c, i), 2);
    }
    stop_all();
}

Test(push, more_threads_than_partitions_are_no_harm) {
    open_all(2);
    start(6);
    idle(6);
    for (int i = 0; i < 20; i++)
        send_to(i % 2, "a");
    idle(6);
    cr_assert_eq(seen.count, 20);
    cr_assert(!seen.overlap && seen.inside_max <= 2);
    leat_stats s;
    ok(leat_get_stats(mq, &s, sizeof s));
    cr_assert_eq(s.read, 20);
    cr_assert_geq(s.threads, 6);
    stop_all();
}

Test(push, one_thread_serves_all_while_one_waits_for_its_retry) {
    open_all(3);
    send_to(0, "r1");
    start(1);
    idle(1);
    for (int i = 0; i < 5; i++) {
        send_to(1, "a");
        send_to(2, "b");
        idle(1);
    }
    handled(0, "r1");
    handled(1, "a a a a a");
    handled(2, "b b b b b");
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    handled(0, "r1 r1");
    stop_all();
}

static int keep_one(leat_workers *from, const leat_message *m, int64_t *delay_ms, void *ctx) {
    (void)from, (void)delay_ms;
    leat_message *kept = ctx;
    if (m->offset != 1)
        return LEAT_DONE;
    return leat_message_hold(mq, m, kept) == 0 ? LEAT_DONE : LEAT_DEAD;
}

Test(push, a_handler_holds_its_message_and_sends) {
    leat_message kept = { .offset = -1 };
    open_all(1);
    for (int i = 0; i < 4; i++)
        send_to(0, i == 1 ? "kept" : "a");
    ok(leat_consumer_start(c, keep_one, &kept, NULL, &w));
    idle(1);
    ok(leat_workers_stop(w, 0));
    is(kept.value, "kept");
    ok(leat_message_release(mq, &kept));
    ok(leat_close_all(mq, 0));
}

static int call_all(leat_workers *from, const leat_message *m, int64_t *delay_ms, void *ctx) {
    const leat_message *got;
    leat_message copy = *m;
    (void)delay_ms;
    int *wrong = ctx;
    *wrong += leat_poll(c, 0, &got) != LEAT_EDEADLK;
    *wrong += leat_consumer_close(c) != LEAT_EDEADLK;
    *wrong += leat_flush(p, 0) != LEAT_EDEADLK;
    *wrong += leat_close_all(mq, 0) != LEAT_EDEADLK;
    *wrong += leat_message_release(mq, &copy) != LEAT_EINVAL;
    *wrong += leat_consumer_wakeup(c) != 0;
    leat_workers *out;
    *wrong += leat_consumer_start(c, call_all, NULL, NULL, &out) != LEAT_EDEADLK;
    *wrong += from != w;
    if (m->offset == 0) // a send is allowed
        *wrong += leat_send(p, t, &(leat_record){ .value = LEAT_STR("b") }, NULL) != 0;
    return LEAT_DONE;
}

Test(push, a_handler_is_a_callback) {
    int wrong = 0;
    open_all(1);
    send_to(0, "a");
    ok(leat_consumer_start(c, call_all, &wrong, NULL, &w));
    idle(1);
    cr_assert_eq(wrong, 0);
    cr_assert_eq(committed(c, 0), 2);
    stop_all();
}

// ---- whose the consumer is

Test(push, the_consumer_is_the_workers_until_they_are_stopped) {
    const leat_message *m;
    leat_position at;
    leat_workers *second;
    open_all(1);
    for (int i = 0; i < 3; i++)
        send_to(0, "a");
    gives(3, leat_poll(c, 0, &m));
    ok(leat_consumer_seek(c, "t", 0, 1)); // where it stands
    start(1);
    idle(1);
    handled(0, "a a");
    fails_saying(LEAT_EBUSY, "stop them", leat_poll(c, 0, &m));
    fails(LEAT_EBUSY, leat_commit(c));
    fails(LEAT_EBUSY, leat_consumer_subscribe(c, NULL));
    fails(LEAT_EBUSY, leat_consumer_assign(c, NULL, 0));
    fails(LEAT_EBUSY, leat_consumer_seek(c, "t", 0, 0));
    fails(LEAT_EBUSY, leat_consumer_positions(c, 0, &at, 1));
    fails(LEAT_EBUSY, leat_consumer_fd(c));
    fails(LEAT_EBUSY, leat_consumer_close(c));
    fails(LEAT_EBUSY, leat_consumer_start(c, take, NULL, NULL, &second));
    cr_assert_null(second);
    ok(leat_consumer_wakeup(c));
    idle(1);
    fails_saying(LEAT_EBUSY, "workers", leat_close(mq, 0));
    ok(leat_workers_stop(w, 0));
    send_to(0, "b");
    gives(1, leat_poll(c, 0, &m));
    is(m->value, "b");
    start(2); // and again
    send_to(0, "c");
    idle(2);
    handled(0, "a a c");
    stop_all();
}

Test(push, an_assigned_consumer_with_a_group_may_start) {
    forget_seen();
    ok(fixture_open(NULL, &(leat_options){ .clock = LEAT_CLOCK_MANUAL }, NULL, NULL));
    ok(leat_consumer_open(mq, "g", NULL, &c));
    for (int i = 0; i < 3; i++)
        send_to(0, "a");
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t", .offset = 1 }, 1));
    start(1);
    idle(1);
    handled(0, "a a");
    cr_assert_eq(committed(c, 0), 3);
    stop_all();
}

Test(push, wrong_arguments_are_refused) {
    leat_consumer *alone;
    open_all(1);
    ok(leat_consumer_open(mq, NULL, NULL, &alone));
    fails(LEAT_EINVAL, leat_consumer_start(NULL, take, NULL, NULL, &w));
    fails(LEAT_EINVAL, leat_consumer_start(c, NULL, NULL, NULL, &w));
    fails(LEAT_EINVAL, leat_consumer_start(c, take, NULL, NULL, NULL));
    fails_saying(LEAT_EINVAL, "group", leat_consumer_start(alone, take, NULL, NULL, &w));
    const struct {
        leat_worker_options o;
        int rc;
    } wrong[] = {
        { { .threads = -1 }, LEAT_EINVAL },         { { .threads = 257 }, LEAT_EINVAL },
        { { .auto_extend = 1 }, LEAT_EINVAL },      { { .retry_ms = LEAT_FOREVER }, LEAT_EINVAL },
        { { .retry_ms = INT64_MIN }, LEAT_EINVAL }, { { .dead_letter = "nowhere" }, LEAT_ENOENT },
        { { .dead_letter = "a/b" }, LEAT_EINVAL },  { { .dead_letter = "t" }, LEAT_EINVAL },
        { { .reserved = { 1 } }, LEAT_EINVAL }
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        w = (leat_workers *)1;
        fails(wrong[i].rc, leat_consumer_start(c, take, NULL, &wrong[i].o, &w));
        cr_assert_null(w);
    }
    ok(leat_consumer_subscribe(c, "x*"));
    leat_topic *x;
    ok(leat_topic_open(mq, "xyz", NULL, &x));
    fails_saying(
        LEAT_EINVAL, "read here",
        leat_consumer_start(c, take, NULL, &(leat_worker_options){ .dead_letter = "xyz" }, &w));
    fails(LEAT_EINVAL, leat_workers_stop(NULL, 0));
    start(1);
    fails(LEAT_EINVAL, leat_workers_stop(w, -2));
    ok(leat_workers_stop(w, LEAT_FOREVER));
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_consumer_start(c, take, NULL, NULL, &w));
    ok(leat_close_all(mq, 0));
    open_with(&(leat_options){ .threads = LEAT_NO_THREADS }, 1, NULL);
    fails_saying(LEAT_EINVAL, "poll", leat_consumer_start(c, take, NULL, NULL, &w));
    ok(leat_close_all(mq, 0));
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
            cr_assert_eq(committed(c, i), 20, "allocation %ld", at);
        cr_assert_eq(seen.count, 60, "allocation %ld: %d", at, seen.count);
        cr_assert(!seen.overlap);
        stop_all();
    }
}

// ---- stopping

static void *stop_it(void *arg) {
    int64_t timeout_ms = *(int64_t *)arg;
    *(int64_t *)arg = leat_workers_stop(w, timeout_ms);
    return NULL;
}

Test(push, a_stop_drains_what_was_fetched) {
    pthread_t thread;
    int64_t result = LEAT_FOREVER;
    open_all(1);
    send_to(0, "g");
    send_to(0, "a");
    start(1);
    wait_at_gate(1);
    send_to(0, "late"); // not fetched
    cr_assert_eq(pthread_create(&thread, NULL, stop_it, &result), 0);
    idle(1); // in the stop
    set_gate(true);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(result, 0);
    handled(0, "g a");
    const leat_message *m;
    gives(1, leat_poll(c, 0, &m));
    is(m->value, "late");
    ok(leat_close_all(mq, 0));
}

Test(push, a_stop_waits_for_retries_until_its_time_and_drops_the_rest) {
    pthread_t thread;
    int64_t result = 1500;
    open_all(2);
    send_to(0, "r1");
    send_to(1, "r2"); // after 3 s
    send_to(1, "a");
    start(2);
    idle(2);
    cr_assert_eq(pthread_create(&thread, NULL, stop_it, &result), 0);
    idle(3);
    ok(leat_clock_advance(mq, 1000));
    idle(3);
    handled(0, "r1 r1");
    handled(1, "r2 r2");
    ok(leat_clock_advance(mq, 500));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(result, 0);
    cr_assert_eq(committed(c, 0), 1);
    cr_assert_eq(committed(c, 1), -1);
    const leat_message *m;
    gives(2, leat_poll(c, 0, &m)); // what was dropped is read again, also by c
    is(m[0].value, "r2");
    is(m[1].value, "a");
    ok(leat_close_all(mq, 0));
}

Test(push, a_stop_says_that_a_handler_still_runs) {
    open_all(1);
    send_to(0, "g");
    send_to(0, "a");
    start(2);
    wait_at_gate(1);
    fails_saying(LEAT_ETIMEDOUT, "1 thread", leat_workers_stop(w, 0));
    fails(LEAT_EBUSY, leat_close_all(mq, 0));
    fails(LEAT_EBUSY, leat_consumer_close(c));
    set_gate(true);
    ok(leat_workers_stop(w, LEAT_FOREVER));
    handled(0, "g");                  // and nothing was begun since
    cr_assert_eq(committed(c, 0), 1); // its result counts
    ok(leat_close_all(mq, 0));
}

Test(push, a_stop_times_out_on_the_stores_clock) {
    pthread_t thread;
    int64_t result = 700;
    open_all(1);
    send_to(0, "g");
    start(1);
    wait_at_gate(1);
    cr_assert_eq(pthread_create(&thread, NULL, stop_it, &result), 0);
    idle(1);
    ok(leat_clock_advance(mq, 700));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(result, LEAT_ETIMEDOUT);
    set_gate(true);
    ok(leat_workers_stop(w, LEAT_FOREVER));
    ok(leat_close_all(mq, 0));
}

static atomic_int ended;

static void on_end(void *ctx) {
    pthread_mutex_lock(&seen.lock);
    atomic_fetch_add(&ended, ctx == &ended ? 1 : 100);
    if (seen.inside > 0)
        atomic_fetch_add(&ended, 1000);
    pthread_cond_broadcast(&seen.changed);
    pthread_mutex_unlock(&seen.lock);
}

static void wait_ended(void) {
    pthread_mutex_lock(&seen.lock);
    while (atomic_load(&ended) == 0)
        pthread_cond_wait(&seen.changed, &seen.lock);
    pthread_mutex_unlock(&seen.lock);
    cr_assert_eq(atomic_load(&ended), 1);
}

static void start_ending(int32_t threads) {
    atomic_store(&ended, 0);
    ok(leat_consumer_start(c, take, &ended,
                           &(leat_worker_options){ .threads = threads, .on_end = on_end }, &w));
}

Test(push, on_end_runs_once_and_last) {
    open_all(1);
    send_to(0, "a");
    start_ending(3);
    idle(3);
    cr_assert_eq(atomic_load(&ended), 0);
    ok(leat_workers_stop(w, 0));
    cr_assert_eq(atomic_load(&ended), 1);
    start_ending(1);
    ok(leat_close_all(mq, 1000));
    cr_assert_eq(atomic_load(&ended), 1);
}

Test(push, a_stop_inside_the_handler_returns_at_once_and_on_end_tells) {
    for (int i = 0; i < 4; i++) {
        open_all(3);
        send_to(1, "g");
        start_ending(i == 0 ? 2 : 4);
        wait_at_gate(1); // on another thread
        send_to(0, "s");
        send_to(0, "a"); // not begun
        pthread_mutex_lock(&seen.lock);
        while (!seen.inside_stop)
            pthread_cond_wait(&seen.changed, &seen.lock);
        pthread_mutex_unlock(&seen.lock);
        cr_assert_eq(atomic_load(&ended), 0, "a handler still runs");
        set_gate(true);
        wait_ended();
        handled(0, "s");
        handled(1, "g");
        cr_assert_eq(committed(c, 0), 1);
        cr_assert_eq(committed(c, 1), 1);
        if (i == 1) { // the consumer is its caller's again
            const leat_message *m;
            gives(1, leat_poll(c, 0, &m));
            is(m->value, "a");
            start(1);
            ok(leat_workers_stop(w, 0));
        }
        if (i == 2) {
            ok(leat_consumer_close(c));
            ok(leat_producer_close(p, 0));
            ok(leat_close(mq, 0));
        } else {
            ok(leat_close_all(mq, 0));
        }
    }
}

static void stop_on_report(leat_producer *from, const leat_report *r, void *ctx) {
    (void)from, (void)r;
    *(int *)ctx = leat_workers_stop(w, LEAT_FOREVER);
}

Test(push, a_stop_inside_any_callback_does_not_wait) {
    int rc = -1;
    open_all(1);
    send_to(0, "g");
    start_ending(1);
    wait_at_gate(1);
    ok(leat_send_async(p, t, &(leat_record){ .value = LEAT_STR("a") }, stop_on_report, &rc));
    ok(leat_flush(p, LEAT_FOREVER));
    cr_assert_eq(rc, 0);
    cr_assert_eq(atomic_load(&ended), 0);
    set_gate(true);
    wait_ended();
    handled(0, "g");
    ok(leat_close_all(mq, 0));
}

Test(push, closing_all_stops_the_workers_first_and_is_bounded) {
    open_with(NULL, 1, NULL); // the system clock
    send_to(0, "g");
    start(2);
    wait_at_gate(1);
    fails_saying(LEAT_EBUSY, "handler", leat_close_all(mq, 20));
    set_gate(true);
    ok(leat_close_all(mq, LEAT_FOREVER));
    handled(0, "g");
}

Test(push, no_handler_begins_after_a_shutdown) {
    open_all(1);
    send_to(0, "g");
    send_to(0, "a");
    start_ending(2);
    wait_at_gate(1);
    ok(leat_shutdown(mq));
    set_gate(true);
    ok(leat_workers_stop(w, LEAT_FOREVER)); // in real time: the store's has ended
    handled(0, "g");
    cr_assert_eq(atomic_load(&ended), 1);
    ok(leat_close_all(mq, 0));
}

Test(push, a_crash_beside_a_handler_keeps_what_was_committed) {
    leat *old, *reopened;
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL, .flags = LEAT_CRASHABLE }, 1, NULL);
    send_to(0, "a");
    send_to(0, "g");
    send_to(0, "b");
    start_ending(2);
    wait_at_gate(1);
    ok(leat_crash(mq, LEAT_KILL, &reopened));
    old = mq;
    set_gate(true);
    ok(leat_workers_stop(w, LEAT_FOREVER)); // the result of "g" comes too late
    cr_assert_eq(atomic_load(&ended), 1);
    handled(0, "a g");
    ok(leat_close_all(old, 0));
    mq = reopened;
    cr_assert_eq(committed(c, 0), 1);
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    start(1);
    idle(1);
    handled(0, "a g g b");
    stop_all();
}

static void stop_on_event(leat_consumer *from, const leat_event *e, void *ctx) {
    (void)from;
    if (e->kind == LEAT_EV_ASSIGNED && e->partition == 1)
        *(int *)ctx = leat_workers_stop(w, LEAT_FOREVER);
}

Test(push, a_stop_inside_an_event_does_not_wait) {
    int rc = -1;
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, 2,
              &(leat_consumer_options){ .on_event = stop_on_event, .ctx = &rc });
    send_to(1, "a");
    start_ending(3);
    wait_ended();
    cr_assert_eq(rc, 0);
    handled(1, "");
    ok(leat_close_all(mq, 0));
}

Test(push, a_fork_has_no_workers) {
    open_all(1);
    send_to(0, "a");
    start(2);
    idle(2);
    pid_t child = fork();
    if (child == 0)
        _exit(leat_workers_stop(w, 0) == LEAT_EFORK && leat_close_all(mq, 0) == 0 ? 0 : 1);
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    send_to(0, "b");
    idle(2);
    handled(0, "a b");
    stop_all();
}

// ---- groups

Test(push, a_partition_passes_on_only_when_its_handler_has_returned) {
    leat_consumer *other;
    const leat_message *m;
    for (int32_t threads = 1; threads < 3; threads++) {
        open_all(2);
        send_to(1, "g");
        send_to(1, "b");
        start(threads);
        wait_at_gate(1);
        ok(leat_consumer_open(mq, "g", NULL, &other));
        ok(leat_consumer_subscribe(other, "t")); // it is to have partition 1
        if (threads > 1)
            idle(1);
        gives(0, leat_poll(other, 0, &m));
        leat_position at[2];
        gives(0, leat_consumer_positions(other, 0, at, 2));
        set_gate(true);
        idle(threads);
        cr_assert_eq(committed(c, 1), 1, "%d: %lld %d", threads, (long long)committed(c, 1),
                     seen.count);
        gives(1, leat_poll(other, 0, &m));
        is(m->value, "b"); // fetched by c and not begun
        handled(1, "g");
        send_to(0, "a");
        idle(threads);
        handled(0, "a");
        ok(leat_commit(other));
        ok(leat_consumer_close(other)); // all comes back
        send_to(1, "z");
        idle(threads);
        handled(1, "g z");
        stop_all();
    }
}

Test(push, a_partition_whose_message_waits_passes_on_at_once) {
    leat_consumer *other;
    const leat_message *m;
    open_all(2);
    send_to(1, "r9");
    start(1);
    idle(1);
    ok(leat_consumer_open(mq, "g", NULL, &other));
    ok(leat_consumer_subscribe(other, "t"));
    idle(1);
    gives(1, leat_poll(other, 0, &m));
    is(m->value, "r9");
    ok(leat_clock_advance(mq, 100000));
    idle(1);
    handled(1, "r9"); // not c's any more
    stop_all();
}

Test(push, a_partition_that_comes_back_goes_on_where_it_was) {
    leat_consumer *other;
    open_all(2);
    send_to(1, "r1");
    send_to(1, "a");
    start(1);
    idle(1);
    for (int i = 0; i < 3; i++) { // it is asked for and not taken
        ok(leat_consumer_open(mq, "g", NULL, &other));
        ok(leat_consumer_subscribe(other, "t"));
        if (i == 1)
            idle(1);
        ok(leat_consumer_close(other));
        idle(1);
    }
    ok(leat_clock_advance(mq, 100000));
    idle(1);
    cr_assert_eq(committed(c, 1), 2);
    pthread_mutex_lock(&seen.lock);
    cr_assert_str_eq(seen.one[seen.count - 1].value, "a");
    pthread_mutex_unlock(&seen.lock);
    stop_all();
}

static atomic_int revoked_events, event_calls;

static void on_event(leat_consumer *from, const leat_event *e, void *ctx) {
    (void)ctx;
    if (e->kind != LEAT_EV_REVOKED)
        return;
    atomic_fetch_add(&revoked_events, 1);
    atomic_fetch_add(&event_calls, leat_commit(from) == LEAT_EBUSY); // results are committed
}

Test(push, events_are_told_by_the_workers_when_nothing_of_the_partition_is_left) {
    leat_consumer *other;
    const leat_message *m;
    atomic_store(&revoked_events, 0);
    atomic_store(&event_calls, 0);
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, 2,
              &(leat_consumer_options){ .on_event = on_event });
    send_to(1, "g");
    send_to(1, "b");
    start(2);
    wait_at_gate(1);
    ok(leat_consumer_open(mq, "g", NULL, &other));
    ok(leat_consumer_subscribe(other, "t"));
    idle(1);
    cr_assert_eq(atomic_load(&revoked_events), 0, "a handler still has a message of it");
    set_gate(true);
    idle(2);
    cr_assert_eq(atomic_load(&revoked_events), 1);
    cr_assert_eq(atomic_load(&event_calls), 1);
    gives(1, leat_poll(other, 0, &m));
    is(m->value, "b");
    stop_all();
}

Test(push, who_has_asked_for_events_before_is_not_waited_for) {
    leat_consumer *other;
    leat_event e;
    const leat_message *m;
    open_all(2);
    gives(1, leat_consumer_event(c, &e)); // both are assigned
    send_to(1, "r9");
    start(1);
    idle(1);
    ok(leat_consumer_open(mq, "g", NULL, &other));
    ok(leat_consumer_subscribe(other, "t"));
    idle(1);
    gives(1, leat_poll(other, 0, &m));
    send_to(0, "a");
    idle(1);
    handled(0, "a");
    stop_all();
}

Test(push, an_automatic_commit_does_not_run_ahead_of_the_handlers) {
    const leat_message *m;
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, 1,
              &(leat_consumer_options){ .auto_commit_ms = 10 });
    send_to(0, "a");
    send_to(0, "r9");
    send_to(0, "b");
    start(1);
    idle(1);
    ok(leat_clock_advance(mq, 900));
    ok(leat_consumer_wakeup(c));
    idle(1);
    cr_assert_eq(committed(c, 0), 1);
    ok(leat_workers_stop(w, 0));
    ok(leat_clock_advance(mq, 100));
    gives(2, leat_poll(c, 0, &m));
    is(m->value, "r9");
    cr_assert_eq(committed(c, 0), 1);
    ok(leat_close_all(mq, 0));
}

Test(push, a_stuck_handler_is_expelled_and_its_result_does_not_count) {
    leat_consumer *other;
    const leat_message *m;
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, 1,
              &(leat_consumer_options){ .max_poll_interval_ms = 5000 });
    send_to(0, "a");
    start(1);
    idle(1);
    ok(leat_clock_advance(mq, 60000)); // who waits in a poll is not stuck
    idle(1);
    send_to(0, "r2"); // nor who tries again
    idle(1);
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    ok(leat_clock_advance(mq, 2000));
    idle(1);
    cr_assert_eq(committed(c, 0), 2);
    send_to(0, "g");
    send_to(0, "b");
    wait_at_gate(1);
    ok(leat_consumer_open(mq, "g", NULL, &other));
    ok(leat_consumer_subscribe(other, "t"));
    gives(0, leat_poll(other, 0, &m));
    ok(leat_clock_advance(mq, 5000));
    gives(2, leat_poll(other, 0, &m));
    is(m[0].value, "g");
    set_gate(true);
    idle(1);
    cr_assert_eq(committed(c, 0), 2);
    handled(0, "a r2 r2 r2 g");
    ok(leat_commit(other));
    cr_assert_eq(committed(c, 0), 4);
    ok(leat_consumer_close(other));
    send_to(0, "z"); // and it is a member again
    idle(1);
    handled(0, "a r2 r2 r2 g z");
    stop_all();
}

Test(push, who_works_without_a_poll_is_not_expelled) {
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, 1,
              &(leat_consumer_options){ .max_poll_interval_ms = 5000 });
    for (int i = 0; i < 4; i++) // one fetch
        send_to(0, "g");
    start(1);
    for (int i = 1; i < 4; i++) {
        wait_at_gate(1);
        ok(leat_clock_advance(mq, 3000));
        pthread_mutex_lock(&seen.lock);
        seen.passes = 1;
        pthread_cond_broadcast(&seen.changed);
        while (seen.count == i)
            pthread_cond_wait(&seen.changed, &seen.lock);
        pthread_mutex_unlock(&seen.lock);
    }
    set_gate(true);
    idle(1);
    handled(0, "g g g g");
    cr_assert_eq(committed(c, 0), 4);
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
    cr_assert_eq(committed(c, 0), -1);
    ok(leat_clock_advance(mq, 1000));
    idle(1);
    handled(0, "a");
    ok(leat_clock_advance(mq, 2000));
    idle(1);
    handled(0, "a b");
    cr_assert_eq(committed(c, 0), 2);
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

Test(push, commits_on_disk_wait_for_the_lane_to_be_empty) {
    open_with(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, 2,
              &(leat_consumer_options){ .commit_acks = LEAT_ACKS_DISK });
    for (int i = 0; i < 3; i++)
        send_to(0, "a");
    send_to(0, "g");
    send_to(0, "r1");
    start(1);
    wait_at_gate(1);
    cr_assert_eq(committed(c, 0), -1);
    set_gate(true);
    idle(1);
    cr_assert_eq(committed(c, 0), 4, "a message waits: the thread has nothing else");
    set_gate(false);
    send_to(1, "a");
    idle(1);
    cr_assert_eq(committed(c, 1), 1);
    send_to(1, "a");
    send_to(1, "g");
    wait_at_gate(1);
    fails(LEAT_ETIMEDOUT, leat_workers_stop(w, 0));
    set_gate(true);
    ok(leat_workers_stop(w, LEAT_FOREVER));
    cr_assert_eq(committed(c, 1), 3);
    ok(leat_close_all(mq, 0));
}
