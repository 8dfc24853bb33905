/* SPDX-License-Identifier: MIT */
// redis_pubsub: PUBLISH to a Redis server on a unix socket, pipelined by 100 through hiredis; a
// second connection on its own thread subscribes. Nothing is saved, and the server's limit of what
// it buffers for a slow subscriber is off, so that it drops nobody.
#include "flow.h"
#include "peers.h"

#include <hiredis/hiredis.h>
#include <unistd.h>

enum { PIPELINED = 100 };
static const char channel[] = CHANNEL;

struct redis_way {
    redisContext *in, *out;
    size_t left;    // not yet published
    size_t pending; // published, not yet answered
};

static redisContext *redis_connect(const char *path) {
    redisContext *c = redisConnectUnix(path);
    if (!c || c->err)
        fail("redisConnectUnix: %s", c ? c->errstr : "out of memory");
    return c;
}

static redisReply *redis_reply(redisContext *c, int type) {
    void *got = NULL;
    if (redisGetReply(c, &got) != REDIS_OK)
        fail("redisGetReply: %s", c->errstr);
    redisReply *reply = got;
    if (reply->type != type)
        fail("redis: %s", reply->type == REDIS_REPLY_ERROR ? reply->str : "another type of reply");
    return reply;
}

// In the run's directory, which becomes the current one: a socket's path must be short.
static int redis_open(struct redis_way *w, const char *dir) {
    char *argv[] = { "redis-server",
                     "--port",
                     "0",
                     "--unixsocket",
                     "socket",
                     "--save",
                     "",
                     "--appendonly",
                     "no",
                     "--client-output-buffer-limit",
                     "pubsub 0 0 0",
                     NULL };
    need(chdir(dir) == 0, dir);
    int server = server_start("socket", argv);
    w->in = redis_connect("socket");
    w->out = redis_connect("socket");
    return server;
}

static void redis_put(void *arg, const unsigned char *value) {
    struct redis_way *w = arg;
    const char *argv[] = { "PUBLISH", channel, (const char *)value };
    const size_t size[] = { 7, sizeof channel - 1, VALUE };
    if (redisAppendCommandArgv(w->in, 3, argv, size) != REDIS_OK)
        fail("redisAppendCommandArgv: %s", w->in->errstr);
    w->left--;
    if (++w->pending < PIPELINED && w->left > 0)
        return;
    for (; w->pending > 0; w->pending--) {
        redisReply *reply = redis_reply(w->in, REDIS_REPLY_INTEGER);
        if (reply->integer != 1)
            fail("a message reached %lld subscribers", reply->integer);
        freeReplyObject(reply);
    }
}

static size_t redis_take(void *arg, struct tally *seen) {
    struct redis_way *w = arg;
    redisReply *reply = redis_reply(w->out, REDIS_REPLY_ARRAY);
    if (reply->elements != 3)
        fail("redis: a push of %zu elements", reply->elements);
    tally_add(seen, reply->element[2]->str, reply->element[2]->len);
    freeReplyObject(reply);
    return 1;
}

static void *redis_produce(void *arg) {
    return flow_produce(arg, redis_put);
}

// A tenth of the work: it is that much slower.
void redis_publish(struct run *r) {
    struct redis_way w = { 0 };
    r->work = (r->work + 9) / 10;
    w.left = r->work;
    int server = redis_open(&w, r->dir);
    if (redisAppendCommand(w.out, "SUBSCRIBE %s", channel) != REDIS_OK)
        fail("redisAppendCommand: %s", w.out->errstr);
    freeReplyObject(redis_reply(w.out, REDIS_REPLY_ARRAY)); // in force
    flow_run(r, &w, redis_produce, redis_take);
    redisFree(w.in);
    redisFree(w.out);
    server_stop(server);
}
