/* SPDX-License-Identifier: MIT */
// Channels that are recorded in a topic, and topics that are announced on a channel.
#include <leat.h>
#include <leat_test.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/mail.h"
#include "lib/scratch.h"

static leat *record_store(void) {
    leat *mq;
    cr_assert_eq(leat_test_open(&mq), 0);
    return mq;
}

static leat_topic *record_topic(leat *mq, const char *name, const char *announce_on) {
    leat_topic *t;
    const leat_topic_options o = { .announce_on = announce_on };
    cr_assert_eq(leat_topic_open(mq, name, &o, &t), 0, "%s", leat_errmsg());
    return t;
}

static int64_t record_end(leat_topic *t) {
    leat_range r;
    cr_assert_eq(leat_topic_range(t, 0, &r), 0);
    return r.end;
}

static void record_dispatch(leat *mq) {
    while (leat_dispatch(mq, 0) > 0)
        continue;
}

static void record_send(leat *mq, leat_topic *t, const leat_record *r) {
    leat_producer *p;
    cr_assert_eq(leat_producer_open(mq, NULL, &p), 0);
    cr_assert_eq(leat_send(p, t, r, NULL), 0, "%s", leat_errmsg());
    cr_assert_eq(leat_producer_close(p, 0), 0);
}

Test(record, what_is_heard_is_stored_before_the_publish_returns) {
    leat *mq = record_store();
    leat_topic *t = record_topic(mq, "log", NULL);
    leat_subscription *s;
    cr_assert_eq(leat_channel_record(mq, "sensors.*", t, &s), 0, "%s", leat_errmsg());
    cr_assert_eq(leat_publish(mq, "sensors.a", "21", 2), 1);
    cr_assert_eq(leat_publish(mq, "other", "x", 1), 0);
    const leat_record r = { .key = LEAT_STR("k"),
                            .value = LEAT_STR("22"),
                            .timestamp_ms = 5,
                            .headers = &(leat_header){ LEAT_STR("h"), LEAT_STR("w") },
                            .header_count = 1 };
    cr_assert_eq(leat_publish_record(mq, "sensors.b", &r), 1);
    cr_assert_eq(record_end(t), 2);
    leat_reader *reader;
    leat_message one;
    leat_header h;
    cr_assert_eq(leat_reader_open(t, 0, LEAT_BEGIN, &reader), 0);
    cr_assert_eq(leat_reader_next(reader, 0, &one), 1);
    cr_assert_str_eq(one.value.data, "21");
    cr_assert_eq(leat_message_header(&one, 0, &h), 1);
    cr_assert_str_eq(h.name.data, "leat.channel");
    cr_assert_str_eq(h.value.data, "sensors.a");
    cr_assert_eq(leat_reader_next(reader, 0, &one), 1);
    cr_assert_str_eq(one.key.data, "k");
    cr_assert_eq(one.timestamp_ms, 5);
    cr_assert_eq(one.header_count, 2u);
    cr_assert_eq(leat_message_header(&one, 0, &h), 1);
    cr_assert_str_eq(h.value.data, "w");
    cr_assert_eq(leat_message_header(&one, 1, &h), 1);
    cr_assert_str_eq(h.value.data, "sensors.b");
    cr_assert_eq(leat_reader_close(reader), 0);
    leat_subscription_stats st;
    cr_assert_eq(leat_subscription_get_stats(s, &st, sizeof st), 0);
    cr_assert(st.delivered == 2 && st.dropped == 0);
    cr_assert_eq(leat_subscription_close(s, 0), 0);
    cr_assert_eq(leat_publish(mq, "sensors.a", "23", 2), 0);
    cr_assert_eq(record_end(t), 2);
    leat_close_all(mq, 0);
}

Test(record, what_cannot_be_stored_is_counted) {
    leat *mq = record_store();
    leat_topic *t = record_topic(mq, "log", NULL);
    leat_subscription *s;
    cr_assert_eq(leat_channel_record(mq, "a", t, &s), 0);
    cr_assert_eq(leat_fault_push(mq, LEAT_OP_APPEND, "log", 0, LEAT_EIO, 1, 0), 0);
    cr_assert_eq(leat_publish(mq, "a", "1", 1), 1);
    cr_assert_eq(leat_publish(mq, "a", "2", 1), 1);
    leat_subscription_stats st;
    cr_assert_eq(leat_subscription_get_stats(s, &st, sizeof st), 0);
    cr_assert(st.delivered == 1 && st.dropped == 1);
    cr_assert_eq(record_end(t), 1);
    cr_assert_eq(leat_topic_delete(mq, "log"), 0);
    cr_assert_eq(leat_publish(mq, "a", "3", 1), 1);
    cr_assert_eq(leat_subscription_get_stats(s, &st, sizeof st), 0);
    cr_assert_eq(st.dropped, 2u);
    cr_assert_eq(leat_subscription_close(s, 0), 0);
    leat_close_all(mq, 0);
}

