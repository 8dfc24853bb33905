/* SPDX-License-Identifier: MIT */
// The reader: one partition without a group, forwards and backwards.
#include "lib/stream.h"

#include <stdatomic.h>

static leat_reader *reader_at(int32_t partition, int64_t offset) {
    leat_reader *r;
    ok(leat_reader_open(t, partition, offset, &r));
    return r;
}

// The next record that way is the one of that offset; offset -1: there is none.
static void reads(leat_reader *r, int back, int64_t offset) {
    leat_message m;
    char text[64];
    int rc = leat_reader_next(r, back, &m);
    cr_assert_eq(rc, offset >= 0, "%s %lld is %d: %s", back ? "back to" : "on to",
                 (long long)offset, rc, leat_errmsg());
    if (offset < 0) {
        cr_assert(m.value.data == NULL && m.view == 0 && m.topic == NULL, "zeroed");
        return;
    }
    cr_assert_eq(m.offset, offset, "%lld, not %lld", (long long)m.offset, (long long)offset);
    snprintf(text, sizeof text, "%d/%lld", m.partition, (long long)offset);
    is(m.value, text);
    cr_assert_str_eq(m.topic, "t");
}

static void expects_all(int64_t begin, int64_t end) {
    leat_reader *r = reader_at(0, LEAT_BEGIN);
    for (int64_t i = begin; i < end; i++)
        reads(r, 0, i);
    reads(r, 0, -1);
    for (int64_t i = end; i-- > begin;)
        reads(r, 1, i);
    reads(r, 1, -1);
    ok(leat_reader_close(r));
}

Test(reader, reads_on_and_back_over_segments, .init = make_dir, .fini = drop_dir) {
    for (int kind = MEMORY; kind < KINDS; kind++) {
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 2);
        expects_all(0, 0);
        send_many(1, 3);
        send_many(0, 1000); // over three segments
        expects_all(0, 1000);
        leat_reader *r = reader_at(0, LEAT_END);
        reads(r, 1, 999); // the last one first
        reads(r, 0, 999); // it stands between two records
        reads(r, 0, -1);
        ok(leat_reader_close(r));
        leat_topic *two = t;
        if (kind != MEMORY) { // of segments that are not mapped yet
            close_store();
            open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
            ok(leat_topic_open(mq, "t", NULL, &t));
            two = t;
            r = reader_at(0, LEAT_END);
            for (int64_t i = 1000; i-- > 0;)
                reads(r, 1, i);
            send_many(0, 2); // to the segment that was mapped
            expects_all(0, 1002);
        }
        r = reader_at(0, 500);
        for (int64_t i = 500; i < 520; i++) {
            reads(r, 0, i);
            reads(r, 0, i + 1);
            reads(r, 1, i + 1);
        }
        ok(leat_reader_open(two, 1, LEAT_LAST(1), &r));
        reads(r, 0, 2);
        reads(r, 0, -1);
        close_store(); // the readers, too
        scratch_remove(dir);
        scratch_mkdir(dir);
    }
}

Test(reader, begins_at_a_place) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    for (int i = 0; i < 4; i++) {
        send_many(0, 1);
        ok(leat_clock_advance(mq, 1000));
    }
    reads(reader_at(0, LEAT_AT(1000000000000 + 1500)), 0, 2);
    reads(reader_at(0, LEAT_AT(1000000000000 + 1500)), 1, 1);
    reads(reader_at(0, LEAT_LAST(3)), 0, 1);
    reads(reader_at(0, LEAT_BEGIN), 1, -1);
    reads(reader_at(0, 4), 0, -1);
    close_store();
}

Test(reader, sees_what_is_appended_while_it_stands_at_the_end) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    leat_reader *r = reader_at(0, LEAT_END);
    reads(r, 0, -1);
    for (int64_t i = 0; i < 700; i++) { // over a segment's end
        send_many(0, 1);
        reads(r, 0, i);
        reads(r, 0, -1);
    }
    reads(r, 1, 699);
    close_store();
}

