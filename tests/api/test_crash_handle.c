/* SPDX-License-Identifier: MIT */
// leat_crash: what becomes of the handle that has crashed, and of what was open in it; and what is
// refused.
#include "lib/crashed.h"

#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

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

// ---- memory

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
