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

struct lt_pins {
    struct lt_mutex lock; // guards all below
    struct lt_stretch slots;
    uint32_t used, free_first, free_last; // slot numbers + 1; 0: none. Reused oldest first.
    uint32_t out[LT_PIN_HELD + 1];        // how many are out, by kind
};

int lt_pins_init(struct lt_pins *pins, struct lt_mem *mem);
void lt_pins_fini(struct lt_pins *pins);

// lt_pin_add makes a token for obj, whose reference it takes over. owner, if not NULL, counts this
// pin as long as it is out.
// Returns  LEAT_EFULL, LEAT_ENOMEM: the reference stays the caller's.
int lt_pin_add(leat *mq, enum lt_pin_kind kind, struct lt_pinned *obj, uint32_t *owner,
               uint64_t *token);
// lt_pin_renew gives an existing pin a new token; the old one is stale from then on.
uint64_t lt_pin_renew(leat *mq, uint64_t token);
// lt_pin_keep looks up a token and takes one more reference of its object; NULL if it is stale.
struct lt_pinned *lt_pin_keep(leat *mq, uint64_t token);
// lt_pin_end ends a pin if it is of one of the kinds.
// Returns  LEAT_ESTALE, LEAT_EINVAL (of another kind).
int lt_pin_end(leat *mq, uint64_t token, unsigned kinds);
// lt_pin_end_all ends every pin, for leat_close_all.
void lt_pin_end_all(leat *mq);
// lt_pin_count tells how many pins of the kinds are out; lt_pin_owned reads an owner's count.
uint32_t lt_pin_count(leat *mq, unsigned kinds);
uint32_t lt_pin_owned(leat *mq, const uint32_t *owner);

#endif