// ---- announced

struct announced {
    char text[256];
    leat_message kept;
    leat *mq;
};

static void record_hear(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct announced *a = ctx;
    leat_header h = { { "", 0 }, { "", 0 } };
    (void)leat_message_header(m, 0, &h);
    size_t used = strlen(a->text);
    snprintf(a->text + used, sizeof a->text - used, "%s/%d/%lld=" LEAT_FMT "," LEAT_FMT " ",
             m->topic, m->partition, (long long)m->offset, LEAT_ARG(m->value), LEAT_ARG(h.value));
    if (a->kept.view)
        leat_message_release(a->mq, &a->kept);
    cr_assert_eq(leat_message_hold(a->mq, m, &a->kept), 0, "%s", leat_errmsg());
}

Test(record, a_topic_is_announced_as_its_records_come) {
    leat *mq = record_store();
    leat_topic *t = record_topic(mq, "orders", "live.orders");
    struct announced named = { .mq = mq }, later = { .mq = mq };
    leat_subscription *s;
    const leat_record first = { .value = LEAT_STR("1") };
    const leat_record second = { .value = LEAT_STR("2"),
                                 .headers = &(leat_header){ LEAT_STR("h"), LEAT_STR("w") },
                                 .header_count = 1 };
    record_send(mq, t, &first);
    cr_assert_eq(leat_channel_subscribe(mq, "live.orders", record_hear, &named, NULL, &s), 0);
    const leat_subscription_options queued = { .buffer = 4 };
    cr_assert_eq(leat_channel_subscribe(mq, "live.*", record_hear, &later, &queued, &s), 0);
    record_dispatch(mq);
    record_send(mq, t, &second);
    record_dispatch(mq);
    cr_assert_str_eq(named.text, "live.orders/0/0=1, live.orders/0/1=2,w ");
    cr_assert_str_eq(later.text, named.text);
    leat_header h;
    cr_assert_eq(leat_message_header(&named.kept, 0, &h), 1, "the hold copied it");
    cr_assert_str_eq(h.value.data, "w");
    leat_message_release(mq, &named.kept);
    leat_message_release(mq, &later.kept);
    leat_close_all(mq, 0);
}

Test(record, the_channel_is_a_setting_that_an_open_finds_again) {
    char dir[SCRATCH_PATH];
    scratch_make(dir);
    struct announced heard = { .mq = NULL };
    leat *mq;
    leat_topic *t;
    leat_subscription *s;
    leat_options o = { .threads = LEAT_NO_THREADS };
    cr_assert_eq(leat_open(dir, &o, &mq), 0);
    t = record_topic(mq, "orders", "live");
    record_send(mq, t, &(leat_record){ .value = LEAT_STR("before") });
    cr_assert_eq(leat_close(mq, 0), 0, "%s: what announces is no child", leat_errmsg());
    cr_assert_eq(leat_open(dir, &o, &mq), 0);
    leat_topic_options other = { .announce_on = "dead" };
    cr_assert_eq(leat_topic_open(mq, "orders", &other, &t), LEAT_EEXIST);
    cr_assert_not_null(strstr(leat_errmsg(), "announce_on"), "%s", leat_errmsg());
    other.announce_on = "";
    cr_assert_eq(leat_topic_open(mq, "orders", &other, &t), LEAT_EEXIST);
    t = record_topic(mq, "orders", NULL);
    leat_topic_info info;
    cr_assert_eq(leat_topic_list(mq, &info, 1, sizeof info), 1);
    cr_assert_str_eq(info.announce_on, "live");
    heard.mq = mq;
    cr_assert_eq(leat_channel_subscribe(mq, "live", record_hear, &heard, NULL, &s), 0);
    record_dispatch(mq);
    record_send(mq, t, &(leat_record){ .value = LEAT_STR("after") });
    record_dispatch(mq);
    cr_assert_str_eq(heard.text, "live/0/1=after, ");
    leat_message_release(mq, &heard.kept);
    leat_close_all(mq, 0);
    scratch_remove(dir);
}

