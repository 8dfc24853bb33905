/* SPDX-License-Identifier: MIT */
// A token is slot << 40 | generation; generation 0 is never given out, so token 0 is never valid.
#include "base/pins.h"

#include "base/core.h"

#define PINS_GENERATION_MASK ((UINT64_C(1) << 40) - 1)

struct pins_slot {
    uint64_t generation;   // of the token that is out, or of the last one
    struct lt_pinned *obj; // NULL: free
    uint32_t *owner;
    uint32_t kind, next_free; // slot number + 1
};

int lt_pins_init(struct lt_pins *pins, struct lt_mem *mem) {
    int rc = lt_mutex_init(&pins->lock, LT_RANK_PINS);
    if (rc == 0)
        lt_stretch_init(&pins->slots, mem, sizeof(struct pins_slot), 64);
    return rc;
}

void lt_pins_fini(struct lt_pins *pins) {
    lt_stretch_fini(&pins->slots);
    lt_mutex_fini(&pins->lock);
}

static uint64_t pins_token(uint32_t slot, const struct pins_slot *s) {
    return (uint64_t)slot << 40 | s->generation;
}

static void pins_next_generation(struct pins_slot *s) {
    s->generation = (s->generation + 1) & PINS_GENERATION_MASK;
    if (s->generation == 0)
        s->generation = 1;
}

// Returns the slot of a valid token, else NULL. Locks: pins held.
static struct pins_slot *pins_find_locked(struct lt_pins *pins, uint64_t token) {
    uint64_t slot = token >> 40;
    if (slot >= pins->used)
        return NULL;
    struct pins_slot *s = lt_stretch_at(&pins->slots, slot);
    return s->obj && s->generation == (token & PINS_GENERATION_MASK) ? s : NULL;
}

static int pins_take_slot_locked(struct lt_pins *pins, uint32_t *slot) {
    if (pins->free_first) {
        *slot = pins->free_first - 1;
        const struct pins_slot *s = lt_stretch_at(&pins->slots, *slot);
        pins->free_first = s->next_free;
        if (!pins->free_first)
            pins->free_last = 0;
        return 0;
    }
    if (pins->used >= LT_PINS_MAX)
        return lt_fail(LEAT_EFULL, "%d views are out; release some", LT_PINS_MAX);
    if (lt_stretch_reserve(&pins->slots, pins->used + 1) != 0)
        return lt_fail_nomem();
    *slot = pins->used++;
    return 0;
}

int lt_pin_add(leat *mq, enum lt_pin_kind kind, struct lt_pinned *obj, uint32_t *owner,
               uint64_t *token) {
    struct lt_pins *pins = &mq->pins;
    uint32_t slot = 0;
    lt_lock(&pins->lock);
    int rc = pins_take_slot_locked(pins, &slot);
    if (rc == 0) {
        struct pins_slot *s = lt_stretch_at(&pins->slots, slot);
        pins_next_generation(s);
        s->obj = obj;
        s->owner = owner;
        s->kind = (uint32_t)kind;
        pins->out[kind]++;
        if (owner)
            ++*owner;
        *token = pins_token(slot, s);
    }
    lt_unlock(&pins->lock);
    return rc;
}

uint64_t lt_pin_renew(leat *mq, uint64_t token) {
    struct lt_pins *pins = &mq->pins;
    lt_lock(&pins->lock);
    struct pins_slot *s = pins_find_locked(pins, token);
    if (s) {
        pins_next_generation(s);
        token = pins_token((uint32_t)(token >> 40), s);
    }
    lt_unlock(&pins->lock);
    return token;
}

struct lt_pinned *lt_pin_keep(leat *mq, uint64_t token) {
    struct lt_pins *pins = &mq->pins;
    lt_lock(&pins->lock);
    struct pins_slot *s = pins_find_locked(pins, token);
    struct lt_pinned *obj = s ? s->obj : NULL;
    if (obj)
        obj->keep(obj);
    lt_unlock(&pins->lock);
    return obj;
}

static struct lt_pinned *pins_free_locked(struct lt_pins *pins, struct pins_slot *s,
                                          uint32_t slot) {
    struct lt_pinned *obj = s->obj;
    s->obj = NULL;
    s->next_free = 0;
    pins->out[s->kind]--;
    if (s->owner)
        --*s->owner;
    if (pins->free_last)
        ((struct pins_slot *)lt_stretch_at(&pins->slots, pins->free_last - 1))->next_free =
            slot + 1;
    else
        pins->free_first = slot + 1;
    pins->free_last = slot + 1;
    return obj;
}

int lt_pin_end(leat *mq, uint64_t token, unsigned kinds) {
    struct lt_pins *pins = &mq->pins;
    struct lt_pinned *obj = NULL;
    lt_lock(&pins->lock);
    struct pins_slot *s = pins_find_locked(pins, token);
    bool wrong_kind = s && !(s->kind & kinds);
    if (s && !wrong_kind)
        obj = pins_free_locked(pins, s, (uint32_t)(token >> 40));
    lt_unlock(&pins->lock);
    if (obj) {
        obj->drop(obj);
        return 0;
    }
    if (wrong_kind)
        return lt_fail(LEAT_EINVAL, "the message belongs to its consumer until the next poll");
    return lt_fail(LEAT_ESTALE, "the view has been ended before");
}

void lt_pin_end_all(leat *mq) {
    struct lt_pins *pins = &mq->pins;
    bool more = true;
    for (uint32_t slot = 0; more; slot++) {
        struct lt_pinned *obj = NULL;
        lt_lock(&pins->lock); // callbacks of subscriptions may still add some
        more = slot < pins->used;
        struct pins_slot *s = more ? lt_stretch_at(&pins->slots, slot) : NULL;
        if (s && s->obj)
            obj = pins_free_locked(pins, s, slot);
        lt_unlock(&pins->lock);
        if (obj)
            obj->drop(obj);
    }
}

uint32_t lt_pin_count(leat *mq, unsigned kinds) {
    struct lt_pins *pins = &mq->pins;
    uint32_t n = 0;
    lt_lock(&pins->lock);
    for (unsigned k = LT_PIN_POLL; k <= LT_PIN_HELD; k <<= 1)
        if (kinds & k)
            n += pins->out[k];
    lt_unlock(&pins->lock);
    return n;
}

uint32_t lt_pin_owned(leat *mq, const uint32_t *owner) {
    lt_lock(&mq->pins.lock);
    uint32_t n = *owner;
    lt_unlock(&mq->pins.lock);
    return n;
}
