/* SPDX-License-Identifier: MIT */
// video_jobs: one upload, many jobs. Three queues stand over one topic, so each upload that is sent
// once is a job for each of them. A worker crashes in the middle of one. What to look at: the other
// jobs are done, and the lost one comes back when its visibility timeout is over; 10 minutes pass
// at once here, because the clock is the program's.
#include "leat.h"

#include <stdio.h>
#include <stdlib.h>

static int must(int rc) {
    if (rc >= 0)
        return rc;
    fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
    exit(1);
}

// Takes one job. Returns  whether there was one.
static int work(leat *mq, leat_queue *q, const char *job, int crash) {
    leat_message m;
    int64_t forever = crash ? 0 : LEAT_FOREVER;
    if (leat_queue_receive(q, forever, &m, 1) != 1)
        return 0;
    printf("%s of " LEAT_FMT ", try %d: %s\n", job, LEAT_ARG(m.value), m.deliveries,
           crash ? "the worker crashed" : "done");
    must(crash ? leat_message_release(mq, &m) : leat_queue_ack(q, &m)); // a crash says nothing
    return 1;
}

int main(void) {
    static const char *const jobs[] = { "thumbnail", "captions", "transcode" };
    leat *mq;
    leat_topic *uploads;
    leat_producer *p;
    leat_queue *q[3];
    leat_options o = { .clock = LEAT_CLOCK_JUMP, .threads = LEAT_NO_THREADS };
    leat_queue_options over = { .topic = "uploads", .visibility_timeout_ms = 600000 };
    must(leat_open_memory(&o, &mq));
    must(leat_topic_open(mq, "uploads", NULL, &uploads));
    must(leat_producer_open(mq, NULL, &p));
    for (int i = 0; i < 3; i++)
        must(leat_queue_open(mq, jobs[i], &over, &q[i]));
    must(leat_send(p, uploads, &(leat_record){ .value = LEAT_STR("cats.mp4") }, NULL));
    int done = work(mq, q[0], jobs[0], 0) + work(mq, q[1], jobs[1], 0);
    (void)work(mq, q[2], jobs[2], 1);
    done += work(mq, q[2], jobs[2], 0); // waits for it: nobody had to notice the crash
    printf("%d jobs done\n", done);
    return leat_close_all(mq, 0) == 0 && done == 3 ? 0 : 1;
}
