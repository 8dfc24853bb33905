/* SPDX-License-Identifier: MIT */
// What an open makes of a directory in which all has happened to files that can: damage, segments
// that are missing, half made, empty or another's, and files that are none.
#include "base/crc32c.h"
#include "lib/recovered.h"

Test(recover, damage_below_the_durable_end_is_an_error_and_nothing_is_changed, .init = make_places,
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

Test(recover, a_missing_segment_below_the_durable_end_is_an_error, .init = make_places,
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
     .init = make_places, .fini = drop_root) {
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

Test(recover, a_half_made_last_segment_is_set_aside, .init = make_places, .fini = drop_root) {
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

Test(recover, an_empty_last_segment_takes_any_record, .init = make_places, .fini = drop_root) {
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

Test(recover, a_segment_of_another_partition_or_a_later_version_is_refused, .init = make_places,
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

Test(recover, other_files_among_the_segments_are_left_alone, .init = make_places,
     .fini = drop_root) {
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
Test(recover, a_log_does_not_begin_in_the_middle, .init = make_places, .fini = drop_root) {
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
