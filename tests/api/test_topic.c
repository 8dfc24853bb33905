/* SPDX-License-Identifier: MIT */
// Topics: made, found again, compared, deleted; what a range tells.
#include "leat.h"
#include "leat_test.h"
#include "lib/place.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static leat *mq;

static void name_of(char name[251], char c, size_t n) {
    memset(name, c, n);
    name[n] = '\0';
}

Test(topic, names_have_limits) {
    char name[251];
    leat_topic *t = NULL;
    ok(leat_open_memory(NULL, &mq));
    static const char *const bad[] = { "",         "../x", "a/b", "a b", "a\n",
                                       "\xc3\xa4", "*",    "a?",  "a\\", "a:b" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        fails(LEAT_EINVAL, leat_topic_open(mq, bad[i], NULL, &t));
    fails(LEAT_EINVAL, leat_topic_open(mq, NULL, NULL, &t));
    name_of(name, 'x', 250);
    fails(LEAT_EINVAL, leat_topic_open(mq, name, NULL, &t));
    fails(LEAT_EINVAL, leat_topic_delete(mq, name));
    fails(LEAT_EINVAL, leat_topic_delete(mq, ""));
    cr_assert_null(t);
    name_of(name, 'x', 249);
    ok(leat_topic_open(mq, name, NULL, &t));
    static const char *const good[] = { "a", ".", "..", "-", "_", "A-Z.a_9" };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ok(leat_topic_open(mq, good[i], NULL, &t));
    ok(leat_close_all(mq, 0));
}

Test(topic, options_have_limits) {
    leat_topic *t = NULL;
    ok(leat_open_memory(NULL, &mq));
    static const leat_topic_options bad[] = {
        { .partitions = -1 },
        { .partitions = 1025 },
        { .partitions = INT32_MAX },
        { .segment_bytes = 16383 },
        { .segment_bytes = -1 },
        { .segment_bytes = (INT64_C(4) << 30) - 4095 },
        { .segment_bytes = INT64_MAX },
        { .flags = LEAT_STRICT },
        { .reserved = { 0, 0, 0, 0, 0, 0, 0, 1 } },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        fails(LEAT_EINVAL, leat_topic_open(mq, "t", &bad[i], &t));
    fails(LEAT_EINVAL, leat_topic_open(NULL, "t", NULL, &t));
    fails(LEAT_EINVAL, leat_topic_open(mq, "t", NULL, NULL));
    fails_saying(LEAT_ENOENT, "t",
                 leat_topic_open(mq, "t", &(leat_topic_options){ .flags = LEAT_MUST_EXIST }, &t));
    cr_assert_null(t);
    static const leat_topic_options good[] = {
        { 0 },
        { .partitions = 1024 },
        { .segment_bytes = 16384 },
        { .segment_bytes = (INT64_C(4) << 30) - 4096 },
    };
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "g%d", i);
        ok(leat_topic_open(mq, name, &good[i], &t));
    }
    ok(leat_close_all(mq, 0));
}

Test(topic, opening_again_gives_the_same_and_names_what_differs, .init = make_dir,
     .fini = drop_dir) {
    for (int run = 0; run < 3; run++) { // created, in the same run, after a reopen
        leat_topic *t, *u;
        leat_topic_options o = { .partitions = 3, .segment_bytes = 20000 };
        if (run != 1)
            ok(leat_open(dir, NULL, &mq));
        ok(leat_topic_open(mq, "orders", &o, &t));
        ok(leat_topic_open(mq, "orders", NULL, &u));
        cr_assert_eq(t, u);
        o.segment_bytes = 0;
        ok(leat_topic_open(mq, "orders", &o, &u)); // 0: as it is
        o = (leat_topic_options){ .segment_bytes = 20000, .flags = LEAT_MUST_EXIST };
        ok(leat_topic_open(mq, "orders", &o, &u));
        cr_assert_eq(t, u);
        o = (leat_topic_options){ .partitions = 4 };
        fails_saying(LEAT_EEXIST, "partitions", leat_topic_open(mq, "orders", &o, &u));
        cr_assert_null(u);
        o = (leat_topic_options){ .partitions = 3, .segment_bytes = 20001 };
        fails_saying(LEAT_EEXIST, "segment_bytes", leat_topic_open(mq, "orders", &o, &u));
        if (run == 0)
            ok(leat_topic_open(mq, "plain", NULL, &u)); // defaults are resolved and stored
        o = (leat_topic_options){ .partitions = 2 };
        fails_saying(LEAT_EEXIST, "partitions 1", leat_topic_open(mq, "plain", &o, &u));
        o = (leat_topic_options){ .partitions = 1, .segment_bytes = 64 << 20 };
        ok(leat_topic_open(mq, "plain", &o, &u));
        cr_assert_neq(t, u);
        if (run != 0)
            ok(leat_close(mq, 0));
    }
}

