/* SPDX-License-Identifier: MIT */
// Spares: the memory of segments that are gone serves the next ones, and is never in the way.
#include "lib/scratch.h"
#include "log/log.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEGMENT = 64 * 1024 };
static leat *mq;

static void open_store(int64_t memory_max_bytes) {
    ok(leat_open_memory(&(leat_options){ .seed = 1, .memory_max_bytes = memory_max_bytes }, &mq));
}

static struct lt_segment *create(uint64_t size) {
    struct lt_segment *s;
    ok(lt_segment_create(mq, size, size, &(struct lt_segment_head){ .uid = 1 }, LT_SEGMENT_PLAIN,
                         &s));
    return s;
}

static int64_t used(void) {
    return atomic_load(&mq->memory_bytes);
}

Test(spare, the_newest_memory_of_its_size_is_used_again) {
    open_store(0);
    struct lt_segment *a = create(SEGMENT), *b = create(2 * SEGMENT), *c = create(SEGMENT);
    uint8_t *first = a->map, *large = b->map, *last = c->map;
    int64_t before = used();
    lt_segment_drop(a);
    lt_segment_drop(b);
    lt_segment_drop(c);
    cr_assert_eq(used(), before, "what is kept counts as used");
    c = create(SEGMENT);
    b = create(2 * SEGMENT);
    a = create(SEGMENT);
    cr_assert_eq(c->map, last);
    cr_assert_eq(b->map, large);
    cr_assert_eq(a->map, first);
    cr_assert_eq(used(), before);
    struct lt_segment *d = create(SEGMENT); // none is left
    cr_assert_gt(used(), before);
    lt_segment_drop(a);
    lt_segment_drop(b);
    lt_segment_drop(c);
    lt_segment_drop(d);
    ok(leat_close(mq, 0));
}

Test(spare, a_few_are_kept_and_the_oldest_go_first) {
    enum { MADE = LT_SPARES + 3 };
    struct lt_segment *s[MADE];
    uint8_t *map[MADE];
    open_store(0);
    for (int i = 0; i < MADE; i++) {
        s[i] = create(SEGMENT);
        map[i] = s[i]->map;
    }
    int64_t each = used() / MADE;
    for (int i = 0; i < MADE; i++)
        lt_segment_drop(s[i]);
    cr_assert_eq(used(), LT_SPARES * each);
    for (int i = 0; i < LT_SPARES; i++) {
        s[i] = create(SEGMENT);
        cr_assert_eq(s[i]->map, map[MADE - 1 - i]);
    }
    for (int i = 0; i < LT_SPARES; i++)
        lt_segment_drop(s[i]);
    cr_assert(lt_spares_drop(mq));
    cr_assert(!lt_spares_drop(mq));
    cr_assert_eq(used(), 0);
    ok(leat_close(mq, 0));
}

// A topic leaves spares behind, another one takes all memory that there is: it gets theirs, too.
Test(spare, what_is_kept_never_makes_a_store_full) {
    enum { MAX = 2 * 1024 * 1024, SIZE = 1000 };
    static char value[SIZE];
    leat_topic *a, *b;
    leat_producer *p;
    leat_record r = { .value = { value, SIZE } };
    open_store(MAX);
    leat_topic_options cut = { .segment_bytes = SEGMENT, .retention_bytes = SEGMENT };
    ok(leat_topic_open(mq, "cut", &cut, &a));
    ok(leat_topic_open(mq, "all", &(leat_topic_options){ .segment_bytes = SEGMENT }, &b));
    ok(leat_producer_open(mq, NULL, &p));
    for (int i = 0; i < MAX / SIZE; i++) // as much as the store may have, one segment after another
        ok(leat_send(p, a, &r, NULL));
    leat_stats s;
    ok(leat_get_stats(mq, &s, sizeof s));
    cr_assert_gt(used(), (int64_t)s.bytes, "there is a spare");
    int rc = 0;
    while (rc == 0)
        rc = leat_send(p, b, &r, NULL);
    cr_assert_eq(rc, LEAT_EFULL);
    ok(leat_get_stats(mq, &s, sizeof s));
    cr_assert_eq(used(), (int64_t)s.bytes, "no spare is left");
    cr_assert_gt((int64_t)s.bytes, MAX - SEGMENT);
    ok(leat_close_all(mq, 0));
}

