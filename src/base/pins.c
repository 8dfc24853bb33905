/* SPDX-License-Identifier: MIT */
// A token is slot << 40 | generation; generation 0 is never given out, so token 0 is never valid.
#include "base/pins.h"

#include "base/core.h"

#define PINS_GENERATION_MASK ((UINT64_C(1) << 40) - 1)
#define PINS_SLOTS_MAX       (1u << 24)

struct pins_slot {
    uint64_t generation;      // of the token that is out, or of the last one
    struct lt_pinned *obj;    // NULL: free
    struct lt_pin_pool *pool; // does not change
    uint32_t kind, next_free; // slot number + 1
};

// ---- pools

static int pins_pool_init(struct lt_pin_pool *pool, enum lt_rank rank) {
    *pool = (struct lt_pin_pool){ .free_first = 0 };
    return lt_mutex_init(&pool->lock, rank);
}

int lt_pins_init(struct lt_pins *pins, struct lt_mem *mem) {
    int rc = pins_pool_init(&pins->own, LT_RANK_PINS);
    if (rc != 0)
        return rc;
    rc = lt_mutex_init(&pins->lock, LT_RANK_PIN_SLOTS);
    if (rc != 0) {
        lt_mutex_fini(&pins->own.lock);
        return rc;
    }
    lt_stretch_init(&pins->slots, mem, sizeof(struct pins_slot), 64);
    atomic_init(&pins->used, 0);
    pins->pools = pins->idle = NULL;
    return 0;
}

void lt_pins_fini(struct lt_pins *pins) {
    struct lt_pin_pool *pool;
    while ((pool = pins->pools)) {
        pins->pools = pool->next;
        lt_mutex_fini(&pool->lock);
        lt_free(pins->slots.mem, pool);
    }
    lt_stretch_fini(&pins->slots);
    lt_mutex_fini(&pins->lock);
    lt_mutex_fini(&pins->own.lock);
}

// Locks: that of pins.
static struct lt_pin_pool *pins_pool_new(struct lt_pins *pins) {
    struct lt_pin_pool *pool = lt_alloc(pins->slots.mem, sizeof *pool);
    if (!pool || pins_pool_init(pool, LT_RANK_QUEUE) != 0) {
        lt_free(pins->slots.mem, pool);
        return NULL;
    }
    pool->next = pins->pools;
    pins->pools = pool;
    return pool;
}

int lt_pin_pool_open(leat *mq, struct lt_pin_pool **pool) {
    struct lt_pins *pins = &mq->pins;
    lt_lock(&pins->lock);
    *pool = pins->idle;
    if (*pool)
        pins->idle = (*pool)->idle;
    else
        *pool = pins_pool_new(pins);
    lt_unlock(&pins->lock);
    return *pool ? 0 : lt_fail_nomem();
}

void lt_pin_pool_close(leat *mq, struct lt_pin_pool *pool) {
    struct lt_pins *pins = &mq->pins;
    if (lt_forked(mq)) // a thread that this process does not have may hold the lock
        return;
    lt_lock(&pins->lock);
    pool->idle = pins->idle;
    pins->idle = pool;
    lt_unlock(&pins->lock);
}

// ---- slots

static uint64_t pins_token(uint32_t slot, const struct pins_slot *s) {
    return (uint64_t)slot << 40 | s->generation;
}

static void pins_next_generation(struct pins_slot *s) {
    s->generation = (s->generation + 1) & PINS_GENERATION_MASK;
    if (s->generation == 0)
        s->generation = 1;
}

// Returns  the slot that a token names, whatever is in it; NULL: there is none.
static struct pins_slot *pins_slot_of(const struct lt_pins *pins, uint64_t token) {
    uint64_t slot = token >> 40;
    if (slot >= atomic_load_explicit(&pins->used, memory_order_acquire))
        return NULL;
    return lt_stretch_at(&pins->slots, slot);
}

// Returns  the slot of a valid token, else NULL. Locks: its pool's.
static struct pins_slot *pins_valid(struct pins_slot *s, uint64_t token) {
    return s->obj && s->generation == (token & PINS_GENERATION_MASK) ? s : NULL;
}

// Takes the lock of the pool that a token is of. Returns  its slot if it is valid; *pool: whose
// lock is held, NULL: of none.
static struct pins_slot *pins_lock(struct lt_pins *pins, uint64_t token,
                                   struct lt_pin_pool **pool) {
    struct pins_slot *s = pins_slot_of(pins, token);
    *pool = s ? s->pool : NULL;
    if (!s)
        return NULL;
    lt_lock(&s->pool->lock);
    return pins_valid(s, token);
}

static void pins_unlock(struct lt_pin_pool *pool) {
    if (pool)
        lt_unlock(&pool->lock);
}

static int pins_grow(struct lt_pins *pins, struct lt_pin_pool *pool, uint32_t *slot) {
    lt_lock(&pins->lock);
    uint32_t used = atomic_load_explicit(&pins->used, memory_order_relaxed);
    int rc = used < PINS_SLOTS_MAX ? lt_stretch_reserve(&pins->slots, used + 1) : LEAT_EFULL;
    if (rc == 0) {
        ((struct pins_slot *)lt_stretch_at(&pins->slots, used))->pool = pool;
        atomic_store_explicit(&pins->used, used + 1, memory_order_release);
        *slot = used;
    }
    lt_unlock(&pins->lock);
    return rc;
}

