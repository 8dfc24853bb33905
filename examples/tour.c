/* SPDX-License-Identifier: MIT */
// tour: one file, one record per line, and the same records seen three ways: as a stream (groups
// that read at their own pace), as a queue (workers that share the work), and live on a channel.
// Whatever it says it has counted twice: once by leat, once from the file itself.
//
// Usage: tour [FILE]. Default: Debian's package log, else the LICENSE of this project.
#include "leat.h"
#include "leat_test.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARTITIONS = 4, TRIES = 3, WORKERS = 3, GRAB = 10, VISIBILITY_MS = 30000 };
#define RECORD_MAX (16u * 1024 * 1024)
#define KEY_MAX    (64u * 1024)

struct count { // how many, and a sum over their bytes that does not depend on the order
    uint64_t n, sum;
};

struct tour {
    char dir[4096];
    const char *file;
    leat *mq;
    leat_topic *lines;
    uint64_t in_file;  // lines in the file, counted without leat
    struct count sent; // what leat accepted
    uint64_t skipped;  // lines over the record limit
    uint64_t per_partition[PARTITIONS];
    leat_metadata middle;     // where the poison line is: the one in the middle of the file
    struct count early, late; // heard on the channel
    uint64_t early_expected, late_expected;
    struct count indexer, counter;
    uint64_t acked, dead;
};

static void fail(const char *what) {
    fprintf(stderr, "tour: %s\n", what);
    exit(1);
}

static int must(int rc, const char *what) {
    if (rc >= 0)
        return rc;
    fprintf(stderr, "tour: %s: %s: %s\n", what, leat_errname(rc), leat_errmsg());
    exit(1);
}

static void check(bool holds, const char *what, uint64_t is, uint64_t expected) {
    if (holds)
        return;
    fprintf(stderr, "tour: %s: %" PRIu64 ", expected %" PRIu64 "\n", what, is, expected);
    exit(1);
}

static void add(struct count *c, const void *data, size_t size) {
    const unsigned char *p = data;
    uint64_t h = 1469598103934665603u; // FNV-1a
    for (size_t i = 0; i < size; i++)
        h = (h ^ p[i]) * 1099511628211u;
    c->n++;
    c->sum += h;
}

// ---- the file

static FILE *open_file(const struct tour *t) {
    FILE *f = fopen(t->file, "rb");
    if (!f) {
        perror(t->file);
        exit(1);
    }
    return f;
}

// A line ends at a newline or at the end of the file.
static uint64_t count_lines(const struct tour *t) {
    FILE *f = open_file(t);
    static char buf[65536];
    uint64_t lines = 0;
    size_t n;
    char last = '\n';
    while ((n = fread(buf, 1, sizeof buf, f)) > 0) {
        for (size_t i = 0; i < n; i++)
            lines += buf[i] == '\n';
        last = buf[n - 1];
    }
    if (ferror(f))
        fail("reading the file");
    (void)fclose(f);
    return lines + (last != '\n');
}

static leat_bytes first_field(const char *line, size_t n) {
    size_t k = 0;
    while (k < n && k < KEY_MAX && !strchr(" \t\r\v\f", line[k]))
        k++;
    // strchr finds the terminator too: a NUL byte ends the field like white space.
    return k > 0 ? (leat_bytes){ line, k } : (leat_bytes){ NULL, 0 };
}

// ---- sending, and the channel

static void hear(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    add(ctx, m->value.data, m->value.size);
}

static bool on_pattern(uint64_t number) {
    return number % 5 == 0; // what lines.*[05] matches
}

// Line 17 is heard on the channel lines.17.
static void publish(struct tour *t, const leat_record *r, uint64_t number, bool both) {
    char channel[32];
    (void)snprintf(channel, sizeof channel, "lines.%" PRIu64, number);
    int heard = must(leat_publish(t->mq, channel, r->value.data, r->value.size), "publish");
    int expected = on_pattern(number) ? 1 + both : 0;
    check(heard == expected, "subscribers that heard a line", (uint64_t)heard, (uint64_t)expected);
    t->early_expected += on_pattern(number);
    t->late_expected += on_pattern(number) && both;
}

