/* SPDX-License-Identifier: MIT */
// dead_letter: what could not be sent is not lost. The callback of an asynchronous send gets the
// record with the error, and hands it to another topic. The failures are made with a planned fault,
// as a test would. What to look at: every record is in one of the two topics, and the callback may
// send.
#include "leat_test.h"

#include <stdio.h>
#include <stdlib.h>

struct counts {
    leat_topic *dead;
    int stored, failed;
};

static void must(int rc) {
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
        exit(1);
    }
}

static void on_report(leat_producer *p, const leat_report *r, void *ctx) {
    struct counts *n = ctx;
    if (r->error == 0) {
        n->stored++;
        return;
    }
    printf("%s, to the dead letters: %s\n", leat_errname(r->error),
           (const char *)r->record->value.data);
    leat_header why = { .name = LEAT_STR("why"), .value = leat_str(r->message) };
    leat_record copy = *r->record; // a view: its bytes are copied by the send
    copy.to_partition = 0;         // of the other topic
    copy.headers = &why, copy.header_count = 1;
    must(leat_send(p, n->dead, &copy, NULL));
    n->failed++;
}

int main(void) {
    leat *mq;
    leat_topic *orders;
    leat_producer *p;
    leat_range range = { 0 };
    struct counts n = { 0 };
    // Each record is a batch of its own (.batch_bytes), and is tried once.
    leat_producer_options o = { .batch_bytes = 1, .delivery_timeout_ms = LEAT_ZERO };
    must(leat_open_memory(NULL, &mq));
    must(leat_topic_open(mq, "orders", NULL, &orders));
    must(leat_topic_open(mq, "orders.dead", NULL, &n.dead));
    must(leat_producer_open(mq, &o, &p));
    must(leat_fault_push(mq, LEAT_OP_APPEND, "orders", 0, LEAT_ENOSPC, 2, 0));
    const char *lines[] = { "one tea", "two coffees", "a cake", "the bill" };
    for (int i = 0; i < 4; i++)
        must(leat_send_async(p, orders, &(leat_record){ .value = leat_str(lines[i]) }, on_report,
                             &n));
    must(leat_flush(p, LEAT_FOREVER)); // all is told
    must(leat_topic_range(n.dead, 0, &range));
    printf("%d stored, %d dead letters\n", n.stored, (int)range.end);
    return leat_close_all(mq, 0) == 0 && n.stored == 2 && n.failed == range.end ? 0 : 1;
}
