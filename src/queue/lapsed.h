/* SPDX-License-Identifier: MIT */
// lapsed: leases that ran out and whose message was not handed out again. Their receipts still
// settle; the next delivery of the message ends them. A hash table by (partition, offset), chained
// through the leases' own links: entering and leaving allocate nothing.
//
// Threads: none of this locks; the queue's lock guards it.
#ifndef LT_QUEUE_LAPSED_H
#define LT_QUEUE_LAPSED_H

#include "queue/leases.h"

struct lt_lapsed {
    struct lt_mem *mem;
    struct lt_list *bucket;
    size_t buckets; // 0 or a power of two
    uint32_t count;
};

void lt_lapsed_init(struct lt_lapsed *t, struct lt_mem *mem);
void lt_lapsed_fini(struct lt_lapsed *t);
// lt_lapsed_reserve makes the table fit for `leases` entries. Returns  LEAT_ENOMEM.
int lt_lapsed_reserve(struct lt_lapsed *t, uint32_t leases);
// lt_lapsed_add enters a lease, lt_lapsed_remove takes it out if it is in.
void lt_lapsed_add(struct lt_lapsed *t, struct lt_lease *lease);
bool lt_lapsed_remove(struct lt_lapsed *t, struct lt_lease *lease);
bool lt_lapsed_has(const struct lt_lease *lease);
// lt_lapsed_find returns the lapsed lease of a message, or NULL.
struct lt_lease *lt_lapsed_find(const struct lt_lapsed *t, uint32_t partition, int64_t offset);

#endif
