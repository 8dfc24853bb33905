/* SPDX-License-Identifier: MIT */
#include "pubsub/mailbox.h"

#include "base/hash.h"

#include <string.h>

enum { MAILBOX_SLOTS_MIN = 16 };

void lt_mailbox_init(struct lt_mailbox *b, struct lt_mem *mem, int64_t room, int64_t bytes_max,
                     int32_t when_full) {
    *b = (struct lt_mailbox){ .mem = mem,
                              .bytes_max = bytes_max,
                              .room = room == INT64_MAX ? UINT64_MAX : (uint64_t)room,
                              .when_full = when_full };
}

void lt_mailbox_fini(struct lt_mailbox *b) {
    (void)lt_mailbox_clear(b);
    lt_free(b->mem, b->ring);
    lt_free(b->mem, b->chain);
    b->ring = NULL;
    b->chain = NULL;
}

static struct lt_mail *mailbox_at(const struct lt_mailbox *b, uint64_t n) {
    return &b->ring[(size_t)n & b->mask];
}

// ---- one of each key

static uint32_t mailbox_hash(const struct lt_copy *copy) {
    const leat_message *m = &copy->m;
    uint64_t hash = lt_hash_bytes(m->topic, strlen(m->topic), 0);
    if (m->key.data)
        hash = lt_hash_bytes(m->key.data, m->key.size, hash);
    return (uint32_t)(hash ^ hash >> 32);
}

static bool mailbox_same(const struct lt_copy *a, const struct lt_copy *b) {
    const leat_message *x = &a->m, *y = &b->m;
    return x->key.size == y->key.size && !x->key.data == !y->key.data &&
           (x->key.size == 0 || memcmp(x->key.data, y->key.data, x->key.size) == 0) &&
           strcmp(x->topic, y->topic) == 0;
}

static void mailbox_link(struct lt_mailbox *b, uint64_t n) {
    struct lt_mail *mail = mailbox_at(b, n);
    uint32_t *first = &b->chain[mail->hash & b->mask];
    mail->next = *first;
    *first = (uint32_t)((size_t)n & b->mask) + 1;
}

static void mailbox_unlink_first(struct lt_mailbox *b) {
    const struct lt_mail *mail = mailbox_at(b, b->head);
    uint32_t slot = (uint32_t)((size_t)b->head & b->mask) + 1;
    uint32_t *at = &b->chain[mail->hash & b->mask];
    while (*at != slot)
        at = &b->ring[*at - 1].next;
    *at = mail->next;
}

static struct lt_mail *mailbox_find(const struct lt_mailbox *b, const struct lt_copy *copy,
                                    uint32_t hash) {
    uint32_t at = b->chain ? b->chain[hash & b->mask] : 0;
    for (; at; at = b->ring[at - 1].next)
        if (b->ring[at - 1].hash == hash && mailbox_same(b->ring[at - 1].copy, copy))
            return &b->ring[at - 1];
    return NULL;
}

// ---- the ring

// Makes it twice as large. Returns  false: there is no memory for it, nothing changed.
static bool mailbox_grow(struct lt_mailbox *b) {
    size_t slots = b->ring ? 2 * (b->mask + 1) : MAILBOX_SLOTS_MIN;
    bool keyed = b->when_full == LEAT_KEEP_LATEST;
    if (slots > UINT32_MAX / 2)
        return false;
    struct lt_mail *ring = lt_alloc(b->mem, slots * sizeof *ring);
    uint32_t *chain = ring && keyed ? lt_zalloc(b->mem, slots * sizeof *chain) : NULL;
    if (!ring || (keyed && !chain)) {
        lt_free(b->mem, ring);
        return false;
    }
    for (uint64_t n = b->head; n != b->tail; n++)
        ring[(size_t)n & (slots - 1)] = *mailbox_at(b, n);
    lt_free(b->mem, b->ring);
    lt_free(b->mem, b->chain);
    b->ring = ring;
    b->chain = chain;
    b->mask = slots - 1;
    for (uint64_t n = b->head; keyed && n != b->tail; n++)
        mailbox_link(b, n);
    return true;
}

