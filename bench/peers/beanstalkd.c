/* SPDX-License-Identifier: MIT */
// beanstalkd: a work queue server, here on a unix socket and without its binlog: in memory, as
// leat's queue beside it. Spoken to in its own protocol, one command at a time, each with one write
// and, as a rule, one read.
#include "payload.h"
#include "peers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct talk {
    int fd;
    char in[8192]; // the reply to the last command
    size_t have;
};

// Sends a command, and reads on until at least `size` bytes and a whole line of its reply are
// there. Returns  what stands behind that line.
static char *ask(struct talk *t, const char *command, size_t size, const char *reply) {
    char *line_end = NULL;
    need(write(t->fd, command, size) == (ssize_t)size, "write");
    for (t->have = 0; !line_end; line_end = strstr(t->in, "\r\n")) {
        ssize_t got = read(t->fd, t->in + t->have, sizeof t->in - 1 - t->have);
        need(got > 0, "read");
        t->have += (size_t)got;
        t->in[t->have] = '\0';
    }
    if (strncmp(t->in, reply, strlen(reply)) != 0)
        fail("beanstalkd: '%.40s' instead of '%s'", t->in, reply);
    return line_end + 2;
}

// Reads the rest of a body of `size` bytes and its line end.
static void body(struct talk *t, const char *at, size_t size) {
    size_t end = (size_t)(at - t->in) + size + 2;
    if (end >= sizeof t->in)
        fail("beanstalkd: a body of %zu bytes", size);
    while (t->have < end) {
        ssize_t got = read(t->fd, t->in + t->have, end - t->have);
        need(got > 0, "read");
        t->have += (size_t)got;
    }
    t->in[end] = '\0';
}

static void check_empty(struct talk *t) {
    char *yaml = ask(t, "stats\r\n", 7, "OK ");
    body(t, yaml, strtoul(t->in + 3, NULL, 10));
    if (!strstr(yaml, "\ncurrent-jobs-ready: 0\n") || !strstr(yaml, "\ncurrent-jobs-reserved: 0\n"))
        fail("messages are left");
}

static void put(struct talk *t, uint64_t i) {
    char command[64 + VALUE];
    int head = snprintf(command, sizeof command, "put 0 0 60 %d\r\n", VALUE);
    unsigned char *value = (unsigned char *)command + head;
    payload_init(value, VALUE);
    payload_number(value, VALUE, i);
    memcpy(value + VALUE, "\r\n", 2);
    (void)ask(t, command, (size_t)head + VALUE + 2, "INSERTED ");
}

// A hundredth of the work.
void beanstalkd_queue(struct run *r) {
    char *argv[] = { "beanstalkd", "-l", "unix:socket", NULL };
    size_t n = r->work / 100;
    static struct talk t;
    struct tally seen = { 0 };
    need(chdir(r->dir) == 0, r->dir); // a socket's path must be short
    int pid = server_start("socket", argv);
    t.fd = unix_connect("socket");
    need(t.fd >= 0, "connect");
    double begin = now_s();
    for (size_t i = 0; i < n; i++) {
        char *id, done[64];
        unsigned long long size;
        put(&t, i);
        char *value = ask(&t, "reserve\r\n", 9, "RESERVED ");
        id = t.in + strlen("RESERVED ");
        size = strtoull(strchr(id, ' ') ? strchr(id, ' ') : "", NULL, 10);
        body(&t, value, size);
        tally_add(&seen, value, size);
        int length = snprintf(done, sizeof done, "delete %llu\r\n", strtoull(id, NULL, 10));
        (void)ask(&t, done, (size_t)length, "DELETED");
    }
    r->figure[0] = (double)n / (now_s() - begin);
    tally_check(&seen, VALUE, n, 1);
    check_empty(&t);
    (void)close(t.fd);
    server_stop(pid);
}
