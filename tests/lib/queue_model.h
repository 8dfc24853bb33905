/* SPDX-License-Identifier: MIT */
// queue_model: what a queue over one partition is to do, in the plainest way: arrays of what is in
// it and in its dead-letter queue, looked through at each question. The test moves the time.
#ifndef LEAT_TESTS_LIB_QUEUE_MODEL_H
#define LEAT_TESTS_LIB_QUEUE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum { MODEL_ROOM = 64, MODEL_BACKOFFS = 3 };

enum model_state { MODEL_AVAILABLE = 1, MODEL_DELAYED, MODEL_LEASED, MODEL_KEPT };

struct model_message {
    int64_t offset, id; // id: which it is, wherever it is moved
    enum model_state state;
    int priority, group; // group 0: none
    bool turn;           // the others of its group wait for it
    int deliveries;
    int64_t sent_ms, due_ms; // DELAYED: available then; LEASED: the lease ends
    uint64_t receipt;        // that settles it; 0: none
};

struct model {
    struct model_message m[MODEL_ROOM]; // by offset: of those that are not final
    struct model_message dead[MODEL_ROOM];
    int count, dead_count, dead_known; // of so many dead the order is known
    int64_t now_ms;
    // What the queue was told to be.
    int deliveries_max;                // 0: unlimited
    bool dead_letter, expired, paused; // expired: they go to the dead-letter queue, too
    int backoffs;                      // 0: no list
    int64_t backoff_ms[MODEL_BACKOFFS];
    int64_t visibility_ms, retention_ms; // retention 0: for ever
    uint64_t sent, done, died, ended;    // since the begin; ended: expired
};

void model_send(struct model *q, int64_t id, int priority, int group, int64_t delay_ms);
// model_next is the message that a receive is to hand out; NULL: none.
struct model_message *model_next(struct model *q);
void model_hand_out(struct model *q, struct model_message *m, int64_t ms, uint64_t receipt);
// model_find is the message that a receipt settles; NULL: it is stale.
struct model_message *model_find(struct model *q, uint64_t receipt);
void model_ack(struct model *q, struct model_message *m);
// model_nack: delay_ms -1: as the backoff list says.
void model_nack(struct model *q, struct model_message *m, int64_t delay_ms, bool counted);
void model_reject(struct model *q, struct model_message *m);
void model_extend(struct model *q, struct model_message *m, int64_t ms);
void model_advance(struct model *q, int64_t ms);
// model_expire ends what is too old; to be called after each of the others.
void model_expire(struct model *q);
// model_restart ends all leases.
void model_restart(struct model *q);
// model_dead_is tells if the i-th dead letter can be that one; then it is.
bool model_dead_is(struct model *q, int i, int64_t id);
// model_redrive sends the n oldest dead letters again; without such a queue it takes those kept.
void model_redrive(struct model *q, int n);
// model_look finds at most max messages in a state, from an offset on. Returns  how many.
int model_look(struct model *q, int state, int64_t from, struct model_message **out, int max);
// model_turns: where it is nobody's turn, it is that of the first one in the group that is not
// kept.
void model_turns(struct model *q);
// model_waits tells that it is the turn of another one of its group.
static inline bool model_waits(const struct model_message *m) {
    return m->group != 0 && m->state != MODEL_KEPT && !m->turn;
}

#endif
