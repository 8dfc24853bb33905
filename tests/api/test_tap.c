/* SPDX-License-Identifier: MIT */
// A tap: replay of a topic, then live, without a gap or a double at the seam.
#include <leat.h>
#include <leat_test.h>

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mail.h"

struct tap_seen {
    char text[512]; // "0:a 0:b 1:c ": partition and value
    uint64_t dropped;
    int n, ends;
};

static void tap_note(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct tap_seen *seen = ctx;
    size_t used = strlen(seen->text);
    snprintf(seen->text + used, sizeof seen->text - used, "%d:" LEAT_FMT " ", m->partition,
             LEAT_ARG(m->value));
    seen->dropped += m->dropped;
    seen->n++;
}

static void tap_ended(void *ctx) {
    ((struct tap_seen *)ctx)->ends++;
}

static leat *tap_store(leat_topic **t, int32_t partitions) {
    leat *mq;
    cr_assert_eq(leat_test_open(&mq), 0);
    cr_assert_eq(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = partitions }, t), 0);
    return mq;
}

static void tap_send(leat *mq, leat_topic *t, int32_t partition, const char *values) {
    leat_producer *p;
    cr_assert_eq(leat_producer_open(mq, NULL, &p), 0);
    for (; *values; values++) {
        leat_record r = { .value = { values, 1 }, .to_partition = LEAT_PARTITION(partition) };
        cr_assert_eq(leat_send(p, t, &r, NULL), 0, "%s", leat_errmsg());
    }
    cr_assert_eq(leat_producer_close(p, 0), 0);
}

static leat_subscription *tap_open(leat_topic *t, int32_t partition, int64_t from,
                                   leat_message_fn fn, struct tap_seen *seen) {
    leat_subscription *s;
    const leat_subscription_options o = { .on_end = seen ? tap_ended : NULL };
    cr_assert_eq(leat_topic_tap(t, partition, from, fn, seen, &o, &s), 0, "%s", leat_errmsg());
    return s;
}

static bool tap_readable(int fd) {
    struct pollfd one = { .fd = fd, .events = POLLIN };
    return poll(&one, 1, 0) == 1;
}

static void tap_dispatch(leat *mq) {
    while (leat_dispatch(mq, 0) > 0)
        continue;
}

Test(tap, gives_what_is_there_and_then_what_comes) {
    leat_topic *t;
    leat *mq = tap_store(&t, 1);
    struct tap_seen all = { 0 }, late = { 0 }, third = { 0 }, last = { 0 };
    tap_send(mq, t, 0, "abc");
    leat_subscription *s = tap_open(t, 0, LEAT_BEGIN, tap_note, &all);
    (void)tap_open(t, -1, LEAT_END, tap_note, &late);
    (void)tap_open(t, 0, 2, tap_note, &third);
    (void)tap_open(t, 0, LEAT_LAST(2), tap_note, &last);
    cr_assert_eq(all.n, 0, "not on this thread, not now");
    tap_dispatch(mq);
    cr_assert_str_eq(all.text, "0:a 0:b 0:c ");
    cr_assert_str_eq(late.text, "");
    cr_assert_str_eq(third.text, "0:c ");
    cr_assert_str_eq(last.text, "0:b 0:c ");
    tap_send(mq, t, 0, "d");
    tap_dispatch(mq);
    tap_send(mq, t, 0, "e");
    tap_dispatch(mq);
    cr_assert_str_eq(all.text, "0:a 0:b 0:c 0:d 0:e ");
    cr_assert_str_eq(late.text, "0:d 0:e ");
    cr_assert_eq(leat_subscription_close(s, 0), 0);
    cr_assert_eq(all.ends, 1);
    tap_send(mq, t, 0, "f");
    tap_dispatch(mq);
    cr_assert_eq(all.n, 5);
    cr_assert_eq(late.n, 3);
    leat_close_all(mq, 0);
    cr_assert_eq(late.ends, 1);
}

