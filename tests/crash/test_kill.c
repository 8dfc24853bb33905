/* SPDX-License-Identifier: MIT */
// A process that writes is killed with SIGKILL at random instants, 600 times, always on the same
// directory. What it was told (sent, committed, acknowledged, delivered) it notes in memory that
// it shares with its parent: the oracle, which outlives it. The parent opens the store after each
// kill and holds it to that: nothing acknowledged is lost, offsets are dense, batches are whole,
// bytes are right, committed offsets are the acknowledged ones or those under way, acknowledged
// messages never come back, all others do, and no delivery goes uncounted.
//
// test_kill [mapped|pwrite]. LEAT_SEED: where the choices begin; LEAT_KILLS: how many kills.
#include "lib/kill.h"
#include "lib/scratch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// ---- the parent: what must be there

static long kill_doubles;

static void kill_check_part(struct kill_store *s, int log, int part) {
    char name[32];
    struct kill_part *p = &shared->log[log].part[part];
    int64_t acked = atomic_load(&p->acked), tried = atomic_load(&p->tried);
    leat_range r = { .begin = -1, .end = -1, .durable_end = -1 };
    if (!kill_is("range", leat_topic_range(s->t[log], part, &r), 0))
        return;
    if (r.end != acked && r.end != tried) // one call is under way, and a batch is whole
        kill_complain("%s:%d ends at %lld; %lld acknowledged, %lld tried", kill_name(log, name),
                      part, (long long)r.end, (long long)acked, (long long)tried);
    if (r.durable_end < atomic_load(&p->on_disk) || r.durable_end > r.end)
        kill_complain("%s:%d is durable to %lld; %lld was acknowledged so", kill_name(log, name),
                      part, (long long)r.durable_end, (long long)atomic_load(&p->on_disk));
    const struct kill_ledger *work = &shared->queue[QUEUE_WORK];
    for (int64_t i = 0; log == LOG_WORK && i < r.begin; i++) {
        const struct kill_message *x = &work->m[0][i];
        uint32_t most = atomic_load(&x->seen) + atomic_load(&work->blind) - atomic_load(&x->blind);
        if (!atomic_load(&x->acking) && most < KILL_TRIES)
            kill_complain("work: offset %lld is gone and was not done", (long long)i);
    }
    leat_consumer *c = NULL;
    const leat_message *m;
    leat_position at = { .topic = kill_name(log, name), .offset = LEAT_BEGIN, .partition = part };
    int64_t next = r.begin;
    if (!kill_is("consumer open", leat_consumer_open(s->mq, NULL, NULL, &c), 0) ||
        !kill_is("assign", leat_consumer_assign(c, &at, 1), 0))
        return;
    for (int n; (n = leat_poll(c, 0, &m)) > 0;)
        for (int i = 0; i < n; i++, next++) {
            kill_check_bytes(log, &m[i]);
            if (m[i].offset != next)
                kill_complain("%s:%d has offset %lld where %lld should be", name, part,
                              (long long)m[i].offset, (long long)next);
        }
    if (next != r.end)
        kill_complain("%s:%d: read to %lld of %lld", name, part, (long long)next, (long long)r.end);
    (void)kill_is("consumer close", leat_consumer_close(c), 0);
    atomic_fetch_add(&shared->halves, r.end > acked);
    atomic_store(&p->acked, r.end);
    atomic_store(&p->tried, r.end);
}

// A topic that was being made or deleted is there or is not; then that is how it is.
static bool kill_check_log(struct kill_store *s, int log) {
    char name[32];
    struct kill_log *l = &shared->log[log];
    leat_topic_options o = { .flags = LEAT_MUST_EXIST };
    int state = log == LOG_BASE || log == LOG_WORK ? THERE : atomic_load(&l->state);
    int rc = leat_topic_open(s->mq, kill_name(log, name), &o, &s->t[log]);
    if (rc != 0 && (rc != LEAT_ENOENT || state == THERE))
        kill_complain("%s is lost: %s (%s)", name, leat_errname(rc), leat_errmsg());
    if (rc == 0 && state == ABSENT)
        kill_complain("%s is there and should not be", name);
    if (rc != 0 && state == DELETING)
        atomic_fetch_add(&l->life, 1);
    atomic_store(&l->state, rc == 0 ? THERE : ABSENT);
    for (int i = 0; rc == 0 && i < kill_parts(log); i++)
        kill_check_part(s, log, i);
    return rc == 0;
}

