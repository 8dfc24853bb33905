/* SPDX-License-Identifier: MIT */
// Dedup of what is sent in other ways: asynchronously, by futures, in a batch filled by hand, and
// only at an expected end.
#include "leat.h"
#include "leat_test.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static leat *mq;
static leat_topic *t;
static leat_producer *p;

static struct told {
    int count;
    leat_metadata md[512];
    int status[512], error[512];
    char id[512][16];
} told;

static void tell(leat_producer *from, const leat_report *r, void *ctx) {
    (void)from;
    (void)ctx;
    int i = told.count++;
    cr_assert_lt(i, 512);
    told.md[i] = r->md;
    told.status[i] = r->status;
    told.error[i] = r->error;
    (void)snprintf(told.id[i], sizeof told.id[i], LEAT_FMT, LEAT_ARG(r->record->dedup_id));
}

static void open_store(int32_t acks, const leat_topic_options *o) {
    leat_options so = { .threads = LEAT_NO_THREADS, .clock = LEAT_CLOCK_JUMP, .seed = 1 };
    memset(&told, 0, sizeof told);
    ok(leat_open_memory(&so, &mq));
    ok(leat_topic_open(mq, "t", o, &t));
    ok(leat_producer_open(
        mq, &(leat_producer_options){ .acks = acks, .callbacks = LEAT_CALLBACKS_POLL }, &p));
}

static leat_record record(int32_t partition, const char *id) {
    return (leat_record){ .value = LEAT_STR("v"),
                          .dedup_id = leat_str(id),
                          .to_partition = LEAT_PARTITION(partition) };
}

static void send_async(int32_t partition, const char *id) {
    leat_record r = record(partition, id);
    ok(leat_send_async(p, t, &r, tell, NULL));
}

static void told_is(int i, int32_t partition, int64_t offset, int duplicate) {
    cr_assert_lt(i, told.count);
    const leat_metadata *md = &told.md[i];
    cr_assert(told.status[i] == LEAT_STORED && told.error[i] == 0, "report %d", i);
    cr_assert(md->partition == partition && md->offset == offset && md->duplicate == duplicate,
              "report %d: %d/%d, %d", i, md->partition, (int)md->offset, md->duplicate);
}

static int64_t end_of(int32_t partition) {
    leat_range r;
    ok(leat_topic_range(t, partition, &r));
    return r.end;
}

Test(dedup_async, a_repeat_is_reported_in_its_turn_with_the_first_one) {
    for (int32_t acks = LEAT_ACKS_LOG; acks <= LEAT_ACKS_DISK; acks++) {
        open_store(acks, &(leat_topic_options){ .partitions = 2, .dedup_window_count = 100 });
        leat_record r = record(1, "other");
        ok(leat_send(p, t, &r, NULL));
        send_async(0, NULL);
        send_async(0, "a");
        send_async(0, NULL);
        send_async(0, "a");
        send_async(0, "other"); // the first one is in another partition
        send_async(0, NULL);
        send_async(0, "b");
        ok(leat_flush(p, 0));
        cr_assert_eq(told.count, 7);
        told_is(0, 0, 0, 0);
        told_is(1, 0, 1, 0);
        told_is(2, 0, 2, 0);
        told_is(3, 0, 1, 1);
        told_is(4, 1, 0, 1);
        told_is(5, 0, 3, 0);
        told_is(6, 0, 4, 0);
        cr_assert_str_eq(told.id[3], "a");
        cr_assert(end_of(0) == 5 && end_of(1) == 1);
        leat_future *f;
        leat_report report;
        r = record(1, "b");
        ok(leat_send_future(p, t, &r, &f));
        ok(leat_flush(p, 0));
        ok(leat_future_wait(f, 0, &report));
        cr_assert(report.md.duplicate == 1 && report.md.partition == 0 && report.md.offset == 4);
        ok(leat_future_release(f));
        ok(leat_send_async(p, t, &r, NULL, NULL)); // nobody asks
        ok(leat_flush(p, 0));
        leat_producer_stats s;
        ok(leat_producer_get_stats(p, &s, sizeof s));
        cr_assert(s.duplicates == 4 && s.stored == 9 && s.accepted == 9);
        cr_assert(end_of(0) == 5 && end_of(1) == 1);
        ok(leat_close_all(mq, 0));
    }
}

