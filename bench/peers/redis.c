/* SPDX-License-Identifier: MIT */
// redis: a stream and a list of a server of its own on a unix socket. The stream is kept as an
// append-only file which is synced every second, as leat's acks LOG: it survives the end of the
// process. The list is in memory only, as leat's queue here.
#include "payload.h"
#include "peers.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <unistd.h>

struct server {
    int pid;
    redisContext *c;
};

// In the run's directory, which becomes the current one: a socket's path must be short.
static struct server server_open(const struct run *r, const char *appendonly) {
    char *argv[] = { "redis-server",
                     "--port",
                     "0",
                     "--unixsocket",
                     "socket",
                     "--dir",
                     ".",
                     "--save",
                     "",
                     "--appendonly",
                     NULL,
                     "--appendfsync",
                     "everysec",
                     NULL };
    char keep[8];
    (void)snprintf(keep, sizeof keep, "%s", appendonly);
    argv[10] = keep;
    need(chdir(r->dir) == 0, r->dir);
    struct server s = { .pid = server_start("socket", argv) };
    s.c = redisConnectUnix("socket");
    if (!s.c || s.c->err)
        fail("redisConnectUnix: %s", s.c ? s.c->errstr : "no memory");
    return s;
}

static void server_close(struct server *s) {
    redisFree(s->c);
    server_stop(s->pid);
}

static void append(struct server *s, int argc, const char **argv, const size_t *size) {
    if (redisAppendCommandArgv(s->c, argc, argv, size) != REDIS_OK)
        fail("%s: %s", argv[0], s->c->errstr);
}

// The next reply, which is of that type. Owns  freeReplyObject.
static redisReply *reply(struct server *s, int type) {
    void *got;
    if (redisGetReply(s->c, &got) != REDIS_OK)
        fail("redis: %s", s->c->errstr);
    redisReply *a = got;
    if (a->type == REDIS_REPLY_ERROR)
        fail("redis: %s", a->str);
    if (a->type != type)
        fail("redis: a reply of type %d, not %d", a->type, type);
    return a;
}

// The stream from its beginning, a thousand at a time.
static void read_stream(struct server *s, struct tally *seen) {
    char from[64] = "-";
    for (size_t got = 1; got > 0;) {
        const char *argv[] = { "XRANGE", "t", from, "+", "COUNT", "1000" };
        append(s, 6, argv, NULL);
        redisReply *all = reply(s, REDIS_REPLY_ARRAY);
        got = all->elements;
        for (size_t i = 0; i < got; i++) { // its id, and the list of field, value
            redisReply **entry = all->element[i]->element;
            redisReply *value = entry[1]->element[1];
            tally_add(seen, value->str, value->len);
            (void)snprintf(from, sizeof from, "(%s", entry[0]->str);
        }
        freeReplyObject(all);
    }
}

static long long length_of_stream(struct server *s) {
    const char *argv[] = { "XLEN", "t" };
    append(s, 2, argv, NULL);
    redisReply *a = reply(s, REDIS_REPLY_INTEGER);
    long long n = a->integer;
    freeReplyObject(a);
    return n;
}

// Pipelined by 100: that many are sent before the first reply is awaited. A twentieth of the work.
void redis_append(struct run *r) {
    enum { PIPELINE = 100 };
    size_t n = r->work / 20 / PIPELINE * PIPELINE;
    struct server s = server_open(r, "yes");
    struct tally seen = { 0 };
    unsigned char value[VALUE];
    const char *argv[] = { "XADD", "t", "*", "v", (const char *)value };
    const size_t size[] = { 4, 1, 1, 1, sizeof value };
    payload_init(value, sizeof value);
    double begin = now_s();
    for (size_t i = 0; i < n;) {
        for (size_t end = i + PIPELINE; i < end; i++) {
            payload_number(value, sizeof value, i);
            append(&s, 5, argv, size); // copies it
        }
        for (int k = 0; k < PIPELINE; k++)
            freeReplyObject(reply(&s, REDIS_REPLY_STRING));
    }
    r->figure[0] = (double)n / (now_s() - begin);
    if (length_of_stream(&s) != (long long)n)
        fail("the stream has %lld entries", length_of_stream(&s));
    read_stream(&s, &seen);
    tally_check(&seen, VALUE, n, 1);
    server_close(&s);
}

// Sends, and awaits the reply: what comes next depends on it.
static redisReply *ask(struct server *s, int type, int argc, const char **argv,
                       const size_t *size) {
    append(s, argc, argv, size);
    return reply(s, type);
}

// The reliable queue of Redis' manual: LPUSH, RPOPLPUSH into a list of what is being worked on,
// LREM from that. A hundredth of the work.
void redis_queue(struct run *r) {
    size_t n = r->work / 100;
    struct server s = server_open(r, "no");
    struct tally seen = { 0 };
    unsigned char value[VALUE];
    const char *receive[] = { "RPOPLPUSH", "queue", "work" };
    payload_init(value, sizeof value);
    double begin = now_s();
    for (size_t i = 0; i < n; i++) {
        payload_number(value, sizeof value, i);
        const char *send[] = { "LPUSH", "queue", (const char *)value };
        const size_t send_size[] = { 5, 5, sizeof value };
        freeReplyObject(ask(&s, REDIS_REPLY_INTEGER, 3, send, send_size));
        redisReply *m = ask(&s, REDIS_REPLY_STRING, 3, receive, NULL);
        tally_add(&seen, m->str, m->len);
        const char *ack[] = { "LREM", "work", "-1", m->str };
        const size_t ack_size[] = { 4, 4, 2, m->len };
        redisReply *gone = ask(&s, REDIS_REPLY_INTEGER, 4, ack, ack_size);
        if (gone->integer != 1)
            fail("message %zu was not there to be removed", i);
        freeReplyObject(gone);
        freeReplyObject(m);
    }
    r->figure[0] = (double)n / (now_s() - begin);
    tally_check(&seen, VALUE, n, 1);
    const char *left[] = { "EXISTS", "queue", "work" };
    redisReply *lists = ask(&s, REDIS_REPLY_INTEGER, 3, left, NULL);
    if (lists->integer != 0)
        fail("messages are left");
    freeReplyObject(lists);
    server_close(&s);
}
