/* SPDX-License-Identifier: MIT */
#include "lib/fixture.h"

leat *mq;
leat_topic *t;
leat_producer *p;

int fixture_open(const char *path, const leat_options *o, const leat_topic_options *topic,
                 const leat_producer_options *producer) {
    int rc = path ? leat_open(path, o, &mq) : leat_open_memory(o, &mq);
    if (rc == 0)
        rc = leat_topic_open(mq, "t", topic, &t);
    if (rc == 0)
        rc = leat_producer_open(mq, producer, &p);
    return rc;
}