Test(record, on_the_callback_thread_it_is_announced_without_a_call) {
    leat *mq;
    leat_topic *t;
    leat_subscription *s;
    leat_message m;
    cr_assert_eq(leat_open_memory(NULL, &mq), 0);
    t = record_topic(mq, "orders", "live");
    const leat_subscription_options queued = { .buffer = 4 };
    cr_assert_eq(leat_channel_subscribe(mq, "live", NULL, NULL, &queued, &s), 0);
    record_send(mq, t, &(leat_record){ .value = LEAT_STR("1") });
    cr_assert_eq(leat_subscription_next(s, LEAT_FOREVER, &m), 1);
    cr_assert(m.offset == 0 && strcmp(m.topic, "live") == 0);
    leat_message_release(mq, &m);
    cr_assert_eq(leat_topic_delete(mq, "orders"), 0);
    leat_close_all(mq, 0);
}

Test(record, rings_are_refused) {
    leat *mq = record_store();
    leat_topic *a = record_topic(mq, "a", "from.a"), *b = record_topic(mq, "b", "from.b");
    leat_topic *c = record_topic(mq, "c", NULL);
    leat_subscription *s, *ab;
    cr_assert_eq(leat_channel_record(mq, "from.a", a, &s), LEAT_EINVAL);
    cr_assert_eq(leat_channel_record(mq, "*", a, &s), LEAT_EINVAL);
    cr_assert_null(s);
    cr_assert_eq(leat_channel_record(mq, "from.a", b, &ab), 0, "%s", leat_errmsg());
    cr_assert_eq(leat_channel_record(mq, "from.?", a, &s), LEAT_EINVAL, "b leads back to a");
    cr_assert_eq(leat_channel_record(mq, "from.b", c, &s), 0, "c leads nowhere");
    cr_assert_eq(leat_subscription_close(ab, 0), 0);
    cr_assert_eq(leat_channel_record(mq, "from.b", a, &s), 0, "the ring is open now");
    leat_close_all(mq, 0);
}

Test(record, wrong_arguments_are_refused) {
    leat *mq = record_store(), *other = record_store();
    leat_topic *t = record_topic(mq, "t", NULL), *none;
    leat_subscription *s;
    cr_assert_eq(leat_channel_record(NULL, "a", t, &s), LEAT_EINVAL);
    cr_assert_eq(leat_channel_record(mq, NULL, t, &s), LEAT_EINVAL);
    cr_assert_eq(leat_channel_record(mq, "a b", t, &s), LEAT_EINVAL);
    cr_assert_eq(leat_channel_record(mq, "a", NULL, &s), LEAT_EINVAL);
    cr_assert_eq(leat_channel_record(mq, "a", t, NULL), LEAT_EINVAL);
    cr_assert_eq(leat_channel_record(other, "a", t, &s), LEAT_EINVAL);
    char longest[251];
    memset(longest, 'a', sizeof longest);
    longest[250] = '\0';
    static const char *const wrong[] = { "a*", "a b", "live/orders" };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const leat_topic_options o = { .announce_on = wrong[i] };
        cr_assert_eq(leat_topic_open(mq, "u", &o, &none), LEAT_EINVAL, "%s", wrong[i]);
    }
    const leat_topic_options too_long = { .announce_on = longest };
    cr_assert_eq(leat_topic_open(mq, "u", &too_long, &none), LEAT_EINVAL);
    cr_assert_eq(leat_topic_delete(mq, "t"), 0);
    cr_assert_eq(leat_channel_record(mq, "a", t, &s), LEAT_EGONE);
    leat_shutdown(mq);
    cr_assert_eq(leat_channel_record(mq, "a", t, &s), LEAT_ECLOSED);
    leat_close_all(mq, 0);
    leat_close_all(other, 0);
}

// ---- without memory

struct record_try {
    const char *what;
    int (*make)(leat *mq, leat_topic *t, leat_subscription **s); // s stays NULL: nothing to close
};

static void record_ignore(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    (void)ctx;
}

static int record_try_tap(leat *mq, leat_topic *t, leat_subscription **s) {
    (void)mq;
    return leat_topic_tap(t, -1, LEAT_BEGIN, record_ignore, NULL, NULL, s);
}

static int record_try_pull(leat *mq, leat_topic *t, leat_subscription **s) {
    (void)mq;
    return leat_topic_tap(t, -1, LEAT_BEGIN, NULL, NULL, NULL, s);
}

