/* SPDX-License-Identifier: MIT */
// Stores written by earlier versions, kept in tests/golden/<format version>: every later version
// must read them. `closed` was closed, `killed` is what kill -9 left of the same. A new version of
// the format gets a directory of its own beside the old ones:
//   LEAT_GOLDEN_MAKE=tests/golden/v2 build/release/tests/log_golden
#include "leat.h"
#include "leat_test.h"
#include "lib/place.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS = 400, BATCH = 12, JOBS = 8, START_MS = 2000000 };
static const char *const versions[] = { "v1" };

// Record i of topic "orders": every shape that there is.
static leat_record shape(int i, char text[160], leat_header header[2]) {
    (void)snprintf(text, 160, "order %d %.*s", i, i % 97,
                   "........................................................................"
                   ".........................");
    header[0] = (leat_header){ LEAT_STR("trace"), leat_str(text) };
    header[1] = (leat_header){ LEAT_STR("none"), { NULL, 0 } };
    leat_record r = { .key = leat_str(text),
                      .value = leat_str(text),
                      .timestamp_ms = 5000 + (i ^ 3),
                      .to_partition = LEAT_PARTITION(i % 2) };
    if (i % 5 == 1)
        r.key = (leat_bytes){ NULL, 0 };
    if (i % 5 == 2)
        r.value = (leat_bytes){ NULL, 0 }; // a tombstone
    if (i % 5 == 3)
        r.value = LEAT_STR("");
    if (i % 5 == 4) {
        r.headers = header;
        r.header_count = 2;
    }
    return r;
}

static void same_bytes(leat_bytes a, leat_bytes b) {
    cr_assert_eq(a.data == NULL, b.data == NULL);
    cr_assert(a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0));
}

static void make_stream(leat *mq) {
    leat_topic *t, *gone;
    leat_producer *p;
    char text[160];
    leat_header header[2];
    ok(leat_topic_open(mq, "gone", NULL, &gone));
    ok(leat_topic_open(mq, "orders",
                       &(leat_topic_options){ .partitions = 2, .segment_bytes = 16384 }, &t));
    ok(leat_producer_open(mq, NULL, &p));
    for (int i = 0; i < RECORDS; i++) {
        leat_record r = shape(i, text, header);
        ok(leat_send(p, t, &r, NULL));
    }
    ok(leat_send(p, gone, &(leat_record){ .value = LEAT_STR("gone") }, NULL));
    ok(leat_topic_delete(mq, "gone"));
    leat_record batch[BATCH];
    char texts[BATCH][160];
    for (int i = 0; i < BATCH; i++) {
        batch[i] = shape(RECORDS + i, texts[i], header);
        batch[i].headers = NULL;
        batch[i].header_count = 0;
        batch[i].to_partition = LEAT_PARTITION(i % 2);
    }
    ok(leat_send_many(p, t, batch, BATCH, NULL));
    leat_consumer *c;
    const leat_message *m;
    ok(leat_consumer_open(mq, "billing", &(leat_consumer_options){ .max_poll_records = 30 }, &c));
    ok(leat_consumer_subscribe(c, "orders"));
    gives(30, leat_poll(c, 0, &m));
    ok(leat_commit(c));
}

// Of 8 jobs 0 and 1 are done, 2 is dead, 3 waits out a nack, 4 is leased, the others are untouched.
static void make_queue(leat *mq) {
    leat_queue *q, *dead;
    leat_message m;
    char text[32];
    ok(leat_queue_open(mq, "dead", NULL, &dead));
    ok(leat_queue_open(mq, "jobs",
                       &(leat_queue_options){ .deliveries_max = 1,
                                              .dead_letter = "dead",
                                              .visibility_timeout_ms = 5000 },
                       &q));
    for (int i = 0; i < JOBS; i++) {
        (void)snprintf(text, sizeof text, "job %d", i);
        ok(leat_queue_send(q, &(leat_record){ .value = leat_str(text) }, NULL));
    }
    for (int i = 0; i < 2; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_ack(q, &m));
    }
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_nack(q, &m, 0, 0)); // its last try
    ok(leat_queue_open(mq, "jobs",
                       &(leat_queue_options){ .flags = LEAT_ALTER, .deliveries_max = 9 }, &q));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_nack(q, &m, 60000, 0));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_message_release(mq, &m));
}

