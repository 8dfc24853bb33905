/* SPDX-License-Identifier: MIT */
// bare: the least that any log and any queue must do: a checksum, a copy, an index entry, into
// fresh memory or into mapped files whose room is allocated, 64 MiB each; a queue writes a word
// beside each message twice, leased and done; many topics are as many such logs. And the least that
// any durable log must do: store and fdatasync.
#include "durable.h"
#include "payload.h"
#include "peers.h"
#include "scale.h"

#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HEAD = 32, SEGMENTS = 64 };
static const size_t SEGMENT = (size_t)64 << 20;

// CRC-32C, by the instruction where there is one.
#if defined(__x86_64__)
#define CHECKSUM            __attribute__((target("sse4.2"))) static
#define CRC_WORD(crc, word) (crc = (uint32_t)__builtin_ia32_crc32di(crc, word))
#define CRC_BYTE(crc, byte) (crc = __builtin_ia32_crc32qi(crc, byte))
#elif defined(__aarch64__)
#define CHECKSUM static
#define CRC_WORD(crc, word)                                                                        \
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word))
#define CRC_BYTE(crc, byte)                                                                        \
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)(byte)))
#else
#define CHECKSUM            static
static uint32_t crc_bits(uint32_t crc, uint64_t bits, int n) {
    for (int i = 0; i < n; i++, bits >>= 1)
        crc = crc >> 1 ^ ((crc ^ bits) & 1 ? 0x82f63b78u : 0);
    return crc;
}
#define CRC_WORD(crc, word) (crc = crc_bits(crc, word, 64))
#define CRC_BYTE(crc, byte) (crc = crc_bits(crc, byte, 8))
#endif

CHECKSUM uint32_t checksum(const void *data, size_t n) {
    const unsigned char *p = data;
    uint32_t crc = UINT32_MAX;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        CRC_WORD(crc, word);
    }
    for (; n > 0; n--, p++)
        CRC_BYTE(crc, *p);
    return ~crc;
}

struct bare {
    const char *dir; // NULL: in memory
    size_t size;     // of a value
    size_t stride;   // of a record: head, value, its NUL, padding
    size_t each;     // records in a segment
    int segments, fd;
    unsigned char *map[SEGMENTS];
    uint32_t *index[SEGMENTS];
};

static struct bare bare_make(const char *dir, size_t size) {
    size_t stride = (HEAD + size + 1 + 7) / 8 * 8;
    return (struct bare){ .dir = dir, .size = size, .stride = stride, .each = SEGMENT / stride };
}

static void bare_grow(struct bare *b) {
    char path[PATH_MAX];
    int n = b->segments++, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (n == SEGMENTS)
        fail("too much work for %d segments", SEGMENTS);
    b->fd = -1;
    if (b->dir) {
        (void)snprintf(path, sizeof path, "%s/bare-%d", b->dir, n);
        b->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        need(b->fd >= 0 && fallocate(b->fd, 0, 0, (off_t)SEGMENT) == 0, path);
        flags = MAP_SHARED;
    }
    b->map[n] = mmap(NULL, SEGMENT, PROT_READ | PROT_WRITE, flags, b->fd, 0);
    b->index[n] = malloc(b->each * sizeof *b->index[n]);
    need(b->map[n] != MAP_FAILED && b->index[n], "mmap");
}

// Stores record i of a segment that is there.
static void bare_store(struct bare *b, uint64_t i, const unsigned char *value) {
    size_t segment = i / b->each, slot = i % b->each;
    unsigned char *to = b->map[segment] + slot * b->stride;
    uint32_t head[HEAD / 4] = { (uint32_t)b->size, (uint32_t)i };
    head[2] = checksum(value, b->size);
    head[3] = checksum(head, sizeof head);
    memcpy(to, head, sizeof head);
    memcpy(to + HEAD, value, b->size);
    b->index[segment][slot] = (uint32_t)(slot * b->stride);
}

static const unsigned char *bare_value(const struct bare *b, uint64_t i) {
    size_t segment = i / b->each;
    return b->map[segment] + b->index[segment][i % b->each] + HEAD;
}

static void bare_check(const struct bare *b, uint64_t n) {
    struct tally seen = { 0 };
    for (uint64_t i = 0; i < n; i++)
        tally_add(&seen, bare_value(b, i), b->size);
    tally_check(&seen, b->size, n, 1);
}

static void bare_append(struct run *r, const char *dir, size_t size) {
    struct bare b = bare_make(dir, size);
    unsigned char value[1024];
    payload_init(value, size);
    double begin = now_s();
    for (size_t i = 0; i < r->work; i++) {
        payload_number(value, size, i);
        if (i % b.each == 0)
            bare_grow(&b);
        bare_store(&b, i, value);
    }
    r->figure[0] = (double)r->work / (now_s() - begin);
    bare_check(&b, r->work);
}

void bare_memory_append(struct run *r) {
    bare_append(r, NULL, VALUE);
}

void bare_disk_append(struct run *r) {
    bare_append(r, r->dir, VALUE);
}

