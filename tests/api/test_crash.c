/* SPDX-License-Identifier: MIT */
// leat_crash: what each acknowledgement survives, for a killed process and a power cut, in memory
// and on disk, through mappings and pwrite; and what becomes of the handle that has crashed.
#include "leat.h"
#include "leat_test.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REAL_MS = 20000, SECOND = 1000, SEEDS = 24 };

static char dir[SCRATCH_PATH];
static leat *mq, *old;
static leat_topic *t;
static leat_producer *p;

// The four ways in which a store keeps its bytes.
static const struct kind {
    const char *name;
    bool disk;
    int32_t write;
} kinds[] = { { "memory", false, LEAT_WRITE_MAPPED },
              { "memory, pwrite", false, LEAT_WRITE_PWRITE },
              { "disk", true, LEAT_WRITE_MAPPED },
              { "disk, pwrite", true, LEAT_WRITE_PWRITE } };
static const struct kind *const kinds_end = kinds + sizeof kinds / sizeof *kinds;

// On disk a crash is the same code below another one, and each sync takes its time: few will do.
static uint64_t seeds(const struct kind *k) {
    return k->disk ? 3 : SEEDS;
}

static void open_with(const struct kind *k, leat_options o) {
    o.flags |= LEAT_CRASHABLE | LEAT_STRICT;
    o.write = k->write;
    if (k->disk) {
        scratch_make(dir);
        ok(leat_open(dir, &o, &mq));
    } else {
        ok(leat_open_memory(&o, &mq));
    }
}

static void open_kind(const struct kind *k, uint64_t seed) {
    open_with(k,
              (leat_options){ .threads = LEAT_NO_THREADS, .clock = LEAT_CLOCK_JUMP, .seed = seed });
}

static void open_topic(int32_t acks) {
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = acks }, &p));
}

static void close_kind(const struct kind *k) {
    ok(leat_close_all(mq, 0));
    if (k->disk)
        scratch_remove(dir);
}

// Crashes mq and goes on with what was opened; the old handle is closed at once.
static void crash(int how) {
    old = mq;
    ok(leat_crash(old, how, &mq));
    ok(leat_close_all(old, 0));
}

// Sends the records from..to-1, whose text is their number.
static void send_numbers(int from, int to) {
    for (int i = from; i < to; i++) {
        char text[420]; // so that the records are in several sectors
        (void)snprintf(text, sizeof text, "%d %0390d", i, 0);
        ok(leat_send(p, t, &(leat_record){ .value = leat_str(text) }, NULL));
    }
}

// Reads topic t from its beginning. Its records must be 0, 1, 2 ... Returns how many.
static int count_numbers(void) {
    leat_consumer *c;
    const leat_message *m;
    int n, count = 0;
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t", .offset = LEAT_BEGIN }, 1));
    while ((n = leat_poll(c, 0, &m)) > 0)
        for (int i = 0; i < n; i++, count++)
            cr_assert_eq(atoi(m[i].value.data), count, "record %d is '%.8s'", count,
                         (const char *)m[i].value.data);
    cr_assert_eq(n, 0, "%s", leat_errmsg());
    ok(leat_consumer_close(c));
    return count;
}

// ---- what survives

static int survivors(const struct kind *k, int how, int32_t acks, uint64_t seed) {
    open_kind(k, seed);
    open_topic(LEAT_ACKS_DISK);
    send_numbers(0, 1);
    ok(leat_producer_close(p, 0));
    open_topic(acks);
    send_numbers(1, 10);
    crash(how);
    int n = count_numbers();
    close_kind(k);
    return n;
}

Test(crash, a_kill_leaves_what_is_in_the_log_a_power_cut_what_is_on_disk) {
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        int lost = 0, kept = 0, some = 0;
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            cr_assert_eq(survivors(k, LEAT_KILL, LEAT_ACKS_LOG, seed), 10, "%s", k->name);
            cr_assert_eq(survivors(k, LEAT_KILL, LEAT_ACKS_DISK, seed), 10, "%s", k->name);
            cr_assert_eq(survivors(k, LEAT_POWER_CUT, LEAT_ACKS_DISK, seed), 10, "%s", k->name);
            int n = survivors(k, LEAT_POWER_CUT, LEAT_ACKS_LOG, seed);
            cr_assert(n >= 1 && n <= 10, "%s: %d", k->name, n);
            cr_assert_eq(survivors(k, LEAT_POWER_CUT, LEAT_ACKS_LOG, seed), n, "%s: not the same",
                         k->name);
            lost += n == 1;
            kept += n == 10;
            some += n > 1 && n < 10;
        }
        cr_assert(k->disk || (lost > 0 && kept > 0 && some > 0),
                  "%s: all lost %d, none %d, some %d of %d", k->name, lost, kept, some, SEEDS);
    }
}

