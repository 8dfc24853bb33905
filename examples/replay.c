/* SPDX-License-Identifier: MIT */
// replay: a group has read the orders of three days; a bug is found in what it did since tuesday.
// It is set back by time and reads again; the last records are looked at backwards, without a
// group. What to look at: the log does not change, and a reader stands between two records.
#include "leat_test.h" // the days pass at once

#include <stdio.h>
#include <stdlib.h>

enum { DAY_MS = 24 * 3600 * 1000 };
static const char *const lines[] = { "monday: a tea",  "monday: two coffees", "tuesday: a cake",
                                     "tuesday: a tea", "wednesday: a soup",   "wednesday: a tea" };

static void must(int rc) {
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
        exit(1);
    }
}

static void bill(leat *mq, const char *what) { // reads and commits all there is
    leat_consumer *c;
    const leat_message *m;
    must(leat_consumer_open(mq, "billing", NULL, &c));
    must(leat_consumer_subscribe(c, "orders"));
    int n = leat_poll(c, 0, &m);
    must(n);
    for (int i = 0; i < n; i++)
        printf("%s: %s\n", what, (const char *)m[i].value.data);
    must(leat_commit(c));
    must(leat_consumer_close(c));
}

int main(void) {
    leat *mq;
    leat_topic *orders;
    leat_producer *p;
    leat_reader *r;
    leat_message m;
    int64_t monday_ms;
    must(leat_open_memory(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, &mq));
    must(leat_topic_open(mq, "orders", NULL, &orders));
    must(leat_producer_open(mq, NULL, &p));
    must(leat_clock_now(mq, NULL, &monday_ms));
    for (int i = 0; i < 6; i++) {
        must(leat_send(p, orders, &(leat_record){ .value = leat_str(lines[i]) }, NULL));
        must(leat_clock_advance(mq, i % 2 ? DAY_MS : 0));
    }
    bill(mq, "billed");
    leat_position tuesday = { .topic = "orders", .offset = LEAT_AT(monday_ms + DAY_MS) };
    must(leat_group_reset(mq, "billing", &tuesday, 1)); // nobody may be in the group meanwhile
    bill(mq, "billed again");
    must(leat_reader_open(orders, 0, LEAT_END, &r));
    for (int i = 0; i < 3 && leat_reader_next(r, 1, &m) == 1; i++)
        printf("from the end: offset %d, %s\n", (int)m.offset, (const char *)m.value.data);
    must(leat_reader_close(r));
    return m.offset == 3 && leat_close_all(mq, 0) == 0 ? 0 : 1;
}
