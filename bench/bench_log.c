/* SPDX-License-Identifier: MIT */
// bench_log: what the log costs beside the least that any log must do, in one run, interleaved.
// 100-byte values, one thread unless the name says otherwise. Each figure is the median of 5 runs,
// with the lowest and highest, and the ratio of the medians.
//
//  append-memory, append-disk   acks LOG, beside a bare loop of checksum, copy and index into fresh
//                               memory, or into a mapped file
//  append-durable-1             acks DISK, beside a bare loop of store and fdatasync; KiB that went
//                               to the device per ack
//  append-durable-16            16 threads, beside one
//  send-many-100                leat_send_many of 100 records, beside one at a time
//  open-1g                      a clean open of a store of 1 GiB; page faults; and one after
//                               kill -9 of who never synced, which reads all of it
//  topics-10000                 one record each, until all is on disk: seconds, KiB each
//  bytes-per-record             kept beyond the value, with one queue, over full segments
//
// Usage: bench_log [DIRECTORY], default the current one.
#include "timing.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SENDS = 2000000, SYNCS = 300, VALUE = 100, THREADS = 16 };
enum { STRIDE = 136 }; // header 32, value 100, its NUL, padding
static const size_t SEGMENT = (size_t)64 << 20;
static char root[4096];

// ---- the bare loops