Test(reader, steps_over_what_was_deleted) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 1000);
    leat_reader *r = reader_at(0, LEAT_BEGIN), *s = reader_at(0, 3), *e = reader_at(0, LEAT_END);
    leat_message m;
    gives(1, leat_reader_next(r, 0, &m));
    ok(leat_topic_delete_records(t, 0, 990));
    is(m.value, "0/0"); // its view holds the segment
    reads(r, 1, -1);
    reads(r, 0, 990);
    reads(s, 1, -1); // nothing is in front of it any more
    reads(s, 0, 990);
    reads(s, 1, 990);
    reads(s, 1, -1);
    for (int64_t i = 1000; i-- > 990;)
        reads(e, 1, i);
    reads(e, 1, -1);
    ok(leat_topic_delete_records(t, 0, LEAT_END));
    reads(e, 1, -1);
    reads(e, 0, -1);
    reads(r, 0, -1);
    close_store();
}

// Makes `copy` a store whose partition has four records and goes on behind a gap, at offset 10.
static void make_gap(char copy[SCRATCH_PATH]) {
    char path[SCRATCH_PATH];
    size_t size;
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_topic("t", 1);
    send_many(0, 10);
    leat_consumer *c = member("g", NULL, "t");
    cr_assert_eq(drain(c), 10);
    ok(leat_commit(c));
    snprintf(copy, SCRATCH_PATH, "%.1000s.cut", dir);
    scratch_copy(dir, copy); // before anything is synced
    close_store();
    scratch_join(path, copy, "1/0/%020d.log", 0);
    unsigned char *bytes = scratch_read(path, &size);
    memset(bytes + 4096 + 40 * 4, 0, size - 4096 - 40 * 4); // the disk has four records
    scratch_write(path, bytes, size);
    free(bytes);
}

static bool no_memory;

static void *allocate(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0)
        free(old);
    return size == 0 || no_memory ? NULL : realloc(old, size);
}

Test(reader, stands_before_a_gap_when_the_next_segment_cannot_be_begun, .init = make_dir,
     .fini = drop_dir) {
    static char large[20000]; // more than a segment has room for
    char copy[SCRATCH_PATH];
    make_gap(copy);
    ok(leat_open(copy, &(leat_options){ .acks = LEAT_ACKS_LOG, .alloc = allocate }, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, NULL, &p));
    leat_reader *r = reader_at(0, 3), *late = reader_at(0, 4);
    reads(r, 0, 3);
    no_memory = true;
    fails(LEAT_ENOMEM, leat_send(p, t, &(leat_record){ .value = { large, sizeof large } }, NULL));
    no_memory = false;
    reads(r, 0, -1);
    reads(late, 0, -1);
    send_many(0, 1);
    reads(r, 0, 10);
    ok(leat_reader_close(r));
    ok(leat_reader_close(late));
    close_store();
    scratch_remove(copy);
}

Test(reader, steps_over_a_gap, .init = make_dir, .fini = drop_dir) {
    char copy[SCRATCH_PATH];
    make_gap(copy);
    for (int round = 0; round < 3; round++) { // looked at, opened, looked at
        leat_options o = { .acks = LEAT_ACKS_LOG, .flags = round != 1 ? LEAT_READ_ONLY : 0 };
        ok(leat_open(copy, &o, &mq));
        ok(leat_topic_open(mq, "t", NULL, &t));
        if (round < 2) {
            leat_reader *e = reader_at(0, LEAT_END); // behind the gap, in front of nothing
            reads(e, 0, -1);
            reads(e, 1, 3);
            reads(e, 0, 3);
            reads(e, 0, -1);
            reads(e, 1, 3);
            leat_reader *b = reader_at(0, 4); // in front of it
            reads(b, 0, -1);
            reads(b, 1, 3);
        }
        if (round == 0) {
            close_store();
            continue;
        }
        if (round == 1) {
            ok(leat_producer_open(mq, NULL, &p));
            send_many(0, 2);
        }
        leat_reader *r = reader_at(0, LEAT_BEGIN);
        for (int64_t i = 0; i < 4; i++)
            reads(r, 0, i);
        reads(r, 0, 10);
        reads(r, 1, 10);
        reads(r, 1, 3);
        reads(r, 0, 3);
        reads(r, 0, 10);
        reads(r, 0, 11);
        reads(r, 0, -1);
        leat_reader *inside = reader_at(0, 7);
        reads(inside, 1, 3);
        ok(leat_reader_close(inside));
        inside = reader_at(0, 7);
        reads(inside, 0, 10);
        close_store();
    }
    scratch_remove(copy);
}

