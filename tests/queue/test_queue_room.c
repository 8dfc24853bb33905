/* SPDX-License-Identifier: MIT */
// The queue room where it hurts: segments that another queue has given back, words that outlive
// their records, settings that change under messages, clocks at their edges, stores that close or
// fork under somebody who waits.
#include <criterion/criterion.h>

#include "base/bytes.h"
#include "base/core.h"
#include "base/failing_mem.h"
#include "lib/faulty_os.h"
#include "lib/scratch.h"
#include "log/log.h"
#include "queue/room.h"
#include "store/store.h"

#include "leat_test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECOND = 1000, HOUR = 3600 * SECOND, REAL_MS = 20000 };

static char dir[SCRATCH_PATH], copy[SCRATCH_PATH];
static leat *mq;
static leat_queue *q, *other;
static leat_message m, n;
static struct faulty_os faulty; // large

static void make_dir(void) {
    scratch_make(dir);
    scratch_join(copy, dir, "../%s.copy", strrchr(dir, '/') + 1);
}

static void drop_dir(void) {
    scratch_remove(copy); // is named by way of dir
    scratch_remove(dir);
}

static void open_memory(int32_t clock) {
    leat_options o = { .clock = clock,
                       .seed = 3,
                       .acks = LEAT_ACKS_LOG,
                       .threads = clock == LEAT_CLOCK_JUMP ? LEAT_NO_THREADS : 0 };
    ok(leat_open_memory(&o, &mq));
}

static void open_disk(const char *where, int32_t write, int64_t start_ms) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL,
                       .seed = 3,
                       .acks = LEAT_ACKS_LOG,
                       .write = write,
                       .start_ms = start_ms };
    ok(leat_open(where, &o, &mq));
}

static void open_queue(const char *name, const leat_queue_options *o) {
    ok(leat_queue_open(mq, name, o, &q));
}

static void send_n(leat_queue *to, int count, size_t size) {
    static char bytes[4096];
    for (int i = 0; i < count; i++)
        ok(leat_queue_send(to, &(leat_record){ .value = { bytes, size } }, NULL));
}

static void send(const char *text) {
    ok(leat_queue_send(q, &(leat_record){ .value = leat_str(text) }, NULL));
}

static leat_queue_stats stats_of(leat_queue *of) {
    leat_queue_stats s;
    ok(leat_queue_get_stats(of, &s, sizeof s));
    return s;
}

static void holds(leat_queue *of) {
    lt_lock(of->lock);
    bool sound = lt_leases_check(&of->leases);
    for (int32_t i = 0; i < of->topic->partitions; i++)
        sound = sound && lt_window_check(&lt_queue_part(of, i)->window);
    lt_unlock(of->lock);
    cr_assert(sound, "an invariant of %s is broken", of->name);
}

static void ack_all(leat_queue *of) {
    while (leat_queue_receive(of, 0, &n, 1) == 1)
        ok(leat_queue_ack(of, &n));
}

// ---- segments that went while somebody stood in them