Test(tap, begins_at_a_time) {
    leat_topic *t;
    leat *mq = tap_store(&t, 1);
    struct tap_seen seen = { 0 };
    tap_send(mq, t, 0, "a");
    leat_clock_advance(mq, 1000);
    int64_t mono, now;
    cr_assert_eq(leat_clock_now(mq, &mono, &now), 0);
    tap_send(mq, t, 0, "b");
    (void)tap_open(t, 0, LEAT_AT(now), tap_note, &seen);
    tap_dispatch(mq);
    cr_assert_str_eq(seen.text, "0:b ");
    leat_close_all(mq, 0);
}

Test(tap, hears_all_partitions_each_in_its_order_and_those_that_come) {
    leat_topic *t;
    leat *mq = tap_store(&t, 2);
    struct tap_seen all = { 0 }, one = { 0 };
    tap_send(mq, t, 0, "ab");
    tap_send(mq, t, 1, "xy");
    (void)tap_open(t, -1, LEAT_BEGIN, tap_note, &all);
    (void)tap_open(t, 1, LEAT_BEGIN, tap_note, &one);
    tap_dispatch(mq);
    cr_assert_str_eq(all.text, "0:a 0:b 1:x 1:y ");
    cr_assert_eq(leat_topic_grow(t, 3), 0);
    tap_send(mq, t, 2, "n");
    tap_send(mq, t, 1, "z");
    all.text[0] = '\0';
    tap_dispatch(mq);
    cr_assert(strstr(all.text, "2:n ") && strstr(all.text, "1:z "), "%s", all.text);
    cr_assert_eq(all.n, 6);
    cr_assert_str_eq(one.text, "1:x 1:y 1:z ");
    leat_close_all(mq, 0);
}

Test(tap, is_pulled_where_there_is_no_callback) {
    leat_topic *t;
    leat *mq = tap_store(&t, 1);
    leat_message m, kept[2];
    leat_record r = { .key = LEAT_STR("k"),
                      .value = LEAT_STR("v"),
                      .header_count = 1,
                      .headers = &(leat_header){ LEAT_STR("h"), LEAT_STR("w") } };
    leat_producer *p;
    leat_subscription *s = tap_open(t, -1, LEAT_BEGIN, NULL, NULL);
    cr_assert_eq(leat_subscription_next(s, 0, &m), 0);
    cr_assert_eq(leat_producer_open(mq, NULL, &p), 0);
    cr_assert_eq(leat_send(p, t, &r, NULL), 0);
    cr_assert_eq(leat_send(p, t, &r, NULL), 0);
    leat_subscription_stats st;
    cr_assert_eq(leat_subscription_get_stats(s, &st, sizeof st), 0);
    cr_assert(st.delivered == 0 && st.waiting == 2 && st.dropped == 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(leat_subscription_next(s, 0, &kept[i]), 1);
        cr_assert_eq(kept[i].offset, i);
        cr_assert_str_eq(kept[i].topic, "t");
        cr_assert_null(kept[i].pattern);
    }
    leat_header h;
    cr_assert_eq(leat_message_header(&kept[0], 0, &h), 1);
    cr_assert_str_eq(h.value.data, "w");
    cr_assert_eq(leat_subscription_next(s, LEAT_FOREVER, &m), LEAT_EDEADLK, "nothing can come");
    cr_assert_eq(leat_subscription_get_stats(s, &st, sizeof st), 0);
    cr_assert(st.delivered == 2 && st.waiting == 0);
    cr_assert_eq(leat_subscription_close(s, 0), 0);
    cr_assert_str_eq(kept[1].value.data, "v", "it stays after the close");
    for (int i = 0; i < 2; i++)
        cr_assert_eq(leat_message_release(mq, &kept[i]), 0);
    cr_assert_eq(leat_message_release(mq, &kept[0]), LEAT_ESTALE);
    leat_close_all(mq, 0);
}