Test(reader, tells_a_damaged_record_once_and_goes_on, .init = make_dir, .fini = drop_dir) {
    char path[SCRATCH_PATH];
    leat_message m;
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_topic("t", 1);
    send_many(0, 1000);
    close_store();
    scratch_join(path, dir, "1/0/%020d.log", 0);
    for (int i = 2; i < 4; i++) // in the values of records 2 and 3
        scratch_poke(path, 4096 + 40 * (size_t)i + 34, "?", 1);
    for (int skip = 0; skip < 2; skip++) {
        ok(leat_open(dir, &(leat_options){ .flags = skip ? LEAT_SKIP_ROT : 0 }, &mq));
        ok(leat_topic_open(mq, "t", NULL, &t));
        leat_reader *r = reader_at(0, 1);
        for (int round = 0; round < 2; round++) {
            reads(r, 0, 1);
            if (!skip) {
                fails_saying(LEAT_ECORRUPT, "offset 2", leat_reader_next(r, 0, &m));
                cr_assert_eq(m.view, 0);
                fails_saying(LEAT_ECORRUPT, "offset 3", leat_reader_next(r, 0, &m));
            }
            reads(r, 0, 4);
            reads(r, 1, 4);
            if (!skip) {
                fails_saying(LEAT_ECORRUPT, "offset 3", leat_reader_next(r, 1, &m));
                fails_saying(LEAT_ECORRUPT, "offset 2", leat_reader_next(r, 1, &m));
            }
            reads(r, 1, 1);
        }
        if (!skip) {
            leat_reader *s = reader_at(0, 3); // there and back over the same one
            fails_saying(LEAT_ECORRUPT, "offset 3", leat_reader_next(s, 0, &m));
            fails_saying(LEAT_ECORRUPT, "offset 3", leat_reader_next(s, 1, &m));
            fails_saying(LEAT_ECORRUPT, "offset 3", leat_reader_next(s, 0, &m));
            reads(s, 0, 4);
        }
        close_store();
    }
}

Test(reader, a_message_lives_until_the_next_call_or_as_long_as_it_is_held) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 1000);
    leat_reader *r = reader_at(0, LEAT_BEGIN);
    leat_message m, kept, none;
    gives(1, leat_reader_next(r, 0, &m));
    fails(LEAT_EINVAL, leat_message_release(mq, &m)); // it is the reader's
    ok(leat_message_hold(mq, &m, &kept));
    gives(1, leat_reader_next(r, 1, &none));
    fails(LEAT_ESTALE, leat_message_hold(mq, &m, &none));
    m = none;
    (void)leat_reader_next(r, 1, &none); // also one that finds nothing
    fails(LEAT_ESTALE, leat_message_hold(mq, &m, &none));
    for (int64_t i = 0; i < 1000; i++)
        reads(r, 0, i); // into other segments
    leat_message last;
    gives(1, leat_reader_next(r, 1, &last));
    ok(leat_reader_close(r));
    fails(LEAT_ESTALE, leat_message_hold(mq, &last, &none));
    ok(leat_topic_delete_records(t, 0, LEAT_END));
    is(kept.value, "0/0");
    ok(leat_message_release(mq, &kept));
    close_store();
}

Test(reader, says_when_its_topic_is_deleted) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 3);
    leat_reader *r = reader_at(0, LEAT_BEGIN), *s;
    leat_message m, next;
    gives(1, leat_reader_next(r, 0, &m));
    ok(leat_topic_delete(mq, "t"));
    is(m.value, "0/0");
    fails(LEAT_EGONE, leat_reader_next(r, 0, &next));
    fails(LEAT_EGONE, leat_reader_next(r, 1, &next));
    fails(LEAT_EGONE, leat_reader_open(t, 0, 0, &s));
    ok(leat_reader_close(r));
    close_store();
}

Test(reader, looks_at_a_store_beside_its_owner, .init = make_dir, .fini = drop_dir) {
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_topic("t", 1);
    send_many(0, 1000);
    leat *own = mq, *view;
    ok(leat_open(dir, &(leat_options){ .flags = LEAT_READ_ONLY }, &view));
    mq = view;
    ok(leat_topic_open(mq, "t", NULL, &t));
    expects_all(0, 1000);
    close_store();
    mq = own;
    close_store();
}

