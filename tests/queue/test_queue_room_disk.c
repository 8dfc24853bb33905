/* SPDX-License-Identifier: MIT */
// The queue room on disks: words that outlive their records, disks that are full or fail, and notes
// that are unsound.
#include "base/bytes.h"
#include "lib/faulty_os.h"

#include "lib/copy.h"
#include "lib/room.h"

#include <errno.h>
#include <stdlib.h>

static struct faulty_os faulty; // large

// ---- words that outlive their records

// What a power cut may leave of 10 records that nobody synced: the words of all, the records of 5.
static void cut_records(void) {
    char path[SCRATCH_PATH];
    uint32_t id = q->topic->id;
    const struct lt_segment *s = lt_topic_part(q->topic, 0)->segs[0];
    uint32_t from = *(uint32_t *)lt_stretch_at(&s->index, 5);
    size_t size = (size_t)s->write_at - from;
    unsigned char *zeros = calloc(1, size);
    cr_assert_not_null(zeros);
    scratch_copy(dir, copy);
    scratch_join(path, copy, "%u/0/%020d.log", id, 0);
    scratch_poke(path, from, zeros, size);
    free(zeros);
}

Test(room, the_numbers_of_messages_that_a_power_cut_took_name_no_others, .init = make_root,
     .fini = drop_root) {
    for (int32_t write = LEAT_WRITE_MAPPED; write <= LEAT_WRITE_PWRITE; write++) {
        open_disk(dir, write, 0);
        open_queue("jobs", NULL);
        ack_all(q);
        send_n(q, 10, 100);
        ack_all(q);
        cut_records();
        ok(leat_close_all(mq, 0));
        open_disk(copy, write, 0);
        open_queue("jobs", NULL);
        send_n(q, 5, 100);
        gives(1, leat_queue_receive(q, 0, &m, 1));
        cr_assert_eq(m.offset, 10, "%lld: 5 to 9 were handed out", (long long)m.offset);
        scratch_remove(dir);
        scratch_copy(copy, dir); // and now the process is killed
        ok(leat_close_all(mq, 0));
        open_disk(dir, write, 0);
        open_queue("jobs", NULL);
        cr_assert_eq(stats_of(q).available, 5);
        ok(leat_close_all(mq, 0));
        drop_root();
        make_root();
    }
}

Test(room, a_store_opens_on_a_full_disk, .init = make_root, .fini = drop_root) {
    open_disk(dir, LEAT_WRITE_MAPPED, 0);
    open_queue("jobs", NULL);
    send_n(q, 3, 100);
    gives(1, leat_queue_receive(q, 0, &m, 1));
    uint32_t topic = q->topic->id, id = q->id;
    scratch_copy(dir, copy);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
    char path[SCRATCH_PATH]; // killed between making the words' file and getting room in it
    scratch_join(path, copy, "%u/0/%020d.q%u", topic, 0, id);
    scratch_truncate(path, 0);
    faulty_os_init(&faulty);
    faulty_os_plan(&faulty, &(struct faulty_plan){ .at = 1,
                                                   .sticky = true,
                                                   .ops = FAULTY_BIT(FAULTY_ALLOCATE),
                                                   .error = ENOSPC });
    leat_options o = { .clock = LEAT_CLOCK_MANUAL, .write = LEAT_WRITE_MAPPED };
    ok(lt_store_open(copy, &o, &faulty.os, &mq));
    open_queue("jobs", NULL);
    cr_assert_eq(stats_of(q).available, 3);
    fails(LEAT_ENOSPC, leat_queue_receive(q, 0, &m, 1));
    faulty_os_plan(&faulty, NULL);
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
    faulty_os_fini(&faulty);
}

Test(room, where_words_are_written_a_full_disk_leaves_every_lease_as_it_was, .init = make_dir,
     .fini = drop_dir) {
    static const struct faulty_plan full = {
        .at = 1, .sticky = true, .ops = FAULTY_BIT(FAULTY_PWRITE), .error = ENOSPC
    };
    leat_queue *dead;
    faulty_os_init(&faulty);
    leat_options o = { .clock = LEAT_CLOCK_MANUAL,
                       .write = LEAT_WRITE_PWRITE,
                       .acks = LEAT_ACKS_LOG };
    ok(lt_store_open(dir, &o, &faulty.os, &mq));
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 2, .dead_letter = "dead" });
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    send("a");
    gives(1, leat_queue_receive(q, 0, &m, 1));
    leat_message again = m;
    faulty_os_plan(&faulty, &full);
    fails(LEAT_ENOSPC, leat_queue_ack(q, &m));
    fails(LEAT_ENOSPC, leat_queue_nack(q, &m, SECOND, 0));
    cr_assert_eq(stats_of(q).leased, 1);
    ok(leat_queue_nack(q, &again, 0, 0)); // needs no word
    fails(LEAT_ENOSPC, leat_queue_receive(q, 0, &m, 1));
    cr_assert_eq(stats_of(q).available, 1);
    faulty_os_plan(&faulty, NULL);
    gives(1, leat_queue_receive(q, 0, &m, 1));
    cr_assert_eq(m.deliveries, 2);
    ok(leat_queue_ack(q, &m));
    ok(leat_close_all(mq, 0));
    faulty_os_fini(&faulty);
}

