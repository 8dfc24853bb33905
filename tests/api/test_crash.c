/* SPDX-License-Identifier: MIT */
// leat_crash: what each acknowledgement survives, for a killed process and a power cut, in memory
// and on disk, through mappings and pwrite; and what goes on in the store that is opened.
#include "lib/crashed.h"

// ---- what survives

static int survivors(const struct kind *k, int how, int32_t acks, uint64_t seed) {
    open_kind(k, seed);
    open_topic(LEAT_ACKS_DISK);
    send_numbers(0, 1);
    ok(leat_producer_close(p, 0));
    open_topic(acks);
    send_numbers(1, 10);
    crash(how);
    int n = count_numbers();
    close_kind(k);
    return n;
}

Test(crash, a_kill_leaves_what_is_in_the_log_a_power_cut_what_is_on_disk) {
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        int lost = 0, kept = 0, some = 0;
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            cr_assert_eq(survivors(k, LEAT_KILL, LEAT_ACKS_LOG, seed), 10, "%s", k->name);
            cr_assert_eq(survivors(k, LEAT_KILL, LEAT_ACKS_DISK, seed), 10, "%s", k->name);
            cr_assert_eq(survivors(k, LEAT_POWER_CUT, LEAT_ACKS_DISK, seed), 10, "%s", k->name);
            int n = survivors(k, LEAT_POWER_CUT, LEAT_ACKS_LOG, seed);
            cr_assert(n >= 1 && n <= 10, "%s: %d", k->name, n);
            cr_assert_eq(survivors(k, LEAT_POWER_CUT, LEAT_ACKS_LOG, seed), n, "%s: not the same",
                         k->name);
            lost += n == 1;
            kept += n == 10;
            some += n > 1 && n < 10;
        }
        cr_assert(k->disk || (lost > 0 && kept > 0 && some > 0),
                  "%s: all lost %d, none %d, some %d of %d", k->name, lost, kept, some, SEEDS);
    }
}

Test(crash, leat_sync_makes_what_was_sent_and_committed_survive) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k) / 3; seed++) {
            leat_consumer *c;
            const leat_message *m;
            open_kind(k, seed);
            open_topic(LEAT_ACKS_LOG);
            send_numbers(0, 4);
            ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = 3 }, &c));
            ok(leat_consumer_subscribe(c, "t"));
            gives(3, leat_poll(c, 0, &m));
            ok(leat_commit(c));
            ok(leat_sync(mq));
            crash(LEAT_POWER_CUT);
            cr_assert_eq(count_numbers(), 4);
            ok(leat_consumer_open(mq, "g", NULL, &c));
            ok(leat_consumer_subscribe(c, "t"));
            gives(1, leat_poll(c, 0, &m));
            cr_assert_eq(m[0].offset, 3);
            close_kind(k);
        }
}

Test(crash, a_commit_survives_a_kill_and_a_power_cut_takes_it_back_at_most) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            int how = seed & 1 ? LEAT_KILL : LEAT_POWER_CUT;
            leat_consumer *c;
            const leat_message *m;
            open_kind(k, seed);
            open_topic(LEAT_ACKS_LOG);
            send_numbers(0, 3);
            ok(leat_consumer_open(mq, "g", NULL, &c));
            ok(leat_consumer_subscribe(c, "t"));
            gives(3, leat_poll(c, 0, &m));
            ok(leat_commit(c));
            crash(how);
            ok(leat_topic_open(mq, "t", NULL, &t));
            ok(leat_producer_open(mq, NULL, &p));
            leat_metadata md;
            ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("after") }, &md));
            ok(leat_consumer_open(mq, "g", NULL, &c));
            ok(leat_consumer_subscribe(c, "t"));
            int n = leat_poll(c, 0, &m);
            cr_assert(n >= 1, "the record sent after the crash is not read: %d", n);
            cr_assert_eq(m[n - 1].offset, md.offset);
            if (how == LEAT_KILL)
                cr_assert(n == 1 && md.offset == 3, "%s: %d, offset %d", k->name, n,
                          (int)md.offset);
            close_kind(k);
        }
}

