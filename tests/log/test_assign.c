/* SPDX-License-Identifier: MIT */
// The assignors: the examples that Kafka's documentation gives, to the letter, and what holds for
// every input.
#include "log/assign.h"

#include "leat.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOPICS = 8, MEMBERS = 8, PARTITIONS = 64, TRIES = 20000, SMALL_TRIES = 3000 };

struct input {
    size_t topics, members;
    int32_t partitions[TOPICS];
    uint8_t reads[MEMBERS * TOPICS];
    int32_t owner[PARTITIONS], target[PARTITIONS], load[MEMBERS];
};

static size_t count(const struct input *in) {
    size_t n = 0;
    for (size_t t = 0; t < in->topics; t++)
        n += (size_t)in->partitions[t];
    return n;
}

static bool reads(const struct input *in, size_t member, size_t topic) {
    return in->reads[member * in->topics + topic] != 0;
}

static void run(int32_t how, struct input *in) {
    for (size_t i = 0; i < PARTITIONS; i++)
        in->target[i] = -77;
    const struct lt_assign a = { in->topics, in->members, in->partitions, in->reads,
                                 in->owner,  in->target,  in->load };
    lt_assign(how, &a);
    for (size_t i = count(in); i < PARTITIONS; i++)
        cr_assert_eq(in->target[i], -77, "wrote behind the end");
}

static void set_topics(struct input *in, const char *partitions) {
    memset(in, 0, sizeof *in);
    in->topics = strlen(partitions);
    for (size_t t = 0; t < in->topics; t++)
        in->partitions[t] = partitions[t] - '0';
    for (size_t i = 0; i < PARTITIONS; i++)
        in->owner[i] = -1;
}

static void add_member(struct input *in, const char *topics) {
    for (; *topics; topics++)
        in->reads[in->members * in->topics + (size_t)(*topics - '0')] = 1;
    in->members++;
}

// What was handed out is owned from here on.
static void take(struct input *in) {
    memcpy(in->owner, in->target, sizeof in->owner);
}

static void remove_member(struct input *in, size_t member) {
    uint8_t *at = in->reads + member * in->topics;
    memmove(at, at + in->topics, (in->members - member - 1) * in->topics);
    in->members--;
    for (size_t i = 0; i < count(in); i++) {
        if (in->owner[i] == (int32_t)member)
            in->owner[i] = -1;
        in->owner[i] -= in->owner[i] > (int32_t)member;
    }
}

// "t0p0 t0p1": what a member got.
static const char *got(const struct input *in, size_t member) {
    static char text[8 * PARTITIONS];
    size_t at = 0;
    text[0] = '\0';
    for (size_t t = 0; t < in->topics; t++)
        for (int32_t i = 0; i < in->partitions[t]; i++)
            if (in->target[at++] == (int32_t)member)
                snprintf(text + strlen(text), sizeof text - strlen(text), "%st%zup%d",
                         text[0] ? " " : "", t, i);
    return text;
}

static void gives(int32_t how, struct input *in, const char *const *expected) {
    run(how, in);
    for (size_t m = 0; m < in->members; m++)
        cr_assert_str_eq(got(in, m), expected[m]);
}

Test(assign, range_gives_what_the_examples_of_kafka_say) {
    struct input in;
    set_topics(&in, "33"); // the Javadoc of RangeAssignor
    add_member(&in, "01");
    add_member(&in, "01");
    gives(LEAT_ASSIGN_RANGE, &in, (const char *[]){ "t0p0 t0p1 t1p0 t1p1", "t0p2 t1p2" });
    take(&in);
    // Its example with identities that last: whoever owned what before, the order alone counts.
    for (size_t i = 0; i < 6; i++)
        in.owner[i] = 1 - in.owner[i];
    gives(LEAT_ASSIGN_RANGE, &in, (const char *[]){ "t0p0 t0p1 t1p0 t1p1", "t0p2 t1p2" });
    // A member that reads one of the topics does not count for the other.
    set_topics(&in, "33");
    add_member(&in, "0");
    add_member(&in, "01");
    add_member(&in, "1");
    gives(LEAT_ASSIGN_RANGE, &in, (const char *[]){ "t0p0 t0p1", "t0p2 t1p0 t1p1", "t1p2" });
    remove_member(&in, 1);
    gives(LEAT_ASSIGN_RANGE, &in, (const char *[]){ "t0p0 t0p1 t0p2", "t1p0 t1p1 t1p2" });
}