Test(room, a_move_that_fails_at_any_write_makes_one_copy, .init = make_dir, .fini = drop_dir) {
    bool struck = true;
    for (long at = 1; struck; at++) {
        leat_queue *dead;
        faulty_os_init(&faulty);
        leat_options o = { .clock = LEAT_CLOCK_MANUAL,
                           .write = LEAT_WRITE_PWRITE,
                           .acks = LEAT_ACKS_LOG };
        ok(lt_store_open(dir, &o, &faulty.os, &mq));
        open_queue("jobs", &(leat_queue_options){ .deliveries_max = 1, .dead_letter = "dead" });
        ok(leat_queue_open(mq, "dead", NULL, &dead));
        send("a");
        gives(1, leat_queue_receive(q, 0, &m, 1));
        faulty_os_plan(&faulty, &(struct faulty_plan){ .at = at,
                                                       .sticky = true,
                                                       .ops = FAULTY_BIT(FAULTY_PWRITE),
                                                       .error = ENOSPC });
        ok(leat_queue_nack(q, &m, 0, 0));
        for (int i = 0; i < 5; i++)
            ok(leat_clock_advance(mq, SECOND));
        struck = faulty.faults > 0;
        cr_assert_eq(stats_of(q).moving, struck && stats_of(q).dead == 0);
        faulty_os_plan(&faulty, NULL);
        ok(leat_clock_advance(mq, SECOND));
        leat_queue_stats s = stats_of(q);
        cr_assert(s.moving == 0 && s.dead == 1, "write %ld: moving %d dead %d", at, (int)s.moving,
                  (int)s.dead);
        cr_assert_eq(stats_of(dead).available, 1, "write %ld", at);
        holds(q);
        ok(leat_close_all(mq, 0));
        faulty_os_fini(&faulty);
        drop_dir();
        make_dir();
        cr_assert_lt(at, 30);
    }
}

Test(room, a_poisoned_dead_letter_queue_gets_one_copy_and_the_next_open_moves_again,
     .init = make_dir, .fini = drop_dir) {
    faulty_os_init(&faulty);
    leat_options o = { .clock = LEAT_CLOCK_MANUAL, .acks = LEAT_ACKS_LOG };
    leat_queue *dead;
    ok(lt_store_open(dir, &o, &faulty.os, &mq));
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 1, .dead_letter = "dead" });
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    send("a");
    gives(1, leat_queue_receive(q, 0, &m, 1));
    // Behind the three syncs of directories.
    faulty_os_plan(&faulty, &(struct faulty_plan){ .at = 4, .ops = FAULTY_BIT(FAULTY_SYNC) });
    ok(leat_queue_nack(q, &m, 0, 0));
    ok(leat_clock_advance(mq, HOUR / 60));
    cr_assert_eq(stats_of(q).moving, 1);
    cr_assert_eq(stats_of(dead).available, 1);
    cr_assert_not_null(strstr(faulty.lost_path, ".log"), "it was %s", faulty.lost_path);
    // Another dead-letter queue, whose sync fails too: what it has belongs to no other.
    leat_queue *x;
    faulty_os_plan(&faulty, &(struct faulty_plan){ .at = 4, .ops = FAULTY_BIT(FAULTY_SYNC) });
    ok(leat_queue_open(mq, "jobs",
                       &(leat_queue_options){ .flags = LEAT_ALTER, .dead_letter = "dead2" }, &x));
    ok(leat_clock_advance(mq, HOUR / 60));
    cr_assert_not_null(strstr(faulty.lost_path, ".log"), "it was %s", faulty.lost_path);
    faulty_os_plan(&faulty, NULL);
    (void)leat_close_all(mq, 0); // says what was lost
    faulty_os_reborn(&faulty);
    ok(lt_store_open(dir, &o, &faulty.os, &mq));
    open_queue("jobs", NULL);
    ok(leat_queue_open(mq, "dead2", NULL, &dead));
    leat_queue_stats s = stats_of(q);
    cr_assert(s.moving == 0 && s.available == 0);
    cr_assert_gt(stats_of(dead).available, 0);
    ok(leat_close_all(mq, 0));
    faulty_os_fini(&faulty);
}

static void write_note(const char *dead_letter, int64_t visibility_ms, int64_t in_flight) {
    uint8_t body[32 + 2 + 1 + 2 + 16] = { 0 };
    lt_put_u32(body, q->topic->id);
    lt_put_u64(body + 16, (uint64_t)visibility_ms);
    lt_put_u64(body + 24, (uint64_t)in_flight);
    lt_put_u16(body + 32, 1);
    body[34] = 'b';
    size_t size = strlen(dead_letter);
    lt_put_u16(body + 35, (uint16_t)size);
    memcpy(body + 37, dead_letter, size);
    ok(lt_manifest_note(&mq->log->manifest, LT_NOTE_QUEUE, q->id, body, 37 + size));
}

Test(room, an_unsound_note_is_refused, .init = make_dir, .fini = drop_dir) {
    static const struct {
        const char *dead_letter;
        int64_t visibility_ms, in_flight;
        const char *says;
    } notes[] = { { "a", SECOND, 5, "cycle" },  { "b", SECOND, 5, "cycle" },
                  { "", -1, 5, "unsound" },     { "", INT64_MAX, 5, "unsound" },
                  { "", SECOND, 0, "unsound" }, { "", SECOND, -1, "unsound" } };
    for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++) {
        open_disk(dir, LEAT_WRITE_MAPPED, 0);
        ok(leat_queue_open(mq, "a", &(leat_queue_options){ .dead_letter = "b" }, &other));
        open_queue("b", NULL);
        write_note(notes[i].dead_letter, notes[i].visibility_ms, notes[i].in_flight);
        ok(leat_close_all(mq, 0));
        leat_options o = { .clock = LEAT_CLOCK_MANUAL };
        fails_saying(LEAT_ECORRUPT, notes[i].says, leat_open(dir, &o, &mq));
        drop_dir();
        make_dir();
    }
}
