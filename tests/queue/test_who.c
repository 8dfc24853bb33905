/* SPDX-License-Identifier: MIT */
// The names of those who receive: kept while a lease refers to them, cut at 63 bytes, and no more
// than there is room for.
#include "leat.h"
#include "leat_test.h"
#include "lib/scratch.h"
#include "queue/room.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { SECOND = 1000, MESSAGES = LT_WHO_MAX + 2 };

static leat *mq;
static leat_queue *q;
static leat_message m[MESSAGES];

static void open_all(void) {
    ok(leat_open_memory(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, &mq));
    ok(leat_queue_open(mq, "jobs", &(leat_queue_options){ .visibility_timeout_ms = SECOND }, &q));
    for (int i = 0; i < MESSAGES; i++)
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("x") }, NULL));
}

static void receive(int i, const char *who) {
    gives(1, leat_queue_receive_with(q, 0, &(leat_receive_options){ .who = who }, &m[i], 1));
}

static const char *who_has(int i) {
    const struct lt_lease *lease = lt_leases_find(&q->leases, m[i].receipt);
    cr_assert_not_null(lease);
    return lt_who_name(q, lease);
}

Test(who, is_kept_as_long_as_the_lease) {
    char name[101];
    memset(name, 'n', 100);
    name[100] = '\0';
    open_all();
    gives(1, leat_queue_receive(q, 0, &m[0], 1));
    cr_assert_null(q->who); // nobody said who
    cr_assert_str_eq(who_has(0), "");
    receive(1, "one");
    receive(2, "one");
    receive(3, name);
    cr_assert_str_eq(who_has(1), "one");
    cr_assert_eq(m[1].deliveries, 1);
    name[63] = '\0';
    cr_assert_str_eq(who_has(3), name);
    name[63] = 'n';
    receive(4, name);
    cr_assert_eq(lt_who_find(q, name), 2); // the same one
    cr_assert_eq(lt_who_find(q, "one"), 1);
    ok(leat_clock_advance(mq, SECOND)); // lapsed: may be extended yet
    cr_assert_str_eq(who_has(1), "one");
    ok(leat_queue_ack(q, &m[1]));
    ok(leat_queue_nack(q, &m[2], SECOND, 0)); // waits, and is nobody's
    receive(1, "two");
    cr_assert_str_eq(who_has(1), "two");
    cr_assert_eq(lt_who_find(q, "two"), 1); // in place of one
    ok(leat_close_all(mq, 0));
}

Test(who, has_room_for_so_many_and_gives_it_back) {
    char name[16];
    open_all();
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MESSAGES; i++) {
            (void)snprintf(name, sizeof name, "%d-%d", round, i);
            receive(i, name);
            cr_assert_str_eq(who_has(i), i < LT_WHO_MAX ? name : "");
        }
        for (int i = 0; i < MESSAGES; i++)
            ok(round == 1 ? leat_queue_extend(q, &m[i], 0) : leat_queue_nack(q, &m[i], 0, 0));
        for (int i = 0; i < MESSAGES && round == 1; i++)
            ok(leat_message_release(mq, &m[i]));
    }
    for (int i = 0; i < MESSAGES; i++) {
        receive(i, "last");
        ok(leat_queue_reject(q, &m[i], NULL));
    }
    ok(leat_close_all(mq, 0));
}
