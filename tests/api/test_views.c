/* SPDX-License-Identifier: MIT */
// Views: how long the bytes of a consumer's messages live.
#include "lib/stream.h"

Test(views, views_live_until_the_next_poll_whatever_else_is_asked) {
    open_memory(LEAT_CLOCK_MANUAL, 2);
    send_many(0, 1);
    send_many(1, 1);
    const leat_message *m;
    leat_message kept;
    leat_consumer *a = member("g", "a", "t");
    gives(2, leat_poll(a, 0, &m));
    leat_consumer *b = member("g", "b", "t"); // partition 1 is to go
    (void)parts(a);
    ok(leat_consumer_seek(a, "t", 0, 0));
    ok(leat_commit(a));
    for (int i = 0; i < 2; i++) {
        ok(leat_message_hold(mq, &m[i], &kept));
        ok(leat_message_release(mq, &kept));
    }
    leat_message old[2] = { m[0], m[1] };
    gives(1, leat_poll(a, 0, &m));
    for (int i = 0; i < 2; i++)
        fails(LEAT_ESTALE, leat_message_hold(mq, &old[i], &kept));
    ok(leat_consumer_close(b));
    close_store();
}

Test(views, a_held_message_outlives_polls_the_consumer_and_the_topic, .init = make_dir,
     .fini = drop_dir) {
    for (int kind = 0; kind < KINDS; kind++) {
        open_store((enum kind)kind, LEAT_CLOCK_MANUAL);
        open_topic("t", 1);
        leat_header h = { LEAT_STR("name"), LEAT_STR("header") };
        leat_record r = {
            .key = LEAT_STR("key"), .value = LEAT_STR("value"), .headers = &h, .header_count = 1
        };
        ok(leat_send(p, t, &r, NULL));
        const leat_message *m;
        leat_message first, kept, again, copy;
        leat_consumer *c = member("g", NULL, "t");
        gives(1, leat_poll(c, 0, &m));
        first = m[0];
        fails(LEAT_EINVAL, leat_message_release(mq, &first)); // it is the consumer's
        ok(leat_message_hold(mq, &m[0], &kept));
        ok(leat_message_hold(mq, &kept, &again));
        send_many(0, 1000); // the segment is left behind
        while (leat_poll(c, 0, &m) > 0) {
        }
        fails(LEAT_ESTALE, leat_message_hold(mq, &first, &copy));
        fails(LEAT_ESTALE, leat_message_release(mq, &first));
        ok(leat_consumer_close(c));
        ok(leat_topic_delete(mq, "t"));
        copy = kept;
        ok(leat_message_release(mq, &kept));
        fails(LEAT_ESTALE, leat_message_release(mq, &kept)); // twice is harmless
        fails(LEAT_ESTALE, leat_message_release(mq, &copy)); // also from a copy
        fails(LEAT_ESTALE, leat_message_hold(mq, &copy, &kept));
        leat_header out;
        is(again.key, "key");
        is(again.value, "value");
        cr_assert_eq(leat_message_header(&again, 0, &out), 1);
        is(out.name, "name");
        is(out.value, "header");
        cr_assert_str_eq(again.topic, "t");
        ok(leat_shutdown(mq));
        ok(leat_message_release(mq, &again)); // what was handed out can always be given back
        close_store();
        scratch_remove(dir);
        scratch_mkdir(dir);
    }
}

Test(views, views_are_ended_by_close_and_by_close_all) {
    leat_message kept, copy;
    const leat_message *m;
    open_memory(LEAT_CLOCK_MANUAL, 1);
    send_many(0, 3);
    leat_consumer *c = member("g", NULL, "t");
    gives(3, leat_poll(c, 0, &m));
    copy = m[1];
    ok(leat_message_hold(mq, &m[1], &kept));
    ok(leat_consumer_close(c));
    fails(LEAT_ESTALE, leat_message_hold(mq, &copy, &copy));
    is(kept.value, "0/1");
    leat_message zero = { 0 };
    fails(LEAT_ESTALE, leat_message_hold(mq, &zero, &copy));
    fails(LEAT_ESTALE, leat_message_release(mq, &zero));
    fails(LEAT_EINVAL, leat_message_hold(mq, NULL, &copy));
    fails(LEAT_EINVAL, leat_message_hold(mq, &kept, NULL));
    fails(LEAT_EINVAL, leat_message_hold(NULL, &kept, &copy));
    fails(LEAT_EINVAL, leat_message_release(mq, NULL));
    fails(LEAT_EINVAL, leat_message_release(NULL, &kept));
    leat_message forged = kept;
    forged.view += 1;
    fails(LEAT_ESTALE, leat_message_release(mq, &forged));
    forged.view = UINT64_MAX;
    fails(LEAT_ESTALE, leat_message_release(mq, &forged));
    close_store(); // not strict: the view ends here
}

Test(views, strict_stores_name_what_is_held) {
    leat_message kept;
    const leat_message *m;
    ok(leat_test_open(&mq));
    ok(leat_producer_open(mq, NULL, &p));
    open_topic("t", 1);
    send_many(0, 1);
    leat_consumer *c = member("g", NULL, "t");
    gives(1, leat_poll(c, 0, &m));
    ok(leat_message_hold(mq, m, &kept));
    fails_saying(LEAT_EBUSY, "held", leat_close_all(mq, 0));
    is(kept.value, "0/0");
    gives(0, leat_poll(c, 0, &m)); // nothing was closed
    ok(leat_message_release(mq, &kept));
    close_store();
}
