/* SPDX-License-Identifier: MIT */
// queue_model: what a queue over one partition is to do, in the plainest way: an array of what is
// in it, looked through from the front at each question. Time is a number that the test moves.
#ifndef LEAT_TESTS_LIB_QUEUE_MODEL_H
#define LEAT_TESTS_LIB_QUEUE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum { MODEL_ROOM = 64, MODEL_BACKOFFS = 3 };

enum model_state { MODEL_AVAILABLE, MODEL_DELAYED, MODEL_LEASED, MODEL_KEPT };

struct model_message {
    int64_t offset;
    enum model_state state;
    int priority, group; // group 0: none
    int deliveries;
    int64_t due_ms;   // DELAYED: available then; LEASED: the lease ends
    uint64_t receipt; // that settles it; 0: none
};

struct model {
    struct model_message m[MODEL_ROOM]; // by offset: of those that are not final
    int count;
    int64_t now_ms;
    // What the queue was told to be.
    int deliveries_max; // 0: unlimited
    bool dead_letter;
    int backoffs; // 0: no list
    int64_t backoff_ms[MODEL_BACKOFFS];
    int64_t visibility_ms;
    // Since the begin.
    uint64_t sent, done, dead;
};

struct model_counts {
    uint64_t available, delayed, leased, kept;
};

void model_send(struct model *q, int64_t offset, int priority, int group, int64_t delay_ms);
// model_next is the message that a receive is to hand out; NULL: none.
struct model_message *model_next(struct model *q);
void model_hand_out(struct model *q, struct model_message *m, int64_t visibility_ms,
                    uint64_t receipt);
// model_find is the message that a receipt settles; NULL: it is stale.
struct model_message *model_find(struct model *q, uint64_t receipt);
void model_ack(struct model *q, struct model_message *m);
// model_nack: delay_ms -1: as the backoff list says.
void model_nack(struct model *q, struct model_message *m, int64_t delay_ms, bool counted);
void model_reject(struct model *q, struct model_message *m);
void model_extend(struct model *q, struct model_message *m, int64_t ms);
void model_advance(struct model *q, int64_t ms);
// model_restart ends all leases.
void model_restart(struct model *q);
struct model_counts model_count(const struct model *q);

#endif
