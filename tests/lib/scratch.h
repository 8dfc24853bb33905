/* SPDX-License-Identifier: MIT */
// scratch: a fresh directory for one test, helpers for what is in it, and the verbs in which tests
// of the public interface are written.
//
// A helper that fails says why and aborts the test's process: the machine is at fault, not leat.
#ifndef LEAT_TESTS_LIB_SCRATCH_H
#define LEAT_TESTS_LIB_SCRATCH_H

#include "leat.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { SCRATCH_PATH = 1024 };

// scratch_make makes an empty directory under TMPDIR or /tmp.
void scratch_make(char path[SCRATCH_PATH]);
// scratch_remove removes a file or a directory and all in it; nothing there is no error.
void scratch_remove(const char *path);
// scratch_join writes "dir/format...".
void scratch_join(char out[SCRATCH_PATH], const char *dir, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// scratch_copy copies a directory and all in it to `to`, which must not exist. Of an open store
// this is what kill -9 would leave: what is in the page cache.
void scratch_copy(const char *from, const char *to);
// scratch_listing returns a line "path size hash" for each file below dir, sorted. Owns: free it.
char *scratch_listing(const char *dir);
// scratch_read returns the bytes of a file, followed by a NUL. Owns: free it.
unsigned char *scratch_read(const char *path, size_t *size);
// scratch_write makes or replaces a file.
void scratch_write(const char *path, const void *bytes, size_t size);
// scratch_poke overwrites bytes in a file; scratch_truncate cuts or extends it.
void scratch_poke(const char *path, size_t at, const void *bytes, size_t size);
void scratch_truncate(const char *path, size_t size);
bool scratch_exists(const char *path);
void scratch_mkdir(const char *path);

// ---- verbs: each names the call and what leat says of it

// ok: the call returns 0.
#define ok(call)                                                                                   \
    do {                                                                                           \
        int ok_rc_ = (call);                                                                       \
        cr_assert(ok_rc_ == 0, "%s is %s (%d): %s", #call, leat_errname(ok_rc_), ok_rc_,           \
                  leat_errmsg());                                                                  \
    } while (0)

// gives: the call returns a count.
#define gives(count, call)                                                                         \
    do {                                                                                           \
        int gives_rc_ = (call);                                                                    \
        cr_assert(gives_rc_ == (int)(count), "%s is %d, not %d: %s", #call, gives_rc_,             \
                  (int)(count), gives_rc_ < 0 ? leat_errmsg() : "");                               \
    } while (0)

// fails: the call returns this code; fails_saying: and its message has these words.
#define fails(code, call) fails_saying(code, "", call)
#define fails_saying(code, words, call)                                                            \
    do {                                                                                           \
        int fails_rc_ = (call);                                                                    \
        cr_assert(fails_rc_ == (code), "%s is %s (%d), not %s: %s", #call,                         \
                  leat_errname(fails_rc_), fails_rc_, #code, leat_errmsg());                       \
        cr_assert(leat_errmsg()[0] != '\0', "%s: no message", #call);                              \
        cr_assert(strstr(leat_errmsg(), (words)) != NULL, "%s: '%s' does not say '%s'", #call,     \
                  leat_errmsg(), (words));                                                         \
    } while (0)

// is: the bytes are those of the string. is_null: there are none.
#define is(bytes, text)                                                                            \
    do {                                                                                           \
        leat_bytes is_ = (bytes);                                                                  \
        cr_assert(is_.data != NULL && is_.size == strlen(text) &&                                  \
                      memcmp(is_.data, (text), is_.size + 1) == 0,                                 \
                  "%s is '%.*s', not '%s'", #bytes, (int)is_.size,                                 \
                  is_.data ? (const char *)is_.data : "(null)", (text));                           \
    } while (0)
#define is_null(bytes) cr_assert((bytes).data == NULL && (bytes).size == 0, "%s is null", #bytes)

#endif