static int pins_take_slot_locked(struct lt_pins *pins, struct lt_pin_pool *pool, uint32_t *slot) {
    if (pool->free_first) {
        *slot = pool->free_first - 1;
        const struct pins_slot *s = lt_stretch_at(&pins->slots, *slot);
        pool->free_first = s->next_free;
        if (!pool->free_first)
            pool->free_last = 0;
        return 0;
    }
    int rc = pool->out < LT_PINS_MAX ? pins_grow(pins, pool, slot) : LEAT_EFULL;
    if (rc == LEAT_EFULL)
        return lt_fail(LEAT_EFULL, "%u views are out; release some", pool->out);
    return rc == 0 ? 0 : lt_fail_nomem();
}

static struct lt_pinned *pins_free_locked(struct lt_pins *pins, struct pins_slot *s,
                                          uint32_t slot) {
    struct lt_pin_pool *pool = s->pool;
    struct lt_pinned *obj = s->obj;
    s->obj = NULL;
    s->next_free = 0;
    pool->out--;
    if (pool->free_last)
        ((struct pins_slot *)lt_stretch_at(&pins->slots, pool->free_last - 1))->next_free =
            slot + 1;
    else
        pool->free_first = slot + 1;
    pool->free_last = slot + 1;
    return obj;
}

// ---- pins

int lt_pin_add_locked(leat *mq, struct lt_pin_pool *pool, enum lt_pin_kind kind,
                      struct lt_pinned *obj, uint64_t *token) {
    struct lt_pins *pins = &mq->pins;
    uint32_t slot = 0;
    int rc = pins_take_slot_locked(pins, pool, &slot);
    if (rc != 0)
        return rc;
    struct pins_slot *s = lt_stretch_at(&pins->slots, slot);
    pins_next_generation(s);
    s->obj = obj;
    s->kind = (uint32_t)kind;
    pool->out++;
    *token = pins_token(slot, s);
    return 0;
}

int lt_pin_add(leat *mq, enum lt_pin_kind kind, struct lt_pinned *obj, uint64_t *token) {
    struct lt_pin_pool *own = &mq->pins.own;
    lt_lock(&own->lock);
    int rc = lt_pin_add_locked(mq, own, kind, obj, token);
    lt_unlock(&own->lock);
    return rc;
}

bool lt_pin_is_of(const leat *mq, const struct lt_pin_pool *pool, uint64_t token) {
    const struct pins_slot *s = pins_slot_of(&mq->pins, token);
    return s && s->pool == pool;
}

struct lt_pinned *lt_pin_take_locked(leat *mq, struct lt_pin_pool *pool, uint64_t token) {
    struct pins_slot *s = pins_slot_of(&mq->pins, token);
    if (!s || s->pool != pool || !pins_valid(s, token))
        return NULL;
    return pins_free_locked(&mq->pins, s, (uint32_t)(token >> 40));
}

uint64_t lt_pin_renew(leat *mq, uint64_t token) {
    struct lt_pin_pool *pool;
    struct pins_slot *s = pins_lock(&mq->pins, token, &pool);
    if (s) {
        pins_next_generation(s);
        token = pins_token((uint32_t)(token >> 40), s);
    }
    pins_unlock(pool);
    return token;
}

struct lt_pinned *lt_pin_keep(leat *mq, uint64_t token) {
    struct lt_pin_pool *pool;
    const struct pins_slot *s = pins_lock(&mq->pins, token, &pool);
    struct lt_pinned *obj = s ? s->obj : NULL;
    if (obj)
        obj->keep(obj);
    pins_unlock(pool);
    return obj;
}

int lt_pin_end(leat *mq, uint64_t token, unsigned kinds) {
    struct lt_pin_pool *pool;
    struct lt_pinned *obj = NULL;
    struct pins_slot *s = pins_lock(&mq->pins, token, &pool);
    bool wrong_kind = s && !(s->kind & kinds);
    if (s && !wrong_kind)
        obj = pins_free_locked(&mq->pins, s, (uint32_t)(token >> 40));
    pins_unlock(pool);
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
    // Callbacks of subscriptions may still add some.
    for (uint32_t slot = 0; slot < atomic_load_explicit(&pins->used, memory_order_acquire);
         slot++) {
        struct pins_slot *s = lt_stretch_at(&pins->slots, slot);
        lt_lock(&s->pool->lock);
        struct lt_pinned *obj = s->obj ? pins_free_locked(pins, s, slot) : NULL;
        lt_unlock(&s->pool->lock);
        if (obj)
            obj->drop(obj);
    }
}

uint32_t lt_pin_count(leat *mq, unsigned kinds) {
    struct lt_pins *pins = &mq->pins;
    uint32_t n = 0;
    for (uint32_t slot = 0; slot < atomic_load_explicit(&pins->used, memory_order_acquire);
         slot++) {
        struct pins_slot *s = lt_stretch_at(&pins->slots, slot);
        lt_lock(&s->pool->lock);
        n += s->obj && (s->kind & kinds);
        lt_unlock(&s->pool->lock);
    }
    return n;
}

uint32_t lt_pin_pool_out(struct lt_pin_pool *pool) {
    lt_lock(&pool->lock);
    uint32_t n = pool->out;
    lt_unlock(&pool->lock);
    return n;
}
