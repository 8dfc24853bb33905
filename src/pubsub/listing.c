/* SPDX-License-Identifier: MIT */
// listing: who listens to what. It reads as a publisher does, in a section of grace, and so holds
// nobody up; what changes meanwhile it sees as it was or as it is.
#include "pubsub/channel.h"

#include <string.h>

struct listing {
    leat_channel_info *out;
    size_t max, n;
};

static leat_channel_info *listing_add(struct listing *l, const char *name) {
    leat_channel_info *info = l->n < l->max ? &l->out[l->n] : NULL;
    l->n++;
    if (info) {
        *info = (leat_channel_info){ .subscribers = 0 };
        memcpy(info->name, name, strlen(name) + 1); // at most LT_PATTERN_MAX bytes, it was checked
    }
    return info;
}

static bool listing_same(const leat_subscription *a, const leat_subscription *b) {
    return a->tokens == b->tokens && a->pattern_len == b->pattern_len &&
           memcmp(a->pattern, b->pattern, a->pattern_len) == 0;
}

static void listing_channel(struct listing *l, struct lt_channel *ch) {
    leat_subscription *s = atomic_load(&ch->listeners.first);
    leat_channel_info *info = s ? listing_add(l, ch->name) : NULL; // else it is on its way out
    for (; s && info; s = atomic_load(&s->next))
        info->subscribers++;
}

// Patterns with one prefix stand in one list; each is told at the first that has it.
static void listing_prefix(struct listing *l, struct lt_channel *prefix) {
    leat_subscription *first = atomic_load(&prefix->listeners.first);
    for (leat_subscription *s = first; s; s = atomic_load(&s->next)) {
        leat_subscription *t = first;
        // What was `first` may be taken out meanwhile, and still leads on; s itself ends the
        // search.
        while (t && t != s && !listing_same(t, s))
            t = atomic_load(&t->next);
        if (t && t != s)
            continue;
        leat_channel_info *info = listing_add(l, s->pattern);
        if (!info)
            continue;
        info->pattern = s->tokens ? 2 : 1;
        for (t = s; t; t = atomic_load(&t->next))
            info->subscribers += listing_same(t, s) ? 1 : 0;
    }
}

static void listing_walk(struct listing *l, struct lt_names *names,
                         void (*add)(struct listing *l, struct lt_channel *ch)) {
    struct lt_channel_table *t = atomic_load(&names->table);
    for (size_t i = 0; t && i <= t->mask; i++) {
        struct lt_channel *ch = atomic_load(&t->slot[i]);
        if (ch && ch != &lt_channel_gone)
            add(l, ch);
    }
}

int leat_channel_list(leat *mq, leat_channel_info *out, size_t max, size_t size_of_one) {
    int rc = lt_enter(mq, LT_CALL_CB);
    if (rc == 0 && (size_of_one != sizeof(leat_channel_info) || (max > 0 && !out)))
        rc = lt_fail(LEAT_EINVAL, "channel list: out is NULL or entries of %zu bytes", size_of_one);
    if (rc != 0)
        return rc;
    struct lt_channels *cs = mq->channels;
    struct listing l = { .out = out, .max = max };
    uint32_t token = lt_grace_enter(&cs->grace);
    atomic_fetch_add_explicit(&cs->no_publish, 1, memory_order_relaxed);
    listing_walk(&l, &cs->names, listing_channel);
    listing_walk(&l, &cs->prefixes, listing_prefix);
    lt_grace_leave(&cs->grace, token);
    return (int)l.n;
}
