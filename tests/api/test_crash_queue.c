/* SPDX-License-Identifier: MIT */
// leat_crash and queues: what was leased, acknowledged or dead is found again, for a killed process
// and a power cut, in memory and on disk.
#include "lib/crashed.h"

Test(crash, what_was_leased_comes_back_and_what_was_acked_does_not_after_a_kill) {
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        leat_message a, b, m;
        open_kind(k, 1);
        open_queues();
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("b") }, NULL));
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("c") }, NULL));
        gives(1, leat_queue_receive(q, 0, &a, 1));
        gives(1, leat_queue_receive(q, 0, &b, 1));
        ok(leat_queue_ack(q, &a));
        old = mq;
        ok(leat_crash(old, LEAT_KILL, &mq));
        m = b;
        fails(LEAT_ECLOSED, leat_queue_ack(q, &m)); // ends the view: nothing is left to release
        fails(LEAT_ESTALE, leat_message_release(old, &b));
        ok(leat_queue_close(q));
        ok(leat_queue_close(dead));
        ok(leat_close(old, 0));
        open_queues();
        fails(LEAT_ESTALE, leat_queue_ack(q, &b)); // a receipt of an earlier run
        cr_assert_str_eq(receive_all(q), "b2c1");
        close_kind(k);
    }
}

Test(crash, a_message_that_kills_its_worker_twice_is_dead) {
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        leat_message m;
        open_kind(k, 1);
        open_queues();
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
        for (int i = 1; i <= 2; i++) {
            gives(1, leat_queue_receive(q, 0, &m, 1));
            cr_assert_eq(m.deliveries, i);
            old = mq;
            ok(leat_crash(old, LEAT_KILL, &mq));
            ok(leat_message_release(old, &m));
            ok(leat_close_all(old, 0));
            open_queues();
        }
        gives(0, leat_queue_receive(q, 0, &m, 1));
        cr_assert_str_eq(receive_all(dead), "a1");
        close_kind(k);
    }
}

Test(crash, a_power_cut_may_take_back_an_ack_but_loses_no_message) {
    for (const struct kind *k = kinds; k < kinds_end; k++) {
        int back = 0;
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            leat_message m;
            open_kind(k, seed);
            open_queues();
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("b") }, NULL));
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(leat_queue_ack(q, &m));
            crash(LEAT_POWER_CUT);
            open_queues();
            const char *got = receive_all(q);
            cr_assert(strcmp(got, "b1") == 0 || strcmp(got, "a1b1") == 0, "%s, seed %d: %s",
                      k->name, (int)seed, got);
            back += got[0] == 'a';
            close_kind(k);
        }
        cr_assert(k->disk || (back > 0 && back < SEEDS), "%s: back %d of %d times", k->name, back,
                  SEEDS);
    }
}

Test(crash, an_ack_on_disk_is_not_taken_back) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k) / 3; seed++) {
            leat_message m;
            leat_queue_options o = { .settle_acks = LEAT_ACKS_DISK };
            open_kind(k, seed);
            ok(leat_queue_open(mq, "q", &o, &q));
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("b") }, NULL));
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(leat_queue_ack(q, &m));
            crash(LEAT_POWER_CUT);
            ok(leat_queue_open(mq, "q", NULL, &q));
            cr_assert_str_eq(receive_all(q), "b1");
            close_kind(k);
        }
}

Test(crash, a_dead_message_is_in_one_of_the_two_queues_after_any_crash) {
    for (const struct kind *k = kinds; k < kinds_end; k++)
        for (uint64_t seed = 1; seed <= seeds(k); seed++) {
            int how = seed & 1 ? LEAT_KILL : LEAT_POWER_CUT;
            leat_message m;
            open_kind(k, seed);
            open_queues();
            ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("a") }, NULL));
            for (int i = 0; i < 2; i++) {
                gives(1, leat_queue_receive(q, 0, &m, 1));
                ok(leat_queue_nack(q, &m, 0, 0));
            }
            crash(how);
            open_queues();
            char here[64];
            (void)snprintf(here, sizeof here, "%s", receive_all(q));
            const char *there = receive_all(dead);
            cr_assert(*here || *there, "%s, seed %d: in neither", k->name, (int)seed);
            if (how == LEAT_KILL)
                cr_assert(!*here && strcmp(there, "a1") == 0, "%s: '%s' and '%s'", k->name, here,
                          there);
            close_kind(k);
        }
}