static leat_options options(int64_t start_ms) {
    return (leat_options){ .clock = LEAT_CLOCK_MANUAL, .start_ms = start_ms, .seed = 1 };
}

static void make(const char *at) {
    char path[SCRATCH_PATH];
    leat *mq;
    leat_options o = options(START_MS);
    scratch_mkdir(at);
    ok(leat_open(dir, &o, &mq));
    make_stream(mq);
    make_queue(mq);
    scratch_join(path, at, "killed");
    scratch_copy(dir, path);
    ok(leat_close_all(mq, 0));
    scratch_join(path, at, "closed");
    scratch_copy(dir, path);
    scratch_remove(dir);
}

static void check_stream(leat *mq) {
    leat_topic *t, *gone;
    leat_consumer *c;
    const leat_message *m;
    leat_topic_options exists = { .flags = LEAT_MUST_EXIST, .partitions = 2 };
    fails(LEAT_ENOENT, leat_topic_open(mq, "gone", &exists, &gone));
    ok(leat_topic_open(mq, "orders", &exists, &t));
    for (int part = 0; part < 2; part++) {
        leat_position at = { .topic = "orders", .offset = LEAT_BEGIN, .partition = part };
        ok(leat_consumer_open(mq, NULL, NULL, &c));
        ok(leat_consumer_assign(c, &at, 1));
        int next = part;
        for (int n; (n = leat_poll(c, 0, &m)) > 0;)
            for (int k = 0; k < n; k++, next += 2) {
                char text[160];
                leat_header header[2], is_header;
                leat_record r = shape(next, text, header);
                same_bytes(m[k].key, r.key);
                same_bytes(m[k].value, r.value);
                cr_assert(m[k].offset == next / 2 && m[k].timestamp_ms == 5000 + (next ^ 3));
                cr_assert_eq(m[k].header_count, next < RECORDS ? r.header_count : 0);
                for (size_t h = 0; h < m[k].header_count; h++) {
                    gives(1, leat_message_header(&m[k], h, &is_header));
                    same_bytes(is_header.name, header[h].name);
                    same_bytes(is_header.value, header[h].value);
                }
            }
        cr_assert_eq(next, RECORDS + BATCH + part);
        ok(leat_consumer_close(c));
    }
    leat_position committed[2];
    ok(leat_consumer_open(mq, "billing", NULL, &c));
    ok(leat_consumer_subscribe(c, "orders"));
    gives(2, leat_consumer_positions(c, 1, committed, 2));
    cr_assert_eq((committed[0].offset > 0 ? committed[0].offset : 0) +
                     (committed[1].offset > 0 ? committed[1].offset : 0),
                 30);
    ok(leat_consumer_close(c));
}

static void check_queue(leat *mq) {
    leat_queue *q, *dead;
    leat_message m;
    leat_header h;
    leat_queue_options exists = { .flags = LEAT_MUST_EXIST };
    ok(leat_queue_open(mq, "jobs", &exists, &q));
    ok(leat_queue_open(mq, "dead", &exists, &dead));
    gives(1, leat_queue_receive(dead, 0, &m, 1));
    is(m.value, "job 2");
    gives(1, leat_message_header(&m, 0, &h));
    is(h.name, "leat.queue");
    is(h.value, "jobs");
    cr_assert(m.header_count == 6 || m.header_count == 7); // six were added once
    gives(1, leat_message_header(&m, m.header_count - 1, &h));
    is(h.name, "leat.reason");
    ok(leat_queue_nack(dead, &m, 0, 0));
    leat_queue *other;
    ok(leat_queue_open(mq, "other", NULL, &other));
    ok(leat_queue_redrive(dead, other, 0, NULL));
    gives(1, leat_queue_receive(other, 0, &m, 1));
    gives(0, leat_message_header(&m, 0, &h));
    ok(leat_queue_ack(other, &m));
    for (int i = 4; i < JOBS; i++) { // what was leased is available again
        char text[32];
        (void)snprintf(text, sizeof text, "job %d", i);
        gives(1, leat_queue_receive(q, 0, &m, 1));
        is(m.value, text);
        cr_assert_eq(m.deliveries, i == 4 ? 2 : 1);
        ok(leat_queue_ack(q, &m));
    }
    gives(0, leat_queue_receive(q, 0, &m, 1));
    ok(leat_clock_advance(mq, 60000));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    is(m.value, "job 3");
    cr_assert_eq(m.deliveries, 2);
    ok(leat_queue_ack(q, &m));
    gives(0, leat_queue_receive(q, 0, &m, 1));
}

