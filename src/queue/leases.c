/* SPDX-License-Identifier: MIT */
// leases: slots, receipts and due times, see leases.h.
#include "queue/leases.h"

// The first chunk of slots, 5.5 KB: arbitrary; an idle queue has none.
enum { LEASES_FIRST = 64 };

#define LEASES_DELIVERIES_MAX UINT16_MAX

static struct lt_lease *leases_at(const struct lt_leases *l, uint32_t slot) {
    return lt_stretch_at(&l->slots, slot);
}

static bool leases_before(const struct lt_lease *x, const struct lt_lease *y) {
    return x->due_ns != y->due_ns ? x->due_ns < y->due_ns : x->order < y->order;
}

static bool leases_less(const struct lt_heap_node *a, const struct lt_heap_node *b) {
    return leases_before(LT_CONTAINER(a, struct lt_lease, node),
                         LT_CONTAINER(b, struct lt_lease, node));
}

static struct lt_lease *leases_of_run(struct lt_node *node) {
    return LT_CONTAINER(node, struct lt_lease, run);
}

static bool leases_state_used(int state) {
    return state > LT_LEASE_FREE && state < LT_LEASE_STATES;
}

void lt_leases_init(struct lt_leases *l, struct lt_mem *mem, uint32_t cap) {
    if (cap == 0 || cap > LT_LEASE_SLOTS_MAX)
        cap = LT_LEASE_SLOTS_MAX;
    *l = (struct lt_leases){ .cap = cap };
    lt_list_init(&l->free);
    for (int k = 0; k < LT_LEASE_RUNS; k++)
        lt_list_init(&l->run[k]);
    lt_heap_init(&l->due, mem, leases_less);
    lt_stretch_init(&l->slots, mem, sizeof(struct lt_lease), LEASES_FIRST);
}

void lt_leases_fini(struct lt_leases *l) {
    struct lt_mem *mem = l->slots.mem;
    lt_heap_fini(&l->due);
    lt_stretch_fini(&l->slots);
    lt_leases_init(l, mem, l->cap);
}

int lt_leases_reserve(struct lt_leases *l) {
    if (l->count[LT_LEASE_FREE] > 0 || l->made < l->room)
        return 0;
    if (l->made == l->cap)
        return LEAT_EFULL;
    int rc = lt_stretch_reserve(&l->slots, l->made + 1);
    if (rc == 0)
        rc = lt_heap_reserve(&l->due, l->made + 1);
    if (rc == 0)
        l->room = l->made + 1;
    return rc;
}

// leases_slot returns a FREE lease which is in no list, or NULL.
static struct lt_lease *leases_slot(struct lt_leases *l) {
    struct lt_node *node = lt_list_first(&l->free);
    if (node) {
        lt_list_remove(node);
        return LT_CONTAINER(node, struct lt_lease, link);
    }
    if (l->made == l->room)
        return NULL;
    struct lt_lease *lease = leases_at(l, l->made);
    lease->slot = l->made++;
    lease->due_ns = LT_LEASE_NEVER;
    lt_node_init(&lease->run);
    lt_node_init(&lease->link);
    l->count[LT_LEASE_FREE]++;
    return lease;
}

struct lt_lease *lt_leases_add(struct lt_leases *l, uint32_t partition, int64_t offset, int state,
                               int64_t due_ns, uint32_t deliveries, uint64_t generation) {
    if (!leases_state_used(state) || generation == 0 || generation > LT_LEASE_GENERATION_MAX)
        return NULL;
    struct lt_lease *lease = leases_slot(l);
    if (!lease)
        return NULL;
    lease->partition = partition;
    lease->offset = offset;
    lease->note = 0;
    lease->who = 0;
    lease->deliveries =
        (uint16_t)(deliveries < LEASES_DELIVERIES_MAX ? deliveries : LEASES_DELIVERIES_MAX);
    lease->generation = generation;
    lt_leases_set(l, lease, state, due_ns);
    return lease;
}

struct lt_lease *lt_leases_find(const struct lt_leases *l, uint64_t receipt) {
    uint64_t slot = receipt >> 40;
    if (slot >= l->made)
        return NULL;
    struct lt_lease *lease = leases_at(l, (uint32_t)slot);
    if (lease->state != LT_LEASE_LEASED && !lease->lingers)
        return NULL;
    return lt_lease_receipt(lease) == receipt ? lease : NULL;
}

static void leases_count(struct lt_leases *l, struct lt_lease *lease, int state) {
    l->count[lease->state]--;
    l->count[state]++;
    lease->state = (uint8_t)state;
}

// leases_unwait takes lease, whose due time is then over, out of the run or the heap it is in.
static void leases_unwait(struct lt_leases *l, struct lt_lease *lease) {
    lt_list_remove(&lease->run);
    lt_heap_remove(&l->due, &lease->node);
    lease->due_ns = LT_LEASE_NEVER;
}

// leases_wait puts lease, which has the highest order of all, where its due time belongs.
static void leases_wait(struct lt_leases *l, struct lt_lease *lease) {
    struct lt_list *best = NULL;
    int64_t best_ns = INT64_MIN;
    for (int k = 0; k < LT_LEASE_RUNS; k++) {
        struct lt_list *run = &l->run[k];
        int64_t last_ns = lt_list_empty(run) ? INT64_MIN : leases_of_run(run->head.prev)->due_ns;
        if (last_ns <= lease->due_ns && (!best || last_ns > best_ns)) {
            best = run;
            best_ns = last_ns;
        }
    }
    if (best)
        lt_list_push_back(best, &lease->run);
    else
        (void)lt_heap_push(&l->due, &lease->node); // cannot fail: invariant 5
}

