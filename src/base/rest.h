/* SPDX-License-Identifier: MIT */
// rest: waiting until a store does nothing by itself any more: nothing is due, no callback runs or
// waits to run, no thread of workers is at work.
//
// Each of these is looked at by itself, and one may begin while another is looked at. But what
// begins is begun by a user's own call, which is not waited for, or by something that was at work
// and comes to an end. So ends are counted (`stirs`), and a look that found all at rest holds if
// none came to an end meanwhile.
//
// Who waits counts in `watchers`, then looks. What comes to an end says so where it is looked for,
// then looks for watchers (both seq_cst): one of the two sees the other. Without watchers an end
// costs one load.
#ifndef LT_BASE_REST_H
#define LT_BASE_REST_H

#include "leat.h"

#include <stdbool.h>
#include <stdint.h>

struct lt_clock;

// lt_rest_watch begins (1) or ends (-1) to watch.
void lt_rest_watch(leat *mq, int more);
uint64_t lt_rest_stirs(leat *mq);
// lt_rest_stir says that something came to an end, or that there is something for who watches to
// do. Locks: any below CLOCK.
void lt_rest_stir(leat *mq);
// lt_rest_lacks says what is due, at work or woken and still in its wait; NULL: nothing.
const char *lt_rest_lacks(leat *mq);
// lt_rest_wait waits until stirs is not `seen`, something is due, or real time reads limit_ns.
// Returns  0 (look again), LEAT_ETIMEDOUT, LEAT_ECLOSED; without a text.
int lt_rest_wait(leat *mq, uint64_t seen, int64_t limit_ns);

// lt_rest_hire counts threads of workers before they start (1) and when they end (-1). One that is
// counted says that it is (lt_rest_serve), and is at work when it does not wait.
void lt_rest_hire(leat *mq, int more);
void lt_rest_serve(leat *mq);
// lt_rest_blocks says that this thread begins or ends a wait. Locks: the clock's.
void lt_rest_blocks(struct lt_clock *c, bool begins);

#endif