// CRC-32C, by the instruction where there is one.
#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t checksum(const void *data, size_t n) {
    const unsigned char *p = data;
    uint64_t crc = UINT32_MAX;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    for (; n > 0; n--)
        crc = __builtin_ia32_crc32qi((uint32_t)crc, *p++);
    return ~(uint32_t)crc;
}
#else
static uint32_t checksum(const void *data, size_t n) {
    const unsigned char *p = data;
    uint32_t crc = UINT32_MAX;
    for (; n > 0; n--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}
#endif

struct bare {
    int fd; // -1: memory
    unsigned char *map;
    uint32_t *index;
};

static void bare_open(struct bare *b, const char *path) {
    b->fd = -1;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (path) {
        b->fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (b->fd < 0 || fallocate(b->fd, 0, 0, (off_t)SEGMENT) != 0)
            die(path);
        flags = MAP_SHARED;
    }
    b->map = mmap(NULL, SEGMENT, PROT_READ | PROT_WRITE, flags, b->fd, 0);
    b->index = malloc(SEGMENT / STRIDE * sizeof *b->index);
    if (b->map == MAP_FAILED || !b->index)
        die("mmap");
}

static void bare_close(struct bare *b) {
    (void)munmap(b->map, SEGMENT);
    if (b->fd >= 0)
        (void)close(b->fd);
    free(b->index);
}

static void bare_store(struct bare *b, size_t i, size_t at, const char *value) {
    uint32_t head[8] = { VALUE, (uint32_t)i };
    head[2] = checksum(value, VALUE);
    head[3] = checksum(head, sizeof head);
    memcpy(b->map + at, head, sizeof head);
    memcpy(b->map + at + 32, value, VALUE);
    b->index[i % (SEGMENT / STRIDE)] = (uint32_t)at;
}

// Millions a second.
static double bare_appends(const char *path) {
    char value[VALUE];
    memset(value, 'x', sizeof value);
    size_t per = SEGMENT / STRIDE, done = 0;
    double took = 0;
    while (done < SENDS) {
        struct bare b;
        double begin = now_s();
        bare_open(&b, path);
        for (size_t i = 0; i < per && done < SENDS; i++, done++)
            bare_store(&b, i, i * STRIDE, value);
        took += now_s() - begin;
        bare_close(&b);
    }
    if (path)
        (void)unlink(path);
    return SENDS / took / 1e6;
}

// Stores and syncs a second, in thousands.
static double bare_syncs(const char *path) {
    char value[VALUE];
    struct bare b;
    memset(value, 'x', sizeof value);
    bare_open(&b, path);
    if (fsync(b.fd) != 0)
        die(path);
    double begin = now_s();
    for (size_t i = 0; i < SYNCS; i++) {
        bare_store(&b, i, i * STRIDE, value);
        if (fdatasync(b.fd) != 0)
            die(path);
    }
    double took = now_s() - begin;
    bare_close(&b);
    (void)unlink(path);
    return SYNCS / took / 1e3;
}

// ---- leat

static double sends(leat *mq, int32_t acks, int n) {
    leat_topic *t;
    leat_producer *p;
    char value[VALUE];
    memset(value, 'x', sizeof value);
    must(leat_topic_open(mq, "bench", NULL, &t), "topic");
    must(leat_producer_open(mq, &(leat_producer_options){ .acks = acks }, &p), "producer");
    leat_record r = { .value = { value, sizeof value } };
    must(leat_send(p, t, &r, NULL), "send"); // its files are there
    double begin = now_s();
    for (int i = 0; i < n; i++)
        must(leat_send(p, t, &r, NULL), "send");
    double took = now_s() - begin;
    must(leat_producer_close(p, 0), "producer close");
    must(leat_topic_delete(mq, "bench"), "topic delete");
    return n / took;
}

static double sends_by_100(leat *mq) {
    enum { BATCH = 100, BATCHES = SYNCS / 3 };
    static leat_record batch[BATCH];
    leat_topic *t;
    leat_producer *p;
    char value[VALUE];
    memset(value, 'x', sizeof value);
    for (int i = 0; i < BATCH; i++)
        batch[i] = (leat_record){ .value = { value, sizeof value } };
    must(leat_topic_open(mq, "bench", NULL, &t), "topic");
    must(leat_producer_open(mq, NULL, &p), "producer");
    must(leat_send_many(p, t, batch, BATCH, NULL), "send many");
    double begin = now_s();
    for (int i = 0; i < BATCHES; i++)
        must(leat_send_many(p, t, batch, BATCH, NULL), "send many");
    double took = now_s() - begin;
    must(leat_producer_close(p, 0), "producer close");
    must(leat_topic_delete(mq, "bench"), "topic delete");
    return BATCH * BATCHES / took / 1e3;
}

struct sender {
    leat_producer *p;
    leat_topic *t;
    pthread_t thread;
};

static void *send_some(void *arg) {
    struct sender *s = arg;
    char value[VALUE];
    memset(value, 'x', sizeof value);
    leat_record r = { .value = { value, sizeof value } };
    for (int i = 0; i < SYNCS; i++)
        must(leat_send(s->p, s->t, &r, NULL), "send");
    return NULL;
}

static double sends_of_many(leat *mq) {
    struct sender s[THREADS];
    leat_topic *t;
    leat_producer *p;
    must(leat_topic_open(mq, "bench", NULL, &t), "topic");
    must(leat_producer_open(mq, NULL, &p), "producer");
    double begin = now_s();
    for (int i = 0; i < THREADS; i++) {
        s[i] = (struct sender){ .p = p, .t = t };
        if (pthread_create(&s[i].thread, NULL, send_some, &s[i]) != 0)
            die("pthread_create");
    }
    for (int i = 0; i < THREADS; i++)
        (void)pthread_join(s[i].thread, NULL);
    double took = now_s() - begin;
    must(leat_producer_close(p, 0), "producer close");
    must(leat_topic_delete(mq, "bench"), "topic delete");
    return THREADS * SYNCS / took / 1e3;
}

// What this process had written to devices so far, in bytes; -1: the system does not tell.
static double written(void) {
    char line[128];
    double bytes = -1;
    FILE *f = fopen("/proc/self/io", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "write_bytes: %lf", &bytes) == 1)
            break;
    if (f)
        (void)fclose(f);
    return bytes;
}

// ---- the runs

