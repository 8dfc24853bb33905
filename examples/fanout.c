/* SPDX-License-Identifier: MIT */
// fanout: written once, read by many. A search indexer and a counter read one topic, each as its
// own group and at its own pace; the indexer is restarted in the middle. What to look at: neither
// disturbs the other, the restarted one goes on where it had committed, and a fifth member of four
// partitions has nothing to do, and is told why.
#include "leat.h"

#include <stdio.h>
#include <stdlib.h>

static int must(int rc) {
    if (rc >= 0)
        return rc;
    fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
    exit(1);
}

static int print(const void *data, size_t size, void *ctx) {
    return fwrite(data, 1, size, ctx) == size ? 0 : 1;
}

static leat_consumer *join(leat *mq, const char *group, const char *name) {
    leat_consumer *c;
    must(leat_consumer_open(mq, group,
                            &(leat_consumer_options){ .name = name, .max_poll_records = 3 }, &c));
    must(leat_consumer_subscribe(c, "pages"));
    return c;
}

static int read_some(leat_consumer *c, int polls) {
    const leat_message *m;
    int all = 0;
    while (polls-- > 0)
        all += must(leat_poll(c, 0, &m));
    must(leat_commit(c));
    return all;
}

int main(void) {
    leat *mq;
    leat_topic *pages;
    leat_producer *p;
    must(leat_open_memory(NULL, &mq));
    must(leat_topic_open(mq, "pages", &(leat_topic_options){ .partitions = 4 }, &pages));
    must(leat_producer_open(mq, &(leat_producer_options){ .partitioner = LEAT_ROUND_ROBIN }, &p));
    for (int i = 0; i < 12; i++)
        must(leat_send(p, pages, &(leat_record){ .value = LEAT_STR("a page") }, NULL));
    leat_consumer *indexer = join(mq, "indexer", "indexer"), *counter[5];
    printf("the indexer read %d of 12, ", read_some(indexer, 2));
    must(leat_consumer_close(indexer)); // and starts again
    for (int i = 0; i < 5; i++)
        counter[i] = join(mq, "counter", (const char *[]){ "a", "b", "c", "d", "e" }[i]);
    int counted = 0;
    for (int i = 0; i < 10; i++)
        counted += read_some(counter[i % 5], 1);
    indexer = join(mq, "indexer", "indexer");
    printf("then %d; the counter's members counted %d\n", read_some(indexer, 4), counted);
    must(leat_consumer_explain(counter[4], print, stdout));
    return leat_close_all(mq, 0) == 0 && counted == 12 ? 0 : 1;
}
