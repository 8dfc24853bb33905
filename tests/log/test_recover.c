/* SPDX-License-Identifier: MIT */
// What an open makes of a directory that an earlier process left: after kill -9 (a copy of the
// directory of an open store: what is in the page cache), and with all that can happen to files.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "leat.h"
#include "lib/scratch.h"
#include "log/format.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static char root[SCRATCH_PATH], dir[SCRATCH_PATH], copy[SCRATCH_PATH], again[SCRATCH_PATH];
static leat *mq;
static leat_topic *t;
static leat_producer *p;
static int32_t mode; // LEAT_WRITE_MAPPED, LEAT_WRITE_PWRITE
static int warnings;

static void make_root(void) {
    scratch_make(root);
    scratch_join(dir, root, "store");
    scratch_join(copy, root, "copy");
    scratch_join(again, root, "again");
}

static void drop_root(void) {
    scratch_remove(root);
}

static void count_warnings(int level, const char *text, void *ctx) {
    (void)ctx;
    warnings += level == LEAT_LOG_WARNING && text[0] != '\0';
}

// What this file looks at is the page cache, so that a sync would only cost time.
static int no_sync(struct lt_os *os, int fd, bool is_dir) {
    (void)os;
    (void)fd;
    (void)is_dir;
    return 0;
}

static int open_at(const char *path) {
    static struct lt_os os;
    os = *lt_os_system();
    os.sync = no_sync;
    leat_options o = { .write = mode, .clock = LEAT_CLOCK_MANUAL, .log = count_warnings };
    warnings = 0;
    return lt_store_open(path, &o, &os, &mq);
}

static void use(const char *path) {
    ok(open_at(path));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
    ok(leat_producer_open(mq, NULL, &p));
}

static void done(void) {
    ok(leat_close_all(mq, 0));
}

// The store at dir is left as by a process that was killed, and not closed.
static void die(void) {
    scratch_copy(dir, copy);
    done();
    scratch_remove(dir);
    scratch_copy(copy, dir);
    scratch_remove(copy);
}

// Each record's text depends on its offset only, so that a reader knows what it must find.
static void text_of(int64_t offset, char text[64]) {
    snprintf(text, 64, "record %lld %.*s", (long long)offset, (int)(offset % 30),
             "..............................");
}

static void send_n(int32_t acks, int n) {
    leat_producer *q;
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = acks }, &q));
    for (int i = 0; i < n; i++) {
        char text[64];
        leat_range range;
        leat_metadata md;
        ok(leat_topic_range(t, 0, &range));
        text_of(range.end, text);
        leat_record r = { .key = LEAT_STR("k"), .value = leat_str(text), .timestamp_ms = 5 };
        ok(leat_send(q, t, &r, &md));
        cr_assert_eq(md.offset, range.end, "offsets are dense");
    }
    ok(leat_producer_close(q, 0));
}

// Reads everything and checks it; the partition ends at `end`.
static void holds(int64_t end) {
    leat_range range;
    ok(leat_topic_range(t, 0, &range));
    cr_assert_eq(range.end, end, "ends at %lld, not %lld", (long long)range.end, (long long)end);
    cr_assert_eq(range.begin, 0);
    cr_assert_leq(range.durable_end, range.end);
    leat_consumer *c;
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t", .offset = LEAT_BEGIN }, 1));
    const leat_message *m;
    int64_t next = 0;
    for (int n; (n = leat_poll(c, 0, &m)) > 0;) {
        for (int i = 0; i < n; i++, next++) {
            char text[64];
            text_of(next, text);
            cr_assert_eq(m[i].offset, next);
            is(m[i].value, text);
            is(m[i].key, "k");
        }
    }
    cr_assert_eq(next, end);
    ok(leat_consumer_close(c));
}

static void log_path(char out[SCRATCH_PATH], const char *store, int64_t base) {
    scratch_join(out, store, "1/0/%020lld.log", (long long)base);
}