void lt_leases_set(struct lt_leases *l, struct lt_lease *lease, int state, int64_t due_ns) {
    leases_count(l, lease, state);
    leases_unwait(l, lease);
    lease->lingers = false;
    lease->due_ns = due_ns;
    lease->order = ++l->order;
    if (due_ns != LT_LEASE_NEVER)
        leases_wait(l, lease);
}

void lt_leases_remove(struct lt_leases *l, struct lt_lease *lease) {
    if (lease->state == LT_LEASE_FREE)
        return;
    leases_count(l, lease, LT_LEASE_FREE);
    leases_unwait(l, lease);
    lt_list_remove(&lease->link);
    lt_list_push_back(&l->free, &lease->link);
    lease->lingers = false;
    lease->generation = 0;
}

// leases_first is the lease that falls due first, or NULL.
static struct lt_lease *leases_first(const struct lt_leases *l) {
    struct lt_heap_node *top = lt_heap_top(&l->due);
    struct lt_lease *first = top ? LT_CONTAINER(top, struct lt_lease, node) : NULL;
    for (int k = 0; k < LT_LEASE_RUNS; k++) {
        struct lt_node *node = lt_list_first(&l->run[k]);
        if (node && (!first || leases_before(leases_of_run(node), first)))
            first = leases_of_run(node);
    }
    return first;
}

bool lt_leases_next_due(const struct lt_leases *l, int64_t *due_ns) {
    const struct lt_lease *lease = leases_first(l);
    *due_ns = lease ? lease->due_ns : LT_LEASE_NEVER;
    return lease != NULL;
}

struct lt_lease *lt_leases_pop_due(struct lt_leases *l, int64_t now_ns) {
    struct lt_lease *lease = leases_first(l);
    if (!lease || lease->due_ns > now_ns)
        return NULL;
    leases_unwait(l, lease);
    return lease;
}

struct lt_lease *lt_leases_walk(const struct lt_leases *l, uint32_t *cursor) {
    while (*cursor < l->made) {
        struct lt_lease *lease = leases_at(l, (*cursor)++);
        if (lease->state != LT_LEASE_FREE)
            return lease;
    }
    return NULL;
}

// leases_check_slot holds one slot to invariants 1 to 3.
static bool leases_check_slot(const struct lt_leases *l, uint32_t slot) {
    const struct lt_lease *lease = leases_at(l, slot);
    bool is_free = lease->state == LT_LEASE_FREE;
    bool heaped = lt_heap_has(&lease->node);
    bool waits = heaped != lt_node_linked(&lease->run);
    if (lease->slot != slot || lease->state >= LT_LEASE_STATES)
        return false;
    if (is_free != (lease->generation == 0) || lease->generation > LT_LEASE_GENERATION_MAX)
        return false;
    if (heaped && lt_node_linked(&lease->run))
        return false;
    if (lease->lingers && lease->state != LT_LEASE_DELAYED)
        return false;
    if (is_free && (waits || !lt_node_linked(&lease->link)))
        return false;
    if (waits != (lease->due_ns != LT_LEASE_NEVER) || lease->order > l->order)
        return false;
    return !heaped || (lease->node.at <= l->due.n && l->due.v[lease->node.at - 1] == &lease->node);
}

// leases_check_runs holds the runs to invariant 4. Returns how many leases wait, -1 if it is
// broken.
static int64_t leases_check_runs(const struct lt_leases *l) {
    int64_t waiting = (int64_t)l->due.n;
    for (int k = 0; k < LT_LEASE_RUNS; k++) {
        const struct lt_list *run = &l->run[k];
        struct lt_node *last = NULL;
        for (struct lt_node *node = lt_list_first(run); node; node = lt_list_next(run, node)) {
            if (last && !leases_before(leases_of_run(last), leases_of_run(node)))
                return -1;
            last = node;
            waiting++;
        }
    }
    return waiting;
}

bool lt_leases_check(const struct lt_leases *l) {
    uint32_t count[LT_LEASE_STATES] = { 0 };
    if (l->made > l->room || l->room > l->cap || l->room > l->due.cap)
        return false;
    int64_t waiting = 0;
    for (uint32_t slot = 0; slot < l->made; slot++) {
        if (!leases_check_slot(l, slot))
            return false;
        const struct lt_lease *lease = leases_at(l, slot);
        count[lease->state]++;
        waiting += lease->due_ns != LT_LEASE_NEVER;
    }
    uint32_t listed = 0;
    for (const struct lt_node *n = lt_list_first(&l->free); n; n = lt_list_next(&l->free, n)) {
        if (listed++ >= count[LT_LEASE_FREE])
            return false;
        if (LT_CONTAINER(n, struct lt_lease, link)->state != LT_LEASE_FREE)
            return false;
    }
    for (int state = 0; state < LT_LEASE_STATES; state++) {
        if (count[state] != l->count[state])
            return false;
    }
    return listed == count[LT_LEASE_FREE] && waiting == leases_check_runs(l);
}