Test(room, a_queue_over_anothers_topic_lets_go_of_what_that_one_gives_back) {
    open_memory(LEAT_CLOCK_MANUAL);
    open_queue("own", NULL);
    q->topic->segment_bytes = 16384; // as no public call can ask of a queue's own topic
    ok(leat_queue_open(
        mq, "beside", &(leat_queue_options){ .topic = "own", .visibility_timeout_ms = 10 * SECOND },
        &other));
    send_n(q, 80, 1000); // 5 segments and a bit
    leat_message some[40];
    gives(40, leat_queue_receive(other, 0, some, 40));
    ok(leat_queue_nack(other, &some[1], HOUR, 0));
    ok(leat_queue_nack(other, &some[2], 0, 0));
    ok(leat_clock_advance(mq, 9 * SECOND));
    ok(leat_queue_extend(other, &some[3], SECOND)); // will be lapsed
    ok(leat_clock_advance(mq, SECOND));
    ack_all(q);
    leat_range r;
    ok(leat_topic_range(leat_queue_topic(q), 0, &r));
    cr_assert(r.begin > 40 && r.begin < 80, "begin %d", (int)r.begin);
    holds(other);
    fails(LEAT_ESTALE, leat_queue_ack(other, &some[0])); // the record is gone
    fails(LEAT_ESTALE, leat_queue_nack(other, &some[3], HOUR, 0));
    fails(LEAT_ESTALE, leat_queue_extend(other, &some[4], HOUR));
    leat_queue_stats s = stats_of(other);
    cr_assert_eq(s.available, (uint64_t)(r.end - r.begin));
    cr_assert(s.leased == 0 && s.delayed == 0, "leased %d delayed %d", (int)s.leased,
              (int)s.delayed);
    holds(other);
    gives(1, leat_queue_receive(other, 0, &m, 1));
    cr_assert_eq(m.offset, r.begin);
    ok(leat_queue_ack(other, &m));
    for (int i = 0; i < 40; i++)
        (void)leat_message_release(mq, &some[i]); // their bytes stayed
    ok(leat_close_all(mq, 0));
}

Test(room, kept_and_moving_messages_go_with_their_segment_too) {
    open_memory(LEAT_CLOCK_MANUAL);
    open_queue("own", NULL);
    q->topic->segment_bytes = 16384;
    ok(leat_queue_open(mq, "beside", &(leat_queue_options){ .topic = "own", .deliveries_max = 1 },
                       &other));
    send_n(q, 80, 1000);
    for (int i = 0; i < 3; i++) {
        gives(1, leat_queue_receive(other, 0, &m, 1));
        ok(leat_queue_nack(other, &m, 0, 0));
    }
    cr_assert_eq(stats_of(other).kept, 3);
    // One more, whose move does not succeed for as long as the dead-letter queue is closed to it.
    leat_queue *dead;
    ok(leat_queue_open(mq, "beside",
                       &(leat_queue_options){ .flags = LEAT_ALTER, .dead_letter = "dead" }, &dead));
    ok(leat_queue_close(dead));
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    lt_topic_part(dead->topic, 0)->poisoned = true;
    gives(1, leat_queue_receive(other, 0, &m, 1));
    ok(leat_queue_nack(other, &m, 0, 0));
    cr_assert_eq(stats_of(other).moving, 1);
    ack_all(q);
    leat_queue_stats s = stats_of(other);
    cr_assert(s.kept == 0 && s.moving == 0 && s.leased == 0, "kept %d moving %d", (int)s.kept,
              (int)s.moving);
    holds(other);
    ok(leat_clock_advance(mq, HOUR));
    ok(leat_close_all(mq, 0));
}

Test(room, a_poll_from_below_a_log_that_is_empty_ends) {
    struct failing_mem mem;
    failing_mem_init(&mem, 0);
    leat_options o = { .clock = LEAT_CLOCK_JUMP,
                       .threads = LEAT_NO_THREADS,
                       .acks = LEAT_ACKS_LOG,
                       .memory_max_bytes = 128 * 1024,
                       .alloc = failing_mem_fn,
                       .alloc_ctx = &mem };
    ok(leat_open_memory(&o, &mq));
    open_queue("own", NULL);
    q->topic->segment_bytes = 16384;
    leat_consumer *c;
    const leat_message *view;
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    leat_position at = { .topic = "own", .offset = LEAT_BEGIN };
    ok(leat_consumer_assign(c, &at, 1));
    send_n(q, 30, 1000); // two segments
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ack_all(q);
    static char big[1 << 20], bigger[2 << 20]; // get a segment of their own, and no room in it
    fails(LEAT_EFULL, leat_queue_send(q, &(leat_record){ .value = { big, sizeof big } }, NULL));
    ok(leat_queue_ack(q, &m));
    leat_range r;
    ok(leat_topic_range(leat_queue_topic(q), 0, &r));
    cr_assert(r.begin == 30 && r.end == 30, "begin %d", (int)r.begin);
    mem.fail_at = mem.asked + 1; // the empty segment goes, the next is not made: there is none
    mem.then_all = true;
    fails(LEAT_ENOMEM,
          leat_queue_send(q, &(leat_record){ .value = { bigger, sizeof bigger } }, NULL));
    mem.fail_at = 0;
    cr_assert_eq(lt_topic_part(q->topic, 0)->count, 0);
    gives(0, leat_poll(c, 1000, &view));
    send("after");
    gives(1, leat_poll(c, 1000, &view));
    is(view[0].value, "after");
    cr_assert_eq(view[0].offset, 30);
    ok(leat_close_all(mq, 0));
}

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

