/* SPDX-License-Identifier: MIT */
// dump: who listens to what as text: channels, then patterns, by name, and the subscriptions to one
// in the order in which they came. All of it is one look, under the lock that holds up whoever
// subscribes or leaves, and no publisher.
#include "pubsub/channel.h"
#include "pubsub/pubsub.h"
#include "pubsub/queued.h"

#include <stdlib.h>
#include <string.h>

struct dump_subs {
    leat_subscription **s; // NULL: they are only counted
    size_t count;
};

static void dump_collect(struct dump_subs *d, struct lt_names *names) {
    struct lt_channel_table *t = atomic_load(&names->table);
    for (size_t i = 0; t && i <= t->mask; i++) {
        struct lt_channel *ch = atomic_load(&t->slot[i]);
        if (!ch || ch == &lt_channel_gone)
            continue;
        for (leat_subscription *s = atomic_load(&ch->listeners.first); s; s = atomic_load(&s->next))
            if (d->s)
                d->s[d->count++] = s;
            else
                d->count++;
    }
}

static int dump_kind(const leat_subscription *s) {
    return s->exact ? 0 : s->tokens ? 2 : 1;
}

static int dump_sub_before(const void *a, const void *b) {
    const leat_subscription *x = *(leat_subscription *const *)a;
    const leat_subscription *y = *(leat_subscription *const *)b;
    if (dump_kind(x) != dump_kind(y))
        return dump_kind(x) - dump_kind(y);
    int names = strcmp(x->pattern, y->pattern);
    return names != 0 ? names : (x->serial > y->serial) - (x->serial < y->serial);
}

static void dump_sub(leat_subscription *s, struct lt_text *text) {
    static const char *const kind[] = { "channel", "pattern", "pattern of tokens" };
    lt_text_add(text, "%s %s: ", kind[dump_kind(s)], s->pattern);
    if (s->child.name && strcmp(s->child.name, s->pattern) != 0)
        lt_text_add(text, "%s, ", s->child.name);
    struct lt_queued *q = s->queued;
    if (!q) {
        lt_text_line(text, "%s", s->recorder ? "recorded" : "inline");
        return;
    }
    lt_lock(&q->lock);
    lt_text_line(text, "%s, waiting %llu, dropped %llu", q->pulled ? "next" : "callback",
                 (unsigned long long)lt_queued_waiting(q), (unsigned long long)q->box.dropped);
    lt_unlock(&q->lock);
}

int lt_channels_dump(leat *mq, struct lt_text *text) {
    struct lt_channels *cs = mq->channels;
    struct dump_subs d = { .s = NULL };
    lt_lock(&cs->lock);
    dump_collect(&d, &cs->names);
    dump_collect(&d, &cs->prefixes);
    d.s = lt_alloc(&mq->mem, d.count * sizeof *d.s);
    int rc = d.s ? 0 : lt_fail_nomem();
    if (d.s) {
        d.count = 0;
        dump_collect(&d, &cs->names);
        dump_collect(&d, &cs->prefixes);
        if (d.count > 1)
            qsort(d.s, d.count, sizeof *d.s, dump_sub_before);
        for (size_t i = 0; i < d.count; i++)
            dump_sub(d.s[i], text);
    }
    lt_unlock(&cs->lock);
    lt_free(&mq->mem, d.s);
    return rc;
}