static void bench_append(leat *memory, leat *disk) {
    double run[4][RUNS];
    char path[4200];
    (void)snprintf(path, sizeof path, "%s/bare", root);
    for (int i = 0; i < RUNS; i++) { // interleaved, so that a slow moment hits all alike
        run[0][i] = bare_appends(NULL);
        run[1][i] = sends(memory, LEAT_ACKS_LOG, SENDS) / 1e6;
        run[2][i] = bare_appends(path);
        run[3][i] = sends(disk, LEAT_ACKS_LOG, SENDS) / 1e6;
    }
    double bare = report("limit-memory", run[0], "million/s");
    double ours = report("append-memory", run[1], "million/s");
    printf("%-22s %10.2f of the limit\n", "", ours / bare);
    bare = report("limit-disk", run[2], "million/s");
    ours = report("append-disk", run[3], "million/s");
    printf("%-22s %10.2f of the limit\n", "", ours / bare);
}

static void bench_durable(leat *disk) {
    double run[4][RUNS], kib[RUNS];
    char path[4200];
    (void)snprintf(path, sizeof path, "%s/bare", root);
    for (int i = 0; i < RUNS; i++) {
        run[0][i] = bare_syncs(path);
        double before = written();
        run[1][i] = sends(disk, LEAT_ACKS_DISK, SYNCS) / 1e3;
        kib[i] = (written() - before) / 1024 / SYNCS;
        run[2][i] = sends_of_many(disk);
        run[3][i] = sends_by_100(disk);
    }
    double bare = report("fdatasync-loop", run[0], "thousand/s");
    double one = report("append-durable-1", run[1], "thousand/s");
    printf("%-22s %10.2f of the loop\n", "", one / bare);
    (void)report("", kib, "KiB written per ack");
    double many = report("append-durable-16", run[2], "thousand/s");
    printf("%-22s %10.2f times one thread\n", "", many / one);
    many = report("send-many-100", run[3], "thousand/s");
    printf("%-22s %10.2f times one at a time\n", "", many / one);
}

static void fill_gib(const char *dir, leat **mq) {
    enum { GIB_OF_RECORDS = 7600000 };
    leat_topic *t;
    leat_producer *p;
    char value[VALUE];
    memset(value, 'x', sizeof value);
    must(leat_open(dir, NULL, mq), "open");
    must(leat_topic_open(*mq, "big", NULL, &t), "topic");
    must(leat_producer_open(*mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p),
         "producer");
    leat_record r = { .value = { value, sizeof value } };
    for (int i = 0; i < GIB_OF_RECORDS; i++)
        must(leat_send(p, t, &r, NULL), "send");
}

static void bench_open(void) {
    char dir[4200];
    double ms[RUNS], faults[RUNS];
    leat *mq;
    (void)snprintf(dir, sizeof dir, "%s/big", root);
    fill_gib(dir, &mq);
    must(leat_close_all(mq, 0), "close");
    for (int i = 0; i < RUNS; i++) {
        struct rusage before, after;
        (void)getrusage(RUSAGE_SELF, &before);
        double begin = now_s();
        must(leat_open(dir, NULL, &mq), "open");
        ms[i] = (now_s() - begin) * 1e3;
        (void)getrusage(RUSAGE_SELF, &after);
        faults[i] =
            (double)(after.ru_minflt - before.ru_minflt + after.ru_majflt - before.ru_majflt);
        must(leat_close_all(mq, 0), "close");
    }
    (void)report("open-1g", ms, "ms");
    (void)report("", faults, "page faults");
}

static void bench_open_killed(void) {
    char dir[4200];
    leat *mq;
    (void)snprintf(dir, sizeof dir, "%s/killed", root);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        fill_gib(dir, &mq);
        _exit(0); // without a close
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        die("fork");
    double begin = now_s();
    must(leat_open(dir, NULL, &mq), "open");
    printf("%-22s %10.3f s of 1 GiB that nobody synced\n", "open-1g-killed", now_s() - begin);
    must(leat_close_all(mq, 0), "close");
}

static int64_t bytes_below(const char *dir, const char *ends) {
    char command[4400];
    long long sum = 0;
    (void)snprintf(command, sizeof command,
                   "find '%s' -name '*%s' -printf '%%s\\n' | awk '{ s += $1 } END { print s + 0 }'",
                   dir, ends);
    FILE *f = popen(command, "r");
    if (!f || fscanf(f, "%lld", &sum) != 1)
        die("find");
    (void)pclose(f);
    return sum;
}

