/* SPDX-License-Identifier: MIT */
// survives: what an acknowledged record survives. Each line sends a record, crashes the store, and
// looks in what is opened afterwards; 32 times, because a power cut takes what it likes. What to
// look at: LEAT_ACKS_LOG costs no disk and is enough against kill -9, not against the power.
#include "leat_test.h"

#include <stdio.h>
#include <stdlib.h>

enum { TRIES = 32 };

static void must(int rc) {
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
        exit(1);
    }
}

// Sends a record, crashes, and tells whether it is there afterwards.
static int survives(int acks, int how, uint64_t seed) {
    leat *mq, *after;
    leat_topic *t;
    leat_producer *p;
    leat_range range = { 0 };
    must(leat_open_memory(&(leat_options){ .flags = LEAT_CRASHABLE, .seed = seed }, &mq));
    must(leat_topic_open(mq, "orders", NULL, &t));
    must(leat_producer_open(mq, &(leat_producer_options){ .acks = acks }, &p));
    must(leat_send(p, t, &(leat_record){ .value = LEAT_STR("one tea") }, NULL));

    must(leat_crash(mq, how, &after)); // `after` is what the next process finds
    must(leat_close_all(mq, 0));
    must(leat_topic_open(after, "orders", NULL, &t));
    must(leat_topic_range(t, 0, &range));
    must(leat_close_all(after, 0));
    return range.end > 0;
}

static const char *verdict(int acks, int how) {
    int kept = 0;
    for (uint64_t seed = 1; seed <= TRIES; seed++)
        kept += survives(acks, how, seed);
    return kept == TRIES ? "survives" : kept == 0 ? "is lost" : "may be lost";
}

static void line(const char *name, int acks) {
    printf("%-15s %-12s %s\n", name, verdict(acks, LEAT_KILL), verdict(acks, LEAT_POWER_CUT));
}

int main(void) {
    printf("%-15s %-12s %s\n", "a record with", "kill -9", "power cut");
    line("LEAT_ACKS_LOG", LEAT_ACKS_LOG);
    line("LEAT_ACKS_DISK", LEAT_ACKS_DISK);
    return 0;
}
