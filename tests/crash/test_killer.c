/* SPDX-License-Identifier: MIT */
// A message that kills whoever receives it: the process dies by SIGKILL as soon as receive has
// returned it. Its delivery was counted before that, so after exactly deliveries_max tries it is
// dead: seen as delivery 1, 2, ... deliveries_max, never once more, and then found in the
// dead-letter queue (or, without one, kept in place), while its neighbours are done.
#include "leat.h"
#include "lib/scratch.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILLER_TRIES = 16, KILLER_GOOD = 5, KILLER_AT = 2 };

struct killer_case {
    int32_t max, write;
    bool over; // a queue over a topic of two partitions, else over its own
    bool kept; // without a dead-letter queue
};

static struct {
    _Atomic int tries, good, again; // receives of the killer, acks of others, of those twice
    _Atomic int delivery[KILLER_TRIES];
    _Atomic int done[KILLER_GOOD];
} * told; // in memory that outlives the process

static const char *killer_what; // what went wrong

static bool killer_is(const char *what, int rc, int expected) {
    if (rc == expected)
        return true;
    fprintf(stderr, "%s: %d %s (%s), not %d\n", what, rc, leat_errname(rc), leat_errmsg(),
            expected);
    killer_what = what;
    return false;
}

static bool killer_open(const char *dir, const struct killer_case *k, leat **mq, leat_queue **q) {
    leat_options o = { .write = k->write };
    leat_topic_options two = { .partitions = 2, .segment_bytes = 16384 };
    leat_queue_options options = { .topic = k->over ? "topic" : NULL,
                                   .deliveries_max = k->max,
                                   .dead_letter = k->kept ? NULL : "dead",
                                   .acks = LEAT_ACKS_LOG };
    leat_topic *t = NULL;
    return killer_is("open", leat_open(dir, &o, mq), 0) &&
           (!k->over || killer_is("topic open", leat_topic_open(*mq, "topic", &two, &t), 0)) &&
           killer_is("queue open", leat_queue_open(*mq, "q", &options, q), 0);
}

static bool killer_send(leat_queue *q) {
    for (int i = 0; i < KILLER_GOOD; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, i == KILLER_AT ? "kill" : "good %d", i);
        leat_record r = { .value = leat_str(text) };
        if (!killer_is("send", leat_queue_send(q, &r, NULL), 0))
            return false;
    }
    return true;
}

// Works until nothing is left or it is killed.
static _Noreturn void killer_child(const char *dir, const struct killer_case *k) {
    leat *mq;
    leat_queue *q;
    leat_message m;
    int n;
    if (!killer_open(dir, k, &mq, &q))
        _exit(1);
    while ((n = leat_queue_receive(q, 0, &m, 1)) > 0) {
        if (strcmp(m.value.data, "kill") == 0) {
            int i = atomic_fetch_add(&told->tries, 1);
            if (i < KILLER_TRIES)
                atomic_store(&told->delivery[i], m.deliveries);
            (void)raise(SIGKILL);
        }
        int i = atoi((const char *)m.value.data + 5);
        if (atomic_fetch_add(&told->done[i], 1) > 0)
            atomic_fetch_add(&told->again, 1);
        if (!killer_is("ack", leat_queue_ack(q, &m), 0))
            _exit(1);
        atomic_fetch_add(&told->good, 1);
    }
    _exit(n == 0 ? 0 : 1);
}

static bool killer_header(const leat_message *m, const char *name, const char *value) {
    leat_header h;
    for (size_t i = 0; leat_message_header(m, i, &h) == 1; i++)
        if (strcmp(h.name.data, name) == 0)
            return strcmp(h.value.data, value) == 0;
    return false;
}

static bool killer_buried(leat *mq, leat_queue *q, const struct killer_case *k) {
    leat_queue *dead;
    leat_queue_stats stats;
    leat_message m;
    char max[16];
    (void)snprintf(max, sizeof max, "%d", k->max);
    if (!killer_is("receive of what is dead", leat_queue_receive(q, 0, &m, 1), 0) ||
        !killer_is("stats", leat_queue_get_stats(q, &stats, sizeof stats), 0) ||
        !killer_is("kept", (int)stats.kept, k->kept))
        return false;
    if (k->kept)
        return true;
    return killer_is("open of the dead", leat_queue_open(mq, "dead", NULL, &dead), 0) &&
           killer_is("receive of the dead", leat_queue_receive(dead, 0, &m, 1), 1) &&
           killer_is("its bytes", strcmp(m.value.data, "kill"), 0) &&
           killer_is("its queue", killer_header(&m, "leat.queue", "q"), 1) &&
           killer_is("its topic", killer_header(&m, "leat.topic", k->over ? "topic" : "q"), 1) &&
           killer_is("its tries", killer_header(&m, "leat.deliveries", max), 1) &&
           killer_is("ack of the dead", leat_queue_ack(dead, &m), 0) &&
           killer_is("a second copy", leat_queue_receive(dead, 0, &m, 1), 0);
}

static bool killer_run(const char *dir, const struct killer_case *k) {
    leat *mq;
    leat_queue *q;
    if (!killer_open(dir, k, &mq, &q) || !killer_send(q) ||
        !killer_is("close", leat_close_all(mq, 0), 0))
        return false;
    int status = 0, kills = 0;
    for (;;) {
        pid_t pid = fork();
        if (pid == 0)
            killer_child(dir, k);
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            return killer_is("fork", -1, 0);
        if (!WIFSIGNALED(status) || kills == KILLER_TRIES)
            break;
        kills++;
    }
    bool ok = killer_is("the last child", WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0) &&
              killer_is("kills", kills, k->max) &&
              killer_is("tries", atomic_load(&told->tries), k->max) &&
              killer_is("others", atomic_load(&told->good), KILLER_GOOD - 1) &&
              killer_is("others that came again", atomic_load(&told->again), 0);
    for (int i = 0; i < k->max && ok; i++)
        ok = killer_is("delivery", atomic_load(&told->delivery[i]), i + 1);
    if (!killer_open(dir, k, &mq, &q))
        return false;
    ok = ok && killer_buried(mq, q, k);
    return killer_is("close", leat_close_all(mq, 0), 0) && ok;
}

int main(void) {
    static const int32_t tries[] = { 1, 2, 3, 7 };
    char place[256];
    const char *base = getenv("TMPDIR");
    if (access("/dev/shm", W_OK) == 0)
        base = "/dev/shm";
    (void)snprintf(place, sizeof place, "%s/leat-killer-XXXXXX", base && *base ? base : "/tmp");
    void *p = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || !mkdtemp(place)) {
        perror("test_killer");
        return 1;
    }
    told = p;
    int cases = 0, kills = 0, failed = 0;
    for (unsigned i = 0; i < 4 * 8; i++) {
        struct killer_case k = { .max = tries[i / 8],
                                 .write = i & 1 ? LEAT_WRITE_PWRITE : LEAT_WRITE_MAPPED,
                                 .over = (i & 2) != 0,
                                 .kept = (i & 4) != 0 };
        memset(p, 0, sizeof *told);
        cases++;
        if (!killer_run(place, &k)) {
            fprintf(stderr, "max %d, %s, %s, %s: %s\n", k.max, k.write == 1 ? "mapped" : "pwrite",
                    k.over ? "over a topic" : "its own", k.kept ? "kept" : "moved", killer_what);
            failed++;
        }
        kills += atomic_load(&told->tries);
        scratch_remove(place);
    }
    (void)munmap(p, sizeof *told);
    printf("killers=%d kills=%d failed=%d\n", cases, kills, failed);
    return failed == 0 ? 0 : 1;
}
