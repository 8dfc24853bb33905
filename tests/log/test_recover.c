/* SPDX-License-Identifier: MIT */
// What an open makes of a directory that an earlier process left after kill -9 (a copy of the
// directory of an open store: what is in the page cache): all that is whole, and no more.
#include "lib/recovered.h"

#include <errno.h>

// ---- kill -9

Test(recover, what_a_killed_process_had_appended_is_there, .init = make_places, .fini = drop_root) {
    BOTH_MODES {
        use(dir);
        int64_t all = 0;
        static const int step[] = { 0, 1, 1, 50, 300, 2, 400 };
        for (size_t i = 0; i < sizeof step / sizeof step[0]; i++) {
            leat *first = mq;
            leat_topic *first_t = t;
            send_n(i % 2 ? LEAT_ACKS_LOG : LEAT_ACKS_DISK, step[i]);
            all += step[i];
            scratch_copy(dir, copy);
            use(copy);
            holds(all);
            cr_assert_eq(warnings, 0, "nothing was cut");
            send_n(LEAT_ACKS_LOG, 3); // and it goes on
            scratch_copy(copy, again);
            done();
            use(again);
            holds(all + 3);
            done();
            use(copy); // also after the clean close
            holds(all + 3);
            leat_range range;
            ok(leat_topic_range(t, 0, &range));
            cr_assert_eq(range.durable_end, range.end);
            done();
            scratch_remove(copy);
            scratch_remove(again);
            mq = first;
            t = first_t;
        }
        done();
        next_mode();
    }
}

// What a mode wrote the other one reads and goes on with.
Test(recover, both_ways_of_writing_leave_the_same_store, .init = make_places, .fini = drop_root) {
    int64_t all = 0;
    for (int i = 0; i < 6; i++) {
        mode = i % 2 ? LEAT_WRITE_PWRITE : LEAT_WRITE_MAPPED;
        use(dir);
        holds(all);
        send_n(LEAT_ACKS_LOG, 170);
        all += 170;
        if (i % 3 == 0)
            die();
        else
            done();
    }
}

// ---- the tail

enum tear { TRUNCATE, GARBAGE, ZEROS, OTHER_END, TEARS };

// Damages the file at byte `from` of [0, end). Returns the valid records that are left.
static int tear(const char *path, enum tear how, size_t from, size_t end) {
    size_t size, at[1024];
    unsigned char *all = scratch_read(path, &size);
    switch (how) {
    case TRUNCATE:
        size = from;
        break;
    case GARBAGE:
        memset(all + from, 0xa5, end - from);
        break;
    case ZEROS:
        memset(all + from, 0, end - from);
        break;
    default:
        memset(all + end - (size - from) % 8, 0x5a, (size - from) % 8);
        break;
    }
    scratch_write(path, all, size);
    free(all);
    return layout(path, 0, at);
}

static void check_tail(enum tear how, size_t from, const size_t at[1024], int n) {
    char path[SCRATCH_PATH];
    scratch_copy(dir, copy);
    log_path(path, copy, 0);
    int left = tear(path, how, from, at[n]);
    cr_assert_geq(left, n - 1);
    use(copy);
    holds(left);
    scratch_copy(copy, again); // killed again at once: the same bytes
    char *bytes = scratch_listing(copy);
    done();
    use(again);
    holds(left);
    cr_assert_eq(warnings, 0, "recovering twice finds nothing to do");
    char *twice = scratch_listing(again);
    same(bytes, twice);
    free(bytes);
    free(twice);
    send_n(LEAT_ACKS_LOG, 2);
    holds(left + 2);
    done();
    use(again);
    holds(left + 2);
    done();
    scratch_remove(copy);
    scratch_remove(again);
}

