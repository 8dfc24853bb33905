/* SPDX-License-Identifier: MIT */
// leat_consumer_explain: why a poll returns nothing now.
#include "lib/report.h"
#include "lib/stream.h"

static void explain(leat_consumer *c) {
    report_begin();
    ok(leat_consumer_explain(c, report_take, NULL));
}

Test(explain, a_fifth_member_of_four_partitions_is_idle_and_told_why) {
    open_memory(LEAT_CLOCK_MANUAL, 4);
    const leat_message *m;
    leat_consumer *c[5];
    static const char *const name[] = { "a", "b", "c", "d", "e" };
    for (int i = 0; i < 5; i++)
        c[i] = member("g", name[i], "t");
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 5; i++)
            gives(0, leat_poll(c[i], 0, &m));
    explain(c[4]);
    says("consumer e of group g: 0 partitions");
    says("t: no partition: group g has 5 members for 4");
    says("a queue over the topic has no such limit");
    ok(leat_consumer_close(c[0]));
    explain(c[4]);
    says("t 3: comes when member d polls or closes");
    gives(0, leat_poll(c[3], 0, &m));
    explain(c[4]);
    says("t 3: comes with the next poll");
    gives(0, leat_poll(c[4], 0, &m));
    explain(c[4]);
    says("t 3: at the end, offset 0");
    close_store();
}

Test(explain, says_what_keeps_each_partition_from_being_read) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 3);
    const leat_message *m;
    leat_consumer *c;
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .fetch_min_bytes = 1000 }, &c));
    explain(c);
    says("nothing is subscribed or assigned");
    says("consumer (unnamed) of group g");
    ok(leat_consumer_subscribe(c, "t"));
    explain(c);
    says("t 0: comes with the next poll");
    gives(3, leat_poll(c, 0, &m));
    ok(leat_consumer_seek(c, "t", 0, 1));
    explain(c);
    says("waits for bytes: 80 of 1000");
    says("t 0: 2 records from offset 1 on, waits for bytes");
    leat_consumer *none;
    ok(leat_consumer_open(mq, "h", &(leat_consumer_options){ .start = LEAT_NONE }, &none));
    ok(leat_consumer_subscribe(none, "t"));
    fails(LEAT_ERANGE, leat_poll(none, 0, &m));
    explain(none);
    says("t 0: nothing is committed, and .start is NONE");
    leat_consumer *plain = reader(0, 1, 0);
    explain(plain);
    says("consumer (unnamed) of no group: 1 partitions");
    says("t 0: 2 records from offset 1 on");
    ok(leat_topic_delete(mq, "t"));
    explain(plain);
    says("t 0: the topic was deleted");
    close_store();
}

Test(explain, says_what_is_not_durable, .init = make_dir, .fini = drop_dir) {
    open_store(MAPPED, LEAT_CLOCK_MANUAL);
    open_topic("t", 1);
    send_many(0, 3);
    const leat_message *m;
    leat_consumer *c;
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .isolation = LEAT_READ_DURABLE }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    gives(0, leat_poll(c, 0, &m));
    explain(c);
    says("t 0: 3 records from offset 0 on are not durable");
    close_store();
}

Test(explain, says_who_was_expelled_and_what_is_revoked) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    const leat_message *m;
    leat_consumer *c;
    leat_event e;
    ok(leat_consumer_open(
        mq, "g", &(leat_consumer_options){ .name = "c", .max_poll_interval_ms = 1000 }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    gives(0, leat_poll(c, 0, &m));
    while (leat_consumer_event(c, &e) == 1) {
    }
    leat_consumer *d = member("g", "d", "t");
    gives(1, leat_consumer_event(c, &e));
    explain(c);
    says("t 1: revoked, goes to another member in the next poll");
    ok(leat_clock_advance(mq, 1000));
    explain(c);
    says("expelled: it did not poll for 1000 ms");
    (void)d;
    close_store();
}

static int refuse(const void *data, size_t size, void *ctx) {
    (void)data;
    (void)size;
    (void)ctx;
    return 1;
}

Test(explain, arguments_are_checked) {
    open_memory(LEAT_CLOCK_MANUAL, 1);
    leat_consumer *c = member("g", "c", "t");
    fails(LEAT_EINVAL, leat_consumer_explain(c, NULL, NULL));
    fails(LEAT_EINVAL, leat_consumer_explain(NULL, report_take, NULL));
    fails(LEAT_EIO, leat_consumer_explain(c, refuse, NULL));
    close_store();
}