Test(assign, round_robin_gives_what_the_examples_of_kafka_say) {
    struct input in;
    set_topics(&in, "33"); // the Javadoc of RoundRobinAssignor
    add_member(&in, "01");
    add_member(&in, "01");
    gives(LEAT_ASSIGN_ROUND_ROBIN, &in, (const char *[]){ "t0p0 t0p2 t1p1", "t0p1 t1p0 t1p2" });
    set_topics(&in, "123");
    add_member(&in, "0");
    add_member(&in, "01");
    add_member(&in, "012");
    gives(LEAT_ASSIGN_ROUND_ROBIN, &in, (const char *[]){ "t0p0", "t1p0", "t1p1 t2p0 t2p1 t2p2" });
    remove_member(&in, 0); // the Javadoc of StickyAssignor says what round robin would do
    gives(LEAT_ASSIGN_ROUND_ROBIN, &in, (const char *[]){ "t0p0 t1p1", "t1p0 t2p0 t2p1 t2p2" });
    set_topics(&in, "2222");
    for (int i = 0; i < 3; i++)
        add_member(&in, "0123");
    gives(LEAT_ASSIGN_ROUND_ROBIN, &in,
          (const char *[]){ "t0p0 t1p1 t3p0", "t0p1 t2p0 t3p1", "t1p0 t2p1" });
    remove_member(&in, 1);
    gives(LEAT_ASSIGN_ROUND_ROBIN, &in,
          (const char *[]){ "t0p0 t1p0 t2p0 t3p0", "t0p1 t1p1 t2p1 t3p1" });
}

Test(assign, sticky_gives_what_the_examples_of_kafka_say) {
    struct input in;
    set_topics(&in, "2222"); // the Javadoc of StickyAssignor
    for (int i = 0; i < 3; i++)
        add_member(&in, "0123");
    gives(LEAT_ASSIGN_STICKY, &in,
          (const char *[]){ "t0p0 t1p1 t3p0", "t0p1 t2p0 t3p1", "t1p0 t2p1" });
    take(&in);
    remove_member(&in, 1);
    gives(LEAT_ASSIGN_STICKY, &in,
          (const char *[]){ "t0p0 t1p1 t2p0 t3p0", "t0p1 t1p0 t2p1 t3p1" });
    set_topics(&in, "123");
    add_member(&in, "0");
    add_member(&in, "01");
    add_member(&in, "012");
    gives(LEAT_ASSIGN_STICKY, &in, (const char *[]){ "t0p0", "t1p0 t1p1", "t2p0 t2p1 t2p2" });
    take(&in);
    remove_member(&in, 0);
    gives(LEAT_ASSIGN_STICKY, &in, (const char *[]){ "t0p0 t1p0 t1p1", "t2p0 t2p1 t2p2" });
}

// ---- what holds for every input

static uint64_t seed = 42;

static uint32_t chance(uint32_t below) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33) % below;
}

// alike: all members read the same topics.
static void any(struct input *in, size_t topics, size_t members, uint32_t partitions, bool alike) {
    memset(in, 0, sizeof *in);
    in->topics = topics;
    in->members = members;
    for (size_t t = 0; t < topics; t++)
        in->partitions[t] = (int32_t)chance(partitions + 1);
    for (size_t m = 0; m < members; m++)
        for (size_t t = 0; t < topics; t++)
            in->reads[m * topics + t] = alike && m > 0 ? in->reads[t] : chance(4) != 0;
    uint32_t bias = chance(4) ? (uint32_t)members + 1 : 2; // often one that has nearly all
    for (size_t i = 0; i < PARTITIONS; i++)
        in->owner[i] = (int32_t)chance(bias < members + 1 ? bias : (uint32_t)members + 1) - 1;
}

static size_t topic_of(const struct input *in, size_t at) {
    size_t t = 0;
    for (; at >= (size_t)in->partitions[t]; t++)
        at -= (size_t)in->partitions[t];
    return t;
}

static bool is_read(const struct input *in, size_t topic) {
    for (size_t m = 0; m < in->members; m++)
        if (reads(in, m, topic))
            return true;
    return false;
}

