/* SPDX-License-Identifier: MIT */
// dirty_bytes_max: what is appended at LOG and not synced has a bound, on every way of writing.
#include "leat.h"
#include "lib/place.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <string.h>

static struct lt_os os;
static int syncs;
static int64_t pushed, unsynced, unsynced_most;

static int counted_sync(struct lt_os *o, int fd, bool is_dir) {
    (void)o;
    (void)fd;
    syncs++;
    unsynced = is_dir ? unsynced : 0;
    return 0;
}

static void counted_write_back(struct lt_os *o, int fd, int64_t at, int64_t n) {
    (void)o;
    cr_assert_geq(fd, 3);
    cr_assert(at >= 0 && at % 4096 == 0 && n > 0 && n % 4096 == 0);
    pushed += n;
}

// Sends n records of 1 KiB at LOG into one topic. Returns  the bytes that were never unsynced more.
static int64_t most_unsynced(const leat_options *asked, int n) {
    leat *mq;
    leat_topic *t;
    leat_producer *p;
    char value[1000];
    memset(value, 'x', sizeof value);
    os = *lt_os_system();
    os.sync = counted_sync;
    os.write_back = counted_write_back;
    leat_options o = *asked;
    o.acks = LEAT_ACKS_LOG;
    ok(lt_store_open(dir, &o, &os, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 1 << 20 }, &t));
    ok(leat_producer_open(mq, NULL, &p));
    syncs = 0;
    pushed = unsynced = unsynced_most = 0;
    leat_record r = { .value = { value, sizeof value } };
    for (int i = 0; i < n; i++) {
        unsynced += 1040;
        ok(leat_send(p, t, &r, NULL));
        unsynced_most = unsynced > unsynced_most ? unsynced : unsynced_most;
    }
    ok(leat_close_all(mq, 0));
    scratch_remove(dir);
    return unsynced_most;
}

Test(dirty, what_is_not_synced_has_a_bound, .init = make_root, .fini = drop_root) {
    enum { N = 8000 };
    for (int32_t write = LEAT_WRITE_MAPPED; write <= LEAT_WRITE_PWRITE; write++) {
        leat_options o = { .write = write, .dirty_bytes_max = 1 << 20 };
        int64_t most = most_unsynced(&o, N);
        cr_assert_leq(most, (1 << 20) + 2 * (1 << 18), "%lld bytes", (long long)most);
        cr_assert_gt(most, 1 << 19, "and not much less than what was asked for");
        cr_assert_geq(pushed, N * 1000 / 2, "the writing begins before");
        o.dirty_bytes_max = LEAT_UNLIMITED;
        cr_assert_eq(most_unsynced(&o, N), N * 1040, "no send syncs");
        o.dirty_bytes_max = 0;
        cr_assert_eq(most_unsynced(&o, N), N * 1040, "1 GiB is far away");
    }
    leat *mq;
    leat_options wrong = { .dirty_bytes_max = -3 };
    fails_saying(LEAT_EINVAL, "dirty_bytes_max is -3", leat_open(dir, &wrong, &mq));
}
