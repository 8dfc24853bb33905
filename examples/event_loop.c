/* SPDX-License-Identifier: MIT */
// event_loop: leat in a program that has one thread and waits in poll(2). Timed work is done where
// the loop says so, callbacks run in the loop. The other descriptor stands for your sockets. What
// to look at: leat_fd says that a callback waits, leat_next_due how long poll may sleep.
#include "leat.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int told;

static void must(int rc) {
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
        exit(1);
    }
}

static void on_report(leat_producer *p, const leat_report *r, void *ctx) {
    (void)p, (void)ctx;
    printf("offset %lld: %s\n", (long long)r->md.offset, (const char *)r->record->value.data);
    told++;
}

int main(void) {
    leat *mq;
    leat_topic *readings;
    leat_producer *p;
    int wire[2], sent = 0;
    must(leat_open_memory(&(leat_options){ .threads = LEAT_NO_THREADS }, &mq));
    must(leat_topic_open(mq, "readings", NULL, &readings));
    must(leat_producer_open(mq, &(leat_producer_options){ .linger_ms = 5 }, &p));
    if (pipe(wire) != 0 || write(wire[1], "abc", 3) != 3 || close(wire[1]) != 0)
        return 1;
    struct pollfd fd[] = { { .fd = wire[0], .events = POLLIN },
                           { .fd = leat_fd(mq), .events = POLLIN } };
    must(fd[1].fd);
    while (fd[0].fd >= 0 || told < sent) {
        int64_t due_ms;
        must(leat_next_due(mq, &due_ms)); // LEAT_FOREVER is poll's -1
        if (poll(fd, 2, due_ms < 1000 ? (int)due_ms : 1000) < 0)
            return 1;
        must(leat_run_due(mq)); // what has lingered is sent
        if (fd[1].revents)
            must(leat_dispatch(mq, 0)); // on_report runs here
        char text[2] = { 0 };
        if (fd[0].revents && read(fd[0].fd, text, 1) == 1) {
            must(leat_send_async(p, readings, &(leat_record){ .value = leat_str(text) }, on_report,
                                 NULL));
            sent++;
        } else if (fd[0].revents) { // the other side has closed: poll ignores what is below 0
            fd[0].fd = -1;
        }
    }
    (void)close(wire[0]);
    printf("%d sent, %d told\n", sent, told);
    return leat_close_all(mq, 0) == 0 ? 0 : 1;
}