Test(tap, a_descriptor_shines_while_there_is_something) {
    leat_topic *t;
    leat *mq = tap_store(&t, 1);
    leat_message m;
    leat_subscription *s = tap_open(t, -1, LEAT_BEGIN, NULL, NULL);
    int fd = leat_subscription_fd(s);
    cr_assert(fd >= 0);
    cr_assert_eq(leat_subscription_next(s, 0, &m), 0);
    cr_assert(!tap_readable(fd));
    for (int turn = 0; turn < 3; turn++) {
        tap_send(mq, t, 0, "ab");
        cr_assert(tap_readable(fd), "turn %d", turn);
        cr_assert_eq(leat_subscription_next(s, 0, &m), 1);
        leat_message_release(mq, &m);
        cr_assert(tap_readable(fd), "there is one more");
        cr_assert_eq(leat_subscription_next(s, 0, &m), 1);
        leat_message_release(mq, &m);
        cr_assert_eq(leat_subscription_next(s, 0, &m), 0);
        cr_assert(!tap_readable(fd));
    }
    leat_close_all(mq, 0);
}

static void tap_hold(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    void **to = ctx;
    cr_assert_eq(leat_message_hold(to[0], m, to[1]), 0, "%s", leat_errmsg());
}

Test(tap, a_message_is_held_beyond_its_callback) {
    leat_topic *t;
    leat *mq = tap_store(&t, 1);
    leat_message kept;
    void *to[2] = { mq, &kept };
    leat_subscription *s;
    tap_send(mq, t, 0, "a");
    cr_assert_eq(leat_topic_tap(t, 0, LEAT_BEGIN, tap_hold, to, NULL, &s), 0);
    tap_dispatch(mq);
    cr_assert_eq(leat_subscription_close(s, 0), 0);
    cr_assert_eq(leat_topic_delete(mq, "t"), 0);
    cr_assert_eq(memcmp(kept.value.data, "a", 2), 0);
    cr_assert_eq(leat_message_release(mq, &kept), 0);
    leat_close_all(mq, 0);
}

Test(tap, what_went_before_it_was_read_is_told_as_dropped) {
    leat *mq;
    leat_topic *t;
    cr_assert_eq(leat_test_open(&mq), 0);
    cr_assert_eq(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 16384 }, &t), 0);
    struct tap_seen seen = { 0 };
    leat_subscription *s = tap_open(t, 0, LEAT_BEGIN, tap_note, &seen);
    tap_send(mq, t, 0, "abcd");
    cr_assert_eq(leat_topic_delete_records(t, 0, 3), 0, "%s", leat_errmsg());
    tap_dispatch(mq);
    cr_assert_str_eq(seen.text, "0:d ");
    cr_assert_eq(seen.dropped, 3u);
    leat_subscription_stats st;
    cr_assert_eq(leat_subscription_get_stats(s, &st, sizeof st), 0);
    cr_assert(st.dropped == 3 && st.delivered == 1 && st.waiting == 0);
    leat_close_all(mq, 0);
}

Test(tap, stops_after_so_many_and_drains_at_the_close) {
    leat_topic *t;
    leat *mq = tap_store(&t, 1);
    struct tap_seen two = { 0 }, drained = { 0 }, thrown = { 0 };
    leat_subscription *s[3];
    tap_send(mq, t, 0, "abc");
    const leat_subscription_options o = { .stop_after = 2, .on_end = tap_ended };
    cr_assert_eq(leat_topic_tap(t, 0, LEAT_BEGIN, tap_note, &two, &o, &s[0]), 0);
    s[1] = tap_open(t, 0, LEAT_BEGIN, tap_note, &drained);
    s[2] = tap_open(t, 0, LEAT_BEGIN, tap_note, &thrown);
    cr_assert_eq(leat_subscription_close(s[1], LEAT_FOREVER), 0);
    cr_assert_str_eq(drained.text, "0:a 0:b 0:c ");
    cr_assert_eq(leat_subscription_close(s[2], 0), 0, "what is in the log is not lost");
    cr_assert_eq(thrown.n, 0);
    tap_dispatch(mq);
    cr_assert_str_eq(two.text, "0:a 0:b ");
    cr_assert_eq(two.ends, 1);
    tap_send(mq, t, 0, "d");
    tap_dispatch(mq);
    cr_assert_eq(two.n, 2);
    cr_assert_eq(leat_subscription_close(s[0], 0), 0);
    cr_assert_eq(two.ends, 1);
    leat_close_all(mq, 0);
}

