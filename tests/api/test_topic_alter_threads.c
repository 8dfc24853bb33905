/* SPDX-License-Identifier: MIT */
// A topic that is altered by several threads while others send, read, settle and list.
#include "leat.h"
#include "leat_test.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { SENDERS = 2, ALTERERS = 2, RECORDS = 4000, PARTITIONS = 2 };

static atomic_bool over, wrong;

static void *send_all(void *arg) {
    static const char value[500];
    leat_producer *mine;
    bool bad =
        leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &mine) != 0;
    for (int i = 0; i < RECORDS && !bad; i++) {
        leat_record r = { .value = { value, sizeof value },
                          .to_partition = LEAT_PARTITION(i % PARTITIONS) };
        int rc = leat_send(mine, t, &r, NULL);
        bad = rc != 0 && rc != LEAT_EFULL;
    }
    if (bad || leat_producer_close(mine, 0) != 0)
        atomic_store(&wrong, true);
    return arg;
}

// Two settings, each of which lets nothing go that the other keeps: only a mix of them would.
static void *alter_all(void *arg) {
    static const leat_topic_options to[] = {
        { .flags = LEAT_ALTER, .retention_records = 5, .when_full = LEAT_REJECT },
        { .flags = LEAT_ALTER, .retention_records = 1000000, .when_full = LEAT_DELETE_OLDEST },
    };
    for (int i = 0; !atomic_load(&over); i++) {
        leat_topic *same;
        leat_topic_options o = to[i % 2];
        o.retention_ms = i % 3 ? LEAT_FOREVER : INT64_C(3600000);
        o.segment_ms = i % 5 ? 1 : 1000000;
        if (leat_topic_open(mq, "t", &o, &same) != 0 || same != t)
            atomic_store(&wrong, true);
    }
    return arg;
}

static void *list_all(void *arg) {
    while (!atomic_load(&over)) {
        leat_topic_info info;
        if (leat_topic_list(mq, &info, 1, sizeof info) < 1)
            atomic_store(&wrong, true);
        // Never one of the one and one of the other.
        if (info.retention_records != LEAT_UNLIMITED &&
            (info.retention_records == 5) != (info.when_full == LEAT_REJECT))
            atomic_store(&wrong, true);
    }
    return arg;
}

Test(topic_alter_threads, no_mix_of_two_settings_is_ever_seen) {
    pthread_t sender[SENDERS], alterer[ALTERERS], lister;
    leat_options so = { .acks = LEAT_ACKS_LOG };
    leat_topic_options o = { .partitions = PARTITIONS, .segment_bytes = 16384 };
    leat_range r;
    ok(fixture_open(NULL, &so, &o, NULL));
    atomic_store(&over, false);
    for (int i = 0; i < SENDERS; i++)
        cr_assert_eq(pthread_create(&sender[i], NULL, send_all, NULL), 0);
    for (int i = 0; i < ALTERERS; i++)
        cr_assert_eq(pthread_create(&alterer[i], NULL, alter_all, NULL), 0);
    cr_assert_eq(pthread_create(&lister, NULL, list_all, NULL), 0);
    for (int i = 0; i < SENDERS; i++)
        cr_assert_eq(pthread_join(sender[i], NULL), 0);
    atomic_store(&over, true);
    for (int i = 0; i < ALTERERS; i++)
        cr_assert_eq(pthread_join(alterer[i], NULL), 0);
    cr_assert_eq(pthread_join(lister, NULL), 0);
    cr_assert(!atomic_load(&wrong));
    for (int32_t i = 0; i < PARTITIONS; i++) {
        ok(leat_topic_range(t, i, &r));
        cr_assert(r.begin == 0 && r.end > 5, "%d to %d", (int)r.begin, (int)r.end);
    }
    ok(leat_close_all(mq, 0));
}

// What nobody has consumed is kept, whatever else the settings say meanwhile.
static void *alter_bounds(void *arg) {
    for (int i = 0; !atomic_load(&over); i++) {
        leat_topic *same;
        leat_topic_options o = { .flags = LEAT_ALTER, .keep_until_consumed = 1 };
        o.retention_records = 3;
        if (i % 2) {
            o.keep_until_consumed = LEAT_ZERO;
            o.retention_records = LEAT_UNLIMITED;
        }
        if (leat_topic_open(mq, "t", &o, &same) != 0)
            atomic_store(&wrong, true);
    }
    return arg;
}