Test(crash, leat_sync_makes_what_was_sent_and_committed_survive) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k) / 3; seed++) {
            leat_consumer *c;
            const leat_message *m;
            open_kind(k, seed);
            open_topic(LEAT_ACKS_LOG);
            send_numbers(0, 4);
            ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = 3 }, &c));
            ok(leat_consumer_subscribe(c, "t"));
            gives(3, leat_poll(c, 0, &m));
            ok(leat_commit(c));
            ok(leat_sync(mq));
            crash(LEAT_POWER_CUT);
            cr_assert_eq(count_numbers(), 4);
            ok(leat_consumer_open(mq, "g", NULL, &c));
            ok(leat_consumer_subscribe(c, "t"));
            gives(1, leat_poll(c, 0, &m));
            cr_assert_eq(m[0].offset, 3);
            close_kind(k);
        }
}

Test(crash, a_commit_survives_a_kill_and_a_power_cut_takes_it_back_at_most) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            int how = seed & 1 ? LEAT_KILL : LEAT_POWER_CUT;
            leat_consumer *c;
            const leat_message *m;
            open_kind(k, seed);
            open_topic(LEAT_ACKS_LOG);
            send_numbers(0, 3);
            ok(leat_consumer_open(mq, "g", NULL, &c));
            ok(leat_consumer_subscribe(c, "t"));
            gives(3, leat_poll(c, 0, &m));
            ok(leat_commit(c));
            crash(how);
            ok(leat_topic_open(mq, "t", NULL, &t));
            ok(leat_producer_open(mq, NULL, &p));
            leat_metadata md;
            ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("after") }, &md));
            ok(leat_consumer_open(mq, "g", NULL, &c));
            ok(leat_consumer_subscribe(c, "t"));
            int n = leat_poll(c, 0, &m);
            cr_assert(n >= 1, "the record sent after the crash is not read: %d", n);
            cr_assert_eq(m[n - 1].offset, md.offset);
            if (how == LEAT_KILL)
                cr_assert(n == 1 && md.offset == 3, "%s: %d, offset %d", k->name, n,
                          (int)md.offset);
            close_kind(k);
        }
}

Test(crash, a_commit_on_disk_survives_a_power_cut_and_so_does_what_was_read) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k) / 3; seed++) {
            leat_consumer *c;
            const leat_message *m;
            leat_consumer_options o = { .commit_acks = LEAT_ACKS_DISK };
            open_kind(k, seed);
            open_topic(LEAT_ACKS_LOG);
            send_numbers(0, 3);
            ok(leat_consumer_open(mq, "g", &o, &c));
            ok(leat_consumer_subscribe(c, "t"));
            gives(3, leat_poll(c, 0, &m));
            ok(leat_commit(c));
            crash(LEAT_POWER_CUT);
            cr_assert_eq(count_numbers(), 3);
            ok(leat_consumer_open(mq, "g", NULL, &c));
            ok(leat_consumer_subscribe(c, "t"));
            gives(0, leat_poll(c, 0, &m));
            close_kind(k);
        }
}

Test(crash, a_batch_is_whole_or_not_there) {
    int whole = 0, none = 0;
    for (uint64_t seed = 1; seed <= 4 * SEEDS; seed++) {
        static const char bytes[700];
        leat_record r[5];
        leat_range range;
        open_kind(kinds, seed);
        open_topic(LEAT_ACKS_DISK);
        send_numbers(0, 1);
        ok(leat_producer_close(p, 0));
        open_topic(LEAT_ACKS_LOG);
        for (int i = 0; i < 5; i++)
            r[i] = (leat_record){ .value = { bytes, sizeof bytes } };
        ok(leat_send_many(p, t, r, 5, NULL));
        crash(LEAT_POWER_CUT);
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_topic_range(t, 0, &range));
        cr_assert(range.end == 1 || range.end == 6, "seed %d: end %d", (int)seed, (int)range.end);
        whole += range.end == 6;
        none += range.end == 1;
        close_kind(kinds);
    }
    cr_assert(whole > 0 && none > 0, "whole %d, none %d", whole, none);
}

// ---- queues

static leat_queue *q, *dead;

static void open_queues(void) {
    leat_queue_options o = { .visibility_timeout_ms = 60 * SECOND,
                             .deliveries_max = 2,
                             .dead_letter = "dead" };
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    ok(leat_queue_open(mq, "q", &o, &q));
}

// Receives all that a queue has. Writes the texts' first letters, and how often each came.
static const char *receive_all(leat_queue *from) {
    static char text[64];
    leat_message m;
    size_t n = 0;
    while (leat_queue_receive(from, 0, &m, 1) == 1) {
        n += (size_t)snprintf(text + n, sizeof text - n, "%c%d", *(const char *)m.value.data,
                              m.deliveries);
        ok(leat_queue_ack(from, &m));
    }
    text[n] = '\0';
    return text;
}

