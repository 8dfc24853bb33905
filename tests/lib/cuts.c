/* SPDX-License-Identifier: MIT */
#include "lib/cuts.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct cuts cuts;
const char *const cuts_name[CUTS_QUEUES] = { "plain", "dead", "over", "kept" };

enum { CUTS_STATES = 4, CUTS_PEEK = 16 };

void cuts_begin(uint64_t seed) {
    cuts = (struct cuts){ .seed = seed, .chance = seed * UINT64_C(0x9e3779b97f4a7c15) + 1 };
    for (int i = 0; i < 10; i++)
        (void)cuts_draw(2);
}

uint32_t cuts_draw(uint32_t n) { // xorshift
    cuts.chance ^= cuts.chance << 13;
    cuts.chance ^= cuts.chance >> 7;
    cuts.chance ^= cuts.chance << 17;
    return (uint32_t)((cuts.chance >> 11) % n);
}

bool cuts_one_in(uint32_t n) {
    return cuts_draw(n) == 0;
}

void cuts_complain(const char *format, ...) {
    if (cuts.failed)
        return;
    cuts.failed = true;
    printf("seed %llu step %d: ", (unsigned long long)cuts.seed, cuts.step);
    va_list ap;
    va_start(ap, format);
    (void)vprintf(format, ap);
    va_end(ap);
    printf("\n");
    (void)fflush(stdout);
}

bool cuts_is(const char *what, int rc, int want) {
    if (rc != want)
        cuts_complain("%s: %d, not %d: %s", what, rc, want, rc < 0 ? leat_errmsg() : "");
    return rc == want;
}

// ---- the store

bool cuts_open(void) {
    leat_options o = { .flags = LEAT_CRASHABLE,
                       .threads = LEAT_NO_THREADS,
                       .clock = LEAT_CLOCK_JUMP,
                       .seed = cuts.seed,
                       .acks = LEAT_ACKS_LOG };
    leat_producer_options disk = { .acks = LEAT_ACKS_DISK };
    return cuts_is("open", leat_open_memory(&o, &cuts.mq), 0) &&
           cuts_is("producer", leat_producer_open(cuts.mq, NULL, &cuts.log), 0) &&
           cuts_is("producer", leat_producer_open(cuts.mq, &disk, &cuts.disk), 0);
}

bool cuts_cut(void) {
    leat *next = NULL;
    leat_producer_options disk = { .acks = LEAT_ACKS_DISK };
    int how = cuts_one_in(4) ? LEAT_KILL : LEAT_POWER_CUT;
    bool good =
        cuts_is(how == LEAT_KILL ? "kill" : "power cut", leat_crash(cuts.mq, how, &next), 0);
    cuts_release();
    (void)cuts_is("close of what was cut", leat_close_all(cuts.mq, 0), 0);
    cuts.mq = next;
    return good && cuts_is("producer", leat_producer_open(next, NULL, &cuts.log), 0) &&
           cuts_is("producer", leat_producer_open(next, &disk, &cuts.disk), 0);
}

bool cuts_open_queues(void) {
    bool good = cuts_is("topic", leat_topic_open(cuts.mq, "t", NULL, &cuts.t), 0);
    leat_queue_options o = { .flags = LEAT_MUST_EXIST };
    for (int i = 0; i < CUTS_QUEUES && good; i++)
        good = cuts_is(cuts_name[i], leat_queue_open(cuts.mq, cuts_name[i], &o, &cuts.q[i]), 0);
    return good;
}

void cuts_release(void) {
    for (int i = 0; i < cuts.helds; i++)
        (void)leat_message_release(cuts.mq, &cuts.held[i].m);
    cuts.helds = 0;
}

// ---- what was done

static uint32_t cuts_id(const leat_message *m) {
    uint32_t id = CUTS_OFFSETS;
    if (m->value.size >= sizeof id)
        memcpy(&id, m->value.data, sizeof id);
    return id;
}

static bool cuts_in_sight(int32_t partition, int64_t offset) {
    return partition < CUTS_PARTS && offset < CUTS_OFFSETS;
}

