/* SPDX-License-Identifier: MIT */
// cuts: lives of a store in memory with crashes in between, as a seed says. Several queues, of
// which some are over one topic, are worked on at random; what they have is held to what leat.h
// promises of it.
#ifndef LEAT_TESTS_LIB_CUTS_H
#define LEAT_TESTS_LIB_CUTS_H

#include "leat.h"
#include "leat_test.h"

#include <stdbool.h>

enum {
    CUTS_QUEUES = 4,
    CUTS_HELD = 64,     // messages that are received and not settled yet
    CUTS_PARTS = 4,     // of a topic
    CUTS_OFFSETS = 4096 // what is beyond is not looked at
};
enum { CUTS_PLAIN, CUTS_DEAD, CUTS_OVER, CUTS_KEPT }; // which queue

struct cuts_held {
    leat_message m;
    int queue;
};

struct cuts {
    uint64_t seed, chance;
    int step;
    bool failed;
    leat *mq;
    leat_topic *t;
    leat_producer *log, *disk; // what they ack
    leat_queue *q[CUTS_QUEUES];
    struct cuts_held held[CUTS_HELD];
    int helds;
    uint32_t ids; // of messages, drawn so far
    // Of queue and id: sent with acks DISK, and nobody has had it, nor ended it.
    bool owed[CUTS_QUEUES][CUTS_OFFSETS];
    bool owes[CUTS_QUEUES]; // false: it may end by itself what nobody had
    // Of queue, partition and offset: settled with acks DISK.
    bool given_back[CUTS_QUEUES][CUTS_PARTS][CUTS_OFFSETS];
    bool acked[CUTS_QUEUES][CUTS_PARTS][CUTS_OFFSETS];
    bool on_disk[CUTS_QUEUES]; // so it settles
};
extern struct cuts cuts;
extern const char *const cuts_name[CUTS_QUEUES];

// cuts_begin begins a life: cuts is empty but for the seed.
void cuts_begin(uint64_t seed);
// cuts_draw draws a number below n. cuts_one_in: true so often.
uint32_t cuts_draw(uint32_t n);
bool cuts_one_in(uint32_t n);
// cuts_complain says what is wrong, once in a life.
__attribute__((format(printf, 1, 2))) void cuts_complain(const char *format, ...);
// cuts_is complains if a call did not return what it should.
bool cuts_is(const char *what, int rc, int want);

// cuts_open opens an empty store. cuts_cut cuts the power, or at times kills the process, and opens
// what is left of it.
bool cuts_open(void);
bool cuts_cut(void);
// cuts_open_queues opens the handles of what there is. cuts_release ends what is held.
bool cuts_open_queues(void);
void cuts_release(void);

// cuts_sent notes a message that was stored. id: CUTS_OFFSETS or more: not known by it.
void cuts_sent(const leat_topic *t, uint32_t id, const leat_metadata *md, bool disk);
// cuts_received notes one that was handed out. cuts_settled: one that was acked, or given back.
void cuts_received(int queue, const leat_message *m);
void cuts_settled(int queue, const leat_message *m, bool ack);
// cuts_ended notes that what is in a queue need not be there from now on. cuts_trimmed: in all
// queues over the topic.
void cuts_ended(int queue);
void cuts_trimmed(const leat_topic *t);
// cuts_check looks at all queues, in every state.
void cuts_check(void);

// cuts_make makes the topic and the queues, as the seed says. cuts_work does one thing to them.
bool cuts_make(void);
void cuts_work(void);

#endif