void bare_1k_append(struct run *r) {
    bare_append(r, NULL, 1024);
}

// ---- many logs in turn: each with a segment of its own

struct bare_topic {
    struct bare b;
    uint64_t stored;
};

struct bare_topics {
    struct bare_topic *topic;
    size_t topics;
    uint64_t sent;
    struct tally seen;
    unsigned char value[VALUE];
};

static inline void bare_send_to(struct bare_topics *l, size_t topic) {
    struct bare_topic *t = &l->topic[topic];
    payload_number(l->value, VALUE, l->sent++);
    if (t->stored % t->b.each == 0)
        bare_grow(&t->b);
    bare_store(&t->b, t->stored++, l->value);
}

static void bare_send(struct bare_topics *l, size_t n) {
    size_t topic = l->sent % l->topics;
    for (; n > 0; n--) {
        bare_send_to(l, topic);
        topic = topic + 1 == l->topics ? 0 : topic + 1;
    }
}

static void bare_topics_open(struct bare_topics *l, size_t topics) {
    *l = (struct bare_topics){ .topic = calloc(topics, sizeof l->topic[0]), .topics = topics };
    need(l->topic != NULL, "malloc");
    payload_init(l->value, VALUE);
    for (size_t topic = 0; topic < topics; topic++) {
        l->topic[topic].b = bare_make(NULL, VALUE);
        for (size_t i = 0; i < topic_ahead(topic); i++)
            bare_send_to(l, topic);
    }
}

// Reads all back and gives it back.
static void bare_topics_close(struct bare_topics *l) {
    for (size_t topic = 0; topic < l->topics; topic++) {
        struct bare_topic *t = &l->topic[topic];
        for (uint64_t i = 0; i < t->stored; i++)
            tally_add(&l->seen, bare_value(&t->b, i), VALUE);
        for (int i = 0; i < t->b.segments; i++) {
            need(munmap(t->b.map[i], SEGMENT) == 0, "munmap");
            free(t->b.index[i]);
        }
    }
    tally_check(&l->seen, VALUE, l->sent, 1);
    free(l->topic);
}

void bare_topics(struct run *r) {
    const size_t batch = r->work * TOPIC_ROUNDS;
    int points = 0;
    for (size_t point = 1; point <= r->work; point *= 10) {
        struct bare_topics l;
        double took[TOPIC_TIMES];
        bare_topics_open(&l, point);
        bare_send(&l, batch); // each has its memory
        for (int i = 0; i < TOPIC_TIMES; i++) {
            double begin = now_s();
            bare_send(&l, batch);
            took[i] = now_s() - begin;
        }
        r->figure[++points] = scale_cost(took, TOPIC_TIMES, batch);
        bare_topics_close(&l);
    }
    scale_ratio(r, points);
}

// ---- until the disk has it

// No lock: each thread has numbers, and so places, of its own; the kernel merges what it can.
static void bare_store_durable(void *ctx, uint64_t first, size_t n) {
    struct bare *b = ctx;
    unsigned char value[DURABLE_BATCH][VALUE];
    durable_values(value, first, n);
    for (size_t i = 0; i < n; i++)
        bare_store(b, first + i, value[i]);
    need(fdatasync(b->fd) == 0, "fdatasync");
}

static void bare_durable(struct run *r, int threads, size_t batch) {
    struct bare b = bare_make(r->dir, VALUE);
    struct durable d = { bare_store_durable, &b, threads, batch };
    if (r->work + batch > b.each)
        fail("too much work for one segment");
    bare_grow(&b);
    need(fsync(b.fd) == 0, "fsync");
    bare_check(&b, durable_run(r, &d));
}

void bare_durable_1(struct run *r) {
    bare_durable(r, 1, 1);
}

void bare_durable_16(struct run *r) {
    bare_durable(r, DURABLE_THREADS, 1);
}

void bare_durable_100(struct run *r) {
    bare_durable(r, 1, DURABLE_BATCH);
}

void bare_queue(struct run *r) {
    enum { LEASED = 1, DONE = 2 };
    struct bare b = bare_make(NULL, VALUE);
    struct tally seen = { 0 };
    unsigned char value[VALUE];
    _Atomic uint64_t *word = mmap(NULL, r->work * sizeof *word, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    need(word != MAP_FAILED, "mmap");
    payload_init(value, sizeof value);
    double begin = now_s();
    for (size_t i = 0; i < r->work; i++) {
        payload_number(value, sizeof value, i);
        if (i % b.each == 0)
            bare_grow(&b);
        bare_store(&b, i, value);
        atomic_store_explicit(&word[i], LEASED, memory_order_release);
        tally_add(&seen, bare_value(&b, i), VALUE);
        atomic_store_explicit(&word[i], DONE, memory_order_release);
    }
    r->figure[0] = (double)r->work / (now_s() - begin);
    tally_check(&seen, VALUE, r->work, 1);
    for (size_t i = 0; i < r->work; i++)
        if (word[i] != DONE)
            fail("message %zu is not done", i);
}