static void try_in_callback(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s, (void)m;
    leat_message next;
    leat_reader *r;
    fails(LEAT_EDEADLK, leat_reader_open(t, 0, 0, &r));
    fails(LEAT_EDEADLK, leat_reader_next(ctx, 0, &next));
    fails(LEAT_EDEADLK, leat_reader_close(ctx));
}

Test(reader, wrong_arguments) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 3);
    leat_reader *r = NULL;
    leat_message m;
    fails(LEAT_EINVAL, leat_reader_open(NULL, 0, 0, &r));
    fails(LEAT_EINVAL, leat_reader_open(t, 0, 0, NULL));
    static const struct {
        int64_t offset;
        int32_t partition;
        int code;
    } bad[] = { { 0, 1, LEAT_ERANGE },
                { 0, -1, LEAT_ERANGE },
                { 0, INT32_MIN, LEAT_ERANGE },
                { 4, 0, LEAT_ERANGE },
                { -1, 0, LEAT_ERANGE },
                { INT64_MAX, 0, LEAT_ERANGE },
                { INT64_MIN, 0, LEAT_EINVAL },
                { LEAT_AT(-1), 0, LEAT_EINVAL },
                { LEAT_SHIFT(0), 0, LEAT_EINVAL } };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int rc = leat_reader_open(t, bad[i].partition, bad[i].offset, &r);
        cr_assert_eq(rc, bad[i].code, "%zu: %s: %s", i, leat_errname(rc), leat_errmsg());
        cr_assert_null(r);
    }
    r = reader_at(0, LEAT_BEGIN);
    fails(LEAT_EINVAL, leat_reader_next(NULL, 0, &m));
    fails(LEAT_EINVAL, leat_reader_next(r, 0, NULL));
    fails(LEAT_EINVAL, leat_reader_close(NULL));
    reads(r, 0, 0);
    ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, LEAT_FOREVER, 0));
    leat_reader *none;
    fails(LEAT_ENOMEM, leat_reader_open(t, 0, 0, &none));
    ok(leat_fault_clear(mq));
    leat_subscription *s;
    ok(leat_channel_subscribe(mq, "ch", try_in_callback, r, NULL, &s));
    gives(1, leat_publish(mq, "ch", "x", 1));
    ok(leat_subscription_close(s, 0));
    ok(leat_producer_close(p, 0));
    fails_saying(LEAT_EBUSY, "reader", leat_close(mq, 0)); // it is named
    reads(r, 0, 1);
    ok(leat_shutdown(mq));
    fails(LEAT_ECLOSED, leat_reader_next(r, 0, &m));
    fails(LEAT_ECLOSED, leat_reader_open(t, 0, 0, &none));
    ok(leat_reader_close(r));
    close_store();
}

Test(reader, without_room_for_a_view_it_does_not_move) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 3);
    leat_reader *r = reader_at(0, LEAT_BEGIN);
    leat_message m;
    ok(leat_fault_push(mq, LEAT_OP_MEMORY, NULL, -1, LEAT_ENOMEM, LEAT_FOREVER, 0));
    int rc = leat_reader_next(r, 0, &m);
    ok(leat_fault_clear(mq));
    cr_assert_eq(rc, LEAT_ENOMEM);
    cr_assert_eq(m.view, 0);
    reads(r, 0, 0);
    close_store();
}

// Two threads use one reader: each call is done, or LEAT_EBUSY.
struct two {
    leat_reader *r;
    atomic_int done, busy;
};

static void *read_on(void *ctx) {
    struct two *two = ctx;
    leat_message m;
    for (int i = 0; i < 20000; i++) {
        int rc = leat_reader_next(two->r, i % 3 == 0, &m);
        cr_assert(rc == LEAT_EBUSY || rc == 0 || rc == 1, "%s", leat_errmsg());
        atomic_fetch_add(rc == LEAT_EBUSY ? &two->busy : &two->done, 1);
    }
    return NULL;
}

Test(reader, belongs_to_one_thread_at_a_time) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 1000);
    struct two two = { .r = reader_at(0, LEAT_BEGIN) };
    pthread_t thread[2];
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, read_on, &two), 0);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    cr_assert_gt(atomic_load(&two.done), 0);
    cr_assert_eq(atomic_load(&two.done) + atomic_load(&two.busy), 40000);
    close_store();
}