void cuts_sent(const leat_topic *t, uint32_t id, const leat_metadata *md, bool disk) {
    for (int i = 0; i < CUTS_QUEUES; i++) {
        if (leat_queue_topic(cuts.q[i]) != t)
            continue;
        if (cuts_in_sight(md->partition, md->offset) &&
            cuts.given_back[i][md->partition][md->offset])
            cuts_complain("%s: partition %d offset %lld is of two messages", cuts_name[i],
                          md->partition, (long long)md->offset);
        if (disk && id < CUTS_OFFSETS)
            cuts.owed[i][id] = cuts.owes[i];
    }
}

static void cuts_not_acked(int queue, const leat_message *m, const char *what) {
    if (cuts_in_sight(m->partition, m->offset) && cuts.acked[queue][m->partition][m->offset])
        cuts_complain("%s: partition %d offset %lld was acked, and is %s", cuts_name[queue],
                      m->partition, (long long)m->offset, what);
}

void cuts_received(int queue, const leat_message *m) {
    uint32_t id = cuts_id(m);
    cuts_not_acked(queue, m, "handed out");
    if (id < CUTS_OFFSETS)
        cuts.owed[queue][id] = false;
}

void cuts_settled(int queue, const leat_message *m, bool ack) {
    if (!cuts.on_disk[queue] || !cuts_in_sight(m->partition, m->offset))
        return;
    cuts.given_back[queue][m->partition][m->offset] = true;
    cuts.acked[queue][m->partition][m->offset] = ack;
}

void cuts_ended(int queue) {
    memset(cuts.owed[queue], 0, sizeof cuts.owed[queue]);
}

void cuts_trimmed(const leat_topic *t) {
    for (int i = 0; i < CUTS_QUEUES; i++)
        if (leat_queue_topic(cuts.q[i]) == t)
            cuts_ended(i);
}

// ---- what is there

// Counts the messages of a queue in a state, by looking at each; there: their ids.
static uint64_t cuts_peek(int queue, int state, bool there[CUTS_OFFSETS]) {
    leat_message m[CUTS_PEEK];
    int64_t from = 0;
    uint64_t count = 0;
    int n;
    while ((n = leat_queue_peek(cuts.q[queue], state, from, m, CUTS_PEEK)) > 0) {
        for (int i = 0; i < n; i++) {
            int64_t at = LEAT_PEEK(m[i].partition, m[i].offset);
            uint32_t id = cuts_id(&m[i]);
            if (at < from)
                cuts_complain("%s: a peek goes back", cuts_name[queue]);
            cuts_not_acked(queue, &m[i], "there");
            if (id < CUTS_OFFSETS)
                there[id] = true;
            from = at + 1;
            (void)leat_message_release(cuts.mq, &m[i]);
        }
        count += (uint64_t)n;
    }
    (void)cuts_is("peek", n, 0);
    return count;
}

static void cuts_check_queue(int queue) {
    static const char *const state[CUTS_STATES] = { "available", "delayed", "leased", "kept" };
    static bool there[CUTS_OFFSETS];
    uint64_t found[CUTS_STATES];
    leat_queue_stats s;
    memset(there, 0, sizeof there);
    for (int i = 0; i < CUTS_STATES; i++)
        found[i] = cuts_peek(queue, LEAT_AVAILABLE + i, there);
    if (!cuts_is("stats", leat_queue_get_stats(cuts.q[queue], &s, sizeof s), 0))
        return;
    const uint64_t counted[CUTS_STATES] = { s.available, s.delayed, s.leased, s.kept };
    for (int i = 0; i < CUTS_STATES; i++)
        if (found[i] != counted[i])
            cuts_complain("%s: %lld are counted as %s, %lld are there", cuts_name[queue],
                          (long long)counted[i], state[i], (long long)found[i]);
    if (s.moving > CUTS_OFFSETS || s.oldest_ms < 0)
        cuts_complain("%s: %lld move, the oldest is of %lld ms", cuts_name[queue],
                      (long long)s.moving, (long long)s.oldest_ms);
    for (int id = 0; id < CUTS_OFFSETS; id++)
        if (cuts.owed[queue][id] && !there[id])
            cuts_complain("%s: message %d was on disk, and is lost", cuts_name[queue], id);
}

void cuts_check(void) {
    for (int i = 0; i < CUTS_QUEUES && !cuts.failed; i++)
        cuts_check_queue(i);
}