static enum lt_mail_result mailbox_append(struct lt_mailbox *b, struct lt_copy *copy,
                                          uint32_t hash) {
    if (!b->ring || lt_mailbox_count(b) > b->mask)
        if (!mailbox_grow(b)) {
            lt_mailbox_lose(b);
            return LT_MAIL_DROPPED;
        }
    *mailbox_at(b, b->tail) = (struct lt_mail){ .copy = copy, .before = b->lost, .hash = hash };
    b->lost = 0;
    b->bytes += (int64_t)copy->weight;
    if (b->chain)
        mailbox_link(b, b->tail);
    b->tail++;
    return LT_MAIL_TAKEN;
}

const struct lt_mail *lt_mailbox_first(const struct lt_mailbox *b) {
    return b->head == b->tail ? NULL : mailbox_at(b, b->head);
}

struct lt_mail lt_mailbox_take(struct lt_mailbox *b) {
    struct lt_mail mail = *mailbox_at(b, b->head);
    if (b->chain)
        mailbox_unlink_first(b);
    b->head++;
    b->bytes -= (int64_t)mail.copy->weight;
    return mail;
}

uint64_t lt_mailbox_clear(struct lt_mailbox *b) {
    uint64_t n = lt_mailbox_count(b);
    while (b->head != b->tail)
        lt_copy_drop(lt_mailbox_take(b).copy, 1);
    return n;
}

// ---- when it is full

// n were lost in front of what is the first now.
static void mailbox_tell(struct lt_mailbox *b, uint64_t n) {
    if (b->head == b->tail)
        b->lost += n;
    else
        mailbox_at(b, b->head)->before += n;
}

void lt_mailbox_lose(struct lt_mailbox *b) {
    b->dropped++;
    b->lost++;
}

static bool mailbox_fits(const struct lt_mailbox *b, size_t weight, uint64_t in_hand) {
    uint64_t count = lt_mailbox_count(b) + in_hand;
    if (count >= b->room)
        return false;
    return count == 0 || (int64_t)weight <= b->bytes_max - b->bytes;
}

// Drops the oldest until there is room, or nothing to drop.
static void mailbox_make_room(struct lt_mailbox *b, size_t weight, uint64_t in_hand) {
    while (!mailbox_fits(b, weight, in_hand) && b->head != b->tail) {
        struct lt_mail mail = lt_mailbox_take(b);
        b->dropped++;
        mailbox_tell(b, mail.before + 1);
        lt_copy_drop(mail.copy, 1);
    }
}

// Puts copy where `old` waits; if that makes it too many bytes, the oldest others go.
static void mailbox_replace(struct lt_mailbox *b, struct lt_mail *old, struct lt_copy *copy) {
    b->bytes += (int64_t)copy->weight - (int64_t)old->copy->weight;
    lt_copy_drop(old->copy, 1);
    old->copy = copy;
    while (b->bytes > b->bytes_max && lt_mailbox_count(b) > 1) {
        struct lt_mail mail = lt_mailbox_take(b);
        if (mail.copy == copy) { // it has come to the front: it goes on behind the others
            mailbox_tell(b, mail.before);
            (void)mailbox_append(b, copy, mail.hash); // into the room that it left
            continue;
        }
        b->dropped++;
        mailbox_tell(b, mail.before + 1);
        lt_copy_drop(mail.copy, 1);
    }
}

enum lt_mail_result lt_mailbox_put(struct lt_mailbox *b, struct lt_copy *copy, uint64_t in_hand) {
    bool keyed = b->when_full == LEAT_KEEP_LATEST;
    uint32_t hash = keyed ? mailbox_hash(copy) : 0;
    struct lt_mail *old = keyed ? mailbox_find(b, copy, hash) : NULL;
    if (old) {
        mailbox_replace(b, old, copy);
        return LT_MAIL_TAKEN;
    }
    if (!mailbox_fits(b, copy->weight, in_hand)) {
        if (b->when_full == LEAT_BLOCK || b->when_full == LEAT_FAIL)
            return LT_MAIL_FULL;
        if (b->when_full != LEAT_DROP_NEWEST)
            mailbox_make_room(b, copy->weight, in_hand);
        if (b->when_full == LEAT_DROP_NEWEST || !mailbox_fits(b, copy->weight, in_hand)) {
            lt_mailbox_lose(b);
            return LT_MAIL_DROPPED;
        }
    }
    enum lt_mail_result rc = mailbox_append(b, copy, hash);
    if (lt_mailbox_count(b) + in_hand > b->count_max)
        b->count_max = lt_mailbox_count(b) + in_hand;
    return rc;
}