// Each partition of a topic that is read has one target, which reads it; the others have none.
static void is_sound(const struct input *in) {
    int32_t load[MEMBERS] = { 0 };
    for (size_t i = 0; i < count(in); i++) {
        size_t t = topic_of(in, i);
        int32_t to = in->target[i];
        cr_assert_eq(to >= 0, is_read(in, t));
        if (to < 0)
            continue;
        cr_assert((size_t)to < in->members && reads(in, (size_t)to, t));
        load[to]++;
    }
    for (size_t m = 0; m < in->members; m++)
        cr_assert_eq(in->load[m], load[m]);
}

// Kafka's words: nobody who has two fewer than another can take over one of the other's.
static bool is_balanced(const struct input *in, const int32_t *target) {
    int32_t load[MEMBERS] = { 0 };
    for (size_t i = 0; i < count(in); i++)
        if (target[i] >= 0)
            load[target[i]]++;
    for (size_t i = 0; i < count(in); i++)
        for (size_t m = 0; m < in->members; m++)
            if (target[i] >= 0 && reads(in, m, topic_of(in, i)) && load[target[i]] >= load[m] + 2)
                return false;
    return true;
}

static int kept(const struct input *in, const int32_t *target) {
    int n = 0;
    for (size_t i = 0; i < count(in); i++)
        n += in->owner[i] >= 0 && in->owner[i] == target[i];
    return n;
}

// Kafka's range rule as its code says it: start and length of each reader's run.
static void naive_range(const struct input *in, int32_t *target) {
    int32_t first = 0;
    for (size_t t = 0; t < in->topics; first += in->partitions[t++]) {
        int32_t readers[MEMBERS], n = 0, all = in->partitions[t];
        for (size_t m = 0; m < in->members; m++)
            if (reads(in, m, t))
                readers[n++] = (int32_t)m;
        for (int32_t i = 0; i < all; i++)
            target[first + i] = -1;
        for (int32_t i = 0; i < n; i++) {
            int32_t extra = all % n, from = all / n * i + (i < extra ? i : extra);
            int32_t length = all / n + (i + 1 > extra ? 0 : 1);
            for (int32_t k = from; k < from + length; k++)
                target[first + k] = readers[i];
        }
    }
}

static void naive_round_robin(const struct input *in, int32_t *target) {
    size_t turn = 0; // never comes round to its beginning: the remainder says whose it is
    for (size_t i = 0; i < count(in); i++) {
        size_t t = topic_of(in, i);
        target[i] = -1;
        if (!is_read(in, t))
            continue;
        while (!reads(in, turn % in->members, t))
            turn++;
        target[i] = (int32_t)(turn++ % in->members);
    }
}

Test(assign, range_and_round_robin_equal_a_naive_reference) {
    struct input in;
    for (int i = 0; i < TRIES; i++) {
        int32_t expected[PARTITIONS];
        any(&in, chance(TOPICS + 1), chance(MEMBERS + 1), PARTITIONS / TOPICS, chance(2));
        run(LEAT_ASSIGN_RANGE, &in);
        is_sound(&in);
        naive_range(&in, expected);
        cr_assert(memcmp(in.target, expected, count(&in) * sizeof *expected) == 0, "range %d", i);
        run(LEAT_ASSIGN_ROUND_ROBIN, &in);
        is_sound(&in);
        naive_round_robin(&in, expected);
        cr_assert(memcmp(in.target, expected, count(&in) * sizeof *expected) == 0, "round %d", i);
    }
}

static int downwards(const void *a, const void *b) {
    return *(const int *)b - *(const int *)a;
}

// The most that can stay if all read the same: the largest owners keep the odd ones.
static int most_kept(const struct input *in) {
    int has[MEMBERS] = { 0 }, all = 0, most = 0;
    for (size_t i = 0; i < count(in); i++) {
        if (!is_read(in, topic_of(in, i)))
            continue;
        all++;
        if (in->owner[i] >= 0)
            has[in->owner[i]]++;
    }
    qsort(has, in->members, sizeof has[0], downwards);
    for (int m = 0; m < (int)in->members; m++) {
        int members = (int)in->members, share = all / members + (m < all % members);
        most += has[m] < share ? has[m] : share;
    }
    return most;
}

Test(assign, sticky_is_balanced_and_moves_nothing_a_second_time) {
    struct input in;
    for (int i = 0; i < TRIES; i++) {
        bool alike = chance(2);
        any(&in, chance(TOPICS + 1), 1 + chance(MEMBERS), PARTITIONS / TOPICS, alike);
        run(LEAT_ASSIGN_STICKY, &in);
        is_sound(&in);
        cr_assert(is_balanced(&in, in.target));
        if (alike)
            cr_assert_eq(kept(&in, in.target), most_kept(&in));
        take(&in);
        run(LEAT_ASSIGN_STICKY, &in);
        cr_assert(memcmp(in.owner, in.target, count(&in) * sizeof in.owner[0]) == 0);
    }
}