Test(tap, a_drain_tries_again_what_failed) {
    struct mail_memory mem = { .blocks = 0 };
    leat *mq = mail_store_of(MAIL_POLLED, &mem);
    leat_topic *t;
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 1 }, &t));
    struct tap_seen seen = { 0 };
    leat_subscription *s = tap_open(t, -1, LEAT_BEGIN, tap_note, &seen);
    ok(leat_topic_grow(t, 2));
    tap_send(mq, t, 1, "a");
    atomic_store(&mem.fail_from, 1); // there is no room to take the new partition in
    tap_dispatch(mq);
    atomic_store(&mem.fail_from, 0);
    cr_assert_str_eq(seen.text, "");
    cr_assert_eq(leat_subscription_close(s, LEAT_FOREVER), 0);
    cr_assert_str_eq(seen.text, "1:a ");
    ok(leat_close_all(mq, 0));
    cr_assert_eq(atomic_load(&mem.blocks), 0);
}

static void tap_close_itself(leat_subscription *s, const leat_message *m, void *ctx) {
    tap_note(s, m, ctx);
    cr_assert_eq(leat_subscription_close(s, 0), 0);
}

Test(tap, may_be_closed_by_its_own_callback) {
    leat_topic *t;
    leat *mq = tap_store(&t, 1);
    struct tap_seen seen = { 0 };
    tap_send(mq, t, 0, "ab");
    (void)tap_open(t, 0, LEAT_BEGIN, tap_close_itself, &seen);
    tap_dispatch(mq);
    cr_assert_str_eq(seen.text, "0:a ");
    cr_assert_eq(seen.ends, 1);
    cr_assert_eq(leat_close(mq, 0), 0, "%s", leat_errmsg());
}

Test(tap, of_a_topic_that_is_deleted_has_nothing_more) {
    leat_topic *t;
    leat *mq = tap_store(&t, 1);
    struct tap_seen seen = { 0 };
    leat_message m;
    tap_send(mq, t, 0, "a");
    leat_subscription *called = tap_open(t, 0, LEAT_BEGIN, tap_note, &seen);
    leat_subscription *pulled = tap_open(t, 0, LEAT_BEGIN, NULL, NULL), *none;
    cr_assert_eq(leat_topic_delete(mq, "t"), 0);
    tap_dispatch(mq);
    cr_assert_eq(seen.n, 0);
    cr_assert_eq(leat_subscription_next(pulled, LEAT_FOREVER, &m), LEAT_EGONE);
    cr_assert_eq(leat_topic_tap(t, 0, LEAT_BEGIN, tap_note, NULL, NULL, &none), LEAT_EGONE);
    cr_assert_eq(leat_subscription_close(called, LEAT_FOREVER), 0, "nothing is to be waited for");
    cr_assert_eq(leat_subscription_close(pulled, 0), 0);
    leat_close_all(mq, 0);
}