// What a memory had in it before does not show, nor what was read ahead of a record's end.
Test(spare, records_in_used_memory_are_as_they_were_sent) {
    enum { SENT = 4000 };
    leat_topic *t;
    leat_producer *p;
    leat_consumer *c;
    const leat_message *m;
    open_store(0);
    leat_topic_options o = { .segment_bytes = SEGMENT / 4, .retention_bytes = SEGMENT };
    ok(leat_topic_open(mq, "t", &o, &t));
    ok(leat_producer_open(mq, NULL, &p));
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t", .offset = LEAT_BEGIN }, 1));
    for (int i = 0; i < SENT; i++) {
        unsigned char value[256];
        size_t n = (size_t)(i * 7 % 251);
        memset(value, i % 256, sizeof value);
        ok(leat_send(p, t, &(leat_record){ .value = { value, n } }, NULL));
        cr_assert_eq(leat_poll(c, 0, &m), 1);
        cr_assert_eq(m->offset, i);
        cr_assert_eq(m->value.size, n);
        for (size_t k = 0; k < n; k++)
            cr_assert_eq(((const unsigned char *)m->value.data)[k], i % 256);
        cr_assert_eq(((const unsigned char *)m->value.data)[n], 0);
    }
    ok(leat_close_all(mq, 0));
}

// Many topics come and go, and others that hold one record each come between them: these do not
// inherit, and keep for ever, the memory of those.
Test(spare, a_topic_that_holds_little_takes_little) {
    enum { MAX = 6 * 1024 * 1024, LARGE = 1024 * 1024, SIZE = 10000, SMALL = 4 };
    static char value[SIZE];
    leat_topic *t;
    leat_producer *p;
    leat_record r = { .value = { value, SIZE } };
    leat_topic_options o = { .segment_bytes = LARGE };
    open_store(MAX);
    ok(leat_producer_open(mq, NULL, &p));
    ok(leat_topic_open(mq, "gone", &o, &t));
    for (int i = 0; i < SMALL * LARGE / SIZE; i++)
        ok(leat_send(p, t, &r, NULL));
    ok(leat_topic_delete(mq, "gone"));
    int64_t before = used();
    for (int i = 0; i < SMALL; i++) {
        char name[16] = { 's', (char)('0' + i) };
        ok(leat_topic_open(mq, name, &o, &t));
        ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("one") }, NULL));
    }
    cr_assert_leq(used(), before + SMALL * SEGMENT);
    ok(leat_topic_open(mq, "large", &o, &t));
    for (int i = 0; i < 5 * LARGE / SIZE; i++)
        ok(leat_send(p, t, &r, NULL));
    ok(leat_close_all(mq, 0));
}

static struct lt_os *real_os;
static leat_topic *topic;
static leat_producer *producer;
static int sent;

static int unmap_later(struct lt_os *os, void *map, size_t n) {
    static char value[SEGMENT];
    int rc = 0;
    (void)os;
    while (rc == 0) { // all that there is
        rc = leat_send(producer, topic, &(leat_record){ .value = { value, sizeof value } }, NULL);
        sent += rc == 0;
    }
    return real_os->unmap(real_os, map, n);
}

// Who gives spares back has done so for everybody else before the system call, which takes long.
Test(spare, what_is_being_given_back_is_not_missed) {
    enum { MAX = 1024 * 1024 };
    open_store(MAX);
    ok(leat_producer_open(mq, NULL, &producer));
    ok(leat_topic_open(mq, "t", NULL, &topic));
    struct lt_segment *s = create(MAX - SEGMENT);
    s->allocated += MAX - 2 * SEGMENT; // as if it were full
    atomic_fetch_add(&mq->memory_bytes, MAX - 2 * SEGMENT);
    lt_segment_drop(s);
    cr_assert_eq(used(), MAX - SEGMENT);
    real_os = mq->os;
    struct lt_os os = *real_os;
    os.unmap = unmap_later;
    sent = 0;
    mq->os = &os;
    cr_assert(lt_spares_drop(mq));
    mq->os = real_os;
    cr_assert_gt(sent, MAX / SEGMENT - 3);
    ok(leat_close_all(mq, 0));
}

static atomic_bool locked, forked;

static void *hold_lock(void *ctx) {
    (void)ctx;
    lt_lock(&mq->log->spares.lock);
    atomic_store(&locked, true);
    while (!atomic_load(&forked))
        (void)sched_yield();
    lt_unlock(&mq->log->spares.lock);
    return NULL;
}

// A thread of the parent is among the spares while it forks: the child has the lock, not the
// thread.
Test(spare, a_forked_child_waits_for_no_lock) {
    leat_topic *t;
    leat_producer *p;
    pthread_t thread;
    open_store(0);
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, NULL, &p));
    ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
    lt_segment_drop(create(SEGMENT));
    atomic_store(&locked, false);
    atomic_store(&forked, false);
    cr_assert_eq(pthread_create(&thread, NULL, hold_lock, NULL), 0);
    while (!atomic_load(&locked))
        (void)sched_yield();
    pid_t child = fork();
    if (child == 0) {
        (void)alarm(5); // ends it if it hangs
        _exit(leat_close_all(mq, 0) != 0);
    }
    atomic_store(&forked, true);
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ends with %d", status);
    ok(leat_close_all(mq, 0));
}
