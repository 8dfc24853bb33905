/* SPDX-License-Identifier: MIT */
// bytes: what a store takes, of the disk for a record, and of time, disk and memory for a topic.
#include "payload.h"
#include "peers.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- bytes of a record

// What the files of the full segments take: those of a partition but its last. A file's name begins
// with the offset of the first record.
static struct {
    uint64_t last; // offset of the last segment: as many records are in those before
    double bytes;
} segments;

static int segment_of(const char *path, int at, uint64_t *offset) {
    char *end;
    *offset = strtoull(path + at, &end, 10);
    return end - (path + at) == 20 && *end == '.';
}

static int find_last(const char *path, const struct stat *st, int type, struct FTW *where) {
    uint64_t offset;
    (void)st;
    if (type == FTW_F && segment_of(path, where->base, &offset) && offset > segments.last)
        segments.last = offset;
    return 0;
}

static int add_full(const char *path, const struct stat *st, int type, struct FTW *where) {
    uint64_t offset;
    if (type == FTW_F && segment_of(path, where->base, &offset) && offset < segments.last)
        segments.bytes += (double)st->st_size;
    return 0;
}

static void read_queue(leat_queue *q, struct tally *seen) {
    leat_message m[64];
    int n;
    while ((n = leat_queue_receive(q, 0, m, sizeof m / sizeof m[0])) > 0)
        for (int i = 0; i < n; i++) {
            tally_add(seen, m[i].value.data, m[i].value.size);
            must(leat_queue_ack(q, &m[i]), "leat_queue_ack");
        }
    must(n, "leat_queue_receive");
}

// A record's header, padding and share of the index, and the word of a queue; over a topic of its
// own, whose segments stay when all is settled.
static void leat_record_bytes(struct run *r) {
    char dir[PATH_MAX];
    leat *mq;
    leat_topic *t;
    leat_queue *q;
    struct tally sent = { 0 }, seen = { 0 };
    unsigned char value[VALUE_MAX];
    double bytes = 0;
    (void)snprintf(dir, sizeof dir, "%s/store", r->dir);
    must(leat_open(dir, NULL, &mq), "leat_open");
    leat_queue_options o = { .acks = LEAT_ACKS_LOG, .topic = "t" };
    must(leat_topic_open(mq, "t", NULL, &t), "leat_topic_open");
    must(leat_queue_open(mq, "q", &o, &q), "leat_queue_open");
    for (size_t i = 0; i < r->work; i++) {
        leat_record record = { .value = { value, payload_of_any_size(value, i) } };
        tally_sent(&sent, value, record.value.size);
        must(leat_queue_send(q, &record, NULL), "leat_queue_send");
    }
    read_queue(q, &seen);
    tally_compare(&seen, &sent, 1);
    must(leat_close_all(mq, 0), "leat_close_all");
    need(nftw(dir, find_last, 16, FTW_PHYS) == 0 && nftw(dir, add_full, 16, FTW_PHYS) == 0, "nftw");
    if (segments.last == 0)
        fail("no segment is full");
    for (uint64_t i = 0; i < segments.last; i++)
        bytes += (double)payload_of_any_size(value, i);
    r->figure[0] = (segments.bytes - bytes) / (double)segments.last;
}

// ---- a topic

static double allocated;

static int add_allocated(const char *path, const struct stat *st, int type, struct FTW *where) {
    (void)path, (void)type, (void)where;
    allocated += (double)st->st_blocks * 512;
    return 0;
}

static double resident_bytes(void) {
    long pages = 0, size;
    FILE *f = fopen("/proc/self/statm", "r");
    need(f && fscanf(f, "%ld %ld", &size, &pages) == 2, "/proc/self/statm");
    (void)fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

// A record in each of n topics, until all is on the disk. Returns  seconds.
static double make_topics(leat *mq, size_t n) {
    leat_producer *p;
    unsigned char value[VALUE];
    double begin = now_s();
    payload_init(value, sizeof value);
    must(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p),
         "leat_producer_open");
    for (size_t i = 0; i < n; i++) {
        leat_topic *t;
        char name[32];
        (void)snprintf(name, sizeof name, "topic-%zu", i);
        payload_number(value, sizeof value, i);
        must(leat_topic_open(mq, name, NULL, &t), "leat_topic_open");
        must(leat_send(p, t, &(leat_record){ .value = { value, sizeof value } }, NULL),
             "leat_send");
    }
    must(leat_sync(mq), "leat_sync");
    return now_s() - begin;
}

static void check_topics(leat *mq, size_t n) {
    struct tally seen = { 0 };
    leat_consumer *c;
    must(leat_consumer_open(mq, NULL, NULL, &c), "leat_consumer_open");
    for (size_t i = 0; i < n; i++) {
        char name[32];
        const leat_message *m;
        (void)snprintf(name, sizeof name, "topic-%zu", i);
        must(leat_consumer_assign(c, &(leat_position){ .topic = name, .offset = LEAT_BEGIN }, 1),
             "leat_consumer_assign");
        int got = leat_poll(c, 0, &m);
        must(got, "leat_poll");
        if (got != 1)
            fail("%s has %d messages", name, got);
        tally_add(&seen, m->value.data, m->value.size);
    }
    tally_check(&seen, VALUE, n, 1);
}

static void leat_topics(struct run *r) {
    char dir[PATH_MAX];
    leat *mq;
    double n = (double)r->work, before = resident_bytes();
    must(leat_open_memory(&(leat_options){ .memory_max_bytes = LEAT_UNLIMITED }, &mq),
         "leat_open_memory");
    r->figure[1] = make_topics(mq, r->work) / n * 1e6;
    r->figure[3] = (resident_bytes() - before) / n;
    check_topics(mq, r->work);
    must(leat_close_all(mq, 0), "leat_close_all");
    (void)snprintf(dir, sizeof dir, "%s/store", r->dir);
    must(leat_open(dir, NULL, &mq), "leat_open");
    r->figure[0] = make_topics(mq, r->work) / n * 1e6;
    need(nftw(dir, add_allocated, 16, FTW_PHYS) == 0, "nftw");
    r->figure[2] = allocated / n;
    check_topics(mq, r->work);
    must(leat_close_all(mq, 0), "leat_close_all");
}

static const struct bench table[] = {
    { .name = "bytes-per-record",
      .about = "kept beyond the value with one queue, averaged over full segments",
      .work = 1200000,
      .quick = 600000,
      .line = { { "", "bytes", "lower" } },
      .who = { { "leat", leat_record_bytes }, { "sqlite-wal", sqlite_bytes } } },
    { .name = "topics-10000",
      .about = "a record in each of 10,000 topics, until all is on disk (--quick: 1,000)",
      .work = 10000,
      .quick = 1000,
      .line = { { "", "us", "lower" },
                { "-memory", "us", "lower" },
                { "-bytes", "bytes", "lower" },
                { "-memory-bytes", "bytes", "lower" } },
      .who = { { "leat", leat_topics } } },
};

int main(int argc, char **argv) {
    return bench_main(argc, argv, table, sizeof table / sizeof table[0]);
}
