/* SPDX-License-Identifier: MIT */
// A process that works on a queue, with all that a queue can do, is ended by a timer's SIGKILL at a
// random moment, 600 times. It keeps the model of the queue (lib/queue_model.h) before and after
// the call that is under way in memory that it shares with its parent. The parent opens the store,
// at times after a second process that was killed as it did so, and looks at every message:
//  - each is where the model has it, before the call or after it: with its number of deliveries,
//    its delay, its place in the log; what was done, purged or too old is nowhere; what was dead is
//    kept, or has its copy, one for each message, and is in the queue no more;
//  - of a move that was under way there may be two copies; of a redrive also both sides; of a purge
//    all or nothing;
//  - the counts are the sums; no receipt of before is good.
// Every other two stores are where TMPDIR is: if on a disk, kills often come in a sync.
// What is found is the model of the next process, which is held to it at each step: the order, also
// of groups, which message comes and how often it was delivered, when a delay ends.
//
// test_queue_kill [SHARE/SHARES]. LEAT_SEED: where the choices begin; LEAT_KILLS: how many kills.
#include "lib/queue_kill.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLOWER = 4, KILLS = 60 };
#else
enum { SLOWER = 1, KILLS = 600 };
#endif

enum { LIFE = 20 }; // kills of one store

struct found {
    int64_t offset, id, due_ms; // due_ms: of one that is delayed
    int state, deliveries;
};

static struct look {
    struct qkill_store s;
    struct model was, will;           // before the call, and after it; the same if there was none
    struct model left, middle, right; // what an open makes of them, and of what is between
    bool under_way;
    enum qkill_op op;
    int recoveries; // opens that were killed
    struct found in[MODEL_ROOM], letter[MODEL_ROOM];
    int in_count, letters, gone; // gone: letters of before that are not there, the first ones
    int doubles;
    struct model mix; // what is there
} look;

static struct { long kills, opens, under_way, after, doubles, moved, back; } total;

// ---- what is there

static int write_text(const void *data, size_t size, void *ctx) {
    (void)snprintf(ctx, 64, "%.*s", (int)size, (const char *)data);
    return 0;
}

static int64_t due_of(int64_t offset) {
    char text[64] = "";
    long long ms = -1;
    if (qkill_is("explain", leat_queue_explain(look.s.q, 0, offset, write_text, text), 0) &&
        sscanf(text, "delayed: for %lld ms", &ms) != 1)
        qkill_complain("offset %lld is delayed, and %s", (long long)offset, text);
    return look.will.now_ms + ms;
}

static bool find_in(int peek, int state) {
    leat_message m[MODEL_ROOM + 1];
    int n = leat_queue_peek(look.s.q, peek, 0, m, MODEL_ROOM + 1);
    bool good = n >= 0 && look.in_count + n <= MODEL_ROOM;
    if (!good)
        qkill_complain("peek %d: %d", peek, n);
    for (int i = 0; i < n; i++) {
        if (good)
            look.in[look.in_count++] =
                (struct found){ .offset = m[i].offset,
                                .id = qkill_id(&m[i]),
                                .state = state,
                                .deliveries = m[i].deliveries,
                                .due_ms = state == MODEL_DELAYED ? due_of(m[i].offset) : 0 };
        (void)leat_message_release(look.s.mq, &m[i]);
    }
    return good;
}

static bool find_letters(void) {
    leat_message m[MODEL_ROOM + 1];
    int n = look.s.dead ? leat_queue_peek(look.s.dead, LEAT_AVAILABLE, 0, m, MODEL_ROOM + 1) : 0;
    bool good = n >= 0 && n <= MODEL_ROOM;
    if (!good)
        qkill_complain("peek at dead letters: %d", n);
    for (int i = 0; i < n; i++) {
        if (good)
            look.letter[look.letters++] =
                (struct found){ .offset = qkill_header(&m[i], "leat.offset"),
                                .id = qkill_id(&m[i]),
                                .deliveries = (int)qkill_header(&m[i], "leat.deliveries") };
        (void)leat_message_release(look.s.mq, &m[i]);
    }
    return good;
}