// The most that any balanced assignment keeps, by trying all.
static int most_of_all(const struct input *in) {
    int32_t target[PARTITIONS];
    int best = -1;
    size_t n = count(in);
    for (size_t i = 0; i < n; i++)
        target[i] = is_read(in, topic_of(in, i)) ? 0 : -1;
    for (;;) {
        bool sound = true;
        for (size_t i = 0; i < n && sound; i++)
            sound = target[i] < 0 || reads(in, (size_t)target[i], topic_of(in, i));
        if (sound && is_balanced(in, target) && kept(in, target) > best)
            best = kept(in, target);
        size_t i = 0;
        while (i < n && (target[i] < 0 || target[i] + 1 == (int32_t)in->members)) {
            target[i] = target[i] < 0 ? -1 : 0;
            i++;
        }
        if (i == n)
            return best;
        target[i]++;
    }
}

Test(assign, sticky_keeps_the_most_that_any_balanced_assignment_keeps) {
    struct input in;
    int best = 0, is = 0;
    for (int i = 0; i < SMALL_TRIES; i++) {
        bool alike = i % 2;
        any(&in, 1 + chance(3), 1 + chance(3), 2, alike);
        run(LEAT_ASSIGN_STICKY, &in);
        int most = most_of_all(&in), keeps = kept(&in, in.target);
        cr_assert(keeps <= most, "not balanced");
        if (alike)
            cr_assert_eq(keeps, most);
        best += most;
        is += keeps;
    }
    cr_assert_geq(is * 100, best * 99, "kept %d of %d", is, best); // few more, where they differ
}

Test(assign, holds_at_the_smallest_and_the_largest) {
    static int32_t owner[70000], target[70000], load[2000];
    static uint8_t all[2000 * 70];
    int32_t partitions[70], none[1] = { 0 };
    memset(all, 1, sizeof all);
    for (int32_t how = LEAT_ASSIGN_RANGE; how <= LEAT_ASSIGN_STICKY; how++) {
        lt_assign(how, &(struct lt_assign){ 0 }); // nothing is touched
        lt_assign(how, &(struct lt_assign){ 0, 3, NULL, NULL, NULL, NULL, load });
        lt_assign(how, &(struct lt_assign){ 1, 3, none, all, NULL, NULL, load });
        target[0] = 5; // nobody is there
        owner[0] = -1;
        lt_assign(how, &(struct lt_assign){ 1, 0, (int32_t[]){ 1 }, NULL, owner, target, NULL });
        cr_assert_eq(target[0], -1);
        owner[0] = 2; // one partition, many members: the first, but it stays where it is
        lt_assign(how, &(struct lt_assign){ 1, 2000, (int32_t[]){ 1 }, all, owner, target, load });
        cr_assert_eq(target[0], how == LEAT_ASSIGN_STICKY ? 2 : 0);
        owner[0] = 2000; // not a member
        lt_assign(how, &(struct lt_assign){ 1, 2000, (int32_t[]){ 1 }, all, owner, target, load });
        cr_assert_eq(target[0], 0);

        for (size_t i = 0; i < 68; i++) // 68 topics of 1024 partitions: one member, then 3, then 9
            partitions[i] = 1024;
        for (size_t i = 0; i < 68 * 1024; i++)
            owner[i] = -1;
        for (size_t members = 1; members <= 9; members *= 3) {
            lt_assign(how,
                      &(struct lt_assign){ 68, members, partitions, all, owner, target, load });
            int stayed = 0;
            for (size_t i = 0; i < 68 * 1024; i++) {
                stayed += owner[i] == target[i];
                cr_assert(target[i] >= 0 && (size_t)target[i] < members);
                owner[i] = target[i];
            }
            int32_t share = (int32_t)(68 * 1024 / members);
            for (size_t m = 0; m < members; m++)
                cr_assert(load[m] - share <= 68 && share - load[m] <= 68);
            if (how == LEAT_ASSIGN_STICKY && members > 1)
                cr_assert_geq(stayed, 68 * 1024 / 3 - 3);
        }
    }
}