Test(topic, a_deleted_one_says_so_and_leaves_nothing, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        leat_topic *t, *u;
        leat_producer *p;
        leat_consumer *c;
        leat_range range;
        const leat_message *m;
        leat_record r = { .value = LEAT_STR("v") };
        leat_options o = { .write = disk };
        if (disk)
            ok(leat_open(dir, &o, &mq));
        else
            ok(leat_open_memory(NULL, &mq));
        ok(leat_producer_open(mq, NULL, &p));
        ok(leat_consumer_open(mq, "g", NULL, &c));
        ok(leat_topic_open(mq, "before", NULL, &t));
        char *before = scratch_listing(dir);
        ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 2 }, &t));
        for (int i = 0; i < 10; i++) {
            r.to_partition = LEAT_PARTITION(i % 2);
            ok(leat_send(p, t, &r, NULL));
        }
        ok(leat_consumer_subscribe(c, "t"));
        gives(10, leat_poll(c, 0, &m));
        ok(leat_commit(c));
        ok(leat_topic_delete(mq, "t"));
        fails_saying(LEAT_ENOENT, "t", leat_topic_delete(mq, "t"));
        fails_saying(LEAT_EGONE, "t", leat_send(p, t, &r, NULL));
        fails(LEAT_EGONE, leat_topic_range(t, 0, &range));
        fails(LEAT_EGONE, leat_poll(c, 0, &m));
        fails(LEAT_EGONE, leat_commit(c));
        fails(LEAT_ENOENT, leat_consumer_seek(c, "t", 0, 0));
        ok(leat_consumer_close(c));
        fails(LEAT_ENOENT,
              leat_topic_open(mq, "t", &(leat_topic_options){ .flags = LEAT_MUST_EXIST }, &u));
        ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 5 }, &u));
        cr_assert_neq(t, u);
        ok(leat_topic_range(u, 4, &range));
        cr_assert_eq(range.end, 0);
        fails(LEAT_EGONE, leat_send(p, t, &r, NULL)); // the old handle stays gone
        ok(leat_send(p, u, &r, NULL));
        ok(leat_topic_delete(mq, "t"));
        if (disk) {
            char *after = scratch_listing(dir);
            cr_assert_null(strstr(after, ".log"), "files are left: %s", after);
            free(after);
            ok(leat_close_all(mq, 0));
            ok(leat_open(dir, &o, &mq));
            fails(LEAT_ENOENT, leat_topic_delete(mq, "t"));
            ok(leat_topic_delete(mq, "before"));
        }
        free(before);
        ok(leat_close_all(mq, 0));
    }
}

Test(topic, range_tells_begin_end_and_what_is_durable, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        leat_topic *t;
        leat_producer *log, *safe;
        leat_range range;
        leat_record r = { .value = LEAT_STR("v"), .to_partition = LEAT_PARTITION(1) };
        leat_options o = { .write = disk };
        if (disk)
            ok(leat_open(dir, &o, &mq));
        else
            ok(leat_open_memory(NULL, &mq));
        ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &log));
        ok(leat_producer_open(mq, NULL, &safe)); // the default is LEAT_ACKS_DISK
        ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 2 }, &t));
        for (int i = 0; i < 3; i++)
            ok(leat_send(log, t, &r, NULL));
        ok(leat_topic_range(t, 1, &range));
        cr_assert(range.begin == 0 && range.end == 3 && range.durable_end == 0);
        ok(leat_send(safe, t, &r, NULL));
        ok(leat_topic_range(t, 1, &range));
        cr_assert(range.begin == 0 && range.end == 4 && range.durable_end == 4);
        ok(leat_send(log, t, &r, NULL));
        ok(leat_topic_range(t, 1, &range));
        cr_assert(range.end == 5 && range.durable_end == 4);
        ok(leat_topic_range(t, 0, &range));
        cr_assert(range.begin == 0 && range.end == 0 && range.durable_end == 0);
        fails(LEAT_ERANGE, leat_topic_range(t, 2, &range));
        fails(LEAT_ERANGE, leat_topic_range(t, -1, &range));
        fails(LEAT_EINVAL, leat_topic_range(t, 0, NULL));
        fails(LEAT_EINVAL, leat_topic_range(NULL, 0, &range));
        ok(leat_close_all(mq, 0));
        if (disk) {
            ok(leat_open(dir, &o, &mq));
            ok(leat_topic_open(mq, "t", NULL, &t));
            ok(leat_topic_range(t, 1, &range));
            cr_assert(range.end == 5 && range.durable_end == 5, "close makes all durable");
            ok(leat_close_all(mq, 0));
        }
        scratch_remove(dir);
    }
}