Test(crash, what_was_leased_comes_back_and_what_was_acked_does_not_after_a_kill) {
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        leat_message a, b, m;
        open_kind(k, 1);
        open_queues();
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("b") }, NULL));
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("c") }, NULL));
        gives(1, leat_queue_receive(q, 0, &a, 1));
        gives(1, leat_queue_receive(q, 0, &b, 1));
        ok(leat_queue_ack(q, &a));
        old = mq;
        ok(leat_crash(old, LEAT_KILL, &mq));
        m = b;
        fails(LEAT_ECLOSED, leat_queue_ack(q, &m)); // ends the view: nothing is left to release
        fails(LEAT_ESTALE, leat_message_release(old, &b));
        ok(leat_queue_close(q));
        ok(leat_queue_close(dead));
        ok(leat_close(old, 0));
        open_queues();
        fails(LEAT_ESTALE, leat_queue_ack(q, &b)); // a receipt of an earlier run
        cr_assert_str_eq(receive_all(q), "b2c1");
        close_kind(k);
    }
}

Test(crash, a_message_that_kills_its_worker_twice_is_dead) {
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        leat_message m;
        open_kind(k, 1);
        open_queues();
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
        for (int i = 1; i <= 2; i++) {
            gives(1, leat_queue_receive(q, 0, &m, 1));
            cr_assert_eq(m.deliveries, i);
            old = mq;
            ok(leat_crash(old, LEAT_KILL, &mq));
            ok(leat_message_release(old, &m));
            ok(leat_close_all(old, 0));
            open_queues();
        }
        gives(0, leat_queue_receive(q, 0, &m, 1));
        cr_assert_str_eq(receive_all(dead), "a1");
        close_kind(k);
    }
}

Test(crash, a_power_cut_may_take_back_an_ack_but_loses_no_message) {
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        int back = 0;
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            leat_message m;
            open_kind(k, seed);
            open_queues();
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("b") }, NULL));
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(leat_queue_ack(q, &m));
            crash(LEAT_POWER_CUT);
            open_queues();
            const char *got = receive_all(q);
            cr_assert(strcmp(got, "b1") == 0 || strcmp(got, "a1b1") == 0, "%s, seed %d: %s",
                      k->name, (int)seed, got);
            back += got[0] == 'a';
            close_kind(k);
        }
        cr_assert(k->disk || (back > 0 && back < SEEDS), "%s: back %d of %d times", k->name, back,
                  SEEDS);
    }
}

Test(crash, an_ack_on_disk_is_not_taken_back) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k) / 3; seed++) {
            leat_message m;
            leat_queue_options o = { .settle_acks = LEAT_ACKS_DISK };
            open_kind(k, seed);
            ok(leat_queue_open(mq, "q", &o, &q));
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("b") }, NULL));
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(leat_queue_ack(q, &m));
            crash(LEAT_POWER_CUT);
            ok(leat_queue_open(mq, "q", NULL, &q));
            cr_assert_str_eq(receive_all(q), "b1");
            close_kind(k);
        }
}

Test(crash, a_dead_message_is_in_one_of_the_two_queues_after_any_crash) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            int how = seed & 1 ? LEAT_KILL : LEAT_POWER_CUT;
            leat_message m;
            open_kind(k, seed);
            open_queues();
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
            for (int i = 0; i < 2; i++) {
                gives(1, leat_queue_receive(q, 0, &m, 1));
                ok(leat_queue_nack(q, &m, 0, 0));
            }
            crash(how);
            open_queues();
            char here[64];
            (void)snprintf(here, sizeof here, "%s", receive_all(q));
            const char *there = receive_all(dead);
            cr_assert(*here || *there, "%s, seed %d: in neither", k->name, (int)seed);
            if (how == LEAT_KILL)
                cr_assert(!*here && strcmp(there, "a1") == 0, "%s: '%s' and '%s'", k->name, here,
                          there);
            close_kind(k);
        }
}

// ---- the handle that has crashed