Test(dedup_async, a_repeat_is_as_safe_as_asked_for) {
    leat_producer *log;
    leat_range range;
    open_store(LEAT_ACKS_DISK, &(leat_topic_options){ .partitions = 2, .dedup_window_count = 9 });
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &log));
    leat_record r = record(1, "a");
    ok(leat_send(log, t, &r, NULL));
    r = record(1, "b");
    ok(leat_send(log, t, &r, NULL));
    send_async(0, "a"); // of the other partition
    ok(leat_flush(p, 0));
    told_is(0, 1, 0, 1);
    ok(leat_topic_range(t, 1, &range));
    cr_assert(range.durable_end >= 1);
    r = record(1, "c");
    ok(leat_send(log, t, &r, NULL));
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 1, LEAT_EIO, 1, 0));
    send_async(0, "c");
    send_async(0, "a");
    ok(leat_flush(p, 0));
    cr_assert(told.count == 3 && told.status[1] == LEAT_UNKNOWN && told.error[1] == LEAT_EIO);
    cr_assert(told.md[1].partition == 1 && told.md[1].offset == 2 && told.md[1].duplicate == 1);
    told_is(2, 1, 0, 1); // what was on disk before is
    ok(leat_fault_push(mq, LEAT_OP_SYNC, "t", 0, LEAT_EIO, 1, 0));
    send_async(0, NULL);
    send_async(0, "a"); // behind one whose own sync fails
    ok(leat_flush(p, 0));
    cr_assert(told.count == 5 && told.status[3] == LEAT_UNKNOWN && told.error[3] == LEAT_EIO);
    told_is(4, 1, 0, 1);
    (void)leat_close_all(mq, 0);
}

Test(dedup_async, what_is_tried_again_is_stored_once) {
    open_store(LEAT_ACKS_LOG, &(leat_topic_options){ .dedup_window_count = 100 });
    for (int op = LEAT_OP_APPEND; op <= LEAT_OP_SPACE; op++) {
        char id[4] = { 'x', (char)('0' + op) };
        int first = told.count;
        ok(leat_fault_push(mq, op, "t", -1, LEAT_ENOSPC, 3, op == LEAT_OP_APPEND ? 50 : 0));
        send_async(0, id);
        send_async(0, id);
        gives(0, leat_flush(p, LEAT_FOREVER));
        told_is(first, 0, first / 2, 0);
        told_is(first + 1, 0, first / 2, 1);
        leat_producer_stats s;
        ok(leat_producer_get_stats(p, &s, sizeof s));
        cr_assert_eq(s.retries, (uint64_t)(op == LEAT_OP_APPEND ? 3 : 6));
    }
    // What is given up is not remembered.
    leat_producer *brief;
    ok(leat_producer_open(
        mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG, .delivery_timeout_ms = LEAT_ZERO },
        &brief));
    ok(leat_fault_push(mq, LEAT_OP_SPACE, "t", -1, LEAT_ENOSPC, 1, 0));
    leat_record r = record(0, "z");
    int before = told.count;
    ok(leat_send_async(brief, t, &r, tell, NULL));
    gives(0, leat_flush(brief, LEAT_FOREVER));
    cr_assert(told.status[before] == LEAT_NOT_STORED && told.error[before] == LEAT_ENOSPC);
    cr_assert(told.md[before].offset == -1 && told.md[before].duplicate == 0);
    leat_metadata md;
    ok(leat_send(p, t, &r, &md));
    cr_assert(md.duplicate == 0 && md.offset == 2);
    ok(leat_close_all(mq, 0));
}

