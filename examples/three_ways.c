/* SPDX-License-Identifier: MIT */
// three_ways: the same orders as a stream, as work and as a live feed, at once. What to look at:
// of a group a fifth member of four partitions idles, but a fifth worker of a queue works; who is
// slow loses nothing of stream and work, but of the feed what he has no room for; who comes late
// finds all of the stream, what is left of the work, nothing of the feed; who dies gives it back.
#include "leat.h"
#include "leat_test.h"

#include <stdio.h>
#include <stdlib.h>

static int must(int rc) {
    if (rc >= 0)
        return rc;
    fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
    exit(1);
}

static void hear(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    ++*(int *)ctx;
}

static leat_consumer *join(leat *mq, const char *group) {
    leat_consumer *c;
    must(leat_consumer_open(mq, group, NULL, &c));
    must(leat_consumer_subscribe(c, "orders"));
    return c;
}

int main(void) {
    int listened = 0, late = 0, again = 0;
    leat *mq;
    leat_topic *orders;
    leat_queue *packing;
    leat_producer *p;
    leat_subscription *s, *slow;
    leat_consumer *member[5];
    const leat_message *read;
    leat_message order;
    must(leat_test_open(&mq)); // no threads, and time that the program moves
    leat_topic_options four = { .partitions = 4, .announce_on = "orders.live" };
    must(leat_topic_open(mq, "orders", &four, &orders));
    must(leat_queue_open(mq, "packing", &(leat_queue_options){ .topic = "orders" }, &packing));
    must(leat_channel_subscribe(mq, "orders.live", hear, &listened, NULL, &s));
    leat_subscription_options two = { .buffer = 2 }; // more drop the oldest
    must(leat_channel_subscribe(mq, "orders.live", NULL, NULL, &two, &slow));
    must(leat_producer_open(mq, &(leat_producer_options){ .partitioner = LEAT_ROUND_ROBIN }, &p));
    for (int i = 0; i < 8; i++)
        must(leat_send(p, orders, &(leat_record){ .value = LEAT_STR("an order") }, NULL));
    must(leat_dispatch(mq, 0)); // here the callbacks run
    must(leat_channel_subscribe(mq, "orders.live", hear, &late, NULL, &s));
    printf("feed:   who listened heard %d, who came late %d", listened, late);
    must(leat_subscription_next(slow, 0, &order)); // it looks now
    printf("; who is slow is told that %d were dropped\n", (int)order.dropped);
    must(leat_message_release(mq, &order));
    for (int i = 0; i < 5; i++)
        member[i] = join(mq, "billing");
    printf("stream: five members of billing read");
    for (int i = 0; i < 5; i++)
        printf(" %d", must(leat_poll(member[i], 0, &read)));
    printf("; audit, late, reads %d\n", must(leat_poll(join(mq, "audit"), 0, &read)));
    printf("work:   five packers take");
    for (int i = 0; i < 5; i++) {
        printf(" %d", must(leat_queue_receive(packing, 0, &order, 1)));
        must(i < 4 ? leat_queue_ack(packing, &order) : leat_message_release(mq, &order));
    }
    must(leat_clock_advance(mq, 30000)); // the fifth died: his lease runs out
    while (must(leat_queue_receive(packing, 0, &order, 1)) > 0) {
        again += order.deliveries == 2;
        must(leat_queue_ack(packing, &order));
    }
    printf("; the fifth dies, and %d comes again\n", again);
    return leat_close_all(mq, 0) >= 0 && listened == 8 && again == 1 ? 0 : 1;
}