static void kill_check_commits(struct kill_store *s) {
    leat_lag lag[LOGS * KILL_PARTS];
    char name[32];
    int n = leat_group_lag(s->mq, "g", lag, LOGS * KILL_PARTS, sizeof lag[0]);
    for (int log = 0; log < LOG_WORK; log++) {
        for (int part = 0; s->t[log] && part < KILL_PARTS; part++) {
            struct kill_part *p = &shared->log[log].part[part];
            int64_t found = -1;
            for (int i = 0; i < n; i++)
                if (strcmp(lag[i].topic, kill_name(log, name)) == 0 && lag[i].partition == part)
                    found = lag[i].committed;
            if (found != atomic_load(&p->committed) && found != atomic_load(&p->trying))
                kill_complain("%s:%d is committed at %lld; %lld acknowledged, %lld tried",
                              kill_name(log, name), part, (long long)found,
                              (long long)atomic_load(&p->committed),
                              (long long)atomic_load(&p->trying));
            atomic_fetch_add(&shared->halves, found != atomic_load(&p->committed));
            atomic_store(&p->committed, found);
            atomic_store(&p->trying, found);
        }
    }
}

static uint64_t kill_alive(leat_queue *q) {
    leat_queue_stats s = { 0 };
    (void)kill_is("stats", leat_queue_get_stats(q, &s, sizeof s), 0);
    return s.available + s.delayed + s.leased + s.moving + s.kept;
}

// How many messages each queue must still have.
static void kill_check_queues(struct kill_store *s) {
    for (int q = 0; q < QUEUES; q++) {
        int log = q == QUEUE_OVER ? LOG_BASE : LOG_WORK;
        uint64_t most = 0, unsure = 0, gone = 0;
        for (int part = 0; part < kill_parts(log); part++)
            for (int64_t i = 0; i < atomic_load(&shared->log[log].part[part].acked); i++) {
                const struct kill_message *x = &shared->queue[q].m[part][i];
                most += !atomic_load(&x->acked);
                unsure += !atomic_load(&x->acked) && atomic_load(&x->acking);
                unsure += !atomic_load(&x->buried) && atomic_load(&x->burying);
                gone += atomic_load(&x->buried);
            }
        uint64_t alive = kill_alive(s->q[q]) + (q == QUEUE_WORK ? kill_alive(s->dead) + gone : 0);
        // A kill between the copy in the dead-letter queue and the word that says so: a double.
        uint64_t doubles = q == QUEUE_WORK ? (uint64_t)atomic_load(&shared->kills) : 0;
        if (alive < most - unsure || alive > most + doubles)
            kill_complain("queue %d has %llu messages, not %llu (%llu unsure)", q,
                          (unsigned long long)alive, (unsigned long long)most,
                          (unsigned long long)unsure);
    }
}

static void kill_check(void) {
    static struct kill_store s;
    for (int q = 0; q < QUEUES; q++)
        if (atomic_exchange(&shared->queue[q].receiving, 0))
            atomic_fetch_add(&shared->queue[q].blind, 1);
    if (!kill_open(&s, false))
        return;
    for (int log = 0; log < LOGS; log++)
        if (!kill_check_log(&s, log))
            s.t[log] = NULL;
    kill_check_commits(&s);
    kill_check_queues(&s);
    (void)kill_is("close", leat_close_all(s.mq, 0), 0);
}

// ---- the end: everything comes back that was not acknowledged, and nothing else

static void kill_drain_queue(struct kill_store *s, int queue) {
    leat_message m[64];
    for (int n; (n = leat_queue_receive(s->q[queue], 100, m, 64)) != 0;) {
        if (!kill_is("receive", n < 0 ? n : 0, 0))
            return;
        for (int i = 0; i < n; i++)
            if (!kill_delivered(queue, &m[i]) || !kill_ack(s->q[queue], queue, &m[i]))
                return;
    }
}

// Each message was acknowledged or died, or (acking) the kill came between the two sides of that.
static void kill_check_settled(void) {
    static uint16_t dead[KILL_MESSAGES]; // copies in the dead-letter queue, by offset in "work"
    for (int64_t i = 0; i < KILL_MESSAGES; i++) {
        int32_t of = atomic_load(&shared->copy[i]) - 1;
        if (of >= 0 && dead[of]++ > 0)
            kill_doubles++;
    }
    for (int q = 0; q < QUEUES; q++) {
        int log = q == QUEUE_OVER ? LOG_BASE : LOG_WORK;
        for (int part = 0; part < kill_parts(log); part++)
            for (int64_t i = 0; i < atomic_load(&shared->log[log].part[part].acked); i++)
                if (!atomic_load(&shared->queue[q].m[part][i].acking) &&
                    (q != QUEUE_WORK || dead[i] == 0))
                    kill_complain("queue %d: offset %d:%lld was lost", q, part, (long long)i);
    }
    if (kill_doubles > atomic_load(&shared->kills))
        kill_complain("%ld doubles in the dead-letter queue", kill_doubles);
}

