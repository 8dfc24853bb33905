/* SPDX-License-Identifier: MIT */
// Pages: what holds little has small ones, what holds much has large ones while they are cheap.
#include "lib/scratch.h"
#include "log/log.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LARGE = 2 << 20, ASKED = 64, RECORD = 64 << 10 };

static leat *mq;
static leat_producer *p;
static leat_topic *t;
static struct lt_os os;
static struct {
    uintptr_t at;
    size_t n;
    bool wanted;
} asked[ASKED];
static size_t asks;
static uintptr_t populated_to;
static int64_t spent_ns, cost_ns; // of a call of populate

static void ask(struct lt_os *self, void *at, size_t n, bool wanted) {
    (void)self;
    cr_assert_lt(asks, ASKED);
    asked[asks].at = (uintptr_t)at;
    asked[asks].n = n;
    asked[asks++].wanted = wanted;
}

static int populate(struct lt_os *self, void *at, size_t n) {
    (void)self;
    (void)at;
    populated_to = (uintptr_t)at + n;
    spent_ns += cost_ns;
    return 0;
}

static int64_t spent(struct lt_os *self) {
    (void)self;
    return spent_ns;
}

static void open_topic(const char *name, int64_t segment_bytes) {
    const leat_topic_options o = { .segment_bytes = segment_bytes };
    asks = 0;
    populated_to = 0;
    ok(leat_topic_open(mq, name, &o, &t));
}

// A store in memory whose pages are asked for here.
static void open_store(void) {
    ok(leat_open_memory(&(leat_options){ .seed = 1, .memory_max_bytes = LEAT_UNLIMITED }, &mq));
    os = *mq->os;
    os.large_pages = ask;
    os.populate = populate;
    os.spent_ns = spent;
    mq->os = &os;
    cost_ns = 1000;
    ok(leat_producer_open(mq, NULL, &p));
    open_topic("t", 16 << 20);
}

static void send_kib(int kib) {
    static char bytes[RECORD];
    for (; kib > 0; kib -= RECORD >> 10)
        ok(leat_send(p, t, &(leat_record){ .value = { bytes, RECORD - 100 } }, NULL));
}

// How many pages of the active segment are there, from its begin on; up to 64.
static size_t touched(void) {
    const struct lt_partition *part = lt_topic_part(t, 0);
    unsigned char there[64] = { 0 };
    size_t size = part->segs[part->count - 1]->map_size, n = 0;
    size = size < sizeof there * LT_SEGMENT_PAGE ? size : sizeof there * LT_SEGMENT_PAGE;
    cr_assert_eq(mincore(part->segs[part->count - 1]->map, size, there), 0);
    for (size_t i = 0; i < sizeof there; i++)
        n += there[i] & 1;
    return n;
}

static size_t wanted(void) {
    size_t n = 0;
    for (size_t i = 0; i < asks; i++)
        n += asked[i].wanted;
    return n;
}

// Sends until the next segment is one of at least that size. Returns  where it is mapped.
static uintptr_t reach(uint64_t size) {
    const struct lt_partition *part = lt_topic_part(t, 0);
    do
        send_kib(64);
    while (part->segs[part->count - 1]->map_size < size);
    return (uintptr_t)part->segs[part->count - 1]->map;
}

static uintptr_t place(void) {
    return lt_topic_part(t, 0)->next_place;
}

static uint64_t allocated(void) {
    const struct lt_partition *part = lt_topic_part(t, 0);
    return part->segs[part->count - 1]->allocated;
}

Test(pages, a_topic_that_holds_little_has_small_ones) {
    open_store();
    (void)reach(4 << 20);
    send_kib(1800);
    cr_assert_eq(asks, lt_topic_part(t, 0)->count, "once for each of its segments");
    cr_assert_eq(wanted(), 0);
    ok(leat_close_all(mq, 0));
}

Test(pages, a_record_alone_in_its_topic_takes_one) {
    open_store();
    open_topic("small", 16 << 20);
    ok(leat_send(p, t, &(leat_record){ .value = leat_str("x") }, NULL));
    cr_assert_eq(touched(), 1);
    ok(leat_close_all(mq, 0));
}

Test(pages, behind_two_mib_of_a_segment_they_are_large_and_made_as_a_whole) {
    open_store();
    uintptr_t begin = reach(4 << 20);
    size_t before = asks, size = asked[before - 1].n;
    cr_assert_eq(asked[before - 1].at, begin);
    for (int more = 0; more < 5; more++) {
        send_kib(768);
        if (place() >= begin + LARGE)
            cr_assert(populated_to % LARGE == 0 || populated_to == begin + allocated());
        cr_assert_geq(populated_to, place());
        cr_assert_lt(populated_to, place() + LARGE);
    }
    cr_assert_eq(asks, before + 1);
    cr_assert(asked[before].wanted);
    cr_assert_geq(asked[before].at, begin + LARGE);
    cr_assert_lt(asked[before].at, begin + 2 * (uintptr_t)LARGE);
    cr_assert_eq(asked[before].at % LARGE, 0);
    cr_assert_eq(asked[before].at + asked[before].n, begin + size);
    ok(leat_close_all(mq, 0));
}

Test(pages, a_segment_behind_one_that_held_much_has_large_ones_from_its_begin) {
    open_store();
    uintptr_t begin = reach(16 << 20);
    cr_assert(asked[asks - 1].wanted);
    cr_assert_geq(asked[asks - 1].at, begin);
    cr_assert_lt(asked[asks - 1].at, begin + LARGE);
    ok(leat_close_all(mq, 0));
}

Test(pages, of_a_small_segment_none_is_made_ahead) {
    open_store();
    uintptr_t begin = reach(256 << 10);
    send_kib(128);
    cr_assert_eq(populated_to, 0);
    begin = reach(1 << 20);
    send_kib(512);
    cr_assert_geq(populated_to, place());
    cr_assert_leq(populated_to, place() + (128 << 10), "few, of one that is not large");
    cr_assert_gt(populated_to, begin);
    ok(leat_close_all(mq, 0));
}

Test(pages, large_ones_that_are_dear_are_given_up_by_the_whole_store) {
    open_store();
    leat_topic *first = t, *other;
    ok(leat_topic_open(mq, "other", &(leat_topic_options){ .segment_bytes = 16 << 20 }, &other));
    t = other;
    (void)reach(16 << 20); // large ones are cheap
    t = first;
    (void)reach(4 << 20);
    send_kib(1024);
    size_t before = asks, had = wanted();
    cost_ns = 1000000;
    while (wanted() == had) // and dear
        send_kib(64);
    cr_assert(atomic_load(&mq->log->small_pages));
    uintptr_t large_to = populated_to;
    cr_assert_eq(asks, before + 1);
    while (populated_to == large_to)
        send_kib(64);
    cr_assert_eq(asks, before + 2);
    cr_assert(!asked[asks - 1].wanted, "what it has not made yet is to be small again");
    t = other;
    send_kib(4096);
    cr_assert_eq(asks, before + 3);
    cr_assert(!asked[asks - 1].wanted);
    open_topic("late", 16 << 20);
    send_kib(8192);
    cr_assert_gt(asks, 0);
    cr_assert_eq(wanted(), 0);
    ok(leat_close_all(mq, 0));
}

Test(pages, a_system_that_has_no_say_in_them_does_without) {
    open_store();
    os.large_pages = NULL;
    send_kib(8192);
    os.large_pages = ask;
    os.spent_ns = NULL;
    send_kib(8192);
    os.populate = NULL;
    send_kib(8192);
    cr_assert_eq(wanted(), 0);
    ok(leat_close_all(mq, 0));
}