Test(crash, messages_of_the_old_store_stay_readable_until_they_are_released) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            leat_consumer *c;
            leat_message held, leased;
            const leat_message *m;
            open_kind(k, seed);
            open_topic(LEAT_ACKS_LOG);
            open_queues();
            send_numbers(0, 3);
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("leased") }, NULL));
            gives(1, leat_queue_receive(q, 0, &leased, 1));
            ok(leat_consumer_open(mq, "g", NULL, &c));
            ok(leat_consumer_subscribe(c, "t"));
            gives(3, leat_poll(c, 0, &m));
            ok(leat_message_hold(mq, &m[2], &held));
            old = mq;
            ok(leat_crash(old, seed & 1 ? LEAT_KILL : LEAT_POWER_CUT, &mq));
            open_topic(LEAT_ACKS_DISK);
            int left = count_numbers();
            send_numbers(left, left + 3); // over what was lost
            cr_assert_eq(atoi(held.value.data), 2);
            cr_assert_eq(atoi(m[1].value.data), 1); // what a poll returned, too
            is(leased.value, "leased");
            fails_saying(LEAT_EBUSY, "2 messages are held", leat_close_all(old, 0));
            ok(leat_message_release(old, &held));
            ok(leat_message_release(old, &leased));
            ok(leat_consumer_close(c));
            ok(leat_close_all(old, 0)); // strict: what was leased counts no more
            cr_assert_eq(count_numbers(), left + 3);
            close_kind(k);
        }
}

Test(crash, closing_the_old_store_changes_no_file_and_does_not_hold_the_directory) {
    for (const struct kind *k = kinds + 2; k < kinds + 4; k++)
        for (int how = LEAT_KILL; how <= LEAT_POWER_CUT; how++) {
            leat_message m;
            leat *third;
            open_kind(k, 5);
            open_topic(LEAT_ACKS_LOG);
            open_queues();
            send_numbers(0, 3);
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
            gives(1, leat_queue_receive(q, 0, &m, 1));
            old = mq;
            ok(leat_crash(old, how, &mq));
            ok(leat_message_release(old, &m));
            char *before = scratch_listing(dir);
            ok(leat_close_all(old, 0));
            char *after = scratch_listing(dir);
            cr_assert_str_eq(before, after, "%s, how %d", k->name, how);
            cr_assert_null(strstr(after, "crash"), "something is left over: %s", after);
            free(before);
            free(after);
            fails(LEAT_EBUSY, leat_open(dir, NULL, &third));
            ok(leat_close_all(mq, 0));
            ok(leat_open(dir, NULL, &mq));
            close_kind(k);
        }
}

Test(crash, the_old_store_may_be_closed_last) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (int how = LEAT_KILL; how <= LEAT_POWER_CUT; how++) {
            leat_consumer *c;
            const leat_message *m;
            leat_message held;
            open_kind(k, 2);
            open_topic(LEAT_ACKS_DISK);
            send_numbers(0, 2);
            ok(leat_consumer_open(mq, "g", NULL, &c));
            ok(leat_consumer_subscribe(c, "t"));
            gives(2, leat_poll(c, 0, &m));
            ok(leat_message_hold(mq, &m[1], &held));
            old = mq;
            ok(leat_crash(old, how, &mq));
            close_kind(k); // the directory is removed, too
            cr_assert_eq(atoi(held.value.data), 1);
            ok(leat_message_release(old, &held));
            ok(leat_close_all(old, 0));
        }
}

Test(crash, every_call_of_the_old_store_is_closed) {
    leat_metadata md;
    leat_message m;
    const leat_message *view;
    leat_consumer *c, *c2;
    leat_queue *q2;
    leat_topic *t2;
    leat *again;
    leat_range r;
    open_kind(kinds, 1);
    open_topic(LEAT_ACKS_DISK);
    open_queues();
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    old = mq;
    ok(leat_crash(old, LEAT_POWER_CUT, &mq));
    fails(LEAT_ECLOSED, leat_send(p, t, &(leat_record){ .value = LEAT_STR("x") }, &md));
    fails(LEAT_ECLOSED, leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x") }, &md));
    fails(LEAT_ECLOSED, leat_queue_receive(q, 0, &m, 1));
    fails(LEAT_ECLOSED, leat_poll(c, 0, &view));
    fails(LEAT_ECLOSED, leat_commit(c));
    fails(LEAT_ECLOSED, leat_sync(old));
    fails(LEAT_ECLOSED, leat_topic_range(t, 0, &r));
    fails(LEAT_ECLOSED, leat_topic_delete_records(t, 0, 0));
    fails(LEAT_ECLOSED, leat_topic_delete(old, "t"));
    fails(LEAT_ECLOSED, leat_topic_grow(t, 2));
    fails(LEAT_ECLOSED, leat_send_many(p, t, NULL, 0, NULL));
    fails(LEAT_ECLOSED, leat_topic_open(old, "u", NULL, &t2));
    fails(LEAT_ECLOSED, leat_queue_open(old, "u", NULL, &q2));
    fails(LEAT_ECLOSED, leat_consumer_open(old, "h", NULL, &c2));
    fails(LEAT_ECLOSED, leat_clock_advance(old, 1));
    fails(LEAT_ECLOSED, leat_crash(old, LEAT_KILL, &again));
    ok(leat_producer_close(p, 0));
    ok(leat_consumer_close(c));
    ok(leat_queue_close(q));
    ok(leat_queue_close(dead));
    ok(leat_close(old, 0));
    close_kind(kinds);
}

Test(crash, wrong_arguments_do_nothing) {
    leat *again = (leat *)&again;
    fails(LEAT_EINVAL, leat_crash(NULL, LEAT_KILL, &again));
    cr_assert_null(again);
    ok(leat_test_open(&mq));
    fails_saying(LEAT_EINVAL, "LEAT_CRASHABLE", leat_crash(mq, LEAT_KILL, &again));
    fails_saying(LEAT_EINVAL, "LEAT_CRASHABLE", leat_crash(mq, LEAT_POWER_CUT, &again));
    ok(leat_sync(mq)); // it goes on
    ok(leat_close_all(mq, 0));
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        open_kind(k, 1);
        fails(LEAT_EINVAL, leat_crash(mq, 0, &again));
        fails(LEAT_EINVAL, leat_crash(mq, LEAT_KILL | LEAT_POWER_CUT, &again));
        fails(LEAT_EINVAL, leat_crash(mq, LEAT_KILL, NULL));
        open_topic(LEAT_ACKS_DISK);
        send_numbers(0, 1);
        ok(leat_shutdown(mq));
        fails(LEAT_ECLOSED, leat_crash(mq, LEAT_KILL, &again));
        cr_assert_null(again);
        close_kind(k);
    }
}