// Tells where the records of a segment stand: at[0 .. result], the last one is the end.
static int layout(const char *path, int64_t base, size_t at[1024]) {
    size_t size;
    unsigned char *all = scratch_read(path, &size);
    uint64_t uid = lt_get_u64(all + 24);
    int n = 0;
    at[0] = LT_SEGMENT_PAGE;
    while (n < 1023) {
        uint32_t k = lt_record_check(all + at[n], size - at[n], uid, base + n, base);
        if (k == 0)
            break;
        at[n + 1] = at[n] + k;
        n++;
    }
    free(all);
    return n;
}

// The bases of the segments of a store, in order; returns how many.
static int bases_of(const char *store, int64_t base[64]) {
    char *list = scratch_listing(store);
    int n = 0;
    for (char *line = strtok(list, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, "1/0/", 4) == 0 && strstr(line, ".log ") && n < 64)
            base[n++] = strtoll(line + 4, NULL, 10);
    free(list);
    return n;
}

static void same(const char *before, const char *after) {
    cr_assert_str_eq(before, after, "the directory has changed");
}

// An open of the store fails, twice, says these words, and changes nothing.
static void refused(const char *store, int code, const char *words) {
    char *before = scratch_listing(store);
    for (int twice = 0; twice < 2; twice++)
        fails_saying(code, words, open_at(store));
    cr_assert_null(mq);
    char *after = scratch_listing(store);
    same(before, after);
    free(before);
    free(after);
}

#define BOTH_MODES for (mode = LEAT_WRITE_MAPPED; mode <= LEAT_WRITE_PWRITE; mode++)

static void next_mode(void) {
    scratch_remove(dir);
    scratch_remove(copy);
    scratch_remove(again);
}

// ---- kill -9

