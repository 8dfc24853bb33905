/* SPDX-License-Identifier: MIT */
// queue: each message goes to one worker, until it is done. A worker that dies without a word
// loses its lease when the visibility timeout is over, and the message is delivered again; one
// that is never done ends in the dead-letter queue. The store's clock jumps instead of waiting.
#include "leat.h"
#include "leat_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int rc) {
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
        exit(1);
    }
}

int main(void) {
    leat *mq;
    leat_queue *emails, *dead;
    leat_message m;
    must(leat_test_open(&mq));
    must(leat_queue_open(mq, "emails.dead", NULL, &dead));
    leat_queue_options o = { .visibility_timeout_ms = 30000,
                             .deliveries_max = 2,
                             .dead_letter = "emails.dead" };
    must(leat_queue_open(mq, "emails", &o, &emails));
    must(leat_queue_send(emails, &(leat_record){ .value = LEAT_STR("hi bob") }, NULL));
    must(leat_queue_send(emails, &(leat_record){ .value = LEAT_STR("a bomb") }, NULL));

    while (leat_queue_receive(emails, 60000, &m, 1) > 0) { // waits at most a minute
        printf("delivery %d of \"%s\"\n", m.deliveries, (const char *)m.value.data);
        if (strcmp(m.value.data, "a bomb") == 0)
            must(leat_message_release(mq, &m)); // the worker is dead: nobody says what happened
        else
            must(leat_queue_ack(emails, &m));
    }
    must(leat_queue_receive(dead, 0, &m, 1));
    printf("dead: \"%s\"\n", (const char *)m.value.data);
    must(leat_queue_ack(dead, &m));
    return leat_close_all(mq, 0) == 0 ? 0 : 1;
}