Test(crash, a_disk_store_can_be_killed_without_the_flag) {
    scratch_make(dir);
    ok(leat_open(dir, &(leat_options){ .acks = LEAT_ACKS_LOG }, &mq));
    open_topic(0);
    send_numbers(0, 3);
    fails_saying(LEAT_EINVAL, "LEAT_CRASHABLE", leat_crash(mq, LEAT_POWER_CUT, &old));
    crash(LEAT_KILL);
    cr_assert_eq(count_numbers(), 3);
    crash(LEAT_KILL);
    open_topic(0);
    send_numbers(3, 5);
    cr_assert_eq(count_numbers(), 5);
    ok(leat_close_all(mq, 0));
    scratch_remove(dir);
}

static int in_callback;

static void crash_in_callback(leat_subscription *s, const leat_message *m, void *ctx) {
    leat *reopened;
    (void)s, (void)m;
    in_callback = leat_crash(ctx, LEAT_KILL, &reopened);
}

Test(crash, not_inside_a_callback) {
    leat_subscription *s;
    open_kind(kinds, 1);
    ok(leat_channel_subscribe(mq, "c", crash_in_callback, mq, NULL, &s));
    gives(1, leat_publish(mq, "c", "x", 1));
    cr_assert_eq(in_callback, LEAT_EDEADLK);
    close_kind(kinds);
}

// ---- what goes on

Test(crash, the_second_crash_is_like_the_first) {
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        int lost = 0;
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            open_kind(k, seed);
            open_topic(LEAT_ACKS_DISK);
            send_numbers(0, 2);
            ok(leat_producer_close(p, 0));
            open_topic(LEAT_ACKS_LOG);
            send_numbers(2, 6);
            crash(LEAT_KILL); // what was not synced still is not, but for what recovery syncs
            int n = count_numbers();
            cr_assert_eq(n, 6);
            open_topic(LEAT_ACKS_LOG);
            send_numbers(6, 9);
            crash(LEAT_POWER_CUT);
            n = count_numbers();
            cr_assert(n >= 2 && n <= 9, "%s: %d", k->name, n);
            lost += n < 9;
            crash(LEAT_POWER_CUT); // the power was off: what is there is on the disk
            cr_assert_eq(count_numbers(), n, "%s: the second cut took more", k->name);
            open_topic(LEAT_ACKS_DISK);
            send_numbers(n, n + 2);
            crash(LEAT_POWER_CUT);
            cr_assert_eq(count_numbers(), n + 2, "%s", k->name);
            close_kind(k);
        }
        cr_assert(k->disk || lost > 0, "%s: nothing was ever lost", k->name);
    }
}

