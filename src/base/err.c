/* SPDX-License-Identifier: MIT */
// The three lists (names, texts, codes) come from LEAT_ERRORS in leat.h and so cannot drift.
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char err_text[512];

const char *leat_errmsg(void) {
    return err_text;
}

const char *leat_strerror(int rc) {
    switch (rc) {
#define ERR_TEXT(name, number, text)                                                               \
    case number:                                                                                   \
        return text;
        LEAT_ERRORS(ERR_TEXT)
#undef ERR_TEXT
    default:
        return rc >= 0 ? "no error" : "unknown error";
    }
}

const char *leat_errname(int rc) {
    switch (rc) {
#define ERR_NAME(name, number, text)                                                               \
    case number:                                                                                   \
        return "LEAT_" #name;
        LEAT_ERRORS(ERR_NAME)
#undef ERR_NAME
    default:
        return rc >= 0 ? "LEAT_OK" : "LEAT_E?";
    }
}

int leat_is_retriable(int rc) {
    switch (rc) {
    case LEAT_ENOMEM:
    case LEAT_EBUSY:
    case LEAT_EFULL:
    case LEAT_ETIMEDOUT:
    case LEAT_ENOSPC:
        return 1;
    default: // LEAT_EIO too: with acks DISK it may be stored
        return 0;
    }
}

uint32_t leat_version(void) {
    return LEAT_VERSION_NUMBER;
}

leat_bytes leat_str(const char *s) {
    leat_bytes b = { s, s ? strlen(s) : 0 };
    return b;
}

static int err_code_of_errno(int e) {
    switch (e) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return LEAT_ENOSPC;
    case ENOMEM:
        return LEAT_ENOMEM;
    case EACCES:
    case EPERM:
    case EROFS:
        return LEAT_EACCESS;
    case ENOENT:
        return LEAT_ENOENT;
    case EINVAL:
    case ENAMETOOLONG:
    case ENOTDIR:
    case ELOOP:
        return LEAT_EINVAL;
    default:
        return LEAT_EIO;
    }
}

int lt_fail(int rc, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(err_text, sizeof err_text, fmt, ap) < 0)
        err_text[0] = '\0';
    va_end(ap);
    return rc;
}

int lt_fail_os(int64_t err, const char *fmt, ...) {
    int e = (int)-err;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err_text, sizeof err_text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err_text) {
        char buf[96];
        const char *why = strerror_r(e, buf, sizeof buf);
        if (snprintf(err_text + n, sizeof err_text - (size_t)n, ": %s (errno %d)", why, e) < 0)
            err_text[n] = '\0';
    }
    return err_code_of_errno(e);
}

int lt_fail_nomem(void) {
    return lt_fail(LEAT_ENOMEM, "out of memory");
}