Test(crash, a_commit_on_disk_survives_a_power_cut_and_so_does_what_was_read) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k) / 3; seed++) {
            leat_consumer *c;
            const leat_message *m;
            leat_consumer_options o = { .commit_acks = LEAT_ACKS_DISK };
            open_kind(k, seed);
            open_topic(LEAT_ACKS_LOG);
            send_numbers(0, 3);
            ok(leat_consumer_open(mq, "g", &o, &c));
            ok(leat_consumer_subscribe(c, "t"));
            gives(3, leat_poll(c, 0, &m));
            ok(leat_commit(c));
            crash(LEAT_POWER_CUT);
            cr_assert_eq(count_numbers(), 3);
            ok(leat_consumer_open(mq, "g", NULL, &c));
            ok(leat_consumer_subscribe(c, "t"));
            gives(0, leat_poll(c, 0, &m));
            close_kind(k);
        }
}

Test(crash, a_batch_is_whole_or_not_there) {
    int whole = 0, none = 0;
    for (uint64_t seed = 1; seed <= 4 * SEEDS; seed++) {
        static const char bytes[700];
        leat_record r[5];
        leat_range range;
        open_kind(kinds, seed);
        open_topic(LEAT_ACKS_DISK);
        send_numbers(0, 1);
        ok(leat_producer_close(p, 0));
        open_topic(LEAT_ACKS_LOG);
        for (int i = 0; i < 5; i++)
            r[i] = (leat_record){ .value = { bytes, sizeof bytes } };
        ok(leat_send_many(p, t, r, 5, NULL));
        crash(LEAT_POWER_CUT);
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_topic_range(t, 0, &range));
        cr_assert(range.end == 1 || range.end == 6, "seed %d: end %d", (int)seed, (int)range.end);
        whole += range.end == 6;
        none += range.end == 1;
        close_kind(kinds);
    }
    cr_assert(whole > 0 && none > 0, "whole %d, none %d", whole, none);
}

// ---- what goes on

Test(crash, the_second_crash_is_like_the_first) {
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        int lost = 0;
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            open_kind(k, seed);
            open_topic(LEAT_ACKS_DISK);
            send_numbers(0, 2);
            ok(leat_producer_close(p, 0));
            open_topic(LEAT_ACKS_LOG);
            send_numbers(2, 6);
            crash(LEAT_KILL); // what was not synced still is not, but for what recovery syncs
            int n = count_numbers();
            cr_assert_eq(n, 6);
            open_topic(LEAT_ACKS_LOG);
            send_numbers(6, 9);
            crash(LEAT_POWER_CUT);
            n = count_numbers();
            cr_assert(n >= 2 && n <= 9, "%s: %d", k->name, n);
            lost += n < 9;
            crash(LEAT_POWER_CUT); // the power was off: what is there is on the disk
            cr_assert_eq(count_numbers(), n, "%s: the second cut took more", k->name);
            open_topic(LEAT_ACKS_DISK);
            send_numbers(n, n + 2);
            crash(LEAT_POWER_CUT);
            cr_assert_eq(count_numbers(), n + 2, "%s", k->name);
            close_kind(k);
        }
        cr_assert(k->disk || lost > 0, "%s: nothing was ever lost", k->name);
    }
}

