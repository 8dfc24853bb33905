/* SPDX-License-Identifier: MIT */
// recovered: what the tests of recovery share: a store at `dir` in each way of writing, records
// that are known by their offsets, its death, its files, and the open that is refused.
#ifndef LEAT_TESTS_LIB_RECOVERED_H
#define LEAT_TESTS_LIB_RECOVERED_H

#include "base/bytes.h" // the fixture's names would shadow some of these
#include "log/format.h"
#include "store/store.h"

#include "lib/copy.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static char again[SCRATCH_PATH]; // beside `copy`
static int32_t mode;             // LEAT_WRITE_MAPPED, LEAT_WRITE_PWRITE
static int warnings;

static inline void make_places(void) {
    make_root();
    scratch_join(again, root, "again");
}

static inline void count_warnings(int level, const char *text, void *ctx) {
    (void)ctx;
    warnings += level == LEAT_LOG_WARNING && text[0] != '\0';
}

// What these tests look at is the page cache, so that a sync would only cost time.
static inline int no_sync(struct lt_os *os, int fd, bool is_dir) {
    (void)os;
    (void)fd;
    (void)is_dir;
    return 0;
}

static inline int open_at(const char *path) {
    static struct lt_os os;
    os = *lt_os_system();
    os.sync = no_sync;
    leat_options o = { .write = mode, .clock = LEAT_CLOCK_MANUAL, .log = count_warnings };
    warnings = 0;
    return lt_store_open(path, &o, &os, &mq);
}

static inline void use(const char *path) {
    ok(open_at(path));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
    ok(leat_producer_open(mq, NULL, &p));
}

static inline void done(void) {
    ok(leat_close_all(mq, 0));
}

// The store at dir is left as by a process that was killed, and not closed.
static inline void die(void) {
    scratch_copy(dir, copy);
    done();
    scratch_remove(dir);
    scratch_copy(copy, dir);
    scratch_remove(copy);
}

// Each record's text depends on its offset only, so that a reader knows what it must find.
static inline void text_of(int64_t offset, char text[64]) {
    snprintf(text, 64, "record %lld %.*s", (long long)offset, (int)(offset % 30),
             "..............................");
}

static inline void send_n(int32_t acks, int n) {
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
static inline void holds(int64_t end) {
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

static inline void log_path(char out[SCRATCH_PATH], const char *store, int64_t base) {
    scratch_join(out, store, "1/0/%020lld.log", (long long)base);
}

// Tells where the records of a segment stand: at[0 .. result], the last one is the end.
static inline int layout(const char *path, int64_t base, size_t at[1024]) {
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
static inline int bases_of(const char *store, int64_t base[64]) {
    char *list = scratch_listing(store);
    int n = 0;
    for (char *line = strtok(list, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, "1/0/", 4) == 0 && strstr(line, ".log ") && n < 64)
            base[n++] = strtoll(line + 4, NULL, 10);
    free(list);
    return n;
}

static inline void same(const char *before, const char *after) {
    cr_assert_str_eq(before, after, "the directory has changed");
}

// An open of the store fails, twice, says these words, and changes nothing.
static inline void refused(const char *store, int code, const char *words) {
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

static inline void next_mode(void) {
    scratch_remove(dir);
    scratch_remove(copy);
    scratch_remove(again);
}

// Makes a store of several segments at dir; of_kill: as a killed process left it, all at LOG.
static inline int make_segments(bool of_kill, int64_t base[64]) {
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

#endif