static int record_try_record(leat *mq, leat_topic *t, leat_subscription **s) {
    return leat_channel_record(mq, "d.*", t, s);
}

static int record_try_announce(leat *mq, leat_topic *t, leat_subscription **s) {
    const leat_topic_options o = { .announce_on = "live", .partitions = 2 };
    leat_topic *fresh;
    (void)t;
    *s = NULL;
    int rc = leat_topic_open(mq, "fresh", &o, &fresh);
    return rc != 0 ? rc : leat_topic_delete(mq, "fresh");
}

Test(record, without_memory_nothing_is_half_made) {
    static const struct record_try tries[] = { { "a tap", record_try_tap },
                                               { "a tap that is pulled", record_try_pull },
                                               { "a record", record_try_record },
                                               { "an announced topic", record_try_announce } };
    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        struct mail_memory mem = { .blocks = 0 };
        leat *mq = mail_store_of(MAIL_POLLED, &mem);
        leat_topic *t = record_topic(mq, "t", NULL);
        leat_subscription *s = NULL;
        record_send(mq, t, &(leat_record){ .value = LEAT_STR("1") });
        int failures = 0, rc = LEAT_ENOMEM;
        for (int k = 1; rc != 0; k++, failures++) {
            atomic_store(&mem.fail_from, k);
            rc = tries[i].make(mq, t, &s);
            atomic_store(&mem.fail_from, 0);
            cr_assert(rc == 0 || (rc == LEAT_ENOMEM && !s), "%s, allocation %d: %d", tries[i].what,
                      k, rc);
            leat_channel_info info;
            cr_assert_eq(leat_channel_list(mq, &info, 1, sizeof info), rc == 0 && i == 2 ? 1 : 0);
        }
        cr_assert_gt(failures, 2, "%s", tries[i].what);
        record_dispatch(mq);
        if (s)
            cr_assert_eq(leat_subscription_close(s, 0), 0);
        cr_assert_eq(leat_close(mq, 0), 0, "%s: %s", tries[i].what, leat_errmsg());
        cr_assert_eq(atomic_load(&mem.blocks), 0, "%s", tries[i].what);
    }
}

Test(record, an_open_without_memory_for_what_announces_leaves_nothing) {
    char dir[SCRATCH_PATH];
    scratch_make(dir);
    struct mail_memory mem = { .blocks = 0 };
    leat_options o = { .alloc = mail_alloc, .alloc_ctx = &mem };
    leat *mq;
    cr_assert_eq(leat_open(dir, &o, &mq), 0);
    (void)record_topic(mq, "orders", "live");
    cr_assert_eq(leat_close(mq, 0), 0);
    int failures = 0;
    for (int k = 1;; k++, failures++) {
        atomic_store(&mem.fail_from, k);
        int rc = leat_open(dir, &o, &mq);
        atomic_store(&mem.fail_from, 0);
        if (rc == 0)
            break;
        cr_assert_eq(rc, LEAT_ENOMEM, "allocation %d: %s", k, leat_errmsg());
        cr_assert_eq(atomic_load(&mem.blocks), 0, "allocation %d", k);
    }
    cr_assert_gt(failures, 10);
    cr_assert_eq(leat_close(mq, 0), 0);
    cr_assert_eq(atomic_load(&mem.blocks), 0);
    scratch_remove(dir);
}

static void record_in_a_child(leat *mq, leat_subscription *tap) {
    leat_message m;
    if (leat_subscription_next(tap, 0, &m) != LEAT_EFORK ||
        leat_subscription_close(tap, 0) != LEAT_EFORK)
        _exit(2);
    (void)leat_close_all(mq, 0);
    _exit(0);
}

Test(record, a_forked_child_frees_taps_records_and_what_announces) {
    leat *mq;
    leat_subscription *pulled, *s;
    cr_assert_eq(leat_open_memory(NULL, &mq), 0);
    leat_topic *t = record_topic(mq, "t", "live"), *into = record_topic(mq, "into", NULL);
    cr_assert_eq(leat_topic_tap(t, -1, LEAT_BEGIN, NULL, NULL, NULL, &pulled), 0);
    cr_assert_eq(leat_channel_record(mq, "live", into, &s), 0);
    record_send(mq, t, &(leat_record){ .value = LEAT_STR("1") });
    pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0)
        record_in_a_child(mq, pulled);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", status);
    leat_message m;
    cr_assert_eq(leat_subscription_next(pulled, 0, &m), 1);
    leat_message_release(mq, &m);
    leat_close_all(mq, 0);
}
