/* SPDX-License-Identifier: MIT */
// What only the sums tell: seals and indexes that are sound by themselves and do not fit the
// records, and segments of other places.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "leat.h"
#include "lib/place.h"
#include "lib/report.h"
#include "log/format.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

static char path[SCRATCH_PATH];
static size_t size;
static unsigned char *bytes;
static struct lt_segment_head head;
static struct lt_seal seal;

static void finds(int count, const char *text) {
    report_begin();
    int rc = leat_verify(dir, NULL, report_take, NULL);
    cr_assert_eq(rc, count, "%d: %s", rc, report);
    says(text);
}

static void begin(void) {
    leat *mq;
    leat_topic *t;
    leat_producer *p;
    make_root();
    ok(leat_open(dir, NULL, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 65536 }, &t));
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p));
    for (int i = 0; i < 2000; i++)
        ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("a record of some bytes") }, NULL));
    ok(leat_close_all(mq, 0));
}

static void end(void) {
    scratch_remove(root);
    free(bytes);
    bytes = NULL;
}

static void load(const char *name) {
    scratch_join(path, dir, "1/0/00000000000000000000.log");
    bytes = scratch_read(path, &size);
    ok(lt_segment_head_get(bytes, &head));
    free(bytes);
    scratch_join(path, dir, "1/0/00000000000000000000%s", name);
    bytes = scratch_read(path, &size);
}

static void put_seal(void) {
    lt_seal_put(bytes + size - LT_SEAL, LT_SEAL_SEGMENT, &seal);
    scratch_write(path, bytes, size);
}

Test(verify_sums, a_seal_that_does_not_fit_is_damage, .init = begin, .fini = end) {
    finds(0, "whole");
    load(".log");
    cr_assert(lt_seal_get(bytes + size - LT_SEAL, LT_SEAL_SEGMENT, head.uid, &seal));
    const struct lt_seal right = seal;
    seal.head_crcs ^= 1;
    put_seal();
    finds(1, "the seal does not fit");
    seal = right;
    seal.newest++;
    put_seal();
    finds(1, "the seal does not fit");
    seal = right;
    seal.count--;
    put_seal();
    cr_assert_gt(leat_verify(dir, NULL, NULL, NULL), 0);
    seal = right;
    put_seal();
    finds(0, "whole");
    bytes[size - 1] ^= 1; // none at all: the records say enough
    scratch_write(path, bytes, size);
    finds(0, "no valid seal behind the records");
}

static void put_index(void) {
    seal.body_crc = lt_crc32c(0, bytes + LT_SEAL, size - LT_SEAL);
    lt_seal_put(bytes, LT_SEAL_INDEX, &seal);
    scratch_write(path, bytes, size);
}

Test(verify_sums, an_index_that_does_not_fit_is_damage, .init = begin, .fini = end) {
    load(".idx");
    cr_assert(lt_seal_get(bytes, LT_SEAL_INDEX, head.uid, &seal));
    uint32_t at = lt_get_u32(bytes + LT_SEAL + 20);
    lt_put_u32(bytes + LT_SEAL + 20, at + 8);
    put_index();
    finds(1, "the index does not fit");
    lt_put_u32(bytes + LT_SEAL + 20, at);
    put_index();
    finds(0, "whole");
    bytes[size - 8] ^= 1; // the last time
    put_index();
    finds(1, "the index does not fit");
}

// ---- what is not there to be had is no damage

static int left;

static int64_t fail_pread(struct lt_os *os, int fd, void *buf, size_t n, int64_t at) {
    return left-- == 0 ? -EIO : lt_os_system()->pread(os, fd, buf, n, at);
}

static int fail_open(struct lt_os *os, int at, const char *name, int flags, unsigned mode) {
    return left-- == 0 ? -EMFILE : lt_os_system()->open(os, at, name, flags, mode);
}

static void *fail_alloc(void *ctx, void *old, size_t n) {
    (void)ctx;
    if (n > 0 && left-- == 0)
        return NULL;
    if (n > 0)
        return realloc(old, n);
    free(old);
    return NULL;
}

Test(verify_sums, an_error_of_the_system_is_no_damage, .init = begin, .fini = end) {
    struct lt_os os[2] = { *lt_os_system(), *lt_os_system() };
    os[0].pread = fail_pread;
    os[1].open = fail_open;
    for (size_t i = 0; i < 2; i++) {
        int failed = 0;
        for (int n = 0; n < 1000; n++) {
            left = n;
            int rc = lt_verify_store(dir, NULL, &os[i], NULL, NULL);
            cr_assert(rc <= 0, "call %d", n);
            failed += rc < 0;
            if (left >= 0)
                break; // there were not so many calls
        }
        cr_assert_gt(failed, 4);
    }
    const leat_options o = { .alloc = fail_alloc };
    scratch_join(path, dir, "manifest");
    for (int lost = 0; lost < 2; lost++) {
        int rc = LEAT_ENOMEM;
        for (int n = 0; rc == LEAT_ENOMEM; n++) {
            left = n;
            rc = lost ? leat_rebuild_manifest(dir, &o, NULL, NULL)
                      : leat_verify(dir, &o, NULL, NULL);
        }
        cr_assert_eq(rc, lost, "%s", leat_errmsg()); // whole; one topic
        scratch_remove(path);
    }
}

Test(verify_sums, a_segment_of_another_place_is_damage, .init = begin, .fini = end) {
    load(".log");
    head.partition = 7;
    lt_segment_head_put(bytes, &head);
    scratch_write(path, bytes, size);
    cr_assert_gt(leat_verify(dir, NULL, NULL, NULL), 0);
    finds(2, "not the segment that belongs here"); // and its offsets are missing
    head.partition = 0;
    head.uid++; // then no record is its own
    lt_segment_head_put(bytes, &head);
    scratch_write(path, bytes, size);
    cr_assert_gt(leat_verify(dir, NULL, NULL, NULL), 0);
    head.uid--;
    lt_segment_head_put(bytes, &head);
    scratch_write(path, bytes, size);
    finds(0, "whole");
    head.base = INT64_MAX - 5; // names that make offsets overflow
    lt_segment_head_put(bytes, &head);
    scratch_join(path, dir, "1/0/%020lld.log", (long long)head.base);
    scratch_write(path, bytes, size);
    finds(0, "no valid header page"); // as of a file that was being made behind the end
}