static bool find_all(void) {
    leat_queue_stats t;
    look.in_count = look.letters = 0;
    int counted[4] = { 0 };
    for (int i = 0; i < 2; i++) // what was moving arrives
        if (!qkill_is("stats", leat_queue_get_stats(look.s.q, &t, sizeof t), 0))
            return false;
    if (!find_in(LEAT_AVAILABLE, MODEL_AVAILABLE) || !find_in(LEAT_DELAYED, MODEL_DELAYED) ||
        !find_in(LEAT_LEASED, MODEL_LEASED) || !find_in(LEAT_IS_DEAD, MODEL_KEPT) ||
        !find_letters())
        return false;
    for (int i = 0; i < look.in_count; i++)
        counted[look.in[i].state - 1]++;
    if ((int)t.available != counted[0] || (int)t.delayed != counted[1] || t.leased != 0 ||
        counted[2] != 0 || t.moving != 0 || (int)t.kept != counted[3])
        qkill_complain("counted: %d available %d delayed %d leased %d moving %d kept, not %d %d %d "
                       "0 %d",
                       (int)t.available, (int)t.delayed, (int)t.leased, (int)t.moving, (int)t.kept,
                       counted[0], counted[1], counted[2], counted[3]);
    return true;
}

static const struct found *found_at(int64_t offset) {
    for (int i = 0; i < look.in_count; i++)
        if (look.in[i].offset == offset)
            return &look.in[i];
    return NULL;
}

// ---- what may be

static const struct model_message *model_at(const struct model *is, int64_t offset) {
    for (int i = 0; i < is->count; i++)
        if (is->m[i].offset == offset)
            return &is->m[i];
    return NULL;
}

static const struct model_message *dead_at(const struct model *is, int64_t offset) {
    for (int i = 0; i < is->dead_count; i++)
        if (is->dead[i].offset == offset)
            return &is->dead[i];
    return NULL;
}

// An open ends all leases, then looks at what is due.
static void restart(struct model *is, int64_t now_ms) {
    model_restart(is);
    model_advance(is, now_ms - is->now_ms);
}

// Whether a message may be what is found; then it is part of the mix. Those before it are there.
static bool fits(const struct model_message *x, const struct found *z) {
    struct model *mix = &look.mix;
    if (!x || mix->count == MODEL_ROOM)
        return false;
    struct model_message *put = &mix->m[mix->count++];
    *put = *x;
    put->turn = false; // by offset, after an open
    model_turns(mix);
    int state = model_waits(put) ? MODEL_AVAILABLE : (int)put->state;
    if (state == z->state && put->id == z->id && put->deliveries == z->deliveries &&
        (state != MODEL_DELAYED || put->due_ms == z->due_ms))
        return true;
    mix->count--;
    return false;
}

// The dead letters of before are there, in their order, but for those that the call took away.
static bool letters_stayed(int gone) {
    const struct model *was = &look.was;
    int stay = was->dead_count - gone;
    for (int i = 0; i < stay; i++)
        if (i >= look.letters || look.letter[i].offset != was->dead[gone + i].offset ||
            look.letter[i].id != was->dead[gone + i].id ||
            look.letter[i].deliveries != was->dead[gone + i].deliveries)
            return false;
    look.gone = gone;
    return true;
}

// A redrive takes a letter away when its message is safe, a purge all at once.
static void check_old_letters(void) {
    const struct model *was = &look.was;
    bool redrive = look.under_way && look.op == QKILL_REDRIVE;
    bool bury = look.under_way && look.op == QKILL_BURY;
    int n = redrive ? (int)(look.will.sent - was->sent) : bury ? was->dead_count : 0, gone = 0;
    while (gone <= n && !letters_stayed(gone))
        gone += bury ? (n > 0 ? n : 1) : 1;
    if (gone > n) {
        qkill_complain("of %d dead letters some are not there", was->dead_count);
        return;
    }
    for (int i = 0; redrive && gone > 0 && i < n; i++)
        if (!found_at((int64_t)was->sent + i))
            qkill_complain("dead letter %d is neither here nor there", i);
    total.back += gone;
}