Test(room, the_numbers_of_messages_that_a_power_cut_took_name_no_others, .init = make_dir,
     .fini = drop_dir) {
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
        drop_dir();
        make_dir();
    }
}

Test(room, a_store_opens_on_a_full_disk, .init = make_dir, .fini = drop_dir) {
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

// ---- settings

Test(room, a_lower_deliveries_max_ends_what_had_as_many_tries) {
    for (int with_dead = 0; with_dead < 2; with_dead++) {
        open_memory(LEAT_CLOCK_MANUAL);
        open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = SECOND });
        send("a");
        send("b");
        send("c");
        for (int i = 0; i < 3; i++) {
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(i == 2 ? leat_message_release(mq, &m) : leat_queue_nack(q, &m, 0, 0));
        }
        ok(leat_clock_advance(mq, SECOND)); // its lease is lapsed
        leat_queue *x;
        ok(leat_queue_open(mq, "jobs",
                           &(leat_queue_options){ .flags = LEAT_ALTER,
                                                  .deliveries_max = 2,
                                                  .dead_letter = with_dead ? "dead" : NULL },
                           &x));
        gives(1, leat_queue_receive(q, 0, &n, 1));
        is(n.value, "b");
        cr_assert_eq(n.deliveries, 1);
        fails(LEAT_ESTALE, leat_queue_ack(q, &m));
        leat_queue_stats s = stats_of(q);
        cr_assert_eq(s.dead, (uint64_t)with_dead);
        cr_assert_eq(s.kept, (uint64_t)!with_dead);
        cr_assert(s.moving == 0 && s.leased == 1 && s.available == 1);
        holds(q);
        ok(leat_queue_ack(q, &n));
        ok(leat_close_all(mq, 0));
    }
}

Test(room, the_4095th_delivery_is_the_last) {
    open_memory(LEAT_CLOCK_MANUAL);
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 4095 });
    send("a");
    for (int i = 1; i <= 4095; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        cr_assert_eq(m.deliveries, i);
        ok(leat_queue_nack(q, &m, 0, 0));
    }
    gives(0, leat_queue_receive(q, 0, &m, 1));
    cr_assert_eq(stats_of(q).kept, 1);
    open_queue("ever", NULL);
    send("b");
    for (int i = 1; i <= 4100; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        cr_assert_eq(m.deliveries, i < 4095 ? i : 4095); // as far as a word counts
        ok(leat_queue_nack(q, &m, 0, 0));
    }
    ok(leat_close_all(mq, 0));
}

