/* SPDX-License-Identifier: MIT */
// stream: written once, read by many. Two groups read the same topic, each from its own position;
// one of them stops in the middle, and its next member goes on exactly there. What to look at: the
// log does not change when it is read, and a group is only a position in it.
#include "leat.h"

#include <stdio.h>
#include <stdlib.h>

static void must(int rc) {
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
        exit(1);
    }
}

// Reads and commits one poll of at most `max` messages as a member of the group.
static void read_some(leat *mq, const char *group, int max) {
    leat_consumer *c;
    const leat_message *m;
    must(leat_consumer_open(mq, group, &(leat_consumer_options){ .max_poll_records = max }, &c));
    must(leat_consumer_subscribe(c, "orders"));
    int n = leat_poll(c, 0, &m);
    must(n);
    for (int i = 0; i < n; i++)
        printf("%-8s offset %lld: %s\n", group, (long long)m[i].offset,
               (const char *)m[i].value.data);
    must(leat_commit(c));
    must(leat_consumer_close(c));
}

int main(void) {
    leat *mq;
    leat_topic *orders;
    leat_producer *p;
    must(leat_open_memory(NULL, &mq));
    must(leat_topic_open(mq, "orders", NULL, &orders));
    must(leat_producer_open(mq, NULL, &p));
    const char *lines[] = { "one tea", "two coffees", "a cake", "the bill" };
    for (int i = 0; i < 4; i++)
        must(leat_send(p, orders, &(leat_record){ .value = leat_str(lines[i]) }, NULL));

    read_some(mq, "kitchen", 3); // stops after three
    read_some(mq, "billing", 4); // is not disturbed by that
    read_some(mq, "kitchen", 3); // another member goes on where the first one committed
    return leat_close_all(mq, 0) == 0 ? 0 : 1;
}
