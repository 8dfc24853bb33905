/* SPDX-License-Identifier: MIT */
// pubsub: push instead of pull. A subscriber is called before publish returns; nothing is stored,
// so who comes late hears only the rest, and who is not listening misses it.
#include "leat.h"

#include <stdio.h>
#include <stdlib.h>

static void must(int rc) {
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
        exit(1);
    }
}

static void hear(leat_subscription *s, const leat_message *m, void *who) {
    (void)s;
    printf("%s hears " LEAT_FMT " on %s\n", (const char *)who, LEAT_ARG(m->value), m->topic);
}

static void say(leat *mq, const char *channel, const char *text) {
    leat_bytes b = leat_str(text);
    int heard = leat_publish(mq, channel, b.data, b.size);
    must(heard);
    printf("%s: heard by %d\n", channel, heard);
}

int main(void) {
    leat *mq;
    leat_subscription *ann, *bob;
    must(leat_open_memory(NULL, &mq));
    say(mq, "sensors.kitchen", "20.5"); // nobody listens: no error, and gone
    must(leat_channel_subscribe(mq, "sensors.kitchen", hear, "ann", NULL, &ann));
    say(mq, "sensors.kitchen", "21.0");
    must(leat_channel_subscribe(mq, "sensors.*", hear, "bob", NULL, &bob));
    say(mq, "sensors.kitchen", "21.5");
    say(mq, "sensors.cellar", "12.0");
    must(leat_subscription_close(ann, 0));
    say(mq, "sensors.kitchen", "22.0");
    return leat_close_all(mq, 0) == 0 ? 0 : 1;
}