static void send_line(struct tour *t, leat_producer *p, const char *line, size_t n, bool both) {
    leat_record r = { .key = first_field(line, n), .value = { line, n } };
    leat_metadata md;
    uint64_t number = t->sent.n + t->skipped;
    int rc = leat_send(p, t->lines, &r, &md);
    if (rc == LEAT_ETOOBIG && n + r.key.size > RECORD_MAX) {
        printf("   line %" PRIu64 " is skipped: %s\n", number + 1, leat_errmsg());
        t->skipped++;
        return;
    }
    must(rc, "send");
    if (number <= t->in_file / 2 || t->sent.n == 0)
        t->middle = md;
    add(&t->sent, line, n);
    t->per_partition[md.partition]++;
    publish(t, &r, number + 1, both);
}

static void send_all(struct tour *t) {
    leat_producer *p;
    leat_subscription *early, *late = NULL;
    must(leat_producer_open(t->mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p),
         "producer");
    must(leat_channel_subscribe(t->mq, "lines.*[05]", hear, &t->early, NULL, &early), "subscribe");
    FILE *f = open_file(t);
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    while ((n = getline(&line, &room, f)) >= 0) {
        size_t size = (size_t)n - (n > 0 && line[n - 1] == '\n');
        if (!late && t->sent.n + t->skipped >= t->in_file / 2)
            must(leat_channel_subscribe(t->mq, "lines.*[05]", hear, &t->late, NULL, &late),
                 "subscribe late");
        send_line(t, p, line, size, late != NULL);
    }
    if (ferror(f))
        fail("reading the file");
    free(line);
    (void)fclose(f);
    must(leat_subscription_close(early, 0), "unsubscribe");
    if (late)
        must(leat_subscription_close(late, 0), "unsubscribe");
    must(leat_producer_close(p, 0), "producer close");
}

static void tell_sent(const struct tour *t) {
    printf("1. Every line of %s was sent to the topic \"lines\", in a directory on disk.\n"
           "   Lines with the same first field are in the same partition, in their order:\n",
           t->file);
    for (int i = 0; i < PARTITIONS; i++)
        printf("     partition %d  %10" PRIu64 " lines\n", i, t->per_partition[i]);
    check(t->sent.n + t->skipped == t->in_file, "lines sent and skipped", t->sent.n + t->skipped,
          t->in_file);
    printf("2. CHANNEL, the loudspeaker. While they were sent they were also published. One\n"
           "   subscriber listened to lines.*[05], every fifth line, and heard %" PRIu64
           "; one who came\n"
           "   half-way heard %" PRIu64 ": a channel keeps nothing for those who come late.\n",
           t->early.n, t->late.n);
    check(t->early.n == t->early_expected, "heard from the start", t->early.n, t->early_expected);
    check(t->late.n == t->late_expected, "heard from half-way", t->late.n, t->late_expected);
}

// ---- stream

static void open_store(struct tour *t) {
    leat_options o = { .acks = LEAT_ACKS_LOG, .clock = LEAT_CLOCK_MANUAL, .seed = 1 };
    must(leat_open(t->dir, &o, &t->mq), "open");
    leat_topic_options to = { .partitions = PARTITIONS };
    must(leat_topic_open(t->mq, "lines", &to, &t->lines), "topic");
}

