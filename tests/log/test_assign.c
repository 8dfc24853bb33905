/* SPDX-License-Identifier: MIT */
// Kafka's range rule.
#include "log/assign.h"

#include <criterion/criterion.h>
#include <string.h>

// The owners of all partitions, as letters.
static const char *shared(int32_t partitions, int32_t members) {
    static char text[2048];
    for (int32_t i = 0; i < partitions; i++)
        text[i] = (char)('a' + lt_assign_range(i, partitions, members));
    text[partitions] = '\0';
    return text;
}

Test(assign, gives_runs_and_the_first_members_get_one_more) {
    // The example of Kafka's RangeAssignor: 3 partitions, 2 members: C0 gets 0 and 1, C1 gets 2.
    cr_assert_str_eq(shared(3, 2), "aab");
    // The example of the Kafka book: 10 partitions, 3 members: 0-3, 4-6, 7-9.
    cr_assert_str_eq(shared(10, 3), "aaaabbbccc");
    cr_assert_str_eq(shared(4, 1), "aaaa");
    cr_assert_str_eq(shared(4, 2), "aabb");
    cr_assert_str_eq(shared(4, 3), "aabc");
    cr_assert_str_eq(shared(4, 4), "abcd");
    cr_assert_str_eq(shared(4, 5), "abcd"); // e is idle
    cr_assert_str_eq(shared(1, 26), "a");
    cr_assert_str_eq(shared(11, 4), "aaabbbcccdd");
}

Test(assign, is_fair_and_in_order_for_every_size) {
    for (int32_t partitions = 1; partitions <= 130; partitions++) {
        for (int32_t members = 1; members <= 140; members++) {
            int count[140] = { 0 };
            int32_t last = 0;
            for (int32_t i = 0; i < partitions; i++) {
                int32_t m = lt_assign_range(i, partitions, members);
                cr_assert(m >= last && m < members && m <= last + 1);
                last = m;
                count[m]++;
            }
            for (int32_t m = 0; m < members; m++)
                cr_assert_eq(count[m], partitions / members + (m < partitions % members));
        }
    }
    cr_assert_eq(lt_assign_range(1023, 1024, 1), 0);
    cr_assert_eq(lt_assign_range(1023, 1024, INT32_MAX), 1023);
}
