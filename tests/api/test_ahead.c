/* SPDX-License-Identifier: MIT */
// Pages of a segment are made ready ahead of what is written, many at a time where little is
// synced: that never touches what stands in the file.
#include "leat.h"
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { STEP = 3 << 20, VALUE_MAX = 5000 };

static unsigned next_random(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

// Record i: its bytes hang on i alone. Returns  its size.
static size_t make(char *value, unsigned i) {
    unsigned state = i * 2654435761u;
    size_t size = 1 + next_random(&state) % VALUE_MAX;
    memset(value, (char)('a' + i % 26), size);
    (void)snprintf(value, size, "%u", i);
    return size;
}

// Sends until about STEP bytes more are in the log. Returns  the number of the next record.
static unsigned send_step(leat *mq, unsigned i) {
    static char value[VALUE_MAX + 1];
    leat_topic *t;
    leat_producer *p;
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p));
    for (size_t sent = 0; sent < STEP; i++) {
        size_t size = make(value, i);
        leat_record r = { .value = { value, size } };
        ok(leat_send(p, t, &r, NULL));
        sent += size;
    }
    return i;
}

static void check_all(leat *mq, unsigned n) {
    static char value[VALUE_MAX + 1];
    leat_topic *t;
    leat_reader *reader;
    leat_message m;
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_reader_open(t, 0, LEAT_BEGIN, &reader));
    for (unsigned i = 0; i < n; i++) {
        size_t size = make(value, i);
        cr_assert_eq(leat_reader_next(reader, 0, &m), 1, "record %u: %s", i, leat_errmsg());
        cr_assert(m.value.size == size && memcmp(m.value.data, value, size) == 0,
                  "record %u has other bytes", i);
    }
    gives(0, leat_reader_next(reader, 0, &m));
    ok(leat_reader_close(reader));
}

// Over opens after a close and after a kill, which end anywhere in a page.
Test(ahead, what_stands_in_the_file_is_never_filled_over) {
    char root[SCRATCH_PATH], now[SCRATCH_PATH], next[SCRATCH_PATH];
    unsigned n = 0;
    scratch_make(root);
    scratch_join(now, root, "0");
    for (int round = 0; round < 6; round++) {
        leat *mq;
        ok(leat_open(now, NULL, &mq));
        check_all(mq, n);
        n = send_step(mq, n);
        check_all(mq, n);
        if (round % 2) { // killed: what is in the page cache is there
            scratch_join(next, root, "%d", round);
            scratch_copy(now, next);
            memcpy(now, next, sizeof now);
        }
        ok(leat_close_all(mq, 0));
    }
    scratch_remove(root);
}