// Reads as a member of the group until `stop` messages were counted, or the end. What it returns
// is committed after each poll. expected: where each partition must begin, or NULL.
static void read_group(struct tour *t, const char *group, uint64_t stop, struct count *c,
                       const leat_position *expected) {
    leat_consumer *consumer;
    const leat_message *m;
    bool begun[PARTITIONS] = { false };
    int n = 0;
    // Small steps where the group is to stop: a member commits what a poll returned.
    uint64_t step = stop / 8 < 1 ? 1 : stop / 8 > 500 ? 500 : stop / 8;
    leat_consumer_options o = { .max_poll_records = (int32_t)step };
    must(leat_consumer_open(t->mq, group, &o, &consumer), "consumer");
    must(leat_consumer_subscribe(consumer, "lines"), "subscribe");
    while (c->n < stop && (n = must(leat_poll(consumer, 0, &m), "poll")) > 0) {
        for (int i = 0; i < n; i++) {
            int32_t p = m[i].partition;
            if (expected && !begun[p])
                check(m[i].offset == expected[p].offset, "offset to go on at",
                      (uint64_t)m[i].offset, (uint64_t)expected[p].offset);
            begun[p] = true;
            add(c, m[i].value.data, m[i].value.size);
        }
        must(leat_commit(consumer), "commit");
    }
    must(leat_consumer_close(consumer), "consumer close");
}

static void committed(struct tour *t, const char *group, leat_position out[PARTITIONS]) {
    leat_lag lag[PARTITIONS];
    int n = must(leat_group_lag(t->mq, group, lag, PARTITIONS, sizeof lag[0]), "lag");
    for (int i = 0; i < PARTITIONS; i++)
        out[i] = (leat_position){ .partition = i };
    for (int i = 0; i < n; i++)
        if (lag[i].committed >= 0)
            out[lag[i].partition].offset = lag[i].committed;
}

static void stream(struct tour *t) {
    leat_position before[PARTITIONS], after[PARTITIONS];
    read_group(t, "indexer", UINT64_MAX, &t->indexer, NULL);
    read_group(t, "counter", t->sent.n / 2, &t->counter, NULL);
    uint64_t half = t->counter.n;
    committed(t, "counter", before);
    must(leat_close_all(t->mq, 0), "close");
    open_store(t);
    committed(t, "counter", after);
    for (int i = 0; i < PARTITIONS; i++)
        check(after[i].offset == before[i].offset, "committed offset after the reopen",
              (uint64_t)after[i].offset, (uint64_t)before[i].offset);
    read_group(t, "counter", UINT64_MAX, &t->counter, after);
    printf("3. STREAM, the logbook. The group \"indexer\" read all %" PRIu64 " lines. The group\n"
           "   \"counter\" stopped after %" PRIu64
           ", the store was closed and opened again, and its next\n"
           "   member read the other %" PRIu64
           ": it went on where the group had committed. Neither\n"
           "   disturbed the other; the lines are all still there.\n",
           t->indexer.n, half, t->counter.n - half);
    check(t->indexer.n == t->sent.n, "lines that indexer read", t->indexer.n, t->sent.n);
    check(t->counter.n == t->sent.n, "lines that counter read", t->counter.n, t->sent.n);
    check(t->indexer.sum == t->sent.sum && t->counter.sum == t->sent.sum, "sum of the lines read",
          t->counter.sum, t->sent.sum);
}

// ---- queue

static bool is_poison(const struct tour *t, const leat_message *m) {
    return m->partition == t->middle.partition && m->offset == t->middle.offset;
}

// A worker takes some messages and dies: it neither acks nor says a word.
static int take_and_die(struct tour *t, leat_queue *q) {
    leat_message m[GRAB];
    int n = must(leat_queue_receive(q, 0, m, GRAB), "receive");
    for (int i = 0; i < n; i++)
        must(leat_message_release(t->mq, &m[i]), "release");
    return n;
}

// The workers take turns until nothing is left. The poison line makes whoever gets it fail.
static void work(struct tour *t, leat_queue *q, uint64_t done_by[WORKERS], struct count *acked) {
    for (int idle = 0, w = 0; idle < WORKERS; w = (w + 1) % WORKERS) {
        leat_message m[GRAB];
        int n = must(leat_queue_receive(q, 0, m, GRAB), "receive");
        idle = n > 0 ? 0 : idle + 1;
        for (int i = 0; i < n; i++) {
            if (is_poison(t, &m[i])) {
                must(leat_queue_nack(q, &m[i], 0, 0), "nack");
                continue;
            }
            add(acked, m[i].value.data, m[i].value.size);
            must(leat_queue_ack(q, &m[i]), "ack");
            done_by[w]++;
        }
    }
}