// How many letters came of a message by the call, or since.
static int new_letters(int64_t offset) {
    int n = 0;
    for (int i = look.was.dead_count - look.gone; i < look.letters; i++)
        n += look.letter[i].offset == offset;
    return n;
}

// One that is not in the queue any more, or not yet.
static void check_absent(int64_t offset, const struct model_message *w) {
    const struct model_message *x = model_at(&look.left, offset),
                               *y = model_at(&look.right, offset);
    bool dead = w && (dead_at(&look.left, offset) || dead_at(&look.right, offset));
    bool gone = !w || (!x && !dead_at(&look.left, offset)) || (!y && !dead_at(&look.right, offset));
    int copies = new_letters(offset);
    int most = 1 + (look.under_way && dead_at(&look.will, offset)) + look.recoveries;
    if (copies == 0 && !gone)
        qkill_complain("offset %lld is lost", (long long)offset);
    if (copies > 0 && (!dead || copies > most))
        qkill_complain("offset %lld has %d copies%s", (long long)offset, copies,
                       dead ? "" : ", and did not die");
    look.doubles += copies > 1 ? copies - 1 : 0;
    total.moved += copies > 0;
}

static void check_present(const struct found *z) {
    const struct model_message *x = model_at(&look.left, z->offset);
    const struct model_message *y = model_at(&look.right, z->offset);
    bool before = fits(x, z);
    if (!before && !fits(model_at(&look.middle, z->offset), z) && !fits(y, z))
        qkill_complain("offset %lld (%lld) is in state %d, delivered %d times, due %lld; "
                       "state %d, %d, %lld before and %d, %d, %lld after",
                       (long long)z->offset, (long long)z->id, z->state, z->deliveries,
                       (long long)z->due_ms, x ? (int)x->state : 0, x ? x->deliveries : 0,
                       x ? (long long)x->due_ms : 0, y ? (int)y->state : 0, y ? y->deliveries : 0,
                       y ? (long long)y->due_ms : 0);
    total.after += !before;
    if (new_letters(z->offset) > 0)
        qkill_complain("offset %lld is dead, and in the queue", (long long)z->offset);
}