Test(recover, a_torn_last_record_is_cut_at_every_byte, .init = make_places, .fini = drop_root) {
    BOTH_MODES {
        size_t at[1024];
        char path[SCRATCH_PATH];
        use(dir);
        send_n(LEAT_ACKS_DISK, 2);
        send_n(LEAT_ACKS_LOG, 4);
        die(); // the durable end is 2
        log_path(path, dir, 0);
        int n = layout(path, 0, at);
        cr_assert_eq(n, 6);
        for (size_t from = at[n - 1]; from < at[n]; from++)
            check_tail(mode == LEAT_WRITE_MAPPED ? GARBAGE : TRUNCATE, from, at, n);
        for (size_t from = at[n - 1]; from < at[n]; from += 5)
            for (int how = 0; how < TEARS; how++)
                check_tail((enum tear)how, from, at, n);
        next_mode();
    }
}

Test(recover, a_tail_longer_than_a_record_is_cut_too, .init = make_places, .fini = drop_root) {
    BOTH_MODES {
        size_t at[1024];
        char path[SCRATCH_PATH];
        use(dir);
        send_n(LEAT_ACKS_LOG, 20);
        scratch_copy(dir, copy);
        done();
        log_path(path, copy, 0);
        cr_assert_eq(layout(path, 0, at), 20);
        scratch_poke(path, at[7] + 20, "?", 1); // 8 to 19 are whole, but behind a hole
        use(copy);
        cr_assert_eq(warnings, 1);
        holds(7);
        size_t size;
        unsigned char *all = scratch_read(path, &size);
        for (size_t i = at[7]; i < size; i++)
            cr_assert_eq(all[i], 0, "nothing stale is left behind the cut, byte %zu", i);
        free(all);
        send_n(LEAT_ACKS_LOG, 1); // of the same length as the one that was there
        scratch_copy(copy, again);
        done();
        use(again);
        holds(8); // what stood behind it must not come back
        done();
        next_mode();
    }
}

// ---- errors of the system are no end of the log

static struct lt_os bad_os;
static int bad_left; // the call that fails, counted down
static int bad_error;

static bool bad_now(void) {
    return bad_left > 0 && --bad_left == 0;
}

static int bad_open(struct lt_os *os, int at, const char *path, int flags, unsigned m) {
    return bad_now() ? -bad_error : lt_os_system()->open(os, at, path, flags, m);
}
static int64_t bad_pread(struct lt_os *os, int fd, void *buf, size_t n, int64_t at) {
    return bad_now() ? -bad_error : lt_os_system()->pread(os, fd, buf, n, at);
}
static int bad_list(struct lt_os *os, int fd, lt_list_fn fn, void *ctx) {
    return bad_now() ? -bad_error : lt_os_system()->list(os, fd, fn, ctx);
}
static int bad_map(struct lt_os *os, int fd, size_t n, bool w, void **out) {
    return bad_now() ? -bad_error : lt_os_system()->map(os, fd, n, w, out);
}
static int bad_info(struct lt_os *os, int fd, struct lt_file_info *out) {
    return bad_now() ? -bad_error : lt_os_system()->info(os, fd, out);
}

Test(recover, an_error_of_the_system_is_an_error_of_the_open, .init = make_places,
     .fini = drop_root) {
    static const int errors[] = { EIO, EMFILE, ENOMEM, EACCES };
    bad_os = *lt_os_system();
    bad_os.open = bad_open;
    bad_os.pread = bad_pread;
    bad_os.list = bad_list;
    bad_os.map = bad_map;
    bad_os.info = bad_info;
    BOTH_MODES {
        int64_t base[64];
        (void)make_segments(true, base);
        char *before = scratch_listing(dir);
        for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++) {
            int k = 1;
            for (;; k++) {
                leat_options o = { .write = mode };
                bad_left = k;
                bad_error = errors[e];
                int rc = lt_store_open(dir, &o, &bad_os, &mq);
                if (rc == 0)
                    break;
                cr_assert(rc == LEAT_EIO || rc == LEAT_ENOMEM || rc == LEAT_EACCESS, "%s: %s",
                          leat_errname(rc), leat_errmsg());
                cr_assert_null(mq);
                char *after = scratch_listing(dir);
                same(before, after);
                free(after);
            }
            cr_assert_gt(k, 10);
            ok(leat_topic_open(mq, "t", NULL, &t));
            holds(900);
            bad_left = 0;
            die(); // as it was
        }
        free(before);
        next_mode();
    }
}