static void kill_drain(void) {
    static struct kill_store s;
    if (!kill_open(&s, true))
        return;
    kill_drain_queue(&s, QUEUE_OVER);
    kill_drain_queue(&s, QUEUE_WORK);
    for (leat_queue_stats stats = { .moving = 1 }; stats.moving > 0;)
        if (!kill_is("stats", leat_queue_get_stats(s.q[QUEUE_WORK], &stats, sizeof stats), 0))
            return;
    while (kill_alive(s.dead) > 0)
        if (!kill_bury(&s))
            return;
    kill_check_settled();
    (void)kill_is("close", leat_close_all(s.mq, 0), 0);
}

// ---- the rounds

// Waits for ns at the most. Returns whether the child ended meanwhile.
static bool kill_wait(const sigset_t *child, int64_t ns) {
    struct timespec ts = { ns / 1000000000, ns % 1000000000 };
    int rc;
    do
        rc = sigtimedwait(child, NULL, &ts);
    while (rc < 0 && errno == EINTR);
    return rc >= 0;
}

// Half of the kills come at any time from the start on, recovery included, half when it works.
static void kill_round(const sigset_t *child, int round) {
    int ready[2];
    int64_t ns = round % 2 ? 1000000 + (int64_t)kill_random(19000000)
                           : 50000 + (int64_t)kill_random(10000000);
    uint64_t seed = kill_mix(kill_state++);
    if (!kill_is("pipe", pipe(ready), 0))
        return;
    pid_t pid = fork();
    if (pid == 0) {
        kill_state = seed;
        kill_child(ready[1]);
    }
    (void)close(ready[1]);
    struct pollfd p = { .fd = ready[0], .events = POLLIN };
    if (round % 2 == 0)
        (void)poll(&p, 1, 30000);
    if (kill_wait(child, ns))
        kill_complain("the child ended by itself");
    (void)close(ready[0]);
    if (pid > 0 && kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid)
        (void)kill_wait(child, 0);
}

static bool kill_prepare(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max; // every segment is open
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    void *p = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    shared = p;
    for (int i = 0; i < LOGS; i++)
        kill_forget_log(&shared->log[i]);
    const char *base = getenv("TMPDIR");
    if (access("/dev/shm", W_OK) == 0)
        base = "/dev/shm";
    (void)snprintf(kill_dir, sizeof kill_dir, "%s/leat-kill-XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(kill_dir) != NULL;
}

int main(int argc, char **argv) {
    const char *seed = getenv("LEAT_SEED"), *kills = getenv("LEAT_KILLS");
    kill_state = seed ? strtoull(seed, NULL, 0) : 20240607;
    int rounds = kills ? atoi(kills) : 600;
    if (argc > 1 && strcmp(argv[1], "pwrite") == 0)
        kill_write = LEAT_WRITE_PWRITE;
    printf("seed=%llu\n", (unsigned long long)kill_state);
    (void)fflush(stdout);
    sigset_t child;
    if (sigemptyset(&child) != 0 || sigaddset(&child, SIGCHLD) != 0 ||
        sigprocmask(SIG_BLOCK, &child, NULL) != 0 || !kill_prepare()) {
        perror("test_kill");
        return 1;
    }
    while (atomic_load(&shared->kills) < rounds && atomic_load(&shared->complaints) == 0) {
        kill_round(&child, (int)atomic_fetch_add(&shared->kills, 1));
        kill_check();
    }
    if (atomic_load(&shared->complaints) == 0)
        kill_drain();
    scratch_remove(kill_dir);
    int lost = atomic_load(&shared->complaints);
    printf("%skills=%ld sends=%ld asyncs=%ld batches=%ld syncs=%ld commits=%ld acks=%ld opens=%ld "
           "cuts=%ld "
           "under_way=%ld "
           "doubles=%ld lost=%d\n",
           shared->text, atomic_load(&shared->kills), atomic_load(&shared->sends),
           atomic_load(&shared->asyncs), atomic_load(&shared->batches), atomic_load(&shared->syncs),
           atomic_load(&shared->commits), atomic_load(&shared->acks), atomic_load(&shared->opens),
           atomic_load(&shared->cuts), atomic_load(&shared->halves), kill_doubles, lost);
    (void)munmap(shared, sizeof *shared);
    return lost == 0 ? 0 : 1;
}