Test(room, a_topic_left_by_a_dead_open_is_taken_over_only_as_it_is) {
    open_memory(LEAT_CLOCK_MANUAL);
    leat_topic_options o = { .partitions = 2 }, full;
    leat_topic *t;
    ok(lt_topic_check_options(&o, &full));
    lt_lock(&mq->log->admin);
    ok(lt_topic_create(mq, "jobs", &full, true, &t));
    lt_unlock(&mq->log->admin);
    fails_saying(LEAT_EEXIST, "2 partitions",
                 leat_queue_open(mq, "jobs", &(leat_queue_options){ .partitions = 3 }, &q));
    ok(leat_queue_open(mq, "jobs", &(leat_queue_options){ .partitions = 2 }, &q));
    cr_assert_eq(leat_queue_topic(q), t);
    ok(leat_close_all(mq, 0));
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

// ---- time at its edges

Test(room, a_delay_is_kept_wherever_the_wall_clock_stands, .init = make_dir, .fini = drop_dir) {
    const int64_t walls[] = { 1,
                              253402300799999,
                              INT64_MAX / 1000000 - 5000,
                              INT64_MAX / 1000000,
                              INT64_MAX - 366LL * 24 * HOUR,
                              INT64_MAX };
    for (size_t i = 0; i < sizeof walls / sizeof walls[0]; i++) {
        open_disk(dir, LEAT_WRITE_MAPPED, walls[i]);
        open_queue("jobs", NULL);
        send("a");
        ok(leat_clock_advance(mq, SECOND));
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_nack(q, &m, HOUR, 0));
        int64_t wall;
        ok(leat_clock_now(mq, NULL, &wall));
        ok(leat_close_all(mq, 0));
        if (wall > INT64_MAX - HOUR) // the time that is asked for does not exist
            wall = 1;
        open_disk(dir, LEAT_WRITE_MAPPED, wall);
        open_queue("jobs", NULL);
        cr_assert_eq(stats_of(q).delayed, 1, "wall %lld", (long long)walls[i]);
        if (wall != 1) {
            ok(leat_clock_advance(mq, HOUR - 1));
            gives(0, leat_queue_receive(q, 0, &m, 1));
            ok(leat_clock_advance(mq, 11));
            gives(1, leat_queue_receive(q, 0, &m, 1));
            ok(leat_queue_ack(q, &m));
        }
        ok(leat_close_all(mq, 0));
        drop_dir();
        make_dir();
    }
}

Test(room, wall_time_that_jumps_moves_no_lease_and_no_delay) {
    open_memory(LEAT_CLOCK_MANUAL);
    open_queue("jobs", &(leat_queue_options){ .visibility_timeout_ms = 10 * SECOND });
    send("a");
    send("b");
    gives(1, leat_queue_receive(q, 0, &m, 1));
    gives(1, leat_queue_receive(q, 0, &n, 1));
    ok(leat_queue_nack(q, &n, 20 * SECOND, 0));
    const int64_t walls[] = { 0, INT64_MAX, 1, 0 };
    for (size_t i = 0; i < sizeof walls / sizeof walls[0]; i++) {
        ok(leat_clock_set_wall(mq, walls[i]));
        cr_assert_eq(stats_of(q).leased, 1);
        cr_assert_eq(stats_of(q).delayed, 1);
    }
    ok(leat_clock_advance(mq, 10 * SECOND - 1));
    cr_assert_eq(stats_of(q).leased, 1);
    ok(leat_clock_advance(mq, 1));
    cr_assert_eq(stats_of(q).leased, 0);
    ok(leat_clock_advance(mq, 10 * SECOND - 1));
    cr_assert_eq(stats_of(q).delayed, 1);
    ok(leat_clock_advance(mq, 1));
    cr_assert_eq(stats_of(q).delayed, 0);
    ok(leat_message_release(mq, &m));
    ok(leat_close_all(mq, 0));
}

// ---- waiting

struct caller {
    pthread_t thread;
    int64_t timeout_ms;
    int rc;
    leat_message m;
};

static void *receive_one(void *arg) {
    struct caller *c = arg;
    c->rc = leat_queue_receive(q, c->timeout_ms, &c->m, 1);
    return NULL;
}

static void begin(struct caller *c, void *(*run)(void *)) {
    cr_assert_eq(pthread_create(&c->thread, NULL, run, c), 0);
}

static void end(struct caller *c) {
    cr_assert_eq(pthread_join(c->thread, NULL), 0);
}