Test(crash, the_clocks_go_on) {
    static const int32_t clocks[] = { LEAT_CLOCK_MANUAL, LEAT_CLOCK_JUMP };
    for (int i = 0; i < 2; i++)
        for (const struct kind *k = kinds; k < kinds_end; k++) {
            int64_t mono, wall;
            leat_message m;
            open_with(k, (leat_options){ .clock = clocks[i],
                                         .threads = LEAT_NO_THREADS,
                                         .start_ms = 500,
                                         .seed = 1 });
            open_queues();
            ok(leat_clock_set_wall(mq, 100 * SECOND));
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(leat_queue_nack(q, &m, 10 * SECOND, 0)); // a delay survives, what is left of it
            ok(leat_clock_advance(mq, 7 * SECOND));
            ok(leat_fault_push(mq, LEAT_OP_RECEIVE, NULL, -1, LEAT_EIO, LEAT_FOREVER, 0));
            crash(LEAT_KILL);
            ok(leat_clock_now(mq, &mono, &wall));
            cr_assert(mono == 7 * SECOND && wall == 107 * SECOND, "%s: %d %d", k->name, (int)mono,
                      (int)wall);
            open_queues();
            gives(0, leat_queue_receive(q, 0, &m, 1)); // and no fault is planned
            ok(leat_clock_advance(mq, 3 * SECOND));
            cr_assert_str_eq(receive_all(q), "a2");
            close_kind(k);
        }
}

Test(crash, options_hold_in_the_store_that_is_opened) {
    leat_options o = { .acks = LEAT_ACKS_LOG, .seed = 3, .memory_max_bytes = 1 << 20 };
    leat_range r;
    open_with(kinds, o);
    open_topic(0);
    send_numbers(0, 1);
    ok(leat_sync(mq));
    crash(LEAT_POWER_CUT);
    open_topic(0);
    send_numbers(1, 2);
    ok(leat_topic_range(t, 0, &r));
    cr_assert(r.end == 2 && r.durable_end == 1, "acks: durable end %d", (int)r.durable_end);
    static char large[300000];
    int rc = 0, sent = 0;
    leat_record big = { .value = { large, sizeof large } };
    for (; rc == 0 && sent < 10; sent++)
        rc = leat_send(p, t, &big, NULL);
    cr_assert(rc == LEAT_ENOSPC && sent > 1, "the bound on memory: %d after %d", rc, sent);
    send_numbers(2, 3); // a small one still has room
    close_kind(kinds);
    o.flags = LEAT_MUST_EXIST; // means nothing in memory
    open_with(kinds, o);
    crash(LEAT_KILL);
    close_kind(kinds);
}

static atomic_int allocated;

static void *count_allocations(void *ctx, void *was, size_t size) {
    (void)ctx;
    if (!was && size)
        atomic_fetch_add(&allocated, 1);
    if (was && !size) {
        atomic_fetch_sub(&allocated, 1);
        free(was);
        return NULL;
    }
    return size ? realloc(was, size) : NULL;
}

Test(crash, the_users_allocator_has_all_back) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (int how = LEAT_KILL; how <= LEAT_POWER_CUT; how++) {
            open_with(k, (leat_options){ .alloc = count_allocations, .seed = 1 });
            open_topic(LEAT_ACKS_LOG);
            send_numbers(0, 3);
            crash(how);
            cr_assert_gt(allocated, 0);
            close_kind(k);
            cr_assert_eq(allocated, 0, "%s: %d not given back", k->name, allocated);
        }
}

Test(crash, a_batch_by_hand_is_ended_and_freed_after_it) {
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        leat_batch *b[2];
        leat_record r = { .value = LEAT_STR("x") };
        open_with(k, (leat_options){ .alloc = count_allocations, .seed = 1 });
        open_topic(LEAT_ACKS_LOG);
        for (int i = 0; i < 2; i++) {
            ok(leat_batch_open(p, t, 0, &b[i]));
            ok(leat_batch_append(b[i], &r));
        }
        old = mq;
        ok(leat_crash(old, LEAT_KILL, &mq));
        fails(LEAT_ECLOSED, leat_batch_append(b[0], &r));
        fails(LEAT_ECLOSED, leat_batch_send(b[0], NULL, NULL));
        ok(leat_batch_discard(b[1]));
        ok(leat_close_all(old, 0));
        close_kind(k);
        cr_assert_eq(allocated, 0, "%s: %d not given back", k->name, allocated);
    }
}

// Fails the n-th allocation. Whatever happens, nothing may leak and the old store must close.
static int allocations_left;

static void *fail_allocation(void *ctx, void *was, size_t size) {
    (void)ctx;
    if (size && allocations_left > 0 && --allocations_left == 0)
        return NULL;
    return count_allocations(NULL, was, size);
}

Test(crash, without_memory_the_old_store_still_closes) {
    for (int how = LEAT_KILL; how <= LEAT_POWER_CUT; how++) {
        int rc = LEAT_ENOMEM, n = 0;
        while (rc != 0) {
            allocations_left = 0;
            open_with(kinds + how, (leat_options){ .alloc = fail_allocation, .seed = 1 });
            open_topic(LEAT_ACKS_LOG);
            send_numbers(0, 3);
            allocations_left = ++n;
            rc = leat_crash(mq, how, &old);
            allocations_left = 0;
            cr_assert(rc == 0 || (rc == LEAT_ENOMEM && !old), "%s", leat_errmsg());
            if (old)
                ok(leat_close_all(old, 0));
            close_kind(kinds + how);
            cr_assert_eq(allocated, 0, "failing allocation %d: %d not given back", n, allocated);
        }
        cr_assert_gt(n, 5);
    }
}