// Empties the dead-letter queue into *c and shows what a dead letter says of itself.
static void read_dead(leat_queue *dead, struct count *c) {
    leat_message m;
    while (must(leat_queue_receive(dead, 0, &m, 1), "receive dead") > 0) {
        add(c, m.value.data, m.value.size);
        printf("   A dead letter says where it comes from:");
        leat_header h;
        for (size_t i = 0; leat_message_header(&m, i, &h) > 0; i++)
            printf(" %s=%s", (const char *)h.name.data, (const char *)h.value.data);
        printf("\n");
        must(leat_queue_ack(dead, &m), "ack dead");
    }
}

static void queue(struct tour *t) {
    leat_queue *q, *dead;
    must(leat_queue_open(t->mq, "lines.dead", NULL, &dead), "dead-letter queue");
    leat_queue_options o = { .topic = "lines",
                             .visibility_timeout_ms = VISIBILITY_MS,
                             .deliveries_max = TRIES,
                             .dead_letter = "lines.dead" };
    must(leat_queue_open(t->mq, "work", &o, &q), "queue");
    int taken = take_and_die(t, q);
    uint64_t done_by[WORKERS] = { 0 };
    struct count acked = { 0, 0 }, died = { 0, 0 };
    work(t, q, done_by, &acked);
    uint64_t before = acked.n;
    must(leat_clock_advance(t->mq, VISIBILITY_MS), "advance"); // 30 seconds pass, at once
    work(t, q, done_by, &acked);
    printf(
        "4. QUEUE, the to-do list, over the very same topic. A worker took %d lines and died.\n"
        "   Three others shared the rest, %" PRIu64 " lines. After the visibility timeout of 30 s\n"
        "   (the tour moves the clock itself) the %d came back, and they did %" PRIu64 " more.\n",
        taken, before, taken, acked.n - before);
    for (int w = 0; w < WORKERS; w++)
        printf("     worker %d     %10" PRIu64 " lines\n", w + 1, done_by[w]);
    if (t->sent.n > 0)
        printf("   The line in the middle makes every worker fail: after %d tries it is dead.\n",
               TRIES);
    read_dead(dead, &died);
    t->acked = acked.n;
    t->dead = died.n;
    check(died.n == (t->sent.n > 0), "dead letters", died.n, t->sent.n > 0);
    check(acked.n + died.n == t->sent.n, "lines acked and dead", acked.n + died.n, t->sent.n);
    check(acked.sum + died.sum == t->sent.sum, "sum of the lines acked and dead",
          acked.sum + died.sum, t->sent.sum);
}

// ---- the whole

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static char tour_dir[4096]; // for the exit handler, which has no argument

static void clean_up(void) {
    (void)nftw(tour_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *choose_file(int argc, char **argv) {
    if (argc > 1)
        return argv[1];
    return access("/var/log/dpkg.log", R_OK) == 0 ? "/var/log/dpkg.log" : "LICENSE";
}

int main(int argc, char **argv) {
    struct tour t = { .file = choose_file(argc, argv) };
    t.in_file = count_lines(&t);
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(tour_dir, sizeof tour_dir, "%s/leat-tour-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(tour_dir))
        fail("no temporary directory");
    (void)atexit(clean_up);
    memcpy(t.dir, tour_dir, sizeof t.dir);
    open_store(&t);
    send_all(&t);
    tell_sent(&t);
    stream(&t);
    queue(&t);
    must(leat_close_all(t.mq, 0), "close");
    printf("tour: lines=%" PRIu64 " skipped=%" PRIu64 " stream=%" PRIu64 " queue_acked=%" PRIu64
           " queue_dead=%" PRIu64 " channel=%" PRIu64 " ok\n",
           t.sent.n, t.skipped, t.indexer.n, t.acked, t.dead, t.early.n);
    return 0;
}