Test(dedup_async, who_sends_with_an_id_waits_for_what_was_sent_before_with_it) {
    open_store(LEAT_ACKS_LOG, &(leat_topic_options){ .partitions = 2, .dedup_window_count = 100 });
    for (int many = 0; many < 2; many++) {
        leat_metadata md[2];
        leat_record r[2] = { record(0, many ? "a" : "b"), record(1, many ? "c" : "d") };
        ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, 0, 1, 1000)); // only late
        ok(leat_send_async(p, t, &r[0], tell, NULL));
        cr_assert_eq(end_of(0), many, "it is put off");
        if (many)
            ok(leat_send_many(p, t, r, 2, md));
        else
            ok(leat_send(p, t, r, md));
        cr_assert(md[0].duplicate == 1 && md[0].offset == many);
        cr_assert(!many || (md[1].duplicate == 0 && md[1].offset == 0));
    }
    gives(0, leat_flush(p, LEAT_FOREVER));
    told_is(0, 0, 0, 0);
    told_is(1, 0, 1, 0);
    // A planned fault of a partition whose records are all repeats still counts, as of one record.
    leat_metadata md[2];
    leat_record r[2] = { record(0, "a"), record(1, "new") };
    ok(leat_fault_push(mq, LEAT_OP_APPEND, "t", 0, LEAT_ENOSPC, 1, 0));
    fails(LEAT_ENOSPC, leat_send_many(p, t, r, 2, md));
    cr_assert(md[0].duplicate == 1 && md[1].offset == -1);
    ok(leat_send_many(p, t, r, 2, md));
    cr_assert(md[0].duplicate == 1 && md[1].duplicate == 0 && md[1].offset == 1);
    ok(leat_close_all(mq, 0));
}

Test(dedup_async, without_a_window_ids_go_into_batches_as_any_record) {
    for (int disk = 0; disk < 2; disk++) {
        char root[SCRATCH_PATH], dir[SCRATCH_PATH], path[SCRATCH_PATH];
        size_t size;
        scratch_make(root);
        scratch_join(dir, root, "store");
        leat_producer_options o = { .linger_ms = 1000 };
        ok(disk ? leat_open(dir, NULL, &mq) : leat_open_memory(NULL, &mq));
        ok(leat_topic_open(mq, "t", NULL, &t));
        ok(leat_producer_open(mq, &o, &p));
        leat_record r = record(0, NULL);
        ok(leat_send(p, t, &r, NULL));
        r = record(0, "a");
        leat_batch *b;
        ok(leat_batch_open(p, t, 0, &b));
        for (int i = 0; i < 3; i++) {
            ok(leat_send_async(p, t, &r, NULL, NULL));
            ok(leat_batch_append(b, &r));
        }
        gives(0, leat_flush(p, LEAT_FOREVER));
        ok(leat_batch_send(b, NULL, NULL));
        gives(0, leat_flush(p, LEAT_FOREVER));
        cr_assert_eq(end_of(0), 7);
        ok(leat_close_all(mq, 0));
        if (disk) { // and are where older versions do not misread them
            scratch_join(path, dir, "1/0/%020d.log", 0);
            unsigned char *bytes = scratch_read(path, &size);
            cr_assert_eq(bytes[12], 0);
            free(bytes);
            scratch_join(path, dir, "1/0/%020d.log", 1);
            bytes = scratch_read(path, &size);
            cr_assert_eq(bytes[12], 1);
            free(bytes);
            gives(0, leat_verify(dir, NULL, NULL, NULL));
        }
        scratch_remove(root);
    }
}

Test(dedup_async, a_batch_filled_by_hand_takes_no_ids) {
    open_store(LEAT_ACKS_LOG, &(leat_topic_options){ .dedup_window_count = 100 });
    leat_batch *b;
    leat_record r = record(0, "a");
    ok(leat_batch_open(p, t, 0, &b));
    fails_saying(LEAT_EINVAL, "dedup_id", leat_batch_append(b, &r));
    r.dedup_id = (leat_bytes){ NULL, 0 };
    ok(leat_batch_append(b, &r));
    ok(leat_batch_send(b, NULL, NULL));
    ok(leat_close_all(mq, 0));
}

Test(dedup_async, at_an_expected_end_a_repeat_is_no_conflict_and_a_conflict_is_not_remembered) {
    open_store(LEAT_ACKS_LOG, &(leat_topic_options){ .dedup_window_count = 100 });
    leat_metadata md;
    leat_record r = record(0, "a");
    ok(leat_send_if(p, t, 0, 0, &r, &md));
    cr_assert(md.offset == 0 && md.duplicate == 0);
    ok(leat_send_if(p, t, 0, 0, &r, &md)); // who did not hear of it tries again
    cr_assert(md.offset == 0 && md.duplicate == 1);
    r = record(0, "b");
    fails(LEAT_ECONFLICT, leat_send_if(p, t, 0, 7, &r, &md));
    cr_assert_eq(md.offset, 1);
    ok(leat_send_if(p, t, 0, 1, &r, &md));
    cr_assert(md.offset == 1 && md.duplicate == 0);
    ok(leat_close_all(mq, 0));
}