Test(tap, wrong_arguments_are_refused) {
    leat_topic *t;
    leat *mq = tap_store(&t, 2);
    leat_subscription *s;
    cr_assert_eq(leat_topic_tap(NULL, 0, 0, tap_note, NULL, NULL, &s), LEAT_EINVAL);
    cr_assert_eq(leat_topic_tap(t, 0, 0, tap_note, NULL, NULL, NULL), LEAT_EINVAL);
    cr_assert_eq(leat_topic_tap(t, 2, 0, tap_note, NULL, NULL, &s), LEAT_ERANGE);
    cr_assert_eq(leat_topic_tap(t, -2, 0, tap_note, NULL, NULL, &s), LEAT_ERANGE);
    cr_assert_eq(leat_topic_tap(t, 0, 1, tap_note, NULL, NULL, &s), LEAT_ERANGE);
    cr_assert_eq(leat_topic_tap(t, 0, LEAT_SHIFT(1), tap_note, NULL, NULL, &s), LEAT_EINVAL);
    const leat_subscription_options wrong[] = {
        { .buffer = 1 },      { .buffer_bytes = 1 }, { .when_full = LEAT_BLOCK }, { .block_ms = 1 },
        { .stop_after = -1 }, { .tokens = 1 },       { .reserved = { 1 } },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_assert_eq(leat_topic_tap(t, 0, 0, tap_note, NULL, &wrong[i], &s), LEAT_EINVAL, "%zu", i);
        cr_assert_null(s);
    }
    leat_shutdown(mq);
    cr_assert_eq(leat_topic_tap(t, 0, 0, tap_note, NULL, NULL, &s), LEAT_ECLOSED);
    leat_close_all(mq, 0);
}

// ---- threads: the seam between replay and live

enum { TAP_RECORDS = 20000, TAPS = 6 };

struct tap_race {
    atomic_int seen[2]; // by partition: the next value; release
    atomic_bool wrong;
};

static void tap_expect(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct tap_race *race = ctx;
    int value = atoi(m->value.data), p = m->partition;
    if (value != atomic_load(&race->seen[p]) || m->dropped != 0)
        atomic_store(&race->wrong, true);
    atomic_store(&race->seen[p], value + 1);
}

struct tap_sender {
    leat *mq;
    leat_topic *t;
    int32_t partition;
    atomic_int *sent;
};

static void *tap_send_all(void *arg) {
    const struct tap_sender *a = arg;
    leat_producer *p;
    if (leat_producer_open(a->mq, NULL, &p) != 0)
        return arg;
    for (int i = 0; i < TAP_RECORDS; i++) {
        char value[16];
        leat_record r = { .value = { value, (size_t)snprintf(value, sizeof value, "%d", i) },
                          .to_partition = LEAT_PARTITION(a->partition) };
        if (leat_send(p, a->t, &r, NULL) != 0)
            return arg;
        atomic_fetch_add(a->sent, 1);
    }
    return leat_producer_close(p, -1) == 0 ? NULL : arg;
}

Test(tap, has_no_gap_and_no_double_where_replay_meets_what_is_sent_meanwhile) {
    leat *mq;
    leat_topic *t;
    cr_assert_eq(leat_open_memory(NULL, &mq), 0);
    cr_assert_eq(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 2 }, &t), 0);
    atomic_int sent;
    atomic_init(&sent, 0);
    struct tap_sender sender[2] = { { mq, t, 0, &sent }, { mq, t, 1, &sent } };
    static struct tap_race race[TAPS];
    leat_subscription *s[TAPS];
    pthread_t thread[2];
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, tap_send_all, &sender[i]), 0);
    for (int i = 0; i < TAPS; i++) { // each joins further on
        while (atomic_load(&sent) < i * TAP_RECORDS * 2 / TAPS)
            sched_yield();
        memset(&race[i], 0, sizeof race[i]);
        cr_assert_eq(leat_topic_tap(t, -1, LEAT_BEGIN, tap_expect, &race[i], NULL, &s[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        void *failed;
        pthread_join(thread[i], &failed);
        cr_assert_null(failed);
    }
    for (int i = 0; i < TAPS; i++) {
        cr_assert_eq(leat_subscription_close(s[i], LEAT_FOREVER), 0);
        cr_assert(!atomic_load(&race[i].wrong), "tap %d", i);
        for (int p = 0; p < 2; p++)
            cr_assert_eq(atomic_load(&race[i].seen[p]), TAP_RECORDS, "tap %d", i);
    }
    leat_close_all(mq, 0);
}