static int by_offset(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void check_messages(void) {
    static int64_t offset[4 * MODEL_ROOM];
    int n = 0;
    for (int i = 0; i < look.was.count; i++)
        offset[n++] = look.was.m[i].offset;
    for (int i = 0; i < look.will.count; i++)
        offset[n++] = look.will.m[i].offset;
    for (int i = 0; i < look.in_count; i++)
        offset[n++] = look.in[i].offset;
    for (int i = look.was.dead_count - look.gone; i < look.letters; i++)
        offset[n++] = look.letter[i].offset;
    qsort(offset, (size_t)n, sizeof offset[0], by_offset);
    for (int i = 0; i < n; i++) {
        const struct found *z = found_at(offset[i]);
        if (i > 0 && offset[i] == offset[i - 1])
            continue;
        if (z)
            check_present(z);
        else
            check_absent(offset[i], model_at(&look.was, offset[i]));
    }
    if (look.doubles > look.under_way + look.recoveries)
        qkill_complain("%d doubles", look.doubles);
}

// All of a queue is purged, or nothing.
static void check_purge(void) {
    int there = 0;
    for (int i = 0; i < look.left.count; i++)
        there += found_at(look.left.m[i].offset) != NULL;
    if (look.under_way && look.op == QKILL_PURGE && there != 0 && there != look.left.count)
        qkill_complain("%d of %d are purged", look.left.count - there, look.left.count);
}

static void check_receipts(void) {
    for (int i = 0; i < QKILL_OLD; i++)
        if (qkill->old[i] != 0 &&
            (leat_queue_extend_receipt(look.s.q, qkill->old[i], 0) != LEAT_ESTALE ||
             leat_queue_ack_receipt(look.s.q, qkill->old[i]) != LEAT_ESTALE))
            qkill_complain("a receipt of before the kill is good");
}

// The message that a letter is of. One that dies in the call that is under way may die in more ways
// than one: given back uncounted when it is too old it has one try less than by the end of its
// lease.
static const struct model_message *died_as(const struct found *letter) {
    const struct model *may[] = { &look.was, &look.left, &look.right };
    for (int i = 0; i < 3; i++) {
        const struct model_message *d = dead_at(may[i], letter->offset);
        if (d && d->id == letter->id && d->deliveries == letter->deliveries)
            return d;
    }
    return NULL;
}

// What is there is what the next process begins with.
static void take_over(void) {
    struct model *mix = &look.mix;
    leat_range r = { .end = -1 };
    (void)qkill_is("range", leat_topic_range(leat_queue_topic(look.s.q), 0, &r), 0);
    if (r.end < (int64_t)look.was.sent || r.end > (int64_t)look.will.sent)
        qkill_complain("the end is %lld; %lld to %lld were sent", (long long)r.end,
                       (long long)look.was.sent, (long long)look.will.sent);
    mix->sent = (uint64_t)r.end;
    for (int i = 0; i < look.letters; i++) {
        const struct model_message *d = died_as(&look.letter[i]);
        if (!d)
            qkill_complain("a copy of offset %lld, after %d tries: nobody let it die",
                           (long long)look.letter[i].offset, look.letter[i].deliveries);
        else
            mix->dead[mix->dead_count++] = *d;
    }
    mix->dead_known = mix->dead_count;
    qkill->model[0] = *mix;
    atomic_store(&qkill->stage, 0);
}

static void check(const struct qkill_set *set) {
    int stage = atomic_load(&qkill->stage);
    look.under_way = stage & 1;
    look.op = (enum qkill_op)qkill->op;
    look.was = qkill->model[stage >> 1];
    look.will = qkill->model[(stage >> 1) ^ (stage & 1)];
    look.left = look.was;
    look.middle = look.under_way ? qkill->middle : look.was;
    look.right = look.will;
    look.mix = look.will;
    look.mix.count = look.mix.dead_count = look.doubles = 0;
    restart(&look.left, look.will.now_ms);
    restart(&look.middle, look.will.now_ms);
    restart(&look.right, look.will.now_ms);
    if (!qkill_open(&look.s, set, look.will.now_ms, false))
        return;
    if (find_all()) {
        check_old_letters();
        check_messages();
        check_purge();
        check_receipts();
        take_over();
    }
    (void)qkill_is("close", leat_close_all(look.s.mq, 0), 0);
    total.under_way += look.under_way;
    total.doubles += look.doubles;
}

// ---- the processes

static int64_t fuse_ns;

static void light(void) {
    timer_t timer;
    struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
    struct itimerspec at = { .it_value = { .tv_nsec = (long)fuse_ns } };
    if (timer_create(CLOCK_MONOTONIC, &e, &timer) != 0 || timer_settime(timer, 0, &at, NULL) != 0) {
        qkill_complain("no timer");
        _exit(1);
    }
}

static void nothing(void) {}

static void ended(const char *who, pid_t pid) {
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) ||
        WTERMSIG(status) != SIGKILL)
        qkill_complain("the %s ended by itself, status %d", who, status);
    total.kills++;
}

// Every third one may die before it has opened the store.
static void kill_one(const struct qkill_set *set) {
    bool early = qkill_draw(3) == 0;
    uint64_t seed = qkill_draw(UINT32_MAX);
    fuse_ns = SLOWER * (30000 + (int64_t)qkill_draw(8000000));
    pid_t pid = fork();
    if (pid == 0) {
        qkill_chance = seed;
        if (early)
            light();
        qkill_work(set, early ? nothing : light);
    }
    ended("child", pid);
}