// Who waits is counted by hand: a receive in line would take its message at once.
Test(room, a_receive_leaves_one_message_for_each_that_waits) {
    leat_message got[8];
    open_memory(LEAT_CLOCK_MANUAL);
    open_queue("q", NULL);
    send_n(q, 5, 10);
    atomic_fetch_add(&q->waiting, 3);
    gives(2, leat_queue_receive(q, SECOND, got, 8));
    gives(1, leat_queue_receive(q, SECOND, got + 2, 1)); // in line, where it is the first
    gives(1, leat_queue_receive(q, 0, got + 3, 1));      // this one cannot wait for its turn
    atomic_fetch_sub(&q->waiting, 3);
    gives(1, leat_queue_receive(q, SECOND, got + 4, 4));
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(got[i].offset, i);
        ok(leat_queue_ack(q, &got[i]));
    }
    ok(leat_close_all(mq, 0));
}

Test(room, close_all_under_a_blocked_receive_is_refused_and_ends_nothing) {
    open_memory(LEAT_CLOCK_MANUAL);
    leat_queue *again;
    ok(leat_queue_open(mq, "first", NULL, &other));
    open_queue("jobs", NULL);
    ok(leat_queue_open(mq, "jobs", NULL, &again));
    ok(leat_queue_send(other, &(leat_record){ .value = LEAT_STR("a") }, NULL));
    gives(1, leat_queue_receive(other, 0, &m, 1));
    struct caller c = { .timeout_ms = LEAT_FOREVER };
    begin(&c, receive_one);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    fails_saying(LEAT_EBUSY, "jobs", leat_close_all(mq, 0));
    ok(leat_message_release(mq, &m)); // its view was not ended
    ok(leat_queue_close(again));      // nor were handles closed
    fails(LEAT_EBUSY, leat_queue_close(q));
    send("b");
    end(&c);
    cr_assert_eq(c.rc, 1);
    ok(leat_close_all(mq, 0));
}

Test(room, a_store_may_be_closed_as_soon_as_it_says_that_nobody_waits) {
    for (int round = 0; round < 200; round++) {
        open_memory(LEAT_CLOCK_MANUAL);
        open_queue("jobs", NULL);
        struct caller c[3] = { { .timeout_ms = LEAT_FOREVER },
                               { .timeout_ms = HOUR },
                               { .timeout_ms = LEAT_FOREVER } };
        for (int i = 0; i < 3; i++)
            begin(&c[i], receive_one);
        ok(leat_clock_wait_blocked(mq, 3, REAL_MS));
        ok(leat_shutdown(mq));
        int rc;
        while ((rc = leat_close_all(mq, 0)) == LEAT_EBUSY)
            ;
        cr_assert_eq(rc, 0);
        for (int i = 0; i < 3; i++) {
            end(&c[i]);
            cr_assert_eq(c[i].rc, LEAT_ECLOSED);
        }
    }
}

struct late { // a wait whose time is over before it begins to block
    pthread_t thread;
    struct lt_waiter waiter;
    atomic_bool begun, done;
    int rc;
};

static void *wait_late(void *arg) {
    struct late *l = arg;
    atomic_store(&l->begun, true);
    do
        l->rc = lt_wait(mq, &l->waiter, 1000000);
    while (l->rc == 0);
    atomic_store(&l->done, true);
    return NULL;
}

Test(room, a_timeout_set_while_time_moves_is_not_lost) {
    for (int round = 0; round < 50; round++) {
        open_memory(LEAT_CLOCK_MANUAL);
        struct late l = { .rc = 1 };
        ok(lt_waiter_init(mq, &l.waiter));
        lt_lock(&mq->clock.due_lock); // it gets past its look at the clock, no further
        cr_assert_eq(pthread_create(&l.thread, NULL, wait_late, &l), 0);
        while (!atomic_load(&l.begun))
            (void)sched_yield();
        for (int i = 0; i < 200; i++)
            (void)sched_yield();
        atomic_store(&mq->clock.mono_ns, 2000000); // as advance does, having found nothing planned
        lt_unlock(&mq->clock.due_lock);
        int blocked = 0;
        while (!atomic_load(&l.done) && blocked == 0) {
            lt_lock(&mq->clock.lock);
            blocked = mq->clock.blocked_count;
            lt_unlock(&mq->clock.lock);
        }
        ok(leat_shutdown(mq));
        cr_assert_eq(pthread_join(l.thread, NULL), 0);
        lt_waiter_fini(mq, &l.waiter);
        ok(leat_close_all(mq, 0));
        cr_assert_eq(blocked, 0, "it blocks although its time is over");
    }
}

