/* SPDX-License-Identifier: MIT */
// The small runner's stand-in for Criterion's header: enough of its syntax to build the same test
// files where Criterion cannot run (under ThreadSanitizer) or is not installed. Tests run one after
// another in this process. What Criterion 2.4.1 lacks or gets wrong (cr_fail, parameters, theories,
// .timeout) is absent here too.
#ifndef LEAT_PLAIN_CRITERION_H
#define LEAT_PLAIN_CRITERION_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plain_test {
    const char *suite, *name, *file;
    int line;
    void (*body)(void);
    void (*init)(void);
    void (*fini)(void);
    bool disabled;
    struct plain_test *next;
};

// Each assertion hands plain_fail one argument more than its format takes, so that no macro is ever
// called with nothing for its "...". The formats are checked when the same files are built with
// Criterion.
void plain_add(struct plain_test *test);
_Noreturn void plain_fail(const char *file, int line, const char *text, const char *format, ...);
__attribute__((format(printf, 1, 2))) void plain_log(const char *format, ...);

// The options follow the fixed fields as designated initialisers, exactly as in Criterion.
#define Test(...) plain_test_(__VA_ARGS__, .next = NULL)
#define plain_test_(Suite, Name, ...)                                                              \
    static void Suite##_##Name##_impl(void);                                                       \
    static struct plain_test Suite##_##Name##_test = { .suite = #Suite,                            \
                                                       .name = #Name,                              \
                                                       .file = __FILE__,                           \
                                                       .line = __LINE__,                           \
                                                       .body = Suite##_##Name##_impl,              \
                                                       __VA_ARGS__ };                              \
    __attribute__((constructor)) static void Suite##_##Name##_add(void) {                          \
        plain_add(&Suite##_##Name##_test);                                                         \
    }                                                                                              \
    static void Suite##_##Name##_impl(void)

#define plain_check(Condition, Text, ...)                                                          \
    do {                                                                                           \
        if (!(Condition))                                                                          \
            plain_fail(__FILE__, __LINE__, Text, "" __VA_ARGS__);                                  \
    } while (0)
#define plain_is(A, ...)        plain_check(A, #A, __VA_ARGS__)
#define plain_is_not(A, ...)    plain_check(!(A), "not " #A, __VA_ARGS__)
#define plain_op(Op, A, B, ...) plain_check((A)Op(B), #A " " #Op " " #B, __VA_ARGS__)
#define plain_null(Op, A, ...)  plain_check((A)Op NULL, #A " " #Op " NULL", __VA_ARGS__)
#define plain_str(Op, A, B, ...)                                                                   \
    plain_check(strcmp((A), (B)) Op 0, #A " " #Op " " #B " as strings", __VA_ARGS__)
#define plain_arr(A, B, Size, ...)                                                                 \
    plain_check(memcmp((A), (B), (Size)) == 0, #A " == " #B " as bytes", __VA_ARGS__)
#define plain_float(A, B, Epsilon, ...)                                                            \
    plain_check(((A) > (B) ? (A) - (B) : (B) - (A)) <= (Epsilon), #A " is about " #B, __VA_ARGS__)

#define cr_assert(...)          plain_is(__VA_ARGS__, "")
#define cr_assert_not(...)      plain_is_not(__VA_ARGS__, "")
#define cr_assert_eq(...)       plain_op(==, __VA_ARGS__, "")
#define cr_assert_neq(...)      plain_op(!=, __VA_ARGS__, "")
#define cr_assert_lt(...)       plain_op(<, __VA_ARGS__, "")
#define cr_assert_leq(...)      plain_op(<=, __VA_ARGS__, "")
#define cr_assert_gt(...)       plain_op(>, __VA_ARGS__, "")
#define cr_assert_geq(...)      plain_op(>=, __VA_ARGS__, "")
#define cr_assert_null(...)     plain_null(==, __VA_ARGS__, "")
#define cr_assert_not_null(...) plain_null(!=, __VA_ARGS__, "")
#define cr_assert_str_eq(...)   plain_str(==, __VA_ARGS__, "")
#define cr_assert_str_neq(...)  plain_str(!=, __VA_ARGS__, "")
#define cr_assert_arr_eq(...)   plain_arr(__VA_ARGS__, "")
#define cr_assert_float_eq(...) plain_float(__VA_ARGS__, "")
#define cr_assert_fail(...)                                                                        \
    plain_fail(__FILE__, __LINE__, "this point is not reached", "" __VA_ARGS__)

#define cr_log_info(...)  plain_log(__VA_ARGS__)
#define cr_log_warn(...)  plain_log(__VA_ARGS__)
#define cr_log_error(...) plain_log(__VA_ARGS__)

#endif