// ---- names and lengths

// Segments that roll, are deleted and made again, topics that come and go: every cut leaves a store
// that opens and has what was synced.
Test(crash, files_that_come_and_go) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            leat_topic *gone;
            leat_metadata md;
            leat_range r;
            open_kind(k, seed);
            leat_topic_options o = { .segment_bytes = 16384 };
            ok(leat_topic_open(mq, "gone", NULL, &gone));
            ok(leat_topic_open(mq, "t", &o, &t));
            ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p));
            ok(leat_send(p, gone, &(leat_record){ .value = LEAT_STR("x") }, NULL));
            for (int i = 0; i < 4; i++) { // each crash finds what the one before left
                ok(leat_topic_range(t, 0, &r));
                for (int j = 0; j < 100; j++) {
                    ok(leat_send(p, t, &(leat_record){ .value = { dir, 700 } }, &md));
                    if (j == 50)
                        ok(leat_sync(mq));
                }
                int64_t synced = md.offset - 49;
                ok(leat_topic_delete_records(t, 0, r.begin + 60));
                if (i == 1)
                    ok(leat_topic_delete(mq, "gone"));
                crash(LEAT_POWER_CUT);
                ok(leat_topic_open(mq, "t", NULL, &t));
                ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p));
                leat_range now;
                ok(leat_topic_range(t, 0, &now));
                cr_assert(now.end >= synced && now.end <= md.offset + 1,
                          "%s, seed %d: end %d, synced %d", k->name, (int)seed, (int)now.end,
                          (int)synced);
                cr_assert(now.begin >= r.begin && now.begin <= r.begin + 60);
            }
            leat_topic_options must = { .flags = LEAT_MUST_EXIST };
            fails(LEAT_ENOENT, leat_topic_open(mq, "gone", &must, &gone)); // deletion is durable
            close_kind(k);
        }
}

// ---- threads

struct caller {
    pthread_t thread;
    leat *mq;
    leat_consumer *c;
    leat_queue *q;
    int rc, acked;
};

static void *poll_in_thread(void *arg) {
    struct caller *w = arg;
    const leat_message *m;
    w->rc = leat_poll(w->c, 60 * SECOND, &m);
    return NULL;
}

static void *receive_in_thread(void *arg) {
    struct caller *w = arg;
    leat_message m;
    w->rc = leat_queue_receive(w->q, LEAT_FOREVER, &m, 1);
    return NULL;
}

Test(crash, blocked_calls_are_woken_and_gone_before_it_returns) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (int how = LEAT_KILL; how <= LEAT_POWER_CUT; how++) {
            struct caller poll = { .rc = 1 }, receive = { .rc = 1 };
            open_with(k, (leat_options){ .clock = LEAT_CLOCK_MANUAL, .seed = 1 });
            open_topic(LEAT_ACKS_DISK);
            open_queues();
            ok(leat_consumer_open(mq, "g", NULL, &poll.c));
            ok(leat_consumer_subscribe(poll.c, "t"));
            receive.q = q;
            cr_assert_eq(pthread_create(&poll.thread, NULL, poll_in_thread, &poll), 0);
            cr_assert_eq(pthread_create(&receive.thread, NULL, receive_in_thread, &receive), 0);
            ok(leat_clock_wait_blocked(mq, 2, REAL_MS));
            crash(how); // closes the old one at once: nobody is in it any more
            cr_assert_eq(pthread_join(poll.thread, NULL), 0);
            cr_assert_eq(pthread_join(receive.thread, NULL), 0);
            cr_assert(poll.rc == LEAT_ECLOSED && receive.rc == LEAT_ECLOSED, "%d %d", poll.rc,
                      receive.rc);
            close_kind(k);
        }
}

static atomic_int sent;

static void *send_until_closed(void *arg) {
    struct caller *w = arg;
    leat_producer *mine = NULL;
    w->rc = leat_producer_open(w->mq, NULL, &mine);
    while (w->rc == 0) {
        w->rc = leat_send(mine, t, &(leat_record){ .value = LEAT_STR("x") }, NULL);
        w->acked += w->rc == 0;
        atomic_fetch_add(&sent, 1);
    }
    return NULL;
}