Test(recover, what_a_killed_process_had_appended_is_there, .init = make_root, .fini = drop_root) {
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
Test(recover, both_ways_of_writing_leave_the_same_store, .init = make_root, .fini = drop_root) {
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

Test(recover, a_torn_last_record_is_cut_at_every_byte, .init = make_root, .fini = drop_root) {
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

Test(recover, a_tail_longer_than_a_record_is_cut_too, .init = make_root, .fini = drop_root) {
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

// ---- damage

Test(recover, damage_below_the_durable_end_is_an_error_and_nothing_is_changed, .init = make_root,
     .fini = drop_root) {
    BOTH_MODES {
        size_t at[1024];
        char path[SCRATCH_PATH], words[64];
        use(dir);
        send_n(LEAT_ACKS_DISK, 10);
        send_n(LEAT_ACKS_LOG, 5);
        scratch_copy(dir, copy);
        done();
        log_path(path, copy, 0);
        cr_assert_eq(layout(path, 0, at), 15);
        size_t size;
        unsigned char *whole = scratch_read(path, &size);
        for (int i = 0; i < 15; i++) {
            unsigned char bad = whole[at[i] + 34] ^ 0x10;
            scratch_poke(path, at[i] + 34, &bad, 1);
            if (i < 10) {
                snprintf(words, sizeof words, "offsets %d to %d ", i, i);
                refused(copy, LEAT_ECORRUPT, words);
                cr_assert_not_null(strstr(leat_errmsg(), "topic t partition 0"));
            } else {
                scratch_copy(copy, again);
                use(again);
                holds(i);
                done();
                scratch_remove(again);
            }
            scratch_write(path, whole, size);
        }
        free(whole);
        use(copy);
        holds(15);
        done();
        next_mode();
    }
}

// Makes a store of several segments at dir; of_kill: as a killed process left it, all at LOG.
static int make_segments(bool of_kill, int64_t base[64]) {
    use(dir);
    send_n(LEAT_ACKS_LOG, 900);
    if (of_kill)
        die();
    else
        done();
    int n = bases_of(dir, base);
    cr_assert_geq(n, 4, "only %d segments", n);
    return n;
}

Test(recover, a_missing_segment_below_the_durable_end_is_an_error, .init = make_root,
     .fini = drop_root) {
    BOTH_MODES {
        int64_t base[64];
        int n = make_segments(false, base);
        base[n] = 900;
        for (int i = 0; i < n; i++) {
            char path[SCRATCH_PATH], words[64];
            scratch_copy(dir, copy);
            log_path(path, copy, base[i]);
            scratch_remove(path);
            snprintf(words, sizeof words, "offsets %lld to %lld ", (long long)base[i],
                     (long long)base[i + 1] - 1);
            refused(copy, LEAT_ECORRUPT, words);
            scratch_remove(copy);
        }
        next_mode();
    }
}

Test(recover, segments_behind_an_unfinished_tail_are_set_aside_and_never_overwritten,
     .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        int64_t base[64];
        char path[SCRATCH_PATH], aside[SCRATCH_PATH];
        int n = make_segments(true, base);
        log_path(path, dir, base[n - 2]);
        scratch_remove(path);
        size_t size, size_again;
        log_path(path, dir, base[n - 1]);
        unsigned char *last = scratch_read(path, &size);
        for (int round = 0; round < 3; round++) {
            use(dir);
            cr_assert_eq(warnings, 1);
            holds(base[n - 2]);
            scratch_join(aside, dir, "1/0/%020lld.log.cut", (long long)base[n - 1]);
            unsigned char *kept = scratch_read(aside, &size_again);
            cr_assert(size == size_again && memcmp(last, kept, size) == 0,
                      "what was set aside first is as it was, round %d", round);
            free(kept);
            send_n(LEAT_ACKS_LOG, (int)(900 - base[n - 2])); // makes the same segments again
            die();
            int64_t now[64];
            cr_assert_eq(bases_of(dir, now), n);
            cr_assert_eq(now[n - 1], base[n - 1]);
            log_path(path, dir, base[n - 2]);
            scratch_remove(path);
        }
        free(last);
        next_mode();
    }
}

Test(recover, a_half_made_last_segment_is_set_aside, .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        static unsigned char page[65536];
        static const size_t sizes[] = { 0, 1, 100, 4095, 4096, 65536 };
        use(dir);
        send_n(LEAT_ACKS_DISK, 3);
        done();
        for (int fresh = 0; fresh < 2; fresh++) {
            for (size_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
                char path[SCRATCH_PATH];
                memset(page, i % 2 ? 0xcc : 0, sizeof page);
                scratch_copy(dir, copy);
                if (fresh) { // the process died while it made the first one
                    use(copy);
                    leat_topic *u;
                    ok(leat_topic_open(mq, "u", NULL, &u));
                    leat_producer *q;
                    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG },
                                          &q));
                    ok(leat_send(q, u, &(leat_record){ .value = LEAT_STR("") }, NULL));
                    scratch_copy(copy, again);
                    done();
                    scratch_join(path, again, "65/0/%020d.log", 0); // ids come in blocks of 64
                } else {
                    scratch_copy(copy, again);
                    log_path(path, again, 3);
                }
                cr_assert_eq(scratch_exists(path), fresh);
                scratch_write(path, page, sizes[i / 2]);
                ok(open_at(again));
                cr_assert_eq(warnings, 1, "%d", warnings);
                ok(leat_topic_open(mq, "t", NULL, &t));
                ok(leat_producer_open(mq, NULL, &p));
                holds(3);
                send_n(LEAT_ACKS_DISK, 300);
                holds(303);
                done();
                scratch_remove(copy);
                scratch_remove(again);
            }
        }
        next_mode();
    }
}

Test(recover, an_empty_last_segment_takes_any_record, .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        static char big[60000];
        memset(big, 'x', sizeof big);
        use(dir);
        leat_record r = { .value = LEAT_STR("v") }, large = { .value = { big, sizeof big } };
        leat_producer *q;
        ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &q));
        ok(leat_send(q, t, &r, NULL));
        scratch_copy(dir, copy);
        done();
        char path[SCRATCH_PATH];
        log_path(path, copy, 0);
        scratch_truncate(path, LT_SEGMENT_PAGE); // killed after the page, before the first record
        use(copy);
        holds(0);
        leat_metadata md;
        ok(leat_send(p, t, &large, &md)); // more than a segment
        cr_assert_eq(md.offset, 0);
        ok(leat_send(p, t, &r, &md));
        cr_assert_eq(md.offset, 1);
        done();
        use(copy);
        leat_range range;
        ok(leat_topic_range(t, 0, &range));
        cr_assert_eq(range.end, 2);
        done();
        next_mode();
    }
}