// ---- the dead-letter queue

Test(room, a_full_dead_letter_queue_keeps_it_moving_until_there_is_room) {
    leat_options o = { .clock = LEAT_CLOCK_MANUAL,
                       .acks = LEAT_ACKS_LOG,
                       .memory_max_bytes = 192 * 1024 };
    ok(leat_open_memory(&o, &mq));
    open_queue("filler", NULL);
    q->topic->segment_bytes = 16384;
    leat_queue *filler = q, *dead;
    open_queue("jobs", &(leat_queue_options){ .deliveries_max = 1, .dead_letter = "dead" });
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    q->topic->segment_bytes = dead->topic->segment_bytes = 16384;
    send("a");
    static char bytes[8000];
    leat_record r = { .value = { bytes, sizeof bytes } };
    int rc;
    while ((rc = leat_queue_send(filler, &r, NULL)) == 0)
        ;
    cr_assert_eq(rc, LEAT_EFULL);
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_nack(q, &m, 0, 0));
    for (int i = 0; i < 30; i++) {
        ok(leat_clock_advance(mq, SECOND));
        leat_queue_stats s = stats_of(q);
        cr_assert(s.moving == 1 && s.dead == 0 && s.available == 0 && s.leased == 0);
    }
    gives(0, leat_queue_receive(q, 0, &m, 1));
    ack_all(filler); // its segments go
    ok(leat_clock_advance(mq, SECOND));
    cr_assert_eq(stats_of(q).moving, 0);
    cr_assert_eq(stats_of(q).dead, 1);
    gives(1, leat_queue_receive(dead, 0, &m, 1));
    is(m.value, "a");
    ok(leat_queue_ack(dead, &m));
    ok(leat_close_all(mq, 0));
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

// ---- a forked child

static void *wait_for_one_blocked(void *arg) {
    struct caller *c = arg;
    c->rc = leat_clock_wait_blocked(mq, 2, REAL_MS);
    (void)leat_clock_advance(mq, HOUR);
    return NULL;
}

static int child_closes(void) {
    alarm(20); // a close that hangs
    leat_message x = { .receipt = 1 };
    bool good = leat_queue_receive(q, 0, &x, 1) == LEAT_EFORK &&
                leat_queue_ack(q, &x) == LEAT_EFORK && leat_queue_close(q) == LEAT_EFORK &&
                leat_close(mq, 0) == 0;
    return good ? 0 : 1;
}

Test(room, a_forked_child_closes_a_store_in_which_its_parent_waits) {
    open_memory(LEAT_CLOCK_MANUAL);
    open_queue("jobs", NULL);
    struct caller blocked = { .timeout_ms = HOUR }, waiter = { .rc = 1 };
    begin(&blocked, receive_one);
    ok(leat_clock_wait_blocked(mq, 1, REAL_MS));
    begin(&waiter, wait_for_one_blocked);
    int status = 0;
    for (int i = 0; i < 20 && status == 0; i++) { // by then it waits, or never will
        pid_t pid = fork();
        if (pid == 0)
            _exit(child_closes());
        cr_assert_gt(pid, 0);
        cr_assert_eq(waitpid(pid, &status, 0), pid);
    }
    gives(0, leat_queue_receive(q, HOUR, &m, 1)); // the second that is waited for
    end(&waiter);
    end(&blocked);
    cr_assert_eq(waiter.rc, 0);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child: %#x", status);
    ok(leat_close_all(mq, 0));
}