static void check(const char *at) {
    for (int twice = 0; twice < 2; twice++) {
        leat *mq;
        leat_options o = options(START_MS);
        o.write = twice ? LEAT_WRITE_PWRITE : LEAT_WRITE_MAPPED;
        scratch_copy(at, dir);
        ok(leat_open(dir, &o, &mq));
        check_stream(mq);
        check_queue(mq);
        leat_producer *p;
        leat_topic *t;
        leat_metadata md;
        ok(leat_producer_open(mq, NULL, &p)); // and it goes on where it ended
        ok(leat_topic_open(mq, "orders", NULL, &t));
        leat_record r = { .value = LEAT_STR("new"), .to_partition = LEAT_PARTITION(1) };
        ok(leat_send(p, t, &r, &md));
        cr_assert_eq(md.offset, (RECORDS + BATCH) / 2);
        ok(leat_close_all(mq, 0));
        ok(leat_open(dir, &o, &mq));
        ok(leat_close_all(mq, 0));
        scratch_remove(dir);
    }
}

Test(golden, what_is_written_now_is_what_the_check_expects, .init = make_root, .fini = drop_root) {
    const char *asked = getenv("LEAT_GOLDEN_MAKE");
    char at[SCRATCH_PATH], path[SCRATCH_PATH];
    scratch_join(at, root, "made");
    make(at);
    scratch_join(path, at, "closed");
    check(path);
    scratch_join(path, at, "killed");
    check(path);
    if (asked)
        scratch_copy(at, asked);
}

Test(golden, every_version_of_the_format_is_read, .init = make_root, .fini = drop_root) {
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        char path[SCRATCH_PATH];
        scratch_join(path, GOLDEN, "%s/closed", versions[i]);
        check(path);
        scratch_join(path, GOLDEN, "%s/killed", versions[i]);
        check(path);
    }
}

// The worked example in src/log/README.md, a line of it "offset  bytes  | what they are", is what
// stands in the first golden store.
Test(golden, the_worked_example_is_true, .init = make_root, .fini = drop_root) {
    char path[SCRATCH_PATH];
    size_t size, all_size;
    scratch_join(path, GOLDEN, "v1/closed/2/0/%020d.log", 0);
    unsigned char *all = scratch_read(path, &all_size);
    unsigned char *text = scratch_read(EXAMPLE, &size);
    char *line = strstr((char *)text, "### Worked example");
    cr_assert_not_null(line);
    int lines = 0;
    for (line = strtok(line, "\n"); line && strncmp(line, "### ", 4) == 0;
         line = strtok(NULL, "\n"))
        ;
    for (; line && line[0] != '#'; line = strtok(NULL, "\n")) {
        unsigned at, byte;
        int used;
        if (sscanf(line, " %4u %n", &at, &used) != 1)
            continue;
        const char *hex = line + used;
        for (; sscanf(hex, "%2x%n", &byte, &used) == 1 && used == 2; hex += 2 + (hex[2] == ' ')) {
            cr_assert_lt(at, all_size);
            cr_assert_eq(all[at], byte, "byte %u is %02x, the README says %02x", at, all[at], byte);
            at++;
        }
        lines++;
    }
    cr_assert_geq(lines, 15);
    free(all);
    free(text);
}
