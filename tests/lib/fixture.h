/* SPDX-License-Identifier: MIT */
// fixture: what most tests of the public interface work on: a store, its topic "t" and a producer.
#ifndef LEAT_TESTS_LIB_FIXTURE_H
#define LEAT_TESTS_LIB_FIXTURE_H

#include "lib/place.h"

extern leat *mq;
extern leat_topic *t;
extern leat_producer *p;

// fixture_open opens them; path NULL: in memory. Returns  what the call returned that failed, or 0.
int fixture_open(const char *path, const leat_options *o, const leat_topic_options *topic,
                 const leat_producer_options *producer);

#endif
