/* SPDX-License-Identifier: MIT */
// open: what it takes to open a store. In memory with its close, again and again; on disk once,
// with 1 GiB of 100-byte records in it (with --quick 128 MiB), after a clean close and after the
// end of a process which neither synced nor closed.
#include "payload.h"
#include "peers.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void open_close_memory(struct run *r) {
    double begin = now_s();
    for (size_t i = 0; i < r->work; i++) {
        leat *mq;
        must(leat_open_memory(NULL, &mq), "leat_open_memory");
        must(leat_close(mq, 0), "leat_close");
    }
    r->figure[0] = (now_s() - begin) * 1e6 / (double)r->work;
}

static leat *fill(const char *dir, size_t records) {
    leat *mq;
    leat_topic *t;
    leat_producer *p;
    unsigned char value[VALUE];
    payload_init(value, sizeof value);
    // A send that syncs by itself would leave less for the open to read.
    must(leat_open(dir, &(leat_options){ .dirty_bytes_max = LEAT_UNLIMITED }, &mq), "leat_open");
    must(leat_topic_open(mq, "big", NULL, &t), "leat_topic_open");
    must(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p),
         "leat_producer_open");
    leat_record r = { .value = { value, sizeof value } };
    for (size_t i = 0; i < records; i++) {
        payload_number(value, sizeof value, i);
        must(leat_send(p, t, &r, NULL), "leat_send");
    }
    return mq;
}

// A process of its own, so that the store is opened by one which has not seen it before.
static void fill_in_child(const char *dir, size_t records, bool close) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        leat *mq = fill(dir, records);
        if (close)
            must(leat_close_all(mq, 0), "leat_close_all");
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        need(false, "fork");
    if (status != 0) // what a fail() in it has said stands
        _exit(1);
}

static void check_all(leat *mq, size_t records) {
    leat_consumer *c;
    const leat_message *m;
    struct tally seen = { 0 };
    int n;
    must(leat_consumer_open(mq, NULL, NULL, &c), "leat_consumer_open");
    must(leat_consumer_assign(c, &(leat_position){ .topic = "big" }, 1), "leat_consumer_assign");
    while ((n = leat_poll(c, 0, &m)) > 0)
        for (int i = 0; i < n; i++)
            tally_add(&seen, m[i].value.data, m[i].value.size);
    must(n, "leat_poll");
    tally_check(&seen, VALUE, records, 1);
}

static double open_us(struct run *r, const char *name, bool closed) {
    char dir[4200];
    leat *mq;
    (void)snprintf(dir, sizeof dir, "%s/%s", r->dir, name);
    fill_in_child(dir, r->work, closed);
    double begin = now_s();
    must(leat_open(dir, NULL, &mq), "leat_open");
    double took = now_s() - begin;
    check_all(mq, r->work);
    return took * 1e6; // it is never closed: that would write it all to the disk, for nothing
}

static void open_filled(struct run *r) {
    r->figure[0] = open_us(r, "closed", true);
    r->figure[1] = open_us(r, "killed", false);
}

static const struct bench table[] = {
    { .name = "open-close-memory",
      .about = "an open and a close of an empty store in memory",
      .work = 200000,
      .quick = 20000,
      .line = { { "", "us", "lower" } },
      .who = { { "leat", open_close_memory }, { "librdkafka-mock", rdkafka_open_close } } },
    { .name = "open-1g",
      .about = "an open of a store of 1 GiB on disk, closed before; -killed: by who never synced",
      .work = 7600000,
      .quick = 950000,
      .line = { { "", "us", "lower" }, { "-killed", "us", "lower" } },
      .who = { { "leat", open_filled } } },
};

int main(int argc, char **argv) {
    return bench_main(argc, argv, table, sizeof table / sizeof table[0]);
}