Test(recover, a_segment_of_another_partition_or_a_later_version_is_refused, .init = make_root,
     .fini = drop_root) {
    BOTH_MODES {
        leat_topic *u;
        use(dir);
        ok(leat_topic_open(mq, "u", &(leat_topic_options){ .partitions = 2 }, &u));
        leat_record r = { .value = LEAT_STR("v") };
        for (int i = 1; i <= 2; i++) {
            r.to_partition = i;
            ok(leat_send(p, u, &r, NULL));
        }
        send_n(LEAT_ACKS_DISK, 1);
        done();
        char from[SCRATCH_PATH], to[SCRATCH_PATH];
        scratch_join(from, dir, "2/0/%020d.log", 0);
        scratch_join(to, dir, "2/1/%020d.log", 0);
        size_t size;
        unsigned char *other = scratch_read(from, &size), *own = scratch_read(to, &size);
        scratch_write(to, other, size);
        fails_saying(LEAT_ECORRUPT, "2/1/", open_at(dir));
        scratch_write(to, own, size);
        for (size_t field = 8; field <= 12; field += 4) { // the version, an incompatible feature
            uint32_t is = lt_get_u32(own + field);
            lt_put_u32(own + field, is + 2);
            lt_put_u32(own + 4092, lt_crc32c(0, own, 4092));
            scratch_write(to, own, size);
            refused(dir, LEAT_EINVAL, "later version");
            lt_put_u32(own + field, is);
        }
        free(other);
        free(own);
        next_mode();
    }
}

Test(recover, other_files_among_the_segments_are_left_alone, .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        use(dir);
        send_n(LEAT_ACKS_DISK, 3);
        done();
        static const char *const names[] = { "notes.txt",
                                             "1.log",
                                             "00000000000000000001.LOG",
                                             "00000000000000000001.log~",
                                             "99999999999999999999.log", // more than an offset
                                             "00000000000000000000.log.cut",
                                             "0000000000000000000x.log" };
        char path[SCRATCH_PATH];
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            scratch_join(path, dir, "1/0/%s", names[i]);
            scratch_write(path, "mine", 4);
        }
        use(dir);
        cr_assert_eq(warnings, 0);
        holds(3);
        send_n(LEAT_ACKS_LOG, 400);
        done();
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            scratch_join(path, dir, "1/0/%s", names[i]);
            size_t size;
            unsigned char *bytes = scratch_read(path, &size);
            cr_assert_str_eq((char *)bytes, "mine", "%s", names[i]);
            free(bytes);
        }
        next_mode();
    }
}

// Without its first segment a log cannot be read. Was anything of it on disk, then that is damage;
// else a power cut may have taken the name, and what is behind it is set aside.
Test(recover, a_log_does_not_begin_in_the_middle, .init = make_root, .fini = drop_root) {
    BOTH_MODES {
        int64_t base[64];
        char path[SCRATCH_PATH];
        int n = make_segments(false, base);
        log_path(path, dir, 0);
        scratch_remove(path);
        refused(dir, LEAT_ECORRUPT, "offsets 0 to ");
        next_mode();
        cr_assert_eq(make_segments(true, base), n); // nothing of it is durable
        log_path(path, dir, 0);
        scratch_remove(path);
        use(dir);
        cr_assert_eq(warnings, n - 1, "each segment that is set aside is told");
        holds(0);
        done();
        for (int i = 1; i < n; i++) {
            scratch_join(path, dir, "1/0/%020lld.log.cut", (long long)base[i]);
            size_t size;
            free(scratch_read(path, &size));
            cr_assert_gt(size, 4096u, "nothing is deleted");
        }
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

Test(recover, an_error_of_the_system_is_an_error_of_the_open, .init = make_root,
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