static void bench_bytes(void) {
    enum { RECORDS = 1500000, SEGMENT_BYTES = 16 << 20 };
    char dir[4200];
    leat *mq;
    leat_queue *q;
    leat_topic *t;
    (void)snprintf(dir, sizeof dir, "%s/bytes", root);
    must(leat_open(dir, NULL, &mq), "open");
    must(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = SEGMENT_BYTES }, &t),
         "topic");
    leat_producer *p;
    must(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p), "producer");
    must(leat_queue_open(mq, "q", &(leat_queue_options){ .topic = "t" }, &q), "queue");
    double value = 0;
    char bytes[VALUE * 2];
    memset(bytes, 'x', sizeof bytes);
    for (int i = 0; i < RECORDS; i++) { // every length from 50 to 149: padding averages out
        leat_record r = { .value = { bytes, (size_t)(50 + i % 100) } };
        value += (double)r.value.size;
        must(leat_send(p, t, &r, NULL), "send");
    }
    leat_message m[64];
    for (int n; (n = leat_queue_receive(q, 0, m, 64)) > 0;)
        for (int i = 0; i < n; i++)
            must(leat_queue_ack(q, &m[i]), "ack");
    must(leat_close_all(mq, 0), "close");
    double log = (double)bytes_below(dir, ".log"), index = (double)bytes_below(dir, ".idx");
    // A word is 8 bytes; their files are made in steps, which over full segments are full.
    printf("%-22s %10.2f bytes beyond the value (log %.2f, index %.2f, word 8)\n",
           "bytes-per-record", (log - value) / RECORDS + index / RECORDS + 8,
           (log - value) / RECORDS, index / RECORDS);
}

static double resident_kib(void) {
    long pages = 0, unused;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &unused, &pages) != 2)
        die("/proc/self/statm");
    (void)fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1024;
}

static double make_topics(leat *mq, int n) {
    leat_producer *p;
    double begin = now_s();
    must(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p), "producer");
    for (int i = 0; i < n; i++) {
        leat_topic *t;
        char name[32];
        (void)snprintf(name, sizeof name, "topic-%d", i);
        must(leat_topic_open(mq, name, NULL, &t), "topic");
        leat_record r = { .value = leat_str(name) };
        must(leat_send(p, t, &r, NULL), "send");
    }
    must(leat_sync(mq), "sync");
    return now_s() - begin;
}

static void bench_topics(void) {
    enum { TOPICS = 10000 };
    char dir[4200], command[4400];
    leat *mq;
    long long kib = 0;
    double before = resident_kib();
    must(leat_open_memory(&(leat_options){ .memory_max_bytes = LEAT_UNLIMITED }, &mq), "open");
    double took = make_topics(mq, TOPICS);
    printf("%-22s %10.3f s in memory, %.1f KiB each\n", "topics-10000", took,
           (resident_kib() - before) / TOPICS);
    must(leat_close_all(mq, 0), "close");
    (void)snprintf(dir, sizeof dir, "%s/topics", root);
    must(leat_open(dir, NULL, &mq), "open");
    took = make_topics(mq, TOPICS);
    (void)snprintf(command, sizeof command, "du -sk '%s'", dir);
    FILE *f = popen(command, "r");
    if (!f || fscanf(f, "%lld", &kib) != 1)
        die("du");
    (void)pclose(f);
    printf("%-22s %10.3f s on disk, %.1f KiB each\n", "", took, (double)kib / TOPICS);
    must(leat_close_all(mq, 0), "close");
}

int main(int argc, char **argv) {
    make_root(root, argc > 1 ? argv[1] : ".");
    char dir[4200];
    (void)snprintf(dir, sizeof dir, "%s/store", root);
    leat *memory, *disk;
    must(leat_open_memory(NULL, &memory), "open");
    must(leat_open(dir, NULL, &disk), "open");
    bench_append(memory, disk);
    bench_durable(disk);
    must(leat_close_all(memory, 0), "close");
    must(leat_close_all(disk, 0), "close");
    bench_topics();
    bench_open();
    bench_open_killed();
    bench_bytes();
    remove_root(root);
    return 0;
}
