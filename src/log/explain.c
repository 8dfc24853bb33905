/* SPDX-License-Identifier: MIT */
// explain: what a consumer has, and why a poll returns nothing from it now. Put together under the
// group's lock, handed out without it.
#include "base/text.h"
#include "log/consumer.h"

static const char *explain_name(const struct lt_member *m) {
    return m && m->name ? m->name : "(unnamed)";
}

// One partition that c reads.
static void explain_part(leat_consumer *c, const struct lt_consumer_part *part, bool lacks,
                         struct lt_text *text) {
    const struct lt_partition *p = part->cursor.p;
    long long at = part->cursor.offset, end = atomic_load(&p->end);
    long long durable = atomic_load(&p->durable_end);
    const char *topic = p->topic->name;
    if (lt_topic_alive(p->topic) != 0)
        lt_text_line(text, "%s %d: the topic was deleted", topic, p->number);
    else if (part->revoking)
        lt_text_line(text, "%s %d: revoked, goes to another member in the next poll", topic,
                     p->number);
    else if (part->paused)
        lt_text_line(text, "%s %d: paused at offset %lld of %lld", topic, p->number, at, end);
    else if (at < 0)
        lt_text_line(text, "%s %d: nothing is committed, and .start is NONE: seek", topic,
                     p->number);
    else if (at >= end)
        lt_text_line(text, "%s %d: at the end, offset %lld", topic, p->number, end);
    else if (c->durable && at >= durable)
        lt_text_line(text, "%s %d: %lld records from offset %lld on are not durable", topic,
                     p->number, end - at, at);
    else if (lacks)
        lt_text_line(text, "%s %d: %lld records from offset %lld on, waits for bytes", topic,
                     p->number, end - at, at);
    else
        lt_text_line(text, "%s %d: %lld records from offset %lld on", topic, p->number, end - at,
                     at);
}

// What c is to have, and who has it still. Locks: the group's.
static void explain_claims(leat_consumer *c, const struct lt_group_topic *gt,
                           struct lt_text *text) {
    for (int32_t i = 0; i < gt->count; i++) {
        const struct lt_claim *claim = &gt->claim[i];
        if (claim->target != &c->member || lt_consumer_find(c, gt->topic, i))
            continue;
        if (claim->owner == &c->member)
            lt_text_line(text, "%s %d: comes with the next poll", gt->topic->name, i);
        else
            lt_text_line(text, "%s %d: comes when member %s polls or closes", gt->topic->name, i,
                         explain_name(claim->owner));
    }
}

// Why c has nothing of a topic that it is subscribed to. Locks: the group's.
static void explain_idle(leat_consumer *c, const struct lt_group_topic *gt, struct lt_text *text) {
    bool has = false;
    for (int32_t i = 0; i < gt->count; i++)
        has |= gt->claim[i].target == &c->member;
    if (!has && lt_member_reads_locked(&c->member, gt))
        lt_text_line(text,
                     "%s: no partition: group %s has %zu members for %d. It is idle until one "
                     "leaves or the topic grows; a queue over the topic has no such limit",
                     gt->topic->name, c->group->name, gt->readers, gt->count);
}

static void explain_group(leat_consumer *c, struct lt_text *text) {
    struct lt_group *g = c->group;
    lt_lock(&g->lock);
    if (c->member.expelled)
        lt_text_line(text,
                     "expelled: it did not poll for %lld ms; the next poll joins group %s again",
                     (long long)c->interval_ms, g->name);
    for (struct lt_node *n = lt_list_first(&g->topics); n && !c->member.expelled;
         n = lt_list_next(&g->topics, n)) {
        const struct lt_group_topic *gt = LT_CONTAINER(n, struct lt_group_topic, node);
        explain_claims(c, gt, text);
        explain_idle(c, gt, text);
    }
    if (c->member.topic_count == 0 && c->member.pattern_count > 0 && c->member.read_count == 0)
        lt_text_line(text, "no topic matches what is subscribed");
    lt_unlock(&g->lock);
}

static int explain_all(leat_consumer *c, struct lt_text *text) {
    int64_t bytes = 0;
    int rc = c->bytes_min > 1 ? lt_consumer_bytes(c, &bytes) : 0;
    if (rc != 0)
        return rc;
    bool lacks = c->bytes_min > 1 && bytes < c->bytes_min;
    lt_text_line(text, "consumer %s of %s%s: %zu partitions", c->name ? c->name : "(unnamed)",
                 c->group ? "group " : "no group", c->group ? c->group->name : "", c->part_count);
    if (lacks)
        lt_text_line(text, "waits for bytes: %lld of %lld", (long long)bytes,
                     (long long)c->bytes_min);
    for (size_t i = 0; i < c->part_count; i++)
        explain_part(c, &c->part[i], lacks, text);
    if (c->group && !c->assigned)
        explain_group(c, text);
    if (c->part_count == 0 && c->member.topic_count + c->member.pattern_count == 0)
        lt_text_line(text, "nothing is subscribed or assigned");
    return 0;
}

int leat_consumer_explain(leat_consumer *c, leat_write_fn write, void *ctx) {
    if (!write)
        return lt_fail(LEAT_EINVAL, "consumer explain: write is NULL");
    int rc = lt_consumer_enter_event(c);
    if (rc != 0)
        return rc;
    struct lt_text text = { .mem = &c->mq->mem };
    rc = explain_all(c, &text);
    if (rc == 0)
        rc = lt_text_write(&text, write, ctx);
    return lt_consumer_leave(c, rc);
}