Test(crash, the_clocks_go_on) {
    static const int32_t clocks[] = { LEAT_CLOCK_MANUAL, LEAT_CLOCK_JUMP };
    for (int i = 0; i < 2; i++)
        for (const struct kind *k = kinds; k < kinds_end; k++) {
            int64_t mono, wall;
            leat_message m;
            open_with(k, (leat_options){ .clock = clocks[i],
                                         .threads = LEAT_NO_THREADS,
                                         .start_ms = 500,
                                         .seed = 1 });
            open_queues();
            ok(leat_clock_set_wall(mq, 100 * SECOND));
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(leat_queue_nack(q, &m, 10 * SECOND, 0)); // a delay survives, what is left of it
            ok(leat_clock_advance(mq, 7 * SECOND));
            ok(leat_fault_push(mq, LEAT_OP_RECEIVE, NULL, -1, LEAT_EIO, LEAT_FOREVER, 0));
            crash(LEAT_KILL);
            ok(leat_clock_now(mq, &mono, &wall));
            cr_assert(mono == 7 * SECOND && wall == 107 * SECOND, "%s: %d %d", k->name, (int)mono,
                      (int)wall);
            open_queues();
            gives(0, leat_queue_receive(q, 0, &m, 1)); // and no fault is planned
            ok(leat_clock_advance(mq, 3 * SECOND));
            cr_assert_str_eq(receive_all(q), "a2");
            close_kind(k);
        }
}

Test(crash, options_hold_in_the_store_that_is_opened) {
    leat_options o = { .acks = LEAT_ACKS_LOG, .seed = 3, .memory_max_bytes = 1 << 20 };
    leat_range r;
    open_with(kinds, o);
    open_topic(0);
    send_numbers(0, 1);
    ok(leat_sync(mq));
    crash(LEAT_POWER_CUT);
    open_topic(0);
    send_numbers(1, 2);
    ok(leat_topic_range(t, 0, &r));
    cr_assert(r.end == 2 && r.durable_end == 1, "acks: durable end %d", (int)r.durable_end);
    static char large[300000];
    int rc = 0, sent = 0;
    leat_record big = { .value = { large, sizeof large } };
    for (; rc == 0 && sent < 10; sent++)
        rc = leat_send(p, t, &big, NULL);
    cr_assert(rc == LEAT_ENOSPC && sent > 1, "the bound on memory: %d after %d", rc, sent);
    send_numbers(2, 3); // a small one still has room
    close_kind(kinds);
    o.flags = LEAT_MUST_EXIST; // means nothing in memory
    open_with(kinds, o);
    crash(LEAT_KILL);
    close_kind(kinds);
}

// ---- names and lengths

// Segments that roll, are deleted and made again, topics that come and go: every cut leaves a store
// that opens and has what was synced.
Test(crash, files_that_come_and_go) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            leat_topic *gone;
            leat_metadata md;
            leat_range r;
            open_kind(k, seed);
            leat_topic_options o = { .segment_bytes = 16384 };
            ok(leat_topic_open(mq, "gone", NULL, &gone));
            ok(leat_topic_open(mq, "t", &o, &t));
            ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p));
            ok(leat_send(p, gone, &(leat_record){ .value = LEAT_STR("x") }, NULL));
            for (int i = 0; i < 4; i++) { // each crash finds what the one before left
                ok(leat_topic_range(t, 0, &r));
                for (int j = 0; j < 100; j++) {
                    ok(leat_send(p, t, &(leat_record){ .value = { dir, 700 } }, &md));
                    if (j == 50)
                        ok(leat_sync(mq));
                }
                int64_t synced = md.offset - 49;
                ok(leat_topic_delete_records(t, 0, r.begin + 60));
                if (i == 1)
                    ok(leat_topic_delete(mq, "gone"));
                crash(LEAT_POWER_CUT);
                ok(leat_topic_open(mq, "t", NULL, &t));
                ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p));
                leat_range now;
                ok(leat_topic_range(t, 0, &now));
                cr_assert(now.end >= synced && now.end <= md.offset + 1,
                          "%s, seed %d: end %d, synced %d", k->name, (int)seed, (int)now.end,
                          (int)synced);
                cr_assert(now.begin >= r.begin && now.begin <= r.begin + 60);
            }
            leat_topic_options must = { .flags = LEAT_MUST_EXIST };
            fails(LEAT_ENOENT, leat_topic_open(mq, "gone", &must, &gone)); // deletion is durable
            close_kind(k);
        }
}
