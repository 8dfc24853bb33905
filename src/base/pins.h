/* SPDX-License-Identifier: MIT */
// pins: tokens for views. A view is the right to read bytes that somebody else owns; its token can
// be copied with the message, and ending it twice is harmless, because the slot's generation has
// moved on by then.
#ifndef LT_BASE_PINS_H
#define LT_BASE_PINS_H

#include "base/mem.h"
#include "base/stretch.h"
#include "base/sync.h"

#include "leat.h"

enum { LT_PINS_MAX = 1 << 20 };

enum lt_pin_kind {
    LT_PIN_POLL = 1, // a consumer's, until its next poll; leat_message_release refuses it
    LT_PIN_VIEW = 2, // a queue's delivery
    LT_PIN_HELD = 4  // made by leat_message_hold
};

// lt_pinned is what a pinned object embeds.
struct lt_pinned {
    void (*keep)(struct lt_pinned *obj); // one reference more; leaf: takes no lock
    void (*drop)(struct lt_pinned *obj); // one reference less; called with no lock held
};

// lt_pin_pool is what the pins of one owner are taken from: a queue's views, or all others. Its
// lock is the owner's own, so that a pin begins and ends within steps that the owner does anyway.
// It is never freed before the store, so that a token of long ago may look for its slot: it goes on
// to the next owner.
struct lt_pin_pool {
    struct lt_mutex lock;            // guards the rest, its slots, and what the owner says
    struct lt_pin_pool *next, *idle; // in lt_pins.pools; in lt_pins.idle, guarded by that's lock
    uint32_t free_first, free_last, out; // slot numbers + 1, 0: none, reused oldest first
};

struct lt_pins {
    struct lt_pin_pool own; // of all that is no queue's
    struct lt_mutex lock;   // guards growth of the slots, and the lists of pools
    struct lt_stretch slots;
    _Atomic uint32_t used;     // slots; stored (release) when one has its pool
    struct lt_pin_pool *pools; // of queues, all of them
    struct lt_pin_pool *idle;  // without an owner
};

int lt_pins_init(struct lt_pins *pins, struct lt_mem *mem);
void lt_pins_fini(struct lt_pins *pins);

// lt_pin_pool_open gives an owner a pool, whose lock has LT_RANK_QUEUE.
// Returns  LEAT_ENOMEM.
int lt_pin_pool_open(leat *mq, struct lt_pin_pool **pool);
// lt_pin_pool_close takes it back; no pin of it is out. Locks: not the pool's.
void lt_pin_pool_close(leat *mq, struct lt_pin_pool *pool);

// lt_pin_add makes a token for obj, whose reference it takes over.
// Returns  LEAT_EFULL, LEAT_ENOMEM: the reference stays the caller's.
int lt_pin_add(leat *mq, enum lt_pin_kind kind, struct lt_pinned *obj, uint64_t *token);
// lt_pin_add_locked is that in a pool. Locks: the pool's.
int lt_pin_add_locked(leat *mq, struct lt_pin_pool *pool, enum lt_pin_kind kind,
                      struct lt_pinned *obj, uint64_t *token);
// lt_pin_is_of tells whether a token is, or was, of that pool. Locks: none needed.
bool lt_pin_is_of(const leat *mq, const struct lt_pin_pool *pool, uint64_t token);
// lt_pin_take_locked ends a pin of the pool. Locks: the pool's. Returns  the object, whose
// reference is the caller's to drop without a lock, or NULL: the token is stale.
struct lt_pinned *lt_pin_take_locked(leat *mq, struct lt_pin_pool *pool, uint64_t token);
// lt_pin_renew gives an existing pin a new token; the old one is stale from then on.
uint64_t lt_pin_renew(leat *mq, uint64_t token);
// lt_pin_keep looks up a token and takes one more reference of its object; NULL if it is stale.
struct lt_pinned *lt_pin_keep(leat *mq, uint64_t token);
// lt_pin_end ends a pin if it is of one of the kinds. Locks: none held, here and below.
// Returns  LEAT_ESTALE, LEAT_EINVAL (of another kind).
int lt_pin_end(leat *mq, uint64_t token, unsigned kinds);
// lt_pin_end_all ends every pin, for leat_close_all.
void lt_pin_end_all(leat *mq);
// lt_pin_count tells how many pins of the kinds are out.
uint32_t lt_pin_count(leat *mq, unsigned kinds);
// lt_pin_pool_out tells how many pins of a pool are out.
uint32_t lt_pin_pool_out(struct lt_pin_pool *pool);

#endif