static void kill_opening(const struct qkill_set *set) {
    int64_t now_ms = qkill->model[0].now_ms;
    int stage = atomic_load(&qkill->stage);
    now_ms = qkill->model[(stage >> 1) ^ (stage & 1)].now_ms;
    fuse_ns = SLOWER * (20000 + (int64_t)qkill_draw(1200000));
    pid_t pid = fork();
    if (pid == 0) {
        struct qkill_store s;
        leat_queue_stats t;
        light();
        if (qkill_open(&s, set, now_ms, false) &&
            qkill_is("stats", leat_queue_get_stats(s.q, &t, sizeof t), 0))
            for (;;)
                (void)pause();
        _exit(1);
    }
    ended("opening child", pid);
    total.opens++;
}

// One store, from nothing to its end.
static void live(struct qkill_set *set, int number, long kills) {
    set->deliveries_max = number % 4 == 3 ? 0 : 1 + number % 4;
    set->dead_letter = number % 2 == 0 || number % 3 == 0;
    set->backoff = number & 2;
    set->groups = number % 5 != 0;
    set->priorities = number % 3 != 1;
    set->retention = number % 4 >= 2;
    set->expired = set->dead_letter && number % 8 >= 4;
    set->over = number % 3 == 1;
    set->write = number % 2 ? LEAT_WRITE_PWRITE : LEAT_WRITE_MAPPED;
    const char *base =
        number % 4 < 2 && access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR");
    (void)snprintf(set->dir, sizeof set->dir, "%s/leat-qkill-XXXXXX",
                   base && *base ? base : "/tmp");
    if (!mkdtemp(set->dir))
        qkill_complain("no directory");
    qkill_start(set);
    while (total.kills < kills && atomic_load(&qkill->complaints) == 0) {
        kill_one(set);
        look.recoveries = 0;
        for (; qkill_draw(4) == 0; look.recoveries++)
            kill_opening(set);
        if (atomic_load(&qkill->complaints) == 0)
            check(set);
    }
    if (atomic_load(&qkill->complaints) == 0)
        (void)qkill_drain(set);
    if (atomic_load(&qkill->complaints) > 0)
        printf("store %d, %ld kills, call %d %s:\n%s", number, total.kills, (int)look.op,
               look.under_way ? "under way" : "done", qkill->text);
    scratch_remove(set->dir);
}

int main(int argc, char **argv) {
    const char *seed = getenv("LEAT_SEED"), *kills = getenv("LEAT_KILLS");
    int share = 1, of = 1;
    if (argc > 1 && (sscanf(argv[1], "%d/%d", &share, &of) != 2 || of < 1))
        return 1;
    qkill_chance = seed ? strtoull(seed, NULL, 0) : 20261122;
    printf("seed=%llu share=%d/%d\n", (unsigned long long)qkill_chance, share, of);
    qkill_chance += (uint64_t)share * UINT64_C(0x9e3779b97f4a7c15);
    long all = (kills ? atol(kills) : KILLS) / of;
    struct qkill_set set = { 0 };
    void *p = mmap(NULL, sizeof *qkill, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return 1;
    qkill = p;
    (void)fflush(stdout);
    long stores = (all + LIFE - 1) / LIFE;
    for (long i = 0; i < stores && atomic_load(&qkill->complaints) == 0; i++)
        live(&set, (int)(i * of) + share - 1, (i + 1) * LIFE < all ? (i + 1) * LIFE : all);
    printf("kills=%ld opens=%ld under_way=%ld after=%ld moved=%ld back=%ld doubles=%ld calls",
           total.kills, total.opens, total.under_way, total.after, total.moved, total.back,
           total.doubles);
    for (int i = 0; i < QKILL_OPS; i++)
        printf("%c%ld", i ? ',' : '=', atomic_load(&qkill->calls[i]));
    int lost = atomic_load(&qkill->complaints);
    printf(" lost=%d\n", lost);
    (void)munmap(qkill, sizeof *qkill);
    return lost == 0 ? 0 : 1;
}
