/* SPDX-License-Identifier: MIT */
// Error codes, their names and texts, and the message of the last failure.
#include "base/err.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

Test(err, every_code_has_its_number_name_and_text) {
    static const struct {
        int code, number;
        const char *name;
    } all[] = {
#define ROW(name, number, text) { LEAT_##name, number, "LEAT_" #name },
        LEAT_ERRORS(ROW)
#undef ROW
    };
    enum { ALL = sizeof all / sizeof all[0] };
    cr_assert_eq(ALL, -LEAT_ERROR_LAST_);
    for (int i = 0; i < ALL; i++) {
        cr_assert_eq(all[i].code, all[i].number);
        cr_assert_eq(all[i].code, -1 - i, "numbers are dense and in order");
        cr_assert_str_eq(leat_errname(all[i].code), all[i].name);
        cr_assert_gt(strlen(leat_strerror(all[i].code)), 3u);
        for (int k = 0; k < i; k++)
            cr_assert_str_neq(leat_strerror(all[i].code), leat_strerror(all[k].code));
    }
    // Numbers never change: the ones that programs may have stored.
    cr_assert(LEAT_EINVAL == -1 && LEAT_EBUSY == -3 && LEAT_EFULL == -7 && LEAT_ESTALE == -11 &&
              LEAT_ECORRUPT == -14 && LEAT_EFORK == -20 && LEAT_EPURGED == -22);
    cr_assert_str_eq(leat_strerror(0), "no error");
    cr_assert_str_eq(leat_strerror(7), "no error");
    cr_assert_str_eq(leat_errname(0), "LEAT_OK");
    cr_assert_str_eq(leat_errname(INT32_MAX), "LEAT_OK");
    cr_assert_not_null(leat_strerror(-1000));
    cr_assert_not_null(leat_errname(INT32_MIN));
}

Test(err, a_few_codes_are_retriable) {
    for (int rc = 3; rc >= LEAT_ERROR_LAST_ - 3; rc--) {
        bool may = rc == LEAT_ENOMEM || rc == LEAT_EBUSY || rc == LEAT_EFULL ||
                   rc == LEAT_ETIMEDOUT || rc == LEAT_ENOSPC;
        cr_assert_eq(leat_is_retriable(rc), may ? 1 : 0, "%d: %s", rc, leat_errname(rc));
    }
    cr_assert_eq(leat_is_retriable(INT32_MIN), 0);
    cr_assert_eq(leat_is_retriable(INT32_MAX), 0);
}

Test(err, a_failure_leaves_its_text) {
    cr_assert_str_eq(leat_errmsg(), "", "no call has failed");
    cr_assert_eq(lt_fail(LEAT_ENOENT, "topic %s does not exist", "t"), LEAT_ENOENT);
    cr_assert_str_eq(leat_errmsg(), "topic t does not exist");
    cr_assert_eq(lt_fail_nomem(), LEAT_ENOMEM);
    cr_assert_str_eq(leat_errmsg(), "out of memory");
    char large[5000];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    cr_assert_eq(lt_fail(LEAT_EINVAL, "%s", large), LEAT_EINVAL);
    cr_assert(strlen(leat_errmsg()) > 100 && strlen(leat_errmsg()) < sizeof large - 1);
    cr_assert_eq(lt_fail_os(-EIO, "%s", large), LEAT_EIO);
    cr_assert_lt(strlen(leat_errmsg()), sizeof large - 1);
}

Test(err, errno_becomes_a_code_and_is_named) {
    static const struct {
        int error, code;
    } all[] = { { ENOSPC, LEAT_ENOSPC },  { EDQUOT, LEAT_ENOSPC },
                { EFBIG, LEAT_ENOSPC },   { ENOMEM, LEAT_ENOMEM },
                { EACCES, LEAT_EACCESS }, { EPERM, LEAT_EACCESS },
                { EROFS, LEAT_EACCESS },  { ENOENT, LEAT_ENOENT },
                { EINVAL, LEAT_EINVAL },  { ENAMETOOLONG, LEAT_EINVAL },
                { ENOTDIR, LEAT_EINVAL }, { ELOOP, LEAT_EINVAL },
                { EIO, LEAT_EIO },        { EMFILE, LEAT_EIO },
                { ENFILE, LEAT_EIO },     { EBADF, LEAT_EIO },
                { 12345, LEAT_EIO } };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char number[32];
        snprintf(number, sizeof number, "(errno %d)", all[i].error);
        cr_assert_eq(lt_fail_os(-all[i].error, "opening %s", "f"), all[i].code, "errno %d",
                     all[i].error);
        cr_assert_eq(strncmp(leat_errmsg(), "opening f: ", 11), 0, "%s", leat_errmsg());
        cr_assert_not_null(strstr(leat_errmsg(), number), "%s", leat_errmsg());
    }
}

static void *fail_elsewhere(void *ctx) {
    *(int *)ctx = strcmp(leat_errmsg(), "") != 0;
    (void)lt_fail(LEAT_EIO, "elsewhere");
    *(int *)ctx += strcmp(leat_errmsg(), "elsewhere") != 0;
    return NULL;
}

Test(err, the_text_is_the_threads_own) {
    pthread_t thread;
    int bad = -1;
    (void)lt_fail(LEAT_EINVAL, "here");
    cr_assert_eq(pthread_create(&thread, NULL, fail_elsewhere, &bad), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(bad, 0);
    cr_assert_str_eq(leat_errmsg(), "here");
}

Test(err, strings_become_bytes) {
    cr_assert_eq(leat_str("abc").size, 3u);
    cr_assert_eq(leat_str("").size, 0u);
    cr_assert_not_null(leat_str("").data);
    cr_assert_null(leat_str(NULL).data);
    cr_assert_eq(leat_str(NULL).size, 0u);
    cr_assert_eq(leat_version(), LEAT_VERSION_NUMBER);
}
