/* SPDX-License-Identifier: MIT */
// late_joiner: a channel keeps nothing, so who comes late has missed it; who wants what was, taps a
// topic: first all that was there, then what comes, without a gap or a double between the two. What
// to look at: the same prices are published and recorded, and three who join late see three things.
#include "leat.h"

#include <stdio.h>
#include <stdlib.h>

static int must(int rc) {
    if (rc >= 0)
        return rc;
    fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
    exit(1);
}

static void print(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    printf("%s " LEAT_FMT "\n", (const char *)ctx, LEAT_ARG(m->value));
}

static void publish(leat *mq, const char *price) {
    must(leat_publish(mq, "prices", price, leat_str(price).size));
    while (must(leat_dispatch(mq, 0)) > 0) // taps are called here, as there are no threads
        continue;
}

int main(void) {
    static char early[] = "early:       ", late[] = "late:        ";
    static char tap[] = "late, by tap:", last[] = "the last two:";
    leat *mq;
    leat_topic *history;
    leat_subscription *s, *recorder;
    must(leat_open_memory(&(leat_options){ .threads = LEAT_NO_THREADS }, &mq));
    must(leat_topic_open(mq, "history", NULL, &history));
    must(leat_channel_record(mq, "prices", history, &recorder));
    must(leat_channel_subscribe(mq, "prices", print, early, NULL, &s));
    publish(mq, "10.00");
    publish(mq, "10.05");
    publish(mq, "10.02");
    must(leat_channel_subscribe(mq, "prices", print, late, NULL, &s));
    must(leat_topic_tap(history, -1, LEAT_BEGIN, print, tap, NULL, &s));
    must(leat_topic_tap(history, -1, LEAT_LAST(2), print, last, NULL, &s));
    publish(mq, "10.07");
    return leat_close_all(mq, 0);
}