Test(topic_alter_threads, what_a_queue_and_a_group_have_not_done_with_stays) {
    pthread_t sender[SENDERS], alterer[ALTERERS];
    leat_options so = { .acks = LEAT_ACKS_LOG };
    leat_topic_options o = { .partitions = PARTITIONS, .segment_bytes = 16384 };
    leat_queue *q;
    leat_consumer *c;
    leat_message got[64];
    const leat_message *m;
    int n, taken = 0, read = 0;
    ok(fixture_open(NULL, &so, &o, NULL));
    ok(leat_queue_open(mq, "q", &(leat_queue_options){ .topic = "t" }, &q));
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    atomic_store(&over, false);
    for (int i = 0; i < SENDERS; i++)
        cr_assert_eq(pthread_create(&sender[i], NULL, send_all, NULL), 0);
    for (int i = 0; i < ALTERERS; i++)
        cr_assert_eq(pthread_create(&alterer[i], NULL, alter_bounds, NULL), 0);
    while (taken < SENDERS * RECORDS || read < SENDERS * RECORDS) {
        n = leat_queue_receive(q, 0, got, 64);
        cr_assert_geq(n, 0);
        for (int i = 0; i < n; i++)
            ok(leat_queue_ack(q, &got[i]));
        taken += n;
        n = leat_poll(c, 0, &m);
        cr_assert_geq(n, 0);
        read += n;
        ok(leat_commit(c));
    }
    for (int i = 0; i < SENDERS; i++)
        cr_assert_eq(pthread_join(sender[i], NULL), 0);
    atomic_store(&over, true);
    for (int i = 0; i < ALTERERS; i++)
        cr_assert_eq(pthread_join(alterer[i], NULL), 0);
    cr_assert(!atomic_load(&wrong));
    cr_assert(taken == SENDERS * RECORDS && read == SENDERS * RECORDS);
    ok(leat_close_all(mq, 0));
}

enum { KEPT = 1000 };

// The one keeps a thousand records, the other what was not consumed, which is all.
static void *alter_who_is_asked(void *arg) {
    for (int i = 0; !atomic_load(&over); i++) {
        leat_topic *same;
        leat_topic_options o = { .flags = LEAT_ALTER };
        o.keep_until_consumed = i % 2 ? LEAT_ZERO : 1;
        o.retention_records = i % 2 ? KEPT : 3;
        if (leat_topic_open(mq, "t", &o, &same) != 0)
            atomic_store(&wrong, true);
    }
    return arg;
}

Test(topic_alter_threads, consumers_are_asked_before_anything_goes_by_a_bound_that_asks_them,
     .init = make_root, .fini = drop_root) {
    pthread_t sender[SENDERS], alterer[ALTERERS];
    leat_options so = { .acks = LEAT_ACKS_LOG };
    leat_topic_options o = { .partitions = PARTITIONS, .segment_bytes = 16384 };
    leat_consumer *c;
    leat_range r;
    ok(fixture_open(dir, &so, &o, NULL)); // where the note is synced between asking and taking
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t")); // and commits nothing
    atomic_store(&over, false);
    for (int i = 0; i < SENDERS; i++)
        cr_assert_eq(pthread_create(&sender[i], NULL, send_all, NULL), 0);
    for (int i = 0; i < ALTERERS; i++)
        cr_assert_eq(pthread_create(&alterer[i], NULL, alter_who_is_asked, NULL), 0);
    for (int i = 0; i < SENDERS; i++)
        cr_assert_eq(pthread_join(sender[i], NULL), 0);
    atomic_store(&over, true);
    for (int i = 0; i < ALTERERS; i++)
        cr_assert_eq(pthread_join(alterer[i], NULL), 0);
    cr_assert(!atomic_load(&wrong));
    for (int32_t i = 0; i < PARTITIONS; i++) {
        ok(leat_topic_range(t, i, &r));
        cr_assert(r.end - r.begin >= KEPT, "%d to %d", (int)r.begin, (int)r.end);
    }
    ok(leat_close_all(mq, 0));
}

static void *alter_what_there_is(void *arg) {
    for (int i = 0; !atomic_load(&over); i++) {
        leat_topic *any;
        leat_topic_options o = { .flags = LEAT_ALTER, .retention_records = 1 + i % 20 };
        o.retention_ms = i % 2 ? LEAT_FOREVER : INT64_C(3600000);
        if (leat_topic_open(mq, "t", &o, &any) != 0)
            atomic_store(&wrong, true);
    }
    return arg;
}

Test(topic_alter_threads, a_topic_may_be_deleted_and_made_and_grown_meanwhile, .init = make_root,
     .fini = drop_root) {
    static const char value[8000];
    pthread_t alterer[ALTERERS];
    leat_options so = { .acks = LEAT_ACKS_LOG };
    ok(fixture_open(dir, &so, NULL, NULL));
    atomic_store(&over, false);
    for (int i = 0; i < ALTERERS; i++)
        cr_assert_eq(pthread_create(&alterer[i], NULL, alter_what_there_is, NULL), 0);
    for (int round = 0; round < 40; round++) {
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_topic_grow(t, 3));
        for (int i = 0; i < 12; i++) {
            leat_record r = { .value = { value, sizeof value },
                              .to_partition = LEAT_PARTITION(i % 3) };
            ok(leat_send(p, t, &r, NULL));
        }
        ok(leat_topic_delete(mq, "t"));
    }
    atomic_store(&over, true);
    for (int i = 0; i < ALTERERS; i++)
        cr_assert_eq(pthread_join(alterer[i], NULL), 0);
    cr_assert(!atomic_load(&wrong));
    ok(leat_close_all(mq, 0));
}