Test(crash, what_other_threads_were_told_is_so) {
    enum { THREADS = 3 };
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (int how = LEAT_KILL; how <= LEAT_POWER_CUT; how++) {
            struct caller w[THREADS] = { { .rc = 0 } };
            int acked = 0;
            leat_range r;
            open_with(k, (leat_options){ .acks = how == LEAT_KILL ? LEAT_ACKS_LOG : LEAT_ACKS_DISK,
                                         .seed = 1 });
            ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
            atomic_store(&sent, 0);
            for (int i = 0; i < THREADS; i++) {
                w[i].mq = mq;
                cr_assert_eq(pthread_create(&w[i].thread, NULL, send_until_closed, &w[i]), 0);
            }
            while (atomic_load(&sent) < 300)
                (void)sched_yield();
            old = mq;
            ok(leat_crash(old, how, &mq));
            for (int i = 0; i < THREADS; i++) {
                cr_assert_eq(pthread_join(w[i].thread, NULL), 0);
                cr_assert_eq(w[i].rc, LEAT_ECLOSED);
                acked += w[i].acked;
            }
            ok(leat_close_all(old, 0));
            ok(leat_topic_open(mq, "t", NULL, &t));
            ok(leat_topic_range(t, 0, &r));
            cr_assert_eq(r.end, acked, "%s, how %d: %d acknowledged, %d there", k->name, how, acked,
                         (int)r.end);
            close_kind(k);
        }
}

// A producer that is closed while the store crashes: what it sends then must be told as it is.
struct closer {
    pthread_t thread;
    atomic_bool begun;
    leat_producer *p;
    int told[LEAT_UNKNOWN + 1]; // by status
};

static void count_told(leat_producer *from, const leat_report *r, void *ctx) {
    struct closer *c = ctx;
    (void)from;
    c->told[r->status]++;
}

static void *close_in_thread(void *arg) {
    struct closer *c = arg;
    atomic_store(&c->begun, true);
    (void)leat_producer_close(c->p, 60 * SECOND);
    return NULL;
}

Test(crash, what_a_close_at_the_same_time_tells_is_so) {
    enum { TIMES = 100, RECORDS = 24 };
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (int i = 0; i < (k->disk ? 2 : 2 * TIMES); i++) {
            int how = i % 2 == 0 ? LEAT_KILL : LEAT_POWER_CUT;
            struct closer c = { .p = NULL };
            leat_producer_options o = { .acks = how == LEAT_KILL ? LEAT_ACKS_LOG : LEAT_ACKS_DISK,
                                        .linger_ms = 60 * SECOND };
            leat_record r = { .value = LEAT_STR("x") };
            leat_topic_options many = { .partitions = RECORDS, .segment_bytes = 16384 };
            open_with(k, (leat_options){ .seed = (uint64_t)i + 1 });
            ok(leat_topic_open(mq, "t", &many, &t));
            ok(leat_producer_open(mq, &o, &c.p));
            for (int n = 0; n < RECORDS; n++) {
                r.to_partition = LEAT_PARTITION(n);
                ok(leat_send_async(c.p, t, &r, count_told, &c));
            }
            cr_assert_eq(pthread_create(&c.thread, NULL, close_in_thread, &c), 0);
            while (!atomic_load(&c.begun))
                (void)sched_yield();
            old = mq;
            ok(leat_crash(old, how, &mq));
            cr_assert_eq(pthread_join(c.thread, NULL), 0);
            ok(leat_close_all(old, 0));
            leat_topic_options there = { .flags = LEAT_MUST_EXIST };
            int stored = c.told[LEAT_STORED], unknown = c.told[LEAT_UNKNOWN];
            int rc = leat_topic_open(mq, "t", &there, &t);
            int64_t end = 0; // a power cut takes a topic in which nothing is on disk
            if (rc != LEAT_ENOENT || stored > 0 || how == LEAT_KILL)
                ok(rc);
            for (int n = 0; n < RECORDS && rc == 0; n++) {
                leat_range range;
                ok(leat_topic_range(t, n, &range));
                end += range.end;
            }
            cr_assert_eq(stored + unknown + c.told[LEAT_NOT_STORED], RECORDS);
            cr_assert(end >= stored && end <= stored + unknown,
                      "%s, how %d: %d stored, %d unknown, %d there", k->name, how, stored, unknown,
                      (int)end);
            close_kind(k);
        }
}

Test(crash, a_forked_child_closes_without_touching_what_the_parent_has) {
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        open_kind(k, 1);
        open_topic(LEAT_ACKS_DISK);
        send_numbers(0, 2);
        old = mq;
        ok(leat_crash(old, LEAT_KILL, &mq));
        pid_t child = fork();
        if (child == 0)
            _exit(leat_close_all(mq, 0) == 0 && leat_close_all(old, 0) == 0 ? 0 : 1);
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: %#x", k->name, status);
        ok(leat_close_all(old, 0));
        cr_assert_eq(count_numbers(), 2);
        close_kind(k);
    }
}