Test(topic, hundreds_of_them_come_back, .init = make_dir, .fini = drop_dir) {
    enum { TOPICS = 300 };
    leat_topic *t;
    leat_range range;
    ok(leat_open(dir, &(leat_options){ .acks = LEAT_ACKS_LOG }, &mq));
    leat_producer *p;
    ok(leat_producer_open(mq, NULL, &p));
    for (int i = 0; i < TOPICS; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        ok(leat_topic_open(mq, name, &(leat_topic_options){ .partitions = i % 7 + 1 }, &t));
        for (int k = 0; k < i % 3; k++) {
            leat_record r = { .value = leat_str(name), .to_partition = LEAT_PARTITION(i % 7) };
            ok(leat_send(p, t, &r, NULL));
        }
        if (i % 10 == 9) {
            snprintf(name, sizeof name, "t%d", i - 5);
            ok(leat_topic_delete(mq, name));
        }
    }
    ok(leat_close_all(mq, 0));
    ok(leat_open(dir, &(leat_options){ .acks = LEAT_ACKS_LOG }, &mq));
    for (int i = 0; i < TOPICS; i++) {
        char name[16];
        leat_topic_options o = { .flags = LEAT_MUST_EXIST, .partitions = i % 7 + 1 };
        snprintf(name, sizeof name, "t%d", i);
        if (i % 10 == 4) {
            fails(LEAT_ENOENT, leat_topic_open(mq, name, &o, &t));
            continue;
        }
        ok(leat_topic_open(mq, name, &o, &t));
        ok(leat_topic_range(t, i % 7, &range));
        cr_assert_eq(range.end, i % 3, "%s", name);
    }
    ok(leat_close_all(mq, 0));
}

// ---- deleted under the hands of others

struct hand {
    leat_topic *t;
    leat_producer *p;
    leat_consumer *c;
    int sent, bad;
    pthread_t thread;
};

static void *send_until_gone(void *ctx) {
    struct hand *h = ctx;
    leat_record r = { .value = LEAT_STR("v") };
    int rc;
    while ((rc = leat_send(h->p, h->t, &r, NULL)) == 0)
        h->sent++;
    h->bad += rc != LEAT_EGONE;
    return NULL;
}

static void *read_until_gone(void *ctx) {
    struct hand *h = ctx;
    const leat_message *m;
    int rc;
    while ((rc = leat_poll(h->c, 20000, &m)) > 0) {
        for (int i = 0; i < rc; i++)
            h->bad += m[i].value.size != 1 || *(const char *)m[i].value.data != 'v';
        h->sent += rc;
        rc = leat_commit(h->c);
        if (rc != 0)
            break;
    }
    h->bad += rc != LEAT_EGONE;
    return NULL;
}

Test(topic, may_be_deleted_while_others_send_sync_and_read, .init = make_dir, .fini = drop_dir) {
    for (int disk = 0; disk < 3; disk++) {
        enum { HANDS = 4 };
        leat_topic *t;
        struct hand h[HANDS];
        if (disk)
            ok(leat_open(dir, &(leat_options){ .write = disk }, &mq));
        else
            ok(leat_open_memory(NULL, &mq));
        for (int round = 0; round < 3; round++) {
            leat_topic_options o = { .partitions = 2, .segment_bytes = 16384 };
            ok(leat_topic_open(mq, "t", &o, &t));
            for (int i = 0; i < HANDS; i++) {
                h[i] = (struct hand){ .t = t };
                leat_producer_options po = { .acks = i == 0 ? LEAT_ACKS_DISK : LEAT_ACKS_LOG };
                ok(leat_producer_open(mq, &po, &h[i].p));
                ok(leat_consumer_open(mq, "g", NULL, &h[i].c));
                if (i >= 2)
                    ok(leat_consumer_subscribe(h[i].c, "t"));
                cr_assert_eq(pthread_create(&h[i].thread, NULL,
                                            i < 2 ? send_until_gone : read_until_gone, &h[i]),
                             0);
            }
            leat_range range = { 0 };
            while (range.end < 200)
                ok(leat_topic_range(t, 0, &range));
            ok(leat_topic_delete(mq, "t"));
            for (int i = 0; i < HANDS; i++) {
                cr_assert_eq(pthread_join(h[i].thread, NULL), 0);
                cr_assert_eq(h[i].bad, 0, "hand %d", i);
                ok(leat_producer_close(h[i].p, 0));
                ok(leat_consumer_close(h[i].c));
            }
        }
        ok(leat_close(mq, 0));
        scratch_remove(dir);
    }
}

Test(topic, the_list_is_in_the_order_of_creation_also_after_an_open, .init = make_dir,
     .fini = drop_dir) {
    enum { TOPICS = 20 };
    leat_topic_info info[TOPICS];
    char name[16];
    for (int opens = 0; opens < 2; opens++) {
        ok(leat_open(dir, NULL, &mq));
        for (int i = 0; i < TOPICS && opens == 0; i++) {
            leat_topic *t;
            snprintf(name, sizeof name, "t%d", i);
            ok(leat_topic_open(mq, name, NULL, &t));
        }
        gives(TOPICS, leat_topic_list(mq, info, TOPICS, sizeof *info));
        for (int i = 0; i < TOPICS; i++) {
            snprintf(name, sizeof name, "t%d", i);
            cr_assert_str_eq(info[i].name, name);
        }
        ok(leat_close_all(mq, 0));
    }
}
