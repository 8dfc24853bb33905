/* SPDX-License-Identifier: MIT */
// sim_drive: what carries out a workload of the crash simulator: sim_work, and sim_async for what
// is sent asynchronously.
#ifndef LEAT_TESTS_LIB_SIM_DRIVE_H
#define LEAT_TESTS_LIB_SIM_DRIVE_H

#include "lib/sim.h"

enum { SIM_HELD = 8, SIM_LINGER_MS = 20, SIM_BACKOFF_MS = 100, SIM_BATCH_BYTES = 4096 };

struct sim_step {
    char verb[16], word[16]; // word: "" if there is none
    int topic, n, size;
};

struct sim_driver {
    struct sim_run *r;
    struct crash_os *os;
    leat *mq;
    leat_producer *log, *disk;
    leat_topic *t[SIM_TOPICS];
    leat_consumer *c;
    int c_topic;
    leat_queue *q;
    leat_message held[SIM_HELD];
    int held_count;
    struct {
        int64_t offset;
        int tries;
    } lost[SIM_HELD];                          // leases that nobody holds
    int lost_count, priority, delay_ms, group; // the latter of the next records
    int life[SIM_TOPICS];
    bool durable;
    int64_t next[SIM_TOPICS][SIM_PARTS];
    int64_t polled[SIM_PARTS];
    int since;                             // facts behind it are of this open
    int gathers[2][SIM_TOPICS][SIM_PARTS]; // by log, by disk: the batch that is open
};

struct sim_fact *sim_fact_begin(struct sim_driver *d, enum sim_what what);
// sim_fact_end: the call has returned; what it did becomes part of the next point. f may be NULL.
void sim_fact_end(struct sim_driver *d, struct sim_fact *f);
// sim_fact_record begins the fact of record i of a step, which is *r from then on.
struct sim_fact *sim_fact_record(struct sim_driver *d, const struct sim_step *s, int i,
                                 bool on_disk, leat_record *r);

// sim_drive_async carries out a step, if it is one of these:
//   async T NxM, async-disk T NxM     send N records of M bytes to the partitions in turn; they
//                                     wait until their batch is full, or for what comes now:
//   flush, told, linger, purge        of both producers; told is a poll for reports
//   direct T NxM, direct-disk T NxM   send a batch made by hand to partition 0
//   refuse T N                        the next N tries to append to T fail for want of room
//   retry                             the time until the next try goes by
//   again T N, again-disk T N         send the last N records of T again, by their dedup ids
bool sim_drive_async(struct sim_driver *d, const struct sim_step *s);
// sim_drive_jobs carries out a step, if it is one of these:
//   jobs dead|kept|aged|aged-dead   open the queue "q" over its own topic, with a backoff list; the
//                             dead move or stay; what is too old is gone or dead
//   priority N, group G, delay N    of the records sent from now on; group none
//   backoff, uncount, reject        settle the oldest held; so do nack and later
//   forget                    the oldest held is not heard of again
//   pass N                    N ms go by
//   empty, redrive            purge the queue; bring its dead back
bool sim_drive_jobs(struct sim_driver *d, const struct sim_step *s);
// sim_jobs_record gives a record what was said of it.
void sim_jobs_record(struct sim_driver *d, struct sim_fact *f, leat_record *r);
// sim_async_open begins what is known of a store that was opened: what was sent before and never
// told is there or not, for ever.
void sim_async_open(struct sim_driver *d);
// sim_async_close closes a producer: it sends what waits.
void sim_async_close(leat_producer *p, struct sim_driver *d);

#endif
